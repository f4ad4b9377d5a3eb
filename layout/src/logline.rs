//! The lines of `sysYYYYMMDD.txt`.
//!
//! ```text
//! 03:19 03:22 SMTPD(28de0018025017cd) [198.51.100.70] MAIL FROM:<info@client.example>
//! ```
//!
//! Month and day, hour and minute (local time, no year, no seconds), program and id, an address in brackets, text; CRLF (vendor's sample in
//! an Ipswitch KB article on reading SMTP logs). Up to 8.x the id had 8 hex digits; since 9.2 the 16 of the spool id are likely, and written here. On `connect` lines the
//! bracket holds our own address, on all others the client's (same article); delivery lines have none.
//!
//! The texts of `connect`, client commands, reception, `processing`, `ldeliver`, `finished status=1`, the kill file and access control are
//! attested; the others are not known, chosen after how administrators remember them.
//!
//! What clients and other servers say is written without control characters, so that nobody can forge a line, and cut to
//! [`LINE_MAX`]; the last word, often a size, is never cut off. Passwords never reach a line: [`Protocol::without_secrets`].
//!
//! # Failure
//! Nothing fails. [`Line::parse`] answers `None` for what is no such line.

use crate::name::SpoolId;
use chrono::{Datelike as _, NaiveDate, NaiveDateTime, Timelike as _};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// The longest line, in bytes, without its line end.
pub const LINE_MAX: usize = 512;

/// The word before the id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tag {
    /// Receiving mail.
    Smtpd,
    /// Delivering mail; the hyphen fills the word to five characters.
    Smtp,
    /// POP3.
    Pop3d,
    /// IMAP4.
    Imap4d,
    /// Web mail and administration.
    Webmail,
    /// Mailing lists.
    Listserv,
    /// The server as a whole: start, stop, configuration.
    Server,
}

impl Tag {
    /// As it stands in a line.
    pub fn word(self) -> &'static str {
        match self {
            Tag::Smtpd => "SMTPD",
            Tag::Smtp => "SMTP-",
            Tag::Pop3d => "POP3D",
            Tag::Imap4d => "IMAP4D",
            Tag::Webmail => "WEBMAIL",
            Tag::Listserv => "LISTSERV",
            Tag::Server => "IMAILD",
        }
    }
}

/// Which commands a client speaks, and so where passwords stand in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// SMTP: behind `AUTH` and its mechanism (RFC 4954 §4).
    Smtp,
    /// POP3: behind `PASS`, behind the user of `APOP`, behind `AUTH` and its mechanism (RFC 1939 §7, RFC 5034 §4).
    Pop3,
    /// IMAP4: behind the user of `LOGIN`, behind `AUTHENTICATE` and its mechanism (RFC 3501 §6.2).
    Imap4,
}

impl Protocol {
    /// A command line as the client typed it, up to where a secret could stand.
    ///
    /// For IMAP4 only the line itself, up to its first literal; what a client sends after a literal, or in answer to a challenge,
    /// must not be logged at all.
    pub fn without_secrets(self, line: &str) -> &str {
        let line = line.trim_end_matches(['\r', '\n']);
        let (command, verb_end) = match self {
            Protocol::Smtp | Protocol::Pop3 => (word_end(line, 0), 0),
            // The tag comes first.
            Protocol::Imap4 => {
                let tag = word_end(line, 0);
                (word_end(line, tag), tag)
            }
        };
        let verb = line.get(verb_end..command).unwrap_or("").trim();
        let is = |name: &str| verb.eq_ignore_ascii_case(name);
        let shown_words = match self {
            Protocol::Pop3 if is("PASS") => 0,
            Protocol::Pop3 if is("APOP") || is("AUTH") => 1,
            Protocol::Smtp if is("AUTH") => 1,
            Protocol::Imap4 if is("LOGIN") || is("AUTHENTICATE") => 1,
            _ => return line,
        };
        let end = (0..shown_words).fold(command, |at, _| word_end(line, at));
        line.get(..end).unwrap_or("").trim_end()
    }
}

