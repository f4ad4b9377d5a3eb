//! Where mail goes: [`route`] decides, this module stores.
//!
//! A message whose every recipient is a mailbox here goes straight into the mailboxes and is durable before its `250`. Whatever cannot be stored
//! at once, and whatever is for somewhere else, waits in the spool under IMail's names, and [`queue`] tries it again.
//!
//! # Failure
//! Either everything about a message is durable, in mailboxes or in the spool, or its sender is told to come again.

pub mod answer;
pub mod bounce;
pub mod incoming;
pub mod program;
pub mod queue;
pub mod quota;
pub mod remote;
pub mod route;
#[cfg(test)]
mod testing;
pub mod trace;

use crate::config::{Config, Live};
use crate::logs::Log;
use crate::mailbox::Hub;
use crate::mailbox::commit::Outcome;
use crate::transport::trace::{HOPS_MAX, Origin, hops};
use incoming::Incoming;
use layout::index::journal::Token;
use layout::limits::RETURNABLE_MAILBOX_MAX;
use layout::logline::{Delivery, Event, Status, Tag};
use layout::mailbox::Appended;
use layout::mbx::compose::{NewMessage, Source, Way};
use layout::mbx::header;
use layout::name::SpoolId;
use layout::registry::places;
use layout::spool::id::{ConnectionId, IdSource, ItemName, Origin as Kind, Role};
use layout::spool::qfile::{Envelope, Fields, Recipient as Waiting};
use layout::spool::store::{Body, Prepared, Store};
use remote::client::Timeouts;
use remote::resolver::Resolver;
use remote::{Remote, Route};
use route::{MailboxTarget, Routed, Unroutable, route};
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
    ids: IdSource,
    /// Automatic answers given so far.
    answers: answer::Memory,
    remote: Remote,
    /// Tells the queue of new items.
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
}

/// What became of a message's recipients at the first look.
#[derive(Default)]
struct Begun {
    /// Copies for mailboxes, under way.
    copies: Vec<Copy>,
    /// Who has to wait in the spool.
    waiting: Vec<Waiting>,
    /// Recipients whose mailboxes are full, as the client named them.
    full: Vec<String>,
    /// Was a copy thrown away on purpose?
    discarded: bool,
}

/// A copy for one mailbox, under way.
struct Copy {
    target: MailboxTarget,
    address: String,
    /// The message, if the user's settings may answer it.
    answered: Option<Source>,
    answer: oneshot::Receiver<Outcome>,
}

