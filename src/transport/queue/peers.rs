//! The queue against other servers that behave in all ways that servers do.

use crate::config::Live;
use crate::logs::Log;
use crate::mailbox::Hub;
use crate::session::testing::{user_files, write_tree};
use crate::transport::remote::Route;
use crate::transport::remote::client::Timeouts;
use crate::transport::remote::resolver::{Exchanger, Resolver, Table};
use crate::transport::trace::Origin;
use crate::transport::{Arrival, Options, Transport};
use layout::disk::real::RealDisk;
use layout::root::Root;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// How long something may take that is awaited.
const LIMIT: Duration = Duration::from_secs(30);

/// How a server behaves.
#[derive(Clone, Copy, Default)]
pub(super) struct Script {
    /// The first line; empty: a good one.
    pub(super) greeting: &'static str,
    /// The reply to EHLO; empty: it is not known.
    pub(super) ehlo: &'static str,
    /// Replies to lines that contain the first text, before all others.
    pub(super) answers: &'static [(&'static str, &'static str)],
    /// Every byte of a reply in a packet of its own.
    pub(super) one_byte: bool,
    /// Close without a reply to the message.
    pub(super) drops: bool,
    /// Never say anything.
    pub(super) silent: bool,
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

async fn session(script: Script, stream: TcpStream, heard: Heard) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    if script.silent {
        return stream.read_to_end(&mut Vec::new()).await.map(drop);
    }
    let greeting = if script.greeting.is_empty() { "220 peer" } else { script.greeting };
    say(&mut stream, script, greeting).await?;
    let (mut line, mut in_data) = (String::new(), false);
    while stream.read_line(&mut line).await? > 0 {
        let text = line.trim_end().to_owned();
        line.clear();
        heard.lock().unwrap().0.push(text.clone());
        if in_data {
            if text != "." {
                continue;
            }
            if script.drops {
                return Ok(());
            }
        }
        let known = script.answers.iter().find(|(part, _)| text.contains(part)).map(|(_, reply)| *reply);
        let reply = known.unwrap_or(match text.get(..4).unwrap_or("") {
            "EHLO" if script.ehlo.is_empty() => "502 what?",
            "EHLO" => script.ehlo,
            "DATA" => "354 go",
            "QUIT" => "221 bye",
            _ => "250 ok",
        });
        in_data = reply.starts_with("354");
        say(&mut stream, script, reply).await?;
    }
    Ok(())
}

