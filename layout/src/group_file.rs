//! Changing a group's member file on disk, while others may do the same.
//!
//! The file is locked, read, edited line by line ([`Group`]) and replaced, so comments and the order of those who stay are kept.
//!
//! # Failure
//! [`GroupFileError`]; the file is as it was. Limits: [`SETTINGS_FILE_MAX`](crate::limits::SETTINGS_FILE_MAX) bytes.

use crate::disk::{Disk, Open, read_whole, replace};
use crate::group::{Group, GroupError};
use crate::limits::SETTINGS_FILE_MAX;
use crate::lock::{self, LockError, PATIENCE};
use crate::path::TreePath;
use crate::text::CodePage;
use std::io;

/// Why a member file was not changed.
#[derive(Debug, thiserror::Error)]
pub enum GroupFileError {
    /// Somebody else held it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A member that cannot be one.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// The disk.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Makes `members` the members of the group in `path`, which is made if it is missing. Those that are there already stay where they
/// stand, new ones come last.
pub fn set_members(
    disk: &dyn Disk,
    path: &TreePath,
    code_page: CodePage,
    members: &[String],
) -> Result<(), GroupFileError> {
    let held = lock::acquire(disk, path, Open::Create, PATIENCE)?;
    let mut group = Group::parse(read_whole(&*held, SETTINGS_FILE_MAX)?, code_page);
    let before = group.write().to_vec();
    let stays = |member: &String| members.iter().any(|wanted| wanted.eq_ignore_ascii_case(member));
    let gone: Vec<String> = group.members().filter(|member| !stays(member)).collect();
    for member in gone {
        group.remove(&member);
    }
    members.iter().try_for_each(|member| group.add(member))?;
    if group.write() != before {
        replace(disk, path, group.write())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;
    use std::path::Path;

    #[test]
    fn members_are_set_and_comments_stay() {
        let disk = SimDisk::new();
        let path = TreePath::base_of(Path::new("/mail")).join("staff.list");
        let set = |members: &[&str]| {
            let members: Vec<String> = members.iter().map(|member| (*member).to_owned()).collect();
            set_members(&disk, &path, CodePage::Japanese, &members)
        };
        set(&["a", "b@c.d"]).unwrap();
        assert_eq!(disk.content(&path).unwrap(), b"a\r\nb@c.d\r\n");
        disk.seed(&path, b"; staff\nA\nb@c.d\n");
        set(&["e", "a"]).unwrap();
        assert_eq!(disk.content(&path).unwrap(), b"; staff\nA\ne\n");
        assert!(matches!(set(&["not an address"]), Err(GroupFileError::Group(_))));
        assert_eq!(disk.content(&path).unwrap(), b"; staff\nA\ne\n");
    }
}
