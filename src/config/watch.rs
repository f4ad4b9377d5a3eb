//! Noticing that `registry.ini` changed.
//!
//! One thread waits for events of the data directory, and looks at the file's stamp every [`super::LOOK_EVERY`] in any case. Editors
//! truncate and write, or write another file and rename it: a changed file is read when its stamp has been the same for [`QUIET`].

use super::{LOOK_EVERY, Live, notes_of};
use layout::disk::Stamp;
use layout::registry::store::{self, Verdict};
use notify::Watcher as _;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// A file that did not change for so long is taken as saved.
const QUIET: Duration = Duration::from_millis(300);

/// Watches the registry until it is dropped.
pub struct Watcher {
    /// Its end stops the thread.
    _stop: Sender<()>,
    /// Its end stops the events.
    _events: Option<notify::RecommendedWatcher>,
}

/// What the thread knows between two looks.
struct Look {
    /// The file that is in force, or was refused.
    settled: Stamp,
    /// The file that is being judged, since when.
    pending: Option<(Stamp, Instant)>,
}

impl Watcher {
    /// Starts watching. `say` gets what the log should say.
    pub fn start(live: Arc<Live>, say: impl Fn(&str) + Send + 'static) -> Watcher {
        let (stop, wake) = mpsc::channel();
        let events = event_source(&live, stop.clone());
        let thread = std::thread::Builder::new().name("config".into());
        if let Err(error) = thread.spawn(move || run(&live, &wake, &say)) {
            tracing::error!(%error, "the thread that watches registry.ini could not be started");
        }
        Watcher { _stop: stop, _events: events }
    }
}

/// Events of the directory, not of the file: an editor that renames puts another inode there. Without events the clock is enough.
fn event_source(live: &Live, wake: Sender<()>) -> Option<notify::RecommendedWatcher> {
    let wake = move |event: notify::Result<notify::Event>| {
        let ours = event.map_or(true, |event| {
            event.need_rescan()
                || event.paths.iter().any(|path| path.file_name().is_some_and(|name| name == "registry.ini"))
        });
        if ours {
            let _ = wake.send(());
        }
    };
    let mut watcher = notify::recommended_watcher(wake).ok()?;
    watcher.watch(&live.root.top().full(), notify::RecursiveMode::NonRecursive).ok()?;
    Some(watcher)
}

fn run(live: &Live, wake: &Receiver<()>, say: &impl Fn(&str)) {
    let stamp = live.root.disk().stat(&live.root.registry_ini()).map(|(stamp, _)| stamp).unwrap_or_default();
    let mut look = Look { settled: stamp, pending: None };
    loop {
        let pause = if look.pending.is_some() { QUIET } else { LOOK_EVERY };
        match wake.recv_timeout(pause) {
            // Our own end of the channel lives as long as the watcher; the events' end says nothing when it goes.
            Err(RecvTimeoutError::Disconnected) => return,
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
        }
        while wake.try_recv().is_ok() {}
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
            say("registry.ini was changed and is in force");
        }
    }
    look.settled = stamp;
    look.pending = None;
}
