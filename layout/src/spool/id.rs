//! What spool files are called, and ids that are never given twice.
//!
//! A name is a letter, the item's stem and an extension: `Q` + 16 hex digits + `.SMD`. The digits are 4 random ones, 8 of the connection
//! and 4 of the message (worked out from names of 11.5 and 12.5); older versions had shorter names without leading zeros, and
//! administrators make up their own. Names are compared without regard to case.
//!
//! # Ids
//! The memory of what was delivered goes by the id, so a repeated id would lose a message. Connection numbers come from `next.id`
//! in the spool, which always names a number above all that are in use: [`RESERVE`] are reserved at once and the file is durable before
//! the first of them is given. Message numbers go on from there as well, but it is the connection number that makes an
//! id unique: a connection that lives until the message numbers come round gets a new one.
//!
//! # Failure
//! Only reserving can fail, with the disk's error; then no id is given.
//!
//! # Limits
//! [`STEM_MAX`] characters between letter and dot. After 2^32 connections the numbers begin anew.

use crate::disk::{Disk, Open, read_whole, replace};
use crate::lock::{self, PATIENCE};
use crate::name::SpoolId;
use crate::path::TreePath;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// The longest stem that is taken for one.
pub const STEM_MAX: usize = 40;
/// How many numbers are reserved at once.
pub const RESERVE: u32 = 1024;
/// The shortest stem of an item whose extension other programs use as well.
const HEX_STEM_MIN: usize = 8;
/// The file with the next numbers.
const NEXT_ID: &str = "next.id";
/// It is one short line.
const FILE_MAX: u64 = 4096;

/// Why a message is in the spool, which its files' extension tells (IMail 2006 guide, "Spool files").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Received by SMTP or sent by a web mail user.
    Mail,
    /// Forwarded by a user's settings.
    Forward,
    /// To the members of a mailing list.
    List,
    /// A bounce.
    Bounce,
    /// For the program behind an alias.
    Program,
}

impl Origin {
    /// The extension; capitals, as SMTPD writes them.
    pub fn extension(self) -> &'static str {
        match self {
            Origin::Mail => "SMD",
            Origin::Forward => "FWD",
            Origin::List => "LST",
            Origin::Bounce => "GSE",
            Origin::Program => "TMP",
        }
    }
}

/// Extensions that only spool files have. The forms with a `p` are listed by the 2006 guide, `.gsc` stands in the vendor's example of a Q file.
const SPOOL_EXTENSIONS: [&str; 7] = ["smd", "smp", "fwd", "fwp", "gse", "gsp", "gsc"];
/// Extensions that other files have too: the stem must look like an id.
const SHARED_EXTENSIONS: [&str; 2] = ["lst", "tmp"];

/// What a file of the spool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// `D`: the message.
    Data,
    /// `T`: the envelope of a message that is still arriving.
    Arriving,
    /// `Q`: the envelope of a message that waits.
    Queued,
    /// `HQ`: the envelope of a message that an administrator holds back; IMail knows no such name and leaves it alone.
    Held,
    /// `_` and `.~MD`: our claim; what counts is the lock on it.
    Claim,
    /// `_` and `.~QW`: an envelope in the middle of being rewritten.
    Rewrite,
    /// `_` and another `.~??`: a claim of another program (IMail 8.2 guide: such a file means "in process").
    ForeignClaim,
}

impl Role {
    fn prefix(self) -> &'static str {
        match self {
            Role::Data => "D",
            Role::Arriving => "T",
            Role::Queued => "Q",
            Role::Held => "HQ",
            Role::Claim | Role::Rewrite | Role::ForeignClaim => "_",
        }
    }
}

/// The part that the files of one item share, in the spelling of the disk. There may be one in memory for each of very many waiting
/// messages, so it is one short text.
#[derive(Clone)]
pub struct ItemName {
    /// Stem, dot, extension; neither of the two has a dot of its own.
    text: Box<str>,
}

impl ItemName {
    /// The name of an item of ours.
    pub fn new(id: SpoolId, origin: Origin) -> ItemName {
        ItemName::of(&id.to_string(), origin.extension())
    }

