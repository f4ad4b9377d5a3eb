//! The one door to the disk.
//!
//! Everything that reads or changes the tree goes through [`Disk`] and [`Handle`]. There are two
//! implementations: [`real::RealDisk`], and [`sim::SimDisk`], which keeps apart what programs see from
//! what a power cut would leave, so that tests can crash at every single write.
//!
//! # Failure
//! Every operation answers with [`std::io::Error`]; nothing is retried here. A failed sync means that
//! nothing is known of the bytes since the last good one: the caller must read the file again.
//!
//! # Limits
//! [`Disk::read`] takes the largest size that its caller can use and refuses longer files.

pub mod real;
pub mod sim;

use crate::path::TreePath;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::sync::Arc;

/// What `stat` knows of a file; two equal stamps mean that nobody changed it, within the clock's grain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Device number.
    pub device: u64,
    /// Inode number; a replaced file has another one.
    pub inode: u64,
    /// Length in bytes.
    pub size: u64,
    /// Time of the last change of the content, nanoseconds since 1970.
    pub modified: i64,
    /// Time of the last change of content or attributes, nanoseconds since 1970.
    pub changed: i64,
}

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An ordinary file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, device, socket or pipe: never opened by us.
    Other,
}

/// A directory entry's name and kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name as it stands on disk: bytes, since trees that were unpacked by old tools hold code-page names.
    pub name: OsString,
    /// What it is.
    pub kind: Kind,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Change,
    /// For reading and writing, made if missing.
    Create,
    /// For reading and writing; an existing file is an error (`AlreadyExists`).
    CreateNew,
}

/// An open file. Dropping it closes it and gives up its lock.
pub trait Handle: Send + Sync {
    /// Reads up to `buffer.len()` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at the end of the file, wherever that is by now (`O_APPEND`), and answers with the
    /// file's length right after.
    fn append(&self, bytes: &[u8]) -> io::Result<u64>;
    /// Overwrites bytes that exist already.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts or extends the file.
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// Makes the content durable (`fdatasync`).
    fn sync(&self) -> io::Result<()>;
    /// Makes everything on the file system that holds the file durable; `Ok(false)` as with [`Disk::sync_all`].
    fn sync_all(&self) -> io::Result<bool>;
    /// The file's stamp now.
    fn stamp(&self) -> io::Result<Stamp>;
    /// Tries to take the whole-file lock that also keeps out other mail programs: `Ok(false)` if somebody has it.
    fn try_lock(&self) -> io::Result<bool>;
    /// Gives the lock up.
    fn unlock(&self) -> io::Result<()>;
}

/// A file system that holds a tree.
pub trait Disk: Send + Sync {
    /// Opens a regular file. Symbolic links on the way below the base, and anything that is no regular file, are refused.
    fn open(&self, path: &TreePath, how: Open) -> io::Result<Box<dyn Handle>>;
    /// The stamp and kind of an entry.
    fn stat(&self, path: &TreePath) -> io::Result<(Stamp, Kind)>;
    /// Moves an entry, replacing what is there.
    fn rename(&self, from: &TreePath, to: &TreePath) -> io::Result<()>;
    /// Lets two files change places at once, so that what stood at `to` is not lost but stands at `from` afterwards. Where that cannot be
    /// done it is a [`Disk::rename`], and the answer is `false`.
    fn exchange(&self, from: &TreePath, to: &TreePath) -> io::Result<bool> {
        self.rename(from, to).map(|()| false)
    }
    /// Gives a file a second name.
    fn link(&self, from: &TreePath, to: &TreePath) -> io::Result<()>;
    /// Removes a file's name.
    fn unlink(&self, path: &TreePath) -> io::Result<()>;
    /// Makes a directory; one that exists is fine.
    fn make_dir(&self, path: &TreePath) -> io::Result<()>;
    /// The entries of a directory, in the order of their bytes.
    fn list(&self, dir: &TreePath) -> io::Result<Vec<Entry>>;
    /// Makes a directory's entries durable.
    fn sync_dir(&self, dir: &TreePath) -> io::Result<()>;
    /// Makes everything on the file system that holds the directory `dir` durable (`syncfs`); `Ok(false)` where that cannot be
    /// relied on (network file systems), and nothing was done.
    fn sync_all(&self, dir: &TreePath) -> io::Result<bool>;
    /// A file's content as private memory: changes made to it never reach the file.
    /// Only for files that are replaced by rename and never shortened.
    fn map(&self, path: &TreePath) -> io::Result<Private>;
    /// Now, in nanoseconds since 1970, by the clock that stamps are made with.
    fn now(&self) -> i64;
    /// Gives a new file or directory the owner and mode of an existing one; for tests' disks nothing happens.
    fn copy_owner(&self, from: &TreePath, to: &TreePath) -> io::Result<()> {
        let _ = (from, to);
        Ok(())
    }

