//! Sessions on real sockets.

use crate::session::Server;
use crate::session::connection::Connection;
use crate::session::testing::{ELSEWHERE, PASSWORD, for_tests, listen, listen_until, user_dir, write_tree};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use layout::lock;
use layout::mbx::record::flag;
use layout::name::MailboxName;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Three messages as IMail stores them: two with numbers, one of another program.
const MAIL: &str = "From <a@example.net> Fri Apr 29 16:13:50 2005\r\nSubject: one\r\nX-UIDL: 303050499\r\nStatus: U\r\n\r\n.\r\n..two\r\nthree\r\n\r\nFrom <a@example.net> Fri Apr 29 16:14:50 2005\r\nSubject: two\r\nX-UIDL: 303050500\r\nStatus: R\r\n\r\nbody\r\n\r\nFrom <a@example.net> Fri Apr 29 16:15:50 2005\r\nSubject: three\r\n\r\nlast\r\n\r\n";
const ONE: &str = "Subject: one\r\nX-UIDL: 303050499\r\nStatus: U\r\n\r\n.\r\n..two\r\nthree\r\n";

struct Fixture {
    _dir: TempDir,
    server: Arc<Server>,
    address: SocketAddr,
}

impl Fixture {
    async fn new(services: &str, mail: &str) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        write_tree(dir.path(), services);
        let server = for_tests(dir.path());
        user_dir(&server, "mike").make().unwrap();
        let address = listen(&server, super::session).await;
        let fixture = Fixture { _dir: dir, server, address };
        std::fs::write(fixture.file("main"), mail).unwrap();
        fixture
    }

    fn file(&self, mailbox: &str) -> PathBuf {
        let name = MailboxName::from_text(mailbox).unwrap();
        user_dir(&self.server, "mike").mailbox(&name).full()
    }

    fn seen(&self) -> Vec<bool> {
        let open = self.server.hub.open(&user_dir(&self.server, "mike"), &MailboxName::inbox());
        open.with(|state| {
            state.refresh(lock::PATIENCE).unwrap();
            state.messages().map(|record| record.has(flag::SEEN)).collect()
        })
    }

    async fn greeted(&self) -> (Client, String) {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let mut client = Client(BufReader::new(stream));
        let greeting = client.line().await;
        (client, greeting)
    }

    async fn client(&self) -> Client {
        let (client, greeting) = self.greeted().await;
        assert_eq!(greeting, "+OK X1 NT-POP3 Server example.org (IMail 12 1-1)");
        client
    }

    async fn logged_in(&self) -> Client {
        let mut client = self.client().await;
        client.ok("USER mike").await;
        client.ok(&format!("PASS {PASSWORD}")).await;
        client
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    async fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).await.unwrap();
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        tokio::time::timeout(Duration::from_secs(20), self.0.read_line(&mut line)).await.unwrap().unwrap();
        assert!(line.ends_with("\r\n"), "{line:?}");
        line.truncate(line.len() - 2);
        line
    }

    async fn ask(&mut self, command: &str) -> String {
        self.send(&format!("{command}\r\n")).await;
        self.line().await
    }

    async fn ok(&mut self, command: &str) -> String {
        let answer = self.ask(command).await;
        assert!(answer.starts_with("+OK"), "{command}: {answer}");
        answer
    }

    async fn err(&mut self, command: &str) -> String {
        let answer = self.ask(command).await;
        assert!(answer.starts_with("-ERR"), "{command}: {answer}");
        answer
    }

    /// The text of a multi-line answer, as a client stores it.
    async fn text(&mut self, command: &str) -> String {
        self.ok(command).await;
        self.rest().await
    }

    async fn rest(&mut self) -> String {
        let mut text = String::new();
        loop {
            match self.line().await.as_str() {
                "." => return text,
                line => text += &format!("{}\r\n", line.strip_prefix('.').unwrap_or(line)),
            }
        }
    }

    async fn closed(&mut self) {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), self.0.read_to_end(&mut rest)).await;
        read.unwrap().unwrap();
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_commands() {
    let f = Fixture::new("", MAIL).await;
    let mut c = f.logged_in().await;
    let (one, two, three) =
        (ONE.len(), "Subject: two\r\nX-UIDL: 303050500\r\nStatus: R\r\n\r\nbody\r\n".len(), 24);
    assert_eq!(c.ok("STAT").await, format!("+OK 3 {}", one + two + three));
    assert_eq!(c.text("LIST").await, format!("1 {one}\r\n2 {two}\r\n3 {three}\r\n"));
    assert_eq!(c.ok("LIST 2").await, format!("+OK 2 {two}"));
    assert_eq!(c.text("RETR 1").await, ONE);
    assert_eq!(c.text("retr 3").await, "Subject: three\r\n\r\nlast\r\n");
    assert_eq!(c.text("TOP 1 0").await, "Subject: one\r\nX-UIDL: 303050499\r\nStatus: U\r\n\r\n");
    assert_eq!(c.text("TOP 1 1").await, "Subject: one\r\nX-UIDL: 303050499\r\nStatus: U\r\n\r\n.\r\n");
    assert_eq!(
        c.text("TOP 1 2").await,
        "Subject: one\r\nX-UIDL: 303050499\r\nStatus: U\r\n\r\n.\r\n..two\r\n"
    );
    assert_eq!(c.text("TOP 1 99999999999").await, ONE);
    c.ok("NOOP").await;
    c.err("UTF8").await;
    assert!(c.text("CAPA").await.contains("\r\nUTF8\r\n"));
    assert!(c.text("CAPA").await.contains("SASL PLAIN LOGIN CRAM-MD5\r\n"));
    assert_eq!(c.ok("DELE 1").await, "+OK message 1 deleted");
    for gone in ["DELE 1", "RETR 1", "TOP 1 0", "LIST 1", "UIDL 1"] {
        assert_eq!(c.err(gone).await, "-ERR no such message");
    }
    assert_eq!(c.text("LIST").await, format!("2 {two}\r\n3 {three}\r\n"));
    assert_eq!(c.ok("STAT").await, format!("+OK 2 {}", two + three));
    c.ok("RSET").await;
    assert_eq!(c.ok("STAT").await, format!("+OK 3 {}", one + two + three));
    for none in ["RETR 0", "RETR 4", "DELE 4294967296", "TOP 9 1", "LIST 4", "UIDL 0"] {
        assert_eq!(c.err(none).await, "-ERR no such message");
    }
    for bad in ["RETR", "RETR x", "TOP 1", "STAT 1", "XTND XMIT", "", "USER mike", "PASS x", "AUTH PLAIN"] {
        c.err(bad).await;
    }
    assert_eq!(c.ok("QUIT").await, "+OK goodbye, 0 messages deleted");
    c.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unique_ids() {
    let text = |value: &str| format!("From <> x\r\nX-UIDL: {value}\r\n\r\nb\r\n\r\n");
    // Numbers in order are UIDs too: one text among them, a double one, and one that looks like ours.
    let mail = [MAIL, &text("abc!"), &text("abc!"), &text("303050499"), &text("a b")].concat();
    let f = Fixture::new("", &mail).await;
    let mut c = f.logged_in().await;
    let all = c.text("UIDL").await;
    let ids: Vec<&str> = all.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(&ids[..2], ["303050499", "303050500"]);
    assert_eq!(ids[3], "abc!");
    for made in [ids[2], ids[4], ids[5], ids[6]] {
        let (validity, uid) = made.split_once('.').unwrap();
        assert!(validity.parse::<u32>().is_ok() && uid.parse::<u32>().is_ok(), "{made}");
    }
    assert_eq!(c.ok("UIDL 4").await, "+OK 4 abc!");
    c.ok("DELE 1").await;
    assert!(!c.text("UIDL").await.contains("303050499"));
    drop(c);
    // The same at the next login.
    assert_eq!(f.logged_in().await.text("UIDL").await, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_quit_deletes() {
    let f = Fixture::new("", MAIL).await;
    let mut c = f.logged_in().await;
    c.ok("DELE 2").await;
    drop(c);
    let (mut phone, mut desktop) = (f.logged_in().await, f.logged_in().await);
    assert!(phone.ok("STAT").await.starts_with("+OK 3 "));
    phone.ok("DELE 1").await;
    phone.ok("DELE 2").await;
    assert_eq!(phone.ok("QUIT").await, "+OK goodbye, 2 messages deleted");
    phone.closed().await;
    // The other session keeps its numbers, but those messages are gone.
    assert!(desktop.ok("STAT").await.starts_with("+OK 3 "));
    assert_eq!(desktop.err("RETR 1").await, "-ERR no such message");
    assert_eq!(desktop.err("TOP 2 0").await, "-ERR no such message");
    assert_eq!(desktop.text("RETR 3").await, "Subject: three\r\n\r\nlast\r\n");
    desktop.ok("DELE 1").await;
    desktop.ok("QUIT").await;
    assert!(f.logged_in().await.ok("STAT").await.starts_with("+OK 1 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_changes_nothing_and_fetching_marks_read() {
    let f = Fixture::new("", MAIL).await;
    let mut c = f.logged_in().await;
    for command in ["LIST", "UIDL", "TOP 1 10", "TOP 3 0"] {
        c.text(command).await;
    }
    c.ok("QUIT").await;
    f.server.hub.flush();
    assert_eq!(std::fs::read(f.file("main")).unwrap(), MAIL.as_bytes());
    assert_eq!(f.seen(), [false, true, false]);
    let mut c = f.logged_in().await;
    c.text("RETR 1").await;
    c.ok("QUIT").await;
    assert_eq!(f.seen(), [true, true, false]);
    f.server.hub.flush();
    assert_eq!(std::fs::read_to_string(f.file("main")).unwrap(), MAIL.replace("Status: U", "Status: R"));
    // Without QUIT, when the client is gone or pauses.
    let mut c = f.logged_in().await;
    let open = f.server.hub.open(&user_dir(&f.server, "mike"), &MailboxName::inbox());
    let mut changes = open.watch();
    changes.mark_unchanged();
    c.text("RETR 3").await;
    tokio::time::timeout(Duration::from_secs(20), changes.changed()).await.unwrap().unwrap();
    assert_eq!(f.seen(), [true, true, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn logins() {
    let f = Fixture::new("", MAIL).await;
    std::fs::write(f.file("work"), "From <> x\r\nSubject: work\r\n\r\nw\r\n\r\n").unwrap();
    for (name, messages) in [
        ("mike", 3),
        ("MIKE@Example.Org", 3),
        ("mike%mail.example.org", 3),
        ("mike-work", 1),
        ("mike-work@example.org", 1),
        ("mike-none", 0),
        ("ann", 0),
    ] {
        let mut c = f.client().await;
        c.ok(&format!("USER {name}")).await;
        let answer = c.ok(&format!("PASS {PASSWORD}")).await;
        assert!(answer.starts_with(&format!("+OK {messages} messages")), "{name}: {answer}");
        assert!(c.ok("STAT").await.starts_with(&format!("+OK {messages} ")));
    }
    let mut c = f.client().await;
    assert_eq!(c.err(&format!("PASS {PASSWORD}")).await, "-ERR USER comes first");
    c.err("STAT").await;
    c.err("NOOP").await;
    for name in ["mike", "nobody", "closed"] {
        c.ok(&format!("USER {name}")).await;
        let password = if name == "mike" { "wrong" } else { PASSWORD };
        assert_eq!(c.err(&format!("PASS {password}")).await, "-ERR [AUTH] the name or the password is wrong");
        c.err(&format!("PASS {PASSWORD}")).await;
    }
    c.ok("USER mike").await;
    c.err("PASS ").await;
    c.ok("USER mike").await;
    assert_eq!(c.err("PASS x").await, "-ERR too many failed logins");
    c.closed().await;
    let log_name = chrono::Local::now().format("sys%Y%m%d.txt").to_string();
    let file = f.server.live.now().root().logs().full().join(log_name);
    let wanted = [
        " POP3D(",
        ") [127.0.0.1] connect 127.0.0.1 port ",
        ") [127.0.0.1] logon success for mike example.org from 127.0.0.1\r\n",
        ") [127.0.0.1] logon failure for nobody example.org from 127.0.0.1\r\n",
        ") [127.0.0.1] logoff ann 0 retrieved 0 deleted\r\n",
    ];
    let mut log = String::new();
    for _ in 0..1000 {
        log = std::fs::read_to_string(&file).unwrap_or_default();
        if wanted.iter().all(|text| log.contains(text)) {
            break;
        }
        // The log has a thread of its own, which tells nobody.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for text in wanted {
        assert!(log.contains(text), "{text}: {log}");
    }
    assert!(!log.contains(PASSWORD));
}

#[tokio::test(flavor = "multi_thread")]
async fn sasl() {
    let f = Fixture::new("", MAIL).await;
    let right = STANDARD.encode(format!("\0mike\0{PASSWORD}"));
    let mut c = f.client().await;
    assert_eq!(c.text("AUTH").await, "PLAIN\r\nLOGIN\r\nCRAM-MD5\r\n");
    c.ok(&format!("AUTH PLAIN {right}")).await;
    assert!(c.ok("STAT").await.starts_with("+OK 3 "));
    let mut c = f.client().await;
    assert_eq!(c.ask("auth plain").await, "+ ");
    c.ok(&right).await;
    let mut c = f.client().await;
    c.err("UTF8 please").await;
    c.ok("UTF8").await;
    c.err("STLS").await;
    assert_eq!(c.ask("AUTH LOGIN").await, "+ VXNlcm5hbWU6");
    assert_eq!(c.ask(&STANDARD.encode("mike")).await, "+ UGFzc3dvcmQ6");
    c.ok(&STANDARD.encode(PASSWORD)).await;
    let mut c = f.client().await;
    assert_eq!(c.ask(&format!("AUTH LOGIN {}", STANDARD.encode("mike"))).await, "+ UGFzc3dvcmQ6");
    c.ok(&STANDARD.encode(PASSWORD)).await;
    let mut c = f.client().await;
    c.err("AUTH GSSAPI").await;
    assert_eq!(c.ask("AUTH PLAIN").await, "+ ");
    c.err("*").await;
    c.err(&format!("AUTH PLAIN {}", STANDARD.encode(format!("ann\0mike\0{PASSWORD}")))).await;
    c.err("AUTH PLAIN =").await;
    c.err("AUTH PLAIN !!!").await;
    assert_eq!(c.err("AUTH PLAIN =").await, "-ERR too many failed logins");
    c.closed().await;
}

/// The digest of a password in hexadecimal digits.
fn hexadecimal(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn digests() {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    use md5::{Digest as _, Md5};
    let f = Fixture::new("[Services\\POP3D32\\Parameters]\r\nEnableApop=dword:00000001\r\n", MAIL).await;
    for (password, right) in [(PASSWORD, true), ("wrong", false)] {
        let (mut c, greeting) = f.greeted().await;
        let challenge = greeting.split_whitespace().last().unwrap();
        assert!(challenge.starts_with('<') && challenge.ends_with("@example.org>"), "{greeting}");
        let digest = hexadecimal(Md5::digest(format!("{challenge}{password}")));
        let answer = c.ask(&format!("APOP mike {digest}")).await;
        assert_eq!(answer.starts_with("+OK"), right, "{answer}");

        let mut c = f.greeted().await.0;
        let challenge = c.ask("AUTH CRAM-MD5").await;
        let challenge = STANDARD.decode(challenge.trim_start_matches("+ ")).unwrap();
        let mut mac = Hmac::<Md5>::new_from_slice(password.as_bytes()).unwrap();
        mac.update(&challenge);
        let digest = hexadecimal(mac.finalize().into_bytes());
        let answer = c.ask(&STANDARD.encode(format!("mike {digest}"))).await;
        assert_eq!(answer.starts_with("+OK"), right, "{answer}");
    }
    // Without the setting there is nothing to answer to.
    let f = Fixture::new("", MAIL).await;
    let (mut c, greeting) = f.greeted().await;
    assert!(!greeting.contains('<'), "{greeting}");
    c.err("APOP mike c4c9334bac560ecc979e58001b3e22fb").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ends() {
    let f = Fixture::new("", MAIL).await;
    let mut c = f.client().await;
    c.send("quit\r\n").await;
    assert_eq!(c.line().await, "+OK goodbye");
    c.closed().await;
    let mut c = f.client().await;
    assert_eq!(c.ask("AUTH LOGIN").await, "+ VXNlcm5hbWU6");
    c.ok("quit").await;
    c.closed().await;
    let mut c = f.client().await;
    assert_eq!(c.err(&format!("USER {}", "x".repeat(600))).await, "-ERR the line is too long");
    c.closed().await;
    let mut c = f.client().await;
    c.ok(&format!("USER {}", "x".repeat(505))).await;
    for _ in 0..9 {
        c.err("GET / HTTP/1.1").await;
    }
    assert_eq!(c.err("Host: x").await, "-ERR too many unknown commands");
    c.closed().await;
    let stop = Arc::new(watch::Sender::new(false));
    let f = Fixture { address: listen_until(&f.server, super::session, &stop).await, ..f };
    let mut c = f.logged_in().await;
    c.ok("DELE 1").await;
    stop.send_replace(true);
    assert!(c.line().await.starts_with("-ERR [SYS/TEMP]"));
    c.closed().await;
    assert_eq!(std::fs::read(f.file("main")).unwrap(), MAIL.as_bytes());
}

/// Passwords from elsewhere come behind TLS only, and nothing else is offered.
#[tokio::test(flavor = "multi_thread")]
async fn plain_logins_can_be_refused() {
    let f = Fixture::new("", MAIL).await;
    let from_elsewhere = |server, mut connection: Connection| {
        connection.set_peer(ELSEWHERE.parse().unwrap());
        super::session(server, connection)
    };
    let address = listen(&f.server, from_elsewhere).await;
    let f = Fixture { address, ..f };
    let mut c = f.client().await;
    let capa = c.text("CAPA").await;
    assert!(capa.contains("STLS\r\n") && !capa.contains("USER") && !capa.contains("SASL"), "{capa}");
    for login in [
        "USER mike",
        "PASS secret",
        "AUTH PLAIN AG1pa2UAc2VjcmV0",
        "APOP mike c4c9334bac560ecc979e58001b3e22fb",
    ] {
        assert!(c.err(login).await.contains("needs TLS"), "{login}");
    }
}

/// Who does not log in in time is sent away, however busy; who did has more time.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_have_little_time() {
    let f = Fixture::new("", MAIL).await;
    let mut early = f.logged_in().await;
    const WITHIN: Duration = Duration::from_secs(1);
    let soon = |server, connection| super::session::session_within(server, connection, WITHIN);
    let address = listen(&f.server, soon).await;
    let f = Fixture { address, ..f };
    let mut logged_in = f.logged_in().await;
    for busy in [true, false] {
        let (mut c, begun) = (f.client().await, Instant::now());
        c.send("US").await;
        if busy {
            c.send("ER x\r\n").await;
            while c.line().await.starts_with("+OK") {
                c.send("USER x\r\n").await;
            }
        } else {
            assert_eq!(c.line().await, "-ERR nobody logged in within a minute");
        }
        assert!(begun.elapsed() >= WITHIN - Duration::from_millis(100), "{:?}", begun.elapsed());
    }
    logged_in.ok("NOOP").await;
    early.ok("NOOP").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_commands() {
    let f = Fixture::new("", MAIL).await;
    let mut c = f.client().await;
    c.send(&format!(
        "USER mike\r\nPASS {PASSWORD}\r\nSTAT\r\nRETR 3\r\nBAD\r\nDELE 3\r\nCAPA\r\nRETR 1\r\nQUIT\r\nSTAT\r\n"
    ))
    .await;
    for expected in ["+OK send", "+OK 3 messages", "+OK 3 ", "+OK 24 octets"] {
        let line = c.line().await;
        assert!(line.starts_with(expected), "{line}");
    }
    assert_eq!(c.rest().await, "Subject: three\r\n\r\nlast\r\n");
    assert_eq!(c.line().await, "-ERR unknown command");
    assert_eq!(c.line().await, "+OK message 3 deleted");
    c.line().await;
    c.rest().await;
    c.line().await;
    assert_eq!(c.rest().await, ONE);
    assert_eq!(c.line().await, "+OK goodbye, 1 messages deleted");
    assert_eq!(f.seen(), [true, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_and_new_mail() {
    let body = ".dots and text of some length\r\n".repeat(40_000);
    let f = Fixture::new("", &format!("From <> x\r\nSubject: large\r\n\r\n{body}\r\n")).await;
    let mut c = f.logged_in().await;
    assert_eq!(c.text("RETR 1").await, format!("Subject: large\r\n\r\n{body}"));
    let top = format!("Subject: large\r\n\r\n{}", ".dots and text of some length\r\n".repeat(3000));
    assert_eq!(c.text("TOP 1 3000").await, top);
    // Mail that another program appends is not in the view, and harms nothing.
    let mut file = std::fs::OpenOptions::new().append(true).open(f.file("main")).unwrap();
    std::io::Write::write_all(&mut file, b"From <> x\r\nSubject: new\r\n\r\nnew\r\n\r\n").unwrap();
    assert_eq!(c.text("RETR 1").await, format!("Subject: large\r\n\r\n{body}"));
    c.err("RETR 2").await;
    c.ok("DELE 1").await;
    c.ok("QUIT").await;
    let mut c = f.logged_in().await;
    assert_eq!(c.text("RETR 1").await, "Subject: new\r\n\r\nnew\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_files_are_refused() {
    let f = Fixture::new("", "\x7fELF\x02\x01\x01 this is no mailbox\n").await;
    let mut c = f.client().await;
    c.ok("USER mike").await;
    let answer = c.err(&format!("PASS {PASSWORD}")).await;
    assert!(answer.starts_with("-ERR [SYS/PERM]"), "{answer}");
    c.ok("QUIT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings() {
    let services = "[Services\\POP3D32\\Parameters]\r\nHelloMessage=Post ready\r\nLogTo=None\r\n";
    let f = Fixture::new(services, MAIL).await;
    let mut c = Client(BufReader::new(TcpStream::connect(f.address).await.unwrap()));
    assert_eq!(c.line().await, "+OK Post ready");
    c.ok("QUIT").await;
}
