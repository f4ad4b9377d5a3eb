//! A Postfix of its own: configuration, queue, mailboxes and log in a scratch directory, one port on 127.0.0.1.
//!
//! It delivers to mbox files by its own `virtual` agent and asks no name server. Only root can start one.

use super::client::{client, found_or_skipped, succeed};
use super::wire::Wire;
use super::{START_LIMIT, wait_for};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::Command;

/// The domain whose users it has.
pub const DOMAIN: &str = "peer.example.com";

/// Whom the mailboxes belong to: nobody, since `virtual` does not write as root.
const OWNER: u32 = 65534;

/// Its daemons: name, type, most processes, program.
const DAEMONS: [(&str, &str, &str, &str); 18] = [
    ("cleanup", "unix", "0", "cleanup"),
    ("qmgr", "unix", "1", "qmgr"),
    ("tlsmgr", "unix", "1", "tlsmgr"),
    ("rewrite", "unix", "-", "trivial-rewrite"),
    ("bounce", "unix", "0", "bounce"),
    ("defer", "unix", "0", "bounce"),
    ("trace", "unix", "0", "bounce"),
    ("verify", "unix", "1", "verify"),
    ("flush", "unix", "0", "flush"),
    ("proxymap", "unix", "-", "proxymap"),
    ("smtp", "unix", "-", "smtp"),
    ("relay", "unix", "-", "smtp"),
    ("error", "unix", "-", "error"),
    ("retry", "unix", "-", "error"),
    ("virtual", "unix", "-", "virtual"),
    ("anvil", "unix", "1", "anvil"),
    ("scache", "unix", "1", "scache"),
    ("postlog", "unix-dgram", "1", "postlogd"),
];

/// A running instance; it is stopped when the test lets go of it.
pub struct Postfix {
    dir: tempfile::TempDir,
}

impl Postfix {
    /// Starts one that listens there, has these users of [`DOMAIN`], and sends mail for other domains to these addresses. `None` with a word
    /// if Postfix is not installed or this is not root.
    #[track_caller]
    pub fn start(listen: SocketAddr, users: &[String], routes: &[(&str, SocketAddr)]) -> Option<Postfix> {
        client("postfix")?;
        let dir = tempfile::Builder::new().prefix("imaild-postfix-").tempdir().unwrap();
        // Its daemons run as other users.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let postfix = Postfix { dir };
        for name in ["etc", "queue", "data", "mail"] {
            fs::create_dir(postfix.path(name)).unwrap();
        }
        if !found_or_skipped(chown(postfix.path("mail"), Some(OWNER), Some(OWNER)).is_ok(), "root's right") {
            return None;
        }
        succeed(Command::new("chown").arg("postfix").arg(postfix.path("data")));
        postfix.make_certificate();
        fs::write(postfix.path("etc/main.cf"), postfix.settings(users, routes)).unwrap();
        fs::write(postfix.path("etc/master.cf"), daemons(listen)).unwrap();
        succeed(postfix.control().arg("start"));
        wait_for("a greeting of Postfix", START_LIMIT, || Wire::open(listen).ok()?.line_bytes());
        Some(postfix)
    }

    /// A user's mailbox file.
    pub fn mailbox(&self, user: &str) -> PathBuf {
        self.path("mail").join(user)
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The process that starts all others.
    pub fn pid(&self) -> u32 {
        fs::read_to_string(self.path("queue/pid/master.pid")).unwrap().trim().parse().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn control(&self) -> Command {
        let mut command = Command::new("postfix");
        command.arg("-c").arg(self.path("etc"));
        command
    }

    fn make_certificate(&self) {
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        openssl.args(["-days", "2", "-subj", &format!("/CN=mx.{DOMAIN}"), "-keyout"]);
        succeed(openssl.arg(self.path("etc/key.pem")).arg("-out").arg(self.path("etc/certificate.pem")));
    }

    fn settings(&self, users: &[String], routes: &[(&str, SocketAddr)]) -> String {
        let dir = self.dir.path().display();
        let mailboxes: Vec<String> =
            users.iter().map(|user| format!("{{ {user}@{DOMAIN} = {user} }}")).collect();
        let hop = |(domain, address): &(&str, SocketAddr)| {
            format!("{{ {domain} = smtp:[{}]:{} }}", address.ip(), address.port())
        };
        let hops: Vec<String> = routes.iter().map(hop).collect();
        let domains: Vec<&str> = routes.iter().map(|(domain, _)| *domain).collect();
        format!(
            "compatibility_level = 3.6\n\
             queue_directory = {dir}/queue\n\
             data_directory = {dir}/data\n\
             maillog_file = {dir}/log\n\
             maillog_file_prefixes = {dir}\n\
             inet_interfaces = 127.0.0.1\n\
             inet_protocols = ipv4\n\
             mynetworks = 127.0.0.0/8\n\
             myhostname = mx.{DOMAIN}\n\
             mydestination =\n\
             alias_maps =\n\
             alias_database =\n\
             disable_dns_lookups = yes\n\
             smtp_host_lookup = native\n\
             default_transport = error:nothing leaves this machine\n\
             relay_domains = {}\n\
             transport_maps = inline:{{ {} }}\n\
             virtual_mailbox_domains = {DOMAIN}\n\
             virtual_mailbox_maps = inline:{{ {} }}\n\
             virtual_mailbox_base = {dir}/mail\n\
             virtual_mailbox_limit = 0\n\
             virtual_uid_maps = static:{OWNER}\n\
             virtual_gid_maps = static:{OWNER}\n\
             virtual_minimum_uid = {OWNER}\n\
             smtpd_tls_cert_file = {dir}/etc/certificate.pem\n\
             smtpd_tls_key_file = {dir}/etc/key.pem\n\
             smtpd_tls_security_level = may\n\
             smtpd_tls_received_header = yes\n\
             smtp_tls_security_level = may\n\
             smtp_tls_loglevel = 1\n",
            domains.join(", "),
            hops.join(", "),
            mailboxes.join(", "),
        )
    }
}

/// The list of daemons, none of them in a jail: it would need files of its own.
fn daemons(listen: SocketAddr) -> String {
    let inet = format!("{listen} inet n - n - - smtpd\n");
    let others = DAEMONS.map(|(name, kind, most, program)| {
        let private = if matches!(name, "cleanup" | "qmgr" | "flush" | "postlog") { "n" } else { "-" };
        let wakeup = if name == "qmgr" { "300" } else { "-" };
        // It becomes whom a mailbox belongs to.
        let unprivileged = if name == "virtual" { "n" } else { "-" };
        format!("{name} {kind} {private} {unprivileged} n {wakeup} {most} {program}\n")
    });
    inet + &others.concat()
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let stopped = self.control().arg("stop").output();
        if std::thread::panicking() {
            eprintln!("--- Postfix said:\n{}\n{stopped:?}", self.log());
        }
    }
}
