//! Giving up root's rights.
//!
//! Started by root, the server binds its ports and then becomes the owner of the data directory, for good. It keeps one right, that to bind
//! ports below 1024 (CAP_NET_BIND_SERVICE), as the unit for systemd gives it: a service that was not asked for at the start can be started
//! later. Programs that it runs do not inherit that. If the owner is root it goes on as root and says so once; started by anyone else it
//! stays that.
//!
//! # Failure
//! If the rights cannot be given up, or could be taken back, the server does not start.

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_keep_capabilities};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Becomes the owner of `root`. Before the first thread is started: of the identity glibc tells all threads, but of capabilities each has its
/// own, which those that it starts inherit.
pub fn give_up(root: &Path) -> io::Result<()> {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o027));
    if !Uid::effective().is_root() {
        return Ok(());
    }
    let owner = std::fs::metadata(root)?;
    let (uid, gid) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
    if uid.is_root() {
        eprintln!(
            "imaild: the data directory belongs to root, so the server goes on as root; give it to another account (chown -R) to change that"
        );
        return Ok(());
    }
    // A container may have taken even that from its root.
    let kept = capabilities(None)?.permitted & CapabilitySet::NET_BIND_SERVICE;
    set_keep_capabilities(true)?;
    setgroups(&[gid])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: none })?;
    set_keep_capabilities(false)?;
    if setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_ok() {
        return Err(io::Error::other("root's rights could not be given up for good"));
    }
    Ok(())
}
