//! Full mailboxes: a limit on the bytes and on the number of messages of all mailboxes of a user together (IMail 12 manual 2-1 (7), (8)).
//!
//! The size is that of what clients see: removed messages that are still in a file do not count. The user's own limit wins over the
//! domain's; 0 is none. A stranger's message is refused while the connection is open, since a bounce to a forged sender would hit somebody
//! else; what a user who logged in sends is always taken, and bounced.
//!
//! # Failure
//! A mailbox that cannot be read counts as empty: storing the message meets the same trouble and says so.
//!
//! # Limits
//! Messages that come in at the same moment do not see each other, and may together exceed a limit by their own size.

use super::bounce::Failure;
use super::notice::Case;
use super::route::MailboxTarget;
use super::{Inner, Recipient, Refusal, Refused};
use crate::config::Config;
use crate::mailbox::Hub;
use layout::disk::Disk;
use layout::logline::{Event, Tag};
use layout::mbx::compose::{Composed, NewMessage};
use layout::name::SpoolId;
use layout::root::UserDir;
use layout::spool::dsn::Dsn;
use std::io;
use std::time::Duration;

/// How long a mailbox that another program holds is waited for; after that what was known of it counts.
const PATIENCE: Duration = Duration::from_millis(100);

/// A user's limits; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of all mailboxes.
    pub bytes: u64,
    /// Most messages of all mailboxes.
    pub messages: u64,
}

/// What a user's mailboxes hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of all messages, as stored.
    pub bytes: u64,
    /// Number of messages.
    pub messages: u64,
}

impl Limits {
    /// The limits of the user whose mailbox this is.
    pub fn of(config: &Config, target: &MailboxTarget) -> Limits {
        Limits::of_user(config, &target.domain, &target.user)
    }

    /// The limits of a user.
    pub fn of_user(config: &Config, domain: &str, user: &str) -> Limits {
        let limits = config.registry.domain_by_name(domain).and_then(|domain| {
            let user = domain.user(user)?;
            Some(Limits { bytes: domain.max_size_of(user), messages: domain.max_msgs_of(user) })
        });
        limits.unwrap_or_default()
    }

    /// Is there room for `more` beside what is there?
    pub fn have_room(self, usage: Usage, more: Usage) -> bool {
        let fits = |limit: u64, sum: u64| limit == 0 || sum <= limit;
        fits(self.bytes, usage.bytes.saturating_add(more.bytes))
            && fits(self.messages, usage.messages.saturating_add(more.messages))
    }
}

/// Is there room in the user's mailboxes for one more message of this many bytes? Reads the mailboxes only if it has to: where the files
/// are short enough as they are, nobody needs to know what in them was removed.
pub fn has_room(disk: &dyn Disk, hub: &Hub, dir: &UserDir, limits: Limits, bytes: u64) -> bool {
    has_room_for(disk, hub, dir, limits, Usage { bytes, messages: 1 })
}

/// Is there room for so much more in the user's mailboxes? As [`has_room`].
pub fn has_room_for(disk: &dyn Disk, hub: &Hub, dir: &UserDir, limits: Limits, more: Usage) -> bool {
    if limits == Limits::default() {
        return true;
    }
    let Ok(all) = dir.mailboxes() else { return true };
    if limits.messages == 0 {
        let lengths = all.iter().filter_map(|found| Some(disk.stat(&found.file).ok()?.0.size));
        if limits.have_room(Usage { bytes: lengths.sum(), messages: 0 }, more) {
            return true;
        }
    }
    limits.have_room(usage(hub, dir), more)
}

/// What a user's mailboxes hold.
pub fn usage(hub: &Hub, dir: &UserDir) -> Usage {
    let mut usage = Usage::default();
    for found in dir.mailboxes().unwrap_or_default() {
        hub.open(dir, &found.name).with(|mailbox| {
            if mailbox.refresh(PATIENCE).is_ok() {
                usage.bytes += mailbox.live_bytes();
                usage.messages += mailbox.messages().count() as u64;
            }
        });
    }
    usage
}

impl Inner {
    /// Is there room for one more message of this many bytes?
    pub(super) fn has_room(&self, config: &Config, target: &MailboxTarget, bytes: u64) -> bool {
        has_room(config.root().disk(), &self.hub, &target.dir, Limits::of(config, target), bytes)
    }

    /// Did an earlier try store this message there already? Then it needs no room. A mailbox that cannot be looked at has no copy.
    pub(super) fn has_copy(&self, target: &MailboxTarget, id: SpoolId) -> bool {
        self.hub
            .open(&target.dir, &target.mailbox)
            .with(|mailbox| mailbox.refresh(PATIENCE).is_ok() && mailbox.has_stored(super::token(target, id)))
    }

    /// Is there room for this message, with the lines that are added to it?
    pub(super) fn has_room_for(&self, config: &Config, target: &MailboxTarget, message: &NewMessage) -> bool {
        if Limits::of(config, target) == Limits::default() {
            return true;
        }
        // One that cannot be read is for storing to fail with.
        let stored = Composed::new(message, 1).map_or(0, |composed| u64::from(composed.record.stored.get()));
        self.has_room(config, target, stored)
    }

