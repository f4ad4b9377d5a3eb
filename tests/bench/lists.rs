//! A list and a group alias of 10,000 members, half of them here: how soon a post is accepted, how fast the copies are delivered, and whether
//! memory grows with the members.
//!
//! Memory is that of the members alone: both servers have the same users in their registry.
//!
//! Everything is measured beside something of the same run: a message to one mailbox, and as many messages to as many mailboxes without a list.
//! Copies and messages find the same: mailboxes that have to be made, with their directories, or those that are there, of which a server that was
//! just started knows nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, reason = "a benchmark reports by panicking")]

mod load;
#[path = "../support/mod.rs"]
mod support;

use load::{ELSEWHERE, Load, SMALL, Session};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};
use support::ini;
use support::postfix::DOMAIN;
use support::server::{Ports, Server};
use support::sink::Sink;
use support::tree::Tree;

/// Members of the large list; the small one has a tenth.
const MEMBERS: usize = 10_000;
/// Messages of which the middle is taken.
const POSTS: usize = 31;
/// A post may take so much longer than a message to one mailbox.
const ACCEPTED_MAX: f64 = 1.5;
/// How fast copies must be delivered beside plain mail.
const RATE_MIN: f64 = 1.0;
/// How much more memory ten times the members may take.
const MEMORY_MAX: f64 = 1.25;
/// No post is on its way for longer.
const LIMIT: Duration = Duration::from_secs(300);

/// What the address is.
#[derive(Clone, Copy)]
enum Kind {
    List,
    Group,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::List => "list",
            Kind::Group => "group",
        }
    }
}

/// A directory of so many users, and the first of them who are members of a list `all` or a group `all`, with as many elsewhere.
fn tree(kind: Kind, members: usize, users: usize) -> (Tree, Vec<String>) {
    let mut users: Vec<String> = (0..users).map(|number| format!("u{number:05}")).collect();
    let tree = load::tree_of(&users);
    users.truncate(members / 2);
    let here = users.iter().map(|user| format!("{user}@{DOMAIN}\r\n"));
    let elsewhere = (0..members / 2).map(|number| format!("r{number:05}@{ELSEWHERE}\r\n"));
    let lines: String = here.chain(elsewhere).collect();
    match kind {
        Kind::List => {
            fs::create_dir_all(tree.path("lists/all")).unwrap();
            fs::write(tree.path("lists/all/users.lst"), lines).unwrap();
            let settings = "AllowPostingBy=Anyone\nSkipDmarcFromReplacement=1\nEnableSubjectModification=1\n";
            fs::write(tree.path("lists/all/list.ini"), settings).unwrap();
        }
        Kind::Group => {
            let file = tree.path("all.list");
            fs::write(&file, lines).unwrap();
            let registry = ini::put(&tree.registry(), &ini::aliases(DOMAIN), "all", file.to_str().unwrap());
            tree.save_registry(&registry);
        }
    }
    (tree, users)
}

/// How many messages the mailboxes of these users have.
fn copies(tree: &Tree, users: &[String]) -> usize {
    load::count_all(&mut mailboxes(tree, users))
}

fn mailboxes(tree: &Tree, users: &[String]) -> Vec<load::Tail> {
    users.iter().map(|user| load::Tail::new(tree.path("users").join(user).join("main.mbx"))).collect()
}

/// Is anything left in the spool?
fn waits(tree: &Tree) -> bool {
    fs::read_dir(tree.path("spool")).unwrap().flatten().any(|entry| {
        let name = entry.file_name().to_string_lossy().to_ascii_uppercase();
        ["Q", "T", "_"].iter().any(|begin| name.starts_with(begin))
    })
}

/// Seconds from MAIL to the reply to the message.
fn accepted(session: &mut Session, number: usize, recipient: &str) -> f64 {
    let begun = Instant::now();
    session.deliver(number, recipient, &"A line of text.\r\n".repeat(SMALL / 17));
    begun.elapsed().as_secs_f64()
}

