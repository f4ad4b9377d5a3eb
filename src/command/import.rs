//! `imaild import`: from exports of the old server's registry to a `registry.ini`, and a report for the admin.
//!
//! Everything is read and decided before anything is written. Then the registry is written, which is what makes the directory
//! usable, and a `list.ini` for every list without one. Nothing else in the directory is touched.

use super::survey::{DomainSurvey, Totals, Tree, human};
use super::{
    CommandError, DataDirectory, Outcome, give_to_owner, lists, pair, print, read_named, registry_files,
};
use crate::config::Config;
use crate::session::network::own_addresses;
use clap::Args;
use layout::disk::write_new;
use layout::path::TreePath;
use layout::registry::MAX_FILE_BYTES;
use layout::registry::alias::{Alias, classify};
use layout::registry::doc::Doc;
use layout::registry::model::Registry;
use layout::registry::regfile::{self, AliasFinding, ImportError, ImportOptions, ImportReport, RegFile};
use layout::registry::store::{self, StoreError};
use layout::root::Root;
use serde_json::json;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;

/// Make registry.ini from exports of the old server's registry.
#[derive(Args)]
pub(super) struct Import {
    #[command(flatten)]
    directory: DataDirectory,
    /// The exports: the SOFTWARE part, and the SYSTEM part with the settings of the services.
    #[arg(required = true, value_name = "FILE.reg")]
    files: Vec<PathBuf>,
    /// An old directory and where it is now, absolute or below the data directory; may be given several times.
    #[arg(long = "map-dir", value_name = "OLD=NEW", value_parser = pair)]
    map_dirs: Vec<(String, String)>,
    /// An old address of the server and the new one; may be given several times.
    #[arg(long = "map-ip", value_name = "OLD=NEW", value_parser = pair)]
    map_ips: Vec<(String, String)>,
    /// Only report what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Replace an existing registry.ini; the old one is kept beside it.
    #[arg(long)]
    force: bool,
    /// Report as JSON.
    #[arg(long)]
    json: bool,
}

impl Import {
    pub(super) fn run(self) -> Result<Outcome, CommandError> {
        let root = self.directory.open()?;
        self.refuse(&root)?;
        let files = self.read()?;
        let (map_dirs, map_ips) = (self.map_dirs.clone(), self.map_ips.clone());
        let (doc, came) =
            regfile::import(&files, &ImportOptions { map_dirs, map_ips, ..ImportOptions::default() })?;
        let config = Config::new(&root, Registry::from_doc(&doc));
        let tree = Tree::new(&config);
        let domains = tree.survey();
        let mut report = Report::new(&tree, came, &domains, &doc);
        if !self.dry_run {
            report.kept = store::create(&root, &doc, self.force)?;
            give_to_owner(&root, &registry_files(&root))?;
            write_lists(&root, &doc, &domains)?;
        }
        report.written = !self.dry_run;
        print(&if self.json { report.json() } else { report.text(&root) });
        Ok(Outcome::Done)
    }

    /// Directories that cannot be meant.
    fn refuse(&self, root: &Root) -> Result<(), CommandError> {
        let ini = root.registry_ini();
        if root.disk().stat(&ini).is_ok() && !self.force {
            return Err(StoreError::Exists(ini.to_string()).into());
        }
        const OF_IMAIL: [&str; 3] = ["users", "lists", "spool"];
        if OF_IMAIL.iter().any(|name| root.existing(root.top(), name).is_some()) {
            return Ok(());
        }
        Err(CommandError::Refused(format!(
            "{} is no IMail directory: it has neither users nor lists nor spool. Copy the whole directory of the old server \
             (such as C:\\Program Files (x86)\\Ipswitch\\IMail), and name the copy with --root; for a new server use imaild init",
            root.top().base().display()
        )))
    }

    fn read(&self) -> Result<Vec<RegFile>, CommandError> {
        let read = |path: &PathBuf| {
            let name = path.display().to_string();
            match read_named(path, MAX_FILE_BYTES)? {
                Some(bytes) => Ok(RegFile { name, bytes }),
                None => Err(ImportError::TooLarge(name).into()),
            }
        };
        self.files.iter().map(read).collect()
    }
}

/// Writes the settings of every list that has none.
fn write_lists(root: &Root, doc: &Doc, domains: &[DomainSurvey<'_>]) -> Result<(), CommandError> {
    for (domain, list) in without_settings(domains) {
        let path = root.find(&list.dir, "list.ini");
        let settings = lists::settings_of(doc, domain, &list.name);
        // There may be a password in it.
        let written = write_new(root.disk(), &path, settings.write())
            .and_then(|()| root.disk().make_private(&path))
            .and_then(|()| root.disk().sync_dir(&list.dir));
        written.map_err(CommandError::file(&path))?;
        give_to_owner(root, &[path])?;
    }
    Ok(())
}

fn without_settings<'a>(
    domains: &'a [DomainSurvey<'_>],
) -> impl Iterator<Item = (&'a str, &'a super::survey::ListDir)> {
    domains.iter().flat_map(|found| {
        let lists = found.lists.iter().filter(|list| !list.has_settings);
        lists.map(|list| (found.domain.name.as_str(), list))
    })
}

