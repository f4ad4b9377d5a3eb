//! Manual pages, made from the text of `--help`, so that the two cannot tell different things.
//!
//! That text is written for a terminal. What its lines are is told from their form: `Usage:` and what is aligned below it; two
//! blanks, a term, a gap of two blanks or more, and an explanation; more blanks: the explanation goes on; two blanks and
//! no gap: an example, kept as it stands; anything else is a paragraph. A page is filled to the reader's width.

/// How far the lines of a usage text that say what belongs to the term above are indented, at least.
const CONTINUED: usize = 4;

/// What a line of the text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line<'a> {
    Empty,
    Term(&'a str, &'a str),
    Continued(&'a str),
    Example(&'a str),
    Text(&'a str),
}

/// The page of a program in section 8, as source for `man`. `about` is one line, `usage` the rest of its `--help`.
pub fn page(name: &str, about: &str, usage: &str) -> String {
    let synopsis_end = usage.find("\n\n").unwrap_or(usage.len());
    let (synopsis, body) = usage.split_at(synopsis_end);
    let mut page = Page { source: String::new(), filled: false };
    page.macro_line(&format!(
        ".TH {} 8 \"\" \"imaild {}\" \"imaild\"",
        name.to_uppercase(),
        env!("CARGO_PKG_VERSION")
    ));
    page.section("NAME");
    page.text(&format!("{name} - {}", lower_first(about)));
    page.section("SYNOPSIS");
    for line in synopsis.lines() {
        let line = line.strip_prefix("Usage:").unwrap_or(line).trim();
        match split_gap(line) {
            Some((command, what)) => page.term(command, what),
            None => page.term(line, ""),
        }
    }
    page.section("DESCRIPTION");
    page.body(body);
    page.section("SEE ALSO");
    page.macro_line(".BR imaild (8)");
    page.source
}

fn lower_first(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| first.to_lowercase().chain(rest).collect())
}

/// Splits a line at its last gap.
fn split_gap(line: &str) -> Option<(&str, &str)> {
    let (left, right) = line.rsplit_once("  ")?;
    Some((left.trim_end(), right.trim_start())).filter(|(left, right)| !left.is_empty() && !right.is_empty())
}

fn read(line: &str) -> Line<'_> {
    let text = line.trim();
    let indent = line.len() - line.trim_start().len();
    match indent {
        _ if text.is_empty() => Line::Empty,
        0 | 1 => Line::Text(text),
        CONTINUED.. => Line::Continued(text),
        _ => split_gap(text).map_or(Line::Example(text), |(term, what)| Line::Term(term, what)),
    }
}

struct Page {
    source: String,
    /// Does the page's last line belong to a paragraph that goes on?
    filled: bool,
}

impl Page {
    fn body(&mut self, text: &str) {
        let mut options = false;
        let mut lines = text.lines().map(read).peekable();
        while let Some(line) = lines.next() {
            match line {
                Line::Empty => self.filled = false,
                Line::Term(term, what) => {
                    if !options && term.starts_with('-') {
                        options = true;
                        self.section("OPTIONS");
                    }
                    self.term(term, what);
                }
                Line::Continued(text) => self.text(text),
                Line::Example(text) => {
                    self.macro_line(".PP");
                    self.macro_line(".RS 4");
                    self.macro_line(".nf");
                    self.text(text);
                    while let Some(Line::Example(text)) = lines.peek().copied() {
                        self.text(text);
                        lines.next();
                    }
                    self.macro_line(".fi");
                    self.macro_line(".RE");
                }
                Line::Text(text) => {
                    if text.starts_with("Exit code") {
                        self.section("EXIT STATUS");
                    } else if options && !self.source.contains(".SH NOTES") {
                        self.section("NOTES");
                    } else if !self.filled {
                        self.macro_line(".PP");
                    }
                    self.text(text);
                    self.filled = true;
                }
            }
        }
    }

    fn section(&mut self, title: &str) {
        self.macro_line(&format!(
            ".SH {}",
            if title.contains(' ') { format!("\"{title}\"") } else { title.to_owned() }
        ));
    }

    fn term(&mut self, term: &str, what: &str) {
        self.macro_line(".TP");
        self.source.push_str("\\fB");
        self.source.push_str(&escaped(term));
        self.source.push_str("\\fR\n");
        if !what.is_empty() {
            self.text(what);
        }
    }

    fn text(&mut self, text: &str) {
        // A line that begins with one of these would be a request to the formatter.
        if text.starts_with(['.', '\'']) {
            self.source.push_str("\\&");
        }
        self.source.push_str(&escaped(text));
        self.source.push('\n');
    }

    fn macro_line(&mut self, line: &str) {
        self.source.push_str(line);
        self.source.push('\n');
        self.filled = false;
    }
}

/// Text as the formatter prints it: hyphens as people type them, no escapes.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_by_their_form() {
        for (line, expected) in [
            ("", Line::Empty),
            ("   ", Line::Empty),
            ("A sentence.", Line::Text("A sentence.")),
            ("  -n DAYS   how old", Line::Term("-n DAYS", "how old")),
            ("  -web      +web   may use", Line::Term("-web      +web", "may use")),
            ("      goes on", Line::Continued("goes on")),
            ("  [Timer]", Line::Example("[Timer]")),
        ] {
            assert_eq!(read(line), expected, "{line:?}");
        }
    }

    #[test]
    fn a_page() {
        let usage = "Usage: x [-a]   do\n       x\n\nMore\nof it.\n\n  -a   all\n       of it\n\nAs in\n  .x C:\\a\n  b\n\
                     and so on.\n\nExit code: 0.";
        let page = page("x", "Does things", usage);
        let (_, body) = page.split_once(".SH NAME\n").unwrap();
        assert_eq!(
            body,
            "x \\- does things\n.SH SYNOPSIS\n.TP\n\\fBx [\\-a]\\fR\ndo\n.TP\n\\fBx\\fR\n.SH DESCRIPTION\n.PP\nMore\nof it.\n\
             .SH OPTIONS\n.TP\n\\fB\\-a\\fR\nall\nof it\n.SH NOTES\nAs in\n.PP\n.RS 4\n.nf\n\\&.x C:\\ea\nb\n.fi\n.RE\n.PP\n\
             and so on.\n.SH \"EXIT STATUS\"\nExit code: 0.\n.SH \"SEE ALSO\"\n.BR imaild (8)\n"
        );
    }
}
