//! POP3 on a mailbox of 10,000 messages, and a hundred clients at once. `POP3_BENCH_MESSAGES` says how many messages.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, reason = "a benchmark reports by panicking")]

mod measure;
#[path = "../support/mod.rs"]
mod support;

use measure::{memory_mb, tell, timed};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::pop3::Pop3;
use support::server::Server;
use support::tree::Tree;

const USER: (&str, &str) = ("user789", "Passw0rd!");
/// Clients at once.
const CLIENTS: usize = 100;
/// How long they go on.
const LASTS: Duration = Duration::from_secs(5);
/// How many commands are sent before their answers are read.
const PIPELINED: usize = 50;

fn main() {
    let messages = measure::count("POP3_BENCH_MESSAGES", 10_000);
    let tree = Tree::quiet();
    measure::write_mailbox(&tree.path(&format!("users/{}/main.mbx", USER.0)), messages);
    println!("POP3, {messages} messages");
    let server = Server::start(&tree);

    let mut pop3 = server.pop3(USER.0, USER.1);
    assert_eq!(pop3.count(), messages);
    let one_by_one = timed(|| (1..=messages).for_each(|n| drop(pop3.block(&format!("RETR {n}"))))).1;
    tell("RETR, one at a time", messages as f64 / one_by_one.as_secs_f64(), "messages/s");
    let numbers: Vec<usize> = (1..=messages).collect();
    let pipelined = timed(|| numbers.chunks(PIPELINED).for_each(|some| retrieve_together(&mut pop3, some))).1;
    tell("RETR, 50 at a time", messages as f64 / pipelined.as_secs_f64(), "messages/s");
    pop3.quit();

    let (sessions, end) = (AtomicUsize::new(0), Instant::now() + LASTS);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while Instant::now() < end {
                    let mut pop3 = server.pop3(USER.0, USER.1);
                    assert_eq!(pop3.count(), messages);
                    (1..=10.min(messages)).for_each(|n| drop(pop3.block(&format!("RETR {n}"))));
                    pop3.quit();
                    sessions.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    tell("sessions of 100 clients", sessions.into_inner() as f64 / LASTS.as_secs_f64(), "a second");
    tell("memory then", memory_mb(server.pid()), "MB");
}

fn retrieve_together(pop3: &mut Pop3, numbers: &[usize]) {
    let commands: String = numbers.iter().map(|n| format!("RETR {n}\r\n")).collect();
    pop3.send(&commands);
    numbers.iter().for_each(|_| drop(pop3.read_block()));
}
