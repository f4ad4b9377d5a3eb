//! `imaild service`: one service started, stopped and restarted while clients of the others go on; what a service that stops finishes, and
//! what it cuts off.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use serde_json::Value;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;
use support::imap::Imap;
use support::pop3::Pop3;
use support::sample::SUZUKI;
use support::server::{Ports, Server};
use support::sink::Sink;
use support::smtp::{Smtp, mail};
use support::tree::Tree;
use support::{Run, run, wait_for};

/// How long something may take that is awaited.
const LIMIT: Duration = Duration::from_secs(20);
/// Services with a port of each, before the offset.
const WITH_PORTS: [(&str, u16); 3] = [("smtp", 25), ("pop3", 110), ("imap", 143)];

fn service(tree: &Tree, words: &[&str]) -> Run {
    let mut args = vec!["service"];
    args.extend(words);
    args.extend(["--root", tree.text()]);
    run("imaild", &args)
}

/// Tells the server, which must do it; gives what it says.
#[track_caller]
fn tell(tree: &Tree, order: &str, name: &str) -> String {
    service(tree, &[order, name]).expect_code(0).out
}

/// What `imaild status` says of a service.
fn state(tree: &Tree, name: &str) -> String {
    let status = run("imaild", &["status", "--root", tree.text(), "--json"]).expect_code(0);
    let report: Value = serde_json::from_str(&status.out).unwrap();
    report["servers"][0]["states"][name].as_str().unwrap_or("none").to_owned()
}

fn refuses(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err()
}

/// Begins a message to suzuki, up to the middle of its text.
fn begin_message(server: &Server, subject: &str) -> Smtp {
    let mut smtp = server.smtp();
    assert_eq!(smtp.command("MAIL FROM:<a@example.net>").code, 250);
    assert_eq!(smtp.command("RCPT TO:<suzuki@mail.example.jp>").code, 250);
    assert_eq!(smtp.command("DATA").code, 354);
    smtp.raw(format!("Subject: {subject}\r\n\r\nthe first half\r\n").as_bytes());
    smtp
}

/// Sends the other half; gives the code of the answer.
fn end_message(smtp: &mut Smtp) -> u16 {
    smtp.raw(b"the second half\r\n.\r\n");
    smtp.reply().code
}

#[test]
fn each_service_stops_and_starts_alone() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let list = service(&tree, &["list"]).expect_code(0).out;
    for name in ["smtp", "queue", "pop3", "imap"] {
        assert!(list.lines().any(|line| line.split_whitespace().eq([name, "running"])), "{list}");
    }
    for (name, port) in WITH_PORTS {
        let address = server.address(port);
        // A client of each other service, and a message that is under way if SMTP is another.
        let mut sending = (name != "smtp").then(|| begin_message(&server, &format!("during {name}")));
        let mut pop3 = (name != "pop3").then(|| server.pop3("mike", "rocks"));
        let mut imap = (name != "imap").then(|| server.imap("suzuki", SUZUKI));
        assert_eq!(tell(&tree, "stop", name), format!("{name} was stopped\n"));
        assert!(refuses(address), "{name} takes clients");
        assert_eq!(state(&tree, name), "stopped");
        assert_eq!(tell(&tree, "stop", name), format!("{name} was stopped before\n"));
        for other in WITH_PORTS.iter().filter(|(other, _)| *other != name) {
            assert!(!refuses(server.address(other.1)), "{} refuses clients", other.0);
            assert_eq!(state(&tree, other.0), "running");
        }
        if let Some(smtp) = &mut sending {
            assert_eq!(end_message(smtp), 250, "while {name} is stopped");
        }
        assert_eq!(tell(&tree, "start", name), format!("{name} was started\n"));
        assert_eq!(tell(&tree, "start", name), format!("{name} was running before\n"));
        assert_eq!(tell(&tree, "restart", name), format!("{name} was restarted\n"));
        assert_eq!(state(&tree, name), "running");
        pop3.as_mut().iter_mut().for_each(|pop3| drop(pop3.ok("NOOP")));
        imap.as_mut().iter_mut().for_each(|imap| drop(imap.ok("NOOP")));
        if name != "smtp" {
            server.wait_for_mail("suzuki", SUZUKI, &format!("during {name}"));
        }
    }
    // All work after it.
    server.smtp().deliver("a@example.net", &["suzuki@mail.example.jp"], &mail("at the end"));
    server.wait_for_mail("suzuki", SUZUKI, "at the end");
    server.imap("suzuki", SUZUKI).logout();
    assert!(server.said().contains("pop3 was restarted"), "the log tells");
    assert!(server.stop().0.success());
}

#[test]
fn the_queue_stops_and_starts() {
    let tree = Tree::quiet();
    let sink = Sink::start(&[]);
    let route = format!("elsewhere.example={}", sink.address());
    let server = Server::start_with(&tree, Ports::reserve(), &["--route", &route]);
    assert_eq!(tell(&tree, "stop", "queue"), "queue was stopped\n");
    let mut smtp = server.smtp();
    smtp.deliver("a@example.net", &["b@elsewhere.example"], &mail("later"));
    smtp.deliver("a@example.net", &["suzuki@mail.example.jp"], &mail("now"));
    server.wait_for_mail("suzuki", SUZUKI, "now");
    assert_eq!(sink.taken(), 0, "the queue is stopped");
    assert_eq!(tell(&tree, "start", "queue"), "queue was started\n");
    wait_for("the message that waited", LIMIT, || (sink.taken() == 1).then_some(()));
    smtp.deliver("a@example.net", &["b@elsewhere.example"], &mail("at once"));
    wait_for("the next message", LIMIT, || (sink.taken() == 2).then_some(()));
}

