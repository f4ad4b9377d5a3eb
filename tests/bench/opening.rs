//! SELECT of a large mailbox that has an index, by a server that was just started, side by side with Dovecot: time until the answer is there, and
//! CPU time of the server's processes meanwhile.
//!
//! Both have the same mailbox, in turn, in many rounds, each with a new server; what is printed is the middle of the rounds. The login before it
//! does not count. `IMAP_BENCH_MESSAGES` says how many messages (100,000). Without root, which Dovecot needs, ours is measured alone.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, reason = "a benchmark reports by panicking")]

mod client;
mod dovecot;
mod load;
mod measure;
mod subject;
#[path = "../support/mod.rs"]
mod support;

use load::{argument, print_figure, print_head};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use subject::Subject;

/// Rounds, unless an argument says otherwise.
const ROUNDS: usize = 30;
/// The most of Dovecot's time that it may take.
const TARGET: f64 = 0.5;
/// How long one answer may take.
const LIMIT: Duration = Duration::from_secs(60);

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
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("large.mbx");
    measure::write_mailbox(&file, messages);
    let size = fs::metadata(&file).unwrap().len() >> 20;
    let mut ours = Subject::imaild(&file);
    let mut peer = Subject::dovecot(&file);
    print_head(&format!(
        "SELECT by a new server, {messages} messages, {size} MB, the middle of {rounds} rounds"
    ));

    let (mut mine, mut theirs, mut warm) = (Vec::new(), Vec::new(), Vec::new());
    // The first round makes the indexes.
    for round in 0..=rounds {
        ours.restart();
        let one = select(&ours, messages);
        let again = select(&ours, messages);
        let other = peer.as_mut().map(|peer| {
            peer.restart();
            select(peer, messages)
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

fn select(subject: &Subject, messages: usize) -> Figures {
    let mut client = subject.client();
    // What a login leaves behind is over.
    std::thread::sleep(Duration::from_millis(50));
    let before = cpu_nanos(subject.pid());
    let answer = client.ok("SELECT INBOX", "", LIMIT).unwrap();
    let cpu = cpu_nanos(subject.pid()) - before;
    assert_eq!(answer.exists(), messages);
    Figures { time: answer.time.as_secs_f64() * 1e6, cpu: cpu / 1e3 }
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
