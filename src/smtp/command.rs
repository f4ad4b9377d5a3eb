//! SMTP commands, typed: a pure parser.
//!
//! Lines are taken as clients write them: any case, `MAIL FROM: <a@b>` with a blank, addresses without brackets.

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
    Mail {
        /// Empty for the null sender.
        sender: String,
        /// `SIZE=`.
        size: Option<u64>,
    },
    /// `RCPT TO:<recipient>`.
    Rcpt {
        /// The recipient as the client wrote it.
        recipient: String,
    },
    /// `DATA`.
    Data,
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
}

/// The longest address (RFC 5321 §4.5.3.1.3, with room for both parts at their longest).
const ADDRESS_MAX: usize = 320;

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
        "MAIL" => mail(after(line, "MAIL", "FROM").ok_or(Bad::Argument("MAIL FROM:<address> is expected"))?),
        "RCPT" => rcpt(after(line, "RCPT", "TO").ok_or(Bad::Argument("RCPT TO:<address> is expected"))?),
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

/// An address, in brackets or bare, and the parameters behind it. A source route in front is dropped (RFC 5321 §4.1.1.3).
fn path(text: &str) -> Result<(&str, &str), Bad> {
    const WRONG: Bad = Bad::Argument("an address in angle brackets is expected");
    let (address, parameters) = match text.strip_prefix('<') {
        Some(rest) => rest.split_once('>').ok_or(WRONG)?,
        None => text.split_once(' ').unwrap_or((text, "")),
    };
    let address = match address.strip_prefix('@') {
        Some(route) => route.split_once(':').ok_or(WRONG)?.1,
        None => address,
    };
    let legal = address.len() <= ADDRESS_MAX
        && address.bytes().all(|b| b.is_ascii_graphic() && b != b'<' && b != b'>');
    if legal { Ok((address, parameters)) } else { Err(WRONG) }
}

fn mail(text: &str) -> Result<Command, Bad> {
    if text.is_empty() {
        return Err(Bad::Argument("MAIL FROM:<address> is expected"));
    }
    let (sender, parameters) = path(text)?;
    let mut size = None;
    for parameter in parameters.split_ascii_whitespace() {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match name.to_ascii_uppercase().as_str() {
            "SIZE" => size = Some(value.parse().map_err(|_| Bad::Argument("SIZE is a number of bytes"))?),
            "BODY" if value.eq_ignore_ascii_case("7BIT") || value.eq_ignore_ascii_case("8BITMIME") => {}
            // RFC 4954 section 5: whoever trusts the client may use it; we have no use for it.
            "AUTH" => {}
            _ => return Err(Bad::Parameter),
        }
    }
    Ok(Command::Mail { sender: sender.to_owned(), size })
}

fn rcpt(text: &str) -> Result<Command, Bad> {
    let (recipient, parameters) = path(text)?;
    match parameters.trim() {
        _ if recipient.is_empty() => Err(Bad::Argument("a recipient is missing")),
        "" => Ok(Command::Rcpt { recipient: recipient.to_owned() }),
        _ => Err(Bad::Parameter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        let hello = |name: &str, extended| Ok(Command::Hello { name: name.into(), extended });
        let mail = |sender: &str, size| Ok(Command::Mail { sender: sender.into(), size });
        let rcpt = |recipient: &str| Ok(Command::Rcpt { recipient: recipient.into() });
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
