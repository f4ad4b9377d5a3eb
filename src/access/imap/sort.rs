//! SORT (RFC 5256 §3, RFC 5957): messages that are found, in another order.
//!
//! Text is decoded and folded before it is compared ([`crate::message::search::fold`]): Japanese of every charset sorts together, without regard to
//! case and width, by the code points of Unicode.

use super::command::{Search, SortField, SortKey};
use super::outcome::{Failed, Outcome, done};
use super::reading::{Part, SLICE, Slice};
use super::search::Hit;
use super::session::Session;
use crate::message::header::{self, Address};
use crate::message::subject::base_subject;
use crate::message::{charset, date, search};
use crate::session::connection::Blocking;
use layout::mbx::record::Record;
use std::cmp::Ordering;

/// What is compared of one message.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Number(i64),
    Text(String),
}

impl Session {
    /// SORT and UID SORT.
    pub(super) fn sort(&mut self, out: &mut Blocking<'_>, search: &Search, order: &[SortKey]) -> Outcome {
        let found = self.find(out, search)?;
        let part = match order.iter().any(|key| !matches!(key.field, SortField::Arrival | SortField::Size)) {
            true => Part::Header,
            false => Part::Record,
        };
        let mut rows: Vec<(Vec<Value>, Hit)> = Vec::with_capacity(found.len());
        self.each_found(&found, part, |hit, record, head| {
            rows.push((order.iter().map(|key| value(key.field, record, head)).collect(), *hit));
        })?;
        rows.sort_by(|one, other| {
            compare(&one.0, &other.0, order).then_with(|| one.1.number.cmp(&other.1.number))
        });
        let sorted: Vec<Hit> = rows.into_iter().map(|(_, hit)| hit).collect();
        self.answer_found(out, b"SORT", search, &sorted)?;
        done("SORT completed")
    }

    /// Reads of each message that was found what `part` says. Messages that are gone meanwhile are passed over.
    pub(super) fn each_found(
        &mut self,
        found: &[Hit],
        part: Part,
        mut each: impl FnMut(&Hit, &Record, &[u8]),
    ) -> Result<(), Failed> {
        let open = self.selected()?.open.clone();
        for hits in found.chunks(SLICE) {
            let uids: Vec<u32> = hits.iter().map(|hit| hit.uid).collect();
            let slice = Slice::take(&open, &uids);
            for (hit, record) in hits.iter().zip(&slice.records) {
                let Some(record) = record else { continue };
                if let Some(read) = slice.read(&open, record, part)? {
                    each(hit, &read.record, &read.bytes);
                }
            }
        }
        Ok(())
    }
}

fn compare(one: &[Value], other: &[Value], order: &[SortKey]) -> Ordering {
    let compared = one.iter().zip(other).zip(order).map(|((one, other), key)| match key.reverse {
        true => other.cmp(one),
        false => one.cmp(other),
    });
    compared.fold(Ordering::Equal, Ordering::then)
}

fn value(field: SortField, record: &Record, head: &[u8]) -> Value {
    match field {
        SortField::Arrival => Value::Number(i64::from(record.date.get())),
        SortField::Size => Value::Number(i64::try_from(record.imap_size()).unwrap_or(i64::MAX)),
        SortField::Date => Value::Number(sent(record, head)),
        SortField::Subject => {
            Value::Text(base_subject(header::value(head, b"Subject").unwrap_or_default()).text)
        }
        SortField::Address(name) => Value::Text(address(head, name, false)),
        SortField::Display(name) => Value::Text(address(head, name, true)),
    }
}

/// When a message was sent; when it came, if it does not say (RFC 5256 §2.2).
pub fn sent(record: &Record, head: &[u8]) -> i64 {
    date::sent(head).map_or_else(|| i64::from(record.date.get()), |date| date.timestamp())
}

/// The local part of a field's first address; or its name, else all of it (RFC 5957 §2).
fn address(head: &[u8], field: &str, display: bool) -> String {
    let all = header::addresses(header::value(head, field.as_bytes()).unwrap_or_default());
    let text = match all.into_iter().next() {
        Some(Address::Mailbox { name: Some(name), .. }) if display && !name.trim_ascii().is_empty() => {
            charset::decode_header(&name).into_owned()
        }
        Some(Address::Mailbox { local, domain, .. }) if display && !domain.is_empty() => {
            format!("{}@{}", String::from_utf8_lossy(&local), String::from_utf8_lossy(&domain))
        }
        Some(Address::Mailbox { local, .. }) => String::from_utf8_lossy(&local).into_owned(),
        Some(Address::GroupStart(name)) => charset::decode_header(&name).into_owned(),
        Some(Address::GroupEnd) | None => String::new(),
    };
    search::fold(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, plain, display) in [
            ("Ann <b@example.org>, c@d", "b", "ann"),
            ("B@Example.org", "b", "b@example.org"),
            ("=?utf-8?B?5bGx55Sw?= <y@x>", "y", "\u{5C71}\u{7530}"),
            ("friends: a@b;", "friends", "friends"),
            ("", "", ""),
        ] {
            let head = format!("From: {text}\r\n\r\n");
            assert_eq!(address(head.as_bytes(), "From", false), plain, "{text}");
            assert_eq!(address(head.as_bytes(), "From", true), display, "{text}");
        }
    }

    #[test]
    fn orders() {
        let key = |reverse| SortKey { field: SortField::Date, reverse };
        let row = |one, two: &str| [Value::Number(one), Value::Text(two.into())];
        for (reverse, expected) in [([false, false], Ordering::Less), ([true, false], Ordering::Greater)] {
            assert_eq!(compare(&row(1, "b"), &row(2, "a"), &reverse.map(key)), expected);
        }
        assert_eq!(compare(&row(1, "b"), &row(1, "a"), &[key(false), key(true)]), Ordering::Less);
    }
}
