//! `imail1`: sends a message from the command line.
//!
//! IMail's program of this name builds a message from its command line or a text file and submits it; its letters are not
//! documented, so all switches here are ours and long, and IMail's can be added.

use std::path::Path;
use std::process::ExitCode;

use layout::name::SpoolId;

use crate::post::{Message, Post, TEXT_MAX, addresses, compose, read_text, sender};
use crate::program::registry::snapshot;
use crate::program::switches::{Given, Operands, Table, Takes, UsageError};
use crate::program::{Failure, Outcome, Program, open_root, say};

const USAGE: &str = "\
Usage: imail1 --to ADDRESS... [--from ADDRESS] [--cc ADDRESS]... [--bcc ADDRESS]... [--subject TEXT] [--file FILE]
       imail1 --to ADDRESS... [--from ADDRESS] --message FILE

Puts a message into the spool; the server delivers it at once, or when it starts.

  --to, --cc, --bcc ADDRESS   recipients; with commas between them, or the option several times. A name without
                   @ is in the primary domain
  --from ADDRESS   the sender; without it the postmaster of the primary domain
  --subject TEXT   the subject
  --file FILE      the text, in UTF-8 or in the code page of the server; without it standard input is read
  --message FILE   a whole message with its header, sent as it is
  --dry-run        print the message instead of sending it
  --root DIR       the IMail directory; without it the environment variable IMAIL_ROOT counts, then the current
                   directory if it holds registry.ini
  --help           this text
  --version        the version

Exit code: 0 sent, 1 not sent, 2 wrong usage.";

const PROGRAM: Program = Program {
    name: "imail1",
    about: "Sends a message from the command line",
    usage: USAGE,
    table: Table {
        switches: &[
            ("--to", Takes::Values("an address")),
            ("--cc", Takes::Values("an address")),
            ("--bcc", Takes::Values("an address")),
            ("--from", Takes::Value("an address")),
            ("--subject", Takes::Value("a text")),
            ("--file", Takes::Value("a file name")),
            ("--message", Takes::Value("a file name")),
            ("--dry-run", Takes::Nothing),
        ],
        operands: Operands::None,
    },
};

/// What is to be sent.
enum Content {
    /// The text of a message that is still to be made.
    Text(String),
    /// A message as it is.
    Whole(Vec<u8>),
}

/// Runs the program.
pub fn main() -> ExitCode {
    PROGRAM.main(run)
}

fn run(given: &Given) -> Result<Outcome, Failure> {
    given.at_most_one(&["--file", "--message"])?;
    if given.has("--message") && (given.has("--subject") || given.has("--cc")) {
        return Err(UsageError("--message is sent as it is: leave --subject and --cc out".into()).into());
    }
    let root = open_root(given.root.as_deref())?;
    let registry = snapshot(&root).map_err(Failure::of)?.registry;
    let (to, cc) = (addresses(given, "--to", &registry)?, addresses(given, "--cc", &registry)?);
    let recipients = [to.clone(), cc.clone(), addresses(given, "--bcc", &registry)?].concat();
    if recipients.is_empty() {
        return Err(UsageError("nobody is named: --to ADDRESS".into()).into());
    }
    let from = sender(given, &registry, None)?;
    // Whatever can be wrong is found before anything is made.
    let body = match given.value("--message") {
        Some(file) => Content::Whole(whole_message(Path::new(file))?),
        None => Content::Text(read_text(given, &registry)?),
    };
    let post = match given.has("--dry-run") {
        true => None,
        false => Some(Post::new(&root, &registry).map_err(Failure::of)?),
    };
    let id = post.as_ref().map_or(Ok(SpoolId(0)), Post::id).map_err(Failure::of)?;
    let mail = match body {
        Content::Whole(mail) => mail,
        Content::Text(text) => {
            let subject = given.value("--subject").unwrap_or_default().to_owned();
            let message = Message { from: from.clone(), to, cc, subject, text, bulk: false };
            compose(&message, chrono::Local::now(), id)
        }
    };
    let Some(post) = post else {
        say(&format!("Would send from {from} to {}:\n", recipients.join(", ")));
        say(&String::from_utf8_lossy(&mail));
        return Ok(Outcome::Done);
    };
    let names = post.send(id, &from, &recipients, &mail).map_err(Failure::of)?;
    names.iter().for_each(|name| say(&format!("Sent as {name} to {} recipients", recipients.len())));
    Ok(Outcome::Done)
}

fn whole_message(file: &Path) -> Result<Vec<u8>, Failure> {
    let told = |reason: String| Failure::Failed(format!("the file {} {reason}", file.display()));
    let size = std::fs::metadata(file).map_err(|error| told(format!("cannot be read: {error}")))?.len();
    if size > TEXT_MAX {
        return Err(told("is larger than 64 MiB".to_owned()));
    }
    std::fs::read(file).map_err(|error| told(format!("cannot be read: {error}")))
}
