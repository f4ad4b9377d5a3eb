//! Telling who started us how we are (systemd's `sd_notify`, `NOTIFY_SOCKET`): ready, reading settings again, stopping; and, if a watchdog is
//! set (`WATCHDOG_USEC`), that we are alive.
//!
//! # Failure
//! Without the socket nothing is said. What cannot be sent is named on standard error: the service manager will act on it.

use sd_notify::NotifyState;
use std::time::Duration;

/// The server takes clients, or has read its settings again.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The server ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The server reads its settings again; [`ready`] follows.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the clock could not be read"),
    }
}

/// Says for ever that we are alive, twice as often as is wanted; from among the server's own tasks, so that it falls silent when
/// those do not get their turn any more.
pub async fn keep_watchdog_quiet() {
    let Some(patience) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let mut tick = tokio::time::interval((patience / 2).max(Duration::from_millis(1)));
    loop {
        tick.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}