    /// A name for the files of a stem alone, `_*`, whose items may have any extension.
    pub(super) fn of_stem(stem: &str) -> ItemName {
        ItemName::of(stem, Origin::Mail.extension())
    }

    fn of(stem: &str, extension: &str) -> ItemName {
        ItemName { text: format!("{stem}.{extension}").into() }
    }

    /// The name of the file with this role.
    pub fn file(&self, role: Role) -> String {
        let (prefix, stem) = (role.prefix(), self.stem());
        match role {
            Role::Claim => format!("{prefix}{stem}.~MD"),
            Role::Rewrite => format!("{prefix}{stem}.~QW"),
            // Their last two characters are their owner's; this one is only for messages.
            Role::ForeignClaim => format!("{prefix}{stem}.~??"),
            _ => format!("{prefix}{}", self.text),
        }
    }

    /// The item's id: what the stem says in hex, else a number that is always the same for this name.
    pub fn id(&self) -> SpoolId {
        let stem = self.stem();
        let hex = stem.len() <= 16 && stem.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = hex.then(|| u64::from_str_radix(stem, 16).ok()).flatten();
        SpoolId(number.unwrap_or_else(|| xxhash_rust::xxh3::xxh3_64(self.key().as_bytes())))
    }

    /// Between the letter and the dot.
    pub fn stem(&self) -> &str {
        self.text.split_once('.').map_or(&self.text, |(stem, _)| stem)
    }

    /// Behind the dot.
    pub fn extension(&self) -> &str {
        self.text.split_once('.').map_or("", |(_, extension)| extension)
    }

    /// The form in which names are compared.
    pub fn key(&self) -> String {
        self.text.to_ascii_lowercase()
    }

    fn folded(&self) -> impl Iterator<Item = u8> + '_ {
        self.text.bytes().map(|byte| byte.to_ascii_lowercase())
    }
}

impl PartialEq for ItemName {
    fn eq(&self, other: &ItemName) -> bool {
        self.text.eq_ignore_ascii_case(&other.text)
    }
}
impl Eq for ItemName {}
impl Ord for ItemName {
    fn cmp(&self, other: &ItemName) -> std::cmp::Ordering {
        self.folded().cmp(other.folded())
    }
}
impl PartialOrd for ItemName {
    fn partial_cmp(&self, other: &ItemName) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl std::hash::Hash for ItemName {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.folded().for_each(|byte| state.write_u8(byte));
        state.write_u8(0xff);
    }
}

impl fmt::Display for ItemName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for ItemName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A name found in the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A file of this item.
    Item(Role, ItemName),
    /// A claim or rewrite, for all items of this stem: their names have no place for the extension.
    Stem(Role, Box<str>),
}

/// Tells what a file of the spool is; `None` for logs and everything else that is none of an item's files.
pub fn recognize(file: &str) -> Option<Found> {
    let (stem, extension) = file.rsplit_once('.')?;
    if let Some(stem) = stem.strip_prefix('_') {
        let role = match extension {
            "~MD" => Role::Claim,
            "~QW" => Role::Rewrite,
            _ if extension.len() == 3 && extension.starts_with('~') => Role::ForeignClaim,
            _ => return None,
        };
        return is_stem(stem).then(|| Found::Stem(role, stem.into()));
    }
    let (role, stem) = match stem.as_bytes().first()?.to_ascii_uppercase() {
        b'D' => (Role::Data, stem.get(1..)?),
        b'T' => (Role::Arriving, stem.get(1..)?),
        b'Q' => (Role::Queued, stem.get(1..)?),
        b'H' if stem.as_bytes().get(1)?.eq_ignore_ascii_case(&b'Q') => (Role::Held, stem.get(2..)?),
        _ => return None,
    };
    let is = |known: &[&str]| known.iter().any(|known| known.eq_ignore_ascii_case(extension));
    let looks_like_id = stem.len() >= HEX_STEM_MIN && stem.bytes().all(|byte| byte.is_ascii_hexdigit());
    let ours = is_stem(stem) && (is(&SPOOL_EXTENSIONS) || (is(&SHARED_EXTENSIONS) && looks_like_id));
    ours.then(|| Found::Item(role, ItemName::of(stem, extension)))
}

