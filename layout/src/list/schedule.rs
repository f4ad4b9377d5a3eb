//! When a digest is due: `daily 18:00`, `weekly Mon 18:00`.
//!
//! IMail knows a schedule of days and times (7.x guide); how it wrote it down is not known, this form was chosen. Times are local ones.

use chrono::{Datelike as _, Days, NaiveDateTime, NaiveTime, Weekday};
use std::fmt;

/// A time of every day, or of one day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// `None`: every day.
    day: Option<Weekday>,
    time: NaiveTime,
}

impl Schedule {
    /// Reads one. The words `daily` and `weekly` may be left out; a day may be written out.
    pub fn parse(text: &str) -> Option<Schedule> {
        let (mut day, mut time) = (None, None);
        for word in text.split_whitespace() {
            if let Ok(found) = NaiveTime::parse_from_str(word, "%H:%M") {
                time = Some(found);
            } else if let Ok(found) = word.parse::<Weekday>() {
                day = Some(found);
            } else if !["daily", "weekly"].iter().any(|known| known.eq_ignore_ascii_case(word)) {
                return None;
            }
        }
        let weekly = text.trim_start().get(..6).is_some_and(|word| word.eq_ignore_ascii_case("weekly"));
        match (time, day) {
            (Some(_), None) if weekly => None,
            (Some(time), day) => Some(Schedule { day, time }),
            (None, _) => None,
        }
    }

    /// Has a time of the schedule come after `last` and not after `now`?
    pub fn is_due(&self, last: NaiveDateTime, now: NaiveDateTime) -> bool {
        (0..7).filter_map(|back| now.date().checked_sub_days(Days::new(back))).any(|date| {
            let at = date.and_time(self.time);
            self.day.is_none_or(|day| date.weekday() == day) && last < at && at <= now
        })
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.time.format("%H:%M");
        match self.day {
            Some(day) => write!(f, "weekly {day} {time}"),
            None => write!(f, "daily {time}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> NaiveDateTime {
        NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").unwrap()
    }

    #[test]
    fn when_it_is_due() {
        // 2024-05-06 was a Monday.
        for (schedule, last, now, due) in [
            ("daily 18:00", "2024-05-05 18:00", "2024-05-06 17:59", false),
            ("daily 18:00", "2024-05-05 18:00", "2024-05-06 18:00", true),
            ("18:00", "2024-05-06 18:01", "2024-05-06 19:00", false),
            ("daily 18:00", "2024-01-01 00:00", "2024-05-06 00:00", true),
            ("weekly Mon 9:00", "2024-04-29 09:00", "2024-05-06 08:59", false),
            ("Weekly monday 09:00", "2024-04-29 09:00", "2024-05-06 09:00", true),
            ("weekly Mon 9:00", "2024-05-06 09:00", "2024-05-12 23:00", false),
            ("weekly Mon 9:00", "2024-04-29 09:00", "2024-05-09 00:00", true),
        ] {
            let schedule = Schedule::parse(schedule).unwrap();
            assert_eq!(Schedule::parse(&schedule.to_string()), Some(schedule));
            assert_eq!(schedule.is_due(at(last), at(now)), due, "{schedule:?} {last} {now}");
        }
        for bad in ["", "daily", "weekly 9:00", "often 9:00", "25:00", "Mon"] {
            assert_eq!(Schedule::parse(bad), None, "{bad}");
        }
    }
}
