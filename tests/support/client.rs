//! Programs of others that the tests drive.

use super::{Run, finish};
use std::path::Path;
use std::process::{Command, Stdio};

/// A command for a program, or `None` with a word if it is not there.
pub fn client(name: &str) -> Option<Command> {
    let found = Command::new("sh").args(["-c", &format!("command -v {name}")]).stdout(Stdio::null()).status();
    found_or_skipped(found.is_ok_and(|status| status.success()), name).then(|| Command::new(name))
}

/// A Python that has flufl.bounce, the bounce parser of Mailman.
pub fn bounce_parser() -> Option<Command> {
    python_with("flufl.bounce")
}

/// A Python that has a module of `clients/requirements.txt`.
pub fn python_with(module: &str) -> Option<Command> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/bin/python3");
    let mut import = Command::new(&python);
    import.args(["-c", &format!("import {module}")]).stdout(Stdio::null()).stderr(Stdio::null());
    let found = import.status().is_ok_and(|status| status.success());
    found_or_skipped(found, &format!("{module} (in target/peers)")).then(|| Command::new(python))
}

/// Passes on whether something is there. In CI everything must be.
pub fn found_or_skipped(found: bool, what: &str) -> bool {
    if !found {
        assert!(std::env::var_os("CI").is_none(), "{what} is not installed: .ci/run installs it");
        eprintln!("skipped: {what} is not installed");
    }
    found
}

/// Runs a program without input, which must end well.
#[track_caller]
pub fn succeed(command: &mut Command) -> Run {
    finish(command.stdin(Stdio::null())).expect_code(0)
}

/// A directory for a program's own files.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}
