//! Commands from bytes (RFC 3501 §9).
//!
//! The input is one whole command with its literals in place. What does not fit the grammar is a [`ParseError`], to be
//! answered with `BAD`; nothing is guessed beyond blanks at the end of a line. Lists are limited by [`MAX_LIST`],
//! sets by [`MAX_RANGES`], searches by [`MAX_SEARCH_DEPTH`] and [`MAX_SEARCH_KEYS`]; how long a command may be is for the
//! reader of the connection to say.

use std::num::NonZeroU32;

use super::command::{
    Command, DateField, DateRelation, FetchItem, Flag, ListPattern, LiteralAnnounced, Numbering, Request,
    SearchKey, Secret, StatusItem, StoreOperation, Tag, WireMailbox,
};
use super::reply::is_astring_char;
use super::sequence::{Bound, SequenceSet};
use crate::message::date;
use crate::message::section::{Section, SectionText};

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
            "ID" => self.id(),
            "AUTHENTICATE" => self.authenticate(),
            "LOGIN" => self.login(),
            "COMPRESS" => self.space().and_then(|()| self.keyword()).map(Command::Compress),
            "ENABLE" => self.enable(),
            "LIST" => self.list_pattern().map(Command::List),
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

    /// Commands whose first argument is a mailbox.
    fn of_mailbox(&mut self, name: &str) -> Parsed<Option<Command>> {
        let names = [
            "SELECT",
            "EXAMINE",
            "CREATE",
            "DELETE",
            "SUBSCRIBE",
            "UNSUBSCRIBE",
            "RENAME",
            "STATUS",
            "APPEND",
        ];
        if !names.contains(&name) {
            return Ok(None);
        }
        self.space()?;
        let mailbox = self.mailbox()?;
        Ok(Some(match name {
            "SELECT" => Command::Select(mailbox),
            "EXAMINE" => Command::Examine(mailbox),
            "CREATE" => Command::Create(mailbox),
            "DELETE" => Command::Delete(mailbox),
            "SUBSCRIBE" => Command::Subscribe(mailbox),
            "UNSUBSCRIBE" => Command::Unsubscribe(mailbox),
            "RENAME" => {
                self.space()?;
                Command::Rename { from: mailbox, to: self.mailbox()? }
            }
            "STATUS" => {
                self.space()?;
                let items = self.parenthesized(Self::status_item)?;
                if items.is_empty() {
                    return Err("STATUS asks for nothing");
                }
                Command::Status { mailbox, items }
            }
            _ => self.append(mailbox)?,
        }))
    }

    /// Commands that name messages, by sequence number or UID.
    fn numbered(&mut self, name: &str, numbering: Numbering) -> Parsed<Option<Command>> {
        if name == "SEARCH" {
            return self.search(numbering).map(Some);
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
            "FETCH" => Command::Fetch { numbering, set, items: self.fetch_items()? },
            "STORE" => self.store(numbering, set)?,
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
        let mut names = Vec::new();
        while self.take(b' ') && !self.rest().is_empty() {
            if names.len() >= MAX_LIST {
                return Err("a list has too many elements");
            }
            names.push(self.keyword()?);
        }
        if names.is_empty() { Err("ENABLE names nothing") } else { Ok(Command::Enable(names)) }
    }

    fn list_pattern(&mut self) -> Parsed<ListPattern> {
        self.space()?;
        let reference = self.mailbox()?;
        self.space()?;
        Ok(ListPattern { reference, pattern: self.string_or(is_list_char)? })
    }

    fn status_item(&mut self) -> Parsed<StatusItem> {
        match self.keyword()?.as_str() {
            "MESSAGES" => Ok(StatusItem::Messages),
            "RECENT" => Ok(StatusItem::Recent),
            "UIDNEXT" => Ok(StatusItem::UidNext),
            "UIDVALIDITY" => Ok(StatusItem::UidValidity),
            "UNSEEN" => Ok(StatusItem::Unseen),
            _ => Err("STATUS knows no such item"),
        }
    }

    fn append(&mut self, mailbox: WireMailbox) -> Parsed<Command> {
        self.space()?;
        let mut flags = Vec::new();
        if self.peek() == Some(b'(') {
            flags = self.flag_list()?;
            self.space()?;
        }
        let mut date = None;
        if self.peek() == Some(b'"') {
            let text = self.quoted()?;
            date = Some(
                date::parse_internal(&text).ok_or("the date is none like \"17-Jul-1996 02:44:25 -0700\"")?,
            );
            self.space()?;
        }
        Ok(Command::Append { mailbox, flags, date, literal: self.literal_announced()? })
    }

    fn store(&mut self, numbering: Numbering, set: SequenceSet) -> Parsed<Command> {
        let operation = match self.peek() {
            Some(b'+') => StoreOperation::Add,
            Some(b'-') => StoreOperation::Remove,
            _ => StoreOperation::Replace,
        };
        if operation != StoreOperation::Replace {
            self.at += 1;
        }
        let silent = match self.keyword()?.as_str() {
            "FLAGS" => false,
            "FLAGS.SILENT" => true,
            _ => return Err("STORE changes FLAGS, +FLAGS or -FLAGS"),
        };
        self.space()?;
        let mut flags = Vec::new();
        if self.peek() == Some(b'(') {
            flags = self.flag_list()?;
        } else {
            flags.push(self.flag()?);
            while self.take(b' ') && !self.rest().is_empty() {
                if flags.len() >= MAX_LIST {
                    return Err("a list has too many elements");
                }
                flags.push(self.flag()?);
            }
            flags.retain(|flag| *flag != Flag::Recent);
        }
        Ok(Command::Store { numbering, set, operation, silent, flags })
    }
}

