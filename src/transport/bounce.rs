//! The mail that tells a sender what was not delivered, what waits, or what arrived: pure functions.
//!
//! [`build`] writes IMail's own text, which the bounce parsers of list managers know by its `X-Mailer`, its reason lines and
//! `Original message follows.`; [`report`] writes a delivery status notification (RFC 3464, in UTF-8 RFC 6533) with the same text as its first part.
//! The envelope sender of either is empty, and neither may be made for a message whose own sender is empty (RFC 5321 §6.1).
//!
//! # Failure
//! Only reading the original fails.
//!
//! # Limits
//! [`ORIGINAL_MAX`] bytes of the original, [`FAILURES_MAX`] recipients, [`REPLY_LINES_MAX`] lines of each server's reply, [`LINE_MAX`] bytes a line
//! of it.

use crate::lists::post::Refused;
use chrono::{DateTime, Datelike as _, Local};
use layout::mbx::compose::Source;
use layout::mbx::header;
use layout::spool::dsn::{Dsn, MessageDsn, Return, decoded};
use std::io;

/// Up to this size the original comes back whole, beyond it only its header (our choice; whether IMail has a limit is not known).
pub const ORIGINAL_MAX: usize = 64 << 10;
/// More recipients than this are only counted.
pub const FAILURES_MAX: usize = 1000;
/// The most lines of a server's reply that are shown.
pub const REPLY_LINES_MAX: usize = 50;
/// The most bytes of one line that came from elsewhere: with what stands before it a line stays below 998 (RFC 5322 §2.1.1).
pub const LINE_MAX: usize = 900;
/// By this, parsers know a bounce of IMail: samples from 1998 to version 12.2 all begin with `<SMTP32 v`.
const MAILER: &str = "<SMTP32 v12>";
/// It stands alone on its line; behind it comes the original.
const ORIGINAL_FOLLOWS: &str = "Original message follows.";

/// Where in a session with another server a recipient was refused: the line above the server's reply in a bounce. The texts have been in bounces
/// since 8.1.
pub mod stage {
    /// No connection.
    pub const CONNECT: &str = "SMTP connection failed,";
    /// The greeting.
    pub const GREETING: &str = "Unexpected connection response from server:";
    /// EHLO and HELO.
    pub const HELLO: &str = "Unexpected response to EHLO/HELO:";
    /// MAIL.
    pub const MAIL_FROM: &str = "Server response to MAIL FROM:";
    /// RCPT.
    pub const RCPT_TO: &str = "RCPT TO generated following response:";
    /// RCPT of a further recipient of the same message.
    pub const RCPT_TO_NEXT: &str = "Additional RCPT TO generated following response:";
    /// DATA.
    pub const DATA: &str = "DATA command generated response:";
    /// The end of the message.
    pub const BODY: &str = "Body of message generated response:";
}

/// A recipient who does not get the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The address.
    pub recipient: String,
    /// The reason line, which holds the address where parsers look for it.
    pub reason: String,
    /// One of [`stage`], if a server said something.
    pub stage: Option<&'static str>,
    /// All lines that the server said, with their codes.
    pub reply: Vec<String>,
}

impl Failure {
    /// A failure with this line, for reasons that have no function here.
    pub fn new(recipient: &str, reason: String) -> Failure {
        Failure { recipient: recipient.to_owned(), reason, stage: None, reply: Vec::new() }
    }

    /// The other server knows no such recipient.
    pub fn unknown_user(recipient: &str) -> Failure {
        Failure::new(recipient, format!("Unknown user: {recipient}"))
    }

    /// There was such a user here when the message came in, and there is none any more.
    pub fn invalid_user(recipient: &str) -> Failure {
        Failure::new(recipient, format!("Invalid final delivery userid: {recipient}"))
    }

    /// The user's mailboxes are full.
    pub fn mailbox_full(recipient: &str) -> Failure {
        Failure::new(recipient, format!("{MAILBOX_FULL}: {recipient}"))
    }

