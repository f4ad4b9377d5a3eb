//! `imaild status`, with the server up and down.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use serde_json::Value;
use std::time::Duration;
use support::server::Server;
use support::smtp::mail;
use support::tree::Tree;
use support::{run, wait_for};

/// The board is written every two seconds.
const LIMIT: Duration = Duration::from_secs(20);

fn status(tree: &Tree) -> Value {
    let run = run("imaild", &["status", "--root", tree.text(), "--json"]).expect_code(0);
    serde_json::from_str(&run.out).unwrap_or_else(|error| panic!("{error}:\n{}", run.text()))
}

fn text(tree: &Tree) -> String {
    run("imaild", &["status", "--root", tree.text()]).expect_code(0).out
}

#[test]
fn without_a_server_it_tells_what_is_on_disk() {
    let tree = Tree::imported();
    std::fs::write(tree.path("spool/HQ1.SMD"), "S<a@b.example>\r\nR<c@Held.example>\r\n").unwrap();
    std::fs::write(tree.path("spool/D1.SMD"), "Subject: x\r\n\r\n").unwrap();
    std::fs::write(tree.path("spool/D2.SMD"), "half").unwrap();
    let before = tree.snapshot();
    let report = status(&tree);
    assert_eq!(report["running"], false);
    assert_eq!(report["servers"], Value::Array(Vec::new()));
    let queue = &report["queue"];
    assert_eq!((&queue["messages"], &queue["waiting"], &queue["held"]), (&2.into(), &1.into(), &1.into()));
    assert!(queue["incomplete"].as_u64().unwrap() >= 1);
    let domains: Vec<&str> = queue["destinations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|there| there["domain"].as_str().unwrap())
        .collect();
    assert!(domains.contains(&"held.example"), "{domains:?}");
    assert!(text(&tree).starts_with("No imaild runs on this directory."), "{}", text(&tree));
    assert!(tree.snapshot() == before, "status changes nothing");
    run("imaild", &["status", "--root", "/no/such/directory"]).expect_code(1);
}

#[test]
fn a_running_server_tells_what_it_does() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let mut smtp = server.smtp();
    smtp.deliver("a@example.net", &["mike@mail.example.jp"], &mail("counted"));
    let report = wait_for("the open connection and the delivery", LIMIT, || {
        let report = status(&tree);
        let port = report["ports"]
            .as_array()
            .unwrap()
            .iter()
            .find(|port| port["port"] == server.address(25).port())?;
        let here = &report["servers"][0]["counts"]["delivered_here"];
        (port["connections"] == 1 && *here == 1).then(|| report.clone())
    });
    let running = &report["servers"][0];
    assert_eq!(running["pid"], server.pid());
    assert_eq!(running["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(running["services"], serde_json::json!(["smtp", "queue", "pop3", "imap"]));
    assert_eq!(running["states"]["log"], "stopped");
    assert_eq!(running["log_lines_dropped"], 0);
    assert_eq!(report["ports"].as_array().unwrap().len(), 7);
    let shown = text(&tree);
    for part in [
        "is running: process ",
        "smtp running",
        "log stopped",
        "Submission over TLS",
        "connections: 1 now",
        "delivered here 1",
        "Queue: 0 messages",
    ] {
        assert!(shown.contains(part), "{part:?} in\n{shown}");
    }
    smtp.quit();
    let (_, ports) = server.stop();
    assert_eq!(status(&tree)["running"], false, "an orderly stop takes the board down");
    let server = Server::start_on(&tree, ports);
    assert_eq!(status(&tree)["running"], true);
    server.kill();
    assert_eq!(status(&tree)["running"], false, "a killed server's board is not believed");
}
