//! A client's connection: lines and bytes in, bytes out, each with a time limit.
//!
//! Memory is taken only while bytes are there: an idle connection has no buffer of ours, a TLS one what the library needs.
//!
//! What code that blocks on the disk answers gathers in memory ([`Connection::blocking`]); only async code sends it, so that a slow
//! client costs no thread. Long answers are made in pieces, with [`Connection::flush_if_large`] between them.
//!
//! # Failure
//! [`ReadError`]; a client that is too slow, sends too long a line or hangs up.

use super::compression::Deflate;
use crate::account::Ends;
use std::future::{Future as _, poll_fn};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How much is read at once.
const PIECE: usize = 16 << 10;
/// How much is gathered before it is sent.
pub const GATHER: usize = 64 << 10;
/// So much of the begin, and so much of the end, of what was answered to one command is kept for the log.
const SAID_MAX: usize = 4 << 10;
/// How long a client may take to accept a piece of our answer.
const WRITE_PATIENCE: Duration = Duration::from_secs(120);
/// How long a client may take for the TLS handshake.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(30);
/// How long our goodbye may take.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

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

/// Becomes true when the service that a session belongs to stops: the session ends before its next command.
pub type Stopping = watch::Receiver<bool>;

/// What bytes go through.
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// A handshake failed: nothing comes or goes any more.
    Broken,
}

impl Stream {
    /// Waits for bytes and adds them to `buffer`; 0 at the end of the stream. `buffer` has room only while bytes are there.
    async fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => loop {
                stream.readable().await?;
                buffer.reserve(PIECE);
                match stream.try_read_buf(buffer) {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    other => return other,
                }
            },
            Stream::Tls(stream) => {
                poll_fn(|context| {
                    buffer.reserve(PIECE);
                    let polled = pin!(stream.read_buf(buffer)).poll(context);
                    if buffer.is_empty() {
                        *buffer = Vec::new();
                    }
                    polled
                })
                .await
            }
            Stream::Broken => Ok(0),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Plain(stream) => stream.write_all(bytes).await,
            Stream::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
            Stream::Broken => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(stream) => stream.shutdown().await,
            Stream::Tls(stream) => stream.shutdown().await,
            Stream::Broken => Ok(()),
        }
    }
}

/// A connection.
pub struct Connection {
    stream: Stream,
    deflate: Option<Box<Deflate>>,
    /// Bytes that were read and not used yet, from `used` on.
    buffer: Vec<u8>,
    used: usize,
    /// Bytes that wait to be written.
    answer: Vec<u8>,
    /// What was sent already of the answer to this command, if the log is to have it.
    said: Option<Vec<u8>>,
    /// Where in `answer` that of this command begins.
    said_from: usize,
    peer: SocketAddr,
    local: SocketAddr,
    stopping: Stopping,
}

impl Connection {
    /// Takes an accepted stream over.
    pub fn new(stream: TcpStream, stopping: Stopping) -> io::Result<Connection> {
        // Without this a short answer waits for the acknowledgement of the one before.
        stream.set_nodelay(true)?;
        let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
        let stream = Stream::Plain(stream);
        let (buffer, answer) = (Vec::new(), Vec::new());
        let (deflate, said) = (None, None);
        Ok(Connection { stream, deflate, buffer, used: 0, answer, said, said_from: 0, peer, local, stopping })
    }

    /// The client's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The client's IP address; an IPv4 address that came through an IPv6 socket is an IPv4 address.
    pub fn peer_ip(&self) -> IpAddr {
        self.peer.ip().to_canonical()
    }

    /// Makes the client one from elsewhere.
    #[cfg(test)]
    pub fn set_peer(&mut self, peer: SocketAddr) {
        self.peer = peer;
    }

    /// Both, as logins are asked for.
    pub fn ends(&self) -> Ends {
        Ends { peer: self.peer_ip(), local: self.local_ip() }
    }

    /// The address of ours that the client connected to.
    pub fn local_ip(&self) -> IpAddr {
        self.local.ip().to_canonical()
    }

    /// When to end.
    pub fn stopping(&self) -> Stopping {
        self.stopping.clone()
    }

