//! Changes to a list's files while administrators edit the same files with any editor.
//!
//! A change holds the file's lock, reads, replaces the file by rename, and so keeps programs apart that lock too. An editor does
//! not lock: it has read the file a while ago and writes back what it had, with its user's edit and without what we changed since. So
//! [`Changes`] remembers what it changed within the last hour, and does it again, once, when it finds that somebody else wrote the file
//! without it. Whoever takes a member out a second time is obeyed.
//!
//! The other direction: an editor that writes the file which we are about to replace, or puts another in its place. A file that was written in
//! the last moment is let come to rest before it is read. The new file changes places with the old one, and what stood there is looked at
//! once more: if it is not what was read, it becomes the content to which the change is applied.
//!
//! # Failure
//! [`ChangeError`]. The file is then as it was, or as somebody else wrote it.
//!
//! # Limits
//! [`REMEMBERED_MAX`] changes are remembered for [`REMEMBERED_FOR`], in memory: a crash forgets them.

use crate::disk::{Disk, Handle, Open, Stamp, read_whole, write_new};
use crate::group::{Group, GroupError};
use crate::limits::SETTINGS_FILE_MAX;
use crate::lock::{self, LockError, PATIENCE};
use crate::path::TreePath;
use crate::text::CodePage;
use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a change is done again if an editor undoes it.
pub const REMEMBERED_FOR: Duration = Duration::from_secs(3600);
/// The most changes of one file that are remembered.
pub const REMEMBERED_MAX: usize = 10_000;
/// A file that somebody wrote so short ago may still be in the middle of it, nanoseconds.
const REST: i64 = 30_000_000;
/// How long we wait for it.
const PAUSE: Duration = Duration::from_millis(10);
/// How often a file may move under our hands.
const TURNS_MAX: usize = 50;

/// Why a file was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Another program holds it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The address cannot stand there.
    #[error(transparent)]
    Member(#[from] GroupError),
    /// Somebody else keeps writing it.
    #[error("{0} is being written by another program")]
    Unsettled(String),
    /// The disk.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What happens to one address of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is a member.
    Add(String),
    /// It is none.
    Remove(String),
}

impl Change {
    fn address(&self) -> &str {
        match self {
            Change::Add(address) | Change::Remove(address) => address,
        }
    }

    /// Answers whether anything had to be done.
    fn apply(&self, group: &mut Group) -> Result<bool, GroupError> {
        match self {
            Change::Add(address) if group.contains(address) => Ok(false),
            Change::Add(address) => group.add(address).map(|()| true),
            Change::Remove(address) => Ok(group.remove(address)),
        }
    }
}

/// What was done to one file.
#[derive(Default)]
struct Done {
    /// The file as we left it.
    left: Option<Stamp>,
    /// Each with its time, and whether it was done again already.
    changes: Vec<(Instant, Change, bool)>,
}

impl Done {
    fn remember(&mut self, change: &Change) {
        self.changes.retain(|(time, known, _)| {
            time.elapsed() < REMEMBERED_FOR && !known.address().eq_ignore_ascii_case(change.address())
        });
        if self.changes.len() < REMEMBERED_MAX {
            self.changes.push((Instant::now(), change.clone(), false));
        }
    }

    /// Does again what somebody else's writing undid; answers which changes.
    fn again(&self, group: &mut Group) -> Result<Vec<usize>, GroupError> {
        let mut undone = Vec::new();
        for (at, (time, change, again)) in self.changes.iter().enumerate() {
            if !*again && time.elapsed() < REMEMBERED_FOR && change.apply(group)? {
                undone.push(at);
            }
        }
        Ok(undone)
    }

    /// The file is as we want it.
    fn left(&mut self, stamp: Stamp, done_again: &[usize]) {
        self.left = Some(stamp);
        for at in done_again {
            if let Some((_, _, again)) = self.changes.get_mut(*at) {
                *again = true;
            }
        }
    }
}

/// The changes of this process.
#[derive(Default)]
pub struct Changes(Mutex<HashMap<TreePath, Done>>);

