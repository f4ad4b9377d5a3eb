//! Opening and leaving a mailbox, and looking at one from outside: SELECT, EXAMINE, STATUS, CHECK, CLOSE, EXPUNGE (RFC 3501 §6.3.1, §6.3.10,
//! §6.4). A client that comes back is told what changed meanwhile (RFC 7162 §3.2.5).

use super::command::{Numbering, Qresync, StatusItem, WireMailbox};
use super::outcome::{Done, Failed, Outcome, done};
use super::place::{Place, mailbox_id};
use super::sequence::{Numbers, SequenceSet};
use super::session::Session;
use super::sync::{Marks, View};
use crate::mailbox::Open;
use crate::session::connection::Blocking;
use layout::limits::MESSAGE_MAX;
use layout::lock::PATIENCE;
use layout::mailbox::{Mailbox, MailboxError, Refreshed};
use layout::mbx::record::flag;
use std::io::Write as _;

/// The most pairs of number and UID that a client that comes back can offer for comparison.
const MATCHES_MAX: usize = 1000;

/// A mailbox that was just opened.
struct Opened {
    view: View,
    first_unseen: Option<usize>,
    uid_next: u32,
    meanwhile: Option<Meanwhile>,
}

/// What changed since a client was here.
struct Meanwhile {
    vanished: Numbers,
    changed: Vec<Marks>,
}

impl Session {
    /// SELECT and EXAMINE.
    pub(super) fn select(
        &mut self,
        out: &mut Blocking<'_>,
        mailbox: &WireMailbox,
        read_only: bool,
        qresync: Option<&Qresync>,
    ) -> Outcome {
        if qresync.is_some() && !self.enabled.qresync {
            return Err(Failed::Bad("QRESYNC must be enabled first".to_owned()));
        }
        // The mailbox that was open is left even if this one cannot be opened (RFC 3501 §6.3.1).
        if self.view.take().is_some() && (self.enabled.rev2 || self.enabled.qresync) {
            out.write_all(b"* OK [CLOSED] the mailbox that was selected is left\r\n")?;
        }
        let place = self.place(mailbox).map_err(|_| Failed::nonexistent())?;
        let open = self.open(&place).ok_or_else(Failed::nonexistent)?;
        let opened = open.with(|mailbox| -> Result<Opened, Failed> {
            mailbox.refresh(PATIENCE)?;
            let reader = self.reader(&place, mailbox)?;
            let view = View::new(open.clone(), mailbox, read_only, self.enabled, reader);
            let first_unseen = match view.reader {
                Some(_) => mailbox.messages().position(|record| view.flags(record) & flag::SEEN == 0),
                None => mailbox.first_unseen(),
            };
            let known =
                qresync.filter(|qresync| qresync.uidvalidity == view.uidvalidity && view.has_modseq());
            let meanwhile = known.map(|qresync| meanwhile(&view, mailbox, qresync));
            Ok(Opened { view, first_unseen, uid_next: mailbox.uid_next(), meanwhile })
        })?;
        self.tell_opened(out, &place, &opened)?;
        self.view = Some(opened.view);
        Ok(match read_only {
            true => Done { code: "READ-ONLY".to_owned(), text: "EXAMINE completed" },
            false => Done { code: "READ-WRITE".to_owned(), text: "SELECT completed" },
        })
    }

    fn tell_opened(&self, out: &mut Blocking<'_>, place: &Place, opened: &Opened) -> Result<(), Failed> {
        let view = &opened.view;
        let mut answer = b"* FLAGS ".to_vec();
        view.write_flag_names(&mut answer, false);
        answer.extend_from_slice(b"\r\n* OK [PERMANENTFLAGS ");
        view.write_flag_names(&mut answer, true);
        answer.extend_from_slice(b"] these can be changed\r\n");
        write!(answer, "* {} EXISTS\r\n", view.count())?;
        if self.enabled.rev2 {
            answer.extend_from_slice(b"* LIST () \".\" ");
            self.write_name(&mut answer, place.prefix(), &place.name);
            answer.extend_from_slice(b"\r\n");
        } else {
            write!(answer, "* {} RECENT\r\n", view.recent_count())?;
            if let Some(index) = opened.first_unseen.filter(|index| *index < view.count()) {
                write!(answer, "* OK [UNSEEN {}] the first unseen message\r\n", index + 1)?;
            }
        }
        write!(answer, "* OK [UIDVALIDITY {}] UIDs are valid\r\n", view.uidvalidity)?;
        write!(answer, "* OK [UIDNEXT {}] the next UID\r\n", opened.uid_next)?;
        match view.has_modseq() {
            true => write!(answer, "* OK [HIGHESTMODSEQ {}] changes are numbered\r\n", view.modseq())?,
            false => answer.extend_from_slice(b"* OK [NOMODSEQ] changes are not numbered\r\n"),
        }
        let id = mailbox_id(place.foreign, view.uidvalidity);
        write!(answer, "* OK [MAILBOXID ({id})] whatever its name\r\n")?;
        out.write_all(&answer)?;
        let Some(meanwhile) = &opened.meanwhile else { return Ok(()) };
        write_vanished(out, &meanwhile.vanished)?;
        for marks in &meanwhile.changed {
            answer.clear();
            view.write_fetch_marks(&mut answer, marks);
            out.write_all(&answer)?;
        }
        Ok(())
    }

