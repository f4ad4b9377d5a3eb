//! The list server's commands: one a line in the body of a mail to `imailsrv`, and what is done about each.
//!
//! | command | meaning | who |
//! | --- | --- | --- |
//! | `help`, `help <list>` | how to use the list server; the list's `Help.txt` | anyone |
//! | `list`, `list <list>` | the lists here; the members of one | anyone |
//! | `subscribe <list> [name]` | join | anyone, members only on a private list |
//! | `unsubscribe <list>` | leave | members |
//! | `set mode digest <list>`, `set mode standard <list>` | digests instead of posts, and back | members |
//! | `confirm <list> <code>` | confirms a subscription (ours) | who got the code |
//!
//! (IMail help, "List server command syntax".) A third word with `@` is an address that the owner subscribes or removes. `DisableListCommands`
//! refuses everything about a list to everybody but its owner, except leaving: that address stands in every post.
//!
//! # Limits
//! [`COMMANDS_MAX`] commands a mail; after [`UNKNOWN_MAX`] lines that are none the rest is not read. What is asked for twice is answered once.

/// The most commands of one mail.
pub const COMMANDS_MAX: usize = 20;
/// So many lines that are no commands are answered; a mail of prose is not.
pub const UNKNOWN_MAX: usize = 3;
/// The longest line that is looked at, in bytes.
const LINE_MAX: usize = 500;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// How to use the list server, or what a list is about.
    Help(Option<String>),
    /// Which lists there are.
    Lists,
    /// Who is on a list.
    Members(String),
    /// Join.
    Subscribe {
        /// The list.
        list: String,
        /// Whom; `None` is who asks.
        whom: Option<String>,
    },
    /// Leave.
    Unsubscribe {
        /// The list.
        list: String,
        /// Whom; `None` is who asks.
        whom: Option<String>,
    },
    /// Digests or posts.
    Mode {
        /// The list.
        list: String,
        /// Digests?
        digest: bool,
    },
    /// Answers the question whether a subscription was meant.
    Confirm {
        /// The list.
        list: String,
        /// The code that was sent.
        code: String,
    },
    /// Something else.
    Unknown(String),
}

impl Command {
    /// The list that it is about.
    pub fn list(&self) -> Option<&str> {
        match self {
            Command::Help(list) => list.as_deref(),
            Command::Members(list)
            | Command::Subscribe { list, .. }
            | Command::Unsubscribe { list, .. }
            | Command::Mode { list, .. }
            | Command::Confirm { list, .. } => Some(list),
            Command::Lists | Command::Unknown(_) => None,
        }
    }

    /// The address that it is about, if not that of who asks.
    pub fn whom(&self) -> Option<&str> {
        match self {
            Command::Subscribe { whom, .. } | Command::Unsubscribe { whom, .. } => whom.as_deref(),
            _ => None,
        }
    }
}

/// Reads a line; `None` for an empty one.
pub fn parse(line: &str) -> Option<Command> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let lower: Vec<String> = words.iter().take(3).map(|word| word.to_ascii_lowercase()).collect();
    let keywords: Vec<&str> = lower.iter().map(String::as_str).collect();
    // A list may be named by its address.
    let list = |at: usize| {
        let word = words.get(at)?;
        Some(word.split('@').next().unwrap_or(word).to_ascii_lowercase())
    };
    let whom = || words.iter().skip(2).find(|word| word.contains('@')).map(|word| (*word).to_owned());
    let command = match (keywords.as_slice(), list(1)) {
        ([], _) => return None,
        (["help", ..], list) => Command::Help(list),
        (["list" | "lists", ..], None) => Command::Lists,
        (["list", ..], Some(list)) => Command::Members(list),
        (["subscribe", ..], Some(list)) => Command::Subscribe { list, whom: whom() },
        (["unsubscribe", ..], Some(list)) => Command::Unsubscribe { list, whom: whom() },
        (["set", "mode", mode @ ("digest" | "standard")], _) => match list(3) {
            Some(list) => Command::Mode { list, digest: *mode == "digest" },
            None => Command::Unknown(line.trim().to_owned()),
        },
        (["confirm", ..], Some(list)) if words.len() > 2 => {
            Command::Confirm { list, code: lower.get(2).cloned().unwrap_or_default() }
        }
        _ => Command::Unknown(line.trim().to_owned()),
    };
    Some(command)
}

