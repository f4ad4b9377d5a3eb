//! A mailbox on the simulated disk: the machine stops at every single write, and whatever the disk then holds, nothing that was
//! acknowledged is missing, nothing torn is served, and the next operation works.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use layout::disk::Disk as _;
use layout::disk::sim::{Crash, Failure, SimDisk};
use layout::index::journal::Token;
use layout::lock::PATIENCE;
use layout::mailbox::{
    AppendJob, Appended, FlagChange, LETTERS_AT_ONCE, Mailbox, MailboxError, When, append_all, read_content,
};
use layout::mbx::compose::{NewMessage, Source, Way};
use layout::mbx::record::flag;
use layout::mbx::view::{Reader, serve};
use layout::name::{MailboxName, SpoolId, UserId};
use layout::path::TreePath;
use layout::root::Root;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const OLD: &[u8] = b"From <old@example.com> Thu Apr 29 23:45:10 2008\r\nSubject: old1\r\nX-RCPT-TO: <u@example.jp>\r\nX-UIDL: 300000001\r\nStatus: U\r\n\r\nold text one\r\n\r\nFrom <old@example.com> Thu Apr 29 23:45:11 2008\r\nSubject: old2\r\nX-UIDL: 300000005\r\nStatus: R\r\n\r\nold text two\r\n";
const UNNUMBERED: &[u8] = b"From a@example.com Thu Apr 29 23:45:10 2008\nSubject: old1\n\nold text one\n\nFrom a@example.com Thu Apr 29 23:45:11 2008\nSubject: old2\nStatus: RO\n\nold text two\n\n";

struct Bench {
    disk: SimDisk,
    root: Root,
    file: TreePath,
    lock: TreePath,
}

impl Bench {
    fn on(disk: SimDisk) -> Bench {
        let root = Root::new(Arc::new(disk.clone()), Path::new("/mail"));
        let user = root.domain(root.top().clone()).user(&UserId::parse("u").unwrap());
        Bench { disk, file: user.mailbox(&MailboxName::inbox()), lock: user.file("user.lck"), root }
    }

    fn mailbox(&self) -> Mailbox {
        Mailbox::new(self.root.shared_disk(), self.file.clone(), self.lock.clone())
    }
}

fn message(name: &str) -> NewMessage {
    let body =
        format!("Subject: {name}\r\n\r\ntext of {name}\r\nFrom <x@y> a line that looks like a border\r\n");
    NewMessage {
        source: Source::Bytes(body.into_bytes().into()),
        sender: "s@example.com".into(),
        date: 1_700_000_000,
        way: Way::Delivery { recipient: "u@example.jp".into(), id: SpoolId(7), rule: None },
        flags: 0,
        keywords: Vec::new(),
    }
}

/// What the outside world was told.
#[derive(Default)]
struct Told {
    /// Name to UID.
    stored: BTreeMap<String, u32>,
    /// Asked to be removed; acknowledged or not.
    removing: Vec<String>,
    removed: Vec<String>,
    seen: Vec<String>,
    uidvalidity: Option<u32>,
    attempted: Vec<String>,
}

fn append(bench: &Bench, mailbox: &mut Mailbox, told: &mut Told, names: &[&str]) -> Result<(), MailboxError> {
    told.attempted.extend(names.iter().map(|name| (*name).to_owned()));
    let messages = names.iter().map(|name| {
        (message(name), Some(Token(name.len() as u64 * 1000 + u64::from(name.as_bytes()[1]), 1)))
    });
    let mut jobs = [AppendJob { mailbox, messages: messages.collect(), size_max: None }];
    let outcome = append_all(&bench.disk, &mut jobs, PATIENCE).remove(0)?;
    for (name, outcome) in names.iter().zip(outcome) {
        match outcome {
            Appended::Stored(uid) => drop(told.stored.insert((*name).to_owned(), uid)),
            Appended::Before => panic!("{name} was never stored"),
        }
    }
    Ok(())
}