    /// It is larger than the recipient's domain takes.
    pub fn too_large(recipient: &str) -> Failure {
        let reply = vec![TOO_LARGE.to_owned()];
        let reason =
            format!("undeliverable to {recipient} (message size exceeds fixed maximum message size)");
        Failure { reply, ..Failure::new(recipient, reason) }
    }

    /// Every try failed.
    pub fn tries_used_up(recipient: &str, tries: u32) -> Failure {
        Failure::new(recipient, format!("Delivery failed {tries} attempts: {recipient}"))
    }

    /// There is no such domain (parsers know the begin of the line; its rest is our choice).
    pub fn unknown_host(recipient: &str) -> Failure {
        Failure::new(recipient, format!("Unknown host: {recipient}"))
    }

    /// Anything else that another try would not change.
    pub fn undeliverable(recipient: &str) -> Failure {
        Failure::new(recipient, format!("undeliverable to {recipient}"))
    }

    /// Its list does not take this post.
    pub fn post(recipient: &str, refused: Refused) -> Failure {
        let reply = post_reply(refused);
        let reason = reply.get("550 5.7.1 ".len()..).unwrap_or(reply);
        let reason = format!("undeliverable to {recipient} ({reason})");
        Failure { reply: vec![reply.to_owned()], ..Failure::new(recipient, reason) }
    }

    /// The same with what the server said.
    pub fn with_reply(self, stage: &'static str, reply: Vec<String>) -> Failure {
        Failure { stage: Some(stage), reply, ..self }
    }

    /// The status code (RFC 3463): the server's own, else what the reason means.
    fn status(&self) -> &str {
        let own =
            self.reply.iter().find_map(|line| line.split_whitespace().nth(1).filter(|word| is_status(word)));
        let known = STATUS.iter().find(|(reason, _)| self.reason.starts_with(reason)).map(|(_, code)| *code);
        own.or(known).unwrap_or("5.0.0")
    }
}

/// Without the address; the SMTP reply for a full mailbox has the same words.
pub const MAILBOX_FULL: &str = "User mailbox exceeds allowed size";

/// The SMTP reply to a message that is larger than it may be.
pub const TOO_LARGE: &str = "552 5.3.4 message size exceeds fixed maximum message size";

/// The SMTP reply to a post that its list does not take; the last is IMail's text (kill file help).
pub fn post_reply(refused: Refused) -> &'static str {
    match refused {
        Refused::Password => "550 5.7.1 this list wants its password in front of the subject: [:password:]",
        Refused::TooLarge => "552 5.3.4 message is larger than this list takes",
        Refused::Killed => "501 5.7.1 unacceptable mail address",
    }
}

/// What reason lines mean as status codes.
const STATUS: [(&str, &str); 5] = [
    ("Unknown user", "5.1.1"),
    ("Invalid final delivery userid", "5.1.1"),
    (MAILBOX_FULL, "5.2.2"),
    ("Delivery failed", "4.4.7"),
    ("Unknown host", "5.1.2"),
];

/// `5.1.1` and the like.
fn is_status(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    let digits =
        |part: &&str| (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    matches!(parts[..], ["4" | "5", _, _]) && parts.iter().all(digits)
}

/// The mail that a report is about, and the report's reader.
#[derive(Clone, Copy)]
pub struct About<'a> {
    /// The official name of the domain that the mail belongs to.
    pub host: &'a str,
    /// Who gets the report: the mail's envelope sender, or who stands in for an empty one.
    pub to: &'a str,
    /// The mail.
    pub original: &'a Source,
    /// What its sender said of reports.
    pub dsn: &'a MessageDsn,
    /// Did the sender's client say SMTPUTF8? Then the report is in UTF-8 too (RFC 6531 §3.6.1).
    pub utf8: bool,
    /// Now.
    pub now: DateTime<Local>,
    /// Stands in the Message-Id, and must differ among the reports of a minute.
    pub number: u32,
}

