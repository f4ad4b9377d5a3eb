//! What tests of this module share.

use super::route::Unroutable;
use super::trace::Origin;
use super::{Arrival, Options, Recipient, Refusal, Transport};
use crate::config::{Config, Live};
use crate::logs::Log;
use crate::mailbox::Hub;
use layout::disk::real::RealDisk;
use layout::root::Root;
use layout::spool::id::Role;
use std::sync::Arc;

const REGISTRY: &str = r"[Global]
HostName=mail.example.jp
TopDir=C:\IMail
[Domains\mail.example.jp]
Address=192.0.2.10
TopDir=C:\IMail
MaxMsgs=dword:00000002
[Domains\192.0.2.10]
Official=mail.example.jp
[Domains\mail.example.jp\Users\root]
[Domains\mail.example.jp\Users\few]
[Domains\mail.example.jp\Users\small]
MaxMsgs=dword:00000064
MaxSize=dword:000003e8
[Domains\mail.example.jp\Users\large]
MaxMsgs=dword:00000064
[Domains\mail.example.jp\Users\_aliases]
both=small,large
; end of registry.ini, keep this line last
";

/// A recipient as the SMTP service takes it: whoever logged in may send to other domains.
pub(super) fn recipient(
    transport: &Transport,
    config: &Config,
    address: &str,
    login: bool,
) -> Result<Recipient, Refusal> {
    match transport.recipient(config, address, login, 0) {
        Err(Refusal::Recipient(_, Unroutable::NotLocal(_))) if login => Ok(Recipient::elsewhere(address)),
        other => other,
    }
}

/// A transport on a directory of its own, without a queue runner.
pub(super) struct Server {
    pub(super) root: Root,
    pub(super) live: Arc<Live>,
    pub(super) transport: Transport,
    log: Log,
    _dir: Option<tempfile::TempDir>,
}

impl Server {
    pub(super) fn start() -> Server {
        Server::with(tempfile::tempdir().unwrap(), "")
    }

    /// The same with these lines in `[Global]`.
    pub(super) fn with(dir: tempfile::TempDir, global: &str) -> Server {
        let text = REGISTRY.replacen("[Global]\n", &format!("[Global]\n{global}"), 1);
        std::fs::write(dir.path().join("registry.ini"), text).unwrap();
        let root = Root::new(Arc::new(RealDisk::new()), dir.path());
        let started = Server::on(&root, &root, Options::default());
        Server { _dir: Some(dir), ..started }
    }

    /// A transport on a tree that is there, which logs into another one.
    pub(super) fn on(root: &Root, logs: &Root, options: Options) -> Server {
        let (live, _) = Live::start(root).unwrap();
        let hub = Hub::new(root.shared_disk());
        let logs = logs.clone();
        let log = Log::start(&logs.clone(), move || logs.logs());
        let transport = Transport::start(&live, &hub, &log, options).unwrap();
        Server { root: root.clone(), live, transport, log, _dir: None }
    }

    /// Sends a message and answers with what became of it: refused at RCPT, at the end of DATA, or taken.
    pub(super) async fn send(&self, from: &str, login: bool, to: &[&str], size: usize) -> String {
        self.send_with(from, login, to, "Subject: x\r\n", size).await
    }

    /// The same with this header.
    pub(super) async fn send_with(
        &self,
        from: &str,
        login: bool,
        to: &[&str],
        header: &str,
        size: usize,
    ) -> String {
        let config = self.live.now();
        let mut recipients = Vec::new();
        for address in to {
            match recipient(&self.transport, &config, address, login) {
                Ok(recipient) => recipients.push(recipient),
                Err(why) => return format!("RCPT {}", crate::smtp::reply::refusal(&why)),
            }
        }
        let connection = self.transport.connection_id();
        let Ok(id) = connection.and_then(|mut connection| self.transport.message_id(&mut connection)) else {
            return "no id".to_owned();
        };
        let origin = Origin {
            id,
            helo: "x".into(),
            extended: true,
            client: "192.0.2.1".parse().unwrap(),
            host: "mail.example.jp".into(),
            secure: false,
            authenticated: login,
            sender: from.into(),
            utf8: false,
        };
        let mut incoming = self.transport.incoming(origin.clone(), 1 << 20);
        incoming.write(format!("{header}\r\n").as_bytes());
        incoming.write(&vec![b'x'; size]);
        let account = login.then(|| from.to_owned());
        let arrival = Arrival { origin, recipients, account, dsn: Default::default() };
        match self.transport.accept(&config, arrival, incoming).await {
            Ok(()) => "taken".to_owned(),
            Err(why) => format!("DATA {}", crate::smtp::reply::refusal(&why)),
        }
    }

    fn dir_of(&self, address: &str) -> std::path::PathBuf {
        let routed = crate::transport::route::route(&self.live.now(), address, false).unwrap();
        routed.mailboxes[0].dir.path().full()
    }

    /// Writes a file of a user.
    pub(super) fn write_for(&self, address: &str, file: &str, content: &str) {
        let dir = self.dir_of(address);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(file), content).unwrap();
    }

    /// Reads a file of a user.
    pub(super) fn read_for(&self, address: &str, file: &str) -> String {
        std::fs::read_to_string(self.dir_of(address).join(file)).unwrap()
    }

    /// Has a user this file?
    pub(super) fn has_file(&self, address: &str, file: &str) -> bool {
        self.dir_of(address).join(file).exists()
    }

    /// What the log says.
    pub(super) fn log(&self) -> String {
        self.log.flush();
        let files = std::fs::read_dir(self.root.logs().full()).into_iter().flatten();
        files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect()
    }

    /// What waits: sender, extension and recipients, and the lines of the message that begin like this.
    pub(super) fn spool(&self, begin: &str) -> Vec<String> {
        let store = &self.transport.inner.store;
        let items = store.scan().unwrap().items;
        let line = |name: &layout::spool::id::ItemName| {
            let loaded = store.claim(name).unwrap().load().unwrap();
            let to: Vec<String> = loaded.envelope.recipients().into_iter().map(|one| one.address).collect();
            let text = self.root.disk().read(&store.path(Role::Data, name), 1 << 20).unwrap();
            let text = String::from_utf8(text).unwrap();
            let reasons: Vec<&str> = text.lines().filter(|line| line.starts_with(begin)).collect();
            format!(
                "<{}> {} {}: {}",
                loaded.envelope.sender(),
                name.extension(),
                to.join(" "),
                reasons.join("|")
            )
        };
        items.iter().map(|item| line(&item.name)).collect()
    }
}