fn is_stem(stem: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=STEM_MAX).contains(&stem.len()) && stem.bytes().all(legal)
}

/// Numbers as `next.id` holds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Numbers {
    connection: u32,
    message: u16,
}

impl Numbers {
    /// One line: the next connection number in 8 hex digits, a blank, the next message number in 4.
    fn write(self) -> Vec<u8> {
        format!("{:08x} {:04x}\n", self.connection, self.message).into_bytes()
    }

    fn parse(bytes: &[u8]) -> Option<Numbers> {
        let (connection, message) = std::str::from_utf8(bytes).ok()?.trim_end().split_once(' ')?;
        let connection = u32::from_str_radix(connection, 16).ok()?;
        Some(Numbers { connection, message: u16::from_str_radix(message, 16).ok()? })
    }

    /// Where numbers start in a spool without `next.id`: above those of a tree whose file was lost, unless it gave more than one number a
    /// second ever since.
    fn by_clock(now: i64) -> Numbers {
        Numbers { connection: (now / 1_000_000_000) as u32, message: 0 }
    }
}

#[derive(Default)]
struct Reserved {
    /// The next connection number.
    connection: u32,
    /// How many connection numbers are left.
    left: u32,
    /// How many messages there were, counted on from the number in the file; `None` before that was read.
    messages: Option<u64>,
}

/// Message numbers are 1 to this, over and over.
const MESSAGE_NUMBERS: u64 = 0xffff;

/// Gives ids.
pub struct IdSource {
    disk: Arc<dyn Disk>,
    file: TreePath,
    reserved: Mutex<Reserved>,
}

/// A connection's ids. There is one of each: copies would give the same ids.
#[derive(Debug)]
pub struct ConnectionId {
    id: SpoolId,
    /// The count of messages at its first one.
    first: Option<u64>,
}

impl ConnectionId {
    /// The id for log lines before the first message: message number 0, which no message has.
    pub fn id(&self) -> SpoolId {
        self.id
    }
}

impl IdSource {
    /// Ids for the spool in this directory, which must exist before the first is asked for.
    pub fn new(disk: Arc<dyn Disk>, spool: &TreePath) -> IdSource {
        IdSource { disk, file: spool.join(NEXT_ID), reserved: Mutex::default() }
    }

    /// Ids for a new connection.
    pub fn connection(&self) -> io::Result<ConnectionId> {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        self.next_connection(&mut reserved)
    }

    /// The id of the connection's next message.
    pub fn message(&self, connection: &mut ConnectionId) -> io::Result<SpoolId> {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let count = reserved.messages.unwrap_or(0);
        if connection.first.is_some_and(|first| count - first >= MESSAGE_NUMBERS) {
            *connection = self.next_connection(&mut reserved)?;
        }
        connection.first.get_or_insert(count);
        reserved.messages = Some(count + 1);
        Ok(connection.id.message(message_number(count)))
    }

    /// An id for a message that no connection brought: a bounce, a list post, a digest.
    pub fn own(&self) -> io::Result<SpoolId> {
        self.message(&mut self.connection()?)
    }

    fn next_connection(&self, reserved: &mut Reserved) -> io::Result<ConnectionId> {
        if reserved.left == 0 {
            self.reserve(reserved)?;
        }
        let number = reserved.connection;
        reserved.connection = number.wrapping_add(1);
        reserved.left -= 1;
        let mut random = [0; 2];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let id = u64::from(u16::from_ne_bytes(random)) << 48 | u64::from(number) << 16;
        Ok(ConnectionId { id: SpoolId(id), first: None })
    }

