//! Log lines on their way to the log server, and in its file, `logYYYYMMDD.txt`.
//!
//! On the way: one datagram a line, in the form of BSD syslog (RFC 3164 §4.1), facility mail, severity informational. IMail's own datagrams
//! are not known; every log server reads this form.
//!
//! ```text
//! <22>Jul  3 00:01:23 mail.example.com SMTPD(28de0018025017cd) [192.0.2.1] connect 198.51.100.7 port 1234
//! ```
//!
//! In the file: date and time of arrival, the sender's address filled up to fifteen characters, then the line with a blank before the
//! parenthesis. No stored sample exists; this is how administrators remember it:
//!
//! ```text
//! 20030703 000123 127.0.0.1       SMTPD (0A2C0178) [192.0.2.1] connect 198.51.100.7 port 1234
//! ```
//!
//! # Failure
//! Nothing fails: what is no syslog message is a line as it stands, without its control characters.
//!
//! # Limits
//! [`MESSAGE_MAX`] bytes of a message; what is longer is cut.

use crate::logline::printable;
use chrono::NaiveDateTime;
use std::net::IpAddr;

/// The port of syslog (RFC 3164 §2).
pub const PORT: u16 = 514;
/// The longest datagram of syslog, in bytes (RFC 3164 §4.1).
pub const MESSAGE_MAX: usize = 1024;

/// Facility mail (2) and severity informational (6), as one number (RFC 3164 §4.1.1).
const PRIORITY: u8 = 2 * 8 + 6;
/// The highest priority: facility 23, severity 7.
const PRIORITY_MAX: u8 = 23 * 8 + 7;
/// The length of `Jul  3 00:01:23 `.
const TIMESTAMP: usize = 16;
/// The length of `07:03 00:01 `, which a line of the sys file begins with.
const LINE_TIME: usize = 12;
/// To which width the sender's address is filled up: that of the longest IPv4 address.
const SOURCE_WIDTH: usize = 15;

/// The datagram for a line of the sys file ([`crate::logline::write`]). `host` is the name of this server.
pub fn message(time: NaiveDateTime, host: &str, line: &[u8]) -> Vec<u8> {
    let line = String::from_utf8_lossy(line);
    let content = line.get(LINE_TIME..).unwrap_or_default();
    let host: String = host.chars().filter(char::is_ascii_graphic).collect();
    let begin = format!("<{PRIORITY}>{} {host} ", time.format("%b %e %H:%M:%S"));
    let content = printable(content, MESSAGE_MAX.saturating_sub(begin.len()));
    (begin + &content).into_bytes()
}

/// The line of the log server's file, with its line end, for a datagram that `source` sent. `time` is now: the sender's clock may be wrong.
pub fn line(time: NaiveDateTime, source: IpAddr, datagram: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(datagram);
    let text = printable(content(&text), MESSAGE_MAX);
    let source = source.to_canonical().to_string();
    let time = time.format("%Y%m%d %H%M%S");
    format!("{time} {source:<SOURCE_WIDTH$} {}\r\n", with_blank(&text)).into_bytes()
}

/// A message without priority, time and host, as far as it has them (RFC 3164 §4.3).
fn content(message: &str) -> &str {
    let priority = message.strip_prefix('<').and_then(|rest| rest.split_once('>'));
    let rest = match priority {
        Some((number, rest)) if number.parse::<u8>().is_ok_and(|number| number <= PRIORITY_MAX) => rest,
        _ => return message,
    };
    let timed = rest.split_at_checked(TIMESTAMP).filter(|(time, _)| is_timestamp(time));
    match timed.and_then(|(_, rest)| rest.split_once(' ')) {
        Some((_host, content)) => content,
        None => rest,
    }
}

/// Is this `Jul  3 00:01:23 `?
fn is_timestamp(text: &str) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || byte == b' ';
    text.bytes().zip(*b"Aaa 00 00:00:00 ").all(|(byte, shape)| match shape {
        b'0' => digit(byte),
        b'A' | b'a' => byte.is_ascii_alphabetic(),
        other => byte == other,
    })
}

