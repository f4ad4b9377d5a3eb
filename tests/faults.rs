//! Faults below the server: a full disk, a directory that cannot be written, a mailbox that another program holds. The sender is told to
//! come again or the mail waits in the spool, the log says why, and nothing is missing when the fault is gone.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};
use support::server::{Ports, Server};
use support::smtp::mail;
use support::tree::Tree;
use support::wait_for;

const MIKE: &str = "mike@mail.example.jp";
const PASSWORD: &str = "rocks";
/// What `mike` has before.
const OLD: usize = 2;
/// How long a log line or a delivery may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A file system that is mounted; it is taken away when the test lets go of it.
struct Mount(PathBuf);

impl Mount {
    fn new(arguments: &[&str], dir: &Path) -> Option<Mount> {
        mount(arguments, dir).then(|| Mount(dir.to_owned()))
    }

    /// A small file system in memory in the place of a directory, with the same files in it. `None`, with a word, where mounting is not
    /// allowed: nothing else answers "no space left" to a program that may write. With `CI` set that is a failure.
    fn small(dir: &Path, kilobytes: u32) -> Option<Mount> {
        let aside = tempfile::tempdir().unwrap();
        copy(dir, aside.path());
        let mounted = Mount::new(&["-t", "tmpfs", "-o", &format!("size={kilobytes}k"), "tmpfs"], dir);
        match mounted {
            Some(_) => copy(aside.path(), dir),
            None if std::env::var_os("CI").is_some() => {
                panic!("a small tmpfs cannot be mounted: run as root")
            }
            None => eprintln!(
                "SKIPPED: a small tmpfs cannot be mounted, run as root for the tests of a full disk"
            ),
        }
        mounted
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(arguments: &[&str], dir: &Path) -> bool {
    let run = Command::new("mount").args(arguments).arg(dir).output();
    run.is_ok_and(|output| output.status.success())
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap();
    assert!(status.success());
}

/// Takes every byte that is left.
fn fill(dir: &Path) -> PathBuf {
    let path = dir.join("filler");
    let mut file = File::create(&path).unwrap();
    for size in [64 << 10, 4 << 10, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
    path
}

/// What waits in the spool.
fn queued(tree: &Tree) -> Vec<PathBuf> {
    let entries = fs::read_dir(tree.path("spool")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with('Q')).collect()
}

/// Mail for `mike` is taken, waits, and the log says why.
#[track_caller]
fn waits(server: &Server, tree: &Tree, subject: &str, why: &[&str]) {
    server.smtp().deliver("sender@example.net", &[MIKE], &mail(subject));
    assert_eq!(queued(tree).len(), 1);
    wait_for(&format!("a log line with one of {why:?}"), LIMIT, || {
        let said = server.said();
        said.lines()
            .any(|line| line.contains(MIKE) && why.iter().any(|text| line.contains(text)))
            .then_some(())
    });
}

/// The fault is gone: what waits is delivered at the next try, once, and what was there before is there.
#[track_caller]
fn comes(server: &Server, tree: &Tree, subject: &str) {
    // The next try is asked for as administrators do it.
    wait_for("an empty queue", LIMIT, || {
        for path in queued(tree) {
            if let Ok(file) = File::options().append(true).open(path) {
                file.set_modified(SystemTime::now()).unwrap();
            }
        }
        queued(tree).is_empty().then_some(())
    });
    server.wait_for_mail("mike", PASSWORD, subject);
    let mut pop3 = server.pop3("mike", PASSWORD);
    assert_eq!(pop3.subjects().len(), OLD + 1);
    pop3.quit();
}

#[test]
fn the_disk_of_the_mailboxes_is_full() {
    let tree = Tree::quiet();
    let Some(_mount) = Mount::small(&tree.path("users/mike"), 256) else { return };
    let server = Server::start(&tree);
    let filler = fill(&tree.path("users/mike"));
    waits(&server, &tree, "no room", &["No space left"]);
    fs::remove_file(filler).unwrap();
    comes(&server, &tree, "no room");
}

#[test]
fn the_whole_disk_is_full() {
    let tree = Tree::quiet();
    let Some(_mount) = Mount::small(tree.root(), 8 << 10) else { return };
    let server = Server::start(&tree);
    server.pop3("mike", PASSWORD).quit();
    let filler = fill(tree.root());
    // Small ones are kept in memory until they are whole, large ones are not. (A few bytes would fit into the last page of a file.)
    for size in [20 << 10, 600 << 10] {
        let message = mail("refused") + &"a line of text\r\n".repeat(size / 16);
        let reply = server.smtp().send("sender@example.net", &[MIKE], &message);
        assert!((400..500).contains(&reply.code), "{reply:?}");
    }
    // The logs are on the same disk.
    wait_for("a word about it", LIMIT, || server.output().contains("No space left").then_some(()));
    assert_eq!(queued(&tree), [""; 0].map(PathBuf::from));
    fs::remove_file(filler).unwrap();
    server.smtp().deliver("sender@example.net", &[MIKE], &mail("taken"));
    comes(&server, &tree, "taken");
}

#[test]
fn a_directory_that_cannot_be_written() {
    let tree = Tree::quiet();
    let dir = tree.path("users/mike");
    let server = Server::start(&tree);
    let bound = Mount::new(&["--bind", dir.to_str().unwrap()], &dir);
    if bound.is_some() && mount(&["-o", "remount,bind,ro"], &dir) {
        waits(&server, &tree, "read-only", &["Read-only"]);
    } else {
        // Permissions do not stop root; this stops everybody.
        fs::rename(&dir, tree.path("users/mike.aside")).unwrap();
        fs::write(&dir, "no directory").unwrap();
        waits(&server, &tree, "read-only", &["ot a directory"]);
        fs::remove_file(&dir).unwrap();
        fs::rename(tree.path("users/mike.aside"), &dir).unwrap();
    }
    drop(bound);
    comes(&server, &tree, "read-only");
}

#[test]
fn a_mailbox_that_another_program_holds() {
    let tree = Tree::quiet();
    let server = Server::start_with(&tree, Ports::reserve(), &["--lock-patience", "1"]);
    let mailbox = File::options().read(true).write(true).open(tree.path("users/mike/Main.mbx")).unwrap();
    mailbox.lock().unwrap();
    let others = "suzuki@mail.example.jp";
    waits(&server, &tree, "locked", &["is locked by another program"]);
    // Nobody else has to wait for it.
    server.smtp().deliver("sender@example.net", &[others], &mail("not locked"));
    assert_eq!(queued(&tree).len(), 1);
    // A try while it is still held changes nothing but the number of tries.
    let path = queued(&tree).remove(0);
    let tried = |text: &str| fs::read_to_string(&path).unwrap_or_default().contains(text).then_some(());
    wait_for("the first try from the queue", LIMIT, || tried("\nT1\r\n"));
    assert_eq!(queued(&tree).len(), 1);
    mailbox.unlock().unwrap();
    comes(&server, &tree, "locked");
}
