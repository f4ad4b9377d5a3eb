//! `registry.ini` as a document: every byte kept, values found by section and name, edits as splices.
//!
//! A line is a section header `[path]`, a value `Name=text` ([`value`](super::value) says what text), a comment
//! that begins with `;` or `#`, or blank. Paths, and names that hold a `=`, control characters or blanks at their
//! ends, may stand in quotes like texts; the nameless default value of a key is written `@=text`. Sections and names
//! are found without regard to case. Where one stands twice, the later one wins, as when Windows imports such a file,
//! and edits change the one that wins.
//!
//! Parsing never fails: a line that is not understood becomes a [`Complaint`] and costs only its own value. A header
//! that is not understood hides the values up to the next header, so that they never end up in the wrong section.
//!
//! Only the borders of sections are kept in memory; lines are read from the bytes when asked for. A section that is
//! edited gets its own table of lines, so that thousands of edits stay linear in the size of the file.
//!
//! Limits: [`MAX_LINE_BYTES`], [`MAX_COMPLAINTS`].

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::ops::Range;

use super::value::{self, BLANKS, Value, Written};
use super::{fold, same_name};
use crate::text::{self, LineEnd};

/// The last line of a file that our programs have written: a file that had it and lost it is cut off.
pub const END_LINE: &str = "; end of registry.ini, keep this line last";
/// Longest line that is read, in bytes; a longer one is kept and complained about.
pub const MAX_LINE_BYTES: usize = 4 * 1024 * 1024;
/// Complaints beyond this many are counted only.
pub const MAX_COMPLAINTS: usize = 1000;

/// A line that is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Line number, from 1.
    pub line: usize,
    /// What was expected there.
    pub expected: Cow<'static, str>,
    /// What was found, shortened; never a password.
    pub found: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: expected {}, found {}", self.line, self.expected, self.found)
    }
}

/// A parsed `registry.ini`.
#[derive(Clone, Debug)]
pub struct Doc {
    source: Vec<u8>,
    /// In the order in which they came; `next` links give the order in the file. The first one is the part before
    /// any header.
    sections: Vec<Section>,
    /// Folded path to the last section of that path; earlier ones are linked by `same`.
    by_path: BTreeMap<Box<str>, usize>,
    /// Folded path to the section behind which new ones below that path go; filled when first needed.
    last_below: HashMap<String, usize>,
    /// From the end line to the end of the file; empty if there is no end line, or other lines follow it.
    tail: Range<usize>,
    has_end_line: bool,
    line_end: LineEnd,
}

#[derive(Clone, Debug)]
struct Section {
    /// As spelled; `None` for the part before any header, for a header that is not understood, and after removal.
    path: Option<Box<str>>,
    header: Bytes,
    body: Body,
    /// The section that follows in the file.
    next: Option<usize>,
    /// An earlier section of the same path.
    same: Option<usize>,
}

#[derive(Clone, Debug)]
enum Bytes {
    Source(Range<usize>),
    Own(Box<[u8]>),
}

#[derive(Clone, Debug)]
enum Body {
    Source(Range<usize>),
    Edited(Edited),
}

/// The lines of a section that was edited, each with its line end; a removed line is empty.
#[derive(Clone, Debug, Default)]
struct Edited {
    lines: Vec<Box<[u8]>>,
    /// Folded name to the lines that hold it, in order.
    names: HashMap<String, Vec<usize>>,
}

/// A section while it is read: its path and its bytes.
#[derive(Clone, Copy, Debug)]
pub struct SectionView<'a> {
    doc: &'a Doc,
    section: &'a Section,
    path: &'a str,
}

/// What one line is.
enum Line<'a> {
    Blank,
    Comment,
    /// Name and text, and where the text stands in the line.
    Value(Cow<'a, str>, Range<usize>, &'a str),
    Broken(&'static str),
}

impl Doc {
    /// Parses a file. What is not understood is listed and kept.
    pub fn parse(source: Vec<u8>) -> (Doc, Vec<Complaint>) {
        let mut complaints = Complaints::default();
        let start = if source.starts_with(text::UTF8_BOM) { text::UTF8_BOM.len() } else { 0 };
        if source.starts_with(&[0xFF, 0xFE]) || source.starts_with(&[0xFE, 0xFF]) {
            complaints.add(1, "a file saved as UTF-8", "UTF-16 text".into());
        }
        let (end_at, has_end_line) = find_end_line(&source);
        let mut sections = vec![Section {
            path: None,
            header: Bytes::Source(0..start),
            body: Body::Source(start..start),
            next: None,
            same: None,
        }];
        let mut in_known = true;
        let mut at = start;
        let body_bytes = source.get(start..end_at).unwrap_or_default();
        for (number, (content, end)) in text::lines(body_bytes).enumerate() {
            let after = at + content.len() + end.bytes().len();
            let content = without_torn_end(content, end);
            match trim_start(content).first() {
                Some(b'[') => {
                    let path = header_path(content);
                    in_known = path.is_ok();
                    if let Err(expected) = path {
                        complaints.add(number + 1, expected, shown(content));
                    }
                    let path = path.ok().map(|path| path.into_owned().into_boxed_str());
                    let header = Bytes::Source(at..after);
                    sections.push(Section {
                        path,
                        header,
                        body: Body::Source(after..after),
                        next: None,
                        same: None,
                    });
                }
                _ => {
                    if in_known {
                        complain_about_line(&mut complaints, number + 1, content, sections.len() == 1);
                    }
                    if let Some(Section { body: Body::Source(range), .. }) = sections.last_mut() {
                        range.end = after;
                    }
                }
            }
            at = after;
        }
        let line_end = text::usual_line_end(&source, LineEnd::CrLf);
        let tail = end_at..source.len();
        let mut doc = Doc {
            source,
            sections,
            by_path: BTreeMap::new(),
            last_below: HashMap::new(),
            tail,
            has_end_line,
            line_end,
        };
        doc.link();
        (doc, complaints.finish())
    }

