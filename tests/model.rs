//! Random IMAP clients against a model of their own: many sessions change two mailboxes in every way that IMAP has, while this
//! process, as another mail program, appends to the mailbox files and rewrites them. Every untagged answer is checked, and after every
//! command each session must know exactly what the model says that it was told.
//!
//! [`COMMANDS`] commands by default; `IMAILD_MODEL_COMMANDS` asks for another number, `IMAILD_MODEL_SEED` for another course.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use std::collections::{BTreeSet, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use support::imap::{Answer, Imap};
use support::server::Server;
use support::tree::Tree;

/// How many commands a run takes when nobody asks for another number.
const COMMANDS: usize = 20_000;
/// After how many commands a long run says how far it is.
const PROGRESS: usize = 50_000;
const USER: (&str, &str) = ("user789", "Passw0rd!");
const SESSIONS: usize = 8;
const BOXES: [&str; 2] = ["INBOX", "Work"];
/// Mailboxes that are larger are cleared rather than filled.
const MANY: usize = 30;
const FLAGS: [&str; 8] =
    ["\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft", "$Forwarded", "Later", "work"];

type Flags = BTreeSet<String>;

/// What a mailbox holds.
#[derive(Clone, Debug, PartialEq)]
struct Message {
    uid: u32,
    name: String,
    flags: Flags,
}

/// A message as a session knows it.
#[derive(Clone, Debug, Default)]
struct Known {
    uid: Option<u32>,
    flags: Option<Flags>,
}

/// One client.
struct Session {
    imap: Imap,
    mailbox: Option<usize>,
    known: Vec<Known>,
    searched: Vec<u32>,
    /// Commands since the last contradiction could have been hidden, for the report.
    last: Vec<String>,
}

/// A generator of random numbers (SplitMix64): the same seed gives the same run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// Some of the numbers below `limit`, ascending, at least one.
    fn some(&mut self, limit: usize) -> Vec<usize> {
        let first = self.below(limit);
        let share = 1 + self.below(6);
        (0..limit).filter(|n| *n == first || self.one_in(share)).collect()
    }

    fn flags(&mut self) -> Vec<&'static str> {
        let mut flags: Vec<&str> = self.some(FLAGS.len()).into_iter().map(|n| FLAGS[n]).collect();
        flags.truncate(1 + self.below(3));
        flags
    }
}

struct World {
    server: Server,
    tree: Tree,
    dice: Dice,
    boxes: [Vec<Message>; 2],
    /// The highest UID that was ever given.
    highest: [u32; 2],
    named: usize,
    commands: usize,
    sessions: Vec<Session>,
}

