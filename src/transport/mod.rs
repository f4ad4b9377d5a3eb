//! Where mail goes: [`route`] decides, this module stores.
//!
//! A message whose every recipient is a mailbox here goes straight into the mailboxes and is durable before its `250`. Whatever cannot be stored
//! at once, and whatever is for somewhere else, waits in the spool under IMail's names, and [`queue`] tries it again.
//!
//! # Failure
//! Either everything about a message is durable, in mailboxes or in the spool, or its sender is told to come again.

pub mod answer;
pub mod bounce;
mod digests;
pub mod etrn;
pub mod incoming;
mod mailing;
mod notice;
pub mod program;
pub mod queue;
pub mod quota;
pub mod remote;
pub mod route;
pub mod spooler;
#[cfg(test)]
mod testing;
pub mod trace;

use crate::config::{Config, Live};
use crate::lists::dmarc::Policies;
use crate::lists::list::List;
use crate::lists::post::{Outcome as Judged, Refused as ListRefused, judge};
use crate::logs::Log;
use crate::mailbox::Hub;
use crate::mailbox::commit::Outcome;
use crate::transport::trace::{HOPS_MAX, Origin, hops};
use bounce::{Action, Failure};
use incoming::Incoming;
use layout::index::journal::Token;
use layout::limits::{MESSAGE_MAX, RETURNABLE_MAILBOX_MAX};
use layout::list::change::Changes;
use layout::logline::{Delivery, Event, Status, Tag};
use layout::mailbox::Appended;
use layout::mbx::compose::{NewMessage, Source, Way};
use layout::mbx::header;
use layout::name::SpoolId;
use layout::registry::places;
use layout::spool::dsn::{Dsn, MessageDsn};
use layout::spool::id::{ConnectionId, IdSource, ItemName, Origin as Kind, Role};
use layout::spool::qfile::{Envelope, Fields, Recipient as Waiting};
use layout::spool::store::{Body, Prepared, Store};
use notice::Case;
use remote::client::Timeouts;
use remote::dialogue::Dialogue;
use remote::resolver::Resolver;
use remote::{Remote, Route};
use route::{ListRole, ListTarget, MailboxTarget, Routed, Unroutable, route};
use spooler::Spooler;
use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot};

/// Routing and delivery.
pub struct Transport {
    inner: Arc<Inner>,
}

/// What deliveries and the queue share.
struct Inner {
    live: Arc<Live>,
    hub: Arc<Hub>,
    log: Log,
    store: Store,
    spooler: Spooler,
    ids: IdSource,
    /// Automatic answers given so far.
    answers: answer::Memory,
    /// What was changed in the files of lists.
    list_changes: Changes,
    /// What authors' domains want of lists.
    policies: Policies,
    /// When domains were asked for.
    requests: etrn::Requests,
    remote: Remote,
    /// How long the program of an alias may run.
    program_time_max: Duration,
    /// Tells the queue of items to try now.
    new_items: mpsc::UnboundedSender<ItemName>,
}

/// What the administrator said of sending, beyond the registry.
pub struct Options {
    /// Does this process also try what waits in the spool?
    pub with_queue: bool,
    /// Fixed routes; those of the registry come behind them.
    pub routes: Vec<Route>,
    /// The name servers.
    pub resolver: Resolver,
    /// How long other servers may take.
    pub timeouts: Timeouts,
    /// How often the spool is listed: an admin's touch is noticed within this time.
    pub look_every: Duration,
    /// Where the servers of other domains take mail.
    pub port: u16,
    /// How long the program of an alias may run.
    pub program_time_max: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            with_queue: true,
            routes: Vec::new(),
            resolver: Resolver::new(None),
            timeouts: Timeouts::default(),
            look_every: queue::LOOK_EVERY,
            port: remote::SMTP_PORT,
            program_time_max: program::TIME_MAX,
        }
    }
}

/// A recipient that was accepted.
#[derive(Debug)]
pub struct Recipient {
    /// The address as the client gave it.
    pub address: String,
    /// Everybody who gets the mail.
    pub routed: Routed,
    /// Of what the sender wants to be told.
    pub dsn: Dsn,
}

