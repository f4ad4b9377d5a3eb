//! FETCH (RFC 3501 §6.4.5, §7.4.2).
//!
//! Flags, UID, size and date come from the records alone; the envelope from the header; only the rest reads whole messages.
//! The answer is made and sent in steps of about [`STEP`]; texts that do not fit into one go from the file to the client in pieces, so that a
//! client that does not read keeps no message in memory.
//!
//! # Failure
//! Messages that are gone are passed over; by number that is `NO [EXPUNGEISSUED]` (RFC 2180 §4.1), by UID nothing.
//! What is larger than [`ANSWER_MAX`] and no text of the message as it stands is `NO [LIMIT]`.

use super::command::{FetchItem, Numbering};
use super::outcome::{Failed, Outcome, done};
use super::reading::{LARGE, Part, SLICE, Slice};
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
use crate::session::connection::{Blocking, Connection};
use chrono::TimeZone as _;
use layout::disk::Handle;
use layout::index::uids::Uids;
use layout::lock::PATIENCE;
use layout::mailbox::{Content, FlagChange, MailboxError};
use layout::mbx::record::{Record, flag};
use layout::mbx::view::Reader;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;
use tokio::task::block_in_place;

/// How much of the answer is made before it is sent.
const STEP: usize = 256 << 10;
/// Texts of at least so many bytes go out in pieces if they do not fit into a step.
const CUT_MIN: usize = 4 << 10;
/// The most that is kept in memory of the answer for one message: decoded parts, many fields of large headers, wide structures.
const ANSWER_MAX: usize = 16 << 20;

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

/// A FETCH command.
pub(super) struct Fetch {
    /// Whose numbers the set holds.
    pub numbering: Numbering,
    /// Whom it is about.
    pub set: SequenceSet,
    /// What is asked for.
    pub items: Vec<FetchItem>,
    /// Only of messages that changed since (RFC 7162 §3.1.4.1).
    pub changed_since: Option<u64>,
    /// And what was removed since (RFC 7162 §3.2.6).
    pub vanished: bool,
}

/// What a FETCH asks for, and of whom.
struct Work {
    plan: Plan,
    /// Indices into `uids`.
    ranges: Vec<Range<usize>>,
    uids: Arc<Uids>,
}

/// What a step of a FETCH did.
struct Step {
    /// Messages that are answered or gone.
    done: usize,
    /// One was gone.
    gone: bool,
    /// The answer for the last one, if it goes out in pieces.
    large: Option<Box<Large>>,
}

/// An answer that is not in memory as a whole.
struct Large {
    file: Arc<dyn Handle>,
    record: Record,
    answer: Vec<u8>,
    cuts: Vec<Cut>,
}

/// A text that is left out of an answer.
struct Cut {
    /// Where in the answer.
    at: usize,
    /// Where it is in the message.
    from: u64,
    length: u64,
}

