//! The real disk.
//!
//! Files are opened beneath their base directory with `openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)`, so neither `..` nor a
//! symbolic link planted in a user's directory leads anywhere else. The base itself may be a link (another disk).
//!
//! Locks are an OFD `fcntl` lock, then `flock`, on the same descriptor: the first is seen by mutt, procmail, Dovecot and
//! Postfix, the second by programs that use only `flock`; neither is lost when some other descriptor of the file is closed.

use super::{Disk, Entry, Handle, Kind, Open, Private, Stamp};
use crate::path::TreePath;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::Mode;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// New files may be read by the group, as administrators expect of mailboxes; `registry.ini` is tightened by its owner module.
const FILE_MODE: u32 = 0o640;
/// New directories.
const DIR_MODE: u32 = 0o750;

/// Files of this size are mapped twice, see [`Private::Mapped`]. A process can have 65,530 mappings, and 20,000 mailboxes may be open at a time.
const TWICE_FROM: usize = 64 << 10;
/// Smaller ones are read: a mapping takes whole pages, and more of the kernel's time.
const MAPPED_FROM: u64 = 4 << 10;

/// How often this process waited for a disk to make something durable.
static SYNCS: AtomicU64 = AtomicU64::new(0);

/// How often this process made something durable (`fdatasync`, `fsync`, `syncfs`) so far: what mail servers wait for most.
pub fn syncs() -> u64 {
    SYNCS.load(Ordering::Relaxed)
}

fn count_sync() {
    SYNCS.fetch_add(1, Ordering::Relaxed);
}

/// Disks of this machine.
#[derive(Default)]
pub struct RealDisk {
    /// One descriptor per base directory, opened once.
    bases: Mutex<HashMap<PathBuf, Arc<OwnedFd>>>,
}

impl RealDisk {
    /// A door to this machine's disks.
    pub fn new() -> RealDisk {
        RealDisk::default()
    }

    fn base(&self, base: &Path) -> io::Result<Arc<OwnedFd>> {
        let mut bases = self.bases.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fd) = bases.get(base) {
            return Ok(fd.clone());
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = Arc::new(nix::fcntl::open(base, flags, Mode::empty())?);
        bases.insert(base.to_owned(), fd.clone());
        Ok(fd)
    }

    fn open_beneath(&self, path: &TreePath, flags: OFlag, mode: u32) -> io::Result<OwnedFd> {
        let base = self.base(path.base())?;
        let below = if path.below().as_os_str().is_empty() { Path::new(".") } else { path.below() };
        let mut how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        if flags.contains(OFlag::O_CREAT) {
            how = how.mode(Mode::from_bits_truncate(mode));
        }
        Ok(nix::fcntl::openat2(&base, below, how)?)
    }

    /// The directory of an entry, opened beneath its base, and the entry's name.
    fn directory(&self, path: &TreePath) -> io::Result<(OwnedFd, PathBuf)> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let name = path.below().file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.open_beneath(&path.parent(), flags, 0)?, PathBuf::from(name)))
    }
}