/// What became of the mail for a recipient (RFC 3464 §2.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It was given up.
    Failed,
    /// It waits.
    Delayed,
    /// It is in the mailbox.
    Delivered,
    /// It was handed to a server that reports nothing.
    Relayed,
    /// It goes on to those whom the address stands for.
    Expanded,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Action::Failed => "failed",
            Action::Delayed => "delayed",
            Action::Delivered => "delivered",
            Action::Relayed => "relayed",
            Action::Expanded => "expanded",
        }
    }

    fn subject(self) -> &'static str {
        match self {
            Action::Failed => "Undeliverable Mail",
            Action::Delayed => "Delayed Mail",
            Action::Delivered => "Delivered Mail",
            Action::Relayed => "Relayed Mail",
            Action::Expanded => "Expanded Mail",
        }
    }
}

/// What a report says of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    action: Action,
    /// ORCPT, if the sender gave it.
    orcpt: Option<String>,
    /// The recipient, and the line about it.
    said: Failure,
}

impl Entry {
    /// A failure.
    pub fn failed(failure: Failure, dsn: &Dsn) -> Entry {
        Entry { action: Action::Failed, orcpt: dsn.original.clone(), said: failure }
    }

    /// Anything but a failure.
    pub fn new(action: Action, recipient: &str, dsn: &Dsn) -> Entry {
        let line = match action {
            Action::Failed => format!("undeliverable to {recipient}"),
            Action::Delayed => {
                format!("Delivery is delayed, and will be tried again; there is nothing to do: {recipient}")
            }
            Action::Delivered => format!("Delivered to the mailbox: {recipient}"),
            Action::Relayed => format!("Handed to a server that will not report the delivery: {recipient}"),
            Action::Expanded => {
                format!(
                    "Sent on to those whom this address stands for; only failures will be reported: {recipient}"
                )
            }
        };
        Entry { action, orcpt: dsn.original.clone(), said: Failure::new(recipient, line) }
    }

    fn status(&self) -> &str {
        match self.action {
            Action::Failed => self.said.status(),
            Action::Delayed => "4.0.0",
            Action::Delivered | Action::Relayed | Action::Expanded => "2.0.0",
        }
    }
}

/// IMail's bounce, ready for the spool.
///
/// Header order and padding are those of untouched bounces of 8.x; `Auto-Submitted` (RFC 3834 §5) behind them is ours.
pub fn build(about: &About<'_>, failures: &[Failure]) -> io::Result<Vec<u8>> {
    let mut mail = head(about, Action::Failed, &plain_text(about.utf8));
    mail.extend_from_slice(b"\r\n");
    mail.extend_from_slice(reasons(failures, about.utf8).as_bytes());
    mail.extend_from_slice(format!("\r\n\r\n{ORIGINAL_FOLLOWS}\r\n\r\n").as_bytes());
    mail.extend(returned(about, Action::Failed)?.text());
    Ok(mail)
}

/// A report in the form of RFC 3464, for `BounceFormat=Report` and for senders who asked for one (RFC 3461). The first entry's action is the
/// subject's.
pub fn report(about: &About<'_>, entries: &[Entry]) -> io::Result<Vec<u8>> {
    let action = entries.first().map_or(Action::Failed, |entry| entry.action);
    let returned = returned(about, action)?;
    let body = returned.text();
    let encoding = if body.is_ascii() { "7bit" } else { "8bit" };
    let boundary = boundary(&body, about.number);
    let content = format!("multipart/report; report-type=delivery-status;\r\n  boundary=\"{boundary}\"");
    let mut mail = head(about, action, &content);
    let [status_type, kind] = match (about.utf8, returned.whole) {
        (false, true) => ["message/delivery-status", "message/rfc822"],
        (false, false) => ["message/delivery-status", "text/rfc822-headers"],
        (true, true) => ["message/global-delivery-status", "message/global"],
        (true, false) => ["message/global-delivery-status", "message/global-headers"],
    };
    let said: Vec<Failure> = entries.iter().map(|entry| entry.said.clone()).collect();
    let text = format!("{}\r\n\r\n{}\r\n", plain_text(about.utf8), reasons(&said, about.utf8));
    let parts = [
        format!("Content-Transfer-Encoding: {encoding}\r\n\r\n"),
        format!("--{boundary}\r\nContent-Type: {text}"),
        format!("--{boundary}\r\nContent-Type: {status_type}\r\n\r\nReporting-MTA: dns; {}\r\n", about.host),
        envelope_id(about),
        statuses(entries, about.utf8),
        format!("\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"),
    ];
    mail.extend_from_slice(parts.concat().as_bytes());
    mail.extend(if returned.whole { body } else { returned.bytes });
    mail.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    Ok(mail)
}

