//! Every option of every companion program and of every command of `imaild`, on a tree that a running server serves: each does what it says,
//! and a client that is logged in all the while notices nothing. That the tables are complete is read off the programs' own `--help`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use regex::Regex;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use support::imap::exists;
use support::pop3::Pop3;
use support::sample::{SUZUKI, VIRTUAL};
use support::server::{Ports, SPARE, Server};
use support::smtp::mail;
use support::tree::Tree;
use support::wire::Wire;
use support::{Run, START_LIMIT, command, finish, fixture, program, wait_for};

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
const IMAILD: &str = "imaild";

/// The commands of `imaild`, with the same for each; `{id}` is a message that waits. [`SERVE`] has the options of the server itself.
const COMMANDS: [(&[&str], &[Case]); 19] = [
    (&["demo"], &[]),
    (&["serve"], &[]),
    (&["init"], &[(&["--root", "{new}", "--domain", "new.example"], "", 0, "new.example")]),
    (
        &["import"],
        &[
            (
                &[
                    "--root",
                    "{root}",
                    "--dry-run",
                    "--force",
                    "--json",
                    "--report",
                    "{import.json}",
                    "--map-ip",
                    "192.0.2.10=127.0.0.1",
                    "--map-dir",
                    "D:\\Elsewhere=Lists",
                    "{software.reg}",
                ],
                "",
                0,
                "\"written\": false",
            ),
            (&["--root", "{root}", "{software.reg}"], "", 1, "--force"),
        ],
    ),
    (&["export"], &[(&["--root", "{root}", "--out", "{back.reg}"], "", 0, "back.reg")]),
    (
        &["check"],
        &[
            (&["--root", "{root}", "--report", "{check.txt}"], "", 1, "findings"),
            (&["--root", "{root}", "--json"], "", 1, "\"findings\""),
            (&["--root", "{root}", "--user", "ann@example.org"], "", 0, "Ann Example"),
            (&["--root", "{root}", "--list", "news@mail.example.jp"], "", 0, "news"),
            (
                &[
                    "--root",
                    "{root}",
                    "--message",
                    "{whole.eml}",
                    "--rcpt",
                    "suzuki@mail.example.jp",
                    "--from",
                    "mike@mail.example.jp",
                ],
                "",
                0,
                "into the mailbox",
            ),
        ],
    ),
    (
        &["status"],
        &[(&["--root", "{root}"], "", 0, "pop3"), (&["--root", "{root}", "--json"], "", 0, "\"servers\"")],
    ),
    (&["queue", "list"], &[(&["--root", "{root}"], "", 0, "x@away.example")]),
    (&["queue", "show"], &[(&["--root", "{root}", "{id}"], "", 0, "opt waits")]),
    (&["queue", "hold"], &[(&["--root", "{root}", "{id}"], "", 0, "")]),
    (&["queue", "release"], &[(&["--root", "{root}", "{id}"], "", 0, "")]),
    (&["queue", "retry"], &[(&["--root", "{root}", "{id}"], "", 0, "")]),
    (&["queue", "delete"], &[(&["--root", "{root}", "{id}"], "", 0, "")]),
    (&["service", "list"], &[(&["--root", "{root}"], "", 0, "smtp")]),
    (&["service", "stop"], &[(&["--root", "{root}", "--pid", "{pid}", "pop3"], "", 0, "pop3 was stopped")]),
    (&["service", "start"], &[(&["--root", "{root}", "--pid", "{pid}", "pop3"], "", 0, "pop3 was started")]),
    (
        &["service", "restart"],
        &[(&["--root", "{root}", "--pid", "{pid}", "pop3"], "", 0, "pop3 was restarted")],
    ),
    (
        &["support"],
        &[(
            &[
                "--root",
                "{root}",
                "--date",
                "20220825",
                "--out",
                "{bundle.tar.gz}",
                "--mailbox",
                "ann@example.org/INBOX",
                "--message",
                "tanaka/INBOX/1",
            ],
            "",
            0,
            "bundle.tar.gz",
        )],
    ),
    (&["man"], &[(&["--out", "{man}"], "", 0, "")]),
];

/// What the server of [`COMMANDS`] is told, beside the data directory, `--bind` and `--port-offset`; `--metrics` comes with a port. Nobody
/// answers there.
const SERVE: [&str; 6] =
    ["--services", "smtp,queue,pop3,imap", "--route", "away.example=127.0.0.1:9", "--dns", "127.0.0.1:9"];

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
        _ if [WITHOUT_ROOT, IMAILD].contains(&name) => {}
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

