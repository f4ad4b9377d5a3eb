//! Messages that belong together (RFC 5256 §3, THREAD): by subject and date, or by what they answer.
//!
//! Pure functions of what is known of each message. Nothing here goes down a tree by recursion: mail can pretend to be an answer to an answer, a
//! million deep.
//!
//! # Limits
//! [`REFERENCES_MAX`], [`DEPTH_MAX`].

use super::header;
use super::subject::BaseSubject;
use std::collections::HashMap;
use xxhash_rust::xxh3::xxh3_64;

/// How many ids of one message are looked at, the last ones.
pub const REFERENCES_MAX: usize = 100;
/// How deep threads get; what would lie deeper begins a thread of its own.
pub const DEPTH_MAX: usize = 1000;

/// What is known of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Threadable {
    /// Its number or UID.
    pub number: u32,
    /// When it was sent, or came, Unix seconds.
    pub date: i64,
    /// Its base subject.
    pub subject: BaseSubject,
    /// Hash of its `Message-ID:`, if it has one.
    pub id: Option<u64>,
    /// Hashes of the ids that it answers, the oldest first.
    pub references: Vec<u64>,
}

/// A forest of messages.
#[derive(Debug, Default)]
pub struct Threads {
    nodes: Vec<Node>,
    roots: Vec<usize>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// Index of its message; none for one that is not there but holds others together.
    message: Option<usize>,
    parent: Option<usize>,
    children: Vec<usize>,
}

/// Hash of a header's `Message-ID:`.
pub fn message_id(header: &[u8]) -> Option<u64> {
    ids(header::value(header, b"Message-ID")?).next()
}

/// Hashes of what a message answers: `References:`, else the first id of `In-Reply-To:` (RFC 5256, step 1).
pub fn references(header: &[u8]) -> Vec<u64> {
    let mut references: Vec<u64> =
        header::value(header, b"References").map(|value| ids(value).collect()).unwrap_or_default();
    if references.is_empty() {
        references.extend(header::value(header, b"In-Reply-To").and_then(|value| ids(value).next()));
    }
    references.drain(..references.len().saturating_sub(REFERENCES_MAX));
    references
}

/// The ids of a field: what stands between `<` and `>`.
fn ids(value: &[u8]) -> impl Iterator<Item = u64> {
    value.split(|byte| *byte == b'<').skip(1).filter_map(|part| {
        let id = part.get(..memchr::memchr(b'>', part)?)?;
        let id: Vec<u8> = id.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        (!id.is_empty()).then(|| xxh3_64(&id))
    })
}

/// ORDEREDSUBJECT: messages of one subject are one thread, the first one above all others.
pub fn by_subject(messages: &[Threadable]) -> Threads {
    let mut order: Vec<usize> = (0..messages.len()).collect();
    let key = |index: &usize| {
        messages.get(*index).map(|message| (&message.subject.text, message.date, message.number))
    };
    order.sort_by(|one, other| key(one).cmp(&key(other)));
    let mut threads = Threads { nodes: nodes_of(messages), roots: Vec::new() };
    let text = |index: &usize| messages.get(*index).map(|message| &message.subject.text);
    for group in order.chunk_by(|one, other| text(one) == text(other)) {
        if let [first, others @ ..] = group {
            threads.roots.push(*first);
            threads.node(*first).children = others.to_vec();
        }
    }
    threads.sort(messages);
    threads
}

/// REFERENCES: by the ids that messages name, and by subject where that leaves threads apart.
pub fn by_references(messages: &[Threadable]) -> Threads {
    let mut threads = Threads { nodes: nodes_of(messages), roots: Vec::new() };
    threads.link(messages);
    threads.prune();
    threads.sort(messages);
    threads.join_subjects(messages);
    threads.sort(messages);
    threads
}

fn nodes_of(messages: &[Threadable]) -> Vec<Node> {
    (0..messages.len()).map(|index| Node { message: Some(index), ..Node::default() }).collect()
}

