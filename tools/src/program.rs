//! What all companion programs share: finding the data directory, output that never panics.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use layout::disk::real::RealDisk;
use layout::root::{self, Root, RootError};

/// Opens the data directory: the one of `--root`, else of the environment, else the current one.
pub fn open_root(option: Option<&Path>) -> Result<Root, RootError> {
    let dir = root::locate(option)?;
    Ok(Root::new(Arc::new(RealDisk::new()), &dir))
}

/// What `--version` prints.
pub fn version_line(name: &str) -> String {
    format!("{name} {} (imaild)", env!("CARGO_PKG_VERSION"))
}

/// Prints a line on standard output. A reader that went away is no reason to stop: the work is done by then.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Prints a line on standard error.
pub fn complain(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
