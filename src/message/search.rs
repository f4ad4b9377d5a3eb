//! Searching messages as SEARCH does (RFC 3501 §6.4.4): substrings without regard to case, in decoded text.
//!
//! Both sides are folded (see [`fold`]), so that a search finds a word whatever the charset, the width or the case
//! it was written in. Text that is plain ASCII is compared in place, without decoding: that is the fast path.
//! Only `text/*` parts and messages inside are searched, to a depth of [`MAX_NESTED`]. Long texts are decoded [`WINDOW`] by [`WINDOW`], so that
//! they are not in memory three times.

use super::charset::{self, Charset, TransferEncoding};
use super::header;
use super::structure::{Kind, Part, Structure};

/// Messages packed as base64 or quoted-printable inside one another that are opened.
pub const MAX_NESTED: usize = 5;

/// How much of a text is decoded at once, in bytes; then its line comes to an end.
const WINDOW: usize = 1 << 20;

/// What is searched for, prepared once for many messages.
#[derive(Debug, Clone)]
pub struct Needle {
    folded: String,
    /// The bytes of `folded` when it is ASCII, for comparing in place.
    ascii: Option<AsciiNeedle>,
}

/// A charset that the server does not know; RFC 3501 answers it with `NO [BADCHARSET ...]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the charset of the search is not known")]
pub struct UnknownCharset;

impl Needle {
    /// Prepares a search string. Without a charset label the string is taken as UTF-8 or guessed, because clients send
    /// 8-bit strings without a label too.
    pub fn new(charset: Option<&[u8]>, text: &[u8]) -> Result<Needle, UnknownCharset> {
        let text = match charset {
            Some(label) => Charset::for_label(label).ok_or(UnknownCharset)?.decode(text),
            None => charset::guess(text),
        };
        Ok(Needle::from_text(&text))
    }

    /// Prepares a search string that is text already.
    pub fn from_text(text: &str) -> Needle {
        let folded = fold(text);
        let ascii = folded.is_ascii().then(|| AsciiNeedle::new(folded.as_bytes()));
        Needle { folded, ascii }
    }

    /// Whether the search string is empty: it is found everywhere.
    pub fn is_empty(&self) -> bool {
        self.folded.is_empty()
    }

    /// Whether the needle is in the text.
    pub fn is_in_text(&self, text: &str) -> bool {
        if charset::is_plain(text.as_bytes()) {
            return self.is_in_plain(text.as_bytes());
        }
        memchr::memmem::find(fold(text).as_bytes(), self.folded.as_bytes()).is_some()
    }

    /// Whether the needle is in bytes that are plain ASCII ([`charset::is_plain`]).
    fn is_in_plain(&self, bytes: &[u8]) -> bool {
        self.ascii.as_ref().is_some_and(|needle| needle.is_in(bytes))
    }

    /// Whether the needle is in a header field's value, decoded.
    fn is_in_value(&self, value: &[u8]) -> bool {
        self.is_in_text(&charset::decode_header(value))
    }
}

/// An ASCII string in lower case that is searched without regard to case.
#[derive(Debug, Clone)]
struct AsciiNeedle {
    bytes: Vec<u8>,
    /// Position of the byte that is looked for first.
    rare: usize,
}

/// The letters and signs of ordinary text, the most frequent first; anything else is rarer.
const FREQUENT: &[u8] = b" etaoinsrhldcumfpgwybv.,-0k1/x2j:q3z";

impl AsciiNeedle {
    fn new(bytes: &[u8]) -> Self {
        let rank =
            |byte: &u8| FREQUENT.iter().position(|frequent| frequent == byte).unwrap_or(FREQUENT.len());
        let rare = (0..bytes.len()).max_by_key(|&at| bytes.get(at).map(rank)).unwrap_or(0);
        AsciiNeedle { bytes: bytes.to_vec(), rare }
    }

    fn is_in(&self, text: &[u8]) -> bool {
        let Some(&rare) = self.bytes.get(self.rare) else { return true };
        if text.len() < self.bytes.len() {
            return false;
        }
        // Only places where the whole needle fits.
        let candidates =
            text.get(self.rare..text.len() - (self.bytes.len() - 1 - self.rare)).unwrap_or_default();
        let matches_at = |at: usize| {
            text.get(at..at + self.bytes.len()).is_some_and(|part| part.eq_ignore_ascii_case(&self.bytes))
        };
        memchr::memchr2_iter(rare, rare.to_ascii_uppercase(), candidates).any(matches_at)
    }
}

