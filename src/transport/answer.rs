//! Answers that a user's settings give: `vacation.ima`, one for each sender, and `<mailbox>.inf`, one for each message
//! (IMail help, Vacation Message and Information Manager).
//!
//! An answer is a message of our own in the spool, with the empty sender, made after the mail was stored. What never gets one
//! ([`wants_answer`]): mail without sender, from programs and lists, or that names the user in neither To nor Cc (RFC 3834 §2).
//!
//! The layout of an `.inf` is not documented; chosen: its first line is the answer's subject, the rest is its text, and an `.inf.opt` beside it
//! with `Enabled=0` switches it off. A file that is no plain text is left alone. After ten answers in a day to one sender
//! the sender gets no more: that ends loops which no header shows.
//!
//! `Forward=` of the `.inf.opt` sends the mail on instead of into the mailbox (documented, with `NUL` for "to nobody"); see [`super::disposition`].
//!
//! # Failure
//! The mail is stored by then, so whatever fails is only logged, and there is no answer. A sender is written into `vacation.snt` before the
//! answer goes out: a crash in between loses one answer rather than sending two.
//!
//! # Limits
//! [`SETTINGS_FILE_MAX`] bytes of a file, [`SUBJECT_MAX`] characters of subject, [`PER_DAY`] answers of an `.inf` to one sender.

use super::route::MailboxTarget;
use super::{Inner, mailbox_address};
use crate::config::Config;
use crate::message::charset::UTF8;
use crate::message::encode::{self, LINE_MAX, header_text};
use crate::message::header::{Address, addresses, fields, unfold, value};
use chrono::{DateTime, Local, NaiveDate};
use layout::disk::Open;
use layout::limits::SETTINGS_FILE_MAX;
use layout::logline::{Event, Tag};
use layout::mbx::compose::Source;
use layout::mbx::header;
use layout::path::TreePath;
use layout::root::Root;
use layout::spool::id::Origin as Kind;
use layout::text::{self, CodePage};
use layout::user::forward::Forward;
use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most characters of a subject: those of an `.inf`, as the 2006 guide has them.
pub const SUBJECT_MAX: usize = 80;
/// The most answers of one `.inf` to one sender in a day (ours).
pub const PER_DAY: u32 = 10;
/// So many pairs of who answers and whom are remembered for a day; then counting begins anew.
const REMEMBERED: usize = 50_000;

/// What the answers given so far are remembered by. While it is locked nobody else answers, so `vacation.snt` cannot get a sender twice.
#[derive(Default)]
pub struct Memory(Mutex<HashMap<(String, String), (NaiveDate, u32)>>);

impl Memory {
    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), (NaiveDate, u32)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// May this mailbox, or list server, answer this sender once more today, of so many times? Counts it.
    pub fn count(&self, mailbox: &str, sender: &str, most: u32, today: NaiveDate) -> bool {
        let mut known = self.lock();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        let entry = known.entry((mailbox.to_owned(), sender.to_lowercase())).or_insert((today, 0));
        if entry.0 != today {
            *entry = (today, 0);
        }
        entry.1 = entry.1.saturating_add(1);
        entry.1 <= most
    }
}

/// May a message be answered that `sender` sent to `recipient`? `message` begins with its header.
pub fn wants_answer(message: &[u8], sender: &str, recipient: &str) -> bool {
    is_person(sender)
        && !sender.eq_ignore_ascii_case(recipient)
        && !is_automatic(message)
        && names(message, recipient)
}

/// Names of programs that send mail (RFC 3834 §2 and RFC 5230 §4.6), and of IMail's list server.
fn is_person(sender: &str) -> bool {
    let sender = sender.to_lowercase();
    let Some((local, _)) = sender.rsplit_once('@') else { return false };
    let programs = ["mailer-daemon", "listserv", "majordomo", "noreply", "no-reply"];
    let ends = ["-request", "-bounce", "-bounces", "-owner"];
    let program = programs.contains(&local) || local.starts_with("owner-") || sender.contains("imailsrv");
    let typed = sender.chars().all(|c| !c.is_control() && !c.is_whitespace() && !matches!(c, '<' | '>'));
    typed && !local.is_empty() && !program && !ends.iter().any(|end| local.ends_with(end))
}