    /// Links sections in file order and those of one path, and makes the index.
    fn link(&mut self) {
        let count = self.sections.len();
        let mut keys: Vec<(Box<str>, usize)> = Vec::with_capacity(count);
        for (number, section) in self.sections.iter_mut().enumerate() {
            section.next = (number + 1 < count).then_some(number + 1);
            if let Some(path) = &section.path {
                keys.push((fold(path).into_owned().into_boxed_str(), number));
            }
        }
        keys.sort();
        for pair in keys.windows(2) {
            if let [(left, earlier), (right, later)] = pair
                && left == right
                && let Some(section) = self.sections.get_mut(*later)
            {
                section.same = Some(*earlier);
            }
        }
        self.by_path = keys.into_iter().collect();
    }

    /// The file again: the very bytes that were parsed, but for edits.
    pub fn render(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.source.len() + 4096);
        for section in self.in_order() {
            out.extend_from_slice(self.bytes(&section.header));
            match &section.body {
                Body::Source(range) => out.extend_from_slice(self.range(range)),
                Body::Edited(edited) => edited.lines.iter().for_each(|line| out.extend_from_slice(line)),
            }
        }
        let tail = self.range(&self.tail);
        if !tail.is_empty() && !out.is_empty() && !out.ends_with(b"\n") && out != text::UTF8_BOM {
            out.extend_from_slice(self.line_end.bytes());
        }
        out.extend_from_slice(tail);
        out
    }

    /// Does the file have the line [`END_LINE`]?
    pub fn has_end_line(&self) -> bool {
        self.has_end_line
    }

    /// Every section that is understood, in file order; one that stands twice comes twice.
    pub fn sections(&self) -> impl Iterator<Item = SectionView<'_>> {
        self.in_order().filter_map(|section| {
            let path = section.path.as_deref()?;
            Some(SectionView { doc: self, section, path })
        })
    }

    /// Is there a section of this path?
    pub fn has_section(&self, path: &str) -> bool {
        self.by_path.contains_key(&*fold(path))
    }

    /// The path of a section as the file spells it.
    pub fn spelled(&self, path: &str) -> Option<&str> {
        let number = *self.by_path.get(&*fold(path))?;
        self.sections.get(number)?.path.as_deref()
    }

    /// Names of the keys directly below `path`, as spelled, in the order of their folded names. A key that has no
    /// section of its own but sections below it counts.
    pub fn children(&self, path: &str) -> Vec<&str> {
        let prefix = format!("{}\\", fold(path));
        let parts = prefix.matches('\\').count();
        let mut seen = HashSet::new();
        let mut names: Vec<&str> = Vec::new();
        for (_, number) in self.below(&prefix) {
            let spelled = self.sections.get(number).and_then(|section| section.path.as_deref());
            let name = spelled.and_then(|path| path.split('\\').nth(parts)).unwrap_or_default();
            if !name.is_empty() && seen.insert(fold(name)) {
                names.push(name);
            }
        }
        names
    }

    /// The value of this name; `None` if there is none or it is not understood.
    pub fn get(&self, path: &str, name: &str) -> Option<Written<'_>> {
        let mut at = self.by_path.get(&*fold(path)).copied();
        while let Some(section) = at.and_then(|number| self.sections.get(number)) {
            let found = self.find_in(section, name);
            if found.is_some() {
                return found;
            }
            at = section.same;
        }
        None
    }

    /// The value as text ([`Written::as_text`]).
    pub fn get_text(&self, path: &str, name: &str) -> Option<String> {
        self.get(path, name)?.as_text().map(Cow::into_owned)
    }

    /// The value as a number ([`Written::as_number`]).
    pub fn get_number(&self, path: &str, name: &str) -> Option<u64> {
        self.get(path, name)?.as_number()
    }

    /// All values of a key, in the order of the file; of those that stand twice, the last.
    pub fn values(&self, path: &str) -> Vec<(Cow<'_, str>, Written<'_>)> {
        let mut same = Vec::new();
        let mut at = self.by_path.get(&*fold(path)).copied();
        while let Some(section) = at.and_then(|number| self.sections.get(number)) {
            same.push(section);
            at = section.same;
        }
        let mut values: Vec<(Cow<'_, str>, Written<'_>)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for (name, written) in same.into_iter().rev().flat_map(|section| self.values_of(section)) {
            let place = *places.entry(fold(&name).into_owned()).or_insert(values.len());
            match values.get_mut(place) {
                Some(slot) => slot.1 = written,
                None => values.push((name, written)),
            }
        }
        values
    }

    /// Sets a value: in its line, if it has one, in the manner found there; else as a new line at the end of its
    /// section; else in a new section.
    pub fn set(&mut self, path: &str, name: &str, value: &Value) {
        self.add_section(path);
        let Some(last) = self.by_path.get(&*fold(path)).copied() else { return };
        let folded = fold(name).into_owned();
        let mut at = Some(last);
        while let Some(number) = at {
            if self.holds(number, name) {
                if let Some(edited) = self.edited(number) {
                    edited.replace(&folded, value);
                }
                return;
            }
            at = self.sections.get(number).and_then(|section| section.same);
        }
        self.end_header(last);
        let line_end = self.line_end;
        if let Some(edited) = self.edited(last) {
            edited.append(name, value, line_end);
        }
    }

    /// Sets a text, in the type that the value has now if that can hold text (`FullName` is `REG_SZ` in some versions
    /// and binary in others), else as `REG_SZ`.
    pub fn set_text(&mut self, path: &str, name: &str, text: &str) {
        let value = match self.get(path, name) {
            Some(Written::Expand(_)) => Written::Expand(Cow::Borrowed(text)).to_value(),
            Some(Written::Utf16(_)) => Value::utf16_binary(text),
            Some(Written::Hex(value::BINARY, bytes)) if !bytes.is_empty() => Value::utf16_binary(text),
            _ => Value::sz(text),
        };
        self.set(path, name, &value);
    }

    /// Sets a number, in the type that the value has now if it can hold it, else as `REG_DWORD` or `REG_QWORD`.
    pub fn set_number(&mut self, path: &str, name: &str, number: u64) {
        let value = match self.get(path, name) {
            Some(Written::Text(_)) => Value::sz(&number.to_string()),
            Some(Written::Qword(_)) => Written::Qword(number).to_value(),
            _ => Value::number(number),
        };
        self.set(path, name, &value);
    }

    /// Removes every line of this value; `false` if there was none.
    pub fn remove_value(&mut self, path: &str, name: &str) -> bool {
        let mut at = self.by_path.get(&*fold(path)).copied();
        let mut removed = false;
        while let Some(number) = at {
            if self.holds(number, name)
                && let Some(edited) = self.edited(number)
            {
                edited.remove(&fold(name));
                removed = true;
            }
            at = self.sections.get(number).and_then(|section| section.same);
        }
        removed
    }

    /// Adds an empty section behind the last one of its parent; `false` if there is one already.
    pub fn add_section(&mut self, path: &str) -> bool {
        let folded = fold(path).into_owned();
        if self.by_path.contains_key(folded.as_str()) {
            return false;
        }
        let before = self.place_for(&folded);
        let number = self.sections.len();
        let (header, body) = self.new_section_text(before, path);
        let next = self.sections.get_mut(before).and_then(|section| section.next.replace(number));
        let path = Some(path.to_owned().into_boxed_str());
        self.sections.push(Section { path, header: Bytes::Own(header), body, next, same: None });
        for parent in ancestors(&folded).chain([""]) {
            if let Some(last) = self.last_below.get_mut(parent)
                && *last == before
            {
                *last = number;
            }
        }
        self.by_path.insert(folded.into_boxed_str(), number);
        true
    }

    /// Removes a section, every other of the same path, and all below it; `false` if there was none. Comments in front
    /// of the section that follows stay.
    pub fn remove_section(&mut self, path: &str) -> bool {
        let folded = fold(path).into_owned();
        let mut doomed: Vec<(Box<str>, usize)> =
            self.below(&format!("{folded}\\")).map(|(key, number)| (key.into(), number)).collect();
        doomed.extend(self.by_path.get(folded.as_str()).map(|number| (folded.into_boxed_str(), *number)));
        for (key, last) in &doomed {
            self.by_path.remove(key);
            let mut at = Some(*last);
            while let Some(number) = at {
                at = self.clear(number);
            }
        }
        !doomed.is_empty()
    }

    /// Empties a section but for a comment that belongs to the next; gives the earlier one of the same path.
    fn clear(&mut self, number: usize) -> Option<usize> {
        let kept = self.sections.get(number).map(|section| comment_of_next(&self.lines_of(section)));
        let section = self.sections.get_mut(number)?;
        section.path = None;
        section.header = Bytes::Own(Box::default());
        section.body = Body::Edited(Edited { lines: kept.unwrap_or_default(), names: HashMap::new() });
        section.same.take()
    }

    fn in_order(&self) -> impl Iterator<Item = &Section> {
        let mut at = Some(0);
        std::iter::from_fn(move || {
            let section = self.sections.get(at?)?;
            at = section.next;
            Some(section)
        })
    }

    fn range(&self, range: &Range<usize>) -> &[u8] {
        self.source.get(range.clone()).unwrap_or_default()
    }

    fn bytes<'a>(&'a self, bytes: &'a Bytes) -> &'a [u8] {
        match bytes {
            Bytes::Source(range) => self.range(range),
            Bytes::Own(own) => own,
        }
    }

    /// The index entries whose key begins with `prefix`, which ends with a separator.
    fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, usize)> {
        let from = (std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded);
        let entries = self.by_path.range::<str, _>(from);
        entries.take_while(move |(key, _)| key.starts_with(prefix)).map(|(key, number)| (&**key, *number))
    }

    /// The lines of a section, with their line ends.
    fn lines_of<'a>(&'a self, section: &'a Section) -> Vec<&'a [u8]> {
        match &section.body {
            Body::Source(range) => self.range(range).split_inclusive(|byte| *byte == b'\n').collect(),
            Body::Edited(edited) => edited.lines.iter().map(|line| &**line).collect(),
        }
    }

    /// The values of one section that are understood, in order.
    fn values_of<'a>(&'a self, section: &'a Section) -> impl Iterator<Item = (Cow<'a, str>, Written<'a>)> {
        let (source, own) = match &section.body {
            Body::Source(range) => (self.range(range), [].as_slice()),
            Body::Edited(edited) => (&[][..], edited.lines.as_slice()),
        };
        let lines = text::lines(source).map(|(content, end)| without_torn_end(content, end));
        let own = own.iter().map(|line| without_line_end(line));
        lines.chain(own).filter_map(|line| match read_line(line) {
            Line::Value(name, _, text) => Written::parse(text).ok().map(|written| (name, written)),
            _ => None,
        })
    }

    /// The last value of this name in one section that is understood.
    fn find_in<'a>(&'a self, section: &'a Section, name: &str) -> Option<Written<'a>> {
        let Body::Edited(edited) = &section.body else {
            let found = self.values_of(section).filter(|(other, _)| same_name(other, name));
            return found.last().map(|(_, written)| written);
        };
        let lines = edited.names.get(&*fold(name))?.iter().rev().filter_map(|at| edited.lines.get(*at));
        let mut understood = lines.filter_map(|line| match read_line(without_line_end(line)) {
            Line::Value(_, _, text) => Written::parse(text).ok(),
            _ => None,
        });
        understood.next()
    }

    /// Has this section a line of this name, understood or not?
    fn holds(&self, number: usize, name: &str) -> bool {
        let Some(section) = self.sections.get(number) else { return false };
        match &section.body {
            Body::Edited(edited) => edited.names.contains_key(&*fold(name)),
            Body::Source(range) => text::lines(self.range(range)).any(
                |(content, end)| matches!(read_line(without_torn_end(content, end)), Line::Value(other, ..) if same_name(&other, name)),
            ),
        }
    }

    /// The line table of a section, made now if it has none yet.
    fn edited(&mut self, number: usize) -> Option<&mut Edited> {
        let section = self.sections.get_mut(number)?;
        if let Body::Source(range) = &section.body {
            section.body = Body::Edited(Edited::new(self.source.get(range.clone()).unwrap_or_default()));
        }
        match &mut section.body {
            Body::Edited(edited) => Some(edited),
            Body::Source(_) => None,
        }
    }

    /// Gives a header that is the last line of the file, without a line end, its line end.
    fn end_header(&mut self, number: usize) {
        let end = self.line_end.bytes();
        let Some(section) = self.sections.get(number) else { return };
        let header = self.bytes(&section.header);
        if header.ends_with(b"\n") {
            return;
        }
        let header = Bytes::Own([header, end].concat().into_boxed_slice());
        if let Some(section) = self.sections.get_mut(number) {
            section.header = header;
        }
    }

    /// The section behind which a new one of this folded path goes: the last one below the nearest parent that has
    /// any, else the last of the file.
    fn place_for(&mut self, folded: &str) -> usize {
        let exists = |parent: &&str| {
            self.by_path.contains_key(*parent) || self.below(&format!("{parent}\\")).next().is_some()
        };
        let parent = ancestors(folded).find(exists).unwrap_or_default().to_owned();
        if let Some(last) = self.last_below.get(&parent) {
            return *last;
        }
        let prefix = format!("{parent}\\");
        let (mut last, mut at) = (0, Some(0));
        while let Some((number, section)) = at.and_then(|number| Some((number, self.sections.get(number)?))) {
            let path = section.path.as_deref().map(fold);
            if parent.is_empty() || path.is_some_and(|path| *path == *parent || path.starts_with(&prefix)) {
                last = number;
            }
            at = section.next;
        }
        self.last_below.insert(parent, last);
        last
    }

    /// Header and body of a new section behind `before`: parted from its neighbours by blank lines as they are, and
    /// in front of a comment that belongs to the section that follows.
    fn new_section_text(&mut self, before: usize, path: &str) -> (Box<[u8]>, Body) {
        let end = self.line_end.bytes();
        let comment = self.take_comment_of_next(before);
        let mut header = Vec::new();
        let Some(section) = self.sections.get(before) else { return (Box::default(), Body::Source(0..0)) };
        let last = match &section.body {
            Body::Source(range) => self.range(range).split_inclusive(|byte| *byte == b'\n').next_back(),
            Body::Edited(edited) => {
                edited.lines.iter().rev().find(|line| !line.is_empty()).map(|line| &**line)
            }
        };
        let only_mark = before == 0 && last.is_none();
        let last = last.unwrap_or_else(|| self.bytes(&section.header));
        let blank = only_mark || matches!(read_line(without_line_end(last)), Line::Blank);
        if !blank {
            header.extend_from_slice(if last.ends_with(b"\n") { b"" } else { end });
            header.extend_from_slice(end);
        }
        let follows = section.next.is_some() || !self.tail.is_empty();
        let mut lines: Vec<Box<[u8]>> = Vec::new();
        if follows || blank {
            lines.push(end.into());
        }
        lines.extend(comment);
        header.extend_from_slice(format!("[{}]", path_text(path)).as_bytes());
        header.extend_from_slice(end);
        (header.into_boxed_slice(), Body::Edited(Edited { lines, names: HashMap::new() }))
    }

    /// Cuts the comment that belongs to the section that follows off a section.
    fn take_comment_of_next(&mut self, number: usize) -> Vec<Box<[u8]>> {
        let kept = self.sections.get(number).map(|section| comment_of_next(&self.lines_of(section)));
        let kept = kept.unwrap_or_default();
        let length: usize = kept.iter().map(|line| line.len()).sum();
        match self.sections.get_mut(number).map(|section| &mut section.body) {
            Some(Body::Source(range)) => range.end = range.end.saturating_sub(length).max(range.start),
            Some(Body::Edited(edited)) => {
                edited.lines.truncate(edited.lines.len().saturating_sub(kept.len()))
            }
            None => {}
        }
        kept
    }
}

