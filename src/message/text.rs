//! What a reader sees of a message: header and body decoded, the text of its first part that has any, and the names of what is attached.
//!
//! # Limits
//! Those of [`structure`](super::structure); a message inside a message counts by its parts. [`ATTACHMENTS_MAX`] attachments are named.

use super::charset::{self, TransferEncoding, decode_header};
use super::header::{fields, parameterized, value};
use super::structure::{Kind, Part, Structure};

/// The most attachments that are named.
pub const ATTACHMENTS_MAX: usize = 50;

/// The text of a message, with LF line ends: its first plain text, else its first HTML without the marks. Empty if there is none.
pub fn text(message: &[u8]) -> String {
    let structure = Structure::parse(message);
    let of_kind = |subtype: &[u8]| {
        let mut leaves = structure.parts().iter().filter(|part| part.kind == Kind::Leaf);
        leaves.find(|part| is_text(part, subtype) && !is_attachment(&structure, part))
    };
    let decoded = |part: &Part<'_>| decoded(&structure, part);
    let text = match (of_kind(b"plain"), of_kind(b"html")) {
        (Some(part), _) => decoded(part),
        (None, Some(part)) => mail_parser::decoders::html::html_to_text(&decoded(part)),
        (None, None) => String::new(),
    };
    text.replace("\r\n", "\n")
}

/// The header, one field a line, without folds, encoded words decoded.
pub fn header_text(message: &[u8]) -> String {
    let mut text = String::new();
    for field in fields(message) {
        text.push_str(&String::from_utf8_lossy(field.name));
        text.push_str(": ");
        text.push_str(&decode_header(field.value));
        text.push('\n');
    }
    text
}

/// The text parts of the body, one behind the other.
pub fn body_text(message: &[u8]) -> String {
    let structure = Structure::parse(message);
    let parts = structure.parts().iter().filter(|part| part.kind == Kind::Leaf && part.is_type(b"text"));
    parts.map(|part| decoded(&structure, part) + "\n").collect()
}

/// The text of a part, its transfer encoding and character set decoded.
fn decoded(structure: &Structure<'_>, part: &Part<'_>) -> String {
    let body = TransferEncoding::of_header(structure.header(part)).decode(structure.body(part));
    charset::decode(part.content_type.parameter(b"charset"), &body).into_owned()
}

fn is_text(part: &Part<'_>, subtype: &[u8]) -> bool {
    let (kind, sub) = part.media_type();
    kind.eq_ignore_ascii_case(b"text") && sub.eq_ignore_ascii_case(subtype)
}

/// Is the part said to be a file of its own?
fn is_attachment(structure: &Structure<'_>, part: &Part<'_>) -> bool {
    let disposition = value(structure.header(part), b"content-disposition").unwrap_or_default();
    parameterized(disposition).value.eq_ignore_ascii_case(b"attachment")
}

/// The names of the files in a message; a file without one is named by its type.
pub fn attachments(message: &[u8]) -> Vec<String> {
    let structure = Structure::parse(message);
    let files = structure.parts().iter().filter(|part| {
        let file = !part.is_type(b"text") || is_attachment(&structure, part);
        part.kind == Kind::Leaf && file
    });
    let name = |part: &Part<'_>| {
        let disposition = value(structure.header(part), b"content-disposition").unwrap_or_default();
        let disposition = parameterized(disposition);
        let named = disposition.parameter(b"filename").or_else(|| part.content_type.parameter(b"name"));
        let name = named.map_or_else(
            || String::from_utf8_lossy(&part.content_type.value).into_owned(),
            |name| decode_header(name).into_owned(),
        );
        name.chars().filter(|c| !c.is_control()).collect()
    };
    files.take(ATTACHMENTS_MAX).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read() {
        for (message, expected, files) in [
            ("Subject: x\r\n\r\nhi\r\nyou", "hi\nyou", &[][..]),
            ("Content-Type: text/html\r\n\r\n<p>hi <b>you</b></p>", "hi you", &[]),
            ("Content-Type: text/plain; charset=cp50220\r\n\r\n\x1b$B;3\x1b(B\r\n", "山\n", &[]),
            (
                "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>h\r\n\
                 --b\r\nContent-Type: text/plain\r\nContent-Disposition: attachment; filename=a.txt\r\n\r\nx\r\n\
                 --b\r\nContent-Type: image/png\r\n\r\nx\r\n--b--\r\n",
                "h",
                &["a.txt", "image/png"],
            ),
            ("Content-Type: image/png\r\n\r\nx", "", &["image/png"]),
        ] {
            assert_eq!(text(message.as_bytes()).trim_end(), expected.trim_end(), "{message}");
            assert_eq!(attachments(message.as_bytes()), files, "{message}");
        }
    }
}
