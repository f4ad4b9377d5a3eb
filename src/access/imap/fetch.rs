//! FETCH (RFC 3501 §6.4.5, §7.4.2).
//!
//! Flags, UID, size and date come from the records alone; the envelope from the header; only the rest reads whole messages.
//! Large messages that need no conversion are passed through in pieces.
//!
//! # Failure
//! Messages that are gone are passed over; by number that is `NO [EXPUNGEISSUED]` (RFC 2180 §4.1), by UID nothing.

use super::command::{FetchItem, Numbering};
use super::outcome::{Failed, Outcome, done};
use super::reading::{Part, SLICE, Slice};
use super::reply;
use super::select::{possible, vanished, write_vanished};
use super::sequence::SequenceSet;
use super::session::Session;
use super::sync::View;
use crate::message::binary::{Decoded, decoded};
use crate::message::bodystructure::{Form, body_structure};
use crate::message::preview::preview;
use crate::message::section::{Section, SectionText, extract, extract_part, partial};
use crate::message::structure::Structure;
use crate::message::{date, envelope};
use crate::session::connection::Blocking;
use chrono::TimeZone as _;
use layout::disk::{Handle, read_exact_at};
use layout::lock::PATIENCE;
use layout::mailbox::{FlagChange, MailboxError};
use layout::mbx::record::{Record, flag};
use std::io::Write;
use std::sync::Arc;

/// Messages of at least so many bytes are not read into memory whole if that can be avoided.
const LARGE: u64 = 1 << 20;
/// How much of a large message is passed on at once.
const PIECE: usize = 256 << 10;

/// What a FETCH asks for.
struct Plan {
    items: Vec<FetchItem>,
    part: Part,
    marks_seen: bool,
    /// Are the flags among the items?
    has_flags: bool,
    /// Only messages that changed after this one.
    changed_since: u64,
}

impl Plan {
    fn new(mut items: Vec<FetchItem>, numbering: Numbering, changed_since: Option<u64>) -> Plan {
        if numbering == Numbering::Uid && !items.contains(&FetchItem::Uid) {
            items.insert(0, FetchItem::Uid);
        }
        if changed_since.is_some() && !items.contains(&FetchItem::ModSeq) {
            items.push(FetchItem::ModSeq);
        }
        let part = items.iter().map(part_of).max().unwrap_or(Part::Record);
        let marks_seen = items.iter().any(FetchItem::marks_seen);
        let has_flags = items.contains(&FetchItem::Flags);
        Plan { items, part, marks_seen, has_flags, changed_since: changed_since.unwrap_or(0) }
    }

    /// The piece of the whole message that is asked for, if only one item reads the message and that one asks for nothing else.
    fn only_piece(&self) -> Option<Option<(u32, u32)>> {
        let mut reading = self.items.iter().filter(|item| part_of(item) != Part::Record);
        let piece = match reading.next()? {
            FetchItem::Rfc822 => None,
            FetchItem::Section { section, partial, .. } if *section == Section::default() => *partial,
            _ => return None,
        };
        reading.next().is_none().then_some(piece)
    }
}

fn part_of(item: &FetchItem) -> Part {
    match item {
        FetchItem::Flags
        | FetchItem::InternalDate
        | FetchItem::Rfc822Size
        | FetchItem::Uid
        | FetchItem::ModSeq
        | FetchItem::EmailId
        | FetchItem::ThreadId
        | FetchItem::SaveDate => Part::Record,
        FetchItem::Envelope | FetchItem::Rfc822Header => Part::Header,
        FetchItem::Section { section, .. } if section.needs_only_header() => Part::Header,
        _ => Part::Whole,
    }
}

