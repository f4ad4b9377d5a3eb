//! The data directory ("the root"): the only code that joins names to paths.
//!
//! On NTFS, where these trees come from, `Users` and `users` are one directory. Here every name is looked up without regard to
//! case: the entry in lower case counts, else the first in byte order. Listings are kept as long as the directory's stamp
//! does not change.
//!
//! # Failure
//! A path that leads nowhere is `None`; everything else is [`std::io::Error`] from the disk.
//!
//! # Limits
//! [`MAILBOXES_MAX`] mailboxes a user, [`NESTING_MAX`] directories deep.

use crate::disk::{Disk, Kind, Stamp};
use crate::name::{AliasName, MailboxName, UserId};
use crate::path::{TreePath, is_component};
use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The most mailboxes that are shown of one user.
pub const MAILBOXES_MAX: usize = 10_000;
/// How deep sub-directories with mailboxes are followed.
pub const NESTING_MAX: usize = 10;
/// The directory beside those of users that holds what deleted users had.
pub const DELETED: &str = ".deleted";
/// The environment variable that names the root.
pub const ROOT_VARIABLE: &str = "IMAIL_ROOT";

/// The data directory.
#[derive(Clone)]
pub struct Root {
    /// Every directory of a user has it, and large groups have many of these.
    shared: Arc<Shared>,
}

struct Shared {
    top: TreePath,
    disk: Arc<dyn Disk>,
    listings: Mutex<HashMap<TreePath, Place>>,
}

/// So many directories are remembered: each user has one, and mail to a list comes by thousands of them.
const LISTINGS_MAX: usize = 500;

/// A directory with more names than this is not read again within [`FRESH_FOR`]: while mail to a large list makes the directories of its members,
/// each of them would have all names read. Only somebody who makes a directory by hand in that time, in other letters than the user's first
/// message, is overlooked; between finding a place and making it there is as much time anyway.
const LARGE_LISTING: usize = 1000;
const FRESH_FOR: Duration = Duration::from_millis(500);

/// Where what is known of one directory is kept; whoever reads the directory holds it.
type Place = Arc<Mutex<Option<Listing>>>;

struct Listing {
    stamp: Stamp,
    /// When it was begun: it is good for whoever asked before.
    begun: Instant,
    /// How many names there are.
    length: usize,
    /// Lower-case name to the entry that counts, but for those that are found by that name without a listing.
    names: Arc<HashMap<String, OsString>>,
}

/// Why no root was found.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// None of the three ways led to one.
    #[error(
        "no IMail directory: name it with --root DIR, or with the environment variable IMAIL_ROOT, or run this in the directory that holds registry.ini"
    )]
    NotNamed,
    /// The named directory cannot be used.
    #[error("{0}: {1}")]
    Unusable(PathBuf, io::Error),
}

/// Where the root is: the option, else the environment, else the current directory if it holds `registry.ini`.
pub fn locate(option: Option<&Path>) -> Result<PathBuf, RootError> {
    let named = option.map(Path::to_owned).or_else(|| std::env::var_os(ROOT_VARIABLE).map(PathBuf::from));
    let dir = match named {
        Some(dir) => dir,
        None if Path::new("registry.ini").exists() => PathBuf::from("."),
        None => return Err(RootError::NotNamed),
    };
    let canonical = dir.canonicalize().map_err(|e| RootError::Unusable(dir.clone(), e))?;
    if canonical.is_dir() {
        Ok(canonical)
    } else {
        Err(RootError::Unusable(dir, io::ErrorKind::NotADirectory.into()))
    }
}

impl Root {
    /// The tree in `dir`, on `disk`.
    pub fn new(disk: Arc<dyn Disk>, dir: &Path) -> Root {
        Root { shared: Arc::new(Shared { top: TreePath::base_of(dir), disk, listings: Mutex::default() }) }
    }

    /// The disk it is on.
    pub fn disk(&self) -> &dyn Disk {
        &*self.shared.disk
    }

