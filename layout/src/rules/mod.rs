//! Delivery rules: `rules.ima` of a domain, a user or a list, and `orules.ima` for what goes out.
//!
//! One rule a line: an optional name in angle brackets, conditions joined by `!AND!` or `!OR!`, a colon, and where the mail goes
//! (IMail 8.2 and 11 help, "rule syntax"):
//!
//! ```text
//! <Boss>F~boss@example\.com!AND!S~update:Boss
//! H~:spam:spambox
//! ```
//!
//! An area letter says where to look, `~` is "contains", `=` is "equals", a `!` in front negates. Text is a [`pattern`]; a text that begins
//! with a colon names a `.rul` file that holds it.
//!
//! # Failure
//! A line that is not understood is [`Line::Odd`] with the reason. Nothing of the file is ever changed by reading it.
//!
//! # Limits
//! [`RULES_MAX`] lines of a file, [`CONDITIONS_MAX`] conditions of a rule; a pattern's own are in [`pattern`].

pub mod pattern;

use crate::name::MailboxName;
use crate::text::{self, CodePage};
use pattern::{Pattern, PatternError};

/// The file of inbound rules.
pub const INBOUND: &str = "rules.ima";
/// The file of outbound rules; only domains have one.
pub const OUTBOUND: &str = "orules.ima";
/// The most rules of a file (ours; IMail's is not known).
pub const RULES_MAX: usize = 10_000;
/// The most conditions of a rule (ours).
pub const CONDITIONS_MAX: usize = 100;
/// How much of a message is looked at: its first 32,000 bytes (Ipswitch KB, "How to filter email using rules").
pub const EXAMINED_MAX: usize = 32_000;
/// The mailbox of a rule whose target is empty (IMail 5 help: "becomes a mailbox called new").
const DEFAULT_MAILBOX: &str = "new";
/// The longest `X-IMail-Rule` line (IMail 8.2 help).
pub const HEADER_MAX: usize = 250;
/// How much of the text that matched stands in that line (IMail 8.2 help).
const MATCHED_MAX: usize = 30;

/// What a condition looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Area {
    /// `F`: the From field.
    From,
    /// `S`: the Subject field.
    Subject,
    /// `N`: the Sender field.
    Sender,
    /// `T`: the To field.
    To,
    /// `H`: the whole header.
    Header,
    /// `B`: the body.
    Body,
}

impl Area {
    /// The area of a letter, in either case.
    fn of(letter: char) -> Option<Area> {
        Some(match letter.to_ascii_uppercase() {
            'F' => Area::From,
            'S' => Area::Subject,
            'N' => Area::Sender,
            'T' => Area::To,
            'H' => Area::Header,
            'B' => Area::Body,
            _ => return None,
        })
    }
}

/// How conditions of a rule are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joiner {
    /// Both must hold.
    And,
    /// One must hold.
    Or,
}

/// One condition.
#[derive(Clone, Debug)]
pub struct Condition {
    /// Where to look.
    pub area: Area,
    /// `!`: the condition holds where the text is not found.
    pub negated: bool,
    /// `=`: the pattern covers the whole text.
    pub whole: bool,
    /// What to find.
    pub pattern: Pattern,
}

/// Where a rule sends a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Into a mailbox; in domain and list rules `user-mailbox` too, which only the registry can tell from a name with a hyphen.
    Mailbox(MailboxName),
    /// To another address.
    Forward(String),
    /// Nowhere.
    Discard,
}

/// A rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The number of its line in the file, from 1.
    pub number: usize,
    /// The line as it stands in the file.
    pub text: String,
    /// The conditions, each with how it is joined to those before it; the first one's joiner is `And`. They are taken from left to right:
    /// mixed joiners have no precedence (not known; chosen).
    pub conditions: Vec<(Joiner, Condition)>,
    /// Where the message goes.
    pub target: Target,
}

/// A line of a rules file.
#[derive(Clone, Debug)]
pub enum Line {
    /// A rule.
    Rule(Rule),
    /// A line that is not understood: it stays in the file, is not applied, and is reported.
    Odd {
        /// The number of the line, from 1.
        number: usize,
        /// What is wrong with it.
        why: RuleError,
    },
}

