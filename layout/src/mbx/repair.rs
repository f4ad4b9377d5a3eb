//! Looking for damage in a mailbox file, and writing what is whole of it.
//!
//! | damage | what a repair does |
//! | --- | --- |
//! | NUL bytes in a row, as a power cut leaves them | takes them out of the line |
//! | the file ends within a line or a header | ends the line and the header |
//! | a separator within a line: a message was appended behind one that broke off | divides the two |
//! | a separator that no header follows | takes everything up to the next message out |
//! | text before the first message, which is never served | takes it out |
//! | none of our messages at all | takes everything out |
//!
//! Nothing is thrown away: a [`Sink`] gets every byte of the file once, either as kept or as lost, in the order of the file, but that NUL bytes
//! in a line that is lost come before the rest of it; a file that is lost as a whole is lost as it is. What is kept has none of these
//! faults. Whole messages are kept byte for byte.
//!
//! # Failure
//! Only reading and the sink can fail.
//!
//! # Limits
//! Lines are looked at in pieces of [`PIECE`] bytes: a separator behind more of one line is not found. [`FINDINGS_MAX`] findings
//! are kept; more are counted.

use super::separator::{self, Dialect, Foreign, Head, begins_header};
use crate::disk::Handle;
use crate::limits::SEPARATOR_MAX;
use std::collections::VecDeque;
use std::fmt;
use std::io;

/// The longest part of a line that is looked at as a whole.
pub const PIECE: usize = 64 << 10;
/// How many findings of one file are kept.
pub const FINDINGS_MAX: usize = 1000;
/// So many NUL bytes in a row are damage; a single one may be part of a message in an odd encoding.
const NUL_RUN: usize = 2;
/// How much is read at once.
const READ: usize = 256 << 10;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// NUL bytes in a row.
    Nul,
    /// The file ends within a line or a header.
    Torn,
    /// A separator stands within a line.
    Merged,
    /// No header follows a separator.
    NoHeader,
    /// Text before the first message.
    Head,
    /// None of our messages.
    Foreign(Foreign),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Nul => f.write_str("NUL bytes"),
            Damage::Torn => f.write_str("torn tail: the last message is not whole"),
            Damage::Merged => f.write_str("a message begins within a line: the one before is not whole"),
            Damage::NoHeader => f.write_str("a separator without a header"),
            Damage::Head => f.write_str("text before the first message, which nobody gets to see"),
            Damage::Foreign(foreign) => write!(f, "foreign: {foreign}"),
        }
    }
}

/// A place that is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub damage: Damage,
    /// Where, in bytes from the file's begin.
    pub offset: u64,
    /// How many bytes are concerned.
    pub length: u64,
}

/// What was found in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Messages that are kept.
    pub messages: u64,
    /// What is wrong, in the order of the file; at most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
    /// How many more findings there are.
    pub more: u64,
}

