//! The client side of SMTP: one connection to another server, one message after the other.
//!
//! Commands are sent together where the server offers PIPELINING (RFC 2920), else one by one. A message is read from its spool file piece by
//! piece while it is sent.
//!
//! # Failure
//! [`Problem`], for each recipient its own. A connection that broke, or spoke no SMTP, is not used again ([`Client::is_usable`]).
//!
//! # Limits
//! [`RECIPIENTS_MAX`] recipients of one transaction, [`REPLY_LINES_MAX`] lines of [`REPLY_LINE_MAX`] bytes of a reply, [`Timeouts`].

use crate::transport::bounce::stage;
use layout::mbx::compose::Source;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// The most recipients of one transaction: what every server must take (RFC 5321 §4.5.3.1.8), and few enough that the replies to commands
/// that were sent together fit into what systems buffer.
pub const RECIPIENTS_MAX: usize = 100;
/// The most lines of a reply.
pub const REPLY_LINES_MAX: usize = 100;
/// The longest line of a reply, in bytes (RFC 5321 §4.5.3.1.5 allows 512; servers write more).
pub const REPLY_LINE_MAX: u64 = 4096;
/// How much of a message is read at once.
const PIECE: usize = 64 << 10;

/// How long the other side may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For the connection itself (ours; several addresses may have to be tried).
    pub connect: Duration,
    /// For the greeting and for replies to commands (RFC 5321 §4.5.3.2.1 to 3).
    pub command: Duration,
    /// For the reply to DATA (RFC 5321 §4.5.3.2.4).
    pub data: Duration,
    /// For taking a piece of the message (RFC 5321 §4.5.3.2.5).
    pub block: Duration,
    /// For the reply to the message (RFC 5321 §4.5.3.2.6).
    pub end: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(30),
            command: Duration::from_secs(300),
            data: Duration::from_secs(120),
            block: Duration::from_secs(180),
            end: Duration::from_secs(600),
        }
    }
}

/// How far an attempt came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Looking for the server.
    Lookup,
    /// Connecting.
    Connect,
    /// The server's first line.
    Greeting,
    /// EHLO or HELO.
    Hello,
    /// MAIL.
    Sender,
    /// RCPT.
    Recipient,
    /// DATA.
    Data,
    /// The message itself.
    Body,
}

impl Stage {
    /// The line above the server's reply in a bounce, if a server can have said something.
    pub fn text(self) -> Option<&'static str> {
        match self {
            Stage::Lookup => None,
            Stage::Connect => Some(stage::CONNECT),
            Stage::Greeting => Some(stage::GREETING),
            Stage::Hello => Some(stage::HELLO),
            Stage::Sender => Some(stage::MAIL_FROM),
            Stage::Recipient => Some(stage::RCPT_TO),
            Stage::Data => Some(stage::DATA),
            Stage::Body => Some(stage::BODY),
        }
    }
}

/// Why a recipient did not get the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How far it came.
    pub stage: Stage,
    /// Is there no sense in trying again?
    pub permanent: bool,
    /// The server's reply with its codes, or what happened in our words.
    pub lines: Vec<String>,
}

impl Problem {
    /// Something that may be over at the next try.
    pub fn passing(stage: Stage, text: impl fmt::Display) -> Problem {
        Problem { stage, permanent: false, lines: vec![text.to_string()] }
    }

    /// Something that stays as it is.
    pub fn lasting(stage: Stage, text: impl fmt::Display) -> Problem {
        Problem { stage, permanent: true, lines: vec![text.to_string()] }
    }
}

/// A server's reply.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reply {
    code: u16,
    lines: Vec<String>,
}

impl Reply {
    fn is(&self, class: u16) -> bool {
        self.code / 100 == class
    }

    /// Only 5xx is for ever (RFC 5321 §4.2.1).
    fn problem(self, stage: Stage) -> Problem {
        Problem { stage, permanent: self.is(5), lines: self.lines }
    }
}

/// What the server offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Extensions {
    pipelining: bool,
    size: bool,
    eight_bit: bool,
    utf8: bool,
}

impl Extensions {
    /// From the reply to EHLO; its first line is the server's name.
    fn parse(lines: &[String]) -> Extensions {
        let words = lines.iter().skip(1).filter_map(|line| line.get(4..)?.split_ascii_whitespace().next());
        words.fold(Extensions::default(), |mut found, word| {
            match word.to_ascii_uppercase().as_str() {
                "PIPELINING" => found.pipelining = true,
                "SIZE" => found.size = true,
                "8BITMIME" => found.eight_bit = true,
                "SMTPUTF8" => found.utf8 = true,
                _ => {}
            }
            found
        })
    }
}

