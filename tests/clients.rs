//! Real clients: swaks, msmtp, mutt and curl send; curl, mbsync and Python's own clients read.
//!
//! A client that is not installed is skipped with a word, unless `CI` is set: there everything
//! must be there.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::client::{client, scratch, succeed};
use support::finish;
use support::sample::{SUZUKI, SUZUKI_SEEN, SUZUKI_UIDL};
use support::server::Server;
use support::smtp::{Smtp, mail};
use support::tree::{Tree, assert_same_bytes};
use support::wire::Wire;

fn write(path: &Path, text: &str) -> PathBuf {
    fs::write(path, text).unwrap();
    path.to_owned()
}

fn port(server: &Server, service: u16) -> String {
    server.address(service).port().to_string()
}

/// The ways to log in.
const MECHANISMS: [&str; 3] = ["PLAIN", "LOGIN", "CRAM-MD5"];

/// Who gets the mail, with her password.
const ANN: (&str, &str) = ("ann@example.org", "lovely99");

/// Waits until all these messages have come to Ann.
#[track_caller]
fn wait_for_all(server: &Server, subjects: &[String]) {
    assert!(!subjects.is_empty());
    for subject in subjects {
        server.wait_for_mail(ANN.0, ANN.1, subject);
    }
}

#[test]
fn swaks_sends_in_every_way() {
    if client("swaks").is_none() {
        return;
    }
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let mut sent = Vec::new();
    for (service, tls) in [(25, &[] as &[&str]), (587, &["--tls"]), (465, &["--tls-on-connect"])] {
        for mechanism in MECHANISMS {
            let subject = format!("swaks {service} {mechanism}");
            let mut swaks = Command::new("swaks");
            swaks.args(["--server", "127.0.0.1", "--port", &port(&server, service)]).args(tls);
            swaks.args(["--from", "suzuki@example.jp", "--to", ANN.0, "--auth", mechanism]);
            swaks.args(["--auth-user", "suzuki", "--auth-password", SUZUKI]);
            succeed(swaks.args(["--header", &format!("Subject: {subject}"), "--body", "Hello"]));
            sent.push(subject);
        }
    }
    wait_for_all(&server, &sent);
}

#[test]
fn msmtp_sends_in_every_way() {
    if client("msmtp").is_none() {
        return;
    }
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let dir = scratch();
    let ways = [
        (25, "plain", &["--tls=off"] as &[&str]),
        (587, "login", &["--tls=on", "--tls-starttls=on"]),
        (465, "cram-md5", &["--tls=on", "--tls-starttls=off"]),
    ];
    for (service, mechanism, tls) in ways {
        let subject = format!("by msmtp with {mechanism}");
        let text = format!("To: {}\nSubject: {subject}\n\nHello\n.\n..\n", ANN.0);
        let message = write(&dir.path().join("mail.txt"), &text);
        let mut msmtp = Command::new("msmtp");
        msmtp.args(["--host=127.0.0.1", &format!("--port={}", port(&server, service))]).args(tls);
        msmtp.args(["--tls-certcheck=off", &format!("--auth={mechanism}"), "--user=suzuki"]);
        msmtp.args(["--from=suzuki@mail.example.jp", &format!("--passwordeval=echo {SUZUKI}")]);
        msmtp.args(["--file=/dev/null", ANN.0]).env("HOME", dir.path());
        finish(msmtp.stdin(fs::File::open(message).unwrap())).expect_code(0);
        let got = server.wait_for_mail(ANN.0, ANN.1, &subject);
        assert!(got.ends_with(b"\r\n\r\nHello\r\n.\r\n..\r\n"), "{}", String::from_utf8_lossy(&got));
    }
}

