//! The MIME parts of a message as byte ranges (RFC 2045, RFC 2046), numbered as IMAP numbers them.
//!
//! Boundaries are walked here rather than by a general MIME parser, because `BODY[n.m]` and BODYSTRUCTURE need exact
//! ranges and one reading of broken mail. Parsing never fails. What cannot be cut further is one part:
//! a multipart without (usable) boundary is shown as text, what lies beyond [`MAX_DEPTH`] or [`MAX_PARTS`]
//! as `application/octet-stream`.

use std::borrow::Cow;
use std::ops::Range;

use super::header::{self, Parameterized};

/// Parts within parts that are followed.
pub const MAX_DEPTH: usize = 50;

/// Parts of one message that are told apart.
pub const MAX_PARTS: usize = 1_000;

/// Longest boundary that is accepted, in bytes. RFC 2046 §5.1.1 says 70; some programs write more.
const MAX_BOUNDARY: usize = 1_000;

/// Index of a part in [`Structure::parts`].
pub type PartId = usize;

/// What a part is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Contents without parts.
    Leaf,
    /// Parts one behind the other; at least one.
    Multipart(Vec<PartId>),
    /// A whole message (`message/rfc822`).
    Message(PartId),
}

/// One part: the message itself, a part of a multipart, or a message inside.
#[derive(Debug, Clone)]
pub struct Part<'a> {
    /// Where the header is in the message, with the blank line behind it.
    pub header: Range<usize>,
    /// Where the body is in the message, without the line end that belongs to the next boundary.
    pub body: Range<usize>,
    /// Type and subtype of the contents, as written (`text/plain`, `TEXT/PLAIN`), with the parameters. Always has
    /// both; a default stands for what is absent or unreadable.
    pub content_type: Parameterized<'a>,
    /// What the part is made of.
    pub kind: Kind,
}

impl Part<'_> {
    /// Type and subtype of the contents, as written.
    pub fn media_type(&self) -> (&[u8], &[u8]) {
        split_type(&self.content_type.value).unwrap_or((b"application", b"octet-stream"))
    }

    /// Whether the part is of this type; upper and lower case are the same.
    pub fn is_type(&self, media_type: &[u8]) -> bool {
        self.media_type().0.eq_ignore_ascii_case(media_type)
    }

    fn is_subtype(&self, media_subtype: &[u8]) -> bool {
        self.media_type().1.eq_ignore_ascii_case(media_subtype)
    }
}

/// The part tree of a message.
#[derive(Debug, Clone)]
pub struct Structure<'a> {
    message: &'a [u8],
    /// All parts; the first is the message itself.
    parts: Vec<Part<'a>>,
}

impl<'a> Structure<'a> {
    /// Cuts a message into its parts. Lines may end in CRLF or LF.
    pub fn parse(message: &'a [u8]) -> Self {
        let mut builder = Builder { message, parts: Vec::new() };
        builder.part(0..message.len(), false, 0);
        Structure { message, parts: builder.parts }
    }

    /// The message itself.
    pub const ROOT: PartId = 0;

    /// The bytes that were parsed.
    pub fn message(&self) -> &'a [u8] {
        self.message
    }

    /// The parts, the message itself first, each followed by its own parts.
    pub fn parts(&self) -> &[Part<'a>] {
        &self.parts
    }

    /// One part by its index.
    pub fn part(&self, id: PartId) -> Option<&Part<'a>> {
        self.parts.get(id)
    }

    /// Header of a part, with its blank line.
    pub fn header(&self, part: &Part<'_>) -> &'a [u8] {
        self.message.get(part.header.clone()).unwrap_or_default()
    }

    /// Body of a part, still in its transfer encoding.
    pub fn body(&self, part: &Part<'_>) -> &'a [u8] {
        self.message.get(part.body.clone()).unwrap_or_default()
    }

    /// Finds a part by its IMAP numbers (RFC 3501 §6.4.5): `[2, 1]` is `BODY[2.1]`. No numbers give the message.
    pub fn find(&self, numbers: &[u32]) -> Option<&Part<'a>> {
        let mut part = self.parts.get(Self::ROOT)?;
        // A message has the parts of its multipart, or one part, its body, which is 1.
        let mut as_message = true;
        for &number in numbers {
            let index = usize::try_from(number).ok()?.checked_sub(1)?;
            if let (false, Kind::Message(inner)) = (as_message, &part.kind) {
                part = self.parts.get(*inner)?;
                as_message = true;
            }
            match &part.kind {
                Kind::Multipart(children) => part = self.parts.get(*children.get(index)?)?,
                _ if as_message && index == 0 => {}
                _ => return None,
            }
            as_message = false;
        }
        Some(part)
    }
}

