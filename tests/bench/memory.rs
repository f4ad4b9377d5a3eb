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

fn main() {
    let tree = load::tree();
    let sink = Sink::start(&[]);
    let route = format!("{ELSEWHERE}={}", sink.address());
    let server = Server::start_with(&tree, Ports::reserve(), &["--route", &route]);
    let (pid, address) = (server.pid(), server.address(25));
    load::print_head("Peak memory (VmHWM), 20 connections");
    load::print_figure("after the start", load::memory_mb(pid, "VmHWM"), "MB", Some(LOAD_MAX));
    let mut mailboxes = load::mailboxes(&tree);
    let mut stored = 0;
    for (what, messages, size, users) in [
        ("10,000 messages of 4 KB into 10 mailboxes", 10_000, SMALL, USERS),
        ("10,000 messages of 4 KB into 1 mailbox", 10_000, SMALL, 1),
        ("300 messages of 1 MB into 10 mailboxes", 300, LARGE, USERS),
    ] {
        load::forget_peak(pid);
        Load { messages, size, recipients: &load::recipients(users), reconnect: false }.send(address);
        stored += messages;
        load::wait_for_count(stored, || load::count_all(&mut mailboxes));
        load::print_figure(what, load::memory_mb(pid, "VmHWM"), "MB", Some(LOAD_MAX));
    }
    load::forget_peak(pid);
    let elsewhere = [format!("somebody@{ELSEWHERE}")];
    Load { messages: 10_000, size: SMALL, recipients: &elsewhere, reconnect: false }.send(address);
    load::wait_for_count(10_000, || sink.taken());
    load::print_figure("10,000 messages relayed", load::memory_mb(pid, "VmHWM"), "MB", Some(LOAD_MAX));
    drop(server);

    let server = Server::start(&tree);
    let pid = server.pid();
    let before = load::memory_mb(pid, "VmRSS");
    let idle: Vec<Session> = (0..IDLE).map(|_| Session::open(server.address(25))).collect();
    let now = load::memory_mb(pid, "VmRSS");
    load::print_figure("500 idle connections to a fresh server", now, "MB", Some(LOAD_MAX));
    load::print_figure("an idle connection", (now - before) * 1024.0 / idle.len() as f64, "KB", None);
}
