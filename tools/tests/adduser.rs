//! `adduser` as a built program: switches, files, exit codes, and what it leaves behind.
#![allow(clippy::unwrap_used, reason = "panics report")]

mod support;

use std::ops::Deref;
use std::path::Path;
use std::process::{Command, Stdio};

use layout::registry::model::User;
use support::{Run, finish};
use tempfile::TempDir;

const REGISTRY: &str = "; by hand\r\n[Global]\r\nHostName=a.example\r\nTopDir=C:\\\\IMail\r\nReturnToIMail=1\r\n\r\n\
    [Domains\\10.0.0.1]\r\nOfficial=a.example\r\nAliases=\"other.example\"\r\n\r\n\
    [Domains\\a.example]\r\nAddress=10.0.0.1\r\n\r\n\
    [Domains\\a.example\\Users\\Mike]\r\nMailAddr=Mike@a.example\r\nFlags=dword:00000101\r\nUnknown=kept\r\n\r\n\
    [Domains\\a.example\\Users\\_aliases]\r\nsales=mike\r\n\r\n\
    [Domains\\$virtual001]\r\nOfficial=b.example\r\n\r\n\
    [Domains\\b.example]\r\nAddress=$virtual001\r\nTopDir=C:\\\\IMail\\\\b_dir\r\nMaxUsers=dword:00000002\r\n";

const PROGRAM: &str = env!("CARGO_BIN_EXE_adduser");

struct Tree(support::Tree);

impl Deref for Tree {
    type Target = support::Tree;
    fn deref(&self) -> &support::Tree {
        &self.0
    }
}

impl Tree {
    fn new() -> Tree {
        Tree::with(REGISTRY)
    }

    fn with(registry: &str) -> Tree {
        Tree(support::Tree::with(registry))
    }

    fn file(&self, bytes: &[u8]) -> String {
        self.0.file("ID.txt", bytes)
    }

    fn bytes(&self) -> Vec<u8> {
        self.read("registry.ini")
    }

    fn run(&self, args: &[&str]) -> Run {
        self.0.run(PROGRAM, args)
    }

    fn typed(&self, args: &[&str], input: &[u8]) -> Run {
        self.0.typed(PROGRAM, args, input)
    }

    fn user(&self, domain: &str, id: &str) -> Option<User> {
        self.registry().domain_by_name(domain).unwrap().user(id).cloned()
    }

    fn ids(&self, domain: &str) -> Vec<String> {
        self.registry().domain_by_name(domain).unwrap().users.values().map(|user| user.id.clone()).collect()
    }
}

#[test]
fn every_option_on_the_command_line() {
    type Case<'a> = (&'a [&'a str], &'a str, u32, &'a str, Option<&'a str>);
    let cases: &[Case] = &[
        (&["-u", "x", "-p", "secret"], "x", 0x80, "", Some("secret")),
        (&["-u", "Xy-1.z_", "-p", "secret", "-n", "Full Name"], "Xy-1.z_", 0x80, "Full Name", Some("secret")),
        (
            &["-u", "x", "-p", "secret", "-n", "\u{5c71}\u{7530}"],
            "x",
            0x80,
            "\u{5c71}\u{7530}",
            Some("secret"),
        ),
        (&["-u", "x", "-p", "secret", "-chgpass"], "x", 0x84, "", None),
        (&["-u", "x", "-p", "secret", "-web"], "x", 0, "", None),
        (&["-u", "x", "-p", "secret", "-active"], "x", 0x81, "", None),
        (&["-u", "x", "-p", "secret", "-info", "+web", "+chgpass", "+active"], "x", 0x82, "", None),
        (&["-h", "other.example", "-u", "x", "-p", "secret", "+info"], "x", 0x80, "", None),
        (&["-m", "mike", "-p", "secret"], "Mike", 0x101, "", Some("secret")),
        (&["-m", "MIKE", "-n", "Mike E."], "Mike", 0x101, "Mike E.", None),
        (&["-m", "mike", "+active"], "Mike", 0x180, "", None),
        (&["-m", "mike", "-info"], "Mike", 0x182, "", None),
    ];
    for (args, id, flags, name, password) in cases {
        let tree = Tree::new();
        let run = tree.run(args).expect(1);
        assert!(run.out.contains(&format!("{id}@a.example")) && run.err.is_empty(), "{args:?}");
        let user = tree.user("a.example", id).unwrap();
        let found = (user.id.as_str(), user.mail_addr.clone(), user.flags, user.full_name.as_str());
        assert_eq!(found, (*id, format!("{id}@a.example"), *flags, *name), "{args:?}");
        assert!(password.is_none_or(|password| user.verify(password)), "{args:?}");
        assert!(!run.out.contains("secret"));
    }
}

