//! One try of one item: who gets the message, what came of it, who is told, what is left.

use super::{Cause, wait};
use crate::config::Config;
use crate::transport::bounce::{self, Failure};
use crate::transport::incoming::MEMORY_MAX;
use crate::transport::program::{self, Ended};
use crate::transport::remote::client::{Mail, Problem, Stage};
use crate::transport::remote::{Attempt, domain_of};
use crate::transport::route::{MailboxTarget, Routed, Unroutable, route};
use crate::transport::{Inner, Letter, Placed, key, mailbox_address, windows_path};
use layout::disk::Stamp;
use layout::logline::{Delivery, Event, Status, Tag};
use layout::mbx::compose::Source;
use layout::name::SpoolId;
use layout::registry::model::BounceFormat;
use layout::spool::id::{ItemName, Origin as Kind, Role};
use layout::spool::qfile::{Envelope, Fields, Recipient};
use layout::spool::store::{Body, Claim, LONE_ENVELOPE_MAX, Loaded, SETTLED, SpoolError, resting_since};
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// When an item of which nothing is known, since it could not be read, is looked at again.
const ODD_FOR: Duration = Duration::from_secs(60);
/// How long an item rests that nobody can be told of: until an admin touches it.
const KEPT_FOR: Duration = Duration::from_secs(10 * 365 * 86_400);
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

/// What came of one address in the envelope.
#[derive(Clone, Debug, Default)]
struct Verdict {
    /// Who is left of those that the address stands for, as addresses.
    left: Vec<String>,
    failures: Vec<Failure>,
}

/// All verdicts of a pass, by the address in the envelope.
type Verdicts = HashMap<String, Verdict>;

/// What is known of the item while it is tried.
struct Pass<'a> {
    inner: &'a Arc<Inner>,
    config: &'a Arc<Config>,
    id: SpoolId,
    host: String,
    sender: String,
    source: Source,
    /// The number of this try.
    tries: u32,
    asked: bool,
    /// Did a user's settings send this message on?
    forwarded: bool,
    verdicts: Verdicts,
    /// Was anything really tried?
    tried: bool,
    /// Did another server, a program, or another item of the spool get the message?
    sent: bool,
    /// When a destination that is left alone may be tried.
    not_before: Option<Instant>,
}

