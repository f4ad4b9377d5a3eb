//! `imaild export`: the registry as a `.reg` file, for the way back to IMail.
//!
//! Removed messages whose bytes are still in a mailbox would come to life again there: they are taken out first.

use super::survey::Tree;
use super::{CommandError, DataDirectory, Outcome, print};
use crate::config::Config;
use clap::Args;
use layout::disk::Disk as _;
use layout::lock::PATIENCE;
use layout::mailbox::{Mailbox, MailboxError, Refreshed};
use layout::path::TreePath;
use layout::registry::model::Registry;
use layout::registry::{regfile, store};
use layout::root::{Root, UserDir};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Write the registry back as a .reg file that Windows imports.
#[derive(Args)]
pub(super) struct Export {
    #[command(flatten)]
    directory: DataDirectory,
    /// The file to write; it holds passwords, so only you will be able to read it.
    #[arg(long, value_name = "FILE.reg")]
    out: PathBuf,
}

impl Export {
    pub(super) fn run(self) -> Result<Outcome, CommandError> {
        let root = self.directory.open()?;
        let loaded = store::load_for_start(&root)?;
        if let Some(reason) = loaded.instead {
            return Err(CommandError::Refused(reason));
        }
        let config = Config::new(&root, loaded.registry);
        let (finished, failed) = finish_removals(&Tree::new(&config));
        write_private(&self.out, &regfile::export(&loaded.doc))
            .map_err(CommandError::file(self.out.display()))?;
        print(&told(&self.out, &config.registry, finished));
        match failed.is_empty() {
            true => Ok(Outcome::Done),
            false => Err(CommandError::Refused(format!(
                "removed messages are still in these mailboxes, and would appear again in IMail; stop whatever uses them, and \
                 run this again:\n  {}",
                failed.join("\n  ")
            ))),
        }
    }
}

fn told(out: &Path, registry: &Registry, finished: usize) -> String {
    let mut text = format!(
        "Wrote {} with {} domains and {} users. Removed messages were taken out of {finished} mailboxes.\n",
        out.display(),
        registry.domains.len(),
        registry.user_count()
    );
    if !registry.global.return_to_imail {
        text.push_str(
            "ReturnToIMail is not 1 here: IMail cannot read passwords that are stored as {ARGON2ID}; those users will need \
             new ones there.\n",
        );
    }
    text
}

/// Takes removed messages out of every mailbox that has an index; without one there are none. Says how many mailboxes were
/// gone through, and what did not work.
fn finish_removals(tree: &Tree<'_>) -> (usize, Vec<String>) {
    let (mut finished, mut failed) = (0, Vec::new());
    for domain in &tree.registry.domains {
        for (_, user) in tree.user_dirs(domain) {
            let mailboxes = match user.mailboxes() {
                Ok(mailboxes) => mailboxes,
                Err(error) => {
                    failed.push(format!("{}: {error}", user.path()));
                    continue;
                }
            };
            for mailbox in mailboxes.iter().filter(|mailbox| has_index(tree.root, &mailbox.file)) {
                match finish(tree.root, &user, &mailbox.file) {
                    Ok(()) => finished += 1,
                    // Whatever it is, we removed nothing from it.
                    Err(MailboxError::Foreign { .. }) => {}
                    Err(error) => failed.push(format!("{}: {error}", mailbox.file)),
                }
            }
        }
    }
    (finished, failed)
}

fn has_index(root: &Root, file: &TreePath) -> bool {
    ["rsx", "rsj"].iter().any(|extension| root.disk().stat(&file.with_extension(extension)).is_ok())
}

fn finish(root: &Root, user: &UserDir, file: &TreePath) -> Result<(), MailboxError> {
    let mut mailbox = Mailbox::new(root.shared_disk(), file.clone(), user.file("user.lck"));
    match mailbox.refresh(PATIENCE)? {
        Refreshed::Current => mailbox.tidy(PATIENCE),
        Refreshed::Busy => Err(MailboxError::Locked(file.to_string())),
    }
}

/// Writes a file that only its owner can read, whole or not at all.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".$$$");
    let temporary = PathBuf::from(temporary);
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    let disk = layout::disk::real::RealDisk::new();
    disk.sync_dir(&TreePath::operator(path).parent())
}

#[cfg(test)]
mod tests {
    use super::*;
    use layout::disk::real::RealDisk;
    use layout::mailbox::inspect;
    use layout::name::{MailboxName, UserId};
    use layout::registry::doc::Doc;
    use std::sync::Arc;

    /// In a large mailbox a removed message stays in the file for a while, until export takes it out.
    #[test]
    fn removals_are_finished() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(Arc::new(RealDisk::new()), dir.path());
        let text = "[Global]\nHostName=a.b\n[Domains\\a.b\\Users\\mike]\nFlags=dec:128\n";
        let config = Config::new(&root, Registry::from_doc(&Doc::parse(text.as_bytes().to_vec()).0));
        let user = root.domain(root.top().clone()).user(&UserId::parse("mike").unwrap());
        user.make().unwrap();
        let file = user.mailbox(&MailboxName::inbox());
        let message = |uidl: u32, body: &str| {
            format!(
                "From <a@b.c> Mon Aug 01 10:00:00 2022\r\nX-UIDL: {uidl}\r\nStatus: U\r\n\r\n{body}\r\n\r\n"
            )
        };
        let large = "x".repeat(70).to_owned() + "\r\n";
        let content = message(5, "one") + &message(6, &large.repeat(250_000));
        std::fs::write(file.full(), &content).unwrap();

        let mut mailbox = Mailbox::new(root.shared_disk(), file.clone(), user.file("user.lck"));
        mailbox.refresh(PATIENCE).unwrap();
        mailbox.expunge(&[(5, 5)], PATIENCE).unwrap();
        let seen = inspect(&root.shared_disk(), &file).unwrap();
        assert_eq!((seen.messages, seen.pending_removals, seen.bytes), (1, 1, content.len() as u64));

        assert_eq!(finish_removals(&Tree::new(&config)), (1, Vec::new()));
        let left = std::fs::read_to_string(file.full()).unwrap();
        assert!(!left.contains("X-UIDL: 5") && left.contains("X-UIDL: 6"));
        assert_eq!(inspect(&root.shared_disk(), &file).unwrap().pending_removals, 0);
    }

    #[test]
    fn what_is_written_is_private_and_whole() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.reg");
        std::fs::write(&path, "old").unwrap();
        write_private(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
