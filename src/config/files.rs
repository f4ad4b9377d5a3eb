//! Settings that administrators keep in files of their own (`kill.lst`, `rules.ima`), as they are now.
//!
//! A value is made from one file or several; which ones is noted while it is made, and it is made again when one of them has changed.
//!
//! # Failure
//! While a file cannot be read, what was read last stays in force, and the log of the process says so.
//!
//! # Limits
//! Files are looked at once in [`LOOK_EVERY`], and are at most [`SETTINGS_FILE_MAX`] long; [`HELD_MAX`] values are kept.

use layout::disk::Stamp;
use layout::limits::SETTINGS_FILE_MAX;
use layout::path::TreePath;
use layout::root::Root;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the stamps of files are looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The most values that are kept; the least recently looked at go first.
const HELD_MAX: usize = 500;

/// A file by its directory and its name, in any case.
type Place = (TreePath, String);

/// The files of a value, each as it was when it was read.
type Sources = Vec<(Place, Option<Stamp>)>;

/// Values made from files, by the file that each begins with.
pub struct Files<T> {
    held: Mutex<HashMap<Place, Held<T>>>,
}

struct Held<T> {
    looked: Instant,
    sources: Sources,
    value: Arc<T>,
}

/// Reads files, and notes which.
pub struct Reader<'a> {
    root: &'a Root,
    sources: Sources,
}

impl Reader<'_> {
    /// A file of a directory; `None` if it is not there.
    pub fn read(&mut self, dir: &TreePath, name: &str) -> io::Result<Option<Vec<u8>>> {
        let place = (dir.clone(), name.to_owned());
        let stamp = stamp(self.root, &place);
        self.sources.push((place, stamp));
        match self.root.file_in(dir, name) {
            Some(file) => self.root.disk().read(&file, SETTINGS_FILE_MAX).map(Some),
            None => Ok(None),
        }
    }
}

impl<T> Default for Files<T> {
    fn default() -> Files<T> {
        Files { held: Mutex::default() }
    }
}

impl<T: Default> Files<T> {
    /// The value that begins with the file `name` of `dir`; `make` reads it and makes the value. May be called by async code.
    pub fn get(
        &self,
        root: &Root,
        dir: &TreePath,
        name: &str,
        make: impl FnOnce(&mut Reader<'_>) -> io::Result<T>,
    ) -> Arc<T> {
        let place = (dir.clone(), name.to_owned());
        let before = self.with(|held| {
            let held = held.get_mut(&place)?;
            let fresh = held.looked.elapsed() < LOOK_EVERY;
            if !fresh {
                held.looked = Instant::now();
            }
            Some((fresh, held.value.clone(), held.sources.clone()))
        });
        match before {
            Some((true, value, _)) => value,
            // Once in a while this asks the disk, which may be slow.
            before => tokio::task::block_in_place(|| self.look(root, place, before, make)),
        }
    }

    /// Looks whether the value is still that of its files.
    fn look(
        &self,
        root: &Root,
        place: Place,
        before: Option<(bool, Arc<T>, Sources)>,
        make: impl FnOnce(&mut Reader<'_>) -> io::Result<T>,
    ) -> Arc<T> {
        if let Some((_, value, sources)) = &before
            && sources.iter().all(|(place, known)| stamp(root, place) == *known)
        {
            return value.clone();
        }
        let mut reader = Reader { root, sources: Vec::new() };
        let value = match make(&mut reader) {
            Ok(value) => Arc::new(value),
            Err(error) => {
                tracing::warn!(name = place.1, dir = %place.0, %error, "a settings file cannot be read: what was read last stays in force");
                before.map(|(_, value, _)| value).unwrap_or_default()
            }
        };
        let held = Held { looked: Instant::now(), sources: reader.sources, value: value.clone() };
        self.with(|all| {
            if all.len() >= HELD_MAX {
                let mut times: Vec<Instant> = all.values().map(|held| held.looked).collect();
                let middle = times.len() / 2;
                let (_, limit, _) = times.select_nth_unstable(middle);
                let limit = *limit;
                all.retain(|_, held| held.looked > limit);
            }
            all.insert(place, held);
        });
        value
    }

    fn with<R>(&self, work: impl FnOnce(&mut HashMap<Place, Held<T>>) -> R) -> R {
        work(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn stamp(root: &Root, (dir, name): &Place) -> Option<Stamp> {
    Some(root.disk().stat(&root.file_in(dir, name)?).ok()?.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use layout::disk::real::RealDisk;

    #[test]
    fn a_value_that_is_always_in_use_is_looked_at_too() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(Arc::new(RealDisk::new()), dir.path());
        let files = Files::<usize>::default();
        let length = || {
            let value = files.get(&root, root.top(), "a.txt", |reader| {
                Ok(reader.read(root.top(), "a.txt")?.map_or(0, |bytes| bytes.len()))
            });
            // Two looks, so that a look before the time is over does not put the next one off.
            files.with(|all| all.values_mut().for_each(|held| held.looked -= LOOK_EVERY / 2));
            *value
        };
        assert_eq!(length(), 0);
        std::fs::write(dir.path().join("a.txt"), "one").unwrap();
        assert_eq!([length(), length()], [0, 3]);
    }

    #[test]
    fn a_value_follows_all_of_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(Arc::new(RealDisk::new()), dir.path());
        let files = Files::<String>::default();
        let read = || {
            files.with(|all| all.values_mut().for_each(|held| held.looked -= LOOK_EVERY));
            let value = files.get(&root, root.top(), "a.txt", |reader| {
                let first = reader.read(root.top(), "a.txt")?.unwrap_or_default();
                let second = reader.read(root.top(), "b.txt")?.unwrap_or_default();
                Ok(String::from_utf8_lossy(&[first, second].concat()).into_owned())
            });
            value.as_str().to_owned()
        };
        assert_eq!(read(), "");
        std::fs::write(dir.path().join("A.txt"), "one").unwrap();
        assert_eq!(read(), "one");
        std::fs::write(dir.path().join("b.txt"), "two!").unwrap();
        assert_eq!(read(), "onetwo!");
        std::fs::remove_file(dir.path().join("A.txt")).unwrap();
        assert_eq!(read(), "two!");
    }
}
