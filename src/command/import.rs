//! `imaild import`: from exports of the old server's registry to a `registry.ini`, and a report for the admin.
//!
//! Everything is read and decided before anything is written. Then the registry is written, which is what makes the directory
//! usable, and a `list.ini` for every list without one. Nothing else in the directory is touched. The report is that of `imaild check`, and
//! on top what only the exports tell.

use super::check;
use super::inventory::Inventory;
use super::reading::{ListDir, Tree};
use super::report::{Area, Form, Report};
use super::{CommandError, DataDirectory, Outcome, give_to_owner, lists, pair, read_named, registry_files};
use crate::config::Config;
use crate::session::network::own_addresses;
use clap::Args;
use layout::disk::write_new;
use layout::path::TreePath;
use layout::registry::MAX_FILE_BYTES;
use layout::registry::doc::Doc;
use layout::registry::model::Registry;
use layout::registry::regfile::{self, ImportError, ImportOptions, ImportReport, RegFile, SkippedLine};
use layout::registry::store::{self, StoreError};
use layout::root::Root;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
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
    #[command(flatten)]
    form: Form,
}

impl Import {
    pub(super) fn run(self) -> Result<Outcome, CommandError> {
        self.form.refuse()?;
        let root = self.directory.open()?;
        self.refuse(&root)?;
        let files = self.read()?;
        let (map_dirs, map_ips) = (self.map_dirs.clone(), self.map_ips.clone());
        let (doc, came) =
            regfile::import(&files, &ImportOptions { map_dirs, map_ips, ..ImportOptions::default() })?;
        let config = Config::new(&root, Registry::from_doc(&doc));
        let tree = Tree::new(&config);
        let inventory = Inventory::gather(&tree, &own_addresses());
        let mut report = Report::default();
        of_the_exports(&came, &inventory, &mut report);
        check::everything(&tree, &inventory, Some(&doc), &mut report);
        let mut told = Told { came, doc: &doc, inventory: &inventory, report, written: false, kept: None };
        if !self.dry_run {
            told.kept = store::create(&root, &doc, self.force)?;
            give_to_owner(&root, &registry_files(&root))?;
            write_lists(&root, &doc, &inventory)?;
            told.written = true;
        }
        self.form.tell(|| told.text(&root), || told.json().into())?;
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
fn write_lists(root: &Root, doc: &Doc, inventory: &Inventory<'_>) -> Result<(), CommandError> {
    for (domain, list) in without_settings(inventory) {
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

fn without_settings<'a>(inventory: &'a Inventory<'_>) -> impl Iterator<Item = (&'a str, &'a ListDir)> {
    inventory.domains.iter().flat_map(|found| {
        let lists = found.lists.iter().filter(|list| !list.has_settings);
        lists.map(|list| (found.domain.name.as_str(), list))
    })
}

/// What the directory itself does not tell.
fn of_the_exports(came: &ImportReport, inventory: &Inventory<'_>, report: &mut Report) {
    for SkippedLine { file, line, reason } in &came.skipped {
        report.finding(Area::Registry, format!("{file} line {line}: skipped, expected {reason}"));
    }
    for (domain, ip) in &inventory.addresses_missing {
        report.finding(
            Area::Domain,
            format!(
                "{domain}: this machine does not have the address {ip}. Import again with --map-ip {ip}=NEW --force if it has \
                 another one"
            ),
        );
    }
    if came.services_missing {
        report.finding(
            Area::Registry,
            "the settings of the services are not in these files, so they have their defaults. To take them over, run on the old \
             server: reg export HKLM\\SYSTEM\\CurrentControlSet\\Services\\SMTPD32 smtp.reg (and POP3D32, IMAP4D32), and import \
             these files too",
        );
    }
    report.note(Area::Registry, "mail is relayed for nobody without a login: set RelayMode to change that");
    report.note(
        Area::Registry,
        "logins without TLS are taken from this machine and private networks only: set PlainLogin in [Global] to change that",
    );
}

/// Everything that the admin is told.
struct Told<'a> {
    came: ImportReport,
    doc: &'a Doc,
    inventory: &'a Inventory<'a>,
    report: Report,
    /// Was anything written?
    written: bool,
    /// The registry that was there before.
    kept: Option<TreePath>,
}

impl Told<'_> {
    fn text(&self, root: &Root) -> String {
        let ImportReport { keys, values, .. } = self.came;
        let mut out =
            format!("Read {keys} keys with {values} values: {} domains\n\n", self.inventory.domains.len());
        out.push_str(&self.inventory.text());
        let _ = write!(out, "\nWhat needs attention: {}\n{}\n", self.report.verdict(), self.report.lines());
        if let Some(kept) = &self.kept {
            let _ = writeln!(out, "The registry.ini that was here before is now {kept}.");
        }
        let top = root.top().base().display();
        let _ = match self.written {
            true => writeln!(out, "Wrote {}. Next: imaild serve --root {top}", root.registry_ini()),
            false => writeln!(out, "Nothing was written (--dry-run)."),
        };
        out
    }

    fn json(&self) -> Map<String, Value> {
        let skipped =
            |line: &SkippedLine| json!({ "file": line.file, "line": line.line, "expected": line.reason });
        let taken_over = |(domain, list): (&str, &ListDir)| {
            (format!("{}@{domain}", list.name), json!(lists::taken_over(self.doc, domain, &list.name)))
        };
        let mut fields = self.report.json(self.inventory);
        let more = [
            ("written", json!(self.written)),
            ("kept", json!(self.kept.as_ref().map(TreePath::to_string))),
            ("keys", json!(self.came.keys)),
            ("values", json!(self.came.values)),
            (
                "lists_taken_over",
                without_settings(self.inventory).map(taken_over).collect::<Map<_, _>>().into(),
            ),
            ("services_missing", json!(self.came.services_missing)),
            ("skipped", json!(self.came.skipped.iter().map(skipped).collect::<Vec<_>>())),
        ];
        fields.extend(more.map(|(name, value)| (name.to_owned(), value)));
        fields
    }
}
