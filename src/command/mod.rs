//! The command line of `imaild`: one module for each sub-command.
//!
//! Every command first decides, then changes the directory, and prints last; what people act on goes to standard output.
//!
//! # Failure
//! [`CommandError`]: the reason on standard error and exit code 1 (2 for `check`, where 1 means findings). Wrong usage is 2
//! everywhere.

mod check;
mod demo;
mod export;
mod import;
mod init;
mod inventory;
mod lists;
mod man;
mod queue;
mod reading;
mod report;
mod service;
mod status;
mod support;

use crate::serve::{self, DRAIN_FOR, ServeError, Service};
use clap::{Args, Parser, Subcommand};
use layout::disk::Disk as _;
use layout::disk::real::RealDisk;
use layout::lock::PATIENCE;
use layout::owner;
use layout::password::PasswordError;
use layout::path::TreePath;
use layout::registry::regfile::ImportError;
use layout::registry::store::StoreError;
use layout::root::{self, Root, RootError};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Exit code of `check` when it found something.
const FINDINGS: u8 = 1;
/// Exit code of `check` when it could not run.
const COULD_NOT_RUN: u8 = 2;

/// A mail server that runs on an IMail data directory as it is.
#[derive(Parser)]
#[command(name = "imaild", version, about, disable_help_subcommand = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the services in the foreground.
    Serve(Serve),
    /// Serve a scratch copy of the sample directory on 127.0.0.1, to try things out.
    Demo(demo::Demo),
    /// Make a new, empty IMail directory with its primary domain.
    Init(init::Init),
    /// Make registry.ini from exports of the old server's registry, and report what needs attention.
    Import(import::Import),
    /// Write the registry back as a .reg file that Windows imports.
    Export(export::Export),
    /// Read everything, change nothing, and report what is wrong (exit code 0 clean, 1 findings, 2 could not run).
    Check(check::Check),
    /// Show what a running server is doing: services, ports, connections, queue.
    Status(status::Status),
    /// See and change what waits in the spool; the server may be up or down.
    Queue(queue::Queue),
    /// Start, stop or restart one service of a running server.
    Service(service::Service),
    /// Pack what a support person needs into one file, without passwords.
    Support(support::Support),
    /// Write the manual pages, for those who make packages.
    #[command(hide = true)]
    Man(man::Man),
}

/// How every command is told its data directory.
#[derive(Args, Clone, Debug, Default)]
struct DataDirectory {
    /// The IMail directory; else the environment variable IMAIL_ROOT, else the current directory if it holds registry.ini.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

impl DataDirectory {
    fn locate(&self) -> Result<PathBuf, RootError> {
        root::locate(self.root.as_deref())
    }

    fn open(&self) -> Result<Root, RootError> {
        Ok(Root::new(Arc::new(RealDisk::new()), &self.locate()?))
    }
}

#[derive(Args)]
struct Serve {
    #[command(flatten)]
    directory: DataDirectory,
    /// Listen on this address only; may be given several times.
    #[arg(long, value_name = "ADDR")]
    bind: Vec<IpAddr>,
    /// Added to every port, so that nothing needs root.
    #[arg(long, value_name = "N", default_value_t = 0)]
    port_offset: u16,
    /// Only these services, of smtp, queue, pop3, imap, web and log.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    services: Vec<Service>,
    /// Send mail for a domain (* for all others) to a fixed host; may be given several times.
    #[arg(long = "route", value_name = "DOMAIN=HOST:PORT", value_parser = route)]
    routes: Vec<String>,
    /// The name server to ask.
    #[arg(long, value_name = "ADDR:PORT")]
    dns: Option<SocketAddr>,
    /// Serve metrics for Prometheus at /metrics, and /health, on this port of 127.0.0.1 (or ADDR:PORT, a loopback address).
    #[arg(long, value_name = "PORT", value_parser = metrics)]
    metrics: Option<SocketAddr>,
    /// How many seconds a new message waits for a mailbox that another program holds; for tests.
    #[arg(long, value_name = "SECONDS", hide = true, default_value_t = PATIENCE.as_secs())]
    lock_patience: u64,
    /// How many seconds what is under way may take to end when its service stops.
    #[arg(long, value_name = "SECONDS", hide = true, default_value_t = DRAIN_FOR.as_secs())]
    drain_for: u64,
}

/// A port of 127.0.0.1, or a loopback address with a port: what is served there is for this machine alone.
fn metrics(text: &str) -> Result<SocketAddr, String> {
    let port = text.parse::<u16>().ok().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    match port.or_else(|| text.parse().ok()) {
        Some(address) if address.ip().is_loopback() => Ok(address),
        Some(_) => {
            Err("only a loopback address, such as 127.0.0.1:9725: metrics are for this machine".to_owned())
        }
        None => Err("use a port such as 9725, or ADDR:PORT".to_owned()),
    }
}

fn route(text: &str) -> Result<String, String> {
    let (domain, target) = text.split_once('=').unwrap_or_default();
    let (host, port) = target.rsplit_once(':').unwrap_or_default();
    match port.parse::<u16>() {
        Ok(port) if port > 0 && !domain.is_empty() && !host.is_empty() => Ok(text.to_owned()),
        _ => Err("use DOMAIN=HOST:PORT, such as example.com=192.0.2.25:25".to_owned()),
    }
}

/// Two texts with an equals sign between.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() && !new.is_empty() => Ok((old.to_owned(), new.to_owned())),
        _ => Err("use OLD=NEW".to_owned()),
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// No data directory.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The registry.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The exports.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// Making a password.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The server.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A file.
    #[error("{0}: {1}")]
    File(String, io::Error),
    /// Anything else; the text says what to do.
    #[error("{0}")]
    Refused(String),
}