    /// Takes a file away from everybody but its owner (mode 0600), for files that hold passwords; for tests' disks nothing
    /// happens.
    fn make_private(&self, path: &TreePath) -> io::Result<()> {
        let _ = path;
        Ok(())
    }

    /// Reads a whole file of at most `limit` bytes.
    fn read(&self, path: &TreePath, limit: u64) -> io::Result<Vec<u8>> {
        read_whole(self.open(path, Open::Read)?.as_ref(), limit)
    }
}

/// Reads all of an open file, of at most `limit` bytes; more is `FileTooLarge`.
pub fn read_whole(handle: &dyn Handle, limit: u64) -> io::Result<Vec<u8>> {
    let size = handle.stamp()?.size;
    if size > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{size} bytes, {limit} at most")));
    }
    let mut content = vec![0; size as usize];
    let mut filled = 0;
    // One read past the expected end finds a file that grew meanwhile, up to the limit.
    loop {
        if filled == content.len() {
            if content.len() as u64 > limit {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {limit} bytes")));
            }
            content.resize(filled + 4096, 0);
        }
        match handle.read_at(&mut content[filled..], filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    content.truncate(filled);
    Ok(content)
}

/// Fills `buffer` from `offset`; a file that ends before is `UnexpectedEof`.
pub fn read_exact_at(handle: &dyn Handle, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match handle.read_at(buffer, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                buffer = &mut buffer[n..];
                offset += n as u64;
            }
        }
    }
    Ok(())
}

/// A file's content as private memory, mapped copy-on-write or read.
pub enum Private {
    /// Mapped: pages are shared with the page cache until they are changed.
    Mapped {
        /// Ours, with our changes.
        own: memmap2::MmapMut,
        /// The file as it was and stays, mapped a second time; not for small ones, of which there may be many.
        file: Option<Arc<memmap2::Mmap>>,
    },
    /// Read into memory.
    Owned(Vec<u8>),
}

impl Private {
    /// The file as it was and stays, whatever is changed here; `None` if that would have to be copied.
    pub fn unchanged(&self) -> Option<Arc<memmap2::Mmap>> {
        match self {
            Private::Mapped { file, .. } => file.clone(),
            Private::Owned(_) => None,
        }
    }
}

impl std::ops::Deref for Private {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Private::Mapped { own, .. } => own,
            Private::Owned(bytes) => bytes,
        }
    }
}

impl std::ops::DerefMut for Private {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Private::Mapped { own, .. } => own,
            Private::Owned(bytes) => bytes,
        }
    }
}

/// Replaces a file's whole content so that a crash leaves the old or the new one: `<name>.$$$`, sync, rename, sync of the directory.
/// The name is IMail's habit for files in the middle of a rewrite.
pub fn replace(disk: &dyn Disk, path: &TreePath, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_suffix(".$$$");
    write_new(disk, &temporary, content)?;
    put_in_place(disk, &temporary, path)?;
    disk.sync_dir(&path.parent())
}

/// Gives a file that was written beside another one, and is durable, the other's name. The name still has to be made durable.
pub fn put_in_place(disk: &dyn Disk, temporary: &TreePath, path: &TreePath) -> io::Result<()> {
    if disk.stat(path).is_ok() {
        disk.copy_owner(path, temporary)?;
    }
    disk.rename(temporary, path)
}

/// Writes and syncs a new file, in place of a left-over one of that name.
pub fn write_new(disk: &dyn Disk, path: &TreePath, content: &[u8]) -> io::Result<()> {
    write_new_unsynced(disk, path, content)?.sync()
}

