//! Server, companion programs, editors and other mail programs at once: nothing is lost, nothing
//! is half read.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use support::sample::{ACCOUNTS, PRIMARY, SUZUKI, VIRTUAL};
use support::server::Server;
use support::smtp::mail;
use support::tree::Tree;
use support::{EDIT_LIMIT, ini, wait_for};

/// How long the slow editor takes between the first and the second half of a file.
const HALF_SAVED: Duration = Duration::from_millis(400);

/// Users added in each of two programs running at once.
const USERS: usize = 10;

/// Rounds of the slow editor.
const ROUNDS: usize = 4;

/// Messages by each sender.
const MESSAGES: usize = 25;

/// Two programs add users while a third person's mail comes in.
#[test]
fn two_programs_add_users_at_once() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    thread::scope(|scope| {
        for group in ["left", "right"] {
            let tree = &tree;
            scope.spawn(move || {
                for number in 0..USERS {
                    let id = format!("{group}{number}");
                    tree.tool("adduser", &["-h", VIRTUAL, "-u", &id, "-p", "pass1234"]).expect_code(1);
                }
            });
        }
    });
    let text = tree.registry();
    for group in ["left", "right"] {
        for number in 0..USERS {
            let section = ini::user(VIRTUAL, &format!("{group}{number}"));
            assert_eq!(text.matches(&section).count(), 1, "{section}");
        }
    }
    wait_for("the last users to be known", EDIT_LIMIT, || {
        let known = |user: &str| server.pop3_takes(user, "pass1234");
        (known("left9@example.org") && known("right9@example.org")).then_some(())
    });
}

/// An editor that truncates the registry and takes its time to write it, while a program wants
/// to add a user and everybody logs in: the program waits or refuses, nobody is locked out, and
/// what was reported as done is there at the end.
#[test]
fn a_slow_editor_and_adduser() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let done = AtomicBool::new(false);
    let added = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for (user, password, _) in ACCOUNTS {
                    assert!(server.pop3_takes(user, password), "{user} is locked out meanwhile");
                }
            }
        });
        let mut added = Vec::new();
        for round in 0..ROUNDS {
            let text = ini::comment(&tree.registry(), &ini::user(PRIMARY, "mike"), &format!("round {round}"));
            let id = format!("during{round}");
            let program = thread::scope(|inner| {
                let mut half = begin_slow_save(&tree, &text);
                let program = inner.spawn(|| tree.tool("adduser", &["-u", &id, "-p", "pass1234"]));
                thread::sleep(HALF_SAVED);
                half.write_all(&text.as_bytes()[text.len() / 2..]).unwrap();
                drop(half);
                program.join().unwrap()
            });
            match program.code {
                1 => added.push(id.clone()),
                _ => program.expect_error(&["registry.ini"]),
            }
        }
        done.store(true, Ordering::Relaxed);
        added
    });
    let text = tree.registry();
    for id in &added {
        assert!(text.contains(&ini::user(PRIMARY, id)), "{id} was reported as added and is lost");
    }
    for round in 0..ROUNDS {
        assert!(text.contains(&format!("; round {round}")), "the editor's line of round {round} is lost");
    }
    assert_eq!(text.trim_end().lines().last(), Some(ini::END_LINE));
    for id in &added {
        wait_for("the login of an added user", EDIT_LIMIT, || {
            server.pop3_takes(id, "pass1234").then_some(())
        });
    }
}

/// Truncates the file and writes its first half.
fn begin_slow_save(tree: &Tree, text: &str) -> std::fs::File {
    let mut file = OpenOptions::new().write(true).truncate(true).open(tree.path("registry.ini")).unwrap();
    file.write_all(&text.as_bytes()[..text.len() / 2]).unwrap();
    file
}

