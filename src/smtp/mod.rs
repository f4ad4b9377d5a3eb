//! Receiving mail: the SMTP service (RFC 5321), with IMail's greeting and words.
//!
//! [`command`] is the grammar, [`reply`] the words, [`data`] the message's bytes, [`relay`] and [`lists`] say who may send; the session here ties them together: one command after the other, answers of pipelined commands sent together (RFC 2920).
//!
//! # Failure
//! A session that fails ends alone; a message that got no `250` is not ours.
//!
//! # Limits
//! The constants below; the size of a message by the domain's setting, at most [`MESSAGE_MAX`].

pub mod command;
pub mod data;
pub mod lists;
pub mod relay;
pub mod reply;
#[cfg(test)]
mod tests;

use crate::account::challenge::{challenge, name_and_digest};
use crate::account::{Account, Accounts, LoginError, plain_login_allowed};
use crate::config::Config;
use crate::session::Server;
use crate::session::connection::{Connection, ReadError};
use crate::transport::route::{Routed, Unroutable};
use crate::transport::trace::Origin;
use crate::transport::{Arrival, Recipient, Refusal};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use command::{Bad, Command};
use data::Unstuffer;
use layout::limits::MESSAGE_MAX;
use layout::logline::{Event, Protocol};
use layout::spool::id::ConnectionId;
use reply::text;
use std::sync::Arc;
use std::time::Duration;

/// The longest command line: RFC 5321 asks for 512, real clients send longer parameters.
const LINE_MAX: usize = 2048;
/// The longest line of an authentication exchange (RFC 4954 §4).
const AUTH_LINE_MAX: usize = 12_288;
/// How long a client may be silent (RFC 5321 §4.5.3.2.7).
const COMMAND_PATIENCE: Duration = Duration::from_secs(300);
/// How long for the next piece of a message.
const DATA_PATIENCE: Duration = Duration::from_secs(180);
/// After so many errors the connection ends.
const ERRORS_MAX: u32 = 20;
/// After so many failed logins the connection ends.
const LOGINS_MAX: u32 = 5;
/// The most recipients of a message, whatever the setting: RFC 5321 §4.5.3.1.8 asks for at least 100.
const RECIPIENTS_MAX: usize = 10_000;

/// The most members that EXPN names.
const EXPANDED_MAX: usize = 1000;

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
    account: Option<Account>,
    sender: Option<String>,
    recipients: Vec<Recipient>,
    errors: u32,
    failed_logins: u32,
}

