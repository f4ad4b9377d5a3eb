//! The services of this process, each of which starts and stops by itself.
//!
//! To stop a service is to refuse new clients at once and to let what is under way end: sessions before their next command, deliveries with
//! what they are at. What is not ready after [`Options::drain_for`] is cut off, as by a killed process: every write is safe against that.
//! Other services do not notice: their mail, mailboxes and accounts are the server's, which goes on.
//!
//! # Failure
//! A service that cannot start says why and stays as it was. One whose task ends by itself (a fault of ours) counts as [`State::Failed`].
//!
//! # Limits
//! One start or stop of a service at a time; the next one waits. [`CUT_FOR`] for what was cut off to be gone.

use super::accept::accept;
use super::board::Port;
use super::listen::{self, Bound, Socket};
use super::{Options, ServeError, Service};
use crate::config::Live;
use crate::logs::{self, Writer};
use crate::session::Server;
use crate::session::connection::Stopping;
use crate::session::network::own_addresses;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long what was cut off may take to be gone: it ends where it waits next.
const CUT_FOR: Duration = Duration::from_secs(5);

/// What a service does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Nothing.
    Stopped,
    /// Its work.
    Running,
    /// It takes no new clients, and ends what is under way.
    Stopping,
    /// Nothing, by a fault of ours.
    Failed,
}

impl State {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            State::Stopped => "stopped",
            State::Running => "running",
            State::Stopping => "stopping",
            State::Failed => "failed",
        }
    }
}

/// What came of a start or a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was so already.
    None,
    /// It is done.
    Done,
    /// It is done, and what did not end in time was cut off.
    Cut,
}

/// All services.
pub struct Services {
    server: Arc<Server>,
    options: Options,
    units: [Unit; Service::ALL.len()],
    /// The log server's file, once it runs.
    lines: OnceLock<Writer>,
    ending: AtomicBool,
}

struct Unit {
    service: Service,
    state: Arc<Shown>,
    sockets: Mutex<Arc<[Bound]>>,
    /// Held while the service is started or stopped.
    running: tokio::sync::Mutex<Option<Running>>,
}

struct Running {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// A state that others see.
struct Shown(AtomicU8);

impl Shown {
    fn get(&self) -> State {
        let states = [State::Stopped, State::Running, State::Stopping, State::Failed];
        let number = self.0.load(Ordering::Relaxed);
        states.into_iter().find(|state| *state as u8 == number).unwrap_or(State::Failed)
    }

    fn set(&self, state: State) {
        self.0.store(state as u8, Ordering::Relaxed);
    }
}

/// Notices that a task ended though nobody told it to.
struct Guard(Arc<Shown>, Stopping);

impl Drop for Guard {
    fn drop(&mut self) {
        if !*self.1.borrow() {
            self.0.set(State::Failed);
        }
    }
}

impl Services {
    /// The services, all stopped, with the sockets that were bound for them.
    pub fn new(server: Arc<Server>, options: Options, mut bound: Vec<Bound>) -> Arc<Services> {
        let units = Service::ALL.map(|service| {
            let (own, others) =
                std::mem::take(&mut bound).into_iter().partition(|one| one.service == service);
            bound = others;
            let own: Vec<Bound> = own;
            Unit {
                service,
                state: Arc::new(Shown(AtomicU8::new(State::Stopped as u8))),
                sockets: Mutex::new(own.into()),
                running: tokio::sync::Mutex::default(),
            }
        });
        Arc::new(Services { server, options, units, lines: OnceLock::new(), ending: AtomicBool::new(false) })
    }

    /// What each service does; without those that this version does not have.
    pub fn states(&self) -> Vec<(Service, State)> {
        let there = self.units.iter().filter(|unit| unit.service != Service::Web);
        there.map(|unit| (unit.service, unit.state.get())).collect()
    }

    /// All ports that are bound, open or not.
    pub fn ports(&self) -> Vec<Port> {
        self.units
            .iter()
            .flat_map(|unit| unit.sockets().iter().map(Bound::port).collect::<Vec<_>>())
            .collect()
    }

