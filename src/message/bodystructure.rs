//! BODY and BODYSTRUCTURE of a message (RFC 3501 §7.4.2).
//!
//! Never fails. Sizes are those of the part as it stands in the message, before any decoding; lines are counted by
//! their line feeds.

use super::envelope::envelope;
use super::header::{self, Parameterized};
use super::string::{nstring, number, string};
use super::structure::{Kind, Part, PartId, Structure};

/// Which of the two forms is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `BODY`: without extension data.
    Body,
    /// `BODYSTRUCTURE`: with MD5 (always `NIL`), disposition, language and location.
    BodyStructure,
}

/// Content languages that are listed of one part; the rest is left out.
const MAX_LANGUAGES: usize = 100;

/// Appends the structure of a message to `out`, parentheses included.
pub fn body_structure(structure: &Structure<'_>, form: Form, out: &mut Vec<u8>) {
    part(structure, Structure::ROOT, form, out);
}

/// Writes a part and those in it; recursion ends at `structure::MAX_DEPTH`.
fn part(structure: &Structure<'_>, id: PartId, form: Form, out: &mut Vec<u8>) {
    let Some(part) = structure.part(id) else { return };
    let fields = ContentFields::read(structure.header(part));
    out.push(b'(');
    match &part.kind {
        Kind::Multipart(children) => {
            for &child in children {
                self::part(structure, child, form, out);
            }
            out.push(b' ');
            string(out, part.media_type().1);
            if form == Form::BodyStructure {
                out.push(b' ');
                parameters(out, &part.content_type);
            }
        }
        Kind::Leaf => {
            single(structure, part, &fields, out);
            if part.is_type(b"text") {
                out.push(b' ');
                lines(out, structure.body(part));
            }
        }
        Kind::Message(inner) => {
            single(structure, part, &fields, out);
            out.push(b' ');
            envelope(structure.body(part), out);
            out.push(b' ');
            self::part(structure, *inner, form, out);
            out.push(b' ');
            lines(out, structure.body(part));
        }
    }
    if form == Form::BodyStructure {
        if !matches!(part.kind, Kind::Multipart(_)) {
            out.extend_from_slice(b" NIL");
        }
        extension(&fields, out);
    }
    out.push(b')');
}

/// The content header fields of one part, still folded.
#[derive(Default)]
struct ContentFields<'a> {
    id: Option<&'a [u8]>,
    description: Option<&'a [u8]>,
    encoding: Option<&'a [u8]>,
    disposition: Option<&'a [u8]>,
    language: Option<&'a [u8]>,
    location: Option<&'a [u8]>,
}

impl<'a> ContentFields<'a> {
    fn read(header: &'a [u8]) -> Self {
        let mut fields = ContentFields::default();
        for field in header::fields(header) {
            let name = field.name.to_ascii_lowercase();
            let Some(name) = name.strip_prefix(b"content-") else { continue };
            let slot = match name {
                b"id" => &mut fields.id,
                b"description" => &mut fields.description,
                b"transfer-encoding" => &mut fields.encoding,
                b"disposition" => &mut fields.disposition,
                b"language" => &mut fields.language,
                b"location" => &mut fields.location,
                _ => continue,
            };
            slot.get_or_insert(field.value);
        }
        fields
    }
}

/// Type, subtype, parameters, id, description, encoding and size.
fn single(structure: &Structure<'_>, part: &Part<'_>, fields: &ContentFields<'_>, out: &mut Vec<u8>) {
    let (media_type, media_subtype) = part.media_type();
    string(out, media_type);
    out.push(b' ');
    string(out, media_subtype);
    out.push(b' ');
    parameters(out, &part.content_type);
    out.push(b' ');
    nstring(out, fields.id.map(header::unfold).as_deref());
    out.push(b' ');
    nstring(out, fields.description.map(header::unfold).as_deref());
    out.push(b' ');
    let encoding = fields.encoding.map(header::parameterized).unwrap_or_default();
    string(out, if encoding.value.is_empty() { b"7bit" } else { &encoding.value });
    out.push(b' ');
    number(out, structure.body(part).len() as u64);
}

fn lines(out: &mut Vec<u8>, body: &[u8]) {
    number(out, memchr::memchr_iter(b'\n', body).count() as u64);
}

