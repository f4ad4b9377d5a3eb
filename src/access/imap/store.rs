//! STORE (RFC 3501 §6.4.6): changing flags.

use super::command::{Flag, Numbering, StoreOperation};
use super::outcome::{Failed, Outcome, done};
use super::sequence::SequenceSet;
use super::session::Session;
use super::sync::{Marks, News};
use crate::session::connection::Blocking;
use layout::lock::PATIENCE;
use layout::mailbox::{FlagChange, MailboxError};
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

impl Session {
    /// STORE and UID STORE.
    pub(super) fn store(
        &mut self,
        out: &mut Blocking<'_>,
        numbering: Numbering,
        set: &SequenceSet,
        operation: StoreOperation,
        silent: bool,
        flags: &[Flag],
    ) -> Outcome {
        let view = self.changeable()?;
        let ranges = view.select(numbering, set)?;
        if ranges.is_empty() {
            return done("STORE completed, of no message");
        }
        let change = change_of(operation, flags);
        let uids = view.uid_ranges(&ranges);
        let wanted: usize = ranges.iter().map(|range| range.len()).sum();
        let open = view.open.clone();
        type Changed = (News, News, Vec<Marks>);
        let (news, keywords, marks) = open.with(|mailbox| -> Result<Changed, MailboxError> {
            let news = view.change_flags(mailbox, &uids, &change, PATIENCE)?;
            // A keyword that is new to the mailbox is told before it is seen.
            let keywords = if view.keywords().len() != mailbox.keywords().len() {
                view.update(mailbox, false)
            } else {
                News::default()
            };
            let records = uids.iter().flat_map(|(first, last)| mailbox.range(*first, *last));
            let marks: Vec<Marks> = records.filter_map(|record| view.marks(record)).collect();
            Ok((news, keywords, marks))
        })?;
        self.tell(out, &news)?;
        self.tell(out, &keywords)?;
        let view = self.selected()?;
        let mut line = Vec::new();
        for marks in marks.iter().filter(|_| !silent) {
            line.clear();
            match numbering {
                Numbering::Uid => view.write_fetch_marks(&mut line, marks),
                Numbering::Sequence => {
                    write!(line, "* {} FETCH (", marks.number)?;
                    view.write_marks(&mut line, marks);
                    line.extend_from_slice(b")\r\n");
                }
            }
            out.write_all(&line)?;
        }
        // A UID that no message has is no mistake (RFC 3501 §6.4.8).
        if numbering == Numbering::Sequence && marks.len() < wanted {
            return Err(Failed::expunged());
        }
        done("STORE completed")
    }
}
