//! APPEND (RFC 3501 §6.3.11) of one message or several (RFC 3502), answered with the UIDs (RFC 4315).
//!
//! Messages are read from the connection piece by piece; what is large goes to a file that has no name, so that nothing is left of it after
//! a crash. Several messages are stored by one change of the mailbox: all or none.
//!
//! # Failure
//! A message that is refused before it was sent costs nothing; one that is sent without waiting is read and dropped.
//!
//! # Limits
//! [`MESSAGES_MAX`] messages and [`MESSAGE_MAX`] bytes in all.

use super::command::{NewcomerAnnounced, WireMailbox};
use super::outcome::{Done, Failed, Outcome, of_disk};
use super::parse;
use super::sequence::Numbers;
use super::session::Session;
use super::store;
use super::wire;
use crate::mailbox::Open;
use crate::session::connection::{Connection, ReadError};
use layout::disk::{Handle, Open as How};
use layout::limits::MESSAGE_MAX;
use layout::lock::PATIENCE;
use layout::mailbox::{AppendJob, Appended, append_all};
use layout::mbx::compose::{NewMessage, Source, Way};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task::block_in_place;

/// Messages of one command are kept in memory up to this many bytes together.
pub const IN_MEMORY_MAX: u64 = 256 << 10;
/// The most messages of one command.
pub const MESSAGES_MAX: usize = 1000;
/// How long the client may pause between two pieces of a message.
const PAUSE: std::time::Duration = std::time::Duration::from_secs(120);

/// Tells temporary files of this process apart.
static TEMPORARY: AtomicU64 = AtomicU64::new(0);

/// The messages of one command, as far as they came.
#[derive(Default)]
struct Incoming {
    messages: Vec<NewMessage>,
    bytes: u64,
    in_memory: u64,
    /// Holds what is large, one message behind the other, with its length.
    file: Option<(Arc<dyn Handle>, u64)>,
}

impl Session {
    /// APPEND, with the messages that follow.
    pub(super) async fn append(
        &mut self,
        connection: &mut Connection,
        mailbox: WireMailbox,
        first: NewcomerAnnounced,
    ) -> Outcome {
        let open = match self.target(&mailbox) {
            Ok(open) => open,
            Err(failed) => return self.refuse_message(connection, &first, failed).await,
        };
        let mut incoming = Incoming::default();
        let mut next = Some(first);
        while let Some(announced) = next {
            let bytes = incoming.bytes.saturating_add(announced.literal.length);
            let count = incoming.messages.len() + 1;
            let allowed = allowed_length(&announced, bytes, count)
                .and_then(|()| block_in_place(|| self.check_quota(count as u64, bytes)));
            if let Err(failed) = allowed {
                return self.refuse_message(connection, &announced, failed).await;
            }
            if announced.literal.sync {
                wire::go_ahead(connection).await?;
            }
            let source = self.receive(connection, &mut incoming, announced.literal.length).await?;
            let rest = connection.line(wire::COMMAND_MAX, PAUSE).await.map_err(lost)?;
            next = match parse::append_more(&rest, announced.utf8) {
                Ok(next) => next,
                // What the client meant to send next is not known: a literal without waiting would be taken for commands.
                Err(_) if rest.trim_ascii_end().ends_with(b"+}") => {
                    return Err(Failed::Bye("there is more on the line than APPEND takes"));
                }
                Err(what) => return Err(Failed::Bad(what.to_owned())),
            };
            let source = source.map_err(|error| of_disk(&error))?;
            incoming.bytes = bytes;
            incoming.messages.push(new_message(source, &announced));
        }
        self.store_messages(open, incoming.messages).await
    }

    async fn store_messages(&self, open: Arc<Open>, mut messages: Vec<NewMessage>) -> Outcome {
        let stored = match (messages.pop(), messages.is_empty()) {
            (Some(only), true) => {
                match self.server.hub.append(open.clone(), only, None, self.mailbox_size_max()).await {
                    Ok(stored) => vec![stored?],
                    Err(_) => {
                        return Err(Failed::No("UNAVAILABLE", "the server is being stopped".to_owned()));
                    }
                }
            }
            (last, _) => {
                messages.extend(last);
                block_in_place(|| self.store_together(&open, messages))?
            }
        };
        let uid = |stored: Appended| match stored {
            Appended::Stored(uid) => Some(uid),
            Appended::Before => None,
        };
        let uids = Numbers::of_sorted(stored.into_iter().filter_map(uid));
        let uidvalidity = block_in_place(|| open.with(|mailbox| mailbox.uidvalidity()));
        let mut code = format!("APPENDUID {uidvalidity} ").into_bytes();
        uids.write(&mut code);
        Ok(Done { code: String::from_utf8_lossy(&code).into_owned(), text: "APPEND completed" })
    }