impl Session {
    /// FETCH and UID FETCH.
    pub(super) fn fetch(
        &mut self,
        out: &mut Blocking<'_>,
        numbering: Numbering,
        set: &SequenceSet,
        items: Vec<FetchItem>,
        changed_since: Option<u64>,
        tell_vanished: bool,
    ) -> Outcome {
        let changed_since = match changed_since {
            Some(modseq) => Some(possible(self.selected()?, modseq)),
            None => None,
        };
        let plan = Plan::new(items, numbering, changed_since);
        if plan.items.contains(&FetchItem::ModSeq) {
            self.begin_condstore(out)?;
            if !self.selected()?.has_modseq() {
                return Err(Failed::Bad("changes are not numbered in this mailbox".to_owned()));
            }
        }
        if tell_vanished && !self.enabled.qresync {
            return Err(Failed::Bad("QRESYNC must be enabled first".to_owned()));
        }
        let view = self.selected()?;
        let ranges = view.select(numbering, set)?;
        let uids = view.uids().clone();
        if tell_vanished {
            let gone = view.open.clone().with(|mailbox| {
                let known = set.resolve(mailbox.uid_next().saturating_sub(1));
                vanished(view, mailbox, &known, plan.changed_since, 0)
            });
            write_vanished(out, &gone)?;
        }
        let mut gone = false;
        for range in ranges {
            let Some(mut number) = u32::try_from(range.start).ok() else { break };
            for slice in uids.get(range).unwrap_or_default().chunks(SLICE) {
                gone |= self.fetch_slice(out, &plan, number, slice)?;
                number += slice.len() as u32;
            }
        }
        if gone && numbering == Numbering::Sequence {
            return Err(Failed::expunged());
        }
        if std::mem::take(&mut self.unknown_encoding) {
            return Err(Failed::No("UNKNOWN-CTE", "a part has an encoding that is not known".to_owned()));
        }
        done("FETCH completed")
    }

    /// Answers for some messages, the first one with the number behind `before`. Says whether one was gone.
    fn fetch_slice(
        &mut self,
        out: &mut Blocking<'_>,
        plan: &Plan,
        before: u32,
        uids: &[u32],
    ) -> Result<bool, Failed> {
        let view = self.selected()?;
        let (open, read_only) = (view.open.clone(), view.read_only);
        let mut slice = Slice::take(&open, uids);
        let mut marked = Vec::new();
        if plan.marks_seen && !read_only {
            marked = self.mark_seen(out, &slice)?;
        }
        if !marked.is_empty() {
            slice = Slice::take(&open, uids);
        }
        let mut gone = false;
        let mut answer = Vec::new();
        for (index, record) in slice.records.iter().enumerate() {
            let Some(record) = record else {
                gone = true;
                continue;
            };
            if record.modseq.get() <= plan.changed_since {
                continue;
            }
            let changed = marked.binary_search(&record.uid.get()).is_ok();
            let message = Message { number: before + index as u32 + 1, record: *record, changed };
            answer.clear();
            let view = &*self.selected()?;
            match write_message(view, plan, &slice, &message, &mut answer, out)? {
                Written::Told { unknown_encoding } => {
                    out.write_all(&answer)?;
                    self.retrieved += u64::from(plan.part == Part::Whole);
                    self.unknown_encoding |= unknown_encoding;
                }
                Written::Gone => gone = true,
            }
        }
        Ok(gone)
    }