/// Serves one client.
pub async fn session(server: Arc<Server>, mut connection: Connection, submission: bool) {
    let id = match tokio::task::block_in_place(|| server.transport.connection_id()) {
        Ok(id) => id,
        Err(error) => {
            tracing::error!(%error, "no id for a connection: the spool cannot be written");
            connection.answer(format!("{}\r\n", text::NOT_STORED));
            return connection.close().await;
        }
    };
    let mut session = Session {
        server,
        submission,
        id,
        hello: None,
        account: None,
        sender: None,
        recipients: Vec::new(),
        errors: 0,
        failed_logins: 0,
    };
    let (peer, local) = (connection.peer(), connection.local_ip());
    session.log_at(local, &Event::Connect { peer: connection.peer_ip(), port: peer.port() });
    let greeting = greeting(&session.server.live.now(), local);
    connection.answer(format!("{greeting}\r\n"));
    session.run(&mut connection).await;
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
    async fn run(&mut self, connection: &mut Connection) {
        let mut stopping = self.server.stopping();
        loop {
            if connection.waiting().is_empty() && connection.flush().await.is_err() {
                return;
            }
            let line = tokio::select! {
                line = connection.line(LINE_MAX, COMMAND_PATIENCE) => line,
                _ = stopping.wait_for(|stopping| *stopping) => {
                    return connection.answer(format!("{}\r\n", text::STOPPING));
                }
            };
            let line = match line {
                Ok(line) => line,
                Err(ReadError::Slow) => return connection.answer(format!("{}\r\n", text::SLOW)),
                Err(ReadError::TooLong) => return connection.answer(format!("{}\r\n", text::LINE)),
                Err(ReadError::Closed | ReadError::Io(_)) => return,
            };
            let line = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
            match self.command(connection, &line).await {
                Ok(Flow::Go) => {}
                Ok(Flow::End) | Err(_) => return,
            }
            if self.errors > ERRORS_MAX {
                return connection.answer(format!("{}\r\n", text::JUNK));
            }
        }
    }

    async fn command(&mut self, connection: &mut Connection, line: &str) -> Result<Flow, ReadError> {
        let command = match command::parse(line) {
            Ok(command) => command,
            Err(Bad::Web) => {
                self.refuse(connection, text::WEB);
                return Ok(Flow::End);
            }
            Err(bad) => {
                self.log(connection, &Event::Command(Protocol::Smtp, line));
                let answer = match bad {
                    Bad::Unknown | Bad::Web => text::UNKNOWN.to_owned(),
                    Bad::Argument(what) => format!("501 5.5.4 {what}"),
                    Bad::Parameter => text::PARAMETER.to_owned(),
                };
                self.refuse(connection, &answer);
                return Ok(Flow::Go);
            }
        };
        if matches!(command, Command::Hello { .. } | Command::Mail { .. } | Command::Rcpt { .. }) {
            self.log(connection, &Event::Command(Protocol::Smtp, line));
        }
        match command {
            Command::Hello { name, extended } => self.hello(connection, name, extended),
            Command::Mail { sender, size } => self.mail(connection, sender, size),
            Command::Rcpt { recipient } => self.rcpt(connection, recipient),
            Command::Data => return self.data(connection).await,
            Command::Auth { mechanism, initial } => return self.auth(connection, &mechanism, initial).await,
            Command::StartTls => return self.start_tls(connection).await,
            Command::Reset => {
                self.reset();
                connection.answer(format!("{}\r\n", text::RESET));
            }
            Command::Noop => connection.answer(format!("{}\r\n", text::NOOP)),
            Command::Help => connection.answer(format!("{}\r\n", text::HELP)),
            Command::Verify(address) => self.verify(connection, &address),
            Command::Expand(address) => self.expand(connection, &address),
            Command::Quit => {
                connection.answer(format!("{}\r\n", text::GOODBYE));
                return Ok(Flow::End);
            }
        }
        Ok(Flow::Go)
    }

    /// VRFY: says nothing of users unless the admin wants it (RFC 5321 §7.3).
    fn verify(&mut self, connection: &mut Connection, address: &str) {
        let config = self.server.live.now();
        if !config.registry.services.smtp.enable_vrfy {
            return connection.answer(format!("{}\r\n", text::VERIFY));
        }
        let address = whole_address(&config, connection, address);
        match self.look_up(&config, &address) {
            Ok(_) => connection.answer(format!("250 2.1.5 <{address}>\r\n")),
            Err(Refusal::Recipient(_, Unroutable::NotLocal(_))) => {
                connection.answer(format!("{}\r\n", text::VERIFY));
            }
            Err(refusal) => self.refuse(connection, &reply::refusal(&refusal)),
        }
    }

    /// EXPN: who gets mail for an alias, if the admin wants that to be told.
    fn expand(&mut self, connection: &mut Connection, address: &str) {
        let config = self.server.live.now();
        if !config.registry.services.smtp.enable_expn {
            return self.refuse(connection, text::EXPAND);
        }
        let address = whole_address(&config, connection, address);
        let routed = match self.look_up(&config, &address) {
            Ok(found) => found.routed,
            Err(refusal) => return self.refuse(connection, &reply::refusal(&refusal)),
        };
        let users = routed.mailboxes.iter().map(|target| format!("{}@{}", target.user, target.domain));
        let members: Vec<String> = users.chain(routed.remote).take(EXPANDED_MAX).collect();
        let Some((last, others)) = members.split_last() else {
            return self.refuse(connection, text::EXPAND);
        };
        for member in others {
            connection.answer(format!("250-2.1.5 <{member}>\r\n"));
        }
        connection.answer(format!("250 2.1.5 <{last}>\r\n"));
    }

    /// Where mail for an address would go.
    fn look_up(&self, config: &Config, address: &str) -> Result<Recipient, Refusal> {
        tokio::task::block_in_place(|| self.server.transport.recipient(config, address, false))
    }

    fn reset(&mut self) {
        self.sender = None;
        self.recipients.clear();
    }

    /// An error reply: counted, and in the log without its code.
    fn refuse(&mut self, connection: &mut Connection, answer: &str) {
        self.errors += 1;
        let words = answer.splitn(3, ' ').nth(2).unwrap_or(answer);
        self.log(connection, &Event::Refused(words));
        connection.answer(format!("{answer}\r\n"));
    }

    fn hello(&mut self, connection: &mut Connection, name: String, extended: bool) {
        self.reset();
        let config = self.server.live.now();
        let host = config.host_name(connection.local_ip());
        if extended {
            let size = size_max(&config, connection.local_ip()).unwrap_or(0);
            let mut lines = vec![format!("{host} says hello"), format!("SIZE {size}"), "8BITMIME".to_owned()];
            if !connection.is_secure() {
                lines.push("STARTTLS".to_owned());
            }
            lines.extend(["PIPELINING".to_owned(), "ENHANCEDSTATUSCODES".to_owned()]);
            if may_log_in(&config, connection) {
                let digest = if Accounts::knows_passwords(&config) { " CRAM-MD5" } else { "" };
                lines.extend([format!("AUTH LOGIN PLAIN{digest}"), "AUTH=LOGIN".to_owned()]);
            }
            if config.registry.services.smtp.enable_expn {
                lines.push("EXPN".to_owned());
            }
            let last = lines.len() - 1;
            for (index, line) in lines.iter().enumerate() {
                connection.answer(format!("250{}{line}\r\n", if index == last { ' ' } else { '-' }));
            }
        } else {
            connection.answer(format!("250 {host} says hello\r\n"));
        }
        self.hello = Some((name, extended));
    }

    fn mail(&mut self, connection: &mut Connection, sender: String, size: Option<u64>) {
        if self.hello.is_none() || self.sender.is_some() {
            return self.refuse(connection, text::SEQUENCE);
        }
        if self.submission && self.account.is_none() {
            return self.refuse(connection, text::AUTH_REQUIRED);
        }
        let max = size_max(&self.server.live.now(), connection.local_ip()).unwrap_or(MESSAGE_MAX);
        if size.is_some_and(|size| size > max) {
            return self.refuse(connection, text::TOO_LARGE);
        }
        let server = &self.server;
        if self.account.is_none() && server.sender_lists.killed(server.live.now().root()).contains(&sender) {
            self.log(connection, &Event::KillFile { sender: &sender });
            self.errors += 1;
            return connection.answer(format!("{}\r\n", text::KILLED));
        }
        self.sender = Some(sender);
        connection.answer(format!("{}\r\n", text::OK));
    }

    fn rcpt(&mut self, connection: &mut Connection, recipient: String) {
        if self.sender.is_none() {
            return self.refuse(connection, text::SEQUENCE);
        }
        let config = self.server.live.now();
        let max = match config.registry.services.smtp.max_recipients as usize {
            0 => RECIPIENTS_MAX,
            max => max.min(RECIPIENTS_MAX),
        };
        if self.recipients.len() >= max {
            return self.refuse(connection, text::RECIPIENTS);
        }
        let trusted = self.account.is_some();
        let routed =
            tokio::task::block_in_place(|| self.server.transport.recipient(&config, &recipient, trusted));
        let routed = match routed {
            Err(Refusal::Recipient(address, Unroutable::NotLocal(domain)))
                if self.may_relay(connection, &config, &domain) =>
            {
                Ok(Recipient {
                    routed: Routed { remote: vec![address.clone()], ..Routed::default() },
                    address,
                })
            }
            other => other,
        };
        match routed {
            Ok(routed) => {
                self.recipients.push(routed);
                connection.answer(format!("250 2.1.5 ok its for <{recipient}>\r\n"));
            }
            Err(refusal) => self.refuse(connection, &reply::refusal(&refusal)),
        }
    }

    /// Is mail for a domain that is not ours taken from this client?
    fn may_relay(&self, connection: &Connection, config: &Config, domain: &str) -> bool {
        let (server, client) = (&self.server, connection.peer_ip());
        let accepted = server.sender_lists.accepted(config.root());
        let asking = relay::Asking {
            logged_in: self.account.is_some(),
            gateway: server.transport.is_gateway_for(config, domain),
            address_listed: relay::is_listed(config, client),
            sender: relay::standing(config, &accepted, self.sender.as_deref().unwrap_or(""), client),
        };
        relay::may_relay(config.registry.services.smtp.relay_mode, &asking)
    }

    async fn data(&mut self, connection: &mut Connection) -> Result<Flow, ReadError> {
        let Some(sender) = self.sender.clone() else {
            self.refuse(connection, text::SEQUENCE);
            return Ok(Flow::Go);
        };
        if self.recipients.is_empty() {
            self.refuse(connection, text::NO_RECIPIENT);
            return Ok(Flow::Go);
        }
        let transport = &self.server.transport;
        let id = tokio::task::block_in_place(|| transport.message_id(&mut self.id))?;
        connection.answer(format!("{}\r\n", text::DATA));
        connection.flush().await?;

        let config = self.server.live.now();
        let max = size_max(&config, connection.local_ip()).unwrap_or(MESSAGE_MAX);
        let (helo, extended) = self.hello.clone().unwrap_or_default();
        let origin = Origin {
            id,
            helo,
            extended,
            client: connection.peer_ip(),
            host: config.host_name(connection.local_ip()).to_owned(),
            secure: connection.is_secure(),
            authenticated: self.account.is_some(),
            sender,
        };
        let mut incoming = self.server.transport.incoming(origin.clone(), max);
        let mut unstuffer = Unstuffer::default();
        let mut piece = Vec::new();
        loop {
            connection.readable(DATA_PATIENCE).await?;
            let (used, done) = unstuffer.feed(connection.waiting(), &mut piece);
            connection.skip(used);
            // In memory most of the time; a large message goes to the spool, which blocks.
            if incoming.goes_to_disk(piece.len()) {
                tokio::task::block_in_place(|| incoming.write(&piece));
            } else {
                incoming.write(&piece);
            }
            piece.clear();
            if done {
                break;
            }
        }
        let arrival = Arrival {
            origin,
            recipients: std::mem::take(&mut self.recipients),
            account: self.account.as_ref().map(|account| format!("{}@{}", account.id, account.domain)),
        };
        self.sender = None;
        if unstuffer.bare_lf {
            self.refuse(connection, text::BARE_LF);
            return Ok(Flow::Go);
        }
        if unstuffer.long_line {
            self.refuse(connection, text::LONG_LINE);
            return Ok(Flow::Go);
        }
        match self.server.transport.accept(&config, arrival, incoming).await {
            Ok(()) => connection.answer(format!("{}\r\n", text::QUEUED)),
            Err(refusal) => self.refuse(connection, &reply::refusal(&refusal)),
        }
        Ok(Flow::Go)
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
        self.reset();
        self.hello = None;
        self.account = None;
        Ok(Flow::Go)
    }

    async fn auth(
        &mut self,
        connection: &mut Connection,
        mechanism: &str,
        initial: Option<String>,
    ) -> Result<Flow, ReadError> {
        let config = self.server.live.now();
        if self.hello.is_none() || self.account.is_some() || self.sender.is_some() {
            self.refuse(connection, text::SEQUENCE);
            return Ok(Flow::Go);
        }
        if !may_log_in(&config, connection) {
            self.refuse(connection, text::AUTH_PRIVATE);
            return Ok(Flow::Go);
        }
        if mechanism == "CRAM-MD5" && Accounts::knows_passwords(&config) {
            return self.cram_md5(connection, &config).await;
        }
        let offered = match mechanism {
            "PLAIN" => match exchange(connection, "", initial).await? {
                Some(bytes) => plain_credentials(&bytes),
                None => None,
            },
            "LOGIN" => {
                let name = exchange(connection, "VXNlcm5hbWU6", initial).await?;
                match name {
                    Some(name) => exchange(connection, "UGFzc3dvcmQ6", None).await?.and_then(|password| {
                        Some((String::from_utf8(name).ok()?, String::from_utf8(password).ok()?))
                    }),
                    None => None,
                }
            }
            _ => {
                self.refuse(connection, text::AUTH_MECHANISM);
                return Ok(Flow::Go);
            }
        };
        let Some((name, password)) = offered else {
            self.refuse(connection, text::BASE64);
            return Ok(Flow::Go);
        };
        let ends = connection.ends();
        let login = tokio::task::block_in_place(|| self.server.accounts.login(ends, &name, &password, false));
        Ok(self.logged_in(connection, &name, login))
    }

    /// AUTH CRAM-MD5 (RFC 2195).
    async fn cram_md5(&mut self, connection: &mut Connection, config: &Config) -> Result<Flow, ReadError> {
        let host = config.host_name(connection.local_ip());
        let challenge = challenge(host).map_err(std::io::Error::other)?;
        let answer = exchange(connection, &BASE64.encode(&challenge), None).await?;
        let Some((name, digest)) = answer.as_deref().and_then(name_and_digest) else {
            self.refuse(connection, text::BASE64);
            return Ok(Flow::Go);
        };
        let ends = connection.ends();
        let accounts = &self.server.accounts;
        let login = tokio::task::block_in_place(|| {
            accounts.login_cram_md5(ends, &name, challenge.as_bytes(), digest)
        });
        Ok(self.logged_in(connection, &name, login))
    }

    /// Answers a login.
    fn logged_in(
        &mut self,
        connection: &mut Connection,
        name: &str,
        login: Result<Account, LoginError>,
    ) -> Flow {
        match login {
            Ok(account) => {
                tokio::task::block_in_place(|| self.server.accounts.record_login(&account, "SMTP"));
                let user = format!("{}@{}", account.id, account.domain);
                self.log(connection, &Event::Authenticated { user: &user });
                self.account = Some(account);
                connection.answer(format!("{}\r\n", text::AUTHENTICATED));
            }
            Err(LoginError::Unavailable) => self.refuse(connection, text::NOT_STORED),
            Err(LoginError::Refused) => {
                let shown: String = name.chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
                self.log(connection, &Event::AuthenticationFailed { user: &shown });
                self.failed_logins += 1;
                self.errors += 1;
                if self.failed_logins >= LOGINS_MAX {
                    connection.answer(format!("{}\r\n", text::AUTH_ENOUGH));
                    return Flow::End;
                }
                connection.answer(format!("{}\r\n", text::AUTH_FAILED));
            }
        }
        Flow::Go
    }

    fn log(&self, connection: &Connection, event: &Event<'_>) {
        self.log_at(connection.peer_ip(), event);
    }

    fn log_at(&self, address: std::net::IpAddr, event: &Event<'_>) {
        self.server.transport.log(&self.server.live.now(), self.id.id(), address, event);
    }
}

