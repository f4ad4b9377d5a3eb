//! Command lines, text files and standard input to requests.
//!
//! The grammar is that of the IMail 7.1 to 11 help: `[-h host] [-cX] [-{a|d|m}] alias[=destination]`, one alias a line. `-h` and `-c`
//! hold for all lines that follow. A real script has a blank in place of the `=`, which is taken as well. A line without one of
//! the three verbs adds: the help allows to leave them out without saying what is meant then; chosen, because adding changes
//! nothing that exists.
//!
//! Failure: a line that is not understood becomes an item with the reason; the others stay.

use crate::program::lines::{self, Content, Place};
use crate::program::switches::{Given, Operands, Table, Takes, UsageError};

/// The program's switches. They stand before the alias, since a destination may be a program with switches of its own.
pub const TABLE: Table = Table {
    switches: &[
        ("-h", Takes::Value("a domain name")),
        ("-c", Takes::Attached("the sign that stands between alias and destination")),
        ("-a", Takes::Nothing),
        ("-m", Takes::Nothing),
        ("-d", Takes::Nothing),
        ("-l", Takes::Nothing),
        ("-i", Takes::Value("a group")),
        ("-f", Takes::Value("a file name")),
        ("--dry-run", Takes::Nothing),
    ],
    operands: Operands::Last,
};

/// What is to be done with an alias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `-a`: make it; one that exists is left alone.
    Add,
    /// `-m`: make or change it.
    Put,
    /// `-d`.
    Delete,
}

/// One thing to do with one alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The domain as given; `None` = the primary.
    pub domain: Option<String>,
    /// What to do.
    pub verb: Verb,
    /// The alias as given, unchecked.
    pub alias: String,
    /// The destination as given; empty if there is none.
    pub destination: String,
}

/// A request, and where it came from.
pub type Item = lines::Item<Request>;

/// What a line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nothing but what holds from here on.
    Nothing,
    /// `-l`.
    List,
    /// A change.
    Change(Request),
}

/// What holds for all lines that follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// `-h`.
    pub domain: Option<String>,
    /// `-c`.
    pub delimiter: char,
}

impl Default for Standing {
    fn default() -> Standing {
        Standing { domain: None, delimiter: '=' }
    }
}

impl Standing {
    /// Takes over what a line sets, and tells what it asks for.
    pub fn take(&mut self, given: &Given) -> Result<Asked, UsageError> {
        if let Some(domain) = given.value("-h") {
            self.domain = Some(unquoted(domain).to_owned());
        }
        if let Some(delimiter) = given.value("-c").and_then(|text| text.chars().next()) {
            self.delimiter = delimiter;
        }
        if given.has("-i") {
            return Err(UsageError(
                "-i takes the members of a Windows group, and there are none here: list them in a file, and use -a ALIAS=FILE".into(),
            ));
        }
        given.at_most_one(&["-a", "-m", "-d", "-l"])?;
        let text = given.operands.join(" ");
        if given.has("-l") {
            return match text.is_empty() {
                true => Ok(Asked::List),
                false => Err(UsageError("-l lists all aliases: leave the alias out".into())),
            };
        }
        let verb = match (given.has("-m"), given.has("-d")) {
            (true, _) => Verb::Put,
            (_, true) => Verb::Delete,
            _ => Verb::Add,
        };
        let (alias, destination) = split(unquoted(&text), self.delimiter);
        match (alias.is_empty(), given.has("-a") || verb != Verb::Add) {
            (true, true) => Err(UsageError("no alias is named".into())),
            (true, false) if text.is_empty() => Ok(Asked::Nothing),
            (true, false) => Err(UsageError("no alias is named before the separator".into())),
            (false, _) => {
                let (alias, destination) = (alias.to_owned(), unquoted(destination).to_owned());
                Ok(Asked::Change(Request { domain: self.domain.clone(), verb, alias, destination }))
            }
        }
    }
}

/// Alias and destination: the first separator or blank parts them.
fn split(text: &str, delimiter: char) -> (&str, &str) {
    let text = text.trim();
    let at = text.find(|c: char| c == delimiter || c.is_whitespace()).unwrap_or(text.len());
    let (alias, rest) = text.split_at(at);
    let rest = rest.trim_start();
    (alias, rest.strip_prefix(delimiter).unwrap_or(rest).trim())
}

/// Takes one pair of quotes off that holds all of the text.
fn unquoted(text: &str) -> &str {
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    inner.filter(|inner| !inner.contains('"')).unwrap_or(text)
}

/// The words of a line; from the alias on it is one word, as it stands.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let is_value = words.last().is_some_and(|before| TABLE.takes_value(before));
        let last = !is_value && !rest.starts_with('-');
        let end = if last { rest.len() } else { rest.find(char::is_whitespace).unwrap_or(rest.len()) };
        let (word, after) = rest.split_at(end);
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    words
}

