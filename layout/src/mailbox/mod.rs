//! A mailbox: its file and its index, kept together.
//!
//! One [`Mailbox`] is the state of one `<name>.mbx` in memory. Several processes may have the same one open, and other mail programs may
//! change the file: nothing here is believed without a look at the stamps ([`Mailbox::refresh`]), and nothing is changed without the
//! file's lock.
//!
//! Cut by verb: `append` stores messages, `change` sets flags and removes, `compact` takes removed bytes out and writes
//! snapshots, `read` hands out message bytes, `folder` makes, removes and renames whole mailboxes.
//!
//! # How changes of others are noticed
//!
//! | seen | meaning | done |
//! | --- | --- | --- |
//! | same stamp | nothing happened | nothing |
//! | same stamp, but so young that a second change could hide in it | probably nothing | the first and the last message are looked at |
//! | same inode, longer, first and last message as known | somebody appended | the new bytes are scanned |
//! | anything else | somebody rewrote or patched it | scanned whole, matched with what was known |
//!
//! # Failure
//! [`MailboxError`]. After a failed write or sync the state is suspect and the file is scanned before anything else happens;
//! nothing is retried in the hope that it works.
//!
//! # Limits
//! Those of [`crate::limits`].

mod append;
mod change;
mod compact;
mod folder;
mod inspect;
mod read;
mod rebuild;

pub use append::{AppendJob, Appended, append_all};
pub use change::{FlagChange, LETTERS_AT_ONCE};
pub use compact::{Rewrite, When};
pub use inspect::{IndexState, Inspection, Trust, inspect};
pub use read::{Content, read_content, read_header};

use crate::disk::{Disk, Handle, Open, Stamp, SyncSet};
use crate::index::identity::{AHEAD, Identity};
use crate::index::journal::{self, Entry, Range, Seen, Token};
use crate::index::reconcile::{self, Reconciled};
use crate::index::removals::Removals;
use crate::index::snapshot::{self, Meta, Records};
use crate::index::uids::Uids;
use crate::limits::JOURNAL_MAX;
use crate::lock::{self, LockError};
use crate::mbx::record::{Record, flag};
use crate::mbx::scan::{self, Found, ScanError};
use crate::mbx::separator::Foreign;
use crate::path::TreePath;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use zerocopy::byteorder::little_endian::{U32, U64};

/// Within this time after a change the file's clock may not show a second one: two ticks of the slowest kernel clock.
const GRAIN: i64 = 20_000_000;
/// How long a delivery is remembered, in seconds: longer than any retry of the same message follows a crash.
const TOKENS_FOR: u32 = 24 * 3600;
/// IMail's `X-UIDL` numbers lie about this many seconds below Unix time (samples of 4.10, 5.05 and 6.06): where the numbers of a new mailbox
/// begin, so that they are above all that an older file of that name had.
const NUMBERS_BEHIND_CLOCK: i64 = 694_224_000;

/// Files of at least this size take long to scan: a tenth of a second or more.
const LONG: u64 = 64 << 20;

/// The longest `user.lck` that is read.
const USER_LOCK_MAX: u64 = 64;

/// Why something with a mailbox did not work.
#[derive(Debug, thiserror::Error)]
pub enum MailboxError {
    /// The file is none of ours. Nothing was changed.
    #[error("{file} was left alone: {why}")]
    Foreign {
        /// Which file.
        file: String,
        /// What it looks like.
        why: Foreign,
    },
    /// Another program has the file.
    #[error("{0} is locked by another program")]
    Locked(String),
    /// It cannot grow further (2 GiB while the tree may go back to IMail).
    #[error("{0} would grow beyond the size that IMail can read")]
    TooLarge(String),
    /// The message is gone.
    #[error("no such message")]
    Gone,
    /// The message's bytes are not what the index says: somebody changed the file this moment.
    #[error("the mailbox was changed by another program")]
    Changed,
    /// A bound of the format.
    #[error("{0}")]
    Limit(&'static str),
    /// The disk failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<LockError> for MailboxError {
    fn from(error: LockError) -> MailboxError {
        match error {
            LockError::Busy(file) => MailboxError::Locked(file),
            LockError::Io(error) => MailboxError::Io(error),
        }
    }
}

/// What of the journal may not be durable yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unsynced {
    Nothing,
    /// That what was appended is there whole: without it the next opener compares the checksum.
    Done,
    /// What nobody could find out again.
    Changes,
}

