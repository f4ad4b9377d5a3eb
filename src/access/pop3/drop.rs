//! The maildrop: one session's view of a mailbox, taken at login.
//!
//! Numbers, sizes and ids stay as they were at login, whatever other sessions and programs do. Contents are read when they are asked for,
//! by UID: a message that is gone is [`MailboxError::Gone`], never another one's text.
//!
//! All functions here that read or change the mailbox block on the disk, but [`Maildrop::glance`].
//!
//! # Failure
//! [`MailboxError`].
//!
//! # Limits
//! 24 bytes a message. Large messages are read in pieces.

use crate::mailbox::Open;
use layout::disk::Handle;
use layout::index::journal::Range;
use layout::lock::PATIENCE;
use layout::mailbox::{Content, FlagChange, Mailbox, MailboxError, Refreshed, read_header};
use layout::mbx::header::uidl_text;
use layout::mbx::record::{Record, flag};
use layout::mbx::view::Reader;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// How long a look at the file before a read waits for another program: the state that we know is good enough, every read is checked.
const LOOK_PATIENCE: Duration = Duration::from_millis(100);
/// Messages up to this size are read without making room for other work first: their bytes are most likely in memory.
const SMALL: u64 = 64 << 10;

/// A message of the view.
struct Entry {
    uid: u32,
    uidl: Uidl,
    deleted: bool,
    size: u64,
}

/// Where a message's unique id comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Uidl {
    /// The UID in decimal is what the `X-UIDL` line says.
    Uid,
    /// The `X-UIDL` line says something else: it has to be read.
    Text,
    /// There is none.
    None,
}

/// A maildrop.
pub struct Maildrop {
    mailbox: Arc<Open>,
    uidvalidity: u32,
    entries: Vec<Entry>,
    /// The ids that are read from messages, by index; after the first UIDL.
    texts: Option<HashMap<usize, Vec<u8>>>,
    /// UIDs of messages that may still wait in the connection.
    answered: Vec<u32>,
    /// UIDs of messages that were sent and are not marked read yet.
    sent: Vec<u32>,
    retrieved: usize,
}

impl Maildrop {
    /// Takes the view. A mailbox that another program holds for [`PATIENCE`] is [`MailboxError::Locked`].
    pub fn open(mailbox: Arc<Open>) -> Result<Maildrop, MailboxError> {
        let (uidvalidity, entries) = mailbox.with(|state| {
            if state.refresh(PATIENCE)? == Refreshed::Busy {
                return Err(MailboxError::Locked(state.file().to_string()));
            }
            let entries = state.messages().map(entry).collect();
            Ok((state.uidvalidity(), entries))
        })?;
        Ok(Maildrop {
            mailbox,
            uidvalidity,
            entries,
            texts: None,
            answered: Vec::new(),
            sent: Vec::new(),
            retrieved: 0,
        })
    }

