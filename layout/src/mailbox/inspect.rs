//! Looking at a mailbox and its index without changing anything: no lock, no sidecar, no repair.
//!
//! A mailbox is read whole, or only where its index does not vouch for it ([`Trust`]), which makes a tree in use quick to look at.
//!
//! # Failure
//! [`MailboxError`]. A mailbox that is written to all the time is judged by the last look.

use super::{GRAIN, Mailbox, MailboxError, optional};
use crate::disk::{Disk, Handle, Open, Stamp};
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
    /// Does the file end within a line? Then its last message is not whole.
    pub torn: bool,
    /// Where a run of NUL bytes stands; looked for in files that are read.
    pub nul: Option<u64>,
    /// Removed messages whose bytes are still in the file.
    pub pending_removals: usize,
    /// How the index stands to the file.
    pub index: IndexState,
}

/// What is believed without reading the mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Nothing: the whole file is read, and the index compared with it message for message.
    Nothing,
    /// An index that is whole in itself, of a file that nobody changed since, whose first and last message are where it says.
    Index,
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
pub fn inspect(disk: &Arc<dyn Disk>, file: &TreePath, trust: Trust) -> Result<Inspection, MailboxError> {
    let mut found = look(disk, file, trust)?;
    for _ in 1..ROUNDS {
        if found.steady {
            break;
        }
        found = look(disk, file, trust)?;
    }
    Ok(found.inspection)
}

struct Look {
    inspection: Inspection,
    /// Nobody changed the file meanwhile.
    steady: bool,
}

fn look(disk: &Arc<dyn Disk>, file: &TreePath, trust: Trust) -> Result<Look, MailboxError> {
    let mut mailbox = Mailbox::new(disk.clone(), file.clone(), file.clone());
    let Some(handle) = optional(disk.open(file, Open::Read))? else {
        let index = index_without_file(&mailbox)?;
        let (messages, bytes, pending_removals) = (0, 0, 0);
        let inspection =
            Inspection { messages, bytes, head: 0, tail: 0, torn: false, nul: None, pending_removals, index };
        return Ok(Look { inspection, steady: true });
    };
    let before = handle.stamp()?;
    let torn = ends_within_line(&*handle, before.size)?;
    let inspection = match trust {
        Trust::Index if vouches(&mut mailbox, &*handle, before)? => Inspection {
            messages: mailbox.records.len() - mailbox.records.totals().expunged,
            bytes: before.size,
            head: mailbox.records.get(0).map_or(0, |first| first.offset.get()),
            tail: before.size.saturating_sub(mailbox.meta.end),
            torn,
            nul: None,
            pending_removals: mailbox.records.totals().expunged,
            index: IndexState::Current,
        },
        _ => {
            let Some(scan) = mailbox.scanned(scan::whole(&*handle, disk.now()))? else {
                return Err(MailboxError::Changed);
            };
            let index = compare(&mut mailbox, &*handle, &scan)?;
            let pending_removals =
                if index == IndexState::Current { mailbox.records.totals().expunged } else { 0 };
            Inspection {
                messages: scan.messages.len() - pending_removals.min(scan.messages.len()),
                bytes: before.size,
                head: scan.messages.first().map_or(0, |first| first.record.offset.get()),
                tail: before.size.saturating_sub(scan.end),
                torn,
                nul: scan.nul,
                pending_removals,
                index,
            }
        }
    };
    Ok(Look { inspection, steady: handle.stamp()? == before })
}

fn ends_within_line(handle: &dyn Handle, size: u64) -> Result<bool, MailboxError> {
    let mut last = [b'\n'];
    if size > 0 {
        handle.read_at(&mut last, size - 1)?;
    }
    Ok(last != *b"\n")
}

