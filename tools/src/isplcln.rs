//! `isplcln`: takes old logs and what broke off out of the log directories and the spool.
//!
//! IMail's program of this name is documented only as far as that it takes a number of days; the other switches are ours. A log is as old as the
//! day in its name says ([`layout::logdate`]); what else is left over is said in [`layout::spool::clean`]. Today's log and
//! messages that wait are never touched. It works beside a running server: items are taken by the server's own locks.
//!
//! Failure: a file that cannot be taken is reported, and the next one goes on.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDate;
use flate2::Compression;
use flate2::write::GzEncoder;
use layout::disk::real::RealDisk;
use layout::disk::{Disk, Handle, Open};
use layout::logdate::{self, COMPRESSED, without_compressed};
use layout::path::TreePath;
use layout::registry::places;
use layout::spool::clean;

use crate::program::registry::snapshot;
use crate::program::switches::{Given, Operands, Table, Takes, UsageError};
use crate::program::{Failure, Outcome, Program, complain, open_root, say};

/// How old files must be, in days, unless `-n` says otherwise.
const DAYS: u32 = 7;
/// The most days that `-n` takes: ten thousand years.
const DAYS_MAX: u32 = 3_650_000;
/// How much of a file is copied at once.
const PIECE: usize = 256 << 10;
/// How many files of one name are kept side by side in the directory of `-m`.
const SAME_NAME_MAX: usize = 1000;

const USAGE: &str = "\
Usage: isplcln [-n DAYS] [-l|-o] [-z] [-m DIR] [-t] [-p SPOOL]

Deletes logs older than DAYS days, and what receptions and programs that broke off left in the spool as long ago.
Today's log and messages that wait are never touched; it can run while the server does.

  -n DAYS      how old files must be; 7 without it. A log is of the day in its name (names without a year: of the
               newest year in which that day has come), everything else of the day it was last written
  -l           logs only
  -o           left-overs in the spool only: T, D and A files without their Q, stale _ files, copies for programs
  -z           compress instead of delete: NAME becomes NAME.gz
  -m DIR       move into DIR instead of delete, compressed with -z
  -p SPOOL     clean this directory only; no IMail directory is needed then
  -t, --dry-run  test run: say what would be done, and do nothing
  --root DIR   the IMail directory; without it the environment variable IMAIL_ROOT counts, then the current
               directory if it holds registry.ini. Its logs are in logs, in LogDir of [Global] and in spool
  --help       this text
  --version    the version

The Debian package has a timer that runs it every night: systemctl enable --now isplcln.timer

Exit code: 0 everything was done, 1 something could not be done, 2 wrong usage.";

const PROGRAM: Program = Program {
    name: "isplcln",
    about: "Takes old logs and left-over spool files away",
    usage: USAGE,
    table: Table {
        switches: &[
            ("-n", Takes::Value("a number of days")),
            ("-l", Takes::Nothing),
            ("-o", Takes::Nothing),
            ("-p", Takes::Value("a directory")),
            ("-t", Takes::Nothing),
            ("--dry-run", Takes::Nothing),
            ("-z", Takes::Nothing),
            ("-m", Takes::Value("a directory")),
        ],
        operands: Operands::None,
    },
};

/// Runs the program.
pub fn main() -> ExitCode {
    PROGRAM.main(|given| {
        let plan = Plan::of(given)?;
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new());
        let places = Places::of(given)?;
        let mut cleaner = Cleaner { disk, plan, files: 0, bytes: 0, faults: false };
        cleaner.run(&places)?;
        Ok(Outcome::of(cleaner.faults))
    })
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plan {
    days: u32,
    logs: bool,
    left_overs: bool,
    compress: bool,
    into: Option<PathBuf>,
    dry: bool,
}

impl Plan {
    fn of(given: &Given) -> Result<Plan, UsageError> {
        given.at_most_one(&["-l", "-o"])?;
        let days = given.number("-n")?.unwrap_or(DAYS);
        if days > DAYS_MAX {
            return Err(UsageError(format!("-n: {days} days are too many")));
        }
        Ok(Plan {
            days,
            logs: !given.has("-o"),
            left_overs: !given.has("-l"),
            compress: given.has("-z"),
            into: given.value("-m").map(PathBuf::from),
            dry: given.has("-t") || given.has("--dry-run"),
        })
    }

