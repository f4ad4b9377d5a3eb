//! Making the spool durable: whoever waits at the same time shares the syncs.
//!
//! One thread takes all items that are to be accepted, and all that were finished, and makes them durable together: two syncs however many they
//! are. While the disk works the next ones gather. Nothing waits for others to come.
//!
//! # Failure
//! When the disk fails, all of a round fail: senders come again, and what was finished is looked at again.
//!
//! # Limits
//! [`ROUND_MAX`] items a round.

use layout::spool::store::{Prepared, Store};
use layout::{disk::Disk, root::Root};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::oneshot;

/// The most items of one round: their files are open at the same time.
pub const ROUND_MAX: usize = 256;

/// What is to be made durable.
enum Work {
    /// A new item.
    Accept(Box<Prepared>),
    /// Files that were removed.
    Removed,
}

struct Job {
    work: Work,
    answer: oneshot::Sender<io::Result<()>>,
}

/// What comes of it, when it is on the disk.
pub struct Answer(oneshot::Receiver<io::Result<()>>);

impl Answer {
    /// Waits without holding a thread.
    pub async fn done(self) -> io::Result<()> {
        self.0.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Waits. Blocks.
    pub fn wait(self) -> io::Result<()> {
        self.0.blocking_recv().unwrap_or_else(|_| Err(stopping()))
    }
}

fn stopping() -> io::Error {
    io::Error::other("the server is stopping")
}

/// The thread that makes the spool durable.
pub struct Spooler {
    jobs: Sender<Job>,
}

impl Spooler {
    /// Starts the thread; it ends when the spooler is dropped.
    pub fn start(root: &Root, store: Store) -> Spooler {
        let (jobs, incoming) = mpsc::channel();
        let disk = root.shared_disk();
        let thread = std::thread::Builder::new().name("spool".into());
        if let Err(error) = thread.spawn(move || run(&disk, &store, &incoming)) {
            // Everything will answer that the spooler is gone.
            tracing::error!(%error, "the thread that writes the spool could not be started");
        }
        Spooler { jobs }
    }

    /// Accepts an item.
    pub fn accept(&self, prepared: Prepared) -> Answer {
        self.ask(Work::Accept(Box::new(prepared)))
    }

    /// Makes durable what was removed before.
    pub fn removed(&self) -> Answer {
        self.ask(Work::Removed)
    }

    fn ask(&self, work: Work) -> Answer {
        let (answer, receiver) = oneshot::channel();
        // If the thread is gone the answer's sender is dropped with the job, and the receiver knows.
        let _ = self.jobs.send(Job { work, answer });
        Answer(receiver)
    }
}

fn run(disk: &Arc<dyn Disk>, store: &Store, incoming: &Receiver<Job>) {
    while let Ok(first) = incoming.recv() {
        let (mut accepted, mut items, mut removed) = (Vec::new(), Vec::new(), Vec::new());
        for Job { work, answer } in [first].into_iter().chain(incoming.try_iter().take(ROUND_MAX - 1)) {
            match work {
                Work::Accept(prepared) => {
                    items.push(*prepared);
                    accepted.push(answer);
                }
                Work::Removed => removed.push(answer),
            }
        }
        // Accepting makes the directory durable as well, if it comes so far.
        let done = if items.is_empty() { disk.sync_dir(store.dir()) } else { store.commit(items) };
        let synced = match &done {
            Err(_) if !accepted.is_empty() && !removed.is_empty() => disk.sync_dir(store.dir()),
            _ => copy(&done),
        };
        accepted.into_iter().for_each(|answer| tell(answer, &done));
        removed.into_iter().for_each(|answer| tell(answer, &synced));
    }
}

fn copy(outcome: &io::Result<()>) -> io::Result<()> {
    match outcome {
        Ok(()) => Ok(()),
        Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
    }
}

fn tell(answer: oneshot::Sender<io::Result<()>>, outcome: &io::Result<()>) {
    // Whoever asked may be gone.
    let _ = answer.send(copy(outcome));
}

#[cfg(test)]
mod tests {
    use super::*;
    use layout::disk::sim::{Failure, SimDisk};
    use layout::mbx::compose::Source;
    use layout::name::SpoolId;
    use layout::spool::id::{ItemName, Origin};
    use layout::spool::qfile::{Envelope, Fields};
    use layout::spool::store::Body;
    use std::path::Path;

    const ITEMS: u64 = 20;

    fn prepared(store: &Store, number: u64) -> Prepared {
        let name = ItemName::new(SpoolId(number), Origin::Mail);
        let body = Body::Copy(Source::Bytes((*b"text").into()));
        store.prepare(&name, body, &Envelope::new(&Fields::default())).unwrap()
    }

    /// A round of items that all wait, and of two removals.
    fn round(fail: bool) -> (u64, Vec<io::Result<()>>, usize) {
        let disk = SimDisk::new();
        let root = Root::new(Arc::new(disk.clone()), Path::new("/mail"));
        let store = Store::new(&root).unwrap();
        let (jobs, incoming) = mpsc::channel();
        let mut answers = Vec::new();
        for number in 0..ITEMS + 2 {
            let (answer, receiver) = oneshot::channel();
            answers.push(receiver);
            let work = match number {
                0..ITEMS => Work::Accept(Box::new(prepared(&store, number))),
                _ => Work::Removed,
            };
            jobs.send(Job { work, answer }).unwrap();
        }
        drop(jobs);
        let before = disk.syncs();
        if fail {
            disk.fail_at(1, Failure::Error);
        }
        run(&root.shared_disk(), &store, &incoming);
        let outcomes = answers.into_iter().map(|answer| Answer(answer).wait()).collect();
        (disk.syncs() - before, outcomes, store.scan().unwrap().items.len())
    }

    #[test]
    fn all_share_two_syncs() {
        let (syncs, outcomes, items) = round(false);
        assert!(outcomes.iter().all(Result::is_ok));
        assert_eq!((syncs, items), (2, ITEMS as usize));
    }

    #[test]
    fn a_failure_refuses_new_items_alone() {
        let (_, outcomes, items) = round(true);
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 2);
        assert_eq!(items, 0);
    }
}