impl Line {
    /// The rule, if it is one.
    pub fn rule(&self) -> Option<&Rule> {
        match self {
            Line::Rule(rule) => Some(rule),
            Line::Odd { .. } => None,
        }
    }
}

/// Why a line is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// No condition at its begin.
    #[error("a condition is expected: an area letter (F S N T H B) and ~, !~, = or !=")]
    Condition,
    /// No colon, so no target.
    #[error("a colon and a target are missing behind the conditions")]
    NoTarget,
    /// The target names no mailbox.
    #[error("{0:?} cannot be the name of a mailbox")]
    Mailbox(String),
    /// The target is no address.
    #[error("{0:?} is not an address")]
    Address(String),
    /// The target is a mailbox, in rules for what goes out.
    #[error("an outbound rule sends mail to an address or to NUL, not into a mailbox")]
    Outbound,
    /// Too many conditions.
    #[error("a rule has {CONDITIONS_MAX} conditions at most")]
    TooMany,
    /// The `.rul` file cannot be read.
    #[error("the file {0}.rul was not found beside the rules, nor in the IMail directory")]
    NoFile(String),
    /// The text.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// Only the first lines of a file are read.
    #[error("a file has {RULES_MAX} rules at most")]
    TooLong,
}

/// Reads a file. `rul` gives the text of a `.rul` file by its name without the ending.
pub fn parse(bytes: &[u8], code_page: CodePage, rul: &dyn Fn(&str) -> Option<String>) -> Vec<Line> {
    let (text, _) = text::decode(bytes, code_page);
    let lines = text.lines().map(|line| line.trim_matches(['\0', '\r', ' ', '\t'])).enumerate();
    let mut found = Vec::new();
    for (index, line) in lines.filter(|(_, line)| !line.is_empty()) {
        let parsed = match found.len() < RULES_MAX {
            true => rule(index + 1, line, rul),
            false => Err(RuleError::TooLong),
        };
        let too_long = parsed.as_ref().err() == Some(&RuleError::TooLong);
        found.push(match parsed {
            Ok(rule) => Line::Rule(rule),
            Err(why) => Line::Odd { number: index + 1, why },
        });
        if too_long {
            break;
        }
    }
    found
}

/// The lines of a file of outbound rules: mail that leaves can be sent to another address or thrown away, and that is all.
pub fn outbound(lines: Vec<Line>) -> Vec<Line> {
    let judged = |line| match line {
        Line::Rule(Rule { number, target: Target::Mailbox(_), .. }) => {
            Line::Odd { number, why: RuleError::Outbound }
        }
        line => line,
    };
    lines.into_iter().map(judged).collect()
}

/// The text of a `.rul` file: alternatives in one line, in parentheses or not (IMail 2006 help; the Japanese help of version 10).
pub fn rul_text(bytes: &[u8], code_page: CodePage) -> String {
    let (text, _) = text::decode(bytes, code_page);
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned()
}

fn rule(number: usize, line: &str, rul: &dyn Fn(&str) -> Option<String>) -> Result<Rule, RuleError> {
    let mut rest = match line.strip_prefix('<').and_then(|named| named.split_once('>')) {
        Some((_, rest)) => rest.trim_start(),
        None => line,
    };
    let mut conditions: Vec<(Joiner, Condition)> = Vec::new();
    let mut joiner = Joiner::And;
    loop {
        let (condition, end, behind) = condition(rest, rul)?;
        conditions.push((joiner, condition));
        rest = behind;
        match end {
            End::Join(_) if conditions.len() == CONDITIONS_MAX => return Err(RuleError::TooMany),
            End::Join(next) => joiner = next,
            End::Target => break,
        }
    }
    Ok(Rule { number, text: line.to_owned(), conditions, target: target(rest)? })
}

/// What follows the text of a condition.
enum End {
    Join(Joiner),
    Target,
}

/// The joiners as they are written (IMail 11 help).
const JOINERS: [(&str, Joiner); 2] = [("!AND!", Joiner::And), ("!OR!", Joiner::Or)];