    /// Does the process end?
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Starts a service.
    pub async fn start(&self, service: Service) -> Result<Change, ServeError> {
        if service == Service::Web {
            return Err(ServeError::NoWeb);
        }
        let unit = self.unit(service);
        let mut running = unit.running.lock().await;
        if self.is_ending() {
            return Err(ServeError::Ending);
        }
        if running.is_some() && unit.state.get() == State::Running {
            return Ok(Change::None);
        }
        // What a failed one left ends here.
        *running = None;
        if unit.sockets().is_empty() {
            *unit.sockets.lock().unwrap_or_else(PoisonError::into_inner) =
                listen::bind(service, &self.options)?.into();
        }
        let sockets = unit.sockets();
        let stop = watch::Sender::new(false);
        let tasks = sockets.iter().try_for_each(Bound::open).and_then(|()| {
            let mut tasks = JoinSet::new();
            self.spawn(unit, &sockets, &stop, &mut tasks)?;
            Ok(tasks)
        });
        match tasks {
            Ok(tasks) => {
                unit.state.set(State::Running);
                *running = Some(Running { stop, tasks });
                Ok(Change::Done)
            }
            Err(error) => {
                stop.send_replace(true);
                sockets.iter().for_each(Bound::close);
                unit.state.set(State::Stopped);
                Err(error)
            }
        }
    }

    fn spawn(
        &self,
        unit: &Unit,
        sockets: &[Bound],
        stop: &watch::Sender<bool>,
        tasks: &mut JoinSet<()>,
    ) -> Result<(), ServeError> {
        let mut spawn = |work: Box<dyn Future<Output = ()> + Send>| {
            let guard = Guard(unit.state.clone(), stop.subscribe());
            tasks.spawn(async move {
                Box::into_pin(work).await;
                drop(guard);
            });
        };
        for bound in sockets {
            let traffic = bound.traffic.clone();
            match &bound.socket {
                Socket::Clients(protocol, tls, listener) => {
                    let listener = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
                    let (server, stopping) = (self.server.clone(), stop.subscribe());
                    spawn(Box::new(accept(server, (*protocol, *tls), listener, traffic, stopping)));
                }
                Socket::Log(socket) => {
                    let socket = tokio::net::UdpSocket::from_std(socket.try_clone()?)?;
                    let (live, mut stopping) = (self.server.live.clone(), stop.subscribe());
                    let writer = self.lines(&live);
                    spawn(Box::new(async move {
                        let lines = logs::server::receive(
                            socket,
                            writer,
                            traffic,
                            move || live.now(),
                            own_addresses(),
                        );
                        tokio::select! {
                            _ = stopping.wait_for(|stopping| *stopping) => {}
                            () = lines => {}
                        }
                    }));
                }
            }
        }
        if unit.service == Service::Queue {
            let mut stopping = stop.subscribe();
            let stop = async move {
                let _ = stopping.wait_for(|stopping| *stopping).await;
            };
            spawn(Box::new(self.server.transport.queue(stop)));
        }
        Ok(())
    }

    fn lines(&self, live: &Arc<Live>) -> Writer {
        self.lines.get_or_init(|| logs::server_file(live)).clone()
    }

    /// Stops a service, and waits until it has.
    pub async fn stop(&self, service: Service) -> Change {
        self.stop_and(service, Bound::close).await
    }

    async fn stop_and(&self, service: Service, close: fn(&Bound)) -> Change {
        let unit = self.unit(service);
        let mut running = unit.running.lock().await;
        let Some(Running { stop, mut tasks }) = running.take() else {
            unit.sockets().iter().for_each(close);
            return Change::None;
        };
        unit.state.set(State::Stopping);
        stop.send_replace(true);
        unit.sockets().iter().for_each(close);
        let drained = timeout(self.options.drain_for, ended(&mut tasks)).await.is_ok();
        if !drained {
            tasks.abort_all();
            let _ = timeout(CUT_FOR, ended(&mut tasks)).await;
        }
        unit.state.set(State::Stopped);
        if drained { Change::Done } else { Change::Cut }
    }

    /// Stops all services at the same time, since the process ends.
    pub async fn stop_all(self: &Arc<Services>) {
        self.ending.store(true, Ordering::Relaxed);
        let mut stops = JoinSet::new();
        for service in Service::ALL {
            let services = self.clone();
            stops.spawn(async move { services.stop_and(service, Bound::close_for_good).await });
        }
        while stops.join_next().await.is_some() {}
        self.lines.get().iter().for_each(|writer| tokio::task::block_in_place(|| writer.flush()));
    }

    fn unit(&self, service: Service) -> &Unit {
        // `Service::ALL` is in the order of the declaration, as a test shows.
        &self.units[service as usize]
    }
}

impl Unit {
    fn sockets(&self) -> Arc<[Bound]> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn ended(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}