impl Session {
    /// FETCH and UID FETCH.
    pub(super) async fn fetch(&mut self, connection: &mut Connection, fetch: Fetch) -> Outcome {
        let numbering = fetch.numbering;
        let out = &mut connection.blocking();
        let Work { plan, ranges, uids } = block_in_place(|| self.plan_fetch(out, fetch))?;
        let mut gone = false;
        for range in ranges {
            let Some(mut number) = u32::try_from(range.start).ok() else { break };
            let mut rest = uids.get(range).unwrap_or_default();
            while !rest.is_empty() {
                let slice = rest.get(..SLICE).unwrap_or(rest);
                let out = &mut connection.blocking();
                let step = block_in_place(|| self.fetch_step(out, &plan, number, slice))?;
                gone |= step.gone;
                number += step.done as u32;
                rest = rest.get(step.done..).unwrap_or_default();
                match step.large {
                    Some(large) => send_large(connection, *large).await?,
                    None => connection.flush_if_large().await?,
                }
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

    /// What is to be answered, and for which of the messages. What the client is told first is written.
    fn plan_fetch(&mut self, out: &mut Blocking<'_>, fetch: Fetch) -> Result<Work, Failed> {
        let Fetch { numbering, set, items, changed_since, vanished: tell_vanished } = fetch;
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
        let ranges = view.select(numbering, &set)?;
        if tell_vanished {
            let gone = view.open.clone().with(|mailbox| {
                let known = set.resolve(mailbox.uid_next().saturating_sub(1));
                vanished(view, mailbox, &known, plan.changed_since, 0)
            });
            write_vanished(out, &gone)?;
        }
        Ok(Work { plan, ranges, uids: view.uids().clone() })
    }

    /// Answers for some messages, the first one with the number behind `before`; ends early when there is enough to send.
    fn fetch_step(
        &mut self,
        out: &mut Blocking<'_>,
        plan: &Plan,
        before: u32,
        uids: &[u32],
    ) -> Result<Step, Failed> {
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
        let mut step = Step { done: 0, gone: false, large: None };
        let mut made = 0;
        let mut answer = Vec::new();
        for (index, record) in slice.records.iter().enumerate() {
            step.done = index + 1;
            let Some(record) = record else {
                step.gone = true;
                continue;
            };
            if record.modseq.get() <= plan.changed_since {
                continue;
            }
            let changed = marked.binary_search(&record.uid.get()).is_ok();
            let message = Message { number: before + index as u32 + 1, record: *record, changed };
            answer.clear();
            let view = &*self.selected()?;
            match write_message(view, plan, &slice, &message, &mut answer)? {
                Written::Told { unknown_encoding, large } => {
                    out.write_all(&answer)?;
                    self.retrieved += u64::from(plan.part == Part::Whole);
                    self.unknown_encoding |= unknown_encoding;
                    made += answer.len();
                    step.large = large;
                }
                Written::Gone => step.gone = true,
            }
            if made >= STEP || step.large.is_some() {
                break;
            }
        }
        Ok(step)
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
        /// The answer, if it goes out in pieces.
        large: Option<Box<Large>>,
    },
}

/// Writes one answer into `answer`, unless it goes out in pieces.
fn write_message(
    view: &View,
    plan: &Plan,
    slice: &Slice,
    message: &Message,
    answer: &mut Vec<u8>,
) -> Result<Written, Failed> {
    let cuts = Vec::new();
    let mut writer = Writer { view, message, answer, first: true, unknown_encoding: false, cuts };
    if plan.part == Part::Record {
        writer.begin();
        plan.items.iter().for_each(|item| writer.record_item(item));
        writer.end(plan);
        return Ok(Written::Told { unknown_encoding: false, large: None });
    }
    let record = &message.record;
    if plan.part == Part::Whole
        && record.content_len() >= LARGE
        && let Some(piece) = plan.only_piece()
        && let Some(file) = &slice.file
        && Content::open(file.clone(), record, Reader::Imap, None).is_ok()
    {
        writer.only(plan, piece)?;
        return Ok(writer.told(file.clone(), *record));
    }
    let Some(read) = slice.read(&view.open, record, plan.part)? else { return Ok(Written::Gone) };
    let structure = plan.items.iter().any(needs_structure).then(|| Structure::parse(&read.bytes));
    writer.begin();
    for item in &plan.items {
        writer.item(item, &read.bytes, structure.as_ref());
        if writer.answer.len() > ANSWER_MAX {
            let text = "this is too much at once; ask for less, or for BODY in place of BINARY";
            return Err(Failed::No("LIMIT", text.to_owned()));
        }
    }
    writer.end(plan);
    Ok(writer.told(read.file, read.record))
}

fn needs_structure(item: &FetchItem) -> bool {
    match item {
        FetchItem::Body | FetchItem::BodyStructure | FetchItem::Preview => true,
        FetchItem::Binary { .. } | FetchItem::BinarySize(_) => true,
        FetchItem::Section { section, .. } => !section.part.is_empty(),
        _ => false,
    }
}

/// Writes one `* n FETCH (...)`.
struct Writer<'a> {
    view: &'a View,
    message: &'a Message,
    answer: &'a mut Vec<u8>,
    first: bool,
    unknown_encoding: bool,
    cuts: Vec<Cut>,
}

impl Writer<'_> {
    /// The answer is complete.
    fn told(self, file: Arc<dyn Handle>, record: Record) -> Written {
        let Writer { answer, unknown_encoding, cuts, .. } = self;
        let large = (!cuts.is_empty())
            .then(|| Box::new(Large { file, record, answer: std::mem::take(answer), cuts }));
        Written::Told { unknown_encoding, large }
    }

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
        self.literal(bytes, &found.unwrap_or_default());
    }

