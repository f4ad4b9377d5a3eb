//! `mbxcheck`: looks for damage in mailboxes, shows what is in them, makes indexes anew, and repairs into new files.
//!
//! It is ours; IMail has no such program. What counts as damage, and what a repair does, is said in [`layout::mbx::repair`].
//! A mailbox that a server writes to at this moment may look torn, so what is found in one that was just changed is looked at again under its lock.
//!
//! * [`dump`]: the messages of a mailbox, one a line
//! * [`repair`]: the new file, and what has no place in it
//!
//! Failure: a mailbox that cannot be read is reported and counts as a finding; the others go on. Limits: [`FILES_MAX`], [`DEPTH_MAX`].

pub mod dump;
pub mod repair;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use layout::disk::real::RealDisk;
use layout::disk::{Disk, Open};
use layout::lock::{self, PATIENCE};
use layout::mailbox::{IndexState, Mailbox, Trust, inspect};
use layout::mbx::repair::{Nowhere, Report, examine};
use layout::mbx::scan::UNFINISHED_FOR;
use layout::path::TreePath;

use crate::program::parallel;
use crate::program::switches::{Given, Operands, Table, Takes, UsageError};
use crate::program::{Failure, Outcome, Program, complain, say};
use repair::Target;

/// The most mailboxes of one run.
pub const FILES_MAX: usize = 10_000_000;
/// How deep directories are followed.
pub const DEPTH_MAX: usize = 64;

const USAGE: &str = "\
Usage: mbxcheck PATH... [--verify|--dump|--rebuild|--repair OUT]

Each PATH is a mailbox, or a directory whose mailboxes (*.mbx) are taken, those in directories below it too.
It works while the server runs, and needs no IMail directory.

  --verify       look for damage, change nothing; this is done without any of the four
  --dump         list the messages: number, offset, bytes, flag letter, date, X-UIDL, subject
  --rebuild      make the index anew; UIDs, flags and keywords that the old one knows stay
  --repair OUT   write what is whole to OUT. Bytes that have no place in it go to OUT with .lost in place of
                 .mbx, so that none is lost. The mailbox itself is not changed. For a directory, or several
                 paths, OUT is a directory and gets all mailboxes, whole ones too. No file is overwritten.
                 Removed messages whose bytes are still in the file are in OUT again
  --help         this text
  --version      the version

Damage: NUL bytes in a row, a torn tail, a message that begins within a line, a separator without a header, text
before the first message, a file that is no IMail mailbox; and an index that contradicts its mailbox.

Exit code: 0 no damage found, 1 damage found (and with --repair repaired), 2 wrong usage or not run.";

const PROGRAM: Program = Program {
    name: "mbxcheck",
    about: "Verifies, dumps, rebuilds and repairs mailboxes",
    usage: USAGE,
    table: Table {
        switches: &[
            ("--verify", Takes::Nothing),
            ("--dump", Takes::Nothing),
            ("--rebuild", Takes::Nothing),
            ("--repair", Takes::Value("a new file, or a directory")),
        ],
        operands: Operands::Anywhere,
    },
};

/// Runs the program.
pub fn main() -> ExitCode {
    PROGRAM.main(run)
}

enum Mode {
    Verify,
    Dump,
    Rebuild,
    Repair(Target),
}

fn run(given: &Given) -> Result<Outcome, Failure> {
    given.at_most_one(&["--verify", "--dump", "--rebuild", "--repair"])?;
    if given.operands.is_empty() {
        return Err(UsageError("no mailbox is named".into()).into());
    }
    let paths: Vec<PathBuf> = given.operands.iter().map(PathBuf::from).collect();
    let mode = match (given.value("--repair"), given.has("--dump"), given.has("--rebuild")) {
        (Some(out), ..) => Mode::Repair(Target::of(Path::new(out), &paths)?),
        (_, true, _) => Mode::Dump,
        (_, _, true) => Mode::Rebuild,
        _ => Mode::Verify,
    };
    let files = files(&paths)?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new());
    let mut told: Vec<Option<Told>> = files.iter().map(|_| None).collect();
    parallel::each(
        &files,
        "mailboxes",
        |file| one(&disk, file, &mode),
        |at, result| {
            if let Some(slot) = told.get_mut(at) {
                *slot = Some(result);
            }
        },
    );
    let mut damaged = 0;
    for (file, told) in files.iter().zip(told.into_iter().flatten()) {
        damaged += usize::from(told.damaged);
        told.lines.iter().for_each(|line| say(line));
        if let Some(error) = told.error {
            complain(&format!("mbxcheck: {}: {error}", file.path.display()));
        }
    }
    if !matches!(mode, Mode::Dump) {
        say(&format!("{} mailboxes, {damaged} with findings", files.len()));
    }
    Ok(Outcome::of(damaged > 0))
}

/// A mailbox to work on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where it is.
    path: PathBuf,
    /// Where it is below the path that was named; its name if it was named itself.
    below: PathBuf,
}

