//! `imaild check` on a large tree with planted faults, beside `cat` of the same mailboxes: time, MB/s, peak memory, faults named. Once right
//! after they were read, so that as many are in the page cache as it holds, once with nothing in it, and with indexes, as a server leaves them.
//!
//! The mailboxes are sparse: every message has a header and some text, and a hole up to its end, so that 20 GB take about one.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, reason = "a benchmark reports by panicking")]

mod load;
mod measure;
#[path = "../support/mod.rs"]
mod support;

use measure::count;
use serde_json::Value;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use support::planted;
use support::postfix::DOMAIN;
use support::tree::Tree;
use support::{program, run};

/// Users, and how much mail they have together.
const USERS: usize = 10_000;
const GIGABYTES: usize = 20;
/// Messages of a mailbox.
const MESSAGES: usize = 8;
/// At most so much memory, in MB.
const MEMORY_MAX: f64 = 200.0;
/// At most so many times as long as `cat`.
const RATIO_MAX: f64 = 1.5;
/// The middle of so many rounds counts.
const ROUNDS: usize = 3;

fn main() {
    let (users, gigabytes) = (count("CHECK_BENCH_USERS", USERS), count("CHECK_BENCH_GB", GIGABYTES));
    let tree = Tree::empty();
    run("imaild", &["init", "--root", tree.text(), "--domain", DOMAIN]).expect_code(0);
    let begun = Instant::now();
    let bytes = fill(&tree, users, (gigabytes as u64) << 30);
    let faults = planted::plant(&tree, DOMAIN);
    let megabytes = bytes as f64 / 1e6;
    load::print_head(&format!("{users} users, {:.1} GB, {} planted faults", megabytes / 1e3, faults.len()));
    println!(
        "(made in {:.0} s; memory for the page cache: {:.1} GB)",
        begun.elapsed().as_secs_f64(),
        available_gb()
    );

    // In turn, so that whatever else runs on the machine slows both.
    let mut pairs: Vec<(f64, Seen)> = (0..ROUNDS).map(|_| (cat(&tree), check(&tree))).collect();
    pairs.sort_by(|a, b| (a.1.seconds / a.0).total_cmp(&(b.1.seconds / b.0)));
    let (read, seen) = pairs.swap_remove(ROUNDS / 2);
    tell("without indexes, just read", megabytes, read, &seen);
    name_all(&seen, &faults);
    if cold() {
        let read = cat(&tree);
        cold();
        tell("without indexes, page cache empty", megabytes, read, &check(&tree));
    } else {
        println!("(only root can empty the page cache: no figures without it)");
    }
    index(&tree);
    let seen = check(&tree);
    tell("with indexes", megabytes, read, &seen);
    name_all(&seen, &faults);
}

/// What was seen of a run.
struct Seen {
    seconds: f64,
    peak_mb: f64,
    report: Value,
}

fn tell(what: &str, megabytes: f64, read: f64, seen: &Seen) {
    load::print_figure(&format!("{what}: check"), seen.seconds, "seconds", None);
    load::print_figure(&format!("{what}: check"), megabytes / seen.seconds, "MB/s", None);
    load::print_figure(&format!("{what}: cat"), megabytes / read, "MB/s", None);
    load::print_figure(
        &format!("{what}: check to cat"),
        seen.seconds / read,
        "times as long",
        Some(RATIO_MAX),
    );
    load::print_figure(&format!("{what}: peak memory"), seen.peak_mb, "MB", Some(MEMORY_MAX));
}

/// Fails unless every planted fault is named.
fn name_all(seen: &Seen, faults: &[planted::Fault]) {
    let findings = seen.report["findings"].as_array().unwrap();
    let named = |(area, part): &&planted::Fault| {
        findings.iter().any(|finding| {
            finding["area"] == *area && finding["text"].as_str().unwrap().contains(part.as_str())
        })
    };
    let missed: Vec<&planted::Fault> = faults.iter().filter(|fault| !named(fault)).collect();
    load::print_figure("faults not named", missed.len() as f64, "", Some(0.0));
    assert!(missed.is_empty(), "{missed:?}");
}