fn asked(name: &str, default: usize) -> usize {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn random_clients_agree_with_the_model() {
    let seed = asked("IMAILD_MODEL_SEED", 1);
    let wanted = asked("IMAILD_MODEL_COMMANDS", COMMANDS);
    let mut world = World::new(seed as u64);
    let mut told = 0;
    while world.commands < wanted {
        if world.commands - told >= PROGRESS {
            told = world.commands;
            eprintln!("{told} commands so far, seed {seed}");
        }
        match world.dice.below(40) {
            0 => world.foreign(),
            1 => world.all_at_once(),
            _ => world.command(),
        }
    }
    for mailbox in 0..BOXES.len() {
        world.look(mailbox);
    }
    eprintln!("{} commands, seed {seed}", world.commands);
}

impl World {
    fn new(seed: u64) -> World {
        let tree = Tree::quiet_in_memory();
        let server = Server::start(&tree);
        let sessions = (0..SESSIONS).map(|_| Session::new(server.imap(USER.0, USER.1))).collect();
        server.imap(USER.0, USER.1).ok("CREATE Work");
        World {
            server,
            tree,
            dice: Dice(seed),
            boxes: Default::default(),
            highest: [0; 2],
            named: 0,
            commands: 0,
            sessions,
        }
    }

    fn name(&mut self) -> String {
        self.named += 1;
        format!("message {}", self.named)
    }

    fn file(&self, mailbox: usize) -> PathBuf {
        let dir = self.tree.path(&format!("users/{}", USER.0));
        let wanted = ["main.mbx", "work.mbx"][mailbox];
        let found = std::fs::read_dir(&dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let is_it = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().eq_ignore_ascii_case(wanted))
        };
        found.into_iter().find(is_it).unwrap_or_else(|| dir.join(wanted))
    }

    /// Performs one command in one session and checks what came.
    fn perform(&mut self, at: usize, line: &str, expunges: bool) -> Answer {
        self.commands += 1;
        let session = &mut self.sessions[at];
        session.note(line);
        let answer = session.imap.command(line);
        session.take(&answer, expunges);
        answer
    }

    /// After a command: the session knows what it must know.
    fn check(&mut self, at: usize, expunges: bool) {
        let session = &mut self.sessions[at];
        let Some(mailbox) = session.mailbox else { return };
        let truth = &self.boxes[mailbox];
        session.compare(truth, expunges);
        if session.known.iter().any(|known| known.flags.is_none()) {
            let first = session.known.iter().position(|known| known.flags.is_none()).unwrap() + 1;
            let fetched = self.perform(at, &format!("FETCH {first}:* (UID FLAGS)"), false);
            assert!(fetched.is_ok() || fetched.status.contains("EXPUNGEISSUED"), "{}", fetched.status);
            let session = &mut self.sessions[at];
            session.compare(&self.boxes[mailbox], false);
        }
    }

    fn command(&mut self) {
        let at = self.dice.below(SESSIONS);
        let Some(mailbox) = self.sessions[at].mailbox else { return self.select(at) };
        let count = self.sessions[at].known.len();
        let kind = self.dice.below(24);
        match kind {
            0 => self.select(at),
            1 => self.status(at),
            2 | 3 => self.append(at),
            4 => {
                let answer = self.perform(at, "NOOP", true);
                assert!(answer.is_ok());
                self.check(at, true);
            }
            5 => {
                assert!(self.perform(at, "CHECK", true).is_ok());
                self.check(at, true);
            }
            6 if self.dice.one_in(3) => self.close(at, mailbox),
            6 | 7 => self.expunge(at, mailbox),
            _ if count == 0 => self.append(at),
            8 | 9 => self.copy(at, mailbox),
            10..=12 => self.fetch(at, mailbox),
            13 | 14 => self.search(at, mailbox),
            _ => self.store(at, mailbox),
        }
    }

    fn select(&mut self, at: usize) {
        let mailbox = self.dice.below(BOXES.len());
        self.sessions[at].mailbox = None;
        self.sessions[at].known.clear();
        let answer = self.perform(at, &format!("SELECT {}", BOXES[mailbox]), false);
        assert!(answer.is_ok(), "{}", answer.status);
        self.sessions[at].mailbox = Some(mailbox);
        let unseen = self.boxes[mailbox].iter().position(|message| !message.flags.contains("\\Seen"));
        let told = number_behind(&answer.text(), "[UNSEEN ").map(|number| number as usize - 1);
        // IMAP4rev2 has no such answer; where it comes it must be right.
        assert!(told.is_none() || told == unseen, "{told:?} {unseen:?}");
        let next = number_behind(&answer.text(), "[UIDNEXT ").unwrap();
        assert!(next > self.highest[mailbox], "UIDNEXT {next} was given before");
        self.check(at, true);
    }

    fn status(&mut self, at: usize) {
        let other = self.dice.below(BOXES.len());
        let line = format!("STATUS {} (MESSAGES UIDNEXT UNSEEN)", BOXES[other]);
        let answer = self.perform(at, &line, true);
        let text = answer.text();
        assert!(answer.is_ok(), "{}", answer.status);
        let unseen = self.boxes[other].iter().filter(|message| !message.flags.contains("\\Seen")).count();
        assert_eq!(number_behind(&text, "MESSAGES "), Some(self.boxes[other].len() as u32), "{text}");
        assert_eq!(number_behind(&text, "UNSEEN "), Some(unseen as u32), "{text}");
        assert!(number_behind(&text, "UIDNEXT ").unwrap() > self.highest[other]);
        self.check(at, true);
    }

    fn append(&mut self, at: usize) {
        let mailbox = self.dice.below(BOXES.len());
        if self.boxes[mailbox].len() > MANY {
            return self.store(at, mailbox);
        }
        let (name, flags) = (self.name(), self.dice.flags());
        let line = format!("APPEND {} ({})", BOXES[mailbox], flags.join(" "));
        self.commands += 1;
        let session = &mut self.sessions[at];
        session.note(&line);
        let answer = session.imap.with_literal(&line, mail(&name).as_bytes());
        session.take(&answer, true);
        assert!(answer.is_ok(), "{}", answer.status);
        let uid = number_behind(&answer.status, "[APPENDUID ").and(second_number(&answer.status)).unwrap();
        self.stored(mailbox, uid, name, flags.into_iter().map(str::to_owned).collect());
        self.check(at, true);
    }

    fn stored(&mut self, mailbox: usize, uid: u32, name: String, flags: Flags) {
        assert!(uid > self.highest[mailbox], "UID {uid} was given before");
        self.highest[mailbox] = uid;
        self.boxes[mailbox].push(Message { uid, name, flags });
    }

    fn expunge(&mut self, at: usize, mailbox: usize) {
        let deleted = |message: &Message| message.flags.contains("\\Deleted");
        let line = if self.dice.one_in(2) {
            self.boxes[mailbox].retain(|message| !deleted(message));
            "EXPUNGE".to_owned()
        } else {
            let known = &self.sessions[at].known;
            let Some(first) = known.first().and_then(|known| known.uid) else { return };
            let last = known[self.dice.below(known.len())].uid.unwrap();
            // The client's own messages only: others may have come between.
            let told: HashSet<u32> = known.iter().filter_map(|known| known.uid).collect();
            let named = |uid: u32| (first..=last).contains(&uid) && told.contains(&uid);
            self.boxes[mailbox].retain(|message| !(deleted(message) && named(message.uid)));
            format!("UID EXPUNGE {first}:{last}")
        };
        let answer = self.perform(at, &line, true);
        assert!(answer.is_ok(), "{}", answer.status);
        self.check(at, true);
    }

    fn close(&mut self, at: usize, mailbox: usize) {
        let closes = self.dice.one_in(2);
        if closes {
            self.boxes[mailbox].retain(|message| !message.flags.contains("\\Deleted"));
        }
        let answer = self.perform(at, if closes { "CLOSE" } else { "UNSELECT" }, false);
        assert!(answer.is_ok() && answer.untagged.is_empty(), "{answer:?}");
        self.sessions[at].mailbox = None;
        self.sessions[at].known.clear();
    }

    /// Some messages of a session: the command's word for the numbering, the set, and the UIDs.
    fn some(&mut self, at: usize) -> (&'static str, String, Vec<u32>) {
        let known = &self.sessions[at].known;
        let chosen = self.dice.some(known.len());
        let uids: Vec<u32> = chosen.iter().map(|index| known[*index].uid.unwrap()).collect();
        if self.dice.one_in(2) {
            let numbers = chosen.iter().map(|index| (index + 1).to_string());
            ("", numbers.collect::<Vec<_>>().join(","), uids)
        } else {
            let numbers = uids.iter().map(u32::to_string);
            ("UID ", numbers.collect::<Vec<_>>().join(","), uids)
        }
    }

    fn is_gone(&self, mailbox: usize, uid: u32) -> bool {
        !self.boxes[mailbox].iter().any(|message| message.uid == uid)
    }

    fn store(&mut self, at: usize, mailbox: usize) {
        if self.sessions[at].mailbox != Some(mailbox) || self.sessions[at].known.is_empty() {
            return;
        }
        let (word, set, uids) = self.some(at);
        let mut flags = self.dice.flags();
        let crowded = self.boxes[mailbox].len() > MANY;
        let sign = if crowded { "+" } else { ["+", "-", ""][self.dice.below(3)] };
        if crowded {
            flags = vec!["\\Deleted"];
        }
        let silent = self.dice.one_in(2);
        let words = flags.join(" ");
        let line = format!("{word}STORE {set} {sign}FLAGS{} ({words})", if silent { ".SILENT" } else { "" });
        let gone = uids.iter().any(|uid| self.is_gone(mailbox, *uid));
        for message in self.boxes[mailbox].iter_mut().filter(|message| uids.contains(&message.uid)) {
            if sign.is_empty() {
                message.flags.clear();
            }
            for flag in &flags {
                match sign {
                    "-" => drop(message.flags.remove(*flag)),
                    _ => drop(message.flags.insert((*flag).to_owned())),
                }
            }
        }
        let expunges = !word.is_empty();
        let answer = self.perform(at, &line, expunges);
        let refused = answer.status.starts_with("NO [EXPUNGEISSUED]");
        assert!(answer.is_ok() || (gone && refused && word.is_empty()), "{line}: {}", answer.status);
        if silent {
            // The client knows what it did, unless it hears otherwise.
            let truth = &self.boxes[mailbox];
            for known in &mut self.sessions[at].known {
                if let Some(message) = truth.iter().find(|message| Some(message.uid) == known.uid)
                    && uids.contains(&message.uid)
                {
                    known.flags = Some(message.flags.clone());
                }
            }
        }
        self.check(at, expunges);
    }

    fn fetch(&mut self, at: usize, mailbox: usize) {
        let (word, set, uids) = self.some(at);
        let reads = self.dice.one_in(3);
        let item = if reads { "BODY[]" } else { "(FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])" };
        let gone = uids.iter().any(|uid| self.is_gone(mailbox, *uid));
        if reads {
            for message in self.boxes[mailbox].iter_mut().filter(|message| uids.contains(&message.uid)) {
                message.flags.insert("\\Seen".to_owned());
            }
        }
        let expunges = !word.is_empty();
        // The numbers in the answer count before anything is removed.
        let before = self.sessions[at].known.clone();
        let answer = self.perform(at, &format!("{word}FETCH {set} {item}"), expunges);
        let refused = answer.status.starts_with("NO [EXPUNGEISSUED]");
        assert!(answer.is_ok() || (gone && refused && word.is_empty()), "{}", answer.status);
        let mut found = 0;
        for line in answer.untagged.iter().map(|line| String::from_utf8_lossy(line)) {
            let Some(subject) = line.split("Subject: ").nth(1) else { continue };
            let number: usize = line.split(' ').nth(1).unwrap().parse().unwrap();
            let uid = before[number - 1].uid.unwrap();
            let message = self.boxes[mailbox].iter().find(|message| message.uid == uid).unwrap();
            assert_eq!(subject.lines().next().unwrap(), message.name, "UID {uid}");
            assert!(
                !reads
                    || line.ends_with(&format!("text of {}\r\n)", message.name))
                    || line.contains(&format!("text of {}\r\n", message.name)),
                "{line}"
            );
            found += 1;
        }
        let here = uids.iter().filter(|uid| !self.is_gone(mailbox, **uid)).count();
        assert_eq!(found, here, "{:?}", answer.text());
        self.check(at, expunges);
    }

    fn search(&mut self, at: usize, mailbox: usize) {
        let flag = FLAGS[self.dice.below(FLAGS.len())];
        let key = match flag.strip_prefix('\\') {
            Some(word) => word.to_uppercase(),
            None => format!("KEYWORD {flag}"),
        };
        let by_uid = self.dice.one_in(2);
        let expected: Vec<u32> = {
            let known = self.sessions[at].known.iter().enumerate();
            let has = |uid: u32| {
                let mut all = self.boxes[mailbox].iter();
                all.any(|message| message.uid == uid && message.flags.contains(flag))
            };
            let found = known.filter(|(_, known)| known.uid.is_some_and(has));
            found.map(|(index, known)| if by_uid { known.uid.unwrap() } else { index as u32 + 1 }).collect()
        };
        self.sessions[at].searched.clear();
        let answer = self.perform(at, &format!("{}SEARCH {key}", if by_uid { "UID " } else { "" }), by_uid);
        assert!(answer.is_ok(), "{}", answer.status);
        // Messages that came since the last command may be found as well.
        let known = self.sessions[at].known.len() as u32;
        let highest = self.sessions[at].known.iter().filter_map(|known| known.uid).max().unwrap_or(0);
        let limit = if by_uid { highest } else { known };
        let found: Vec<u32> =
            self.sessions[at].searched.iter().copied().filter(|number| *number <= limit).collect();
        let expected: Vec<u32> = expected.into_iter().filter(|number| *number <= limit).collect();
        assert!(expected.iter().all(|number| found.contains(number)), "{key}: {found:?} {expected:?}");
        self.check(at, by_uid);
    }

    /// COPY and MOVE to the other mailbox.
    fn copy(&mut self, at: usize, mailbox: usize) {
        let other = 1 - mailbox;
        if self.boxes[other].len() > MANY {
            return self.store(at, mailbox);
        }
        let (word, set, uids) = self.some(at);
        let moves = self.dice.one_in(2);
        let verb = if moves { "MOVE" } else { "COPY" };
        let chosen: Vec<Message> =
            self.boxes[mailbox].iter().filter(|message| uids.contains(&message.uid)).cloned().collect();
        if moves && chosen.len() == uids.len() {
            self.boxes[mailbox].retain(|message| !uids.contains(&message.uid));
        }
        let answer = self.perform(at, &format!("{word}{verb} {set} {}", BOXES[other]), true);
        if chosen.len() < uids.len() && !answer.is_ok() {
            // Some are gone: all or nothing.
            assert!(answer.status.starts_with("NO "), "{}", answer.status);
            return self.check(at, true);
        }
        assert!(answer.is_ok(), "{}", answer.status);
        if moves && chosen.len() < uids.len() {
            self.boxes[mailbox].retain(|message| !uids.contains(&message.uid));
        }
        let text = format!("{}\n{}", answer.text(), answer.status);
        if !chosen.is_empty() {
            let code = text.split("[COPYUID ").nth(1).expect("COPYUID").split(']').next().unwrap();
            let mut words = code.split(' ').skip(1);
            let from = numbers(words.next().unwrap());
            let to = numbers(words.next().unwrap());
            assert_eq!(from, chosen.iter().map(|message| message.uid).collect::<Vec<_>>());
            for (message, uid) in chosen.into_iter().zip(to) {
                self.stored(other, uid, message.name, message.flags);
            }
        }
        self.check(at, true);
    }

    /// Each session sets and clears a keyword of its own, or appends, all at the same time, while another program appends.
    fn all_at_once(&mut self) {
        let mut plans = Vec::new();
        for at in 0..SESSIONS {
            let keyword = format!("own{at}");
            let line = match self.sessions[at].mailbox {
                Some(_) if !self.sessions[at].known.is_empty() => {
                    let (word, set, uids) = self.some(at);
                    let sign = ["+", "-"][self.dice.below(2)];
                    plans.push(Some((uids, sign == "+", keyword.clone())));
                    format!("{word}STORE {set} {sign}FLAGS ({keyword})")
                }
                _ => {
                    plans.push(None);
                    "NOOP".to_owned()
                }
            };
            self.commands += 1;
            self.sessions[at].note(&line);
            self.sessions[at].imap.begin(&line);
        }
        let foreign = self.dice.below(BOXES.len());
        let name = self.name();
        if self.boxes[foreign].len() <= MANY {
            append_foreign(&self.file(foreign), &name);
        }
        for (at, plan) in plans.into_iter().enumerate() {
            let answer = self.sessions[at].imap.finish();
            self.sessions[at].take(&answer, true);
            assert!(answer.is_ok() || answer.status.contains("EXPUNGEISSUED"), "{}", answer.status);
            let (Some((uids, on, keyword)), Some(mailbox)) = (plan, self.sessions[at].mailbox) else {
                continue;
            };
            for message in self.boxes[mailbox].iter_mut().filter(|message| uids.contains(&message.uid)) {
                match on {
                    true => drop(message.flags.insert(keyword.clone())),
                    false => drop(message.flags.remove(&keyword)),
                }
            }
        }
        self.look(foreign);
        for at in 0..SESSIONS {
            assert!(self.perform(at, "NOOP", true).is_ok());
            self.check(at, true);
        }
    }

    /// A message that the file tells from all others: copies have the same text.
    fn one_of_its_kind(&mut self, mailbox: usize) -> Option<usize> {
        let index = self.dice.below(self.boxes[mailbox].len().max(1));
        let name = &self.boxes[mailbox].get(index)?.name;
        let same = self.boxes[mailbox].iter().filter(|message| message.name == *name).count();
        (same == 1).then_some(index)
    }

    /// Another mail program changes a file.
    fn foreign(&mut self) {
        let mailbox = self.dice.below(BOXES.len());
        let file = self.file(mailbox);
        match self.dice.below(4) {
            0 | 1 if self.boxes[mailbox].len() <= MANY => {
                let name = self.name();
                append_foreign(&file, &name);
            }
            2 => {
                let Some(index) = self.one_of_its_kind(mailbox) else { return };
                let message = self.boxes[mailbox][index].clone();
                let in_place = self.dice.one_in(2);
                remove_foreign(&file, &message.name, in_place);
                self.boxes[mailbox].remove(index);
            }
            _ => {
                let Some(index) = self.one_of_its_kind(mailbox) else { return };
                let read = self.dice.one_in(2);
                let message = &mut self.boxes[mailbox][index];
                if patch_foreign(&file, &message.name, read) {
                    match read {
                        true => drop(message.flags.insert("\\Seen".to_owned())),
                        false => drop(message.flags.remove("\\Seen")),
                    }
                }
            }
        }
        self.look(mailbox);
    }

    /// A fresh look at a mailbox: as the model has it, and messages that another program added behind it.
    fn look(&mut self, mailbox: usize) {
        let mut imap = self.server.imap(USER.0, USER.1);
        imap.ok(&format!("EXAMINE {}", BOXES[mailbox]));
        let answer = imap.ok("UID FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])");
        self.commands += 2;
        let mut found = Vec::new();
        for line in answer.untagged.iter().map(|line| String::from_utf8_lossy(line)) {
            let Some(subject) = line.split("Subject: ").nth(1) else { continue };
            let name = subject.lines().next().unwrap().to_owned();
            let uid = number_behind(&line, "UID ").unwrap();
            found.push(Message { uid, name, flags: flags_of(&line).unwrap() });
        }
        let known = self.boxes[mailbox].clone();
        assert!(found.len() >= known.len(), "messages are missing: {found:#?}\n{known:#?}");
        for (found, known) in found.iter().zip(&known) {
            assert_eq!(found, known, "in {}", BOXES[mailbox]);
        }
        for message in found.into_iter().skip(known.len()) {
            self.stored(mailbox, message.uid, message.name, message.flags);
        }
        imap.logout();
    }
}

