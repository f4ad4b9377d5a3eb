//! What a client can ask for: the commands of RFC 3501 and RFC 9051, and of the extensions.
//!
//! Plain data, made by [`super::parse`]. Strings are kept as the bytes that came: mailbox names in their wire form
//! (modified UTF-7), search strings in the charset of the command.

use std::fmt;

use chrono::{DateTime, FixedOffset, NaiveDate};

use super::sequence::SequenceSet;
use crate::mailbox::special_use::SpecialUse;
use crate::message::section::Section;

/// Tag that a client puts before a command and the server before its answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tag(pub String);

impl fmt::Display for Tag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A command with its tag.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The client's tag.
    pub tag: Tag,
    /// What is asked for.
    pub command: Command,
}

/// A mailbox name in the form it has on the wire; not checked, `INBOX` in any case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WireMailbox(pub Vec<u8>);

/// A secret that is never shown in logs or errors.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

/// How the messages of a command are named and answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbering {
    /// By message sequence number.
    Sequence,
    /// By UID: the command came with the `UID` prefix.
    Uid,
}

/// A command.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// `CAPABILITY`
    Capability,
    /// `NOOP`
    Noop,
    /// `LOGOUT`
    Logout,
    /// `ID` (RFC 2971): what the client says of itself, in pairs; none for `NIL`.
    Id(Vec<(Vec<u8>, Option<Vec<u8>>)>),
    /// `STARTTLS`
    Starttls,
    /// `AUTHENTICATE`
    Authenticate {
        /// Name of the mechanism, upper case.
        mechanism: String,
        /// Initial response of SASL-IR (RFC 4959), still in base64; empty for `=`.
        initial: Option<Secret>,
    },
    /// `LOGIN`
    Login {
        /// Login name.
        user: Vec<u8>,
        /// Password.
        password: Secret,
    },
    /// `COMPRESS` (RFC 4978): name of the algorithm, upper case.
    Compress(String),
    /// `ENABLE` (RFC 5161): names of the extensions, upper case.
    Enable(Vec<String>),
    /// `SELECT` and `EXAMINE`
    Select {
        /// Mailbox that is opened.
        mailbox: WireMailbox,
        /// `EXAMINE`: nothing is changed.
        read_only: bool,
        /// `CONDSTORE` among the parameters (RFC 7162 §3.1.8).
        condstore: bool,
        /// `QRESYNC` among the parameters.
        qresync: Option<Qresync>,
    },
    /// `CREATE`
    Create {
        /// Name of the new mailbox.
        mailbox: WireMailbox,
        /// What it is for (RFC 6154 §3); `None`: something that is not known here.
        uses: Option<Vec<SpecialUse>>,
    },
    /// `DELETE`
    Delete(WireMailbox),
    /// `RENAME`
    Rename {
        /// Present name.
        from: WireMailbox,
        /// New name.
        to: WireMailbox,
    },
    /// `SUBSCRIBE`
    Subscribe(WireMailbox),
    /// `UNSUBSCRIBE`
    Unsubscribe(WireMailbox),
    /// `LIST`
    List(List),
    /// `LSUB`
    Lsub(ListPattern),
    /// `NAMESPACE` (RFC 2342)
    Namespace,
    /// `STATUS`
    Status {
        /// Mailbox that is asked about.
        mailbox: WireMailbox,
        /// What is asked, in the client's order.
        items: Vec<StatusItem>,
    },
    /// `GETQUOTA` (RFC 9208): name of the quota root.
    GetQuota(Vec<u8>),
    /// `GETQUOTAROOT`
    GetQuotaRoot(WireMailbox),
    /// `SETQUOTA`: quotas are the administrator's.
    SetQuota,
    /// `APPEND`, up to the announcement of the first message.
    Append {
        /// Where the messages go.
        mailbox: WireMailbox,
        /// The first message.
        first: NewcomerAnnounced,
    },
    /// `IDLE` (RFC 2177)
    Idle,
    /// `CHECK`
    Check,
    /// `CLOSE`
    Close,
    /// `UNSELECT` (RFC 3691)
    Unselect,
    /// `EXPUNGE`
    Expunge,
    /// `UID EXPUNGE` (RFC 4315): only these.
    UidExpunge(SequenceSet),
    /// `SEARCH` and `UID SEARCH`
    Search(Search),
    /// `SORT` and `UID SORT` (RFC 5256).
    Sort {
        /// Which messages.
        search: Search,
        /// What their order is by, the most important first.
        order: Vec<SortKey>,
    },
    /// `THREAD` and `UID THREAD` (RFC 5256).
    Thread {
        /// Which messages.
        search: Search,
        /// How they belong together.
        algorithm: ThreadAlgorithm,
    },
    /// `FETCH` and `UID FETCH`
    Fetch {
        /// How the messages are named. With [`Numbering::Uid`] the answer holds the UID even if it is not among the items.
        numbering: Numbering,
        /// The messages.
        set: SequenceSet,
        /// What is wanted of each, macros resolved.
        items: Vec<FetchItem>,
        /// Only messages that changed after this one (RFC 7162 §3.1.4.1).
        changed_since: Option<u64>,
        /// Removed messages are told too (RFC 7162 §3.2.6).
        vanished: bool,
    },
    /// `STORE` and `UID STORE`
    Store(Store),
    /// `COPY` and `UID COPY`
    Copy {
        /// How the messages are named.
        numbering: Numbering,
        /// The messages.
        set: SequenceSet,
        /// Where the copies go.
        mailbox: WireMailbox,
    },
    /// `MOVE` and `UID MOVE` (RFC 6851)
    Move {
        /// How the messages are named.
        numbering: Numbering,
        /// The messages.
        set: SequenceSet,
        /// Where they go.
        mailbox: WireMailbox,
    },
}