    /// STATUS.
    pub(super) fn status(
        &mut self,
        out: &mut Blocking<'_>,
        mailbox: &WireMailbox,
        items: &[StatusItem],
    ) -> Outcome {
        let place = self.place(mailbox).map_err(|_| Failed::nonexistent())?;
        if items.contains(&StatusItem::HighestModSeq) && !self.enabled.condstore {
            self.begin_condstore(out)?;
        }
        match self.write_status(out, &place, items)? {
            true => done("STATUS completed"),
            false => Err(Failed::nonexistent()),
        }
    }

    /// Writes what STATUS tells of a mailbox; `false` if there is none.
    pub(super) fn write_status(
        &self,
        out: &mut Blocking<'_>,
        place: &Place,
        items: &[StatusItem],
    ) -> Result<bool, Failed> {
        let Some(open) = self.open(place) else { return Ok(false) };
        let values = open.with(|mailbox| -> Result<Vec<String>, Failed> {
            mailbox.refresh(PATIENCE)?;
            items.iter().map(|item| self.status_value(place, mailbox, *item)).collect()
        })?;
        let mut answer = b"* STATUS ".to_vec();
        self.write_name(&mut answer, place.prefix(), &place.name);
        answer.extend_from_slice(b" (");
        for (index, (item, value)) in items.iter().zip(values).enumerate() {
            let blank = if index > 0 { " " } else { "" };
            write!(answer, "{blank}{} {value}", item.name())?;
        }
        answer.extend_from_slice(b")\r\n");
        out.write_all(&answer)?;
        Ok(true)
    }

    fn status_value(&self, place: &Place, mailbox: &mut Mailbox, item: StatusItem) -> Result<String, Failed> {
        let number = match item {
            StatusItem::Messages => mailbox.uids().len() as u64,
            StatusItem::Recent => {
                let mark = mailbox.recent_mark();
                (mailbox.uids().len() - mailbox.uids().partition(|uid| uid <= mark)) as u64
            }
            StatusItem::UidNext => u64::from(mailbox.uid_next()),
            StatusItem::UidValidity => u64::from(mailbox.uidvalidity()),
            StatusItem::Unseen => match self.reader(place, mailbox)? {
                Some(reader) => {
                    let messages = mailbox.messages();
                    messages.filter(|record| !reader.has_seen(record.uid.get())).count() as u64
                }
                None => mailbox.unseen() as u64,
            },
            StatusItem::Deleted => {
                mailbox.messages().filter(|record| record.has(flag::DELETED)).count() as u64
            }
            StatusItem::Size => mailbox.messages().map(|record| record.imap_size()).sum(),
            StatusItem::HighestModSeq if place.foreign => 0,
            StatusItem::HighestModSeq => mailbox.modseq(),
            StatusItem::AppendLimit => MESSAGE_MAX,
            StatusItem::MailboxId => {
                return Ok(format!("({})", mailbox_id(place.foreign, mailbox.uidvalidity())));
            }
        };
        Ok(number.to_string())
    }

    /// CHECK: flags are written down (RFC 3501 §6.4.1).
    pub(super) fn check(&mut self) -> Outcome {
        let open = self.selected()?.open.clone();
        open.write_down()?;
        done("CHECK completed")
    }

    /// CLOSE: removes what is marked, without telling (RFC 3501 §6.4.2).
    pub(super) fn close(&mut self) -> Outcome {
        if let Some(view) = self.view.take()
            && !view.read_only
            && view.reader.is_none()
        {
            return self.remove(&view.open, &[(1, u32::MAX)], "CLOSE completed");
        }
        done("CLOSE completed")
    }

