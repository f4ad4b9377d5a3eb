//! Subjects of posts: the password in front, the list's own text, and commands, all on the decoded text.
//!
//! Cutting or adding bytes in an encoded Japanese subject is what made IMail's garble (manual 3-2 (11 f)); here the subject is decoded as a
//! whole, changed as text and encoded again as a whole, in its own charset if that holds it ([`crate::message::encode`]).
//!
//! # Limits
//! [`PREFIXES_MAX`] reply signs in front of each other.

use crate::message::charset::{Charset, UTF8, decode_header};
use crate::message::encode::header_text;
use crate::message::header::unfold;

/// So many `Re:` are looked through.
const PREFIXES_MAX: usize = 20;

/// A subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The decoded text.
    pub text: String,
    /// The charset it came in.
    pub charset: Charset,
}

impl Subject {
    /// Reads the value of a Subject field, still folded.
    pub fn parse(value: &[u8]) -> Subject {
        Subject { text: decode_header(value).trim().to_owned(), charset: charset_of(value) }
    }

    /// The value of a Subject field with this text.
    pub fn write(&self, text: &str) -> String {
        header_text(text, self.charset, "Subject: ".len())
    }
}

/// The charset that a header's text came in: that of its first encoded word, else what raw bytes look like.
pub fn charset_of(value: &[u8]) -> Charset {
    let value = unfold(value);
    let word = memchr::memmem::find(&value, b"=?").and_then(|at| value.get(at + 2..));
    let label = word.and_then(|word| word.split(|byte| matches!(byte, b'?' | b'*')).next());
    match label.and_then(Charset::for_label) {
        Some(charset) => charset,
        None if value.contains(&0x1B) => Charset::Iso2022Jp,
        None if value.is_ascii() => Charset::Ascii,
        None => UTF8,
    }
}

/// Splits the reply signs off a subject: `Re:`, `RE :`, `Re[2]:`, `Re^2:`, with a full-width colon too. Answers the first of them, if there is
/// one, and the rest without blanks in front.
fn replies(text: &str) -> (Option<&str>, &str) {
    let (mut first, mut rest) = (None, text.trim_start());
    for _ in 0..PREFIXES_MAX {
        let Some(length) = reply_sign(rest) else { break };
        let (sign, after) = rest.split_at(length);
        first = first.or(Some(sign));
        rest = after.trim_start();
    }
    (first, rest)
}

/// A subject without its reply signs.
pub fn without_replies(subject: &str) -> &str {
    replies(subject).1
}

/// The length of the reply sign that a text begins with.
fn reply_sign(text: &str) -> Option<usize> {
    let after = text.get(..2).filter(|begin| begin.eq_ignore_ascii_case("re")).and(text.get(2..))?;
    let counted = after.trim_start_matches(|c: char| c.is_ascii_digit() || "[]^() ".contains(c));
    let colon = counted.chars().next().filter(|c| matches!(c, ':' | '\u{FF1A}'))?;
    Some(text.len() - counted.len() + colon.len_utf8())
}

/// Takes a password off: `[:password:]` in front, behind reply signs too, with full-width brackets and colons as well. Answers the password
/// and the subject without it; `None` if there is none.
pub fn take_password(text: &str) -> Option<(String, String)> {
    let (reply, rest) = replies(text);
    let inner = strip_any(strip_any(rest, &["[", "\u{FF3B}"])?, &[":", "\u{FF1A}"])?;
    let ends = [":]", "\u{FF1A}\u{FF3D}", ":\u{FF3D}", "\u{FF1A}]"];
    let (at, length) = ends.iter().filter_map(|end| Some((inner.find(end)?, end.len()))).min()?;
    let password = inner.get(..at)?.to_owned();
    let after = inner.get(at + length..)?.trim_start();
    let subject = match reply {
        Some(reply) => format!("{reply} {after}").trim_end().to_owned(),
        None => after.to_owned(),
    };
    Some((password, subject))
}