/// Tries an item.
pub(super) async fn work(inner: &Arc<Inner>, name: &ItemName, cause: Cause) -> Rest {
    match attempt(inner, name, cause).await {
        Ok(rest) => rest,
        Err(SpoolError::Busy(_) | SpoolError::Gone(_)) => Rest::Ended,
        Err(error) => {
            tracing::warn!(%error, item = %name, "an item of the spool could not be worked on");
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
    let Taken { claim, stamp, loaded, source } = taken;
    let now = config.root().disk().now();
    let until = |time: Duration| Ok(Rest::Until(stamp, Instant::now() + time));
    if loaded.is_finished(now) {
        tokio::task::block_in_place(|| claim.finish())?;
        return Ok(Rest::Ended);
    }
    let age = age(now, loaded.since);
    let Some(source) = source else {
        return Ok(Rest::Lone(stamp, Instant::now() + LONE_ENVELOPE_MAX.saturating_sub(age)));
    };
    if loaded.envelope.is_finished() {
        return until(SETTLED.saturating_sub(age));
    }
    let envelope = loaded.envelope;
    let before = envelope.tries();
    let mut pass = Pass {
        inner,
        config: &config,
        id: name.id(),
        host: envelope.host().filter(|host| !host.is_empty()).unwrap_or_else(|| primary(&config)),
        sender: envelope.sender(),
        source,
        tries: before.unwrap_or(0).saturating_add(1),
        asked: cause == Cause::Asked,
        forwarded: name.extension().eq_ignore_ascii_case(Kind::Forward.extension()),
        verdicts: Verdicts::new(),
        tried: false,
        sent: false,
        not_before: None,
    };
    let queue = inner.store.path(Role::Queued, name).full();
    inner.log(&config, Tag::Smtp, name.id(), None, &Event::Processing { queue: &queue });
    pass.deliver(&envelope).await;
    let (status, rest) = tokio::task::block_in_place(|| pass.settle(claim, envelope, stamp))?;
    if matches!(status, Status::Requeued) && pass.tried {
        let tries_max = settings.max_tries;
        let event = Event::Requeuing { queue: &queue, tries: pass.tries, tries_max };
        inner.log(&config, Tag::Smtp, name.id(), None, &event);
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
    Ok((!left.is_zero()).then(|| Rest::Until(stamp, Instant::now() + left)))
}

fn age(now: i64, since: i64) -> Duration {
    Duration::from_nanos(now.saturating_sub(since).max(0) as u64)
}

/// An item in our hands.
struct Taken {
    claim: Claim,
    /// The stamp of its Q file before it was read, so that an edit in between is noticed by the next look.
    stamp: Stamp,
    loaded: Loaded,
    /// Its message; a small one is in memory.
    source: Option<Source>,
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
    Ok(Taken { claim, stamp, loaded, source })
}

impl Pass<'_> {
    /// Brings the message to all who can be reached.
    async fn deliver(&mut self, envelope: &Envelope) {
        let trusted = envelope.auth_user().is_some() || self.forwarded;
        // By domain: the address in the envelope, and the one the mail goes to.
        let mut elsewhere: HashMap<String, Vec<(String, String)>> = HashMap::new();
        let mut seen = HashSet::new();
        for recipient in envelope.recipients() {
            let address = recipient.address.clone();
            // An address elsewhere needs no file.
            let routed = match self.config.local_domain(domain_of(&address)) {
                None if address.contains('@') => Err(Unroutable::NotLocal(String::new())),
                _ => tokio::task::block_in_place(|| route(self.config, &address, trusted)),
            };
            let routed = match routed {
                Ok(routed) => routed,
                Err(Unroutable::NotLocal(_)) => Routed { remote: vec![address.clone()], ..Routed::default() },
                Err(why) => {
                    self.unroutable(&address, why);
                    continue;
                }
            };
            self.verdicts.entry(address.clone()).or_default();
            for target in routed.waiting {
                if seen.insert(target.to_lowercase()) {
                    self.run_program(&address, target).await;
                }
            }
            for target in routed.remote {
                let domain = domain_of(&target).to_ascii_lowercase();
                if seen.insert(target.to_lowercase()) {
                    elsewhere.entry(domain).or_default().push((address.clone(), target));
                }
            }
            let mailboxes = routed.mailboxes.into_iter().filter(|target| seen.insert(key(target))).collect();
            self.store(&recipient, mailboxes).await;
        }
        let mut domains: Vec<_> = elsewhere.into_iter().collect();
        while !domains.is_empty() {
            let rest = domains.split_off(domains.len().min(DOMAINS_AT_ONCE));
            self.send(std::mem::replace(&mut domains, rest)).await;
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

    async fn store(&mut self, recipient: &Recipient, mailboxes: Vec<MailboxTarget>) {
        if mailboxes.is_empty() {
            return;
        }
        let shown = recipient.original.clone().unwrap_or_else(|| recipient.address.clone());
        let (single, address) = (mailboxes.len() == 1, &recipient.address);
        // The address as it stands leads there again; only one of several mailboxes gets a name of its own.
        let name = |own: String| if single { address.clone() } else { own };
        let Pass { inner, config, id, sender, source, .. } = self;
        let letter = Letter { sender, recipient: &shown, id: *id, source, sent_on: self.forwarded };
        let (mut copies, mut full, mut left, mut sent_on) = (Vec::new(), Vec::new(), Vec::new(), false);
        tokio::task::block_in_place(|| {
            for target in &mailboxes {
                match inner.place(config, target, letter) {
                    Placed::UnderWay(copy) => copies.push(copy),
                    Placed::SentOn => sent_on = true,
                    Placed::PutOff(waiting) => left.push(waiting),
                    Placed::Full => full.push(name(mailbox_address(config, target))),
                }
            }
        });
        left.extend(inner.finish_copies(config, *id, sender, source.len(), copies).await);
        self.tried = true;
        self.sent |= sent_on;
        self.failed(address, full.iter().map(|target| Failure::mailbox_full(target)));
        for waiting in left {
            self.left(address, name(waiting.address));
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

    /// One of those that an address stands for waits for the next try, if there is one.
    fn left(&mut self, address: &str, target: String) {
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
    async fn send(&mut self, domains: Vec<(String, Vec<(String, String)>)>) {
        let mut tasks = tokio::task::JoinSet::new();
        for (domain, pairs) in domains {
            let (inner, config, source) = (self.inner.clone(), self.config.clone(), self.source.clone());
            let (host, sender, asked) = (self.host.clone(), self.sender.clone(), self.asked);
            tasks.spawn(async move {
                let recipients: Vec<String> = pairs.iter().map(|(_, target)| target.clone()).collect();
                let mail = Mail { sender: &sender, recipients: &recipients, source: &source };
                let attempt = inner.remote.deliver(&config, &host, mail, &domain, asked).await;
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
    fn sent_to(&mut self, domain: &str, pairs: Vec<(String, String)>, attempt: Attempt) {
        let outcomes = match attempt {
            Attempt::Later(until) => {
                self.not_before = Some(self.not_before.map_or(until, |before| before.min(until)));
                for (address, target) in pairs {
                    self.verdicts.entry(address).or_default().left.push(target);
                }
                return;
            }
            Attempt::Made(outcomes) => outcomes,
        };
        self.tried = true;
        let delivered: Vec<&String> =
            pairs.iter().zip(&outcomes).filter(|(_, o)| o.is_ok()).map(|((_, target), _)| target).collect();
        if let Some(first) = delivered.first() {
            self.sent = true;
            let (count, bytes) = (delivered.len(), self.source.len());
            let delivery = Delivery { host: domain, recipient: first, count, sender: &self.sender, bytes };
            self.inner.log(self.config, Tag::Smtp, self.id, None, &Event::RemoteDelivery(delivery));
        }
        let tries_max = self.config.registry.services.smtp.max_tries;
        for ((address, target), outcome) in pairs.into_iter().zip(outcomes) {
            let Err(problem) = outcome else { continue };
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

    fn note(&self, target: &str, why: &str) {
        let text = format!("{target}: {why}");
        self.inner.log(self.config, Tag::Smtp, self.id, None, &Event::Refused(&text));
    }

    /// Makes the outcome durable: first the bounce, then the Q file, then the end.
    fn settle(
        &mut self,
        mut claim: Claim,
        mut envelope: Envelope,
        stamp: Stamp,
    ) -> Result<(Status, Rest), SpoolError> {
        let settings = &self.config.registry.services.smtp;
        let bounced = self.bounce(&envelope)?;
        let kept = bounced == Told::Nobody;
        for edit in 0.. {
            self.apply(&mut envelope, kept);
            if self.tried {
                envelope.set_tries(self.tries);
            }
            let ended = envelope.is_finished();
            // Mailboxes know what they have; only what went elsewhere must not come back after a power cut.
            if ended {
                match claim.finish() {
                    Err(SpoolError::Changed(name)) if edit < EDITS_MAX => {
                        claim = self.inner.store.claim(&name)?;
                        envelope = claim.load()?.envelope;
                        continue;
                    }
                    done => done?,
                }
                if self.sent || bounced == Told::Sender {
                    self.inner.store.sync()?;
                }
                let status = if bounced == Told::Sender { Status::Bounced } else { Status::Done };
                return Ok((status, Rest::Ended));
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
            return Ok((status, Rest::Until(stamp, due)));
        }
        Ok((Status::InternalError, Rest::Until(stamp, Instant::now() + ODD_FOR)))
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
            }));
            false
        });
        add.iter().for_each(|recipient| envelope.add_recipient(recipient));
    }

    /// Tells the sender of those who were given up; the postmaster, if there is no sender; then root.
    fn bounce(&mut self, envelope: &Envelope) -> io::Result<Told> {
        let failures: Vec<Failure> =
            self.verdicts.values().flat_map(|verdict| verdict.failures.clone()).collect();
        if failures.is_empty() {
            return Ok(Told::NoNeed);
        }
        for failure in &failures {
            let event = Event::Undeliverable { recipient: &failure.recipient, reason: &failure.reason };
            self.inner.log(self.config, Tag::Smtp, self.id, None, &event);
        }
        let named: Vec<String> = envelope
            .recipients()
            .into_iter()
            .filter(|recipient| self.verdicts.get(&recipient.address).is_some_and(|v| !v.failures.is_empty()))
            .flat_map(|recipient| [Some(recipient.address), recipient.original])
            .flatten()
            .collect();
        let Some(reader) = reader(&self.sender, &self.host, &named) else {
            let text = "nobody can be told that this mail was not delivered: it stays in the spool";
            self.inner.log(self.config, Tag::Smtp, self.id, None, &Event::Note(text));
            return Ok(Told::Nobody);
        };
        self.commit_bounce(&reader, &failures)?;
        Ok(Told::Sender)
    }

    fn commit_bounce(&self, reader: &str, failures: &[Failure]) -> io::Result<()> {
        let Pass { inner, config, host, source, .. } = self;
        let id = inner.ids.own()?;
        let name = ItemName::new(id, Kind::Bounce);
        let now = chrono::Local::now();
        let number = id.connection();
        let build = match config.registry.services.smtp.bounce_format {
            BounceFormat::IMail => bounce::build,
            BounceFormat::Report => bounce::report,
        };
        let message = build(host, reader, failures, source, now, number)?;
        let fields = Fields {
            data: windows_path(config, &name.file(Role::Data)),
            host: host.clone(),
            recipients: vec![Recipient::new(reader)],
            ..Fields::default()
        };
        let body = Body::Copy(Source::Bytes(message.into()));
        let prepared = inner.store.prepare(&name, body, &Envelope::new(&fields))?;
        inner.commit(prepared)
    }
}

/// Who was told of those who were given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// None was given up.
    NoNeed,
    /// The sender, or whoever stands in for him.
    Sender,
    /// Nobody can be told.
    Nobody,
}

/// Who gets the bounce: the sender; for a bounce itself the postmaster, then root (IMail manual: a postmaster's mail that fails stays).
fn reader(sender: &str, host: &str, failed: &[String]) -> Option<String> {
    if !sender.is_empty() {
        return Some(sender.to_owned());
    }
    let is_of = |user: &str| {
        let prefix =
            |address: &String| address.split('@').next().is_some_and(|l| l.eq_ignore_ascii_case(user));
        failed.iter().any(prefix)
    };
    let next = ["postmaster", "root"].into_iter().rev().take_while(|user| !is_of(user)).last();
    next.map(|user| format!("{user}@{host}"))
}

/// The failure that a problem is: at once, or when the tries are used up.
fn failure(target: &str, problem: &Problem, tries: u32, tries_max: u32) -> Option<Failure> {
    let failure = match (problem.permanent, problem.stage) {
        (false, _) if tries < tries_max => return None,
        (false, _) => Failure::tries_used_up(target, tries_max),
        (true, Stage::Lookup) => Failure::unknown_host(target),
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
    fn who_is_told() {
        let failed =
            |addresses: &[&str]| -> Vec<String> { addresses.iter().map(|a| (*a).to_owned()).collect() };
        for (sender, addresses, expected) in [
            ("a@x", &["b@y"] as &[&str], Some("a@x")),
            ("", &["b@y"], Some("postmaster@h")),
            ("", &["Postmaster@h"], Some("root@h")),
            ("", &["admin@z", "postmaster@h"], Some("root@h")),
            ("", &["root@h"], None),
        ] {
            assert_eq!(reader(sender, "h", &failed(addresses)).as_deref(), expected, "{addresses:?}");
        }
    }

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