impl<'a> SectionView<'a> {
    /// The path as spelled.
    pub fn path(&self) -> &'a str {
        self.path
    }

    /// The values that are understood, in order; one that stands twice comes twice.
    pub fn values(&self) -> impl Iterator<Item = (Cow<'a, str>, Written<'a>)> + use<'a> {
        self.doc.values_of(self.section)
    }
}

impl Edited {
    fn new(body: &[u8]) -> Edited {
        let mut edited = Edited::default();
        for line in body.split_inclusive(|byte| *byte == b'\n') {
            if let Line::Value(name, ..) = read_line(without_line_end(line)) {
                let at = edited.lines.len();
                edited.names.entry(fold(&name).into_owned()).or_default().push(at);
            }
            edited.lines.push(line.into());
        }
        edited
    }

    /// Replaces the text in the last line of this name, and nothing else of the line.
    fn replace(&mut self, folded: &str, value: &Value) {
        let Some(line) =
            self.names.get(folded).and_then(|at| at.last()).and_then(|at| self.lines.get_mut(*at))
        else {
            return;
        };
        let content = without_line_end(line);
        let Line::Value(_, place, old) = read_line(content) else { return };
        let new = Written::from_value(value);
        let text = match Written::parse(old) {
            Ok(Written::Text(_)) if old.starts_with('"') && value.kind == value::SZ => match &new {
                Written::Text(text) => value::quoted(text),
                other => other.to_text(),
            },
            Ok(old) if old == new.clone() => return,
            Ok(old) => new.in_manner_of(&old).to_text(),
            Err(_) => new.to_text(),
        };
        let (head, tail) =
            (line.get(..place.start).unwrap_or_default(), line.get(place.end..).unwrap_or_default());
        *line = [head, text.as_bytes(), tail].concat().into_boxed_slice();
    }

