//! `mbxcheck` as a built program, over mailboxes that a generator damaged.
#![allow(clippy::unwrap_used, reason = "panics report")]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use support::{Run, Tree, finish, program};

const PROGRAM: &str = env!("CARGO_BIN_EXE_mbxcheck");
/// Messages of a generated mailbox.
const MESSAGES: usize = 8;

fn run(args: &[&str]) -> Run {
    finish(program(PROGRAM).args(args))
}

fn message(number: usize) -> Vec<u8> {
    let lines = "A line of text that is neither short nor long.\r\n".repeat(1 + number * 7 % 40);
    format!(
        "From <user{number}@x.example> Mon Aug 01 10:{number:02}:00 2022\r\nReceived: from a by b; Mon, 1 Aug 2022 10:00:00 +0900\r\n\
         Subject: message {number}\r\nStatus: U\r\nX-UIDL: {}\r\n\r\n{lines}>From <q@x> Mon Aug 01 10:00:00 2022\r\nend of {number}\r\n\r\n",
        967_000_000 + number
    )
    .into_bytes()
}

/// A damaged mailbox, and which messages are whole in it.
struct Damaged {
    bytes: Vec<u8>,
    whole: Vec<usize>,
}

/// The numbers of a simple generator: the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// Damages a mailbox in the way of `kind`.
fn damaged(kind: &str, numbers: &mut Numbers) -> Damaged {
    let messages: Vec<Vec<u8>> = (0..MESSAGES).map(message).collect();
    let victim = 1 + numbers.below(MESSAGES - 2);
    let begin: usize = messages[..victim].iter().map(Vec::len).sum();
    let length = messages[victim].len();
    let mut bytes = messages.concat();
    let mut whole: Vec<usize> = (0..MESSAGES).filter(|number| *number != victim).collect();
    match kind {
        "torn" => {
            bytes.truncate(begin + 3 + numbers.below(length - 10));
            whole.retain(|number| *number < victim);
            if bytes.ends_with(b"\n") {
                bytes.pop();
            }
        }
        "nul" => {
            let at = begin + numbers.below(length - 20);
            let many = 2 + numbers.below(length - (at - begin) - 2);
            bytes[at..at + many].fill(0);
        }
        "nul-between" => {
            let place = begin..begin;
            bytes.splice(place, vec![0; 2 + numbers.below(100_000)]);
            whole = (0..MESSAGES).collect();
        }
        "merged" => {
            let cut = begin + 100 + numbers.below(length - 150);
            let cut = if bytes[cut - 1] == b'\n' { cut + 1 } else { cut };
            bytes.drain(cut..begin + length);
        }
        "headless" => {
            let head = messages[victim].windows(4).position(|four| four == b"\r\n\r\n").unwrap();
            let line = messages[victim].iter().position(|byte| *byte == b'\n').unwrap() + 1;
            bytes.drain(begin + line..begin + head + 2);
        }
        "truncated" => {
            bytes.drain(..begin + 5 + numbers.below(length - 10));
            whole.retain(|number| *number > victim);
        }
        "foreign" => {
            bytes = b"JMF6".to_vec();
            bytes.extend((0..5000).map(|_| numbers.below(256) as u8));
            whole.clear();
        }
        kind => panic!("{kind}"),
    }
    Damaged { bytes, whole }
}

