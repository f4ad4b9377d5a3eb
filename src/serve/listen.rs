//! The sockets on which clients are waited for: bound by us, or passed by who started us (systemd's socket activation, `LISTEN_FDS`).
//!
//! A socket stays ours until the process ends, whether it was bound or passed: one that was passed could not be had again, and a port that is
//! below 1024 is bound again only with a right that the server may not have. Closing it ends the waiting for clients ([`Bound::close`]), whom
//! the system refuses from then on, and opening it begins that again. The log server's port has no such state: while it is closed, what comes waits in the system, as much as that holds.
//!
//! A passed socket is told by its port, with `--port-offset` added. A service of which one socket was passed gets only those that were
//! passed; the ports of the others are bound.
//!
//! # Failure
//! [`ServeError::Bind`]; [`ServeError::Passed`] for a passed socket that belongs to no service. If others listen on the port when a
//! socket is opened again, that fails.

use super::accept::{Protocol, Tls};
use super::board::Port;
use super::{Options, ServeError, Service};
use crate::logs;
use crate::session::traffic::Traffic;
use layout::syslog;
use listenfd::ListenFd;
use socket2::SockRef;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

/// How many clients may wait to be accepted; the system has a limit of its own below this (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// What a port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Clients connect.
    Clients(Protocol, Tls),
    /// Lines come for the log server.
    Log,
}

/// Service, purpose and port, before the offset.
const PORTS: [(Service, Purpose, u16); 8] = [
    (Service::Smtp, Purpose::Clients(Protocol::Smtp, Tls::OnRequest), 25),
    (Service::Smtp, Purpose::Clients(Protocol::Submission, Tls::OnRequest), 587),
    (Service::Smtp, Purpose::Clients(Protocol::Submission, Tls::AtOnce), 465),
    (Service::Pop3, Purpose::Clients(Protocol::Pop3, Tls::OnRequest), 110),
    (Service::Pop3, Purpose::Clients(Protocol::Pop3, Tls::AtOnce), 995),
    (Service::Imap, Purpose::Clients(Protocol::Imap, Tls::OnRequest), 143),
    (Service::Imap, Purpose::Clients(Protocol::Imap, Tls::AtOnce), 993),
    (Service::Log, Purpose::Log, syslog::PORT),
];

/// The system's socket.
pub enum Socket {
    /// Takes connections.
    Clients(Protocol, Tls, TcpListener),
    /// Takes datagrams.
    Log(UdpSocket),
}

/// A bound socket.
pub struct Bound {
    /// Whose it is.
    pub service: Service,
    /// The socket, which does not block.
    pub socket: Socket,
    /// How busy it is, over all times that it was open.
    pub traffic: Arc<Traffic>,
    address: SocketAddr,
    /// Did whoever started us make it?
    passed: bool,
}

impl Bound {
    /// What there is to say about it.
    pub fn port(&self) -> Port {
        let (protocol, tls) = match self.socket {
            Socket::Clients(protocol, tls, _) => (format!("{protocol:?}"), tls == Tls::AtOnce),
            Socket::Log(_) => ("Log over UDP".to_owned(), false),
        };
        let (service, address, traffic) = (self.service.word(), self.address, self.traffic.clone());
        Port { service, protocol, tls, address, traffic }
    }

    /// Lets clients come, if they could not.
    pub fn open(&self) -> Result<(), ServeError> {
        match &self.socket {
            Socket::Clients(_, _, listener) => SockRef::from(listener)
                .listen(BACKLOG)
                .map_err(|error| ServeError::Bind { address: self.address, error }),
            Socket::Log(_) => Ok(()),
        }
    }

    /// Refuses clients from now on, also those who were not accepted yet.
    pub fn close(&self) {
        if let Socket::Clients(_, _, listener) = &self.socket
            && let Err(error) = SockRef::from(listener).shutdown(Shutdown::Read)
            && error.kind() != io::ErrorKind::NotConnected
        {
            tracing::warn!(%error, address = %self.address, "a port could not be closed");
        }
    }

