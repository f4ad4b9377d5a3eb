//! Every option of every companion program, on a tree that a running server serves: each does what it says, and a client that is logged in all
//! the while notices nothing. That the table is complete is read off the programs' own `--help`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use regex::Regex;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use support::imap::exists;
use support::sample::{SUZUKI, VIRTUAL};
use support::server::Server;
use support::smtp::mail;
use support::tree::Tree;
use support::{Run, program};

/// A run: arguments, standard input, exit code, and a part of what it says. `{x}` stands for a path in the scratch directory.
type Case = (&'static [&'static str], &'static str, i32, &'static str);

/// Exit codes: `adduser` answers 1 when it did something, as IMail's does.
const PROGRAMS: [(&str, &[Case]); 10] = [
    (
        "adduser",
        &[
            (&["-u", "opt1", "-p", "pass1234", "-n", "Option One"], "", 1, "opt1@mail.example.jp"),
            (&["-h", VIRTUAL, "-u", "opt2", "-p", "pass1234"], "", 1, "opt2@example.org"),
            (&["opt3"], "", 1, "opt3@mail.example.jp"),
            (&["-m", "opt1", "-chgpass", "-web", "-active", "-info"], "", 1, "opt1@"),
            (&["-m", "opt1", "+chgpass", "+web", "+active", "+info", "-l"], "", 1, "opt1@"),
            (&["-f", "{users.txt}"], "", 1, "opt4@mail.example.jp"),
            (&[], "opt5,pass1234,Option Five\n", 1, "opt5@mail.example.jp"),
            (&["-k", "opt5"], "", 1, "opt5@mail.example.jp"),
            (&["-k", "nobody-there"], "", 0, ""),
        ],
    ),
    (
        "addalias",
        &[
            (&["-a", "opt-a=mike"], "", 0, "opt-a"),
            (&["-h", VIRTUAL, "-c:", "opt-b:ann"], "", 0, "opt-b"),
            (&["-m", "opt-a=suzuki"], "", 0, "opt-a"),
            (&["--dry-run", "-d", "opt-a"], "", 0, "ould"),
            (&["-l"], "", 0, "opt-a=suzuki"),
            (&["-d", "opt-a"], "", 0, "opt-a"),
            (&["-f", "{aliases.txt}"], "", 0, "opt-c"),
            (&[], "-d opt-c\n", 0, "opt-c"),
            (&["-i", "Group"], "", 2, "there are none here"),
            (&["-?"], "", 0, "Usage: addalias"),
        ],
    ),
    (
        "adddomain",
        &[
            (
                &[
                    "-h",
                    "opt.example",
                    "-i",
                    "127.0.0.9",
                    "-t",
                    "C:\\IMail\\opt",
                    "-u",
                    "5",
                    "-a",
                    "also.opt.example",
                ],
                "",
                0,
                "opt.example",
            ),
            (&["--dry-run", "-h", "opt.example", "-delete"], "", 0, "opt.example"),
            (&["-h", "opt.example", "-delete"], "", 0, "opt.example"),
        ],
    ),
    ("regcheck", &[(&[], "", 1, "Domain registry check complete")]),
    (
        "regback",
        &[
            (&["{saved.ini}"], "", 0, "saved.ini"),
            (&["--list"], "", 0, ""),
            (&["--restore", "{saved.ini}", "--dry-run"], "", 0, ""),
            (&["--restore", "{saved.ini}"], "", 0, ""),
        ],
    ),
    (
        "isplcln",
        &[
            (&["-t", "-n", "1"], "", 0, "would delete"),
            (&["--dry-run", "-n", "1", "-o"], "", 0, ""),
            (&["-l", "-n", "1", "-z"], "", 0, "sys20220825.txt"),
            (&["-n", "1", "-m", "{attic}"], "", 0, "sys20220825.txt.gz"),
            (&["-p", "{attic}", "-n", "1"], "", 0, ""),
        ],
    ),
    (
        "mailall",
        &[
            (
                &["--domain", VIRTUAL, "--subject", "opt one", "--from", "root", "--file", "{text.txt}"],
                "",
                0,
                "",
            ),
            (&["--all", "--subject", "opt all", "--dry-run"], "text\n", 0, "suzuki@mail.example.jp"),
        ],
    ),
    (
        "imail1",
        &[
            (
                &[
                    "--from",
                    "mike",
                    "--to",
                    "suzuki",
                    "--cc",
                    "tanaka",
                    "--bcc",
                    "root",
                    "--subject",
                    "opt letter",
                    "--file",
                    "{text.txt}",
                ],
                "",
                0,
                "to 3 recipients",
            ),
            (&["--to", "suzuki", "--message", "{whole.eml}"], "", 0, ""),
            (&["--to", "suzuki", "--dry-run"], "typed\n", 0, "Would send"),
        ],
    ),
    (
        "immsgexp",
        &[
            (&["--days", "30", "--all-mailboxes", "--keep-flagged", "--dry-run"], "", 1, ""),
            (
                &["--days", "30", "--mailbox", "unix", "--domain", "mail.example.jp", "--user", "suzuki"],
                "",
                0,
                "",
            ),
        ],
    ),
    (
        "mbxcheck",
        &[
            (&["{root}/users/suzuki/Main.mbx"], "", 0, "0 with findings"),
            (&["--verify", "{root}/users"], "", 1, "1 with findings"),
            (&["--dump", "{root}/users/tanaka/main.mbx"], "", 0, " 900000007 Third"),
            (&["--rebuild", "{root}/users/suzuki/Main.mbx"], "", 0, "the index is new"),
            (&["--repair", "{fixed.mbx}", "{root}/users/suzuki/outlook.mbx"], "", 1, "foreign"),
        ],
    ),
];