/// The commands of a mail: those of its body, or, if that has none, the one that its subject is (a reply to a question has it there). Quoted
/// lines and what follows a signature's dashes do not count.
pub fn of_mail(subject: &str, body: &str) -> Vec<Command> {
    let (mut commands, mut unknown) = (Vec::new(), 0);
    for line in body.lines().map(|line| line.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}')) {
        if line == "--" || commands.len() >= COMMANDS_MAX {
            break;
        }
        let command = match parse(line) {
            Some(command) if !line.starts_with('>') && line.len() <= LINE_MAX => command,
            _ => continue,
        };
        // Long texts are sent once: who asks may not be who gets the answer.
        if matches!(command, Command::Help(_) | Command::Lists | Command::Members(_))
            && commands.contains(&command)
        {
            continue;
        }
        if matches!(command, Command::Unknown(_)) {
            unknown += 1;
            if unknown > UNKNOWN_MAX {
                break;
            }
        }
        commands.push(command);
    }
    if !commands.iter().any(|command| !matches!(command, Command::Unknown(_))) {
        let subject = super::subject::without_replies(subject);
        if let Some(command) = parse(subject).filter(|command| !matches!(command, Command::Unknown(_))) {
            return vec![command];
        }
    }
    commands
}

/// What a list member gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Membership {
    /// Nothing: no member.
    #[default]
    None,
    /// Each post.
    Posts,
    /// Digests.
    Digests,
}

/// What is known of a command's list, and of the address that it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Is Subscribe taken from members only?
    pub private: bool,
    /// Are commands refused?
    pub disabled: bool,
    /// Must subscriptions be confirmed?
    pub confirm: bool,
    /// Has it digests?
    pub digests: bool,
    /// Does the owner ask?
    pub owner: bool,
    /// What the address gets now.
    pub membership: Membership,
    /// Is the code of a confirmation right?
    pub code_is_right: bool,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The address becomes a member.
    Join,
    /// It is one no longer.
    Leave,
    /// It gets digests, or posts again.
    Mode {
        /// Digests?
        digest: bool,
    },
    /// It is asked whether it meant that.
    AskBack,
}

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// How to use the list server.
    Help,
    /// The list's `Help.txt`.
    ListHelp,
    /// The lists.
    Lists,
    /// The members.
    Members,
    /// Welcome.
    Joined,
    /// Is a member already.
    IsMember,
    /// A code was sent.
    AskedBack,
    /// The code is wrong or too old.
    WrongCode,
    /// Gone.
    Left,
    /// Is no member.
    NoMember,
    /// Gets digests now.
    DigestsNow,
    /// Gets each post now.
    PostsNow,
    /// The list has no digests.
    NoDigests,
    /// The owner decides who joins.
    Private,
    /// The list takes no commands.
    Disabled,
    /// Only the owner may do that for others.
    OwnerOnly,
    /// The address cannot stand in a file of members.
    BadAddress,
    /// There is no such list.
    NoList,
    /// There is no such command.
    Unknown,
}