/// `SMTPD(...)` as `SMTPD (...)`: tag and id are words of their own in the log server's file.
fn with_blank(text: &str) -> String {
    match text.split_once('(') {
        Some((tag, rest)) if !tag.is_empty() && !tag.contains(char::is_whitespace) => {
            format!("{tag} ({rest}")
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logline::{self, Event, Tag};
    use crate::name::SpoolId;
    use chrono::NaiveDate;
    use proptest::prelude::*;

    fn time() -> NaiveDateTime {
        NaiveDate::from_ymd_opt(2003, 7, 3).unwrap().and_hms_opt(0, 1, 23).unwrap()
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn from_the_event_to_the_file() {
        let (ours, peer) = ("192.0.2.1".parse().unwrap(), "198.51.100.7".parse().unwrap());
        let id = SpoolId(0x28de_0018_0250_17cd);
        let line = logline::write(time(), Tag::Smtpd, id, Some(ours), &Event::Connect { peer, port: 1234 });
        let sent = message(time(), "mail.example.com", &line);
        let content = "[192.0.2.1] connect 198.51.100.7 port 1234";
        assert_eq!(
            text(sent.clone()),
            format!("<22>Jul  3 00:01:23 mail.example.com SMTPD(28de0018025017cd) {content}")
        );
        assert_eq!(
            text(super::line(time(), "127.0.0.1".parse().unwrap(), &sent)),
            format!("20030703 000123 127.0.0.1       SMTPD (28de0018025017cd) {content}\r\n")
        );
    }

    #[test]
    fn what_others_send() {
        for (datagram, expected) in [
            (&b"<13>Feb 15 11:02:03 host su: 'su root' failed\n"[..], "su: 'su root' failed"),
            (b"<22>SMTPD (0A2C0178) x", "SMTPD (0A2C0178) x"),
            (b"<192>Feb  5 11:02:03 host x", "<192>Feb  5 11:02:03 host x"),
            (b"<13>Feb  5 11:02:03", "Feb  5 11:02:03"),
            (
                b"<165>1 2003-10-11T22:14:15.003Z host app - - - text",
                "1 2003-10-11T22:14:15.003Z host app - - - text",
            ),
            (b"no syslog (at all)", "no syslog (at all)"),
            (b"one\r\n20030703 000000 192.0.2.9 two\x1b[2J", "one20030703 000000 192.0.2.9 two[2J"),
            (b"\xff\x00", "\u{fffd}"),
            (b"", ""),
        ] {
            let line = text(line(time(), "::ffff:192.0.2.7".parse().unwrap(), datagram));
            assert_eq!(line, format!("20030703 000123 192.0.2.7       {expected}\r\n"));
        }
        let long = line(time(), "2001:db8::1234:5678".parse().unwrap(), &[b'x'; 5000]);
        assert_eq!(
            text(long),
            format!("20030703 000123 2001:db8::1234:5678 {}\r\n", "x".repeat(MESSAGE_MAX))
        );
        let sent = message(time(), "a b\r\n", &[b'x'; 5000]);
        assert_eq!(sent.len(), MESSAGE_MAX);
        assert!(sent.starts_with(b"<22>Jul  3 00:01:23 ab xxx"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_datagram_is_one_line(datagram in prop::collection::vec(any::<u8>(), 0..200), head in 0usize..3) {
            let begin = ["", "<22>", "<22>Jul  3 00:01:23 h "][head].as_bytes();
            let line = text(line(time(), "192.0.2.7".parse().unwrap(), &[begin, &datagram].concat()));
            let line = line.strip_suffix("\r\n").unwrap();
            prop_assert!(line.starts_with("20030703 000123 192.0.2.7 ") && !line.contains(char::is_control));
        }
    }
}
