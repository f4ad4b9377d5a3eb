//! `adddomain` and `regback` as built programs.
#![allow(clippy::unwrap_used, reason = "panics report")]

mod support;

use std::os::unix::fs::PermissionsExt as _;

use layout::registry::doc::END_LINE;
use support::{Tree, finish, program};

const ADDDOMAIN: &str = env!("CARGO_BIN_EXE_adddomain");
const REGBACK: &str = env!("CARGO_BIN_EXE_regback");
const REGISTRY: &str = "; by hand\n[Global]\nHostName=a.example\nTopDir=C:\\IMail\nReturnToIMail=1\n\
    [Domains\\10.0.0.1]\nOfficial=a.example\nAliases=multi:also.example\n\
    [Domains\\a.example]\nAddress=10.0.0.1\nTopDir=C:\\IMail\n[Domains\\a.example\\Users\\mike]\nUnknown=kept\n\
    [Domains\\$virtual001]\nOfficial=b.example\n[Domains\\b.example]\nAddress=$virtual001\nTopDir=C:\\IMail\\b_example\n";

fn tree() -> Tree {
    Tree::with(&format!("{REGISTRY}{END_LINE}\n"))
}

#[test]
fn a_domain_is_added_changed_and_deleted() {
    let tree = tree();
    let args = [
        "-h",
        "new.example",
        "-i",
        "10.0.0.2",
        "-t",
        "C:\\IMail\\Neu",
        "-u",
        "7",
        "-a",
        "n.example, m.example",
    ];
    let out = tree.run(ADDDOMAIN, &args).expect(0).out;
    let registry = tree.registry();
    let domain = registry.domain_by_name("M.example").unwrap();
    assert_eq!(
        (domain.name.as_str(), domain.address.as_str(), domain.max_users),
        ("new.example", "10.0.0.2", 7)
    );
    assert_eq!((domain.top_dir.as_str(), domain.hidden_by.as_deref()), ("C:\\IMail\\Neu", None));
    assert_eq!(domain.alias("imailsrv").unwrap().value, "|C:\\IMail\\imailsrv.exe new.example");
    let password = out.split("password ").nth(1).unwrap().split(' ').next().unwrap();
    assert!(
        domain.user("root").unwrap().verify(password) && domain.alias("postmaster").unwrap().value == "root"
    );
    assert!(tree.path("Neu").is_dir());
    assert!(String::from_utf8(tree.read("registry.ini")).unwrap().starts_with("; by hand\n"));

    tree.run(ADDDOMAIN, &["-h", "new.example", "-i", "none", "-u", "0"]).expect(0);
    let registry = tree.registry();
    let domain = registry.domain_by_name("n.example").unwrap();
    assert!(domain.is_virtual() && domain.max_users == 0 && registry.mappings.len() == 3);
    assert_eq!(registry.notes, [] as [&str; 0]);

    let out = tree.run(ADDDOMAIN, &["-h", "new.example", "-delete"]).expect(0).out;
    assert!(out.contains("with 1 users; its directory stays"), "{out}");
    let registry = tree.registry();
    assert!(registry.domain_by_name("n.example").is_none() && registry.mappings.len() == 2);
    assert!(tree.path("Neu").is_dir());
}

#[test]
fn a_tree_without_a_top_dir_gets_a_line_of_paths() {
    let tree = Tree::with("[Global]\nHostName=a.example\n[Domains\\a.example]\nAddress=$virtual001\n");
    tree.run(ADDDOMAIN, &["-h", "new.example"]).expect(0);
    assert!(tree.path("new_example").is_dir());
    assert_eq!(tree.registry().paths, [("new_example".to_owned(), "new_example".to_owned())]);
    let domain = tree.registry().domain_by_name("new.example").unwrap().address.clone();
    assert_eq!(domain, "$virtual002");
}

