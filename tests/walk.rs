//! The walk of an admin who moves: copy the directory, import the exports, serve, and go on
//! working: old passwords, old mail, new mail, new users, edits by hand, `regcheck`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use std::time::Instant;
use support::imap::Imap;
use support::pop3::Pop3;
use support::sample::{ACCOUNTS, LOCKED, PRIMARY, SUZUKI, VIRTUAL};
use support::server::Server;
use support::smtp::{Smtp, mail};
use support::tree::Tree;
use support::{EDIT_LIMIT, fixture, ini, run, wait_for};

/// Login names of `suzuki`: alone, with every delimiter of the sample's `HostDelimiters`, by the
/// domain alias, in another case.
const SPELLINGS: [&str; 9] = [
    "suzuki",
    "suzuki@mail.example.jp",
    "suzuki#mail.example.jp",
    "suzuki$mail.example.jp",
    "suzuki%mail.example.jp",
    "suzuki&mail.example.jp",
    "suzuki*mail.example.jp",
    "suzuki@example.jp",
    "SUZUKI@Mail.Example.JP",
];

/// The whole walk in one piece.
#[test]
fn a_copied_directory_comes_alive() {
    let tree = Tree::copied();
    let report = tree.import(&["software.reg", "system.reg"], &[]).expect_code(0).out;
    for word in [PRIMARY, VIRTUAL, "sato", "fax", "news"] {
        assert!(report.contains(word), "the report does not mention {word}:\n{report}");
    }
    assert_eq!(tree.registry().trim_end().lines().last(), Some(ini::END_LINE));

    let server = Server::start(&tree);
    for (user, password, count) in ACCOUNTS {
        let held = server.pop3(user, password).count();
        assert!(held >= count, "{user} has {held} messages instead of {count}");
        server.imap(user, password).logout();
    }
    server.smtp().deliver("mike@example.net", &["suzuki@mail.example.jp"], &mail("first after the move"));
    server.wait_for_mail("suzuki", SUZUKI, "first after the move");

    let added = tree.tool("adduser", &["-h", VIRTUAL, "-f", &fixture("bulk/ID-names.txt")]);
    added.expect_code(1);
    wait_for("the login of a user added meanwhile", EDIT_LIMIT, || {
        server.pop3_takes("sasaki@example.org", "pass0031").then_some(())
    });
    server.smtp().deliver("mike@example.net", &["sasaki@example.org"], &mail("welcome"));
    server.wait_for_mail("sasaki@example.org", "pass0031", "welcome");

    let edited = ini::set(&tree.registry(), &ini::aliases(VIRTUAL), "hello", "suzuki@mail.example.jp");
    tree.save_registry(&edited);
    wait_for("an alias that was added by hand", EDIT_LIMIT, || {
        let reply = server.smtp().send("a@example.net", &["hello@example.org"], &mail("by the new alias"));
        (reply.code == 250).then_some(())
    });
    server.wait_for_mail("suzuki", SUZUKI, "by the new alias");
    let (status, _) = server.stop();
    assert!(status.success(), "an orderly stop ends with {status}");
    tree.tool("regcheck", &[]).expect_code(1);
}

/// What the manual tells admins to look for with telnet (6-1-2).
#[test]
fn greetings_have_the_manuals_shape() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    assert_eq!(server.smtp().greeting, "220 mail.example.jp (IMail 12 1-1) NT-ESMTP Server X1");
    assert_eq!(
        Pop3::open(server.address(110)).greeting,
        "+OK X1 NT-POP3 Server mail.example.jp (IMail 12 1-1)"
    );
    let imap = Imap::open(server.address(143));
    assert_eq!(imap.greeting, "* OK IMAP4 Server (IMail 12)");
    imap.bare_line_ends("quit");
    let mut pop3 = Pop3::open(server.address(110));
    pop3.ok("quit");
    assert_eq!(Smtp::open(server.address(25)).command("quit").code, 221);
}

#[test]
fn every_spelling_of_a_login_works() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    for spelling in SPELLINGS {
        assert!(server.pop3_takes(spelling, SUZUKI), "POP3 does not know {spelling}");
        server.imap(spelling, SUZUKI).logout();
    }
    assert!(!server.pop3_takes("suzuki", "Sakura2022"), "the case of a password matters");
    assert!(!server.pop3_takes("ann", "lovely99"), "users of a domain without address need its name");
}

