//! Commands from the connection: lines and the literals in them.
//!
//! # Failure
//! [`Unread`]: the connection is over, or the command was refused and the next one may follow.
//!
//! # Limits
//! [`COMMAND_MAX`], [`LITERAL_MAX`], [`LITERALS_MAX`]. The message of an APPEND is not read here.

use super::command::Tag;
use super::parse;
use crate::session::connection::{Connection, ReadError};
use std::io;
use std::time::Duration;
use tokio::time::Instant;

/// The longest command, its literals included, in bytes.
pub const COMMAND_MAX: usize = 64 << 10;
/// The longest literal that is not a message: names, passwords and search strings are shorter.
pub const LITERAL_MAX: u64 = 8 << 10;
/// The most literals of one command.
pub const LITERALS_MAX: usize = 100;
/// How much is read at once.
const PIECE: usize = 64 << 10;

/// Why there is no command.
#[derive(Debug)]
pub enum Unread {
    /// A literal is too long and was not sent yet: the tagged answer is all that there is to do.
    Refused(Option<Tag>),
    /// What the client sends cannot be followed any more.
    Lost(&'static str),
    /// The connection is over, or was silent too long.
    Connection(ReadError),
}

impl From<ReadError> for Unread {
    fn from(error: ReadError) -> Unread {
        match error {
            ReadError::TooLong => Unread::Lost("the command line is too long"),
            other => Unread::Connection(other),
        }
    }
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Unread {
        Unread::Connection(error.into())
    }
}

/// Reads one command with each literal in place, complete but for the message of an APPEND. `deadline` is for all of it.
pub async fn command(connection: &mut Connection, deadline: Instant) -> Result<Vec<u8>, Unread> {
    let mut bytes = Vec::new();
    for _ in 0..=LITERALS_MAX {
        let line = connection.line(COMMAND_MAX - bytes.len(), left(deadline)).await?;
        bytes.extend_from_slice(&line);
        let Some(literal) = parse::pending_literal(&bytes) else {
            return Ok(bytes);
        };
        if parse::is_append_message_literal(&bytes) {
            return Ok(bytes);
        }
        if literal.length > LITERAL_MAX || bytes.len() + literal.length as usize >= COMMAND_MAX {
            return Err(match literal.sync {
                true => Unread::Refused(parse::tag(&bytes)),
                false => Unread::Lost("a literal is too long"),
            });
        }
        if literal.sync {
            go_ahead(connection).await?;
        }
        let mut missing = literal.length as usize;
        while missing > 0 {
            let piece = connection.some(missing.min(PIECE), left(deadline)).await?;
            missing -= piece.len();
            bytes.extend_from_slice(&piece);
        }
    }
    Err(Unread::Lost("a command has too many literals"))
}

/// Tells the client to send the literal that it announced.
pub async fn go_ahead(connection: &mut Connection) -> io::Result<()> {
    connection.answer(b"+ send it\r\n");
    connection.flush().await
}

/// Reads the next piece of a literal of which `missing` bytes are still to come.
pub async fn piece(
    connection: &mut Connection,
    missing: u64,
    patience: Duration,
) -> Result<Vec<u8>, ReadError> {
    connection.some(missing.min(PIECE as u64) as usize, patience).await
}

/// What is left until the deadline.
pub fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
