//! Noticing that `registry.ini` changed.
//!
//! One thread waits for events of the data directory, and looks at the file's stamp every [`super::LOOK_EVERY`] in any case. Editors
//! truncate and write, or write another file and rename it: a changed file is read when its stamp has been the same for [`QUIET`].
//! Whoever asks ([`Watcher::reread`]) has the file read in any case.

use super::{LOOK_EVERY, Live, notes_of};
use layout::disk::Stamp;
use layout::registry::store::{self, Verdict};
use notify::Watcher as _;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A file that did not change for so long is taken as saved.
const QUIET: Duration = Duration::from_millis(300);

/// Watches the registry until it is dropped.
pub struct Watcher {
    /// Its end stops the thread.
    wake: Sender<Wake>,
    /// Its end stops the events.
    _events: Option<notify::RecommendedWatcher>,
}

/// Why the thread looks.
enum Wake {
    /// Something happened in the directory.
    Event,
    /// Somebody wants the file read, and waits until it is judged.
    Asked(oneshot::Sender<()>),
}

/// What the thread knows between two looks.
struct Look {
    /// The file that is in force, or was refused.
    settled: Stamp,
    /// The file that is being judged, since when.
    pending: Option<(Stamp, Instant)>,
    /// Who waits for the file to be judged.
    asked: Vec<oneshot::Sender<()>>,
}

impl Watcher {
    /// Starts watching. `say` gets what the log should say.
    pub fn start(live: Arc<Live>, say: impl Fn(&str) + Send + 'static) -> Watcher {
        let (wake, wakes) = mpsc::channel();
        let events = event_source(&live, wake.clone());
        let thread = std::thread::Builder::new().name("config".into());
        if let Err(error) = thread.spawn(move || run(&live, &wakes, &say)) {
            tracing::error!(%error, "the thread that watches registry.ini could not be started");
        }
        Watcher { wake, _events: events }
    }

    /// Has the file read again, changed or not, and waits until it is in force or refused.
    pub async fn reread(&self) {
        let (judged, done) = oneshot::channel();
        if self.wake.send(Wake::Asked(judged)).is_ok() {
            let _ = done.await;
        }
    }
}

/// Events of the directory, not of the file: an editor that renames puts another inode there. Without events the clock is enough.
fn event_source(live: &Live, wake: Sender<Wake>) -> Option<notify::RecommendedWatcher> {
    let wake = move |event: notify::Result<notify::Event>| {
        let ours = event.map_or(true, |event| {
            event.need_rescan()
                || event.paths.iter().any(|path| path.file_name().is_some_and(|name| name == "registry.ini"))
        });
        if ours {
            let _ = wake.send(Wake::Event);
        }
    };
    let mut watcher = notify::recommended_watcher(wake).ok()?;
    watcher.watch(&live.root.top().full(), notify::RecursiveMode::NonRecursive).ok()?;
    Some(watcher)
}

fn run(live: &Live, wakes: &Receiver<Wake>, say: &impl Fn(&str)) {
    let mut look = Look { settled: live.at_start, pending: None, asked: Vec::new() };
    loop {
        let pause = if look.pending.is_some() { QUIET } else { LOOK_EVERY };
        let first = match wakes.recv_timeout(pause) {
            // Our own end of the channel lives as long as the watcher; the events' end says nothing when it goes.
            Err(RecvTimeoutError::Disconnected) => return,
            Ok(wake) => Some(wake),
            Err(RecvTimeoutError::Timeout) => None,
        };
        for wake in first.into_iter().chain(wakes.try_iter()) {
            if let Wake::Asked(judged) = wake {
                look.asked.push(judged);
                // No file has this stamp.
                look.settled = Stamp::default();
            }
        }
        look_once(live, &mut look, say);
    }
}

fn look_once(live: &Live, look: &mut Look, say: &impl Fn(&str)) {
    let stamp = match live.root.disk().stat(&live.root.registry_ini()) {
        Ok((stamp, _)) => stamp,
        // Between an editor's unlink and its rename; if it stays away, the configuration stays.
        Err(_) => return,
    };
    if stamp == look.settled {
        look.pending = None;
        return;
    }
    let since = match look.pending {
        Some((pending, since)) if pending == stamp => since,
        _ => {
            look.pending = Some((stamp, Instant::now()));
            return;
        }
    };
    if since.elapsed() < QUIET {
        return;
    }
    let loaded = match store::load(&live.root) {
        Ok(loaded) if loaded.stamp == stamp => loaded,
        _ => return,
    };
    match store::judge(&live.now().registry, &loaded.registry, since.elapsed()) {
        Verdict::Wait => return,
        Verdict::Refuse(reason) => say(&format!("{reason}. The registry as it was before stays in force")),
        Verdict::Accept(note) => {
            notes_of(&loaded).iter().chain(&note).for_each(|note| say(note));
            if let Err(error) = store::save_good(&live.root, &loaded.doc.render()) {
                say(&format!("registry.ini.good could not be written: {error}"));
            }
            live.publish(loaded.registry);
            let why = if look.asked.is_empty() { "changed" } else { "read again" };
            say(&format!("registry.ini was {why} and is in force"));
        }
    }
    look.settled = stamp;
    look.pending = None;
    look.asked.drain(..).for_each(|judged| _ = judged.send(()));
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test reports by panicking")]
mod tests {
    use super::*;
    use layout::disk::real::RealDisk;
    use layout::root::Root;

    const REGISTRY: &str = "[Global]\r\nHostName=mail.example.jp\r\n[Domains\\mail.example.jp]\r\nAddress=192.0.2.10\r\n\
                            ; end of registry.ini, keep this line last\r\n";

    #[test]
    fn what_is_saved_before_the_thread_runs_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registry.ini");
        std::fs::write(&path, REGISTRY).unwrap();
        let root = Root::new(Arc::new(RealDisk::new()), dir.path());
        let (live, _) = Live::start(&root).unwrap();
        std::fs::write(&path, REGISTRY.replace("192.0.2.10", "192.0.2.11")).unwrap();
        let (said, heard) = mpsc::channel();
        let _watcher = Watcher::start(live, move |line| _ = said.send(line.to_owned()));
        let line = heard.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(line, "registry.ini was changed and is in force");
    }
}
