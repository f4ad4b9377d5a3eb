//! Starting, serving, stopping.
//!
//! [`run`] opens the data directory, reads the registry, takes or binds all ports, gives up root's rights, and serves until the process is told
//! to stop (SIGTERM or SIGINT): then no new clients are taken, commands and deliveries under way are finished, flags are written down. SIGHUP
//! has it read registry and certificates again. Each service can be stopped and started meanwhile ([`services`], [`control`]).
//!
//! # Failure
//! [`ServeError`] before the first client; afterwards a failing session ends alone.
//!
//! # Limits
//! [`CLIENTS_MAX`] connections of a port; [`DRAIN_FOR`] for what is under way at the end.

mod accept;
pub mod board;
mod cleaning;
pub mod control;
mod listen;
mod metrics;
mod notify;
mod rights;
pub mod services;
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
use board::{Board, Facts, Port};
use control::Control;
use layout::disk::real::RealDisk;
use layout::registry::store::StoreError;
use layout::root::{Root, RootError};
use metrics::Metrics;
use services::Services;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tls::Certificates;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

/// The most connections of one port at a time.
pub const CLIENTS_MAX: usize = 20_000;
/// How long what is under way may take to end when its service stops.
pub const DRAIN_FOR: Duration = Duration::from_secs(10);

/// How long SIGHUP waits for the registry to be judged; a file that lost many users takes longest.
const REREAD_WITHIN: Duration = Duration::from_secs(10);

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
    /// How long what is under way may take to end when its service stops.
    pub drain_for: Duration,
    /// Where metrics are served; on a loopback address.
    pub metrics: Option<SocketAddr>,
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
    /// All services, in the order of the declaration.
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

/// The names of IMail's services on Windows, where they are known (`registry.md` §4).
const WINDOWS_NAMES: [(&str, Service); 3] =
    [("smtpd32", Service::Smtp), ("pop3d32", Service::Pop3), ("imap4d32", Service::Imap)];

impl FromStr for Service {
    type Err = String;

