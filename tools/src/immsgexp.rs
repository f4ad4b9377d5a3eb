//! `immsgexp`: removes old messages from users' mailboxes.
//!
//! IMail's program of this name "deletes old messages from user directories"; its letters are not documented, so all switches here are ours
//! and long. Messages are removed as a mail client removes them, so a running server and open sessions see it at once. A
//! message is as old as the date of its arrival.
//!
//! Failure: a mailbox that cannot be changed is reported, and the next one goes on.

use std::process::ExitCode;

use layout::lock::PATIENCE;
use layout::mailbox::{Mailbox, MailboxError, Refreshed};
use layout::mbx::record::{Record, flag};
use layout::name::{MailboxName, UserId};
use layout::registry::model::{Domain, Registry};
use layout::registry::places::domain_dir;
use layout::registry::same_name;
use layout::root::{FoundMailbox, Root, UserDir};

use crate::program::registry::{domain_of, snapshot};
use crate::program::switches::{Given, Operands, Table, Takes, UsageError};
use crate::program::{Failure, Outcome, Program, complain, open_root, say};

const USAGE: &str = "\
Usage: immsgexp --days DAYS --mailbox NAME... [--domain DOMAIN] [--user ID]... [--keep-flagged] [--dry-run]
       immsgexp --days DAYS --all-mailboxes [--domain DOMAIN] [--user ID]... [--keep-flagged] [--dry-run]

Removes messages that arrived more than DAYS days ago, for good. It can run while the server does.

  --days DAYS      how old messages must be
  --mailbox NAME   in this mailbox, such as INBOX or Trash; may be given several times
  --all-mailboxes  in all mailboxes
  --domain DOMAIN  only users of this domain; without it those of all domains
  --user ID        only this user; may be given several times
  --keep-flagged   leave messages with a flag (a star) alone
  --dry-run        say what would be removed, and remove nothing
  --root DIR       the IMail directory; without it the environment variable IMAIL_ROOT counts, then the current
                   directory if it holds registry.ini
  --help           this text
  --version        the version

Exit code: 0 everything was done, 1 something could not be done, 2 wrong usage.";

const PROGRAM: Program = Program {
    name: "immsgexp",
    about: "Removes old messages from mailboxes",
    usage: USAGE,
    table: Table {
        switches: &[
            ("--days", Takes::Value("a number of days")),
            ("--mailbox", Takes::Values("the name of a mailbox")),
            ("--all-mailboxes", Takes::Nothing),
            ("--domain", Takes::Value("a domain name")),
            ("--user", Takes::Values("a user ID")),
            ("--keep-flagged", Takes::Nothing),
            ("--dry-run", Takes::Nothing),
        ],
        operands: Operands::None,
    },
};

/// Runs the program.
pub fn main() -> ExitCode {
    PROGRAM.main(run)
}

fn run(given: &Given) -> Result<Outcome, Failure> {
    let days = given.number("--days")?.ok_or_else(|| UsageError("--days is missing".into()))?;
    if given.has("--mailbox") == given.has("--all-mailboxes") {
        return Err(UsageError("either --mailbox NAME or --all-mailboxes says which mailboxes".into()).into());
    }
    let names: Result<Vec<MailboxName>, _> = given.values("--mailbox").map(MailboxName::from_text).collect();
    let names = names.map_err(|error| UsageError(format!("--mailbox: {error}")))?;
    let root = open_root(given.root.as_deref())?;
    let registry = snapshot(&root).map_err(Failure::of)?.registry;
    let cutoff = root.disk().now() / 1_000_000_000 - i64::from(days) * 24 * 3600;
    let mut expiry = Expiry {
        root,
        cutoff,
        names,
        keep_flagged: given.has("--keep-flagged"),
        dry: given.has("--dry-run"),
        removed: 0,
        faults: false,
    };
    for (domain, id) in users(given, &registry)? {
        expiry.user(&registry, domain, id);
    }
    let deed = if expiry.dry { "would be removed" } else { "removed" };
    say(&format!("{} messages {deed}", expiry.removed));
    Ok(Outcome::of(expiry.faults))
}

/// The users whose mailboxes are looked at.
fn users<'a>(given: &Given, registry: &'a Registry) -> Result<Vec<(&'a Domain, &'a str)>, Failure> {
    let domains: Vec<&Domain> = match given.value("--domain") {
        Some(name) => vec![domain_of(registry, Some(name)).map_err(Failure::of)?],
        None => registry.domains.iter().collect(),
    };
    let wanted: Vec<&str> = given.values("--user").collect();
    let is_wanted = |id: &str| wanted.is_empty() || wanted.iter().any(|name| same_name(name, id));
    let all = domains.iter().flat_map(|domain| domain.users.values().map(|user| (*domain, user.id.as_str())));
    let all: Vec<_> = all.filter(|(_, id)| is_wanted(id)).collect();
    match wanted.iter().find(|name| !all.iter().any(|(_, id)| same_name(id, name))) {
        Some(name) => Err(Failure::Failed(format!("there is no user {name}"))),
        None => Ok(all),
    }
}

struct Expiry {
    root: Root,
    /// Messages before this moment go, Unix seconds.
    cutoff: i64,
    /// The mailboxes; none = all.
    names: Vec<MailboxName>,
    keep_flagged: bool,
    dry: bool,
    removed: usize,
    faults: bool,
}

impl Expiry {
    fn user(&mut self, registry: &Registry, domain: &Domain, id: &str) {
        let map = registry.path_map(&self.root);
        // A user whose directory leads nowhere has no mail here.
        let (Some(dir), Ok(user)) = (domain_dir(&self.root, &map, domain), UserId::parse(id)) else { return };
        let dir = dir.user(&user);
        let address = format!("{id}@{}", domain.name);
        let mut found = match dir.mailboxes() {
            Ok(found) => found,
            Err(error) => return self.fault(&address, &error),
        };
        found.retain(|mailbox| self.names.is_empty() || self.names.contains(&mailbox.name));
        for mailbox in &found {
            match self.mailbox(&dir, mailbox) {
                Ok(0) => {}
                Ok(count) => {
                    self.removed += count;
                    say(&format!("{address} {}: {count} messages", mailbox.name));
                }
                Err(error) => self.fault(&format!("{address} {}", mailbox.name), &error),
            }
        }
    }

    fn mailbox(&self, dir: &UserDir, found: &FoundMailbox) -> Result<usize, MailboxError> {
        let mut mailbox = Mailbox::new(self.root.shared_disk(), found.file.clone(), dir.file("user.lck"));
        if mailbox.refresh(PATIENCE)? == Refreshed::Busy {
            return Err(MailboxError::Locked(found.file.to_string()));
        }
        let old = |record: &&Record| {
            i64::from(record.date.get()) < self.cutoff && !(self.keep_flagged && record.has(flag::FLAGGED))
        };
        let uids: Vec<(u32, u32)> =
            mailbox.messages().filter(old).map(|record| (record.uid.get(), record.uid.get())).collect();
        if !self.dry && !uids.is_empty() {
            mailbox.expunge(&uids, PATIENCE)?;
        }
        Ok(uids.len())
    }

    fn fault(&mut self, place: &str, error: &dyn std::fmt::Display) {
        self.faults = true;
        complain(&format!("immsgexp: {place}: {error}"));
    }
}