/// Manual 2-1 (13): no login by any service, but mail is still taken.
#[test]
fn locked_accounts_stay_locked_and_still_get_mail() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    for (user, password) in LOCKED {
        assert!(!server.pop3_takes(user, password), "POP3 lets {user} in");
        assert!(Imap::login(server.address(143), user, password).is_err(), "IMAP lets {user} in");
        let mut smtp = server.smtp();
        let plain = base64(format!("\0{user}\0{password}").as_bytes());
        let reply = smtp.command(&format!("AUTH PLAIN {plain}"));
        assert!((500..600).contains(&reply.code), "SMTP lets {user} in: {} {}", reply.code, reply.text);
    }
    let before = tree.read("users/yamada/Main.mbx");
    server.smtp().deliver("a@example.net", &["yamada@mail.example.jp"], &mail("for later"));
    wait_for("mail in the mailbox of a disabled account", EDIT_LIMIT, || {
        let now = tree.read("users/yamada/Main.mbx");
        (now.starts_with(&before) && contains(&now, b"Subject: for later")).then_some(())
    });
}

#[test]
fn authentication_by_smtp_accepts_the_old_password() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let mut smtp = server.smtp();
    assert!(smtp.extensions.iter().any(|line| line.starts_with("AUTH ")), "{:?}", smtp.extensions);
    assert_eq!(smtp.command("AUTH LOGIN").code, 334);
    assert_eq!(smtp.command(&base64(b"suzuki@example.jp")).code, 334);
    assert_eq!(smtp.command(&base64(SUZUKI.as_bytes())).code, 235);
    smtp.quit();
    let mut smtp = server.smtp();
    let reply = smtp.command(&format!("AUTH PLAIN {}", base64(b"\0ann@example.org\0lovely99")));
    assert_eq!(reply.code, 235, "{}", reply.text);
}

/// Without a login nobody sends through us (manual 6-1-3).
#[test]
fn strangers_reach_local_users_only() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let mut smtp = server.smtp();
    assert_eq!(smtp.send("a@example.net", &["b@example.com"], &mail("relay")).code, 550);
    assert_eq!(smtp.send("a@example.net", &["no-such-user@example.org"], &mail("unknown")).code, 550);
    assert_eq!(smtp.send("", &["suzuki@mail.example.jp"], &mail("a bounce")).code, 250);
    server.wait_for_mail("suzuki", SUZUKI, "a bounce");
    let stored = tree.read("users/suzuki/Main.mbx");
    assert!(contains(&stored, b"\r\nFrom <> "), "the null sender is written as IMail writes it");
}

/// One message by each way of naming a recipient.
#[test]
fn aliases_groups_forwards_and_mailboxes_lead_home() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let cases: [(&str, &str, &str, &str); 10] = [
        ("postmaster@mail.example.jp", "root", "Super-visor9", "by standard alias"),
        ("support@example.jp", "tanaka", "hanami!55", "by alias of an alias"),
        ("sales@mail.example.jp", "ann@example.org", "lovely99", "by alias to another domain"),
        ("staff@mail.example.jp", "mr-fred", "abcdefghij", "by group file"),
        ("office@mail.example.jp", "mike", "rocks", "by group file below Lists"),
        ("team@example.org", "ann@example.org", "lovely99", "by group of the other domain"),
        ("somebody-unknown@mail.example.jp", "root", "Super-visor9", "by nobody"),
        ("tanaka@mail.example.jp", "ann@example.org", "lovely99", "by forward with a copy"),
        ("bob@example.org", "mike", "rocks", "by forward alone"),
        ("SUZUKI@MAIL.EXAMPLE.JP", "suzuki", SUZUKI, "in capitals"),
    ];
    for (recipient, user, password, subject) in cases {
        server.smtp().deliver("mike@example.net", &[recipient], &mail(subject));
        server.wait_for_mail(user, password, subject);
    }
    server.wait_for_mail("tanaka", "hanami!55", "by forward with a copy");
    assert!(
        !server.pop3("bob@example.org", "builder1").subjects().contains(&"by forward alone".to_owned()),
        "a forward without `.` keeps no copy"
    );
    server.smtp().deliver("a@example.net", &["mr-fred-account@mail.example.jp"], &mail("into a mailbox"));
    wait_for("mail in mailbox account", EDIT_LIMIT, || {
        (server.imap("mr-fred", "abcdefghij").examine("account") == 2).then_some(())
    });
}

