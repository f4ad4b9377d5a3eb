//! A Dovecot of its own, the peer of IMAP and POP3: configuration, mailboxes on mbox, indexes and log in a scratch directory, on ports of its
//! own at 127.0.0.1. Only root can start one.

use crate::support::client::client;
use crate::support::server::Ports;
use crate::support::wire::Wire;
use crate::support::{START_LIMIT, wait_for};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Whose the mailboxes are: nobody's.
const OWNER: u32 = 65534;

/// The password of every user.
pub const PASSWORD: &str = "Passw0rd!";

/// A running instance; it is stopped when the benchmark lets go of it.
pub struct Dovecot {
    dir: tempfile::TempDir,
    ports: Ports,
    child: Option<Child>,
}

impl Dovecot {
    /// Starts one without mailboxes. `None` with a word if it is not installed.
    pub fn start() -> Option<Dovecot> {
        client("dovecot")?;
        let dir = tempfile::Builder::new().prefix("imaild-dovecot-").tempdir().unwrap();
        // Its processes run as other users.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut dovecot = Dovecot { dir, ports: Ports::reserve(), child: None };
        for name in ["run", "state", "mail", "index"] {
            fs::create_dir(dovecot.path(name)).unwrap();
        }
        ["mail", "index"].into_iter().for_each(|name| own(&dovecot.path(name)));
        fs::write(dovecot.path("dovecot.conf"), dovecot.settings()).unwrap();
        dovecot.run();
        Some(dovecot)
    }

    /// Gives a new user a mailbox; there is no index for it.
    pub fn put_mailbox(&self, user: &str, from: &Path) {
        let home = self.path("mail").join(user);
        fs::create_dir(&home).unwrap();
        own(&home);
        fs::copy(from, self.mailbox(user)).unwrap();
        own(&self.mailbox(user));
    }

    /// A user's mailbox file.
    pub fn mailbox(&self, user: &str) -> PathBuf {
        self.path("mail").join(user).join("main.mbx")
    }

    /// Where IMAP is.
    pub fn imap(&self) -> SocketAddr {
        self.ports.address(143)
    }

    /// Where POP3 is.
    pub fn pop3(&self) -> SocketAddr {
        self.ports.address(110)
    }

    /// The process that starts all others.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Ends all its processes and starts anew.
    pub fn restart(&mut self) {
        self.end();
        self.run();
    }

    fn run(&mut self) {
        let mut command = Command::new("dovecot");
        command.arg("-F").arg("-c").arg(self.path("dovecot.conf")).stdin(Stdio::null());
        self.child = Some(command.spawn().expect("dovecot starts"));
        for address in [self.imap(), self.pop3()] {
            wait_for("a greeting of Dovecot", START_LIMIT, || Wire::open(address).ok()?.line_bytes());
        }
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            let _ = child.wait();
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its defaults, but for places, ports and how many may be connected.
    fn settings(&self) -> String {
        let dir = self.dir.path().display();
        let (imap, pop3) = (self.imap().port(), self.pop3().port());
        format!(
            "protocols = imap pop3\n\
             listen = 127.0.0.1\n\
             base_dir = {dir}/run\n\
             state_dir = {dir}/state\n\
             log_path = {dir}/log\n\
             ssl = no\n\
             auth_mechanisms = plain login\n\
             disable_plaintext_auth = no\n\
             mail_location = mbox:{dir}/mail/%n/folders:INBOX={dir}/mail/%n/main.mbx:INDEX={dir}/index/%n\n\
             mbox_write_locks = fcntl\n\
             first_valid_uid = 1\n\
             first_valid_gid = 1\n\
             mail_max_userip_connections = 5000\n\
             default_process_limit = 3000\n\
             default_client_limit = 6000\n\
             default_vsz_limit = 4G\n\
             passdb {{\n  driver = static\n  args = password={PASSWORD}\n}}\n\
             userdb {{\n  driver = static\n  args = uid={OWNER} gid={OWNER} home={dir}/mail/%n\n}}\n\
             service imap-login {{\n  service_count = 0\n  client_limit = 3000\n  chroot =\n\
             \x20 inet_listener imap {{\n    port = {imap}\n  }}\n  inet_listener imaps {{\n    port = 0\n  }}\n}}\n\
             service pop3-login {{\n  service_count = 0\n  client_limit = 3000\n  chroot =\n\
             \x20 inet_listener pop3 {{\n    port = {pop3}\n  }}\n  inet_listener pop3s {{\n    port = 0\n  }}\n}}\n\
             service auth {{\n  client_limit = 15000\n}}\n\
             service anvil {{\n  client_limit = 10000\n}}\n\
             service imap {{\n  process_limit = 3000\n}}\n\
             service pop3 {{\n  process_limit = 3000\n}}\n\
             protocol imap {{\n  mail_max_userip_connections = 5000\n}}\n"
        )
    }
}

fn own(path: &Path) {
    chown(path, Some(OWNER), Some(OWNER)).expect("Dovecot is started by root");
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- Dovecot said:\n{}", fs::read_to_string(self.path("log")).unwrap_or_default());
        }
        self.end();
    }
}
