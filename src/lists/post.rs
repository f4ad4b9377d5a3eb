//! What becomes of a mail to a list: the decision, and the copy for the members.
//!
//! Mail that a program sent in answer to something, and mail that the list itself has sent, is dropped: that is how loops end. An automatic
//! report that nobody's mail has caused (`auto-generated`) may be posted.
//!
//! # Failure
//! The disk's.

use super::header::{Changes, HOLD_SUBJECT, address_of, author, is_own, rewrite};
use super::list::List;
use super::merge::{MERGE_MAX, merge};
use super::posting::{Verdict, decide};
use super::subject::{Subject, SubjectCommand, command, same_password, take_password, with_text};
use crate::message::header::{addresses, fields, header_length, unfold, value};
use layout::limits::HEADER_MAX;
use layout::mbx::compose::Source;
use std::io;

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The members get it.
    Post(NewSubject),
    /// The owner gets it.
    ToOwner(NewSubject),
    /// It is a command of the author.
    Command(SubjectCommand),
    /// It goes back.
    Refused(Refused),
    /// Nobody gets it, for this reason.
    Dropped(&'static str),
}

/// The value of the Subject field, if it changes.
pub type NewSubject = Option<String>;

/// Why a mail goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The list's password is missing or wrong.
    Password,
    /// It is larger than the list takes.
    TooLarge,
    /// Its author is on the kill list.
    Killed,
}

/// Decides. `head` is the message's begin with its whole header, `size` the message's length in bytes, `sender` the envelope sender.
pub fn judge(list: &List<'_>, head: &[u8], size: u64, sender: &str) -> io::Result<Outcome> {
    if is_own(head, &list.address) {
        return Ok(Outcome::Dropped("the list sent it already"));
    }
    if is_answer(head, sender) {
        return Ok(Outcome::Dropped("a program sent it in answer to something"));
    }
    let author = author(head, sender);
    if list.is_killed(&author)? {
        return Ok(Outcome::Refused(Refused::Killed));
    }
    let subject = Subject::parse(value(head, b"subject").unwrap_or_default());
    let given = list.settings.password.as_ref().and_then(|_| take_password(&subject.text));
    let text = given.as_ref().map_or(subject.text.as_str(), |(_, rest)| rest);
    if list.settings.commands_by_subject
        && let Some(command) = command(text, &list.address.name)
    {
        return Ok(match crate::transport::answer::is_automatic(head) {
            true => Outcome::Dropped("a program sent it, and its subject is a command"),
            false => Outcome::Command(command),
        });
    }
    let right = match (&list.settings.password, &given) {
        (Some(wanted), Some((given, _))) => same_password(wanted.expose(), given),
        _ => false,
    };
    let stripped = || (text != subject.text).then(|| subject.write(text));
    let verdict = decide(list.wanted(), list.author(&author, right)?);
    let too_large = list.settings.max_message_size != 0 && size > list.settings.max_message_size;
    Ok(match verdict {
        Verdict::WrongPassword => Outcome::Refused(Refused::Password),
        _ if too_large => Outcome::Refused(Refused::TooLarge),
        Verdict::ToOwner => Outcome::ToOwner(stripped()),
        Verdict::Post => {
            let new = match list.settings.subject_text.as_deref() {
                None => text.to_owned(),
                // The default is the list's name (older help).
                Some("") => with_text(text, &list.address.name),
                Some(prefix) => with_text(text, prefix),
            };
            Outcome::Post((new != subject.text).then(|| subject.write(&new)))
        }
    })
}

/// Did a program send it in answer to something? (RFC 3834 §5, RFC 3464)
pub fn is_answer(head: &[u8], sender: &str) -> bool {
    sender.is_empty()
        || fields(head).any(|field| {
            let value = unfold(field.value).to_ascii_lowercase();
            (field.is(b"auto-submitted") && value.starts_with(b"auto-replied"))
                || (field.is(b"content-type") && value.starts_with(b"multipart/report"))
                || field.is(b"x-autoreply")
                || field.is(b"x-autorespond")
        })
}

/// Whom a request's answer goes to: Reply-To, if it names one address, else the author.
pub fn requester(head: &[u8], sender: &str) -> String {
    let mut replies = fields(head).filter(|field| field.is(b"reply-to"));
    // Several are an old attack on the list server (ZDI-10-126).
    let only = replies.next().filter(|_| replies.next().is_none());
    let one =
        only.filter(|field| addresses(field.value).len() == 1).and_then(|field| address_of(field.value));
    one.unwrap_or_else(|| author(head, sender))
}

/// A message as it will be written: new bytes, then the rest of the one that came.
pub struct Copy {
    /// The header, and the body if that is new.
    pub begin: Vec<u8>,
    /// The rest of the original, from this offset on; `None` if there is none.
    pub rest: Option<u64>,
}

/// The copy for the members.
pub fn copy(list: &List<'_>, source: &Source, subject: NewSubject, replace_from: bool) -> io::Result<Copy> {
    let texts = list.texts()?;
    let changes = Changes { subject, replace_from, reply_to_list: list.settings.reply_to_list };
    if source.len() <= MERGE_MAX && texts != Default::default() {
        let message = source.read(0, MERGE_MAX as usize)?;
        if let Some(merged) = merge(&message, &texts) {
            let (head, body) = merged.split_at(header_length(&merged).min(merged.len()));
            let mut begin = rewrite(head, &list.address, &changes);
            begin.extend_from_slice(body);
            return Ok(Copy { begin, rest: None });
        }
    }
    with_header(source, |head| rewrite(head, &list.address, &changes))
}

/// The message with its subject changed and nothing else, for the owner.
pub fn with_subject(source: &Source, subject: &str) -> io::Result<Copy> {
    with_header(source, |head| {
        let mut out = format!("Subject: {subject}\r\n").into_bytes();
        let kept = fields(head).filter(|field| !HOLD_SUBJECT.iter().any(|name| field.is(name)));
        kept.for_each(|field| out.extend_from_slice(field.raw));
        out.extend_from_slice(b"\r\n");
        out
    })
}

fn with_header(source: &Source, write: impl FnOnce(&[u8]) -> Vec<u8>) -> io::Result<Copy> {
    let begin = source.read(0, HEADER_MAX)?;
    let length = header_length(&begin);
    let head = begin.get(..length).unwrap_or(&begin);
    Ok(Copy { begin: write(head), rest: Some(length as u64) })
}