/// One mailbox.
pub struct Mailbox {
    disk: Arc<dyn Disk>,
    file: TreePath,
    /// `user.lck` of the directory: holds the last UIDVALIDITY that was given in it.
    user_lock: TreePath,
    identity: Option<Identity>,
    meta: Meta,
    records: Records,
    /// An `Append` frame that neither `Done` nor `Abort` followed.
    pending: Option<Entry>,
    /// Where the journal's whole frames end, and its inode; `None` if there is no journal yet.
    journal: Option<(u64, u64)>,
    tokens: VecDeque<(Token, u32)>,
    visible: Option<Arc<Uids>>,
    reader: Option<(u64, Arc<dyn Handle>)>,
    loaded: bool,
    suspect: bool,
    /// Snapshot or journal were lost: what is known may be older than what clients were told.
    incomplete: bool,
    unsynced: Unsynced,
    /// A name in the directory was changed, by us or by whoever wrote the journal before us, and may not be durable yet.
    names_unsynced: bool,
    /// No record before this index waits for its letter.
    letters_from: usize,
    set_aside: bool,
    /// How often the whole file was scanned, because somebody else changed it.
    scans: u64,
    /// Since this change no flag or keyword changed.
    marked: u64,
}

/// UIDs that are about to be promised.
struct Promise {
    identity: Identity,
    /// The file that becomes `<name>.rsu`.
    temporary: TreePath,
    file: Box<dyn Handle>,
    /// `user.lck`, if a UIDVALIDITY was given.
    last_given: Option<Box<dyn Handle>>,
}

impl Promise {
    /// The files that must be durable before it is published.
    fn files<'a>(&'a self, set: &mut SyncSet<'a>) {
        set.file(&*self.file);
        self.last_given.iter().for_each(|file| set.file(&**file));
    }
}

/// Was the mailbox looked at?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// Yes, the state is the file's.
    Current,
    /// Another program holds the file; the state is as it was.
    Busy,
}

impl Mailbox {
    /// The mailbox of `file`; nothing is read yet. `user_lock` is the `user.lck` of its user's directory.
    pub fn new(disk: Arc<dyn Disk>, file: TreePath, user_lock: TreePath) -> Mailbox {
        Mailbox {
            disk,
            file,
            user_lock,
            identity: None,
            meta: Meta::default(),
            records: Records::default(),
            pending: None,
            journal: None,
            tokens: VecDeque::new(),
            visible: None,
            reader: None,
            loaded: false,
            suspect: false,
            incomplete: false,
            unsynced: Unsynced::Nothing,
            names_unsynced: false,
            letters_from: 0,
            set_aside: false,
            scans: 0,
            marked: 0,
        }
    }

    /// The mailbox file.
    pub fn file(&self) -> &TreePath {
        &self.file
    }

    /// UIDVALIDITY. A mailbox that was never written gets one for this session.
    pub fn uidvalidity(&mut self) -> u32 {
        match self.identity {
            Some(identity) => identity.uidvalidity,
            None => {
                // Above all that were given, so that it can stay when the mailbox is made.
                let given =
                    self.disk.read(&self.user_lock, USER_LOCK_MAX).map_or(0, |text| last_given(&text));
                let uidvalidity = self.clock().max(given.saturating_add(1));
                self.identity.insert(Identity { uidvalidity, floor: 0, numbered: true }).uidvalidity
            }
        }
    }

    /// The UID that the next message gets at least.
    pub fn uid_next(&self) -> u32 {
        if self.records.is_empty() && self.meta.uid_next == 1 {
            self.next_number()
        } else {
            self.meta.uid_next
        }
    }

    /// The number of the last change (RFC 7162 HIGHESTMODSEQ).
    pub fn modseq(&self) -> u64 {
        self.meta.modseq
    }

    /// The number of the last change of flags or keywords, or one above it: what is newer only added or removed messages.
    pub fn marked(&self) -> u64 {
        self.marked
    }

    /// UIDs that were removed by changes above this one, in ranges; `None` if that was too long ago to be remembered.
    pub fn removed_since(&self, modseq: u64) -> Option<Vec<Range>> {
        self.meta.removals.since(modseq)
    }

    /// The names of the keyword bits.
    pub fn keywords(&self) -> &[String] {
        &self.meta.keywords
    }

    /// UIDs up to this one are no longer recent.
    pub fn recent_mark(&self) -> u32 {
        self.meta.recent
    }

