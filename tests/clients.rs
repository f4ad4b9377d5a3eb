//! Real clients: swaks, msmtp, mutt and curl send; curl, mbsync and Python's own clients read.
//!
//! A client that is not installed is skipped with a word, unless `CI` is set: there everything
//! must be there.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::sample::{SUZUKI, SUZUKI_SEEN, SUZUKI_UIDL};
use support::server::Server;
use support::tree::{Tree, assert_same_bytes};
use support::{Run, finish};



fn write(path: &Path, text: &str) -> PathBuf {
    fs::write(path, text).unwrap();
    path.to_owned()
}

fn port(server: &Server, service: u16) -> String {
    server.address(service).port().to_string()
}

#[track_caller]
fn succeed(command: &mut Command) -> Run {
    finish(command.stdin(Stdio::null())).expect_code(0)
}

#[test]
fn swaks_sends_and_authenticates() {
    let Some(mut swaks) = client("swaks") else { return };
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    swaks.args(["--server", "127.0.0.1", "--port", &port(&server, 25), "--to", "ann@example.org"]);
    swaks.args([
        "--from",
        "suzuki@example.jp",
        "--auth",
        "LOGIN",
        "--auth-user",
        "suzuki",
        "--auth-password",
        SUZUKI,
    ]);
    succeed(swaks.args(["--header", "Subject: by swaks", "--body", "Hello"]));
    server.wait_for_mail("ann@example.org", "lovely99", "by swaks");
}

#[test]
fn msmtp_sends() {
    let Some(mut msmtp) = client("msmtp") else { return };
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let dir = scratch();
    let message =
        write(&dir.path().join("mail.txt"), "To: ann@example.org\nSubject: by msmtp\n\nHello\n.\n..\n");
    msmtp.args([
        "--host=127.0.0.1",
        &format!("--port={}", port(&server, 25)),
        "--auth=plain",
        "--user=suzuki",
    ]);
    msmtp.args(["--tls=off", "--from=suzuki@mail.example.jp", &format!("--passwordeval=echo {SUZUKI}")]);
    msmtp.args(["--file=/dev/null", "ann@example.org"]).env("HOME", dir.path());
    finish(msmtp.stdin(fs::File::open(message).unwrap())).expect_code(0);
    let got = server.wait_for_mail("ann@example.org", "lovely99", "by msmtp");
    assert!(got.ends_with(b"\r\n\r\nHello\r\n.\r\n..\r\n"), "{}", String::from_utf8_lossy(&got));
}

#[test]
fn mutt_sends_japanese_text_with_an_attachment() {
    let Some(mut mutt) = client("mutt") else { return };
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let dir = scratch();
    let text = write(&dir.path().join("text.txt"), "こんにちは。\n");
    let attached = write(&dir.path().join("attached.txt"), "a b c\n");
    let url = format!("smtp://127.0.0.1:{}/", port(&server, 25));
    mutt.args(["-n", "-F", "/dev/null", "-e", &format!("set smtp_url=\"{url}\"")]);
    mutt.args([
        "-e",
        "set ssl_starttls=no ssl_force_tls=no",
        "-e",
        "set from=suzuki@mail.example.jp",
        "-e",
        "set copy=no",
    ]);
    mutt.args(["-e", "set charset=utf-8", "-e", "set send_charset=utf-8"]);
    mutt.args(["-s", "by mutt", "-a", attached.to_str().unwrap(), "--", "ann@example.org"]);
    mutt.env("HOME", dir.path()).env("LC_ALL", "C.UTF-8").current_dir(dir.path());
    finish(mutt.stdin(fs::File::open(text).unwrap())).expect_code(0);
    let got = server.wait_for_mail("ann@example.org", "lovely99", "by mutt");
    assert!(String::from_utf8_lossy(&got).contains("filename=\"attached.txt\""));
}