    /// The index of message `number` of the client, if there is one and it is not marked for removal.
    pub fn find(&self, number: u32) -> Option<usize> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.entries.get(index).filter(|entry| !entry.deleted).map(|_| index)
    }

    /// The messages that are not marked for removal: index and bytes.
    pub fn sizes(&self) -> impl Iterator<Item = (usize, u64)> {
        self.sizes_from(0)
    }

    /// The same from an index on.
    pub fn sizes_from(&self, first: usize) -> impl Iterator<Item = (usize, u64)> {
        let left = self.entries.iter().enumerate().skip(first).filter(|(_, entry)| !entry.deleted);
        left.map(|(index, entry)| (index, entry.size))
    }

    /// How many messages there are, and how many bytes, without those marked for removal.
    pub fn totals(&self) -> (usize, u64) {
        self.sizes().fold((0, 0), |(count, bytes), (_, size)| (count + 1, bytes + size))
    }

    /// Bytes of a message.
    pub fn size(&self, index: usize) -> u64 {
        self.entries.get(index).map_or(0, |entry| entry.size)
    }

    /// Marks a message for removal at QUIT.
    pub fn delete(&mut self, index: usize) {
        if let Some(entry) = self.entries.get_mut(index) {
            entry.deleted = true;
        }
    }

    /// Takes back all marks.
    pub fn reset(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.deleted = false);
    }

    /// Removes what is marked, for everybody, durably. Answers with how many messages that were. What another session removed before is
    /// passed over.
    pub fn expunge(&self) -> Result<usize, MailboxError> {
        let (count, uids) = ranges(self.entries.iter().filter(|entry| entry.deleted).map(|entry| entry.uid));
        if count > 0 {
            self.mailbox.with(|state| {
                state.refresh(PATIENCE)?;
                match self.is_same(state) {
                    true => state.expunge(&uids, PATIENCE),
                    false => Ok(()),
                }
            })?;
        }
        Ok(count)
    }

    /// A message with CRLF line ends, or its header and the first `lines` lines of its body. If another program moves the message at
    /// that moment, a second look finds it.
    pub fn content(&self, index: usize, lines: Option<u32>) -> Result<Content, MailboxError> {
        self.reading(index, |handle, record| Content::open(handle, record, Reader::Pop3, lines))
    }

    /// The same for a small message that can be had without waiting for anybody.
    pub fn glance(&self, index: usize, lines: Option<u32>) -> Option<Content> {
        let entry = self.entries.get(index).filter(|entry| entry.size <= SMALL)?;
        let (handle, record) = self.mailbox.glance(|state| self.find_record(state, entry.uid))?.ok()?;
        Content::open(handle, &record, Reader::Pop3, lines).ok()
    }

    fn reading<T>(
        &self,
        index: usize,
        read: impl Fn(Arc<dyn Handle>, &Record) -> Result<T, MailboxError>,
    ) -> Result<T, MailboxError> {
        let uid = self.entries.get(index).ok_or(MailboxError::Gone)?.uid;
        let look = || {
            let (handle, record) = self.locate(uid)?;
            read(handle, &record)
        };
        match look() {
            Err(MailboxError::Changed) => look(),
            outcome => outcome,
        }
    }

    /// Where a message is now.
    fn locate(&self, uid: u32) -> Result<(Arc<dyn Handle>, Record), MailboxError> {
        self.mailbox.with(|state| {
            state.refresh(LOOK_PATIENCE)?;
            self.find_record(state, uid)
        })
    }

    fn find_record(&self, state: &mut Mailbox, uid: u32) -> Result<(Arc<dyn Handle>, Record), MailboxError> {
        if !self.is_same(state) {
            return Err(MailboxError::Gone);
        }
        let record = *state.message(uid).ok_or(MailboxError::Gone)?;
        Ok((state.reader()?, record))
    }

    /// Is it still the mailbox of the view? One that was removed and made anew gives the same UIDs to other messages.
    fn is_same(&self, state: &mut Mailbox) -> bool {
        state.uidvalidity() == self.uidvalidity
    }

    /// Remembers that a message was given to the connection.
    pub fn note_answered(&mut self, index: usize) {
        self.answered.extend(self.entries.get(index).map(|entry| entry.uid));
    }

    /// All that the connection was given went out: those messages count as read from now on. Answers with how many are still to be marked.
    pub fn note_sent(&mut self) -> usize {
        self.retrieved += self.answered.len();
        self.sent.append(&mut self.answered);
        self.sent.len()
    }

    /// How many messages were sent.
    pub fn retrieved(&self) -> usize {
        self.retrieved
    }

    /// Marks the messages that were sent as read, all with one change. If another program holds the mailbox they stay noted for the next time.
    pub fn mark_read(&mut self, patience: Duration) {
        if self.sent.is_empty() {
            return;
        }
        let change = FlagChange { set: flag::SEEN, ..FlagChange::default() };
        let outcome = self.mailbox.with(|state| {
            let unread = |uid: &u32| state.message(*uid).is_some_and(|record| !record.has(flag::SEEN));
            let (count, uids) = ranges(self.sent.iter().copied().filter(unread));
            match count > 0 && self.is_same(state) {
                true => state.change_flags(&uids, &change, patience),
                false => Ok(()),
            }
        });
        match outcome {
            Ok(()) => self.sent.clear(),
            Err(MailboxError::Locked(_)) => {}
            Err(error) => {
                tracing::warn!(mailbox = %self.mailbox.file(), %error, "read marks could not be written");
                self.sent.clear();
            }
        }
    }

    /// Is [`Maildrop::prepare_uidl`] still to be called?
    pub fn needs_uidl(&self) -> bool {
        self.texts.is_none()
    }

    /// How many messages the view has, those marked for removal among them.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// Reads the ids that only the messages tell, once a session. The text of an `X-UIDL` line counts if no message before has the
    /// same, and if it cannot be taken for an id that we make.
    pub fn prepare_uidl(&mut self) -> Result<(), MailboxError> {
        if self.texts.is_some() {
            return Ok(());
        }
        let mut taken: HashSet<Vec<u8>> = HashSet::new();
        let mut texts = HashMap::new();
        let made = format!("{}.", self.uidvalidity);
        for (index, _) in self.entries.iter().enumerate().filter(|(_, entry)| entry.uidl == Uidl::Text) {
            let text = match self.reading(index, |handle, record| read_header(&*handle, record)) {
                Ok(header) => uidl_text(&header).map(<[u8]>::to_vec),
                // It cannot be fetched either.
                Err(MailboxError::Gone) => None,
                Err(error) => return Err(error),
            };
            let usable = |text: &Vec<u8>| !self.is_uid(text) && !text.starts_with(made.as_bytes());
            if let Some(text) = text.filter(usable)
                && taken.insert(text.clone())
            {
                texts.insert(index, text);
            }
        }
        self.texts = Some(texts);
        Ok(())
    }

    /// Is this the id of a message whose `X-UIDL` line is its UID?
    fn is_uid(&self, text: &[u8]) -> bool {
        let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<u32>().ok());
        let entry = number.and_then(|number| {
            let index = self.entries.binary_search_by_key(&number, |entry| entry.uid).ok()?;
            self.entries.get(index)
        });
        entry.is_some_and(|entry| entry.uidl == Uidl::Uid && entry.uid.to_string().as_bytes() == text)
    }

    /// The unique id of a message (RFC 1939, UIDL): its `X-UIDL` text as IMail gave it, so that clients that leave mail on the server
    /// fetch nothing twice; else UIDVALIDITY and UID, which no number of IMail's equals. After [`Maildrop::prepare_uidl`].
    pub fn uidl(&self, index: usize) -> Vec<u8> {
        let Some(entry) = self.entries.get(index) else { return Vec::new() };
        match self.texts.as_ref().and_then(|texts| texts.get(&index)) {
            Some(text) => text.clone(),
            None if entry.uidl == Uidl::Uid => entry.uid.to_string().into_bytes(),
            None => format!("{}.{}", self.uidvalidity, entry.uid).into_bytes(),
        }
    }
}

