//! Finding the messages of a mailbox file.
//!
//! The file is read once, in large pieces, from a given offset to its end. Borders are found by the substring search for
//! `From ` at a line's begin, and only candidates are looked at closely.
//!
//! # Failure
//! [`ScanError::Foreign`] for files that are not ours; no byte of those is ever changed.
//!
//! # Limits
//! A message has at most 4 GiB, a file at most [`MESSAGES_MAX`] messages.

use super::header::{self, Uidl};
use super::record::{Record, flag};
use super::separator::{self, Dialect, Foreign, Head};
use crate::disk::Handle;
use crate::limits::{HEADER_MAX, MESSAGES_MAX, SEPARATOR_MAX};
use memchr::memmem::Finder;
use std::io;
use zerocopy::byteorder::little_endian::{U16, U32, U64};

/// How much is read at once.
const PIECE: usize = 1 << 20;
/// How much of the line after a separator is needed to judge it: a field name and its colon.
const NEXT_LINE: usize = 128;
/// How many bytes before a candidate are kept, to see whether the line before is empty.
const BEFORE: usize = 4;
/// A file that does not end with a line end is being written by somebody; after this time it is taken as it is.
pub const UNFINISHED_FOR: i64 = 60_000_000_000;

/// Why a file could not be scanned.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// Not an IMail mailbox.
    #[error(transparent)]
    Foreign(#[from] Foreign),
    /// A bound was passed.
    #[error("{0}")]
    Limit(&'static str),
    /// The disk failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A message found, without UID: [`Record::uid`] is 0.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Its place and facts.
    pub record: Record,
    /// What its `X-UIDL` line says.
    pub uidl: Uidl,
}

/// The messages of a file.
#[derive(Debug)]
pub struct Scan {
    /// How messages are told apart in it.
    pub dialect: Dialect,
    /// The messages in the order of the file.
    pub messages: Vec<Found>,
    /// Where the last complete message ends; less than the file's size only while somebody else is writing.
    pub end: u64,
    /// Where the first run of NUL bytes begins, as a power cut leaves them in files of others.
    pub nul: Option<u64>,
}

/// Finds the messages of a whole file.
pub fn whole(file: &dyn Handle, now: i64) -> Result<Scan, ScanError> {
    let mut window = Window::new(file, 0)?;
    let start = window.ahead(0, SEPARATOR_MAX)?;
    let (dialect, first) = match Dialect::detect(start) {
        Head::Ours(dialect) => (dialect, 0),
        Head::Foreign(foreign) => return Err(foreign.into()),
        Head::Unknown if start.contains(&0) => return Err(Foreign::NoSeparator.into()),
        Head::Unknown => match window.next_separator(0, Dialect::Bracket, &mut 0)? {
            Some(first) => (Dialect::Bracket, first),
            None => return Err(Foreign::NoSeparator.into()),
        },
    };
    let mut scan = Scan { dialect, messages: Vec::new(), end: first, nul: None };
    scan.run(&mut window, first, now)?;
    Ok(scan)
}

/// Finds the messages that were appended behind `from`. `None` if no message begins there: the file was changed otherwise.
pub fn tail(file: &dyn Handle, dialect: Dialect, from: u64, now: i64) -> Result<Option<Scan>, ScanError> {
    let mut window = Window::new(file, from)?;
    let start = window.ahead(from, SEPARATOR_MAX + NEXT_LINE)?;
    let (line, next) = split_line(start);
    if !dialect.is_separator(line, next, true) && !Dialect::Bracket.is_separator(line, next, true) {
        return Ok(None);
    }
    let mut scan = Scan { dialect, messages: Vec::new(), end: from, nul: None };
    scan.run(&mut window, from, now)?;
    Ok(Some(scan))
}

impl Scan {
    fn run(&mut self, window: &mut Window, first: u64, now: i64) -> Result<(), ScanError> {
        let mut at = first;
        while at < window.size {
            if self.messages.len() >= MESSAGES_MAX {
                return Err(ScanError::Limit("more messages than a mailbox can have"));
            }
            let (found, end) = message(window, at, self.dialect)?;
            if end == window.size && !window.ends_with_line()? && now - window.modified < UNFINISHED_FOR {
                return Ok(());
            }
            self.messages.push(found);
            self.end = end;
            self.nul = window.nul;
            at = end;
        }
        Ok(())
    }
}

/// Reads the message that begins at `at` and finds its end.
fn message(window: &mut Window, at: u64, dialect: Dialect) -> Result<(Found, u64), ScanError> {
    let start = window.ahead(at, SEPARATOR_MAX)?;
    let separator = memchr::memchr(b'\n', start).map_or(start.len(), |end| end + 1);
    let line = trim_line_end(&start[..separator]);
    let mut date = separator::date(line);
    let content = at + separator as u64;

    let mut bytes = window.ahead(content, 4096)?;
    if header::end(bytes).is_none() {
        bytes = window.ahead(content, HEADER_MAX)?;
    }
    let mut facts = header::facts(bytes, date.is_none());
    if date.is_none() {
        date = facts.date;
    }
    let ends_bare = |status: &header::StatusLine| matches!(bytes[status.at..status.at + status.length], [.., before, b'\n'] if before != b'\r');
    let status_bare = u32::from(facts.status.as_ref().is_some_and(ends_bare));

    let mut bare_lf = 0;
    let end = window.next_separator(content, dialect, &mut bare_lf)?.unwrap_or(window.size);
    // A header without an empty line ends where the message does.
    facts.length = facts.length.min((end - content) as usize);
    let stored = u32::try_from(end - at).map_err(|_| ScanError::Limit("a message of more than 4 GiB"))?;

    let (mut trim, mut trim_bare) = match window.back(end, BEFORE.min((end - content) as usize))? {
        [.., b'\n', b'\r', b'\n'] => (2, 0),
        [.., b'\n', b'\n'] => (1, 1),
        _ => (0, 0),
    };
    // The empty line at the end of the header belongs to the message.
    if end - content < facts.length as u64 + trim {
        (trim, trim_bare) = (0, 0);
    }
    bare_lf -= trim_bare;
    let mut record = Record {
        uid: U32::new(0),
        flags: U32::new(facts.flags),
        offset: U64::new(at),
        stored: U32::new(stored),
        header: U32::new(facts.length as u32),
        bare_lf: U32::new(0),
        escapes: U32::new(0),
        date: U32::new(u32::try_from(date.unwrap_or(window.modified / 1_000_000_000)).unwrap_or(0)),
        modseq: U64::new(1),
        fingerprint: U64::new(facts.fingerprint),
        keywords: U32::new(0),
        status_at: U32::new(0),
        separator: U16::new(separator as u16),
        trim: trim as u8,
        status: 0,
    };
    if let Some(status) =
        facts.status.filter(|status| status.at + status.length <= facts.length && status.length < 256)
    {
        record.status_at = U32::new(status.at as u32);
        record.status = status.length as u8;
        record.set(flag::HAS_LETTER, status.letter.is_some());
        record.set(flag::LETTER_READ | flag::SEEN, status.read);
        record.set(flag::STATUS_BARE, status_bare > 0);
        bare_lf -= status_bare;
    }
    record.bare_lf = U32::new(bare_lf);
    Ok((Found { record, uidl: facts.uidl }, end))
}

fn trim_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |end| end + 1);
    (trim_line_end(&bytes[..end]), &bytes[end..])
}

