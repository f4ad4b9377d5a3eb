//! The tree of mailboxes: CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE, LIST, LSUB (RFC 3501 §6.3.3 to §6.3.9).
//!
//! The delimiter is `.`: the only one on record for IMail. Names that differ only in case are one mailbox, so patterns are compared
//! without regard to case.

use super::command::{ListPattern, Numbering, WireMailbox};
use super::outcome::{Outcome, done, of_disk};
use super::reply;
use super::session::{Session, mailbox_name};
use crate::mailbox::folders::is_below;
use crate::session::connection::Blocking;
use layout::lock::PATIENCE;
use layout::name::{MailboxName, utf7};
use std::collections::BTreeMap;
use std::io::Write as _;

/// The longest pattern that is compared, in bytes: longer than any name with a wildcard between all characters.
const PATTERN_MAX: usize = 1000;

impl Session {
    /// CREATE. A delimiter at the end says that mailboxes will be made below, and is left out (RFC 3501 §6.3.3).
    pub(super) fn create(&mut self, mailbox: &WireMailbox) -> Outcome {
        let name = mailbox.0.strip_suffix(b".").unwrap_or(&mailbox.0);
        let name = mailbox_name(&WireMailbox(name.to_vec()))?;
        self.folders()?.create(&name)?;
        done("CREATE completed")
    }

    /// DELETE.
    pub(super) fn delete(&mut self, mailbox: &WireMailbox) -> Outcome {
        self.folders()?.delete(&mailbox_name(mailbox)?)?;
        done("DELETE completed")
    }

    /// RENAME. From the INBOX the messages are moved, and it stays, empty (RFC 3501 §6.3.5).
    pub(super) fn rename(&mut self, from: &WireMailbox, to: &WireMailbox) -> Outcome {
        let (from, to) = (mailbox_name(from)?, mailbox_name(to)?);
        if !from.is_inbox() {
            self.folders()?.rename(&from, &to)?;
            return done("RENAME completed");
        }
        self.folders()?.create(&to)?;
        let dir = &self.user()?.dir;
        let (inbox, target) = (self.server.hub.open(dir, &from), self.server.hub.open(dir, &to));
        let uids = inbox.with(|mailbox| mailbox.refresh(PATIENCE).map(|_| mailbox.uids()))?;
        let copied = match self.transfer(&inbox, &uids, &target, Numbering::Uid) {
            Ok(copied) => copied,
            Err(failed) => {
                self.folders()?.delete(&to)?;
                return Err(failed);
            }
        };
        let moved: Vec<(u32, u32)> = copied.iter().map(|(old, _)| (*old, *old)).collect();
        inbox.with(|mailbox| mailbox.expunge(&moved, PATIENCE))?;
        done("RENAME completed, the messages of the INBOX were moved")
    }

    /// SUBSCRIBE and UNSUBSCRIBE.
    pub(super) fn subscribe(&mut self, mailbox: &WireMailbox, on: bool) -> Outcome {
        self.folders()?.subscribe(&mailbox_name(mailbox)?, on)?;
        done(if on { "SUBSCRIBE completed" } else { "UNSUBSCRIBE completed" })
    }

    /// LIST.
    pub(super) fn list(&mut self, out: &mut Blocking<'_>, pattern: &ListPattern) -> Outcome {
        // An empty pattern asks for the delimiter (RFC 3501 §6.3.8).
        if pattern.pattern.is_empty() {
            out.write_all(b"* LIST (\\Noselect) \".\" \"\"\r\n")?;
            return done("LIST completed");
        }
        let names = self.folders()?.list().map_err(|error| of_disk(&error))?;
        let tree = tree_of(names.iter());
        let pattern = Pattern::new(pattern);
        let mut answer = Vec::new();
        for node in tree.values().filter(|node| pattern.matches(&node.name)) {
            let children = if node.children { "\\HasChildren" } else { "\\HasNoChildren" };
            let select = if node.real { "" } else { "\\Noselect " };
            write!(answer, "* LIST ({select}{children}) \".\" ")?;
            reply::astring(&mut answer, node.name.wire().as_bytes());
            answer.extend_from_slice(b"\r\n");
        }
        out.write_all(&answer)?;
        done("LIST completed")
    }

    /// LSUB. A level that is not subscribed itself is named if `%` stops at it (RFC 3501 §6.3.9).
    pub(super) fn lsub(&mut self, out: &mut Blocking<'_>, pattern: &ListPattern) -> Outcome {
        let folders = self.folders()?;
        let names: Vec<MailboxName> = match folders.subscriptions().map_err(|error| of_disk(&error))? {
            Some(names) => names.into_iter().collect(),
            None => folders.list().map_err(|error| of_disk(&error))?,
        };
        let tree = tree_of(names.iter());
        let pattern = Pattern::new(pattern);
        let mut answer = Vec::new();
        for node in tree.values().filter(|node| pattern.matches(&node.name)) {
            if !node.real && !pattern.stops_at_levels() {
                continue;
            }
            let select = if node.real { "" } else { "\\Noselect" };
            write!(answer, "* LSUB ({select}) \".\" ")?;
            reply::astring(&mut answer, node.name.wire().as_bytes());
            answer.extend_from_slice(b"\r\n");
        }
        out.write_all(&answer)?;
        done("LSUB completed")
    }
}

