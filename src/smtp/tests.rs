//! SMTP sessions over real sockets.

mod extensions;
mod hostile;

use crate::session::Server;
use crate::session::connection::Connection;
use crate::session::testing::{for_tests, listen, user_dir, write_tree};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What a client reads and writes.
trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

struct Client<S: Wire>(BufReader<S>);

impl<S: Wire> Client<S> {
    async fn send(&mut self, bytes: &str) {
        self.0.get_mut().write_all(bytes.as_bytes()).await.unwrap();
        self.0.get_mut().flush().await.unwrap();
    }

    /// A reply of any number of lines; empty at the end of the connection.
    async fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let mut line = String::new();
            let count = self.0.read_line(&mut line).await.unwrap_or(0);
            reply.push_str(&line);
            if count == 0 || line.as_bytes().get(3) != Some(&b'-') {
                return reply;
            }
        }
    }

    async fn ask(&mut self, line: &str) -> String {
        self.send(&format!("{line}\r\n")).await;
        self.reply().await
    }
}

async fn connect(address: SocketAddr) -> Client<TcpStream> {
    let mut client = Client(BufReader::new(TcpStream::connect(address).await.unwrap()));
    assert!(client.reply().await.starts_with("220 example.org "));
    client
}

/// A client that trusts the tree's own certificate only.
async fn encrypt(
    client: Client<TcpStream>,
    dir: &Path,
) -> Client<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(dir.join("certs/server.crt")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("example.org").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, client.0.into_inner()).await.unwrap();
    Client(BufReader::new(stream))
}

async fn serve_port_25(server: Arc<Server>, connection: Connection) {
    super::session(server, connection, false).await;
}

async fn start(services: &str) -> (tempfile::TempDir, Arc<Server>, SocketAddr) {
    let dir = tempfile::tempdir().unwrap();
    write_tree(dir.path(), services);
    let server = for_tests(dir.path());
    let address = listen(&server, serve_port_25).await;
    (dir, server, address)
}

