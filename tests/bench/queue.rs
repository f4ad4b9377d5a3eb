//! A long queue: how fast the server starts with it, and what it costs to have it.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, reason = "a benchmark reports by panicking")]

mod load;
#[path = "../support/mod.rs"]
mod support;

use layout::disk::real::RealDisk;
use layout::mbx::compose::Source;
use layout::root::Root;
use layout::spool::id::{IdSource, ItemName, Origin};
use layout::spool::qfile::{Envelope, Fields, Recipient};
use layout::spool::store::{Body, Store};
use load::ELSEWHERE;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use support::postfix::DOMAIN;
use support::server::{Ports, Server};
use support::tree::Tree;

/// How many messages wait, unless an argument says otherwise.
const WAITING: usize = 100_000;

/// From the start to the greeting, in seconds.
const START_MAX: f64 = 2.0;

/// For a message that waits, in bytes.
const BYTES_MAX: f64 = 1024.0;

/// How long the server is watched at rest: several of its looks at the spool.
const WATCHED: Duration = Duration::from_secs(15);

/// The server is at rest when it used less of a second than this.
const AT_REST: f64 = 0.10;

fn main() {
    let waiting = load::argument().unwrap_or(WAITING);
    let tree = load::tree();
    load::print_head(&format!("{waiting} waiting messages"));
    let empty = measure(&tree, false).memory_mb;
    let begun = Instant::now();
    fill(&tree, waiting);
    println!("(spool filled in {:.1} s)", begun.elapsed().as_secs_f64());
    let full = measure(&tree, true);
    load::print_figure("from the start to the greeting", full.start, "seconds", Some(START_MAX));
    load::print_figure("from the start until the server is at rest", full.rest, "seconds", None);
    let each = (full.memory_mb - empty) * 1024.0 * 1024.0 / waiting as f64;
    load::print_figure("memory for a waiting message", each, "bytes", Some(BYTES_MAX));
    load::print_figure("peak memory", full.peak_mb, "MB", None);
    load::print_figure("CPU at rest", full.cpu * 100.0, "percent of a core", None);
}

/// What was seen of a server.
struct Seen {
    start: f64,
    rest: f64,
    memory_mb: f64,
    peak_mb: f64,
    cpu: f64,
}

fn measure(tree: &Tree, watch: bool) -> Seen {
    let ports = Ports::reserve();
    let begun = Instant::now();
    // Nobody listens there.
    let server = Server::start_with(tree, ports, &["--route", &format!("{ELSEWHERE}=127.0.0.1:9")]);
    let start = begun.elapsed().as_secs_f64();
    let pid = server.pid();
    loop {
        let before = load::cpu_seconds(pid);
        thread::sleep(Duration::from_secs(1));
        if load::cpu_seconds(pid) - before < AT_REST {
            break;
        }
    }
    let rest = begun.elapsed().as_secs_f64();
    let before = load::cpu_seconds(pid);
    if watch {
        thread::sleep(WATCHED);
    }
    Seen {
        start,
        rest,
        memory_mb: load::memory_mb(pid, "VmRSS"),
        peak_mb: load::memory_mb(pid, "VmHWM"),
        cpu: (load::cpu_seconds(pid) - before) / WATCHED.as_secs_f64(),
    }
}

/// Puts messages into the spool that were tried once, just now; nothing is synced.
fn fill(tree: &Tree, count: usize) {
    let root = Root::new(Arc::new(RealDisk::new()), tree.root());
    let store = Store::new(&root).unwrap();
    let ids = IdSource::new(root.shared_disk(), store.dir());
    let message: Arc<[u8]> = support::smtp::mail("waiting").into_bytes().into();
    let mut connection = ids.connection().unwrap();
    for number in 0..count {
        let name = ItemName::new(ids.message(&mut connection).unwrap(), Origin::Mail);
        let data = name.file(layout::spool::id::Role::Data);
        let fields = Fields {
            data: format!("C:\\IMail\\spool\\{data}"),
            host: DOMAIN.to_owned(),
            sender: format!("u001@{DOMAIN}"),
            recipients: vec![Recipient::new(&format!("somebody{number}@{ELSEWHERE}"))],
            ..Fields::default()
        };
        let mut envelope = Envelope::new(&fields);
        envelope.set_tries(1);
        let body = Body::Copy(Source::Bytes(message.clone()));
        store.prepare(&name, body, &envelope).unwrap().publish().unwrap();
    }
}
