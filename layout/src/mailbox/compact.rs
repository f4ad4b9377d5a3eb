//! Taking removed bytes out of the file, and writing snapshots.
//!
//! Removed bytes go by writing a new file, `<name>.$$$`, and renaming it over the mailbox; or, when only the last messages go, by cutting
//! the end. A crash in between needs no record of its own: the next opener finds a file that was rewritten, in which exactly
//! the messages that were not removed are left, and matches them.
//!
//! A large file is copied while others go on ([`Rewrite`]): the lock is held to begin, and again to take over what came in between.
//!
//! # Failure
//! The mailbox stays as it was; what is marked removed stays so.

use super::{Mailbox, MailboxError, Unsynced};
use crate::disk::{self, Disk, Handle, Open};
use crate::index::journal::Seen;
use crate::index::snapshot::Records;
use crate::index::{journal, snapshot};
use crate::mbx::record::{Record, flag};
use crate::path::TreePath;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use zerocopy::byteorder::little_endian::U64;

/// Files up to this size are rewritten at once.
const REWRITE_AT_ONCE: u64 = 16 << 20;
/// Larger ones when removed bytes reach this much and a fifth of the file.
const REMOVED_BYTES_MAX: u64 = 8 << 20;
/// How much is copied at once.
const PIECE: u64 = 1 << 20;
/// How much of a long copy waits for the disk at most: whoever else needs a sync meanwhile waits for that much too.
const UNSYNCED_MAX: u64 = 16 << 20;

/// When removed bytes leave the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// When there are so many that they are a burden.
    Due,
    /// When they are worth the work, since nobody uses the mailbox.
    Idle,
    /// If there is one.
    Any,
}

/// How removed bytes leave the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Not now.
    Stay,
    /// At once: by cutting the end, or the file is small.
    AtOnce,
    /// By a copy that takes a while.
    Copy,
}

impl Mailbox {
    fn removal(&self, when: When) -> Way {
        let expunged = self.records.totals().expunged;
        if expunged == 0 {
            return Way::Stay;
        }
        let size = self.meta.end;
        let removed: u64 =
            self.records.iter().filter(|r| r.has(flag::EXPUNGED)).map(|r| u64::from(r.stored.get())).sum();
        let first = self.records.iter().position(|r| r.has(flag::EXPUNGED)).unwrap_or(0);
        let only_last = self.records.len() - first == expunged;
        let worth_it = match when {
            When::Due => removed >= REMOVED_BYTES_MAX.max(size / 5),
            When::Idle => removed >= REMOVED_BYTES_MAX.max(size / 5) || removed >= size / 100,
            When::Any => true,
        };
        match worth_it {
            _ if size <= REWRITE_AT_ONCE || only_last => Way::AtOnce,
            true => Way::Copy,
            false => Way::Stay,
        }
    }

    /// Are there removed bytes that can be taken out while somebody waits?
    pub(super) fn removal_is_quick(&self) -> bool {
        self.removal(When::Due) == Way::AtOnce
    }

    /// Is it time to take removed bytes out?
    pub fn removal_is_due(&self, when: When) -> bool {
        self.removal(when) != Way::Stay
    }

    /// Takes all removed bytes out, before an export.
    pub fn tidy(&mut self, patience: Duration) -> Result<(), MailboxError> {
        for _ in 0..self.flushes() {
            self.flush(patience)?;
        }
        if self.records.totals().expunged > 0 {
            let held = crate::lock::acquire(&*self.disk.clone(), &self.file, Open::Change, patience)?;
            self.refresh_locked(&*held)?;
            self.compact(&*held)?;
        }
        Ok(())
    }

    /// Takes removed bytes out if it is time and quickly done. If it takes longer, begins it: [`Rewrite::copy`] and
    /// [`Mailbox::finish_rewrite`] follow.
    pub fn begin_rewrite(&mut self, when: When, patience: Duration) -> Result<Option<Rewrite>, MailboxError> {
        let Some(held) = self.lock_for_change(patience)? else { return Ok(None) };
        match self.removal(when) {
            Way::Stay => return Ok(None),
            Way::AtOnce if when != When::Any => return self.compact(&*held).map(|()| None),
            Way::AtOnce | Way::Copy => {}
        }
        let stamp = held.stamp()?;
        Ok(Some(Rewrite {
            source: self.reader()?,
            new: self.new_file()?,
            temporary: self.file.with_extension("$$$"),
            disk: self.disk.clone(),
            inode: stamp.inode,
            size: stamp.size,
            end: self.meta.end,
            modseq: self.meta.modseq,
            scans: self.scans,
            records: self.records.iter().copied().collect(),
        }))
    }

