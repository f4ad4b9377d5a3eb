//! What lies in the spool and nobody needs any more; for the cleaner and for an admin's hand, never for the server.
//!
//! | files | left by |
//! | --- | --- |
//! | T or D, or both, without Q or HQ | a reception that broke off (IMail 7.1 and 8.2 guides: "the spool cleaner removes them") |
//! | A without Q or HQ | connection checks of 8.2 and 2006 |
//! | `_*.~??` whose lock is free | a crash |
//! | `<16 hex>.TMP` | a program that did not remove its copy of a message; older than [`COPY_MAX`] |
//! | any of these, compressed | the cleaner |
//!
//! A message that a Q or HQ names, by its own name or by its Q line, is never among them. Age is that of the file's content, as
//! IMail's cleaner goes by the date that a directory shows; whatever was written within [`YOUNGEST`] stays in any case, since
//! its reception may still go on.
//!
//! # Failure
//! The disk's error. An item that somebody holds, or that was accepted meanwhile, is passed over.

use super::id::{Found, ItemName, Role, recognize};
use super::qfile::{ENVELOPE_MAX, Envelope};
use crate::disk::{Disk, Kind, Open};
use crate::lock;
use crate::logdate::without_compressed;
use crate::name::SpoolId;
use crate::path::TreePath;
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::time::Duration;

/// Younger files are never left over.
pub const YOUNGEST: Duration = Duration::from_secs(3600);
/// How long a program may leave its copy of a message: it is the program that removes it (IMail help, program aliases).
pub const COPY_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Files that belong together and that nobody needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOver {
    /// The files, in the order in which they are to go.
    pub files: Vec<TreePath>,
    /// What they are of.
    of: Of,
}

