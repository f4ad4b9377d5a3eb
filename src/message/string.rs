//! IMAP strings (RFC 3501 §4.3), as they stand in ENVELOPE and BODYSTRUCTURE.

/// Longest string in bytes that is written quoted; longer ones become literals, because clients limit line lengths.
pub const MAX_QUOTED: usize = 1_000;

/// Stands for a NUL byte, which RFC 3501 allows in no string. Not valid in any charset that mail uses at that
/// place, and of the same length.
pub const NUL_SUBSTITUTE: u8 = 0x80;

/// Writes `text` as a quoted string, or as a literal when it holds 8-bit or control characters or is long.
pub fn string(out: &mut Vec<u8>, text: &[u8]) {
    if text.len() <= MAX_QUOTED && text.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
        quoted(out, text);
    } else {
        literal(out, text);
    }
}

/// Writes `text` as a string, or `NIL` for none.
pub fn nstring(out: &mut Vec<u8>, text: Option<&[u8]>) {
    match text {
        Some(text) => string(out, text),
        None => out.extend_from_slice(b"NIL"),
    }
}

fn quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    if memchr::memchr2(b'"', b'\\', text).is_none() {
        out.extend_from_slice(text);
    } else {
        for &byte in text {
            if matches!(byte, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(byte);
        }
    }
    out.push(b'"');
}

/// Writes `text` as a literal: its length, then the bytes. NUL bytes are replaced.
pub fn literal(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'{');
    number(out, text.len() as u64);
    out.extend_from_slice(b"}\r\n");
    out.extend(text.iter().map(|&byte| if byte == 0 { NUL_SUBSTITUTE } else { byte }));
}

/// Writes `text` as a literal; one that holds NUL bytes as a literal8 (RFC 3516), unchanged.
pub fn literal8(out: &mut Vec<u8>, text: &[u8]) {
    if memchr::memchr(0, text).is_none() {
        return literal(out, text);
    }
    out.extend_from_slice(b"~{");
    number(out, text.len() as u64);
    out.extend_from_slice(b"}\r\n");
    out.extend_from_slice(text);
}

/// Writes a number in decimal.
pub fn number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        if let Some(digit) = digits.get_mut(at) {
            *digit = b'0' + (rest % 10) as u8;
        }
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}
