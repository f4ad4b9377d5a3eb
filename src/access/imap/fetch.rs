//! FETCH (RFC 3501 §6.4.5, §7.4.2).
//!
//! Flags, UID, size and date come from the records alone; the envelope from the header; only the rest reads whole messages.
//! The answer is made and sent in steps of about [`STEP`]; a large message that is asked for as it is goes out in pieces.
//!
//! # Failure
//! Messages that are gone are passed over; by number that is `NO [EXPUNGEISSUED]` (RFC 2180 §4.1), by UID nothing.

use super::command::{FetchItem, Numbering};
use super::outcome::{Failed, Outcome, done};
use super::reading::{Part, SLICE, Slice};
use super::reply;
use super::sequence::SequenceSet;
use super::session::Session;
use super::sync::View;
use crate::message::bodystructure::{Form, body_structure};
use crate::message::section::{Section, SectionText, extract, extract_part, partial};
use crate::message::structure::Structure;
use crate::message::{date, envelope};
use crate::session::connection::{Blocking, Connection};
use chrono::TimeZone as _;
use layout::lock::PATIENCE;
use layout::mailbox::{Content, FlagChange, MailboxError};
use layout::mbx::record::{Record, flag};
use layout::mbx::view::Reader;
use std::io::Write;
use tokio::task::block_in_place;

/// Messages of at least so many bytes are not read into memory whole if that can be avoided.
const LARGE: u64 = 1 << 20;
/// How much of the answer is made before it is sent.
const STEP: usize = 256 << 10;

/// What a FETCH asks for.
struct Plan {
    items: Vec<FetchItem>,
    part: Part,
    marks_seen: bool,
    /// Are the flags among the items?
    has_flags: bool,
}

impl Plan {
    fn new(mut items: Vec<FetchItem>, numbering: Numbering) -> Plan {
        if numbering == Numbering::Uid && !items.contains(&FetchItem::Uid) {
            items.insert(0, FetchItem::Uid);
        }
        let part = items.iter().map(part_of).max().unwrap_or(Part::Record);
        let marks_seen = items.iter().any(FetchItem::marks_seen);
        let has_flags = items.contains(&FetchItem::Flags);
        Plan { items, part, marks_seen, has_flags }
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
        FetchItem::Flags | FetchItem::InternalDate | FetchItem::Rfc822Size | FetchItem::Uid => Part::Record,
        FetchItem::Envelope | FetchItem::Rfc822Header => Part::Header,
        FetchItem::Section { section, .. } if section.needs_only_header() => Part::Header,
        _ => Part::Whole,
    }
}

/// What a step of a FETCH did.
struct Step {
    /// Messages that are answered or gone.
    done: usize,
    /// One was gone.
    gone: bool,
    /// The rest of the last one.
    large: Option<Large>,
}

/// What is still to be sent of a large message.
struct Large {
    content: Content,
    left: u64,
    /// The answer behind it.
    end: Vec<u8>,
}