    /// The UIDs of all messages that clients see, ascending.
    pub fn uids(&mut self) -> Arc<Uids> {
        let records = &self.records;
        self.visible.get_or_insert_with(|| Arc::new(Uids::of(records))).clone()
    }

    /// How many messages that clients see nobody has read.
    pub fn unseen(&self) -> usize {
        self.records.totals().unseen
    }

    /// The first of them, as an index into [`Mailbox::uids`].
    pub fn first_unseen(&mut self) -> Option<usize> {
        let index = self.records.first_unseen()?;
        match self.records.totals().expunged {
            0 => Some(index),
            _ => Some(self.records.iter().take(index).filter(|record| !record.has(flag::EXPUNGED)).count()),
        }
    }

    /// The messages that clients see.
    pub fn messages(&self) -> impl DoubleEndedIterator<Item = &Record> + Clone {
        self.records.live()
    }

    /// A message by its UID.
    pub fn message(&self, uid: u32) -> Option<&Record> {
        self.records.get(self.records.find(uid)?).filter(|record| !record.has(flag::EXPUNGED))
    }

    /// The messages with UIDs in a range, both ends included.
    pub fn range(&self, first: u32, last: u32) -> impl Iterator<Item = &Record> {
        let from = self.records.lower_bound(first);
        let in_range = (from..self.records.len()).map_while(move |index| self.records.get(index));
        in_range.take_while(move |r| r.uid.get() <= last).filter(|r| !r.has(flag::EXPUNGED))
    }

    /// How many bytes of the file belong to messages that clients see: what counts against a quota.
    pub fn live_bytes(&self) -> u64 {
        self.messages().map(|record| u64::from(record.stored.get())).sum()
    }

    /// Was a message stored here under this token, within the last day?
    pub fn has_stored(&self, token: Token) -> bool {
        self.tokens.iter().any(|(known, _)| *known == token)
    }

    /// Looks at the file and takes over what others changed. Waits up to `patience` for the lock, which it needs only if something changed.
    pub fn refresh(&mut self, patience: Duration) -> Result<Refreshed, MailboxError> {
        if self.loaded && !self.suspect && self.is_clean()? {
            return Ok(Refreshed::Current);
        }
        let held = match lock::acquire(&*self.disk, &self.file, Open::Change, patience) {
            Ok(held) => Some(held),
            Err(LockError::Io(e)) if e.kind() == io::ErrorKind::NotFound => None,
            Err(LockError::Busy(_)) if self.loaded => return Ok(Refreshed::Busy),
            Err(LockError::Busy(_)) => {
                // Better an answer that is not written down than none.
                let handle = self.disk.open(&self.file, Open::Read)?;
                self.load()?;
                self.look(&*handle, false)?;
                self.suspect = true;
                return Ok(Refreshed::Busy);
            }
            Err(error) => return Err(error.into()),
        };
        match held {
            Some(handle) => self.refresh_locked(&*handle)?,
            None => self.vanish()?,
        }
        Ok(Refreshed::Current)
    }

    /// Was the mailbox looked at, and is everything as it was then? Two system calls, and nobody is waited for.
    pub fn is_current(&self) -> bool {
        self.loaded && !self.suspect && self.is_clean().unwrap_or(false)
    }

    /// Is so much of the file to be read before anything else that nobody should wait for it who has other work? One system call.
    pub fn is_long_to_refresh(&self) -> bool {
        let Ok((stamp, _)) = self.disk.stat(&self.file) else { return false };
        let known = self.meta.seen.stamp;
        let same = (stamp.device, stamp.inode) == (known.device, known.inode);
        let quick = self.loaded && !self.suspect && same && (stamp == known || stamp.size > known.size);
        !quick && stamp.size >= LONG
    }

