//! What becomes of a message for a mailbox: what the rules of the domain and of the user say, then what the settings of the mailbox say that it
//! comes to. A decision with no effect.
//!
//! The rules of the domain come first; if one of them matches, the user's are not looked at (IMail 7 guide, "processing order"). Only mail for
//! the INBOX is subject to rules: an address that names a mailbox has decided already (not known; chosen). What a rule of somebody else sent here meets no rules again
//! (letter `Z` of the Q file).
//!
//! In the rules of a domain `user-mailbox` is a mailbox of that user (IMail 8.2 help); in a user's own it is only if the user is the same, since nobody
//! may write into the mailboxes of others. A mailbox that a rule names is made if it is missing, up to [`MAILBOXES_MAX`](super::route::MAILBOXES_MAX).
//!
//! `<mailbox>.fwd` in the user's directory sends on what comes into a mailbox other than the INBOX (Ipswitch KB, "How to filter email using rules"). It is
//! read as `forward.ima` is, a `.` keeps a copy. Behind it comes the Information Manager ([`super::answer`]). Both send a message on once: two of them
//! could do it for ever.
//!
//! # Failure
//! Of the disk: the message is to be tried again.
//!
//! # Limits
//! Those of [`crate::rules`] and [`layout::user::forward`]. Without rules files the message is not read.

use super::answer;
use super::route::{self, DISCARD, MailboxTarget};
use crate::config::Config;
use crate::rules::{Examined, Hit, Rules, first_of};
use layout::limits::SETTINGS_FILE_MAX;
use layout::mbx::compose::Source;
use layout::name::MailboxName;
use layout::path::TreePath;
use layout::registry::model::Domain;
use layout::registry::same_name;
use layout::rules::{EXAMINED_MAX, INBOUND, OUTBOUND, Target};
use layout::user::forward::Forward;
use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};

/// A message as rules look at it, for all of its recipients. It is read only if there are rules.
pub struct Examination {
    source: Source,
    begin: OnceLock<Examined>,
    /// What the rules of domains said: they say it to each of many recipients.
    domains: Mutex<HashMap<TreePath, Option<Ruled>>>,
}

/// Whose rules are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The domain's.
    Domain,
    /// The user's.
    User,
}

/// A rule that matched.
#[derive(Clone, Debug)]
pub struct Ruled {
    /// Whose it is.
    pub level: Level,
    /// The directory of its file.
    pub dir: TreePath,
    /// What it says.
    pub hit: Hit,
}

/// What becomes of a message.
#[derive(Debug)]
pub struct Disposition {
    /// The rule that matched, if one did.
    pub rule: Option<Ruled>,
    /// The mailbox that gets it.
    pub mailbox: Option<MailboxTarget>,
    /// The addresses that it is sent on to.
    pub forwards: Vec<String>,
    /// The mailbox whose Information Manager sends it on: that one answers too.
    pub managed: Option<MailboxTarget>,
}

/// What happened to a message before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Before {
    /// A rule sent it here.
    pub ruled: bool,
    /// The settings of a user sent it on.
    pub sent_on: bool,
}

impl Examination {
    /// Of this message.
    pub fn new(source: &Source) -> Examination {
        Examination { source: source.clone(), begin: OnceLock::new(), domains: Mutex::default() }
    }

    fn examined(&self) -> io::Result<&Examined> {
        if let Some(begin) = self.begin.get() {
            return Ok(begin);
        }
        let begin = Examined::new(&self.source.read(0, EXAMINED_MAX)?);
        Ok(self.begin.get_or_init(|| begin))
    }

    fn first(&self, config: &Config, rules: &Rules, dir: &TreePath, name: &str) -> io::Result<Option<Hit>> {
        let lines = rules.of(config, dir, name);
        match lines.is_empty() {
            true => Ok(None),
            false => Ok(first_of(&lines, self.examined()?)),
        }
    }

    /// The rule of a domain that matches.
    fn of_domain(&self, config: &Config, rules: &Rules, dir: &TreePath) -> io::Result<Option<Ruled>> {
        if rules.of(config, dir, INBOUND).is_empty() {
            return Ok(None);
        }
        let mut known = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(dir) {
            return Ok(found.clone());
        }
        let hit = self.first(config, rules, dir, INBOUND)?;
        let found = hit.map(|hit| Ruled { level: Level::Domain, dir: dir.clone(), hit });
        known.insert(dir.clone(), found.clone());
        Ok(found)
    }

    /// The rule for mail that leaves, in the file of its sender's domain; virtual domains have the primary's (IMail 11 help, "outbound rules").
    pub fn outbound(&self, config: &Config, rules: &Rules, domain: &Domain) -> io::Result<Option<Hit>> {
        let domain = if domain.is_virtual() { config.registry.primary().unwrap_or(domain) } else { domain };
        match config.domain_dir(domain) {
            Some(dir) => self.first(config, rules, dir.top(), OUTBOUND),
            None => Ok(None),
        }
    }
}

