//! What waits in the spool, and when it is tried again.
//!
//! An item is due at once when it is new, when its Q file was touched or rewritten by somebody else (an admin's way to force a try), or when the queue
//! timer is over since the last try. Only recipients here are delivered so far; those elsewhere wait.
//!
//! # Failure
//! An item that cannot be read or delivered stays where it is.

use super::{Inner, key};
use crate::config::Config;
use crate::transport::route::route;
use layout::disk::Stamp;
use layout::logline::{Event, Status, Tag};
use layout::spool::id::{ItemName, Role};
use layout::spool::qfile::Recipient;
use layout::spool::store::{Item, SpoolError, State};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the spool is listed without being woken: an admin's touch is noticed within this time.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The queue timer where the registry has none (IMail's default is remembered as 30 minutes, not documented).
const DEFAULT_TIMER: Duration = Duration::from_secs(30 * 60);

/// What we remember of an item.
struct Known {
    stamp: Stamp,
    due: Instant,
}

/// Works until the server stops.
pub(super) async fn run(inner: Arc<Inner>) {
    let mut known: HashMap<String, Known> = HashMap::new();
    loop {
        let config = inner.live.now();
        let items = tokio::task::block_in_place(|| {
            let listing = inner.store.scan()?;
            inner.store.sweep(&listing);
            Ok::<_, std::io::Error>(listing.items)
        });
        match items {
            Ok(items) => pass(&inner, &config, &mut known, items).await,
            Err(error) => tracing::warn!(%error, "the spool could not be read"),
        }
        tokio::select! {
            () = inner.wake.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

async fn pass(inner: &Inner, config: &Config, known: &mut HashMap<String, Known>, items: Vec<Item>) {
    let timer = match config.registry.services.smtp.queue_timer_minutes {
        0 => DEFAULT_TIMER,
        minutes => Duration::from_secs(u64::from(minutes) * 60),
    };
    let waiting: Vec<Item> = items.into_iter().filter(|item| item.state == State::Waiting).collect();
    let present: HashSet<String> = waiting.iter().map(|item| item.name.key()).collect();
    known.retain(|key, _| present.contains(key));
    for item in waiting {
        let due =
            known.get(&item.name.key()).is_none_or(|k| k.stamp != item.stamp || k.due <= Instant::now());
        if !due {
            continue;
        }
        let stamp = match deliver(inner, config, &item.name).await {
            Ok(stamp) => stamp.unwrap_or(item.stamp),
            Err(SpoolError::Busy(_)) => continue,
            Err(error) => {
                tracing::warn!(%error, "an item of the spool could not be worked on");
                item.stamp
            }
        };
        known.insert(item.name.key(), Known { stamp, due: Instant::now() + timer });
    }
}

/// Delivers what can be delivered here. Answers with the Q file's new stamp if it was rewritten.
async fn deliver(inner: &Inner, config: &Config, name: &ItemName) -> Result<Option<Stamp>, SpoolError> {
    let mut claim = tokio::task::block_in_place(|| inner.store.claim(name))?;
    let loaded = tokio::task::block_in_place(|| claim.load())?;
    let Some(source) = loaded.body else { return Ok(None) };
    let mut envelope = loaded.envelope;
    let (id, sender) = (name.id(), envelope.sender());
    let trusted = envelope.auth_user().is_some();
    let queue = inner.store.path(Role::Queued, name).full();
    let (mut done, mut tried) = (HashSet::new(), false);
    for (index, recipient) in envelope.recipients().into_iter().enumerate() {
        let Ok(routed) = tokio::task::block_in_place(|| route(config, &recipient.address, trusted)) else {
            continue;
        };
        if !routed.remote.is_empty() || !routed.waiting.is_empty() {
            continue;
        }
        if !tried {
            inner.log(config, Tag::Smtp, id, None, &Event::Processing { queue: &queue });
        }
        tried = true;
        let Recipient { address, original, .. } = recipient;
        let shown = original.unwrap_or(address);
        let mut seen = HashSet::new();
        let copies = tokio::task::block_in_place(|| {
            let targets = routed.mailboxes.iter().filter(|target| seen.insert(key(target)));
            let message = |_: &_| inner.message(&sender, &source, &shown, id);
            targets.map(|target| inner.submit(config, target, message(target), &shown, id)).collect()
        });
        if inner.finish_copies(config, id, &sender, source.len(), copies).await.is_empty() {
            done.insert(index);
        }
    }
    if !tried {
        return Ok(None);
    }
    let left = envelope.recipients().len() - done.len();
    let status = if left == 0 { Status::Done } else { Status::Requeued };
    let stamp = tokio::task::block_in_place(|| match left {
        0 => claim.finish().map(|()| None),
        _ => {
            envelope.retain_recipients(|index, _| !done.contains(&index));
            envelope.set_tries(envelope.tries().unwrap_or(0) + 1);
            claim.update(&envelope).map(Some)
        }
    })?;
    inner.log(config, Tag::Smtp, id, None, &Event::Finished { queue: &queue, status });
    Ok(stamp)
}
