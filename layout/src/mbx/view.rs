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
    let status = match (reader, usize::from(record.status)) {
        (Reader::Imap, length) if length > 0 => {
            let at = record.status_at.get() as usize;
            Some(at..at + length)
        }
        _ => None,
    };
    let plain = record.bare_lf.get() == 0
        && record.escapes.get() == 0
        && (reader == Reader::Imap || !record.has(flag::STATUS_BARE));
    if plain {
        let mut content = content;
        if let Some(range) = status
            && range.end <= content.len()
        {
            content.drain(range);
        }
        return content;
    }
    let mut served = Vec::with_capacity(content.len() + record.bare_lf.get() as usize + 2);
    let mut at = 0;
    for line in content.split_inclusive(|b| *b == b'\n') {
        if status.as_ref().is_none_or(|range| at != range.start) {
            push_line(&mut served, line, record.escapes.get() > 0);
        }
        at += line.len();
    }
    served
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
}
