//! Reading messages, without a lock: every read checks that it got what the index promised.

use super::{Mailbox, MailboxError};
use crate::disk::{Handle, Open, read_exact_at};
use crate::mbx::header;
use crate::mbx::record::Record;
use crate::mbx::view::{Reader, Serving, serve};
use std::io;
use std::sync::Arc;

/// How much of a header is enough to check its fingerprint.
const ENOUGH: usize = 8192;
/// How much of a message is read at once by [`Content`].
pub const PIECE: usize = 256 << 10;
/// How many bytes around a message's end show that it is one: its last byte, and the begin of the next separator.
const AROUND: usize = 6;

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

/// The stored header and body of a message, as [`serve`] takes them.
pub fn read_content(handle: &dyn Handle, record: &Record) -> Result<Vec<u8>, MailboxError> {
    let stored = record.stored.get() as usize;
    let mut bytes = vec![0; stored + AROUND - 1];
    let read = handle.read_at(&mut bytes, record.offset.get())?;
    bytes.truncate(read);
    if read < stored || stored == 0 {
        return Err(MailboxError::Changed);
    }
    ends_here(&bytes[stored - 1..])?;
    bytes.truncate(stored);
    check(record, &bytes)?;
    bytes.truncate(stored.saturating_sub(usize::from(record.trim)));
    let begin = usize::from(record.separator.get());
    bytes.drain(..begin.min(bytes.len()));
    Ok(bytes)
}

/// A message as a reader sees it, read piece by piece: large ones take no more memory than small ones.
pub struct Content {
    handle: Arc<dyn Handle>,
    record: Record,
    serving: Serving,
    /// What was served already and not fetched.
    ready: Vec<u8>,
    /// Where in the stored content the next piece begins, and where the last one ends.
    at: u64,
    end: u64,
}

impl Content {
    /// A message, or its header and the first `lines` lines of its body.
    pub fn open(
        handle: Arc<dyn Handle>,
        record: &Record,
        reader: Reader,
        lines: Option<u32>,
    ) -> Result<Content, MailboxError> {
        let (record, serving, length) = (*record, Serving::new(record, reader), record.content_len());
        let mut content = Content { handle, record, serving, ready: Vec::new(), at: 0, end: length };
        if lines.is_none() && length <= PIECE as u64 {
            content.ready = serve(&record, read_content(&*content.handle, &record)?, reader);
            content.at = length;
            return Ok(content);
        }
        verify(&*content.handle, &record)?;
        if let Some(lines) = lines {
            content.end = content.end_of_lines(lines)?;
        }
        Ok(content)
    }

    /// Is the next piece in memory already?
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty() || self.at >= self.end
    }

    /// Leaves out the first `count` bytes. Nothing was fetched yet.
    pub fn skip(&mut self, count: u64) -> Result<(), MailboxError> {
        if self.at == 0
            && let Some(at) = self.serving.skip(count)
        {
            self.at = at.min(self.end);
            return Ok(());
        }
        let mut left = count;
        loop {
            let skipped = left.min(self.ready.len() as u64);
            self.ready.drain(..skipped as usize);
            left -= skipped;
            if left == 0 || self.at >= self.end {
                return Ok(());
            }
            self.fill()?;
        }
    }

    /// The next piece; `None` behind the last one.
    pub fn next_piece(&mut self) -> Result<Option<Vec<u8>>, MailboxError> {
        while self.ready.is_empty() && self.at < self.end {
            self.fill()?;
        }
        Ok(Some(std::mem::take(&mut self.ready)).filter(|piece| !piece.is_empty()))
    }

    fn fill(&mut self) -> Result<(), MailboxError> {
        let piece = self.stored(self.at)?;
        self.at += piece.len() as u64;
        self.serving.push(&piece, &mut self.ready);
        if self.at >= self.end {
            self.serving.finish(&mut self.ready);
        }
        Ok(())
    }

    /// The stored bytes from `at` on, up to a piece.
    fn stored(&self, at: u64) -> Result<Vec<u8>, MailboxError> {
        let mut piece = vec![0; self.end.saturating_sub(at).min(PIECE as u64) as usize];
        read_exact_at(&*self.handle, &mut piece, self.record.content() + at).map_err(unexpected_end)?;
        Ok(piece)
    }

    /// Where the first lines of the body end.
    fn end_of_lines(&self, lines: u32) -> Result<u64, MailboxError> {
        let mut at = u64::from(self.record.header.get()).min(self.end);
        let mut left = lines as usize;
        while left > 0 && at < self.end {
            let piece = self.stored(at)?;
            let mut ends = memchr::memchr_iter(b'\n', &piece);
            if let Some(end) = ends.nth(left - 1) {
                return Ok(at + end as u64 + 1);
            }
            left -= memchr::memchr_iter(b'\n', &piece).count();
            at += piece.len() as u64;
        }
        Ok(at)
    }
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
    let mut around = [0; AROUND];
    let n = handle.read_at(&mut around, record.end() - 1)?;
    ends_here(&around[..n])
}

/// Is the first of these bytes the last one of a message?
fn ends_here(around: &[u8]) -> Result<(), MailboxError> {
    match around {
        // Somebody may be writing the next separator this moment.
        [b'\n', rest @ ..] if b"From ".starts_with(rest) => Ok(()),
        [_] => Ok(()),
        _ => Err(MailboxError::Changed),
    }
}
