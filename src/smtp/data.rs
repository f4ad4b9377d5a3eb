//! The bytes behind DATA: dot-unstuffing and the end of the message (RFC 5321 §4.5.2), in pieces as they come; and what lines a message may have
//! ([`Lines`]), for DATA and BDAT alike.
//!
//! Only CR LF `.` CR LF ends a message. A line feed without a carriage return never does, and makes the message refused: what one server
//! takes for the end another may take for text, and mail is smuggled between the two.

/// A line that is longer than this is passed on in pieces.
const LINE_MAX: usize = 64 << 10;
/// The longest line of a message, without its line end (RFC 5322 §2.1.1): some servers cut longer ones, and signatures break.
pub const TEXT_LINE_MAX: usize = 998;

/// Looks at the lines of a message: those of one that came by BDAT too must end with CR LF, since whoever gets it next may get it by DATA.
#[derive(Default)]
pub struct Lines {
    /// The length of the line that has not ended, so far.
    length: usize,
    /// Does it end with a carriage return, so far?
    carriage_return: bool,
    /// Was there a line feed without a carriage return?
    pub bare_lf: bool,
    /// Was there a line of more than [`TEXT_LINE_MAX`] octets?
    pub long_line: bool,
}

impl Lines {
    /// Looks at the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        let mut begin = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            self.extend(&bytes[begin..end]);
            self.bare_lf |= !self.carriage_return;
            self.long_line |= self.length > TEXT_LINE_MAX + usize::from(self.carriage_return);
            (self.length, self.carriage_return) = (0, false);
            begin = end + 1;
        }
        self.extend(&bytes[begin..]);
    }

    fn extend(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        self.carriage_return = bytes.last().map_or(self.carriage_return, |last| *last == b'\r');
    }

    /// What is missing at the end of the message, so that its last line ends.
    pub fn end(&mut self) -> &'static [u8] {
        if self.length == 0 {
            return b"";
        }
        self.feed(b"\r\n");
        b"\r\n"
    }
}

/// Reads one message.
#[derive(Default)]
pub struct Unstuffer {
    /// The begin of a line whose end has not come.
    rest: Vec<u8>,
    /// Does `rest` continue a line whose begin was passed on, or stand behind a lone line feed?
    within: bool,
}

