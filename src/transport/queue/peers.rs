//! The queue against other servers that behave in all ways that servers do.

use crate::config::Live;
use crate::logs::Log;
use crate::mailbox::Hub;
use crate::session::testing::{user_files, write_tree};
use crate::transport::remote::Route;
use crate::transport::remote::client::Timeouts;
use crate::transport::remote::resolver::{Exchanger, Resolver, Table};
use crate::transport::testing::recipient;
use crate::transport::trace::Origin;
use crate::transport::{Arrival, Options, Transport};
use layout::disk::real::RealDisk;
use layout::root::Root;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

mod odd;
mod reports;
mod rules;
mod tls;
mod usual;

/// How long something may take that is awaited.
const LIMIT: Duration = Duration::from_secs(30);
/// How long other servers may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// What a good server says to EHLO.
const EHLO: &str = "250-peer\r\n250-PIPELINING\r\n250-SIZE 1000000\r\n250 8BITMIME";
/// Two tries, and everything that is said in the log.
const TWO_TRIES: &str =
    "[Services\\SMTPD32\\Parameters]\r\nMaxTries=dword:00000002\r\nVerboseLogging=dword:00000001\r\n";

/// How a server behaves.
#[derive(Clone, Copy, Default)]
pub(super) struct Script {
    /// The first line; empty: a good one.
    pub(super) greeting: &'static str,
    /// The reply to EHLO; empty: it is not known.
    pub(super) ehlo: &'static str,
    /// Replies to lines that contain the first text, before all others.
    pub(super) answers: &'static [(&'static str, &'static str)],
    /// Every byte of a reply in a packet of its own, with this pause behind it.
    pub(super) one_byte: Option<Duration>,
    /// Close when a line begins like this, without a reply; `.` is the end of the message.
    pub(super) closes_at: &'static str,
    /// The same after the reply.
    pub(super) closes_after: &'static str,
    /// Never say anything.
    pub(super) silent: bool,
    /// What comes after the reply to STARTTLS.
    pub(super) tls: tls::Tls,
}

/// What a server heard, line by line, and how many connections it had.
pub(super) type Heard = Arc<Mutex<(Vec<String>, usize)>>;

pub(super) async fn peer(script: Script) -> (SocketAddr, Heard) {
    peer_at("127.0.0.1:0".parse().unwrap(), script).await
}

async fn peer_at(address: SocketAddr, script: Script) -> (SocketAddr, Heard) {
    let listener = TcpListener::bind(address).await.unwrap();
    let (address, heard) = (listener.local_addr().unwrap(), Heard::default());
    let for_task = heard.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            for_task.lock().unwrap().1 += 1;
            tokio::spawn(session(script, stream, for_task.clone()));
        }
    });
    (address, heard)
}

async fn session(script: Script, mut stream: TcpStream, heard: Heard) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    if script.silent {
        return stream.read_to_end(&mut Vec::new()).await.map(drop);
    }
    let greeting = if script.greeting.is_empty() { "220 peer" } else { script.greeting };
    say(&mut stream, script, greeting).await?;
    let mut stream = BufReader::new(stream);
    if talk(&mut stream, script, &heard).await? == Talked::AskedForTls {
        let Some(stream) = script.tls.accept(stream.into_inner()).await? else { return Ok(()) };
        heard.lock().unwrap().0.push("(TLS)".to_owned());
        talk(&mut BufReader::new(stream), script, &heard).await?;
    }
    Ok(())
}

#[derive(PartialEq, Eq)]
enum Talked {
    ToTheEnd,
    AskedForTls,
}

async fn talk(
    stream: &mut BufReader<impl AsyncRead + AsyncWrite + Unpin>,
    script: Script,
    heard: &Heard,
) -> std::io::Result<Talked> {
    let is = |text: &str, begin: &str| !begin.is_empty() && text.starts_with(begin);
    let (mut line, mut in_data) = (String::new(), false);
    while stream.read_line(&mut line).await? > 0 {
        let text = line.trim_end().to_owned();
        line.clear();
        heard.lock().unwrap().0.push(text.clone());
        if in_data && text != "." {
            continue;
        }
        if is(&text, script.closes_at) {
            break;
        }
        let known = script.answers.iter().find(|(part, _)| text.contains(part)).map(|(_, reply)| *reply);
        let reply = known.unwrap_or(match text.get(..4).unwrap_or("") {
            "EHLO" if script.ehlo.is_empty() => "502 what?",
            "EHLO" => script.ehlo,
            "DATA" => "354 go",
            "STAR" => "220 go",
            "QUIT" => "221 bye",
            _ => "250 ok",
        });
        in_data = reply.starts_with("354");
        say(stream.get_mut(), script, reply).await?;
        if is(&text, script.closes_after) {
            break;
        }
        if text == "STARTTLS" && reply.starts_with("220") {
            return Ok(Talked::AskedForTls);
        }
    }
    Ok(Talked::ToTheEnd)
}

