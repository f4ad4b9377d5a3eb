//! The stored bytes of a new message.
//!
//! Separator line, header, the lines that IMail adds at the header's end, body, one empty line. Every line that could be taken for a
//! separator gets a `>`; how many did is kept in the index, and serving takes them off again.
//!
//! A message that lies in a file (a large one in the spool) is never read into memory whole: its body is passed through in
//! pieces, once to count and checksum and once to write.
//!
//! # Failure
//! Only reading the source can fail.

use super::header;
use super::record::{Record, flag};
use super::scan::count_bare_lf;
use super::separator;
use crate::disk::Handle;
use crate::limits::{HEADER_MAX, SEPARATOR_MAX};
use crate::name::SpoolId;
use std::io;
use std::sync::Arc;
use zerocopy::byteorder::little_endian::{U16, U32, U64};

/// How much of a file is passed through at once.
const PIECE: usize = 256 << 10;
/// How much of a message is read at first to find its header.
const HEAD_FIRST: usize = 16 << 10;
/// How many times as much is read when that was not enough.
const HEAD_GROWTH: usize = 8;

/// The bytes of a message as it came in, shared by all who get a copy.
#[derive(Clone)]
pub enum Source {
    /// In memory.
    Bytes(Arc<[u8]>),
    /// In a file, from an offset on.
    File(Arc<dyn Handle>, u64, u64),
}

impl Source {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Source::Bytes(bytes) => bytes.len() as u64,
            Source::File(_, _, length) => *length,
        }
    }

    /// Is there nothing?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Up to `length` bytes from `offset` on.
    pub fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let length = (length as u64).min(self.len().saturating_sub(offset)) as usize;
        match self {
            Source::Bytes(bytes) => Ok(bytes[offset as usize..offset as usize + length].to_vec()),
            Source::File(handle, start, _) => {
                let mut piece = vec![0; length];
                crate::disk::read_exact_at(&**handle, &mut piece, start + offset)?;
                Ok(piece)
            }
        }
    }

    /// The begin of the message: its whole header with what was read behind it, at most [`HEADER_MAX`] bytes. Headers are short and messages are
    /// not, so little is read first.
    pub fn head(&self) -> io::Result<Vec<u8>> {
        let mut length = HEAD_FIRST;
        loop {
            let begin = self.read(0, length)?;
            if begin.len() < length || length >= HEADER_MAX || header::end(&begin).is_some() {
                return Ok(begin);
            }
            length = (length * HEAD_GROWTH).min(HEADER_MAX);
        }
    }
}

/// Why a message is stored, which decides what is added to it.
#[derive(Clone, Debug)]
pub enum Way {
    /// Final local delivery.
    Delivery {
        /// The address given in RCPT, for `X-RCPT-TO`.
        recipient: String,
        /// The message's id, for `X-IMail-ThreadID`.
        id: SpoolId,
        /// The rule that matched, for `X-IMail-Rule`.
        rule: Option<String>,
    },
    /// Stored by a mail client: APPEND, COPY or MOVE.
    Client,
}

/// A message to be stored.
#[derive(Clone)]
pub struct NewMessage {
    /// The message.
    pub source: Source,
    /// Envelope sender, empty for the null sender.
    pub sender: String,
    /// Delivery time, or the date that APPEND gave: Unix seconds.
    pub date: i64,
    /// How it came here.
    pub way: Way,
    /// Its first flags, bits of [`flag::CLIENT`].
    pub flags: u32,
    /// Its first keywords, by name.
    pub keywords: Vec<String>,
}

/// A message ready to be written: `head`, then the body of the source from `body_at` on, then `tail`.
pub struct Composed {
    head: Vec<u8>,
    source: Source,
    body_at: u64,
    tail: &'static [u8],
    /// Its facts, with an offset of 0 and no keywords.
    pub record: Record,
}

/// Lines that never come in with a message: they would forge marks or numbers.
const DROPPED_ALWAYS: [&str; 3] = ["status", "x-status", "x-uidl"];
/// Lines that only the delivering server writes.
const DROPPED_AT_DELIVERY: [&str; 2] = ["return-path", "x-imail-threadid"];

