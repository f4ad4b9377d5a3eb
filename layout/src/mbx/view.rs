//! Stored bytes as clients see them.
//!
//! What is served is the message behind its separator line, without the empty line before the next one, with CRLF line ends.
//! IMAP does not see the `Status` line: its content must not change, and that letter does. POP3 sees it, as IMail serves it.
//! Lines that we escaped when storing lose their `>` again; messages that others stored are served as they are.

use super::record::{Record, flag};
use super::separator;

/// Who is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Without the `Status` line.
    Imap,
    /// With it.
    Pop3,
}

/// Turns the stored content of a message (header and body, [`Record::content_len`] bytes) into what a reader sees.
pub fn serve(record: &Record, content: Vec<u8>, reader: Reader) -> Vec<u8> {
    let mut serving = Serving::new(record, reader);
    if serving.plain {
        let mut content = content;
        if let Some(hidden) = serving.hidden_in(content.len() as u64) {
            content.drain(hidden);
        }
        return content;
    }
    let mut served = Vec::with_capacity(content.len() + record.bare_lf.get() as usize + 2);
    serving.push(&content, &mut served);
    serving.finish(&mut served);
    served
}

/// Serves a message whose stored bytes come in pieces.
#[derive(Debug)]
pub struct Serving {
    /// The line that the reader does not see, as a range of the stored content.
    hidden: Option<(u64, u64)>,
    escaped: bool,
    /// Nothing but that line differs from what is stored.
    plain: bool,
    /// How much of the stored content was served.
    at: u64,
    /// The begin of a line whose end did not come yet.
    rest: Vec<u8>,
    /// The begin of the present line was served already.
    in_line: bool,
}

/// A line that is longer is served in parts.
const LINE_MAX: usize = 64 << 10;

impl Serving {
    /// Serves this message from its begin.
    pub fn new(record: &Record, reader: Reader) -> Serving {
        let (begin, length) = (u64::from(record.status_at.get()), u64::from(record.status));
        Serving {
            hidden: (reader == Reader::Imap && length > 0).then_some((begin, begin + length)),
            escaped: record.escapes.get() > 0,
            plain: record.bare_lf.get() == 0
                && record.escapes.get() == 0
                && (reader == Reader::Imap || !record.has(flag::STATUS_BARE)),
            at: 0,
            rest: Vec::new(),
            in_line: false,
        }
    }

    /// The hidden bytes among the next `length` stored ones.
    fn hidden_in(&self, length: u64) -> Option<std::ops::Range<usize>> {
        let (begin, end) = self.hidden?;
        let (begin, end) = (begin.max(self.at), end.min(self.at + length));
        (begin < end).then(|| (begin - self.at) as usize..(end - self.at) as usize)
    }

    /// Leaves out the next `count` bytes that would be served, if that needs no reading. Says where in the stored content it goes on.
    pub fn skip(&mut self, count: u64) -> Option<u64> {
        if !self.plain {
            return None;
        }
        self.at = match self.hidden {
            Some((begin, end)) if count >= begin => count + end - begin,
            _ => count,
        };
        Some(self.at)
    }

    /// Takes the next stored bytes and adds what the reader sees of them to `served`.
    pub fn push(&mut self, bytes: &[u8], served: &mut Vec<u8>) {
        if self.plain {
            let hidden = self.hidden_in(bytes.len() as u64).unwrap_or(0..0);
            served.extend_from_slice(bytes.get(..hidden.start).unwrap_or_default());
            served.extend_from_slice(bytes.get(hidden.end..).unwrap_or_default());
            self.at += bytes.len() as u64;
            return;
        }
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            if self.rest.is_empty() && piece.ends_with(b"\n") {
                self.line(piece, served);
                continue;
            }
            self.rest.extend_from_slice(piece);
            // The last byte stays: it may be half of a line end.
            let ready = match self.rest.as_slice() {
                [.., b'\n'] => self.rest.len(),
                rest if rest.len() > LINE_MAX => rest.len() - 1,
                _ => continue,
            };
            let mut line = std::mem::take(&mut self.rest);
            self.rest = line.split_off(ready);
            self.line(&line, served);
        }
    }

    /// All stored bytes came.
    pub fn finish(&mut self, served: &mut Vec<u8>) {
        let rest = std::mem::take(&mut self.rest);
        self.line(&rest, served);
    }

    fn line(&mut self, line: &[u8], served: &mut Vec<u8>) {
        if self.hidden.is_none_or(|(begin, _)| begin != self.at) {
            push_line(served, line, self.escaped && !self.in_line);
        }
        self.at += line.len() as u64;
        self.in_line = !line.ends_with(b"\n");
    }
}