/// Subject to (UID, seen) of all messages, each checked to be whole.
fn contents(mailbox: &mut Mailbox, what: &str) -> BTreeMap<String, (u32, bool)> {
    let mut found = BTreeMap::new();
    let mut last = 0;
    for uid in mailbox.uids().iter() {
        assert!(*uid > last, "UIDs ascend");
        last = *uid;
        let record = *mailbox.message(*uid).unwrap();
        let reader = mailbox.reader().unwrap();
        let served = serve(&record, read_content(&*reader, &record).unwrap(), Reader::Imap);
        assert_eq!(served.len() as u64, record.imap_size());
        let text = String::from_utf8(served).unwrap();
        let name = text.split("Subject: ").nth(1).unwrap().lines().next().unwrap().to_owned();
        if name.starts_with('m') {
            let body = format!("\r\n\r\ntext of {name}\r\nFrom <x@y> a line that looks like a border\r\n");
            assert!(text.ends_with(&body), "{what}: torn: {text:?}");
        } else {
            assert!(text.contains("old text"), "{what}: torn: {text:?}");
        }
        assert!(found.insert(name, (*uid, record.has(flag::SEEN))).is_none(), "twice");
    }
    assert!(mailbox.uid_next() > last);
    found
}

fn script(bench: &Bench, told: &mut Told) -> Result<(), MailboxError> {
    let mut mailbox = bench.mailbox();
    mailbox.refresh(PATIENCE)?;
    append(bench, &mut mailbox, told, &["m1"])?;
    told.uidvalidity = Some(mailbox.uidvalidity());
    append(bench, &mut mailbox, told, &["m2", "m3"])?;
    // Another session of another process.
    let mut second = bench.mailbox();
    second.refresh(PATIENCE)?;
    mark_seen(&mut second, told, "m2")?;
    mailbox.refresh(PATIENCE)?;
    remove(&mut mailbox, told, "m1")?;
    append(bench, &mut second, told, &["m4"])?;
    remove(&mut second, told, "m4")?;
    append(bench, &mut mailbox, told, &["m5"])
}

fn mark_seen(mailbox: &mut Mailbox, told: &mut Told, name: &str) -> Result<(), MailboxError> {
    let uid = told.stored[name];
    let change = FlagChange { set: flag::SEEN, ..FlagChange::default() };
    mailbox.change_flags(&[(uid, uid)], &change, PATIENCE)?;
    mailbox.flush(PATIENCE)?;
    told.seen.push(name.into());
    Ok(())
}

fn remove(mailbox: &mut Mailbox, told: &mut Told, name: &str) -> Result<(), MailboxError> {
    told.removing.push(name.into());
    let uid = told.stored[name];
    mailbox.expunge(&[(uid, uid)], PATIENCE)?;
    told.removed.push(name.into());
    Ok(())
}

/// Removed bytes leave the file by a copy while another process goes on.
fn script_of_a_copy(bench: &Bench, told: &mut Told) -> Result<(), MailboxError> {
    let mut mailbox = bench.mailbox();
    mailbox.refresh(PATIENCE)?;
    append(bench, &mut mailbox, told, &["m1", "m2", "m3"])?;
    told.uidvalidity = Some(mailbox.uidvalidity());
    // While somebody else writes the new file, what is removed stays in the old one.
    let busy = bench.disk.open(&bench.file.with_extension("$$$"), layout::disk::Open::CreateNew)?;
    assert!(busy.try_lock()?);
    remove(&mut mailbox, told, "m1")?;
    drop(busy);
    let mut second = bench.mailbox();
    second.refresh(PATIENCE)?;
    let rewrite = mailbox.begin_rewrite(When::Any, PATIENCE)?.expect("m1 is in the file");
    mark_seen(&mut second, told, "m2")?;
    append(bench, &mut second, told, &["m4"])?;
    rewrite.copy()?;
    mark_seen(&mut second, told, "m4")?;
    remove(&mut second, told, "m3")?;
    assert!(mailbox.finish_rewrite(rewrite, PATIENCE)?);
    assert!(!holds(bench, "text of m1") && holds(bench, "text of m3") && holds(bench, "text of m4"));
    append(bench, &mut second, told, &["m5"])
}

fn holds(bench: &Bench, text: &str) -> bool {
    let content = bench.disk.content(&bench.file).unwrap_or_default();
    String::from_utf8_lossy(&content).contains(text)
}

