//! A Dovecot of its own: configuration, mailboxes and indexes in a scratch directory, IMAP on one port of 127.0.0.1.
//!
//! It keeps mailboxes as mbox files and lets every user in with [`PASSWORD`]. Only root can start one.

use super::client::{client, found_or_skipped, succeed};
use super::wire::Wire;
use super::{START_LIMIT, wait_for};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::Command;

/// Everybody's password.
pub const PASSWORD: &str = "secret";

/// Whom the mailboxes belong to: nobody, since Dovecot gives no mailbox to root.
const OWNER: u32 = 65534;

/// An instance; it is stopped when the test lets go of it.
pub struct Dovecot {
    dir: tempfile::TempDir,
    listen: SocketAddr,
}

impl Dovecot {
    /// One that will listen there and has the user's main mailbox in [`Dovecot::mailbox`]. `None` with a word if Dovecot is not installed or this
    /// is not root.
    pub fn prepare(listen: SocketAddr) -> Option<Dovecot> {
        client("dovecot")?;
        let dir = tempfile::Builder::new().prefix("imaild-dovecot-").tempdir().unwrap();
        // Its processes run as other users.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let dovecot = Dovecot { dir, listen };
        for name in ["run", "state", "mail", "index"] {
            fs::create_dir(dovecot.path(name)).unwrap();
        }
        let owned = ["mail", "index"].map(|name| chown(dovecot.path(name), Some(OWNER), Some(OWNER)));
        if !found_or_skipped(owned.iter().all(Result::is_ok), "root's right") {
            return None;
        }
        fs::write(dovecot.path("dovecot.conf"), dovecot.settings()).unwrap();
        Some(dovecot)
    }

    /// The file of a user's INBOX.
    pub fn mailbox(&self, user: &str) -> PathBuf {
        self.path("mail").join(user)
    }

    /// Starts it. The mailboxes must be there.
    #[track_caller]
    pub fn start(&self) {
        for entry in fs::read_dir(self.path("mail")).unwrap() {
            chown(entry.unwrap().path(), Some(OWNER), Some(OWNER)).unwrap();
        }
        succeed(&mut self.program("dovecot"));
        wait_for("a greeting of Dovecot", START_LIMIT, || Wire::open(self.listen).ok()?.line_bytes());
    }

    /// Ends all its processes.
    #[track_caller]
    pub fn stop(&self) {
        let master = self.pid();
        succeed(self.program("doveadm").arg("stop"));
        let gone = || (!PathBuf::from(format!("/proc/{master}")).exists()).then_some(());
        wait_for("Dovecot to end", START_LIMIT, gone);
    }

    /// The process that starts all others.
    pub fn pid(&self) -> u32 {
        fs::read_to_string(self.path("run/master.pid")).unwrap().trim().parse().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.arg("-c").arg(self.path("dovecot.conf"));
        command
    }

    fn settings(&self) -> String {
        let (dir, ip, port) = (self.dir.path().display(), self.listen.ip(), self.listen.port());
        format!(
            "protocols = imap\n\
             listen = {ip}\n\
             base_dir = {dir}/run\n\
             state_dir = {dir}/state\n\
             log_path = {dir}/log\n\
             ssl = no\n\
             disable_plaintext_auth = no\n\
             mail_location = mbox:{dir}/mail/%n.folders:INBOX={dir}/mail/%n:INDEX={dir}/index/%n\n\
             mbox_write_locks = fcntl\n\
             first_valid_uid = 1\n\
             default_vsz_limit = 2G\n\
             passdb {{\n  driver = static\n  args = password={PASSWORD}\n}}\n\
             userdb {{\n  driver = static\n  args = uid={OWNER} gid={OWNER} home={dir}/mail/%n.home\n}}\n\
             namespace inbox {{\n  inbox = yes\n}}\n\
             service imap-login {{\n  chroot =\n  inet_listener imap {{\n    port = {port}\n  }}\n  inet_listener imaps {{\n    port = 0\n  }}\n}}\n"
        )
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        let stopped = self.program("doveadm").arg("stop").output();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.path("log")).unwrap_or_default();
            eprintln!("--- Dovecot said:\n{log}\n{stopped:?}");
        }
    }
}
