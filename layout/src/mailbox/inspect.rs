//! Looking at a mailbox and its index without changing anything: no lock, no sidecar, no repair.
//!
//! # Failure
//! [`MailboxError`]. A mailbox that is written to all the time is judged by the last look.

use super::{Mailbox, MailboxError, optional};
use crate::disk::{Disk, Handle, Open};
use crate::index::identity::Identity;
use crate::index::snapshot;
use crate::index::totals::Totals;
use crate::mbx::record::Record;
use crate::mbx::scan::{self, Scan};
use crate::path::TreePath;
use std::sync::Arc;

/// How often a file that changes meanwhile is looked at again.
const ROUNDS: usize = 3;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Messages in the file that clients see.
    pub messages: usize,
    /// The file's length in bytes.
    pub bytes: u64,
    /// Bytes before the first message: text that is kept and never served.
    pub head: u64,
    /// Bytes behind the last whole message: somebody is writing, or a write was cut off.
    pub tail: u64,
    /// Removed messages whose bytes are still in the file.
    pub pending_removals: usize,
    /// How the index stands to the file.
    pub index: IndexState,
}

/// How an index stands to its mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexState {
    /// There is none: it is made when the mailbox is opened.
    None,
    /// It says what is in the file.
    Current,
    /// The file was changed since, or an append waits to be finished: the next open takes care of it.
    Behind,
    /// It is wrong; the text says how, and what that costs.
    Damaged(&'static str),
}

/// Looks at the mailbox of `file`. A file that does not exist is an empty mailbox.
pub fn inspect(disk: &Arc<dyn Disk>, file: &TreePath) -> Result<Inspection, MailboxError> {
    let mut found = look(disk, file)?;
    for _ in 1..ROUNDS {
        if found.steady {
            break;
        }
        found = look(disk, file)?;
    }
    Ok(found.inspection)
}

struct Look {
    inspection: Inspection,
    /// Nobody changed the file meanwhile.
    steady: bool,
}

fn look(disk: &Arc<dyn Disk>, file: &TreePath) -> Result<Look, MailboxError> {
    let mut mailbox = Mailbox::new(disk.clone(), file.clone(), file.clone());
    let Some(handle) = optional(disk.open(file, Open::Read))? else {
        let (messages, index) = (0, index_without_file(&mailbox)?);
        let inspection = Inspection { messages, bytes: 0, head: 0, tail: 0, pending_removals: 0, index };
        return Ok(Look { inspection, steady: true });
    };
    let before = handle.stamp()?;
    let Some(scan) = mailbox.scanned(scan::whole(&*handle, disk.now()))? else {
        return Err(MailboxError::Changed);
    };
    let index = compare(&mut mailbox, &*handle, &scan)?;
    let pending_removals = if index == IndexState::Current { mailbox.records.totals().expunged } else { 0 };
    let inspection = Inspection {
        messages: scan.messages.len() - pending_removals.min(scan.messages.len()),
        bytes: before.size,
        head: scan.messages.first().map_or(0, |first| first.record.offset.get()),
        tail: before.size.saturating_sub(scan.end),
        pending_removals,
        index,
    };
    Ok(Look { inspection, steady: handle.stamp()? == before })
}

fn index_without_file(mailbox: &Mailbox) -> Result<IndexState, MailboxError> {
    let there = optional(mailbox.disk.stat(&mailbox.sidecar("rsx")))?.is_some();
    Ok(if there { IndexState::Behind } else { IndexState::None })
}

/// Compares the index with what is in the file.
fn compare(mailbox: &mut Mailbox, handle: &dyn Handle, scan: &Scan) -> Result<IndexState, MailboxError> {
    if let Some(state) = broken_sidecar(mailbox)? {
        return Ok(state);
    }
    mailbox.load()?;
    let known = mailbox.meta.seen.stamp;
    if known.size == 0 && mailbox.records.is_empty() {
        let empty = scan.messages.is_empty();
        return Ok(if empty { IndexState::None } else { IndexState::Behind });
    }
    if mailbox.suspect || mailbox.pending.is_some() || known != handle.stamp()? {
        return Ok(IndexState::Behind);
    }
    let place = |record: &Record| (record.offset.get(), record.stored.get(), record.fingerprint.get());
    let same = mailbox.records.iter().map(place).eq(scan.messages.iter().map(|found| place(&found.record)));
    if !same {
        return Ok(IndexState::Damaged(
            "it does not say what is in the file, although the file was not changed",
        ));
    }
    let uids: Vec<u32> = mailbox.records.iter().map(|record| record.uid.get()).collect();
    if uids.first() == Some(&0) || !uids.is_sorted_by(|a, b| a < b) {
        return Ok(IndexState::Damaged("its UIDs do not ascend"));
    }
    let (told, counted) = (*mailbox.records.totals(), Totals::of(mailbox.records.iter()));
    if (Totals { unseen_from: counted.unseen_from, ..told }) != counted
        || told.unseen_from > counted.unseen_from
    {
        return Ok(IndexState::Damaged("its counts are wrong"));
    }
    Ok(IndexState::Current)
}

