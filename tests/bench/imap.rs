//! IMAP on a large mailbox side by side with Dovecot on mbox: opening it without an index, with one in a new process, reading, changing,
//! removing; and a thousand clients that wait.
//!
//! `IMAP_BENCH_MESSAGES` says how many messages; several numbers, separated by commas, also show how the times grow. `IMAP_BENCH_LIMIT` is how
//! many seconds a step may take, `IMAP_BENCH_ROUNDS` how often all of it is done (the middle counts), `IMAP_BENCH_ALONE` leaves
//! Dovecot out.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, reason = "a benchmark reports by panicking")]

mod client;
mod dovecot;
mod load;
mod measure;
mod subject;
#[path = "../support/mod.rs"]
mod support;

use client::Client;
use measure::{Figure, RARE, Row, memory, tell, tell_time};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use subject::{Neighbour, Subject, USER};
use support::imap::Imap;
use support::server::Server;
use support::smtp::mail;
use support::tree::Tree;

/// Messages whose marks are changed by one command where each is named.
const NAMED_AT_ONCE: usize = 1000;
/// Messages that are appended.
const APPENDED: usize = 1000;
/// Clients that wait.
const WAITING: usize = 1000;
/// What they may cost in all, in MB, and how soon all must wake.
const WAITING_MAX: f64 = 30.0;
const WAKE_MAX: Duration = Duration::from_secs(1);
/// How often a mailbox whose index is there is opened in a new process.
const REOPENINGS: usize = 3;

fn main() {
    let limit = Duration::from_secs(measure::count("IMAP_BENCH_LIMIT", 300) as u64);
    let rounds = measure::count("IMAP_BENCH_ROUNDS", 1);
    let alone = std::env::var_os("IMAP_BENCH_ALONE").is_some();
    let mut grown = Vec::new();
    for messages in measure::counts("IMAP_BENCH_MESSAGES", 100_000) {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let mut megabytes = 0;
        for _ in 0..rounds {
            let scratch = tempfile::tempdir().unwrap();
            let file = scratch.path().join("large.mbx");
            measure::write_mailbox(&file, messages);
            megabytes = std::fs::metadata(&file).unwrap().len() >> 20;
            if let Some(dovecot) = (!alone).then(|| Subject::dovecot(&file)).flatten() {
                theirs.push(Run::all(dovecot, messages, limit));
            }
            ours.push(Run::all(Subject::imaild(&file), messages, limit));
        }
        let ours = measure::middle(ours);
        let title = format!(
            "IMAP, {messages} messages, {megabytes} MB, the middle of {rounds}; others: the longest NOOP of somebody else"
        );
        measure::print_table(&title, limit, &ours, &measure::middle(theirs));
        grown.push((messages, ours));
    }
    measure::print_growth(&grown);
    waiting();
}

/// All steps on one server.
struct Run {
    subject: Subject,
    messages: usize,
    limit: Duration,
    client: Option<Client>,
    neighbour: Option<Neighbour>,
    rows: Vec<Row>,
}

impl Run {
    fn all(subject: Subject, messages: usize, limit: Duration) -> Vec<Row> {
        let mut run = Run { subject, messages, limit, client: None, neighbour: None, rows: Vec::new() };
        read_once(&run.subject.mailbox());
        run.reading();
        run.marking();
        run.changing();
        run.rows
    }

    /// Performs a step. One that takes longer than the limit is ended by force.
    fn step(
        &mut self,
        name: &str,
        target: Option<f64>,
        work: impl FnOnce(&mut Client, Duration) -> Option<Duration>,
    ) {
        let (limit, pid) = (self.limit, self.subject.pid());
        let mut client = self.client.take().unwrap_or_else(|| self.subject.client());
        self.neighbour.as_ref().map(Neighbour::longest);
        let cpu = load::cpu_seconds(pid);
        let time = work(&mut client, limit);
        let cpu = load::cpu_seconds(pid) - cpu;
        let neighbour = self.neighbour.as_ref().map(Neighbour::longest);
        let figure = Figure { time, cpu, memory: memory(pid), neighbour };
        let row = Row { name: name.to_owned(), target, figure };
        measure::report(self.subject.name(), &row);
        self.rows.push(row);
        match time {
            Some(_) => self.client = Some(client),
            None => {
                drop(client);
                self.reopen();
                let _ = self.client.as_mut().and_then(|client| client.ok("SELECT INBOX", "", limit));
            }
        }
    }

