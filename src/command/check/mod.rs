//! `imaild check`: reads everything, changes nothing, and says what is wrong.
//!
//! The server may be running: what changes this moment is looked at again, and young files of the spool are left out. A mailbox is read
//! where its index does not vouch for it; `mbxcheck` reads all of them whole, and finds more kinds of damage.

mod addresses;
mod list;
mod message;
mod permissions;
mod registry;
mod rules;
mod spool;
mod tree;
mod user;

use super::inventory::{Inventory, Totals, human};
use super::reading::Tree;
use super::report::{Area, Form, Report};
use super::{CommandError, DataDirectory, Outcome};
use crate::config::Config;
use crate::session::network::own_addresses;
use clap::Args;
use layout::mailbox::MailboxError;
use layout::path::TreePath;
use layout::registry::doc::Doc;
use layout::registry::store;
use message::Question;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Read everything, change nothing, and report what is wrong.
#[derive(Args)]
pub(super) struct Check {
    #[command(flatten)]
    directory: DataDirectory,
    #[command(flatten)]
    form: Form,
    /// Only this user: settings in force, lists and group aliases that contain the user.
    #[arg(long, value_name = "ADDRESS")]
    user: Option<String>,
    /// Only this mailing list: settings in force, and how many are on it.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "user")]
    list: Option<String>,
    /// Only this message: where it would go, and which rule would match.
    #[arg(long, value_name = "FILE", requires = "rcpt", conflicts_with_all = ["user", "list"])]
    message: Option<PathBuf>,
    /// With --message: who is to get it.
    #[arg(long, value_name = "ADDRESS", requires = "message")]
    rcpt: Option<String>,
    /// With --message: who sends it. A sender of a domain here counts as logged in, and its outbound rules apply.
    #[arg(long, value_name = "ADDRESS", requires = "message")]
    from: Option<String>,
}

impl Check {
    pub(super) fn run(self) -> Result<Outcome, CommandError> {
        self.form.refuse()?;
        let root = self.directory.open()?;
        let loaded = store::load(&root)?;
        let config = Config::new(&root, loaded.registry);
        let tree = Tree::new(&config);
        if let Some(address) = &self.user {
            let found = user::about(&tree, address)?;
            self.form.tell(|| found.text(), || found.json())?;
            return Ok(Outcome::Done);
        }
        if let Some(address) = &self.list {
            let found = list::about(&tree, address)?;
            self.form.tell(|| found.text(), || found.json())?;
            return Ok(Outcome::Done);
        }
        if let (Some(message), Some(recipient)) = (&self.message, &self.rcpt) {
            let sender = self.from.as_deref();
            let found = message::about(&config, &Question { message, recipient, sender })?;
            self.form.tell(|| found.text(), || found.json())?;
            return Ok(Outcome::Done);
        }
        let local = own_addresses();
        let mut report = Report::default();
        registry::in_use(&root, &config.registry, &loaded.complaints, &local, &mut report);
        let inventory = Inventory::gather(&tree, &local);
        everything(&tree, &inventory, None, &mut report);
        self.form.tell(|| text(&inventory, &report), || report.json(&inventory).into())?;
        Ok(if report.findings.count == 0 { Outcome::Done } else { Outcome::Findings })
    }
}

/// Checks all that a tree that was just copied and one in use have in common. `fresh` is the registry of an import, which is about to make the
/// settings of lists that have none.
pub(super) fn everything(
    tree: &Tree<'_>,
    inventory: &Inventory<'_>,
    fresh: Option<&Doc>,
    report: &mut Report,
) {
    registry::check(tree.registry, report);
    tree::check(tree.registry, inventory, fresh, report);
    addresses::check(tree, report);
    rules::check(tree, report);
    spool::check(tree.root, report);
    permissions::check(tree.root, report);
}

fn text(inventory: &Inventory<'_>, report: &Report) -> String {
    let mut out = inventory.text();
    let _ = write!(out, "\n{}", report.lines());
    let Totals { mailboxes, messages, bytes } = inventory.totals();
    let _ = writeln!(
        out,
        "{} domains, {} users, {mailboxes} mailboxes with {messages} messages, {}: {}",
        inventory.domains.len(),
        inventory.users(),
        human(bytes),
        report.verdict()
    );
    out
}

/// Why a mailbox cannot be read, with the name of its file.
pub(super) fn mailbox_error(file: &TreePath, error: &MailboxError) -> String {
    match error {
        MailboxError::Foreign { why, .. } => {
            format!(
                "{file}: {why}. It is shown to nobody and never changed; move it elsewhere, or convert it"
            )
        }
        error => format!("{file}: {error}"),
    }
}