#[test]
fn the_rest_of_the_file_stays() {
    let tree = Tree::new();
    tree.run(&["-m", "mike", "-n", "Mike"]).expect(1);
    tree.run(&["-u", "x", "-p", "secret"]).expect(1);
    let text = String::from_utf8(tree.bytes()).unwrap();
    assert!(text.starts_with("; by hand\r\n") && text.contains("Unknown=kept\r\n"));
    tree.run(&["-k", "x"]).expect(1);
    tree.run(&["-k", "mike"]).expect(1);
    assert!(tree.user("a.example", "mike").is_none());
}

#[test]
fn a_user_without_a_password_is_disabled_and_gets_one() {
    for args in [&["test01"][..], &["-u", "test01"], &["-u", "test01", "+active"]] {
        let tree = Tree::new();
        let run = tree.run(args).expect(1);
        let password = run.out.split("password ").nth(1).unwrap().split(' ').next().unwrap();
        let user = tree.user("a.example", "test01").unwrap();
        assert!(user.verify(password) && user.flags == 0x81, "{}", run.out);
    }
}

#[test]
fn deleted_users_leave_their_directory() {
    for args in [&["-k", "Gone"][..], &["-k", "-u", "gone"], &["-u", "gone", "-k"]] {
        let tree = Tree::new();
        tree.run(&["-h", "b.example", "-u", "gone", "-p", "secret"]).expect(1);
        std::fs::create_dir_all(tree.path("b_dir/Users/Gone")).unwrap();
        std::fs::write(tree.path("b_dir/Users/Gone/Main.mbx"), "mail").unwrap();
        let all = [&["-h", "b.example"], args].concat();
        let run = tree.run(&all).expect(1);
        assert_eq!(run.err, "");
        assert!(tree.user("b.example", "gone").is_none());
        let mut kept = std::fs::read_dir(tree.path("b_dir/Users/.deleted")).unwrap();
        let kept = kept.next().unwrap().unwrap();
        assert!(kept.file_name().to_str().unwrap().starts_with("gone."));
        assert!(run.out.contains(kept.file_name().to_str().unwrap()));
        assert_eq!(std::fs::read(kept.path().join("Main.mbx")).unwrap(), b"mail");
        assert!(!tree.path("b_dir/Users/Gone").exists());
    }
}

#[test]
fn a_directory_that_domains_share_stays_until_the_last_user_goes() {
    let tree = Tree::with(&REGISTRY.replace("\\\\b_dir", ""));
    tree.run(&["-h", "b.example", "-u", "mike", "-p", "secret"]).expect(1);
    std::fs::create_dir_all(tree.path("users/mike")).unwrap();
    let run = tree.run(&["-h", "b.example", "-k", "mike"]).expect(1);
    assert!(
        run.err.contains("also that of mike@a.example") && tree.path("users/mike").exists(),
        "{}",
        run.err
    );
    tree.run(&["-k", "mike"]).expect(1);
    assert!(!tree.path("users/mike").exists());
}

#[test]
fn files_of_every_kind() {
    let name = "\u{8868} \u{80fd}";
    let cp932 = [&b"x,secret,"[..], b"\x95\x5c \x94\x5c", b"\r\n"].concat();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"x,secret\r\ny,secret".to_vec(), ""),
        (b"x,secret,\r\ny,secret,\r\n".to_vec(), ""),
        (b"x,secret, \r\ny,secret, \r\n".to_vec(), ""),
        (b"x,secret,A, B\n".to_vec(), "A, B"),
        (format!("x,secret,{name}\n").into_bytes(), name),
        (format!("\u{feff}x,secret,{name}\r\n").into_bytes(), name),
        (cp932, name),
        (b"-u x -p secret -n \"A  B\"\r\n".to_vec(), "A  B"),
        (b"\r\n; note\r\n# note\r\nx,secret\r\n".to_vec(), ""),
    ];
    for (bytes, expected) in cases {
        let tree = Tree::new();
        let run = tree.run(&["-f", &tree.file(&bytes)]).expect(1);
        assert_eq!(run.err, "");
        let user = tree.user("a.example", "x").unwrap();
        assert!(user.verify("secret") && user.full_name == expected, "{bytes:?}");
    }
}

