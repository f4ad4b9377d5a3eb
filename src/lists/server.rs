//! The list server at work: commands are carried out one by one, and one mail answers all of them.
//!
//! A command that is carried out again after a crash says that it was done before; nothing is done twice.
//!
//! # Failure
//! The disk's, or a file that another program holds: then the mail waits and is tried again.

use super::command::{Answer, Command, Effect, Facts, Membership, decide, of_mail};
use super::confirm;
use super::header::{ListAddress, SERVER};
use super::list::{List, language_of, names};
use super::post::requester;
use super::reply::{Mail, Words, answer};
use super::subject::{Subject, SubjectCommand};
use crate::config::Config;
use crate::message::header::{unfold, value};
use crate::message::text::text;
use crate::transport::answer::Memory;
use chrono::{DateTime, Local};
use layout::list::File;
use layout::list::change::{Change, ChangeError, Changes};
use layout::list::settings::Language;
use layout::registry::model::Domain;
use std::io;

/// A mail of the list server, ready to go; its envelope sender is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Who gets it.
    pub to: String,
    /// Header and body.
    pub bytes: Vec<u8>,
}

/// The list server of a domain, at one mail.
pub struct Desk<'a> {
    /// The configuration in force.
    pub config: &'a Config,
    /// The domain.
    pub domain: &'a Domain,
    /// How files are changed.
    pub changes: &'a Changes,
    /// Whom it wrote to today.
    pub answers: &'a Memory,
    /// Now.
    pub now: DateTime<Local>,
    /// Makes Message-Ids unique.
    pub number: u64,
}

/// What a command came to.
struct Done {
    text: String,
    language: Language,
    /// Who writes the answer.
    from: String,
    /// Another mail than the answer.
    letter: Option<Letter>,
}

