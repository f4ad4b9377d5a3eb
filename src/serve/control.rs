//! Telling a running server what to do: `logs/imaild.<process id>.control`, a socket beside the server's board ([`super::board`]), for
//! `imaild service`. What the server does is read from its board; only what changes it goes through here.
//!
//! One line comes, `start NAME`, `stop NAME` or `restart NAME`; when that is done one line goes back, `ok` or `failed`, a blank, and what to
//! tell the admin. The socket is its owner's: whom the server runs as, and root, may write to it.
//!
//! # Failure
//! Where no socket can be made (some network file systems) the server goes on without, and says so. What was begun is
//! ended, also if whoever asked is gone.
//!
//! # Limits
//! [`REQUEST_MAX`] bytes within [`REQUEST_PATIENCE`], [`CLIENTS_MAX`] at a time; whoever asks waits [`ANSWER_PATIENCE`].

use super::Service;
use super::services::{Change, Services};
use crate::logs::Log;
use layout::root::Root;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::fs::Permissions;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// The longest request.
const REQUEST_MAX: u64 = 256;
/// The longest answer that is read.
const ANSWER_MAX: u64 = 64 << 10;
/// How long a request may take to come.
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);
/// How long an answer may take: a service has its time to end what is under way, and another change of it may come first.
const ANSWER_PATIENCE: Duration = Duration::from_secs(300);
/// The most requests at a time.
const CLIENTS_MAX: usize = 16;

/// What is to be done with a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Start it.
    Start,
    /// Stop it.
    Stop,
    /// Stop and start it.
    Restart,
}

impl Order {
    const ALL: [Order; 3] = [Order::Start, Order::Stop, Order::Restart];

    fn word(self) -> &'static str {
        match self {
            Order::Start => "start",
            Order::Stop => "stop",
            Order::Restart => "restart",
        }
    }
}

/// What comes through the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Request {
    order: Order,
    service: Service,
}

impl FromStr for Request {
    type Err = String;

    fn from_str(line: &str) -> Result<Request, String> {
        let (word, name) = line.trim_end().split_once(' ').ok_or("an order is a word, a blank, a service")?;
        let order = Order::ALL.into_iter().find(|order| order.word() == word);
        let order = order.ok_or_else(|| format!("{word:?} is no order"))?;
        Ok(Request { order, service: name.parse()? })
    }
}

/// The socket of a process, by a way that is short enough: the names of sockets have at most 107 bytes.
struct Place {
    directory: OwnedFd,
    name: String,
}

impl Place {
    fn of(root: &Root, process: u32) -> io::Result<Place> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open(&root.logs().full(), flags, Mode::empty())?;
        Ok(Place { directory, name: name(process) })
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{}", self.directory.as_raw_fd(), self.name))
    }
}

/// The name of a process's socket in the directory of logs.
pub fn name(process: u32) -> String {
    format!("imaild.{process}.control")
}

/// The socket of this process, until it is dropped.
pub struct Control {
    listener: UnixListener,
    place: Place,
}

impl Control {
    /// Makes the socket.
    pub fn start(root: &Root) -> io::Result<Control> {
        root.make_dirs(&root.logs())?;
        let place = Place::of(root, std::process::id())?;
        // Left by a process of the same id.
        match std::fs::remove_file(place.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(place.path())?;
        std::fs::set_permissions(place.path(), Permissions::from_mode(0o600))?;
        Ok(Control { listener, place })
    }

    /// Does what it is told until it is dropped. `changed` is called when a service has changed, before whoever asked is told.
    pub async fn serve(
        &self,
        services: Arc<Services>,
        log: Log,
        changed: impl Fn() + Clone + Send + Sync + 'static,
    ) {
        let places = Arc::new(Semaphore::new(CLIENTS_MAX));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let (services, log, changed) = (services.clone(), log.clone(), changed.clone());
            match self.listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(async move {
                    let _place = place;
                    if let Err(error) = answer(stream, &services, &log, &changed).await {
                        tracing::debug!(%error, "whoever asked for a service is gone");
                    }
                })),
                Err(error) => {
                    tracing::warn!(%error, "a request could not be taken");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.place.path());
    }
}

async fn answer(
    mut stream: UnixStream,
    services: &Services,
    log: &Log,
    changed: &(impl Fn() + Sync),
) -> io::Result<()> {
    let mut request = Vec::new();
    timeout(REQUEST_PATIENCE, (&mut stream).take(REQUEST_MAX).read_to_end(&mut request)).await??;
    let done = match String::from_utf8_lossy(&request).parse() {
        Ok(request) => perform(request, services).await,
        Err(why) => Err(why),
    };
    tokio::task::block_in_place(changed);
    let line = match &done {
        Ok(text) => format!("ok {text}\n"),
        Err(why) => format!("failed {why}\n"),
    };
    log.note(&format!("imaild service: {}", line.trim_end()));
    stream.write_all(line.as_bytes()).await?;
    stream.shutdown().await
}

/// Does it, and says what was done.
async fn perform(Request { order, service }: Request, services: &Services) -> Result<String, String> {
    let name = service.word();
    let stopped = match order {
        Order::Start => Change::None,
        Order::Stop | Order::Restart => services.stop(service).await,
    };
    let cut = match stopped {
        Change::Cut => "; what did not end in time was cut off",
        Change::None | Change::Done => "",
    };
    if order == Order::Stop {
        return Ok(match stopped {
            Change::None => format!("{name} was stopped before"),
            Change::Done | Change::Cut => format!("{name} was stopped{cut}"),
        });
    }
    match (services.start(service).await, order) {
        (Ok(Change::None), _) => Ok(format!("{name} was running before")),
        (Ok(_), Order::Restart) => Ok(format!("{name} was restarted{cut}")),
        (Ok(_), _) => Ok(format!("{name} was started")),
        (Err(error), _) => Err(format!("{name} could not be started: {error}")),
    }
}

/// Asks the server with this process id, and waits for what it says: what was done, or why it was not.
pub fn ask(root: &Root, process: u32, order: Order, service: Service) -> io::Result<Result<String, String>> {
    let place = Place::of(root, process)?;
    let mut stream = std::os::unix::net::UnixStream::connect(place.path())?;
    stream.set_read_timeout(Some(ANSWER_PATIENCE))?;
    stream.write_all(format!("{} {}\n", order.word(), service.word()).as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.take(ANSWER_MAX).read_to_string(&mut answer)?;
    let answer = answer.trim_end();
    match answer.split_once(' ') {
        Some(("ok", text)) => Ok(Ok(text.to_owned())),
        Some(("failed", why)) => Ok(Err(why.to_owned())),
        _ => Err(io::Error::other(format!("the server broke off: {answer:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        for (line, expected) in [
            ("stop smtp\n", Ok((Order::Stop, Service::Smtp))),
            ("restart queue\n", Ok((Order::Restart, Service::Queue))),
            ("start IMAP4D32", Ok((Order::Start, Service::Imap))),
            ("stop", Err(())),
            ("halt smtp", Err(())),
            ("stop finger", Err(())),
            ("", Err(())),
        ] {
            let read = line.parse::<Request>().map(|request| (request.order, request.service));
            assert_eq!(read.map_err(drop), expected, "{line:?}");
        }
    }
}
