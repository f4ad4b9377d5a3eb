//! The decision: requests and a registry to the changes that are to be made. Nothing here reads or writes a file.
//!
//! Requests of one batch see what those before them did, so a file may add a user and then change it.
//!
//! Failure: a [`Refusal`] for each request that cannot be done; the others stand.

use std::collections::HashMap;

use layout::name::UserId;
use layout::password::{self, PasswordRule};
use layout::registry::model::{Domain, Registry, flags};
use layout::registry::{fold, same_name};

use super::lines::Request;
use super::switches::{Operation, Rights, Verb};
use crate::program::registry::{NoDomain, domain_of};

/// Longest full name, in characters ("shorter than 62", IMail 2006 help; the column of its database has 63).
pub const FULL_NAME_MAX: usize = 61;
/// The user that does not count for a domain's `MaxUsers` (IMail 11 help).
const UNCOUNTED_USER: &str = "root";
/// Bits of `Flags` that the four web options govern.
const GOVERNED: u32 = flags::DISABLED | flags::HIDDEN | flags::NO_PASSWORD_CHANGE | flags::WEB;

/// Why a request is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such domain.
    #[error(transparent)]
    Domain(#[from] NoDomain),
    /// The user ID is not allowed.
    #[error("{id:?}: {reason}")]
    Id {
        /// The ID.
        id: String,
        /// The rule.
        reason: &'static str,
    },
    /// The user exists.
    #[error("{0} exists already: change it with -m, or choose another ID")]
    Exists(String),
    /// The user does not exist.
    #[error("there is no user {0}: add it with -u, or name another domain with -h")]
    NoUser(String),
    /// The domain is full.
    #[error(
        "{user}: {domain} may have {most} users and has them: raise MaxUsers of the domain, or delete users"
    )]
    Full {
        /// The user.
        user: String,
        /// The domain.
        domain: String,
        /// Its limit.
        most: u64,
    },
    /// The password is not allowed.
    #[error("{user}: {rule}")]
    Password {
        /// The user.
        user: String,
        /// The rule.
        rule: PasswordRule,
    },
    /// The full name is not allowed.
    #[error(
        "{0}: the full name is too long or holds a control character: at most {FULL_NAME_MAX} characters"
    )]
    FullName(String),
    /// `-m` without anything to change.
    #[error("{0}: nothing to change: give -p, -n, or one of the options such as -web")]
    NothingToChange(String),
}

/// Where a new password comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewPassword {
    /// It was given.
    Given,
    /// None was given for a new user: a random one is made.
    Random,
}

/// What is to be done to a user's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make it.
    Add {
        /// `Flags`.
        flags: u32,
        /// `FullName`.
        full_name: String,
        /// Where `Password` comes from.
        password: NewPassword,
    },
    /// Change what is `Some`.
    Modify {
        /// `Flags`.
        flags: Option<u32>,
        /// `FullName`.
        full_name: Option<String>,
        /// Is there a new password?
        password: bool,
    },
    /// Remove it, and put the directory aside.
    Delete,
}

/// A change that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The official name of the domain as its key is spelled.
    pub domain: String,
    /// The domain's directory as the registry has it; empty = the root.
    pub top_dir: String,
    /// The user ID as its key is spelled, or is to be.
    pub id: String,
    /// What to do.
    pub step: Step,
    /// What the admin should know.
    pub warning: Option<String>,
}

impl Change {
    /// Where the new password comes from, if there is one.
    pub fn password(&self) -> Option<NewPassword> {
        match self.step {
            Step::Add { password, .. } => Some(password),
            Step::Modify { password: true, .. } => Some(NewPassword::Given),
            Step::Modify { .. } | Step::Delete => None,
        }
    }

    /// The user's address.
    pub fn address(&self) -> String {
        format!("{}@{}", self.id, self.domain)
    }
}

/// Decides what becomes of each request, in their order.
pub fn plan<'a>(
    registry: &Registry,
    requests: impl Iterator<Item = &'a Request>,
) -> Vec<Result<Change, Refusal>> {
    let mut batch = Batch { registry, users: HashMap::new(), counts: HashMap::new() };
    requests.map(|request| batch.decide(request)).collect()
}

/// A user as this batch leaves it.
#[derive(Clone)]
struct Seen {
    id: String,
    flags: u32,
}

/// The registry and what the batch did to it so far.
struct Batch<'a> {
    registry: &'a Registry,
    /// By domain and ID, folded; `None` = deleted.
    users: HashMap<(String, String), Option<Seen>>,
    /// Users that count, by folded domain.
    counts: HashMap<String, u64>,
}