/// The commands that a help lists.
fn commands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines.take_while(|line| !line.is_empty()).filter_map(|line| {
        line.strip_prefix("  ").filter(|line| !line.starts_with(' '))?.split_whitespace().next()
    });
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// The long options at the begin of a help's lines; clap writes it.
fn long_options(help: &str) -> BTreeSet<String> {
    let option = Regex::new(r"(?m)^ +(?:-\w, )?(--[a-z][a-z-]*)").unwrap();
    option.captures_iter(help).map(|found| found[1].to_owned()).collect()
}

#[test]
fn every_option_of_every_command_beside_a_running_server() {
    let tree = Tree::quiet();
    fs::create_dir(tree.path("scratch")).unwrap();
    fs::write(tree.path("scratch/whole.eml"), "Subject: opt whole\n\nA text.\n").unwrap();
    fs::copy(fixture("registry/software.reg"), tree.path("scratch/software.reg")).unwrap();
    let ports = Ports::reserve();
    let metrics = ports.address(SPARE[0]).port().to_string();
    let told = [&SERVE[..], &["--metrics", &metrics]].concat();
    let server = Server::start_as(&tree, ports, command(IMAILD), &told);
    assert!(Wire::open(([127, 0, 0, 1], metrics.parse().unwrap()).into()).is_ok());
    let mut imap = server.imap("suzuki", SUZUKI);
    server.smtp().deliver("suzuki@mail.example.jp", &["x@away.example"], &mail("opt waits"));
    let id = wait_for("a message that waits", START_LIMIT, || {
        let list = run(&tree, IMAILD, &["queue", "list", "--root", "{root}"], "").out;
        let line = list.lines().find(|line| line.contains("x@away.example"))?;
        line.split_whitespace().next().map(str::to_owned)
    });
    let pid = server.pid().to_string();
    // Every command is in the table.
    let help = |words: &[&str]| run(&tree, IMAILD, &[words, &["--help"]].concat(), "").expect_code(0).out;
    let mut all: BTreeSet<String> = BTreeSet::from(["man".to_owned()]);
    for name in commands(&help(&[])) {
        let below = commands(&help(&[&name]));
        match below.is_empty() {
            true => drop(all.insert(name)),
            false => all.extend(below.iter().map(|below| format!("{name} {below}"))),
        }
    }
    assert_eq!(all, COMMANDS.iter().map(|(words, _)| words.join(" ")).collect());
    for (words, cases) in COMMANDS {
        let mut tried: BTreeSet<&str> = cases.iter().flat_map(|(args, ..)| args.iter().copied()).collect();
        match words {
            ["serve"] => tried.extend(told.iter().copied().chain(["--root", "--bind", "--port-offset"])),
            ["demo"] => tried.extend(["--port-offset"]),
            _ => {}
        }
        let options = long_options(&help(words)).into_iter();
        let untried: Vec<String> =
            options.filter(|option| option != "--help" && !tried.contains(option.as_str())).collect();
        assert!(untried.is_empty(), "imaild {words:?}: not in the table: {untried:?}");
        for (args, input, code, part) in cases {
            let args = args.iter().map(|arg| match *arg {
                "{id}" => id.as_str(),
                "{pid}" => pid.as_str(),
                other => other,
            });
            let args: Vec<&str> = words.iter().copied().chain(args).collect();
            let run = run(&tree, IMAILD, &args, input);
            assert_eq!(run.code, *code, "{args:?}\n{}", run.text());
            assert!(run.text().contains(part), "{args:?}: {part:?} is missing\n{}", run.text());
            imap.ok("NOOP");
        }
    }
    assert!(tree.spool_is_empty(), "what waited was deleted");
    for file in ["import.json", "back.reg", "check.txt", "bundle.tar.gz", "man/imaild.8", "new/registry.ini"]
    {
        assert!(tree.path(&format!("scratch/{file}")).exists(), "{file}");
    }
    server.pop3("mike", "rocks").quit();
    assert!(server.stop().0.success());
}

/// A process that ends with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_demo_serves_and_leaves_nothing() {
    let (ports, scratch, said) =
        (Ports::reserve(), tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
    let mut demo = command(IMAILD);
    demo.args(["demo", "--port-offset", &ports.offset.to_string()]).env("TMPDIR", scratch.path());
    let mut demo = Ends(demo.stdout(said.reopen().unwrap()).spawn().unwrap());
    wait_for("a greeting", START_LIMIT, || Wire::open(ports.address(110)).ok()?.line_bytes());
    Pop3::login(ports.address(110), "suzuki", SUZUKI).unwrap().quit();
    assert!(fs::read_dir(scratch.path()).unwrap().next().is_some());
    finish(Command::new("kill").args(["-INT", &demo.0.id().to_string()])).expect_code(0);
    assert!(demo.0.wait().unwrap().success());
    let said = fs::read_to_string(said.path()).unwrap();
    assert!(said.contains(&format!("SMTP {}", ports.address(25).port())), "{said}");
    assert!(fs::read_dir(scratch.path()).unwrap().next().is_none(), "the copy is still there");
}
