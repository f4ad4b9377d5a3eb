//! Mailboxes as the protocols see them: no paths, no locks, no files.
//!
//! The [`Hub`] holds every mailbox that somebody uses, once. Sessions work on it through [`Open::with`]; new messages go through
//! [`Hub::append`], where those that wait at the same time share their syncs ([`commit`]). A keeper writes flags down once a second,
//! takes removed bytes out of idle mailboxes and lets go of those that nobody uses.
//!
//! All functions here but [`Open::glance`] block on the disk: async code calls them inside `block_in_place`.
//!
//! # Failure
//! [`MailboxError`] from the engine; nothing is retried here but an append to a mailbox that another program holds, for
//! [`layout::lock::PATIENCE`].
//!
//! # Limits
//! [`RESIDENT_FOR`] for mailboxes without users, as long as there are at most [`RESIDENT_MAX`] of them; [`SPARE`] more at any time, so that mail to
//! a large list takes no more memory than mail to a small one.

pub mod commit;
pub mod folders;
pub mod public;
pub mod special_use;

use commit::{Committer, Outcome};
use layout::disk::Disk;
use layout::index::journal::Token;
use layout::lock::PATIENCE;
use layout::mailbox::{Mailbox, MailboxError, Rewrite, When};
use layout::mbx::compose::NewMessage;
use layout::name::MailboxName;
use layout::path::TreePath;
use layout::root::UserDir;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// How often flags are made durable and `Status` letters are written: the most that a power cut can take of them.
pub const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// After so long without use, removed bytes leave the file (from one per cent on).
const IDLE_AFTER: Duration = Duration::from_secs(60);
/// How long a finished copy waits for a mailbox that another program holds, while sessions wait for us.
const REWRITE_PATIENCE: Duration = Duration::from_secs(1);
/// How long a mailbox without users stays in memory.
pub const RESIDENT_FOR: Duration = Duration::from_secs(120);
/// So many mailboxes without users may stay in memory; when there are more, as after mail to a large list, they go after [`CROWDED_FOR`].
pub const RESIDENT_MAX: usize = 256;
/// So many more are opened before those without users go at once.
const SPARE: usize = RESIDENT_MAX / 4;
/// How long a mailbox without users stays in memory when there are many.
const CROWDED_FOR: Duration = Duration::from_secs(2);
/// How long the keeper waits for a mailbox that another program holds: it comes again in a second.
const KEEPER_PATIENCE: Duration = Duration::from_millis(20);

/// A mailbox that is in use.
pub struct Open {
    file: TreePath,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

struct State {
    mailbox: Mailbox,
    used: Instant,
    tidied: bool,
    /// The last change at which removed bytes were not worth taking out.
    kept_at: u64,
    /// The file was just looked at for the committer.
    looked: bool,
}

impl Open {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the state was held leaves it suspect at worst; the next look at the file repairs it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, if nobody works on it this moment.
    fn try_state(&self) -> Option<MutexGuard<'_, State>> {
        match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Works on the mailbox; everybody who watches it is woken if that changed anything.
    pub fn with<T>(&self, work: impl FnOnce(&mut Mailbox) -> T) -> T {
        let mut state = self.state();
        state.used = Instant::now();
        state.tidied = false;
        let outcome = work(&mut state.mailbox);
        self.tell(&state.mailbox);
        outcome
    }

    /// Works on the mailbox if that is possible without waiting: `None` if somebody else works on it, or if the file has to be looked
    /// at. For code that must not block.
    pub fn glance<T>(&self, work: impl FnOnce(&mut Mailbox) -> T) -> Option<T> {
        let mut state = self.try_state()?;
        if !state.mailbox.is_current() {
            return None;
        }
        state.used = Instant::now();
        state.tidied = false;
        Some(work(&mut state.mailbox))
    }

    /// Writes down all flags that are known now, with their letters; others get at the mailbox in between.
    pub fn write_down(&self) -> Result<(), MailboxError> {
        let flushes = self.state().mailbox.flushes();
        let flush =
            |mailbox: &mut Mailbox| if mailbox.needs_flush() { mailbox.flush(PATIENCE) } else { Ok(()) };
        (0..flushes).try_for_each(|_| self.with(flush))
    }

    /// The time of the last use, if nobody but the table holds the mailbox and everything is written down that is known of it alone.
    fn unused(self: &Arc<Open>) -> Option<(Instant, TreePath)> {
        if Arc::strong_count(self) > 1 {
            return None;
        }
        let state = self.try_state()?;
        let settled = !state.mailbox.holds_changes() && !state.mailbox.removal_is_due(When::Idle);
        settled.then(|| (state.used, self.file.clone()))
    }

    /// Wakes whoever watches, if there is news.
    fn tell(&self, mailbox: &Mailbox) {
        let modseq = mailbox.modseq();
        self.changed.send_if_modified(|known| std::mem::replace(known, modseq) != modseq);
    }

