//! One try of one item: who gets the message, what came of it, what is left; [`super::tell`] tells the sender.

use super::tell::Told;
use super::{Cause, wait};
use crate::config::Config;
use crate::rules::Hit;
use crate::transport::Inner;
use crate::transport::bounce::{Action, Failure};
use crate::transport::deliver::{Copy, Letter, Placed, key, mailbox_address};
use crate::transport::disposition::{Before, Examination};
use crate::transport::incoming::MEMORY_MAX;
use crate::transport::program::{self, Ended};
use crate::transport::remote::client::{Mail, Problem, Stage, To};
use crate::transport::remote::{Attempt, Job, domain_of};
use crate::transport::route::{
    ListTarget, MailboxTarget, Routed, Unroutable, elsewhere as elsewhere_of, route,
};
use layout::disk::Stamp;
use layout::logline::{Delivery, Event, Status, Tag};
use layout::mbx::compose::Source;
use layout::name::SpoolId;
use layout::registry::model::Domain;
use layout::rules::Target;
use layout::spool::dsn::MessageDsn;
use layout::spool::id::{ItemName, Origin, Role};
use layout::spool::qfile::{Envelope, Recipient};
use layout::spool::store::{Claim, LONE_ENVELOPE_MAX, Loaded, SETTLED, SpoolError, resting_since};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// When an item of which nothing is known, since it could not be read, is looked at again.
const ODD_FOR: Duration = Duration::from_secs(60);
/// How long an item rests that nobody can be told of: until an admin touches it.
const KEPT_FOR: Duration = Duration::from_secs(10 * 365 * 86_400);
/// So many copies are under way at the same time, twice as many at most.
const COPIES_AT_ONCE: usize = 256;
/// To how many domains one message is sent at a time.
const DOMAINS_AT_ONCE: usize = 20;
/// How often a Q file may be edited by somebody else while its new content is written.
const EDITS_MAX: usize = 3;

/// What becomes of an item after a try.
pub(super) enum Rest {
    /// It waits, with this stamp.
    Until(Stamp, Instant),
    /// The same, but its D file is missing.
    Lone(Stamp, Instant),
    /// It is gone, or somebody else's: if it is still there, the next look finds it.
    Ended,
}

/// How a try ended.
struct Settled {
    status: Status,
    rest: Rest,
    /// Mailboxes know what they have; but what went elsewhere must not come back after a power cut, so that it is gone has to be made durable.
    ends_durably: bool,
}

/// Copies for one recipient that are under way.
struct Storing {
    /// The address in the envelope.
    address: String,
    /// Is it one mailbox?
    single: bool,
    copies: Vec<Copy>,
    /// Mailboxes that have no room, as addresses.
    full: Vec<String>,
    /// Mailboxes for which it has to be tried again.
    left: Vec<Recipient>,
    /// Did a mailbox's settings send it somewhere else?
    sent_on: bool,
}

/// What came of one address in the envelope.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdict {
    /// Who is left of those that the address stands for, as addresses.
    pub(super) left: Vec<String>,
    pub(super) failures: Vec<Failure>,
    /// Who has the message, if the next server does not tell the sender itself.
    pub(super) arrived: Vec<(String, Action)>,
}

/// The address in the envelope, and the one elsewhere that it leads to.
type Onward = (String, To);

/// All verdicts of a pass, by the address in the envelope.
type Verdicts = HashMap<String, Verdict>;

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
    tries: u32,
    asked: bool,
    /// Did a user's settings send this message on?
    forwarded: bool,
    pub(super) verdicts: Verdicts,
    /// Was anything really tried?
    pub(super) tried: bool,
    /// Did another server, a program, or another item of the spool get the message?
    pub(super) sent: bool,
    /// When a destination that is left alone may be tried.
    not_before: Option<Instant>,
    /// Lists that addresses of the envelope stand for.
    pub(super) lists: Vec<(String, ListTarget)>,
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
            let stamp = inner.live.now().root().disk().stat(&inner.store.path(Role::Queued, name));
            stamp.map_or(Rest::Ended, |(stamp, _)| Rest::Until(stamp, Instant::now() + ODD_FOR))
        }
    }
}

