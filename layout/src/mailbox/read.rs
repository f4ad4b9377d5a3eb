//! Reading messages, without a lock: every read checks that it got what the index promised.

use super::{Mailbox, MailboxError};
use crate::disk::{Handle, Open, read_exact_at};
use crate::mbx::header;
use crate::mbx::record::Record;
use std::io;
use std::sync::Arc;

/// How much of a header is enough to check its fingerprint.
const ENOUGH: usize = 8192;

impl Mailbox {
    /// The open file that belongs to the present records. It stays good for them when the mailbox is rewritten by rename.
    pub fn reader(&mut self) -> Result<Arc<dyn Handle>, MailboxError> {
        let inode = self.meta.seen.stamp.inode;
        if let Some((known, handle)) = &self.reader
            && *known == inode
        {
            return Ok(handle.clone());
        }
        let handle: Arc<dyn Handle> = match self.disk.open(&self.file, Open::Read) {
            Ok(handle) => handle.into(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(MailboxError::Changed),
            Err(e) => return Err(e.into()),
        };
        if handle.stamp()?.inode != inode {
            return Err(MailboxError::Changed);
        }
        self.reader = Some((inode, handle.clone()));
        Ok(handle)
    }
}

fn unexpected_end(error: io::Error) -> MailboxError {
    if error.kind() == io::ErrorKind::UnexpectedEof { MailboxError::Changed } else { MailboxError::Io(error) }
}

/// The stored header and body of a message, as [`crate::mbx::view::serve`] takes them.
pub fn read_content(handle: &dyn Handle, record: &Record) -> Result<Vec<u8>, MailboxError> {
    let mut bytes = vec![0; record.stored.get() as usize];
    read_exact_at(handle, &mut bytes, record.offset.get()).map_err(unexpected_end)?;
    check(record, &bytes)?;
    check_end(handle, record)?;
    let begin = usize::from(record.separator.get());
    bytes.truncate(bytes.len() - usize::from(record.trim));
    bytes.drain(..begin.min(bytes.len()));
    Ok(bytes)
}

/// The stored header of a message, with its empty line.
pub fn read_header(handle: &dyn Handle, record: &Record) -> Result<Vec<u8>, MailboxError> {
    let begin = usize::from(record.separator.get());
    let mut bytes = vec![0; begin + record.header.get() as usize];
    read_exact_at(handle, &mut bytes, record.offset.get()).map_err(unexpected_end)?;
    check(record, &bytes)?;
    bytes.drain(..begin);
    Ok(bytes)
}

/// Is this message still where it was, and does the next one or the file's end follow?
pub(super) fn verify(handle: &dyn Handle, record: &Record) -> Result<(), MailboxError> {
    verify_header(handle, record)?;
    check_end(handle, record)
}

/// Is this message's header still where it was?
pub(super) fn verify_header(handle: &dyn Handle, record: &Record) -> Result<(), MailboxError> {
    let length = (usize::from(record.separator.get()) + record.header.get() as usize)
        .min(usize::from(record.separator.get()) + ENOUGH);
    let mut bytes = vec![0; length];
    read_exact_at(handle, &mut bytes, record.offset.get()).map_err(unexpected_end)?;
    check(record, &bytes)
}

/// `bytes` begin at the separator line and hold at least the header, or enough of it.
fn check(record: &Record, bytes: &[u8]) -> Result<(), MailboxError> {
    let header = bytes.get(usize::from(record.separator.get())..).ok_or(MailboxError::Changed)?;
    let header = &header[..header.len().min(record.header.get() as usize)];
    if !bytes.starts_with(b"From ") || header::facts(header, false).fingerprint != record.fingerprint.get() {
        return Err(MailboxError::Changed);
    }
    Ok(())
}

/// The message must end where the next one begins, or the file does.
fn check_end(handle: &dyn Handle, record: &Record) -> Result<(), MailboxError> {
    let mut around = [0; 6];
    let n = handle.read_at(&mut around, record.end() - 1)?;
    match &around[..n] {
        // Somebody may be writing the next separator this moment.
        [b'\n', rest @ ..] if b"From ".starts_with(rest) => Ok(()),
        [_] => Ok(()),
        _ => Err(MailboxError::Changed),
    }
}