#[test]
fn a_file_with_both_kinds_of_lines() {
    let tree = Tree::new();
    let text = "one,secret,One\r\n-h b.example -u two -p secret -web -l\r\nthree,secret\r\n-h a.example\r\n\
        -m two -p changed\r\nfour,secret\r\n-m one -info -p changed\r\n-k four\r\n";
    let run = tree.run(&["-h", "a.example", "-l", "-f", &tree.file(text.as_bytes())]).expect(1);
    assert_eq!(tree.ids("a.example"), ["Mike", "one"]);
    assert_eq!(tree.ids("b.example"), ["three", "two"]);
    assert_eq!(tree.user("b.example", "two").unwrap().flags, 0);
    let one = tree.user("a.example", "one").unwrap();
    assert!(one.verify("changed") && one.flags == 0x82);
    assert_eq!(run.err.matches("-l has no effect").count(), 1, "{}", run.err);
    assert!(run.err.contains("ID.txt, line 5: there is no user \"two\" in a.example"), "{}", run.err);
}

#[test]
fn bad_lines_are_named_and_the_others_count() {
    let tree = Tree::new();
    let text = "good1,secret\nmike,secret\nbad name,secret\n../evil,secret\nx,ab\ny,pa*ss\n-u z -nonsense\n-f more.txt\n\
        -h no.where\nlost,secret\n-h b.example\nb1,secret\nb2,secret\nb3,secret\nroot,secret\nsales,secret\n-h a.example\nsales,secret\n";
    let run = tree.run(&["-f", &tree.file(text.as_bytes())]).expect(1);
    let expected = [
        (2, "mike@a.example exists already: change it with -m"),
        (3, "\"bad name\": a user ID has only"),
        (4, "\"../evil\": a user ID has only"),
        (5, "x@a.example: the password is too short"),
        (6, "y@a.example: the password holds a character"),
        (7, "\"-nonsense\" is no option"),
        (8, "-f belongs on the command line"),
        (10, "there is no domain \"no.where\" here; there are: a.example, b.example"),
        (14, "b3@b.example: b.example may have 2 users"),
        (16, "sales@b.example: b.example may have 2 users"),
        (18, "warning: sales@a.example: there is an alias"),
    ];
    let lines: Vec<&str> = run.err.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{}", run.err);
    for (line, (number, words)) in lines.iter().zip(expected) {
        assert!(line.contains(&format!("ID.txt, line {number}: {words}")), "{line}");
    }
    assert_eq!(tree.ids("b.example"), ["b1", "b2", "root"]);
    assert_eq!(tree.ids("a.example"), ["good1", "Mike", "sales"]);
}

#[test]
fn bad_input_changes_nothing() {
    let long = "x".repeat(31);
    let cases: &[(&[&str], &[&str])] = &[
        (&["-h", "no.where", "-u", "x", "-p", "secret"], &["no.where", "b.example"]),
        (&["-u", "MIKE", "-p", "secret"], &["MIKE@a.example exists"]),
        (&["-m", "ghost", "-web"], &["ghost"]),
        (&["-k", "ghost"], &["ghost"]),
        (&["-u", &long, "-p", "secret"], &["30"]),
        (&["-u", "nul", "-p", "secret"], &["device"]),
        (&["-u", "x", "-p", "a b c"], &["blanks"]),
        (&["-u", "x", "-p", &long], &["30"]),
        (&["-u", "x", "-p", ""], &["too short"]),
        (&["-u", "x", "-p", "secret", "-n", "a\nb"], &["full name"]),
        (&["test", "01"], &["\"01\" is too much"]),
        (&["-u", "x", "-p", "my", "secret"], &["a word is too much"]),
        (&["-m", "mike"], &["nothing to change"]),
        (&["-u", "x", "-m", "mike"], &["only one of"]),
        (&["-u"], &["needs a user ID"]),
        (&["--nonsense"], &["--nonsense", "--help"]),
        (&["-f", "/no/such/file"], &["/no/such/file"]),
        (&["-f"], &["-f needs"]),
    ];
    let tree = Tree::new();
    for (args, words) in cases {
        let run = tree.run(args).expect(0);
        assert!(
            run.out.is_empty() && words.iter().all(|word| run.err.contains(word)),
            "{args:?}: {}",
            run.err
        );
        assert!(!run.err.contains("secret"), "{args:?}: {}", run.err);
        assert_eq!(tree.bytes(), REGISTRY.as_bytes(), "{args:?}");
    }
    for bytes in [&b""[..], b"\xFF\xFEx\0,\0", b"; only a note\n", b"mike,secret\n"] {
        tree.run(&["-f", &tree.file(bytes)]).expect(0);
    }
    std::fs::remove_file(tree.path("ID.txt")).unwrap();
    assert_eq!(tree.bytes(), REGISTRY.as_bytes());
    assert_eq!(std::fs::read_dir(tree.path("")).unwrap().count(), 1, "no other file was made");
}

