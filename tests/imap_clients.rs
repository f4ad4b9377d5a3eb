//! Real clients with the extensions: Python's IMAPClient, fetchmail over IMAP and POP3, offlineimap both ways.
//!
//! A client that is not installed is skipped with a word, unless `CI` is set: there everything must be there.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::client::{client, python_with, scratch, succeed};
use support::finish;
use support::sample::{SUZUKI, SUZUKI_SEEN};
use support::server::Server;
use support::tree::Tree;

/// A file that only its owner may read: both programs want that for passwords.
fn secret(path: &Path, text: &str) -> PathBuf {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    path.to_owned()
}

fn port(server: &Server, service: u16) -> String {
    server.address(service).port().to_string()
}

#[test]
fn imapclient_uses_the_extensions() {
    let Some(mut run) = python_with("imapclient") else { return };
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/imap_extensions.py");
    run.arg(script).args(["127.0.0.1", &port(&server, 143), "suzuki", SUZUKI]);
    succeed(&mut run);
}

/// Fetches everything once by each protocol, and nothing the second time.
#[test]
fn fetchmail_fetches_once() {
    if client("fetchmail").is_none() {
        return;
    }
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    for (protocol, service, options) in [("IMAP", 143, ""), ("POP3", 110, "uidl")] {
        let dir = scratch();
        let got = dir.path().join("got");
        let config = format!(
            "poll 127.0.0.1 service {} protocol {protocol} auth password {options}: user suzuki password {SUZUKI} sslproto '' \
             keep{} mda \"cat >> {}\"\n",
            port(&server, service),
            // What is read already is fetched too; with UIDL that would be so every time.
            if protocol == "IMAP" { " fetchall" } else { "" },
            got.display(),
        );
        let config = secret(&dir.path().join("fetchmailrc"), &config);
        let fetch = || {
            let mut fetchmail = Command::new("fetchmail");
            fetchmail.args([
                "--fetchmailrc",
                config.to_str().unwrap(),
                "--nosyslog",
                "--norewrite",
                "--invisible",
            ]);
            fetchmail.env("HOME", dir.path()).env("FETCHMAILHOME", dir.path());
            finish(fetchmail.stdin(Stdio::null()))
        };
        fetch().expect_code(0);
        let text = String::from_utf8_lossy(&fs::read(&got).unwrap()).into_owned();
        assert_eq!(text.matches("\nX-UIDL: ").count(), SUZUKI_SEEN.len(), "{protocol}: {text}");
        if protocol == "POP3" {
            // 1: there is nothing new.
            fetch().expect_code(1);
        }
    }
}

/// Copies the account both ways: the second run transfers nothing, and what was added here is there.
#[test]
fn offlineimap_works_both_ways() {
    if client("offlineimap").is_none() {
        return;
    }
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let dir = scratch();
    let store = dir.path().join("mail");
    let config = format!(
        "[general]\nmetadata = {}\naccounts = A\nui = basic\n\
         [Account A]\nlocalrepository = L\nremoterepository = R\n\
         [Repository L]\ntype = Maildir\nlocalfolders = {}\n\
         [Repository R]\ntype = IMAP\nremotehost = 127.0.0.1\nremoteport = {}\nremoteuser = suzuki\nremotepass = {SUZUKI}\n\
         ssl = no\nstarttls = no\nauth_mechanisms = CRAM-MD5, PLAIN, LOGIN\nfolderfilter = lambda name: name in ('INBOX', 'Sent')\n",
        dir.path().join("state").display(),
        store.display(),
        port(&server, 143),
    );
    let config = secret(&dir.path().join("offlineimaprc"), &config);
    let sync = || {
        let mut offlineimap = Command::new("offlineimap");
        offlineimap.args(["-o", "-c", config.to_str().unwrap()]).env("HOME", dir.path());
        succeed(&mut offlineimap)
    };
    sync();
    assert_eq!(count(&store.join("INBOX")), SUZUKI_SEEN.len());
    let again = sync();
    let said = again.out + &again.err;
    assert!(!said.contains("Copy message"), "{said}");
    fs::write(store.join("Sent/cur/1.local:2,S"), "Subject: from here\n\nx\n").unwrap();
    sync();
    let mut imap = server.imap("suzuki", SUZUKI);
    imap.ok("SELECT Sent");
    let found = imap.ok("SEARCH SEEN SUBJECT \"from here\"").text();
    assert!(found.trim_start_matches("* SEARCH").trim().parse::<u32>().is_ok(), "{found}");
}

fn count(maildir: &Path) -> usize {
    ["cur", "new"].iter().map(|part| fs::read_dir(maildir.join(part)).unwrap().count()).sum()
}
