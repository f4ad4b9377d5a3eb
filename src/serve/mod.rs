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

pub mod board;
mod listen;
mod rights;
pub mod tls;

use crate::account::Accounts;
use crate::config::{Live, Watcher};
use crate::logs::{self, Log, Writer};
use crate::mailbox::{FLUSH_EVERY, Hub};
use crate::session::Server;
use crate::session::network::own_addresses;
use crate::session::traffic::Traffic;
use crate::smtp::relay;
use crate::transport::remote::Route;
use crate::transport::remote::resolver::Resolver;
use crate::transport::{self, Transport};
use board::{Board, Port};
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
    /// How long a new message waits for a mailbox that another program holds.
    pub lock_patience: Duration,
}

impl Options {
    /// Was this service asked for, or none in particular? The log server must be asked for: it takes lines from the network.
    pub fn runs(&self, service: Service) -> bool {
        match self.services.is_empty() {
            true => !matches!(service, Service::Log | Service::Web),
            false => self.services.contains(&service),
        }
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
    /// The web client; there is none yet.
    Web,
    /// The log server.
    Log,
}

impl Service {
    /// All services.
    pub const ALL: [Service; 6] =
        [Service::Smtp, Service::Queue, Service::Pop3, Service::Imap, Service::Web, Service::Log];

    /// The word for it in `--services`.
    pub fn word(self) -> &'static str {
        match self {
            Service::Smtp => "smtp",
            Service::Queue => "queue",
            Service::Pop3 => "pop3",
            Service::Imap => "imap",
            Service::Web => "web",
            Service::Log => "log",
        }
    }
}

impl FromStr for Service {
    type Err = String;

    fn from_str(name: &str) -> Result<Service, String> {
        let words = || Service::ALL.map(Service::word).join(", ");
        let found = Service::ALL.into_iter().find(|service| service.word() == name);
        found.ok_or_else(|| format!("{name:?} is no service: {}", words()))
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
    // What the logs are not the place for, or cannot take any more on a full disk. A program that has one already keeps it.
    let warnings = tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).with_target(false);
    let _ = warnings.with_max_level(tracing::Level::WARN).try_init();
    let dir = layout::root::locate(Some(&options.root))?;
    let root = Root::new(Arc::new(RealDisk::new()), &dir);
    let (live, notes) = Live::start(&root)?;
    let listeners = (listen::bind(&options)?, listen::bind_log(&options)?);
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
    (listeners, log_sockets): (Vec<listen::Bound>, Vec<listen::BoundLog>),
) -> Result<(), ServeError> {
    let log = Log::start_for(&live, options.port_offset);
    let hub = Hub::with_patience(root.shared_disk(), options.lock_patience);
    let server = start(&options, &live, &notes, &hub, &log)?;
    let log_server = LogServer::start(&live, log_sockets)?;
    let watcher = Watcher::start(live, {
        let log = log.clone();
        move |text: &str| say(&log, text)
    });
    let ended = Arc::new(AtomicBool::new(false));
    let keeper = keep(hub.clone(), ended.clone());

    let mut sessions = tokio::task::JoinSet::new();
    let ports: Vec<Port> = listeners.iter().map(listen::Bound::port).chain(log_server.ports).collect();
    let sockets = ports.iter().map(describe).collect::<Vec<_>>().join(", ");
    let services =
        Service::ALL.into_iter().filter(|service| options.runs(*service) && *service != Service::Web);
    let board = Board::start(&root, services.map(Service::word).collect(), ports, &log);
    for bound in listeners {
        sessions.spawn(listen::accept(server.clone(), bound));
    }
    log.note(&format!("imaild {} is ready: {sockets}", env!("CARGO_PKG_VERSION")));
    // Scripts and tests wait for this line.
    println!("imaild is ready: {sockets}");
    tokio::select! {
        told = told_to_stop() => told?,
        () = board.keep() => {}
    }
    say(&log, "the server is stopping");
    server.stop();
    let drained = async { while sessions.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(DRAIN_FOR, drained).await;
    sessions.abort_all();
    drop((watcher, log_server.tasks));
    ended.store(true, Ordering::Relaxed);
    tokio::task::block_in_place(|| {
        let _ = keeper.join();
        hub.flush();
        log.flush();
        log_server.writer.iter().for_each(Writer::flush);
    });
    drop(board);
    Ok(())
}

/// Puts the server together, and says what the admin should know of the settings.
fn start(
    options: &Options,
    live: &Arc<Live>,
    notes: &[String],
    hub: &Arc<Hub>,
    log: &Log,
) -> Result<Arc<Server>, ServeError> {
    if options.services.contains(&Service::Web) {
        say(log, "there is no web service in this version yet: \"web\" in --services does nothing");
    }
    for note in notes {
        say(log, note);
    }
    let accounts = Accounts::new(live.clone()).map_err(io::Error::other)?;
    let transport = Transport::start(live, hub, log, sending(options))?;
    for domain in transport.gateway_for(&live.now()) {
        say(log, &format!("mail for {domain} is taken from anyone, because a route names it"));
    }
    relay::warnings(&live.now().registry).iter().for_each(|text| say(log, text));
    let tls = tls::start(live, {
        let log = log.clone();
        move |text: &str| say(&log, text)
    })?;
    Ok(Arc::new(Server::new(live.clone(), hub.clone(), accounts, log.clone(), transport, tls)))
}

/// A port in the line that says that the server is ready.
fn describe(port: &Port) -> String {
    let over = if port.tls { " over TLS" } else { "" };
    format!("{}{over} {}", port.protocol, port.address)
}

/// The log server, if it runs.
struct LogServer {
    writer: Option<Writer>,
    /// They end when this is dropped.
    tasks: tokio::task::JoinSet<()>,
    ports: Vec<Port>,
}

impl LogServer {
    fn start(live: &Arc<Live>, sockets: Vec<listen::BoundLog>) -> io::Result<LogServer> {
        let (mut tasks, mut ports, mut writer) = (tokio::task::JoinSet::new(), Vec::new(), None);
        for listen::BoundLog { socket, address } in sockets {
            let writer = writer.get_or_insert_with(|| logs::server_file(live)).clone();
            let traffic = Arc::<Traffic>::default();
            let (socket, live) = (tokio::net::UdpSocket::from_std(socket)?, live.clone());
            let (counted, own) = (traffic.clone(), own_addresses());
            tasks.spawn(logs::server::receive(socket, writer, counted, move || live.now(), own));
            let (service, protocol) = (Service::Log.word(), "Log over UDP".to_owned());
            ports.push(Port { service, protocol, tls: false, address, traffic });
        }
        Ok(LogServer { writer, tasks, ports })
    }
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

/// How long the thread that writes flags down pauses in the middle of many.
const BREATH: Duration = Duration::from_millis(5);

/// The thread that writes flags down and tidies.
fn keep(hub: Arc<Hub>, ended: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        while !ended.load(Ordering::Relaxed) {
            // While there is more to write, sessions that wait for the mailbox get at it in between.
            let more = hub.keep();
            std::thread::sleep(if more { BREATH } else { FLUSH_EVERY });
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