impl Session {
    fn new(imap: Imap) -> Session {
        Session { imap, mailbox: None, known: Vec::new(), searched: Vec::new(), last: Vec::new() }
    }

    fn note(&mut self, line: &str) {
        self.last.push(line.to_owned());
        if self.last.len() > 12 {
            self.last.remove(0);
        }
    }

    /// Takes over the untagged answers, as a client does.
    fn take(&mut self, answer: &Answer, expunges: bool) {
        for line in &answer.untagged {
            let text = String::from_utf8_lossy(line);
            let mut words = text.split(' ');
            assert_eq!(words.next(), Some("*"), "{text}");
            let first = words.next().unwrap();
            let Ok(number) = first.parse::<usize>() else {
                if first == "SEARCH" {
                    self.searched = words.filter_map(|word| word.parse().ok()).collect();
                }
                assert!(!text.starts_with("* BYE"), "{text}");
                continue;
            };
            match words.next().unwrap() {
                "EXISTS" => {
                    assert!(
                        number >= self.known.len(),
                        "{text}, there were {}: {:#?}",
                        self.known.len(),
                        self.last
                    );
                    self.known.resize_with(number, Known::default);
                }
                "RECENT" => assert!(number <= self.known.len(), "{text}"),
                "EXPUNGE" => {
                    assert!(expunges, "{text} is not allowed here: {:#?}", self.last);
                    assert!((1..=self.known.len()).contains(&number), "{text}: {:#?}", self.last);
                    self.known.remove(number - 1);
                }
                "FETCH" => {
                    assert!((1..=self.known.len()).contains(&number), "{text}: {:#?}", self.last);
                    let known = &mut self.known[number - 1];
                    if let Some(uid) = number_behind(&text, "UID ") {
                        assert!(
                            known.uid.is_none_or(|known| known == uid),
                            "{text}: {known:?} {:#?}",
                            self.last
                        );
                        known.uid = Some(uid);
                    }
                    if let Some(flags) = flags_of(&text) {
                        known.flags = Some(flags);
                    }
                }
                _ => panic!("{text}"),
            }
        }
    }

