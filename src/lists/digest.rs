//! A digest: many posts in one mail, as plain text (IMail's form is not known; its helps speak of header, separator and trailer texts, and of
//! taking away what is not text).
//!
//! # Limits
//! [`POSTS_MAX`] posts, [`TEXT_MAX`] bytes of text of each, [`DIGEST_MAX`] of all.

use super::header::ListAddress;
use crate::message::charset::{Charset, UTF8, decode_header};
use crate::message::encode::{body, header_text};
use crate::message::header::value;
use crate::message::text::{attachments, text};
use chrono::{DateTime, Local};
use layout::list::settings::Language;

/// The most posts of one digest; the others come in the next.
pub const POSTS_MAX: usize = 1000;
/// The most text of one post, in bytes.
pub const TEXT_MAX: usize = 100_000;
/// The most text of a digest, in bytes; at least one post is in it.
pub const DIGEST_MAX: usize = 4 << 20;
/// Between posts, where the list has no text of its own.
const SEPARATOR: &str = "----------------------------------------------------------------------";

/// The list's own texts.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// In front.
    pub header: String,
    /// Between posts.
    pub separator: String,
    /// Behind.
    pub trailer: String,
}

/// `digest.sent`: what the last digest was, in one line of text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// When, in Unix seconds.
    pub time: i64,
    /// The UIDVALIDITY of the mailbox that its posts were in.
    pub uidvalidity: u32,
    /// The UID of its last post.
    pub uid: u32,
    /// Its items in the spool as long as they may not all be published; then 0.
    pub items: u32,
}

impl Sent {
    /// Reads the line.
    pub fn parse(bytes: &[u8]) -> Option<Sent> {
        let mut words = std::str::from_utf8(bytes).ok()?.split_whitespace();
        let time = words.next()?.parse().ok()?;
        let mut number = || words.next()?.parse().ok();
        Some(Sent { time, uidvalidity: number()?, uid: number()?, items: number()? })
    }

    /// The line.
    pub fn text(&self) -> String {
        let Sent { time, uidvalidity, uid, items } = self;
        format!("{time} {uidvalidity} {uid} {items}\n")
    }
}

/// One post in a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    subject: String,
    from: String,
    date: String,
    text: String,
}

impl Entry {
    /// How long its texts are, in bytes.
    pub fn bytes(&self) -> usize {
        [&self.subject, &self.from, &self.date, &self.text].iter().map(|text| text.len()).sum()
    }
}

/// Reads a post for a digest.
pub fn entry(message: &[u8]) -> Entry {
    let field =
        |name: &[u8]| value(message, name).map(|value| decode_header(value).into_owned()).unwrap_or_default();
    let from = Some(field(b"x-original-from")).filter(|from| !from.is_empty());
    let mut body = text(message);
    if body.len() > TEXT_MAX {
        body.truncate(body.floor_char_boundary(TEXT_MAX));
        body.push_str("\n[...]\n");
    }
    for name in attachments(message) {
        body.push_str(&format!("\n[{name}]"));
    }
    Entry {
        subject: field(b"subject"),
        from: from.unwrap_or_else(|| field(b"from")),
        date: field(b"date"),
        text: body,
    }
}

/// The digest, with the list's headers. `number` makes its Message-Id unique.
pub fn write(
    list: &ListAddress,
    language: Language,
    texts: &Texts,
    entries: &[Entry],
    now: DateTime<Local>,
    number: u64,
) -> Vec<u8> {
    let (charset, contents, name) = match language {
        Language::Japanese => (Charset::Iso2022Jp, "目次", "まとめ送り"),
        Language::English => (UTF8, "Contents", "digest"),
    };
    let part = |text: &str| match text.trim() {
        "" => String::new(),
        text => format!("{text}\n\n"),
    };
    let mut out = part(&texts.header);
    out.push_str(&format!("{contents}:\n"));
    for (at, entry) in entries.iter().enumerate() {
        out.push_str(&format!("{:4}. {} ({})\n", at + 1, entry.subject, entry.from));
    }
    let separator = if texts.separator.trim().is_empty() { SEPARATOR } else { texts.separator.trim() };
    for entry in entries {
        let Entry { subject, from, date, text } = entry;
        let head = format!("From: {from}\nDate: {date}\nSubject: {subject}");
        out.push_str(&format!("\n{separator}\n\n{head}\n\n{}\n", text.trim_end()));
    }
    out.push_str(&format!("\n{separator}\n\n{}", part(&texts.trailer)));
    let body = body(&out, charset);
    let subject = header_text(&format!("[{}] {name} {}", list.name, now.format("%Y-%m-%d")), charset, 9);
    let head = format!(
        "Date: {}\r\nMessage-Id: <{}.{number:016x}@{}>\r\nMIME-Version: 1.0\r\nFrom: <{}>\r\nTo: <{}>\r\nSubject: {subject}\r\n\
         Content-Type: text/plain; charset={}\r\nContent-Transfer-Encoding: {}\r\n\r\n",
        now.format("%a, %d %b %Y %H:%M:%S %z"),
        now.format("%Y%m%d%H%M%S"),
        list.domain,
        list.post(),
        list.post(),
        body.charset,
        body.encoding
    );
    let mut message = super::header::rewrite(head.as_bytes(), list, &super::header::Changes::default());
    message.extend(body.bytes);
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::encode;

    #[test]
    fn the_note_reads_back() {
        let sent = Sent { time: 1_700_000_000, uidvalidity: 7, uid: 12, items: 3 };
        assert_eq!(Sent::parse(sent.text().as_bytes()), Some(sent));
        assert_eq!(Sent::parse(b"17000"), None);
    }

    #[test]
    fn posts_in_one_mail() {
        let list = ListAddress { name: "news".into(), domain: "x.example".into() };
        let jis = encode::body("会議です。\n", Charset::Iso2022Jp).bytes;
        let subject = header_text("[news] 会議", Charset::Iso2022Jp, 9);
        let first = [
            format!("From: A <a@x>\r\nSubject: {subject}\r\nDate: Mon, 6 May 2024 10:00:00 +0900\r\nContent-Type: text/plain; charset=iso-2022-jp\r\n\r\n").into_bytes(),
            jis,
        ]
        .concat();
        let second = b"From: \"B via news\" <news@x.example>\r\nX-Original-From: B <b@x>\r\nSubject: two\r\n\
            Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext two\r\n--b\r\nContent-Type: image/png; name=p.png\r\n\r\nx\r\n--b--\r\n";
        let texts = Texts { header: "Head".into(), separator: String::new(), trailer: "尾".into() };
        for language in [Language::Japanese, Language::English] {
            let mail = write(&list, language, &texts, &[entry(&first), entry(second)], Local::now(), 1);
            let parsed = mail_parser::MessageParser::default().parse(&mail).unwrap();
            let body = parsed.body_text(0).unwrap().replace("\r\n", "\n");
            for expected in [
                "Head\n",
                "   1. [news] 会議 (A <a@x>)\n   2. two (B <b@x>)\n",
                "会議です。",
                "text two",
                "[p.png]",
                "尾",
            ] {
                assert!(body.contains(expected), "{expected} in {body}");
            }
            assert!(parsed.subject().unwrap().starts_with("[news] "));
            assert!(super::super::header::is_own(&mail, &list));
        }
    }
}
