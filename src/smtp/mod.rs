//! Receiving mail: the SMTP service (RFC 5321), with IMail's greeting and words.
//!
//! [`command`] and [`parameters`] are the grammar, [`reply`] the words, [`data`] the message's bytes; [`relay`], [`lists`] and [`limits`] say who may send. The session here
//! takes one command after the other and sends the answers of pipelined ones together (RFC 2920); its parts are in `transaction` (MAIL, RCPT), `receive` (DATA, BDAT), `login` (AUTH)
//! and `inquiry` (VRFY, EXPN, ETRN).
//!
//! # Failure
//! A session that fails ends alone; a message that got no `250` is not ours.
//!
//! # Limits
//! The constants below; the size of a message by the domain's setting, at most [`MESSAGE_MAX`].

pub mod command;
pub mod data;
mod inquiry;
pub mod limits;
pub mod lists;
mod login;
pub mod parameters;
mod receive;
pub mod relay;
pub mod reply;
#[cfg(test)]
mod tests;
mod transaction;

use crate::account::Accounts;
use crate::config::Config;
use crate::session::Server;
use crate::session::connection::{Connection, ReadError};
use command::{Bad, Command};
use layout::limits::MESSAGE_MAX;
use layout::logline::{Event, Protocol};
use layout::spool::id::ConnectionId;
use login::{Login, may_log_in};
use reply::text;
use std::sync::Arc;
use std::time::Duration;
use transaction::Transaction;

/// The longest command line: RFC 5321 asks for 512, real clients send longer parameters.
const LINE_MAX: usize = 2048;
/// How long a client may be silent (RFC 5321 §4.5.3.2.7).
const COMMAND_PATIENCE: Duration = Duration::from_secs(300);
/// After so many errors since the last message the connection ends.
const ERRORS_MAX: u32 = 20;
/// Commands that bring no message on its way, since the last one; each beyond counts as an error. Clients that keep a connection open say NOOP now and then.
const IDLE_COMMANDS_MAX: u32 = 100;
/// The log's words for a client that is gone.
const LOST: &str = "the client is gone";
/// The same for one that says nothing.
const SLOW: &str = "the client was silent for too long";

/// What to do after a command.
enum Flow {
    Go,
    End,
}

struct Session {
    server: Arc<Server>,
    /// Port 587: nothing without a login.
    submission: bool,
    id: ConnectionId,
    hello: Option<(String, bool)>,
    login: Option<Login>,
    transaction: Option<Transaction>,
    errors: u32,
    idle_commands: u32,
    failed_logins: u32,
}

/// Serves one client.
pub async fn session(server: Arc<Server>, mut connection: Connection, submission: bool) {
    let id = match tokio::task::block_in_place(|| server.transport.connection_id()) {
        Ok(id) => id,
        Err(error) => {
            tracing::error!(%error, "no id for a connection: the spool cannot be written");
            server
                .log
                .note(&format!("SMTP clients are sent away, since the spool cannot be written: {error}"));
            connection.answer(format!("{}\r\n", text::NO_SPOOL));
            return connection.close().await;
        }
    };
    let mut session = Session {
        server,
        submission,
        id,
        hello: None,
        login: None,
        transaction: None,
        errors: 0,
        idle_commands: 0,
        failed_logins: 0,
    };
    let (peer, local) = (connection.peer(), connection.local_ip());
    session.log_at(local, &Event::Connect { peer: connection.peer_ip(), port: peer.port() });
    session.log_tls(&connection);
    session.log_replies(&mut connection);
    let greeting = greeting(&session.server.live.now(), local);
    connection.answer(format!("{greeting}\r\n"));
    let end = session.run(&mut connection).await;
    session.log_replies(&mut connection);
    end.iter().for_each(|why| session.log(&connection, &Event::Disconnect(why)));
    connection.close().await;
}

/// `220 <host> (IMail 12 1-1) NT-ESMTP Server X1` (manual 6-1-2), or the admin's text behind the host.
fn greeting(config: &Config, local: std::net::IpAddr) -> String {
    let host = config.host_name(local);
    match &config.registry.services.smtpd.hello_message {
        Some(text) => format!("220 {host} {text}"),
        None => format!("220 {host} (IMail 12 1-1) NT-ESMTP Server X1"),
    }
}