    /// Is what the session knows what there is? Messages that are gone may still be known where the client could not be told.
    fn compare(&mut self, truth: &[Message], expunges: bool) {
        let mut rest = truth.iter().peekable();
        for (index, known) in self.known.iter_mut().enumerate() {
            let is_next = rest.peek().is_some_and(|message| known.uid.is_none_or(|uid| uid == message.uid));
            let Some(message) = rest.next_if(|_| is_next) else {
                assert!(
                    !expunges && known.uid.is_none_or(|uid| !truth.iter().any(|message| message.uid == uid)),
                    "number {} is {known:?}, there is {truth:#?} after {:#?}",
                    index + 1,
                    self.last
                );
                continue;
            };
            known.uid = Some(message.uid);
            if let Some(flags) = &known.flags {
                assert_eq!(*flags, message.flags, "UID {} after {:#?}", message.uid, self.last);
            }
        }
        assert!(rest.next().is_none(), "not told of {:?} after {:#?}", rest.collect::<Vec<_>>(), self.last);
    }
}

fn mail(name: &str) -> String {
    format!("From: a@example.net\r\nSubject: {name}\r\n\r\ntext of {name}\r\n")
}

fn number_behind(text: &str, word: &str) -> Option<u32> {
    let rest = text.split(word).nth(1)?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// `OK [APPENDUID 17 42]`: 42.
fn second_number(text: &str) -> Option<u32> {
    text.split(['[', ']']).nth(1)?.split(' ').nth(2)?.parse().ok()
}

/// `1:3,7`, where each number of a range counts.
fn numbers(set: &str) -> Vec<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once(':').unwrap_or((part, part));
        first.parse::<u32>().unwrap()..=last.parse::<u32>().unwrap()
    };
    set.split(',').flat_map(range).collect()
}