/// Announcement of a literal: `{12}` or `{12+}` at the end of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiteralAnnounced {
    /// Length in bytes.
    pub length: u64,
    /// Whether the client waits for `+` before it sends (RFC 7888: `{12+}` does not wait).
    pub sync: bool,
}

/// A message that APPEND announces.
#[derive(Debug, Clone, PartialEq)]
pub struct NewcomerAnnounced {
    /// Flags that it gets.
    pub flags: Vec<Flag>,
    /// Internal date that it gets; the present without.
    pub date: Option<DateTime<FixedOffset>>,
    /// Announcement of the message, which follows on the connection.
    pub literal: LiteralAnnounced,
    /// `UTF8 (~{12}`: a parenthesis follows the message (RFC 6855 §4).
    pub utf8: bool,
}

/// What a client remembers of a mailbox that it opens again (RFC 7162 §3.2.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qresync {
    /// UIDVALIDITY.
    pub uidvalidity: u32,
    /// Number of the last change that it knows.
    pub modseq: u64,
    /// UIDs that it knows; all without.
    pub known: Option<SequenceSet>,
    /// Some sequence numbers, and the UIDs that these messages had.
    pub matches: Option<(SequenceSet, SequenceSet)>,
}

/// STORE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// How the messages are named.
    pub numbering: Numbering,
    /// The messages.
    pub set: SequenceSet,
    /// Only messages that did not change after this one (RFC 7162 §3.1.3).
    pub unchanged_since: Option<u64>,
    /// What happens with the flags.
    pub operation: StoreOperation,
    /// `.SILENT`: no answer with the new flags.
    pub silent: bool,
    /// The flags.
    pub flags: Vec<Flag>,
}

/// SEARCH, and which messages SORT and THREAD are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// Numbers that are answered.
    pub numbering: Numbering,
    /// What is answered in an ESEARCH response (RFC 4731); `None`: the client did not ask for one.
    pub returns: Option<SearchReturn>,
    /// Charset of the strings.
    pub charset: Option<Vec<u8>>,
    /// What messages must meet; several are [`SearchKey::And`].
    pub key: SearchKey,
}

/// What an ESEARCH response tells (RFC 4731 §3.1, RFC 5182).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SearchReturn {
    /// The lowest number.
    pub min: bool,
    /// The highest number.
    pub max: bool,
    /// All numbers.
    pub all: bool,
    /// How many there are.
    pub count: bool,
    /// The result is kept as `$`.
    pub save: bool,
}

/// What SORT compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortField {
    /// Internal date.
    Arrival,
    /// Mailbox of the first address of the field.
    Address(&'static str),
    /// Name of the first address of the field, else the address (RFC 5957).
    Display(&'static str),
    /// `Date:` field.
    Date,
    /// Size.
    Size,
    /// Base subject.
    Subject,
}

/// One criterion of SORT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SortKey {
    /// What is compared.
    pub field: SortField,
    /// Descending.
    pub reverse: bool,
}

