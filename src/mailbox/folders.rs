//! A user's mailboxes as a tree of names: listing, making, removing, renaming, subscribing.
//!
//! `INBOX` is always there, whether its file exists or not. A name such as `A` in `A.B` may exist only as a level of others.
//!
//! Subscriptions are in `imap.sub`: UTF-8, one name a line, in Unicode. Without the file every mailbox is subscribed, as in IMail, which has no
//! such file.
//!
//! # Failure
//! [`FolderError`]. Renaming a mailbox with others below it stops at the first failure or crash; those before it have their new names then, and
//! the same RENAME once more goes on with the others, since the one that it names comes last.
//!
//! # Limits
//! [`layout::root::MAILBOXES_MAX`] mailboxes, [`SUBSCRIPTIONS_MAX`] bytes of subscriptions.

use super::{Hub, special_use};
use layout::disk::{Open, replace};
use layout::lock::{self, LockError, PATIENCE};
use layout::mailbox::MailboxError;
use layout::name::MailboxName;
use layout::root::UserDir;
use std::collections::BTreeSet;
use std::io;

/// The largest file of subscriptions, in bytes: more than the most mailboxes with the longest names need.
pub const SUBSCRIPTIONS_MAX: u64 = 4 << 20;

/// Why nothing became of a change to the tree.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There is a mailbox of this name.
    #[error("there is a mailbox of this name already")]
    Exists,
    /// There is none.
    #[error("there is no such mailbox")]
    Missing,
    /// It cannot be done to this mailbox.
    #[error("{0}")]
    Refused(&'static str),
    /// The mailbox or the disk failed.
    #[error(transparent)]
    Mailbox(#[from] MailboxError),
}

impl From<io::Error> for FolderError {
    fn from(error: io::Error) -> FolderError {
        FolderError::Mailbox(error.into())
    }
}

impl From<LockError> for FolderError {
    fn from(error: LockError) -> FolderError {
        FolderError::Mailbox(error.into())
    }
}

/// The mailboxes of one user.
pub struct Folders<'a> {
    hub: &'a Hub,
    user: &'a UserDir,
}

impl<'a> Folders<'a> {
    /// The mailboxes of `user`.
    pub fn new(hub: &'a Hub, user: &'a UserDir) -> Folders<'a> {
        Folders { hub, user }
    }

    /// Can this mailbox be opened?
    pub fn exists(&self, name: &MailboxName) -> bool {
        name.is_inbox() || self.hub.disk.stat(&self.user.mailbox(name)).is_ok()
    }

    /// All mailboxes, the INBOX always, in the order of their names.
    pub fn list(&self) -> io::Result<Vec<MailboxName>> {
        let mut names: Vec<MailboxName> =
            self.user.mailboxes()?.into_iter().map(|found| found.name).collect();
        if !names.iter().any(MailboxName::is_inbox) {
            names.push(MailboxName::inbox());
            names.sort();
        }
        Ok(names)
    }

    /// Makes a mailbox.
    pub fn create(&self, name: &MailboxName) -> Result<(), FolderError> {
        if self.exists(name) {
            return Err(FolderError::Exists);
        }
        self.user.make()?;
        let made = self.hub.open(self.user, name).with(|mailbox| mailbox.create(PATIENCE));
        match made {
            Err(MailboxError::Io(error)) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(FolderError::Exists)
            }
            other => Ok(other?),
        }
    }

    /// Removes a mailbox with all its messages; mailboxes below it stay.
    pub fn delete(&self, name: &MailboxName) -> Result<(), FolderError> {
        if name.is_inbox() {
            return Err(FolderError::Refused("the INBOX cannot be deleted"));
        }
        if !self.exists(name) {
            let below = self.list()?.iter().any(|other| is_below(other, name));
            return Err(match below {
                true => FolderError::Refused("this is only a level of other mailboxes; delete those"),
                false => FolderError::Missing,
            });
        }
        let open = self.hub.open(self.user, name);
        let removed = open.with(|mailbox| mailbox.remove(PATIENCE));
        self.hub.forget(open.file());
        missing_is_missing(removed)
    }

    /// Renames a mailbox and those below it, with what they are for. Not for the INBOX, which stays where it is.
    pub fn rename(&self, from: &MailboxName, to: &MailboxName) -> Result<(), FolderError> {
        if from.is_inbox() {
            return Err(FolderError::Refused("the INBOX keeps its name"));
        }
        let all = self.list()?;
        let moved: Vec<&MailboxName> =
            all.iter().filter(|name| *name == from || is_below(name, from)).collect();
        if moved.is_empty() {
            return Err(FolderError::Missing);
        }
        let mut plan = Vec::new();
        for name in moved {
            let target =
                moved_name(name, from, to).ok_or(FolderError::Refused("the new name is too long"))?;
            if self.exists(&target) {
                return Err(FolderError::Exists);
            }
            plan.push((name, target));
        }
        if all.contains(to) {
            return Err(FolderError::Exists);
        }
        // What the mailboxes are for goes first: it is found by the new names even if a crash comes before the mailboxes have them all.
        special_use::follow(self.hub, self.user, |name| {
            Some(special_use::renamed(name, from, to).unwrap_or_else(|| name.clone()))
        })?;
        for (name, target) in plan.into_iter().rev() {
            let (open, file) = (self.hub.open(self.user, name), self.user.mailbox(&target));
            let renamed = open.with(|mailbox| mailbox.rename(&file, PATIENCE));
            self.hub.forget(open.file());
            self.hub.forget(&file);
            missing_is_missing(renamed)?;
        }
        Ok(())
    }

    /// The subscribed names; `None` if all are.
    pub fn subscriptions(&self) -> io::Result<Option<BTreeSet<MailboxName>>> {
        let text = match self.hub.disk.read(&self.user.file("imap.sub"), SUBSCRIPTIONS_MAX) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let text = String::from_utf8_lossy(&text);
        // A line that is no name, most likely after an edit by hand, costs only itself.
        Ok(Some(text.lines().filter_map(|line| MailboxName::from_text(line.trim_end()).ok()).collect()))
    }

    /// Adds a name to the subscribed ones or takes it away. The mailbox need not exist (RFC 3501 §6.3.6).
    pub fn subscribe(&self, name: &MailboxName, on: bool) -> Result<(), FolderError> {
        self.user.make()?;
        let _held = lock::acquire(&*self.hub.disk, &self.user.file("user.lck"), Open::Create, PATIENCE)?;
        let known = self.subscriptions()?;
        let mut names = match &known {
            Some(names) => names.clone(),
            None => self.list()?.into_iter().collect(),
        };
        let changed = if on { names.insert(name.clone()) } else { names.remove(name) };
        if !changed {
            return Ok(());
        }
        let text: String = names.iter().map(|name| name.text() + "\n").collect();
        if text.len() as u64 > SUBSCRIPTIONS_MAX {
            return Err(FolderError::Refused("there are too many subscriptions"));
        }
        Ok(replace(&*self.hub.disk, &self.user.file("imap.sub"), text.as_bytes())?)
    }
}

