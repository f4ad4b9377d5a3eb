//! Text as it stands in the files of an IMail directory: code pages, line ends, stray NUL bytes.
//!
//! A file is UTF-8 if its bytes are valid UTF-8 (with a byte order mark or not), else it is in the machine's
//! code page. Nothing here fails: bytes that the code page does not know become U+FFFD when read, and
//! [`encode`] answers `None` where a text cannot be held without loss. Line handling is exact: the pieces that
//! [`lines`] yields, put together again, are the input.

use encoding_rs::Encoding;

/// The byte order mark of UTF-8.
pub const UTF8_BOM: &[u8] = &[0xEF, 0xBB, 0xBF];

/// A Windows code page, by the number that Windows gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum CodePage {
    /// 932, Japanese (Shift_JIS with the NEC and IBM extensions): what a Japanese IMail machine uses.
    #[default]
    Japanese,
    /// 65001, UTF-8.
    Utf8,
    /// 1252, Western European.
    Western,
    /// 1250, Central European.
    CentralEuropean,
    /// 1251, Cyrillic.
    Cyrillic,
    /// 949, Korean.
    Korean,
    /// 936, simplified Chinese.
    SimplifiedChinese,
    /// 950, traditional Chinese.
    TraditionalChinese,
    /// 20932 and 51932, EUC-JP.
    EucJapanese,
}

/// Number, code page and encoder: the one table of what is supported.
const CODE_PAGES: &[(u32, CodePage, &Encoding)] = &[
    (932, CodePage::Japanese, encoding_rs::SHIFT_JIS),
    (65001, CodePage::Utf8, encoding_rs::UTF_8),
    (1252, CodePage::Western, encoding_rs::WINDOWS_1252),
    (1250, CodePage::CentralEuropean, encoding_rs::WINDOWS_1250),
    (1251, CodePage::Cyrillic, encoding_rs::WINDOWS_1251),
    (949, CodePage::Korean, encoding_rs::EUC_KR),
    (936, CodePage::SimplifiedChinese, encoding_rs::GBK),
    (950, CodePage::TraditionalChinese, encoding_rs::BIG5),
    (51932, CodePage::EucJapanese, encoding_rs::EUC_JP),
    (20932, CodePage::EucJapanese, encoding_rs::EUC_JP),
];

impl CodePage {
    /// The code page with this Windows number; `None` if it is not supported.
    pub fn from_number(number: u64) -> Option<CodePage> {
        CODE_PAGES.iter().find(|row| u64::from(row.0) == number).map(|row| row.1)
    }

    /// The Windows number.
    pub fn number(self) -> u32 {
        CODE_PAGES.iter().find(|row| row.1 == self).map_or(932, |row| row.0)
    }

    fn encoding(self) -> &'static Encoding {
        CODE_PAGES.iter().find(|row| row.1 == self).map_or(encoding_rs::SHIFT_JIS, |row| row.2)
    }
}

/// How a text was found to be held, so that an edit can keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TextEncoding {
    /// UTF-8 without byte order mark; plain ASCII counts as this.
    Utf8,
    /// UTF-8 after a byte order mark.
    Utf8Bom,
    /// The machine's code page.
    CodePage(CodePage),
}

/// Reads `bytes` as UTF-8 if they are valid UTF-8, else as `code_page`, and says which it was.
///
/// The byte order mark is not part of the text. Bytes that the code page does not know become U+FFFD.
pub fn decode(bytes: &[u8], code_page: CodePage) -> (String, TextEncoding) {
    let (body, with_mark) = match bytes.strip_prefix(UTF8_BOM) {
        Some(rest) => (rest, true),
        None => (bytes, false),
    };
    match std::str::from_utf8(body) {
        Ok(text) if with_mark => (text.to_owned(), TextEncoding::Utf8Bom),
        Ok(text) => (text.to_owned(), TextEncoding::Utf8),
        Err(_) => {
            let (text, _) = code_page.encoding().decode_without_bom_handling(bytes);
            (text.into_owned(), TextEncoding::CodePage(code_page))
        }
    }
}

/// Reads a text file that we never write: as [`decode`], without NUL bytes, or as UTF-16 if it begins with its byte order mark, as Notepad's
/// "Unicode" does.
pub fn decode_file(bytes: &[u8], code_page: CodePage) -> String {
    match Encoding::for_bom(bytes) {
        Some((encoding, _)) if encoding != encoding_rs::UTF_8 => encoding.decode(bytes).0.into_owned(),
        _ => decode(&without_nul(bytes), code_page).0,
    }
}

/// Reads `bytes` as `code_page` only; `None` if they are not valid there.
pub fn decode_strict(bytes: &[u8], code_page: CodePage) -> Option<String> {
    let text = code_page.encoding().decode_without_bom_handling_and_without_replacement(bytes)?;
    Some(text.into_owned())
}

/// Writes `text` in `encoding`; `None` when it cannot be held there, that is when reading the bytes back would
/// give another text (the yen sign, for one, has no place of its own in code page 932).
pub fn encode(text: &str, encoding: TextEncoding) -> Option<Vec<u8>> {
    match encoding {
        TextEncoding::Utf8 => Some(text.as_bytes().to_vec()),
        TextEncoding::Utf8Bom => Some([UTF8_BOM, text.as_bytes()].concat()),
        TextEncoding::CodePage(code_page) => {
            let (bytes, _, unmappable) = code_page.encoding().encode(text);
            if unmappable {
                return None;
            }
            (decode_strict(&bytes, code_page)? == text).then(|| bytes.into_owned())
        }
    }
}

