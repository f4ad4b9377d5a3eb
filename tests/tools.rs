//! The companion programs on a tree that a running server serves: what they do takes effect at once, and nothing that
//! the server needs is taken away. `adduser` and `regcheck` are in `walk.rs` and `concurrent.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};
use support::sample::{PRIMARY, SUZUKI, VIRTUAL};
use support::server::Server;
use support::smtp::mail;
use support::tree::Tree;
use support::{EDIT_LIMIT, run, wait_for};

/// The password of `mike`.
const MIKE: &str = "rocks";

/// Makes a file look as if it was written so many days ago.
fn age(path: &Path, days: u64) {
    let file = File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(days * 24 * 3600)).unwrap();
}

/// Waits until the server takes mail for an address, and sends it one.
#[track_caller]
fn deliver_when_known(server: &Server, to: &str, subject: &str) {
    wait_for(&format!("{to} to be known"), EDIT_LIMIT, || {
        let mut smtp = server.smtp();
        (smtp.send("sender@example.net", &[to], &mail(subject)).code == 250).then_some(())
    });
}

/// Sends mail to an address until it arrives in a user's mailbox: until an alias is known, the sample's `nobody` takes it.
#[track_caller]
fn send_until_it_arrives(server: &Server, to: &str, subject: &str, user: &str, password: &str) {
    wait_for(&format!("mail for {to} to reach {user}"), EDIT_LIMIT, || {
        server.smtp().deliver("sender@example.net", &[to], &mail(subject));
        let mut pop3 = server.pop3(user, password);
        let found = pop3.subjects().iter().any(|text| text == subject);
        pop3.quit();
        found.then_some(())
    });
}

#[test]
fn aliases_are_in_force_without_a_restart() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let helpers = format!("helpers@{PRIMARY}");
    tree.tool("addalias", &["-a", "helpers=suzuki,mike"]).expect_code(0);
    send_until_it_arrives(&server, &helpers, "to two", "suzuki", SUZUKI);
    server.wait_for_mail("mike", MIKE, "to two");

    let five = "everyone=suzuki,mike,tanaka,user789,ann@example.org";
    tree.tool("addalias", &["-a", five]).expect_code(0);
    assert!(tree.registry().contains("everyone=C:\\IMail\\everyone.list"), "{}", tree.registry());
    send_until_it_arrives(&server, &format!("everyone@{PRIMARY}"), "to five", "user789", "Passw0rd!");
    server.wait_for_mail("ann@example.org", "lovely99", "to five");

    tree.tool("addalias", &["-d", "helpers"]).expect_code(0);
    send_until_it_arrives(&server, &helpers, "to nobody", "root", "Super-visor9");
}

#[test]
fn the_cleaner_takes_nothing_that_is_queued_or_of_today() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    // Nobody answers there: the mail waits.
    let queued = run(
        "imail1",
        &[
            "--root",
            tree.text(),
            "--from",
            "mike",
            "--to",
            "x@mail.invalid",
            "--subject",
            "waits",
            "--file",
            "/dev/null",
        ],
    );
    queued.expect_code(0);
    let orphan = tree.path("spool/D0123456789abcdef.SMD");
    std::fs::write(&orphan, b"cut off").unwrap();
    age(&orphan, 30);
    let spool = || -> Vec<String> {
        let entries = std::fs::read_dir(tree.path("spool")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let waits = |names: &[String]| {
        names.iter().filter(|name| name.starts_with(['D', 'Q']) && name.ends_with(".SMD")).count()
    };
    assert!(waits(&spool()) >= 2);
    for name in spool().iter().filter(|name| name.starts_with(['D', 'Q'])) {
        age(&tree.path("spool").join(name), 30);
    }
    server.smtp().deliver("sender@example.net", &[&format!("suzuki@{PRIMARY}")], &mail("logged"));
    let logs = || {
        let entries = std::fs::read_dir(tree.path("logs")).unwrap();
        entries
            .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with("sys"))
            .count()
    };
    wait_for("a log of today", EDIT_LIMIT, || (logs() == 2).then_some(()));
    let out = tree.tool("isplcln", &["-n", "1"]).expect_code(0).out;
    assert!(out.contains("D0123456789abcdef.SMD") && out.contains("sys20220825.txt"), "{out}");
    assert!(!orphan.exists() && logs() == 1);
    let left = spool();
    let paired = |name: &&String| name.starts_with('Q') && left.contains(&format!("D{}", &name[1..]));
    assert_eq!(left.iter().filter(paired).count(), 1, "{left:?}");
    server.wait_for_mail("suzuki", SUZUKI, "logged");
}

