//! Other mail servers, and programs that read our bounces: Postfix in both directions, flufl.bounce.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use support::client::{bounce_parser, client, scratch, succeed};
use support::postfix::{DOMAIN, Postfix};
use support::sample::{PRIMARY, SUZUKI, VIRTUAL};
use support::server::{Ports, SPARE, Server};
use support::sink::Sink;
use support::smtp::mail;
use support::tree::Tree;
use support::{ini, wait_for};

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
    // So do we: it writes into its trace that the message came over TLS.
    assert!(got.contains("using TLSv1.3"), "{got}");
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

/// Somebody who gets a bounce for each reason, and how many messages he has had before.
const SENDER: (&str, &str, usize) = ("ann@example.org", "lovely99", 2);

/// A user who has room for small mail only.
const FULL: &str = "user789@mail.example.jp";

/// Recipients who do not get their mail, each for another reason. The reason for a domain that does not exist is left out: the parser does
/// not know how IMail says it.
const LOST: [&str; 4] =
    ["anybody@unknown.example.net", "anybody@refused.example.net", "anybody@closed.example.net", FULL];

/// Somebody who was a user when the mail for him was accepted.
const REMOVED: &str = "removed@example.org";

#[test]
fn bounces_are_understood() {
    each_reason_is_understood("IMail");
}

#[test]
fn reports_are_understood() {
    each_reason_is_understood("Report");
}

/// Has a message bounce for each reason, and then one for several reasons at once, and asks the parser who is meant.
fn each_reason_is_understood(format: &str) {
    let Some(mut parser) = bounce_parser() else { return };
    parser.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/bounces.py"));
    let tree = Tree::quiet();
    let settings = "[Services\\SMTPD32\\Parameters]";
    let text = ini::set(&tree.registry(), settings, "BounceFormat", format);
    let text = ini::set(&text, settings, "MaxTries", "dword:00000001");
    tree.save_registry(&ini::set(&text, &ini::user(PRIMARY, "user789"), "MaxSize", "dword:00000400"));
    put_into_spool(&tree, REMOVED);

    let unknown = Sink::start(&[("RCPT", "550-5.1.1 There is no\r\n550 5.1.1 such user")]);
    let refused = Sink::start(&[("DATA", "554 5.7.1 Not with us")]);
    let routes = [
        format!("unknown.example.net={}", unknown.address()),
        format!("refused.example.net={}", refused.address()),
        format!("closed.example.net={NO_DNS}"),
    ];
    let more: Vec<&str> = routes.iter().flat_map(|route| ["--route", route]).collect();
    let server = Server::start_with(&tree, Ports::reserve(), &more);
    let mut smtp = server.smtp();
    let message = mail("lost") + &"Too much for some.\r\n".repeat(100);
    for recipient in LOST {
        // A full mailbox alone would be refused at once.
        let others: &[&str] = if recipient == FULL { &["root@mail.example.jp"] } else { &[] };
        smtp.deliver(SENDER.0, &[&[recipient], others].concat(), &message);
    }
    // Not to the closed one: after it was found closed, nothing is tried there for a while.
    smtp.deliver(SENDER.0, &LOST[..2], &mail("lost twice"));

    let mut expected: Vec<String> = LOST.iter().chain([&REMOVED]).map(|one| (*one).to_owned()).collect();
    expected.push([LOST[1], LOST[0]].join(" "));
    let dir = scratch();
    let bounces = wait_for("all bounces", TRANSIT_LIMIT, || {
        let mut pop3 = server.pop3(SENDER.0, SENDER.1);
        let count = pop3.count() - SENDER.2;
        let all: Vec<Vec<u8>> = (1..=count).map(|n| pop3.block(&format!("RETR {}", SENDER.2 + n))).collect();
        pop3.quit();
        (count == expected.len()).then_some(all)
    });
    for (number, bounce) in bounces.iter().enumerate() {
        let file = dir.path().join(number.to_string());
        fs::write(&file, bounce).unwrap();
        parser.arg(file);
    }
    let found = succeed(&mut parser).out;
    let mut found: Vec<&str> = found.lines().collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

/// Puts a message into the spool that was accepted by an earlier server.
fn put_into_spool(tree: &Tree, recipient: &str) {
    let name = "0a0b000100000001.SMD";
    fs::write(tree.path("spool").join(format!("D{name}")), mail("waiting")).unwrap();
    let envelope = format!(
        "QC:\\IMail\\spool\\D{name}\r\nH{PRIMARY}\r\nS<{}>\r\nN<{recipient}>\r\nR<{recipient}>\r\n",
        SENDER.0
    );
    fs::write(tree.path("spool").join(format!("Q{name}")), envelope).unwrap();
}
