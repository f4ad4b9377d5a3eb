//! A disk in memory that can crash: for tests and fuzzing.
//!
//! It keeps two images. *Live* is what programs see; *durable* is what a power cut would leave. A write changes the live
//! image and is remembered; a sync brings the durable image up to it. Directory entries become durable by
//! [`Disk::sync_dir`] alone, as POSIX has it, however kind real file systems are.
//!
//! [`SimDisk::fail_at`] makes the n-th changing operation fail, and [`SimDisk::after`] gives the disk as the next boot
//! would find it, for several kinds of crash. The module is part of the library because other crates' tests use it.
//!
//! # Failure
//! After a crash every operation fails until [`SimDisk::after`] is called.

use super::{Disk, Entry, Handle, Kind, Open, Private, Stamp};
use crate::path::TreePath;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// It is one device.
const DEVICE: u64 = 1;

/// What the n-th operation does instead of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The machine stops: this and every later operation fails.
    Crash,
    /// A write takes half of its bytes, then the machine stops.
    TornCrash,
    /// This operation and all later writes fail with "no space left", until [`SimDisk::heal`].
    Full,
    /// This one operation fails with an I/O error.
    Error,
}

/// What a crash leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// `kill -9`: the program is gone, every byte it wrote is there.
    Kill,
    /// A power cut that loses everything that was not synced.
    PowerStrict,
    /// A power cut that keeps some unsynced writes and directory changes, in order per file, the last one torn or as zeros;
    /// the number chooses which.
    PowerMixed(u64),
}

#[derive(Clone)]
enum Write {
    Bytes(u64, Vec<u8>),
    Length(u64),
}

#[derive(Clone, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Write>,
    modified: i64,
    changed: i64,
}

#[derive(Clone)]
enum DirOp {
    Add(PathBuf, u64),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
    MakeDir(PathBuf),
}

#[derive(Clone, Default)]
struct Names {
    files: BTreeMap<PathBuf, u64>,
    dirs: BTreeSet<PathBuf>,
}

impl Names {
    fn apply(&mut self, op: &DirOp) {
        match op {
            DirOp::Add(path, inode) => drop(self.files.insert(path.clone(), *inode)),
            DirOp::Remove(path) => drop(self.files.remove(path)),
            DirOp::Rename(from, to) => {
                if let Some(inode) = self.files.remove(from) {
                    self.files.insert(to.clone(), inode);
                }
            }
            DirOp::MakeDir(path) => drop(self.dirs.insert(path.clone())),
        }
    }
}

#[derive(Default)]
struct State {
    inodes: HashMap<u64, Inode>,
    live: Names,
    durable: Names,
    pending: Vec<DirOp>,
    next_inode: u64,
    clock: i64,
    operations: u64,
    fail_at: Option<(u64, Failure)>,
    crashed: bool,
    full: bool,
    locks: HashMap<u64, u64>,
    next_handle: u64,
    syncs: u64,
}

/// The disk; clones are the same disk.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

impl Default for SimDisk {
    fn default() -> SimDisk {
        SimDisk::new()
    }
}

fn stopped() -> io::Error {
    io::Error::other("the simulated machine has stopped")
}

fn apply_write(content: &mut Vec<u8>, write: &Write) {
    match write {
        Write::Bytes(offset, bytes) => {
            let end = *offset as usize + bytes.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[*offset as usize..end].copy_from_slice(bytes);
        }
        Write::Length(length) => content.resize(*length as usize, 0),
    }
}

/// A small repeatable random sequence (xorshift), enough to choose what survives.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        if n == 0 { 0 } else { self.0 % n }
    }
}