fn condition<'a>(
    text: &'a str,
    rul: &dyn Fn(&str) -> Option<String>,
) -> Result<(Condition, End, &'a str), RuleError> {
    let text = text.trim_start();
    let mut letters = text.chars();
    let letter = letters.next().ok_or(RuleError::Condition)?;
    let area = Area::of(letter).ok_or(RuleError::Condition)?;
    let rest = letters.as_str();
    let (negated, rest) = rest.strip_prefix('!').map_or((false, rest), |rest| (true, rest));
    let mut signs = rest.chars();
    let whole = match signs.next() {
        Some('~') => false,
        Some('=') => true,
        _ => return Err(RuleError::Condition),
    };
    let (named, rest) = match signs.as_str().trim_start().strip_prefix(':') {
        Some(rest) => (true, rest),
        None => (false, signs.as_str()),
    };
    let (text, end, behind) = split(rest).ok_or(RuleError::NoTarget)?;
    let text = text.trim();
    let text = match named {
        true => rul(text).ok_or_else(|| RuleError::NoFile(text.to_owned()))?,
        false => text.to_owned(),
    };
    // The area letter in lower case is the only mark that a line has room for (not known; the default is seen in upper case only).
    let pattern = Pattern::new(&text, whole, letter.is_ascii_lowercase())?;
    Ok((Condition { area, negated, whole, pattern }, end, behind))
}

/// Cuts the text of a condition off, at a joiner or at a colon without a backslash before it.
fn split(text: &str) -> Option<(&str, End, &str)> {
    let mut escaped = false;
    for (at, letter) in text.char_indices() {
        if escaped {
            escaped = false;
            continue;
        }
        match letter {
            '\\' => escaped = true,
            ':' => return Some((&text[..at], End::Target, &text[at + 1..])),
            '!' => {
                let rest = &text[at..];
                let joined = JOINERS.iter().find(|(word, _)| {
                    rest.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word))
                });
                if let Some((word, joiner)) = joined {
                    return Some((&text[..at], End::Join(*joiner), &rest[word.len()..]));
                }
            }
            _ => {}
        }
    }
    None
}

fn target(text: &str) -> Result<Target, RuleError> {
    let text = text.trim();
    Ok(match text {
        "" => Target::Mailbox(mailbox(DEFAULT_MAILBOX)?),
        _ if text.eq_ignore_ascii_case("NUL") || text.eq_ignore_ascii_case("NULL") => Target::Discard,
        _ if !text.contains('@') => Target::Mailbox(mailbox(text)?),
        _ if text.contains(|c: char| c.is_whitespace() || c.is_control()) => {
            return Err(RuleError::Address(text.to_owned()));
        }
        _ => Target::Forward(text.to_owned()),
    })
}

fn mailbox(name: &str) -> Result<MailboxName, RuleError> {
    MailboxName::from_text(name).map_err(|_| RuleError::Mailbox(name.to_owned()))
}