    /// Moves the file's numbers ahead; under its lock, since other processes may serve the same spool.
    fn reserve(&self, reserved: &mut Reserved) -> io::Result<()> {
        let locked = lock::acquire(&*self.disk, &self.file, Open::Create, PATIENCE).map_err(|e| match e {
            lock::LockError::Io(error) => error,
            busy => io::Error::new(io::ErrorKind::ResourceBusy, busy.to_string()),
        })?;
        let content = read_whole(&*locked, FILE_MAX)?;
        let from = Numbers::parse(&content).unwrap_or(Numbers::by_clock(self.disk.now()));
        let messages = reserved.messages.unwrap_or(u64::from(from.message.saturating_sub(1)));
        let ahead = Numbers {
            connection: from.connection.wrapping_add(RESERVE),
            message: message_number(messages + u64::from(RESERVE)),
        };
        replace(&*self.disk, &self.file, &ahead.write())?;
        *reserved = Reserved { connection: from.connection, left: RESERVE, messages: Some(messages) };
        Ok(())
    }
}

/// The number of the message before which there were `count`; 0 is the connection's own.
fn message_number(count: u64) -> u16 {
    (count % MESSAGE_NUMBERS) as u16 + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::{Crash, Failure, SimDisk};
    use proptest::prelude::*;
    use std::collections::HashSet;
    use std::path::Path;

    #[test]
    fn names_of_every_age_and_case() {
        let item = |role, stem: &str, extension: &str| Some(Found::Item(role, ItemName::of(stem, extension)));
        let stem = |role, stem: &str| Some(Found::Stem(role, stem.into()));
        for (name, expected) in [
            ("D28de0018025017cd.SMD", item(Role::Data, "28de0018025017cd", "SMD")),
            ("q28DE0018025017CD.smd", item(Role::Queued, "28de0018025017cd", "smd")),
            ("D0b63aa8048c.GSC", item(Role::Data, "0b63aa8048c", "GSC")),
            ("Tabcdef0123456789.LST", item(Role::Arriving, "abcdef0123456789", "LST")),
            ("HQ28de0018025017cd.SMD", item(Role::Held, "28de0018025017cd", "SMD")),
            ("Qtest-1.SMD", item(Role::Queued, "test-1", "SMD")),
            ("_28de0018025017cd.~MD", stem(Role::Claim, "28de0018025017cd")),
            ("_28de0018025017cd.~QW", stem(Role::Rewrite, "28de0018025017cd")),
            ("_nex0a.~ab", stem(Role::ForeignClaim, "nex0a")),
            ("sys20220801.txt", None),
            ("download.tmp", None),
            ("Data.lst", None),
            ("Quarantine.txt", None),
            ("Q.SMD", None),
            ("D..SMD", None),
            ("Da/b.SMD", None),
            ("next.id", None),
            ("A28de0018025017cd.SMD", None),
            ("D\u{65e5}.SMD", None),
            ("Q", None),
            ("", None),
        ] {
            assert_eq!(recognize(name), expected, "{name}");
        }
    }

    #[test]
    fn a_name_made_is_a_name_recognized() {
        for origin in [Origin::Mail, Origin::Forward, Origin::List, Origin::Bounce, Origin::Program] {
            let name = ItemName::new(SpoolId(0x28de_0018_0250_17cd), origin);
            assert_eq!(name.id(), SpoolId(0x28de_0018_0250_17cd));
            for role in [Role::Data, Role::Arriving, Role::Queued, Role::Held] {
                assert_eq!(recognize(&name.file(role)), Some(Found::Item(role, name.clone())));
            }
            for role in [Role::Claim, Role::Rewrite] {
                assert_eq!(recognize(&name.file(role)), Some(Found::Stem(role, name.stem().into())));
            }
        }
        let old = ItemName::of("0B63aa8048c", "GSC");
        assert_eq!(old.id(), SpoolId(0x00b6_3aa8_048c));
        let odd = |stem: &str| ItemName::of(stem, "SMD").id();
        assert_eq!(odd("test-1"), odd("TEST-1"));
        assert_ne!(odd("test-1"), odd("test-2"));
    }

    fn spool(disk: &SimDisk) -> TreePath {
        let spool = TreePath::base_of(Path::new("/mail")).join("spool");
        disk.seed(&spool.join("D1.SMD"), b"");
        spool
    }

    #[test]
    fn numbers_start_by_the_clock_and_go_on_over_restarts() {
        let disk = SimDisk::new();
        let spool = spool(&disk);
        let clock = (disk.now() / 1_000_000_000) as u32;
        let ids = IdSource::new(Arc::new(disk.clone()), &spool);
        let mut first = ids.connection().unwrap();
        assert_eq!(first.id().connection(), clock);
        assert_eq!(first.id().0 & 0xffff, 0);
        assert_eq!(ids.message(&mut first).unwrap().0, first.id().0 | 1);
        assert_eq!(ids.message(&mut first).unwrap().0, first.id().0 | 2);
        assert_eq!(ids.own().unwrap().connection(), clock + 1);
        let ids = IdSource::new(Arc::new(disk.clone()), &spool);
        assert_eq!(ids.connection().unwrap().id().connection(), clock + RESERVE);
        disk.seed(&spool.join(NEXT_ID), b"0000ffff fffe\r\n");
        let ids = IdSource::new(Arc::new(disk.clone()), &spool);
        let mut second = ids.connection().unwrap();
        assert_eq!(second.id().connection(), 0xffff);
        let numbers: Vec<u64> = (0..3).map(|_| ids.message(&mut second).unwrap().0 & 0xffff).collect();
        assert_eq!(numbers, [0xfffe, 0xffff, 1]);
    }

    #[test]
    fn a_connection_with_very_many_messages_gets_a_new_number() {
        let disk = SimDisk::new();
        let spool = spool(&disk);
        let ids = IdSource::new(Arc::new(disk), &spool);
        let mut connection = ids.connection().unwrap();
        let given: HashSet<SpoolId> = (0..200_000).map(|_| ids.message(&mut connection).unwrap()).collect();
        assert_eq!(given.len(), 200_000);
        // Others may have used the numbers up just as well.
        let mut patient = ids.connection().unwrap();
        let first = ids.message(&mut patient).unwrap();
        for _ in 1..0xffff {
            ids.message(&mut connection).unwrap();
        }
        let second = ids.message(&mut patient).unwrap();
        assert_eq!((first.0 & 0xffff, first.connection() == second.connection()), (second.0 & 0xffff, false));
    }

    #[test]
    fn no_number_is_given_twice_whatever_crashes() {
        for failure in [Failure::Crash, Failure::TornCrash, Failure::Full, Failure::Error] {
            for n in 1..14 {
                for crash in
                    [Crash::Kill, Crash::PowerStrict, Crash::PowerMixed(n), Crash::PowerMixed(n + 50)]
                {
                    let mut disk = SimDisk::new();
                    let spool = spool(&disk);
                    disk.fail_at(n, failure);
                    let mut given = HashSet::new();
                    for _ in 0..3 {
                        // Two processes at once.
                        let all = [0; 2].map(|_| IdSource::new(Arc::new(disk.clone()), &spool));
                        for ids in all.iter().cycle().take(5 + 2 * RESERVE as usize) {
                            let Ok(connection) = ids.connection() else { continue };
                            assert!(given.insert(connection.id().connection()), "{failure:?} {n} {crash:?}");
                        }
                        disk = disk.after(crash);
                    }
                    assert!(given.len() > RESERVE as usize);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_name_is_harmless(name in "\\PC{0,30}|[QDTH_]{1,2}[0-9a-f]{0,18}\\.(SMD|~MD|tmp|.{0,4})") {
            if let Some(Found::Item(role, item)) = recognize(&name) {
                prop_assert!(item.file(role).eq_ignore_ascii_case(&name));
                prop_assert!(crate::path::is_component(item.file(role).as_ref()));
            }
        }

        #[test]
        fn numbers_read_back(connection: u32, message: u16) {
            let numbers = Numbers { connection, message };
            prop_assert_eq!(Numbers::parse(&numbers.write()), Some(numbers));
        }
    }
}
