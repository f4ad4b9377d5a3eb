//! One client's session: its state, and which command may come when (RFC 3501 §3).
//!
//! Commands run one after the other, as plain blocking code that gathers its answer; between them the session waits without buffers. After each
//! command the client is told what changed in its mailbox.
//!
//! # Failure
//! A mistake of the client is answered `BAD`, what cannot be done `NO`; the session ends by `BYE` when its limits are reached.
//!
//! # Limits
//! [`LOGIN_WITHIN`], [`IDLE_FOR`], [`STRANGER_COMMANDS_MAX`], [`MISTAKES_MAX`], [`FAILURES_MAX`], and those of [`super::wire`].

use super::command::{Command, Numbering, Request};
use super::fetch::Fetch;
use super::outcome::{Failed, Outcome, done};
use super::sync::{Enabled, GLANCE, News, View};
use super::wire::{self, Unread};
use super::{parse, reply};
use crate::account::{Account, plain_login_allowed};
use crate::config::Config;
use crate::memory;
use crate::session::Server;
use crate::session::connection::{Blocking, Connection, ReadError, Stopping};
use layout::limits::RETURNABLE_MAILBOX_MAX;
use layout::logline::{Event, Protocol, Tag};
use layout::name::SpoolId;
use std::io::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::block_in_place;
use tokio::time::Instant;

/// Pieces of more messages than this are worth being given back: some megabytes.
const MESSAGES_AT_HAND: usize = 20_000;
/// How long a client may take to log in.
pub const LOGIN_WITHIN: Duration = Duration::from_secs(60);
/// How long a client may be silent (RFC 3501 §5.4 asks for at least this).
pub const IDLE_FOR: Duration = Duration::from_secs(30 * 60);
/// The most commands before a login.
pub const STRANGER_COMMANDS_MAX: u32 = 50;
/// The most commands that are none: beyond that it is no IMAP4 client.
pub const MISTAKES_MAX: u32 = 10;
/// Failed logins that end the connection.
pub const FAILURES_MAX: u32 = 5;

/// What a client is told whose time is over.
pub(super) const TOO_SLOW: &str = "you were silent for too long";

/// When a command may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Always,
    Stranger,
    User,
    Selected,
}

fn phase(command: &Command) -> Phase {
    match command {
        Command::Capability | Command::Noop | Command::Logout | Command::Id(_) => Phase::Always,
        Command::Starttls | Command::Authenticate { .. } | Command::Login { .. } => Phase::Stranger,
        Command::Compress(_)
        | Command::Enable(_)
        | Command::Select { .. }
        | Command::Create { .. }
        | Command::Delete(_)
        | Command::Rename { .. }
        | Command::Subscribe(_)
        | Command::Unsubscribe(_)
        | Command::List(_)
        | Command::Lsub(_)
        | Command::Namespace
        | Command::Status { .. }
        | Command::GetQuota(_)
        | Command::GetQuotaRoot(_)
        | Command::SetQuota
        | Command::Append { .. }
        | Command::Idle => Phase::User,
        Command::Check
        | Command::Close
        | Command::Unselect
        | Command::Expunge
        | Command::UidExpunge(_)
        | Command::Search(_)
        | Command::Sort { .. }
        | Command::Thread { .. }
        | Command::Fetch { .. }
        | Command::Store(_)
        | Command::Copy { .. }
        | Command::Move { .. } => Phase::Selected,
    }
}

/// May the client be told of removals behind this command? Not where it names messages by numbers that it sent before it knew
/// (RFC 3501 §7.4.1).
fn may_expunge(command: &Command) -> bool {
    let numbering = match command {
        Command::Fetch { numbering, .. } => *numbering,
        Command::Store(store) => store.numbering,
        Command::Search(search) | Command::Sort { search, .. } | Command::Thread { search, .. } => {
            search.numbering
        }
        _ => return true,
    };
    numbering == Numbering::Uid
}

