//! What an alias stands for, told from its value in `Users\_aliases`.
//!
//! Real exports hold comma lists of addresses, paths of group files, and programs behind a bar (seen in exports of 8.x);
//! the exact form of program aliases is not known for every version, so both forms that are plausible are taken. A value
//! is never rewritten. Whether the alias, or the value, is the name of a mailing list is for the caller to ask first.

/// What an alias value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alias {
    /// Addresses; a name without `@` is in the same domain.
    Standard(Vec<String>),
    /// The path of a text file with one address a line, as the registry spells it.
    Group(String),
    /// A program that gets the message.
    Program(Program),
    /// The list server (`imailsrv.exe` and its other names), with what stands behind it: a domain, or the name of a list.
    ListServer(Option<String>),
    /// A bar where none is expected: kept, reported, and mail for it has to wait.
    Unclear,
}

/// A program alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The program file, as the registry spells it, without quotes.
    pub file: String,
    /// The words behind it.
    pub arguments: String,
}

/// Endings of files that Windows runs.
const PROGRAM_ENDINGS: [&str; 4] = [".exe", ".com", ".bat", ".cmd"];
/// Endings of group files: `.lst` was seen in exports, `.list` and `.txt` are in the manual's examples.
const GROUP_ENDINGS: [&str; 3] = [".list", ".lst", ".txt"];
/// Names of IMail's list server, by version.
const LIST_SERVERS: [&str; 3] = ["imailsrv.exe", "imlsrv.exe", "listserv.exe"];

/// Tells what `value` is. The order of the questions matters: program, then group, then addresses.
pub fn classify(value: &str) -> Alias {
    let trimmed = value.trim();
    if let Some(program) = program(trimmed) {
        return match is_list_server(&program.file) {
            true => Alias::ListServer(program.arguments.split_whitespace().next().map(str::to_owned)),
            false => Alias::Program(program),
        };
    }
    if trimmed.contains('|') {
        return Alias::Unclear;
    }
    if is_group(trimmed) {
        return Alias::Group(trimmed.trim_matches('"').to_owned());
    }
    let addresses = trimmed.split([',', ';', ' ', '\t', '\r', '\n']).filter(|word| !word.is_empty());
    Alias::Standard(addresses.map(str::to_owned).collect())
}

/// A program begins with a bar, after blanks and a quote, or its first word ends as a program file does. That word must
/// not be an address: `mike@example.com` is none.
fn program(trimmed: &str) -> Option<Program> {
    let inner = trimmed.strip_prefix('"').unwrap_or(trimmed).trim_start();
    if let Some(command) = inner.strip_prefix('|') {
        return Some(split_command(command.trim()));
    }
    let program = split_command(trimmed);
    let looks = ends_with_any(&program.file, &PROGRAM_ENDINGS) && !program.file.contains('@');
    looks.then_some(program)
}

/// Program file and arguments. The file may stand in quotes; without them a path with blanks in it goes up to its first
/// `.exe` or the like, as Windows reads `C:\Program Files (x86)\...`.
fn split_command(command: &str) -> Program {
    let (file, arguments) = match command.strip_prefix('"') {
        Some(rest) => rest.split_once('"').unwrap_or((rest, "")),
        None => command.split_at(end_of_program(command)),
    };
    let arguments = arguments.trim().trim_end_matches('"').trim_end();
    Program { file: file.trim_matches('"').to_owned(), arguments: arguments.to_owned() }
}

fn end_of_program(command: &str) -> usize {
    let first_word = command.find([' ', '\t']).unwrap_or(command.len());
    if !is_absolute(command) {
        return first_word;
    }
    let word_ends = command.match_indices([' ', '\t', '"']).map(|(at, _)| at).chain([command.len()]);
    let mut ends = word_ends.filter(|at| {
        let head = command.get(..*at).unwrap_or_default();
        ends_with_any(head, &PROGRAM_ENDINGS)
    });
    ends.next().unwrap_or(first_word)
}

fn is_group(trimmed: &str) -> bool {
    let path = trimmed.trim_matches('"');
    !path.contains('@')
        && !path.is_empty()
        && (is_absolute(path) || path.contains('\\') || ends_with_any(path, &GROUP_ENDINGS))
}

/// `C:\...`, `C:/...`, `\\server\share`, or a path of this machine.
fn is_absolute(path: &str) -> bool {
    match path.as_bytes() {
        [drive, b':', b'\\' | b'/', ..] => drive.is_ascii_alphabetic(),
        [b'\\', b'\\', ..] | [b'/', ..] => true,
        _ => false,
    }
}

fn is_list_server(file: &str) -> bool {
    let name = file.rsplit(['\\', '/']).next().unwrap_or_default();
    LIST_SERVERS.iter().any(|server| server.eq_ignore_ascii_case(name))
}

fn ends_with_any(text: &str, endings: &[&str]) -> bool {
    let lower = text.to_ascii_lowercase();
    endings.iter().any(|ending| lower.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standard(addresses: &[&str]) -> Alias {
        Alias::Standard(addresses.iter().map(|address| address.to_string()).collect())
    }

    fn program(file: &str, arguments: &str) -> Alias {
        Alias::Program(Program { file: file.into(), arguments: arguments.into() })
    }

    #[test]
    fn kinds() {
        let cases = [
            ("root", standard(&["root"])),
            ("mike@example.com", standard(&["mike@example.com"])),
            (
                "mike@example.org, ann@example.net;bob  carl",
                standard(&["mike@example.org", "ann@example.net", "bob", "carl"]),
            ),
            ("", standard(&[])),
            ("C:\\IMail\\example_org\\staff.lst", Alias::Group("C:\\IMail\\example_org\\staff.lst".into())),
            ("\"C:\\My Lists\\all\"", Alias::Group("C:\\My Lists\\all".into())),
            ("staff.list", Alias::Group("staff.list".into())),
            ("groups\\all", Alias::Group("groups\\all".into())),
            ("\\\\nas\\share\\all", Alias::Group("\\\\nas\\share\\all".into())),
            ("|C:\\IMail\\imailsrv.exe example.org", Alias::ListServer(Some("example.org".into()))),
            (
                "|C:\\Program Files (x86)\\Ipswitch\\IMail\\imailsrv.exe example.org",
                Alias::ListServer(Some("example.org".into())),
            ),
            ("imailsrv.exe", Alias::ListServer(None)),
            ("IMLSRV.EXE news", Alias::ListServer(Some("news".into()))),
            (" \"|C:\\tools\\fax.bat -x 1\"", program("C:\\tools\\fax.bat", "-x 1")),
            ("|\"C:\\my tools\\fax.exe\" -x", program("C:\\my tools\\fax.exe", "-x")),
            ("|script arg", program("script", "arg")),
            ("C:\\my tools\\fax.exe -x", program("C:\\my tools\\fax.exe", "-x")),
            ("fax.cmd", program("fax.cmd", "")),
            ("a|b", Alias::Unclear),
        ];
        for (value, expected) in cases {
            assert_eq!(classify(value), expected, "{value}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

        #[test]
        fn any_value_is_something(value in "[ a-zA-Z:@|\"\\\\/.山-]{0,20}(\\.exe|\\.lst)?[ \"]?") {
            let _ = classify(&value);
        }
    }
}
