//! How much a user may store, and does: GETQUOTA, GETQUOTAROOT (RFC 9208).
//!
//! One quota root with an empty name is over all mailboxes of a user: the limits are on all of them together (IMail 12 manual 2-1 (7), (8)).

use super::command::WireMailbox;
use super::outcome::{Failed, Outcome, done};
use super::session::Session;
use crate::session::connection::Blocking;
use crate::transport::quota::{Limits, Usage, has_room_for, usage};
use std::io::Write as _;

/// The unit of STORAGE, in bytes (RFC 9208 §5.1).
const KIB: u64 = 1024;

impl Session {
    /// GETQUOTA.
    pub(super) fn get_quota(&self, out: &mut Blocking<'_>, root: &[u8]) -> Outcome {
        match root {
            b"" => self.write_quota(out)?,
            _ => return Err(Failed::No("NONEXISTENT", "there is no such quota root".to_owned())),
        }
        done("GETQUOTA completed")
    }

    /// GETQUOTAROOT: public mailboxes are not the client's to fill.
    pub(super) fn get_quota_root(&self, out: &mut Blocking<'_>, mailbox: &WireMailbox) -> Outcome {
        let place = self.place(mailbox)?;
        let mut answer = b"* QUOTAROOT ".to_vec();
        self.write_name(&mut answer, place.prefix(), &place.name);
        answer.extend_from_slice(if place.foreign { b"\r\n" } else { b" \"\"\r\n" });
        out.write_all(&answer)?;
        if !place.foreign {
            self.write_quota(out)?;
        }
        done("GETQUOTAROOT completed")
    }

    fn limits(&self) -> Result<Limits, Failed> {
        let user = self.user()?;
        Ok(Limits::of_user(&self.config(), &user.domain, user.id.as_str()))
    }

    fn write_quota(&self, out: &mut Blocking<'_>) -> Result<(), Failed> {
        let limits = self.limits()?;
        let used = match limits == Limits::default() {
            true => Usage::default(),
            false => usage(&self.server.hub, &self.user()?.dir),
        };
        let mut resources = Vec::new();
        if limits.bytes > 0 {
            resources.push(format!("STORAGE {} {}", used.bytes.div_ceil(KIB), limits.bytes / KIB));
        }
        if limits.messages > 0 {
            resources.push(format!("MESSAGE {} {}", used.messages, limits.messages));
        }
        Ok(write!(out, "* QUOTA \"\" ({})\r\n", resources.join(" "))?)
    }

    /// Refuses what has no room: so many messages of so many bytes together.
    pub(super) fn check_quota(&self, messages: u64, bytes: u64) -> Result<(), Failed> {
        let (config, user) = (self.config(), self.user()?);
        match has_room_for(
            config.root().disk(),
            &self.server.hub,
            &user.dir,
            self.limits()?,
            Usage { bytes, messages },
        ) {
            true => Ok(()),
            false => Err(Failed::No(
                "OVERQUOTA",
                "there is no room left for this; delete some mail first".to_owned(),
            )),
        }
    }
}
