//! The member file of a group alias: a text file with one address a line.
//!
//! Administrators keep these files with whatever editor they have, so reading takes what people write: comments behind `;` or `#`, empty
//! lines, `Name <address>`, several addresses in one line, either line end, NUL bytes. IMail's own rules for comments are not known;
//! no address begins with either sign in practice. A name without `@` is in the same domain.
//!
//! # Failure
//! Reading never fails. [`GroupError`] for members that cannot be added.
//!
//! # Limits
//! [`MEMBERS_MAX`] members; more in a file are ignored. The caller reads at most
//! [`SETTINGS_FILE_MAX`](crate::limits::SETTINGS_FILE_MAX) bytes.

use crate::text::{self, CodePage, LineEnd, TextEncoding, UTF8_BOM};

/// The most members of one group.
pub const MEMBERS_MAX: usize = 1_000_000;

/// Why a member cannot be added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// It would be read back as something else.
    #[error("{0:?} cannot be a member of a group: write one address")]
    Address(String),
    /// The file's encoding has no place for it.
    #[error("{0:?} cannot be written in the code page of the group's file: use plain ASCII")]
    Encoding(String),
    /// Too many.
    #[error("a group has {MEMBERS_MAX} members at most")]
    TooMany,
}

/// A member file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    bytes: Vec<u8>,
    encoding: TextEncoding,
}

impl Group {
    /// Reads a file.
    pub fn parse(bytes: Vec<u8>, code_page: CodePage) -> Group {
        let encoding = match std::str::from_utf8(&bytes) {
            Ok(_) if bytes.starts_with(UTF8_BOM) => TextEncoding::Utf8Bom,
            Ok(_) => TextEncoding::Utf8,
            Err(_) => TextEncoding::CodePage(code_page),
        };
        Group { bytes, encoding }
    }

    /// The members in their order.
    pub fn members(&self) -> impl Iterator<Item = String> + '_ {
        text::lines(&self.bytes).flat_map(|(line, _)| self.of_line(line)).take(MEMBERS_MAX)
    }

    /// Is this address a member? Case is ignored.
    pub fn contains(&self, address: &str) -> bool {
        self.members().any(|member| same(&member, address))
    }

    /// Adds a member at the end; one that is there already is not added again. Every other byte stays, but for the line end that the last line
    /// may lack.
    pub fn add(&mut self, address: &str) -> Result<(), GroupError> {
        if members_of(address) != [address] {
            return Err(GroupError::Address(address.to_owned()));
        }
        let mut count = 0;
        for member in self.members() {
            if same(&member, address) {
                return Ok(());
            }
            count += 1;
        }
        if count >= MEMBERS_MAX {
            return Err(GroupError::TooMany);
        }
        let coded = text::encode(address, unmarked(self.encoding));
        let coded = coded.ok_or_else(|| GroupError::Encoding(address.to_owned()))?;
        let mark = if self.encoding == TextEncoding::Utf8Bom { UTF8_BOM.len() } else { 0 };
        let end = text::usual_line_end(&self.bytes, LineEnd::CrLf).bytes();
        if self.bytes.len() > mark && !self.bytes.ends_with(b"\n") {
            self.bytes.extend_from_slice(end);
        }
        self.bytes.extend_from_slice(&coded);
        self.bytes.extend_from_slice(end);
        Ok(())
    }

    /// Removes a member wherever it stands: its line, or its place in a line with others. Every other line stays as it is.
    /// Answers whether it was there.
    pub fn remove(&mut self, address: &str) -> bool {
        let mut kept = Vec::with_capacity(self.bytes.len());
        let mut found = false;
        for (line, end) in text::lines(&self.bytes) {
            let members = self.of_line(line);
            let others: Vec<&str> =
                members.iter().filter(|member| !same(member, address)).map(String::as_str).collect();
            let rest = text::encode(&others.join(", "), unmarked(self.encoding));
            // A line with something unreadable beside the member is for its owner to edit.
            let Some(rest) = rest.filter(|_| others.len() < members.len()) else {
                kept.extend_from_slice(line);
                kept.extend_from_slice(end.bytes());
                continue;
            };
            found = true;
            // The mark is not the line's.
            if line.starts_with(UTF8_BOM) && kept.is_empty() {
                kept.extend_from_slice(UTF8_BOM);
            }
            if !rest.is_empty() {
                kept.extend(rest);
                kept.extend_from_slice(end.bytes());
            }
        }
        self.bytes = kept;
        found
    }

    /// The file's bytes.
    pub fn write(&self) -> &[u8] {
        &self.bytes
    }

    fn of_line(&self, line: &[u8]) -> Vec<String> {
        let line = text::without_nul(line);
        let line = line.strip_prefix(UTF8_BOM).unwrap_or(&line);
        match self.encoding {
            TextEncoding::CodePage(code_page) => {
                // The file as a whole is no UTF-8, whatever a single line looks like.
                match text::decode_strict(line, code_page) {
                    Some(text) => members_of(&text),
                    None => members_of(&text::decode(line, code_page).0),
                }
            }
            _ => members_of(&String::from_utf8_lossy(line)),
        }
    }
}