/// Folds text for comparing: lower case, full-width ASCII and half-width katakana to their ordinary width, kana with
/// a separate voicing mark to one character, and the signs that JIS and Windows tables read differently to one
/// side. Only ever a search key; stored text is never changed.
pub fn fold(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\0'..='\x7F' => out.push(character.to_ascii_lowercase()),
            '\u{3099}' | '\u{309A}' | '\u{309B}' | '\u{309C}' | '\u{FF9E}' | '\u{FF9F}' => {
                voice(&mut out, character)
            }
            _ => out.extend(fold_width(character).to_lowercase()),
        }
    }
    out
}

/// Katakana in the order of their half-width forms, U+FF61 to U+FF9D.
pub(super) const KATAKANA: [char; 61] = [
    '。', '「', '」', '、', '・', 'ヲ', 'ァ', 'ィ', 'ゥ', 'ェ', 'ォ', 'ャ', 'ュ', 'ョ', 'ッ', 'ー', 'ア',
    'イ', 'ウ', 'エ', 'オ', 'カ', 'キ', 'ク', 'ケ', 'コ', 'サ', 'シ', 'ス', 'セ', 'ソ', 'タ', 'チ', 'ツ',
    'テ', 'ト', 'ナ', 'ニ', 'ヌ', 'ネ', 'ノ', 'ハ', 'ヒ', 'フ', 'ヘ', 'ホ', 'マ', 'ミ', 'ム', 'メ', 'モ',
    'ヤ', 'ユ', 'ヨ', 'ラ', 'リ', 'ル', 'レ', 'ロ', 'ワ', 'ン',
];

fn fold_width(character: char) -> char {
    match character {
        '\u{3000}' | '\u{A0}' => ' ',
        '\u{FF01}'..='\u{FF5D}' => char::from_u32(character as u32 - 0xFEE0).unwrap_or(character),
        // Wave dash, parallel sign, dash, minus, cent, pound, not: JIS side to Windows side.
        '\u{301C}' => '\u{FF5E}',
        '\u{2016}' => '\u{2225}',
        '\u{2014}' => '\u{2015}',
        '\u{2212}' => '-',
        '\u{FFE0}' => '\u{A2}',
        '\u{FFE1}' => '\u{A3}',
        '\u{FFE2}' => '\u{AC}',
        '\u{FFE5}' => '\u{A5}',
        '\u{FF61}'..='\u{FF9D}' => {
            KATAKANA.get((character as u32 - 0xFF61) as usize).copied().unwrap_or(character)
        }
        _ => character,
    }
}

/// Joins a voicing mark with the kana before it; a stray mark stays as U+309B or U+309C.
pub(super) fn voice(out: &mut String, mark: char) {
    let semi = matches!(mark, '\u{309A}' | '\u{309C}' | '\u{FF9F}');
    // A spacing full-width mark is a character of its own, not part of the one before it.
    let spacing = matches!(mark, '\u{309B}' | '\u{309C}');
    let voiced = out.chars().next_back().filter(|_| !spacing).and_then(|kana| voiced(kana, semi));
    match voiced {
        Some(voiced) => {
            out.pop();
            out.push(voiced);
        }
        None => out.push(if semi { '\u{309C}' } else { '\u{309B}' }),
    }
}

/// The kana with a voicing mark, when there is one. In Unicode it follows its plain form at once, the
/// semi-voiced one after that.
fn voiced(kana: char, semi: bool) -> Option<char> {
    let has_semi = "はひふへほハヒフヘホ".contains(kana);
    let has_voiced =
        has_semi || "かきくけこさしすせそたちつてとカキクケコサシスセソタチツテト".contains(kana);
    match (kana, semi) {
        ('ウ', false) => Some('ヴ'),
        ('う', false) => Some('ゔ'),
        (_, false) if has_voiced => char::from_u32(kana as u32 + 1),
        (_, true) if has_semi => char::from_u32(kana as u32 + 2),
        _ => None,
    }
}

/// Whether a header field of this name holds the needle. An empty needle is found in every field of the name, an
/// empty one too (RFC 3501 §6.4.4, `HEADER`).
pub fn header_contains(header: &[u8], name: &[u8], needle: &Needle) -> bool {
    header::fields(header)
        .any(|field| field.is(name) && (needle.is_empty() || needle.is_in_value(field.value)))
}

/// Whether any line of the header holds the needle.
pub fn any_header_contains(header: &[u8], needle: &Needle) -> bool {
    header::fields(header).any(|field| {
        let raw_is_plain = charset::is_plain(field.raw) && memchr::memmem::find(field.raw, b"=?").is_none();
        let is_folded = memchr::memchr(b'\n', field.value).is_some();
        if raw_is_plain && !is_folded {
            return needle.is_in_plain(field.raw);
        }
        let name = String::from_utf8_lossy(field.name);
        needle.is_in_text(&format!("{name}: {}", charset::decode_header(field.value)))
    })
}

/// Whether the body of the message holds the needle (`BODY`).
pub fn body_contains(message: &[u8], needle: &Needle) -> bool {
    needle.is_empty() || parts_contain(message, needle, MAX_NESTED)
}

