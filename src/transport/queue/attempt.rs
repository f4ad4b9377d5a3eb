//! One try of one item: what is taken in hand, and in which order things are done. [`super::here`] and [`super::onward`] bring the message to its
//! recipients, [`super::settle`] writes down what came of it, [`super::tell`] tells the sender.

use super::here::{Part, Storing};
use super::lists::Crowd;
use super::onward::{Onward, outbound_size, refused};
use super::settle::{Results, Settled, Verdict};
use super::{Cause, wait};
use crate::config::Config;
use crate::lists::addresses::{Addresses, Seen};
use crate::mailbox::commit::BATCH_MESSAGES;
use crate::memory;
use crate::transport::Inner;
use crate::transport::bounce::{Action, Failure};
use crate::transport::deliver::{exact_address, key};
use crate::transport::disposition::Examination;
use crate::transport::incoming::MEMORY_MAX;
use crate::transport::remote::client::To;
use crate::transport::route::{
    ListTarget, MailboxTarget, Routed, Unroutable, elsewhere as elsewhere_of, route,
};
use layout::disk::Stamp;
use layout::logline::{Event, Status, Tag};
use layout::mbx::compose::Source;
use layout::name::SpoolId;
use layout::spool::dsn::MessageDsn;
use layout::spool::id::{ItemName, Origin, Role};
use layout::spool::qfile::{Envelope, Recipient};
use layout::spool::store::{Claim, LONE_ENVELOPE_MAX, Loaded, SETTLED, SpoolError, resting_since};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::SemaphorePermit;

/// When an item of which nothing is known, since it could not be read, is looked at again.
pub(super) const ODD_FOR: Duration = Duration::from_secs(60);
/// So many items are worked on at the disk at the same time: each of these needs a thread, and more threads than disk and processor keep busy only
/// take memory.
pub(in crate::transport) const AT_DISK_MAX: usize = 4;
/// Items with larger envelopes than this, in bytes, stand for many recipients: some forty.
const CROWDED: u64 = 2 << 10;
/// So many of these are in work at the same time, each with what it takes for its recipients.
pub(in crate::transport) const CROWDED_MAX: usize = 4;
/// An item that takes longer does not count among these: nobody waits for other people's slow servers and locked mailboxes.
const TURN_MAX: Duration = Duration::from_secs(2);
/// So many copies are under way at the same time, of all items: as many as are stored in one round, so that more would only take memory.
pub(in crate::transport) const COPIES_MAX: usize = BATCH_MESSAGES;
/// After so many copies the queue gives back the memory that they took: with each of them some is left between what stays.
const GIVEN_BACK_AFTER: usize = COPIES_MAX / 2;
/// So many are handed over at a time: while some are stored, the next are made ready.
const COPIES_AT_ONCE: usize = COPIES_MAX / 4;

/// Room for copies, as long as it is held.
pub(super) type Room<'a> = SemaphorePermit<'a>;
/// The turn of an item with many recipients, as long as it is held.
type Turn<'a> = SemaphorePermit<'a>;

/// What becomes of an item after a try.
pub(super) enum Rest {
    /// It waits, with this stamp.
    Until(Stamp, Instant),
    /// The same, but its D file is missing.
    Lone(Stamp, Instant),
    /// It is gone, or somebody else's: if it is still there, the next look finds it.
    Ended,
}

