//! `registry.ini` on disk: loading it, changing it, and telling a half-saved file from a whole one.
//!
//! Every writer of ours holds the lock on `registry.lck`, reads, edits, writes `registry.ini.$$$`, and renames it over the old
//! file, so a crash leaves the old or the new one. Editors know no locks: if the file changed between reading and renaming,
//! the edit is done again on what is there now. `registry.ini.good` is a copy of the last file that was whole.
//!
//! Files that our programs wrote end with [`END_LINE`](super::doc::END_LINE). One that had this line and lost it is cut off: it
//! is neither loaded nor edited. [`judge`] is the rule for a running server.
//!
//! Failure: [`StoreError`]; nothing was changed then, but for a failed sync of the directory at the very end, after which the new
//! file is there and its durability is not known. Limits: [`ROUNDS`], [`SETTLE`], [`HALF_SAVED_PATIENCE`],
//! [`super::MAX_FILE_BYTES`].

use std::io;
use std::time::{Duration, Instant};

use super::MAX_FILE_BYTES;
use super::doc::{Complaint, Doc};
use super::model::Registry;
use crate::disk::{Disk, Open, Stamp};
use crate::lock::{self, LockError, PATIENCE};
use crate::path::TreePath;
use crate::root::Root;

/// How often an edit is done again because somebody else changed the file meanwhile.
pub const ROUNDS: usize = 3;
/// How long a file that lost much, or is cut off, may stay so before the server speaks its verdict.
pub const SETTLE: Duration = Duration::from_secs(10);
/// How long a program waits for an editor that is in the middle of saving.
pub const HALF_SAVED_PATIENCE: Duration = Duration::from_secs(2);
/// A loss of more users than this, and than a fifth of them, is taken over only after [`SETTLE`].
pub const FEW_USERS: usize = 10;
/// Most copies of overwritten files that are kept side by side.
const MAX_OLD_COPIES: usize = 1000;

const CUT_OFF: &str = "registry.ini is cut off: its last line, \"; end of registry.ini, keep this line last\", is gone. Restore the \
     file (registry.ini.good is the last one that was whole), or put that line at its end if the file is complete";
const NO_GLOBAL: &str = "registry.ini has no section [Global]";
const NO_DOMAIN: &str = "registry.ini has no domain: there must be a section [Domains\\NAME]";

