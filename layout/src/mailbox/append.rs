//! Storing messages, durably and together.
//!
//! A mailbox file has no length fields, so half a message at its end looks like a short one. Therefore the intent comes first:
//!
//! 1. under the file's lock, UIDs that were not promised yet, as those of a new mailbox, are written beside its identity; **sync**, if there are any;
//! 2. the identity gets its name, and the journal an `Append` frame with the file's length, the bytes that will come and their checksum; **sync**, with
//!    the names of what was made;
//! 3. the bytes are appended to the mailbox; **sync**; now the messages are stored;
//! 4. the journal gets a `Done` frame, unsynced: without it the next opener compares the checksum.
//!
//! All jobs of one call share these syncs, however many mailboxes they are for.
//!
//! | crash | found by the next opener | done |
//! | --- | --- | --- |
//! | before the second sync | no frame, or half of one | nothing |
//! | during the third step | length or checksum do not fit | cut back to the old length |
//! | after it | both fit | taken as done |
//! | any, then another program appended | a separator that is not ours behind the old length | nothing is cut; the file is scanned |
//!
//! # Failure
//! A job that fails leaves its file as it was, and says why; the others go on. Messages already delivered under the same token are not stored
//! again. A sync that fails fails all jobs: nobody knows what is on the disk.

use super::{Mailbox, MailboxError, Promise, Unsynced};
use crate::disk::{Disk, Handle, Open, SyncSet};
use crate::index::journal::{Entry, Seen, Token};
use crate::limits::{KEYWORD_LENGTH_MAX, KEYWORDS_MAX};
use crate::lock;
use crate::mbx::compose::{Composed, NewMessage, Way};
use crate::mbx::separator::Dialect;
use crate::path::TreePath;
use std::io;
use std::time::Duration;
use zerocopy::byteorder::little_endian::{U32, U64};

/// Messages of at most this size in all are written with one call.
const ONE_WRITE: u64 = 1 << 20;

/// Messages for one mailbox.
pub struct AppendJob<'a> {
    /// The mailbox; each only once in a call.
    pub mailbox: &'a mut Mailbox,
    /// The messages in their order, with the token by which a repeated delivery is recognized.
    pub messages: Vec<(NewMessage, Option<Token>)>,
    /// The largest size that the file may get, if there is one.
    pub size_max: Option<u64>,
}

/// What became of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// Stored under this UID.
    Stored(u32),
    /// Was stored before, by a delivery with the same token.
    Before,
}

/// A job under way: the mailbox is locked.
struct Stage {
    file: Box<dyn Handle>,
    /// Where the intent was written.
    journal: Option<Box<dyn Handle>>,
    composed: Vec<Composed>,
    tokens: Vec<Token>,
    /// The UIDs of the messages, if they were not promised before.
    promise: Option<Promise>,
    repair: &'static [u8],
    base: u64,
    total: u64,
    crc: u32,
    outcome: Vec<Appended>,
}

/// The stages, by job.
type Stages = [Result<Option<Stage>, MailboxError>];

/// Those that store something.
fn writing(stages: &Stages) -> impl Iterator<Item = &Stage> {
    stages.iter().flatten().flatten().filter(|stage| stage.total > 0)
}

