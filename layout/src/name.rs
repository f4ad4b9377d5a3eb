//! Names, validated: the only road from the network or the registry to a path.
//!
//! Each type holds a name that was checked once, in the spelling in which it is compared: lower case for users, domains,
//! aliases and lists (NTFS and the registry ignore case), canonical modified UTF-7 for mailboxes.
//!
//! # Failure
//! [`NameError`] says what is wrong with a name, in words for its owner.

use std::borrow::Cow;
use std::fmt;

/// What is wrong with a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NameError(pub &'static str);

/// The longest user ID that a new account may have (IMail 12 help, "User Name").
pub const NEW_USER_ID_MAX: usize = 30;
/// The longest user ID that is read from a registry: sites with external databases have longer ones.
const USER_ID_MAX: usize = 64;
/// The longest alias name (IMail 11 help, Alias Administration). Longer ones that a registry holds are served all the same.
pub const NEW_ALIAS_MAX: usize = 45;
/// The longest file name of a mailbox, in bytes, so that every file system and zip tool takes it.
const MAILBOX_FILE_MAX: usize = 200;
/// The most elements of a mailbox name.
const MAILBOX_DEPTH_MAX: usize = 20;

macro_rules! lower_case_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// The name in lower case.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

lower_case_name! {
    /// A user ID in lower case: the local part of the address and the name of the directory below `users`.
    UserId
}

lower_case_name! {
    /// A domain name in lower case, without a final dot.
    DomainName
}

lower_case_name! {
    /// The name of an alias or of a mailing list, in lower case.
    AliasName
}

impl UserId {
    /// A user ID as registries hold them: letters, digits and the signs that are legal in a local part and in a Windows
    /// file name, up to 64; no leading dot, no device name, not `_aliases`, which is the registry's key for aliases.
    pub fn parse(name: &str) -> Result<UserId, NameError> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"._-+'=~!^`{}#$%&".contains(&b);
        match name {
            "" => Err(NameError("a user ID must not be empty")),
            _ if name.len() > USER_ID_MAX => Err(NameError("a user ID has at most 64 characters")),
            _ if !name.bytes().all(legal) => {
                Err(NameError("a user ID has only letters, digits, '-', '_' and '.'"))
            }
            _ if name.starts_with('.') => Err(NameError("a user ID must not begin with a dot")),
            _ if name.eq_ignore_ascii_case("_aliases") => Err(NameError("_aliases is no user ID")),
            _ if is_device_name(name) => Err(NameError("this user ID is the name of a Windows device")),
            _ => Ok(UserId(name.to_ascii_lowercase().into())),
        }
    }

    /// A user ID for a new account: 1 to 30 letters, digits, `-`, `_` and `.` (IMail 12 help; manual 2-1 (1) asks for
    /// letters and digits, the three signs are in use on real servers).
    pub fn parse_new(name: &str) -> Result<UserId, NameError> {
        if name.len() > NEW_USER_ID_MAX {
            return Err(NameError("a user ID has at most 30 characters"));
        }
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
            return Err(NameError("a user ID has only letters, digits, '-', '_' and '.'"));
        }
        UserId::parse(name)
    }
}

/// A domain name as it is compared and looked up: in A-labels (RFC 5890 §2.3.2.1) and lower case, without a dot at the end. So `日本.jp`, also
/// with the ideographic full stop, is `xn--wgv71a.jp`. What is no domain name is in lower case, and equal to nothing else.
pub fn domain_key(name: &str) -> Cow<'_, str> {
    let bare = |name: &str| name.strip_suffix('.').unwrap_or(name).len();
    if name.is_ascii() {
        let name = &name[..bare(name)];
        return match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(name.to_ascii_lowercase()),
            false => Cow::Borrowed(name),
        };
    }
    let mut key = idna::domain_to_ascii(name).unwrap_or_else(|_| name.to_lowercase());
    key.truncate(bare(&key));
    Cow::Owned(key)
}

impl DomainName {
    /// A host name: labels of letters, digits, `-` and `_`, 1 to 63 long, 255 in all.
    pub fn parse(name: &str) -> Result<DomainName, NameError> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if name.len() > 255 || !name.split('.').all(label) {
            return Err(NameError("a domain name is made of letters, digits, '-' and dots"));
        }
        Ok(DomainName(name.to_ascii_lowercase().into()))
    }
}

