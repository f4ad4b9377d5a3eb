//! Delivery rules on the sample directory: mail by SMTP, what became of it by POP3 and IMAP, and what `imaild check` says of it before.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use serde_json::Value;
use support::letter::{encoded, word};
use support::sample::SUZUKI;
use support::server::Server;
use support::smtp::mail;
use support::tree::Tree;
use support::{EDIT_LIMIT, Run, ini, run, wait_for};

const MIKE: &str = "mike@mail.example.jp";
const ANN: &str = "ann@example.org";
const BOB: &str = "bob@example.org";

/// What the rules of the sample decide, by the text of a message and its recipient.
fn cases() -> Vec<(String, &'static str, &'static str)> {
    let from_boss =
        |subject: &str| mail(subject).replace("sender@example.net", "The Boss <boss@example.net>");
    vec![
        (mail("weight loss"), MIKE, "Trash"),
        (mail("hello"), MIKE, "main"),
        (mail("lottery"), MIKE, "spambox"),
        (from_boss("meeting"), MIKE, "Important"),
        (mail("sample-rule-word"), MIKE, ""),
        // A mailbox that is not there is not made for strangers: this is mail for the INBOX.
        (mail("lottery again"), "mike-other@mail.example.jp", "spambox"),
    ]
}

/// The text of a mailbox of mike, once it holds something.
fn mailbox(tree: &Tree, name: &str) -> String {
    let path = tree.root().join("users/mike").join(format!("{name}.mbx"));
    wait_for(name, EDIT_LIMIT, || Some(String::from_utf8_lossy(&std::fs::read(&path).ok()?).into_owned()))
}

#[test]
fn the_rules_of_the_sample() {
    let tree = Tree::quiet();
    let files =
        ["rules.ima", "orules.ima", "users/mike/rules.ima", "users/mike/spam.rul", "Lists/news/rules.ima"];
    let before = files.map(|file| tree.read(file));
    let server = Server::start(&tree);
    let mut smtp = server.smtp();
    for (message, recipient, _) in cases() {
        smtp.deliver(ANN, &[recipient], &message);
    }
    smtp.quit();
    let mut imap = server.imap("mike", "rocks");
    for (name, count) in [("INBOX", 2 + 1), ("Trash", 1), ("spambox", 2), ("Important", 1)] {
        assert_eq!(imap.examine(name), count, "{name}");
    }
    assert!(
        mailbox(&tree, "Trash")
            .contains("X-IMail-Rule: S~weight loss!OR!B~weight loss:Trash-weight loss\r\n")
    );
    assert!(mailbox(&tree, "spambox").contains("X-IMail-Rule: <big>H~:spam:spambox-lottery\r\n"));
    assert!(
        mailbox(&tree, "Important")
            .contains("X-IMail-Rule: F=boss@example.net:mike-Important-boss@example.net\r\n")
    );
    imap.logout();
    let mut pop3 = server.pop3("mike", "rocks");
    let subjects = pop3.subjects();
    assert!(subjects.iter().all(|subject| !subject.contains("sample-rule-word")), "{subjects:?}");
    assert!(subjects.contains(&"hello".to_owned()), "{subjects:?}");
    pop3.quit();
    assert!(server.stop().0.success());
    assert!(files.map(|file| tree.read(file)) == before, "a rules file was changed");
}

#[test]
fn rules_are_edited_while_the_server_runs() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let mut smtp = server.smtp();
    smtp.deliver(ANN, &[MIKE], &mail("first"));
    let rules = String::from_utf8(tree.read("users/mike/rules.ima")).unwrap();
    std::fs::write(tree.path("users/mike/rules.ima"), format!("{rules}S~second:later\r\n")).unwrap();
    let later = tree.root().join("users/mike/later.mbx");
    wait_for("the new rule", EDIT_LIMIT, || {
        smtp.deliver(ANN, &[MIKE], &mail("second"));
        later.exists().then_some(())
    });
    smtp.quit();
}

