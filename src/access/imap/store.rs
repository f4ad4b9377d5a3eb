//! STORE (RFC 3501 §6.4.6): changing flags.

use super::command::{Flag, Numbering, Store, StoreOperation};
use super::outcome::{Done, Failed, Outcome, done};
use super::reply;
use super::sequence::Numbers;
use super::session::Session;
use super::sync::{Marks, News, View};
use crate::session::connection::Blocking;
use layout::lock::PATIENCE;
use layout::mailbox::{FlagChange, Mailbox, MailboxError};
use layout::mbx::record::flag;
use std::io::Write as _;

/// Flags and keywords as the engine takes them.
pub fn split(flags: &[Flag]) -> (u32, Vec<String>) {
    let (mut bits, mut keywords) = (0, Vec::new());
    for flag in flags {
        match flag {
            Flag::Keyword(name) => keywords.push(name.clone()),
            flag => bits |= bit(flag),
        }
    }
    (bits, keywords)
}

/// The bit of a system flag; none for `\Recent` and keywords.
pub fn bit(flag: &Flag) -> u32 {
    match flag {
        Flag::Seen => flag::SEEN,
        Flag::Answered => flag::ANSWERED,
        Flag::Flagged => flag::FLAGGED,
        Flag::Deleted => flag::DELETED,
        Flag::Draft => flag::DRAFT,
        Flag::Recent | Flag::Keyword(_) => 0,
    }
}

fn change_of(operation: StoreOperation, flags: &[Flag]) -> FlagChange {
    let (bits, keywords) = split(flags);
    match operation {
        StoreOperation::Add => FlagChange { set: bits, set_keywords: keywords, ..FlagChange::default() },
        StoreOperation::Remove => {
            FlagChange { clear: bits, clear_keywords: keywords, ..FlagChange::default() }
        }
        StoreOperation::Replace => FlagChange {
            set: bits,
            clear: flag::CLIENT,
            set_keywords: keywords,
            clear_all_keywords: true,
            ..FlagChange::default()
        },
    }
}

/// What became of a STORE.
struct Stored {
    /// What others changed before.
    news: News,
    /// A keyword that is new to the mailbox.
    keywords: News,
    marks: Vec<Marks>,
    /// Messages that had changed: they were left alone.
    modified: Vec<u32>,
}

impl Session {
    /// STORE and UID STORE.
    pub(super) fn store(&mut self, out: &mut Blocking<'_>, store: &Store) -> Outcome {
        let numbering = store.numbering;
        if store.unchanged_since.is_some() {
            self.begin_condstore(out)?;
        }
        let view = self.changeable()?;
        if view.reader.is_some() && store.flags.iter().any(|flag| *flag != Flag::Seen) {
            return Err(Failed::public());
        }
        if store.unchanged_since.is_some() && !view.has_modseq() {
            return Err(Failed::Bad("changes are not numbered in this mailbox".to_owned()));
        }
        let ranges = view.select(numbering, &store.set)?;
        if ranges.is_empty() {
            return done("STORE completed, of no message");
        }
        let wanted: usize = ranges.iter().map(|range| range.len()).sum();
        let uids = view.uid_ranges(&ranges);
        let stored = self.change(store, uids)?;
        self.tell(out, &stored.news)?;
        self.tell(out, &stored.keywords)?;
        let view = self.selected()?;
        let mut line = Vec::new();
        // A client that counts changes must learn the new number even if it knows the flags (RFC 7162 §3.1.3).
        let numbers_only = store.silent && view.enabled.condstore && view.has_modseq();
        for marks in stored.marks.iter().filter(|_| !store.silent || numbers_only) {
            line.clear();
            write_stored(view, &mut line, marks, numbering, store.silent);
            out.write_all(&line)?;
        }
        let modified = modified(view, &stored.modified, numbering);
        // A UID that no message has is no mistake (RFC 3501 §6.4.8).
        if numbering == Numbering::Sequence && stored.marks.len() + stored.modified.len() < wanted {
            return Err(Failed::expunged());
        }
        Ok(Done { code: modified, text: "STORE completed" })
    }

    /// Changes the flags of the messages in these ranges of UIDs, but for those that changed since.
    fn change(&mut self, store: &Store, uids: Vec<(u32, u32)>) -> Result<Stored, Failed> {
        let view = self.selected()?;
        let change = change_of(store.operation, &store.flags);
        let open = view.open.clone();
        let stored = open.with(|mailbox| -> Result<Stored, MailboxError> {
            let (mut uids, mut modified) = (uids, Vec::new());
            if let Some(since) = store.unchanged_since {
                mailbox.refresh(PATIENCE)?;
                (uids, modified) = unchanged(mailbox, &uids, since);
            }
            let news = view.change_flags(mailbox, &uids, &change, PATIENCE)?;
            // A keyword that is new to the mailbox is told before it is seen.
            let keywords = if view.keywords().len() != mailbox.keywords().len() {
                view.update(mailbox, false)
            } else {
                News::default()
            };
            let records = uids.iter().flat_map(|(first, last)| mailbox.range(*first, *last));
            let marks: Vec<Marks> = records.filter_map(|record| view.marks(record)).collect();
            Ok(Stored { news, keywords, marks, modified })
        });
        Ok(stored?)
    }
}

/// Parts the messages in these ranges: those whose last change is not above `since`, as ranges, and the others.
fn unchanged(mailbox: &Mailbox, uids: &[(u32, u32)], since: u64) -> (Vec<(u32, u32)>, Vec<u32>) {
    let records = uids.iter().flat_map(|(first, last)| mailbox.range(*first, *last));
    let (same, other): (Vec<_>, Vec<_>) = records.partition(|record| record.modseq.get() <= since);
    let uid = |record: &layout::mbx::record::Record| record.uid.get();
    (
        same.into_iter().map(|record| (uid(record), uid(record))).collect(),
        other.into_iter().map(uid).collect(),
    )
}

/// `* 2 FETCH (...)` with flags, change number, or both.
fn write_stored(view: &View, line: &mut Vec<u8>, marks: &Marks, numbering: Numbering, silent: bool) {
    if numbering == Numbering::Uid && !silent {
        return view.write_fetch_marks(line, marks);
    }
    line.extend_from_slice(b"* ");
    reply::number(line, u64::from(marks.number));
    line.extend_from_slice(b" FETCH (");
    if numbering == Numbering::Uid || view.enabled.qresync {
        line.extend_from_slice(b"UID ");
        reply::number(line, u64::from(marks.uid));
        line.push(b' ');
    }
    if silent {
        line.extend_from_slice(b"MODSEQ (");
        reply::number(line, marks.modseq);
        line.push(b')');
    } else {
        view.write_marks(line, marks);
        view.write_modseq(line, marks.modseq);
    }
    line.extend_from_slice(b")\r\n");
}

/// `MODIFIED 7,9`: which messages were left alone; nothing if none were.
fn modified(view: &View, uids: &[u32], numbering: Numbering) -> String {
    if uids.is_empty() {
        return String::new();
    }
    let number = |uid: &u32| view.uids().binary_search(uid).ok().map(|index| index as u32 + 1);
    let numbers = match numbering {
        Numbering::Uid => Numbers::of_sorted(uids.iter().copied()),
        Numbering::Sequence => Numbers::of_sorted(uids.iter().filter_map(number)),
    };
    let mut code = b"MODIFIED ".to_vec();
    numbers.write(&mut code);
    String::from_utf8_lossy(&code).into_owned()
}