    /// Refuses a recipient of a stranger's mail in whose mailboxes there is no room for so many bytes.
    pub(super) fn check_room(
        &self,
        config: &Config,
        recipient: &Recipient,
        bytes: u64,
    ) -> Result<(), Refusal> {
        let routed = &recipient.routed;
        let others = !routed.remote.is_empty()
            || !routed.waiting.is_empty()
            || !routed.lists.is_empty()
            || routed.discarded;
        // A message has at least one byte.
        let bytes = bytes.max(1);
        if others || routed.mailboxes.iter().any(|target| self.has_room(config, target, bytes)) {
            return Ok(());
        }
        Err(Refusal::MailboxFull(recipient.address.clone()))
    }

    /// Tells the sender who did not get the message, with a notice that is durable when this returns. If the sender is empty it is the
    /// postmaster who is told.
    pub(super) fn return_refused(
        &self,
        config: &Config,
        case: &Case<'_>,
        id: SpoolId,
        refused: &[Refused],
    ) -> io::Result<()> {
        let failures: Vec<(Failure, Dsn)> =
            refused.iter().map(|refused| (refused.failure.clone(), refused.dsn.clone())).collect();
        for (Failure { recipient, reason, .. }, _) in &failures {
            self.log(config, Tag::Smtp, id, None, &Event::Undeliverable { recipient, reason });
        }
        let to = match case.sender {
            "" => format!("postmaster@{}", case.host),
            sender => sender.to_owned(),
        };
        self.tell_failures(config, case, &to, &failures)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Server;
    use super::*;

    #[test]
    fn limits_and_usage() {
        let usage = Usage { bytes: 900, messages: 4 };
        for (bytes, messages, adding, room) in [
            (0, 0, u64::MAX, true),
            (1000, 0, 100, true),
            (1000, 0, 101, false),
            (0, 5, 1, true),
            (0, 4, 1, false),
            (1000, 4, 1, false),
            (900, 0, 1, false),
            (1, 1, 1, false),
        ] {
            assert_eq!(
                Limits { bytes, messages }.have_room(usage, Usage { bytes: adding, messages: 1 }),
                room,
                "{bytes} {messages} {adding}"
            );
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn full_mailboxes_refuse_and_bounce() {
        let server = Server::start();
        let (few, small, large) = ("few@mail.example.jp", "small@mail.example.jp", "large@mail.example.jp");
        let refused =
            |at: &str, who: &str| format!("{at} 552 5.2.2 User mailbox exceeds allowed size: <{who}>");
        for (login, to, size, expected) in [
            (false, vec![few], 10, "taken".to_owned()),
            (false, vec![few], 10, "taken".to_owned()),
            (false, vec![few], 10, refused("RCPT", few)),
            (false, vec![small], 2000, refused("DATA", small)),
            (false, vec!["both@mail.example.jp"], 2000, "taken".to_owned()),
            (false, vec![small, large], 2000, "taken".to_owned()),
            (true, vec![few, small], 2000, "taken".to_owned()),
            (false, vec![small], 100, "taken".to_owned()),
            (false, vec![large], 20_000, "taken".to_owned()),
        ] {
            assert_eq!(server.send("a@example.net", login, &to, size).await, expected, "{to:?} {size}");
        }
        assert_eq!(server.send("", false, &["both@mail.example.jp"], 2000).await, "taken");
        let mut spool = server.spool(crate::transport::bounce::MAILBOX_FULL);
        spool.sort();
        let bounce = |who: &[&str]| {
            let lines: Vec<String> =
                who.iter().map(|who| format!("User mailbox exceeds allowed size: {who}")).collect();
            format!("<> GSE a@example.net: {}", lines.join("|"))
        };
        let mut expected = vec![
            bounce(&["both@mail.example.jp"]),
            bounce(&[small]),
            bounce(&[few, small]),
            "<> GSE postmaster@mail.example.jp: User mailbox exceeds allowed size: both@mail.example.jp"
                .to_owned(),
        ];
        expected.sort();
        assert_eq!(spool, expected);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn removed_messages_make_room() {
        let server = Server::start();
        let to = ["small@mail.example.jp"];
        assert_eq!(server.send("a@b", false, &to, 300).await, "taken");
        assert!(server.send("a@b", false, &to, 300).await.starts_with("DATA 552"));
        let config = server.live.now();
        let target = crate::transport::route::route(&config, to[0], false).unwrap().mailboxes.remove(0);
        server.transport.inner.hub.open(&target.dir, &target.mailbox).with(|mailbox| {
            mailbox.refresh(PATIENCE).unwrap();
            let uid = mailbox.messages().next().unwrap().uid.get();
            mailbox.expunge(&[(uid, uid)], PATIENCE).unwrap();
        });
        assert_eq!(server.send("a@b", false, &to, 300).await, "taken");
    }
}
