//! A tiny SMTP client.

use super::wire::Wire;
use std::net::SocketAddr;

/// One session, greeted and introduced with EHLO.
pub struct Smtp {
    wire: Wire,
    /// The greeting line.
    pub greeting: String,
    /// The lines of the EHLO reply without their codes.
    pub extensions: Vec<String>,
}

/// A reply: code and all text lines, joined by line feeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The three digits.
    pub code: u16,
    /// The text after the code.
    pub text: String,
}

impl Smtp {
    /// Connects, reads the greeting, says EHLO.
    #[track_caller]
    pub fn open(address: SocketAddr) -> Smtp {
        Smtp::over(Wire::open(address).expect("SMTP listens"))
    }

    /// The same on a connection that somebody else made.
    #[track_caller]
    pub fn over(mut wire: Wire) -> Smtp {
        let greeting = wire.line();
        let mut smtp = Smtp { wire, greeting, extensions: Vec::new() };
        let reply = smtp.command("EHLO client.example.net");
        assert_eq!(reply.code, 250, "EHLO: {}", reply.text);
        smtp.extensions = reply.text.lines().map(str::to_owned).collect();
        smtp
    }

    /// Sends a command and reads its reply.
    #[track_caller]
    pub fn command(&mut self, line: &str) -> Reply {
        self.wire.send(format!("{line}\r\n").as_bytes());
        self.reply()
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.wire.send(bytes);
    }

    /// Reads a reply, which may have several lines.
    #[track_caller]
    pub fn reply(&mut self) -> Reply {
        let mut texts = Vec::new();
        loop {
            let line = self.wire.line();
            let code = line.get(..3).and_then(|digits| digits.parse().ok());
            let code = code.unwrap_or_else(|| panic!("not an SMTP reply: {line}"));
            texts.push(line.get(4..).unwrap_or("").to_owned());
            if line.as_bytes().get(3) != Some(&b'-') {
                return Reply { code, text: texts.join("\n") };
            }
        }
    }

    /// Sends a message to several recipients and returns the last reply: the one to the
    /// message, or the first refusal before it.
    #[track_caller]
    pub fn send(&mut self, from: &str, recipients: &[&str], message: &str) -> Reply {
        let reply = self.command(&format!("MAIL FROM:<{from}>"));
        if reply.code != 250 {
            return reply;
        }
        for recipient in recipients {
            let reply = self.command(&format!("RCPT TO:<{recipient}>"));
            if reply.code != 250 {
                self.command("RSET");
                return reply;
            }
        }
        let reply = self.command("DATA");
        assert_eq!(reply.code, 354, "DATA: {}", reply.text);
        self.wire.send(stuffed(message).as_bytes());
        self.reply()
    }

    /// Like [`Smtp::send`], and the message must be accepted.
    #[track_caller]
    pub fn deliver(&mut self, from: &str, recipients: &[&str], message: &str) {
        let reply = self.send(from, recipients, message);
        assert_eq!(reply.code, 250, "{recipients:?} refused: {}", reply.text);
    }

    /// Has the server broken off, without a word?
    pub fn is_closed(&mut self) -> bool {
        self.wire.is_closed()
    }

    /// Ends the session.
    #[track_caller]
    pub fn quit(mut self) {
        assert_eq!(self.command("QUIT").code, 221);
        self.wire.expect_end();
    }
}

/// A short message with a subject, for the tests that only look for it again.
pub fn mail(subject: &str) -> String {
    format!("From: sender@example.net\r\nTo: somebody\r\nSubject: {subject}\r\n\r\nText of {subject}.\r\n")
}

/// The message with dots doubled at line starts, and the end of data (RFC 5321 4.5.2).
fn stuffed(message: &str) -> String {
    let mut text = String::new();
    for line in message.split_inclusive("\r\n") {
        if line.starts_with('.') {
            text.push('.');
        }
        text.push_str(line);
    }
    text.push_str(".\r\n");
    text
}
