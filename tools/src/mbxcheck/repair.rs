//! The new file of a repaired mailbox, and the one with what has no place in it.
//!
//! Failure: a text; what was written until then is removed again. No file is overwritten.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use layout::disk::{Disk, Handle, Open};
use layout::lock::{self, PATIENCE};
use layout::mbx::repair::{Report, Sink, examine};
use layout::path::TreePath;

use super::File;
use crate::program::Failure;

/// How much is gathered before it is written.
const BUFFER: usize = 256 << 10;

/// Where repaired mailboxes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To this file.
    File(PathBuf),
    /// Below this directory, as they lay below the paths that were named.
    Directory(PathBuf),
}

impl Target {
    /// Where `out` leads for these paths.
    pub fn of(out: &Path, paths: &[PathBuf]) -> Result<Target, Failure> {
        let many = paths.len() > 1 || paths.iter().any(|path| path.is_dir());
        let named = out.as_os_str().to_string_lossy().ends_with('/');
        match (many || named, out.metadata()) {
            (_, Ok(meta)) if meta.is_dir() => Ok(Target::Directory(out.to_owned())),
            (true, Err(error)) if error.kind() == ErrorKind::NotFound => {
                Ok(Target::Directory(out.to_owned()))
            }
            (true, Ok(_)) => Err(Failure::NotRun(format!("{} is no directory", out.display()))),
            (false, Ok(_)) => {
                Err(Failure::NotRun(format!("{} exists already: name a new file", out.display())))
            }
            (false, Err(error)) if error.kind() == ErrorKind::NotFound => Ok(Target::File(out.to_owned())),
            (_, Err(error)) => Err(Failure::NotRun(format!("{}: {error}", out.display()))),
        }
    }

    fn path(&self, file: &File) -> PathBuf {
        match self {
            Target::File(out) => out.clone(),
            Target::Directory(dir) => dir.join(&file.below),
        }
    }
}

/// The file beside a repaired mailbox that gets what has no place in it.
fn lost_beside(out: &Path) -> PathBuf {
    match out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("mbx")) {
        true => out.with_extension("lost"),
        false => {
            let mut name = out.as_os_str().to_owned();
            name.push(".lost");
            name.into()
        }
    }
}

/// Writes what is whole of a mailbox, and says what was found and where things are.
pub fn repair(disk: &dyn Disk, file: &File, target: &Target) -> Result<(Report, String), String> {
    let told = |error: io::Error| error.to_string();
    let out = target.path(file);
    if let Target::Directory(_) = target {
        std::fs::create_dir_all(out.parent().unwrap_or(&out)).map_err(told)?;
    }
    let from = TreePath::operator(&file.path);
    // A mailbox that can only be read is read as it is.
    let source = match lock::acquire(disk, &from, Open::Change, PATIENCE) {
        Ok(held) => held,
        Err(_) => disk.open(&from, Open::Read).map_err(told)?,
    };
    let mut sorter = Sorter {
        kept: Output::new(disk, TreePath::operator(&out)),
        lost: Output::new(disk, TreePath::operator(&lost_beside(&out))),
    };
    let done = sorter.kept.make().and_then(|()| examine(&*source, &mut sorter)).and_then(|report| {
        sorter.kept.finish(&from)?;
        sorter.lost.finish(&from)?;
        Ok(report)
    });
    match done {
        Ok(report) => {
            let note =
                format!("{from}: {} messages to {}{}", report.messages, sorter.kept.path, sorter.lost.note());
            Ok((report, note))
        }
        Err(error) => {
            sorter.kept.take_back();
            sorter.lost.take_back();
            Err(format!("{}: {error}", out.display()))
        }
    }
}

struct Sorter<'a> {
    kept: Output<'a>,
    lost: Output<'a>,
}

impl Sink for Sorter<'_> {
    fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.kept.write(bytes)
    }

    fn lose(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.lost.write(bytes)
    }
}

/// A file that is made when there is something to write.
struct Output<'a> {
    disk: &'a dyn Disk,
    path: TreePath,
    handle: Option<Box<dyn Handle>>,
    waiting: Vec<u8>,
    length: u64,
}

impl Output<'_> {
    fn new(disk: &dyn Disk, path: TreePath) -> Output<'_> {
        Output { disk, path, handle: None, waiting: Vec::new(), length: 0 }
    }

    fn make(&mut self) -> io::Result<()> {
        if self.handle.is_none() {
            self.handle = Some(self.disk.open(&self.path, Open::CreateNew)?);
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.waiting.extend_from_slice(bytes);
        self.length += bytes.len() as u64;
        if self.waiting.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.make()?;
        if let Some(handle) = &self.handle {
            handle.append(&self.waiting)?;
        }
        self.waiting.clear();
        Ok(())
    }

    /// Writes the rest, makes the file durable and gives it the owner of `like`.
    fn finish(&mut self, like: &TreePath) -> io::Result<()> {
        self.flush()?;
        let Some(handle) = &self.handle else { return Ok(()) };
        handle.sync()?;
        self.disk.copy_owner(like, &self.path)?;
        self.disk.sync_dir(&self.path.parent())
    }

    fn note(&self) -> String {
        match self.length {
            0 => String::new(),
            length => format!(", {length} bytes without a place to {}", self.path),
        }
    }

    /// Only what this run made is removed.
    fn take_back(&mut self) {
        if self.handle.take().is_some() {
            let _ = self.disk.unlink(&self.path);
        }
    }
}
