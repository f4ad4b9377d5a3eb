//! The way to a log server: a datagram for each line (RFC 3164), to the `LogServer` of `[Global]`.
//!
//! A thread of its own looks names up and sends, so that a slow name server holds nobody up. Datagrams may get lost on the way, as with every
//! syslog; nobody can count those.
//!
//! # Limits
//! [`WAITING_MAX`] lines wait; a name is looked up once in [`KNOWN_FOR`].

use super::{Dropped, WAITING_MAX};
use crate::config::{Config, Live};
use chrono::NaiveDateTime;
use layout::syslog;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// How long the address of a name counts, or that it has none.
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// How long a stopping server waits for the last lines.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

/// Takes lines for the log server.
#[derive(Clone)]
pub(super) struct Client {
    lines: Sender<Item>,
    dropped: Dropped,
}

enum Item {
    Line(NaiveDateTime, Vec<u8>),
    Flush(mpsc::Sender<()>),
}

impl Client {
    /// Starts the sending thread. The log server is looked up in the registry for each line.
    pub(super) fn start(live: Arc<Live>, port_offset: u16) -> Client {
        let (lines, mut incoming) = channel(WAITING_MAX);
        let dropped = Dropped::new("the log server (LogServer in [Global]) cannot be reached");
        let lost = dropped.clone();
        let thread = std::thread::Builder::new().name("logserver".into());
        if let Err(error) = thread.spawn(move || run(&live, port_offset, &mut incoming, &lost)) {
            tracing::error!(%error, "the thread that sends to the log server could not be started");
        }
        Client { lines, dropped }
    }

    /// Sends a line that was written at `time`. Never waits.
    pub(super) fn send(&self, time: NaiveDateTime, line: Vec<u8>) {
        if self.lines.try_send(Item::Line(time, line)).is_err() {
            self.dropped.add(1);
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.now()
    }

    pub(super) fn flush(&self) {
        let (done, sent) = mpsc::channel();
        if self.lines.try_send(Item::Flush(done)).is_ok() {
            let _ = sent.recv_timeout(FLUSH_PATIENCE);
        }
    }
}

fn run(live: &Live, port_offset: u16, incoming: &mut Receiver<Item>, lost: &Dropped) {
    let mut known: Option<Known> = None;
    while let Some(item) = incoming.blocking_recv() {
        let (time, line) = match item {
            Item::Line(time, line) => (time, line),
            Item::Flush(done) => {
                let _ = done.send(());
                continue;
            }
        };
        let config = live.now();
        let target = Target::of(&config, port_offset);
        let known = match &mut known {
            Some(known) if known.target == target && known.since.elapsed() < KNOWN_FOR => known,
            other => other.insert(Known::look_up(target)),
        };
        let host = config.registry.primary().map_or("localhost", |domain| domain.name.as_str());
        if known.send(&syslog::message(time, host, &line)).is_err() {
            lost.add(1);
        }
    }
}

/// A log server as the registry names it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    host: String,
    port: u16,
}

impl Target {
    /// Without a setting it is this machine, as in the manual's example.
    fn of(config: &Config, port_offset: u16) -> Target {
        Target::parse(config.registry.global.log_server.as_deref().unwrap_or("127.0.0.1"), port_offset)
    }

    /// `host`, `host:port`, `[2001:db8::1]:port`. Without a port it is syslog's, on this machine the one where our own log server listens.
    fn parse(text: &str, port_offset: u16) -> Target {
        let text = text.trim();
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().ok()),
            _ => (text, None),
        };
        let host = host.trim_matches(['[', ']']);
        let here =
            host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        let usual = if here { syslog::PORT.saturating_add(port_offset) } else { syslog::PORT };
        Target { host: host.to_owned(), port: port.unwrap_or(usual) }
    }
}

/// A log server with its address.
struct Known {
    target: Target,
    since: Instant,
    way: std::io::Result<(UdpSocket, SocketAddr)>,
}

impl Known {
    fn look_up(target: Target) -> Known {
        let way = Known::way(&target);
        if let Err(error) = &way {
            tracing::warn!(host = target.host, %error, "the log server cannot be reached");
        }
        Known { target, since: Instant::now(), way }
    }

    fn way(target: &Target) -> std::io::Result<(UdpSocket, SocketAddr)> {
        let mut found = (target.host.as_str(), target.port).to_socket_addrs()?;
        let address = found.next().ok_or(std::io::ErrorKind::NotFound)?;
        let any = match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_nonblocking(true)?;
        Ok((socket, address))
    }

    fn send(&self, message: &[u8]) -> Result<(), ()> {
        let (socket, address) = self.way.as_ref().map_err(drop)?;
        socket.send_to(message, address).map(drop).map_err(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Log;
    use super::*;
    use layout::disk::real::RealDisk;
    use layout::logline::{Event, Tag};
    use layout::name::SpoolId;
    use layout::registry::model::LogTo;
    use layout::root::Root;

    #[test]
    fn names_and_ports() {
        for (text, host, port) in [
            ("127.0.0.1", "127.0.0.1", 10_514),
            ("localhost", "localhost", 10_514),
            ("::1", "::1", 10_514),
            ("[::1]", "::1", 10_514),
            ("127.0.0.1:5140", "127.0.0.1", 5140),
            ("192.0.2.7", "192.0.2.7", 514),
            (" log.example.net:1514 ", "log.example.net", 1514),
            ("[2001:db8::1]:1514", "2001:db8::1", 1514),
            ("2001:db8::1", "2001:db8::1", 514),
            ("log.example.net:x", "log.example.net", 514),
        ] {
            assert_eq!(Target::parse(text, 10_000), Target { host: host.to_owned(), port }, "{text}");
        }
    }

    #[test]
    fn lines_go_to_the_server_of_the_registry() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let registry = format!(
            "[Global]\r\nHostName=mail.example.jp\r\nLogServer={}\r\n[Domains\\mail.example.jp]\r\nAddress=192.0.2.10\r\n\
             ; end of registry.ini, keep this line last\r\n",
            server.local_addr().unwrap()
        );
        std::fs::write(dir.path().join("registry.ini"), registry).unwrap();
        let root = Root::new(Arc::new(RealDisk::new()), dir.path());
        let (live, _) = Live::start(&root).unwrap();
        let log = Log::start_for(&live, 0);
        for to in [LogTo::LogServer, LogTo::None] {
            log.event(to, Tag::Smtpd, SpoolId(1), None, &Event::Note("hello"));
        }
        log.flush();
        let mut buffer = [0; 2000];
        let length = server.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        assert!(
            text.starts_with("<22>") && text.ends_with(" mail.example.jp SMTPD(0000000000000001) hello"),
            "{text}"
        );
        assert_eq!(log.dropped(), 0);
        assert!(!dir.path().join("logs").exists());
    }
}
