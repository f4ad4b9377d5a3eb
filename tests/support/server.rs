//! A running `imaild serve` on ports of its own.

use super::imap::Imap;
use super::pop3::Pop3;
use super::smtp::Smtp;
use super::tree::Tree;
use super::wire::Wire;
use super::{START_LIMIT, command, wait_for};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

/// How long an orderly stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// The ports that the server opens, before the offset.
const PORTS: [u16; 8] = [25, 587, 465, 110, 995, 143, 993, 8383];

/// More ports that nobody else takes, for the peers of a test.
pub const SPARE: [u16; 2] = [2, 3];

/// Offsets that a test may take: multiples of 100 keep the ports of two servers apart, and the
/// highest port stays below the range that the system gives to outgoing connections.
const FIRST_OFFSET: u16 = 10_000;
const OFFSETS: u16 = 140;
/// The same for ports of which all without TLS stay below 1024: so few steps of 5 keep the ports of two servers apart.
const FIRST_LOW_OFFSET: u16 = 400;
const LOW_OFFSETS: u16 = 6;

/// Port offset of one server, kept for it alone by a listener on a port that no service uses.
pub struct Ports {
    /// What is added to every port.
    pub offset: u16,
    _kept: TcpListener,
}

impl Ports {
    /// Finds a free offset.
    pub fn reserve() -> Ports {
        let start = (std::process::id() % u32::from(OFFSETS)) as u16;
        Ports::free((0..OFFSETS).map(|step| FIRST_OFFSET + (start + step) % OFFSETS * 100))
    }

    /// Finds a free offset with which the ports without TLS need a right; for root.
    pub fn reserve_low() -> Ports {
        Ports::free((0..LOW_OFFSETS).map(|step| FIRST_LOW_OFFSET + step * 5))
    }

    fn free(mut offsets: impl Iterator<Item = u16>) -> Ports {
        let free = offsets.find_map(|offset| {
            let kept = TcpListener::bind((Ipv4Addr::LOCALHOST, offset + 1)).ok()?;
            // Asked by a call rather than by a listener: a program that another test starts at this moment holds our
            // listeners until its own code begins, and the port would seem taken.
            let free = |port: &u16| TcpStream::connect((Ipv4Addr::LOCALHOST, offset + port)).is_err();
            let usable = PORTS.iter().chain(&SPARE).all(free);
            usable.then_some(Ports { offset, _kept: kept })
        });
        free.expect("a free range of ports")
    }

    /// The address of a service.
    pub fn address(&self, port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.offset + port).into()
    }
}

/// A server process; it is killed when the test lets go of it.
pub struct Server {
    child: Child,
    ports: Ports,
    output: PathBuf,
    logs: PathBuf,
    _scratch: tempfile::TempDir,
}

impl Server {
    /// Starts the mail services on a tree and waits until all of them greet.
    #[track_caller]
    pub fn start(tree: &Tree) -> Server {
        Server::start_on(tree, Ports::reserve())
    }

    /// Starts on given ports, for a restart at the same place.
    #[track_caller]
    pub fn start_on(tree: &Tree, ports: Ports) -> Server {
        Server::start_with(tree, ports, &[])
    }

    /// The same with further arguments.
    #[track_caller]
    pub fn start_with(tree: &Tree, ports: Ports, more: &[&str]) -> Server {
        let mail = ["--services", "smtp,queue,pop3,imap"];
        Server::start_as(tree, ports, command("imaild"), &[&mail, more].concat())
    }

    /// Starts without the queue: what comes in stays in the spool.
    #[track_caller]
    pub fn start_without_queue(tree: &Tree) -> Server {
        let mail = ["--services", "smtp,pop3,imap"];
        Server::start_as(tree, Ports::reserve(), command("imaild"), &mail)
    }

