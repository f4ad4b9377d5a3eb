//! The snapshot, `<name>.rsx`: one [`Record`] a message, in the order of the file.
//!
//! ```text
//! 0     header, 256 bytes (Header below, [`super::totals`], the rest zero)
//! 256   records, 64 bytes each
//! ...   keyword names, each with a byte of length in front
//! ...   delivery tokens, 20 bytes each: spool id u64, recipient u64, Unix time u32
//! ...   the last removals, see [`super::removals`]
//! ```
//!
//! A snapshot is replaced whole and never changed in place, so it can be mapped: opening one costs the same for ten messages and
//! for a million. The mapping is private; changes of flags are made in it and never reach the file.
//!
//! # Failure
//! A snapshot that is not whole and consistent is not there: [`open`] answers `None`.

use super::journal::{Seen, Token};
use super::removals::Removals;
use super::totals::{Stored, Totals, is_unseen};
use crate::disk::{Private, Stamp};
use crate::limits::{KEYWORDS_MAX, MESSAGES_MAX};
use crate::mbx::record::{Record, flag};
use crate::mbx::separator::Dialect;
use std::sync::Arc;
use zerocopy::byteorder::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const MAGIC: [u8; 8] = *b"RSX1\r\n\x1a\n";
const HEADER: usize = 256;
const RECORD: usize = size_of::<Record>();
const TOKEN: usize = 20;
/// Where the totals stand.
const TOTALS: usize = size_of::<Header>();

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    generation: U64,
    count: U64,
    modseq: U64,
    end: U64,
    device: U64,
    inode: U64,
    size: U64,
    modified: I64,
    changed: I64,
    taken: I64,
    uid_next: U32,
    uidl_max: U32,
    recent: U32,
    keywords: U32,
    tokens: U32,
    classic: U32,
    records_crc: U32,
    header_crc: U32,
}

/// Everything of a snapshot but its records.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    /// Counts checkpoints.
    pub generation: u64,
    /// The highest change number.
    pub modseq: u64,
    /// Where the last complete message ends.
    pub end: u64,
    /// What the mailbox file looked like.
    pub seen: Seen,
    /// The UID that the next message gets at least.
    pub uid_next: u32,
    /// The highest `X-UIDL` number in the file.
    pub uidl_max: u32,
    /// UIDs up to this one are no longer recent.
    pub recent: u32,
    /// How messages are told apart.
    pub dialect: Dialect,
    /// The names of the keyword bits.
    pub keywords: Vec<String>,
    /// Deliveries of the last day, with their Unix time.
    pub tokens: Vec<(Token, u32)>,
    /// The last removals.
    pub removals: Removals,
}

impl Default for Meta {
    fn default() -> Meta {
        Meta {
            generation: 0,
            modseq: 1,
            end: 0,
            seen: Seen::default(),
            uid_next: 1,
            uidl_max: 0,
            recent: 0,
            dialect: Dialect::Bracket,
            keywords: Vec::new(),
            tokens: Vec::new(),
            removals: Removals::default(),
        }
    }
}

/// The records of a mailbox: those of the snapshot, and those that came later.
#[derive(Default)]
pub struct Records {
    base: Option<Private>,
    base_count: usize,
    tail: Vec<Record>,
    totals: Totals,
    /// How often [`Records::change`] changed one.
    changes: usize,
}

/// The records of a snapshot as they are in the file.
#[derive(Clone)]
pub struct Base {
    bytes: Arc<memmap2::Mmap>,
    count: usize,
}

impl Base {
    /// All of them.
    pub fn records(&self) -> &[Record] {
        records_in(&self.bytes, self.count)
    }
}

fn records_in(bytes: &[u8], count: usize) -> &[Record] {
    let bytes = bytes.get(HEADER..HEADER + count * RECORD);
    bytes.and_then(|bytes| <[Record]>::ref_from_bytes(bytes).ok()).unwrap_or_default()
}

impl Records {
    /// Records in memory.
    pub fn from_vec(tail: Vec<Record>) -> Records {
        let totals = Totals::of(tail.iter());
        Records { tail, totals, ..Records::default() }
    }

    fn base(&self) -> &[Record] {
        self.base.as_deref().map_or(&[], |base| records_in(base, self.base_count))
    }