/// Several senders, one reader who removes what it has fetched, one other mail program that
/// appends under the lock that mail programs agree on: every message is seen exactly once.
#[test]
fn every_message_arrives_once() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let subject = |sender: usize, number: usize| format!("sender {sender} message {number}");
    let mut expected: HashSet<String> =
        (0..2).flat_map(|sender| (0..MESSAGES).map(move |number| subject(sender, number))).collect();
    expected.extend((0..MESSAGES).map(|number| format!("foreign {number}")));
    let mut fetched = Vec::new();
    thread::scope(|scope| {
        for sender in 0..2 {
            let server = &server;
            scope.spawn(move || {
                let mut smtp = server.smtp();
                for number in 0..MESSAGES {
                    smtp.deliver(
                        "a@example.net",
                        &["suzuki@mail.example.jp"],
                        &mail(&subject(sender, number)),
                    );
                }
            });
        }
        scope.spawn(|| (0..MESSAGES).for_each(|number| append_foreign(&tree, number)));
        fetched = wait_for("all messages", Duration::from_secs(60), || {
            fetched.extend(fetch_and_remove(&server));
            (fetched.len() >= expected.len()).then(|| std::mem::take(&mut fetched))
        });
    });
    let unique: HashSet<String> = fetched.iter().cloned().collect();
    assert_eq!(unique.len(), fetched.len(), "a message was fetched twice");
    assert_eq!(unique, expected);
    assert_eq!(server.pop3("suzuki", SUZUKI).count(), 8, "the old messages are still there");
}

/// Fetches and removes the messages that this test has sent; gives their subjects.
fn fetch_and_remove(server: &Server) -> Vec<String> {
    let mut pop3 = server.pop3("suzuki", SUZUKI);
    let mut found = Vec::new();
    for (index, subject) in pop3.subjects().into_iter().enumerate() {
        if subject.starts_with("sender ") || subject.starts_with("foreign ") {
            let number = index + 1;
            let message = String::from_utf8(pop3.block(&format!("RETR {number}"))).unwrap();
            assert!(message.ends_with(&format!("Text of {subject}.\r\n")), "half a message:\n{message}");
            pop3.ok(&format!("DELE {number}"));
            found.push(subject);
        }
    }
    pop3.quit();
    found
}

/// Appends a message as a classic delivery program does: flock, append, unlock.
fn append_foreign(tree: &Tree, number: usize) {
    let path = tree.path("users/suzuki/Main.mbx");
    loop {
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.lock().unwrap();
        let message = format!(
            "From <x@example.net> Mon Aug  1 00:00:00 2022\r\nSubject: foreign {number}\r\n\r\nText of foreign {number}.\r\n\r\n"
        );
        // The file may have been replaced while we waited for the lock.
        if is_still_there(&file, &path) {
            file.write_all(message.as_bytes()).unwrap();
            return;
        }
    }
}

fn is_still_there(file: &std::fs::File, path: &std::path::Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (open, named) = (file.metadata().unwrap(), std::fs::metadata(path).unwrap());
    (open.dev(), open.ino()) == (named.dev(), named.ino())
}

/// What got its 250 survives the worst end of the process, and no half message is served.
#[test]
fn accepted_mail_survives_a_kill() {
    let tree = Tree::quiet();
    let mut server = Server::start(&tree);
    let mut accepted = 0;
    for round in 0..3 {
        let stop_after = 10 + round * 7;
        let mut smtp = server.smtp();
        for _ in 0..stop_after {
            smtp.deliver("a@example.net", &["suzuki@mail.example.jp"], &mail(&format!("kill {accepted}")));
            accepted += 1;
        }
        smtp.command("MAIL FROM:<a@example.net>");
        smtp.command("RCPT TO:<suzuki@mail.example.jp>");
        let (_, ports) = server.kill();
        server = Server::start_on(&tree, ports);
    }
    let expected: Vec<String> = (0..accepted).map(|number| format!("kill {number}")).collect();
    wait_for("every accepted message", EDIT_LIMIT, || {
        let mut pop3 = server.pop3("suzuki", SUZUKI);
        let subjects: Vec<String> =
            pop3.subjects().into_iter().filter(|text| text.starts_with("kill ")).collect();
        pop3.quit();
        (subjects == expected).then_some(())
    });
}

