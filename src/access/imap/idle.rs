//! IDLE (RFC 2177): the client waits and is told what happens.
//!
//! Changes by this process wake the session at once; what other programs do to the file is found by looking at it every
//! `IdleSleepInterval`, as IMail's own service does (10 s; IMail 12.5 release notes).

use super::outcome::{Failed, Outcome, done};
use super::session::{IDLE_FOR, Session};
use crate::session::connection::{Connection, ReadError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The shortest interval that is taken from the registry: looking costs two system calls a session.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// The longest line that ends IDLE.
const DONE_MAX: usize = 1024;

/// What ends a wait.
enum Event {
    /// The client said something, or is gone.
    Client(Result<(), ReadError>),
    /// Something may have changed.
    News,
    /// The server stops.
    Stop,
}

impl Session {
    /// IDLE, until the client says DONE.
    pub(super) async fn idle(&mut self, connection: &mut Connection) -> Outcome {
        connection.answer(b"+ idling\r\n");
        let until = Instant::now() + IDLE_FOR;
        let interval =
            Duration::from_millis(u64::from(self.config().registry.services.idle_sleep_interval_ms));
        let interval = interval.max(INTERVAL_MIN);
        let mut changed = self.view.as_ref().map(|view| view.open.watch());
        let mut stopping = connection.stopping();
        loop {
            self.tell_news(&mut connection.blocking(), true)?;
            connection.flush().await?;
            let patience = until.saturating_duration_since(Instant::now());
            let event = tokio::select! {
                read = connection.readable(patience) => Event::Client(read),
                _ = news(&mut changed, interval) => Event::News,
                _ = stopping.wait_for(|stopping| *stopping) => Event::Stop,
            };
            match event {
                Event::News => {}
                Event::Stop => {
                    return Err(Failed::Bye("the server is being stopped, connect again in a moment"));
                }
                Event::Client(Ok(())) => break,
                Event::Client(Err(ReadError::Slow)) => {
                    return Err(Failed::Bye("you were silent for too long"));
                }
                Event::Client(Err(_)) => {
                    return Err(Failed::Connection);
                }
            }
        }
        let line = match connection.line(DONE_MAX, Duration::from_secs(60)).await {
            Ok(line) => line,
            Err(_) => return Err(Failed::Bye("IDLE ends with DONE")),
        };
        match line.trim_ascii().eq_ignore_ascii_case(b"DONE") {
            true => done("IDLE completed"),
            false => Err(Failed::Bad("IDLE ends with DONE".to_owned())),
        }
    }
}

/// Waits until it is worth looking at the mailbox; for ever if none is selected.
async fn news(changed: &mut Option<tokio::sync::watch::Receiver<u64>>, interval: Duration) {
    match changed {
        None => std::future::pending().await,
        Some(changed) => {
            tokio::select! {
                // The sender lives as long as the view.
                _ = changed.changed() => {}
                _ = sleep(interval) => {}
            }
        }
    }
}
