//! The journal, `<name>.rsj`: what changed since the snapshot.
//!
//! ```text
//! file header   "RSJ1\r\n\x1a\n"  generation u64  crc u32        20 bytes
//! frame         length u32  kind u8  crc u32  payload[length]     little-endian; the CRC covers kind and payload
//! ```
//!
//! A frame is written with one call. A reader stops at the first frame that is cut or whose checksum is wrong; the next writer,
//! who holds the mailbox's lock, cuts the file there. The journal of generation g belongs to the snapshot of generation g; an
//! older one is already contained in its snapshot (a crash came between the two renames of a checkpoint). Generation 0 needs no snapshot.
//!
//! # Failure
//! Reading never fails: what cannot be read is not there.

use crate::disk::Stamp;
use crate::mbx::record::Record;
use zerocopy::{FromBytes as _, IntoBytes as _};

const MAGIC: &[u8; 8] = b"RSJ1\r\n\x1a\n";
/// Bytes before the first frame.
pub const HEADER: usize = 20;
const FRAME: usize = 9;
/// Frames that remove mail carry this word, so that no damaged byte can turn another frame into one.
const EXPUNGE_WORD: u32 = 0x6578_7021;

/// Marks one delivery, so that a repeated one is recognized: spool id, and hash of the recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u64, pub u64);

/// UIDs from first to last, both included.
pub type Range = (u32, u32);

/// The mailbox file's stamp, and when it was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The stamp.
    pub stamp: Stamp,
    /// When, in nanoseconds since 1970.
    pub taken: i64,
}

/// One frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// Messages are about to be appended. Synced before the mailbox is touched; counts when [`Entry::Done`] follows, or when the
    /// bytes turn out to be there.
    Append {
        /// Length of the mailbox file before.
        base: u64,
        /// Its inode.
        inode: u64,
        /// Bytes that are appended.
        total: u64,
        /// Their CRC-32.
        crc: u32,
        /// When, Unix seconds: how long the tokens are remembered.
        time: u32,
        /// What is delivered.
        tokens: Vec<Token>,
        /// Where the messages will be.
        records: Vec<Record>,
    },
    /// The bytes of the last `Append` are in the file, which looks like this now.
    Done(Seen),
    /// The last `Append` did not happen.
    Abort,
    /// Another program appended these.
    Found(Seen, Vec<Record>),
    /// Flags and keywords changed.
    Flags {
        /// The change's number.
        modseq: u64,
        /// Bits to set.
        set: u32,
        /// Bits to clear, before setting.
        clear: u32,
        /// Keyword bits to set.
        set_keywords: u32,
        /// Keyword bits to clear, before setting.
        clear_keywords: u32,
        /// Whose.
        uids: Vec<Range>,
    },
    /// `Status` letters in the file now say what the flags say, for these.
    Letters(Seen, Vec<Range>),
    /// The next keyword of the table.
    Keyword(String),
    /// Removed for all clients.
    Expunge {
        /// The change's number.
        modseq: u64,
        /// Whose.
        uids: Vec<Range>,
    },
    /// UIDs up to this one are no longer recent.
    Recent(u32),
}

/// The first bytes of a journal.
pub fn header(generation: u64) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&generation.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

/// The generation of a journal, if its header is whole.
pub fn generation(bytes: &[u8]) -> Option<u64> {
    let generation = u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
    (bytes.get(..HEADER)? == header(generation)).then_some(generation)
}

/// The frame of an entry.
pub fn frame(entry: &Entry) -> Vec<u8> {
    let mut out = Out(vec![0; FRAME]);
    let kind = out.entry(entry);
    let Out(mut bytes) = out;
    let length = (bytes.len() - FRAME) as u32;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes[4] = kind;
    let crc = checksum(kind, &bytes[FRAME..]);
    bytes[5..9].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn checksum(kind: u8, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(payload);
    hasher.finalize()
}

/// The whole frames of `bytes`, which begin at a frame, and how many bytes they take.
pub fn read(bytes: &[u8]) -> (Vec<Entry>, usize) {
    let mut entries = Vec::new();
    let mut at = 0;
    while let Some((entry, length)) = read_one(&bytes[at..]) {
        entries.push(entry);
        at += length;
    }
    (entries, at)
}

fn read_one(bytes: &[u8]) -> Option<(Entry, usize)> {
    let length = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = *bytes.get(4)?;
    let crc = u32::from_le_bytes(bytes.get(5..9)?.try_into().ok()?);
    let payload = bytes.get(FRAME..FRAME.checked_add(length)?)?;
    if checksum(kind, payload) != crc {
        return None;
    }
    let mut input = In(payload);
    let entry = input.entry(kind)?;
    input.0.is_empty().then_some((entry, FRAME + length))
}

struct Out(Vec<u8>);

impl Out {
    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    fn seen(&mut self, seen: &Seen) {
        let stamp = &seen.stamp;
        [stamp.device, stamp.inode, stamp.size].into_iter().for_each(|n| self.u64(n));
        [stamp.modified, stamp.changed, seen.taken].into_iter().for_each(|n| self.u64(n as u64));
    }
    fn records(&mut self, records: &[Record]) {
        self.u32(records.len() as u32);
        self.0.extend_from_slice(records.as_bytes());
    }
    fn ranges(&mut self, ranges: &[Range]) {
        self.u32(ranges.len() as u32);
        for (first, last) in ranges {
            self.u32(*first);
            self.u32(*last);
        }
    }

    fn entry(&mut self, entry: &Entry) -> u8 {
        match entry {
            Entry::Append { base, inode, total, crc, time, tokens, records } => {
                [*base, *inode, *total].into_iter().for_each(|n| self.u64(n));
                self.u32(*crc);
                self.u32(*time);
                self.u32(tokens.len() as u32);
                for token in tokens {
                    self.u64(token.0);
                    self.u64(token.1);
                }
                self.records(records);
                1
            }
            Entry::Done(seen) => {
                self.seen(seen);
                2
            }
            Entry::Abort => 3,
            Entry::Found(seen, records) => {
                self.seen(seen);
                self.records(records);
                4
            }
            Entry::Flags { modseq, set, clear, set_keywords, clear_keywords, uids } => {
                self.u64(*modseq);
                [*set, *clear, *set_keywords, *clear_keywords].into_iter().for_each(|n| self.u32(n));
                self.ranges(uids);
                5
            }
            Entry::Letters(seen, uids) => {
                self.seen(seen);
                self.ranges(uids);
                6
            }
            Entry::Keyword(name) => {
                self.0.extend_from_slice(name.as_bytes());
                7
            }
            Entry::Expunge { modseq, uids } => {
                self.u32(EXPUNGE_WORD);
                self.u64(*modseq);
                self.ranges(uids);
                8
            }
            Entry::Recent(mark) => {
                self.u32(*mark);
                9
            }
        }
    }
}

struct In<'a>(&'a [u8]);