impl AliasName {
    /// An alias or list name as registries hold them: up to 64 characters that are legal in a local part and in a
    /// Windows file name.
    pub fn parse(name: &str) -> Result<AliasName, NameError> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"._-+'=~!^`{}#$%&".contains(&b);
        if name.is_empty() || name.len() > USER_ID_MAX || !name.bytes().all(legal) || name.starts_with('.') {
            return Err(NameError("a name here has letters, digits, '-' and '_', at most 45"));
        }
        if is_device_name(name) {
            return Err(NameError("this is the name of a Windows device"));
        }
        Ok(AliasName(name.to_ascii_lowercase().into()))
    }
}

/// Names that Windows keeps for devices, with or without an extension.
fn is_device_name(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or("").to_ascii_uppercase();
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL")
        || (stem.len() == 4
            && (stem.starts_with("COM") || stem.starts_with("LPT"))
            && stem.ends_with(|c: char| c.is_ascii_digit()))
}

/// A mailbox of a user, by its name on the wire: canonical modified UTF-7 with `.` between the elements.
///
/// `INBOX` is the file `main.mbx`; `main` in any case means the same. Names that differ only in case are one mailbox.
#[derive(Clone, Debug)]
pub struct MailboxName {
    wire: Box<str>,
    key: Box<str>,
}

impl PartialEq for MailboxName {
    fn eq(&self, other: &MailboxName) -> bool {
        self.key == other.key
    }
}
impl Eq for MailboxName {}
impl std::hash::Hash for MailboxName {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}
impl PartialOrd for MailboxName {
    fn partial_cmp(&self, other: &MailboxName) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for MailboxName {
    fn cmp(&self, other: &MailboxName) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

impl fmt::Display for MailboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.wire)
    }
}

impl MailboxName {
    /// The name of every user's `main.mbx`.
    pub fn inbox() -> MailboxName {
        MailboxName { wire: "INBOX".into(), key: "inbox".into() }
    }

    /// A name as an IMAP client sends it (RFC 3501 §5.1.3, modified UTF-7).
    pub fn from_wire(name: &[u8]) -> Result<MailboxName, NameError> {
        let name = std::str::from_utf8(name).map_err(|_| NameError("a mailbox name is modified UTF-7"))?;
        let text = utf7::decode(name).ok_or(NameError("a mailbox name is modified UTF-7"))?;
        if utf7::encode(&text) != name {
            return Err(NameError("this mailbox name is not written in the shortest modified UTF-7"));
        }
        MailboxName::from_text(&text)
    }

    /// A name in Unicode, as UTF-8 clients and addresses (`user-mailbox@domain`) have it.
    pub fn from_text(text: &str) -> Result<MailboxName, NameError> {
        if text.eq_ignore_ascii_case("inbox") || text.eq_ignore_ascii_case("main") {
            return Ok(MailboxName::inbox());
        }
        if text.chars().any(|c| c.is_control() || matches!(c, '/' | '*' | '%')) {
            return Err(NameError("a mailbox name must not hold '/', '*', '%' or control characters"));
        }
        if text.split('.').any(str::is_empty) || text.split('.').count() > MAILBOX_DEPTH_MAX {
            return Err(NameError("a mailbox name must not have empty elements or more than 20 of them"));
        }
        let text = match text.split_once('.') {
            Some((first, rest)) if first.eq_ignore_ascii_case("inbox") => format!("INBOX.{rest}"),
            _ => text.to_owned(),
        };
        let name = MailboxName { wire: utf7::encode(&text).into(), key: text.to_lowercase().into() };
        if name.file_stem().len() + ".mbx".len() > MAILBOX_FILE_MAX {
            return Err(NameError("this mailbox name is too long"));
        }
        Ok(name)
    }

    /// The name under which a found file `<stem>.mbx` is shown: its modified UTF-7 reading if it is that, else the text as it stands.
    pub fn from_file_stem(stem: &str) -> Result<MailboxName, NameError> {
        let text = utf7::decode(stem).unwrap_or_else(|| stem.to_owned());
        MailboxName::from_text(&text)
    }

    /// As it stands on the wire.
    pub fn wire(&self) -> &str {
        &self.wire
    }

