//! What a client knows of its selected mailbox, and telling it what changed.
//!
//! A [`View`] is the list of UIDs as the client knows it; a message's sequence number is its place in it. The list is shared with the
//! mailbox and with every other session that knows the same messages. [`View::update`] compares it with the mailbox, and the [`News`] are
//! the untagged answers (RFC 3501 §7.3, §7.4): removals only where the client may be told of them (§7.4.1), until then a removed message
//! keeps its number.
//!
//! # Failure
//! A mailbox that was made anew, or whose UIDs do not continue, cannot be told as changes: [`News::lost`] ends the connection.

use super::command::Numbering;
use super::outcome::Failed;
use super::reply;
use super::sequence::{Numbers, SequenceSet};
use crate::mailbox::Open;
use crate::mailbox::public::Reader;
use layout::index::uids::Uids;
use layout::limits::KEYWORDS_MAX;
use layout::mailbox::{FlagChange, Mailbox, MailboxError};
use layout::mbx::record::{Record, flag};
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// How long a look for news waits for another program's lock: the news come with the next command.
pub const GLANCE: Duration = Duration::from_millis(100);

/// The flags by their bits, in the order in which they are written.
const FLAGS: [(u32, &str); 5] = [
    (flag::ANSWERED, "\\Answered"),
    (flag::FLAGGED, "\\Flagged"),
    (flag::DELETED, "\\Deleted"),
    (flag::SEEN, "\\Seen"),
    (flag::DRAFT, "\\Draft"),
];

/// What a client asked to be told differently (RFC 5161).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enabled {
    /// IMAP4rev2: nothing is recent, searches are answered by ESEARCH.
    pub rev2: bool,
    /// Mailbox names are UTF-8 (RFC 6855; part of IMAP4rev2).
    pub utf8: bool,
    /// Change numbers stand beside flags (RFC 7162).
    pub condstore: bool,
    /// Removals are told by UID.
    pub qresync: bool,
}

/// The selected mailbox as the client knows it.
pub struct View {
    /// The mailbox.
    pub open: Arc<Open>,
    /// Whether it was opened with EXAMINE.
    pub read_only: bool,
    /// The UIDVALIDITY that the client was told.
    pub uidvalidity: u32,
    /// What the client wants to be told.
    pub enabled: Enabled,
    /// What the reader of a public mailbox has seen; `None` in mailboxes of one's own.
    pub reader: Option<Reader>,
    /// UIDs of the search result that was kept (RFC 5182).
    pub saved: Numbers,
    uids: Arc<Uids>,
    modseq: u64,
    keywords: Vec<String>,
    /// UIDs that are recent in this session: ranges, ascending, both ends included.
    recent: Vec<(u32, u32)>,
}

/// A message's flags as they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Sequence number.
    pub number: u32,
    /// UID.
    pub uid: u32,
    /// Bits of [`flag`].
    pub flags: u32,
    /// Bits of the view's keywords.
    pub keywords: u32,
    /// Number of its last change.
    pub modseq: u64,
}

/// What the client must be told.
#[derive(Debug, Default)]
pub struct News {
    /// The mailbox is another one: the session cannot go on.
    pub lost: bool,
    /// Numbers for EXPUNGE, in the order of telling: each is the number at its moment; and the UIDs.
    expunged: Vec<(u32, u32)>,
    /// The new count of messages.
    exists: Option<usize>,
    keywords: bool,
    flags: Vec<Marks>,
}

impl View {
    /// The view of a mailbox that was just looked at.
    pub fn new(
        open: Arc<Open>,
        mailbox: &mut Mailbox,
        read_only: bool,
        enabled: Enabled,
        reader: Option<Reader>,
    ) -> View {
        let mut view = View {
            open,
            read_only,
            uidvalidity: mailbox.uidvalidity(),
            enabled,
            reader,
            saved: Numbers::default(),
            uids: mailbox.uids(),
            modseq: mailbox.modseq(),
            keywords: mailbox.keywords().to_vec(),
            recent: Vec::new(),
        };
        view.claim(mailbox, 0);
        view
    }

    /// How many messages there are.
    pub fn count(&self) -> usize {
        self.uids.len()
    }