    /// Puts the copy in the mailbox's place, with what came in between. `false`: another program changed the file meanwhile, and everything
    /// stays as it is.
    pub fn finish_rewrite(&mut self, rewrite: Rewrite, patience: Duration) -> Result<bool, MailboxError> {
        let Some(held) = self.lock_for_change(patience)? else { return Ok(false) };
        let stamp = held.stamp()?;
        if stamp.inode != rewrite.inode || self.scans != rewrite.scans || !rewrite.is_begin_of(&self.records)
        {
            return Ok(false);
        }
        let gone = rewrite.gone();
        let mut moved = Vec::with_capacity(self.records.len());
        let mut letters = Vec::new();
        let mut at = rewrite.head();
        for (index, record) in self.records.iter().enumerate() {
            let mut record = *record;
            match rewrite.records.get(index) {
                Some(before) if before.has(flag::EXPUNGED) => continue,
                Some(before) => {
                    record.offset = U64::new(at);
                    at += u64::from(record.stored.get());
                    let touched = record.modseq.get() > rewrite.modseq
                        || record.has(flag::LETTER_READ) != before.has(flag::LETTER_READ);
                    if touched && record.has(flag::HAS_LETTER) {
                        letters.push(record);
                    }
                }
                None => record.offset = U64::new(record.offset.get() - gone),
            }
            moved.push(record);
        }
        let new = &*rewrite.new;
        copy(&*held, new, &[(rewrite.size, stamp.size)], u64::MAX)?;
        for record in &letters {
            // A letter may have been written behind the copy's back.
            super::change::write_letter(new, record, record.has(flag::LETTER_READ))?;
        }
        new.sync()?;
        let written = self.put_in_place(new, &rewrite.temporary)?;
        self.take_over(moved, self.meta.end - gone, written)?;
        Ok(true)
    }

    /// Takes all removed bytes out. The caller holds the lock of `file`.
    pub(super) fn compact(&mut self, file: &dyn Handle) -> Result<(), MailboxError> {
        let size = file.stamp()?.size;
        let live: Vec<Record> = self.messages().copied().collect();
        let head = self.records.get(0).map_or(0, |record| record.offset.get());
        let kept_end = live.last().map_or(head, Record::end);
        let first_removed = self.records.iter().find(|record| record.has(flag::EXPUNGED));
        let Some(first_removed) = first_removed.map(|record| record.offset.get()) else { return Ok(()) };
        if kept_end <= first_removed && self.meta.end == size {
            // Only the last ones go.
            file.set_len(kept_end)?;
            file.sync()?;
            let seen = Seen { stamp: file.stamp()?, taken: self.disk.now() };
            return self.take_over(live, kept_end, seen);
        }
        let mut extents = vec![(0, head)];
        extents.extend(live.iter().map(|record| (record.offset.get(), record.end())));
        extents.push((self.meta.end, size));
        let written = self.write_new(file, &extents)?;
        let mut at = head;
        let mut moved = live;
        for record in &mut moved {
            record.offset = U64::new(at);
            at += u64::from(record.stored.get());
        }
        self.take_over(moved, at, written)
    }

    /// Writes the extents to a new file and puts it in the mailbox's place. Answers with how the new file looks.
    fn write_new(&mut self, file: &dyn Handle, extents: &[(u64, u64)]) -> Result<Seen, MailboxError> {
        let temporary = self.file.with_extension("$$$");
        let new = self.new_file()?;
        let written = copy(file, &*new, extents, u64::MAX)
            .and_then(|()| new.sync())
            .map_err(MailboxError::from)
            .and_then(|()| self.put_in_place(&*new, &temporary));
        if written.is_err() {
            let _ = self.disk.unlink(&temporary);
        }
        written
    }

    /// A new file beside the mailbox, in place of one that a crash left. It is locked before it gets the mailbox's name, so that nobody
    /// comes in between the rename and the snapshot; and as long as it is locked somebody is writing it. The caller holds the
    /// mailbox's lock.
    fn new_file(&self) -> Result<Box<dyn Handle>, MailboxError> {
        let temporary = self.file.with_extension("$$$");
        if let Some(left) = super::optional(self.disk.open(&temporary, Open::Change))? {
            if !left.try_lock()? {
                return Err(MailboxError::Locked(temporary.to_string()));
            }
            self.disk.unlink(&temporary)?;
        }
        let new = self.disk.open(&temporary, Open::CreateNew)?;
        match new.try_lock()? {
            true => Ok(new),
            false => Err(MailboxError::Locked(temporary.to_string())),
        }
    }

    fn put_in_place(&self, new: &dyn Handle, temporary: &TreePath) -> Result<Seen, MailboxError> {
        if self.disk.stat(temporary)?.0.inode != new.stamp()?.inode {
            return Err(MailboxError::Changed);
        }
        self.disk.copy_owner(&self.file, temporary)?;
        // The name need not be durable now: the journal is, and says what was removed. The names of the new snapshot and journal follow
        // in the same directory and cannot become durable before this one.
        self.disk.rename(temporary, &self.file)?;
        Ok(Seen { stamp: new.stamp()?, taken: self.disk.now() })
    }

    fn take_over(&mut self, records: Vec<Record>, end: u64, seen: Seen) -> Result<(), MailboxError> {
        self.records = Records::from_vec(records);
        self.letters_from = 0;
        self.meta.end = end;
        self.meta.seen = seen;
        self.reader = None;
        self.visible = None;
        self.checkpoint()
    }

