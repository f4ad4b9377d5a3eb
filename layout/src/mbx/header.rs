//! The header fields that a mailbox needs of its messages, read from raw bytes.
//!
//! # Limits
//! A header is looked at up to [`HEADER_MAX`] bytes.

use super::record::flag;
use crate::limits::HEADER_MAX;

/// How much of a header goes into its fingerprint.
const FINGERPRINT_MAX: usize = 4096;
/// The longest `X-UIDL` text that POP3 can answer with (RFC 1939, UIDL).
const UIDL_TEXT_MAX: usize = 70;
/// IMail's numbers fit in 31 bits; larger ones are text to us.
const UIDL_NUMBER_MAX: u32 = i32::MAX as u32;

/// What the `X-UIDL` line says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Uidl {
    /// There is none that could be used.
    #[default]
    None,
    /// A plain decimal number.
    Number(u32),
    /// 1 to 70 printable characters that are no such number.
    Text,
}

/// The place of the line that carries the read mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusLine {
    /// Offset of the line in the header.
    pub at: usize,
    /// Its length with its line end.
    pub length: usize,
    /// Offset of the letter that is replaced, if one is there.
    pub letter: Option<usize>,
    /// Does it say read?
    pub read: bool,
}

/// The facts of one header.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// Length with the empty line.
    pub length: usize,
    /// The last `Status` line.
    pub status: Option<StatusLine>,
    /// Flags of an `X-Status` line, which other programs write; they count once, when the first index is built.
    pub flags: u32,
    /// The last `X-UIDL` line.
    pub uidl: Uidl,
    /// The date of the topmost `Received`, else of `Date`.
    pub date: Option<i64>,
    /// Hash of the header's begin without `Status` and `X-Status` lines.
    pub fingerprint: u64,
}

/// Where the header of a message ends: behind its first empty line, or at the end of `bytes`.
pub fn end(bytes: &[u8]) -> Option<usize> {
    if bytes.starts_with(b"\n") {
        return Some(1);
    }
    if bytes.starts_with(b"\r\n") {
        return Some(2);
    }
    memchr::memchr_iter(b'\n', bytes).find_map(|at| match bytes.get(at + 1..) {
        Some([b'\n', ..]) => Some(at + 2),
        Some([b'\r', b'\n', ..]) => Some(at + 3),
        _ => None,
    })
}

/// The lines of a header with their line ends, each with its offset; continuation lines are lines of their own.
pub fn lines(header: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = header.get(at..).filter(|rest| !rest.is_empty())?;
        let length = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        let line = (at, &rest[..length]);
        at += length;
        Some(line)
    })
}

/// Does the line begin with this field name (`name` in lower case, without colon)? Then the rest behind the colon.
pub fn field<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let (head, rest) = line.split_at_checked(name.len())?;
    if !head.eq_ignore_ascii_case(name.as_bytes()) {
        return None;
    }
    let colon = rest.iter().position(|b| *b != b' ' && *b != b'\t')?;
    (rest[colon] == b':').then(|| &rest[colon + 1..])
}

/// Reads the facts of a header. `bytes` begins with it; `want_date` asks for the (slow) reading of dates.
pub fn facts(bytes: &[u8], want_date: bool) -> Facts {
    let bytes = &bytes[..bytes.len().min(HEADER_MAX)];
    let header = &bytes[..end(bytes).unwrap_or(bytes.len())];
    let mut facts = Facts { length: header.len(), ..Facts::default() };
    let (mut received, mut sent) = (None, None);
    let mut hashed = [0u8; FINGERPRINT_MAX];
    let mut filled = 0;
    for (at, line) in lines(header) {
        let mut hash = true;
        match line[0].to_ascii_lowercase() {
            b's' => {
                if let Some(value) = field(line, "status") {
                    facts.status = Some(status_line(at, line, value));
                    hash = false;
                }
            }
            b'x' => {
                if let Some(value) = field(line, "x-status") {
                    facts.flags = other_flags(value);
                    hash = false;
                } else if let Some(value) = field(line, "x-uidl") {
                    facts.uidl = uidl(value);
                }
            }
            b'r' if want_date && received.is_none() => received = field(line, "received").map(|_| at),
            b'd' if want_date && sent.is_none() => sent = field(line, "date").map(|_| at),
            _ => {}
        }
        if hash && filled < FINGERPRINT_MAX {
            let n = line.len().min(FINGERPRINT_MAX - filled);
            hashed[filled..filled + n].copy_from_slice(&line[..n]);
            filled += n;
        }
    }
    facts.fingerprint = xxhash_rust::xxh3::xxh3_64(&hashed[..filled]);
    facts.date = received
        .and_then(|at| date_of(unfold(header, at).rsplit(|b| *b == b';').next()?))
        .or_else(|| sent.and_then(|at| date_of(unfold(header, at).splitn(2, |b| *b == b':').nth(1)?)));
    facts
}

