//! Mail in and through, side by side with Postfix: speed and CPU time.
//!
//! Both run at their usual durability on the same disk, in turn, several rounds; what is printed is the middle of the rounds. Needs root, since
//! Postfix does.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, reason = "a benchmark reports by panicking")]

mod load;
#[path = "../support/mod.rs"]
mod support;

use load::{ELSEWHERE, LARGE, Load, SMALL, Tail, USERS};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};
use support::postfix::Postfix;
use support::server::{Ports, SPARE, Server};
use support::sink::Sink;

/// Rounds, unless an argument says otherwise.
const ROUNDS: usize = 3;

/// What a server still does after the last message has arrived counts as well.
const AFTERWARDS: Duration = Duration::from_millis(500);

/// The most CPU time, as a part of what Postfix takes.
const CPU_MAX: f64 = 0.5;

/// A kind of load.
struct Kind {
    name: &'static str,
    messages: usize,
    size: usize,
    /// 0: all mail is for elsewhere.
    users: usize,
    reconnect: bool,
    /// How many times as fast as Postfix it has to be.
    target: f64,
}

const KINDS: [Kind; 5] = [
    Kind { name: "10 users", messages: 4000, size: SMALL, users: USERS, reconnect: false, target: 3.0 },
    Kind { name: "1 user", messages: 4000, size: SMALL, users: 1, reconnect: false, target: 3.0 },
    Kind {
        name: "1 per connection",
        messages: 4000,
        size: SMALL,
        users: USERS,
        reconnect: true,
        target: 2.0,
    },
    Kind { name: "1 MB", messages: 300, size: LARGE, users: USERS, reconnect: false, target: 1.2 },
    Kind { name: "relayed", messages: 4000, size: SMALL, users: 0, reconnect: false, target: 1.5 },
];

/// A server under test.
struct Subject {
    address: SocketAddr,
    pid: u32,
    mailboxes: Vec<Tail>,
    sink: Sink,
}

/// What a round gave.
#[derive(Clone, Copy)]
struct Figures {
    /// Messages a second.
    rate: f64,
    /// CPU milliseconds a message.
    cpu: f64,
}

impl Subject {
    fn measure(&mut self, kind: &Kind) -> Figures {
        let recipients = load::recipients_or_elsewhere(kind.users);
        let load = Load {
            messages: kind.messages,
            size: kind.size,
            recipients: &recipients,
            reconnect: kind.reconnect,
        };
        let end = self.arrived() + kind.messages;
        let (cpu, begun) = (load::cpu_seconds(self.pid), Instant::now());
        load.send(self.address);
        load::wait_for_count(end, || self.arrived());
        let seconds = begun.elapsed().as_secs_f64();
        thread::sleep(AFTERWARDS);
        let cpu = load::cpu_seconds(self.pid) - cpu;
        let messages = kind.messages as f64;
        Figures { rate: messages / seconds, cpu: cpu * 1000.0 / messages }
    }

    /// All mail so far, in mailboxes and elsewhere.
    fn arrived(&mut self) -> usize {
        load::count_all(&mut self.mailboxes) + self.sink.taken()
    }
}

fn main() {
    let rounds = load::argument().unwrap_or(ROUNDS).max(1);
    let (ports, tree) = (Ports::reserve(), load::tree());
    let (our_sink, their_sink) = (Sink::start(&[]), Sink::start(&[]));
    let theirs = ports.address(SPARE[0]);
    let Some(postfix) = Postfix::start(theirs, &load::users(), &[(ELSEWHERE, their_sink.address())]) else {
        return;
    };
    let route = format!("{ELSEWHERE}={}", our_sink.address());
    let server = Server::start_with(&tree, ports, &["--route", &route]);
    let mut ours = Subject {
        address: server.address(25),
        pid: server.pid(),
        mailboxes: load::mailboxes(&tree),
        sink: our_sink,
    };
    let mailboxes = load::users().iter().map(|user| Tail::new(postfix.mailbox(user))).collect();
    let mut theirs = Subject { address: theirs, pid: postfix.pid(), mailboxes, sink: their_sink };
    println!("\nimaild and Postfix in turn, {rounds} rounds, 20 connections, 4 KB messages but for one kind");
    println!(
        "{:<18} {:>9} {:>9} {:>7} {:>7}   {:>9} {:>9} {:>7} {:>7}",
        "", "imaild/s", "Postfix/s", "ratio", "target", "CPU ms", "CPU ms", "ratio", "target"
    );
    for kind in &KINDS {
        let pairs: Vec<_> = (0..rounds).map(|_| (ours.measure(kind), theirs.measure(kind))).collect();
        let (ours, theirs): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        print_row(kind, middle(&ours), middle(&theirs));
    }
}

fn print_row(kind: &Kind, ours: Figures, theirs: Figures) {
    let (speed, cpu) = (ours.rate / theirs.rate, ours.cpu / theirs.cpu);
    let missed = if speed < kind.target || cpu > CPU_MAX { "  MISSED" } else { "" };
    println!(
        "{:<18} {:>9.0} {:>9.0} {speed:>7.2} {:>7}   {:>9.2} {:>9.2} {cpu:>7.2} {CPU_MAX:>7}{missed}",
        kind.name, ours.rate, theirs.rate, kind.target, ours.cpu, theirs.cpu
    );
}

/// The middle of each figure.
fn middle(all: &[Figures]) -> Figures {
    let middle = |of: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = all.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Figures { rate: middle(|figures| figures.rate), cpu: middle(|figures| figures.cpu) }
}