impl Desk<'_> {
    /// Carries out the commands of a mail to the list server.
    pub fn mail(&self, message: &[u8], sender: &str) -> io::Result<Vec<Letter>> {
        let subject = Subject::parse(value(message, b"subject").unwrap_or_default());
        let mut commands = of_mail(&subject.text, &text(message));
        if commands.is_empty() {
            commands.push(Command::Help(None));
        }
        self.carry_out(&commands, message, sender)
    }

    /// Carries out a command that was the subject of a mail to a list.
    pub fn subject(
        &self,
        list: &str,
        command: SubjectCommand,
        head: &[u8],
        sender: &str,
    ) -> io::Result<Vec<Letter>> {
        let list = list.to_owned();
        let command = match command {
            SubjectCommand::Subscribe => Command::Subscribe { list, whom: None },
            SubjectCommand::Unsubscribe => Command::Unsubscribe { list, whom: None },
        };
        self.carry_out(&[command], head, sender)
    }

    fn carry_out(&self, commands: &[Command], head: &[u8], sender: &str) -> io::Result<Vec<Letter>> {
        let asker = requester(head, sender);
        if !asker.contains('@') {
            return Ok(Vec::new());
        }
        let mut done = Vec::new();
        for command in commands {
            done.push(self.one(command, &asker)?);
        }
        let Some(first) = done.first() else { return Ok(Vec::new()) };
        let (language, mut from) = (first.language, first.from.clone());
        if done.iter().any(|one| one.from != from) {
            from = self.address();
        }
        let text = match done.as_slice() {
            [one] => one.text.clone(),
            all => {
                all.iter().zip(commands).map(|(one, command)| quoted(command) + &one.text + "\n\n").collect()
            }
        };
        let mut mail = Mail::answer(&from, &asker, language, text);
        mail.answers = message_id(head);
        let mut letters = vec![Letter { to: asker.clone(), bytes: mail.write(self.now, self.number) }];
        letters.extend(done.into_iter().filter_map(|one| one.letter));
        Ok(letters)
    }

    /// The list server's own address.
    pub fn address(&self) -> String {
        format!("{SERVER}@{}", self.domain.name)
    }

    fn one(&self, command: &Command, asker: &str) -> io::Result<Done> {
        let list = match command.list() {
            Some(name) => List::find(self.config, self.domain, name)?,
            None => None,
        };
        let whom = command.whom().unwrap_or(asker);
        let facts = list.as_ref().map(|list| self.facts(list, command, asker, whom)).transpose()?;
        let (effect, mut said) = decide(command, facts.as_ref());
        let mut letter = None;
        if let (Some(effect), Some(list), Some(facts)) = (effect, &list, &facts) {
            match self.effect(effect, list, facts.membership, whom) {
                Ok(done) => letter = done,
                Err(ChangeError::Member(_)) => said = Answer::BadAddress,
                Err(ChangeError::Io(error)) => return Err(error),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        let language = list.as_ref().map_or_else(|| language_of(self.domain), |list| list.language);
        let content = self.content(said, list.as_ref(), language)?;
        let words = Words {
            list: command.list().unwrap_or_default(),
            whom,
            owner: list.as_ref().map_or("", |list| &list.owner),
            content: &content,
            ..Words::default()
        };
        let from = list.as_ref().map_or_else(|| self.address(), |list| list.owner.clone());
        Ok(Done { text: answer(said, language, &words), language, from, letter })
    }

    fn facts(&self, list: &List<'_>, command: &Command, asker: &str, whom: &str) -> io::Result<Facts> {
        let code_is_right = match command {
            Command::Confirm { code, .. } => {
                let key = confirm::key(&list.dir)?;
                confirm::is_right(&key, &list.address.name, asker, self.day(), code)
            }
            _ => false,
        };
        Ok(Facts {
            private: list.settings.private,
            disabled: list.settings.commands_disabled,
            confirm: list.settings.confirm,
            digests: list.settings.digest.is_some(),
            owner: list.is_owner(asker),
            membership: list.membership(whom)?,
            code_is_right,
        })
    }

    /// Today, counted from 1970.
    fn day(&self) -> i64 {
        self.now.timestamp().div_euclid(86_400)
    }

    /// Carries it out. Who changes from one file to the other stands in the new one first, so that a crash leaves him in both rather than in none.
    fn effect(
        &self,
        effect: Effect,
        list: &List<'_>,
        membership: Membership,
        whom: &str,
    ) -> Result<Option<Letter>, ChangeError> {
        match effect {
            Effect::Join => self.change(list, File::Members, &Change::Add(whom.to_owned()))?,
            Effect::Leave => {
                for file in [File::Members, File::Digest, File::Hold] {
                    self.remove(list, file, whom)?;
                }
            }
            Effect::Mode { digest } => {
                let (from, to) = match digest {
                    true => (File::Members, File::Digest),
                    false => (File::Digest, File::Members),
                };
                if membership != Membership::None {
                    self.change(list, to, &Change::Add(whom.to_owned()))?;
                    self.remove(list, from, whom)?;
                }
            }
            Effect::AskBack => return Ok(Some(self.ask_back(list, whom)?)),
        }
        Ok(None)
    }

    fn ask_back(&self, list: &List<'_>, whom: &str) -> io::Result<Letter> {
        let (name, server) = (&list.address.name, self.address());
        let code = confirm::code(&confirm::key(&list.dir)?, name, whom, self.day());
        let words = Words { list: name, whom, server: &server, code: &code, ..Words::default() };
        let mail = Mail::ask_back(&list.owner, list.language, &words);
        Ok(Letter { to: whom.to_owned(), bytes: mail.write(self.now, self.number ^ 1) })
    }

    fn remove(&self, list: &List<'_>, file: File, whom: &str) -> Result<(), ChangeError> {
        for spelling in list.spellings(file, whom)? {
            self.change(list, file, &Change::Remove(spelling))?;
        }
        Ok(())
    }

    fn change(&self, list: &List<'_>, file: File, change: &Change) -> Result<(), ChangeError> {
        change_file(self.changes, list, file, change)
    }

    /// What belongs behind the text of an answer.
    fn content(&self, said: Answer, list: Option<&List<'_>>, language: Language) -> io::Result<String> {
        let Some(list) = list else {
            return match said {
                Answer::Lists => self.lists(),
                _ => Ok(String::new()),
            };
        };
        let text = |file| list.dir.text(file, list.code_page());
        Ok(match said {
            Answer::Joined => text(File::Subscribe)?,
            Answer::ListHelp => match text(File::Help)? {
                empty if empty.trim().is_empty() => answer(Answer::Help, language, &Words::default()),
                help => help,
            },
            Answer::Members => {
                let mut all = Vec::new();
                for file in [File::Members, File::Digest] {
                    all.extend(list.dir.group(file, list.code_page())?.members());
                }
                all.join("\n")
            }
            _ => String::new(),
        })
    }

    fn lists(&self) -> io::Result<String> {
        let mut lines = Vec::new();
        for name in names(self.config, self.domain)? {
            if let Some(list) = List::find(self.config, self.domain, &name)? {
                let ListAddress { name, .. } = &list.address;
                lines.push(format!("{name:20} {}", list.settings.title).trim_end().to_owned());
            }
        }
        Ok(lines.join("\n"))
    }
}

/// Changes one address of a list's file.
pub fn change_file(
    changes: &Changes,
    list: &List<'_>,
    file: File,
    change: &Change,
) -> Result<(), ChangeError> {
    let (root, path) = (list.dir.root(), list.dir.file(file));
    changes.member(root.disk(), &path, list.code_page(), change).map(drop)
}

/// A command above its answer, where a mail has several.
fn quoted(command: &Command) -> String {
    let line = match command {
        Command::Help(None) => "help".to_owned(),
        Command::Help(Some(list)) => format!("help {list}"),
        Command::Lists => "list".to_owned(),
        Command::Members(list) => format!("list {list}"),
        Command::Subscribe { list, whom } => {
            format!("subscribe {list} {}", whom.as_deref().unwrap_or_default())
        }
        Command::Unsubscribe { list, whom } => {
            format!("unsubscribe {list} {}", whom.as_deref().unwrap_or_default())
        }
        Command::Mode { list, digest } => {
            format!("set mode {} {list}", if *digest { "digest" } else { "standard" })
        }
        Command::Confirm { list, .. } => format!("confirm {list}"),
        Command::Unknown(line) => line.chars().take(70).collect(),
    };
    format!("> {}\n\n", line.trim_end())
}

/// The Message-Id of a mail, for the answer.
fn message_id(head: &[u8]) -> Option<String> {
    /// A line of a header has room for it.
    const LENGTH_MAX: usize = 400;
    let id = unfold(value(head, b"message-id")?).into_owned();
    let id = String::from_utf8(id).ok()?;
    (id.is_ascii() && id.len() < LENGTH_MAX && !id.contains(char::is_control)).then_some(id)
}
