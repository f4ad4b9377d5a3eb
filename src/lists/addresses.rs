//! Very many addresses in little memory: those of a large list, or of a group.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

/// Addresses in their order, one line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    lines: String,
    count: usize,
}

impl Addresses {
    /// Adds one. A line end in it, which no address has, is left out.
    pub fn push(&mut self, address: &str) {
        self.lines.extend(address.chars().filter(|c| *c != '\n'));
        self.lines.push('\n');
        self.count += 1;
    }

    /// Adds all of these.
    pub fn append(&mut self, others: &Addresses) {
        self.lines.push_str(&others.lines);
        self.count += others.count;
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.lines.split_terminator('\n')
    }
}

impl<T: AsRef<str>> FromIterator<T> for Addresses {
    fn from_iter<I: IntoIterator<Item = T>>(all: I) -> Addresses {
        let mut addresses = Addresses::default();
        all.into_iter().for_each(|address| addresses.push(address.as_ref()));
        addresses
    }
}

/// Texts that were seen. Their hashes have 128 bits and keys that nobody knows, so nobody can find two that are taken for the same.
#[derive(Default)]
pub struct Seen {
    keys: [RandomState; 2],
    hashes: HashSet<[u64; 2]>,
}

impl Seen {
    /// Notes a text; answers whether it is new.
    pub fn insert(&mut self, text: &str) -> bool {
        self.hashes.insert([self.keys[0].hash_one(text), self.keys[1].hash_one(text)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let mut all: Addresses = ["a@x", "", "b\n@y"].iter().collect();
        assert_eq!((all.len(), all.is_empty()), (3, false));
        all.append(&["c@z"].iter().collect());
        assert_eq!(all.iter().collect::<Vec<_>>(), ["a@x", "", "b@y", "c@z"]);
        assert_eq!(all.len(), 4);
        assert_eq!(Addresses::default().iter().count(), 0);
    }

    #[test]
    fn each_is_new_once() {
        let mut seen = Seen::default();
        let all: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        assert_eq!(all.iter().chain(&all).filter(|text| seen.insert(text)).count(), all.len());
    }
}
