//! The base subject: what stays of a subject without the signs of answering and forwarding (RFC 5256 §2.1).
//!
//! Subjects are decoded and folded before ([`super::search::fold`]), so full-width signs of Japanese mail programs are the same as the others, and
//! subjects compare without regard to case and width.
//!
//! # Limits
//! [`SUBJECT_MAX`].

use super::{charset, search};

/// How many characters of a subject are compared: taking signs off takes time by the square of the length.
pub const SUBJECT_MAX: usize = 500;

/// A subject for comparing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BaseSubject {
    /// Folded text without signs; may be empty.
    pub text: String,
    /// It had signs of an answer or a forwarded message.
    pub is_reply: bool,
}

/// The base subject of a `Subject:` field's value.
pub fn base_subject(value: &[u8]) -> BaseSubject {
    let folded = search::fold(&charset::decode_header(value));
    let words: Vec<&str> = folded.split_whitespace().collect();
    let whole: String = words.join(" ").chars().take(SUBJECT_MAX).collect();
    let (mut text, mut is_reply) = (whole.as_str(), false);
    // Every round makes the text shorter.
    loop {
        while let Some(rest) = text.trim_end().strip_suffix("(fwd)") {
            (text, is_reply) = (rest, true);
        }
        text = text.trim();
        loop {
            if let Some(rest) = without_leader(text) {
                (text, is_reply) = (rest, true);
            } else if let Some(rest) = without_blob(text).filter(|rest| !rest.is_empty()) {
                text = rest;
            } else {
                break;
            }
        }
        match text.strip_prefix("[fwd:").and_then(|rest| rest.strip_suffix(']')) {
            Some(rest) => (text, is_reply) = (rest, true),
            None => return BaseSubject { text: text.to_owned(), is_reply },
        }
    }
}

/// `re:`, `fw:` or `fwd:`, with words in brackets before it and before the colon.
fn without_leader(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some(behind) = without_blob(rest) {
        rest = behind;
    }
    let rest = ["re", "fwd", "fw"].iter().find_map(|sign| rest.strip_prefix(sign))?.trim_start();
    let rest = without_blob(rest).unwrap_or(rest);
    Some(rest.strip_prefix(':')?.trim_start())
}

/// `[...] `
fn without_blob(text: &str) -> Option<&str> {
    let (blob, rest) = text.strip_prefix('[')?.split_once(']')?;
    (!blob.contains('[')).then(|| rest.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_subjects() {
        for (subject, text, is_reply) in [
            ("Hello", "hello", false),
            ("Re: Hello", "hello", true),
            ("RE: re: Fwd:  Hello (fwd) (FWD)", "hello", true),
            ("[list] Re[2]: [other] Hello", "hello", true),
            ("[list] Hello", "hello", false),
            ("[list]", "[list]", false),
            ("Re: [list]", "[list]", true),
            ("[Fwd: Re: Hello]", "hello", true),
            ("Fwd:", "", true),
            ("re [a] : x", "x", true),
            ("Regarding: x", "regarding: x", false),
            ("\u{FF32}\u{FF25}\u{FF1A}\u{4F1A}\u{8B70}\u{3000}\u{FF11}", "\u{4F1A}\u{8B70} 1", true),
            ("=?iso-2022-jp?B?UmU6IBskQjJxNUQbKEI=?=", "\u{4F1A}\u{8B70}", true),
            ("a\r\n\t b", "a b", false),
        ] {
            let expected = BaseSubject { text: text.to_owned(), is_reply };
            assert_eq!(base_subject(subject.as_bytes()), expected, "{subject}");
        }
        // Hostile ones end in time.
        base_subject("re:[".repeat(50_000).as_bytes());
        base_subject("[fwd:".repeat(50_000).as_bytes());
        base_subject(format!("{}x", "[a]".repeat(50_000)).as_bytes());
    }
}