/// Why a recipient or a message is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The recipient leads nowhere.
    Recipient(String, Unroutable),
    /// The message is larger than it may be.
    TooLarge,
    /// The mailboxes of this recipient, and of all others, are full.
    MailboxFull(String),
    /// It went around in circles.
    Hops,
    /// The list does not take this post.
    Post(ListRefused),
    /// It could not be stored; the sender is to come again.
    NotStored,
}

/// A message that has come in whole.
pub struct Arrival {
    /// Where it came from.
    pub origin: Origin,
    /// To whom it goes.
    pub recipients: Vec<Recipient>,
    /// The user who sent it after logging in, with domain.
    pub account: Option<String>,
    /// What the sender wants to be told of the message as a whole.
    pub dsn: MessageDsn,
}

/// What became of a message's recipients at the first look.
#[derive(Default)]
struct Begun {
    /// Copies for mailboxes, under way.
    copies: Vec<Copy>,
    /// Who has to wait in the spool.
    waiting: Vec<Waiting>,
    /// Recipients who do not get it.
    refused: Vec<Refused>,
    /// Was a copy thrown away on purpose, or sent on already?
    discarded: bool,
}

/// A recipient who does not get a message that others may get.
struct Refused {
    /// What the client hears, if nobody gets it.
    refusal: Refusal,
    /// What the sender hears otherwise.
    failure: Failure,
    dsn: Dsn,
}

/// A copy for one mailbox, under way.
struct Copy {
    target: MailboxTarget,
    address: String,
    /// The message, if the user's settings may answer it.
    answered: Option<Source>,
    answer: oneshot::Receiver<Outcome>,
}

/// A message for one recipient.
#[derive(Clone, Copy)]
struct Letter<'a> {
    sender: &'a str,
    /// As the client named him.
    recipient: &'a str,
    id: SpoolId,
    source: &'a Source,
    /// Did a user's settings send it on? That happens once: two Information Managers could do it for ever.
    sent_on: bool,
}

/// What was done with a message for one mailbox.
enum Placed {
    UnderWay(Copy),
    /// It goes somewhere else, or nowhere, as the mailbox's settings want it.
    SentOn,
    Full,
    /// Something failed; it is to be tried again for this recipient.
    PutOff(Waiting),
}

impl Transport {
    /// Opens the spool.
    pub fn start(live: &Arc<Live>, hub: &Arc<Hub>, log: &Log, options: Options) -> io::Result<Transport> {
        let root = live.now().root().clone();
        let store = Store::new(&root)?;
        let ids = IdSource::new(root.shared_disk(), store.dir());
        let Options { with_queue, routes, resolver, timeouts, look_every, port, program_time_max } = options;
        let remote = Remote::new(resolver, routes, timeouts, port)?;
        let (new_items, incoming) = mpsc::unbounded_channel();
        let (live, hub, log) = (live.clone(), hub.clone(), log.clone());
        let spooler = Spooler::start(&root, store.clone());
        let inner = Arc::new(Inner {
            live,
            hub,
            log,
            store,
            spooler,
            ids,
            answers: answer::Memory::default(),
            list_changes: Changes::default(),
            policies: Policies::default(),
            requests: etrn::Requests::default(),
            remote,
            program_time_max,
            new_items,
        });
        if with_queue {
            tokio::spawn(digests::run(inner.clone()));
            tokio::spawn(queue::run(inner.clone(), incoming, look_every));
        }
        Ok(Transport { inner })
    }

    /// A line of the receiving service.
    pub fn log(&self, config: &Config, id: SpoolId, address: IpAddr, event: &Event<'_>) {
        self.inner.log(config, Tag::Smtpd, id, Some(address), event);
    }

    /// Ids for a connection.
    pub fn connection_id(&self) -> io::Result<ConnectionId> {
        self.inner.ids.connection()
    }

    /// The id of the connection's next message.
    pub fn message_id(&self, connection: &mut ConnectionId) -> io::Result<SpoolId> {
        self.inner.ids.message(connection)
    }

    /// Takes or refuses a recipient of a domain here; who may send elsewhere is for the caller to say. `trusted`: the client logged in. `size` is that of the
    /// message as far as it is known, else 0.
    pub fn recipient(
        &self,
        config: &Config,
        address: &str,
        trusted: bool,
        size: u64,
    ) -> Result<Recipient, Refusal> {
        let routed = match route(config, address, trusted) {
            Ok(routed) => routed,
            Err(why) => return Err(Refusal::Recipient(address.to_owned(), why)),
        };
        if size > self.inner.size_max_of(config, address) {
            return Err(Refusal::TooLarge);
        }
        let recipient = Recipient { address: address.to_owned(), routed, dsn: Dsn::default() };
        if !trusted {
            self.inner.check_room(config, &recipient, size)?;
        }
        Ok(recipient)
    }

