//! Stub: the server itself comes with its own branch.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// A service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Mail in.
    Smtp,
    /// Mail out.
    Queue,
    /// POP3.
    Pop3,
    /// IMAP.
    Imap,
    /// Web.
    Web,
    /// Log server.
    Log,
}

impl FromStr for Service {
    type Err = String;

    fn from_str(text: &str) -> Result<Service, String> {
        match text {
            "smtp" => Ok(Service::Smtp),
            "queue" => Ok(Service::Queue),
            "pop3" => Ok(Service::Pop3),
            "imap" => Ok(Service::Imap),
            "web" => Ok(Service::Web),
            "log" => Ok(Service::Log),
            _ => Err(format!("{text} is no service")),
        }
    }
}

/// What to serve.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data directory.
    pub root: PathBuf,
    /// Addresses to listen on.
    pub bind: Vec<IpAddr>,
    /// Added to every port.
    pub port_offset: u16,
    /// Which services.
    pub services: Vec<Service>,
    /// Fixed routes.
    pub routes: Vec<String>,
    /// The resolver to ask.
    pub dns: Option<SocketAddr>,
}

/// Why the server did not run.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ServeError(pub String);

/// Serves until told to stop.
pub fn run(options: Options) -> Result<(), ServeError> {
    let _ = options;
    Err(ServeError("the server is not built in yet".into()))
}
