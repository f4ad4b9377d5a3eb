//! SEARCH (RFC 3501 §6.4.4), with ESEARCH (RFC 4731) and results that are kept (RFC 5182).
//!
//! Keys that the record answers are asked first; a message is read only if they leave it open, and then only its header where that is
//! enough.
//!
//! # Failure
//! A charset that is not known is `NO [BADCHARSET]`. Messages that are gone are not found.

use super::command::{DateField, DateRelation, Flag, Numbering, Search, SearchKey, SearchReturn};
use super::fetch::email_id;
use super::outcome::{Failed, Outcome, done};
use super::reading::{Bytes, Part, SLICE, Slice};
use super::reply;
use super::sequence::{Numbers, SequenceSet, write_in_order};
use super::session::Session;
use super::store;
use super::sync::View;
use crate::message::date;
use crate::message::search::{Needle, UnknownCharset, body_contains, header_contains, text_contains};
use crate::session::connection::Blocking;
use chrono::{NaiveDate, TimeZone as _};
use layout::mailbox::Mailbox;
use layout::mbx::record::Record;
use std::io::Write as _;

/// What a message must meet, ready to be asked of many.
enum Test {
    All(Vec<Test>),
    Either(Box<Test>, Box<Test>),
    Not(Box<Test>),
    /// All bits of flags or keywords; a keyword that the mailbox does not know is nowhere.
    Bits {
        flags: u32,
        keywords: u32,
        set: bool,
    },
    Recent(bool),
    Number(Numbers),
    Uid(Numbers),
    Internal(DateRelation, NaiveDate),
    Sent(DateRelation, NaiveDate),
    Larger(u64),
    Smaller(u64),
    Header(Vec<u8>, Needle),
    Body(Needle),
    Text(Needle),
    Saved(DateRelation, NaiveDate),
    /// Internal date, Unix seconds: at this moment or later, or at it or earlier.
    DateFrom(i64),
    DateTo(i64),
    ModSeq(u64),
    EmailId(Vec<u8>),
    Always(bool),
}

/// A message that was found.
#[derive(Clone, Copy, Debug)]
pub struct Hit {
    /// Sequence number.
    pub number: u32,
    /// UID.
    pub uid: u32,
    modseq: u64,
}

impl Hit {
    /// The number that is answered.
    pub fn answer(&self, numbering: Numbering) -> u32 {
        match numbering {
            Numbering::Uid => self.uid,
            Numbering::Sequence => self.number,
        }
    }
}

impl Test {
    /// How much of a message is read to answer.
    fn part(&self) -> Part {
        match self {
            Test::All(tests) => tests.iter().map(Test::part).max().unwrap_or(Part::Record),
            Test::Either(one, other) => one.part().max(other.part()),
            Test::Not(test) => test.part(),
            Test::Sent(..) | Test::Header(..) => Part::Header,
            Test::Body(_) | Test::Text(_) => Part::Whole,
            _ => Part::Record,
        }
    }
}

/// Makes tests of keys.
struct Compiler<'a> {
    view: &'a View,
    charset: Option<&'a [u8]>,
}