/// Everything that the admin is told.
struct Report {
    came: ImportReport,
    domains: Vec<Directory>,
    /// Addresses of domains that this machine lacks.
    addresses_missing: Vec<(String, IpAddr)>,
    /// Group aliases whose file is not there.
    groups_missing: Vec<AliasFinding>,
    /// Was anything written?
    written: bool,
    /// The registry that was there before.
    kept: Option<TreePath>,
}

/// What was found in the directory of one domain.
struct Directory {
    domain: String,
    /// Where it is, if it is there.
    path: Option<String>,
    top_dir: String,
    users: usize,
    without_directory: usize,
    unusable_ids: Vec<String>,
    orphans: Vec<String>,
    lists: Vec<String>,
    /// Lists that get a new `list.ini`, with the settings that the registry has for it.
    lists_without_settings: Vec<(String, Vec<&'static str>)>,
    totals: Totals,
    unreadable: Vec<String>,
}

impl Report {
    fn new(tree: &Tree<'_>, came: ImportReport, domains: &[DomainSurvey<'_>], doc: &Doc) -> Report {
        Report {
            came,
            domains: domains.iter().map(|found| Directory::new(found, doc)).collect(),
            addresses_missing: addresses_missing(tree.registry, &own_addresses()),
            groups_missing: groups_missing(tree),
            written: false,
            kept: None,
        }
    }

    fn text(&self, root: &Root) -> String {
        let mut out = format!("{}\n", self.came);
        for line in self.attention() {
            let _ = writeln!(out, "- {line}");
        }
        out.push_str("\nWhat is in the directory:\n");
        for domain in &self.domains {
            let _ = writeln!(out, "  {}", domain.summary());
        }
        out.push('\n');
        if let Some(kept) = &self.kept {
            let _ = writeln!(out, "The registry.ini that was here before is now {kept}.");
        }
        let top = root.top().base();
        let _ = match self.written {
            true => {
                writeln!(out, "Wrote {}. Next: imaild serve --root {}", root.registry_ini(), top.display())
            }
            false => writeln!(out, "Nothing was written (--dry-run)."),
        };
        out
    }

    /// What the registry alone does not tell.
    fn attention(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.domains.iter().flat_map(Directory::attention).collect();
        lines.extend(self.addresses_missing.iter().map(|(domain, ip)| {
            format!(
                "{domain}: this machine does not have the address {ip}. Import again with --map-ip {ip}=NEW --force if it \
                 has another one"
            )
        }));
        lines.extend(self.groups_missing.iter().map(|found| {
            format!("group alias {}@{}: the file {} is not there", found.alias, found.domain, found.value)
        }));
        lines
    }

    fn json(&self) -> String {
        let alias = |found: &AliasFinding| json!({ "domain": found.domain, "alias": found.alias, "value": found.value });
        let aliases = |all: &[AliasFinding]| all.iter().map(alias).collect::<Vec<_>>();
        let domain = |(at, directory): (usize, &Directory)| {
            let came = self.came.domains.get(at);
            json!({
                "name": directory.domain,
                "address": came.map(|came| &came.address),
                "other_names": came.map(|came| &came.other_names),
                "users": directory.users,
                "users_disabled": came.map(|came| came.disabled),
                "users_without_directory": directory.without_directory,
                "users_unusable": directory.unusable_ids,
                "passwords_kept": came.map(|came| came.passwords_kept),
                "passwords_unknown": came.map(|came| &came.passwords_unknown),
                "passwords_missing": came.map(|came| &came.passwords_missing),
                "aliases": came.map(|came| json!({
                    "standard": came.standard_aliases,
                    "group": came.group_aliases,
                    "program": came.program_aliases,
                    "list_server": came.list_server_aliases,
                })),
                "directory": directory.path,
                "directories_of_nobody": directory.orphans,
                "lists": directory.lists,
                "lists_without_settings": directory.lists_without_settings.iter().map(|(list, _)| list).collect::<Vec<_>>(),
                "lists_taken_over": directory.lists_without_settings.iter().cloned().collect::<HashMap<_, _>>(),
                "mailboxes": directory.totals.mailboxes,
                "messages": directory.totals.messages,
                "bytes": directory.totals.bytes,
                "unreadable": directory.unreadable,
            })
        };
        let skipped = |line: &regfile::SkippedLine| json!({ "file": line.file, "line": line.line, "expected": line.reason });
        let missing =
            |(domain, ip): &(String, IpAddr)| json!({ "domain": domain, "address": ip.to_string() });
        let report = json!({
            "written": self.written,
            "kept": self.kept.as_ref().map(TreePath::to_string),
            "keys": self.came.keys,
            "values": self.came.values,
            "domains": self.domains.iter().enumerate().map(domain).collect::<Vec<_>>(),
            "programs_off": aliases(&self.came.programs_off),
            "unclear_aliases": aliases(&self.came.unclear_aliases),
            "groups_missing": aliases(&self.groups_missing),
            "paths_outside": self.came.paths_outside,
            "addresses_missing": self.addresses_missing.iter().map(missing).collect::<Vec<_>>(),
            "services_missing": self.came.services_missing,
            "skipped": self.came.skipped.iter().map(skipped).collect::<Vec<_>>(),
            "notes": self.came.notes,
        });
        format!("{report:#}\n")
    }
}

