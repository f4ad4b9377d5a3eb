//! The tree of mailboxes: CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE, LIST, LSUB (RFC 3501 §6.3.3 to §6.3.9), with what LIST tells besides
//! (RFC 5258, RFC 5819, RFC 6154).
//!
//! The delimiter is `.`: the only one on record for IMail. Names that differ only in case are one mailbox, so patterns are compared
//! without regard to case. Public mailboxes are listed only where the reference or the pattern begins with `#`, so that a program that copies
//! "everything" does not copy them for each user; those that a user subscribed to are among the subscribed ones.

use super::command::{List, ListPattern, Numbering, WireMailbox};
use super::outcome::{Done, Failed, Outcome, done, of_disk};
use super::place::{Place, mailbox_id};
use super::session::Session;
use crate::mailbox::folders::{Folders, is_below};
use crate::mailbox::public;
use crate::mailbox::special_use::{self, SpecialUse, Uses};
use crate::session::connection::Blocking;
use layout::lock::PATIENCE;
use layout::name::{MailboxName, utf7};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

/// The longest pattern that is compared, in bytes: longer than any name with a wildcard between all characters.
const PATTERN_MAX: usize = 1000;
/// The most bytes of all patterns of a LIST together: each of them is compared with every name.
const PATTERNS_MAX: usize = 4 * PATTERN_MAX;

impl Session {
    /// CREATE. A delimiter at the end says that mailboxes will be made below, and is left out (RFC 3501 §6.3.3).
    pub(super) fn create(&mut self, mailbox: &WireMailbox, uses: Option<&[SpecialUse]>) -> Outcome {
        let Some(uses) = uses else {
            return Err(Failed::No("USEATTR", "this special use is not known here".to_owned()));
        };
        let name = mailbox.0.strip_suffix(b".").unwrap_or(&mailbox.0);
        let place = self.own_place(&WireMailbox(name.to_vec()))?;
        self.folders_of(&place).create(&place.name)?;
        if !uses.is_empty() {
            special_use::choose(&self.server.hub, &place.dir, &place.name, uses)?;
        }
        let id = self.open(&place).map(|open| open.with(|mailbox| mailbox.uidvalidity()));
        let code = id.map_or_else(String::new, |id| format!("MAILBOXID ({})", mailbox_id(place.foreign, id)));
        Ok(Done { code, text: "CREATE completed" })
    }

    /// DELETE.
    pub(super) fn delete(&mut self, mailbox: &WireMailbox) -> Outcome {
        let place = self.own_place(mailbox)?;
        self.folders_of(&place).delete(&place.name)?;
        let kept = |name: &MailboxName| (*name != place.name).then(|| name.clone());
        special_use::follow(&self.server.hub, &place.dir, kept)?;
        done("DELETE completed")
    }

    /// RENAME. From the INBOX the messages are moved, and it stays, empty (RFC 3501 §6.3.5).
    pub(super) fn rename(&mut self, out: &mut Blocking<'_>, from: &WireMailbox, to: &WireMailbox) -> Outcome {
        let (from, to) = (self.own_place(from)?, self.own_place(to)?);
        if from.name.is_inbox() {
            return self.empty_inbox(&from, &to);
        }
        self.folders_of(&from).rename(&from.name, &to.name)?;
        if self.enabled.rev2 {
            // RFC 9051 §6.3.9.7
            let mut answer = b"* LIST () \".\" ".to_vec();
            self.write_name(&mut answer, to.prefix(), &to.name);
            answer.extend_from_slice(b" (\"OLDNAME\" (");
            self.write_name(&mut answer, from.prefix(), &from.name);
            answer.extend_from_slice(b"))\r\n");
            out.write_all(&answer)?;
        }
        done("RENAME completed")
    }

