//! The README's chapter on the move, followed word for word: from what a newcomer brings from the Windows server to a running service, and
//! back. The commands are taken from the README's own lines; only directories, addresses and ports are replaced.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use support::sample::{ACCOUNTS, PRIMARY};
use support::server::{Ports, Server};
use support::tree::Tree;
use support::{Run, finish, fixtures, program};

/// The directory that the README uses.
const ROOT: &str = "/srv/imail";
/// The addresses that stand there for the reader's own, and those of the sample.
const ADDRESSES: (&str, &str) = ("OLD-ADDRESS=NEW-ADDRESS", "192.0.2.10=127.0.0.1");

/// The commands of a chapter: its indented lines.
fn commands(chapter: &str) -> Vec<String> {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let head = format!("## {chapter}\n");
    let (_, text) = readme.split_once(&head).unwrap_or_else(|| panic!("the README has no chapter {chapter}"));
    let text = text.split("\n## ").next().unwrap();
    let commands = text.lines().filter_map(|line| line.strip_prefix("    "));
    commands.map(str::to_owned).collect()
}

/// What stands on the newcomer's disk: a copy of the directory, and beside it the files that `reg export` wrote.
struct Desk {
    tree: Tree,
    dir: tempfile::TempDir,
}

impl Desk {
    fn new() -> Desk {
        let desk = Desk { tree: Tree::copied(), dir: tempfile::tempdir().unwrap() };
        fs::copy(fixtures().join("registry/software.reg"), desk.dir.path().join("software.reg")).unwrap();
        desk
    }

    /// What a command on Windows leaves behind. Every other command there is one that this test has to learn.
    fn on_windows(&self, command: &str) {
        if command == r"reg export HKLM\SOFTWARE\Wow6432Node\Ipswitch software.reg" {
            return;
        }
        let services = command.strip_prefix("for %s in (").and_then(|rest| {
            rest.strip_suffix(r") do reg export HKLM\SYSTEM\CurrentControlSet\Services\%s %s.reg")
        });
        for service in services.unwrap_or_else(|| panic!("not known: {command}")).split(' ') {
            fs::write(self.dir.path().join(format!("{service}.reg")), service_key(service)).unwrap();
        }
    }

    /// Runs a command of the chapter in the newcomer's directory.
    fn run(&self, command: &str) -> Run {
        let bin = program("imaild").parent().unwrap().to_owned();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let command = command.replace(ROOT, self.tree.text()).replace(ADDRESSES.0, ADDRESSES.1);
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]).current_dir(self.dir.path()).env("PATH", path).env_remove("IMAIL_ROOT");
        finish(shell.stdin(Stdio::null()))
    }
}

/// `reg export` of one service key, out of the sample's export of all.
fn service_key(service: &str) -> Vec<u8> {
    let bytes = fs::read(fixtures().join("registry/system.reg")).unwrap();
    let words: Vec<u16> = bytes.chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    let text = String::from_utf16(&words).unwrap();
    let (head, keys) = text.split_at(text.find("\r\n\r\n").unwrap() + 4);
    let key = format!("\\Services\\{service}");
    let of_it = |key_text: &&str| {
        let name = key_text.split(']').next().unwrap();
        name.ends_with(&key) || name.contains(&format!("{key}\\"))
    };
    let keys: Vec<&str> = keys.split("\r\n\r\n").filter(of_it).collect();
    assert!(!keys.is_empty(), "the sample has no service {service}");
    let text = format!("{head}{}\r\n\r\n", keys.join("\r\n\r\n"));
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// The program that a command runs, and what it is told first.
fn words(command: &str) -> (&str, &str) {
    let mut words = command.split(' ');
    (words.next().unwrap(), words.next().unwrap_or(""))
}

#[test]
fn the_move_word_for_word() {
    let desk = Desk::new();
    let mut served = 0;
    for command in commands("Move from IMail") {
        match words(&command) {
            ("reg" | "for", _) => desk.on_windows(&command),
            // The programs under test are built already; what would be installed is there to be installed.
            ("cargo", "install") => {
                for path in command.split("--path ").skip(1).map(|rest| rest.split(' ').next().unwrap()) {
                    assert!(
                        Path::new(env!("CARGO_MANIFEST_DIR")).join(path).join("Cargo.toml").exists(),
                        "{command}"
                    );
                }
            }
            ("imaild", "import") => {
                let report = desk.run(&command).expect_code(0).out;
                for part in ["sato", "fax@mail.example.jp is off", "list news@mail.example.jp", "outlook.mbx"]
                {
                    assert!(report.contains(part), "{part:?} is missing:\n{report}");
                }
                assert!(!report.contains("192.0.2.10"), "the address is mapped:\n{report}");
            }
            ("regcheck", _) => assert!(desk.run(&command).expect_code(0).out.contains(PRIMARY)),
            // The sample has faults, and the reader is told so.
            ("imaild", "check") => assert!(desk.run(&command).expect_code(1).out.contains("findings")),
            ("imaild", "serve") => {
                assert_eq!(command, format!("imaild serve --root {ROOT}"));
                let server = Server::start_with(&desk.tree, Ports::reserve(), &[]);
                for (user, password, count) in ACCOUNTS {
                    assert!(server.pop3(user, password).count() >= count, "{user}");
                }
                server.stop();
                served += 1;
            }
            _ => panic!("the test does not know what to expect of: {command}"),
        }
    }
    assert_eq!(served, 1, "the chapter ends in a running service");

    let exports: Vec<String> = commands("Go back");
    for command in &exports {
        match words(command) {
            ("imaild", "export") => {
                let told = desk.run(command).expect_code(0).out;
                assert!(told.contains("Wrote ") && told.contains("-delete"), "{told}");
            }
            // On Windows, with the file that the command before has made.
            ("reg", "import") => {
                let file = desk.dir.path().join(command.rsplit(' ').next().unwrap());
                assert_eq!(fs::read(file).unwrap()[..2], [0xFF, 0xFE], "{command}");
            }
            _ => panic!("the test does not know what to expect of: {command}"),
        }
    }
    assert_eq!(exports.len(), 2);
}
