//! The header of a post as the members get it.
//!
//! New fields stand in front of all others, and whatever needs no change keeps its bytes: a signature (RFC 6376) that was good when the post
//! came stays good if neither subject, From, Reply-To nor body is changed.
//!
//! Added are List-Id (RFC 2919), List-Post, List-Help and List-Unsubscribe (RFC 2369), and `Precedence: bulk`, which keeps IMail's own
//! automatic answers quiet (11.02 help). No `Sender`: mail programs show "on behalf of" for it. Fields of these names that the post brings are
//! another list's, and go, but for its List-Id, which becomes `X-Original-List-Id`: lists that are members of each other know by it what they sent. What IMail's list server added is not known.

use crate::lists::subject::charset_of;
use crate::message::charset::decode_header;
use crate::message::encode::phrase;
use crate::message::header::{Address, addresses, fields, unfold, value};

/// A list, as far as headers name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListAddress {
    /// Its name.
    pub name: String,
    /// Its domain.
    pub domain: String,
}

impl ListAddress {
    /// Where posts are sent to.
    pub fn post(&self) -> String {
        format!("{}@{}", self.name, self.domain)
    }

    /// The envelope sender of posts.
    pub fn bounce(&self) -> String {
        format!("{}{BOUNCE_SUFFIX}@{}", self.name, self.domain)
    }

    /// The list server.
    pub fn server(&self) -> String {
        format!("{SERVER}@{}", self.domain)
    }

    /// What List-Id says, without brackets.
    pub fn id(&self) -> String {
        format!("{}.{}", self.name, self.domain)
    }
}

/// Behind a list's name: where bounces of its posts go.
pub const BOUNCE_SUFFIX: &str = "-bounce";
/// The list server's local part (IMail help, "List server commands").
pub const SERVER: &str = "imailsrv";

/// Where the List-Id of a list stands that this one got the post from.
const OTHER_LIST: &str = "X-Original-List-Id";

/// What is changed in a header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The new value of Subject.
    pub subject: Option<String>,
    /// The author's address gives way to the list's, for DMARC (RFC 7489).
    pub replace_from: bool,
    /// Answers go to the list.
    pub reply_to_list: bool,
}

/// Fields that hold the subject: Outlook says it twice, and the list's password must stay in no copy.
pub const HOLD_SUBJECT: [&[u8]; 2] = [b"subject", b"thread-topic"];

/// Fields of other lists.
const OF_LISTS: [&[u8]; 9] = [
    b"list-id",
    b"list-post",
    b"list-help",
    b"list-unsubscribe",
    b"list-unsubscribe-post",
    b"list-subscribe",
    b"list-owner",
    b"list-archive",
    b"precedence",
];

