//! A message as it goes over the wire: line ends, dots, and no line that is too long.
//!
//! What the spool holds need not be fit for SMTP: messages that somebody put there by hand have LF alone, or lines of any length. Bytes above
//! 127 stay as they are.
//!
//! # Limits
//! [`TEXT_LINE_MAX`] bytes a line on the wire, and about as many in memory.

/// The longest line that is sent, in bytes without its CRLF and without a doubled dot (RFC 5321 §4.5.3.1.6).
pub const TEXT_LINE_MAX: usize = 998;

/// Doubles dots at line starts (RFC 5321 §4.5.2), makes every line end CRLF, since a lone CR or LF is read as a line end by some servers and
/// not by others (smuggling), and breaks lines that are too long: in the header before a blank, or with a blank put in, so that the next line
/// continues the field (RFC 5322 §2.2.3); in the body behind a blank, or anywhere but within a UTF-8 character.
#[derive(Debug)]
pub struct Stuffer {
    /// The begin of a line whose end has not come yet.
    line: Vec<u8>,
    in_header: bool,
    carriage_return: bool,
}

impl Default for Stuffer {
    fn default() -> Stuffer {
        Stuffer { line: Vec::new(), in_header: true, carriage_return: false }
    }
}

impl Stuffer {
    /// Takes the next piece of the message, and adds to `out` what can be sent.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        while let Some(&first) = rest.first() {
            if first == b'\n' || self.carriage_return {
                self.carriage_return = false;
                self.end_line(out);
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
                continue;
            }
            let end = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
            let (text, after) = rest.split_at(end);
            self.line.extend_from_slice(text);
            self.shorten(out);
            self.carriage_return = after.first() == Some(&b'\r');
            rest = after.strip_prefix(b"\r").unwrap_or(after);
        }
    }

    /// The rest of the message, and the dot behind it.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        if self.carriage_return || !self.line.is_empty() {
            self.end_line(out);
        }
        out.extend_from_slice(b".\r\n");
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        self.in_header &= !self.line.is_empty();
        emit(&self.line, out);
        self.line.clear();
    }

    /// Emits the begin of a line that is too long, until the rest is not.
    fn shorten(&mut self, out: &mut Vec<u8>) {
        let mut at = 0;
        while let Some(rest) = self.line.get_mut(at..).filter(|rest| rest.len() > TEXT_LINE_MAX) {
            let cut = if self.in_header { fold(rest) } else { wrap(rest) };
            emit(rest.get(..cut).unwrap_or_default(), out);
            at += cut;
            // The last byte that went out makes room for the blank that continues the field.
            if self.in_header && !matches!(self.line.get(at), Some(b' ' | b'\t')) {
                at -= 1;
                if let Some(byte) = self.line.get_mut(at) {
                    *byte = b' ';
                }
            }
        }
        self.line.drain(..at);
    }
}