/// A session.
pub struct Session {
    pub(super) server: Arc<Server>,
    pub(super) peer: IpAddr,
    pub(super) local: IpAddr,
    /// Is the connection encrypted?
    pub(super) secure: bool,
    id: SpoolId,
    pub(super) account: Option<Account>,
    pub(super) view: Option<View>,
    pub(super) enabled: Enabled,
    /// Is what goes over the connection compressed?
    pub(super) compressed: bool,
    /// A part that could not be decoded was asked for.
    pub(super) unknown_encoding: bool,
    /// Tag of the command that is performed.
    pub(super) tag: String,
    pub(super) failures: u32,
    /// Messages that were read whole.
    pub(super) retrieved: u64,
    /// Messages that were removed.
    pub(super) deleted: u64,
    commands: u32,
    mistakes: u32,
    /// When a client that is not logged in is sent away.
    pub(super) login_until: Instant,
    stopping: Stopping,
}

/// Serves one client.
pub async fn session(server: Arc<Server>, connection: Connection) {
    session_within(server, connection, LOGIN_WITHIN).await;
}

/// Serves one client, who must log in within this time.
pub(super) async fn session_within(server: Arc<Server>, mut connection: Connection, login_within: Duration) {
    let mut session = Session {
        id: server.connection_id(),
        peer: connection.peer_ip(),
        local: connection.local_ip(),
        secure: connection.is_secure(),
        account: None,
        view: None,
        enabled: Enabled::default(),
        compressed: false,
        unknown_encoding: false,
        tag: String::new(),
        failures: 0,
        retrieved: 0,
        deleted: 0,
        commands: 0,
        mistakes: 0,
        login_until: Instant::now() + login_within,
        stopping: connection.stopping(),
        server,
    };
    session.log(&Event::Connect { peer: session.peer, port: connection.peer().port() });
    session.log_tls(&connection);
    session.log_reply(&mut connection);
    session.greet(&mut connection);
    let end = session.serve(&mut connection).await;
    if let End::Bye(why) = end {
        connection.answer(format!("* BYE {why}\r\n"));
    }
    session.log_reply(&mut connection);
    if let Some(account) = &session.account {
        let (retrieved, deleted) = (session.retrieved, session.deleted);
        session.log(&Event::Logoff { user: account.id.as_str(), retrieved, deleted });
    }
    drop(session);
    connection.close().await;
}

/// Why a session ended.
enum End {
    /// The client knows.
    Silent,
    /// The client is told.
    Bye(&'static str),
}

impl From<Unread> for End {
    fn from(unread: Unread) -> End {
        match unread {
            Unread::Lost(why) => End::Bye(why),
            Unread::Connection(ReadError::Slow) => End::Bye(TOO_SLOW),
            Unread::Refused(_) | Unread::Connection(_) => End::Silent,
        }
    }
}

impl Session {
    fn greet(&self, connection: &mut Connection) {
        /// The longest text of an administrator's own greeting (IMail 12 help: 400 characters).
        const HELLO_MAX: usize = 400;
        let config = self.config();
        let hello = config.registry.services.imapd.hello_message.as_deref().filter(|text| !text.is_empty());
        // The manual's line (6-1-2), which clients and scanners know the product by.
        let text = hello.unwrap_or("IMAP4 Server (IMail 12)");
        let text: String = text.chars().take(HELLO_MAX).collect();
        let mut line = b"* OK ".to_vec();
        reply::text(&mut line, &text);
        line.extend_from_slice(b"\r\n");
        connection.answer(line);
    }

    /// The configuration in force.
    pub(super) fn config(&self) -> Arc<Config> {
        self.server.live.now()
    }

    /// A line for the log. The bracket holds our own address on the first line, else the client's, as IMail has it.
    pub(super) fn log(&self, event: &Event<'_>) {
        let address = if matches!(event, Event::Connect { .. }) { self.local } else { self.peer };
        let to = self.config().registry.services.imapd.log_to;
        self.server.log.event(to, Tag::Imap4d, self.id, Some(address), event);
    }

    /// With Debug Messages, the line that ended the last command. What came before it is what the client asked for.
    fn log_reply(&self, connection: &mut Connection) {
        let debug = self.config().registry.services.imapd.debug_messages;
        connection.take_said(debug).last().into_iter().for_each(|line| self.log(&Event::Said(line)));
    }

    fn log_tls(&self, connection: &Connection) {
        connection.tls().iter().for_each(|text| self.log(&Event::Tls(text)));
    }

    /// Is a login without TLS taken from this client?
    pub(super) fn may_log_in(&self) -> bool {
        self.secure || plain_login_allowed(self.config().registry.global.plain_login, self.peer)
    }