/// The flags of a FETCH answer, without `\Recent`, which is each session's own.
fn flags_of(text: &str) -> Option<Flags> {
    let inside = text.split("FLAGS (").nth(1)?.split(')').next()?;
    Some(inside.split_whitespace().filter(|flag| *flag != "\\Recent").map(str::to_owned).collect())
}

/// The mailbox file, locked as mail programs do. It may have been replaced while we waited.
fn locked(path: &Path) -> Option<File> {
    use std::os::unix::fs::MetadataExt as _;
    loop {
        let file = OpenOptions::new().read(true).write(true).open(path).ok()?;
        file.lock().unwrap();
        let (open, named) = (file.metadata().unwrap(), std::fs::metadata(path).ok()?);
        if (open.dev(), open.ino()) == (named.dev(), named.ino()) {
            return Some(file);
        }
    }
}

fn append_foreign(path: &Path, name: &str) {
    let Some(mut file) = locked(path) else { return };
    file.seek(std::io::SeekFrom::End(0)).unwrap();
    let text = format!("From <x@example.net> Mon Aug  1 00:00:00 2022\r\n{}\r\n", mail(name));
    file.write_all(text.as_bytes()).unwrap();
}

/// Where a message stands in a file: from its separator to the next one.
fn place(content: &[u8], name: &str) -> Option<std::ops::Range<usize>> {
    let wanted = format!("Subject: {name}\r\n");
    let at = memchr::memmem::find(content, wanted.as_bytes())?;
    let begin = memchr::memmem::rfind(&content[..at], b"From <")?;
    let end = memchr::memmem::find(&content[at..], b"\nFrom <").map_or(content.len(), |end| at + end + 1);
    Some(begin..end)
}