/// Decides about a command. `facts` is `None` if it names a list that is not there.
pub fn decide(command: &Command, facts: Option<&Facts>) -> (Option<Effect>, Answer) {
    let answer = |answer| (None, answer);
    let facts = match (command, facts) {
        (Command::Unknown(_), _) => return answer(Answer::Unknown),
        (Command::Help(None), _) => return answer(Answer::Help),
        (Command::Lists, _) => return answer(Answer::Lists),
        (_, None) => return answer(Answer::NoList),
        (_, Some(facts)) => facts,
    };
    if command.whom().is_some() && !facts.owner {
        return answer(Answer::OwnerOnly);
    }
    if facts.disabled && !facts.owner && !matches!(command, Command::Unsubscribe { .. }) {
        return answer(Answer::Disabled);
    }
    let member = facts.membership != Membership::None;
    match command {
        Command::Help(_) => answer(Answer::ListHelp),
        Command::Members(_) => answer(Answer::Members),
        Command::Subscribe { .. } if member => answer(Answer::IsMember),
        Command::Subscribe { .. } if facts.private && !facts.owner => answer(Answer::Private),
        Command::Subscribe { .. } if facts.confirm && !facts.owner => {
            (Some(Effect::AskBack), Answer::AskedBack)
        }
        Command::Confirm { .. } if !facts.code_is_right => answer(Answer::WrongCode),
        Command::Confirm { .. } if member => answer(Answer::IsMember),
        Command::Subscribe { .. } | Command::Confirm { .. } => (Some(Effect::Join), Answer::Joined),
        Command::Unsubscribe { .. } if member => (Some(Effect::Leave), Answer::Left),
        Command::Mode { .. } | Command::Unsubscribe { .. } if !member => answer(Answer::NoMember),
        Command::Mode { digest: true, .. } if !facts.digests => answer(Answer::NoDigests),
        Command::Mode { digest, .. } => {
            let now = if *digest { Answer::DigestsNow } else { Answer::PostsNow };
            let is = if *digest { Membership::Digests } else { Membership::Posts };
            ((facts.membership != is).then_some(Effect::Mode { digest: *digest }), now)
        }
        _ => answer(Answer::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn lines() {
        let subscribe =
            |whom: Option<&str>| Command::Subscribe { list: "beer".into(), whom: whom.map(str::to_owned) };
        let unknown = |text: &str| Command::Unknown(text.to_owned());
        for (line, expected) in [
            ("", None),
            ("  ", None),
            ("help", Some(Command::Help(None))),
            ("HELP Beer", Some(Command::Help(some("beer")))),
            ("list", Some(Command::Lists)),
            ("List beer", Some(Command::Members("beer".into()))),
            ("Subscribe beer Fred Farkle", Some(subscribe(None))),
            ("subscribe beer@example.org", Some(subscribe(None))),
            ("subscribe beer fred@x", Some(subscribe(Some("fred@x")))),
            ("subscribe", Some(unknown("subscribe"))),
            ("unsubscribe beer 山田", Some(Command::Unsubscribe { list: "beer".into(), whom: None })),
            ("set mode digest beer", Some(Command::Mode { list: "beer".into(), digest: true })),
            ("SET MODE Standard BEER", Some(Command::Mode { list: "beer".into(), digest: false })),
            ("set mode digest", Some(unknown("set mode digest"))),
            ("set mode odd beer", Some(unknown("set mode odd beer"))),
            ("confirm beer ABC", Some(Command::Confirm { list: "beer".into(), code: "abc".into() })),
            ("confirm beer", Some(unknown("confirm beer"))),
            ("こんにちは", Some(unknown("こんにちは"))),
        ] {
            assert_eq!(parse(line), expected, "{line}");
        }
    }

    #[test]
    fn mails() {
        let unsubscribe = Command::Unsubscribe { list: "news".into(), whom: None };
        for (subject, body, expected) in [
            ("", "unsubscribe news\r\n", vec![unsubscribe.clone()]),
            ("x", "\r\n> help\r\nunsubscribe news\r\n-- \r\nhelp\r\n", vec![unsubscribe.clone()]),
            ("Re: unsubscribe news", "", vec![unsubscribe.clone()]),
            ("unsubscribe news", "Sent from my phone", vec![unsubscribe]),
            ("Re: confirm news abc", "> code\nthanks", vec![parse("confirm news abc").unwrap()]),
            ("hello", "", vec![]),
        ] {
            assert_eq!(of_mail(subject, body), expected, "{subject} {body}");
        }
        assert_eq!(of_mail("", &"prose and more\n".repeat(50)).len(), UNKNOWN_MAX);
        assert_eq!(of_mail("", &"unsubscribe x\n".repeat(50)).len(), COMMANDS_MAX);
        assert_eq!(of_mail("", &"list news\nhelp\nlist\nhelp news\n".repeat(50)).len(), 4);
    }

    /// Each command, with each thing that can stand against it.
    #[test]
    fn decisions() {
        use Membership::{Digests, None as Nobody, Posts};
        let open = Facts { digests: true, ..Facts::default() };
        let member = Facts { membership: Posts, ..open.clone() };
        let digester = Facts { membership: Digests, ..open.clone() };
        let private = Facts { private: true, ..open.clone() };
        let disabled = Facts { disabled: true, ..open.clone() };
        let confirm = Facts { confirm: true, ..open.clone() };
        let owner = |facts: &Facts| Facts { owner: true, ..facts.clone() };
        let right = Facts { code_is_right: true, ..confirm.clone() };
        let mode = |digest| Some(Effect::Mode { digest });
        let rows = [
            ("help", &open, None, Answer::Help),
            ("help news", &open, None, Answer::ListHelp),
            ("help news", &disabled, None, Answer::Disabled),
            ("list", &disabled, None, Answer::Lists),
            ("list news", &open, None, Answer::Members),
            ("list news", &disabled, None, Answer::Disabled),
            ("list news", &owner(&disabled), None, Answer::Members),
            ("subscribe news", &open, Some(Effect::Join), Answer::Joined),
            ("subscribe news", &member, None, Answer::IsMember),
            ("subscribe news", &digester, None, Answer::IsMember),
            ("subscribe news", &private, None, Answer::Private),
            ("subscribe news", &Facts { private: true, ..member.clone() }, None, Answer::IsMember),
            ("subscribe news", &disabled, None, Answer::Disabled),
            ("subscribe news", &confirm, Some(Effect::AskBack), Answer::AskedBack),
            ("subscribe news a@b", &open, None, Answer::OwnerOnly),
            ("subscribe news a@b", &owner(&private), Some(Effect::Join), Answer::Joined),
            ("subscribe news a@b", &owner(&confirm), Some(Effect::Join), Answer::Joined),
            ("confirm news x", &confirm, None, Answer::WrongCode),
            ("confirm news x", &right, Some(Effect::Join), Answer::Joined),
            ("confirm news x", &Facts { membership: Posts, ..right.clone() }, None, Answer::IsMember),
            ("unsubscribe news", &member, Some(Effect::Leave), Answer::Left),
            ("unsubscribe news", &digester, Some(Effect::Leave), Answer::Left),
            (
                "unsubscribe news",
                &Facts { disabled: true, ..member.clone() },
                Some(Effect::Leave),
                Answer::Left,
            ),
            ("unsubscribe news", &open, None, Answer::NoMember),
            ("unsubscribe news a@b", &member, None, Answer::OwnerOnly),
            ("unsubscribe news a@b", &owner(&member), Some(Effect::Leave), Answer::Left),
            ("set mode digest news", &member, mode(true), Answer::DigestsNow),
            ("set mode digest news", &digester, None, Answer::DigestsNow),
            ("set mode standard news", &digester, mode(false), Answer::PostsNow),
            ("set mode digest news", &open, None, Answer::NoMember),
            ("set mode digest news", &Facts { digests: false, ..member.clone() }, None, Answer::NoDigests),
            ("set mode digest news", &Facts { disabled: true, ..member.clone() }, None, Answer::Disabled),
            ("what", &open, None, Answer::Unknown),
        ];
        for (line, facts, effect, answer) in rows {
            assert_eq!(decide(&parse(line).unwrap(), Some(facts)), (effect, answer), "{line} {facts:?}");
        }
        assert_eq!(open.membership, Nobody);
        for line in ["help x", "list x", "subscribe x", "unsubscribe x", "set mode digest x", "confirm x y"] {
            assert_eq!(decide(&parse(line).unwrap(), None), (None, Answer::NoList), "{line}");
        }
    }
}
