//! How a command ends: `OK`, `NO` or `BAD` with a response code and a text for people (RFC 3501 §7.1, RFC 5530).

use crate::mailbox::folders::FolderError;
use layout::mailbox::MailboxError;
use std::io;
use std::sync::Arc;

/// A command that was done.
#[derive(Debug)]
pub struct Done {
    /// The response code without brackets; may be empty.
    pub code: String,
    /// The text.
    pub text: &'static str,
}

/// Done, with no more to say than a text.
pub fn done(text: &'static str) -> Outcome {
    Ok(Done { code: String::new(), text })
}

/// A command that was not done.
#[derive(Debug)]
pub enum Failed {
    /// It cannot be done: code (may be empty) and text.
    No(&'static str, String),
    /// The client made a mistake.
    Bad(String),
    /// The connection is over, and why.
    Bye(&'static str),
    /// The connection failed; there is nobody to tell.
    Connection,
}

/// How a command ended.
pub type Outcome = Result<Done, Failed>;

impl Failed {
    /// `NO` without a code.
    pub fn no(text: impl Into<String>) -> Failed {
        Failed::No("", text.into())
    }

    /// There is no such mailbox (RFC 5530).
    pub fn nonexistent() -> Failed {
        Failed::No("NONEXISTENT", "there is no such mailbox".to_owned())
    }

    /// A public mailbox is `public`'s to change (RFC 5530).
    pub fn public() -> Failed {
        Failed::No("NOPERM", "only the user public can change public mailboxes".to_owned())
    }

    /// There is no such mailbox to put messages into, but CREATE would make it (RFC 3501 §7.1).
    pub fn try_create() -> Failed {
        Failed::No("TRYCREATE", "there is no such mailbox".to_owned())
    }

    /// Messages that the client knows were removed meanwhile (RFC 5530).
    pub fn expunged() -> Failed {
        Failed::No("EXPUNGEISSUED", "some of these messages were removed meanwhile".to_owned())
    }
}

/// The connection is the only thing that handlers write to.
impl From<io::Error> for Failed {
    fn from(_: io::Error) -> Failed {
        Failed::Connection
    }
}

impl From<MailboxError> for Failed {
    fn from(error: MailboxError) -> Failed {
        of_mailbox(&error)
    }
}

impl From<Arc<MailboxError>> for Failed {
    fn from(error: Arc<MailboxError>) -> Failed {
        of_mailbox(&error)
    }
}

impl From<FolderError> for Failed {
    fn from(error: FolderError) -> Failed {
        match error {
            FolderError::Exists => Failed::No("ALREADYEXISTS", error.to_string()),
            FolderError::Missing => Failed::nonexistent(),
            FolderError::Refused(why) => Failed::No("CANNOT", why.to_owned()),
            FolderError::Mailbox(error) => of_mailbox(&error),
        }
    }
}

/// What the client is told of a failure; paths and details are for the log.
fn of_mailbox(error: &MailboxError) -> Failed {
    match error {
        MailboxError::Foreign { why, .. } => {
            Failed::No("CORRUPTION", format!("the mailbox file was left alone: {why}"))
        }
        MailboxError::Locked(_) => {
            Failed::No("INUSE", "the mailbox is locked by another program, try again".to_owned())
        }
        MailboxError::Changed => {
            Failed::No("INUSE", "the mailbox is being changed by another program, try again".to_owned())
        }
        MailboxError::TooLarge(_) => {
            Failed::No("OVERQUOTA", "the mailbox has the largest size that IMail can read".to_owned())
        }
        MailboxError::Gone => Failed::expunged(),
        MailboxError::Limit(what) => Failed::No("LIMIT", (*what).to_owned()),
        MailboxError::Io(error) => of_disk(error),
    }
}

/// What the client is told when the disk failed.
pub fn of_disk(error: &io::Error) -> Failed {
    tracing::error!(%error, "an IMAP4 command failed on the disk");
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Failed::No("UNAVAILABLE", "the server's disk is full, tell the administrator".to_owned())
        }
        _ => Failed::No("SERVERBUG", "the server could not do this, tell the administrator".to_owned()),
    }
}

impl Failed {
    /// The tagged line; nothing when the connection is over anyway.
    pub fn line(&self, tag: &str) -> Option<String> {
        let (word, code, text) = match self {
            Failed::No(code, text) => ("NO", *code, text),
            Failed::Bad(text) => ("BAD", "", text),
            Failed::Bye(_) | Failed::Connection => return None,
        };
        Some(match code {
            "" => format!("{tag} {word} {text}\r\n"),
            code => format!("{tag} {word} [{code}] {text}\r\n"),
        })
    }
}

impl Done {
    /// The tagged line.
    pub fn line(&self, tag: &str) -> String {
        match self.code.as_str() {
            "" => format!("{tag} OK {}\r\n", self.text),
            code => format!("{tag} OK [{code}] {}\r\n", self.text),
        }
    }
}