    /// Fires whenever this process changes the mailbox, or sees that another one did. The value is the number of the last change.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The mailbox file.
    pub fn file(&self) -> &TreePath {
        &self.file
    }
}

/// All mailboxes that are in use.
pub struct Hub {
    disk: Arc<dyn Disk>,
    open: Mutex<Table>,
    committer: Committer,
    /// A large mailbox is being rewritten: one at a time.
    rewriting: Arc<AtomicBool>,
}

struct Table {
    open: HashMap<TreePath, Arc<Open>>,
    /// When there are so many, room is made.
    full_at: usize,
}

impl Table {
    /// Lets go of mailboxes that nobody uses this moment and that have nothing to write down, the longest unused first.
    fn make_room(&mut self) {
        let mut idle: Vec<(Instant, TreePath)> =
            self.open.values().filter_map(|open| open.unused()).collect();
        idle.sort_unstable_by_key(|(used, _)| *used);
        idle.truncate(self.open.len().saturating_sub(RESIDENT_MAX));
        for (_, file) in idle {
            self.open.remove(&file);
        }
        self.full_at = self.open.len().max(RESIDENT_MAX) + SPARE;
    }
}

impl Hub {
    /// A hub on a disk, with its committer running. [`Hub::keep`] must be called about once a second.
    pub fn new(disk: Arc<dyn Disk>) -> Arc<Hub> {
        Hub::with_patience(disk, PATIENCE)
    }

    /// The same; a new message waits so long for a mailbox that another program holds.
    pub fn with_patience(disk: Arc<dyn Disk>, patience: Duration) -> Arc<Hub> {
        let committer = Committer::start(disk.clone(), patience);
        let table = Table { open: HashMap::new(), full_at: RESIDENT_MAX + SPARE };
        Arc::new(Hub { disk, open: Mutex::new(table), committer, rewriting: Arc::default() })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A user's mailbox, whether its file exists or not. The file is not looked at yet.
    pub fn open(&self, user: &UserDir, name: &MailboxName) -> Arc<Open> {
        self.open_file(user.mailbox(name), user.file("user.lck"))
    }

    fn open_file(&self, file: TreePath, user_lock: TreePath) -> Arc<Open> {
        let mut table = self.table();
        if table.open.len() >= table.full_at {
            table.make_room();
        }
        let entry = table.open.entry(file.clone()).or_insert_with(|| {
            let mailbox = Mailbox::new(self.disk.clone(), file.clone(), user_lock);
            let state = State { mailbox, used: Instant::now(), tidied: false, kept_at: 0, looked: false };
            Arc::new(Open { file, state: Mutex::new(state), changed: watch::Sender::new(0) })
        });
        entry.clone()
    }

    /// Lets go of a mailbox whose file was removed or renamed: sessions that have it see it empty, later ones begin anew.
    pub fn forget(&self, file: &TreePath) {
        self.table().open.remove(file);
    }

    /// Stores a message durably; the answer comes when it is on the disk.
    pub fn append(
        &self,
        mailbox: Arc<Open>,
        message: NewMessage,
        token: Option<Token>,
        size_max: Option<u64>,
    ) -> oneshot::Receiver<Outcome> {
        self.committer.submit(mailbox, message, token, size_max)
    }

    /// Flushes, tidies and lets go, as the times demand. Every mailbox has its turn, with as much of its flags as is written at once; answers with
    /// whether there is more.
    pub fn keep(&self) -> bool {
        let mut more = false;
        let all: Vec<Arc<Open>> = self.table().open.values().cloned().collect();
        let crowded = all.len() > RESIDENT_MAX;
        for open in all {
            // A mailbox that somebody works on this moment has its turn the next time.
            let Some(mut state) = open.try_state() else { continue };
            if state.mailbox.needs_flush() {
                let flushed = state.mailbox.flush(KEEPER_PATIENCE);
                more |= flushed.is_ok() && state.mailbox.has_letters();
                report(&open, flushed);
            }
            let idle = state.used.elapsed();
            self.take_out_removed(&open, &mut state, idle);
            let settled = !state.mailbox.needs_flush();
            let resident = match crowded && !state.mailbox.removal_is_due(When::Idle) {
                true => CROWDED_FOR,
                false => RESIDENT_FOR,
            };
            drop(state);
            if idle >= resident && settled {
                let mut table = self.table();
                // Two: the table's and ours here. Nobody can get a third while the table is held.
                if Arc::strong_count(&open) == 2 {
                    table.open.remove(&open.file);
                }
            }
        }
        more
    }

    /// Takes removed bytes out if it is time: at once, or by a thread that copies what stays.
    fn take_out_removed(&self, open: &Arc<Open>, state: &mut State, idle: Duration) {
        let when = match idle >= IDLE_AFTER && !std::mem::replace(&mut state.tidied, idle >= IDLE_AFTER) {
            true => When::Idle,
            false if state.mailbox.modseq() == state.kept_at => return,
            false => When::Due,
        };
        if !state.mailbox.removal_is_due(when) {
            state.kept_at = state.mailbox.modseq();
            return;
        }
        if self.rewriting.swap(true, Ordering::AcqRel) {
            return;
        }
        match state.mailbox.begin_rewrite(when, KEEPER_PATIENCE) {
            Ok(Some(rewrite)) => {
                let (open, rewriting) = (open.clone(), self.rewriting.clone());
                let work = move || {
                    finish_rewrite(&open, rewrite);
                    rewriting.store(false, Ordering::Release);
                };
                if std::thread::Builder::new().name("rewrite".into()).spawn(work).is_ok() {
                    return;
                }
            }
            outcome => report(open, outcome.map(drop)),
        }
        self.rewriting.store(false, Ordering::Release);
    }

    /// Flushes everything: before the server stops.
    pub fn flush(&self) {
        let all: Vec<Arc<Open>> = self.table().open.values().cloned().collect();
        for open in all {
            report(&open, open.write_down());
        }
    }
}

fn report(open: &Open, outcome: Result<(), MailboxError>) {
    match outcome {
        // Comes again in a second.
        Ok(()) | Err(MailboxError::Locked(_)) => {}
        Err(error) => tracing::warn!(mailbox = %open.file, %error, "changes could not be written down"),
    }
}

/// Copies a large mailbox without its removed messages while others use it.
fn finish_rewrite(open: &Open, rewrite: Rewrite) {
    let outcome = rewrite.copy().and_then(|()| {
        let mut state = open.state();
        let outcome = state.mailbox.finish_rewrite(rewrite, REWRITE_PATIENCE);
        open.tell(&state.mailbox);
        outcome
    });
    // If another program changed the file meanwhile the keeper begins again.
    report(open, outcome.map(drop));
}

#[cfg(test)]
mod tests {
    use super::*;
    use layout::disk::sim::SimDisk;
    use layout::mbx::compose::{Source, Way};
    use layout::name::UserId;
    use layout::root::Root;
    use std::path::Path;