/// A name of the tree.
struct Node {
    name: MailboxName,
    /// A mailbox; else only a level of others.
    real: bool,
    children: bool,
}

/// The names and all levels above them, by their keys.
fn tree_of<'a>(names: impl Iterator<Item = &'a MailboxName>) -> BTreeMap<String, Node> {
    let mut tree: BTreeMap<String, Node> = BTreeMap::new();
    let mut levels = Vec::new();
    for name in names {
        let node = Node { name: name.clone(), real: true, children: false };
        tree.insert(name.key().to_owned(), node);
        let mut above = name.parent();
        while let Some(level) = above {
            above = level.parent();
            levels.push(level);
        }
    }
    for name in levels {
        debug_assert!(!is_below(&name, &name));
        let key = name.key().to_owned();
        tree.entry(key).or_insert(Node { name, real: false, children: true }).children = true;
    }
    tree
}

/// A pattern with its reference in front of it.
struct Pattern {
    characters: Vec<char>,
}

impl Pattern {
    fn new(pattern: &ListPattern) -> Pattern {
        let whole = [pattern.reference.0.as_slice(), &pattern.pattern].concat();
        let wire = String::from_utf8_lossy(whole.get(..PATTERN_MAX).unwrap_or(&whole)).into_owned();
        let text = utf7::decode(&wire).unwrap_or(wire).to_lowercase();
        // `main` is the INBOX wherever it is named.
        let text = if text == "main" { "inbox".to_owned() } else { text };
        Pattern { characters: text.chars().collect() }
    }

    /// Does a `%` stand at the end, so that names further down show as their level?
    fn stops_at_levels(&self) -> bool {
        self.characters.last() == Some(&'%')
    }

    /// `*` stands for anything, `%` for anything without a delimiter. Time is the product of both lengths.
    fn matches(&self, name: &MailboxName) -> bool {
        // One flag a place in the pattern: can the characters so far end here?
        let mut places = vec![false; self.characters.len() + 1];
        if let Some(first) = places.first_mut() {
            *first = true;
        }
        self.skip_wildcards(&mut places);
        for c in name.key().chars() {
            let mut next = vec![false; places.len()];
            for (index, wanted) in self.characters.iter().enumerate() {
                if !places.get(index).copied().unwrap_or(false) {
                    continue;
                }
                let stays = *wanted == '*' || (*wanted == '%' && c != '.');
                let place = if stays { index } else { index + 1 };
                if (stays || (*wanted == c && !matches!(wanted, '*' | '%')))
                    && let Some(reached) = next.get_mut(place)
                {
                    *reached = true;
                }
            }
            self.skip_wildcards(&mut next);
            places = next;
        }
        places.last().copied().unwrap_or(false)
    }

    /// A wildcard may stand for nothing.
    fn skip_wildcards(&self, places: &mut [bool]) {
        for (index, wanted) in self.characters.iter().enumerate() {
            if matches!(wanted, '*' | '%')
                && places.get(index) == Some(&true)
                && let Some(next) = places.get_mut(index + 1)
            {
                *next = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(reference: &str, pattern: &str) -> Pattern {
        Pattern::new(&ListPattern { reference: WireMailbox(reference.into()), pattern: pattern.into() })
    }

    #[test]
    fn patterns() {
        for (reference, text, name, expected) in [
            ("", "*", "A.B", true),
            ("", "%", "A.B", false),
            ("", "%", "A", true),
            ("", "A.%", "A.B", true),
            ("", "a.%", "A.B", true),
            ("", "A.%", "A", false),
            ("", "A%", "A", true),
            ("", "A%", "ABC", true),
            ("", "A*", "A.B.C", true),
            ("", "*B", "A.B", true),
            ("", "%.%", "A.B", true),
            ("", "%.%", "A.B.C", false),
            ("", "*%", "A.B.C", true),
            ("A.", "%", "A.B", true),
            ("A", "%", "A", true),
            ("", "inbox", "INBOX", true),
            ("", "Main", "INBOX", true),
            ("", "&ZeVnLIqe-*", "&ZeVnLIqe-.x", true),
            ("", "", "A", false),
            ("", "AB", "A", false),
        ] {
            let name = MailboxName::from_wire(name.as_bytes()).unwrap();
            assert_eq!(pattern(reference, text).matches(&name), expected, "{reference} {text} {name}");
        }
    }

    #[test]
    fn levels_are_in_the_tree() {
        let names = ["INBOX", "A.B.C", "A"].map(|name| MailboxName::from_wire(name.as_bytes()).unwrap());
        let tree = tree_of(names.iter());
        let found: Vec<_> = tree.values().map(|node| (node.name.wire(), node.real, node.children)).collect();
        assert_eq!(
            found,
            [("A", true, true), ("A.B", false, true), ("A.B.C", true, false), ("INBOX", true, false)]
        );
    }
}
