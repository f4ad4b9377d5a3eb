//! Delivery rules on a message: which rule of a file matches first.
//!
//! A condition is looked for in the text as it came and in the decoded text (a Japanese subject is found by its words, an encoded attachment
//! name by its letters); a negated one holds where neither has it.
//!
//! # Failure
//! Lines that are not understood are passed over; the log names them once, when the file is read.
//!
//! # Limits
//! The first [`EXAMINED_MAX`] bytes of a message; those of [`layout::rules`] and [`crate::config::files`].

use crate::config::Config;
use crate::config::files::{Files, Reader};
use crate::message::header::Address;
use crate::message::{charset, header, text};
use layout::path::TreePath;
use layout::rules::{
    Area, Condition, EXAMINED_MAX, Joiner, Line, OUTBOUND, Rule, Target, header_value, outbound, parse,
    rul_text,
};
use std::borrow::Cow;
use std::io;
use std::sync::{Arc, OnceLock};

/// The rules files, as they are now.
#[derive(Default)]
pub struct Rules {
    files: Files<Vec<Line>>,
}

/// The rule that decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Where the message goes.
    pub target: Target,
    /// The number of the rule's line.
    pub line: usize,
    /// That line.
    pub rule: String,
    /// The value of `X-IMail-Rule`.
    pub header: String,
}

impl Rules {
    /// The rules of a file in a directory; none if it is not there.
    pub fn of(&self, config: &Config, dir: &TreePath, name: &str) -> Arc<Vec<Line>> {
        self.files.get(config.root(), dir, name, |reader| read(config, reader, dir, name))
    }

    /// The first rule of a file that matches.
    pub fn first(&self, config: &Config, dir: &TreePath, name: &str, message: &Examined) -> Option<Hit> {
        first_of(&self.of(config, dir, name), message)
    }
}

/// The first of these rules that matches.
pub fn first_of(lines: &[Line], message: &Examined) -> Option<Hit> {
    lines.iter().filter_map(Line::rule).find_map(|rule| matches(rule, message))
}

/// Reads a rules file with the `.rul` files that it names: beside it, else in the IMail directory (help and Japanese help differ).
fn read(config: &Config, reader: &mut Reader<'_>, dir: &TreePath, name: &str) -> io::Result<Vec<Line>> {
    let Some(bytes) = reader.read(dir, name)? else { return Ok(Vec::new()) };
    let code_page = config.registry.global.code_page;
    let reader = std::cell::RefCell::new(reader);
    let rul = |stem: &str| {
        let name = format!("{stem}.rul");
        let dirs = [dir, config.root().top()];
        let bytes = dirs.iter().find_map(|dir| reader.borrow_mut().read(dir, &name).ok().flatten());
        bytes.map(|bytes| rul_text(&bytes, code_page))
    };
    let mut lines = parse(&bytes, code_page, &rul);
    if name == OUTBOUND {
        lines = outbound(lines);
    }
    for line in &lines {
        if let Line::Odd { number, why } = line {
            tracing::warn!(%dir, name, line = number, %why, "a rule is not understood and not applied");
        }
    }
    Ok(lines)
}

/// The begin of a message, with what conditions look at.
pub struct Examined {
    bytes: Vec<u8>,
    header_end: usize,
    header: OnceLock<String>,
    body: OnceLock<String>,
}

impl Examined {
    /// From a message or its begin.
    pub fn new(message: &[u8]) -> Examined {
        let bytes = message[..message.len().min(EXAMINED_MAX)].to_vec();
        let header_end = header::header_length(&bytes);
        Examined { bytes, header_end, header: OnceLock::new(), body: OnceLock::new() }
    }

    fn decoded_header(&self) -> &str {
        self.header.get_or_init(|| text::header_text(&self.bytes))
    }

    fn decoded_body(&self) -> &str {
        self.body.get_or_init(|| text::body_text(&self.bytes))
    }

