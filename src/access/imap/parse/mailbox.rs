//! Commands whose first argument is a mailbox, and LIST.

use super::super::command::{
    Command, List, ListPattern, ListReturn, NewcomerAnnounced, Qresync, StatusItem, WireMailbox,
};
use super::super::sequence::SequenceSet;
use super::{Parsed, Parser, is_list_char};
use crate::mailbox::special_use::SpecialUse;
use crate::message::date;

impl Parser<'_> {
    /// Commands whose first argument is a mailbox.
    pub(super) fn of_mailbox(&mut self, name: &str) -> Parsed<Option<Command>> {
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
            "GETQUOTAROOT",
        ];
        if !names.contains(&name) {
            return Ok(None);
        }
        self.space()?;
        let mailbox = self.mailbox()?;
        Ok(Some(match name {
            "SELECT" | "EXAMINE" => self.select(mailbox, name == "EXAMINE")?,
            "CREATE" => Command::Create { mailbox, uses: self.special_uses()? },
            "DELETE" => Command::Delete(mailbox),
            "SUBSCRIBE" => Command::Subscribe(mailbox),
            "UNSUBSCRIBE" => Command::Unsubscribe(mailbox),
            "GETQUOTAROOT" => Command::GetQuotaRoot(mailbox),
            "RENAME" => {
                self.space()?;
                Command::Rename { from: mailbox, to: self.mailbox()? }
            }
            "STATUS" => {
                self.space()?;
                Command::Status { mailbox, items: self.status_items()? }
            }
            _ => {
                self.space()?;
                Command::Append { mailbox, first: self.newcomer()? }
            }
        }))
    }

    /// SELECT and EXAMINE with their parameters (RFC 7162 §3.1.8, §3.2.5).
    fn select(&mut self, mailbox: WireMailbox, read_only: bool) -> Parsed<Command> {
        let (mut condstore, mut qresync) = (false, None);
        if self.take(b' ') && self.peek() == Some(b'(') {
            self.parenthesized(|parser| match parser.keyword()?.as_str() {
                "CONDSTORE" => {
                    condstore = true;
                    Ok(())
                }
                "QRESYNC" => {
                    parser.space()?;
                    qresync = Some(parser.qresync()?);
                    Ok(())
                }
                _ => Err("SELECT knows no such parameter"),
            })?;
        }
        Ok(Command::Select { mailbox, read_only, condstore, qresync })
    }

    /// `(uidvalidity modseq known-uids (numbers uids))`
    fn qresync(&mut self) -> Parsed<Qresync> {
        self.expect(b'(', "the arguments of QRESYNC are missing")?;
        let uidvalidity = self.nonzero()?.get();
        self.space()?;
        let modseq = self.modseq()?;
        let (mut known, mut matches) = (None, None);
        if self.take(b' ') {
            if self.peek() != Some(b'(') {
                known = Some(self.plain_set()?);
            }
            if (known.is_none() || self.take(b' ')) && self.take(b'(') {
                let numbers = self.plain_set()?;
                self.space()?;
                matches = Some((numbers, self.plain_set()?));
                self.expect(b')', "the matched messages of QRESYNC do not end with )")?;
            }
        }
        self.expect(b')', "the arguments of QRESYNC do not end with )")?;
        Ok(Qresync { uidvalidity, modseq, known, matches })
    }

    /// A set that is not `$`: there is no mailbox yet that it could belong to.
    fn plain_set(&mut self) -> Parsed<SequenceSet> {
        let set = self.set()?;
        if set.is_saved() { Err("$ means nothing here") } else { Ok(set) }
    }

    /// ` (USE (...))` behind CREATE (RFC 6154 §3); nothing if it is not there.
    fn special_uses(&mut self) -> Parsed<Option<Vec<SpecialUse>>> {
        if !(self.take(b' ') && self.peek() == Some(b'(')) {
            return Ok(Some(Vec::new()));
        }
        let all = self.parenthesized(|parser| {
            if parser.keyword()? != "USE" {
                return Err("CREATE knows no such parameter");
            }
            parser.space()?;
            parser.parenthesized(|parser| {
                parser.expect(b'\\', "a special use begins with a backslash")?;
                let name = format!("\\{}", String::from_utf8_lossy(parser.atom()?));
                Ok(SpecialUse::of_attribute(&name))
            })
        })?;
        Ok(all.concat().into_iter().collect())
    }

    /// Arguments of LIST (RFC 5258 §6).
    pub(super) fn extended_list(&mut self) -> Parsed<List> {
        self.space()?;
        let mut list = List::default();
        if self.peek() == Some(b'(') {
            self.parenthesized(|parser| parser.list_selection(&mut list))?;
            if list.recursive_match && !list.subscribed {
                return Err("RECURSIVEMATCH goes with SUBSCRIBED");
            }
            self.space()?;
        }
        list.reference = self.astring()?;
        self.space()?;
        list.patterns = match self.peek() {
            Some(b'(') => self.parenthesized(|parser| parser.string_or(is_list_char))?,
            _ => vec![self.string_or(is_list_char)?],
        };
        if self.take(b' ') && self.take_keyword("RETURN") {
            self.space()?;
            self.parenthesized(|parser| parser.list_return(&mut list.returns))?;
        }
        Ok(list)
    }

    fn list_selection(&mut self, list: &mut List) -> Parsed<()> {
        match self.keyword()?.as_str() {
            "SUBSCRIBED" => list.subscribed = true,
            "SPECIAL-USE" => list.special_use = true,
            "RECURSIVEMATCH" => list.recursive_match = true,
            // There are no mailboxes on other servers.
            "REMOTE" => {}
            _ => return Err("LIST knows no such selection option"),
        }
        Ok(())
    }

    fn list_return(&mut self, returns: &mut ListReturn) -> Parsed<()> {
        match self.keyword()?.as_str() {
            "SUBSCRIBED" => returns.subscribed = true,
            // These are told always.
            "CHILDREN" | "SPECIAL-USE" => {}
            "STATUS" => {
                self.space()?;
                returns.status = self.status_items()?;
            }
            _ => return Err("LIST knows no such return option"),
        }
        Ok(())
    }

    pub(super) fn list_pattern(&mut self) -> Parsed<ListPattern> {
        self.space()?;
        let reference = self.mailbox()?;
        self.space()?;
        Ok(ListPattern { reference, pattern: self.string_or(is_list_char)? })
    }

    fn status_items(&mut self) -> Parsed<Vec<StatusItem>> {
        let items = self.parenthesized(|parser| {
            let name = parser.keyword()?;
            StatusItem::of_name(&name).ok_or("STATUS knows no such item")
        })?;
        if items.is_empty() { Err("STATUS asks for nothing") } else { Ok(items) }
    }

    /// A message of an APPEND, up to its announcement.
    pub(super) fn newcomer(&mut self) -> Parsed<NewcomerAnnounced> {
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
        let utf8 = self.take_keyword("UTF8");
        if utf8 {
            self.space()?;
            self.expect(b'(', "a message in parentheses is missing behind UTF8")?;
        }
        // A literal8 (RFC 3516): bytes are taken as they come in any case.
        self.take(b'~');
        Ok(NewcomerAnnounced { flags, date, literal: self.literal_announced()?, utf8 })
    }
}
