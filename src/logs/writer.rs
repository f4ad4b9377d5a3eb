//! A log file: one thread, one file a day, one write for all lines that wait.
//!
//! A line belongs to the day on which it is written. The file is opened for appending and looked at before each write: an admin who moves
//! or deletes today's log gets a new one with the next line.

use super::{Dropped, WAITING_MAX};
use chrono::{Local, NaiveDateTime};
use layout::disk::{Disk, Handle, Open};
use layout::logline::{self, FileKind};
use layout::path::TreePath;
use layout::root::Root;
use std::io;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// How long a stopping server waits for its log.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);
/// How long lines gather before they are written: each line that wakes the thread costs more than to write it. A server that is killed loses the
/// lines of this time.
const GATHER_FOR: Duration = Duration::from_millis(5);

/// Takes lines for the log files of one kind.
#[derive(Clone)]
pub struct Writer {
    lines: Sender<Item>,
    dropped: Dropped,
}

/// What the writing thread gets.
enum Item {
    Line(Vec<u8>),
    Flush(mpsc::Sender<()>),
}

impl Writer {
    /// Starts the writing thread. `dir` says where the files are, anew for each write, since the admin may change it.
    pub fn start(root: &Root, kind: FileKind, dir: impl Fn() -> TreePath + Send + 'static) -> Writer {
        Writer::start_at(root, kind, dir, || Local::now().naive_local())
    }

    /// The same by another clock, for tests.
    fn start_at(
        root: &Root,
        kind: FileKind,
        dir: impl Fn() -> TreePath + Send + 'static,
        clock: impl Fn() -> NaiveDateTime + Send + 'static,
    ) -> Writer {
        let (lines, mut incoming) = channel(WAITING_MAX);
        let dropped = Dropped::new("the disk is too slow, full, or cannot be written");
        let files = Files { disk: root.shared_disk(), root: root.clone(), open: None };
        let lost = dropped.clone();
        let file = move || (dir(), logline::file_of(kind, clock()));
        let thread = std::thread::Builder::new().name("log".into());
        if let Err(error) = thread.spawn(move || run(files, &mut incoming, &file, &lost)) {
            tracing::error!(%error, "the thread that writes logs could not be started");
        }
        Writer { lines, dropped }
    }

    /// Writes a line, which has its line end. Never waits.
    pub fn write(&self, line: Vec<u8>) {
        if self.lines.try_send(Item::Line(line)).is_err() {
            self.dropped.add(1);
        }
    }

    /// How many lines were not written.
    pub fn dropped(&self) -> u64 {
        self.dropped.now()
    }

    /// Waits until everything so far is written.
    pub fn flush(&self) {
        let ((done, written), begun) = (mpsc::channel(), Instant::now());
        let mut item = Item::Flush(done);
        // There is room soon: the thread takes all that wait at once.
        while let Err(TrySendError::Full(again)) = self.lines.try_send(item)
            && begun.elapsed() < FLUSH_PATIENCE
        {
            item = again;
            std::thread::sleep(GATHER_FOR);
        }
        // Fails at once if it was not sent.
        let _ = written.recv_timeout(FLUSH_PATIENCE);
    }
}

fn run(
    mut files: Files,
    incoming: &mut Receiver<Item>,
    file: &dyn Fn() -> (TreePath, String),
    lost: &Dropped,
) {
    while let Some(first) = incoming.blocking_recv() {
        if matches!(first, Item::Line(_)) {
            std::thread::sleep(GATHER_FOR);
        }
        let (mut lines, mut count, mut waiting) = (Vec::new(), 0, Vec::new());
        let others = std::iter::from_fn(|| incoming.try_recv().ok());
        for item in [first].into_iter().chain(others.take(WAITING_MAX)) {
            match item {
                Item::Line(line) => {
                    lines.extend_from_slice(&line);
                    count += 1;
                }
                Item::Flush(done) => waiting.push(done),
            }
        }
        let (dir, name) = file();
        if !lines.is_empty()
            && let Err(error) = files.write(&dir, &name, &lines)
        {
            files.open = None;
            tracing::warn!(%error, "log lines could not be written");
            lost.add(count);
        }
        for done in waiting {
            let _ = done.send(());
        }
    }
}

/// The file that is open.
struct Files {
    disk: std::sync::Arc<dyn Disk>,
    root: Root,
    open: Option<(TreePath, Box<dyn Handle>)>,
}

