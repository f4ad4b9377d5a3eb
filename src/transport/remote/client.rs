//! The client side of SMTP: one connection to another server, one message after the other.
//!
//! Commands are sent together where the server offers PIPELINING (RFC 2920), else one by one. A message is read from its spool file piece by
//! piece while it is sent. Where the server offers STARTTLS (RFC 3207) everything behind it is encrypted.
//!
//! A message with bytes above 127 is sent as it is to servers without 8BITMIME as well. RFC 6152 §3 wants it converted or returned; but
//! practically every server takes such bytes without saying so, converting would break signatures, and returning would lose mail that arrives
//! otherwise.
//!
//! # Failure
//! [`Problem`], for each recipient its own. A connection that broke, or spoke no SMTP, is not used again ([`Client::is_usable`]). When TLS
//! does not come about there is [`Failed::Tls`]: another connection without it may do.
//!
//! # Limits
//! [`RECIPIENTS_MAX`] recipients of one transaction, those of [`super::reply`] and [`super::stuffer`], [`Timeouts`].

use super::dialogue::Dialogue;
use super::reply::{Extensions, Reply};
use super::stream::{Stream, session_name};
use super::stuffer::Stuffer;
use crate::transport::bounce::stage;
use layout::logline::Event;
use layout::mbx::compose::Source;
use layout::mbx::header;
use layout::name::domain_key;
use layout::spool::dsn::{Dsn, MessageDsn, is_envid, is_orcpt};
use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The most recipients of one transaction: what every server must take (RFC 5321 §4.5.3.1.8), and few enough that the replies to commands
/// that were sent together fit into what systems buffer.
pub const RECIPIENTS_MAX: usize = 100;
/// What a server without SMTPUTF8 does not get.
const NO_UTF8: &str =
    "550 5.6.7 the server does not take other than ASCII characters in addresses and headers (SMTPUTF8)";
/// How much of a message is read at once.
const PIECE: usize = 64 << 10;

/// How long the other side may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For the connection itself, and for the TLS handshake (ours; several addresses may have to be tried).
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
    /// Decided here: no server said anything.
    Policy,
}

impl Stage {
    /// The line above the server's reply in a bounce, if a server can have said something.
    pub fn text(self) -> Option<&'static str> {
        match self {
            Stage::Lookup | Stage::Policy => None,
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

/// Somebody who is to get a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct To {
    /// The address.
    pub address: String,
    /// Of what the sender wants to be told.
    pub dsn: Dsn,
}

/// A message to be sent.
#[derive(Clone, Copy)]
pub struct Mail<'a> {
    /// Envelope sender; empty for a bounce.
    pub sender: &'a str,
    /// At most [`RECIPIENTS_MAX`].
    pub recipients: &'a [To],
    /// What the sender wants to be told of the message as a whole.
    pub dsn: &'a MessageDsn,
    /// Did its client say SMTPUTF8 (RFC 6531 §3.4)?
    pub utf8: bool,
    /// Header and body.
    pub source: &'a Source,
}

/// Somebody as a server is told of him.
struct Told<'a> {
    address: Cow<'a, str>,
    dsn: &'a Dsn,
}

impl Mail<'_> {
    /// Does only a server with SMTPUTF8 understand it? What its client said is not enough: many say it of every message.
    fn needs_utf8(&self, recipients: &[Told<'_>]) -> io::Result<bool> {
        if !self.sender.is_ascii() || !recipients.iter().all(|told| told.address.is_ascii()) {
            return Ok(true);
        }
        let head = if self.utf8 { reading(self.source, Source::head)? } else { Vec::new() };
        Ok(!head.get(..header::end(&head).unwrap_or(head.len())).unwrap_or_default().is_ascii())
    }
}

/// A server's yes to a recipient of a message that it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Did it promise to report as the sender wished (RFC 3461)? Otherwise nobody but us can.
    pub dsn: bool,
}

/// What came of the message for one recipient.
pub type Outcome = Result<Taken, Problem>;

/// Whom to connect to, and how.
pub struct Peer<'a> {
    /// Address and port.
    pub address: SocketAddr,
    /// The name under which it was found, or its address.
    pub host: &'a str,
    /// Our name.
    pub name: &'a str,
    /// Its patience.
    pub timeouts: Timeouts,
    /// What makes TLS; without it STARTTLS is not used.
    pub tls: Option<&'a TlsConnector>,
    /// Where the dialogue goes.
    pub dialogue: &'a Dialogue,
}

/// Why there is no connection.
#[derive(Debug)]
pub enum Failed {
    /// The server is not to be had.
    Server(Problem),
    /// STARTTLS was offered and did not come about: a handshake that failed, or a connection that broke in it.
    Tls(io::Error),
}

