//! What waits in the spool, and when it is tried again.
//!
//! An item is due at once when it is new, or when its Q file was touched or rewritten by somebody else (an admin's way to force a try); else when
//! the queue timer is over since the last try ([`wait`]). First tries go before later ones, later ones in the order of their age, and each
//! kind has its own number of workers (IMail help, "Queue Manager": delivery and retry threads).
//!
//! # Crash safety
//! The order of one pass ([`attempt::work`]): the copies for mailboxes are durable and the other servers have answered; **then** the
//! bounce for those who were given up is committed as an item of its own; **then** the Q file is replaced by one that holds only who is left, with
//! `T` one higher, or, if nobody is left, D and Q are removed in this order and the directory is made durable. So until a recipient's fate is durable somewhere else, the Q file
//! names him. What a crash between two of these steps repeats: a mailbox knows by the token what it has; another server may get the
//! message twice if it answered and the Q file was not yet replaced, which no sender can avoid (RFC 5321 §6.1); a sender may get a bounce twice.
//!
//! # Failure
//! An item that cannot be read or delivered stays where it is.
//!
//! # Limits
//! The registry's `DeliveryThreads` and `RetryThreads`; [`CROWDED_MAX`] items with many recipients are in work at a time, and [`COPIES_MAX`]
//! copies. What waits costs a name and a stamp of memory, some hundred bytes. Listing a very long
//! queue takes its time, so it is done less often ([`LOOK_SHARE`]): an admin's touch is noticed later then.

mod attempt;
mod here;
mod lists;
mod onward;
mod settle;
mod tell;

pub(in crate::transport) use attempt::{AT_DISK_MAX, COPIES_MAX, CROWDED_MAX};
pub(in crate::transport) use settle::Unsettled;

use super::Inner;
use attempt::Rest;
use layout::disk::Stamp;
use layout::registry::model::{RetrySchedule, Smtp};
use layout::spool::id::ItemName;
use layout::spool::store::{Item, State};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

/// How often the spool is listed: an admin's touch is noticed within this time.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);
/// At most one part in so many of the time goes into listing the spool.
const LOOK_SHARE: u32 = 20;
/// The growing schedule ends at this many queue timers.
const GROWTH_MAX: u32 = 16;

/// How long an item rests after its `tries`th try: always the queue timer, as IMail has it, or one that doubles each time.
pub fn wait(settings: &Smtp, tries: u32) -> Duration {
    let timer = Duration::from_secs(u64::from(settings.queue_timer_minutes.max(1)) * 60);
    match settings.retry_schedule {
        RetrySchedule::Fixed => timer,
        RetrySchedule::Growing => {
            let doubled = 1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(GROWTH_MAX);
            timer * doubled.clamp(1, GROWTH_MAX)
        }
    }
}

/// Why an item is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// It is new.
    New,
    /// Somebody touched it or wrote it anew.
    Asked,
    /// It was there when we started: its file's time says whether it is due.
    Found,
    /// Its time has come.
    Timer,
}

impl Cause {
    /// For the log.
    fn text(self) -> &'static str {
        match self {
            Cause::New => "it is new",
            Cause::Asked => "its Q file was touched or written anew",
            Cause::Found => "it was there when the server started",
            Cause::Timer => "its time has come",
        }
    }
}

/// What we remember of an item.
#[derive(Clone, Copy, Debug)]
enum Known {
    /// It waits for a worker, or has one.
    Working,
    /// Nothing is to be done now.
    Resting {
        /// Its Q file as it was last written or seen.
        seen: Stamp,
        due: Instant,
        /// Its D file was missing: somebody may be copying it.
        lone: bool,
        /// The number of the look that found it last.
        found: u32,
    },
}

/// An item that is due.
struct Due {
    name: ItemName,
    cause: Cause,
}

/// The items and their workers.
struct Queue {
    inner: Arc<Inner>,
    known: HashMap<ItemName, Known>,
    first: VecDeque<Due>,
    later: VecDeque<Due>,
    workers: JoinSet<(ItemName, bool, Rest)>,
    /// Workers on first and on later tries.
    busy: [usize; 2],
    /// How often the spool was listed.
    looks: u32,
}

/// Works until `stop`, and then finishes what is under way.
pub(super) async fn run(
    inner: Arc<Inner>,
    mut new_items: UnboundedReceiver<ItemName>,
    look_every: Duration,
    stop: impl Future<Output = ()>,
) {
    let mut stop = std::pin::pin!(stop);
    let mut queue = Queue {
        inner,
        known: HashMap::new(),
        first: VecDeque::new(),
        later: VecDeque::new(),
        workers: JoinSet::new(),
        busy: [0; 2],
        looks: 0,
    };
    let mut tick = tokio::time::interval(look_every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(name) = new_items.recv() => queue.add(name),
            Some(done) = queue.workers.join_next() => queue.rest(done),
            _ = tick.tick() => {
                let began = Instant::now();
                queue.look();
                queue.inner.tend_lists();
                tick.reset_after(look_every.max(began.elapsed() * LOOK_SHARE));
                queue.inner.remote.tidy().await;
            }
        }
        queue.start_workers();
    }
    while let Some(done) = queue.workers.join_next().await {
        queue.rest(done);
    }
}

