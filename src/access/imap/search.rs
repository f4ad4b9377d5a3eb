//! SEARCH (RFC 3501 §6.4.4).
//!
//! Keys that the record answers are asked first; a message is read only if they leave it open, and then only its header where that is
//! enough.
//!
//! # Failure
//! A charset that is not known is `NO [BADCHARSET]`. Messages that are gone are not found.

use super::command::{DateField, DateRelation, Flag, Numbering, SearchKey};
use super::outcome::{Failed, Outcome, done};
use super::reading::{Part, SLICE, Slice};
use super::reply;
use super::sequence::{Numbers, SequenceSet};
use super::session::Session;
use super::store;
use super::sync::View;
use crate::message::date;
use crate::message::search::{Needle, UnknownCharset, body_contains, header_contains, text_contains};
use crate::session::connection::Blocking;
use chrono::{NaiveDate, TimeZone as _};
use layout::mbx::record::{Record, flag};
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
        Ok(match key {
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
                let bit = self.view.keywords().iter().position(|known| known.eq_ignore_ascii_case(name));
                Test::Bits { flags: 0, keywords: bit.map_or(0, |bit| 1 << bit), set: *set }
            }
            SearchKey::Flag { flag, set } => Test::Bits { flags: store::bit(flag), keywords: 0, set: *set },
            SearchKey::Sequence(set) => Test::Number(self.numbers(set)?),
            SearchKey::Uid(set) => Test::Uid(set.resolve(self.view.uids().last().copied().unwrap_or(0))),
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

impl Session {
    /// SEARCH and UID SEARCH.
    pub(super) fn search(
        &mut self,
        out: &mut Blocking<'_>,
        numbering: Numbering,
        charset: Option<&[u8]>,
        key: &SearchKey,
    ) -> Outcome {
        let view = &*self.selected()?;
        let compiler = Compiler { view, charset };
        if let Some(label) = charset {
            Needle::new(Some(label), b"").map_err(bad_charset)?;
        }
        let test = compiler.test(key)?;
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
                    found.push(if numbering == Numbering::Uid { record.uid.get() } else { number });
                }
            }
        }
        let mut line = b"* SEARCH".to_vec();
        reply::numbers(&mut line, found);
        line.extend_from_slice(b"\r\n");
        out.write_all(&line)?;
        done("SEARCH completed")
    }
}

/// A message that is tested.
struct Candidate<'a> {
    view: &'a View,
    slice: &'a Slice,
    number: u32,
    record: &'a Record,
    /// What was read of it.
    read: Option<(Part, Vec<u8>)>,
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
                let has =
                    record.flags.get() & flag::CLIENT & flags != 0 || record.keywords.get() & keywords != 0;
                has == *set
            }
            Test::Recent(set) => self.view.is_recent(record.uid.get()) == *set,
            Test::Number(numbers) => numbers.contains(self.number),
            Test::Uid(numbers) => numbers.contains(record.uid.get()),
            Test::Internal(relation, day) => is_related(internal_day(record), *relation, *day),
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
            self.read = Some((part, read.map(|(_, bytes)| bytes).unwrap_or_default()));
        }
        Ok(self.read.as_ref().map_or(&[], |(_, bytes)| bytes))
    }
}

/// The day of the internal date in the server's zone, as INTERNALDATE shows it.
fn internal_day(record: &Record) -> Option<NaiveDate> {
    let date = chrono::Local.timestamp_opt(i64::from(record.date.get()), 0).single()?;
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
