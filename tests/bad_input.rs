//! Bad input: a message that says what is wrong and what to do, the documented exit code,
//! nothing changed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use std::net::{Ipv4Addr, TcpListener};
use support::sample::{PRIMARY, VIRTUAL};
use support::server::{Ports, Server};
use support::tree::{Tree, is_ours};
use support::{Run, command, finish, fixture, run};

/// Runs something on a tree and fails unless the tree is what it was before.
#[track_caller]
fn unchanged(tree: &Tree, action: impl FnOnce() -> Run) -> Run {
    let before = tree.snapshot();
    let run = action();
    let after = tree.snapshot();
    for (path, bytes) in &before {
        assert!(after.get(path) == Some(bytes), "{} has changed; output:\n{}", path.display(), run.text());
    }
    let made: Vec<_> = after.keys().filter(|path| !before.contains_key(*path) && !is_ours(path)).collect();
    assert!(made.is_empty(), "{made:?} were made; output:\n{}", run.text());
    run
}

/// `adduser` reports success as 1 and failure as 0.
#[test]
fn adduser_refuses_what_it_must() {
    let tree = Tree::quiet();
    let long = "x".repeat(31);
    let cases: &[(&[&str], &[&str])] = &[
        (&["-h", "nowhere.example", "-u", "x1", "-p", "pass1234"], &["nowhere.example", PRIMARY]),
        (&["-u", "mike", "-p", "pass1234"], &["mike", "exists", "-m"]),
        (&["-u", "MIKE", "-p", "pass1234"], &["mike", "exists"]),
        (&["-m", "ghost", "-p", "pass1234"], &["ghost"]),
        (&["-k", "ghost"], &["ghost"]),
        (&["-u", "two words", "-p", "pass1234"], &["two words"]),
        (&["-u", "../../etc", "-p", "pass1234"], &["../../etc"]),
        (&["-u", "a/b", "-p", "pass1234"], &["a/b"]),
        (&["-u", "_aliases", "-p", "pass1234"], &["_aliases"]),
        (&["-u", &long, "-p", "pass1234"], &["30"]),
        (&["-u", "x2", "-p", "ab"], &["password", "3"]),
        (&["-u", "x3", "-p", "with space"], &["password", "blank"]),
        (&["-u", "x4", "-p", "star*star"], &["password", "*"]),
        (&["-u", "x5", "-p", &long], &["password", "30"]),
        (&["-f", "/no/such/file.txt"], &["/no/such/file.txt"]),
        (&["test", "01"], &["01"]),
        (&["--no-such-option"], &["--no-such-option"]),
    ];
    for (args, words) in cases {
        let run = unchanged(&tree, || tree.tool("adduser", args));
        assert_eq!(run.code, 0, "{args:?} reports a success: {}", run.text());
        run.expect_error(words);
        let password = args.iter().skip_while(|arg| **arg != "-p").nth(1);
        assert!(
            !password.is_some_and(|text| text.len() > 3 && run.text().contains(text)),
            "a password is shown"
        );
    }
}

/// Bad lines in a file are named by number; the good ones count.
#[test]
fn adduser_goes_on_after_a_bad_line() {
    let tree = Tree::quiet();
    let run = tree.tool("adduser", &["-h", PRIMARY, "-f", &fixture("bulk/ID-errors.txt")]).expect_code(1);
    for number in ["2", "3", "4", "5", "6"] {
        assert!(run.err.contains(number), "line {number} is not named:\n{}", run.err);
    }
    run.expect_error(&["mike", "bad name", "../evil", "short01", "star01"]);
    let text = tree.registry();
    for (id, there) in [("good01", true), ("good02", true), ("short01", false), ("star01", false)] {
        assert_eq!(text.contains(&support::ini::user(PRIMARY, id)), there, "{id}");
    }
}

/// Every spelling of manual 2-2, in every encoding, gives the users it names.
#[test]
fn adduser_reads_every_kind_of_file() {
    let tree = Tree::quiet();
    let files: &[(&str, &[&str])] = &[
        ("ID-11.00.txt", &["bulk01", "bulk02"]),
        ("ID-12.1.txt", &["bulk11", "bulk12"]),
        ("ID-12.3.txt", &["bulk21", "bulk22"]),
        ("ID-names.txt", &["sasaki", "kimura"]),
        ("ID-bom.txt", &["ito", "ueda"]),
        ("ID-cp932.txt", &["hyodo"]),
        ("ID-lf.txt", &["morita", "noeol"]),
    ];
    for (file, users) in files {
        tree.tool("adduser", &["-h", VIRTUAL, "-f", &fixture(&format!("bulk/{file}"))]).expect_code(1);
        for user in *users {
            assert!(
                tree.registry().contains(&support::ini::user(VIRTUAL, user)),
                "{file}: {user} is missing"
            );
        }
    }
    for name in ["佐々木 三郎", "Kimura, Jiro", "伊藤 五郎", "兵頭 能表", "森田"] {
        assert!(tree.registry().contains(name), "full name {name} is missing");
    }
    let server = Server::start(&tree);
    for (user, password) in
        [("bulk01", "pass0001"), ("bulk11", "pass0011"), ("bulk21", "pass0021"), ("noeol", "pass0062")]
    {
        server.pop3(&format!("{user}@{VIRTUAL}"), password).quit();
    }
}

