//! `isplcln` as a built program: which files go, which stay, and where they are then.
#![allow(clippy::unwrap_used, reason = "panics report")]

mod support;

use std::process::Command;
use std::time::{Duration, SystemTime};

use chrono::{Datelike as _, Days, Local, NaiveDate};
use support::{Run, Tree, finish, program};

const PROGRAM: &str = env!("CARGO_BIN_EXE_isplcln");
const REGISTRY: &str = "[Global]\nHostName=a.example\nTopDir=C:\\IMail\nLogDir=C:\\IMail\\OldLogs\n[Domains\\a.example]\nAddress=$virtual001\n";
const QUEUED: &[u8] = b"QC:\\IMail\\spool\\D00000001000a0001.SMD\r\nHa.example\r\nS<a@b>\r\nR<c@d>\r\n";

fn today() -> NaiveDate {
    Local::now().date_naive()
}

fn before(days: u64) -> NaiveDate {
    today().checked_sub_days(Days::new(days)).unwrap()
}

fn sys(day: NaiveDate) -> String {
    format!("sys{}.txt", day.format("%Y%m%d"))
}

fn short(day: NaiveDate) -> String {
    format!("sys{}.txt", day.format("%m%d"))
}

/// Writes a file that was last changed so many days ago.
fn aged(tree: &Tree, name: &str, bytes: &[u8], days: u64) {
    let file = std::fs::File::options().append(true).open(tree.file(name, bytes)).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(days * 24 * 3600 + 60)).unwrap();
}

/// Logs and spool files of which some are old.
fn tree() -> Tree {
    let tree = Tree::with(REGISTRY);
    for days in [0, 1, 7, 8, 400] {
        tree.file(&format!("logs/{}", sys(before(days))), b"line\r\n");
    }
    tree.file(&format!("spool/{}", short(before(3))), b"line\r\n");
    tree.file(&format!("spool/{}", short(before(20))), b"line\r\n");
    tree.file(&format!("spool/{}", short(today())), b"line\r\n");
    tree.file(&format!("OldLogs/{}", sys(before(9))), b"line\r\n");
    aged(&tree, "spool/D00000001000a0001.SMD", b"queued", 50);
    aged(&tree, "spool/Q00000001000a0001.SMD", QUEUED, 50);
    aged(&tree, "spool/D00000002000a0001.SMD", b"orphan", 50);
    aged(&tree, "spool/D00000003000a0001.SMD", b"orphan", 50);
    aged(&tree, "spool/T00000003000a0001.SMD", b"orphan", 50);
    aged(&tree, "spool/D00000004000a0001.SMD", b"orphan", 2);
    aged(&tree, "spool/D00000005000a0001.SMD", b"held", 50);
    aged(&tree, "spool/HQ00000005000a0001.SMD", QUEUED, 50);
    aged(&tree, "spool/readme.txt", b"by hand", 500);
    aged(&tree, "logs/readme.txt", b"by hand", 500);
    tree
}

fn run(tree: &Tree, args: &[&str]) -> Run {
    tree.run(PROGRAM, args)
}

/// All files that a run takes with seven days.
fn taken() -> Vec<String> {
    let spool = |name: &str| format!("spool/{name}");
    let mut all = vec![
        format!("logs/{}", sys(before(8))),
        format!("logs/{}", sys(before(400))),
        format!("OldLogs/{}", sys(before(9))),
        spool(&short(before(20))),
        spool("D00000002000a0001.SMD"),
        spool("T00000003000a0001.SMD"),
        spool("D00000003000a0001.SMD"),
    ];
    all.sort();
    all
}

fn all(tree: &Tree) -> Vec<String> {
    let dirs = ["logs", "OldLogs", "spool"];
    let mut all: Vec<String> = dirs
        .iter()
        .flat_map(|dir| tree.names(dir).into_iter().map(move |name| format!("{dir}/{name}")))
        .collect();
    all.sort();
    all
}

fn kept(tree: &Tree, gone: &[String]) -> Vec<String> {
    all(tree).into_iter().filter(|name| !gone.contains(name)).collect()
}

