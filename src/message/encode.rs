//! Text to bytes: charsets, encoded words and bodies, for messages that we write or change.
//!
//! The rule for Japanese: a text stays in the charset that it came in if that holds all of it, else it becomes UTF-8 as a whole;
//! never a question mark, never a mixture. ISO-2022-JP means CP50220, as every Windows program writes it: half-width katakana become
//! full-width, and the signs that JIS and Windows tables read differently are taken to the Windows side, where the encoder knows them.
//! No other character is changed; in particular there is no Unicode normalization, which would respell people's names.
//!
//! # Failure
//! [`bytes`] answers `None` for a text that the charset does not hold; [`header_text`] and [`body`] then use UTF-8.
//!
//! # Limits
//! Those of [`layout::mime`].

use super::charset::Charset;
use super::search::{KATAKANA, voice};
use encoding_rs::{EUC_JP, Encoding, ISO_2022_JP, SHIFT_JIS};
use layout::mime::{self, Coding};
pub use layout::mime::{LINE_MAX, base64_lines};

/// The bytes of a text in a charset; `None` if it does not hold all of it.
pub fn bytes(text: &str, charset: Charset) -> Option<Vec<u8>> {
    match charset {
        Charset::Ascii => text.is_ascii().then(|| text.as_bytes().to_vec()),
        Charset::Iso2022Jp => encoded(&windows_japanese(text), ISO_2022_JP),
        Charset::Web(encoding) if encoding == SHIFT_JIS || encoding == EUC_JP => {
            encoded(text, encoding).or_else(|| encoded(&windows_japanese(text), encoding))
        }
        Charset::Web(encoding) => encoded(text, encoding),
        Charset::Utf7 => None,
    }
}

fn encoded(text: &str, encoding: &'static Encoding) -> Option<Vec<u8>> {
    let (bytes, used, unmappable) = encoding.encode(text);
    (used == encoding && !unmappable).then(|| bytes.into_owned())
}

/// The name of a charset for a header.
pub fn name(charset: Charset) -> &'static str {
    match charset {
        Charset::Ascii => "us-ascii",
        Charset::Iso2022Jp => "ISO-2022-JP",
        Charset::Utf7 => "utf-7",
        Charset::Web(encoding) => encoding.name(),
    }
}

/// The text as CP50220 has it: full-width katakana, the Windows reading of signs that have two, and kana joined with their voicing marks.
fn windows_japanese(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{3099}' | '\u{309A}' | '\u{FF9E}' | '\u{FF9F}' => voice(&mut out, c),
            '\u{FF61}'..='\u{FF9D}' => {
                out.push(KATAKANA.get((c as u32 - 0xFF61) as usize).copied().unwrap_or(c));
            }
            '\u{301C}' => out.push('\u{FF5E}'),
            '\u{2016}' => out.push('\u{2225}'),
            '\u{2014}' => out.push('\u{2015}'),
            '\u{2212}' => out.push('\u{FF0D}'),
            '\u{A2}' => out.push('\u{FFE0}'),
            '\u{A3}' => out.push('\u{FFE1}'),
            '\u{AC}' => out.push('\u{FFE2}'),
            '\u{A5}' => out.push('\u{FFE5}'),
            '\u{203E}' => out.push('\u{FFE3}'),
            '\u{A0}' => out.push(' '),
            _ => out.push(c),
        }
    }
    out
}

impl Coding for Charset {
    fn name(&self) -> &'static str {
        name(*self)
    }

    fn bytes(&self, text: &str) -> Option<Vec<u8>> {
        bytes(text, *self)
    }
}

/// A text as the value of a header field, in `charset` where it needs one, or UTF-8: [`mime::header_text`].
pub fn header_text(text: &str, charset: Charset, column: usize) -> String {
    mime::header_text(text, &charset, column)
}

/// The name in front of an address, if it is not all ASCII, in `charset` or UTF-8: [`mime::phrase`].
pub fn phrase(text: &str, charset: Charset, column: usize) -> String {
    mime::phrase(text, &charset, column)
}

/// A body as it goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// The name of its charset.
    pub charset: &'static str,
    /// Its transfer encoding.
    pub encoding: &'static str,
    /// The bytes, with CRLF line ends.
    pub bytes: Vec<u8>,
}

/// A text as a body: as it is if it is ASCII, in `charset` if that holds it, else in UTF-8.
pub fn body(text: &str, charset: Charset) -> Body {
    let text: String = text.lines().map(|line| format!("{}\r\n", line.trim_end_matches('\r'))).collect();
    let simple = |c: char| !c.is_control() || matches!(c, '\t' | '\r' | '\n');
    let short = |bytes: &[u8]| bytes.split(|byte| *byte == b'\n').all(|line| line.len() <= LINE_MAX);
    let as_it_is = text.chars().all(simple) && short(text.as_bytes());
    if text.is_ascii() && as_it_is {
        return Body { charset: "us-ascii", encoding: "7bit", bytes: text.into_bytes() };
    }
    match bytes(&text, charset) {
        Some(bytes) if charset == Charset::Iso2022Jp && as_it_is && short(&bytes) => {
            Body { charset: name(charset), encoding: "7bit", bytes }
        }
        Some(bytes) if charset != Charset::Ascii => {
            Body { charset: name(charset), encoding: "base64", bytes: base64_lines(&bytes) }
        }
        _ => Body { charset: "utf-8", encoding: "base64", bytes: base64_lines(text.as_bytes()) },
    }
}

