//! Where a message begins: the only definition of a separator line.

use chrono::{Datelike as _, NaiveDate, NaiveDateTime, TimeZone as _, Timelike as _};

/// How the messages of a file are told apart. A file's first line decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// IMail's: a line that begins with `From <` and holds a `>`, followed by a header field, an empty line or the end of
    /// the file. No empty line is needed before it.
    Bracket,
    /// The classic Unix mailbox that administrators copied in: `From address` and a ctime date, at the start of the
    /// file or after an empty line.
    Classic,
}

/// Why a file is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// The UW-IMAP format of the same extension.
    #[error("a UW-IMAP mbx file")]
    UwMbx,
    /// Outlook Express's.
    #[error("an Outlook Express mailbox")]
    OutlookExpress,
    /// Eudora's.
    #[error("a Eudora mailbox")]
    Eudora,
    /// No separator anywhere.
    #[error("not an IMail mailbox: no line that begins a message was found")]
    NoSeparator,
}

/// What a file's beginning says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// A file of this dialect, from its first byte.
    Ours(Dialect),
    /// Ours only if a bracket separator stands further down: a text head is kept and never served.
    Unknown,
    /// Not ours.
    Foreign(Foreign),
}

impl Dialect {
    /// Judges a file by its first line and what follows it (`start` is the beginning of the file, at least
    /// [`crate::limits::SEPARATOR_MAX`] bytes unless the file is shorter).
    pub fn detect(start: &[u8]) -> Head {
        let line = first_line(start);
        match start {
            [] => Head::Ours(Dialect::Bracket),
            _ if start.starts_with(b"*mbx*") => Head::Foreign(Foreign::UwMbx),
            _ if start.starts_with(b"JMF") => Head::Foreign(Foreign::OutlookExpress),
            _ if start.starts_with(b"From ???@???") => Head::Foreign(Foreign::Eudora),
            _ if start.starts_with(b"From <") && line.contains(&b'>') => Head::Ours(Dialect::Bracket),
            _ if start.starts_with(b"From ") && ctime_at_end(line).is_some() => Head::Ours(Dialect::Classic),
            _ => Head::Unknown,
        }
    }

    /// Is this line a separator? `line` is without its line end, `next` what follows it, `after_empty` whether it stands at
    /// the start of the file or after an empty line.
    pub fn is_separator(self, line: &[u8], next: &[u8], after_empty: bool) -> bool {
        match self {
            Dialect::Bracket => line.starts_with(b"From <") && line.contains(&b'>') && begins_header(next),
            Dialect::Classic => after_empty && line.starts_with(b"From ") && ctime_at_end(line).is_some(),
        }
    }
}

/// Would this line be taken for a separator by IMail or by any program that knows classic mailboxes? Those get a `>` in front
/// when they stand in a message that we store (with however many `>` already there).
pub fn needs_escape(line: &[u8]) -> bool {
    let quoted = line.iter().take_while(|&&b| b == b'>').count();
    let line = &line[quoted..];
    line.starts_with(b"From ") && (line.starts_with(b"From <") || ctime_at_end(line).is_some())
}

fn first_line(bytes: &[u8]) -> &[u8] {
    let end = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len()).min(crate::limits::SEPARATOR_MAX);
    let line = &bytes[..end];
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Does a header field, an empty line, or nothing at all begin here?
pub(crate) fn begins_header(next: &[u8]) -> bool {
    if next.is_empty() || next.starts_with(b"\n") || next.starts_with(b"\r\n") {
        return true;
    }
    let name = next.iter().take_while(|&&b| b.is_ascii_graphic() && b != b':').count();
    // Obsolete headers have blanks before the colon (RFC 5322 4.5).
    let colon = next[name..].iter().find(|&&b| b != b' ' && b != b'\t');
    name > 0 && colon == Some(&b':')
}

/// The envelope sender between the brackets, or of a classic line the first word.
pub fn sender(line: &[u8]) -> &[u8] {
    let rest = line.strip_prefix(b"From ").unwrap_or(line);
    if let Some(inner) = rest.strip_prefix(b"<") {
        return &inner[..memchr::memchr(b'>', inner).unwrap_or(inner.len())];
    }
    &rest[..memchr::memchr(b' ', rest).unwrap_or(rest.len())]
}

/// The delivery time that stands on a separator line, Unix seconds: a ctime date, in local time unless a zone stands on the
/// line, or an RFC 5322 date. `None` if there is nothing readable.
pub fn date(line: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(line).ok()?;
    if let Some((naive, zone)) = ctime_at_end(line) {
        return Some(match zone {
            Some(seconds) => naive.and_utc().timestamp() - i64::from(seconds),
            None => local_timestamp(naive),
        });
    }
    let tail = text.rsplit_once('>').map_or(text, |(_, tail)| tail).trim();
    chrono::DateTime::parse_from_rfc2822(tail).ok().map(|date| date.timestamp())
}

