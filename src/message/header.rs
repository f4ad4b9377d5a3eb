//! Header fields, address lists and parameter lists as raw bytes.
//!
//! Everything here works on the bytes as they came: encoded words (RFC 2047) and extended parameters (RFC 2231)
//! are handed on undecoded, because IMAP clients decode them themselves; [`super::charset`] decodes for searches.
//! Nothing here fails: a line that is no header field is a [`Field`] without a name, a broken address yields what
//! can be read of it. Every function is linear in its input; the counts are limited by [`MAX_ADDRESSES`] and
//! [`MAX_PARAMETERS`].

use std::borrow::Cow;

/// Addresses that are read from one header field; the rest is ignored. A group's start and end count too.
pub const MAX_ADDRESSES: usize = 10_000;

/// Parameters that are read from one Content-Type or Content-Disposition; the rest is ignored.
pub const MAX_PARAMETERS: usize = 200;

/// Escape character: starts a shift sequence of ISO-2022-JP (RFC 1468).
const ESC: u8 = 0x1B;

/// Length in bytes of the header of a message or MIME part, including the blank line that ends it. A message
/// without a blank line is all header.
pub fn header_length(entity: &[u8]) -> usize {
    if let Some(length) = blank_line(entity) {
        return length;
    }
    for line_feed in memchr::memchr_iter(b'\n', entity) {
        if let Some(length) = entity.get(line_feed + 1..).and_then(blank_line) {
            return line_feed + 1 + length;
        }
    }
    entity.len()
}

/// Length of the blank line that `bytes` starts with.
fn blank_line(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [b'\r', b'\n', ..] => Some(2),
        [b'\n', ..] => Some(1),
        _ => None,
    }
}

/// One header field, or one line of the header that is none (then the name is empty).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Name as written, without blanks before the colon.
    pub name: &'a [u8],
    /// Everything behind the colon, still folded, without the last line end.
    pub value: &'a [u8],
    /// The whole field with its line end.
    pub raw: &'a [u8],
}

impl<'a> Field<'a> {
    /// Whether the field has this name; upper and lower case are the same (RFC 5322 §1.2.2).
    pub fn is(&self, name: &[u8]) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    fn new(raw: &'a [u8]) -> Self {
        let line = trim_line_end(raw);
        match memchr::memchr(b':', line) {
            Some(colon) => {
                let (name, value) = line.split_at(colon);
                Field { name: name.trim_ascii_end(), value: value.get(1..).unwrap_or_default(), raw }
            }
            None => Field { name: b"", value: line, raw },
        }
    }
}

/// The fields of a header, in order, up to the blank line or the end of the input.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

/// Iterates over the fields of the header that `entity` (header, MIME part or whole message) starts with.
pub fn fields(entity: &[u8]) -> Fields<'_> {
    Fields { rest: entity }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        if self.rest.is_empty() || blank_line(self.rest).is_some() {
            return None;
        }
        let end = memchr::memchr_iter(b'\n', self.rest)
            .map(|line_feed| line_feed + 1)
            .find(|&next| !matches!(self.rest.get(next), Some(b' ' | b'\t')))
            .unwrap_or(self.rest.len());
        let (raw, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(Field::new(raw))
    }
}

/// Value of the first field of this name, still folded.
pub fn value<'a>(entity: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    fields(entity).find(|field| field.is(name)).map(|field| field.value)
}

fn trim_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Removes the line ends of a folded value (RFC 5322 §2.2.3) and the blanks around it.
pub fn unfold(value: &[u8]) -> Cow<'_, [u8]> {
    without_line_ends(Cow::Borrowed(value.trim_ascii()))
}

fn without_line_ends(text: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'\r', b'\n', &text).is_none() {
        return text;
    }
    Cow::Owned(text.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect())
}

/// One element of an address list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address<'a> {
    /// A mailbox of a person or program.
    Mailbox {
        /// Display name, or the comment behind an address without one; unquoted, encoded words as they came.
        name: Option<Cow<'a, [u8]>>,
        /// Source route of an obsolete address (`@a,@b`; RFC 5322 §4.4).
        route: Option<Cow<'a, [u8]>>,
        /// Local part, unquoted.
        local: Cow<'a, [u8]>,
        /// Domain; empty when the address has none (`From: root`).
        domain: Cow<'a, [u8]>,
    },
    /// A group begins (`undisclosed-recipients:`); its name.
    GroupStart(Cow<'a, [u8]>),
    /// The group ends.
    GroupEnd,
}