fn check(bench: &Bench, told: &Told, what: &str) {
    let mut mailbox = bench.mailbox();
    mailbox.refresh(PATIENCE).unwrap_or_else(|e| panic!("{what}: {e}"));
    let found = contents(&mut mailbox, what);
    for (name, uid) in &told.stored {
        match found.get(name) {
            Some((now, _)) => assert_eq!(now, uid, "{what}: UID of {name}"),
            None => assert!(told.removing.contains(name), "{what}: {name} is lost"),
        }
    }
    for name in &told.removed {
        assert!(!found.contains_key(name), "{what}: {name} came back");
    }
    for name in &told.seen {
        assert!(found.get(name).is_none_or(|(_, seen)| *seen), "{what}: {name} is unread again");
    }
    for name in found.keys().filter(|name| name.starts_with('m')) {
        assert!(told.attempted.contains(name), "{what}: {name} from nowhere");
    }
    if let Some(uidvalidity) = told.uidvalidity {
        assert_eq!(mailbox.uidvalidity(), uidvalidity, "{what}");
    }
    // The next operation works, and its UID is above all that were given.
    let mut later = Told::default();
    append(bench, &mut mailbox, &mut later, &["m9"]).unwrap_or_else(|e| panic!("{what}: {e}"));
    let highest = told.stored.values().copied().max().unwrap_or(0);
    assert!(later.stored["m9"] > highest, "{what}");
    // And a new process sees the same.
    let mut again = bench.mailbox();
    again.refresh(PATIENCE).unwrap();
    let mut expected = found;
    expected.insert("m9".into(), (later.stored["m9"], false));
    assert_eq!(contents(&mut again, ""), expected, "{what}");
}

fn prepared(old: Option<&[u8]>) -> SimDisk {
    let disk = SimDisk::new();
    let bench = Bench::on(disk.clone());
    disk.seed(&bench.root.registry_ini(), b"");
    if let Some(old) = old {
        disk.seed(&bench.file, old);
    }
    disk
}

type Script = fn(&Bench, &mut Told) -> Result<(), MailboxError>;

fn crash_everywhere(old: Option<&[u8]>) {
    crash_in(script, old);
}

fn crash_in(script: Script, old: Option<&[u8]>) {
    for failure in [Failure::Crash, Failure::TornCrash] {
        for n in 1.. {
            let disk = prepared(old);
            let bench = Bench::on(disk.clone());
            let mut told = Told::default();
            disk.fail_at(n, failure);
            let done = script(&bench, &mut told).is_ok();
            if done {
                assert!(n > 40, "the script has more writes than {n}");
                break;
            }
            assert!(disk.crashed(), "operation {n}: {failure:?}");
            let mut crashes = vec![Crash::Kill, Crash::PowerStrict];
            crashes.extend((0..8).map(|seed| Crash::PowerMixed(n * 100 + seed)));
            for crash in crashes {
                check(&Bench::on(disk.after(crash)), &told, &format!("{failure:?} at {n}, {crash:?}"));
            }
        }
    }
}

#[test]
fn a_new_mailbox() {
    crash_everywhere(None);
}

#[test]
fn a_mailbox_that_imail_wrote() {
    crash_everywhere(Some(OLD));
}

#[test]
fn a_copy_beside_the_mailbox() {
    crash_in(script_of_a_copy, Some(OLD));
}

#[test]
fn a_classic_mailbox_without_numbers() {
    crash_everywhere(Some(UNNUMBERED));
}

#[test]
fn a_full_disk_or_a_failing_one_loses_nothing_that_was_acknowledged() {
    fail_in(script);
    fail_in(script_of_a_copy);
}

#[test]
fn a_copy_is_given_up_when_another_program_rewrites_the_mailbox() {
    let disk = prepared(None);
    let bench = Bench::on(disk.clone());
    let (mut mailbox, mut told) = (bench.mailbox(), Told::default());
    append(&bench, &mut mailbox, &mut told, &["m1", "m2"]).unwrap();
    let busy = disk.open(&bench.file.with_extension("$$$"), layout::disk::Open::CreateNew).unwrap();
    assert!(busy.try_lock().unwrap());
    remove(&mut mailbox, &mut told, "m1").unwrap();
    drop(busy);
    let rewrite = mailbox.begin_rewrite(When::Any, PATIENCE).unwrap().unwrap();
    rewrite.copy().unwrap();
    let mut content = disk.content(&bench.file).unwrap();
    content.extend_from_slice(OLD);
    let name = content.windows(11).position(|part| part == b"Subject: m2").unwrap();
    content[name + 10] = b'7';
    disk.seed(&bench.file, &content);
    assert!(!mailbox.finish_rewrite(rewrite, PATIENCE).unwrap());
    assert!(disk.stat(&bench.file.with_extension("$$$")).is_err());
    assert!(holds(&bench, "Subject: m7"));
}