    /// The disk, for keeping.
    pub fn shared_disk(&self) -> Arc<dyn Disk> {
        self.shared.disk.clone()
    }

    /// The directory itself.
    pub fn top(&self) -> &TreePath {
        &self.shared.top
    }

    /// The stand-in for the Windows registry.
    pub fn registry_ini(&self) -> TreePath {
        self.shared.top.join("registry.ini")
    }

    /// The last registry that was taken over whole.
    pub fn registry_good(&self) -> TreePath {
        self.shared.top.join("registry.ini.good")
    }

    /// Locked by whoever changes the registry; its existence means nothing.
    pub fn registry_lock(&self) -> TreePath {
        self.shared.top.join("registry.lck")
    }

    /// Where messages wait; the only spool for all domains (IMail 8.2 guide).
    pub fn spool(&self) -> TreePath {
        self.find(&self.shared.top, "spool")
    }

    /// Where logs go unless `LogDir` says otherwise (manual 5).
    pub fn logs(&self) -> TreePath {
        self.find(&self.shared.top, "logs")
    }

    /// Certificates and keys.
    pub fn certificates(&self) -> TreePath {
        self.shared.top.join("certs")
    }

    /// An entry of `dir` by its name without regard to case; if there is none, where one of that name would be made.
    pub fn find(&self, dir: &TreePath, name: &str) -> TreePath {
        self.existing(dir, name).unwrap_or_else(|| dir.join(name))
    }

    /// An entry of `dir` by its name without regard to case.
    pub fn existing(&self, dir: &TreePath, name: &str) -> Option<TreePath> {
        if !is_component(name.as_ref()) {
            return None;
        }
        let lower = name.to_lowercase();
        let direct = dir.join(&lower);
        if self.shared.disk.stat(&direct).is_ok() {
            return Some(direct);
        }
        let names = self.listing(dir).ok()?;
        names.get(&lower).map(|actual| dir.join(actual))
    }

    /// The names in a directory that are not in lower case. Those who ask while it is read share what is read next: when many mailboxes are made at once, the directory changes
    /// all the time, and has as many names.
    fn listing(&self, dir: &TreePath) -> io::Result<Arc<HashMap<String, OsString>>> {
        // A stamp as young as this may be followed by another change within the clock's grain; the simulated disk has none for directories.
        const GRAIN: i64 = 20_000_000;
        let asked = Instant::now();
        let place = {
            let mut listings = self.shared.listings.lock().unwrap_or_else(PoisonError::into_inner);
            if listings.len() >= LISTINGS_MAX && !listings.contains_key(dir) {
                listings.clear();
            }
            listings.entry(dir.clone()).or_default().clone()
        };
        let mut known = place.lock().unwrap_or_else(PoisonError::into_inner);
        let (stamp, _) = self.shared.disk.stat(dir)?;
        if let Some(listing) = &*known {
            let settled = stamp.inode != 0 && self.shared.disk.now() - stamp.modified > GRAIN;
            let large = listing.length > LARGE_LISTING && listing.begun.elapsed() < FRESH_FOR;
            if listing.begun >= asked || large || settled && listing.stamp == stamp {
                return Ok(listing.names.clone());
            }
        }
        // What was known goes first: a large directory's names are not there twice.
        *known = None;
        let begun = Instant::now();
        let mut names = HashMap::new();
        let entries = self.shared.disk.list(dir)?;
        let length = entries.len();
        for entry in entries {
            let text = entry.name.to_string_lossy();
            let lower = text.to_lowercase();
            match text == lower {
                // A link that leads nowhere is not found, but it is there.
                true if entry.kind != Kind::Other => {}
                true => drop(names.insert(lower, entry.name)),
                // The listing is in byte order, so the first of a kind counts.
                false => drop(names.entry(lower).or_insert(entry.name)),
            }
        }
        let names = Arc::new(names);
        *known = Some(Listing { stamp, begun, length, names: names.clone() });
        Ok(names)
    }