impl Compiler<'_> {
    fn test(&self, key: &SearchKey) -> Result<Test, Failed> {
        let now = chrono::Local::now().timestamp();
        Ok(match key {
            SearchKey::Sequence(set) | SearchKey::Uid(set) if set.is_saved() => {
                Test::Uid(self.view.saved.clone())
            }
            SearchKey::Date { field: DateField::Saved, relation, day } => Test::Saved(*relation, *day),
            SearchKey::Younger(seconds) => Test::DateFrom(now - i64::from(*seconds)),
            SearchKey::Older(seconds) => Test::DateTo(now - i64::from(*seconds)),
            SearchKey::ModSeq(modseq) => Test::ModSeq(*modseq),
            SearchKey::EmailId(id) => Test::EmailId(id.clone()),
            SearchKey::ThreadId(_) => Test::Always(false),
            SearchKey::SaveDateSupported => Test::Always(true),
            SearchKey::All => Test::All(Vec::new()),
            SearchKey::And(keys) => {
                let mut tests = keys.iter().map(|key| self.test(key)).collect::<Result<Vec<_>, _>>()?;
                // What costs least is asked first.
                tests.sort_by_key(Test::part);
                Test::All(tests)
            }
            SearchKey::Or(one, other) => {
                let (one, other) = (self.test(one)?, self.test(other)?);
                let (first, second) = if one.part() <= other.part() { (one, other) } else { (other, one) };
                Test::Either(Box::new(first), Box::new(second))
            }
            SearchKey::Not(key) => Test::Not(Box::new(self.test(key)?)),
            SearchKey::Flag { flag: Flag::Recent, set } => Test::Recent(*set),
            SearchKey::Flag { flag: Flag::Keyword(name), set } => {
                // Records are those of this moment: they can have keywords that this client was not told of yet.
                let bits = |mailbox: &mut Mailbox| mailbox.known_keyword_bits(std::slice::from_ref(name));
                Test::Bits { flags: 0, keywords: self.view.open.with(bits), set: *set }
            }
            SearchKey::Flag { flag, set } => Test::Bits { flags: store::bit(flag), keywords: 0, set: *set },
            SearchKey::Sequence(set) => Test::Number(self.numbers(set)?),
            SearchKey::Uid(set) => Test::Uid(set.resolve(self.view.uids().highest().unwrap_or(0))),
            SearchKey::Header { name, text } => Test::Header(name.clone(), self.needle(text)?),
            SearchKey::Body(text) => Test::Body(self.needle(text)?),
            SearchKey::Text(text) => Test::Text(self.needle(text)?),
            SearchKey::Date { field: DateField::Internal, relation, day } => Test::Internal(*relation, *day),
            SearchKey::Date { field: DateField::Sent, relation, day } => Test::Sent(*relation, *day),
            SearchKey::Larger(size) => Test::Larger(u64::from(*size)),
            SearchKey::Smaller(size) => Test::Smaller(u64::from(*size)),
        })
    }

    fn numbers(&self, set: &SequenceSet) -> Result<Numbers, Failed> {
        let count = u32::try_from(self.view.count()).unwrap_or(u32::MAX);
        match set.exceeds(count) {
            true => Err(Failed::Bad("there is no message of that number".to_owned())),
            false => Ok(set.resolve(count)),
        }
    }

    fn needle(&self, text: &[u8]) -> Result<Needle, Failed> {
        Needle::new(self.charset, text).map_err(bad_charset)
    }
}

fn bad_charset(_: UnknownCharset) -> Failed {
    let code = "BADCHARSET (US-ASCII UTF-8 ISO-2022-JP SHIFT_JIS EUC-JP)";
    Failed::No(code, "this charset is not known; use UTF-8".to_owned())
}

/// Does the client count changes here?
fn names_modseq(key: &SearchKey) -> bool {
    match key {
        SearchKey::ModSeq(_) => true,
        SearchKey::And(keys) => keys.iter().any(names_modseq),
        SearchKey::Or(one, other) => names_modseq(one) || names_modseq(other),
        SearchKey::Not(key) => names_modseq(key),
        _ => false,
    }
}

impl Session {
    /// SEARCH and UID SEARCH.
    pub(super) fn search(&mut self, out: &mut Blocking<'_>, search: &Search) -> Outcome {
        let saves = search.returns.is_some_and(|returns| returns.save);
        if saves {
            // What is kept is nothing if the search fails (RFC 5182 §2.1).
            self.selected()?.saved = Numbers::default();
        }
        let found = self.find(out, search)?;
        if let Some(returns) = search.returns.filter(|_| saves) {
            self.selected()?.saved = kept(&found, &returns);
        }
        self.answer_found(out, b"SEARCH", search, &found)?;
        done("SEARCH completed")
    }

