//! TLS: which certificate a client gets (RFC 8446, RFC 6066 §3).
//!
//! `certs/server.crt` and `certs/server.key` (PEM) are for everybody; `certs/<domain>.crt` and `.key` for clients that ask for that domain.
//! At the first start a self-signed pair is made for the primary domain. Files that were replaced count for the next handshake;
//! [`Certificates::reread`] reads all again, so that the log tells at once of what cannot be used.
//!
//! # Failure
//! A pair that cannot be used is named in the log once, and the last good one stays in force. If there was none, clients get a
//! self-signed certificate that lives as long as the process: encrypted mail matters more than a name that nobody checks.
//!
//! # Limits
//! Files of at most [`PEM_MAX`]; TLS 1.2 and 1.3 only.

use crate::config::Live;
use layout::disk::{Open, Stamp};
use layout::name::DomainName;
use layout::path::TreePath;
use layout::root::Root;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_rustls::TlsAcceptor;

/// The largest certificate or key file that is read: a chain has a few KiB.
pub const PEM_MAX: u64 = 1 << 20;
/// The pair that is for everybody.
const DEFAULT: &str = "server";

/// Tells the admin something.
type Say = Box<dyn Fn(&str) + Send + Sync>;

/// Makes the first certificate if there is none, and answers with what accepts TLS from then on, and the certificates that it uses. `say` tells the admin what was made, and
/// which files cannot be used.
pub fn start(
    live: &Arc<Live>,
    say: impl Fn(&str) + Send + Sync + 'static,
) -> io::Result<(TlsAcceptor, Arc<Certificates>)> {
    let config = live.now();
    let primary = config.registry.primary().map_or("localhost", |domain| domain.name.as_str());
    match make_first(config.root(), primary) {
        Ok(true) => say(&format!(
            "made a self-signed certificate for {primary}: certs/server.crt and server.key; put your own there instead"
        )),
        Ok(false) => {}
        Err(error) => say(&format!("no certificate could be written to certs: {error}")),
    }
    let provider = Arc::new(ring::default_provider());
    let spare = spare(primary, &provider)?;
    let certificates = Arc::new(Certificates {
        live: live.clone(),
        provider: provider.clone(),
        spare,
        known: Mutex::default(),
        say: Box::new(say),
    });
    // Files that cannot be used show at the start, not with the first client.
    certificates.choose(None);
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_cert_resolver(certificates.clone());
    Ok((TlsAcceptor::from(Arc::new(tls)), certificates))
}

/// A self-signed certificate, and its key, which is new unless one is given.
fn self_signed(name: &str, key: Option<KeyPair>) -> io::Result<(rcgen::Certificate, KeyPair)> {
    let key = match key {
        Some(key) => key,
        None => KeyPair::generate().map_err(io::Error::other)?,
    };
    let mut params = CertificateParams::new([name.to_owned()]).map_err(io::Error::other)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.self_signed(&key).map_err(io::Error::other)?;
    Ok((certificate, key))
}

/// Writes `server.crt` if there is none; answers whether it did. A key that is there already is used: it may be the admin's, whose
/// certificate is still to come.
fn make_first(root: &Root, name: &str) -> io::Result<bool> {
    let dir = root.certificates();
    if root.file_in(&dir, "server.crt").is_some() {
        return Ok(false);
    }
    root.make_dirs(&dir)?;
    let present = match root.file_in(&dir, "server.key") {
        Some(path) => {
            let pem = root.disk().read(&path, PEM_MAX)?;
            let pem = String::from_utf8(pem).map_err(io::Error::other)?;
            Some(
                KeyPair::from_pem(&pem)
                    .map_err(|_| io::Error::other("server.key is there and is no PEM key"))?,
            )
        }
        None => None,
    };
    let is_new = present.is_none();
    let (certificate, key) = self_signed(name, present)?;
    if is_new {
        write_private(root, &root.find(&dir, "server.key"), key.serialize_pem().as_bytes())?;
    }
    layout::disk::replace(root.disk(), &root.find(&dir, "server.crt"), certificate.pem().as_bytes())?;
    Ok(true)
}

/// Writes a file that only its owner may read, whole or not at all.
fn write_private(root: &Root, path: &TreePath, content: &[u8]) -> io::Result<()> {
    let (disk, dir) = (root.disk(), path.parent());
    let temporary = root.find(&dir, "server.key.new");
    let file = disk.open(&temporary, Open::Create)?;
    disk.make_private(&temporary)?;
    file.set_len(0)?;
    file.append(content)?;
    file.sync()?;
    drop(file);
    disk.rename(&temporary, path)?;
    disk.sync_dir(&dir)
}

/// What clients get while no file can be used.
fn spare(name: &str, provider: &CryptoProvider) -> io::Result<Arc<CertifiedKey>> {
    let (certificate, key) = self_signed(name, None)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(io::Error::other)?;
    let pair = CertifiedKey::from_der(vec![certificate.der().clone()], key, provider);
    pair.map(Arc::new).map_err(io::Error::other)
}

/// The certificates by name.
pub struct Certificates {
    live: Arc<Live>,
    provider: Arc<CryptoProvider>,
    spare: Arc<CertifiedKey>,
    /// Only names that have files are kept here, so clients cannot fill it.
    known: Mutex<HashMap<String, Known>>,
    say: Say,
}

/// A pair as it was read last.
struct Known {
    stamps: [Option<Stamp>; 2],
    /// The last good one.
    pair: Option<Arc<CertifiedKey>>,
}

