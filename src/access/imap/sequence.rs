//! Sets of message numbers (RFC 3501 §9, `sequence-set`): what FETCH, STORE, COPY and SEARCH name messages by.

use crate::message::string::number;
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
    saved: bool,
}

impl SequenceSet {
    /// A set of ranges, each with its ends in any order.
    pub fn new(ranges: Vec<(Bound, Bound)>) -> Self {
        SequenceSet { ranges, saved: false }
    }

    /// `$`: the result of the last search that was kept (RFC 5182).
    pub fn saved() -> Self {
        SequenceSet { ranges: Vec::new(), saved: true }
    }

    /// Is this `$`?
    pub fn is_saved(&self) -> bool {
        self.saved
    }

    /// The numbers in the order in which they are written, at most `max`; `None` if there are more, or `*` among them.
    pub fn listed(&self, max: usize) -> Option<Vec<u32>> {
        let mut numbers = Vec::new();
        for (start, end) in &self.ranges {
            let (Bound::Number(start), Bound::Number(end)) = (start, end) else { return None };
            let (start, end) = (start.get().min(end.get()), start.get().max(end.get()));
            if (end - start) as usize >= max - numbers.len() {
                return None;
            }
            numbers.extend(start..=end);
        }
        Some(numbers)
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
        let ranges: Vec<(u32, u32)> = self
            .ranges
            .iter()
            .map(|&(start, end)| (start.resolve(max), end.resolve(max)))
            .map(|(start, end)| (start.min(end).max(1), start.max(end).min(max)))
            .filter(|(start, end)| start <= end)
            .collect();
        Numbers::of_ranges(ranges)
    }
}

/// Writes numbers as a set that keeps their order: neighbours become ranges.
pub fn write_in_order(out: &mut Vec<u8>, numbers: &[u32]) {
    for (index, run) in numbers.chunk_by(|one, next| one.checked_add(1) == Some(*next)).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        Numbers::of_sorted(run.iter().copied()).write(out);
    }
}

/// The numbers that a set means in one mailbox: ascending ranges that do not touch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Numbers {
    ranges: Vec<(u32, u32)>,
}

impl Numbers {
    /// The numbers of ranges in any order, both ends included.
    pub fn of_ranges(mut ranges: Vec<(u32, u32)>) -> Numbers {
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

    /// The numbers that are in both sets.
    pub fn both(&self, other: &Numbers) -> Numbers {
        let (mut one, mut two) = (self.ranges.as_slice(), other.ranges.as_slice());
        let mut ranges = Vec::new();
        while let ([first, rest @ ..], [second, others @ ..]) = (one, two) {
            let (start, end) = (first.0.max(second.0), first.1.min(second.1));
            if start <= end {
                ranges.push((start, end));
            }
            if first.1 < second.1 { one = rest } else { two = others }
        }
        Numbers { ranges }
    }

    /// The numbers of the set that are not in the list, which ascends.
    pub fn without(&self, list: &[u32]) -> Numbers {
        let mut ranges = Vec::new();
        for &(first, last) in &self.ranges {
            let mut start = Some(first);
            let from = list.partition_point(|number| *number < first);
            for number in list.get(from..).unwrap_or_default().iter().take_while(|number| **number <= last) {
                if let Some(start) = start.filter(|start| start < number) {
                    ranges.push((start, number - 1));
                }
                start = number.checked_add(1);
            }
            ranges.extend(start.filter(|start| *start <= last).map(|start| (start, last)));
        }
        Numbers { ranges }
    }

    /// The numbers of a list, ascending.
    pub fn of_sorted(numbers: impl IntoIterator<Item = u32>) -> Numbers {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for number in numbers {
            match ranges.last_mut() {
                Some(last) if last.1.checked_add(1) == Some(number) => last.1 = number,
                _ => ranges.push((number, number)),
            }
        }
        Numbers { ranges }
    }

    /// Writes the set: `1:3,5`.
    pub fn write(&self, out: &mut Vec<u8>) {
        for (index, (start, end)) in self.ranges.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            number(out, u64::from(*start));
            if end > start {
                out.push(b':');
                number(out, u64::from(*end));
            }
        }
    }

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
    fn sets_of_sets() {
        let numbers = |ranges: &[(u32, u32)]| Numbers::of_ranges(ranges.to_vec());
        let written = |numbers: &Numbers| {
            let mut out = Vec::new();
            numbers.write(&mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(&numbers(&[(5, 9), (1, 3), (4, 4), (11, 11)])), "1:9,11");
        assert_eq!(written(&numbers(&[(1, 5), (8, 20)]).both(&numbers(&[(3, 9), (20, 30)]))), "3:5,8:9,20");
        assert_eq!(written(&numbers(&[(1, 5), (8, 9)]).without(&[2, 5, 6, 8])), "1,3:4,9");
        assert_eq!(written(&numbers(&[(1, u32::MAX)]).without(&[u32::MAX])), "1:4294967294");
        assert_eq!(written(&numbers(&[(2, 2)]).without(&[2])), "");
        assert_eq!(written(&Numbers::of_sorted([1, 2, 3, 7])), "1:3,7");
        assert_eq!(set(&[(3, 1), (9, 9)]).listed(4), Some(vec![1, 2, 3, 9]));
        assert_eq!(set(&[(1, 4)]).listed(3), None);
        assert_eq!(set(&[(1, 0)]).listed(9), None);
    }

    #[test]
    fn lists_keep_their_order() {
        for (uids, expected) in [
            (&[1, 2, 3, 5][..], "1:3,5"),
            (&[7][..], "7"),
            (&[9, 4, 5, u32::MAX][..], "9,4:5,4294967295"),
            (&[][..], ""),
        ] {
            let mut out = Vec::new();
            write_in_order(&mut out, uids);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
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
