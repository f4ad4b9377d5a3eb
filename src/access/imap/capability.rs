//! What the server can do, and what a client wants of it: CAPABILITY, ENABLE, ID, NAMESPACE.

use super::outcome::{Failed, Outcome, done};
use super::session::Session;
use crate::account::Accounts;
use crate::mailbox::public;
use crate::session::connection::Blocking;
use layout::limits::MESSAGE_MAX;
use std::io::Write as _;

/// What is there for everybody at any time.
const ALWAYS: &str = "IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ID ENABLE IDLE NAMESPACE UIDPLUS CHILDREN UNSELECT MOVE \
    MULTIAPPEND BINARY LIST-EXTENDED LIST-STATUS SPECIAL-USE CREATE-SPECIAL-USE STATUS=SIZE ESEARCH SEARCHRES ESORT \
    SORT SORT=DISPLAY THREAD=ORDEREDSUBJECT THREAD=REFERENCES WITHIN CONDSTORE QRESYNC QUOTA QUOTA=RES-STORAGE \
    QUOTA=RES-MESSAGE OBJECTID SAVEDATE UTF8=ACCEPT PREVIEW";

impl Session {
    /// What this server can do for this client now.
    pub(super) fn capabilities(&self) -> String {
        let login = match &self.account {
            Some(_) => "",
            None if !self.may_log_in() => " LOGINDISABLED",
            None if Accounts::knows_passwords(&self.config()) => " AUTH=PLAIN AUTH=LOGIN AUTH=CRAM-MD5",
            None => " AUTH=PLAIN AUTH=LOGIN",
        };
        let tls = if self.secure || self.account.is_some() { "" } else { " STARTTLS" };
        let compress = if self.account.is_some() && !self.compressed { " COMPRESS=DEFLATE" } else { "" };
        format!("{ALWAYS} APPENDLIMIT={MESSAGE_MAX}{compress}{tls}{login}")
    }

    /// CAPABILITY.
    pub(super) fn capability(&self, out: &mut Blocking<'_>) -> Outcome {
        write!(out, "* CAPABILITY {}\r\n", self.capabilities())?;
        done("CAPABILITY completed")
    }

    /// ENABLE (RFC 5161): what is not known is passed over.
    pub(super) fn enable(&mut self, out: &mut Blocking<'_>, names: &[String]) -> Outcome {
        let mut answer = b"* ENABLED".to_vec();
        let had_condstore = self.enabled.condstore;
        for name in names {
            let enabled = &mut self.enabled;
            match name.as_str() {
                "IMAP4REV2" => (enabled.rev2, enabled.utf8) = (true, true),
                "UTF8=ACCEPT" => enabled.utf8 = true,
                "CONDSTORE" => enabled.condstore = true,
                "QRESYNC" => (enabled.condstore, enabled.qresync) = (true, true),
                _ => continue,
            }
            answer.push(b' ');
            answer.extend_from_slice(name.as_bytes());
        }
        answer.extend_from_slice(b"\r\n");
        out.write_all(&answer)?;
        if self.enabled.condstore && !had_condstore {
            self.begin_condstore(out)?;
        }
        self.share_enabled();
        done("ENABLE completed")
    }

    /// From now on change numbers are told. A client that has a mailbox open learns where they stand (RFC 7162 §3.1).
    pub(super) fn begin_condstore(&mut self, out: &mut Blocking<'_>) -> Result<(), Failed> {
        self.enabled.condstore = true;
        if let Some(view) = self.view.as_ref().filter(|view| view.has_modseq() && !view.enabled.condstore) {
            write!(out, "* OK [HIGHESTMODSEQ {}] changes are numbered\r\n", view.modseq())?;
        }
        self.share_enabled();
        Ok(())
    }

    fn share_enabled(&mut self) {
        if let Some(view) = &mut self.view {
            view.enabled = self.enabled;
        }
    }

    /// NAMESPACE (RFC 2342): the shared one is there if the domain has a user `public`.
    pub(super) fn namespace(&self, out: &mut Blocking<'_>) -> Outcome {
        let shared = match self.public_dir() {
            Some(_) => format!("((\"{}\" \".\"))", public::PREFIX),
            None => "NIL".to_owned(),
        };
        write!(out, "* NAMESPACE ((\"\" \".\")) NIL {shared}\r\n")?;
        done("NAMESPACE completed")
    }
}
