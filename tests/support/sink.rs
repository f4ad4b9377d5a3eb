//! A mail server of somebody else: takes mail and forgets it, or refuses as it is told.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Replies that differ from the usual, by the first word of the command.
pub type Replies = &'static [(&'static str, &'static str)];

/// A listener on a port of its own; it lives as long as the process.
pub struct Sink {
    address: SocketAddr,
    taken: Arc<Taken>,
}

#[derive(Default)]
struct Taken {
    messages: AtomicUsize,
    copies: AtomicUsize,
}

impl Sink {
    /// Starts listening.
    pub fn start(replies: Replies) -> Sink {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let taken = Arc::new(Taken::default());
        let count = taken.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let count = count.clone();
                // A client that breaks off is its own business.
                thread::spawn(move || session(stream, replies, &count));
            }
        });
        Sink { address, taken }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many messages it took.
    pub fn taken(&self) -> usize {
        self.taken.messages.load(Ordering::Acquire)
    }

    /// How many recipients those had in all.
    pub fn copies(&self) -> usize {
        self.taken.copies.load(Ordering::Acquire)
    }
}

fn session(stream: TcpStream, replies: Replies, taken: &Taken) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::with_capacity(64 << 10, stream);
    writer.write_all(b"220 sink.example.net ESMTP\r\n")?;
    let (mut line, mut recipients) = (Vec::new(), 0);
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let verb = line.split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
        let verb = String::from_utf8_lossy(verb).to_ascii_uppercase();
        let told = replies.iter().find(|(word, _)| *word == verb).map(|(_, reply)| *reply);
        let reply = told.unwrap_or(match verb.as_str() {
            "EHLO" => "250-sink.example.net\r\n250-PIPELINING\r\n250 8BITMIME",
            "DATA" => "354 go on",
            "QUIT" => "221 bye",
            _ => "250 fine",
        });
        recipients = match verb.as_str() {
            "MAIL" => 0,
            "RCPT" if told.is_none() => recipients + 1,
            _ => recipients,
        };
        writer.write_all(format!("{reply}\r\n").as_bytes())?;
        if verb == "DATA" && told.is_none() {
            skip_message(&mut reader, &mut line)?;
            // Counted first: whoever has the reply sees it counted.
            taken.messages.fetch_add(1, Ordering::Release);
            taken.copies.fetch_add(recipients, Ordering::Release);
            writer.write_all(b"250 taken\r\n")?;
        }
    }
}

/// Reads up to the line that is a dot.
fn skip_message(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<()> {
    loop {
        line.clear();
        if reader.read_until(b'\n', line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line == b".\r\n" {
            return Ok(());
        }
    }
}