fn fail_in(script: Script) {
    for failure in [Failure::Full, Failure::Error] {
        for n in 1..200 {
            let disk = prepared(Some(OLD));
            let bench = Bench::on(disk.clone());
            let mut told = Told::default();
            disk.fail_at(n, failure);
            let _ = script(&bench, &mut told);
            disk.heal();
            for crash in [Crash::Kill, Crash::PowerStrict] {
                check(&Bench::on(disk.after(crash)), &told, &format!("{failure:?} at {n}, {crash:?} later"));
            }
            check(&bench, &told, &format!("{failure:?} at {n}, going on"));
        }
    }
}

#[test]
fn a_repeated_delivery_is_stored_once() {
    let disk = prepared(Some(OLD));
    let bench = Bench::on(disk.clone());
    let mut told = Told::default();
    append(&bench, &mut bench.mailbox(), &mut told, &["m1"]).unwrap();
    let bench = Bench::on(disk.after(Crash::Kill));
    let mut mailbox = bench.mailbox();
    let token = Token(2000 + u64::from(b'1'), 1);
    let mut jobs =
        [AppendJob { mailbox: &mut mailbox, messages: vec![(message("m1"), Some(token))], size_max: None }];
    let outcome = append_all(&bench.disk, &mut jobs, PATIENCE).remove(0).unwrap();
    assert_eq!(outcome, [Appended::Before]);
    assert_eq!(contents(&mut mailbox, "").len(), 3);
}

#[test]
fn marking_read_changes_one_byte_and_removing_keeps_all_others() {
    let disk = prepared(Some(OLD));
    let bench = Bench::on(disk.clone());
    let mut mailbox = bench.mailbox();
    mailbox.refresh(PATIENCE).unwrap();
    assert_eq!(**mailbox.uids(), [300_000_001, 300_000_005]);
    let uid = 300_000_001;
    mailbox
        .change_flags(&[(uid, uid)], &FlagChange { set: flag::SEEN, ..FlagChange::default() }, PATIENCE)
        .unwrap();
    mailbox.flush(PATIENCE).unwrap();
    let now = disk.content(&bench.file).unwrap();
    let changed: Vec<usize> = (0..OLD.len()).filter(|i| OLD[*i] != now[*i]).collect();
    assert_eq!((now.len(), changed.len()), (OLD.len(), 1));
    assert_eq!((OLD[changed[0]], now[changed[0]]), (b'U', b'R'));
    mailbox.expunge(&[(uid, uid)], PATIENCE).unwrap();
    let second = OLD.windows(6).rposition(|w| w == b"From <").unwrap();
    assert_eq!(disk.content(&bench.file).unwrap(), &OLD[second..]);
    // The number goes on above the highest that was ever given, though its message is the last one left.
    let mut told = Told::default();
    append(&bench, &mut mailbox, &mut told, &["m1"]).unwrap();
    assert_eq!(told.stored["m1"], 300_000_006);
}