/// Are the sidecars readable by themselves? `None` = nothing to say against them.
fn broken_sidecar(mailbox: &Mailbox) -> Result<Option<IndexState>, MailboxError> {
    let snapshot = optional(mailbox.disk.map(&mailbox.sidecar("rsx")))?;
    let readable = snapshot.map(|bytes| snapshot::open(bytes).is_some());
    let identity = optional(mailbox.disk.read(&mailbox.sidecar("rsu"), 4096))?;
    let journal = optional(mailbox.disk.stat(&mailbox.sidecar("rsj")))?;
    let known = identity.as_deref().map(Identity::parse);
    Ok(match (known, readable) {
        (None, None) if journal.is_none() => Some(IndexState::None),
        (None, _) => {
            Some(IndexState::Damaged("its .rsu file is missing: clients will read the mailbox anew"))
        }
        (Some(None), _) => {
            Some(IndexState::Damaged("its .rsu file is damaged: clients will read the mailbox anew"))
        }
        (_, Some(false)) => Some(IndexState::Damaged(
            "its .rsx file is damaged: it is rebuilt when the mailbox is opened, some flags may be lost",
        )),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;
    use crate::lock::PATIENCE;
    use crate::name::MailboxName;
    use crate::name::UserId;
    use crate::root::Root;
    use std::path::Path;

    const TWO: &[u8] = b"From <a@b.c> Mon Aug 01 10:00:00 2022\r\nX-UIDL: 5\r\nStatus: U\r\n\r\none\r\n\r\n\
        From <a@b.c> Mon Aug 01 10:00:01 2022\r\nX-UIDL: 6\r\nStatus: U\r\n\r\ntwo\r\n\r\n";

    fn sample(content: &[u8]) -> (SimDisk, Arc<dyn Disk>, TreePath) {
        let disk = SimDisk::new();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let root = Root::new(shared.clone(), Path::new("/mail"));
        let user = root.domain(root.top().clone()).user(&UserId::parse("mike").unwrap());
        let file = user.mailbox(&MailboxName::inbox());
        disk.seed(&file, content);
        (disk, shared, file)
    }

    #[test]
    fn an_index_is_compared_and_never_made() {
        let (disk, shared, file) = sample(TWO);
        let seen = inspect(&shared, &file).unwrap();
        assert_eq!((seen.messages, seen.index, seen.tail, seen.head), (2, IndexState::None, 0, 0));
        assert_eq!(disk.content(&file.with_extension("rsx")), None);
        assert_eq!(disk.content(&file.with_extension("rsu")), None);

        let mut mailbox = Mailbox::new(shared.clone(), file.clone(), file.parent().with_suffix(".lck"));
        mailbox.refresh(PATIENCE).unwrap();
        assert_eq!(inspect(&shared, &file).unwrap().index, IndexState::Current);

        let snapshot = disk.content(&file.with_extension("rsx")).unwrap();
        disk.seed(&file.with_extension("rsx"), &snapshot[..snapshot.len() - 1]);
        assert!(matches!(inspect(&shared, &file).unwrap().index, IndexState::Damaged(_)));
        disk.seed(&file.with_extension("rsx"), &snapshot);
        let mut more = TWO.to_vec();
        more.extend_from_slice(TWO);
        disk.seed(&file, &more);
        let seen = inspect(&shared, &file).unwrap();
        assert_eq!((seen.messages, seen.index), (4, IndexState::Behind));
        disk.seed(&file.with_extension("rsu"), b"what?");
        assert!(matches!(inspect(&shared, &file).unwrap().index, IndexState::Damaged(_)));
    }

    #[test]
    fn foreign_files_and_missing_ones() {
        let (_, shared, file) = sample(b"*mbx*\r\n");
        assert!(matches!(inspect(&shared, &file), Err(MailboxError::Foreign { .. })));
        let seen = inspect(&shared, &file.with_extension("none")).unwrap();
        assert_eq!((seen.messages, seen.index), (0, IndexState::None));
    }
}