    /// Adds a line behind the last value, in front of blank lines and comments at the end.
    fn append(&mut self, name: &str, value: &Value, usual: LineEnd) {
        let is_filler = |line: &[u8]| {
            line.is_empty() || matches!(read_line(without_line_end(line)), Line::Blank | Line::Comment)
        };
        let at = self.lines.iter().rposition(|line| !is_filler(line)).map_or(0, |last| last + 1);
        let mut end = usual.bytes();
        if let Some(before) = at.checked_sub(1).and_then(|before| self.lines.get_mut(before)) {
            match (before.ends_with(b"\r\n"), before.ends_with(b"\n")) {
                (true, _) => end = LineEnd::CrLf.bytes(),
                (false, true) => end = LineEnd::Lf.bytes(),
                (false, false) => *before = [before, end].concat().into_boxed_slice(),
            }
        }
        let text = format!("{}={}", name_text(name), value.to_text());
        self.lines.insert(at, [text.as_bytes(), end].concat().into_boxed_slice());
        self.names.entry(fold(name).into_owned()).or_default().push(at);
    }

    fn remove(&mut self, folded: &str) {
        for at in self.names.remove(folded).unwrap_or_default() {
            if let Some(line) = self.lines.get_mut(at) {
                *line = Box::default();
            }
        }
    }
}

