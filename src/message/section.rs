//! Sections of a message, as in `BODY[2.1.HEADER]` (RFC 3501 §6.4.5), and their contents.

use std::borrow::Cow;

use super::header;
use super::string::{number, string};
use super::structure::{Kind, Structure};

/// A section: part numbers, then what of that part.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Section {
    /// Part numbers from the outside in, each at least 1; none for the message itself.
    pub part: Vec<u32>,
    /// What of that part.
    pub text: SectionText,
}

/// What of a part is meant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SectionText {
    /// The whole message, or the body of the part.
    #[default]
    Whole,
    /// The header of the message, or of the message that the part holds.
    Header,
    /// The header fields of these names, as the client wrote them; a blank line follows them always.
    HeaderFields(Vec<Vec<u8>>),
    /// All header fields but those of these names; a blank line follows them always.
    HeaderFieldsNot(Vec<Vec<u8>>),
    /// The body of the message, or of the message that the part holds.
    Text,
    /// The MIME header of the part.
    Mime,
}

impl Section {
    /// The section of the message itself.
    pub fn of_message(text: SectionText) -> Self {
        Section { part: Vec::new(), text }
    }

    /// Whether the header alone, as far as `header::header_length`, is enough to answer.
    pub fn needs_only_header(&self) -> bool {
        self.part.is_empty() && !matches!(self.text, SectionText::Whole | SectionText::Text)
    }

    /// Writes the section with its brackets, as the answer to FETCH repeats it.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (index, &part) in self.part.iter().enumerate() {
            if index > 0 {
                out.push(b'.');
            }
            number(out, u64::from(part));
        }
        if !self.part.is_empty() && self.text != SectionText::Whole {
            out.push(b'.');
        }
        match &self.text {
            SectionText::Whole => {}
            SectionText::Header => out.extend_from_slice(b"HEADER"),
            SectionText::HeaderFields(names) => field_names(out, b"HEADER.FIELDS (", names),
            SectionText::HeaderFieldsNot(names) => field_names(out, b"HEADER.FIELDS.NOT (", names),
            SectionText::Text => out.extend_from_slice(b"TEXT"),
            SectionText::Mime => out.extend_from_slice(b"MIME"),
        }
        out.push(b']');
    }
}

fn field_names(out: &mut Vec<u8>, intro: &[u8], names: &[Vec<u8>]) {
    out.extend_from_slice(intro);
    for (index, name) in names.iter().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        let is_atom = !name.is_empty()
            && name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if is_atom { out.extend_from_slice(name) } else { string(out, name) }
    }
    out.push(b')');
}

/// Takes a section out of a message. `None` when the message has no such part, to be answered with `NIL`.
pub fn extract<'a>(message: &'a [u8], section: &Section) -> Option<Cow<'a, [u8]>> {
    if section.part.is_empty() {
        return whole_message(message, &section.text);
    }
    extract_part(&Structure::parse(message), section)
}

/// Takes a section with part numbers out of a message that is parsed already.
pub fn extract_part<'a>(structure: &Structure<'a>, section: &Section) -> Option<Cow<'a, [u8]>> {
    let part = structure.find(&section.part)?;
    match section.text {
        SectionText::Whole if section.part.is_empty() => {
            whole_message(structure.message(), &SectionText::Whole)
        }
        SectionText::Whole => Some(Cow::Borrowed(structure.body(part))),
        SectionText::Mime => Some(Cow::Borrowed(structure.header(part))),
        _ if section.part.is_empty() => whole_message(structure.message(), &section.text),
        _ if matches!(part.kind, Kind::Message(_)) => whole_message(structure.body(part), &section.text),
        _ => None,
    }
}

fn whole_message<'a>(message: &'a [u8], text: &SectionText) -> Option<Cow<'a, [u8]>> {
    let split = || message.split_at(header::header_length(message));
    Some(match text {
        SectionText::Whole => Cow::Borrowed(message),
        SectionText::Header | SectionText::Mime => Cow::Borrowed(split().0),
        SectionText::Text => Cow::Borrowed(split().1),
        SectionText::HeaderFields(names) => Cow::Owned(header_fields(message, names, true)),
        SectionText::HeaderFieldsNot(names) => Cow::Owned(header_fields(message, names, false)),
    })
}

