//! `imaild check --message FILE --rcpt ADDRESS`: where a message would go, and which rule would match. It decides as delivery does, and does nothing.
//!
//! Limits on sizes, and what other servers and programs would say, are not looked at.

use super::super::{CommandError, read_begin};
use crate::config::Config;
use crate::lists::list::List;
use crate::rules::{Hit, Rules};
use crate::smtp::reply;
use crate::transport::Refusal;
use crate::transport::disposition::{Before, Disposition, Examination, Level, disposition};
use crate::transport::route::{ListRole, ListTarget, MailboxTarget, Routed, Unroutable, route};
use layout::mbx::compose::Source;
use layout::path::TreePath;
use layout::registry::model::Domain;
use layout::rules::{EXAMINED_MAX, INBOUND, OUTBOUND, Target};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;

/// What is to be found out.
pub(super) struct Question<'a> {
    /// The message's file.
    pub(super) message: &'a Path,
    /// Who is to get it.
    pub(super) recipient: &'a str,
    /// The envelope sender; one of a domain here counts as logged in.
    pub(super) sender: Option<&'a str>,
}

/// What happens to the message for one of those that the recipient stands for.
struct Step {
    who: String,
    goes: Goes,
    /// Mailboxes, addresses or reasons.
    to: Vec<String>,
    rule: Option<Match>,
}

/// A rule that matches.
struct Match {
    level: &'static str,
    file: String,
    line: usize,
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Goes {
    Mailbox,
    SentOn,
    Discarded,
    Elsewhere,
    List,
    Program,
    Nowhere,
}

impl Goes {
    /// For programs, and for people.
    fn texts(self) -> (&'static str, &'static str) {
        match self {
            Goes::Mailbox => ("mailbox", "into the mailbox"),
            Goes::SentOn => ("sent_on", "sent on to"),
            Goes::Discarded => ("discarded", "thrown away"),
            Goes::Elsewhere => ("elsewhere", "to another server"),
            Goes::List => ("list", "to the mailing list or the list server"),
            Goes::Program => ("program", "to the program of this alias"),
            Goes::Nowhere => ("nowhere", "not delivered:"),
        }
    }
}

/// Where the message would go.
pub(super) struct Answer(Vec<Step>);

/// Finds out.
pub(super) fn about(config: &Config, question: &Question<'_>) -> Result<Answer, CommandError> {
    let finder = Finder {
        config,
        rules: Rules::default(),
        message: Examination::new(&Source::Bytes(read(question.message)?.into())),
        sender: question.sender.and_then(|sender| config.local_domain(sender.rsplit_once('@')?.1)),
    };
    let recipient = question.recipient;
    let routed = match route(config, recipient, finder.sender.is_some()) {
        Ok(routed) => routed,
        Err(Unroutable::NotLocal(_)) => Routed { remote: vec![recipient.to_owned()], ..Routed::default() },
        Err(why) => {
            let reply = reply::refusal(&Refusal::Recipient(recipient.to_owned(), why));
            return Ok(Answer(vec![Step::new(recipient, Goes::Nowhere, vec![reply])]));
        }
    };
    finder.steps(recipient, &routed).map(Answer).map_err(CommandError::file("a rules file or a forward"))
}

/// The begin of a message, with the line ends that it has on its way.
fn read(file: &Path) -> Result<Vec<u8>, CommandError> {
    let bytes = read_begin(file, EXAMINED_MAX as u64)?;
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let with_end = |line: &[u8]| match line {
        [.., b'\r', b'\n'] => line.to_vec(),
        [text @ .., b'\n'] => [text, b"\r\n"].concat(),
        _ => line.to_vec(),
    };
    Ok(lines.flat_map(with_end).collect())
}

struct Finder<'a> {
    config: &'a Config,
    rules: Rules,
    message: Examination,
    /// The sender's domain, if it is here.
    sender: Option<&'a Domain>,
}