    /// The records of the snapshot without the changes that were made since, and those that came later; `None` without a snapshot that is mapped.
    pub fn unchanged(&self) -> Option<(Base, &[Record])> {
        let bytes = self.base.as_ref()?.unchanged()?;
        Some((Base { bytes, count: self.base_count }, &self.tail))
    }

    /// What is known of all of them together.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// How many there are, removed ones included.
    pub fn len(&self) -> usize {
        self.base_count + self.tail.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The record at `index`.
    pub fn get(&self, index: usize) -> Option<&Record> {
        match index.checked_sub(self.base_count) {
            None => self.base().get(index),
            Some(index) => self.tail.get(index),
        }
    }

    /// Changes the record at `index`, if there is one and `wanted` holds for it. Says whether that was so.
    pub fn change(
        &mut self,
        index: usize,
        wanted: impl FnOnce(&Record) -> bool,
        change: impl FnOnce(&mut Record),
    ) -> bool {
        let record = match index.checked_sub(self.base_count) {
            Some(index) => self.tail.get_mut(index),
            None => {
                let begin = HEADER + index * RECORD;
                let bytes = self.base.as_deref_mut().and_then(|base| base.get_mut(begin..begin + RECORD));
                bytes.and_then(|bytes| Record::mut_from_bytes(bytes).ok())
            }
        };
        let Some(record) = record.filter(|record| wanted(record)) else { return false };
        self.totals.take(record);
        change(record);
        self.totals.add(index, record);
        self.changes += 1;
        true
    }

    /// How many changes were made to the records since they were read. Whoever opens the mailbox makes them again, and meanwhile they take memory.
    pub fn changes(&self) -> usize {
        self.changes
    }

    /// All records in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Record> + Clone {
        self.base().iter().chain(self.tail.iter())
    }

    /// Those of messages that clients see.
    pub fn live(&self) -> impl DoubleEndedIterator<Item = &Record> + Clone {
        self.iter().filter(|record| !record.has(flag::EXPUNGED))
    }

    /// The index of the first record of a message that clients see and nobody has read.
    pub fn first_unseen(&mut self) -> Option<usize> {
        let from = self.totals.unseen_from;
        let found = match self.totals.unseen {
            0 => None,
            _ => self.iter().skip(from).position(is_unseen).map(|more| from + more),
        };
        self.totals.unseen_from = found.unwrap_or(self.len());
        found
    }

    /// Adds one at the end.
    pub fn push(&mut self, record: Record) {
        self.totals.add(self.len(), &record);
        self.tail.push(record);
    }

    /// The index of the first record whose UID is not below `uid`.
    pub fn lower_bound(&self, uid: u32) -> usize {
        let base = self.base();
        let in_base = base.partition_point(|record| record.uid.get() < uid);
        if in_base < base.len() {
            return in_base;
        }
        self.base_count + self.tail.partition_point(|record| record.uid.get() < uid)
    }

    /// The index of the record with this UID.
    pub fn find(&self, uid: u32) -> Option<usize> {
        let index = self.lower_bound(uid);
        (self.get(index)?.uid.get() == uid).then_some(index)
    }
}

/// Reads a snapshot.
pub fn open(bytes: Private) -> Option<(Meta, Records)> {
    let (header, _) = Header::read_from_prefix(&bytes).ok()?;
    if header.magic != MAGIC || header_crc(&header) != header.header_crc.get() {
        return None;
    }
    let count = usize::try_from(header.count.get()).ok().filter(|count| *count <= MESSAGES_MAX)?;
    let (keywords_len, tokens) = (header.keywords.get() as usize, header.tokens.get() as usize);
    let names_at = HEADER + count * RECORD;
    let tokens_at = names_at.checked_add(keywords_len)?;
    let removals_at = tokens_at.checked_add(tokens.checked_mul(TOKEN)?)?;
    let removals = match bytes.get(removals_at..)? {
        [] => Removals::unknown_until(header.modseq.get()),
        removals => Removals::parse(removals)?,
    };
    let meta = Meta {
        generation: header.generation.get(),
        modseq: header.modseq.get(),
        end: header.end.get(),
        seen: Seen {
            stamp: Stamp {
                device: header.device.get(),
                inode: header.inode.get(),
                size: header.size.get(),
                modified: header.modified.get(),
                changed: header.changed.get(),
            },
            taken: header.taken.get(),
        },
        uid_next: header.uid_next.get(),
        uidl_max: header.uidl_max.get(),
        recent: header.recent.get(),
        dialect: if header.classic.get() == 0 { Dialect::Bracket } else { Dialect::Classic },
        keywords: read_keywords(bytes.get(names_at..tokens_at)?)?,
        tokens: bytes.get(tokens_at..removals_at)?.chunks_exact(TOKEN).filter_map(read_token).collect(),
        removals,
    };
    let totals = stored_totals(&bytes).and_then(|totals| totals.open(header.header_crc.get(), count));
    let totals = totals.unwrap_or_else(|| Totals::of(records_in(&bytes, count).iter()));
    Some((meta, Records { base: Some(bytes), base_count: count, totals, ..Records::default() }))
}

