//! IMail's switches: words to a typed command line.
//!
//! The table is that of the IMail 7.1 to 12.5.5 help ("Adduser.exe"). Letters are taken in either case, as Windows
//! programs usually do; whether IMail's does is not known.
//!
//! Failure: [`UsageError`], with what is wrong and what to write instead. A word that may be a part of a password is never repeated.

use layout::password::Secret;
use std::path::PathBuf;

use crate::program::Question;
use crate::program::switches::{UsageError, following, once};

/// What is to be done with a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `-u`, or a bare word.
    Add,
    /// `-m`.
    Modify,
    /// `-k`.
    Delete,
}

impl Verb {
    fn switch(self) -> &'static str {
        match self {
            Verb::Add => "-u",
            Verb::Modify => "-m",
            Verb::Delete => "-k",
        }
    }
}

/// The four "web options"; `None` = not mentioned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// May the user change the password?
    pub change_password: Option<bool>,
    /// May the user use web mail?
    pub web: Option<bool>,
    /// May the user log in at all?
    pub active: Option<bool>,
    /// Is the user shown by finger, LDAP and whois?
    pub info: Option<bool>,
}

impl Rights {
    /// Is one of them mentioned?
    pub fn any(self) -> bool {
        self != Rights::default()
    }
}

/// One thing to do with one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What to do.
    pub verb: Verb,
    /// The user ID as given, unchecked.
    pub id: String,
    /// `-p`.
    pub password: Option<Secret>,
    /// `-n`.
    pub full_name: Option<String>,
    /// `+web`, `-web` and so on.
    pub rights: Rights,
}

/// A command line, or an option line of a text file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// `--root`.
    pub root: Option<PathBuf>,
    /// `-h`.
    pub domain: Option<String>,
    /// `-f`.
    pub file: Option<PathBuf>,
    /// What to do, if a user is named.
    pub operation: Option<Operation>,
    /// `-l` was given.
    pub ldap: bool,
    /// `--help` or `-?`, `--version`, `--man`.
    pub question: Option<Question>,
}

#[derive(Clone, Copy)]
enum Switch {
    User(Verb),
    Domain,
    Password,
    FullName,
    File,
    Ldap,
    Root,
    Question(Question),
    Right(fn(&mut Rights) -> &mut Option<bool>, bool),
}

const CHANGE_PASSWORD: fn(&mut Rights) -> &mut Option<bool> = |rights| &mut rights.change_password;
const WEB: fn(&mut Rights) -> &mut Option<bool> = |rights| &mut rights.web;
const ACTIVE: fn(&mut Rights) -> &mut Option<bool> = |rights| &mut rights.active;
const INFO: fn(&mut Rights) -> &mut Option<bool> = |rights| &mut rights.info;

/// Every switch. A minus takes a right away and a plus gives it: the help says that `-m fred -info` turns the three others on.
const SWITCHES: &[(&str, Switch)] = &[
    ("-h", Switch::Domain),
    ("-u", Switch::User(Verb::Add)),
    ("-m", Switch::User(Verb::Modify)),
    ("-k", Switch::User(Verb::Delete)),
    ("-p", Switch::Password),
    ("-n", Switch::FullName),
    ("-f", Switch::File),
    ("-l", Switch::Ldap),
    ("-chgpass", Switch::Right(CHANGE_PASSWORD, false)),
    ("+chgpass", Switch::Right(CHANGE_PASSWORD, true)),
    ("-web", Switch::Right(WEB, false)),
    ("+web", Switch::Right(WEB, true)),
    ("-active", Switch::Right(ACTIVE, false)),
    ("+active", Switch::Right(ACTIVE, true)),
    ("-info", Switch::Right(INFO, false)),
    ("+info", Switch::Right(INFO, true)),
    ("--root", Switch::Root),
    ("--help", Switch::Question(Question::Help)),
    ("-?", Switch::Question(Question::Help)),
    ("--version", Switch::Question(Question::Version)),
    ("--man", Switch::Question(Question::Man)),
];

fn switch(word: &str) -> Option<Switch> {
    SWITCHES.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, switch)| *switch)
}

/// The domain that a line names, even if the line as a whole is not understood.
pub fn domain_of(words: &[String]) -> Option<&str> {
    let at = words.iter().rposition(|word| word.eq_ignore_ascii_case("-h"))?;
    words.get(at + 1).map(String::as_str).filter(|word| switch(word).is_none())
}

/// The switches of one line while they are gathered.
#[derive(Default)]
struct Gathered {
    line: CommandLine,
    verbs: Vec<Verb>,
    ids: Vec<String>,
    password: Option<Secret>,
    full_name: Option<String>,
    rights: Rights,
}