    /// The same, since the process ends. At a socket that was passed, clients go on waiting: for the next process, which whoever passed it
    /// starts then, and who takes a closed one for broken.
    pub fn close_for_good(&self) {
        match self.passed {
            false => self.close(),
            true => {
                if let Err(error) = self.open() {
                    tracing::warn!(%error, "a socket that was passed to imaild could not be opened again");
                }
            }
        }
    }
}

/// Takes the sockets that were passed, and binds those of all services that run and have none. Once, before there are threads.
pub fn bind_all(options: &Options) -> Result<Vec<Bound>, ServeError> {
    let mut bound = take_passed(options)?;
    for service in Service::ALL.into_iter().filter(|service| options.runs(*service)) {
        if !bound.iter().any(|there| there.service == service) {
            bound.extend(bind(service, options)?);
        }
    }
    Ok(bound)
}

/// Binds the port of the metrics.
pub fn bind_metrics(address: SocketAddr) -> Result<TcpListener, ServeError> {
    let bind = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map_err(|error| ServeError::Bind { address, error })
}

/// Binds the ports of a service; none if it has none.
pub fn bind(service: Service, options: &Options) -> Result<Vec<Bound>, ServeError> {
    let mut bound = Vec::new();
    for (_, purpose, port) in PORTS.into_iter().filter(|(of, ..)| *of == service) {
        for address in addresses(options, with_offset(options, port)?) {
            let socket = new_socket(purpose, address).map_err(|error| ServeError::Bind { address, error })?;
            bound.push(Bound { service, socket, traffic: Arc::default(), address, passed: false });
        }
    }
    Ok(bound)
}

fn new_socket(purpose: Purpose, address: SocketAddr) -> io::Result<Socket> {
    match purpose {
        Purpose::Clients(protocol, tls) => {
            // The standard library sets SO_REUSEADDR, so that a restart does not wait for old connections.
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(Socket::Clients(protocol, tls, listener))
        }
        Purpose::Log => logs::server::bind(address).map(Socket::Log),
    }
}

fn take_passed(options: &Options) -> Result<Vec<Bound>, ServeError> {
    let mut passed = ListenFd::from_env();
    (0..passed.len()).map(|index| take_one(&mut passed, index, options)).collect()
}

fn take_one(passed: &mut ListenFd, index: usize, options: &Options) -> Result<Bound, ServeError> {
    let odd = |what: String| ServeError::Passed { number: index + 1, what };
    let listener = passed.take_tcp_listener(index).unwrap_or_default();
    let datagrams = match listener {
        Some(_) => None,
        None => passed.take_udp_socket(index).map_err(|error| odd(error.to_string()))?,
    };
    let address = match (&listener, &datagrams) {
        (Some(listener), _) => listener.local_addr()?,
        (_, Some(socket)) => socket.local_addr()?,
        _ => return Err(odd("it was used before".to_owned())),
    };
    let purposes = PORTS.into_iter().filter(|(.., port)| {
        port.checked_add(options.port_offset).is_some_and(|port| port == address.port())
    });
    for (service, purpose, _) in purposes {
        let socket = match (purpose, &listener, &datagrams) {
            (Purpose::Clients(protocol, tls), Some(listener), _) => {
                listener.set_nonblocking(true)?;
                Socket::Clients(protocol, tls, listener.try_clone()?)
            }
            (Purpose::Log, _, Some(socket)) => {
                socket.set_nonblocking(true)?;
                Socket::Log(socket.try_clone()?)
            }
            _ => continue,
        };
        return Ok(Bound { service, socket, traffic: Arc::default(), address, passed: true });
    }
    Err(odd(format!("no service of imaild has port {}", address.port())))
}

fn with_offset(options: &Options, port: u16) -> Result<u16, ServeError> {
    let port = port.checked_add(options.port_offset).ok_or_else(|| {
        io::Error::other(format!("--port-offset {} leads beyond the last port", options.port_offset))
    })?;
    Ok(port)
}

/// Where to listen: the addresses of `--bind`, else all. Linux takes IPv4 clients on the IPv6 socket; without IPv6 there is the other one.
fn addresses(options: &Options, port: u16) -> Vec<SocketAddr> {
    if !options.bind.is_empty() {
        return options.bind.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
    }
    let all = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    match std::path::Path::new("/proc/net/if_inet6").exists() {
        true => vec![all],
        false => vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)],
    }
}
