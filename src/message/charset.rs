//! Bytes to text: charsets, encoded words (RFC 2047) and transfer encodings (RFC 2045 §6).
//!
//! Decoding never fails: what cannot be read becomes U+FFFD, an unknown charset is guessed. Japanese mail gets special
//! care, because "ISO-2022-JP" mail really holds CP50220, CP50221 or JIS X 0212 text, and labels are often missing
//! or wrong. Output is at most three times the input, so the caller's limit on message size limits it.

use std::borrow::Cow;

use encoding_rs::{EUC_JP, Encoding, SHIFT_JIS, UTF_8, WINDOWS_1252};
use mail_parser::decoders::{base64::base64_decode, charsets::map::charset_decoder};

use super::header;

/// How the bytes of a charset become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charset {
    /// US-ASCII: as long as there are 8-bit bytes, the label was wrong and they are guessed.
    Ascii,
    /// The ISO-2022-JP family; see [`decode_iso_2022_jp`].
    Iso2022Jp,
    /// UTF-7 (RFC 2152).
    Utf7,
    /// Everything that the web knows too.
    Web(&'static Encoding),
}

/// Labels that the web's table (encoding_rs) does not know or reads otherwise than mail does, in lower case.
const LABELS: [(&str, Charset); 28] = [
    ("us-ascii", Charset::Ascii),
    ("ascii", Charset::Ascii),
    ("ansi_x3.4-1968", Charset::Ascii),
    ("iso-2022-jp", Charset::Iso2022Jp),
    ("iso-2022-jp-1", Charset::Iso2022Jp),
    ("iso-2022-jp-2", Charset::Iso2022Jp),
    ("iso-2022-jp-3", Charset::Iso2022Jp),
    ("iso-2022-jp-ms", Charset::Iso2022Jp),
    ("csiso2022jp", Charset::Iso2022Jp),
    ("csiso2022jp2", Charset::Iso2022Jp),
    ("cp50220", Charset::Iso2022Jp),
    ("cp50221", Charset::Iso2022Jp),
    ("cp50222", Charset::Iso2022Jp),
    ("x-windows-50220", Charset::Iso2022Jp),
    ("x-windows-50221", Charset::Iso2022Jp),
    ("x-windows-iso2022jp", Charset::Iso2022Jp),
    ("jis", Charset::Iso2022Jp),
    ("cp932", Charset::Web(SHIFT_JIS)),
    ("cp943", Charset::Web(SHIFT_JIS)),
    ("cp943c", Charset::Web(SHIFT_JIS)),
    ("x-ms-cp932", Charset::Web(SHIFT_JIS)),
    ("shiftjis", Charset::Web(SHIFT_JIS)),
    ("cp51932", Charset::Web(EUC_JP)),
    ("eucjp", Charset::Web(EUC_JP)),
    ("eucjp-ms", Charset::Web(EUC_JP)),
    ("x-euc", Charset::Web(EUC_JP)),
    ("utf-7", Charset::Utf7),
    ("unicode-1-1-utf-7", Charset::Utf7),
];

impl Charset {
    /// Looks a charset label up. `None` when it is not known.
    pub fn for_label(label: &[u8]) -> Option<Charset> {
        let label = label.trim_ascii();
        let own = LABELS.iter().find(|(name, _)| label.eq_ignore_ascii_case(name.as_bytes()));
        own.map(|(_, charset)| *charset).or_else(|| {
            // The no-replacement form leaves out charsets that encoding_rs knows by name only (ISO-2022-KR, HZ).
            Encoding::for_label_no_replacement(label).map(Charset::Web)
        })
    }

    /// Decodes text.
    pub fn decode(self, bytes: &[u8]) -> Cow<'_, str> {
        match self {
            Charset::Ascii => guess(bytes),
            Charset::Iso2022Jp => decode_iso_2022_jp(bytes),
            Charset::Utf7 => match charset_decoder(b"utf-7") {
                Some(decode) => Cow::Owned(decode(bytes)),
                None => String::from_utf8_lossy(bytes),
            },
            Charset::Web(encoding) => encoding.decode_without_bom_handling(bytes).0,
        }
    }

    /// Whether text without 8-bit bytes and without ESC is the same in this charset as in US-ASCII.
    pub fn keeps_ascii(self) -> bool {
        match self {
            Charset::Ascii | Charset::Iso2022Jp => true,
            Charset::Utf7 => false,
            Charset::Web(encoding) => encoding.is_ascii_compatible(),
        }
    }
}

