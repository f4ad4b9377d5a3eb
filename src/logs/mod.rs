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

use layout::disk::{Disk, Handle, Open};
use layout::name::SpoolId;
use layout::path::TreePath;
use layout::registry::model::LogTo;
use layout::root::Root;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};

/// The most lines that wait for the disk.
pub const WAITING_MAX: usize = 100_000;

/// The longest text of a line, in characters.
const TEXT_MAX: usize = 512;

/// Where log lines go.
#[derive(Clone)]
pub struct Log {
    lines: SyncSender<Vec<u8>>,
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

    /// Writes one event in the form of IMail's lines: `MM:DD HH:MM TAG(id) [address] text`.
    pub fn line(&self, to: LogTo, tag: &str, id: SpoolId, address: Option<IpAddr>, text: &str) {
        if to != LogTo::Sys {
            return;
        }
        let now = chrono::Local::now().format("%m:%d %H:%M");
        let address = address.map(|address| format!("[{address}] ")).unwrap_or_default();
        let text: String = text.chars().filter(|c| !c.is_control()).take(TEXT_MAX).collect();
        self.put(format!("{now} {tag}({id}) {address}{text}\r\n").into_bytes());
    }

    /// Hands a whole line over, with its line end. Never waits.
    pub fn put(&self, line: Vec<u8>) {
        if self.lines.try_send(line).is_err() {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                tracing::warn!(dropped, "log lines were dropped: the disk is too slow or full");
            }
        }
    }
}

fn run(disk: &dyn Disk, root: &Root, incoming: &Receiver<Vec<u8>>, dir: &dyn Fn() -> TreePath) {
    let mut open: Option<(TreePath, Box<dyn Handle>)> = None;
    while let Ok(mut lines) = incoming.recv() {
        for line in incoming.try_iter().take(WAITING_MAX) {
            lines.extend_from_slice(&line);
        }
        let file = root.find(&dir(), &chrono::Local::now().format("sys%Y%m%d.txt").to_string());
        if let Err(error) = write(disk, root, &mut open, file, &lines) {
            open = None;
            tracing::warn!(%error, "log lines could not be written");
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
