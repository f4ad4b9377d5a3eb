//! How many connections one destination gets: a pure decision, and the counter that goes by it.
//!
//! A destination begins with few connections, gets one more for every message that it takes, and half as many when it does not answer, or
//! says that it is busy: the scheme of other servers' queue managers, which small receivers survive and large ones profit from.

use super::client::Client;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// With how many connections a destination begins (ours; it is what Postfix begins with).
pub const CONNECTIONS_START: usize = 5;
/// The most connections to one destination at a time (ours; receivers commonly allow ten or twenty).
pub const CONNECTIONS_MAX: usize = 20;

/// How a try went, for the number of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The server took part in a transaction, whatever it said of the message.
    Well,
    /// No connection, one that broke, or 421: it is busy or about to close.
    Badly,
}

/// How many connections a destination may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace(usize);

impl Pace {
    /// Of a destination that nothing is known of.
    pub fn start() -> Pace {
        Pace(CONNECTIONS_START)
    }

    /// The number of connections.
    pub fn connections(self) -> usize {
        self.0
    }

    /// What it is after this try.
    pub fn after(self, signal: Signal) -> Pace {
        match signal {
            Signal::Well => Pace((self.0 + 1).min(CONNECTIONS_MAX)),
            Signal::Badly => Pace((self.0 / 2).max(1)),
        }
    }
}

/// What is remembered of a destination.
pub struct Destination {
    state: Mutex<State>,
    /// Somebody may have a slot now.
    freed: Notify,
}

/// The changing part of a [`Destination`].
pub struct State {
    pace: Pace,
    in_use: usize,
    /// Connections that wait for more mail, and since when.
    pub idle: Vec<(Client, Instant)>,
    /// It is left alone until then.
    pub down_until: Option<Instant>,
}

impl Destination {
    /// One that nothing is known of.
    pub fn new() -> Arc<Destination> {
        let state = State { pace: Pace::start(), in_use: 0, idle: Vec::new(), down_until: None };
        Arc::new(Destination { state: Mutex::new(state), freed: Notify::new() })
    }

    /// Looks at, or changes, what is remembered.
    pub fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for the right to use a connection; `None` if there is none in time.
    pub async fn slot(self: &Arc<Destination>, patience: Duration) -> Option<Slot> {
        let taken = || {
            self.with(|state| {
                let free = state.in_use < state.pace.connections();
                state.in_use += usize::from(free);
                free
            })
        };
        let wait = async {
            while !taken() {
                self.freed.notified().await;
            }
        };
        tokio::time::timeout(patience, wait).await.ok()?;
        let slot = Slot(self.clone());
        // Growth lets in two for one that leaves: whoever got in looks whether there is room for another.
        if self.with(|state| state.in_use < state.pace.connections()) {
            self.freed.notify_one();
        }
        Some(slot)
    }

    /// Takes down how a try went.
    pub fn went(&self, signal: Signal) {
        self.with(|state| state.pace = state.pace.after(signal));
    }
}

/// The right to use one connection, until it is dropped.
pub struct Slot(Arc<Destination>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.with(|state| state.in_use = state.in_use.saturating_sub(1));
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growing_and_halving() {
        for (before, signal, after) in [
            (5, Signal::Well, 6),
            (19, Signal::Well, 20),
            (20, Signal::Well, 20),
            (20, Signal::Badly, 10),
            (5, Signal::Badly, 2),
            (1, Signal::Badly, 1),
            (1, Signal::Well, 2),
        ] {
            assert_eq!(Pace(before).after(signal), Pace(after), "{before} {signal:?}");
        }
        assert_eq!(Pace::start().connections(), CONNECTIONS_START);
    }

    #[tokio::test]
    async fn slots_follow_the_pace() {
        const PATIENCE: Duration = Duration::from_millis(30);
        let destination = Destination::new();
        let mut held = Vec::new();
        while let Some(slot) = destination.slot(PATIENCE).await {
            held.push(slot);
        }
        assert_eq!(held.len(), CONNECTIONS_START);
        // One that leaves after a success lets two in.
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let destination = destination.clone();
                tokio::spawn(async move { destination.slot(PATIENCE).await })
            })
            .collect();
        tokio::task::yield_now().await;
        destination.went(Signal::Well);
        held.pop();
        let mut got = Vec::new();
        for task in waiting {
            got.extend(task.await.unwrap());
        }
        assert_eq!(got.len(), 2);
        // After a failure the next ones wait until few enough are left.
        destination.went(Signal::Badly);
        drop(got);
        assert!(destination.slot(PATIENCE).await.is_none());
        held.truncate(2);
        assert!(destination.slot(PATIENCE).await.is_some());
    }
}