async fn say(stream: &mut BufReader<TcpStream>, script: Script, reply: &str) -> std::io::Result<()> {
    let text = format!("{reply}\r\n");
    if !script.one_byte {
        return stream.write_all(text.as_bytes()).await;
    }
    stream.get_ref().set_nodelay(true)?;
    for byte in text.as_bytes() {
        stream.write_all(&[*byte]).await?;
        tokio::task::yield_now().await;
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
        let short = Duration::from_millis(500);
        let options = Options {
            routes: routes.iter().map(|(d, a)| Route::parse(d, &a.to_string()).unwrap()).collect(),
            resolver: Resolver::Table(table),
            timeouts: Timeouts { connect: short, command: short, data: short, block: short, end: short },
            look_every: Duration::from_millis(100),
            port,
            ..Options::default()
        };
        let transport = Transport::start(&live, &hub, &log, options).unwrap();
        Ours { dir, live, transport, log }
    }

    async fn send(&self, sender: &str, recipients: &[&str], body: &str) {
        let config = self.live.now();
        let mut connection = self.transport.connection_id().unwrap();
        let origin = Origin {
            id: self.transport.message_id(&mut connection).unwrap(),
            helo: "client".into(),
            extended: true,
            client: "127.0.0.1".parse().unwrap(),
            host: "example.org".into(),
            secure: false,
            authenticated: true,
            sender: sender.into(),
        };
        let recipients =
            recipients.iter().map(|r| self.transport.recipient(&config, r, true).unwrap()).collect();
        let mut incoming = self.transport.incoming(origin.clone(), 1 << 20);
        incoming.write(format!("Subject: x\r\n\r\n{body}").as_bytes());
        let arrival = Arrival { origin, recipients, account: Some("mike@example.org".into()) };
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

const EHLO: &str = "250-peer\r\n250-PIPELINING\r\n250-SIZE 1000000\r\n250 8BITMIME";

#[tokio::test(flavor = "multi_thread")]
async fn mail_goes_out_over_one_connection() {
    let (address, heard) = peer(Script { ehlo: EHLO, ..Script::default() }).await;
    let ours = Ours::start(&[("peer.example", address)], Table::default(), "");
    ours.send("mike@example.org", &["a@peer.example", "b@peer.example"], ".dot\r\n").await;
    ours.drained().await;
    ours.send("mike@example.org", &["c@peer.example"], "two\r\n").await;
    ours.drained().await;
    let (lines, connections) = heard.lock().unwrap().clone();
    assert_eq!(connections, 1);
    assert!(lines[0].starts_with("EHLO example.org"), "{lines:?}");
    assert!(lines[1].starts_with("MAIL FROM:<mike@example.org> SIZE="), "{lines:?}");
    assert_eq!(lines[2..5], ["RCPT TO:<a@peer.example>", "RCPT TO:<b@peer.example>", "DATA"]);
    assert!(lines.contains(&"..dot".to_owned()) && lines.contains(&"two".to_owned()), "{lines:?}");
    let log = ours.log();
    assert!(log.contains("rdeliver peer.example a@peer.example (2) <mike@example.org> "), "{log}");
    assert!(log.contains("status=1"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_servers_and_servers_that_send_single_bytes() {
    let plain = peer(Script::default()).await;
    let slow = peer(Script { ehlo: EHLO, one_byte: true, ..Script::default() }).await;
    let routes = [("plain.example", plain.0), ("slow.example", slow.0)];
    let ours = Ours::start(&routes, Table::default(), "");
    ours.send("mike@example.org", &["a@plain.example", "a@slow.example"], "text\r\n").await;
    ours.drained().await;
    let lines = plain.1.lock().unwrap().0.clone();
    assert_eq!(
        lines[1..4],
        ["HELO example.org", "MAIL FROM:<mike@example.org>", "RCPT TO:<a@plain.example>"]
    );
    assert!(slow.1.lock().unwrap().0.contains(&"text".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_recipient_is_returned() {
    let answers = &[("RCPT TO:<no@", "550-5.1.1 no such user\r\n550 5.1.1 here")];
    let (address, heard) = peer(Script { ehlo: EHLO, answers, ..Script::default() }).await;
    let ours = Ours::start(&[("peer.example", address)], Table::default(), "");
    ours.send("mike@example.org", &["yes@peer.example", "no@peer.example"], "text\r\n").await;
    ours.drained().await;
    until("the bounce", || ours.inbox("mike").contains("Undeliverable Mail")).await;
    let bounce = ours.inbox("mike");
    for text in [
        "Unknown user: no@peer.example",
        "RCPT TO generated following response:",
        "550-5.1.1 no such user",
        "550 5.1.1 here",
        "Original message follows.",
    ] {
        assert!(bounce.contains(text), "{text}: {bounce}");
    }
    assert!(!bounce.contains("Unknown user: yes@"), "{bounce}");
    assert!(heard.lock().unwrap().0.contains(&"text".to_owned()));
    let log = ours.log();
    assert!(log.contains("undeliverable no@peer.example") && log.contains("status=2"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_left_means_no_message() {
    let answers = &[("RCPT TO", "550 no")];
    let (address, heard) = peer(Script { ehlo: EHLO, answers, ..Script::default() }).await;
    let ours = Ours::start(&[("peer.example", address)], Table::default(), "");
    ours.send("mike@example.org", &["a@peer.example"], "text\r\n").await;
    until("the bounce", || ours.inbox("mike").contains("Unknown user: a@peer.example")).await;
    assert!(!heard.lock().unwrap().0.contains(&"text".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_for_now_waits_and_a_touch_tries_it_again() {
    for (script, log) in [
        (Script { ehlo: EHLO, answers: &[("RCPT", "450 later")], ..Script::default() }, "450 later"),
        (Script { ehlo: EHLO, drops: true, ..Script::default() }, "connection lost"),
        (Script { silent: true, ..Script::default() }, "no answer in time"),
    ] {
        let (address, _) = peer(script).await;
        let services = "[Services\\SMTPD32\\Parameters]\r\nMaxTries=dword:00000002\r\n";
        let ours = Ours::start(&[("peer.example", address)], Table::default(), services);
        ours.send("mike@example.org", &["a@peer.example"], "text\r\n").await;
        ours.waiting("\nT1\r\n").await;
        until(log, || ours.log().contains(log)).await;
        until("requeuing", || ours.log().contains("requeuing")).await;
        // Rested: the queue saw its own change.
        until("rest", || ours.log().contains("status=3")).await;
        // That nothing happens cannot be waited for.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let (path, content) = ours.queued().pop().unwrap();
        assert!(content.contains("\nT1\r\n"), "{content}");
        std::fs::File::options()
            .append(true)
            .open(path)
            .unwrap()
            .set_modified(std::time::SystemTime::now())
            .unwrap();
        until("the bounce", || ours.inbox("mike").contains("Delivery failed 2 attempts: a@peer.example"))
            .await;
        ours.drained().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn domains_that_do_not_exist_and_domains_that_take_no_mail() {
    let mut table = Table::default();
    let none = Exchanger { preference: 0, host: String::new() };
    table.exchangers.insert("null.example".into(), vec![none]);
    let own = Exchanger { preference: 5, host: "mail.example.org".into() };
    table.exchangers.insert("loop.example".into(), vec![own]);
    let ours = Ours::start(&[], table, "");
    let recipients = ["a@null.example", "a@missing.example", "a@loop.example"];
    ours.send("mike@example.org", &recipients, "text\r\n").await;
    ours.drained().await;
    for recipient in recipients {
        until(recipient, || ours.inbox("mike").contains(recipient)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bounce_that_cannot_be_delivered_goes_to_the_postmaster_and_then_stays() {
    let (address, _) = peer(Script { answers: &[("RCPT", "550 no")], ..Script::default() }).await;
    let ours = Ours::start(&[("peer.example", address)], Table::default(), "");
    // There is no postmaster and no root in this tree.
    ours.send("nobody@peer.example", &["a@peer.example"], "text\r\n").await;
    until("the note", || ours.log().contains("nobody can be told")).await;
    ours.waiting("R<root@example.org>").await;
    assert_eq!(ours.queued().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_may_send_to_named_routes_only() {
    let (address, _) = peer(Script::default()).await;
    let ours = Ours::start(&[("Named.example", address), ("*", address)], Table::default(), "");
    let config = ours.live.now();
    assert!(ours.transport.recipient(&config, "a@named.example", false).is_ok());
    assert!(ours.transport.recipient(&config, "a@other.example", false).is_err());
    assert!(ours.transport.recipient(&config, "a@other.example", true).is_ok());
    assert_eq!(ours.transport.gateway_for(&config), ["named.example"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_server_gets_what_the_first_ones_do_not_take() {
    let (good, heard) = peer(Script { ehlo: EHLO, ..Script::default() }).await;
    let port = good.port();
    let closing = Script { greeting: "554 go away", ..Script::default() };
    let (_, refused) = peer_at(format!("127.0.0.3:{port}").parse().unwrap(), closing).await;
    let mut table = Table::default();
    let mut exchangers = Vec::new();
    // Nobody listens on the first, the name of the second has no address, the third sends everybody away.
    for (preference, host, address) in
        [(40, "d", "127.0.0.1"), (10, "a", "127.0.0.2"), (20, "b", ""), (30, "c", "127.0.0.3")]
    {
        exchangers.push(Exchanger { preference, host: host.to_owned() });
        table.addresses.insert(host.to_owned(), address.parse().into_iter().collect());
    }
    table.exchangers.insert("peer.example".into(), exchangers);
    let ours = Ours::start_with(&[], table, "", port);
    ours.send("mike@example.org", &["a@PEER.example"], "text\r\n").await;
    ours.drained().await;
    assert!(heard.lock().unwrap().0.contains(&"text".to_owned()));
    assert_eq!(refused.lock().unwrap().1, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_gets_what_cannot_be_delivered_directly() {
    let (gate, heard) = peer(Script::default()).await;
    let mut table = Table::default();
    table.addresses.insert("peer.example".into(), vec!["127.0.0.2".parse().unwrap()]);
    let services = format!("GateHost={gate}\r\n");
    let ours = Ours::start_with(&[], table, &services, gate.port());
    ours.send("mike@example.org", &["a@peer.example"], "text\r\n").await;
    ours.drained().await;
    assert!(heard.lock().unwrap().0.contains(&"RCPT TO:<a@peer.example>".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_queued_before_a_restart_rests_for_the_timer() {
    let (address, heard) = peer(Script::default()).await;
    let dir = tempfile::tempdir().unwrap();
    write_tree(dir.path(), "");
    let spool = dir.path().join("spool");
    std::fs::create_dir(&spool).unwrap();
    let write = |tries: &str, number: u32| {
        let name = format!("a1b2000000{number:02}0001.SMD");
        std::fs::write(spool.join(format!("D{name}")), "Subject: x\r\n\r\ntext\r\n").unwrap();
        let envelope =
            format!("QD{name}\r\nHexample.org\r\nS<mike@example.org>\r\n{tries}R<a{number}@[127.0.0.1]>\r\n");
        std::fs::write(spool.join(format!("Q{name}")), envelope).unwrap();
    };
    write("T3\r\n", 1);
    write("", 2);
    let ours = Ours::on(dir, &[("[127.0.0.1]", address)], Table::default(), 25);
    until("the new one", || ours.queued().len() == 1).await;
    assert!(ours.queued()[0].1.contains("R<a1@"));
    assert!(heard.lock().unwrap().0.contains(&"RCPT TO:<a2@[127.0.0.1]>".to_owned()));
}