/// Options that are tried with every program: the last in all cases but those that name no option.
const ALWAYS: [&str; 3] = ["--help", "--version", "--root"];
/// The program that takes mailboxes wherever they are, without a data directory.
const WITHOUT_ROOT: &str = "mbxcheck";

fn run(tree: &Tree, name: &str, args: &[&str], input: &str) -> Run {
    let place = |arg: &&str| -> String {
        let arg = arg.replace("{root}", tree.text());
        match arg.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(file) => tree.path(&format!("scratch/{file}")).to_str().unwrap().to_owned(),
            None => arg,
        }
    };
    let mut command = Command::new(program(name));
    command.env_remove("IMAIL_ROOT").current_dir("/");
    match args.first() {
        _ if name == WITHOUT_ROOT => {}
        // Only a program that is told nothing reads lines.
        None => drop(command.env("IMAIL_ROOT", tree.text())),
        Some(&"-?") => {}
        Some(_) => drop(command.args(["--root", tree.text()])),
    }
    command.args(args.iter().map(place));
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A program that reads nothing may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Run { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// The options that a program's help names: in the lines that show its use, and at the begin of the lines that explain.
fn options(help: &str) -> BTreeSet<String> {
    let option = Regex::new(r"(?:^|[\s\[|,])([-+]{1,2}[A-Za-z?][A-Za-z-]*)").unwrap();
    let (usage, explained) = help.split_once("\n\n").unwrap();
    let mut all: BTreeSet<String> = option.captures_iter(usage).map(|found| found[1].to_owned()).collect();
    for line in explained.lines().filter(|line| line.starts_with("  -")) {
        let words = line.split_whitespace().map(|word| word.trim_end_matches(','));
        all.extend(words.take_while(|word| word.starts_with(['-', '+'])).map(str::to_owned));
    }
    all
}

#[test]
fn every_option_beside_a_running_server() {
    let tree = Tree::quiet();
    fs::create_dir(tree.path("scratch")).unwrap();
    for (file, text) in [
        ("users.txt", "opt4,pass1234,Option Four\r\n"),
        ("aliases.txt", "opt-c=mike\r\n"),
        ("text.txt", "A text.\n"),
        ("whole.eml", "Subject: opt whole\n\nA text.\n"),
    ] {
        fs::write(tree.path("scratch").join(file), text).unwrap();
    }
    let server = Server::start(&tree);
    let mut imap = server.imap("suzuki", SUZUKI);
    let before = exists(&imap.ok("SELECT INBOX"));
    for (name, cases) in PROGRAMS {
        let help = run(&tree, name, &["--help"], "").expect_code(0).out;
        let tried: BTreeSet<&str> = cases.iter().flat_map(|(args, ..)| args.iter().copied()).collect();
        let is_tried = |option: &String| {
            ALWAYS.contains(&option.as_str())
                || tried.contains(option.as_str())
                || (option == "-cX" && tried.iter().any(|arg| arg.starts_with("-c")))
        };
        let untried: Vec<String> = options(&help).into_iter().filter(|option| !is_tried(option)).collect();
        assert!(untried.is_empty(), "{name}: not in the table: {untried:?}");
        let version = run(&tree, name, &["--version"], "");
        assert!(version.out.starts_with(&format!("{name} ")), "{}", version.text());
        for (args, input, code, part) in cases {
            let run = run(&tree, name, args, input);
            assert_eq!(run.code, *code, "{name} {args:?}\n{}", run.text());
            assert!(run.text().contains(part), "{name} {args:?}: {part:?} is missing\n{}", run.text());
            imap.ok("NOOP");
        }
    }
    // What was asked for happened, and nothing else: the mailbox has what the programs sent, and the server goes on.
    for subject in ["opt letter", "opt whole"] {
        server.wait_for_mail("suzuki", SUZUKI, subject);
    }
    server.wait_for_mail("ann@example.org", "lovely99", "opt one");
    server.smtp().deliver("a@example.net", &["suzuki@mail.example.jp"], &mail("still serving"));
    server.wait_for_mail("suzuki", SUZUKI, "still serving");
    assert_eq!(exists(&imap.ok("SELECT INBOX")), before + 3);
    assert!(server.pop3_takes("opt1", "pass1234") && !server.pop3_takes("opt5", "pass1234"));
    assert_eq!(fs::read(tree.path("scratch/fixed.lost")).unwrap(), tree.read("users/suzuki/outlook.mbx"));
    assert!(!tree.path("logs/sys20220825.txt").exists() && tree.path("scratch/attic").is_dir());
}
