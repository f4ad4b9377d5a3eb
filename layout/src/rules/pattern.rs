//! The patterns of rules, in IMail's flavour (IMail 8.2 and 11 help, "rule syntax"), brought into the form of a matcher that takes linear time
//! whatever the pattern and the text.
//!
//! | token | meaning |
//! | --- | --- |
//! | `.` | any character |
//! | `(a\|b)` | alternatives; without parentheses too |
//! | `\w \W` | `a-z A-Z 0-9`, and all others |
//! | `\d \D`, `\s \S` | digits; blank, tab, line end |
//! | `\p \P` | punctuation: neither `\w` nor `\s`; and its opposite |
//! | `* + {n} {n1,n2}` | repetition |
//! | `[a-z] ^ $` | class, begin and end, as since version 10 (before it they were literal) |
//! | `\x` | the character x |
//!
//! `?` is not among the special characters of any version: it is literal.
//!
//! # Failure
//! [`PatternError`] for a pattern that makes no sense, or is too large.
//!
//! # Limits
//! [`COMPILED_MAX`] bytes of a compiled pattern, [`PATTERN_MAX`] of its text.

use regex::{Regex, RegexBuilder};

/// The longest text of a pattern, in bytes. People type 255 at most in IMail; a `.rul` file has no limit there.
pub const PATTERN_MAX: usize = 64 << 10;
/// The most memory of a compiled pattern, in bytes.
const COMPILED_MAX: usize = 8 << 20;

/// Word characters (the help lists no underscore).
const WORD: &str = "a-zA-Z0-9";
/// White space; the line feed goes with the carriage return that the help names.
const SPACE: &str = " \\t\\r\\n";

/// Why a pattern cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It makes no sense.
    #[error("the text is no pattern: {0}; put a backslash before a character that means itself")]
    Odd(String),
    /// It is too large.
    #[error("the text is too long or repeats too much")]
    TooLarge,
    /// There is none.
    #[error("the text to look for is missing")]
    Empty,
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    regex: Regex,
}

impl Pattern {
    /// `whole`: the pattern must cover the text from begin to end. Case is ignored unless `match_case`.
    pub fn new(text: &str, whole: bool, match_case: bool) -> Result<Pattern, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.len() > PATTERN_MAX {
            return Err(PatternError::TooLarge);
        }
        let translated = translate(text);
        let framed = if whole { format!("\\A(?:{translated})\\z") } else { translated };
        let mut builder = RegexBuilder::new(&framed);
        builder.case_insensitive(!match_case).dot_matches_new_line(true).multi_line(!whole).crlf(true);
        builder.size_limit(COMPILED_MAX).dfa_size_limit(COMPILED_MAX);
        match builder.build() {
            Ok(regex) => Ok(Pattern { regex }),
            Err(regex::Error::CompiledTooBig(_)) => Err(PatternError::TooLarge),
            Err(error) => {
                // The last line of the message says what is wrong; those before it draw our own translation.
                let text = error.to_string();
                let last = text.lines().last().unwrap_or_default();
                Err(PatternError::Odd(last.trim_start_matches("error: ").to_owned()))
            }
        }
    }

    /// The first text that matches.
    pub fn find<'t>(&self, text: &'t str) -> Option<&'t str> {
        self.regex.find(text).map(|found| found.as_str())
    }
}

/// Writes a pattern in the syntax of the `regex` crate.
fn translate(text: &str) -> String {
    let (mut out, mut letters) = (String::with_capacity(text.len() * 2), text.chars().peekable());
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next().map(|next| (class(next), next)) {
                Some((Some(set), _)) => out.push_str(&format!("[{set}]")),
                Some((None, next)) => literal(next, &mut out),
                None => out.push_str("\\\\"),
            },
            '.' | '(' | ')' | '|' | '*' | '+' | '^' | '$' => out.push(letter),
            '{' => repetition(&mut letters, &mut out),
            '[' => set(&mut letters, &mut out),
            _ => literal(letter, &mut out),
        }
    }
    out
}

type Letters<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn literal(letter: char, out: &mut String) {
    let mut buffer = [0; 4];
    out.push_str(&regex::escape(letter.encode_utf8(&mut buffer)));
}

/// What a backslash and this letter stand for, as the inside of a class.
fn class(letter: char) -> Option<String> {
    Some(match letter {
        'w' => WORD.to_owned(),
        'W' => format!("^{WORD}"),
        'd' => "0-9".to_owned(),
        'D' => "^0-9".to_owned(),
        's' => SPACE.to_owned(),
        'S' => format!("^{SPACE}"),
        'p' => format!("^{WORD}{SPACE}"),
        'P' => format!("{WORD}{SPACE}"),
        _ => return None,
    })
}