fn strip_any<'a>(text: &'a str, any: &[&str]) -> Option<&'a str> {
    any.iter().find_map(|begin| text.strip_prefix(begin))
}

/// Are these the same password? Takes as long whatever the difference is.
pub fn same_password(a: &str, b: &str) -> bool {
    let differences = a.bytes().zip(b.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(differences) == 0 && a.len() == b.len()
}

/// The subject with the list's text in front, or behind a reply sign (`Re: [text] subject`); the text is never there twice.
pub fn with_text(subject: &str, text: &str) -> String {
    let text = text.trim();
    if text.is_empty() {
        return subject.to_owned();
    }
    let (mut reply, mut rest) = replies(subject);
    for _ in 0..PREFIXES_MAX {
        let Some(after) = without_text(rest, text) else { break };
        let (more, after) = replies(after);
        (reply, rest) = (reply.or(more), after);
    }
    // A text in brackets is told from words, so it is taken out elsewhere too: behind `Fwd:` and the like.
    let bracketed = text.starts_with('[') && text.ends_with(']');
    let cleaned =
        if bracketed { rest.replace(&format!("{text} "), "").replace(text, "") } else { rest.to_owned() };
    let begin = reply.map(|reply| format!("{reply} ")).unwrap_or_default();
    format!("{begin}{text} {}", cleaned.trim()).trim_end().to_owned()
}

/// What follows the list's text at the begin, if it stands there as a whole.
fn without_text<'a>(rest: &'a str, text: &str) -> Option<&'a str> {
    let after = rest
        .get(..text.len())
        .filter(|begin| begin.eq_ignore_ascii_case(text))
        .and(rest.get(text.len()..))?;
    let ends_there = after.is_empty() || after.starts_with(char::is_whitespace) || text.ends_with(']');
    ends_there.then(|| after.trim_start())
}

/// A command in the subject of mail to a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectCommand {
    /// `subscribe`.
    Subscribe,
    /// `unsubscribe`, `remove`, `signoff`.
    Unsubscribe,
}

