//! How often what happened, since the start.

use layout::logline::{Delivery, Event};
use std::sync::atomic::{AtomicU64, Ordering};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Messages that SMTP took.
    Received,
    /// Their bytes.
    ReceivedBytes,
    /// Recipients whose mailbox here got a message.
    DeliveredHere,
    /// Recipients for whom another server took a message.
    DeliveredElsewhere,
    /// Bytes of what was delivered, for each recipient.
    DeliveredBytes,
    /// Tries after which a message waits for the next.
    Requeued,
    /// Recipients who were given up.
    Undeliverable,
    /// Clients, senders, recipients and messages that were refused.
    Refused,
    /// Logins.
    Logins,
    /// Logins that were refused.
    FailedLogins,
}

impl Count {
    /// All, in the order of the declaration.
    pub const ALL: [Count; 10] = [
        Count::Received,
        Count::ReceivedBytes,
        Count::DeliveredHere,
        Count::DeliveredElsewhere,
        Count::DeliveredBytes,
        Count::Requeued,
        Count::Undeliverable,
        Count::Refused,
        Count::Logins,
        Count::FailedLogins,
    ];

    /// The name in `imaild status`.
    pub fn word(self) -> &'static str {
        match self {
            Count::Received => "received",
            Count::ReceivedBytes => "received_bytes",
            Count::DeliveredHere => "delivered_here",
            Count::DeliveredElsewhere => "delivered_elsewhere",
            Count::DeliveredBytes => "delivered_bytes",
            Count::Requeued => "requeued",
            Count::Undeliverable => "undeliverable",
            Count::Refused => "refused",
            Count::Logins => "logins",
            Count::FailedLogins => "failed_logins",
        }
    }
}

/// Counts of events.
#[derive(Debug, Default)]
pub struct Tally([AtomicU64; Count::ALL.len()]);

impl Tally {
    /// Counts an event.
    pub(super) fn count(&self, event: &Event<'_>) {
        match event {
            Event::Received { bytes, .. } => {
                self.add(Count::Received, 1);
                self.add(Count::ReceivedBytes, *bytes);
            }
            Event::LocalDelivery(delivery) => self.delivered(Count::DeliveredHere, delivery),
            Event::RemoteDelivery(delivery) => self.delivered(Count::DeliveredElsewhere, delivery),
            Event::Requeuing { .. } => self.add(Count::Requeued, 1),
            Event::Undeliverable { .. } => self.add(Count::Undeliverable, 1),
            Event::Refused(_) | Event::KillFile { .. } | Event::Denied { .. } => self.add(Count::Refused, 1),
            Event::Authenticated { .. } | Event::Logon { .. } => self.add(Count::Logins, 1),
            Event::AuthenticationFailed { .. } | Event::LogonFailed { .. } => {
                self.add(Count::FailedLogins, 1)
            }
            _ => {}
        }
    }

    fn delivered(&self, count: Count, delivery: &Delivery<'_>) {
        let recipients = delivery.count as u64;
        self.add(count, recipients);
        self.add(Count::DeliveredBytes, delivery.bytes.saturating_mul(recipients));
    }

    fn add(&self, count: Count, by: u64) {
        self.0[count as usize].fetch_add(by, Ordering::Relaxed);
    }

    /// One count.
    pub fn get(&self, count: Count) -> u64 {
        self.0[count as usize].load(Ordering::Relaxed)
    }

    /// All counts.
    pub fn all(&self) -> [(Count, u64); Count::ALL.len()] {
        Count::ALL.map(|count| (count, self.get(count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn events_are_counted() {
        let tally = Tally::default();
        let delivery = Delivery { host: "h", recipient: "r", count: 3, sender: "s", bytes: 100 };
        let path = Path::new("/x");
        for event in [
            Event::Note("x"),
            Event::Received { data: path, bytes: 10 },
            Event::LocalDelivery(Delivery { count: 1, ..delivery }),
            Event::RemoteDelivery(delivery),
            Event::Requeuing { queue: path, tries: 1, tries_max: 2 },
            Event::Refused("x"),
            Event::KillFile { sender: "x" },
            Event::Authenticated { user: "x" },
        ] {
            tally.count(&event);
        }
        assert_eq!(tally.all().map(|(_, count)| count), [1, 10, 1, 3, 400, 1, 0, 2, 1, 0]);
        for (place, (count, _)) in tally.all().into_iter().enumerate() {
            assert_eq!(count as usize, place);
        }
    }
}
