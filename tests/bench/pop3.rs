//! POP3 side by side with Dovecot on mbox: one client with a large mailbox, and a hundred clients at once, each with a mailbox of its own.
//!
//! `POP3_BENCH_MESSAGES` says how many messages the large mailbox has; several numbers, separated by commas, also show how the times grow.
//! `POP3_BENCH_LIMIT` is how many seconds a step may take, `POP3_BENCH_ALONE` leaves Dovecot out.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, reason = "a benchmark reports by panicking")]

mod client;
mod dovecot;
mod load;
mod measure;
mod subject;
#[path = "../support/mod.rs"]
mod support;

use client::PopClient;
use measure::{Figure, Row, memory};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use subject::{Neighbour, Subject, USER, user};

/// Messages that are fetched.
const FETCHED: usize = 10_000;
/// How many commands are sent before their answers are read.
const PIPELINED: usize = 50;
/// Clients at once, how long they go on, and the messages of each.
const CLIENTS: usize = 100;
const LASTS: Duration = Duration::from_secs(6);
const SMALL: usize = 50;
/// How many times as many sessions as Dovecot's.
const SESSIONS_MIN: f64 = 2.0;

fn main() {
    let limit = Duration::from_secs(measure::count("POP3_BENCH_LIMIT", 300) as u64);
    let alone = std::env::var_os("POP3_BENCH_ALONE").is_some();
    let mut grown = Vec::new();
    let scratch = tempfile::tempdir().unwrap();
    for messages in measure::counts("POP3_BENCH_MESSAGES", 10_000) {
        let file = scratch.path().join("large.mbx");
        measure::write_mailbox(&file, messages);
        let dovecot = (!alone).then(|| Subject::dovecot(&file)).flatten();
        let theirs = dovecot.map(|dovecot| Run::all(dovecot, messages, limit)).unwrap_or_default();
        let imaild = Subject::imaild(&file);
        let ours = Run::all(imaild, messages, limit);
        let title = format!("POP3, {messages} messages; others: the longest IMAP NOOP of somebody else");
        measure::print_table(&title, limit, &ours, &theirs);
        grown.push((messages, ours));
    }
    measure::print_growth(&grown);

    let file = scratch.path().join("small.mbx");
    measure::write_mailbox(&file, SMALL);
    let empty = scratch.path().join("empty.mbx");
    std::fs::write(&empty, "").unwrap();
    let sessions = |mut subject: Subject| {
        subject.add_users(CLIENTS, &file);
        // Ours looks at an edited registry only when it has been quiet for a moment.
        subject.restart();
        crowd(&subject)
    };
    println!("\nPOP3, sessions of {CLIENTS} clients, each with a mailbox of {SMALL} messages");
    let theirs = (!alone).then(|| Subject::dovecot(&empty)).flatten().map(&sessions);
    let ours = sessions(Subject::imaild(&empty));
    let told = |name: &str, crowd: &Crowd| {
        println!(
            "{name:<10}{:>10.0} a second, {:.3} CPU ms each, {:.0} MB",
            crowd.rate, crowd.cpu, crowd.memory
        );
    };
    told("imaild", &ours);
    if let Some(theirs) = theirs {
        told("Dovecot", &theirs);
        let ratio = ours.rate / theirs.rate;
        println!(
            "{ratio:.2} times as many, target {SESSIONS_MIN}{}",
            if ratio < SESSIONS_MIN { "  MISSED" } else { "" }
        );
    }
}

/// All steps on one server.
struct Run {
    subject: Subject,
    limit: Duration,
    neighbour: Option<Neighbour>,
    rows: Vec<Row>,
}

impl Run {
    fn all(mut subject: Subject, messages: usize, limit: Duration) -> Vec<Row> {
        subject.restart();
        std::io::copy(&mut std::fs::File::open(subject.mailbox()).unwrap(), &mut std::io::sink()).unwrap();
        let neighbour = subject.neighbour();
        let mut run = Run { subject, limit, neighbour, rows: Vec::new() };
        run.session(messages);
        run.rows
    }