    /// A step that is one command; `counted` must be in the answer so often.
    fn command(&mut self, name: &str, target: Option<f64>, command: &str, counted: &str, expected: usize) {
        self.step(name, target, |client, limit| {
            let answer = client.ok(command, counted, limit)?;
            assert_eq!(answer.count, expected, "{command}: {counted}");
            Some(answer.time)
        });
    }

    fn select(&mut self, name: &str, target: Option<f64>, expected: usize) {
        self.step(name, target, |client, limit| {
            let answer = client.ok("SELECT INBOX", "", limit)?;
            assert_eq!(answer.exists(), expected);
            Some(answer.time)
        });
    }

    /// Starts the server anew, with a client that has not selected anything.
    fn reopen(&mut self) {
        self.client = None;
        self.neighbour = None;
        self.subject.restart();
        self.neighbour = self.subject.neighbour();
        self.client = Some(self.subject.client());
    }

    /// SELECT in a new process, the middle of several.
    fn reopenings(&mut self, name: &str, target: Option<f64>, expected: usize) {
        let before = self.rows.len();
        for _ in 0..REOPENINGS {
            self.reopen();
            self.select(name, target, expected);
        }
        let several = self.rows.split_off(before).into_iter().map(|row| vec![row]).collect();
        self.rows.extend(measure::middle(several));
    }

    fn reading(&mut self) {
        let all = self.messages;
        self.reopen();
        self.select("SELECT without an index", Some(0.1), all);
        self.reopenings("SELECT with an index, new process", Some(0.5), all);
        self.command("FETCH (FLAGS UID)", Some(0.7), "FETCH 1:* (FLAGS UID)", " FETCH (", all);
        let sizes = "FETCH 1:* (RFC822.SIZE INTERNALDATE)";
        self.command("FETCH (RFC822.SIZE INTERNALDATE), first", Some(0.1), sizes, " FETCH (", all);
        let envelopes = "FETCH 1:* (ENVELOPE)";
        self.command("FETCH (ENVELOPE), first", Some(0.4), envelopes, " FETCH (", all);
        self.command("FETCH (ENVELOPE), again", Some(0.8), envelopes, " FETCH (", all);
        self.command("FETCH (BODYSTRUCTURE)", None, "FETCH 1:* (BODYSTRUCTURE)", " FETCH (", all);
        for (what, target) in [("SUBJECT", 1.0), ("TEXT", 0.2)] {
            let name = format!("SEARCH {what}");
            self.step(&name, Some(target), |client, limit| {
                let answer = client.ok(&format!("SEARCH {what} {RARE}"), "", limit)?;
                let shown = answer.found();
                let found = measure::rare(all);
                assert!(shown == found || answer.head.len() > 4000 && shown <= found, "{shown} of {found}");
                Some(answer.time)
            });
        }
        self.command("SEARCH UNSEEN", None, "SEARCH UNSEEN", "* SEARCH", 1);
        self.command("SORT (SUBJECT)", None, "SORT (SUBJECT) UTF-8 ALL", "* SORT", 1);
        self.command("THREAD REFERENCES", None, "THREAD REFERENCES UTF-8 ALL", "* THREAD", 1);
        self.command("FETCH (BODY.PEEK[])", Some(0.4), "FETCH 1:* (BODY.PEEK[])", " FETCH (BODY[]", all);
    }

