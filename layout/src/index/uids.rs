//! The UIDs of the messages that clients see.
//!
//! A list is made of the snapshot when somebody walks it. How many UIDs there are, which is the last one, and where one would stand is known
//! without it: opening a mailbox costs the same for ten messages and for a million.
//!
//! Lists are shared by the mailbox and by every session that knows the same messages, and keep what they were when the mailbox goes on: until a
//! list is made it has a mapping of the snapshot of its own, in which UIDs never change. Of a small snapshot the list is made at once.

use super::snapshot::{Base, Records};
use std::fmt;
use std::ops::Deref;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Room for so many new messages in a copy: who copies a list that sessions share is about to add to it.
const AHEAD: usize = 64;

/// UIDs in ascending order. As a slice it is made at the first use; the methods here do without.
#[derive(Default)]
pub struct Uids {
    /// Where the first ones are, as long as the list is not made.
    base: Mutex<Option<Base>>,
    base_len: usize,
    /// Those behind them, as long as the list is not made.
    tail: Vec<u32>,
    all: OnceLock<Vec<u32>>,
}

impl Uids {
    /// The UIDs of the records that are not removed.
    pub fn of(records: &Records) -> Uids {
        match records.unchanged() {
            Some((base, tail)) if records.totals().expunged == 0 => Uids {
                base_len: base.records().len(),
                base: Mutex::new(Some(base)),
                tail: tail.iter().map(|record| record.uid.get()).collect(),
                all: OnceLock::new(),
            },
            _ => records.live().map(|record| record.uid.get()).collect(),
        }
    }

    /// What the list is to be made of; `None` if it is made.
    fn base(&self) -> Option<Base> {
        self.base.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.get().map_or(self.base_len + self.tail.len(), Vec::len)
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The one at `index`.
    pub fn at(&self, index: usize) -> Option<u32> {
        match self.base() {
            None => self.get(index).copied(),
            Some(base) => match index.checked_sub(self.base_len) {
                None => base.records().get(index).map(|record| record.uid.get()),
                Some(index) => self.tail.get(index).copied(),
            },
        }
    }

    /// The highest.
    pub fn highest(&self) -> Option<u32> {
        self.at(self.len().checked_sub(1)?)
    }

    /// How many at the begin fulfil a condition that none behind them does.
    pub fn partition(&self, belongs: impl Fn(u32) -> bool) -> usize {
        let Some(base) = self.base() else { return self.partition_point(|uid| belongs(*uid)) };
        match base.records().partition_point(|record| belongs(record.uid.get())) {
            all if all == self.base_len => all + self.tail.partition_point(|uid| belongs(*uid)),
            some => some,
        }
    }

    /// Adds one that is higher than all.
    pub fn push(&mut self, uid: u32) {
        match self.all.get_mut() {
            Some(all) => all.push(uid),
            None => self.tail.push(uid),
        }
    }

    fn make(&self) -> Vec<u32> {
        let base = self.base();
        let in_base = base.iter().flat_map(|base| base.records()).map(|record| record.uid.get());
        let mut all = Vec::with_capacity(self.base_len + self.tail.len());
        all.extend(in_base);
        all.extend_from_slice(&self.tail);
        all
    }
}

impl Deref for Uids {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        if let Some(all) = self.all.get() {
            return all;
        }
        let all = self.all.get_or_init(|| self.make());
        // The mapping would count as our memory, and keep a snapshot that was replaced on the disk.
        *self.base.lock().unwrap_or_else(PoisonError::into_inner) = None;
        all
    }
}

impl FromIterator<u32> for Uids {
    fn from_iter<I: IntoIterator<Item = u32>>(uids: I) -> Uids {
        Uids { all: OnceLock::from(uids.into_iter().collect::<Vec<_>>()), ..Uids::default() }
    }
}

