//! What is done to the spool's files, and in which order.
//!
//! | state | files | meaning | who may act |
//! | --- | --- | --- | --- |
//! | S0 | none | nothing | |
//! | S1 | D | arriving, or left by a broken reception | its own session; the cleaner |
//! | S2 | D, T | arriving, envelope being written | its own session; the cleaner |
//! | S3 | D, Q | accepted, waits | the queue |
//! | S4 | D, Q, `_` | somebody works on it | who holds the lock; anyone if it is free |
//! | S5 | D, Q without recipients | nobody is left to deliver to | anyone: D, then Q |
//! | S6 | Q without D | finished, or a pair that is being copied in by hand | anyone, after an hour: Q |
//!
//! D is removed before Q: "Q without D" means finished, "D without Q" means still arriving, and nobody ever has to guess.
//! What is in S1 or S2 was never acknowledged and is never delivered; the server does not remove it either, but for what a session of
//! its own left behind when it broke off.
//!
//! # Accepting a message
//! 1. [`Store::prepare`] writes D and T; **sync** both;
//! 2. [`Prepared::publish`] renames T to Q; **sync** the directory; now it is accepted.
//!
//! The syncs are the caller's, so that messages which are stored at the same time share them, with each other and with mailboxes
//! ([`SyncSet`]). Until the rename nothing that a crash leaves is delivered; after it D and Q are durable and whole.
//!
//! # Working on a message
//! A [`Claim`] is the lock on `_<stem>.~MD`. The file's existence means nothing: after a crash the lock is free. A Q file is rewritten
//! through `_<stem>.~QW` and a rename, so the claim outlives it.
//!
//! # Failure
//! [`SpoolError`]. What failed left the item as it was, or further on in the table above.
//!
//! # Limits
//! [`ENVELOPE_MAX`] bytes of envelope, [`MESSAGE_MAX`](crate::limits::MESSAGE_MAX) of message.

use super::clean::{self, LeftOver};
use super::id::{Found, ItemName, Origin, Role, recognize};
use super::qfile::{ENVELOPE_MAX, Envelope};
use crate::disk::{Disk, Handle, Kind, Open, Stamp, SyncSet, read_whole, write_new};
use crate::limits::MESSAGE_MAX;
use crate::lock::{self, LockError};
use crate::mbx::compose::Source;
use crate::name::SpoolId;
use crate::path::TreePath;
use crate::root::Root;
use std::collections::{BTreeSet, HashSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How old another program's claim must be before it counts as left behind (IMail 8.2 guide: locks older than one hour are dropped).
pub const FOREIGN_CLAIM_MAX: Duration = Duration::from_secs(3600);
/// How long a Q file may lack its D: somebody may be copying the pair.
pub const LONE_ENVELOPE_MAX: Duration = Duration::from_secs(3600);
/// How long an envelope without recipients must rest before it counts as finished: an editor may be writing it.
pub const SETTLED: Duration = Duration::from_secs(60);
/// How much of a message is copied at once.
const PIECE: usize = 256 << 10;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Somebody works on this message.
    #[error("{0} is being delivered")]
    Busy(ItemName),
    /// There is no such message, or not any more.
    #[error("there is no message {0} in the spool")]
    Gone(ItemName),
    /// Somebody edited the Q file after it was read: read it again.
    #[error("the Q file of {0} was changed by another program")]
    Changed(ItemName),
    /// It is held already, or another Q file stands where it would be released to.
    #[error("{0} exists already")]
    Exists(TreePath),
    /// The disk.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The spool directory.
#[derive(Clone)]
pub struct Store {
    root: Root,
    disk: Arc<dyn Disk>,
    dir: TreePath,
}

/// Where the message of a new item comes from.
pub enum Body {
    /// These bytes are written to a new D file.
    Copy(Source),
    /// Its D file is there, of the same name: it was written while the message arrived.
    Arrived(Incoming),
    /// The same message as that of another item, whose D file gets a second name.
    Same(ItemName),
}

/// A D file that is being written. Dropped, it is removed.
pub struct Incoming {
    store: Store,
    name: ItemName,
    handle: Arc<dyn Handle>,
    length: u64,
    kept: bool,
}

impl Incoming {
    /// Adds bytes; `FileTooLarge` beyond the largest message.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.length + bytes.len() as u64 > MESSAGE_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.length = self.handle.append(bytes)?;
        Ok(())
    }

    /// What was written so far, for filters and for delivery straight to mailboxes.
    pub fn source(&self) -> Source {
        Source::File(self.handle.clone(), 0, self.length)
    }

    /// The item it belongs to.
    pub fn name(&self) -> &ItemName {
        &self.name
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be removed now is left for the cleaner; without a Q file nobody delivers it.
            let _ = self.store.disk.unlink(&self.store.path(Role::Data, &self.name));
        }
    }
}