    /// The first text of an area that a condition's pattern finds.
    fn find(&self, condition: &Condition) -> Option<String> {
        let (raw_header, raw_body) = self.bytes.split_at(self.header_end);
        let found = |text: &str| condition.pattern.find(text.trim()).map(str::to_owned);
        let raw = |bytes: &[u8]| found(&String::from_utf8_lossy(bytes));
        let field = |name: &[u8]| {
            header::fields(&self.bytes).filter(|field| field.is(name)).find_map(|field| {
                let value: Cow<'_, [u8]> = header::unfold(field.value);
                found(&charset::decode_header(field.value)).or_else(|| raw(&value))
            })
        };
        // "Equals" means the address too (not known; chosen, since people give an address there).
        let address = |name: &[u8]| {
            let named = header::fields(&self.bytes).filter(|field| field.is(name) && condition.whole);
            named.flat_map(|field| header::addresses(field.value)).find_map(|address| match address {
                Address::Mailbox { local, domain, .. } => raw(&[&*local, b"@", &*domain].concat()),
                _ => None,
            })
        };
        match condition.area {
            Area::From => field(b"From").or_else(|| address(b"From")),
            Area::Subject => field(b"Subject"),
            Area::Sender => field(b"Sender").or_else(|| address(b"Sender")),
            Area::To => field(b"To").or_else(|| address(b"To")),
            Area::Header => found(self.decoded_header()).or_else(|| raw(raw_header)),
            Area::Body => found(self.decoded_body()).or_else(|| raw(raw_body)),
        }
    }
}