/// FETCH.
impl Parser<'_> {
    fn fetch_items(&mut self) -> Parsed<Vec<FetchItem>> {
        let items = if self.peek() == Some(b'(') {
            self.parenthesized(Self::fetch_item)?.concat()
        } else {
            self.fetch_item()?
        };
        if items.is_empty() { Err("FETCH asks for nothing") } else { Ok(items) }
    }

    /// One item, or the items of a macro.
    fn fetch_item(&mut self) -> Parsed<Vec<FetchItem>> {
        use FetchItem::{Body, BodyStructure, Envelope, Flags, InternalDate, Rfc822Size, Uid};
        let name = self.keyword()?;
        let has_section = self.peek() == Some(b'[');
        Ok(match name.as_str() {
            "BODY" | "BODY.PEEK" if has_section => vec![self.body_section(name == "BODY.PEEK")?],
            "ALL" => vec![Flags, InternalDate, Rfc822Size, Envelope],
            "FAST" => vec![Flags, InternalDate, Rfc822Size],
            "FULL" => vec![Flags, InternalDate, Rfc822Size, Envelope, Body],
            "FLAGS" => vec![Flags],
            "INTERNALDATE" => vec![InternalDate],
            "RFC822.SIZE" => vec![Rfc822Size],
            "ENVELOPE" => vec![Envelope],
            "BODY" => vec![Body],
            "BODYSTRUCTURE" => vec![BodyStructure],
            "UID" => vec![Uid],
            "RFC822" => vec![FetchItem::Rfc822],
            "RFC822.HEADER" => vec![FetchItem::Rfc822Header],
            "RFC822.TEXT" => vec![FetchItem::Rfc822Text],
            _ => return Err("FETCH knows no such item"),
        })
    }

    fn body_section(&mut self, peek: bool) -> Parsed<FetchItem> {
        self.expect(b'[', "a section is missing")?;
        let mut part = Vec::new();
        let mut text = SectionText::Whole;
        let mut more = self.peek() != Some(b']');
        while more {
            if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
                text = self.section_text(!part.is_empty())?;
                break;
            }
            if part.len() >= MAX_SECTION_PARTS {
                return Err("a section has too many part numbers");
            }
            part.push(self.nonzero()?.get());
            more = self.take(b'.');
        }
        self.expect(b']', "a section does not end with ]")?;
        Ok(FetchItem::Section { section: Section { part, text }, peek, partial: self.partial()? })
    }

    fn section_text(&mut self, of_part: bool) -> Parsed<SectionText> {
        match self.keyword()?.as_str() {
            "HEADER" => Ok(SectionText::Header),
            "TEXT" => Ok(SectionText::Text),
            "MIME" if of_part => Ok(SectionText::Mime),
            "HEADER.FIELDS" => self.field_names().map(SectionText::HeaderFields),
            "HEADER.FIELDS.NOT" => self.field_names().map(SectionText::HeaderFieldsNot),
            _ => Err("there is no such section"),
        }
    }

    fn field_names(&mut self) -> Parsed<Vec<Vec<u8>>> {
        self.space()?;
        let names = self.parenthesized(Self::astring)?;
        if names.is_empty() { Err("a list of header fields is empty") } else { Ok(names) }
    }

    fn partial(&mut self) -> Parsed<Option<(u32, u32)>> {
        if !self.take(b'<') {
            return Ok(None);
        }
        let offset = self.number()?;
        self.expect(b'.', "a partial is not of the form <offset.count>")?;
        let count = self.nonzero()?.get();
        self.expect(b'>', "a partial is not of the form <offset.count>")?;
        Ok(Some((offset, count)))
    }
}

