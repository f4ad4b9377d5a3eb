//! One client, from the greeting to the end.
//!
//! Answers gather while the client's next command is already there, and go out together (RFC 2449 §6.6). Messages that went out
//! count as read; the marks are written together when the client pauses.
//!
//! # Failure
//! [`End`].

use super::command::{Command, CommandError, Mail, Mechanism};
use super::drop::Maildrop;
use super::transaction::{self, Dotted, Listing};
use crate::account::challenge::{challenge, name_and_digest};
use crate::account::{Account, Accounts, LoginError, plain_login_allowed, split_login};
use crate::session::Server;
use crate::session::connection::{Connection, ReadError, Stopping};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use layout::logline::{Event, Protocol, Tag};
use layout::mailbox::MailboxError;
use layout::name::SpoolId;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::block_in_place;

/// The longest command line with its line end, in bytes: IMail takes a longer one for an attack (manual of its POP3 service).
pub const LINE_MAX: usize = 512;
/// How long a client may be silent (RFC 1939 §3 wants ten minutes at least).
pub const IDLE_MAX: Duration = Duration::from_secs(600);
/// How long a client may take to log in: RFC 1939's ten minutes are for its users, and strangers must not hold connections.
pub const LOGIN_WITHIN: Duration = Duration::from_secs(60);
/// So many failed logins end a session.
pub const FAILED_LOGINS_MAX: u32 = 5;
/// So many lines without sense, one after the other, end a session.
pub const JUNK_MAX: u32 = 10;
/// Sent messages are marked read when the client is silent for so long ...
const PAUSE: Duration = Duration::from_millis(200);
/// ... or when there are so many of them.
const MARK_AT: usize = 256;
/// How long a mark waits for a mailbox that another program holds, while the client waits too.
const MARK_PATIENCE: Duration = Duration::from_millis(20);
/// How long the last marks of a session wait.
const LAST_PATIENCE: Duration = Duration::from_secs(2);
/// So much of a login name goes into the log.
const LOGGED_NAME_MAX: usize = 128;

/// Why a session ended.
#[derive(Debug)]
pub enum End {
    /// The client said goodbye.
    Quit,
    /// The client was silent for too long.
    Idle,
    /// The client did not log in in time.
    Stranger,
    /// The client sent a line that is too long.
    LineTooLong,
    /// The client guessed too often.
    FailedLogins,
    /// The client does not speak POP3.
    Junk,
    /// The server stops.
    Stopping,
    /// The connection broke.
    Lost,
}

impl End {
    /// The last words. What QUIT is answered with depends on what was deleted.
    fn farewell(&self) -> &'static str {
        match self {
            End::Quit | End::Lost => "",
            End::Idle => "-ERR nothing came for ten minutes; the session ends and nothing was deleted\r\n",
            End::Stranger => "-ERR nobody logged in within a minute\r\n",
            End::LineTooLong => "-ERR the line is too long\r\n",
            End::FailedLogins => "-ERR too many failed logins\r\n",
            End::Junk => "-ERR too many unknown commands\r\n",
            End::Stopping => {
                "-ERR [SYS/TEMP] the server stops; nothing was deleted, connect again in a minute\r\n"
            }
        }
    }
}

impl From<ReadError> for End {
    fn from(error: ReadError) -> End {
        match error {
            ReadError::Slow => End::Idle,
            ReadError::TooLong => End::LineTooLong,
            ReadError::Closed | ReadError::Io(_) => End::Lost,
        }
    }
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> End {
        End::Lost
    }
}

/// The states of RFC 1939 §3; UPDATE is what QUIT does.
enum State {
    /// Nobody is logged in; the name that USER gave.
    Authorization(Option<String>),
    /// Somebody is.
    Transaction(Box<Login>),
}

struct Login {
    account: Account,
    drop: Maildrop,
    deleted: usize,
}