/// `{n}` or `{n1,n2}`; any other brace is literal.
fn repetition(letters: &mut Letters<'_>, out: &mut String) {
    let ahead: String = letters.clone().take_while(|letter| *letter != '}').collect();
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let counts = match ahead.split_once(',') {
        Some((from, to)) => is_number(from) && (to.is_empty() || is_number(to)),
        None => is_number(&ahead),
    };
    let closed = letters.clone().any(|letter| letter == '}');
    if counts && closed {
        out.push_str(&format!("{{{ahead}}}"));
        letters.nth(ahead.len());
    } else {
        out.push_str("\\{");
    }
}

/// `[...]`; a bracket that is never closed is literal.
fn set(letters: &mut Letters<'_>, out: &mut String) {
    let mut ahead = letters.clone();
    let mut inside = String::new();
    if ahead.next_if_eq(&'^').is_some() {
        inside.push('^');
    }
    let mut count = 0;
    while let Some(letter) = ahead.next() {
        match letter {
            ']' if count > 0 => {
                out.push_str(&format!("[{inside}]"));
                *letters = ahead;
                return;
            }
            '-' => inside.push('-'),
            '\\' => match ahead.next().map(|next| (class(next), next)) {
                Some((Some(set), _)) => inside.push_str(&format!("[{set}]")),
                Some((None, next)) => inside.push_str(&in_class(next)),
                None => break,
            },
            _ => inside.push_str(&in_class(letter)),
        }
        count += 1;
    }
    out.push_str("\\[");
}

/// A character inside a class, where `&`, `~` and `-` have meanings of their own.
fn in_class(letter: char) -> String {
    if letter.is_ascii_punctuation() { format!("\\{letter}") } else { letter.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flavour() {
        for (pattern, text, expected) in [
            ("news", "The NEWS of today", Some("NEWS")),
            ("a.c", "xabcx", Some("abc")),
            ("(confidential|secret)", "Top Secret", Some("Secret")),
            ("casino|viagra", "viagra now", Some("viagra")),
            ("name=.{1,64}\\.scr", "name=virus.scr", Some("name=virus.scr")),
            ("a{3}", "aaaa", Some("aaa")),
            ("a{x}", "A{X}", Some("A{X}")),
            ("what?", "what?", Some("what?")),
            ("what?", "wha", None),
            ("\\w+", "--ab_c", Some("ab")),
            ("\\p\\P", "a- b", Some("- ")),
            ("\\d+\\D", "v12.5", Some("12.")),
            ("\\s\\S", "a \tb", Some("\tb")),
            ("1\\+1", "1+1", Some("1+1")),
            ("\\[huge\\]", "[huge] file", Some("[huge]")),
            ("[0-9a-f]+", "xyz beef", Some("beef")),
            ("[^a-z ]", "abc!", Some("!")),
            ("[a&&b]+", "&ab", Some("&ab")),
            ("[unclosed", "x[unclosed", Some("[unclosed")),
            ("^re: ", "Re: x", Some("Re: ")),
            ("end$", "the end", Some("end")),
            ("a#b c", "A#B C", Some("A#B C")),
            ("\u{6771}\u{4eac}", "\u{6771}\u{4eac}\u{90fd}", Some("\u{6771}\u{4eac}")),
            ("a/b\\", "a/b\\", Some("a/b\\")),
        ] {
            let found = Pattern::new(pattern, false, false).unwrap();
            assert_eq!(found.find(text), expected, "{pattern} in {text}");
        }
    }

    #[test]
    fn the_whole_text_and_its_case() {
        let whole = Pattern::new("a|bc", true, true).unwrap();
        for (text, expected) in [("a", true), ("bc", true), ("A", false), ("abc", false), ("x\na", false)] {
            assert_eq!(whole.find(text).is_some(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_refused() {
        for (pattern, expected) in [
            ("", Some(PatternError::Empty)),
            ("(a", None),
            ("a)", None),
            ("*a", None),
            ("(a{1000}){1000}", Some(PatternError::TooLarge)),
        ] {
            let error = Pattern::new(pattern, false, false).unwrap_err();
            assert!(expected.is_none_or(|expected| error == expected), "{pattern}: {error}");
        }
    }
}