    /// Is everything that is said here encrypted?
    pub fn is_secure(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// Version and cipher of TLS, for the log.
    pub fn tls(&self) -> Option<String> {
        let Stream::Tls(stream) = &self.stream else { return None };
        let tls = stream.get_ref().1;
        let (version, cipher) = (tls.protocol_version()?, tls.negotiated_cipher_suite()?.suite());
        Some(format!("{version:?} {cipher:?}"))
    }

    /// The lines that were answered since this was called last, if they were kept (of a long answer only begin and end), and whether those that
    /// follow are to be kept: for Debug Messages, which can be switched at any time.
    pub fn take_said(&mut self, keep: bool) -> Vec<String> {
        let mut said = std::mem::replace(&mut self.said, keep.then(Vec::new));
        if let Some(said) = &mut said {
            keep_ends(said, self.answer.get(self.said_from..).unwrap_or_default());
        }
        self.said_from = self.answer.len();
        let said = said.unwrap_or_default();
        String::from_utf8_lossy(&said).lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// Are answers kept for [`Connection::take_said`]?
    pub fn keeps_said(&self) -> bool {
        self.said.is_some()
    }

    /// Sends what was answered and begins TLS. What the client sent before is forgotten: it came in the clear, from anybody
    /// (RFC 3207 §4.2). After an error the connection is of no use.
    pub async fn start_tls(&mut self, acceptor: &TlsAcceptor) -> io::Result<()> {
        self.flush().await?;
        self.discard_waiting();
        let Stream::Plain(stream) = std::mem::replace(&mut self.stream, Stream::Broken) else {
            return Err(io::Error::other("TLS was begun before"));
        };
        match timeout(HANDSHAKE_PATIENCE, acceptor.accept(stream)).await {
            Ok(accepted) => {
                self.stream = Stream::Tls(Box::new(accepted?));
                Ok(())
            }
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Sends what was answered and `answer`, and compresses everything from then on, in both directions (RFC 4978). `false`: too many
    /// connections are compressed already, and nothing was sent.
    pub async fn start_compression(&mut self, answer: &str) -> io::Result<bool> {
        let Some(deflate) = Deflate::new(self.waiting().to_vec()) else { return Ok(false) };
        self.answer(answer);
        self.flush().await?;
        self.discard_waiting();
        self.deflate = Some(Box::new(deflate));
        Ok(true)
    }

    /// Waits for bytes and unpacks them; 0 at the end of the stream.
    async fn read(&mut self) -> io::Result<usize> {
        let Some(deflate) = &mut self.deflate else { return self.stream.read(&mut self.buffer).await };
        loop {
            let unpacked = deflate.unpack(&mut self.buffer)?;
            if unpacked > 0 {
                return Ok(unpacked);
            }
            if self.buffer.is_empty() {
                self.buffer = Vec::new();
            }
            if self.stream.read(&mut deflate.packed).await? == 0 {
                return Ok(0);
            }
        }
    }

    /// Bytes that came already and were not used yet.
    pub fn waiting(&self) -> &[u8] {
        &self.buffer[self.used..]
    }

    /// Is a whole line among what came already?
    pub fn has_line(&self) -> bool {
        memchr::memchr(b'\n', self.waiting()).is_some()
    }

    /// Forgets what came already.
    fn discard_waiting(&mut self) {
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
        match timeout(patience, self.read()).await {
            Err(_) => Err(ReadError::Slow),
            Ok(Ok(0)) => Err(ReadError::Closed),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(e)) if is_end(&e) => Err(ReadError::Closed),
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
        let mut answer = std::mem::take(&mut self.answer);
        if let Some(said) = &mut self.said {
            keep_ends(said, answer.get(self.said_from..).unwrap_or_default());
        }
        self.said_from = 0;
        if let Some(deflate) = &mut self.deflate {
            answer = deflate.pack(&answer)?;
        }
        match timeout(WRITE_PATIENCE, self.stream.write(&answer)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Sends what was answered if it is worth a system call.
    pub async fn flush_if_large(&mut self) -> io::Result<()> {
        if self.answer.len() >= GATHER { self.flush().await } else { Ok(()) }
    }

    /// What waits to be sent, for adding to it.
    pub fn answering(&mut self) -> &mut Vec<u8> {
        &mut self.answer
    }

    /// A writer for blocking code. What it is given goes out by [`Connection::flush`].
    pub fn blocking(&mut self) -> Blocking<'_> {
        Blocking { answer: &mut self.answer }
    }

    /// Says goodbye to the other side.
    pub async fn close(mut self) {
        let _ = self.flush().await;
        let _ = timeout(CLOSE_PATIENCE, self.stream.shutdown()).await;
    }
}

/// Adds to what is kept; if it gets too long, begin and end stay.
fn keep_ends(said: &mut Vec<u8>, more: &[u8]) {
    said.extend_from_slice(more);
    if said.len() > 2 * SAID_MAX {
        said.drain(SAID_MAX..said.len() - SAID_MAX);
    }
}

/// Did the client just go? Many end TLS without the goodbye that belongs to it.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof)
}

/// Gathers an answer in blocking code.
pub struct Blocking<'a> {
    answer: &'a mut Vec<u8>,
}

impl Write for Blocking<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.answer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_said_is_kept_for_the_log() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut connection =
            Connection::new(listener.accept().await.unwrap().0, watch::channel(false).1).unwrap();
        connection.answer("before\r\n");
        assert!(connection.take_said(true).is_empty(), "nobody wanted to know");
        connection.answer("one\r\n");
        assert_eq!(connection.take_said(true), ["one"]);
        connection.answer("two\r\n");
        connection.flush().await.unwrap();
        connection.answer("three\r\nfour\r\n");
        assert_eq!(connection.take_said(true), ["two", "three", "four"], "sent or not");
        connection.flush().await.unwrap();
        assert!(connection.take_said(false).is_empty());
        connection.answer("five\r\n");
        assert!(!connection.keeps_said() && connection.take_said(false).is_empty());
    }

    #[test]
    fn of_long_answers_begin_and_end_are_kept() {
        let mut said = b"+OK\r\n".to_vec();
        for _ in 0..100 {
            keep_ends(&mut said, &[b'x'; 1000]);
        }
        keep_ends(&mut said, b"\r\nt1 OK done\r\n");
        assert_eq!(said.len(), 2 * SAID_MAX);
        assert!(said.starts_with(b"+OK\r\nx") && said.ends_with(b"x\r\nt1 OK done\r\n"));
    }
}
