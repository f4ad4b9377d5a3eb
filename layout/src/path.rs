//! Paths inside the tree: [`TreePath`].
//!
//! A tree path is a trusted base directory and the components below it. Only this crate's `root` module makes new
//! ones from names, and only validated ones, so a name from the network can never lead out of the base.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A place below a base directory that the admin named (the root, or a target of `[Paths]`).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TreePath {
    base: Arc<Path>,
    below: PathBuf,
}

impl TreePath {
    /// The base directory itself.
    pub fn base_of(dir: &Path) -> TreePath {
        TreePath { base: dir.into(), below: PathBuf::new() }
    }

    /// A file that an operator named on a command line: its directory is the base.
    pub fn operator(file: &Path) -> TreePath {
        let (dir, name) = match (file.parent(), file.file_name()) {
            (Some(dir), Some(name)) => (dir, PathBuf::from(name)),
            _ => (file, PathBuf::new()),
        };
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        TreePath { base: dir.into(), below: name }
    }

    /// One step down. `name` must be one component: callers outside this crate cannot call it.
    pub(crate) fn join(&self, name: impl AsRef<OsStr>) -> TreePath {
        debug_assert!(is_component(name.as_ref()), "not one component: {:?}", name.as_ref());
        TreePath { base: self.base.clone(), below: self.below.join(name.as_ref()) }
    }

    /// The directory that holds this entry; the base is its own parent.
    pub fn parent(&self) -> TreePath {
        let below = self.below.parent().unwrap_or(Path::new("")).to_owned();
        TreePath { base: self.base.clone(), below }
    }

    /// This path with `suffix` put behind the whole name, as for `registry.ini.$$$`.
    pub fn with_suffix(&self, suffix: &str) -> TreePath {
        let mut below = self.below.clone().into_os_string();
        below.push(suffix);
        TreePath { base: self.base.clone(), below: below.into() }
    }

    /// This path with its extension replaced, as `main.mbx` to `main.rsx`; `extension` comes without the dot.
    pub fn with_extension(&self, extension: &str) -> TreePath {
        TreePath { base: self.base.clone(), below: self.below.with_extension(extension) }
    }

    /// The last component; empty for the base.
    pub fn name(&self) -> &str {
        self.below.file_name().and_then(|name| name.to_str()).unwrap_or("")
    }

    /// The trusted directory.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// What is below it.
    pub fn below(&self) -> &Path {
        &self.below
    }

    /// The whole path, for messages and for programs that are handed a file name.
    pub fn full(&self) -> PathBuf {
        self.base.join(&self.below)
    }
}

/// Is this exactly one harmless path component?
pub(crate) fn is_component(name: &OsStr) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.as_bytes().iter().any(|b| matches!(b, b'/' | 0))
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.full().display().fmt(f)
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.full().fmt(f)
    }
}
