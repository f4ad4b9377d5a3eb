//! A tiny IMAP client. Answers are kept as bytes, literals included where they stood.

use super::wire::Wire;
use std::net::SocketAddr;

/// One session.
pub struct Imap {
    wire: Wire,
    commands: u32,
    /// The greeting line.
    pub greeting: String,
}

/// What a command brought: the untagged answers and the tagged line.
#[derive(Debug)]
pub struct Answer {
    /// Untagged answers without their CRLF, literals in place.
    pub untagged: Vec<Vec<u8>>,
    /// The tagged line without the tag: `OK ...`, `NO ...`, `BAD ...`.
    pub status: String,
}

impl Answer {
    /// Whether the command succeeded.
    pub fn is_ok(&self) -> bool {
        self.status.starts_with("OK")
    }

    /// All untagged answers as text, one a line.
    pub fn text(&self) -> String {
        let lines: Vec<_> = self.untagged.iter().map(|line| String::from_utf8_lossy(line)).collect();
        lines.join("\n")
    }
}

impl Imap {
    /// Connects and reads the greeting.
    #[track_caller]
    pub fn open(address: SocketAddr) -> Imap {
        let mut wire = Wire::open(address).expect("IMAP listens");
        let greeting = wire.line();
        Imap { wire, commands: 0, greeting }
    }

    /// Connects and logs in; the error is the server's refusal.
    #[track_caller]
    pub fn login(address: SocketAddr, user: &str, password: &str) -> Result<Imap, String> {
        let mut imap = Imap::open(address);
        let answer = imap.command(&format!("LOGIN \"{user}\" \"{password}\""));
        if answer.is_ok() { Ok(imap) } else { Err(answer.status) }
    }

    /// Sends a command and reads its answer to the end.
    #[track_caller]
    pub fn command(&mut self, line: &str) -> Answer {
        self.commands += 1;
        let tag = format!("t{}", self.commands);
        self.wire.send(format!("{tag} {line}\r\n").as_bytes());
        self.answer(&tag)
    }

    /// Sends a command without waiting for its answer; [`Imap::finish`] reads it.
    pub fn begin(&mut self, line: &str) {
        self.commands += 1;
        self.wire.send(format!("t{} {line}\r\n", self.commands).as_bytes());
    }

    /// Reads the answer of the command that was sent last.
    #[track_caller]
    pub fn finish(&mut self) -> Answer {
        let tag = format!("t{}", self.commands);
        self.answer(&tag)
    }

    /// Sends a command to a server that may be gone: `None` if it is. For answers without literals.
    pub fn try_command(&mut self, line: &str) -> Option<Answer> {
        self.commands += 1;
        let tag = format!("t{} ", self.commands);
        let mut untagged = self.wire.try_ask(format!("{tag}{line}\r\n").as_bytes(), &tag)?;
        let status = String::from_utf8_lossy(untagged.pop()?.strip_prefix(tag.as_bytes())?).into_owned();
        assert!(status.starts_with("OK"), "{line}: {status}");
        Some(Answer { untagged, status })
    }

    /// Appends a message, as [`Imap::try_command`].
    pub fn try_append(&mut self, mailbox: &str, message: &str) -> Option<Answer> {
        self.try_command(&format!("APPEND {mailbox} {{{}+}}\r\n{message}", message.len()))
    }

    /// Begins to wait for news.
    #[track_caller]
    pub fn begin_idle(&mut self) {
        self.begin("IDLE");
        self.wait_for_line("+");
    }

    /// Reads lines until one begins like this.
    #[track_caller]
    pub fn wait_for_line(&mut self, begin: &str) {
        while !self.wire.line().starts_with(begin) {}
    }

    /// Sends a command that must succeed.
    #[track_caller]
    pub fn ok(&mut self, line: &str) -> Answer {
        let answer = self.command(line);
        assert!(answer.is_ok(), "{line}: {}", answer.status);
        answer
    }

    /// Sends a command that ends in a literal, waiting for the server's go-ahead.
    #[track_caller]
    pub fn with_literal(&mut self, line: &str, literal: &[u8]) -> Answer {
        self.commands += 1;
        let tag = format!("t{}", self.commands);
        self.wire.send(format!("{tag} {line} {{{}}}\r\n", literal.len()).as_bytes());
        let go_ahead = self.wire.line();
        assert!(go_ahead.starts_with('+'), "no go-ahead for the literal: {go_ahead}");
        self.wire.send(literal);
        self.wire.send(b"\r\n");
        self.answer(&tag)
    }

    /// Sends a line without a tag, as someone at a terminal does, and expects the end.
    #[track_caller]
    pub fn bare_line_ends(mut self, line: &str) {
        self.wire.send(format!("{line}\r\n").as_bytes());
        self.wire.expect_end();
    }

