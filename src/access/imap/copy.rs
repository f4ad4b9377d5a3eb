//! COPY (RFC 3501 §6.4.7) and MOVE (RFC 6851), answered with the UIDs on both sides (RFC 4315).
//!
//! All messages are handed to the store before the first answer is awaited, as far as [`UNDER_WAY_MAX`] lets it: they share their syncs.
//!
//! # Failure
//! All or nothing: if one message cannot be stored, those before it are removed from the target again. A MOVE removes from the source only
//! when everything is stored.

use super::command::{Numbering, WireMailbox};
use super::outcome::{Done, Failed, Outcome, done};
use super::reading::{LARGE, Part, Room, SLICE, Slice};
use super::sequence::{SequenceSet, write_in_order};
use super::session::Session;
use crate::mailbox::Open;
use crate::mailbox::commit;
use crate::session::connection::Blocking;
use layout::lock::PATIENCE;
use layout::mailbox::Appended;
use layout::mbx::compose::{NewMessage, Source, Way};
use layout::mbx::record::{Record, flag};
use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The most bytes of messages that are in memory for a copy; one that is larger is there alone.
const UNDER_WAY_MAX: u64 = 32 << 20;

/// UIDs in the source and in the target, one for each message.
type Copied = Vec<(u32, u32)>;

/// A message on its way.
struct UnderWay {
    uid: u32,
    length: u64,
    _room: Option<Room>,
    answer: oneshot::Receiver<commit::Outcome>,
}

/// Messages on their way into a mailbox.
struct Transfer<'a> {
    session: &'a Session,
    target: &'a Arc<Open>,
    under_way: VecDeque<UnderWay>,
    bytes: u64,
    copied: Copied,
}

