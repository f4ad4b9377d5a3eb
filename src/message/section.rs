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