impl Clone for Uids {
    fn clone(&self) -> Uids {
        match self.base() {
            Some(base) => Uids {
                base: Mutex::new(Some(base)),
                base_len: self.base_len,
                tail: self.tail.clone(),
                all: OnceLock::new(),
            },
            None => {
                let mut all = Vec::with_capacity(self.len() + AHEAD);
                all.extend_from_slice(self);
                all.into_iter().collect()
            }
        }
    }
}

impl PartialEq for Uids {
    fn eq(&self, other: &Uids) -> bool {
        **self == **other
    }
}

impl fmt::Debug for Uids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk as _;
    use crate::disk::real::RealDisk;
    use crate::index::snapshot::{self, Meta};
    use crate::mbx::record::{Record, flag};
    use crate::path::TreePath;
    use zerocopy::FromBytes as _;
    use zerocopy::byteorder::little_endian::U32;

    fn record(uid: u32) -> Record {
        Record { uid: U32::new(uid), ..Record::read_from_bytes(&[0; 64]).unwrap() }
    }

    /// Records of a snapshot on the disk, with these UIDs.
    fn mapped(uids: &[u32]) -> Records {
        let dir = tempfile::tempdir().unwrap();
        let bytes =
            snapshot::write(&Meta::default(), &Records::from_vec(uids.iter().copied().map(record).collect()));
        std::fs::write(dir.path().join("main.rsx"), bytes).unwrap();
        let path = TreePath::base_of(dir.path()).join("main.rsx");
        snapshot::open(RealDisk::new().map(&path).unwrap()).unwrap().1
    }

    fn is_made(uids: &Uids) -> bool {
        uids.all.get().is_some()
    }

    /// So many that the snapshot is a large one.
    fn many() -> Vec<u32> {
        (1..=1100).map(|number| number * 3).collect()
    }

    #[track_caller]
    fn assert_list(uids: &Uids, expected: &[u32]) {
        assert_eq!((uids.len(), uids.is_empty()), (expected.len(), expected.is_empty()));
        assert_eq!(uids.highest(), expected.last().copied());
        for index in 0..expected.len() + 2 {
            assert_eq!(uids.at(index), expected.get(index).copied(), "{index}");
        }
        for bound in (0..8).chain(3290..3320) {
            let wanted = expected.partition_point(|uid| *uid < bound);
            assert_eq!(uids.partition(|uid| uid < bound), wanted, "{bound}");
        }
    }

    #[test]
    fn a_list_is_made_when_it_is_walked_and_is_the_same_before() {
        for (base, tail, small) in [
            (many(), &[3301, 3305][..], false),
            (many(), &[], false),
            (vec![5, 9], &[20], true),
            (vec![], &[7], true),
            (vec![], &[], true),
        ] {
            let mut records = mapped(&base);
            tail.iter().for_each(|uid| records.push(record(*uid)));
            let mut expected = [&base, tail].concat();
            let mut uids = Uids::of(&records);
            assert_list(&uids, &expected);
            uids.push(3310);
            expected.push(3310);
            let other = uids.clone();
            assert_eq!((is_made(&uids), is_made(&other)), (small, small));
            assert_list(&uids, &expected);

            assert_eq!(*uids, expected[..]);
            assert!(is_made(&uids) && uids.base().is_none());
            assert_list(&uids, &expected);
            assert_list(&other, &expected);
            uids.push(3311);
            assert_eq!(*other, expected[..]);
            expected.push(3311);
            assert_list(&uids, &expected);
            assert_eq!(*uids.clone(), expected[..]);
        }
    }

    #[test]
    fn a_list_stays_what_it_was_and_leaves_removed_messages_out() {
        let mut records = mapped(&many());
        let before = Uids::of(&records);
        records.change(1, |_| true, |record| record.set(flag::EXPUNGED, true));
        records.push(record(3333));
        let after = Uids::of(&records);
        assert!(!is_made(&before) && is_made(&after));
        drop(records);
        assert_eq!(*before, many()[..]);
        let mut expected = many();
        expected.remove(1);
        expected.push(3333);
        assert_eq!(*after, expected[..]);
    }
}
