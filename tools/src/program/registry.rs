//! The registry for programs: as it is now, a domain of it by the name that was given, and an edit that may come to nothing.

use std::time::{Duration, Instant};

use layout::registry::doc::Doc;
use layout::registry::model::{Domain, Registry};
use layout::registry::store::{self, HALF_SAVED_PATIENCE, Loaded, StoreError};
use layout::root::Root;

/// Why there is no such domain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoDomain {
    /// No domain of that name.
    #[error("there is no domain {name:?} here; there are: {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// None was named, and the registry has none.
    #[error("registry.ini has no domain: make one first")]
    NoPrimary,
}

/// The registry as it is now, or as it was before somebody began to save it; waits a little for that to end.
pub fn snapshot(root: &Root) -> Result<Loaded, StoreError> {
    const PAUSE: Duration = Duration::from_millis(50);
    let deadline = Instant::now() + HALF_SAVED_PATIENCE;
    loop {
        match store::load_for_start(root) {
            Err(StoreError::Unusable(_)) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            other => return other,
        }
    }
}

/// The domain of this official or other name; without a name the primary.
pub fn domain_of<'a>(registry: &'a Registry, name: Option<&str>) -> Result<&'a Domain, NoDomain> {
    let Some(name) = name else { return registry.primary().ok_or(NoDomain::NoPrimary) };
    registry.domain_by_name(name).ok_or_else(|| {
        /// So many names fit into a message.
        const NAMED: usize = 10;
        let mut known: Vec<&str> = registry.domains.iter().map(|domain| &*domain.name).take(NAMED).collect();
        if registry.domains.len() > NAMED {
            known.push("...");
        }
        NoDomain::Unknown { name: name.to_owned(), known: known.join(", ") }
    })
}

enum Stop<T> {
    Nothing(T),
    Store(StoreError),
}

impl<T> From<StoreError> for Stop<T> {
    fn from(error: StoreError) -> Stop<T> {
        Stop::Store(error)
    }
}

/// Changes the registry with one rewrite ([`store::edit`]); `change` answers `Err` when there is nothing to write after all, and then
/// nothing is. Either way what it answered is given back.
pub fn edit<T>(root: &Root, mut change: impl FnMut(&mut Doc) -> Result<T, T>) -> Result<T, StoreError> {
    match store::edit(root, |doc| change(doc).map_err(Stop::Nothing)) {
        Ok(done) | Err(Stop::Nothing(done)) => Ok(done),
        Err(Stop::Store(error)) => Err(error),
    }
}