    /// Moves the messages of an INBOX into a new mailbox.
    fn empty_inbox(&mut self, from: &Place, to: &Place) -> Outcome {
        self.folders_of(to).create(&to.name)?;
        let hub = &self.server.hub;
        let (inbox, target) = (hub.open(&from.dir, &from.name), hub.open(&to.dir, &to.name));
        let uids = inbox.with(|mailbox| mailbox.refresh(PATIENCE).map(|_| mailbox.uids()))?;
        if let Err(failed) = self.move_all(&inbox, &uids, &target, Numbering::Uid) {
            // Copies that are there may be all that is left of the messages.
            if target.with(|mailbox| mailbox.uids().is_empty()) {
                self.folders_of(to).delete(&to.name)?;
            }
            return Err(failed);
        }
        done("RENAME completed, the messages of the INBOX were moved")
    }

    /// The user's own mailboxes.
    fn folders(&self) -> Result<Folders<'_>, Failed> {
        Ok(Folders::new(&self.server.hub, &self.user()?.dir))
    }

    /// SUBSCRIBE and UNSUBSCRIBE. Public mailboxes are subscribed to under their whole names.
    pub(super) fn subscribe(&mut self, mailbox: &WireMailbox, on: bool) -> Outcome {
        self.folders()?.subscribe(&self.name(mailbox)?, on)?;
        done(if on { "SUBSCRIBE completed" } else { "UNSUBSCRIBE completed" })
    }

    /// LIST.
    pub(super) fn list(&mut self, out: &mut Blocking<'_>, list: &List) -> Outcome {
        // An empty pattern asks for the delimiter (RFC 3501 §6.3.8).
        if matches!(list.patterns.as_slice(), [only] if only.is_empty()) {
            out.write_all(b"* LIST (\\Noselect) \".\" \"\"\r\n")?;
            return done("LIST completed");
        }
        if list.patterns.iter().map(|pattern| pattern.len() + list.reference.len()).sum::<usize>()
            > PATTERNS_MAX
        {
            return Err(Failed::Bad("these are too many patterns".to_owned()));
        }
        let pattern = |pattern: &Vec<u8>| Pattern::new(&list.reference, pattern, self.enabled.utf8);
        let patterns: Vec<Pattern> = list.patterns.iter().map(pattern).collect();
        let wants_public = patterns.iter().any(Pattern::is_of_namespace);
        let forest = self.forest(list, wants_public).map_err(|error| of_disk(&error))?;
        for node in forest.nodes.values() {
            if !patterns.iter().any(|pattern| pattern.matches(&node.name)) {
                continue;
            }
            let wanted = forest.is_selected(list, node);
            let above = list.recursive_match && forest.has_selected_below(list, node);
            if wanted || above {
                self.write_listed(out, list, &forest, node, above)?;
            }
        }
        done("LIST completed")
    }

    /// Everything that LIST could name.
    fn forest(&self, list: &List, wants_public: bool) -> std::io::Result<Forest> {
        let Ok(user) = self.user() else { return Ok(Forest::default()) };
        let hub = &self.server.hub;
        let own = Folders::new(hub, &user.dir);
        let mut real = own.list()?;
        let uses = special_use::uses(hub, &user.dir, &real)?;
        let subscribed = match list.subscribed || list.returns.subscribed {
            true => own.subscriptions()?,
            false => None,
        };
        // Without the file every mailbox is subscribed; public ones only by name.
        let subscribed: BTreeSet<MailboxName> = subscribed.unwrap_or_else(|| real.iter().cloned().collect());
        let names_public = |name: &MailboxName| public::name_of(&name.text()).is_some();
        if (wants_public || list.subscribed && subscribed.iter().any(names_public))
            && let Some(dir) = self.public_dir()
        {
            let public = Folders::new(hub, &dir).list()?;
            real.extend(public.iter().filter_map(|name| {
                MailboxName::from_text(&format!("{}{}", public::PREFIX, name.text())).ok()
            }));
        }
        let mut nodes = tree_of(real.iter());
        if list.subscribed {
            // Subscribed names need no mailbox (RFC 5258 §3).
            for (key, node) in tree_of(subscribed.iter()) {
                nodes.entry(key).or_insert(Node { real: false, ..node });
            }
        }
        Ok(Forest { nodes, uses, subscribed })
    }

    fn write_listed(
        &self,
        out: &mut Blocking<'_>,
        list: &List,
        forest: &Forest,
        node: &Node,
        above: bool,
    ) -> Result<(), Failed> {
        let is_subscribed = forest.subscribed.contains(&node.name);
        let mut words = Vec::new();
        if !node.real {
            words.push(if is_subscribed && list.subscribed { "\\NonExistent" } else { "\\Noselect" });
        }
        if is_subscribed && (list.subscribed || list.returns.subscribed) {
            words.push("\\Subscribed");
        }
        words.push(if node.children { "\\HasChildren" } else { "\\HasNoChildren" });
        words.extend(
            forest.uses.iter().filter(|(_, name)| **name == node.name).map(|(one, _)| one.attribute()),
        );
        let mut answer = format!("* LIST ({}) \".\" ", words.join(" ")).into_bytes();
        self.write_name(&mut answer, "", &node.name);
        if above {
            answer.extend_from_slice(b" (\"CHILDINFO\" (\"SUBSCRIBED\"))");
        }
        answer.extend_from_slice(b"\r\n");
        out.write_all(&answer)?;
        if !list.returns.status.is_empty() && node.real {
            let place = self.place_of(&node.name)?;
            // One that cannot be looked at has no status (RFC 5819 §2).
            match self.write_status(out, &place, &list.returns.status) {
                Ok(_) | Err(Failed::No(..)) => {}
                Err(failed) => return Err(failed),
            }
        }
        Ok(())
    }

    /// LSUB. A level that is not subscribed itself is named if `%` stops at it (RFC 3501 §6.3.9).
    pub(super) fn lsub(&mut self, out: &mut Blocking<'_>, pattern: &ListPattern) -> Outcome {
        let folders = self.folders()?;
        let names: Vec<MailboxName> = match folders.subscriptions().map_err(|error| of_disk(&error))? {
            Some(names) => names.into_iter().collect(),
            None => folders.list().map_err(|error| of_disk(&error))?,
        };
        let tree = tree_of(names.iter());
        let pattern = Pattern::new(&pattern.reference.0, &pattern.pattern, self.enabled.utf8);
        let mut answer = Vec::new();
        for node in tree.values().filter(|node| pattern.matches(&node.name)) {
            if !node.real && !pattern.stops_at_levels() {
                continue;
            }
            let select = if node.real { "" } else { "\\Noselect" };
            write!(answer, "* LSUB ({select}) \".\" ")?;
            self.write_name(&mut answer, "", &node.name);
            answer.extend_from_slice(b"\r\n");
        }
        out.write_all(&answer)?;
        done("LSUB completed")
    }
}

