//! What a service manager sees: sockets that it passes, what it is told of the server's state, SIGHUP.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use rcgen::{CertificateParams, DnType, KeyPair};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use support::client::client;
use support::sample::SUZUKI;
use support::server::{Ports, Server};
use support::smtp::{Smtp, mail};
use support::tree::Tree;
use support::{finish, ini, program, run, wait_for};

/// How long something may take that is awaited.
const LIMIT: Duration = Duration::from_secs(20);

fn service(tree: &Tree, order: &str, name: &str) {
    run("imaild", &["service", order, name, "--root", tree.text()]).expect_code(0);
}

#[test]
fn sockets_that_are_passed_are_served() {
    let Some(mut python) = client("python3") else { return };
    let (tree, ports) = (Tree::quiet(), Ports::reserve());
    let at = |port: u16| ports.address(port).to_string();
    let passed = format!("{},{},{}/udp", at(25), at(143), at(514));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/activate.py");
    python.arg(script).arg(passed).arg(program("imaild"));
    let server = Server::start_as(&tree, ports, python, &["--services", "smtp,pop3,imap,log"]);
    let refuses = |port: u16| TcpStream::connect(server.address(port)).is_err();
    server.smtp().deliver("a@example.net", &["suzuki@mail.example.jp"], &mail("activated"));
    server.imap("suzuki", SUZUKI).logout();
    assert!(refuses(587) && refuses(993), "of a service with passed sockets only those are served");
    server.pop3("mike", "rocks").quit();
    let from = UdpSocket::bind("127.0.0.1:0").unwrap();
    from.send_to(b"<13>Jan  1 00:00:00 host a-line-for-the-log", server.address(514)).unwrap();
    wait_for("the line", LIMIT, || server.said().contains("a-line-for-the-log").then_some(()));
    service(&tree, "stop", "smtp");
    assert!(refuses(25));
    service(&tree, "start", "smtp");
    server.smtp().quit();
    // A passed socket outlives the process, also one whose service was stopped: the client waits for the next process.
    service(&tree, "stop", "imap");
    let board = || run("imaild", &["status", "--root", tree.text()]).out;
    server.signal("USR1");
    wait_for("the end of the first process", LIMIT, || board().starts_with("No imaild runs").then_some(()));
    Smtp::open(server.address(25)).quit();
    server.imap("suzuki", SUZUKI).logout();
    assert!(server.stop().0.success());
}

#[test]
fn a_passed_socket_must_belong_to_a_service() {
    let Some(mut python) = client("python3") else { return };
    let (tree, ports) = (Tree::quiet(), Ports::reserve());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/activate.py");
    python.arg(script).arg(ports.address(26).to_string()).arg(program("imaild"));
    python.args(["serve", "--root", tree.text(), "--port-offset", &ports.offset.to_string()]);
    let port = ports.address(26).port().to_string();
    finish(&mut python).expect_code(1).expect_error(&[
        "socket number 1",
        "no service of imaild has port",
        &port,
    ]);
}

#[test]
fn the_service_manager_is_told() {
    let (tree, dir) = (Tree::quiet(), tempfile::tempdir().unwrap());
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    // Somebody must read all the time: the socket holds few messages.
    let (send, messages) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = [0; 1000];
        while let Ok(length) = socket.recv(&mut lines) {
            let _ = send.send(String::from_utf8_lossy(&lines[..length]).into_owned());
        }
    });
    let told = |wanted: &str| {
        loop {
            let text = messages.recv_timeout(LIMIT).unwrap_or_else(|error| panic!("{wanted}: {error}"));
            if text.lines().any(|line| line == wanted) {
                return text;
            }
            assert_eq!(text, "WATCHDOG=1\n", "while waiting for {wanted}");
        }
    };
    let mut imaild = support::command("imaild");
    imaild.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
    let server = Server::start_as(&tree, Ports::reserve(), imaild, &[]);
    told("READY=1");
    told("WATCHDOG=1");
    told("WATCHDOG=1");
    server.signal("HUP");
    assert!(told("RELOADING=1").contains("MONOTONIC_USEC="));
    told("READY=1");
    server.signal("TERM");
    told("STOPPING=1");
    assert!(server.stop().0.success());
}

/// Writes a certificate for a name and its key as the server's.
fn write_certificate(tree: &Tree, name: &str) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(tree.path("certs/server.key"), key.serialize_pem()).unwrap();
    std::fs::write(tree.path("certs/server.crt"), certificate.pem()).unwrap();
}

#[test]
fn on_sighup_registry_and_certificates_are_read_again() {
    let Some(mut openssl) = client("openssl") else { return };
    let tree = Tree::quiet();
    std::fs::create_dir_all(tree.path("certs")).unwrap();
    write_certificate(&tree, "one.example");
    let server = Server::start(&tree);
    openssl.args(["s_client", "-connect", &server.address(993).to_string()]);
    // Versions differ in blanks.
    let mut served =
        |name: &str| finish(&mut openssl).text().replace(' ', "").contains(&format!("CN={name}"));
    let said = |text: &str| server.output().matches(text).count();
    assert!(served("one.example"));
    std::fs::write(tree.path("certs/server.crt"), "nonsense").unwrap();
    server.signal("HUP");
    wait_for("the complaint", LIMIT, || (said("cannot be used") > 0).then_some(()));
    assert!(server.said().contains("the last good one stays"));
    assert!(served("one.example"), "the last good one stays");
    write_certificate(&tree, "two.example");
    server.signal("HUP");
    wait_for("the new certificate", LIMIT, || served("two.example").then_some(()));
    // The registry, and a broken one.
    let greeting =
        ini::put(&tree.registry(), "[Services\\SMTPD32\\Parameters]", "HelloMessage", "after SIGHUP");
    tree.save_registry(&greeting);
    server.signal("HUP");
    wait_for("the new greeting", LIMIT, || server.smtp().greeting.ends_with("after SIGHUP").then_some(()));
    let read_again = || said("registry.ini was read again and is in force") >= 2;
    wait_for("the readings", LIMIT, || read_again().then_some(()));
    tree.save_registry("nothing\r\n");
    server.signal("HUP");
    // A file that is cut off may be one that is being saved: it gets ten seconds.
    wait_for("the refusal", LIMIT * 2, || {
        (said("The registry as it was before stays in force") > 0).then_some(())
    });
    assert!(server.smtp().greeting.ends_with("after SIGHUP"));
}