/// A rules file of the old server's code page, and mail as Japanese programs write it.
#[test]
fn japanese_rules() {
    let tree = Tree::quiet();
    let rules = "<\u{8ff7}\u{60d1}>S~\u{5f53}\u{9078}:\u{8ff7}\u{60d1}\u{30e1}\u{30fc}\u{30eb}\r\nB~\u{672a}\u{627f}\u{8afe}:mike-\u{5e83}\u{544a}\r\n";
    std::fs::write(tree.path("users/mike/rules.ima"), encoding_rs::SHIFT_JIS.encode(rules).0).unwrap();
    let server = Server::start(&tree);
    let mut smtp = server.smtp();
    let header =
        "From: a@example.net\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=ISO-2022-JP\r\n";
    // "Congratulations, you have won", and "unasked advertisement", in ISO-2022-JP.
    smtp.deliver(ANN, &[MIKE], &format!("{header}Subject: =?ISO-2022-JP?B?GyRCJDRFdkEqGyhC?=\r\n\r\nx\r\n"));
    let body = encoding_rs::ISO_2022_JP.encode("\u{672a}\u{627f}\u{8afe}\u{5e83}\u{544a}").0;
    let body = String::from_utf8(body.into_owned()).unwrap();
    smtp.deliver(ANN, &[MIKE], &format!("{header}Subject: y\r\n\r\n{body}\r\n"));
    smtp.quit();
    let mut imap = server.imap("mike", "rocks");
    let count = imap.examine("INBOX");
    assert_eq!(count, 2, "the two old ones");
    for name in ["&j,dg0TDhMPww6w-", "&XoNUSg-"] {
        assert_eq!(imap.examine(name), 1, "{name}");
        let text = String::from_utf8_lossy(&imap.body(1)).into_owned();
        let field = text.lines().find(|line| line.starts_with("X-IMail-Rule: =?UTF-8?B?")).unwrap();
        assert!(field.is_ascii(), "{field}");
    }
    imap.logout();
}