fn emit(line: &[u8], out: &mut Vec<u8>) {
    if line.first() == Some(&b'.') {
        out.push(b'.');
    }
    out.extend_from_slice(line);
    out.extend_from_slice(b"\r\n");
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// How much of a header line goes onto this line: up to its last blank that has text before it, so that no line is blank.
fn fold(line: &[u8]) -> usize {
    let text = line.iter().position(|byte| !is_blank(*byte)).unwrap_or(TEXT_LINE_MAX);
    let reach = line.get(..=TEXT_LINE_MAX).unwrap_or(line);
    let blank = reach.iter().rposition(|byte| is_blank(*byte)).filter(|at| *at > text);
    blank.unwrap_or_else(|| character_end(line))
}

/// How much of a body line goes onto this line: up to and with its last blank.
fn wrap(line: &[u8]) -> usize {
    let reach = line.get(..TEXT_LINE_MAX).unwrap_or(line);
    reach.iter().rposition(|byte| is_blank(*byte)).map_or_else(|| character_end(line), |at| at + 1)
}

/// The last place within the limit that is not inside a UTF-8 character (of at most 4 bytes).
fn character_end(line: &[u8]) -> usize {
    let begins = |at: &usize| line.get(*at).is_none_or(|byte| byte & 0xC0 != 0x80);
    (TEXT_LINE_MAX - 3..=TEXT_LINE_MAX).rev().find(begins).unwrap_or(TEXT_LINE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stuffed(pieces: &[&[u8]]) -> Vec<u8> {
        let (mut stuffer, mut out) = (Stuffer::default(), Vec::new());
        pieces.iter().for_each(|piece| stuffer.feed(piece, &mut out));
        stuffer.end(&mut out);
        out
    }

    #[test]
    fn messages_on_the_wire() {
        for (pieces, expected) in [
            (&[b"a\r\nb\r\n" as &[u8]] as &[&[u8]], "a\r\nb\r\n.\r\n"),
            (&[b"a"], "a\r\n.\r\n"),
            (&[], ".\r\n"),
            (&[b".\r\n..\r\nx.\r\n"], "..\r\n...\r\nx.\r\n.\r\n"),
            (&[b"a\n.\nb\r.\r\nc\r"], "a\r\n..\r\nb\r\n..\r\nc\r\n.\r\n"),
            (&[b"a\r", b"\n", b".", b"b\r\n"], "a\r\n..b\r\n.\r\n"),
            (&[b"\r\n\r\n\n\r"], "\r\n\r\n\r\n\r\n.\r\n"),
            (&[b"a\r", b".b"], "a\r\n..b\r\n.\r\n"),
        ] {
            assert_eq!(String::from_utf8(stuffed(pieces)).unwrap(), expected, "{pieces:?}");
        }
    }

    #[test]
    fn long_lines_are_broken() {
        let x = |count: usize| "x".repeat(count);
        for (line, expected) in [
            // A line of just the limit stays.
            (format!("\n{}", x(998)), format!("\r\n{}\r\n", x(998))),
            (format!("\n.{}", x(997)), format!("\r\n..{}\r\n", x(997))),
            (format!("\n{}", x(999)), format!("\r\n{}\r\nx\r\n", x(998))),
            (format!("\n{} {}", x(900), x(100)), format!("\r\n{} \r\n{}\r\n", x(900), x(100))),
            // What comes to stand at a line start gets its dot.
            (format!("\n{}.y", x(998)), format!("\r\n{}\r\n..y\r\n", x(998))),
            (format!("\n{}\u{3042}", x(997)), format!("\r\n{}\r\n\u{3042}\r\n", x(997))),
            (format!("A: {}", x(995)), format!("A: {}\r\n", x(995))),
            (format!("A: {} {}", x(900), x(200)), format!("A: {}\r\n {}\r\n", x(900), x(200))),
            (format!("A:{}", x(1000)), format!("A:{}\r\n {}\r\n", x(996), x(4))),
        ] {
            let out = String::from_utf8(stuffed(&[line.as_bytes()])).unwrap();
            assert_eq!(out, expected + ".\r\n", "{line}");
        }
    }

    /// What a server makes of it.
    fn received(wire: &[u8]) -> Vec<Vec<u8>> {
        let text = wire.strip_suffix(b".\r\n").unwrap();
        let mut lines: Vec<Vec<u8>> = Vec::new();
        for line in text.split(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            lines.push(line.strip_prefix(b".").unwrap_or(line).to_vec());
        }
        assert_eq!(lines.pop().as_deref(), Some(&b""[..]));
        lines
    }

    fn piece() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![20 => Just(b'x'), 1 => Just(b' '), 1 => Just(b'.'), 1 => any::<u8>()];
        let long = prop::collection::vec(byte, 0..2500);
        prop_oneof![long, "[a.\r\n]{0,40}".prop_map(String::into_bytes)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn nothing_is_lost_and_no_line_is_too_long(pieces in prop::collection::vec(piece(), 0..6)) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let bytes = pieces.concat();
            let wire = stuffed(&pieces);
            // Where pieces end does not matter.
            prop_assert_eq!(&stuffed(&[&bytes]), &wire);
            // The end of the data shows only at the end.
            let framed = [b"\r\n", &wire[..]].concat();
            prop_assert_eq!(memchr::memmem::find(&framed, b"\r\n.\r\n"), Some(wire.len() - 3));
            let lines = received(&wire);
            prop_assert!(lines.iter().all(|line| line.len() <= TEXT_LINE_MAX));
            // Line ends and, in the header, blanks are all that was added.
            let text = |bytes: &[u8]| -> Vec<u8> {
                bytes.iter().copied().filter(|byte| !matches!(byte, b' ' | b'\r' | b'\n')).collect()
            };
            prop_assert_eq!(text(&lines.concat()), text(&bytes));
            let body = lines.iter().position(Vec::is_empty).map_or(&[][..], |at| &lines[at + 1..]).concat();
            let without_ends: Vec<u8> = bytes.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
            prop_assert!(without_ends.ends_with(&body));
        }

        #[test]
        fn a_folded_field_unfolds_to_itself(words in prop::collection::vec("[a-z]{1,900}", 1..8)) {
            let field = format!("Subject: {}", words.join(" "));
            let lines = received(&stuffed(&[field.as_bytes()]));
            prop_assert_eq!(String::from_utf8(lines.concat()).unwrap(), field);
            prop_assert!(lines.iter().skip(1).all(|line| line.starts_with(b" ")));
        }
    }
}