fn plain_text(utf8: bool) -> String {
    format!("text/plain; charset={}", if utf8 { "utf-8" } else { "us-ascii" })
}

fn envelope_id(about: &About<'_>) -> String {
    match about.dsn.envid.as_str() {
        "" => String::new(),
        envid => format!("Original-Envelope-Id: {}\r\n", clean(&decoded(envid), about.utf8)),
    }
}

/// The header, without the empty line behind it. `Auto-Submitted` is the last of the fields that a plain bounce has.
fn head(about: &About<'_>, action: Action, content: &str) -> Vec<u8> {
    let About { host, now, number, .. } = about;
    // Years since 1900, month, day, hour and minute, then a number of five digits or more: fits all seven samples.
    let stamp = format!("{}{}", now.year() - 1900, now.format("%m%d%H%M"));
    let date = now.format("%a, %d %b %Y %H:%M:%S %z");
    let (to, subject) = (clean(about.to, about.utf8), action.subject());
    format!(
        "Date:     {date}\r\nMessage-Id: <{stamp}.AA{number:05}@{host}>\r\nMime-Version: 1.0\r\nContent-Type: {content}\r\n\
         From:     \"Postmaster\" <postmaster@{host}>\r\nSender:   <postmaster@{host}>\r\nTo:       <{to}>\r\n\
         Subject:  {subject}\r\nX-Mailer: {MAILER}\r\nAuto-Submitted: auto-replied\r\n"
    )
    .into_bytes()
}

/// The reason lines, each with what the server said; an empty line between a reply and the next reason.
fn reasons(failures: &[Failure], utf8: bool) -> String {
    let mut text = String::new();
    let mut after_reply = false;
    for failure in failures.iter().take(FAILURES_MAX) {
        let gap = if after_reply { "\r\n" } else { "" };
        text.push_str(&format!("{gap}{}\r\n", clean(&failure.reason, utf8)));
        after_reply = failure.stage.is_some();
        if let Some(stage) = failure.stage {
            text.push_str(&format!("\r\n{stage}\r\n"));
            let lines = failure.reply.iter().take(REPLY_LINES_MAX);
            lines.for_each(|line| text.push_str(&format!("{}\r\n", clean(line, utf8))));
        }
    }
    if failures.len() > FAILURES_MAX {
        text.push_str(&format!("\r\n(and {} more recipients)\r\n", failures.len() - FAILURES_MAX));
    }
    text
}

