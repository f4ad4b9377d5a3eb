//! What is decided here before another server is asked, and what servers are told and not told.

use super::*;

/// The registry with a limit for what leaves the domain.
fn with_outbound_limit(dir: &std::path::Path, bytes: u32) {
    write_tree(dir, "");
    let path = dir.join("registry.ini");
    let text = std::fs::read_to_string(&path).unwrap();
    let domain = "Aliases=mail.example.org\r\n";
    let limit = format!("{domain}MaxOutboundSize=dword:{bytes:08x}\r\n");
    std::fs::write(path, text.replace(domain, &limit)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_for_other_domains() {
    let (address, heard) = peer(Script { ehlo: EHLO, ..Script::default() }).await;
    let dir = tempfile::tempdir().unwrap();
    with_outbound_limit(dir.path(), 2000);
    let ours = Ours::on(dir, &[("peer.example", address)], Table::default(), 25);
    let large = "x\r\n".repeat(1000);
    ours.send("mike@example.org", &["a@peer.example", "ann@example.org"], &large).await;
    ours.drained().await;
    until("the bounce", || ours.inbox("mike").contains("undeliverable to a@peer.example (552 5.3.4 ")).await;
    assert!(ours.inbox("mike").contains(" bytes are more than the 2000 that may leave example.org)"));
    // Users here get any size, and the size is no matter of the other server.
    assert!(ours.inbox("ann").contains("x\r\nx\r\n"));
    assert_eq!(heard.lock().unwrap().1, 0);
    ours.send("mike@example.org", &["a@peer.example"], "small\r\n").await;
    ours.drained().await;
    assert!(heard.lock().unwrap().0.contains(&"small".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_only_smtputf8_can_carry() {
    let old = peer(Script { ehlo: EHLO, ..Script::default() }).await;
    let new = peer(Script { ehlo: "250-peer\r\n250 SMTPUTF8", ..Script::default() }).await;
    let ours = Ours::start(&[("old.example", old.0), ("new.example", new.0)], Table::default(), "");
    let recipients = ["\u{e9}@old.example", "e@old.example", "\u{e9}@new.example"];
    ours.send("mike@example.org", &recipients, "text\r\n").await;
    ours.drained().await;
    until("the bounce", || ours.inbox("mike").contains("undeliverable to ?@old.example (550 5.6.7 ")).await;
    // It does not keep the message from the others.
    let lines = old.1.lock().unwrap().0.clone();
    assert_eq!(lines[2..4], ["RCPT TO:<e@old.example>", "DATA"]);
    let lines = new.1.lock().unwrap().0.clone();
    assert_eq!(lines[1..3], ["MAIL FROM:<mike@example.org> SMTPUTF8", "RCPT TO:<\u{e9}@new.example>"]);
}

/// An address needs SMTPUTF8 for its local part alone: the domain has an ASCII name as well, and both names have one route.
#[tokio::test(flavor = "multi_thread")]
async fn international_domains_reach_any_server() {
    let (address, heard) = peer(Script { ehlo: EHLO, ..Script::default() }).await;
    let ours = Ours::start(&[("\u{65e5}\u{672c}.example", address)], Table::default(), "");
    let recipients = ["a@\u{65e5}\u{672c}.example", "b@XN--WGV71A.example"];
    ours.send("mike@example.org", &recipients, "text\r\n").await;
    ours.drained().await;
    let (lines, connections) = heard.lock().unwrap().clone();
    assert_eq!(
        lines[2..4],
        ["RCPT TO:<a@xn--wgv71a.example>", "RCPT TO:<b@XN--WGV71A.example>"],
        "{lines:?}"
    );
    assert_eq!(connections, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_bits_and_long_lines_pass() {
    let (address, heard) = peer(Script { ehlo: "250 peer", ..Script::default() }).await;
    let ours = Ours::start(&[("peer.example", address)], Table::default(), "");
    let long = format!("\u{e9}{}\r\n", "y".repeat(1500));
    ours.send("mike@example.org", &["a@peer.example"], &long).await;
    ours.drained().await;
    let lines = heard.lock().unwrap().0.clone();
    assert!(lines.contains(&"MAIL FROM:<mike@example.org>".to_owned()), "{lines:?}");
    assert!(lines.contains(&format!("\u{e9}{}", "y".repeat(996))) && lines.contains(&"y".repeat(504)));
}

/// Puts a message into the spool by hand, as a Q file and a D file.
fn drop_in(ours: &Ours, number: u32, envelope: &str) {
    let (spool, name) = (ours.dir.path().join("spool"), format!("a1b20000000{number}0001.SMD"));
    std::fs::write(spool.join(format!("D{name}")), "Subject: x\n\ntext\n").unwrap();
    let text = format!("QD{name}\r\nHexample.org\r\nS<mike@example.org>\r\n{envelope}");
    std::fs::write(spool.join(format!("Q{name}")), text).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn wishes_for_reports_go_to_those_who_understand_them() {
    let knows = peer(Script { ehlo: "250-peer\r\n250 DSN", ..Script::default() }).await;
    let does_not = peer(Script { ehlo: EHLO, ..Script::default() }).await;
    let ours = Ours::start(&[("yes.example", knows.0), ("no.example", does_not.0)], Table::default(), "");
    let envelope = "EQQ3+2B1\r\npHDRS\r\nkSUCCESS,DELAY\r\ngrfc822;x+2By@z\r\nR<a@yes.example>\r\nR<b@yes.example>\r\n\
                    kSUCCESS\r\nR<a@no.example>\r\n";
    drop_in(&ours, 1, envelope);
    until("both", || [&knows, &does_not].iter().all(|p| p.1.lock().unwrap().0.contains(&"text".to_owned())))
        .await;
    ours.drained().await;
    let lines = knows.1.lock().unwrap().0.clone();
    assert_eq!(
        lines[1..4],
        [
            "MAIL FROM:<mike@example.org> RET=HDRS ENVID=QQ3+2B1",
            "RCPT TO:<a@yes.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;x+2By@z",
            "RCPT TO:<b@yes.example>",
        ]
    );
    assert!(does_not.1.lock().unwrap().0.contains(&"RCPT TO:<a@no.example>".to_owned()));
    // Whoever does not understand them leaves the report to us.
    until("the report", || ours.inbox("mike").contains("Action: relayed")).await;
    let inbox = ours.inbox("mike");
    assert!(inbox.contains("Final-Recipient: rfc822; a@no.example"), "{inbox}");
    assert!(!inbox.contains("yes.example") && inbox.matches("Action: ").count() == 1, "{inbox}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_is_logged_and_what_is_sent_is_not() {
    let (address, _) = peer(Script { ehlo: EHLO, ..Script::default() }).await;
    let ours = Ours::start(&[("peer.example", address)], Table::default(), TWO_TRIES);
    ours.send("mike@example.org", &["a@peer.example"], "secret words\r\n").await;
    ours.drained().await;
    let log = ours.log();
    let texts = log.lines().filter_map(|line| line.split_once(") ").map(|(_, text)| text));
    let dialogue: Vec<&str> = texts.skip_while(|text| !text.starts_with("Trying")).collect();
    let connect = format!("Connect 127.0.0.1 [{address}] (1)");
    let expected = [
        "Trying peer.example (0)",
        &connect,
        "220 peer",
        ">EHLO example.org",
        "250-peer",
        "250-PIPELINING",
        "250-SIZE 1000000",
        "250 8BITMIME",
    ];
    assert_eq!(dialogue[..8], expected, "{log}");
    assert!(dialogue[8].starts_with(">MAIL FROM:<mike@example.org> SIZE="));
    assert_eq!(dialogue[9..13], [">RCPT TO:<a@peer.example>", ">DATA", "250 ok", "250 ok"]);
    assert!(!log.contains("secret"), "{log}");
    // Without Verbose Logging there is nothing of it.
    let quiet = Ours::start(&[("peer.example", address)], Table::default(), "");
    quiet.send("mike@example.org", &["a@peer.example"], "secret words\r\n").await;
    quiet.drained().await;
    let log = quiet.log();
    assert!(log.contains("rdeliver") && !log.contains("Trying") && !log.contains("250 ok"), "{log}");
}

/// A queue with these rules for what leaves, and a server elsewhere.
async fn with_outbound_rules(rules: &str) -> (Ours, Heard) {
    let (address, heard) = peer(Script { ehlo: EHLO, ..Script::default() }).await;
    let dir = tempfile::tempdir().unwrap();
    write_tree(dir.path(), "");
    std::fs::write(dir.path().join("orules.ima"), rules).unwrap();
    (Ours::on(dir, &[("peer.example", address), ("other.example", address)], Table::default(), 25), heard)
}

#[tokio::test(flavor = "multi_thread")]
async fn outbound_rules() {
    let rules = "B~to a box:box\r\nB~secret:ann@example.org\r\nB~virus:NUL\r\nB~moved:boss@other.example\r\n";
    let (ours, heard) = with_outbound_rules(rules).await;
    let recipients = ["a@peer.example", "b@peer.example", "mike@example.org"];
    for body in ["to a box", "top secret", "a virus", "moved"] {
        ours.send("mike@example.org", &recipients, &format!("{body}\r\n")).await;
        ours.drained().await;
        // Those here get it in any case.
        until(body, || ours.inbox("mike").contains(body)).await;
    }
    let lines = heard.lock().unwrap().0.clone();
    let said = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!([said("secret"), said("virus"), said("to a box"), said("moved")], [0, 0, 1, 1], "{lines:?}");
    assert_eq!([said("RCPT TO:<a@"), said("RCPT TO:<b@"), said("RCPT TO:<boss@other.example>")], [1, 1, 1]);
    let ann = ours.inbox("ann");
    assert!(ann.matches("secret").count() == 1 && !ann.contains("X-IMail-Rule"), "{ann}");
    ours.logs("discarded for b@peer.example by the outbound rule B~virus:NUL").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outbound_rules_are_for_mail_of_our_domains() {
    let (ours, heard) = with_outbound_rules("B~secret:NUL\r\n").await;
    ours.send("mike@example.org", &["ann@example.org"], "secret\r\n").await;
    until("the mail", || ours.inbox("ann").contains("secret")).await;
    // A user's mail that another server sent here goes on: it is not the domain's.
    std::fs::write(ours.dir.path().join("users/ann/forward.ima"), "x@peer.example").unwrap();
    ours.send_as(None, "stranger@peer.example", &["ann@example.org"], "secret\r\n").await;
    ours.drained().await;
    assert!(heard.lock().unwrap().0.contains(&"RCPT TO:<x@peer.example>".to_owned()));
}
