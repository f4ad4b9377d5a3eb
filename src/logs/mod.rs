//! The log: events become IMail's lines, and go where the service's `LogTo` says (manual 5): nowhere, into `sysYYYYMMDD.txt`, or to the log
//! server.
//!
//! [`writer`] is the file of the day, [`client`] the way to a log server, [`server`] the log server itself, which writes
//! `logYYYYMMDD.txt`. Every event passes [`Log::event`], so that is where they are counted, for `imaild status`; settings are looked up for
//! each line, so a change needs no restart.
//!
//! # Debug Messages and Verbose Logging
//! What IMail's lines look like is not known. With `DebugMessages` a service logs every command of a client, and behind `>` what it
//! replied: SMTP all lines, POP3 the first, IMAP4 the one that ends a command; never passwords, never what is in messages. With
//! `VerboseLogging` SMTP logs why and when the queue tries a message, where its recipients are, and the dialogue with other servers.
//!
//! # Failure
//! Logging never stops mail: lines that cannot be written or sent are counted, and the count goes to standard error and to
//! `imaild status`.
//!
//! # Limits
//! [`WAITING_MAX`] lines wait for the disk, and as many for the log server; more are dropped and counted.

mod client;
pub mod server;
mod tally;
mod writer;

pub use tally::{Count, Tally};
pub use writer::Writer;

use crate::config::{Config, Live};
use chrono::Local;
use client::Client;
use layout::logline::{self, Event, FileKind, Tag};
use layout::name::SpoolId;
use layout::path::TreePath;
use layout::registry::model::LogTo;
use layout::root::Root;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The most lines that wait for the disk, or for the log server.
pub const WAITING_MAX: usize = 100_000;

/// The file of the log server.
pub fn server_file(live: &Arc<Live>) -> Writer {
    Writer::start(live.now().root(), FileKind::Server, live_directory(live))
}

/// Where log lines go.
#[derive(Clone)]
pub struct Log {
    file: Writer,
    client: Option<Client>,
    tally: Arc<Tally>,
}

impl Log {
    /// The log of a server: its directory and its log server are those of the registry in force. `port_offset` is added to the port of a log server
    /// on this machine, unless the registry names the port.
    pub fn start_for(live: &Arc<Live>, port_offset: u16) -> Log {
        let client = Client::start(live.clone(), port_offset);
        let file = Writer::start(live.now().root(), FileKind::System, live_directory(live));
        Log { file, client: Some(client), tally: Arc::default() }
    }

    /// A log without a log server. `dir` says where the files are, anew for each write.
    pub fn start(root: &Root, dir: impl Fn() -> TreePath + Send + 'static) -> Log {
        Log { file: Writer::start(root, FileKind::System, dir), client: None, tally: Arc::default() }
    }

    /// Writes an event down where the service logs. `address` is what stands in the line's bracket. Never waits.
    pub fn event(&self, to: LogTo, tag: Tag, id: SpoolId, address: Option<IpAddr>, event: &Event<'_>) {
        self.tally.count(event);
        if to == LogTo::None {
            return;
        }
        let now = Local::now().naive_local();
        let line = logline::write(now, tag, id, address, event);
        match (to, &self.client) {
            (LogTo::Sys, _) => self.file.write(line),
            (LogTo::LogServer, Some(client)) => client.send(now, line),
            _ => {}
        }
    }

    /// Writes down what concerns the server as a whole, whatever the services' settings.
    pub fn note(&self, text: &str) {
        self.event(LogTo::Sys, Tag::Server, SpoolId(0), None, &Event::Note(text));
    }

    /// What happened since the start.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// How many lines were neither written nor sent since the start.
    pub fn dropped(&self) -> u64 {
        self.file.dropped() + self.client.as_ref().map_or(0, Client::dropped)
    }

    /// Waits until everything so far is written: before the server ends.
    pub fn flush(&self) {
        self.file.flush();
        self.client.iter().for_each(Client::flush);
    }
}

/// The directory of the logs, as the registry in force says.
fn live_directory(live: &Arc<Live>) -> impl Fn() -> TreePath + Send + 'static {
    let live = live.clone();
    move || directory(&live.now())
}

/// The directory of the logs: `LogDir`, or `logs` in the IMail directory (manual 5).
pub fn directory(config: &Config) -> TreePath {
    let named = config.registry.global.log_dir.as_deref();
    named.and_then(|dir| config.paths.resolve(config.root(), dir)).unwrap_or_else(|| config.root().logs())
}

/// Lines that were lost, counted for one way out of this process.
#[derive(Clone)]
struct Dropped {
    count: Arc<AtomicU64>,
    why: &'static str,
}

impl Dropped {
    fn new(why: &'static str) -> Dropped {
        Dropped { count: Arc::default(), why }
    }

    /// Counts, and says so now and then: at 1, 2, 4, 8 and so on.
    fn add(&self, lines: u64) {
        let before = self.count.fetch_add(lines, Ordering::Relaxed);
        let (dropped, why) = (before + lines, self.why);
        if lines > 0 && dropped.ilog2() != before.checked_ilog2().unwrap_or(u32::MAX) {
            tracing::warn!(dropped, "log lines were lost: {why}");
        }
    }

    fn now(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_lines_are_counted() {
        let dropped = Dropped::new("test");
        for (add, expected) in [(0, 0), (1, 1), (0, 1), (5, 6)] {
            dropped.add(add);
            assert_eq!(dropped.now(), expected);
        }
    }
}
