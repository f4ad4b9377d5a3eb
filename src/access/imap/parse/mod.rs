//! Commands from bytes (RFC 3501 §9).
//!
//! This module has the tokens and the commands without a family; the others are in modules of their own.
//!
//! The input is one whole command with its literals in place. What does not fit the grammar is a [`ParseError`], to be
//! answered with `BAD`; nothing is guessed beyond blanks at the end of a line. Lists are limited by [`MAX_LIST`],
//! sets by [`MAX_RANGES`], searches by [`MAX_SEARCH_DEPTH`] and [`MAX_SEARCH_KEYS`]; how long a command may be is for the
//! reader of the connection to say.

use std::num::NonZeroU32;

mod fetch;
mod mailbox;
mod search;
#[cfg(test)]
mod tests;

use super::command::{
    Command, Flag, LiteralAnnounced, NewcomerAnnounced, Numbering, Request, Secret, Tag, WireMailbox,
};
use super::reply::is_astring_char;
use super::sequence::{Bound, SequenceSet};

/// Elements that a parenthesized list of a command may have.
pub const MAX_LIST: usize = 1_000;

/// Ranges that a sequence set may have.
pub const MAX_RANGES: usize = 20_000;

/// Keys that one search may have.
pub const MAX_SEARCH_KEYS: usize = 1_000;

/// How deep parentheses, NOT and OR of a search may be nested.
pub const MAX_SEARCH_DEPTH: usize = 50;

/// Part numbers that a section may have; beyond `message::structure::MAX_DEPTH` there are no parts.
pub const MAX_SECTION_PARTS: usize = 100;

/// Longest tag in bytes.
pub const MAX_TAG: usize = 100;

/// Longest keyword in bytes.
pub const MAX_KEYWORD: usize = 250;

/// A command that does not fit the grammar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct ParseError {
    /// The tag, when it could be read; without one the answer is `* BAD`.
    pub tag: Option<Tag>,
    /// What is wrong, as a text for people.
    pub what: &'static str,
}

/// Result of one rule of the grammar.
type Parsed<T> = Result<T, &'static str>;

/// Reads one command: its lines with the last line end, each literal in place behind its announcement. The literal of
/// an APPEND's message is not among them: there the input ends with its announcement.
pub fn parse(bytes: &[u8]) -> Result<Request, ParseError> {
    let mut parser = Parser { bytes: without_line_end(bytes), at: 0, search_keys: 0 };
    let tag = parser.tag().map_err(|what| ParseError { tag: None, what })?;
    match parser.space().and_then(|()| parser.command()).and_then(|command| parser.end().map(|()| command)) {
        Ok(command) => Ok(Request { tag, command }),
        Err(what) => Err(ParseError { tag: Some(tag), what }),
    }
}

/// The tag of a command that may be incomplete.
pub fn tag(bytes: &[u8]) -> Option<Tag> {
    Parser { bytes: without_line_end(bytes), at: 0, search_keys: 0 }.tag().ok()
}

/// The literal that a line announces at its end, with or without its line end. A length that no number can hold
/// is the largest one, so that it is refused as too long.
pub fn pending_literal(line: &[u8]) -> Option<LiteralAnnounced> {
    let line = without_line_end(line).strip_suffix(b"}")?;
    let start = memchr::memrchr(b'{', line)?;
    let digits = line.get(start + 1..)?;
    let (digits, sync) = digits.strip_suffix(b"+").map_or((digits, true), |digits| (digits, false));
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(LiteralAnnounced { length: digits.iter().fold(0, digit), sync })
}

/// Whether the literal announced at the end of the input is the message of an APPEND, to be streamed, rather than a
/// small argument that belongs to the command.
pub fn is_append_message_literal(bytes: &[u8]) -> bool {
    matches!(parse(bytes), Ok(Request { command: Command::Append { .. }, .. }))
}

/// Reads what follows a message of an APPEND, to the end of the line or to the announcement of the next message. `utf8`: a
/// parenthesis closes before it.
pub fn append_more(bytes: &[u8], utf8: bool) -> Result<Option<NewcomerAnnounced>, &'static str> {
    let mut parser = Parser { bytes: without_line_end(bytes), at: 0, search_keys: 0 };
    if utf8 {
        parser.expect(b')', "a parenthesis is missing behind the message")?;
    }
    if parser.rest().trim_ascii().is_empty() {
        return Ok(None);
    }
    parser.space()?;
    // IMAPClient 4 sends a second blank.
    parser.take_while(|byte| byte == b' ');
    let next = parser.newcomer()?;
    parser.end()?;
    Ok(Some(next))
}