    /// Marks the unseen messages of a slice, and gives their UIDs. What others changed before is told.
    fn mark_seen(&mut self, out: &mut Blocking<'_>, slice: &Slice) -> Result<Vec<u32>, Failed> {
        let view = self.selected()?;
        let unseen = slice.records.iter().flatten().filter(|record| view.flags(record) & flag::SEEN == 0);
        let unseen: Vec<u32> = unseen.map(|record| record.uid.get()).collect();
        if unseen.is_empty() {
            return Ok(unseen);
        }
        let ranges: Vec<(u32, u32)> = unseen.iter().map(|uid| (*uid, *uid)).collect();
        let change = FlagChange { set: flag::SEEN, ..FlagChange::default() };
        let view = self.selected()?;
        let open = view.open.clone();
        match open.with(|mailbox| view.change_flags(mailbox, &ranges, &change, PATIENCE)) {
            Ok(news) => self.tell(out, &news).map(|()| unseen),
            // Reading must work while another program holds the file; the messages stay unseen.
            Err(MailboxError::Locked(_)) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A message to be answered.
struct Message {
    number: u32,
    record: Record,
    /// It became `\Seen` by this command.
    changed: bool,
}

/// What became of one answer.
enum Written {
    /// The message is gone.
    Gone,
    /// It is there.
    Told {
        /// Something of it could not be decoded.
        unknown_encoding: bool,
    },
}

/// Writes one answer into `answer`, or, for a large message, straight to the client.
fn write_message(
    view: &View,
    plan: &Plan,
    slice: &Slice,
    message: &Message,
    answer: &mut Vec<u8>,
    out: &mut Blocking<'_>,
) -> Result<Written, Failed> {
    let mut writer = Writer { view, message, answer, first: true, unknown_encoding: false };
    if plan.part == Part::Record {
        writer.begin();
        plan.items.iter().for_each(|item| writer.record_item(item));
        writer.end(plan);
        return Ok(Written::Told { unknown_encoding: false });
    }
    let record = &message.record;
    if plan.part == Part::Whole
        && record.content_len() >= LARGE
        && is_plain(record)
        && let Some(piece) = plan.only_piece()
        && let Some(file) = &slice.file
        && layout::mailbox::read_header(&**file, record).is_ok()
    {
        writer.pass_through(plan, file, piece, out)?;
        return Ok(Written::Told { unknown_encoding: false });
    }
    let Some((_, bytes)) = slice.read(&view.open, record, plan.part)? else { return Ok(Written::Gone) };
    let structure = plan.items.iter().any(needs_structure).then(|| Structure::parse(&bytes));
    writer.begin();
    for item in &plan.items {
        writer.item(item, &bytes, structure.as_ref());
    }
    writer.end(plan);
    Ok(Written::Told { unknown_encoding: writer.unknown_encoding })
}

fn needs_structure(item: &FetchItem) -> bool {
    match item {
        FetchItem::Body | FetchItem::BodyStructure | FetchItem::Preview => true,
        FetchItem::Binary { .. } | FetchItem::BinarySize(_) => true,
        FetchItem::Section { section, .. } => !section.part.is_empty(),
        _ => false,
    }
}

/// Is the message served as it is stored, but for the line that is left out?
fn is_plain(record: &Record) -> bool {
    record.bare_lf.get() == 0 && record.escapes.get() == 0
}

/// Writes one `* n FETCH (...)`.
struct Writer<'a> {
    view: &'a View,
    message: &'a Message,
    answer: &'a mut Vec<u8>,
    first: bool,
    unknown_encoding: bool,
}

impl Writer<'_> {
    fn begin(&mut self) {
        self.answer.extend_from_slice(b"* ");
        reply::number(self.answer, u64::from(self.message.number));
        self.answer.extend_from_slice(b" FETCH (");
    }

    fn blank(&mut self) {
        if !std::mem::replace(&mut self.first, false) {
            self.answer.push(b' ');
        }
    }

    fn end(&mut self, plan: &Plan) {
        if self.message.changed && !plan.has_flags {
            self.record_item(&FetchItem::Flags);
        }
        if self.message.changed && !plan.items.contains(&FetchItem::ModSeq) {
            self.view.write_modseq(self.answer, self.message.record.modseq.get());
        }
        self.answer.extend_from_slice(b")\r\n");
    }

    /// An item that the record answers.
    fn record_item(&mut self, item: &FetchItem) {
        self.blank();
        let record = &self.message.record;
        match item {
            FetchItem::Uid => {
                self.answer.extend_from_slice(b"UID ");
                reply::number(self.answer, u64::from(record.uid.get()));
            }
            FetchItem::Rfc822Size => {
                self.answer.extend_from_slice(b"RFC822.SIZE ");
                reply::number(self.answer, record.imap_size());
            }
            FetchItem::InternalDate => {
                self.answer.extend_from_slice(b"INTERNALDATE ");
                date::write_internal(self.answer, &local_date(record.date.get()));
            }
            FetchItem::SaveDate => {
                self.answer.extend_from_slice(b"SAVEDATE ");
                date::write_internal(self.answer, &local_date(record.saved()));
            }
            FetchItem::ModSeq => {
                self.answer.extend_from_slice(b"MODSEQ (");
                reply::number(self.answer, record.modseq.get());
                self.answer.push(b')');
            }
            FetchItem::EmailId => {
                self.answer.extend_from_slice(format!("EMAILID ({})", email_id(record)).as_bytes());
            }
            // Threads are the client's to ask for, with THREAD.
            FetchItem::ThreadId => self.answer.extend_from_slice(b"THREADID NIL"),
            _ => {
                let marks = self.view.marks(record);
                if let Some(marks) = marks {
                    self.view.write_marks(self.answer, &marks);
                }
            }
        }
    }

    fn item(&mut self, item: &FetchItem, bytes: &[u8], structure: Option<&Structure<'_>>) {
        match item {
            FetchItem::Binary { part, partial, .. } => self.binary(part, *partial, structure),
            FetchItem::BinarySize(part) => {
                self.blank();
                self.binary_name(b"BINARY.SIZE", part);
                let found = structure.and_then(|structure| decoded(structure, part));
                let size = match &found {
                    Some(Decoded::Bytes(bytes)) => bytes.len() as u64,
                    Some(Decoded::Unknown) => 0,
                    None => 0,
                };
                self.unknown_encoding |= matches!(found, Some(Decoded::Unknown));
                self.answer.push(b' ');
                reply::number(self.answer, size);
            }
            FetchItem::Preview => {
                self.blank();
                self.answer.extend_from_slice(b"PREVIEW ");
                let text = structure.map(preview).unwrap_or_default();
                match self.view.enabled.utf8 {
                    true => reply::utf8(self.answer, &text),
                    false => reply::string(self.answer, text.as_bytes()),
                }
            }
            item if part_of(item) == Part::Record => self.record_item(item),
            FetchItem::Envelope => {
                self.blank();
                self.answer.extend_from_slice(b"ENVELOPE ");
                envelope::envelope(bytes, self.answer);
            }
            FetchItem::Body | FetchItem::BodyStructure => {
                self.blank();
                let (name, form): (&[u8], Form) = match item {
                    FetchItem::Body => (b"BODY ", Form::Body),
                    _ => (b"BODYSTRUCTURE ", Form::BodyStructure),
                };
                self.answer.extend_from_slice(name);
                if let Some(structure) = structure {
                    body_structure(structure, form, self.answer);
                }
            }
            FetchItem::Rfc822 => self.text(b"RFC822", bytes, SectionText::Whole),
            FetchItem::Rfc822Header => self.text(b"RFC822.HEADER", bytes, SectionText::Header),
            FetchItem::Rfc822Text => self.text(b"RFC822.TEXT", bytes, SectionText::Text),
            FetchItem::Section { section, partial, .. } => self.section(section, *partial, bytes, structure),
            _ => {}
        }
    }

    /// `BINARY[1.2]`
    fn binary_name(&mut self, name: &[u8], part: &[u32]) {
        self.answer.extend_from_slice(name);
        Section { part: part.to_vec(), text: SectionText::Whole }.write(self.answer);
    }

    /// A part without its transfer encoding. What holds NUL goes as a literal8 (RFC 3516 §4.2).
    fn binary(&mut self, part: &[u32], piece: Option<(u32, u32)>, structure: Option<&Structure<'_>>) {
        self.blank();
        self.binary_name(b"BINARY", part);
        self.origin(piece);
        let text = match structure.and_then(|structure| decoded(structure, part)) {
            Some(Decoded::Bytes(bytes)) => bytes,
            other => {
                self.unknown_encoding |= other.is_some();
                return self.answer.extend_from_slice(b"NIL");
            }
        };
        let text = match piece {
            Some((offset, count)) => partial(&text, offset, count),
            None => &text,
        };
        reply::literal8(self.answer, text);
    }

    /// `<offset> `, or only the blank.
    fn origin(&mut self, piece: Option<(u32, u32)>) {
        if let Some((offset, _)) = piece {
            self.answer.push(b'<');
            reply::number(self.answer, u64::from(offset));
            self.answer.push(b'>');
        }
        self.answer.push(b' ');
    }

    fn text(&mut self, name: &[u8], bytes: &[u8], text: SectionText) {
        self.blank();
        self.answer.extend_from_slice(name);
        self.answer.push(b' ');
        let found = extract(bytes, &Section::of_message(text));
        reply::literal(self.answer, &found.unwrap_or_default());
    }

    fn section(
        &mut self,
        section: &Section,
        piece: Option<(u32, u32)>,
        bytes: &[u8],
        structure: Option<&Structure<'_>>,
    ) {
        self.blank();
        self.section_name(section, piece);
        let found = match structure {
            Some(structure) => extract_part(structure, section),
            None => extract(bytes, section),
        };
        match (found, piece) {
            (None, _) => self.answer.extend_from_slice(b"NIL"),
            (Some(text), None) => reply::literal(self.answer, &text),
            (Some(text), Some((offset, count))) => {
                reply::literal(self.answer, partial(&text, offset, count));
            }
        }
    }

    /// `BODY[...]<offset> `
    fn section_name(&mut self, section: &Section, piece: Option<(u32, u32)>) {
        self.answer.extend_from_slice(b"BODY");
        section.write(self.answer);
        self.origin(piece);
    }

    /// A large message, or a piece of it, from the file to the client.
    fn pass_through(
        mut self,
        plan: &Plan,
        file: &Arc<dyn Handle>,
        piece: Option<(u32, u32)>,
        out: &mut Blocking<'_>,
    ) -> Result<(), Failed> {
        let record = &self.message.record;
        let (offset, count) = match piece {
            Some((offset, count)) => (u64::from(offset), u64::from(count)),
            None => (0, u64::MAX),
        };
        self.begin();
        for item in &plan.items {
            match item {
                FetchItem::Rfc822 => {
                    self.blank();
                    self.answer.extend_from_slice(b"RFC822 ");
                }
                FetchItem::Section { section, partial, .. } => {
                    self.blank();
                    self.section_name(section, *partial);
                }
                item => {
                    self.record_item(item);
                    continue;
                }
            }
            let ranges = served_ranges(record, offset, count);
            let length: u64 = ranges.iter().map(|range| range.1 - range.0).sum();
            write!(self.answer, "{{{length}}}\r\n")?;
            out.write_all(self.answer)?;
            self.answer.clear();
            for (from, to) in ranges {
                pass(&**file, from, to, out)?;
            }
        }
        self.end(plan);
        Ok(())
    }
}

/// Where in the file the bytes stand that a client sees from `offset` on: before and behind the line that is left out.
fn served_ranges(record: &Record, offset: u64, count: u64) -> Vec<(u64, u64)> {
    let hidden = match record.status {
        0 => record.content_len(),
        _ => u64::from(record.status_at.get()),
    };
    let parts = [(0, hidden), (hidden + u64::from(record.status), record.content_len())];
    let (mut skip, mut left) = (offset, count);
    let mut ranges = Vec::new();
    for (from, to) in parts.into_iter().filter(|(from, to)| from < to) {
        let skipped = skip.min(to - from);
        skip -= skipped;
        let from = from + skipped;
        let to = to.min(from.saturating_add(left));
        left -= to - from;
        if from < to {
            ranges.push((record.content() + from, record.content() + to));
        }
    }
    ranges
}

/// Passes bytes of the file on. If it cannot be read to the end the connection is lost: the client was promised that many bytes.
fn pass(file: &dyn Handle, from: u64, to: u64, out: &mut Blocking<'_>) -> Result<(), Failed> {
    let mut piece = vec![0; PIECE];
    let mut at = from;
    while at < to {
        let length = (to - at).min(PIECE as u64) as usize;
        let Some(bytes) = piece.get_mut(..length) else { break };
        read_exact_at(file, bytes, at)
            .map_err(|_| Failed::Bye("the mailbox was changed by another program"))?;
        // As in a literal that is made in memory: no byte is NUL (RFC 3501 §4.3.1).
        bytes.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = reply::NUL_SUBSTITUTE);
        out.write_all(bytes)?;
        at += length as u64;
    }
    Ok(())
}