/// What is known of the item while it is tried.
pub(super) struct Pass<'a> {
    pub(super) inner: &'a Arc<Inner>,
    pub(super) config: &'a Arc<Config>,
    pub(super) id: SpoolId,
    pub(super) host: String,
    pub(super) sender: String,
    /// What the sender wants to be told.
    pub(super) dsn: MessageDsn,
    /// Did the client say SMTPUTF8?
    pub(super) utf8: bool,
    pub(super) source: Source,
    /// The same, for rules.
    pub(super) message: Examination,
    /// How long the message has been in the spool.
    pub(super) waited: Duration,
    /// The number of this try.
    pub(super) tries: u32,
    pub(super) asked: bool,
    /// Did a user's settings send this message on?
    pub(super) forwarded: bool,
    pub(super) results: Results,
    /// The addresses of the envelope of whose success the sender wants to hear.
    told_of_success: HashSet<String>,
    /// Lists that addresses of the envelope stand for.
    pub(super) lists: Vec<(String, ListTarget)>,
    /// Large groups that addresses of the envelope stand for.
    pub(super) crowds: Vec<Crowd>,
}

/// Tries an item.
pub(super) async fn work(inner: &Arc<Inner>, name: &ItemName, cause: Cause) -> Rest {
    match attempt(inner, name, cause).await {
        Ok(rest) => rest,
        Err(SpoolError::Busy(_) | SpoolError::Gone(_)) => Rest::Ended,
        Err(error) => {
            tracing::warn!(%error, item = %name, "an item of the spool could not be worked on");
            let text = format!("{name} could not be worked on: {error}");
            inner.log(&inner.live.now(), Tag::Smtp, name.id(), None, &Event::Note(&text));
            let file = inner.store.path(Role::Queued, name);
            let stamp = tokio::task::block_in_place(|| inner.live.now().root().disk().stat(&file));
            stamp.map_or(Rest::Ended, |(stamp, _)| Rest::Until(stamp, Instant::now() + ODD_FOR))
        }
    }
}

async fn attempt(inner: &Arc<Inner>, name: &ItemName, cause: Cause) -> Result<Rest, SpoolError> {
    let config = inner.live.now();
    let settings = &config.registry.services.smtp;
    if cause == Cause::Found
        && let Some(rest) = inner.at_disk(|| not_yet(inner, &config, name)).await?
    {
        return Ok(rest);
    }
    let mut turn: Option<Turn<'_>> = None;
    let taken = loop {
        match inner.at_disk(|| take(inner, &config, name, turn.is_some())).await? {
            Some(taken) => break taken,
            // Closed it never is.
            None => turn = inner.crowded.acquire().await.ok(),
        }
    };
    let Taken { mut claim, stamp, loaded, source, waited } = taken;
    let now = config.root().disk().now();
    let until = |time: Duration| Ok(Rest::Until(stamp, Instant::now() + time));
    if loaded.is_finished(now) {
        tokio::task::block_in_place(|| claim.finish())?;
        let why = if source.is_none() { "its message is missing" } else { "it has no recipients" };
        let text = format!("removed {name} from the spool: {why}");
        inner.log(&config, Tag::Smtp, name.id(), None, &Event::Note(&text));
        return Ok(Rest::Ended);
    }
    let age = age(now, loaded.since);
    let Some(source) = source else {
        return Ok(Rest::Lone(stamp, Instant::now() + LONE_ENVELOPE_MAX.saturating_sub(age)));
    };
    if loaded.envelope.is_finished() {
        return until(SETTLED.saturating_sub(age));
    }
    let mut envelope = loaded.envelope;
    let before = envelope.tries();
    let mut pass = Pass {
        inner,
        config: &config,
        id: name.id(),
        host: envelope.host().filter(|host| !host.is_empty()).unwrap_or_else(|| primary(&config)),
        sender: envelope.sender(),
        dsn: envelope.dsn(),
        utf8: envelope.is_utf8(),
        message: Examination::new(&source),
        source,
        waited,
        tries: before.unwrap_or(0).saturating_add(1),
        asked: cause == Cause::Asked,
        forwarded: name.extension().eq_ignore_ascii_case(Origin::Forward.extension()),
        // What came of it before, if that could not be written down.
        results: inner.unsettled.take(name),
        told_of_success: HashSet::new(),
        lists: Vec::new(),
        crowds: Vec::new(),
    };
    let queue = inner.store.path(Role::Queued, name).full();
    inner.log(&config, Tag::Smtp, name.id(), None, &Event::Processing { queue: &queue });
    let recipients = envelope.recipients();
    inner.explain(&config, name.id(), || {
        format!("try {} for {} recipients, because {}", pass.tries, recipients.len(), cause.text())
    });
    let told = recipients.iter().filter(|recipient| recipient.dsn.tells_success());
    pass.told_of_success = told.map(|recipient| recipient.address.clone()).collect();
    pass.deliver(recipients, &envelope, turn).await;
    pass.serve_lists(&mut claim, &mut envelope).await;
    inner.at_disk(|| pass.serve_crowds(&mut claim, &mut envelope)).await;
    let settled = inner.at_disk(|| pass.settle(claim, envelope, stamp)).await;
    let Settled { status, rest, ends_durably } =
        settled.inspect_err(|error| inner.unsettled.keep(name, &mut pass.results, error))?;
    if ends_durably {
        inner.spooler.removed().done().await?;
    }
    if matches!(status, Status::Requeued) && pass.results.tried {
        let tries_max = settings.max_tries;
        let event = Event::Requeuing { queue: &queue, tries: pass.tries, tries_max };
        inner.log(&config, Tag::Smtp, name.id(), None, &event);
    }
    if let Rest::Until(_, due) = rest {
        explain_pause(inner, &config, name.id(), due.saturating_duration_since(Instant::now()));
    }
    inner.log(&config, Tag::Smtp, name.id(), None, &Event::Finished { queue: &queue, status });
    Ok(rest)
}