    async fn serve(&mut self, connection: &mut Connection) -> End {
        loop {
            self.log_reply(connection);
            // Answers to commands that came together go out together.
            if memchr::memchr(b'\n', connection.waiting()).is_none() && connection.flush().await.is_err() {
                return End::Silent;
            }
            let deadline = if self.account.is_some() { Instant::now() + IDLE_FOR } else { self.login_until };
            // What a stranger sends without a pause must not keep the connection either.
            if wire::left(deadline).is_zero() {
                return End::Bye(TOO_SLOW);
            }
            let incoming = tokio::select! {
                incoming = wire::command(connection, deadline) => incoming,
                _ = self.stopping.wait_for(|stopping| *stopping) => {
                    return End::Bye("the server is being stopped, connect again in a moment");
                }
            };
            let ended = match incoming {
                Ok(incoming) => self.request(connection, incoming).await,
                Err(Unread::Refused(tag)) => {
                    let tag = tag.map_or_else(|| "*".to_owned(), |tag| tag.0);
                    connection.answer(format!("{tag} BAD [TOOBIG] a literal is too long\r\n"));
                    self.mistake()
                }
                Err(unread) => Some(unread.into()),
            };
            if let Some(end) = ended {
                return end;
            }
        }
    }

    /// One more mistake of the client; the last one ends the session.
    fn mistake(&mut self) -> Option<End> {
        self.mistakes += 1;
        (self.mistakes >= MISTAKES_MAX).then_some(End::Bye("too many commands that are none"))
    }

    async fn request(&mut self, connection: &mut Connection, bytes: Vec<u8>) -> Option<End> {
        if self.account.is_none() {
            self.commands += 1;
            if self.commands > STRANGER_COMMANDS_MAX {
                return Some(End::Bye("log in first"));
            }
            // People who try a server by hand type this (manual 6-1-2).
            if bytes.trim_ascii().eq_ignore_ascii_case(b"quit") {
                return Some(End::Bye("goodbye"));
            }
        }
        match parse::parse(&bytes) {
            Ok(request) => {
                self.log(&Event::Command(Protocol::Imap4, &first_line(&bytes)));
                self.perform(connection, request).await
            }
            Err(error) => {
                // It could hold a password in a place where none is expected.
                self.log(&Event::Note("a command that is none"));
                let tag = error.tag.as_ref().map_or("*", |tag| tag.0.as_str());
                connection.answer(format!("{tag} BAD {}\r\n", error.what));
                self.mistake()
            }
        }
    }

    /// Performs a command and answers it.
    async fn perform(&mut self, connection: &mut Connection, request: Request) -> Option<End> {
        let Request { tag, command } = request;
        self.tag.clone_from(&tag.0);
        let expunges = may_expunge(&command);
        let append = matches!(command, Command::Append { .. });
        let outcome = match (self.allowed(&command), command) {
            (Err(failed), Command::Append { first, .. }) => {
                self.refuse_message(connection, &first, failed).await
            }
            (Err(failed), _) => Err(failed),
            (Ok(()), Command::Authenticate { mechanism, initial }) => {
                self.authenticate(connection, &mechanism, initial).await
            }
            (Ok(()), Command::Append { mailbox, first }) => self.append(connection, mailbox, first).await,
            (Ok(()), Command::Compress(algorithm)) => {
                return self.compress(connection, &tag.0, &algorithm).await;
            }
            (Ok(()), Command::Starttls) if !self.secure => return self.start_tls(connection, &tag.0).await,
            (Ok(()), Command::Idle) => self.idle(connection).await,
            (Ok(()), Command::Logout) => {
                connection.answer(format!("* BYE goodbye\r\n{tag} OK LOGOUT completed\r\n"));
                return Some(End::Silent);
            }
            (Ok(()), Command::Fetch { numbering, set, items, changed_since, vanished }) => {
                let fetch = Fetch { numbering, set, items, changed_since, vanished };
                self.fetch(connection, fetch).await
            }
            (Ok(()), command) => block_in_place(|| self.execute(command, &mut connection.blocking())),
        };
        let synced = match &outcome {
            Err(Failed::Connection) => return Some(End::Silent),
            Err(Failed::Bye(why)) => return Some(End::Bye(why)),
            _ => self.tell_news(&mut connection.blocking(), expunges),
        };
        match synced {
            Err(Failed::Bye(why)) => return Some(End::Bye(why)),
            Err(Failed::Connection) => return Some(End::Silent),
            _ => {}
        }
        match &outcome {
            Ok(done) => connection.answer(done.line(&tag.0)),
            Err(failed) => connection.answer(failed.line(&tag.0).unwrap_or_default()),
        }
        match outcome {
            // A message that the client cannot send is no sign of junk.
            Err(Failed::Bad(_)) if !append => self.mistake(),
            _ if self.failures >= FAILURES_MAX => Some(End::Bye("too many failed logins")),
            _ if connection.flush_if_large().await.is_err() => Some(End::Silent),
            _ => None,
        }
    }

