//! Clients of IMAP and POP3 that count what they are answered instead of reading it, so that their own cost stays small beside the server's.

use memchr::memmem;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How much is read at once.
const PIECE: usize = 1 << 20;
/// How much of an answer's begin is kept.
const HEAD: usize = 4096;
/// A tagged line is not longer.
const LAST_LINE: usize = 512;

/// A connection to IMAP, logged in.
pub struct Client {
    stream: TcpStream,
    piece: Vec<u8>,
    commands: u32,
}

/// What came.
pub struct Answer {
    /// How long it took.
    pub time: Duration,
    /// How often what was counted came.
    pub count: usize,
    /// Its begin, as text.
    pub head: String,
}

impl Client {
    /// Connects and logs in.
    pub fn login(address: SocketAddr, user: &str, password: &str, limit: Duration) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut client = Client { stream, piece: vec![0; PIECE], commands: 0 };
        let greeting = client.some(Instant::now() + limit).expect("a greeting");
        assert!(client.piece[..greeting].starts_with(b"* OK"));
        client.ok(&format!("LOGIN \"{user}\" \"{password}\""), "", limit).expect("a login within the limit");
        client
    }

    /// Sends a command that must succeed, and counts a text in the answer. `None`: it took longer than `limit`.
    pub fn ok(&mut self, command: &str, counted: &str, limit: Duration) -> Option<Answer> {
        self.commands += 1;
        let tag = format!("tq{:07}z ", self.commands);
        let begun = Instant::now();
        self.stream.write_all(format!("{tag}{command}\r\n").as_bytes()).unwrap();
        self.answer(command, &tag, counted, begun, limit)
    }

    /// Appends a message; the go-ahead is waited for, as most clients do.
    pub fn append(&mut self, mailbox: &str, message: &[u8], limit: Duration) -> Option<Answer> {
        self.commands += 1;
        let tag = format!("tq{:07}z ", self.commands);
        let begun = Instant::now();
        let line = format!("{tag}APPEND {mailbox} (\\Seen) {{{}}}\r\n", message.len());
        self.stream.write_all(line.as_bytes()).unwrap();
        let length = self.some(begun + limit)?;
        assert!(self.piece[..length].starts_with(b"+"), "a go-ahead");
        self.stream.write_all(&[message, b"\r\n"].concat()).unwrap();
        self.answer("APPEND", &tag, "", begun, limit)
    }

    fn answer(
        &mut self,
        command: &str,
        tag: &str,
        counted: &str,
        begun: Instant,
        limit: Duration,
    ) -> Option<Answer> {
        let finder = (!counted.is_empty()).then(|| memmem::Finder::new(counted));
        let (mut count, mut head, mut rest) = (0, Vec::new(), Vec::new());
        loop {
            let length = self.some(begun + limit)?;
            let piece = &self.piece[..length];
            head.extend_from_slice(&piece[..length.min(HEAD - HEAD.min(head.len()))]);
            if let Some(finder) = &finder {
                // What began in the piece before ends in this one.
                let overlap = counted.len() - 1;
                let mut border: Vec<u8> = rest[rest.len() - overlap.min(rest.len())..].to_vec();
                border.extend_from_slice(&piece[..overlap.min(length)]);
                count += finder.find_iter(&border).count() + finder.find_iter(piece).count();
            }
            rest.extend_from_slice(&piece[length.saturating_sub(LAST_LINE)..]);
            rest.drain(..rest.len().saturating_sub(LAST_LINE));
            let last =
                rest.strip_suffix(b"\r\n").map(|rest| rest.rsplit(|byte| *byte == b'\n').next().unwrap());
            if let Some(status) = last.and_then(|last| last.strip_prefix(tag.as_bytes())) {
                let time = begun.elapsed();
                let said = String::from_utf8_lossy(status);
                assert!(said.starts_with("OK"), "{command:.60}: {said}");
                return Some(Answer { time, count, head: String::from_utf8_lossy(&head).into_owned() });
            }
        }
    }

    /// Bytes into `piece`; `None` if none come in time.
    fn some(&mut self, until: Instant) -> Option<usize> {
        some(&mut self.stream, &mut self.piece, until)
    }
}

