//! `adduser`: adds, changes and deletes users with IMail's own switches, text files and exit codes.
//!
//! * [`switches`]: words to a typed command line
//! * [`lines`]: text files and standard input to requests
//! * [`plan`]: requests and a registry to changes, without any effect
//! * [`apply`]: the changes to the registry and the disk
//!
//! Failure: what cannot be done is told on standard error, with file and line, and the rest goes on. Limits:
//! those of [`crate::program::lines`].

pub mod apply;
pub mod lines;
pub mod plan;
pub mod switches;

use std::ffi::OsString;

use layout::registry::store::Loaded;
use layout::root::Root;
use layout::text::{self, CodePage};

use crate::program::lines::{Place, from_input, load};
use crate::program::registry::snapshot;
use crate::program::switches::UsageError;
use crate::program::{self, complain, open_root, say};
use apply::{Done, Outcome};
use lines::{Item, Line, Request};
use plan::Step;
use switches::CommandLine;

const NAME: &str = "adduser";

const ABOUT: &str = "Adds, changes and deletes users";

const USAGE: &str = "\
Usage: adduser [-h DOMAIN] -u ID [-p PASSWORD] [-n \"FULL NAME\"] [OPTION]...   add a user
       adduser [-h DOMAIN] ID                                               the same, in short
       adduser [-h DOMAIN] -m ID [-p PASSWORD] [-n \"FULL NAME\"] [OPTION]...   change a user
       adduser [-h DOMAIN] -k ID                                            delete a user (also: -k -u ID)
       adduser [-h DOMAIN] -f FILE                                          do what the lines of a file say
       adduser                                                              read lines from standard input

  -h DOMAIN      the domain, by its official or any other name; without it the primary domain
  -p PASSWORD    the password. A new user without one is disabled and gets a random password, which is printed
  -n \"NAME\"      the full name
  -chgpass  +chgpass   the user must not / may change the password
  -web      +web       the user must not / may use web mail
  -active   +active    the account is disabled / enabled
  -info     +info      the user is hidden from / shown by finger, LDAP and whois
                 A new user has all four. With -m they stay as they are, unless one of them is given: then
                 all four are turned on but those given with a minus
  -l             accepted for old scripts, without effect
  --root DIR     the IMail directory; without it the environment variable IMAIL_ROOT counts, then the
                 current directory if it holds registry.ini
  --help         this text
  --version      the version

Lines of a file, in UTF-8 or in the code page of the server (932 unless registry.ini says otherwise):
  userid,password,full name     adds a user; the name, and a comma at the end, can be left out
  -m userid -web                any options as above; -h holds from its line on
  ; or # at the beginning       the line is skipped; so is an empty one
There is no header line. A line that cannot be done is reported, and the next one goes on.
A deleted user's directory is kept in users/.deleted until you remove it.

Exit code, as IMail's program has it: 1 = at least one thing was done, 0 = nothing was done.";

/// Runs the program; `true` = at least one thing was done.
pub fn run(arguments: impl Iterator<Item = OsString>) -> bool {
    match try_run(&program::arguments(arguments)) {
        Ok(done) => done,
        Err(error) => {
            complain(&format!("adduser: {error}"));
            false
        }
    }
}

fn try_run(words: &[String]) -> Result<bool, String> {
    let line = switches::parse(words).map_err(|error| error.to_string())?;
    if let Some(question) = line.question {
        say(question.answer(NAME, ABOUT, USAGE).trim_end());
        return Ok(false);
    }
    let root = open_root(line.root.as_deref()).map_err(|error| error.to_string())?;
    let mut session = Session { root, ldap_told: false, done: 0 };
    let result = if line.operation.is_none() && line.file.is_none() {
        session.interactive(line.domain)
    } else {
        session.once(line)
    };
    // What was done before a failure counts.
    if let Err(error) = result {
        complain(&format!("adduser: {error}"));
    }
    Ok(session.done > 0)
}

/// One run of the program.
struct Session {
    root: Root,
    ldap_told: bool,
    /// How many requests were done.
    done: usize,
}

impl Session {
    /// What the command line asks for.
    fn once(&mut self, line: CommandLine) -> Result<(), String> {
        let loaded = self.snapshot()?;
        let items = self.items_of(line, Place::command(NAME), None, loaded.registry.global.code_page)?;
        self.batch(&loaded, &items)
    }

    /// Lines from standard input until it ends: those that are there already are done together, with one rewrite of the registry.
    fn interactive(&mut self, mut domain: Option<String>) -> Result<(), String> {
        from_input("One command a line, such as: -u ID -p PASSWORD. Ctrl-D ends.", |lines| {
            let loaded = self.snapshot()?;
            let mut items = Vec::new();
            let mut open = true;
            for (number, line) in lines {
                open = self.input_line(&line, number, &mut domain, &loaded, &mut items);
                if !open {
                    break;
                }
            }
            if let Err(error) = self.batch(&loaded, &items) {
                complain(&format!("adduser: {error}"));
            }
            Ok(open)
        })
    }

    /// Adds what one line of standard input asks for; `false` = the input ends here.
    fn input_line(
        &mut self,
        line: &[u8],
        number: usize,
        domain: &mut Option<String>,
        loaded: &Loaded,
        items: &mut Vec<Item>,
    ) -> bool {
        let code_page = loaded.registry.global.code_page;
        let (line, _) = text::decode(line, code_page);
        let place = Place::line("standard input", number);
        let refused = |error: UsageError| vec![Item { place: place.clone(), request: Err(error) }];
        let found = match lines::read_line(&line, domain) {
            Ok(Line::Empty) => Vec::new(),
            Ok(Line::End) => return false,
            Ok(Line::User(operation)) => {
                let request = Ok(Request { domain: domain.clone(), operation });
                vec![Item { place: place.clone(), request }]
            }
            Ok(Line::Options(line)) => match line.question {
                Some(question) => {
                    say(question.answer(NAME, ABOUT, USAGE).trim_end());
                    Vec::new()
                }
                None => self
                    .items_of(line, place.clone(), domain.clone(), code_page)
                    .unwrap_or_else(|error| refused(UsageError(error))),
            },
            Err(error) => refused(error),
        };
        items.extend(found);
        true
    }

    /// The requests of a command line, those of its file among them.
    fn items_of(
        &mut self,
        line: CommandLine,
        place: Place,
        domain: Option<String>,
        code_page: CodePage,
    ) -> Result<Vec<Item>, String> {
        let domain = line.domain.or(domain);
        let mut ldap = line.ldap;
        let mut items = Vec::new();
        if let Some(file) = &line.file {
            let name = file.display().to_string();
            let text = load(file, code_page)?;
            let (found, in_file) = lines::read_text(&name, &text, domain.clone());
            items.extend(found);
            ldap |= in_file;
        }
        let request = line.operation.map(|operation| Ok(Request { domain, operation }));
        items.extend(request.map(|request| Item { place, request }));
        if ldap && !self.ldap_told {
            complain("adduser: -l has no effect: directory services read the registry itself");
            self.ldap_told = true;
        }
        Ok(items)
    }

    fn snapshot(&self) -> Result<Loaded, String> {
        snapshot(&self.root).map_err(|error| error.to_string())
    }

    /// Does a batch and tells what became of it.
    fn batch(&mut self, loaded: &Loaded, items: &[Item]) -> Result<(), String> {
        let outcomes = apply::execute(&self.root, loaded, items).map_err(|error| error.to_string())?;
        for (item, outcome) in items.iter().zip(&outcomes) {
            self.tell(&item.place, outcome);
        }
        Ok(())
    }

    fn tell(&mut self, place: &Place, outcome: &Outcome) {
        match outcome {
            Err(reason) => complain(&format!("{place}: {reason}")),
            Ok(done) => {
                self.done += 1;
                say(&done_line(done));
                let address = done.change.address();
                if let Some(warning) = &done.change.warning {
                    complain(&format!("{place}: warning: {warning}"));
                }
                if let Some(Err(reason)) = &done.moved {
                    complain(&format!(
                        "{place}: warning: {address}: its directory stays where it is: {reason}"
                    ));
                }
            }
        }
    }
}

/// The line that says what was done. (IMail's own texts are not known.)
fn done_line(done: &Done) -> String {
    let address = done.change.address();
    match (&done.change.step, &done.made_password, &done.moved) {
        (Step::Add { .. }, Some(password), _) => format!(
            "Added {address}, disabled, with the password {} (none was given): adduser -h {} -m {} +active enables it",
            password.expose(),
            done.change.domain,
            done.change.id
        ),
        (Step::Add { .. }, None, _) => format!("Added {address}"),
        (Step::Modify { .. }, ..) => format!("Changed {address}"),
        (Step::Delete, _, Some(Ok(Some(place)))) => {
            format!("Deleted {address}; its directory is now {place}")
        }
        (Step::Delete, ..) => format!("Deleted {address}"),
    }
}
