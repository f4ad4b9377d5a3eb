//! Which day a log file is of, by its name alone.
//!
//! Names before 12.x have no year: such a file is of the newest year in which its day is not in the future, so the file that is
//! named like today is today's. Web logs of old versions, `W1yymmdd.log` and `W2yymmdd.log`, have two digits of it (IMail 7.1
//! help, log files). A name that ends in `.gz` besides is that of a compressed log.
//!
//! Failure: `None` for everything that is no log; [`older`] answers with the disk's error.

use crate::disk::{Disk, Kind};
use crate::logline::parse_file_name;
use crate::path::TreePath;
use chrono::{Datelike as _, Days, NaiveDate};
use std::io;

/// Behind the name of a compressed file.
pub const COMPRESSED: &str = ".gz";
/// How far back a 29 February is looked for: leap years are at most this far apart.
const LEAP_YEARS_APART: i32 = 8;

/// The day that the log of this name is of.
pub fn day_of(name: &str, today: NaiveDate) -> Option<NaiveDate> {
    let name = without_compressed(name).unwrap_or(name);
    if let Some(day) = web_log(name, today) {
        return Some(day);
    }
    let date = parse_file_name(name)?;
    let in_year = |year| NaiveDate::from_ymd_opt(year, date.month.into(), date.day.into());
    match date.year {
        Some(year) => in_year(year.into()),
        None => {
            let years = (today.year() - LEAP_YEARS_APART..=today.year()).rev();
            years.filter_map(in_year).find(|day| *day <= today)
        }
    }
}

/// The logs in a directory that are of days more than `days` before `today`; today's is never among them.
pub fn older(disk: &dyn Disk, dir: &TreePath, days: u32, today: NaiveDate) -> io::Result<Vec<TreePath>> {
    let Some(first_kept) = today.checked_sub_days(Days::new(days.into())) else { return Ok(Vec::new()) };
    let is_old = |name: &str| day_of(name, today).is_some_and(|day| day < first_kept && day < today);
    let mut files = disk.list(dir)?;
    files.retain(|entry| entry.kind == Kind::File && entry.name.to_str().is_some_and(is_old));
    Ok(files.iter().map(|entry| dir.join(&entry.name)).collect())
}

/// The name without the ending of compressed files, if it has it.
pub fn without_compressed(name: &str) -> Option<&str> {
    let (head, tail) = name.split_at_checked(name.len().checked_sub(COMPRESSED.len())?)?;
    tail.eq_ignore_ascii_case(COMPRESSED).then_some(head)
}

fn web_log(name: &str, today: NaiveDate) -> Option<NaiveDate> {
    let (stem, extension) = name.rsplit_once('.')?;
    let digits = ["w1", "w2"].iter().find_map(|word| {
        stem.get(..2).filter(|head| head.eq_ignore_ascii_case(word)).and_then(|_| stem.get(2..))
    })?;
    let plain = digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !plain || !extension.eq_ignore_ascii_case("log") {
        return None;
    }
    let number: u32 = digits.parse().ok()?;
    let year = (number / 10_000) as i32;
    [2000, 1900]
        .iter()
        .filter_map(|century| NaiveDate::from_ymd_opt(century + year, number / 100 % 100, number % 100))
        .find(|day| *day <= today)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_days() {
        let day = |y, m, d| NaiveDate::from_ymd_opt(y, m, d);
        let today = day(2023, 3, 10).unwrap();
        for (name, expected) in [
            ("sys20220825.txt", day(2022, 8, 25)),
            ("SYS20220825.TXT.gz", day(2022, 8, 25)),
            ("log20240101.txt", day(2024, 1, 1)),
            ("sys0310.txt", day(2023, 3, 10)),
            ("sys0309.txt", day(2023, 3, 9)),
            ("sys0311.txt", day(2022, 3, 11)),
            ("sys1231.txt", day(2022, 12, 31)),
            ("sys0229.txt", day(2020, 2, 29)),
            ("spam0101.log", day(2023, 1, 1)),
            ("W1990101.log", day(1999, 1, 1)),
            ("w2230310.log", day(2023, 3, 10)),
            ("sys.txt", None),
            ("sys20221301.txt", None),
            ("sys0310.doc", None),
            ("next.id", None),
            (".gz", None),
            ("D00000001.SMD", None),
        ] {
            assert_eq!(day_of(name, today), expected, "{name}");
        }
    }
}
