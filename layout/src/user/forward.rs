//! `forward.ima`: where a user's mail goes instead (manual 2-1 (6)).
//!
//! Addresses in one line, separated by commas: `.,one@example.com,two@example.com`. A `.` keeps a copy in the user's own mailbox.
//! Files of real servers have several lines, blanks and NUL bytes between the addresses, and are often empty (seen in a migration of 8.x).
//! A name without `@` is a user of the same domain, `user-mailbox` a mailbox of one.
//!
//! # Failure
//! Reading never fails; whether an address exists is found out by delivering to it. [`ForwardError`] for what cannot be written.
//!
//! # Limits
//! [`TARGETS_MAX`] addresses; more in a file are ignored. The caller reads at most
//! [`SETTINGS_FILE_MAX`](crate::limits::SETTINGS_FILE_MAX) bytes.

use crate::text::{self, CodePage, TextEncoding};

/// The most addresses of one file. IMail's own limit is not known; a list is the better means long before this.
pub const TARGETS_MAX: usize = 1000;

/// The element that keeps a copy.
const KEEP: &str = ".";

/// What a `forward.ima` says. The default, no targets, is no forwarding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forward {
    /// Does a copy stay in the user's own mailbox?
    pub keep: bool,
    /// Where the mail goes, as written there.
    pub targets: Vec<String>,
}

/// Why forwarding cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// It would be read back as something else.
    #[error(
        "{0:?} cannot be a forwarding address: it must not be empty, \".\", or hold commas, semicolons or control characters"
    )]
    Address(String),
    /// The file's encoding has no place for it.
    #[error("the forwarding addresses cannot be written in the code page of forward.ima: use plain ASCII")]
    Encoding,
    /// Too many.
    #[error("a user's mail can be forwarded to {TARGETS_MAX} addresses at most: use a mailing list")]
    TooMany,
}

impl Forward {
    /// Reads a file; also answers with its encoding, for [`Forward::write`].
    pub fn parse(bytes: &[u8], code_page: CodePage) -> (Forward, TextEncoding) {
        let (content, encoding) = text::decode(&text::without_nul(bytes), code_page);
        let mut forward = Forward::default();
        for element in content.split([',', ';', '\r', '\n']).map(trim).filter(|element| !element.is_empty()) {
            if element == KEEP {
                forward.keep = true;
            } else if forward.targets.len() < TARGETS_MAX {
                forward.targets.push(element.to_owned());
            }
        }
        (forward, encoding)
    }

    /// Is mail forwarded at all? A lone `.` only keeps what is kept anyway.
    pub fn is_active(&self) -> bool {
        !self.targets.is_empty()
    }

    /// Does the user's own mailbox get the mail?
    pub fn delivers_here(&self) -> bool {
        self.keep || self.targets.is_empty()
    }

    /// The file's bytes, one line; none at all without forwarding.
    pub fn write(&self, encoding: TextEncoding) -> Result<Vec<u8>, ForwardError> {
        if self.targets.is_empty() {
            return Ok(Vec::new());
        }
        if self.targets.len() > TARGETS_MAX {
            return Err(ForwardError::TooMany);
        }
        let illegal = |target: &&String| {
            trim(target) != *target
                || matches!(target.as_str(), "" | KEEP)
                || target.contains(|c: char| matches!(c, ',' | ';') || c.is_control())
        };
        if let Some(bad) = self.targets.iter().find(illegal) {
            return Err(ForwardError::Address(bad.clone()));
        }
        let keep = self.keep.then_some(KEEP);
        let all: Vec<&str> = keep.into_iter().chain(self.targets.iter().map(String::as_str)).collect();
        let bytes =
            text::encode(&format!("{}\r\n", all.join(",")), encoding).ok_or(ForwardError::Encoding)?;
        // Bytes of a code page may happen to be UTF-8 of another text.
        match encoding {
            TextEncoding::CodePage(code_page) if Forward::parse(&bytes, code_page).0 != *self => {
                Err(ForwardError::Encoding)
            }
            _ => Ok(bytes),
        }
    }
}

