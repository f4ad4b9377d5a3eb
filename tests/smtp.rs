//! The extensions of SMTP that EHLO offers, from outside: what clients ask for is done.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use support::sample::SUZUKI;
use support::server::Server;
use support::smtp::mail;
use support::tree::Tree;
use support::{EDIT_LIMIT, finish, wait_for};

/// `ann`'s password.
const ANN: &str = "lovely99";

/// Python's own client, with what every EHLO offers.
#[test]
fn smtplib_asks_for_reports_sends_chunks_and_utf8() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/extensions.py");
    let mut python = Command::new("python3");
    python.arg(script).args(["127.0.0.1", &server.address(25).port().to_string(), "suzuki", SUZUKI]);
    finish(python.stdin(Stdio::null())).expect_code(0);
    let text = |message: Vec<u8>| String::from_utf8(message).unwrap();
    server.wait_for_mail("ann@example.org", ANN, "with a report");
    let chunks = text(server.wait_for_mail("ann@example.org", ANN, "in chunks"));
    assert!(chunks.ends_with("\r\n\r\nText.\r\n.\r\n"), "{chunks}");
    let utf8 = text(server.wait_for_mail("ann@example.org", ANN, "in utf8"));
    assert!(utf8.starts_with("Return-Path: <\u{7528}\u{6237}@example.net>\r\n"), "{utf8}");
    assert!(utf8.contains(" with UTF8SMTPA\r\n"), "{utf8}");
    // IMail pads the fields of its own mail.
    let report = text(server.wait_for_mail("suzuki", SUZUKI, " Delivered Mail"));
    for line in [
        "Original-Envelope-Id: QQ314159\r\n",
        "Original-Recipient: rfc822; Ann@example.org\r\nFinal-Recipient: rfc822; ann@example.org\r\nAction: delivered\r\n",
        "\r\nSubject: with a report\r\n",
    ] {
        assert!(report.contains(line), "{line}: {report}");
    }
    assert!(!report.contains("Text."), "RET=HDRS: {report}");
}

/// A chunk may hold what looks like commands; everything comes in one packet.
#[test]
fn pipelined_chunks_are_no_commands() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let mut smtp = server.smtp();
    let message = format!("{}RSET\r\nQUIT\r\n.\r\n", mail("one packet"));
    let envelope = "MAIL FROM:<a@example.net>\r\nRCPT TO:<ann@example.org>\r\n";
    let (first, second) = message.split_at(40);
    let chunks =
        format!("BDAT {}\r\n{first}BDAT {}\r\n{second}BDAT 0 LAST\r\nNOOP\r\n", first.len(), second.len());
    smtp.raw(format!("{envelope}{chunks}").as_bytes());
    for _ in 0..6 {
        assert_eq!(smtp.reply().code, 250);
    }
    smtp.quit();
    let stored = server.wait_for_mail("ann@example.org", ANN, "one packet");
    assert!(stored.ends_with(b"RSET\r\nQUIT\r\n.\r\n"), "{}", String::from_utf8_lossy(&stored));
}

/// A domain that a route names gets its mail when it asks for it, as soon as its server is there.
#[test]
fn etrn_brings_what_waits() {
    let tree = Tree::quiet();
    // Kept closed until the mail waits.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    tree.save_registry(&format!("[Routes]\r\nbackup.example={address}\r\n\r\n{}", tree.registry()));
    let server = Server::start(&tree);
    let mut smtp = server.smtp();
    smtp.deliver("a@example.net", &["b@backup.example"], &mail("for the gateway"));
    wait_for("the first try", EDIT_LIMIT, || server.said().contains("status=3").then_some(()));
    let listener = std::net::TcpListener::bind(address).unwrap();
    let arrived = std::thread::spawn(move || listener.accept().map(drop));
    assert_eq!(smtp.command("ETRN elsewhere.example").code, 459);
    assert_eq!(smtp.command("ETRN backup.example").code, 253);
    assert_eq!(smtp.command("ETRN backup.example").code, 250);
    arrived.join().unwrap().unwrap();
    smtp.quit();
}
