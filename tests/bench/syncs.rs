//! Counts the syncs of the server under load: each costs what the disk takes, whatever the machine.
//!
//! strace stops the server at every system call, so mail comes in more slowly than it would, and fewer messages share a sync: the figures are
//! the upper end.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, reason = "a benchmark reports by panicking")]

mod load;
#[path = "../support/mod.rs"]
mod support;

use load::{ELSEWHERE, Load, SMALL, USERS};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use support::server::{Ports, Server};
use support::sink::Sink;
use support::{START_LIMIT, wait_for};

/// Messages of each load.
const MESSAGES: usize = 2000;

/// The most syncs for a message.
const SYNCS_MAX: f64 = 0.5;

/// A running strace, and where it writes.
struct Strace {
    child: Child,
    summary: PathBuf,
    _dir: tempfile::TempDir,
}

impl Strace {
    fn attach(pid: u32) -> Strace {
        let dir = tempfile::tempdir().unwrap();
        let (summary, said) = (dir.path().join("summary"), dir.path().join("said"));
        let mut strace = Command::new("strace");
        strace.args(["-f", "-c", "-e", "trace=fsync,fdatasync,sync_file_range,syncfs,sync,msync", "-o"]);
        strace.arg(&summary).args(["-p", &pid.to_string()]);
        strace.stdin(Stdio::null()).stderr(fs::File::create(&said).unwrap());
        let child = strace.spawn().expect("strace is installed");
        wait_for("strace to attach", START_LIMIT, || {
            fs::read_to_string(&said).unwrap().contains("attached").then_some(())
        });
        Strace { child, summary, _dir: dir }
    }

    /// Detaches, and tells how many calls there were.
    fn count(mut self) -> usize {
        let line = format!("kill -INT {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success());
        self.child.wait().unwrap();
        let summary = fs::read_to_string(&self.summary).unwrap();
        // Share of the time, seconds, microseconds a call, calls, errors if there were any, name.
        let calls = |line: &str| -> Option<usize> {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.last()?.contains("sync").then_some(())?;
            words.get(3)?.parse().ok()
        };
        summary.lines().filter_map(calls).sum()
    }
}

fn main() {
    let tree = load::tree();
    let sink = Sink::start(&[]);
    let route = format!("{ELSEWHERE}={}", sink.address());
    let server = Server::start_with(&tree, Ports::reserve(), &["--route", &route]);
    let mut mailboxes = load::mailboxes(&tree);
    let mut arrived = 0;
    load::print_head("Syncs, 20 connections, 4 KB messages");
    for (what, users, reconnect, target) in [
        ("into 10 mailboxes", USERS, false, Some(SYNCS_MAX)),
        ("into 1 mailbox", 1, false, Some(SYNCS_MAX)),
        ("into 10 mailboxes, one message per connection", USERS, true, Some(SYNCS_MAX)),
        ("relayed to a sink", 0, false, None),
    ] {
        let recipients = load::recipients_or_elsewhere(users);
        let strace = Strace::attach(server.pid());
        Load { messages: MESSAGES, size: SMALL, recipients: &recipients, reconnect }.send(server.address(25));
        arrived += MESSAGES;
        load::wait_for_count(arrived, || load::count_all(&mut mailboxes) + sink.taken());
        load::print_figure(what, strace.count() as f64 / MESSAGES as f64, "syncs per message", target);
    }
}