/// Reads an address list (RFC 5322 §3.4 with the obsolete forms of §4.4). `value` is the field's value, still folded.
pub fn addresses(value: &[u8]) -> Vec<Address<'_>> {
    let mut reader =
        AddressReader { scanner: Scanner { bytes: value, at: 0 }, words: Vec::new(), comment: None };
    let mut list = Vec::new();
    let mut in_group = false;
    while list.len() < MAX_ADDRESSES {
        match reader.scanner.token() {
            Some(Token::Word(word)) => reader.words.push(word),
            Some(Token::Comment(text)) => reader.comment = Some(text),
            Some(Token::Special(b'<')) => {
                let address = reader.angle_address();
                list.push(address);
            }
            Some(Token::Special(b':')) if !in_group && !reader.words.is_empty() && !reader.has_at() => {
                let name = join(&reader.words, Blanks::Kept);
                reader.clear();
                list.push(Address::GroupStart(name));
                in_group = true;
            }
            Some(Token::Special(separator @ (b',' | b';'))) => {
                list.extend(reader.bare_address());
                if separator == b';' && in_group {
                    list.push(Address::GroupEnd);
                    in_group = false;
                }
            }
            Some(Token::Special(other)) => reader.words.push(Word::special(other)),
            None => {
                list.extend(reader.bare_address());
                if in_group {
                    list.push(Address::GroupEnd);
                }
                return list;
            }
        }
    }
    if in_group {
        list.push(Address::GroupEnd);
    }
    list
}

/// A word of a phrase or address.
#[derive(Debug, Clone)]
struct Word<'a> {
    text: Cow<'a, [u8]>,
    /// Blanks or comments stand before it.
    spaced: bool,
    /// It came as a quoted string, so an `@` in it is text.
    quoted: bool,
}

impl Word<'_> {
    fn special(byte: u8) -> Self {
        Word { text: Cow::Owned(vec![byte]), spaced: false, quoted: false }
    }

    fn is_at(&self) -> bool {
        !self.quoted && self.text.as_ref() == b"@"
    }
}

enum Token<'a> {
    Word(Word<'a>),
    Comment(Cow<'a, [u8]>),
    Special(u8),
}

struct AddressReader<'a> {
    scanner: Scanner<'a>,
    words: Vec<Word<'a>>,
    comment: Option<Cow<'a, [u8]>>,
}

impl<'a> AddressReader<'a> {
    fn clear(&mut self) {
        self.words.clear();
        self.comment = None;
    }

    fn has_at(&self) -> bool {
        self.words.iter().any(Word::is_at)
    }

    /// The address whose words have been collected, when it has no `<...>`.
    fn bare_address(&mut self) -> Option<Address<'a>> {
        let words = std::mem::take(&mut self.words);
        let name = self.comment.take();
        if words.is_empty() {
            return None;
        }
        let (local, domain) = split_at_sign(&words);
        Some(Address::Mailbox { name, route: None, local, domain })
    }

    /// Reads what follows a `<`; the words collected so far are the display name.
    fn angle_address(&mut self) -> Address<'a> {
        let name = if self.words.is_empty() { None } else { Some(join(&self.words, Blanks::Kept)) };
        self.clear();
        let mut route = None;
        loop {
            match self.scanner.token() {
                Some(Token::Word(word)) => self.words.push(word),
                Some(Token::Comment(text)) => self.comment = Some(text),
                Some(Token::Special(b':')) if self.words.first().is_some_and(Word::is_at) => {
                    route = Some(join(&self.words, Blanks::NotAtDots));
                    self.words.clear();
                }
                // A comma outside a route means that the `>` is missing.
                Some(Token::Special(b',')) if !self.words.first().is_some_and(Word::is_at) => break,
                Some(Token::Special(b'>')) | None => break,
                Some(Token::Special(other)) => self.words.push(Word::special(other)),
            }
        }
        let (local, domain) = split_at_sign(&self.words);
        self.words.clear();
        Address::Mailbox { name: name.or(self.comment.take()), route, local, domain }
    }
}

/// Splits an address at its last `@`.
fn split_at_sign<'a>(words: &[Word<'a>]) -> (Cow<'a, [u8]>, Cow<'a, [u8]>) {
    match words.iter().rposition(Word::is_at) {
        Some(at) => {
            let (local, domain) = words.split_at(at);
            (join(local, Blanks::NotAtDots), join(domain.get(1..).unwrap_or_default(), Blanks::NotAtDots))
        }
        None => (join(words, Blanks::Kept), Cow::Borrowed(b"")),
    }
}

/// Where blanks between words stay when they are joined.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blanks {
    /// Everywhere, as in a name.
    Kept,
    /// Not beside dots: `a . b` is an obsolete form of `a.b` in an address.
    NotAtDots,
}

