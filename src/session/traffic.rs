//! How busy a port is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The connections of one port, now and since the start; of the log server's port, the datagrams.
#[derive(Debug, Default)]
pub struct Traffic {
    open: AtomicU64,
    total: AtomicU64,
}

/// A connection that counts as open until it is dropped.
pub struct Counted(Arc<Traffic>);

impl Traffic {
    /// Counts a connection.
    pub fn enter(self: &Arc<Traffic>) -> Counted {
        self.count();
        self.open.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone())
    }

    /// Counts what does not stay open.
    pub fn count(&self) {
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    /// How many are open now.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// How many there were since the start.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted() {
        let traffic = Arc::new(Traffic::default());
        let (one, two) = (traffic.enter(), traffic.enter());
        drop(one);
        traffic.count();
        assert_eq!((traffic.open(), traffic.total()), (1, 3));
        drop(two);
        assert_eq!((traffic.open(), traffic.total()), (0, 3));
    }
}