    /// The mailbox names that LIST gives, without quotes.
    #[track_caller]
    pub fn mailboxes(&mut self) -> Vec<String> {
        let answer = self.ok("LIST \"\" \"*\"");
        answer.text().lines().filter(|line| line.starts_with("* LIST")).map(list_name).collect()
    }

    /// How many messages the mailbox holds, by EXAMINE.
    #[track_caller]
    pub fn examine(&mut self, mailbox: &str) -> usize {
        exists(&self.ok(&format!("EXAMINE \"{mailbox}\"")))
    }

    /// The flags of every message of the open mailbox, in order.
    #[track_caller]
    pub fn flags(&mut self) -> Vec<Vec<String>> {
        let answer = self.ok("FETCH 1:* (FLAGS)");
        answer.text().lines().filter(|line| line.contains("FETCH")).map(flag_list).collect()
    }

    /// Whether each message of the open mailbox has been read.
    #[track_caller]
    pub fn seen(&mut self) -> Vec<bool> {
        self.flags()
            .iter()
            .map(|flags| flags.iter().any(|flag| flag.eq_ignore_ascii_case("\\Seen")))
            .collect()
    }

    /// One message of the open mailbox, without marking it.
    #[track_caller]
    pub fn body(&mut self, number: usize) -> Vec<u8> {
        let answer = self.ok(&format!("FETCH {number} (BODY.PEEK[])"));
        first_literal(&answer.untagged).expect("FETCH BODY.PEEK[] gives a literal")
    }

    /// Ends the session.
    #[track_caller]
    pub fn logout(mut self) {
        let answer = self.ok("LOGOUT");
        assert!(answer.text().contains("* BYE"), "LOGOUT without BYE");
        self.wire.expect_end();
    }

    #[track_caller]
    fn answer(&mut self, tag: &str) -> Answer {
        let mut untagged = Vec::new();
        loop {
            let Some(line) = self.whole_line() else {
                let said: Vec<_> =
                    untagged.iter().map(|line: &Vec<u8>| String::from_utf8_lossy(line)).collect();
                panic!("the server closed the connection instead of answering, after {said:#?}");
            };
            match line.strip_prefix(format!("{tag} ").as_bytes()) {
                Some(status) => {
                    return Answer { untagged, status: String::from_utf8_lossy(status).into_owned() };
                }
                None => untagged.push(line),
            }
        }
    }

    /// A line with its literals.
    #[track_caller]
    fn whole_line(&mut self) -> Option<Vec<u8>> {
        let mut line = self.wire.line_bytes()?;
        while let Some(length) = literal_length(&line) {
            line.extend_from_slice(b"\r\n");
            line.extend(self.wire.exactly(length));
            line.extend(self.wire.line_bytes().expect("the rest of a line after its literal"));
        }
        Some(line)
    }
}

/// The count of the EXISTS answer.
#[track_caller]
pub fn exists(answer: &Answer) -> usize {
    let text = answer.text();
    let count = text.lines().find_map(|line| line.strip_prefix("* ")?.strip_suffix(" EXISTS")?.parse().ok());
    count.unwrap_or_else(|| panic!("no EXISTS in:\n{text}"))
}

/// The length announced at the end of a line, `{123}`.
fn literal_length(line: &[u8]) -> Option<usize> {
    let text = line.strip_suffix(b"}")?;
    let start = text.iter().rposition(|byte| *byte == b'{')?;
    std::str::from_utf8(&text[start + 1..]).ok()?.parse().ok()
}

/// The bytes of the first literal in an answer.
fn first_literal(untagged: &[Vec<u8>]) -> Option<Vec<u8>> {
    untagged.iter().find_map(|line| {
        let end = line.windows(2).position(|pair| pair == b"\r\n")?;
        let length = literal_length(&line[..end])?;
        Some(line[end + 2..end + 2 + length].to_vec())
    })
}

/// The name at the end of a LIST answer.
fn list_name(line: &str) -> String {
    let name = match line.strip_suffix('"') {
        Some(quoted) => quoted.rsplit_once('"').map_or(quoted, |(_, name)| name),
        None => line.rsplit_once(' ').map_or(line, |(_, name)| name),
    };
    name.to_owned()
}

/// The words between the brackets after FLAGS.
fn flag_list(line: &str) -> Vec<String> {
    let inside = line.split_once("FLAGS (").and_then(|(_, rest)| rest.split_once(')'));
    let (flags, _) = inside.unwrap_or_else(|| panic!("no flags in {line}"));
    flags.split_whitespace().map(str::to_owned).collect()
}
