//! Registry values: the exact bytes, and the readable text that stands for them in `registry.ini`.
//!
//! | type | text |
//! | --- | --- |
//! | `REG_SZ` | the text itself |
//! | `REG_EXPAND_SZ` | `expand:` and the text |
//! | `REG_MULTI_SZ` | `multi:a\|b`, or `multi(1):a\|b` if the data ends with one NUL only, as IMail writes it |
//! | `REG_DWORD` | `dword:` and 8 hexadecimal digits, or `dec:` and a decimal number |
//! | `REG_QWORD` | `qword:` and 16 hexadecimal digits |
//! | `REG_BINARY` | `hex:` and bytes; `utf16:` and text if the bytes are FF FE and UTF-16 |
//! | others, and data that does not fit its type | `hex(n):` and bytes, n = number of the type in hexadecimal |
//!
//! Text that starts or ends with a blank, starts with a quote, looks like a tag or holds control characters stands
//! in quotes, with `\\ \" \n \r \t \0 \xNN` inside. Every type with every data has such a text, and reading it gives
//! the same type and bytes. Malformed text is an error that says what was expected; nothing panics.

use std::borrow::Cow;
use std::fmt::Write;

/// `REG_SZ`.
pub const SZ: u32 = 1;
/// `REG_EXPAND_SZ`.
pub const EXPAND_SZ: u32 = 2;
/// `REG_BINARY`.
pub const BINARY: u32 = 3;
/// `REG_DWORD`.
pub const DWORD: u32 = 4;
/// `REG_MULTI_SZ`.
pub const MULTI_SZ: u32 = 7;
/// `REG_QWORD`.
pub const QWORD: u32 = 11;

/// A registry value: Windows' number of its type, and its data as it is in the registry (texts are UTF-16LE with
/// whatever NULs came).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Value {
    /// Number of the type, one of the constants of this module or any other.
    pub kind: u32,
    /// The data.
    pub bytes: Vec<u8>,
}

impl Value {
    /// A `REG_SZ` with the usual NUL at the end.
    pub fn sz(text: &str) -> Value {
        Value { kind: SZ, bytes: utf16_with_nuls(text, 1) }
    }

    /// A `REG_DWORD`.
    pub fn dword(number: u32) -> Value {
        Value { kind: DWORD, bytes: number.to_le_bytes().to_vec() }
    }

    /// A `REG_DWORD` where `number` fits, else a `REG_QWORD`.
    pub fn number(number: u64) -> Value {
        match u32::try_from(number) {
            Ok(small) => Value::dword(small),
            Err(_) => Value { kind: QWORD, bytes: number.to_le_bytes().to_vec() },
        }
    }

    /// A `REG_MULTI_SZ` with both NULs at the end.
    pub fn multi(items: &[&str]) -> Value {
        Value { kind: MULTI_SZ, bytes: utf16_with_nuls(&items.join("\0"), 2) }
    }

    /// A `REG_BINARY` that holds text as FF FE and UTF-16LE, as `FullName` is in IMail 11.
    pub fn utf16_binary(text: &str) -> Value {
        Written::Utf16(Cow::Borrowed(text)).to_value()
    }

    /// The text form.
    pub fn to_text(&self) -> String {
        Written::from_value(self).to_text()
    }
}