/// Makes users with mailboxes that together have about so many bytes; says how many it became.
fn fill(tree: &Tree, users: usize, bytes: u64) -> u64 {
    let text = tree.registry();
    let end = text.rfind("; end of registry.ini").unwrap();
    let section = |number: usize| {
        format!(
            "[Domains\\{DOMAIN}\\Users\\user{number}]\r\nMailAddr=user{number}@{DOMAIN}\r\nFullName=User {number}\r\nPassword=E5D6D8E4A3\r\nFlags=dword:00000080\r\n\r\n"
        )
    };
    let sections: String = (0..users).map(section).collect();
    tree.save_registry(&[&text[..end], &sections, &text[end..]].concat());
    // One user in a hundred has ten times as much as the others.
    let share = bytes / (users + users / 100 * 9) as u64;
    let mut all = 0;
    for number in 0..users {
        let dir = tree.path(&format!("users/user{number}"));
        fs::create_dir_all(&dir).unwrap();
        let size = if number % 100 == 7 { share * 10 } else { share };
        all += mailbox(&dir.join("main.mbx"), size / 10 * 9, number)
            + mailbox(&dir.join("Sent.mbx"), size / 10, number);
    }
    all
}

fn mailbox(path: &Path, size: u64, seed: usize) -> u64 {
    let file = File::create(path).unwrap();
    let each = (size / MESSAGES as u64).max(2048);
    for number in 0..MESSAGES {
        let begin = number as u64 * each;
        let head = format!(
            "From <sender{seed}@example.net> Mon Aug  1 00:00:00 2022\r\nReceived: from mx.example.net by {DOMAIN}; Mon, 1 Aug 2022 00:00:00 +0900\r\n\
             From: <sender{seed}@example.net>\r\nSubject: message {number}\r\nX-UIDL: {}\r\nStatus: U\r\n\r\nSome text.\r\n",
            400_000_000 + number
        );
        file.write_all_at(head.as_bytes(), begin).unwrap();
        file.write_all_at(b"\r\n\r\n", begin + each - 4).unwrap();
    }
    each * MESSAGES as u64
}

fn mailboxes(tree: &Tree) -> Vec<PathBuf> {
    let users = fs::read_dir(tree.path("users")).unwrap();
    let in_user =
        |user: PathBuf| fs::read_dir(user).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = users.flat_map(|user| in_user(user.unwrap().path()));
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "mbx") && path.is_file())
        .collect()
}

/// Reads all mailboxes as `cat` does; answers with the seconds.
fn cat(tree: &Tree) -> f64 {
    let names = mailboxes(tree);
    let begun = Instant::now();
    let mut xargs = Command::new("xargs");
    xargs.args(["-0", "sh", "-c", "cat \"$@\" >/dev/null", "sh"]).stdin(Stdio::piped());
    let mut child = xargs.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    for name in names {
        input.write_all(name.to_str().unwrap().as_bytes()).unwrap();
        input.write_all(b"\0").unwrap();
    }
    drop(input);
    assert!(child.wait().unwrap().success());
    begun.elapsed().as_secs_f64()
}

fn check(tree: &Tree) -> Seen {
    planted::go_on_writing(tree);
    let begun = Instant::now();
    let mut check = Command::new(program("imaild"));
    let out = tree.path("report.json");
    check.args(["check", "--root", tree.text(), "--report", out.to_str().unwrap()]).stdout(Stdio::null());
    // The peak that the kernel counts for children that have ended is the largest of all; `cat` is small.
    assert_eq!(check.status().unwrap().code(), Some(1));
    let seconds = begun.elapsed().as_secs_f64();
    let report = serde_json::from_slice(&fs::read(&out).unwrap()).unwrap();
    fs::remove_file(&out).unwrap();
    let peak_mb = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN)
        .unwrap()
        .max_rss() as f64
        / 1024.0;
    Seen { seconds, peak_mb, report }
}

/// What the system could use for the page cache now.
fn available_gb() -> f64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0 / 1e9
}

/// Empties the page cache; only root can.
fn cold() -> bool {
    let _ = Command::new("sync").status();
    fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

/// Makes the indexes that a server would make, but for users with planted faults.
fn index(tree: &Tree) {
    let dirs = fs::read_dir(tree.path("users")).unwrap().map(|entry| entry.unwrap().path());
    let whole = dirs.filter(|dir| dir.file_name().unwrap().to_str().unwrap().starts_with("user"));
    let rebuilt =
        Command::new(program("mbxcheck")).args(whole).arg("--rebuild").stdout(Stdio::null()).status();
    assert_eq!(rebuilt.unwrap().code(), Some(0));
}