impl Session {
    /// Answers with the reason if the session ended otherwise than by the client's goodbye.
    async fn run(&mut self, connection: &mut Connection) -> Option<&'static str> {
        let mut stopping = connection.stopping();
        loop {
            self.log_replies(connection);
            // Whoever sends commands together reads the answers when he has sent them all, but not if he never stops.
            let sent = match connection.has_line() {
                true => connection.flush_if_large().await,
                false => connection.flush().await,
            };
            if sent.is_err() {
                return Some(LOST);
            }
            let line = tokio::select! {
                line = connection.line(LINE_MAX, COMMAND_PATIENCE) => line,
                _ = stopping.wait_for(|stopping| *stopping) => {
                    connection.answer(format!("{}\r\n", text::STOPPING));
                    return Some("the server is stopping");
                }
            };
            let (answer, why) = match line {
                Ok(line) => {
                    let line = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
                    match self.command(connection, &line).await {
                        Ok(Flow::Go) if self.errors > ERRORS_MAX => (text::JUNK, "too many errors"),
                        Ok(Flow::Go) => continue,
                        Ok(Flow::End) => return None,
                        Err(ReadError::Slow) => (text::SLOW, SLOW),
                        Err(_) => return Some(LOST),
                    }
                }
                Err(ReadError::Slow) => (text::SLOW, SLOW),
                Err(ReadError::TooLong) => (text::LINE, "the line is too long"),
                Err(ReadError::Closed | ReadError::Io(_)) => return Some(LOST),
            };
            connection.answer(format!("{answer}\r\n"));
            return Some(why);
        }
    }

    /// With Debug Messages, what was replied since the last look.
    fn log_replies(&self, connection: &mut Connection) {
        for line in connection.take_said(self.debug_messages()) {
            self.log(connection, &Event::Said(&line));
        }
    }

    fn debug_messages(&self) -> bool {
        self.server.live.now().registry.services.smtpd.debug_messages
    }

    fn log_tls(&self, connection: &Connection) {
        connection.tls().iter().for_each(|text| self.log(connection, &Event::Tls(text)));
    }

    async fn command(&mut self, connection: &mut Connection, line: &str) -> Result<Flow, ReadError> {
        let command = match command::parse(line) {
            Ok(command) => command,
            Err(Bad::Web) => {
                self.refuse(connection, text::WEB);
                return Ok(Flow::End);
            }
            Err(bad) => {
                match bad {
                    // It may be the password that a client sends although AUTH was refused.
                    Bad::Unknown => self.log(connection, &Event::Note("a command that is none")),
                    _ => self.log(connection, &Event::Command(Protocol::Smtp, line)),
                }
                self.refuse(connection, &reply::bad(bad));
                return Ok(if bad == Bad::Chunk { Flow::End } else { Flow::Go });
            }
        };
        let always = matches!(
            command,
            Command::Hello { .. } | Command::Mail(_) | Command::Rcpt(_) | Command::Retry(_)
        );
        if always || self.debug_messages() {
            self.log(connection, &Event::Command(Protocol::Smtp, line));
        }
        if is_idle(&command) {
            self.idle_commands += 1;
            self.errors += u32::from(self.idle_commands > IDLE_COMMANDS_MAX);
        }
        match command {
            Command::Hello { name, extended } => self.hello(connection, name, extended),
            Command::Mail(mail) => self.mail(connection, mail),
            Command::Rcpt(rcpt) => self.rcpt(connection, rcpt).await,
            Command::Data => return self.data(connection).await,
            Command::Chunk { size, last } => return self.chunk(connection, size, last).await,
            Command::Auth { mechanism, initial } => return self.auth(connection, &mechanism, initial).await,
            Command::StartTls => return self.start_tls(connection).await,
            Command::Reset => {
                self.transaction = None;
                connection.answer(format!("{}\r\n", text::RESET));
            }
            Command::Noop => connection.answer(format!("{}\r\n", text::NOOP)),
            Command::Help => connection.answer(format!("{}\r\n", text::HELP)),
            Command::Verify(address) => self.verify(connection, &address),
            Command::Expand(address) => self.expand(connection, &address),
            Command::Retry(node) => self.retry(connection, &node),
            Command::Quit => {
                connection.answer(format!("{}\r\n", text::GOODBYE));
                return Ok(Flow::End);
            }
        }
        Ok(Flow::Go)
    }

    /// An error reply: counted, and in the log without its code.
    pub(super) fn refuse(&mut self, connection: &mut Connection, answer: &str) {
        self.errors += 1;
        let words = answer.splitn(3, ' ').nth(2).unwrap_or(answer);
        self.log(connection, &Event::Refused(words));
        connection.answer(format!("{answer}\r\n"));
    }

    fn hello(&mut self, connection: &mut Connection, name: String, extended: bool) {
        self.transaction = None;
        let config = self.server.live.now();
        let host = config.host_name(connection.local_ip());
        let mut lines = vec![format!("{host} says hello")];
        if extended {
            lines.extend(extensions(&config, connection));
        }
        let last = lines.len() - 1;
        for (index, line) in lines.iter().enumerate() {
            connection.answer(format!("250{}{line}\r\n", if index == last { ' ' } else { '-' }));
        }
        self.hello = Some((name, extended));
    }

    /// Begins TLS; everything that was said before is forgotten (RFC 3207 §4.2).
    async fn start_tls(&mut self, connection: &mut Connection) -> Result<Flow, ReadError> {
        if connection.is_secure() {
            self.refuse(connection, text::IN_TLS);
            return Ok(Flow::Go);
        }
        connection.answer(format!("{}\r\n", text::START_TLS));
        if let Err(error) = connection.start_tls(&self.server.tls).await {
            self.log(connection, &Event::Refused(&format!("TLS failed: {error}")));
            return Ok(Flow::End);
        }
        self.log_tls(connection);
        (self.transaction, self.hello, self.login) = (None, None, None);
        Ok(Flow::Go)
    }

    pub(super) fn log(&self, connection: &Connection, event: &Event<'_>) {
        self.log_at(connection.peer_ip(), event);
    }

    fn log_at(&self, address: std::net::IpAddr, event: &Event<'_>) {
        self.server.transport.log(&self.server.live.now(), self.id.id(), address, event);
    }
}

