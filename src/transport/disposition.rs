//! What becomes of a message for a mailbox: what the rules of the domain and of the user say, then what the settings of the mailbox say that it
//! comes to. A decision with no effect.
//!
//! The rules of the domain come first; if one of them matches, the user's are not looked at (IMail 7 guide, "processing order"). Only mail for
//! the INBOX is subject to rules: an address that names a mailbox which is there has decided already (not known; chosen). What a rule sent here
//! meets no rules again (letter `Z` of the Q file).
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
use crate::lists::header::{ListAddress, was_sent_on};
use crate::rules::{Examined, Hit, Rules, first_of};
use layout::limits::SETTINGS_FILE_MAX;
use layout::mbx::compose::Source;
use layout::name::MailboxName;
use layout::path::TreePath;
use layout::registry::model::{Domain, User};
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

    /// The rule of a mailing list for a post, and the address that the post goes to instead of to the members; `None` is nowhere. Lists have no
    /// mailboxes, so a rule that names one which is no user's leaves the post to the list. A post that comes back from where a rule sent it
    /// meets no rules again: it could go round for ever.
    pub fn of_list(
        &self,
        config: &Config,
        rules: &Rules,
        domain: &Domain,
        dir: &TreePath,
    ) -> io::Result<Option<(Hit, Option<String>)>> {
        let Some(hit) = self.first(config, rules, dir, INBOUND)? else { return Ok(None) };
        let list = ListAddress { name: dir.name().to_owned(), domain: domain.name.clone() };
        if was_sent_on(&self.source.head()?, &list) {
            return Ok(None);
        }
        let to = match &hit.target {
            Target::Discard => None,
            Target::Forward(address) => Some(address.clone()),
            Target::Mailbox(name) => match user_of(config, domain, &name.text()) {
                Some(_) => Some(format!("{}@{}", name.text(), domain.name)),
                None => return Ok(None),
            },
        };
        Ok(Some((hit, to)))
    }

    /// The rule for mail that leaves, in the file of its sender's domain; virtual domains have the primary's (IMail 11 help, "outbound rules").
    ///
    /// Answers with the directory of the file, too.
    pub fn outbound(
        &self,
        config: &Config,
        rules: &Rules,
        domain: &Domain,
    ) -> io::Result<Option<(TreePath, Hit)>> {
        let domain = if domain.is_virtual() { config.registry.primary().unwrap_or(domain) } else { domain };
        let Some(dir) = config.domain_dir(domain) else { return Ok(None) };
        let hit = self.first(config, rules, dir.top(), OUTBOUND)?;
        Ok(hit.map(|hit| (dir.top().clone(), hit)))
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

/// The user and the mailbox that a name of the form `user-mailbox` means.
pub fn user_of<'a, 'n>(config: &Config, domain: &'a Domain, name: &'n str) -> Option<(&'a User, &'n str)> {
    let (id, mailbox) = name.rsplit_once(config.registry.global.mailbox_split_char)?;
    Some((domain.user(id)?, mailbox))
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
        let domain = config.local_domain(&target.domain)?;
        let (user, mailbox) = user_of(config, domain, &text)?;
        if self.level == Level::User && !same_name(&user.id, &target.user) {
            return None;
        }
        let dir = config.user_dir(domain, &user.id)?;
        if mailbox.eq_ignore_ascii_case(DISCARD) {
            return Some(None);
        }
        let mailbox = MailboxName::from_text(mailbox).unwrap_or_else(|_| MailboxName::inbox());
        let (domain, user) = (domain.name.clone(), user.id.clone());
        Some(Some(MailboxTarget { domain, user, dir, mailbox, plain: false }))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::route::route;
    use layout::disk::sim::SimDisk;
    use layout::registry::doc::Doc;
    use layout::registry::model::Registry;
    use layout::root::Root;
    use std::path::Path;
    use std::sync::Arc;

    const REGISTRY: &str = r"[Global]
HostName=example.jp
TopDir=C:\IMail
[Domains\192.0.2.10]
Official=example.jp
[Domains\$virtual001]
Official=example.org
[Domains\example.jp]
Address=192.0.2.10
TopDir=C:\IMail
[Domains\example.jp\Users\mike]
[Domains\example.jp\Users\ann]
[Domains\example.org]
Address=$virtual001
TopDir=C:\IMail\example_org
[Domains\example.org\Users\bob]
; end of registry.ini, keep this line last
";

    /// A tree with these files, by their paths below the top directory.
    fn config(files: &[(&str, &[u8])]) -> Config {
        let disk = SimDisk::new();
        let root = Root::new(Arc::new(disk.clone()), Path::new("/mail"));
        for (path, content) in files {
            let file = path.split('/').fold(root.top().clone(), |dir, name| root.find(&dir, name));
            disk.seed(&file, content);
        }
        let (doc, complaints) = Doc::parse(REGISTRY.as_bytes().to_vec());
        assert!(complaints.is_empty(), "{complaints:?}");
        Config::new(&root, Registry::from_doc(&doc))
    }

    fn message(bytes: &[u8]) -> Examination {
        Examination::new(&Source::Bytes(bytes.into()))
    }

    fn decide(config: &Config, address: &str, message: &Examination, before: Before) -> String {
        let target = route(config, address, true).unwrap().mailboxes.remove(0);
        let found = disposition(config, &Rules::default(), &target, message, before).unwrap();
        let rule = found.rule.map(|rule| format!("{:?} {}: ", rule.level, rule.hit.line));
        let mailbox = found.mailbox.map(|mailbox| format!("{mailbox:?} "));
        format!("{}{}{}", rule.unwrap_or_default(), mailbox.unwrap_or_default(), found.forwards.join(","))
            .trim_end()
            .to_owned()
    }

    const SPAM: &[u8] =
        b"From: Shop <shop@example.net>\r\nTo: mike@example.jp\r\nSubject: lottery\r\n\r\nWin!\r\n";

    #[test]
    fn every_target_at_every_level() {
        for (target, of_domain, of_user) in [
            ("box", "mike/box", "mike/box"),
            ("", "mike/new", "mike/new"),
            ("main", "mike/INBOX", "mike/INBOX"),
            ("NUL", "", ""),
            ("mike-Important", "mike/Important", "mike/Important"),
            ("MIKE-Important", "mike/Important", "mike/Important"),
            ("ann-spam", "ann/spam", "mike/ann-spam"),
            ("ann-nul", "", "mike/ann-nul"),
            ("mike-nul", "", ""),
            ("no-user", "mike/no-user", "mike/no-user"),
            ("bob-x", "mike/bob-x", "mike/bob-x"),
            ("boss@example.net", "boss@example.net", "boss@example.net"),
        ] {
            let rule = format!("S~nothing:other\r\nS~lottery:{target}\r\nF~shop:late\r\n");
            for (file, level, expected) in
                [("rules.ima", "Domain", of_domain), ("users/mike/Rules.ima", "User", of_user)]
            {
                let config = config(&[(file, rule.as_bytes())]);
                let expected = format!("{level} 2: {}", expected.replace('/', "@example.jp/"));
                let found = decide(&config, "mike@example.jp", &message(SPAM), Before::default());
                assert_eq!(found, expected.trim_end(), "{target} at {level}");
            }
        }
    }

    #[test]
    fn which_rules_are_looked_at() {
        let config = config(&[
            ("rules.ima", b"S~lottery:of-domain"),
            ("users/mike/rules.ima", b"S~lottery:of-user\r\nS~weekly:work\r\nbroken line\r\nS~x:y"),
            ("users/mike/work.mbx", b""),
            ("users/ann/rules.ima", b"S~weekly:ann@example.org"),
        ]);
        let weekly = b"Subject: weekly\r\n\r\n";
        let (ruled, sent_on) =
            (Before { ruled: true, sent_on: true }, Before { ruled: false, sent_on: true });
        for (address, text, before, expected) in [
            ("mike@example.jp", SPAM, Before::default(), "Domain 1: mike@example.jp/of-domain"),
            ("mike@example.jp", &weekly[..], Before::default(), "User 2: mike@example.jp/work"),
            ("mike@example.jp", b"Subject: y\r\n\r\n", Before::default(), "mike@example.jp/INBOX"),
            ("mike@example.jp", b"Subject: x\r\n\r\n", Before::default(), "User 4: mike@example.jp/y"),
            ("mike-work@example.jp", SPAM, Before::default(), "mike@example.jp/work"),
            ("mike@example.jp", SPAM, ruled, "mike@example.jp/INBOX"),
            ("mike@example.jp", SPAM, sent_on, "Domain 1: mike@example.jp/of-domain"),
            ("ann@example.jp", weekly, sent_on, "User 1: ann@example.org"),
            ("bob@example.org", SPAM, Before::default(), "bob@example.org/INBOX"),
        ] {
            assert_eq!(decide(&config, address, &message(text), before), expected, "{address} {before:?}");
        }
    }

    #[test]
    fn japanese_rules_files_and_mail() {
        let rules = "<\u{8ff7}\u{60d1}>S~\u{5f53}\u{9078}:\u{8ff7}\u{60d1}\u{30e1}\u{30fc}\u{30eb}\r\nB~\u{672a}\u{627f}\u{8afe}:NUL\r\n";
        let files = [encoding_rs::SHIFT_JIS.encode(rules).0.into_owned(), rules.as_bytes().to_vec()];
        let mails = ["ISO-2022-JP", "UTF-8", "Shift_JIS"].map(|name| {
            let encoding = encoding_rs::Encoding::for_label(name.as_bytes()).unwrap();
            let header = format!("Content-Type: text/plain; charset={name}\r\n");
            let text = |text: &'static str| encoding.encode(text).0.into_owned();
            let subject = [b"Subject: ", &*text("\u{3054}\u{5f53}\u{9078}"), b"\r\n\r\nx"].concat();
            let body =
                [header.as_bytes(), b"\r\n", &text("\u{672a}\u{627f}\u{8afe}\u{5e83}\u{544a}")].concat();
            (subject, body)
        });
        for file in &files {
            let config = config(&[("users/mike/rules.ima", file)]);
            for (subject, body) in &mails {
                let decided =
                    |bytes: &[u8]| decide(&config, "mike@example.jp", &message(bytes), Before::default());
                let mailbox = MailboxName::from_text("\u{8ff7}\u{60d1}\u{30e1}\u{30fc}\u{30eb}").unwrap();
                assert_eq!(decided(subject), format!("User 1: mike@example.jp/{mailbox}"));
                assert_eq!(decided(body), "User 2:");
            }
        }
    }

    #[test]
    fn forwards_of_sub_mailboxes() {
        let config = config(&[
            ("users/mike/rules.ima", b"S~lottery:spambox\r\nS~keep:kept\r\nS~away:gone"),
            ("users/mike/SpamBox.fwd", b"ann-spam"),
            ("users/mike/kept.fwd", b".,boss@example.net;\r\nann\0"),
            ("users/mike/gone.fwd", b"NUL"),
            ("users/mike/empty.fwd", b""),
            ("users/mike/main.fwd", b"ann"),
            ("users/mike/info.inf.opt", b"Forward=ann"),
        ]);
        let plain = b"Subject: x\r\n\r\n";
        let before = Before::default();
        for (address, text, before, expected) in [
            ("mike", SPAM, before, "User 1: ann-spam@example.jp"),
            ("mike-spambox", &plain[..], before, "ann-spam@example.jp"),
            ("mike-spambox", plain, Before { sent_on: true, ..before }, "mike@example.jp/spambox"),
            (
                "mike",
                b"Subject: keep\r\n\r\n",
                before,
                "User 2: mike@example.jp/kept boss@example.net,ann@example.jp",
            ),
            ("mike", b"Subject: away\r\n\r\n", before, "User 3:"),
            ("mike-empty", plain, before, "mike@example.jp/empty"),
            ("mike-info", plain, before, "ann@example.jp"),
            ("mike", plain, before, "mike@example.jp/INBOX"),
        ] {
            let found = decide(&config, &format!("{address}@example.jp"), &message(text), before);
            assert_eq!(found, expected, "{address}");
        }
        // Strangers reach a mailbox that is only sent on.
        let routed = route(&config, "mike-spambox@example.jp", false).unwrap();
        assert_eq!(format!("{:?}", routed.mailboxes), "[mike@example.jp/spambox]");
    }

    #[test]
    fn no_rule_fills_the_list_of_mailboxes() {
        let names: Vec<String> =
            (0..route::MAILBOXES_MAX).map(|number| format!("users/mike/{number}.mbx")).collect();
        let mut files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
        files.push(("users/mike/rules.ima", b"S~lottery:7\r\nB~Win:box"));
        let config = config(&files);
        let decided = |text: &[u8]| decide(&config, "mike@example.jp", &message(text), Before::default());
        assert_eq!(decided(SPAM), "User 1: mike@example.jp/7");
        assert_eq!(decided(b"Subject: x\r\n\r\nWin\r\n"), "User 2: mike@example.jp/INBOX");
    }

    #[test]
    fn outbound_rules_are_those_of_the_senders_domain() {
        let config = config(&[
            ("orules.ima", b"S~lottery:box\r\nS~lottery:boss@example.jp\r\nB~Win:NUL"),
            ("example_org/orules.ima", b"S~lottery:NUL"),
        ]);
        let rules = Rules::default();
        for domain in ["example.jp", "example.org"] {
            let domain = config.local_domain(domain).unwrap();
            let (_, hit) = message(SPAM).outbound(&config, &rules, domain).unwrap().unwrap();
            assert_eq!((hit.line, hit.target), (2, Target::Forward("boss@example.jp".into())));
        }
    }

    #[test]
    fn a_message_is_read_only_for_rules() {
        let config = config(&[("users/mike/rules.ima", b"S~lottery:box")]);
        let rules = Rules::default();
        for (address, read) in [("ann@example.jp", false), ("mike@example.jp", true)] {
            let (message, before) = (message(SPAM), Before::default());
            let target = route(&config, address, true).unwrap().mailboxes.remove(0);
            disposition(&config, &rules, &target, &message, before).unwrap();
            assert_eq!(message.begin.get().is_some(), read, "{address}");
        }
    }
}
