//! Command lines.
//!
//! # Failure
//! [`CommandError`], with the text of the `-ERR` answer.

use crate::account::challenge::name_and_digest;

/// A command (RFC 1939 §5-7, RFC 2449 §5, RFC 5034 §4). Messages are numbers from 1; larger ones than a mailbox can hold are
/// [`u32::MAX`], which no message has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The login name.
    User(String),
    /// The password: everything behind the blank, other blanks too.
    Pass(String),
    /// A SASL mechanism and the initial response in base64.
    Auth(Mechanism, Option<Vec<u8>>),
    /// Which mechanisms are there?
    AuthList,
    /// Name and digest (RFC 1939 §7).
    Apop(String, [u8; 16]),
    /// What can the server do?
    Capa,
    /// Begin TLS (RFC 2595 §4).
    Stls,
    /// The client reads UTF-8 (RFC 6856 §2.1).
    Utf8,
    /// The end.
    Quit,
    /// What is for clients that are logged in.
    Mail(Mail),
}

/// A command of the TRANSACTION state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mail {
    /// How many messages, how many bytes?
    Stat,
    /// Sizes of one message or all.
    List(Option<u32>),
    /// Unique ids of one message or all.
    Uidl(Option<u32>),
    /// A message.
    Retr(u32),
    /// A message's header and so many lines of its body.
    Top(u32, u32),
    /// Marks a message for removal at QUIT.
    Dele(u32),
    /// Takes all those marks back.
    Rset,
    /// Nothing.
    Noop,
}

/// A SASL mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// Name and password after one prompt each, as many mail programs still do it.
    Login,
    /// RFC 2195.
    CramMd5,
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Not one of ours.
    #[error("unknown command")]
    Unknown,
    /// Ours, with arguments that it does not take.
    #[error("{0}")]
    Arguments(&'static str),
    /// A mechanism that is not offered.
    #[error("this authentication mechanism is not offered")]
    Mechanism,
}

use CommandError::Arguments;

impl Command {
    /// Reads a line; its line end may be there or not.
    pub fn parse(line: &[u8]) -> Result<Command, CommandError> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (keyword, rest) = match line.iter().position(|b| *b == b' ') {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &[][..]),
        };
        let none = |command| match rest.trim_ascii() {
            [] => Ok(command),
            _ => Err(Arguments("this command takes no arguments")),
        };
        match keyword.to_ascii_uppercase().as_slice() {
            b"USER" => match text(rest).trim() {
                "" => Err(Arguments("USER takes a login name")),
                name => Ok(Command::User(name.to_owned())),
            },
            b"PASS" => Ok(Command::Pass(text(rest))),
            b"AUTH" => auth(rest),
            b"APOP" => match name_and_digest(rest) {
                Some((name, digest)) if !name.trim().is_empty() => {
                    Ok(Command::Apop(name.trim().to_owned(), digest))
                }
                _ => Err(Arguments("APOP takes a login name and a digest of 32 hexadecimal digits")),
            },
            b"STAT" => none(Command::Mail(Mail::Stat)),
            b"LIST" => Ok(Command::Mail(Mail::List(at_most_one(rest)?))),
            b"UIDL" => Ok(Command::Mail(Mail::Uidl(at_most_one(rest)?))),
            b"RETR" => Ok(Command::Mail(Mail::Retr(one(rest)?))),
            b"TOP" => top(rest),
            b"DELE" => Ok(Command::Mail(Mail::Dele(one(rest)?))),
            b"RSET" => none(Command::Mail(Mail::Rset)),
            b"NOOP" => none(Command::Mail(Mail::Noop)),
            b"CAPA" => none(Command::Capa),
            b"STLS" => none(Command::Stls),
            b"UTF8" => none(Command::Utf8),
            b"QUIT" => none(Command::Quit),
            _ => Err(CommandError::Unknown),
        }
    }
}

/// An argument as text. What is no UTF-8 belongs to no name and no password that we know.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn words(rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    rest.split(|b| *b == b' ').filter(|word| !word.is_empty())
}

fn auth(rest: &[u8]) -> Result<Command, CommandError> {
    let mut words = words(rest);
    let Some(name) = words.next() else { return Ok(Command::AuthList) };
    let mechanism = match name.to_ascii_uppercase().as_slice() {
        b"PLAIN" => Mechanism::Plain,
        b"LOGIN" => Mechanism::Login,
        b"CRAM-MD5" => Mechanism::CramMd5,
        _ => return Err(CommandError::Mechanism),
    };
    let initial = words.next().map(<[u8]>::to_vec);
    match words.next() {
        None => Ok(Command::Auth(mechanism, initial)),
        Some(_) => Err(Arguments("AUTH takes a mechanism and an initial response")),
    }
}