impl Threads {
    /// Indices are all made here, by [`nodes_of`] and [`Threads::add_dummy`].
    fn node(&mut self, index: usize) -> &mut Node {
        &mut self.nodes[index]
    }

    fn parent(&self, index: usize) -> Option<usize> {
        self.nodes.get(index)?.parent
    }

    fn children(&self, index: usize) -> &[usize] {
        self.nodes.get(index).map_or(&[], |node| node.children.as_slice())
    }

    fn message<'a>(&self, index: usize, messages: &'a [Threadable]) -> Option<&'a Threadable> {
        messages.get(self.nodes.get(index)?.message?)
    }

    fn add_dummy(&mut self) -> usize {
        self.nodes.push(Node::default());
        self.nodes.len() - 1
    }

    /// Steps 1 and 2: who is below whom.
    fn link(&mut self, messages: &[Threadable]) {
        let mut known: HashMap<u64, usize> = HashMap::new();
        // An id that two messages bear is the first one's.
        for (index, message) in messages.iter().enumerate() {
            if let Some(id) = message.id {
                known.entry(id).or_insert(index);
            }
        }
        for (index, message) in messages.iter().enumerate() {
            let mut above = None;
            for id in &message.references {
                let node = match known.get(id) {
                    Some(node) => *node,
                    None => {
                        let dummy = self.add_dummy();
                        known.insert(*id, dummy);
                        dummy
                    }
                };
                if let Some(above) = above
                    && self.parent(node).is_none()
                    && !self.is_below(above, node)
                {
                    self.node(node).parent = Some(above);
                }
                above = Some(node);
            }
            // What the message says itself goes before what others said of it.
            if above.is_none_or(|above| !self.is_below(above, index)) {
                self.node(index).parent = above;
            }
        }
        for index in 0..self.nodes.len() {
            match self.parent(index) {
                Some(parent) => self.node(parent).children.push(index),
                None => self.roots.push(index),
            }
        }
    }

    /// Is `node` this one, or below it? So is what lies too deep.
    fn is_below(&self, node: usize, above: usize) -> bool {
        let mut at = Some(node);
        for _ in 0..DEPTH_MAX {
            match at {
                Some(found) if found == above => return true,
                Some(found) => at = self.parent(found),
                None => return false,
            }
        }
        true
    }

    /// All nodes, each before those below it.
    fn top_down(&self) -> Vec<usize> {
        let mut order = self.roots.clone();
        let mut next = 0;
        while let Some(index) = order.get(next) {
            order.extend_from_slice(self.children(*index));
            next += 1;
        }
        order
    }

    /// Step 3: those that are not there go, and what is below them takes their place.
    fn prune(&mut self) {
        for index in self.top_down().into_iter().rev() {
            let children = std::mem::take(&mut self.node(index).children);
            let mut kept = Vec::with_capacity(children.len());
            for child in children {
                match self.node(child).message {
                    Some(_) => kept.push(child),
                    None => kept.append(&mut self.node(child).children),
                }
            }
            self.node(index).children = kept;
        }
        let mut roots = Vec::new();
        for root in std::mem::take(&mut self.roots) {
            match (self.node(root).message, self.children(root)) {
                (None, []) => {}
                (None, [only]) => roots.push(*only),
                _ => roots.push(root),
            }
        }
        self.roots = roots;
    }

    /// Steps 4 and 6: by date, at every level.
    fn sort(&mut self, messages: &[Threadable]) {
        let mut keys = vec![(i64::MAX, u32::MAX); self.nodes.len()];
        let by_key =
            |keys: &[(i64, u32)], list: &mut Vec<usize>| list.sort_by_key(|index| keys.get(*index).copied());
        for index in self.top_down().into_iter().rev() {
            let mut children = std::mem::take(&mut self.node(index).children);
            by_key(&keys, &mut children);
            // One that is not there has the date of the first one below it.
            let own = self.message(index, messages).map(|message| (message.date, message.number));
            let first = children.first().and_then(|child| keys.get(*child).copied());
            if let (Some(key), Some(found)) = (keys.get_mut(index), own.or(first)) {
                *key = found;
            }
            self.node(index).children = children;
        }
        let mut roots = std::mem::take(&mut self.roots);
        by_key(&keys, &mut roots);
        self.roots = roots;
    }

    /// The subject of a thread: that of its first message.
    fn subject<'a>(&self, root: usize, messages: &'a [Threadable]) -> Option<&'a BaseSubject> {
        let message =
            self.message(root, messages).or_else(|| self.message(*self.children(root).first()?, messages));
        message.map(|message| &message.subject).filter(|subject| !subject.text.is_empty())
    }

    fn is_dummy(&self, index: usize) -> bool {
        self.nodes.get(index).is_none_or(|node| node.message.is_none())
    }

    /// Step 5: threads of one subject become one.
    fn join_subjects(&mut self, messages: &[Threadable]) {
        let mut table: HashMap<&str, (usize, bool)> = HashMap::new();
        for root in &self.roots {
            let Some(subject) = self.subject(*root, messages) else { continue };
            let found = (*root, subject.is_reply);
            let known = table.entry(&subject.text).or_insert(found);
            let (known_dummy, dummy) = (self.is_dummy(known.0), self.is_dummy(*root));
            if (dummy && !known_dummy) || (known.1 && !subject.is_reply && dummy == known_dummy) {
                *known = found;
            }
        }
        let mut roots = Vec::new();
        for root in std::mem::take(&mut self.roots) {
            let subject = self.subject(root, messages);
            let known = subject.and_then(|subject| table.get_mut(subject.text.as_str()));
            let (Some(subject), Some(known)) = (subject, known) else {
                roots.push(root);
                continue;
            };
            let (first, first_is_reply) = *known;
            if first == root {
                roots.push(root);
            } else if self.is_dummy(first) && self.is_dummy(root) {
                let mut children = std::mem::take(&mut self.node(root).children);
                self.node(first).children.append(&mut children);
            } else if self.is_dummy(first) || (subject.is_reply && !first_is_reply) {
                self.node(first).children.push(root);
            } else {
                let dummy = self.add_dummy();
                self.node(dummy).children = vec![first, root];
                *known = (dummy, subject.is_reply);
                // The first one stands among the roots already, or will come.
                roots.push(dummy);
            }
        }
        let joined: Vec<usize> = roots.iter().flat_map(|root| self.children(*root)).copied().collect();
        let joined: std::collections::HashSet<usize> = joined.into_iter().collect();
        roots.retain(|root| !joined.contains(root));
        self.roots = roots;
    }

    /// Writes the threads as THREAD answers them: `(2)(3 6 (4 23)(44 7 96))`.
    pub fn write(&self, messages: &[Threadable], out: &mut Vec<u8>) {
        /// What is still to be written; `None`: a parenthesis that closes.
        type Left = Vec<Option<usize>>;
        let mut left: Left = self.roots.iter().rev().map(|root| Some(*root)).collect();
        while let Some(next) = left.pop() {
            let Some(mut node) = next else {
                out.push(b')');
                continue;
            };
            out.push(b'(');
            let mut blank = false;
            loop {
                if let Some(message) = self.message(node, messages) {
                    if std::mem::replace(&mut blank, true) {
                        out.push(b' ');
                    }
                    super::string::number(out, u64::from(message.number));
                }
                match self.children(node) {
                    [only] => node = *only,
                    children => {
                        if blank && !children.is_empty() {
                            out.push(b' ');
                        }
                        left.push(None);
                        left.extend(children.iter().rev().map(|child| Some(*child)));
                        break;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(number: u32, subject: &str, id: u64, references: &[u64]) -> Threadable {
        let subject = super::super::subject::base_subject(subject.as_bytes());
        Threadable { number, date: i64::from(number), subject, id: Some(id), references: references.to_vec() }
    }

    fn written(threads: &Threads, messages: &[Threadable]) -> String {
        let mut out = Vec::new();
        threads.write(messages, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fields() {
        let head = b"Message-ID: <a@b>\r\nReferences: <1@x> junk <2@\r\n x>\r\nIn-Reply-To: <3@x>\r\n\r\n";
        let hash = |id: &str| xxh3_64(id.as_bytes());
        assert_eq!(message_id(head), Some(hash("a@b")));
        assert_eq!(references(head), [hash("1@x"), hash("2@x")]);
        assert_eq!(references(b"In-Reply-To: your mail <3@x> <4@x>\r\n\r\n"), [hash("3@x")]);
        assert_eq!(references(b"References: <\r\n\r\n"), [0; 0]);
    }

    #[test]
    fn threads_by_subject() {
        let messages = [
            message(1, "b", 1, &[]),
            message(2, "a", 2, &[]),
            message(3, "Re: b", 3, &[]),
            message(4, "re: B", 4, &[]),
        ];
        assert_eq!(written(&by_subject(&messages), &messages), "(1 (3)(4))(2)");
        assert_eq!(written(&by_subject(&[]), &[]), "");
    }

    #[test]
    fn threads_by_references() {
        type Case<'a> = (&'a str, Vec<Threadable>);
        let cases: [Case<'_>; 9] = [
            ("(1 2 3)", vec![message(1, "a", 1, &[]), message(2, "b", 2, &[1]), message(3, "c", 3, &[1, 2])]),
            ("(1 (2)(3))", vec![message(1, "a", 1, &[]), message(2, "b", 2, &[1]), message(3, "c", 3, &[1])]),
            // The one that both answer is not there.
            ("((1)(2))", vec![message(1, "a", 1, &[9]), message(2, "b", 2, &[9])]),
            ("(1)(2)", vec![message(1, "a", 1, &[9]), message(2, "b", 2, &[8])]),
            // Two threads of one subject.
            ("(1 2)", vec![message(1, "a", 1, &[]), message(2, "Re: a", 2, &[])]),
            ("((1)(2))", vec![message(1, "a", 1, &[]), message(2, "a", 2, &[])]),
            ("((1)(2)(3))", vec![message(1, "a", 1, &[]), message(2, "a", 2, &[]), message(3, "a", 3, &[])]),
            // A circle.
            ("(2 1)", vec![message(1, "a", 1, &[2]), message(2, "b", 2, &[1])]),
            // An id twice.
            ("(1 3)(2)", vec![message(1, "a", 1, &[]), message(2, "b", 1, &[]), message(3, "c", 3, &[1])]),
        ];
        for (expected, messages) in cases {
            assert_eq!(written(&by_references(&messages), &messages), expected, "{messages:?}");
        }
    }

    #[test]
    fn long_chains_end_in_time() {
        let chain = |n: u32| message(n, &n.to_string(), u64::from(n), &[u64::from(n) - 1]);
        let messages: Vec<Threadable> = (1..20_000).map(chain).collect();
        let text = written(&by_references(&messages), &messages);
        let digits: usize = (1..20_000u32).map(|n| n.to_string().len()).sum();
        assert_eq!(text.matches(|c: char| c.is_ascii_digit()).count(), digits);
        let backwards: Vec<Threadable> = messages.into_iter().rev().collect();
        written(&by_references(&backwards), &backwards);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn every_message_is_there_once(
            all in proptest::collection::vec((0u64..8, proptest::collection::vec(0u64..8, 0..4), 0usize..4, 0i64..5), 0..12)
        ) {
            let subjects = ["a", "Re: a", "b", ""];
            let messages: Vec<Threadable> = all.iter().enumerate().map(|(index, (id, references, subject, date))| {
                Threadable { date: *date, ..message(index as u32 + 1, subjects[*subject], *id, references) }
            }).collect();
            for threads in [by_references(&messages), by_subject(&messages)] {
                let text = written(&threads, &messages);
                let mut numbers: Vec<usize> = text.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
                numbers.sort_unstable();
                prop_assert_eq!(&numbers, &(1..=messages.len()).collect::<Vec<_>>(), "{}", text);
                prop_assert_eq!(text.matches('(').count(), text.matches(')').count());
            }
        }
    }
}
