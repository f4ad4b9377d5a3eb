//! What a client can ask for: the commands of RFC 3501 and of the extensions that need no more than their syntax.
//!
//! Plain data, made by [`super::parse`]. Strings are kept as the bytes that came: mailbox names in their wire form
//! (modified UTF-7), search strings in the charset of the command.

use std::fmt;

use chrono::{DateTime, FixedOffset, NaiveDate};

use super::sequence::SequenceSet;
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
    /// `SELECT`
    Select(WireMailbox),
    /// `EXAMINE`
    Examine(WireMailbox),
    /// `CREATE`
    Create(WireMailbox),
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
    List(ListPattern),
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
    /// `APPEND`, up to the announcement of the message.
    Append {
        /// Where the message goes.
        mailbox: WireMailbox,
        /// Flags that it gets.
        flags: Vec<Flag>,
        /// Internal date that it gets; the present without.
        date: Option<DateTime<FixedOffset>>,
        /// Announcement of the message, which follows on the connection.
        literal: LiteralAnnounced,
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
    Search {
        /// Numbers that are answered.
        numbering: Numbering,
        /// Charset of the strings.
        charset: Option<Vec<u8>>,
        /// What messages must meet; several are [`SearchKey::And`].
        key: SearchKey,
    },
    /// `FETCH` and `UID FETCH`
    Fetch {
        /// How the messages are named. With [`Numbering::Uid`] the answer holds the UID even if it is not among the items.
        numbering: Numbering,
        /// The messages.
        set: SequenceSet,
        /// What is wanted of each, macros resolved.
        items: Vec<FetchItem>,
    },
    /// `STORE` and `UID STORE`
    Store {
        /// How the messages are named.
        numbering: Numbering,
        /// The messages.
        set: SequenceSet,
        /// What happens with the flags.
        operation: StoreOperation,
        /// `.SILENT`: no answer with the new flags.
        silent: bool,
        /// The flags.
        flags: Vec<Flag>,
    },
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

/// Arguments of LIST and LSUB.
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
}

impl FetchItem {
    /// Whether answering the item makes the message `\Seen`.
    pub fn marks_seen(&self) -> bool {
        matches!(self, FetchItem::Rfc822 | FetchItem::Rfc822Text | FetchItem::Section { peek: false, .. })
    }
}

/// Date of a message that a search compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DateField {
    /// Internal date.
    Internal,
    /// The `Date:` field.
    Sent,
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
}
