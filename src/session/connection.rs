//! A client's connection: lines and bytes in, bytes out, each with a time limit.
//!
//! Memory is taken only while bytes are there: an idle connection has no buffer.
//!
//! Protocol sessions are plain blocking code between two client commands: [`Connection::blocking`] gives them a writer, with
//! backpressure from the client, inside `block_in_place`.
//!
//! # Failure
//! [`ReadError`]; a client that is too slow, sends too long a line or hangs up.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::timeout;

/// How much is read at once.
const PIECE: usize = 16 << 10;
/// How much a blocking writer gathers before it writes.
const GATHER: usize = 64 << 10;
/// How long a client may take to accept a piece of our answer.
const WRITE_PATIENCE: Duration = Duration::from_secs(120);

/// Why nothing more was read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The client closed the connection.
    #[error("the client closed the connection")]
    Closed,
    /// Nothing came in time.
    #[error("the client was silent for too long")]
    Slow,
    /// The line is longer than it may be.
    #[error("the line is too long")]
    TooLong,
    /// The network failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A connection.
pub struct Connection {
    stream: TcpStream,
    /// Bytes that were read and not used yet, from `used` on.
    buffer: Vec<u8>,
    used: usize,
    /// Bytes that wait to be written.
    answer: Vec<u8>,
    peer: SocketAddr,
    local: SocketAddr,
}

impl Connection {
    /// Takes an accepted stream over.
    pub fn new(stream: TcpStream) -> io::Result<Connection> {
        // Without this a short answer waits for the acknowledgement of the one before.
        stream.set_nodelay(true)?;
        let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
        Ok(Connection { stream, buffer: Vec::new(), used: 0, answer: Vec::new(), peer, local })
    }

    /// The client's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The client's IP address; an IPv4 address that came through an IPv6 socket is an IPv4 address.
    pub fn peer_ip(&self) -> IpAddr {
        self.peer.ip().to_canonical()
    }

    /// The address of ours that the client connected to.
    pub fn local_ip(&self) -> IpAddr {
        self.local.ip().to_canonical()
    }

    /// Bytes that came already and were not used yet.
    pub fn waiting(&self) -> &[u8] {
        &self.buffer[self.used..]
    }

    /// Forgets what came already: what a client sent before TLS must not count behind it.
    pub fn discard_waiting(&mut self) {
        self.buffer = Vec::new();
        self.used = 0;
    }

    /// Waits for more bytes.
    async fn fill(&mut self, patience: Duration) -> Result<(), ReadError> {
        if self.used > 0 {
            self.buffer.drain(..self.used);
            self.used = 0;
        }
        if self.buffer.is_empty() {
            // The memory goes while nothing comes.
            self.buffer = Vec::new();
        }
        let read = async {
            loop {
                self.stream.readable().await?;
                self.buffer.reserve(PIECE);
                match self.stream.try_read_buf(&mut self.buffer) {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    other => return other,
                }
            }
        };
        match timeout(patience, read).await {
            Err(_) => Err(ReadError::Slow),
            Ok(Ok(0)) => Err(ReadError::Closed),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionReset => Err(ReadError::Closed),
            Ok(Err(e)) => Err(e.into()),
        }
    }

    /// Waits until bytes are there, without using them.
    pub async fn readable(&mut self, patience: Duration) -> Result<(), ReadError> {
        if self.waiting().is_empty() { self.fill(patience).await } else { Ok(()) }
    }

    /// The next line with its line end, of at most `max` bytes. `patience` is for the whole line.
    pub async fn line(&mut self, max: usize, patience: Duration) -> Result<Vec<u8>, ReadError> {
        let deadline = tokio::time::Instant::now() + patience;
        let mut searched = 0;
        loop {
            let waiting = self.waiting();
            if let Some(end) = memchr::memchr(b'\n', &waiting[searched..]) {
                let length = searched + end + 1;
                if length > max {
                    return Err(ReadError::TooLong);
                }
                let line = waiting[..length].to_vec();
                self.used += length;
                return Ok(line);
            }
            searched = waiting.len();
            if searched >= max {
                return Err(ReadError::TooLong);
            }
            self.fill(deadline.saturating_duration_since(tokio::time::Instant::now())).await?;
        }
    }

    /// Some bytes, at most `max`; at least one.
    pub async fn some(&mut self, max: usize, patience: Duration) -> Result<Vec<u8>, ReadError> {
        self.readable(patience).await?;
        let length = self.waiting().len().min(max);
        let bytes = self.waiting()[..length].to_vec();
        self.used += length;
        Ok(bytes)
    }

    /// Drops `count` of the waiting bytes.
    pub fn skip(&mut self, count: usize) {
        self.used += count.min(self.waiting().len());
    }

    /// Puts bytes into the answer; [`Connection::flush`] sends it.
    pub fn answer(&mut self, bytes: impl AsRef<[u8]>) {
        self.answer.extend_from_slice(bytes.as_ref());
    }

    /// Sends what was answered.
    pub async fn flush(&mut self) -> io::Result<()> {
        if self.answer.is_empty() {
            return Ok(());
        }
        let answer = std::mem::take(&mut self.answer);
        match timeout(WRITE_PATIENCE, self.stream.write_all(&answer)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// A writer for blocking code, inside `block_in_place` only. What it holds goes out when 64 KiB are together, and by
    /// [`Connection::flush`].
    pub fn blocking(&mut self) -> Blocking<'_> {
        Blocking { connection: self, runtime: Handle::current() }
    }

    /// Says goodbye to the other side.
    pub async fn close(mut self) {
        let _ = self.flush().await;
        let _ = self.stream.shutdown().await;
    }
}

/// Writes to a connection from blocking code.
pub struct Blocking<'a> {
    connection: &'a mut Connection,
    runtime: Handle,
}

impl Write for Blocking<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.connection.answer(bytes);
        if self.connection.answer.len() >= GATHER {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let Blocking { connection, runtime } = self;
        runtime.block_on(connection.flush())
    }
}
