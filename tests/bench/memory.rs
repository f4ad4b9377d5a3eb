//! The most memory that the server takes under load, and with many connections that do nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, reason = "a benchmark reports by panicking")]

mod load;
#[path = "../support/mod.rs"]
mod support;

use load::{ELSEWHERE, LARGE, Load, SMALL, Session, USERS};
use support::server::{Ports, Server};
use support::sink::Sink;

/// Under load, in MB.
const LOAD_MAX: f64 = 64.0;

/// Connections without work.
const IDLE: usize = 500;

/// A kind of load, for a server of its own.
struct Kind {
    name: &'static str,
    messages: usize,
    size: usize,
    /// 0: all mail is for elsewhere.
    users: usize,
}

const KINDS: [Kind; 4] = [
    Kind { name: "10,000 messages of 4 KB into 10 mailboxes", messages: 10_000, size: SMALL, users: USERS },
    Kind { name: "10,000 messages of 4 KB into 1 mailbox", messages: 10_000, size: SMALL, users: 1 },
    Kind { name: "300 messages of 1 MB into 10 mailboxes", messages: 300, size: LARGE, users: USERS },
    Kind { name: "10,000 messages of 4 KB relayed", messages: 10_000, size: SMALL, users: 0 },
];

fn main() {
    let tree = load::tree();
    let sink = Sink::start(&[]);
    let route = format!("{ELSEWHERE}={}", sink.address());
    let mut mailboxes = load::mailboxes(&tree);
    let mut arrived = 0;
    load::print_head("Peak memory (VmHWM), 20 connections, a fresh server each time");
    for Kind { name, messages, size, users } in KINDS {
        let server = Server::start_with(&tree, Ports::reserve(), &["--route", &route]);
        let recipients = load::recipients_or_elsewhere(users);
        Load { messages, size, recipients: &recipients, reconnect: false }.send(server.address(25));
        arrived += messages;
        load::wait_for_count(arrived, || load::count_all(&mut mailboxes) + sink.taken());
        load::print_figure(name, load::memory_mb(server.pid(), "VmHWM"), "MB", Some(LOAD_MAX));
    }
    let server = Server::start(&tree);
    let pid = server.pid();
    let before = load::memory_mb(pid, "VmRSS");
    let idle: Vec<Session> = (0..IDLE).map(|_| Session::open(server.address(25))).collect();
    let now = load::memory_mb(pid, "VmRSS");
    load::print_figure("500 idle connections", now, "MB", Some(LOAD_MAX));
    load::print_figure("an idle connection", (now - before) * 1024.0 / idle.len() as f64, "KB", None);
}