impl Composed {
    /// Composes `message` under its UID.
    pub fn new(message: &NewMessage, uid: u32) -> io::Result<Composed> {
        let begin = message.source.head()?;
        let range = header_range(&begin);
        let body_at = range.end as u64;
        let header = &begin[range];
        let header = match header {
            b"\n" | b"\r\n" => &b""[..],
            [fields @ .., b'\n', b'\r', b'\n'] | [fields @ .., b'\n', b'\n'] => &header[..fields.len() + 1],
            _ => header,
        };

        let mut head = separator::line(&message.sender, message.date).into_bytes();
        head.extend_from_slice(b"\r\n");
        let separator = head.len();
        let delivery = matches!(message.way, Way::Delivery { .. });
        if delivery {
            push_field(&mut head, "Return-Path", &format!("<{}>", message.sender));
        }
        let mut escapes = 0;
        copy_header(&mut head, header, delivery, &mut escapes);
        if let Way::Delivery { recipient, rule, .. } = &message.way {
            if let Some(rule) = rule {
                push_field(&mut head, "X-IMail-Rule", rule);
            }
            push_field(&mut head, "X-RCPT-TO", &format!("<{recipient}>"));
        }
        let status_at = head.len() - separator;
        push_field(&mut head, "Status", if message.flags & flag::SEEN != 0 { "R" } else { "U" });
        let status = head.len() - separator - status_at;
        push_field(&mut head, "X-UIDL", &uid.to_string());
        if let Way::Delivery { id, .. } = &message.way {
            push_field(&mut head, "X-IMail-ThreadID", &id.to_string());
        }
        head.extend_from_slice(b"\r\n");
        let content = &head[separator..];
        let fingerprint = header::facts(content, false).fingerprint;
        let mut bare_lf = count_bare_lf(0, content);
        let header = content.len();

        let mut composed =
            Composed { head, source: message.source.clone(), body_at, tail: b"\r\n", record: empty_record() };
        let (mut length, mut last) = (0u64, b'\n');
        escapes += composed.pass_body(&mut |piece| {
            length += piece.len() as u64;
            bare_lf += count_bare_lf(last, piece);
            last = piece.last().copied().unwrap_or(last);
            Ok(())
        })?;
        if last != b'\n' {
            composed.tail = b"\r\n\r\n";
        }
        let stored = composed.head.len() as u64 + length + composed.tail.len() as u64;
        let stored = u32::try_from(stored).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let seen = message.flags & flag::SEEN != 0;
        let mut flags = message.flags & flag::CLIENT | flag::HAS_LETTER | flag::UIDL_IS_UID;
        if seen {
            flags |= flag::LETTER_READ;
        }
        composed.record = Record {
            uid: U32::new(uid),
            flags: U32::new(flags),
            stored: U32::new(stored),
            header: U32::new(header as u32),
            bare_lf: U32::new(bare_lf),
            escapes: U32::new(escapes),
            date: U32::new(u32::try_from(message.date).unwrap_or(0)),
            fingerprint: U64::new(fingerprint),
            status_at: U32::new(status_at as u32),
            separator: U16::new(separator as u16),
            trim: composed.tail.len() as u8,
            status: status as u8,
            ..composed.record
        };
        Ok(composed)
    }

    /// Hands all bytes to `sink`, in order; the same bytes each time.
    pub fn pass(&self, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        sink(&self.head)?;
        self.pass_body(sink)?;
        sink(self.tail)
    }

