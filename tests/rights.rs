//! A server that root starts: it becomes the owner of the data directory, keeps no right but that to bind ports below 1024, and its services
//! stop and start on such ports.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use std::fs;
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::time::Duration;
use support::sample::{PRIMARY, SUZUKI};
use support::server::{Ports, Server};
use support::smtp::mail;
use support::tree::Tree;
use support::wire::Wire;
use support::{Run, command, ini, run, wait_for};

/// An account that nobody has.
const OWNER: u32 = 41_325;
/// CAP_NET_BIND_SERVICE alone.
const BIND_ALONE: &str = "0000000000000400";
/// How long something may take that is awaited.
const LIMIT: Duration = Duration::from_secs(20);

/// The sample, owned by [`OWNER`]. `None`, with a word, for others than root, who cannot give it away; with `CI` set that is a failure.
fn given_away() -> Option<Tree> {
    let tree = Tree::quiet();
    if fs::metadata(tree.root()).unwrap().uid() != 0 {
        assert!(std::env::var_os("CI").is_none(), "run as root");
        eprintln!("SKIPPED: only root has rights to give up");
        return None;
    }
    give(tree.root());
    Some(tree)
}

fn give(path: &Path) {
    chown(path, Some(OWNER), Some(OWNER)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path()));
    }
}

fn tell(tree: &Tree, order: &str, name: &str) -> Run {
    run("imaild", &["service", order, name, "--root", tree.text()])
}

/// A line of a process's state, as the kernel tells it.
fn fact(of: &str, name: &str) -> String {
    let line = of.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {of}")).split_whitespace().next().unwrap().to_owned()
}

#[test]
fn services_stop_and_start_on_low_ports() {
    let Some(tree) = given_away() else { return };
    let more = ["--services", "smtp,queue,pop3,imap"];
    let server = Server::start_as(&tree, Ports::reserve_low(), command("imaild"), &more);
    // Every thread, since each has rights of its own.
    let threads: Vec<String> = fs::read_dir(format!("/proc/{}/task", server.pid()))
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path().join("status")).unwrap())
        .collect();
    assert!(threads.len() > 1);
    for status in &threads {
        assert_eq!((fact(status, "Uid"), fact(status, "Gid")), (OWNER.to_string(), OWNER.to_string()));
        assert_eq!(fact(status, "Groups"), OWNER.to_string());
        assert_eq!(
            (fact(status, "CapPrm").as_str(), fact(status, "CapEff").as_str()),
            (BIND_ALONE, BIND_ALONE)
        );
        assert_eq!((fact(status, "CapInh"), fact(status, "CapAmb")), ("0".repeat(16), "0".repeat(16)));
    }
    for (name, port) in [("smtp", 25), ("pop3", 110), ("imap", 143)] {
        let address = server.address(port);
        assert!(address.port() < 1024);
        let greets = || Wire::open(address).ok().and_then(|mut wire| wire.line_bytes()).is_some();
        tell(&tree, "stop", name).expect_code(0);
        assert!(TcpStream::connect(address).is_err(), "{name} takes clients");
        tell(&tree, "start", name).expect_code(0);
        assert!(greets(), "{name} after its start");
        tell(&tree, "restart", name).expect_code(0);
        assert!(greets(), "{name} after its restart");
    }
    // One that was not asked for: its port is bound only now.
    let log = server.address(514);
    assert!(log.port() < 1024);
    tell(&tree, "start", "log").expect_code(0);
    let from = UdpSocket::bind("127.0.0.1:0").unwrap();
    from.send_to(b"<13>Jan  1 00:00:00 host a-line-on-a-low-port", log).unwrap();
    wait_for("the line", LIMIT, || server.said().contains("a-line-on-a-low-port").then_some(()));
    server.smtp().deliver("a@example.net", &["suzuki@mail.example.jp"], &mail("on low ports"));
    server.wait_for_mail("suzuki", SUZUKI, "on low ports");
    assert_eq!(fs::metadata(tree.path("users/suzuki/Main.mbx")).unwrap().uid(), OWNER);
    assert!(server.stop().0.success());
}

/// What a program that the server runs may do: nothing more than anybody.
#[test]
fn programs_have_no_rights() {
    let Some(tree) = given_away() else { return };
    let (file, seen) = (tree.path("program"), tree.path("seen"));
    fs::write(
        &file,
        format!("#!/bin/sh\ncat /proc/self/status >{0}.new && mv {0}.new {0}\n", seen.display()),
    )
    .unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    let program = file.to_str().unwrap();
    let registry = ini::set(&tree.registry(), "[Global]", "AllowedPrograms", program);
    tree.save_registry(&ini::set(&registry, &ini::aliases(PRIMARY), "program", &format!("|{program}")));
    let server = Server::start_as(
        &tree,
        Ports::reserve_low(),
        command("imaild"),
        &["--services", "smtp,queue,pop3,imap"],
    );
    server.smtp().deliver("a@example.net", &["program@mail.example.jp"], &mail("for a program"));
    let status = wait_for("the program to run", LIMIT, || fs::read_to_string(&seen).ok());
    assert_eq!(fact(&status, "Uid"), OWNER.to_string());
    for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
        assert_eq!(fact(&status, set), "0".repeat(16), "{set}");
    }
}
