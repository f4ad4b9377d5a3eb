//! Aliases, forwards of mailboxes and automatic answers from outside, each with English and Japanese mail: manual 3-1, and what the rules, `.fwd`, `.inf`
//! and `vacation.ima` files of an old server do.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use mail_parser::MessageParser;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;
use support::letter::{LANGUAGES, written};
use support::readers::{readers, shows};
use support::sample::{PRIMARY, SUZUKI};
use support::server::Server;
use support::smtp::mail;
use support::tree::Tree;
use support::{ini, wait_for};

/// Longer than anything here takes on a loaded machine.
const LIMIT: Duration = Duration::from_secs(60);
const SENDER: &str = "sender@example.net";
/// Logins by name.
const LOGINS: [(&str, &str); 5] = [
    ("suzuki", SUZUKI),
    ("mike", "rocks"),
    ("tanaka", "hanami!55"),
    ("mr-fred", "abcdefghij"),
    ("root", "Super-visor9"),
];

/// The sample with these aliases of the primary domain as well.
fn tree(aliases: &[(&str, &str)]) -> Tree {
    let tree = Tree::quiet();
    let mut registry = tree.registry();
    for (name, value) in aliases {
        registry = ini::set(&registry, &ini::aliases(PRIMARY), name, value);
    }
    tree.save_registry(&registry);
    tree
}

/// From and text by subject, of one mailbox in IMAP.
fn mailbox(server: &Server, user: &str, name: &str) -> BTreeMap<String, (String, String)> {
    let (_, password) = LOGINS.into_iter().find(|(login, _)| *login == user).unwrap();
    let mut imap = server.imap(user, password);
    if !imap.try_command(&format!("EXAMINE \"{name}\"")).is_some_and(|answer| answer.is_ok()) {
        return BTreeMap::new();
    }
    let count = imap.examine(name);
    let read = |message: Vec<u8>| {
        let parsed = MessageParser::default().parse(&message).unwrap();
        let from = parsed.from().and_then(|from| from.first()).and_then(|from| from.address());
        let text = parsed.body_text(0).unwrap_or_default().trim().to_owned();
        (parsed.subject().unwrap_or_default().to_owned(), (from.unwrap_or_default().to_owned(), text))
    };
    (1..=count).map(|number| read(imap.body(number))).collect()
}

/// Every form of alias, and where its mail is found: `user` or `user/mailbox`, one or several.
const FORMS: [(&str, &str, &[&str]); 20] = [
    ("one", "suzuki", &["suzuki"]),
    ("four", "suzuki,mike@mail.example.jp, tanaka;mr-fred", &["suzuki", "mike", "tanaka", "mr-fred"]),
    ("blanks", "suzuki mike", &["suzuki", "mike"]),
    ("twice", "suzuki,SUZUKI@example.jp,one", &["suzuki"]),
    ("chain", "one", &["suzuki"]),
    ("circle", "circle2,mike", &["mike"]),
    ("circle2", "circle", &["mike"]),
    ("mr-fred-not", "suzuki", &["suzuki"]),
    ("box", "mike-sub", &["mike"]),
    ("madebox", "mike-made", &["mike/made"]),
    ("group", "C:\\IMail\\group.list", &["suzuki", "mike"]),
    ("oldgroup", "C:\\IMail\\old.lst", &["tanaka", "mr-fred"]),
    ("elsewhere", "D:\\lost\\moved.txt", &["suzuki"]),
    ("bare", "old.lst", &["tanaka", "mr-fred"]),
    ("quoted", "\"\\\"C:\\\\IMail\\\\group.list\\\"\"", &["suzuki", "mike"]),
    ("nested", "C:\\IMail\\nested.list", &["suzuki", "mike", "root"]),
    ("large", "C:\\IMail\\large.list", &["suzuki", "mike", "tanaka"]),
    ("listalias", "letters", &["mike"]),
    ("listserver", "imailsrv.exe letters", &["mike"]),
    ("nul", "mike-NUL", &[]),
];