/// Can the index be believed as it is? It has to be readable, of the file as it stands (`stamp`), free of contradictions, and right about both
/// ends of the file. What it says of an empty file is not worth asking for.
fn vouches(mailbox: &mut Mailbox, handle: &dyn Handle, stamp: Stamp) -> Result<bool, MailboxError> {
    if stamp.size == 0 || broken_sidecar(mailbox)?.is_some() {
        return Ok(false);
    }
    mailbox.load()?;
    let seen = mailbox.meta.seen.stamp;
    // A stamp as young as the clock's grain may hide a change; an older one only the ends can tell from, as for the server.
    let young = mailbox.is_racy() && mailbox.disk.now() - stamp.modified < GRAIN;
    let doubted = mailbox.suspect || mailbox.pending.is_some() || young;
    if doubted || seen != stamp || mailbox.tail_is_due(stamp) || mailbox.records.is_empty() {
        return Ok(false);
    }
    let (mut uid, mut end) = (0, 0);
    for record in mailbox.records.iter() {
        if record.uid.get() <= uid || record.offset.get() < end {
            return Ok(false);
        }
        (uid, end) = (record.uid.get(), record.end());
    }
    Ok(end <= mailbox.meta.end && mailbox.meta.end <= stamp.size && mailbox.ends_are_known(handle)?)
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

    /// Whatever is believed, the same is found.
    fn look_both(disk: &Arc<dyn Disk>, file: &TreePath) -> Result<Inspection, MailboxError> {
        let (read, believed) = (inspect(disk, file, Trust::Nothing), inspect(disk, file, Trust::Index));
        assert_eq!(read.as_ref().ok(), believed.as_ref().ok());
        read
    }

    #[test]
    fn an_index_is_compared_and_never_made() {
        let (disk, shared, file) = sample(TWO);
        let seen = look_both(&shared, &file).unwrap();
        assert_eq!((seen.messages, seen.index, seen.tail, seen.head), (2, IndexState::None, 0, 0));
        assert_eq!(disk.content(&file.with_extension("rsx")), None);
        assert_eq!(disk.content(&file.with_extension("rsu")), None);

        let mut mailbox = Mailbox::new(shared.clone(), file.clone(), file.parent().with_suffix(".lck"));
        mailbox.refresh(PATIENCE).unwrap();
        assert_eq!(look_both(&shared, &file).unwrap().index, IndexState::Current);

        let snapshot = disk.content(&file.with_extension("rsx")).unwrap();
        disk.seed(&file.with_extension("rsx"), &snapshot[..snapshot.len() - 1]);
        assert!(matches!(look_both(&shared, &file).unwrap().index, IndexState::Damaged(_)));
        disk.seed(&file.with_extension("rsx"), &snapshot);
        let mut more = TWO.to_vec();
        more.extend_from_slice(TWO);
        disk.seed(&file, &more);
        let seen = look_both(&shared, &file).unwrap();
        assert_eq!((seen.messages, seen.index), (4, IndexState::Behind));
        disk.seed(&file.with_extension("rsu"), b"what?");
        assert!(matches!(look_both(&shared, &file).unwrap().index, IndexState::Damaged(_)));
    }

    /// An index that fits is believed without a look at the messages in the middle, which here are damaged behind its back.
    #[test]
    fn a_file_with_a_good_index_is_not_read() {
        let (disk, shared, file) = sample(&TWO.repeat(2));
        let mut mailbox = Mailbox::new(shared.clone(), file.clone(), file.parent().with_suffix(".lck"));
        mailbox.refresh(PATIENCE).unwrap();
        drop(mailbox);
        let handle = shared.open(&file, Open::Change).unwrap();
        let stamp = handle.stamp().unwrap();
        handle.write_at(b"\0\0\0", (TWO.len() - 6) as u64).unwrap();
        if handle.stamp().unwrap() == stamp {
            assert_eq!(inspect(&shared, &file, Trust::Index).unwrap().nul, None);
        }
        let seen = inspect(&shared, &file, Trust::Nothing).unwrap();
        assert_eq!((seen.messages, seen.nul), (4, Some((TWO.len() - 6) as u64)));
        assert!(!seen.torn);
        disk.seed(&file, &TWO[..TWO.len() - 3]);
        assert!(look_both(&shared, &file).unwrap().torn);
    }

    #[test]
    fn foreign_files_and_missing_ones() {
        let (_, shared, file) = sample(b"*mbx*\r\n");
        assert!(matches!(look_both(&shared, &file), Err(MailboxError::Foreign { .. })));
        let seen = inspect(&shared, &file.with_extension("none"), Trust::Nothing).unwrap();
        assert_eq!((seen.messages, seen.index), (0, IndexState::None));
    }
}