fn status_line(at: usize, line: &[u8], value: &[u8]) -> StatusLine {
    let begin = line.len() - value.len();
    let find = |wanted: &[u8]| value.iter().position(|b| wanted.contains(b)).map(|i| at + begin + i);
    let read = find(b"R");
    StatusLine { at, length: line.len(), letter: read.or_else(|| find(b"UNO")), read: read.is_some() }
}

fn other_flags(value: &[u8]) -> u32 {
    value.iter().fold(0, |flags, letter| {
        flags
            | match letter {
                b'A' => flag::ANSWERED,
                b'F' => flag::FLAGGED,
                b'T' => flag::DRAFT,
                b'D' => flag::DELETED,
                _ => 0,
            }
    })
}

fn uidl(value: &[u8]) -> Uidl {
    let text = value.trim_ascii();
    if text.is_empty() || text.len() > UIDL_TEXT_MAX || !text.iter().all(u8::is_ascii_graphic) {
        return Uidl::None;
    }
    match std::str::from_utf8(text).ok().and_then(|text| text.parse::<u32>().ok()) {
        Some(number) if text[0] != b'+' && text[0] != b'0' && number <= UIDL_NUMBER_MAX => {
            Uidl::Number(number)
        }
        _ => Uidl::Text,
    }
}

/// The text of the last usable `X-UIDL` line.
pub fn uidl_text(header: &[u8]) -> Option<&[u8]> {
    let values = lines(header).filter_map(|(_, line)| field(line, "x-uidl"));
    values.last().filter(|value| uidl(value) != Uidl::None).map(<[u8]>::trim_ascii)
}

/// The field that begins at `at`, with its continuation lines.
fn unfold(header: &[u8], at: usize) -> &[u8] {
    let mut length = 0;
    for (offset, line) in lines(&header[at..]) {
        if offset > 0 && !line.starts_with(b" ") && !line.starts_with(b"\t") {
            break;
        }
        length += line.len();
    }
    &header[at..at + length]
}

fn date_of(text: &[u8]) -> Option<i64> {
    let text = String::from_utf8_lossy(text);
    // A comment with the zone's name often follows the date.
    let text = text.split('(').next()?.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    chrono::DateTime::parse_from_rfc2822(&text).ok().map(|date| date.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_of_a_header() {
        let header = b"Received: from a [192.0.2.1] by b with ESMTP\r\n  (SMTPD32-8.14) id A1; Fri, 29 Apr 2005 16:13:50 -0400\r\nDate: Fri, 29 Apr 2005 20:00:00 +0000\r\nX-RCPT-TO: <u@example.jp>\r\nX-UIDL: 303050499\r\nSTATUS : U\r\nX-Status: FA\r\n\r\nbody";
        let facts = facts(header, true);
        assert_eq!(facts.length, header.len() - 4);
        assert_eq!(facts.uidl, Uidl::Number(303_050_499));
        assert_eq!(facts.flags, flag::ANSWERED | flag::FLAGGED);
        assert_eq!(facts.date, Some(1_114_805_630));
        let status = facts.status.unwrap();
        assert_eq!(&header[status.at..status.at + status.length], b"STATUS : U\r\n");
        assert_eq!(header[status.letter.unwrap()], b'U');
        assert!(!status.read);
    }

    #[test]
    fn the_fingerprint_ignores_marks() {
        let of = |text: &[u8]| facts(text, false).fingerprint;
        assert_eq!(of(b"A: b\r\nStatus: U\r\n\r\n"), of(b"A: b\r\nStatus: RO\r\nX-Status: D\r\n\r\n"));
        assert_ne!(of(b"A: b\r\n\r\n"), of(b"A: c\r\n\r\n"));
    }

    #[test]
    fn status_letters() {
        for (line, letter, read) in [
            (&b"Status: U\r\n\r\n"[..], Some(8), false),
            (b"Status: RO\n\n", Some(8), true),
            (b"Status: OR\n\n", Some(9), true),
            (b"Status:O\n\n", Some(7), false),
            (b"Status: \n\n", None, false),
            (b"Status: X\n\n", None, false),
        ] {
            let status = facts(line, false).status.unwrap();
            assert_eq!((status.letter, status.read), (letter, read));
        }
    }

    #[test]
    fn uidl_values() {
        for (value, expected) in [
            ("1", Uidl::Number(1)),
            (" 303050499 ", Uidl::Number(303_050_499)),
            ("2147483647", Uidl::Number(2_147_483_647)),
            ("2147483648", Uidl::Text),
            ("007", Uidl::Text),
            ("+7", Uidl::Text),
            ("abc!", Uidl::Text),
            ("a b", Uidl::None),
            ("", Uidl::None),
        ] {
            assert_eq!(uidl(value.as_bytes()), expected, "{value:?}");
        }
    }
}