/// What there is to say of a mailbox.
#[derive(Default)]
struct Told {
    lines: Vec<String>,
    damaged: bool,
    error: Option<String>,
}

impl Told {
    fn line(line: String) -> Told {
        Told { lines: vec![line], ..Told::default() }
    }
}

fn one(disk: &Arc<dyn Disk>, file: &File, mode: &Mode) -> Told {
    let path = TreePath::operator(&file.path);
    let result = match mode {
        Mode::Verify => verify(disk, &path),
        Mode::Dump => dump::dump(&**disk, &path).map(|lines| Told { lines, ..Told::default() }),
        Mode::Rebuild => rebuild(disk, &path),
        Mode::Repair(target) => repair::repair(&**disk, file, target).map(|(report, note)| {
            let mut told = findings(&path, &report);
            told.lines.push(note);
            told
        }),
    };
    result.unwrap_or_else(|error| Told { damaged: true, error: Some(error), ..Told::default() })
}

/// The findings of a report, a line each.
fn findings(path: &TreePath, report: &Report) -> Told {
    let line = |finding: &layout::mbx::repair::Finding| {
        let (offset, length) = (finding.offset, finding.length);
        format!("{path}: {} at byte {offset}, {length} bytes", finding.damage)
    };
    let mut lines: Vec<String> = report.findings.iter().map(line).collect();
    if report.more > 0 {
        lines.push(format!("{path}: {} more findings", report.more));
    }
    Told { damaged: !lines.is_empty(), lines, error: None }
}

fn verify(disk: &Arc<dyn Disk>, path: &TreePath) -> Result<Told, String> {
    let report = look(&**disk, path).map_err(|error| error.to_string())?;
    let mut told = findings(path, &report);
    // Without an index there is nothing that could contradict the file.
    if disk.stat(&path.with_extension("rsx")).is_ok()
        && let Ok(inspection) = inspect(disk, path, Trust::Nothing)
        && let IndexState::Damaged(how) = inspection.index
    {
        told.damaged = true;
        told.lines.push(format!("{path}: its index: {how}"));
    }
    Ok(told)
}

/// Looks at a mailbox; at one that was just changed and seems damaged once more, while nobody can write.
fn look(disk: &dyn Disk, path: &TreePath) -> io::Result<Report> {
    let handle = disk.open(path, Open::Read)?;
    let report = examine(&*handle, &mut Nowhere)?;
    let young = disk.now() - handle.stamp()?.modified < UNFINISHED_FOR;
    if report.findings.is_empty() || !young {
        return Ok(report);
    }
    match lock::acquire(disk, path, Open::Change, PATIENCE) {
        Ok(held) => examine(&*held, &mut Nowhere),
        // Whoever holds it that long, or may only read it, gets the first look.
        Err(_) => Ok(report),
    }
}

fn rebuild(disk: &Arc<dyn Disk>, path: &TreePath) -> Result<Told, String> {
    const LONG: Duration = PATIENCE;
    let mut mailbox = Mailbox::new(disk.clone(), path.clone(), user_lock(path));
    match mailbox.rebuild(LONG).map_err(|error| error.to_string())? {
        Some(count) => Ok(Told::line(format!("{path}: {count} messages, the index is new"))),
        None => Err("there is no such mailbox".to_owned()),
    }
}

/// `user.lck` of the mailbox's user, whose directory lies in `users`; of a mailbox elsewhere, in its own directory.
pub fn user_lock(mailbox: &TreePath) -> TreePath {
    let full = mailbox.full();
    let in_users = |dir: &&Path| {
        let above = dir.parent().and_then(Path::file_name);
        above.is_some_and(|name| name.eq_ignore_ascii_case("users"))
    };
    let own = full.parent().unwrap_or(Path::new("."));
    let dir = own.ancestors().take(DEPTH_MAX).find(in_users).unwrap_or(own);
    TreePath::operator(&dir.join("user.lck"))
}

/// All mailboxes of the paths, in their order.
fn files(paths: &[PathBuf]) -> Result<Vec<File>, Failure> {
    let mut all = Vec::new();
    for path in paths {
        let told = |error: io::Error| Failure::NotRun(format!("{}: {error}", path.display()));
        if path.metadata().map_err(told)?.is_dir() {
            collect(path, Path::new(""), 0, &mut all).map_err(told)?;
        } else {
            let below = path.file_name().map(PathBuf::from).unwrap_or_default();
            all.push(File { path: path.clone(), below });
        }
    }
    Ok(all)
}

fn collect(dir: &Path, below: &Path, depth: usize, all: &mut Vec<File>) -> io::Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(dir)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (path, below, kind) = (entry.path(), below.join(entry.file_name()), entry.file_type()?);
        let is_mailbox = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("mbx"));
        if kind.is_dir() && depth < DEPTH_MAX {
            collect(&path, &below, depth + 1, all)?;
        } else if kind.is_file() && is_mailbox && all.len() < FILES_MAX {
            all.push(File { path, below });
        }
    }
    Ok(())
}