/// The three lines that IMail puts last into the header, and the separator.
#[test]
fn new_mail_is_stored_as_imail_stores_it() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let before = tree.read("users/suzuki/Main.mbx");
    let forged =
        "X-UIDL: 1\r\nStatus: R\r\nSubject: forged lines\r\n\r\nFrom here on it is text.\r\n.dot\r\n";
    server.smtp().deliver("mike@example.net", &["suzuki@example.jp"], forged);
    let message = server.wait_for_mail("suzuki", SUZUKI, "forged lines");
    let text = String::from_utf8(message).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let head = format!("{head}\r\n");
    assert!(
        head.starts_with(
            "Return-Path: <mike@example.net>\r\nReceived: from client.example.net [127.0.0.1] by "
        )
    );
    assert_eq!(head.matches("\r\nX-UIDL: ").count(), 1, "a forged X-UIDL is dropped:\n{head}");
    assert!(head.contains("\r\nX-UIDL: 967151562\r\n"), "the next number after the highest one:\n{head}");
    assert!(head.contains("\r\nX-RCPT-TO: <suzuki@example.jp>\r\n"), "{head}");
    assert_eq!(body, "From here on it is text.\r\n.dot\r\n");

    let now = tree.read("users/suzuki/Main.mbx");
    let added = String::from_utf8(now.strip_prefix(&before[..]).expect("only appended").to_vec()).unwrap();
    let separator = added.lines().next().unwrap();
    assert!(separator.starts_with("From <mike@example.net> "), "{separator}");
    assert_eq!(separator.len(), "From <mike@example.net> ".len() + "Thu Aug 25 09:12:33 2022".len());
    assert!(added.ends_with(".dot\r\n\r\n"), "one empty line after the message");
    assert!(!tree.path("users/suzuki/Main.uid").exists() && tree.path("users/suzuki/Main.uid.bak").exists());
}

/// Accepted by the old server minutes before it was switched off.
#[test]
fn mail_that_waited_in_the_spool_is_delivered() {
    let tree = Tree::imported();
    let server = Server::start(&tree);
    server.wait_for_mail("ann@example.org", "lovely99", "Accepted just before the move");
    wait_for("the finished pair to leave the spool", EDIT_LIMIT, || {
        (!tree.path("spool/Q7c1e0000b0010c44.SMD").exists()).then_some(())
    });
    assert!(tree.path("spool/T0001.unknown").exists(), "files of no known kind stay");
}

#[test]
fn pop3_removes_at_quit_only() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let mut pop3 = server.pop3("tanaka", "hanami!55");
    pop3.ok("DELE 1");
    pop3.ok("RSET");
    pop3.ok("DELE 2");
    drop(pop3);
    assert_eq!(server.pop3("tanaka", "hanami!55").count(), 3, "a broken session removes nothing");
    let mut pop3 = server.pop3("tanaka", "hanami!55");
    pop3.ok("DELE 2");
    pop3.quit();
    assert_eq!(server.pop3("tanaka", "hanami!55").uidl(), ["900000001", "900000007"]);
    let mut pop3 = server.pop3("mike", "rocks");
    pop3.block("RETR 2");
    pop3.quit();
    let mut imap = server.imap("mike", "rocks");
    imap.examine("INBOX");
    assert_eq!(imap.seen(), [true, true], "RETR marks as read");
    wait_for("the mark in the file", EDIT_LIMIT, || {
        contains(&tree.read("users/mike/Main.mbx"), b"X-UIDL: 230371286\r\nStatus: R\r\n").then_some(())
    });
}