/// SEARCH.
impl Parser<'_> {
    fn search(&mut self, numbering: Numbering) -> Parsed<Command> {
        self.space()?;
        let mut charset = None;
        if self.take_keyword("CHARSET") {
            self.space()?;
            charset = Some(self.astring()?);
            self.space()?;
        }
        let mut keys = vec![self.search_key(0)?];
        while self.take(b' ') && !self.rest().is_empty() {
            keys.push(self.search_key(0)?);
        }
        Ok(Command::Search { numbering, charset, key: all_of(keys) })
    }

    fn search_key(&mut self, depth: usize) -> Parsed<SearchKey> {
        self.search_keys += 1;
        if self.search_keys > MAX_SEARCH_KEYS {
            return Err("a search has too many keys");
        }
        if depth > MAX_SEARCH_DEPTH {
            return Err("a search is nested too deeply");
        }
        match self.peek() {
            Some(b'(') => {
                let keys = self.parenthesized(|parser| parser.search_key(depth + 1))?;
                if keys.is_empty() { Err("a search has empty parentheses") } else { Ok(all_of(keys)) }
            }
            Some(b'0'..=b'9' | b'*') => self.set().map(SearchKey::Sequence),
            _ => {
                let name = self.keyword()?;
                if let Some(key) = search_word(&name) {
                    return Ok(key);
                }
                self.space()?;
                self.search_argument(&name, depth)
            }
        }
    }

    /// Keys with arguments; the blank behind the name is read.
    fn search_argument(&mut self, name: &str, depth: usize) -> Parsed<SearchKey> {
        Ok(match name {
            "NOT" => SearchKey::Not(Box::new(self.search_key(depth + 1)?)),
            "OR" => {
                let first = self.search_key(depth + 1)?;
                self.space()?;
                SearchKey::Or(Box::new(first), Box::new(self.search_key(depth + 1)?))
            }
            "UID" => SearchKey::Uid(self.set()?),
            "KEYWORD" => SearchKey::Flag { flag: self.keyword_flag()?, set: true },
            "UNKEYWORD" => SearchKey::Flag { flag: self.keyword_flag()?, set: false },
            "FROM" | "TO" | "CC" | "BCC" | "SUBJECT" => {
                SearchKey::Header { name: name.as_bytes().to_vec(), text: self.astring()? }
            }
            "HEADER" => {
                let name = self.astring()?;
                self.space()?;
                SearchKey::Header { name, text: self.astring()? }
            }
            "BODY" => SearchKey::Body(self.astring()?),
            "TEXT" => SearchKey::Text(self.astring()?),
            "LARGER" => SearchKey::Larger(self.number()?),
            "SMALLER" => SearchKey::Smaller(self.number()?),
            "BEFORE" => self.search_day(DateField::Internal, DateRelation::Before)?,
            "ON" => self.search_day(DateField::Internal, DateRelation::On)?,
            "SINCE" => self.search_day(DateField::Internal, DateRelation::Since)?,
            "SENTBEFORE" => self.search_day(DateField::Sent, DateRelation::Before)?,
            "SENTON" => self.search_day(DateField::Sent, DateRelation::On)?,
            "SENTSINCE" => self.search_day(DateField::Sent, DateRelation::Since)?,
            _ => return Err("SEARCH knows no such key"),
        })
    }

    fn search_day(&mut self, field: DateField, relation: DateRelation) -> Parsed<SearchKey> {
        let text = self.astring()?;
        let day = date::parse_day(&text).ok_or("a date is none like 1-Feb-1994")?;
        Ok(SearchKey::Date { field, relation, day })
    }
}