    /// Begins TLS (RFC 3501 §6.2.1).
    async fn start_tls(&mut self, connection: &mut Connection, tag: &str) -> Option<End> {
        connection.answer(format!("{tag} OK begin TLS now\r\n"));
        if let Err(error) = connection.start_tls(&self.server.tls).await {
            self.log(&Event::Note(&format!("TLS failed: {error}")));
            return Some(End::Silent);
        }
        self.log_tls(connection);
        self.secure = true;
        None
    }

    /// Begins to compress both directions (RFC 4978).
    async fn compress(&mut self, connection: &mut Connection, tag: &str, algorithm: &str) -> Option<End> {
        if self.compressed {
            connection.answer(format!("{tag} NO [COMPRESSIONACTIVE] compression is active already\r\n"));
            return None;
        }
        if algorithm != "DEFLATE" {
            connection.answer(format!("{tag} NO only DEFLATE is known\r\n"));
            return None;
        }
        match connection.start_compression(&format!("{tag} OK compression begins now\r\n")).await {
            Ok(begun) => self.compressed = begun,
            Err(_) => return Some(End::Silent),
        }
        if !self.compressed {
            connection.answer(format!("{tag} NO [LIMIT] too many connections are compressed now\r\n"));
        }
        None
    }

    fn allowed(&self, command: &Command) -> Result<(), Failed> {
        let now = match (&self.account, &self.view) {
            (None, _) => Phase::Stranger,
            (Some(_), None) => Phase::User,
            (Some(_), Some(_)) => Phase::Selected,
        };
        let needed = phase(command);
        match needed {
            Phase::Always => Ok(()),
            Phase::Stranger if now != Phase::Stranger => {
                Err(Failed::Bad("you are logged in already".to_owned()))
            }
            _ if now >= needed => Ok(()),
            _ if now == Phase::Stranger => Err(Failed::Bad("log in first".to_owned())),
            _ => Err(Failed::Bad("select a mailbox first".to_owned())),
        }
    }

    /// Commands that need nothing more from the client.
    fn execute(&mut self, command: Command, out: &mut Blocking<'_>) -> Outcome {
        match command {
            Command::Capability => self.capability(out),
            Command::Noop => done("NOOP completed"),
            Command::Id(_) => {
                out.write_all(b"* ID (\"name\" \"imaild\")\r\n")?;
                done("ID completed")
            }
            Command::Starttls => Err(Failed::Bad("TLS is active already".to_owned())),
            Command::Enable(names) => self.enable(out, &names),
            Command::Login { user, password } => self.login(&user, &password),
            Command::Select { mailbox, read_only, condstore, qresync } => {
                self.enabled.condstore |= condstore || qresync.is_some();
                self.select(out, &mailbox, read_only, qresync.as_ref())
            }
            Command::Create { mailbox, uses } => self.create(&mailbox, uses.as_deref()),
            Command::Delete(mailbox) => self.delete(&mailbox),
            Command::Rename { from, to } => self.rename(out, &from, &to),
            Command::Subscribe(mailbox) => self.subscribe(&mailbox, true),
            Command::Unsubscribe(mailbox) => self.subscribe(&mailbox, false),
            Command::List(list) => self.list(out, &list),
            Command::Lsub(pattern) => self.lsub(out, &pattern),
            Command::Namespace => self.namespace(out),
            Command::GetQuota(root) => self.get_quota(out, &root),
            Command::GetQuotaRoot(mailbox) => self.get_quota_root(out, &mailbox),
            Command::SetQuota => Err(Failed::No("NOPERM", "quotas are set by the administrator".to_owned())),
            Command::Status { mailbox, items } => self.status(out, &mailbox, &items),
            Command::Check => self.check(),
            Command::Close => self.close(),
            Command::Unselect => {
                self.view = None;
                done("UNSELECT completed")
            }
            Command::Expunge => self.expunge(None),
            Command::UidExpunge(set) => self.expunge(Some(&set)),
            Command::Search(search) => self.search(out, &search),
            Command::Sort { search, order } => {
                self.with_all_at_hand(|session| session.sort(out, &search, &order))
            }
            Command::Thread { search, algorithm } => {
                self.with_all_at_hand(|session| session.thread(out, &search, algorithm))
            }
            Command::Store(store) => self.store(out, &store),
            Command::Copy { numbering, set, mailbox } => self.copy(numbering, &set, &mailbox),
            Command::Move { numbering, set, mailbox } => self.move_messages(out, numbering, &set, &mailbox),
            // These need the connection and are performed elsewhere.
            Command::Authenticate { .. }
            | Command::Append { .. }
            | Command::Compress(_)
            | Command::Idle
            | Command::Fetch { .. }
            | Command::Logout => Err(Failed::Bad("this cannot be done here".to_owned())),
        }
    }