/// The end of the word that begins at `at` or behind the blanks there; a quoted string is one word.
fn word_end(line: &str, at: usize) -> usize {
    let rest = line.get(at..).unwrap_or("");
    let begin = rest.len() - rest.trim_start().len();
    let (mut quoted, mut escaped) = (false, false);
    for (index, c) in rest.char_indices().skip_while(|(index, _)| *index < begin) {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if c.is_whitespace() && !quoted => return at + index,
            _ => {}
        }
    }
    // A quote that is never closed may hide the next word: nothing of it is shown.
    if quoted { at + begin } else { line.len() }
}

/// How an attempt to deliver a message ended: the number behind `status=`. Only 1 is attested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Something is wrong on our side; the files stay.
    InternalError = 0,
    /// All recipients are done.
    Done = 1,
    /// All are done, some by a bounce.
    Bounced = 2,
    /// Some are tried again later.
    Requeued = 3,
}

/// A delivery: `ldeliver` and `rdeliver`.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// Our host, or the domain that the message went to.
    pub host: &'a str,
    /// The user, or the remote address.
    pub recipient: &'a str,
    /// How many recipients this hand-off had.
    pub count: usize,
    /// The envelope sender.
    pub sender: &'a str,
    /// Bytes handed over.
    pub bytes: u64,
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A client connected. The line's address is ours.
    Connect {
        /// The client's address.
        peer: IpAddr,
        /// The client's port.
        port: u16,
    },
    /// A client's command, as it was typed.
    Command(Protocol, &'a str),
    /// A message was received.
    Received {
        /// Its D file.
        data: &'a Path,
        /// The D file's size.
        bytes: u64,
    },
    /// A command was refused with this reply, its code left off.
    Refused(&'a str),
    /// The kill file refused a sender.
    KillFile {
        /// The sender.
        sender: &'a str,
    },
    /// Access control refused a client.
    Denied {
        /// Its address.
        peer: IpAddr,
    },
    /// An SMTP client logged in.
    Authenticated {
        /// `user@domain`.
        user: &'a str,
    },
    /// An SMTP client failed to.
    AuthenticationFailed {
        /// `user@domain`, as far as it was given.
        user: &'a str,
    },
    /// An attempt to deliver a message begins.
    Processing {
        /// Its Q file.
        queue: &'a Path,
    },
    /// A try to hand mail to another server begins.
    Trying {
        /// The domain.
        domain: &'a str,
        /// Tries before this one.
        tries: u32,
    },
    /// A connection to another server begins.
    Connecting {
        /// The server's name.
        host: &'a str,
        /// Its address and port.
        peer: SocketAddr,
        /// The how manieth server of this try it is, from 1.
        count: usize,
    },
    /// A command of ours to another server.
    Said(&'a str),
    /// A line of another server's reply.
    Heard(&'a str),
    /// Delivered to a mailbox here.
    LocalDelivery(Delivery<'a>),
    /// Delivered to another server.
    RemoteDelivery(Delivery<'a>),
    /// Some recipients are tried again later.
    Requeuing {
        /// The Q file.
        queue: &'a Path,
        /// Attempts so far.
        tries: u32,
        /// Attempts in all.
        tries_max: u32,
    },
    /// A recipient was given up.
    Undeliverable {
        /// The address.
        recipient: &'a str,
        /// The reason line of the bounce.
        reason: &'a str,
    },
    /// TLS began, with this version and cipher.
    Tls(&'a str),
    /// A client's connection ended otherwise than by its goodbye, with the reason.
    Disconnect(&'a str),
    /// A message waits in the spool.
    Queued {
        /// Its Q file.
        queue: &'a Path,
    },
    /// Mail for an address goes on to another one.
    Forwarded {
        /// The address.
        from: &'a str,
        /// The other one.
        to: &'a str,
    },
    /// A bounce was made about the line's message.
    Bounced {
        /// The bounce's own id.
        id: SpoolId,
        /// Who gets it.
        to: &'a str,
    },
    /// An attempt to deliver a message is over; always its last line.
    Finished {
        /// The Q file.
        queue: &'a Path,
        /// How it ended.
        status: Status,
    },
    /// A POP3 or IMAP4 client logged in.
    Logon {
        /// The user.
        user: &'a str,
        /// The domain.
        domain: &'a str,
        /// The client's address.
        peer: IpAddr,
    },
    /// A POP3 or IMAP4 client failed to.
    LogonFailed {
        /// The user, as given.
        user: &'a str,
        /// The domain.
        domain: &'a str,
        /// The client's address.
        peer: IpAddr,
    },
    /// A POP3 or IMAP4 session ended.
    Logoff {
        /// The user.
        user: &'a str,
        /// Messages fetched.
        retrieved: u64,
        /// Messages removed.
        deleted: u64,
    },
    /// Anything else, in words.
    Note(&'a str),
}

impl Event<'_> {
    /// The text: what may be cut, and the end that may not.
    fn text(&self) -> (String, String) {
        let whole = |text: String| (text, String::new());
        let delivery = |word: &str, d: &Delivery<'_>| {
            let Delivery { host, recipient, count, sender, bytes } = d;
            (format!("{word} {host} {recipient} ({count}) <{sender}"), format!("> {bytes}"))
        };
        match self {
            Event::Connect { peer, port } => whole(format!("connect {peer} port {port}")),
            Event::Command(protocol, line) => whole(protocol.without_secrets(line).to_owned()),
            Event::Received { data, bytes } => (data.display().to_string(), format!(" {bytes}")),
            Event::Refused(reply) => whole(format!("ERR {reply}")),
            Event::KillFile { sender } => {
                (format!("unacceptable mail address in MAIL FROM:<{sender}"), ">".to_owned())
            }
            Event::Denied { peer } => whole(format!("Denied access from {peer}")),
            Event::Authenticated { user } => {
                (format!("Authenticated {user}"), ", session treated as local.".to_owned())
            }
            Event::AuthenticationFailed { user } => whole(format!("ERR authentication failed for {user}")),
            Event::Processing { queue } => whole(format!("processing {}", queue.display())),
            Event::Trying { domain, tries } => (format!("Trying {domain}"), format!(" ({tries})")),
            Event::Connecting { host, peer, count } => {
                (format!("Connect {host}"), format!(" [{peer}] ({count})"))
            }
            Event::Said(command) => whole(format!(">{command}")),
            Event::Heard(line) => whole((*line).to_owned()),
            Event::LocalDelivery(d) => delivery("ldeliver", d),
            Event::RemoteDelivery(d) => delivery("rdeliver", d),
            Event::Requeuing { queue, tries, tries_max } => {
                (format!("requeuing {}", queue.display()), format!(" R{tries} T{tries_max}"))
            }
            Event::Undeliverable { recipient, reason } => {
                whole(format!("undeliverable {recipient} {reason}"))
            }
            Event::Tls(text) => whole(format!("TLS {text}")),
            Event::Disconnect(why) => whole(format!("disconnect: {why}")),
            Event::Queued { queue } => whole(format!("queued {}", queue.display())),
            Event::Forwarded { from, to } => whole(format!("forward {from} to {to}")),
            Event::Bounced { id, to } => (format!("bounce {id} to <{to}"), ">".to_owned()),
            Event::Finished { queue, status } => {
                (format!("finished {}", queue.display()), format!(" status={}", *status as u8))
            }
            Event::Logon { user, domain, peer } => {
                (format!("logon success for {user} {domain}"), format!(" from {peer}"))
            }
            Event::LogonFailed { user, domain, peer } => {
                (format!("logon failure for {user} {domain}"), format!(" from {peer}"))
            }
            Event::Logoff { user, retrieved, deleted } => {
                (format!("logoff {user}"), format!(" {retrieved} retrieved {deleted} deleted"))
            }
            Event::Note(text) => whole((*text).to_owned()),
        }
    }
}

/// A line, with its line end. `id` is that of the connection or message, all zeros for the server as a whole; `address` is what stands in the
/// bracket: ours for [`Event::Connect`], else the client's, none for deliveries.
pub fn write(
    time: NaiveDateTime,
    tag: Tag,
    id: SpoolId,
    address: Option<IpAddr>,
    event: &Event<'_>,
) -> Vec<u8> {
    let mut line = format!("{} {}({id}) ", time.format("%m:%d %H:%M"), tag.word());
    if let Some(address) = address {
        line.push_str(&format!("[{address}] "));
    }
    let (text, end) = event.text();
    let end = printable(&end, LINE_MAX);
    let room = LINE_MAX.saturating_sub(line.len() + end.len());
    line.push_str(&printable(&text, room));
    line.push_str(&end);
    line.push_str("\r\n");
    line.into_bytes()
}

/// A text without control characters, and without those that end a line or turn its direction, of at most `max` bytes.
pub(crate) fn printable(text: &str, max: usize) -> String {
    let odd = |c: &char| {
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            || c.is_control()
    };
    let mut shown = String::with_capacity(text.len().min(max));
    for c in text.chars().filter(|c| !odd(c)) {
        if shown.len() + c.len_utf8() > max {
            break;
        }
        shown.push(c);
    }
    shown
}

/// A line that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// The program, e.g. `SMTPD`.
    pub tag: &'a str,
    /// 8 or 16 hex digits.
    pub id: &'a str,
    /// What stands in the bracket.
    pub address: Option<&'a str>,
    /// The rest.
    pub text: &'a str,
}

impl<'a> Line<'a> {
    /// Reads a line, with or without its line end: ids of both lengths, with or without a blank before the parenthesis, any number of
    /// blanks between the fields (all of these forms are in circulation).
    pub fn parse(line: &'a str) -> Option<Line<'a>> {
        let line = line.trim_end_matches(['\r', '\n']);
        let (date, rest) = line.trim_start().split_once(' ')?;
        let (time, rest) = rest.trim_start().split_once(' ')?;
        let (tag, rest) = rest.trim_start().split_once('(')?;
        let (id, rest) = rest.split_once(')')?;
        let tag = tag.trim_end();
        let hex = matches!(id.len(), 8 | 16) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !hex || tag.is_empty() || tag.contains(char::is_whitespace) {
            return None;
        }
        let rest = rest.trim_start();
        let bracket = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let address = |text: &str| text.parse::<IpAddr>().is_ok();
        let (address, text) = match bracket {
            Some((inner, text)) if address(inner) => (Some(inner), text.trim_start()),
            _ => (None, rest),
        };
        let (month, day) = pair(date, 1..=12, 1..=31)?;
        let (hour, minute) = pair(time, 0..=23, 0..=59)?;
        Some(Line { month, day, hour, minute, tag, id, address, text })
    }

    /// The connection number and message number in the id. Ids of 8 digits are the connection alone.
    pub fn spool_id(&self) -> Option<SpoolId> {
        match self.id.len() {
            16 => SpoolId::parse(self.id),
            _ => u32::from_str_radix(self.id, 16).ok().map(|number| SpoolId(u64::from(number) << 16)),
        }
    }
}

/// Two numbers of two digits with a colon between them.
fn pair(
    text: &str,
    first: std::ops::RangeInclusive<u8>,
    second: std::ops::RangeInclusive<u8>,
) -> Option<(u8, u8)> {
    let (a, b) = text.split_once(':')?;
    let (a, b) = (two_digits(a)?, two_digits(b)?);
    (first.contains(&a) && second.contains(&b)).then_some((a, b))
}

fn two_digits(text: &str) -> Option<u8> {
    (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// What a log file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// What the services of this machine do.
    System,
    /// What reached the log server.
    Server,
    /// What the spam filter found.
    Spam,
}

impl FileKind {
    fn word(self) -> &'static str {
        match self {
            FileKind::System => "sys",
            FileKind::Server => "log",
            FileKind::Spam => "spam",
        }
    }
}

/// A log file's name, e.g. `sys20220801.txt` (IMail 12 manual 5).
pub fn file_name(kind: FileKind, date: NaiveDate) -> String {
    format!("{}{:04}{:02}{:02}.txt", kind.word(), date.year(), date.month(), date.day())
}

/// The file that a line of this time belongs to.
pub fn file_of(kind: FileKind, time: NaiveDateTime) -> String {
    debug_assert!(time.hour() < 24);
    file_name(kind, time.date())
}

/// A log file's kind and date by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileDate {
    /// The kind.
    pub kind: FileKind,
    /// The year, which names before 12.x lack.
    pub year: Option<u16>,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
}

impl fmt::Display for FileDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FileDate { kind, year, month, day } = self;
        match year {
            Some(year) => write!(f, "{} {year:04}-{month:02}-{day:02}", kind.word()),
            None => write!(f, "{} {month:02}-{day:02}", kind.word()),
        }
    }
}

/// Reads a log file's name in any case: `sysYYYYMMDD.txt` of 12.x, `sysMMDD.txt` and `spamMMDD.log` of older versions.
pub fn parse_file_name(name: &str) -> Option<FileDate> {
    let (stem, extension) = name.rsplit_once('.')?;
    let kind = [FileKind::System, FileKind::Server, FileKind::Spam].into_iter().find(|kind| {
        stem.get(..kind.word().len()).is_some_and(|word| word.eq_ignore_ascii_case(kind.word()))
    })?;
    let log = kind == FileKind::Spam && extension.eq_ignore_ascii_case("log");
    if !extension.eq_ignore_ascii_case("txt") && !log {
        return None;
    }
    let digits = stem.get(kind.word().len()..)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match digits.len() {
        8 => (Some(digits.get(..4)?.parse().ok()?), digits.get(4..)?),
        4 => (None, digits),
        _ => return None,
    };
    let (month, day) = (two_digits(rest.get(..2)?)?, two_digits(rest.get(2..)?)?);
    // A leap year where the name says none: 29 February is a day.
    NaiveDate::from_ymd_opt(year.map_or(2000, i32::from), month.into(), day.into())?;
    Some(FileDate { kind, year, month, day })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn time() -> NaiveDateTime {
        NaiveDate::from_ymd_opt(2022, 3, 19).unwrap().and_hms_opt(3, 22, 41).unwrap()
    }

    fn line(tag: Tag, address: Option<&str>, event: Event<'_>) -> String {
        let id = SpoolId(0x28de_0018_0250_17cd);
        let bytes = write(time(), tag, id, address.map(|a| a.parse().unwrap()), &event);
        let text = String::from_utf8(bytes).unwrap();
        let text = text.strip_suffix("\r\n").unwrap();
        text.strip_prefix("03:19 03:22 ").unwrap().replace("28de0018025017cd", "#")
    }

    #[test]
    fn the_vendors_lines() {
        let ours = Some("192.0.2.131");
        let client = Some("198.51.100.70");
        let peer: IpAddr = "198.51.100.70".parse().unwrap();
        let command = |text| Event::Command(Protocol::Smtp, text);
        let (data, queue) = (Path::new("/srv/imail/spool/D1.SMD"), Path::new("/srv/imail/spool/Q1.SMD"));
        let delivery = Delivery {
            host: "mail.example.com",
            recipient: "user",
            count: 1,
            sender: "info-x@client.example",
            bytes: 2354,
        };
        let remote = Delivery { host: "example.net", recipient: "u@example.net", sender: "", ..delivery };
        use Event::*;
        use Tag::*;
        for (tag, address, event, expected) in [
            (
                Smtpd,
                ours,
                Connect { peer, port: 2539 },
                "SMTPD(#) [192.0.2.131] connect 198.51.100.70 port 2539",
            ),
            (
                Smtpd,
                client,
                command("EHLO client.example\r\n"),
                "SMTPD(#) [198.51.100.70] EHLO client.example",
            ),
            (
                Smtpd,
                client,
                command("RCPT To:<user@example.com>"),
                "SMTPD(#) [198.51.100.70] RCPT To:<user@example.com>",
            ),
            (
                Smtpd,
                client,
                Received { data, bytes: 3827 },
                "SMTPD(#) [198.51.100.70] /srv/imail/spool/D1.SMD 3827",
            ),
            (Smtp, None, Processing { queue }, "SMTP-(#) processing /srv/imail/spool/Q1.SMD"),
            (
                Smtp,
                None,
                LocalDelivery(delivery),
                "SMTP-(#) ldeliver mail.example.com user (1) <info-x@client.example> 2354",
            ),
            (
                Smtp,
                None,
                Finished { queue, status: Status::Done },
                "SMTP-(#) finished /srv/imail/spool/Q1.SMD status=1",
            ),
            (
                Smtpd,
                client,
                KillFile { sender: "x@y" },
                "SMTPD(#) [198.51.100.70] unacceptable mail address in MAIL FROM:<x@y>",
            ),
            (Smtpd, client, Denied { peer }, "SMTPD(#) [198.51.100.70] Denied access from 198.51.100.70"),
            // The forms below are chosen.
            (Smtpd, client, Refused("unknown user <a@b>"), "SMTPD(#) [198.51.100.70] ERR unknown user <a@b>"),
            (
                Smtpd,
                client,
                Authenticated { user: "a@b" },
                "SMTPD(#) [198.51.100.70] Authenticated a@b, session treated as local.",
            ),
            (
                Smtpd,
                client,
                AuthenticationFailed { user: "a@b" },
                "SMTPD(#) [198.51.100.70] ERR authentication failed for a@b",
            ),
            (Smtp, None, Trying { domain: "example.net", tries: 0 }, "SMTP-(#) Trying example.net (0)"),
            (
                Smtp,
                None,
                Connecting { host: "mx.example.net", peer: "203.0.113.5:25".parse().unwrap(), count: 1 },
                "SMTP-(#) Connect mx.example.net [203.0.113.5:25] (1)",
            ),
            (Smtp, None, Said("EHLO mail.example.com"), "SMTP-(#) >EHLO mail.example.com"),
            (Smtp, None, Heard("250 ok"), "SMTP-(#) 250 ok"),
            (Smtp, None, RemoteDelivery(remote), "SMTP-(#) rdeliver example.net u@example.net (1) <> 2354"),
            (
                Smtp,
                None,
                Requeuing { queue, tries: 3, tries_max: 20 },
                "SMTP-(#) requeuing /srv/imail/spool/Q1.SMD R3 T20",
            ),
            (
                Smtp,
                None,
                Undeliverable { recipient: "a@b", reason: "Unknown user: a@b" },
                "SMTP-(#) undeliverable a@b Unknown user: a@b",
            ),
            (Smtpd, client, Tls("1.3 AES"), "SMTPD(#) [198.51.100.70] TLS 1.3 AES"),
            (Smtpd, client, Disconnect("it is gone"), "SMTPD(#) [198.51.100.70] disconnect: it is gone"),
            (Smtp, None, Queued { queue }, "SMTP-(#) queued /srv/imail/spool/Q1.SMD"),
            (Smtp, None, Forwarded { from: "a@b", to: "c@d" }, "SMTP-(#) forward a@b to c@d"),
            (Smtp, None, Bounced { id: SpoolId(5), to: "a@b" }, "SMTP-(#) bounce 0000000000000005 to <a@b>"),
            (Pop3d, ours, Connect { peer, port: 7 }, "POP3D(#) [192.0.2.131] connect 198.51.100.70 port 7"),
            (
                Pop3d,
                client,
                Logon { user: "mike", domain: "example.com", peer },
                "POP3D(#) [198.51.100.70] logon success for mike example.com from 198.51.100.70",
            ),
            (
                Imap4d,
                client,
                LogonFailed { user: "mike", domain: "example.com", peer },
                "IMAP4D(#) [198.51.100.70] logon failure for mike example.com from 198.51.100.70",
            ),
            (
                Imap4d,
                client,
                Logoff { user: "mike", retrieved: 3, deleted: 1 },
                "IMAP4D(#) [198.51.100.70] logoff mike 3 retrieved 1 deleted",
            ),
            (
                Server,
                None,
                Note("registry.ini: 2 domains\r\nforged"),
                "IMAILD(#) registry.ini: 2 domainsforged",
            ),
        ] {
            assert_eq!(line(tag, address, event), expected);
        }
        let id = SpoolId(0);
        let bytes = write(time(), Server, id, Some("2001:db8::1".parse().unwrap()), &Note("x"));
        assert_eq!(bytes, b"03:19 03:22 IMAILD(0000000000000000) [2001:db8::1] x\r\n");
    }

    #[test]
    fn secrets_are_left_out() {
        use Protocol::*;
        for (protocol, typed, shown) in [
            (Smtp, "AUTH PLAIN AG1pa2UAcm9ja3M=\r\n", "AUTH PLAIN"),
            (Smtp, " auth  login  bWlrZQ==", " auth  login"),
            (Smtp, "AUTH\tPLAIN\tAG1pa2U=", "AUTH\tPLAIN"),
            (Smtp, "MAIL FROM:<a@b> AUTH=<x>", "MAIL FROM:<a@b> AUTH=<x>"),
            (Pop3, "PASS my secret words", "PASS"),
            (Pop3, "pass x", "pass"),
            (Pop3, "USER mike", "USER mike"),
            (Pop3, "APOP mike c4c9334bac560ecc979e58001b3e22fb", "APOP mike"),
            (Pop3, "AUTH PLAIN AG1pa2U=", "AUTH PLAIN"),
            (Imap4, "a1 LOGIN mike rocks", "a1 LOGIN mike"),
            (Imap4, "a1 login \"mi ke\" \"ro cks\"", "a1 login \"mi ke\""),
            (Imap4, "a1 LOGIN \"mi\\\"ke\" rocks", "a1 LOGIN \"mi\\\"ke\""),
            (Imap4, "a1 LOGIN \"mike rocks", "a1 LOGIN"),
            (Imap4, "a1 LOGIN {4}", "a1 LOGIN {4}"),
            (Imap4, "a1 AUTHENTICATE PLAIN AG1pa2U=", "a1 AUTHENTICATE PLAIN"),
            (Imap4, "a1 SELECT INBOX", "a1 SELECT INBOX"),
            (Imap4, "LOGIN", "LOGIN"),
            (Imap4, "", ""),
        ] {
            assert_eq!(protocol.without_secrets(typed), shown, "{typed}");
        }
    }

    #[test]
    fn long_lines_are_cut_before_their_last_word() {
        let sender = "\u{65e5}".repeat(1000);
        let delivery = Delivery { host: "h", recipient: "r", count: 1, sender: &sender, bytes: 12 };
        let bytes = write(time(), Tag::Smtp, SpoolId(1), None, &Event::LocalDelivery(delivery));
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.len() <= LINE_MAX + 2 && text.len() > LINE_MAX - 2);
        assert!(text.ends_with("\u{65e5}> 12\r\n"));
    }

    #[test]
    fn lines_of_every_version_are_read() {
        let vendor = "06:26 09:16 SMTPD(0015052C) [127.0.0.1] connect 127.0.0.1 port 2358\r\n";
        let read = Line::parse(vendor).unwrap();
        let expected = Line {
            month: 6,
            day: 26,
            hour: 9,
            minute: 16,
            tag: "SMTPD",
            id: "0015052C",
            address: Some("127.0.0.1"),
            text: "connect 127.0.0.1 port 2358",
        };
        assert_eq!(read, expected);
        assert_eq!(read.spool_id().unwrap().connection(), 0x15052c);
        let blank = Line::parse("06:26 09:16  SMTPD (01740404)  [192.0.2.1]  unacceptable mail").unwrap();
        assert_eq!((blank.tag, blank.id, blank.text), ("SMTPD", "01740404", "unacceptable mail"));
        let delivery = Line::parse("10:17 11:24 SMTP-(f593012a00000001) processing x").unwrap();
        assert_eq!((delivery.tag, delivery.address, delivery.text), ("SMTP-", None, "processing x"));
        assert_eq!(delivery.spool_id(), Some(SpoolId(0xf593_012a_0000_0001)));
        let odd = Line::parse("10:17 11:24 SMTP-(00000001) [not an address] x").unwrap();
        assert_eq!((odd.address, odd.text), (None, "[not an address] x"));
        for bad in [
            "",
            "x",
            "13:01 00:00 SMTPD(00000001) x",
            "01:01 24:00 SMTPD(00000001) x",
            "01:01 00:00 SMTPD(0001) x",
            "01:01 00:00 SM TPD(00000001) x",
            "1:1 00:00 SMTPD(00000001) x",
            "20030703 000123 127.0.0.1 SMTPD (0A2C0178) x",
        ] {
            assert_eq!(Line::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn file_names() {
        let date = NaiveDate::from_ymd_opt(2022, 8, 1).unwrap();
        assert_eq!(file_of(FileKind::System, date.and_hms_opt(23, 59, 59).unwrap()), "sys20220801.txt");
        for (name, expected) in [
            ("sys20220801.txt", Some("sys 2022-08-01")),
            ("SYS0801.TXT", Some("sys 08-01")),
            ("log20240229.txt", Some("log 2024-02-29")),
            ("log0229.txt", Some("log 02-29")),
            ("spam0801.log", Some("spam 08-01")),
            ("spam20220801.txt", Some("spam 2022-08-01")),
            ("sys0801.log", None),
            ("sys20230229.txt", None),
            ("sys1301.txt", None),
            ("sys080.txt", None),
            ("sys+801.txt", None),
            ("sysinfo.txt", None),
            ("sy", None),
        ] {
            assert_eq!(parse_file_name(name).map(|file| file.to_string()).as_deref(), expected, "{name}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn nobody_can_forge_a_line(typed in any::<String>(), user in any::<String>()) {
            let peer: IpAddr = "192.0.2.1".parse().unwrap();
            for event in [
                Event::Command(Protocol::Smtp, &typed),
                Event::Command(Protocol::Imap4, &typed),
                Event::Refused(&typed),
                Event::Logon { user: &user, domain: &typed, peer },
                Event::Note(&typed),
            ] {
                let bytes = write(time(), Tag::Smtpd, SpoolId(5), Some(peer), &event);
                let text = std::str::from_utf8(&bytes).unwrap();
                let line = text.strip_suffix("\r\n").unwrap();
                prop_assert!(line.len() <= LINE_MAX && !line.contains(char::is_control));
                let read = Line::parse(line).unwrap();
                prop_assert_eq!((read.tag, read.spool_id(), read.address), ("SMTPD", Some(SpoolId(5)), Some("192.0.2.1")));
            }
        }

        #[test]
        fn any_text_is_harmless(text in any::<String>()) {
            let _ = (Line::parse(&text), parse_file_name(&text));
            for protocol in [Protocol::Smtp, Protocol::Pop3, Protocol::Imap4] {
                prop_assert!(text.starts_with(protocol.without_secrets(&text)));
            }
        }
    }
}
