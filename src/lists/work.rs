//! What is to be done about a mail that has come to a list, to its bounce address, or to the list server: a plan of mails to send.
//!
//! Files of the list are changed on the way (members, bounces); nothing is sent here.
//!
//! # Failure
//! The disk's: the mail waits and is tried again.
//!
//! # Limits
//! [`LETTERS_PER_DAY`].

use super::addresses::Addresses;
use super::bounce;
use super::list::List;
use super::merge::MERGE_MAX;
use super::post::{Copy, Outcome, Refused, copy, is_answer, judge, with_subject};
use super::reply::{Mail, Words};
use super::server::{Desk, Letter, change_file};
use crate::message::header::header_length;
use layout::list::File;
use layout::list::bounces::Bounces;
use layout::list::change::{Change, ChangeError, rewrite};
use layout::mbx::compose::Source;
use layout::spool::dsn::Dsn;
use std::io;

/// The most letters of the list server to one address in a day (ours): whoever sends commands under somebody else's name cannot fill his mailbox.
const LETTERS_PER_DAY: u32 = 100;

/// A mail that came.
pub struct Came<'a> {
    /// Header and body.
    pub source: &'a Source,
    /// Its envelope sender.
    pub sender: &'a str,
    /// Does the author's domain want another From? (Asked before, since it takes time.)
    pub replace_from: bool,
}

/// One message to many.
pub struct Mailing {
    /// The envelope sender.
    pub sender: String,
    /// The list's owner, if the list is the sender.
    pub owner: String,
    /// The message.
    pub copy: Copy,
    /// Who gets it.
    pub recipients: Vec<Recipients>,
}

/// Recipients for whom the same is to be done.
#[derive(Default)]
pub struct Recipients {
    /// Their addresses.
    pub addresses: Addresses,
    /// May the mailbox be made if it is not there?
    pub may_create: bool,
    /// Does a rule send it there?
    pub ruled: bool,
    /// The address that they stand for, if the sender is to hear of it.
    pub original: Option<String>,
    /// What the sender wants to be told of them.
    pub dsn: Dsn,
}

/// What is to be done.
#[derive(Default)]
pub struct Plan {
    /// What is sent.
    pub mailings: Vec<Mailing>,
    /// The mail goes back to its sender with this reply.
    pub refused: Option<Refused>,
    /// Lines for the log.
    pub notes: Vec<String>,
    /// Members on hold whom the owner is told of. When that cannot be lost any more, [`forget`] is to be called for them.
    pub held: Vec<String>,
}

impl Plan {
    fn letters(letters: Vec<Letter>) -> Plan {
        Plan { mailings: letters.into_iter().map(Mailing::letter).collect(), ..Plan::default() }
    }

    /// What the list server writes, but for those who had enough of it today. Their commands are carried out all the same.
    fn answers(desk: &Desk<'_>, letters: Vec<Letter>) -> Plan {
        let (server, today) = (desk.address(), desk.now.date_naive());
        let may = |letter: &Letter| desk.answers.count(&server, &letter.to, LETTERS_PER_DAY, today);
        let (letters, over): (Vec<_>, Vec<_>) = letters.into_iter().partition(may);
        let note = |letter: Letter| {
            format!("{server} writes no more to {} today: {LETTERS_PER_DAY} letters", letter.to)
        };
        Plan { notes: over.into_iter().map(note).collect(), ..Plan::letters(letters) }
    }

    fn note(text: String) -> Plan {
        Plan { notes: vec![text], ..Plan::default() }
    }
}

impl Mailing {
    fn letter(letter: Letter) -> Mailing {
        let copy = Copy { begin: letter.bytes, rest: None };
        Mailing::one(String::new(), letter.to, copy)
    }

