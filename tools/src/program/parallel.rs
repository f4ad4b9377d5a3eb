//! The same work on many things, on all cores, with a line on the terminal that counts.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use layout::parallel;

/// From so many things on, progress is shown.
const PROGRESS_FROM: usize = 50;

/// Does `work` on each of `things`, and hands the results over as they come, with their index. `what` names the things in the progress line.
pub fn each<T: Sync, R: Send>(
    things: &[T],
    what: &str,
    work: impl Fn(&T) -> R + Sync,
    mut take: impl FnMut(usize, R),
) {
    let mut progress = Progress::new(what, things.len());
    parallel::each(things, parallel::cores(), work, |at, result| {
        take(at, result);
        progress.step();
    });
}

/// A line on the terminal that counts, where there is a terminal and enough to count.
struct Progress<'a> {
    what: &'a str,
    shown: bool,
    count: usize,
    total: usize,
    last: Instant,
}

impl Progress<'_> {
    fn new(what: &str, total: usize) -> Progress<'_> {
        let shown = total >= PROGRESS_FROM && std::io::stderr().is_terminal();
        Progress { what, shown, count: 0, total, last: Instant::now() }
    }

    fn step(&mut self) {
        const EVERY: Duration = Duration::from_millis(200);
        self.count += 1;
        let due = self.last.elapsed() >= EVERY;
        if self.shown && (due || self.count == self.total) {
            self.last = Instant::now();
            let end = if self.count == self.total { "\n" } else { "" };
            let _ = write!(std::io::stderr(), "\r{}: {} of {}{end}", self.what, self.count, self.total);
        }
    }
}