#[test]
fn letters_of_many_are_written_a_portion_at_a_time_and_survive_a_crash_in_between() {
    let count = 2 * LETTERS_AT_ONCE + 5;
    let old: Vec<u8> = (1..=count)
        .flat_map(|n| {
            format!("From <> x\r\nSubject: old{n}\r\nX-UIDL: {n}\r\nStatus: U\r\n\r\n").into_bytes()
        })
        .collect();
    let disk = prepared(Some(&old));
    let bench = Bench::on(disk.clone());
    let mut mailbox = bench.mailbox();
    mailbox.refresh(PATIENCE).unwrap();
    let change = FlagChange { set: flag::SEEN, ..FlagChange::default() };
    mailbox.change_flags(&[(1, count as u32)], &change, PATIENCE).unwrap();
    let read = |disk: &SimDisk| {
        let content = disk.content(&bench.file).unwrap();
        String::from_utf8(content).unwrap().matches("Status: R").count()
    };
    let flushes = mailbox.flushes();
    mailbox.flush(PATIENCE).unwrap();
    assert!(mailbox.has_letters());
    assert_eq!(read(&disk), LETTERS_AT_ONCE);
    // What was marked lately comes first or last, but comes.
    let (first, back) = (1, FlagChange { clear: flag::SEEN, ..FlagChange::default() });
    mailbox.change_flags(&[(first, first)], &back, PATIENCE).unwrap();
    // The machine stops; the next process goes on where this one was.
    drop(mailbox);
    let mut mailbox = bench.mailbox();
    mailbox.refresh(PATIENCE).unwrap();
    for _ in 0..flushes {
        mailbox.flush(PATIENCE).unwrap();
    }
    assert!(!mailbox.has_letters());
    assert_eq!(read(&disk), count - 1);
    assert_eq!(mailbox.messages().filter(|record| record.has(flag::SEEN)).count(), count - 1);
    mailbox.flush(PATIENCE).unwrap();
    assert!(!mailbox.needs_flush());
}

/// Flags of so many messages go into a snapshot at the next flush; a crash at any of its steps loses none that was flushed before.
#[test]
fn marks_of_many_are_in_the_snapshot_after_a_flush() {
    let count = LETTERS_AT_ONCE as u32 + 1;
    let old: Vec<u8> = (1..=count)
        .flat_map(|n| format!("From <> x\r\nSubject: old{n}\r\nX-UIDL: {n}\r\n\r\n").into_bytes())
        .collect();
    let disk = prepared(Some(&old));
    let bench = Bench::on(disk.clone());
    let mut mailbox = bench.mailbox();
    mailbox.refresh(PATIENCE).unwrap();
    let journal = bench.file.with_extension("rsj");
    let length = |disk: &SimDisk| disk.content(&journal).unwrap_or_default().len();
    let mark = |mailbox: &mut Mailbox, set: u32, last: u32| {
        mailbox.change_flags(&[(1, last)], &FlagChange { set, ..FlagChange::default() }, PATIENCE).unwrap();
    };
    mark(&mut mailbox, flag::ANSWERED, 1);
    mailbox.flush(PATIENCE).unwrap();
    let short = length(&disk);
    assert!(short > 0, "one mark waits in the journal");
    mark(&mut mailbox, flag::FLAGGED, count);
    drop(mailbox);
    let flush = |disk: SimDisk| {
        let mut mailbox = Bench::on(disk).mailbox();
        mailbox.refresh(PATIENCE)?;
        mailbox.flush(PATIENCE)?;
        // Makes the names durable.
        mailbox.flush(PATIENCE)
    };
    let whole = disk.after(Crash::Kill);
    for n in 1.. {
        let disk = whole.after(Crash::Kill);
        disk.fail_at(n, Failure::Crash);
        let done = flush(disk.clone()).is_ok();
        for crash in [Crash::Kill, Crash::PowerStrict, Crash::PowerMixed(n), Crash::PowerMixed(n + 1000)] {
            let disk = disk.after(crash);
            let mut mailbox = Bench::on(disk.clone()).mailbox();
            mailbox.refresh(PATIENCE).unwrap();
            let marked = |mark: u32| mailbox.messages().filter(|record| record.has(mark)).count();
            assert_eq!(marked(flag::ANSWERED), 1, "operation {n}, {crash:?}");
            // The second mark may be lost while its flush has not ended.
            let flagged = marked(flag::FLAGGED);
            assert!(
                flagged == count as usize || flagged == 0 && !done,
                "operation {n}, {crash:?}: {flagged}"
            );
            assert!(
                !done || length(&disk) < short,
                "operation {n}, {crash:?}: the journal is as long as it was"
            );
        }
        if done {
            assert!(n > 5, "a flush has more operations than {n}");
            break;
        }
    }
}