    /// Does a route name this domain, so that anyone may send to it?
    pub fn is_gateway_for(&self, config: &Config, domain: &str) -> bool {
        self.inner.remote.is_gateway_for(config, domain)
    }

    /// The domains elsewhere to which anyone may send, because a route names them.
    pub fn gateway_for(&self, config: &Config) -> Vec<String> {
        self.inner.remote.gateway_for(config)
    }

    /// A place for the bytes of a message that is coming in.
    pub fn incoming(&self, origin: Origin, size_max: u64) -> Incoming {
        Incoming::new(self.inner.store.clone(), origin, size_max)
    }

    /// Makes a message durable wherever it has to go.
    pub async fn accept(&self, config: &Config, arrival: Arrival, incoming: Incoming) -> Result<(), Refusal> {
        self.inner.accept(config, arrival, incoming).await
    }
}

impl Begun {
    /// A recipient with several mailboxes is refused once.
    fn refuse(&mut self, recipient: &Recipient, refusal: Refusal, failure: Failure) {
        if self.refused.last().is_none_or(|last| last.failure != failure) {
            self.refused.push(Refused { refusal, failure, dsn: recipient.dsn.clone() });
        }
    }
}

impl Recipient {
    /// A recipient elsewhere, for whom the message waits in the spool.
    pub fn elsewhere(address: &str) -> Recipient {
        let routed = Routed { remote: vec![address.to_owned()], ..Routed::default() };
        Recipient { address: address.to_owned(), routed, dsn: Dsn::default() }
    }
}

impl Arrival {
    /// Those who have to wait for the queue keep what the sender wants to know of them.
    fn pass_wishes_on(&self, left: &mut [Waiting]) {
        for waiting in left {
            let named = |one: &&Recipient| Some(&one.address) == waiting.original.as_ref();
            waiting.dsn = self.recipients.iter().find(named).map(|one| one.dsn.clone()).unwrap_or_default();
        }
    }

    /// The message, for notices about it.
    fn case<'a>(&'a self, source: &'a Source) -> Case<'a> {
        let Origin { id, host, sender, utf8, .. } = &self.origin;
        Case { id: *id, host, sender, dsn: &self.dsn, utf8: *utf8, source }
    }
}

impl Inner {
    async fn accept(&self, config: &Config, arrival: Arrival, incoming: Incoming) -> Result<(), Refusal> {
        if incoming.is_too_large() {
            return Err(Refusal::TooLarge);
        }
        let id = arrival.origin.id;
        let failed = |error: io::Error| {
            tracing::error!(%error, "a message could not be stored");
            let text = format!("not stored, the sender is asked to come again: {error}");
            self.log(config, Tag::Smtpd, id, Some(arrival.origin.client), &Event::Refused(&text));
            Refusal::NotStored
        };
        let (source, file) = incoming.finish().map_err(failed)?;
        let begin = source.head().map_err(failed)?;
        if hops(&begin[..header::end(&begin).unwrap_or(begin.len())]) > HOPS_MAX {
            return Err(Refusal::Hops);
        }
        let name = ItemName::new(id, Kind::Mail);
        let data = self.store.path(Role::Data, &name).full();
        let received = Event::Received { data: &data, bytes: source.len() };
        self.log(config, Tag::Smtpd, id, Some(arrival.origin.client), &received);

        let begun = tokio::task::block_in_place(|| self.begin(config, &arrival, &source));
        let Begun { copies, mut waiting, refused, discarded } = begun;
        if let Some(first) = refused.first() {
            let nobody = copies.is_empty() && waiting.is_empty() && !discarded;
            if nobody && arrival.account.is_none() {
                return Err(first.refusal.clone());
            }
            let case = arrival.case(&source);
            let told = tokio::task::block_in_place(|| self.return_refused(config, &case, id, &refused));
            told.map_err(failed)?;
        }
        let direct = copies.len();
        let queue = self.store.path(Role::Queued, &name).full();
        if direct > 0 {
            self.log(config, Tag::Smtp, id, None, &Event::Processing { queue: &queue });
        }
        let mut left = self.finish_copies(config, id, &arrival.origin.sender, source.len(), copies).await;
        arrival.pass_wishes_on(&mut left);
        self.tell_delivered(config, &arrival, &source, &left, &refused);
        let undelivered = left.len();
        waiting.extend(left);
        if !waiting.is_empty() {
            let stored =
                tokio::task::block_in_place(|| self.spool(config, &name, &arrival, waiting, source, file));
            stored.map_err(failed)?;
        }
        if direct > 0 {
            let status = if undelivered == 0 { Status::Done } else { Status::Requeued };
            self.log(config, Tag::Smtp, id, None, &Event::Finished { queue: &queue, status });
        }
        Ok(())
    }