/// Writes a new file, in place of a left-over one of that name.
pub fn write_new_unsynced(disk: &dyn Disk, path: &TreePath, content: &[u8]) -> io::Result<Box<dyn Handle>> {
    let handle = match disk.open(path, Open::CreateNew) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            disk.unlink(path)?;
            disk.open(path, Open::CreateNew)?
        }
        other => other?,
    };
    handle.append(content)?;
    Ok(handle)
}

/// Files and directories that wait for the same sync.
///
/// More than two are made durable by one `syncfs`, which costs about as much as one `fdatasync` and serves all who wait;
/// on network file systems, where that call promises less, each is synced by itself.
#[derive(Default)]
pub struct SyncSet<'a> {
    files: Vec<&'a dyn Handle>,
    dirs: BTreeSet<TreePath>,
}

impl<'a> SyncSet<'a> {
    /// Adds an open file.
    pub fn file(&mut self, handle: &'a dyn Handle) {
        self.files.push(handle);
    }

    /// Adds a directory whose entries changed.
    pub fn dir(&mut self, dir: TreePath) {
        self.dirs.insert(dir);
    }

    /// Makes all of them durable, each file system for itself: an administrator may have put `users` or a domain on a disk of its own.
    pub fn flush(self, disk: &dyn Disk) -> io::Result<()> {
        let mut devices: BTreeMap<u64, SyncSet<'a>> = BTreeMap::new();
        for handle in self.files {
            devices.entry(handle.stamp()?.device).or_default().file(handle);
        }
        for dir in self.dirs {
            devices.entry(disk.stat(&dir)?.0.device).or_default().dir(dir);
        }
        devices.into_values().try_for_each(|set| set.flush_device(disk))
    }

    fn flush_device(&self, disk: &dyn Disk) -> io::Result<()> {
        let many = self.files.len() + self.dirs.len() > 2;
        let done = match (self.files.first(), self.dirs.first()) {
            (Some(file), _) if many => file.sync_all()?,
            (None, Some(dir)) if many => disk.sync_all(dir)?,
            _ => false,
        };
        if done {
            return Ok(());
        }
        self.files.iter().try_for_each(|handle| handle.sync())?;
        self.dirs.iter().try_for_each(|dir| disk.sync_dir(dir))
    }
}

#[cfg(test)]
mod tests {
    use super::sim::SimDisk;
    use super::*;
    use std::sync::Mutex;

    /// A file on a device of this number, which notes how it was made durable.
    struct Noting<'a>(u64, &'a Mutex<Vec<String>>);

    impl Handle for Noting<'_> {
        fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
            Ok(0)
        }
        fn append(&self, _: &[u8]) -> io::Result<u64> {
            Ok(0)
        }
        fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            Ok(())
        }
        fn set_len(&self, _: u64) -> io::Result<()> {
            Ok(())
        }
        fn sync(&self) -> io::Result<()> {
            self.1.lock().unwrap().push(format!("file on {}", self.0));
            Ok(())
        }
        fn sync_all(&self) -> io::Result<bool> {
            self.1.lock().unwrap().push(format!("all of {}", self.0));
            Ok(true)
        }
        fn stamp(&self) -> io::Result<Stamp> {
            Ok(Stamp { device: self.0, ..Stamp::default() })
        }
        fn try_lock(&self) -> io::Result<bool> {
            Ok(true)
        }
        fn unlock(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_file_system_is_synced_for_itself() {
        for (devices, expected) in [
            (&[3, 3][..], &["file on 3", "file on 3"][..]),
            (&[3, 3, 3], &["all of 3"]),
            (&[3, 5, 3, 3, 5], &["all of 3", "file on 5", "file on 5"]),
        ] {
            let notes = Mutex::default();
            let files: Vec<Noting<'_>> = devices.iter().map(|device| Noting(*device, &notes)).collect();
            let mut set = SyncSet::default();
            files.iter().for_each(|file| set.file(file));
            set.flush(&SimDisk::new()).unwrap();
            drop(files);
            assert_eq!(notes.into_inner().unwrap(), expected, "{devices:?}");
        }
    }
}