/// Does a command do nothing for a message?
fn is_idle(command: &Command) -> bool {
    use Command::{Expand, Hello, Help, Noop, Reset, Retry, Verify};
    matches!(command, Hello { .. } | Reset | Noop | Help | Verify(_) | Expand(_) | Retry(_))
}

/// The largest message that is taken on this address of ours; `None`: no limit of the admin's.
fn size_max(config: &Config, local: std::net::IpAddr) -> Option<u64> {
    let max = config.domain_at(local).map_or(0, |domain| domain.max_message_size);
    (max > 0).then(|| max.min(MESSAGE_MAX))
}

/// What EHLO offers, in the order of a session of IMail 8.15, with STARTTLS and what is newer behind ETRN.
fn extensions(config: &Config, connection: &Connection) -> Vec<String> {
    let size = size_max(config, connection.local_ip()).unwrap_or(0);
    let mut lines = vec![format!("SIZE {size}")];
    lines.extend(["8BITMIME", "DSN", "ETRN"].map(str::to_owned));
    if !connection.is_secure() {
        lines.push("STARTTLS".to_owned());
    }
    lines.extend(["PIPELINING", "ENHANCEDSTATUSCODES", "CHUNKING", "SMTPUTF8"].map(str::to_owned));
    if may_log_in(config, connection) {
        let digest = if Accounts::knows_passwords(config) { " CRAM-MD5" } else { "" };
        lines.extend([format!("AUTH LOGIN PLAIN{digest}"), "AUTH=LOGIN".to_owned()]);
    }
    if config.registry.services.smtp.enable_expn {
        lines.push("EXPN".to_owned());
    }
    lines
}
