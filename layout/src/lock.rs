//! Taking a file's lock, with a deadline.
//!
//! The lock is the operating system's, on the file itself (see [`crate::disk::real`]), so nothing is left behind by a crash. Files
//! that are replaced by rename change their inode: after locking, the path must still name the file that was locked, else
//! the lock is on a dead file and everything starts over.
//!
//! # Failure
//! [`LockError::Busy`] when somebody else held the lock until the deadline: a temporary failure for whoever asked.

use crate::disk::{Disk, Handle, Open};
use crate::path::TreePath;
use std::io;
use std::time::{Duration, Instant};

/// How long anybody waits for a mailbox or settings file that another program holds.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another program held it until the deadline.
    #[error("{0} is locked by another program")]
    Busy(String),
    /// The file could not be opened or locked at all.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Opens `path` and takes its lock, trying until `patience` is over. The lock lasts as long as the handle.
pub fn acquire(
    disk: &dyn Disk,
    path: &TreePath,
    how: Open,
    patience: Duration,
) -> Result<Box<dyn Handle>, LockError> {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_millis(1);
    loop {
        let handle = disk.open(path, how)?;
        if handle.try_lock()? {
            let held = handle.stamp()?;
            match disk.stat(path) {
                Ok((named, _)) if (named.device, named.inode) == (held.device, held.inode) => {
                    return Ok(handle);
                }
                Ok(_) => continue,
                Err(e) if e.kind() == io::ErrorKind::NotFound && how == Open::Create => continue,
                Err(e) => return Err(e.into()),
            }
        }
        drop(handle);
        let now = Instant::now();
        if now >= deadline {
            return Err(LockError::Busy(path.to_string()));
        }
        std::thread::sleep(pause.min(deadline - now));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
