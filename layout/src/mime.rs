//! What messages that we write need of MIME: encoded words in header fields (RFC 2047), and base64 of bodies (RFC 2045).
//!
//! # Failure
//! None: what a charset does not hold becomes UTF-8.
//!
//! # Limits
//! Encoded words have at most [`WORD_MAX`] characters (RFC 2047 §2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The longest encoded word (RFC 2047 §2).
pub const WORD_MAX: usize = 75;
/// A line of a header with encoded words in it (RFC 2047 §2).
pub const HEADER_LINE_MAX: usize = 76;
/// The longest line that goes out as it is (RFC 5322 §2.1.1).
pub const LINE_MAX: usize = 990;
/// Base64 of a body: bytes in a line of 76 characters (RFC 2045 §6.8).
const BASE64_LINE: usize = 57;

/// A charset to write in.
pub trait Coding {
    /// Its name in headers.
    fn name(&self) -> &'static str;
    /// The bytes of a text; `None` if it does not hold all of it.
    fn bytes(&self, text: &str) -> Option<Vec<u8>>;
}

/// UTF-8, which holds everything.
pub struct Utf8;

impl Coding for Utf8 {
    fn name(&self) -> &'static str {
        "UTF-8"
    }

    fn bytes(&self, text: &str) -> Option<Vec<u8>> {
        Some(text.as_bytes().to_vec())
    }
}

/// A text as the value of a header field, behind a name that takes `column` characters with its colon and blank. ASCII words at the begin stay
/// as they are, so that simple programs can sort by them; from the first word on that needs it, everything is encoded in `charset`, or
/// UTF-8. Control characters become blanks.
pub fn header_text(text: &str, charset: &dyn Coding, column: usize) -> String {
    encoded(text, charset, column, |_| false)
}

/// The same for the name in front of an address: a word with a character that means something there, such as a comma, is encoded as well
/// (RFC 5322 §3.2.3, RFC 2047 §5 (3)). For names that are not all ASCII; those can be quoted.
pub fn phrase(text: &str, charset: &dyn Coding, column: usize) -> String {
    encoded(text, charset, column, |word| word.contains(SPECIALS))
}

/// What means something in an address (RFC 5322 §3.2.3).
const SPECIALS: [char; 13] = ['(', ')', '<', '>', '[', ']', ':', ';', '@', '\\', ',', '.', '"'];

fn encoded(text: &str, charset: &dyn Coding, column: usize, special: fn(&str) -> bool) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let plain = plain_begin(&text, special);
    let (begin, rest) = text.split_at(plain);
    if rest.is_empty() {
        return fold(begin, column);
    }
    let charset = if charset.bytes(rest).is_some() { charset } else { &Utf8 };
    let mut out = fold(begin, column);
    let mut room = HEADER_LINE_MAX.saturating_sub(column + out.len()).min(WORD_MAX);
    if out.contains('\n') || room < shortest_word(charset) {
        // Folded before the word; the blank that was there is the fold's.
        out.truncate(out.trim_end_matches(' ').len());
        out.push_str("\r\n ");
        room = WORD_MAX;
    }
    let mut word = String::new();
    for c in rest.chars() {
        word.push(c);
        if encoded_length(&word, charset) > room && word.chars().nth(1).is_some() {
            word.pop();
            out.push_str(&encoded_word(&word, charset));
            out.push_str("\r\n ");
            (word, room) = (c.to_string(), WORD_MAX);
        }
    }
    out + &encoded_word(&word, charset)
}

/// The length of the words at the begin that need no encoding, with the blank behind them.
fn plain_begin(text: &str, special: fn(&str) -> bool) -> usize {
    let needs = |word: &str| !word.is_ascii() || word.contains("=?") || word.len() > 200 || special(word);
    if !text.split(' ').any(needs) {
        return text.len();
    }
    let mut at = 0;
    for word in text.split_inclusive(' ') {
        // Two blanks in a row would be lost between an encoded word and text.
        if needs(word.trim_end_matches(' ')) {
            break;
        }
        at += word.len();
    }
    at
}

/// Folds long ASCII text at blanks.
fn fold(text: &str, column: usize) -> String {
    if column + text.len() <= LINE_MAX {
        return text.to_owned();
    }
    let (mut out, mut at) = (String::new(), column);
    for word in text.split_inclusive(' ') {
        if at + word.len() > HEADER_LINE_MAX && !out.is_empty() && out.ends_with(' ') {
            out.pop();
            out.push_str("\r\n ");
            at = 1;
        }
        out.push_str(word);
        at += word.len();
    }
    out
}

fn encoded_word(text: &str, charset: &dyn Coding) -> String {
    let bytes = charset.bytes(text).unwrap_or_default();
    format!("=?{}?B?{}?=", charset.name(), STANDARD.encode(bytes))
}

fn encoded_length(text: &str, charset: &dyn Coding) -> usize {
    let bytes = charset.bytes(text).map_or(0, |bytes| bytes.len());
    charset.name().len() + 7 + bytes.div_ceil(3) * 4
}

/// The room that a word of one character needs.
fn shortest_word(charset: &dyn Coding) -> usize {
    charset.name().len() + 7 + 12
}

/// Base64 in lines of 76 characters.
pub fn base64_lines(bytes: &[u8]) -> Vec<u8> {
    let lines = bytes.chunks(BASE64_LINE).map(|piece| STANDARD.encode(piece) + "\r\n");
    lines.collect::<String>().into_bytes()
}
