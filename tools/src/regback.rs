//! `regback`: writes the registry to a backup file, lists the backups, and restores one.
//!
//! IMail's program of this name writes the registry branch to a file, as its administration's "Backup" button does, which also lists and
//! restores; its letters are not documented, so all switches here are ours and long.
//!
//! Failure: a text; nothing was changed. Limits: those of the registry.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use layout::disk::{Disk, Open};
use layout::owner::give_to_owner;
use layout::path::TreePath;
use layout::registry::MAX_FILE_BYTES;
use layout::registry::doc::Doc;
use layout::registry::model::Registry;
use layout::registry::store;
use layout::root::Root;

use crate::program::registry::snapshot;
use crate::program::switches::{Given, Operands, Table, Takes, UsageError};
use crate::program::{Failure, Outcome, Program, open_root, say};

/// The directory for backups, below the IMail directory.
const DIRECTORY: &str = "backup";
/// How their names begin and end.
const NAME: (&str, &str) = ("registry-", ".ini");

const USAGE: &str = "\
Usage: regback [FILE]                       back the registry up
       regback --list                       list the backups
       regback --restore FILE [--dry-run]   restore one; the present registry.ini is kept beside it

Without FILE the backup is backup/registry-YYYYMMDD-HHMMSS.ini in the IMail directory. It holds passwords: only its
owner can read it. A running server uses a restored registry within seconds.

  --list       the backups in that directory, the newest last
  --restore FILE  a path, or the name of a backup in that directory
  --dry-run    say what --restore would change, and change nothing
  --root DIR   the IMail directory; without it the environment variable IMAIL_ROOT counts, then the current
               directory if it holds registry.ini
  --help       this text
  --version    the version

Exit code: 0 done, 1 refused or failed, 2 wrong usage.";

const PROGRAM: Program = Program {
    name: "regback",
    about: "Backs the registry up and restores it",
    usage: USAGE,
    table: Table {
        switches: &[
            ("--list", Takes::Nothing),
            ("--restore", Takes::Value("a file name")),
            ("--dry-run", Takes::Nothing),
        ],
        operands: Operands::Anywhere,
    },
};

/// Runs the program.
pub fn main() -> ExitCode {
    PROGRAM.main(run)
}

fn run(given: &Given) -> Result<Outcome, Failure> {
    let (list, restored) = (given.has("--list"), given.value("--restore"));
    let what = usize::from(list) + usize::from(restored.is_some()) + given.operands.len();
    if what > 1 {
        return Err(UsageError("one of FILE, --list and --restore FILE can be given".into()).into());
    }
    if given.has("--dry-run") && restored.is_none() {
        return Err(UsageError("--dry-run goes with --restore".into()).into());
    }
    let root = open_root(given.root.as_deref())?;
    match restored {
        Some(file) => restore(&root, file, given.has("--dry-run"))?,
        None if list => self::list(&root)?,
        None => back_up(&root, given.operands.first().map(Path::new))?,
    }
    Ok(Outcome::Done)
}

fn back_up(root: &Root, named: Option<&Path>) -> Result<(), Failure> {
    let loaded = snapshot(root).map_err(Failure::of)?;
    if let Some(reason) = loaded.instead {
        return Err(Failure::Failed(reason));
    }
    let dir = root.find(root.top(), DIRECTORY);
    let file = match named {
        Some(file) => file.to_owned(),
        None => {
            root.make_dirs(&dir).and_then(|()| give_to_owner(root, &dir)).map_err(Failure::of)?;
            let time = chrono::Local::now().format("%Y%m%d-%H%M%S");
            dir.full().join(format!("{}{time}{}", NAME.0, NAME.1))
        }
    };
    let path = TreePath::operator(&file);
    write(root.disk(), &path, &loaded.doc.render())
        .and_then(|()| give_to_owner(root, &path))
        .map_err(|error| Failure::Failed(format!("{path}: {error}")))?;
    say(&format!("{path}: {}", counts(&loaded.registry)));
    Ok(())
}

/// Writes a new file that only its owner can read, durably.
fn write(disk: &dyn Disk, path: &TreePath, bytes: &[u8]) -> std::io::Result<()> {
    let handle = disk.open(path, Open::CreateNew)?;
    disk.make_private(path)?;
    handle.append(bytes)?;
    handle.sync()?;
    disk.sync_dir(&path.parent())
}

fn counts(registry: &Registry) -> String {
    let aliases: usize = registry.domains.iter().map(|domain| domain.aliases.len()).sum();
    format!("{} domains, {} users, {aliases} aliases", registry.domains.len(), registry.user_count())
}

fn list(root: &Root) -> Result<(), Failure> {
    let dir = root.find(root.top(), DIRECTORY);
    // Without the directory there is none.
    for entry in root.disk().list(&dir).unwrap_or_default() {
        let name = entry.name.to_string_lossy();
        if name.starts_with(NAME.0) && name.ends_with(NAME.1) {
            say(&name);
        }
    }
    Ok(())
}

/// The file that `--restore` names.
fn named(root: &Root, file: &str) -> PathBuf {
    let backup = root.find(root.top(), DIRECTORY).full().join(file);
    if !file.contains('/') && !Path::new(file).exists() && backup.exists() { backup } else { file.into() }
}

fn restore(root: &Root, file: &str, dry: bool) -> Result<(), Failure> {
    let path = TreePath::operator(&named(root, file));
    let refused = |reason: &dyn std::fmt::Display| Failure::Failed(format!("{path}: {reason}"));
    let bytes = root.disk().read(&path, MAX_FILE_BYTES).map_err(|error| refused(&error))?;
    let (doc, complaints) = Doc::parse(bytes);
    let registry = Registry::from_doc(&doc);
    if let Some(complaint) = complaints.first() {
        return Err(refused(&complaint));
    }
    if !registry.has_global || registry.domains.is_empty() {
        return Err(refused(&"this is no registry: it has no section [Global] or no domain"));
    }
    let present = store::load(root).ok();
    if present.as_ref().is_some_and(|present| present.registry.has_end_line) && !registry.has_end_line {
        return Err(refused(&"its last line is gone: it may be cut off"));
    }
    let before = present.map_or_else(|| "none".to_owned(), |present| counts(&present.registry));
    say(&format!("Now: {before}. In {path}: {}", counts(&registry)));
    if dry {
        return Ok(());
    }
    let kept = store::create(root, &doc, true).map_err(Failure::of)?;
    for file in [root.registry_ini(), root.registry_good(), root.registry_lock()] {
        give_to_owner(root, &file).map_err(Failure::of)?;
    }
    if let Some(kept) = kept {
        give_to_owner(root, &kept).map_err(Failure::of)?;
        say(&format!("Restored; the one before is now {kept}"));
    }
    Ok(())
}
