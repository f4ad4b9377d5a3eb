//! FETCH and STORE.

use super::super::command::{Command, FetchItem, Flag, Numbering, Store, StoreOperation};
use super::super::sequence::SequenceSet;
use super::{MAX_SECTION_PARTS, Parsed, Parser};
use crate::message::section::{Section, SectionText};

impl Parser<'_> {
    /// FETCH with its modifiers (RFC 7162 §3.1.4.1, §3.2.6).
    pub(super) fn fetch(&mut self, numbering: Numbering, set: SequenceSet) -> Parsed<Command> {
        let items = self.fetch_items()?;
        let (mut changed_since, mut vanished) = (None, false);
        if self.take(b' ') && self.peek() == Some(b'(') {
            self.parenthesized(|parser| {
                match parser.keyword()?.as_str() {
                    "CHANGEDSINCE" => {
                        parser.space()?;
                        changed_since = Some(parser.modseq()?);
                    }
                    "VANISHED" => vanished = true,
                    _ => return Err("FETCH knows no such modifier"),
                }
                Ok(())
            })?;
        }
        if vanished && (changed_since.is_none() || numbering == Numbering::Sequence) {
            return Err("VANISHED goes with UID FETCH and CHANGEDSINCE");
        }
        Ok(Command::Fetch { numbering, set, items, changed_since, vanished })
    }

    /// Everything behind the set of STORE.
    pub(super) fn store(&mut self, numbering: Numbering, set: SequenceSet) -> Parsed<Store> {
        let mut unchanged_since = None;
        if self.take(b'(') {
            if !self.take_keyword("UNCHANGEDSINCE") {
                return Err("STORE knows no such modifier");
            }
            self.space()?;
            unchanged_since = Some(self.modseq()?);
            self.expect(b')', "a modifier does not end with )")?;
            self.space()?;
        }
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
        let flags = if self.peek() == Some(b'(') {
            self.flag_list()?
        } else {
            let mut flags = vec![self.flag()?];
            flags.extend(self.words(Self::flag)?);
            flags.retain(|flag| *flag != Flag::Recent);
            flags
        };
        Ok(Store { numbering, set, unchanged_since, operation, silent, flags })
    }

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
            "BINARY" | "BINARY.PEEK" if has_section => {
                let part = self.binary_part()?;
                vec![FetchItem::Binary { part, peek: name == "BINARY.PEEK", partial: self.partial()? }]
            }
            "BINARY.SIZE" => vec![FetchItem::BinarySize(self.binary_part()?)],
            "PREVIEW" => {
                self.lazy();
                vec![FetchItem::Preview]
            }
            "MODSEQ" => vec![FetchItem::ModSeq],
            "EMAILID" => vec![FetchItem::EmailId],
            "THREADID" => vec![FetchItem::ThreadId],
            "SAVEDATE" => vec![FetchItem::SaveDate],
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

    /// Skips ` (LAZY)`: a preview is made at once in any case (RFC 8970 §3.1).
    fn lazy(&mut self) {
        const LAZY: &[u8] = b" (LAZY)";
        if self.rest().get(..LAZY.len()).is_some_and(|rest| rest.eq_ignore_ascii_case(LAZY)) {
            self.at += LAZY.len();
        }
    }

    fn body_section(&mut self, peek: bool) -> Parsed<FetchItem> {
        self.expect(b'[', "a section is missing")?;
        let (part, more) = self.part_numbers()?;
        let text = if more { self.section_text(!part.is_empty())? } else { SectionText::Whole };
        self.expect(b']', "a section does not end with ]")?;
        Ok(FetchItem::Section { section: Section { part, text }, peek, partial: self.partial()? })
    }

    /// `[1.2]`
    fn binary_part(&mut self) -> Parsed<Vec<u32>> {
        self.expect(b'[', "a section is missing")?;
        let (part, more) = self.part_numbers()?;
        if more {
            return Err("a section of BINARY has only part numbers");
        }
        self.expect(b']', "a section does not end with ]")?;
        Ok(part)
    }

    /// Part numbers, and whether something else must follow.
    fn part_numbers(&mut self) -> Parsed<(Vec<u32>, bool)> {
        let mut part = Vec::new();
        let mut more = self.peek() != Some(b']');
        while more && self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            if part.len() >= MAX_SECTION_PARTS {
                return Err("a section has too many part numbers");
            }
            part.push(self.nonzero()?.get());
            more = self.take(b'.');
        }
        Ok((part, more))
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