/// The bytes of a snapshot.
pub fn write(meta: &Meta, records: &Records) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes.reserve(records.len() * RECORD);
    bytes.extend_from_slice(records.base().as_bytes());
    bytes.extend_from_slice(records.tail.as_bytes());
    let names_at = bytes.len();
    for name in &meta.keywords {
        bytes.push(name.len() as u8);
        bytes.extend_from_slice(name.as_bytes());
    }
    let tokens_at = bytes.len();
    for (token, time) in &meta.tokens {
        bytes.extend_from_slice(&token.0.to_le_bytes());
        bytes.extend_from_slice(&token.1.to_le_bytes());
        bytes.extend_from_slice(&time.to_le_bytes());
    }
    meta.removals.write(&mut bytes);
    let stamp = &meta.seen.stamp;
    let mut header = Header {
        magic: MAGIC,
        generation: U64::new(meta.generation),
        count: U64::new(records.len() as u64),
        modseq: U64::new(meta.modseq),
        end: U64::new(meta.end),
        device: U64::new(stamp.device),
        inode: U64::new(stamp.inode),
        size: U64::new(stamp.size),
        modified: I64::new(stamp.modified),
        changed: I64::new(stamp.changed),
        taken: I64::new(meta.seen.taken),
        uid_next: U32::new(meta.uid_next),
        uidl_max: U32::new(meta.uidl_max),
        recent: U32::new(meta.recent),
        keywords: U32::new((tokens_at - names_at) as u32),
        tokens: U32::new(meta.tokens.len() as u32),
        classic: U32::new(u32::from(meta.dialect == Dialect::Classic)),
        records_crc: U32::new(crc32fast::hash(&bytes[HEADER..names_at])),
        header_crc: U32::new(0),
    };
    header.header_crc = U32::new(header_crc(&header));
    bytes[..TOTALS].copy_from_slice(header.as_bytes());
    let totals = records.totals.store(header.header_crc.get());
    bytes[TOTALS..TOTALS + size_of::<Stored>()].copy_from_slice(totals.as_bytes());
    bytes
}

fn stored_totals(bytes: &[u8]) -> Option<Stored> {
    Some(Stored::read_from_prefix(bytes.get(TOTALS..HEADER)?).ok()?.0)
}

/// Are the records what was written? Opening does not look at each; checking tools do.
pub fn verify(bytes: &[u8]) -> bool {
    let Ok((header, _)) = Header::read_from_prefix(bytes) else { return false };
    let end = HEADER.checked_add((header.count.get() as usize).saturating_mul(RECORD));
    let records = end.and_then(|end| bytes.get(HEADER..end));
    records.is_some_and(|records| crc32fast::hash(records) == header.records_crc.get())
}

fn header_crc(header: &Header) -> u32 {
    crc32fast::hash(Header { header_crc: U32::new(0), ..*header }.as_bytes())
}

fn read_keywords(mut bytes: &[u8]) -> Option<Vec<String>> {
    let mut keywords = Vec::new();
    while let Some((length, rest)) = bytes.split_first() {
        let (name, rest) = rest.split_at_checked(usize::from(*length))?;
        keywords.push(String::from_utf8(name.to_vec()).ok()?);
        bytes = rest;
    }
    (keywords.len() <= KEYWORDS_MAX).then_some(keywords)
}

