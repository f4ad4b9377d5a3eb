//! The message itself: DATA (RFC 5321 §4.1.1.4) and BDAT (RFC 3030).
//!
//! Both go into the same [`Content`], and both are held to the same lines ([`super::data::Lines`]): BINARYMIME is not offered.
//!
//! # Failure
//! A chunk of BDAT that cannot be used is read and dropped before it is refused, and ends its transaction, so that octets never become commands (RFC 3030 §2).
//!
//! # Limits
//! [`PIECE_PATIENCE`] for each piece, and on the whole not slower than [`SLOWEST`] behind [`GRACE`]: a client that sends a byte every other minute does not hold a
//! session for days.

use super::data::{Lines, Unstuffer};
use super::reply::{self, text};
use super::transaction::Transaction;
use super::{Flow, Session, size_max};
use crate::config::Config;
use crate::session::connection::{Connection, ReadError};
use crate::transport::Arrival;
use crate::transport::incoming::Incoming;
use crate::transport::trace::Origin;
use layout::limits::MESSAGE_MAX;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a client may take for the next piece of a message (RFC 5321 §4.5.3.2.5).
const PIECE_PATIENCE: Duration = Duration::from_secs(180);
/// How long a message may take on any line.
const GRACE: Duration = Duration::from_secs(600);
/// The slowest line, in bytes a second: that of a modem of 9,600 baud.
const SLOWEST: u64 = 1024;

/// How fast a message comes.
struct Pace {
    began: Instant,
    bytes: u64,
}

impl Pace {
    fn begin() -> Pace {
        Pace { began: Instant::now(), bytes: 0 }
    }

    /// How long the next piece may take.
    fn patience(&self, now: Instant) -> Duration {
        let allowed = GRACE + Duration::from_secs(self.bytes / SLOWEST);
        allowed.saturating_sub(now.duration_since(self.began)).min(PIECE_PATIENCE)
    }

    /// Waits for bytes; what was answered is sent before.
    async fn wait(&self, connection: &mut Connection) -> Result<(), ReadError> {
        if connection.waiting().is_empty() {
            connection.flush().await?;
        }
        connection.readable(self.patience(Instant::now())).await
    }
}

/// A message that is coming in.
pub(super) struct Content {
    origin: Origin,
    /// As it was when the message began.
    config: Arc<Config>,
    incoming: Incoming,
    lines: Lines,
    pace: Pace,
}

impl Content {
    fn write(&mut self, piece: &[u8]) {
        self.lines.feed(piece);
        // In memory most of the time; a large message goes to the spool, which blocks.
        if self.incoming.goes_to_disk(piece.len()) {
            tokio::task::block_in_place(|| self.incoming.write(piece));
        } else {
            self.incoming.write(piece);
        }
    }
}

impl Session {
    /// Begins to take a message in. `None`: the spool gives no id, so nothing can be stored now.
    fn content(&mut self, connection: &Connection, transaction: &Transaction) -> Option<Content> {
        let transport = &self.server.transport;
        let id = tokio::task::block_in_place(|| transport.message_id(&mut self.id));
        let id = id.inspect_err(|error| tracing::error!(%error, "no id for a message")).ok()?;
        let config = self.server.live.now();
        let (helo, extended) = self.hello.clone().unwrap_or_default();
        let origin = Origin {
            id,
            helo,
            extended,
            client: connection.peer_ip(),
            host: config.host_name(connection.local_ip()).to_owned(),
            secure: connection.is_secure(),
            authenticated: self.login.is_some(),
            sender: transaction.mail.sender.clone(),
            utf8: transaction.mail.utf8,
        };
        let max = size_max(&config, connection.local_ip()).unwrap_or(MESSAGE_MAX);
        let incoming = self.server.transport.incoming(origin.clone(), max);
        Some(Content { origin, config, incoming, lines: Lines::default(), pace: Pace::begin() })
    }

    pub(super) async fn data(&mut self, connection: &mut Connection) -> Result<Flow, ReadError> {
        let transaction = match self.transaction.take() {
            Some(transaction) if transaction.content.is_none() && !transaction.recipients.is_empty() => {
                transaction
            }
            other => {
                let answer = match &other {
                    Some(transaction) if transaction.content.is_none() => text::NO_RECIPIENT,
                    _ => text::SEQUENCE,
                };
                self.transaction = other;
                self.refuse(connection, answer);
                return Ok(Flow::Go);
            }
        };
        let Some(mut content) = self.content(connection, &transaction) else {
            self.refuse(connection, text::NOT_STORED);
            return Ok(Flow::Go);
        };
        connection.answer(format!("{}\r\n", text::DATA));
        let (mut unstuffer, mut piece) = (Unstuffer::default(), Vec::new());
        loop {
            content.pace.wait(connection).await?;
            let (used, done) = unstuffer.feed(connection.waiting(), &mut piece);
            connection.skip(used);
            content.pace.bytes += used as u64;
            content.write(&piece);
            piece.clear();
            if done {
                break;
            }
        }
        self.finish(connection, transaction, content).await;
        Ok(Flow::Go)
    }