impl Changes {
    fn lock(&self) -> MutexGuard<'_, HashMap<TreePath, Done>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds or removes a member, durably. Answers whether the file had to be changed. Blocks.
    pub fn member(
        &self,
        disk: &dyn Disk,
        path: &TreePath,
        code_page: CodePage,
        change: &Change,
    ) -> Result<bool, ChangeError> {
        // Held all the way: the changes of this process queue here rather than at the file.
        let mut all = self.lock();
        let done = all.entry(path.clone()).or_default();
        let (mut did, mut again) = (false, Vec::new());
        let left = rewrite(disk, path, |bytes, stamp| {
            let mut group = Group::parse(bytes, code_page);
            let touched = done.left.is_some_and(|left| left != stamp);
            again = if touched { done.again(&mut group)? } else { Vec::new() };
            did = change.apply(&mut group)?;
            Ok((did || !again.is_empty()).then(|| group.write().to_vec()))
        })?;
        done.left(left, &again);
        done.remember(change);
        Ok(did)
    }

    /// Looks whether somebody else's writing undid a change, and does it again. Answers what was done so, as text for the log. Blocks.
    pub fn tend(&self, disk: &dyn Disk, code_page: CodePage) -> Vec<String> {
        let mut notes = Vec::new();
        let mut all = self.lock();
        all.retain(|_, done| done.changes.iter().any(|(time, ..)| time.elapsed() < REMEMBERED_FOR));
        for (path, done) in all.iter_mut() {
            if disk.stat(path).is_ok_and(|(stamp, _)| Some(stamp) == done.left) || disk.stat(path).is_err() {
                continue;
            }
            let mut again = Vec::new();
            let left = rewrite(disk, path, |bytes, _| {
                let mut group = Group::parse(bytes, code_page);
                again = done.again(&mut group)?;
                Ok((!again.is_empty()).then(|| group.write().to_vec()))
            });
            match left {
                Ok(left) => done.left(left, &again),
                Err(error) => notes.push(format!("{path}: {error}")),
            }
            if !again.is_empty() {
                notes.push(format!(
                    "{path}: an edit had undone what subscribers asked for; it was done again"
                ));
            }
        }
        notes
    }
}

/// Changes a file of any kind under its lock, durably: `edit` gets the content and gives the new one, or `None` to leave it. It may be called
/// again if somebody else wrote meanwhile. Answers with the stamp of the file as it is then.
pub fn rewrite(
    disk: &dyn Disk,
    path: &TreePath,
    mut edit: impl FnMut(Vec<u8>, Stamp) -> Result<Option<Vec<u8>>, ChangeError>,
) -> Result<Stamp, ChangeError> {
    let mut handle = lock::acquire(disk, path, Open::Create, PATIENCE)?;
    // The file that we replaced while an editor wrote into it: what it wrote is what counts.
    let mut overwritten: Option<Box<dyn Handle>> = None;
    for _ in 0..TURNS_MAX {
        let source = overwritten.as_deref().unwrap_or(&*handle);
        let (bytes, stamp) = at_rest(disk, source)?;
        let theirs = overwritten.is_some().then(|| bytes.clone());
        let Some(new) = edit(bytes, stamp)?.or(theirs) else {
            if is_named(disk, path, &*handle)? {
                return Ok(stamp);
            }
            // An editor put another file in this place.
            handle = lock::acquire(disk, path, Open::Create, PATIENCE)?;
            continue;
        };
        if written_since(source, stamp)? {
            continue;
        }
        let (wrote, before) = swap(disk, path, &new)?;
        let foreign = before.as_deref().map(|before| same_file(before, &*handle)).transpose()? == Some(false);
        let written = written_since(source, stamp)?;
        let ours = std::mem::replace(&mut handle, lock::acquire(disk, path, Open::Create, PATIENCE)?);
        let now = handle.stamp()?;
        let is_ours = (now.device, now.inode, now.size, now.modified)
            == (wrote.device, wrote.inode, wrote.size, wrote.modified);
        overwritten = match (foreign, written) {
            (false, false) if is_ours => return Ok(now),
            // Somebody was there again since: what stands there now is read anew.
            (false, false) => None,
            (true, _) => before,
            (false, true) => overwritten.or(Some(ours)),
        };
    }
    Err(ChangeError::Unsettled(path.to_string()))
}

/// Does the path still name this file?
fn is_named(disk: &dyn Disk, path: &TreePath, handle: &dyn Handle) -> io::Result<bool> {
    let (held, named) = (handle.stamp()?, disk.stat(path)?.0);
    Ok((held.device, held.inode) == (named.device, named.inode))
}

fn same_file(a: &dyn Handle, b: &dyn Handle) -> io::Result<bool> {
    let (a, b) = (a.stamp()?, b.stamp()?);
    Ok((a.device, a.inode) == (b.device, b.inode))
}