/// Is it automatic, bulk or list mail by its header?
pub(crate) fn is_automatic(message: &[u8]) -> bool {
    fields(message).any(|field| {
        let value = unfold(field.value).to_ascii_lowercase();
        let name = field.name.to_ascii_lowercase();
        match name.as_slice() {
            b"auto-submitted" => !value.starts_with(b"no"),
            b"precedence" => [&b"bulk"[..], b"list", b"junk"].iter().any(|kind| value.starts_with(kind)),
            b"content-type" => value.starts_with(b"multipart/report"),
            b"x-auto-response-suppress" | b"x-autoreply" => true,
            _ => name.starts_with(b"list-"),
        }
    })
}

/// Does To or Cc name this address?
fn names(message: &[u8], recipient: &str) -> bool {
    let Some((local, domain)) = recipient.rsplit_once('@') else { return false };
    let is = |address: &Address<'_>| match address {
        Address::Mailbox { local: l, domain: d, .. } => {
            l.eq_ignore_ascii_case(local.as_bytes()) && d.eq_ignore_ascii_case(domain.as_bytes())
        }
        _ => false,
    };
    let lists = fields(message).filter(|field| field.is(b"to") || field.is(b"cc"));
    lists.take(20).any(|field| addresses(field.value).iter().any(is))
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The subject; `None` is `Re:` and the subject of the message.
    pub subject: Option<String>,
    /// The text.
    pub body: String,
}

/// Reads a `vacation.ima`: all of it is the text. `None` if there is none, which switches it off (classic web client).
pub fn vacation(bytes: &[u8], code_page: CodePage) -> Option<Text> {
    let body = text::decode_file(bytes, code_page);
    (!body.trim().is_empty()).then_some(Text { subject: None, body })
}

/// Reads an `.inf`: subject line and text. `None` if it is empty; an error if it is no plain text.
pub fn information(bytes: &[u8], code_page: CodePage) -> Result<Option<Text>, NotPlainText> {
    let plain = |c: char| !c.is_control() || matches!(c, '\t' | '\r' | '\n' | '\x0c' | '\x1a');
    let (content, _) = text::decode(bytes, code_page);
    if content.contains('\u{fffd}') || !content.chars().all(plain) {
        return Err(NotPlainText);
    }
    let content = content.trim_end_matches('\x1a');
    let (subject, body) = content.split_once('\n').unwrap_or((content, ""));
    let subject: String = subject.trim().chars().take(SUBJECT_MAX).collect();
    let empty = subject.is_empty() && body.trim().is_empty();
    Ok((!empty).then(|| Text { subject: Some(subject), body: body.to_owned() }))
}

/// An `.inf` that holds something else than text.
#[derive(Debug, PartialEq, Eq)]
pub struct NotPlainText;

/// Does an `.inf.opt` leave the answer on? Without a line that says otherwise it is.
pub fn is_enabled(options: &[u8]) -> bool {
    option(options, "Enabled").is_none_or(|value| value != "0")
}

/// Where an `.inf.opt` that is on sends the mail instead of into the mailbox; nowhere if this is empty.
pub fn forwards(options: &[u8]) -> Vec<String> {
    let value = option(options, "Forward").filter(|_| is_enabled(options)).unwrap_or_default();
    // The text is UTF-8 by now.
    Forward::parse(value.as_bytes(), CodePage::default()).0.targets
}

/// The value of the last line with this name.
fn option(options: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(options);
    let lines = text.lines().filter_map(|line| line.split_once('='));
    let mut named = lines.filter(|(left, _)| left.trim().eq_ignore_ascii_case(name));
    named.next_back().map(|(_, value)| value.trim().to_owned())
}

/// Does a `vacation.snt` hold this sender? One address a line; brackets, blanks and NUL do not matter, nor does case.
pub fn was_answered(sent: &[u8], sender: &str) -> bool {
    let lines =
        text::lines(sent).map(|(line, _)| String::from_utf8_lossy(&text::without_nul(line)).into_owned());
    let address = |line: &str| line.trim().trim_matches(['<', '>']).trim().eq_ignore_ascii_case(sender);
    lines.into_iter().any(|line| address(&line))
}