/// An item whose files are written. Dropped before [`Prepared::publish`], they are removed.
pub struct Prepared {
    store: Store,
    name: ItemName,
    data: Option<Arc<dyn Handle>>,
    envelope: Option<Box<dyn Handle>>,
    published: bool,
}

impl Prepared {
    /// The files that must be durable before [`Prepared::publish`].
    pub fn files<'a>(&'a self, set: &mut SyncSet<'a>) {
        self.data.iter().for_each(|handle| set.file(&**handle));
        self.envelope.iter().for_each(|handle| set.file(&**handle));
    }

    /// Renames T to Q. From here on the queue may find the item; it is accepted when the directory is durable as well
    /// ([`Store::dir`]).
    pub fn publish(&mut self) -> io::Result<()> {
        let (from, to) = (self.path(Role::Arriving), self.path(Role::Queued));
        self.store.disk.rename(&from, &to)?;
        self.published = true;
        Ok(())
    }

    /// Takes a published item back when the last sync failed, unless somebody delivers it already.
    pub fn withdraw(self) -> Result<(), SpoolError> {
        if !self.published {
            return Ok(());
        }
        let claim = self.store.claim(&self.name)?;
        // Without its Q nobody delivers the rest.
        self.store.disk.unlink(&self.path(Role::Queued))?;
        self.store.disk.unlink(&self.path(Role::Data))?;
        drop(claim);
        Ok(())
    }

    /// Leaves the files as they are, for [`Store::publish`] after this process may have crashed: it is for the caller to have noted the
    /// item durably elsewhere.
    pub fn leave(mut self) {
        self.published = true;
    }

    /// The item's name.
    pub fn name(&self) -> &ItemName {
        &self.name
    }

    fn path(&self, role: Role) -> TreePath {
        self.store.path(role, &self.name)
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if !self.published {
            // What cannot be removed now is left for the cleaner; without a Q file nobody delivers it. A T that could not be opened
            // is not ours.
            if self.envelope.is_some() {
                let _ = self.store.disk.unlink(&self.path(Role::Arriving));
            }
            let _ = self.store.disk.unlink(&self.path(Role::Data));
        }
    }
}

/// Where an item stands; the table is at the module's head. S5 shows only when the envelope is read ([`Loaded::is_finished`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// S1: a D file alone.
    Arriving,
    /// S2: an envelope that is being written.
    ArrivingEnvelope,
    /// S3: waits for the queue.
    Waiting,
    /// S4: somebody works on it, or did when everything stopped: [`Store::claim`] finds out.
    Claimed,
    /// S6: a Q file alone.
    LoneEnvelope,
    /// Held back by an administrator.
    Held,
}

/// Which files of an item are there.
#[derive(Clone, Copy, Debug, Default)]
struct Files {
    data: bool,
    arriving: bool,
    queued: bool,
    held: bool,
    claimed: bool,
}

impl Files {
    fn add(&mut self, role: Role) {
        match role {
            Role::Data => self.data = true,
            Role::Arriving => self.arriving = true,
            Role::Queued => self.queued = true,
            _ => self.held = true,
        }
    }

    fn state(self) -> State {
        match self {
            Files { queued: true, data: true, claimed: true, .. } => State::Claimed,
            Files { queued: true, data: true, .. } => State::Waiting,
            Files { held: true, .. } => State::Held,
            Files { queued: true, .. } => State::LoneEnvelope,
            Files { arriving: true, .. } => State::ArrivingEnvelope,
            Files { .. } => State::Arriving,
        }
    }
}

/// An item of the spool.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its name, in the spelling of its envelope if it has one.
    pub name: ItemName,
    /// Where it stands.
    pub state: State,
    /// The envelope's stamp; that of D where there is none. `modified` tells when the last attempt was, and since when an orphan lies there.
    pub stamp: Stamp,
    /// Another program's claim, not an hour old: leave the item alone.
    pub foreign: bool,
}

