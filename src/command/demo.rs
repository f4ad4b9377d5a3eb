//! `imaild demo`: the sample directory, copied, imported and served, with everything that one needs to try it.
//!
//! The copy lives in the directory for temporary files and is removed at the end.

use super::{CommandError, Outcome, print};
use crate::serve;
use clap::Args;
use layout::disk::real::RealDisk;
use layout::registry::regfile::{self, ImportOptions, RegFile};
use layout::registry::store;
use layout::root::Root;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The exports of the sample server.
const EXPORTS: [&str; 2] = ["software.reg", "system.reg"];
/// The address of the sample server's primary domain (RFC 5737).
const SAMPLE_ADDRESS: &str = "192.0.2.10";
/// How deep the sample is copied.
const DEPTH_MAX: usize = 16;
/// Logins to try, with what is special about them.
const LOGINS: [(&str, &str, &str); 5] = [
    ("suzuki@mail.example.jp", "sakura2022", "eight old messages in Japanese, many folders"),
    ("tanaka@mail.example.jp", "hanami!55", "forwards to ann and keeps a copy"),
    ("mike@mail.example.jp", "rocks", "rules and an automatic answer"),
    ("root@mail.example.jp", "Super-visor9", "administrator"),
    ("ann@example.org", "lovely99", "in the domain without an address of its own"),
];

/// Serve a scratch copy of the sample directory on 127.0.0.1.
#[derive(Args)]
pub(super) struct Demo {
    /// Added to every port.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    port_offset: u16,
}

impl Demo {
    pub(super) fn run(self) -> Result<Outcome, CommandError> {
        let fixtures = fixtures()?;
        let scratch = Scratch::make()?;
        let dir = scratch.0.join("IMail");
        copy(&fixtures.join("imail"), &dir, 0)?;
        import(&fixtures.join("registry"), &dir)?;
        print(&told(&dir, self.port_offset));
        serve::run(serve::Options {
            root: dir,
            bind: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            port_offset: self.port_offset,
            services: Vec::new(),
            routes: Vec::new(),
            dns: None,
            lock_patience: layout::lock::PATIENCE,
            drain_for: serve::DRAIN_FOR,
            metrics: None,
        })?;
        Ok(Outcome::Done)
    }
}

/// The samples: in the source tree that this program was built from, else beside the program.
fn fixtures() -> Result<PathBuf, CommandError> {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("fixtures")));
    let places = [Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")), beside];
    let places: Vec<PathBuf> = places.into_iter().flatten().collect();
    match places.iter().find(|place| place.join("imail").is_dir() && place.join("registry").is_dir()) {
        Some(place) => Ok(place.clone()),
        None => Err(CommandError::Refused(format!(
            "the sample directory is not there: looked for {}. Put the folder fixtures of the source tree beside this program",
            places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(" and ")
        ))),
    }
}

/// A directory that is removed with everything in it.
struct Scratch(PathBuf);

impl Scratch {
    fn make() -> Result<Scratch, CommandError> {
        let dir = std::env::temp_dir().join(format!("imaild-demo-{}", std::process::id()));
        // One of that name that exists is somebody else's, and not to be trusted.
        fs::DirBuilder::new().mode(0o700).create(&dir).map_err(CommandError::file(dir.display()))?;
        Ok(Scratch(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Copies directories and ordinary files.
fn copy(from: &Path, to: &Path, depth: usize) -> Result<(), CommandError> {
    fs::create_dir(to).map_err(CommandError::file(to.display()))?;
    for entry in fs::read_dir(from).map_err(CommandError::file(from.display()))? {
        let entry = entry.map_err(CommandError::file(from.display()))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(CommandError::file(path.display()))?;
        if kind.is_dir() && depth < DEPTH_MAX {
            copy(&path, &target, depth + 1)?;
        } else if kind.is_file() {
            fs::copy(&path, &target).map_err(CommandError::file(path.display()))?;
        }
    }
    Ok(())
}

fn import(exports: &Path, dir: &Path) -> Result<(), CommandError> {
    let read = |name: &str| {
        let path = exports.join(name);
        let bytes = fs::read(&path).map_err(CommandError::file(path.display()))?;
        Ok::<RegFile, CommandError>(RegFile { name: name.to_owned(), bytes })
    };
    let files = EXPORTS.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let map_ips = vec![(SAMPLE_ADDRESS.to_owned(), Ipv4Addr::LOCALHOST.to_string())];
    let (doc, _) = regfile::import(&files, &ImportOptions { map_ips, ..ImportOptions::default() })?;
    store::create(&Root::new(Arc::new(RealDisk::new()), dir), &doc, false)?;
    Ok(())
}

fn told(dir: &Path, offset: u16) -> String {
    let port = |port: u16| port.saturating_add(offset);
    let (smtp, pop3, imap) = (port(25), port(110), port(143));
    let (user, password, _) = LOGINS[0];
    let mut text = format!(
        "A sample IMail server, copied to {} (removed at the end), on 127.0.0.1:\n\
         \x20 SMTP {smtp}   POP3 {pop3}   IMAP {imap}\n\nUsers and passwords:\n",
        dir.display()
    );
    for (user, password, what) in LOGINS {
        text.push_str(&format!("  {user:<24} {password:<14} {what}\n"));
    }
    text.push_str(&format!(
        "\nTo try, in another terminal:\n\
         \x20 swaks --server 127.0.0.1:{smtp} --from me@example.net --to {user} --header 'Subject: hello'\n\
         \x20 curl -s pop3://127.0.0.1:{pop3}/1 --user '{user}:{password}'\n\
         \x20 curl -s 'imap://127.0.0.1:{imap}/INBOX;MAILINDEX=1' --user '{user}:{password}'\n\
         \nCtrl-C ends it.\n\n"
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_copied_and_its_logins_work() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("IMail");
        copy(&fixtures().unwrap().join("imail"), &to, 0).unwrap();
        import(&fixtures().unwrap().join("registry"), &to).unwrap();
        let loaded = store::load(&Root::new(Arc::new(RealDisk::new()), &to)).unwrap();
        for (address, password, _) in LOGINS {
            let (id, domain) = address.split_once('@').unwrap();
            let user = loaded.registry.domain_by_name(domain).unwrap().user(id).unwrap();
            assert!(user.verify(password), "{address}");
        }
        assert!(told(&to, 10_000).contains("127.0.0.1:10025"));
    }
}