    /// The directories of a domain whose top directory is `top`.
    pub fn domain(&self, top: TreePath) -> DomainDir {
        DomainDir { root: self.clone(), top }
    }

    /// A file of a directory that holds settings (`kill.lst`, `rules.ima`, a group file), found without regard to case.
    pub fn file_in(&self, dir: &TreePath, name: &str) -> Option<TreePath> {
        let path = self.existing(dir, name)?;
        matches!(self.shared.disk.stat(&path), Ok((_, Kind::File))).then_some(path)
    }

    /// Makes a directory and those above it, up to the base, and makes them durable.
    pub fn make_dirs(&self, dir: &TreePath) -> io::Result<()> {
        if dir.below().as_os_str().is_empty() || self.shared.disk.stat(dir).is_ok() {
            return Ok(());
        }
        self.make_dirs(&dir.parent())?;
        self.shared.disk.make_dir(dir)?;
        self.shared.disk.sync_dir(&dir.parent())
    }
}

/// Maps paths of the old Windows server to places of this machine: `TopDir` of `[Global]` is the root, and the lines of `[Paths]`
/// say where other prefixes are. The longest prefix counts; case and the direction of slashes do not.
#[derive(Clone, Debug, Default)]
pub struct PathMap {
    /// Normalized prefix and target, longest prefix first.
    prefixes: Vec<(String, TreePath)>,
}

fn normalize(path: &str) -> String {
    path.replace('\\', "/").trim_end_matches('/').to_lowercase()
}

impl PathMap {
    /// The map of a root. `paths` are the lines of `[Paths]`, `OLD PREFIX=target`, targets relative to the root or absolute.
    pub fn new<'a>(
        root: &Root,
        top_dir: Option<&str>,
        paths: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> PathMap {
        let mut prefixes = Vec::new();
        for (old, target) in paths {
            if let Some(target) = target_of(root, target) {
                prefixes.push((normalize(old), target));
            }
        }
        if let Some(top_dir) = top_dir
            && !prefixes.iter().any(|(old, _)| *old == normalize(top_dir))
        {
            prefixes.push((normalize(top_dir), root.top().clone()));
        }
        prefixes.retain(|(old, _)| !old.is_empty());
        prefixes.sort_by_key(|(old, _)| std::cmp::Reverse(old.len()));
        PathMap { prefixes }
    }

    /// A domain's top directory: where its `TopDir` leads, or the root if it has none.
    pub fn top_of(&self, root: &Root, top_dir: &str) -> Option<TreePath> {
        if top_dir.is_empty() { Some(root.top().clone()) } else { self.resolve(root, top_dir) }
    }

    /// Where a path of the registry leads, `None` if it is outside of everything that was mapped. The entry need not exist.
    pub fn resolve(&self, root: &Root, path: &str) -> Option<TreePath> {
        let wanted = normalize(path);
        self.prefixes.iter().find_map(|(old, target)| {
            let rest = wanted.strip_prefix(old.as_str())?;
            if !rest.is_empty() && !rest.starts_with('/') {
                return None;
            }
            // The spelling of the original is kept for entries that do not exist yet.
            let original = path.replace('\\', "/");
            let tail = original.trim_end_matches('/').get(old.len()..).unwrap_or(rest).to_owned();
            descend(root, target, &tail)
        })
    }
}

fn target_of(root: &Root, target: &str) -> Option<TreePath> {
    if target.starts_with('/') {
        return Some(TreePath::base_of(Path::new(target)));
    }
    descend(root, root.top(), &target.replace('\\', "/"))
}

fn descend(root: &Root, from: &TreePath, below: &str) -> Option<TreePath> {
    below
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .try_fold(from.clone(), |dir, part| is_component(part.as_ref()).then(|| root.find(&dir, part)))
}

/// A domain's top directory, with `users` and `lists` below.
#[derive(Clone)]
pub struct DomainDir {
    root: Root,
    top: TreePath,
}

impl DomainDir {
    /// The directory itself.
    pub fn top(&self) -> &TreePath {
        &self.top
    }

