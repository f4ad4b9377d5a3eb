//! Making, removing and renaming whole mailboxes.
//!
//! The file's lock is held throughout, so no message is stored in between: whoever waited for it finds that the name leads elsewhere and
//! begins anew. A mailbox that has removed bytes in its file takes them along; its index says which they are.
//!
//! # Failure
//! [`MailboxError`]. A removal takes the mailbox file first: a crash leaves sidecars without a mailbox, which [`Mailbox::create`] clears away.
//! A rename gives the index its new name first, moves the mailbox, and then takes the old names away: at every moment the mailbox has
//! its index beside it. After a crash the mailbox has one name or the other, and what is left under the one that it does not have is cleared away when
//! the rename is done again, or by [`Mailbox::create`].

use super::{Mailbox, MailboxError, Unsynced, optional};
use crate::disk::{self, Open};
use crate::limits::JOURNAL_MAX;
use crate::lock;
use crate::path::TreePath;
use std::io;
use std::time::Duration;

/// What belongs to a mailbox besides its file. The identity comes last: as long as anything of a mailbox is left, its UIDs stay unique.
const SIDECARS: [&str; 5] = ["rsj", "rsx", "rsx.1", "rsc", "rsu"];

impl Mailbox {
    /// Makes an empty mailbox, durably, with a UIDVALIDITY that no mailbox of this directory had before. One that exists already is
    /// `AlreadyExists`. The directory must exist.
    pub fn create(&mut self, patience: Duration) -> Result<(), MailboxError> {
        if self.disk.stat(&self.file).is_ok() {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists).into());
        }
        remove_sidecars(self, &self.file)?;
        *self = Mailbox::new(self.disk.clone(), self.file.clone(), self.user_lock.clone());
        let held = lock::acquire(&*self.disk.clone(), &self.file, Open::Create, patience)?;
        self.refresh_locked(&*held)?;
        held.sync()?;
        Ok(self.disk.sync_dir(&self.file.parent())?)
    }

    /// Removes the mailbox and everything in it. One that does not exist is `NotFound`.
    pub fn remove(&mut self, patience: Duration) -> Result<(), MailboxError> {
        let _held = lock::acquire(&*self.disk.clone(), &self.file, Open::Change, patience)?;
        self.disk.unlink(&self.file)?;
        self.disk.sync_dir(&self.file.parent())?;
        let cleared = remove_sidecars(self, &self.file);
        self.vanish()?;
        cleared
    }

    /// Moves the mailbox to a name that no mailbox has, with flags, UIDs and UIDVALIDITY. This state is that of an empty mailbox afterwards.
    pub fn rename(&mut self, to: &TreePath, patience: Duration) -> Result<(), MailboxError> {
        let Some(held) = self.lock_for_change(patience)? else {
            return Err(io::Error::from(io::ErrorKind::NotFound).into());
        };
        if self.disk.stat(to).is_ok() {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists).into());
        }
        remove_sidecars(self, to)?;
        for extension in SIDECARS {
            let (old, new) = (self.file.with_extension(extension), to.with_extension(extension));
            match extension {
                // The one that is written in place: a crash may leave both names, and mail for one must not stand in the other's.
                "rsj" => {
                    if let Some(journal) = optional(self.disk.read(&old, JOURNAL_MAX))? {
                        disk::write_new(&*self.disk, &new, &journal)?;
                    }
                }
                _ => drop(optional(self.disk.link(&old, &new))?),
            }
        }
        self.disk.rename(&self.file, to)?;
        self.disk.sync_dir(&to.parent())?;
        let cleared = remove_sidecars(self, &self.file);
        if to.parent() != self.file.parent() {
            self.disk.sync_dir(&self.file.parent())?;
        }
        self.unsynced = Unsynced::Nothing;
        drop(held);
        // What is in memory belongs to the other name now.
        let identity = self.identity.take();
        self.vanish()?;
        self.identity = identity.map(|identity| crate::index::identity::Identity { floor: 0, ..identity });
        cleared
    }
}

fn remove_sidecars(mailbox: &Mailbox, file: &TreePath) -> Result<(), MailboxError> {
    for extension in SIDECARS {
        optional(mailbox.disk.unlink(&file.with_extension(extension)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use crate::disk::sim::SimDisk;
    use crate::mailbox::{AppendJob, FlagChange, append_all};
    use crate::mbx::compose::{NewMessage, Source, Way};
    use crate::mbx::record::flag;
    use crate::root::Root;
    use std::path::Path;
    use std::sync::Arc;

    const PATIENCE: Duration = Duration::ZERO;

    fn mailbox(disk: &SimDisk, name: &str) -> Mailbox {
        let root = Root::new(Arc::new(disk.clone()), Path::new("/mail"));
        let dir = root.top().join("u");
        Mailbox::new(Arc::new(disk.clone()), dir.join(name), dir.join("user.lck"))
    }

    fn append(disk: &SimDisk, mailbox: &mut Mailbox) {
        let source = Source::Bytes(b"Subject: x\r\n\r\nbody\r\n".as_slice().into());
        let message = NewMessage {
            source,
            sender: String::new(),
            date: 1,
            way: Way::Client,
            flags: 0,
            keywords: Vec::new(),
        };
        let mut jobs = [AppendJob { mailbox, messages: vec![(message, None)], size_max: None }];
        append_all(disk, &mut jobs, PATIENCE).remove(0).unwrap();
    }

    #[test]
    fn a_mailbox_lives_and_dies() {
        let disk = SimDisk::new();
        let root = Root::new(Arc::new(disk.clone()), Path::new("/mail"));
        root.make_dirs(&root.top().join("u")).unwrap();
        let mut first = mailbox(&disk, "A.mbx");
        first.create(PATIENCE).unwrap();
        assert!(first.create(PATIENCE).is_err());
        let uidvalidity = first.uidvalidity();
        append(&disk, &mut first);
        assert_eq!(first.uidvalidity(), uidvalidity);
        let uids = first.uids();
        let change = FlagChange { set: flag::FLAGGED, ..FlagChange::default() };
        first.change_flags(&[(1, u32::MAX)], &change, PATIENCE).unwrap();

        let target = mailbox(&disk, "B.mbx").file().clone();
        first.rename(&target, PATIENCE).unwrap();
        assert!(first.uids().is_empty());
        assert!(disk.stat(&mailbox(&disk, "A.mbx").file().with_extension("rsu")).is_err());
        let mut second = mailbox(&disk, "B.mbx");
        second.refresh(PATIENCE).unwrap();
        assert_eq!((second.uidvalidity(), second.uids()), (uidvalidity, uids));
        assert!(second.messages().all(|record| record.has(flag::FLAGGED)));

        second.remove(PATIENCE).unwrap();
        assert!(second.uids().is_empty());
        let names: Vec<_> =
            disk.list(&target.parent()).unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["user.lck"]);
        let mut again = mailbox(&disk, "B.mbx");
        again.create(PATIENCE).unwrap();
        assert!(again.uidvalidity() > uidvalidity);
    }
}