    /// EXPUNGE, and UID EXPUNGE with the UIDs of `only` (RFC 4315 §2.1). The removals are told behind the command.
    pub(super) fn expunge(&mut self, only: Option<&SequenceSet>) -> Outcome {
        let view = self.removable()?;
        let among = match only {
            Some(set) => view.uid_ranges(&view.select(Numbering::Uid, set)?),
            None => vec![(1, u32::MAX)],
        };
        let open = view.open.clone();
        self.remove(&open, &among, "EXPUNGE completed")
    }

    /// Removes what is marked among these UIDs, and says how far the changes have come (RFC 7162 §3.2.7, §3.2.8).
    fn remove(&mut self, open: &Open, among: &[(u32, u32)], text: &'static str) -> Outcome {
        let (removed, modseq) = open.with(|mailbox| {
            let removed = remove_marked(mailbox, among)?;
            Ok::<_, MailboxError>((removed, mailbox.modseq()))
        })?;
        self.deleted += removed;
        let code = match removed > 0 && self.enabled.condstore {
            true => format!("HIGHESTMODSEQ {modseq}"),
            false => String::new(),
        };
        Ok(Done { code, text })
    }
}

/// `* VANISHED (EARLIER) 1:3,5`, if there are any.
pub fn write_vanished(out: &mut Blocking<'_>, vanished: &Numbers) -> Result<(), Failed> {
    if vanished.is_empty() {
        return Ok(());
    }
    let mut line = b"* VANISHED (EARLIER) ".to_vec();
    vanished.write(&mut line);
    line.extend_from_slice(b"\r\n");
    Ok(out.write_all(&line)?)
}

/// What changed since a client was here, of the messages that it knows.
fn meanwhile(view: &View, mailbox: &Mailbox, qresync: &Qresync) -> Meanwhile {
    let last = mailbox.uid_next().saturating_sub(1);
    let known = match &qresync.known {
        Some(known) => known.resolve(last),
        None => Numbers::of_ranges(vec![(1, last)]),
    };
    let above = match_of(view, qresync);
    let since = possible(view, qresync.modseq);
    let vanished = vanished(view, mailbox, &known, since, above);
    let changed = mailbox.messages().filter(|record| record.modseq.get() > since);
    let changed = changed.filter(|record| known.contains(record.uid.get()));
    Meanwhile { vanished, changed: changed.filter_map(|record| view.marks(record)).collect() }
}

/// A change number that a client could have been told. One that is not reached yet comes from before a power cut, which took the last second of
/// flags: then everything is told.
pub fn possible(view: &View, modseq: u64) -> u64 {
    if modseq > view.modseq() { 0 } else { modseq }
}

/// The highest UID up to which nothing was removed, by the messages that the client offers for comparison: one that still has its number had
/// as many before it then as now.
fn match_of(view: &View, qresync: &Qresync) -> u32 {
    let Some((numbers, uids)) = &qresync.matches else { return 0 };
    let (Some(numbers), Some(uids)) = (numbers.listed(MATCHES_MAX), uids.listed(MATCHES_MAX)) else {
        return 0;
    };
    let same = |(number, uid): &(u32, u32)| view.uids().at(*number as usize - 1) == Some(*uid);
    numbers.into_iter().zip(uids).filter(same).map(|(_, uid)| uid).max().unwrap_or(0)
}

/// Which of the `known` UIDs above `above` were removed by changes after `modseq`; if that is not remembered, which of them no message has.
pub fn vanished(view: &View, mailbox: &Mailbox, known: &Numbers, modseq: u64, above: u32) -> Numbers {
    let candidates = match mailbox.removed_since(modseq) {
        Some(ranges) => known.both(&Numbers::of_ranges(ranges)),
        None => known.clone(),
    };
    candidates.both(&Numbers::of_ranges(vec![(above.saturating_add(1), u32::MAX)])).without(view.uids())
}

/// Removes the messages among these UIDs that bear `\Deleted`, and says how many.
fn remove_marked(mailbox: &mut Mailbox, among: &[(u32, u32)]) -> Result<u64, MailboxError> {
    if mailbox.refresh(PATIENCE)? == Refreshed::Busy {
        return Err(MailboxError::Locked(mailbox.file().to_string()));
    }
    let mut marked: Vec<(u32, u32)> = Vec::new();
    for (first, last) in among {
        let deleted = mailbox.range(*first, *last).filter(|record| record.has(flag::DELETED));
        marked.extend(deleted.map(|record| (record.uid.get(), record.uid.get())));
    }
    if !marked.is_empty() {
        mailbox.expunge(&marked, PATIENCE)?;
    }
    Ok(marked.len() as u64)
}
