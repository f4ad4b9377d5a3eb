//! Other mail servers, and programs that read our bounces: Postfix in both directions, flufl.bounce.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;
use support::client::{client, succeed};
use support::postfix::{DOMAIN, Postfix};
use support::sample::{PRIMARY, SUZUKI, VIRTUAL};
use support::server::{Ports, SPARE, Server};
use support::tree::Tree;
use support::wait_for;

/// How long mail may be on its way; Postfix looks at its queue more than once.
const TRANSIT_LIMIT: Duration = Duration::from_secs(30);

/// No name server: whatever asks one fails at once.
const NO_DNS: &str = "127.0.0.1:9";

/// Our server and a Postfix that know each other's domains.
struct Pair {
    server: Server,
    postfix: Postfix,
    theirs: SocketAddr,
}

impl Pair {
    /// `None` if there is no Postfix or no swaks.
    fn start(tree: &Tree) -> Option<Pair> {
        client("swaks")?;
        let ports = Ports::reserve();
        let (ours, theirs) = (ports.address(25), ports.address(SPARE[0]));
        let users = ["taro".to_owned()];
        let postfix = Postfix::start(theirs, &users, &[(PRIMARY, ours), (VIRTUAL, ours)])?;
        let route = format!("{DOMAIN}={theirs}");
        let server = Server::start_with(tree, ports, &["--route", &route, "--dns", NO_DNS]);
        Some(Pair { server, postfix, theirs })
    }

    /// Waits until the user `taro` of Postfix has a message with these words, and gives his mailbox.
    #[track_caller]
    fn wait_for_taro(&self, words: &str) -> String {
        wait_for(&format!("mail with {words:?} at Postfix"), TRANSIT_LIMIT, || {
            let mailbox = fs::read(self.postfix.mailbox("taro")).unwrap_or_default();
            let text = String::from_utf8_lossy(&mailbox).into_owned();
            text.contains(words).then_some(text)
        })
    }
}

/// Sends a short message with swaks, as somebody without an account.
#[track_caller]
fn swaks(to_server: SocketAddr, from: &str, to: &str, subject: &str) {
    let mut swaks = Command::new("swaks");
    swaks.args(["--server", &to_server.ip().to_string(), "--port", &to_server.port().to_string()]);
    swaks.args(["--helo", "client.example.net", "--from", from, "--to", to]);
    succeed(swaks.args(["--header", &format!("Subject: {subject}"), "--body", "one\n.\n..two\n"]));
}

#[test]
fn postfix_sends_and_receives() {
    let tree = Tree::quiet();
    let Some(pair) = Pair::start(&tree) else { return };
    let taro = format!("taro@{DOMAIN}");

    swaks(pair.theirs, &taro, "ann@example.org", "from Postfix");
    let got = pair.server.wait_for_mail("ann@example.org", "lovely99", "from Postfix");
    let got = String::from_utf8_lossy(&got);
    assert!(got.contains("\r\n\r\none\r\n.\r\n..two\r\n"), "{got}");
    // It uses STARTTLS wherever it is offered.
    assert!(pair.postfix.log().contains("TLS connection established to 127.0.0.1"), "no TLS towards us");

    swaks(pair.server.address(25), "ann@example.org", &taro, "to Postfix");
    let got = pair.wait_for_taro("Subject: to Postfix");
    assert!(got.contains("\n\none\n.\n..two\n"), "{got}");
    assert!(got.contains("Return-Path: <ann@example.org>"), "{got}");
    // Here belongs, as soon as we use STARTTLS towards others: got.contains("using TLSv1.3").
}

#[test]
fn bounces_cross() {
    let tree = Tree::quiet();
    let Some(pair) = Pair::start(&tree) else { return };

    // Refused by us, so the bounce is Postfix's, and comes back to our user.
    swaks(pair.theirs, "suzuki@mail.example.jp", "missing@example.org", "to nobody of ours");
    let subject = "Undelivered Mail Returned to Sender";
    let bounce = pair.server.wait_for_mail("suzuki", SUZUKI, subject);
    let bounce = String::from_utf8_lossy(&bounce);
    assert!(bounce.contains("Final-Recipient: rfc822; missing@example.org"), "{bounce}");
    assert!(bounce.contains("Return-Path: <>"), "{bounce}");

    // Refused by Postfix, so the bounce is ours, and goes to its user.
    let missing = format!("missing@{DOMAIN}");
    swaks(pair.server.address(25), &format!("taro@{DOMAIN}"), &missing, "to nobody of theirs");
    let bounce = pair.wait_for_taro("Undeliverable Mail");
    for words in [
        &format!("Unknown user: {missing}"),
        "RCPT TO generated following response:\n550 5.1.1",
        "Original message follows.",
        "Subject: to nobody of theirs",
        "Return-Path: <>",
    ] {
        assert!(bounce.contains(words), "no {words:?} in\n{bounce}");
    }
}