/// A message to be sent.
#[derive(Clone, Copy)]
pub struct Mail<'a> {
    /// Envelope sender; empty for a bounce.
    pub sender: &'a str,
    /// At most [`RECIPIENTS_MAX`]; more are not tried.
    pub recipients: &'a [String],
    /// Header and body.
    pub source: &'a Source,
}

/// A connection that is ready for mail.
pub struct Client {
    stream: BufReader<TcpStream>,
    extensions: Extensions,
    timeouts: Timeouts,
    usable: bool,
    /// Transactions so far.
    used: usize,
}

impl Client {
    /// Connects, waits for the greeting and introduces us as `name`: with EHLO, else with HELO (RFC 5321 §3.2).
    pub async fn connect(address: SocketAddr, name: &str, timeouts: Timeouts) -> Result<Client, Problem> {
        let failed = |stage, error: io::Error| Problem::passing(stage, format!("{address}: {error}"));
        let stream = within(timeouts.connect, TcpStream::connect(address));
        let stream = stream.await.map_err(|e| failed(Stage::Connect, e))?;
        stream.set_nodelay(true).map_err(|e| failed(Stage::Connect, e))?;
        let (extensions, stream) = (Extensions::default(), BufReader::new(stream));
        let mut client = Client { stream, extensions, timeouts, usable: true, used: 0 };
        let greeting = client.reply(timeouts.command).await.map_err(|e| failed(Stage::Greeting, e))?;
        // Another of the domain's servers may take what this one refuses as a whole, so this is never for ever.
        if !greeting.is(2) {
            return Err(Problem { permanent: false, ..greeting.problem(Stage::Greeting) });
        }
        client.hello(name).await
    }

    async fn hello(mut self, name: &str) -> Result<Client, Problem> {
        let lost = |error| Problem::passing(Stage::Hello, format!("connection lost: {error}"));
        let reply = self.command(&format!("EHLO {name}\r\n")).await.map_err(lost)?;
        if reply.is(2) {
            self.extensions = Extensions::parse(&reply.lines);
            return Ok(self);
        }
        match self.command(&format!("HELO {name}\r\n")).await.map_err(lost)? {
            reply if reply.is(2) => Ok(self),
            reply => Err(Problem { permanent: false, ..reply.problem(Stage::Hello) }),
        }
    }

    /// May another message be sent?
    pub fn is_usable(&self) -> bool {
        self.usable
    }

    /// How many messages were sent, or tried.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Sends a message; answers for each recipient in their order.
    pub async fn send(&mut self, mail: Mail<'_>) -> Vec<Result<(), Problem>> {
        self.used += 1;
        let mut outcomes: Vec<Result<(), Problem>> = Vec::with_capacity(mail.recipients.len());
        let ended = self.transaction(mail, &mut outcomes).await;
        // What ends a transaction ends it for all who were not refused before.
        if let Err(problem) = ended {
            outcomes.iter_mut().filter(|outcome| outcome.is_ok()).for_each(|o| *o = Err(problem.clone()));
            outcomes.resize(mail.recipients.len(), Err(problem));
        }
        outcomes.resize(mail.recipients.len(), Err(Problem::passing(Stage::Recipient, "not tried")));
        outcomes
    }

    async fn transaction(
        &mut self,
        mail: Mail<'_>,
        outcomes: &mut Vec<Result<(), Problem>>,
    ) -> Result<(), Problem> {
        let mut commands = vec![self.mail_command(&mail)?];
        let recipients = mail.recipients.iter().take(RECIPIENTS_MAX);
        commands.extend(recipients.map(|address| format!("RCPT TO:<{address}>\r\n")));
        commands.push("DATA\r\n".to_owned());
        let last = commands.len() - 1;
        if self.extensions.pipelining {
            let all = commands.concat();
            self.write(all.as_bytes()).await.map_err(|e| self.lost(Stage::Sender, e))?;
        }
        let mut refused_sender = None;
        for (index, command) in commands.iter().enumerate() {
            let stage = match index {
                0 => Stage::Sender,
                _ if index == last => Stage::Data,
                _ => Stage::Recipient,
            };
            let nobody = refused_sender.is_some() || (index == last && !outcomes.iter().any(Result::is_ok));
            if !self.extensions.pipelining {
                if nobody {
                    break;
                }
                self.write(command.as_bytes()).await.map_err(|e| self.lost(stage, e))?;
            }
            let timeout = if stage == Stage::Data { self.timeouts.data } else { self.timeouts.command };
            let reply = self.reply(timeout).await.map_err(|e| self.lost(stage, e))?;
            // The server is about to close the connection (RFC 5321 §3.8).
            if reply.code == 421 {
                self.usable = false;
                return Err(reply.problem(stage));
            }
            match stage {
                Stage::Sender if !reply.is(2) => refused_sender = Some(reply.problem(stage)),
                Stage::Recipient => {
                    outcomes.push(if reply.is(2) { Ok(()) } else { Err(reply.problem(stage)) })
                }
                Stage::Data if reply.code == 354 && nobody => self.nothing().await?,
                Stage::Data if reply.code == 354 => return self.body(mail.source).await,
                Stage::Data if !nobody => {
                    self.reset().await;
                    return Err(reply.problem(stage));
                }
                _ => {}
            }
        }
        self.reset().await;
        match refused_sender {
            Some(problem) => {
                // What RCPT was answered without a sender says nothing.
                outcomes.clear();
                Err(problem)
            }
            None => Ok(()),
        }
    }

