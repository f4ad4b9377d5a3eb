//! How many connections one client may have, and how fast it may make them.
//!
//! # Limits
//! [`OPEN_MAX`] and [`ARRIVALS_MAX`]; this machine itself has neither. An IPv6 client is its first 64 bits.

use super::network::network_of;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The most open connections of one client: an office of a few hundred people behind one address has this many IMAP connections.
pub const OPEN_MAX: u32 = 1000;
/// The most new connections of one client in [`WINDOW`]: a filter in front of this server makes one for every message.
pub const ARRIVALS_MAX: u32 = 6000;
/// What arrivals are counted in.
pub const WINDOW: Duration = Duration::from_secs(60);
/// When so many clients are known, those without a connection are forgotten.
const TIDY_AT: usize = 10_000;

/// Counts connections.
#[derive(Default)]
pub struct Gate {
    clients: Mutex<HashMap<IpAddr, Client>>,
}

struct Client {
    open: u32,
    since: Instant,
    arrivals: u32,
}

/// A connection that counts until it is dropped.
pub struct Pass {
    gate: Arc<Gate>,
    client: Option<IpAddr>,
}

impl Gate {
    /// Lets a client in, unless it has too many connections.
    pub fn enter(self: &Arc<Gate>, address: IpAddr, now: Instant) -> Option<Pass> {
        if address.to_canonical().is_loopback() {
            return Some(Pass { gate: self.clone(), client: None });
        }
        let key = network_of(address, 32);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= TIDY_AT {
            clients.retain(|_, client| client.open > 0 || now.duration_since(client.since) < WINDOW);
        }
        let client = clients.entry(key).or_insert(Client { open: 0, since: now, arrivals: 0 });
        if now.duration_since(client.since) >= WINDOW {
            (client.since, client.arrivals) = (now, 0);
        }
        client.arrivals = client.arrivals.saturating_add(1);
        if client.open >= OPEN_MAX || client.arrivals > ARRIVALS_MAX {
            return None;
        }
        client.open += 1;
        Some(Pass { gate: self.clone(), client: Some(key) })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let Some(key) = self.client else { return };
        let mut clients = self.gate.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get_mut(&key) {
            client.open = client.open.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_and_too_fast() {
        let (gate, now) = (Arc::new(Gate::default()), Instant::now());
        let [one, other, here] = ["192.0.2.1", "192.0.2.2", "127.0.0.1"].map(|ip| ip.parse().unwrap());
        let mut open: Vec<_> = (0..OPEN_MAX).map(|_| gate.enter(one, now).unwrap()).collect();
        assert!(gate.enter(one, now).is_none());
        assert!(gate.enter(other, now).is_some());
        let _ours: Vec<_> = (0..=OPEN_MAX).map(|_| gate.enter(here, now).unwrap()).collect();
        open.pop();
        assert!(gate.enter(one, now).is_some());
        drop(open);
        for _ in OPEN_MAX + 2..ARRIVALS_MAX {
            assert!(gate.enter(one, now).is_some());
        }
        assert!(gate.enter(one, now).is_none());
        assert!(gate.enter(one, now + WINDOW).is_some());
    }
}