impl Batch<'_> {
    fn decide(&mut self, request: &Request) -> Result<Change, Refusal> {
        let domain = domain_of(self.registry, request.domain.as_deref())?;
        let operation = &request.operation;
        match operation.verb {
            Verb::Add => self.add(domain, operation),
            Verb::Modify => self.modify(domain, operation),
            Verb::Delete => self.delete(domain, operation),
        }
    }

    fn add(&mut self, domain: &Domain, operation: &Operation) -> Result<Change, Refusal> {
        let id = operation.id.clone();
        UserId::parse_new(&id).map_err(|error| Refusal::Id { id: id.clone(), reason: error.0 })?;
        let user = format!("{id}@{}", domain.name);
        if self.user(domain, &id).is_some() {
            return Err(Refusal::Exists(user));
        }
        if domain.max_users != 0 && counts(&id) && self.count(domain) >= domain.max_users {
            return Err(Refusal::Full { user, domain: domain.name.clone(), most: domain.max_users });
        }
        self.check(operation, &user)?;
        let password = if operation.password.is_some() { NewPassword::Given } else { NewPassword::Random };
        let mut flags = with_rights(flags::NEW_USER, operation.rights);
        // Which password IMail sets where none is given is not known, and a known one would be a hole.
        if password == NewPassword::Random {
            flags |= flags::DISABLED;
        }
        let warning = domain.alias(&id).map(|alias| {
            format!("{user}: there is an alias {:?} too, which may get this user's mail", alias.name)
        });
        self.remember(domain, &id, Some(Seen { id: id.clone(), flags }));
        let full_name = operation.full_name.clone().unwrap_or_default();
        Ok(change(domain, id, Step::Add { flags, full_name, password }, warning))
    }

    fn modify(&mut self, domain: &Domain, operation: &Operation) -> Result<Change, Refusal> {
        let mut seen = self.existing(domain, operation)?;
        let user = format!("{}@{}", seen.id, domain.name);
        let flags = operation.rights.any().then(|| with_rights(seen.flags, operation.rights));
        let (password, full_name) = (operation.password.is_some(), operation.full_name.clone());
        if flags.is_none() && full_name.is_none() && !password {
            return Err(Refusal::NothingToChange(user));
        }
        self.check(operation, &user)?;
        seen.flags = flags.unwrap_or(seen.flags);
        let id = seen.id.clone();
        self.remember(domain, &id, Some(seen));
        Ok(change(domain, id, Step::Modify { flags, full_name, password }, None))
    }

    fn delete(&mut self, domain: &Domain, operation: &Operation) -> Result<Change, Refusal> {
        let seen = self.existing(domain, operation)?;
        self.remember(domain, &seen.id, None);
        Ok(change(domain, seen.id, Step::Delete, None))
    }

    fn existing(&self, domain: &Domain, operation: &Operation) -> Result<Seen, Refusal> {
        let found = self.user(domain, &operation.id);
        found.ok_or_else(|| Refusal::NoUser(format!("{:?} in {}", operation.id, domain.name)))
    }

    fn user(&self, domain: &Domain, id: &str) -> Option<Seen> {
        match self.users.get(&key(domain, id)) {
            Some(seen) => seen.clone(),
            None => domain.user(id).map(|user| Seen { id: user.id.clone(), flags: user.flags }),
        }
    }

    fn count(&mut self, domain: &Domain) -> u64 {
        let entry = self.counts.entry(fold(&domain.name).into_owned());
        *entry.or_insert_with(|| domain.users.keys().filter(|id| counts(id)).count() as u64)
    }

    fn remember(&mut self, domain: &Domain, id: &str, seen: Option<Seen>) {
        let before = self.user(domain, id).is_some();
        let count = self.count(domain);
        let count = match (before, seen.is_some()) {
            (false, true) if counts(id) => count + 1,
            (true, false) if counts(id) => count.saturating_sub(1),
            _ => count,
        };
        self.counts.insert(fold(&domain.name).into_owned(), count);
        self.users.insert(key(domain, id), seen);
    }

    /// Password and name by their rules.
    fn check(&self, operation: &Operation, user: &str) -> Result<(), Refusal> {
        if let Some(password) = &operation.password {
            password::rules(self.registry.global.return_to_imail, password.expose())
                .map_err(|rule| Refusal::Password { user: user.to_owned(), rule })?;
        }
        let name = operation.full_name.as_deref().unwrap_or_default();
        if name.chars().count() > FULL_NAME_MAX || name.chars().any(char::is_control) {
            return Err(Refusal::FullName(user.to_owned()));
        }
        Ok(())
    }
}

fn key(domain: &Domain, id: &str) -> (String, String) {
    (fold(&domain.name).into_owned(), fold(id).into_owned())
}

fn counts(id: &str) -> bool {
    !same_name(id, UNCOUNTED_USER)
}

fn change(domain: &Domain, id: String, step: Step, warning: Option<String>) -> Change {
    Change { domain: domain.name.clone(), top_dir: domain.top_dir.clone(), id, step, warning }
}