/// The value of `X-IMail-Rule`: the rule, a hyphen, and the begin of what matched; nothing of it where a negated condition made the rule
/// match (IMail 8.2 and 11 help).
pub fn header_value(rule: &Rule, matched: &str) -> String {
    let data: String = matched.chars().filter(|c| !c.is_control()).take(MATCHED_MAX).collect();
    let rule: String = rule.text.chars().filter(|c| !c.is_control()).collect();
    let mut value = format!("{rule}-{data}");
    let end = value.floor_char_boundary(HEADER_MAX - "X-IMail-Rule: ".len());
    value.truncate(end);
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Vec<Line> {
        parse(text.as_bytes(), CodePage::Japanese, &|name| {
            (name == "spam").then(|| "casino|viagra".to_owned())
        })
    }

    fn only(text: &str) -> Result<Rule, RuleError> {
        match read(text).into_iter().next() {
            Some(Line::Rule(rule)) => Ok(rule),
            Some(Line::Odd { why, .. }) => Err(why),
            None => panic!("no line in {text}"),
        }
    }

    #[test]
    fn targets() {
        let mailbox = |name: &str| Target::Mailbox(MailboxName::from_text(name).unwrap());
        for (line, expected) in [
            ("S~news:Newsletters", mailbox("Newsletters")),
            ("S~ Company Newsletter: Newsletter", mailbox("Newsletter")),
            ("S~news:", mailbox("new")),
            ("S~news:nul", Target::Discard),
            ("S~news:NULL", Target::Discard),
            ("S~news:mike-Important", mailbox("mike-Important")),
            ("S~news:boss@example.com", Target::Forward("boss@example.com".into())),
            ("<name: x>S~a\\:b:box", mailbox("box")),
            ("H~:spam:spambox", mailbox("spambox")),
            ("B~file_name=\".*\\.shs\":NUL", Target::Discard),
        ] {
            assert_eq!(only(line).unwrap().target, expected, "{line}");
        }
    }

    #[test]
    fn outbound_rules_name_no_mailbox() {
        let lines = outbound(read("S~a:box\r\nS~b:NUL\r\nS~c:x@example.com\r\nS~d:"));
        let odd = |line: &Line| matches!(line, Line::Odd { why: RuleError::Outbound, .. });
        assert_eq!(lines.iter().map(odd).collect::<Vec<_>>(), [true, false, false, true]);
        assert!(matches!(lines[3], Line::Odd { number: 4, .. }));
    }

    #[test]
    fn conditions() {
        let rule = only("<BOSS>F~a@b!AND!B!~text!or!s!=Word:BOSS").unwrap();
        let kinds: Vec<_> = rule.conditions.iter().map(|(joiner, c)| (*joiner, c.area, c.negated)).collect();
        assert_eq!(
            kinds,
            [
                (Joiner::And, Area::From, false),
                (Joiner::And, Area::Body, true),
                (Joiner::Or, Area::Subject, true)
            ]
        );
        assert!(rule.conditions[0].1.pattern.find("x A@B y").is_some());
        let last = &rule.conditions[2].1.pattern;
        assert!(last.find("Word").is_some() && last.find("word").is_none() && last.find("Words").is_none());
    }

    #[test]
    fn lines_that_are_not_understood() {
        for (line, expected) in [
            ("nonsense", RuleError::Condition),
            ("S-news:box", RuleError::Condition),
            ("X~news:box", RuleError::Condition),
            ("S~news", RuleError::NoTarget),
            ("S~news!AND!T~x", RuleError::NoTarget),
            ("S~news!AND!:box", RuleError::Condition),
            ("S~:nothing:box", RuleError::NoFile("nothing".into())),
            ("S~news:a/b", RuleError::Mailbox("a/b".into())),
            ("S~news:two@ words@x", RuleError::Address("two@ words@x".into())),
        ] {
            assert_eq!(only(line).unwrap_err(), expected, "{line}");
        }
        assert!(matches!(only("S~(news:box"), Err(RuleError::Pattern(_))));
        let lines = read("S~a:b\r\n\r\nodd\r\nS~c:d\r\n");
        assert!(matches!(&lines[..], [Line::Rule(_), Line::Odd { number: 3, .. }, Line::Rule(_)]));
    }

    #[test]
    fn the_header_line() {
        let rule = only("<Big>S~huge:NUL").unwrap();
        assert_eq!(header_value(&rule, "huge"), "<Big>S~huge:NUL-huge");
        let long = only(&format!("S~{}:NUL", "\u{3042}".repeat(200))).unwrap();
        assert!(header_value(&long, "x").len() <= HEADER_MAX);
        assert!(header_value(&rule, &"y\r\n".repeat(50)).ends_with(&format!("-{}", "y".repeat(30))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            parse(&bytes, CodePage::Japanese, &|_| Some("x".to_owned()));
        }

        #[test]
        fn any_rule_is_read_without_harm(line in "[FSNTHB]!?[~=][a-z.*+(){}|\\\\\\[\\]^$:0-9,]{0,30}(!(AND|OR)!)?.{0,20}") {
            parse(line.as_bytes(), CodePage::Japanese, &|_| Some("x".to_owned()));
        }
    }
}
