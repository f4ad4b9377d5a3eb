//! SMTP commands, typed: a pure parser. The parameters of MAIL and RCPT are [`super::parameters`]'.
//!
//! Lines are taken as clients write them: any case, `MAIL FROM: <a@b>` with a blank, addresses without brackets.

use super::parameters::{self, Mail, Rcpt};

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `HELO name` or `EHLO name`.
    Hello {
        /// The name that the client gives itself.
        name: String,
        /// EHLO.
        extended: bool,
    },
    /// `MAIL FROM:<sender>`.
    Mail(Mail),
    /// `RCPT TO:<recipient>`.
    Rcpt(Rcpt),
    /// `DATA`.
    Data,
    /// `BDAT size [LAST]` (RFC 3030); the octets follow.
    Chunk {
        /// How many.
        size: u64,
        /// Does the message end with them?
        last: bool,
    },
    /// `RSET`.
    Reset,
    /// `NOOP`.
    Noop,
    /// `QUIT`.
    Quit,
    /// `AUTH mechanism [initial response]`.
    Auth {
        /// In upper case.
        mechanism: String,
        /// Base64.
        initial: Option<String>,
    },
    /// `VRFY address`.
    Verify(String),
    /// `EXPN address`.
    Expand(String),
    /// `ETRN node` (RFC 1985).
    Retry(String),
    /// `STARTTLS` (RFC 3207).
    StartTls,
    /// `HELP`.
    Help,
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// Not a command that we know.
    Unknown,
    /// A web browser's: somebody makes one send mail (RFC 9110 §9 names the methods).
    Web,
    /// The argument is missing or wrong.
    Argument(&'static str),
    /// A parameter that was not offered.
    Parameter,
    /// Addresses in UTF-8 need the parameter SMTPUTF8 (RFC 6531 §3.5).
    Utf8,
    /// A BDAT whose size is not to be made out: nobody can say where the octets behind it end and the next command begins.
    Chunk,
}

/// Reads a command line, without its line end.
pub fn parse(line: &str) -> Result<Command, Bad> {
    let line = line.trim_end();
    let (verb, rest) = line.split_once([' ', ':']).unwrap_or((line, ""));
    let rest = rest.trim();
    let alone = |command: Command| {
        if rest.is_empty() { Ok(command) } else { Err(Bad::Argument("no argument is taken")) }
    };
    match verb.to_ascii_uppercase().as_str() {
        "HELO" | "EHLO" => {
            let extended = verb.eq_ignore_ascii_case("EHLO");
            let name = rest.split_ascii_whitespace().next().ok_or(Bad::Argument("a host name is missing"))?;
            let name: String = name.chars().filter(|c| c.is_ascii_graphic()).take(255).collect();
            Ok(Command::Hello { name, extended })
        }
        "MAIL" => {
            let argument = after(line, "MAIL", "FROM");
            let argument = argument.ok_or(Bad::Argument("MAIL FROM:<address> is expected"))?;
            Ok(Command::Mail(parameters::mail(argument)?))
        }
        "RCPT" => {
            let argument = after(line, "RCPT", "TO");
            let argument = argument.ok_or(Bad::Argument("RCPT TO:<address> is expected"))?;
            Ok(Command::Rcpt(parameters::rcpt(argument)?))
        }
        "BDAT" => chunk(rest),
        "ETRN" => match rest.split_ascii_whitespace().next() {
            Some(node) => Ok(Command::Retry(node.to_owned())),
            None => Err(Bad::Argument("a domain is missing")),
        },
        "DATA" => alone(Command::Data),
        "RSET" => alone(Command::Reset),
        "STARTTLS" => alone(Command::StartTls),
        "QUIT" => Ok(Command::Quit),
        "NOOP" => Ok(Command::Noop),
        "HELP" => Ok(Command::Help),
        "VRFY" => Ok(Command::Verify(rest.to_owned())),
        "EXPN" => Ok(Command::Expand(rest.to_owned())),
        "AUTH" => {
            let mut words = rest.split_ascii_whitespace();
            let mechanism = words.next().ok_or(Bad::Argument("a mechanism is missing"))?.to_ascii_uppercase();
            Ok(Command::Auth { mechanism, initial: words.next().map(str::to_owned) })
        }
        "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "CONNECT" | "OPTIONS" | "TRACE" | "PATCH" => {
            Err(Bad::Web)
        }
        _ => Err(Bad::Unknown),
    }
}