struct Builder<'a> {
    message: &'a [u8],
    parts: Vec<Part<'a>>,
}

impl<'a> Builder<'a> {
    /// Adds the part at `range` and all in it; `in_digest` when it stands in a `multipart/digest`.
    fn part(&mut self, range: Range<usize>, in_digest: bool, depth: usize) -> PartId {
        let id = self.parts.len();
        let bytes = self.message.get(range.clone()).unwrap_or_default();
        let body_start = range.start + header::header_length(bytes);
        let header = self.message.get(range.start..body_start).unwrap_or_default();
        let content_type = content_type(header, in_digest);
        let body = body_start..range.end;
        self.parts.push(Part {
            header: range.start..body_start,
            body: body.clone(),
            content_type,
            kind: Kind::Leaf,
        });
        self.fill(id, body, depth);
        id
    }

    /// Finds out what the part is made of.
    fn fill(&mut self, id: PartId, body: Range<usize>, depth: usize) {
        let Some(part) = self.parts.get(id) else { return };
        let is_multipart = part.is_type(b"multipart");
        let is_message = part.is_type(b"message") && part.is_subtype(b"rfc822");
        if !is_multipart && !is_message {
            return;
        }
        if depth >= MAX_DEPTH || self.parts.len() >= MAX_PARTS {
            self.retype(id, b"application/octet-stream");
            return;
        }
        if is_message {
            let inner = self.part(body, false, depth + 1);
            self.set_kind(id, Kind::Message(inner));
            return;
        }
        let in_digest = part.is_subtype(b"digest");
        let boundary = part.content_type.parameter(b"boundary").map(<[u8]>::to_vec);
        let ranges = match boundary {
            Some(boundary) => self.split(body, &boundary),
            None => Vec::new(),
        };
        if ranges.is_empty() {
            self.retype(id, b"text/plain");
            return;
        }
        let last = ranges.len() - 1;
        let mut children = Vec::new();
        for (index, range) in ranges.iter().enumerate() {
            // With no room left, this part takes the rest of the multipart, uncut.
            let full = self.parts.len() + 1 >= MAX_PARTS && index < last;
            let end = if full { ranges.get(last).map_or(range.end, |range| range.end) } else { range.end };
            children.push(self.part(range.start..end, in_digest, depth + 1));
            if full || self.parts.len() >= MAX_PARTS {
                break;
            }
        }
        self.set_kind(id, Kind::Multipart(children));
    }

    fn retype(&mut self, id: PartId, media_type: &'static [u8]) {
        if let Some(part) = self.parts.get_mut(id) {
            part.content_type = Parameterized { value: Cow::Borrowed(media_type), parameters: Vec::new() };
        }
    }

    fn set_kind(&mut self, id: PartId, kind: Kind) {
        if let Some(part) = self.parts.get_mut(id) {
            part.kind = kind;
        }
    }

    /// Cuts the body of a multipart at its boundary lines; at most [`MAX_PARTS`] ranges, the last one open-ended.
    fn split(&self, body: Range<usize>, boundary: &[u8]) -> Vec<Range<usize>> {
        let boundary = boundary.trim_ascii_end();
        if boundary.is_empty() || boundary.len() > MAX_BOUNDARY {
            return Vec::new();
        }
        let bytes = self.message.get(body.clone()).unwrap_or_default();
        let delimiter = [b"--", boundary].concat();
        let mut ranges = Vec::new();
        let mut open: Option<usize> = None;
        for at in memchr::memmem::find_iter(bytes, &delimiter) {
            let Some((closes, next)) = boundary_line(bytes, at, delimiter.len()) else { continue };
            if let Some(start) = open.take() {
                ranges.push(body.start + start..body.start + before_line_end(bytes, at).max(start));
            }
            if closes {
                return ranges;
            }
            open = Some(next);
            if ranges.len() + 1 >= MAX_PARTS {
                break;
            }
        }
        // The closing boundary is missing: the last part goes to the end.
        if let Some(start) = open {
            ranges.push(body.start + start..body.end);
        }
        ranges
    }
}