/// Flags, copies, new folders and removal, seen again after a restart.
#[test]
fn imap_changes_outlive_a_restart() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let mut imap = server.imap("suzuki", SUZUKI);
    imap.ok("SELECT INBOX");
    imap.ok("STORE 2 +FLAGS (\\Seen \\Flagged)");
    imap.ok("CREATE \"New.Place\"");
    imap.ok("COPY 3 \"New.Place\"");
    imap.ok("STORE 8 +FLAGS (\\Deleted)");
    imap.ok("EXPUNGE");
    let append = imap.with_literal("APPEND Draft (\\Draft)", b"Subject: draft\r\n\r\nNot yet sent.\r\n");
    assert!(append.is_ok(), "{}", append.status);
    imap.logout();
    let (status, ports) = server.stop();
    assert!(status.success(), "{status}");

    let server = Server::start_on(&tree, ports);
    let mut imap = server.imap("suzuki", SUZUKI);
    assert_eq!(imap.examine("INBOX"), 7);
    assert!(imap.flags()[1].contains(&"\\Flagged".to_owned()) && imap.seen()[1]);
    assert_eq!(imap.examine("New.Place"), 1);
    assert!(tree.path("users/suzuki/New.Place.mbx").exists(), "the name on the wire is the name on disk");
    assert_eq!(imap.examine("Draft"), 1);
    let draft = String::from_utf8(imap.body(1)).unwrap();
    assert!(
        draft.starts_with("Subject: draft\r\n") && draft.ends_with("\r\n\r\nNot yet sent.\r\n"),
        "{draft}"
    );
}

/// Each change by hand is in force within five seconds of the file being whole.
#[test]
fn edits_by_hand_take_effect() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let commented = ini::comment(&tree.registry(), &ini::user(PRIMARY, "mike"), "asked for by Mike's boss");
    tree.save_registry(&ini::set(&commented, &ini::user(PRIMARY, "mike"), "Flags", "dword:00000081"));
    let start = Instant::now();
    wait_for("the account to be disabled", EDIT_LIMIT, || {
        (!server.pop3_takes("mike", "rocks")).then_some(())
    });
    assert!(start.elapsed().as_secs() < 5, "in force only after {:?}", start.elapsed());

    std::fs::write(tree.path("Lists/office.lst"), "suzuki\r\ntanaka\r\n").unwrap();
    std::fs::write(tree.path("users/suzuki/forward.ima"), ".,root\r\n").unwrap();
    wait_for("the edited group file and forward", EDIT_LIMIT, || {
        server.smtp().deliver("a@example.net", &["office@mail.example.jp"], &mail("to the office"));
        let reached =
            |user, password| server.pop3(user, password).subjects().contains(&"to the office".to_owned());
        (reached("tanaka", "hanami!55") && reached("root", "Super-visor9")).then_some(())
    });

    tree.tool("adduser", &["-u", "after", "-p", "pass1234", "-n", "After the edit"]).expect_code(1);
    let text = tree.registry();
    assert!(text.contains("; asked for by Mike's boss"), "a comment survives a program's edit");
    assert_eq!(text.matches("Flags=dword:00000081").count(), 2, "so does the edited value");
    assert_eq!(text.trim_end().lines().last(), Some(ini::END_LINE));
}

/// The admin gives up the way back: each old password is stored the new way at its next login, and goes on working.
#[test]
fn old_passwords_are_upgraded_when_there_is_no_way_back() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    server.pop3("suzuki", SUZUKI).quit();
    assert!(!tree.registry().contains("{ARGON2ID}"), "while the tree may go back to IMail");
    tree.save_registry(&ini::set(&tree.registry(), "[Global]", "ReturnToIMail", "dword:00000000"));
    wait_for("the upgraded password", EDIT_LIMIT + EDIT_LIMIT, || {
        server.pop3("suzuki", SUZUKI).quit();
        tree.registry().contains("{ARGON2ID}").then_some(())
    });
    assert_eq!(tree.registry().matches("{ARGON2ID}").count(), 1, "only of those who logged in");
    wait_for("the new configuration", EDIT_LIMIT, || server.output().matches("in force").nth(1).map(drop));
    assert!(server.pop3_takes("suzuki", SUZUKI) && !server.pop3_takes("suzuki", "sakura2023"));
    server.imap("suzuki", SUZUKI).logout();
}

