//! The UIDs of the messages that clients see.
//!
//! A list is made of the snapshot when somebody walks it. How many UIDs there are, which is the last one, and where one would stand is known
//! without it: opening a mailbox costs the same for ten messages and for a million.
//!
//! Lists are shared by the mailbox and by every session that knows the same messages, and keep what they were when the mailbox goes on: until a
//! list is made it has a mapping of the snapshot of its own, in which UIDs never change, or shares the list that it was copied from. So a new
//! message costs the same in a small mailbox and in a large one. Of a small snapshot the list is made at once.

use super::snapshot::{Base, Records};
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A copy with more UIDs of its own than this is made into one list, which the next copies share.
const TAIL_MAX: usize = 1024;

/// UIDs in ascending order. As a slice it is made at the first use; the methods here do without.
#[derive(Default)]
pub struct Uids {
    /// Where the first ones are, as long as the list is not made.
    begin: Mutex<Option<Begin>>,
    begin_len: usize,
    /// Those behind them, as long as the list is not made.
    tail: Vec<u32>,
    all: OnceLock<Arc<Vec<u32>>>,
}

/// The first ones of a list that is not made.
#[derive(Clone)]
enum Begin {
    /// They are in a snapshot.
    Snapshot(Base),
    /// They are another list.
    List(Arc<Vec<u32>>),
}

impl Begin {
    fn at(&self, index: usize) -> Option<u32> {
        match self {
            Begin::Snapshot(base) => base.records().get(index).map(|record| record.uid.get()),
            Begin::List(list) => list.get(index).copied(),
        }
    }

    fn partition(&self, belongs: impl Fn(u32) -> bool) -> usize {
        match self {
            Begin::Snapshot(base) => base.records().partition_point(|record| belongs(record.uid.get())),
            Begin::List(list) => list.partition_point(|uid| belongs(*uid)),
        }
    }

    fn write(&self, to: &mut Vec<u32>) {
        match self {
            Begin::Snapshot(base) => to.extend(base.records().iter().map(|record| record.uid.get())),
            Begin::List(list) => to.extend_from_slice(list),
        }
    }
}

impl Uids {
    /// The UIDs of the records that are not removed.
    pub fn of(records: &Records) -> Uids {
        match records.unchanged() {
            Some((base, tail)) if records.totals().expunged == 0 => Uids {
                begin_len: base.records().len(),
                begin: Mutex::new(Some(Begin::Snapshot(base))),
                tail: tail.iter().map(|record| record.uid.get()).collect(),
                all: OnceLock::new(),
            },
            _ => records.live().map(|record| record.uid.get()).collect(),
        }
    }

    /// What the list is to be made of; `None` if it is made.
    fn begin(&self) -> Option<Begin> {
        self.begin.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.get().map_or(self.begin_len + self.tail.len(), |all| all.len())
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The one at `index`.
    pub fn at(&self, index: usize) -> Option<u32> {
        match self.begin() {
            None => self.get(index).copied(),
            Some(begin) => match index.checked_sub(self.begin_len) {
                None => begin.at(index),
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
        let Some(begin) = self.begin() else { return self.partition_point(|uid| belongs(*uid)) };
        match begin.partition(&belongs) {
            all if all == self.begin_len => all + self.tail.partition_point(|uid| belongs(*uid)),
            some => some,
        }
    }

    /// Adds one that is higher than all.
    pub fn push(&mut self, uid: u32) {
        match self.all.take().map(Arc::try_unwrap) {
            None => self.tail.push(uid),
            Some(Ok(mut own)) => {
                own.push(uid);
                self.all = OnceLock::from(Arc::new(own));
            }
            Some(Err(shared)) => *self = Uids { tail: vec![uid], ..Uids::behind(shared) },
        }
    }

    /// A list that is not made, of which this is all.
    fn behind(list: Arc<Vec<u32>>) -> Uids {
        Uids { begin_len: list.len(), begin: Mutex::new(Some(Begin::List(list))), ..Uids::default() }
    }

    fn make(&self) -> Arc<Vec<u32>> {
        let mut all = Vec::with_capacity(self.begin_len + self.tail.len());
        self.begin().iter().for_each(|begin| begin.write(&mut all));
        all.extend_from_slice(&self.tail);
        Arc::new(all)
    }

    /// The list, made.
    fn list(&self) -> &Arc<Vec<u32>> {
        if let Some(all) = self.all.get() {
            return all;
        }
        let all = self.all.get_or_init(|| self.make());
        // The mapping would count as our memory, and keep a snapshot that was replaced on the disk.
        *self.begin.lock().unwrap_or_else(PoisonError::into_inner) = None;
        all
    }
}

impl Deref for Uids {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        self.list()
    }
}

impl FromIterator<u32> for Uids {
    fn from_iter<I: IntoIterator<Item = u32>>(uids: I) -> Uids {
        Uids { all: OnceLock::from(Arc::new(uids.into_iter().collect::<Vec<_>>())), ..Uids::default() }
    }
}

impl Clone for Uids {
    fn clone(&self) -> Uids {
        match self.begin() {
            Some(begin) if self.tail.len() <= TAIL_MAX => Uids {
                begin: Mutex::new(Some(begin)),
                begin_len: self.begin_len,
                tail: self.tail.clone(),
                all: OnceLock::new(),
            },
            _ => Uids::behind(self.list().clone()),
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
            assert_eq!((is_made(&uids), is_made(&other)), (small, false));
            assert_list(&uids, &expected);

            assert_eq!(*uids, expected[..]);
            assert!(is_made(&uids) && uids.begin().is_none());
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

    /// However many messages are added while sessions share the list, it is copied once in a thousand.
    #[test]
    fn adding_to_a_shared_list_copies_what_was_added() {
        let mut expected = many();
        let mut uids: Arc<Uids> = Arc::new(expected.iter().copied().collect());
        let mut made = 0;
        for uid in 4000..4000 + 3 * TAIL_MAX as u32 {
            let shared = uids.clone();
            Arc::make_mut(&mut uids).push(uid);
            expected.push(uid);
            assert_eq!((uids.len(), shared.len()), (expected.len(), expected.len() - 1));
            made += usize::from(is_made(&shared) && shared.len() > many().len());
        }
        assert_eq!(made, 2);
        assert_list(&uids, &expected);
        assert_eq!(**uids, expected[..]);
    }
}