    /// Hands the body over, escaped; answers with the number of escapes.
    fn pass_body(&self, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<u32> {
        match &self.source {
            Source::Bytes(bytes) => escape(&bytes[self.body_at as usize..], true, sink),
            Source::File(..) => {
                let (mut escapes, mut at, mut at_line) = (0, self.body_at, true);
                while at < self.source.len() {
                    let mut piece = self.source.read(at, PIECE)?;
                    // Pieces end with a line, so that no separator is cut in two; a line longer than a piece is no separator behind its begin.
                    if at + (piece.len() as u64) < self.source.len()
                        && let Some(end) = memchr::memrchr(b'\n', &piece)
                        && piece.len() - end < SEPARATOR_MAX
                    {
                        piece.truncate(end + 1);
                    }
                    escapes += escape(&piece, at_line, sink)?;
                    at += piece.len() as u64;
                    at_line = piece.ends_with(b"\n");
                }
                Ok(escapes)
            }
        }
    }
}

/// Where the header of an incoming message begins and ends. A message whose first line is no header field is all body, but for a
/// separator line of another mailbox in front, which some clients send along.
fn header_range(begin: &[u8]) -> std::ops::Range<usize> {
    let foreign = begin.starts_with(b"From ") || begin.starts_with(b">From ");
    let start = if foreign { memchr::memchr(b'\n', begin).map_or(begin.len(), |end| end + 1) } else { 0 };
    let begin = &begin[start..];
    if !separator::begins_header(begin) {
        return start..start;
    }
    start..start + header::end(begin).unwrap_or(begin.len())
}

fn copy_header(head: &mut Vec<u8>, header: &[u8], delivery: bool, escapes: &mut u32) {
    let mut dropping = true;
    for (_, line) in header::lines(header) {
        // Lines that are no fields belong to the field before them; in front of the first field they would hide the separator.
        if separator::begins_header(line) {
            let named = |names: &[&str]| names.iter().any(|name| header::field(line, name).is_some());
            dropping = named(&DROPPED_ALWAYS) || (delivery && named(&DROPPED_AT_DELIVERY));
        }
        if dropping {
            continue;
        }
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        if separator::needs_escape(text.strip_suffix(b"\r").unwrap_or(text)) {
            head.push(b'>');
            *escapes += 1;
        }
        head.extend_from_slice(line);
        if !line.ends_with(b"\n") {
            head.extend_from_slice(b"\r\n");
        }
    }
}

/// Adds a header line; whatever could break it is left out of the value.
fn push_field(head: &mut Vec<u8>, name: &str, value: &str) {
    head.extend_from_slice(name.as_bytes());
    head.extend_from_slice(b": ");
    head.extend(value.bytes().filter(|b| !b.is_ascii_control()));
    head.extend_from_slice(b"\r\n");
}

/// Hands `bytes` to `sink` with a `>` before each line that could be taken for a separator.
fn escape(bytes: &[u8], at_line: bool, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<u32> {
    let (mut escapes, mut done) = (0, 0);
    for hit in memchr::memmem::find_iter(bytes, b"From ") {
        let quoted = bytes[..hit].iter().rev().take_while(|b| **b == b'>').count();
        let begin = hit - quoted;
        if !(if begin == 0 { at_line } else { bytes[begin - 1] == b'\n' }) {
            continue;
        }
        let rest = &bytes[begin..];
        let line = &rest[..memchr::memchr(b'\n', rest).unwrap_or(rest.len()).min(SEPARATOR_MAX)];
        if separator::needs_escape(line.strip_suffix(b"\r").unwrap_or(line)) {
            sink(&bytes[done..begin])?;
            sink(b">")?;
            done = begin;
            escapes += 1;
        }
    }
    sink(&bytes[done..])?;
    Ok(escapes)
}

fn empty_record() -> Record {
    Record {
        uid: U32::new(0),
        flags: U32::new(0),
        offset: U64::new(0),
        stored: U32::new(0),
        header: U32::new(0),
        bare_lf: U32::new(0),
        escapes: U32::new(0),
        date: U32::new(0),
        modseq: U64::new(1),
        fingerprint: U64::new(0),
        keywords: U32::new(0),
        status_at: U32::new(0),
        separator: U16::new(0),
        trim: 0,
        status: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mbx::testing::file;
    use crate::mbx::view::{Reader, serve};
    use crate::mbx::{scan, separator::Dialect};
    use proptest::prelude::*;

    #[test]
    fn the_head_holds_the_whole_header() {
        for size in [10, HEAD_FIRST - 3, HEAD_FIRST, HEAD_FIRST * HEAD_GROWTH, HEADER_MAX + 1] {
            let mut text = b"X: ".to_vec();
            text.resize(size, b'x');
            text.extend_from_slice(b"\r\n\r\n");
            text.resize(size + 3 * HEADER_MAX, b'.');
            let begin = Source::Bytes(text.clone().into()).head().unwrap();
            assert_eq!(header::end(&begin), header::end(&text).filter(|end| *end <= HEADER_MAX), "{size}");
            assert!(begin.len() <= HEADER_MAX);
        }
    }

    fn message(text: &[u8], way: Way) -> NewMessage {
        NewMessage {
            source: Source::Bytes(text.into()),
            sender: "a@example.com".into(),
            date: 1_700_000_000,
            way,
            flags: 0,
            keywords: Vec::new(),
        }
    }

    fn bytes(composed: &Composed) -> Vec<u8> {
        let mut all = Vec::new();
        composed
            .pass(&mut |piece| {
                all.extend_from_slice(piece);
                Ok(())
            })
            .unwrap();
        all
    }

    fn delivery() -> Way {
        Way::Delivery { recipient: "u@example.jp".into(), id: SpoolId(0xabc), rule: None }
    }

    #[test]
    fn delivered_lines_stand_last_and_forged_ones_are_dropped() {
        let text = b"Return-Path: <evil@x>\r\nSubject: s\r\nStatus: R\r\nX-UIDL: 5\r\n more\r\nX-IMail-ThreadID: 1\r\nTo: u\r\n\r\nFrom <x> y\r\nFrom here\r\n";
        let stored = bytes(&Composed::new(&message(text, delivery()), 77).unwrap());
        let stored = String::from_utf8(stored).unwrap();
        let (line, rest) = stored.split_once("\r\n").unwrap();
        assert!(line.starts_with("From <a@example.com> "));
        assert_eq!(
            rest,
            "Return-Path: <a@example.com>\r\nSubject: s\r\nTo: u\r\nX-RCPT-TO: <u@example.jp>\r\nStatus: U\r\nX-UIDL: 77\r\nX-IMail-ThreadID: 0000000000000abc\r\n\r\n>From <x> y\r\nFrom here\r\n\r\n"
        );
    }

    #[test]
    fn a_message_in_a_file_is_composed_to_the_same_bytes() {
        let mut text = b"Subject: s\r\n\r\n".to_vec();
        for i in 0..60_000 {
            text.extend_from_slice(if i % 1000 == 0 { b"From <a> b\r\n" } else { b"some words\r\n" });
        }
        let in_memory = Composed::new(&message(&text, Way::Client), 5).unwrap();
        let mut padded = b"1234567".to_vec();
        padded.extend_from_slice(&text);
        let source = Source::File(file(&padded).into(), 7, text.len() as u64);
        let in_file = Composed::new(&NewMessage { source, ..message(b"", Way::Client) }, 5).unwrap();
        assert!(bytes(&in_memory) == bytes(&in_file));
        assert_eq!(in_memory.record, in_file.record);
        assert_eq!(in_file.record.escapes.get(), 60);
    }

    proptest! {
        #[test]
        fn what_is_stored_is_found_again_as_one_message(text in "(Subject: x\r?\n|From <a> b\n|>From |From a Thu Apr 29 23:45:10 2008\r\n|Status: U\n|\r?\n|[a-z: \n]{0,9}){0,12}", delivered: bool) {
            let way = if delivered { delivery() } else { Way::Client };
            let composed = Composed::new(&message(text.as_bytes(), way), 9).unwrap();
            let stored = bytes(&composed);
            let twice = [stored.clone(), stored.clone()].concat();
            let scan = scan::whole(&*file(&twice), i64::MAX).unwrap();
            prop_assert_eq!(scan.dialect, Dialect::Bracket);
            prop_assert_eq!(scan.messages.len(), 2);
            let found = scan.messages[0].record;
            let ours = composed.record;
            prop_assert_eq!(found.stored, ours.stored);
            prop_assert_eq!((found.header, found.fingerprint, found.status_at), (ours.header, ours.fingerprint, ours.status_at));
            prop_assert_eq!(scan.messages[0].uidl, header::Uidl::Number(9));
            let content = &stored[ours.content() as usize..][..ours.content_len() as usize];
            let served = serve(&ours, content.to_vec(), Reader::Imap);
            prop_assert_eq!(served.len() as u64, ours.imap_size());
        }

        #[test]
        fn a_client_gets_back_the_body_it_gave(body in "(From <a> b\r\n|>From <a>\r\n|>>From c Thu Apr 29 23:45:10 2008\r\n|x\r\n|\r\n){0,9}") {
            let text = format!("Subject: s\r\n\r\n{body}");
            let composed = Composed::new(&message(text.as_bytes(), Way::Client), 9).unwrap();
            let stored = bytes(&composed);
            let content = &stored[composed.record.content() as usize..][..composed.record.content_len() as usize];
            let served = serve(&composed.record, content.to_vec(), Reader::Imap);
            prop_assert_eq!(String::from_utf8(served).unwrap(), format!("Subject: s\r\nX-UIDL: 9\r\n\r\n{body}"));
        }
    }
}