impl In<'_> {
    fn take(&mut self, n: usize) -> Option<&[u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }
    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }
    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }
    fn seen(&mut self) -> Option<Seen> {
        let stamp = Stamp {
            device: self.u64()?,
            inode: self.u64()?,
            size: self.u64()?,
            modified: self.u64()? as i64,
            changed: self.u64()? as i64,
        };
        Some(Seen { stamp, taken: self.u64()? as i64 })
    }
    fn records(&mut self) -> Option<Vec<Record>> {
        let count = self.u32()? as usize;
        let bytes = self.take(count.checked_mul(size_of::<Record>())?)?;
        Some(<[Record]>::ref_from_bytes(bytes).ok()?.to_vec())
    }
    fn ranges(&mut self) -> Option<Vec<Range>> {
        let count = self.u32()? as usize;
        if count > self.0.len() / 8 {
            return None;
        }
        (0..count).map(|_| Some((self.u32()?, self.u32()?))).collect()
    }

    fn entry(&mut self, kind: u8) -> Option<Entry> {
        Some(match kind {
            1 => {
                let (base, inode, total) = (self.u64()?, self.u64()?, self.u64()?);
                let (crc, time) = (self.u32()?, self.u32()?);
                let count = self.u32()? as usize;
                if count > self.0.len() / 16 {
                    return None;
                }
                let tokens =
                    (0..count).map(|_| Some(Token(self.u64()?, self.u64()?))).collect::<Option<_>>()?;
                Entry::Append { base, inode, total, crc, time, tokens, records: self.records()? }
            }
            2 => Entry::Done(self.seen()?),
            3 => Entry::Abort,
            4 => Entry::Found(self.seen()?, self.records()?),
            5 => Entry::Flags {
                modseq: self.u64()?,
                set: self.u32()?,
                clear: self.u32()?,
                set_keywords: self.u32()?,
                clear_keywords: self.u32()?,
                uids: self.ranges()?,
            },
            6 => Entry::Letters(self.seen()?, self.ranges()?),
            7 => Entry::Keyword(String::from_utf8(std::mem::take(&mut self.0).to_vec()).ok()?),
            8 if self.u32()? == EXPUNGE_WORD => Entry::Expunge { modseq: self.u64()?, uids: self.ranges()? },
            9 => Entry::Recent(self.u32()?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entries() -> Vec<Entry> {
        let record = Record::read_from_bytes(&[7; 64]).unwrap();
        let stamp = Stamp { device: 1, inode: 2, size: 3, modified: -4, changed: 5 };
        let seen = Seen { stamp, taken: 6 };
        vec![
            Entry::Keyword("$Work".into()),
            Entry::Append {
                base: 1,
                inode: 2,
                total: 3,
                crc: 4,
                time: 5,
                tokens: vec![Token(1, 2), Token(3, 4)],
                records: vec![record, record],
            },
            Entry::Done(seen),
            Entry::Abort,
            Entry::Found(seen, vec![record]),
            Entry::Flags {
                modseq: 1,
                set: 2,
                clear: 3,
                set_keywords: 4,
                clear_keywords: 5,
                uids: vec![(1, 2), (9, 9)],
            },
            Entry::Letters(seen, vec![(1, 1)]),
            Entry::Expunge { modseq: 8, uids: vec![(3, 4)] },
            Entry::Recent(9),
        ]
    }

    #[test]
    fn frames_come_back_and_a_cut_or_damaged_one_ends_the_reading() {
        let all: Vec<u8> = entries().iter().flat_map(frame).collect();
        assert_eq!(read(&all), (entries(), all.len()));
        for cut in 0..all.len() {
            let (found, length) = read(&all[..cut]);
            assert!(length <= cut && found[..] == entries()[..found.len()] && found.len() < entries().len());
        }
        for at in 0..all.len() {
            let mut damaged = all.clone();
            damaged[at] ^= 0x40;
            let (found, _) = read(&damaged);
            assert!(found.len() < entries().len() && found[..] == entries()[..found.len()], "byte {at}");
        }
    }

    #[test]
    fn headers() {
        assert_eq!(generation(&header(7)), Some(7));
        assert_eq!(header(7).len(), HEADER);
        assert_eq!(generation(b"RSJ1"), None);
        assert_eq!(generation(&[0; HEADER]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let (_, length) = read(&bytes);
            prop_assert!(length <= bytes.len());
        }
    }
}