/// The parents of a path, nearest first, without the empty one.
fn ancestors(folded: &str) -> impl Iterator<Item = &str> {
    let mut rest = folded;
    std::iter::from_fn(move || {
        rest = rest.get(..rest.rfind('\\')?)?;
        Some(rest)
    })
}

/// Does this file have its end line? For files that need not be parsed otherwise.
pub fn has_end_line(source: &[u8]) -> bool {
    find_end_line(source).1
}

/// Where the last end line begins, if only blank lines and comments follow it (else the length), and whether
/// there is one at all.
fn find_end_line(source: &[u8]) -> (usize, bool) {
    let is_line = |at: usize| {
        let before = source.get(..at).unwrap_or_default();
        let after = source.get(at + END_LINE.len()..).unwrap_or_default();
        (before.is_empty() || before.ends_with(b"\n") || before == text::UTF8_BOM)
            && matches!(after.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\r')), None | Some(b'\n'))
    };
    let Some(at) = memchr::memmem::rfind_iter(source, END_LINE).find(|at| is_line(*at)) else {
        return (source.len(), false);
    };
    let rest = source.get(at..).unwrap_or_default();
    let only_filler =
        text::lines(rest).all(|(line, _)| matches!(trim_start(line).first(), None | Some(b';' | b'#')));
    (if only_filler { at } else { source.len() }, true)
}

fn complain_about_line(complaints: &mut Complaints, number: usize, content: &[u8], before_any_header: bool) {
    match read_line(content) {
        Line::Blank | Line::Comment => {}
        Line::Broken(expected) => complaints.add(number, expected, shown(content)),
        Line::Value(..) if before_any_header => {
            complaints.add(
                number,
                "a section header such as [Global] before the first value",
                shown(content),
            );
        }
        Line::Value(name, _, text) => {
            if let Err(expected) = Written::parse(text) {
                complaints.add(number, expected, format!("another text behind {name}="));
            }
        }
    }
}

/// Understands one line, without its line end.
fn read_line(content: &[u8]) -> Line<'_> {
    match trim_start(content).first() {
        None => return Line::Blank,
        Some(b';' | b'#') => return Line::Comment,
        Some(_) => {}
    }
    if content.len() > MAX_LINE_BYTES {
        return Line::Broken("a line of at most 4 MiB");
    }
    let Ok(line) = std::str::from_utf8(content) else {
        return Line::Broken("UTF-8 text (save the file as UTF-8)");
    };
    if content.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Line::Broken("no control characters (in quotes write \\r, \\n, \\0 or \\xNN)");
    }
    const FORM: &str = "Name=value, [section], or a comment that begins with ;";
    let trimmed = line.trim_start_matches(BLANKS);
    let (name, rest) = if trimmed.starts_with('"') {
        match value::read_quoted(trimmed) {
            Ok((name, rest)) => (Cow::Owned(name), rest),
            Err(expected) => return Line::Broken(expected),
        }
    } else {
        let Some(equals) = trimmed.find('=') else { return Line::Broken(FORM) };
        let (name, rest) = trimmed.split_at(equals);
        match name.trim_matches(BLANKS) {
            "" => return Line::Broken(FORM),
            "@" => (Cow::Borrowed(""), rest),
            name => (Cow::Borrowed(name), rest),
        }
    };
    let Some(text) = rest.trim_start_matches(BLANKS).strip_prefix('=') else { return Line::Broken(FORM) };
    let text = text.trim_start_matches(BLANKS);
    let start = line.len() - text.len();
    let text = text.trim_end_matches(BLANKS);
    Line::Value(name, start..start + text.len(), text)
}