    /// Who is logged in.
    pub(super) fn user(&self) -> Result<&Account, Failed> {
        self.account.as_ref().ok_or_else(|| Failed::Bad("log in first".to_owned()))
    }

    /// The selected mailbox.
    pub(super) fn selected(&mut self) -> Result<&mut View, Failed> {
        self.view.as_mut().ok_or_else(|| Failed::Bad("select a mailbox first".to_owned()))
    }

    /// Does what needs a piece of every message in memory at once, and gives the memory back if that was much.
    fn with_all_at_hand(&mut self, work: impl FnOnce(&mut Session) -> Outcome) -> Outcome {
        let many = self.view.as_ref().is_some_and(|view| view.uids().len() > MESSAGES_AT_HAND);
        let outcome = work(self);
        if many {
            memory::give_back();
        }
        outcome
    }

    /// The selected mailbox, if it may be changed.
    pub(super) fn changeable(&mut self) -> Result<&mut View, Failed> {
        let view = self.selected()?;
        match view.read_only {
            true => Err(Failed::no("the mailbox was opened with EXAMINE and cannot be changed")),
            false => Ok(view),
        }
    }

    /// The selected mailbox, if messages may be removed from it.
    pub(super) fn removable(&mut self) -> Result<&mut View, Failed> {
        let view = self.changeable()?;
        match view.reader {
            Some(_) => Err(Failed::public()),
            None => Ok(view),
        }
    }

    /// How large a mailbox may get.
    pub(super) fn mailbox_size_max(&self) -> Option<u64> {
        self.config().registry.global.return_to_imail.then_some(RETURNABLE_MAILBOX_MAX)
    }

    /// Looks at the selected mailbox and tells what changed.
    pub(super) fn tell_news(&mut self, out: &mut Blocking<'_>, expunges: bool) -> Result<(), Failed> {
        let Some(view) = &mut self.view else { return Ok(()) };
        let open = view.open.clone();
        let at_once = open.glance(|mailbox| view.is_easy(mailbox).then(|| view.update(mailbox, expunges)));
        let news = match at_once.flatten() {
            Some(news) => news,
            None => block_in_place(|| {
                open.with(|mailbox| match mailbox.refresh(GLANCE) {
                    Ok(_) => view.update(mailbox, expunges),
                    // The next command that needs the mailbox says what is wrong with it.
                    Err(_) => News::default(),
                })
            }),
        };
        self.tell(out, &news)
    }

    /// Tells what changed.
    pub(super) fn tell(&self, out: &mut Blocking<'_>, news: &News) -> Result<(), Failed> {
        if news.lost {
            return Err(Failed::Bye("the mailbox was made anew, connect again"));
        }
        match &self.view {
            Some(view) => Ok(view.tell(news, out)?),
            None => Ok(()),
        }
    }
}

/// A command's first line: what of it stands in the log. Literals stand behind it.
fn first_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|byte| *byte == b'\n').next().unwrap_or_default()).into_owned()
}