impl Unstuffer {
    /// Takes the next bytes and adds the message's to `out`. Answers with how many bytes were used, and whether the message is complete;
    /// what is not used belongs to the next command.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> (usize, bool) {
        let mut used = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            let line = &bytes[used..=end];
            used = end + 1;
            let done = match self.rest.is_empty() {
                true => self.line(line, out),
                false => {
                    let mut whole = std::mem::take(&mut self.rest);
                    whole.extend_from_slice(line);
                    self.line(&whole, out)
                }
            };
            if done {
                return (used, true);
            }
        }
        self.rest.extend_from_slice(&bytes[used..]);
        if self.rest.len() > LINE_MAX {
            // A carriage return at the end may belong to the line end that comes.
            let rest = std::mem::take(&mut self.rest);
            let keep = usize::from(rest.ends_with(b"\r"));
            let (now, later) = rest.split_at(rest.len() - keep);
            let stuffed = !self.within && now.starts_with(b".");
            out.extend_from_slice(if stuffed { &now[1..] } else { now });
            self.rest = later.to_vec();
            self.within = true;
        }
        (bytes.len(), false)
    }

    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) -> bool {
        // Behind a lone line feed no line begins, so that a dot there ends nothing.
        if !std::mem::replace(&mut self.within, !line.ends_with(b"\r\n")) {
            match line {
                b".\r\n" => return true,
                [b'.', rest @ ..] => {
                    out.extend_from_slice(rest);
                    return false;
                }
                _ => {}
            }
        }
        out.extend_from_slice(line);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(wire: &[u8], piece: usize) -> (Vec<u8>, usize, bool, bool) {
        let (mut unstuffer, mut lines, mut out, mut used) =
            (Unstuffer::default(), Lines::default(), Vec::new(), 0);
        for piece in wire.chunks(piece) {
            let begin = out.len();
            let (n, done) = unstuffer.feed(piece, &mut out);
            lines.feed(&out[begin..]);
            used += n;
            if done {
                return (out, used, true, lines.bare_lf);
            }
        }
        (out, used, false, lines.bare_lf)
    }

    #[test]
    fn ends_and_dots() {
        for (wire, text, done, bare) in [
            (&b".\r\n"[..], &b""[..], true, false),
            (b"a\r\n.\r\n", b"a\r\n", true, false),
            (b"..a\r\n...\r\n.\r\n", b".a\r\n..\r\n", true, false),
            (b"a\n.\n", b"a\n.\n", false, true),
            (b"a\n.\r\n.\r\n", b"a\n.\r\n", true, true),
            (b"a\r\n.\n.\r\n", b"a\r\n\n.\r\n", false, true),
            (b"a\r.\r\n.\r\n", b"a\r.\r\n", true, false),
            (b"..aa..\r\naaaa.\r\n..\r\n.\r\n", b".aa..\r\naaaa.\r\n.\r\n", true, false),
        ] {
            for piece in 1..=wire.len() {
                let (out, _, ended, bare_lf) = read(wire, piece);
                assert_eq!((ended, bare_lf), (done, bare), "{wire:?}");
                assert_eq!(out, text, "{:?} by {piece}", String::from_utf8_lossy(wire));
            }
        }
        assert_eq!(read(b"a\r\n.\r\nQUIT\r\n", 100).1, 6);
    }

    #[test]
    fn long_lines_are_seen() {
        for (line, expected) in [
            ("x".repeat(998), false),
            ("x".repeat(999), true),
            (format!(".{}", "x".repeat(998)), false),
            (format!(".{}", "x".repeat(999)), true),
            ("x".repeat(LINE_MAX * 3), true),
        ] {
            let (mut unstuffer, mut lines) = (Unstuffer::default(), Lines::default());
            for piece in format!("a\r\n{line}\r\nb\r\n.\r\n").as_bytes().chunks(1000) {
                let mut out = Vec::new();
                unstuffer.feed(piece, &mut out);
                lines.feed(&out);
            }
            assert_eq!(lines.long_line, expected, "{}", line.len());
        }
    }

    #[test]
    fn lines_of_chunks() {
        let x = |count| "x".repeat(count);
        // Text; then: was there a bare line feed, a long line, was the end missing?
        for (text, expected) in [
            (String::new(), (false, false, false)),
            ("a\r\n".into(), (false, false, false)),
            ("a".into(), (false, false, true)),
            ("a\r".into(), (false, false, true)),
            ("a\nb\r\n".into(), (true, false, false)),
            ("\n".into(), (true, false, false)),
            ("a\r\n\nb\r\n".into(), (true, false, false)),
            (x(998), (false, false, true)),
            (x(999), (false, true, true)),
            (format!("{}\r\n{}\r\n", x(998), x(998)), (false, false, false)),
            (format!("{}\n", x(999)), (true, true, false)),
        ] {
            for piece in [1, 2, 7, 2000] {
                let mut lines = Lines::default();
                text.as_bytes().chunks(piece).for_each(|piece| lines.feed(piece));
                let missing = !lines.end().is_empty();
                assert_eq!((lines.bare_lf, lines.long_line, missing), expected, "{text:?} by {piece}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_stuffed_comes_back(lines in proptest::collection::vec("[.a]{0,5}", 0..8), piece in 1usize..20, long in 0usize..3) {
            let mut text = String::new();
            for line in lines {
                text.push_str(&line);
                text.push_str(&"x".repeat(long * 50_000));
                text.push_str("\r\n");
            }
            let stuffed: String = text.split_inclusive("\r\n").map(|line| if line.starts_with('.') { format!(".{line}") } else { line.to_owned() }).collect();
            let wire = format!("{stuffed}.\r\nNEXT");
            let (out, used, done, bare) = read(wire.as_bytes(), piece * (1 + long * 1000));
            prop_assert!(done && !bare);
            prop_assert_eq!(used, wire.len() - 4);
            prop_assert!(out == text.as_bytes());
        }
    }
}