/// Takes the bytes of a file, sorted.
pub trait Sink {
    /// Bytes that are kept, or that are added to end what broke off.
    fn keep(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Bytes that have no place.
    fn lose(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// A sink for those who only want to know.
pub struct Nowhere;

impl Sink for Nowhere {
    fn keep(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn lose(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// Looks at a whole file and hands its bytes to `sink`.
pub fn examine(file: &dyn Handle, sink: &mut dyn Sink) -> io::Result<Report> {
    let mut start = vec![0; SEPARATOR_MAX];
    let length = file.read_at(&mut start, 0)?;
    start.truncate(length);
    let (dialect, foreign) = match Dialect::detect(&start) {
        Head::Ours(Dialect::Classic) if !begins_classic(file)? => (Dialect::Bracket, None),
        Head::Ours(dialect) => (dialect, None),
        Head::Foreign(foreign) => (Dialect::Bracket, Some(foreign)),
        // Its begin is damaged: whichever form has messages in it.
        Head::Unknown => {
            let none = walk(file, Dialect::Bracket, None, &mut Nowhere)?.messages == 0;
            (if none && begins_classic(file)? { Dialect::Classic } else { Dialect::Bracket }, None)
        }
    };
    walk(file, dialect, foreign, sink)
}

/// Is the first message that would be kept of the classic form, so that what is kept is read as it was here?
fn begins_classic(file: &dyn Handle) -> io::Result<bool> {
    let mut first = First::default();
    walk(file, Dialect::Classic, None, &mut first)?;
    // What broke off just before a bracket separator may look like the begin of a classic one.
    let broken = memchr::memmem::find(&first.0, b"From <").is_some_and(|at| at > 0);
    Ok(!broken && Dialect::detect(&first.0) == Head::Ours(Dialect::Classic))
}

/// Keeps the first line of what is kept.
#[derive(Default)]
struct First(Vec<u8>);

impl Sink for First {
    fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.0.is_empty() {
            self.0.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn lose(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

fn walk(
    file: &dyn Handle,
    dialect: Dialect,
    foreign: Option<Foreign>,
    sink: &mut dyn Sink,
) -> io::Result<Report> {
    let mut reader = Reader { file, at: 0, buffer: Vec::new(), used: 0, nul_edge: false, ended: false };
    let mut walk = Walk {
        dialect,
        foreign: foreign.is_some(),
        sink,
        report: Report::default(),
        state: State::Head,
        region: 0,
        at_line: true,
        blank: true,
    };
    let mut ahead: VecDeque<Piece> = VecDeque::new();
    loop {
        // What follows a line decides what it is; pieces that are all NUL do not follow.
        while !ahead.iter().skip(1).any(|piece| !piece.bytes.is_empty()) {
            match reader.piece()? {
                Some(piece) => ahead.push_back(piece),
                None => break,
            }
        }
        let Some(piece) = ahead.pop_front() else { break };
        let next = ahead.iter().find(|piece| !piece.bytes.is_empty());
        walk.piece(&piece, next.map_or(&[], |next| &next.bytes))?;
    }
    walk.finish(reader.at, foreign)
}

/// A line or a part of one, without the NUL bytes that are damage.
struct Piece {
    offset: u64,
    bytes: Vec<u8>,
    /// Where in `bytes` NUL bytes stood, and how many.
    nuls: Vec<(usize, u64)>,
}

impl Piece {
    /// Where in the file a byte of `bytes` is.
    fn offset_of(&self, at: usize) -> u64 {
        let before = self.nuls.iter().filter(|(place, _)| *place <= at).map(|(_, count)| count);
        self.offset + at as u64 + before.sum::<u64>()
    }
}

struct Reader<'a> {
    file: &'a dyn Handle,
    /// How much of the file is in the buffer or was.
    at: u64,
    buffer: Vec<u8>,
    /// How much of the buffer was handed out.
    used: usize,
    /// Did the last piece end with NUL, within a line?
    nul_edge: bool,
    /// Was the file's end reached?
    ended: bool,
}

impl Reader<'_> {
    fn piece(&mut self) -> io::Result<Option<Piece>> {
        if !self.ended && self.buffer.len() - self.used < PIECE {
            self.fill()?;
        }
        let rest = self.buffer.get(self.used..).unwrap_or_default();
        let most = rest.get(..rest.len().min(PIECE)).unwrap_or_default();
        if most.is_empty() {
            return Ok(None);
        }
        let end = memchr::memchr(b'\n', most).map_or(most.len(), |at| at + 1);
        let raw = most.get(..end).unwrap_or_default();
        let offset = self.at - rest.len() as u64;
        let (bytes, nuls) = without_runs(raw, self.nul_edge);
        self.nul_edge = raw.last() == Some(&0);
        self.used += end;
        Ok(Some(Piece { offset, bytes, nuls }))
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.used);
        self.used = 0;
        while self.buffer.len() < PIECE && !self.ended {
            let have = self.buffer.len();
            self.buffer.resize(have + READ, 0);
            let read = self.file.read_at(self.buffer.get_mut(have..).unwrap_or_default(), self.at)?;
            self.buffer.truncate(have + read);
            self.at += read as u64;
            self.ended = read == 0;
        }
        Ok(())
    }
}

/// The bytes without runs of NUL; one at the edge of a piece counts as part of a run that goes on in its neighbour.
fn without_runs(raw: &[u8], edge: bool) -> (Vec<u8>, Vec<(usize, u64)>) {
    let (mut bytes, mut nuls) = (Vec::with_capacity(raw.len()), Vec::new());
    let mut rest = raw;
    while let Some(at) = memchr::memchr(0, rest) {
        let (text, behind) = rest.split_at(at);
        let count = behind.iter().take_while(|byte| **byte == 0).count();
        bytes.extend_from_slice(text);
        let at_edge = (edge && at == 0 && rest.len() == raw.len()) || count == behind.len();
        if count >= NUL_RUN || at_edge {
            nuls.push((bytes.len(), count as u64));
        } else {
            bytes.push(0);
        }
        rest = behind.get(count..).unwrap_or_default();
    }
    bytes.extend_from_slice(rest);
    (bytes, nuls)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first message.
    Head,
    /// In a message's header.
    Header,
    /// In a message's body.
    Body,
    /// Behind a separator without a header.
    Lost,
}

struct Walk<'a> {
    dialect: Dialect,
    /// The file as a whole is none of ours.
    foreign: bool,
    sink: &'a mut dyn Sink,
    report: Report,
    state: State,
    /// Where the head, or what is lost at the moment, began.
    region: u64,
    /// Does a line begin here?
    at_line: bool,
    /// Was the last kept line empty?
    blank: bool,
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// The begin of a message.
    Border,
    /// A separator that no header follows.
    Headless,
    /// Any other, or the rest of one.
    Text,
}

impl Walk<'_> {
    fn piece(&mut self, piece: &Piece, next: &[u8]) -> io::Result<()> {
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut offset = piece.offset;
        let mut at = 0;
        for (place, count) in &piece.nuls {
            offset += (place - at) as u64;
            if self.foreign {
                self.sink.lose(piece.bytes.get(at..*place).unwrap_or_default())?;
            } else {
                self.find(Damage::Nul, offset, *count);
            }
            at = *place;
            offset += count;
            let mut left = *count as usize;
            while left > 0 {
                let some = left.min(ZEROS.len());
                self.sink.lose(ZEROS.get(..some).unwrap_or_default())?;
                left -= some;
            }
        }
        if piece.bytes.is_empty() {
            return Ok(());
        }
        if self.foreign {
            return self.sink.lose(piece.bytes.get(at..).unwrap_or_default());
        }
        match self.merged(&piece.bytes, next) {
            Some(at) => {
                let (before, line) = piece.bytes.split_at(at);
                let offset = piece.offset_of(at);
                if self.at_line && before.starts_with(b"From <") {
                    // A separator that broke off itself.
                    self.headless(before, piece.offset_of(0))?;
                } else {
                    self.text(before)?;
                }
                if matches!(self.state, State::Header | State::Body) {
                    self.find(Damage::Merged, offset, line.len() as u64);
                    self.end_message()?;
                }
                self.at_line = true;
                self.line(line, next, offset)
            }
            None => self.line(&piece.bytes, next, piece.offset_of(0)),
        }
    }

    fn line(&mut self, bytes: &[u8], next: &[u8], offset: u64) -> io::Result<()> {
        match self.judge(bytes, next) {
            Line::Border => self.border(bytes, offset),
            Line::Headless => self.headless(bytes, offset),
            Line::Text => self.text(bytes),
        }
    }

    /// A separator without a header: what follows it is lost.
    fn headless(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.close_region(offset);
        // It may be the last message that is kept.
        if self.state == State::Header {
            self.end_message()?;
        }
        self.state = State::Lost;
        self.region = offset;
        self.at_line = bytes.ends_with(b"\n");
        self.sink.lose(bytes)
    }

    fn judge(&self, bytes: &[u8], next: &[u8]) -> Line {
        if !self.at_line {
            return Line::Text;
        }
        let line = trimmed(bytes);
        let ended = bytes.ends_with(b"\n");
        let dated = || separator::date(line).is_some();
        let bracket = line.starts_with(b"From <") && line.contains(&b'>');
        // A separator that the file ends in.
        if !ended
            && next.is_empty()
            && self.blank
            && (line.starts_with(b"From <") || b"From <".starts_with(line))
        {
            return Line::Headless;
        }
        let looks = match self.dialect {
            Dialect::Bracket => {
                bracket && (dated() || self.is_border(line, next) || starts_with_separator(next))
            }
            Dialect::Classic => self.is_border(line, next),
        };
        match (looks, self.is_border(line, next) && has_header(next) && ended) {
            (true, true) => Line::Border,
            (true, false) => Line::Headless,
            (false, _) => Line::Text,
        }
    }

    fn is_border(&self, line: &[u8], next: &[u8]) -> bool {
        self.dialect.is_separator(line, next, self.blank)
    }

    /// Where within a line a separator with a date begins that a header follows; not behind the `>` that mark quoted ones.
    fn merged(&self, bytes: &[u8], next: &[u8]) -> Option<usize> {
        if self.dialect != Dialect::Bracket || !bytes.ends_with(b"\n") || !has_header(next) {
            return None;
        }
        // The last of several: what is before it broke off.
        memchr::memmem::find_iter(bytes, b"From <")
            .filter(|at| {
                let (before, line) = bytes.split_at(*at);
                let quoted = self.at_line && before.iter().all(|byte| *byte == b'>');
                let line = trimmed(line);
                !quoted && line.contains(&b'>') && separator::date(line).is_some()
            })
            .last()
    }

    fn border(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.close_region(offset);
        // In the classic form only what follows an empty line is a separator.
        if self.dialect == Dialect::Classic && self.report.messages > 0 && !self.blank {
            self.sink.keep(b"\r\n")?;
        }
        self.report.messages += 1;
        self.state = State::Header;
        self.at_line = true;
        self.blank = false;
        self.sink.keep(bytes)
    }

    /// The head, or what was lost, ends here.
    fn close_region(&mut self, offset: u64) {
        let (region, length) = (self.region, offset.saturating_sub(self.region));
        match self.state {
            State::Head if length > 0 => self.find(Damage::Head, region, length),
            State::Lost => self.find(Damage::NoHeader, region, length),
            _ => {}
        }
    }

    fn text(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let began = self.at_line;
        self.at_line = bytes.ends_with(b"\n");
        if matches!(self.state, State::Head | State::Lost) {
            // Behind lost bytes stands what stood before them.
            return self.sink.lose(bytes);
        }
        self.blank = began && trimmed(bytes).is_empty() && self.at_line;
        if self.state == State::Header && self.blank {
            self.state = State::Body;
        }
        self.sink.keep(bytes)
    }

    /// Ends a message that broke off.
    fn end_message(&mut self) -> io::Result<()> {
        if !self.at_line {
            self.sink.keep(b"\r\n")?;
            self.at_line = true;
            self.blank = false;
        }
        if !self.blank {
            self.sink.keep(b"\r\n")?;
            self.blank = true;
        }
        Ok(())
    }

    fn find(&mut self, damage: Damage, offset: u64, length: u64) {
        if let Some(last) = self.report.findings.last_mut()
            && last.damage == damage
            && damage == Damage::Nul
            && last.offset + last.length == offset
        {
            last.length += length;
            return;
        }
        if self.report.findings.len() < FINDINGS_MAX {
            self.report.findings.push(Finding { damage, offset, length });
        } else {
            self.report.more += 1;
        }
    }

    fn finish(mut self, size: u64, foreign: Option<Foreign>) -> io::Result<Report> {
        let nothing = self.report.messages == 0 && size > 0;
        match (foreign, self.state) {
            (Some(foreign), _) => self.find(Damage::Foreign(foreign), 0, size),
            (None, State::Head) if nothing => self.find(Damage::Foreign(Foreign::NoSeparator), 0, size),
            _ => {
                self.close_region(size);
                if !self.at_line || self.state == State::Header {
                    self.find(Damage::Torn, size, 0);
                }
                if matches!(self.state, State::Header | State::Body)
                    && (!self.at_line || self.state == State::Header)
                {
                    self.end_message()?;
                }
            }
        }
        Ok(self.report)
    }
}

fn trimmed(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Does a header field stand here? A separator is none.
fn has_header(next: &[u8]) -> bool {
    !trimmed(next).is_empty() && begins_header(next) && !starts_with_separator(next)
}

fn starts_with_separator(next: &[u8]) -> bool {
    next.starts_with(b"From <")
}

#[cfg(test)]
mod tests {
    use super::super::scan;
    use super::super::testing::file;
    use super::*;
    use proptest::prelude::*;

    #[derive(Default)]
    struct Both {
        kept: Vec<u8>,
        lost: Vec<u8>,
    }

    impl Sink for Both {
        fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.kept.extend_from_slice(bytes);
            Ok(())
        }

        fn lose(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.lost.extend_from_slice(bytes);
            Ok(())
        }
    }

    fn repaired(bytes: &[u8]) -> (Report, Both) {
        let mut both = Both::default();
        let report = examine(&*file(bytes), &mut both).unwrap();
        (report, both)
    }

    fn message(number: usize) -> Vec<u8> {
        format!(
            "From <u{number}@x.example> Mon Aug 01 10:00:{number:02} 2022\r\nSubject: m{number}\r\nX-UIDL: {number}\r\n\r\n\
             line one\r\n>From <q@x> Mon Aug 01 10:00:00 2022\r\nFrom here on\r\nlast {number}\r\n\r\n"
        )
        .into_bytes()
    }

    fn three() -> Vec<u8> {
        (1..4).flat_map(message).collect()
    }

    fn damages(report: &Report) -> Vec<Damage> {
        report.findings.iter().map(|finding| finding.damage).collect()
    }

    #[test]
    fn whole_files_have_no_findings() {
        for bytes in [three(), Vec::new(), b"From <> Mon Aug 01 10:00:00 2022\nA: b\n\n\0single\n".to_vec()] {
            let (report, both) = repaired(&bytes);
            assert_eq!((report.findings.len(), both.lost.len()), (0, 0), "{report:?}");
            assert_eq!(both.kept, bytes);
        }
        let classic = b"From a@b Mon Aug 01 10:00:00 2022\nA: b\n\nx\nFrom c Mon Aug 01 10:00:00 2022\nA: no\n\nFrom d Mon Aug 01 10:00:00 2022\nA: b\n\ny\n";
        assert_eq!(repaired(classic).0, Report { messages: 2, findings: Vec::new(), more: 0 });
    }

    #[test]
    fn each_kind_of_damage() {
        let (one, two) = (message(1), message(2));
        let join = |parts: &[&[u8]]| parts.concat();
        let cut = &one[..one.len() - 6];
        let headless = b"From <h@x> Mon Aug 01 10:00:00 2022\r\n".as_slice();
        let torn_one = [cut, b"\r\n\r\n"].concat();
        for (bytes, damage, kept, lost) in [
            (join(&[&one, &[0; 600], &two]), Damage::Nul, join(&[&one, &two]), vec![0; 600]),
            (join(&[&one[..100], &[0; 70_000], &one[100..]]), Damage::Nul, one.clone(), vec![0; 70_000]),
            (cut.to_vec(), Damage::Torn, torn_one.clone(), vec![]),
            (join(&[cut, &two]), Damage::Merged, join(&[&torn_one, &two]), vec![]),
            (join(&[headless, &one]), Damage::NoHeader, one.clone(), headless.to_vec()),
            (
                join(&[&one, headless, b"\r\nbody\r\n\r\n", &two]),
                Damage::NoHeader,
                join(&[&one, &two]),
                join(&[headless, b"\r\nbody\r\n\r\n"]),
            ),
            (
                join(&[&one, headless, b"no header here\r\n", &two]),
                Damage::NoHeader,
                join(&[&one, &two]),
                join(&[headless, b"no header here\r\n"]),
            ),
            (join(&[b"rest of a line\r\n", &one]), Damage::Head, one.clone(), b"rest of a line\r\n".to_vec()),
            (b"*mbx*\r\n".to_vec(), Damage::Foreign(Foreign::UwMbx), vec![], b"*mbx*\r\n".to_vec()),
            (b"\x01\x02".to_vec(), Damage::Foreign(Foreign::NoSeparator), vec![], b"\x01\x02".to_vec()),
            // What is lost as a whole is byte for byte the file, with its NUL bytes where they were.
            (
                b"*mbx*\0\0\r\na\0\0b\0c\0\0\0".to_vec(),
                Damage::Foreign(Foreign::UwMbx),
                vec![],
                b"*mbx*\0\0\r\na\0\0b\0c\0\0\0".to_vec(),
            ),
        ] {
            let (report, both) = repaired(&bytes);
            assert_eq!(damages(&report), [damage], "{report:?}");
            assert_eq!((both.kept.as_slice(), &both.lost), (kept.as_slice(), &lost), "{damage:?}");
        }
        // NUL bytes are taken out of a line before it is known that the line is lost, too.
        let (report, both) = repaired(&join(&[b"a\0\0b\r\nc\0\0\r\n", &one]));
        assert_eq!(damages(&report), [Damage::Nul, Damage::Nul, Damage::Head]);
        assert_eq!((both.kept, both.lost), (one.clone(), b"\0\0ab\r\n\0\0c\r\n".to_vec()));
        let (report, both) = repaired(&join(&[&one, b"From <a@"]));
        assert_eq!(damages(&report), [Damage::NoHeader, Damage::Torn]);
        assert_eq!((both.kept, both.lost), (one.clone(), b"From <a@".to_vec()));
        let (report, both) = repaired(&join(&[&one, b"From <a@b> Mon ", &two]));
        assert_eq!((damages(&report), both.kept), (vec![Damage::NoHeader], join(&[&one, &two])));
        let (report, both) = repaired(&one[..60]);
        assert_eq!(damages(&report), [Damage::Torn]);
        assert_eq!(both.kept, [&one[..60], b"\r\n\r\n"].concat());
        let (report, _) = repaired(&join(&[&[0, 0], &one]));
        assert_eq!(report.findings[0], Finding { damage: Damage::Nul, offset: 0, length: 2 });
    }

    /// All bytes but CR and LF, sorted: what was added is only these.
    fn text_of(bytes: &[u8]) -> Vec<u8> {
        let mut text: Vec<u8> = bytes.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
        text.sort_unstable();
        text
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn what_is_kept_has_no_findings(parts in prop::collection::vec(prop_oneof![
            Just(message(1)), Just(message(2)), Just(vec![0; 9]), Just(vec![0]),
            Just(b"From <a@b> Mon Aug 01 10:00:00 2022\r\n".to_vec()), Just(b"From <a@b>\n".to_vec()),
            Just(b"From a Mon Aug 01 10:00:00 2022\n".to_vec()), Just(b"A: b\n".to_vec()), Just(b"\n".to_vec()),
            Just(b"text".to_vec()), Just(b"From <".to_vec()), Just(b">".to_vec()),
            prop::collection::vec(any::<u8>(), 0..6),
        ], 0..12)) {
            let bytes = parts.concat();
            let (report, both) = repaired(&bytes);
            let all = [&both.kept[..], &both.lost[..]].concat();
            prop_assert!(text_of(&all) == text_of(&bytes), "{:?}", String::from_utf8_lossy(&bytes));
            let (again, second) = repaired(&both.kept);
            let text = String::from_utf8_lossy;
            prop_assert!(again.findings.is_empty(), "{:?}\n{:?}\n{:?}", again.findings, text(&bytes), text(&both.kept));
            prop_assert!(again.messages == report.messages && second.kept == both.kept);
        }

        #[test]
        fn whole_messages_stay_whole(cut in 0usize..700, length in 0usize..300, fill in prop::option::of(any::<u8>())) {
            let whole = three();
            let (from, to) = (cut.min(whole.len()), (cut + length).min(whole.len()));
            let mut bytes = whole.clone();
            match fill {
                Some(byte) => bytes[from..to].fill(byte),
                None => drop(bytes.drain(from..to)),
            }
            let (_, both) = repaired(&bytes);
            let scanned = match both.kept.is_empty() {
                true => Vec::new(),
                false => scan::whole(&*file(&both.kept), i64::MAX).unwrap().messages,
            };
            let one = message(1).len();
            for number in 0..3 {
                let (begin, end) = (number * one, (number + 1) * one);
                if to <= begin || from >= end {
                    // What is left of a neighbour without its separator is a part of the message before.
                    let there = scanned.iter().any(|found| {
                        both.kept[found.record.offset.get() as usize..].starts_with(&whole[begin..end])
                    });
                    prop_assert!(there, "{} of {:?}", number, String::from_utf8_lossy(&both.kept));
                }
            }
        }
    }
}