/// Why the registry could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No `registry.ini`.
    #[error(
        "there is no registry.ini in {0}: make one with imaild import (from a .reg export) or imaild init (a new one)"
    )]
    Missing(String),
    /// It exists, and must not be overwritten.
    #[error("{0} exists already: use --force to replace it (the old one is kept beside it)")]
    Exists(String),
    /// Not in a state to be used; the text says what to do.
    #[error("{0}")]
    Unusable(&'static str),
    /// Somebody else kept changing it.
    #[error("registry.ini is being changed by somebody else all the time: try again later")]
    Changing,
    /// An edit that would have damaged the file: a fault of ours.
    #[error("the edit would have damaged registry.ini ({0}); nothing was changed")]
    Damaging(&'static str),
    /// The lock was not free in time.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The disk.
    #[error("registry.ini: {0}")]
    Io(#[from] io::Error),
}

/// A registry that was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The document.
    pub doc: Doc,
    /// What it says.
    pub registry: Registry,
    /// Lines that are not understood.
    pub complaints: Vec<Complaint>,
    /// The stamp of the `registry.ini` that it was read from, or that was refused.
    pub stamp: Stamp,
    /// Why `registry.ini.good` was read instead of `registry.ini`, if it was.
    pub instead: Option<String>,
}

/// Reads `registry.ini` as it is, whole or not: [`judge`] says whether to use it.
pub fn load(root: &Root) -> Result<Loaded, StoreError> {
    let (bytes, stamp) =
        read_stable(root.disk(), &root.registry_ini()).map_err(|error| missing(root, error))?;
    Ok(loaded(bytes, stamp, None))
}

/// Reads the registry for a start: `registry.ini`, or, if that is cut off or has no domain, `registry.ini.good`, and says so.
pub fn load_for_start(root: &Root) -> Result<Loaded, StoreError> {
    let found = load(root)?;
    let good = read_stable(root.disk(), &root.registry_good()).ok();
    let good = good.map(|(bytes, stamp)| loaded(bytes, stamp, None));
    let had_end_line = good.as_ref().is_some_and(|good| good.doc.has_end_line());
    let Some(reason) = unusable(&found.registry, had_end_line) else { return Ok(found) };
    match good.filter(|good| unusable(&good.registry, false).is_none()) {
        Some(good) => {
            let instead = Some(format!("{reason}. registry.ini.good is used"));
            Ok(Loaded { instead, stamp: found.stamp, ..good })
        }
        None => Err(StoreError::Unusable(reason)),
    }
}

/// Keeps `bytes` as the last registry that was good. The server calls this when it takes a file over. While somebody changes the registry
/// nothing is written: whoever it is keeps the newer one.
pub fn save_good(root: &Root, bytes: &[u8]) -> io::Result<()> {
    match lock::acquire(root.disk(), &root.registry_lock(), Open::Create, Duration::ZERO) {
        Ok(_lock) => put_good(root, bytes),
        Err(LockError::Busy(_)) => Ok(()),
        Err(LockError::Io(error)) => Err(error),
    }
}

/// The same, for whoever has the lock: without it two would write the same temporary file.
fn put_good(root: &Root, bytes: &[u8]) -> io::Result<()> {
    let path = root.registry_good();
    let temporary = path.with_suffix(".$$$");
    write_private(root.disk(), &path, &temporary, bytes)?;
    root.disk().rename(&temporary, &path)?;
    root.disk().sync_dir(&path.parent())
}

/// Changes the registry: one lock, one rewrite, whatever `change` does. If somebody edited the file by hand meanwhile, `change`
/// is called again on the new content. An error of `change` leaves everything as it was.
pub fn edit<T, E: From<StoreError>>(
    root: &Root,
    mut change: impl FnMut(&mut Doc) -> Result<T, E>,
) -> Result<T, E> {
    let disk = root.disk();
    let path = root.registry_ini();
    let _lock =
        lock::acquire(disk, &root.registry_lock(), Open::Create, PATIENCE).map_err(StoreError::from)?;
    for _ in 0..ROUNDS {
        let (bytes, stamp) = read_usable(root)?;
        let (mut doc, complaints) = Doc::parse(bytes);
        let before = doc.has_end_line();
        let result = change(&mut doc)?;
        let bytes = doc.render();
        validate(&bytes, before, complaints.len())?;
        if put(disk, &path, &bytes, stamp).map_err(StoreError::from)? {
            // The edit is durable; a copy that could not be written costs only the fall-back.
            let _ = put_good(root, &bytes);
            return Ok(result);
        }
    }
    Err(StoreError::Changing.into())
}

/// Writes a new `registry.ini`, for import and init. One that exists is an error, or, with `force`, is kept under
/// `registry.ini.old` (`.old.1`, `.old.2`, ...); the name is given back.
pub fn create(root: &Root, doc: &Doc, force: bool) -> Result<Option<TreePath>, StoreError> {
    let disk = root.disk();
    let path = root.registry_ini();
    let _lock = lock::acquire(disk, &root.registry_lock(), Open::Create, PATIENCE)?;
    let kept = match disk.stat(&path) {
        Ok(_) if !force => return Err(StoreError::Exists(path.to_string())),
        Ok(_) => Some(keep_old(disk, &path)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let bytes = doc.render();
    let temporary = path.with_suffix(".$$$");
    write_private(disk, &path, &temporary, &bytes)?;
    disk.rename(&temporary, &path)?;
    disk.sync_dir(&path.parent())?;
    put_good(root, &bytes)?;
    Ok(kept)
}

/// What a running server does with a changed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Take it over; log the note, if there is one.
    Accept(Option<String>),
    /// Look again when it changed, or when [`SETTLE`] is over.
    Wait,
    /// Keep the old one; log the reason.
    Refuse(&'static str),
}

/// Decides whether the server takes `new` over in place of `old`, after `unchanged` without another change of the file.
///
/// A file that lost its end line is cut off, and one without `Global` or without any domain is none: both are refused however
/// long they stay so. A large loss of users is believed after [`SETTLE`], since an admin may have meant it.
pub fn judge(old: &Registry, new: &Registry, unchanged: Duration) -> Verdict {
    let settled = unchanged >= SETTLE;
    if let Some(reason) = unusable(new, old.has_end_line) {
        return if settled { Verdict::Refuse(reason) } else { Verdict::Wait };
    }
    let lost = lost_users(old, new);
    if lost.len() <= FEW_USERS.max(old.user_count() / 5) {
        return Verdict::Accept(None);
    }
    if !settled {
        return Verdict::Wait;
    }
    const NAMED: usize = 20;
    let named = lost.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    let more = if lost.len() > NAMED { ", ..." } else { "" };
    Verdict::Accept(Some(format!("{} users are gone from registry.ini: {named}{more}", lost.len())))
}

/// Why a registry cannot be used at all; `had_end_line` = the one before it had its end line.
fn unusable(registry: &Registry, had_end_line: bool) -> Option<&'static str> {
    if had_end_line && !registry.has_end_line {
        return Some(CUT_OFF);
    }
    if !registry.has_global {
        return Some(NO_GLOBAL);
    }
    registry.domains.is_empty().then_some(NO_DOMAIN)
}

fn lost_users(old: &Registry, new: &Registry) -> Vec<String> {
    let mut lost = Vec::new();
    for domain in &old.domains {
        let same = new.domains.iter().find(|other| super::same_name(&other.name, &domain.name));
        let gone =
            domain.users.iter().filter(|(key, _)| !same.is_some_and(|same| same.users.contains_key(*key)));
        lost.extend(gone.map(|(_, user)| format!("{}@{}", user.id, domain.name)));
    }
    lost
}

fn loaded(bytes: Vec<u8>, stamp: Stamp, instead: Option<String>) -> Loaded {
    let (doc, complaints) = Doc::parse(bytes);
    let registry = Registry::from_doc(&doc);
    Loaded { doc, registry, complaints, stamp, instead }
}

fn missing(root: &Root, error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::NotFound => StoreError::Missing(root.top().to_string()),
        _ => StoreError::Io(error),
    }
}

/// The file and its stamp, read while nobody changed it. A file that never holds still is given as it is, with the stamp from
/// before, so that whoever compares stamps sees the change.
fn read_stable(disk: &dyn Disk, path: &TreePath) -> io::Result<(Vec<u8>, Stamp)> {
    let mut last = None;
    for _ in 0..ROUNDS {
        let (stamp, _) = disk.stat(path)?;
        let bytes = disk.read(path, MAX_FILE_BYTES)?;
        let still = disk.stat(path)?.0 == stamp && bytes.len() as u64 == stamp.size;
        last = Some((bytes, stamp));
        if still {
            break;
        }
    }
    last.ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// The file for an edit: waits a little for an editor that truncated it and has not written it yet.
fn read_usable(root: &Root) -> Result<(Vec<u8>, Stamp), StoreError> {
    const PAUSE: Duration = Duration::from_millis(50);
    let good = root.disk().read(&root.registry_good(), MAX_FILE_BYTES);
    let had_end_line = good.is_ok_and(|bytes| super::doc::has_end_line(&bytes));
    let deadline = Instant::now() + HALF_SAVED_PATIENCE;
    loop {
        let (bytes, stamp) =
            read_stable(root.disk(), &root.registry_ini()).map_err(|error| missing(root, error))?;
        let cut = had_end_line && !super::doc::has_end_line(&bytes);
        if !cut && !bytes.is_empty() {
            return Ok((bytes, stamp));
        }
        if Instant::now() >= deadline {
            return Err(StoreError::Unusable(if cut { CUT_OFF } else { NO_GLOBAL }));
        }
        std::thread::sleep(PAUSE);
    }
}

/// What an edit wrote must be as readable as what it read.
fn validate(bytes: &[u8], had_end_line: bool, complaints: usize) -> Result<(), StoreError> {
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(StoreError::Damaging("it would be larger than 512 MiB"));
    }
    let (doc, now) = Doc::parse(bytes.to_vec());
    if now.len() > complaints {
        return Err(StoreError::Damaging("a line would not be readable"));
    }
    if had_end_line && !doc.has_end_line() {
        return Err(StoreError::Damaging("its last line would be gone"));
    }
    Ok(())
}

/// Puts `bytes` in place of the file with this stamp; `false`, and nothing done, if the file has another one by now.
fn put(disk: &dyn Disk, path: &TreePath, bytes: &[u8], stamp: Stamp) -> io::Result<bool> {
    let temporary = path.with_suffix(".$$$");
    write_private(disk, path, &temporary, bytes)?;
    if disk.stat(path)?.0 != stamp {
        disk.unlink(&temporary)?;
        return Ok(false);
    }
    disk.rename(&temporary, path)?;
    disk.sync_dir(&path.parent())?;
    Ok(true)
}

/// Writes and syncs a new file that only the owner of `like` can read.
fn write_private(disk: &dyn Disk, like: &TreePath, path: &TreePath, bytes: &[u8]) -> io::Result<()> {
    let handle = match disk.open(path, Open::CreateNew) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            disk.unlink(path)?;
            disk.open(path, Open::CreateNew)?
        }
        other => other?,
    };
    if disk.stat(like).is_ok() {
        disk.copy_owner(like, path)?;
    }
    disk.make_private(path)?;
    handle.append(bytes)?;
    handle.sync()
}