    /// Hands the copies for mailboxes to the hub, and tells who has to wait.
    fn begin(&self, config: &Config, arrival: &Arrival, source: &Source) -> Begun {
        let (mut begun, mut seen) = (Begun::default(), HashSet::new());
        for recipient in &arrival.recipients {
            for lost in &recipient.routed.lost {
                self.log(config, Tag::Smtp, arrival.origin.id, None, &Event::Refused(lost));
            }
            if source.len() > self.size_max_of(config, &recipient.address) {
                begun.refuse(recipient, Refusal::TooLarge, Failure::too_large(&recipient.address));
                continue;
            }
            let letter = Letter {
                sender: &arrival.origin.sender,
                recipient: &recipient.address,
                id: arrival.origin.id,
                source,
                sent_on: false,
            };
            for target in &recipient.routed.mailboxes {
                if seen.insert(key(target)) {
                    match self.place(config, target, letter) {
                        Placed::UnderWay(copy) => begun.copies.push(copy),
                        Placed::SentOn => begun.discarded = true,
                        Placed::PutOff(waiting) => begun.waiting.push(waiting),
                        Placed::Full => {
                            let address = &recipient.address;
                            let refusal = Refusal::MailboxFull(address.clone());
                            begun.refuse(recipient, refusal, Failure::mailbox_full(address));
                        }
                    }
                }
            }
            begun.discarded |= recipient.routed.discarded;
            if let Some(refused) = self.refused_by_list(config, arrival, recipient, source) {
                match (refused, arrival.recipients.len()) {
                    (ListRefused::Killed, 2..) => begun.discarded = true,
                    _ => {
                        let failure = Failure::post(&recipient.address, refused);
                        begun.refuse(recipient, Refusal::Post(refused), failure);
                    }
                }
                continue;
            }
            let lists: Vec<String> = recipient.routed.lists.iter().map(ListTarget::address).collect();
            let Routed { remote, waiting, .. } = &recipient.routed;
            for address in remote.iter().chain(&lists).chain(waiting) {
                if seen.insert(address.to_lowercase()) {
                    let original = Some(recipient.address.clone());
                    let dsn = recipient.dsn.clone();
                    begun.waiting.push(Waiting { address: address.clone(), original, ruled: false, dsn });
                }
            }
        }
        begun
    }

    /// A post that its list would send back is refused while its sender is there to hear it.
    fn refused_by_list(
        &self,
        config: &Config,
        arrival: &Arrival,
        recipient: &Recipient,
        source: &Source,
    ) -> Option<ListRefused> {
        let [ListTarget { domain, list, role: ListRole::Post }] = recipient.routed.lists.as_slice() else {
            return None;
        };
        let Routed { mailboxes, remote, waiting, .. } = &recipient.routed;
        if !mailboxes.is_empty() || !remote.is_empty() || !waiting.is_empty() {
            return None;
        }
        // What cannot be read now is judged again when the post has its turn.
        let list = List::find(config, config.local_domain(domain)?, list).ok()??;
        match judge(&list, &source.head().ok()?, source.len(), &arrival.origin.sender) {
            Ok(Judged::Refused(refused)) => Some(refused),
            _ => None,
        }
    }

    /// The largest message that the domain of an address takes.
    fn size_max_of(&self, config: &Config, address: &str) -> u64 {
        let domain = config.local_domain(remote::domain_of(address));
        match domain.map_or(0, |domain| domain.max_message_size) {
            0 => MESSAGE_MAX,
            max => max.min(MESSAGE_MAX),
        }
    }