#[test]
fn every_form_of_alias() {
    let aliases: Vec<(&str, &str)> = FORMS.iter().map(|(name, value, _)| (*name, *value)).collect();
    let tree = tree(&aliases);
    let write = |file: &str, content: &[u8]| std::fs::write(tree.path(file), content).unwrap();
    let staff = encoding_rs::SHIFT_JIS.encode("; 社員\r\n鈴木 <suzuki@mail.example.jp>\r\n\r\nmike\r\n").0;
    write("group.list", &staff);
    write("old.lst", b"tanaka\nmr-fred@example.jp");
    write("Lists/moved.txt", b"suzuki\r\n");
    write("nested.list", b"group\r\nroot\r\nnested\r\n");
    // One that is too large to be followed while a client waits.
    let many: String = (0..100).map(|number| format!("nobody-{number}@mail.example.jp\r\n")).collect();
    write("large.list", format!("{many}suzuki\r\nmike\r\ntanaka\r\n").as_bytes());
    write("users/mike/made.mbx", b"");
    std::fs::write(tree.path("users/tanaka/forward.ima"), "").unwrap();
    std::fs::create_dir_all(tree.path("Lists/letters")).unwrap();
    write("Lists/letters/users.lst", b"mike\r\n");
    write("Lists/letters/list.ini", b"AllowPostingBy=Anyone\nSkipDmarcFromReplacement=1\n");
    // Without `nobody`, the hundred that are nobody get nothing.
    let registry = tree.registry().replace("nobody=root\r\n", "").replace("nobody=root\n", "");
    assert!(!registry.contains("nobody=root"));
    tree.save_registry(&registry);
    let server = Server::start(&tree);
    let mut smtp = server.smtp();
    let mut expected: BTreeMap<&str, BTreeMap<String, (String, String)>> = BTreeMap::new();
    for (name, _, goes) in FORMS {
        for (charset, subject, text) in LANGUAGES {
            let (to, subject) = (format!("{name}@{PRIMARY}"), format!("{subject} {name}"));
            smtp.deliver(SENDER, &[&to], &written(SENDER, &to, charset, &subject, text));
            for place in goes {
                let there = expected.entry(place).or_default();
                there.insert(subject.clone(), (SENDER.to_owned(), text.to_owned()));
            }
        }
    }
    let reply = smtp.send(SENDER, &["who-is-this@mail.example.jp"], &mail("nobody"));
    assert_eq!(reply.code, 550, "{}", reply.text);
    smtp.quit();
    for (place, expected) in expected {
        let (user, name) = place.split_once('/').unwrap_or((place, "INBOX"));
        let mine = |all: &BTreeMap<String, (String, String)>| {
            let named =
                |subject: &&String| FORMS.iter().any(|(name, ..)| subject.ends_with(&format!(" {name}")));
            all.iter().filter(|(subject, _)| named(subject)).map(|(s, v)| (s.clone(), v.clone())).collect()
        };
        let mut found: BTreeMap<String, (String, String)> = BTreeMap::new();
        wait_for(&format!("mail for {place}; the server said {}", server.said()), LIMIT, || {
            found = mine(&mailbox(&server, user, name));
            (found.len() >= expected.len()).then_some(())
        });
        assert_eq!(found, expected, "{place}");
    }
}

/// `nobody` gets what nobody else does; the list server answers to its alias in each of its spellings; a group is edited by hand.
#[test]
fn nobody_and_the_list_server() {
    let tree = tree(&[
        ("imailsrv", "imailsrv.exe mail.example.jp"),
        ("listserv", "|D:\\old\\listserv.exe mail.example.jp"),
    ]);
    let server = Server::start(&tree);
    for (charset, subject, text) in LANGUAGES {
        let to = "who.is.this@mail.example.jp";
        server.smtp().deliver(SENDER, &[to], &written(SENDER, to, charset, subject, text));
        for server_name in ["imailsrv", "listserv", "IMAILSRV"] {
            let (from, to) = ("mike@mail.example.jp", format!("{server_name}@mail.example.jp"));
            let id = format!("<{charset}.{server_name}@x>");
            let mail = written(from, &to, charset, "", "help").replace("<1@x>", &id);
            server.smtp().deliver(from, &[&to], &mail);
        }
    }
    for (_, subject, text) in LANGUAGES {
        wait_for(&format!("{subject} for root"), LIMIT, || {
            let found = mailbox(&server, "root", "INBOX");
            (found.get(subject)?.1 == text).then_some(())
        });
    }
    wait_for("nine answers of the list server", LIMIT, || {
        let mut pop3 = server.pop3("mike", "rocks");
        let count = pop3.count();
        let answers = (1..=count).map(|number| pop3.block(&format!("RETR {number}")));
        let ours = answers.filter(|mail| {
            let text = String::from_utf8_lossy(mail);
            text.contains("Auto-Submitted: auto-replied") && text.contains("subscribe LIST")
        });
        (ours.count() == 9).then_some(())
    });
    let group = tree.read("staff.list");
    server.smtp().deliver(SENDER, &["staff@mail.example.jp"], &mail("before the edit"));
    server.wait_for_mail("mr-fred", "abcdefghij", "before the edit");
    std::fs::write(tree.path("staff.list"), [&*group, b"\r\nroot\r\n"].concat()).unwrap();
    server.smtp().deliver(SENDER, &["staff@mail.example.jp"], &mail("after the edit"));
    server.wait_for_mail("root", "Super-visor9", "after the edit");
    assert!(!server.pop3("root", "Super-visor9").subjects().contains(&"before the edit".to_owned()));
}

