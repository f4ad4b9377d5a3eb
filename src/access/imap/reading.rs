//! Message bytes as IMAP serves them, read outside of the mailbox's lock.
//!
//! A [`Slice`] is some messages with the file that their records belong to. Every read checks that it got what the record promises; if another
//! program changed the file, the mailbox is looked at once more.
//!
//! # Failure
//! `None` for a message that is gone; [`Failed`] if the disk fails.
//!
//! # Limits
//! Large messages are in memory only up to [`ROOM`] bytes together, for all clients: who comes later waits for [`Room`]. Nobody waits for a
//! client while he has it, so that each one's turn comes. The file is not mapped: another program may shorten it at any moment, and a page behind
//! the end kills the process.

use super::outcome::Failed;
use super::sync;
use crate::mailbox::Open;
use layout::disk::Handle;
use layout::lock::PATIENCE;
use layout::mailbox::{MailboxError, read_content, read_header};
use layout::mbx::record::Record;
use layout::mbx::view::{Reader, serve};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Messages of at least so many bytes are large.
pub const LARGE: u64 = 1 << 20;
/// How many bytes of large messages are in memory at once. One that is larger is there alone.
pub const ROOM: u64 = 64 << 20;

/// Messages are looked up in slices of so many, so that others get at the mailbox in between.
pub const SLICE: usize = 256;

/// Some messages of a mailbox at one moment.
pub struct Slice {
    /// One for each UID that was asked for; `None` for messages that are gone.
    pub records: Vec<Option<Record>>,
    /// The file; `None` for a mailbox without one, or one that is being changed.
    pub file: Option<Arc<dyn Handle>>,
}

/// What was read of a message.
pub struct Bytes {
    /// The record that fits the bytes.
    pub record: Record,
    /// What the client sees.
    pub bytes: Vec<u8>,
    /// The file that the record belongs to.
    pub file: Arc<dyn Handle>,
    /// Kept as long as the bytes; only large messages need it.
    pub room: Option<Room>,
}

/// How much of a message is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Nothing: the record is enough.
    Record,
    /// The header.
    Header,
    /// All of it.
    Whole,
}

impl Slice {
    /// The messages of these UIDs, ascending.
    pub fn take(open: &Open, uids: &[u32]) -> Slice {
        open.with(|mailbox| Slice { records: sync::records(mailbox, uids), file: mailbox.reader().ok() })
    }

    /// Reads a message, or as much of it as `part` says. Blocks until there is room for it: no other large message may be held meanwhile.
    pub fn read(&self, open: &Open, record: &Record, part: Part) -> Result<Option<Bytes>, Failed> {
        match self.file.as_ref().map(|file| read(file, record, part)) {
            Some(Ok(bytes)) => return Ok(Some(bytes)),
            None | Some(Err(MailboxError::Changed)) => {}
            Some(Err(error)) => return Err(error.into()),
        }
        let uid = record.uid.get();
        let again = open.with(|mailbox| {
            mailbox.refresh(PATIENCE)?;
            let record = mailbox.message(uid).copied();
            Ok::<_, MailboxError>(record.zip(mailbox.reader().ok()))
        })?;
        let Some((record, file)) = again else { return Ok(None) };
        match read(&file, &record, part) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(MailboxError::Changed) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn read(file: &Arc<dyn Handle>, record: &Record, part: Part) -> Result<Bytes, MailboxError> {
    let length = record.content_len();
    let room = (part == Part::Whole && length >= LARGE).then(|| Room::take(length));
    let bytes = match part {
        Part::Record => Vec::new(),
        Part::Header => serve(record, read_header(&**file, record)?, Reader::Imap),
        Part::Whole => serve(record, read_content(&**file, record)?, Reader::Imap),
    };
    Ok(Bytes { record: *record, bytes, file: file.clone(), room })
}

/// What is left of [`ROOM`].
static LEFT: Mutex<u64> = Mutex::new(ROOM);
/// Somebody gave room back.
static GIVEN: Condvar = Condvar::new();

/// Room for a large message, until it is dropped.
pub struct Room(u64);

impl Room {
    fn take(bytes: u64) -> Room {
        let bytes = bytes.min(ROOM);
        let left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = GIVEN.wait_while(left, |left| *left < bytes).unwrap_or_else(PoisonError::into_inner);
        *left -= bytes;
        Room(bytes)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        *LEFT.lock().unwrap_or_else(PoisonError::into_inner) += self.0;
        GIVEN.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    #[test]
    fn large_messages_wait_for_room() {
        let (held, most) = (AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for size in [ROOM / 3, ROOM / 2, ROOM, ROOM * 2, 1].repeat(4) {
                let (held, most) = (&held, &most);
                scope.spawn(move || {
                    let room = Room::take(size);
                    let now = held.fetch_add(room.0, Ordering::SeqCst) + room.0;
                    most.fetch_max(now, Ordering::SeqCst);
                    thread::yield_now();
                    held.fetch_sub(room.0, Ordering::SeqCst);
                });
            }
        });
        assert_eq!(most.load(Ordering::SeqCst), ROOM);
    }
}