/// The stems of claims, in lower case.
#[derive(Default)]
struct Claims {
    ours: HashSet<String>,
    foreign: HashSet<String>,
}

impl Claims {
    /// Is this item claimed by us, or by another program?
    fn of(&self, name: &ItemName) -> (bool, bool) {
        if self.ours.is_empty() && self.foreign.is_empty() {
            return (false, false);
        }
        let stem = name.stem().to_ascii_lowercase();
        (self.ours.contains(&stem), self.foreign.contains(&stem))
    }
}

/// The envelope names an item rather than the message does.
fn rank(role: Role) -> usize {
    [Role::Data, Role::Arriving, Role::Held, Role::Queued]
        .iter()
        .position(|known| *known == role)
        .unwrap_or(0)
}

/// What a directory of the spool holds.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// All items, in the order of their names.
    pub items: Vec<Item>,
    /// The stems of `_*` files of ours that no item needs any more.
    pub left_over: BTreeSet<String>,
    /// How many other files there are: logs, and whatever somebody put there.
    pub others: usize,
}

/// A claimed item's content.
pub struct Loaded {
    /// Its envelope.
    pub envelope: Envelope,
    /// Its message; `None` if the D file is missing.
    pub body: Option<Source>,
    /// Since when the Q file lies there as it is ([`resting_since`]).
    pub since: i64,
}

impl Loaded {
    /// Is this S5 or S6, so that [`Claim::finish`] may remove it? A file that is no envelope is never finished, nor one that was changed
    /// just now.
    pub fn is_finished(&self, now: i64) -> bool {
        let age = Duration::from_nanos(now.saturating_sub(self.since).max(0) as u64);
        match self.body {
            _ if !self.envelope.is_plausible() => false,
            None => age >= LONE_ENVELOPE_MAX,
            Some(_) => self.envelope.is_finished() && age >= SETTLED,
        }
    }
}

impl Store {
    /// The spool of a root; the directory is made if it is missing.
    pub fn new(root: &Root) -> io::Result<Store> {
        let dir = root.spool();
        root.make_dirs(&dir)?;
        Ok(Store { root: root.clone(), disk: root.shared_disk(), dir })
    }

    /// The directory.
    pub fn dir(&self) -> &TreePath {
        &self.dir
    }

    /// Where an item's file is or would be, for log lines and programs.
    pub fn path(&self, role: Role, name: &ItemName) -> TreePath {
        self.dir.join(name.file(role))
    }

    /// An item's file that exists, in whatever case.
    fn existing(&self, role: Role, name: &ItemName) -> Option<TreePath> {
        let exact = self.path(role, name);
        if self.disk.stat(&exact).is_ok() {
            return Some(exact);
        }
        self.root.file_in(&self.dir, &name.file(role))
    }

    /// Begins the D file of a message that is too large to be kept in memory while it arrives.
    pub fn incoming(&self, name: ItemName) -> io::Result<Incoming> {
        let handle = Arc::from(self.disk.open(&self.path(Role::Data, &name), Open::CreateNew)?);
        Ok(Incoming { store: self.clone(), name, handle, length: 0, kept: false })
    }

    /// Writes D and T of a new item, without making them durable.
    pub fn prepare(&self, name: &ItemName, body: Body, envelope: &Envelope) -> io::Result<Prepared> {
        let mut incoming = match body {
            Body::Arrived(incoming) => incoming,
            Body::Copy(source) => self.copy_data(name, &source)?,
            Body::Same(other) => match self.link_data(name, &other)? {
                Some(incoming) => incoming,
                None => return self.prepare_envelope(name, None, envelope),
            },
        };
        incoming.kept = true;
        self.prepare_envelope(name, Some(incoming.handle.clone()), envelope)
    }

    fn prepare_envelope(
        &self,
        name: &ItemName,
        data: Option<Arc<dyn Handle>>,
        envelope: &Envelope,
    ) -> io::Result<Prepared> {
        // From here on both files are removed if anything fails.
        let mut prepared =
            Prepared { store: self.clone(), name: name.clone(), data, envelope: None, published: false };
        let handle = self.disk.open(&self.path(Role::Arriving, name), Open::CreateNew)?;
        handle.append(&envelope.write())?;
        prepared.envelope = Some(handle);
        Ok(prepared)
    }