fn entry(record: &Record) -> Entry {
    let uidl = match (record.has(flag::UIDL_IS_UID), record.has(flag::UIDL_TEXT)) {
        (true, _) => Uidl::Uid,
        (false, true) => Uidl::Text,
        (false, false) => Uidl::None,
    };
    Entry { uid: record.uid.get(), uidl, deleted: false, size: record.pop3_size() }
}

/// How many UIDs, and their ranges. Only direct neighbours share one, so that no message of which the view does not know is in it.
fn ranges(uids: impl Iterator<Item = u32>) -> (usize, Vec<Range>) {
    let mut ranges: Vec<Range> = Vec::new();
    let mut count = 0;
    for uid in uids {
        count += 1;
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(uid) => *last = uid,
            _ => ranges.push((uid, uid)),
        }
    }
    (count, ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_neighbours_share_a_range() {
        for (uids, count, expected) in [
            (&[][..], 0, vec![]),
            (&[5], 1, vec![(5, 5)]),
            (&[1, 2, 3, 5, 7, 8], 6, vec![(1, 3), (5, 5), (7, 8)]),
            (&[u32::MAX - 1, u32::MAX], 2, vec![(u32::MAX - 1, u32::MAX)]),
        ] {
            assert_eq!(ranges(uids.iter().copied()), (count, expected));
        }
    }
}