    /// What is said of a file.
    fn deed(&self) -> &'static str {
        match (self.dry, self.compress, self.into.is_some()) {
            (false, false, false) => "deleted",
            (false, true, false) => "compressed",
            (false, false, true) => "moved",
            (false, true, true) => "compressed and moved",
            (true, false, false) => "would delete",
            (true, true, false) => "would compress",
            (true, false, true) => "would move",
            (true, true, true) => "would compress and move",
        }
    }

    /// Is there anything to do with a file of this name? What is compressed already stays where it is, unless it is to be moved.
    fn wants(&self, name: &str) -> bool {
        !self.compress || self.into.is_some() || without_compressed(name).is_none()
    }
}

/// The directories to clean.
#[derive(Debug)]
struct Places {
    spool: TreePath,
    logs: Vec<TreePath>,
}

impl Places {
    fn of(given: &Given) -> Result<Places, Failure> {
        if let Some(spool) = given.value("-p").map(Path::new) {
            let spool = TreePath::base_of(&existing(spool)?);
            return Ok(Places { logs: vec![spool.clone()], spool });
        }
        let root = open_root(given.root.as_deref())?;
        let registry = snapshot(&root).map_err(|error| Failure::NotRun(error.to_string()))?.registry;
        let spool = root.spool();
        Ok(Places { spool, logs: places::log_dirs(&root, &registry) })
    }
}

/// A directory that must be there.
fn existing(dir: &Path) -> Result<PathBuf, Failure> {
    let told = |error: io::Error| Failure::NotRun(format!("{}: {error}", dir.display()));
    let path = dir.canonicalize().map_err(told)?;
    if path.is_dir() { Ok(path) } else { Err(told(io::ErrorKind::NotADirectory.into())) }
}

struct Cleaner {
    disk: Arc<dyn Disk>,
    plan: Plan,
    files: u64,
    bytes: u64,
    faults: bool,
}

impl Cleaner {
    fn run(&mut self, places: &Places) -> Result<(), Failure> {
        if let Some(dir) = self.plan.into.clone().filter(|_| !self.plan.dry) {
            let told = |error: io::Error| Failure::Failed(format!("{}: {error}", dir.display()));
            std::fs::create_dir_all(&dir).map_err(told)?;
            self.plan.into = Some(dir.canonicalize().map_err(told)?);
        }
        if self.plan.logs {
            let today = chrono::Local::now().date_naive();
            places.logs.iter().for_each(|dir| self.old_logs(dir, today));
        }
        if self.plan.left_overs && places.spool.full().exists() {
            self.left_over(&places.spool);
        }
        let (files, bytes) = (self.files, self.bytes);
        say(&format!(
            "{files} files, {bytes} bytes: {}",
            if files == 0 { "nothing to do" } else { self.plan.deed() }
        ));
        Ok(())
    }

    fn old_logs(&mut self, dir: &TreePath, today: NaiveDate) {
        let found = match logdate::older(&*self.disk, dir, self.plan.days, today) {
            Ok(found) => found,
            Err(error) => return self.fault(dir, &error),
        };
        for file in &found {
            if !self.plan.wants(file.name()) {
                continue;
            }
            if let Err(error) = self.take(file) {
                self.fault(file, &error);
            }
        }
    }

    fn left_over(&mut self, dir: &TreePath) {
        let age = Duration::from_secs(u64::from(self.plan.days) * 24 * 3600);
        let disk = self.disk.clone();
        let found = match clean::left_over(&*disk, dir, age, disk.now()) {
            Ok(found) => found,
            Err(error) => return self.fault(dir, &error),
        };
        for left in found {
            if !left.files.iter().all(|file| self.plan.wants(file.name())) {
                continue;
            }
            let done = match self.plan.dry {
                true => left.files.iter().try_for_each(|file| self.take(file)).map(|()| true),
                false => clean::remove(&*disk, &left, |file| self.take(file)),
            };
            let name = left.files.first().unwrap_or(dir);
            match done {
                Ok(true) => {}
                Ok(false) => say(&format!("{name} is in use: left alone")),
                Err(error) => self.fault(name, &error),
            }
        }
    }

    fn fault(&mut self, path: &TreePath, error: &io::Error) {
        self.faults = true;
        complain(&format!("isplcln: {path}: {error}"));
    }

