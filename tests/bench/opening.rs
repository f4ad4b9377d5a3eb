//! SELECT of a large mailbox that has an index, by a server that was just started, side by side with Dovecot: time until the answer is there, and
//! CPU time of the server's processes meanwhile.
//!
//! Both have the same mailbox, in turn, in many rounds, each with a new server; what is printed is the middle of the rounds. The login before it
//! does not count. `IMAP_BENCH_MESSAGES` says how many messages (100,000). Without root, which Dovecot needs, ours is measured alone.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, reason = "a benchmark reports by panicking")]

mod load;
mod measure;
#[path = "../support/mod.rs"]
mod support;

use load::{argument, print_figure, print_head};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use support::dovecot::{Dovecot, PASSWORD};
use support::imap::{Imap, exists};
use support::server::{Ports, SPARE, Server};
use support::tree::Tree;

/// Rounds, unless an argument says otherwise.
const ROUNDS: usize = 30;
const USER: (&str, &str) = ("user789", "Passw0rd!");
/// The most of Dovecot's time that it may take.
const TARGET: f64 = 0.5;

/// What one SELECT took.
#[derive(Clone, Copy)]
struct Figures {
    /// Microseconds until the answer.
    time: f64,
    /// Microseconds of CPU.
    cpu: f64,
}

fn main() {
    let messages = measure::count("IMAP_BENCH_MESSAGES", 100_000);
    let rounds = argument().unwrap_or(ROUNDS);
    let tree = Tree::quiet();
    let ours = tree.path(&format!("users/{}/main.mbx", USER.0));
    measure::write_classic_mailbox(&ours, messages);
    let mut ports = Some(Ports::reserve());
    let address = ports.as_ref().map(|ports| ports.address(SPARE[0])).unwrap();
    let dovecot = Dovecot::prepare(address);
    if let Some(dovecot) = &dovecot {
        fs::copy(&ours, dovecot.mailbox(USER.0)).unwrap();
    }
    let size = fs::metadata(&ours).unwrap().len() >> 20;
    print_head(&format!(
        "SELECT by a new server, {messages} messages, {size} MB, the middle of {rounds} rounds"
    ));

    let (mut mine, mut theirs, mut warm) = (Vec::new(), Vec::new(), Vec::new());
    // The first round makes the indexes.
    for round in 0..=rounds {
        let server = Server::start_on(&tree, ports.take().unwrap());
        let one = select(server.address(143), USER.1, server.pid(), messages);
        let again = select(server.address(143), USER.1, server.pid(), messages);
        ports = Some(server.stop().1);
        let other = dovecot.as_ref().map(|dovecot| {
            dovecot.start();
            let figures = select(address, PASSWORD, dovecot.pid(), messages);
            dovecot.stop();
            figures
        });
        if round > 0 {
            mine.push(one);
            warm.push(again);
            theirs.extend(other);
        }
    }
    let (time, cpu) = (middle(&mine, |f| f.time), middle(&mine, |f| f.cpu));
    print_figure("time", time, "us", None);
    print_figure("CPU", cpu, "us", None);
    print_figure("time of a second session", middle(&warm, |f| f.time), "us", None);
    if !theirs.is_empty() {
        let (peer, peer_cpu) = (middle(&theirs, |f| f.time), middle(&theirs, |f| f.cpu));
        print_figure("time, Dovecot", peer, "us", None);
        print_figure("CPU, Dovecot", peer_cpu, "us", None);
        print_figure("time", time / peer, "of Dovecot's", Some(TARGET));
        print_figure("CPU", cpu / peer_cpu, "of Dovecot's", None);
    }
}

fn select(address: SocketAddr, password: &str, pid: u32, messages: usize) -> Figures {
    let mut imap = Imap::login(address, USER.0, password).unwrap();
    // What a login leaves behind is over.
    std::thread::sleep(Duration::from_millis(50));
    let before = cpu_nanos(pid);
    let begun = Instant::now();
    let answer = imap.ok("SELECT INBOX");
    let time = begun.elapsed();
    let cpu = cpu_nanos(pid) - before;
    assert_eq!(exists(&answer), messages);
    imap.logout();
    Figures { time: time.as_secs_f64() * 1e6, cpu: cpu / 1e3 }
}

fn middle(figures: &[Figures], of: impl Fn(&Figures) -> f64) -> f64 {
    let mut all: Vec<f64> = figures.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(0.0)
}

/// CPU nanoseconds that a process and what it started have used, to the microsecond.
fn cpu_nanos(pid: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let one = |task: PathBuf| {
        let own = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
        let own: f64 = own.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0.0);
        let children = fs::read_to_string(task.join("children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        own + children.map(cpu_nanos).sum::<f64>()
    };
    tasks.map(|task| one(task.path())).sum()
}