/// The answer as it goes into the spool. `from` answers, `to` gets it, `number` makes its Message-Id unique, `message` begins with the header of what is
/// answered.
pub fn compose(
    from: &str,
    to: &str,
    answer: &Text,
    message: &[u8],
    now: DateTime<Local>,
    number: u64,
) -> Vec<u8> {
    let host = from.rsplit_once('@').map_or("localhost", |(_, host)| host);
    let theirs =
        value(message, b"message-id").map(unfold).filter(|id| id.is_ascii() && id.len() < LINE_MAX / 2);
    let reference = theirs.map_or_else(String::new, |id| {
        let id: String = String::from_utf8_lossy(&id).chars().filter(|c| !c.is_control()).collect();
        format!("In-Reply-To: {id}\r\nReferences: {id}\r\n")
    });
    let subject = answer.subject.clone().unwrap_or_else(|| reply_subject(message));
    let encode::Body { charset, encoding, bytes } = encode::body(&answer.body, UTF8);
    let stamp = now.format("%Y%m%d%H%M%S");
    let date = now.format("%a, %d %b %Y %H:%M:%S %z");
    let mut mail = format!(
        "Date: {date}\r\nMessage-Id: <{stamp}.{number:016x}@{host}>\r\nMime-Version: 1.0\r\n\
         Content-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\
         From: <{from}>\r\nTo: <{to}>\r\nSubject: {}\r\n{reference}Auto-Submitted: auto-replied\r\n\r\n",
        header_text(&subject, UTF8, "Subject: ".len())
    )
    .into_bytes();
    mail.extend(bytes);
    mail
}

/// `Re:` and the subject of the message, as text.
fn reply_subject(message: &[u8]) -> String {
    let theirs = value(message, b"subject").map(|subject| crate::message::charset::decode_header(subject));
    let theirs = theirs.unwrap_or_default();
    let bare = match theirs.get(..3) {
        Some(begin) if begin.eq_ignore_ascii_case("re:") => theirs.get(3..).unwrap_or(""),
        _ => &theirs,
    };
    format!("Re: {}", bare.trim().chars().take(SUBJECT_MAX * 2).collect::<String>())
}

/// The files that decide about answers of one mailbox, if they exist.
struct Files {
    vacation: Option<TreePath>,
    information: Option<TreePath>,
    options: Option<TreePath>,
}

impl Files {
    fn of(root: &Root, target: &MailboxTarget) -> Files {
        let file = |name: &str| root.file_in(target.dir.path(), name);
        let vacation = target.mailbox.is_inbox().then(|| file("vacation.ima")).flatten();
        let information = file(&format!("{}.inf", target.mailbox.file_stem()));
        let options = information.as_ref().and_then(|_| Files::options(root, target));
        Files { vacation, information, options }
    }

    fn options(root: &Root, target: &MailboxTarget) -> Option<TreePath> {
        root.file_in(target.dir.path(), &format!("{}.inf.opt", target.mailbox.file_stem()))
    }
}

/// Where the Information Manager of a mailbox sends its mail; nowhere if this is empty.
pub(super) fn forwards_of(config: &Config, target: &MailboxTarget) -> io::Result<Vec<String>> {
    let root = config.root();
    match Files::options(root, target) {
        Some(path) => Ok(forwards(&root.disk().read(&path, SETTINGS_FILE_MAX)?)),
        None => Ok(Vec::new()),
    }
}

/// A message that may be answered.
#[derive(Clone, Copy)]
pub(super) struct Received<'a> {
    /// The mailbox that it is in, or was sent on from.
    pub(super) target: &'a MailboxTarget,
    pub(super) sender: &'a str,
    /// The address that it was sent to.
    pub(super) recipient: &'a str,
    pub(super) source: &'a Source,
}

impl Inner {
    /// Does this mailbox have settings for answers?
    pub(super) fn answers_mail(&self, config: &Config, target: &MailboxTarget) -> bool {
        let files = Files::of(config.root(), target);
        files.vacation.is_some() || files.information.is_some()
    }

    /// Answers a message that a mailbox's Information Manager sent on. A vacation message is for what is in the mailbox.
    pub(super) fn answer_sent_on(&self, config: &Config, received: Received<'_>) {
        let files = Files { vacation: None, ..Files::of(config.root(), received.target) };
        self.answer_with(config, received, files);
    }

    /// Answers a message that was stored in a mailbox, if the user wants that.
    pub(super) fn answer(&self, config: &Config, received: Received<'_>) {
        self.answer_with(config, received, Files::of(config.root(), received.target));
    }