/// Whether the bytes are plain ASCII in every charset that keeps ASCII: no 8-bit bytes and no shift sequences.
pub fn is_plain(bytes: &[u8]) -> bool {
    bytes.is_ascii() && memchr::memchr3(0x1B, 0x0E, 0x0F, bytes).is_none()
}

/// Decodes text with a charset label; an absent or unknown label is guessed.
pub fn decode<'a>(label: Option<&[u8]>, bytes: &'a [u8]) -> Cow<'a, str> {
    match label.and_then(Charset::for_label) {
        Some(charset) => charset.decode(bytes),
        None => guess(bytes),
    }
}

/// Decodes text of unknown charset: UTF-8, else ISO-2022-JP, EUC-JP or CP932, else windows-1252.
pub fn guess(bytes: &[u8]) -> Cow<'_, str> {
    if has_shift(bytes) {
        return decode_iso_2022_jp(bytes);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let clean =
        |encoding: &'static Encoding| encoding.decode_without_bom_handling_and_without_replacement(bytes);
    match (clean(SHIFT_JIS), clean(EUC_JP)) {
        // EUC-JP hiragana read as CP932 are half-width katakana, which hardly anybody writes in mail.
        (Some(cp932), Some(euc)) => {
            if cp932.chars().any(is_half_width_katakana) {
                euc
            } else {
                cp932
            }
        }
        (Some(text), None) | (None, Some(text)) => text,
        (None, None) => WINDOWS_1252.decode_without_bom_handling(bytes).0,
    }
}

fn is_half_width_katakana(character: char) -> bool {
    matches!(character, '\u{FF61}'..='\u{FF9F}')
}

fn has_shift(bytes: &[u8]) -> bool {
    memchr::memchr_iter(0x1B, bytes).any(|at| matches!(bytes.get(at + 1), Some(b'$' | b'(')))
}

/// Character set that an ISO-2022-JP text is shifted to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shift {
    /// US-ASCII or JIS X 0201 Roman.
    Ascii,
    /// Half-width katakana (`ESC ( I`, or SO).
    Katakana,
    /// JIS X 0208 with the vendor rows.
    Kanji,
    /// JIS X 0212 (`ESC $ ( D`).
    Supplement,
    /// A two-byte set that is not Japanese (ISO-2022-JP-2).
    Unknown,
}

/// The shift sequences, without the ESC.
const SHIFTS: [(&[u8], Shift); 10] = [
    (b"(B", Shift::Ascii),
    (b"(J", Shift::Ascii),
    (b"(H", Shift::Ascii),
    (b"(I", Shift::Katakana),
    (b"$@", Shift::Kanji),
    (b"$B", Shift::Kanji),
    (b"$(B", Shift::Kanji),
    (b"$(D", Shift::Supplement),
    (b"$A", Shift::Unknown),
    (b"$(C", Shift::Unknown),
];

/// Decodes what goes as ISO-2022-JP: RFC 1468 with the vendor characters of CP50220, half-width katakana as
/// `ESC ( I`, SO/SI or 8-bit bytes, and JIS X 0212. A line end leads back to ASCII, which RFC 1468 demands of the
/// writer; a mail that forgets it loses one line, not the rest. Mislabelled UTF-8 and CP932 is read as such.
pub fn decode_iso_2022_jp(bytes: &[u8]) -> Cow<'_, str> {
    if !has_shift(bytes) && memchr::memchr2(0x0E, 0x0F, bytes).is_none() {
        return match std::str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => guess(bytes),
        };
    }
    let euc = iso_2022_jp_to_euc(bytes);
    Cow::Owned(EUC_JP.decode_without_bom_handling(&euc).0.into_owned())
}

/// EUC-JP has the same characters as ISO-2022-JP and no state: 0x80 is added, prefixes tell the sets apart.
fn iso_2022_jp_to_euc(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut shift = Shift::Ascii;
    let mut rest = bytes;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match byte {
            0x1B => {
                if let Some((sequence, next)) = SHIFTS.iter().find(|(sequence, _)| tail.starts_with(sequence))
                {
                    rest = tail.get(sequence.len()..).unwrap_or_default();
                    shift = *next;
                }
            }
            0x0E => shift = Shift::Katakana,
            0x0F => shift = Shift::Ascii,
            b'\r' | b'\n' => {
                shift = Shift::Ascii;
                out.push(*byte);
            }
            0xA1..=0xDF => out.extend_from_slice(&[0x8E, *byte]),
            0x80.. => out.push(0xFF),
            0x21..=0x7E => match shift {
                Shift::Ascii => out.push(*byte),
                Shift::Katakana => out.extend_from_slice(&[0x8E, byte | 0x80]),
                Shift::Kanji | Shift::Supplement | Shift::Unknown => {
                    let Some((second @ 0x21..=0x7E, tail)) = rest.split_first() else { continue };
                    rest = tail;
                    match shift {
                        Shift::Unknown => out.push(0xFF),
                        Shift::Supplement => out.extend_from_slice(&[0x8F, byte | 0x80, second | 0x80]),
                        _ => out.extend_from_slice(&[byte | 0x80, second | 0x80]),
                    }
                }
            },
            _ => out.push(*byte),
        }
    }
    out
}