    /// The UIDs; a message's number is its index plus one.
    pub fn uids(&self) -> &Arc<Uids> {
        &self.uids
    }

    /// The names of the keyword bits.
    pub fn keywords(&self) -> &[String] {
        &self.keywords
    }

    /// The flags of a message as this client has them.
    pub fn flags(&self, record: &Record) -> u32 {
        match &self.reader {
            Some(reader) if reader.has_seen(record.uid.get()) => record.flags.get() | flag::SEEN,
            Some(_) => record.flags.get() & !flag::SEEN,
            None => record.flags.get(),
        }
    }

    /// Do messages have change numbers? Not where `\Seen` is kept apart.
    pub fn has_modseq(&self) -> bool {
        self.reader.is_none()
    }

    /// The number of the last change that the client was told of.
    pub fn modseq(&self) -> u64 {
        self.modseq
    }

    /// How many messages are recent.
    pub fn recent_count(&self) -> usize {
        let below = |uid: u32| self.uids.partition(|known| known < uid);
        let up_to = |uid: u32| self.uids.partition(|known| known <= uid);
        self.recent.iter().map(|(first, last)| up_to(*last) - below(*first)).sum()
    }

    /// Is this message recent?
    pub fn is_recent(&self, uid: u32) -> bool {
        self.recent.iter().any(|(first, last)| (*first..=*last).contains(&uid))
    }

    /// Makes the messages above `known` that nobody was told of recent ones of this session.
    fn claim(&mut self, mailbox: &mut Mailbox, known: u32) {
        let before = match self.read_only || self.reader.is_some() {
            true => mailbox.recent_mark(),
            // Without the lock they stay recent for the next session; too many is better than none.
            false => mailbox.claim_recent(GLANCE).unwrap_or_else(|_| mailbox.recent_mark()),
        };
        let first = before.max(known).saturating_add(1);
        let Some(last) = self.uids.highest().filter(|last| *last >= first) else { return };
        match self.recent.last_mut() {
            Some(range) if range.1.checked_add(1) == Some(first) => range.1 = last,
            _ => self.recent.push((first, last)),
        }
    }

    /// Can [`View::update`] do without the file's lock? It needs that only to take over the mark of recent messages.
    pub fn is_easy(&self, mailbox: &mut Mailbox) -> bool {
        self.read_only
            || Arc::ptr_eq(&mailbox.uids(), &self.uids)
            || mailbox.recent_mark() >= mailbox.uid_next().saturating_sub(1)
    }

    /// Takes over what changed. Without `expunges` messages that are gone keep their numbers for now.
    pub fn update(&mut self, mailbox: &mut Mailbox, expunges: bool) -> News {
        let mut news = News::default();
        if mailbox.uidvalidity() != self.uidvalidity {
            return News { lost: true, ..news };
        }
        let last = self.uids.highest().unwrap_or(0);
        let current = mailbox.uids();
        if !Arc::ptr_eq(&current, &self.uids) {
            self.compare(&current, expunges, &mut news);
        }
        if news.exists.is_some() {
            self.claim(mailbox, last);
        }
        if mailbox.keywords().len() != self.keywords.len() {
            self.keywords = mailbox.keywords().to_vec();
            news.keywords = true;
        }
        if mailbox.marked() > self.modseq {
            let known = mailbox.messages().take_while(|record| record.uid.get() <= last);
            let changed = known.filter(|record| record.modseq.get() > self.modseq);
            news.flags = changed.filter_map(|record| self.marks(record)).collect();
        }
        self.modseq = mailbox.modseq();
        news
    }

