//! Listening and accepting.

use super::board::Port;
use super::{CLIENTS_MAX, Options, ServeError, Service};
use crate::logs;
use crate::session::Server;
use crate::session::connection::Connection;
use crate::session::network::listed;
use crate::session::traffic::Traffic;
use layout::logline::{Event, Tag};
use layout::name::SpoolId;
use layout::registry::model::{AccessMode, Service as ServiceSettings, Services};
use layout::syslog;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// SMTP on port 25: strangers deliver, users may log in.
    Smtp,
    /// Submission on ports 587 and 465: mail is taken after a login only (RFC 6409, RFC 8314).
    Submission,
    /// POP3.
    Pop3,
    /// IMAP4.
    Imap,
}

impl Protocol {
    /// The service's word in log lines, and its settings.
    fn service(self, services: &Services) -> (Tag, &ServiceSettings) {
        match self {
            Protocol::Smtp | Protocol::Submission => (Tag::Smtpd, &services.smtpd),
            Protocol::Pop3 => (Tag::Pop3d, &services.pop3d),
            Protocol::Imap => (Tag::Imap4d, &services.imapd),
        }
    }

    /// What a client hears who has too many connections.
    fn busy(self) -> &'static str {
        match self {
            Protocol::Smtp | Protocol::Submission => {
                "421 4.7.0 too many connections from your address, try again later\r\n"
            }
            Protocol::Pop3 => "-ERR [SYS/TEMP] too many connections from your address, try again later\r\n",
            Protocol::Imap => "* BYE too many connections from your address, try again later\r\n",
        }
    }
}

/// Does TLS begin with the connection, or when the client asks for it?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tls {
    AtOnce,
    OnRequest,
}

/// Port and service of each protocol, before the offset.
const PORTS: [(Protocol, Tls, Service, u16); 7] = [
    (Protocol::Smtp, Tls::OnRequest, Service::Smtp, 25),
    (Protocol::Submission, Tls::OnRequest, Service::Smtp, 587),
    (Protocol::Submission, Tls::AtOnce, Service::Smtp, 465),
    (Protocol::Pop3, Tls::OnRequest, Service::Pop3, 110),
    (Protocol::Pop3, Tls::AtOnce, Service::Pop3, 995),
    (Protocol::Imap, Tls::OnRequest, Service::Imap, 143),
    (Protocol::Imap, Tls::AtOnce, Service::Imap, 993),
];

/// A bound socket.
pub struct Bound {
    protocol: Protocol,
    tls: Tls,
    socket: std::net::TcpListener,
    address: SocketAddr,
    service: Service,
    traffic: Arc<Traffic>,
}

/// A bound port of the log server.
pub struct BoundLog {
    /// The socket, which does not block.
    pub socket: std::net::UdpSocket,
    /// Its address.
    pub address: SocketAddr,
}

impl Bound {
    /// What there is to say about it.
    pub fn port(&self) -> Port {
        Port {
            service: self.service.word(),
            protocol: format!("{:?}", self.protocol),
            tls: self.tls == Tls::AtOnce,
            address: self.address,
            traffic: self.traffic.clone(),
        }
    }
}

/// Binds the ports of all services but the log server.
pub fn bind(options: &Options) -> Result<Vec<Bound>, ServeError> {
    let mut bound = Vec::new();
    for (protocol, tls, service, port) in PORTS {
        if !options.runs(service) {
            continue;
        }
        for address in addresses(options, with_offset(options, port)?) {
            let socket = listen(address).map_err(|error| ServeError::Bind { address, error })?;
            bound.push(Bound { protocol, tls, socket, address, service, traffic: Arc::default() });
        }
    }
    Ok(bound)
}

/// Binds the log server's port, if the log server is to run.
pub fn bind_log(options: &Options) -> Result<Vec<BoundLog>, ServeError> {
    if !options.runs(Service::Log) {
        return Ok(Vec::new());
    }
    let bind = |address| match logs::server::bind(address) {
        Ok(socket) => Ok(BoundLog { socket, address }),
        Err(error) => Err(ServeError::Bind { address, error }),
    };
    addresses(options, with_offset(options, syslog::PORT)?).into_iter().map(bind).collect()
}

fn with_offset(options: &Options, port: u16) -> Result<u16, ServeError> {
    let port = port.checked_add(options.port_offset).ok_or_else(|| {
        std::io::Error::other(format!("--port-offset {} leads beyond the last port", options.port_offset))
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

fn listen(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    // The standard library sets SO_REUSEADDR, so that a restart does not wait for old connections.
    let socket = std::net::TcpListener::bind(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Accepts clients until the server stops, and waits for their sessions.
pub async fn accept(server: Arc<Server>, bound: Bound) {
    let (protocol, tls, traffic) = (bound.protocol, bound.tls, bound.traffic);
    let listener = match TcpListener::from_std(bound.socket) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "cannot listen"),
    };
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    let mut stopping = server.stopping();
    let mut sessions = tokio::task::JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stopping| *stopping) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (server, counted) = (server.clone(), traffic.enter());
                sessions.spawn(async move {
                    let _place = (place, counted);
                    if let Ok(connection) = Connection::new(stream) {
                        session(server, protocol, tls, connection).await;
                    }
                });
            }
            // Out of descriptors, most likely: clients wait in the kernel's queue until some are free.
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        while sessions.try_join_next().is_some() {}
    }
    while sessions.join_next().await.is_some() {}
}

/// May this client talk to the service at all (manual 6-1-4, control access)? Says so in the log if not.
fn is_admitted(server: &Server, protocol: Protocol, peer: IpAddr) -> bool {
    let config = server.live.now();
    let (_, settings) = protocol.service(&config.registry.services);
    let admitted = match settings.access_mode {
        AccessMode::AllExcept => !listed(&settings.access_list, peer),
        AccessMode::NoneExcept => listed(&settings.access_list, peer),
    };
    if !admitted {
        log(server, protocol, peer, &Event::Denied { peer });
    }
    admitted
}

/// A line about a client that has no session.
fn log(server: &Server, protocol: Protocol, peer: IpAddr, event: &Event<'_>) {
    let config = server.live.now();
    let (tag, settings) = protocol.service(&config.registry.services);
    server.log.event(settings.log_to, tag, SpoolId(0), Some(peer), event);
}

async fn session(server: Arc<Server>, protocol: Protocol, tls: Tls, mut connection: Connection) {
    let peer = connection.peer_ip();
    if !is_admitted(&server, protocol, peer) {
        return;
    }
    let Some(_pass) = server.gate.enter(peer, Instant::now()) else {
        tracing::warn!(%peer, ?protocol, "too many connections from one address");
        log(&server, protocol, peer, &Event::Disconnect("too many connections from this address"));
        // Behind TLS nobody hears it, and a handshake is work.
        if tls == Tls::OnRequest {
            connection.answer(protocol.busy());
            connection.close().await;
        }
        return;
    };
    if tls == Tls::AtOnce
        && let Err(error) = connection.start_tls(&server.tls).await
    {
        return log(&server, protocol, peer, &Event::Disconnect(&format!("TLS failed: {error}")));
    }
    match protocol {
        Protocol::Smtp => crate::smtp::session(server, connection, false).await,
        Protocol::Submission => crate::smtp::session(server, connection, true).await,
        Protocol::Pop3 => crate::access::pop3::session(server, connection).await,
        Protocol::Imap => crate::access::imap::session(server, connection).await,
    }
}