    /// MAIL with what the server offers.
    fn mail_command(&self, mail: &Mail<'_>) -> Result<String, Problem> {
        let addresses = || mail.recipients.iter().map(String::as_str).chain([mail.sender]);
        // Q files are edited by hand; what stands in one must not become a command.
        if let Some(bad) = addresses().find(|a| a.chars().any(|c| c.is_control() || matches!(c, '<' | '>'))) {
            let shown: String = bad.chars().filter(|c| !c.is_control()).collect();
            return Err(Problem::lasting(Stage::Sender, format!("{shown} is not an address")));
        }
        let utf8 = addresses().any(|address| !address.is_ascii());
        if utf8 && !self.extensions.utf8 {
            let text = "the server does not take addresses with other than ASCII characters (SMTPUTF8)";
            return Err(Problem::lasting(Stage::Sender, text));
        }
        let mut command = format!("MAIL FROM:<{}>", mail.sender);
        if self.extensions.size {
            command.push_str(&format!(" SIZE={}", mail.source.len()));
        }
        if self.extensions.eight_bit {
            command.push_str(" BODY=8BITMIME");
        }
        if utf8 {
            command.push_str(" SMTPUTF8");
        }
        Ok(command + "\r\n")
    }

    /// Ends a DATA that nobody is to get: the commands were sent together, and the server took this one.
    async fn nothing(&mut self) -> Result<(), Problem> {
        self.write(b".\r\n").await.map_err(|e| self.lost(Stage::Body, e))?;
        self.reply(self.timeouts.end).await.map(drop).map_err(|e| self.lost(Stage::Body, e))
    }

    async fn body(&mut self, source: &Source) -> Result<(), Problem> {
        let (mut stuffer, mut at, mut out) = (Stuffer::default(), 0, Vec::with_capacity(PIECE + 1024));
        while at < source.len() {
            let piece = match source {
                Source::Bytes(_) => source.read(at, PIECE),
                Source::File(..) => tokio::task::block_in_place(|| source.read(at, PIECE)),
            };
            let piece = match piece {
                Ok(piece) if !piece.is_empty() => piece,
                // The end is never sent, so the server throws away what it has.
                Ok(_) => return Err(self.lost(Stage::Body, io::ErrorKind::UnexpectedEof.into())),
                Err(error) => return Err(self.lost(Stage::Body, error)),
            };
            at += piece.len() as u64;
            stuffer.feed(&piece, &mut out);
            if out.len() >= PIECE {
                self.write(&out).await.map_err(|e| self.lost(Stage::Body, e))?;
                out.clear();
            }
        }
        stuffer.end(&mut out);
        self.write(&out).await.map_err(|e| self.lost(Stage::Body, e))?;
        match self.reply(self.timeouts.end).await.map_err(|e| self.lost(Stage::Body, e))? {
            reply if reply.is(2) => Ok(()),
            reply => {
                self.usable &= reply.code != 421;
                Err(reply.problem(Stage::Body))
            }
        }
    }

    /// Forgets a transaction that came to nothing.
    async fn reset(&mut self) {
        let reply = self.command("RSET\r\n").await;
        self.usable &= reply.is_ok_and(|reply| reply.is(2));
    }

    /// Says good-bye, without waiting for the answer.
    pub async fn quit(mut self) {
        if self.usable {
            let _ = self.write(b"QUIT\r\n").await;
        }
    }

    fn lost(&mut self, stage: Stage, error: io::Error) -> Problem {
        self.usable = false;
        Problem::passing(stage, format!("connection lost: {error}"))
    }