impl Queue {
    /// An item that this process put into the spool, or that somebody asks for.
    fn add(&mut self, name: ItemName) {
        let cause = match self.known.get(&name) {
            Some(Known::Working) => return,
            Some(Known::Resting { .. }) => Cause::Asked,
            None => Cause::New,
        };
        self.known.insert(name.clone(), Known::Working);
        self.first.push_back(Due { name, cause });
    }

    /// Lists the spool for what is due, and for what others put there.
    fn look(&mut self) {
        let listing = tokio::task::block_in_place(|| {
            let listing = self.inner.store.scan()?;
            self.inner.store.sweep(&listing);
            Ok::<_, std::io::Error>(listing)
        });
        let mut items = match listing {
            Ok(listing) => listing.items,
            Err(error) => {
                self.inner.log.note(&format!("the spool could not be read: {error}"));
                return tracing::warn!(%error, "the spool could not be read");
            }
        };
        // A claim may be left over: whoever tries to take it finds out.
        let ours = |item: &Item| matches!(item.state, State::Waiting | State::Claimed | State::LoneEnvelope);
        items.retain(|item| ours(item) && !item.foreign);
        items.sort_by_key(|item| item.stamp.modified);
        let (now, look) = (Instant::now(), self.looks);
        self.looks = look.wrapping_add(1);
        for Item { name, stamp, state, .. } in items {
            let cause = match self.known.get_mut(&name) {
                Some(Known::Working) => continue,
                Some(Known::Resting { lone: true, .. }) if state != State::LoneEnvelope => Cause::New,
                Some(Known::Resting { seen, .. }) if *seen != stamp => Cause::Asked,
                Some(Known::Resting { due, found, .. }) if *due > now => {
                    *found = look;
                    continue;
                }
                Some(Known::Resting { .. }) => Cause::Timer,
                None if look == 0 => Cause::Found,
                None => Cause::New,
            };
            self.known.insert(name.clone(), Known::Working);
            let line =
                if matches!(cause, Cause::New | Cause::Asked) { &mut self.first } else { &mut self.later };
            line.push_back(Due { name, cause });
        }
        // Those that were not found are gone.
        self.known.retain(|_, known| match known {
            Known::Working => true,
            Known::Resting { found, .. } => *found == look,
        });
    }

    fn start_workers(&mut self) {
        let config = self.inner.live.now();
        let settings = &config.registry.services.smtp;
        let most = [settings.delivery_threads as usize, settings.retry_threads as usize];
        for (kind, line) in [&mut self.first, &mut self.later].into_iter().enumerate() {
            while self.busy[kind] < most[kind].max(1) {
                let Some(Due { name, cause }) = line.pop_front() else { break };
                self.busy[kind] += 1;
                let inner = self.inner.clone();
                self.workers.spawn(async move {
                    let rest = attempt::work(&inner, &name, cause).await;
                    (name, kind == 0, rest)
                });
            }
        }
    }

    fn rest(&mut self, done: Result<(ItemName, bool, Rest), tokio::task::JoinError>) {
        let (name, first, rest) = match done {
            Ok(done) => done,
            // It stays "working", so that what made one worker fail is not tried again at once; the next start tries it.
            Err(error) => {
                tracing::error!(%error, "a delivery broke off");
                self.inner
                    .log
                    .note("a delivery broke off: its message stays in the spool until the next start");
                self.busy.iter_mut().for_each(|count| *count = count.saturating_sub(1));
                return;
            }
        };
        let count = &mut self.busy[usize::from(!first)];
        *count = count.saturating_sub(1);
        let found = self.looks.wrapping_sub(1);
        match rest {
            Rest::Until(seen, due) => {
                self.known.insert(name, Known::Resting { seen, due, lone: false, found });
            }
            Rest::Lone(seen, due) => {
                self.known.insert(name, Known::Resting { seen, due, lone: true, found });
            }
            Rest::Ended => drop(self.known.remove(&name)),
        }
    }
}

#[cfg(test)]
mod crash;
#[cfg(test)]
mod crash_lists;
#[cfg(test)]
mod local;
#[cfg(test)]
mod peers;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules() {
        let mut settings = Smtp { queue_timer_minutes: 30, ..Smtp::default() };
        let minutes = |settings: &Smtp, tries| wait(settings, tries).as_secs() / 60;
        assert_eq!([0, 1, 2, 20].map(|tries| minutes(&settings, tries)), [30; 4]);
        settings.retry_schedule = RetrySchedule::Growing;
        assert_eq!([0, 1, 2, 3, 5, 20, 40].map(|t| minutes(&settings, t)), [30, 30, 60, 120, 480, 480, 480]);
    }
}