impl Directory {
    fn new(found: &DomainSurvey<'_>, doc: &Doc) -> Directory {
        let failed = found.mailboxes.iter().filter_map(|mailbox| match &mailbox.seen {
            Err(error) => Some(super::check::mailbox_error(&mailbox.file, error)),
            Ok(_) => None,
        });
        Directory {
            domain: found.domain.name.clone(),
            path: found
                .dir
                .as_ref()
                .filter(|_| found.exists)
                .map(|dir| dir.top().to_string().trim_end_matches('/').to_owned()),
            top_dir: found.domain.top_dir.clone(),
            users: found.domain.users.len(),
            without_directory: found.without_directory,
            unusable_ids: found.unusable_ids.clone(),
            orphans: found.orphans.iter().map(TreePath::to_string).collect(),
            lists: found.lists.iter().map(|list| list.name.clone()).collect(),
            lists_without_settings: without_settings(std::slice::from_ref(found))
                .map(|(domain, list)| (list.name.clone(), lists::taken_over(doc, domain, &list.name)))
                .collect(),
            totals: found.totals(),
            unreadable: found.unreadable.iter().cloned().chain(failed).collect(),
        }
    }

    fn summary(&self) -> String {
        let Some(path) = &self.path else { return format!("{}: no directory", self.domain) };
        let Totals { mailboxes, messages, bytes } = self.totals;
        format!(
            "{} in {path}: {mailboxes} mailboxes with {messages} messages, {}; {} lists; {} users have no directory yet, \
             which is no fault",
            self.domain,
            human(bytes),
            self.lists.len(),
            self.without_directory
        )
    }

    fn attention(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let domain = &self.domain;
        if self.path.is_none() {
            lines.push(format!(
                "{domain}: its directory {} is not there: copy it, or say with --map-dir OLD=NEW where it is",
                self.top_dir
            ));
        }
        for id in &self.unusable_ids {
            lines.push(format!(
                "{domain}: the user {id} has an ID that can be no directory name, and cannot be served"
            ));
        }
        for (list, taken) in &self.lists_without_settings {
            let from = match taken.is_empty() {
                true => "its settings are not in the registry".to_owned(),
                false => format!("the registry gave {}", taken.join(", ")),
            };
            let posting = match taken.contains(&"AllowPostingBy") {
                true => "see list.ini",
                false => {
                    "every post goes to the owner until list.ini says otherwise: see AllowPostingBy there"
                }
            };
            lines.push(format!("list {list}@{domain}: {from}; {posting}"));
        }
        for path in &self.orphans {
            lines.push(format!("{path}: a directory of no user; nothing reads it"));
        }
        lines.extend(self.unreadable.iter().cloned());
        lines
    }
}

/// Addresses of mapping keys that this machine does not have.
fn addresses_missing(registry: &Registry, local: &[IpAddr]) -> Vec<(String, IpAddr)> {
    let ips = registry.mappings.iter().filter_map(|mapping| {
        let ip: IpAddr = mapping.address.parse().ok()?;
        Some((mapping.official.clone(), ip))
    });
    ips.filter(|(_, ip)| !ip.is_loopback() && !local.contains(ip)).collect()
}

/// Group aliases whose file is nowhere.
fn groups_missing(tree: &Tree<'_>) -> Vec<AliasFinding> {
    let mut found = Vec::new();
    for domain in &tree.registry.domains {
        for entry in domain.aliases.values() {
            let Alias::Group(path) = classify(&entry.value) else { continue };
            if tree.group_file(domain, &path).is_none() {
                let (domain, alias) = (domain.name.clone(), entry.name.clone());
                found.push(AliasFinding { domain, alias, value: path });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_this_machine_lacks() {
        let text = "[Domains\\192.0.2.10]\nOfficial=a.b\n[Domains\\127.0.0.1]\nOfficial=c.d\n[Domains\\$virtual001]\nOfficial=e.f\n\
             [Domains\\192.0.2.11]\nOfficial=g.h\n";
        let registry = Registry::from_doc(&Doc::parse(text.as_bytes().to_vec()).0);
        let local = ["192.0.2.11".parse().unwrap()];
        assert_eq!(addresses_missing(&registry, &local), [("a.b".to_owned(), "192.0.2.10".parse().unwrap())]);
    }
}