fn push_line(served: &mut Vec<u8>, line: &[u8], escaped: bool) {
    let line = match line {
        [b'>', rest @ ..] if escaped && separator::needs_escape(without_end(rest)) => rest,
        _ => line,
    };
    match line {
        [text @ .., b'\r', b'\n'] => served.extend_from_slice(text),
        [text @ .., b'\n'] => served.extend_from_slice(text),
        // The last line of a file that somebody cut.
        text => return served.extend_from_slice(text),
    }
    served.extend_from_slice(b"\r\n");
}

fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

impl Record {
    /// Bytes that POP3 serves.
    pub fn pop3_size(&self) -> u64 {
        self.imap_size() + u64::from(self.status) + u64::from(self.has(flag::STATUS_BARE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mbx::scan;
    use crate::mbx::testing::file;

    fn served(text: &str, reader: Reader) -> (String, Record) {
        let bytes = text.as_bytes();
        let scan = scan::whole(&*file(bytes), i64::MAX).unwrap();
        let record = scan.messages[0].record;
        let content = &bytes[record.content() as usize..][..record.content_len() as usize];
        (String::from_utf8(serve(&record, content.to_vec(), reader)).unwrap(), record)
    }

    #[test]
    fn sizes_match_what_is_served() {
        for text in [
            "From <> x\r\nA: b\r\nStatus: U\r\nC: d\r\n\r\nbody\r\n\r\n",
            "From <> x\nA: b\nStatus: R\nC: d\n\nbody\n\n",
            "From <> x\r\nA: b\nStatus: R\nC: d\r\n\nbody\nbody\r\n\n",
            "From <> x\nA: b\n\n",
            "From <> x\nA: b\n\n\n",
            "From <> x\n\n",
            "From <> x\nA: b\n",
            "From <> x",
            "From <> x\nA: b\n\nno end",
        ] {
            let (imap, record) = served(text, Reader::Imap);
            assert_eq!(imap.len() as u64, record.imap_size(), "{text:?} gave {imap:?}");
            assert!(!imap.contains("Status"));
            let (pop3, record) = served(text, Reader::Pop3);
            assert_eq!(pop3.len() as u64, record.pop3_size(), "{text:?} gave {pop3:?}");
            assert_eq!(pop3.contains("Status"), text.contains("Status"));
            assert!(!pop3.replace("\r\n", "").contains('\n'));
        }
    }

    #[test]
    fn pieces_are_served_like_the_whole() {
        let long = format!("From <> x\nA: b\n\n{}\r\n>From <a> x\nend\n\n", "x".repeat(3 * LINE_MAX));
        for text in ["From <> x\nA: b\nStatus: R\nC: d\n\nbody\r\n>From <y> z\nno end", &long] {
            let scan = scan::whole(&*file(text.as_bytes()), i64::MAX).unwrap();
            let mut record = scan.messages[0].record;
            record.escapes = zerocopy::byteorder::little_endian::U32::new(1);
            let content = &text.as_bytes()[record.content() as usize..][..record.content_len() as usize];
            for reader in [Reader::Imap, Reader::Pop3] {
                let whole = serve(&record, content.to_vec(), reader);
                assert!(whole.windows(7).any(|part| part == b"\r\nFrom "));
                for length in [1, 2, 7, LINE_MAX] {
                    let (mut serving, mut served) = (Serving::new(&record, reader), Vec::new());
                    content.chunks(length).for_each(|piece| serving.push(piece, &mut served));
                    serving.finish(&mut served);
                    assert!(served == whole, "pieces of {length}");
                }
            }
        }
    }

    #[test]
    fn a_plain_message_is_served_from_anywhere() {
        let text = b"From <> x\r\nA: b\r\nStatus: U\r\nC: d\r\n\r\nbody\r\n";
        let record = scan::whole(&*file(text), i64::MAX).unwrap().messages[0].record;
        let content = &text[record.content() as usize..];
        let whole = serve(&record, content.to_vec(), Reader::Imap);
        for skipped in 0..whole.len() {
            let (mut serving, mut served) = (Serving::new(&record, Reader::Imap), Vec::new());
            let from = serving.skip(skipped as u64).unwrap();
            content[from as usize..].chunks(3).for_each(|piece| serving.push(piece, &mut served));
            assert_eq!(served, whole[skipped..]);
        }
    }
}
