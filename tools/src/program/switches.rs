//! Command lines: words to switches by a table, and lines to words.
//!
//! Letters are taken in either case, as Windows programs usually do; whether IMail's do is not known. Switches of our own have
//! long names with two hyphens, so that IMail's letters can follow without a clash; `--name=value` is `--name value`.
//!
//! Failure: [`UsageError`], with what is wrong and what to write instead.

use std::path::PathBuf;
use std::slice;

use super::Question;

/// What is wrong with a command line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// What stands behind a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing.
    Nothing,
    /// A word; the text says what it is, for messages ("a domain name").
    Value(&'static str),
    /// Like a value, and the switch may be given several times.
    Values(&'static str),
    /// A single character that follows without a blank, as in `-c,`.
    Attached(&'static str),
}

/// A switch of a program.
pub type Switch = (&'static str, Takes);

/// What words that are no switches mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operands {
    /// There are none.
    None,
    /// They may stand between switches.
    Anywhere,
    /// The first of them ends the switches: all that follows belongs to it.
    Last,
}

/// The switches of a program.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Those that only this program has.
    pub switches: &'static [Switch],
    /// The other words.
    pub operands: Operands,
}

/// What every program takes.
const COMMON: &[Switch] = &[
    ("--root", Takes::Value("a directory")),
    ("--help", Takes::Nothing),
    ("-?", Takes::Nothing),
    ("--version", Takes::Nothing),
    ("--man", Takes::Nothing),
];

/// A command line that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// `--root`.
    pub root: Option<PathBuf>,
    /// `--help` or `-?`, `--version`, `--man`.
    pub question: Option<Question>,
    /// The words that are no switches.
    pub operands: Vec<String>,
    values: Vec<(&'static str, String)>,
}

impl Given {
    /// Is this switch there?
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// What stands behind a switch.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    /// What stands behind a switch that may be given several times.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.values.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// The number behind a switch.
    pub fn number(&self, name: &str) -> Result<Option<u32>, UsageError> {
        let Some(text) = self.value(name) else { return Ok(None) };
        let number = text.parse().map_err(|_| UsageError(format!("{name}: {text:?} is no number")))?;
        Ok(Some(number))
    }

    /// Refuses two switches that exclude each other.
    pub fn at_most_one(&self, names: &[&str]) -> Result<(), UsageError> {
        match names.iter().filter(|name| self.has(name)).count() {
            0 | 1 => Ok(()),
            _ => Err(UsageError(format!("only one of {} can be given", names.join(", ")))),
        }
    }

    /// What stands behind a switch that must be there.
    pub fn needed(&self, name: &str) -> Result<&str, UsageError> {
        self.value(name).ok_or_else(|| UsageError(format!("{name} is missing")))
    }
}

impl Table {
    /// Reads the words of a command line.
    pub fn parse(&self, words: &[String]) -> Result<Given, UsageError> {
        let mut given = Given::default();
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            let (name, attached) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value)),
                _ => (word.as_str(), None),
            };
            match self.find(name) {
                Some(switch) => self.take(&mut given, switch, word, attached, &mut rest)?,
                None => self.other(&mut given, word)?,
            }
            if self.operands == Operands::Last && !given.operands.is_empty() {
                given.operands.extend(rest.cloned());
                break;
            }
        }
        Ok(given)
    }

    /// Is this a switch with a value in the word behind it?
    pub fn takes_value(&self, word: &str) -> bool {
        matches!(self.find(word), Some((_, Takes::Value(_) | Takes::Values(_))))
    }

    /// The switch that a word is.
    fn find(&self, word: &str) -> Option<Switch> {
        let all = || self.switches.iter().chain(COMMON);
        let whole = all().find(|(name, _)| name.eq_ignore_ascii_case(word));
        let begins = |(name, takes): &&Switch| {
            let head = word.get(..name.len()).is_some_and(|head| head.eq_ignore_ascii_case(name));
            matches!(takes, Takes::Attached(_)) && head
        };
        whole.or_else(|| all().find(begins)).copied()
    }

    fn take(
        &self,
        given: &mut Given,
        (name, takes): Switch,
        word: &str,
        attached: Option<&str>,
        rest: &mut slice::Iter<'_, String>,
    ) -> Result<(), UsageError> {
        let value = match (takes, attached) {
            (Takes::Nothing, None) => String::new(),
            (Takes::Nothing, Some(_)) => return Err(UsageError(format!("{name} takes no value"))),
            (Takes::Value(_) | Takes::Values(_), Some(value)) => value.to_owned(),
            (Takes::Value(what) | Takes::Values(what), None) => {
                following(word, what, rest, |next| self.find(next).is_some())?
            }
            (Takes::Attached(what), _) => character(name, what, word)?,
        };
        match name {
            "--root" => once(&mut given.root, name, value.into())?,
            "--help" | "-?" => given.question = Some(Question::Help),
            "--version" => given.question = Some(Question::Version),
            "--man" => given.question = Some(Question::Man),
            _ if matches!(takes, Takes::Value(_) | Takes::Attached(_)) && given.has(name) => {
                return Err(given_twice(name));
            }
            _ => given.values.push((name, value)),
        }
        Ok(())
    }

    fn other(&self, given: &mut Given, word: &str) -> Result<(), UsageError> {
        if word.len() > 1 && word.starts_with('-') {
            return Err(UsageError(format!("{word:?} is no option")));
        }
        if self.operands == Operands::None {
            return Err(UsageError(format!("{word:?} is too much: there are only options")));
        }
        given.operands.push(word.to_owned());
        Ok(())
    }
}