    /// The directory of all users.
    pub fn users(&self) -> TreePath {
        self.root.find(&self.top, "users")
    }

    /// A user's directory, which may not exist yet.
    pub fn user(&self, id: &UserId) -> UserDir {
        UserDir { root: self.root.clone(), dir: self.root.find(&self.users(), id.as_str()) }
    }

    /// The directory of all mailing lists.
    pub fn lists(&self) -> TreePath {
        self.root.find(&self.top, "lists")
    }

    /// A mailing list's directory, if there is one.
    pub fn list(&self, name: &AliasName) -> Option<TreePath> {
        let dir = self.root.existing(&self.lists(), name.as_str())?;
        matches!(self.root.disk().stat(&dir), Ok((_, Kind::Directory))).then_some(dir)
    }

    /// Where a new group's members are kept: `<alias>.list` (manual 3-1 (2)).
    pub fn group_file(&self, alias: &AliasName) -> TreePath {
        self.root.find(&self.top, &format!("{alias}.list"))
    }
}

/// A user's directory.
#[derive(Clone)]
pub struct UserDir {
    root: Root,
    dir: TreePath,
}

/// A mailbox that was found on disk.
#[derive(Clone, Debug)]
pub struct FoundMailbox {
    /// Its name for clients.
    pub name: MailboxName,
    /// Its file.
    pub file: TreePath,
}

impl UserDir {
    /// The directory itself.
    pub fn path(&self) -> &TreePath {
        &self.dir
    }

    /// Makes the directory, with its parents, if it is missing.
    pub fn make(&self) -> io::Result<()> {
        self.root.make_dirs(&self.dir)
    }

    /// `forward.ima` (manual 2-1 (6)).
    pub fn forward(&self) -> TreePath {
        self.root.find(&self.dir, "forward.ima")
    }

    /// Moves the directory of a user who was deleted to `users/.deleted/<id>.<time>` (UTC), and gives the new place;
    /// `None` if there was no directory. Nothing there is ever removed by a program. No user ID begins with a dot, so
    /// the place is nobody's.
    pub fn move_to_deleted(&self) -> io::Result<Option<TreePath>> {
        /// Directories of one user that may be put away within one second.
        const SAME_SECOND_MAX: u32 = 1000;
        let disk = self.root.disk();
        if !matches!(disk.stat(&self.dir), Ok((_, Kind::Directory))) {
            return Ok(None);
        }
        let users = self.dir.parent();
        let deleted = self.root.find(&users, DELETED);
        if disk.stat(&deleted).is_err() {
            disk.make_dir(&deleted)?;
            disk.copy_owner(&users, &deleted)?;
        }
        let time = chrono::DateTime::from_timestamp_nanos(disk.now()).format("%Y%m%d-%H%M%S");
        let place = deleted.join(format!("{}.{time}", self.dir.name().to_lowercase()));
        let free = (0..SAME_SECOND_MAX)
            .map(|number| if number == 0 { place.clone() } else { place.with_suffix(&format!(".{number}")) })
            .find(|place| disk.stat(place).is_err())
            .ok_or(io::ErrorKind::AlreadyExists)?;
        disk.rename(&self.dir, &free)?;
        disk.sync_dir(&deleted)?;
        disk.sync_dir(&users)?;
        Ok(Some(free))
    }

    /// A file of the user that has a fixed name.
    pub fn file(&self, name: &'static str) -> TreePath {
        self.root.find(&self.dir, name)
    }

    /// A name for a temporary file of ours, numbered by the caller; IMail ignores it, as it does its own files of that kind.
    pub fn temporary(&self, number: u64) -> TreePath {
        self.dir.join(format!("{number:016x}.$$$"))
    }