/// The recipients' groups of fields in a report.
fn statuses(entries: &[Entry], utf8: bool) -> String {
    let mut text = String::new();
    for entry in entries.iter().take(FAILURES_MAX) {
        text.push_str("\r\n");
        if let Some((kind, address)) = entry.orcpt.as_deref().and_then(|orcpt| orcpt.split_once(';')) {
            let kind = clean(kind, false);
            text.push_str(&format!("Original-Recipient: {kind}; {}\r\n", clean(&decoded(address), utf8)));
        }
        let recipient = clean(&entry.said.recipient, utf8);
        let kind = if recipient.is_ascii() { "rfc822" } else { "utf-8" };
        let (action, status) = (entry.action.name(), entry.status());
        text.push_str(&format!(
            "Final-Recipient: {kind}; {recipient}\r\nAction: {action}\r\nStatus: {status}\r\n"
        ));
        let reply = entry.said.reply.iter().take(REPLY_LINES_MAX);
        let lines: Vec<String> = reply.map(|line| clean(line, utf8)).collect();
        if !lines.is_empty() {
            // What we decided ourselves, or saw of a connection, no server said (RFC 3464 section 2.3.6).
            let replied = entry.said.stage.is_some() && lines.first().is_some_and(|line| is_reply(line));
            let kind = if replied { "smtp" } else { "x-imaild" };
            text.push_str(&format!("Diagnostic-Code: {kind}; {}\r\n", lines.join("\r\n  ")));
        }
    }
    text
}

/// Does a line begin as replies do?
fn is_reply(line: &str) -> bool {
    let (code, rest) = line.split_at_checked(3).unwrap_or(("", line));
    code.bytes().all(|byte| byte.is_ascii_digit())
        && code.len() == 3
        && !rest.starts_with(|c: char| !" -".contains(c))
}

/// Text from elsewhere as part of a line: printable ASCII, unless the mail says UTF-8 of itself, and no longer than [`LINE_MAX`] bytes.
fn clean(text: &str, utf8: bool) -> String {
    let mut out = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        let shown = if c.is_ascii() || utf8 { c } else { '?' };
        if out.len() + shown.len_utf8() > LINE_MAX {
            break;
        }
        out.push(shown);
    }
    out
}

/// What comes back of the original.
struct Returned {
    /// The message, or its header.
    bytes: Vec<u8>,
    /// Is it the whole message?
    whole: bool,
    /// The size of the whole.
    size: u64,
}

impl Returned {
    /// As the end of a plain bounce.
    fn text(&self) -> Vec<u8> {
        let mut text = self.bytes.clone();
        if !self.whole {
            let note = format!("\r\n(The message has {} bytes; only its header is returned.)\r\n", self.size);
            text.extend_from_slice(note.as_bytes());
        }
        text
    }
}

/// The whole comes back of a failure, unless it is too large or the sender does not want it; of anything else the header (RFC 3461 §4.3).
fn returned(about: &About<'_>, action: Action) -> io::Result<Returned> {
    let size = about.original.len();
    let begin = about.original.read(0, ORIGINAL_MAX)?;
    let wanted = action == Action::Failed && about.dsn.ret != Some(Return::Headers);
    let whole = wanted && size <= ORIGINAL_MAX as u64;
    if whole {
        return Ok(Returned { bytes: with_line_ends(&begin), whole, size });
    }
    // A header that does not end within the limit is cut behind its last whole line.
    let last_line = || memchr::memrchr(b'\n', &begin).map_or(0, |at| at + 1);
    let end = header::end(&begin).unwrap_or_else(last_line);
    let mut bytes = with_line_ends(begin.get(..end).unwrap_or_default());
    while bytes.ends_with(b"\r\n\r\n") {
        bytes.truncate(bytes.len() - 2);
    }
    Ok(Returned { bytes, whole, size })
}