/// The command that a subject is as a whole; the list's name may follow (manual 3-2 (11 b), 7.1 guide).
pub fn command(subject: &str, list: &str) -> Option<SubjectCommand> {
    let mut words = subject.split_whitespace();
    let command = match words.next()?.to_ascii_lowercase().as_str() {
        "subscribe" => SubjectCommand::Subscribe,
        "unsubscribe" | "remove" | "signoff" => SubjectCommand::Unsubscribe,
        _ => return None,
    };
    let fits = words.next().is_none_or(|name| name.eq_ignore_ascii_case(list)) && words.next().is_none();
    fits.then_some(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(text: &str, charset: Charset) -> Vec<u8> {
        header_text(text, charset, 9).into_bytes()
    }

    #[test]
    fn passwords_come_off() {
        for (subject, expected) in [
            ("[:pass:]Test", Some(("pass", "Test"))),
            ("[:pass:] Test", Some(("pass", "Test"))),
            ("Re: [:pass:]Test", Some(("pass", "Re: Test"))),
            ("RE:Re: [:pass:]Test", Some(("pass", "RE: Test"))),
            ("[:pass:]会議の件", Some(("pass", "会議の件"))),
            ("［：pass：］会議", Some(("pass", "会議"))),
            ("[:山:]x", Some(("山", "x"))),
            ("[:pass:]", Some(("pass", ""))),
            ("[:a b:]x", Some(("a b", "x"))),
            ("[::]x", Some(("", "x"))),
            ("[:pass]Test", None),
            ("Test [:pass:]", None),
            ("", None),
        ] {
            let expected = expected.map(|(p, s)| (p.to_owned(), s.to_owned()));
            assert_eq!(take_password(subject), expected, "{subject}");
        }
        assert!(same_password("pass", "pass") && same_password("", ""));
        assert!(!same_password("pass", "Pass") && !same_password("pass", "passx") && !same_password("", "x"));
    }

    #[test]
    fn the_text_is_there_once() {
        for (subject, text, expected) in [
            ("Parrot", "[List]", "[List] Parrot"),
            ("re: Parrot", "[List]", "re: [List] Parrot"),
            ("Re: [List] Parrot", "[List]", "Re: [List] Parrot"),
            ("[List] Re: [List] Parrot", "[List]", "Re: [List] Parrot"),
            ("Re: [list] Re: RE: [List] Parrot", "[List]", "Re: [List] Parrot"),
            ("Fwd: [List] Parrot", "[List]", "[List] Fwd: Parrot"),
            ("Re[2]: Parrot", "[List]", "Re[2]: [List] Parrot"),
            ("Ｒe: 件名", "[List]", "[List] Ｒe: 件名"),
            ("Re：件名", "[連絡]", "Re： [連絡] 件名"),
            ("[連絡] 件名", "[連絡]", "[連絡] 件名"),
            ("good news", "news", "news good news"),
            ("news good", "news", "news good"),
            ("newsletter", "news", "news newsletter"),
            ("", "[List]", "[List]"),
            ("Re:", "[List]", "Re: [List]"),
            ("Parrot", "", "Parrot"),
        ] {
            assert_eq!(with_text(subject, text), expected, "{subject}");
        }
    }

    #[test]
    fn a_japanese_subject_keeps_its_charset() {
        let jis = Charset::Iso2022Jp;
        for (value, charset) in [
            (encoded("Re: 山田さんの件", jis), jis),
            (encoded("山田さんの件", UTF8), UTF8),
            (crate::message::encode::bytes("山田さんの件", jis).unwrap(), jis),
            ("山田さんの件".as_bytes().to_vec(), UTF8),
            (b"plain".to_vec(), Charset::Ascii),
        ] {
            let subject = Subject::parse(&value);
            assert_eq!(subject.charset, charset);
            let written = subject.write(&with_text(&subject.text, "[news]"));
            let read = Subject::parse(written.as_bytes());
            assert!(read.text.contains("[news]") && !read.text.contains('\u{fffd}'), "{written}");
            assert!(charset == Charset::Ascii || read.charset == charset, "{written}");
            assert!(written.starts_with("[news] ") || written.starts_with("Re: [news] "), "{written}");
            assert_eq!(with_text(&read.text, "[news]"), read.text);
        }
        // The password inside of encoded words, as clients write it.
        for charset in [jis, UTF8] {
            let value = format!("=?{}?B?{}?=", crate::message::encode::name(charset), {
                use base64::Engine as _;
                base64::engine::general_purpose::STANDARD
                    .encode(crate::message::encode::bytes("[:pw:]会議のお知らせ", charset).unwrap())
            });
            let subject = Subject::parse(value.as_bytes());
            let (password, rest) = take_password(&subject.text).unwrap();
            assert_eq!((password.as_str(), rest.as_str()), ("pw", "会議のお知らせ"));
            let written = subject.write(&rest);
            assert_eq!(Subject::parse(written.as_bytes()), Subject { text: rest, charset });
        }
    }

    #[test]
    fn commands_in_subjects() {
        use SubjectCommand::{Subscribe, Unsubscribe};
        for (subject, expected) in [
            ("subscribe", Some(Subscribe)),
            (" UNSUBSCRIBE ", Some(Unsubscribe)),
            ("remove", Some(Unsubscribe)),
            ("signoff News", Some(Unsubscribe)),
            ("Unsubscribe other", None),
            ("unsubscribe me please", None),
            ("unsubscirbe", None),
            ("", None),
        ] {
            assert_eq!(command(subject, "news"), expected, "{subject}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_text_stays_where_it_is(subject in "(Re: |\\[n\\] |RE:|[a-z山] ){0,6}", text in "\\[n\\]|n") {
            let once = with_text(&subject, &text);
            prop_assert_eq!(with_text(&once, &text), once);
        }
    }
}