fn inbox(server: &Server, user: &str) -> String {
    let path = user_dir(server, user).mailbox(&layout::name::MailboxName::inbox()).full();
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_over_starttls() {
    let (dir, server, address) = start("").await;
    let mut client = connect(address).await;
    assert!(client.ask("EHLO client.example").await.contains("250-STARTTLS\r\n"));
    // What comes with STARTTLS in one piece must not count behind it.
    assert!(client.ask("STARTTLS\r\nMAIL FROM:<evil@example.net>").await.starts_with("220 "));
    let mut client = encrypt(client, dir.path()).await;
    assert!(client.ask("MAIL FROM:<a@example.net>").await.starts_with("503 "));
    let hello = client.ask("EHLO client.example").await;
    assert!(!hello.contains("STARTTLS") && hello.contains("AUTH LOGIN PLAIN"), "{hello}");
    assert!(client.ask("STARTTLS").await.starts_with("503 "));
    assert!(client.ask("AUTH PLAIN AG1pa2UAc2VjcmV0").await.starts_with("235 "));
    for line in ["MAIL FROM:<mike@example.org>", "RCPT TO:<ann@example.org>"] {
        assert!(client.ask(line).await.starts_with("250 "));
    }
    assert!(client.ask("DATA").await.starts_with("354 "));
    // Larger than what is read at once.
    let body = "text of a line\r\n".repeat(10_000);
    client.send(&format!("Subject: safe\r\n\r\n{body}.\r\n")).await;
    assert!(client.reply().await.starts_with("250 "));
    assert!(client.ask("QUIT").await.starts_with("221 "));
    let stored = inbox(&server, "ann");
    assert!(stored.contains("by example.org with ESMTPSA\r\n"), "{}", &stored[..500]);
    assert!(stored.contains(&body));
}

const RELAY: &str = "[Services\\SMTPD32\\Parameters]\r\nRelayMode=LocalHosts\r\n\r\n[Routes]\r\nbackup.example=192.0.2.1:25\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn who_may_send_where() {
    // Settings, sender, recipient, what RCPT is answered.
    for (services, sender, recipient, expected) in [
        (
            "",
            "a@example.net",
            "b@elsewhere.example",
            "550 5.7.1 not local host elsewhere.example, not a gateway",
        ),
        ("", "mike@example.org", "b@elsewhere.example", "550 5.7.1 "),
        ("", "a@example.net", "mike@example.org", "250 "),
        ("", "", "b@elsewhere.example", "550 5.7.1 "),
        (RELAY, "mike@example.org", "b@elsewhere.example", "250 "),
        (RELAY, "a@example.net", "b@elsewhere.example", "550 5.7.1 "),
        (RELAY, "a@partner.example", "b@elsewhere.example", "250 "),
        (RELAY, "a@example.net", "b@backup.example", "250 "),
    ] {
        let (dir, _server, address) = start(services).await;
        std::fs::write(dir.path().join("accept.txt"), "partner.example\r\n").unwrap();
        let mut client = connect(address).await;
        client.ask("EHLO client.example").await;
        assert!(client.ask(&format!("MAIL FROM:<{sender}>")).await.starts_with("250 "));
        let answer = client.ask(&format!("RCPT TO:<{recipient}>")).await;
        assert!(answer.starts_with(expected), "{services} {sender} {recipient}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused() {
    let (dir, _server, address) = start("").await;
    std::fs::write(dir.path().join("kill.lst"), "@spam.example\r\n").unwrap();
    let mut client = connect(address).await;
    client.ask("EHLO client.example").await;
    assert_eq!(client.ask("MAIL FROM:<a@spam.example>").await, "501 5.1.8 unacceptable mail address\r\n");
    for (length, expected) in [(998, "250 "), (999, "550 5.6.0 ")] {
        client.ask("MAIL FROM:<a@example.net>").await;
        client.ask("RCPT TO:<mike@example.org>").await;
        client.ask("DATA").await;
        let answer = client.ask(&format!("Subject: long\r\n\r\n{}\r\n.", "x".repeat(length))).await;
        assert!(answer.starts_with(expected), "{length}: {answer}");
    }
    assert!(client.ask("GET / HTTP/1.1").await.starts_with("421 "));
    assert_eq!(client.reply().await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_by_digest() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let (_dir, _server, address) = start("").await;
    for (password, expected) in [("secret", "235 "), ("wrong", "535 ")] {
        let mut client = connect(address).await;
        assert!(client.ask("EHLO client.example").await.contains("AUTH LOGIN PLAIN CRAM-MD5\r\n"));
        let challenge = client.ask("AUTH CRAM-MD5").await;
        let challenge = STANDARD.decode(challenge.trim_end().strip_prefix("334 ").unwrap()).unwrap();
        let mut mac = Hmac::<md5::Md5>::new_from_slice(password.as_bytes()).unwrap();
        mac.update(&challenge);
        let digest: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let answer = client.ask(&STANDARD.encode(format!("mike {digest}"))).await;
        assert!(answer.starts_with(expected), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_for_users() {
    const ON: &str = "[Services\\SMTPD32\\Parameters]\r\nEnableVrfy=1\r\nEnableExpn=1\r\n\r\n[Domains\\example.org\\Users\\_aliases]\r\nboth=mike,ann\r\n";
    // Settings, command, answer.
    for (services, command, expected) in [
        ("", "VRFY mike", "252 2.5.2 "),
        ("", "VRFY nobody-here", "252 2.5.2 "),
        ("", "EXPN both", "502 5.5.1 "),
        (ON, "VRFY mike", "250 2.1.5 <mike@example.org>\r\n"),
        (ON, "VRFY <ann@example.org>", "250 2.1.5 <ann@example.org>\r\n"),
        (ON, "VRFY x@elsewhere.example", "252 2.5.2 "),
        (ON, "VRFY unknown", "550 5.1.1 "),
        (ON, "EXPN both", "250-2.1.5 <mike@example.org>\r\n250 2.1.5 <ann@example.org>\r\n"),
        (ON, "EXPN unknown", "550 5.1.1 "),
    ] {
        let (_dir, _server, address) = start(services).await;
        let mut client = connect(address).await;
        let hello = client.ask("EHLO client.example").await;
        assert_eq!(hello.ends_with("250 EXPN\r\n"), !services.is_empty(), "{hello}");
        let answer = client.ask(command).await;
        assert!(answer.starts_with(expected), "{command}: {answer}");
    }
}
