//! `addalias`: adds, changes, deletes and lists aliases with IMail's own switches, text files and separators.
//!
//! * [`lines`]: command lines, text files and standard input to requests
//! * [`plan`]: requests and a registry to changes, without any effect
//! * [`apply`]: the changes to the registry and the groups' files
//!
//! Failure: what cannot be done is told on standard error, with file and line, and the rest goes on. Limits: those of
//! [`crate::program::lines`].

pub mod apply;
pub mod lines;
pub mod plan;

use std::path::Path;
use std::process::ExitCode;

use layout::registry::store::Loaded;
use layout::root::Root;
use layout::text;

use crate::program::lines::{Place, from_input, load};
use crate::program::registry::{domain_of, snapshot};
use crate::program::switches::{Given, UsageError};
use crate::program::{Failure, Outcome, Program, complain, open_root, say};
use lines::{Asked, Item, Standing};

const USAGE: &str = "\
Usage: addalias [-h DOMAIN] [-cX] -a ALIAS=DESTINATION    add an alias that does not exist (also without -a)
       addalias [-h DOMAIN] [-cX] -m ALIAS=DESTINATION    change an alias, or add it
       addalias [-h DOMAIN] -d ALIAS                      delete an alias
       addalias [-h DOMAIN] [-cX] -l                      list the aliases, in the form that -f reads
       addalias [-h DOMAIN] [-cX] -f FILE                 do what the lines of a file say
       addalias                                           read lines from standard input

  -h DOMAIN      the domain, by its official or any other name; without it the primary domain
  -cX            X stands between alias and destination instead of =; no blank after -c
  -i GROUP       refused: there are no Windows groups here
  --dry-run      say what would be done, and do nothing
  --root DIR     the IMail directory; without it the environment variable IMAIL_ROOT counts, then the
                 current directory if it holds registry.ini
  --help, -?     this text
  --version      the version

Options stand before the alias. A blank may stand in place of the =. A destination is:
  ann,bob@example.org        users, addresses and other aliases, with commas or blanks between them. Five or
                             more become a group: they are kept in the file ALIAS.list in the domain's directory
  C:\\IMail\\Lists\\office.lst  the path of a text file with one address a line
  \"|C:\\Tools\\fax.exe a b\"    a program. It is off until AllowedPrograms in [Global] of registry.ini names its file

Lines of a file hold the same as a command line: -h and -c hold from their line on, and -a may be left out;
-l and -f are for the command line only. Empty lines are skipped, and those that begin with ; or #.
A line that cannot be done is reported, and the next one goes on.

Exit code: 0 everything was done, 1 something was not, 2 wrong usage.";

const PROGRAM: Program = Program {
    name: "addalias",
    about: "Adds, changes, deletes and lists aliases",
    usage: USAGE,
    table: lines::TABLE,
};

/// Runs the program.
pub fn main() -> ExitCode {
    PROGRAM.main(run)
}

fn run(given: &Given) -> Result<Outcome, Failure> {
    let mut standing = Standing::default();
    let asked = standing.take(given)?;
    let root = open_root(given.root.as_deref())?;
    let mut session = Session { root, dry: given.has("--dry-run"), faults: false };
    match (asked, given.value("-f")) {
        (Asked::List, None) => session.list(&standing)?,
        (Asked::Nothing, Some(file)) => session.file(Path::new(file), standing)?,
        (_, Some(_)) => return Err(UsageError("-f stands alone: only -h and -c go with it".into()).into()),
        (Asked::Change(request), None) => {
            let item = Item { place: Place::command(PROGRAM.name), request: Ok(request) };
            session.batch(&session.snapshot()?, &[item])?;
        }
        (Asked::Nothing, None) => session.input(standing)?,
    }
    Ok(Outcome::of(session.faults))
}

/// One run of the program.
struct Session {
    root: Root,
    dry: bool,
    /// Was something not done?
    faults: bool,
}

impl Session {
    fn snapshot(&self) -> Result<Loaded, Failure> {
        snapshot(&self.root).map_err(Failure::of)
    }

    /// The aliases of a domain, in the order of their names.
    fn list(&self, standing: &Standing) -> Result<(), Failure> {
        let loaded = self.snapshot()?;
        let domain = domain_of(&loaded.registry, standing.domain.as_deref()).map_err(Failure::of)?;
        for alias in domain.aliases.values() {
            say(&format!("{}{}{}", alias.name, standing.delimiter, alias.value));
        }
        Ok(())
    }

    fn file(&mut self, file: &Path, mut standing: Standing) -> Result<(), Failure> {
        let loaded = self.snapshot()?;
        let text = load(file, loaded.registry.global.code_page).map_err(Failure::Failed)?;
        let items = lines::read_text(&file.display().to_string(), &text, &mut standing);
        self.batch(&loaded, &items)
    }

    fn input(&mut self, mut standing: Standing) -> Result<(), Failure> {
        let hint = "One alias a line, such as: -a ALIAS=DESTINATION. Ctrl-D ends.";
        let done = from_input(hint, |batch| {
            let loaded = snapshot(&self.root).map_err(|error| error.to_string())?;
            let mut items = Vec::new();
            let mut open = true;
            for (number, line) in batch {
                let line = text::decode(&line, loaded.registry.global.code_page).0;
                let place = Place::line("standard input", number);
                open = lines::read_line(&line, place, &mut standing, &mut items);
                if !open {
                    break;
                }
            }
            if let Err(Failure::Failed(error)) = self.batch(&loaded, &items) {
                self.faults = true;
                complain(&format!("addalias: {error}"));
            }
            Ok(open)
        });
        done.map_err(Failure::Failed)
    }

    /// Does a batch and tells what became of it.
    fn batch(&mut self, loaded: &Loaded, items: &[Item]) -> Result<(), Failure> {
        let outcomes = apply::execute(&self.root, loaded, items, self.dry).map_err(Failure::of)?;
        for (item, outcome) in items.iter().zip(&outcomes) {
            match outcome {
                Err(reason) => {
                    self.faults = true;
                    complain(&format!("{}: {reason}", item.place));
                }
                Ok(change) => {
                    let would = if self.dry { "Would do: " } else { "" };
                    say(&format!("{would}{change}"));
                    for warning in &change.warnings {
                        complain(&format!("{}: warning: {warning}", item.place));
                    }
                }
            }
        }
        Ok(())
    }
}
