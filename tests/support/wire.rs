//! A connection that is read line by line, with a time limit on everything.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// No answer of a healthy server takes longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// A connection of one of the tiny clients.
pub struct Wire {
    reader: BufReader<Box<dyn Read + Send>>,
    writer: Box<dyn Write + Send>,
}

impl Wire {
    /// Connects; the error is the caller's to judge.
    pub fn open(address: SocketAddr) -> std::io::Result<Wire> {
        let stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        stream.set_nodelay(true)?;
        Ok(Wire::over(stream.try_clone()?, stream))
    }

    /// Goes over what somebody else connected, such as a program's input and output. Time limits are his.
    pub fn over(reader: impl Read + Send + 'static, writer: impl Write + Send + 'static) -> Wire {
        Wire { reader: BufReader::new(Box::new(reader)), writer: Box::new(writer) }
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).expect("the server takes what is sent");
    }

    /// Sends bytes to a server that may be gone, and reads lines up to one that begins like this; `None` if it is gone.
    pub fn try_ask(&mut self, bytes: &[u8], last: &str) -> Option<Vec<Vec<u8>>> {
        self.writer.write_all(bytes).ok()?;
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            self.reader.read_until(b'\n', &mut line).ok()?;
            line.truncate(line.strip_suffix(b"\r\n")?.len());
            let is_last = line.starts_with(last.as_bytes());
            lines.push(line);
            if is_last {
                return Some(lines);
            }
        }
    }

    /// Reads one line; its CRLF is checked and taken off. An empty answer means that the
    /// server has closed the connection.
    #[track_caller]
    pub fn line_bytes(&mut self) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        let count = self.reader.read_until(b'\n', &mut line).expect("an answer within the time limit");
        if count == 0 {
            return None;
        }
        assert!(line.ends_with(b"\r\n"), "a line without CRLF: {:?}", String::from_utf8_lossy(&line));
        line.truncate(line.len() - 2);
        Some(line)
    }

    /// Waits for the end of the connection; a reset is one too. Not if anything comes before it.
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        match self.reader.read(&mut byte) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    /// Reads one line of text.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let line = self.line_bytes().expect("the server closed the connection instead of answering");
        String::from_utf8_lossy(&line).into_owned()
    }

    /// Reads exactly `count` bytes.
    #[track_caller]
    pub fn exactly(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes).expect("a literal as long as announced");
        bytes
    }

    /// Fails the test unless the server closes the connection, after whatever it still says.
    #[track_caller]
    pub fn expect_end(&mut self) {
        while self.line_bytes().is_some() {}
    }
}