fn top(rest: &[u8]) -> Result<Command, CommandError> {
    let mut words = words(rest);
    match (words.next().and_then(number), words.next().and_then(number), words.next()) {
        (Some(message), Some(lines), None) => Ok(Command::Mail(Mail::Top(message, lines))),
        _ => Err(Arguments("TOP takes a message number and a number of lines")),
    }
}

fn at_most_one(rest: &[u8]) -> Result<Option<u32>, CommandError> {
    match rest.trim_ascii() {
        [] => Ok(None),
        _ => one(rest).map(Some),
    }
}

fn one(rest: &[u8]) -> Result<u32, CommandError> {
    let mut words = words(rest);
    match (words.next().and_then(number), words.next()) {
        (Some(number), None) => Ok(number),
        _ => Err(Arguments("this command takes a message number")),
    }
}

/// A decimal number; one that is too large is the largest.
fn number(word: &[u8]) -> Option<u32> {
    let digits = word.iter().all(u8::is_ascii_digit);
    (digits && !word.is_empty()).then(|| {
        word.iter()
            .fold(0u32, |number, digit| number.saturating_mul(10).saturating_add(u32::from(digit - b'0')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn commands() {
        let user = |name: &str| Ok(Command::User(name.into()));
        let pass = |word: &str| Ok(Command::Pass(word.into()));
        for (line, expected) in [
            ("USER mike\r\n", user("mike")),
            ("user  mike@example.org ", user("mike@example.org")),
            ("PASS two words\r\n", pass("two words")),
            ("PASS  blank around \r\n", pass(" blank around ")),
            ("pass", pass("")),
            ("AUTH", Ok(Command::AuthList)),
            ("AUTH plain", Ok(Command::Auth(Mechanism::Plain, None))),
            ("AUTH PLAIN =", Ok(Command::Auth(Mechanism::Plain, Some(b"=".to_vec())))),
            ("AUTH LOGIN bWlrZQ==", Ok(Command::Auth(Mechanism::Login, Some(b"bWlrZQ==".to_vec())))),
            ("STAT \r\n", Ok(Command::Mail(Mail::Stat))),
            ("LIST\n", Ok(Command::Mail(Mail::List(None)))),
            ("LIST 7", Ok(Command::Mail(Mail::List(Some(7))))),
            ("uidl 007", Ok(Command::Mail(Mail::Uidl(Some(7))))),
            ("RETR 99999999999999999999", Ok(Command::Mail(Mail::Retr(u32::MAX)))),
            ("RETR 0", Ok(Command::Mail(Mail::Retr(0)))),
            ("TOP 1  10", Ok(Command::Mail(Mail::Top(1, 10)))),
            ("DELE 3", Ok(Command::Mail(Mail::Dele(3)))),
            ("RSET", Ok(Command::Mail(Mail::Rset))),
            ("NOOP", Ok(Command::Mail(Mail::Noop))),
            (
                "APOP mrose c4c9334bac560ecc979e58001b3e22fb",
                Ok(Command::Apop("mrose".into(), 0xc4c9334bac560ecc979e58001b3e22fbu128.to_be_bytes())),
            ),
            ("AUTH cram-md5", Ok(Command::Auth(Mechanism::CramMd5, None))),
            ("CAPA", Ok(Command::Capa)),
            ("STLS", Ok(Command::Stls)),
            ("quit\r\n", Ok(Command::Quit)),
        ] {
            assert_eq!(Command::parse(line.as_bytes()), expected, "{line:?}");
        }
    }

    #[test]
    fn no_commands() {
        for line in ["", " ", "GET / HTTP/1.1", "QUITE", "\0", " STAT", "STAT\t", "XTND XMIT"] {
            assert_eq!(Command::parse(line.as_bytes()), Err(CommandError::Unknown), "{line:?}");
        }
        for line in [
            "USER",
            "USER ",
            "APOP mike",
            "APOP mike c4c9334bac560ecc979e58001b3e22f",
            "APOP  c4c9334bac560ecc979e58001b3e22fb",
            "STAT 1",
            "LIST x",
            "LIST -1",
            "LIST 1 2",
            "RETR",
            "RETR 1 2",
            "RETR +1",
            "TOP 1",
            "TOP 1 -2",
            "TOP 1 2 3",
            "DELE",
            "QUIT now",
            "AUTH PLAIN a b",
        ] {
            let outcome = Command::parse(line.as_bytes());
            assert!(matches!(outcome, Err(Arguments(_))), "{line:?} gave {outcome:?}");
        }
        assert_eq!(Command::parse(b"AUTH GSSAPI"), Err(CommandError::Mechanism));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_line_has_an_answer(line: Vec<u8>) {
            let _ = Command::parse(&line);
        }
    }
}