async fn say(stream: &mut (impl AsyncWrite + Unpin), script: Script, reply: &str) -> std::io::Result<()> {
    let text = format!("{reply}\r\n");
    let Some(pause) = script.one_byte else {
        stream.write_all(text.as_bytes()).await?;
        return stream.flush().await;
    };
    for byte in text.as_bytes() {
        stream.write_all(&[*byte]).await?;
        stream.flush().await?;
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

/// A server of ours with its queue.
struct Ours {
    dir: tempfile::TempDir,
    live: Arc<Live>,
    transport: Transport,
    log: Log,
}

impl Ours {
    fn start(routes: &[(&str, SocketAddr)], table: Table, services: &str) -> Ours {
        Ours::start_with(routes, table, services, 25)
    }

    /// `port` is where other servers take mail.
    fn start_with(routes: &[(&str, SocketAddr)], table: Table, services: &str, port: u16) -> Ours {
        let dir = tempfile::tempdir().unwrap();
        write_tree(dir.path(), services);
        Ours::on(dir, routes, table, port)
    }

    fn on(dir: tempfile::TempDir, routes: &[(&str, SocketAddr)], table: Table, port: u16) -> Ours {
        let root = Root::new(Arc::new(RealDisk::new()), dir.path());
        let (live, _) = Live::start(&root).unwrap();
        let log = Log::start(&root, {
            let root = root.clone();
            move || root.logs()
        });
        let hub = Hub::new(root.shared_disk());
        let short = PATIENCE;
        let options = Options {
            routes: routes.iter().map(|(d, a)| Route::parse(d, &a.to_string()).unwrap()).collect(),
            resolver: Resolver::Table(table),
            timeouts: Timeouts { connect: short, command: short, data: short, block: short, end: short },
            look_every: Duration::from_millis(100),
            port,
            ..Options::default()
        };
        let transport = Transport::start(&live, &hub, &log, options).unwrap();
        tokio::spawn(transport.queue(std::future::pending()));
        Ours { dir, live, transport, log }
    }

    async fn send(&self, sender: &str, recipients: &[&str], body: &str) {
        self.send_as(Some("mike@example.org"), sender, recipients, body).await;
    }

    /// Sends as this user, or as a stranger.
    async fn send_as(&self, account: Option<&str>, sender: &str, recipients: &[&str], body: &str) {
        let config = self.live.now();
        let mut connection = self.transport.connection_id().unwrap();
        let origin = Origin {
            id: self.transport.message_id(&mut connection).unwrap(),
            helo: "client".into(),
            extended: true,
            client: "127.0.0.1".parse().unwrap(),
            host: "example.org".into(),
            secure: false,
            authenticated: account.is_some(),
            sender: sender.into(),
            utf8: false,
        };
        let taken = |address: &&str| recipient(&self.transport, &config, address, account.is_some()).unwrap();
        let recipients = recipients.iter().map(taken).collect();
        let mut incoming = self.transport.incoming(origin.clone(), 1 << 20);
        incoming.write(format!("Subject: x\r\n\r\n{body}").as_bytes());
        let account = account.map(str::to_owned);
        let arrival = Arrival { origin, recipients, account, dsn: Default::default() };
        self.transport.accept(&config, arrival, incoming).await.unwrap();
    }

    /// The Q files of the spool.
    fn queued(&self) -> Vec<(PathBuf, String)> {
        let entries = std::fs::read_dir(self.dir.path().join("spool")).unwrap();
        let all = entries.map(|entry| entry.unwrap().path());
        let queued = all.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with('Q'));
        queued.filter_map(|path| Some((path.clone(), std::fs::read_to_string(path).ok()?))).collect()
    }

    fn log(&self) -> String {
        self.log.flush();
        let files = std::fs::read_dir(self.dir.path().join("logs")).into_iter().flatten();
        files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect()
    }

    fn inbox(&self, user: &str) -> String {
        user_files(self.dir.path(), user)
    }

    /// Waits until the log says this.
    async fn logs(&self, text: &str) {
        until(text, || self.log().contains(text)).await;
    }

    /// Waits until the first try is over, and asks for another one as an admin does: by a touch of the Q file.
    async fn touch(&self) {
        self.logs("status=3").await;
        // A report about it may wait as well; that was not tried yet.
        let tried = self.queued().into_iter().find(|(_, content)| content.contains("\nT"));
        let (path, _) = tried.unwrap();
        let file = std::fs::File::options().append(true).open(path).unwrap();
        file.set_modified(std::time::SystemTime::now()).unwrap();
    }

    /// Waits until the queue is empty.
    async fn drained(&self) {
        until("an empty queue", || self.queued().is_empty()).await;
    }

    /// Waits until some Q file says this.
    async fn waiting(&self, text: &str) {
        until(text, || self.queued().iter().any(|(_, content)| content.contains(text))).await;
    }
}

pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < LIMIT, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
