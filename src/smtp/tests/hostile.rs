//! Clients that are clumsy, or mean harm, and addresses of all kinds, over real sockets.

use super::extensions::{expect, hello, until, user_log};
use super::{connect, start};
use crate::session::testing::user_files;
use crate::smtp::{ERRORS_MAX, IDLE_COMMANDS_MAX};

/// A domain with an international name, in A-labels as registries have it.
const JAPAN: &str = "[Domains\\xn--wgv71a.jp]\r\nOfficial=xn--wgv71a.jp\r\nAddress=$virtual001\r\nTopDir=C:\\IMail\\jp\r\n\r\n[Domains\\$virtual001]\r\nOfficial=xn--wgv71a.jp\r\n\r\n[Domains\\xn--wgv71a.jp\\Users\\sue]\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn addresses_in_all_spellings() {
    const BEGIN: [(&str, &str); 2] = [("EHLO x", "250-"), ("MAIL FROM:<a@example.net> SMTPUTF8", "250 ")];
    let (dir, _server, address) = start(JAPAN).await;
    let mut client = connect(address).await;
    expect(&mut client, &BEGIN).await;
    let long = format!("{}@example.org", "x".repeat(300));
    let longer = format!("{}@example.org", "x".repeat(320));
    for (recipient, expected) in [
        ("sue@xn--wgv71a.jp", "250 "),
        ("sue@\u{65e5}\u{672c}.jp", "250 "),
        ("sue@XN--WGV71A.JP.", "250 "),
        ("sue@\u{65e5}\u{672c}\u{3002}\u{ff4a}\u{ff50}", "250 "),
        ("joe@\u{65e5}\u{672c}.jp", "550 5.1.1 "),
        ("sue@\u{65e5}\u{672c}.example", "550 5.7.1 "),
        ("\"mike\"@example.org", "250 "),
        ("\"mike smith\"@example.org", "550 5.1.1 "),
        ("\"a b\"@elsewhere.example", "550 5.7.1 "),
        ("\"mike@example.org", "501 "),
        ("mike smith@example.org", "501 "),
        ("@relay.example,@other.example:mike@example.org", "250 "),
        ("@relay.example", "501 "),
        ("mike@[127.0.0.1]", "250 "),
        ("mike@[127.0.0.9]", "550 5.7.1 "),
        ("mike@[IPv6:::1]", "550 5.7.1 "),
        ("mike@[", "550 5.7.1 "),
        ("mike%elsewhere.example@example.org", "550 5.1.1 "),
        ("elsewhere.example!mike@example.org", "550 5.1.1 "),
        ("mike@elsewhere.example@example.org", "550 5.1.1 "),
        ("mike", "501 "),
        ("@example.org", "501 "),
        ("mike@", "550 5.7.1 "),
        (&long, "550 5.1.1 "),
        (&longer, "501 "),
        ("mi\u{1b}[2Jke@example.org", "501 "),
        ("mike@example.org\0", "501 "),
        ("mike@example.org>\rRCPT TO:<ann@example.org", "555 "),
    ] {
        let answer = client.ask(&format!("RCPT TO:<{recipient}>")).await;
        assert!(answer.starts_with(expected), "{recipient:?}: {answer}");
        if answer.starts_with("5") {
            // Many errors end a session.
            client = connect(address).await;
            expect(&mut client, &BEGIN).await;
        }
    }
    expect(
        &mut client,
        &[("RCPT TO:<sue@\u{65e5}\u{672c}.jp>", "250 "), ("DATA\r\nSubject: x\r\n\r\n.", "354 ")],
    )
    .await;
    assert!(client.reply().await.starts_with("250 "));
    let stored = std::fs::read_to_string(dir.path().join("jp/users/sue/main.mbx")).unwrap();
    assert!(stored.contains("Subject: x"), "{stored}");
}

