//! Who owns what programs make in the tree: whoever owns the tree.
//!
//! A server that was started by root becomes the owner of the data directory, so what root's programs make must be that owner's
//! too, or the server cannot read it.
//!
//! # Failure
//! The disk's error; the file stays whose it is.

use crate::path::TreePath;
use crate::root::Root;
use std::io;
use std::os::unix::fs::{MetadataExt as _, lchown};

/// Gives a file or directory to the owner of the data directory, if we are root; a missing one is fine. The mode stays.
pub fn give_to_owner(root: &Root, path: &TreePath) -> io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let owner = std::fs::metadata(root.top().full())?;
    let Ok(now) = std::fs::symlink_metadata(path.full()) else { return Ok(()) };
    match (now.uid(), now.gid()) == (owner.uid(), owner.gid()) {
        true => Ok(()),
        false => lchown(path.full(), Some(owner.uid()), Some(owner.gid())),
    }
}