    /// Writes a new snapshot and begins a new journal. The caller holds the lock.
    pub(super) fn checkpoint(&mut self) -> Result<(), MailboxError> {
        let outcome = self.try_checkpoint();
        if outcome.is_err() {
            self.suspect = true;
        }
        outcome
    }

    fn try_checkpoint(&mut self) -> Result<(), MailboxError> {
        let disk = self.disk.clone();
        self.meta.generation += 1;
        self.meta.tokens = self.tokens.iter().copied().collect();
        let bytes = snapshot::write(&self.meta, &self.records);
        let (rsx, older) = (self.sidecar("rsx"), self.sidecar("rsx.1"));
        let temporary = self.file.with_extension("rsx.$$$");
        disk::write_new(&*disk, &temporary, &bytes)?;
        self.names_unsynced = true;
        match disk.rename(&rsx, &older) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
            _ => {}
        }
        disk.rename(&temporary, &rsx)?;
        let journal = self.sidecar("rsj");
        let temporary = self.file.with_extension("rsj.$$$");
        let header = journal::header(self.meta.generation);
        // Neither its bytes nor the names need to be durable before something is written to it: without it, or with the older
        // snapshot and its journal, the next opener comes to the same.
        disk::write_new_unsynced(&*disk, &temporary, &header)?;
        disk.rename(&temporary, &journal)?;
        let (stamp, _) = disk.stat(&journal)?;
        self.journal = Some((stamp.size, stamp.inode));
        // The next flush makes the names durable.
        self.unsynced = Unsynced::Changes;
        // From now on the records are those of the file, shared with the page cache.
        let opened = snapshot::open(disk.map(&rsx)?);
        let (_, records) = opened.ok_or(MailboxError::Changed)?;
        self.records = records;
        Ok(())
    }
}

/// A new mailbox file that is being written while others go on with the old one.
pub struct Rewrite {
    disk: Arc<dyn Disk>,
    source: Arc<dyn Handle>,
    new: Box<dyn Handle>,
    temporary: TreePath,
    /// What the mailbox was when the rewrite began.
    inode: u64,
    size: u64,
    end: u64,
    modseq: u64,
    scans: u64,
    records: Vec<Record>,
}

impl Rewrite {
    /// Copies what stays. Needs no lock.
    pub fn copy(&self) -> Result<(), MailboxError> {
        let mut extents = vec![(0, self.head())];
        let live = self.records.iter().filter(|record| !record.has(flag::EXPUNGED));
        extents.extend(live.map(|record| (record.offset.get(), record.end())));
        extents.push((self.end, self.size));
        copy(&*self.source, &*self.new, &extents, UNSYNCED_MAX)?;
        Ok(self.new.sync()?)
    }

    /// Text before the first message.
    fn head(&self) -> u64 {
        self.records.first().map_or(0, |record| record.offset.get())
    }

    /// Bytes that are left out.
    fn gone(&self) -> u64 {
        let gone = self.records.iter().filter(|record| record.has(flag::EXPUNGED));
        gone.map(|record| u64::from(record.stored.get())).sum()
    }

    /// Did nothing but flags of the messages change, and were others only added?
    fn is_begin_of(&self, records: &Records) -> bool {
        let place = |r: &Record| (r.uid, r.offset, r.stored, r.fingerprint);
        records.len() >= self.records.len()
            && self.records.iter().map(place).eq(records.iter().take(self.records.len()).map(place))
    }
}

impl Drop for Rewrite {
    /// A copy that did not get the mailbox's name is of no use.
    fn drop(&mut self) {
        let ours = |stamp: io::Result<disk::Stamp>| stamp.map(|stamp| stamp.inode).ok();
        let named = self.disk.stat(&self.temporary).map(|(stamp, _)| stamp);
        if ours(named).is_some_and(|inode| Some(inode) == ours(self.new.stamp())) {
            let _ = self.disk.unlink(&self.temporary);
        }
    }
}

/// Copies extents to the end of another file, and syncs it whenever more than `unsynced_max` bytes of them wait.
fn copy(from: &dyn Handle, to: &dyn Handle, extents: &[(u64, u64)], unsynced_max: u64) -> io::Result<()> {
    let mut piece = Vec::with_capacity(PIECE as usize);
    let mut unsynced = 0;
    for (begin, end) in merged(extents) {
        let mut at = begin;
        while at < end {
            let length = (end - at).min(PIECE - piece.len() as u64) as usize;
            let have = piece.len();
            piece.resize(have + length, 0);
            disk::read_exact_at(from, &mut piece[have..], at)?;
            at += length as u64;
            if piece.len() as u64 == PIECE {
                to.append(&piece)?;
                piece.clear();
                unsynced += PIECE;
                if unsynced >= unsynced_max {
                    to.sync()?;
                    unsynced = 0;
                }
            }
        }
    }
    if piece.is_empty() { Ok(()) } else { to.append(&piece).map(drop) }
}

/// Extents that touch become one.
fn merged(extents: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (begin, end) in extents.iter().copied().filter(|(begin, end)| begin < end) {
        match merged.last_mut() {
            Some(last) if last.1 == begin => last.1 = end,
            _ => merged.push((begin, end)),
        }
    }
    merged
}