struct Session {
    server: Arc<Server>,
    connection: Connection,
    stopping: Stopping,
    id: SpoolId,
    state: State,
    /// What an APOP login must be an answer to, if the greeting offered it.
    apop: Option<String>,
    failed_logins: u32,
    junk: u32,
    login_until: Instant,
    /// The client said that it reads UTF-8. Messages are the same without: their headers stay as they came, as IMail leaves them, and
    /// there is nothing that could be told instead (RFC 6856 §2.1 lets servers choose).
    utf8: bool,
}

/// Serves one client.
pub async fn session(server: Arc<Server>, connection: Connection) {
    session_within(server, connection, LOGIN_WITHIN).await;
}

/// Serves one client, who must log in within this time.
pub(super) async fn session_within(server: Arc<Server>, connection: Connection, login_within: Duration) {
    let (stopping, id) = (connection.stopping(), server.connection_id());
    let state = State::Authorization(None);
    let login_until = Instant::now() + login_within;
    let (apop, failed_logins, junk, utf8) = (None, 0, 0, false);
    let mut session =
        Session { server, connection, stopping, id, state, apop, failed_logins, junk, login_until, utf8 };
    session.log_tls();
    session.log_reply();
    session.greet();
    let end = loop {
        session.log_reply();
        if let Err(end) = session.step().await {
            break end;
        }
    };
    session.finish(end).await;
}

impl Session {
    /// The manual's line (6-1-2), letter for letter, or the admin's text.
    fn greet(&mut self) {
        let (local, peer) = (self.connection.local_ip(), self.connection.peer());
        let port = peer.port();
        self.log(local, &Event::Connect { peer: self.connection.peer_ip(), port });
        let config = self.server.live.now();
        let text = match &config.registry.services.pop3d.hello_message {
            Some(text) => one_line(text),
            None => format!("X1 NT-POP3 Server {} (IMail 12 1-1)", config.host_name(local)),
        };
        if config.registry.services.enable_apop && Accounts::knows_passwords(&config) {
            self.apop = challenge(config.host_name(local)).ok();
        }
        let challenge = self.apop.as_ref().map_or_else(String::new, |challenge| format!(" {challenge}"));
        self.connection.answer(format!("+OK {text}{challenge}\r\n"));
    }

    /// One command, or all commands on messages that wait.
    async fn step(&mut self) -> Result<(), End> {
        let line = self.line().await?;
        let command = match Command::parse(&line) {
            Ok(command) => command,
            Err(error) => return self.refuse_junk(error),
        };
        if self.connection.keeps_said() {
            let event = Event::Command(Protocol::Pop3, &String::from_utf8_lossy(&line));
            self.log(self.connection.peer_ip(), &event);
        }
        self.junk = 0;
        let authorized = matches!(self.state, State::Transaction(_));
        match command {
            Command::Quit => return Err(self.quit().await),
            Command::Capa => self.capa(),
            Command::Mail(command) => self.mail(command).await?,
            _ if authorized => self.connection.answer("-ERR you are logged in already\r\n"),
            Command::Stls if self.utf8 => self.connection.answer("-ERR STLS comes before UTF8\r\n"),
            Command::Stls => self.start_tls().await?,
            Command::Utf8 => {
                self.utf8 = true;
                self.connection.answer("+OK messages are sent as they are\r\n");
            }
            _ if !self.may_log_in() => self.connection.answer(
                "-ERR from this address a login needs TLS (STARTTLS), which this connection does not have\r\n",
            ),
            Command::User(name) => {
                self.state = State::Authorization(Some(name));
                self.connection.answer("+OK send your password\r\n");
            }
            Command::Pass(password) => match std::mem::replace(&mut self.state, State::Authorization(None)) {
                State::Authorization(Some(name)) => self.log_in(&name, &password)?,
                _ => self.connection.answer("-ERR USER comes first\r\n"),
            },
            Command::AuthList => {
                let list = self.mechanisms().join("\r\n");
                self.connection.answer(format!("+OK\r\n{list}\r\n.\r\n"));
            }
            Command::Apop(name, digest) => self.log_in_by_apop(&name, digest)?,
            Command::Auth(mechanism, initial) => self.auth(mechanism, initial).await?,
        }
        Ok(())
    }