async fn attempt(inner: &Arc<Inner>, name: &ItemName, cause: Cause) -> Result<Rest, SpoolError> {
    let config = inner.live.now();
    let settings = &config.registry.services.smtp;
    if cause == Cause::Found
        && let Some(rest) = tokio::task::block_in_place(|| not_yet(inner, &config, name))?
    {
        return Ok(rest);
    }
    let taken = tokio::task::block_in_place(|| take(inner, &config, name))?;
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
        verdicts: Verdicts::new(),
        tried: false,
        sent: false,
        not_before: None,
        lists: Vec::new(),
    };
    let queue = inner.store.path(Role::Queued, name).full();
    inner.log(&config, Tag::Smtp, name.id(), None, &Event::Processing { queue: &queue });
    let count = envelope.recipients().len();
    inner.explain(&config, name.id(), || {
        format!("try {} for {count} recipients, because {}", pass.tries, cause.text())
    });
    pass.deliver(&envelope).await;
    pass.serve_lists(&mut claim, &mut envelope).await;
    let Settled { status, rest, ends_durably } =
        tokio::task::block_in_place(|| pass.settle(claim, envelope, stamp))?;
    if ends_durably {
        inner.spooler.removed().done().await?;
    }
    if matches!(status, Status::Requeued) && pass.tried {
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

fn take(inner: &Inner, config: &Config, name: &ItemName) -> Result<Taken, SpoolError> {
    let mut claim = inner.store.claim(name)?;
    let stamp = config.root().disk().stat(claim.queue_file())?.0;
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
    Ok(Taken { claim, stamp, loaded, source, waited })
}

impl Pass<'_> {
    /// Brings the message to all who can be reached.
    async fn deliver(&mut self, envelope: &Envelope) {
        let trusted = envelope.auth_user().is_some() || self.forwarded;
        let too_large = outbound_size(self.config, envelope, self.source.len());
        let (mut elsewhere, mut subject) = (Vec::new(), Vec::new());
        let (mut seen, mut storing) = (HashSet::new(), Vec::new());
        for recipient in envelope.recipients() {
            let address = recipient.address.clone();
            let routed = match elsewhere_of(self.config, &address) {
                Some(_) => Ok(Routed { remote: vec![address.clone()], ..Routed::default() }),
                None => tokio::task::block_in_place(|| route(self.config, &address, trusted)),
            };
            let routed = match routed {
                Ok(routed) => routed,
                Err(why) => {
                    self.unroutable(&address, why);
                    continue;
                }
            };
            self.inner.explain(self.config, self.id, || whereabouts(&address, &routed));
            self.verdicts.entry(address.clone()).or_default();
            for list in routed.lists {
                if seen.insert(list.address()) {
                    self.lists.push((address.clone(), list));
                }
            }
            for target in routed.waiting {
                if seen.insert(target.to_lowercase()) {
                    self.run_program(&address, target).await;
                }
            }
            for target in routed.remote {
                if !seen.insert(target.to_lowercase()) {
                    continue;
                }
                if let Some(why) = &too_large {
                    self.verdicts.entry(address.clone()).or_default().failures.push(refused(&target, why));
                    continue;
                }
                let to = To { address: target, dsn: recipient.dsn.clone() };
                let onward = if recipient.ruled { &mut elsewhere } else { &mut subject };
                onward.push((address.clone(), to));
            }
            for lost in &routed.lost {
                self.inner.log(self.config, Tag::Smtp, self.id, None, &Event::Refused(lost));
            }
            let mailboxes: Vec<_> =
                routed.mailboxes.into_iter().filter(|target| seen.insert(key(target))).collect();
            let single = mailboxes.len() == 1;
            // Those that are under way at the same time share their syncs.
            for some in mailboxes.chunks(COPIES_AT_ONCE) {
                storing.push(self.store(&recipient, some, single));
                if storing.iter().map(|one| one.copies.len()).sum::<usize>() >= COPIES_AT_ONCE {
                    self.stored(std::mem::take(&mut storing)).await;
                }
            }
        }
        self.stored(storing).await;
        elsewhere.extend(self.outbound(envelope, subject));
        let mut domains: Vec<_> = by_domain(elsewhere).into_iter().collect();
        while !domains.is_empty() {
            let rest = domains.split_off(domains.len().min(DOMAINS_AT_ONCE));
            self.send(std::mem::replace(&mut domains, rest)).await;
        }
    }

    /// Applies the rules for what goes out, to all recipients elsewhere at once; at each try, so that an edit reaches what waits. Answers with
    /// those to whom the message still goes.
    fn outbound(&mut self, envelope: &Envelope, subject: Vec<Onward>) -> Vec<Onward> {
        let (inner, config) = (self.inner, self.config);
        let Some(domain) = sending_domain(config, envelope).filter(|_| !subject.is_empty()) else {
            return subject;
        };
        let done = tokio::task::block_in_place(|| {
            let Some((_, hit)) = self.message.outbound(config, &inner.rules, domain)? else {
                return Ok(None);
            };
            if let Target::Forward(to) = &hit.target {
                let recipient = Recipient { ruled: true, ..Recipient::new(to) };
                inner.forward(config, &self.host, &self.sender, vec![recipient], &self.source)?;
            }
            Ok::<_, std::io::Error>(Some(hit))
        });
        match done {
            Ok(None) => return subject,
            Ok(Some(hit)) => {
                for (address, to) in &subject {
                    self.diverted(address, &to.address, &hit);
                }
            }
            Err(error) => {
                for (address, to) in subject {
                    self.note(&to.address, &format!("the rules for outgoing mail: {error}"));
                    self.left(&address, to.address);
                }
            }
        }
        self.tried = true;
        Vec::new()
    }

    /// An outbound rule sent the message elsewhere than to this recipient, or nowhere.
    fn diverted(&mut self, address: &str, from: &str, hit: &Hit) {
        self.verdicts.entry(address.to_owned()).or_default();
        let log = |event: &Event<'_>| self.inner.log(self.config, Tag::Smtp, self.id, None, event);
        match &hit.target {
            Target::Forward(to) => {
                log(&Event::Forwarded { from, to });
                self.sent = true;
            }
            _ => log(&Event::Note(&format!("discarded for {from} by the outbound rule {}", hit.rule))),
        }
    }

    fn unroutable(&mut self, address: &str, why: Unroutable) {
        let verdict = self.verdicts.entry(address.to_owned()).or_default();
        match why {
            Unroutable::UnknownUser => verdict.failures.push(Failure::invalid_user(address)),
            Unroutable::Syntax | Unroutable::NotLocal(_) => {
                verdict.failures.push(Failure::undeliverable(address));
            }
            // What it names is not there, or not allowed, for the time being: no try at all.
            Unroutable::Unavailable(_) => verdict.left.push(address.to_owned()),
        }
    }

    /// Hands the copies of a recipient to their mailboxes. `single`: there are no others.
    fn store(&self, recipient: &Recipient, mailboxes: &[MailboxTarget], single: bool) -> Storing {
        let address = recipient.address.clone();
        let shown = recipient.original.as_ref().unwrap_or(&address);
        let Pass { inner, config, id, sender, source, message, forwarded, .. } = self;
        let before = Before { ruled: recipient.ruled, sent_on: *forwarded };
        let dsn = &recipient.dsn;
        let letter = Letter { sender, recipient: shown, dsn, id: *id, source, message, before };
        let (mut copies, mut full, mut left, mut sent_on) = (Vec::new(), Vec::new(), Vec::new(), false);
        tokio::task::block_in_place(|| {
            for target in mailboxes {
                match inner.place(config, target, letter) {
                    Placed::UnderWay(copy) => copies.push(*copy),
                    Placed::SentOn => sent_on = true,
                    Placed::PutOff(waiting) => left.push(waiting),
                    Placed::Full => full.push(mailbox_address(config, target)),
                }
            }
        });
        Storing { address, single, copies, full, left, sent_on }
    }

    /// Waits for copies, and takes down what came of them.
    async fn stored(&mut self, storing: Vec<Storing>) {
        for Storing { address, single, copies, full, mut left, sent_on } in storing {
            // The address as it stands leads there again; only one of several mailboxes gets a name of its own.
            let name = |own: String| if single { address.clone() } else { own };
            let Pass { inner, config, id, sender, source, .. } = self;
            left.extend(inner.finish_copies(config, *id, sender, source.len(), copies).await);
            self.tried = true;
            self.sent |= sent_on;
            if left.is_empty() && full.is_empty() {
                self.delivered(&address);
            }
            self.failed(&address, full.into_iter().map(|target| Failure::mailbox_full(&name(target))));
            for waiting in left {
                self.left(&address, name(waiting.address));
            }
        }
    }

    /// Gives the message to the program behind an alias. One that is not allowed is none of the message's tries: it waits until the
    /// administrator allows it, however long that takes.
    async fn run_program(&mut self, address: &str, target: String) {
        let ended = match program::program_of(self.config, &target) {
            Some(program) => {
                let Pass { inner, config, source, .. } = self;
                let time_max = inner.program_time_max;
                program::run(config, &inner.store, &inner.ids, &program, source, time_max).await
            }
            None => Ended::NotAllowed("this alias leads to a program no more".to_owned()),
        };
        self.tried |= !matches!(ended, Ended::NotAllowed(_));
        let (Ended::NotAllowed(why) | Ended::TryAgain(why) | Ended::Failed(why)) = &ended else {
            self.sent = true;
            self.delivered(address);
            let (host, bytes) = (domain_of(&target), self.source.len());
            let delivery = Delivery { host, recipient: &target, count: 1, sender: &self.sender, bytes };
            return self.inner.log(self.config, Tag::Smtp, self.id, None, &Event::LocalDelivery(delivery));
        };
        self.note(&target, why);
        match ended {
            Ended::Delivered => {}
            Ended::NotAllowed(_) => self.verdicts.entry(address.to_owned()).or_default().left.push(target),
            Ended::TryAgain(_) => self.left(address, target),
            Ended::Failed(_) => self.failed(address, [Failure::undeliverable(&target)]),
        }
    }

    /// The message is where the address leads, here.
    fn delivered(&mut self, address: &str) {
        let verdict = self.verdicts.entry(address.to_owned()).or_default();
        verdict.arrived.push((address.to_owned(), Action::Delivered));
    }

    /// One of those that an address stands for waits for the next try, if there is one.
    pub(super) fn left(&mut self, address: &str, target: String) {
        let tries_max = self.config.registry.services.smtp.max_tries;
        match self.tries >= tries_max {
            true => self.failed(address, [Failure::tries_used_up(&target, tries_max)]),
            false => self.verdicts.entry(address.to_owned()).or_default().left.push(target),
        }
    }

    fn failed(&mut self, address: &str, failures: impl IntoIterator<Item = Failure>) {
        self.verdicts.entry(address.to_owned()).or_default().failures.extend(failures);
    }

    /// Sends the message to several domains at a time.
    async fn send(&mut self, domains: Vec<(String, Vec<Onward>)>) {
        let mut tasks = tokio::task::JoinSet::new();
        for (domain, pairs) in domains {
            let (inner, config, source) = (self.inner.clone(), self.config.clone(), self.source.clone());
            let (host, sender, force) = (self.host.clone(), self.sender.clone(), self.asked);
            let (tries, dialogue) = (self.tries - 1, inner.dialogue(&config, self.id));
            let (dsn, utf8) = (self.dsn.clone(), self.utf8);
            tasks.spawn(async move {
                let recipients: Vec<To> = pairs.iter().map(|(_, to)| to.clone()).collect();
                let mail =
                    Mail { sender: &sender, recipients: &recipients, dsn: &dsn, utf8, source: &source };
                let job = Job { config: &config, name: &host, domain: &domain, mail, tries, force, dialogue };
                let attempt = inner.remote.deliver(&job).await;
                (domain, pairs, attempt)
            });
        }
        let mut broken = None;
        while let Some(done) = tasks.join_next().await {
            match done {
                Ok((domain, pairs, attempt)) => self.sent_to(&domain, pairs, attempt),
                Err(error) => broken = Some(error),
            }
        }
        // Nothing is known of what that task did, so nothing of this item may be changed.
        if let Some(error) = broken
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }

    /// Takes down what came of one domain.
    fn sent_to(&mut self, domain: &str, pairs: Vec<Onward>, attempt: Attempt) {
        let outcomes = match attempt {
            Attempt::Later(until) => {
                self.inner.explain(self.config, self.id, || {
                    format!("{domain} is not tried now: it did not answer a short while ago, or it is busy with others")
                });
                self.not_before = Some(self.not_before.map_or(until, |before| before.min(until)));
                for (address, to) in pairs {
                    self.verdicts.entry(address).or_default().left.push(to.address);
                }
                return;
            }
            Attempt::Made(outcomes) => outcomes,
        };
        self.tried = true;
        let delivered: Vec<&String> =
            pairs.iter().zip(&outcomes).filter(|(_, o)| o.is_ok()).map(|((_, to), _)| &to.address).collect();
        if let Some(first) = delivered.first() {
            self.sent = true;
            let (count, bytes) = (delivered.len(), self.source.len());
            let delivery = Delivery { host: domain, recipient: first, count, sender: &self.sender, bytes };
            self.inner.log(self.config, Tag::Smtp, self.id, None, &Event::RemoteDelivery(delivery));
        }
        let tries_max = self.config.registry.services.smtp.max_tries;
        for ((address, To { address: target, .. }), outcome) in pairs.into_iter().zip(outcomes) {
            let problem = match outcome {
                // The next server tells the sender.
                Ok(taken) if taken.dsn => continue,
                Ok(_) => {
                    let verdict = self.verdicts.entry(address).or_default();
                    verdict.arrived.push((target, Action::Relayed));
                    continue;
                }
                Err(problem) => problem,
            };
            self.log_problem(&target, &problem);
            let verdict = self.verdicts.entry(address).or_default();
            match failure(&target, &problem, self.tries, tries_max) {
                Some(failure) => verdict.failures.push(failure),
                None => verdict.left.push(target),
            }
        }
    }

    fn log_problem(&self, target: &str, problem: &Problem) {
        self.note(target, &problem.lines.join(" / "));
    }

    pub(super) fn note(&self, target: &str, why: &str) {
        let text = format!("{target}: {why}");
        self.inner.log(self.config, Tag::Smtp, self.id, None, &Event::Refused(&text));
    }

    /// Makes the outcome durable: first the bounce, then the Q file, then the end.
    fn settle(
        &mut self,
        mut claim: Claim,
        mut envelope: Envelope,
        stamp: Stamp,
    ) -> Result<Settled, SpoolError> {
        let settings = &self.config.registry.services.smtp;
        let bounced = self.bounce(&envelope)?;
        self.tell_success(&envelope);
        let delay_told = self.tell_delay(&envelope);
        let kept = bounced == Told::Nobody;
        for edit in 0.. {
            if delay_told {
                envelope.set_delay_told(|_, recipient| self.waits(recipient));
            }
            self.apply(&mut envelope, kept);
            if self.tried {
                envelope.set_tries(self.tries);
            }
            let ended = envelope.is_finished();
            if ended {
                match claim.finish() {
                    Err(SpoolError::Changed(name)) if edit < EDITS_MAX => {
                        claim = self.inner.store.claim(&name)?;
                        envelope = claim.load()?.envelope;
                        continue;
                    }
                    done => done?,
                }
                let status = if bounced == Told::Sender { Status::Bounced } else { Status::Done };
                let ends_durably = self.sent || bounced == Told::Sender;
                return Ok(Settled { status, rest: Rest::Ended, ends_durably });
            }
            let unchanged = !self.tried && bounced == Told::NoNeed;
            let written = if unchanged { Ok(stamp) } else { claim.update(&envelope) };
            let stamp = match written {
                Err(SpoolError::Changed(_)) if edit < EDITS_MAX => {
                    envelope = claim.load()?.envelope;
                    continue;
                }
                written => written?,
            };
            let due = match self.not_before {
                _ if kept => Instant::now() + KEPT_FOR,
                Some(until) => until.min(Instant::now() + wait(settings, self.tries)),
                None => Instant::now() + wait(settings, self.tries),
            };
            let status = if kept { Status::InternalError } else { Status::Requeued };
            return Ok(Settled { status, rest: Rest::Until(stamp, due), ends_durably: false });
        }
        let rest = Rest::Until(stamp, Instant::now() + ODD_FOR);
        Ok(Settled { status: Status::InternalError, rest, ends_durably: false })
    }

    /// Leaves in the envelope who is left. `kept`: those who were given up stay as well, since nobody could be told.
    fn apply(&self, envelope: &mut Envelope, kept: bool) {
        let mut add = Vec::new();
        envelope.retain_recipients(|_, recipient| {
            let Some(verdict) = self.verdicts.get(&recipient.address) else { return true };
            let failed = verdict.failures.iter().map(|failure| &failure.recipient).filter(|_| kept);
            let left: Vec<&String> = verdict.left.iter().chain(failed).collect();
            if left.iter().any(|address| **address == recipient.address) {
                return true;
            }
            let original = recipient.original.clone().or_else(|| Some(recipient.address.clone()));
            add.extend(left.into_iter().map(|address| Recipient {
                address: address.clone(),
                original: original.clone(),
                ruled: recipient.ruled,
                dsn: recipient.dsn.clone(),
            }));
            false
        });
        add.iter().for_each(|recipient| envelope.add_recipient(recipient));
    }
}