impl Failed {
    fn io(stage: Stage, address: SocketAddr, error: io::Error) -> Failed {
        Failed::Server(Problem::passing(stage, format!("{address}: {error}")))
    }
}

/// A connection that is ready for mail.
pub struct Client {
    stream: BufReader<Stream>,
    extensions: Extensions,
    timeouts: Timeouts,
    dialogue: Dialogue,
    usable: bool,
    /// Transactions so far.
    used: usize,
}

impl Client {
    /// Connects, waits for the greeting, introduces us with EHLO, else with HELO (RFC 5321 §3.2), and changes to TLS if it can.
    pub async fn connect(peer: Peer<'_>) -> Result<Client, Failed> {
        let Peer { address, timeouts, .. } = peer;
        let stream = within(timeouts.connect, TcpStream::connect(address)).await;
        let stream = stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
        let stream = stream.map_err(|e| Failed::io(Stage::Connect, address, e))?;
        let mut client = Client::over(Stream::Plain(stream), &peer);
        let greeting = client.reply(timeouts.command).await;
        let greeting = greeting.map_err(|e| Failed::io(Stage::Greeting, address, e))?;
        welcome(greeting, Stage::Greeting)?;
        let reply = client.hello(&peer).await.map_err(|e| Failed::io(Stage::Hello, address, e))?;
        welcome(reply, Stage::Hello)?;
        match peer.tls {
            Some(tls) if client.extensions.starttls => client.encrypt(&peer, tls).await,
            _ => Ok(client),
        }
    }

    fn over(stream: Stream, peer: &Peer<'_>) -> Client {
        let (timeouts, dialogue) = (peer.timeouts, peer.dialogue.clone());
        let (extensions, stream) = (Extensions::default(), BufReader::new(stream));
        Client { stream, extensions, timeouts, dialogue, usable: true, used: 0 }
    }

    /// Says who we are, and learns what the server offers.
    async fn hello(&mut self, peer: &Peer<'_>) -> io::Result<Reply> {
        let reply = self.command(&format!("EHLO {}\r\n", peer.name)).await?;
        if reply.is(2) {
            self.extensions = Extensions::parse(&reply.lines);
            return Ok(reply);
        }
        self.command(&format!("HELO {}\r\n", peer.name)).await
    }

    /// Changes to TLS, and begins anew: what was said before may have been said by anybody (RFC 3207 §4.2). A server that offers it and then
    /// has none for us gets its mail in plain text.
    async fn encrypt(mut self, peer: &Peer<'_>, tls: &TlsConnector) -> Result<Client, Failed> {
        let reply = self.command("STARTTLS\r\n").await.map_err(Failed::Tls)?;
        match reply.code {
            220 => {}
            421 => return Err(Failed::Tls(io::Error::other(reply.lines.join(" / ")))),
            _ => return Ok(self),
        }
        // Whatever stands behind the reply came in plain text, and would be taken for a reply under TLS.
        if !self.stream.buffer().is_empty() {
            return Err(Failed::Tls(io::Error::other("the server sent more than its reply to STARTTLS")));
        }
        let Stream::Plain(stream) = self.stream.into_inner() else {
            return Err(Failed::Tls(io::Error::other("the connection is encrypted already")));
        };
        let name = session_name(peer.host, peer.address.ip());
        let stream = within(peer.timeouts.connect, tls.connect(name, stream)).await.map_err(Failed::Tls)?;
        let mut client = Client::over(Stream::Tls(Box::new(stream)), peer);
        let used = client.stream.get_ref().encryption().unwrap_or_default();
        client.dialogue.event(&Event::Note(&format!("TLS {used}")));
        // A server that takes back the handshake shows it only now (RFC 8446 §2: the client finishes first).
        let reply = client.hello(peer).await.map_err(Failed::Tls)?;
        welcome(reply, Stage::Hello)?;
        Ok(client)
    }

    /// From here on the dialogue is about this message.
    pub fn speak_in(&mut self, dialogue: &Dialogue) {
        self.dialogue = dialogue.clone();
    }

    /// May another message be sent?
    pub fn is_usable(&self) -> bool {
        // What a server said unasked would be taken for its reply to the next command.
        self.usable && self.stream.buffer().is_empty()
    }

