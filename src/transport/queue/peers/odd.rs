//! Servers that misbehave: what the log, the queue and the bounce say of each.

use super::*;
use crate::transport::remote::pace::CONNECTIONS_START;
use crate::transport::remote::resolver::HOSTS_MAX;

/// Sends to such a server: the first try fails with `log` in the log and leaves the recipient in the queue; the second one is the
/// last, and the bounce says `bounce`. Answers with what the server heard.
async fn fails_twice(script: Script, log: &str, bounce: &[&str]) -> (Vec<String>, usize) {
    let (address, heard) = peer(script).await;
    let ours = Ours::start(&[("peer.example", address)], Table::default(), TWO_TRIES);
    ours.send("mike@example.org", &["a@peer.example"], "text\r\n").await;
    ours.waiting("\nT1\r\n").await;
    let queued = ours.queued();
    assert!(queued.len() == 1 && queued[0].1.contains("\nR<a@peer.example>\r\n"), "{queued:?}");
    ours.touch().await;
    let said = ours.log();
    for text in [log, "Trying peer.example (0)", "Connect 127.0.0.1 [127.0.0.1:", "R1 T2"] {
        assert!(said.contains(text), "{text}: {said}");
    }
    until("the bounce", || ours.inbox("mike").contains("Delivery failed 2 attempts: a@peer.example")).await;
    ours.drained().await;
    ours.logs("status=2").await;
    let (said, inbox) = (ours.log(), ours.inbox("mike"));
    for text in ["Trying peer.example (1)", "undeliverable a@peer.example Delivery failed 2", "status=2"] {
        assert!(said.contains(text), "{text}: {said}");
    }
    for text in bounce {
        assert!(inbox.contains(text), "{text}: {inbox}");
    }
    let heard = heard.lock().unwrap();
    heard.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_answers_slowly_gets_its_mail() {
    let one_byte = Some(Duration::from_millis(1));
    let (address, heard) = peer(Script { ehlo: EHLO, one_byte, ..Script::default() }).await;
    let ours = Ours::start(&[("peer.example", address)], Table::default(), TWO_TRIES);
    ours.send("mike@example.org", &["a@peer.example"], "text\r\n").await;
    ours.drained().await;
    assert!(heard.lock().unwrap().0.contains(&"text".to_owned()));
    ours.logs("status=1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_answers_too_slowly() {
    // Each byte comes in time, the line does not.
    let one_byte = Some(PATIENCE / 5);
    let bounce = ["Unexpected connection response from server:", "no answer in time"];
    fails_twice(Script { one_byte, ..Script::default() }, "no answer in time", &bounce).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_closes_after_data() {
    let script = Script { ehlo: EHLO, closes_after: "DATA", ..Script::default() };
    let log = "a@peer.example: connection lost: ";
    fails_twice(script, log, &["Body of message generated response:", "connection lost: "]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_closes_after_the_final_dot() {
    let script = Script { ehlo: EHLO, closes_at: ".", ..Script::default() };
    let bounce = ["Body of message generated response:", "connection lost: the server closed the connection"];
    let (lines, _) = fails_twice(script, bounce[1], &bounce).await;
    // Whether it has the message nobody knows (RFC 5321 §6.1): rather twice than never.
    assert_eq!(lines.iter().filter(|line| *line == "text").count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_closes_after_ehlo() {
    let script = Script { ehlo: EHLO, closes_after: "EHLO", ..Script::default() };
    fails_twice(script, "connection lost: ", &["Server response to MAIL FROM:", "connection lost: "]).await;
    let script = Script { closes_at: "EHLO", ..Script::default() };
    let bounce = ["Unexpected response to EHLO/HELO:", "the server closed the connection"];
    fails_twice(script, bounce[1], &bounce).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_says_later_for_ever() {
    let answers = &[("RCPT", "450-4.2.0 not\r\n450 4.2.0 now")];
    let script = Script { ehlo: EHLO, answers, ..Script::default() };
    let bounce = ["RCPT TO generated following response:\r\n450-4.2.0 not\r\n450 4.2.0 now\r\n"];
    fails_twice(script, "a@peer.example: 450-4.2.0 not / 450 4.2.0 now", &bounce).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_busy_in_mid_session() {
    let answers = &[("RCPT", "421 4.3.2 closing")];
    let script = Script { ehlo: EHLO, answers, closes_after: "RCPT", ..Script::default() };
    let bounce = ["RCPT TO generated following response:\r\n421 4.3.2 closing"];
    let (_, connections) = fails_twice(script, "a@peer.example: 421 4.3.2 closing", &bounce).await;
    // The connection was not used again.
    assert_eq!(connections, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_speaks_no_smtp() {
    let bounce = ["Unexpected connection response from server:", "the server does not speak SMTP"];
    for greeting in ["HTTP/1.1 400 Bad Request", "\u{1}\u{2}\u{3}", "22x hello"] {
        fails_twice(Script { greeting, ..Script::default() }, bounce[1], &bounce).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_with_replies_of_a_thousand_lines() {
    let lines = |code: &str| -> &'static str { (format!("{code}-x\r\n").repeat(999) + code + " y").leak() };
    let answers: &'static [_] = vec![("RCPT TO:<a@", lines("250")), ("RCPT TO:<b@", lines("550"))].leak();
    let script = Script { greeting: lines("220"), ehlo: lines("250"), answers, ..Script::default() };
    let (address, heard) = peer(script).await;
    let ours = Ours::start(&[("peer.example", address)], Table::default(), "");
    ours.send("mike@example.org", &["a@peer.example", "b@peer.example"], "text\r\n").await;
    ours.drained().await;
    assert!(heard.lock().unwrap().0.contains(&"text".to_owned()));
    let bounce = ours.inbox("mike");
    assert!(
        bounce.contains("Unknown user: b@peer.example") && !bounce.contains("a@peer.example\r\n\r\nRCPT")
    );
    let shown = bounce.matches("550-x").count();
    assert_eq!(shown, crate::transport::bounce::REPLY_LINES_MAX);
    // A log line has its limit as well.
    assert!(ours.log().lines().all(|line| line.len() <= 512));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_with_fifty_servers() {
    let mut table = Table::default();
    let server = |number: u16| Exchanger { preference: number, host: format!("mx{number}.example") };
    table.exchangers.insert("many.example".into(), (1..=50).map(server).collect());
    for number in 1..=50_u8 {
        let address = std::net::Ipv4Addr::new(127, 0, 1, number);
        table.addresses.insert(format!("mx{number}.example"), vec![address.into()]);
    }
    // Nobody listens on any of them.
    let (free, _) = peer(Script::default()).await;
    let ours = Ours::start_with(&[], table, TWO_TRIES, free.port());
    ours.send("mike@example.org", &["a@many.example"], "text\r\n").await;
    ours.waiting("\nT1\r\n").await;
    ours.logs("status=3").await;
    let log = ours.log();
    assert_eq!(log.matches("Connect mx").count(), HOSTS_MAX, "{log}");
    assert!(log.contains(&format!(":{}] ({HOSTS_MAX})", free.port())), "{log}");
    ours.touch().await;
    until("the bounce", || ours.inbox("mike").contains("Delivery failed 2 attempts: a@many.example")).await;
    assert!(ours.inbox("mike").contains("SMTP connection failed,"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_that_takes_no_mail() {
    let mut table = Table::default();
    let none = Exchanger { preference: 0, host: String::new() };
    table.exchangers.insert("null.example".into(), vec![none]);
    let settings = format!("{TWO_TRIES}BounceFormat=Report\r\n");
    let ours = Ours::start(&[], table, &settings);
    ours.send("mike@example.org", &["a@null.example"], "text\r\n").await;
    ours.drained().await;
    until("the bounce", || ours.inbox("mike").contains("undeliverable to a@null.example (556 5.1.10 ")).await;
    // RFC 7505 section 4.2, and not the code of a host that does not exist.
    let report = "Final-Recipient: rfc822; a@null.example\r\nAction: failed\r\nStatus: 5.1.10\r\n";
    assert!(ours.inbox("mike").contains(report), "{}", ours.inbox("mike"));
    ours.logs("status=2").await;
    let log = ours.log();
    for text in [
        "ERR a@null.example: 556 5.1.10 the domain null.example takes no mail (null MX)",
        "undeliverable a@null.example",
        "status=2",
    ] {
        assert!(log.contains(text), "{text}: {log}");
    }
    assert!(!log.contains("Connect "), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_an_ipv6_address_alone() {
    // A machine without IPv6 cannot tell.
    if TcpListener::bind("[::1]:0").await.is_err() {
        return;
    }
    let (address, heard) =
        peer_at("[::1]:0".parse().unwrap(), Script { ehlo: EHLO, ..Script::default() }).await;
    let mut table = Table::default();
    let six = Exchanger { preference: 1, host: "six.example".into() };
    table.exchangers.insert("peer.example".into(), vec![six]);
    table.addresses.insert("six.example".into(), vec![address.ip()]);
    let ours = Ours::start_with(&[], table, TWO_TRIES, address.port());
    ours.send("mike@example.org", &["a@peer.example"], "text\r\n").await;
    ours.drained().await;
    assert!(heard.lock().unwrap().0.contains(&"text".to_owned()));
    let log = ours.log();
    assert!(log.contains(&format!("Connect six.example [[::1]:{}] (1)", address.port())), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_destination_gets_few_connections_first() {
    let (address, heard) = peer(Script { silent: true, ..Script::default() }).await;
    let ours = Ours::start(&[("peer.example", address)], Table::default(), TWO_TRIES);
    for _ in 0..2 * CONNECTIONS_START {
        ours.send("mike@example.org", &["a@peer.example"], "text\r\n").await;
    }
    ours.logs("status=3").await;
    let connections = heard.lock().unwrap().1;
    assert!((1..=CONNECTIONS_START).contains(&connections), "{connections}");
}
