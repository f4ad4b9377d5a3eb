//! What EHLO offers, over real sockets.

use super::{Client, connect, inbox, start};
use crate::session::Server;
use crate::session::testing::user_files;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// How long something may take that is awaited.
const LIMIT: Duration = Duration::from_secs(30);

pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < LIMIT, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Envelopes in the spool.
fn envelopes(server: &Server) -> Vec<String> {
    let config = server.live.now();
    let spool = config.root().spool().full();
    let files = std::fs::read_dir(spool).unwrap().map(|entry| entry.unwrap().path());
    let queued = files.filter(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with('Q') && name.ends_with(".SMD")
    });
    queued.filter_map(|path| std::fs::read_to_string(path).ok()).collect()
}

pub(super) async fn hello(services: &str) -> (tempfile::TempDir, Arc<Server>, Client<TcpStream>) {
    let (dir, server, address) = start(services).await;
    let mut client = connect(address).await;
    client.ask("EHLO client.example").await;
    (dir, server, client)
}

pub(super) async fn expect(client: &mut Client<TcpStream>, dialogue: &[(&str, &str)]) {
    for (line, expected) in dialogue {
        let answer = client.ask(line).await;
        assert!(answer.starts_with(expected), "{line}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_offered() {
    let (_dir, _server, mut client) = hello("").await;
    let expected = [
        "250-example.org says hello",
        "250-SIZE 0",
        "250-8BITMIME",
        "250-DSN",
        "250-ETRN",
        "250-STARTTLS",
        "250-PIPELINING",
        "250-ENHANCEDSTATUSCODES",
        "250-CHUNKING",
        "250-SMTPUTF8",
        "250-AUTH LOGIN PLAIN CRAM-MD5",
        "250 AUTH=LOGIN",
        "",
    ];
    assert_eq!(client.ask("EHLO x").await, expected.join("\r\n"));
    assert_eq!(client.ask("HELO x").await, "250 example.org says hello\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_in_chunks() {
    let (_dir, server, mut client) = hello("").await;
    let begin = [("MAIL FROM:<a@example.net>", "250 "), ("RCPT TO:<mike@example.org>", "250 ")];
    expect(&mut client, &begin).await;
    client.send("BDAT 12\r\nSubject: x\r\n").await;
    assert_eq!(client.reply().await, "250 2.0.0 12 octets received\r\n");
    // A chunk may end anywhere, and what looks like the end of DATA or a command is text.
    client.send("BDAT 12\r\n\r\nQUIT\r\n.\r\n.").await;
    assert!(client.reply().await.starts_with("250 "));
    expect(&mut client, &[("DATA", "503 "), ("RCPT TO:<ann@example.org>", "503 "), ("MAIL FROM:<>", "503 ")])
        .await;
    client.send("BDAT 2 LAST\r\nab").await;
    assert_eq!(client.reply().await, "250 2.0.0 Message queued\r\n");
    assert!(inbox(&server, "mike").contains("\r\n\r\nQUIT\r\n.\r\n.ab\r\n"), "{}", inbox(&server, "mike"));

    // All at once, with an empty last chunk, and a command behind it.
    client
        .send("MAIL FROM:<a@example.net>\r\nRCPT TO:<ann@example.org>\r\nBDAT 6\r\nX: y\r\nBDAT 0 LAST\r\nNOOP\r\n")
        .await;
    for expected in ["250 2.1.0", "250 2.1.5", "250 2.0.0 6 octets", "250 2.0.0 Message", "250 2.0.0 ok"] {
        let answer = client.reply().await;
        assert!(answer.starts_with(expected), "{expected}: {answer}");
    }
    assert!(inbox(&server, "ann").contains("X: y\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_are_refused() {
    const SMALL: &str = "[Domains\\example.org]\r\nMaxMessageSize=dword:00000064\r\n";
    let large = "x".repeat(60);
    // What is sent behind MAIL and RCPT, and the answers.
    let cases: &[(&str, String, &[&str])] = &[
        ("", "BDAT 9 LAST\r\nX: y\nz\r\n\r\n".into(), &["550 5.6.0 a line feed", "500 "]),
        ("", "BDAT 2\r\na\rBDAT 3 LAST\r\n\nb\n".into(), &["250 ", "550 5.6.0 a line feed"]),
        ("", format!("BDAT 999 LAST\r\n{}", "x".repeat(999)), &["550 5.6.0 a line is longer"]),
        (
            SMALL,
            format!("BDAT 60\r\n{large}BDAT 60\r\n{large}BDAT 60 LAST\r\n{large}NOOP\r\n"),
            &["250 ", "552 5.3.4 ", "503 5.5.1 ", "250 2.0.0 ok"],
        ),
        ("", "RSET\r\nBDAT 6\r\nQUIT\r\nNOOP\r\n".into(), &["250 ", "503 5.5.1 ", "250 2.0.0 ok"]),
        (
            "",
            "RSET\r\nMAIL FROM:<a@b>\r\nBDAT 6 LAST\r\nQUIT\r\nDATA\r\n".into(),
            &["250 ", "250 ", "554 5.5.1 ", "503 5.5.1 "],
        ),
        ("", "BDAT x\r\nNOOP\r\n".into(), &["421 4.5.4 ", ""]),
        ("", "BDAT 18446744073709551615 LAST\r\nNOOP\r\n".into(), &["552 5.3.4 ", ""]),
        ("", "BDAT 5\r\nX: y\r\nRSET\r\n".into(), &["250 ", "500 "]),
    ];
    for (services, sent, answers) in cases {
        let (_dir, server, mut client) = hello(services).await;
        expect(&mut client, &[("MAIL FROM:<a@b>", "250 "), ("RCPT TO:<mike@example.org>", "250 ")]).await;
        client.send(sent).await;
        for expected in *answers {
            let answer = client.reply().await;
            let good = if expected.is_empty() { answer.is_empty() } else { answer.starts_with(expected) };
            assert!(good, "{sent:.40}: {expected}: {answer}");
        }
        assert_eq!(user_files(server.live.now().root().top().full().as_path(), "mike"), "", "{sent:.40}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_in_utf8() {
    let (_dir, server, mut client) = hello("").await;
    expect(
        &mut client,
        &[
            ("MAIL FROM:<\u{7528}\u{6237}@example.net>", "553 5.6.7 "),
            ("MAIL FROM:<a@example.net>", "250 "),
            ("RCPT TO:<\u{7528}@example.org>", "553 5.6.7 "),
            ("RCPT TO:<mike@example.org>", "250 "),
            ("DATA\r\nSubject: plain\r\n\r\n.", "354 "),
        ],
    )
    .await;
    assert!(client.reply().await.starts_with("250 "));
    assert!(inbox(&server, "mike").contains(" with ESMTP\r\n"));
    expect(
        &mut client,
        &[
            ("VRFY ann@example.org SMTPUTF8", "252 "),
            ("MAIL FROM:<\u{7528}\u{6237}@example.net> SMTPUTF8 BODY=8BITMIME", "250 "),
            ("RCPT TO:<\u{7528}@example.org>", "550 5.1.1 unknown user <\u{7528}@example.org>"),
            ("RCPT TO:<ann@example.org>", "250 "),
            ("DATA\r\nSubject: \u{7528}\r\n\r\n.", "354 "),
        ],
    )
    .await;
    assert!(client.reply().await.starts_with("250 "));
    let stored = inbox(&server, "ann");
    assert!(stored.contains(" with UTF8SMTP\r\n"), "{stored}");
    assert!(stored.contains("Return-Path: <\u{7528}\u{6237}@example.net>\r\n"), "{stored}");
    client.0.get_mut().try_write(b"MAIL FROM:<\xff\xfe@b> SMTPUTF8\r\n").unwrap();
    assert!(client.reply().await.starts_with("501 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_of_what_was_stored_at_once() {
    let (dir, server, mut client) = hello("").await;
    expect(
        &mut client,
        &[
            ("MAIL FROM:<mike@example.org> RET=HDRS ENVID=id+2B1", "250 "),
            ("RCPT TO:<ann@example.org> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Ann+2Bx@example.org", "250 "),
            ("RCPT TO:<public@example.org> NOTIFY=FAILURE", "250 "),
            ("RCPT TO:<mike@example.org> NOTIFY=sometimes", "501 5.5.4 "),
            ("DATA\r\nSubject: told\r\n\r\nsecret body\r\n.", "354 "),
        ],
    )
    .await;
    assert!(client.reply().await.starts_with("250 "));
    until("the report", || user_files(dir.path(), "mike").contains("Delivered Mail")).await;
    let report = inbox(&server, "mike");
    for text in [
        "Original-Envelope-Id: id+1\r\n",
        "Original-Recipient: rfc822; Ann+x@example.org\r\nFinal-Recipient: rfc822; ann@example.org\r\nAction: delivered\r\nStatus: 2.0.0\r\n",
        "Subject: told\r\n",
        "From <> ",
    ] {
        assert!(report.contains(text), "{text}: {report}");
    }
    assert!(!report.contains("secret body") && !report.contains("public@"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_for_a_domains_mail() {
    // Nobody listens there.
    const ROUTES: &str = "[Routes]\r\nbackup.example=127.0.0.1:1\r\nidle.example=127.0.0.1:1\r\n";
    let (_dir, server, mut client) = hello(ROUTES).await;
    expect(
        &mut client,
        &[
            ("MAIL FROM:<a@example.net>", "250 "),
            ("RCPT TO:<b@Backup.example>", "250 "),
            ("ETRN backup.example", "503 5.5.1 "),
            ("DATA\r\nSubject: x\r\n\r\n.", "354 "),
        ],
    )
    .await;
    assert!(client.reply().await.starts_with("250 "));
    let tried = |number: u32| {
        let line = format!("\nT{number}\r\n");
        let server = server.clone();
        move || envelopes(&server).iter().any(|envelope| envelope.contains(&line))
    };
    until("the first try", tried(1)).await;
    expect(
        &mut client,
        &[
            ("ETRN", "501 "),
            ("ETRN elsewhere.example", "459 4.7.1 "),
            ("ETRN example.org", "459 4.7.1 "),
            ("ETRN #name", "459 4.7.1 "),
            ("ETRN idle.example", "251 2.0.0 "),
        ],
    )
    .await;
    // The log has the end of the first try a little later than the spool.
    until("rest", || {
        server.log.flush();
        user_log(&server).contains("status=3")
    })
    .await;
    // The queue knows it a little later than the log.
    tokio::time::sleep(Duration::from_millis(100)).await;
    expect(&mut client, &[("ETRN @example", "253 2.0.0 ok, 1 pending messages")]).await;
    expect(&mut client, &[("ETRN @example", "250 2.0.0 ")]).await;
    until("the second try", tried(2)).await;
}

pub(super) fn user_log(server: &Server) -> String {
    let dir = server.live.now().root().logs().full();
    let files = std::fs::read_dir(dir).into_iter().flatten();
    files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_that_are_told_before() {
    const LIMITS: &str = "[Domains\\small.example]\r\nOfficial=small.example\r\nTopDir=C:\\IMail\\small\r\nMaxMessageSize=dword:00000064\r\n\r\n[Domains\\$virtual001]\r\nOfficial=small.example\r\n\r\n[Domains\\small.example\\Users\\sue]\r\n\r\n[Domains\\example.org\\Users\\full]\r\nMaxSize=dword:000003e8\r\n";
    let (_dir, _server, mut client) = hello(LIMITS).await;
    for (size, recipient, expected) in [
        (100, "sue@small.example", "250 "),
        (101, "sue@small.example", "552 5.3.4 message size exceeds fixed maximum message size\r\n"),
        (101, "mike@example.org", "250 "),
        (900, "full@example.org", "250 "),
        (1100, "full@example.org", "552 5.2.2 User mailbox exceeds allowed size: <full@example.org>\r\n"),
    ] {
        let mail = format!("MAIL FROM:<a@example.net> SIZE={size}");
        expect(&mut client, &[("RSET", "250 "), (&mail, "250 ")]).await;
        expect(&mut client, &[(&format!("RCPT TO:<{recipient}>"), expected)]).await;
    }
    // Without SIZE: at the end of DATA if it is the only one, else by a bounce.
    let text = format!("DATA\r\nSubject: x\r\n\r\n{}\r\n.", "x".repeat(200));
    for (recipients, expected) in [
        (&["sue@small.example"][..], "552 5.3.4 "),
        (&["sue@small.example", "mike@example.org"], "250 2.0.0 "),
    ] {
        expect(&mut client, &[("RSET", "250 "), ("MAIL FROM:<ann@example.org>", "250 ")]).await;
        for recipient in recipients {
            expect(&mut client, &[(&format!("RCPT TO:<{recipient}>"), "250 ")]).await;
        }
        expect(&mut client, &[(&text, "354 ")]).await;
        let answer = client.reply().await;
        assert!(answer.starts_with(expected), "{recipients:?}: {answer}");
    }
    let bounce = "undeliverable to sue@small.example (message size exceeds fixed maximum message size)";
    until("the bounce", || user_files(_dir.path(), "ann").contains(bounce)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_that_goes_around_in_circles() {
    let (_dir, _server, mut client) = hello("").await;
    // One more is ours.
    for (hops, expected) in [(29, "250 "), (30, "554 5.4.6 ")] {
        expect(&mut client, &[("MAIL FROM:<a@b>", "250 "), ("RCPT TO:<ann@example.org>", "250 ")]).await;
        expect(&mut client, &[(&format!("DATA\r\n{}\r\n.", "Received: x\r\n".repeat(hops)), "354 ")]).await;
        let answer = client.reply().await;
        assert!(answer.starts_with(expected), "{hops}: {answer}");
    }
}

/// What one server takes for the end of a message, and another for text (CVE-2023-51764 and its like).
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_smuggled() {
    const EVIL: &str = "MAIL FROM:<evil@b>\r\nRCPT TO:<ann@example.org>\r\nDATA\r\nSubject: evil\r\n\r\n";
    for end in
        ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\n.\r", "\r.\n", "\r\n.\r", "\r\n\0.\r\n", "\r\n.\0\r\n"]
    {
        let (dir, server, mut client) = hello("").await;
        expect(&mut client, &[("MAIL FROM:<a@b>", "250 "), ("RCPT TO:<mike@example.org>", "250 ")]).await;
        let answer = client.ask(&format!("DATA\r\nSubject: x\r\n\r\ntext{end}{EVIL}\r\n.")).await;
        assert!(answer.starts_with("354 "), "{answer}");
        let answer = client.reply().await;
        let expected = if end.replace("\r\n", "").contains('\n') { "550 5.6.0 " } else { "250 2.0.0 " };
        assert!(answer.starts_with(expected), "{end:?}: {answer}");
        assert!(client.ask("NOOP").await.starts_with("250 2.0.0 ok"), "{end:?}");
        assert_eq!(user_files(dir.path(), "ann"), "", "{end:?}");
        drop(server);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_errors_end_a_session() {
    let (_dir, _server, mut client) = hello("").await;
    for _ in 0..super::super::ERRORS_MAX {
        assert!(client.ask("JUNK").await.starts_with("500 "));
    }
    let answer = client.ask("JUNK").await;
    assert!(answer.starts_with("500 "), "{answer}");
    assert_eq!(client.reply().await, "421 4.7.0 too many errors\r\n");
    assert_eq!(client.reply().await, "");
}

/// What a client may send elsewhere without a login is sent.
#[tokio::test(flavor = "multi_thread")]
async fn relayed_mail_is_sent() {
    const DEAD: &str =
        "[Services\\SMTPD32\\Parameters]\r\nRelayMode=Anyone\r\n\r\n[Routes]\r\n*=127.0.0.1:1\r\n";
    let (_next_dir, next, address) = start(DEAD).await;
    for mode in [
        "RelayMode=Addresses\r\nRelayAddresses=127.0.0.0/8",
        "RelayMode=LocalUsers",
        "RelayMode=LocalHosts",
        "RelayMode=Anyone",
    ] {
        let services = format!(
            "[Services\\SMTPD32\\Parameters]\r\n{mode}\r\nDelayBetweenRCPT=dword:00000064\r\n\r\n[Routes]\r\n*={address}\r\n"
        );
        let (_dir, server, mut client) = hello(&services).await;
        let sender = format!("mike@example.org> ENVID={}<", "x").replace("<", "");
        let user = mode.replace(['=', '\r', '\n', '/', '.'], "");
        expect(&mut client, &[(&format!("MAIL FROM:<{sender}"), "250 ")]).await;
        let began = std::time::Instant::now();
        for number in [1, 2] {
            expect(&mut client, &[(&format!("RCPT TO:<{user}{number}@elsewhere.example>"), "250 ")]).await;
        }
        assert!(began.elapsed() >= Duration::from_millis(100), "no delay between relayed recipients");
        expect(&mut client, &[("DATA\r\nSubject: x\r\n\r\n.", "354 ")]).await;
        assert!(client.reply().await.starts_with("250 "));
        let arrived = format!("R<{user}1@elsewhere.example>");
        until(mode, || envelopes(&next).iter().any(|envelope| envelope.contains(&arrived))).await;
        until("an empty queue", || envelopes(&server).is_empty()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_may_have_so_many_sessions() {
    let (_dir, server, mut client) = hello("").await;
    let now = std::time::Instant::now();
    let _others: Vec<_> = (0..super::super::limits::SESSIONS_MAX)
        .map(|_| server.senders.enter("mike@example.org", now).unwrap())
        .collect();
    assert!(client.ask("AUTH PLAIN AG1pa2UAc2VjcmV0").await.starts_with("421 4.7.0 "));
    assert_eq!(client.reply().await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_may_have_so_many_recipients() {
    let (_dir, server, mut client) = hello("").await;
    assert!(client.ask("AUTH PLAIN AG1pa2UAc2VjcmV0").await.starts_with("235 "));
    let other = server.senders.enter("mike@example.org", std::time::Instant::now()).unwrap();
    while other.count(std::time::Instant::now()) {}
    expect(
        &mut client,
        &[("MAIL FROM:<mike@example.org>", "250 "), ("RCPT TO:<ann@example.org>", "452 4.7.1 ")],
    )
    .await;
}