#[test]
fn curl_sends_and_reads() {
    if client("curl").is_none() {
        return;
    }
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let dir = scratch();
    let message =
        write(&dir.path().join("mail.txt"), "To: ann@example.org\r\nSubject: by curl\r\n\r\nHello\r\n");
    let login = format!("suzuki:{SUZUKI}");
    let curl = |url: String, more: &[&str]| {
        let mut curl = Command::new("curl");
        succeed(curl.args(["-sS", "--max-time", "30", "--user", &login, &url]).args(more))
    };
    let smtp = format!("smtp://127.0.0.1:{}/client.example.net", port(&server, 25));
    let upload = message.to_str().unwrap();
    curl(
        smtp,
        &["--mail-from", "suzuki@example.jp", "--mail-rcpt", "ann@example.org", "--upload-file", upload],
    );
    server.wait_for_mail("ann@example.org", "lovely99", "by curl");

    let pop3 = format!("pop3://127.0.0.1:{}/", port(&server, 110));
    let ids = curl(pop3.clone(), &["--request", "UIDL"]).out;
    assert_eq!(ids.lines().count(), SUZUKI_UIDL.len(), "{ids}");
    assert!(curl(format!("{pop3}3"), &[]).out.contains("\r\nFrom <ann@example.org> wrote:\r\n"));
    let imap = format!("imap://127.0.0.1:{}/", port(&server, 143));
    let folders = curl(imap.clone(), &[]).out;
    assert!(folders.contains("Projects.2022") && folders.contains("INBOX"), "{folders}");
    let text = curl(format!("{imap}INBOX;UID=967151555"), &[]).out;
    assert!(text.contains("Lines that look like separators"), "{text}");
}

/// Fetches the whole account twice: the second time there is nothing to do.
#[test]
fn mbsync_fetches_once() {
    if client("mbsync").is_none() {
        return;
    }
    let tree = Tree::quiet();
    let before = tree.snapshot();
    let server = Server::start(&tree);
    let dir = scratch();
    let store = dir.path().join("mail");
    fs::create_dir(&store).unwrap();
    let config = format!(
        "IMAPAccount imaild\nHost 127.0.0.1\nPort {}\nUser suzuki\nPass {SUZUKI}\nSSLType None\nAuthMechs LOGIN\n\
         \nIMAPStore far\nAccount imaild\n\
         \nMaildirStore near\nPath {}/\nInbox {}/INBOX\nSubFolders Verbatim\n\
         \nChannel all\nFar :far:\nNear :near:\nPatterns INBOX Sent unix old Projects/*\nSync Pull\nCreate Near\nExpunge None\nSyncState *\n",
        port(&server, 143),
        store.display(),
        store.display(),
    );
    let config = write(&dir.path().join("mbsyncrc"), &config);
    let sync = || {
        succeed(Command::new("mbsync").args(["-c", config.to_str().unwrap(), "all"]).env("HOME", dir.path()))
    };
    sync();
    let inbox = messages(&store.join("INBOX"));
    assert_eq!(inbox.len(), SUZUKI_SEEN.len());
    let read =
        inbox.iter().filter(|name| name.split_once(":2,").is_some_and(|(_, flags)| flags.contains('S')));
    assert_eq!(read.count(), SUZUKI_SEEN.iter().filter(|seen| **seen).count());
    assert_eq!(messages(&store.join("unix")).len(), 2);
    assert_eq!(messages(&store.join("old")).len(), 3);
    assert_eq!(messages(&store.join("Projects/2022")).len(), 2);
    sync();
    assert_eq!(messages(&store.join("INBOX")), inbox, "nothing is fetched twice");
    assert_same_bytes(&before, &tree.snapshot());
}

/// File names of the messages in a Maildir.
fn messages(maildir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for part in ["cur", "new"] {
        let entries = fs::read_dir(maildir.join(part)).unwrap_or_else(|error| panic!("{maildir:?}: {error}"));
        names.extend(entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()));
    }
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names
}

#[test]
fn python_reads_and_sends() {
    let Some(mut python) = client("python3") else { return };
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/readers.py");
    python.arg(script).args(["127.0.0.1", &port(&server, 25), &port(&server, 110), &port(&server, 143)]);
    succeed(python.args(["suzuki", SUZUKI]));
}
