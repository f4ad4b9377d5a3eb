//! The recipients of a try who are elsewhere: what the rules for outgoing mail say, which domain gets the message, and what its servers made of it.

use super::attempt::Pass;
use crate::config::Config;
use crate::rules::Hit;
use crate::transport::bounce::{Action, Failure};
use crate::transport::remote::client::{Mail, Problem, Stage, To};
use crate::transport::remote::{Attempt, Job, domain_of};
use layout::logline::{Delivery, Event, Tag};
use layout::name::domain_key;
use layout::registry::model::Domain;
use layout::rules::Target;
use layout::spool::qfile::{Envelope, Recipient};
use std::collections::HashMap;
use std::sync::Arc;

/// To how many domains one message is sent at a time.
const DOMAINS_AT_ONCE: usize = 20;

/// Somebody elsewhere.
pub(super) struct Onward {
    pub(super) to: To,
    /// The address in the envelope that leads to him, if it is not his own.
    pub(super) of: Option<Arc<str>>,
}

impl Onward {
    /// The address in the envelope.
    pub(super) fn address(&self) -> &str {
        self.of.as_deref().unwrap_or(&self.to.address)
    }
}

impl Pass<'_> {
    /// Applies the rules for what goes out, to all recipients elsewhere at once; at each try, so that an edit reaches what waits. Answers with
    /// those to whom the message still goes.
    pub(super) async fn outbound(&mut self, envelope: &Envelope, subject: Vec<Onward>) -> Vec<Onward> {
        let (inner, config) = (self.inner, self.config);
        let Some(domain) = sending_domain(config, envelope).filter(|_| !subject.is_empty()) else {
            return subject;
        };
        let done = inner.at_disk(|| {
            let Some((_, hit)) = self.message.outbound(config, &inner.rules, domain)? else {
                return Ok(None);
            };
            if let Target::Forward(to) = &hit.target {
                let recipient = Recipient { ruled: true, ..Recipient::new(to) };
                inner.forward(config, &self.host, &self.sender, vec![recipient], &self.source)?;
            }
            Ok::<_, std::io::Error>(Some(hit))
        });
        match done.await {
            Ok(None) => return subject,
            Ok(Some(hit)) => {
                for onward in &subject {
                    self.diverted(onward.address(), &onward.to.address, &hit);
                }
            }
            Err(error) => {
                for onward in subject {
                    self.note(&onward.to.address, &format!("the rules for outgoing mail: {error}"));
                    self.left(onward.address(), onward.to.address.clone());
                }
            }
        }
        self.results.tried = true;
        Vec::new()
    }

    /// An outbound rule sent the message elsewhere than to this recipient, or nowhere.
    fn diverted(&mut self, address: &str, from: &str, hit: &Hit) {
        self.results.verdict(address);
        let log = |event: &Event<'_>| self.inner.log(self.config, Tag::Smtp, self.id, None, event);
        match &hit.target {
            Target::Forward(to) => {
                log(&Event::Forwarded { from, to });
                self.results.sent = true;
            }
            _ => log(&Event::Note(&format!("discarded for {from} by the outbound rule {}", hit.rule))),
        }
    }

    /// Sends the message on, to several domains at a time.
    pub(super) async fn send(&mut self, elsewhere: Vec<Onward>) {
        let mut domains: Vec<_> = by_domain(elsewhere).into_iter().collect();
        while !domains.is_empty() {
            let rest = domains.split_off(domains.len().min(DOMAINS_AT_ONCE));
            self.send_to(std::mem::replace(&mut domains, rest)).await;
        }
    }

    async fn send_to(&mut self, domains: Vec<(String, Vec<Onward>)>) {
        let mut tasks = tokio::task::JoinSet::new();
        for (domain, some) in domains {
            let (inner, config, source) = (self.inner.clone(), self.config.clone(), self.source.clone());
            let (host, sender, force) = (self.host.clone(), self.sender.clone(), self.asked);
            let (tries, dialogue) = (self.tries - 1, inner.dialogue(&config, self.id));
            let (dsn, utf8) = (self.dsn.clone(), self.utf8);
            tasks.spawn(async move {
                let (of, recipients): (Vec<_>, Vec<_>) = some.into_iter().map(|one| (one.of, one.to)).unzip();
                let mail =
                    Mail { sender: &sender, recipients: &recipients, dsn: &dsn, utf8, source: &source };
                let job = Job { config: &config, name: &host, domain: &domain, mail, tries, force, dialogue };
                let attempt = inner.remote.deliver(&job).await;
                let some = of.into_iter().zip(recipients).map(|(of, to)| Onward { to, of });
                (domain, some.collect(), attempt)
            });
        }
        let mut broken = None;
        while let Some(done) = tasks.join_next().await {
            match done {
                Ok((domain, some, attempt)) => self.sent_to(&domain, some, attempt),
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
    fn sent_to(&mut self, domain: &str, some: Vec<Onward>, attempt: Attempt) {
        let outcomes = match attempt {
            Attempt::Later(until) => {
                self.inner.explain(self.config, self.id, || {
                    format!("{domain} is not tried now: it did not answer a short while ago, or it is busy with others")
                });
                self.results.not_before =
                    Some(self.results.not_before.map_or(until, |before| before.min(until)));
                for one in some {
                    self.results.verdict(one.address()).left.push(one.to.address.clone());
                }
                return;
            }
            Attempt::Made(outcomes) => outcomes,
        };
        self.results.tried = true;
        let delivered: Vec<&String> =
            some.iter().zip(&outcomes).filter(|(_, o)| o.is_ok()).map(|(one, _)| &one.to.address).collect();
        if let Some(first) = delivered.first() {
            self.results.sent = true;
            let (count, bytes) = (delivered.len(), self.source.len());
            let delivery = Delivery { host: domain, recipient: first, count, sender: &self.sender, bytes };
            self.inner.log(self.config, Tag::Smtp, self.id, None, &Event::RemoteDelivery(delivery));
        }
        let tries_max = self.config.registry.services.smtp.max_tries;
        for (one, outcome) in some.iter().zip(outcomes) {
            let (address, target) = (one.address(), &one.to.address);
            let problem = match outcome {
                // The next server tells the sender.
                Ok(taken) if taken.dsn => continue,
                Ok(_) => {
                    self.arrived(address, target, Action::Relayed);
                    continue;
                }
                Err(problem) => problem,
            };
            self.note(target, &problem.lines.join(" / "));
            let verdict = self.results.verdict(address);
            match failure(target, &problem, self.tries, tries_max) {
                Some(failure) => verdict.failures.push(failure),
                None => verdict.left.push(target.clone()),
            }
        }
    }
}

/// Recipients elsewhere by their domain.
fn by_domain(elsewhere: Vec<Onward>) -> HashMap<String, Vec<Onward>> {
    let mut domains: HashMap<String, Vec<Onward>> = HashMap::new();
    for one in elsewhere {
        let domain = domain_key(domain_of(&one.to.address)).into_owned();
        domains.entry(domain).or_default().push(one);
    }
    domains.values_mut().for_each(Vec::shrink_to_fit);
    domains
}

/// The domain here whose mail it is: that of the user who logged in, else the sender's.
fn sending_domain<'a>(config: &'a Config, envelope: &Envelope) -> Option<&'a Domain> {
    let user = envelope.auth_user().filter(|user| user.contains('@')).unwrap_or_else(|| envelope.sender());
    config.local_domain(domain_of(&user))
}

/// Why a message may not leave its sender's domain: the domain's largest outbound message (IMail manual 4-2 (2)), which never counts between
/// users here. The size is that of the D file, in bytes.
pub(super) fn outbound_size(config: &Config, envelope: &Envelope, size: u64) -> Option<String> {
    let domain = sending_domain(config, envelope)?;
    let max = domain.max_outbound_size;
    let text = format!("552 5.3.4 {size} bytes are more than the {max} that may leave {}", domain.name);
    (max != 0 && size > max).then_some(text)
}

/// A failure that was decided here. The reason stands behind the address, where parsers do not look for it.
pub(super) fn refused(target: &str, why: &str) -> Failure {
    let failure = Failure::new(target, format!("undeliverable to {target} ({why})"));
    Failure { reply: vec![why.to_owned()], ..failure }
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