fn some(stream: &mut TcpStream, piece: &mut [u8], until: Instant) -> Option<usize> {
    let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    stream.set_read_timeout(Some(left)).unwrap();
    match stream.read(piece) {
        Ok(0) => panic!("the server hung up"),
        Ok(length) => Some(length),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
        Err(error) => panic!("{error}"),
    }
}

/// A connection to POP3, logged in.
pub struct PopClient {
    stream: TcpStream,
    piece: Vec<u8>,
    limit: Duration,
}

impl PopClient {
    /// Connects and logs in; no answer may take longer than `limit`. `None`: one did.
    pub fn login(address: SocketAddr, user: &str, password: &str, limit: Duration) -> Option<PopClient> {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut client = PopClient { stream, piece: vec![0; 64 << 10], limit };
        client.answers(1, b"\r\n")?;
        client.line(&format!("USER {user}"))?;
        client.line(&format!("PASS {password}"))?;
        Some(client)
    }

    /// A command with an answer of one line.
    pub fn line(&mut self, command: &str) -> Option<String> {
        self.send(&format!("{command}\r\n"));
        let length = self.answers(1, b"\r\n")?;
        Some(String::from_utf8_lossy(&self.piece[..length]).into_owned())
    }

    /// Commands, each with its line end, that are answered by so many blocks.
    pub fn blocks(&mut self, commands: &str, count: usize) -> Option<()> {
        self.send(commands);
        self.answers(count, b"\r\n.\r\n").map(drop)
    }

    /// Commands, each with its line end, that are answered by so many lines.
    pub fn lines(&mut self, commands: &str, count: usize) -> Option<()> {
        self.send(commands);
        self.answers(count, b"\r\n").map(drop)
    }

    /// How many messages there are.
    pub fn count(&mut self) -> Option<usize> {
        let said = self.line("STAT")?;
        Some(said.split(' ').nth(1).and_then(|count| count.parse().ok()).expect("STAT gives a count"))
    }

    fn send(&mut self, commands: &str) {
        self.stream.write_all(commands.as_bytes()).unwrap();
    }

    /// Reads so many answers with such an end, and says how long the last piece was.
    fn answers(&mut self, count: usize, end: &[u8]) -> Option<usize> {
        let (finder, until) = (memmem::Finder::new(end), Instant::now() + self.limit);
        let (mut seen, mut rest) = (0, Vec::new());
        while seen < count {
            let length = some(&mut self.stream, &mut self.piece, until)?;
            let piece = &self.piece[..length];
            assert!(
                !rest.is_empty() || piece.starts_with(b"+OK"),
                "{}",
                String::from_utf8_lossy(&piece[..length.min(80)])
            );
            rest.extend_from_slice(piece);
            seen += finder.find_iter(&rest).count();
            // An end that has begun goes on in the next piece; one that was counted must not be counted again.
            let keep = (1..end.len()).rev().find(|keep| rest.ends_with(&end[..*keep])).unwrap_or(1);
            rest.drain(..rest.len() - keep);
            if length == 0 {
                break;
            }
            if seen >= count {
                return Some(length);
            }
        }
        Some(0)
    }
}

impl Answer {
    /// The count of the EXISTS answer.
    pub fn exists(&self) -> usize {
        let count = |line: &str| line.strip_prefix("* ")?.strip_suffix(" EXISTS")?.parse().ok();
        self.head.lines().find_map(count).expect("an EXISTS answer")
    }

    /// How many numbers a SEARCH answer begins with.
    pub fn found(&self) -> usize {
        let line = self.head.lines().find_map(|line| line.strip_prefix("* SEARCH"));
        line.map_or(0, |numbers| numbers.split_whitespace().count())
    }
}