#[test]
fn the_log_server_starts_when_it_is_asked_for() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let (to, from) = (server.address(514), UdpSocket::bind("127.0.0.1:0").unwrap());
    assert_eq!(tell(&tree, "start", "log"), "log was started\n");
    let said = |text: &str| {
        from.send_to(format!("<13>Jan  1 00:00:00 host {text}").as_bytes(), to).unwrap();
        wait_for(text, LIMIT, || server.said().contains(text).then_some(()));
    };
    said("the-first-line");
    tell(&tree, "restart", "log");
    said("the-second-line");
    assert_eq!(tell(&tree, "stop", "log"), "log was stopped\n");
    assert_eq!(state(&tree, "log"), "stopped");
}

#[test]
fn what_is_under_way_ends_first() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let mut smtp = begin_message(&server, "under way");
    let mut resting = server.smtp();
    let mut other = server.imap("suzuki", SUZUKI);
    thread::scope(|scope| {
        let stopping = scope.spawn(|| tell(&tree, "stop", "smtp"));
        assert_eq!(resting.reply().code, 421, "who does nothing is told to go");
        wait_for("new clients to be refused", LIMIT, || refuses(server.address(25)).then_some(()));
        wait_for("the state", LIMIT, || (state(&tree, "smtp") == "stopping").then_some(()));
        assert!(!stopping.is_finished());
        other.ok("NOOP");
        assert_eq!(end_message(&mut smtp), 250);
        assert_eq!(smtp.reply().code, 421);
        assert_eq!(stopping.join().unwrap(), "smtp was stopped\n");
    });
    server.wait_for_mail("suzuki", SUZUKI, "under way");
}

#[test]
fn what_takes_too_long_is_cut_off() {
    let tree = Tree::quiet();
    let server = Server::start_with(&tree, Ports::reserve(), &["--drain-for", "1"]);
    let mut smtp = begin_message(&server, "too long");
    let mut pop3 = server.pop3("mike", "rocks");
    assert_eq!(tell(&tree, "stop", "smtp"), "smtp was stopped; what did not end in time was cut off\n");
    pop3.ok("NOOP");
    assert_eq!(tell(&tree, "start", "smtp"), "smtp was started\n");
    assert!(smtp.is_closed());
    server.smtp().deliver("a@example.net", &["suzuki@mail.example.jp"], &mail("after it"));
    server.wait_for_mail("suzuki", SUZUKI, "after it");
    let subjects = server.pop3("suzuki", SUZUKI).subjects();
    assert!(!subjects.iter().any(|subject| subject == "too long"), "half a message was delivered");
}

#[test]
fn a_server_that_is_told_to_stop_ends_what_is_under_way() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let mut smtp = begin_message(&server, "the last one");
    let mut idling = server.imap("suzuki", SUZUKI);
    idling.ok("SELECT INBOX");
    idling.begin_idle();
    let mut pop3 = Pop3::open(server.address(110));
    server.signal("TERM");
    idling.wait_for_line("* BYE");
    assert!(pop3.ask("NOOP").is_err(), "a session that rests ends");
    wait_for("new clients to be refused", LIMIT, || refuses(server.address(25)).then_some(()));
    assert_eq!(end_message(&mut smtp), 250);
    assert_eq!(smtp.reply().code, 421);
    let (status, ports) = server.stop();
    assert!(status.success());
    let server = Server::start_on(&tree, ports);
    server.wait_for_mail("suzuki", SUZUKI, "the last one");
}

#[test]
fn who_is_told_and_who_is_not_there() {
    let tree = Tree::quiet();
    service(&tree, &["stop", "smtp"]).expect_code(1).expect_error(&["no imaild runs on this directory"]);
    assert_eq!(service(&tree, &["list"]).expect_code(0).out, "No imaild runs on this directory.\n");
    service(&tree, &["stop", "finger"]).expect_code(2).expect_error(&["finger", "smtp, queue, pop3"]);
    let one = Server::start(&tree);
    service(&tree, &["start", "web"]).expect_code(1).expect_error(&["no web service"]);
    let two = Server::start(&tree);
    let refused = service(&tree, &["stop", "pop3"]).expect_code(1);
    refused.expect_error(&["several servers", "--pid", &two.pid().to_string()]);
    let pid = two.pid().to_string();
    service(&tree, &["stop", "POP3D32", "--pid", &pid]).expect_code(0);
    assert!(refuses(two.address(110)) && !refuses(one.address(110)));
    let two = two.pid();
    let gone = service(&tree, &["stop", "pop3", "--pid", "4194999"]).expect_code(1);
    gone.expect_error(&["imaild.4194999.control", "no server listens there"]);
    assert!(tree.path(&format!("logs/imaild.{two}.control")).exists());
    drop(Imap::open(one.address(143)));
    // A port that somebody else took.
    tell_one(&tree, &one, "stop", "imap");
    let _other = std::net::TcpListener::bind(one.address(143)).unwrap();
    let refused = service(&tree, &["start", "imap", "--pid", &one.pid().to_string()]).expect_code(1);
    refused.expect_error(&["imap could not be started", "Is another mail server running?"]);
    one.pop3("mike", "rocks").ok("NOOP");
}

fn tell_one(tree: &Tree, server: &Server, order: &str, name: &str) {
    service(tree, &[order, name, "--pid", &server.pid().to_string()]).expect_code(0);
}