#[test]
fn without_a_directory_the_three_ways_are_named() {
    let empty = TempDir::new().unwrap();
    let run = |args: &[&str], dir: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_adduser"));
        finish(command.env_remove("IMAIL_ROOT").current_dir(dir).stdin(Stdio::null()).args(args))
    };
    let none = run(&["-u", "x"], empty.path()).expect(0);
    assert!(["--root", "IMAIL_ROOT", "registry.ini"].iter().all(|word| none.err.contains(word)));
    let other = run(&["--root", empty.path().to_str().unwrap(), "-u", "x"], empty.path()).expect(0);
    assert!(other.err.contains("imaild import"), "{}", other.err);
    let tree = Tree::new();
    run(&["-u", "x", "-p", "secret"], &tree.path("")).expect(1);
    for (option, word) in [("--help", "Exit code"), ("-?", "-chgpass"), ("--version", "adduser 0.")] {
        assert!(run(&[option], empty.path()).expect(0).out.contains(word));
    }
}

#[test]
fn standard_input_is_read_when_there_are_no_arguments() {
    let tree = Tree::new();
    let input = "-u one -p secret -n \"One\"\n\ntwo,secret,Two\n-h b.example -u three -p secret\n-m mike\n\x1a\nfour,secret\n";
    let run = tree.typed(&[], input.as_bytes()).expect(1);
    assert!(
        run.err.contains("standard input, line 5: Mike@b.example") || run.err.contains("no user \"mike\"")
    );
    assert_eq!(tree.ids("a.example"), ["Mike", "one", "two"]);
    assert_eq!(tree.ids("b.example"), ["three"]);
    tree.typed(&["-h", "b.example"], b"four,secret").expect(1);
    tree.typed(&[], b"nobody here\n").expect(0);
    tree.typed(&[], b"").expect(0);
    let file = tree.file(b"five,secret\n");
    tree.typed(&[], format!("-f {file}\n-f /no/such\n").as_bytes()).expect(1);
    assert!(tree.user("a.example", "five").is_some());
}

#[test]
fn new_trees_get_argon2() {
    let tree = Tree::with(&REGISTRY.replace("ReturnToIMail=1\r\n", ""));
    let short = tree.run(&["-u", "x", "-p", "short"]).expect(0);
    assert!(short.err.contains("8 to 128"), "{}", short.err);
    tree.run(&["-u", "x", "-p", "a long secret"]).expect(1);
    let user = tree.user("a.example", "x").unwrap();
    assert!(user.password.expose().starts_with("{ARGON2ID}") && user.verify("a long secret"));
}

#[test]
fn programs_at_once_lose_nothing() {
    const EACH: usize = 8;
    let tree = Tree::new();
    std::thread::scope(|scope| {
        for group in ["a", "b", "c"] {
            let tree = &tree;
            scope.spawn(move || {
                for number in 0..EACH {
                    let id = format!("{group}{number}");
                    tree.run(&["-u", &id, "-p", "secret"]).expect(1);
                }
            });
        }
    });
    assert_eq!(tree.ids("a.example").len(), 3 * EACH + 1);
}

#[test]
fn one_of_two_that_want_the_same_id_gets_it() {
    let tree = Tree::new();
    let codes: Vec<i32> = std::thread::scope(|scope| {
        let runs: Vec<_> =
            (0..4).map(|_| scope.spawn(|| tree.run(&["-u", "same", "-p", "secret"]).code)).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert_eq!(codes.iter().sum::<i32>(), 1, "{codes:?}");
}

#[test]
fn ten_thousand_users_from_one_file() {
    const USERS: usize = 10_000;
    let tree = Tree::new();
    let lines: Vec<String> = (0..USERS).map(|n| format!("user{n:05},pass{n:05},User {n}, Jr.\r\n")).collect();
    let run = tree.run(&["-f", &tree.file(lines.concat().as_bytes())]).expect(1);
    assert_eq!(run.out.lines().count(), USERS);
    assert_eq!(tree.ids("a.example").len(), USERS + 1);
    assert!(tree.user("a.example", "user09999").unwrap().verify("pass09999"));
}

#[test]
fn a_file_that_is_cut_off_is_refused() {
    let tree = Tree::new();
    tree.run(&["-u", "x", "-p", "secret"]).expect(1);
    std::fs::write(tree.path("registry.ini.good"), [REGISTRY, layout::registry::doc::END_LINE].concat())
        .unwrap();
    std::fs::write(tree.path("registry.ini"), &REGISTRY[..200]).unwrap();
    let run = tree.run(&["-u", "y", "-p", "secret"]).expect(0);
    assert!(run.err.contains("end of registry.ini"), "{}", run.err);
    assert_eq!(tree.bytes(), &REGISTRY.as_bytes()[..200]);
}
