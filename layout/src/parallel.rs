//! The same work on many things, on a bounded number of threads.
//!
//! # Failure
//! None of its own; a panic of `work` is the caller's.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

/// How many threads read a disk side by side when nothing else is said: twice the cores, so that the disk has something to do while each
/// core looks at what came, and at most [`READERS_MAX`], each with a few megabytes of its own.
pub fn readers() -> usize {
    (2 * cores()).min(READERS_MAX)
}

/// The most threads of [`readers`].
pub const READERS_MAX: usize = 8;

/// The number of cores.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Does `work` on each of `things` on at most `threads` threads, and hands the results over on the caller's as they come, with their index.
pub fn each<T: Sync, R: Send>(
    things: &[T],
    threads: usize,
    work: impl Fn(&T) -> R + Sync,
    mut take: impl FnMut(usize, R),
) {
    let next = AtomicUsize::new(0);
    let threads = threads.clamp(1, things.len().max(1));
    let (sender, receiver) = mpsc::sync_channel(threads);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(thing) = things.get(at) else { return };
                    if sender.send((at, work(thing))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (at, result) in receiver {
            take(at, result);
        }
    });
}

/// The same; answers with the results in the order of the things.
pub fn map<T: Sync, R: Send>(things: &[T], threads: usize, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let mut results: Vec<Option<R>> = things.iter().map(|_| None).collect();
    each(things, threads, work, |at, result| {
        if let Some(place) = results.get_mut(at) {
            *place = Some(result);
        }
    });
    results.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thing_is_done_once() {
        let things: Vec<usize> = (0..100).collect();
        for threads in [0, 1, 3, 1000] {
            assert!(
                map(&things, threads, |thing| thing * 2)
                    .iter()
                    .eq((0..100).map(|n| n * 2).collect::<Vec<_>>().iter())
            );
        }
        each(&[] as &[usize], 4, |_| (), |_, ()| panic!());
    }
}