    /// Mail to thousands does not wait in memory for the keeper.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn few_mailboxes_that_got_mail_stay() {
        let disk = Arc::new(SimDisk::new());
        let root = Root::new(disk.clone(), Path::new("/mail"));
        let domain = root.domain(root.top().clone());
        let hub = Hub::new(disk);
        let mut under_way = std::collections::VecDeque::new();
        for number in 0..RESIDENT_MAX * 4 {
            let user = domain.user(&UserId::parse(&format!("u{number}")).unwrap());
            let message = NewMessage {
                source: Source::Bytes((*b"Subject: x\r\n\r\ntext\r\n").into()),
                sender: "a@example.net".to_owned(),
                date: 0,
                way: Way::Client,
                flags: 0,
                keywords: Vec::new(),
            };
            under_way.push_back(hub.append(hub.open(&user, &MailboxName::inbox()), message, None, None));
            if under_way.len() == SPARE / 2 {
                under_way.pop_front().unwrap().await.unwrap().unwrap();
            }
            // Those under way come on top.
            assert!(hub.table().open.len() <= RESIDENT_MAX * 2, "{}", hub.table().open.len());
        }
    }

    /// However many mailboxes get mail, few without users are in memory, and those that somebody holds stay.
    #[tokio::test]
    async fn few_mailboxes_without_users_stay() {
        let disk = Arc::new(SimDisk::new());
        let root = Root::new(disk.clone(), Path::new("/mail"));
        let domain = root.domain(root.top().clone());
        let hub = Hub::new(disk);
        let open = |number: usize| {
            let user = domain.user(&UserId::parse(&format!("u{number}")).unwrap());
            hub.open(&user, &MailboxName::inbox())
        };
        let held: Vec<Arc<Open>> = (0..10).map(open).collect();
        for number in 10..RESIDENT_MAX * 4 {
            drop(open(number));
            assert!(hub.table().open.len() <= RESIDENT_MAX + SPARE);
        }
        assert!(held.iter().enumerate().all(|(number, mailbox)| Arc::ptr_eq(mailbox, &open(number))));
        // Where all are in use there is more, and room is made as soon as there can be.
        let all: Vec<Arc<Open>> = (0..RESIDENT_MAX * 2).map(open).collect();
        assert!(hub.table().open.len() >= RESIDENT_MAX * 2);
        drop(all);
        (RESIDENT_MAX * 4..RESIDENT_MAX * 5).for_each(|number| drop(open(number)));
        assert!(hub.table().open.len() <= RESIDENT_MAX + SPARE);
    }
}