#[test]
fn adduser_obeys_options_in_a_file() {
    let tree = Tree::quiet();
    tree.tool("adduser", &["-h", PRIMARY, "-f", &fixture("bulk/ID-options.txt")]).expect_code(1);
    let text = tree.registry();
    assert!(text.contains(&support::ini::user(PRIMARY, "opt01")));
    assert!(text.contains(&support::ini::user(VIRTUAL, "opt02")));
    assert!(!text.contains(&support::ini::user(VIRTUAL, "opt03")), "added and then removed");
    let server = Server::start(&tree);
    assert!(
        !server.pop3_takes("opt02@example.org", "pass0072")
            && server.pop3_takes("opt02@example.org", "pass0074")
    );
}

/// A binary hive says how to make an export of it.
#[test]
fn import_refuses_what_is_not_an_export() {
    let tree = Tree::copied();
    let cases: &[(&str, &[&str])] = &[
        ("hive.dat", &["hive.dat", "hive", "reg export"]),
        ("no-imail.reg", &["Ipswitch\\IMail", "reg export"]),
        ("../imail/readme.unknown", &["reg export"]),
        ("missing.reg", &["missing.reg"]),
    ];
    for (file, words) in cases {
        let run = unchanged(&tree, || tree.import(&[file], &[])).expect_code(1);
        run.expect_error(words);
    }
    let run = unchanged(&tree, || tree.import(&["system.reg"], &[])).expect_code(1);
    run.expect_error(&["SOFTWARE", "reg export"]);
}

#[test]
fn import_refuses_a_directory_that_is_not_imails() {
    let tree = Tree::empty();
    unchanged(&tree, || tree.import(&["software.reg"], &[]))
        .expect_code(1)
        .expect_error(&[tree.text(), "users"]);
    let gone = tree.path("no-such-directory");
    let gone = gone.to_str().unwrap();
    let run = run("imaild", &["import", "--root", gone, &fixture("registry/software.reg")]).expect_code(1);
    run.expect_error(&[gone]);
    assert!(!std::path::Path::new(gone).exists(), "import makes no directory");
}

#[test]
fn import_keeps_an_existing_registry() {
    let tree = Tree::quiet();
    unchanged(&tree, || tree.import(&["software.reg"], &[]))
        .expect_code(1)
        .expect_error(&["registry.ini", "--force"]);
    let old = tree.read("registry.ini");
    tree.import(&["software.reg"], &["--force"]).expect_code(0);
    let kept = tree.snapshot().into_iter().any(|(path, bytes)| {
        path.to_str().unwrap().starts_with("registry.ini.")
            && !path.ends_with("registry.ini.good")
            && bytes == old
    });
    assert!(kept, "--force keeps the old file beside the new one");
}

/// Two broken lines are named with their numbers, the rest comes in.
#[test]
fn import_names_damaged_lines() {
    let tree = Tree::copied();
    let run = tree.import(&["damaged.reg"], &[]);
    let text = std::fs::read_to_string(fixture("registry/damaged.reg")).unwrap();
    for broken in ["dword:zz", "\"Mike Example"] {
        let number = 1 + text.lines().position(|line| line.ends_with(broken)).unwrap();
        assert!(run.text().contains(&number.to_string()), "line {number} is not named:\n{}", run.text());
    }
    assert!(tree.registry().contains(&support::ini::user(PRIMARY, "suzuki")));
}

/// The three ways to name the data directory.
#[test]
fn without_a_directory_the_three_ways_are_named() {
    let empty = Tree::empty();
    let lines: [(&str, &[&str], i32); 4] = [
        ("imaild", &["serve"], 1),
        ("imaild", &["check"], 2),
        ("regcheck", &[], 2),
        ("adduser", &["-u", "x"], 0),
    ];
    for (name, args, code) in lines {
        let run = finish(command(name).args(args).current_dir(empty.root())).expect_code(code);
        run.expect_error(&["--root", "IMAIL_ROOT", "registry.ini"]);
    }
}

