//! Where mail goes: [`route`] finds the mailboxes, [`disposition`] what their rules and settings make of it; [`accept`], [`deliver`] and [`queue`] act.
//!
//! A message whose every recipient is a mailbox here goes straight into the mailboxes and is durable before its `250`. Whatever cannot be stored
//! at once, and whatever is for somewhere else, waits in the spool under IMail's names, and [`queue`] tries it again.
//!
//! # Failure
//! Either everything about a message is durable, in mailboxes or in the spool, or its sender is told to come again.

mod accept;
pub mod answer;
pub mod bounce;
mod deliver;
mod digests;
pub mod disposition;
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
use crate::lists::post::Refused as ListRefused;
use crate::logs::Log;
use crate::mailbox::Hub;
use crate::rules::Rules;
use crate::transport::trace::Origin;
use accept::Refused;
use arc_swap::ArcSwapOption;
use deliver::{key, mailbox_address, token};
use incoming::Incoming;
use layout::list::change::Changes;
use layout::logline::{Event, Tag};
use layout::mbx::compose::Source;
use layout::name::SpoolId;
use layout::registry::places;
use layout::spool::dsn::{Dsn, MessageDsn};
use layout::spool::id::{ConnectionId, IdSource, ItemName, Origin as Kind, Role};
use layout::spool::qfile::{Envelope, Fields, Recipient as Waiting};
use layout::spool::store::{Body, Prepared, Store};
use remote::client::Timeouts;
use remote::dialogue::Dialogue;
use remote::resolver::Resolver;
use remote::{Remote, Route};
use route::{Routed, Unroutable, elsewhere, route_now};
use spooler::Spooler;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

/// For so many at most one recipient stands while its message comes in.
const TARGETS_KEPT_MAX: usize = 100;

/// Routing and delivery.
pub struct Transport {
    inner: Arc<Inner>,
    look_every: Duration,
}

/// What deliveries and the queue share.
struct Inner {
    live: Arc<Live>,
    hub: Arc<Hub>,
    log: Log,
    store: Store,
    spooler: Spooler,
    ids: IdSource,
    rules: Rules,
    /// Automatic answers given so far.
    answers: answer::Memory,
    /// What was changed in the files of lists.
    list_changes: Changes,
    /// What authors' domains want of lists.
    policies: Policies,
    /// When domains were asked for.
    requests: etrn::Requests,
    /// What came of items that could not be written down.
    unsettled: queue::Unsettled,
    remote: Remote,
    /// Room for copies that the queue has under way ([`queue::COPIES_MAX`]).
    copies: Semaphore,
    /// Copies that the queue stored so far.
    copies_stored: AtomicUsize,
    /// Turns for items with many recipients ([`queue::CROWDED_MAX`]).
    crowded: Semaphore,
    /// Turns at the disk for items of the queue ([`queue::AT_DISK_MAX`]).
    at_disk: Semaphore,
    /// How long the program of an alias may run.
    program_time_max: Duration,
    /// Tells the queue of items to try now, while it runs in this process.
    new_items: ArcSwapOption<mpsc::UnboundedSender<ItemName>>,
}

/// What the administrator said of sending, beyond the registry.
pub struct Options {
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

impl Transport {
    /// Opens the spool.
    pub fn start(live: &Arc<Live>, hub: &Arc<Hub>, log: &Log, options: Options) -> io::Result<Transport> {
        let root = live.now().root().clone();
        let store = Store::new(&root)?;
        let ids = IdSource::new(root.shared_disk(), store.dir());
        let Options { routes, resolver, timeouts, look_every, port, program_time_max } = options;
        let remote = Remote::new(resolver, routes, timeouts, port)?;
        let (live, hub, log) = (live.clone(), hub.clone(), log.clone());
        let spooler = Spooler::start(&root, store.clone());
        let inner = Arc::new(Inner {
            live,
            hub,
            log,
            store,
            spooler,
            ids,
            rules: Rules::default(),
            answers: answer::Memory::default(),
            list_changes: Changes::default(),
            policies: Policies::default(),
            requests: etrn::Requests::default(),
            unsettled: queue::Unsettled::default(),
            copies: Semaphore::new(queue::COPIES_MAX),
            copies_stored: AtomicUsize::new(0),
            crowded: Semaphore::new(queue::CROWDED_MAX),
            at_disk: Semaphore::new(queue::AT_DISK_MAX),
            remote,
            program_time_max,
            new_items: ArcSwapOption::empty(),
        });
        Ok(Transport { inner, look_every })
    }

