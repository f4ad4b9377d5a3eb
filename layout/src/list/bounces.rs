//! `bounces.lst`: on which days mail to which member came back.
//!
//! One line for each member and day, `2024-05-09 member@example.com`; ours. Lines that are something else stay where they are.
//! A day counts once, however much came back, and for [`REMEMBERED_DAYS`] days.
//!
//! # Limits
//! [`LINES_MAX`] lines of ours; then the oldest go.

use crate::text::{self, LineEnd};
use chrono::{Days, NaiveDate};
use std::collections::HashSet;

/// How long a bounce counts: longer than the rhythm of a monthly list's mail would be of no use to anybody (our choice).
pub const REMEMBERED_DAYS: u64 = 60;
/// The most lines that are kept.
pub const LINES_MAX: usize = 200_000;

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounces {
    bytes: Vec<u8>,
}

impl Bounces {
    /// Reads a file.
    pub fn parse(bytes: Vec<u8>) -> Bounces {
        Bounces { bytes }
    }

    /// The file's bytes.
    pub fn write(&self) -> &[u8] {
        &self.bytes
    }

    /// Counts a bounce of today, forgets what is too old, and answers on how many days mail to this member came back.
    pub fn count(&mut self, member: &str, today: NaiveDate) -> u32 {
        let oldest = today.checked_sub_days(Days::new(REMEMBERED_DAYS)).unwrap_or(today);
        let mut days = HashSet::new();
        self.retain(|date, address| {
            if address.eq_ignore_ascii_case(member) && date >= oldest {
                days.insert(date);
            }
            date >= oldest
        });
        if days.insert(today) {
            let end = text::usual_line_end(&self.bytes, LineEnd::CrLf).bytes();
            if !self.bytes.is_empty() && !self.bytes.ends_with(b"\n") {
                self.bytes.extend_from_slice(end);
            }
            self.bytes.extend_from_slice(format!("{today} {member}").as_bytes());
            self.bytes.extend_from_slice(end);
        }
        days.len() as u32
    }

    /// On how many days mail to this member came back, today without a new bounce.
    pub fn days(&self, member: &str, today: NaiveDate) -> u32 {
        let oldest = today.checked_sub_days(Days::new(REMEMBERED_DAYS)).unwrap_or(today);
        let entries = text::lines(&self.bytes).filter_map(|(line, _)| entry(line));
        let his = entries.filter(|(date, address)| *date >= oldest && address.eq_ignore_ascii_case(member));
        his.map(|(date, _)| date).collect::<HashSet<_>>().len() as u32
    }

    /// Forgets a member: on hold, or gone.
    pub fn forget(&mut self, member: &str) {
        self.retain(|_, address| !address.eq_ignore_ascii_case(member));
    }

    fn retain(&mut self, mut keep: impl FnMut(NaiveDate, &str) -> bool) {
        let total = text::lines(&self.bytes).count();
        let mut kept = Vec::with_capacity(self.bytes.len());
        for (at, (line, end)) in text::lines(&self.bytes).enumerate() {
            let wanted = match entry(line) {
                Some((date, address)) => keep(date, &address) && at + LINES_MAX >= total,
                None => true,
            };
            if wanted {
                kept.extend_from_slice(line);
                kept.extend_from_slice(end.bytes());
            }
        }
        self.bytes = kept;
    }
}

fn entry(line: &[u8]) -> Option<(NaiveDate, String)> {
    let line = std::str::from_utf8(line).ok()?.trim();
    let (date, address) = line.split_once(' ')?;
    Some((date.parse().ok()?, address.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn days_are_counted_once() {
        let mut bounces =
            Bounces::parse(b"; mine\n2024-01-01 a@b\n2024-05-01 A@B\nodd line\n2024-05-01 c@d".to_vec());
        assert_eq!(bounces.count("a@b", day("2024-05-02")), 2);
        assert_eq!(bounces.count("A@b", day("2024-05-02")), 2);
        assert_eq!(bounces.count("new@x", day("2024-05-02")), 1);
        assert_eq!(bounces.days("A@B", day("2024-05-03")), 2);
        assert_eq!((bounces.days("x@y", day("2024-05-03")), bounces.days("a@b", day("2025-05-03"))), (0, 0));
        assert_eq!(
            String::from_utf8_lossy(bounces.write()),
            "; mine\n2024-05-01 A@B\nodd line\n2024-05-01 c@d\n2024-05-02 a@b\n2024-05-02 new@x\n"
        );
        bounces.forget("a@b");
        assert_eq!(
            String::from_utf8_lossy(bounces.write()),
            "; mine\nodd line\n2024-05-01 c@d\n2024-05-02 new@x\n"
        );
    }
}