/// The path in a header line.
fn header_path(content: &[u8]) -> Result<Cow<'_, str>, &'static str> {
    const FORM: &str = "a section header such as [Global] (the values below it are ignored)";
    if content.len() > MAX_LINE_BYTES {
        return Err("a line of at most 4 MiB");
    }
    let line = std::str::from_utf8(content).map_err(|_| "UTF-8 text (save the file as UTF-8)")?;
    if content.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err("no control characters (in quotes write \\r, \\n, \\0 or \\xNN)");
    }
    let inner =
        line.trim_matches(BLANKS).strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).ok_or(FORM)?;
    let path = value::unquote(inner.trim_matches(BLANKS))?;
    if path.is_empty() { Err(FORM) } else { Ok(path) }
}

/// A path as it is written between brackets.
fn path_text(path: &str) -> Cow<'_, str> {
    let needs = path.is_empty()
        || path.starts_with([' ', '\t', '"'])
        || path.ends_with(BLANKS)
        || path.chars().any(char::is_control);
    if needs { Cow::Owned(value::quoted(path)) } else { Cow::Borrowed(path) }
}

/// A value's name as it is written in front of the `=`.
fn name_text(name: &str) -> Cow<'_, str> {
    if name.is_empty() {
        return Cow::Borrowed("@");
    }
    let needs = name == "@"
        || name.starts_with([' ', '\t', '"', ';', '#', '['])
        || name.ends_with(BLANKS)
        || name.contains('=')
        || name.chars().any(char::is_control);
    if needs { Cow::Owned(value::quoted(name)) } else { Cow::Borrowed(name) }
}

/// Appends a new section with its values to a text, for files made from nothing. Lines end with CRLF.
pub fn write_section<'a>(out: &mut String, path: &str, values: impl Iterator<Item = (&'a str, String)>) {
    let end = "\r\n";
    out.push('[');
    out.push_str(&path_text(path));
    out.push(']');
    out.push_str(end);
    for (name, text) in values {
        out.push_str(&name_text(name));
        out.push('=');
        out.push_str(&text);
        out.push_str(end);
    }
    out.push_str(end);
}

fn trim_start(line: &[u8]) -> &[u8] {
    let blanks = line.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    line.get(blanks..).unwrap_or_default()
}

fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The last line may lack its line feed, or half of its line end: the line means the same when an edit completes it.
fn without_torn_end(content: &[u8], end: LineEnd) -> &[u8] {
    if end == LineEnd::None { content.strip_suffix(b"\r").unwrap_or(content) } else { content }
}

/// What stays of a removed section: the comment that stands directly in front of the next one, parted by a blank line.
fn comment_of_next(lines: &[&[u8]]) -> Vec<Box<[u8]>> {
    let is_blank = |line: &&[u8]| matches!(read_line(without_line_end(line)), Line::Blank);
    let is_comment = |line: &&[u8]| matches!(read_line(without_line_end(line)), Line::Comment);
    let last = lines.iter().rposition(|line| !is_blank(line) && !is_comment(line));
    let trailing = lines.get(last.map_or(0, |last| last + 1)..).unwrap_or_default();
    let blank = trailing.iter().position(is_blank);
    let after = blank.and_then(|at| trailing.get(at + 1..)).unwrap_or_default();
    let comment = after.iter().position(is_comment);
    let kept = comment.and_then(|at| after.get(at..)).unwrap_or_default();
    kept.iter().map(|line| Box::from(*line)).collect()
}

/// The head of a line for a complaint. Lines about passwords are not shown.
fn shown(content: &[u8]) -> String {
    const SHOWN_CHARACTERS: usize = 40;
    let text = String::from_utf8_lossy(content.get(..SHOWN_CHARACTERS * 4).unwrap_or(content));
    if text.to_ascii_lowercase().contains("password") {
        return "a line about a password".into();
    }
    let head: String = text.chars().take(SHOWN_CHARACTERS).collect();
    let dots = if text.chars().count() > SHOWN_CHARACTERS { "..." } else { "" };
    format!("{head:?}{dots}")
}

/// Collects complaints up to the limit.
#[derive(Default)]
struct Complaints {
    list: Vec<Complaint>,
    more: usize,
    last_line: usize,
}

impl Complaints {
    fn add(&mut self, line: usize, expected: &'static str, found: String) {
        self.last_line = line;
        if self.list.len() < MAX_COMPLAINTS {
            self.list.push(Complaint { line, expected: Cow::Borrowed(expected), found });
        } else {
            self.more += 1;
        }
    }