    /// A mailbox's file: the one that exists, flat (`A.B.mbx`) before nested (`A/B.mbx`), or the one that would be made.
    pub fn mailbox(&self, name: &MailboxName) -> TreePath {
        let file = format!("{}.mbx", name.file_stem());
        if let Some(path) = self.root.existing(&self.dir, &file) {
            return path;
        }
        if name.is_inbox() {
            return self.dir.join(file);
        }
        // Files whose names are raw Unicode, a code page or nested directories are found by what they are shown as.
        let found = self.mailboxes().ok().and_then(|all| all.into_iter().find(|found| found.name == *name));
        found.map_or_else(|| self.dir.join(file), |found| found.file)
    }

    /// All mailboxes of the user in the order of their names; each name once. The INBOX is among them only if its file exists.
    pub fn mailboxes(&self) -> io::Result<Vec<FoundMailbox>> {
        let mut found = Vec::new();
        match self.collect(&self.dir, "", 0, &mut found) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found.dedup_by(|later, first| later.name == first.name);
        Ok(found)
    }

    /// Adds the mailboxes of one directory: its files first, so that a flat one stands before a nested one of the same name.
    fn collect(
        &self,
        dir: &TreePath,
        prefix: &str,
        depth: usize,
        found: &mut Vec<FoundMailbox>,
    ) -> io::Result<()> {
        let entries = self.root.disk().list(dir)?;
        for entry in entries.iter().filter(|entry| entry.kind == Kind::File) {
            let Some(stem) = stem_of(&entry.name) else { continue };
            if found.len() < MAILBOXES_MAX
                && let Ok(name) = MailboxName::from_file_stem(&format!("{prefix}{stem}"))
            {
                let lower_first = entry.name.to_str().is_some_and(|name| name == name.to_lowercase());
                let file = dir.join(&entry.name);
                match found.iter_mut().find(|other| other.name == name) {
                    Some(other) if lower_first && other.file.parent() == *dir => other.file = file,
                    Some(_) => {}
                    None => found.push(FoundMailbox { name, file }),
                }
            }
        }
        if depth < NESTING_MAX {
            for entry in entries.iter().filter(|entry| entry.kind == Kind::Directory) {
                if let Some(name) = entry.name.to_str().filter(|name| !name.starts_with('.')) {
                    self.collect(&dir.join(name), &format!("{prefix}{name}."), depth + 1, found)?;
                }
            }
        }
        Ok(())
    }
}