#[test]
fn mailboxes_in_use_are_checked_and_old_messages_expire() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let mut imap = server.imap("suzuki", SUZUKI);
    assert_eq!(support::imap::exists(&imap.ok("SELECT INBOX")), 8);
    let users = tree.path("users");
    let checked = run("mbxcheck", &[users.to_str().unwrap()]).expect_code(1);
    assert!(
        checked.out.contains("outlook.mbx: foreign") && checked.out.contains("1 with findings"),
        "{}",
        checked.text()
    );
    let main = tree.path("users/suzuki/Main.mbx");
    run("mbxcheck", &[main.to_str().unwrap(), "--rebuild"]).expect_code(0);
    assert_eq!(support::imap::exists(&imap.ok("EXAMINE INBOX")), 8);

    server.smtp().deliver("sender@example.net", &[&format!("suzuki@{PRIMARY}")], &mail("new"));
    server.wait_for_mail("suzuki", SUZUKI, "new");
    imap.ok("SELECT INBOX");
    tree.tool("immsgexp", &["--days", "30", "--mailbox", "INBOX", "--user", "suzuki"]).expect_code(0);
    wait_for("the open session to see it", EDIT_LIMIT, || {
        let answer = imap.ok("NOOP").text();
        answer.contains("EXPUNGE").then_some(())
    });
    let mut pop3 = server.pop3("suzuki", SUZUKI);
    assert_eq!(pop3.subjects(), ["new"]);
    pop3.quit();
}

#[test]
fn messages_from_programs_arrive() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let text = tree.path("notice.txt");
    std::fs::write(&text, "Server restarts at noon.\n").unwrap();
    let text = text.to_str().unwrap();
    tree.tool("imail1", &["--to", "suzuki,ann@example.org", "--subject", "by hand", "--file", text])
        .expect_code(0);
    let message = server.wait_for_mail("suzuki", SUZUKI, "by hand");
    assert!(String::from_utf8_lossy(&message).contains("Server restarts at noon."));
    server.wait_for_mail("ann@example.org", "lovely99", "by hand");

    tree.tool("mailall", &["--domain", VIRTUAL, "--subject", "to some", "--file", text]).expect_code(0);
    server.wait_for_mail("ann@example.org", "lovely99", "to some");
    tree.tool("mailall", &["--all", "--subject", "to all", "--file", text]).expect_code(0);
    for (user, password) in [("suzuki", SUZUKI), ("ann@example.org", "lovely99"), ("user789", "Passw0rd!")] {
        server.wait_for_mail(user, password, "to all");
    }
    let mut suzuki = server.pop3("suzuki", SUZUKI);
    assert!(!suzuki.subjects().contains(&"to some".to_owned()));
    suzuki.quit();
}

#[test]
fn domains_come_and_go_and_the_registry_comes_back() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    tree.tool("regback", &[]).expect_code(0);
    let out = tree.tool("adddomain", &["-h", "new.example", "-a", "also.new.example"]).expect_code(0).out;
    let password = out.split("password ").nth(1).unwrap().split(' ').next().unwrap();
    deliver_when_known(&server, "postmaster@also.new.example", "welcome");
    server.wait_for_mail("root@new.example", password, "welcome");
    assert!(tree.path("new_example/users/root/main.mbx").exists());

    let list = tree.tool("regback", &["--list"]).expect_code(0).out;
    tree.tool("regback", &["--restore", list.trim()]).expect_code(0);
    wait_for("the domain to be unknown", EDIT_LIMIT, || {
        let reply = server.smtp().send("sender@example.net", &["postmaster@new.example"], &mail("gone"));
        (reply.code != 250).then_some(())
    });
    deliver_when_known(&server, &format!("ann@{VIRTUAL}"), "still here");
}