/// Checks that the delimiter found at `at` is a whole line; gives whether it is the closing one and where the next
/// line starts. Blanks may follow it (RFC 2046 §5.1.1).
fn boundary_line(bytes: &[u8], at: usize, length: usize) -> Option<(bool, usize)> {
    if at > 0 && bytes.get(at - 1) != Some(&b'\n') {
        return None;
    }
    let rest = bytes.get(at + length..)?;
    let line = rest.get(..memchr::memchr(b'\n', rest).map_or(rest.len(), |line_feed| line_feed + 1))?;
    let next = at + length + line.len();
    match line.trim_ascii_end() {
        b"--" => Some((true, next)),
        blank if blank.trim_ascii().is_empty() => Some((false, next)),
        _ => None,
    }
}

/// Position of the line end before the line at `at`, which belongs to the boundary.
fn before_line_end(bytes: &[u8], at: usize) -> usize {
    let before = bytes.get(..at).unwrap_or_default();
    let before = before.strip_suffix(b"\n").unwrap_or(before);
    before.strip_suffix(b"\r").unwrap_or(before).len()
}

/// Type, subtype and parameters of a part, by its header. Absent or unreadable ones become the default of
/// RFC 2045 §5.2, in a digest that of RFC 2046 §5.1.5.
fn content_type(header: &[u8], in_digest: bool) -> Parameterized<'_> {
    let field = header::value(header, b"Content-Type");
    if let Some(parsed) = field.map(header::parameterized)
        && split_type(&parsed.value).is_some()
    {
        return parsed;
    }
    if in_digest && field.is_none() {
        return Parameterized { value: Cow::Borrowed(b"message/rfc822"), parameters: Vec::new() };
    }
    let us_ascii: (&[u8], Cow<'_, [u8]>) = (b"charset", Cow::Borrowed(b"us-ascii"));
    Parameterized { value: Cow::Borrowed(b"text/plain"), parameters: vec![us_ascii] }
}

