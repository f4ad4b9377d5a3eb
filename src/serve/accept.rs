//! Accepting clients, and who is let in.
//!
//! # Limits
//! [`CLIENTS_MAX`] connections of one port at a time; [`crate::session::gate`] for those of one client.

use super::CLIENTS_MAX;
use crate::session::Server;
use crate::session::connection::{Connection, Stopping};
use crate::session::network::listed;
use crate::session::traffic::Traffic;
use layout::logline::{Event, Tag};
use layout::name::SpoolId;
use layout::registry::model::{AccessMode, Service as ServiceSettings, Services};
use std::net::IpAddr;
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
pub enum Tls {
    /// With the connection.
    AtOnce,
    /// By STARTTLS or STLS.
    OnRequest,
}

/// Accepts clients until the service stops, and waits for their sessions.
pub async fn accept(
    server: Arc<Server>,
    (protocol, tls): (Protocol, Tls),
    listener: TcpListener,
    traffic: Arc<Traffic>,
    mut stopping: Stopping,
) {
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    let mut sessions = tokio::task::JoinSet::new();
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let next = tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => break,
            next = next => next,
        };
        match next {
            (place, Ok((stream, _))) => {
                let (server, counted, stopping) = (server.clone(), traffic.enter(), stopping.clone());
                sessions.spawn(async move {
                    let _place = (place, counted);
                    if let Ok(connection) = Connection::new(stream, stopping) {
                        session(server, protocol, tls, connection).await;
                    }
                });
            }
            // Out of descriptors, most likely: clients wait in the kernel's queue until some are free.
            (_, Err(error)) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        while sessions.try_join_next().is_some() {}
    }
    drop(listener);
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