#[test]
fn mutt_sends_japanese_text_with_an_attachment() {
    if client("mutt").is_none() {
        return;
    }
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let dir = scratch();
    let text = write(&dir.path().join("text.txt"), "こんにちは。\n");
    let attached = write(&dir.path().join("attached.txt"), "a b c\n");
    let certificate = format!("set certificate_file={}", tree.path("certs/server.crt").display());
    let login = format!("suzuki:{SUZUKI}@127.0.0.1");
    let ways = [
        ("mutt", format!("smtp://127.0.0.1:{}/", port(&server, 25)), "ssl_starttls=no ssl_force_tls=no"),
        ("mutt STARTTLS", format!("smtp://{login}:{}/", port(&server, 587)), "ssl_force_tls=yes"),
        ("mutt TLS", format!("smtps://{login}:{}/", port(&server, 465)), "ssl_force_tls=yes"),
    ];
    for (subject, url, tls) in ways {
        let mut mutt = Command::new("mutt");
        let tls = format!("set {tls} ssl_verify_host=no");
        let url = format!("set smtp_url=\"{url}\"");
        let from = "set from=suzuki@mail.example.jp copy=no";
        let text_in = "set charset=utf-8 send_charset=utf-8";
        let settings = [&url, &tls, &certificate, from, text_in];
        mutt.args(["-n", "-F", "/dev/null"]).args(settings.iter().flat_map(|setting| ["-e", setting]));
        mutt.args(["-s", subject, "-a", attached.to_str().unwrap(), "--", ANN.0]);
        mutt.env("HOME", dir.path()).env("LC_ALL", "C.UTF-8").current_dir(dir.path());
        finish(mutt.stdin(fs::File::open(&text).unwrap())).expect_code(0);
        let got = server.wait_for_mail(ANN.0, ANN.1, subject);
        assert!(String::from_utf8_lossy(&got).contains("filename=\"attached.txt\""));
    }
}

/// OpenSSL's own client makes the connection; our small client talks over it.
#[test]
fn openssl_connects_in_both_ways() {
    if client("openssl").is_none() {
        return;
    }
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    // With STARTTLS the client keeps the greeting for itself.
    let ways =
        [(25, &["-starttls", "smtp"] as &[&str], b"220 seen by openssl\r\n" as &[u8]), (465, &[], b"")];
    for (service, more, seen) in ways {
        let mut openssl = Command::new("timeout");
        openssl.args(["60", "openssl", "s_client", "-quiet", "-verify_quiet", "-connect"]);
        openssl.arg(format!("127.0.0.1:{}", port(&server, service))).args(more);
        openssl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = openssl.spawn().unwrap();
        let wire = Wire::over(seen.chain(child.stdout.take().unwrap()), child.stdin.take().unwrap());
        let mut smtp = Smtp::over(wire);
        assert!(!smtp.extensions.iter().any(|line| line == "STARTTLS"), "offered again inside TLS");
        let credentials = BASE64.encode(format!("\0suzuki\0{SUZUKI}"));
        assert_eq!(smtp.command(&format!("AUTH PLAIN {credentials}")).code, 235);
        let subject = format!("by openssl on {service}");
        smtp.deliver("sender@example.net", &[ANN.0], &mail(&subject));
        smtp.quit();
        child.wait().unwrap();
        let got = server.wait_for_mail(ANN.0, ANN.1, &subject);
        assert!(String::from_utf8_lossy(&got).contains("ESMTPS"), "the trace does not say that it was TLS");
    }
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
    // The same behind TLS, from the begin and begun later.
    for (url, more) in [
        (format!("imaps://127.0.0.1:{}/INBOX;UID=967151555", port(&server, 993)), &["--insecure"] as &[&str]),
        (format!("{imap}INBOX;UID=967151555"), &["--insecure", "--ssl-reqd"]),
        (format!("pop3s://127.0.0.1:{}/3", port(&server, 995)), &["--insecure"]),
        (format!("{pop3}3"), &["--insecure", "--ssl-reqd"]),
    ] {
        assert!(curl(url.clone(), more).out.contains("Lines that look like separators"), "{url}");
    }
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

#[test]
fn python_sends_in_every_way() {
    let Some(mut python) = client("python3") else { return };
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/senders.py");
    python.arg(script).arg("127.0.0.1").args([25, 587, 465].map(|service| port(&server, service)));
    let sent = succeed(python.args(["suzuki", SUZUKI, ANN.0])).out;
    let sent: Vec<String> = sent.lines().map(str::to_owned).collect();
    assert_eq!(sent.len(), 3 * MECHANISMS.len(), "{sent:?}");
    wait_for_all(&server, &sent);
}