/// Does the rule match? Conditions are taken from left to right.
fn matches(rule: &Rule, message: &Examined) -> Option<Hit> {
    let (mut holds, mut matched) = (true, None);
    for (joiner, condition) in &rule.conditions {
        // What is decided already needs no search.
        match (joiner, holds) {
            (Joiner::And, false) | (Joiner::Or, true) => continue,
            (Joiner::And, true) | (Joiner::Or, false) => {}
        }
        let found = message.find(condition);
        holds = found.is_some() != condition.negated;
        if holds && matched.is_none() {
            matched = found;
        }
    }
    holds.then(|| Hit {
        target: rule.target.clone(),
        line: rule.number,
        rule: rule.text.clone(),
        header: header_value(rule, matched.as_deref().unwrap_or_default()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use layout::text::CodePage;

    /// Does this condition match the message?
    fn hit(line: &str, message: &[u8]) -> Option<String> {
        let lines = parse(format!("{line}:box").as_bytes(), CodePage::Japanese, &|_| None);
        match lines.first() {
            Some(Line::Rule(rule)) => matches(rule, &Examined::new(message)).map(|hit| hit.header),
            other => panic!("{line}: {other:?}"),
        }
    }

    const PLAIN: &[u8] = b"From: The Boss <boss@example.com>\r\nTo: a@example.jp,\r\n b@example.jp\r\n\
        Sender: robot@example.com\r\nCc: c@example.jp\r\nSubject: Weekly update\r\n\r\nThe text says hello.\r\n";

    /// Area, a text that is in it, a text that is not, the whole of it.
    type Row = (&'static str, &'static str, &'static str, &'static str);

    const ENGLISH: [Row; 6] = [
        ("F", "boss@", "robot", "The Boss <boss@example\\.com>"),
        ("S", "WEEKLY", "Boss", "weekly update"),
        ("N", "robot", "boss", "robot@example\\.com"),
        ("T", "a@example\\.jp, b", "c@", "a@example\\.jp, b@example\\.jp"),
        ("H", "Cc\\: c@", "hello", ".*Weekly update"),
        ("B", "says", "Weekly", "the text says hello\\."),
    ];

    const JAPANESE: [Row; 6] = [
        ("F", "山田", "受付", "山田 <yamada@example\\.com>"),
        ("S", "会議", "山田", "月曜日の会議"),
        ("N", "受付", "総務", "受付 <robot@example\\.com>"),
        ("T", "総務", "経理", "総務 <a@example\\.jp>, b@example\\.jp"),
        ("H", "経理", "行います", ".*月曜日の会議"),
        ("B", "月曜日に", "月曜日の", "会議は月曜日に行います。"),
    ];

    /// Mail in Japanese, its header in encoded words or in the bytes of its charset.
    fn japanese(charset: charset::Charset, raw: bool) -> Vec<u8> {
        use crate::message::encode::{bytes, header_text};
        let word = |text: &str| match raw {
            true => bytes(text, charset).unwrap(),
            false => header_text(text, charset, 9).into_bytes(),
        };
        let named = |field: &str, name: &str, rest: &str| {
            [field.as_bytes(), b": ", &word(name), rest.as_bytes(), b"\r\n"].concat()
        };
        let label = crate::message::encode::name(charset);
        [
            named("From", "山田", " <yamada@example.com>"),
            named("To", "総務", " <a@example.jp>,\r\n b@example.jp"),
            named("Sender", "受付", " <robot@example.com>"),
            named("Cc", "経理", " <c@example.jp>"),
            format!("Content-Type: text/plain; charset={label}\r\n").into_bytes(),
            named("Subject", "月曜日の会議", "\r\n"),
            bytes("会議は月曜日に行います。\r\n", charset).unwrap(),
        ]
        .concat()
    }

    #[test]
    fn every_operator_in_every_area() {
        let mut mails = vec![("English".to_owned(), PLAIN.to_vec(), ENGLISH)];
        for charset in [charset::Charset::Iso2022Jp, charset::UTF8] {
            for raw in [false, true] {
                mails.push((format!("{charset:?} {raw}"), japanese(charset, raw), JAPANESE));
            }
        }
        for (name, message, rows) in mails {
            every_operator(&name, &message, rows);
        }
        assert!(hit("s~Weekly", PLAIN).is_some() && hit("s~weekly", PLAIN).is_none());
    }

    fn every_operator(name: &str, message: &[u8], rows: [Row; 6]) {
        for (area, inside, outside, whole) in rows {
            for (condition, expected) in [
                (format!("{area}~{inside}"), true),
                (format!("{area}~{outside}"), false),
                (format!("{area}!~{inside}"), false),
                (format!("{area}!~{outside}"), true),
                (format!("{area}={whole}"), true),
                (format!("{area}={inside}"), false),
                (format!("{area}!={whole}"), false),
                (format!("{area}!={inside}"), true),
            ] {
                assert_eq!(hit(&condition, message).is_some(), expected, "{name}: {condition}");
            }
        }
    }

    #[test]
    fn an_address_equals_too() {
        for (line, expected) in [
            ("F=boss@example\\.com", true),
            ("F!=BOSS@example.com", false),
            ("f=Boss@example.com", false),
            ("T=b@example\\.jp", true),
            ("N=robot@.*", true),
            ("F=boss@example", false),
            ("S=boss@example\\.com", false),
        ] {
            assert_eq!(hit(line, PLAIN).is_some(), expected, "{line}");
        }
    }

    #[test]
    fn joined_from_left_to_right() {
        for (line, expected) in [
            ("F~boss!AND!S~update", true),
            ("F~boss!AND!S~nothing", false),
            ("F~nobody!OR!S~update", true),
            ("F~nobody!AND!S~update!OR!B~hello", true),
            ("F~boss!OR!S~nothing!AND!B~nothing", false),
        ] {
            assert_eq!(hit(line, PLAIN).is_some(), expected, "{line}");
        }
    }

    #[test]
    fn what_is_written_into_the_header() {
        assert_eq!(hit("<x>S~week.*", PLAIN).unwrap(), "<x>S~week.*:box-Weekly update");
        assert_eq!(hit("S!~news", PLAIN).unwrap(), "S!~news:box-");
    }

    #[test]
    fn japanese_mail_in_every_encoding() {
        let (subject, body) =
            ("\u{65e5}\u{672c}\u{8a9e}\u{306e}\u{4ef6}\u{540d}", "\u{3054}\u{6848}\u{5185}");
        for name in ["ISO-2022-JP", "Shift_JIS", "EUC-JP", "UTF-8"] {
            let encoding = encoding_rs::Encoding::for_label(name.as_bytes()).unwrap();
            use base64::Engine as _;
            let word = base64::engine::general_purpose::STANDARD.encode(encoding.encode(subject).0);
            let mut message =
                format!("Subject: =?{name}?B?{word}?=\r\nContent-Type: text/plain; charset={name}\r\n\r\n")
                    .into_bytes();
            message.extend_from_slice(&encoding.encode(body).0);
            for (line, expected) in [
                ("S~\u{672c}\u{8a9e}", true),
                ("S=\u{65e5}\u{672c}\u{8a9e}\u{306e}\u{4ef6}\u{540d}", true),
                ("S~\u{6848}", false),
                ("B~\u{6848}\u{5185}", true),
                ("H~\u{4ef6}\u{540d}", true),
                ("S!~\u{672c}", false),
            ] {
                assert_eq!(hit(line, &message).is_some(), expected, "{line} in {name}");
                // The same rule in a file of the Japanese code page.
                let held = encoding_rs::SHIFT_JIS.encode(&format!("{line}:box")).0.into_owned();
                let lines = parse(&held, CodePage::Japanese, &|_| None);
                let Some(Line::Rule(rule)) = lines.first() else { panic!("{line}") };
                assert_eq!(matches(rule, &Examined::new(&message)).is_some(), expected, "{line} in {name}");
            }
        }
    }

    #[test]
    fn only_the_begin_is_looked_at() {
        let mut message = b"Subject: x\r\n\r\n".to_vec();
        message.resize(EXAMINED_MAX, b'.');
        message.extend_from_slice(b"needle");
        assert!(hit("B~needle", &message).is_none());
        message.truncate(EXAMINED_MAX - 6);
        message.extend_from_slice(b"needle");
        assert!(hit("B~needle", &message).is_some());
    }
}
