//! `login.last` in a user's directory: when the user logged in last, by whatever protocol (manual 2-1, "Last Login").
//!
//! One line of a fixed length, so that it can be overwritten where it stands: `001700000000 POP3`. The file is ours; where IMail keeps this is not known.
//! A login time that a crash takes is no loss, so it is never synced.

use crate::disk::{Open, replace};
use crate::root::{Root, UserDir};
use std::io;

/// The file's name.
const FILE: &str = "login.last";
/// Its longest content.
const SIZE_MAX: u64 = 64;

/// A login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastLogin {
    /// Unix seconds.
    pub time: u64,
    /// `SMTP`, `POP3` or `IMAP`.
    pub protocol: String,
}

impl LastLogin {
    fn text(&self) -> String {
        format!("{:012} {:4}\n", self.time, self.protocol)
    }

    fn parse(bytes: &[u8]) -> Option<LastLogin> {
        let (time, protocol) = std::str::from_utf8(bytes).ok()?.trim().split_once(' ')?;
        Some(LastLogin { time: time.parse().ok()?, protocol: protocol.to_owned() })
    }

    /// The last login of a user; `None` if there was none yet.
    pub fn read(root: &Root, user: &UserDir) -> Option<LastLogin> {
        LastLogin::parse(&root.disk().read(&user.file(FILE), SIZE_MAX).ok()?)
    }

    /// Writes a login down; makes the user's directory if it is missing, as IMail does at the first login (7.1 guide).
    pub fn write(&self, root: &Root, user: &UserDir) -> io::Result<()> {
        user.make()?;
        let (file, text) = (user.file(FILE), self.text());
        match root.disk().open(&file, Open::Change) {
            Ok(handle) if handle.stamp()?.size == text.len() as u64 => handle.write_at(text.as_bytes(), 0),
            _ => replace(root.disk(), &file, text.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;
    use crate::name::UserId;
    use std::path::Path;
    use std::sync::Arc;

    #[test]
    fn the_last_login_is_kept() {
        let root = Root::new(Arc::new(SimDisk::new()), Path::new("/mail"));
        let user = root.domain(root.top().clone()).user(&UserId::parse("mike").unwrap());
        assert_eq!(LastLogin::read(&root, &user), None);
        for (time, protocol) in [(1_700_000_000, "POP3"), (1_700_000_100, "IMAP")] {
            let login = LastLogin { time, protocol: protocol.to_owned() };
            login.write(&root, &user).unwrap();
            assert_eq!(LastLogin::read(&root, &user), Some(login));
        }
        assert_eq!(LastLogin::parse(b"torn"), None);
    }
}
