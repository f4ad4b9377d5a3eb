//! `imail1`, `mailall` and `immsgexp` as built programs.
#![allow(clippy::unwrap_used, reason = "panics report")]

mod support;

use layout::spool::qfile::{Envelope, letter};
use support::{Tree, finish, program};

const IMAIL1: &str = env!("CARGO_BIN_EXE_imail1");
const MAILALL: &str = env!("CARGO_BIN_EXE_mailall");
const IMMSGEXP: &str = env!("CARGO_BIN_EXE_immsgexp");
const REGISTRY: &str = "[Global]\nHostName=a.example\nTopDir=C:\\IMail\n[Domains\\a.example]\nAddress=$virtual001\nTopDir=C:\\IMail\n\
    [Domains\\a.example\\Users\\mike]\nFlags=dword:00000080\n[Domains\\a.example\\Users\\ann]\nFlags=dword:00000080\n\
    [Domains\\a.example\\Users\\off]\nFlags=dword:00000081\n\
    [Domains\\b.example]\nAddress=$virtual002\nTopDir=C:\\IMail\\b\n[Domains\\b.example\\Users\\carl]\nFlags=dword:00000080\n";

fn tree() -> Tree {
    Tree::with(REGISTRY)
}

/// The one message in the spool: its envelope and its text.
fn spooled(tree: &Tree) -> (Envelope, String) {
    let names = tree.names("spool");
    let queued: Vec<_> = names.iter().filter(|name| name.starts_with('Q')).collect();
    assert_eq!(queued.len(), 1, "{names:?}");
    let envelope = Envelope::parse(&tree.read(&format!("spool/{}", queued[0])));
    let data = tree.read(&format!("spool/{}", envelope.data_file().unwrap()));
    assert!(!names.iter().any(|name| name.starts_with('T') || name.starts_with('_')), "{names:?}");
    (envelope, String::from_utf8(data).unwrap())
}

fn addresses(envelope: &Envelope) -> Vec<String> {
    envelope.recipients().into_iter().map(|recipient| recipient.address).collect()
}

#[test]
fn every_option_of_imail1() {
    let tree = tree();
    let file = tree.file("text.txt", "Zeile 1\nこんにちは\n".as_bytes());
    let args = [
        "--from",
        "ann",
        "--to",
        "mike,x@y.example",
        "--cc",
        "z@y.example",
        "--bcc",
        "h@y.example",
        "--subject",
        "件名",
        "--file",
        &file,
    ];
    assert!(tree.run(IMAIL1, &args).expect(0).out.contains("to 4 recipients"));
    let (envelope, mail) = spooled(&tree);
    assert_eq!(addresses(&envelope), ["mike@a.example", "x@y.example", "z@y.example", "h@y.example"]);
    assert_eq!((envelope.sender(), envelope.host().unwrap()), ("ann@a.example".into(), "a.example".into()));
    assert_eq!(envelope.auth_user().as_deref(), Some("ann@a.example"));
    assert!(envelope.first(letter::DATA).unwrap().starts_with("C:\\IMail\\spool\\D"));
    assert!(mail.contains(
        "\r\nTo: mike@a.example,\r\n x@y.example\r\nCc: z@y.example\r\nSubject: =?UTF-8?B?5Lu25ZCN?=\r\n"
    ));
    assert!(mail.contains("Content-Transfer-Encoding: base64") && !mail.contains("h@y.example"), "{mail}");

    let tree = self::tree();
    tree.typed(IMAIL1, &["--to", "mike"], b"typed\n").expect(0);
    let (envelope, mail) = spooled(&tree);
    assert_eq!(envelope.sender(), "postmaster@a.example");
    assert!(mail.ends_with("\r\n\r\ntyped\r\n") && envelope.auth_user().is_none());

    let tree = self::tree();
    let whole = tree.file("whole.eml", b"Subject: as it is\n\n.dots\n");
    tree.run(IMAIL1, &["--from", "x@y.example", "--to", "mike", "--message", &whole]).expect(0);
    assert_eq!(spooled(&tree).1, "Subject: as it is\n\n.dots\n");

    let tree = self::tree();
    let out = tree.typed(IMAIL1, &["--to", "mike", "--subject", "s", "--dry-run"], b"t").expect(0).out;
    assert!(
        out.contains("Would send from postmaster@a.example to mike@a.example") && out.contains("Subject: s")
    );
    assert!(!tree.path("spool").exists());
}

#[test]
fn every_option_of_mailall() {
    for (args, expected) in [
        (&["--domain", "a.example"][..], &["ann@a.example", "mike@a.example"][..]),
        (&["--domain", "b.example"], &["carl@b.example"]),
        (
            &["--domain", "a.example", "--domain", "b.example"],
            &["ann@a.example", "carl@b.example", "mike@a.example"],
        ),
        (&["--all"], &["ann@a.example", "carl@b.example", "mike@a.example"]),
        (&["--all", "--from", "x@y.example"], &["ann@a.example", "carl@b.example", "mike@a.example"]),
    ] {
        let tree = tree();
        let args = [args, &["--subject", "to all"]].concat();
        let dry = tree.run(MAILALL, &[&args[..], &["--dry-run"]].concat()).expect(0).out;
        assert!(dry.lines().count() == expected.len() && !tree.path("spool").exists());
        tree.typed(MAILALL, &args, b"the text\n").expect(0);
        let (envelope, mail) = spooled(&tree);
        assert_eq!(addresses(&envelope), expected, "{args:?}");
        assert!(
            mail.contains("To: undisclosed-recipients:;\r\n")
                && mail.contains("Auto-Submitted: auto-generated")
        );
        let sender = if args.contains(&"--from") { "x@y.example" } else { "postmaster@" };
        assert!(envelope.sender().starts_with(sender));
    }
    let tree = tree();
    let file = tree.file("text.txt", b"from a file");
    tree.run(MAILALL, &["--all", "--subject", "x", "--file", &file]).expect(0);
    assert!(spooled(&tree).1.ends_with("from a file\r\n"));
}