/// Whether the header or the body of the message holds the needle (`TEXT`).
pub fn text_contains(message: &[u8], needle: &Needle) -> bool {
    needle.is_empty() || any_header_contains(message, needle) || parts_contain(message, needle, MAX_NESTED)
}

fn parts_contain(message: &[u8], needle: &Needle, nested: usize) -> bool {
    let structure = Structure::parse(message);
    let part_contains = |(id, part): (usize, &Part<'_>)| match part.kind {
        // The header of a part or of a message inside belongs to the text of the body around it.
        Kind::Multipart(_) => id != Structure::ROOT && any_header_contains(structure.header(part), needle),
        Kind::Leaf | Kind::Message(_) => {
            (id != Structure::ROOT && any_header_contains(structure.header(part), needle))
                || leaf_contains(&structure, part, needle, nested)
        }
    };
    structure.parts().iter().enumerate().any(part_contains)
}

fn leaf_contains(structure: &Structure<'_>, part: &Part<'_>, needle: &Needle, nested: usize) -> bool {
    let is_message = matches!(part.kind, Kind::Message(_));
    if !is_message && !part.is_type(b"text") {
        return false;
    }
    let encoding = TransferEncoding::of_header(structure.header(part));
    if is_message {
        // A message that is not encoded is among the parts already.
        let is_encoded = encoding != TransferEncoding::Identity;
        return is_encoded && nested > 0 && {
            let inner = encoding.decode(structure.body(part));
            any_header_contains(&inner, needle) || parts_contain(&inner, needle, nested - 1)
        };
    }
    let bytes = encoding.decode(structure.body(part));
    text_part_contains(part.content_type.parameter(b"charset"), &bytes, needle)
}

fn text_part_contains(label: Option<&[u8]>, bytes: &[u8], needle: &Needle) -> bool {
    let charset = label.and_then(Charset::for_label);
    if !charset.is_none_or(Charset::keeps_ascii) {
        return needle.is_in_text(&charset::decode(label, bytes));
    }
    if charset::is_plain(bytes) {
        return needle.is_in_plain(bytes);
    }
    let length = if needle.folded.contains('\n') { bytes.len() } else { WINDOW };
    windows(bytes, length).any(|window| needle.is_in_text(&charset::decode(label, window)))
}