/// Decodes the value of a header field for reading: unfolded, encoded words decoded, raw 8-bit text guessed.
///
/// More is accepted than RFC 2047 allows: encoded words inside quoted strings or without blanks around them, blanks
/// inside them, and characters cut in two between words of the same charset.
pub fn decode_header(value: &[u8]) -> Cow<'_, str> {
    let Cow::Owned(unfolded) = header::unfold(value) else {
        let value = value.trim_ascii();
        return if memchr::memmem::find(value, b"=?").is_none() {
            guess(value)
        } else {
            Cow::Owned(decode_words(value))
        };
    };
    Cow::Owned(decode_words(&unfolded))
}

fn decode_words(value: &[u8]) -> String {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    // Bytes of the encoded words read last, waiting for more of the same charset.
    let mut pending: Option<(Charset, Vec<u8>)> = None;
    while let Some(start) = memchr::memmem::find(rest, b"=?") {
        let (before, word_start) = rest.split_at(start);
        let Some((word, tail)) = encoded_word(word_start) else {
            flush(&mut out, pending.take());
            let (text, tail) = rest.split_at(start + 2);
            out.push_str(&guess(text));
            rest = tail;
            continue;
        };
        // Blanks between two encoded words do not count (RFC 2047 §6.2).
        if pending.is_none() || !before.trim_ascii().is_empty() {
            flush(&mut out, pending.take());
            out.push_str(&guess(before));
        }
        match &mut pending {
            Some((charset, bytes)) if *charset == word.charset => bytes.extend_from_slice(&word.bytes),
            _ => flush(&mut out, pending.replace((word.charset, word.bytes))),
        }
        rest = tail;
    }
    flush(&mut out, pending);
    out.push_str(&guess(rest));
    out
}

fn flush(out: &mut String, pending: Option<(Charset, Vec<u8>)>) {
    if let Some((charset, bytes)) = pending {
        out.push_str(&charset.decode(&bytes));
    }
}

/// An encoded word, its transfer encoding undone.
struct EncodedWord {
    charset: Charset,
    bytes: Vec<u8>,
}

/// Longest charset name in an encoded word, in bytes, with the language of RFC 2231 §5.
const MAX_CHARSET_NAME: usize = 100;

/// Longest text of an encoded word, in bytes. RFC 2047 §2 says 75 for the whole word; some programs do not break
/// long subjects at all.
const MAX_ENCODED_WORD: usize = 8_000;

/// Reads the encoded word that `bytes` starts with; gives it and what follows.
fn encoded_word(bytes: &[u8]) -> Option<(EncodedWord, &[u8])> {
    let bytes = bytes.strip_prefix(b"=?")?;
    let name_end = memchr::memchr(b'?', bytes.get(..bytes.len().min(MAX_CHARSET_NAME))?)?;
    let (name, bytes) = bytes.split_at(name_end);
    let name = name.split(|&byte| byte == b'*').next()?;
    let [b'?', encoding, b'?', bytes @ ..] = bytes else { return None };
    let text = bytes.get(..bytes.len().min(MAX_ENCODED_WORD))?;
    let end = match encoding {
        // In Q text `?=` can be a bare question mark before `=20`; behind the true end no hex pair follows.
        b'Q' | b'q' => {
            let mut ends = memchr::memmem::find_iter(text, b"?=");
            ends.clone().find(|&end| !is_hex_pair(text.get(end + 2..))).or_else(|| ends.next())?
        }
        _ => memchr::memmem::find(text, b"?=")?,
    };
    let (text, tail) = (bytes.get(..end)?, bytes.get(end + 2..)?);
    let decoded = match encoding {
        b'B' | b'b' => decode_base64(text),
        b'Q' | b'q' => decode_q(text),
        _ => return None,
    };
    // Unknown charsets are guessed, as `Ascii` is.
    let charset = Charset::for_label(name).unwrap_or(Charset::Ascii);
    Some((EncodedWord { charset, bytes: decoded }, tail))
}

