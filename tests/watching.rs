//! Metrics as Prometheus' own client reads them, `/health`, and what the server cleans up by itself.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use chrono::{Days, Local};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::Duration;
use support::client::python_with;
use support::sample::SUZUKI;
use support::server::{Ports, SPARE, Server};
use support::sink::Sink;
use support::smtp::mail;
use support::tree::Tree;
use support::{ini, run, wait_for};

/// How long something may take that is awaited.
const LIMIT: Duration = Duration::from_secs(20);

/// Status code and body.
fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// What Prometheus' own client makes of a text.
struct Samples(Vec<Value>);

impl Samples {
    fn read(text: &str) -> Option<Samples> {
        let mut python = python_with("prometheus_client")?;
        python.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/metrics.py"));
        let mut child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "no metrics:\n{text}");
        Some(Samples(serde_json::from_slice(&output.stdout).unwrap()))
    }

    /// The value of a metric whose labels hold this; 0 if there is none.
    fn get(&self, name: &str, label: &str) -> f64 {
        let is_it = |sample: &&Value| {
            let labels = sample["labels"].as_object().unwrap();
            sample["name"] == name && (label.is_empty() || labels.values().any(|value| value == label))
        };
        self.0.iter().filter(is_it).map(|sample| sample["value"].as_f64().unwrap()).sum()
    }
}

#[test]
fn metrics_say_what_happened() {
    let tree = Tree::quiet();
    let (takes, later, never) =
        (Sink::start(&[]), Sink::start(&[("RCPT", "450 later")]), Sink::start(&[("RCPT", "550 never")]));
    let ports = Ports::reserve();
    let address = ports.address(SPARE[0]);
    let routes = [("takes", takes.address()), ("later", later.address()), ("never", never.address())];
    let routes = routes.map(|(name, address)| format!("--route={name}.example={address}"));
    let metrics = format!("--metrics={}", address.port());
    let server = Server::start_with(&tree, ports, &[&routes[0], &routes[1], &routes[2], &metrics]);
    let mut smtp = server.smtp();
    for to in ["suzuki@mail.example.jp", "a@takes.example", "a@later.example", "a@never.example"] {
        smtp.deliver("mike@mail.example.jp", &[to], &mail(to));
    }
    server.pop3("mike", "rocks").quit();
    assert!(!server.pop3_takes("mike", "wrong"));
    let imap = server.imap("suzuki", SUZUKI);
    let expected = [
        ("imaild_messages_received_total", "", 4.0),
        // Suzuki's, and the bounce to mike.
        ("imaild_deliveries_total", "here", 2.0),
        ("imaild_deliveries_total", "elsewhere", 1.0),
        ("imaild_messages_deferred_total", "", 1.0),
        ("imaild_recipients_bounced_total", "", 1.0),
        ("imaild_logins_total", "ok", 2.0),
        ("imaild_logins_total", "failed", 1.0),
        ("imaild_log_lines_dropped_total", "", 0.0),
        ("imaild_queue_messages", "waiting", 1.0),
        ("imaild_queue_messages", "held", 0.0),
        ("imaild_service_up", "smtp", 1.0),
        ("imaild_service_up", "log", 0.0),
        ("imaild_build_info", env!("CARGO_PKG_VERSION"), 1.0),
    ];
    let mut last = String::new();
    let samples = loop {
        let (code, text) = get(address, "/metrics");
        assert_eq!(code, 200);
        let Some(samples) = Samples::read(&text) else { return };
        let wrong: Vec<_> =
            expected.iter().filter(|(name, label, value)| samples.get(name, label) != *value).collect();
        if wrong.is_empty() {
            break samples;
        }
        let now = format!("{wrong:?}\n{text}");
        assert!(last.len() < 20, "{now}");
        std::thread::sleep(Duration::from_millis(500));
        last.push('.');
    };
    let connected = |port: u16, name: &str| samples.get(name, &server.address(port).to_string());
    assert_eq!(connected(143, "imaild_open_connections"), 1.0);
    assert_eq!(connected(25, "imaild_open_connections"), 1.0);
    assert!(connected(110, "imaild_connections_total") >= 2.0);
    assert!(samples.get("imaild_disk_syncs_total", "") >= 4.0);
    assert!(samples.get("imaild_message_bytes_total", "received") > 100.0);
    let oldest = samples.get("imaild_queue_oldest_seconds", "");
    assert!((0.0..LIMIT.as_secs_f64() * 2.0).contains(&oldest), "{oldest}");
    let counters = samples.0.iter().filter(|sample| sample["name"].as_str().unwrap().ends_with("_total"));
    assert!(counters.clone().all(|sample| sample["kind"] == "counter") && counters.count() >= 15);
    imap.logout();
    run("imaild", &["service", "stop", "smtp", "--root", tree.text()]).expect_code(0);
    let (_, text) = get(address, "/metrics");
    assert_eq!(Samples::read(&text).unwrap().get("imaild_service_up", "smtp"), 0.0);
}