/// Quoted-printable (RFC 2045 §6.7) of text with CRLF line ends.
pub fn quoted_printable(bytes: &[u8]) -> Vec<u8> {
    /// With the `=` of a soft line break a line has 76 characters.
    const LINE: usize = 75;
    let (mut out, mut column) = (Vec::with_capacity(bytes.len() + 16), 0);
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if bytes.get(at..at + 2) == Some(b"\r\n") {
            out.extend_from_slice(b"\r\n");
            (at, column) = (at + 2, 0);
            continue;
        }
        let last = matches!(bytes.get(at + 1..), None | Some([] | [b'\r', b'\n', ..]));
        let plain = matches!(byte, b'!'..=b'<' | b'>'..=b'~') || (matches!(byte, b' ' | b'\t') && !last);
        let piece = if plain { vec![byte] } else { format!("={byte:02X}").into_bytes() };
        if column + piece.len() > LINE {
            out.extend_from_slice(b"=\r\n");
            column = 0;
        }
        column += piece.len();
        out.extend(piece);
        at += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::charset::{UTF8, decode, decode_header, decode_quoted_printable};
    use super::*;
    use proptest::prelude::*;

    const JIS: Charset = Charset::Iso2022Jp;

    #[test]
    fn japanese_in_a_header() {
        let long = "山田さんの会議の件名がとても長いときにどうなるかを見るための件名です";
        for (text, charset, begins) in [
            ("plain", JIS, "plain"),
            ("[news] 会議", JIS, "[news] =?ISO-2022-JP?B?"),
            ("Re: [news] 髙﨑様①", JIS, "Re: [news] =?ISO-2022-JP?B?"),
            ("会議 today", JIS, "=?ISO-2022-JP?B?"),
            ("会議 \u{1F600}", JIS, "=?UTF-8?B?"),
            (long, JIS, "=?ISO-2022-JP?B?"),
            (long, UTF8, "=?UTF-8?B?"),
            ("caf\u{e9}", Charset::Ascii, "=?UTF-8?B?"),
            ("a =?b", Charset::Ascii, "a =?us-ascii?B?"),
        ] {
            let value = header_text(text, charset, 9);
            assert!(value.starts_with(begins), "{value}");
            assert_eq!(decode_header(value.as_bytes()), text, "{value}");
            for (at, line) in value.split("\r\n").enumerate() {
                assert!(line.len() + if at == 0 { 9 } else { 0 } <= mime::HEADER_LINE_MAX, "{line}");
            }
        }
    }

    #[test]
    fn what_cp50220_has_no_place_for_is_utf_8() {
        assert_eq!(bytes("〜", JIS), bytes("～", JIS));
        assert_eq!(bytes("ｶﾞｷﾞ", JIS), bytes("ガギ", JIS));
        assert_eq!(bytes("か\u{3099}", JIS), bytes("が", JIS));
        assert!(bytes("髙﨑①㈱Ⅲ神福", JIS).is_some());
        assert_eq!(bytes("𠮷", JIS), None);
        let written = body("山田\n", JIS);
        assert_eq!((written.charset, written.encoding), ("ISO-2022-JP", "7bit"));
        assert_eq!(decode(Some(b"iso-2022-jp"), &written.bytes), "山田\r\n");
        let written = body("𠮷\n", JIS);
        assert_eq!((written.charset, written.encoding), ("utf-8", "base64"));
        assert_eq!(body("a\nb", JIS).bytes, b"a\r\nb\r\n");
        assert_eq!(body(&"x".repeat(2000), JIS).encoding, "base64");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_header_reads_back(text in "[a-z =?\u{3041}-\u{3093}\u{4e00}-\u{4e20}\u{e9}\u{1f600}]{0,90}") {
            for charset in [JIS, UTF8, Charset::Ascii] {
                let value = header_text(&text, charset, 9);
                let read = decode_header(value.as_bytes());
                prop_assert_eq!(read.trim(), text.trim());
            }
        }

        #[test]
        fn quoted_printable_reads_back(text in prop::collection::vec(
            prop_oneof![Just(b' '), Just(b'='), Just(b'\r'), Just(b'\n'), any::<u8>()], 0..200)) {
            let written = quoted_printable(&text);
            prop_assert_eq!(decode_quoted_printable(&written), text);
            prop_assert!(written.split(|b| *b == b'\n').all(|line| line.len() <= 77));
        }
    }
}