impl Session {
    /// FETCH and UID FETCH.
    pub(super) async fn fetch(
        &mut self,
        connection: &mut Connection,
        numbering: Numbering,
        set: &SequenceSet,
        items: Vec<FetchItem>,
    ) -> Outcome {
        let plan = Plan::new(items, numbering);
        let view = self.selected()?;
        let ranges = view.select(numbering, set)?;
        let uids = view.uids().clone();
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
                    Some(large) => send_large(connection, large).await?,
                    None => connection.flush_if_large().await?,
                }
            }
        }
        if gone && numbering == Numbering::Sequence {
            return Err(Failed::expunged());
        }
        done("FETCH completed")
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
            let changed = marked.binary_search(&record.uid.get()).is_ok();
            let message = Message { number: before + index as u32 + 1, record: *record, changed };
            answer.clear();
            let view = &*self.selected()?;
            let Some(large) = write_message(view, plan, &slice, &message, &mut answer)? else {
                step.gone = true;
                continue;
            };
            out.write_all(&answer)?;
            self.retrieved += u64::from(plan.part == Part::Whole);
            made += answer.len();
            step.large = large;
            if made >= STEP || step.large.is_some() {
                break;
            }
        }
        Ok(step)
    }

    /// Marks the unseen messages of a slice, and gives their UIDs. What others changed before is told.
    fn mark_seen(&mut self, out: &mut Blocking<'_>, slice: &Slice) -> Result<Vec<u32>, Failed> {
        let unseen = slice.records.iter().flatten().filter(|record| !record.has(flag::SEEN));
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

/// Writes one answer into `answer`, of a large message only its begin. `None`: the message is gone.
fn write_message(
    view: &View,
    plan: &Plan,
    slice: &Slice,
    message: &Message,
    answer: &mut Vec<u8>,
) -> Result<Option<Option<Large>>, Failed> {
    let mut writer = Writer { view, message, answer, first: true };
    if plan.part == Part::Record {
        writer.begin();
        plan.items.iter().for_each(|item| writer.record_item(item));
        writer.end(plan);
        return Ok(Some(None));
    }
    let record = &message.record;
    if plan.part == Part::Whole
        && record.content_len() >= LARGE
        && let Some(piece) = plan.only_piece()
        && let Some(file) = &slice.file
        && let Ok(content) = Content::open(file.clone(), record, Reader::Imap, None)
    {
        return Ok(Some(Some(writer.large(plan, content, piece)?)));
    }
    let Some((_, bytes)) = slice.read(&view.open, record, plan.part)? else { return Ok(None) };
    let structure = plan.items.iter().any(needs_structure).then(|| Structure::parse(&bytes));
    writer.begin();
    for item in &plan.items {
        writer.item(item, &bytes, structure.as_ref());
    }
    writer.end(plan);
    Ok(Some(None))
}

fn needs_structure(item: &FetchItem) -> bool {
    match item {
        FetchItem::Body | FetchItem::BodyStructure => true,
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
                date::write_internal(self.answer, &internal_date(record));
            }
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
            FetchItem::Uid | FetchItem::Rfc822Size | FetchItem::InternalDate | FetchItem::Flags => {
                self.record_item(item);
            }
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
        }
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
        if let Some((offset, _)) = piece {
            self.answer.push(b'<');
            reply::number(self.answer, u64::from(offset));
            self.answer.push(b'>');
        }
        self.answer.push(b' ');
    }

    /// The answer for a large message up to its text, and what follows.
    fn large(
        mut self,
        plan: &Plan,
        mut content: Content,
        piece: Option<(u32, u32)>,
    ) -> Result<Large, Failed> {
        let size = self.message.record.imap_size();
        let (offset, count) = match piece {
            Some((offset, count)) => (u64::from(offset).min(size), u64::from(count)),
            None => (0, u64::MAX),
        };
        let left = count.min(size - offset);
        content.skip(offset)?;
        let mut end = None;
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
            write!(self.answer, "{{{left}}}\r\n")?;
            end = Some(self.answer.len());
        }
        self.end(plan);
        let end = end.map(|end| self.answer.split_off(end)).unwrap_or_default();
        Ok(Large { content, left, end })
    }
}

/// Sends the rest of a large message. If it cannot be read to the end the connection is lost: the client was promised that many
/// bytes.
async fn send_large(connection: &mut Connection, large: Large) -> Result<(), Failed> {
    let Large { mut content, mut left, end } = large;
    while left > 0 {
        let piece = block_in_place(|| content.next_piece());
        let Ok(Some(mut piece)) = piece else {
            return Err(Failed::Bye("the mailbox was changed by another program"));
        };
        piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        left -= piece.len() as u64;
        // As in a literal that is made in memory: no byte is NUL (RFC 3501 §4.3.1).
        piece.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = reply::NUL_SUBSTITUTE);
        connection.answer(&piece);
        connection.flush().await?;
    }
    connection.answer(end);
    Ok(())
}

/// INTERNALDATE in the server's zone.
fn internal_date(record: &Record) -> chrono::DateTime<chrono::FixedOffset> {
    let seconds = i64::from(record.date.get());
    chrono::Local.timestamp_opt(seconds, 0).single().map(|date| date.fixed_offset()).unwrap_or_default()
}
