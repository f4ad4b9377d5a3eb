//! `mailall`: sends a message to all users of a domain, or of the whole server.
//!
//! IMail's program of this name does that; its letters are not documented, so all switches here are ours and long. Users whose
//! account is disabled get nothing: they could not read it.

use std::process::ExitCode;

use layout::registry::model::{Domain, Registry, flags};

use crate::post::{Message, Post, compose, read_text, sender};
use crate::program::registry::{domain_of, snapshot};
use crate::program::switches::{Given, Operands, Table, Takes, UsageError};
use crate::program::{Failure, Outcome, Program, open_root, say};

const USAGE: &str = "\
Usage: mailall --domain DOMAIN... --subject TEXT [--from ADDRESS] [--file FILE]
       mailall --all --subject TEXT [--from ADDRESS] [--file FILE]

Sends a message to all users that are not disabled. Nobody sees the others' addresses.

  --domain DOMAIN  the users of this domain, by its official or any other name; may be given several times
  --all            the users of all domains
  --subject TEXT   the subject
  --from ADDRESS   the sender; without it the postmaster of the first domain named, or of the primary one
  --file FILE      the text, in UTF-8 or in the code page of the server; without it standard input is read
  --dry-run        print who would get it, and send nothing
  --root DIR       the IMail directory; without it the environment variable IMAIL_ROOT counts, then the current
                   directory if it holds registry.ini
  --help           this text
  --version        the version

Exit code: 0 sent, 1 not sent, 2 wrong usage.";

const PROGRAM: Program = Program {
    name: "mailall",
    about: "Sends a message to all users",
    usage: USAGE,
    table: Table {
        switches: &[
            ("--domain", Takes::Values("a domain name")),
            ("--all", Takes::Nothing),
            ("--subject", Takes::Value("a text")),
            ("--from", Takes::Value("an address")),
            ("--file", Takes::Value("a file name")),
            ("--dry-run", Takes::Nothing),
        ],
        operands: Operands::None,
    },
};

/// Runs the program.
pub fn main() -> ExitCode {
    PROGRAM.main(run)
}

fn run(given: &Given) -> Result<Outcome, Failure> {
    if given.has("--all") == given.has("--domain") {
        return Err(UsageError("either --domain DOMAIN or --all says who is to get it".into()).into());
    }
    let subject = given.needed("--subject")?.to_owned();
    let root = open_root(given.root.as_deref())?;
    let registry = snapshot(&root).map_err(Failure::of)?.registry;
    let recipients = recipients(given, &registry)?;
    if recipients.is_empty() {
        return Err(Failure::Failed("there is no user who is not disabled".to_owned()));
    }
    if given.has("--dry-run") {
        recipients.iter().for_each(|address| say(&format!("Would send to {address}")));
        return Ok(Outcome::Done);
    }
    let from = sender(given, &registry, given.value("--domain"))?;
    let text = read_text(given, &registry)?;
    let message = Message { from: from.clone(), subject, text, bulk: true, ..Message::default() };
    let post = Post::new(&root, &registry).map_err(Failure::of)?;
    let id = post.id().map_err(Failure::of)?;
    let mail = compose(&message, chrono::Local::now(), id);
    post.send(id, &from, &recipients, &mail).map_err(Failure::of)?;
    say(&format!("Sent to {} users", recipients.len()));
    Ok(Outcome::Done)
}

/// Everybody who is to get it.
fn recipients(given: &Given, registry: &Registry) -> Result<Vec<String>, Failure> {
    let named: Result<Vec<&Domain>, _> =
        given.values("--domain").map(|name| domain_of(registry, Some(name))).collect();
    let mut domains = named.map_err(Failure::of)?;
    if given.has("--all") {
        domains = registry.domains.iter().collect();
    }
    let mut all: Vec<String> = Vec::new();
    for domain in domains {
        let users = domain.users.values().filter(|user| !user.has(flags::DISABLED));
        all.extend(users.map(|user| format!("{}@{}", user.id, domain.name)));
    }
    all.sort();
    all.dedup();
    Ok(all)
}