/// How THREAD puts messages together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreadAlgorithm {
    /// By base subject and date.
    OrderedSubject,
    /// By the `References:` and `In-Reply-To:` fields.
    References,
}

/// LIST with its options (RFC 5258).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct List {
    /// Only subscribed names, whether the mailbox exists or not.
    pub subscribed: bool,
    /// Only mailboxes with a special use (RFC 6154).
    pub special_use: bool,
    /// Also names below which something is selected.
    pub recursive_match: bool,
    /// Reference name, to be put before the patterns.
    pub reference: Vec<u8>,
    /// Patterns with the wildcards `*` and `%`.
    pub patterns: Vec<Vec<u8>>,
    /// What is told besides.
    pub returns: ListReturn,
}

/// What LIST tells besides the names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListReturn {
    /// Whether the mailbox is subscribed.
    pub subscribed: bool,
    /// What STATUS would tell (RFC 5819).
    pub status: Vec<StatusItem>,
}

/// Arguments of LSUB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPattern {
    /// Reference name, to be put before the pattern.
    pub reference: WireMailbox,
    /// Pattern with the wildcards `*` and `%`.
    pub pattern: Vec<u8>,
}

/// What STATUS can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusItem {
    /// Number of messages.
    Messages,
    /// Number of recent messages.
    Recent,
    /// The next UID.
    UidNext,
    /// The UIDVALIDITY.
    UidValidity,
    /// Number of messages without `\Seen`.
    Unseen,
    /// Number of messages with `\Deleted` (RFC 9051 §6.3.11).
    Deleted,
    /// Bytes of all messages (RFC 8438).
    Size,
    /// Number of the last change (RFC 7162 §3.1.7).
    HighestModSeq,
    /// Largest message that APPEND takes (RFC 7889).
    AppendLimit,
    /// What the mailbox is told apart by, whatever its name (RFC 8474).
    MailboxId,
}

/// The items of STATUS with their names.
const STATUS_ITEMS: [(StatusItem, &str); 10] = [
    (StatusItem::Messages, "MESSAGES"),
    (StatusItem::Recent, "RECENT"),
    (StatusItem::UidNext, "UIDNEXT"),
    (StatusItem::UidValidity, "UIDVALIDITY"),
    (StatusItem::Unseen, "UNSEEN"),
    (StatusItem::Deleted, "DELETED"),
    (StatusItem::Size, "SIZE"),
    (StatusItem::HighestModSeq, "HIGHESTMODSEQ"),
    (StatusItem::AppendLimit, "APPENDLIMIT"),
    (StatusItem::MailboxId, "MAILBOXID"),
];

impl StatusItem {
    /// The item of a name in upper case.
    pub fn of_name(name: &str) -> Option<StatusItem> {
        STATUS_ITEMS.iter().find(|(_, known)| *known == name).map(|(item, _)| *item)
    }

    /// The item's name.
    pub fn name(self) -> &'static str {
        STATUS_ITEMS.iter().find(|(item, _)| *item == self).map_or("", |(_, name)| name)
    }
}

/// A flag of a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Flag {
    /// `\Seen`
    Seen,
    /// `\Answered`
    Answered,
    /// `\Flagged`
    Flagged,
    /// `\Deleted`
    Deleted,
    /// `\Draft`
    Draft,
    /// `\Recent`: only told by the server, and asked for in SEARCH.
    Recent,
    /// A word that a client chose, as written. Compared without regard to case.
    Keyword(String),
}

impl Flag {
    /// The flag as it stands on the wire.
    pub fn name(&self) -> &str {
        match self {
            Flag::Seen => "\\Seen",
            Flag::Answered => "\\Answered",
            Flag::Flagged => "\\Flagged",
            Flag::Deleted => "\\Deleted",
            Flag::Draft => "\\Draft",
            Flag::Recent => "\\Recent",
            Flag::Keyword(keyword) => keyword,
        }
    }
}

/// What STORE does with the flags it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreOperation {
    /// `FLAGS`: these and no others.
    Replace,
    /// `+FLAGS`
    Add,
    /// `-FLAGS`
    Remove,
}