/// Adds what a line asks for; `false` = the input ends here.
pub fn read_line(line: &str, place: Place, standing: &mut Standing, items: &mut Vec<Item>) -> bool {
    let line = match lines::content(line) {
        Ok(Content::Empty) => return true,
        Ok(Content::End) => return false,
        Ok(Content::Text(line)) => line,
        Err(error) => {
            items.push(Item { place, request: Err(error) });
            return true;
        }
    };
    match of_words(&words(line), standing) {
        Ok(None) => {}
        Ok(Some(request)) => items.push(Item { place, request: Ok(request) }),
        Err(error) => items.push(Item { place, request: Err(error) }),
    }
    true
}

fn of_words(words: &[String], standing: &mut Standing) -> Result<Option<Request>, UsageError> {
    let given = TABLE.parse(words).inspect_err(|_| {
        // Also a line with a mistake behind it moves the lines that follow to its domain: never to another one.
        let named = words.iter().position(|word| word.eq_ignore_ascii_case("-h"));
        if let Some(domain) = named.and_then(|at| words.get(at + 1)) {
            standing.domain = Some(unquoted(domain).to_owned());
        }
    })?;
    let asked = standing.take(&given)?;
    let misplaced = ["-l", "-f", "--dry-run"].into_iter().find(|name| given.has(name));
    let misplaced = misplaced.or(given.root.is_some().then_some("--root"));
    if let Some(name) = misplaced.or(given.question.map(|_| "--help")) {
        return Err(UsageError(format!("{name} belongs on the command line")));
    }
    Ok(match asked {
        Asked::Change(request) => Some(request),
        Asked::Nothing | Asked::List => None,
    })
}

/// All requests of a text file.
pub fn read_text(name: &str, text: &str, standing: &mut Standing) -> Vec<Item> {
    let mut items = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if !read_line(line, Place::line(name, number + 1), standing, &mut items) {
            break;
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(line: &str) -> Result<Option<Request>, String> {
        let mut standing = Standing::default();
        let mut items = Vec::new();
        read_line(line, Place::line("x", 1), &mut standing, &mut items);
        items.pop().map(|item| item.request.map_err(|error| error.to_string())).transpose()
    }

    #[test]
    fn aliases_are_named_in_many_ways() {
        for (line, verb, alias, destination) in [
            ("-a sales=ann", Verb::Add, "sales", "ann"),
            ("sales=ann", Verb::Add, "sales", "ann"),
            ("-A sales ann@b.c", Verb::Add, "sales", "ann@b.c"),
            ("-a sales ann bob", Verb::Add, "sales", "ann bob"),
            ("-m sales = ann, bob", Verb::Put, "sales", "ann, bob"),
            ("-c, -m sales,ann bob", Verb::Put, "sales", "ann bob"),
            ("-c: -a a=b:c", Verb::Add, "a=b", "c"),
            ("-d sales", Verb::Delete, "sales", ""),
            ("-a \"fax=|C:\\a b\\x.exe c\"", Verb::Add, "fax", "|C:\\a b\\x.exe c"),
            ("-a fax=|\"C:\\a  b\\x.exe\" -h c", Verb::Add, "fax", "|\"C:\\a  b\\x.exe\" -h c"),
            ("-a fax=\"|x.exe c\"", Verb::Add, "fax", "|x.exe c"),
            ("-a empty=", Verb::Add, "empty", ""),
        ] {
            let found = read(line).unwrap().unwrap();
            assert_eq!(
                (found.verb, &*found.alias, &*found.destination),
                (verb, alias, destination),
                "{line}"
            );
        }
        assert_eq!(read("-h a.b"), Ok(None));
    }

    #[test]
    fn refusals_say_what_to_do() {
        for (line, expected) in [
            ("-a", "no alias is named"),
            ("-d", "no alias is named"),
            ("-a =x", "no alias is named"),
            ("=x", "before the separator"),
            ("-a -m x=y", "only one of"),
            ("-l", "belongs on the command line"),
            ("-f x", "belongs on the command line"),
            ("--root /x -a b=c", "belongs on the command line"),
            ("--help", "belongs on the command line"),
            ("--dry-run a=b", "belongs on the command line"),
            ("-i Users", "Windows group"),
            ("-l x", "leave the alias out"),
            ("-x a=b", "is no option"),
            ("-c a=b", "right behind it"),
            ("a\u{fffd}=b", "cannot be read"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn domain_and_separator_hold_from_their_line_on() {
        let text =
            "a=x\n; note\n-h b.c -c: -a b:y\nc:z\n-h d.e -nonsense\n-d c\n-h \"f.g\"\nd:e\n\u{1a}\nno=more";
        let items = read_text("f", text, &mut Standing::default());
        let found: Vec<_> = items
            .iter()
            .filter_map(|item| {
                let request = item.request.as_ref().ok()?;
                Some((item.place.number(), request.domain.as_deref(), request.alias.as_str()))
            })
            .collect();
        let expected = [
            (1, None, "a"),
            (3, Some("b.c"), "b"),
            (4, Some("b.c"), "c"),
            (6, Some("d.e"), "c"),
            (8, Some("f.g"), "d"),
        ];
        assert_eq!(found, expected);
        assert_eq!(items.len(), 6);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn nothing_panics(line in "(-[hcamdlif] ?|[=a\" ,|]|\\PC){0,12}") {
            let _ = read(&line);
        }
    }
}