fn missing_is_missing(outcome: Result<(), MailboxError>) -> Result<(), FolderError> {
    match outcome {
        Err(MailboxError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Err(FolderError::Missing),
        Err(MailboxError::Io(error)) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(FolderError::Exists)
        }
        other => Ok(other?),
    }
}

/// Is `name` in the tree below `above`? `A.B` is below `A`.
pub fn is_below(name: &MailboxName, above: &MailboxName) -> bool {
    name.key().strip_prefix(above.key()).is_some_and(|rest| rest.starts_with('.'))
}

/// The name of `name` after `from` became `to`.
pub(super) fn moved_name(name: &MailboxName, from: &MailboxName, to: &MailboxName) -> Option<MailboxName> {
    let kept = from.text().split('.').count();
    let text = name.text();
    let below = text.split('.').skip(kept);
    let parts: Vec<String> = std::iter::once(to.text()).chain(below.map(str::to_owned)).collect();
    MailboxName::from_text(&parts.join(".")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::special_use::SpecialUse;
    use layout::disk::sim::{Crash, Failure, SimDisk};
    use layout::name::UserId;
    use layout::root::Root;
    use std::path::Path;
    use std::sync::Arc;

    fn name(text: &str) -> MailboxName {
        MailboxName::from_text(text).unwrap()
    }

    fn user(disk: &SimDisk) -> (Arc<Hub>, UserDir) {
        let root = Root::new(Arc::new(disk.clone()), Path::new("/mail"));
        let user = root.domain(root.top().clone()).user(&UserId::parse("mike").unwrap());
        (Hub::new(root.shared_disk()), user)
    }

    #[test]
    fn a_rename_of_several_mailboxes_can_be_done_again_after_a_crash() {
        let before = SimDisk::new();
        let (hub, dir) = user(&before);
        let told = ["A", "A.B", "A.B.C", "Ab"].map(|text| {
            Folders::new(&hub, &dir).create(&name(text)).unwrap();
            (text, hub.open(&dir, &name(text)).with(|mailbox| mailbox.uidvalidity()))
        });
        special_use::choose(&hub, &dir, &name("A.B"), &[SpecialUse::Archive]).unwrap();
        for n in 1.. {
            let disk = before.after(Crash::Kill);
            let (hub, dir) = user(&disk);
            let folders = Folders::new(&hub, &dir);
            disk.fail_at(n, Failure::Crash);
            let done = folders.rename(&name("A"), &name("X")).is_ok();
            for crash in [Crash::Kill, Crash::PowerStrict, Crash::PowerMixed(n), Crash::PowerMixed(n + 1000)]
            {
                let what = format!("step {n}, {crash:?}");
                let disk = disk.after(crash);
                let (hub, dir) = user(&disk);
                let folders = Folders::new(&hub, &dir);
                match folders.rename(&name("A"), &name("X")) {
                    Ok(()) => assert!(!done || matches!(crash, Crash::PowerMixed(_)), "{what}"),
                    Err(FolderError::Missing) => {}
                    Err(error) => panic!("{what}: {error}"),
                }
                let names: Vec<String> = folders.list().unwrap().iter().map(MailboxName::text).collect();
                assert_eq!(names, ["Ab", "INBOX", "X", "X.B", "X.B.C"], "{what}");
                for (before, uidvalidity) in &told {
                    let now = if *before == "Ab" { "Ab".to_owned() } else { before.replacen('A', "X", 1) };
                    let found = hub.open(&dir, &name(&now)).with(|mailbox| {
                        mailbox.refresh(PATIENCE).unwrap();
                        mailbox.uidvalidity()
                    });
                    assert_eq!(found, *uidvalidity, "{what}: {now}");
                }
                let uses = special_use::uses(&hub, &dir, &folders.list().unwrap()).unwrap();
                assert_eq!(uses.get(&SpecialUse::Archive), Some(&name("X.B")), "{what}");
            }
            if done {
                assert!(n > 30, "a rename of three has more steps than {n}");
                break;
            }
        }
    }
}
