//! Storing messages together: whoever waits at the same time shares the syncs.
//!
//! One thread takes all messages that wait, for whatever mailboxes, and stores them with one call of the engine, which needs two
//! syncs however many they are. While the disk works the next ones gather: the busier the server, the fewer syncs a message costs. Nothing waits
//! for others to come.
//!
//! # Failure
//! A mailbox that another program holds, or that a session works on, does not hold up the others: its messages go to the next round, until
//! its patience ([`layout::lock::PATIENCE`] but for tests) is over. So does a large one that has to be read whole first: a thread of its own
//! does that.
//!
//! # Limits
//! [`BATCH_MESSAGES`] and [`BATCH_BYTES`] a round.

use super::{Open, State};
use layout::disk::Disk;
use layout::index::journal::Token;
use layout::lock::PATIENCE;
use layout::mailbox::{AppendJob, Appended, MailboxError, append_all};
use layout::mbx::compose::NewMessage;
use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The most messages of one round.
pub const BATCH_MESSAGES: usize = 512;
/// The most bytes of one round, but for a single larger message.
pub const BATCH_BYTES: u64 = 64 << 20;
/// How long a round waits for a file's lock; then those messages go to the next round.
const ROUND_PATIENCE: Duration = Duration::ZERO;
/// How soon postponed messages are tried again when nothing else comes.
const AGAIN_AFTER: Duration = Duration::from_millis(25);

/// What became of a message.
pub type Outcome = Result<Appended, Arc<MailboxError>>;

struct Job {
    mailbox: Arc<Open>,
    message: NewMessage,
    token: Option<Token>,
    size_max: Option<u64>,
    answer: oneshot::Sender<Outcome>,
    since: Instant,
}

/// The thread that stores messages.
pub struct Committer {
    jobs: Sender<Job>,
}

impl Committer {
    /// Starts the thread; it ends when the committer is dropped and everything is stored.
    ///
    /// `patience` is how long a message waits for a mailbox that another program holds.
    pub fn start(disk: Arc<dyn Disk>, patience: Duration) -> Committer {
        let (jobs, incoming) = mpsc::channel();
        let thread = std::thread::Builder::new().name("commit".into());
        if let Err(error) = thread.spawn(move || run(&*disk, &incoming, patience)) {
            // Every append will answer that the committer is gone.
            tracing::error!(%error, "the thread that stores messages could not be started");
        }
        Committer { jobs }
    }

    /// Hands a message over.
    pub fn submit(
        &self,
        mailbox: Arc<Open>,
        message: NewMessage,
        token: Option<Token>,
        size_max: Option<u64>,
    ) -> oneshot::Receiver<Outcome> {
        let (answer, receiver) = oneshot::channel();
        // If the thread is gone the answer's sender is dropped with the job, and the receiver knows.
        let _ = self.jobs.send(Job { mailbox, message, token, size_max, answer, since: Instant::now() });
        receiver
    }
}

fn run(disk: &dyn Disk, incoming: &Receiver<Job>, patience: Duration) {
    let mut postponed: Vec<Job> = Vec::new();
    loop {
        let first = match postponed.is_empty() {
            true => incoming.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => incoming.recv_timeout(AGAIN_AFTER),
        };
        let mut round = std::mem::take(&mut postponed);
        match first {
            Ok(job) => round.push(job),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) if round.is_empty() => return,
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(AGAIN_AFTER),
        }
        let mut bytes: u64 = round.iter().map(|job| job.message.source.len()).sum();
        while round.len() < BATCH_MESSAGES
            && bytes < BATCH_BYTES
            && let Ok(job) = incoming.try_recv()
        {
            bytes += job.message.source.len();
            round.push(job);
        }
        postponed = store(disk, round, patience);
    }
}

/// Stores what can be stored now, answers, and gives back what has to wait.
fn store(disk: &dyn Disk, round: Vec<Job>, patience: Duration) -> Vec<Job> {
    let mut groups: BTreeMap<*const Open, Vec<Job>> = BTreeMap::new();
    round.into_iter().for_each(|job| groups.entry(Arc::as_ptr(&job.mailbox)).or_default().push(job));
    let groups: Vec<(Arc<Open>, Vec<Job>)> =
        groups.into_values().filter_map(|jobs| Some((jobs.first()?.mailbox.clone(), jobs))).collect();
    let outcomes = append(disk, &groups);
    let mut postponed = Vec::new();
    for ((_, jobs), outcome) in groups.into_iter().zip(outcomes) {
        match outcome {
            Ok(stored) => {
                for (job, appended) in jobs.into_iter().zip(stored) {
                    let _ = job.answer.send(Ok(appended));
                }
            }
            Err(error) => {
                let locked = matches!(error, MailboxError::Locked(_));
                let error = Arc::new(error);
                for job in jobs {
                    if locked && job.since.elapsed() < patience {
                        postponed.push(job);
                    } else {
                        let _ = job.answer.send(Err(error.clone()));
                    }
                }
            }
        }
    }
    postponed
}

/// The state of a mailbox that messages can be put into now.
fn ready(open: &Arc<Open>) -> Option<MutexGuard<'_, State>> {
    let mut state = open.try_state()?;
    if std::mem::take(&mut state.looked) || !state.mailbox.is_long_to_refresh() {
        return Some(state);
    }
    let looker = open.clone();
    let look = move || {
        let mut state = looker.state();
        // What goes wrong is said when it goes wrong again in the round.
        let _ = state.mailbox.refresh(PATIENCE);
        state.looked = true;
    };
    match std::thread::Builder::new().name("look".into()).spawn(look) {
        Ok(_) => None,
        Err(_) => Some(state),
    }
}

/// One outcome per group, in their order. Mailboxes that a session works on count as locked.
fn append(disk: &dyn Disk, groups: &[(Arc<Open>, Vec<Job>)]) -> Vec<Result<Vec<Appended>, MailboxError>> {
    let mut held: Vec<Option<MutexGuard<'_, State>>> = groups.iter().map(|(open, _)| ready(open)).collect();
    let mut appends: Vec<AppendJob<'_>> = Vec::new();
    for ((_, jobs), state) in groups.iter().zip(&mut held) {
        if let Some(state) = state {
            state.used = Instant::now();
            state.tidied = false;
            appends.push(AppendJob {
                mailbox: &mut state.mailbox,
                messages: jobs.iter().map(|job| (job.message.clone(), job.token)).collect(),
                size_max: jobs.iter().filter_map(|job| job.size_max).min(),
            });
        }
    }
    let mut stored = append_all(disk, &mut appends, ROUND_PATIENCE).into_iter();
    drop(appends);
    let mut outcomes = Vec::new();
    for ((open, _), state) in groups.iter().zip(held) {
        outcomes.push(match state {
            Some(state) => {
                open.tell(&state.mailbox);
                stored.next().unwrap_or(Err(MailboxError::Changed))
            }
            None => Err(MailboxError::Locked(open.file.to_string())),
        });
    }
    outcomes
}