/// Recipients elsewhere by their domain.
fn by_domain(elsewhere: Vec<Onward>) -> HashMap<String, Vec<Onward>> {
    let mut domains: HashMap<String, Vec<Onward>> = HashMap::new();
    for (address, to) in elsewhere {
        let domain = domain_of(&to.address).to_ascii_lowercase();
        domains.entry(domain).or_default().push((address, to));
    }
    domains
}

/// The domain here whose mail it is: that of the user who logged in, else the sender's.
fn sending_domain<'a>(config: &'a Config, envelope: &Envelope) -> Option<&'a Domain> {
    let user = envelope.auth_user().filter(|user| user.contains('@')).unwrap_or_else(|| envelope.sender());
    config.local_domain(domain_of(&user))
}

/// Why a message may not leave its sender's domain: the domain's largest outbound message (IMail manual 4-2 (2)), which never counts between
/// users here. The size is that of the D file, in bytes.
fn outbound_size(config: &Config, envelope: &Envelope, size: u64) -> Option<String> {
    let domain = sending_domain(config, envelope)?;
    let max = domain.max_outbound_size;
    let text = format!("552 5.3.4 {size} bytes are more than the {max} that may leave {}", domain.name);
    (max != 0 && size > max).then_some(text)
}

/// A failure that was decided here. The reason stands behind the address, where parsers do not look for it.
fn refused(target: &str, why: &str) -> Failure {
    let failure = Failure::new(target, format!("undeliverable to {target} ({why})"));
    Failure { reply: vec![why.to_owned()], ..failure }
}