    /// In Unicode.
    pub fn text(&self) -> String {
        utf7::decode(&self.wire).unwrap_or_else(|| self.wire.to_string())
    }

    /// The form in which names are compared.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Is this `main.mbx`?
    pub fn is_inbox(&self) -> bool {
        &*self.key == "inbox"
    }

    /// The name above, if any: `A` for `A.B`.
    pub fn parent(&self) -> Option<MailboxName> {
        let text = self.text();
        MailboxName::from_text(text.rsplit_once('.')?.0).ok()
    }

    /// The name that stands in a new file's name before `.mbx`: modified UTF-7, in which also everything is encoded that Windows
    /// forbids in a file name, so that the tree survives Windows, zip and Samba.
    pub fn file_stem(&self) -> String {
        if self.is_inbox() {
            return "main".to_owned();
        }
        let text = self.text();
        let last = text.chars().count().saturating_sub(1);
        let device = is_device_name(&text);
        utf7::encode_more(&text, |index, c| {
            matches!(c, '\\' | ':' | '?' | '"' | '<' | '>' | '|')
                || (c == ' ' && (index == 0 || index == last))
                || (device && index == 0)
        })
    }
}

/// Modified UTF-7 (RFC 3501 §5.1.3).
pub mod utf7 {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

    /// The text of a modified UTF-7 name, `None` if it is none. Non-canonical but unambiguous forms are read.
    pub fn decode(name: &str) -> Option<String> {
        let mut text = String::with_capacity(name.len());
        let mut rest = name;
        while let Some(at) = rest.find('&') {
            let (plain, coded) = rest.split_at(at);
            push_plain(&mut text, plain)?;
            let (run, after) = coded[1..].split_once('-')?;
            if run.is_empty() {
                text.push('&');
            } else {
                text.push_str(&decode_run(run)?);
            }
            rest = after;
        }
        push_plain(&mut text, rest)?;
        Some(text)
    }

    fn push_plain(text: &mut String, plain: &str) -> Option<()> {
        plain.bytes().all(|b| (0x20..0x7f).contains(&b)).then(|| text.push_str(plain))
    }

    fn decode_run(run: &str) -> Option<String> {
        let (mut bits, mut count, mut units) = (0u32, 0, Vec::new());
        for byte in run.bytes() {
            let value = ALPHABET.iter().position(|&a| a == byte)? as u32;
            bits = (bits << 6 | value) & 0x3f_ffff;
            count += 6;
            if count >= 16 {
                count -= 16;
                units.push((bits >> count) as u16);
            }
        }
        let padding = bits & ((1 << count) - 1);
        if count >= 6 || padding != 0 || units.is_empty() {
            return None;
        }
        String::from_utf16(&units).ok()
    }

    /// The canonical modified UTF-7 form of a text.
    pub fn encode(text: &str) -> String {
        encode_more(text, |_, _| false)
    }

    /// As [`encode`], with further characters encoded that `more` picks by index and value.
    pub fn encode_more(text: &str, more: impl Fn(usize, char) -> bool) -> String {
        let mut name = String::with_capacity(text.len());
        let mut run: Vec<u16> = Vec::new();
        for (index, c) in text.chars().enumerate() {
            if (' '..='~').contains(&c) && !more(index, c) {
                flush(&mut name, &mut run);
                name.push(c);
                if c == '&' {
                    name.push('-');
                }
            } else {
                run.extend_from_slice(c.encode_utf16(&mut [0; 2]));
            }
        }
        flush(&mut name, &mut run);
        name
    }

    fn flush(name: &mut String, run: &mut Vec<u16>) {
        if run.is_empty() {
            return;
        }
        name.push('&');
        let (mut bits, mut count) = (0u32, 0);
        for unit in run.drain(..) {
            bits = bits << 16 | u32::from(unit);
            count += 16;
            while count >= 6 {
                count -= 6;
                name.push(char::from(ALPHABET[(bits >> count & 0x3f) as usize]));
            }
            bits &= (1 << count) - 1;
        }
        if count > 0 {
            name.push(char::from(ALPHABET[(bits << (6 - count) & 0x3f) as usize]));
        }
        name.push('-');
    }
}

/// The 16 hex digits that name a message's spool files and stand in its log lines (seen in 11.5 and 12.5): 4 random,
/// 8 connection number, 4 message number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpoolId(pub u64);

