//! The effect: a batch of requests to one rewrite of the registry, and deleted users' directories put aside.
//!
//! Passwords are hashed before the registry is locked, on all cores: Argon2id takes tens of milliseconds each, and nobody should wait
//! for the lock meanwhile. If the registry changed its way of storing passwords in between, they are made again under the lock.
//!
//! Failure: [`StoreError`] when the registry could not be read or written, and nothing was changed; everything else is the outcome of
//! its request. Without any request that can be done nothing is locked or written.

use layout::name::UserId;
use layout::password::{self, PasswordError, Secret};
use layout::path::TreePath;
use layout::registry::doc::Doc;
use layout::registry::model::{Domain, Registry, user_path};
use layout::registry::same_name;
use layout::registry::store::{Loaded, StoreError};
use layout::root::{PathMap, Root};

use super::lines::{Item, Request};
use super::plan::{self, Change, NewPassword, Step};
use crate::program::registry::edit;
use crate::program::{lines, parallel};

/// What was done for a request.
#[derive(Clone, Debug)]
pub struct Done {
    /// The change.
    pub change: Change,
    /// The password that was made for it.
    pub made_password: Option<Secret>,
    /// For a deleted user: where its directory is now.
    pub moved: Option<Result<Option<TreePath>, String>>,
}

/// What became of a request: done, or the reason why not.
pub type Outcome = Result<Done, String>;

/// The registry after a batch, and what became of each request.
type Decided = Box<(Registry, Vec<Outcome>)>;

/// A new password, ready to be stored.
#[derive(Clone)]
struct Ready {
    return_to_imail: bool,
    stored: Secret,
    made: Option<Secret>,
}

/// Does all that can be done of `items`; `loaded` is the registry of a moment ago. One outcome for each item.
pub fn execute(root: &Root, loaded: &Loaded, items: &[Item]) -> Result<Vec<Outcome>, StoreError> {
    let planned = decide(&loaded.registry, items);
    if loaded.instead.is_none() && planned.iter().all(Result::is_err) {
        return Ok(planned.into_iter().map(|refused| refused.and_then(not_done)).collect());
    }
    let mut ready = prepare(&loaded.registry, items, &planned);
    let (registry, mut outcomes) = *edit(root, |doc| change(doc, items, &mut ready))?;
    put_aside(root, &registry, &mut outcomes);
    Ok(outcomes)
}

/// The plan for every item; those that are no request keep their reason.
fn decide(registry: &Registry, items: &[Item]) -> Vec<Result<Change, String>> {
    lines::planned(items, |requests| plan::plan(registry, requests))
}

fn not_done(change: Change) -> Outcome {
    Err(format!("{}: not done", change.address()))
}

/// Decides again on what is in force now, and changes `doc` (`Err`: nothing of it can be done); gives the registry as it is then, as far as deleted users' directories
/// depend on it.
fn change(
    doc: &mut Doc,
    items: &[Item],
    ready: &mut [Option<Result<Ready, String>>],
) -> Result<Decided, Decided> {
    let registry = Registry::from_doc(doc);
    let mode = registry.global.return_to_imail;
    let mut outcomes = Vec::with_capacity(items.len());
    for ((item, planned), slot) in items.iter().zip(decide(&registry, items)).zip(ready.iter_mut()) {
        outcomes.push(planned.and_then(|change| {
            let mut made_password = None;
            let mut stored = None;
            if let (Some(source), Ok(request)) = (change.password(), &item.request) {
                if !matches!(slot, Some(Ok(ready)) if ready.return_to_imail == mode) {
                    *slot = Some(make(mode, &change.id, source, request));
                }
                let ready = slot.clone().unwrap_or_else(|| Err("no password was made".to_owned()))?;
                (stored, made_password) = (Some(ready.stored), ready.made);
            }
            write(doc, &change, stored.as_ref());
            Ok(Done { change, made_password, moved: None })
        }));
    }
    if outcomes.iter().all(Result::is_err) {
        return Err(Box::new((registry, outcomes)));
    }
    let deletes = outcomes.iter().flatten().any(|done| done.change.step == Step::Delete);
    Ok(Box::new((if deletes { Registry::from_doc(doc) } else { registry }, outcomes)))
}

