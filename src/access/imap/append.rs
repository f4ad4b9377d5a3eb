//! APPEND (RFC 3501 §6.3.11), answered with the UID of the new message (RFC 4315).
//!
//! The message is read from the connection piece by piece; a large one goes to a file that has no name, so that nothing is left of it after
//! a crash.
//!
//! # Failure
//! A message that is refused before it was sent costs nothing; one that is sent without waiting is read and dropped.

use super::command::{Flag, LiteralAnnounced, WireMailbox};
use super::outcome::{Done, Failed, Outcome, of_disk};
use super::session::{Session, mailbox_name};
use super::store;
use super::wire;
use crate::mailbox::Open;
use crate::session::connection::{Connection, ReadError};
use chrono::{DateTime, FixedOffset};
use layout::disk::{Handle, Open as How};
use layout::limits::MESSAGE_MAX;
use layout::mailbox::Appended;
use layout::mbx::compose::{NewMessage, Source, Way};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task::block_in_place;

/// Messages up to this size, in bytes, are kept in memory.
pub const IN_MEMORY_MAX: u64 = 256 << 10;
/// How long the client may pause between two pieces of a message.
const PAUSE: std::time::Duration = std::time::Duration::from_secs(120);

/// Tells temporary files of this process apart.
static TEMPORARY: AtomicU64 = AtomicU64::new(0);

impl Session {
    /// APPEND, with the message that follows.
    pub(super) async fn append(
        &mut self,
        connection: &mut Connection,
        mailbox: WireMailbox,
        flags: Vec<Flag>,
        date: Option<DateTime<FixedOffset>>,
        literal: LiteralAnnounced,
    ) -> Outcome {
        let open = match self.target(&mailbox).and_then(|open| allowed_length(&literal).map(|()| open)) {
            Ok(open) => open,
            Err(failed) => return self.refuse_message(connection, literal, failed).await,
        };
        if literal.sync {
            wire::go_ahead(connection).await?;
        }
        let received = self.receive(connection, literal.length).await?;
        let rest = connection.line(wire::COMMAND_MAX, PAUSE).await.map_err(lost)?;
        if !rest.trim_ascii().is_empty() {
            return Err(Failed::Bad("there is more on the line than APPEND takes".to_owned()));
        }
        let source = received.map_err(|error| of_disk(&error))?;
        let (bits, keywords) = store::split(&flags);
        let message = NewMessage {
            source,
            sender: String::new(),
            date: date.map_or_else(|| chrono::Local::now().timestamp(), |date| date.timestamp()),
            way: Way::Client,
            flags: bits,
            keywords,
        };
        self.store_message(open, message).await
    }

    async fn store_message(&self, open: Arc<Open>, message: NewMessage) -> Outcome {
        let answer = self.server.hub.append(open.clone(), message, None, self.mailbox_size_max());
        match answer.await {
            Ok(Ok(Appended::Stored(uid))) => {
                let uidvalidity = block_in_place(|| open.with(|mailbox| mailbox.uidvalidity()));
                Ok(Done { code: format!("APPENDUID {uidvalidity} {uid}"), text: "APPEND completed" })
            }
            Ok(Ok(Appended::Before)) => Ok(Done { code: String::new(), text: "APPEND completed" }),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Failed::No("UNAVAILABLE", "the server is being stopped".to_owned())),
        }
    }

    /// A mailbox that messages are put into.
    pub(super) fn target(&self, mailbox: &WireMailbox) -> Result<Arc<Open>, Failed> {
        let name = mailbox_name(mailbox)?;
        match self.folders()?.exists(&name) {
            true => Ok(self.server.hub.open(&self.user()?.dir, &name)),
            false => Err(Failed::try_create()),
        }
    }

    /// Answers `failed` for an APPEND, once the message that was sent without waiting is out of the way.
    pub(super) async fn refuse_message(
        &mut self,
        connection: &mut Connection,
        literal: LiteralAnnounced,
        failed: Failed,
    ) -> Outcome {
        if literal.sync {
            return Err(failed);
        }
        if literal.length > MESSAGE_MAX || self.account.is_none() {
            return Err(Failed::Bye("a message that was not asked for cannot be taken"));
        }
        let mut missing = literal.length;
        while missing > 0 {
            missing -= wire::piece(connection, missing, PAUSE).await.map_err(lost)?.len() as u64;
        }
        connection.line(wire::COMMAND_MAX, PAUSE).await.map_err(lost)?;
        Err(failed)
    }

    /// Reads the message. The inner result is the disk's: the connection is in step again in any case.
    async fn receive(
        &self,
        connection: &mut Connection,
        length: u64,
    ) -> Result<Result<Source, io::Error>, Failed> {
        let mut file = match length > IN_MEMORY_MAX {
            true => Some(block_in_place(|| self.temporary())),
            false => None,
        };
        let mut bytes = Vec::new();
        let mut missing = length;
        while missing > 0 {
            let piece = wire::piece(connection, missing, PAUSE).await.map_err(lost)?;
            missing -= piece.len() as u64;
            match &mut file {
                None => bytes.extend_from_slice(&piece),
                Some(Ok(handle)) => {
                    if let Err(error) = block_in_place(|| handle.append(&piece)) {
                        file = Some(Err(error));
                    }
                }
                Some(Err(_)) => {}
            }
        }
        Ok(match file {
            None => Ok(Source::Bytes(bytes.into())),
            Some(handle) => handle.map(|handle| Source::File(handle, 0, length)),
        })
    }

    /// An open file without a name, in the user's directory: on the disk that the message will be on.
    fn temporary(&self) -> io::Result<Arc<dyn Handle>> {
        let Some(account) = &self.account else { return Err(io::ErrorKind::NotFound.into()) };
        account.dir.make()?;
        let number = u64::from(std::process::id()) << 32 | TEMPORARY.fetch_add(1, Ordering::Relaxed);
        let path = account.dir.temporary(number);
        let config = self.config();
        let disk = config.root().disk();
        let handle = match disk.open(&path, How::CreateNew) {
            // Left by a crash in the moment before its name was taken away.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                disk.unlink(&path)?;
                disk.open(&path, How::CreateNew)?
            }
            other => other?,
        };
        disk.unlink(&path)?;
        Ok(handle.into())
    }
}

fn allowed_length(literal: &LiteralAnnounced) -> Result<(), Failed> {
    match literal.length {
        0 => Err(Failed::no("a message of no bytes cannot be stored")),
        length if length > MESSAGE_MAX => {
            Err(Failed::No("TOOBIG", format!("a message may have {MESSAGE_MAX} bytes")))
        }
        _ => Ok(()),
    }
}

fn lost(error: ReadError) -> Failed {
    match error {
        ReadError::Slow => Failed::Bye("you were silent for too long"),
        ReadError::TooLong => Failed::Bye("the command line is too long"),
        ReadError::Closed => Failed::Connection,
        ReadError::Io(_) => Failed::Connection,
    }
}