/// Line feeds that no carriage return precedes; `before` is the byte in front of `bytes`.
pub fn count_bare_lf(before: u8, bytes: &[u8]) -> u32 {
    let Some(first) = bytes.first() else { return 0 };
    let mut count = u32::from(*first == b'\n' && before != b'\r');
    // Sums of at most 255 stay in single bytes, which lets the compiler count many at once.
    for (previous, current) in bytes[..bytes.len() - 1].chunks(255).zip(bytes[1..].chunks(255)) {
        let pairs = previous.iter().zip(current);
        let sum =
            pairs.fold(0u8, |sum, (p, c)| sum.wrapping_add(u8::from(*c == b'\n') & u8::from(*p != b'\r')));
        count += u32::from(sum);
    }
    count
}

/// Where two NUL bytes stand side by side first; a single one may be part of a message in an odd encoding.
fn nul_run(bytes: &[u8]) -> Option<usize> {
    memchr::memchr_iter(0, bytes).find(|at| bytes.get(at + 1) == Some(&0))
}

/// A piece of a file, moved forward as the scan goes on.
struct Window<'a> {
    file: &'a dyn Handle,
    size: u64,
    modified: i64,
    bytes: Vec<u8>,
    start: u64,
    finder: Finder<'static>,
    /// See [`Scan::nul`].
    nul: Option<u64>,
}