    fn copy_data(&self, name: &ItemName, source: &Source) -> io::Result<Incoming> {
        let mut incoming = self.incoming(name.clone())?;
        match source {
            Source::Bytes(bytes) => incoming.write(bytes)?,
            Source::File(..) => pieces(source, |piece| incoming.write(piece))?,
        }
        Ok(incoming)
    }

    /// Writes `<id>.TMP`, a copy of a message that a program is to read and then to remove. Answers with its path. Not durable: what a
    /// crash leaves is for the cleaner.
    pub fn copy_for_program(&self, id: SpoolId, source: &Source) -> io::Result<TreePath> {
        let path = self.dir.join(format!("{id}.{}", Origin::Program.extension()));
        let handle = self.disk.open(&path, Open::CreateNew)?;
        if let Err(error) = pieces(source, |piece| handle.append(piece).map(drop)) {
            // Half a message is of no use to anybody.
            let _ = self.disk.unlink(&path);
            return Err(error);
        }
        Ok(path)
    }

    /// Makes what was done to the spool's names durable.
    pub fn sync(&self) -> io::Result<()> {
        self.disk.sync_dir(&self.dir)
    }

    /// `None` if the second name could be made: there is nothing to sync but the directory. File systems without second names get a copy.
    fn link_data(&self, name: &ItemName, other: &ItemName) -> io::Result<Option<Incoming>> {
        let from = self.existing(Role::Data, other).ok_or(io::ErrorKind::NotFound)?;
        match self.disk.link(&from, &self.path(Role::Data, name)) {
            Ok(()) => Ok(None),
            Err(e) if matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => Err(e),
            Err(_) => {
                let handle: Arc<dyn Handle> = Arc::from(self.disk.open(&from, Open::Read)?);
                let length = handle.stamp()?.size;
                self.copy_data(name, &Source::File(handle, 0, length)).map(Some)
            }
        }
    }

    /// Renames T to Q of an item that was [`Prepared::leave`]d; answers whether there was a T. Not durable before [`Store::dir`] is.
    pub fn publish(&self, name: &ItemName) -> io::Result<bool> {
        match self.disk.rename(&self.path(Role::Arriving, name), &self.path(Role::Queued, name)) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Removes what a crash left of an item of ours that was never published. Answers whether there was anything.
    pub fn scrap(&self, name: &ItemName) -> io::Result<bool> {
        if self.disk.stat(&self.path(Role::Queued, name)).is_ok() {
            return Ok(false);
        }
        let mut found = false;
        for role in [Role::Arriving, Role::Data] {
            match self.disk.unlink(&self.path(role, name)) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                done => {
                    done?;
                    found = true;
                }
            }
        }
        Ok(found)
    }

    /// Makes the files of prepared items durable, without accepting them.
    pub fn sync_prepared(&self, all: &[Prepared]) -> io::Result<()> {
        let mut set = SyncSet::default();
        all.iter().for_each(|prepared| prepared.files(&mut set));
        set.dir(self.dir.clone());
        set.flush(&*self.disk)
    }

    /// Accepts items with syncs of their own; all or none.
    pub fn commit(&self, mut all: Vec<Prepared>) -> io::Result<()> {
        let mut set = SyncSet::default();
        all.iter().for_each(|prepared| prepared.files(&mut set));
        set.flush(&*self.disk)?;
        let mut done = all.iter_mut().try_for_each(Prepared::publish);
        if done.is_ok() {
            let mut set = SyncSet::default();
            set.dir(self.dir.clone());
            done = set.flush(&*self.disk);
        }
        if done.is_err() {
            // One that cannot be taken back is delivered though it was refused; the sender's next try makes it two.
            all.into_iter().for_each(|prepared| drop(prepared.withdraw()));
        }
        done
    }

    /// Takes an item for delivery, for changes by an administrator, or for removal.
    ///
    /// Left-over claims need no care: the lock decides, and whoever gets it owns the file.
    pub fn claim(&self, name: &ItemName) -> Result<Claim, SpoolError> {
        let path = self.path(Role::Claim, name);
        let lock = match lock::acquire(&*self.disk, &path, Open::Create, Duration::ZERO) {
            Ok(lock) => lock,
            Err(LockError::Busy(_)) => return Err(SpoolError::Busy(name.clone())),
            Err(LockError::Io(error)) => return Err(error.into()),
        };
        let mut claim =
            Claim { store: self.clone(), name: name.clone(), queue: path.clone(), path, lock, seen: None };
        // Under the lock, since it may have been finished just before.
        claim.queue = self.existing(Role::Queued, name).ok_or_else(|| SpoolError::Gone(name.clone()))?;
        Ok(claim)
    }

