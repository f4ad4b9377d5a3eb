//! A server under test with one large mailbox: ours, or Dovecot; and somebody else who uses it at the same time.

use crate::client::Client;
use crate::dovecot::{self, Dovecot};
use crate::support::ini;
use crate::support::sample::{PRIMARY, SUZUKI};
use crate::support::server::{Ports, Server};
use crate::support::tree::Tree;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Who has the large mailbox. Both servers take the same password.
pub const USER: (&str, &str) = ("user789", dovecot::PASSWORD);
/// How often somebody else asks for something.
const ASKS_EVERY: Duration = Duration::from_millis(5);
/// How long somebody else waits for an answer.
const PATIENCE: Duration = Duration::from_secs(600);

/// A server.
pub enum Subject {
    /// Ours.
    Imaild(Tree, Option<Server>),
    /// The peer.
    Dovecot(Dovecot),
}

impl Subject {
    /// Ours, with this mailbox.
    pub fn imaild(file: &Path) -> Subject {
        let tree = Tree::quiet();
        // A million messages are more than IMail could read.
        let registry = ini::set(&tree.registry(), "[Global]", "ReturnToIMail", "dword:00000000");
        tree.save_registry(&registry);
        let place = mailbox(&tree);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::copy(file, place).unwrap();
        let server = Server::start(&tree);
        Subject::Imaild(tree, Some(server))
    }

    /// Dovecot with the same mailbox; `None` with a word if it is not there.
    pub fn dovecot(mailbox: &Path) -> Option<Subject> {
        let dovecot = Dovecot::start()?;
        dovecot.put_mailbox(USER.0, mailbox);
        Some(Subject::Dovecot(dovecot))
    }

    /// Which it is.
    pub fn name(&self) -> &'static str {
        match self {
            Subject::Imaild(..) => "imaild",
            Subject::Dovecot(_) => "Dovecot",
        }
    }

    /// Where IMAP is.
    pub fn imap(&self) -> SocketAddr {
        match self {
            Subject::Imaild(_, server) => server.as_ref().expect("it runs").address(143),
            Subject::Dovecot(dovecot) => dovecot.imap(),
        }
    }

    /// Where POP3 is.
    pub fn pop3(&self) -> SocketAddr {
        match self {
            Subject::Imaild(_, server) => server.as_ref().expect("it runs").address(110),
            Subject::Dovecot(dovecot) => dovecot.pop3(),
        }
    }

    /// The process that started all others.
    pub fn pid(&self) -> u32 {
        match self {
            Subject::Imaild(_, server) => server.as_ref().expect("it runs").pid(),
            Subject::Dovecot(dovecot) => dovecot.pid(),
        }
    }

    /// The large mailbox.
    pub fn mailbox(&self) -> PathBuf {
        match self {
            Subject::Imaild(tree, _) => mailbox(tree),
            Subject::Dovecot(dovecot) => dovecot.mailbox(USER.0),
        }
    }

    /// Adds users `u001` and so on, each with this mailbox.
    pub fn add_users(&self, count: usize, from: &Path) {
        let names: Vec<String> = (1..=count).map(user).collect();
        match self {
            Subject::Imaild(tree, _) => {
                let lines = names.iter().map(|name| format!("{name},{},{name}\r\n", USER.1));
                let list = tempfile::NamedTempFile::new().unwrap();
                std::fs::write(&list, lines.collect::<String>()).unwrap();
                let path = list.path().to_str().unwrap();
                tree.tool("adduser", &["-h", PRIMARY, "-f", path]).expect_code(1);
                for name in names {
                    let dir = tree.path("users").join(name);
                    std::fs::create_dir_all(&dir).unwrap();
                    std::fs::copy(from, dir.join("main.mbx")).unwrap();
                }
            }
            Subject::Dovecot(dovecot) => names.iter().for_each(|name| dovecot.put_mailbox(name, from)),
        }
    }

    /// Ends it in order and starts it anew.
    pub fn restart(&mut self) {
        match self {
            Subject::Imaild(tree, server) => {
                let ports = match server.take() {
                    Some(server) => server.stop().1,
                    None => Ports::reserve(),
                };
                *server = Some(Server::start_on(tree, ports));
            }
            Subject::Dovecot(dovecot) => dovecot.restart(),
        }
    }

    /// A client with the large mailbox.
    pub fn client(&self) -> Client {
        Client::login(self.imap(), USER.0, USER.1, PATIENCE)
    }

    /// Somebody else, on our server.
    pub fn neighbour(&self) -> Option<Neighbour> {
        matches!(self, Subject::Imaild(..)).then(|| Neighbour::begin(self.imap()))
    }
}

/// The name of one of the users that [`Subject::add_users`] makes.
pub fn user(number: usize) -> String {
    format!("u{number:03}")
}

fn mailbox(tree: &Tree) -> PathBuf {
    tree.path(&format!("users/{}/main.mbx", USER.0))
}

/// Somebody with a small mailbox who asks for news all the time.
pub struct Neighbour {
    longest: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Neighbour {
    fn begin(imap: SocketAddr) -> Neighbour {
        let (longest, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (asked, stop) = (longest.clone(), ended.clone());
        let thread = std::thread::spawn(move || {
            let mut client = Client::login(imap, "suzuki", SUZUKI, PATIENCE);
            client.ok("SELECT INBOX", "", PATIENCE).unwrap();
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                client.ok("NOOP", "", PATIENCE).expect("an answer");
                asked.fetch_max(begun.elapsed().as_micros() as u64, Ordering::Relaxed);
                std::thread::sleep(ASKS_EVERY);
            }
        });
        Neighbour { longest, ended, thread: Some(thread) }
    }

    /// The longest wait since this was asked last.
    pub fn longest(&self) -> Duration {
        Duration::from_micros(self.longest.swap(0, Ordering::Relaxed))
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
