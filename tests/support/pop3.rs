//! A tiny POP3 client.

use super::wire::Wire;
use std::net::SocketAddr;

/// One session.
pub struct Pop3 {
    wire: Wire,
    /// The greeting line.
    pub greeting: String,
}

impl Pop3 {
    /// Connects and reads the greeting.
    #[track_caller]
    pub fn open(address: SocketAddr) -> Pop3 {
        let mut wire = Wire::open(address).expect("POP3 listens");
        let greeting = wire.line();
        Pop3 { wire, greeting }
    }

    /// Connects and logs in; the error is the server's refusal.
    #[track_caller]
    pub fn login(address: SocketAddr, user: &str, password: &str) -> Result<Pop3, String> {
        let mut pop3 = Pop3::open(address);
        pop3.ask(&format!("USER {user}"))?;
        pop3.ask(&format!("PASS {password}"))?;
        Ok(pop3)
    }

    /// Sends a command; `Ok` with the text after `+OK`, `Err` with the text after `-ERR`.
    #[track_caller]
    pub fn ask(&mut self, line: &str) -> Result<String, String> {
        self.send(&format!("{line}\r\n"));
        let reply = self.wire.line();
        match (reply.strip_prefix("+OK"), reply.strip_prefix("-ERR")) {
            (Some(text), _) => Ok(text.trim().to_owned()),
            (_, Some(text)) => Err(text.trim().to_owned()),
            _ => panic!("not a POP3 reply to {line:?}: {reply}"),
        }
    }

    /// Sends lines without waiting for their answers.
    pub fn send(&mut self, lines: &str) {
        self.wire.send(lines.as_bytes());
    }

    /// Sends a command whose reply must be `+OK`.
    #[track_caller]
    pub fn ok(&mut self, line: &str) -> String {
        self.ask(line).unwrap_or_else(|refusal| panic!("{line} refused: {refusal}"))
    }

    /// Sends a command with an answer of several lines, and gives these as bytes with CRLF,
    /// dots undone.
    #[track_caller]
    pub fn block(&mut self, line: &str) -> Vec<u8> {
        self.ok(line);
        self.lines()
    }

    /// Reads the whole answer to a command that was sent before.
    #[track_caller]
    pub fn read_block(&mut self) -> Vec<u8> {
        let reply = self.wire.line();
        assert!(reply.starts_with("+OK"), "{reply}");
        self.lines()
    }

    #[track_caller]
    fn lines(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let line = self.wire.line_bytes().expect("the answer ends with a dot");
            if line == b"." {
                return bytes;
            }
            bytes.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
            bytes.extend_from_slice(b"\r\n");
        }
    }

    /// How many messages there are.
    #[track_caller]
    pub fn count(&mut self) -> usize {
        let answer = self.ok("STAT");
        answer.split(' ').next().and_then(|count| count.parse().ok()).expect("STAT gives a count")
    }

    /// The unique ids, in order.
    #[track_caller]
    pub fn uidl(&mut self) -> Vec<String> {
        let text = String::from_utf8(self.block("UIDL")).expect("UIDL is ASCII");
        let ids = text.lines().map(|line| line.split_once(' ').expect("number and id").1.to_owned());
        ids.collect()
    }

    /// The subjects of all messages, in order, as they stand in the header.
    #[track_caller]
    pub fn subjects(&mut self) -> Vec<String> {
        let count = self.count();
        (1..=count).map(|number| subject(&self.block(&format!("TOP {number} 0")))).collect()
    }

    /// Ends the session, which removes what was marked.
    #[track_caller]
    pub fn quit(mut self) {
        self.ok("QUIT");
        self.wire.expect_end();
    }
}

/// The first line of the Subject field, empty without one.
pub fn subject(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    let lines = text.lines().take_while(|line| !line.is_empty());
    lines.into_iter().find_map(|line| line.strip_prefix("Subject: ")).unwrap_or("").to_owned()
}
