//! What senders are told who asked for it (RFC 3461), and senders with addresses in UTF-8.

use super::*;
use std::time::SystemTime;

const REFUSAL: &[(&str, &str)] = &[("RCPT", "550 5.1.1 no such user")];

/// A server that finds this pair in its spool, with these records behind Q and H; the message is of `age`.
async fn with_pair(records: &str, age: Duration, routes: &[(&str, SocketAddr)]) -> Ours {
    let dir = tempfile::tempdir().unwrap();
    write_tree(dir.path(), "");
    let spool = dir.path().join("spool");
    std::fs::create_dir(&spool).unwrap();
    let name = "a1b2000000010001.SMD";
    let data = spool.join(format!("D{name}"));
    std::fs::write(&data, "Subject: x\r\n\r\nbody text\r\n").unwrap();
    let file = std::fs::File::options().append(true).open(data).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
    std::fs::write(spool.join(format!("Q{name}")), format!("QD{name}\r\nHexample.org\r\n{records}")).unwrap();
    Ours::on(dir, routes, Table::default(), 25)
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_told_as_they_were_asked_for() {
    // Records; then what the sender's mailbox has: nothing, or each of these texts and none of those.
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("S<mike@example.org>\r\nkNEVER\r\nR<a@peer.example>\r\n", &[], &[]),
        ("S<mike@example.org>\r\nkSUCCESS,DELAY\r\nR<a@peer.example>\r\n", &[], &[]),
        (
            "S<mike@example.org>\r\nR<a@peer.example>\r\nkNEVER\r\nR<b@peer.example>\r\n",
            &["Unknown user: a@peer.example", "Original message follows.", "body text"],
            &["b@peer.example", "multipart/report"],
        ),
        (
            "S<mike@example.org>\r\nkFAILURE\r\ngrfc822;A+2B@x\r\nR<a@peer.example>\r\n",
            &[
                "multipart/report",
                "Original-Recipient: rfc822; A+@x\r\nFinal-Recipient: rfc822; a@peer.example\r\nAction: failed\r\nStatus: 5.1.1\r\n",
                "body text",
            ],
            &[],
        ),
        (
            "EQQ1\r\npHDRS\r\nS<mike@example.org>\r\nR<a@peer.example>\r\n",
            &["Original-Envelope-Id: QQ1\r\n", "text/rfc822-headers", "Unknown user: a@peer.example"],
            &["body text"],
        ),
    ];
    for (records, texts, others) in cases {
        let (address, _) = peer(Script { ehlo: EHLO, answers: REFUSAL, ..Script::default() }).await;
        let ours = with_pair(records, Duration::ZERO, &[("peer.example", address)]).await;
        ours.logs("undeliverable a@peer.example").await;
        ours.drained().await;
        // The end of the item, and of the report if there is one.
        let ends = if texts.is_empty() { 1 } else { 2 };
        until("the ends", || ours.log().matches("finished").count() == ends).await;
        let inbox = ours.inbox("mike");
        for text in *texts {
            assert!(inbox.contains(text), "{records}: {text}: {inbox}");
        }
        for text in *others {
            assert!(!inbox.contains(text), "{records}: {text}: {inbox}");
        }
        assert_eq!(inbox.is_empty(), texts.is_empty(), "{records}: {inbox}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_is_told_once_and_not_too_early() {
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    for (age, told) in [(hours(3), false), (hours(5), true)] {
        let later = Script { ehlo: EHLO, answers: &[("RCPT", "450 later")], ..Script::default() };
        let (address, _) = peer(later).await;
        let records =
            "S<mike@example.org>\r\nkDELAY\r\nR<a@peer.example>\r\nkFAILURE\r\nR<b@peer.example>\r\n";
        let ours = with_pair(records, age, &[("peer.example", address)]).await;
        if told {
            until("the report", || ours.inbox("mike").contains("Delayed Mail")).await;
            ours.logs("status=1").await;
            until("the report's end", || ours.queued().len() == 1).await;
        }
        ours.touch().await;
        ours.waiting("\nT2\r\n").await;
        until("the second try", || ours.log().matches("status=3").count() == 2).await;
        let inbox = ours.inbox("mike");
        assert_eq!(inbox.matches("Action: delayed").count(), usize::from(told), "{inbox}");
        assert!(!inbox.contains("b@peer.example"), "{inbox}");
        let (_, envelope) = ours.queued().pop().unwrap();
        assert_eq!(envelope.contains("kDELAY\r\nj1\r\nR<a@"), told, "{envelope}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_out_of_the_queue_is_told() {
    let records = "S<mike@example.org>\r\nkSUCCESS\r\nR<ann@example.org>\r\n";
    let ours = with_pair(records, Duration::ZERO, &[]).await;
    until("the report", || ours.inbox("mike").contains("Delivered Mail")).await;
    assert!(ours.inbox("mike").contains("Final-Recipient: rfc822; ann@example.org\r\nAction: delivered\r\n"));
    // Nobody tells a program of its own mail.
    let ours = with_pair("S<>\r\nkSUCCESS\r\nR<ann@example.org>\r\n", Duration::ZERO, &[]).await;
    ours.logs("status=1").await;
    ours.drained().await;
    assert_eq!(ours.log().matches("processing").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_with_a_utf8_address_gets_his_bounce() {
    let utf8 = Script { ehlo: "250-peer\r\n250-SMTPUTF8\r\n250 8BITMIME", ..Script::default() };
    let ((good, heard), (bad, _)) =
        (peer(utf8).await, peer(Script { ehlo: EHLO, answers: REFUSAL, ..Script::default() }).await);
    let records = "c1\r\nS<\u{7528}\u{6237}@good.example>\r\nR<a@peer.example>\r\n";
    let routes = [("good.example", good), ("peer.example", bad)];
    let ours = with_pair(records, Duration::ZERO, &routes).await;
    until("the bounce", || heard.lock().unwrap().0.iter().any(|line| line == ".")).await;
    ours.drained().await;
    let lines = heard.lock().unwrap().0.join("\n");
    for text in [
        "MAIL FROM:<> BODY=8BITMIME SMTPUTF8",
        "RCPT TO:<\u{7528}\u{6237}@good.example>",
        "To:       <\u{7528}\u{6237}@good.example>",
        "charset=utf-8",
    ] {
        assert!(lines.contains(text), "{text}: {lines}");
    }
}