#[test]
fn looking_changes_no_byte_of_a_mailbox() {
    let disk = prepared(Some(OLD));
    let bench = Bench::on(disk.clone());
    bench.disk.seed(&bench.file.with_extension("uid"), b"opaque");
    let mut mailbox = bench.mailbox();
    mailbox.refresh(PATIENCE).unwrap();
    contents(&mut mailbox, "");
    mailbox.flush(PATIENCE).unwrap();
    assert_eq!(disk.content(&bench.file).unwrap(), OLD);
    assert!(disk.stat(&bench.file.with_extension("uid")).is_ok());
    let mut told = Told::default();
    append(&bench, &mut mailbox, &mut told, &["m1"]).unwrap();
    assert!(disk.stat(&bench.file.with_extension("uid")).is_err());
    assert!(disk.content(&bench.file).unwrap().starts_with(OLD));
}

#[test]
fn what_other_programs_do_is_noticed() {
    let disk = prepared(Some(OLD));
    let bench = Bench::on(disk.clone());
    let mut mailbox = bench.mailbox();
    mailbox.refresh(PATIENCE).unwrap();
    let foreign =
        b"\r\nFrom <f@example.com> Fri Apr 30 01:00:00 2008\r\nSubject: old3\r\n\r\nold text three\r\n";
    // Appended (with the empty line that was missing), patched, rewritten shorter, gone.
    let mut content = OLD.to_vec();
    content.extend_from_slice(foreign);
    disk.open(&bench.file, layout::disk::Open::Change).unwrap().append(foreign).unwrap();
    mailbox.refresh(PATIENCE).unwrap();
    let found = contents(&mut mailbox, "");
    assert_eq!(found["old3"].0, 300_000_006);
    assert_eq!((found["old1"], found["old2"]), ((300_000_001, false), (300_000_005, true)));

    let letter = content.windows(9).position(|w| w == b"Status: U").unwrap() + 8;
    disk.open(&bench.file, layout::disk::Open::Change).unwrap().write_at(b"R", letter as u64).unwrap();
    mailbox.refresh(PATIENCE).unwrap();
    assert_eq!(contents(&mut mailbox, "")["old1"], (300_000_001, true));

    let second = content.windows(6).position(|w| w == b"\nFrom ").unwrap() + 1;
    disk.seed(&bench.file, &content[second..]);
    mailbox.refresh(PATIENCE).unwrap();
    let found = contents(&mut mailbox, "");
    assert_eq!(found.keys().collect::<Vec<_>>(), ["old2", "old3"]);
    assert_eq!((found["old2"].0, found["old3"].0), (300_000_005, 300_000_006));

    disk.unlink(&bench.file).unwrap();
    mailbox.refresh(PATIENCE).unwrap();
    assert!(mailbox.uids().is_empty());
    let mut told = Told::default();
    append(&bench, &mut mailbox, &mut told, &["m1"]).unwrap();
    assert!(told.stored["m1"] > 300_000_006);
}

#[test]
fn without_its_index_a_mailbox_keeps_its_uids() {
    for (old, keeps) in [(OLD, true), (UNNUMBERED, false)] {
        let disk = prepared(Some(old));
        let bench = Bench::on(disk.clone());
        let mut told = Told::default();
        append(&bench, &mut bench.mailbox(), &mut told, &["m1"]).unwrap();
        let mut mailbox = bench.mailbox();
        mailbox.refresh(PATIENCE).unwrap();
        let (before, validity, next) =
            (contents(&mut mailbox, ""), mailbox.uidvalidity(), mailbox.uid_next());
        for extension in ["rsx", "rsx.1", "rsj"] {
            let _ = disk.unlink(&bench.file.with_extension(extension));
        }
        let mut mailbox = bench.mailbox();
        mailbox.refresh(PATIENCE).unwrap();
        assert_eq!(mailbox.uidvalidity(), validity);
        assert!(mailbox.uid_next() >= next);
        let mut uids: Vec<u32> = before.values().map(|(uid, _)| *uid).collect();
        uids.sort_unstable();
        // An escaped line stays visible; nothing else differs.
        let after: Vec<u32> = mailbox.uids().to_vec();
        if keeps {
            assert_eq!(after, uids);
        } else {
            assert!(after.iter().all(|uid| *uid >= next), "{after:?} {next}");
        }
    }
}