    /// Lets an item rest: its Q becomes HQ.
    pub fn hold(&self, name: &ItemName) -> Result<(), SpoolError> {
        let claim = self.claim(name)?;
        let held = claim.queue.parent().join(format!("H{}", claim.queue.name()));
        self.rename_new(&claim.queue, &held)
    }

    /// Lets a held item go on.
    pub fn release(&self, name: &ItemName) -> Result<(), SpoolError> {
        let held = self.existing(Role::Held, name).ok_or_else(|| SpoolError::Gone(name.clone()))?;
        let queue = held.name().get(1..).ok_or_else(|| SpoolError::Gone(name.clone()))?;
        self.rename_new(&held, &held.parent().join(queue))
    }

    fn rename_new(&self, from: &TreePath, to: &TreePath) -> Result<(), SpoolError> {
        if self.disk.stat(to).is_ok() {
            return Err(SpoolError::Exists(to.clone()));
        }
        self.disk.rename(from, to)?;
        Ok(self.disk.sync_dir(&self.dir)?)
    }

    /// What is in the spool. Envelopes are not read, but for those that seem to lack their D: theirs may have another name.
    ///
    /// There may be very many items, so what is kept of each on the way is its name alone.
    pub fn scan(&self) -> io::Result<Listing> {
        let mut listing = Listing::default();
        let mut files: Vec<(ItemName, Role)> = Vec::new();
        let mut stems: Vec<(Role, Box<str>, TreePath)> = Vec::new();
        for entry in self.disk.list(&self.dir)?.into_iter().filter(|entry| entry.kind == Kind::File) {
            match entry.name.to_str().and_then(recognize) {
                Some(Found::Item(role, name)) => files.push((name, role)),
                Some(Found::Stem(role, stem)) => stems.push((role, stem, self.dir.join(&entry.name))),
                None => listing.others += 1,
            }
        }
        // The file that an item is named and dated by comes last.
        files.sort_unstable_by(|(a, one), (b, other)| a.cmp(b).then(rank(*one).cmp(&rank(*other))));
        let claims = self.claims(&stems)?;
        let mut borrowed = HashSet::new();
        let mut files = files.into_iter().peekable();
        while let Some((mut name, mut role)) = files.next() {
            let mut found = Files::default();
            found.add(role);
            while let Some((next, more)) = files.next_if(|(next, _)| *next == name) {
                found.add(more);
                (name, role) = (next, more);
            }
            let (claimed, foreign) = claims.of(&name);
            found.claimed = claimed;
            if found.state() == State::LoneEnvelope
                && let Some(data) = self.data_elsewhere(&name)
            {
                found.data = true;
                borrowed.insert(data.name().to_ascii_lowercase());
            }
            // An item that was finished meanwhile is none any more.
            let Some(stamp) = self.stamp_of(role, &name) else { continue };
            listing.items.push(Item { state: found.state(), stamp, foreign, name });
        }
        let lent = |item: &Item| {
            item.state == State::Arriving
                && borrowed.contains(&item.name.file(Role::Data).to_ascii_lowercase())
        };
        if !borrowed.is_empty() {
            listing.items.retain(|item| !lent(item));
        }
        listing.items.shrink_to_fit();
        let claimable = [State::Waiting, State::Claimed, State::LoneEnvelope];
        let mut used = HashSet::new();
        if !stems.is_empty() {
            let in_use = listing.items.iter().filter(|item| claimable.contains(&item.state));
            used.extend(in_use.map(|item| item.name.stem().to_ascii_lowercase()));
        }
        let ours = stems.into_iter().filter(|(role, ..)| *role != Role::ForeignClaim);
        let unused = ours.filter(|(_, stem, _)| !used.contains(&stem.to_ascii_lowercase()));
        listing.left_over = unused.map(|(_, stem, _)| stem.into()).collect();
        Ok(listing)
    }

    /// An item's envelope and the stamp of its file, without taking the item: to see whether it is worth a try.
    pub fn envelope(&self, name: &ItemName) -> Result<(Envelope, Stamp), SpoolError> {
        let path = self.existing(Role::Queued, name).ok_or_else(|| SpoolError::Gone(name.clone()))?;
        self.read_envelope(&path, name)
    }