#[test]
fn health_is_well_or_not() {
    let tree = Tree::quiet();
    let ports = Ports::reserve();
    let address = ports.address(SPARE[0]);
    let server = Server::start_with(&tree, ports, &["--metrics", &address.to_string()]);
    let health = || {
        let (code, body) = get(address, "/health");
        (code, serde_json::from_str::<Value>(&body).unwrap())
    };
    let (code, body) = health();
    assert_eq!((code, &body["status"], &body["services"]["smtp"]), (200, &"ok".into(), &"running".into()));
    assert_eq!(get(address, "/").0, 404);
    run("imaild", &["service", "stop", "pop3", "--root", tree.text()]).expect_code(0);
    let (code, body) = health();
    assert_eq!((code, &body["services"]["pop3"]), (200, &"stopped".into()), "an admin wanted it so");
    std::fs::rename(tree.path("spool"), tree.path("elsewhere")).unwrap();
    let body = wait_for("the missing spool", LIMIT, || {
        let (code, body) = health();
        (code == 503).then_some(body)
    });
    assert_eq!(body["faults"], serde_json::json!(["the spool cannot be read"]));
    std::fs::rename(tree.path("elsewhere"), tree.path("spool")).unwrap();
    wait_for("the spool", LIMIT, || (health().0 == 200).then_some(()));
    let mut smtp = server.smtp();
    for line in ["MAIL FROM:<a@example.net>", "RCPT TO:<suzuki@mail.example.jp>", "DATA"] {
        smtp.command(line);
    }
    server.signal("TERM");
    let body = wait_for("the stop", LIMIT, || {
        let (code, body) = health();
        (code == 503).then_some(body)
    });
    assert_eq!(body["faults"], serde_json::json!(["the server is stopping"]));
    smtp.raw(b"Subject: x\r\n\r\n.\r\n");
    assert_eq!(smtp.reply().code, 250);
    assert!(server.stop().0.success());
}

#[test]
fn metrics_are_for_this_machine() {
    let tree = Tree::quiet();
    for place in ["0.0.0.0:9725", "192.0.2.1:9725", "x"] {
        run("imaild", &["serve", "--root", tree.text(), "--metrics", place])
            .expect_code(2)
            .expect_error(&["--metrics"]);
    }
}

#[test]
fn the_server_cleans_up_by_itself() {
    let tree = Tree::quiet();
    let today = Local::now().date_naive();
    let old = [
        format!("logs/sys{}.txt", (today - Days::new(40)).format("%Y%m%d")),
        format!("spool/log{}.txt", (today - Days::new(31)).format("%Y%m%d")),
        "spool/D00000000000000aa.SMD".to_owned(),
    ];
    let kept = [
        format!("logs/sys{}.txt", (today - Days::new(29)).format("%Y%m%d")),
        format!("logs/sys{}.txt", today.format("%Y%m%d")),
        "spool/D00000000000000ab.SMD".to_owned(),
        "spool/HQ00000000000000ab.SMD".to_owned(),
        "spool/D00000000000000ac.SMD".to_owned(),
    ];
    // The sample's own log is old too.
    std::fs::remove_file(tree.path("logs/sys20220825.txt")).unwrap();
    for file in old.iter().chain(&kept) {
        std::fs::write(tree.path(file), "x\r\n").unwrap();
    }
    // Half messages: an old one, one that waits, a young one.
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(40 * 24 * 3600);
    for file in [&old[2], &kept[2], &kept[3]] {
        let file = std::fs::File::options().write(true).open(tree.path(file)).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    let there = |file: &String| tree.path(file).exists();
    let server = Server::start(&tree);
    server.smtp().quit();
    assert!(old.iter().all(there), "off unless the registry says so");
    let text = ini::put(&tree.registry(), "[Global]", "CleanAfterDays", "dword:0000001e");
    tree.save_registry(&ini::put(&text, "[Global]", "CleanAt", "00:00"));
    wait_for("the old files to go", LIMIT, || (!old.iter().any(there)).then_some(()));
    wait_for("the log", LIMIT, || server.said().contains("cleaned up: 3 files with 9 bytes").then_some(()));
    assert!(kept.iter().all(there));
}