/// Joins words; blanks between them become one.
fn join<'a>(words: &[Word<'a>], blanks: Blanks) -> Cow<'a, [u8]> {
    match words {
        [] => Cow::Borrowed(b""),
        [word] => word.text.clone(),
        _ => {
            let mut text = Vec::new();
            for word in words {
                let at_dot = word.text.first() == Some(&b'.') || text.last() == Some(&b'.');
                if word.spaced && !text.is_empty() && !(at_dot && blanks == Blanks::NotAtDots) {
                    text.push(b' ');
                }
                text.extend_from_slice(&word.text);
            }
            Cow::Owned(text)
        }
    }
}

/// Cuts a structured header value into tokens.
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn token(&mut self) -> Option<Token<'a>> {
        let spaced = self.skip_blanks();
        let byte = *self.bytes.get(self.at)?;
        match byte {
            b'(' => Some(Token::Comment(self.comment())),
            b'"' => Some(Token::Word(Word { text: self.quoted_string(), spaced, quoted: true })),
            b'[' => Some(Token::Word(Word { text: self.domain_literal(), spaced, quoted: true })),
            b'<' | b'>' | b',' | b';' | b':' => {
                self.at += 1;
                Some(Token::Special(byte))
            }
            b'@' | b')' => {
                let text = self.bytes.get(self.at..self.at + 1).unwrap_or_default();
                self.at += 1;
                Some(Token::Word(Word { text: Cow::Borrowed(text), spaced: false, quoted: false }))
            }
            _ => Some(Token::Word(Word { text: self.atom(), spaced, quoted: false })),
        }
    }

    fn skip_blanks(&mut self) -> bool {
        let start = self.at;
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
        self.at > start
    }

    fn atom(&mut self) -> Cow<'a, [u8]> {
        let start = self.at;
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => break,
                b'(' | b')' | b'<' | b'>' | b'@' | b',' | b';' | b':' | b'"' | b'[' => break,
                ESC => self.at = shifted_end(self.bytes, self.at),
                _ => self.at += 1,
            }
        }
        Cow::Borrowed(self.bytes.get(start..self.at).unwrap_or_default())
    }

    fn quoted_string(&mut self) -> Cow<'a, [u8]> {
        let (text, end) = delimited(self.bytes, self.at, b'"');
        self.at = end;
        text
    }

    fn domain_literal(&mut self) -> Cow<'a, [u8]> {
        let start = self.at;
        let (_, end) = delimited(self.bytes, self.at, b']');
        self.at = end;
        without_line_ends(Cow::Borrowed(self.bytes.get(start..end).unwrap_or_default()))
    }

    /// Reads a comment with the comments nested in it; gives its text without the outer parentheses.
    fn comment(&mut self) -> Cow<'a, [u8]> {
        self.at += 1;
        let start = self.at;
        let mut depth = 1usize;
        let mut escaped = false;
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'\\' => {
                    escaped = true;
                    self.at += 1;
                }
                b'(' => depth += 1,
                b')' => depth -= 1,
                ESC => {
                    self.at = shifted_end(self.bytes, self.at);
                    continue;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
            self.at += 1;
        }
        self.at = self.at.min(self.bytes.len());
        let text = self.bytes.get(start..self.at).unwrap_or_default();
        self.at = (self.at + 1).min(self.bytes.len());
        without_line_ends(if escaped { unescape(text) } else { Cow::Borrowed(text) })
    }
}

/// Reads from the opening delimiter at `start` to `close`; gives the text between, without backslashes and line ends,
/// and the position behind. Without a closing delimiter the text goes to the end.
fn delimited(bytes: &[u8], start: usize, close: u8) -> (Cow<'_, [u8]>, usize) {
    let mut at = start + 1;
    let mut escaped = false;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => {
                escaped = true;
                at += 2;
            }
            ESC => at = shifted_end(bytes, at),
            _ if byte == close => break,
            _ => at += 1,
        }
    }
    let at = at.min(bytes.len());
    let text = bytes.get(start + 1..at).unwrap_or_default();
    let text = if escaped { unescape(text) } else { Cow::Borrowed(text) };
    (without_line_ends(text), (at + 1).min(bytes.len()))
}

/// Position behind a run of raw two-byte ISO-2022-JP characters that starts at `start` with ESC. Their bytes look
/// like quotes, brackets and commas; old Japanese mail programs write names that way although it is not allowed.
fn shifted_end(bytes: &[u8], start: usize) -> usize {
    let Some([b'$', characters @ ..]) = bytes.get(start + 1..) else { return start + 1 };
    let length = characters.iter().take_while(|byte| matches!(byte, 0x21..=0x7E)).count();
    match characters.get(length..) {
        Some([ESC, b'(', _, ..]) => start + 2 + length + 3,
        Some([ESC, ..]) => start + 2 + length,
        _ => start + 1,
    }
}