fn is_hex_pair(bytes: Option<&[u8]>) -> bool {
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'A'..=b'F');
    matches!(bytes, Some([high, low, ..]) if is_hex(high) && is_hex(low))
}

/// Decodes the Q encoding: quoted-printable with `_` for a blank (RFC 2047 §4.2).
fn decode_q(text: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = text.iter().map(|&byte| if byte == b'_' { b' ' } else { byte }).collect();
    decode_quoted_printable(&spaced)
}

/// How the body of a part is packed for transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferEncoding {
    /// `7bit`, `8bit`, `binary`, or anything unknown: the bytes stand for themselves.
    Identity,
    /// `base64`.
    Base64,
    /// `quoted-printable`.
    QuotedPrintable,
}

impl TransferEncoding {
    /// Encoding that a part's header names.
    pub fn of_header(header: &[u8]) -> Self {
        let Some(field) = header::value(header, b"Content-Transfer-Encoding") else { return Self::Identity };
        let name = header::parameterized(field).value;
        if name.eq_ignore_ascii_case(b"base64") {
            Self::Base64
        } else if name.eq_ignore_ascii_case(b"quoted-printable") {
            Self::QuotedPrintable
        } else {
            Self::Identity
        }
    }

    /// Unpacks a body; what is wrong in it is skipped or taken as it stands.
    pub fn decode(self, body: &[u8]) -> Cow<'_, [u8]> {
        match self {
            Self::Identity => Cow::Borrowed(body),
            Self::Base64 => Cow::Owned(decode_base64(body)),
            Self::QuotedPrintable => Cow::Owned(decode_quoted_printable(body)),
        }
    }
}

/// Decodes base64; characters outside its alphabet are skipped (RFC 2045 §6.8).
pub fn decode_base64(text: &[u8]) -> Vec<u8> {
    base64_decode(text).unwrap_or_else(|| {
        let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
        let clean: Vec<u8> = text.iter().copied().filter(is_base64).collect();
        base64_decode(&clean).unwrap_or_default()
    })
}

/// Decodes quoted-printable; an `=` that starts neither a hex pair nor a soft line break stands for itself.
pub fn decode_quoted_printable(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(equals) = memchr::memchr(b'=', rest) {
        let (before, coded) = rest.split_at(equals);
        out.extend_from_slice(before);
        let coded = coded.get(1..).unwrap_or_default();
        rest = match coded {
            [high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                out.push(hex(*high) << 4 | hex(*low));
                tail
            }
            _ => match soft_line_break(coded) {
                Some(tail) => tail,
                None => {
                    out.push(b'=');
                    coded
                }
            },
        };
    }
    out.extend_from_slice(rest);
    out
}

/// What follows a soft line break: blanks, then a line end (or the end of the text).
fn soft_line_break(text: &[u8]) -> Option<&[u8]> {
    let blanks = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    match text.get(blanks..)? {
        [b'\r', b'\n', tail @ ..] | [b'\n', tail @ ..] => Some(tail),
        [] => Some(&[]),
        _ => None,
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0,
    }
}