impl SpoolId {
    /// Reads 16 hex digits in either case.
    pub fn parse(text: &str) -> Option<SpoolId> {
        let hex = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        hex.then(|| u64::from_str_radix(text, 16).ok().map(SpoolId)).flatten()
    }

    /// The id of message `number` of the connection that this id belongs to.
    pub fn message(self, number: u16) -> SpoolId {
        SpoolId(self.0 & !0xffff | u64::from(number))
    }

    /// The connection number inside.
    pub fn connection(self) -> u32 {
        (self.0 >> 16) as u32
    }
}

impl fmt::Display for SpoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SpoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn domains_as_they_are_compared() {
        for (name, key) in [
            ("Example.ORG.", "example.org"),
            ("example.org", "example.org"),
            ("日本.jp", "xn--wgv71a.jp"),
            ("日本。ｊｐ", "xn--wgv71a.jp"),
            ("日本.jp。", "xn--wgv71a.jp"),
            ("XN--WGV71A.JP", "xn--wgv71a.jp"),
            ("Bücher.example", "xn--bcher-kva.example"),
            ("a_b.example", "a_b.example"),
            ("", ""),
            (".", ""),
            ("[192.0.2.1]", "[192.0.2.1]"),
        ] {
            assert_eq!(domain_key(name), key, "{name}");
        }
        assert_eq!(domain_key("\u{378}x.jp"), "\u{378}x.jp", "a name that none may have");
    }

    #[test]
    fn user_ids() {
        for good in ["mike", "Mr-Fred", "a.b_c", "u1"] {
            assert_eq!(UserId::parse_new(good).unwrap().as_str(), good.to_lowercase());
        }
        for bad in [
            "", ".", "..", ".x", "a/b", "a\\b", "a b", "a@b", "a\0b", "nul", "NUL.x", "com1", "_aliases",
            "\u{65e5}",
        ] {
            assert!(UserId::parse(bad).is_err(), "{bad:?}");
        }
        assert!(UserId::parse_new(&"x".repeat(31)).is_err());
        assert!(UserId::parse(&"x".repeat(31)).is_ok());
    }

    #[test]
    fn mailbox_names_and_their_files() {
        for (wire, stem) in [
            ("INBOX", "main"),
            ("inbox", "main"),
            ("MAIN", "main"),
            ("Sent", "Sent"),
            ("A.B", "A.B"),
            ("inbox.x", "INBOX.x"),
            ("deleted items", "deleted items"),
            ("&ZeVnLIqe-", "&ZeVnLIqe-"),
            ("a&-b", "a&-b"),
            ("a:b", "a&ADo-b"),
            ("con", "&AGM-on"),
            ("nul.x", "&AG4-ul.x"),
            (" x ", "&ACA-x&ACA-"),
        ] {
            let name = MailboxName::from_wire(wire.as_bytes()).unwrap();
            assert_eq!(name.file_stem(), stem);
            assert_eq!(MailboxName::from_file_stem(stem).unwrap(), name, "{stem}");
        }
        for bad in [
            "",
            "a..b",
            ".a",
            "a.",
            "a/b",
            "a*",
            "a%",
            "a\tb",
            "&",
            "&ZeVnLIqe",
            "&AGE-",
            "\u{65e5}",
            "../x",
            "..",
        ] {
            assert!(MailboxName::from_wire(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert_eq!(MailboxName::from_file_stem("\u{65e5}\u{672c}\u{8a9e}").unwrap().wire(), "&ZeVnLIqe-");
        assert_eq!(MailboxName::from_file_stem("A&B").unwrap().wire(), "A&-B");
        assert_eq!(MailboxName::from_wire(b"SENT").unwrap(), MailboxName::from_wire(b"sent").unwrap());
    }

    proptest! {
        #[test]
        fn utf7_round_trip(text in "\\PC{0,20}") {
            prop_assert_eq!(utf7::decode(&utf7::encode(&text)), Some(text));
        }

        #[test]
        fn no_name_leaves_its_directory(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(name) = MailboxName::from_wire(&bytes) {
                let stem = name.file_stem();
                prop_assert!(crate::path::is_component(stem.as_ref()));
                prop_assert!(!stem.contains(['\\', ':', '/']));
                prop_assert_eq!(MailboxName::from_file_stem(&stem).unwrap(), name);
            }
        }
    }
}
