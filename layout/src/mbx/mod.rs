//! The mailbox file, `<name>.mbx`.
//!
//! Plain text: each message stands behind a separator line that begins with `From <` (Ipswitch KB IM-20020411-DM01, quoted on
//! the IMail forum in 2003), e.g. `From <> Thu Apr 29 23:45:10 2008`. A file begins with its first separator; an empty
//! file is an empty mailbox.
//!
//! Cut by verb: [`separator`] knows the borders, [`scan`] finds messages, [`compose`] makes the bytes of a new one,
//! [`view`] turns stored bytes into what a client sees.
//!
//! # Failure
//! A file that is none of ours ([`separator::Dialect::detect`]) is never opened for writing, whatever asks.

pub mod compose;
pub mod header;
pub mod record;
pub mod repair;
pub mod scan;
pub mod separator;
pub mod view;

#[cfg(test)]
pub(crate) mod testing {
    use crate::disk::sim::SimDisk;
    use crate::disk::{Disk as _, Handle, Open};
    use crate::path::TreePath;
    use std::path::Path;

    /// A file with this content.
    pub fn file(content: &[u8]) -> Box<dyn Handle> {
        let disk = SimDisk::new();
        let path = TreePath::base_of(Path::new("/mail")).join("main.mbx");
        disk.seed(&path, content);
        disk.open(&path, Open::Read).unwrap()
    }
}
