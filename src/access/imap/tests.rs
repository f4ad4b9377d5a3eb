//! Sessions over the network, on a real tree in a temporary directory.

mod extensions;
mod hostile;
mod japanese;
mod public;

use crate::session::Server;
use crate::session::connection::Connection;
use crate::session::testing::{ELSEWHERE, PASSWORD, for_tests, listen, listen_until, user_dir, write_tree};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(20);

struct Site {
    dir: TempDir,
    server: Arc<Server>,
    address: SocketAddr,
}

async fn site() -> Site {
    site_with("").await
}

async fn site_with(services: &str) -> Site {
    let dir = tempfile::tempdir().unwrap();
    write_tree(dir.path(), services);
    let server = for_tests(dir.path());
    let address = listen(&server, super::session).await;
    Site { dir, server, address }
}

struct Client {
    stream: BufReader<TcpStream>,
    tag: u32,
}

impl Site {
    async fn connect(&self) -> Client {
        let stream = BufReader::new(TcpStream::connect(self.address).await.unwrap());
        let mut client = Client { stream, tag: 0 };
        assert_eq!(client.line().await, "* OK IMAP4 Server (IMail 12)\r\n");
        client
    }

    async fn login(&self, user: &str) -> Client {
        let mut client = self.connect().await;
        let answer = client.run(&format!("LOGIN {user} {PASSWORD}")).await;
        assert!(answer.starts_with("T1 OK [CAPABILITY IMAP4rev1 "), "{answer}");
        client
    }

    async fn selected(&self, user: &str) -> Client {
        let mut client = self.login(user).await;
        client.ok("SELECT INBOX").await;
        client
    }

    fn file(&self, user: &str, name: &str) -> std::path::PathBuf {
        self.dir.path().join("users").join(user).join(name)
    }

    fn put(&self, user: &str, name: &str, text: &str) {
        std::fs::create_dir_all(self.file(user, "")).unwrap();
        std::fs::write(self.file(user, name), text).unwrap();
    }
}

impl Client {
    async fn send(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).await.unwrap();
    }

    async fn line(&mut self) -> String {
        let mut line = Vec::new();
        timeout(SOON, self.stream.read_until(b'\n', &mut line)).await.expect("no answer came").unwrap();
        String::from_utf8_lossy(&line).into_owned()
    }

    /// Everything up to the line that begins so, that line included; or to the connection's end.
    async fn until(&mut self, begin: &str) -> String {
        let mut all = String::new();
        loop {
            let line = self.line().await;
            all.push_str(&line);
            if line.starts_with(begin) || line.is_empty() {
                return all;
            }
        }
    }

    /// Runs a command and gives the whole answer.
    async fn run(&mut self, command: &str) -> String {
        self.tag += 1;
        let tag = format!("T{}", self.tag);
        self.send(&format!("{tag} {command}\r\n")).await;
        self.until(&format!("{tag} ")).await
    }

    /// Runs a command that must succeed; gives the untagged part.
    async fn ok(&mut self, command: &str) -> String {
        let answer = self.run(command).await;
        let at = answer.rfind(&format!("T{} ", self.tag)).unwrap();
        assert!(answer[at..].contains(" OK"), "{command}: {answer}");
        answer[..at].to_owned()
    }

    /// Runs a command that must fail with this word, and code if the word has one; nothing untagged may come.
    async fn fails(&mut self, command: &str, how: &str) {
        let answer = self.run(command).await;
        assert!(answer.starts_with(&format!("T{} {how}", self.tag)), "{command}: {answer}");
    }

    async fn append(&mut self, mailbox: &str, options: &str, message: &str) -> String {
        self.run(&format!("APPEND {mailbox} {options}{{{}+}}\r\n{message}", message.len())).await
    }

    async fn ended(&mut self) -> bool {
        let mut rest = Vec::new();
        timeout(SOON, self.stream.read_to_end(&mut rest)).await.is_ok_and(|end| end.is_ok())
            && rest.is_empty()
    }
}

fn mail(subject: &str, body: &str) -> String {
    format!(
        "From: Ann <ann@example.org>\r\nTo: mike@example.org\r\nSubject: {subject}\r\nDate: Mon, 2 Mar 2020 10:00:00 +0900\r\nMessage-ID: <{subject}@example.org>\r\n\r\n{body}\r\n"
    )
}