    fn answer_with(&self, config: &Config, received: Received<'_>, files: Files) {
        let Received { target, sender, .. } = received;
        if let Err(error) = self.try_answer(config, received, files) {
            tracing::warn!(%error, ?target, "an automatic answer could not be sent");
            self.log
                .note(&format!("an automatic answer of {target:?} to <{sender}> could not be sent: {error}"));
        }
    }

    fn try_answer(&self, config: &Config, received: Received<'_>, files: Files) -> io::Result<()> {
        let Received { target, sender, recipient, source } = received;
        let root = config.root();
        let begin = source.head()?;
        let head = begin.get(..header::end(&begin).unwrap_or(begin.len())).unwrap_or_default();
        if !wants_answer(head, sender, recipient) {
            return Ok(());
        }
        let code_page = config.registry.global.code_page;
        if let Some(path) = files.vacation
            && let Some(text) = vacation(&root.disk().read(&path, SETTINGS_FILE_MAX)?, code_page)
            && self.is_new_sender(root, target, sender)?
        {
            self.send_answer(config, target, sender, &text, head)?;
        }
        let Some(path) = files.information else { return Ok(()) };
        let options = files.options.map(|path| root.disk().read(&path, SETTINGS_FILE_MAX)).transpose()?;
        if !is_enabled(&options.unwrap_or_default()) {
            return Ok(());
        }
        match information(&root.disk().read(&path, SETTINGS_FILE_MAX)?, code_page) {
            Err(NotPlainText) => {
                self.log.note(&format!(
                    "{}: not plain text, so there is no automatic answer",
                    path.full().display()
                ));
            }
            Ok(Some(text))
                if self.answers.count(&super::key(target), sender, PER_DAY, Local::now().date_naive()) =>
            {
                self.send_answer(config, target, sender, &text, head)?;
            }
            Ok(_) => {}
        }
        Ok(())
    }

    /// Was this sender never answered before? Then it is written down that now it is.
    fn is_new_sender(&self, root: &Root, target: &MailboxTarget, sender: &str) -> io::Result<bool> {
        let _alone = self.answers.lock();
        let handle = root.disk().open(&target.dir.file("vacation.snt"), Open::Create)?;
        let sent = layout::disk::read_whole(&*handle, SETTINGS_FILE_MAX)?;
        if was_answered(&sent, sender) || sender.chars().any(char::is_control) {
            return Ok(false);
        }
        let gap = if sent.is_empty() || sent.ends_with(b"\n") { "" } else { "\r\n" };
        handle.append(format!("{gap}{sender}\r\n").as_bytes())?;
        handle.sync()?;
        Ok(true)
    }

