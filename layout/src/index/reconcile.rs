//! Matching what was known of a mailbox with what is in its file now: a pure function.
//!
//! Another program rewrote the file. Messages that are still there in the known order keep their UIDs; from the first one that is new
//! or out of order on, all get new UIDs, since UIDs must ascend through the file (RFC 3501 §2.3.1.1). Marks follow a message
//! wherever it went.
//!
//! The same function finishes an interrupted removal: when exactly the messages that were not removed are there, the removal was done.

use super::snapshot::Records;
use crate::mbx::header::Uidl;
use crate::mbx::record::{Record, flag};
use crate::mbx::scan::Found;
use std::collections::HashMap;
use zerocopy::byteorder::little_endian::{U32, U64};

/// The outcome.
pub struct Reconciled {
    /// The records of all messages in the file; those marked [`flag::EXPUNGED`] are still removed for clients.
    pub records: Vec<Record>,
    /// The UID that the next message gets at least.
    pub uid_next: u32,
    /// Is every UID an `X-UIDL` number?
    pub numbered: bool,
}

/// Matches `old` with `found`. `uid_next` is the lowest UID that was never given; `numbered` whether all given ones were `X-UIDL` numbers;
/// `modseq` is the number of this change.
pub fn reconcile(old: &Records, found: &[Found], uid_next: u32, numbered: bool, modseq: u64) -> Reconciled {
    let live = |record: &&Record| !record.has(flag::EXPUNGED);
    let removal_done = old.iter().filter(live).map(key).eq(found.iter().map(|f| key(&f.record)))
        && old.iter().any(|record| record.has(flag::EXPUNGED));
    let known: Vec<&Record> =
        if removal_done { old.iter().filter(live).collect() } else { old.iter().collect() };

    let mut places: HashMap<u64, Vec<usize>> = HashMap::with_capacity(known.len());
    known
        .iter()
        .enumerate()
        .rev()
        .for_each(|(index, record)| places.entry(key(record)).or_default().push(index));

    let mut outcome = Reconciled { records: Vec::with_capacity(found.len()), uid_next, numbered };
    let (mut position, mut in_order) = (0, true);
    for message in found {
        let mut record = message.record;
        let matched = places.get_mut(&key(&record)).and_then(|places| {
            // The places descend: the last one at or behind the position is the next in order; else any will do for the marks.
            let next = places.iter().rposition(|index| *index >= position).filter(|_| in_order);
            in_order &= next.is_some();
            next.map(|at| places.remove(at)).or_else(|| places.pop())
        });
        in_order &= matched.is_some();
        match matched {
            Some(index) if in_order => {
                position = index + 1;
                record.uid = known[index].uid;
                record.flags = U32::new(
                    record.flags.get() | known[index].flags.get() & (flag::UIDL_IS_UID | flag::UIDL_TEXT),
                );
            }
            _ => {
                let number = number_of(message);
                record.uid = U32::new(number.filter(|n| *n >= outcome.uid_next).unwrap_or(outcome.uid_next));
                outcome.uid_next = record.uid.get().saturating_add(1);
                outcome.numbered &= number == Some(record.uid.get());
            }
        }
        mark_uidl(&mut record, message.uidl);
        record.modseq = U64::new(modseq);
        if let Some(index) = matched {
            carry_over(&mut record, known[index], modseq);
        }
        outcome.records.push(record);
    }
    outcome
}

/// UIDs for a mailbox that is indexed for the first time: the `X-UIDL` numbers if every message has one and they ascend, else 1 to n.
pub fn first(found: &[Found]) -> Reconciled {
    let numbers: Option<Vec<u32>> = found.iter().map(number_of).collect();
    let ascending = numbers.filter(|numbers| numbers.is_sorted_by(|a, b| a < b));
    let numbered = ascending.is_some();
    let uids = ascending.unwrap_or_else(|| (1..=found.len() as u32).collect());
    let uid_next = uids.last().map_or(1, |uid| uid + 1);
    let records = found.iter().zip(uids).map(|(message, uid)| {
        let mut record = Record { uid: U32::new(uid), ..message.record };
        mark_uidl(&mut record, message.uidl);
        record
    });
    Reconciled { records: records.collect(), uid_next, numbered }
}

/// Adds UIDs to messages that another program appended.
pub fn appended(found: &[Found], uid_next: u32, numbered: bool, modseq: u64) -> Reconciled {
    reconcile(&Records::default(), found, uid_next, numbered, modseq)
}

/// What a message is recognized by: its header without the marks that programs change. Twins pair up in order.
fn key(record: &Record) -> u64 {
    record.fingerprint.get()
}

/// The number of an `X-UIDL` line.
fn number_of(message: &Found) -> Option<u32> {
    match message.uidl {
        Uidl::Number(number) => Some(number),
        _ => None,
    }
}

fn mark_uidl(record: &mut Record, uidl: Uidl) {
    let same = uidl == Uidl::Number(record.uid.get());
    record.set(flag::UIDL_IS_UID, same);
    record.set(flag::UIDL_TEXT, !same && uidl != Uidl::None);
}