/// The text form of a value, understood but not yet turned into bytes: what a line of `registry.ini` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written<'a> {
    /// `REG_SZ`, ended by one NUL.
    Text(Cow<'a, str>),
    /// `REG_EXPAND_SZ`, ended by one NUL.
    Expand(Cow<'a, str>),
    /// `REG_MULTI_SZ`: the items, and whether one NUL ends the data instead of two.
    Multi(Vec<Cow<'a, str>>, bool),
    /// `REG_DWORD`: the number, and whether it is written in decimal.
    Dword(u32, bool),
    /// `REG_QWORD`.
    Qword(u64),
    /// `REG_BINARY` with FF FE and this text in UTF-16LE.
    Utf16(Cow<'a, str>),
    /// Any type by number, with its bytes.
    Hex(u32, Vec<u8>),
}

const TAG_EXPAND: &str = "expand";
const TAG_MULTI: &str = "multi";
const TAG_MULTI_ONE: &str = "multi(1)";
const TAG_DWORD: &str = "dword";
const TAG_DEC: &str = "dec";
const TAG_QWORD: &str = "qword";
const TAG_HEX: &str = "hex";
const TAG_UTF16: &str = "utf16";
/// Longest tag that is looked for, in bytes: `hex(ffffffff)` has 13.
const MAX_TAG: usize = 13;

impl<'a> Written<'a> {
    /// Understands the text of a value, without the blanks around it. The error says what was expected.
    pub fn parse(text: &'a str) -> Result<Written<'a>, &'static str> {
        let Some((tag, rest)) = split_tag(text) else {
            return Ok(Written::Text(unquote(text)?));
        };
        let rest = rest.trim_matches(BLANKS);
        let tag = tag.to_ascii_lowercase();
        match tag.as_str() {
            TAG_EXPAND => Ok(Written::Expand(unquote(rest)?)),
            TAG_UTF16 => Ok(Written::Utf16(unquote(rest)?)),
            TAG_MULTI => Ok(Written::Multi(split_items(rest)?, false)),
            TAG_MULTI_ONE => Ok(Written::Multi(split_items(rest)?, true)),
            TAG_DWORD => match (rest.len() <= 8).then(|| hex_number(rest)).flatten() {
                Some(number) => Ok(Written::Dword(u32::try_from(number).unwrap_or(u32::MAX), false)),
                None => Err("dword: and up to 8 hexadecimal digits"),
            },
            TAG_DEC => match rest.parse() {
                Ok(number) if rest.bytes().all(|byte| byte.is_ascii_digit()) => {
                    Ok(Written::Dword(number, true))
                }
                _ => Err("dec: and a number from 0 to 4294967295"),
            },
            TAG_QWORD => match (rest.len() <= 16).then(|| hex_number(rest)).flatten() {
                Some(number) => Ok(Written::Qword(number)),
                None => Err("qword: and up to 16 hexadecimal digits"),
            },
            TAG_HEX => Ok(Written::Hex(BINARY, parse_hex_bytes(rest)?)),
            _ => match hex_kind(&tag) {
                Some(kind) => Ok(Written::Hex(kind, parse_hex_bytes(rest)?)),
                None => Err("a type such as dword:, multi(1): or hex(7): (or the text in quotes)"),
            },
        }
    }

    /// The most readable form that stands for exactly `value`.
    pub fn from_value(value: &Value) -> Written<'static> {
        let plain = match value.kind {
            SZ => text_with_one_nul(&value.bytes).map(|text| Written::Text(Cow::Owned(text))),
            EXPAND_SZ => text_with_one_nul(&value.bytes).map(|text| Written::Expand(Cow::Owned(text))),
            MULTI_SZ => items_of(&value.bytes),
            DWORD => value
                .bytes
                .as_slice()
                .try_into()
                .ok()
                .map(|raw| Written::Dword(u32::from_le_bytes(raw), false)),
            QWORD => {
                value.bytes.as_slice().try_into().ok().map(|raw| Written::Qword(u64::from_le_bytes(raw)))
            }
            BINARY => value
                .bytes
                .strip_prefix(&UTF16_MARK)
                .and_then(utf16_text)
                .map(|text| Written::Utf16(Cow::Owned(text))),
            _ => None,
        };
        plain.unwrap_or_else(|| Written::Hex(value.kind, value.bytes.clone()))
    }

    /// The value that this text stands for.
    pub fn to_value(&self) -> Value {
        match self {
            Written::Text(text) => Value { kind: SZ, bytes: utf16_with_nuls(text, 1) },
            Written::Expand(text) => Value { kind: EXPAND_SZ, bytes: utf16_with_nuls(text, 1) },
            Written::Multi(items, one_nul) => {
                let nuls = if *one_nul { 1 } else { 2 };
                Value { kind: MULTI_SZ, bytes: utf16_with_nuls(&items.join("\0"), nuls) }
            }
            Written::Dword(number, _) => Value { kind: DWORD, bytes: number.to_le_bytes().to_vec() },
            Written::Qword(number) => Value { kind: QWORD, bytes: number.to_le_bytes().to_vec() },
            Written::Utf16(text) => {
                let mut bytes = UTF16_MARK.to_vec();
                bytes.extend(utf16_with_nuls(text, 0));
                Value { kind: BINARY, bytes }
            }
            Written::Hex(kind, bytes) => Value { kind: *kind, bytes: bytes.clone() },
        }
    }

    /// The text, as it stands behind the `=`.
    pub fn to_text(&self) -> String {
        match self {
            Written::Text(text) if split_tag(text).is_some() => quoted(text),
            Written::Text(text) => quoted_if_needed(text, false),
            Written::Expand(text) => format!("{TAG_EXPAND}:{}", quoted_if_needed(text, false)),
            Written::Utf16(text) => format!("{TAG_UTF16}:{}", quoted_if_needed(text, false)),
            Written::Multi(items, one_nul) => {
                let items: Vec<String> = items.iter().map(|item| quoted_if_needed(item, true)).collect();
                let tag = if *one_nul { TAG_MULTI_ONE } else { TAG_MULTI };
                format!("{tag}:{}", items.join("|"))
            }
            Written::Dword(number, true) => format!("{TAG_DEC}:{number}"),
            Written::Dword(number, false) => format!("{TAG_DWORD}:{number:08x}"),
            Written::Qword(number) => format!("{TAG_QWORD}:{number:016x}"),
            Written::Hex(BINARY, bytes) => format!("{TAG_HEX}:{}", hex_bytes(bytes)),
            Written::Hex(kind, bytes) => format!("{TAG_HEX}({kind:x}):{}", hex_bytes(bytes)),
        }
    }

    /// As text: `REG_SZ`, `REG_EXPAND_SZ`, and `REG_BINARY` that holds text, with or without FF FE (then as UTF-8,
    /// else code page 932). Trailing NULs and an odd last byte are dropped.
    pub fn as_text(&self) -> Option<Cow<'_, str>> {
        match self {
            Written::Text(text) | Written::Expand(text) => Some(Cow::Borrowed(until_nul(text))),
            Written::Utf16(text) => Some(Cow::Borrowed(until_nul(text))),
            Written::Hex(BINARY, bytes) => Some(Cow::Owned(text_of_binary(bytes))),
            Written::Hex(SZ | EXPAND_SZ, bytes) => Some(Cow::Owned(lossy_utf16(bytes))),
            _ => None,
        }
    }

    /// As a number: `REG_DWORD`, `REG_QWORD`, or a decimal text.
    pub fn as_number(&self) -> Option<u64> {
        match self {
            Written::Dword(number, _) => Some(u64::from(*number)),
            Written::Qword(number) => Some(*number),
            Written::Text(text) | Written::Expand(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// As a list: `REG_MULTI_SZ`, or a text split at blanks and commas. Empty items are left out.
    pub fn as_list(&self) -> Option<Vec<String>> {
        match self {
            Written::Multi(items, _) => {
                Some(items.iter().filter(|item| !item.is_empty()).map(|item| item.to_string()).collect())
            }
            Written::Hex(MULTI_SZ, bytes) => {
                let text = String::from_utf16_lossy(&units(bytes));
                Some(text.split('\0').filter(|item| !item.is_empty()).map(str::to_owned).collect())
            }
            Written::Text(text) | Written::Expand(text) => {
                let items = text.split([' ', ',', '\t', ';']).filter(|item| !item.is_empty());
                Some(items.map(str::to_owned).collect())
            }
            _ => None,
        }
    }

    /// `self`, written in the manner of `old` where both are of one type (decimal stays decimal).
    pub fn in_manner_of(self, old: &Written<'_>) -> Written<'a> {
        match (self, old) {
            (Written::Dword(number, _), Written::Dword(_, decimal)) => Written::Dword(number, *decimal),
            (new, _) => new,
        }
    }
}

/// Blank and tab: what may stand around names and values without meaning anything.
pub const BLANKS: [char; 2] = [' ', '\t'];
const UTF16_MARK: [u8; 2] = [0xFF, 0xFE];

/// Tag and rest, if `text` looks like a tagged value.
fn split_tag(text: &str) -> Option<(&str, &str)> {
    let head = text.as_bytes().iter().take(MAX_TAG + 1).position(|byte| *byte == b':')?;
    let (tag, rest) = (text.get(..head)?, text.get(head + 1..)?);
    let known = [TAG_EXPAND, TAG_MULTI, TAG_DWORD, TAG_DEC, TAG_QWORD, TAG_HEX, TAG_UTF16];
    let bare = known.iter().any(|name| tag.eq_ignore_ascii_case(name));
    let with_number = || {
        let open = tag.find('(').and_then(|at| tag.get(..at));
        tag.ends_with(')')
            && open.is_some_and(|o| o.eq_ignore_ascii_case(TAG_HEX) || o.eq_ignore_ascii_case(TAG_MULTI))
    };
    (bare || with_number()).then_some((tag, rest))
}

/// The type in `hex(n)`, in lower case.
fn hex_kind(tag: &str) -> Option<u32> {
    let digits = tag.strip_prefix("hex(")?.strip_suffix(')')?;
    (digits.len() <= 8).then(|| hex_number(digits)).flatten().and_then(|number| u32::try_from(number).ok())
}

/// Hexadecimal digits only: no sign, no prefix.
fn hex_number(digits: &str) -> Option<u64> {
    let only_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    only_digits.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// Bytes as `aa,bb,cc`.
pub fn hex_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 3);
    for byte in bytes {
        let _ = write!(out, "{byte:02x},");
    }
    out.pop();
    out
}

/// Reads bytes written as one or two hexadecimal digits each, with commas or blanks between and around.
pub fn parse_hex_bytes(text: &str) -> Result<Vec<u8>, &'static str> {
    let mut bytes = Vec::with_capacity(text.len() / 3 + 1);
    for digits in text.split([',', ' ', '\t']).filter(|digits| !digits.is_empty()) {
        let number = hex_number(digits).and_then(|number| u8::try_from(number).ok());
        match number {
            Some(byte) if digits.len() <= 2 => bytes.push(byte),
            _ => return Err("bytes of two hexadecimal digits with commas between"),
        }
    }
    Ok(bytes)
}

/// The text without quotes, its escapes resolved; text that does not start with a quote is itself.
pub fn unquote(text: &str) -> Result<Cow<'_, str>, &'static str> {
    if !text.starts_with('"') {
        return Ok(Cow::Borrowed(text));
    }
    match read_quoted(text)? {
        (inner, "") => Ok(Cow::Owned(inner)),
        _ => Err("nothing behind the closing quote"),
    }
}

/// Reads the quoted text that `text` starts with; gives it and what follows the closing quote.
pub fn read_quoted(text: &str) -> Result<(String, &str), &'static str> {
    const UNCLOSED: &str = "a closing quote (inside quotes write \\\" and \\\\)";
    const ESCAPE: &str = "an escape \\\\ \\\" \\n \\r \\t \\0 or \\xNN inside the quotes";
    let mut rest = text.strip_prefix('"').ok_or("a quote")?;
    let mut out = String::new();
    loop {
        let at = rest.find(['"', '\\']).ok_or(UNCLOSED)?;
        let (plain, marked) = rest.split_at(at);
        out.push_str(plain);
        if let Some(after) = marked.strip_prefix('"') {
            return Ok((out, after));
        }
        let mut chars = marked.chars();
        chars.next();
        match chars.next().ok_or(UNCLOSED)? {
            '\\' => out.push('\\'),
            '"' => out.push('"'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            '0' => out.push('\0'),
            'x' => {
                let digits = chars.as_str().get(..2).ok_or(ESCAPE)?;
                let code = hex_number(digits).and_then(|code| u8::try_from(code).ok()).ok_or(ESCAPE)?;
                out.push(char::from(code));
                chars.nth(1);
            }
            _ => return Err(ESCAPE),
        }
        rest = chars.as_str();
    }
}

/// `text` in quotes, with escapes.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0' => out.push_str("\\0"),
            other if other.is_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(other));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

fn quoted_if_needed(text: &str, item: bool) -> String {
    let needed = text.starts_with([' ', '\t', '"'])
        || text.ends_with(BLANKS)
        || (item && text.contains('|'))
        || text.chars().any(char::is_control);
    if needed { quoted(text) } else { text.to_owned() }
}

/// The items of `a|b|"c|d"`; an empty text has none.
fn split_items(text: &str) -> Result<Vec<Cow<'_, str>>, &'static str> {
    let mut items = Vec::new();
    if text.is_empty() {
        return Ok(items);
    }
    let mut rest = text;
    loop {
        let (item, after) = if rest.starts_with('"') {
            let (item, after) = read_quoted(rest)?;
            (Cow::Owned(item), after)
        } else {
            let (item, after) = rest.split_at(rest.find('|').unwrap_or(rest.len()));
            (Cow::Borrowed(item), after)
        };
        items.push(item);
        match after.strip_prefix('|') {
            Some(more) => rest = more,
            None if after.is_empty() => return Ok(items),
            None => return Err("a bar between the items"),
        }
    }
}

fn utf16_with_nuls(text: &str, nuls: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() * 2 + nuls * 2);
    for unit in text.encode_utf16() {
        bytes.extend_from_slice(&unit.to_le_bytes());
    }
    bytes.resize(bytes.len() + nuls * 2, 0);
    bytes
}

fn units(bytes: &[u8]) -> Vec<u16> {
    bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair)).collect()
}

