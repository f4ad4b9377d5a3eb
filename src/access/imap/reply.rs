//! The pieces that answers are made of (RFC 3501 §9), appended to a buffer.

use super::command::Flag;

use crate::message::string::MAX_QUOTED;
pub use crate::message::string::{NUL_SUBSTITUTE, literal, literal8, nstring, number, string};

/// Characters that an atom cannot hold although they are printable (RFC 3501 §9, `atom-specials`). `]` is none in an
/// astring.
pub const ATOM_SPECIALS: &[u8] = b"(){%*\"\\";

/// Whether the byte may stand in an unquoted astring.
pub fn is_astring_char(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7E) && !ATOM_SPECIALS.contains(&byte)
}

/// Writes a string unquoted where the grammar lets it, else quoted or as a literal. For mailbox names and the like.
pub fn astring(out: &mut Vec<u8>, text: &[u8]) {
    // A mailbox that is called NIL must not be taken for nothing.
    if !text.is_empty()
        && text.iter().all(|&byte| is_astring_char(byte))
        && !text.eq_ignore_ascii_case(b"NIL")
    {
        out.extend_from_slice(text);
    } else {
        string(out, text);
    }
}

/// Writes UTF-8 text as a quoted string (RFC 9051 §9, `QUOTED-CHAR`), or as a literal if it holds line ends.
pub fn utf8(out: &mut Vec<u8>, text: &str) {
    if text.is_ascii() || text.len() > MAX_QUOTED || text.contains(['\r', '\n', '\0']) {
        return astring(out, text.as_bytes());
    }
    out.push(b'"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push(b'\\');
        }
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    out.push(b'"');
}

/// Writes a flag list with its parentheses.
pub fn flag_list<'a>(out: &mut Vec<u8>, flags: impl IntoIterator<Item = &'a Flag>) {
    out.push(b'(');
    for (index, flag) in flags.into_iter().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(flag.name().as_bytes());
    }
    out.push(b')');
}

/// Writes numbers, each after a blank, as `* SEARCH` has them.
pub fn numbers(out: &mut Vec<u8>, numbers: impl IntoIterator<Item = u32>) {
    for value in numbers {
        out.push(b' ');
        number(out, u64::from(value));
    }
}

/// Writes a text for people behind a status: line ends and control characters become blanks, so that nothing that a
/// client sent can start an answer of its own.
pub fn text(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes().map(|byte| if matches!(byte, b' '..=b'~') { byte } else { b' ' }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn strings_take_the_simplest_form() {
        let cases = [
            ("INBOX", "INBOX"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("say \"hi\\\"", "\"say \\\"hi\\\\\\\"\""),
            ("nil", "\"nil\""),
            ("a]b", "a]b"),
            ("a*", "\"a*\""),
            ("a\r\nb", "{4}\r\na\r\nb"),
            ("日本", "{6}\r\n日本"),
        ];
        for (text, expected) in cases {
            assert_eq!(written(|out| astring(out, text.as_bytes())), expected);
        }
    }

    #[test]
    fn lists_and_texts() {
        let flags = [Flag::Seen, Flag::Keyword("$Forwarded".into())];
        assert_eq!(written(|out| flag_list(out, &flags)), "(\\Seen $Forwarded)");
        assert_eq!(written(|out| flag_list(out, [])), "()");
        assert_eq!(written(|out| numbers(out, [1, 20, u32::MAX])), " 1 20 4294967295");
        assert_eq!(written(|out| text(out, "a\r\n* BYE")), "a  * BYE");
    }
}