/// Reads the words of a command line.
pub fn parse(words: &[String]) -> Result<CommandLine, UsageError> {
    let mut gathered = Gathered::default();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        match switch(word) {
            Some(switch) => gathered.switch(word, switch, &mut rest)?,
            None => gathered.other(word)?,
        }
    }
    gathered.finish()
}

impl Gathered {
    fn switch(
        &mut self,
        word: &str,
        found: Switch,
        rest: &mut std::slice::Iter<'_, String>,
    ) -> Result<(), UsageError> {
        match found {
            // The help has both `-k test01` and `-k -u test01`.
            Switch::User(verb) => {
                self.verbs.push(verb);
                let id = rest.as_slice().first().filter(|next| switch(next).is_none());
                match id {
                    Some(_) => self.ids.extend(rest.next().cloned()),
                    None if verb == Verb::Delete => {}
                    None => return Err(UsageError(format!("{word} needs a user ID behind it"))),
                }
            }
            Switch::Domain => once(&mut self.line.domain, word, value(word, "a domain name", rest)?)?,
            Switch::Password => {
                once(&mut self.password, word, Secret::new(value(word, "a password", rest)?))?;
            }
            Switch::FullName => {
                once(&mut self.full_name, word, value(word, "a name in double quotes", rest)?)?;
            }
            Switch::File => once(&mut self.line.file, word, value(word, "a file name", rest)?.into())?,
            Switch::Root => once(&mut self.line.root, word, value(word, "a directory", rest)?.into())?,
            Switch::Ldap => self.line.ldap = true,
            Switch::Question(question) => self.line.question = Some(question),
            Switch::Right(field, on) => {
                let slot = field(&mut self.rights);
                if slot.is_some_and(|before| before != on) {
                    return Err(UsageError(format!("{word} and its opposite are both given: keep one")));
                }
                *slot = Some(on);
            }
        }
        Ok(())
    }

    /// A word that is no switch: a user to add, if it is the only one.
    fn other(&mut self, word: &str) -> Result<(), UsageError> {
        if let Some(dir) = word.strip_prefix("--root=") {
            return once(&mut self.line.root, "--root", dir.into());
        }
        let looks_like_switch = word.starts_with(['-', '+'])
            || ["chgpass", "web", "active", "info"].iter().any(|name| is_garbled(word, name));
        if looks_like_switch {
            return Err(UsageError(format!(
                "{word:?} is no option; adduser --help shows what there is, such as -web or +web"
            )));
        }
        if self.verbs.is_empty() && self.ids.is_empty() {
            self.ids.push(word.to_owned());
            return Ok(());
        }
        // What stands behind a password may be the rest of it.
        let shown = if self.password.is_some() { "a word".to_owned() } else { format!("{word:?}") };
        Err(UsageError(format!(
            "{shown} is too much: one user a line; text with blanks goes into double quotes"
        )))
    }

    fn finish(self) -> Result<CommandLine, UsageError> {
        let mut line = self.line;
        if line.question.is_some() {
            return Ok(line);
        }
        let Some(verb) = verb_of(&self.verbs)? else {
            line.operation = match self.ids.into_iter().next() {
                Some(id) => Some(Operation {
                    verb: Verb::Add,
                    id,
                    password: self.password,
                    full_name: self.full_name,
                    rights: self.rights,
                }),
                None if self.password.is_some() || self.full_name.is_some() || self.rights.any() => {
                    return Err(UsageError("no user is named: put -u ID, -m ID or -k ID before it".into()));
                }
                None => None,
            };
            return refuse_file_with_operation(line);
        };
        let mut ids = self.ids.into_iter();
        let id =
            ids.next().ok_or_else(|| UsageError(format!("{} needs a user ID behind it", verb.switch())))?;
        if ids.any(|other| !other.eq_ignore_ascii_case(&id)) {
            return Err(UsageError("two different users are named: one user a line".into()));
        }
        if verb == Verb::Delete && (self.password.is_some() || self.full_name.is_some() || self.rights.any())
        {
            return Err(UsageError(
                "-k deletes the user: leave out the other options, or write -m to change".into(),
            ));
        }
        line.operation = Some(Operation {
            verb,
            id,
            password: self.password,
            full_name: self.full_name,
            rights: self.rights,
        });
        refuse_file_with_operation(line)
    }
}