/// UTF-16LE without loss, or `None`.
fn utf16_text(bytes: &[u8]) -> Option<String> {
    if !bytes.len().is_multiple_of(2) {
        return None;
    }
    String::from_utf16(&units(bytes)).ok()
}

fn text_with_one_nul(bytes: &[u8]) -> Option<String> {
    let mut text = utf16_text(bytes)?;
    (text.pop()? == '\0' && !text.contains('\0')).then_some(text)
}

fn items_of(bytes: &[u8]) -> Option<Written<'static>> {
    let text = utf16_text(bytes)?;
    let (joined, one_nul) = match text.strip_suffix("\0\0") {
        Some(joined) => (joined, false),
        None => (text.strip_suffix('\0')?, true),
    };
    let items = if joined.is_empty() { Vec::new() } else { joined.split('\0').collect() };
    Some(Written::Multi(items.into_iter().map(|item| Cow::Owned(item.to_owned())).collect(), one_nul))
}

fn until_nul(text: &str) -> &str {
    text.split('\0').next().unwrap_or_default()
}

fn lossy_utf16(bytes: &[u8]) -> String {
    until_nul(&String::from_utf16_lossy(&units(bytes))).to_owned()
}

fn text_of_binary(bytes: &[u8]) -> String {
    match bytes.strip_prefix(&UTF16_MARK) {
        Some(rest) => lossy_utf16(rest),
        None => until_nul(&crate::text::decode(bytes, crate::text::CodePage::Japanese).0).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn utf16(text: &str) -> Vec<u8> {
        utf16_with_nuls(text, 0)
    }

    #[test]
    fn forms() {
        let cases: Vec<(u32, Vec<u8>, &str)> = vec![
            (SZ, utf16("mail.example.com\0"), "mail.example.com"),
            (SZ, utf16("C:\\IMail\0"), "C:\\IMail"),
            (SZ, utf16("山田 太郎\0"), "山田 太郎"),
            (SZ, utf16("\0"), ""),
            (SZ, utf16(" x\0"), "\" x\""),
            (SZ, utf16("dword:1\0"), "\"dword:1\""),
            (SZ, utf16("HEX(zz):\0"), "\"HEX(zz):\""),
            (SZ, utf16("\"q\"\\\0"), "\"\\\"q\\\"\\\\\""),
            (SZ, utf16("say \"hi\"\0"), "say \"hi\""),
            (SZ, utf16("a\r\nb\u{7}\0"), "\"a\\r\\nb\\x07\""),
            (SZ, utf16("no end"), "hex(1):6e,00,6f,00,20,00,65,00,6e,00,64,00"),
            (SZ, vec![], "hex(1):"),
            (EXPAND_SZ, utf16("%TEMP%\0"), "expand:%TEMP%"),
            (DWORD, vec![1, 0, 0, 0], "dword:00000001"),
            (DWORD, vec![], "hex(4):"),
            (QWORD, vec![0, 0, 0, 0, 1, 0, 0, 0], "qword:0000000100000000"),
            (MULTI_SZ, utf16("a\0b\0\0"), "multi:a|b"),
            (MULTI_SZ, utf16("example.net\0"), "multi(1):example.net"),
            (MULTI_SZ, utf16("\0"), "multi(1):"),
            (MULTI_SZ, utf16("\0\0"), "multi:"),
            (MULTI_SZ, utf16("\0\0\0"), "multi:|"),
            (MULTI_SZ, utf16("a|b\0c\0\0"), "multi:\"a|b\"|c"),
            (BINARY, vec![0xff, 0xfe, 0x71, 0x5c, 0x30, 0x75], "utf16:山田"),
            (BINARY, vec![1, 2], "hex:01,02"),
            (0, vec![], "hex(0):"),
            (0xffff_ffff, vec![7], "hex(ffffffff):07"),
        ];
        for (kind, bytes, text) in cases {
            let value = Value { kind, bytes };
            assert_eq!(value.to_text(), text);
            assert_eq!(Written::parse(text).unwrap().to_value(), value, "{text}");
        }
    }

    #[test]
    fn hand_written_forms() {
        let cases = [
            ("DWORD: 1", Value::dword(1)),
            ("dec:10485760", Value::dword(10_485_760)),
            ("qword:ff", Value { kind: QWORD, bytes: vec![255, 0, 0, 0, 0, 0, 0, 0] }),
            ("hex: 01 , 2", Value { kind: BINARY, bytes: vec![1, 2] }),
            ("expand: \"a \"", Value { kind: EXPAND_SZ, bytes: utf16("a \0") }),
            ("http://example.com", Value::sz("http://example.com")),
        ];
        for (text, value) in cases {
            assert_eq!(Written::parse(text).unwrap().to_value(), value, "{text}");
        }
        for text in [
            "dword:",
            "dword:zz",
            "dword:123456789",
            "dword:+1",
            "dec:-1",
            "dec:4294967296",
            "qword:",
            "hex:1ff",
            "hex:x",
            "hex(zz):00",
            "multi(2):a",
            "\"open",
            "\"a\"b",
            "\"\\q\"",
            "multi:\"a\"b",
        ] {
            assert!(Written::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn readings() {
        assert_eq!(Written::parse("utf16:山\\0").unwrap().as_text().as_deref(), Some("山\\0"));
        assert_eq!(Written::parse("utf16:\"山\\0\"").unwrap().as_text().as_deref(), Some("山"));
        assert_eq!(Written::parse("hex:8e,52,00").unwrap().as_text().as_deref(), Some("山"));
        assert_eq!(Written::parse("hex:ff,fe,71,5c,30").unwrap().as_text().as_deref(), Some("\u{5c71}"));
        assert_eq!(Written::parse(" 5 ").unwrap().as_number(), Some(5));
        assert_eq!(Written::parse("dec:5").unwrap().as_number(), Some(5));
        assert_eq!(Written::parse("x").unwrap().as_number(), None);
        assert_eq!(
            Written::parse("a, b c").unwrap().as_list(),
            Some(vec!["a".into(), "b".into(), "c".into()])
        );
        assert_eq!(Written::parse("hex(7):61,00").unwrap().as_list(), Some(vec!["a".into()]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_type_and_bytes_survive(kind in prop_oneof![0u32..13, any::<u32>()],
                                      bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let value = Value { kind, bytes };
            let text = value.to_text();
            prop_assert!(!text.chars().any(char::is_control));
            prop_assert_eq!(text.trim_matches(BLANKS), &text);
            prop_assert_eq!(Written::parse(&text).unwrap().to_value(), value);
        }

        #[test]
        fn any_text_survives(kind in 1u32..8, mark in any::<bool>(), nuls in 0usize..4,
                             text in "[ -~\\x00\\n|\":山a-z\\\\]{0,12}") {
            let mut bytes = if mark { UTF16_MARK.to_vec() } else { vec![] };
            bytes.extend(utf16_with_nuls(&text, nuls));
            let value = Value { kind, bytes };
            prop_assert_eq!(Written::parse(&value.to_text()).unwrap().to_value(), value);
        }

        #[test]
        fn any_input_is_harmless(text in any::<String>(), tag in "(hex|dec|multi|dword|qword|utf16|expand)?(\\([0-9a-f]{0,9}\\))?:?") {
            let _ = Written::parse(&format!("{tag}{text}"));
        }
    }
}