/// A program gets the message in a file whose name comes last, and on its standard input, as it was sent; one that is not allowed is not run.
#[test]
fn program_aliases() {
    let tree = tree(&[]);
    let script = tree.path("take.sh");
    let text = "#!/bin/sh\ncat > \"$1.$2.stdin\"\ncp \"$3\" \"$1.$2.file\" && rm \"$3\"\n";
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
    let (script, out) = (script.to_str().unwrap(), tree.path("out"));
    let mut registry = tree.registry();
    let value = format!("|{script} {} \"a word\"", out.display());
    registry = ini::set(&registry, &ini::aliases(PRIMARY), "program", &value);
    registry = ini::set(&registry, "[Global]", "AllowedPrograms", script);
    tree.save_registry(&registry);
    let server = Server::start(&tree);
    for (charset, subject, text) in LANGUAGES {
        for to in ["program@mail.example.jp", "fax@mail.example.jp"] {
            server.smtp().deliver(SENDER, &[to], &written(SENDER, to, charset, subject, text));
        }
        let (stdin, file) = (out.with_extension("a word.stdin"), out.with_extension("a word.file"));
        let got = wait_for(&format!("the program to run; the server said {}", server.said()), LIMIT, || {
            let (stdin, file) = (std::fs::read(&stdin).ok()?, std::fs::read(&file).ok()?);
            (!file.is_empty() && stdin == file).then_some(file)
        });
        let parsed = MessageParser::default().parse(&got).unwrap();
        assert_eq!(parsed.subject(), Some(subject));
        assert_eq!(parsed.body_text(0).unwrap().trim(), text);
        std::fs::remove_file(stdin).unwrap();
        std::fs::remove_file(file).unwrap();
    }
    wait_for("a word on the program that may not run", LIMIT, || {
        server.said().contains("fax.bat is not allowed to run").then_some(())
    });
}

/// A mailbox's `.fwd` sends on what a rule or an address brings there, once, and keeps a copy where it says so.
#[test]
fn forwards_of_mailboxes() {
    let tree = tree(&[]);
    let write = |file: &str, content: &str| std::fs::write(tree.path(file), content).unwrap();
    write("users/mike/away.mbx", "");
    write("users/mike/away.fwd", "root@mail.example.jp");
    write("users/mike/both.mbx", "");
    write("users/mike/both.fwd", ".,root");
    write("users/mike/round.mbx", "");
    write("users/mike/round.fwd", "mike-round@mail.example.jp");
    let server = Server::start(&tree);
    for (charset, subject, text) in LANGUAGES {
        for name in ["away", "both", "round"] {
            let (to, subject) = (format!("mike-{name}@mail.example.jp"), format!("{subject} {name}"));
            server.smtp().deliver(SENDER, &[&to], &written(SENDER, &to, charset, &subject, text));
        }
    }
    for (_, subject, text) in LANGUAGES {
        for (name, user, folder) in [
            ("away", "root", "INBOX"),
            ("both", "root", "INBOX"),
            ("both", "mike", "both"),
            ("round", "mike", "round"),
        ] {
            let subject = format!("{subject} {name}");
            let what = format!("{subject} in {user}/{folder}; the server said {}", server.said());
            let found = wait_for(&what, LIMIT, || mailbox(&server, user, folder).remove(&subject));
            assert_eq!(found, (SENDER.to_owned(), text.to_owned()), "{what}");
        }
    }
    assert_eq!(mailbox(&server, "mike", "away").len(), 0);
    assert_eq!(server.imap("mike", "rocks").examine("round"), LANGUAGES.len(), "once each");
}