/// What stands behind `VERB WORD:`, with blanks wherever clients put them.
fn after<'a>(line: &'a str, verb: &str, word: &str) -> Option<&'a str> {
    let rest = line.get(verb.len()..)?.trim_start();
    let (head, rest) = rest.split_at_checked(word.len())?;
    let rest = rest.trim_start().strip_prefix(':')?;
    head.eq_ignore_ascii_case(word).then(|| rest.trim_start())
}

fn chunk(rest: &str) -> Result<Command, Bad> {
    let mut words = rest.split_ascii_whitespace();
    let size = words.next().filter(|size| size.bytes().all(|b| b.is_ascii_digit()));
    let size = size.and_then(|size| size.parse().ok()).ok_or(Bad::Chunk)?;
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case("LAST") => true,
        Some(_) => return Err(Bad::Chunk),
    };
    if words.next().is_some() { Err(Bad::Chunk) } else { Ok(Command::Chunk { size, last }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        let hello = |name: &str, extended| Ok(Command::Hello { name: name.into(), extended });
        let mail =
            |sender: &str, size| Ok(Command::Mail(Mail { sender: sender.into(), size, ..Mail::default() }));
        let rcpt =
            |recipient: &str| Ok(Command::Rcpt(Rcpt { recipient: recipient.into(), ..Rcpt::default() }));
        let chunk = |size, last| Ok(Command::Chunk { size, last });
        for (line, expected) in [
            ("EHLO a.example", hello("a.example", true)),
            ("helo [192.0.2.1] x", hello("[192.0.2.1]", false)),
            ("MAIL FROM:<a@b>", mail("a@b", None)),
            ("mail from: <a@b> SIZE=123 BODY=8BITMIME", mail("a@b", Some(123))),
            ("MAIL FROM:<>", mail("", None)),
            ("MAIL FROM:a@b", mail("a@b", None)),
            ("MAIL FROM:<@x,@y:a@b>", mail("a@b", None)),
            ("RCPT To:<a@b>", rcpt("a@b")),
            ("RCPT TO : <postmaster>", rcpt("postmaster")),
            ("DATA", Ok(Command::Data)),
            ("BDAT 1000", chunk(1000, false)),
            ("bdat 0 last", chunk(0, true)),
            ("BDAT 18446744073709551615 LAST", chunk(u64::MAX, true)),
            ("BDAT", Err(Bad::Chunk)),
            ("BDAT LAST", Err(Bad::Chunk)),
            ("BDAT -1", Err(Bad::Chunk)),
            ("BDAT +1", Err(Bad::Chunk)),
            ("BDAT 1 FIRST", Err(Bad::Chunk)),
            ("BDAT 1 LAST X", Err(Bad::Chunk)),
            ("BDAT 18446744073709551616", Err(Bad::Chunk)),
            ("ETRN example.com", Ok(Command::Retry("example.com".into()))),
            ("ETRN", Err(Bad::Argument("a domain is missing"))),
            ("rset", Ok(Command::Reset)),
            ("quit", Ok(Command::Quit)),
            ("NOOP x", Ok(Command::Noop)),
            ("AUTH login", Ok(Command::Auth { mechanism: "LOGIN".into(), initial: None })),
            (
                "AUTH PLAIN AGEAYg==",
                Ok(Command::Auth { mechanism: "PLAIN".into(), initial: Some("AGEAYg==".into()) }),
            ),
        ] {
            assert_eq!(parse(line), expected, "{line}");
        }
        for line in [
            "",
            "FOO",
            "MAIL",
            "MAIL FROM:",
            "MAIL FROM:<a@b",
            "MAIL FROM:<a b>",
            "MAIL FROM:<a> FOO=1",
            "RCPT TO:<>",
            "RCPT TO:<a> X",
            "HELO",
            "DATA x",
            "MAIL FROM:<a> SIZE=x",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
