//! Reading changes nothing: after import, serve and a client that only looks, every file of the
//! old server has the same bytes; unique ids and read marks are those that IMail wrote.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use support::pop3::subject;
use support::sample::{ACCOUNTS, SUZUKI, SUZUKI_FOLDERS, SUZUKI_FOREIGN, SUZUKI_SEEN, SUZUKI_UIDL};
use support::server::Server;
use support::tree::{Tree, assert_same_bytes};
use support::{EDIT_LIMIT as LETTERS_LIMIT, wait_for};

#[test]
fn reading_everything_changes_no_byte() {
    let tree = Tree::quiet();
    let before = tree.snapshot();
    let server = Server::start(&tree);
    for (user, password, count) in ACCOUNTS {
        read_by_pop3(&server, user, password, count);
        read_by_imap(&server, user, password);
    }
    assert_same_bytes(&before, &tree.snapshot());
    let (status, _) = server.stop();
    assert!(status.success(), "{status}");
    assert_same_bytes(&before, &tree.snapshot());
}

#[test]
fn import_alone_changes_no_byte() {
    let tree = Tree::copied();
    let before = tree.snapshot();
    tree.import(&["software.reg", "system.reg"], &["--dry-run"]).expect_code(0);
    assert!(before == tree.snapshot(), "a dry run writes nothing");
    tree.import(&["software.reg", "system.reg"], &[]).expect_code(0);
    for (path, bytes) in &before {
        assert!(std::fs::read(tree.root().join(path)).unwrap() == *bytes, "{} has changed", path.display());
    }
    let made: Vec<_> = tree.snapshot().into_keys().filter(|path| !before.contains_key(path)).collect();
    for path in made {
        let text = path.to_str().unwrap().to_lowercase();
        let expected = ["registry.ini", "registry.ini.good", "registry.lck", "lists/news/list.ini"];
        assert!(expected.contains(&text.as_str()), "import made {text}");
    }
}

#[test]
fn check_changes_no_byte() {
    let tree = Tree::quiet();
    let before = tree.snapshot();
    let check = support::run("imaild", &["check", "--root", tree.text()]);
    assert!(check.code == 0 || check.code == 1, "{check:?}");
    assert!(before == tree.snapshot(), "check changed something");
}

/// Clients that leave mail on the server fetch nothing twice.
#[test]
fn unique_ids_are_those_that_imail_wrote() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let mut pop3 = server.pop3("suzuki", SUZUKI);
    assert_eq!(pop3.uidl(), SUZUKI_UIDL);
    assert_eq!(pop3.ok("UIDL 7"), format!("7 {}", SUZUKI_UIDL[6]));
    pop3.quit();
    assert_eq!(server.pop3("tanaka", "hanami!55").uidl(), ["900000001", "900000002", "900000007"]);
    let mut imap = server.imap("suzuki", SUZUKI);
    imap.examine("INBOX");
    let uids = imap.ok("UID SEARCH ALL").text();
    assert_eq!(uids, format!("* SEARCH {}", SUZUKI_UIDL.join(" ")), "ascending ids are the UIDs too");
}

#[test]
fn read_marks_are_those_of_the_status_lines() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let mut imap = server.imap("suzuki", SUZUKI);
    assert_eq!(imap.examine("INBOX"), SUZUKI_SEEN.len());
    assert_eq!(imap.seen(), SUZUKI_SEEN);
    for (name, seen) in SUZUKI_FOLDERS {
        assert_eq!(imap.examine(name), seen.len(), "{name}");
        if !seen.is_empty() {
            assert_eq!(imap.seen(), seen, "{name}");
        }
    }
}

#[test]
fn every_folder_is_listed_once() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let names = server.imap("suzuki", SUZUKI).mailboxes();
    assert!(names.contains(&"INBOX".to_owned()), "{names:?}");
    for (name, _) in SUZUKI_FOLDERS {
        assert_eq!(names.iter().filter(|listed| *listed == name).count(), 1, "{name} in {names:?}");
    }
    assert!(!names.iter().any(|name| name.eq_ignore_ascii_case("main")), "main is the INBOX: {names:?}");
}

