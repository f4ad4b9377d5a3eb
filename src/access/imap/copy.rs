//! COPY (RFC 3501 §6.4.7) and MOVE (RFC 6851), answered with the UIDs on both sides (RFC 4315).
//!
//! All messages are handed to the store before the first answer is awaited, as far as [`UNDER_WAY_MAX`] lets it: they share their syncs.
//!
//! # Failure
//! All or nothing: if one message cannot be stored, those before it are removed from the target again. A MOVE removes from the source only
//! when everything is stored.

use super::command::{Numbering, WireMailbox};
use super::outcome::{Done, Failed, Outcome, done};
use super::reading::{Part, SLICE, Slice};
use super::sequence::SequenceSet;
use super::session::Session;
use crate::mailbox::Open;
use crate::mailbox::commit;
use crate::session::connection::Blocking;
use layout::lock::PATIENCE;
use layout::mailbox::Appended;
use layout::mbx::compose::{NewMessage, Source, Way};
use layout::mbx::record::{Record, flag};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The most bytes of messages that are in memory for a copy.
const UNDER_WAY_MAX: u64 = 32 << 20;

/// UIDs in the source and in the target, one for each message.
type Copied = Vec<(u32, u32)>;

/// Messages on their way into a mailbox.
struct Transfer<'a> {
    session: &'a Session,
    target: &'a Arc<Open>,
    under_way: VecDeque<(u32, u64, oneshot::Receiver<commit::Outcome>)>,
    bytes: u64,
    copied: Copied,
}

impl Transfer<'_> {
    fn submit(&mut self, uid: u32, message: NewMessage) -> Result<(), Failed> {
        let length = message.source.len();
        while self.bytes + length > UNDER_WAY_MAX && !self.under_way.is_empty() {
            self.wait()?;
        }
        let size_max = self.session.mailbox_size_max();
        let answer = self.session.server.hub.append(self.target.clone(), message, None, size_max);
        self.bytes += length;
        self.under_way.push_back((uid, length, answer));
        Ok(())
    }

    /// Waits for the first of the messages under way.
    fn wait(&mut self) -> Result<(), Failed> {
        let Some((uid, length, answer)) = self.under_way.pop_front() else { return Ok(()) };
        self.bytes -= length;
        match answer.blocking_recv() {
            Ok(Ok(Appended::Stored(new))) => {
                self.copied.push((uid, new));
                Ok(())
            }
            Ok(Ok(Appended::Before)) => Ok(()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Failed::No("UNAVAILABLE", "the server is being stopped".to_owned())),
        }
    }

    fn finish(mut self, submitted: Result<(), Failed>) -> Result<Copied, Failed> {
        let mut outcome = submitted;
        while !self.under_way.is_empty() {
            let stored = self.wait();
            outcome = outcome.and(stored);
        }
        match outcome {
            Ok(()) => Ok(self.copied),
            Err(failed) => {
                let stored: Vec<(u32, u32)> = self.copied.iter().map(|(_, new)| (*new, *new)).collect();
                let removed = self.target.with(|mailbox| mailbox.expunge(&stored, PATIENCE));
                if let Err(error) = removed {
                    tracing::error!(%error, "copies of a COPY that failed could not be removed again");
                }
                Err(failed)
            }
        }
    }
}

impl Session {
    /// COPY and UID COPY.
    pub(super) fn copy(&mut self, numbering: Numbering, set: &SequenceSet, mailbox: &WireMailbox) -> Outcome {
        let view = self.selected()?;
        let ranges = view.select(numbering, set)?;
        let uids = view.uids().clone();
        let wanted: Vec<u32> =
            ranges.into_iter().flat_map(|range| uids.get(range).unwrap_or_default()).copied().collect();
        let source = view.open.clone();
        let target = self.target(mailbox)?;
        if wanted.is_empty() {
            return done("COPY completed, of no message");
        }
        let copied = self.transfer(&source, &wanted, &target, numbering)?;
        Ok(Done { code: copy_uid(&target, &copied), text: "COPY completed" })
    }

