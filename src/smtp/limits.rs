//! How much one account may send: a password that was stolen, or guessed, must not make this server a source of spam.
//!
//! # Limits
//! [`SESSIONS_MAX`] and [`RECIPIENTS_MAX`] (ours, and generous: IMail's are not known). In memory, one entry for each account that sent mail in the last hour or
//! is connected; a start forgets them. How many connections one address may have is [`crate::session::gate`]'s.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most sessions of one account at a time: a device that is shared by an office sends as one account.
pub const SESSIONS_MAX: u32 = 100;
/// The most recipients of one account in [`WINDOW`].
pub const RECIPIENTS_MAX: u32 = 10_000;
/// What recipients are counted in.
pub const WINDOW: Duration = Duration::from_secs(3600);

/// Counts what accounts send.
#[derive(Default)]
pub struct Senders {
    accounts: Mutex<HashMap<String, Sent>>,
}

struct Sent {
    sessions: u32,
    since: Instant,
    recipients: u32,
}

/// A session of an account, until it is dropped.
pub struct Ticket {
    senders: Arc<Senders>,
    account: String,
}

impl Senders {
    /// Begins a session, unless the account has too many.
    pub fn enter(self: &Arc<Senders>, account: &str, now: Instant) -> Option<Ticket> {
        let mut accounts = self.lock();
        accounts.retain(|_, sent| sent.sessions > 0 || now.duration_since(sent.since) < WINDOW);
        let fresh = Sent { sessions: 0, since: now, recipients: 0 };
        let sent = accounts.entry(account.to_owned()).or_insert(fresh);
        if sent.sessions >= SESSIONS_MAX {
            return None;
        }
        sent.sessions += 1;
        Some(Ticket { senders: self.clone(), account: account.to_owned() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Sent>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Counts a recipient; `false` if that is one too many.
    pub fn count(&self, now: Instant) -> bool {
        let mut accounts = self.senders.lock();
        let Some(sent) = accounts.get_mut(&self.account) else { return true };
        if now.duration_since(sent.since) >= WINDOW {
            (sent.since, sent.recipients) = (now, 0);
        }
        sent.recipients = sent.recipients.saturating_add(1);
        sent.recipients <= RECIPIENTS_MAX
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(sent) = self.senders.lock().get_mut(&self.account) {
            sent.sessions = sent.sessions.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_sessions_and_too_many_recipients() {
        let (senders, now) = (Arc::new(Senders::default()), Instant::now());
        let mut open: Vec<Ticket> =
            (0..SESSIONS_MAX).map(|_| senders.enter("mike@x", now).unwrap()).collect();
        assert!(senders.enter("mike@x", now).is_none());
        let other = senders.enter("ann@x", now).unwrap();
        open.pop();
        let ticket = senders.enter("mike@x", now).unwrap();
        assert!((0..RECIPIENTS_MAX).all(|_| ticket.count(now)));
        assert!(!ticket.count(now) && !open[0].count(now) && other.count(now));
        assert!(ticket.count(now + WINDOW));
        drop((open, ticket, other));
        // Who is gone is remembered for the window, so that a new session does not begin at zero; `mike` sent last at its end.
        drop(senders.enter("joe@x", now + WINDOW + WINDOW / 2));
        assert_eq!(senders.lock().len(), 2);
        drop(senders.enter("joe@x", now + WINDOW * 4));
        assert_eq!(senders.lock().len(), 1);
    }
}
