//! How often what happened, since the start.

use layout::logline::Event;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of events.
#[derive(Debug, Default)]
pub struct Tally {
    received: AtomicU64,
    delivered_here: AtomicU64,
    delivered_elsewhere: AtomicU64,
    requeued: AtomicU64,
    undeliverable: AtomicU64,
    refused: AtomicU64,
    logins: AtomicU64,
    failed_logins: AtomicU64,
}

impl Tally {
    /// Counts an event.
    pub(super) fn count(&self, event: &Event<'_>) {
        let (counter, by) = match event {
            Event::Received { .. } => (&self.received, 1),
            Event::LocalDelivery(delivery) => (&self.delivered_here, delivery.count),
            Event::RemoteDelivery(delivery) => (&self.delivered_elsewhere, delivery.count),
            Event::Requeuing { .. } => (&self.requeued, 1),
            Event::Undeliverable { .. } => (&self.undeliverable, 1),
            Event::Refused(_) | Event::KillFile { .. } | Event::Denied { .. } => (&self.refused, 1),
            Event::Authenticated { .. } | Event::Logon { .. } => (&self.logins, 1),
            Event::AuthenticationFailed { .. } | Event::LogonFailed { .. } => (&self.failed_logins, 1),
            _ => return,
        };
        counter.fetch_add(by as u64, Ordering::Relaxed);
    }

    /// All counts with their names.
    pub fn all(&self) -> [(&'static str, u64); 8] {
        [
            ("received", &self.received),
            ("delivered_here", &self.delivered_here),
            ("delivered_elsewhere", &self.delivered_elsewhere),
            ("requeued", &self.requeued),
            ("undeliverable", &self.undeliverable),
            ("refused", &self.refused),
            ("logins", &self.logins),
            ("failed_logins", &self.failed_logins),
        ]
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use layout::logline::Delivery;
    use std::path::Path;

    #[test]
    fn events_are_counted() {
        let tally = Tally::default();
        let delivery = Delivery { host: "h", recipient: "r", count: 3, sender: "s", bytes: 1 };
        let path = Path::new("/x");
        for event in [
            Event::Note("x"),
            Event::Received { data: path, bytes: 1 },
            Event::LocalDelivery(Delivery { count: 1, ..delivery }),
            Event::RemoteDelivery(delivery),
            Event::Requeuing { queue: path, tries: 1, tries_max: 2 },
            Event::Refused("x"),
            Event::KillFile { sender: "x" },
            Event::Authenticated { user: "x" },
        ] {
            tally.count(&event);
        }
        assert_eq!(tally.all().map(|(_, count)| count), [1, 1, 3, 1, 0, 2, 1, 0]);
    }
}
