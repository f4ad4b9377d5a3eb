//! IMAP on a large mailbox: opening it without an index, with one in a new process, reading, changing, removing; and a thousand
//! clients that wait. `IMAP_BENCH_MESSAGES` says how many messages (100,000).
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, reason = "a benchmark reports by panicking")]

mod measure;
#[path = "../support/mod.rs"]
mod support;

use measure::{RARE, memory_mb, tell, tell_time, timed};
use std::time::Instant;
use support::imap::{Imap, exists};
use support::server::Server;
use support::smtp::mail;
use support::tree::Tree;

const USER: (&str, &str) = ("user789", "Passw0rd!");
/// Messages whose texts are fetched by one command.
const AT_ONCE: usize = 10_000;
/// Clients that wait.
const WAITING: usize = 1000;

fn main() {
    let messages = measure::count("IMAP_BENCH_MESSAGES", 100_000);
    let tree = Tree::quiet();
    let file = tree.path(&format!("users/{}/main.mbx", USER.0));
    measure::write_mailbox(&file, messages);
    println!("IMAP, {messages} messages, {} MB", std::fs::metadata(&file).unwrap().len() >> 20);

    let server = Server::start(&tree);
    let mut imap = server.imap(USER.0, USER.1);
    let (answer, first) = timed(|| imap.ok("SELECT INBOX"));
    assert_eq!(exists(&answer), messages);
    tell_time("SELECT without an index", first);
    let (_, ports) = server.stop();

    let server = Server::start_on(&tree, ports);
    let mut imap = server.imap(USER.0, USER.1);
    let (answer, again) = timed(|| imap.ok("SELECT INBOX"));
    assert_eq!(exists(&answer), messages);
    tell_time("SELECT with an index, in a new process", again);
    for command in [
        "FETCH 1:* (FLAGS UID)".to_owned(),
        "FETCH 1:* (RFC822.SIZE INTERNALDATE)".to_owned(),
        "FETCH 1:* (ENVELOPE)".to_owned(),
        "FETCH 1:* (ENVELOPE BODYSTRUCTURE)".to_owned(),
        format!("SEARCH SUBJECT {RARE}"),
        format!("SEARCH TEXT {RARE}"),
        "STORE 1:* +FLAGS.SILENT (\\Seen)".to_owned(),
        "STORE 1:* +FLAGS (\\Flagged)".to_owned(),
        "CHECK".to_owned(),
    ] {
        let time = timed(|| imap.ok(&command)).1;
        tell_time(&command, time);
    }
    let bodies = timed(|| {
        // In parts, for they are kept in memory here.
        for first in (1..=messages).step_by(AT_ONCE) {
            imap.ok(&format!("FETCH {first}:{} (BODY.PEEK[])", messages.min(first + AT_ONCE - 1)));
        }
    });
    tell_time("FETCH 1:* (BODY.PEEK[])", bodies.1);
    for first in (1..=messages).step_by(1000) {
        let odd = (first..=messages.min(first + 999)).step_by(2).map(|n| n.to_string());
        imap.ok(&format!("STORE {} +FLAGS.SILENT (\\Deleted)", odd.collect::<Vec<_>>().join(",")));
    }
    let (answer, removed) = timed(|| imap.ok("EXPUNGE"));
    assert_eq!(answer.untagged.len(), messages.div_ceil(2));
    tell_time("EXPUNGE of every second one", removed);
    imap.logout();
    waiting(&server);
}

/// A thousand clients in IDLE: what they cost, and how soon all know of a new message.
fn waiting(server: &Server) {
    server.imap(USER.0, USER.1).ok("CREATE Waiting");
    let before = memory_mb(server.pid());
    let mut waiting: Vec<Imap> = (0..WAITING)
        .map(|_| {
            let mut imap = server.imap(USER.0, USER.1);
            imap.ok("SELECT Waiting");
            imap.begin_idle();
            imap
        })
        .collect();
    tell("memory of 1,000 waiting clients", memory_mb(server.pid()) - before, "MB");
    let mut sender = server.imap(USER.0, USER.1);
    let begun = Instant::now();
    assert!(sender.with_literal("APPEND Waiting", mail("wake up").as_bytes()).is_ok());
    waiting.iter_mut().for_each(|imap| imap.wait_for_line("* 1 EXISTS"));
    tell_time("until all of them know of a new message", begun.elapsed());
}