fn unescape(text: &[u8]) -> Cow<'_, [u8]> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte == b'\\' {
            out.extend(bytes.next());
        } else {
            out.push(byte);
        }
    }
    Cow::Owned(out)
}

/// A value with parameters: Content-Type or Content-Disposition (RFC 2045 §5.1, RFC 2183).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameterized<'a> {
    /// What stands before the first semicolon, without comments.
    pub value: Cow<'a, [u8]>,
    /// Names and values in order, unquoted but otherwise as they came (RFC 2231 forms stay as they are).
    pub parameters: Vec<(&'a [u8], Cow<'a, [u8]>)>,
}

impl Parameterized<'_> {
    /// Value of the first parameter of this name; upper and lower case are the same.
    pub fn parameter(&self, name: &[u8]) -> Option<&[u8]> {
        self.parameters
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_ref())
    }
}

/// Reads a value with parameters. `field` is the field's value, still folded. Values without quotes may hold blanks
/// and the characters that RFC 2045 forbids there: many mail programs write file names that way.
pub fn parameterized(field: &[u8]) -> Parameterized<'_> {
    let (value, mut at) = parameter_value(field, 0);
    let mut parameters = Vec::new();
    while at < field.len() && parameters.len() < MAX_PARAMETERS {
        let start = at + 1;
        let rest = field.get(start..).unwrap_or_default();
        let Some(stop) = memchr::memchr2(b'=', b';', rest) else { break };
        let name = rest.get(..stop).unwrap_or_default().trim_ascii();
        if rest.get(stop) == Some(&b';') {
            at = start + stop;
            continue;
        }
        let (text, end) = parameter_value(field, start + stop + 1);
        at = end;
        if !name.is_empty() {
            parameters.push((name, text));
        }
    }
    Parameterized { value, parameters }
}

