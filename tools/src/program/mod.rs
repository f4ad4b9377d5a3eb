//! What all companion programs share: from the command line to the exit code.
//!
//! * [`switches`]: words to switches by a table
//! * [`lines`]: text files and standard input, line by line
//! * [`man`]: manual pages out of the text of `--help`
//! * [`registry`]: the registry as it is now, and a domain by its name
//! * [`parallel`]: the same work on many things, on all cores, with a progress line
//!
//! Exit codes: 0 done, 1 refused, failed or found a fault, 2 wrong usage or could not run. Only `adduser` has others, IMail's.

pub mod lines;
pub mod man;
pub mod parallel;
pub mod registry;
pub mod switches;

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use layout::disk::real::RealDisk;
use layout::root::{self, Root, RootError};
use layout::text::{self, CodePage};

use switches::{Given, Table, UsageError};

/// How a program ended that could be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is well: 0.
    Done,
    /// Something was refused, failed, or was found to be wrong, and has been told: 1.
    Faults,
}

impl Outcome {
    /// [`Outcome::Done`] if there was no fault.
    pub fn of(faults: bool) -> Outcome {
        if faults { Outcome::Faults } else { Outcome::Done }
    }
}

/// Why a program did nothing, or stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The command line is wrong: 2.
    Usage(String),
    /// It could not even begin: 2.
    NotRun(String),
    /// Refused or failed: 1.
    Failed(String),
}

impl Failure {
    /// A failure for this reason.
    pub fn of(reason: impl std::fmt::Display) -> Failure {
        Failure::Failed(reason.to_string())
    }
}

impl From<UsageError> for Failure {
    fn from(error: UsageError) -> Failure {
        Failure::Usage(error.to_string())
    }
}

impl From<RootError> for Failure {
    fn from(error: RootError) -> Failure {
        Failure::NotRun(error.to_string())
    }
}

/// A program: its name, what `--help` prints, its switches.
pub struct Program {
    /// As it is called.
    pub name: &'static str,
    /// What it does, in one line: the first of `--help`.
    pub about: &'static str,
    /// The rest of `--help`.
    pub usage: &'static str,
    /// Its switches; `--root`, `--help`, `-?`, `--version` and `--man` are understood without being in it.
    pub table: Table,
}

impl Program {
    /// Reads the arguments of the process, answers `--help` and the like, and does the work.
    pub fn main(&self, work: impl FnOnce(&Given) -> Result<Outcome, Failure>) -> ExitCode {
        let words = arguments(std::env::args_os().skip(1));
        let result = match self.table.parse(&words) {
            Ok(given) => match given.question {
                Some(question) => {
                    say(question.answer(self.name, self.about, self.usage).trim_end());
                    Ok(Outcome::Done)
                }
                None => work(&given),
            },
            Err(error) => Err(error.into()),
        };
        let name = self.name;
        let (code, text) = match result {
            Ok(Outcome::Done) => (0, None),
            Ok(Outcome::Faults) => (1, None),
            Err(Failure::Failed(text)) => (1, Some(text)),
            Err(Failure::NotRun(text)) => (2, Some(text)),
            Err(Failure::Usage(text)) => (2, Some(format!("{text}; {name} --help shows what there is"))),
        };
        if let Some(text) = text {
            complain(&format!("{name}: {text}"));
        }
        ExitCode::from(code)
    }
}

/// What a program can be asked about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// `--help`.
    Help,
    /// `--version`.
    Version,
    /// `--man`, which packages are built with: the manual page.
    Man,
}

impl Question {
    /// What is printed.
    pub fn answer(self, name: &str, about: &str, usage: &str) -> String {
        match self {
            Question::Help => format!("{about}.\n\n{usage}"),
            Question::Version => format!("{name} {} (imaild)", env!("CARGO_PKG_VERSION")),
            Question::Man => man::page(name, about, usage),
        }
    }
}

/// The words of a command line as text.
pub fn arguments(words: impl Iterator<Item = OsString>) -> Vec<String> {
    words.map(|word| text::decode(word.as_bytes(), CodePage::default()).0).collect()
}

/// Opens the data directory: the one of `--root`, else of the environment, else the current one.
pub fn open_root(option: Option<&Path>) -> Result<Root, RootError> {
    let dir = root::locate(option)?;
    Ok(Root::new(Arc::new(RealDisk::new()), &dir))
}

/// Prints a line on standard output. A reader that went away is no reason to stop: the work is done by then.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Prints a line on standard error.
pub fn complain(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