    fn read_envelope(&self, path: &TreePath, name: &ItemName) -> Result<(Envelope, Stamp), SpoolError> {
        let handle = self.disk.open(path, Open::Read).map_err(|error| gone(name, error))?;
        let stamp = handle.stamp()?;
        Ok((Envelope::parse(&read_whole(&*handle, ENVELOPE_MAX)?), stamp))
    }

    /// The stamp of a file that was listed. Its name on disk may differ in its first letter's case.
    fn stamp_of(&self, role: Role, name: &ItemName) -> Option<Stamp> {
        let exact = self.disk.stat(&self.path(role, name)).ok().map(|(stamp, _)| stamp);
        exact.or_else(|| Some(self.disk.stat(&self.existing(role, name)?).ok()?.0))
    }

    /// The stems of our claims, and of others' that are not yet too old to count.
    fn claims(&self, stems: &[(Role, Box<str>, TreePath)]) -> io::Result<Claims> {
        let mut claims = Claims::default();
        for (role, stem, path) in stems {
            match role {
                Role::Claim => drop(claims.ours.insert(stem.to_ascii_lowercase())),
                Role::ForeignClaim => {
                    let Ok((stamp, _)) = self.disk.stat(path) else { continue };
                    let age = self.disk.now().saturating_sub(resting_since(&stamp)).max(0) as u64;
                    if Duration::from_nanos(age) < FOREIGN_CLAIM_MAX {
                        claims.foreign.insert(stem.to_ascii_lowercase());
                    }
                }
                _ => {}
            }
        }
        Ok(claims)
    }

    /// The D file that an envelope's Q line names, if that is there.
    fn data_elsewhere(&self, name: &ItemName) -> Option<TreePath> {
        let bytes = self.disk.read(&self.existing(Role::Queued, name)?, ENVELOPE_MAX).ok()?;
        self.named_data(&Envelope::parse(&bytes))
    }

    /// The path in a Q line is the writing machine's; only its last part counts, and only if a D file may be called that.
    fn named_data(&self, envelope: &Envelope) -> Option<TreePath> {
        match recognize(&envelope.data_file()?)? {
            Found::Item(Role::Data, named) => self.existing(Role::Data, &named),
            _ => None,
        }
    }

    /// Removes the `_*` files that no item needs, if nobody holds the claim. Answers with the number of stems.
    pub fn sweep(&self, listing: &Listing) -> usize {
        let free = |stem: &&String| {
            let name = ItemName::of_stem(stem);
            let path = self.path(Role::Claim, &name);
            let Ok(_lock) = lock::acquire(&*self.disk, &path, Open::Create, Duration::ZERO) else {
                return false;
            };
            let _ = self.disk.unlink(&self.path(Role::Rewrite, &name));
            self.disk.unlink(&path).is_ok()
        };
        listing.left_over.iter().filter(free).count()
    }

    /// Removes T and D of an item that has neither Q nor HQ.
    pub fn discard(&self, name: &ItemName) -> Result<(), SpoolError> {
        let accepted = || [Role::Queued, Role::Held].iter().find_map(|role| self.existing(*role, name));
        if let Some(path) = accepted() {
            return Err(SpoolError::Exists(path));
        }
        let files = [Role::Arriving, Role::Data].iter().filter_map(|role| self.existing(*role, name));
        let left = LeftOver::of_item(name, files.collect());
        match clean::remove(&*self.disk, &left, |file| gone_is_fine(self.disk.unlink(file)))? {
            true => Ok(()),
            false => Err(accepted().map_or_else(|| SpoolError::Busy(name.clone()), SpoolError::Exists)),
        }
    }
}

/// Reads a message from its begin to its end.
fn pieces(source: &Source, mut use_piece: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut at = 0;
    while at < source.len() {
        let piece = source.read(at, PIECE)?;
        at += piece.len() as u64;
        use_piece(&piece)?;
    }
    Ok(())
}

/// Since when a file lies there as it is, nanoseconds since 1970. Programs that copy files set the time of the content back; the time of the
/// entry they cannot.
pub fn resting_since(stamp: &Stamp) -> i64 {
    stamp.modified.max(stamp.changed)
}