/// One of the three; `-k` together with `-u` is a way to write `-k` (IMail 8.1 help).
fn verb_of(verbs: &[Verb]) -> Result<Option<Verb>, UsageError> {
    match verbs {
        [] => Ok(None),
        [one] => Ok(Some(*one)),
        [Verb::Delete, Verb::Add] | [Verb::Add, Verb::Delete] => Ok(Some(Verb::Delete)),
        _ => Err(UsageError("only one of -u, -m and -k can be in a line".into())),
    }
}

fn refuse_file_with_operation(line: CommandLine) -> Result<CommandLine, UsageError> {
    if line.file.is_some() && line.operation.is_some() {
        return Err(UsageError("-f stands alone: only -h goes with it; put the user into the file".into()));
    }
    Ok(line)
}

fn value(word: &str, what: &str, rest: &mut std::slice::Iter<'_, String>) -> Result<String, UsageError> {
    following(word, what, rest, |next| switch(next).is_some())
}

/// Is this a right whose sign was lost? The Japanese help of version 10 shows other characters where the signs belong,
/// and lines are copied from there.
fn is_garbled(word: &str, name: &str) -> bool {
    word.strip_suffix(name).is_some_and(|sign| sign.chars().count() == 1 && !sign.is_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::switches::words;
    use proptest::prelude::*;

    fn read(line: &str) -> Result<CommandLine, String> {
        words(line).and_then(|words| parse(&words)).map_err(|error| error.to_string())
    }

    fn operation(line: &str) -> Operation {
        read(line).unwrap().operation.unwrap()
    }

    #[test]
    fn users_are_named_in_many_ways() {
        for (line, verb, id) in [
            ("test01", Verb::Add, "test01"),
            ("-u test01", Verb::Add, "test01"),
            ("-U Test01 -P x", Verb::Add, "Test01"),
            ("test01 -p secret", Verb::Add, "test01"),
            ("-m test01 +web", Verb::Modify, "test01"),
            ("-k test01", Verb::Delete, "test01"),
            ("-k -u test01", Verb::Delete, "test01"),
            ("-u test01 -k", Verb::Delete, "test01"),
            ("-k test01 -u test01", Verb::Delete, "test01"),
        ] {
            let found = operation(line);
            assert_eq!((found.verb, found.id.as_str()), (verb, id), "{line}");
        }
    }

    #[test]
    fn every_option() {
        let line = read(r#"-h a.b -u x -p secret -n "A B" -l -chgpass +web -active +info"#).unwrap();
        assert_eq!(line.domain.as_deref(), Some("a.b"));
        assert!(line.ldap);
        let found = line.operation.unwrap();
        assert_eq!(found.password.unwrap().expose(), "secret");
        assert_eq!(found.full_name.as_deref(), Some("A B"));
        let rights =
            Rights { change_password: Some(false), web: Some(true), active: Some(false), info: Some(true) };
        assert_eq!(found.rights, rights);
        let line = read("--root=/a -h x -f ID.txt").unwrap();
        assert_eq!((line.root, line.file), (Some("/a".into()), Some("ID.txt".into())));
        assert!(
            read("--help -u").is_err()
                && ["-?", "--version", "--man"].iter().all(|word| read(word).unwrap().question.is_some())
        );
        assert_eq!(read("-h a.b").unwrap().operation, None);
    }

    #[test]
    fn refusals_say_what_to_do() {
        for (line, expected) in [
            ("-u", "-u needs a user ID"),
            ("-u -p x", "-u needs a user ID"),
            ("-k", "-k needs a user ID"),
            ("-u a -p", "-p needs a password"),
            ("-u a -p -n x", "-p needs a password"),
            ("test 01", "\"01\" is too much"),
            ("-u a -p my pass", "a word is too much"),
            ("-u a -u b", "only one of"),
            ("-u a -m a", "only one of"),
            ("-k a -u b", "two different users"),
            ("-k a -p x", "-k deletes"),
            ("-p x", "no user is named"),
            ("-web", "no user is named"),
            ("-u a -x", "\"-x\" is no option"),
            ("-u a \u{ff71}chgpass", "is no option"),
            ("-u a +web -web", "opposite"),
            ("-h a -h b -u c", "-h is given twice"),
            ("-f a -u b", "-f stands alone"),
            ("-n \"a", "not closed"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn the_domain_of_a_broken_line_is_known() {
        let words = words("-h a.b -u x -nonsense").unwrap();
        assert_eq!(domain_of(&words), Some("a.b"));
        assert_eq!(domain_of(&["-h".into(), "-u".into()]), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn nothing_panics(line in "(-[hukmpnfl] ?|[+-](web|info) |[a\" ,]|\\PC){0,12}") {
            let _ = read(&line);
        }
    }
}
