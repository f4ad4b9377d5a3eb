//! SEARCH, SORT and THREAD.

use super::super::command::{
    Command, DateField, DateRelation, Flag, Numbering, Search, SearchKey, SearchReturn, SortField, SortKey,
    ThreadAlgorithm,
};
use super::{MAX_SEARCH_DEPTH, MAX_SEARCH_KEYS, Parsed, Parser};
use crate::message::date;

impl Parser<'_> {
    /// SEARCH, with what it returns (RFC 4731).
    pub(super) fn search(&mut self, numbering: Numbering) -> Parsed<Search> {
        self.space()?;
        let returns = self.search_return()?;
        let mut charset = None;
        if self.take_keyword("CHARSET") {
            self.space()?;
            charset = Some(self.astring()?);
            self.space()?;
        }
        Ok(Search { numbering, returns, charset, key: self.search_keys()? })
    }

    /// SORT (RFC 5256 §3), with what it returns (RFC 5267 §3).
    pub(super) fn sort(&mut self, numbering: Numbering) -> Parsed<Command> {
        self.space()?;
        let returns = self.search_return()?;
        let order = self.parenthesized(Self::sort_key)?;
        if order.is_empty() {
            return Err("SORT has no order");
        }
        self.space()?;
        Ok(Command::Sort { search: self.search_in_charset(numbering, returns)?, order })
    }

    /// THREAD (RFC 5256 §3).
    pub(super) fn thread(&mut self, numbering: Numbering) -> Parsed<Command> {
        self.space()?;
        let algorithm = match self.keyword()?.as_str() {
            "ORDEREDSUBJECT" => ThreadAlgorithm::OrderedSubject,
            "REFERENCES" => ThreadAlgorithm::References,
            _ => return Err("THREAD knows ORDEREDSUBJECT and REFERENCES"),
        };
        self.space()?;
        Ok(Command::Thread { search: self.search_in_charset(numbering, None)?, algorithm })
    }

    /// The charset, which SORT and THREAD always have, and the keys.
    fn search_in_charset(&mut self, numbering: Numbering, returns: Option<SearchReturn>) -> Parsed<Search> {
        let charset = Some(self.astring()?);
        self.space()?;
        Ok(Search { numbering, returns, charset, key: self.search_keys()? })
    }

    /// `RETURN (...) `; `None` if it is not there. Without options it means ALL.
    fn search_return(&mut self) -> Parsed<Option<SearchReturn>> {
        if !self.take_keyword("RETURN") {
            return Ok(None);
        }
        self.space()?;
        let mut returns = SearchReturn::default();
        self.parenthesized(|parser| {
            match parser.keyword()?.as_str() {
                "MIN" => returns.min = true,
                "MAX" => returns.max = true,
                "ALL" => returns.all = true,
                "COUNT" => returns.count = true,
                "SAVE" => returns.save = true,
                _ => return Err("SEARCH returns MIN, MAX, ALL, COUNT and SAVE"),
            }
            Ok(())
        })?;
        returns.all |= returns == SearchReturn::default();
        self.space()?;
        Ok(Some(returns))
    }

    fn sort_key(&mut self) -> Parsed<SortKey> {
        let reverse = self.take_keyword("REVERSE");
        if reverse {
            self.space()?;
        }
        let field = match self.keyword()?.as_str() {
            "ARRIVAL" => SortField::Arrival,
            "CC" => SortField::Address("Cc"),
            "FROM" => SortField::Address("From"),
            "TO" => SortField::Address("To"),
            "DATE" => SortField::Date,
            "SIZE" => SortField::Size,
            "SUBJECT" => SortField::Subject,
            "DISPLAYFROM" => SortField::Display("From"),
            "DISPLAYTO" => SortField::Display("To"),
            _ => return Err("SORT knows no such order"),
        };
        Ok(SortKey { field, reverse })
    }

    fn search_keys(&mut self) -> Parsed<SearchKey> {
        let mut keys = vec![self.search_key(0)?];
        while self.take(b' ') && !self.rest().is_empty() {
            keys.push(self.search_key(0)?);
        }
        Ok(all_of(keys))
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
            Some(b'0'..=b'9' | b'*' | b'$') => self.set().map(SearchKey::Sequence),
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
            "SAVEDBEFORE" => self.search_day(DateField::Saved, DateRelation::Before)?,
            "SAVEDON" => self.search_day(DateField::Saved, DateRelation::On)?,
            "SAVEDSINCE" => self.search_day(DateField::Saved, DateRelation::Since)?,
            "YOUNGER" => SearchKey::Younger(self.nonzero()?.get()),
            "OLDER" => SearchKey::Older(self.nonzero()?.get()),
            "MODSEQ" => {
                // The name of a flag and whose it is are for servers that count changes of each flag apart.
                if self.peek() == Some(b'"') {
                    self.quoted()?;
                    self.space()?;
                    self.keyword()?;
                    self.space()?;
                }
                SearchKey::ModSeq(self.modseq()?)
            }
            "EMAILID" => SearchKey::EmailId(self.astring()?),
            "THREADID" => SearchKey::ThreadId(self.astring()?),
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
        "SAVEDATESUPPORTED" => return Some(SearchKey::SaveDateSupported),
        "NEW" => {
            let recent = SearchKey::Flag { flag: Flag::Recent, set: true };
            return Some(SearchKey::And(vec![recent, SearchKey::Flag { flag: Flag::Seen, set: false }]));
        }
        _ => return None,
    };
    Some(SearchKey::Flag { flag, set })
}