fn read_token(bytes: &[u8]) -> Option<(Token, u32)> {
    let number = |range: std::ops::Range<usize>| Some(u64::from_le_bytes(bytes.get(range)?.try_into().ok()?));
    let time = u32::from_le_bytes(bytes.get(16..20)?.try_into().ok()?);
    Some((Token(number(0..8)?, number(8..16)?), time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> (Meta, Records) {
        let records = (1..=5u32)
            .map(|uid| Record { uid: U32::new(uid * 10), ..Record::read_from_bytes(&[3; 64]).unwrap() });
        let meta = Meta {
            generation: 3,
            uid_next: 99,
            keywords: vec!["$Work".into(), "b".into()],
            tokens: vec![(Token(1, 2), 3)],
            dialect: Dialect::Classic,
            ..Meta::default()
        };
        (meta, Records::from_vec(records.collect()))
    }

    #[test]
    fn a_snapshot_comes_back() {
        let (meta, records) = sample();
        let bytes = write(&meta, &records);
        assert!(verify(&bytes));
        let (read, mut back) = open(Private::Owned(bytes)).unwrap();
        assert_eq!(read, meta);
        assert!(back.iter().eq(records.iter()));
        back.push(Record { uid: U32::new(60), ..*records.get(0).unwrap() });
        assert_eq!([5, 10, 11, 50, 55, 60, 61].map(|uid| back.lower_bound(uid)), [0, 0, 1, 4, 5, 5, 6]);
        assert_eq!((back.find(30), back.find(31), back.find(60)), (Some(2), None, Some(5)));
        for index in [1, 5, 6] {
            let changed = back.change(index, |_| true, |record| record.set(1 << 30, true));
            assert_eq!(changed, index < 6, "{index}");
        }
        assert!(back.get(1).unwrap().has(1 << 30) && back.get(5).unwrap().has(1 << 30));
        assert_eq!(open(Private::Owned(write(&read, &back))).unwrap().1.len(), 6);
    }

    #[test]
    fn a_damaged_or_cut_snapshot_is_none() {
        let (meta, records) = sample();
        let bytes = write(&meta, &records);
        let mut removals = Vec::new();
        meta.removals.write(&mut removals);
        // Without its last part it is one that remembers no removals.
        for cut in (0..bytes.len()).filter(|cut| *cut != bytes.len() - removals.len()) {
            assert!(open(Private::Owned(bytes[..cut].to_vec())).is_none());
        }
        for at in 0..TOTALS + size_of::<Stored>() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            let opened = open(Private::Owned(damaged));
            assert_eq!(opened.is_some(), at >= TOTALS, "byte {at}");
            // Damaged totals are counted again.
            assert!(opened.is_none_or(|(_, opened)| opened.totals() == records.totals()), "byte {at}");
        }
    }

    #[test]
    fn changes_keep_the_totals_right() {
        let record =
            Record { flags: U32::new(flag::HAS_LETTER), ..Record::read_from_bytes(&[0; 64]).unwrap() };
        let mut records = Records::from_vec(vec![record; 4]);
        let counted = |records: &Records| {
            let totals = *records.totals();
            assert_eq!(Totals { unseen_from: totals.unseen_from, ..Totals::of(records.iter()) }, totals);
            [totals.expunged, totals.unseen, totals.letters_due]
        };
        assert_eq!((counted(&records), records.first_unseen()), ([0, 4, 0], Some(0)));
        for (index, bits, on, expected, first) in [
            (0, flag::SEEN, true, [0, 3, 1], Some(1)),
            (0, flag::LETTER_READ, true, [0, 3, 0], Some(1)),
            (1, flag::EXPUNGED, true, [1, 2, 0], Some(2)),
            (3, flag::SEEN, true, [1, 1, 1], Some(2)),
            (2, flag::SEEN, true, [1, 0, 2], None),
            (2, flag::EXPUNGED, true, [2, 0, 1], None),
            (0, flag::SEEN, false, [2, 1, 2], Some(0)),
        ] {
            assert!(records.change(index, |_| true, |record| record.set(bits, on)));
            assert_eq!((counted(&records), records.first_unseen()), (expected, first), "{index} {bits} {on}");
        }
        records.push(record);
        assert_eq!(counted(&records), [2, 2, 2]);
        let (_, opened) = open(Private::Owned(write(&Meta::default(), &records))).unwrap();
        assert_eq!(opened.totals(), records.totals());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(open(Private::Owned(bytes)).is_none());
        }
    }
}