/// A rule of a list that sends posts to somebody who forwards them to the list: they come to the members, and do not go round.
#[test]
fn a_rule_and_a_forward_make_no_loop() {
    let tree = tree(&[]);
    let list = |file: &str| tree.path("Lists/news").join(file);
    std::fs::write(list("list.ini"), "AllowPostingBy=Anyone\nSkipDmarcFromReplacement=1\n").unwrap();
    std::fs::write(list("users.lst"), "suzuki\r\n").unwrap();
    std::fs::write(list("rules.ima"), "S~round:mike-round\r\nS~again:root@mail.example.jp\r\n").unwrap();
    std::fs::write(tree.path("users/mike/round.mbx"), "").unwrap();
    std::fs::write(tree.path("users/mike/round.fwd"), "news@mail.example.jp").unwrap();
    std::fs::create_dir_all(tree.path("users/root")).unwrap();
    std::fs::write(tree.path("users/root/forward.ima"), "news@mail.example.jp").unwrap();
    let server = Server::start(&tree);
    for subject in ["round", "again", "straight"] {
        server.smtp().deliver(SENDER, &["news@mail.example.jp"], &mail(subject));
        server.wait_for_mail("suzuki", SUZUKI, subject);
    }
    wait_for("an empty spool", LIMIT, || tree.spool_is_empty().then_some(()));
    let subjects = server.pop3("suzuki", SUZUKI).subjects();
    for subject in ["round", "again", "straight"] {
        assert_eq!(subjects.iter().filter(|found| *found == subject).count(), 1, "{subjects:?}");
    }
}

/// `vacation.ima` of the INBOX and the `.inf` of a mailbox, in the old server's code page, answer English and Japanese mail with correct Japanese; `.inf.opt`
/// switches off and sends on.
#[test]
fn answers_are_correct_japanese() {
    let tree = tree(&[]);
    let write = |file: &str, content: &str| {
        std::fs::write(tree.path(file), encoding_rs::SHIFT_JIS.encode(content).0).unwrap();
    };
    write("users/mike/vacation.ima", "休暇中です。\r\n～①髙～\r\n");
    write("users/mike/info.mbx", "");
    write("users/mike/info.inf", "資料のご案内\r\n資料をお送りします。\r\n");
    write("users/mike/off.mbx", "");
    write("users/mike/off.inf", "送られない\r\nx\r\n");
    write("users/mike/off.inf.opt", "Enabled=0\r\nForward=root\r\n");
    write("users/mike/on.mbx", "");
    write("users/mike/on.inf", "転送しました\r\n転送済みです。\r\n");
    write("users/mike/on.inf.opt", "Enabled=1\r\nForward=root\r\n");
    let server = Server::start(&tree);
    // Vacation answers a sender once, so each language has a sender of its own.
    let senders = [("suzuki", SUZUKI), ("tanaka", "hanami!55"), ("mr-fred", "abcdefghij")];
    std::fs::write(tree.path("users/tanaka/forward.ima"), "").unwrap();
    let both = readers();
    for ((charset, subject, text), (sender, password)) in LANGUAGES.into_iter().zip(senders) {
        let from = format!("{sender}@mail.example.jp");
        for to in ["mike", "mike-info", "mike-off", "mike-on"].map(|to| format!("{to}@mail.example.jp")) {
            server.smtp().deliver(&from, &[&to], &written(&from, &to, charset, subject, text));
        }
        for (answer_from, answer, line) in [
            ("mike@mail.example.jp", format!("Re: {subject}"), "休暇中です。"),
            ("mike@mail.example.jp", format!("Re: {subject}"), "～①髙～"),
            ("mike@mail.example.jp", "資料のご案内".to_owned(), "資料をお送りします。"),
            ("mike@mail.example.jp", "転送しました".to_owned(), "転送済みです。"),
        ] {
            let what = format!("{answer} for {sender}; the server said {}", server.said());
            let got = wait_for(&what, LIMIT, || {
                let mut pop3 = server.pop3(sender, password);
                let newest_first = (1..=pop3.count()).rev();
                let mut all = newest_first.map(|number| pop3.block(&format!("RETR {number}")));
                all.find(|mail| MessageParser::default().parse(mail).unwrap().subject() == Some(&*answer))
            });
            if both {
                shows(&got, &answer, answer_from, &[line]);
            }
        }
        let subjects = server.pop3(sender, password).subjects().concat();
        assert!(!subjects.contains("送られない"), "{subjects}");
    }
    // Every message is in the mailbox that it came to, or where that sends it.
    assert_eq!(mailbox(&server, "mike", "info").len(), LANGUAGES.len());
    assert_eq!(mailbox(&server, "mike", "off").len(), LANGUAGES.len());
    wait_for("what was sent on", LIMIT, || {
        (mailbox(&server, "root", "INBOX").len() == LANGUAGES.len()).then_some(())
    });
}
