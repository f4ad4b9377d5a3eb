//! Message bytes as IMAP serves them, read outside of the mailbox's lock.
//!
//! A [`Slice`] is some messages with the file that their records belong to. Every read checks that it got what the record promises; if another
//! program changed the file, the mailbox is looked at once more.
//!
//! # Failure
//! `None` for a message that is gone; [`Failed`] if the disk fails.

use super::outcome::Failed;
use super::sync;
use crate::mailbox::Open;
use layout::disk::Handle;
use layout::lock::PATIENCE;
use layout::mailbox::{MailboxError, read_content, read_header};
use layout::mbx::record::Record;
use layout::mbx::view::{Reader, serve};
use std::sync::Arc;

/// Messages are looked up in slices of so many, so that others get at the mailbox in between.
pub const SLICE: usize = 256;

/// Some messages of a mailbox at one moment.
pub struct Slice {
    /// One for each UID that was asked for; `None` for messages that are gone.
    pub records: Vec<Option<Record>>,
    /// The file; `None` for a mailbox without one, or one that is being changed.
    pub file: Option<Arc<dyn Handle>>,
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

    /// Reads a message, or as much of it as `part` says. Answers with the record that fits the bytes.
    pub fn read(
        &self,
        open: &Open,
        record: &Record,
        part: Part,
    ) -> Result<Option<(Record, Vec<u8>)>, Failed> {
        match self.file.as_ref().map(|file| read(&**file, record, part)) {
            Some(Ok(bytes)) => return Ok(Some((*record, bytes))),
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
        match read(&*file, &record, part) {
            Ok(bytes) => Ok(Some((record, bytes))),
            Err(MailboxError::Changed) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn read(file: &dyn Handle, record: &Record, part: Part) -> Result<Vec<u8>, MailboxError> {
    let bytes = match part {
        Part::Record => return Ok(Vec::new()),
        Part::Header => read_header(file, record)?,
        Part::Whole => read_content(file, record)?,
    };
    Ok(serve(record, bytes, Reader::Imap))
}