/// Cuts a text into pieces of at least this length, at line ends: there every charset that keeps ASCII begins anew.
fn windows(text: &[u8], length: usize) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let line_end = rest.get(length..).and_then(|behind| memchr::memchr(b'\n', behind));
        let (window, next) = rest.split_at(line_end.map_or(rest.len(), |at| length + at + 1));
        rest = next;
        Some(window).filter(|window| !window.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use encoding_rs::{EUC_JP, Encoding, ISO_2022_JP, SHIFT_JIS, UTF_8};
    use proptest::prelude::*;

    fn message(subject: &str, encoding: &'static Encoding, text: &str, base64: bool) -> Vec<u8> {
        let name = encoding.name();
        let word = base64::engine::general_purpose::STANDARD.encode(encoding.encode(subject).0);
        let mut message = format!(
            "From: a@example.jp\r\nSubject: =?{name}?B?{word}?=\r\nContent-Type: text/plain; charset={name}\r\n"
        );
        message.push_str(if base64 { "Content-Transfer-Encoding: base64\r\n\r\n" } else { "\r\n" });
        let mut message = message.into_bytes();
        let body = encoding.encode(text).0;
        if base64 {
            message.extend_from_slice(base64::engine::general_purpose::STANDARD.encode(body).as_bytes());
        } else {
            message.extend_from_slice(&body);
        }
        message
    }

    #[test]
    fn japanese_is_found_across_charsets() {
        let text = "\u{898B}\u{7A4D}\u{66F8}\u{3092}\u{9001}\u{308A}\u{307E}\u{3059} ABC\r\n";
        for encoding in [ISO_2022_JP, SHIFT_JIS, EUC_JP, UTF_8] {
            for base64 in [false, true] {
                let message = message("\u{4F1A}\u{8B70}", encoding, text, base64);
                for search in [ISO_2022_JP, SHIFT_JIS, EUC_JP, UTF_8] {
                    let needle = |text: &str| {
                        Needle::new(Some(search.name().as_bytes()), &search.encode(text).0).unwrap()
                    };
                    assert!(
                        body_contains(&message, &needle("\u{7A4D}\u{66F8}")),
                        "{encoding:?} {base64} {search:?}"
                    );
                    assert!(body_contains(&message, &needle("abc")));
                    assert!(!body_contains(&message, &needle("\u{4F1A}\u{8B70}")));
                    assert!(text_contains(&message, &needle("\u{4F1A}\u{8B70}")));
                    assert!(header_contains(&message, b"subject", &needle("\u{8B70}")));
                    assert!(!header_contains(&message, b"From", &needle("\u{8B70}")));
                }
            }
        }
    }

    #[test]
    fn folding() {
        let cases = [
            ("ABC", "abc"),
            ("\u{FF21}\u{FF22}\u{FF11}\u{3000}", "ab1 "),
            ("\u{FF76}\u{FF9E}\u{FF8A}\u{FF9F}\u{FF73}\u{FF9E}", "\u{30AC}\u{30D1}\u{30F4}"),
            ("\u{304B}\u{3099}", "\u{304C}"),
            ("\u{301C}", "\u{FF5E}"),
            ("\u{FF0D}\u{2212}", "--"),
            ("\u{C4}\u{416}", "\u{E4}\u{436}"),
        ];
        for (text, expected) in cases {
            assert_eq!(fold(text), expected, "{text}");
        }
    }

    #[test]
    fn parts_are_searched_decoded() {
        let message = b"Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\
            Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nHe=\r\nllo =C3=84\r\n--b\r\n\
            Content-Type: application/x; name=Report.pdf\r\n\r\nbinary-hello2\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n\
            Subject: Nested\r\n folded\r\n\r\ninner\r\n--b--\r\n";
        let cases = [
            ("hello", true),
            ("\u{E4}", true),
            ("report.PDF", true),
            ("hello2", false),
            ("nested folded", true),
            ("INNER", true),
            ("He=", false),
            ("", true),
        ];
        for (text, expected) in cases {
            assert_eq!(body_contains(message, &Needle::from_text(text)), expected, "{text}");
        }
        assert!(text_contains(message, &Needle::from_text("subject: x")));
        assert!(header_contains(message, b"Subject", &Needle::from_text("")));
        assert!(!header_contains(message, b"Cc", &Needle::from_text("")));
    }

    #[test]
    fn windows_end_with_lines() {
        let cut = |text: &'static str| -> Vec<&str> {
            windows(text.as_bytes(), 4).map(|window| std::str::from_utf8(window).unwrap()).collect()
        };
        assert_eq!(cut("aaaa\nbb\ncc\ndd\n\nffffffff\ngg"), ["aaaa\n", "bb\ncc\n", "dd\n\nffffffff\n", "gg"]);
        assert_eq!(cut("aaaa"), ["aaaa"]);
        assert_eq!(cut("a long line"), ["a long line"]);
        assert_eq!(cut(""), [""; 0]);
    }

    #[test]
    fn long_texts_are_found_everywhere() {
        let (text, _, _) =
            SHIFT_JIS.encode("\u{898B}\u{7A4D}\u{66F8}\u{3092}\u{9001}\u{308A}\u{307E}\u{3059}\r\n");
        let word = SHIFT_JIS.encode("\u{4F1A}\u{8B70}\r\n").0;
        let head = b"Content-Type: text/plain; charset=Shift_JIS\r\n\r\n";
        let lines = 3 * WINDOW / text.len();
        let second = WINDOW / text.len();
        for at in [0, 1, second - 1, second, second + 1, lines] {
            let message = [head, &text.repeat(at)[..], &word, &text.repeat(lines - at)].concat();
            assert!(body_contains(&message, &Needle::from_text("\u{4F1A}\u{8B70}")), "{at}");
            assert!(body_contains(&message, &Needle::from_text("\u{8B70}\r\n")), "{at}");
            assert!(!body_contains(&message, &Needle::from_text("\u{4F1A}\u{7A4D}")), "{at}");
        }
    }

    #[test]
    fn charsets_of_searches() {
        assert_eq!(Needle::new(Some(b"x-none"), b"a").err(), Some(UnknownCharset));
        assert!(Needle::new(None, "\u{5C71}".as_bytes()).unwrap().is_in_text("x\u{5C71}y"));
        assert!(!Needle::from_text("\u{5C71}").is_in_text("plain"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn the_fast_path_agrees(text in "[a-cA-C ]{0,20}", needle in "[a-cA-C ]{0,4}") {
            let slow = fold(&text).contains(&fold(&needle));
            prop_assert_eq!(Needle::from_text(&needle).is_in_text(&text), slow);
        }

        #[test]
        fn never_panics(message in crate::message::structure::tests::pieces(), needle in ".{0,5}") {
            let needle = Needle::from_text(&needle);
            let _ = (text_contains(&message, &needle), header_contains(&message, b"Subject", &needle), super::super::date::sent(&message));
            let mut out = Vec::new();
            let structure = Structure::parse(&message);
            super::super::envelope::envelope(&message, &mut out);
            super::super::bodystructure::body_structure(&structure, super::super::bodystructure::Form::BodyStructure, &mut out);
        }
    }
}