fn parameters(out: &mut Vec<u8>, value: &Parameterized<'_>) {
    if value.parameters.is_empty() {
        out.extend_from_slice(b"NIL");
        return;
    }
    let mut separator = b'(';
    for (name, value) in &value.parameters {
        out.push(separator);
        string(out, name);
        out.push(b' ');
        string(out, value);
        separator = b' ';
    }
    out.push(b')');
}

/// Disposition, language and location, each after a blank.
fn extension(fields: &ContentFields<'_>, out: &mut Vec<u8>) {
    out.push(b' ');
    let disposition = fields.disposition.map(header::parameterized).unwrap_or_default();
    if disposition.value.is_empty() {
        out.extend_from_slice(b"NIL");
    } else {
        out.push(b'(');
        string(out, &disposition.value);
        out.push(b' ');
        parameters(out, &disposition);
        out.push(b')');
    }
    out.push(b' ');
    languages(fields.language.unwrap_or_default(), out);
    out.push(b' ');
    nstring(out, fields.location.map(header::unfold).as_deref());
}

/// The tags of a Content-Language field (RFC 3282): none, one as a string, several as a list.
fn languages(field: &[u8], out: &mut Vec<u8>) {
    let tags: Vec<&[u8]> = field
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|tag| !tag.is_empty())
        .take(MAX_LANGUAGES)
        .collect();
    match tags.as_slice() {
        [] => out.extend_from_slice(b"NIL"),
        [tag] => string(out, tag),
        _ => {
            let mut separator = b'(';
            for tag in tags {
                out.push(separator);
                string(out, tag);
                separator = b' ';
            }
            out.push(b')');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(message: &str, form: Form) -> String {
        let mut out = Vec::new();
        body_structure(&Structure::parse(message.as_bytes()), form, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn single_parts() {
        let cases = [
            (
                "Subject: x\r\n\r\none\r\ntwo\r\n",
                "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 10 2 NIL NIL NIL NIL)",
            ),
            ("", "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0 NIL NIL NIL NIL)"),
            (
                "Content-Type: TEXT/HTML; charset=utf-8\r\nContent-Transfer-Encoding: 8BIT (x)\r\nContent-Id: <a>\r\n\
                Content-Description: d\r\nContent-Language: en, ja\r\nContent-Location: http://x\r\n\r\nx",
                "(\"TEXT\" \"HTML\" (\"charset\" \"utf-8\") \"<a>\" \"d\" \"8BIT\" 1 0 NIL NIL (\"en\" \"ja\") \"http://x\")",
            ),
            (
                "Content-Type: image/png; name=\"a b.png\"\r\nContent-Disposition: attachment; filename=a\r\n\
                Content-Transfer-Encoding: base64\r\nContent-Language: ja\r\n\r\nAAAA\r\n",
                "(\"image\" \"png\" (\"name\" \"a b.png\") NIL NIL \"base64\" 6 NIL (\"attachment\" (\"filename\" \"a\")) \"ja\" NIL)",
            ),
            (
                "Content-Type: nonsense\r\n\r\n",
                "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0 NIL NIL NIL NIL)",
            ),
            (
                "Content-Type: multipart/mixed\r\n\r\nno boundary\r\n",
                "(\"text\" \"plain\" NIL NIL NIL \"7bit\" 13 1 NIL NIL NIL NIL)",
            ),
        ];
        for (message, expected) in cases {
            assert_eq!(of(message, Form::BodyStructure), expected, "{message}");
        }
    }

    #[test]
    fn multiparts_and_messages_inside() {
        let message = "Content-Type: multipart/mixed; boundary=x\r\n\r\npreamble\r\n--x\r\n\r\nhi\r\n\r\n--x\r\n\
            Content-Type: message/rfc822\r\nContent-Disposition: inline\r\n\r\nSubject: in\r\n\r\nbody\r\n\r\n--x--\r\n";
        let text = "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\"";
        let envelope = "(NIL \"in\" NIL NIL NIL NIL NIL NIL NIL NIL)";
        assert_eq!(
            of(message, Form::Body),
            format!(
                "({text} 4 1)(\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 21 {envelope} {text} 6 1) 3) \"mixed\")"
            )
        );
        assert_eq!(
            of(message, Form::BodyStructure),
            format!(
                "({text} 4 1 NIL NIL NIL NIL)(\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 21 {envelope} \
                {text} 6 1 NIL NIL NIL NIL) 3 NIL (\"inline\" NIL) NIL NIL) \"mixed\" (\"boundary\" \"x\") NIL NIL NIL)"
            )
        );
    }
}
