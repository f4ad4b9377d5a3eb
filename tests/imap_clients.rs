//! Real clients that work on mailboxes: Python's IMAPClient, fetchmail and mutt over IMAP and POP3, offlineimap and mbsync both ways.
//!
//! A client that is not installed is skipped with a word, unless `CI` is set: there everything must be there.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use support::client::{client, python_with, scratch, succeed};
use support::finish;
use support::imap::Imap;
use support::sample::{SUZUKI, SUZUKI_SEEN};
use support::server::Server;
use support::smtp::mail;
use support::tree::Tree;
use support::wait_for;

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

/// Fetches what is new once by each protocol, and nothing the second time: IMAP knows what was read, POP3 what was fetched.
#[test]
fn fetchmail_fetches_once() {
    if client("fetchmail").is_none() {
        return;
    }
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let unread = SUZUKI_SEEN.iter().filter(|seen| !**seen).count();
    for (protocol, service, options, new) in
        [("IMAP", 143, "", unread), ("POP3", 110, "uidl", SUZUKI_SEEN.len())]
    {
        let dir = scratch();
        let got = dir.path().join("got");
        let config = format!(
            "poll 127.0.0.1 service {} protocol {protocol} auth password {options}: user suzuki password {SUZUKI} sslproto '' \
             keep mda \"cat >> {}\"\n",
            port(&server, service),
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
        assert_eq!(text.matches("\nX-UIDL: ").count(), new, "{protocol}: {text}");
        // 1: there is nothing new.
        fetch().expect_code(1);
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

/// What a client that transfers something says.
const TRANSFERS: [&str; 5] = ["BODY.PEEK[]", "APPEND", "STORE", "EXPUNGE", "COPY"];

/// Keeps two mailboxes the same from both ends: new mail, flags and removals go each way; a run after that transfers nothing.
#[test]
fn mbsync_works_both_ways() {
    if client("mbsync").is_none() {
        return;
    }
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let dir = scratch();
    let store = dir.path().join("mail");
    fs::create_dir(&store).unwrap();
    let config = format!(
        "IMAPAccount imaild\nHost 127.0.0.1\nPort {}\nUser suzuki\nPass {SUZUKI}\nSSLType None\nAuthMechs LOGIN\n\
         \nIMAPStore far\nAccount imaild\n\
         \nMaildirStore near\nPath {}/\nInbox {}/INBOX\nSubFolders Verbatim\n\
         \nChannel all\nFar :far:\nNear :near:\nPatterns INBOX Sent\nSync All\nCreate Both\nExpunge Both\nSyncState *\n",
        port(&server, 143),
        store.display(),
        store.display(),
    );
    let config = secret(&dir.path().join("mbsyncrc"), &config);
    let sync = || {
        let mut mbsync = Command::new("mbsync");
        // What goes over the network is printed.
        succeed(mbsync.args(["-Dn", "-c", config.to_str().unwrap(), "all"]).env("HOME", dir.path())).out
    };
    let nothing = || {
        let (near, far) = (files(&store), counts(&server));
        let said = sync();
        let asked: Vec<&str> = said.lines().filter(|line| line.starts_with(">>> ")).collect();
        for word in TRANSFERS {
            assert!(!asked.iter().any(|line| line.contains(word)), "{word}: {asked:#?}");
        }
        assert_eq!(files(&store), near);
        assert_eq!(counts(&server), far);
    };
    let (inbox, sent) = (store.join("INBOX"), store.join("Sent"));
    sync();
    assert_eq!((count(&inbox), count(&sent)), (SUZUKI_SEEN.len(), 2));
    nothing();

    // From the server to the client.
    let mut imap = server.imap("suzuki", SUZUKI);
    imap.ok("SELECT INBOX");
    imap.with_literal("APPEND INBOX (\\Flagged)", mail("from there").as_bytes());
    imap.ok("UID STORE 967151554 +FLAGS (\\Answered)");
    imap.ok("UID STORE 967151553 -FLAGS (\\Seen)");
    imap.ok("UID STORE 967151561 +FLAGS (\\Deleted)");
    imap.ok("UID EXPUNGE 967151561");
    sync();
    assert_eq!(count(&inbox), SUZUKI_SEEN.len());
    assert_eq!(flags_near(&inbox, "Subject: from there"), "F");
    assert_eq!(flags_near(&inbox, "X-UIDL: 967151554"), "R");
    assert_eq!(flags_near(&inbox, "X-UIDL: 967151553"), "");
    assert!(find(&inbox, "X-UIDL: 967151561").is_none(), "what was removed is still here");
    nothing();

    // From the client to the server.
    let new = sent.join("cur/1.local:2,S");
    fs::write(&new, mail("from here").replace("\r\n", "\n")).unwrap();
    set_flags(&inbox, "X-UIDL: 967151555", "FS");
    set_flags(&inbox, "X-UIDL: 967151554", "");
    set_flags(&inbox, "X-UIDL: 967151556", "ST");
    sync();
    imap.ok("SELECT INBOX");
    assert_eq!(flags_far(&mut imap, "UID 967151555"), ["\\Flagged", "\\Seen"]);
    assert_eq!(flags_far(&mut imap, "UID 967151554"), [""; 0]);
    assert_eq!(
        imap.ok("UID SEARCH UID 967151556").text().trim(),
        "* SEARCH",
        "what was removed is still there"
    );
    imap.ok("SELECT Sent");
    assert_eq!(flags_far(&mut imap, "SUBJECT \"from here\""), ["\\Seen"]);
    assert!(find(&inbox, "X-UIDL: 967151556").is_none(), "a removed message is kept");
    nothing();
}

/// The flags of the one message that a search finds, without `\Recent`.
#[track_caller]
fn flags_far(imap: &mut Imap, search: &str) -> Vec<String> {
    let found = imap.ok(&format!("SEARCH {search}")).text();
    let number: u32 =
        found.trim_start_matches("* SEARCH").trim().parse().unwrap_or_else(|_| panic!("{found}"));
    let mut flags = imap.flags().swap_remove(number as usize - 1);
    flags.retain(|flag| !flag.is_empty() && flag != "\\Recent");
    flags.sort();
    flags
}

/// The file of the one message that holds this text.
fn find(maildir: &Path, text: &str) -> Option<PathBuf> {
    let mut found = files(maildir).into_iter().filter(|path| {
        let bytes = fs::read(path).unwrap();
        String::from_utf8_lossy(&bytes).contains(text)
    });
    let one = found.next();
    assert!(found.next().is_none(), "two messages hold {text:?}");
    one
}

#[track_caller]
fn flags_near(maildir: &Path, text: &str) -> String {
    let path = find(maildir, text).unwrap_or_else(|| panic!("no message holds {text:?}"));
    let name = path.file_name().unwrap().to_str().unwrap();
    name.split_once(":2,").map_or(String::new(), |(_, flags)| flags.to_owned())
}

/// Changes flags as Maildir clients do.
#[track_caller]
fn set_flags(maildir: &Path, text: &str, flags: &str) {
    let path = find(maildir, text).unwrap_or_else(|| panic!("no message holds {text:?}"));
    let name = path.file_name().unwrap().to_str().unwrap();
    let name = name.split_once(":2,").map_or(name, |(name, _)| name);
    fs::rename(&path, maildir.join(format!("cur/{name}:2,{flags}"))).unwrap();
}

/// The messages of a Maildir, or of all in a store.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if !path.file_name().unwrap().to_str().unwrap().starts_with('.') {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Counts and change numbers of the mailboxes on the server: every change raises them.
fn counts(server: &Server) -> Vec<String> {
    let mut imap = server.imap("suzuki", SUZUKI);
    let status = |mailbox| imap.ok(&format!("STATUS {mailbox} (MESSAGES UIDNEXT HIGHESTMODSEQ)")).text();
    ["INBOX", "Sent"].map(status).to_vec()
}

/// Runs mutt on a mailbox: it has a terminal (of `script`), and these keys come before any of a keyboard.
#[track_caller]
fn mutt(dir: &Path, mailbox: &str, settings: &[&str], keys: &str) {
    let mut rc = String::from(
        "set sleep_time=0 wait_key=no beep=no quit=yes copy=no confirmappend=no confirmcreate=no\n",
    );
    rc += "set ssl_starttls=no ssl_force_tls=no timeout=5 mail_check=5 mark_old=no pager_stop=yes delete=yes sort=mailbox-order\n";
    rc += &format!("set folder={}\n", dir.display());
    settings.iter().for_each(|setting| rc += &format!("set {setting}\n"));
    rc += &format!("push \"{keys}\"\n");
    let rc = secret(&dir.join("muttrc"), &rc);
    let line = format!("mutt -n -F {} -f {mailbox}", rc.display());
    let mut script = Command::new("timeout");
    script.args(["60", "script", "-q", "-e", "-c", &line]).arg(dir.join("typescript"));
    script.env("HOME", dir).env("TERM", "xterm").env("LC_ALL", "C.UTF-8").current_dir(dir);
    let run = finish(script.stdin(Stdio::null()));
    let screen = fs::read(dir.join("typescript")).unwrap_or_default();
    assert_eq!(run.code, 0, "mutt: {}\n{}", run.text(), String::from_utf8_lossy(&screen));
}

/// A message but for its number, which a copy has of its own.
fn without_number(message: &[u8]) -> String {
    let lines = message.split_inclusive(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"X-UIDL: "));
    lines.map(|line| String::from_utf8_lossy(line)).collect()
}

/// The keys that lead to a message.
fn entry(number: usize) -> String {
    "<first-entry>".to_owned() + &"<next-entry>".repeat(number - 1)
}

/// Reads a message, which marks it; flags another, copies one to a folder that it makes, removes one.
#[test]
fn mutt_reads_over_imap() {
    if client("mutt").is_none() || client("script").is_none() {
        return;
    }
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let dir = scratch();
    let home = format!("imap://suzuki@127.0.0.1:{}", port(&server, 143));
    let pass = format!("imap_pass={SUZUKI}");
    let keys = [
        entry(2) + "<display-message><exit>",
        entry(5) + "<flag-message>",
        entry(4) + &format!("<copy-message><kill-line>{home}/Kept<enter>"),
        entry(8) + "<delete-message><quit>",
    ]
    .concat();
    mutt(dir.path(), &format!("{home}/INBOX"), &[&pass, "imap_authenticators=login"], &keys);
    let mut imap = server.imap("suzuki", SUZUKI);
    imap.ok("SELECT INBOX");
    let flags = imap.flags();
    assert_eq!(flags.len(), SUZUKI_SEEN.len() - 1, "one is removed");
    let has = |number: usize, flag: &str| flags[number - 1].iter().any(|known| known == flag);
    assert!(has(2, "\\Seen") && !has(3, "\\Seen"), "{flags:?}");
    assert!(has(5, "\\Flagged"), "{flags:?}");
    let original = without_number(&imap.body(4));
    imap.ok("SELECT Kept");
    assert_eq!(without_number(&imap.body(1)), original, "the copy is as the original");
}

/// Reads a message, keeps a copy in a file, removes another.
#[test]
fn mutt_reads_over_pop3() {
    if client("mutt").is_none() || client("script").is_none() {
        return;
    }
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let dir = scratch();
    let kept = dir.path().join("kept");
    let pass = format!("pop_pass={SUZUKI}");
    let keys = [
        entry(3) + "<display-message><exit>",
        entry(3) + &format!("<copy-message><kill-line>{}<enter>", kept.display()),
        entry(8) + "<delete-message><quit>",
    ]
    .concat();
    let mailbox = format!("pop://suzuki@127.0.0.1:{}/", port(&server, 110));
    mutt(dir.path(), &mailbox, &[&pass, "pop_delete=no", "pop_authenticators=user"], &keys);
    let text = fs::read_to_string(kept).unwrap();
    assert!(text.contains("Lines that look like separators"), "{text}");
    wait_for("the removal and the read mark", Duration::from_secs(10), || {
        let mut imap = server.imap("suzuki", SUZUKI);
        let left = imap.examine("INBOX");
        (left == SUZUKI_SEEN.len() - 1 && imap.seen()[2]).then_some(())
    });
}
