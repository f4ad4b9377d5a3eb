//! What the black-box tests share: a copy of the sample directory, the built programs, tiny
//! clients.
//!
//! Everything here panics when something is not as a test needs it: the panic is the report.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test file uses a part, and panics report"
)]

pub mod client;
pub mod imap;
pub mod ini;
pub mod letter;
pub mod planted;
pub mod pop3;
pub mod postfix;
pub mod readers;
pub mod sample;
pub mod server;
pub mod sink;
pub mod smtp;
pub mod tree;
pub mod wire;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// An edit by hand must be in force after five seconds; the tests allow a loaded machine ten
/// before they give up, and say how long it took.
pub const EDIT_LIMIT: Duration = Duration::from_secs(10);

/// A debug build on a busy machine needs seconds to start; more means that something hangs.
pub const START_LIMIT: Duration = Duration::from_secs(30);

/// How often a condition is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What a finished program left behind.
#[derive(Debug)]
pub struct Run {
    /// Exit code; -1 when a signal ended the program.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Run {
    /// Fails the test unless the program ended with `code`.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Run {
        assert_eq!(self.code, code, "exit code; output:\n{}\n{}", self.out, self.err);
        self
    }

    /// Both outputs, for messages whose stream does not matter.
    pub fn text(&self) -> String {
        format!("{}\n{}", self.out, self.err)
    }

    /// Fails the test unless standard error holds each of `words`, ignoring case.
    #[track_caller]
    pub fn expect_error(&self, words: &[&str]) {
        let err = self.err.to_lowercase();
        for word in words {
            assert!(err.contains(&word.to_lowercase()), "the error does not say {word:?}:\n{}", self.err);
        }
        assert!(!err.contains("panicked"), "a panic instead of a message:\n{}", self.err);
    }
}

/// The path of a built program: `imaild`, or a companion beside it.
pub fn program(name: &str) -> PathBuf {
    let imaild = Path::new(env!("CARGO_BIN_EXE_imaild"));
    let path = imaild.with_file_name(name);
    assert!(path.exists(), "{} is not built: run `cargo build --workspace` first", path.display());
    path
}

/// A command for a built program, without the caller's environment getting in its way.
pub fn command(name: &str) -> Command {
    let mut command = Command::new(program(name));
    command.env_remove("IMAIL_ROOT").stdin(Stdio::null()).current_dir(std::env::temp_dir());
    command
}

/// Runs a program to its end.
pub fn run(name: &str, args: &[&str]) -> Run {
    finish(command(name).args(args))
}

/// Runs a prepared command to its end.
pub fn finish(command: &mut Command) -> Run {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    Run {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Asks again and again until `condition` gives a value; fails the test after `limit`.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} in vain for: {what}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// The repository's `fixtures` folder.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// A file below `fixtures`, as text for a command line.
pub fn fixture(path: &str) -> String {
    fixtures().join(path).to_str().unwrap().to_owned()
}