/// Seconds of a local time; in the hour that a clock change skips or repeats, the earlier reading.
fn local_timestamp(naive: NaiveDateTime) -> i64 {
    match chrono::Local.from_local_datetime(&naive) {
        chrono::LocalResult::Single(date) => date.timestamp(),
        chrono::LocalResult::Ambiguous(early, _) => early.timestamp(),
        chrono::LocalResult::None => naive.and_utc().timestamp(),
    }
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// A ctime date at the end of a line, `Www Mmm dd hh:mm[:ss] [zone] yyyy [zone]`, with its numeric zone in seconds if there is one.
fn ctime_at_end(line: &[u8]) -> Option<(NaiveDateTime, Option<i32>)> {
    // Word after word from the end; eight are enough for the longest form, and the sender may stand before them.
    let text = std::str::from_utf8(line).ok()?;
    let mut words: Vec<&str> = text.split_ascii_whitespace().rev().take(8).collect();
    words.truncate(words.iter().position(|word| DAYS.contains(word))?);
    let mut words = words.into_iter().rev();
    let month = words.next().and_then(|word| MONTHS.iter().position(|month| *month == word))? as u32 + 1;
    let day: u32 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<u32>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next().unwrap_or(Some(0))?);
    let (mut year, mut zone) = (None, None);
    for word in words {
        match word.as_bytes() {
            [b'+' | b'-', digits @ ..] if digits.len() == 4 && zone.is_none() => {
                zone = Some(zone_seconds(word)?)
            }
            digits if digits.len() == 4 && year.is_none() => year = Some(word.parse::<i32>().ok()?),
            // A zone by name: what it meant at that server is not known, so the time counts as local.
            name if name.len() <= 5 && name.iter().all(u8::is_ascii_uppercase) => {}
            _ => return None,
        }
    }
    let date = NaiveDate::from_ymd_opt(year?, month, day)?.and_hms_opt(hour, minute, second.min(59))?;
    Some((date, zone))
}

fn zone_seconds(zone: &str) -> Option<i32> {
    let number: i32 = zone[1..].parse().ok()?;
    let seconds = number / 100 * 3600 + number % 100 * 60;
    Some(if zone.starts_with('-') { -seconds } else { seconds })
}

/// The separator line of a message that we store, without line end: `From <sender> Www Mmm dd hh:mm:ss yyyy` in local time, the form of the one
/// real sample (`From <> Thu Apr 29 23:45:10 2008`) and readable by every mailbox program.
pub fn line(sender: &str, date: i64) -> String {
    let local = chrono::Local.timestamp_opt(date, 0).single().unwrap_or_default();
    let sender: String = sender.chars().filter(|c| c.is_ascii_graphic() && !matches!(c, '<' | '>')).collect();
    format!(
        "From <{sender}> {} {} {:2} {:02}:{:02}:{:02} {}",
        DAYS[local.weekday().num_days_from_monday() as usize],
        MONTHS[local.month0() as usize],
        local.day(),
        local.hour(),
        local.minute(),
        local.second(),
        local.year(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let bracket = Head::Ours(Dialect::Bracket);
        for (start, expected) in [
            (&b""[..], bracket),
            (b"From <a@b> Thu Apr 29 23:45:10 2008\r\nX: y\r\n", bracket),
            (b"From <>\n", bracket),
            (b"From a@b Thu Apr 29 23:45:10 2008\n", Head::Ours(Dialect::Classic)),
            (b"From a@b Thu Apr 29 23:45 2008 +0900\n", Head::Ours(Dialect::Classic)),
            (b"*mbx*\r\n", Head::Foreign(Foreign::UwMbx)),
            (b"JMF9\0", Head::Foreign(Foreign::OutlookExpress)),
            (b"From ???@??? Thu Apr 29 23:45:10 2008\n", Head::Foreign(Foreign::Eudora)),
            (b"hello\r\nFrom <a@b> x\r\n", Head::Unknown),
            (b"From here on\n", Head::Unknown),
            (b"From <no closing\n", Head::Unknown),
        ] {
            assert_eq!(Dialect::detect(start), expected, "{}", String::from_utf8_lossy(start));
        }
    }

    #[test]
    fn separators() {
        let date = b"From <a@b> Thu Apr 29 23:45:10 2008";
        for (line, next, after_empty, bracket, classic) in [
            (&date[..], &b"Subject: x"[..], true, true, true),
            (date, b"Subject : x", false, true, false),
            (date, b"", false, true, false),
            (date, b"\r\n", false, true, false),
            (date, b"wrote this and that\r\n", true, false, true),
            (b"From <a@b> wrote:", b"> text", true, false, false),
            (b"From <a@b>", b"To: x", true, true, false),
            (b"From a@b Thu Apr  9 23:45:10 2008", b"To: x", true, false, true),
            (b"From a@b Thu Apr  9 23:45:10 2008", b"To: x", false, false, false),
            (b"From here on: Thu", b"To: x", true, false, false),
            (b">From <a@b> x", b"To: x", true, false, false),
        ] {
            assert_eq!(Dialect::Bracket.is_separator(line, next, after_empty), bracket, "{line:?}");
            assert_eq!(Dialect::Classic.is_separator(line, next, after_empty), classic, "{line:?}");
        }
    }

    #[test]
    fn escapes() {
        for (line, expected) in [
            (&b"From <a@b> wrote:"[..], true),
            (b">>From <", true),
            (b"From a Thu Apr 29 23:45:10 2008", true),
            (b">From a Thu Apr 29 23:45:10 2008", true),
            (b"From here on", false),
            (b"> From <a@b>", false),
            (b"from <a@b>", false),
        ] {
            assert_eq!(needs_escape(line), expected, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn dates() {
        assert_eq!(date(b"From <> Thu Apr 29 23:45:10 2008 +0900"), Some(1_209_480_310));
        assert_eq!(date(b"From <> Tue, 29 Apr 2008 23:45:10 +0900"), Some(1_209_480_310));
        assert_eq!(date(b"From <> Thu Apr 29 23:45:10 +0000 2008"), Some(1_209_512_710));
        assert_eq!(date(b"From <a@b>"), None);
        assert_eq!(date(line("a@b", 1_209_512_710).as_bytes()), Some(1_209_512_710));
        assert!(line("", 0).starts_with("From <> "));
        assert_eq!(sender(b"From <a@b> Thu"), b"a@b");
        assert_eq!(sender(b"From a@b Thu"), b"a@b");
    }
}
