//! Starting, serving, stopping.
//!
//! [`run`] opens the data directory, reads the registry, binds all ports, gives up root's rights, and serves until the process is told to stop
//! (SIGTERM or SIGINT): then no new clients are taken, commands under way are finished, flags are written down.
//!
//! # Failure
//! [`ServeError`] before the first client; afterwards a failing session ends alone.
//!
//! # Limits
//! [`CLIENTS_MAX`] connections; [`DRAIN_FOR`] for the last commands.

mod listen;
mod rights;
pub mod tls;

use crate::account::Accounts;
use crate::config::{Live, Watcher};
use crate::logs::Log;
use crate::mailbox::{FLUSH_EVERY, Hub};
use crate::session::Server;
use crate::smtp::relay;
use crate::transport::remote::Route;
use crate::transport::remote::resolver::Resolver;
use crate::transport::{self, Transport};
use layout::disk::real::RealDisk;
use layout::registry::store::StoreError;
use layout::root::{Root, RootError};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The most connections at a time, all services together.
pub const CLIENTS_MAX: usize = 20_000;
/// How long sessions get to finish their command when the server stops.
pub const DRAIN_FOR: Duration = Duration::from_secs(10);

/// What `imaild serve` was told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data directory.
    pub root: PathBuf,
    /// Addresses to listen on; empty: all.
    pub bind: Vec<IpAddr>,
    /// Added to every port.
    pub port_offset: u16,
    /// The services to run; empty: all.
    pub services: Vec<Service>,
    /// `DOMAIN=HOST:PORT`.
    pub routes: Vec<String>,
    /// The resolver to ask.
    pub dns: Option<SocketAddr>,
}

impl Options {
    /// Was this service asked for, or none in particular?
    pub fn runs(&self, service: Service) -> bool {
        self.services.is_empty() || self.services.contains(&service)
    }
}

/// A service of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Receiving mail.
    Smtp,
    /// Delivering what waits.
    Queue,
    /// Fetching mail.
    Pop3,
    /// Reading mail on the server.
    Imap,
    /// The web client.
    Web,
    /// The log server.
    Log,
}

impl FromStr for Service {
    type Err = String;

    fn from_str(name: &str) -> Result<Service, String> {
        match name {
            "smtp" => Ok(Service::Smtp),
            "queue" => Ok(Service::Queue),
            "pop3" => Ok(Service::Pop3),
            "imap" => Ok(Service::Imap),
            "web" => Ok(Service::Web),
            "log" => Ok(Service::Log),
            _ => Err(format!("{name:?} is no service: smtp, queue, pop3, imap, web, log")),
        }
    }
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// No usable data directory.
    #[error(transparent)]
    Root(#[from] RootError),
    /// No usable registry.
    #[error(transparent)]
    Registry(#[from] StoreError),
    /// A port is taken or not allowed.
    #[error(
        "cannot listen on {address}: {error}. Is another mail server running? --port-offset 10000 uses other ports; ports below 1024 need root"
    )]
    Bind {
        /// Which address and port.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// Anything else.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Sessions run on so many threads at least: small messages are read on them, and one that waits for the disk must not hold up
/// the others.
const WORKERS_MIN: usize = 4;

/// Serves until told to stop.
pub fn run(options: Options) -> Result<(), ServeError> {
    let dir = layout::root::locate(Some(&options.root))?;
    let root = Root::new(Arc::new(RealDisk::new()), &dir);
    let (live, notes) = Live::start(&root)?;
    let listeners = listen::bind(&options)?;
    rights::give_up(&dir)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = cores.max(WORKERS_MIN);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    let outcome = runtime.block_on(serve(options, root, live, notes, listeners));
    runtime.shutdown_timeout(Duration::from_secs(5));
    outcome
}

async fn serve(
    options: Options,
    root: Root,
    live: Arc<Live>,
    notes: Vec<String>,
    listeners: Vec<listen::Bound>,
) -> Result<(), ServeError> {
    let log = Log::start(&root, {
        let live = live.clone();
        move || {
            let config = live.now();
            let named = config.registry.global.log_dir.as_deref();
            named
                .and_then(|dir| config.paths.resolve(config.root(), dir))
                .unwrap_or_else(|| config.root().logs())
        }
    });
    for note in &notes {
        say(&log, note);
    }
    let hub = Hub::new(root.shared_disk());
    let accounts = Accounts::new(live.clone()).map_err(io::Error::other)?;
    let transport = Transport::start(&live, &hub, &log, sending(&options))?;
    for domain in transport.gateway_for(&live.now()) {
        say(&log, &format!("mail for {domain} is taken from anyone, because a route names it"));
    }
    relay::warnings(&live.now().registry).iter().for_each(|text| say(&log, text));
    let tls = tls::start(&live, {
        let log = log.clone();
        move |text: &str| say(&log, text)
    })?;
    let server = Arc::new(Server::new(live.clone(), hub.clone(), accounts, log.clone(), transport, tls));

    let watcher = Watcher::start(live, {
        let log = log.clone();
        move |text: &str| say(&log, text)
    });
    let ended = Arc::new(AtomicBool::new(false));
    let keeper = keep(hub.clone(), ended.clone());

    let mut sessions = tokio::task::JoinSet::new();
    let sockets = listeners.iter().map(|bound| bound.describe()).collect::<Vec<_>>().join(", ");
    for bound in listeners {
        sessions.spawn(listen::accept(server.clone(), bound));
    }
    log.note(&format!("imaild {} is ready: {sockets}", env!("CARGO_PKG_VERSION")));
    // Scripts and tests wait for this line.
    println!("imaild is ready: {sockets}");
    told_to_stop().await?;
    say(&log, "the server is stopping");
    server.stop();
    let drained = async { while sessions.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(DRAIN_FOR, drained).await;
    sessions.abort_all();
    drop(watcher);
    ended.store(true, Ordering::Relaxed);
    tokio::task::block_in_place(|| {
        let _ = keeper.join();
        hub.flush();
        log.flush();
    });
    Ok(())
}

/// What the command line says of sending.
fn sending(options: &Options) -> transport::Options {
    let routes = options.routes.iter().filter_map(|line| line.split_once('='));
    transport::Options {
        with_queue: options.runs(Service::Queue),
        routes: routes.filter_map(|(domain, target)| Route::parse(domain, target)).collect(),
        resolver: Resolver::new(options.dns),
        ..transport::Options::default()
    }
}

/// Tells the admin something: on standard error, and in the day's log.
fn say(log: &Log, text: &str) {
    eprintln!("imaild: {text}");
    log.note(text);
}

/// The thread that writes flags down and tidies.
fn keep(hub: Arc<Hub>, ended: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        while !ended.load(Ordering::Relaxed) {
            std::thread::sleep(FLUSH_EVERY);
            hub.keep();
        }
    })
}

async fn told_to_stop() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
