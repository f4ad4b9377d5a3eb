//! Servers that do what most do, and the ways to them.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn mail_goes_out_over_one_connection() {
    let (address, heard) = peer(Script { ehlo: EHLO, ..Script::default() }).await;
    let ours = Ours::start(&[("peer.example", address)], Table::default(), "");
    ours.send("mike@example.org", &["a@peer.example", "b@peer.example"], ".dot\r\n").await;
    ours.drained().await;
    ours.send("mike@example.org", &["c@peer.example"], "two\r\n").await;
    ours.drained().await;
    let (lines, connections) = heard.lock().unwrap().clone();
    assert_eq!(connections, 1);
    assert!(lines[0].starts_with("EHLO example.org"), "{lines:?}");
    assert!(lines[1].starts_with("MAIL FROM:<mike@example.org> SIZE="), "{lines:?}");
    assert_eq!(lines[2..5], ["RCPT TO:<a@peer.example>", "RCPT TO:<b@peer.example>", "DATA"]);
    assert!(lines.contains(&"..dot".to_owned()) && lines.contains(&"two".to_owned()), "{lines:?}");
    ours.logs("status=1").await;
    let log = ours.log();
    assert!(log.contains("rdeliver peer.example a@peer.example (2) <mike@example.org> "), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_servers_and_servers_that_send_single_bytes() {
    let plain = peer(Script::default()).await;
    let slow = peer(Script { ehlo: EHLO, one_byte: Some(Duration::ZERO), ..Script::default() }).await;
    let routes = [("plain.example", plain.0), ("slow.example", slow.0)];
    let ours = Ours::start(&routes, Table::default(), "");
    ours.send("mike@example.org", &["a@plain.example", "a@slow.example"], "text\r\n").await;
    ours.drained().await;
    let lines = plain.1.lock().unwrap().0.clone();
    assert_eq!(
        lines[1..4],
        ["HELO example.org", "MAIL FROM:<mike@example.org>", "RCPT TO:<a@plain.example>"]
    );
    assert!(slow.1.lock().unwrap().0.contains(&"text".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_recipient_is_returned() {
    let answers = &[("RCPT TO:<no@", "550-5.1.1 no such user\r\n550 5.1.1 here")];
    let (address, heard) = peer(Script { ehlo: EHLO, answers, ..Script::default() }).await;
    let ours = Ours::start(&[("peer.example", address)], Table::default(), "");
    ours.send("mike@example.org", &["yes@peer.example", "no@peer.example"], "text\r\n").await;
    ours.drained().await;
    until("the bounce", || ours.inbox("mike").contains("Undeliverable Mail")).await;
    let bounce = ours.inbox("mike");
    for text in [
        "Unknown user: no@peer.example",
        "RCPT TO generated following response:",
        "550-5.1.1 no such user",
        "550 5.1.1 here",
        "Original message follows.",
    ] {
        assert!(bounce.contains(text), "{text}: {bounce}");
    }
    assert!(!bounce.contains("Unknown user: yes@"), "{bounce}");
    assert!(heard.lock().unwrap().0.contains(&"text".to_owned()));
    ours.logs("status=2").await;
    let log = ours.log();
    assert!(log.contains("undeliverable no@peer.example"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_left_means_no_message() {
    let answers = &[("RCPT TO", "550 no")];
    let (address, heard) = peer(Script { ehlo: EHLO, answers, ..Script::default() }).await;
    let ours = Ours::start(&[("peer.example", address)], Table::default(), "");
    ours.send("mike@example.org", &["a@peer.example"], "text\r\n").await;
    until("the bounce", || ours.inbox("mike").contains("Unknown user: a@peer.example")).await;
    assert!(!heard.lock().unwrap().0.contains(&"text".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_for_now_waits_and_a_touch_tries_it_again() {
    for (script, log) in [
        (Script { ehlo: EHLO, answers: &[("RCPT", "450 later")], ..Script::default() }, "450 later"),
        (Script { ehlo: EHLO, closes_at: ".", ..Script::default() }, "connection lost"),
        (Script { silent: true, ..Script::default() }, "no answer in time"),
    ] {
        let (address, _) = peer(script).await;
        let ours = Ours::start(&[("peer.example", address)], Table::default(), TWO_TRIES);
        ours.send("mike@example.org", &["a@peer.example"], "text\r\n").await;
        ours.waiting("\nT1\r\n").await;
        ours.logs(log).await;
        ours.logs("requeuing").await;
        // Rested: the queue saw its own change.
        ours.logs("status=3").await;
        // That nothing happens cannot be waited for.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(ours.queued()[0].1.contains("\nT1\r\n"), "{:?}", ours.queued());
        ours.touch().await;
        until("the bounce", || ours.inbox("mike").contains("Delivery failed 2 attempts: a@peer.example"))
            .await;
        ours.drained().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn domains_that_do_not_exist_and_domains_that_take_no_mail() {
    let mut table = Table::default();
    let none = Exchanger { preference: 0, host: String::new() };
    table.exchangers.insert("null.example".into(), vec![none]);
    let own = Exchanger { preference: 5, host: "mail.example.org".into() };
    table.exchangers.insert("loop.example".into(), vec![own]);
    let ours = Ours::start(&[], table, "");
    let reasons = [
        "undeliverable to a@null.example (556 5.1.10 ",
        "Unknown host: a@missing.example",
        "undeliverable to a@loop.example (554 5.4.6 ",
        "Unknown host: a@[nonsense]",
        "Unknown host: a@b\"c",
        "Unknown host: a@d..e",
    ];
    let recipients = ["null.example", "missing.example", "loop.example", "[nonsense]", "b\"c", "d..e"];
    let recipients: Vec<String> = recipients.iter().map(|domain| format!("a@{domain}")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    ours.send("mike@example.org", &recipients, "text\r\n").await;
    ours.drained().await;
    for reason in reasons {
        until(reason, || ours.inbox("mike").contains(reason)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bounce_that_cannot_be_delivered_goes_to_the_postmaster_and_then_stays() {
    let (address, _) = peer(Script { answers: &[("RCPT", "550 no")], ..Script::default() }).await;
    let ours = Ours::start(&[("peer.example", address)], Table::default(), "");
    // There is no postmaster and no root in this tree.
    ours.send("nobody@peer.example", &["a@peer.example"], "text\r\n").await;
    until("the note", || ours.log().contains("nobody can be told")).await;
    ours.waiting("R<root@example.org>").await;
    assert_eq!(ours.queued().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_may_send_to_named_routes_only() {
    let (address, _) = peer(Script::default()).await;
    let ours = Ours::start(&[("Named.example", address), ("*", address)], Table::default(), "");
    let config = ours.live.now();
    assert!(ours.transport.is_gateway_for(&config, "named.EXAMPLE"));
    assert!(!ours.transport.is_gateway_for(&config, "other.example"));
    assert_eq!(ours.transport.gateway_for(&config), ["named.example"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_server_gets_what_the_first_ones_do_not_take() {
    let (good, heard) = peer(Script { ehlo: EHLO, ..Script::default() }).await;
    let port = good.port();
    let closing = Script { greeting: "554 go away", ..Script::default() };
    let (_, refused) = peer_at(format!("127.0.0.3:{port}").parse().unwrap(), closing).await;
    let mut table = Table::default();
    let mut exchangers = Vec::new();
    // Nobody listens on the first, the name of the second has no address, the third sends everybody away.
    for (preference, host, address) in
        [(40, "d", "127.0.0.1"), (10, "a", "127.0.0.2"), (20, "b", ""), (30, "c", "127.0.0.3")]
    {
        exchangers.push(Exchanger { preference, host: host.to_owned() });
        table.addresses.insert(host.to_owned(), address.parse().into_iter().collect());
    }
    table.exchangers.insert("peer.example".into(), exchangers);
    let ours = Ours::start_with(&[], table, "", port);
    ours.send("mike@example.org", &["a@PEER.example"], "text\r\n").await;
    ours.drained().await;
    assert!(heard.lock().unwrap().0.contains(&"text".to_owned()));
    assert_eq!(refused.lock().unwrap().1, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_gets_what_cannot_be_delivered_directly() {
    let (gate, heard) = peer(Script::default()).await;
    let mut table = Table::default();
    table.addresses.insert("peer.example".into(), vec!["127.0.0.2".parse().unwrap()]);
    let services = format!("GateHost={gate}\r\n");
    let ours = Ours::start_with(&[], table, &services, gate.port());
    ours.send("mike@example.org", &["a@peer.example"], "text\r\n").await;
    ours.drained().await;
    assert!(heard.lock().unwrap().0.contains(&"RCPT TO:<a@peer.example>".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_queued_before_a_restart_rests_for_the_timer() {
    let (address, heard) = peer(Script::default()).await;
    let dir = tempfile::tempdir().unwrap();
    write_tree(dir.path(), "");
    let spool = dir.path().join("spool");
    std::fs::create_dir(&spool).unwrap();
    let write = |tries: &str, number: u32| {
        let name = format!("a1b2000000{number:02}0001.SMD");
        std::fs::write(spool.join(format!("D{name}")), "Subject: x\r\n\r\ntext\r\n").unwrap();
        let envelope =
            format!("QD{name}\r\nHexample.org\r\nS<mike@example.org>\r\n{tries}R<a{number}@[127.0.0.7]>\r\n");
        std::fs::write(spool.join(format!("Q{name}")), envelope).unwrap();
    };
    write("T3\r\n", 1);
    write("", 2);
    let ours = Ours::on(dir, &[("[127.0.0.7]", address)], Table::default(), 25);
    until("the new one", || ours.queued().len() == 1).await;
    assert!(ours.queued()[0].1.contains("R<a1@"));
    assert!(heard.lock().unwrap().0.contains(&"RCPT TO:<a2@[127.0.0.7]>".to_owned()));
}

/// A copy that is put off sends nothing to others who have theirs: neither by the user's forwards, nor by an alias of his name.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_waits_is_forwarded_once() {
    for (aliases, to) in [("", "ann"), ("ann=ann,x@peer.example\r\n", "ann"), ("both=ann,mike\r\n", "both")] {
        let (address, heard) = peer(Script { ehlo: EHLO, ..Script::default() }).await;
        let dir = tempfile::tempdir().unwrap();
        write_tree(dir.path(), &format!("[Domains\\example.org\\Users\\_aliases]\r\n{aliases}"));
        let user = dir.path().join("users/ann");
        // Nothing can be stored in a directory.
        std::fs::create_dir_all(user.join("main.mbx")).unwrap();
        if !aliases.starts_with("ann") {
            std::fs::write(user.join("forward.ima"), ".,x@peer.example\r\n").unwrap();
        }
        let ours = Ours::on(dir, &[("peer.example", address)], Table::default(), 25);
        ours.send("mike@example.org", &[&format!("{to}@example.org")], "text\r\n").await;
        ours.waiting("\nR<ann-main@example.org>").await;
        let touch = || {
            for (path, _) in ours.queued() {
                // It may be gone, or be written anew, by now.
                let file = std::fs::File::options().append(true).open(path);
                let _ = file.map(|file| file.set_modified(std::time::SystemTime::now()));
            }
        };
        until("three tries", || {
            touch();
            ours.log().matches("requeuing").count() >= 3
        })
        .await;
        std::fs::remove_dir(user.join("main.mbx")).unwrap();
        until("the last try", || {
            touch();
            ours.queued().is_empty()
        })
        .await;
        let text = heard.lock().unwrap().0.iter().filter(|line| *line == "text").count();
        assert_eq!((text, ours.inbox("ann").matches("Subject: x").count()), (1, 1), "{aliases}{to}");
    }
}