/// Stores the messages of all jobs. One outcome per job, in the order of the jobs; each waits at most `patience` for its file.
pub fn append_all(
    disk: &dyn Disk,
    jobs: &mut [AppendJob<'_>],
    patience: Duration,
) -> Vec<Result<Vec<Appended>, MailboxError>> {
    // Locks are taken in the order of the files, so that two processes cannot wait for each other.
    let mut order: Vec<usize> = (0..jobs.len()).collect();
    order.sort_by(|a, b| jobs[*a].mailbox.file().cmp(jobs[*b].mailbox.file()));
    let mut stages: Vec<Result<Option<Stage>, MailboxError>> = jobs.iter().map(|_| Ok(None)).collect();
    // Whatever becomes of the job that made a directory, others use it too.
    let mut dirs = Vec::new();
    for index in order {
        stages[index] = begin(&mut jobs[index], patience, &mut dirs).map(Some);
    }

    let mut set = SyncSet::default();
    writing(&stages).flat_map(|stage| &stage.promise).for_each(|promise| promise.files(&mut set));
    let synced = set.flush(disk);
    fail_all(&mut stages, jobs, synced, false);
    each(&mut stages, jobs, |mailbox, stage| intend(mailbox, stage, &mut dirs));

    let mut set = SyncSet::default();
    writing(&stages).flat_map(|stage| &stage.journal).for_each(|journal| set.file(&**journal));
    dirs.into_iter().for_each(|dir| set.dir(dir));
    let synced = set.flush(disk);
    fail_all(&mut stages, jobs, synced, false);
    each(&mut stages, jobs, |mailbox, stage| {
        write(stage).inspect_err(|_| take_back(mailbox, stage)).map_err(MailboxError::from)
    });

    let mut set = SyncSet::default();
    writing(&stages).for_each(|stage| set.file(&*stage.file));
    let synced = set.flush(disk);
    fail_all(&mut stages, jobs, synced, true);

    stages
        .into_iter()
        .zip(jobs)
        .map(|(stage, job)| match stage? {
            Some(stage) => finish(job.mailbox, stage),
            None => Ok(Vec::new()),
        })
        .collect()
}

/// Does the next step of each job that stores something.
fn each(
    stages: &mut Stages,
    jobs: &mut [AppendJob<'_>],
    mut step: impl FnMut(&mut Mailbox, &mut Stage) -> Result<(), MailboxError>,
) {
    for (stage, job) in stages.iter_mut().zip(jobs) {
        if let Ok(Some(open)) = stage
            && open.total > 0
            && let Err(error) = step(job.mailbox, open)
        {
            *stage = Err(error);
        }
    }
}

/// Locks, looks, and composes. Directories with new names, which have to be made durable, go to `dirs`.
fn begin(
    job: &mut AppendJob<'_>,
    patience: Duration,
    dirs: &mut Vec<TreePath>,
) -> Result<Stage, MailboxError> {
    let mailbox = &mut *job.mailbox;
    let disk = mailbox.disk.clone();
    if disk.stat(&mailbox.file).is_err() {
        make_dirs(&*disk, &mailbox.file.parent(), dirs)?;
        dirs.push(mailbox.file.parent());
    }
    let file = lock::acquire(&*disk, &mailbox.file, Open::Create, patience)?;
    mailbox.refresh_to_append(&*file)?;

    let base = file.stamp()?.size;
    let repair = repair_of(&*file, base, mailbox.meta.dialect)?;
    let mut offset = base + repair.len() as u64;
    let (mut outcome, mut composed, mut tokens) = (Vec::new(), Vec::new(), Vec::new());
    let mut uid = mailbox.next_number();
    let modseq = mailbox.meta.modseq + 1;
    for (message, token) in &job.messages {
        if token.is_some_and(|token| mailbox.has_stored(token) || tokens.contains(&token)) {
            outcome.push(Appended::Before);
            continue;
        }
        let keywords = mailbox.keyword_bits(&message.keywords)?;
        let mut one = Composed::new(message, uid)?;
        one.record.offset = U64::new(offset);
        one.record.modseq = U64::new(modseq);
        one.record.keywords = U32::new(keywords);
        if matches!(message.way, Way::Client) {
            one.record.set_saved(mailbox.clock());
        }
        offset = one.record.end();
        tokens.extend(token);
        composed.push(one);
        outcome.push(Appended::Stored(uid));
        uid = uid.checked_add(1).ok_or(MailboxError::Limit("no UIDs are left"))?;
    }
    if job.size_max.is_some_and(|max| offset > max) && !composed.is_empty() {
        return Err(MailboxError::TooLarge(mailbox.file.to_string()));
    }
    let total = if composed.is_empty() { 0 } else { offset - base };
    let crc = checksum(repair, &composed)?;
    let promise = if total > 0 { mailbox.prepare_promise(uid, true)? } else { None };
    Ok(Stage { file, journal: None, composed, tokens, promise, repair, base, total, crc, outcome })
}

/// Promises the UIDs, and writes the intent.
fn intend(mailbox: &mut Mailbox, stage: &mut Stage, dirs: &mut Vec<TreePath>) -> Result<(), MailboxError> {
    mailbox.set_aside()?;
    if let Some(promise) = stage.promise.take() {
        mailbox.publish_promise(&promise)?;
    }
    let (journal, made) = mailbox.open_journal()?;
    if made || mailbox.names_unsynced {
        dirs.push(mailbox.file.parent());
    }
    let Stage { base, total, crc, .. } = *stage;
    let inode = stage.file.stamp()?.inode;
    let records = stage.composed.iter().map(|one| one.record).collect();
    let (time, tokens) = (mailbox.clock(), std::mem::take(&mut stage.tokens));
    mailbox.write_to(&*journal, &Entry::Append { base, inode, total, crc, time, tokens, records })?;
    stage.journal = Some(journal);
    Ok(())
}

/// Makes the user's directory. Its entry in a directory above must be durable before mail in it can be: those go to `unsynced`.
fn make_dirs(disk: &dyn Disk, dir: &TreePath, unsynced: &mut Vec<TreePath>) -> io::Result<()> {
    if dir.below().as_os_str().is_empty() || disk.stat(dir).is_ok() {
        return Ok(());
    }
    make_dirs(disk, &dir.parent(), unsynced)?;
    disk.make_dir(dir)?;
    unsynced.push(dir.parent());
    Ok(())
}

/// What must be written first so that our separator stands at a line's begin, and in a classic file behind an empty line.
fn repair_of(file: &dyn Handle, size: u64, dialect: Dialect) -> io::Result<&'static [u8]> {
    let mut end = [0; 4];
    let have = size.min(4) as usize;
    crate::disk::read_exact_at(file, &mut end[..have], size - have as u64)?;
    Ok(match (&end[..have], dialect) {
        ([], _) | ([.., b'\n'], Dialect::Bracket) => b"",
        ([.., b'\n', b'\n'] | [.., b'\n', b'\r', b'\n'], Dialect::Classic) => b"",
        ([.., b'\n'], Dialect::Classic) | (_, Dialect::Bracket) => b"\r\n",
        (_, Dialect::Classic) => b"\r\n\r\n",
    })
}

fn checksum(repair: &[u8], composed: &[Composed]) -> io::Result<u32> {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(repair);
    for one in composed {
        one.pass(&mut |piece| {
            hasher.update(piece);
            Ok(())
        })?;
    }
    Ok(hasher.finalize())
}

fn write(stage: &Stage) -> io::Result<()> {
    let mut length = 0;
    if stage.total <= ONE_WRITE {
        let mut bytes = Vec::with_capacity(stage.total as usize);
        bytes.extend_from_slice(stage.repair);
        for one in &stage.composed {
            one.pass(&mut |piece| {
                bytes.extend_from_slice(piece);
                Ok(())
            })?;
        }
        length = stage.file.append(&bytes)?;
    } else {
        stage.file.append(stage.repair)?;
        for one in &stage.composed {
            one.pass(&mut |piece| {
                length = stage.file.append(piece)?;
                Ok(())
            })?;
        }
    }
    if length == stage.base + stage.total {
        return Ok(());
    }
    // A program that does not know locks wrote at the same time.
    Err(io::Error::new(
        io::ErrorKind::ResourceBusy,
        "another program wrote into the mailbox without its lock",
    ))
}

/// Cuts the file back, if nobody else has written behind our bytes, and withdraws the intent.
fn take_back(mailbox: &mut Mailbox, stage: &Stage) {
    mailbox.suspect = true;
    let Ok(stamp) = stage.file.stamp() else { return };
    let ours: Vec<u64> = stage.composed.iter().map(|one| one.record.offset.get()).collect();
    let alone = stamp.size <= stage.base + stage.total
        && (stamp.size == stage.base
            || super::only_ours(&*stage.file, stage.base, stamp.size, &ours).unwrap_or(false));
    if alone && stage.file.set_len(stage.base).is_ok() && stage.file.sync().is_ok() {
        // If this fails as well, the intent stays and the next opener decides.
        withdraw(mailbox, stage);
    }
}

/// Withdraws the intent, if it was written.
fn withdraw(mailbox: &mut Mailbox, stage: &Stage) {
    if let Some(journal) = &stage.journal {
        let _ = mailbox.write_to(&**journal, &Entry::Abort);
    }
}

/// A failed sync fails every job that took part in it.
fn fail_all(stages: &mut Stages, jobs: &mut [AppendJob<'_>], synced: io::Result<()>, written: bool) {
    let Err(error) = synced else { return };
    for (stage, job) in stages.iter_mut().zip(jobs.iter_mut()) {
        if let Ok(Some(open)) = stage
            && open.total > 0
        {
            if written {
                take_back(job.mailbox, open);
            } else {
                job.mailbox.suspect = true;
                withdraw(job.mailbox, open);
            }
            *stage = Err(io::Error::new(error.kind(), format!("sync failed: {error}")).into());
        }
    }
}

fn finish(mailbox: &mut Mailbox, stage: Stage) -> Result<Vec<Appended>, MailboxError> {
    let Some(journal) = &stage.journal else { return Ok(stage.outcome) };
    // From here on nothing can fail the job: the messages are stored.
    mailbox.names_unsynced = false;
    let seen = stage.file.stamp().map(|stamp| Seen { stamp, taken: mailbox.disk.now() });
    let done =
        seen.map_err(MailboxError::from).and_then(|seen| mailbox.write_to(&**journal, &Entry::Done(seen)));
    if done.is_ok() {
        // The frames before are durable since the second sync.
        mailbox.unsynced = Unsynced::Done;
    }
    if done.is_err() || !stage.repair.is_empty() {
        // The bytes of a repair belong to the message before, whose record must be made anew.
        mailbox.suspect = true;
    }
    let journal_length = mailbox.journal.map_or(0, |(length, _)| length);
    if !mailbox.suspect && mailbox.checkpoint_is_due(journal_length) {
        // The lock is still held through `stage.file`.
        if mailbox.checkpoint().is_err() {
            mailbox.suspect = true;
        }
    }
    drop(stage.file);
    Ok(stage.outcome)
}

impl Mailbox {
    /// The bits of keywords by name; new ones are added to the table. The caller holds the lock.
    pub(super) fn keyword_bits(&mut self, names: &[String]) -> Result<u32, MailboxError> {
        let mut bits = 0;
        for name in names {
            let known = self.meta.keywords.iter().position(|keyword| keyword.eq_ignore_ascii_case(name));
            let bit = match known {
                Some(bit) => bit,
                None if self.meta.keywords.len() < KEYWORDS_MAX && name.len() <= KEYWORD_LENGTH_MAX => {
                    self.write(&Entry::Keyword(name.clone()))?;
                    self.meta.keywords.len() - 1
                }
                None => return Err(MailboxError::Limit("this mailbox has as many keywords as it can have")),
            };
            bits |= 1 << bit;
        }
        Ok(bits)
    }

    /// Takes IMail's own index files out of the way before our first change: a stale one could lead IMail into the middle of a message.
    pub(super) fn set_aside(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.set_aside, true) {
            return Ok(());
        }
        for extension in ["uid", "idx"] {
            let path = self.existing_sidecar(extension)?;
            let Some(path) = path else { continue };
            let free = (0..1000).map(|n| match n {
                0 => path.with_suffix(".bak"),
                n => path.with_suffix(&format!(".bak{n}")),
            });
            for target in free {
                if self.disk.stat(&target).is_err() {
                    self.disk.rename(&path, &target)?;
                    self.disk.sync_dir(&path.parent())?;
                    break;
                }
            }
        }
        Ok(())
    }

    /// The file of this mailbox's name with another extension, in whatever case IMail wrote it.
    fn existing_sidecar(&self, extension: &str) -> io::Result<Option<TreePath>> {
        let wanted = self.sidecar(extension);
        let dir = self.file.parent();
        let entries = self.disk.list(&dir)?;
        let same = |name: &std::ffi::OsStr| name.to_string_lossy().eq_ignore_ascii_case(wanted.name());
        Ok(entries.into_iter().find(|entry| same(&entry.name)).map(|entry| dir.join(entry.name)))
    }

    pub(super) fn checkpoint_if_due(&mut self, force: bool) -> Result<(), MailboxError> {
        let length = self.journal.map_or(0, |(length, _)| length);
        if force || self.checkpoint_is_due(length) { self.checkpoint() } else { Ok(()) }
    }

    fn checkpoint_is_due(&self, journal_length: u64) -> bool {
        journal_length > (256 << 10).max(self.records.len() as u64 * 64 / 4)
    }
}