/// The part before `.mbx`, in any case; names in a code page are read as CP932.
fn stem_of(name: &OsString) -> Option<String> {
    let bytes = name.as_bytes();
    let stem = bytes.get(..bytes.len().checked_sub(4)?)?;
    if stem.is_empty() || !bytes[stem.len()..].eq_ignore_ascii_case(b".mbx") {
        return None;
    }
    Some(match std::str::from_utf8(stem) {
        Ok(text) => text.to_owned(),
        Err(_) => encoding_rs::SHIFT_JIS.decode_without_bom_handling(stem).0.into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;

    fn tree(files: &[&str]) -> Root {
        let disk = SimDisk::new();
        let root = Root::new(Arc::new(disk.clone()), Path::new("/mail"));
        for file in files {
            let path = file.split('/').fold(root.top().clone(), |dir, part| dir.join(part));
            disk.seed(&path, b"");
        }
        root
    }

    #[test]
    fn what_comes_into_a_large_directory_is_found_soon() {
        let root = tree(&[]);
        let users = root.top().join("users");
        let disk = root.disk();
        disk.make_dir(&users).unwrap();
        let make = |name: &str| disk.make_dir(&users.join(name)).unwrap();
        (0..=LARGE_LISTING).for_each(|number| make(&format!("User{number}")));
        assert_eq!(root.existing(&users, "user7"), Some(users.join("User7")));
        make("late");
        make("Later");
        assert_eq!(root.existing(&users, "late"), Some(users.join("late")), "at once, as it is written");
        std::thread::sleep(FRESH_FOR);
        assert_eq!(root.existing(&users, "later"), Some(users.join("Later")));
    }

    #[test]
    fn names_are_found_without_regard_to_case() {
        let root =
            tree(&["Users/Mike/Main.mbx", "Users/Mike/SENT.mbx", "Users/ann/main.mbx", "Users/ann/MAIN.mbx"]);
        let domain = root.domain(root.top().clone());
        let mike = domain.user(&UserId::parse("mike").unwrap());
        assert_eq!(mike.mailbox(&MailboxName::inbox()).below(), Path::new("Users/Mike/Main.mbx"));
        assert_eq!(
            mike.mailbox(&MailboxName::from_wire(b"Sent").unwrap()).below(),
            Path::new("Users/Mike/SENT.mbx")
        );
        assert_eq!(
            mike.mailbox(&MailboxName::from_wire(b"New").unwrap()).below(),
            Path::new("Users/Mike/New.mbx")
        );
        let ann = domain.user(&UserId::parse("ANN").unwrap());
        assert_eq!(ann.mailbox(&MailboxName::inbox()).below(), Path::new("Users/ann/main.mbx"));
        let new = domain.user(&UserId::parse("new").unwrap());
        assert_eq!(new.mailbox(&MailboxName::inbox()).below(), Path::new("Users/new/main.mbx"));
    }

    #[test]
    fn flat_mailboxes_stand_before_nested_ones() {
        let root = tree(&[
            "users/u/A.B.mbx",
            "users/u/A/B.mbx",
            "users/u/A/C.mbx",
            "users/u/main.mbx",
            "users/u/x.rsx",
        ]);
        let user = root.domain(root.top().clone()).user(&UserId::parse("u").unwrap());
        let found: Vec<_> = user
            .mailboxes()
            .unwrap()
            .into_iter()
            .map(|m| (m.name.to_string(), m.file.below().to_owned()))
            .collect();
        let expected =
            [("A.B", "users/u/A.B.mbx"), ("A.C", "users/u/A/C.mbx"), ("INBOX", "users/u/main.mbx")];
        assert_eq!(found, expected.map(|(name, file)| (name.to_owned(), PathBuf::from(file))));
        assert_eq!(
            user.mailbox(&MailboxName::from_wire(b"a.c").unwrap()).below(),
            Path::new("users/u/A/C.mbx")
        );
    }

    #[test]
    fn a_deleted_users_directory_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(Arc::new(crate::disk::real::RealDisk::new()), dir.path());
        let user = root.domain(root.top().clone()).user(&UserId::parse("mike").unwrap());
        let mut places = Vec::new();
        for _ in 0..2 {
            std::fs::create_dir_all(dir.path().join("users/mike")).unwrap();
            std::fs::write(dir.path().join("users/mike/main.mbx"), "mail").unwrap();
            let place = user.move_to_deleted().unwrap().unwrap();
            assert!(place.below().to_str().unwrap().starts_with("users/.deleted/mike."), "{place}");
            assert_eq!(std::fs::read(place.full().join("main.mbx")).unwrap(), b"mail");
            places.push(place);
        }
        assert_ne!(places[0], places[1]);
        assert_eq!(user.move_to_deleted().unwrap(), None);
    }

    #[test]
    fn windows_paths_are_mapped() {
        let root = tree(&["Example_Org/Staff.lst"]);
        let map = PathMap::new(
            &root,
            Some(r"C:\IMail"),
            [(r"D:\Mail", "/srv/mail"), (r"C:\IMail\Old", "example_org")],
        );
        for (path, expected) in [
            (r"C:\IMail", Some("/mail/")),
            (r"c:/imail/example_org/staff.LST", Some("/mail/Example_Org/Staff.lst")),
            (r"C:\IMail\old\Staff.lst", Some("/mail/Example_Org/Staff.lst")),
            (r"d:\mail\New.txt", Some("/srv/mail/New.txt")),
            (r"C:\IMailX\a", None),
            (r"C:\Windows\a", None),
            (r"C:\IMail\..\a", None),
        ] {
            assert_eq!(map.resolve(&root, path).map(|p| p.full()), expected.map(PathBuf::from), "{path}");
        }
    }
}
