//! SMTP sessions over real sockets.

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
