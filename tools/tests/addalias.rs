//! `addalias` as a built program: switches, files, exit codes, groups, and what it leaves behind.
#![allow(clippy::unwrap_used, reason = "panics report")]

mod support;

use support::{Run, Tree, finish, program};

const PROGRAM: &str = env!("CARGO_BIN_EXE_addalias");
const REGISTRY: &str = "; by hand\r\n[Global]\r\nHostName=a.example\r\nTopDir=C:\\IMail\r\n\r\n\
    [Domains\\10.0.0.1]\r\nOfficial=a.example\r\nAliases=\"other.example\"\r\n\r\n\
    [Domains\\a.example]\r\nAddress=10.0.0.1\r\n\r\n\
    [Domains\\a.example\\Users\\mike]\r\nMailAddr=mike@a.example\r\nUnknown=kept\r\n\r\n\
    [Domains\\a.example\\Users\\_aliases]\r\nSales=mike\r\nstaff=C:\\IMail\\staff.lst\r\n\r\n\
    [Domains\\$virtual001]\r\nOfficial=b.example\r\n\r\n\
    [Domains\\b.example]\r\nAddress=$virtual001\r\nTopDir=C:\\IMail\\b_dir\r\n";
const FIVE: &str = "many=a,b,c,d,e@f.example";

fn tree() -> Tree {
    let tree = Tree::with(REGISTRY);
    tree.file("staff.lst", b"; the staff\r\nmike\r\nann@f.example\r\n");
    std::fs::create_dir(tree.path("b_dir")).unwrap();
    tree
}

fn run(tree: &Tree, args: &[&str]) -> Run {
    tree.run(PROGRAM, args)
}

fn value(tree: &Tree, domain: &str, alias: &str) -> Option<String> {
    tree.registry().domain_by_name(domain).unwrap().alias(alias).map(|alias| alias.value.clone())
}

#[test]
fn every_option_on_the_command_line() {
    for (args, domain, alias, expected) in [
        (&["-a", "x=ann"][..], "a.example", "x", Some("ann")),
        (&["x=ann"], "a.example", "x", Some("ann")),
        (&["-a", "x", "user@y.example"], "a.example", "x", Some("user@y.example")),
        (&["-h", "b.example", "-a", "x", "user@y.example"], "b.example", "x", Some("user@y.example")),
        (&["-h", "other.example", "-a", "x=ann"], "a.example", "x", Some("ann")),
        (&["-a", "x=ann, bob  carl"], "a.example", "x", Some("ann,bob,carl")),
        (&["-c,", "-a", "x,ann"], "a.example", "x", Some("ann")),
        (&["-m", "SALES=ann"], "a.example", "sales", Some("ann")),
        (&["-m", "x=ann"], "a.example", "x", Some("ann")),
        (&["-d", "sales"], "a.example", "sales", None),
        (&["-a", "x=|imailsrv.exe a.example"], "a.example", "x", Some("|imailsrv.exe a.example")),
        (&["-a", FIVE], "a.example", "many", Some("C:\\IMail\\many.list")),
        (&["-h", "b.example", "-a", FIVE], "b.example", "many", Some("C:\\IMail\\b_dir\\many.list")),
    ] {
        let tree = tree();
        let run = run(&tree, args).expect(0);
        assert!(run.err.is_empty() && run.out.contains(domain), "{args:?}: {}", run.out);
        assert_eq!(value(&tree, domain, alias).as_deref(), expected, "{args:?}");
        let text = String::from_utf8(tree.read("registry.ini")).unwrap();
        assert!(text.starts_with("; by hand\r\n") && text.contains("Unknown=kept\r\n"), "{text}");
    }
}

#[test]
fn refusals_change_nothing() {
    for (args, code, text) in [
        (&["-a", "sales=ann"][..], 1, "Sales@a.example exists already: -m changes it"),
        (&["-d", "ghost"], 1, "no alias ghost@a.example"),
        (
            &["-h", "no.example", "-a", "x=y"],
            1,
            "no domain \"no.example\" here; there are: a.example, b.example",
        ),
        (&["-a", "x"], 1, "say where its mail goes"),
        (&["-a", "x=a b@"], 1, "\"b@\" is no user"),
        (&["-f", "/no/such/file"], 1, "/no/such/file"),
        (&["-i", "Users"], 2, "there are none here"),
        (&["-a", "-d", "x"], 2, "only one of -a, -m, -d"),
        (&["-f", "x", "-a", "b=c"], 2, "-f stands alone"),
        (&["-x"], 2, "addalias --help"),
    ] {
        let tree = tree();
        run(&tree, args).refused(code, text);
        assert_eq!(tree.read("registry.ini"), REGISTRY.as_bytes(), "{args:?}");
        assert_eq!(tree.names("."), ["b_dir", "registry.ini", "staff.lst"], "{args:?}");
    }
    finish(program(PROGRAM).args(["--root", "/no/such/dir", "-l"])).refused(2, "/no/such/dir");
    for (option, text) in
        [("--help", "Usage: addalias"), ("-?", "Usage: addalias"), ("--version", "addalias 0.")]
    {
        assert!(finish(program(PROGRAM).arg(option)).expect(0).out.contains(text));
    }
}