fn keep_old(disk: &dyn Disk, path: &TreePath) -> Result<TreePath, StoreError> {
    let bytes = disk.read(path, MAX_FILE_BYTES)?;
    let names = (0..MAX_OLD_COPIES).map(|number| match number {
        0 => path.with_suffix(".old"),
        number => path.with_suffix(&format!(".old.{number}")),
    });
    for name in names {
        if disk.stat(&name).is_err() {
            write_private(disk, path, &name, &bytes)?;
            disk.sync_dir(&path.parent())?;
            return Ok(name);
        }
    }
    Err(StoreError::Unusable("there are 1000 copies named registry.ini.old already: remove some"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::real::RealDisk;
    use crate::disk::sim::{Crash, Failure, SimDisk};
    use crate::registry::doc::END_LINE;
    use crate::registry::model::user_path;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::sync::Arc;

    fn sample() -> String {
        format!("[Global]\r\nHostName=a.b\r\n\r\n[Domains\\a.b]\r\nAddress=$virtual001\r\n\r\n{END_LINE}\r\n")
    }

    fn simulated() -> (Root, SimDisk) {
        let disk = SimDisk::new();
        let root = Root::new(Arc::new(disk.clone()), Path::new("/mail"));
        disk.seed(&root.registry_ini(), sample().as_bytes());
        disk.seed(&root.registry_good(), sample().as_bytes());
        (root, disk)
    }

    fn real() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("registry.ini"), sample()).unwrap();
        let root = Root::new(Arc::new(RealDisk::new()), dir.path());
        (dir, root)
    }

    fn add_user(root: &Root, id: &str) -> Result<(), StoreError> {
        edit(root, |doc| {
            doc.set_text(&user_path("a.b", id), "FullName", id);
            Ok(())
        })
    }

    #[test]
    fn a_crash_at_any_operation_leaves_the_old_or_the_new_file() {
        for failure in [Failure::TornCrash, Failure::Error, Failure::Full] {
            let mut done = false;
            for n in 1..60 {
                let (root, disk) = simulated();
                disk.fail_at(n, failure);
                done = add_user(&root, "mike").is_ok();
                let clean = done && !disk.crashed();
                disk.heal();
                for crash in
                    [Crash::Kill, Crash::PowerStrict, Crash::PowerMixed(n), Crash::PowerMixed(n + 500)]
                {
                    let after = disk.after(crash);
                    let root = Root::new(Arc::new(after.clone()), Path::new("/mail"));
                    let found = load_for_start(&root).unwrap();
                    assert_eq!(found.instead, None, "{failure:?} {n} {crash:?}");
                    let there = found.registry.domains[0].user("mike").is_some();
                    assert!(there || !done, "{failure:?} {n} {crash:?}");
                    let good = after.content(&root.registry_good()).unwrap();
                    assert!(Doc::parse(good).0.has_end_line());
                    add_user(&root, "next").unwrap();
                }
                if clean && n > 40 {
                    break;
                }
            }
            assert!(done, "{failure:?}");
        }
    }

    #[test]
    fn writers_in_many_threads_lose_nothing() {
        let (_dir, root) = real();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let root = &root;
                scope.spawn(move || (0..10).for_each(|n| add_user(root, &format!("u{writer}-{n}")).unwrap()));
            }
        });
        let found = load(&root).unwrap();
        assert_eq!(found.registry.user_count(), 40);
        assert!(found.complaints.is_empty() && found.doc.has_end_line());
        for file in [root.registry_ini(), root.registry_good()] {
            assert_eq!(std::fs::metadata(file.full()).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_hand_edit_meanwhile_is_kept() {
        let (_dir, root) = real();
        let mut calls = 0;
        edit(&root, |doc| {
            calls += 1;
            if calls == 1 {
                let by_hand = sample().replace("HostName=a.b", "HostName=by.hand");
                std::fs::write(root.registry_ini().full(), by_hand).unwrap();
            }
            doc.set_text(&user_path("a.b", "mike"), "FullName", "Mike");
            Ok::<(), StoreError>(())
        })
        .unwrap();
        let found = load(&root).unwrap();
        assert_eq!((calls, found.registry.global.host_name.as_str()), (2, "by.hand"));
        assert_eq!(found.registry.user_count(), 1);
        assert!(!root.registry_ini().with_suffix(".$$$").full().exists());
    }

    #[test]
    fn a_cut_file_is_not_edited_and_the_good_one_serves() {
        let (_dir, root) = real();
        add_user(&root, "mike").unwrap();
        let whole = std::fs::read(root.registry_ini().full()).unwrap();
        let cut = &whole[..whole.len() - 10];
        std::fs::write(root.registry_ini().full(), cut).unwrap();
        let error = add_user(&root, "ann").unwrap_err().to_string();
        assert!(error.contains("cut off") && error.contains("registry.ini.good"), "{error}");
        assert_eq!(std::fs::read(root.registry_ini().full()).unwrap(), cut);
        let found = load_for_start(&root).unwrap();
        assert!(found.instead.is_some() && found.registry.user_count() == 1);
        std::fs::remove_file(root.registry_good().full()).unwrap();
        assert!(load_for_start(&root).unwrap().instead.is_none());
        std::fs::write(root.registry_ini().full(), "[Global]\r\n").unwrap();
        assert!(load_for_start(&root).unwrap_err().to_string().contains("no domain"));
        std::fs::remove_file(root.registry_ini().full()).unwrap();
        assert!(matches!(load(&root), Err(StoreError::Missing(_))));
    }

    #[test]
    fn a_half_saved_file_is_waited_for() {
        let (_dir, root) = real();
        add_user(&root, "mike").unwrap();
        let whole = std::fs::read(root.registry_ini().full()).unwrap();
        std::fs::write(root.registry_ini().full(), &whole[..20]).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| add_user(&root, "ann"));
            std::fs::write(root.registry_ini().full(), &whole).unwrap();
            writer.join().unwrap().unwrap();
        });
        assert_eq!(load(&root).unwrap().registry.user_count(), 2);
    }

    #[test]
    fn an_error_changes_nothing() {
        let (_dir, root) = real();
        let result: Result<(), StoreError> = edit(&root, |doc| {
            doc.set_text("Global", "HostName", "x");
            Err(StoreError::Changing)
        });
        assert!(result.is_err());
        assert_eq!(std::fs::read(root.registry_ini().full()).unwrap(), sample().as_bytes());
    }

    #[test]
    fn create_overwrites_only_with_force_and_keeps_the_old_one() {
        let (_dir, root) = real();
        let (doc, _) = Doc::parse(sample().replace("a.b", "new.example").into_bytes());
        assert!(matches!(create(&root, &doc, false), Err(StoreError::Exists(_))));
        let old = create(&root, &doc, true).unwrap().unwrap();
        assert_eq!(old.name(), "registry.ini.old");
        assert_eq!(std::fs::read(old.full()).unwrap(), sample().as_bytes());
        assert_eq!(create(&root, &doc, true).unwrap().unwrap().name(), "registry.ini.old.1");
        assert_eq!(load(&root).unwrap().registry.global.host_name, "new.example");
    }

    #[test]
    fn verdicts() {
        let build = |users: usize, end: bool, rest: &str| {
            let mut text = format!("[Global]\n[Domains\\a]\n{rest}");
            (0..users).for_each(|n| text.push_str(&format!("[Domains\\a\\Users\\u{n}]\n")));
            text.push_str(if end { END_LINE } else { "" });
            Registry::from_doc(&Doc::parse(text.into_bytes()).0)
        };
        let empty = Registry::default();
        let now = Duration::ZERO;
        let cases = [
            (build(100, true, ""), build(100, true, ""), now, Verdict::Accept(None)),
            (build(100, true, ""), build(80, true, ""), now, Verdict::Accept(None)),
            (build(100, true, ""), build(79, true, ""), now, Verdict::Wait),
            (build(12, true, ""), build(2, true, ""), now, Verdict::Accept(None)),
            (build(100, true, ""), build(100, false, ""), now, Verdict::Wait),
            (build(100, true, ""), build(100, false, ""), SETTLE, Verdict::Refuse(CUT_OFF)),
            (build(100, false, ""), build(100, false, ""), now, Verdict::Accept(None)),
            (build(1, false, ""), empty, SETTLE, Verdict::Refuse(NO_GLOBAL)),
        ];
        for (old, new, age, verdict) in cases {
            assert_eq!(judge(&old, &new, age), verdict);
        }
        let Verdict::Accept(Some(note)) = judge(&build(100, true, ""), &build(70, true, ""), SETTLE) else {
            panic!()
        };
        assert!(note.starts_with("30 users are gone") && note.contains("u70@a"), "{note}");
    }
}