impl Certificates {
    /// Reads all files again, changed or not; those of a domain that nobody asked for yet, too.
    pub fn reread(&self) {
        let config = self.live.now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.values_mut().for_each(|known| known.stamps = [Some(Stamp::default()); 2]);
        let names: Vec<String> = known.keys().cloned().collect();
        drop(known);
        let domains = config.registry.domains.iter().map(|domain| domain.name.to_ascii_lowercase());
        let names: BTreeSet<String> = names.into_iter().chain(domains).chain([DEFAULT.to_owned()]).collect();
        for name in names {
            self.pair(config.root(), &name);
        }
    }

    /// The certificate for a client that asks for `name`: that name's, else its domain's, else everybody's.
    fn choose(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let config = self.live.now();
        let name = name.and_then(|name| DomainName::parse(name).ok()).map(|name| name.to_string());
        let domain =
            name.as_deref().and_then(|name| config.local_domain(name)).map(|domain| domain.name.clone());
        let names = name.into_iter().chain(domain).chain([DEFAULT.to_owned()]);
        names
            .map(|name| self.pair(config.root(), &name))
            .find_map(|pair| pair)
            .unwrap_or_else(|| self.spare.clone())
    }

    /// The pair of one name, read again if its files changed.
    fn pair(&self, root: &Root, name: &str) -> Option<Arc<CertifiedKey>> {
        let dir = root.certificates();
        let files = ["crt", "key"].map(|kind| root.file_in(&dir, &format!("{name}.{kind}")));
        let stamp = |file: &Option<TreePath>| Some(root.disk().stat(file.as_ref()?).ok()?.0);
        let stamps = [stamp(&files[0]), stamp(&files[1])];
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(name) {
            Some(known) if known.stamps == stamps => return known.pair.clone(),
            None if stamps == [None, None] => return None,
            _ => {}
        }
        let last = known.remove(name).and_then(|known| known.pair);
        let pair = match self.load(root, &files) {
            Ok(pair) => Some(Arc::new(pair)),
            Err(error) => {
                let instead = if last.is_some() { "the last good one stays" } else { "another one is used" };
                (self.say)(&format!("certs/{name}.crt and {name}.key cannot be used ({error}); {instead}"));
                last
            }
        };
        known.insert(name.to_owned(), Known { stamps, pair: pair.clone() });
        pair
    }

    fn load(&self, root: &Root, files: &[Option<TreePath>; 2]) -> io::Result<CertifiedKey> {
        let [Some(certificate), Some(key)] = files else {
            return Err(io::Error::other("one of the two is missing"));
        };
        let certificates = root.disk().read(certificate, PEM_MAX)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificates).collect();
        let chain = chain.map_err(|_| io::Error::other("the certificate is no PEM"))?;
        let key = root.disk().read(key, PEM_MAX)?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| io::Error::other("the key is no PEM"))?;
        if chain.is_empty() {
            return Err(io::Error::other("there is no certificate in it"));
        }
        CertifiedKey::from_der(chain, key, &self.provider).map_err(io::Error::other)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.choose(hello.server_name()))
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificates")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::write_tree;
    use layout::disk::real::RealDisk;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn write_pair(dir: &Path, name: &str) -> Vec<u8> {
        let (certificate, key) = self_signed(name, None).unwrap();
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(dir.join(format!("{name}.crt")), certificate.pem()).unwrap();
        std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        certificate.der().to_vec()
    }

    #[test]
    fn certificates_are_made_chosen_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        write_tree(dir.path(), "");
        let root = Root::new(Arc::new(RealDisk::new()), dir.path());
        let (live, _) = Live::start(&root).unwrap();
        assert!(make_first(&root, "example.org").unwrap());
        assert!(!make_first(&root, "example.org").unwrap());
        let certs = dir.path().join("certs");
        let mode = std::fs::metadata(certs.join("server.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let key = std::fs::read(certs.join("server.key")).unwrap();
        std::fs::remove_file(certs.join("server.crt")).unwrap();
        assert!(make_first(&root, "example.org").unwrap());
        assert_eq!(std::fs::read(certs.join("server.key")).unwrap(), key);

        let provider = Arc::new(ring::default_provider());
        let said = Arc::new(AtomicUsize::new(0));
        let count = said.clone();
        let certificates = Certificates {
            live,
            spare: spare("example.org", &provider).unwrap(),
            provider,
            known: Mutex::default(),
            say: Box::new(move |_| _ = count.fetch_add(1, Ordering::Relaxed)),
        };
        let chosen = |name| certificates.choose(name).cert[0].to_vec();
        let everybodys = chosen(None);
        assert_eq!(chosen(Some("elsewhere.example")), everybodys);
        let own = write_pair(&certs, "example.org");
        assert_eq!(chosen(Some("example.org")), own);
        // The domain's other name leads to the domain's certificate.
        assert_eq!(chosen(Some("mail.example.org")), own);
        assert_eq!(chosen(None), everybodys);
        let replaced = write_pair(&certs, "server");
        assert_eq!(chosen(None), replaced);
        assert_eq!(said.load(Ordering::Relaxed), 0);

        std::fs::write(certs.join("server.crt"), "nonsense").unwrap();
        assert_eq!(chosen(None), replaced);
        assert_eq!(chosen(None), replaced);
        assert_eq!(said.load(Ordering::Relaxed), 1, "said once");
        certificates.reread();
        assert_eq!(chosen(None), replaced);
        assert_eq!(chosen(Some("example.org")), own);
        assert_eq!(said.load(Ordering::Relaxed), 2, "and when it is asked for");
        std::fs::remove_file(certs.join("server.crt")).unwrap();
        std::fs::remove_file(certs.join("server.key")).unwrap();
        assert_eq!(chosen(None), replaced);
    }
}