/// The encoding that stands for text in Rust; for callers that name a charset.
pub const UTF8: Charset = Charset::Web(UTF_8);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "\u{5C71}\u{7530}\u{3055}\u{3093}\u{306E}\u{30C6}\u{30B9}\u{30C8}";

    #[test]
    fn japanese_text_in_every_charset() {
        let jis = encoding_rs::ISO_2022_JP.encode(TEXT).0;
        let sjis = SHIFT_JIS.encode(TEXT).0;
        let euc = EUC_JP.encode(TEXT).0;
        let utf8 = TEXT.as_bytes();
        let labelled: [(&str, &[u8]); 14] = [
            ("ISO-2022-JP", &jis),
            ("cp50220", &jis),
            ("CP50221", &jis),
            ("iso-2022-jp-ms", &jis),
            ("us-ascii", &jis),
            ("Shift_JIS", &sjis),
            ("cp932", &sjis),
            ("Windows-31J", &sjis),
            ("x-sjis", &sjis),
            ("EUC-JP", &euc),
            ("cp51932", &euc),
            ("utf-8", utf8),
            ("no-such-charset", utf8),
            ("iso-2022-jp", utf8),
        ];
        for (label, bytes) in labelled {
            assert_eq!(decode(Some(label.as_bytes()), bytes), TEXT, "{label}");
        }
        for bytes in [jis.as_ref(), &sjis, &euc, utf8] {
            assert_eq!(guess(bytes), TEXT);
        }
        assert_eq!(decode(Some(b"utf-7"), b"Hi +ZeVnLIqe-"), "Hi \u{65E5}\u{672C}\u{8A9E}");
    }

    #[test]
    fn what_really_goes_as_iso_2022_jp() {
        // Kanji that only the vendors' tables have.
        let vendor = encoding_rs::ISO_2022_JP.encode("\u{9AD9}\u{FA11}").0;
        let cases: [(&[u8], &str); 10] = [
            (b"a\x1B$B$\"\x1B(Bb", "a\u{3042}b"),
            (b"\x1B$@$\"\x1B(J\\", "\u{3042}\\"),
            (b"\x1B$B-!\x1B(B", "\u{2460}"),
            (&vendor, "\u{9AD9}\u{FA11}"),
            (b"\x1B(I1\x1B(B", "\u{FF71}"),
            (b"\x0E1\x0F1", "\u{FF71}1"),
            (b"\xB1\x1B$B$\"\x1B(B", "\u{FF71}\u{3042}"),
            (b"\x1B$(D0!\x1B(B", "\u{4E02}"),
            (b"\x1B$B$\"\r\nplain", "\u{3042}\r\nplain"),
            (b"\x1B$B\x1B(B\x1B$B$\"\x1B(B", "\u{3042}"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(decode_iso_2022_jp(bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn header_values() {
        let cases = [
            ("plain", "plain"),
            ("=?ISO-2022-JP?B?GyRCOzNFRBsoQg==?= x", "\u{5C71}\u{7530} x"),
            ("=?iso-8859-1?q?a_=E9?= =?utf-8*en?Q?b?=\r\n =?UTF-8?B?Yw==?= d", "a \u{E9}bc d"),
            // One character cut in two by the sender.
            ("=?utf-8?Q?=E3=81?= =?UTF-8?Q?=82?=", "\u{3042}"),
            ("\"=?utf-8?B?5pel?=\" <a@b>", "\"\u{65E5}\" <a@b>"),
            ("a=?utf-8?Q?b?=c", "abc"),
            ("=?cp932?B?jlI=?=", "\u{5C71}"),
            ("=?x-unknown?Q?=8ER?=", "\u{5C71}"),
            ("=?utf-8?Q?who?=20?=", "who? "),
            ("=?utf-8?Q?open", "=?utf-8?Q?open"),
            ("=?utf-8?X?a?=", "=?utf-8?X?a?="),
            ("=??Q?a?=", "a"),
            ("\u{5C71} raw", "\u{5C71} raw"),
            (" a\r\n\tb ", "a\tb"),
        ];
        for (value, expected) in cases {
            assert_eq!(decode_header(value.as_bytes()), expected, "{value}");
        }
        assert_eq!(decode_header(b"\x1B$B;3\x1B(B"), "\u{5C71}");
        assert_eq!(decode_header(b"\x8ER"), "\u{5C71}");
    }

    #[test]
    fn transfer_encodings() {
        assert_eq!(decode_base64(b"5pel\r\n5pys"), "\u{65E5}\u{672C}".as_bytes());
        assert_eq!(decode_base64(b"!5p!el"), "\u{65E5}".as_bytes());
        let cases = [
            ("a=3Db", "a=b"),
            ("a=\r\nb", "ab"),
            ("a= \t\nb", "ab"),
            ("a=", "a"),
            ("a=zz", "a=zz"),
            ("=e9=4", "\u{FFFD}=4"),
        ];
        for (text, expected) in cases {
            assert_eq!(String::from_utf8_lossy(&decode_quoted_printable(text.as_bytes())), expected);
        }
        let header = b"Content-Transfer-Encoding: Quoted-Printable (x)\r\n\r\n";
        assert_eq!(TransferEncoding::of_header(header), TransferEncoding::QuotedPrintable);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100), text in "[=?QBqb\\x1b$(BJI@D a-f0-9\r\n_*]{0,60}") {
            for input in [bytes.as_slice(), text.as_bytes()] {
                let _ = (guess(input), decode_iso_2022_jp(input), decode_header(input), decode_base64(input), decode_quoted_printable(input));
                for label in ["utf-7", "utf-16", "gb2312", "us-ascii"] {
                    let _ = decode(Some(label.as_bytes()), input);
                }
            }
        }

        #[test]
        fn japanese_encodings_agree(text in "[\u{3041}-\u{3093}\u{30A1}-\u{30F6}a-z\r\n]{0,30}") {
            let encoded = encoding_rs::ISO_2022_JP.encode(&text).0;
            prop_assert_eq!(decode_iso_2022_jp(&encoded), text.as_str());
        }
    }
}