/// Writes the header of a post, with the empty line behind it. `head` is the header that came.
pub fn rewrite(head: &[u8], list: &ListAddress, changes: &Changes) -> Vec<u8> {
    let mut out = own_fields(list);
    let mut dropped: Vec<&[u8]> = OF_LISTS.to_vec();
    if let Some(subject) = &changes.subject {
        out.push_str(&format!("Subject: {subject}\r\n"));
        dropped.extend(HOLD_SUBJECT);
    }
    let author = value(head, b"from").unwrap_or_default();
    if changes.replace_from {
        out.push_str(&format!("From: {}\r\n", list_from(author, list)));
        dropped.extend([&b"from"[..], b"x-original-from"]);
    }
    let theirs = value(head, b"reply-to").is_some();
    if changes.reply_to_list {
        out.push_str(&format!("Reply-To: <{}>\r\n", list.post()));
        dropped.push(b"reply-to");
    }
    let mut out = out.into_bytes();
    if changes.replace_from && !author.is_empty() {
        let names: &[&[u8]] = match changes.reply_to_list || theirs {
            true => &[b"X-Original-From"],
            false => &[b"Reply-To", b"X-Original-From"],
        };
        for name in names {
            out.extend_from_slice(name);
            out.push(b':');
            out.extend_from_slice(author);
            out.extend_from_slice(b"\r\n");
        }
    }
    for field in fields(head).filter(|field| field.is(b"list-id")) {
        out.extend_from_slice(OTHER_LIST.as_bytes());
        out.extend_from_slice(b":");
        out.extend_from_slice(field.value);
        out.extend_from_slice(b"\r\n");
    }
    for field in fields(head).filter(|field| !dropped.iter().any(|name| field.is(name))) {
        out.extend_from_slice(field.raw);
    }
    if !out.ends_with(b"\n") {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out
}

fn own_fields(list: &ListAddress) -> String {
    let (name, server) = (&list.name, list.server());
    format!(
        "List-Id: <{}>\r\nList-Post: <mailto:{}>\r\nList-Help: <mailto:{server}?body=help%20{name}>\r\n\
         List-Unsubscribe: <mailto:{server}?body=unsubscribe%20{name}>\r\nPrecedence: bulk\r\n",
        list.id(),
        list.post()
    )
}

/// `"author via list" <list@domain>`, in the charset that the author's name came in.
fn list_from(author: &[u8], list: &ListAddress) -> String {
    let shown = name_of(author).or_else(|| address_of(author)).unwrap_or_else(|| "somebody".to_owned());
    let text = format!("{shown} via {}", list.name);
    let written = match text.is_ascii() {
        true => format!("\"{}\"", text.replace(['"', '\\', '\r', '\n'], "")),
        false => phrase(&text, charset_of(author), "From: ".len()),
    };
    format!("{written}\r\n <{}>", list.post())
}

/// The first author's display name, decoded.
fn name_of(from: &[u8]) -> Option<String> {
    let name = addresses(from).into_iter().find_map(|address| match address {
        Address::Mailbox { name, .. } => name,
        _ => None,
    })?;
    let name = decode_header(&name).trim().to_owned();
    (!name.is_empty()).then_some(name)
}

/// The first address of a From, Sender or Reply-To field, if it is one that mail can be sent to.
pub fn address_of(value: &[u8]) -> Option<String> {
    let (local, domain) = addresses(value).into_iter().find_map(|address| match address {
        Address::Mailbox { local, domain, .. } if !domain.is_empty() => Some((local, domain)),
        _ => None,
    })?;
    let address = format!("{}@{}", String::from_utf8_lossy(&local), String::from_utf8_lossy(&domain));
    let legal = |c: char| c.is_ascii_graphic() && !matches!(c, '<' | '>' | ',' | ';' | '"' | '(' | ')');
    (address.chars().all(legal) && !local.is_empty() && address.len() <= 254).then_some(address)
}

/// The author of a message: who stands in From, else the envelope sender.
pub fn author(head: &[u8], sender: &str) -> String {
    value(head, b"from").and_then(address_of).unwrap_or_else(|| sender.to_owned())
}

/// Did this list send this message already?
pub fn is_own(head: &[u8], list: &ListAddress) -> bool {
    // The registry may spell the domain with capitals.
    let id = format!("<{}>", list.id()).to_ascii_lowercase();
    let ours = |value: &[u8]| String::from_utf8_lossy(&unfold(value)).to_ascii_lowercase().contains(&id);
    let ids = fields(head).filter(|field| field.is(b"list-id") || field.is(OTHER_LIST.as_bytes()));
    ids.into_iter().any(|field| ours(field.value))
}

/// Stands in front of a post that a rule of the list sent on, which has no List-Id: the list knows it again if it comes back (RFC 9228).
pub fn sent_on_mark(list: &ListAddress) -> String {
    format!("Delivered-To: {}\r\n", list.post())
}

/// Did a rule of this list send this message on already?
pub fn was_sent_on(head: &[u8], list: &ListAddress) -> bool {
    let ours = |value: &[u8]| unfold(value).trim_ascii().eq_ignore_ascii_case(list.post().as_bytes());
    fields(head).any(|field| field.is(b"delivered-to") && ours(field.value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::charset::Charset;
    use crate::message::encode::{bytes, header_text};

    fn list() -> ListAddress {
        ListAddress { name: "news".into(), domain: "example.org".into() }
    }

    fn text(head: &[u8], changes: &Changes) -> String {
        String::from_utf8(rewrite(head, &list(), changes)).unwrap()
    }

    const OWN: &str = "List-Id: <news.example.org>\r\nList-Post: <mailto:news@example.org>\r\n\
        List-Help: <mailto:imailsrv@example.org?body=help%20news>\r\n\
        List-Unsubscribe: <mailto:imailsrv@example.org?body=unsubscribe%20news>\r\nPrecedence: bulk\r\n";

    #[test]
    fn what_needs_no_change_keeps_its_bytes() {
        let head =
            "Received: x\r\nDKIM-Signature: v=1;\r\n\tb=abc\r\nFrom: A <a@b>\r\nsubject:  odd \r\n\r\n";
        assert_eq!(text(head.as_bytes(), &Changes::default()), format!("{OWN}{head}"));
        let other = "List-Id: <x.y>\r\nPRECEDENCE: list\r\nFrom: a@b\r\n\r\n";
        assert_eq!(
            text(other.as_bytes(), &Changes::default()),
            format!("{OWN}X-Original-List-Id: <x.y>\r\nFrom: a@b\r\n\r\n")
        );
        assert!(is_own(text(head.as_bytes(), &Changes::default()).as_bytes(), &list()));
        assert!(!is_own(other.as_bytes(), &list()));
        let through = text(other.as_bytes(), &Changes::default());
        let first = ListAddress { name: "x".into(), domain: "y".into() };
        assert!(is_own(through.as_bytes(), &first));
        let capitals = ListAddress { name: "News".into(), domain: "Example.ORG".into() };
        assert!(is_own(&rewrite(b"From: a@b\r\n\r\n", &capitals, &Changes::default()), &capitals));
        assert!(is_own(OWN.as_bytes(), &capitals));
    }

    #[test]
    fn what_is_replaced() {
        let subject = Some("[news] x".to_owned());
        let head = b"From: \"Ann B.\" <ann@x>\r\nSubject: x\r\n\r\n";
        for (changes, expected) in [
            (
                Changes { subject: subject.clone(), ..Changes::default() },
                "Subject: [news] x\r\nFrom: \"Ann B.\" <ann@x>\r\n\r\n",
            ),
            (
                Changes { reply_to_list: true, ..Changes::default() },
                "Reply-To: <news@example.org>\r\nFrom: \"Ann B.\" <ann@x>\r\nSubject: x\r\n\r\n",
            ),
            (
                Changes { replace_from: true, ..Changes::default() },
                "From: \"Ann B. via news\"\r\n <news@example.org>\r\nReply-To: \"Ann B.\" <ann@x>\r\n\
                 X-Original-From: \"Ann B.\" <ann@x>\r\nSubject: x\r\n\r\n",
            ),
            (
                Changes { replace_from: true, reply_to_list: true, ..Changes::default() },
                "From: \"Ann B. via news\"\r\n <news@example.org>\r\nReply-To: <news@example.org>\r\n\
                 X-Original-From: \"Ann B.\" <ann@x>\r\nSubject: x\r\n\r\n",
            ),
        ] {
            assert_eq!(text(head, &changes), format!("{OWN}{expected}"));
        }
        // Outlook's second copy of a subject goes with the first.
        let changes = Changes { subject, ..Changes::default() };
        assert_eq!(
            text(b"Thread-Topic: [:pw:]x\r\nSubject: [:pw:]x\r\nThread-Index: y\r\n\r\n", &changes),
            format!("{OWN}Subject: [news] x\r\nThread-Index: y\r\n\r\n")
        );
        let with_reply_to = b"From: ann@x\r\nReply-To: other@x\r\n\r\n";
        let changes = Changes { replace_from: true, ..Changes::default() };
        assert_eq!(
            text(with_reply_to, &changes),
            format!(
                "{OWN}From: \"ann@x via news\"\r\n <news@example.org>\r\nX-Original-From: ann@x\r\nReply-To: other@x\r\n\r\n"
            )
        );
    }

    #[test]
    fn names_with_commas_and_quotes_stay_one_name() {
        for name in ["Yamada, Taro 山田", "a@b.example 山田", "SATO, T. (佐藤)"] {
            let from = format!(
                "From: {} <a@b>\r\n\r\n",
                header_text(&format!("\u{3000}{name}"), Charset::Iso2022Jp, 6)
            );
            let written = text(from.as_bytes(), &Changes { replace_from: true, ..Changes::default() });
            let from = crate::message::header::value(written.as_bytes(), b"from").unwrap();
            let all = addresses(from);
            assert_eq!(all.len(), 1, "{written}");
            assert_eq!(name_of(from).unwrap(), format!("{name} via news"));
            assert_eq!(address_of(from).unwrap(), "news@example.org");
        }
    }

    #[test]
    fn japanese_authors() {
        for (charset, value) in [
            (
                Charset::Iso2022Jp,
                format!("From: {} <a@b>\r\n\r\n", header_text("山田", Charset::Iso2022Jp, 6)),
            ),
            (
                crate::message::charset::UTF8,
                format!("From: {} <a@b>\r\n\r\n", header_text("山田", crate::message::charset::UTF8, 6)),
            ),
        ] {
            let written = text(value.as_bytes(), &Changes { replace_from: true, ..Changes::default() });
            let from = crate::message::header::value(written.as_bytes(), b"from").unwrap();
            assert_eq!(decode_header(from), "山田 via news <news@example.org>");
            assert_eq!(charset_of(from), charset);
            assert!(bytes("山田", charset).is_some());
        }
    }

    #[test]
    fn what_a_rule_sent_on_is_known_again() {
        let mark = sent_on_mark(&list());
        assert!(was_sent_on(format!("{}From: a@b\r\n\r\n", mark.to_uppercase()).as_bytes(), &list()));
        for other in [
            "Delivered-To: news@example.com\r\n\r\n",
            "From: news@example.org\r\n\r\n",
            &format!("\r\n{mark}"),
        ] {
            assert!(!was_sent_on(other.as_bytes(), &list()), "{other}");
        }
    }

    #[test]
    fn authors() {
        for (head, expected) in [
            ("From: A <a@b.c>\r\n\r\n", "a@b.c"),
            ("from: group: x@y, z@w;\r\n\r\n", "x@y"),
            ("From: nobody\r\n\r\n", "env@s"),
            ("From: \"a\\\"b\"@x\r\n\r\n", "env@s"),
            ("Subject: x\r\n\r\n", "env@s"),
        ] {
            assert_eq!(author(head.as_bytes(), "env@s"), expected, "{head}");
        }
    }
}
