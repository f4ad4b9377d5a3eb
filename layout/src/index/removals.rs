//! Which messages were removed lately: what a client that comes back is told of what went meanwhile (RFC 7162 §3.2.5.1).
//!
//! Of older removals nothing is remembered; then the client learns of every UID that it names and that no message has, which is more to
//! send and just as right (RFC 7162 §5).
//!
//! In a snapshot, behind the tokens: number of the last change before what is remembered u64, count u32, then change number u64, first and last
//! UID u32 each. A snapshot without this part remembers nothing.
//!
//! # Limits
//! [`REMOVALS_MAX`].

use super::journal::Range;
use std::collections::VecDeque;

/// The most ranges that are remembered: 64 KiB.
pub const REMOVALS_MAX: usize = 4096;
const ENTRY: usize = 16;
const HEAD: usize = 12;

/// The last removals of a mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removals {
    /// All removals by changes above this one are here.
    from: u64,
    entries: VecDeque<(u64, Range)>,
}

impl Removals {
    /// Nothing is known of what was removed up to this change.
    pub fn unknown_until(modseq: u64) -> Removals {
        Removals { from: modseq, entries: VecDeque::new() }
    }

    /// Remembers a removal; the oldest are forgotten for it.
    pub fn note(&mut self, modseq: u64, uids: &[Range]) {
        self.entries.extend(uids.iter().map(|range| (modseq, *range)));
        while self.entries.len() > REMOVALS_MAX
            && let Some((gone, _)) = self.entries.pop_front()
        {
            self.from = self.from.max(gone);
        }
        let from = self.from;
        self.entries.retain(|(modseq, _)| *modseq > from);
    }

    /// What was removed by changes above this one, in no order; `None` if that is not remembered.
    pub fn since(&self, modseq: u64) -> Option<Vec<Range>> {
        let later = self.entries.iter().filter(|(at, _)| *at > modseq).map(|(_, range)| *range);
        (modseq >= self.from).then(|| later.collect())
    }

    /// Adds the bytes of a snapshot.
    pub fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.from.to_le_bytes());
        bytes.extend_from_slice(&(self.entries.len() as u32).to_le_bytes());
        for (modseq, (first, last)) in &self.entries {
            bytes.extend_from_slice(&modseq.to_le_bytes());
            bytes.extend_from_slice(&first.to_le_bytes());
            bytes.extend_from_slice(&last.to_le_bytes());
        }
    }

    /// Reads them back; all bytes must belong to it.
    pub fn parse(bytes: &[u8]) -> Option<Removals> {
        let from = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
        let count = u32::from_le_bytes(bytes.get(8..HEAD)?.try_into().ok()?) as usize;
        let rest = bytes.get(HEAD..)?;
        if count > REMOVALS_MAX || rest.len() != count * ENTRY {
            return None;
        }
        let entry = |bytes: &[u8]| {
            let modseq = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
            let first = u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?);
            Some((modseq, (first, u32::from_le_bytes(bytes.get(12..16)?.try_into().ok()?))))
        };
        Some(Removals { from, entries: rest.chunks_exact(ENTRY).map(entry).collect::<Option<_>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_remembered() {
        let mut removals = Removals::default();
        assert_eq!(removals.since(0), Some(vec![]));
        removals.note(5, &[(1, 3), (7, 7)]);
        removals.note(9, &[(5, 5)]);
        assert_eq!(removals.since(0), Some(vec![(1, 3), (7, 7), (5, 5)]));
        assert_eq!(removals.since(5), Some(vec![(5, 5)]));
        let mut bytes = Vec::new();
        removals.write(&mut bytes);
        assert_eq!(Removals::parse(&bytes), Some(removals.clone()));
        assert_eq!(Removals::parse(&bytes[1..]), None);
        for n in 0..REMOVALS_MAX as u32 {
            removals.note(10 + u64::from(n), &[(100 + n, 100 + n)]);
        }
        assert_eq!(removals.since(8), None);
        assert_eq!(removals.since(9).map(|ranges| ranges.len()), Some(REMOVALS_MAX));
        assert_eq!(Removals::unknown_until(7).since(6), None);
    }
}