/// Replaces the file durably. Gives the new file's stamp, and the file that stood there in the very moment, where the file system can tell.
fn swap(disk: &dyn Disk, path: &TreePath, content: &[u8]) -> io::Result<(Stamp, Option<Box<dyn Handle>>)> {
    let temporary = path.with_suffix(".$$$");
    write_new(disk, &temporary, content)?;
    disk.copy_owner(path, &temporary)?;
    let (wrote, _) = disk.stat(&temporary)?;
    let before = match disk.exchange(&temporary, path)? {
        true => {
            let before = disk.open(&temporary, Open::Read)?;
            disk.unlink(&temporary)?;
            Some(before)
        }
        false => None,
    };
    disk.sync_dir(&path.parent())?;
    Ok((wrote, before))
}

/// The content, as soon as nobody has written it for a moment. Only a file without a line end at its end looks as if an editor were in the
/// middle of it.
fn at_rest(disk: &dyn Disk, handle: &dyn Handle) -> Result<(Vec<u8>, Stamp), ChangeError> {
    for turn in 0.. {
        let stamp = handle.stamp()?;
        let bytes = read_whole(handle, SETTINGS_FILE_MAX)?;
        let young = (0..REST).contains(&(disk.now() - stamp.modified)) && !bytes.ends_with(b"\n");
        if turn >= TURNS_MAX || (!young && !written_since(handle, stamp)?) {
            return Ok((bytes, stamp));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(Default::default())
}

fn written_since(handle: &dyn Handle, stamp: Stamp) -> io::Result<bool> {
    let now = handle.stamp()?;
    Ok((now.size, now.modified) != (stamp.size, stamp.modified))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::real::RealDisk;
    use std::fs;
    use std::path::Path;

    fn members(path: &Path) -> Vec<String> {
        let group = Group::parse(fs::read(path).unwrap(), CodePage::Japanese);
        group.members().collect()
    }

    /// An edit by hand, as editors do it, while subscribers come: everything is there afterwards.
    #[test]
    fn a_hand_edit_while_a_hundred_subscribe() {
        for in_place in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("users.lst");
            fs::write(&file, "; mine\r\nfirst@x\r\n").unwrap();
            let (disk, path) = (RealDisk::new(), TreePath::operator(&file));
            let changes = Changes::default();
            let add = |number: usize| {
                let change = Change::Add(format!("m{number}@x"));
                changes.member(&disk, &path, CodePage::Japanese, &change).unwrap();
            };
            (0..50).for_each(add);
            std::thread::scope(|scope| {
                // The editor had read the file before anybody subscribed, and writes it back in the middle.
                scope.spawn(|| {
                    let edited = "; mine\r\nfirst@x\r\nby-hand@x\r\n";
                    if in_place {
                        fs::write(&file, edited).unwrap();
                    } else {
                        fs::write(dir.path().join("users.swp"), edited).unwrap();
                        fs::rename(dir.path().join("users.swp"), &file).unwrap();
                    }
                });
                (50..100).for_each(add);
            });
            changes.tend(&disk, CodePage::Japanese);
            let found = members(&file);
            for expected in ["first@x", "by-hand@x"]
                .map(str::to_owned)
                .into_iter()
                .chain((0..100).map(|n| format!("m{n}@x")))
            {
                assert!(found.contains(&expected), "{in_place} {expected} {found:?}");
            }
            assert_eq!(found.len(), 102);
            assert!(fs::read(&file).unwrap().starts_with(b"; mine\r\n"));
        }
    }

    #[test]
    fn who_removes_twice_is_obeyed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("users.lst");
        let (disk, path) = (RealDisk::new(), TreePath::operator(&file));
        let changes = Changes::default();
        let add = Change::Add("new@x".into());
        assert!(changes.member(&disk, &path, CodePage::Japanese, &add).unwrap());
        assert!(!changes.member(&disk, &path, CodePage::Japanese, &add).unwrap());
        fs::write(&file, "old@x\n").unwrap();
        assert_eq!(changes.tend(&disk, CodePage::Japanese).len(), 1);
        assert_eq!(members(&file), ["old@x", "new@x"]);
        fs::write(&file, "old@x\n").unwrap();
        assert!(changes.tend(&disk, CodePage::Japanese).is_empty());
        assert_eq!(members(&file), ["old@x"]);
        let remove = Change::Remove("OLD@x".into());
        assert!(changes.member(&disk, &path, CodePage::Japanese, &remove).unwrap());
        assert!(members(&file).is_empty());
        let bad = Change::Add("a b".into());
        assert!(matches!(
            changes.member(&disk, &path, CodePage::Japanese, &bad),
            Err(ChangeError::Member(GroupError::Address(_)))
        ));
    }
}