/// `Flags` after the web options: none given = as before; one given = all four on but those that are turned off (IMail 8.1 to
/// 12.5.5 help). Other bits stay.
fn with_rights(before: u32, rights: Rights) -> u32 {
    if !rights.any() {
        return before;
    }
    let off = |right: Option<bool>| right == Some(false);
    let mut flags = before & !GOVERNED;
    let bits = [
        (off(rights.change_password), flags::NO_PASSWORD_CHANGE),
        (!off(rights.web), flags::WEB),
        (off(rights.active), flags::DISABLED),
        (off(rights.info), flags::HIDDEN),
    ];
    for (_, bit) in bits.iter().filter(|(set, _)| *set) {
        flags |= bit;
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::super::lines::read_text;
    use super::*;
    use layout::registry::doc::Doc;

    const REGISTRY: &str = "[Global]\nHostName=a.b\nReturnToIMail=1\n[Domains\\10.0.0.1]\nOfficial=a.b\nAliases=multi:\"also.b\"\n\
        [Domains\\a.b]\nAddress=10.0.0.1\nMaxUsers=dword:00000003\n[Domains\\a.b\\Users\\root]\nFlags=dword:00000200\n\
        [Domains\\a.b\\Users\\Mike]\nFlags=dword:00000101\n[Domains\\a.b\\Users\\_aliases]\nsales=mike\n\
        [Domains\\c.d]\nAddress=$virtual001\nTopDir=C:\\IMail\\c_d\n";

    fn planned(text: &str) -> Vec<Result<Change, Refusal>> {
        let (doc, _) = Doc::parse(REGISTRY.as_bytes().to_vec());
        let registry = Registry::from_doc(&doc);
        let requests: Vec<Request> =
            read_text("x", text, None).0.into_iter().map(|item| item.request.unwrap()).collect();
        plan(&registry, requests.iter())
    }

    fn one(text: &str) -> Result<Change, Refusal> {
        planned(text).pop().unwrap()
    }

    fn flags_of(text: &str) -> u32 {
        match one(text).unwrap().step {
            Step::Add { flags, .. } => flags,
            Step::Modify { flags, .. } => flags.unwrap(),
            Step::Delete => panic!("{text}"),
        }
    }

    #[test]
    fn rights_of_new_and_old_users() {
        for (line, flags) in [
            ("-u x -p pass", 0x80),
            ("-u x", 0x81),
            ("-u x +active", 0x81),
            ("-u x -p pass -web", 0),
            ("-u x -p pass -active -chgpass -info -web", 0x7),
            ("-m mike +web", 0x180),
            ("-m mike -info", 0x182),
            ("-m mike -active", 0x181),
            ("-m MIKE -web -chgpass", 0x104),
        ] {
            assert_eq!(flags_of(line), flags, "{line}");
        }
        let Step::Modify { flags, .. } = one("-m mike -p pass").unwrap().step else { panic!() };
        assert_eq!(flags, None);
    }

    #[test]
    fn refusals() {
        for (lines, expected) in [
            ("-h no.where -u x -p pass", "no domain \"no.where\" here; there are: a.b, c.d"),
            ("mike,pass", "mike@a.b exists already: change it with -m"),
            ("-h also.b -u MIKE -p pass", "MIKE@a.b exists"),
            ("-m ghost -p pass", "no user \"ghost\" in a.b"),
            ("-k ghost", "no user \"ghost\""),
            ("-h c.d -k mike", "no user \"mike\" in c.d"),
            ("a/b,pass", "\"a/b\": a user ID has only"),
            ("_aliases,pass", "_aliases is no user ID"),
            ("x,ab", "x@a.b: the password is too short: 3"),
            ("-u x -p \"a b c\"", "blanks"),
            ("x,pass,a\tb\tc", "full name"),
            ("-m mike", "nothing to change"),
            ("x1,pass\nx2,pass\nx3,pass", "may have 3 users"),
            ("x1,pass\nX1,pass", "exists"),
            ("-k mike\n-m mike -web", "no user"),
        ] {
            let refusal = one(lines).unwrap_err().to_string();
            assert!(refusal.contains(expected), "{lines}: {refusal}");
        }
        assert!(one(&format!("x,pass,{}", "n".repeat(62))).is_err());
    }

    #[test]
    fn a_batch_sees_itself() {
        let done = |lines: &str| planned(lines).iter().filter(|change| change.is_ok()).count();
        assert_eq!(done("x1,pass\nx2,pass\nx3,pass\n-k x1\nx3,pass"), 4);
        assert_eq!(done("-k root\nx1,pass\nx2,pass\nroot,pass\nx3,pass"), 4);
        assert_eq!(done("x1,pass\n-m X1 -web\n-k x1\nx1,pass"), 4);
        let spelled = planned("Tanaka,pass\n-m TANAKA -web").pop().unwrap().unwrap();
        assert_eq!((spelled.address().as_str(), spelled.warning), ("Tanaka@a.b", None));
    }

    #[test]
    fn what_goes_into_a_change() {
        let add = one("-h c.d\nsales,pass,Sales Team").unwrap();
        assert_eq!((&*add.domain, &*add.top_dir, &*add.id), ("c.d", "C:\\IMail\\c_d", "sales"));
        assert_eq!(add.warning, None);
        assert!(one("sales,pass").unwrap().warning.unwrap().contains("alias"));
        assert_eq!(one("-k mike").unwrap().step, Step::Delete);
    }
}