impl<'a> Window<'a> {
    fn new(file: &'a dyn Handle, start: u64) -> io::Result<Window<'a>> {
        let stamp = file.stamp()?;
        let finder = Finder::new(b"\nFrom ");
        let (size, modified) = (stamp.size, stamp.modified);
        Ok(Window { file, size, modified, bytes: Vec::new(), start, finder, nul: None })
    }

    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Makes `[from, to)` available, as far as the file goes, dropping what lies before `from - BEFORE` when it has to read.
    fn load(&mut self, from: u64, to: u64) -> io::Result<()> {
        let to = to.min(self.size);
        if from >= self.start && to <= self.end() {
            return Ok(());
        }
        let keep = from.saturating_sub(BEFORE as u64);
        if keep >= self.start && keep <= self.end() {
            self.bytes.drain(..(keep - self.start) as usize);
        } else {
            self.bytes.clear();
        }
        self.start = keep;
        let wanted = (to.max(self.end() + PIECE as u64).min(self.size) - self.start) as usize;
        let have = self.bytes.len();
        if wanted > have {
            self.bytes.resize(wanted, 0);
            let n = self.file.read_at(&mut self.bytes[have..], self.start + have as u64)?;
            self.bytes.truncate(have + n);
            if have + n < wanted {
                // The file was cut while we read it.
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if self.nul.is_none() {
                let begin = have.saturating_sub(1);
                self.nul = nul_run(&self.bytes[begin..]).map(|at| self.start + (begin + at) as u64);
            }
        }
        Ok(())
    }

    /// Up to `length` bytes from `from` on.
    fn ahead(&mut self, from: u64, length: usize) -> io::Result<&[u8]> {
        let to = (from + length as u64).min(self.size);
        self.load(from, to)?;
        Ok(&self.bytes[(from - self.start) as usize..(to.max(from) - self.start) as usize])
    }

    /// The `length` bytes before `end`, which the window has just passed.
    fn back(&mut self, end: u64, length: usize) -> io::Result<&[u8]> {
        self.load(end - length as u64, end)?;
        let begin = (end - length as u64 - self.start) as usize;
        Ok(&self.bytes[begin..begin + length])
    }

    fn ends_with_line(&mut self) -> io::Result<bool> {
        Ok(self.size == 0 || self.back(self.size, 1)? == b"\n")
    }

    /// The offset of the first separator whose line feed before it stands at or behind `from`; `bare_lf` grows by the bare line feeds
    /// in between, from `from` on.
    fn next_separator(&mut self, from: u64, dialect: Dialect, bare_lf: &mut u32) -> io::Result<Option<u64>> {
        let mut from = from;
        loop {
            self.load(from, from + PIECE as u64)?;
            let begin = (from - self.start) as usize;
            let before = begin.checked_sub(1).map_or(0, |i| self.bytes[i]);
            let Some(hit) = self.finder.find(&self.bytes[begin..]) else {
                // The last bytes may be the begin of a separator that the next piece completes.
                let stop = if self.end() == self.size {
                    self.bytes.len()
                } else {
                    self.bytes.len().saturating_sub(6).max(begin)
                };
                *bare_lf += count_bare_lf(before, &self.bytes[begin..stop]);
                if self.end() == self.size {
                    return Ok(None);
                }
                from = self.start + stop as u64;
                self.load(from, from + 2 * PIECE as u64)?;
                continue;
            };
            *bare_lf += count_bare_lf(before, &self.bytes[begin..begin + hit + 1]);
            let at = from + hit as u64 + 1;
            let after_empty = matches!(&self.bytes[..begin + hit], [.., b'\n'] | [.., b'\n', b'\r']);
            let (line, next) = split_line(self.ahead(at, SEPARATOR_MAX + NEXT_LINE)?);
            if dialect.is_separator(line, next, after_empty) {
                return Ok(Some(at));
            }
            from = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mbx::testing::file;

    fn borders(text: &[u8]) -> Vec<(u64, u64)> {
        let scan = whole(&*file(text), i64::MAX).unwrap();
        scan.messages.iter().map(|m| (m.record.offset.get(), m.record.end())).collect()
    }

    #[test]
    fn borders_of_small_files() {
        assert_eq!(borders(b""), []);
        assert_eq!(borders(b"From <a@b> x\r\nA: b\r\n\r\ntext\r\n"), [(0, 28)]);
        // No empty line is needed before a separator; prose behind one is no separator.
        let two =
            b"From <a@b> x\nA: b\n\nFrom <x@y> wrote:\nFrom here on\n>From <q> x\nA: b\nFrom <> x\nB: c\n\n";
        assert_eq!(borders(two), [(0, 67), (67, 83)]);
        // A head of text is kept out.
        assert_eq!(borders(b"some text\nFrom <> x\nB: c\n\n"), [(10, 26)]);
        let classic = b"From a@b Thu Apr 29 23:45:10 2008\nA: b\n\ntext\nFrom a@b Thu Apr 29 23:45:10 2008\n\nFrom c@d Thu Apr 29 23:45:10 2008\nX: y\n\n";
        assert_eq!(borders(classic).len(), 2);
    }

    #[test]
    fn foreign_files_are_refused() {
        for text in
            [&b"*mbx*\r\n"[..], b"JMF6", b"hello", b"\0\0\0\nFrom <> x\nA: b\n\n", b"From ???@??? x\n"]
        {
            assert!(matches!(whole(&*file(text), i64::MAX), Err(ScanError::Foreign(_))), "{text:?}");
        }
    }

    #[test]
    fn an_unfinished_tail_waits() {
        let text = b"From <> x\nA: b\n\nFrom <> x\nA: b\n\nhalf a li";
        let young = whole(&*file(text), 0).unwrap();
        assert_eq!((young.messages.len(), young.end), (1, 16));
        assert_eq!(borders(text).len(), 2);
    }

    #[test]
    fn borders_do_not_depend_on_where_pieces_end() {
        let mut text = Vec::new();
        let mut expected = Vec::new();
        for i in 0..40 {
            let begin = text.len() as u64;
            text.extend_from_slice(b"From <a@b> Thu Apr 29 23:45:10 2008\r\nX-UIDL: 5\r\n\r\n");
            let line = if i % 2 == 0 { &b"From x\n"[..] } else { b"line\r\n" };
            while text.len() < begin as usize + 130_000 + i * 7 {
                text.extend_from_slice(line);
            }
            text.extend_from_slice(b"\r\n");
            expected.push((begin, text.len() as u64));
        }
        assert_eq!(borders(&text), expected);
        let scan = whole(&*file(&text), i64::MAX).unwrap();
        for message in scan.messages {
            let record = message.record;
            let content = &text[record.content() as usize..][..record.content_len() as usize];
            assert_eq!(record.bare_lf.get(), count_bare_lf(b'\n', content));
        }
    }

    #[test]
    fn runs_of_nul_are_noticed_wherever_a_piece_ends() {
        let head = b"From <> x\nA: b\n\n";
        for at in [17, 100, PIECE - 1, PIECE, PIECE + 17, PIECE + 18, 3 * PIECE - 1] {
            let mut text = head.to_vec();
            text.resize(4 * PIECE, b'.');
            text.push(b'\n');
            text[at] = 0;
            assert_eq!(whole(&*file(&text), i64::MAX).unwrap().nul, None, "{at}");
            text[at + 1] = 0;
            assert_eq!(whole(&*file(&text), i64::MAX).unwrap().nul, Some(at as u64), "{at}");
        }
    }

    #[test]
    fn bare_line_feeds() {
        assert_eq!(count_bare_lf(0, b"\n\r\n\n"), 2);
        assert_eq!(count_bare_lf(b'\r', b"\n\r\n\n"), 1);
        let long: Vec<u8> = b"\n".repeat(1000);
        assert_eq!(count_bare_lf(0, &long), 1000);
    }
}