fn without_line_end(bytes: &[u8]) -> &[u8] {
    bytes.strip_suffix(b"\r\n").or_else(|| bytes.strip_suffix(b"\n")).unwrap_or(bytes)
}

fn is_atom_char(byte: u8) -> bool {
    is_astring_char(byte) && byte != b']'
}

fn is_list_char(byte: u8) -> bool {
    is_astring_char(byte) || matches!(byte, b'%' | b'*')
}

/// Reads from the front of a command.
struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Search keys read so far.
    search_keys: usize,
}

/// Tokens.
impl<'a> Parser<'a> {
    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Takes the byte if it comes next.
    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.at += 1;
        }
        found
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Parsed<()> {
        if self.take(byte) { Ok(()) } else { Err(what) }
    }

    fn space(&mut self) -> Parsed<()> {
        self.expect(b' ', "an argument is missing, or a blank before it")
    }

    /// Nothing but blanks may follow.
    fn end(&mut self) -> Parsed<()> {
        while self.take(b' ') {}
        if self.rest().is_empty() { Ok(()) } else { Err("there is more on the line than the command takes") }
    }

    fn take_while(&mut self, accept: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = self.rest();
        let length = rest.iter().take_while(|&&byte| accept(byte)).count();
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    /// A word of the protocol, in upper case.
    fn keyword(&mut self) -> Parsed<String> {
        let word =
            self.take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'='));
        if word.is_empty() {
            return Err("a word of the protocol is missing");
        }
        Ok(String::from_utf8_lossy(word).to_ascii_uppercase())
    }

    /// Takes the word if it comes next, in any case, as a whole.
    fn take_keyword(&mut self, keyword: &str) -> bool {
        let rest = self.rest();
        let found =
            rest.get(..keyword.len()).is_some_and(|word| word.eq_ignore_ascii_case(keyword.as_bytes()))
                && !rest.get(keyword.len()).is_some_and(|&next| is_atom_char(next));
        if found {
            self.at += keyword.len();
        }
        found
    }

    fn tag(&mut self) -> Parsed<Tag> {
        let tag = self.take_while(|byte| is_astring_char(byte) && byte != b'+');
        if tag.is_empty() || tag.len() > MAX_TAG {
            return Err("a command starts with a tag");
        }
        Ok(Tag(String::from_utf8_lossy(tag).into_owned()))
    }

    fn number(&mut self) -> Parsed<u32> {
        let digits = self.take_while(|byte| byte.is_ascii_digit());
        if digits.is_empty() {
            return Err("a number is missing");
        }
        let digits = std::str::from_utf8(digits).unwrap_or_default();
        digits.parse().map_err(|_| "a number is larger than 4294967295")
    }

    /// A change number (RFC 7162 §7): at most 63 bits.
    fn modseq(&mut self) -> Parsed<u64> {
        let digits = self.take_while(|byte| byte.is_ascii_digit());
        let number = std::str::from_utf8(digits).unwrap_or_default().parse::<u64>();
        number
            .ok()
            .filter(|number| *number <= i64::MAX as u64)
            .ok_or("a change number is missing or too large")
    }

    fn nonzero(&mut self) -> Parsed<NonZeroU32> {
        NonZeroU32::new(self.number()?).ok_or("a number must not be 0")
    }

    fn atom(&mut self) -> Parsed<&'a [u8]> {
        let atom = self.take_while(is_atom_char);
        if atom.is_empty() { Err("a word is missing") } else { Ok(atom) }
    }

    /// A quoted string or a literal.
    fn string(&mut self) -> Parsed<Vec<u8>> {
        match self.peek() {
            Some(b'"') => self.quoted(),
            Some(b'{') => self.literal(),
            _ => Err("a string is missing"),
        }
    }

    fn astring(&mut self) -> Parsed<Vec<u8>> {
        self.string_or(is_astring_char)
    }

    fn string_or(&mut self, accept: impl Fn(u8) -> bool) -> Parsed<Vec<u8>> {
        if matches!(self.peek(), Some(b'"' | b'{')) {
            return self.string();
        }
        let word = self.take_while(accept);
        if word.is_empty() { Err("a word or string is missing") } else { Ok(word.to_vec()) }
    }

    fn nstring(&mut self) -> Parsed<Option<Vec<u8>>> {
        if self.take_keyword("NIL") { Ok(None) } else { self.string().map(Some) }
    }

    fn quoted(&mut self) -> Parsed<Vec<u8>> {
        self.expect(b'"', "a quoted string is missing")?;
        let mut text = Vec::new();
        loop {
            let byte = self.peek().ok_or("a quoted string does not end")?;
            self.at += 1;
            match byte {
                b'"' => return Ok(text),
                b'\r' | b'\n' | 0 => return Err("a quoted string holds a line end or NUL"),
                b'\\' => {
                    let escaped = self.peek().filter(|byte| matches!(byte, b'"' | b'\\'));
                    text.push(escaped.ok_or("a backslash stands before another character than \" or \\")?);
                    self.at += 1;
                }
                _ => text.push(byte),
            }
        }
    }

    /// The announcement of a literal.
    fn literal_announced(&mut self) -> Parsed<LiteralAnnounced> {
        let rest = self.rest();
        let length = memchr::memchr(b'}', rest).ok_or("a literal is missing")? + 1;
        let announced = rest.get(..length).filter(|text| text.starts_with(b"{")).and_then(pending_literal);
        self.at += length;
        announced.ok_or("a literal is missing or not announced as {length}")
    }

    fn literal(&mut self) -> Parsed<Vec<u8>> {
        let length =
            usize::try_from(self.literal_announced()?.length).map_err(|_| "a literal is too long")?;
        self.take(b'\r');
        self.expect(b'\n', "a line end is missing behind the announcement of a literal")?;
        let text = self.rest().get(..length).ok_or("a literal is shorter than announced")?;
        if text.contains(&0) {
            return Err("a literal holds NUL");
        }
        self.at += length;
        Ok(text.to_vec())
    }

    /// Words, each behind a blank, up to the end of the line.
    fn words<T>(&mut self, mut word: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut words = Vec::new();
        while self.take(b' ') && !self.rest().is_empty() {
            if words.len() >= MAX_LIST {
                return Err("a list has too many elements");
            }
            words.push(word(self)?);
        }
        Ok(words)
    }

    /// Elements with one blank between them, up to the closing parenthesis; the opening one is read.
    fn list<T>(&mut self, mut element: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut list = Vec::new();
        while !self.take(b')') {
            if !list.is_empty() {
                self.space()?;
            }
            if list.len() >= MAX_LIST {
                return Err("a list has too many elements");
            }
            list.push(element(self)?);
        }
        Ok(list)
    }

    fn parenthesized<T>(&mut self, element: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        self.expect(b'(', "a list in parentheses is missing")?;
        self.list(element)
    }

    fn mailbox(&mut self) -> Parsed<WireMailbox> {
        self.astring().map(WireMailbox)
    }

    fn set(&mut self) -> Parsed<SequenceSet> {
        if self.take(b'$') {
            return Ok(SequenceSet::saved());
        }
        let mut ranges = Vec::new();
        loop {
            let start = self.bound()?;
            let end = if self.take(b':') { self.bound()? } else { start };
            ranges.push((start, end));
            if !self.take(b',') {
                return Ok(SequenceSet::new(ranges));
            }
            if ranges.len() >= MAX_RANGES {
                return Err("a set of messages has too many ranges");
            }
        }
    }

    fn bound(&mut self) -> Parsed<Bound> {
        if self.take(b'*') { Ok(Bound::Last) } else { self.nonzero().map(Bound::Number) }
    }

    fn flag(&mut self) -> Parsed<Flag> {
        if !self.take(b'\\') {
            return self.keyword_flag();
        }
        let name = self.atom()?;
        let known = [Flag::Seen, Flag::Answered, Flag::Flagged, Flag::Deleted, Flag::Draft, Flag::Recent];
        let found = known.into_iter().find(|flag| {
            flag.name().as_bytes().get(1..).is_some_and(|known| name.eq_ignore_ascii_case(known))
        });
        found.ok_or("a flag with a backslash is none of \\Seen, \\Answered, \\Flagged, \\Deleted and \\Draft")
    }

    fn keyword_flag(&mut self) -> Parsed<Flag> {
        let word = self.atom()?;
        if word.len() > MAX_KEYWORD {
            return Err("a keyword is too long");
        }
        Ok(Flag::Keyword(String::from_utf8_lossy(word).into_owned()))
    }

    /// A flag list in parentheses. `\Recent`, which only the server sets, is left out as some clients copy it.
    fn flag_list(&mut self) -> Parsed<Vec<Flag>> {
        let mut flags = self.parenthesized(Self::flag)?;
        flags.retain(|flag| *flag != Flag::Recent);
        Ok(flags)
    }
}

