//! What the sender is told after a try: of those who were given up, of those who wait, of those who have the message.

use super::attempt::Pass;
use super::settle::Verdict;
use crate::transport::bounce::{Action, Failure};
use crate::transport::notice::Case;
use layout::logline::{Event, Tag};
use layout::spool::dsn::Dsn;
use layout::spool::qfile::{Envelope, Recipient};
use std::io;
use std::time::Duration;

/// A message that waits for so long is worth a report to a sender who asked for one (ours; RFC 3461 leaves it open, and four hours are usual).
pub const DELAY_TOLD_AFTER: Duration = Duration::from_secs(4 * 3600);

/// Who was told of those who were given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// None was given up.
    NoNeed,
    /// The sender, or whoever stands in for him, as far as he wanted to hear of it.
    Sender,
    /// Nobody can be told.
    Nobody,
}

impl Pass<'_> {
    fn case(&self) -> Case<'_> {
        let Pass { id, host, sender, dsn, utf8, source, .. } = self;
        Case { id: *id, host, sender, dsn, utf8: *utf8, source }
    }

    /// Tells the sender of those who were given up, once; the postmaster, if there is no sender; then root.
    pub(super) fn bounce(&mut self, envelope: &Envelope) -> io::Result<Told> {
        let told = match self.results.told {
            Some(told) => told,
            None => self.tell_failures(envelope)?,
        };
        self.results.told = Some(told);
        Ok(told)
    }

    fn tell_failures(&self, envelope: &Envelope) -> io::Result<Told> {
        let recipients = envelope.recipients();
        let mut failures: Vec<(Failure, Dsn)> = Vec::new();
        for (address, verdict) in &self.results.verdicts {
            let dsn = recipients.iter().find(|one| one.address == *address).map(|one| one.dsn.clone());
            let dsn = dsn.unwrap_or_default();
            failures.extend(verdict.failures.iter().map(|failure| (failure.clone(), dsn.clone())));
        }
        if failures.is_empty() {
            return Ok(Told::NoNeed);
        }
        for (Failure { recipient, reason, .. }, _) in &failures {
            let event = Event::Undeliverable { recipient, reason };
            self.inner.log(self.config, Tag::Smtp, self.id, None, &event);
        }
        if !failures.iter().any(|(_, dsn)| dsn.tells_failure()) {
            return Ok(Told::Sender);
        }
        let failed = |one: &Recipient| {
            self.results.verdicts.get(&one.address).is_some_and(|verdict| !verdict.failures.is_empty())
        };
        let named = recipients.into_iter().filter(failed);
        let named: Vec<String> = named.flat_map(|one| [Some(one.address), one.original]).flatten().collect();
        let Some(reader) = reader(&self.sender, &self.host, &named) else {
            let text = "nobody can be told that this mail was not delivered: it stays in the spool";
            self.inner.log(self.config, Tag::Smtp, self.id, None, &Event::Note(text));
            return Ok(Told::Nobody);
        };
        self.inner.tell_failures(self.config, &self.case(), &reader, &failures)?;
        Ok(Told::Sender)
    }

    /// Tells the sender, if he asked, who has the message now: a mailbox here, a server that does not report itself, or
    /// the members of a group.
    pub(super) fn tell_success(&mut self, envelope: &Envelope) -> io::Result<()> {
        let recipients = envelope.recipients();
        for action in [Action::Delivered, Action::Relayed, Action::Expanded] {
            if self.results.told_of.contains(&action) {
                continue;
            }
            let mut all = Vec::new();
            for recipient in recipients.iter().filter(|recipient| recipient.dsn.tells_success()) {
                let Some(verdict) = self.results.verdicts.get(&recipient.address) else { continue };
                let arrived = verdict.arrived.iter().filter(|(_, how)| *how == action);
                all.extend(arrived.map(|(address, _)| (address.clone(), recipient.dsn.clone())));
            }
            // A program and a mailbox of one alias are one recipient to the sender.
            all.dedup();
            self.inner.tell_sender(self.config, &self.case(), action, &all)?;
            self.results.told_of.push(action);
            // A report must not be written again after a power cut.
            self.results.sent |= !all.is_empty();
        }
        Ok(())
    }

    /// Tells the sender, if he asked, for whom the message waits. Answers whether he was told, for the envelope.
    pub(super) fn tell_delay(&self, envelope: &Envelope) -> bool {
        if self.waited < DELAY_TOLD_AFTER || !self.results.tried {
            return false;
        }
        let late = envelope.recipients().into_iter().filter(|recipient| self.waits(recipient));
        let late: Vec<(String, Dsn)> = late.map(|one| (one.address, one.dsn)).collect();
        let told = self.inner.tell_sender(self.config, &self.case(), Action::Delayed, &late);
        // He is told at the next try.
        told.inspect_err(|error| self.note(&self.sender, &format!("not told of the delay: {error}"))).is_ok()
    }

    /// Does the message wait for this recipient, and does the sender want to know?
    pub(super) fn waits(&self, recipient: &Recipient) -> bool {
        let left = |verdict: &Verdict| !verdict.left.is_empty();
        recipient.dsn.tells_delay() && self.results.verdicts.get(&recipient.address).is_some_and(left)
    }
}

/// Who gets the bounce: the sender; for a bounce itself the postmaster, then root (IMail manual: a postmaster's mail that fails stays).
fn reader(sender: &str, host: &str, failed: &[String]) -> Option<String> {
    if !sender.is_empty() {
        return Some(sender.to_owned());
    }
    let is_of = |user: &str| {
        let prefix =
            |address: &String| address.split('@').next().is_some_and(|l| l.eq_ignore_ascii_case(user));
        failed.iter().any(prefix)
    };
    let next = ["postmaster", "root"].into_iter().rev().take_while(|user| !is_of(user)).last();
    next.map(|user| format!("{user}@{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_told() {
        let failed =
            |addresses: &[&str]| -> Vec<String> { addresses.iter().map(|a| (*a).to_owned()).collect() };
        for (sender, addresses, expected) in [
            ("a@x", &["b@y"] as &[&str], Some("a@x")),
            ("", &["b@y"], Some("postmaster@h")),
            ("", &["Postmaster@h"], Some("root@h")),
            ("", &["admin@z", "postmaster@h"], Some("root@h")),
            ("", &["root@h"], None),
        ] {
            assert_eq!(reader(sender, "h", &failed(addresses)).as_deref(), expected, "{addresses:?}");
        }
    }
}