    /// How many messages were sent, or tried.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Sends a message; answers for each recipient in their order. One that this server cannot be told of does not keep it from the others.
    pub async fn send<'a>(&mut self, mail: Mail<'a>) -> Vec<Outcome> {
        let sender = on_the_wire(mail.sender);
        let mut fit = Vec::with_capacity(mail.recipients.len());
        let told = |to: &'a To| {
            let told = Told { address: on_the_wire(&to.address), dsn: &to.dsn };
            let unfit = self.unfit(&told.address);
            if unfit.is_none() {
                fit.push(told);
            }
            unfit
        };
        let unfit: Vec<Option<Problem>> = mail.recipients.iter().map(told).collect();
        let outcomes = match fit.is_empty() {
            true => Vec::new(),
            false => self.send_to(Mail { sender: &sender, ..mail }, &fit).await,
        };
        let mut outcomes = outcomes.into_iter();
        let missing = || Err(Problem::passing(Stage::Recipient, "not tried"));
        unfit
            .into_iter()
            .map(|unfit| unfit.map_or_else(|| outcomes.next().unwrap_or_else(missing), Err))
            .collect()
    }

    /// Why this server cannot be told of an address.
    fn unfit(&self, address: &str) -> Option<Problem> {
        // Q files are edited by hand; what stands in one must not become a command.
        if address.chars().any(|c| c.is_control() || matches!(c, '<' | '>')) {
            let shown: String = address.chars().filter(|c| !c.is_control()).collect();
            return Some(Problem::lasting(Stage::Policy, format!("553 5.1.3 {shown} is not an address")));
        }
        (!address.is_ascii() && !self.extensions.utf8).then(|| Problem::lasting(Stage::Policy, NO_UTF8))
    }

    async fn send_to(&mut self, mail: Mail<'_>, recipients: &[Told<'_>]) -> Vec<Outcome> {
        self.used += 1;
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(recipients.len());
        let ended = self.transaction(mail, recipients, &mut outcomes).await;
        // What ends a transaction ends it for all who were not refused before.
        if let Err(problem) = ended {
            outcomes.iter_mut().filter(|outcome| outcome.is_ok()).for_each(|o| *o = Err(problem.clone()));
            outcomes.resize(recipients.len(), Err(problem));
        }
        outcomes
    }

    async fn transaction(
        &mut self,
        mail: Mail<'_>,
        recipients: &[Told<'_>],
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), Problem> {
        let commands = self.envelope(&mail, recipients)? + "DATA\r\n";
        if self.extensions.pipelining {
            commands.split_inclusive('\n').for_each(|command| self.dialogue.said(command));
            self.write(commands.as_bytes()).await.map_err(|e| self.lost(Stage::Sender, e))?;
        }
        let mut refused_sender = None;
        for (index, command) in commands.split_inclusive('\n').enumerate() {
            let stage = match index {
                0 => Stage::Sender,
                _ if index > recipients.len() => Stage::Data,
                _ => Stage::Recipient,
            };
            let nobody =
                refused_sender.is_some() || (stage == Stage::Data && !outcomes.iter().any(Result::is_ok));
            if !self.extensions.pipelining {
                if nobody {
                    break;
                }
                self.say(command).await.map_err(|e| self.lost(stage, e))?;
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
                Stage::Recipient => outcomes.push(if reply.is(2) {
                    Ok(Taken { dsn: self.extensions.dsn })
                } else {
                    Err(reply.problem(stage))
                }),
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

    /// MAIL and the RCPTs, a line each, with what the server offers.
    fn envelope(&self, mail: &Mail<'_>, recipients: &[Told<'_>]) -> Result<String, Problem> {
        if let Some(problem) = self.unfit(mail.sender) {
            return Err(problem);
        }
        let utf8 = mail.needs_utf8(recipients).map_err(|error| Problem::passing(Stage::Policy, error))?;
        let offered = self.extensions;
        if utf8 && !offered.utf8 {
            return Err(Problem::lasting(Stage::Policy, NO_UTF8));
        }
        let wishes = offered.dsn.then_some(mail.dsn);
        let envid = wishes.map(|dsn| dsn.envid.as_str()).filter(|envid| is_envid(envid));
        let parameters = [
            offered.size.then(|| format!(" SIZE={}", mail.source.len())),
            offered.eight_bit.then(|| " BODY=8BITMIME".to_owned()),
            utf8.then(|| " SMTPUTF8".to_owned()),
            wishes.and_then(|dsn| dsn.ret).map(|ret| format!(" RET={}", ret.text())),
            envid.map(|envid| format!(" ENVID={envid}")),
        ];
        let parameters: String = parameters.into_iter().flatten().collect();
        let mut commands = format!("MAIL FROM:<{}>{parameters}\r\n", mail.sender);
        recipients.iter().for_each(|told| commands.push_str(&rcpt(told, offered.dsn, utf8)));
        Ok(commands)
    }

    /// Ends a DATA that nobody is to get: the commands were sent together, and the server took this one.
    async fn nothing(&mut self) -> Result<(), Problem> {
        self.write(b".\r\n").await.map_err(|e| self.lost(Stage::Body, e))?;
        self.reply(self.timeouts.end).await.map(drop).map_err(|e| self.lost(Stage::Body, e))
    }

    async fn body(&mut self, source: &Source) -> Result<(), Problem> {
        let (mut stuffer, mut at, mut out) = (Stuffer::default(), 0, Vec::new());
        while at < source.len() {
            let piece = match reading(source, |source| source.read(at, PIECE)) {
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
        self.say(line).await?;
        self.reply(self.timeouts.command).await
    }

    async fn say(&mut self, line: &str) -> io::Result<()> {
        self.dialogue.said(line);
        self.write(line.as_bytes()).await
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream = &mut self.stream;
        let write = async {
            stream.write_all(bytes).await?;
            stream.flush().await
        };
        within(self.timeouts.block, write).await
    }

    async fn reply(&mut self, timeout: Duration) -> io::Result<Reply> {
        let reply = within(timeout, Reply::read(&mut self.stream)).await?;
        self.dialogue.heard(&reply.lines);
        Ok(reply)
    }
}

/// An address as servers are told: one that needs SMTPUTF8 for nothing but its domain does without, since the domain has an ASCII name too.
fn on_the_wire(address: &str) -> Cow<'_, str> {
    match address.rsplit_once('@') {
        Some((local, domain)) if local.is_ascii() && !domain.is_ascii() => {
            Cow::Owned(format!("{local}@{}", domain_key(domain)))
        }
        _ => Cow::Borrowed(address),
    }
}

/// Another of the domain's servers may take what this one refuses as a whole, so this is never for ever.
fn welcome(reply: Reply, stage: Stage) -> Result<(), Failed> {
    match reply.is(2) {
        true => Ok(()),
        false => Err(Failed::Server(Problem { permanent: false, ..reply.problem(stage) })),
    }
}

/// RCPT. An ORCPT of other than ASCII characters can only go where SMTPUTF8 is spoken (RFC 6533 §3).
fn rcpt(told: &Told<'_>, dsn: bool, utf8: bool) -> String {
    let Told { address, dsn: wishes } = told;
    let notify = wishes.notify.map(|notify| format!(" NOTIFY={notify}"));
    let original = wishes.original.as_deref().filter(|text| is_orcpt(text) && (utf8 || text.is_ascii()));
    let original = original.map(|original| format!(" ORCPT={original}"));
    let parameters: String = [notify, original].into_iter().flatten().filter(|_| dsn).collect();
    format!("RCPT TO:<{address}>{parameters}\r\n")
}

/// Reads from a message: what is in memory at once, what is in a file where that may take its time.
fn reading<T>(source: &Source, read: impl FnOnce(&Source) -> T) -> T {
    match source {
        Source::Bytes(_) => read(source),
        Source::File(..) => tokio::task::block_in_place(|| read(source)),
    }
}

async fn within<T>(time: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
    tokio::time::timeout(time, work).await.map_err(late)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use layout::spool::dsn::Notify;

    #[test]
    fn wishes_are_handed_on() {
        let to = |notify: &str, original: Option<&str>| To {
            address: "a@b".into(),
            dsn: Dsn {
                notify: Notify::parse(notify),
                original: original.map(str::to_owned),
                delay_told: false,
            },
        };
        for (to, dsn, utf8, expected) in [
            (to("", None), true, false, "RCPT TO:<a@b>\r\n"),
            (to("NEVER", None), true, false, "RCPT TO:<a@b> NOTIFY=NEVER\r\n"),
            (to("NEVER", None), false, false, "RCPT TO:<a@b>\r\n"),
            (
                to("DELAY", Some("rfc822;x+2By@z")),
                true,
                false,
                "RCPT TO:<a@b> NOTIFY=DELAY ORCPT=rfc822;x+2By@z\r\n",
            ),
            // A Q file may have been edited.
            (to("", Some("rfc822;x BODY=y")), true, false, "RCPT TO:<a@b>\r\n"),
            (to("", Some("utf-8;\u{3042}@z")), true, false, "RCPT TO:<a@b>\r\n"),
            (to("", Some("utf-8;\u{3042}@z")), true, true, "RCPT TO:<a@b> ORCPT=utf-8;\u{3042}@z\r\n"),
        ] {
            let told = Told { address: on_the_wire(&to.address), dsn: &to.dsn };
            assert_eq!(rcpt(&told, dsn, utf8), expected);
        }
    }

    #[test]
    fn who_needs_utf8() {
        let mail = |sender: &'static str, utf8, text: &str| {
            let source = Source::Bytes(text.as_bytes().into());
            let dsn = MessageDsn::default();
            Mail { sender, recipients: &[], dsn: &dsn, utf8, source: &source }.needs_utf8(&[]).unwrap()
        };
        assert!(mail("\u{e9}@x", false, ""));
        assert!(mail("e@x", true, "Subject: \u{e9}\r\n\r\n"));
        // Raw bytes in headers are older than SMTPUTF8: they pass as they always did.
        assert!(!mail("e@x", false, "Subject: \u{e9}\r\n\r\n"));
        assert!(!mail("e@x", true, "Subject: e\r\n\r\n\u{e9}"));
    }
}