/// Area, a text that is in it, one that is not, the whole of it.
type Row = [&'static str; 4];

const ENGLISH: [Row; 6] = [
    ["F", "boss@", "robot", "The Boss <boss@example\\.com>"],
    ["S", "WEEKLY", "Boss", "weekly update"],
    ["N", "robot", "boss", "The Robot <robot@example\\.com>"],
    ["T", "STAFF <a@", "c@", "The Staff <a@example\\.jp>, b@example\\.jp"],
    ["H", "Cc\\: The Others <c@", "hello", ".*Weekly update.*"],
    ["B", "says", "Weekly", "the text says hello\\."],
];
const JAPANESE: [Row; 6] = [
    ["F", "山田", "受付", "山田 <boss@example\\.com>"],
    ["S", "会議", "山田", "月曜日の会議"],
    ["N", "受付", "総務", "受付 <robot@example\\.com>"],
    ["T", "総務", "経理", "総務 <a@example\\.jp>, b@example\\.jp"],
    ["H", "経理", "行います", ".*月曜日の会議.*"],
    ["B", "月曜日に", "月曜日の", "会議は月曜日に行います。"],
];

/// Each of a row's conditions, and whether it holds.
fn conditions([area, inside, outside, whole]: Row) -> [(String, bool); 8] {
    [("~", inside, true), ("~", outside, false), ("=", whole, true), ("=", inside, false)]
        .map(|(operator, text, holds)| {
            ["", "!"].map(|not| (format!("{area}{not}{operator}{text}"), holds == not.is_empty()))
        })
        .concat()
        .try_into()
        .unwrap()
}

/// One user for each operator in each area, with a rule that consists of it; one message to all of them, in each language.
#[test]
fn every_operator_in_every_area_in_every_language() {
    let words = [
        (
            "us-ascii",
            ["The Boss", "The Staff", "The Robot", "The Others", "Weekly update"],
            "The text says hello.",
        ),
        ("iso-2022-jp", ["山田", "総務", "受付", "経理", "月曜日の会議"], "会議は月曜日に行います。"),
        ("utf-8", ["山田", "総務", "受付", "経理", "月曜日の会議"], "会議は月曜日に行います。"),
    ];
    for (charset, names, text) in words {
        let tree = Tree::quiet();
        let rows = if charset == "us-ascii" { ENGLISH } else { JAPANESE };
        let all: Vec<(String, bool)> = rows.into_iter().flat_map(conditions).collect();
        let users: Vec<String> = (0..all.len()).map(|number| format!("ruled{number}")).collect();
        let mut registry = tree.registry();
        for (user, (condition, _)) in users.iter().zip(&all) {
            let section = ini::user("mail.example.jp", user);
            registry = ini::put(&registry, &section, "Flags", "dword:00000080");
            let dir = tree.root().join("users").join(user);
            std::fs::create_dir(&dir).unwrap();
            // An old server's rules are in its code page, and those of today in UTF-8.
            let rule = format!("{condition}:box\r\n");
            let rule = match charset {
                "utf-8" => rule.into_bytes(),
                _ => encoding_rs::SHIFT_JIS.encode(&rule).0.into_owned(),
            };
            std::fs::write(dir.join("rules.ima"), rule).unwrap();
        }
        tree.save_registry(&registry);
        let [from, to, sender, cc, subject] = names.map(|name| word(charset, name));
        let body = String::from_utf8(encoded(charset, text)).unwrap();
        let message = format!(
            "From: {from} <boss@example.com>\r\nTo: {to} <a@example.jp>,\r\n b@example.jp\r\n\
             Sender: {sender} <robot@example.com>\r\nCc: {cc} <c@example.jp>\r\nMIME-Version: 1.0\r\n\
             Content-Type: text/plain; charset={charset}\r\nSubject: {subject}\r\n\r\n{body}\r\n"
        );
        let server = Server::start(&tree);
        let recipients: Vec<String> = users.iter().map(|user| format!("{user}@mail.example.jp")).collect();
        let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
        let mut smtp = server.smtp();
        smtp.deliver(BOB, &recipients, &message);
        smtp.quit();
        for (user, (condition, holds)) in users.iter().zip(&all) {
            let found = wait_for(&format!("the mail of {user}"), EDIT_LIMIT, || {
                let is_there = |name: &&str| tree.root().join("users").join(user).join(name).exists();
                ["box.mbx", "main.mbx"].into_iter().find(is_there)
            });
            let expected = if *holds { "box.mbx" } else { "main.mbx" };
            assert_eq!(found, expected, "{charset}: {condition}");
        }
    }
}

/// The rules of a list come before the list.
#[test]
fn rules_of_a_list() {
    const LIST: &str = "news@mail.example.jp";
    let tree = Tree::quiet();
    let rules = String::from_utf8(tree.read("Lists/news/rules.ima")).unwrap();
    let more = "S~to mike:mike-posts\r\nS~to ann:ann@example.org\r\nS~to a box:box\r\n";
    std::fs::write(tree.path("Lists/news/rules.ima"), rules + more).unwrap();
    std::fs::write(tree.path("Lists/news/list.ini"), "AllowPostingBy=Anyone\n").unwrap();
    std::fs::write(tree.path("Lists/news/users.lst"), "suzuki@mail.example.jp\r\n").unwrap();
    for (subject, goes, to) in [
        ("a [huge] file", "discarded", ""),
        ("to mike", "sent_on", "mike-posts@mail.example.jp"),
        ("to ann", "sent_on", "ann@example.org"),
        ("to a box", "list", ""),
    ] {
        let found = about(&tree, &mail(subject), &["--rcpt", LIST]);
        let first = found[0]["to"][0].as_str().unwrap_or_default();
        assert_eq!((found[0]["goes"].as_str().unwrap(), first), (goes, to), "{subject}");
    }
    let out = check(&tree, &[]).expect_code(1).out;
    assert!(out.contains("line 4 is not applied: lists have no mailboxes"), "{out}");
    let server = Server::start(&tree);
    let mut smtp = server.smtp();
    for subject in ["a [huge] file", "to mike", "to ann", "to a box"] {
        smtp.deliver(BOB, &[LIST], &mail(subject));
    }
    smtp.quit();
    server.wait_for_mail("suzuki", SUZUKI, "to a box");
    let sent = server.wait_for_mail("ann@example.org", "lovely99", "to ann");
    assert!(!String::from_utf8_lossy(&sent).contains("List-Id"), "it is sent on as it came");
    wait_for("the post for mike", EDIT_LIMIT, || {
        tree.root().join("users/mike/posts.mbx").exists().then_some(())
    });
    let subjects = server.pop3("suzuki", SUZUKI).subjects();
    assert!(
        !subjects.iter().any(|subject| subject.contains("huge") || subject.contains("mike")),
        "{subjects:?}"
    );
}

fn check(tree: &Tree, more: &[&str]) -> Run {
    run("imaild", &[&["check", "--root", tree.text()], more].concat())
}

/// What `check` says of a message, in JSON.
fn about(tree: &Tree, message: &str, more: &[&str]) -> Value {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), message).unwrap();
    let name = file.path().to_str().unwrap();
    let run = check(tree, &[&["--message", name, "--json"], more].concat()).expect_code(0);
    serde_json::from_str(&run.out).unwrap()
}