/// Does an item that was there when we started rest on? There may be very many of these, so no claim is made to find out.
fn not_yet(inner: &Inner, config: &Config, name: &ItemName) -> Result<Option<Rest>, SpoolError> {
    let (envelope, stamp) = inner.store.envelope(name)?;
    let Some(tries) = envelope.tries() else { return Ok(None) };
    let age = age(config.root().disk().now(), resting_since(&stamp));
    let left = wait(&config.registry.services.smtp, tries).saturating_sub(age);
    if left.is_zero() {
        return Ok(None);
    }
    explain_pause(inner, config, name.id(), left);
    Ok(Some(Rest::Until(stamp, Instant::now() + left)))
}

fn age(now: i64, since: i64) -> Duration {
    Duration::from_nanos(now.saturating_sub(since).max(0) as u64)
}

/// With Verbose Logging, when an item is tried next.
fn explain_pause(inner: &Inner, config: &Config, id: SpoolId, pause: Duration) {
    inner.explain(config, id, || {
        // An item that is kept until somebody touches it waits for years.
        let due = chrono::Duration::from_std(pause).ok().map(|pause| chrono::Local::now() + pause);
        due.map_or_else(String::new, |due| format!("next try {}", due.format("%Y-%m-%d %H:%M:%S")))
    });
}

/// An item in our hands.
struct Taken {
    claim: Claim,
    /// The stamp of its Q file before it was read, so that an edit in between is noticed by the next look.
    stamp: Stamp,
    loaded: Loaded,
    /// Its message; a small one is in memory.
    source: Option<Source>,
    /// How long it has been in the spool: the age of the D file, which nobody writes again.
    waited: Duration,
}

/// Takes an item in hand. `None`: it stands for many, and it is not its turn.
fn take(
    inner: &Inner,
    config: &Config,
    name: &ItemName,
    has_turn: bool,
) -> Result<Option<Taken>, SpoolError> {
    let mut claim = inner.store.claim(name)?;
    let stamp = config.root().disk().stat(claim.queue_file())?.0;
    if stamp.size > CROWDED && !has_turn {
        return Ok(None);
    }
    let loaded = claim.load()?;
    let source = match &loaded.body {
        Some(source) if source.len() <= MEMORY_MAX as u64 => {
            Some(Source::Bytes(source.read(0, MEMORY_MAX)?.into()))
        }
        other => other.clone(),
    };
    let (disk, data) = (config.root().disk(), inner.store.path(Role::Data, name));
    let age = disk.stat(&data).map_or(0, |(stamp, _)| disk.now().saturating_sub(stamp.modified));
    let waited = Duration::from_nanos(u64::try_from(age).unwrap_or(0));
    Ok(Some(Taken { claim, stamp, loaded, source, waited }))
}

