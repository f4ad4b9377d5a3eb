//! Text files for `-f`, and command lines from standard input: bytes to requests.
//!
//! A line is either `userid,password,full name` (IMail 12 manual 2-2) or a line of options. Three ways to leave the name out are
//! in use, by version: `id,password`, `id,password,` and `id,password, ` with a blank; all mean the same here. There is no header
//! line: IMail takes the first line as a user too.
//!
//! `-h` in a line holds for that line and all that follow, and wins over the one of the command line: the help says that it
//! "affects all lines", and of the sister program for aliases that it persists.
//!
//! Failure: a line that is not understood becomes an item with the reason; the others stay.

use layout::password::Secret;

use super::switches::{self, CommandLine, Operation, Rights, Verb};
use crate::program::lines::{self, Content, Place};
use crate::program::switches::{UsageError, words};

/// An operation, and the domain that it is meant for; `None` = the primary domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The name of the domain as given.
    pub domain: Option<String>,
    /// What to do.
    pub operation: Operation,
}

/// A request, and where it came from.
pub type Item = lines::Item<Request>;

/// What one line is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Nothing to do.
    Empty,
    /// CTRL-Z.
    End,
    /// A command line.
    Options(CommandLine),
    /// A user to add.
    User(Operation),
}

/// Reads one line, whose domain stays in `domain` for those that follow.
pub fn read_line(line: &str, domain: &mut Option<String>) -> Result<Line, UsageError> {
    let line = match lines::content(line)? {
        Content::Empty => return Ok(Line::Empty),
        Content::End => return Ok(Line::End),
        Content::Text(line) => line,
    };
    if !is_option_line(line) {
        return Ok(Line::User(comma_line(line)));
    }
    let words = words(line)?;
    // Also a line with a mistake behind it moves the lines that follow to its domain: never to another one.
    if let Some(named) = switches::domain_of(&words) {
        *domain = Some(named.to_owned());
    }
    Ok(Line::Options(switches::parse(&words)?))
}

/// A line of options begins with one, or has one behind a bare user ID; a line without a comma is read as one too, so that
/// `test 01` is refused instead of being taken for an ID with a blank.
fn is_option_line(line: &str) -> bool {
    match line.split_once(',') {
        None => true,
        Some((before, _)) => before.split_whitespace().any(|word| word.starts_with(['-', '+'])),
    }
}

/// `userid,password,full name`: the first two commas part it, so that a name may hold commas. Quotes around the name are not needed
/// (manual 2-2), and one pair is taken off. An empty password is none.
fn comma_line(line: &str) -> Operation {
    let mut fields = line.splitn(3, ',').map(str::trim);
    let mut next = || fields.next().unwrap_or_default();
    let (id, password, name) = (next(), next(), next());
    let bare = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(name);
    Operation {
        verb: Verb::Add,
        id: id.to_owned(),
        password: (!password.is_empty()).then(|| Secret::new(password)),
        full_name: (!bare.is_empty()).then(|| bare.to_owned()),
        rights: Rights::default(),
    }
}

/// All requests of a text file; `domain` is that of the command line. `true` with it: some line asked for `-l`.
pub fn read_text(name: &str, text: &str, mut domain: Option<String>) -> (Vec<Item>, bool) {
    let mut items = Vec::new();
    let mut ldap = false;
    for (number, line) in text.lines().enumerate() {
        let place = Place::line(name, number + 1);
        let operation = match read_line(line, &mut domain) {
            Ok(Line::Empty) => continue,
            Ok(Line::End) => break,
            Ok(Line::User(operation)) => Ok(operation),
            Ok(Line::Options(line)) => {
                ldap |= line.ldap;
                match file_operation(line) {
                    Ok(None) => continue,
                    Ok(Some(operation)) => Ok(operation),
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        };
        let request = operation.map(|operation| Request { domain: domain.clone(), operation });
        items.push(Item { place, request });
    }
    (items, ldap)
}

/// What an option line of a file does; a line with nothing but `-h` does nothing by itself.
fn file_operation(line: CommandLine) -> Result<Option<Operation>, UsageError> {
    let misplaced =
        [(line.file.is_some(), "-f"), (line.root.is_some(), "--root"), (line.question.is_some(), "--help")];
    if let Some((_, switch)) = misplaced.iter().find(|(given, _)| *given) {
        return Err(UsageError(format!("{switch} belongs on the command line, not into a file")));
    }
    Ok(line.operation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use layout::text::CodePage;
    use proptest::prelude::*;

    fn users(text: &str) -> Vec<(String, Option<String>, Option<String>)> {
        let (items, _) = read_text("ID.txt", text, None);
        let operations = items.into_iter().map(|item| item.request.unwrap().operation);
        operations.map(|o| (o.id, o.password.map(|p| p.expose().to_owned()), o.full_name)).collect()
    }

    #[test]
    fn comma_lines() {
        for (line, id, password, name) in [
            ("a,pw", "a", Some("pw"), None),
            ("a,pw,", "a", Some("pw"), None),
            ("a,pw, ", "a", Some("pw"), None),
            ("a,pw,\u{3000}", "a", Some("pw"), None),
            ("a,pw,Full Name", "a", Some("pw"), Some("Full Name")),
            ("a,pw,Kimura, Jiro", "a", Some("pw"), Some("Kimura, Jiro")),
            ("a,pw,\"Kimura, Jiro\"", "a", Some("pw"), Some("Kimura, Jiro")),
            (" a , pw , x ", "a", Some("pw"), Some("x")),
            ("a,\"p-w\"", "a", Some("\"p-w\""), None),
            ("a,,x", "a", None, Some("x")),
            ("a,", "a", None, None),
            ("a", "a", None, None),
            ("userid,password,full name", "userid", Some("password"), Some("full name")),
            ("a,-x", "a", Some("-x"), None),
            ("bad name,pw", "bad name", Some("pw"), None),
        ] {
            let expected = (id.to_owned(), password.map(str::to_owned), name.map(str::to_owned));
            assert_eq!(users(line), [expected], "{line:?}");
        }
    }

    #[test]
    fn skipped_lines_and_numbers() {
        let (items, _) = read_text("x", "\r\n; note\r\n# note\r\na,pw\r\n\r\nb,pw\n\u{1a}\nc,pw", None);
        let lines: Vec<usize> = items.iter().map(|item| item.place.number()).collect();
        assert_eq!(lines, [4, 6]);
        assert_eq!(items[1].place.to_string(), "x, line 6");
    }

    #[test]
    fn a_domain_holds_from_its_line_on() {
        let text = "a,pw\n-h b.c -u b\nc,pw\n-h d.e\nd,pw\n-h f.g -nonsense\ne,pw\n";
        let (items, _) = read_text("x", text, Some("first".into()));
        let domains: Vec<_> = items
            .iter()
            .filter_map(|item| Some(item.request.as_ref().ok()?.domain.clone().unwrap()))
            .collect();
        assert_eq!(domains, ["first", "b.c", "b.c", "d.e", "f.g"]);
        assert_eq!(items.iter().filter(|item| item.request.is_err()).count(), 1);
    }

    #[test]
    fn misplaced_options() {
        for line in ["-f other.txt", "--root /x", "--help", "-u a -f b", "a\u{fffd},pw", "test 01"] {
            let (items, _) = read_text("x", line, None);
            assert!(items[0].request.is_err(), "{line}");
        }
        assert!(read_text("x", "-l -u a", None).1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_bytes_give_at_most_an_item_a_line(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(text) = lines::decode(&bytes, CodePage::Japanese) {
                prop_assert!(read_text("x", &text, None).0.len() <= text.lines().count());
            }
        }
    }
}
