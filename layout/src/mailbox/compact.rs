//! Taking removed bytes out of the file, and writing snapshots.
//!
//! Removed bytes go by writing a new file, `<name>.$$$`, and renaming it over the mailbox; or, when only the last messages go, by cutting
//! the end. A crash in between needs no record of its own: the next opener finds a file that was rewritten, in which exactly
//! the messages that were not removed are left, and matches them.
//!
//! # Failure
//! The mailbox stays as it was; what is marked removed stays so.

use super::{Mailbox, MailboxError};
use crate::disk::{self, Handle, Open};
use crate::index::journal::Seen;
use crate::index::snapshot::Records;
use crate::index::{journal, snapshot};
use crate::mbx::record::{Record, flag};
use std::io;
use std::time::Duration;
use zerocopy::byteorder::little_endian::U64;

/// Files up to this size are rewritten at once.
const REWRITE_AT_ONCE: u64 = 16 << 20;
/// Larger ones when removed bytes reach this much and a fifth of the file.
const REMOVED_BYTES_MAX: u64 = 8 << 20;
/// How much is copied at once.
const PIECE: u64 = 1 << 20;

impl Mailbox {
    /// Is it time to take removed bytes out? `idle`: nobody used the mailbox for a minute.
    pub(super) fn removal_is_due(&self, idle: bool) -> bool {
        if self.expunged == 0 {
            return false;
        }
        let size = self.meta.end;
        let removed: u64 =
            self.records.iter().filter(|r| r.has(flag::EXPUNGED)).map(|r| u64::from(r.stored.get())).sum();
        let first = self.records.iter().position(|r| r.has(flag::EXPUNGED)).unwrap_or(0);
        let only_last = self.records.len() - first == self.expunged;
        size <= REWRITE_AT_ONCE
            || only_last
            || removed >= REMOVED_BYTES_MAX.max(size / 5)
            || (idle && removed >= size / 100)
    }

    /// Takes removed bytes out if it is time; for mailboxes that nobody uses, and before an export (`all`).
    pub fn tidy(&mut self, all: bool, patience: Duration) -> Result<(), MailboxError> {
        self.flush(patience)?;
        if self.expunged > 0 && (all || self.removal_is_due(true)) {
            let held = crate::lock::acquire(&*self.disk.clone(), &self.file, Open::Change, patience)?;
            self.refresh_locked(&*held)?;
            self.compact(&*held)?;
        }
        Ok(())
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
        match self.disk.unlink(&temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
            _ => {}
        }
        let new = self.disk.open(&temporary, Open::CreateNew)?;
        // The new file is locked before it gets the name, so that nobody comes in between the rename and the snapshot.
        if !new.try_lock()? {
            return Err(MailboxError::Locked(temporary.to_string()));
        }
        let copied = copy(file, &*new, extents).and_then(|()| new.sync());
        let renamed = copied
            .and_then(|()| self.disk.copy_owner(&self.file, &temporary))
            .and_then(|()| self.disk.rename(&temporary, &self.file));
        if let Err(error) = renamed {
            let _ = self.disk.unlink(&temporary);
            return Err(error.into());
        }
        self.disk.sync_dir(&self.file.parent())?;
        Ok(Seen { stamp: new.stamp()?, taken: self.disk.now() })
    }

    fn take_over(&mut self, records: Vec<Record>, end: u64, seen: Seen) -> Result<(), MailboxError> {
        self.records = Records::from_vec(records);
        self.expunged = 0;
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
        disk::write_new(&*disk, &temporary, &header)?;
        disk.rename(&temporary, &journal)?;
        disk.sync_dir(&self.file.parent())?;
        self.names_unsynced = false;
        let (stamp, _) = disk.stat(&journal)?;
        self.journal = Some((stamp.size, stamp.inode));
        self.journal_unsynced = false;
        // From now on the records are those of the file, shared with the page cache.
        let opened = snapshot::open(disk.map(&rsx)?);
        let (_, records) = opened.ok_or(MailboxError::Changed)?;
        self.records = records;
        Ok(())
    }
}

fn copy(from: &dyn Handle, to: &dyn Handle, extents: &[(u64, u64)]) -> io::Result<()> {
    let mut piece = Vec::with_capacity(PIECE as usize);
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
