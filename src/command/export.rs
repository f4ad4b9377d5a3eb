//! `imaild export`: the registry as a `.reg` file, for the way back to IMail.
//!
//! Removed messages whose bytes are still in a mailbox would come to life again there: they are taken out first. What IMail cannot take over
//! is named: passwords in our form, mail that is held, files that only we know.

use super::inventory::{some_of, with_password};
use super::queue::Spool;
use super::reading::{Tree, files_below};
use super::{CommandError, DataDirectory, Outcome, print, write_private};
use crate::config::Config;
use crate::serve::board;
use clap::Args;
use layout::lock::PATIENCE;
use layout::mailbox::{Mailbox, MailboxError, Refreshed};
use layout::own;
use layout::password::Stored;
use layout::path::TreePath;
use layout::registry::{regfile, store};
use layout::root::{Root, UserDir};
use layout::spool::store::State;
use std::collections::BTreeMap;
use std::path::PathBuf;

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
        let tree = Tree::new(&config);
        let (finished, failed) = finish_removals(&tree);
        write_private(&self.out, &regfile::export(&loaded.doc))
            .map_err(CommandError::file(self.out.display()))?;
        let mut text = format!(
            "Wrote {} with {} domains and {} users. Removed messages were taken out of {finished} mailboxes.\n",
            self.out.display(),
            config.registry.domains.len(),
            config.registry.user_count()
        );
        for warning in warnings(&tree)? {
            text.push_str(&format!("\n- {warning}\n"));
        }
        print(&text);
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

/// What the admin should know before IMail gets the tree.
fn warnings(tree: &Tree<'_>) -> Result<Vec<String>, CommandError> {
    let mut all = Vec::new();
    if !board::running(tree.root).is_empty() {
        all.push(
            "imaild is running on this directory. What it changes from now on is not in the export: stop it, and export again"
                .to_owned(),
        );
    }
    let users = |kind| -> Vec<String> {
        let domains = tree.registry.domains.iter();
        domains
            .flat_map(|domain| {
                with_password(domain, kind).into_iter().map(|id| format!("{id}@{}", domain.name))
            })
            .collect()
    };
    for (kind, text) in [
        (
            Stored::Argon2,
            "have a password that is stored as {ARGON2ID}, which IMail cannot read: they need a new one there",
        ),
        (Stored::Unknown, "have a password in a form that is not IMail's known one; it goes back as it came"),
    ] {
        let users = users(kind);
        if !users.is_empty() {
            all.push(format!("{} users {text}: {}", users.len(), some_of(&users)));
        }
    }
    if !tree.registry.global.return_to_imail {
        all.push(
            "ReturnToIMail is not 1 here, so new passwords are stored as {ARGON2ID}, and mailboxes may grow beyond what IMail can \
             read: set it to 1"
                .to_owned(),
        );
    }
    all.extend(waiting(tree.root)?);
    all.extend(ours(tree));
    Ok(all)
}

/// Mail that is on its way.
fn waiting(root: &Root) -> Result<Vec<String>, CommandError> {
    let spool = Spool::open(root)?;
    let count = |states: &[State]| {
        spool.iter().flat_map(Spool::items).filter(|item| states.contains(&item.state)).count()
    };
    let (waiting, held) = (count(&[State::Waiting, State::Claimed]), count(&[State::Held]));
    let mut all = Vec::new();
    if waiting > 0 {
        all.push(format!("{waiting} messages wait in the spool. IMail goes on with them if the spool is copied: see imaild queue list"));
    }
    if held > 0 {
        all.push(format!(
            "{held} messages in the spool are held, which IMail does not know: it would never send them. See imaild queue list, and \
             release them (imaild queue release ID), or delete them"
        ));
    }
    Ok(all)
}

/// The files of ours that can go, with the command that removes them.
fn ours(tree: &Tree<'_>) -> Option<String> {
    let mut tops = vec![tree.root.top().full()];
    let domains = tree.registry.domains.iter().filter_map(|domain| tree.domain_dir(domain));
    for top in domains.map(|dir| dir.top().full()) {
        if !tops.iter().any(|other| top.starts_with(other)) {
            tops.push(top);
        }
    }
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for top in &tops {
        files_below(top, 0, &mut |file| {
            if let Some(pattern) = own::deletable(&file) {
                *kinds.entry(pattern.glob()).or_default() += 1;
            }
        });
    }
    if kinds.is_empty() {
        return None;
    }
    let count: usize = kinds.values().sum();
    let names: Vec<String> = kinds.keys().map(|glob| format!("-name '{glob}'")).collect();
    let dirs: Vec<String> = tops.iter().map(|top| format!("'{}'", top.display())).collect();
    Some(format!(
        "{count} files are ours alone; IMail leaves them alone. In the copy that goes back they can be deleted:\n  find {} -type f \\( {} \\) -delete",
        dirs.join(" "),
        names.join(" -o ")
    ))
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

#[cfg(test)]
mod tests {
    use super::*;
    use layout::disk::real::RealDisk;
    use layout::mailbox::{Trust, inspect};
    use layout::name::{MailboxName, UserId};
    use layout::registry::doc::Doc;
    use layout::registry::model::Registry;
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
        let seen = inspect(&root.shared_disk(), &file, Trust::Nothing).unwrap();
        assert_eq!((seen.messages, seen.pending_removals, seen.bytes), (1, 1, content.len() as u64));

        assert_eq!(finish_removals(&Tree::new(&config)), (1, Vec::new()));
        let left = std::fs::read_to_string(file.full()).unwrap();
        assert!(!left.contains("X-UIDL: 5") && left.contains("X-UIDL: 6"));
        assert_eq!(inspect(&root.shared_disk(), &file, Trust::Nothing).unwrap().pending_removals, 0);
    }
}