    /// Compares the two lists of UIDs, both ascending.
    fn compare(&mut self, current: &Arc<Uids>, expunges: bool, news: &mut News) {
        // As many UIDs up to the last one are the same UIDs, since none is ever given below another: nothing to compare when
        // messages were only added.
        let known = self.uids.len();
        if known > 0 && current.at(known - 1) == self.uids.highest() {
            self.uids = current.clone();
            news.exists = (current.len() > known).then_some(current.len());
            return;
        }
        let mut rest: &[u32] = current;
        let mut gone = 0u32;
        let mut expunged = Vec::new();
        for (index, uid) in self.uids.iter().enumerate() {
            match rest {
                [first, after @ ..] if first == uid => rest = after,
                _ => {
                    expunged.push((index as u32 + 1 - gone, *uid));
                    gone += 1;
                }
            }
        }
        let last = self.uids.highest().unwrap_or(0);
        if rest.first().is_some_and(|first| *first <= last) {
            news.lost = true;
            return;
        }
        if gone == 0 || expunges {
            self.uids = current.clone();
            news.expunged = expunged;
        } else if !rest.is_empty() {
            self.uids = Arc::new(self.uids.iter().chain(rest).copied().collect());
        }
        news.exists = (!rest.is_empty()).then_some(self.uids.len());
    }

    /// A record's flags, if the client knows the message.
    pub fn marks(&self, record: &Record) -> Option<Marks> {
        let uid = record.uid.get();
        let index = self.uids.binary_search(&uid).ok()?;
        Some(Marks {
            number: index as u32 + 1,
            uid,
            flags: self.flags(record),
            keywords: record.keywords.get(),
            modseq: record.modseq.get(),
        })
    }

    /// Changes flags of messages that the client knows and tells it what others changed before; the client's own change is not among the news.
    pub fn change_flags(
        &mut self,
        mailbox: &mut Mailbox,
        uids: &[(u32, u32)],
        change: &FlagChange,
        patience: Duration,
    ) -> Result<News, MailboxError> {
        mailbox.refresh(patience)?;
        let news = self.update(mailbox, false);
        if let Some(reader) = &mut self.reader {
            reader.change(uids, change)?;
            return Ok(news);
        }
        let before = mailbox.modseq();
        mailbox.change_flags(uids, change, patience)?;
        // Another program may have changed something in between; then all of it is told again, which harms nobody.
        let now = mailbox.modseq();
        let ours =
            |range: &(u32, u32)| mailbox.range(range.0, range.1).any(|record| record.modseq.get() == now);
        if now == before + 1 && uids.iter().any(ours) {
            self.modseq = now;
        }
        Ok(news)
    }

    /// The messages that a command names, as ranges of indices into the list of UIDs.
    pub fn select(&self, numbering: Numbering, set: &SequenceSet) -> Result<Vec<Range<usize>>, Failed> {
        if set.is_saved() {
            return Ok(self.indices(&self.saved));
        }
        if numbering == Numbering::Uid {
            let last = self.uids.highest().unwrap_or(0);
            return Ok(self.indices(&set.resolve(last)));
        }
        let count = u32::try_from(self.count()).unwrap_or(u32::MAX);
        if set.exceeds(count) {
            return Err(Failed::Bad("there is no message of that number".to_owned()));
        }
        let index = |range: std::ops::RangeInclusive<u32>| *range.start() as usize - 1..*range.end() as usize;
        Ok(set.resolve(count).ranges().map(index).collect())
    }

    /// Where in the list of UIDs these are.
    fn indices(&self, uids: &Numbers) -> Vec<Range<usize>> {
        let index = |range: std::ops::RangeInclusive<u32>| {
            let from = self.uids.partition(|uid| uid < *range.start());
            from..self.uids.partition(|uid| uid <= *range.end())
        };
        uids.ranges().map(index).filter(|range| !range.is_empty()).collect()
    }

    /// The UIDs of indices, as the mailbox takes them. Between two UIDs of the view there is no message that is not in it.
    pub fn uid_ranges(&self, ranges: &[Range<usize>]) -> Vec<(u32, u32)> {
        let uids = |range: &Range<usize>| match self.uids.get(range.clone())? {
            [first, .., last] => Some((*first, *last)),
            [only] => Some((*only, *only)),
            [] => None,
        };
        ranges.iter().filter_map(uids).collect()
    }

    /// `(\Answered ...)`: the flags that messages can have, and `\*` where clients may add keywords (RFC 3501 §7.1).
    pub fn write_flag_names(&self, out: &mut Vec<u8>, permanent: bool) {
        let names = FLAGS.iter().map(|(_, name)| *name).chain(self.keywords.iter().map(String::as_str));
        let more = (permanent && self.keywords.len() < KEYWORDS_MAX).then_some("\\*");
        out.push(b'(');
        if permanent && self.reader.is_some() && !self.read_only {
            out.extend_from_slice(b"\\Seen");
        } else if !permanent || !self.read_only {
            write_words(out, names.chain(more));
        }
        out.push(b')');
    }