/// Manual 2-1, "Last Login", by any protocol; manual 5, a service that logs nowhere.
#[test]
fn logins_are_remembered_and_logs_obey_their_setting() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let about =
        |user: &str| run("imaild", &["check", "--root", tree.text(), "--user", user]).expect_code(0).out;
    assert!(!about("suzuki@mail.example.jp").contains("(POP3)"));
    server.pop3("suzuki", SUZUKI).quit();
    server.imap("ann@example.org", "lovely99").logout();
    assert!(about("suzuki@mail.example.jp").contains("(POP3)"), "{}", about("suzuki@mail.example.jp"));
    assert!(about("ann@example.org").contains("(IMAP)"));

    let logged = || {
        let logs = std::fs::read_dir(tree.path("logs")).unwrap();
        // The socket by which the server is told what to do is there, too.
        let files = logs.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
        let texts = files.map(|file| std::fs::read(file).unwrap());
        texts.map(|text| String::from_utf8_lossy(&text).into_owned()).collect::<String>()
    };
    wait_for("the lines of the logins", EDIT_LIMIT, || {
        (logged().contains("POP3D(") && logged().contains("logon success for ann example.org")).then_some(())
    });
    assert!(!logged().contains(SUZUKI), "no passwords in logs");
    let service = "[Services\\POP3D32\\Parameters]";
    tree.save_registry(&ini::put(&tree.registry(), service, "LogTo", "None"));
    wait_for("a login that is not logged", EDIT_LIMIT, || {
        let before = logged().matches("POP3D(").count();
        server.pop3("mike", "rocks").quit();
        std::thread::sleep(std::time::Duration::from_millis(200));
        (logged().matches("POP3D(").count() == before).then_some(())
    });
}

/// A mailbox that another program appends to or rewrites is seen as it is now.
#[test]
fn mailboxes_changed_by_other_programs_are_read_anew() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let mut imap = server.imap("mike", "rocks");
    assert_eq!(imap.examine("INBOX"), 2);
    let path = tree.path("users/mike/Main.mbx");
    let old = tree.read("users/mike/Main.mbx");
    let more = b"From <x@example.net> Mon Aug  1 00:00:00 2022\r\nSubject: by hand\r\nX-UIDL: 230371290\r\nStatus: U\r\n\r\nx\r\n\r\n";
    std::fs::write(&path, [&old[..], &more[..]].concat()).unwrap();
    wait_for("the appended message", EDIT_LIMIT, || {
        (imap.ok("NOOP").text().contains("* 3 EXISTS")).then_some(())
    });
    assert_eq!(server.pop3("mike", "rocks").uidl()[2], "230371290");
    std::fs::write(&path, &more[..]).unwrap();
    wait_for("the rewritten mailbox", EDIT_LIMIT, || {
        (server.pop3("mike", "rocks").uidl() == ["230371290"]).then_some(())
    });
}

/// A file that is cut off in the middle neither takes the server down nor empties its
/// configuration, and programs keep their hands off it.
#[test]
fn a_half_saved_registry_leaves_the_old_one_in_force() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let whole = tree.registry();
    let half: String = whole.chars().take(whole.chars().count() / 2).collect();
    let mentions = || server.said().matches("registry.ini").count();
    let before = mentions();
    tree.save_registry(&half);
    wait_for("a log line about the cut registry", EDIT_LIMIT, || (mentions() > before).then_some(()));
    for (user, password, _) in ACCOUNTS {
        assert!(server.pop3_takes(user, password), "{user} is locked out by a half-saved file");
    }
    let refused = tree.tool("adduser", &["-u", "toosoon", "-p", "pass1234"]).expect_code(0);
    refused.expect_error(&["registry.ini", "end of registry.ini"]);
    assert_eq!(tree.registry(), half, "nothing is written into a file that is cut off");
    let check = support::run("imaild", &["check", "--root", tree.text()]).expect_code(1);
    assert!(check.text().contains("registry.ini"), "{}", check.text());

    let repaired = ini::set(&whole, &ini::aliases(PRIMARY), "repaired", "suzuki");
    tree.save_registry(&repaired);
    wait_for("the whole file to be in force", EDIT_LIMIT, || {
        let reply = server.smtp().send("a@example.net", &["repaired@mail.example.jp"], &mail("repaired"));
        (reply.code == 250).then_some(())
    });
}

/// A broken line costs its own value and is named with file and line number.
#[test]
fn a_broken_line_is_named_and_the_rest_works() {
    let tree = Tree::quiet();
    let text = ini::set(&tree.registry(), &ini::user(PRIMARY, "mike"), "MaxSize", "dword:zzz");
    let number = 1 + text.lines().position(|line| line == "MaxSize=dword:zzz").unwrap();
    tree.save_registry(&text);
    let check = support::run("imaild", &["check", "--root", tree.text()]).expect_code(1).text();
    assert!(check.contains("registry.ini") && check.contains(&number.to_string()), "{check}");
    let server = Server::start(&tree);
    server.pop3("mike", "rocks").quit();
    server.pop3("suzuki", SUZUKI).quit();
}

