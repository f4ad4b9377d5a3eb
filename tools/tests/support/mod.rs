//! What the tests of the built programs share: a scratch directory with a registry, and running a program on it.
//!
//! Everything here panics when something is not as a test needs it: the panic is the report.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part, and panics report")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use layout::disk::real::RealDisk;
use layout::registry::model::Registry;
use layout::registry::store;
use layout::root::Root;
use tempfile::TempDir;

/// A data directory that is removed at the end of the test.
pub struct Tree {
    dir: TempDir,
}

/// What a finished program left behind.
pub struct Run {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Run {
    fn of(output: Output) -> Run {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Run { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Fails the test unless the program ended with `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> Run {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        self
    }

    /// Fails the test unless the program ended with `code` and standard error holds `text`.
    #[track_caller]
    pub fn refused(self, code: i32, text: &str) -> Run {
        assert!(self.code == code && self.err.contains(text), "{text}:\n{}\n{}", self.out, self.err);
        self
    }
}

/// Runs a prepared command to its end.
pub fn finish(command: &mut Command) -> Run {
    Run::of(command.output().unwrap())
}

/// A program by its path, without the caller's environment getting in its way.
pub fn program(path: &str) -> Command {
    let mut command = Command::new(path);
    command.env_remove("IMAIL_ROOT").stdin(Stdio::null());
    command
}

impl Tree {
    /// A directory with this `registry.ini`.
    pub fn with(registry: &str) -> Tree {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("registry.ini"), registry).unwrap();
        Tree { dir }
    }

    /// A path below the root.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file below the root, with the directories above it, and gives its path.
    pub fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The bytes of a file below the root.
    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// The names in a directory below the root, sorted.
    pub fn names(&self, dir: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(dir)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A program on this directory.
    pub fn command(&self, path: &str) -> Command {
        let mut command = program(path);
        command.arg("--root").arg(self.dir.path());
        command
    }

    /// Runs a program on this directory.
    pub fn run(&self, path: &str, args: &[&str]) -> Run {
        finish(self.command(path).args(args))
    }

    /// Runs a program with this standard input.
    pub fn typed(&self, path: &str, args: &[&str], input: &[u8]) -> Run {
        let mut command = self.command(path);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        Run::of(child.wait_with_output().unwrap())
    }

    /// The directory as the library sees it.
    pub fn root(&self) -> Root {
        Root::new(Arc::new(RealDisk::new()), self.dir.path())
    }

    /// The registry, which must have no line that is not understood.
    pub fn registry(&self) -> Registry {
        let loaded = store::load(&self.root()).unwrap();
        assert_eq!(loaded.complaints, []);
        loaded.registry
    }
}
