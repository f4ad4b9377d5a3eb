//! `logs/sysYYYYMMDD.txt`: one thread, one file a day, one write for all lines that wait.
//!
//! A line belongs to the day on which it is written. The file is opened for appending and looked at before each write: an admin who moves
//! or deletes today's log gets a new one with the next line.
//!
//! # Failure
//! Logging never stops mail: lines that cannot be written are counted, and the count goes to standard error.
//!
//! # Limits
//! [`WAITING_MAX`] lines wait; more are dropped and counted.

use chrono::Local;
use layout::disk::{Disk, Handle, Open};
use layout::logline::{self, Event, FileKind, Tag};
use layout::name::SpoolId;
use layout::path::TreePath;
use layout::registry::model::LogTo;
use layout::root::Root;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

/// The most lines that wait for the disk.
pub const WAITING_MAX: usize = 100_000;

/// How long a stopping server waits for its log.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

/// Where log lines go.
#[derive(Clone)]
pub struct Log {
    lines: SyncSender<Item>,
    dropped: Arc<AtomicU64>,
}

impl Log {
    /// Starts the writing thread. `dir` says where the logs are, anew for each write, since the admin may change it.
    pub fn start(root: &Root, dir: impl Fn() -> TreePath + Send + 'static) -> Log {
        let (lines, incoming) = mpsc::sync_channel(WAITING_MAX);
        let disk = root.shared_disk();
        let root = root.clone();
        let thread = std::thread::Builder::new().name("log".into());
        if let Err(error) = thread.spawn(move || run(&*disk, &root, &incoming, &dir)) {
            tracing::error!(%error, "the thread that writes logs could not be started");
        }
        Log { lines, dropped: Arc::default() }
    }

    /// Writes an event down, if the service logs to the sys file. `address` is what stands in the line's bracket. Never waits.
    pub fn event(&self, to: LogTo, tag: Tag, id: SpoolId, address: Option<IpAddr>, event: &Event<'_>) {
        if to != LogTo::Sys {
            return;
        }
        let line = logline::write(Local::now().naive_local(), tag, id, address, event);
        if self.lines.try_send(Item::Line(line)).is_err() {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                tracing::warn!(dropped, "log lines were dropped: the disk is too slow or full");
            }
        }
    }

    /// Writes down what concerns the server as a whole, whatever the services' settings.
    pub fn note(&self, text: &str) {
        self.event(LogTo::Sys, Tag::Server, SpoolId(0), None, &Event::Note(text));
    }

    /// Waits until everything so far is written: before the server ends.
    pub fn flush(&self) {
        let (done, written) = mpsc::channel();
        if self.lines.send(Item::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH_PATIENCE);
        }
    }
}

/// What the writing thread gets.
enum Item {
    Line(Vec<u8>),
    Flush(mpsc::Sender<()>),
}

fn run(disk: &dyn Disk, root: &Root, incoming: &Receiver<Item>, dir: &dyn Fn() -> TreePath) {
    let mut open: Option<(TreePath, Box<dyn Handle>)> = None;
    while let Ok(first) = incoming.recv() {
        let (mut lines, mut waiting) = (Vec::new(), Vec::new());
        for item in [first].into_iter().chain(incoming.try_iter().take(WAITING_MAX)) {
            match item {
                Item::Line(line) => lines.extend_from_slice(&line),
                Item::Flush(done) => waiting.push(done),
            }
        }
        let name = logline::file_of(FileKind::System, Local::now().naive_local());
        let file = root.find(&dir(), &name);
        if !lines.is_empty()
            && let Err(error) = write(disk, root, &mut open, file, &lines)
        {
            open = None;
            tracing::warn!(%error, "log lines could not be written");
        }
        for done in waiting {
            let _ = done.send(());
        }
    }
}

fn write(
    disk: &dyn Disk,
    root: &Root,
    open: &mut Option<(TreePath, Box<dyn Handle>)>,
    file: TreePath,
    lines: &[u8],
) -> std::io::Result<()> {
    let named = disk.stat(&file).map(|(stamp, _)| stamp.inode).ok();
    let handle = match open {
        Some((path, handle)) if *path == file && Some(handle.stamp()?.inode) == named => handle,
        _ => {
            root.make_dirs(&file.parent())?;
            let handle = disk.open(&file, Open::Create)?;
            finish_torn_line(&*handle)?;
            &mut open.insert((file, handle)).1
        }
    };
    handle.append(lines).map(drop)
}

/// A crash may have cut the last line: the next one begins on a line of its own.
fn finish_torn_line(handle: &dyn Handle) -> std::io::Result<()> {
    let size = handle.stamp()?.size;
    let mut last = [b'\n'];
    if size > 0 {
        handle.read_at(&mut last, size - 1)?;
    }
    if last == *b"\n" { Ok(()) } else { handle.append(b"\r\n").map(drop) }
}