    /// Writes a text, or only its length if it is part of `message` and is to be read again when it is sent.
    fn literal(&mut self, message: &[u8], text: &[u8]) {
        let cut = text.len() >= CUT_MIN && self.answer.len() + text.len() > STEP;
        match offset_in(message, text).filter(|_| cut) {
            Some(from) => self.cut(from, text.len() as u64),
            None => reply::literal(self.answer, text),
        }
    }

    fn cut(&mut self, from: u64, length: u64) {
        self.answer.push(b'{');
        reply::number(self.answer, length);
        self.answer.extend_from_slice(b"}\r\n");
        self.cuts.push(Cut { at: self.answer.len(), from, length });
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
            (Some(text), None) => self.literal(bytes, &text),
            (Some(text), Some((offset, count))) => self.literal(bytes, partial(&text, offset, count)),
        }
    }

    /// `BODY[...]<offset> `
    fn section_name(&mut self, section: &Section, piece: Option<(u32, u32)>) {
        self.answer.extend_from_slice(b"BODY");
        section.write(self.answer);
        self.origin(piece);
    }

    /// The answer where only one item, the message or a piece of it, needs more than the record.
    fn only(&mut self, plan: &Plan, piece: Option<(u32, u32)>) -> Result<(), Failed> {
        let size = self.message.record.imap_size();
        let (offset, count) = match piece {
            Some((offset, count)) => (u64::from(offset).min(size), u64::from(count)),
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
            self.cut(offset, count.min(size - offset));
        }
        self.end(plan);
        Ok(())
    }
}

/// Where in `whole` a part of it begins; `None` if it is none.
fn offset_in(whole: &[u8], part: &[u8]) -> Option<u64> {
    let at = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    (at + part.len() <= whole.len()).then_some(at as u64)
}

/// Sends an answer with what was left out of it. If that cannot be read any more the connection is lost: the client was promised that many
/// bytes.
async fn send_large(connection: &mut Connection, large: Large) -> Result<(), Failed> {
    const LOST: Failed = Failed::Bye("the mailbox was changed by another program");
    let Large { file, record, answer, cuts } = large;
    let mut sent = 0;
    for Cut { at, from, length } in cuts {
        connection.answer(answer.get(sent..at).unwrap_or_default());
        sent = at;
        let mut content = block_in_place(|| {
            let mut content = Content::open(file.clone(), &record, Reader::Imap, None)?;
            content.skip(from)?;
            Ok::<_, MailboxError>(content)
        })
        .map_err(|_| LOST)?;
        let mut left = length;
        while left > 0 {
            let Ok(Some(mut piece)) = block_in_place(|| content.next_piece()) else { return Err(LOST) };
            piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            left -= piece.len() as u64;
            // As in a literal that is made in memory: no byte is NUL (RFC 3501 §4.3.1).
            piece.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = reply::NUL_SUBSTITUTE);
            connection.answer(&piece);
            connection.flush_if_large().await?;
        }
    }
    connection.answer(answer.get(sent..).unwrap_or_default());
    connection.flush_if_large().await?;
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