impl Finder<'_> {
    fn steps(&self, recipient: &str, routed: &Routed) -> std::io::Result<Vec<Step>> {
        let mut steps = Vec::new();
        for target in &routed.mailboxes {
            let found = disposition(self.config, &self.rules, target, &self.message, Before::default())?;
            steps.extend(self.of_mailbox(target, found));
        }
        for address in &routed.remote {
            steps.push(self.elsewhere(address)?);
        }
        for list in &routed.lists {
            steps.push(self.of_list(list)?);
        }
        steps.extend(routed.waiting.iter().map(|address| Step::new(address, Goes::Program, Vec::new())));
        steps.extend(routed.discarded.then(|| Step::new(recipient, Goes::Discarded, Vec::new())));
        steps.extend(routed.lost.iter().map(|why| Step::new(recipient, Goes::Nowhere, vec![why.clone()])));
        Ok(steps)
    }

    fn of_mailbox(&self, target: &MailboxTarget, found: Disposition) -> Vec<Step> {
        let who = target.user_address();
        let mailbox = |mailbox: MailboxTarget| match mailbox.user_address() {
            owner if owner == who => mailbox.mailbox.text(),
            owner => format!("{} of {owner}", mailbox.mailbox.text()),
        };
        let mut steps = Vec::new();
        if !found.forwards.is_empty() {
            steps.push(Step::new(&who, Goes::SentOn, found.forwards));
        }
        if let Some(stored) = found.mailbox {
            steps.push(Step::new(&who, Goes::Mailbox, vec![mailbox(stored)]));
        }
        if steps.is_empty() {
            steps.push(Step::new(&who, Goes::Discarded, Vec::new()));
        }
        if let (Some(rule), Some(first)) = (found.rule, steps.first_mut()) {
            let level = if rule.level == Level::Domain { "domain" } else { "user" };
            first.rule = Some(self.matched(level, &rule.dir, INBOUND, rule.hit));
        }
        steps
    }

    fn of_list(&self, list: &ListTarget) -> std::io::Result<Step> {
        let posted = Step::new(&list.address(), Goes::List, Vec::new());
        let domain = self.config.local_domain(&list.domain).filter(|_| list.role == ListRole::Post);
        let Some(domain) = domain else { return Ok(posted) };
        let Some(found) = List::find(self.config, domain, &list.list)? else { return Ok(posted) };
        let dir = found.dir.path();
        let Some((hit, to)) = self.message.of_list(self.config, &self.rules, domain, dir)? else {
            return Ok(posted);
        };
        let goes = if to.is_some() { Goes::SentOn } else { Goes::Discarded };
        let rule = Some(self.matched("list", dir, INBOUND, hit));
        Ok(Step { goes, to: to.into_iter().collect(), rule, ..posted })
    }

    fn elsewhere(&self, address: &str) -> std::io::Result<Step> {
        let outbound = |domain| self.message.outbound(self.config, &self.rules, domain);
        let Some((dir, hit)) = self.sender.map(outbound).transpose()?.flatten() else {
            return Ok(Step::new(address, Goes::Elsewhere, Vec::new()));
        };
        let step = match &hit.target {
            Target::Forward(to) => Step::new(address, Goes::SentOn, vec![to.clone()]),
            _ => Step::new(address, Goes::Discarded, Vec::new()),
        };
        Ok(Step { rule: Some(self.matched("outbound", &dir, OUTBOUND, hit)), ..step })
    }

    fn matched(&self, level: &'static str, dir: &TreePath, name: &str, hit: Hit) -> Match {
        let file = self.config.root().find(dir, name).to_string();
        Match { level, file, line: hit.line, text: hit.rule }
    }
}

impl Step {
    fn new(who: &str, goes: Goes, to: Vec<String>) -> Step {
        Step { who: who.to_owned(), goes, to, rule: None }
    }

    fn json(&self) -> Value {
        let rule = self.rule.as_ref().map(|rule| {
            let Match { level, file, line, text } = rule;
            json!({ "level": level, "file": file, "line": line, "text": text })
        });
        json!({ "recipient": self.who, "goes": self.goes.texts().0, "to": self.to, "rule": rule })
    }
}

impl Answer {
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        for Step { who, goes, to, rule } in &self.0 {
            let line = format!("{who}: {} {}", goes.texts().1, to.join(", "));
            let _ = writeln!(out, "{}", line.trim_end());
            if let Some(Match { file, line, text, .. }) = rule {
                let _ = writeln!(out, "    by line {line} of {file}: {text}");
            }
        }
        out
    }

    pub(super) fn json(&self) -> Value {
        self.0.iter().map(Step::json).collect()
    }
}