impl<'a> Pass<'a> {
    /// Brings the message to all who can be reached.
    async fn deliver(&mut self, recipients: Vec<Recipient>, envelope: &Envelope, turn: Option<Turn<'_>>) {
        let delivering = async {
            let elsewhere = self.deliver_here(recipients, envelope).await;
            let elsewhere = self.without_crowds(elsewhere);
            self.send(elsewhere).await;
        };
        let mut delivering = std::pin::pin!(delivering);
        if tokio::time::timeout(TURN_MAX, &mut delivering).await.is_err() {
            drop(turn);
            delivering.await;
        }
    }

    /// Brings the message to those who are here, and answers with the others.
    async fn deliver_here(&mut self, mut recipients: Vec<Recipient>, envelope: &Envelope) -> Vec<Onward> {
        let trusted = envelope.auth_user().is_some() || self.forwarded;
        let too_large = outbound_size(self.config, envelope, self.source.len());
        let (mut elsewhere, mut subject) = (Vec::new(), Vec::new());
        let (mut seen, mut storing) = (Seen::default(), VecDeque::new());
        let before: HashSet<String> = self.results.verdicts.keys().cloned().collect();
        recipients.retain(|recipient| !before.contains(&recipient.address));
        let is_again = !before.is_empty() || self.tries > 1;
        // Whoever is named himself has the message from this item, of which his mailbox knows, and not from one of a large group's.
        recipients.sort_by_key(|recipient| is_alias(self.config, &recipient.address));
        let mut rest = &recipients[..];
        while !rest.is_empty() {
            let mut mailboxes = Vec::new();
            let some = self.route(rest, trusted).await;
            let (recipients, later) = rest.split_at(some.len());
            rest = later;
            for (recipient, routed) in recipients.iter().zip(some) {
                let address = &recipient.address;
                let routed = match routed {
                    Ok(routed) => routed,
                    Err(why) => {
                        self.unroutable(address, why);
                        continue;
                    }
                };
                self.inner.explain(self.config, self.id, || whereabouts(address, &routed));
                self.results.verdict(address);
                let single = routed.count() == 1;
                if routed.discarded {
                    self.delivered(address);
                }
                for list in routed.lists {
                    if seen.insert(&list.address()) {
                        self.lists.push((address.clone(), list));
                    }
                }
                for target in routed.waiting {
                    if seen.insert(&target.to_lowercase()) {
                        self.run_program(address, target).await;
                    }
                }
                for lost in &routed.lost {
                    self.inner.log(self.config, Tag::Smtp, self.id, None, &Event::Refused(lost));
                }
                let (mut own, mut others) = (routed.mailboxes, routed.remote);
                let laid_out = envelope.laid_out(&Crowd::key(address)).is_some();
                if laid_out {
                    (own, others) = (Vec::new(), Vec::new());
                }
                own.retain(|target| seen.insert(&key(target)));
                others.retain(|target| seen.insert(&target.to_lowercase()));
                if laid_out || own.len() + others.len() > Crowd::MORE_THAN {
                    // Whoever was named himself has it from an earlier try.
                    let lacks = |target: &MailboxTarget| !is_again || !self.inner.has_copy(target, self.id);
                    let exact = |target| exact_address(self.config, &target);
                    let here = || own.drain(..).filter(lacks).map(exact).collect();
                    let here = self.inner.at_disk(here).await;
                    self.crowds.push(Crowd {
                        group: recipient.clone(),
                        here,
                        elsewhere: Addresses::default(),
                    });
                }
                let onward = if recipient.ruled { &mut elsewhere } else { &mut subject };
                let of: Arc<str> = address.as_str().into();
                onward.reserve(others.len());
                for target in others {
                    if let Some(why) = &too_large {
                        self.failed(address, [refused(&target, why)]);
                        continue;
                    }
                    let of = (target != *address).then(|| of.clone());
                    onward.push(Onward { to: To { address: target, dsn: recipient.dsn.clone() }, of });
                }
                mailboxes.push((recipient, own, single));
            }
            // Those that are under way at the same time share their syncs.
            for parts in batches(&mailboxes) {
                let copies = parts.iter().map(|part| part.mailboxes.len()).sum();
                let room = self.room(&mut storing, copies).await;
                storing.push_back(self.store(&parts, room).await);
            }
        }
        for some in storing {
            self.stored(some).await;
        }
        // Mailboxes of one address may come in several parts: who asked hears of success when all have the message.
        for (address, Verdict { left, failures, arrived }) in &mut self.results.verdicts {
            let everywhere = left.is_empty() && failures.is_empty();
            if !everywhere && !before.contains(address) {
                arrived.retain(|(who, how)| who != address || *how != Action::Delivered);
            }
        }
        elsewhere.extend(self.outbound(envelope, subject).await);
        elsewhere
    }