/// What LIST chooses from.
#[derive(Default)]
struct Forest {
    nodes: BTreeMap<String, Node>,
    uses: Uses,
    subscribed: BTreeSet<MailboxName>,
}

impl Forest {
    /// Do the selection options name this one?
    fn is_selected(&self, list: &List, node: &Node) -> bool {
        (!list.subscribed || self.subscribed.contains(&node.name))
            && (!list.special_use || self.uses.values().any(|name| *name == node.name))
    }

    /// Do they name one below it?
    fn has_selected_below(&self, list: &List, node: &Node) -> bool {
        let begin = format!("{}.", node.name.key());
        let mut below = self.nodes.range(begin.clone()..).take_while(|(key, _)| key.starts_with(&begin));
        node.children && below.any(|(_, other)| self.is_selected(list, other))
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
    fn new(reference: &[u8], pattern: &[u8], utf8: bool) -> Pattern {
        let whole = [reference, pattern].concat();
        let wire = String::from_utf8_lossy(whole.get(..PATTERN_MAX).unwrap_or(&whole)).into_owned();
        let text = if utf8 { None } else { utf7::decode(&wire) };
        let text = text.unwrap_or(wire).to_lowercase();
        // `main` is the INBOX wherever it is named.
        let text = if text == "main" { "inbox".to_owned() } else { text };
        Pattern { characters: text.chars().collect() }
    }

    /// Is it about names of a namespace like `#public.`?
    fn is_of_namespace(&self) -> bool {
        self.characters.first() == Some(&'#')
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
        Pattern::new(reference.as_bytes(), pattern.as_bytes(), false)
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
