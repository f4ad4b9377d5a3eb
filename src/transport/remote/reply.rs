//! What other servers say: replies, and what they offer in the one to EHLO.
//!
//! # Limits
//! [`REPLY_LINES_MAX`] lines of [`REPLY_LINE_MAX`] bytes of a reply, of which the first [`REPLY_LINES_KEPT`] are kept.

use super::client::{Problem, Stage};
use std::io;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

/// The most lines of a reply that are read.
pub const REPLY_LINES_MAX: usize = 10_000;
/// The most lines of a reply that are kept: more than a bounce shows.
pub const REPLY_LINES_KEPT: usize = 100;
/// The longest line of a reply, in bytes (RFC 5321 §4.5.3.1.5 allows 512; servers write more).
pub const REPLY_LINE_MAX: u64 = 4096;

/// A server's reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The last line's: it is the one that counts where they differ.
    pub code: u16,
    /// The lines with their codes, as they came, without their line ends.
    pub lines: Vec<String>,
}

impl Reply {
    /// Is its first digit this one (RFC 5321 §4.2.1)?
    pub fn is(&self, class: u16) -> bool {
        self.code / 100 == class
    }

    /// Only 5xx is for ever (RFC 5321 §4.2.1).
    pub fn problem(self, stage: Stage) -> Problem {
        Problem { stage, permanent: self.is(5), lines: self.lines }
    }

    /// Reads one; `InvalidData` for what is none.
    pub async fn read(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Reply> {
        let odd = || io::Error::new(io::ErrorKind::InvalidData, "the server does not speak SMTP");
        let closed = || io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection");
        let mut lines = Vec::new();
        for _ in 0..REPLY_LINES_MAX {
            let mut line = Vec::new();
            match (&mut *stream).take(REPLY_LINE_MAX).read_until(b'\n', &mut line).await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(closed()),
                read => read?,
            };
            if line.is_empty() {
                return Err(closed());
            }
            let text = line.strip_suffix(b"\n").ok_or_else(odd)?;
            let text = String::from_utf8_lossy(text.strip_suffix(b"\r").unwrap_or(text)).into_owned();
            let digits = text.get(..3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            let code = digits.and_then(|digits| digits.parse().ok()).ok_or_else(odd)?;
            let more = text.as_bytes().get(3) == Some(&b'-');
            if lines.len() < REPLY_LINES_KEPT {
                lines.push(text);
            }
            if !more {
                return Ok(Reply { code, lines });
            }
        }
        Err(odd())
    }
}

/// What a server offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// Commands may be sent together (RFC 2920).
    pub pipelining: bool,
    /// MAIL may tell the size (RFC 1870).
    pub size: bool,
    /// Bytes above 127 (RFC 6152).
    pub eight_bit: bool,
    /// Addresses with other than ASCII characters (RFC 6531).
    pub utf8: bool,
    /// TLS on this connection (RFC 3207).
    pub starttls: bool,
    /// Wishes about reports (RFC 3461).
    pub dsn: bool,
}

impl Extensions {
    /// From the reply to EHLO; its first line is the server's name.
    pub fn parse(lines: &[String]) -> Extensions {
        let words = lines.iter().skip(1).filter_map(|line| line.get(4..)?.split_ascii_whitespace().next());
        words.fold(Extensions::default(), |mut found, word| {
            match word.to_ascii_uppercase().as_str() {
                "PIPELINING" => found.pipelining = true,
                "SIZE" => found.size = true,
                "8BITMIME" => found.eight_bit = true,
                "SMTPUTF8" => found.utf8 = true,
                "STARTTLS" => found.starttls = true,
                "DSN" => found.dsn = true,
                _ => {}
            }
            found
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_offer() {
        let lines = ["250-mx.example.net", "250-PIPELINING", "250-size 1000", "250-StartTLS", "250 8bitmime"];
        let offered = Extensions {
            pipelining: true,
            size: true,
            eight_bit: true,
            starttls: true,
            ..Extensions::default()
        };
        assert_eq!(Extensions::parse(&lines.map(str::to_owned)), offered);
        assert_eq!(Extensions::parse(&["250 PIPELINING".to_owned()]), Extensions::default());
    }

    #[tokio::test]
    async fn replies() {
        for (bytes, expected) in [
            ("250 ok\r\n", Some((250, 1))),
            ("250-a\n250-b\n550 c\n", Some((550, 3))),
            ("250\r\n", Some((250, 1))),
            ("250-a\r\n", None),
            ("250 a", None),
            ("+25 a\r\n", None),
            ("hello\r\n", None),
            ("\r\n", None),
            ("", None),
        ] {
            let reply = Reply::read(&mut bytes.as_bytes()).await.ok();
            assert_eq!(reply.map(|reply| (reply.code, reply.lines.len())), expected, "{bytes:?}");
        }
        let long = "250-a\r\n".repeat(5000) + "250 b\r\n";
        assert_eq!(Reply::read(&mut long.as_bytes()).await.unwrap().lines.len(), REPLY_LINES_KEPT);
        let endless = "250-a\r\n".repeat(REPLY_LINES_MAX);
        assert!(Reply::read(&mut endless.as_bytes()).await.is_err());
        assert!(Reply::read(&mut "2".repeat(5000).as_bytes()).await.is_err());
    }
}