/// Old mail arrives as IMail served it, whatever its encoding.
#[test]
fn old_mail_is_served_unharmed() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let file = tree.read("users/suzuki/Main.mbx");
    let mut pop3 = server.pop3("suzuki", SUZUKI);
    let mut imap = server.imap("suzuki", SUZUKI);
    assert_eq!(imap.examine("INBOX"), pop3.count());
    for number in 1..=pop3.count() {
        let top = pop3.block(&format!("TOP {number} 1000"));
        assert!(position(&file, &top).is_some(), "message {number} does not stand in the file as served");
        let body = imap.body(number);
        assert_eq!(without_status(&top), body, "message {number}: IMAP gives the same without Status");
    }
    let third = String::from_utf8(imap.body(3)).unwrap();
    for line in [
        "From here on the numbers",
        "From <ann@example.org> wrote:",
        ">From <ann@example.org> Mon",
        "..and one",
    ] {
        assert!(third.contains(&format!("\r\n{line}")), "{line:?} is not in:\n{third}");
    }
    let fourth = imap.body(4);
    assert!(position(&fourth, b"\x95\x5c\x8c\x76\x8e\x5a").is_some(), "Shift_JIS bytes stay as they are");
    assert_eq!(subject(&imap.body(7)), "Fwd: Question about an order");
}

/// A binary file with the name of a mailbox is left alone, with a word that says so.
#[test]
fn foreign_files_are_refused_and_kept() {
    let tree = Tree::quiet();
    let before = tree.read("users/suzuki/outlook.mbx");
    let server = Server::start(&tree);
    let mut imap = server.imap("suzuki", SUZUKI);
    for command in ["EXAMINE", "SELECT"] {
        let answer = imap.command(&format!("{command} {SUZUKI_FOREIGN}"));
        assert!(answer.status.starts_with("NO [CORRUPTION]"), "{command}: {}", answer.status);
    }
    let append = imap.command(&format!("STATUS {SUZUKI_FOREIGN} (MESSAGES)"));
    assert!(!append.is_ok(), "{}", append.status);
    assert_eq!(tree.read("users/suzuki/outlook.mbx"), before);
}

/// Marking one message read changes one byte, and only that.
#[test]
fn marking_read_changes_one_byte() {
    let tree = Tree::quiet();
    let before = tree.read("users/suzuki/Main.mbx");
    let server = Server::start(&tree);
    let mut imap = server.imap("suzuki", SUZUKI);
    imap.ok("SELECT INBOX");
    imap.ok("STORE 2 +FLAGS (\\Seen)");
    // Letters are written once a second.
    let after = wait_for("the mark in the file", LETTERS_LIMIT, || {
        Some(tree.read("users/suzuki/Main.mbx")).filter(|now| *now != before)
    });
    assert_eq!(before.len(), after.len());
    let changed: Vec<_> = (0..before.len()).filter(|at| before[*at] != after[*at]).collect();
    assert_eq!(changed.len(), 1, "changed bytes: {changed:?}");
    assert_eq!((before[changed[0]], after[changed[0]]), (b'U', b'R'));
    imap.ok("STORE 2 -FLAGS (\\Seen)");
    wait_for("the mark taken back", LETTERS_LIMIT, || {
        (tree.read("users/suzuki/Main.mbx") == before).then_some(())
    });
}

fn read_by_pop3(server: &Server, user: &str, password: &str, count: usize) {
    let mut pop3 = server.pop3(user, password);
    assert_eq!(pop3.count(), count, "{user}");
    pop3.block("LIST");
    pop3.block("UIDL");
    for number in 1..=count {
        pop3.block(&format!("TOP {number} 10"));
    }
    pop3.quit();
}

fn read_by_imap(server: &Server, user: &str, password: &str) {
    let mut imap = server.imap(user, password);
    for name in imap.mailboxes() {
        let answer = imap.command(&format!("EXAMINE \"{name}\""));
        if answer.is_ok() && support::imap::exists(&answer) > 0 {
            imap.ok("FETCH 1:* (FLAGS UID INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY.PEEK[])");
            imap.ok("SEARCH TEXT x");
        }
        imap.command(&format!("STATUS \"{name}\" (MESSAGES UNSEEN UIDNEXT UIDVALIDITY RECENT)"));
    }
    imap.logout();
}

fn position(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// The message without its `Status` line, as IMAP shows it.
fn without_status(message: &[u8]) -> Vec<u8> {
    let head = position(message, b"\r\n\r\n").expect("a header") + 2;
    let status = position(&message[..head], b"\r\nStatus: ").expect("a Status line") + 2;
    let end = status + position(&message[status..], b"\r\n").unwrap() + 2;
    [&message[..status], &message[end..]].concat()
}