/// An address as VRFY and EXPN give it: with brackets or without, a bare name is of the domain connected to.
fn whole_address(config: &Config, connection: &Connection, address: &str) -> String {
    let address: String = address.chars().filter(|c| c.is_ascii_graphic() && !"<>".contains(*c)).collect();
    match address.contains('@') {
        true => address,
        false => format!("{address}@{}", config.host_name(connection.local_ip())),
    }
}

/// Is a password taken on this connection?
fn may_log_in(config: &Config, connection: &Connection) -> bool {
    connection.is_secure() || plain_login_allowed(config.registry.global.plain_login, connection.peer_ip())
}

/// The largest message that is taken on this address of ours; `None`: no limit of the admin's.
fn size_max(config: &Config, local: std::net::IpAddr) -> Option<u64> {
    let max = config.domain_at(local).map_or(0, |domain| domain.max_message_size);
    (max > 0).then(|| max.min(MESSAGE_MAX))
}

/// Asks with a challenge and reads the answer, unless the client sent it along. `None`: cancelled, or not base64.
async fn exchange(
    connection: &mut Connection,
    challenge: &str,
    initial: Option<String>,
) -> Result<Option<Vec<u8>>, ReadError> {
    let answer = match initial {
        // An empty initial response is written "=" (RFC 4954 section 4).
        Some(initial) if initial == "=" => String::new(),
        Some(initial) => initial,
        None => {
            connection.answer(format!("334 {challenge}\r\n"));
            connection.flush().await?;
            let line = connection.line(AUTH_LINE_MAX, COMMAND_PATIENCE).await?;
            String::from_utf8_lossy(&line).trim().to_owned()
        }
    };
    Ok(BASE64.decode(answer).ok())
}

/// Name and password of SASL PLAIN (RFC 4616); an authorization name must be the same user or empty.
pub(crate) fn plain_credentials(bytes: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut parts = text.split('\0');
    let (authorization, name, password) = (parts.next()?, parts.next()?, parts.next()?);
    let same = authorization.is_empty() || authorization.eq_ignore_ascii_case(name);
    (same && parts.next().is_none()).then(|| (name.to_owned(), password.to_owned()))
}