    /// Works on what waits in the spool until `stop`; then deliveries under way are finished. Not twice at the same time.
    pub fn queue<S>(&self, stop: S) -> impl Future<Output = ()> + Send + 'static + use<S>
    where
        S: Future<Output = ()> + Send + 'static,
    {
        let (inner, look_every) = (self.inner.clone(), self.look_every);
        async move {
            let (new_items, incoming) = mpsc::unbounded_channel();
            inner.new_items.store(Some(Arc::new(new_items)));
            let mut digests = JoinSet::new();
            digests.spawn(digests::run(inner.clone()));
            queue::run(inner.clone(), incoming, look_every, stop).await;
            inner.new_items.store(None);
            digests.abort_all();
            while digests.join_next().await.is_some() {}
        }
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
        let refused = |why| Refusal::Recipient(address.to_owned(), why);
        if let Some(domain) = elsewhere(config, address) {
            return Err(refused(Unroutable::NotLocal(domain.to_owned())));
        }
        tokio::task::block_in_place(|| {
            let routed = route_now(config, address, trusted).map_err(refused)?;
            if size > self.inner.size_max_of(config, address) {
                return Err(Refusal::TooLarge);
            }
            let recipient = Recipient { address: address.to_owned(), routed, dsn: Dsn::default() };
            if !trusted {
                self.inner.check_room(config, &recipient, size)?;
            }
            Ok(recipient)
        })
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

impl Recipient {
    /// A recipient elsewhere, for whom the message waits in the spool.
    pub fn elsewhere(address: &str) -> Recipient {
        let routed = Routed { remote: vec![address.to_owned()], ..Routed::default() };
        Recipient { address: address.to_owned(), routed, dsn: Dsn::default() }
    }

    /// As it is kept until the message is there: one that stands for very many is routed again by the queue, so that clients who name it again and again
    /// do not fill the memory.
    pub fn compact(self) -> Recipient {
        let mut routed = self.routed;
        routed.lost.truncate(TARGETS_KEPT_MAX);
        if routed.count() > TARGETS_KEPT_MAX {
            let waiting = vec![self.address.clone()];
            routed = Routed { waiting, lost: routed.lost, ..Routed::default() };
        }
        Recipient { routed, ..self }
    }

    /// For the queue, which routes it again.
    fn as_it_is(&self) -> Waiting {
        Waiting { dsn: self.dsn.clone(), ..Waiting::new(&self.address) }
    }
}

impl Inner {
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

    /// Does work that blocks on the disk for an item of the queue, when its turn comes.
    async fn at_disk<T>(&self, work: impl FnOnce() -> T) -> T {
        // Closed they never are.
        let _turn = self.at_disk.acquire().await;
        tokio::task::block_in_place(work)
    }

    /// Accepts an item of the spool durably, and tells the queue. Blocks.
    fn commit(&self, prepared: Prepared) -> io::Result<()> {
        let name = prepared.name().clone();
        self.spooler.accept(prepared).wait()?;
        self.committed(name);
        Ok(())
    }

    /// Tells log and queue of an item that is durable.
    fn committed(&self, name: ItemName) {
        let queue = self.store.path(Role::Queued, &name).full();
        self.log(&self.live.now(), Tag::Smtp, name.id(), None, &Event::Queued { queue: &queue });
        self.tell_queue(name);
    }

    /// Has an item tried now. Without a queue in this process nobody listens; the next one, or another process, finds the item.
    fn tell_queue(&self, name: ItemName) {
        if let Some(queue) = &*self.new_items.load() {
            let _ = queue.send(name);
        }
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

/// A spool file's path as the registry spells it, for IMail.
fn windows_path(config: &Config, file: &str) -> String {
    places::spool_path(config.root(), &config.registry.global.top_dir, file)
}