/// The encoding of a single line: the mark stands at the file's begin only.
fn unmarked(encoding: TextEncoding) -> TextEncoding {
    if encoding == TextEncoding::Utf8Bom { TextEncoding::Utf8 } else { encoding }
}

fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// The addresses of one line.
fn members_of(line: &str) -> Vec<String> {
    let line = line.trim();
    if line.starts_with([';', '#']) {
        return Vec::new();
    }
    let comment = [" ;", "\t;", " #", "\t#"].iter().filter_map(|sign| line.find(sign)).min();
    let line = line.get(..comment.unwrap_or(line.len())).unwrap_or(line);
    let bracketed: Vec<&str> = line
        .split('<')
        .skip(1)
        .filter_map(|part| part.split_once('>'))
        .map(|(address, _)| address.trim())
        .filter(|address| !address.is_empty())
        .collect();
    if !bracketed.is_empty() {
        return bracketed.into_iter().map(str::to_owned).collect();
    }
    // What follows an address behind a blank is a remark.
    let words = line.split([',', ';']).filter_map(|part| part.split_whitespace().next());
    words
        .map(|word| word.trim_matches(['<', '>']))
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn group(bytes: &[u8]) -> Group {
        Group::parse(bytes.to_vec(), CodePage::Japanese)
    }

    #[test]
    fn what_people_write() {
        for (line, expected) in [
            ("a@example.com", &["a@example.com"][..]),
            ("  mike\t", &["mike"]),
            ("", &[]),
            ("; a comment", &[]),
            ("# a@b", &[]),
            ("a@b ; the boss", &["a@b"]),
            ("a@b # the boss <c@d>", &["a@b"]),
            ("\"Doe, John\" <john@example.com>", &["john@example.com"]),
            ("<a@b>", &["a@b"]),
            ("A <a@b>, B <c@d>", &["a@b", "c@d"]),
            ("a@b, c@d;e@f", &["a@b", "c@d", "e@f"]),
            ("a@b the boss", &["a@b"]),
            ("<>", &[]),
            (",,", &[]),
            ("a@b\0\0", &["a@b"]),
            ("\u{feff}a@b", &["a@b"]),
        ] {
            assert_eq!(group(line.as_bytes()).members().collect::<Vec<_>>(), expected, "{line:?}");
        }
        let japanese = b"\x8e\x52\x93\x63 <a@b>\r\n; \x95\x5c\r\nc@d\n";
        assert_eq!(group(japanese).members().collect::<Vec<_>>(), ["a@b", "c@d"]);
        assert!(group(japanese).contains("C@D"));
    }

    #[test]
    fn edits_keep_every_other_byte() {
        let mut edited = group(b"; staff\r\nA@b\r\n\r\n\x8e\x52 <c@d>\r\ne@f, g@h\r\nlast@x");
        edited.add("new@y").unwrap();
        edited.add("a@B").unwrap();
        assert!(edited.remove("c@d"));
        assert!(edited.remove("G@h"));
        assert!(!edited.remove("nobody"));
        assert_eq!(edited.write(), b"; staff\r\nA@b\r\n\r\ne@f\r\nlast@x\r\nnew@y\r\n");
        let mut marked = group(b"\xEF\xBB\xBFa@b\nc@d\n");
        assert!(marked.remove("a@b"));
        assert_eq!(marked.write(), b"\xEF\xBB\xBFc@d\n");
        marked.add("e@f").unwrap();
        assert_eq!(marked.write(), b"\xEF\xBB\xBFc@d\ne@f\n");
        let mut empty = group(b"");
        empty.add("a@b").unwrap();
        assert_eq!(empty.write(), b"a@b\r\n");
        for bad in ["", " a@b", "a@b,c@d", "a@b\r\nc@d", "#a", "A <a@b>", "a b"] {
            assert!(matches!(empty.add(bad), Err(GroupError::Address(_))), "{bad:?}");
        }
        assert!(matches!(group(b"\x8e\x52 <a@b>").add("\u{e9}@x"), Err(GroupError::Encoding(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn added_and_removed_leaves_no_trace(bytes in prop::collection::vec(
            prop_oneof![Just(b','), Just(b'<'), Just(b'@'), Just(b'\r'), Just(b'\n'), 0x20..0x7fu8, any::<u8>()], 0..120)) {
            let before = group(&bytes);
            let mut edited = before.clone();
            prop_assert_eq!(edited.write(), &bytes[..]);
            let there: Vec<String> = before.members().collect();
            edited.add("unlikely@member.example").unwrap();
            prop_assert!(edited.contains("UNLIKELY@member.example"));
            prop_assert!(edited.remove("unlikely@member.example"));
            prop_assert!(edited.write().starts_with(&bytes));
            prop_assert_eq!(edited.members().collect::<Vec<_>>(), there);
        }
    }
}