/// Who sends commands in pieces gets the answers to those that are whole.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_command_holds_no_answer_back() {
    let (_dir, _server, mut client) = hello("").await;
    client.send("NOOP\r\nNO").await;
    assert_eq!(client.reply().await, "250 2.0.0 ok\r\n");
    assert_eq!(client.ask("OP").await, "250 2.0.0 ok\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_without_a_message_end_a_session() {
    let (_dir, _server, mut client) = hello("").await;
    let some = "NOOP\r\nRSET\r\nVRFY mike\r\nEHLO x\r\n".repeat(IDLE_COMMANDS_MAX as usize / 4 - 1);
    // A message gives a new start.
    client.send(&some).await;
    for _ in 0..some.lines().count() {
        assert!(client.reply().await.starts_with("25"));
    }
    let message = [("MAIL FROM:<a@b>", "250 "), ("RCPT TO:<ann@example.org>", "250 "), ("DATA\r\n.", "354 ")];
    expect(&mut client, &message).await;
    assert!(client.reply().await.starts_with("250 "));
    client.send(&"NOOP\r\n".repeat((IDLE_COMMANDS_MAX + ERRORS_MAX + 100) as usize)).await;
    for _ in 0..=IDLE_COMMANDS_MAX + ERRORS_MAX {
        assert_eq!(client.reply().await, "250 2.0.0 ok\r\n");
    }
    assert_eq!(client.reply().await, "421 4.7.0 too many errors\r\n");
    assert_eq!(client.reply().await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_that_are_taken_back_or_guessed() {
    let (_dir, _server, mut client) = hello("").await;
    for (command, answer) in [
        ("AUTH LOGIN", "334 "),
        ("*", "501 5.7.0 authentication cancelled"),
        ("AUTH PLAIN", "334 "),
        ("*", "501 5.7.0 "),
        ("AUTH CRAM-MD5", "334 "),
        ("*", "501 5.7.0 "),
        ("AUTH PLAIN =", "501 5.5.2 "),
        ("AUTH PLAIN %%%", "501 5.5.2 "),
        ("AUTH X", "504 5.5.4 "),
    ] {
        expect(&mut client, &[(command, answer)]).await;
    }
    for _ in 1..5 {
        assert!(client.ask("AUTH PLAIN AG1pa2UAd3Jvbmc=").await.starts_with("535 5.7.8 "));
    }
    assert_eq!(client.ask("AUTH PLAIN AG1pa2UAd3Jvbmc=").await, "421 4.7.0 too many failed logins\r\n");
    assert_eq!(client.reply().await, "");
}

/// Whatever clients say stands on one line of the log, without control characters.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_forges_log_lines() {
    const DEBUG: &str = "[Services\\SMTPD32\\Parameters]\r\nDebugMessages=dword:00000001\r\n";
    let (_dir, server, mut client) = hello(DEBUG).await;
    let evil = "\u{1b}]0;x\u{7}\u{9b}2J\u{202e}\r01:01 00:00 SMTPD(0000000000000000) forged\0";
    for command in ["EHLO", "VRFY", "MAIL FROM:<", "JUNK", "ETRN", "AUTH", "NOOP", "RCPT TO:<a@b> ORCPT="] {
        client.ask(&format!("{command} {evil}")).await;
    }
    server.log.flush();
    let log = user_log(&server);
    assert!(log.contains("VRFY ]0;x2J01:01"), "{log}");
    for line in log.split("\r\n").filter(|line| !line.is_empty()) {
        let odd = |c: char| c.is_control() || c == '\u{202e}';
        assert!(!line.contains(odd) && line.as_bytes().get(2) == Some(&b':'), "{line:?}");
        assert!(!line.starts_with("01:01 00:00") && line.len() <= 512, "{line:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_may_be_as_large_as_is_said() {
    let services = "[Domains\\example.org]\r\nMaxMessageSize=dword:00000064\r\n";
    let (dir, _server, mut client) = hello(services).await;
    expect(&mut client, &[("MAIL FROM:<a@b> SIZE=101", "552 5.3.4 "), ("EHLO x", "250-example.org")]).await;
    for (bytes, chunks, expected) in
        [(100, false, "250 "), (101, false, "552 5.3.4 "), (100, true, "250 "), (101, true, "552 5.3.4 ")]
    {
        // A dot in front counts once, however it is sent.
        let text = format!(".{}\r\n", "x".repeat(bytes - 3));
        expect(&mut client, &[("MAIL FROM:<a@b> SIZE=100", "250 "), ("RCPT TO:<ann@example.org>", "250 ")])
            .await;
        if chunks {
            client.send(&format!("BDAT {} LAST\r\n{text}", text.len())).await;
        } else {
            expect(&mut client, &[(&format!("DATA\r\n.{text}."), "354 ")]).await;
        }
        let answer = client.reply().await;
        assert!(answer.starts_with(expected), "{bytes} {chunks}: {answer}");
    }
    assert_eq!(user_files(dir.path(), "ann").matches(".xxx").count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_cannot_be_written_takes_no_sessions() {
    let (dir, server, address) = start("").await;
    let spool = dir.path().join("spool");
    until("the queue's first look", || spool.exists()).await;
    std::fs::rename(&spool, dir.path().join("away")).unwrap();
    std::fs::write(&spool, "no directory").unwrap();
    let mut client =
        super::Client(tokio::io::BufReader::new(tokio::net::TcpStream::connect(address).await.unwrap()));
    assert_eq!(client.reply().await, "421 4.3.0 no mail can be stored now, try again later\r\n");
    assert_eq!(client.reply().await, "");
    drop(server);
}