fn character(name: &str, what: &str, word: &str) -> Result<String, UsageError> {
    let rest = word.get(name.len()..).unwrap_or_default();
    match rest.chars().count() {
        1 => Ok(rest.to_owned()),
        _ => Err(UsageError(format!("{name} needs {what} right behind it, without a blank"))),
    }
}

/// The word behind a switch, which must not be a switch itself.
pub fn following(
    word: &str,
    what: &str,
    rest: &mut slice::Iter<'_, String>,
    is_switch: impl Fn(&str) -> bool,
) -> Result<String, UsageError> {
    match rest.as_slice().first().filter(|next| !is_switch(next)) {
        Some(_) => Ok(rest.next().cloned().unwrap_or_default()),
        None => Err(UsageError(format!("{word} needs {what} behind it"))),
    }
}

/// Keeps what stands behind a switch that may be given once.
pub fn once<T>(slot: &mut Option<T>, word: &str, value: T) -> Result<(), UsageError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(given_twice(word)),
    }
}

fn given_twice(word: &str) -> UsageError {
    UsageError(format!("{word} is given twice"))
}

/// Splits a line into words. Double quotes hold blanks together; two of them inside quotes are one (as Windows does).
pub fn words(line: &str) -> Result<Vec<String>, UsageError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                word.get_or_insert_default().push('"');
            }
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    if quoted {
        return Err(UsageError("a double quote is not closed".into()));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TABLE: Table = Table {
        switches: &[
            ("-t", Takes::Nothing),
            ("-n", Takes::Value("a number of days")),
            ("--to", Takes::Values("an address")),
            ("-c", Takes::Attached("the sign")),
        ],
        operands: Operands::Anywhere,
    };

    fn read(line: &str) -> Result<Given, String> {
        words(line).and_then(|words| TABLE.parse(&words)).map_err(|error| error.to_string())
    }

    #[test]
    fn words_and_quotes() {
        for (line, expected) in [
            ("", &[][..]),
            (r#"-n "Mike  Smith" x"#, &["-n", "Mike  Smith", "x"]),
            (r#"-n """#, &["-n", ""]),
            (r#"a"b c"d"#, &["ab cd"]),
            (r#""a""b""#, &["a\"b"]),
            ("\u{3000}a\tb ", &["a", "b"]),
        ] {
            assert_eq!(words(line).unwrap(), expected, "{line}");
        }
        assert!(words("\"a").is_err());
    }

    #[test]
    fn a_table_is_read() {
        let given = read("x -T -n 5 --to a --to=b -c, --root=/r y").unwrap();
        assert!(given.has("-t") && !given.has("--help"));
        assert_eq!((given.number("-n").unwrap(), given.value("-c")), (Some(5), Some(",")));
        assert_eq!(given.values("--to").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((given.operands, given.root), (vec!["x".into(), "y".into()], Some("/r".into())));
        assert!(
            ["-?", "--help", "--version", "--man"].iter().all(|word| read(word).unwrap().question.is_some())
        );
        for (line, expected) in [
            ("-n", "-n needs a number of days"),
            ("-n -t", "-n needs a number of days"),
            ("-n 1 -n 2", "-n is given twice"),
            ("-c", "-c needs the sign right behind it"),
            ("-cab", "-c needs the sign right behind it"),
            ("-x", "\"-x\" is no option"),
            ("--nothing=1", "is no option"),
            ("--help=1", "takes no value"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
        let last = Table { operands: Operands::Last, ..TABLE };
        let given = last.parse(&words("-t a -n b").unwrap()).unwrap();
        assert_eq!(given.operands, ["a", "-n", "b"]);
        let none = Table { operands: Operands::None, ..TABLE };
        assert!(none.parse(&["a".into()]).is_err());
        assert!(read("-n x").unwrap().number("-n").is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn nothing_panics(line in "(-[tnc] ?|--to=?|[a\" ,]|\\PC){0,12}") {
            let _ = read(&line);
        }

        #[test]
        fn quoted_words_come_back(texts in prop::collection::vec("\\PC{0,8}", 0..5)) {
            let line: Vec<String> = texts.iter().map(|t| format!("\"{}\"", t.replace('"', "\"\""))).collect();
            prop_assert_eq!(words(&line.join(" ")).unwrap(), texts);
        }
    }
}