    /// Tells a sender who wants to know which recipients have the message in their mailboxes. It is delivered by then, so whatever fails here is only
    /// logged: the client must not send it again.
    fn tell_delivered(
        &self,
        config: &Config,
        arrival: &Arrival,
        source: &Source,
        left: &[Waiting],
        refused: &[Refused],
    ) {
        let pending =
            |address: &String| left.iter().any(|waiting| waiting.original.as_ref() == Some(address));
        let failed = |address: &String| refused.iter().any(|refused| refused.failure.recipient == *address);
        let stored = |one: &&Recipient| {
            let here = !one.routed.mailboxes.is_empty() || one.routed.discarded;
            one.dsn.tells_success() && here && !pending(&one.address) && !failed(&one.address)
        };
        let delivered: Vec<(String, Dsn)> =
            arrival.recipients.iter().filter(stored).map(|r| (r.address.clone(), r.dsn.clone())).collect();
        if delivered.is_empty() {
            return;
        }
        let case = arrival.case(source);
        let told =
            tokio::task::block_in_place(|| self.tell_sender(config, &case, Action::Delivered, &delivered));
        if let Err(error) = told {
            tracing::warn!(%error, "a sender who asked could not be told that a message was delivered");
        }
    }

    /// Brings a message on its way into a mailbox, or where the mailbox's settings want it.
    fn place(&self, config: &Config, target: &MailboxTarget, letter: Letter<'_>) -> Placed {
        let Letter { sender, recipient, id, source, sent_on } = letter;
        if !sent_on {
            match self.pass_on(config, target, sender, recipient, source) {
                Ok(false) => {}
                Ok(true) => return Placed::SentOn,
                Err(error) => return Placed::PutOff(self.put_off(config, id, target, recipient, &error)),
            }
        }
        let date = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() as i64);
        let message = NewMessage {
            source: source.clone(),
            sender: sender.to_owned(),
            date,
            way: Way::Delivery { recipient: recipient.to_owned(), id, rule: None },
            flags: 0,
            keywords: Vec::new(),
        };
        if !self.has_room_for(config, target, &message) && !self.has_copy(target, id) {
            return Placed::Full;
        }
        let mailbox = self.hub.open(&target.dir, &target.mailbox);
        let size_max = config.registry.global.return_to_imail.then_some(RETURNABLE_MAILBOX_MAX);
        let answered = self.answers_mail(config, target).then(|| source.clone());
        let answer = self.hub.append(mailbox, message, Some(token(target, id)), size_max);
        Placed::UnderWay(Copy { target: target.clone(), address: recipient.to_owned(), answered, answer })
    }

    /// Waits for the copies, logs them, and gives back those that could not be stored, as recipients for the queue.
    async fn finish_copies(
        &self,
        config: &Config,
        id: SpoolId,
        sender: &str,
        size: u64,
        copies: Vec<Copy>,
    ) -> Vec<Waiting> {
        let mut left = Vec::new();
        for Copy { target, address, answered, answer } in copies {
            let failed = match answer.await {
                Ok(Ok(stored)) => {
                    let MailboxTarget { domain, user, .. } = &target;
                    let delivery = Delivery { host: domain, recipient: user, count: 1, sender, bytes: size };
                    self.log(config, Tag::Smtp, id, None, &Event::LocalDelivery(delivery));
                    if let (Appended::Stored(_), Some(source)) = (stored, answered) {
                        tokio::task::block_in_place(|| {
                            self.answer(config, &target, sender, &address, &source)
                        });
                    }
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the server is stopping".to_owned(),
            };
            left.push(self.put_off(config, id, &target, &address, &failed));
        }
        left
    }

    /// Says why a copy could not be stored, and answers with the recipient for the queue.
    fn put_off(
        &self,
        config: &Config,
        id: SpoolId,
        target: &MailboxTarget,
        address: &str,
        why: &dyn std::fmt::Display,
    ) -> Waiting {
        let text = format!("{}@{}: {why}", target.user, target.domain);
        self.log(config, Tag::Smtp, id, None, &Event::Refused(&text));
        let original = Some(address.to_owned());
        let address = mailbox_address(config, target);
        Waiting { address, original, ruled: false, dsn: Dsn::default() }
    }

    /// Puts a message into the spool for those who have to wait.
    fn spool(
        &self,
        config: &Config,
        name: &ItemName,
        arrival: &Arrival,
        waiting: Vec<Waiting>,
        source: Source,
        file: Option<layout::spool::store::Incoming>,
    ) -> io::Result<()> {
        for Waiting { address, original, .. } in &waiting {
            if let Some(from) = original.as_ref().filter(|from| *from != address)
                && config.local_domain(remote::domain_of(address)).is_none()
            {
                self.log(config, Tag::Smtp, name.id(), None, &Event::Forwarded { from, to: address });
            }
        }
        let fields = Fields {
            data: windows_path(config, &name.file(Role::Data)),
            host: arrival.origin.host.clone(),
            auth_user: arrival.account.clone().unwrap_or_default(),
            client_ip: arrival.origin.client.to_string(),
            helo: arrival.origin.helo.clone(),
            sender: arrival.origin.sender.clone(),
            dsn: arrival.dsn.clone(),
            utf8: arrival.origin.utf8,
            recipients: waiting,
            ..Fields::default()
        };
        let body = match file {
            Some(file) => Body::Arrived(file),
            None => Body::Copy(source),
        };
        let prepared = self.store.prepare(name, body, &Envelope::new(&fields))?;
        self.commit(prepared)
    }

    /// Writes a message of our own, with the empty sender, into the spool; it still has to be committed.
    fn prepare_own(
        &self,
        config: &Config,
        id: SpoolId,
        kind: Kind,
        host: &str,
        to: &str,
        mail: Vec<u8>,
    ) -> io::Result<Prepared> {
        let name = ItemName::new(id, kind);
        let fields = Fields {
            data: windows_path(config, &name.file(Role::Data)),
            host: host.to_owned(),
            recipients: vec![Waiting::new(to)],
            ..Fields::default()
        };
        self.store.prepare(&name, Body::Copy(Source::Bytes(mail.into())), &Envelope::new(&fields))
    }

    /// Accepts an item of the spool durably, and tells the queue.
    fn commit(&self, prepared: Prepared) -> io::Result<()> {
        let name = prepared.name().clone();
        self.spooler.accept(prepared)?;
        let queue = self.store.path(Role::Queued, &name).full();
        self.log(&self.live.now(), Tag::Smtp, name.id(), None, &Event::Queued { queue: &queue });
        // Without a queue in this process nobody listens; another one finds the item.
        let _ = self.new_items.send(name);
        Ok(())
    }

    /// With Verbose Logging, why the queue does what it does.
    fn explain(&self, config: &Config, id: SpoolId, text: impl FnOnce() -> String) {
        if config.registry.services.smtp.verbose_logging {
            self.log(config, Tag::Smtp, id, None, &Event::Note(&text()));
        }
    }

    /// The dialogue with other servers about this message, if the admin wants to see it.
    fn dialogue(&self, config: &Config, id: SpoolId) -> Dialogue {
        let services = &config.registry.services;
        match services.smtp.verbose_logging {
            true => Dialogue::logged(&self.log, services.smtpd.log_to, id),
            false => Dialogue::default(),
        }
    }

    /// SMTP and its queue share one setting (manual 5).
    fn log(&self, config: &Config, tag: Tag, id: SpoolId, address: Option<IpAddr>, event: &Event<'_>) {
        self.log.event(config.registry.services.smtpd.log_to, tag, id, address, event);
    }
}

/// Marks the delivery of a message to a mailbox.
fn token(target: &MailboxTarget, id: SpoolId) -> Token {
    Token(id.0, xxhash_rust::xxh3::xxh3_64(key(target).as_bytes()))
}

/// One mailbox, by its place.
fn key(target: &MailboxTarget) -> String {
    format!("{}/{}", target.dir.path(), target.mailbox.key())
}

/// The address that leads to this mailbox and nowhere else.
fn mailbox_address(config: &Config, target: &MailboxTarget) -> String {
    let MailboxTarget { domain, user, mailbox, .. } = target;
    match mailbox.is_inbox() {
        true => format!("{user}@{domain}"),
        false => format!("{user}{}{}@{domain}", config.registry.global.mailbox_split_char, mailbox.text()),
    }
}

/// A spool file's path as the registry spells it, for IMail.
fn windows_path(config: &Config, file: &str) -> String {
    places::spool_path(config.root(), &config.registry.global.top_dir, file)
}