fn split_type(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let (media_type, media_subtype) = value.split_at(memchr::memchr(b'/', value)?);
    let (media_type, media_subtype) = (media_type.trim_ascii(), media_subtype.get(1..)?.trim_ascii());
    (!media_type.is_empty() && !media_subtype.is_empty()).then_some((media_type, media_subtype))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Types of the parts, indented by depth, and the bodies of the leaves.
    fn outline(message: &str) -> String {
        fn add(structure: &Structure<'_>, id: PartId, out: &mut String) {
            let part = structure.part(id).unwrap();
            out.push_str(&String::from_utf8_lossy(&part.content_type.value));
            match &part.kind {
                Kind::Leaf => out.push_str(&format!("={}", structure.body(part).escape_ascii())),
                Kind::Message(inner) => {
                    out.push('(');
                    add(structure, *inner, out);
                    out.push(')');
                }
                Kind::Multipart(children) => {
                    out.push('(');
                    for (index, child) in children.iter().enumerate() {
                        out.push_str(if index > 0 { ", " } else { "" });
                        add(structure, *child, out);
                    }
                    out.push(')');
                }
            }
        }
        let mut out = String::new();
        add(&Structure::parse(message.as_bytes()), Structure::ROOT, &mut out);
        out
    }

    fn multipart(body: &str) -> String {
        format!("Content-Type: m/x\r\nContent-Type: y\r\n\r\n{body}")
            .replace("m/x", "multipart/mixed; boundary=\"b 1\"")
    }

    #[test]
    fn boundaries() {
        let cases = [
            (
                "--b 1\r\n\r\none\r\n--b 1\r\n\r\ntwo\r\n--b 1--\r\nepilogue",
                "multipart/mixed(text/plain=one, text/plain=two)",
            ),
            ("pre\r\n--b 1\r\n\r\none", "multipart/mixed(text/plain=one)"),
            ("--b 1\r\n--b 1\r\n--b 1--\r\n", "multipart/mixed(text/plain=, text/plain=)"),
            ("--b 1 \t\r\n\r\n\r\n--b 1--", "multipart/mixed(text/plain=)"),
            (
                "--b 1\r\n\r\n--b 12\r\nx--b 1\r\n--b 1-\r\n",
                "multipart/mixed(text/plain=--b 12\\r\\nx--b 1\\r\\n--b 1-\\r\\n)",
            ),
            ("--b 1--\r\n--b 1\r\n\r\n", "text/plain=--b 1--\\r\\n--b 1\\r\\n\\r\\n"),
            ("none", "text/plain=none"),
            ("--b 1\nA: b\n\none\n\n--b 1--\n", "multipart/mixed(text/plain=one\\n)"),
            ("--b 1\r\nContent-Type: text/html", "multipart/mixed(text/html=)"),
            (
                "--b 1\r\nContent-Type: multipart/alternative; boundary=c\r\n\r\n--c\r\n\r\nx\r\n--b 1\r\n\r\ny\r\n--b 1--",
                "multipart/mixed(multipart/alternative(text/plain=x), text/plain=y)",
            ),
            (
                "--b 1\r\nContent-Type: multipart/digest; boundary=c\r\n\r\n--c\r\n\r\nA: b\r\n\r\nx\r\n--c--\r\n--b 1--",
                "multipart/mixed(multipart/digest(message/rfc822(text/plain=x)))",
            ),
        ];
        for (body, expected) in cases {
            assert_eq!(outline(&multipart(body)), expected, "{body}");
        }
    }

    #[test]
    fn depth_and_count_are_limited() {
        let mut message = String::new();
        for level in 0..MAX_DEPTH + 10 {
            message
                .push_str(&format!("Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n"));
        }
        let structure = Structure::parse(message.as_bytes());
        assert_eq!(structure.parts().len(), MAX_DEPTH + 1);
        assert_eq!(
            structure.parts().last().unwrap().content_type.value.as_ref(),
            b"application/octet-stream"
        );
        let inside = "Content-Type: message/rfc822\r\n\r\n".repeat(MAX_DEPTH + 10);
        assert_eq!(Structure::parse(inside.as_bytes()).parts().len(), MAX_DEPTH + 1);

        let wide = multipart(&"--b 1\r\n\r\nx\r\n".repeat(MAX_PARTS * 2));
        let structure = Structure::parse(wide.as_bytes());
        assert_eq!(structure.parts().len(), MAX_PARTS);
        assert_eq!(structure.parts().last().unwrap().body.end, wide.len());
    }

    pub(crate) fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop::sample::select(vec![
            "Content-Type: ",
            "multipart/mixed; boundary=b",
            "multipart/digest; boundary=c",
            "message/rfc822",
            "text/plain; charset=",
            "Content-Transfer-Encoding: base64",
            "quoted-printable",
            "utf-8",
            "iso-2022-jp",
            "\r\n",
            "\r\n\r\n",
            "\n",
            "--b",
            "--c",
            "--",
            "Subject: =?utf-8?Q?=E3?= =?utf-8?B?gYI=?=",
            "\x1B$B$\"\x1B(B",
            "\"",
            ";",
            "(",
            "From: a <b@c>",
            " ",
            "\0",
            "\u{3042}",
            "=E3=",
        ]);
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn parts_lie_within_their_parents(message in pieces()) {
            let structure = Structure::parse(&message);
            for part in structure.parts() {
                prop_assert!(part.header.start <= part.header.end && part.header.end <= part.body.start);
                prop_assert!(part.body.start <= part.body.end && part.body.end <= message.len());
                let children = match &part.kind {
                    Kind::Leaf => &[][..],
                    Kind::Message(inner) => std::slice::from_ref(inner),
                    Kind::Multipart(children) => children,
                };
                let mut from = part.body.start;
                for &child in children {
                    let child = structure.part(child).unwrap();
                    prop_assert!(from <= child.header.start && child.body.end <= part.body.end);
                    from = child.body.end;
                }
            }
        }
    }
}