/// With CRLF at every line's end, also where a message dropped into the spool by hand has LF.
fn with_line_ends(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 2);
    for (_, line) in header::lines(bytes) {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        out.extend_from_slice(text.strip_suffix(b"\r").unwrap_or(text));
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// A boundary that no line of the original begins with.
fn boundary(body: &[u8], number: u32) -> String {
    (0u32..)
        .map(|count| format!("imaild-report-{number}-{count}"))
        .find(|boundary| memchr::memmem::find(body, boundary.as_bytes()).is_none())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone as _;
    use proptest::prelude::*;

    fn now() -> DateTime<Local> {
        Local.with_ymd_and_hms(2006, 1, 24, 22, 17, 41).unwrap()
    }

    fn source(bytes: &[u8]) -> Source {
        Source::Bytes(bytes.into())
    }

    static NOTHING: MessageDsn = MessageDsn { envid: String::new(), ret: None };

    fn about(original: &Source) -> About<'_> {
        About {
            host: "mail.example.net",
            to: "a@example.net",
            original,
            dsn: &NOTHING,
            utf8: false,
            now: now(),
            number: 12_075_059,
        }
    }

    fn text(failures: &[Failure], original: &[u8]) -> String {
        String::from_utf8(build(&about(&source(original)), failures).unwrap()).unwrap()
    }

    fn entries(failures: &[Failure]) -> Vec<Entry> {
        failures.iter().map(|failure| Entry::failed(failure.clone(), &Dsn::default())).collect()
    }

    fn reported(about: &About<'_>, entries: &[Entry]) -> String {
        String::from_utf8(report(about, entries).unwrap()).unwrap()
    }

    #[test]
    fn the_text_is_imails() {
        let refused = |address: &str| {
            let reply = vec![format!("553-5.3.0 <{address}>... Addressee"), "553 5.3.0 unknown".into()];
            Failure::unknown_user(address).with_reply(stage::RCPT_TO, reply)
        };
        let failures =
            [refused("b@example.org"), refused("c@example.org"), Failure::mailbox_full("d@example.org")];
        let expected = format!(
            "Date:     Tue, 24 Jan 2006 22:17:41 {}\r\n\
             Message-Id: <10601242217.AA12075059@mail.example.net>\r\n\
             Mime-Version: 1.0\r\n\
             Content-Type: text/plain; charset=us-ascii\r\n\
             From:     \"Postmaster\" <postmaster@mail.example.net>\r\n\
             Sender:   <postmaster@mail.example.net>\r\n\
             To:       <a@example.net>\r\n\
             Subject:  Undeliverable Mail\r\n\
             X-Mailer: <SMTP32 v12>\r\n\
             Auto-Submitted: auto-replied\r\n\
             \r\n\
             Unknown user: b@example.org\r\n\
             \r\n\
             RCPT TO generated following response:\r\n\
             553-5.3.0 <b@example.org>... Addressee\r\n\
             553 5.3.0 unknown\r\n\
             \r\n\
             Unknown user: c@example.org\r\n\
             \r\n\
             RCPT TO generated following response:\r\n\
             553-5.3.0 <c@example.org>... Addressee\r\n\
             553 5.3.0 unknown\r\n\
             \r\n\
             User mailbox exceeds allowed size: d@example.org\r\n\
             \r\n\r\n\
             Original message follows.\r\n\
             \r\n\
             Subject: x\r\n\r\nbody\r\n",
            now().format("%z")
        );
        assert_eq!(text(&failures, b"Subject: x\r\n\r\nbody\n"), expected);
    }

    #[test]
    fn reasons_have_the_address_where_parsers_look() {
        for (failure, line, status) in [
            (Failure::unknown_user("a@b"), "Unknown user: a@b", "5.1.1"),
            (Failure::invalid_user("a@b"), "Invalid final delivery userid: a@b", "5.1.1"),
            (Failure::mailbox_full("a@b"), "User mailbox exceeds allowed size: a@b", "5.2.2"),
            (Failure::tries_used_up("a@b", 20), "Delivery failed 20 attempts: a@b", "4.4.7"),
            (Failure::unknown_host("a@b"), "Unknown host: a@b", "5.1.2"),
            (Failure::undeliverable("a@b"), "undeliverable to a@b", "5.0.0"),
            (
                Failure::too_large("a@b"),
                "undeliverable to a@b (message size exceeds fixed maximum message size)",
                "5.3.4",
            ),
        ] {
            assert_eq!((failure.reason.as_str(), failure.status()), (line, status));
            assert!(text(&[failure], b"").contains(&format!("\r\n\r\n{line}\r\n\r\n\r\nOriginal")), "{line}");
        }
        let said = |line: &str| Failure::undeliverable("a@b").with_reply(stage::BODY, vec![line.into()]);
        for (line, status) in [
            ("552 5.2.3 too big", "5.2.3"),
            ("550 no", "5.0.0"),
            ("550 5.x.1 no", "5.0.0"),
            ("550 2.1.1 no", "5.0.0"),
        ] {
            assert_eq!(said(line).status(), status, "{line}");
        }
    }

    #[test]
    fn nothing_from_elsewhere_makes_lines() {
        let evil = "a@b>\r\nBcc: x@y\r\n\r\n";
        let failure = Failure::new(evil, format!("undeliverable to {evil}"))
            .with_reply(stage::DATA, vec![evil.repeat(200)]);
        let envid = MessageDsn { envid: "a+0D+0ABcc:x".into(), ret: None };
        let original = source(b"x");
        let about = About { to: evil, dsn: &envid, ..about(&original) };
        let dsn = Dsn { original: Some("rfc822;x+0D+0ABcc:+20x".into()), ..Dsn::default() };
        let entry = Entry::failed(failure.clone(), &dsn);
        let plain = String::from_utf8(build(&about, &[failure]).unwrap()).unwrap();
        for mail in [plain, reported(&about, &[entry])] {
            assert!(!mail.contains("\nBcc"), "{mail}");
            assert!(mail.lines().all(|line| line.len() < 998));
        }
        let many = vec![Failure::unknown_user("a@b"); FAILURES_MAX + 7];
        assert!(text(&many, b"").contains("(and 7 more recipients)\r\n\r\n\r\nOriginal"));
    }

    #[test]
    fn a_large_original_comes_back_as_its_header() {
        let failures = [Failure::unknown_user("a@b")];
        let mut message = b"Subject: x\r\n\r\n".to_vec();
        message.resize(ORIGINAL_MAX, b'y');
        assert!(text(&failures, &message).contains("yyy\r\n"));
        message.push(b'y');
        let bounce = text(&failures, &message);
        let note = format!("(The message has {} bytes; only its header is returned.)\r\n", message.len());
        assert!(bounce.ends_with(&format!("follows.\r\n\r\nSubject: x\r\n\r\n{note}")), "{bounce}");
        let endless = b"X-Filler: 0123456789\r\n".repeat(ORIGINAL_MAX / 10);
        assert!(text(&failures, &endless).contains("X-Filler: 0123456789\r\n\r\n(The message"));
        let written = reported(&about(&source(&message)), &entries(&failures));
        assert!(written.contains("Content-Type: text/rfc822-headers\r\n") && !written.contains("yyy"));
    }

    #[test]
    fn the_report_is_rfc_3464() {
        let reply = vec!["550-5.7.1 go".to_owned(), "550 5.7.1 away".to_owned()];
        let failures = [
            Failure::undeliverable("b@example.org").with_reply(stage::BODY, reply),
            Failure::mailbox_full("c@d"),
        ];
        let original = source(b"Subject: x\r\n\r\nimaild-report-7-0\r\n");
        let mail = reported(&About { number: 7, ..about(&original) }, &entries(&failures));
        let (head, body) = mail.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(
            "multipart/report; report-type=delivery-status;\r\n  boundary=\"imaild-report-7-1\"\r\n"
        ));
        let parts: Vec<&str> = body.split("--imaild-report-7-1").collect();
        assert_eq!(parts.len(), 5, "{body}");
        assert!(parts[1].contains(
            "undeliverable to b@example.org\r\n\r\nBody of message generated response:\r\n550-5.7.1"
        ));
        assert_eq!(
            parts[2],
            "\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mail.example.net\r\n\r\n\
             Final-Recipient: rfc822; b@example.org\r\nAction: failed\r\nStatus: 5.7.1\r\n\
             Diagnostic-Code: smtp; 550-5.7.1 go\r\n  550 5.7.1 away\r\n\r\n\
             Final-Recipient: rfc822; c@d\r\nAction: failed\r\nStatus: 5.2.2\r\n\r\n"
        );
        assert!(parts[3].ends_with("7bit\r\n\r\nSubject: x\r\n\r\nimaild-report-7-0\r\n\r\n"));
        assert_eq!(parts[4], "--\r\n");
    }

    #[test]
    fn what_was_asked_is_told() {
        let original = source(b"Subject: x\r\n\r\nbody\r\n");
        let asked = MessageDsn { envid: "QQ+2B1".into(), ret: None };
        let dsn = Dsn { original: Some("rfc822;Bob+2Bx@Example.com".into()), ..Dsn::default() };
        let about = About { dsn: &asked, ..about(&original) };
        for (action, name, subject, status) in [
            (Action::Delivered, "delivered", "Delivered", "2.0.0"),
            (Action::Relayed, "relayed", "Relayed", "2.0.0"),
            (Action::Delayed, "delayed", "Delayed", "4.0.0"),
        ] {
            let mail = reported(&about, &[Entry::new(action, "bob@example.com", &dsn)]);
            assert!(mail.contains(&format!("\r\nSubject:  {subject} Mail\r\n")), "{mail}");
            assert!(
                mail.contains("Reporting-MTA: dns; mail.example.net\r\nOriginal-Envelope-Id: QQ+1\r\n\r\n")
            );
            let group = format!(
                "Original-Recipient: rfc822; Bob+x@Example.com\r\nFinal-Recipient: rfc822; bob@example.com\r\nAction: {name}\r\nStatus: {status}\r\n"
            );
            assert!(mail.contains(&group), "{mail}");
            assert!(mail.contains("text/rfc822-headers") && !mail.contains("body"), "{mail}");
        }
        for (ret, whole) in [(None, true), (Some(Return::Full), true), (Some(Return::Headers), false)] {
            let dsn = MessageDsn { ret, ..asked.clone() };
            let mail = reported(&About { dsn: &dsn, ..about }, &entries(&[Failure::unknown_user("a@b")]));
            assert_eq!(mail.contains("message/rfc822") && mail.contains("body"), whole, "{ret:?}");
            assert!(mail.contains("\r\nAction: failed\r\nStatus: 5.1.1\r\n"));
        }
    }

    #[test]
    fn mail_in_utf8_is_reported_in_utf8() {
        let original = source("Subject: x\u{3042}\r\n\r\n".as_bytes());
        let about = About { to: "\u{7528}@x", utf8: true, ..about(&original) };
        let failures = [Failure::unknown_user("\u{3042}@y")];
        let plain = String::from_utf8(build(&about, &failures).unwrap()).unwrap();
        assert!(plain.contains("charset=utf-8\r\n") && plain.contains("To:       <\u{7528}@x>\r\n"));
        assert!(plain.contains("Unknown user: \u{3042}@y\r\n"));
        let mail = reported(&about, &entries(&failures));
        for text in
            ["message/global-delivery-status", "Final-Recipient: utf-8; \u{3042}@y\r\n", "message/global\r\n"]
        {
            assert!(mail.contains(text), "{text}: {mail}");
        }
        let long = clean(&"\u{3042}".repeat(LINE_MAX), true);
        assert!(long.len() <= LINE_MAX && long.chars().all(|c| c == '\u{3042}'));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_original_comes_back(original in prop::collection::vec(any::<u8>(), 0..300)) {
            let failures = [Failure::unknown_user("a@b")];
            let source = source(&original);
            let mail = build(&about(&source), &failures).unwrap();
            let at = memchr::memmem::find(&mail, b"follows.\r\n\r\n").unwrap() + 12;
            prop_assert_eq!(&mail[at..], &with_line_ends(&original)[..]);
            report(&about(&source), &entries(&failures)).unwrap();
        }
    }
}