fn all_of(mut keys: Vec<SearchKey>) -> SearchKey {
    match keys.pop() {
        Some(only) if keys.is_empty() => only,
        Some(last) => {
            keys.push(last);
            SearchKey::And(keys)
        }
        None => SearchKey::All,
    }
}

/// Keys without arguments.
fn search_word(name: &str) -> Option<SearchKey> {
    let (flag, set) = match name {
        "ANSWERED" => (Flag::Answered, true),
        "UNANSWERED" => (Flag::Answered, false),
        "DELETED" => (Flag::Deleted, true),
        "UNDELETED" => (Flag::Deleted, false),
        "DRAFT" => (Flag::Draft, true),
        "UNDRAFT" => (Flag::Draft, false),
        "FLAGGED" => (Flag::Flagged, true),
        "UNFLAGGED" => (Flag::Flagged, false),
        "SEEN" => (Flag::Seen, true),
        "UNSEEN" => (Flag::Seen, false),
        "RECENT" => (Flag::Recent, true),
        "OLD" => (Flag::Recent, false),
        "ALL" => return Some(SearchKey::All),
        "NEW" => {
            let recent = SearchKey::Flag { flag: Flag::Recent, set: true };
            return Some(SearchKey::And(vec![recent, SearchKey::Flag { flag: Flag::Seen, set: false }]));
        }
        _ => return None,
    };
    Some(SearchKey::Flag { flag, set })
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::NaiveDate;
    use proptest::prelude::*;

    fn command(text: &str) -> Command {
        match parse(format!("a1 {text}\r\n").as_bytes()) {
            Ok(request) => request.command,
            Err(error) => panic!("{text}: {error}"),
        }
    }

    fn refused(text: &str) -> &'static str {
        match parse(format!("a1 {text}\r\n").as_bytes()) {
            Ok(request) => panic!("{text} was taken as {request:?}"),
            Err(error) => {
                assert_eq!(error.tag, Some(Tag("a1".into())));
                error.what
            }
        }
    }

    fn wire(name: &str) -> WireMailbox {
        WireMailbox(name.as_bytes().to_vec())
    }

    fn numbers(set: &SequenceSet, max: u32) -> Vec<u32> {
        set.resolve(max).iter().collect()
    }

    #[test]
    fn commands_of_words() {
        let cases = [
            ("CAPABILITY", Command::Capability),
            ("nOoP ", Command::Noop),
            ("LOGOUT", Command::Logout),
            ("STARTTLS", Command::Starttls),
            ("NAMESPACE", Command::Namespace),
            ("IDLE", Command::Idle),
            ("CHECK", Command::Check),
            ("CLOSE", Command::Close),
            ("UNSELECT", Command::Unselect),
            ("EXPUNGE", Command::Expunge),
            ("COMPRESS DEFLATE", Command::Compress("DEFLATE".into())),
            ("ENABLE condstore UTF8=ACCEPT", Command::Enable(vec!["CONDSTORE".into(), "UTF8=ACCEPT".into()])),
            ("ID NIL", Command::Id(vec![])),
            (
                "ID (\"name\" \"x\" \"os\" NIL)",
                Command::Id(vec![(b"name".into(), Some(b"x".into())), (b"os".into(), None)]),
            ),
            ("SELECT INBOX", Command::Select(wire("INBOX"))),
            ("examine \"Sent Items\"", Command::Examine(wire("Sent Items"))),
            ("CREATE {5}\r\na\"b\\c", Command::Create(wire("a\"b\\c"))),
            ("CREATE {5+}\r\nA.B}]", Command::Create(wire("A.B}]"))),
            ("DELETE &ZeVnLIqe-", Command::Delete(wire("&ZeVnLIqe-"))),
            ("RENAME a b", Command::Rename { from: wire("a"), to: wire("b") }),
            ("SUBSCRIBE a", Command::Subscribe(wire("a"))),
            ("UNSUBSCRIBE a", Command::Unsubscribe(wire("a"))),
            ("LIST \"\" %.*", Command::List(ListPattern { reference: wire(""), pattern: b"%.*".into() })),
            (
                "LSUB \"#public.\" \"*\"",
                Command::Lsub(ListPattern { reference: wire("#public."), pattern: b"*".into() }),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(command(text), expected, "{text}");
        }
        let items = vec![
            StatusItem::UidNext,
            StatusItem::Messages,
            StatusItem::Recent,
            StatusItem::UidValidity,
            StatusItem::Unseen,
        ];
        assert_eq!(
            command("STATUS blurdybloop (UIDNEXT MESSAGES RECENT UIDVALIDITY UNSEEN)"),
            Command::Status { mailbox: wire("blurdybloop"), items }
        );
    }

    #[test]
    fn logins() {
        let login = |user: &str, password: &str| Command::Login {
            user: user.into(),
            password: Secret(password.into()),
        };
        assert_eq!(command("LOGIN smith sesame"), login("smith", "sesame"));
        assert_eq!(command("login \"a@b.example\" \"p\\\"w\\\\\""), login("a@b.example", "p\"w\\"));
        assert_eq!(command("LOGIN {3}\r\nbob {4+}\r\na\r\nb"), login("bob", "a\r\nb"));
        assert_eq!(command("LOGIN \"\" \"\""), login("", ""));
        assert!(!format!("{:?}", command("LOGIN smith sesame")).contains("sesame"));
        let authenticate = |mechanism: &str, initial: Option<&str>| Command::Authenticate {
            mechanism: mechanism.into(),
            initial: initial.map(|text| Secret(text.into())),
        };
        assert_eq!(command("AUTHENTICATE plain"), authenticate("PLAIN", None));
        assert_eq!(command("AUTHENTICATE CRAM-MD5"), authenticate("CRAM-MD5", None));
        assert_eq!(command("AUTHENTICATE PLAIN AGEAYg=="), authenticate("PLAIN", Some("AGEAYg==")));
        assert_eq!(command("AUTHENTICATE EXTERNAL ="), authenticate("EXTERNAL", Some("")));
    }

    #[test]
    fn appends_end_with_the_announcement() {
        let text = "APPEND saved-messages (\\Seen $Forwarded \\Recent) \"17-Jul-1996 02:44:25 -0700\" {310}";
        let Command::Append { mailbox, flags, date, literal } = command(text) else { panic!("no append") };
        assert_eq!(mailbox, wire("saved-messages"));
        assert_eq!(flags, [Flag::Seen, Flag::Keyword("$Forwarded".into())]);
        assert_eq!(date.unwrap().to_rfc3339(), "1996-07-17T02:44:25-07:00");
        assert_eq!(literal, LiteralAnnounced { length: 310, sync: true });
        let cases: [(&str, bool); 8] = [
            ("a APPEND x {5}\r\n", true),
            ("a append {1}\r\nx {5+}\r\n", true),
            ("a APPEND x () {5}\r\n", true),
            ("a APPEND x \" 1-Jan-2020 00:00:00 +0900\" {99999999999999}\r\n", true),
            ("a APPEND {1}\r\n", false),
            ("a APPEND x y {5}\r\n", false),
            ("a LOGIN x {5}\r\n", false),
            ("a APPEND x {5}\r\nhello", false),
        ];
        for (text, expected) in cases {
            assert_eq!(is_append_message_literal(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn pending_literals() {
        let literal = |length, sync| Some(LiteralAnnounced { length, sync });
        let cases = [
            ("a LOGIN {5}\r\n", literal(5, true)),
            ("a LOGIN {5+}", literal(5, false)),
            ("{0}\n", literal(0, true)),
            ("a LOGIN {99999999999999999999999}\r\n", literal(u64::MAX, true)),
            ("a LOGIN x \"{5}\"\r\n", None),
            ("a LOGIN {}\r\n", None),
            ("a LOGIN {+}\r\n", None),
            ("a LOGIN {5-}\r\n", None),
            ("a LOGIN 5}\r\n", None),
            ("a LOGIN {5} \r\n", None),
            ("", None),
        ];
        for (line, expected) in cases {
            assert_eq!(pending_literal(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn fetches() {
        let items = |text: &str| match command(&format!("FETCH 1 {text}")) {
            Command::Fetch { items, numbering: Numbering::Sequence, .. } => items,
            other => panic!("{other:?}"),
        };
        use FetchItem::{Body, BodyStructure, Envelope, Flags, InternalDate, Rfc822Size, Uid};
        assert_eq!(items("ALL"), [Flags, InternalDate, Rfc822Size, Envelope]);
        assert_eq!(items("fast"), [Flags, InternalDate, Rfc822Size]);
        assert_eq!(items("FULL"), [Flags, InternalDate, Rfc822Size, Envelope, Body]);
        assert_eq!(items("(UID BODY BODYSTRUCTURE)"), [Uid, Body, BodyStructure]);
        assert_eq!(items("RFC822.TEXT"), [FetchItem::Rfc822Text]);
        assert_eq!(items("(RFC822.HEADER RFC822)"), [FetchItem::Rfc822Header, FetchItem::Rfc822]);
        assert!(items("BODY[]").iter().all(FetchItem::marks_seen));
        assert!(!items("BODY.PEEK[]").iter().any(FetchItem::marks_seen));
        let sections = [
            "BODY[]",
            "BODY[HEADER]",
            "BODY[TEXT]",
            "BODY[1]",
            "BODY[4.2.HEADER]",
            "BODY[4.2.2.1]",
            "BODY[1.MIME]",
            "BODY[HEADER.FIELDS (DATE FROM)]",
            "BODY[2.HEADER.FIELDS.NOT (X-A \"a b\")]",
            "BODY[3.TEXT]",
        ];
        for text in sections {
            let parsed = items(text);
            let [FetchItem::Section { section, peek: false, partial: None }] = parsed.as_slice() else {
                panic!("{text}")
            };
            let mut out = b"BODY".to_vec();
            section.write(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
        let parsed = items("body.peek[text]<10.20>");
        assert!(matches!(
            parsed.as_slice(),
            [FetchItem::Section { partial: Some((10, 20)), peek: true, .. }]
        ));
        let Command::Fetch { numbering: Numbering::Uid, set, .. } = command("UID FETCH 3:*,1,7:5 FLAGS")
        else {
            panic!()
        };
        assert_eq!(numbers(&set, 8), [1, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn stores_copies_and_moves() {
        let store = |text: &str| match command(&format!("STORE 2:4 {text}")) {
            Command::Store { operation, silent, flags, .. } => (operation, silent, flags),
            other => panic!("{other:?}"),
        };
        assert_eq!(store("+FLAGS (\\Deleted)"), (StoreOperation::Add, false, vec![Flag::Deleted]));
        assert_eq!(
            store("-flags.silent \\SEEN foo"),
            (StoreOperation::Remove, true, vec![Flag::Seen, Flag::Keyword("foo".into())])
        );
        assert_eq!(store("FLAGS ()"), (StoreOperation::Replace, false, vec![]));
        assert!(matches!(command("UID COPY 1 a"), Command::Copy { numbering: Numbering::Uid, .. }));
        assert!(matches!(command("MOVE 1:2 a"), Command::Move { numbering: Numbering::Sequence, .. }));
        assert!(matches!(command("UID EXPUNGE 1:*"), Command::UidExpunge(_)));
    }

    #[test]
    fn searches() {
        let key = |text: &str| match command(&format!("SEARCH {text}")) {
            Command::Search { key, .. } => key,
            other => panic!("{other:?}"),
        };
        let flag = |flag, set| SearchKey::Flag { flag, set };
        let header = |name: &str, text: &str| SearchKey::Header { name: name.into(), text: text.into() };
        let day = |field, relation| SearchKey::Date {
            field,
            relation,
            day: NaiveDate::from_ymd_opt(1994, 2, 1).unwrap(),
        };
        assert_eq!(key("ALL"), SearchKey::All);
        assert_eq!(key("unseen"), flag(Flag::Seen, false));
        assert_eq!(key("NEW"), SearchKey::And(vec![flag(Flag::Recent, true), flag(Flag::Seen, false)]));
        assert_eq!(key("UNKEYWORD $Junk"), flag(Flag::Keyword("$Junk".into()), false));
        assert_eq!(key("FROM \"Smith\""), header("FROM", "Smith"));
        assert_eq!(key("HEADER X-Spam {2}\r\nab"), header("X-Spam", "ab"));
        assert_eq!(key("SINCE 1-Feb-1994"), day(DateField::Internal, DateRelation::Since));
        assert_eq!(key("SENTBEFORE \"01-FEB-1994\""), day(DateField::Sent, DateRelation::Before));
        assert_eq!(key("LARGER 100"), SearchKey::Larger(100));
        assert_eq!(
            key("NOT (OR SMALLER 5 TEXT x) DELETED"),
            SearchKey::And(vec![
                SearchKey::Not(Box::new(SearchKey::Or(
                    Box::new(SearchKey::Smaller(5)),
                    Box::new(SearchKey::Text(b"x".into()))
                ))),
                flag(Flag::Deleted, true)
            ])
        );
        assert!(matches!(key("UID 1:5"), SearchKey::Uid(_)));
        assert!(matches!(key("1:5,*"), SearchKey::Sequence(_)));
        let Command::Search { numbering: Numbering::Uid, charset, .. } =
            command("UID SEARCH CHARSET ISO-2022-JP BODY x")
        else {
            panic!()
        };
        assert_eq!(charset, Some(b"ISO-2022-JP".to_vec()));
    }

    #[test]
    fn searches_are_limited() {
        refused(&format!("SEARCH {}ALL", "NOT ".repeat(100_000)));
        refused(&format!("SEARCH {}ALL", "(".repeat(100_000)));
        refused(&format!("SEARCH ALL{}", " ALL".repeat(MAX_SEARCH_KEYS)));
        assert!(matches!(
            command(&format!("SEARCH {}ALL", "NOT ".repeat(MAX_SEARCH_DEPTH))),
            Command::Search { .. }
        ));
    }

    #[test]
    fn broken_commands_are_refused() {
        for text in [
            "",
            "FOO",
            "UID NOOP",
            "UID",
            "NOOP x",
            "SELECT",
            "SELECT  a",
            "SELECT \"a",
            "SELECT \"a\\b\"",
            "SELECT {5}\r\nabc",
            "SELECT {1}\r\n\0",
            "SELECT a(b",
            "LOGIN x",
            "LOGIN x y z",
            "FETCH 0 FLAGS",
            "FETCH 1:2: FLAGS",
            "FETCH 1 ()",
            "FETCH , FLAGS",
            "FETCH 4294967296 FLAGS",
            "FETCH 1 FOO",
            "FETCH 1 BODY[0]",
            "FETCH 1 BODY[MIME]",
            "FETCH 1 BODY[1.]",
            "FETCH 1 BODY[HEADER.FIELDS ()]",
            "FETCH 1 BODY[]<1>",
            "FETCH 1 BODY[]<1.0>",
            "FETCH 1 BODY.PEEK",
            "STORE 1 FLAG x",
            "STORE 1 FLAGS \\Foo",
            "STORE 1 FLAGS",
            "SEARCH",
            "SEARCH ()",
            "SEARCH FOO",
            "SEARCH OR ALL",
            "SEARCH SINCE 31-Feb-2000",
            "SEARCH CHARSET UTF-8",
            "STATUS a ()",
            "STATUS a (FOO)",
            "ENABLE",
            "APPEND a x",
            "LIST a",
            "ID (\"a\")",
        ] {
            refused(text);
        }
        for line in ["", "\r\n", "+ NOOP\r\n", "\"a\" NOOP\r\n", "(a NOOP\r\n"] {
            assert_eq!(parse(line.as_bytes()).unwrap_err().tag, None, "{line}");
        }
    }

    /// Pieces of commands, so that random sequences get deep into the grammar.
    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop::sample::select(vec![
            "a ",
            "UID ",
            "FETCH ",
            "SEARCH ",
            "STORE ",
            "APPEND ",
            "LOGIN ",
            "STATUS ",
            "1:*",
            ",",
            " ",
            "(",
            ")",
            "\"",
            "\\",
            "{3}\r\n",
            "{3+}\r\nabc",
            "{99999999999}\r\n",
            "BODY[",
            "HEADER.FIELDS",
            "]",
            "<1.2>",
            "NOT ",
            "OR ",
            "CHARSET ",
            "NIL",
            "FLAGS",
            "\\Seen",
            "1-Feb-1994",
            "\u{ff}",
            "\0",
            "\r\n",
        ]);
        prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), text in pieces()) {
            let _ = (parse(&bytes), pending_literal(&bytes), is_append_message_literal(&bytes));
            let _ = (parse(&text), pending_literal(&text), is_append_message_literal(&text));
        }

        #[test]
        fn strings_that_we_write_are_read_back(text in prop::collection::vec(1u8.., 0..50)) {
            let mut line = b"a SELECT ".to_vec();
            super::super::reply::astring(&mut line, &text);
            line.extend_from_slice(b"\r\n");
            prop_assert_eq!(parse(&line).unwrap().command, Command::Select(WireMailbox(text)));
        }
    }
}
