//! A mailing list: the directory `lists/<name>/` and what its files are called.
//!
//! IMail's own names are in the help of its web pages (`Help.txt`, `Subscrib.txt`, `Header.txt`, `Trailer.txt`, `kill.lst`,
//! `digest_header.txt`, `digest_trailer.txt`) and, for the members, in the manual of 2022 (`users.lst`); those of the digest members, the posters
//! and the digest separator are not known and were chosen after their siblings. `list.ini`, `hold.lst`, `bounces.lst`, `confirm.key` and
//! `digest.sent` are ours.
//!
//! Member files are those of group aliases ([`crate::group`]); [`change`] edits them while others do.
//!
//! # Failure
//! A file that is not there is empty; other failures are the disk's.
//!
//! # Limits
//! [`SETTINGS_FILE_MAX`] bytes a file.

pub mod bounces;
pub mod change;
pub mod schedule;
pub mod settings;

use crate::disk::replace;
use crate::group::Group;
use crate::limits::SETTINGS_FILE_MAX;
use crate::name::AliasName;
use crate::path::TreePath;
use crate::root::{DomainDir, Root};
use crate::text::{self, CodePage};
use settings::{Settings, SettingsFile};
use std::io;

/// A file of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum File {
    /// Who gets each post.
    Members,
    /// Who gets digests instead.
    Digest,
    /// Who may post besides (manual 3-2 (11 d)).
    Posters,
    /// Authors who may not post.
    Kill,
    /// Members who get nothing, since their mail bounced.
    Hold,
    /// When mail to whom came back.
    Bounces,
    /// The settings.
    Settings,
    /// The key of confirmations.
    ConfirmKey,
    /// The last digest.
    DigestSent,
    /// Text in front of each post.
    Header,
    /// Text behind each post.
    Trailer,
    /// The answer to `help`.
    Help,
    /// The welcome.
    Subscribe,
    /// Text in front of a digest.
    DigestHeader,
    /// Text behind a digest.
    DigestTrailer,
    /// Text between the posts of a digest.
    DigestSeparator,
}

/// The names that are tried, one after the other; the first is that of a new file.
const NAMES: [(File, &[&str]); 16] = [
    (File::Members, &["users.lst", "users.txt"]),
    (File::Digest, &["digest.lst", "digest_users.lst", "digest.txt"]),
    (File::Posters, &["posters.lst", "posters.txt"]),
    (File::Kill, &["kill.lst"]),
    (File::Hold, &["hold.lst"]),
    (File::Bounces, &["bounces.lst"]),
    (File::Settings, &["list.ini"]),
    (File::ConfirmKey, &["confirm.key"]),
    (File::DigestSent, &["digest.sent"]),
    (File::Header, &["Header.txt"]),
    (File::Trailer, &["Trailer.txt"]),
    (File::Help, &["Help.txt"]),
    // The help of 8.2 has the first, a walk-through of 5.x the last.
    (File::Subscribe, &["Subscrib.txt", "Subscribe.txt", "Subcribe.txt"]),
    (File::DigestHeader, &["digest_header.txt"]),
    (File::DigestTrailer, &["digest_trailer.txt"]),
    (File::DigestSeparator, &["digest_separator.txt"]),
];

/// A list's directory.
#[derive(Clone)]
pub struct ListDir {
    root: Root,
    dir: TreePath,
    name: AliasName,
}

impl ListDir {
    /// The list of this name, if the domain has one.
    pub fn find(root: &Root, domain: &DomainDir, name: &AliasName) -> Option<ListDir> {
        Some(ListDir { root: root.clone(), dir: domain.list(name)?, name: name.clone() })
    }

    /// The list whose directory this is; `None` if it has no list's name.
    pub fn at(root: &Root, dir: TreePath) -> Option<ListDir> {
        let name = AliasName::parse(dir.name()).ok()?;
        Some(ListDir { root: root.clone(), dir, name })
    }

    /// Its name.
    pub fn name(&self) -> &AliasName {
        &self.name
    }

    /// The data directory.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The directory itself.
    pub fn path(&self) -> &TreePath {
        &self.dir
    }

    /// Where a file is, or would be made.
    pub fn file(&self, file: File) -> TreePath {
        let names = NAMES.iter().find(|(known, _)| *known == file).map_or(&[][..], |(_, names)| names);
        let found = names.iter().find_map(|name| self.root.file_in(&self.dir, name));
        found.unwrap_or_else(|| self.dir.join(names.first().copied().unwrap_or("list.ini")))
    }

    /// A file's bytes; none if it is not there.
    pub fn read(&self, file: File) -> io::Result<Vec<u8>> {
        match self.root.disk().read(&self.file(file), SETTINGS_FILE_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other,
        }
    }

    /// A text file's content; empty if it is not there.
    pub fn text(&self, file: File, code_page: CodePage) -> io::Result<String> {
        Ok(text::decode_file(&self.read(file)?, code_page))
    }

    /// A file of addresses.
    pub fn group(&self, file: File, code_page: CodePage) -> io::Result<Group> {
        Ok(Group::parse(self.read(file)?, code_page))
    }

    /// The settings.
    pub fn settings(&self, code_page: CodePage) -> io::Result<Settings> {
        Ok(SettingsFile::parse(self.read(File::Settings)?, code_page).settings())
    }

    /// Replaces a file that only we write.
    pub fn replace(&self, file: File, content: &[u8]) -> io::Result<()> {
        replace(self.root.disk(), &self.file(file), content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;
    use std::path::Path;
    use std::sync::Arc;

    #[test]
    fn files_are_found_by_any_of_their_names() {
        let disk = Arc::new(SimDisk::new());
        let root = Root::new(disk.clone(), Path::new("/mail"));
        let domain = root.domain(root.top().clone());
        let seed = |name: &str, bytes: &[u8]| {
            let path = ["Lists", "News", name].iter().fold(root.top().clone(), |dir, part| dir.join(part));
            root.make_dirs(&path.parent()).unwrap();
            disk.seed(&path, bytes);
        };
        seed("USERS.TXT", b"a@b\r\n");
        seed("subscribe.txt", b"\x8e\x52");
        let name = AliasName::parse("news").unwrap();
        let list = ListDir::find(&root, &domain, &name).unwrap();
        assert!(list.group(File::Members, CodePage::Japanese).unwrap().contains("A@B"));
        assert_eq!(list.text(File::Subscribe, CodePage::Japanese).unwrap(), "\u{5c71}");
        assert_eq!(list.text(File::Help, CodePage::Japanese).unwrap(), "");
        assert_eq!(list.file(File::Posters).name(), "posters.lst");
        assert_eq!(list.file(File::Members).name(), "USERS.TXT");
        assert!(NAMES.iter().all(|(_, names)| !names.is_empty()));
    }
}
