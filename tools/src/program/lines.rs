//! Text files that programs take with `-f`, and standard input, line by line.
//!
//! Failure: a text that says which file or line, and why. Limits: [`MAX_FILE_BYTES`], [`BATCH_LINES_MAX`], [`LINE_BYTES_MAX`].

use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Read as _};
use std::path::Path;

use layout::text::{self, CodePage};

use super::complain;
use super::switches::UsageError;

/// Largest text file that is read, in bytes: more than a million lines.
pub const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Lines of standard input that are done together, at most.
pub const BATCH_LINES_MAX: usize = 100_000;
/// Longest line of standard input, in bytes.
pub const LINE_BYTES_MAX: u64 = 64 * 1024;
/// CTRL-Z alone ends the input, as on a Windows console.
const END_OF_INPUT: char = '\u{1a}';

/// Where a request came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The name of the file, or of the program for its command line.
    file: String,
    /// The line, from 1; 0 for the command line.
    line: usize,
}

impl Place {
    /// The command line of a program.
    pub fn command(program: &str) -> Place {
        Place { file: program.to_owned(), line: 0 }
    }

    /// A line of a file, counted from 1.
    pub fn line(file: &str, line: usize) -> Place {
        Place { file: file.to_owned(), line }
    }

    /// The number of the line, 0 for a command line.
    pub fn number(&self) -> usize {
        self.line
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}, line {line}", self.file),
        }
    }
}

/// A request, or the reason why there is none, and where it came from.
#[derive(Clone, Debug)]
pub struct Item<R> {
    /// Where it came from.
    pub place: Place,
    /// What is asked for.
    pub request: Result<R, UsageError>,
}

/// What was planned for every item: `plan` decides on those that are requests, and the others keep their reason.
pub fn planned<'i, R, C, E: std::fmt::Display>(
    items: &'i [Item<R>],
    plan: impl FnOnce(&mut dyn Iterator<Item = &'i R>) -> Vec<Result<C, E>>,
) -> Vec<Result<C, String>> {
    let mut planned = plan(&mut items.iter().filter_map(|item| item.request.as_ref().ok())).into_iter();
    let next = |item: &Item<R>| match &item.request {
        Err(error) => Err(error.to_string()),
        Ok(_) => match planned.next() {
            Some(change) => change.map_err(|refusal| refusal.to_string()),
            None => Err("nothing was decided: a fault of this program".to_owned()),
        },
    };
    items.iter().map(next).collect()
}

/// What stands in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// Nothing, or a comment.
    Empty,
    /// CTRL-Z.
    End,
    /// This, without blanks around it.
    Text(&'a str),
}

/// Looks at a line. Empty lines are skipped, and so are lines that begin with `;` or `#`, which no name can begin with (what IMail does
/// with such lines is not known).
pub fn content(line: &str) -> Result<Content<'_>, UsageError> {
    let line = line.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    if line.is_empty() || line.starts_with([';', '#']) {
        return Ok(Content::Empty);
    }
    if line.starts_with(END_OF_INPUT) {
        return Ok(Content::End);
    }
    if line.contains(char::REPLACEMENT_CHARACTER) {
        return Err(UsageError(
            "the line holds a character that cannot be read: save the file as UTF-8".into(),
        ));
    }
    Ok(Content::Text(line))
}

/// The text of a file that the admin named: UTF-8 with a byte order mark or not (manual 2-2), else the code page.
pub fn load(path: &Path, code_page: CodePage) -> Result<String, String> {
    let told =
        |reason: &dyn std::fmt::Display| format!("the file {} cannot be read: {reason}", path.display());
    let size = std::fs::metadata(path).map_err(|error| told(&error))?.len();
    if size > MAX_FILE_BYTES {
        return Err(format!("the file {} is larger than 64 MiB: split it", path.display()));
    }
    let bytes = std::fs::read(path).map_err(|error| told(&error))?;
    decode(&bytes, code_page).map_err(|reason| told(&reason))
}

/// The text of a file's bytes.
pub fn decode(bytes: &[u8], code_page: CodePage) -> Result<String, &'static str> {
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        return Err("it is UTF-16 (\"Unicode\" in Notepad): save it as UTF-8");
    }
    Ok(text::decode(bytes, code_page).0)
}

/// Hands over the lines of standard input until it ends, or until `take` answers `false`: those that are there already together, so that
/// they can be done with one rewrite of the registry. Lines are numbered from 1. `hint` is shown on a terminal.
pub fn from_input(
    hint: &str,
    mut take: impl FnMut(Vec<(usize, Vec<u8>)>) -> Result<bool, String>,
) -> Result<(), String> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        complain(hint);
    }
    let mut reader = BufReader::with_capacity(LINE_BYTES_MAX as usize, stdin.lock());
    let mut number = 0;
    loop {
        let lines = read_batch(&mut reader).map_err(|error| format!("standard input: {error}"))?;
        let count = lines.len();
        let numbered = (number + 1..).zip(lines).collect();
        number += count;
        if count == 0 || !take(numbered)? {
            return Ok(());
        }
    }
}

/// Waits for one line, and takes those that came with it; none = the input ended.
fn read_batch(reader: &mut BufReader<impl io::Read>) -> io::Result<Vec<Vec<u8>>> {
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if line.len() as u64 == LINE_BYTES_MAX && !line.ends_with(b"\n") {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is longer than 64 KiB"));
        }
        if !line.is_empty() {
            lines.push(line);
        }
        if !reader.buffer().contains(&b'\n') || lines.len() >= BATCH_LINES_MAX {
            return Ok(lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_came_together_are_a_batch() {
        let mut reader = BufReader::with_capacity(8, &b"a\nb\nlonger line\nlast"[..]);
        let mut batches = Vec::new();
        loop {
            let batch = read_batch(&mut reader).unwrap();
            if batch.is_empty() {
                break;
            }
            batches.push(batch.len());
        }
        assert_eq!(batches.iter().sum::<usize>(), 4);
        assert_eq!(batches[0], 2);
        let long = vec![b'x'; LINE_BYTES_MAX as usize + 1];
        assert!(read_batch(&mut BufReader::new(&long[..])).is_err());
    }

    #[test]
    fn what_stands_in_lines() {
        for (line, expected) in [
            ("", Some(Content::Empty)),
            ("  ; a", Some(Content::Empty)),
            ("# a\r", Some(Content::Empty)),
            ("\u{1a}", Some(Content::End)),
            (" a b\0\r\n", Some(Content::Text("a b"))),
            ("a\u{fffd}", None),
        ] {
            assert_eq!(content(line).ok(), expected, "{line:?}");
        }
        assert_eq!(Place::command("x").to_string(), "x");
        assert_eq!(Place::line("f", 6).to_string(), "f, line 6");
    }

    #[test]
    fn encodings() {
        for (bytes, expected) in [
            (&b"\xEF\xBB\xBFa,\xE8\x97\xA4"[..], Ok("a,\u{85e4}".to_owned())),
            (b"\x95\x5c", Ok("\u{8868}".to_owned())),
            (b"\xFF\xFEa\0", Err(())),
        ] {
            assert_eq!(decode(bytes, CodePage::Japanese).map_err(|_| ()), expected);
        }
    }
}