    async fn command(&mut self, line: &str) -> io::Result<Reply> {
        self.write(line.as_bytes()).await?;
        self.reply(self.timeouts.command).await
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        within(self.timeouts.block, self.stream.write_all(bytes)).await
    }

    async fn reply(&mut self, timeout: Duration) -> io::Result<Reply> {
        within(timeout, read_reply(&mut self.stream)).await
    }
}

async fn within<T>(time: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
    tokio::time::timeout(time, work).await.map_err(late)?
}

async fn read_reply(stream: &mut BufReader<TcpStream>) -> io::Result<Reply> {
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "the server does not speak SMTP");
    let mut lines = Vec::new();
    while lines.len() < REPLY_LINES_MAX {
        let mut line = Vec::new();
        (&mut *stream).take(REPLY_LINE_MAX).read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
        }
        let text = String::from_utf8_lossy(line.strip_suffix(b"\n").ok_or_else(odd)?).into_owned();
        let text = text.trim_end_matches('\r').to_owned();
        let code = text.get(..3).and_then(|digits| digits.parse::<u16>().ok()).ok_or_else(odd)?;
        let more = text.as_bytes().get(3) == Some(&b'-');
        lines.push(text);
        if !more {
            return Ok(Reply { code, lines });
        }
    }
    Err(odd())
}

/// Doubles dots at line starts (RFC 5321 §4.5.2), and makes every line end CRLF: a lone CR or LF, which messages that somebody put into the
/// spool may have, is read as a line end by some servers and not by others (smuggling).
#[derive(Debug)]
struct Stuffer {
    line_start: bool,
    carriage_return: bool,
}

impl Default for Stuffer {
    fn default() -> Stuffer {
        Stuffer { line_start: true, carriage_return: false }
    }
}

impl Stuffer {
    fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        while let Some(&first) = rest.first() {
            if first == b'\n' || self.carriage_return {
                out.extend_from_slice(b"\r\n");
                (self.line_start, self.carriage_return) = (true, false);
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
                continue;
            }
            if self.line_start && first == b'.' {
                out.push(b'.');
            }
            let end = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
            let (text, after) = rest.split_at(end);
            out.extend_from_slice(text);
            self.line_start &= text.is_empty();
            self.carriage_return = after.first() == Some(&b'\r');
            rest = after.strip_prefix(b"\r").unwrap_or(after);
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if self.carriage_return || !self.line_start {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stuffed(pieces: &[&[u8]]) -> String {
        let (mut stuffer, mut out) = (Stuffer::default(), Vec::new());
        pieces.iter().for_each(|piece| stuffer.feed(piece, &mut out));
        stuffer.end(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn messages_on_the_wire() {
        for (pieces, expected) in [
            (&[b"a\r\nb\r\n" as &[u8]] as &[&[u8]], "a\r\nb\r\n.\r\n"),
            (&[b"a"], "a\r\n.\r\n"),
            (&[], ".\r\n"),
            (&[b".\r\n..\r\nx.\r\n"], "..\r\n...\r\nx.\r\n.\r\n"),
            (&[b"a\n.\nb\r.\r\nc\r"], "a\r\n..\r\nb\r\n..\r\nc\r\n.\r\n"),
            (&[b"a\r", b"\n", b".", b"b\r\n"], "a\r\n..b\r\n.\r\n"),
            (&[b"\r\n\r\n\n\r"], "\r\n\r\n\r\n\r\n.\r\n"),
            (&[b"a\r", b".b"], "a\r\n..b\r\n.\r\n"),
        ] {
            assert_eq!(stuffed(pieces), expected, "{pieces:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn where_pieces_end_does_not_matter(bytes in "[a.\r\n]{0,40}", cut in 0usize..40) {
            let bytes = bytes.as_bytes();
            let (left, right) = bytes.split_at(cut.min(bytes.len()));
            let whole = stuffed(&[bytes]);
            prop_assert_eq!(&stuffed(&[left, right]), &whole);
            // The end of the data shows only at the end.
            prop_assert_eq!(format!("\r\n{whole}").find("\r\n.\r\n"), Some(whole.len() - 3));
        }
    }

    #[test]
    fn what_servers_offer() {
        let lines =
            ["250-mx.example.net", "250-PIPELINING", "250-size 1000", "250 8bitmime"].map(str::to_owned);
        let offered = Extensions { pipelining: true, size: true, eight_bit: true, utf8: false };
        assert_eq!(Extensions::parse(&lines), offered);
        assert_eq!(Extensions::parse(&["250 PIPELINING".to_owned()]), Extensions::default());
    }
}