    /// Is everything as it was when we last looked? Takes no lock.
    fn is_clean(&self) -> Result<bool, MailboxError> {
        if !self.journal_is_known()? {
            return Ok(false);
        }
        match self.disk.stat(&self.file) {
            Ok((stamp, _)) => {
                Ok(stamp == self.meta.seen.stamp && !self.is_racy() && !self.tail_is_due(stamp))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Ok(self.meta.seen == Seen::default() && self.records.is_empty())
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Is the stamp so young that a second change could bear the same one?
    fn is_racy(&self) -> bool {
        self.meta.seen.taken - self.meta.seen.stamp.modified < GRAIN
    }

    /// Was a tail without line end left out long enough that its writer will not come back?
    fn tail_is_due(&self, stamp: Stamp) -> bool {
        self.meta.end < stamp.size && self.disk.now() - stamp.modified >= scan::UNFINISHED_FOR
    }

    fn journal_is_known(&self) -> Result<bool, MailboxError> {
        match (self.disk.stat(&self.sidecar("rsj")), self.journal) {
            (Ok((stamp, _)), Some((length, inode))) => Ok(stamp.size == length && stamp.inode == inode),
            (Err(e), None) if e.kind() == io::ErrorKind::NotFound => Ok(true),
            (Err(e), Some(_)) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            (Ok(_), None) => Ok(false),
            (Err(e), _) => Err(e.into()),
        }
    }

    fn sidecar(&self, extension: &str) -> TreePath {
        self.file.with_extension(extension)
    }

    fn clock(&self) -> u32 {
        u32::try_from(self.disk.now() / 1_000_000_000).unwrap_or(u32::MAX)
    }

    /// Takes over the file's state; the caller holds the lock on `handle`.
    fn refresh_locked(&mut self, handle: &dyn Handle) -> Result<(), MailboxError> {
        self.catch_up(handle)?;
        self.look(handle, true)
    }

    /// Takes over the journal's state.
    fn catch_up(&mut self, handle: &dyn Handle) -> Result<(), MailboxError> {
        if !self.loaded || !self.journal_is_known()? {
            self.load()?;
        }
        self.recover(handle)
    }

    /// The same, before messages are added: of a mailbox that is made for them there is nothing yet that would be worth a snapshot.
    fn refresh_to_append(&mut self, handle: &dyn Handle) -> Result<(), MailboxError> {
        self.catch_up(handle)?;
        let new = self.is_new() && handle.stamp()?.size == 0;
        self.look(handle, !new)
    }

    /// The file is not there: an empty mailbox.
    fn vanish(&mut self) -> Result<(), MailboxError> {
        if !self.loaded || !self.journal_is_known()? {
            self.load()?;
        }
        self.meta.modseq += u64::from(!self.records.is_empty());
        self.meta.removals = Removals::unknown_until(self.meta.modseq);
        self.meta.seen = Seen::default();
        self.meta.end = 0;
        self.records = Records::default();
        self.pending = None;
        self.visible = None;
        self.reader = None;
        self.suspect = false;
        Ok(())
    }

    /// Reads identity, snapshot and journal.
    fn load(&mut self) -> Result<(), MailboxError> {
        let identity = optional(self.disk.read(&self.sidecar("rsu"), 4096))?;
        if let Some(identity) = identity.as_deref().and_then(Identity::parse) {
            self.identity = Some(identity);
        }
        let (mut meta, mut records, mut known) = (Meta::default(), Records::default(), false);
        for extension in ["rsx", "rsx.1"] {
            let bytes = optional(self.disk.map(&self.sidecar(extension)))?;
            if let Some((m, r)) = bytes.and_then(snapshot::open) {
                // The older one knows flags, but not what the file looks like now.
                known = extension == "rsx";
                (meta, records) = (m, r);
                break;
            }
        }
        let journal = optional(self.disk.open(&self.sidecar("rsj"), Open::Read))?;
        let mut entries = Vec::new();
        self.journal = None;
        if let Some(handle) = journal {
            let stamp = handle.stamp()?;
            let bytes = crate::disk::read_whole(&*handle, JOURNAL_MAX)?;
            let generation = journal::generation(&bytes);
            let end = match generation {
                // Also the older snapshot's, when a crash came before the newer one got its name.
                Some(generation) if generation == meta.generation => {
                    let (read, length) = journal::read(&bytes[journal::HEADER..]);
                    entries = read;
                    known = true;
                    (journal::HEADER + length) as u64
                }
                // Contained in the snapshot already, or damaged: the next writer begins it anew.
                _ => 0,
            };
            self.journal = (end > 0).then_some((end, stamp.inode));
        }
        self.meta = meta;
        self.tokens = self.meta.tokens.drain(..).collect();
        self.records = records;
        self.names_unsynced = true;
        self.pending = None;
        self.visible = None;
        self.suspect |= !known;
        self.incomplete = !known && self.identity.is_some_and(|identity| identity.floor > 0);
        entries.into_iter().for_each(|entry| self.apply(entry));
        self.marked = self.meta.modseq;
        self.letters_from = 0;
        self.loaded = true;
        Ok(())
    }

    /// Finishes or takes back an append that a crash interrupted.
    fn recover(&mut self, handle: &dyn Handle) -> Result<(), MailboxError> {
        let Some(Entry::Append { base, inode, total, crc, records, .. }) = &self.pending else {
            return Ok(());
        };
        let (base, total) = (*base, *total);
        let stamp = handle.stamp()?;
        let last = self.records.iter().next_back();
        let same_file = stamp.inode == *inode
            && stamp.size >= base
            && last.is_none_or(|record| record.end() <= base && read::verify_header(handle, record).is_ok());
        if same_file && stamp.size >= base + total && checksum_of(handle, base, total)? == *crc {
            let seen = Seen { stamp: clipped(stamp, base + total), taken: self.disk.now() };
            return self.write(&Entry::Done(seen));
        }
        let ours: Vec<u64> = records.iter().map(|record| record.offset.get()).collect();
        if same_file
            && stamp.size > base
            && stamp.size <= base + total
            && only_ours(handle, base, stamp.size, &ours)?
        {
            handle.set_len(base)?;
            handle.sync()?;
        }
        self.suspect = true;
        self.write(&Entry::Abort)
    }

    /// Compares the file with the state and takes over what changed. `keep` says whether it may be written down (the lock is held).
    fn look(&mut self, handle: &dyn Handle, keep: bool) -> Result<(), MailboxError> {
        let stamp = handle.stamp()?;
        let taken = self.disk.now();
        let seen = Seen { stamp, taken };
        let known = self.meta.seen.stamp;
        if !self.suspect && stamp == known && !self.tail_is_due(stamp) {
            if self.is_racy() && taken - stamp.modified >= GRAIN {
                if !self.ends_are_known(handle)? {
                    return self.rescan(handle, keep);
                }
                self.meta.seen.taken = taken;
            }
            return Ok(());
        }
        let grew = !self.suspect
            && (stamp.device, stamp.inode) == (known.device, known.inode)
            && stamp.size >= known.size
            && stamp.size > self.meta.end
            && self.meta.end > 0;
        if grew && self.ends_are_known(handle)? {
            let end = self.meta.end;
            if let Some(found) = self.scanned(scan::tail(handle, self.meta.dialect, end, taken))?.flatten() {
                return self.take_appended(found, seen, keep);
            }
        }
        self.rescan(handle, keep)
    }

    fn take_appended(&mut self, found: scan::Scan, seen: Seen, keep: bool) -> Result<(), MailboxError> {
        self.note_numbers(&found.messages);
        let numbered = self.identity.is_none_or(|identity| identity.numbered);
        let outcome =
            reconcile::appended(&found.messages, self.meta.uid_next, numbered, self.meta.modseq + 1);
        self.meta.end = found.end;
        let entry = Entry::Found(seen, outcome.records.clone());
        if keep {
            self.promise(outcome.uid_next, outcome.numbered)?;
            self.write(&entry)?;
            self.checkpoint_if_due(false)
        } else {
            self.apply(entry);
            Ok(())
        }
    }

    /// Was nothing ever written down of this mailbox?
    fn is_new(&self) -> bool {
        self.journal.is_none()
            && self.meta.generation == 0
            && self.records.is_empty()
            && self.identity.is_none_or(|identity| identity.floor == 0)
    }

    /// Are the first and the last message where we think they are?
    fn ends_are_known(&self, handle: &dyn Handle) -> Result<bool, MailboxError> {
        let ends = [self.records.get(0), self.records.get(self.records.len().wrapping_sub(1))];
        for record in ends.into_iter().flatten() {
            match read::verify(handle, record) {
                Ok(()) => {}
                Err(MailboxError::Changed) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Scans the whole file and matches it with what was known.
    fn rescan(&mut self, handle: &dyn Handle, keep: bool) -> Result<(), MailboxError> {
        let seen = Seen { stamp: handle.stamp()?, taken: self.disk.now() };
        let Some(found) = self.scanned(scan::whole(handle, seen.taken))? else {
            return Err(MailboxError::Changed);
        };
        self.scans += 1;
        let modseq = self.next_modseq();
        self.note_numbers(&found.messages);
        let mut outcome = self.match_with(&found.messages, modseq);
        if outcome.uid_next == 1 {
            outcome.uid_next = self.next_number();
        }
        let before = std::mem::replace(&mut self.records, Records::from_vec(outcome.records));
        let live = |record: &&Record| !record.has(flag::EXPUNGED);
        if self.incomplete
            || before.iter().filter(live).any(|record| self.records.find(record.uid.get()).is_none())
        {
            self.meta.removals = Removals::unknown_until(modseq);
        }
        self.meta.uid_next = outcome.uid_next.max(self.meta.uid_next);
        self.meta.modseq = modseq;
        self.marked = modseq;
        self.meta.dialect = found.dialect;
        self.meta.end = found.end;
        self.meta.seen = seen;
        self.letters_from = 0;
        self.visible = None;
        self.reader = None;
        self.suspect = false;
        self.incomplete = false;
        if keep {
            self.promise(outcome.uid_next, outcome.numbered)?;
            self.checkpoint()?;
        }
        Ok(())
    }

    /// The number of the change that a new look at the whole file is. With the index lost nobody knows how far the numbers had come: then it is
    /// the Unix time, which is above them unless there was more than one change a second all the mailbox's life.
    fn next_modseq(&self) -> u64 {
        let next = self.meta.modseq + 1;
        if self.incomplete { next.max(u64::from(self.clock())) } else { next }
    }

    /// Gives UIDs to all messages of the file.
    fn match_with(&self, found: &[Found], modseq: u64) -> Reconciled {
        let (known, next) = (&self.records, self.meta.uid_next);
        match self.identity {
            Some(identity) if self.incomplete => {
                // What the index promised is not known in full; the numbers in the file tell it, if every UID was one.
                let told = reconcile::reconcile(known, found, next, identity.numbered, modseq);
                if told.numbered {
                    return Reconciled { uid_next: told.uid_next.max(identity.floor), ..told };
                }
                reconcile::reconcile(known, found, next.max(identity.floor), false, modseq)
            }
            _ if known.is_empty() && next == 1 => reconcile::first(found),
            identity => {
                let numbered = identity.is_none_or(|identity| identity.numbered);
                reconcile::reconcile(known, found, next, numbered, modseq)
            }
        }
    }

    fn scanned<T>(&self, outcome: Result<T, ScanError>) -> Result<Option<T>, MailboxError> {
        match outcome {
            Ok(scan) => Ok(Some(scan)),
            Err(ScanError::Foreign(why)) => Err(MailboxError::Foreign { file: self.file.to_string(), why }),
            Err(ScanError::Limit(what)) => Err(MailboxError::Limit(what)),
            Err(ScanError::Io(e)) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(ScanError::Io(e)) => Err(e.into()),
        }
    }

    fn note_numbers(&mut self, found: &[Found]) {
        for message in found {
            if let crate::mbx::header::Uidl::Number(number) = message.uidl {
                self.meta.uidl_max = self.meta.uidl_max.max(number);
            }
        }
    }

    /// The `X-UIDL` number, and UID, of the next message that we store: above every number in the file and above every UID given. A mailbox
    /// with neither begins by the clock.
    fn next_number(&self) -> u32 {
        let given = self.meta.uid_next.max(self.meta.uidl_max.saturating_add(1));
        let given = given.max(
            self.identity.map_or(0, |identity| if self.records.is_empty() { identity.floor } else { 0 }),
        );
        if given > 1 {
            return given;
        }
        u32::try_from(i64::from(self.clock()) - NUMBERS_BEHIND_CLOCK).unwrap_or(1).max(1)
    }

    /// Makes sure that the identity exists and promises all UIDs below `uid_next`, before one of them is given.
    fn promise(&mut self, uid_next: u32, numbered: bool) -> Result<(), MailboxError> {
        let Some(promise) = self.prepare_promise(uid_next, numbered)? else { return Ok(()) };
        let mut set = SyncSet::default();
        promise.files(&mut set);
        set.flush(&*self.disk.clone())?;
        self.publish_promise(&promise)?;
        Ok(self.disk.sync_dir(&self.file.parent())?)
    }

    /// The first half of it: what has to be durable before [`Mailbox::publish_promise`]. `None`: so much was promised before.
    fn prepare_promise(&mut self, uid_next: u32, numbered: bool) -> Result<Option<Promise>, MailboxError> {
        // What we know of the file is what is in it: we looked under the lock, and only its holder writes it.
        if self
            .identity
            .is_some_and(|known| known.floor >= uid_next && (known.numbered == numbered || !known.numbered))
        {
            return Ok(None);
        }
        let stored = optional(self.disk.read(&self.sidecar("rsu"), 4096))?;
        let stored = stored.as_deref().and_then(Identity::parse);
        let (uidvalidity, last_given) = match stored {
            Some(stored) => (stored.uidvalidity, None),
            None => self.allot_uidvalidity().map(|(uidvalidity, file)| (uidvalidity, Some(file)))?,
        };
        let numbered = numbered && stored.is_none_or(|stored| stored.numbered);
        let identity = Identity { uidvalidity, floor: uid_next.saturating_add(AHEAD), numbered };
        let temporary = self.sidecar("rsu").with_suffix(".$$$");
        let file = crate::disk::write_new_unsynced(&*self.disk, &temporary, identity.write().as_bytes())?;
        Ok(Some(Promise { identity, temporary, file, last_given }))
    }

    /// The second half: the identity gets its name, which still has to be made durable.
    fn publish_promise(&mut self, promise: &Promise) -> io::Result<()> {
        crate::disk::put_in_place(&*self.disk, &promise.temporary, &self.sidecar("rsu"))?;
        self.identity = Some(promise.identity);
        self.names_unsynced = true;
        Ok(())
    }

    /// A UIDVALIDITY: Unix seconds, but above the last one given in this directory, so that a mailbox made anew within a second is another one.
    /// `user.lck`, where it is noted, has to be made durable.
    fn allot_uidvalidity(&mut self) -> Result<(u32, Box<dyn Handle>), MailboxError> {
        let held = lock::acquire(&*self.disk, &self.user_lock, Open::Create, lock::PATIENCE)?;
        let last = last_given(&crate::disk::read_whole(&*held, USER_LOCK_MAX)?);
        let uidvalidity = match self.identity {
            // The one that a session showed to its client for a mailbox that was never there stays, whatever others were given since.
            Some(identity) if identity.floor == 0 && self.meta.uid_next == 1 => identity.uidvalidity,
            Some(identity) => identity.uidvalidity.max(last.saturating_add(1)),
            None => self.clock().max(last.saturating_add(1)),
        };
        held.set_len(0)?;
        held.append(format!("{}\n", uidvalidity.max(last)).as_bytes())?;
        // Another mailbox of the user may be made before this is durable.
        held.unlock()?;
        Ok((uidvalidity, held))
    }

    /// Writes an entry to the journal, unsynced, and applies it. The caller holds the lock.
    fn write(&mut self, entry: &Entry) -> Result<(), MailboxError> {
        let (handle, _) = self.open_journal()?;
        self.write_to(&*handle, entry)
    }

    fn write_to(&mut self, journal: &dyn Handle, entry: &Entry) -> Result<(), MailboxError> {
        let length = match journal.append(&journal::frame(entry)) {
            Ok(length) => length,
            Err(error) => {
                self.suspect = true;
                return Err(error.into());
            }
        };
        if let Some((end, _)) = &mut self.journal {
            *end = length;
        }
        self.unsynced = Unsynced::Changes;
        self.apply(entry.clone());
        Ok(())
    }

    /// Opens the journal for appending, makes it if there is none, and cuts off what a crash left half-written. Says whether it was made.
    fn open_journal(&mut self) -> Result<(Box<dyn Handle>, bool), MailboxError> {
        let path = self.sidecar("rsj");
        let handle = self.disk.open(&path, Open::Create)?;
        let stamp = handle.stamp()?;
        match self.journal {
            Some((end, inode)) if inode == stamp.inode && stamp.size >= end => {
                if stamp.size > end {
                    handle.set_len(end)?;
                }
                Ok((handle, false))
            }
            _ => {
                handle.set_len(0)?;
                let end = handle.append(&journal::header(self.meta.generation))?;
                self.journal = Some((end, stamp.inode));
                Ok((handle, true))
            }
        }
    }

    /// Changes the state by an entry: the same for one just written and one read back.
    fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Append { .. } => self.pending = Some(entry),
            Entry::Abort => {
                // Somebody may have been told these UIDs, if the messages were removed before a crash.
                if let Some(Entry::Append { records, .. }) = self.pending.take() {
                    let last = records.last().map_or(0, |record| record.uid.get());
                    self.meta.uid_next = self.meta.uid_next.max(last.saturating_add(1));
                }
            }
            Entry::Done(seen) => {
                if let Some(Entry::Append { base, total, time, tokens, records, .. }) = self.pending.take() {
                    self.tokens.retain(|(_, at)| at.saturating_add(TOKENS_FOR) > time);
                    self.tokens.extend(tokens.into_iter().map(|token| (token, time)));
                    self.add(records);
                    self.meta.end = base + total;
                }
                self.meta.seen = seen;
            }
            Entry::Found(seen, records) => {
                if let Some(last) = records.last() {
                    self.meta.end = last.end();
                }
                self.add(records);
                self.meta.seen = seen;
            }
            Entry::Flags { modseq, set, clear, set_keywords, clear_keywords, uids } => {
                self.meta.modseq = self.meta.modseq.max(modseq);
                self.marked = self.meta.modseq;
                self.each(&uids, |record| {
                    record.flags =
                        U32::new(record.flags.get() & !(clear & flag::CLIENT) | set & flag::CLIENT);
                    record.keywords = U32::new(record.keywords.get() & !clear_keywords | set_keywords);
                    record.modseq = U64::new(modseq);
                });
                let first = uids.first().map_or(0, |(first, _)| self.records.lower_bound(*first));
                self.letters_from = self.letters_from.min(first);
            }
            Entry::Letters(seen, uids) => {
                self.each(&uids, |record| record.set(flag::LETTER_READ, record.has(flag::SEEN)));
                self.meta.seen = seen;
            }
            Entry::Keyword(name) => self.meta.keywords.push(name),
            Entry::Expunge { modseq, uids } => {
                self.meta.modseq = self.meta.modseq.max(modseq);
                self.meta.removals.note(modseq, &uids);
                self.each(&uids, |record| {
                    record.set(flag::EXPUNGED, true);
                    record.modseq = U64::new(modseq);
                });
                self.visible = None;
            }
            Entry::Recent(mark) => self.meta.recent = self.meta.recent.max(mark),
        }
    }

    fn add(&mut self, records: Vec<Record>) {
        let mut visible = self.visible.take();
        for record in records {
            self.meta.uid_next = self.meta.uid_next.max(record.uid.get().saturating_add(1));
            self.meta.modseq = self.meta.modseq.max(record.modseq.get());
            if record.has(flag::UIDL_IS_UID) {
                self.meta.uidl_max = self.meta.uidl_max.max(record.uid.get());
            }
            if let Some(visible) = &mut visible {
                Arc::make_mut(visible).push(record.uid.get());
            }
            self.records.push(record);
        }
        self.visible = visible;
    }

    fn each(&mut self, uids: &[Range], mut change: impl FnMut(&mut Record)) {
        for (first, last) in uids {
            let mut index = self.records.lower_bound(*first);
            while self.records.change(index, |record| record.uid.get() <= *last, &mut change) {
                index += 1;
            }
        }
    }
}

/// The content of `user.lck`.
fn last_given(text: &[u8]) -> u32 {
    std::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// A file that need not be there.
fn optional<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// The stamp of a file as if it ended at `size`: what lies behind was appended by somebody else and is still to be found.
fn clipped(stamp: Stamp, size: u64) -> Stamp {
    Stamp { size, ..stamp }
}

fn checksum_of(handle: &dyn Handle, from: u64, length: u64) -> io::Result<u32> {
    let mut hasher = crc32fast::Hasher::new();
    let mut piece = vec![0; 256 << 10];
    let mut at = from;
    while at < from + length {
        let wanted = (from + length - at).min(piece.len() as u64) as usize;
        crate::disk::read_exact_at(handle, &mut piece[..wanted], at)?;
        hasher.update(&piece[..wanted]);
        at += wanted as u64;
    }
    Ok(hasher.finalize())
}

/// Does every separator in `[base, end)` stand where we were writing one? If not, another program appended behind our torn message.
fn only_ours(handle: &dyn Handle, base: u64, end: u64, ours: &[u64]) -> Result<bool, MailboxError> {
    let mut bytes = vec![0; (end - base).min(256 << 20) as usize];
    crate::disk::read_exact_at(handle, &mut bytes, base)?;
    let hits = memchr::memmem::find_iter(&bytes, b"From ");
    let at_line = |at: &usize| *at == 0 || bytes[at - 1] == b'\n';
    Ok(hits.filter(at_line).all(|at| {
        let line = &bytes[at..];
        let line = &line[..memchr::memchr(b'\n', line).unwrap_or(line.len())];
        ours.contains(&(base + at as u64)) || !crate::mbx::separator::needs_escape(line)
    }))
}