impl LeftOver {
    /// Of an item; `files` are in the order in which they are to go.
    pub(super) fn of_item(name: &ItemName, files: Vec<TreePath>) -> LeftOver {
        LeftOver { files, of: Of::Item(name.clone()) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Of {
    /// An item that may still be accepted.
    Item(ItemName),
    /// A claim.
    Claim,
    /// Nothing that anybody could come for.
    Loose,
}

/// Everything in the spool directory `dir` that is left over and was last written at least `age` before `now`, nanoseconds since 1970.
pub fn left_over(disk: &dyn Disk, dir: &TreePath, age: Duration, now: i64) -> io::Result<Vec<LeftOver>> {
    let mut all = Sorted::default();
    for entry in disk.list(dir)?.into_iter().filter(|entry| entry.kind == Kind::File) {
        if let Some(name) = entry.name.to_str() {
            all.add(disk, name, dir.join(&entry.name));
        }
    }
    let is_old = |file: &TreePath, age: Duration| match disk.stat(file) {
        Ok((stamp, _)) => {
            let written = Duration::from_nanos(now.saturating_sub(stamp.modified).max(0) as u64);
            written >= age.max(YOUNGEST)
        }
        Err(_) => false,
    };
    let needed = |name: &ItemName| all.needed.contains(&name.key());
    let items = all.items.into_values().filter(|(name, _)| !needed(name));
    let items = items.map(|(name, files)| (age, LeftOver { files, of: Of::Item(name) }));
    let single = |of: Of, age: Duration| move |file| (age, LeftOver { files: vec![file], of: of.clone() });
    let claims = all.claims.into_iter().map(single(Of::Claim, age));
    let copies = all.copies.into_iter().map(single(Of::Loose, age.max(COPY_MAX)));
    let compressed = all.compressed.into_iter().map(single(Of::Loose, age));
    let found = items.chain(claims).chain(copies).chain(compressed);
    Ok(found
        .filter(|(age, left)| left.files.iter().all(|file| is_old(file, *age)))
        .map(|(_, left)| left)
        .collect())
}

/// The files of a spool by what they are.
#[derive(Default)]
struct Sorted {
    /// T, D and A of an item, by its key.
    items: BTreeMap<String, (ItemName, Vec<TreePath>)>,
    /// Keys of items that wait, and of the messages that they name.
    needed: HashSet<String>,
    claims: Vec<TreePath>,
    copies: Vec<TreePath>,
    compressed: Vec<TreePath>,
}

impl Sorted {
    fn add(&mut self, disk: &dyn Disk, name: &str, path: TreePath) {
        match recognize(name) {
            Some(Found::Item(Role::Queued | Role::Held, item)) => {
                let named = disk.read(&path, ENVELOPE_MAX).ok().and_then(|bytes| data_of(&bytes));
                self.needed.extend(named.map(|data| data.key()));
                self.needed.insert(item.key());
            }
            // T goes first: D alone is what a reception leaves that broke off even earlier.
            Some(Found::Item(Role::Arriving, item)) => self.of_item(item).insert(0, path),
            Some(Found::Item(_, item)) => self.of_item(item).push(path),
            Some(Found::Stem(..)) => self.claims.push(path),
            None if is_program_copy(name) => self.copies.push(path),
            None if without_compressed(name).is_some_and(|name| recognize(name).is_some()) => {
                self.compressed.push(path);
            }
            None => {
                if let Some(item) = checked_item(name) {
                    self.of_item(item).push(path);
                }
            }
        }
    }

    fn of_item(&mut self, item: ItemName) -> &mut Vec<TreePath> {
        &mut self.items.entry(item.key()).or_insert_with(|| (item, Vec::new())).1
    }
}

/// The message that an envelope names.
fn data_of(bytes: &[u8]) -> Option<ItemName> {
    match recognize(&Envelope::parse(bytes).data_file()?)? {
        Found::Item(Role::Data, item) => Some(item),
        _ => None,
    }
}

/// The item of an `A` file, which is named like its D.
fn checked_item(name: &str) -> Option<ItemName> {
    let rest = name.strip_prefix(['A', 'a'])?;
    match recognize(&format!("D{rest}"))? {
        Found::Item(_, item) => Some(item),
        Found::Stem(..) => None,
    }
}

fn is_program_copy(name: &str) -> bool {
    let Some((stem, extension)) = name.rsplit_once('.') else { return false };
    extension.eq_ignore_ascii_case("tmp") && stem.len() == 16 && SpoolId::parse(stem).is_some()
}

/// Hands the files to `take`, one after the other, while nobody else can work on them. `false`: somebody holds the item, or it
/// was accepted meanwhile, and it stays.
pub fn remove(
    disk: &dyn Disk,
    left: &LeftOver,
    mut take: impl FnMut(&TreePath) -> io::Result<()>,
) -> io::Result<bool> {
    match &left.of {
        Of::Loose => left.files.iter().try_for_each(take).map(|()| true),
        Of::Claim => left.files.iter().try_fold(true, |all, file| {
            match lock::acquire(disk, file, Open::Change, Duration::ZERO) {
                Ok(_held) => take(file).map(|()| all),
                Err(_) => Ok(false),
            }
        }),
        Of::Item(name) => {
            let Some(dir) = left.files.first().map(TreePath::parent) else { return Ok(true) };
            let claim = dir.join(name.file(Role::Claim));
            let Ok(_held) = lock::acquire(disk, &claim, Open::Create, Duration::ZERO) else {
                return Ok(false);
            };
            let accepted =
                [Role::Queued, Role::Held].iter().any(|role| disk.stat(&dir.join(name.file(*role))).is_ok());
            let done = if accepted { Ok(()) } else { left.files.iter().try_for_each(take) };
            disk.unlink(&claim)?;
            done.map(|()| !accepted)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;
    use std::path::Path;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn spool(files: &[(&str, &[u8])]) -> (SimDisk, TreePath) {
        let disk = SimDisk::new();
        let dir = TreePath::base_of(Path::new("/mail")).join("spool");
        files.iter().for_each(|(name, content)| disk.seed(&dir.join(*name), content));
        (disk, dir)
    }

    fn names(left: &[LeftOver]) -> Vec<Vec<String>> {
        left.iter().map(|left| left.files.iter().map(|file| file.name().to_owned()).collect()).collect()
    }

    #[test]
    fn only_what_nobody_needs() {
        let (disk, dir) = spool(&[
            ("D0000000000000001.SMD", b"x"),
            ("D0000000000000002.SMD", b"x"),
            ("T0000000000000002.SMD", b"x"),
            ("D0000000000000003.SMD", b"x"),
            ("Q0000000000000003.smd", b"QC:\\spool\\D0000000000000003.SMD\r\nS<>\r\nR<a>\r\n"),
            ("D0000000000000004.SMD", b"x"),
            ("HQ0000000000000004.SMD", b"x"),
            ("D0000000000000005.SMD", b"x"),
            ("Qcopy.SMD", b"QC:\\spool\\D0000000000000005.SMD\r\nS<>\r\nR<a>\r\n"),
            ("A0000000000000006.SMD", b"x"),
            ("A0000000000000003.SMD", b"x"),
            ("_0000000000000007.~MD", b""),
            ("_0000000000000007.~ab", b""),
            ("Q0000000000000008.SMD", b"x"),
            ("00000000000000aa.TMP", b"x"),
            ("D0000000000000009.SMD.gz", b"x"),
            ("next.id", b"x"),
            ("sys0101.txt", b"x"),
            ("F123.txt", b"x"),
        ]);
        let after = |age, passed: Duration| {
            left_over(&disk, &dir, age, disk.now() + passed.as_nanos() as i64).unwrap()
        };
        assert!(after(Duration::ZERO, Duration::from_secs(3000)).is_empty(), "all are young");
        let expected = [
            vec!["D0000000000000001.SMD"],
            vec!["T0000000000000002.SMD", "D0000000000000002.SMD"],
            vec!["A0000000000000006.SMD"],
            vec!["_0000000000000007.~MD"],
            vec!["_0000000000000007.~ab"],
            vec!["D0000000000000009.SMD.gz"],
        ];
        assert_eq!(names(&after(DAY, DAY * 2)), expected);
        assert!(after(DAY * 3, DAY * 2).is_empty());
        assert_eq!(after(DAY, COPY_MAX + DAY).len(), 7, "and the program's copy");
    }

    #[test]
    fn what_is_held_or_accepted_stays() {
        let (disk, dir) = spool(&[("D0000000000000001.SMD", b"x"), ("T0000000000000001.SMD", b"x")]);
        let found = left_over(&disk, &dir, DAY, disk.now() + 2 * DAY.as_nanos() as i64).unwrap();
        let gone = |file: &TreePath| disk.unlink(file);
        let claim = dir.join("_0000000000000001.~MD");
        let held = lock::acquire(&disk, &claim, Open::Create, Duration::ZERO).unwrap();
        assert!(!remove(&disk, &found[0], gone).unwrap());
        drop(held);
        disk.rename(&dir.join("T0000000000000001.SMD"), &dir.join("Q0000000000000001.SMD")).unwrap();
        assert!(!remove(&disk, &found[0], gone).unwrap());
        disk.rename(&dir.join("Q0000000000000001.SMD"), &dir.join("T0000000000000001.SMD")).unwrap();
        assert!(remove(&disk, &found[0], gone).unwrap());
        assert!(disk.list(&dir).unwrap().is_empty());
    }
}