/// Manual 6-2, with the address of the old server still in the registry.
#[test]
fn regcheck_says_what_is_wrong() {
    let tree = Tree::quiet();
    let lines = faults(&tree.tool("regcheck", &[]).expect_code(1).out);
    assert_eq!(
        lines,
        [
            "Starting Domain Registry check",
            "Primary Host mail.example.jp address is 192.0.2.10",
            "Domain IP / system IP mismatch - mail.example.jp Address - 192.0.2.10",
            "Domain registry check complete",
        ]
    );
    let wrong = ini::set(&tree.registry(), &format!("[Domains\\{PRIMARY}]"), "Address", "192.0.2.11");
    tree.save_registry(&wrong);
    let lines = faults(&tree.tool("regcheck", &[]).expect_code(1).out);
    assert!(
        lines.contains(
            &"Domain / official mismatch: official - mail.example.jp Address - 192.0.2.11".to_owned()
        ),
        "{lines:?}"
    );
}

/// The address is mapped at import: nothing is wrong, and the server finds the domain by it.
#[test]
fn a_mapped_address_is_clean() {
    let tree = Tree::copied();
    tree.import(&["software.reg", "system.reg"], &["--map-ip", "192.0.2.10=127.0.0.1"]).expect_code(0);
    let lines = faults(&tree.tool("regcheck", &[]).expect_code(0).out);
    assert_eq!(lines[1], "Primary Host mail.example.jp address is 127.0.0.1");
    assert_eq!(lines.len(), 3, "{lines:?}");
}

/// Any spelling of the export gives the same server.
#[test]
fn every_kind_of_export_gives_the_same_server() {
    for file in ["software-regedit4.reg", "software-utf8.reg"] {
        let tree = Tree::copied();
        tree.import(&[file], &[]).expect_code(0);
        let text = tree.registry();
        for name in ["鈴木 一郎", "田中 花子", "佐藤 能子", "表示能力"] {
            assert!(text.contains(name), "{file}: {name} is not readable in registry.ini");
        }
        let server = Server::start(&tree);
        for (user, password, _) in ACCOUNTS {
            assert!(server.pop3_takes(user, password), "{file}: {user} cannot log in");
        }
    }
}

/// There and back: what export writes, import reads to the same registry.
#[test]
fn export_gives_back_what_came() {
    let tree = Tree::quiet();
    let out = tree.path("back.reg");
    let run = ["export", "--root", tree.text(), "--out", out.to_str().unwrap()];
    support::run("imaild", &run).expect_code(0);
    let bytes = std::fs::read(&out).unwrap();
    let words: Vec<u16> = bytes.chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    let text = String::from_utf16(&words).unwrap();
    assert!(text.starts_with("\u{feff}Windows Registry Editor Version 5.00\r\n\r\n"));
    for (file, root) in [("software.reg", "SOFTWARE\\Wow6432Node"), ("system.reg", "SYSTEM")] {
        let came = sections(&support::fixtures().join("registry").join(file));
        let went = sections_of(&text);
        for (key, values) in came {
            let now =
                went.iter().find(|(name, _)| *name == key).unwrap_or_else(|| panic!("{root}: {key} is lost"));
            for value in values {
                assert!(now.1.contains(&value), "{key}: {value} came in and does not go out: {:?}", now.1);
            }
        }
    }
}

/// The lines of regcheck's output without the local addresses, which differ by machine.
fn faults(output: &str) -> Vec<String> {
    let lines = output.lines().map(str::trim_end).filter(|line| !line.is_empty());
    lines.filter(|line| !line.starts_with("System IP found - ")).map(str::to_owned).collect()
}

/// Keys of an export with their values, continuation lines joined.
fn sections(path: &std::path::Path) -> Vec<(String, Vec<String>)> {
    let bytes = std::fs::read(path).unwrap();
    let words: Vec<u16> = bytes.chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    sections_of(&String::from_utf16(&words).unwrap())
}

fn sections_of(text: &str) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.replace("\\\r\n  ", "").split("\r\n").skip(1).filter(|line| !line.is_empty()) {
        if line.starts_with('[') {
            found.push((line.to_owned(), Vec::new()));
        } else if let Some((_, values)) = found.last_mut() {
            values.push(line.to_owned());
        }
    }
    found
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