    /// Where the first of these recipients lead: as many of them as stand for [`COPIES_AT_ONCE`] in all, so that large groups come one by one.
    async fn route(&self, recipients: &[Recipient], trusted: bool) -> Vec<Result<Routed, Unroutable>> {
        let remote = |Recipient { address, .. }: &Recipient| {
            elsewhere_of(self.config, address)?;
            Some(Ok(Routed { remote: vec![address.clone()], ..Routed::default() }))
        };
        let recipients = &recipients[..recipients.len().min(COPIES_AT_ONCE)];
        let mut found = 0;
        let here = |recipient: &Recipient| {
            if found >= COPIES_AT_ONCE {
                return None;
            }
            let routed = remote(recipient).unwrap_or_else(|| route(self.config, &recipient.address, trusted));
            found += routed.as_ref().map_or(1, |routed| routed.count().max(1));
            Some(routed)
        };
        // Without anybody here the disk is not asked.
        match recipients.iter().map(remote).collect() {
            Some(all) => all,
            None => self.inner.at_disk(|| recipients.iter().map_while(here).collect()).await,
        }
    }

    /// Room for so many more copies. Whoever waits for it has none of his own under way, so that no two can wait for each other.
    async fn room(&mut self, storing: &mut VecDeque<Storing<'a>>, copies: usize) -> Option<Room<'a>> {
        let (all, inner) = (u32::try_from(copies).unwrap_or(u32::MAX), self.inner);
        loop {
            match (inner.copies.try_acquire_many(all), storing.pop_front()) {
                (Ok(room), first) => {
                    first.into_iter().for_each(|first| storing.push_front(first));
                    return Some(room);
                }
                (Err(_), Some(first)) => self.stored(first).await,
                // Closed it never is.
                (Err(_), None) => return inner.copies.acquire_many(all).await.ok(),
            }
        }
    }

    /// Gives memory back when so many more copies were stored.
    pub(super) async fn give_back(&self, copies: usize) {
        let before = self.inner.copies_stored.fetch_add(copies, Ordering::Relaxed);
        if before / GIVEN_BACK_AFTER != before.wrapping_add(copies) / GIVEN_BACK_AFTER {
            self.inner.at_disk(memory::give_back).await;
        }
    }

    /// Takes out those who belong to large groups.
    fn without_crowds(&mut self, elsewhere: Vec<Onward>) -> Vec<Onward> {
        let mut groups: HashMap<String, &mut Crowd> =
            self.crowds.iter_mut().map(|crowd| (crowd.group.address.clone(), crowd)).collect();
        let mut others = Vec::new();
        for one in elsewhere {
            match groups.get_mut(one.address()) {
                Some(crowd) => crowd.elsewhere.push(&one.to.address),
                None => others.push(one),
            }
        }
        others
    }

    fn unroutable(&mut self, address: &str, why: Unroutable) {
        let verdict = self.results.verdict(address);
        match why {
            Unroutable::UnknownUser => verdict.failures.push(Failure::invalid_user(address)),
            Unroutable::Syntax | Unroutable::NotLocal(_) => {
                verdict.failures.push(Failure::undeliverable(address));
            }
            // What it names is not there, or not allowed, for the time being: no try at all.
            Unroutable::Unavailable(_) => verdict.left.push(address.to_owned()),
        }
    }

    /// The message is where the address leads, here.
    pub(super) fn delivered(&mut self, address: &str) {
        self.arrived(address, address, Action::Delivered);
    }

    /// One of those whom an address stands for has the message.
    pub(super) fn arrived(&mut self, address: &str, who: &str, how: Action) {
        let told = self.told_of_success.contains(address);
        let verdict = self.results.verdict(address);
        // The mailboxes of an address are filled in several turns, each of which comes here.
        let arrived = (who.to_owned(), how);
        if told && !verdict.arrived.contains(&arrived) {
            verdict.arrived.push(arrived);
        }
    }

    /// One of those that an address stands for waits for the next try, if there is one.
    pub(super) fn left(&mut self, address: &str, target: String) {
        let tries_max = self.config.registry.services.smtp.max_tries;
        match self.tries >= tries_max {
            true => self.failed(address, [Failure::tries_used_up(&target, tries_max)]),
            false => self.results.verdict(address).left.push(target),
        }
    }

    pub(super) fn failed(&mut self, address: &str, failures: impl IntoIterator<Item = Failure>) {
        self.results.verdict(address).failures.extend(failures);
    }

    pub(super) fn note(&self, target: &str, why: &str) {
        let text = format!("{target}: {why}");
        self.inner.log(self.config, Tag::Smtp, self.id, None, &Event::Refused(&text));
    }
}

/// Divides mailboxes into parts, and these into batches of at most [`COPIES_AT_ONCE`] copies.
fn batches<'a>(mailboxes: &'a [(&'a Recipient, Vec<MailboxTarget>, bool)]) -> Vec<Vec<Part<'a>>> {
    let mut batches: Vec<Vec<Part<'a>>> = Vec::new();
    let mut room = 0;
    for (recipient, all, single) in mailboxes {
        for mailboxes in all.chunks(COPIES_AT_ONCE) {
            if mailboxes.len() > room || batches.is_empty() {
                batches.push(Vec::new());
                room = COPIES_AT_ONCE;
            }
            room -= mailboxes.len();
            let part = Part { recipient, mailboxes, single: *single };
            batches.last_mut().into_iter().for_each(|batch| batch.push(part));
        }
    }
    batches
}

/// Where an address leads, for Verbose Logging.
fn whereabouts(address: &str, routed: &Routed) -> String {
    let mailboxes = routed.mailboxes.iter().map(|target| format!("{target:?}"));
    let elsewhere = routed.remote.iter().chain(&routed.waiting).cloned();
    let lists = routed.lists.iter().map(ListTarget::address);
    let all: Vec<String> = mailboxes.chain(elsewhere).chain(lists).collect();
    format!("{address} goes to {}", if all.is_empty() { "nobody".to_owned() } else { all.join(", ") })
}

/// Is it an alias here, which may stand for many?
fn is_alias(config: &Config, address: &str) -> bool {
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    config.local_domain(domain).is_some_and(|domain| domain.alias(local).is_some())
}

fn primary(config: &Config) -> String {
    config.registry.primary().map_or_else(|| "localhost".to_owned(), |domain| domain.name.clone())
}
