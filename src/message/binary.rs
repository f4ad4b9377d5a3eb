//! Parts without their transfer encoding (RFC 3516).

use super::charset::TransferEncoding;
use super::header;
use super::structure::{Kind, Structure};
use std::borrow::Cow;

/// A part, as far as it can be decoded.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// Its contents.
    Bytes(Cow<'a, [u8]>),
    /// Its encoding is none that is known.
    Unknown,
}

/// The contents of a part by its IMAP numbers, without their transfer encoding; no numbers are the message as it is. `None`: there is no such
/// part.
pub fn decoded<'a>(structure: &Structure<'a>, part: &[u32]) -> Option<Decoded<'a>> {
    if part.is_empty() {
        return Some(Decoded::Bytes(Cow::Borrowed(structure.message())));
    }
    let part = structure.find(part)?;
    let (head, body) = (structure.header(part), structure.body(part));
    Some(match part.kind {
        // Only what is inside can be encoded (RFC 2045 §6.4).
        Kind::Multipart(_) => Decoded::Bytes(Cow::Borrowed(body)),
        _ if !is_known(head) => Decoded::Unknown,
        _ => Decoded::Bytes(TransferEncoding::of_header(head).decode(body)),
    })
}

fn is_known(head: &[u8]) -> bool {
    const KNOWN: [&[u8]; 6] = [b"7bit", b"8bit", b"binary", b"base64", b"quoted-printable", b""];
    let name =
        header::value(head, b"Content-Transfer-Encoding").map(|field| header::parameterized(field).value);
    name.is_none_or(|name| KNOWN.iter().any(|known| name.trim_ascii().eq_ignore_ascii_case(known)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_decoded() {
        let message = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\n\
            AGEA\r\n--b\r\nContent-Transfer-Encoding: QUOTED-printable\r\n\r\na=3Db\r\n--b\r\nContent-Transfer-Encoding: x-rot13\r\n\r\n\
            n\r\n--b\r\n\r\nplain\r\n--b--\r\n";
        let structure = Structure::parse(message);
        let bytes = |bytes: &'static [u8]| Some(Decoded::Bytes(Cow::Borrowed(bytes)));
        for (part, expected) in [
            (&[1][..], bytes(b"\0a\0")),
            (&[2], bytes(b"a=b")),
            (&[3], Some(Decoded::Unknown)),
            (&[4], bytes(b"plain")),
            (&[5], None),
            (&[], bytes(message)),
        ] {
            assert_eq!(decoded(&structure, part), expected, "{part:?}");
        }
    }
}