    /// Stores messages by one change of the mailbox.
    fn store_together(&self, open: &Open, messages: Vec<NewMessage>) -> Result<Vec<Appended>, Failed> {
        let config = self.config();
        let messages = messages.into_iter().map(|message| (message, None)).collect();
        let size_max = self.mailbox_size_max();
        let mut stored = open.with(|mailbox| {
            append_all(config.root().disk(), &mut [AppendJob { mailbox, messages, size_max }], PATIENCE)
        });
        match stored.pop() {
            Some(stored) => Ok(stored?),
            None => Ok(Vec::new()),
        }
    }

    /// A mailbox that messages are put into.
    pub(super) fn target(&self, mailbox: &WireMailbox) -> Result<Arc<Open>, Failed> {
        let place = self.own_place(mailbox)?;
        self.open(&place).ok_or_else(Failed::try_create)
    }

    /// Answers `failed` for an APPEND, once the message that was sent without waiting is out of the way.
    pub(super) async fn refuse_message(
        &mut self,
        connection: &mut Connection,
        announced: &NewcomerAnnounced,
        failed: Failed,
    ) -> Outcome {
        let mut announced = announced.clone();
        loop {
            if announced.literal.sync {
                return Err(failed);
            }
            if announced.literal.length > MESSAGE_MAX || self.account.is_none() {
                return Err(Failed::Bye("a message that was not asked for cannot be taken"));
            }
            let mut missing = announced.literal.length;
            while missing > 0 {
                missing -= wire::piece(connection, missing, PAUSE).await.map_err(lost)?.len() as u64;
            }
            let rest = connection.line(wire::COMMAND_MAX, PAUSE).await.map_err(lost)?;
            match parse::append_more(&rest, announced.utf8) {
                Ok(Some(next)) => announced = next,
                _ => return Err(failed),
            }
        }
    }

    /// Reads a message. The inner result is the disk's: the connection is in step again in any case.
    async fn receive(
        &self,
        connection: &mut Connection,
        incoming: &mut Incoming,
        length: u64,
    ) -> Result<Result<Source, io::Error>, Failed> {
        let small = incoming.in_memory + length <= IN_MEMORY_MAX;
        let mut bytes = Vec::new();
        let mut file = match (small, &incoming.file) {
            (true, _) => None,
            (false, Some((handle, end))) => Some(Ok((handle.clone(), *end))),
            (false, None) => Some(block_in_place(|| self.temporary()).map(|handle| (handle, 0))),
        };
        let mut missing = length;
        while missing > 0 {
            let piece = wire::piece(connection, missing, PAUSE).await.map_err(lost)?;
            missing -= piece.len() as u64;
            match &mut file {
                None => bytes.extend_from_slice(&piece),
                Some(Ok((handle, _))) => {
                    if let Err(error) = block_in_place(|| handle.append(&piece)) {
                        file = Some(Err(error));
                    }
                }
                Some(Err(_)) => {}
            }
        }
        Ok(match file {
            None => {
                incoming.in_memory += length;
                Ok(Source::Bytes(bytes.into()))
            }
            Some(file) => file.map(|(handle, begin)| {
                incoming.file = Some((handle.clone(), begin + length));
                Source::File(handle, begin, length)
            }),
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

fn new_message(source: Source, announced: &NewcomerAnnounced) -> NewMessage {
    let (flags, keywords) = store::split(&announced.flags);
    NewMessage {
        source,
        sender: String::new(),
        date: announced.date.map_or_else(|| chrono::Local::now().timestamp(), |date| date.timestamp()),
        way: Way::Client,
        flags,
        keywords,
    }
}

/// `bytes` and `count` are those of all messages up to this one.
fn allowed_length(announced: &NewcomerAnnounced, bytes: u64, count: usize) -> Result<(), Failed> {
    match announced.literal.length {
        0 => Err(Failed::no("a message of no bytes cannot be stored")),
        _ if bytes > MESSAGE_MAX => {
            Err(Failed::No("TOOBIG", format!("one APPEND takes {MESSAGE_MAX} bytes")))
        }
        _ if count > MESSAGES_MAX => {
            Err(Failed::No("LIMIT", format!("one APPEND takes {MESSAGES_MAX} messages")))
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
