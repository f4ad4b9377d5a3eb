//! `imaild check`: reads everything, changes nothing, and says what is wrong.
//!
//! A finding is something that the admin should do something about; a note is good to know and no fault. The server may be
//! running: what changes this moment is looked at again, and young files of the spool are left out.

mod addresses;
mod list;
mod message;
mod permissions;
mod registry;
mod rules;
mod spool;
mod tree;
mod user;

use super::survey::{Totals, Tree, human};
use super::{CommandError, DataDirectory, Outcome, print};
use crate::config::Config;
use crate::session::network::own_addresses;
use clap::Args;
use layout::mailbox::MailboxError;
use layout::path::TreePath;
use layout::registry::store;
use message::Question;
use serde_json::json;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Most findings, and most notes, that are listed; more say nothing new.
const LISTED_MAX: usize = 10_000;

/// Read everything, change nothing, and report what is wrong.
#[derive(Args)]
pub(super) struct Check {
    #[command(flatten)]
    directory: DataDirectory,
    /// Report as JSON.
    #[arg(long)]
    json: bool,
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
        let root = self.directory.open()?;
        let loaded = store::load(&root)?;
        let config = Config::new(&root, loaded.registry);
        let tree = Tree::new(&config);
        if let Some(address) = &self.user {
            let found = user::about(&tree, address)?;
            print(&if self.json { found.json() } else { found.text() });
            return Ok(Outcome::Done);
        }
        if let Some(address) = &self.list {
            let found = list::about(&tree, address)?;
            print(&if self.json { found.json() } else { found.text() });
            return Ok(Outcome::Done);
        }
        if let (Some(message), Some(recipient)) = (&self.message, &self.rcpt) {
            let sender = self.from.as_deref();
            let found = message::about(&config, &Question { message, recipient, sender })?;
            print(&if self.json { found.json() } else { found.text() });
            return Ok(Outcome::Done);
        }
        let mut report = Report::default();
        registry::check(&root, &config.registry, &loaded.complaints, &own_addresses(), &mut report);
        tree::check(&tree, &mut report);
        addresses::check(&tree, &mut report);
        rules::check(&tree, &config, &mut report);
        spool::check(&root, &mut report);
        permissions::check(&root, &mut report);
        print(&if self.json { report.json(&tree) } else { report.text(&tree) });
        Ok(if report.findings.count == 0 { Outcome::Done } else { Outcome::Findings })
    }
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Area {
    Registry,
    Domain,
    User,
    Mailbox,
    List,
    Alias,
    Rule,
    Spool,
    Permissions,
}

impl Area {
    fn name(self) -> &'static str {
        match self {
            Area::Registry => "registry",
            Area::Domain => "domain",
            Area::User => "user",
            Area::Mailbox => "mailbox",
            Area::List => "list",
            Area::Alias => "alias",
            Area::Rule => "rule",
            Area::Spool => "spool",
            Area::Permissions => "permissions",
        }
    }
}

/// Lines about the directory, at most [`LISTED_MAX`] of them.
#[derive(Default)]
struct Lines {
    count: usize,
    listed: Vec<(Area, String)>,
}

impl Lines {
    fn add(&mut self, area: Area, text: String) {
        self.count += 1;
        if self.listed.len() < LISTED_MAX {
            self.listed.push((area, text));
        }
    }

    fn json(&self) -> serde_json::Value {
        let lines = self.listed.iter().map(|(area, text)| json!({ "area": area.name(), "text": text }));
        lines.collect()
    }
}

/// What was found.
#[derive(Default)]
struct Report {
    findings: Lines,
    notes: Lines,
    totals: Totals,
}

impl Report {
    fn finding(&mut self, area: Area, text: impl Into<String>) {
        self.findings.add(area, text.into());
    }

    fn note(&mut self, area: Area, text: impl Into<String>) {
        self.notes.add(area, text.into());
    }

    fn text(&self, tree: &Tree<'_>) -> String {
        let mut out = String::new();
        for (area, text) in &self.findings.listed {
            let _ = writeln!(out, "{}: {text}", area.name());
        }
        for (area, text) in &self.notes.listed {
            let _ = writeln!(out, "note: {}: {text}", area.name());
        }
        let more = self.findings.count - self.findings.listed.len();
        if more > 0 {
            let _ = writeln!(out, "{more} more findings are not listed: put these right, and run this again");
        }
        let Totals { mailboxes, messages, bytes } = self.totals;
        let _ = writeln!(
            out,
            "{} domains, {} users, {mailboxes} mailboxes with {messages} messages, {}: {}",
            tree.registry.domains.len(),
            tree.registry.user_count(),
            human(bytes),
            match self.findings.count {
                0 => "nothing is wrong".to_owned(),
                1 => "1 finding".to_owned(),
                count => format!("{count} findings"),
            }
        );
        out
    }

    fn json(&self, tree: &Tree<'_>) -> String {
        let report = json!({
            "findings": self.findings.json(),
            "notes": self.notes.json(),
            "finding_count": self.findings.count,
            "domains": tree.registry.domains.len(),
            "users": tree.registry.user_count(),
            "mailboxes": self.totals.mailboxes,
            "messages": self.totals.messages,
            "bytes": self.totals.bytes,
        });
        format!("{report:#}\n")
    }
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