    /// Begins TLS; what was said before is forgotten (RFC 2595 §4).
    async fn start_tls(&mut self) -> Result<(), End> {
        if self.connection.is_secure() {
            self.connection.answer("-ERR TLS is active already\r\n");
            return Ok(());
        }
        self.connection.answer("+OK begin TLS now\r\n");
        self.state = State::Authorization(None);
        if let Err(error) = self.connection.start_tls(&self.server.tls).await {
            self.log(self.connection.peer_ip(), &Event::Note(&format!("TLS failed: {error}")));
            return Err(End::Lost);
        }
        self.log_tls();
        Ok(())
    }

    fn refuse_junk(&mut self, error: CommandError) -> Result<(), End> {
        self.junk += 1;
        if self.junk >= JUNK_MAX {
            return Err(End::Junk);
        }
        self.connection.answer(format!("-ERR {error}\r\n"));
        Ok(())
    }

    /// The SASL mechanisms that can work here.
    fn mechanisms(&self) -> &'static [&'static str] {
        match Accounts::knows_passwords(&self.server.live.now()) {
            true => &["PLAIN", "LOGIN", "CRAM-MD5"],
            false => &["PLAIN", "LOGIN"],
        }
    }

    fn may_log_in(&self) -> bool {
        let from = self.server.live.now().registry.global.plain_login;
        self.connection.is_secure() || plain_login_allowed(from, self.connection.peer_ip())
    }

    /// RFC 2449. Logins are offered only where they are taken.
    fn capa(&mut self) {
        let logins = match self.may_log_in() {
            true => format!("USER\r\nSASL {}\r\n", self.mechanisms().join(" ")),
            false => String::new(),
        };
        let tls = if self.connection.is_secure() { "" } else { "STLS\r\n" };
        self.connection.answer(format!(
            "+OK\r\nTOP\r\nUIDL\r\n{tls}{logins}PIPELINING\r\nUTF8\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nIMPLEMENTATION imaild\r\n.\r\n"
        ));
    }

    /// The next line. What was answered goes out before we wait for it.
    async fn line(&mut self) -> Result<Vec<u8>, End> {
        if memchr::memchr(b'\n', self.connection.waiting()).is_none() {
            self.connection.flush().await?;
            self.mark_what_was_sent().await;
        }
        if *self.stopping.borrow() {
            return Err(End::Stopping);
        }
        let patience = match self.state {
            State::Transaction(_) => IDLE_MAX,
            State::Authorization(_) => self.login_until.saturating_duration_since(Instant::now()),
        };
        if patience.is_zero() {
            return Err(End::Stranger);
        }
        tokio::select! {
            line = self.connection.line(LINE_MAX, patience) => match line {
                Err(ReadError::Slow) if patience < IDLE_MAX => Err(End::Stranger),
                line => Ok(line?),
            },
            _ = self.stopping.wait_for(|stopping| *stopping) => Err(End::Stopping),
        }
    }

    /// Marks messages read once they were sent: many at a time, for a client that goes on at once does not wait for marks.
    async fn mark_what_was_sent(&mut self) {
        let State::Transaction(login) = &mut self.state else { return };
        let count = login.drop.note_sent();
        let due = count >= MARK_AT
            || count > 0 && matches!(self.connection.readable(PAUSE).await, Err(ReadError::Slow));
        if due {
            block_in_place(|| login.drop.mark_read(MARK_PATIENCE));
        }
    }

    /// Answers a command on messages, and all such commands that wait behind it.
    async fn mail(&mut self, command: Mail) -> Result<(), End> {
        let State::Transaction(login) = &mut self.state else {
            self.connection.answer("-ERR log in first\r\n");
            return Ok(());
        };
        let connection = &mut self.connection;
        let mut next = Some(command);
        while let Some(command) = next {
            login.answer(command, connection).await?;
            connection.flush_if_large().await?;
            // Each has its own line in the log, if that is to have them.
            let waiting = if connection.keeps_said() { None } else { waiting_mail(connection.waiting()) };
            next = waiting.map(|(command, length)| {
                connection.skip(length);
                command
            });
        }
        Ok(())
    }

    /// Asks for SASL responses and logs in (RFC 5034).
    async fn auth(&mut self, mechanism: Mechanism, initial: Option<Vec<u8>>) -> Result<(), End> {
        let credentials = match mechanism {
            Mechanism::Plain => {
                let response = self.response("", initial).await?;
                response.and_then(|response| plain_credentials(&response))
            }
            Mechanism::Login => {
                let name = self.response("Username:", initial).await?;
                match name {
                    Some(name) => self.response("Password:", None).await?.map(|password| (name, password)),
                    None => None,
                }
            }
            Mechanism::CramMd5 => return self.cram_md5().await,
        };
        match credentials {
            Some((name, password)) => self.log_in(&name, &password),
            None => self.failed_login("the response was cancelled or is not valid"),
        }
    }

    async fn cram_md5(&mut self) -> Result<(), End> {
        let config = self.server.live.now();
        if !Accounts::knows_passwords(&config) {
            return self.refuse_junk(CommandError::Mechanism);
        }
        let host = config.host_name(self.connection.local_ip());
        let challenge = challenge(host).map_err(io::Error::other)?;
        let response = self.response(&challenge, None).await?;
        match response.and_then(|response| name_and_digest(response.as_bytes())) {
            Some((name, digest)) => {
                let (accounts, ends) = (&self.server.accounts, self.connection.ends());
                let login =
                    block_in_place(|| accounts.login_cram_md5(ends, &name, challenge.as_bytes(), digest));
                self.logged_in(&name, login)
            }
            None => self.failed_login("the response was cancelled or is not valid"),
        }
    }

    fn log_in_by_apop(&mut self, name: &str, digest: [u8; 16]) -> Result<(), End> {
        let Some(challenge) = &self.apop else {
            self.connection.answer("-ERR APOP is not offered here\r\n");
            return Ok(());
        };
        let (accounts, ends) = (&self.server.accounts, self.connection.ends());
        let login = block_in_place(|| accounts.login_apop(ends, name, challenge.as_bytes(), digest));
        self.logged_in(name, login)
    }

    /// The client's response to a prompt; `None` if it is none.
    async fn response(&mut self, prompt: &str, initial: Option<Vec<u8>>) -> Result<Option<String>, End> {
        let line = match initial {
            // An initial response without content (RFC 5034 §4).
            Some(initial) if initial == b"=" => Vec::new(),
            Some(initial) => initial,
            None => {
                self.connection.answer(format!("+ {}\r\n", STANDARD.encode(prompt)));
                self.line().await?
            }
        };
        let line = line.trim_ascii();
        if line.eq_ignore_ascii_case(b"quit") {
            return Err(self.quit().await);
        }
        Ok(STANDARD.decode(line).ok().and_then(|bytes| String::from_utf8(bytes).ok()))
    }

    fn log_in(&mut self, name: &str, password: &str) -> Result<(), End> {
        let (server, ends) = (&self.server, self.connection.ends());
        let login = block_in_place(|| server.accounts.login(ends, name, password, true));
        self.logged_in(name, login)
    }

    fn logged_in(&mut self, name: &str, login: Result<Account, LoginError>) -> Result<(), End> {
        let (local, peer) = (self.connection.local_ip(), self.connection.peer_ip());
        match login {
            Ok(account) => {
                self.log(peer, &Event::Logon { user: account.id.as_str(), domain: &account.domain, peer });
                self.enter(account);
                Ok(())
            }
            Err(error) => {
                let config = self.server.live.now();
                let (user, domain) = split_login(name, &config.registry.global.host_delimiters);
                let domain = domain.unwrap_or(config.host_name(local));
                self.log(peer, &Event::LogonFailed { user: &word(user), domain: &word(domain), peer });
                self.refuse_login(&error)
            }
        }
    }

    fn refuse_login(&mut self, error: &LoginError) -> Result<(), End> {
        match error {
            LoginError::Unavailable => {
                self.connection.answer(
                    "-ERR [SYS/PERM] this account has no directory on the server; the administrator has to look at it\r\n",
                );
                Ok(())
            }
            LoginError::Refused => self.failed_login("[AUTH] the name or the password is wrong"),
        }
    }

    fn failed_login(&mut self, reason: &str) -> Result<(), End> {
        self.failed_logins += 1;
        if self.failed_logins >= FAILED_LOGINS_MAX {
            return Err(End::FailedLogins);
        }
        self.connection.answer(format!("-ERR {reason}\r\n"));
        Ok(())
    }

    /// Takes the view of the user's mailbox. If that does not work the client may try again.
    fn enter(&mut self, account: Account) {
        let server = &self.server;
        let opened = block_in_place(|| {
            server.accounts.record_login(&account, "POP3");
            Maildrop::open(server.hub.open(&account.dir, &account.mailbox))
        });
        match opened {
            Ok(drop) => {
                transaction::summary(&drop, self.connection.answering());
                self.state = State::Transaction(Box::new(Login { account, drop, deleted: 0 }));
            }
            Err(error) => {
                tracing::warn!(user = %account.id, %error, "a mailbox could not be opened for POP3");
                self.connection.answer(format!("-ERR {}\r\n", transaction::reason(&error)));
            }
        }
    }

    /// The UPDATE state: removes what is marked, or nothing. Messages that could not even be sent stay.
    async fn quit(&mut self) -> End {
        if self.connection.flush().await.is_err() {
            return End::Lost;
        }
        let State::Transaction(login) = &mut self.state else {
            self.connection.answer("+OK goodbye\r\n");
            return End::Quit;
        };
        login.drop.note_sent();
        let removed = block_in_place(|| {
            let removed = login.drop.expunge();
            login.drop.mark_read(MARK_PATIENCE);
            removed
        });
        match removed {
            Ok(count) => {
                login.deleted = count;
                self.connection.answer(format!("+OK goodbye, {count} messages deleted\r\n"));
            }
            Err(error) => {
                tracing::warn!(user = %login.account.id, %error, "messages could not be deleted");
                let reason = transaction::reason(&error);
                self.connection.answer(format!("-ERR {reason}; nothing was deleted\r\n"));
            }
        }
        End::Quit
    }

    /// Sends what is left, marks what was sent, says goodbye.
    async fn finish(mut self, end: End) {
        self.connection.answer(end.farewell());
        self.log_reply();
        let flushed = self.connection.flush().await.is_ok() && !matches!(end, End::Lost);
        if let State::Transaction(login) = &mut self.state {
            if flushed {
                login.drop.note_sent();
            }
            block_in_place(|| login.drop.mark_read(LAST_PATIENCE));
            let (user, retrieved, deleted) =
                (login.account.id.clone(), login.drop.retrieved(), login.deleted);
            let event =
                Event::Logoff { user: user.as_str(), retrieved: retrieved as u64, deleted: deleted as u64 };
            self.log(self.connection.peer_ip(), &event);
        }
        self.connection.close().await;
    }

    /// With Debug Messages, the first line that the last command was answered with.
    fn log_reply(&mut self) {
        let debug = self.server.live.now().registry.services.pop3d.debug_messages;
        let said = self.connection.take_said(debug);
        said.first().into_iter().for_each(|line| self.log(self.connection.peer_ip(), &Event::Said(line)));
    }

    fn log_tls(&self) {
        let peer = self.connection.peer_ip();
        self.connection.tls().iter().for_each(|text| self.log(peer, &Event::Tls(text)));
    }

    /// A line of the day's log, if the service logs there.
    fn log(&self, address: std::net::IpAddr, event: &Event<'_>) {
        let to = self.server.live.now().registry.services.pop3d.log_to;
        self.server.log.event(to, Tag::Pop3d, self.id, Some(address), event);
    }
}

