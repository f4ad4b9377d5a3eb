//! What this process does, for whoever looks at it from outside: `logs/imaild.<process id>.status`, one JSON object, written anew every
//! [`WRITE_EVERY`] and removed at the end. It needs no port, works over network file systems, and each of several servers on one directory
//! has a file of its own.
//!
//! # Failure
//! What cannot be written is tried again; the server does not mind. A server that was killed leaves its file: [`running`] does not take it
//! for alive when it is older than [`STALE_AFTER`] or its process is gone, and the next server removes it.
//!
//! # Limits
//! [`SIZE_MAX`] bytes of a file, [`SERVERS_MAX`] files.

use super::control;
use super::services::State;
use crate::logs::Log;
use crate::serve::Service;
use crate::session::traffic::Traffic;
use chrono::{DateTime, Local, SecondsFormat};
use layout::root::Root;
use serde_json::{Value, json};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often the file is written.
pub const WRITE_EVERY: Duration = Duration::from_secs(2);
/// After so long without a new file the server counts as dead: a busy disk may hold one up for seconds.
pub const STALE_AFTER: Duration = Duration::from_secs(15);
/// The longest file that is read.
const SIZE_MAX: u64 = 1 << 20;
/// The most files that are looked at.
const SERVERS_MAX: usize = 100;

/// A port of this process.
pub struct Port {
    /// The service's word in `--services`.
    pub service: &'static str,
    /// What is spoken there.
    pub protocol: String,
    /// Does TLS begin with the connection?
    pub tls: bool,
    /// Where it listens.
    pub address: SocketAddr,
    /// How busy it is.
    pub traffic: Arc<Traffic>,
}

/// What there is to say of the services.
pub struct Facts {
    /// Each with what it does.
    pub services: Vec<(Service, State)>,
    /// The ports of all.
    pub ports: Vec<Port>,
}

/// Writes the file.
pub struct Board {
    root: Root,
    file: PathBuf,
    started: DateTime<Local>,
    facts: Box<dyn Fn() -> Facts + Send + Sync>,
    log: Log,
    writing: Mutex<()>,
}

impl Board {
    /// Puts up the board of a server of which `facts` tells, and removes those of servers that are gone, with their control sockets.
    pub fn start(root: &Root, log: &Log, facts: impl Fn() -> Facts + Send + Sync + 'static) -> Board {
        for (file, report) in boards(root) {
            if !report.is_some_and(|report| is_alive(&report, Local::now())) {
                let control = process_of(&file).map(control::name).map(|name| file.with_file_name(name));
                [Some(file), control].into_iter().flatten().for_each(|file| _ = std::fs::remove_file(file));
            }
        }
        let file = root.logs().full().join(format!("imaild.{}.status", std::process::id()));
        let (root, facts, log) = (root.clone(), Box::new(facts), log.clone());
        let board = Board { root, file, started: Local::now(), facts, log, writing: Mutex::default() };
        board.write();
        board
    }

    /// Writes the file every [`WRITE_EVERY`] until this is dropped.
    pub async fn keep(&self) {
        let mut tick = tokio::time::interval(WRITE_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            tokio::task::block_in_place(|| self.write());
        }
    }

    /// Writes the file now. Readers see the old or the new one. It need not survive a crash, so nothing is synced.
    pub fn write(&self) {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let temporary = self.file.with_extension("$$$");
        let written = self
            .root
            .make_dirs(&self.root.logs())
            .and_then(|()| std::fs::write(&temporary, self.report(Local::now()).to_string()))
            .and_then(|()| std::fs::rename(&temporary, &self.file));
        if let Err(error) = written {
            tracing::debug!(%error, "the status file could not be written");
        }
    }

    fn report(&self, now: DateTime<Local>) -> Value {
        let port = |port: &Port| {
            let Port { service, protocol, tls, address, traffic } = port;
            json!({
                "service": service,
                "protocol": protocol,
                "tls": tls,
                "address": address.to_string(),
                "port": address.port(),
                "connections": traffic.open(),
                "connections_total": traffic.total(),
            })
        };
        let Facts { services, ports } = (self.facts)();
        let running = services.iter().filter(|(_, state)| *state == State::Running);
        let running: Vec<&str> = running.map(|(service, _)| service.word()).collect();
        let states: serde_json::Map<String, Value> = services
            .iter()
            .map(|(service, state)| (service.word().to_owned(), state.word().into()))
            .collect();
        let counts: serde_json::Map<String, Value> = self
            .log
            .tally()
            .all()
            .into_iter()
            .map(|(count, number)| (count.word().to_owned(), number.into()))
            .collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "pid_namespace": pid_namespace(),
            "started": stamp(self.started),
            "uptime_seconds": (now - self.started).num_seconds(),
            "written": stamp(now),
            "services": running,
            "states": states,
            "ports": ports.iter().map(port).collect::<Vec<_>>(),
            "counts": counts,
            "log_lines_dropped": self.log.dropped(),
        })
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