    /// A post as it came, behind the mark of the list, sent on by a rule of the list.
    pub fn ruled(came: &Came<'_>, list: &List<'_>, to: String) -> Mailing {
        let begin = super::header::sent_on_mark(&list.address).into_bytes();
        let copy = Copy { begin, rest: Some(0) };
        let recipients = Recipients { may_create: true, ruled: true, ..Recipients::of([to]) };
        Mailing {
            sender: came.sender.to_owned(),
            owner: list.owner.clone(),
            copy,
            recipients: vec![recipients],
        }
    }

    fn one(sender: String, to: String, copy: Copy) -> Mailing {
        Mailing { sender, owner: String::new(), copy, recipients: vec![Recipients::of([to])] }
    }
}

impl Recipients {
    /// These.
    pub fn of(addresses: impl IntoIterator<Item = String>) -> Recipients {
        Recipients { addresses: addresses.into_iter().collect(), ..Recipients::default() }
    }
}

/// A post, or a command in its subject.
pub fn post(desk: &Desk<'_>, list: &List<'_>, came: &Came<'_>) -> io::Result<Plan> {
    let begin = came.source.head()?;
    let head = begin.get(..header_length(&begin)).unwrap_or(&begin);
    let at = list.address.post();
    match judge(list, head, came.source.len(), came.sender)? {
        Outcome::Dropped(why) => Ok(Plan::note(format!("{at}: dropped: {why}"))),
        Outcome::Refused(Refused::Killed) => {
            Ok(Plan::note(format!("{at}: dropped: its author is in kill.lst")))
        }
        Outcome::Refused(why) => Ok(Plan { refused: Some(why), ..Plan::default() }),
        Outcome::Command(command) => {
            Ok(Plan::answers(desk, desk.subject(&list.address.name, command, head, came.sender)?))
        }
        Outcome::ToOwner(subject) => to_owner(desk, list, came, head, subject),
        Outcome::Post(subject) => {
            let copy = copy(list, came.source, subject, came.replace_from)?;
            let digest = list.digest_address();
            // Where no digest goes out, those who wait for it would get nothing.
            let files: &[File] =
                if digest.is_some() { &[File::Members] } else { &[File::Members, File::Digest] };
            let members = Recipients { addresses: list.recipients(files)?, ..Recipients::default() };
            let digest = digest.map(|address| Recipients { may_create: true, ..Recipients::of([address]) });
            let recipients = [members].into_iter().chain(digest).collect();
            let mailing =
                Mailing { sender: list.address.bounce(), owner: list.owner.clone(), copy, recipients };
            Ok(Plan { mailings: vec![mailing], ..Plan::default() })
        }
    }
}

/// A post that its author may not send: the owner gets it as an attachment. One that is too large for that comes as it is.
fn to_owner(
    desk: &Desk<'_>,
    list: &List<'_>,
    came: &Came<'_>,
    head: &[u8],
    subject: Option<String>,
) -> io::Result<Plan> {
    let copy = match &subject {
        Some(subject) => with_subject(came.source, subject)?,
        None => Copy { begin: Vec::new(), rest: Some(0) },
    };
    if came.source.len() > MERGE_MAX {
        let mailing = Mailing::one(String::new(), list.owner.clone(), copy);
        return Ok(Plan { mailings: vec![mailing], ..Plan::default() });
    }
    let mut post = copy.begin;
    if let Some(rest) = copy.rest {
        post.extend(came.source.read(rest, MERGE_MAX as usize)?);
    }
    let (whom, server, at) =
        (super::header::author(head, came.sender), list.address.server(), list.address.post());
    let words = Words {
        list: &list.address.name,
        whom: &whom,
        owner: &list.owner,
        server: &server,
        post: &at,
        ..Words::default()
    };
    let bytes = Mail::moderate(list.language, &words, &post).write(desk.now, desk.number);
    Ok(Plan::letters(vec![Letter { to: list.owner.clone(), bytes }]))
}