/// Reads a value up to the next semicolon; gives it and the position of that semicolon.
fn parameter_value(field: &[u8], start: usize) -> (Cow<'_, [u8]>, usize) {
    let mut scanner = Scanner { bytes: field, at: start };
    scanner.skip_blanks();
    if field.get(scanner.at) == Some(&b'"') {
        let text = scanner.quoted_string();
        let rest = field.get(scanner.at..).unwrap_or_default();
        let end = memchr::memchr(b';', rest).map_or(field.len(), |semicolon| scanner.at + semicolon);
        return (text, end);
    }
    let text_start = scanner.at;
    let mut text_end = None;
    while let Some(&byte) = field.get(scanner.at) {
        match byte {
            b';' => break,
            b'(' if matches!(field.get(scanner.at.wrapping_sub(1)), Some(b' ' | b'\t' | b'\n')) => {
                text_end.get_or_insert(scanner.at);
                scanner.comment();
            }
            ESC => scanner.at = shifted_end(field, scanner.at),
            _ => scanner.at += 1,
        }
    }
    let end = scanner.at.min(field.len());
    let text = field.get(text_start..text_end.unwrap_or(end)).unwrap_or_default().trim_ascii();
    (without_line_ends(Cow::Borrowed(text)), end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(value: &str) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let one = |address: &Address<'_>| match address {
            Address::Mailbox { name, route, local, domain } => {
                let name = name.as_deref().map(text).unwrap_or_default();
                let route = route.as_deref().map(text).unwrap_or_default();
                format!("{name}|{route}|{}|{}", text(local), text(domain))
            }
            Address::GroupStart(name) => format!("[{}", text(name)),
            Address::GroupEnd => "]".into(),
        };
        addresses(value.as_bytes()).iter().map(one).collect::<Vec<_>>().join(" ; ")
    }

    #[test]
    fn address_lists() {
        let cases = [
            ("a@b.c", "||a|b.c"),
            (" Joe <a@b>, c@d ", "Joe||a|b ; ||c|d"),
            ("\"Joe, \\\"X\\\" (Sr)\" <a@b>", "Joe, \"X\" (Sr)||a|b"),
            ("a@b (Joe (the) Pub)", "Joe (the) Pub||a|b"),
            ("Mr. Joe Q. Public <a@b>", "Mr. Joe Q. Public||a|b"),
            (
                "=?ISO-2022-JP?B?GyRCOzMbKEI=?=\r\n =?x?Q?b?= <a@b>",
                "=?ISO-2022-JP?B?GyRCOzMbKEI=?= =?x?Q?b?=||a|b",
            ),
            ("\"j d\"@b", "||j d|b"),
            ("\"a@b\"@c", "||a@b|c"),
            ("a . b @ c . d", "||a.b|c.d"),
            ("<@x,@y:a@b>", "|@x,@y|a|b"),
            ("a@[127.0.0.1]", "||a|[127.0.0.1]"),
            ("undisclosed-recipients:;", "[undisclosed-recipients ; ]"),
            ("A Group: a@b, Joe <c@d>; e@f", "[A Group ; ||a|b ; Joe||c|d ; ] ; ||e|f"),
            ("g: a@b", "[g ; ||a|b ; ]"),
            ("root", "||root|"),
            ("John Doe", "||John Doe|"),
            ("<>", "|||"),
            ("", ""),
            (" , ,", ""),
            ("a@b; c@d", "||a|b ; ||c|d"),
            ("Joe <a@b, c@d", "Joe||a|b ; ||c|d"),
            ("\"never closed <a@b>", "||never closed <a@b>|"),
            ("\x1B$B$\"\"\x1B(B <a@b>", "\x1B$B$\"\"\x1B(B||a|b"),
            ("山田 <a@b>", "山田||a|b"),
        ];
        for (value, expected) in cases {
            assert_eq!(shown(value), expected, "{value}");
        }
    }

    #[test]
    fn fields_and_folding() {
        let header = b"From : a\r\nSubject: one\r\n\ttwo\r\nno field\r\n x\r\nEmpty:\r\n\r\nBody: no\r\n";
        let names: Vec<_> = fields(header).map(|field| field.name.escape_ascii().to_string()).collect();
        assert_eq!(names, ["From", "Subject", "", "Empty"]);
        assert_eq!(unfold(value(header, b"SUBJECT").unwrap()).as_ref(), b"one\ttwo");
        assert_eq!(value(header, b"Body"), None);
        assert_eq!(&header[header_length(header)..], b"Body: no\r\n");
        for (entity, length) in [
            ("", 0),
            ("\r\nx", 2),
            ("\nx", 1),
            ("a: b", 4),
            ("a: b\r\n", 6),
            ("a: b\n\nx", 6),
            ("a: b\r\n\r\n", 8),
        ] {
            assert_eq!(header_length(entity.as_bytes()), length, "{entity:?}");
        }
    }

    #[test]
    fn parameters() {
        type Case = (&'static str, &'static str, &'static [(&'static str, &'static str)]);
        let cases: [Case; 8] = [
            ("text/plain", "text/plain", &[]),
            (
                " Text/Plain ; charset = \"us-ascii\" ; format=flowed",
                "Text/Plain",
                &[("charset", "us-ascii"), ("format", "flowed")],
            ),
            (
                "text/plain; charset=us-ascii (Plain text); x=y",
                "text/plain",
                &[("charset", "us-ascii"), ("x", "y")],
            ),
            ("attachment; filename=my file (1).txt", "attachment", &[("filename", "my file")]),
            ("a/b; name=\"a;\\\"b\"; n2=\"\";;", "a/b", &[("name", "a;\"b"), ("n2", "")]),
            ("a/b; name==?iso-2022-jp?B?GyRC?=; x", "a/b", &[("name", "=?iso-2022-jp?B?GyRC?=")]),
            (
                "a/b;\r\n\tfilename*0*=UTF-8''%E5;\r\n filename*1=b",
                "a/b",
                &[("filename*0*", "UTF-8''%E5"), ("filename*1", "b")],
            ),
            ("a/b; name=\"\x1B$B$\"$;\x1B(B.txt\"", "a/b", &[("name", "\x1B$B$\"$;\x1B(B.txt")]),
        ];
        for (field, value, expected) in cases {
            let parsed = parameterized(field.as_bytes());
            assert_eq!(parsed.value.as_ref(), value.as_bytes(), "{field}");
            let expected: Vec<(&[u8], Cow<'_, [u8]>)> = expected
                .iter()
                .map(|(name, value)| (name.as_bytes(), Cow::Borrowed(value.as_bytes())))
                .collect();
            assert_eq!(parsed.parameters, expected, "{field}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn never_panics(text in "[ -~\\x1b\r\n]{0,80}", bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            for input in [text.as_bytes(), &bytes] {
                let _ = (addresses(input), parameterized(input), unfold(input));
                let raw: Vec<u8> = fields(input).flat_map(|field| field.raw.to_vec()).collect();
                prop_assert!(input.starts_with(&raw));
                prop_assert!(header_length(input) >= raw.len());
            }
        }
    }
}