/// How a line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LineEnd {
    /// CR LF, as Windows programs write.
    CrLf,
    /// LF alone.
    Lf,
    /// The input stops here without a line end.
    None,
}

impl LineEnd {
    /// The bytes of this line end.
    pub fn bytes(self) -> &'static [u8] {
        match self {
            LineEnd::CrLf => b"\r\n",
            LineEnd::Lf => b"\n",
            LineEnd::None => b"",
        }
    }
}

/// Splits `bytes` into lines, each with its content and its line end. A CR that no LF follows is content.
pub fn lines(bytes: &[u8]) -> Lines<'_> {
    Lines { rest: bytes }
}

/// Iterator of [`lines`].
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Lines<'a> {
    type Item = (&'a [u8], LineEnd);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let Some(at) = memchr::memchr(b'\n', self.rest) else {
            return Some((std::mem::take(&mut self.rest), LineEnd::None));
        };
        let (line, rest) = self.rest.split_at(at);
        self.rest = rest.get(1..).unwrap_or_default();
        match line.strip_suffix(b"\r") {
            Some(content) => Some((content, LineEnd::CrLf)),
            None => Some((line, LineEnd::Lf)),
        }
    }
}

/// The line end that most lines of `bytes` have, for lines that are added; `fallback` where there is none.
pub fn usual_line_end(bytes: &[u8], fallback: LineEnd) -> LineEnd {
    /// Enough lines to tell a file's habit.
    const LOOK_AT: usize = 1000;
    let (mut crlf, mut lf) = (0usize, 0usize);
    for (_, end) in lines(bytes).take(LOOK_AT) {
        match end {
            LineEnd::CrLf => crlf += 1,
            LineEnd::Lf => lf += 1,
            LineEnd::None => {}
        }
    }
    match (crlf, lf) {
        (0, 0) => fallback,
        (crlf, lf) if crlf >= lf => LineEnd::CrLf,
        _ => LineEnd::Lf,
    }
}

/// `bytes` without NUL bytes: IMail programs, and file systems after a power cut, leave them in text files.
pub fn without_nul(bytes: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    match memchr::memchr(0, bytes) {
        None => std::borrow::Cow::Borrowed(bytes),
        Some(_) => std::borrow::Cow::Owned(bytes.iter().copied().filter(|byte| *byte != 0).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn code_pages_by_number() {
        for (number, expected) in [
            (932, Some(CodePage::Japanese)),
            (65001, Some(CodePage::Utf8)),
            (20932, Some(CodePage::EucJapanese)),
            (51932, Some(CodePage::EucJapanese)),
            (437, None),
            (u64::MAX, None),
        ] {
            assert_eq!(CodePage::from_number(number), expected, "{number}");
        }
        for (_, code_page, _) in CODE_PAGES {
            assert_eq!(CodePage::from_number(code_page.number().into()), Some(*code_page));
        }
    }

    #[test]
    fn decoding_prefers_utf8() {
        let cases: &[(&[u8], &str, TextEncoding)] = &[
            (b"plain", "plain", TextEncoding::Utf8),
            ("山田".as_bytes(), "山田", TextEncoding::Utf8),
            (b"\xEF\xBB\xBFabc", "abc", TextEncoding::Utf8Bom),
            (b"\x8e\x52\x93\x63", "山田", TextEncoding::CodePage(CodePage::Japanese)),
            (b"\x95\x5c", "表", TextEncoding::CodePage(CodePage::Japanese)),
        ];
        for (bytes, text, encoding) in cases {
            assert_eq!(decode(bytes, CodePage::Japanese), (text.to_string(), *encoding));
            assert_eq!(encode(text, *encoding).as_deref(), Some(*bytes));
        }
        assert_eq!(encode("é", TextEncoding::CodePage(CodePage::Japanese)), None);
        assert_eq!(encode("¥", TextEncoding::CodePage(CodePage::Japanese)), None);
    }

    #[test]
    fn line_ends() {
        let split: Vec<_> = lines(b"a\r\nb\n\rc").collect();
        assert_eq!(
            split,
            [(&b"a"[..], LineEnd::CrLf), (&b"b"[..], LineEnd::Lf), (&b"\rc"[..], LineEnd::None)]
        );
        assert_eq!(usual_line_end(b"a\nb\nc\r\n", LineEnd::CrLf), LineEnd::Lf);
        assert_eq!(usual_line_end(b"a", LineEnd::CrLf), LineEnd::CrLf);
        assert_eq!(&*without_nul(b"a\0b\0"), b"ab");
        let wide = |mark: [u8; 2], of: fn(u16) -> [u8; 2]| {
            mark.into_iter().chain("終わり\r\n".encode_utf16().flat_map(of)).collect::<Vec<u8>>()
        };
        for bytes in [wide([0xFF, 0xFE], u16::to_le_bytes), wide([0xFE, 0xFF], u16::to_be_bytes)] {
            assert_eq!(decode_file(&bytes, CodePage::Japanese), "終わり\r\n");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn lines_put_together_are_the_input(bytes in prop::collection::vec(
            prop_oneof![Just(b'\r'), Just(b'\n'), any::<u8>()], 0..200)) {
            let mut again = Vec::new();
            for (content, end) in lines(&bytes) {
                again.extend_from_slice(content);
                again.extend_from_slice(end.bytes());
            }
            prop_assert_eq!(again, bytes);
        }

        #[test]
        fn what_encodes_reads_back(text in any::<String>()) {
            for (_, code_page, _) in CODE_PAGES {
                if let Some(bytes) = encode(&text, TextEncoding::CodePage(*code_page)) {
                    prop_assert_eq!(decode_strict(&bytes, *code_page), Some(text.clone()));
                }
            }
        }
    }
}