#[test]
fn each_of_the_three_ways_works() {
    let tree = Tree::quiet();
    let faults = 1;
    finish(command("regcheck").args(["--root", tree.text()])).expect_code(faults);
    finish(command("regcheck").env("IMAIL_ROOT", tree.root())).expect_code(faults);
    finish(command("regcheck").current_dir(tree.root())).expect_code(faults);
}

#[test]
fn serve_refuses_a_directory_without_registry() {
    let tree = Tree::copied();
    let run = unchanged(&tree, || run("imaild", &["serve", "--root", tree.text(), "--port-offset", "20000"]));
    run.expect_code(1).expect_error(&["registry.ini", "imaild import"]);
}

#[test]
fn a_port_in_use_is_named() {
    let tree = Tree::quiet();
    let ports = Ports::reserve();
    let taken = ports.address(110);
    let _holder = TcpListener::bind((Ipv4Addr::LOCALHOST, taken.port())).unwrap();
    let offset = ports.offset.to_string();
    let args = ["serve", "--root", tree.text(), "--bind", "127.0.0.1", "--port-offset", &offset];
    let run = unchanged(&tree, || finish(command("imaild").args(args))).expect_code(1);
    run.expect_error(&[&taken.port().to_string(), "in use", "--port-offset"]);
}

#[test]
fn wrong_usage_ends_with_two() {
    let lines: [&[&str]; 5] = [
        &["no-such-command"],
        &["serve", "--no-such-option"],
        &["serve", "--port-offset", "many"],
        &["serve", "--services", "smtp,telepathy"],
        &["import", "--root", "."],
    ];
    for args in lines {
        let run = run("imaild", args);
        assert_eq!(run.code, 2, "{args:?}: {}", run.text());
        assert!(!run.err.trim().is_empty(), "{args:?} says nothing");
    }
    assert_eq!(run("regcheck", &["something"]).code, 2);
}

#[test]
fn every_program_has_help_and_version() {
    for name in ["imaild", "adduser", "regcheck"] {
        for option in ["--help", "--version"] {
            let run = run(name, &[option]).expect_code(0);
            assert!(run.out.contains(name), "{name} {option}:\n{}", run.out);
        }
    }
}

/// A new directory: made once, with a password for root that works.
#[test]
fn init_makes_a_working_directory() {
    let tree = Tree::empty();
    let root = tree.path("new");
    let root = root.to_str().unwrap();
    let made = run("imaild", &["init", "--root", root, "--domain", "mail.example.net"]).expect_code(0);
    assert!(made.out.contains("root"), "{}", made.out);
    let text = std::fs::read_to_string(format!("{root}/registry.ini")).unwrap();
    assert!(text.contains("{ARGON2ID}"), "new directories store Argon2id");
    for name in ["postmaster", "imailsrv"] {
        assert!(text.contains(name), "alias {name} is missing");
    }
    let again = run("imaild", &["init", "--root", root, "--domain", "mail.example.net"]).expect_code(1);
    again.expect_error(&["registry.ini"]);
    assert_eq!(std::fs::read_to_string(format!("{root}/registry.ini")).unwrap(), text);
}

/// Sessions that break the rules are told so, and the server goes on.
#[test]
fn rude_clients_do_no_harm() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let mut smtp = server.smtp();
    assert_eq!(smtp.command("RCPT TO:<suzuki@mail.example.jp>").code, 503);
    assert_eq!(smtp.command("DATA").code, 503);
    assert!(smtp.command("MAIL FROM:no brackets at all").code >= 500);
    assert!(smtp.command(&"X".repeat(5000)).code >= 500);
    let mut smtp = server.smtp();
    for name in ["../../../etc/passwd", "a/b", "suzuki-../x", "suzuki\\..\\x"] {
        let reply =
            smtp.send("a@example.net", &[&format!("{name}@example.org")], "Subject: path\r\n\r\nx\r\n");
        assert!(reply.code >= 500, "{name}: {} {}", reply.code, reply.text);
    }
    let mut imap = server.imap("suzuki", support::sample::SUZUKI);
    assert!(imap.command("FLY").status.starts_with("BAD"));
    assert!(imap.command("SELECT (").status.starts_with("BAD"));
    for name in ["../mike/Main", "/etc/passwd", "a//b", "..", "x/../../y"] {
        for command in ["SELECT", "CREATE", "DELETE"] {
            let answer = imap.command(&format!("{command} \"{name}\""));
            assert!(!answer.is_ok(), "{command} {name}: {}", answer.status);
        }
    }
    server.pop3("suzuki", support::sample::SUZUKI).quit();
}
