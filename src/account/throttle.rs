//! Guessing passwords: who failed too often is refused for a while, by every service alike.
//!
//! An account is never closed to everybody: whoever knows its name could lock its owner out.
//!
//! # Limits
//! The constants; kept in memory, [`ENTRIES_MAX`] entries. This machine itself is not counted.

use crate::session::network::network_of;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many failures for one account from one network, and the two are parted.
pub const FAILURES_FOR_ACCOUNT: u32 = 5;
/// So many failures from one network for any accounts, and the network is refused.
pub const FAILURES_FROM_NETWORK: u32 = 50;
/// Failures count within this time.
pub const WITHIN: Duration = Duration::from_secs(10 * 60);
/// How long a refusal lasts.
pub const REFUSED_FOR: Duration = Duration::from_secs(15 * 60);
/// The most entries; beyond that those that are over are forgotten, and if that is not enough, all.
const ENTRIES_MAX: usize = 100_000;
/// A network is so many bits of an IPv4 address.
const NETWORK_BITS: u32 = 24;
/// So much of a name that no account has is kept.
const NAME_MAX: usize = 64;

/// Counts failures.
#[derive(Default)]
pub struct Throttle {
    entries: Mutex<HashMap<Counted, Entry>>,
}

/// What is counted: a network, and the account if it is about one.
type Counted = (IpAddr, Option<String>);

struct Entry {
    since: Instant,
    failures: u32,
    refused_until: Option<Instant>,
}

impl Entry {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.since) >= WITHIN && !self.refuses(now)
    }

    fn refuses(&self, now: Instant) -> bool {
        self.refused_until.is_some_and(|until| now < until)
    }

    /// One more failure; answers whether that was one too many.
    fn fail(&mut self, most: u32, now: Instant) -> bool {
        if now.duration_since(self.since) >= WITHIN {
            (self.since, self.failures) = (now, 0);
        }
        self.failures += 1;
        let too_many = self.failures >= most;
        if too_many {
            self.refused_until = Some(now + REFUSED_FOR);
            self.failures = 0;
        }
        too_many
    }
}

/// What a login counts for, each with the most failures.
fn keys(peer: IpAddr, account: &str) -> Option<[(Counted, u32); 2]> {
    if peer.to_canonical().is_loopback() {
        return None;
    }
    let network = network_of(peer, NETWORK_BITS);
    let account = account.chars().take(NAME_MAX).collect::<String>().to_lowercase();
    Some([((network, Some(account)), FAILURES_FOR_ACCOUNT), ((network, None), FAILURES_FROM_NETWORK)])
}

impl Throttle {
    /// Is this login refused, whatever the password?
    pub fn refuses(&self, peer: IpAddr, account: &str, now: Instant) -> bool {
        let Some(keys) = keys(peer, account) else { return false };
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        keys.iter().any(|(key, _)| entries.get(key).is_some_and(|entry| entry.refuses(now)))
    }

    /// Counts a failed login; answers whether more are refused from now on.
    pub fn failed(&self, peer: IpAddr, account: &str, now: Instant) -> bool {
        let Some(keys) = keys(peer, account) else { return false };
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= ENTRIES_MAX {
            entries.retain(|_, entry| !entry.is_over(now));
            if entries.len() >= ENTRIES_MAX {
                entries.clear();
            }
        }
        let mut refused = false;
        for (key, most) in keys {
            let entry = entries.entry(key).or_insert(Entry { since: now, failures: 0, refused_until: None });
            refused |= entry.fail(most, now);
        }
        refused
    }

    /// The password was right: what failed before were slips.
    pub fn succeeded(&self, peer: IpAddr, account: &str) {
        let Some([(key, _), _]) = keys(peer, account) else { return };
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guessing_ends() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let [one, near, far, here] =
            ["192.0.2.1", "192.0.2.200", "198.51.100.1", "127.0.0.1"].map(|ip| ip.parse().unwrap());
        for _ in 1..FAILURES_FOR_ACCOUNT {
            assert!(!throttle.failed(one, "mike", now));
        }
        throttle.succeeded(one, "mike");
        for _ in 1..FAILURES_FOR_ACCOUNT {
            assert!(!throttle.failed(one, "mike", now));
        }
        assert!(throttle.failed(near, "Mike", now));
        assert!(throttle.refuses(one, "mike", now));
        assert!(!throttle.refuses(one, "ann", now));
        assert!(!throttle.refuses(far, "mike", now));
        assert!(!throttle.refuses(one, "mike", now + REFUSED_FOR));
        // Slow guessing is none.
        for count in 0..20 {
            assert!(!throttle.failed(far, "mike", now + count * WITHIN / 4));
        }
        for count in 0..FAILURES_FROM_NETWORK {
            throttle.failed(near, &format!("user{count}"), now);
        }
        assert!(throttle.refuses(one, "anybody", now));
        for _ in 0..100 {
            assert!(!throttle.failed(here, "mike", now));
        }
    }
}
