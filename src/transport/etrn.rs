//! ETRN (RFC 1985): a server for which this one is the gateway asks for its mail at once, when it comes back to the network.
//!
//! Only for domains that a route names: for others this server holds no mail that anybody else could want.
//!
//! # Limits
//! A domain's mail is looked for once in [`ASKED_EVERY`], since every look reads the spool and everybody may ask; [`READ_MAX`] files are read.

use super::{Inner, Transport, remote};
use crate::config::Config;
use layout::name::domain_key;
use layout::spool::id::Role;
use layout::spool::qfile::{ENVELOPE_MAX, Envelope};
use layout::spool::store::{Item, State};
use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a domain's mail is looked for.
pub const ASKED_EVERY: Duration = Duration::from_secs(60);
/// The most envelopes that are read for one request.
pub const READ_MAX: usize = 10_000;

/// When each domain was asked for; there are no more than routes.
#[derive(Default)]
pub(super) struct Requests(Mutex<HashMap<String, Instant>>);

impl Requests {
    /// Is it time to look again?
    fn begin(&self, node: &str, now: Instant) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, asked| now.duration_since(*asked) < ASKED_EVERY);
        known.insert(node.to_owned(), now).is_none()
    }
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// No route names the domain.
    NotServed,
    /// It was asked for a moment ago; that is under way.
    UnderWay,
    /// Nothing waits.
    Nothing,
    /// So many messages are tried.
    Started(usize),
    /// These and perhaps more are tried; not all of the spool was read.
    Some,
}

impl Transport {
    /// Tries the mail for a domain now; `@domain` is the domain and those below it. Blocks.
    pub fn ask_for(&self, config: &Config, node: &str) -> io::Result<Asked> {
        let name = domain_key(node.strip_prefix('@').unwrap_or(node));
        let is_below = |domain: &String| domain.strip_suffix(&*name).is_some_and(|rest| rest.ends_with('.'));
        let wanted = |domain: &String| *domain == name || (node.starts_with('@') && is_below(domain));
        let mut domains = self.gateway_for(config);
        domains.retain(wanted);
        if domains.is_empty() {
            return Ok(Asked::NotServed);
        }
        if !self.inner.requests.begin(&node.to_lowercase(), Instant::now()) {
            return Ok(Asked::UnderWay);
        }
        self.inner.try_now(config, &domains)
    }
}

impl Inner {
    fn try_now(&self, config: &Config, domains: &[String]) -> io::Result<Asked> {
        let mut items = self.store.scan()?.items;
        items.retain(|item| item.state == State::Waiting && !item.foreign);
        let all = items.len() <= READ_MAX;
        let is_for = |item: &Item| {
            let file = self.store.path(Role::Queued, &item.name);
            let bytes = config.root().disk().read(&file, ENVELOPE_MAX).unwrap_or_default();
            Envelope::parse(&bytes).recipients().iter().any(|recipient| {
                let domain = remote::domain_of(&recipient.address);
                domains.contains(&domain_key(domain).into_owned())
            })
        };
        let mut count = 0;
        for item in items.into_iter().take(READ_MAX).filter(is_for) {
            count += 1;
            self.tell_queue(item.name);
        }
        Ok(match (all, count) {
            (false, _) => Asked::Some,
            (true, 0) => Asked::Nothing,
            (true, count) => Asked::Started(count),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_looked_for_once_a_minute() {
        let (requests, now) = (Requests::default(), Instant::now());
        assert!(requests.begin("a", now) && requests.begin("b", now));
        assert!(!requests.begin("a", now + ASKED_EVERY / 2));
        assert!(requests.begin("b", now + ASKED_EVERY));
    }
}
