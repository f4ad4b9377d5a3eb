//! Servers with TLS, and with what should be TLS.

use super::*;
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What a server does after its reply to STARTTLS.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::transport::queue) enum Tls {
    /// A handshake with a certificate that is for another name, self-signed and long expired.
    #[default]
    Expired,
    /// A handshake with bytes that are no certificate.
    Malformed,
    /// Bytes that are no handshake.
    Garbage,
    /// The connection is closed.
    Closes,
    /// A handshake, and the connection is closed behind it.
    ClosesBehind,
    /// Nothing at all.
    Silent,
}

impl Tls {
    pub(super) async fn accept(self, mut stream: TcpStream) -> std::io::Result<Option<TlsStream<TcpStream>>> {
        match self {
            Tls::Expired | Tls::Malformed => self.acceptor().accept(stream).await.map(Some),
            Tls::ClosesBehind => self.acceptor().accept(stream).await.map(|_| None),
            Tls::Garbage => {
                stream.write_all(&[b'x'; 100]).await?;
                stream.read_to_end(&mut Vec::new()).await.map(|_| None)
            }
            Tls::Closes => Ok(None),
            Tls::Silent => stream.read_to_end(&mut Vec::new()).await.map(|_| None),
        }
    }

    fn acceptor(self) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["elsewhere.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        let certificate = match self {
            Tls::Malformed => CertificateDer::from(vec![1, 2, 3]),
            _ => params.self_signed(&key).unwrap().der().clone(),
        };
        let provider = Arc::new(ring::default_provider());
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let key = provider.key_provider.load_private_key(key).unwrap();
        let pair = SingleCertAndKey::from(CertifiedKey::new(vec![certificate], key));
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_no_client_auth().with_cert_resolver(Arc::new(pair));
        TlsAcceptor::from(Arc::new(config))
    }
}

const WITH_TLS: &str = "250-peer\r\n250-PIPELINING\r\n250 STARTTLS";

#[tokio::test(flavor = "multi_thread")]
async fn any_certificate_will_do() {
    for tls in [Tls::Expired, Tls::Malformed] {
        let (address, heard) = peer(Script { ehlo: WITH_TLS, tls, ..Script::default() }).await;
        let ours = Ours::start(&[("peer.example", address)], Table::default(), TWO_TRIES);
        ours.send("mike@example.org", &["a@peer.example"], "text\r\n").await;
        ours.drained().await;
        let (lines, connections) = heard.lock().unwrap().clone();
        let begin =
            ["EHLO example.org", "STARTTLS", "(TLS)", "EHLO example.org", "MAIL FROM:<mike@example.org>"];
        assert_eq!(lines[..5], begin);
        assert!(lines.contains(&"text".to_owned()) && connections == 1);
        ours.logs("status=1").await;
        ours.logs(") TLS TLSv1_3 TLS13_").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tls_the_mail_goes_in_plain_text() {
    for tls in [Tls::Garbage, Tls::Closes, Tls::ClosesBehind, Tls::Silent] {
        let (address, heard) = peer(Script { ehlo: WITH_TLS, tls, ..Script::default() }).await;
        let ours = Ours::start(&[("peer.example", address)], Table::default(), TWO_TRIES);
        ours.send("mike@example.org", &["a@peer.example"], "text\r\n").await;
        ours.drained().await;
        let (lines, connections) = heard.lock().unwrap().clone();
        assert!(lines.contains(&"text".to_owned()) && connections == 2, "{lines:?}");
        ours.logs("status=1").await;
        let log = ours.log();
        assert!(log.contains("TLS failed ("), "{log}");
        // The failed handshake was no try.
        assert!(!log.contains("requeuing") && !log.contains("ERR"), "{log}");
        // The next connection does not even ask.
        let asked = |lines: &[String]| lines.iter().filter(|line| *line == "STARTTLS").count();
        assert_eq!(asked(&lines), 1);
        ours.transport.inner.remote.forget_connections();
        ours.send("mike@example.org", &["b@peer.example"], "two\r\n").await;
        ours.drained().await;
        let (lines, connections) = heard.lock().unwrap().clone();
        assert!(lines.contains(&"two".to_owned()) && connections == 3, "{lines:?}");
        assert_eq!(asked(&lines), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_starttls_gets_its_mail_on_the_same_connection() {
    let answers = &[("STARTTLS", "454 4.7.0 not now")];
    let (address, heard) = peer(Script { ehlo: WITH_TLS, answers, ..Script::default() }).await;
    let ours = Ours::start(&[("peer.example", address)], Table::default(), TWO_TRIES);
    ours.send("mike@example.org", &["a@peer.example"], "text\r\n").await;
    ours.drained().await;
    let (lines, connections) = heard.lock().unwrap().clone();
    assert!(lines.contains(&"text".to_owned()) && connections == 1, "{lines:?}");
}

/// Somebody in the middle puts replies behind the one to STARTTLS, to have them read as if they came over TLS.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_said_before_tls_counts() {
    let answers = &[("STARTTLS", "220 go\r\n250-peer\r\n250 DSN")];
    let (address, heard) = peer(Script { ehlo: WITH_TLS, answers, ..Script::default() }).await;
    let ours = Ours::start(&[("peer.example", address)], Table::default(), TWO_TRIES);
    ours.send("mike@example.org", &["a@peer.example"], "text\r\n").await;
    ours.drained().await;
    let (lines, connections) = heard.lock().unwrap().clone();
    assert!(!lines.contains(&"(TLS)".to_owned()) && connections == 2, "{lines:?}");
    assert!(ours.log().contains("the server sent more than its reply to STARTTLS"));
}