/// A mailbox with an old message that is read, a new one, one that is removed and still in the file, and a flag that is not durable yet.
fn with_everything(bench: &Bench) -> (BTreeMap<String, (u32, bool)>, u32) {
    let (mut mailbox, mut told) = (bench.mailbox(), Told::default());
    append(bench, &mut mailbox, &mut told, &["m1", "m2", "m3"]).unwrap();
    let busy = bench.disk.open(&bench.file.with_extension("$$$"), layout::disk::Open::CreateNew).unwrap();
    assert!(busy.try_lock().unwrap());
    remove(&mut mailbox, &mut told, "m1").unwrap();
    drop(busy);
    mark_seen(&mut mailbox, &mut told, "m2").unwrap();
    bench.disk.unlink(&bench.file.with_extension("$$$")).unwrap();
    (contents(&mut mailbox, "before"), mailbox.uidvalidity())
}

/// One mailbox on a disk under another name.
fn named(bench: &Bench, name: &str) -> Bench {
    let user = bench.root.domain(bench.root.top().clone()).user(&UserId::parse("u").unwrap());
    let file = user.mailbox(&MailboxName::from_text(name).unwrap());
    Bench { disk: bench.disk.clone(), root: bench.root.clone(), file, lock: user.file("user.lck") }
}

#[test]
fn a_rename_is_done_or_not_and_can_be_done_again() {
    for n in 1.. {
        let disk = prepared(Some(OLD));
        let bench = Bench::on(disk.clone());
        let (expected, uidvalidity) = with_everything(&bench);
        let target = named(&bench, "Other").file;
        disk.fail_at(n, Failure::Crash);
        if bench.mailbox().rename(&target, PATIENCE).is_ok() {
            assert!(n > 10, "a rename has more steps than {n}");
            break;
        }
        let mut crashes = vec![Crash::Kill, Crash::PowerStrict];
        crashes.extend((0..8).map(|seed| Crash::PowerMixed(n * 100 + seed)));
        for crash in crashes {
            let what = format!("step {n}, {crash:?}");
            let both = || {
                let from = Bench::on(disk.after(crash));
                let to = named(&from, "Other");
                (from, to)
            };
            let has = |bench: &Bench| bench.disk.stat(&bench.file).is_ok();
            let is_whole = |bench: &Bench| {
                let mut mailbox = bench.mailbox();
                mailbox.refresh(PATIENCE).unwrap();
                assert_eq!(contents(&mut mailbox, &what), expected, "{what}");
                assert_eq!(mailbox.uidvalidity(), uidvalidity, "{what}");
            };
            let (from, to) = both();
            assert!(has(&from) != has(&to), "{what}: the mailbox has one name");
            is_whole(if has(&from) { &from } else { &to });

            // Done again it comes to its end.
            let (from, to) = both();
            if has(&from) {
                from.mailbox().rename(&to.file, PATIENCE).unwrap();
            }
            assert!(!has(&from), "{what}");
            is_whole(&to);

            // Mail may come in under both names before anybody goes on with it: neither mailbox disturbs the other.
            let (from, to) = both();
            let kept = has(&from);
            for (name, bench, is_it) in
                [("m8", &from, kept), ("m8", &to, !kept), ("m9", &from, kept), ("m9", &to, !kept)]
            {
                assert!(append(bench, &mut bench.mailbox(), &mut Told::default(), &[name]).is_ok(), "{what}");
                let mut mailbox = bench.mailbox();
                mailbox.refresh(PATIENCE).unwrap();
                let mut found = contents(&mut mailbox, &what);
                let later = found.len();
                found.retain(|name, _| name != "m8" && name != "m9");
                assert_eq!(later - found.len(), if name == "m8" { 1 } else { 2 }, "{what}");
                assert_eq!(found, if is_it { expected.clone() } else { BTreeMap::new() }, "{what}");
            }
        }
    }
}

#[test]
fn foreign_files_are_left_alone() {
    for content in [&b"*mbx*\r\nsomething"[..], b"JMF6\x01\x02", b"just text\r\n", &[0; 100]] {
        let disk = prepared(Some(content));
        let bench = Bench::on(disk.clone());
        let mut mailbox = bench.mailbox();
        assert!(matches!(mailbox.refresh(PATIENCE), Err(MailboxError::Foreign { .. })));
        let mut told = Told::default();
        assert!(append(&bench, &mut mailbox, &mut told, &["m1"]).is_err());
        assert_eq!(disk.content(&bench.file).unwrap(), content);
    }
}