    /// Starts by a command that stands for `imaild`, with these arguments behind the usual ones.
    #[track_caller]
    pub fn start_as(tree: &Tree, ports: Ports, mut serve: Command, more: &[&str]) -> Server {
        let scratch = tempfile::tempdir().unwrap();
        let output = scratch.path().join("output.txt");
        let file = File::create(&output).unwrap();
        let offset = ports.offset.to_string();
        serve.args(["serve", "--root", tree.text(), "--bind", "127.0.0.1", "--port-offset", &offset]);
        serve.args(more);
        serve.stdout(file.try_clone().unwrap()).stderr(file);
        let child = serve.spawn().expect("imaild starts");
        let mut server = Server { child, ports, output, logs: tree.path("logs"), _scratch: scratch };
        server.wait_until_ready();
        server
    }

    #[track_caller]
    fn wait_until_ready(&mut self) {
        for port in [25, 110, 143] {
            let address = self.ports.address(port);
            wait_for(&format!("a greeting on port {}", address.port()), START_LIMIT, || {
                if let Some(status) = self.child.try_wait().unwrap() {
                    panic!("imaild serve ended with {status}:\n{}", self.output());
                }
                let mut wire = Wire::open(address).ok()?;
                wire.line_bytes()
            });
        }
    }

    /// The address of a service, by its port before the offset.
    pub fn address(&self, port: u16) -> SocketAddr {
        self.ports.address(port)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Opens an SMTP session.
    #[track_caller]
    pub fn smtp(&self) -> Smtp {
        Smtp::open(self.address(25))
    }

    /// Opens a POP3 session for a user.
    #[track_caller]
    pub fn pop3(&self, user: &str, password: &str) -> Pop3 {
        Pop3::login(self.address(110), user, password)
            .unwrap_or_else(|refusal| panic!("POP3 login of {user} refused: {refusal}\n{}", self.output()))
    }

    /// Whether POP3 lets a user in.
    #[track_caller]
    pub fn pop3_takes(&self, user: &str, password: &str) -> bool {
        Pop3::login(self.address(110), user, password).is_ok()
    }

    /// Opens an IMAP session for a user.
    #[track_caller]
    pub fn imap(&self, user: &str, password: &str) -> Imap {
        Imap::login(self.address(143), user, password)
            .unwrap_or_else(|refusal| panic!("IMAP login of {user} refused: {refusal}\n{}", self.output()))
    }

    /// Waits until a user's mailbox holds a message with this subject, and gives the message.
    #[track_caller]
    pub fn wait_for_mail(&self, user: &str, password: &str, subject: &str) -> Vec<u8> {
        wait_for(&format!("mail {subject:?} for {user}"), START_LIMIT, || {
            let mut pop3 = self.pop3(user, password);
            let found = pop3.subjects().iter().position(|text| text == subject);
            let message = found.map(|index| pop3.block(&format!("RETR {}", index + 1)));
            pop3.quit();
            message
        })
    }

    /// Everything the process has printed.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Everything the process has printed or written to its logs.
    pub fn said(&self) -> String {
        let mut text = self.output();
        for entry in std::fs::read_dir(&self.logs).into_iter().flatten().flatten() {
            text.push_str(&String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap_or_default()));
        }
        text
    }

    /// Stops the server in order, as a service manager does, and gives its ports back.
    #[track_caller]
    pub fn stop(self) -> (ExitStatus, Ports) {
        self.end_by("TERM")
    }

    /// Ends the server without warning, and gives its ports back.
    #[track_caller]
    pub fn kill(self) -> (ExitStatus, Ports) {
        self.end_by("KILL")
    }

    /// Sends a signal.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        let line = format!("kill -{name} {}", self.child.id());
        assert!(std::process::Command::new("sh").args(["-c", &line]).status().unwrap().success());
    }

    #[track_caller]
    fn end_by(mut self, signal: &str) -> (ExitStatus, Ports) {
        self.signal(signal);
        let status = wait_for("the server to end", STOP_LIMIT, || self.child.try_wait().unwrap());
        let offset = self.ports.offset;
        let kept = self.ports._kept.try_clone().unwrap();
        (status, Ports { offset, _kept: kept })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- imaild serve said:\n{}", self.output());
        }
    }
}