fn middle(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// What one server did.
struct Figures {
    /// Seconds to accept a post, and a message to one mailbox.
    accepted: [f64; 2],
    /// Copies a second here, of a post and of plain mail, into new mailboxes.
    new: [f64; 2],
    /// The same into mailboxes that are there.
    there: [f64; 2],
    /// The most memory, in MB.
    memory: f64,
}

/// How long a post takes to be accepted, and a message to one mailbox, in turn, by a server that delivers nothing else meanwhile.
fn accepting(kind: Kind, members: usize, users: usize, used: &mut Vec<Tree>) -> [f64; 2] {
    let (tree, users) = tree(kind, members, users);
    let server = Server::start_without_queue(&tree);
    let mut session = Session::open(server.address(25));
    let (one, all) = (format!("{}@{DOMAIN}", users[0]), format!("all@{DOMAIN}"));
    let mut times = [Vec::new(), Vec::new()];
    for number in 0..POSTS {
        for (kind, to) in [&all, &one].into_iter().enumerate() {
            times[kind].push(accepted(&mut session, number * 2 + kind, to));
        }
    }
    used.push(tree);
    times.map(middle)
}

/// Waits until each of these users has so many messages. Looks at one mailbox at a time, to take little from the server.
fn wait_for_all(tree: &Tree, users: &[String], messages: usize, begun: Instant) {
    for mut mailbox in mailboxes(tree, users) {
        while mailbox.count() < messages {
            assert!(begun.elapsed() < LIMIT, "copies do not arrive");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Messages a second of plain mail to all users.
fn plain(server: &Server, users: &[String]) -> f64 {
    let recipients: Vec<String> = users.iter().map(|user| format!("{user}@{DOMAIN}")).collect();
    let begun = Instant::now();
    Load { messages: users.len(), size: SMALL, recipients: &recipients, reconnect: false }
        .send(server.address(25));
    users.len() as f64 / begun.elapsed().as_secs_f64()
}

/// `used` takes the directories: ext4 finds places for new files far more slowly for up to five minutes after thousands were removed, and would
/// measure that. For the same reason nothing else should have removed so many just before.
fn measure(kind: Kind, members: usize, all: usize, used: &mut Vec<Tree>) -> Figures {
    let accepted = accepting(kind, members, all, used);
    let (tree, users) = tree(kind, members, all);
    let sink = Sink::start(&[]);
    let route = format!("{ELSEWHERE}={}", sink.address());
    let start = || Server::start_with(&tree, Ports::reserve(), &["--route", &route]);
    // Copies a second of a post.
    let post = |server: &Server, number: usize| {
        let begun = Instant::now();
        self::accepted(&mut Session::open(server.address(25)), number, &format!("all@{DOMAIN}"));
        wait_for_all(&tree, &users, number, begun);
        let rate = users.len() as f64 / begun.elapsed().as_secs_f64();
        while waits(&tree) {
            assert!(begun.elapsed() < LIMIT, "the spool does not get empty");
            thread::sleep(Duration::from_millis(50));
        }
        let expected = (number * members / 2, number * members / 2);
        assert_eq!((copies(&tree, &users), sink.copies()), expected, "each has it once");
        rate
    };
    let server = start();
    let post_new = post(&server, 1);
    let memory = load::memory_mb(server.pid(), "VmHWM");
    server.stop();
    let server = start();
    let post_there = post(&server, 2);
    server.stop();
    let server = start();
    let plain_there = plain(&server, &users);
    server.stop();
    used.push(tree);
    let (tree, users) = self::tree(kind, members, all);
    let plain_new = plain(&Server::start(&tree), &users);
    used.push(tree);
    Figures { accepted, new: [post_new, plain_new], there: [post_there, plain_there], memory }
}

fn main() {
    let members = load::argument().unwrap_or(MEMBERS);
    let mut used = Vec::new();
    for kind in [Kind::List, Kind::Group] {
        let small = measure(kind, members / 10, members / 2, &mut used);
        let large = measure(kind, members, members / 2, &mut used);
        let name = kind.name();
        load::print_head(&format!("A {name} of {members} members, half of them here"));
        let [post, message] = large.accepted.map(|seconds| seconds * 1000.0);
        load::print_figure("a message to one mailbox is accepted", message, "ms", None);
        load::print_figure("a post is accepted", post, "ms", None);
        load::print_figure("a post beside a message", post / message, "times", Some(ACCEPTED_MAX));
        for (mailboxes, [rate, plain]) in [("new", large.new), ("known", large.there)] {
            load::print_figure(
                &format!("plain mail to as many {mailboxes} mailboxes"),
                plain,
                "messages/s",
                None,
            );
            load::print_figure(&format!("copies of a post to {mailboxes} mailboxes"), rate, "copies/s", None);
            let beside = format!("plain mail beside copies, {mailboxes} mailboxes");
            load::print_figure(&beside, plain / rate, "times", Some(RATE_MIN));
        }
        load::print_figure(&format!("peak memory with {} members", members / 10), small.memory, "MB", None);
        load::print_figure(&format!("peak memory with {members} members"), large.memory, "MB", None);
        load::print_figure("memory beside memory", large.memory / small.memory, "times", Some(MEMORY_MAX));
    }
}
