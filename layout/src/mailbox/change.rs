//! Flags, keywords, and removing.
//!
//! A change is one journal frame, whatever the number of messages; clients see it at once. [`Mailbox::flush`] makes flags durable and
//! writes the `Status` letters: it is called about once a second, so a power cut costs at most the last second of flags. A removal is
//! durable before it is answered. Letters are written [`LETTERS_AT_ONCE`] at a time, so that others get at the mailbox in between.
//!
//! # Failure
//! A change that cannot be written down is not made.

use super::{Mailbox, MailboxError, Unsynced};
use crate::disk::{Handle, Open};
use crate::index::journal::{Entry, Range, Seen};
use crate::lock;
use crate::mbx::header;
use crate::mbx::record::{Record, flag};
use std::time::Duration;

/// The most letters that are written by one [`Mailbox::flush`]: some hundredths of a second of work for the disk.
pub const LETTERS_AT_ONCE: usize = 4096;
/// A flush writes a snapshot when whoever opens the mailbox would have to make more changes again than this part of its records, one in so many,
const REPLAYED_PART: usize = 8;
/// and more than so many, which cost less than the snapshot does.
const REPLAYED_AT_LEAST: usize = 4096;

/// How flags change (RFC 3501 §6.4.6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlagChange {
    /// Bits of [`flag::CLIENT`] to set.
    pub set: u32,
    /// Bits to clear, before setting.
    pub clear: u32,
    /// Keywords to set.
    pub set_keywords: Vec<String>,
    /// Keywords to clear, before setting.
    pub clear_keywords: Vec<String>,
    /// Clear all keywords first.
    pub clear_all_keywords: bool,
}