/// Mail to the list server.
pub fn server(desk: &Desk<'_>, came: &Came<'_>) -> io::Result<Plan> {
    /// More than this is no list of commands.
    const READ_MAX: usize = 1 << 20;
    let message = came.source.read(0, READ_MAX)?;
    let head = message.get(..header_length(&message)).unwrap_or(&message);
    if is_answer(head, came.sender) || crate::transport::answer::is_automatic(head) {
        return Ok(Plan::note(format!(
            "{}@{}: dropped: a program sent it",
            super::header::SERVER,
            desk.domain.name
        )));
    }
    Ok(Plan::answers(desk, desk.mail(&message, came.sender)?))
}

/// Mail to a list's bounce address: members whose mail never arrives are counted, and the owner gets the mail.
pub fn bounced(desk: &Desk<'_>, list: &List<'_>, came: &Came<'_>) -> io::Result<Plan> {
    let mut plan = Plan::default();
    let begin = came.source.read(0, bounce::READ_MAX)?;
    if came.sender.is_empty() && list.settings.bounce_limit > 0 {
        plan.held = count(desk, list, &bounce::lasting(&begin))?;
        if !plan.held.is_empty() {
            plan.mailings.push(Mailing::letter(told_of(desk, list, &plan.held)));
        }
    }
    let copy = Copy { begin: Vec::new(), rest: Some(0) };
    plan.mailings.push(Mailing::one(String::new(), list.owner.clone(), copy));
    Ok(plan)
}

/// Counts a bounce for each of these that is a member, and puts on hold those for whom it is one too many. Answers with those on hold
/// whom the owner has not been told of: what is counted of a member is forgotten only then, so a crash in between does not hide him.
fn count(desk: &Desk<'_>, list: &List<'_>, addresses: &[String]) -> io::Result<Vec<String>> {
    let on_hold = list.those_in(&[File::Hold], addresses)?;
    let members = list.those_in(&[File::Members, File::Digest], addresses)?;
    if members.is_empty() {
        return Ok(Vec::new());
    }
    let (limit, today) = (list.settings.bounce_limit, desk.now.date_naive());
    let mut over = Vec::new();
    bounces(list, |bounces| {
        let days = |member: &String| match on_hold.contains(member) {
            true => bounces.days(member, today),
            false => bounces.count(member, today),
        };
        let counts: Vec<u32> = members.iter().map(days).collect();
        over =
            members.iter().zip(counts).filter(|(_, days)| *days >= limit).map(|(m, _)| m.clone()).collect();
    })?;
    for member in over.iter().filter(|member| !on_hold.contains(member)) {
        match change_file(desk.changes, list, File::Hold, &Change::Add(member.clone())) {
            // What cannot stand in the file by itself stays a member; the owner knows.
            Ok(()) | Err(ChangeError::Member(_)) => {}
            Err(ChangeError::Io(error)) => return Err(error),
            Err(error) => return Err(io::Error::other(error)),
        }
    }
    Ok(over)
}

/// The owner has been told of these members on hold: their bounces are forgotten.
pub fn forget(list: &List<'_>, held: &[String]) -> io::Result<()> {
    bounces(list, |bounces| held.iter().for_each(|member| bounces.forget(member)))
}

/// Tells the owner of members on hold.
fn told_of(desk: &Desk<'_>, list: &List<'_>, held: &[String]) -> Letter {
    let (server, days, members) =
        (list.address.server(), list.settings.bounce_limit.to_string(), held.join("\n"));
    let words = Words {
        list: &list.address.name,
        whom: &days,
        owner: &list.owner,
        server: &server,
        content: &members,
        ..Words::default()
    };
    let bytes = Mail::hold(list.language, &words).write(desk.now, desk.number ^ 2);
    Letter { to: list.owner.clone(), bytes }
}

/// Changes the file of bounces.
fn bounces(list: &List<'_>, mut change: impl FnMut(&mut Bounces)) -> io::Result<()> {
    let changed = rewrite(list.dir.root().disk(), &list.dir.file(File::Bounces), |bytes, _| {
        let mut bounces = Bounces::parse(bytes.clone());
        change(&mut bounces);
        Ok((bounces.write() != bytes).then(|| bounces.write().to_vec()))
    });
    changed.map(drop).map_err(io::Error::other)
}