/// One change of the document. The order of a new user's values is that of exports.
fn write(doc: &mut Doc, change: &Change, stored: Option<&Secret>) {
    let path = user_path(&change.domain, &change.id);
    let (flags, full_name) = match &change.step {
        Step::Delete => {
            doc.remove_section(&path);
            return;
        }
        Step::Add { flags, full_name, .. } => {
            doc.set_text(&path, "MailAddr", &change.address());
            (Some(*flags), Some(full_name))
        }
        Step::Modify { flags, full_name, .. } => (*flags, full_name.as_ref()),
    };
    if let Some(full_name) = full_name {
        doc.set_text(&path, "FullName", full_name);
    }
    if let Some(stored) = stored {
        doc.set_text(&path, "Password", stored.expose());
    }
    if let Some(flags) = flags {
        doc.set_number(&path, "Flags", flags.into());
    }
}

fn make(return_to_imail: bool, id: &str, source: NewPassword, request: &Request) -> Result<Ready, String> {
    let told = |error: PasswordError| format!("{id}: {error}");
    let made = match source {
        NewPassword::Given => None,
        NewPassword::Random => Some(password::generate().map_err(told)?),
    };
    let clear = made.as_ref().or(request.operation.password.as_ref());
    let clear = clear.ok_or_else(|| format!("{id}: no password was given"))?;
    let stored = password::store(return_to_imail, id, clear.expose()).map_err(told)?;
    Ok(Ready { return_to_imail, stored: Secret::new(stored), made })
}

/// Makes the passwords of all changes that are planned, on all cores.
fn prepare(
    registry: &Registry,
    items: &[Item],
    planned: &[Result<Change, String>],
) -> Vec<Option<Result<Ready, String>>> {
    let mode = registry.global.return_to_imail;
    let work: Vec<(usize, &str, NewPassword, &Request)> = items
        .iter()
        .zip(planned)
        .enumerate()
        .filter_map(|(at, (item, change))| {
            let change = change.as_ref().ok()?;
            Some((at, change.id.as_str(), change.password()?, item.request.as_ref().ok()?))
        })
        .collect();
    let mut ready = vec![None; items.len()];
    let work_on = |(at, id, source, request): &(usize, &str, NewPassword, &Request)| {
        (*at, make(mode, id, *source, request))
    };
    parallel::each(&work, "passwords", work_on, |_, (at, made)| {
        if let Some(slot) = ready.get_mut(at) {
            *slot = Some(made);
        }
    });
    ready
}

/// Moves the directories of users that are gone from the registry.
fn put_aside(root: &Root, registry: &Registry, outcomes: &mut [Outcome]) {
    let map = registry.path_map(root);
    for done in outcomes.iter_mut().flatten().filter(|done| done.change.step == Step::Delete) {
        done.moved = Some(put_one_aside(root, &map, registry, &done.change));
    }
}

fn put_one_aside(
    root: &Root,
    map: &PathMap,
    registry: &Registry,
    change: &Change,
) -> Result<Option<TreePath>, String> {
    let top = map.top_of(root, &change.top_dir).ok_or_else(|| {
        format!(
            "{} leads nowhere here: name its place in [Paths] of registry.ini, and move the directory by hand",
            change.top_dir
        )
    })?;
    // Domains may share a directory, and then users of the same ID do.
    let shares = |domain: &&Domain| {
        !same_name(&domain.name, &change.domain)
            && domain.user(&change.id).is_some()
            && map.top_of(root, &domain.top_dir).as_ref() == Some(&top)
    };
    if let Some(other) = registry.domains.iter().find(shares) {
        return Err(format!("it is also that of {}@{}", change.id, other.name));
    }
    let id = UserId::parse(&change.id).map_err(|error| error.to_string())?;
    root.domain(top).user(&id).move_to_deleted().map_err(|error| error.to_string())
}