    fn send_answer(
        &self,
        config: &Config,
        target: &MailboxTarget,
        sender: &str,
        text: &Text,
        head: &[u8],
    ) -> io::Result<()> {
        let user =
            config.registry.domain_by_name(&target.domain).and_then(|domain| domain.user(&target.user));
        let own = user.map(|user| user.mail_addr.as_str()).filter(|address| address.contains('@'));
        let from = own.map_or_else(|| mailbox_address(config, target), str::to_owned);
        let id = self.ids.own()?;
        let mail = compose(&from, sender, text, head, Local::now(), id.0);
        let prepared = self.prepare_own(config, id, Kind::Mail, &target.domain, sender, mail)?;
        let text = format!("automatic answer of {from} to <{sender}>");
        self.log(config, Tag::Smtp, id, None, &Event::Note(&text));
        self.commit(prepared)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Server;
    use super::*;
    use chrono::TimeZone as _;
    use proptest::prelude::*;

    #[test]
    fn who_gets_an_answer() {
        for (sender, header, expected) in [
            ("x@example.net", "To: Ann <ann@example.jp>\r\n", true),
            ("x@example.net", "To: b@c, \r\n ANN@Example.JP\r\n", true),
            ("x@example.net", "To: b@c\r\nCc: ann@example.jp\r\nAuto-Submitted: no\r\n", true),
            ("x@example.net", "To: b@c\r\n", false),
            ("x@example.net", "Bcc: ann@example.jp\r\n", false),
            ("", "To: ann@example.jp\r\n", false),
            ("ann@example.jp", "To: ann@example.jp\r\n", false),
            ("MAILER-DAEMON@example.net", "To: ann@example.jp\r\n", false),
            ("news-request@example.net", "To: ann@example.jp\r\n", false),
            ("owner-news@example.net", "To: ann@example.jp\r\n", false),
            ("imailsrv@example.net", "To: ann@example.jp\r\n", false),
            ("x\r\ny@example.net", "To: ann@example.jp\r\n", false),
            ("x@example.net", "To: ann@example.jp\r\nPrecedence: Bulk\r\n", false),
            ("x@example.net", "To: ann@example.jp\r\nprecedence:  list\r\n", false),
            ("x@example.net", "To: ann@example.jp\r\nList-Id: <n.example.net>\r\n", false),
            ("x@example.net", "To: ann@example.jp\r\nAuto-Submitted: auto-replied\r\n", false),
            ("x@example.net", "To: ann@example.jp\r\nContent-Type: multipart/report; x=y\r\n", false),
            ("x@example.net", "", false),
        ] {
            assert_eq!(
                wants_answer(header.as_bytes(), sender, "ann@example.jp"),
                expected,
                "{sender} {header}"
            );
        }
    }

    #[test]
    fn what_the_files_say() {
        let japanese = CodePage::Japanese;
        let text =
            |subject: &str, body: &str| Some(Text { subject: Some(subject.into()), body: body.into() });
        assert_eq!(vacation(b"  \r\n\0", japanese), None);
        assert_eq!(vacation(b"\x8b\x78\r\n", japanese).unwrap().body, "\u{4f11}\r\n");
        assert_eq!(information(b"Away\r\nBack\r\nsoon\x1a", japanese), Ok(text("Away", "Back\r\nsoon")));
        assert_eq!(information(b"Away", japanese), Ok(text("Away", "")));
        assert_eq!(information(&[b'x'; 90], japanese), Ok(text(&"x".repeat(80), "")));
        assert_eq!(information(b"\r\n", japanese), Ok(None));
        for bad in [&b"\0\x01\x02"[..], b"a\x1b[0m", b"\xff\xff\xfe"] {
            assert_eq!(information(bad, japanese), Err(NotPlainText), "{bad:?}");
        }
        for (options, on) in [
            ("", true),
            ("Enabled=1\r\n", true),
            ("enabled = 0\r\nForward=\r\n", false),
            ("Enabled=0\nEnabled=1", true),
        ] {
            assert_eq!(is_enabled(options.as_bytes()), on, "{options}");
        }
        for (options, expected) in [
            ("Forward=\r\n", &[][..]),
            ("Enabled=1\r\nforward = a@b, bob ;NUL", &["a@b", "bob", "NUL"]),
            ("Enabled=0\r\nForward=a@b", &[]),
        ] {
            assert_eq!(forwards(options.as_bytes()), expected, "{options}");
        }
        for sender in ["a@b", "c@d", "e@f"] {
            assert!(was_answered(b"A@b\r\n <c@D> \0\r\ne@f", sender), "{sender}");
        }
        assert!(!was_answered(b"aa@b\r\na@bb", "a@b") && !was_answered(b"", "a@b"));
    }

    #[test]
    fn the_answer() {
        let now = Local.with_ymd_and_hms(2024, 5, 9, 6, 28, 55).unwrap();
        let zone = now.format("%z");
        let message = b"Subject: RE: Hello\r\n there\r\nMessage-ID: <1@x>\r\n\r\n";
        let answer = Text { subject: None, body: "I am\naway".into() };
        let written =
            String::from_utf8(compose("ann@example.jp", "x@y", &answer, message, now, 0xab)).unwrap();
        assert_eq!(
            written,
            format!(
                "Date: Thu, 09 May 2024 06:28:55 {zone}\r\nMessage-Id: <20240509062855.00000000000000ab@example.jp>\r\n\
                 Mime-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n\
                 From: <ann@example.jp>\r\nTo: <x@y>\r\nSubject: Re: Hello there\r\nIn-Reply-To: <1@x>\r\nReferences: <1@x>\r\n\
                 Auto-Submitted: auto-replied\r\n\r\nI am\r\naway\r\n"
            )
        );
        let japanese = "\u{4f11}\u{6687}\u{4e2d}".repeat(20);
        let answer = Text { subject: Some(japanese.clone()), body: japanese.clone() };
        let written = compose("ann@example.jp", "x@y", &answer, b"", now, 1);
        let parsed = mail_parser::MessageParser::default().parse(&written).unwrap();
        assert_eq!(parsed.subject().unwrap(), japanese);
        assert_eq!(parsed.body_text(0).unwrap().trim_end(), japanese);
        assert!(written.is_ascii() && written.split(|byte| *byte == b'\n').all(|line| line.len() <= 78));
    }

    #[test]
    fn ten_answers_a_day() {
        let (memory, day) = (Memory::default(), NaiveDate::from_ymd_opt(2024, 5, 9).unwrap());
        for number in 1..=12 {
            let sender = if number % 2 == 0 { "A@b" } else { "a@B" };
            assert_eq!(memory.count("ann", sender, PER_DAY, day), number <= 10);
        }
        assert!(memory.count("ann", "c@d", PER_DAY, day) && memory.count("bob", "a@b", PER_DAY, day));
        assert!(memory.count("ann", "a@b", PER_DAY, day.succ_opt().unwrap()));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn answers_go_out_after_the_mail_is_stored() {
        let server = Server::start();
        let ann = "large@mail.example.jp";
        for (file, content) in [("vacation.ima", "I am away.\r\n"), ("main.inf", "Got it\r\nThank you.\r\n")]
        {
            server.write_for(ann, file, content);
        }
        let header = format!("Subject: x\r\nTo: {ann}\r\n");
        for _ in 0..2 {
            assert_eq!(server.send_with("a@example.net", false, &[ann], &header, 10).await, "taken");
        }
        assert_eq!(server.send_with("a@example.net", false, &[ann], "Subject: y\r\n", 10).await, "taken");
        assert_eq!(server.send_with("", false, &[ann], &header, 10).await, "taken");
        let mut subjects = server.spool("Subject:");
        subjects.sort();
        let got = "<> SMD a@example.net: Subject: Got it";
        assert_eq!(subjects, [got, got, "<> SMD a@example.net: Subject: Re: x"]);
        assert_eq!(server.read_for(ann, "vacation.snt"), "a@example.net\r\n");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_information_manager_sends_mail_on() {
        let server = Server::start();
        let ann = "large@mail.example.jp";
        server.write_for(ann, "vacation.ima", "I am away.\r\n");
        server.write_for(ann, "main.inf", "Got it\r\nThank you.\r\n");
        let header = format!("Subject: x\r\nTo: {ann}\r\n");
        let got = "<> SMD a@example.net: Subject: Got it";
        for (options, expected) in [
            ("Forward=NUL", vec![got]),
            (
                "Forward=boss@example.net, root",
                vec!["<a@example.net> FWD boss@example.net root@mail.example.jp: Subject: x", got, got],
            ),
        ] {
            server.write_for(ann, "main.inf.opt", options);
            assert_eq!(server.send_with("a@example.net", false, &[ann], &header, 10).await, "taken");
            let mut spool = server.spool("Subject:");
            spool.sort();
            let mut expected = expected;
            expected.sort_unstable();
            assert_eq!(spool, expected, "{options}");
        }
        let config = server.live.now();
        let target = crate::transport::route::route(&config, ann, false).unwrap().mailboxes.remove(0);
        assert!(server.root.disk().stat(&target.dir.mailbox(&target.mailbox)).is_err());
        server.write_for(ann, "main.inf.opt", "Enabled=0\r\nForward=NUL");
        assert_eq!(server.send_with("a@example.net", false, &[ann], &header, 10).await, "taken");
        assert!(server.read_for(ann, "main.mbx").contains("Subject: x"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn anything_makes_a_message(subject in ".{0,100}", body in ".{0,300}", header in prop::collection::vec(any::<u8>(), 0..100)) {
            let now = Local.with_ymd_and_hms(2024, 5, 9, 6, 28, 55).unwrap();
            for subject in [None, Some(subject)] {
                let written = compose("a@b", "c@d", &Text { subject, body: body.clone() }, &header, now, 1);
                let text = String::from_utf8(written).unwrap();
                prop_assert!(text.is_ascii() && text.split('\n').all(|line| line.len() < 998));
                let header_lines = text.split_once("\r\n\r\n").unwrap().0.lines();
                let known = ["Date:", "Message-Id:", "Mime-Version:", "Content-", "From:", "To:", "Subject:", "In-Reply-To:", "References:", "Auto-Submitted:", " "];
                prop_assert!(header_lines.clone().all(|line| known.iter().any(|name| line.starts_with(name))), "{text}");
            }
        }
    }
}