/// Without blanks at its ends. A byte order mark is one: at the file's begin it would be lost.
fn trim(element: &str) -> &str {
    element.trim_matches(|c: char| c.is_whitespace() || matches!(c, '\0' | '\u{feff}'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(bytes: &[u8]) -> (bool, Vec<String>) {
        let forward = Forward::parse(bytes, CodePage::Japanese).0;
        (forward.keep, forward.targets)
    }

    #[test]
    fn every_oddity_of_real_files() {
        let cases: &[(&[u8], bool, &[&str])] = &[
            (b"", false, &[]),
            (b"\r\n\0\0", false, &[]),
            (
                b".,forwardaddress1@domain.com,forwardaddress2@domain.com",
                true,
                &["forwardaddress1@domain.com", "forwardaddress2@domain.com"],
            ),
            (b"bob@example.org\r\n", false, &["bob@example.org"]),
            (
                b" bob@example.org ,\0 . ,, ann\r\nmike-work@example.org;x\0",
                true,
                &["bob@example.org", "ann", "mike-work@example.org", "x"],
            ),
            (b".", true, &[]),
            (b"\xEF\xBB\xBFa@b\r\n", false, &["a@b"]),
            (b"a\0@b\0\0", false, &["a@b"]),
            (b"\x8e\x52\x93\x63@b,c", false, &["\u{5c71}\u{7530}@b", "c"]),
        ];
        for (bytes, keep, targets) in cases {
            let expected = targets.iter().map(|target| (*target).to_owned()).collect();
            assert_eq!(parse(bytes), (*keep, expected), "{}", bytes.escape_ascii());
        }
        let many = "a@b,".repeat(TARGETS_MAX + 5);
        assert_eq!(parse(many.as_bytes()).1.len(), TARGETS_MAX);
    }

    #[test]
    fn who_gets_the_mail() {
        for (text, active, here) in
            [("", false, true), (".", false, true), ("a@b", true, false), (".,a@b", true, true)]
        {
            let forward = Forward::parse(text.as_bytes(), CodePage::Japanese).0;
            assert_eq!((forward.is_active(), forward.delivers_here()), (active, here), "{text}");
        }
    }

    #[test]
    fn the_written_form() {
        let forward = |keep, targets: &[&str]| Forward {
            keep,
            targets: targets.iter().map(|target| (*target).to_owned()).collect(),
        };
        let write = |forward: &Forward| forward.write(TextEncoding::Utf8);
        assert_eq!(write(&forward(true, &["a@b", "c@d"])).unwrap(), b".,a@b,c@d\r\n");
        assert_eq!(write(&forward(false, &["a@b"])).unwrap(), b"a@b\r\n");
        assert_eq!(write(&forward(true, &[])).unwrap(), b"");
        for bad in ["", ".", "a,b", "a;b", "a\r\nb", " a", "a\0", "\u{feff}a"] {
            assert!(matches!(write(&forward(false, &[bad])), Err(ForwardError::Address(_))), "{bad:?}");
        }
        let page = TextEncoding::CodePage(CodePage::Japanese);
        assert_eq!(forward(false, &["\u{5c71}@b"]).write(page).unwrap(), b"\x8e\x52@b\r\n");
        assert_eq!(forward(false, &["\u{e9}@b"]).write(page), Err(ForwardError::Encoding));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_written_reads_back(bytes in prop::collection::vec(
            prop_oneof![Just(b','), Just(b'.'), Just(b'@'), Just(0), Just(b'\n'), 0x20..0x7fu8, any::<u8>()], 0..80)) {
            let (forward, encoding) = Forward::parse(&bytes, CodePage::Japanese);
            if let Ok(written) = forward.write(encoding) {
                let again = Forward::parse(&written, CodePage::Japanese).0;
                prop_assert_eq!(again.targets, forward.targets);
                prop_assert_eq!(again.keep, forward.keep && !written.is_empty());
            }
        }
    }
}
