//! Sets of message numbers (RFC 3501 §9, `sequence-set`): what FETCH, STORE, COPY and SEARCH name messages by.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;

/// One end of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// A message sequence number or UID.
    Number(NonZeroU32),
    /// `*`: the largest number in the mailbox.
    Last,
}

impl Bound {
    fn resolve(self, max: u32) -> u32 {
        match self {
            Bound::Number(number) => number.get(),
            Bound::Last => max,
        }
    }
}

/// A set as the client wrote it; it means nothing until the mailbox's largest number is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceSet {
    ranges: Vec<(Bound, Bound)>,
}

impl SequenceSet {
    /// A set of ranges, each with its ends in any order.
    pub fn new(ranges: Vec<(Bound, Bound)>) -> Self {
        SequenceSet { ranges }
    }

    /// Whether a sequence number in the set is larger than `max`, the number of messages: RFC 3501 §9 makes that an
    /// error (`BAD`). A range with `*` is let pass, so that `1:*` finds nothing in an empty mailbox and does not fail.
    /// Not to be asked of UIDs, where numbers without a message are ignored.
    pub fn exceeds(&self, max: u32) -> bool {
        self.ranges.iter().any(|&(start, end)| {
            start != Bound::Last && end != Bound::Last && start.resolve(max).max(end.resolve(max)) > max
        })
    }

    /// The numbers of the set in a mailbox whose largest number is `max` (0: the mailbox is empty). Numbers above
    /// `max` are left out; `*` and `n:*` hold `max` always, even when `n` is larger (RFC 3501 §6.4.8).
    pub fn resolve(&self, max: u32) -> Numbers {
        let mut ranges: Vec<(u32, u32)> = self
            .ranges
            .iter()
            .map(|&(start, end)| (start.resolve(max), end.resolve(max)))
            .map(|(start, end)| (start.min(end).max(1), start.max(end).min(max)))
            .filter(|(start, end)| start <= end)
            .collect();
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (start, end) in ranges {
            match merged.last_mut() {
                Some(last) if start <= last.1.saturating_add(1) => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        Numbers { ranges: merged }
    }
}

/// The numbers that a set means in one mailbox: ascending ranges that do not touch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Numbers {
    ranges: Vec<(u32, u32)>,
}

impl Numbers {
    /// Whether the number is in the set; logarithmic in the count of ranges.
    pub fn contains(&self, number: u32) -> bool {
        let after = self.ranges.partition_point(|&(start, _)| start <= number);
        after.checked_sub(1).and_then(|index| self.ranges.get(index)).is_some_and(|&(_, end)| number <= end)
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many numbers the set holds.
    pub fn count(&self) -> u64 {
        self.ranges.iter().map(|&(start, end)| u64::from(end - start) + 1).sum()
    }

    /// The ranges, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = RangeInclusive<u32>> + '_ {
        self.ranges.iter().map(|&(start, end)| start..=end)
    }

    /// The numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.ranges().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[(u32, u32)]) -> SequenceSet {
        let bound = |number| NonZeroU32::new(number).map_or(Bound::Last, Bound::Number);
        SequenceSet::new(ranges.iter().map(|&(start, end)| (bound(start), bound(end))).collect())
    }

    /// 0 stands for `*`.
    #[test]
    fn resolves_against_the_largest_number() {
        type Case = (&'static [(u32, u32)], u32, &'static [u32]);
        let cases: [Case; 10] = [
            (&[(2, 4)], 10, &[2, 3, 4]),
            (&[(4, 2)], 10, &[2, 3, 4]),
            (&[(2, 4), (3, 5), (6, 6)], 10, &[2, 3, 4, 5, 6]),
            (&[(5, 5), (1, 1)], 10, &[1, 5]),
            (&[(8, 0)], 10, &[8, 9, 10]),
            (&[(0, 8)], 10, &[8, 9, 10]),
            (&[(559, 0)], 10, &[10]),
            (&[(0, 0)], 10, &[10]),
            (&[(9, 20), (11, 12)], 10, &[9, 10]),
            (&[(1, 0), (0, 0), (3, 4)], 0, &[]),
        ];
        for (ranges, max, expected) in cases {
            let numbers = set(ranges).resolve(max);
            assert_eq!(numbers.iter().collect::<Vec<_>>(), expected, "{ranges:?} of {max}");
            assert_eq!(numbers.count(), expected.len() as u64);
            for number in 0..30 {
                assert_eq!(numbers.contains(number), expected.contains(&number), "{number} in {ranges:?}");
            }
        }
    }

    #[test]
    fn tells_numbers_that_do_not_exist() {
        assert!(set(&[(1, 11)]).exceeds(10));
        assert!(set(&[(11, 11)]).exceeds(10));
        assert!(!set(&[(1, 10)]).exceeds(10));
        assert!(!set(&[(1, 0)]).exceeds(0));
    }

    #[test]
    fn the_whole_number_space_costs_nothing() {
        let numbers = set(&[(1, u32::MAX)]).resolve(u32::MAX);
        assert_eq!(numbers.count(), u64::from(u32::MAX));
        assert!(numbers.contains(u32::MAX));
    }
}