    fn from_str(name: &str) -> Result<Service, String> {
        let words = || Service::ALL.map(Service::word).join(", ");
        let own = Service::ALL.map(|service| (service.word(), service));
        let mut all = own.into_iter().chain(WINDOWS_NAMES);
        let found = all.find(|(word, _)| word.eq_ignore_ascii_case(name)).map(|(_, service)| service);
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
    /// A socket that was passed (`LISTEN_FDS`) is of no use.
    #[error("the socket number {number} that was passed to imaild cannot be used: {what}")]
    Passed {
        /// Counted from 1.
        number: usize,
        /// What is wrong with it.
        what: String,
    },
    /// There is no such service yet.
    #[error("there is no web service in this version yet")]
    NoWeb,
    /// Nothing is started any more.
    #[error("the server is stopping")]
    Ending,
    /// Anything else.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Sessions run on so many threads at least: small messages are read on them, and one that waits for the disk must not hold up
/// the others.
const WORKERS_MIN: usize = 4;
/// How long a thread that worked at the disk waits for more work: each keeps its stack and its part of the heap.
const IDLE_THREAD_FOR: Duration = Duration::from_secs(1);

/// Serves until told to stop.
pub fn run(options: Options) -> Result<(), ServeError> {
    // What the logs are not the place for, or cannot take any more on a full disk. A program that has one already keeps it.
    let warnings = tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).with_target(false);
    let _ = warnings.with_max_level(tracing::Level::WARN).try_init();
    crate::memory::set_up();
    let dir = layout::root::locate(Some(&options.root))?;
    let root = Root::new(Arc::new(RealDisk::new()), &dir);
    let (live, notes) = Live::start(&root)?;
    let bound = listen::bind_all(&options)?;
    let watched = options.metrics.map(listen::bind_metrics).transpose()?;
    rights::give_up(&dir)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = cores.max(WORKERS_MIN);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_keep_alive(IDLE_THREAD_FOR)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(serve(options, root, live, notes, (bound, watched)));
    runtime.shutdown_timeout(Duration::from_secs(5));
    outcome
}

async fn serve(
    options: Options,
    root: Root,
    live: Arc<Live>,
    notes: Vec<String>,
    (bound, watched): (Vec<listen::Bound>, Option<std::net::TcpListener>),
) -> Result<(), ServeError> {
    let mut signals = Signals::listen()?;
    let log = Log::start_for(&live, options.port_offset);
    let hub = Hub::with_patience(root.shared_disk(), options.lock_patience);
    let (server, certificates) = start(&options, &live, &notes, &hub, &log)?;
    let watcher = Watcher::start(live.clone(), {
        let log = log.clone();
        move |text: &str| say(&log, text)
    });
    let ended = Arc::new(AtomicBool::new(false));
    let keeper = keep(hub.clone(), ended.clone());

    let wanted = Service::ALL.into_iter().filter(|one| options.runs(*one) && *one != Service::Web);
    let wanted: Vec<Service> = wanted.collect();
    let services = Services::new(server.clone(), options, bound);
    for service in wanted {
        services.start(service).await?;
    }
    let sockets = services.ports().iter().map(describe).collect::<Vec<_>>().join(", ");
    let board = Arc::new(Board::start(&root, &log, {
        let services = services.clone();
        move || Facts { services: services.states(), ports: services.ports() }
    }));
    let mut background = JoinSet::new();
    background.spawn(cleaning::run(live, log.clone()));
    background.spawn(notify::keep_watchdog_quiet());
    background.spawn(control(&root, &services, &log, &board));
    background.spawn({
        let board = board.clone();
        async move { board.keep().await }
    });
    if let Some(listener) = watched {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let metrics = Metrics::new(&root, services.clone(), log.clone())?;
        background.spawn(Arc::new(metrics).serve(listener));
    }
    log.note(&format!("imaild {} is ready: {sockets}", env!("CARGO_PKG_VERSION")));
    // Scripts and tests wait for this line.
    println!("imaild is ready: {sockets}");
    notify::ready();
    while signals.next().await == Told::Reread {
        notify::reloading();
        say(&log, "registry and certificates are read again (SIGHUP)");
        if tokio::time::timeout(REREAD_WITHIN, watcher.reread()).await.is_err() {
            say(&log, "registry.ini could not be judged yet");
        }
        tokio::task::block_in_place(|| certificates.reread());
        notify::ready();
    }
    notify::stopping();
    say(&log, "the server is stopping");
    services.stop_all().await;
    background.shutdown().await;
    drop(watcher);
    ended.store(true, Ordering::Relaxed);
    tokio::task::block_in_place(|| {
        let _ = keeper.join();
        hub.flush();
        log.flush();
    });
    drop(board);
    Ok(())
}

/// Does what comes through the control socket, for ever.
fn control(
    root: &Root,
    services: &Arc<Services>,
    log: &Log,
    board: &Arc<Board>,
) -> impl Future<Output = ()> + use<> {
    let control = Control::start(root);
    let (services, log, board) = (services.clone(), log.clone(), board.clone());
    async move {
        match control {
            Ok(control) => control.serve(services, log, move || board.write()).await,
            Err(error) => {
                say(&log, &format!("imaild service will not work, no socket could be made in logs: {error}"));
            }
        }
        std::future::pending().await
    }
}

/// Puts the server together, and says what the admin should know of the settings.
fn start(
    options: &Options,
    live: &Arc<Live>,
    notes: &[String],
    hub: &Arc<Hub>,
    log: &Log,
) -> Result<(Arc<Server>, Arc<Certificates>), ServeError> {
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
    let (tls, certificates) = tls::start(live, {
        let log = log.clone();
        move |text: &str| say(&log, text)
    })?;
    let server = Server::new(live.clone(), hub.clone(), accounts, log.clone(), transport, tls);
    Ok((Arc::new(server), certificates))
}

/// A port in the line that says that the server is ready.
fn describe(port: &Port) -> String {
    let over = if port.tls { " over TLS" } else { "" };
    format!("{}{over} {}", port.protocol, port.address)
}

/// What the command line says of sending.
fn sending(options: &Options) -> transport::Options {
    let routes = options.routes.iter().filter_map(|line| line.split_once('='));
    transport::Options {
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

/// The signals that the process listens to.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

/// What a signal says.
#[derive(PartialEq, Eq)]
enum Told {
    /// Stop.
    Stop,
    /// Read registry and certificates again.
    Reread,
}

impl Signals {
    fn listen() -> io::Result<Signals> {
        let [terminate, interrupt, hang_up] =
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        Ok(Signals { terminate: terminate?, interrupt: interrupt?, hang_up: hang_up? })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.hang_up.recv() => Told::Reread,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_have_their_places_and_names() {
        for (place, service) in Service::ALL.into_iter().enumerate() {
            assert_eq!(service as usize, place);
            assert_eq!(service.word().parse(), Ok(service));
        }
        assert_eq!("POP3D32".parse(), Ok(Service::Pop3));
        assert!("".parse::<Service>().is_err());
    }
}