#[test]
fn every_option() {
    let is_log = |name: &String| name.contains("/sys");
    for (args, picks) in [
        (&[][..], &(|_: &String| true) as &dyn Fn(&String) -> bool),
        (&["-n", "7"], &|_| true),
        (&["-l"], &|name| is_log(name)),
        (&["-o"], &|name| !is_log(name)),
        (&["-n", "100"], &|name| name.contains(&sys(before(400)))),
        (&["-n", "1000"], &|_| false),
        (&["-t"], &|_| false),
        (&["--dry-run"], &|_| false),
    ] {
        let tree = tree();
        let gone: Vec<String> = taken().into_iter().filter(|name| picks(name)).collect();
        let expected = kept(&tree, &gone);
        let run = run(&tree, args).expect(0);
        assert_eq!(all(&tree), expected, "{args:?}\n{}", run.out);
        assert_eq!(run.err, "");
    }
    let tree = tree();
    let out = run(&tree, &["-t"]).expect(0).out;
    assert!(taken().iter().all(|name| out.contains(name)) && out.contains("would delete"), "{out}");
}

#[test]
fn todays_log_stays_whatever_is_asked() {
    let tree = tree();
    run(&tree, &["-n", "0"]).expect(0);
    assert_eq!(tree.names("logs"), ["readme.txt".to_owned(), sys(today())]);
    let left = tree.names("spool");
    assert!(left.contains(&short(today())) && left.contains(&"Q00000001000a0001.SMD".to_owned()));
    assert!(
        left.contains(&"D00000001000a0001.SMD".to_owned())
            && left.contains(&"D00000005000a0001.SMD".to_owned())
    );
    tree.file("spool/D00000009000a0001.SMD", b"arriving");
    run(&tree, &["-n", "0"]).expect(0);
    assert!(tree.path("spool/D00000009000a0001.SMD").exists(), "it may still be arriving");
}

#[test]
fn names_without_a_year_are_of_the_newest_that_fits() {
    let tree = Tree::with(REGISTRY);
    let tomorrow = today().checked_add_days(Days::new(1)).unwrap();
    let leap = tomorrow.month() == 2 && tomorrow.day() == 29;
    tree.file(&format!("logs/{}", short(tomorrow)), b"last year's");
    run(&tree, &["-n", "360"]).expect(0);
    assert!(leap || tree.names("logs").is_empty());
}

#[test]
fn compressing_and_moving_keep_the_bytes() {
    let tree = tree();
    let log = format!("logs/{}", sys(before(8)));
    run(&tree, &["-z"]).expect(0);
    let output = Command::new("gzip").arg("-dc").arg(tree.path(&format!("{log}.gz"))).output().unwrap();
    assert_eq!(output.stdout, b"line\r\n");
    assert!(!tree.path(&log).exists() && tree.path("spool/D00000002000a0001.SMD.gz").exists());
    let before_again = all(&tree);
    assert!(run(&tree, &["-z"]).expect(0).out.contains("nothing to do"));
    assert_eq!(all(&tree), before_again);
    run(&tree, &["-l"]).expect(0);
    assert!(!tree.path(&format!("{log}.gz")).exists());

    let tree = self::tree();
    let expected = kept(&tree, &taken());
    let into = tree.path("attic/logs");
    run(&tree, &["-m", into.to_str().unwrap()]).expect(0);
    assert_eq!(all(&tree), expected);
    assert_eq!(tree.names("attic/logs").len(), taken().len());
    tree.file(&log, b"another\r\n");
    run(&tree, &["-z", "-m", into.to_str().unwrap()]).expect(0);
    tree.file(&log, b"a third\r\n");
    run(&tree, &["-m", into.to_str().unwrap()]).expect(0);
    let name = sys(before(8));
    assert_eq!(tree.read(&format!("attic/logs/{name}")), b"line\r\n");
    assert_eq!(tree.read(&format!("attic/logs/{name}.1")), b"a third\r\n");
    assert!(tree.path(&format!("attic/logs/{name}.gz")).exists());
}

#[test]
fn another_spool_needs_no_root() {
    let tree = tree();
    let spool = tree.path("spool");
    let run = finish(program(PROGRAM).args(["-p", spool.to_str().unwrap()])).expect(0);
    assert!(run.out.contains("4 files"), "{}", run.out);
    assert_eq!(tree.names("logs").len(), 6);
}

#[test]
fn refusals() {
    let tree = tree();
    let before = all(&tree);
    for (args, code, text) in [
        (&["-n", "many"][..], 2, "\"many\" is no number"),
        (&["-l", "-o"], 2, "only one of -l, -o"),
        (&["file"], 2, "isplcln --help"),
        (&["-p", "/no/such/dir"], 2, "/no/such/dir"),
        (&["-m", "/proc/none/x"], 1, "/proc/none/x"),
    ] {
        run(&tree, args).refused(code, text);
        assert_eq!(all(&tree), before);
    }
    finish(program(PROGRAM).current_dir("/")).refused(2, "IMAIL_ROOT");
    assert!(finish(program(PROGRAM).arg("--help")).expect(0).out.contains("Usage: isplcln"));
}