/// What a message is told apart by, wherever it is (RFC 8474 §5.1): the same fingerprint, size and date are the same message.
pub fn email_id(record: &Record) -> String {
    format!("M{:016x}-{:x}-{:x}", record.fingerprint.get(), record.imap_size(), record.date.get())
}

/// A moment in the server's zone.
fn local_date(seconds: u32) -> chrono::DateTime<chrono::FixedOffset> {
    let date = chrono::Local.timestamp_opt(i64::from(seconds), 0).single();
    date.map(|date| date.fixed_offset()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_around_the_hidden_line() {
        let mut record: Record = zeroed();
        record.offset = 100.into();
        record.separator = 10.into();
        record.stored = (10 + 50u32).into();
        record.status_at = 20.into();
        record.status = 5;
        // Content from 110 to 160, without 130 to 135: 45 bytes.
        for ((offset, count), expected) in [
            ((0, u64::MAX), vec![(110, 130), (135, 160)]),
            ((0, 20), vec![(110, 130)]),
            ((0, 21), vec![(110, 130), (135, 136)]),
            ((19, 2), vec![(129, 130), (135, 136)]),
            ((20, 2), vec![(135, 137)]),
            ((25, 100), vec![(140, 160)]),
            ((44, 1), vec![(159, 160)]),
            ((45, 1), vec![]),
            ((1000, 1), vec![]),
        ] {
            assert_eq!(served_ranges(&record, offset, count), expected, "{offset} {count}");
        }
        record.status = 0;
        record.status_at = 0.into();
        assert_eq!(served_ranges(&record, 40, 100), [(150, 160)]);
    }

    fn zeroed() -> Record {
        layout::mbx::record::Record {
            uid: 1.into(),
            flags: 0.into(),
            offset: 0.into(),
            stored: 0.into(),
            header: 0.into(),
            bare_lf: 0.into(),
            escapes: 0.into(),
            date: 0.into(),
            modseq: 0.into(),
            fingerprint: 0.into(),
            keywords: 0.into(),
            status_at: 0.into(),
            separator: 0.into(),
            trim: 0,
            status: 0,
        }
    }
}