/// The header fields that are (or are not) of these names, and a blank line.
fn header_fields(message: &[u8], names: &[Vec<u8>], listed: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for field in header::fields(message) {
        if names.iter().any(|name| field.is(name)) == listed {
            out.extend_from_slice(field.raw);
            // Only the last line of a message without a body can lack its line end.
            if !field.raw.ends_with(b"\n") {
                out.extend_from_slice(b"\r\n");
            }
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// The piece `<offset.count>` of a section; empty when the section ends before `offset`.
pub fn partial(text: &[u8], offset: u32, count: u32) -> &[u8] {
    let start = (offset as usize).min(text.len());
    let end = start.saturating_add(count as usize).min(text.len());
    text.get(start..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MESSAGE: &str = "Subject: outer\r\nFrom: a@b\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n\
        --x\r\nX-Part: 1\r\n\r\nfirst\r\n--x\r\nContent-Type: message/rfc822\r\n\r\n\
        Subject: inner\r\nContent-Type: multipart/alternative; boundary=y\r\n\r\n\
        --y\r\n\r\nplain\r\n--y\r\nContent-Type: text/html\r\n\r\nhtml\r\n--y--\r\n\
        --x\r\nContent-Type: message/rfc822\r\n\r\nSubject: single\r\n\r\nalone\r\n--x--\r\n";

    fn section(part: &[u32], text: SectionText) -> Section {
        Section { part: part.to_vec(), text }
    }

    #[test]
    fn sections_of_nested_messages() {
        use SectionText::{Header, HeaderFields, HeaderFieldsNot, Mime, Text, Whole};
        let names = || vec![b"SUBJECT".to_vec()];
        let cases: [(&[u32], SectionText, Option<&str>); 23] = [
            (&[1], Whole, Some("first")),
            (&[1], Mime, Some("X-Part: 1\r\n\r\n")),
            (&[1], Header, None),
            (&[1], Text, None),
            (&[1, 1], Whole, None),
            (&[2], Mime, Some("Content-Type: message/rfc822\r\n\r\n")),
            (&[2], HeaderFields(names()), Some("Subject: inner\r\n\r\n")),
            (&[2, 1], Whole, Some("plain")),
            (&[2, 2], Whole, Some("html")),
            (&[2, 2], Mime, Some("Content-Type: text/html\r\n\r\n")),
            (&[2, 3], Whole, None),
            (&[2, 2, 1], Whole, None),
            (&[3], Whole, Some("Subject: single\r\n\r\nalone")),
            (&[3], Header, Some("Subject: single\r\n\r\n")),
            (&[3], Text, Some("alone")),
            (&[3, 1], Whole, Some("alone")),
            (&[3, 1, 1], Whole, None),
            (&[3, 2], Whole, None),
            (&[4], Whole, None),
            (&[], HeaderFields(names()), Some("Subject: outer\r\n\r\n")),
            (&[], HeaderFields(vec![b"X".to_vec()]), Some("\r\n")),
            (
                &[],
                HeaderFieldsNot(vec![b"subject".to_vec(), b"content-type".to_vec()]),
                Some("From: a@b\r\n\r\n"),
            ),
            (&[], Whole, Some(MESSAGE)),
        ];
        for (part, text, expected) in cases {
            let section = section(part, text);
            let got = extract(MESSAGE.as_bytes(), &section);
            assert_eq!(got.as_deref(), expected.map(str::as_bytes), "{section:?}");
        }
    }

    #[test]
    fn a_message_without_parts_has_part_1() {
        let message = b"Subject: x\r\n\r\nbody\r\n";
        type Case = (&'static [u32], SectionText, Option<&'static [u8]>);
        let cases: [Case; 5] = [
            (&[1], SectionText::Whole, Some(b"body\r\n")),
            (&[], SectionText::Text, Some(b"body\r\n")),
            (&[], SectionText::Header, Some(b"Subject: x\r\n\r\n")),
            (&[1, 1], SectionText::Whole, None),
            (&[2], SectionText::Whole, None),
        ];
        for (part, text, expected) in cases {
            assert_eq!(extract(message, &section(part, text)).as_deref(), expected);
        }
    }

    #[test]
    fn partials() {
        let cases: [(u32, u32, &[u8]); 5] =
            [(0, 3, b"abc"), (2, 100, b"cde"), (5, 1, b""), (9, 9, b""), (u32::MAX, u32::MAX, b"")];
        for (offset, count, expected) in cases {
            assert_eq!(partial(b"abcde", offset, count), expected);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn extracts_only_what_is_there(message in prop::collection::vec(any::<u8>(), 0..300), part in prop::collection::vec(0u32..4, 0..4)) {
            for text in [SectionText::Whole, SectionText::Header, SectionText::Text, SectionText::Mime] {
                if let Some(Cow::Owned(_)) = extract(&message, &section(&part, text)) {
                    prop_assert!(false, "copied");
                }
            }
            let fields = extract(&message, &section(&part, SectionText::HeaderFieldsNot(vec![])));
            prop_assert!(fields.is_none_or(|fields| fields.ends_with(b"\r\n")));
        }
    }
}