#[test]
fn check_says_where_a_message_would_go() {
    let tree = Tree::quiet();
    let before = tree.snapshot();
    for (message, recipient, expected) in cases() {
        let found = about(&tree, &message, &["--rcpt", recipient]);
        let (goes, to) = (&found[0]["goes"], found[0]["to"][0].as_str().unwrap_or_default());
        match expected {
            "" => assert_eq!(goes, "discarded", "{message}"),
            "main" => assert_eq!((goes.as_str().unwrap(), to), ("mailbox", "INBOX"), "{message}"),
            name => assert_eq!((goes.as_str().unwrap(), to), ("mailbox", name), "{message}"),
        }
    }
    let found = about(&tree, &mail("lottery"), &["--rcpt", MIKE]);
    let rule = &found[0]["rule"];
    assert_eq!((&rule["level"], &rule["line"]), (&"user".into(), &2.into()));
    assert_eq!(rule["text"], "<big>H~:spam:spambox");
    assert!(rule["file"].as_str().unwrap().ends_with("users/mike/rules.ima"), "{rule}");
    for (subject, sender, goes, to) in [
        ("confidential-sample", MIKE, "sent_on", "root@mail.example.jp"),
        ("confidential-sample", ANN, "sent_on", "root@mail.example.jp"),
        ("confidential-sample", "x@example.com", "elsewhere", ""),
        ("hello", MIKE, "elsewhere", ""),
    ] {
        let found = about(&tree, &mail(subject), &["--rcpt", "x@example.net", "--from", sender]);
        let first = found[0]["to"][0].as_str().unwrap_or_default();
        assert_eq!((found[0]["goes"].as_str().unwrap(), first), (goes, to), "{subject} {sender}");
    }
    assert!(before == tree.snapshot(), "check changed something");
}

#[test]
fn check_says_it_to_people() {
    let tree = Tree::quiet();
    let message = tree.root().join("message.eml");
    // Line ends as most editors write them.
    std::fs::write(&message, mail("lottery").replace("\r\n", "\n")).unwrap();
    let message = message.to_str().unwrap();
    let ask = |recipient: &str| check(&tree, &["--message", message, "--rcpt", recipient]).expect_code(0).out;
    let text = ask(MIKE);
    assert!(text.starts_with("mike@mail.example.jp: into the mailbox spambox\n    by line 2 of "), "{text}");
    assert!(text.ends_with("users/mike/rules.ima: <big>H~:spam:spambox\n"), "{text}");
    let text = ask("ghost@example.org");
    assert!(text.contains("not delivered: 550 5.1.1 unknown user"), "{text}");
    let text = ask("fax@mail.example.jp");
    assert!(text.contains("to the program of this alias"), "{text}");
    check(&tree, &["--message", message]).expect_code(2).expect_error(&["--rcpt"]);
    check(&tree, &["--message", "/no/such/file", "--rcpt", MIKE])
        .expect_code(2)
        .expect_error(&["/no/such/file"]);
}

#[test]
fn check_lists_lines_that_are_not_understood() {
    let tree = Tree::quiet();
    let rules = "S~a:box\r\nnonsense\r\nS~(:box\r\nS~b:gone@example.org\r\nS~c:ann@example.org\r\n";
    std::fs::write(tree.path("users/mike/rules.ima"), rules).unwrap();
    std::fs::write(tree.path("users/mike").join("box.fwd"), "ann@example.org,ghost@example.org").unwrap();
    std::fs::write(tree.path("orules.ima"), "S~a:box\r\n").unwrap();
    let out = check(&tree, &[]).expect_code(1).out;
    let lines: Vec<&str> = out.lines().filter(|line| line.starts_with("rule: ")).collect();
    assert_eq!(lines.len(), 4, "{out}");
    assert!(out.contains("box.fwd: forwards to ghost@example.org, which does not exist"), "{out}");
    for (file, part) in [
        ("users/mike/rules.ima", "line 2 is not understood and not applied: a condition is expected"),
        ("users/mike/rules.ima", "line 3 is not understood and not applied: the text is no pattern"),
        ("users/mike/rules.ima", "line 4 sends mail to gone@example.org, which does not exist"),
        ("orules.ima", "line 1 is not understood and not applied: an outbound rule sends mail to an address"),
    ] {
        assert!(lines.iter().any(|line| line.contains(file) && line.contains(part)), "{part}:\n{out}");
    }
}
