//! Dates of messages: the `Date:` field (RFC 5322 §3.3) and IMAP's internal date (RFC 3501 §9, `date-time`).

use chrono::{DateTime, Datelike, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, Timelike};

use super::header;
use super::string::number;

/// Longest date text that is read, in bytes.
const MAX_DATE_LENGTH: usize = 200;

/// Names of the months as RFC 5322 and RFC 3501 write them.
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Moment of the `Date:` field of a header, in any form that mail programs write. `None` when absent or unreadable.
pub fn sent(header: &[u8]) -> Option<DateTime<FixedOffset>> {
    let value = header::unfold(header::value(header, b"Date")?);
    let text = String::from_utf8_lossy(value.get(..MAX_DATE_LENGTH).unwrap_or(&value));
    let date = mail_parser::DateTime::parse_rfc822(&text)?;
    let day = NaiveDate::from_ymd_opt(i32::from(date.year), u32::from(date.month), u32::from(date.day))?;
    // A leap second is a valid time of day; chrono counts up to 59.
    let time = NaiveTime::from_hms_opt(
        u32::from(date.hour),
        u32::from(date.minute),
        u32::from(date.second.min(59)),
    )?;
    let east = (i32::from(date.tz_hour) * 60 + i32::from(date.tz_minute)) * 60;
    let offset = FixedOffset::east_opt(if date.tz_before_gmt { -east } else { east })?;
    NaiveDateTime::new(day, time).and_local_timezone(offset).single()
}

/// Day of the `Date:` field as its sender saw it; time and zone do not count (RFC 3501 §6.4.4, `SENTON`).
pub fn sent_day(header: &[u8]) -> Option<NaiveDate> {
    sent(header).map(|date| date.date_naive())
}

/// Writes an internal date with its quotes: `"17-Jul-1996 02:44:25 -0700"`.
pub fn write_internal(out: &mut Vec<u8>, date: &DateTime<FixedOffset>) {
    out.push(b'"');
    let day = date.day();
    out.push(if day < 10 { b' ' } else { b'0' + (day / 10) as u8 });
    number(out, u64::from(day % 10));
    out.push(b'-');
    out.extend_from_slice(MONTHS.get(date.month0() as usize).copied().unwrap_or("Jan").as_bytes());
    out.push(b'-');
    let year = u32::try_from(date.year()).unwrap_or(0).min(9999);
    two_digits(out, year / 100);
    two_digits(out, year % 100);
    for (separator, value) in [(b' ', date.hour()), (b':', date.minute()), (b':', date.second())] {
        out.push(separator);
        two_digits(out, value);
    }
    let east = date.offset().local_minus_utc() / 60;
    out.extend_from_slice(if east < 0 { b" -" } else { b" +" });
    two_digits(out, east.unsigned_abs() / 60);
    two_digits(out, east.unsigned_abs() % 60);
    out.push(b'"');
}

fn two_digits(out: &mut Vec<u8>, value: u32) {
    out.push(b'0' + (value / 10 % 10) as u8);
    out.push(b'0' + (value % 10) as u8);
}

/// Reads an internal date without its quotes; the day may be ` 7`, `7` or `07`.
pub fn parse_internal(text: &[u8]) -> Option<DateTime<FixedOffset>> {
    let text = std::str::from_utf8(text).ok()?.trim_start();
    let mut words = text.split(' ');
    let (day, time, zone) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() {
        return None;
    }
    let day = parse_day(day.as_bytes())?;
    let mut parts = time.split(':').map(|part| digits(part, 2));
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() {
        return None;
    }
    let time = NaiveTime::from_hms_opt(hour, minute, second.min(59))?;
    NaiveDateTime::new(day, time).and_local_timezone(parse_zone(zone)?).single()
}

/// Reads a date of a search (RFC 3501 §9, `date-text`): `1-Feb-1994`.
pub fn parse_day(text: &[u8]) -> Option<NaiveDate> {
    let mut parts = std::str::from_utf8(text).ok()?.split('-');
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || day.len() > 2 {
        return None;
    }
    let month = MONTHS.iter().position(|name| name.eq_ignore_ascii_case(month))?;
    NaiveDate::from_ymd_opt(i32::try_from(digits(year, 4)?).ok()?, month as u32 + 1, digits(day, day.len())?)
}

fn parse_zone(zone: &str) -> Option<FixedOffset> {
    let (sign, value) = zone.split_at_checked(1)?;
    let value = digits(value, 4)?;
    let east = i32::try_from((value / 100 * 60 + value % 100) * 60).ok()?;
    match sign {
        "+" => FixedOffset::east_opt(east),
        "-" => FixedOffset::west_opt(east),
        _ => None,
    }
}

/// A number of exactly `length` digits.
fn digits(text: &str, length: usize) -> Option<u32> {
    (text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_dates_round_trip() {
        for text in ["17-Jul-1996 02:44:25 -0700", " 1-Jan-2000 00:00:00 +0000", "31-Dec-2026 23:59:59 +0930"]
        {
            let mut out = Vec::new();
            write_internal(&mut out, &parse_internal(text.as_bytes()).unwrap());
            assert_eq!(String::from_utf8(out).unwrap(), format!("\"{text}\""));
        }
        assert_eq!(
            parse_internal(b"1-Jan-2000 00:00:00 +0000"),
            parse_internal(b"01-jan-2000 00:00:00 +0000")
        );
        for text in [
            "",
            "1-Jan-2000",
            "32-Jan-2000 00:00:00 +0000",
            "1-Foo-2000 00:00:00 +0000",
            "1-Jan-2000 24:00:00 +0000",
            "1-Jan-2000 00:00 +0000",
            "1-Jan-2000 00:00:00 0000",
            "1-Jan-2000 00:00:00 +0000 x",
            "1-Jan-99999 00:00:00 +0000",
        ] {
            assert_eq!(parse_internal(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn sent_days_do_not_depend_on_the_zone() {
        let cases = [
            ("Wed, 17 Jul 1996 23:59:25 -0700 (PDT)", Some((1996, 7, 17))),
            ("17 Jul 1996 00:00 +0900", Some((1996, 7, 17))),
            ("Wed, 17 Jul 96 02:23:25 GMT", Some((1996, 7, 17))),
            ("garbage", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let header = format!("Date: {text}\r\n\r\n");
            let expected = expected.and_then(|(year, month, day)| NaiveDate::from_ymd_opt(year, month, day));
            assert_eq!(sent_day(header.as_bytes()), expected, "{text}");
        }
        assert_eq!(
            sent(b"Date: 17 Jul 1996 02:23:25 +0900\r\n").unwrap().to_rfc3339(),
            "1996-07-17T02:23:25+09:00"
        );
    }
}