/// What an IMAP client was told is so after the worst end of the process: appended messages are there under their UIDs, removed
/// ones are gone, flags are as they were set. A client goes on until the server dies under it. `IMAILD_KILLS` asks for more rounds.
#[test]
fn what_imap_acknowledged_survives_a_kill() {
    let tree = Tree::quiet();
    let mut server = Server::start(&tree);
    let mut told = Told::default();
    let rounds = std::env::var("IMAILD_KILLS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(4);
    for round in 0..rounds {
        let imap = server.imap("user789", "Passw0rd!");
        let client = thread::spawn(move || go_on(imap, told));
        // The client must be at work when it happens.
        thread::sleep(Duration::from_millis(150 + 61 * round % 400));
        let (_, ports) = server.kill();
        told = client.join().unwrap();
        server = Server::start_on(&tree, ports);
        told.check(&mut server.imap("user789", "Passw0rd!"));
    }
    assert!(told.stored.len() > 4, "the client did nothing");
    eprintln!("{} messages appended, {} removed, {rounds} kills", told.stored.len(), told.removed.len());
}

/// What the client was told.
#[derive(Default)]
struct Told {
    /// UID and subject of what is stored.
    stored: Vec<(u32, String)>,
    flagged: HashSet<u32>,
    /// Whose flag was taken away again.
    plain: HashSet<u32>,
    removed: HashSet<u32>,
    /// What was asked for last and not answered.
    asked: HashSet<u32>,
    highest: u32,
    named: usize,
}

impl Told {
    fn check(&mut self, imap: &mut support::imap::Imap) {
        imap.ok("SELECT INBOX");
        let answer = imap.ok("UID FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])");
        let found: Vec<(u32, String)> = answer.untagged.iter().filter_map(|line| fetched(line)).collect();
        assert!(found.is_sorted_by(|one, other| one.0 < other.0), "UIDs do not ascend");
        for (uid, subject) in &self.stored {
            let message = found.iter().find(|(known, _)| known == uid);
            let Some((_, text)) = message else {
                assert!(self.removed.contains(uid) || self.asked.contains(uid), "{subject} is lost");
                continue;
            };
            assert!(!self.removed.contains(uid), "{subject} came back");
            assert!(text.contains(subject.as_str()), "{uid}: {text}");
            let has_flag = text.contains("\\Flagged");
            assert!(!self.flagged.contains(uid) || has_flag, "{uid} lost its flag: {text}");
            assert!(!self.plain.contains(uid) || !has_flag, "{uid} has its flag again: {text}");
        }
        // What was not answered may have happened or not; from now on it is as it was found.
        let here: HashSet<u32> = found.iter().map(|(uid, _)| *uid).collect();
        self.removed.extend(self.asked.drain().filter(|uid| !here.contains(uid)));
        self.highest = self.highest.max(found.last().map_or(0, |(uid, _)| *uid));
    }
}

/// UID and text of a FETCH answer.
fn fetched(line: &[u8]) -> Option<(u32, String)> {
    let text = String::from_utf8_lossy(line).into_owned();
    let digits = text.split("UID ").nth(1)?.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((digits.parse().ok()?, text))
}

/// Appends, flags and removes until the server is gone.
fn go_on(mut imap: support::imap::Imap, mut told: Told) -> Told {
    if imap.try_command("SELECT INBOX").is_none() {
        return told;
    }
    loop {
        told.named += 1;
        let subject = format!("kill {} of imap.", told.named);
        let Some(answer) = imap.try_append("INBOX", &mail(&subject)) else { return told };
        let uid: u32 = answer.status.split([' ', ']']).nth(3).unwrap().parse().unwrap();
        assert!(uid > told.highest, "UID {uid} was given before");
        told.highest = uid;
        told.stored.push((uid, subject));
        if imap.try_command(&format!("UID STORE {uid} +FLAGS (\\Flagged)")).is_none() {
            return told;
        }
        told.flagged.insert(uid);
        let (other, _) = told.stored[told.stored.len() / 3];
        if told.named.is_multiple_of(2) && !told.removed.contains(&other) && told.flagged.remove(&other) {
            if imap.try_command(&format!("UID STORE {other} -FLAGS.SILENT (\\Flagged)")).is_none() {
                return told;
            }
            told.plain.insert(other);
        }
        let (gone, _) = told.stored[told.stored.len() / 2];
        if told.named.is_multiple_of(3) && !told.removed.contains(&gone) {
            told.asked.insert(gone);
            let marked = imap.try_command(&format!("UID STORE {gone} +FLAGS.SILENT (\\Deleted)"));
            if marked.is_none() || imap.try_command(&format!("UID EXPUNGE {gone}")).is_none() {
                return told;
            }
            told.asked.remove(&gone);
            told.removed.insert(gone);
        }
    }
}