impl Login {
    async fn answer(&mut self, command: Mail, connection: &mut Connection) -> Result<(), End> {
        if matches!(command, Mail::Uidl(_))
            && self.drop.needs_uidl()
            && let Err(error) = block_in_place(|| self.drop.prepare_uidl())
        {
            transaction::refuse(&error, connection.answering());
            return Ok(());
        }
        match command {
            Mail::Retr(number) => self.send(number, None, connection).await,
            Mail::Top(number, lines) => self.send(number, Some(lines), connection).await,
            Mail::List(None) => self.list(Listing::Sizes, connection).await,
            Mail::Uidl(None) => self.list(Listing::Ids, connection).await,
            command => {
                transaction::answer(&mut self.drop, command, connection.answering());
                Ok(())
            }
        }
    }

    async fn list(&self, listing: Listing, connection: &mut Connection) -> Result<(), End> {
        listing.begin(&self.drop, connection.answering());
        for first in (0..self.drop.count()).step_by(transaction::LINES) {
            listing.lines(&self.drop, first, connection.answering());
            connection.flush_if_large().await?;
        }
        connection.answer(".\r\n");
        Ok(())
    }

    /// Sends a message, or its begin.
    async fn send(
        &mut self,
        number: u32,
        lines: Option<u32>,
        connection: &mut Connection,
    ) -> Result<(), End> {
        let Some(index) = self.drop.find(number) else {
            transaction::refuse(&MailboxError::Gone, connection.answering());
            return Ok(());
        };
        let content = match self.drop.glance(index, lines) {
            Some(content) => Ok(content),
            None => block_in_place(|| self.drop.content(index, lines)),
        };
        let mut content = match content {
            Ok(content) => content,
            Err(error) => {
                transaction::refuse(&error, connection.answering());
                return Ok(());
            }
        };
        connection.answer(match lines {
            None => format!("+OK {} octets\r\n", self.drop.size(index)),
            Some(_) => "+OK\r\n".to_owned(),
        });
        let mut dotted = Dotted::default();
        loop {
            let piece = if content.is_ready() {
                content.next_piece()
            } else {
                block_in_place(|| content.next_piece())
            };
            // The client was promised the rest: if it cannot be read the connection ends.
            let Some(piece) = piece.map_err(|_| End::Lost)? else { break };
            dotted.push(&piece, connection.answering());
            connection.flush_if_large().await?;
        }
        dotted.finish(connection.answering());
        if lines.is_none() {
            self.drop.note_answered(index);
        }
        Ok(())
    }
}

/// The command on messages that the waiting bytes begin with, and the length of its line.
fn waiting_mail(waiting: &[u8]) -> Option<(Mail, usize)> {
    let length = memchr::memchr(b'\n', waiting)? + 1;
    if length > LINE_MAX {
        return None;
    }
    match Command::parse(waiting.get(..length)?) {
        Ok(Command::Mail(command)) => Some((command, length)),
        _ => None,
    }
}

/// Name and password of a PLAIN response (RFC 4616). To act for somebody else is not offered.
fn plain_credentials(response: &str) -> Option<(String, String)> {
    let mut parts = response.split('\0');
    let (acting, name, password) = (parts.next()?, parts.next()?, parts.next()?);
    let own = acting.is_empty() || acting.eq_ignore_ascii_case(name);
    (own && parts.next().is_none()).then(|| (name.to_owned(), password.to_owned()))
}

/// An admin's text as one line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A foreign name as one word of a log line.
fn word(name: &str) -> String {
    let printable = |c: char| if c.is_control() || c.is_whitespace() { '?' } else { c };
    name.chars().take(LOGGED_NAME_MAX).map(printable).collect()
}