#[test]
fn adddomain_refuses_and_rehearses() {
    let tree = tree();
    let before = tree.read("registry.ini");
    for (args, code, text) in [
        (&["-h", "a.example"][..], 1, "exists already"),
        (&["-h", "a.example", "-delete"], 1, "is the primary domain"),
        (&["-h", "x.example", "-i", "10.0.0.1"], 1, "is the address of a.example"),
        (&["-h", "x.example", "-t", "D:\\x"], 1, "leads nowhere here"),
        (&["-h", "x y"], 2, "is made of letters"),
        (&[], 2, "-h is missing"),
        (&["-h", "x.example", "-q"], 2, "adddomain --help"),
    ] {
        tree.run(ADDDOMAIN, args).refused(code, text);
        assert_eq!(tree.read("registry.ini"), before, "{args:?}");
    }
    for args in [&["-h", "x.example", "--dry-run"][..], &["-h", "b.example", "-delete", "--dry-run"]] {
        assert!(tree.run(ADDDOMAIN, args).expect(0).out.starts_with("Would do: "));
        assert_eq!(
            (tree.read("registry.ini"), tree.names(".")),
            (before.clone(), vec!["registry.ini".to_owned()])
        );
    }
    assert!(finish(program(ADDDOMAIN).arg("--help")).expect(0).out.contains("Usage: adddomain"));
}

#[test]
fn the_registry_is_backed_up_and_restored() {
    let tree = tree();
    let before = tree.read("registry.ini");
    let out = tree.run(REGBACK, &[]).expect(0).out;
    assert!(out.contains("2 domains, 1 users, 0 aliases"), "{out}");
    let names = tree.names("backup");
    assert!(names.len() == 1 && names[0].starts_with("registry-2"), "{names:?}");
    let backup = format!("backup/{}", names[0]);
    assert_eq!(tree.read(&backup), before);
    let mode = std::fs::metadata(tree.path(&backup)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(tree.run(REGBACK, &["--list"]).expect(0).out, format!("{}\n", names[0]));

    tree.run(ADDDOMAIN, &["-h", "new.example"]).expect(0);
    let changed = tree.read("registry.ini");
    let out = tree.run(REGBACK, &["--restore", &names[0], "--dry-run"]).expect(0).out;
    assert!(
        out.contains("Now: 3 domains, 2 users, 2 aliases. In ") && tree.read("registry.ini") == changed,
        "{out}"
    );
    tree.run(REGBACK, &["--restore", &names[0]]).expect(0);
    assert_eq!(tree.read("registry.ini"), before);
    assert_eq!(tree.read("registry.ini.old"), changed);

    let named = tree.path("mine.ini");
    tree.run(REGBACK, &[named.to_str().unwrap()]).expect(0);
    assert_eq!(tree.read("mine.ini"), before);
    tree.run(REGBACK, &[named.to_str().unwrap()]).refused(1, "mine.ini");
}

#[test]
fn regback_refuses_what_is_no_registry() {
    let tree = tree();
    let before = tree.read("registry.ini");
    let (cut, odd, empty) = (
        tree.file("cut.ini", REGISTRY.as_bytes()),
        tree.file("odd.ini", b"[Global]\n[broken\n"),
        tree.file("empty.ini", b""),
    );
    for (args, code, text) in [
        (&["--restore", &cut][..], 1, "its last line is gone"),
        (&["--restore", &odd], 1, "line 2"),
        (&["--restore", &empty], 1, "this is no registry"),
        (&["--restore", "/no/such.ini"], 1, "/no/such.ini"),
        (&["--restore", &cut, "--list"], 2, "one of FILE, --list and --restore"),
        (&["--dry-run"], 2, "--dry-run goes with --restore"),
    ] {
        tree.run(REGBACK, args).refused(code, text);
        assert_eq!(tree.read("registry.ini"), before, "{args:?}");
    }
    assert_eq!(tree.run(REGBACK, &["--list"]).expect(0).out, "");
    assert!(finish(program(REGBACK).arg("--help")).expect(0).out.contains("Usage: regback"));
}