/// Three messages in the INBOX; their UIDs.
async fn three(client: &mut Client) -> Vec<u32> {
    let mut uids = Vec::new();
    for n in 1..=3 {
        let answer = client.append("INBOX", "", &mail(&format!("m{n}"), &format!("body {n}"))).await;
        let code = answer.split("[APPENDUID ").nth(1).expect(&answer);
        uids.push(code.split([' ', ']']).nth(1).unwrap().parse().unwrap());
    }
    uids
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers() {
    let site = site().await;
    let mut client = site.connect().await;
    let capability = client.ok("CAPABILITY").await;
    assert!(capability.starts_with("* CAPABILITY IMAP4rev1 IMAP4rev2 LITERAL+ "), "{capability}");
    assert!(capability.ends_with(" STARTTLS AUTH=PLAIN AUTH=LOGIN AUTH=CRAM-MD5\r\n"), "{capability}");
    client.ok("NOOP").await;
    assert_eq!(client.ok("ID NIL").await, "* ID (\"name\" \"imaild\")\r\n");
    for command in ["SELECT INBOX", "LIST \"\" *", "IDLE", "FETCH 1 FLAGS"] {
        client.fails(command, "BAD ").await;
    }
    let answer = client.run("LOGOUT").await;
    assert_eq!(answer, "* BYE goodbye\r\nT8 OK LOGOUT completed\r\n");
    assert!(client.ended().await);

    let mut client = site.connect().await;
    client.send("quit\r\n").await;
    assert_eq!(client.line().await, "* BYE goodbye\r\n");
    assert!(client.ended().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn logins() {
    let site = site().await;
    for command in [
        "LOGIN mike secret",
        "LOGIN \"mike@example.org\" {6+}\r\nsecret",
        "AUTHENTICATE PLAIN AG1pa2UAc2VjcmV0",
        "AUTHENTICATE LOGIN bWlrZQ==\r\nc2VjcmV0",
    ] {
        let mut client = site.connect().await;
        let answer = client.run(command).await;
        assert!(answer.contains("T1 OK [CAPABILITY IMAP4rev1"), "{command}: {answer}");
        client.fails("LOGIN mike secret", "BAD ").await;
        client.ok("SELECT INBOX").await;
    }
    assert!(site.file("mike", "login.last").exists());

    let mut client = site.connect().await;
    client.send("a AUTHENTICATE PLAIN\r\n").await;
    assert_eq!(client.line().await, "+ \r\n");
    client.send("*\r\n").await;
    assert!(client.line().await.starts_with("a BAD "));
    client.fails("AUTHENTICATE PLAIN !!", "BAD ").await;
    client.fails("AUTHENTICATE GSSAPI", "NO [CANNOT]").await;
    client.fails("AUTHENTICATE PLAIN YW5uAG1pa2UAc2VjcmV0", "NO [AUTHORIZATIONFAILED]").await;
    for user in ["mike wrong", "nobody secret", "closed secret", "mike \"\""] {
        client.fails(&format!("LOGIN {user}"), "NO [AUTHENTICATIONFAILED]").await;
    }
    let answer = client.run("LOGIN mike wrong").await;
    assert!(answer.starts_with("T8 NO "), "{answer}");
    assert!(client.until("* BYE").await.starts_with("* BYE too many failed logins"));
    assert!(client.ended().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits() {
    let site = site().await;
    let mut client = site.connect().await;
    client.fails("LOGIN {9000}", "BAD [TOOBIG]").await;
    for _ in 0..8 {
        client.fails("GET / HTTP/1.1", "BAD ").await;
    }
    client.send("\r\n").await;
    assert!(client.line().await.starts_with("* BAD "));
    assert!(client.line().await.starts_with("* BYE too many commands"));
    assert!(client.ended().await);

    for text in ["a LOGIN {9000+}\r\n".to_owned(), format!("a LOGIN {}", "x".repeat(70_000))] {
        let mut client = site.connect().await;
        client.send(&text).await;
        assert!(client.line().await.starts_with("* BYE "), "{}", &text[..20]);
    }
    let mut client = site.connect().await;
    client.send("a APPEND INBOX {5+}\r\n").await;
    assert!(client.line().await.starts_with("* BYE "));
    let mut client = site.login("mike").await;
    client.fails("APPEND INBOX {99999999999}", "NO [TOOBIG]").await;
    client.fails("APPEND nowhere {5}", "NO [TRYCREATE]").await;
    client.fails("APPEND nowhere {5+}\r\n12345", "NO [TRYCREATE]").await;
    client.fails("APPEND INBOX {0}", "NO ").await;
    client.ok("NOOP").await;
}

/// Who does not log in in time is sent away, in the middle of a login and however busy; who did has more time.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_have_little_time() {
    let site = site().await;
    const WITHIN: Duration = Duration::from_secs(1);
    let soon = |server, connection| super::session::session_within(server, connection, WITHIN);
    let address = listen(&site.server, soon).await;
    let site = Site { address, ..site };
    let mut user = site.selected("mike").await;
    for (first, more) in [
        ("a LOG", ""),
        ("a LOGIN {3+}\r\nm", ""),
        ("a AUTHENTICATE LOGIN\r\n", ""),
        ("a NOOP\r\n", "a NOOP\r\n"),
    ] {
        let (mut client, begun) = (site.connect().await, Instant::now());
        client.send(first).await;
        loop {
            let line = client.line().await;
            if line.starts_with("* BYE ") {
                break;
            }
            assert!(line.starts_with(['+', 'a']), "{first}: {line}");
            tokio::time::sleep(WITHIN / 20).await;
            client.send(more).await;
        }
        assert!(client.ended().await);
        assert!(begun.elapsed() >= WITHIN - Duration::from_millis(100), "{first}: {:?}", begun.elapsed());
    }
    user.ok("NOOP").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_logins_can_be_refused() {
    let site =
        site_with("[Services\\IMAP4D32\\Parameters]\r\nHelloMessage=Welcome to us\r\nLogTo=None\r\n").await;
    let mut client =
        Client { stream: BufReader::new(TcpStream::connect(site.address).await.unwrap()), tag: 0 };
    assert_eq!(client.line().await, "* OK Welcome to us\r\n");
    assert!(client.ok("CAPABILITY").await.contains("AUTH=PLAIN"));

    // From elsewhere only behind TLS.
    let from_elsewhere = |server, mut connection: Connection| {
        connection.set_peer(ELSEWHERE.parse().unwrap());
        super::session(server, connection)
    };
    let address = listen(&site.server, from_elsewhere).await;
    let mut client = Client { stream: BufReader::new(TcpStream::connect(address).await.unwrap()), tag: 0 };
    client.line().await;
    let capability = client.ok("CAPABILITY").await;
    assert!(
        capability.contains(" STARTTLS LOGINDISABLED\r\n") && !capability.contains("AUTH="),
        "{capability}"
    );
    assert!(
        capability.contains(" APPENDLIMIT=1073741824 ") && capability.contains(" LITERAL+ SASL-IR "),
        "{capability}"
    );
    client.fails(&format!("LOGIN mike {PASSWORD}"), "NO [PRIVACYREQUIRED]").await;
    client.fails("AUTHENTICATE PLAIN AG1pa2UAc2VjcmV0", "NO [PRIVACYREQUIRED]").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn selecting() {
    let site = site().await;
    let mut client = site.login("mike").await;
    let empty = client.ok("SELECT INBOX").await;
    assert!(empty.contains("* 0 EXISTS\r\n* 0 RECENT\r\n"), "{empty}");
    assert!(!site.file("mike", "main.mbx").exists());
    let validity =
        |answer: &str| answer.split("[UIDVALIDITY ").nth(1).unwrap().split(']').next().unwrap().to_owned();
    // The first message comes later than the first look, and the UIDVALIDITY stays.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let uids = three(&mut client).await;
    let answer = client.run("SELECT inbox").await;
    assert_eq!(validity(&answer), validity(&empty));
    assert!(answer.contains("* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)\r\n"), "{answer}");
    assert!(
        answer.contains("[PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft \\*)]"),
        "{answer}"
    );
    assert!(answer.contains("* 3 EXISTS\r\n"), "{answer}");
    assert!(answer.contains("[UNSEEN 1]"), "{answer}");
    assert!(answer.contains(&format!("[UIDNEXT {}]", uids[2] + 1)), "{answer}");
    assert!(answer.ends_with("OK [READ-WRITE] SELECT completed\r\n"), "{answer}");
    client.fails("SELECT nowhere", "NO [NONEXISTENT]").await;
    client.fails("FETCH 1 FLAGS", "BAD ").await;
    let answer = client.run("EXAMINE Main").await;
    assert!(answer.contains("[PERMANENTFLAGS ()]") && answer.contains("[READ-ONLY]"), "{answer}");
    client.fails("STORE 1 FLAGS (\\Seen)", "NO ").await;
    client.fails("EXPUNGE", "NO ").await;
    client.ok("FETCH 1 BODY[]").await;
    assert_eq!(client.ok("FETCH 1 FLAGS").await, "* 1 FETCH (FLAGS ())\r\n");
    client.ok("CHECK").await;
    client.ok("UNSELECT").await;
    client.fails("CHECK", "BAD ").await;
    let answer = client.ok("STATUS INBOX (MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN)").await;
    assert_eq!(
        answer,
        format!(
            "* STATUS INBOX (MESSAGES 3 RECENT 0 UIDNEXT {} UIDVALIDITY {} UNSEEN 3)\r\n",
            uids[2] + 1,
            validity(&empty)
        )
    );
    client.fails("STATUS nowhere (MESSAGES)", "NO [NONEXISTENT]").await;
    client.fails("STATUS INBOX ()", "BAD ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recent_is_told_once() {
    let site = site().await;
    let mut writer = site.login("mike").await;
    three(&mut writer).await;
    let mut first = site.login("mike").await;
    assert!(first.ok("EXAMINE INBOX").await.contains("* 3 RECENT"));
    assert!(first.ok("SELECT INBOX").await.contains("* 3 RECENT"));
    assert_eq!(first.ok("FETCH 3 FLAGS").await, "* 3 FETCH (FLAGS (\\Recent))\r\n");
    let mut second = site.login("mike").await;
    assert!(second.ok("SELECT INBOX").await.contains("* 0 RECENT"));
    writer.append("INBOX", "", &mail("new", "x")).await;
    assert_eq!(first.ok("NOOP").await, "* 4 EXISTS\r\n* 4 RECENT\r\n");
    assert_eq!(second.ok("NOOP").await, "* 4 EXISTS\r\n* 0 RECENT\r\n");
    assert_eq!(first.ok("SEARCH NEW").await, "* SEARCH 1 2 3 4\r\n");
    assert_eq!(second.ok("SEARCH OLD").await, "* SEARCH 1 2 3 4\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn fetching() {
    let site = site().await;
    let mut client = site.login("mike").await;
    let message = "From: =?ISO-2022-JP?B?GyRCOzNFRBsoQg==?= <y@example.org>\r\nSubject: parts\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nfirst\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>\r\n--b--\r\n";
    let answer = client.append("INBOX", "(\\Flagged $Work) \"17-Jul-1996 02:44:25 +0000\" ", message).await;
    assert!(answer.contains("OK [APPENDUID "), "{answer}");
    client.append("INBOX", "(\\Seen) ", &mail("x", "y")).await;
    client.append("INBOX", "(\\Seen) ", &mail("two", "From <here> on\r\nFrom there")).await;
    client.ok("SELECT INBOX").await;
    let uid: u32 = {
        let answer = client.ok("FETCH 1 (UID)").await;
        answer.trim_end().trim_end_matches(')').rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(
        client.ok("FETCH 1:2 (FLAGS)").await,
        "* 1 FETCH (FLAGS (\\Flagged \\Recent $Work))\r\n* 2 FETCH (FLAGS (\\Seen \\Recent))\r\n"
    );
    // What is served has no line of ours but X-UIDL, and its size is the one that is told.
    let body = client.ok("FETCH 1 BODY.PEEK[]").await;
    let stored = message.replace(
        "\r\n\r\n--b\r\nContent-Type: text/plain",
        &format!("\r\nX-UIDL: {uid}\r\n\r\n--b\r\nContent-Type: text/plain"),
    );
    assert_eq!(body, format!("* 1 FETCH (BODY[] {{{}}}\r\n{stored})\r\n", stored.len()));
    assert_eq!(
        client.ok("FETCH 1 RFC822.SIZE").await,
        format!("* 1 FETCH (RFC822.SIZE {})\r\n", stored.len())
    );
    let date = client.ok("FETCH 1 INTERNALDATE").await;
    assert!(date.contains("-Jul-1996 "), "{date}");
    assert_eq!(client.ok("FETCH 1 BODY.PEEK[1]<1.3>").await, "* 1 FETCH (BODY[1]<1> {3}\r\nirs)\r\n");
    assert_eq!(client.ok("FETCH 1 BODY.PEEK[9]").await, "* 1 FETCH (BODY[9] NIL)\r\n");
    assert_eq!(
        client.ok("FETCH 1 BODY.PEEK[HEADER.FIELDS (Subject X-None)]").await,
        "* 1 FETCH (BODY[HEADER.FIELDS (Subject X-None)] {18}\r\nSubject: parts\r\n\r\n)\r\n"
    );
    assert_eq!(
        client.ok("FETCH 1 BODY.PEEK[2.MIME]").await,
        "* 1 FETCH (BODY[2.MIME] {27}\r\nContent-Type: text/html\r\n\r\n)\r\n"
    );
    let structure = client.ok("FETCH 1 (BODY BODYSTRUCTURE)").await;
    assert!(structure.starts_with("* 1 FETCH (BODY ((\"text\" \"plain\" "), "{structure}");
    let envelope = client.ok("FETCH 1 ENVELOPE").await;
    assert!(
        envelope.starts_with("* 1 FETCH (ENVELOPE (NIL \"parts\" ((\"=?ISO-2022-JP?B?GyRCOzNFRBsoQg==?=\" NIL \"y\" \"example.org\"))"),
        "{envelope}"
    );
    let all = client.ok("FETCH 2 ALL").await;
    assert!(
        ["FLAGS (", "INTERNALDATE \"", "RFC822.SIZE ", "ENVELOPE ("].iter().all(|item| all.contains(item)),
        "{all}"
    );
    // Reading marks, once, and tells so.
    let seen = client.ok("FETCH 1 BODY[TEXT]<0.3>").await;
    assert_eq!(seen, "* 1 FETCH (BODY[TEXT]<0> {3}\r\n--b FLAGS (\\Flagged \\Seen \\Recent $Work))\r\n");
    assert!(!client.ok("FETCH 1 RFC822.TEXT").await.contains("FLAGS"));
    assert!(client.ok("FETCH 1 RFC822.HEADER").await.starts_with("* 1 FETCH (RFC822.HEADER {"));
    assert!(client.ok("FETCH 3 RFC822").await.contains("From <here> on\r\nFrom there\r\n"));
    let by_uid = client.ok(&format!("UID FETCH {uid}:* FLAGS")).await;
    assert!(by_uid.starts_with(&format!("* 1 FETCH (UID {uid} FLAGS (")), "{by_uid}");
    assert_eq!(by_uid.lines().count(), 3);
    assert_eq!(client.ok("UID FETCH 1 FLAGS").await, "");
    for command in
        ["FETCH 4 FLAGS", "FETCH 0 FLAGS", "FETCH 1 NOTHING", "FETCH 1 BODY[", "FETCH x FLAGS", "FETCH 1 ()"]
    {
        client.fails(command, "BAD ").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_pass_through() {
    let site = site().await;
    let mut client = site.login("mike").await;
    let line = "0123456789 abcdefghijklmnopqrstuvwxyz 0123456789\r\n";
    let body = line.repeat(40_000);
    let answer = client.append("INBOX", "", &mail("large", &body)).await;
    assert!(answer.contains("OK [APPENDUID"), "{answer}");
    let names: Vec<_> =
        std::fs::read_dir(site.file("mike", "")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().ends_with("$$$")), "{names:?}");
    client.ok("SELECT INBOX").await;
    let whole = client.ok("FETCH 1 (UID BODY.PEEK[])").await;
    let (head, text) = whole.split_once("\r\n").unwrap();
    let text = text.strip_suffix(")\r\n").unwrap();
    assert!(head.ends_with(&format!("{{{}}}", text.len())), "{head}");
    assert!(text.starts_with("From: Ann") && text.contains("X-UIDL: ") && !text.contains("Status: "));
    assert!(text.ends_with(&format!("{line}\r\n")));
    assert_eq!(client.ok("FETCH 1 RFC822.SIZE").await, format!("* 1 FETCH (RFC822.SIZE {})\r\n", text.len()));
    for (from, count) in
        [(0, 10), (150, 100), (1_000_000, 300_000), (text.len() - 5, 100), (text.len() + 1, 4)]
    {
        let piece = client.ok(&format!("FETCH 1 BODY.PEEK[]<{from}.{count}>")).await;
        let expected = &text[from.min(text.len())..(from + count).min(text.len())];
        assert_eq!(piece, format!("* 1 FETCH (BODY[]<{from}> {{{}}}\r\n{expected})\r\n", expected.len()));
    }
    // The same as through memory.
    assert!(client.ok("FETCH 1 (BODY.PEEK[] BODYSTRUCTURE)").await.contains(text));
    client.ok("COPY 1 INBOX").await;
    assert!(client.ok("FETCH 2 BODY[]").await.len() > body.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn storing() {
    let site = site().await;
    let mut client = site.login("mike").await;
    let uids = three(&mut client).await;
    let mut other = site.selected("mike").await;
    client.ok("SELECT INBOX").await;
    assert_eq!(
        client.ok("STORE 1:2 +FLAGS (\\Seen \\Flagged)").await,
        "* 1 FETCH (FLAGS (\\Flagged \\Seen))\r\n* 2 FETCH (FLAGS (\\Flagged \\Seen))\r\n"
    );
    assert_eq!(client.ok("STORE 1 -FLAGS.SILENT \\Flagged").await, "");
    let told = other.ok("NOOP").await;
    assert_eq!(
        told,
        format!(
            "* 1 FETCH (UID {} FLAGS (\\Seen \\Recent))\r\n* 2 FETCH (UID {} FLAGS (\\Flagged \\Seen \\Recent))\r\n",
            uids[0], uids[1]
        )
    );
    assert_eq!(other.ok("NOOP").await, "");
    assert_eq!(client.ok("NOOP").await, "");
    let keyword = client.ok(&format!("UID STORE {} FLAGS ($Label1 \\Draft)", uids[2])).await;
    assert_eq!(
        keyword,
        format!(
            "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Label1)\r\n* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Label1 \\*)] there is a new keyword\r\n* 3 FETCH (UID {} FLAGS (\\Draft $Label1))\r\n",
            uids[2]
        )
    );
    assert!(other.ok("NOOP").await.ends_with("FLAGS (\\Draft \\Recent $Label1))\r\n"));
    assert_eq!(client.ok("SEARCH KEYWORD $label1").await, "* SEARCH 3\r\n");
    assert_eq!(client.ok("STORE 3 FLAGS ()").await, "* 3 FETCH (FLAGS ())\r\n");
    assert_eq!(client.ok("UID STORE 1 +FLAGS (\\Seen)").await, "");
    for command in ["STORE 9 FLAGS ()", "STORE 1 FLAGS (\\Nonsense)", "STORE 1 SIZE 3"] {
        client.fails(command, "BAD ").await;
    }
    // A flush writes the letter that IMail reads.
    client.ok("CHECK").await;
    let text = std::fs::read_to_string(site.file("mike", "main.mbx")).unwrap();
    assert_eq!((text.matches("Status: R").count(), text.matches("Status: U").count()), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn expunging() {
    let site = site().await;
    let mut client = site.login("mike").await;
    let uids = three(&mut client).await;
    three(&mut client).await;
    client.ok("SELECT INBOX").await;
    let mut other = site.selected("mike").await;
    client.ok("STORE 2,3,5 +FLAGS.SILENT (\\Deleted)").await;
    assert_eq!(client.ok(&format!("UID EXPUNGE {}", uids[1])).await, "* 2 EXPUNGE\r\n");
    assert_eq!(client.ok("EXPUNGE").await, "* 2 EXPUNGE\r\n* 3 EXPUNGE\r\n");
    assert_eq!(client.ok("EXPUNGE").await, "");
    // The other client knows six messages until it may be told.
    let answer = other.run("FETCH 1:6 (FLAGS)").await;
    assert_eq!(answer.matches("FETCH").count(), 3, "{answer}");
    assert!(answer.contains("* 6 FETCH (FLAGS ") && answer.contains("NO [EXPUNGEISSUED]"), "{answer}");
    assert_eq!(other.ok("SEARCH ALL").await, "* SEARCH 1 4 6\r\n");
    client.append("INBOX", "", &mail("seventh", "x")).await;
    assert_eq!(other.ok("SEARCH SUBJECT seventh").await, "* SEARCH\r\n* 7 EXISTS\r\n* 0 RECENT\r\n");
    assert_eq!(other.ok("SEARCH SUBJECT seventh").await, "* SEARCH 7\r\n");
    assert_eq!(other.ok("NOOP").await, "* 2 EXPUNGE\r\n* 2 EXPUNGE\r\n* 3 EXPUNGE\r\n");
    assert_eq!(other.ok("SEARCH ALL").await, "* SEARCH 1 2 3 4\r\n");
    client.ok("STORE 1 +FLAGS.SILENT (\\Deleted)").await;
    client.ok("CLOSE").await;
    assert!(other.ok("UID SEARCH ALL").await.ends_with("* 1 EXPUNGE\r\n"));
    let mut reader = site.login("mike").await;
    reader.ok("EXAMINE INBOX").await;
    reader.ok("CLOSE").await;
    assert!(reader.ok("SELECT INBOX").await.contains("* 3 EXISTS"));
}

#[tokio::test(flavor = "multi_thread")]
async fn copying_and_moving() {
    let site = site().await;
    let mut client = site.login("mike").await;
    let uids = three(&mut client).await;
    client.ok("SELECT INBOX").await;
    client.ok("STORE 2 FLAGS (\\Answered $Work)").await;
    client.fails("COPY 1 Saved", "NO [TRYCREATE]").await;
    client.ok("CREATE Saved").await;
    let answer = client.run("COPY 1:2 Saved").await;
    assert!(answer.contains(&format!(" {}:{} ", uids[0], uids[1])), "{answer}");
    let mut saved = site.login("mike").await;
    assert!(saved.ok("SELECT Saved").await.contains("* 2 EXISTS"));
    assert_eq!(saved.ok("FETCH 2 FLAGS").await, "* 2 FETCH (FLAGS (\\Answered \\Recent $Work))\r\n");
    let date = client.ok("FETCH 2 INTERNALDATE").await;
    assert_eq!(saved.ok("FETCH 2 INTERNALDATE").await, date);
    let answer = client.run("MOVE 1,3 Saved").await;
    assert!(
        answer.starts_with("* OK [COPYUID ") && answer.contains("* 1 EXPUNGE\r\n* 2 EXPUNGE\r\n"),
        "{answer}"
    );
    assert!(answer.contains(&format!(" {},{} ", uids[0], uids[2])), "{answer}");
    assert_eq!(saved.ok("NOOP").await, "* 4 EXISTS\r\n* 4 RECENT\r\n");
    assert!(client.ok("COPY 1 INBOX").await.contains("* 2 EXISTS"));
    client.ok("UID COPY 1 Saved").await;
    client.ok("UID MOVE 1 Saved").await;
    client.fails("COPY 9 Saved", "BAD ").await;
    client.ok("EXAMINE INBOX").await;
    client.fails("MOVE 1 Saved", "NO ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn folders() {
    let site = site().await;
    let mut client = site.login("mike").await;
    assert_eq!(client.ok("LIST \"\" \"\"").await, "* LIST (\\Noselect) \".\" \"\"\r\n");
    assert_eq!(client.ok("LIST \"\" *").await, "* LIST (\\HasNoChildren) \".\" INBOX\r\n");
    for name in ["Work.2024", "&ZeVnLIqe-", "\"with blank\"", "Work.", "con"] {
        client.ok(&format!("CREATE {name}")).await;
    }
    for (name, how) in [
        ("work.2024", "NO [ALREADYEXISTS]"),
        ("INBOX", "NO [ALREADYEXISTS]"),
        ("main", "NO [ALREADYEXISTS]"),
        ("a..b", "NO [CANNOT]"),
        ("\"a/b\"", "NO [CANNOT]"),
        ("\"../x\"", "NO [CANNOT]"),
        ("&AGE-", "NO [CANNOT]"),
    ] {
        client.fails(&format!("CREATE {name}"), how).await;
    }
    assert_eq!(
        client.ok("LIST \"\" *").await,
        "* LIST (\\HasNoChildren) \".\" con\r\n* LIST (\\HasNoChildren) \".\" INBOX\r\n* LIST (\\HasNoChildren) \".\" \"with blank\"\r\n* LIST (\\HasChildren) \".\" Work\r\n* LIST (\\HasNoChildren) \".\" Work.2024\r\n* LIST (\\HasNoChildren) \".\" &ZeVnLIqe-\r\n"
    );
    assert_eq!(client.ok("LIST Work. %").await, "* LIST (\\HasNoChildren) \".\" Work.2024\r\n");
    client.ok("DELETE Work").await;
    assert_eq!(client.ok("LIST \"\" Work%").await, "* LIST (\\Noselect \\HasChildren) \".\" Work\r\n");
    client.fails("DELETE Work", "NO [CANNOT]").await;
    client.fails("DELETE INBOX", "NO [CANNOT]").await;
    client.fails("DELETE nowhere", "NO [NONEXISTENT]").await;
    client.fails("SELECT Work", "NO [NONEXISTENT]").await;

    client.append("Work.2024", "(\\Flagged)", "x").await;
    client.append("Work.2024", "(\\Flagged) ", &mail("kept", "x")).await;
    let before = client.ok("STATUS Work.2024 (UIDVALIDITY UIDNEXT MESSAGES)").await;
    client.fails("RENAME Work con", "NO [ALREADYEXISTS]").await;
    client.fails("RENAME nowhere there", "NO [NONEXISTENT]").await;
    client.ok("RENAME Work Old.Work").await;
    assert_eq!(
        client.ok("STATUS Old.Work.2024 (UIDVALIDITY UIDNEXT MESSAGES)").await,
        before.replace("Work.2024", "Old.Work.2024")
    );
    client.ok("SELECT Old.Work.2024").await;
    assert_eq!(client.ok("FETCH 1 FLAGS").await, "* 1 FETCH (FLAGS (\\Flagged \\Recent))\r\n");

    // A mailbox that goes away under a client is empty for it, and one made anew is another one.
    let mut other = site.login("mike").await;
    other.ok("DELETE Old.Work.2024").await;
    assert_eq!(client.ok("NOOP").await, "* 1 EXPUNGE\r\n");
    other.ok("CREATE Old.Work.2024").await;
    assert_eq!(client.run("NOOP").await, "* BYE the mailbox was made anew, connect again\r\n");

    let mut client = site.login("mike").await;
    three(&mut client).await;
    client.ok("SELECT INBOX").await;
    let answer = client.run("RENAME INBOX Archive").await;
    assert!(answer.starts_with("* 1 EXPUNGE\r\n* 1 EXPUNGE\r\n* 1 EXPUNGE\r\n"), "{answer}");
    assert!(client.ok("STATUS Archive (MESSAGES)").await.contains("MESSAGES 3"));
    assert!(client.ok("STATUS INBOX (MESSAGES)").await.contains("MESSAGES 0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions() {
    let site = site().await;
    let mut client = site.login("mike").await;
    client.ok("CREATE A.B").await;
    let all = "* LSUB () \".\" A.B\r\n* LSUB () \".\" INBOX\r\n";
    assert_eq!(client.ok("LSUB \"\" *").await, all);
    assert_eq!(client.ok("LSUB \"\" %").await, "* LSUB (\\Noselect) \".\" A\r\n* LSUB () \".\" INBOX\r\n");
    client.ok("SUBSCRIBE &ZeVnLIqe-").await;
    client.ok("UNSUBSCRIBE INBOX").await;
    client.ok("UNSUBSCRIBE nothing").await;
    assert_eq!(std::fs::read_to_string(site.file("mike", "imap.sub")).unwrap(), "A.B\n日本語\n");
    assert_eq!(client.ok("LSUB \"\" *").await, "* LSUB () \".\" A.B\r\n* LSUB () \".\" &ZeVnLIqe-\r\n");
    client.fails("SUBSCRIBE a..b", "NO [CANNOT]").await;
    assert_eq!(client.ok("NAMESPACE").await, "* NAMESPACE ((\"\" \".\")) NIL ((\"#public.\" \".\"))\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn searching() {
    let site = site().await;
    let mut client = site.login("mike").await;
    let subject = "Subject: =?ISO-2022-JP?B?GyRCRnxLXDhsJE43b0w+GyhC?=\r\nContent-Type: text/plain; charset=utf-8\r\nDate: Tue, 3 Mar 2020 23:30:00 -0900\r\n\r\n請求書を送ります\r\n";
    client.append("INBOX", "\"05-Mar-2020 12:00:00 +0000\" ", subject).await;
    client
        .append("INBOX", "(\\Seen) \"10-Mar-2020 12:00:00 +0000\" ", &mail("hello world", "plain BODY text"))
        .await;
    client
        .append("INBOX", "(\\Answered) \"15-Mar-2020 12:00:00 +0000\" ", &mail("third", &"long ".repeat(300)))
        .await;
    client.ok("SELECT INBOX").await;
    for (key, expected) in [
        ("ALL", "1 2 3"),
        ("CHARSET UTF-8 SUBJECT {9+}\r\n日本語", "1"),
        ("CHARSET UTF-8 BODY {9+}\r\n請求書", "1"),
        ("CHARSET ISO-2022-JP TEXT {12+}\r\n\x1b$B@A5a=q\x1b(B", "1"),
        ("TEXT {9+}\r\n請求書", "1"),
        ("SUBJECT HELLO", "2"),
        ("FROM ann NOT SUBJECT third", "2"),
        ("BODY \"body TEXT\"", "2"),
        ("TEXT world", "2"),
        ("HEADER Message-ID \"\"", "2 3"),
        ("OR SEEN ANSWERED", "2 3"),
        ("UNSEEN UNANSWERED", "1"),
        ("NOT (OR SEEN ANSWERED)", "1"),
        ("LARGER 1000", "3"),
        ("SMALLER 1000", "1 2"),
        ("BEFORE 10-Mar-2020", "1"),
        ("ON 10-Mar-2020", "2"),
        ("SINCE 10-Mar-2020", "2 3"),
        ("SENTON 3-Mar-2020", "1"),
        ("SENTBEFORE 3-Mar-2020", "2 3"),
        ("2:*", "2 3"),
        ("NOT 2", "1 3"),
        ("KEYWORD nothing", ""),
        ("UNKEYWORD nothing", "1 2 3"),
        ("UID 1:*", "1 2 3"),
        ("UID 1", ""),
        ("TO mike CC nobody", ""),
    ] {
        let blank = if expected.is_empty() { "" } else { " " };
        assert_eq!(
            client.ok(&format!("SEARCH {key}")).await,
            format!("* SEARCH{blank}{expected}\r\n"),
            "{key}"
        );
    }
    client.fails("SEARCH CHARSET X-NONE SUBJECT x", "NO [BADCHARSET (").await;
    for key in ["", " 9", " NONSENSE", " SUBJECT", " ()", " LARGER x", " ON yesterday"] {
        client.fails(&format!("SEARCH{key}"), "BAD ").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idling() {
    let site = site_with("[Services\\IMAP4D32\\Parameters]\r\nIdleSleepInterval=dword:000003e8\r\n").await;
    let stop = Arc::new(watch::Sender::new(false));
    let site = Site { address: listen_until(&site.server, super::session, &stop).await, ..site };
    let mut waiting = site.selected("mike").await;
    waiting.send("w IDLE\r\n").await;
    assert_eq!(waiting.line().await, "+ idling\r\n");
    let mut client = site.login("mike").await;
    three(&mut client).await;
    assert!(waiting.until("* 3 EXISTS").await.ends_with("* 3 EXISTS\r\n"));
    client.ok("SELECT INBOX").await;
    client.ok("STORE 2 FLAGS (\\Deleted)").await;
    assert!(waiting.until("* 2 FETCH").await.ends_with("FLAGS (\\Deleted \\Recent))\r\n"));
    client.ok("EXPUNGE").await;
    assert_eq!(waiting.line().await, "* 2 EXPUNGE\r\n");
    // Another program writes.
    let file = site.file("mike", "main.mbx");
    let mut text = std::fs::read(&file).unwrap();
    text.extend_from_slice(
        b"From <x@example.org> Tue Mar  3 10:00:00 2020\r\nSubject: by another\r\n\r\nbody\r\n\r\n",
    );
    std::fs::write(&file, text).unwrap();
    assert_eq!(waiting.line().await, "* 3 EXISTS\r\n");
    assert!(waiting.line().await.ends_with("RECENT\r\n"));
    waiting.send("done\r\n").await;
    assert_eq!(waiting.line().await, "w OK IDLE completed\r\n");
    waiting.send("x IDLE\r\n").await;
    waiting.line().await;
    waiting.send("y NOOP\r\n").await;
    assert!(waiting.line().await.starts_with("x BAD "));
    waiting.send("z IDLE\r\n").await;
    waiting.line().await;
    stop.send_replace(true);
    assert!(waiting.line().await.starts_with("* BYE the server is being stopped"));
    assert!(client.line().await.starts_with("* BYE the server is being stopped"));
}

#[tokio::test(flavor = "multi_thread")]
async fn mailboxes_of_others() {
    let site = site().await;
    // A file that IMail wrote: its numbers are the UIDs, and looking changes no byte.
    let text = "From <ann@example.org> Mon Mar 02 10:00:00 2020\r\nSubject: one\r\nStatus: R\r\nX-UIDL: 404304\r\n\r\nFrom here on\r\n\r\nFrom <ann@example.org> Mon Mar 02 10:00:01 2020\r\nSubject: two\r\nStatus: U\r\nX-UIDL: 404305\r\n\r\nbody\r\n\r\n";
    site.put("mike", "Main.mbx", text);
    site.put("mike", "odd.mbx", "this is\r\nno mailbox\r\n");
    let mut client = site.login("mike").await;
    client.ok("EXAMINE INBOX").await;
    assert_eq!(
        client.ok("FETCH 1:* (UID FLAGS)").await,
        "* 1 FETCH (UID 404304 FLAGS (\\Seen \\Recent))\r\n* 2 FETCH (UID 404305 FLAGS (\\Recent))\r\n"
    );
    assert_eq!(
        client.ok("FETCH 1 BODY[]").await,
        "* 1 FETCH (BODY[] {46}\r\nSubject: one\r\nX-UIDL: 404304\r\n\r\nFrom here on\r\n)\r\n"
    );
    assert_eq!(std::fs::read_to_string(site.file("mike", "Main.mbx")).unwrap(), text);
    client.fails("SELECT odd", "NO [CORRUPTION]").await;
    client.fails("STATUS odd (MESSAGES)", "NO [CORRUPTION]").await;
    let answer = client.append("odd", "", &mail("x", "y")).await;
    assert!(answer.contains("NO [CORRUPTION]"), "{answer}");

    // Another program removes the first message while it is selected.
    client.ok("SELECT INBOX").await;
    let second = text.find("From <ann@example.org> Mon Mar 02 10:00:01").unwrap();
    std::fs::write(site.file("mike", "Main.mbx"), &text[second..]).unwrap();
    let answer = client.run("FETCH 1:2 BODY.PEEK[TEXT]").await;
    assert!(answer.contains("* 2 FETCH (BODY[TEXT] {6}\r\nbody\r\n)"), "{answer}");
    assert!(answer.contains("NO [EXPUNGEISSUED]"), "{answer}");
    assert_eq!(client.ok("NOOP").await, "* 1 EXPUNGE\r\n");
    assert_eq!(user_dir(&site.server, "mike").mailboxes().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_can_come_together() {
    let site = site().await;
    let mut client = site.login("mike").await;
    let uids = three(&mut client).await;
    client.send("a SELECT INBOX\r\nb FETCH 1 UID\r\nc STORE 1 +FLAGS.SILENT (\\Deleted)\r\nd EXPUNGE\r\ne LOGOUT\r\n").await;
    let all = client.until("e OK").await;
    assert!(all.contains(&format!("* 1 FETCH (UID {})\r\nb OK", uids[0])), "{all}");
    assert!(all.contains("c OK STORE completed\r\n* 1 EXPUNGE\r\nd OK"), "{all}");
    assert!(client.ended().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_tells_commands_and_no_secrets() {
    let site = site().await;
    let mut client = site.connect().await;
    client.run("LOGIN mike wrong-password").await;
    client.ok("LOGIN mike {6+}\r\nsecret").await;
    client.ok("SELECT INBOX").await;
    client.run("LOGOUT").await;
    assert!(client.ended().await);
    let logs = site.dir.path().join("logs");
    let text = loop {
        let file = std::fs::read_dir(&logs).ok().and_then(|mut files| files.next());
        let text =
            file.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).unwrap_or_default();
        if text.contains("logoff mike 0 retrieved 0 deleted") {
            break text;
        }
        tokio::task::yield_now().await;
    };
    for wanted in [
        "] connect 127.0.0.1 port ",
        "] logon failure for mike - from",
        "] logon success for mike example.org from",
        "T3 SELECT INBOX",
        "T1 LOGIN mike\r\n",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    assert!(!text.contains("secret") && !text.contains("wrong-password"), "{text}");
}