/// Decides.
pub fn disposition(
    config: &Config,
    rules: &Rules,
    target: &MailboxTarget,
    message: &Examination,
    before: Before,
) -> io::Result<Disposition> {
    let exempt = before.ruled || !target.mailbox.is_inbox();
    let rule = if exempt { None } else { matching(config, rules, target, message)? };
    let place = match &rule {
        Some(rule) => rule.place(config, target),
        None => Place::Mailbox(target.clone()),
    };
    let (mailbox, forwards, managed) = match place {
        Place::Nowhere => (None, Vec::new(), None),
        Place::Address(address) => (None, vec![address], None),
        Place::Mailbox(target) if before.sent_on => (Some(target), Vec::new(), None),
        Place::Mailbox(target) => settings(config, target)?,
    };
    Ok(Disposition { rule, mailbox, forwards, managed })
}

/// The rule that matches first: of the domain, else of the user.
fn matching(
    config: &Config,
    rules: &Rules,
    target: &MailboxTarget,
    message: &Examination,
) -> io::Result<Option<Ruled>> {
    let domain = config.local_domain(&target.domain).and_then(|domain| config.domain_dir(domain));
    if let Some(domain) = domain
        && let Some(rule) = message.of_domain(config, rules, domain.top())?
    {
        return Ok(Some(rule));
    }
    let dir = target.dir.path();
    let hit = message.first(config, rules, dir, INBOUND)?;
    Ok(hit.map(|hit| Ruled { level: Level::User, dir: dir.clone(), hit }))
}

/// Where a rule wants a message.
enum Place {
    Mailbox(MailboxTarget),
    Address(String),
    Nowhere,
}

impl Ruled {
    fn place(&self, config: &Config, target: &MailboxTarget) -> Place {
        let name = match &self.hit.target {
            Target::Discard => return Place::Nowhere,
            Target::Forward(address) => return Place::Address(address.clone()),
            Target::Mailbox(name) => name,
        };
        let named = self.mailbox_of_user(config, target, name);
        let Some(mut named) = named.unwrap_or_else(|| Some(target.of_name(name.clone()))) else {
            return Place::Nowhere;
        };
        if !route::is_usable(config, &named, true) {
            named.mailbox = MailboxName::inbox();
        }
        Place::Mailbox(named)
    }

    /// The mailbox that `user-mailbox` is; within, `None` if it is `NUL`. `None` if the name stands for itself.
    fn mailbox_of_user(
        &self,
        config: &Config,
        target: &MailboxTarget,
        name: &MailboxName,
    ) -> Option<Option<MailboxTarget>> {
        let text = name.text();
        let (id, mailbox) = text.rsplit_once(config.registry.global.mailbox_split_char)?;
        let domain = config.local_domain(&target.domain)?;
        let user = domain.user(id)?;
        if self.level == Level::User && !same_name(&user.id, &target.user) {
            return None;
        }
        let dir = config.user_dir(domain, id)?;
        if mailbox.eq_ignore_ascii_case(DISCARD) {
            return Some(None);
        }
        let mailbox = MailboxName::from_text(mailbox).unwrap_or_else(|_| MailboxName::inbox());
        Some(Some(MailboxTarget { domain: domain.name.clone(), user: user.id.clone(), dir, mailbox }))
    }
}

/// What the settings of a mailbox make of a message.
fn settings(
    config: &Config,
    target: MailboxTarget,
) -> io::Result<(Option<MailboxTarget>, Vec<String>, Option<MailboxTarget>)> {
    let forward = mailbox_forward(config, &target)?;
    if forward.is_active() {
        let forwards = addresses(&target, forward.targets);
        return Ok((forward.keep.then_some(target), forwards, None));
    }
    let managed = answer::forwards_of(config, &target)?;
    match managed.is_empty() {
        true => Ok((Some(target), Vec::new(), None)),
        false => Ok((None, addresses(&target, managed), Some(target))),
    }
}

/// What the `<mailbox>.fwd` of a mailbox says. The INBOX has `forward.ima` instead.
fn mailbox_forward(config: &Config, target: &MailboxTarget) -> io::Result<Forward> {
    match route::forward_file(config, target) {
        Some(file) => {
            let bytes = config.root().disk().read(&file, SETTINGS_FILE_MAX)?;
            Ok(Forward::parse(&bytes, config.registry.global.code_page).0)
        }
        None => Ok(Forward::default()),
    }
}

/// The targets of a forward but `NUL`, those of this domain with it.
fn addresses(target: &MailboxTarget, forwards: Vec<String>) -> Vec<String> {
    let full = |name: String| if name.contains('@') { name } else { format!("{name}@{}", target.domain) };
    forwards.into_iter().filter(|name| !name.eq_ignore_ascii_case(DISCARD)).map(full).collect()
}