    fn finish(mut self) -> Vec<Complaint> {
        if self.more > 0 {
            let expected = Cow::Borrowed("a registry file");
            let found = format!("{} more lines that are not understood", self.more);
            self.list.push(Complaint { line: self.last_line, expected, found });
        }
        self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn doc(text: &str) -> Doc {
        let (doc, complaints) = Doc::parse(text.as_bytes().to_vec());
        assert_eq!(complaints, [], "{text}");
        doc
    }

    fn text_of(doc: &Doc) -> String {
        String::from_utf8(doc.render()).unwrap()
    }

    const SAMPLE: &str = "; my server\r\n[Global]\r\nHostName=mail.example.com\r\n  MaxConnect = dec:10  \r\n\r\n\
        ; the primary\r\n[Domains\\mail.example.com]\r\nAddress=10.0.0.1\r\n\r\n\
        [Domains\\mail.example.com\\Users\\Mike]\r\nFullName=utf16:Mike\r\nMaxSize=dword:00000000\r\n\r\n\
        ; lists follow\r\n[Domains\\mail.example.com\\Zone]\r\n\r\n; end of registry.ini, keep this line last\r\n";

    #[test]
    fn reads_without_regard_to_case() {
        let doc = doc(SAMPLE);
        assert!(doc.has_end_line());
        assert_eq!(doc.get_text("global", "HOSTNAME").as_deref(), Some("mail.example.com"));
        assert_eq!(doc.get_number("GLOBAL", "maxconnect"), Some(10));
        assert_eq!(
            doc.get_text("Domains\\MAIL.example.com\\users\\mike", "FullName").as_deref(),
            Some("Mike")
        );
        assert_eq!(doc.get("Global", "none"), None);
        assert_eq!(doc.children("Domains"), ["mail.example.com"]);
        assert_eq!(doc.children("domains\\mail.example.com"), ["Users", "Zone"]);
        assert_eq!(
            doc.spelled("domains\\mail.example.com\\users\\mike"),
            Some("Domains\\mail.example.com\\Users\\Mike")
        );
        assert_eq!(text_of(&doc), SAMPLE);
    }

    #[test]
    fn edits_keep_everything_else() {
        let mut doc = doc(SAMPLE);
        doc.set_number("Global", "MaxConnect", 25);
        doc.set("global", "TopDir", &Value::sz("C:\\IMail"));
        doc.set_text("Domains\\mail.example.com\\Users\\mike", "fullname", "山田");
        doc.set_text("Domains\\mail.example.com\\Users\\ann", "FullName", "Ann");
        doc.set_number("Domains\\mail.example.com\\Users\\ann", "Flags", 0x80);
        doc.set_text("Services\\SMTPD32\\Parameters", "LogTo", "Sys");
        let expected = "; my server\r\n[Global]\r\nHostName=mail.example.com\r\n  MaxConnect = dec:25  \r\n\
            TopDir=C:\\IMail\r\n\r\n; the primary\r\n[Domains\\mail.example.com]\r\nAddress=10.0.0.1\r\n\r\n\
            [Domains\\mail.example.com\\Users\\Mike]\r\nFullName=utf16:山田\r\nMaxSize=dword:00000000\r\n\r\n\
            ";
        assert!(text_of(&doc).starts_with(expected), "{}", text_of(&doc));
        let rest = &text_of(&doc)[expected.len()..];
        assert_eq!(
            rest,
            "[Domains\\mail.example.com\\Users\\ann]\r\nFullName=Ann\r\nFlags=dword:00000080\r\n\r\n\
             ; lists follow\r\n[Domains\\mail.example.com\\Zone]\r\n\r\n\
             [Services\\SMTPD32\\Parameters]\r\nLogTo=Sys\r\n\r\n; end of registry.ini, keep this line last\r\n"
        );
        let again = super::Doc::parse(doc.render()).0;
        assert_eq!(
            again.get_text("Domains\\mail.example.com\\Users\\ann", "FullName").as_deref(),
            Some("Ann")
        );
    }

    #[test]
    fn removals() {
        let mut doc = doc(SAMPLE);
        assert!(doc.remove_section("domains\\mail.example.com\\USERS\\mike"));
        assert!(!doc.remove_section("domains\\mail.example.com\\users\\mike"));
        assert!(doc.remove_value("Global", "hostname"));
        assert!(!doc.remove_value("Global", "hostname"));
        let text = text_of(&doc);
        assert!(text.contains("; lists follow\r\n[Domains\\mail.example.com\\Zone]"), "{text}");
        assert!(!text.contains("Mike") && !text.contains("HostName"));
        assert!(doc.remove_section("Domains"));
        assert!(!text_of(&doc).contains("[Domains"));
        doc.set_text("Domains\\a", "Address", "1");
        assert!(
            text_of(&doc)
                .ends_with("[Domains\\a]\r\nAddress=1\r\n\r\n; end of registry.ini, keep this line last\r\n")
        );
    }

    #[test]
    fn what_stands_twice() {
        let text = "[A]\nx=1\nx=2\ny=1\n[B]\nz=1\n[a]\nX=3\n";
        let mut twice = doc(text);
        assert_eq!(twice.get_text("A", "x").as_deref(), Some("3"));
        assert_eq!(twice.get_text("A", "y").as_deref(), Some("1"));
        assert_eq!(twice.values("a").len(), 2);
        twice.set_text("A", "x", "4");
        twice.set_text("A", "y", "5");
        assert_eq!(text_of(&twice), "[A]\nx=1\nx=2\ny=5\n[B]\nz=1\n[a]\nX=4\n");
        twice.remove_value("A", "x");
        assert_eq!(text_of(&twice), "[A]\ny=5\n[B]\nz=1\n[a]\n");
        twice.remove_section("A");
        assert_eq!(text_of(&twice), "[B]\nz=1\n");
    }

    #[test]
    fn files_without_a_last_line_end() {
        for (text, expected) in [
            ("", "[G]\r\nn=v\r\n\r\n"),
            ("[G]", "[G]\r\nn=v\r\n"),
            ("[G]\na=b", "[G]\na=b\nn=v\n"),
            ("[H]\na=b", "[H]\na=b\n\n[G]\nn=v\n"),
            (
                "; end of registry.ini, keep this line last",
                "[G]\r\nn=v\r\n\r\n; end of registry.ini, keep this line last",
            ),
        ] {
            let mut doc = doc(text);
            doc.set_text("G", "n", "v");
            assert_eq!(text_of(&doc), expected, "{text:?}");
        }
    }

    #[test]
    fn the_end_line() {
        for (text, expected) in [
            ("[G]\n; end of registry.ini, keep this line last\n", true),
            ("[G]\n; end of registry.ini, keep this line last", true),
            ("[G]\n; end of registry.ini, keep this line last \r\n\r\n", true),
            ("[G]\n; end of registry.ini, keep this line last\n[H]\nx=1\n", true),
            ("[G]\n; end of registry.ini, keep this line la", false),
            ("[G]\nx=; end of registry.ini, keep this line last\n", false),
        ] {
            assert_eq!(doc(text).has_end_line(), expected, "{text:?}");
        }
    }

    #[test]
    fn odd_names_and_paths() {
        let mut doc = doc("");
        for name in ["", "@", "a=b", " x ", ";c", "[d]", "\"q\"", "e\nf", "\u{85}"] {
            doc.set_text("Odd]\n\\[k\"", name, "v");
            doc.set_text(" edge ", name, "");
        }
        let (again, complaints) = Doc::parse(doc.render());
        assert_eq!(complaints, []);
        assert_eq!(again.values("odd]\n\\[k\"").len(), 9);
        assert_eq!(again.get_text(" EDGE ", "E\nF").as_deref(), Some(""));
    }

    #[test]
    fn complaints_name_the_line() {
        let text =
            "x=1\n[Global]\nHostName\nMaxSize=dword:zz\nPassword DFD8\n[Domains\ny=1\n[Ok]\n\u{1}=2\nz=1\n";
        let mut bytes = text.as_bytes().to_vec();
        bytes.extend(b"name=\x8e\x52\n");
        let (doc, complaints) = Doc::parse(bytes.clone());
        let lines: Vec<usize> = complaints.iter().map(|complaint| complaint.line).collect();
        assert_eq!(lines, [1, 3, 4, 5, 6, 9, 11]);
        assert!(!complaints.iter().any(|complaint| complaint.to_string().contains("DFD8")));
        assert_eq!(doc.get_text("Ok", "z").as_deref(), Some("1"));
        assert_eq!(doc.get("Ok", "y"), None);
        assert_eq!(doc.render(), bytes);
    }

    /// Lines as they occur, and garbage between.
    fn any_file() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just("[A]".as_bytes().to_vec()),
            Just("[a\\B]".as_bytes().to_vec()),
            Just("[\"A\\\\c\"]".as_bytes().to_vec()),
            Just("[broken".as_bytes().to_vec()),
            Just("x=1".as_bytes().to_vec()),
            Just(" X = dec:5 ".as_bytes().to_vec()),
            Just("\"y\" = \"q\"".as_bytes().to_vec()),
            Just(END_LINE.as_bytes().to_vec()),
            Just("# c".as_bytes().to_vec()),
            Just(b"\xEF\xBB\xBF".to_vec()),
            prop::collection::vec(any::<u8>(), 0..12),
        ];
        let end = prop_oneof![Just("\n"), Just("\r\n"), Just("")];
        prop::collection::vec((piece, end), 0..16).prop_map(|pieces| {
            pieces.into_iter().flat_map(|(piece, end)| [piece, end.as_bytes().to_vec()].concat()).collect()
        })
    }

    #[test]
    fn half_a_line_end_at_the_end_is_one() {
        let (doc, complaints) = Doc::parse(b"[Global]\r\nHostName=a.b\r\n[Domains\\a.b]\r".to_vec());
        assert!(complaints.is_empty() && doc.has_section("Domains\\a.b"));
        let (doc, _) = Doc::parse(b"[Global]\r\nHostName=a.b\r".to_vec());
        assert_eq!(doc.get_text("Global", "HostName").as_deref(), Some("a.b"));
        assert_eq!(doc.render(), b"[Global]\r\nHostName=a.b\r");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn unedited_is_identical(bytes in any_file()) {
            let (doc, _) = Doc::parse(bytes.clone());
            prop_assert_eq!(doc.render(), bytes);
        }

        #[test]
        fn an_edit_is_read_back_and_keeps_the_rest(bytes in any_file(), path in prop_oneof![Just("A"), Just("a\\b"), Just("N\\m")],
                                                   name in prop_oneof![Just("x"), Just("y"), Just("new")], number in any::<u64>()) {
            let (mut doc, _) = Doc::parse(bytes);
            let before: Vec<_> = all(&doc).into_iter().filter(|(p, n, _)| !(same_name(p, path) && same_name(n, name))).collect();
            doc.set(path, name, &Value::number(number));
            let (again, _) = Doc::parse(doc.render());
            prop_assert_eq!(again.get_number(path, name), Some(number));
            prop_assert_eq!(doc.get_number(path, name), Some(number));
            let after: Vec<_> = all(&again).into_iter().filter(|(p, n, _)| !(same_name(p, path) && same_name(n, name))).collect();
            prop_assert_eq!(before, after);
            prop_assert_eq!(again.has_end_line(), doc.has_end_line());
            doc.remove_value(path, name);
            let (again, _) = Doc::parse(doc.render());
            prop_assert_eq!(again.get(path, name), None);
            doc.remove_section(path);
            let (again, _) = Doc::parse(doc.render());
            prop_assert!(!again.has_section(path));
        }
    }

    fn all(doc: &Doc) -> Vec<(String, String, String)> {
        let rows = doc.sections().flat_map(|section| {
            section.values().map(move |(name, written)| {
                (section.path().to_lowercase(), name.into_owned(), written.to_text())
            })
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort();
        rows
    }
}