    /// The messages that meet the keys, in their order.
    pub(super) fn find(&mut self, out: &mut Blocking<'_>, search: &Search) -> Result<Vec<Hit>, Failed> {
        if names_modseq(&search.key) {
            self.begin_condstore(out)?;
        }
        let view = &*self.selected()?;
        let compiler = Compiler { view, charset: search.charset.as_deref() };
        if let Some(label) = compiler.charset {
            Needle::new(Some(label), b"").map_err(bad_charset)?;
        }
        let test = compiler.test(&search.key)?;
        let uids = view.uids().clone();
        let mut found = Vec::new();
        let mut number = 0u32;
        for slice_uids in uids.chunks(SLICE) {
            let slice = Slice::take(&view.open, slice_uids);
            for record in &slice.records {
                number += 1;
                let Some(record) = record else { continue };
                let mut candidate =
                    Candidate { view, slice: &slice, number, record, read: None, gone: false };
                if candidate.meets(&test)? && !candidate.gone {
                    found.push(Hit { number, uid: record.uid.get(), modseq: record.modseq.get() });
                }
            }
        }
        Ok(found)
    }

    /// Answers with what was found, in its order: as the client asked, and in IMAP4rev2 by ESEARCH always.
    pub(super) fn answer_found(
        &self,
        out: &mut Blocking<'_>,
        name: &[u8],
        search: &Search,
        found: &[Hit],
    ) -> Result<(), Failed> {
        let highest = found.iter().map(|hit| hit.modseq).max().filter(|_| names_modseq(&search.key));
        let numbers = found.iter().map(|hit| hit.answer(search.numbering));
        let all = SearchReturn { all: true, ..SearchReturn::default() };
        let rev2_search = self.enabled.rev2 && name == b"SEARCH";
        let mut line = b"* ".to_vec();
        match search.returns.or(rev2_search.then_some(all)) {
            Some(returns) if returns == (SearchReturn { save: true, ..SearchReturn::default() }) => {
                return Ok(());
            }
            Some(returns) => {
                let uid = if search.numbering == Numbering::Uid { " UID" } else { "" };
                write!(line, "ESEARCH (TAG {})", self.quoted_tag())?;
                line.extend_from_slice(uid.as_bytes());
                write_esearch(&mut line, &returns, numbers)?;
                if let Some(modseq) = highest {
                    write!(line, " MODSEQ {modseq}")?;
                }
            }
            None => {
                line.extend_from_slice(name);
                reply::numbers(&mut line, numbers);
                if let Some(modseq) = highest {
                    write!(line, " (MODSEQ {modseq})")?;
                }
            }
        }
        line.extend_from_slice(b"\r\n");
        Ok(out.write_all(&line)?)
    }

    /// The tag as a quoted string; a tag may hold any character but those that a string would escape.
    fn quoted_tag(&self) -> String {
        format!("\"{}\"", self.tag)
    }
}

/// Writes ` MIN 2 MAX 9 ALL 2:9 COUNT 8`. Of nothing only the count is told (RFC 4731 §3.1).
fn write_esearch(
    line: &mut Vec<u8>,
    returns: &SearchReturn,
    numbers: impl Iterator<Item = u32> + Clone,
) -> std::io::Result<()> {
    let (min, max) = (numbers.clone().min(), numbers.clone().max());
    if let Some(min) = min.filter(|_| returns.min) {
        write!(line, " MIN {min}")?;
    }
    if let Some(max) = max.filter(|_| returns.max) {
        write!(line, " MAX {max}")?;
    }
    if returns.all && min.is_some() {
        line.extend_from_slice(b" ALL ");
        let list: Vec<u32> = numbers.clone().collect();
        // SORT answers in its order, SEARCH in that of the numbers.
        write_in_order(line, &list);
    }
    if returns.count {
        write!(line, " COUNT {}", numbers.count())?;
    }
    Ok(())
}