    fn marking(&mut self) {
        let all = self.messages;
        self.command("STORE +FLAGS.SILENT (\\Seen)", Some(0.7), "STORE 1:* +FLAGS.SILENT (\\Seen)", "", 0);
        self.command("STORE +FLAGS (\\Flagged)", Some(0.7), "STORE 1:* +FLAGS (\\Flagged)", " FETCH (", all);
        self.command("CHECK", None, "CHECK", "", 0);
        self.reopenings("SELECT after the STORE, new process", Some(0.5), all);
        self.command(
            "STORE +FLAGS (\\Answered)",
            Some(0.7),
            "STORE 1:* +FLAGS (\\Answered)",
            " FETCH (",
            all,
        );
        self.command("STORE -FLAGS.SILENT (\\Seen)", Some(0.7), "STORE 1:* -FLAGS.SILENT (\\Seen)", "", 0);
        self.command("CHECK then", None, "CHECK", "", 0);
    }

    fn changing(&mut self) {
        let all = self.messages;
        self.step("APPEND of 1,000", Some(0.7), |client, limit| {
            let line = "appended text as people write it\r\n".repeat(100);
            let mut time = Duration::ZERO;
            for n in 0..APPENDED {
                let head = format!(
                    "Subject: appended\r\nFrom: a@example.net\r\nMessage-ID: <a{n}@example.net>\r\n\r\n"
                );
                time += client.append("INBOX", &[head.as_bytes(), line.as_bytes()].concat(), limit)?.time;
            }
            Some(time)
        });
        self.step("STORE (\\Deleted) on every second, 1,000 a time", None, |client, limit| {
            let mut time = Duration::ZERO;
            let odd: Vec<String> = (1..=all).step_by(2).map(|n| n.to_string()).collect();
            for some in odd.chunks(NAMED_AT_ONCE) {
                let command = format!("STORE {} +FLAGS.SILENT (\\Deleted)", some.join(","));
                time += client.ok(&command, "", limit)?.time;
            }
            (time < limit).then_some(time)
        });
        let file = self.subject.mailbox();
        let size = || std::fs::metadata(&file).unwrap().len();
        let before = size();
        self.command("EXPUNGE of every second", Some(0.3), "EXPUNGE", " EXPUNGE\r\n", all.div_ceil(2));
        // Dovecot answers after that.
        self.step("until the removed bytes are out of the file", None, |client, limit| {
            let begun = Instant::now();
            while size() == before {
                thread::sleep(Duration::from_millis(10));
                client.ok("NOOP", "", limit.checked_sub(begun.elapsed())?)?;
            }
            Some(begun.elapsed())
        });
        self.reopenings("SELECT after the EXPUNGE, new process", Some(0.5), all / 2 + APPENDED);
    }
}

/// Brings a file into the page cache, so that neither server pays for the disk.
fn read_once(path: &Path) {
    std::io::copy(&mut std::fs::File::open(path).unwrap(), &mut std::io::sink()).unwrap();
}

/// A thousand clients in IDLE: what they cost, and how soon all know of a new message.
fn waiting() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    server.imap(USER.0, USER.1).ok("CREATE Waiting");
    let before = memory(server.pid()).0;
    let mut waiting: Vec<Imap> = (0..WAITING)
        .map(|_| {
            let mut imap = server.imap(USER.0, USER.1);
            imap.ok("SELECT Waiting");
            imap.begin_idle();
            imap
        })
        .collect();
    println!();
    let taken = memory(server.pid()).0 - before;
    tell("memory of 1,000 waiting clients", taken, if taken > WAITING_MAX { "MB  MISSED" } else { "MB" });
    let mut sender = server.imap(USER.0, USER.1);
    let begun = Instant::now();
    assert!(sender.with_literal("APPEND Waiting", mail("wake up").as_bytes()).is_ok());
    waiting.iter_mut().for_each(|imap| imap.wait_for_line("* 1 EXISTS"));
    let wake = begun.elapsed();
    tell_time("until all of them know of a new message", wake);
    if wake > WAKE_MAX {
        println!("MISSED: {WAKE_MAX:?}");
    }
}