/// What FETCH can tell of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchItem {
    /// `FLAGS`
    Flags,
    /// `INTERNALDATE`
    InternalDate,
    /// `RFC822.SIZE`
    Rfc822Size,
    /// `ENVELOPE`
    Envelope,
    /// `BODY` without section: the structure without extension data.
    Body,
    /// `BODYSTRUCTURE`
    BodyStructure,
    /// `UID`
    Uid,
    /// `RFC822`: as `BODY[]`, under its own name in the answer.
    Rfc822,
    /// `RFC822.HEADER`: as `BODY.PEEK[HEADER]`.
    Rfc822Header,
    /// `RFC822.TEXT`: as `BODY[TEXT]`.
    Rfc822Text,
    /// `BODY[...]` or `BODY.PEEK[...]`
    Section {
        /// Which part of the message.
        section: Section,
        /// `BODY.PEEK`: the message does not become `\Seen`.
        peek: bool,
        /// Which bytes of it: offset and count.
        partial: Option<(u32, u32)>,
    },
    /// `BINARY[...]` or `BINARY.PEEK[...]`: a part without its transfer encoding (RFC 3516).
    Binary {
        /// Part numbers from the outside in.
        part: Vec<u32>,
        /// `BINARY.PEEK`
        peek: bool,
        /// Which bytes of it: offset and count.
        partial: Option<(u32, u32)>,
    },
    /// `BINARY.SIZE[...]`
    BinarySize(Vec<u32>),
    /// `MODSEQ` (RFC 7162)
    ModSeq,
    /// `EMAILID` (RFC 8474)
    EmailId,
    /// `THREADID` (RFC 8474)
    ThreadId,
    /// `SAVEDATE` (RFC 8514)
    SaveDate,
    /// `PREVIEW` (RFC 8970)
    Preview,
}

impl FetchItem {
    /// Whether answering the item makes the message `\Seen`.
    pub fn marks_seen(&self) -> bool {
        matches!(
            self,
            FetchItem::Rfc822
                | FetchItem::Rfc822Text
                | FetchItem::Section { peek: false, .. }
                | FetchItem::Binary { peek: false, .. }
        )
    }
}

/// Date of a message that a search compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DateField {
    /// Internal date.
    Internal,
    /// The `Date:` field.
    Sent,
    /// When it was stored here (RFC 8514).
    Saved,
}

/// How a search compares days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DateRelation {
    /// Earlier than the day.
    Before,
    /// On the day.
    On,
    /// On the day or later.
    Since,
}

/// What a message must meet to be found (RFC 3501 §6.4.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SearchKey {
    /// Every message.
    All,
    /// All of these.
    And(Vec<SearchKey>),
    /// One of the two at least.
    Or(Box<SearchKey>, Box<SearchKey>),
    /// Not this.
    Not(Box<SearchKey>),
    /// The flag is set, or is not set (`KEYWORD`, `ANSWERED`, `UNSEEN`, `OLD` ...). `NEW` is `\Recent` and not `\Seen`.
    Flag {
        /// The flag.
        flag: Flag,
        /// Whether it must be set.
        set: bool,
    },
    /// Message sequence numbers.
    Sequence(SequenceSet),
    /// UIDs.
    Uid(SequenceSet),
    /// The header field holds the string (`HEADER`, `FROM`, `TO`, `CC`, `BCC`, `SUBJECT`).
    Header {
        /// Name of the field.
        name: Vec<u8>,
        /// String in the charset of the command; empty: the field must be there.
        text: Vec<u8>,
    },
    /// The body holds the string.
    Body(Vec<u8>),
    /// The header or the body holds the string.
    Text(Vec<u8>),
    /// A date is before, on or after a day.
    Date {
        /// Which date.
        field: DateField,
        /// How it is compared.
        relation: DateRelation,
        /// The day.
        day: NaiveDate,
    },
    /// More bytes than this (as `RFC822.SIZE` counts them).
    Larger(u32),
    /// Fewer bytes than this.
    Smaller(u32),
    /// Its internal date is at most so many seconds ago (RFC 5032).
    Younger(u32),
    /// Its internal date is at least so many seconds ago.
    Older(u32),
    /// It changed with this change or later (RFC 7162 §3.1.5).
    ModSeq(u64),
    /// Its EMAILID.
    EmailId(Vec<u8>),
    /// Its THREADID: no message has one.
    ThreadId(Vec<u8>),
    /// The mailbox knows when messages were saved.
    SaveDateSupported,
}
