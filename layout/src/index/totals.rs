//! What is known of all records of a mailbox together, so that opening it need not look at each.
//!
//! In a snapshot, directly behind the header's fields: the numbers of [`Totals`] in the order of its fields, u32 each, then a CRC-32 of the
//! header's own CRC and these numbers. A snapshot without this part, or with one that is damaged, has its records counted.

use crate::mbx::record::{Record, flag};
use zerocopy::byteorder::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Counts over the records of a mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Removed messages whose bytes are still in the file.
    pub expunged: usize,
    /// Messages that clients see and nobody has read.
    pub unseen: usize,
    /// Messages whose `Status` letter waits to be written.
    pub letters_due: usize,
    /// No record before this index is of an unseen message. The one at it need not be: marks that were set since are not looked for.
    pub unseen_from: usize,
}

/// As they stand in a snapshot.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub struct Stored {
    expunged: U32,
    unseen: U32,
    letters_due: U32,
    unseen_from: U32,
    crc: U32,
}

/// Is this a message that clients see and nobody has read?
pub fn is_unseen(record: &Record) -> bool {
    !record.has(flag::SEEN) && !record.has(flag::EXPUNGED)
}

impl Totals {
    /// Counts.
    pub fn of<'a>(records: impl Iterator<Item = &'a Record>) -> Totals {
        let mut totals = Totals { unseen_from: usize::MAX, ..Totals::default() };
        let mut count = 0;
        for record in records {
            totals.add(count, record);
            count += 1;
        }
        totals.unseen_from = totals.unseen_from.min(count);
        totals
    }

    /// Counts the record at `index` in.
    pub fn add(&mut self, index: usize, record: &Record) {
        self.expunged += usize::from(record.has(flag::EXPUNGED));
        self.letters_due += usize::from(record.letter_is_due());
        if is_unseen(record) {
            self.unseen += 1;
            self.unseen_from = self.unseen_from.min(index);
        }
    }

    /// Counts a record out, which is about to change.
    pub fn take(&mut self, record: &Record) {
        let less = |count: usize, one: bool| count.saturating_sub(usize::from(one));
        self.expunged = less(self.expunged, record.has(flag::EXPUNGED));
        self.letters_due = less(self.letters_due, record.letter_is_due());
        self.unseen = less(self.unseen, is_unseen(record));
    }

    /// The form for a snapshot whose header has this CRC.
    pub fn store(&self, header_crc: u32) -> Stored {
        let number = |number: usize| U32::new(number as u32);
        let mut stored = Stored {
            expunged: number(self.expunged),
            unseen: number(self.unseen),
            letters_due: number(self.letters_due),
            unseen_from: number(self.unseen_from),
            crc: U32::new(0),
        };
        stored.crc = U32::new(stored.checksum(header_crc));
        stored
    }
}

impl Stored {
    /// The counts, if they are whole, belong to the header of this CRC and fit so many records.
    pub fn open(&self, header_crc: u32, count: usize) -> Option<Totals> {
        let number = |number: U32| Some(number.get() as usize).filter(|number| *number <= count);
        let totals = Totals {
            expunged: number(self.expunged)?,
            unseen: number(self.unseen)?,
            letters_due: number(self.letters_due)?,
            unseen_from: number(self.unseen_from)?,
        };
        (self.crc.get() == self.checksum(header_crc)).then_some(totals)
    }

    fn checksum(&self, header_crc: u32) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&header_crc.to_le_bytes());
        hasher.update(Stored { crc: U32::new(0), ..*self }.as_bytes());
        hasher.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_belong_to_their_header_and_fit_the_records() {
        let totals = Totals { expunged: 1, unseen: 2, letters_due: 3, unseen_from: 4 };
        let stored = totals.store(7);
        assert_eq!(stored.open(7, 4), Some(totals));
        assert_eq!(stored.open(8, 4), None, "another header");
        assert_eq!(stored.open(7, 3), None, "fewer records");
        for at in 0..size_of::<Stored>() {
            let mut damaged = stored;
            damaged.as_mut_bytes()[at] ^= 1;
            assert_eq!(damaged.open(7, usize::MAX), None, "byte {at}");
        }
    }
}
