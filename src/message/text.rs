//! The text of a message as a person reads it: header and body decoded, in one string each.
//!
//! # Limits
//! Those of [`structure`](super::structure); a message inside a message counts by its parts.

use super::charset::{self, TransferEncoding};
use super::header;
use super::structure::{Kind, Structure};

/// The header, one field a line, without folds, encoded words decoded.
pub fn header_text(message: &[u8]) -> String {
    let mut text = String::new();
    for field in header::fields(message) {
        text.push_str(&String::from_utf8_lossy(field.name));
        text.push_str(": ");
        text.push_str(&charset::decode_header(field.value));
        text.push('\n');
    }
    text
}

/// The text parts of the body, one behind the other, transfer encoding and character set decoded.
pub fn body_text(message: &[u8]) -> String {
    let structure = Structure::parse(message);
    let mut text = String::new();
    for part in structure.parts().iter().filter(|part| part.kind == Kind::Leaf && part.is_type(b"text")) {
        let encoding = TransferEncoding::of_header(structure.header(part));
        let bytes = encoding.decode(structure.body(part));
        text.push_str(&charset::decode(part.content_type.parameter(b"charset"), &bytes));
        text.push('\n');
    }
    text
}