/// A path that leads to an open directory, for std functions that take no descriptors.
fn through(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn stamp_of(meta: &std::fs::Metadata) -> Stamp {
    Stamp {
        device: meta.dev(),
        inode: meta.ino(),
        size: meta.size(),
        modified: meta.mtime() * 1_000_000_000 + meta.mtime_nsec(),
        changed: meta.ctime() * 1_000_000_000 + meta.ctime_nsec(),
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &TreePath, how: Open) -> io::Result<Box<dyn Handle>> {
        let common = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let flags = match how {
            Open::Read => OFlag::O_RDONLY,
            Open::Change => OFlag::O_RDWR,
            Open::Create => OFlag::O_RDWR | OFlag::O_CREAT,
            Open::CreateNew => OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL,
        };
        let file = File::from(self.open_beneath(path, flags | common, FILE_MODE)?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Box::new(RealHandle(file)))
    }

    fn stat(&self, path: &TreePath) -> io::Result<(Stamp, Kind)> {
        let base = self.base(path.base())?;
        let below = if path.below().as_os_str().is_empty() { Path::new(".") } else { path.below() };
        let stat = nix::sys::stat::fstatat(&base, below, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let kind = match stat.st_mode & 0o170_000 {
            0o100_000 => Kind::File,
            0o040_000 => Kind::Directory,
            _ => Kind::Other,
        };
        let stamp = Stamp {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size as u64,
            modified: stat.st_mtime * 1_000_000_000 + stat.st_mtime_nsec,
            changed: stat.st_ctime * 1_000_000_000 + stat.st_ctime_nsec,
        };
        Ok((stamp, kind))
    }

    fn rename(&self, from: &TreePath, to: &TreePath) -> io::Result<()> {
        let (from_dir, from_name) = self.directory(from)?;
        let (to_dir, to_name) = self.directory(to)?;
        Ok(nix::fcntl::renameat(&from_dir, &from_name, &to_dir, &to_name)?)
    }

    fn exchange(&self, from: &TreePath, to: &TreePath) -> io::Result<bool> {
        use nix::errno::Errno;
        let (from_dir, from_name) = self.directory(from)?;
        let (to_dir, to_name) = self.directory(to)?;
        let flags = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
        match nix::fcntl::renameat2(&from_dir, &from_name, &to_dir, &to_name, flags) {
            Ok(()) => Ok(true),
            // The file system knows no exchange, or there is nothing to exchange with.
            Err(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::ENOENT) => {
                self.rename(from, to).map(|()| false)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn link(&self, from: &TreePath, to: &TreePath) -> io::Result<()> {
        let (from_dir, from_name) = self.directory(from)?;
        let (to_dir, to_name) = self.directory(to)?;
        let flags = nix::fcntl::AtFlags::empty();
        Ok(nix::unistd::linkat(&from_dir, &from_name, &to_dir, &to_name, flags)?)
    }

    fn unlink(&self, path: &TreePath) -> io::Result<()> {
        let (dir, name) = self.directory(path)?;
        Ok(nix::unistd::unlinkat(&dir, &name, nix::unistd::UnlinkatFlags::NoRemoveDir)?)
    }

    fn make_dir(&self, path: &TreePath) -> io::Result<()> {
        let (dir, name) = self.directory(path)?;
        match nix::sys::stat::mkdirat(&dir, &name, Mode::from_bits_truncate(DIR_MODE)) {
            Err(nix::errno::Errno::EEXIST) => match self.stat(path)?.1 {
                Kind::Directory => Ok(()),
                _ => Err(io::ErrorKind::NotADirectory.into()),
            },
            other => Ok(other?),
        }
    }

    fn list(&self, dir: &TreePath) -> io::Result<Vec<Entry>> {
        let fd = self.open_beneath(dir, OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0)?;
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(through(&fd))? {
            let entry = entry?;
            let kind = match entry.file_type()? {
                t if t.is_file() => Kind::File,
                t if t.is_dir() => Kind::Directory,
                _ => Kind::Other,
            };
            entries.push(Entry { name: entry.file_name(), kind });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn sync_dir(&self, dir: &TreePath) -> io::Result<()> {
        let fd = self.open_beneath(dir, OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0)?;
        count_sync();
        Ok(nix::unistd::fsync(fd.as_fd())?)
    }

    fn sync_all(&self, dir: &TreePath) -> io::Result<bool> {
        sync_file_system(self.open_beneath(dir, OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0)?)
    }

    fn map(&self, path: &TreePath) -> io::Result<Private> {
        let fd = self.open_beneath(path, OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK, 0)?;
        let local = is_local(&fd)?;
        let file = File::from(fd);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        if local && file.metadata()?.len() >= MAPPED_FROM {
            return map_private(&file);
        }
        let handle = RealHandle(file);
        let mut bytes = super::read_whole(&handle, u64::MAX)?;
        bytes.shrink_to_fit();
        Ok(Private::Owned(bytes))
    }

    fn now(&self) -> i64 {
        let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        elapsed.map_or(0, |d| d.as_nanos() as i64)
    }

    fn make_private(&self, path: &TreePath) -> io::Result<()> {
        let file = File::from(self.open_beneath(path, OFlag::O_RDWR | OFlag::O_NONBLOCK, 0)?);
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))
    }

    fn copy_owner(&self, from: &TreePath, to: &TreePath) -> io::Result<()> {
        let source = File::from(self.open_beneath(from, OFlag::O_RDONLY | OFlag::O_NONBLOCK, 0)?);
        let target = File::from(self.open_beneath(to, OFlag::O_RDONLY | OFlag::O_NONBLOCK, 0)?);
        let meta = source.metadata()?;
        target.set_permissions(meta.permissions())?;
        if target.metadata()?.uid() != meta.uid() || target.metadata()?.gid() != meta.gid() {
            // Only root may give files away; for everybody else the new owner is the right one.
            let _ = std::os::unix::fs::fchown(&target, Some(meta.uid()), Some(meta.gid()));
        }
        Ok(())
    }
}

/// Network and user-space file systems: `syncfs`, mappings and watches promise less there.
fn is_local(fd: impl AsFd) -> io::Result<bool> {
    const NFS: i64 = 0x6969;
    const SMB2: i64 = 0xFE53_4D42;
    const CIFS: i64 = 0xFF53_4D42;
    const CEPH: i64 = 0x00C3_6400;
    const FUSE: i64 = 0x6573_5546;
    let kind = nix::sys::statfs::fstatfs(fd)?.filesystem_type().0 as i64;
    Ok(![NFS, SMB2, CIFS, CEPH, FUSE].contains(&kind))
}

fn sync_file_system(fd: impl AsFd) -> io::Result<bool> {
    let local = is_local(&fd)?;
    if local {
        count_sync();
        nix::unistd::syncfs(fd.as_fd())?;
    }
    Ok(local)
}

#[allow(unsafe_code)]
fn map_private(file: &File) -> io::Result<Private> {
    // SAFETY: mappings, one copy-on-write and one read-only, of a file that this product only ever replaces by rename and never shortens
    // or changes in place (see `Disk::map`), on a local file system: their pages stay valid as long as the mappings live.
    let own = unsafe { memmap2::MmapOptions::new().map_copy(file)? };
    // SAFETY: as above.
    let again = || unsafe { memmap2::Mmap::map(file) };
    let file = if own.len() >= TWICE_FROM { Some(Arc::new(again()?)) } else { None };
    Ok(Private::Mapped { own, file })
}

struct RealHandle(File);

impl RealHandle {
    fn ofd(&self, kind: i32) -> nix::Result<()> {
        let lock = nix::libc::flock {
            l_type: kind as i16,
            l_whence: nix::libc::SEEK_SET as i16,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        nix::fcntl::fcntl(&self.0, nix::fcntl::FcntlArg::F_OFD_SETLK(&lock)).map(drop)
    }
}

impl Handle for RealHandle {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(filled)
    }

    fn append(&self, bytes: &[u8]) -> io::Result<u64> {
        let flags = OFlag::from_bits_retain(nix::fcntl::fcntl(&self.0, nix::fcntl::FcntlArg::F_GETFL)?);
        if !flags.contains(OFlag::O_APPEND) {
            nix::fcntl::fcntl(&self.0, nix::fcntl::FcntlArg::F_SETFL(flags | OFlag::O_APPEND))?;
        }
        (&self.0).write_all(bytes)?;
        Ok(self.0.metadata()?.len())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let flags = OFlag::from_bits_retain(nix::fcntl::fcntl(&self.0, nix::fcntl::FcntlArg::F_GETFL)?);
        if flags.contains(OFlag::O_APPEND) {
            // Linux ignores pwrite's offset on descriptors in append mode.
            nix::fcntl::fcntl(&self.0, nix::fcntl::FcntlArg::F_SETFL(flags - OFlag::O_APPEND))?;
        }
        self.0.write_all_at(bytes, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        count_sync();
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<bool> {
        sync_file_system(&self.0)
    }

    fn stamp(&self) -> io::Result<Stamp> {
        Ok(stamp_of(&self.0.metadata()?))
    }

    fn try_lock(&self) -> io::Result<bool> {
        match self.ofd(nix::libc::F_WRLCK) {
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => return Ok(false),
            other => other?,
        }
        if !is_local(&self.0)? {
            // There the kernel turns flock into an fcntl lock of its own, which would meet ours.
            return Ok(true);
        }
        match fs2::FileExt::try_lock_exclusive(&self.0) {
            Ok(()) => Ok(true),
            Err(e) => {
                self.ofd(nix::libc::F_UNLCK)?;
                if e.raw_os_error() == fs2::lock_contended_error().raw_os_error() {
                    Ok(false)
                } else {
                    Err(e)
                }
            }
        }
    }

    fn unlock(&self) -> io::Result<()> {
        fs2::FileExt::unlock(&self.0)?;
        Ok(self.ofd(nix::libc::F_UNLCK)?)
    }
}