impl Mailbox {
    /// Takes the lock and takes over what others changed. `None`: there is no file, so there is nothing to change.
    pub(super) fn lock_for_change(
        &mut self,
        patience: Duration,
    ) -> Result<Option<Box<dyn Handle>>, MailboxError> {
        let handle = match lock::acquire(&*self.disk.clone(), &self.file, Open::Change, patience) {
            Ok(handle) => handle,
            Err(lock::LockError::Io(e)) if e.kind() == std::io::ErrorKind::NotFound => {
                self.vanish()?;
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        self.refresh_locked(&*handle)?;
        Ok(Some(handle))
    }

    /// Changes the flags of the messages in `uids`; those that are gone are passed over.
    pub fn change_flags(
        &mut self,
        uids: &[Range],
        change: &FlagChange,
        patience: Duration,
    ) -> Result<(), MailboxError> {
        let Some(_held) = self.lock_for_change(patience)? else { return Ok(()) };
        let set_keywords = self.keyword_bits(&change.set_keywords)?;
        let clear_keywords = match change.clear_all_keywords {
            true => u32::MAX,
            false => self.known_keyword_bits(&change.clear_keywords),
        };
        let (set, clear) = (change.set & flag::CLIENT, change.clear & flag::CLIENT);
        let changes = |record: &Record| {
            let (flags, keywords) = (record.flags.get(), record.keywords.get());
            (flags & !clear | set) != flags || (keywords & !clear_keywords | set_keywords) != keywords
        };
        let uids = self.compress(uids, changes);
        if uids.is_empty() {
            return Ok(());
        }
        let modseq = self.meta.modseq + 1;
        self.write(&Entry::Flags { modseq, set, clear, set_keywords, clear_keywords, uids })?;
        self.checkpoint_if_due(false)
    }

    /// The bits of those keywords that the table has.
    pub fn known_keyword_bits(&self, names: &[String]) -> u32 {
        let position =
            |name: &String| self.meta.keywords.iter().position(|known| known.eq_ignore_ascii_case(name));
        names.iter().filter_map(position).fold(0, |bits, bit| bits | 1 << bit)
    }

    /// The messages in `uids` for which `wanted` holds, as few ranges as possible.
    fn compress(&self, uids: &[Range], wanted: impl Fn(&Record) -> bool) -> Vec<Range> {
        let mut ranges: Vec<Range> = Vec::new();
        for (first, last) in uids {
            // A range goes on over numbers that no message has.
            let mut open = false;
            for record in self.range(*first, *last) {
                let uid = record.uid.get();
                match ranges.last_mut() {
                    _ if !wanted(record) => open = false,
                    Some(range) if open => range.1 = uid,
                    _ => {
                        ranges.push((uid, uid));
                        open = true;
                    }
                }
            }
        }
        ranges
    }

    /// Removes the messages in `uids` for all clients, durably. The bytes leave the file now or later.
    pub fn expunge(&mut self, uids: &[Range], patience: Duration) -> Result<(), MailboxError> {
        let Some(held) = self.lock_for_change(patience)? else { return Ok(()) };
        let uids = self.compress(uids, |_| true);
        if uids.is_empty() {
            return Ok(());
        }
        self.set_aside()?;
        let modseq = self.meta.modseq + 1;
        let (journal, made) = self.open_journal()?;
        self.write_to(&*journal, &Entry::Expunge { modseq, uids })?;
        self.names_unsynced |= made;
        self.sync_journal(&*journal)?;
        // What is marked stays marked: a removal of bytes that fails is tried again later.
        if self.removal_is_quick() && self.compact(&*held).is_err() {
            self.suspect = true;
        }
        Ok(())
    }

    /// Makes what the journal says durable, and its name.
    fn sync_journal(&mut self, journal: &dyn Handle) -> Result<(), MailboxError> {
        let synced = journal.sync().and_then(|()| match self.names_unsynced {
            true => self.disk.sync_dir(&self.file.parent()),
            false => Ok(()),
        });
        if let Err(error) = synced {
            self.suspect = true;
            return Err(error.into());
        }
        self.unsynced = Unsynced::Nothing;
        self.names_unsynced = false;
        Ok(())
    }

    /// Messages up to `mark` are no longer recent; answers with the mark before. Not worth a sync.
    pub fn claim_recent(&mut self, patience: Duration) -> Result<u32, MailboxError> {
        let before = self.meta.recent;
        let mark = self.meta.uid_next.saturating_sub(1);
        if mark > before
            && !self.records.is_empty()
            && let Some(_held) = self.lock_for_change(patience)?
        {
            self.write(&Entry::Recent(mark))?;
        }
        Ok(before)
    }

    /// Is there anything for [`Mailbox::flush`] to do?
    pub fn needs_flush(&self) -> bool {
        self.unsynced != Unsynced::Nothing || self.has_letters()
    }

    /// Would something be lost with this mailbox that the next one of the same file does not find out by itself?
    pub fn holds_changes(&self) -> bool {
        self.unsynced == Unsynced::Changes || self.has_letters()
    }

    /// Are there letters that are to be written?
    pub fn has_letters(&self) -> bool {
        self.records.totals().letters_due > 0
    }

    /// How many calls of [`Mailbox::flush`] write down all that is to be written now.
    pub fn flushes(&self) -> usize {
        match self.needs_flush() {
            true => 1 + self.records.len() / LETTERS_AT_ONCE,
            false => 0,
        }
    }

    /// Makes flag changes durable and writes letters of `Status` lines. If there are more than [`LETTERS_AT_ONCE`] of them, something is left
    /// for the next call.
    pub fn flush(&mut self, patience: Duration) -> Result<(), MailboxError> {
        let Some(held) = self.lock_for_change(patience)? else {
            self.unsynced = Unsynced::Nothing;
            return Ok(());
        };
        if self.unsynced != Unsynced::Nothing {
            let (journal, made) = self.open_journal()?;
            self.names_unsynced |= made;
            self.sync_journal(&*journal)?;
        }
        if self.has_letters() {
            self.write_letters(&*held)?;
        }
        let replay_max = (self.records.len() / REPLAYED_PART).max(REPLAYED_AT_LEAST);
        self.checkpoint_if_due(!self.has_letters() && self.records.changes() > replay_max)
    }

    /// Replaces one letter in the `Status` line of each message whose mark changed (RFC-less: `U` unread, `R` read, as IMail has them).
    fn write_letters(&mut self, file: &dyn Handle) -> Result<(), MailboxError> {
        self.set_aside()?;
        let mut done: Vec<Range> = Vec::new();
        // Is the record before among them?
        let mut open = false;
        let (mut index, mut left) = (self.letters_from, LETTERS_AT_ONCE);
        while left > 0
            && let Some(record) = self.records.get(index)
        {
            let uid = record.uid.get();
            let due = record.letter_is_due();
            left -= usize::from(due);
            let written = due && write_letter(file, record, record.has(flag::SEEN))?;
            self.suspect |= due && !written;
            match done.last_mut() {
                _ if !written => {}
                Some(range) if open => range.1 = uid,
                _ => done.push((uid, uid)),
            }
            open = written;
            index += 1;
        }
        if left < LETTERS_AT_ONCE {
            file.sync()?;
            let seen = Seen { stamp: file.stamp()?, taken: self.disk.now() };
            self.write(&Entry::Letters(seen, done))?;
        }
        self.letters_from = if index < self.records.len() { index } else { 0 };
        Ok(())
    }
}

/// Writes the letter of one message. `false`: the line is not the one that the index remembers, so somebody else changed it.
pub(super) fn write_letter(file: &dyn Handle, record: &Record, read: bool) -> std::io::Result<bool> {
    let at = record.content() + u64::from(record.status_at.get());
    let mut line = vec![0; usize::from(record.status)];
    crate::disk::read_exact_at(file, &mut line, at)?;
    let Some(letter) = header::facts(&line, false).status.and_then(|status| status.letter) else {
        return Ok(false);
    };
    file.write_at(if read { b"R" } else { b"U" }, at + letter as u64)?;
    Ok(true)
}