/// What is kept of a result: the lowest and the highest if only they are asked for, else all (RFC 5182 §2.1).
fn kept(found: &[Hit], returns: &SearchReturn) -> Numbers {
    let uids = found.iter().map(|hit| hit.uid);
    if returns.all || returns.count || !(returns.min || returns.max) {
        return Numbers::of_sorted(uids);
    }
    let ends = [uids.clone().min().filter(|_| returns.min), uids.max().filter(|_| returns.max)];
    Numbers::of_ranges(ends.into_iter().flatten().map(|uid| (uid, uid)).collect())
}

/// A message that is tested.
struct Candidate<'a> {
    view: &'a View,
    slice: &'a Slice,
    number: u32,
    record: &'a Record,
    /// What was read of it.
    read: Option<(Part, Option<Bytes>)>,
    gone: bool,
}

impl Candidate<'_> {
    /// Recursion ends at `parse::MAX_SEARCH_DEPTH`.
    fn meets(&mut self, test: &Test) -> Result<bool, Failed> {
        let record = self.record;
        Ok(match test {
            Test::All(tests) => {
                for test in tests {
                    if !self.meets(test)? {
                        return Ok(false);
                    }
                }
                true
            }
            Test::Either(one, other) => self.meets(one)? || self.meets(other)?,
            Test::Not(test) => !self.meets(test)?,
            Test::Bits { flags, keywords, set } => {
                let has = self.view.flags(record) & flags != 0 || record.keywords.get() & keywords != 0;
                has == *set
            }
            Test::Recent(set) => self.view.is_recent(record.uid.get()) == *set,
            Test::Number(numbers) => numbers.contains(self.number),
            Test::Uid(numbers) => numbers.contains(record.uid.get()),
            Test::Internal(relation, day) => is_related(day_of(record.date.get()), *relation, *day),
            Test::Saved(relation, day) => is_related(day_of(record.saved()), *relation, *day),
            Test::DateFrom(moment) => i64::from(record.date.get()) >= *moment,
            Test::DateTo(moment) => i64::from(record.date.get()) <= *moment,
            Test::ModSeq(modseq) => record.modseq.get() >= *modseq,
            Test::EmailId(id) => email_id(record).as_bytes() == id.as_slice(),
            Test::Always(met) => *met,
            Test::Sent(relation, day) => {
                let sent = date::sent_day(self.bytes(Part::Header)?);
                is_related(sent, *relation, *day)
            }
            Test::Larger(size) => record.imap_size() > *size,
            Test::Smaller(size) => record.imap_size() < *size,
            Test::Header(name, needle) => header_contains(self.bytes(Part::Header)?, name, needle),
            Test::Body(needle) => body_contains(self.bytes(Part::Whole)?, needle),
            Test::Text(needle) => text_contains(self.bytes(Part::Whole)?, needle),
        })
    }

    fn bytes(&mut self, part: Part) -> Result<&[u8], Failed> {
        if self.read.as_ref().is_none_or(|(have, _)| *have < part) {
            let read = self.slice.read(&self.view.open, self.record, part)?;
            self.gone |= read.is_none();
            self.read = Some((part, read));
        }
        Ok(self.read.as_ref().and_then(|(_, read)| read.as_ref()).map_or(&[], |read| &read.bytes))
    }
}

/// The day of a moment in the server's zone, as INTERNALDATE shows it.
fn day_of(seconds: u32) -> Option<NaiveDate> {
    let date = chrono::Local.timestamp_opt(i64::from(seconds), 0).single()?;
    Some(date.date_naive())
}

/// A message without a readable date is on no day.
fn is_related(date: Option<NaiveDate>, relation: DateRelation, day: NaiveDate) -> bool {
    date.is_some_and(|date| match relation {
        DateRelation::Before => date < day,
        DateRelation::On => date == day,
        DateRelation::Since => date >= day,
    })
}