    /// BDAT: `size` octets of the message.
    pub(super) async fn chunk(
        &mut self,
        connection: &mut Connection,
        size: u64,
        last: bool,
    ) -> Result<Flow, ReadError> {
        // To read and drop such a chunk would take as long as to take it.
        if size > MESSAGE_MAX {
            self.refuse(connection, text::TOO_LARGE);
            return Ok(Flow::End);
        }
        let mut transaction = match self.transaction.take() {
            Some(transaction) if !transaction.recipients.is_empty() => transaction,
            other => {
                let answer = if other.is_some() { text::NO_RECIPIENT } else { text::SEQUENCE };
                return self.drop_chunk(connection, size, answer).await;
            }
        };
        let begun = transaction.content.take();
        let Some(mut content) = begun.or_else(|| self.content(connection, &transaction)) else {
            return self.drop_chunk(connection, size, text::NOT_STORED).await;
        };
        let mut pace = Pace { ..content.pace };
        read_chunk(connection, size, &mut pace, |piece| content.write(piece)).await?;
        content.pace = pace;
        if last {
            let missing = content.lines.end();
            content.incoming.write(missing);
            self.finish(connection, transaction, content).await;
        } else if content.incoming.is_too_large() {
            self.refuse(connection, text::TOO_LARGE);
        } else {
            transaction.content = Some(content);
            self.transaction = Some(transaction);
            connection.answer(format!("250 2.0.0 {size} octets received\r\n"));
        }
        Ok(Flow::Go)
    }

    /// Reads the octets of a chunk that cannot be used, and refuses it.
    async fn drop_chunk(
        &mut self,
        connection: &mut Connection,
        size: u64,
        answer: &str,
    ) -> Result<Flow, ReadError> {
        read_chunk(connection, size, &mut Pace::begin(), |_| {}).await?;
        self.refuse(connection, answer);
        Ok(Flow::Go)
    }

    /// The message is there: it is taken or refused.
    async fn finish(&mut self, connection: &mut Connection, transaction: Transaction, content: Content) {
        let Content { origin, config, incoming, lines, .. } = content;
        if lines.bare_lf {
            return self.refuse(connection, text::BARE_LF);
        }
        if lines.long_line {
            return self.refuse(connection, text::LONG_LINE);
        }
        let arrival = Arrival {
            origin,
            recipients: transaction.recipients,
            account: self.login.as_ref().map(|login| login.user.clone()),
            dsn: transaction.mail.dsn,
        };
        match self.server.transport.accept(&config, arrival, incoming).await {
            Ok(()) => {
                (self.errors, self.idle_commands) = (0, 0);
                connection.answer(format!("{}\r\n", text::QUEUED));
            }
            Err(refusal) => self.refuse(connection, &reply::refusal(&refusal)),
        }
    }
}

/// Reads the octets of a chunk.
async fn read_chunk(
    connection: &mut Connection,
    size: u64,
    pace: &mut Pace,
    mut take: impl FnMut(&[u8]),
) -> Result<(), ReadError> {
    let mut left = size;
    while left > 0 {
        pace.wait(connection).await?;
        let waiting = connection.waiting();
        let count = waiting.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        take(waiting.get(..count).unwrap_or_default());
        connection.skip(count);
        left -= count as u64;
        pace.bytes += count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_slow_a_client_may_be() {
        let began = Instant::now();
        for (bytes, seconds, expected) in [
            (0, 0, 180),
            (0, 419, 180),
            (0, 420, 180),
            (0, 421, 179),
            (0, 600, 0),
            (100, 600, 0),
            (SLOWEST * 100, 600, 100),
            (SLOWEST * 1000, 600, 180),
            (SLOWEST * 1000, 1601, 0),
        ] {
            let now = began + Duration::from_secs(seconds);
            assert_eq!(Pace { began, bytes }.patience(now).as_secs(), expected, "{bytes} {seconds}");
        }
    }
}