/// An item in our hands, until it is dropped.
pub struct Claim {
    store: Store,
    name: ItemName,
    path: TreePath,
    queue: TreePath,
    /// Dropped last, after the claim's name is gone.
    lock: Box<dyn Handle>,
    /// The Q file as we last read or wrote it.
    seen: Option<Stamp>,
}

impl Claim {
    /// The item's name.
    pub fn name(&self) -> &ItemName {
        &self.name
    }

    /// Where its Q file is, for log lines.
    pub fn queue_file(&self) -> &TreePath {
        &self.queue
    }

    /// Reads the envelope and opens the message.
    pub fn load(&mut self) -> Result<Loaded, SpoolError> {
        let (envelope, stamp) = self.store.read_envelope(&self.queue, &self.name)?;
        self.seen = Some(stamp);
        let body = match self.data(&envelope) {
            Some(path) => {
                let handle: Arc<dyn Handle> = Arc::from(self.store.disk.open(&path, Open::Read)?);
                let length = handle.stamp()?.size;
                Some(Source::File(handle, 0, length))
            }
            None => None,
        };
        Ok(Loaded { envelope, body, since: resting_since(&stamp) })
    }

    /// Replaces the envelope, durably, and answers with the new file's stamp, by which the queue knows its own change from others'.
    /// [`SpoolError::Changed`] if somebody edited it since [`Claim::load`]; then nothing was done.
    pub fn update(&mut self, envelope: &Envelope) -> Result<Stamp, SpoolError> {
        self.unchanged()?;
        let disk = self.store.disk.clone();
        let rewrite = self.store.path(Role::Rewrite, &self.name);
        write_new(&*disk, &rewrite, &envelope.write())?;
        disk.copy_owner(&self.queue, &rewrite)?;
        disk.rename(&rewrite, &self.queue)?;
        // From here on the new one counts, even if the sync fails.
        let stamp = disk.stat(&self.queue)?.0;
        self.seen = Some(stamp);
        disk.sync_dir(&self.store.dir)?;
        Ok(stamp)
    }

    /// Removes the item: D, then Q, then the claim. Nothing is synced: at worst a power cut brings the item back.
    /// [`SpoolError::Changed`] if somebody edited the Q file since [`Claim::load`]; then nothing was done.
    ///
    /// Mailboxes know by themselves what they have. Who delivered to other servers, or wrote a bounce, calls [`Store::sync`] behind this,
    /// so that nobody gets it again: one sync, where [`Claim::update`] to an envelope without recipients would need two and leave
    /// the same gap between the other server's answer and the disk.
    pub fn finish(self) -> Result<(), SpoolError> {
        match self.unchanged() {
            Err(SpoolError::Gone(_)) => {}
            other => other?,
        }
        let disk = &self.store.disk;
        let envelope = disk.read(&self.queue, ENVELOPE_MAX).map(|bytes| Envelope::parse(&bytes));
        if let Some(data) = self.data(&envelope.unwrap_or_default())
            && !self.is_anothers(&data)
        {
            gone_is_fine(disk.unlink(&data))?;
        }
        Ok(gone_is_fine(disk.unlink(&self.queue))?)
    }

    /// Is this D the message of another item, whose Q file somebody copied to make ours?
    fn is_anothers(&self, data: &TreePath) -> bool {
        match recognize(data.name()) {
            Some(Found::Item(_, owner)) if owner != self.name => {
                [Role::Queued, Role::Held].iter().any(|role| self.store.existing(*role, &owner).is_some())
            }
            _ => false,
        }
    }

    fn unchanged(&self) -> Result<(), SpoolError> {
        let (now, _) = self.store.disk.stat(&self.queue).map_err(|error| gone(&self.name, error))?;
        match self.seen {
            Some(seen) if seen != now => Err(SpoolError::Changed(self.name.clone())),
            _ => Ok(()),
        }
    }

    /// The D file: the one that the Q line names, else the one of the item's own name.
    fn data(&self, envelope: &Envelope) -> Option<TreePath> {
        self.store.named_data(envelope).or_else(|| self.store.existing(Role::Data, &self.name))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Still locked: whoever opened the file meanwhile finds its name gone and starts over. One that stays is swept later.
        let _ = self.store.disk.unlink(&self.path);
        let _ = self.lock.unlock();
    }
}

fn gone(name: &ItemName, error: io::Error) -> SpoolError {
    match error.kind() {
        io::ErrorKind::NotFound => SpoolError::Gone(name.clone()),
        _ => error.into(),
    }
}

fn gone_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