/// Removes a message, by a new file or in place.
fn remove_foreign(path: &Path, name: &str, in_place: bool) {
    let mut file = locked(path).unwrap();
    let mut content = Vec::new();
    file.read_to_end(&mut content).unwrap();
    let place = place(&content, name).expect("the message is in the file");
    content.drain(place);
    if in_place {
        file.set_len(0).unwrap();
        file.rewind().unwrap();
        file.write_all(&content).unwrap();
    } else {
        let new = path.with_extension("new");
        std::fs::write(&new, &content).unwrap();
        std::fs::rename(&new, path).unwrap();
    }
}

/// Changes the letter of a `Status` line; says whether that changed anything: the server may still be about to write it.
fn patch_foreign(path: &Path, name: &str, read: bool) -> bool {
    /// Two changes within a tick of the file system's clock look like one.
    const TICK: Duration = Duration::from_millis(30);
    let mut file = locked(path).unwrap();
    loop {
        let changed = file.metadata().unwrap().modified().unwrap();
        match SystemTime::now().duration_since(changed) {
            Ok(age) if age < TICK => std::thread::sleep(TICK - age),
            _ => break,
        }
    }
    let mut content = Vec::new();
    file.read_to_end(&mut content).unwrap();
    let place = place(&content, name).expect("the message is in the file");
    let Some(line) = memchr::memmem::find(&content[place.clone()], b"\nStatus: ") else { return false };
    let (at, letter) = (place.start + line + 9, if read { b'R' } else { b'U' });
    file.seek(std::io::SeekFrom::Start(at as u64)).unwrap();
    file.write_all(&[letter]).unwrap();
    content[at] != letter
}