    /// Does what is to be done with one file.
    fn take(&mut self, file: &TreePath) -> io::Result<()> {
        let disk = self.disk.clone();
        let (stamp, _) = disk.stat(file)?;
        if !self.plan.dry {
            let compress = self.plan.compress && without_compressed(file.name()).is_none();
            match (compress, &self.plan.into) {
                (false, None) => disk.unlink(file)?,
                (true, into) => {
                    let to = self.target(file, COMPRESSED, into.as_deref())?;
                    transfer(&*disk, file, &to, true)?;
                }
                (false, Some(into)) => {
                    let to = self.target(file, "", Some(into))?;
                    match disk.rename(file, &to) {
                        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                            transfer(&*disk, file, &to, false)?;
                        }
                        other => other?,
                    }
                }
            }
            disk.sync_dir(&file.parent())?;
        }
        self.files += 1;
        self.bytes += stamp.size;
        say(&format!("{} {file}", self.plan.deed()));
        Ok(())
    }

    /// A name that no file has yet, in the other directory or beside the file.
    fn target(&self, file: &TreePath, ending: &str, into: Option<&Path>) -> io::Result<TreePath> {
        let dir = into.map_or_else(|| file.parent().full(), Path::to_owned);
        let names = (0..SAME_NAME_MAX).map(|number| match number {
            0 => format!("{}{ending}", file.name()),
            number => format!("{}.{number}{ending}", file.name()),
        });
        let mut paths = names.map(|name| TreePath::operator(&dir.join(name)));
        let free = paths.find(|path| std::fs::symlink_metadata(path.full()).is_err());
        free.ok_or_else(|| io::ErrorKind::AlreadyExists.into())
    }
}

/// Copies a file, compressed or not, makes the copy durable, and removes the file.
fn transfer(disk: &dyn Disk, from: &TreePath, to: &TreePath, compress: bool) -> io::Result<()> {
    let temporary = to.with_suffix(".$$$");
    if disk.stat(&temporary).is_ok() {
        disk.unlink(&temporary)?;
    }
    let source = disk.open(from, Open::Read)?;
    let target = disk.open(&temporary, Open::CreateNew)?;
    let written = match compress {
        true => {
            let mut encoder = GzEncoder::new(Appender(&*target), Compression::default());
            copy(&*source, &mut encoder).and_then(|()| encoder.finish().map(drop))
        }
        false => copy(&*source, &mut Appender(&*target)),
    };
    if let Err(error) = written.and_then(|()| target.sync()) {
        let _ = disk.unlink(&temporary);
        return Err(error);
    }
    disk.copy_owner(from, &temporary)?;
    disk.rename(&temporary, to)?;
    disk.sync_dir(&to.parent())?;
    disk.unlink(from)
}

fn copy(source: &dyn Handle, target: &mut dyn Write) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    loop {
        match source.read_at(&mut piece, at)? {
            0 => return Ok(()),
            length => {
                target.write_all(piece.get(..length).unwrap_or_default())?;
                at += length as u64;
            }
        }
    }
}

struct Appender<'a>(&'a dyn Handle);

impl Write for Appender<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes).map(|_| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::switches::words;

    #[test]
    fn what_the_switches_mean() {
        let plan = |line: &str| PROGRAM.table.parse(&words(line).unwrap()).and_then(|given| Plan::of(&given));
        let base = Plan { days: 7, logs: true, left_overs: true, compress: false, into: None, dry: false };
        for (line, expected) in [
            ("", base.clone()),
            ("-n 30", Plan { days: 30, ..base.clone() }),
            ("-l", Plan { left_overs: false, ..base.clone() }),
            ("-o", Plan { logs: false, ..base.clone() }),
            ("-t", Plan { dry: true, ..base.clone() }),
            ("--dry-run", Plan { dry: true, ..base.clone() }),
            ("-z -m /x", Plan { compress: true, into: Some("/x".into()), ..base.clone() }),
        ] {
            assert_eq!(plan(line), Ok(expected), "{line}");
        }
        for line in ["-n", "-n x", "-n -1", "-l -o", "-q", "file", "-n 99999999", "-m"] {
            assert!(plan(line).is_err(), "{line}");
        }
    }
}
