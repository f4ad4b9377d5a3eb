//! The configuration in force: an immutable snapshot of the registry, replaced as a whole when the file changes.
//!
//! Every session and every command works with the snapshot that it got from [`Live::now`]; an edit by hand or by a program
//! takes effect with the next command.
//!
//! # Failure
//! A file that is cut off, or has no domain, is not taken over ([`layout::registry::store::judge`]): the last good one stays in force, and
//! the log says why. At start `registry.ini.good` is used instead.
//!
//! # Limits
//! The file is looked at when the directory reports a change, and every [`LOOK_EVERY`] anyway: one missed event must not matter.

pub mod files;
mod watch;

pub use watch::Watcher;

use arc_swap::ArcSwap;
use layout::disk::Stamp;
use layout::name::{AliasName, DomainName, UserId, domain_key};
use layout::path::TreePath;
use layout::registry::model::{Domain, Registry};
use layout::registry::places;
use layout::registry::store::{self, Loaded, StoreError};
use layout::root::{DomainDir, PathMap, Root, UserDir};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How often the registry file's stamp is looked at without an event.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);

/// One snapshot.
pub struct Config {
    /// What the registry says.
    pub registry: Registry,
    /// Where the paths in it lead.
    pub paths: PathMap,
    root: Root,
}

impl Config {
    /// The snapshot of a registry.
    pub fn new(root: &Root, registry: Registry) -> Config {
        let paths = registry.path_map(root);
        Config { registry, paths, root: root.clone() }
    }

    /// The data directory.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The directories of a domain: its `TopDir`, or the root if it has none. `None` if `TopDir` leads nowhere: the domain cannot be served.
    pub fn domain_dir(&self, domain: &Domain) -> Option<DomainDir> {
        places::domain_dir(&self.root, &self.paths, domain)
    }

    /// The file of a group alias, wherever it is.
    pub fn group_file(&self, domain: &Domain, path: &str) -> Option<TreePath> {
        places::group_file(&self.root, &self.paths, domain, path)
    }

    /// A user's directory, if there is such a user.
    pub fn user_dir(&self, domain: &Domain, id: &str) -> Option<UserDir> {
        let user = domain.user(id)?;
        let id = UserId::parse(&user.id).ok()?;
        Some(self.domain_dir(domain)?.user(&id))
    }

    /// Is there a mailing list of this name?
    pub fn has_list(&self, domain: &Domain, name: &str) -> bool {
        let name = AliasName::parse(name).ok();
        name.and_then(|name| self.domain_dir(domain)?.list(&name)).is_some()
    }

    /// The domain of an address's right side: official name or alias, unless another domain hides it, or an address of this server's in brackets
    /// (RFC 5321 §4.1.3).
    pub fn local_domain(&self, name: &str) -> Option<&Domain> {
        if let Some(address) = domain_literal(name) {
            return self.registry.domain_by_address(address);
        }
        let name = domain_key(name);
        DomainName::parse(&name).ok()?;
        self.registry.domain_by_name(&name).filter(|domain| domain.hidden_by.is_none())
    }

    /// The domain that a connection to this address of ours belongs to: the one with that IP, else the primary.
    pub fn domain_at(&self, local: IpAddr) -> Option<&Domain> {
        self.registry.domain_by_address(local).or_else(|| self.registry.primary())
    }

    /// The name with which we greet on this address of ours.
    pub fn host_name(&self, local: IpAddr) -> &str {
        self.domain_at(local).map_or("localhost", |domain| domain.name.as_str())
    }
}

/// The address of a domain literal: `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 §4.1.3).
pub fn domain_literal(name: &str) -> Option<IpAddr> {
    let inner = name.strip_prefix('[')?.strip_suffix(']')?;
    let tagged = inner.split_at_checked("IPv6:".len()).filter(|(tag, _)| tag.eq_ignore_ascii_case("IPv6:"));
    match tagged {
        Some((_, address)) => address.parse().ok().map(IpAddr::V6),
        None => inner.parse().ok().map(IpAddr::V4),
    }
}

/// The configuration, as it is now.
pub struct Live {
    now: ArcSwap<Config>,
    root: Root,
    /// Of the `registry.ini` that the start went by. What is saved from then on is a change, however early.
    at_start: Stamp,
}

impl Live {
    /// Reads the registry for a start. Answers also with what there is to say about it.
    pub fn start(root: &Root) -> Result<(Arc<Live>, Vec<String>), StoreError> {
        let loaded = store::load_for_start(root)?;
        let notes = notes_of(&loaded);
        if loaded.instead.is_none() {
            let _ = store::save_good(root, &loaded.doc.render());
        }
        let now = ArcSwap::from_pointee(Config::new(root, loaded.registry));
        Ok((Arc::new(Live { now, root: root.clone(), at_start: loaded.stamp }), notes))
    }

    /// The snapshot in force.
    pub fn now(&self) -> Arc<Config> {
        self.now.load_full()
    }

    fn publish(&self, registry: Registry) {
        self.now.store(Arc::new(Config::new(&self.root, registry)));
    }
}

/// What the log says of a registry that was read: lines that are not understood, and what is odd.
fn notes_of(loaded: &Loaded) -> Vec<String> {
    /// More complaints than this say nothing new.
    const COMPLAINTS_MAX: usize = 50;
    let instead = loaded.instead.clone().into_iter();
    let complaints =
        loaded.complaints.iter().take(COMPLAINTS_MAX).map(|complaint| format!("registry.ini: {complaint}"));
    instead.chain(complaints).chain(loaded.registry.notes.iter().cloned()).collect()
}