/// Flags, keywords and escapes of a message that is still the same one. The letter in the file wins over what we remember if somebody else changed it.
fn carry_over(record: &mut Record, known: &Record, modseq: u64) {
    let kept = flag::CLIENT & !flag::SEEN | flag::EXPUNGED | flag::SAVED;
    let in_file = record.flags.get();
    let mut flags = in_file & !kept | known.flags.get() & kept;
    let letter_changed = record.has(flag::LETTER_READ) != known.has(flag::LETTER_READ);
    if !record.has(flag::HAS_LETTER) || !letter_changed {
        flags = flags & !flag::SEEN | known.flags.get() & flag::SEEN;
    }
    record.flags = U32::new(flags);
    record.keywords = known.keywords;
    record.escapes = known.escapes;
    record.date = known.date;
    let same = (known.flags.get() ^ flags) & (flag::CLIENT | flag::EXPUNGED) == 0;
    if same && known.uid == record.uid {
        record.modseq = known.modseq;
    } else {
        record.modseq = U64::new(modseq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros as _;

    fn message(name: u64, uidl: Uidl) -> Found {
        let mut record = Record::new_zeroed();
        record.fingerprint = U64::new(name);
        record.stored = U32::new(100);
        Found { record, uidl }
    }

    fn known(messages: &[(u64, u32, u32)]) -> Records {
        let record = |(name, uid, flags): &(u64, u32, u32)| {
            let mut record = message(*name, Uidl::None).record;
            record.uid = U32::new(*uid);
            record.flags = U32::new(*flags);
            record
        };
        Records::from_vec(messages.iter().map(record).collect())
    }

    fn uids(outcome: &Reconciled) -> Vec<u32> {
        outcome.records.iter().map(|r| r.uid.get()).collect()
    }

    #[test]
    fn first_indexing() {
        let of = |uidls: &[Uidl]| {
            let found: Vec<_> = uidls.iter().map(|uidl| message(1, *uidl)).collect();
            let outcome = first(&found);
            (uids(&outcome), outcome.uid_next, outcome.numbered)
        };
        use Uidl::{None, Number, Text};
        assert_eq!(of(&[]), (vec![], 1, true));
        assert_eq!(of(&[Number(5), Number(9)]), (vec![5, 9], 10, true));
        assert_eq!(of(&[Number(9), Number(5)]), (vec![1, 2], 3, false));
        assert_eq!(of(&[Number(9), Number(9)]), (vec![1, 2], 3, false));
        assert_eq!(of(&[Number(5), Text]), (vec![1, 2], 3, false));
        assert_eq!(of(&[None]), (vec![1], 2, false));
    }

    #[test]
    fn rewritten_files() {
        let old =
            known(&[(1, 10, flag::FLAGGED), (2, 20, 0), (3, 30, flag::EXPUNGED), (4, 40, flag::ANSWERED)]);
        for (now, expected) in [
            (&[1, 2, 3, 4][..], &[10, 20, 30, 40][..]),
            (&[1, 2, 4], &[10, 20, 40]),
            (&[2, 4], &[20, 40]),
            (&[1, 4, 5, 6], &[10, 40, 41, 42]),
            (&[1, 5, 2, 4], &[10, 41, 42, 43]),
            (&[2, 1], &[20, 41]),
            (&[], &[]),
        ] {
            let found: Vec<_> = now.iter().map(|name| message(*name, Uidl::None)).collect();
            let outcome = reconcile(&old, &found, 41, false, 7);
            assert_eq!(uids(&outcome), expected, "{now:?}");
            for record in &outcome.records {
                let flagged = record.fingerprint.get() == 1;
                assert_eq!(record.has(flag::FLAGGED), flagged);
                assert_eq!(record.has(flag::EXPUNGED), record.fingerprint.get() == 3, "{now:?}");
            }
        }
    }

    #[test]
    fn a_finished_removal_keeps_the_twin_that_stays() {
        let old = known(&[(1, 10, flag::EXPUNGED), (1, 20, 0)]);
        let outcome = reconcile(&old, &[message(1, Uidl::None)], 21, false, 7);
        assert_eq!(uids(&outcome), [20]);
        assert!(!outcome.records[0].has(flag::EXPUNGED));
        let outcome = reconcile(&old, &[message(1, Uidl::None), message(1, Uidl::None)], 21, false, 7);
        assert_eq!(uids(&outcome), [10, 20]);
        assert!(outcome.records[0].has(flag::EXPUNGED));
    }

    #[test]
    fn a_letter_that_somebody_else_changed_counts() {
        for (known_flags, file_flags, seen) in [
            (flag::SEEN, 0, true),
            (flag::SEEN | flag::LETTER_READ, 0, false),
            (0, flag::LETTER_READ | flag::SEEN, true),
            (flag::LETTER_READ, flag::LETTER_READ | flag::SEEN, false),
        ] {
            let mut found = message(1, Uidl::None);
            found.record.flags = U32::new(file_flags | flag::HAS_LETTER);
            let outcome = reconcile(&known(&[(1, 10, known_flags)]), &[found], 11, false, 7);
            assert_eq!(outcome.records[0].has(flag::SEEN), seen);
        }
    }

    #[test]
    fn appended_numbers_count_if_they_lie_above() {
        let found = [message(1, Uidl::Number(50)), message(2, Uidl::Number(7)), message(3, Uidl::Number(52))];
        let outcome = appended(&found, 40, true, 7);
        assert_eq!(uids(&outcome), [50, 51, 52]);
        assert!(!outcome.numbered);
    }
}