    /// MOVE and UID MOVE.
    pub(super) fn move_messages(
        &mut self,
        out: &mut Blocking<'_>,
        numbering: Numbering,
        set: &SequenceSet,
        mailbox: &WireMailbox,
    ) -> Outcome {
        let view = self.changeable()?;
        let ranges = view.select(numbering, set)?;
        let uids = view.uids().clone();
        let wanted: Vec<u32> =
            ranges.into_iter().flat_map(|range| uids.get(range).unwrap_or_default()).copied().collect();
        let source = view.open.clone();
        let target = self.target(mailbox)?;
        if wanted.is_empty() {
            return done("MOVE completed, of no message");
        }
        let copied = self.transfer(&source, &wanted, &target, numbering)?;
        let moved: Vec<(u32, u32)> = copied.iter().map(|(old, _)| (*old, *old)).collect();
        source.with(|mailbox| mailbox.expunge(&moved, PATIENCE))?;
        // The removals are told behind the command; the client must know the new UIDs before (RFC 6851 §4.3).
        write!(out, "* OK [{}] these were moved\r\n", copy_uid(&target, &copied))?;
        done("MOVE completed")
    }

    /// Copies messages and answers with the UIDs on both sides. By number a message that is gone is a failure, by UID it is passed over.
    pub(super) fn transfer(
        &self,
        source: &Arc<Open>,
        uids: &[u32],
        target: &Arc<Open>,
        numbering: Numbering,
    ) -> Result<Copied, Failed> {
        let mut transfer =
            Transfer { session: self, target, under_way: VecDeque::new(), bytes: 0, copied: Vec::new() };
        let submitted = submit_all(&mut transfer, source, uids, numbering);
        transfer.finish(submitted)
    }
}

fn submit_all(
    transfer: &mut Transfer<'_>,
    source: &Arc<Open>,
    uids: &[u32],
    numbering: Numbering,
) -> Result<(), Failed> {
    let keywords = source.with(|mailbox| mailbox.keywords().to_vec());
    for uids in uids.chunks(SLICE) {
        let slice = Slice::take(source, uids);
        for (uid, record) in uids.iter().zip(&slice.records) {
            let read = match record {
                Some(record) => slice.read(source, record, Part::Whole)?,
                None => None,
            };
            match read {
                Some((record, bytes)) => transfer.submit(*uid, copy_of(&record, bytes, &keywords))?,
                None if numbering == Numbering::Uid => {}
                None => return Err(Failed::expunged()),
            }
        }
    }
    Ok(())
}

fn copy_of(record: &Record, bytes: Vec<u8>, keywords: &[String]) -> NewMessage {
    let set = keywords.iter().enumerate().filter(|(bit, _)| record.keywords.get() >> bit & 1 != 0);
    NewMessage {
        source: Source::Bytes(bytes.into()),
        sender: String::new(),
        date: i64::from(record.date.get()),
        way: Way::Client,
        flags: record.flags.get() & flag::CLIENT,
        keywords: set.map(|(_, name)| name.clone()).collect(),
    }
}

/// `COPYUID validity source target`; nothing if nothing was copied.
fn copy_uid(target: &Open, copied: &Copied) -> String {
    if copied.is_empty() {
        return String::new();
    }
    let uidvalidity = target.with(|mailbox| mailbox.uidvalidity());
    let (old, new): (Vec<u32>, Vec<u32>) = copied.iter().copied().unzip();
    format!("COPYUID {uidvalidity} {} {}", uid_set(&old), uid_set(&new))
}

/// UIDs in their order as a set: neighbours become ranges.
fn uid_set(uids: &[u32]) -> String {
    let mut set = String::new();
    let runs = uids.chunk_by(|one, next| one.checked_add(1) == Some(*next));
    for run in runs {
        if !set.is_empty() {
            set.push(',');
        }
        // Writing to a string cannot fail.
        let _ = match run {
            [first, .., last] => write!(set, "{first}:{last}"),
            [only] => write!(set, "{only}"),
            [] => Ok(()),
        };
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_keep_the_order() {
        for (uids, expected) in [
            (&[1, 2, 3, 5][..], "1:3,5"),
            (&[7][..], "7"),
            (&[9, 4, 5, u32::MAX][..], "9,4:5,4294967295"),
            (&[][..], ""),
        ] {
            assert_eq!(uid_set(uids), expected);
        }
    }
}