/// All bytes but line ends, which a repair may add, counted.
fn counted(parts: &[&[u8]]) -> [usize; 256] {
    let mut count = [0; 256];
    parts.iter().flat_map(|part| part.iter()).for_each(|byte| count[usize::from(*byte)] += 1);
    (count[usize::from(b'\r')], count[usize::from(b'\n')]) = (0, 0);
    count
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn many_damaged_mailboxes_lose_nothing() {
    const EACH: usize = 9;
    let kinds = ["torn", "nul", "nul-between", "merged", "headless", "truncated", "foreign"];
    let tree = Tree::with("");
    let mut numbers = Numbers(2022);
    let mut all = Vec::new();
    for kind in kinds {
        for number in 0..EACH {
            let damaged = damaged(kind, &mut numbers);
            let name = format!("{kind}{number}.mbx");
            tree.file(&format!("in/deep/{name}"), &damaged.bytes);
            all.push((name, damaged));
        }
    }
    assert!(all.len() > 50);
    let (input, output) = (tree.path("in"), tree.path("out"));
    let (input, output) = (input.to_str().unwrap(), output.to_str().unwrap());
    let found = run(&[input]).expect(1);
    let repaired = run(&[input, "--repair", output]).expect(1);
    assert!(repaired.out.contains(&format!("{} mailboxes, {} with findings", all.len(), all.len())));
    for (name, damaged) in &all {
        assert!(found.out.contains(&format!("/{name}: ")), "{name} has no finding");
        assert_eq!(tree.read(&format!("in/deep/{name}")), damaged.bytes, "the damaged file is not changed");
        let kept = tree.read(&format!("out/deep/{name}"));
        let lost = std::fs::read(tree.path(&format!("out/deep/{}", name.replace(".mbx", ".lost"))));
        let lost = lost.unwrap_or_default();
        assert_eq!(counted(&[&kept, &lost]), counted(&[&damaged.bytes]), "{name} lost bytes");
        assert!(
            !name.starts_with("foreign") || lost == damaged.bytes,
            "{name}: what is lost whole is the file"
        );
        for number in &damaged.whole {
            assert!(contains(&kept, &message(*number)), "{name}: message {number} is not whole");
        }
    }
    // Progress is for terminals: `script` runs a program on one.
    assert_eq!((found.err.as_str(), repaired.err.as_str()), ("", ""));
    let line = format!("{PROGRAM} {input}");
    let terminal =
        Command::new("script").args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).output().unwrap();
    let shown = String::from_utf8_lossy(&terminal.stdout).into_owned();
    assert!(shown.contains(&format!("\rmailboxes: {} of {}", all.len(), all.len())), "{shown}");
    let clean = run(&[output]).expect(0);
    assert!(clean.out.contains(" mailboxes, 0 with findings"), "{}", clean.out);
    let dumped = run(&["--dump", output]).expect(0).out;
    for (name, damaged) in &all {
        let (_, lines) = dumped.split_once(&format!("/{name}: ")).unwrap();
        let lines = format!("{}\n", lines.split("\n/").next().unwrap());
        for number in &damaged.whole {
            assert!(
                lines.contains(&format!(" {} message {number}\n", 967_000_000 + number)),
                "{name} {lines}"
            );
        }
    }
}

#[test]
fn every_option() {
    let tree = Tree::with("");
    let whole: Vec<u8> = (0..3).flat_map(message).collect();
    let good = tree.file("users/u/main.mbx", &whole);
    let bad = tree.file("users/u/bad.mbx", &whole[..whole.len() - 3]);
    tree.file("users/u/notes.txt", b"\0\0\0");
    assert_eq!(run(&[&good]).expect(0).out, "1 mailboxes, 0 with findings\n");
    assert_eq!(run(&["--verify", &good]).expect(0).out, "1 mailboxes, 0 with findings\n");
    let torn = run(&[&good, &bad]).expect(1);
    assert!(torn.out.contains("bad.mbx: torn tail") && torn.out.contains("2 mailboxes, 1 with findings"));
    let dump = run(&["--dump", &good]).expect(0).out;
    assert!(dump.contains(": 3 messages\n1 0 ") && dump.contains(" 967000002 message 2\n"), "{dump}");
    assert!(!tree.path("users/u/main.rsx").exists(), "looking makes no index");

    run(&["--rebuild", &good]).expect(0);
    assert!(tree.path("users/u/main.rsx").exists() && tree.path("users/u/user.lck").exists());
    let mut index = tree.read("users/u/main.rsx");
    index.truncate(300);
    tree.file("users/u/main.rsx", &index);
    assert!(run(&[&good]).expect(1).out.contains("its index: "));
    run(&["--rebuild", &good]).expect(0);
    run(&[&good]).expect(0);

    let out = tree.path("fixed.mbx");
    let out = out.to_str().unwrap();
    run(&[&bad, "--repair", out]).expect(1);
    run(&[out]).expect(0);
    assert!(!tree.path("fixed.lost").exists());
    run(&[&bad, "--repair", out]).refused(2, "exists already");
    let copy = tree.path("copy.mbx");
    run(&[&good, "--repair", copy.to_str().unwrap()]).expect(0);
    assert_eq!(tree.read("copy.mbx"), whole);
}

#[test]
fn refusals() {
    let tree = Tree::with("");
    let file = tree.file("a.mbx", b"");
    run(&[]).refused(2, "no mailbox is named");
    run(&["/no/such.mbx"]).refused(2, "/no/such.mbx");
    run(&[&file, "--dump", "--rebuild"]).refused(2, "only one of");
    run(&[&file, "--repair"]).refused(2, "--repair needs");
    run(&[&file, "--what"]).refused(2, "mbxcheck --help");
    run(&[&file, &file, "--repair", &file]).refused(2, "is no directory");
    assert!(run(&["--help"]).expect(0).out.contains("Usage: mbxcheck"));
    assert!(run(&["--version"]).expect(0).out.contains("mbxcheck 0."));
}

#[test]
fn the_sample_mailboxes() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/imail");
    let run = run(&[samples.to_str().unwrap()]).expect(1);
    assert!(run.out.contains("outlook.mbx: foreign: an Outlook Express mailbox"), "{}", run.out);
    assert!(run.out.contains(" mailboxes, 1 with findings"), "{}", run.out);
}