#[test]
fn groups_are_kept_in_files() {
    let tree = tree();
    run(&tree, &["-a", FIVE]).expect(0);
    assert_eq!(tree.read("many.list"), b"a\r\nb\r\nc\r\nd\r\ne@f.example\r\n");
    run(&tree, &["-m", "many=a,z"]).expect(0);
    assert_eq!(tree.read("many.list"), b"a\r\nz\r\n");
    assert_eq!(value(&tree, "a.example", "many").unwrap(), "C:\\IMail\\many.list");
    run(&tree, &["-m", "staff=ann@f.example,new"]).expect(0);
    assert_eq!(tree.read("staff.lst"), b"; the staff\r\nann@f.example\r\nnew\r\n");
    let run_ = run(&tree, &["-d", "many"]).expect(0);
    assert!(run_.out.contains("its file C:\\IMail\\many.list stays"), "{}", run_.out);
    run(&tree, &["-a", FIVE]).refused(1, "is there already");
    run(&tree, &["-m", "many=C:\\IMail\\many.list"]).expect(0);
    run(&tree, &["-h", "b.example", "-a", FIVE]).expect(0);
    assert_eq!(tree.read("b_dir/many.list"), b"a\r\nb\r\nc\r\nd\r\ne@f.example\r\n");
}

#[test]
fn warnings() {
    let tree = tree();
    let run_ = run(&tree, &["-a", "mike=ann"]).expect(0);
    assert!(run_.err.contains("warning: there is a user mike@a.example too"), "{}", run_.err);
    let run_ = run(&tree, &["-a", "fax=|C:\\Tools\\fax.exe a"]).expect(0);
    assert!(run_.err.contains("until AllowedPrograms in [Global]"), "{}", run_.err);
}

#[test]
fn a_dry_run_changes_nothing() {
    let tree = tree();
    let file = tree.file("in.txt", b"-a x=ann\n-m staff=a\n-d sales\n");
    for args in [&["--dry-run", "-a", FIVE][..], &["--dry-run", "-f", &file], &["-f", &file, "--dry-run"]] {
        let run = run(&tree, args).expect(0);
        assert!(run.out.starts_with("Would do: "), "{}", run.out);
        assert_eq!(tree.read("registry.ini"), REGISTRY.as_bytes());
        assert_eq!(tree.read("staff.lst"), b"; the staff\r\nmike\r\nann@f.example\r\n");
        assert!(!tree.path("many.list").exists());
    }
}

#[test]
fn files_and_standard_input() {
    let text = b"; aliases\r\n-a one=ann\r\nno alias here@=x\r\n-h b.example -c: two:bob,carl\r\nthree:dora\r\n-l\r\n";
    let tree = tree();
    let file = tree.file("in.txt", text);
    let by_file = run(&tree, &["-f", &file]).expect(1);
    assert!(by_file.err.contains("in.txt, line 3: ") && by_file.err.contains("in.txt, line 6: -l belongs"));
    assert_eq!(value(&tree, "a.example", "one").unwrap(), "ann");
    assert_eq!(value(&tree, "b.example", "two").unwrap(), "bob,carl");
    assert_eq!(value(&tree, "b.example", "three").unwrap(), "dora");

    let other = self::tree();
    let by_input = other.typed(PROGRAM, &[], text).expect(1);
    assert!(by_input.err.contains("standard input, line 3: "), "{}", by_input.err);
    assert_eq!(other.read("registry.ini"), tree.read("registry.ini"));
    other.typed(PROGRAM, &["-h", "b.example"], b"four=x\n\x1a\nfive=x\n").expect(0);
    assert_eq!(value(&other, "b.example", "four").unwrap(), "x");
    assert_eq!(value(&other, "b.example", "five"), None);
}

#[test]
fn what_is_listed_can_be_read_again() {
    let tree = tree();
    run(&tree, &["-a", "fax=|\"C:\\a b\\fax.exe\" x  y"]).expect(0);
    run(&tree, &["-a", "list=ann,bob@c.example"]).expect(0);
    let listed = run(&tree, &["-l"]).expect(0).out;
    assert!(listed.contains("Sales=mike\n") && listed.contains("staff=C:\\IMail\\staff.lst\n"), "{listed}");
    assert!(run(&tree, &["-l", "-c:"]).expect(0).out.contains("Sales:mike\n"));
    assert_eq!(run(&tree, &["-l", "-h", "b.example"]).expect(0).out, "");
    let file = tree.file("listed.txt", listed.as_bytes());
    run(&tree, &["-h", "b.example", "-f", &file]).expect(0);
    assert_eq!(run(&tree, &["-l", "-h", "b.example"]).expect(0).out, listed);
}