    /// `FLAGS (...)` of a message.
    pub fn write_marks(&self, out: &mut Vec<u8>, marks: &Marks) {
        let flags = FLAGS.iter().filter(|(bit, _)| marks.flags & bit != 0).map(|(_, name)| *name);
        let recent = (!self.enabled.rev2 && self.is_recent(marks.uid)).then_some("\\Recent");
        let keywords = self.keywords.iter().enumerate().filter(|(bit, _)| marks.keywords >> bit & 1 != 0);
        out.extend_from_slice(b"FLAGS (");
        write_words(out, flags.chain(recent).chain(keywords.map(|(_, name)| name.as_str())));
        out.push(b')');
    }

    /// ` MODSEQ (7)`, for clients that want to know.
    pub fn write_modseq(&self, out: &mut Vec<u8>, modseq: u64) {
        if self.enabled.condstore && self.has_modseq() {
            out.extend_from_slice(b" MODSEQ (");
            reply::number(out, modseq);
            out.push(b')');
        }
    }

    /// `* 2 FETCH (UID 7 FLAGS (...))`.
    pub fn write_fetch_marks(&self, out: &mut Vec<u8>, marks: &Marks) {
        out.extend_from_slice(b"* ");
        reply::number(out, u64::from(marks.number));
        out.extend_from_slice(b" FETCH (UID ");
        reply::number(out, u64::from(marks.uid));
        out.push(b' ');
        self.write_marks(out, marks);
        self.write_modseq(out, marks.modseq);
        out.extend_from_slice(b")\r\n");
    }

    /// Tells the news.
    pub fn tell(&self, news: &News, out: &mut impl Write) -> io::Result<()> {
        let mut line = Vec::new();
        if self.enabled.qresync && !news.expunged.is_empty() {
            line.extend_from_slice(b"* VANISHED ");
            Numbers::of_sorted(news.expunged.iter().map(|(_, uid)| *uid)).write(&mut line);
            line.extend_from_slice(b"\r\n");
            out.write_all(&line)?;
        }
        for (number, _) in news.expunged.iter().filter(|_| !self.enabled.qresync) {
            line.clear();
            line.extend_from_slice(b"* ");
            reply::number(&mut line, u64::from(*number));
            line.extend_from_slice(b" EXPUNGE\r\n");
            out.write_all(&line)?;
        }
        if let Some(exists) = news.exists {
            write!(out, "* {exists} EXISTS\r\n")?;
            if !self.enabled.rev2 {
                write!(out, "* {} RECENT\r\n", self.recent_count())?;
            }
        }
        if news.keywords {
            line.clear();
            line.extend_from_slice(b"* FLAGS ");
            self.write_flag_names(&mut line, false);
            line.extend_from_slice(b"\r\n* OK [PERMANENTFLAGS ");
            self.write_flag_names(&mut line, true);
            line.extend_from_slice(b"] there is a new keyword\r\n");
            out.write_all(&line)?;
        }
        for marks in &news.flags {
            line.clear();
            self.write_fetch_marks(&mut line, marks);
            out.write_all(&line)?;
        }
        Ok(())
    }
}

fn write_words<'a>(out: &mut Vec<u8>, words: impl Iterator<Item = &'a str>) {
    for (index, word) in words.enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word.as_bytes());
    }
}

/// The records of some UIDs, ascending; `None` for messages that are gone.
pub fn records(mailbox: &Mailbox, uids: &[u32]) -> Vec<Option<Record>> {
    let (Some(first), Some(last)) = (uids.first(), uids.last()) else { return Vec::new() };
    let mut found = mailbox.range(*first, *last).peekable();
    let record = |uid: &u32| {
        while found.next_if(|record| record.uid.get() < *uid).is_some() {}
        found.next_if(|record| record.uid.get() == *uid).copied()
    };
    uids.iter().map(record).collect()
}