/// Where an address leads, for Verbose Logging.
fn whereabouts(address: &str, routed: &Routed) -> String {
    let mailboxes = routed.mailboxes.iter().map(|target| format!("{target:?}"));
    let elsewhere = routed.remote.iter().chain(&routed.waiting).cloned();
    let lists = routed.lists.iter().map(ListTarget::address);
    let all: Vec<String> = mailboxes.chain(elsewhere).chain(lists).collect();
    format!("{address} goes to {}", if all.is_empty() { "nobody".to_owned() } else { all.join(", ") })
}

/// The failure that a problem is: at once, or when the tries are used up.
fn failure(target: &str, problem: &Problem, tries: u32, tries_max: u32) -> Option<Failure> {
    let failure = match (problem.permanent, problem.stage) {
        (false, _) if tries < tries_max => return None,
        (false, _) => Failure::tries_used_up(target, tries_max),
        (true, Stage::Lookup) => Failure::unknown_host(target),
        (true, Stage::Policy) => refused(target, &problem.lines.join(" ")),
        (true, Stage::Recipient) => Failure::unknown_user(target),
        (true, _) => Failure::undeliverable(target),
    };
    Some(match problem.stage.text() {
        Some(stage) => failure.with_reply(stage, problem.lines.clone()),
        None => failure,
    })
}

fn primary(config: &Config) -> String {
    config.registry.primary().map_or_else(|| "localhost".to_owned(), |domain| domain.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_it_is_given_up() {
        let passing = Problem::passing(Stage::Connect, "refused");
        assert_eq!(failure("a@x", &passing, 19, 20), None);
        assert_eq!(failure("a@x", &passing, 20, 20).unwrap().reason, "Delivery failed 20 attempts: a@x");
        for (stage, reason) in
            [(Stage::Recipient, "Unknown user: a@x"), (Stage::Body, "undeliverable to a@x")]
        {
            let lasting = Problem::lasting(stage, "550 no");
            let failure = failure("a@x", &lasting, 1, 20).unwrap();
            assert_eq!((failure.reason.as_str(), failure.reply), (reason, vec!["550 no".to_owned()]));
        }
    }
}
