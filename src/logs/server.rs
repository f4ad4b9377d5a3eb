//! The log server: datagrams of syslog (RFC 3164) become lines of `logYYYYMMDD.txt`. IMail's name for it is "IMail Sys Logger".
//!
//! Anybody who can reach the port could fill the disk, so it is off unless `--services` names it, and takes lines only from the addresses and
//! networks of `LogClients` in `[Global]` (the name is ours, IMail's is not known). Without that setting: from this machine only.
//!
//! # Failure
//! Datagrams from others are dropped and counted; a line that cannot be written is too.
//!
//! # Limits
//! [`layout::syslog::MESSAGE_MAX`] bytes of a datagram.

use super::Writer;
use crate::config::Config;
use crate::session::network::listed;
use crate::session::traffic::Traffic;
use chrono::Local;
use layout::syslog::{self, MESSAGE_MAX};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;

/// How much of a datagram is read: a host that sends more than it may still gets its first line in.
const READ_MAX: usize = 2 * MESSAGE_MAX;

/// Takes lines until it is dropped. `config` is the configuration in force, `own` the addresses of this machine.
pub async fn receive(
    socket: UdpSocket,
    writer: Writer,
    traffic: Arc<Traffic>,
    config: impl Fn() -> Arc<Config>,
    own: Vec<IpAddr>,
) {
    let mut buffer = vec![0; READ_MAX];
    let mut refused: u64 = 0;
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // An answer that said "nobody listens" to something that was sent, or no memory: neither lasts.
            Err(error) => {
                tracing::warn!(%error, "the log server could not read");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let source = from.ip().to_canonical();
        if is_admitted(&config().registry.global.log_clients, &own, source) {
            traffic.count();
            let datagram = buffer.get(..length).unwrap_or_default();
            writer.write(syslog::line(Local::now().naive_local(), source, datagram));
            continue;
        }
        refused += 1;
        if refused.is_power_of_two() {
            tracing::warn!(%source, refused, "the log server refused lines: LogClients in [Global] says from whom it takes them");
        }
    }
}

/// Is this a client of ours? Without a list this machine is.
fn is_admitted(list: &[String], own: &[IpAddr], source: IpAddr) -> bool {
    match list.is_empty() {
        true => source.is_loopback() || own.contains(&source),
        false => listed(list, source),
    }
}

/// Opens the log server's port.
pub fn bind(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_send() {
        let own: Vec<IpAddr> = vec!["192.0.2.1".parse().unwrap()];
        for (list, source, expected) in [
            (&[][..], "127.0.0.1", true),
            (&[], "::1", true),
            (&[], "192.0.2.1", true),
            (&[], "192.0.2.2", false),
            (&[], "10.0.0.1", false),
            (&["10.0.0.0/8"], "10.0.0.1", true),
            (&["10.0.0.0/8"], "127.0.0.1", false),
            (&["10.0.0.0/8", "127.0.0.1"], "127.0.0.1", true),
            (&["nonsense"], "127.0.0.1", false),
        ] {
            let list: Vec<String> = list.iter().map(|entry| (*entry).to_owned()).collect();
            assert_eq!(is_admitted(&list, &own, source.parse().unwrap()), expected, "{list:?} {source}");
        }
    }
}