impl SimDisk {
    /// An empty disk; directories must be made, but a base directory always exists.
    pub fn new() -> SimDisk {
        let state = State { clock: 1_700_000_000_000_000_000, next_inode: 1, ..State::default() };
        SimDisk(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the `n`-th changing operation from now (1 is the next) fail.
    pub fn fail_at(&self, n: u64, failure: Failure) {
        let mut state = self.state();
        state.fail_at = Some((state.operations + n, failure));
    }

    /// Takes back [`SimDisk::fail_at`] and a full disk.
    pub fn heal(&self) {
        let mut state = self.state();
        state.fail_at = None;
        state.full = false;
    }

    /// How many changing operations there were.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// How many syncs of any kind there were.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Has the planned crash happened?
    pub fn crashed(&self) -> bool {
        self.state().crashed
    }

    /// Puts a durable file there, with its directories, as a tree that was copied long ago.
    pub fn seed(&self, path: &TreePath, content: &[u8]) {
        let mut state = self.state();
        state.next_inode += 1;
        state.clock += 1_000_000_000;
        let (number, clock) = (state.next_inode, state.clock);
        let inode = Inode {
            live: content.to_vec(),
            durable: content.to_vec(),
            pending: Vec::new(),
            modified: clock,
            changed: clock,
        };
        state.inodes.insert(number, inode);
        let full = path.full();
        for dir in full.ancestors().skip(1) {
            state.live.dirs.insert(dir.to_owned());
            state.durable.dirs.insert(dir.to_owned());
        }
        state.live.files.insert(full.clone(), number);
        state.durable.files.insert(full, number);
    }

    /// The live content of a file.
    pub fn content(&self, path: &TreePath) -> Option<Vec<u8>> {
        let state = self.state();
        let inode = state.live.files.get(&path.full())?;
        state.inodes.get(inode).map(|inode| inode.live.clone())
    }

    /// The disk as the next start finds it after a crash now.
    pub fn after(&self, crash: Crash) -> SimDisk {
        let state = self.state();
        let mut dice = Dice(match crash {
            Crash::PowerMixed(seed) => seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            _ => 1,
        });
        let names = match crash {
            Crash::Kill => state.live.clone(),
            Crash::PowerStrict => state.durable.clone(),
            Crash::PowerMixed(_) => {
                let mut names = state.durable.clone();
                let kept = dice.below(state.pending.len() as u64 + 1) as usize;
                state.pending.iter().take(kept).for_each(|op| names.apply(op));
                names
            }
        };
        let mut numbers: Vec<_> = state.inodes.keys().copied().collect();
        numbers.sort_unstable();
        let mut inodes = HashMap::new();
        for number in numbers {
            let Some(old) = state.inodes.get(&number) else { continue };
            let content = match crash {
                Crash::Kill => old.live.clone(),
                Crash::PowerStrict => old.durable.clone(),
                Crash::PowerMixed(_) => survive(old, &mut dice),
            };
            let inode = Inode {
                live: content.clone(),
                durable: content,
                pending: Vec::new(),
                modified: old.modified,
                changed: old.changed,
            };
            inodes.insert(number, inode);
        }
        let state = State {
            inodes,
            live: names.clone(),
            durable: names,
            next_inode: state.next_inode,
            clock: state.clock + 60_000_000_000,
            ..State::default()
        };
        SimDisk(Arc::new(Mutex::new(state)))
    }
}

/// The content of a file after a power cut that kept some of its unsynced writes.
fn survive(inode: &Inode, dice: &mut Dice) -> Vec<u8> {
    let mut content = inode.durable.clone();
    let kept = dice.below(inode.pending.len() as u64 + 1) as usize;
    inode.pending.iter().take(kept).for_each(|write| apply_write(&mut content, write));
    if let Some(Write::Bytes(offset, bytes)) = inode.pending.get(kept) {
        let torn = dice.below(bytes.len() as u64 + 1) as usize;
        if dice.below(3) == 0 {
            // The length was written, the data was not.
            apply_write(&mut content, &Write::Bytes(*offset, vec![0; torn]));
        } else {
            apply_write(&mut content, &Write::Bytes(*offset, bytes[..torn].to_vec()));
        }
    }
    content
}

impl State {
    fn check(&self) -> io::Result<()> {
        if self.crashed { Err(stopped()) } else { Ok(()) }
    }

    /// Counts a changing operation; `Ok(true)` asks for half of it before the crash.
    fn begin(&mut self, is_write: bool) -> io::Result<bool> {
        self.check()?;
        self.operations += 1;
        self.clock += 1_000_000;
        if self.full && is_write {
            return Err(io::ErrorKind::StorageFull.into());
        }
        match self.fail_at {
            Some((at, failure)) if at == self.operations => match failure {
                Failure::Crash => {
                    self.crashed = true;
                    Err(stopped())
                }
                Failure::TornCrash => {
                    self.crashed = true;
                    if is_write { Ok(true) } else { Err(stopped()) }
                }
                Failure::Full => {
                    self.full = true;
                    if is_write { Err(io::ErrorKind::StorageFull.into()) } else { Ok(false) }
                }
                Failure::Error => Err(io::Error::other("simulated I/O error")),
            },
            _ => Ok(false),
        }
    }

    fn change_names(&mut self, op: DirOp) {
        self.live.apply(&op);
        self.pending.push(op);
    }

    fn inode(&mut self, number: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&number).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_inode(&mut self, number: u64) -> io::Result<()> {
        let inode = self.inode(number)?;
        inode.durable = inode.live.clone();
        inode.pending.clear();
        Ok(())
    }

    fn sync_names(&mut self, dir: Option<&Path>) {
        let mut later = Vec::new();
        for op in std::mem::take(&mut self.pending) {
            let path = match &op {
                DirOp::Add(path, _) | DirOp::Remove(path) | DirOp::MakeDir(path) | DirOp::Rename(_, path) => {
                    path
                }
            };
            if dir.is_none_or(|dir| path.parent() == Some(dir)) {
                self.durable.apply(&op);
            } else {
                later.push(op);
            }
        }
        self.pending = later;
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &TreePath, how: Open) -> io::Result<Box<dyn Handle>> {
        let mut state = self.state();
        state.check()?;
        let full = path.full();
        let found = state.live.files.get(&full).copied();
        let number = match (found, how) {
            (Some(_), Open::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(number), _) => number,
            (None, Open::Read | Open::Change) => return Err(io::ErrorKind::NotFound.into()),
            (None, Open::Create | Open::CreateNew) => {
                if !path.parent().below().as_os_str().is_empty()
                    && !state.live.dirs.contains(&path.parent().full())
                {
                    return Err(io::ErrorKind::NotFound.into());
                }
                state.begin(true)?;
                state.next_inode += 1;
                let (number, clock) = (state.next_inode, state.clock);
                state.inodes.insert(number, Inode { modified: clock, changed: clock, ..Inode::default() });
                state.change_names(DirOp::Add(full, number));
                number
            }
        };
        state.next_handle += 1;
        let id = state.next_handle;
        Ok(Box::new(SimHandle { disk: self.clone(), inode: number, id }))
    }

    fn stat(&self, path: &TreePath) -> io::Result<(Stamp, Kind)> {
        let state = self.state();
        state.check()?;
        let full = path.full();
        if path.below().as_os_str().is_empty() || state.live.dirs.contains(&full) {
            return Ok((Stamp { device: DEVICE, ..Stamp::default() }, Kind::Directory));
        }
        let number = state.live.files.get(&full).ok_or(io::ErrorKind::NotFound)?;
        let inode = state.inodes.get(number).ok_or(io::ErrorKind::NotFound)?;
        Ok((stamp_of(*number, inode), Kind::File))
    }

    fn rename(&self, from: &TreePath, to: &TreePath) -> io::Result<()> {
        let mut state = self.state();
        state.begin(false)?;
        if !state.live.files.contains_key(&from.full()) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_names(DirOp::Rename(from.full(), to.full()));
        Ok(())
    }

    fn link(&self, from: &TreePath, to: &TreePath) -> io::Result<()> {
        let mut state = self.state();
        state.begin(true)?;
        if state.live.files.contains_key(&to.full()) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let number = state.live.files.get(&from.full()).copied().ok_or(io::ErrorKind::NotFound)?;
        state.change_names(DirOp::Add(to.full(), number));
        Ok(())
    }

    fn unlink(&self, path: &TreePath) -> io::Result<()> {
        let mut state = self.state();
        state.begin(false)?;
        if !state.live.files.contains_key(&path.full()) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_names(DirOp::Remove(path.full()));
        Ok(())
    }

    fn make_dir(&self, path: &TreePath) -> io::Result<()> {
        let mut state = self.state();
        state.check()?;
        if state.live.dirs.contains(&path.full()) {
            return Ok(());
        }
        state.begin(true)?;
        state.change_names(DirOp::MakeDir(path.full()));
        Ok(())
    }

    fn list(&self, dir: &TreePath) -> io::Result<Vec<Entry>> {
        let state = self.state();
        state.check()?;
        let full = dir.full();
        if !dir.below().as_os_str().is_empty() && !state.live.dirs.contains(&full) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let within = |path: &&PathBuf| path.parent() == Some(&full);
        let name = |path: &PathBuf| path.file_name().map(|n| n.to_owned()).unwrap_or_default();
        let files = state.live.files.keys().filter(within).map(|p| Entry { name: name(p), kind: Kind::File });
        let dirs =
            state.live.dirs.iter().filter(within).map(|p| Entry { name: name(p), kind: Kind::Directory });
        let mut entries: Vec<_> = files.chain(dirs).collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn sync_dir(&self, dir: &TreePath) -> io::Result<()> {
        let mut state = self.state();
        state.begin(false)?;
        state.syncs += 1;
        state.sync_names(Some(&dir.full()));
        Ok(())
    }

    fn sync_all(&self, _dir: &TreePath) -> io::Result<bool> {
        let mut state = self.state();
        state.begin(false)?;
        state.syncs += 1;
        state.sync_names(None);
        let numbers: Vec<u64> = state.inodes.keys().copied().collect();
        numbers.into_iter().try_for_each(|number| state.sync_inode(number))?;
        Ok(true)
    }

    fn map(&self, path: &TreePath) -> io::Result<Private> {
        Ok(Private::Owned(self.read(path, u64::MAX)?))
    }

    fn now(&self) -> i64 {
        self.state().clock
    }
}

fn stamp_of(number: u64, inode: &Inode) -> Stamp {
    Stamp {
        device: DEVICE,
        inode: number,
        size: inode.live.len() as u64,
        modified: inode.modified,
        changed: inode.changed,
    }
}

struct SimHandle {
    disk: SimDisk,
    inode: u64,
    id: u64,
}

impl SimHandle {
    fn write(&self, write: impl Fn(&Inode) -> Write) -> io::Result<u64> {
        let mut state = self.disk.state();
        let torn = state.begin(true)?;
        let clock = state.clock;
        let inode = state.inode(self.inode)?;
        let mut write = write(inode);
        if torn && let Write::Bytes(_, bytes) = &mut write {
            bytes.truncate(bytes.len() / 2);
        }
        apply_write(&mut inode.live, &write);
        inode.pending.push(write);
        inode.modified = clock;
        inode.changed = clock;
        let length = inode.live.len() as u64;
        if torn { Err(stopped()) } else { Ok(length) }
    }
}

impl Handle for SimHandle {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.check()?;
        let live = &state.inode(self.inode)?.live;
        let rest = live.get(offset as usize..).unwrap_or_default();
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn append(&self, bytes: &[u8]) -> io::Result<u64> {
        self.write(|inode| Write::Bytes(inode.live.len() as u64, bytes.to_vec()))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write(|_| Write::Bytes(offset, bytes.to_vec())).map(drop)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.write(|_| Write::Length(length)).map(drop)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.begin(false)?;
        state.syncs += 1;
        state.sync_inode(self.inode)
    }

    fn sync_all(&self) -> io::Result<bool> {
        self.disk.sync_all(&TreePath::base_of(Path::new("/")))
    }

    fn stamp(&self) -> io::Result<Stamp> {
        let mut state = self.disk.state();
        state.check()?;
        let number = self.inode;
        Ok(stamp_of(number, state.inode(number)?))
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut state = self.disk.state();
        state.check()?;
        let holder = *state.locks.entry(self.inode).or_insert(self.id);
        Ok(holder == self.id)
    }

    fn unlock(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.locks.get(&self.inode) == Some(&self.id) {
            state.locks.remove(&self.inode);
        }
        Ok(())
    }
}

impl Drop for SimHandle {
    fn drop(&mut self) {
        let _ = self.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> TreePath {
        TreePath::base_of(Path::new("/mail")).join(name)
    }

    #[test]
    fn an_unsynced_write_is_lost_by_a_power_cut_and_kept_by_a_kill() {
        let disk = SimDisk::new();
        disk.seed(&path("a"), b"old");
        let handle = disk.open(&path("a"), Open::Change).unwrap();
        handle.append(b" new").unwrap();
        assert_eq!(disk.after(Crash::Kill).content(&path("a")).unwrap(), b"old new");
        assert_eq!(disk.after(Crash::PowerStrict).content(&path("a")).unwrap(), b"old");
        handle.sync().unwrap();
        assert_eq!(disk.after(Crash::PowerStrict).content(&path("a")).unwrap(), b"old new");
    }

    #[test]
    fn replace_leaves_the_old_or_the_new_file_at_every_crash() {
        for n in 1..20 {
            let disk = SimDisk::new();
            disk.seed(&path("a"), b"old");
            disk.fail_at(n, Failure::TornCrash);
            let done = super::super::replace(&disk, &path("a"), b"new content").is_ok();
            for crash in [Crash::Kill, Crash::PowerStrict, Crash::PowerMixed(n), Crash::PowerMixed(n + 100)] {
                let content = disk.after(crash).content(&path("a")).unwrap();
                assert!(content == b"new content" || (!done && content == b"old"), "{n} {crash:?}");
            }
            if done {
                assert!(n > 4);
                return;
            }
        }
        panic!("replace never finished");
    }

    #[test]
    fn a_lock_keeps_others_out_until_it_is_dropped() {
        let disk = SimDisk::new();
        disk.seed(&path("a"), b"");
        let first = disk.open(&path("a"), Open::Change).unwrap();
        let second = disk.open(&path("a"), Open::Change).unwrap();
        assert!(first.try_lock().unwrap());
        assert!(!second.try_lock().unwrap());
        drop(first);
        assert!(second.try_lock().unwrap());
    }
}
