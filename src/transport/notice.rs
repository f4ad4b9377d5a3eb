//! Telling the sender of a message what became of it, by a message of our own in the spool.
//!
//! A failure is told in IMail's text, or as the admin set `BounceFormat`; whoever asked for reports with the parameters of RFC 3461 gets one of
//! RFC 3464, and hears nothing of what he did not ask for.
//!
//! # Failure
//! Of the disk: then nobody was told.

use super::bounce::{self, About, Action, Entry, Failure};
use super::{Inner, Waiting, windows_path};
use crate::config::Config;
use chrono::Local;
use layout::logline::{Event, Tag};
use layout::mbx::compose::Source;
use layout::name::SpoolId;
use layout::registry::model::BounceFormat;
use layout::spool::dsn::{Dsn, MessageDsn};
use layout::spool::id::{ItemName, Origin as Kind, Role};
use layout::spool::qfile::{Envelope, Fields};
use layout::spool::store::Body;
use std::io;

/// The message that is spoken of.
#[derive(Clone, Copy)]
pub(super) struct Case<'a> {
    /// Its id, for the log.
    pub(super) id: SpoolId,
    /// The official name of the domain that it belongs to.
    pub(super) host: &'a str,
    /// Its envelope sender.
    pub(super) sender: &'a str,
    /// What its sender said of reports.
    pub(super) dsn: &'a MessageDsn,
    /// Did the client say SMTPUTF8?
    pub(super) utf8: bool,
    /// Header and body.
    pub(super) source: &'a Source,
}

impl Inner {
    /// Tells `to`, who is the sender or stands in for an empty one, of failures; durable when this returns.
    pub(super) fn tell_failures(
        &self,
        config: &Config,
        case: &Case<'_>,
        to: &str,
        failures: &[(Failure, Dsn)],
    ) -> io::Result<()> {
        let wanted = failures.iter().filter(|(_, dsn)| dsn.tells_failure());
        let of_message = *case.dsn != MessageDsn::default();
        let all_reports = config.registry.services.smtp.bounce_format == BounceFormat::Report;
        let is_report =
            |dsn: &Dsn| all_reports || (!case.sender.is_empty() && (of_message || dsn.is_asked()));
        let (reports, plain): (Vec<_>, Vec<_>) = wanted.partition(|(_, dsn)| is_report(dsn));
        if !plain.is_empty() {
            let plain: Vec<Failure> = plain.into_iter().map(|(failure, _)| failure.clone()).collect();
            self.write_notice(config, case, to, |about| bounce::build(about, &plain))?;
        }
        let entries: Vec<Entry> =
            reports.into_iter().map(|(failure, dsn)| Entry::failed(failure.clone(), dsn)).collect();
        self.tell(config, case, to, &entries)
    }

    /// Tells the sender of recipients to whom the same happened, if there are any and he can be told.
    pub(super) fn tell_sender(
        &self,
        config: &Config,
        case: &Case<'_>,
        action: Action,
        recipients: &[(String, Dsn)],
    ) -> io::Result<()> {
        if case.sender.is_empty() {
            return Ok(());
        }
        let entry = |(address, dsn): &(String, Dsn)| Entry::new(action, address, dsn);
        self.tell(config, case, case.sender, &recipients.iter().map(entry).collect::<Vec<_>>())
    }

    fn tell(&self, config: &Config, case: &Case<'_>, to: &str, entries: &[Entry]) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        self.write_notice(config, case, to, |about| bounce::report(about, entries))
    }

    fn write_notice(
        &self,
        config: &Config,
        case: &Case<'_>,
        to: &str,
        write: impl FnOnce(&About<'_>) -> io::Result<Vec<u8>>,
    ) -> io::Result<()> {
        let Case { host, dsn, utf8, source: original, .. } = *case;
        let id = self.ids.own()?;
        let mail =
            write(&About { host, to, original, dsn, utf8, now: Local::now(), number: id.connection() })?;
        let name = ItemName::new(id, Kind::Bounce);
        let fields = Fields {
            data: windows_path(config, &name.file(Role::Data)),
            host: host.to_owned(),
            utf8,
            recipients: vec![Waiting::new(to)],
            ..Fields::default()
        };
        let body = Body::Copy(Source::Bytes(mail.into()));
        self.commit(self.store.prepare(&name, body, &Envelope::new(&fields))?)?;
        self.log(config, Tag::Smtp, case.id, None, &Event::Bounced { id, to });
        Ok(())
    }
}