fn mailbox(days: &[i64]) -> Vec<u8> {
    let message = |age: &i64| {
        let date = chrono::Local::now() - chrono::Duration::days(*age) - chrono::Duration::hours(1);
        format!(
            "From <a@b> {}\r\nSubject: age {age}\r\n\r\ntext\r\n\r\n",
            date.format("%a %b %e %H:%M:%S %Y")
        )
    };
    days.iter().map(message).collect::<String>().into_bytes()
}

fn ages(tree: &Tree, file: &str) -> Vec<String> {
    let text = String::from_utf8(tree.read(file)).unwrap();
    text.lines().filter_map(|line| line.strip_prefix("Subject: age ")).map(str::to_owned).collect()
}

#[test]
fn every_option_of_immsgexp() {
    const MIKE: [&str; 2] = ["users/mike/main.mbx", "users/mike/Trash.mbx"];
    const CARL: &str = "b/users/carl/main.mbx";
    for (args, main, trash, carl) in [
        (&["--days", "30", "--mailbox", "INBOX"][..], &["1"][..], &["90", "1"][..], &["2"][..]),
        (&["--days", "30", "--mailbox", "Trash"], &["100", "1"], &["1"], &["50", "2"]),
        (&["--days", "30", "--all-mailboxes"], &["1"], &["1"], &["2"]),
        (&["--days", "95", "--all-mailboxes"], &["1"], &["90", "1"], &["50", "2"]),
        (&["--days", "30", "--all-mailboxes", "--domain", "b.example"], &["100", "1"], &["90", "1"], &["2"]),
        (&["--days", "30", "--all-mailboxes", "--user", "MIKE"], &["1"], &["1"], &["50", "2"]),
        (&["--days", "30", "--all-mailboxes", "--keep-flagged"], &["1"], &["1"], &["2"]),
        (&["--days", "30", "--all-mailboxes", "--dry-run"], &["100", "1"], &["90", "1"], &["50", "2"]),
        (&["--days", "0", "--mailbox", "main"], &[], &["90", "1"], &[]),
    ] {
        let tree = tree();
        tree.file(MIKE[0], &mailbox(&[100, 1]));
        tree.file(MIKE[1], &mailbox(&[90, 1]));
        tree.file(CARL, &mailbox(&[50, 2]));
        let run = tree.run(IMMSGEXP, args).expect(0);
        assert_eq!(ages(&tree, MIKE[0]), main, "{args:?} {}", run.out);
        assert_eq!(
            (ages(&tree, MIKE[1]), ages(&tree, CARL)),
            (
                trash.iter().map(|age| (*age).to_owned()).collect(),
                carl.iter().map(|age| (*age).to_owned()).collect()
            ),
            "{args:?}"
        );
    }
    let tree = tree();
    tree.file("users/mike/bad.mbx", b"*mbx*\r\n");
    tree.run(IMMSGEXP, &["--days", "1", "--all-mailboxes"]).refused(1, "was left alone");
    assert_eq!(tree.read("users/mike/bad.mbx"), b"*mbx*\r\n");
}

#[test]
fn refusals() {
    let tree = tree();
    for (name, args, code, text) in [
        (IMAIL1, &[][..], 2, "nobody is named"),
        (IMAIL1, &["--to", "a b@"], 2, "is no address"),
        (IMAIL1, &["--to", "mike", "--message", "x", "--subject", "y"], 2, "leave --subject"),
        (IMAIL1, &["--to", "mike", "--file", "/no/such"], 1, "/no/such"),
        (IMAIL1, &["--to", "mike", "--message", "/no/such"], 1, "/no/such"),
        (IMAIL1, &["mike"], 2, "imail1 --help"),
        (MAILALL, &["--subject", "x"], 2, "either --domain DOMAIN or --all"),
        (MAILALL, &["--all"], 2, "--subject is missing"),
        (MAILALL, &["--domain", "no.example", "--subject", "x"], 1, "no domain \"no.example\""),
        (IMMSGEXP, &["--all-mailboxes"], 2, "--days is missing"),
        (IMMSGEXP, &["--days", "3"], 2, "either --mailbox NAME or --all-mailboxes"),
        (IMMSGEXP, &["--days", "3", "--all-mailboxes", "--user", "ghost"], 1, "no user ghost"),
        (IMMSGEXP, &["--days", "3", "--mailbox", "a/b"], 2, "--mailbox: "),
    ] {
        tree.run(name, args).refused(code, text);
        assert_eq!(tree.names("."), ["registry.ini"], "{args:?}");
    }
    for (name, text) in
        [(IMAIL1, "Usage: imail1"), (MAILALL, "Usage: mailall"), (IMMSGEXP, "Usage: immsgexp")]
    {
        assert!(finish(program(name).arg("--help")).expect(0).out.contains(text));
        finish(program(name).arg("--root").arg("/no/such/dir").args(["--to", "x", "--days", "1"]))
            .refused(2, "");
    }
}