impl<'a> Transfer<'a> {
    fn new(session: &'a Session, target: &'a Arc<Open>) -> Transfer<'a> {
        Transfer { session, target, under_way: VecDeque::new(), bytes: 0, copied: Vec::new() }
    }

    /// Waits until a message of this length may be read. Before a large one all others must have gone: who waits for room may hold none.
    fn make_way(&mut self, length: u64) -> Result<(), Failed> {
        let most = if length >= LARGE { 0 } else { UNDER_WAY_MAX };
        while self.bytes + length > most && !self.under_way.is_empty() {
            self.wait()?;
        }
        Ok(())
    }

    fn submit(&mut self, uid: u32, message: NewMessage, room: Option<Room>) {
        let length = message.source.len();
        let size_max = self.session.mailbox_size_max();
        let answer = self.session.server.hub.append(self.target.clone(), message, None, size_max);
        self.bytes += length;
        self.under_way.push_back(UnderWay { uid, length, _room: room, answer });
    }

    /// Waits for the first of the messages under way.
    fn wait(&mut self) -> Result<(), Failed> {
        let Some(UnderWay { uid, length, _room, answer }) = self.under_way.pop_front() else { return Ok(()) };
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

/// Messages to be copied, and where.
struct Plan {
    source: Arc<Open>,
    uids: Vec<u32>,
    target: Arc<Open>,
}

impl Session {
    /// What COPY and MOVE name.
    fn plan(
        &mut self,
        numbering: Numbering,
        set: &SequenceSet,
        mailbox: &WireMailbox,
    ) -> Result<Plan, Failed> {
        let view = self.selected()?;
        let ranges = view.select(numbering, set)?;
        let all = view.uids().clone();
        let uids = ranges.into_iter().flat_map(|range| all.get(range).unwrap_or_default()).copied().collect();
        let source = view.open.clone();
        Ok(Plan { source, uids, target: self.target(mailbox)? })
    }

    /// COPY and UID COPY.
    pub(super) fn copy(&mut self, numbering: Numbering, set: &SequenceSet, mailbox: &WireMailbox) -> Outcome {
        let plan = self.plan(numbering, set, mailbox)?;
        if plan.uids.is_empty() {
            return done("COPY completed, of no message");
        }
        let copied = self.transfer(&plan.source, &plan.uids, &plan.target, numbering)?;
        Ok(Done { code: copy_uid(&plan.target, &copied), text: "COPY completed" })
    }

    /// MOVE and UID MOVE. What is moved takes no more room than before, so the quota is not asked.
    pub(super) fn move_messages(
        &mut self,
        out: &mut Blocking<'_>,
        numbering: Numbering,
        set: &SequenceSet,
        mailbox: &WireMailbox,
    ) -> Outcome {
        self.removable()?;
        let plan = self.plan(numbering, set, mailbox)?;
        if plan.uids.is_empty() {
            return done("MOVE completed, of no message");
        }
        let copied = self.move_all(&plan.source, &plan.uids, &plan.target, numbering)?;
        // The removals are told behind the command; the client must know the new UIDs before (RFC 6851 §4.3).
        write!(out, "* OK [{}] these were moved\r\n", copy_uid(&plan.target, &copied))?;
        let modseq = plan.source.with(|mailbox| mailbox.modseq());
        let code = if self.enabled.condstore { format!("HIGHESTMODSEQ {modseq}") } else { String::new() };
        Ok(Done { code, text: "MOVE completed" })
    }

    /// Copies messages, removes them from where they were, and answers with the UIDs on both sides.
    pub(super) fn move_all(
        &self,
        source: &Arc<Open>,
        uids: &[u32],
        target: &Arc<Open>,
        numbering: Numbering,
    ) -> Result<Copied, Failed> {
        let copied = self.copy_all(source, uids, target, numbering)?;
        let moved: Vec<(u32, u32)> = copied.iter().map(|(old, _)| (*old, *old)).collect();
        source.with(|mailbox| mailbox.expunge(&moved, PATIENCE))?;
        Ok(copied)
    }

    /// Copies messages and answers with the UIDs on both sides. By number a message that is gone is a failure, by UID it is passed over.
    fn transfer(
        &self,
        source: &Arc<Open>,
        uids: &[u32],
        target: &Arc<Open>,
        numbering: Numbering,
    ) -> Result<Copied, Failed> {
        let bytes =
            source.with(|mailbox| uids.iter().filter_map(|uid| mailbox.message(*uid)).map(stored).sum());
        self.check_quota(uids.len() as u64, bytes)?;
        self.copy_all(source, uids, target, numbering)
    }

    fn copy_all(
        &self,
        source: &Arc<Open>,
        uids: &[u32],
        target: &Arc<Open>,
        numbering: Numbering,
    ) -> Result<Copied, Failed> {
        let mut transfer = Transfer::new(self, target);
        let submitted = submit_all(&mut transfer, source, uids, numbering);
        transfer.finish(submitted)
    }
}

fn stored(record: &Record) -> u64 {
    u64::from(record.stored.get())
}

fn submit_all(
    transfer: &mut Transfer<'_>,
    source: &Arc<Open>,
    uids: &[u32],
    numbering: Numbering,
) -> Result<(), Failed> {
    let keywords = source.with(|mailbox| mailbox.keywords().to_vec());
    // A copy has the flags that its reader sees.
    let view = transfer.session.view.as_ref().filter(|view| Arc::ptr_eq(&view.open, source));
    for uids in uids.chunks(SLICE) {
        let slice = Slice::take(source, uids);
        for (uid, record) in uids.iter().zip(&slice.records) {
            let read = match record {
                Some(record) => {
                    transfer.make_way(record.content_len())?;
                    slice.read(source, record, Part::Whole)?
                }
                None => None,
            };
            match read {
                Some(read) => {
                    let flags = view.map_or(read.record.flags.get(), |view| view.flags(&read.record));
                    let message = copy_of(&read.record, flags, read.bytes, &keywords);
                    transfer.submit(*uid, message, read.room);
                }
                None if numbering == Numbering::Uid => {}
                None => return Err(Failed::expunged()),
            }
        }
    }
    Ok(())
}

fn copy_of(record: &Record, flags: u32, bytes: Vec<u8>, keywords: &[String]) -> NewMessage {
    let set = keywords.iter().enumerate().filter(|(bit, _)| record.keywords.get() >> bit & 1 != 0);
    NewMessage {
        source: Source::Bytes(bytes.into()),
        sender: String::new(),
        date: i64::from(record.date.get()),
        way: Way::Client,
        flags: flags & flag::CLIENT,
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
    let mut code = format!("COPYUID {uidvalidity} ").into_bytes();
    write_in_order(&mut code, &old);
    code.push(b' ');
    write_in_order(&mut code, &new);
    String::from_utf8_lossy(&code).into_owned()
}