/// A time in JSON.
pub fn stamp(time: DateTime<Local>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, false)
}

/// Process ids mean something only among processes of the same namespace.
fn pid_namespace() -> Option<String> {
    std::fs::read_link("/proc/self/ns/pid").ok().map(|link| link.display().to_string())
}

/// The reports of all servers that work on this directory now.
pub fn running(root: &Root) -> Vec<Value> {
    let now = Local::now();
    boards(root).into_iter().filter_map(|(_, report)| report).filter(|report| is_alive(report, now)).collect()
}

fn is_alive(report: &Value, now: DateTime<Local>) -> bool {
    let written = report["written"].as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    // A clock that was set back makes it young, not dead.
    let fresh = written.is_some_and(|written| {
        (now.signed_duration_since(written)).to_std().unwrap_or_default() < STALE_AFTER
    });
    let here = report["pid_namespace"].as_str().map(str::to_owned) == pid_namespace();
    let exists = |pid: u64| Path::new("/proc").join(pid.to_string()).exists();
    fresh && report["pid"].as_u64().is_some_and(|pid| !here || exists(pid))
}

/// The process whose status file has this name.
fn process_of(path: &Path) -> Option<u32> {
    let name = path.file_name().and_then(|name| name.to_str())?;
    name.strip_prefix("imaild.")?.strip_suffix(".status")?.parse().ok()
}

/// All status files, with their content if it is one.
fn boards(root: &Root) -> Vec<(PathBuf, Option<Value>)> {
    let entries = std::fs::read_dir(root.logs().full()).into_iter().flatten().flatten();
    let named = |path: &PathBuf| process_of(path).is_some();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(named).take(SERVERS_MAX).collect();
    files.sort();
    let read = |file: PathBuf| {
        let report = read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        (file, report)
    };
    files.into_iter().map(read).collect()
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(SIZE_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use layout::disk::real::RealDisk;

    #[test]
    fn a_board_is_there_while_the_server_is() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(Arc::new(RealDisk::new()), dir.path());
        let log = Log::start(&root, {
            let root = root.clone();
            move || root.logs()
        });
        assert!(running(&root).is_empty());
        let traffic = Arc::new(Traffic::default());
        let _open = traffic.enter();
        traffic.count();
        let address = "127.0.0.1:10025".parse().unwrap();
        std::fs::create_dir(dir.path().join("logs")).unwrap();
        for (name, content) in [
            ("imaild.4194999.status", "{"),
            ("imaild.4194999.control", ""),
            ("imaild.x.status", "{}"),
            ("sys0801.txt", ""),
        ] {
            std::fs::write(dir.path().join("logs").join(name), content).unwrap();
        }
        let board = Board::start(&root, &log, move || Facts {
            services: vec![(Service::Smtp, State::Running), (Service::Pop3, State::Stopped)],
            ports: vec![Port {
                service: "smtp",
                protocol: "SMTP".to_owned(),
                tls: false,
                address,
                traffic: traffic.clone(),
            }],
        });
        let reports = running(&root);
        assert_eq!(reports.len(), 1);
        assert_eq!(reports[0]["pid"], std::process::id());
        let port = &reports[0]["ports"][0];
        assert_eq!((&port["port"], &port["connections"]), (&10_025.into(), &1.into()));
        assert_eq!(port["connections_total"], 2);
        assert_eq!(reports[0]["services"], json!(["smtp"]));
        assert_eq!(reports[0]["states"], json!({ "smtp": "running", "pop3": "stopped" }));
        drop(board);
        assert!(running(&root).is_empty());
        let mut left: Vec<_> =
            std::fs::read_dir(dir.path().join("logs")).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["imaild.x.status", "sys0801.txt"], "only what was a dead server's is removed");
    }

    #[test]
    fn who_is_alive() {
        let now = Local::now();
        let report = |pid: u32, namespace: Option<String>, age: i64| json!({ "pid": pid, "pid_namespace": namespace, "written": stamp(now - chrono::Duration::seconds(age)) });
        let (here, there) = (pid_namespace(), Some("pid:[1]".to_owned()));
        let gone = 4_194_999; // beyond the largest process id of Linux
        for (report, alive) in [
            (report(std::process::id(), here.clone(), 0), true),
            (report(std::process::id(), here.clone(), -100), true),
            (report(std::process::id(), here.clone(), 16), false),
            (report(gone, here, 0), false),
            (report(gone, there.clone(), 0), true),
            (report(gone, there, 16), false),
            (json!({}), false),
            (json!({ "pid": 1, "written": 5 }), false),
        ] {
            assert_eq!(is_alive(&report, now), alive, "{report}");
        }
    }
}