impl CommandError {
    fn file(path: impl std::fmt::Display) -> impl FnOnce(io::Error) -> CommandError {
        move |error| CommandError::File(path.to_string(), error)
    }
}

/// How a command ended that did what it was asked.
enum Outcome {
    Done,
    Findings,
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let line = CommandLine::parse();
    let on_error = match line.command {
        Command::Check(_) => COULD_NOT_RUN,
        _ => 1,
    };
    match line.command.run() {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Findings) => ExitCode::from(FINDINGS),
        Err(error) => {
            let _ = writeln!(io::stderr(), "imaild: {error}");
            ExitCode::from(on_error)
        }
    }
}

impl Command {
    fn run(self) -> Result<Outcome, CommandError> {
        match self {
            Command::Serve(serve) => serve.run(),
            Command::Demo(demo) => demo.run(),
            Command::Init(init) => init.run(),
            Command::Import(import) => import.run(),
            Command::Export(export) => export.run(),
            Command::Check(check) => check.run(),
            Command::Status(status) => status.run(),
            Command::Queue(queue) => queue.run(),
            Command::Service(service) => service.run(),
            Command::Support(support) => support.run(),
            Command::Man(man) => man.run(),
        }
    }
}

impl Serve {
    fn run(self) -> Result<Outcome, CommandError> {
        let Serve { directory, bind, port_offset, services, routes, dns, metrics, lock_patience, drain_for } =
            self;
        let [lock_patience, drain_for] = [lock_patience, drain_for].map(Duration::from_secs);
        let root = directory.locate()?;
        serve::run(serve::Options {
            root,
            bind,
            port_offset,
            services,
            routes,
            dns,
            lock_patience,
            drain_for,
            metrics,
        })?;
        Ok(Outcome::Done)
    }
}

/// Prints to standard output. Whoever closed it (`| head`) wants no more of it.
fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// Gives files that root made to the owner of the data directory, as whom the server runs. Others cannot and need not.
fn give_to_owner(root: &Root, files: &[TreePath]) -> Result<(), CommandError> {
    files.iter().try_for_each(|file| owner::give_to_owner(root, file).map_err(CommandError::file(file)))
}

/// The files that a new registry consists of.
fn registry_files(root: &Root) -> [TreePath; 3] {
    [root.registry_ini(), root.registry_good(), root.registry_lock()]
}

/// Reads a file of at most `limit` bytes that the admin named; `None` if it is larger.
fn read_named(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, CommandError> {
    let bytes = read_begin(path, limit + 1)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

/// Reads the first `length` bytes of a file that the admin named.
fn read_begin(path: &Path, length: u64) -> Result<Vec<u8>, CommandError> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(CommandError::file(path.display()))?;
    file.take(length).read_to_end(&mut bytes).map_err(CommandError::file(path.display()))?;
    Ok(bytes)
}

/// Writes a file that only its owner can read, whole or not at all.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".$$$");
    let temporary = PathBuf::from(temporary);
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    let disk = RealDisk::new();
    disk.sync_dir(&TreePath::operator(path).parent())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn routes_and_pairs() {
        for good in ["example.com=192.0.2.25:25", "*=relay.example.net:587", "a.b=[2001:db8::1]:25"] {
            assert!(route(good).is_ok(), "{good}");
        }
        for bad in ["", "example.com", "=a:25", "a.b=c", "a.b=:25", "a.b=c:0", "a.b=c:smtp"] {
            assert!(route(bad).is_err(), "{bad}");
        }
        for good in ["9725", "127.0.0.1:9725", "[::1]:9725"] {
            assert!(metrics(good).is_ok_and(|address| address.port() == 9725), "{good}");
        }
        for bad in ["", "x", "70000", "0.0.0.0:9725", "192.0.2.1:9725", "localhost:9725"] {
            assert!(metrics(bad).is_err(), "{bad}");
        }
        assert_eq!(pair(r"C:\IMail=/srv/a=b"), Ok((r"C:\IMail".into(), "/srv/a=b".into())));
        assert!(pair("a=").is_err() && pair("=b").is_err() && pair("ab").is_err());
    }

    #[test]
    fn what_is_written_is_private_and_whole() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.reg");
        std::fs::write(&path, "old").unwrap();
        write_private(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