    /// Performs a step; `None` if it, or one before, took longer than the limit.
    fn step<T>(&mut self, name: &str, target: Option<f64>, work: impl FnOnce() -> Option<T>) -> Option<T> {
        let pid = self.subject.pid();
        self.neighbour.as_ref().map(Neighbour::longest);
        let (cpu, begun) = (load::cpu_seconds(pid), Instant::now());
        let outcome = work();
        let time = outcome.is_some().then(|| begun.elapsed());
        let cpu = load::cpu_seconds(pid) - cpu;
        let neighbour = self.neighbour.as_ref().map(Neighbour::longest);
        let figure = Figure { time, cpu, memory: memory(pid), neighbour };
        let row = Row { name: name.to_owned(), target, figure };
        measure::report(self.subject.name(), &row);
        self.rows.push(row);
        outcome
    }

    fn session(&mut self, messages: usize) -> Option<()> {
        let (limit, address) = (self.limit, self.subject.pop3());
        let login = || PopClient::login(address, USER.0, USER.1, limit);
        let mut client = self.step("login without an index", None, login)?;
        self.step("QUIT", None, || client.line("QUIT"))?;
        let mut client = self.step("login with an index", None, login)?;
        assert_eq!(client.count()?, messages);
        self.step("LIST", None, || client.blocks("LIST\r\n", 1))?;
        self.step("UIDL, first", None, || client.blocks("UIDL\r\n", 1))?;
        self.step("UIDL, again", None, || client.blocks("UIDL\r\n", 1))?;
        // Spread over the mailbox.
        let numbers: Vec<usize> = (1..=messages).step_by(messages.div_ceil(FETCHED)).collect();
        let commands: Vec<String> = numbers.iter().map(|n| format!("RETR {n}\r\n")).collect();
        let name = format!("RETR of {}, first", numbers.len());
        self.step(&name, None, || commands.iter().try_for_each(|command| client.blocks(command, 1)))?;
        let name = format!("RETR of {}, one at a time", numbers.len());
        self.step(&name, Some(0.7), || commands.iter().try_for_each(|command| client.blocks(command, 1)))?;
        let name = format!("RETR of {}, {PIPELINED} at a time", numbers.len());
        self.step(&name, Some(0.7), || {
            commands.chunks(PIPELINED).try_for_each(|some| client.blocks(&some.concat(), some.len()))
        })?;
        let odd: Vec<String> = (1..=messages).step_by(2).map(|n| format!("DELE {n}\r\n")).collect();
        self.step("DELE of every second, 50 at a time", None, || {
            odd.chunks(PIPELINED).try_for_each(|some| client.lines(&some.concat(), some.len()))
        })?;
        self.step("QUIT, which removes them", None, || client.line("QUIT"))?;
        let mut client = self.step("login then", None, login)?;
        assert_eq!(client.count()?, messages / 2);
        client.line("QUIT").map(drop)
    }
}

/// What many clients at once got done.
struct Crowd {
    /// Sessions a second.
    rate: f64,
    /// CPU milliseconds of the server each.
    cpu: f64,
    /// Megabytes resident.
    memory: f64,
}

/// Sessions as mail programs have them that leave mail on the server for a while: what is new is fetched, some heads are looked at,
/// an old message goes.
fn crowd(subject: &Subject) -> Crowd {
    let (pid, address) = (subject.pid(), subject.pop3());
    let (sessions, cpu, begun) = (AtomicUsize::new(0), load::cpu_seconds(pid), Instant::now());
    thread::scope(|scope| {
        for number in 1..=CLIENTS {
            let sessions = &sessions;
            scope.spawn(move || {
                while begun.elapsed() < LASTS {
                    one(address, &user(number)).expect("answers within the limit");
                    sessions.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let (sessions, time) = (sessions.into_inner() as f64, begun.elapsed().as_secs_f64());
    let cpu = (load::cpu_seconds(pid) - cpu) * 1000.0 / sessions;
    Crowd { rate: sessions / time, cpu, memory: memory(pid).0 }
}

fn one(address: std::net::SocketAddr, user: &str) -> Option<()> {
    let mut client = PopClient::login(address, user, USER.1, Duration::from_secs(60))?;
    let count = client.count()?;
    client.blocks("UIDL\r\n", 1)?;
    (1..=count.min(10)).try_for_each(|n| client.blocks(&format!("RETR {n}\r\n"), 1))?;
    (1..=count.min(5)).try_for_each(|n| client.blocks(&format!("TOP {n} 5\r\n"), 1))?;
    if count > 20 {
        client.line("DELE 1")?;
    }
    client.line("QUIT").map(drop)
}