impl Files {
    fn write(&mut self, dir: &TreePath, name: &str, lines: &[u8]) -> io::Result<()> {
        let file = self.root.find(dir, name);
        let named = self.disk.stat(&file).map(|(stamp, _)| stamp.inode).ok();
        let handle = match &mut self.open {
            Some((path, handle)) if *path == file && Some(handle.stamp()?.inode) == named => handle,
            open => {
                self.root.make_dirs(dir)?;
                let handle = self.disk.open(&file, Open::Create)?;
                finish_torn_line(&*handle)?;
                &mut open.insert((file, handle)).1
            }
        };
        handle.append(lines).map(drop)
    }
}

/// A crash may have cut the last line: the next one begins on a line of its own.
fn finish_torn_line(handle: &dyn Handle) -> io::Result<()> {
    let size = handle.stamp()?.size;
    let mut last = [b'\n'];
    if size > 0 {
        handle.read_at(&mut last, size - 1)?;
    }
    if last == *b"\n" { Ok(()) } else { handle.append(b"\r\n").map(drop) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::NaiveDate;
    use layout::disk::real::RealDisk;
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    struct Place {
        dir: tempfile::TempDir,
        now: Arc<Mutex<NaiveDateTime>>,
        writer: Writer,
    }

    impl Place {
        fn new(kind: FileKind) -> Place {
            let dir = tempfile::tempdir().unwrap();
            let root = Root::new(Arc::new(RealDisk::new()), dir.path());
            let now = NaiveDate::from_ymd_opt(2024, 2, 29).unwrap().and_hms_opt(23, 59, 59).unwrap();
            let now = Arc::new(Mutex::new(now));
            let (clock, logs) = (now.clone(), root.clone());
            let writer = Writer::start_at(&root, kind, move || logs.logs(), move || *clock.lock().unwrap());
            Place { dir, now, writer }
        }

        fn logs(&self) -> std::path::PathBuf {
            self.dir.path().join("logs")
        }

        fn write(&self, line: &str) {
            self.writer.write(format!("{line}\r\n").into_bytes());
            self.writer.flush();
        }

        fn files(&self) -> BTreeMap<String, String> {
            let files = std::fs::read_dir(self.logs()).unwrap().map(|entry| entry.unwrap().path());
            let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
            files.map(|path| (name(&path), std::fs::read_to_string(&path).unwrap())).collect()
        }
    }

    fn map(files: &[(&str, &str)]) -> BTreeMap<String, String> {
        files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn a_day_has_its_file() {
        for (kind, word) in [(FileKind::System, "sys"), (FileKind::Server, "log")] {
            let place = Place::new(kind);
            place.write("one");
            place.write("two");
            *place.now.lock().unwrap() += chrono::Duration::seconds(1);
            place.write("three");
            let names = [format!("{word}20240229.txt"), format!("{word}20240301.txt")];
            let expected = map(&[(&names[0], "one\r\ntwo\r\n"), (&names[1], "three\r\n")]);
            assert_eq!(place.files(), expected);
            assert_eq!(place.writer.dropped(), 0);
        }
    }

    #[test]
    fn a_file_that_was_moved_or_deleted_begins_anew() {
        let place = Place::new(FileKind::Server);
        let today = place.logs().join("log20240229.txt");
        place.write("one");
        std::fs::rename(&today, place.logs().join("old.txt")).unwrap();
        place.write("two");
        assert_eq!(place.files(), map(&[("log20240229.txt", "two\r\n"), ("old.txt", "one\r\n")]));
        std::fs::remove_file(&today).unwrap();
        place.write("three");
        assert_eq!(place.files()["log20240229.txt"], "three\r\n");
        std::fs::remove_dir_all(place.logs()).unwrap();
        place.write("four");
        assert_eq!(place.files(), map(&[("log20240229.txt", "four\r\n")]));
    }

    #[test]
    fn a_torn_line_gets_its_end_and_other_cases_are_the_same_file() {
        let place = Place::new(FileKind::System);
        std::fs::create_dir(place.logs()).unwrap();
        std::fs::write(place.logs().join("SYS20240229.TXT"), "torn").unwrap();
        place.write("one");
        assert_eq!(place.files(), map(&[("SYS20240229.TXT", "torn\r\none\r\n")]));
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let place = Place::new(FileKind::System);
        std::fs::write(place.logs(), "a file where the directory should be").unwrap();
        place.write("one");
        place.write("two");
        assert_eq!(place.writer.dropped(), 2);
        std::fs::remove_file(place.logs()).unwrap();
        place.write("three");
        assert_eq!(place.files(), map(&[("sys20240229.txt", "three\r\n")]));
    }
}