/// Commands.
impl Parser<'_> {
    fn command(&mut self) -> Parsed<Command> {
        let name = self.keyword()?;
        if name == "UID" {
            self.space()?;
            let name = self.keyword()?;
            return self.numbered(&name, Numbering::Uid)?.ok_or("this command has no UID form");
        }
        if let Some(command) = self.simple(&name) {
            return Ok(command);
        }
        if let Some(command) = self.of_mailbox(&name)? {
            return Ok(command);
        }
        if let Some(command) = self.numbered(&name, Numbering::Sequence)? {
            return Ok(command);
        }
        match name.as_str() {
            "GETQUOTA" => self.space().and_then(|()| self.astring()).map(Command::GetQuota),
            "SETQUOTA" => {
                self.at = self.bytes.len();
                Ok(Command::SetQuota)
            }
            "ID" => self.id(),
            "AUTHENTICATE" => self.authenticate(),
            "LOGIN" => self.login(),
            "COMPRESS" => self.space().and_then(|()| self.keyword()).map(Command::Compress),
            "ENABLE" => self.enable(),
            "LIST" => self.extended_list().map(Command::List),
            "LSUB" => self.list_pattern().map(Command::Lsub),
            _ => Err("this command is not known"),
        }
    }

    /// Commands without arguments.
    fn simple(&mut self, name: &str) -> Option<Command> {
        Some(match name {
            "CAPABILITY" => Command::Capability,
            "NOOP" => Command::Noop,
            "LOGOUT" => Command::Logout,
            "STARTTLS" => Command::Starttls,
            "NAMESPACE" => Command::Namespace,
            "IDLE" => Command::Idle,
            "CHECK" => Command::Check,
            "CLOSE" => Command::Close,
            "UNSELECT" => Command::Unselect,
            "EXPUNGE" => Command::Expunge,
            _ => return None,
        })
    }

    /// Commands that name messages, by sequence number or UID.
    fn numbered(&mut self, name: &str, numbering: Numbering) -> Parsed<Option<Command>> {
        match name {
            "SEARCH" => return self.search(numbering).map(Command::Search).map(Some),
            "SORT" => return self.sort(numbering).map(Some),
            "THREAD" => return self.thread(numbering).map(Some),
            _ => {}
        }
        let is_uid_expunge = name == "EXPUNGE" && numbering == Numbering::Uid;
        if !is_uid_expunge && !["FETCH", "STORE", "COPY", "MOVE"].contains(&name) {
            return Ok(None);
        }
        self.space()?;
        let set = self.set()?;
        if is_uid_expunge {
            return Ok(Some(Command::UidExpunge(set)));
        }
        self.space()?;
        Ok(Some(match name {
            "FETCH" => self.fetch(numbering, set)?,
            "STORE" => Command::Store(self.store(numbering, set)?),
            "COPY" => Command::Copy { numbering, set, mailbox: self.mailbox()? },
            _ => Command::Move { numbering, set, mailbox: self.mailbox()? },
        }))
    }

    fn id(&mut self) -> Parsed<Command> {
        self.space()?;
        if self.take_keyword("NIL") {
            return Ok(Command::Id(Vec::new()));
        }
        let pair = |parser: &mut Self| {
            let name = parser.string()?;
            parser.space()?;
            Ok((name, parser.nstring()?))
        };
        self.parenthesized(pair).map(Command::Id)
    }

    fn authenticate(&mut self) -> Parsed<Command> {
        self.space()?;
        let mechanism = self.keyword()?;
        if !self.take(b' ') {
            return Ok(Command::Authenticate { mechanism, initial: None });
        }
        let base64 =
            self.take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='));
        if base64.is_empty() {
            return Ok(Command::Authenticate { mechanism, initial: None });
        }
        let initial = if base64 == b"=" { Vec::new() } else { base64.to_vec() };
        Ok(Command::Authenticate { mechanism, initial: Some(Secret(initial)) })
    }

    fn login(&mut self) -> Parsed<Command> {
        self.space()?;
        let user = self.astring()?;
        self.space()?;
        Ok(Command::Login { user, password: Secret(self.astring()?) })
    }

    fn enable(&mut self) -> Parsed<Command> {
        let names = self.words(Self::keyword)?;
        if names.is_empty() { Err("ENABLE names nothing") } else { Ok(Command::Enable(names)) }
    }
}
