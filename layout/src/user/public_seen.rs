//! `public.seen` in a user's directory: which messages of the public mailboxes this user has seen.
//!
//! Public mailboxes are those of the user `public`; their files stay as they are when others read them, so what a reader has seen is kept
//! with the reader. UTF-8, one line a mailbox: `<UIDVALIDITY> <UIDs> <name in Unicode>`, the UIDs as IMAP writes sets (`1:3,5`).
//!
//! # Failure
//! A line that cannot be read costs only itself. Lines for a mailbox that was made anew are dropped when that mailbox is written.
//!
//! # Limits
//! [`FILE_MAX`]; what goes beyond it is refused.

use std::fmt::Write as _;

/// The file's name.
pub const FILE: &str = "public.seen";
/// The largest file, in bytes.
pub const FILE_MAX: u64 = 8 << 20;

/// A set of UIDs: ascending ranges that do not touch, both ends included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UidSet(Vec<(u32, u32)>);

impl UidSet {
    /// Is this UID in the set?
    pub fn contains(&self, uid: u32) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= uid);
        after.checked_sub(1).and_then(|index| self.0.get(index)).is_some_and(|(_, last)| uid <= *last)
    }

    /// Is nothing in it?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds ranges in any order.
    pub fn add(&mut self, ranges: &[(u32, u32)]) {
        let mut all = std::mem::take(&mut self.0);
        all.extend(ranges.iter().filter(|(first, last)| first <= last));
        all.sort_unstable();
        for (first, last) in all {
            match self.0.last_mut() {
                Some(range) if first <= range.1.saturating_add(1) => range.1 = range.1.max(last),
                _ => self.0.push((first, last)),
            }
        }
    }

    /// Takes ranges away.
    pub fn remove(&mut self, ranges: &[(u32, u32)]) {
        let mut gone = UidSet::default();
        gone.add(ranges);
        let mut gone = gone.0.into_iter().peekable();
        let mut kept = Vec::new();
        for (mut first, last) in std::mem::take(&mut self.0) {
            while gone.next_if(|hole| hole.1 < first).is_some() {}
            while let Some(hole) = gone.peek().copied().filter(|hole| hole.0 <= last) {
                if first < hole.0 {
                    kept.push((first, hole.0 - 1));
                }
                match hole.1.checked_add(1).filter(|next| *next <= last) {
                    Some(next) => first = next,
                    None => {
                        first = 0;
                        break;
                    }
                }
                gone.next();
            }
            if first > 0 {
                kept.push((first, last));
            }
        }
        self.0 = kept;
    }

    fn parse(text: &str) -> Option<UidSet> {
        let range = |part: &str| {
            let (first, last) = part.split_once(':').unwrap_or((part, part));
            let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
            (first > 0).then_some((first, last))
        };
        let mut set = UidSet::default();
        set.add(&text.split(',').map(range).collect::<Option<Vec<_>>>()?);
        Some(set)
    }

    fn write(&self, text: &mut String) {
        for (index, (first, last)) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            // Writing to a string cannot fail.
            let _ = match first == last {
                true => write!(text, "{comma}{first}"),
                false => write!(text, "{comma}{first}:{last}"),
            };
        }
    }
}

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublicSeen(Vec<(u32, UidSet, String)>);

impl PublicSeen {
    /// Reads the file's content.
    pub fn parse(bytes: &[u8]) -> PublicSeen {
        let text = String::from_utf8_lossy(bytes);
        let line = |line: &str| {
            let mut parts = line.trim_end().splitn(3, ' ');
            let (uidvalidity, set) = (parts.next()?.parse().ok()?, UidSet::parse(parts.next()?)?);
            Some((uidvalidity, set, parts.next()?.to_owned()))
        };
        PublicSeen(text.lines().filter_map(line).collect())
    }

    /// The file's content.
    pub fn write(&self) -> String {
        let mut text = String::new();
        for (uidvalidity, set, name) in &self.0 {
            let _ = write!(text, "{uidvalidity} ");
            set.write(&mut text);
            let _ = writeln!(text, " {name}");
        }
        text
    }

    /// What was seen of a mailbox; names are compared without regard to case.
    pub fn of(&self, name: &str, uidvalidity: u32) -> UidSet {
        let wanted = name.to_lowercase();
        let line = self
            .0
            .iter()
            .find(|(validity, _, known)| *validity == uidvalidity && known.to_lowercase() == wanted);
        line.map(|(_, set, _)| set.clone()).unwrap_or_default()
    }

    /// Replaces what was seen of a mailbox.
    pub fn put(&mut self, name: &str, uidvalidity: u32, set: UidSet) {
        let wanted = name.to_lowercase();
        self.0.retain(|(_, _, known)| known.to_lowercase() != wanted);
        if !set.is_empty() {
            self.0.push((uidvalidity, set, name.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn lines() {
        let text = "7 1:3,5 INBOX\n8 4294967295 \u{4F1A}\u{8B70} 2024\n";
        let mut seen = PublicSeen::parse(text.as_bytes());
        assert_eq!(seen.write(), text);
        assert!(seen.of("inbox", 7).contains(3) && !seen.of("inbox", 7).contains(4));
        assert!(seen.of("INBOX", 9).is_empty());
        let mut set = seen.of("INBOX", 7);
        set.add(&[(4, 4)]);
        seen.put("Inbox", 7, set);
        seen.put("\u{4F1A}\u{8B70} 2024", 8, UidSet::default());
        assert_eq!(seen.write(), "7 1:5 Inbox\n");
        assert_eq!(PublicSeen::parse(b"x\n1 2\n1 0 a\n1 2:x a\n\xff\n"), PublicSeen::default());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn sets_are_sets(steps in proptest::collection::vec((any::<bool>(), 1u32..40, 0u32..6), 0..20)) {
            let (mut set, mut model) = (UidSet::default(), BTreeSet::new());
            for (add, first, more) in steps {
                let range = (first, first + more);
                if add {
                    set.add(&[range]);
                    model.extend(range.0..=range.1);
                } else {
                    set.remove(&[range]);
                    (range.0..=range.1).for_each(|uid| { model.remove(&uid); });
                }
            }
            prop_assert!((0..60).all(|uid| set.contains(uid) == model.contains(&uid)));
            prop_assert!(set.0.windows(2).all(|two| two[0].1 + 1 < two[1].0));
        }
    }
}