impl Transport {
    /// Opens the spool.
    pub fn start(live: &Arc<Live>, hub: &Arc<Hub>, log: &Log, options: Options) -> io::Result<Transport> {
        let root = live.now().root().clone();
        let store = Store::new(&root)?;
        let ids = IdSource::new(root.shared_disk(), store.dir());
        let Options { with_queue, routes, resolver, timeouts, look_every, port } = options;
        let remote = Remote::new(resolver, routes, timeouts, port);
        let (new_items, incoming) = mpsc::unbounded_channel();
        let (live, hub, log) = (live.clone(), hub.clone(), log.clone());
        let inner = Arc::new(Inner {
            live,
            hub,
            log,
            store,
            ids,
            answers: answer::Memory::default(),
            remote,
            new_items,
        });
        if with_queue {
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

    /// Takes or refuses a recipient. `trusted`: the client logged in.
    pub fn recipient(&self, config: &Config, address: &str, trusted: bool) -> Result<Recipient, Refusal> {
        let routed = match route(config, address, trusted) {
            Ok(routed) => routed,
            Err(Unroutable::NotLocal(domain))
                if trusted || self.inner.remote.is_gateway_for(config, &domain) =>
            {
                // It waits in the spool for the queue.
                Routed { remote: vec![address.to_owned()], ..Routed::default() }
            }
            Err(why) => return Err(Refusal::Recipient(address.to_owned(), why)),
        };
        let recipient = Recipient { address: address.to_owned(), routed };
        if !trusted {
            self.inner.check_room(config, &recipient)?;
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

impl Inner {
    async fn accept(&self, config: &Config, arrival: Arrival, incoming: Incoming) -> Result<(), Refusal> {
        if incoming.is_too_large() {
            return Err(Refusal::TooLarge);
        }
        let (source, file) = incoming.finish().map_err(|error| self.failed(&error))?;
        let begin = source.head().map_err(|error| self.failed(&error))?;
        if hops(&begin[..header::end(&begin).unwrap_or(begin.len())]) > HOPS_MAX {
            return Err(Refusal::Hops);
        }
        let id = arrival.origin.id;
        let name = ItemName::new(id, Kind::Mail);
        let data = self.store.path(Role::Data, &name).full();
        let received = Event::Received { data: &data, bytes: source.len() };
        self.log(config, Tag::Smtpd, id, Some(arrival.origin.client), &received);

        let begun = tokio::task::block_in_place(|| self.begin(config, &arrival, &source));
        let Begun { copies, mut waiting, full, discarded } = begun;
        if let Some(first) = full.first() {
            let nobody = copies.is_empty() && waiting.is_empty() && !discarded;
            if nobody && arrival.account.is_none() {
                return Err(Refusal::MailboxFull(first.clone()));
            }
            let returned = tokio::task::block_in_place(|| self.return_full(config, &arrival, &full, &source));
            returned.map_err(|error| self.failed(&error))?;
        }
        let direct = copies.len();
        let queue = self.store.path(Role::Queued, &name).full();
        if direct > 0 {
            self.log(config, Tag::Smtp, id, None, &Event::Processing { queue: &queue });
        }
        let left = self.finish_copies(config, id, &arrival.origin.sender, source.len(), copies).await;
        let undelivered = left.len();
        waiting.extend(left);
        if !waiting.is_empty() {
            let stored =
                tokio::task::block_in_place(|| self.spool(config, &name, &arrival, waiting, source, file));
            stored.map_err(|error| self.failed(&error))?;
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
            for target in &recipient.routed.mailboxes {
                if seen.insert(key(target)) {
                    let message =
                        self.message(&arrival.origin.sender, source, &recipient.address, arrival.origin.id);
                    if self.has_room_for(config, target, &message) {
                        let id = arrival.origin.id;
                        begun.copies.push(self.submit(config, target, message, &recipient.address, id));
                    } else if begun.full.last() != Some(&recipient.address) {
                        begun.full.push(recipient.address.clone());
                    }
                }
            }
            begun.discarded |= recipient.routed.discarded;
            for address in recipient.routed.remote.iter().chain(&recipient.routed.waiting) {
                if seen.insert(address.to_lowercase()) {
                    let original = Some(recipient.address.clone());
                    begun.waiting.push(Waiting { address: address.clone(), original, ruled: false });
                }
            }
        }
        begun
    }

    fn message(&self, sender: &str, source: &Source, recipient: &str, id: SpoolId) -> NewMessage {
        NewMessage {
            source: source.clone(),
            sender: sender.to_owned(),
            date: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() as i64),
            way: Way::Delivery { recipient: recipient.to_owned(), id, rule: None },
            flags: 0,
            keywords: Vec::new(),
        }
    }

    fn submit(
        &self,
        config: &Config,
        target: &MailboxTarget,
        message: NewMessage,
        address: &str,
        id: SpoolId,
    ) -> Copy {
        let mailbox = self.hub.open(&target.dir, &target.mailbox);
        let token = Token(id.0, xxhash_rust::xxh3::xxh3_64(key(target).as_bytes()));
        let size_max = config.registry.global.return_to_imail.then_some(RETURNABLE_MAILBOX_MAX);
        let answered = self.answers_mail(config, target).then(|| message.source.clone());
        let answer = self.hub.append(mailbox, message, Some(token), size_max);
        Copy { target: target.clone(), address: address.to_owned(), answered, answer }
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
            let text = format!("{}@{}: {failed}", target.user, target.domain);
            self.log(config, Tag::Smtp, id, None, &Event::Refused(&text));
            left.push(Waiting {
                address: mailbox_address(config, &target),
                original: Some(address),
                ruled: false,
            });
        }
        left
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
        let fields = Fields {
            data: windows_path(config, &name.file(Role::Data)),
            host: arrival.origin.host.clone(),
            auth_user: arrival.account.clone().unwrap_or_default(),
            client_ip: arrival.origin.client.to_string(),
            helo: arrival.origin.helo.clone(),
            sender: arrival.origin.sender.clone(),
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
        self.store.commit(vec![prepared])?;
        // Without a queue in this process nobody listens; another one finds the item.
        let _ = self.new_items.send(name);
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> Refusal {
        tracing::error!(%error, "a message could not be stored");
        Refusal::NotStored
    }

    /// SMTP and its queue share one setting (manual 5).
    fn log(&self, config: &Config, tag: Tag, id: SpoolId, address: Option<IpAddr>, event: &Event<'_>) {
        self.log.event(config.registry.services.smtpd.log_to, tag, id, address, event);
    }
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
