//! A server for tests of the sessions: a small tree in a temporary directory, and a listener on the loopback address.

use super::Server;
use super::connection::Connection;
use crate::account::Accounts;
use crate::config::{Config, Live};
use crate::logs::Log;
use crate::mailbox::Hub;
use crate::transport::{Options, Transport};
use layout::disk::real::RealDisk;
use layout::name::UserId;
use layout::password;
use layout::root::{Root, UserDir};
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// The password of every user of [`write_tree`].
pub const PASSWORD: &str = "secret";

/// The users of [`write_tree`], all in `example.org`; `closed` is disabled.
pub const USERS: [&str; 4] = ["mike", "ann", "public", "closed"];

/// Writes a `registry.ini` with the primary domain `example.org` (alias `mail.example.org`) and its users, as after an import from IMail.
/// `services` is put in as it stands, for `[Services\...]` sections.
pub fn write_tree(dir: &Path, services: &str) {
    let mut text = String::from(
        "[Global]\r\nHostName=example.org\r\nTopDir=C:\\IMail\r\nReturnToIMail=dword:00000001\r\n\r\n",
    );
    text.push_str(services);
    text.push_str("\r\n[Domains\\example.org]\r\nOfficial=example.org\r\nAddress=127.0.0.1\r\nTopDir=C:\\IMail\r\nAliases=mail.example.org\r\n\r\n");
    for user in USERS {
        let stored = password::store(true, user, PASSWORD).unwrap();
        let flags = if user == "closed" { 0x81 } else { 0x80 };
        text.push_str(&format!(
            "[Domains\\example.org\\Users\\{user}]\r\nMailAddr={user}@example.org\r\nPassword={stored}\r\nFlags=dword:{flags:08x}\r\n\r\n"
        ));
    }
    text.push_str("; end of registry.ini, keep this line last\r\n");
    std::fs::write(dir.join("registry.ini"), text).unwrap();
}

/// A server on the tree in `root`, without listeners and watchers; inside a multi-threaded runtime only.
pub fn for_tests(root: &Path) -> Arc<Server> {
    let root = Root::new(Arc::new(RealDisk::new()), root);
    let (live, notes) = Live::start(&root).unwrap();
    assert_eq!(notes, [""; 0]);
    let log = Log::start(&root, {
        let root = root.clone();
        move || root.logs()
    });
    let hub = Hub::new(root.shared_disk());
    let accounts = Accounts::new(live.clone()).unwrap();
    let transport = Transport::start(&live, &hub, &log, Options::default()).unwrap();
    tokio::spawn(transport.queue(std::future::pending()));
    let tls = crate::serve::tls::start(&live, |_| {}).unwrap();
    Arc::new(Server::new(live, hub, accounts, log, transport, tls))
}

/// Serves every client of a new loopback port with `session`; gives the port's address.
pub async fn listen<F>(server: &Arc<Server>, session: fn(Arc<Server>, Connection) -> F) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    listen_until(server, session, &Arc::new(watch::Sender::new(false))).await
}

/// The same; sessions end when `stop` becomes true.
pub async fn listen_until<F>(
    server: &Arc<Server>,
    session: fn(Arc<Server>, Connection) -> F,
    stop: &Arc<watch::Sender<bool>>,
) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (server, stop) = (server.clone(), stop.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(session(server.clone(), Connection::new(stream, stop.subscribe()).unwrap()));
        }
    });
    address
}

/// An address that is none of this machine or its networks.
pub const ELSEWHERE: &str = "192.0.2.77:4711";

/// The directory of a user of `example.org`.
pub fn user_dir(server: &Server, user: &str) -> UserDir {
    let config: Arc<Config> = server.live.now();
    let domain = config.local_domain("example.org").unwrap();
    config.domain_dir(domain).unwrap().user(&UserId::parse(user).unwrap())
}

/// All mailboxes of a user, one behind the other, as text.
pub fn user_files(root: &Path, user: &str) -> String {
    let disk = Arc::new(RealDisk::new());
    let root = Root::new(disk, root);
    let Ok(id) = UserId::parse(user) else { return String::new() };
    let dir = root.domain(root.top().clone()).user(&id).path().full();
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let boxes = files.filter(|path| path.extension().is_some_and(|end| end.eq_ignore_ascii_case("mbx")));
    boxes.map(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_tree_is_good() {
        let dir = tempfile::tempdir().unwrap();
        write_tree(dir.path(), "");
        let server = for_tests(dir.path());
        let local = "127.0.0.1".parse().unwrap();
        let local = crate::account::Ends { peer: local, local };
        assert_eq!(
            server.accounts.login(local, "mike", PASSWORD, false).unwrap().address,
            "mike@example.org"
        );
        assert!(server.accounts.login(local, "mike@mail.example.org", PASSWORD, false).is_ok());
        assert!(server.accounts.login(local, "closed", PASSWORD, false).is_err());
        assert!(user_dir(&server, "mike").mailboxes().unwrap().is_empty());
    }
}
