//! The decision: requests and a registry to the changes that are to be made. Nothing here reads or writes a file.
//!
//! Requests of one batch see what those before them did. Failure: a [`Refusal`] for each request that cannot be done; the
//! others stand.

use std::collections::HashMap;

use layout::name::{AliasName, DomainName, NEW_ALIAS_MAX};
use layout::registry::alias::{Alias, classify};
use layout::registry::model::{Domain, Global, Registry};
use layout::registry::places::new_group_path;
use layout::registry::{fold, same_name};

use super::lines::{Request, Verb};
use crate::program::registry::{NoDomain, domain_of};

/// The most addresses of an alias that stands in the registry alone; one more makes it a group (manual 3-1 (2)).
pub const STANDARD_MAX: usize = 4;

/// Why a request is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such domain.
    #[error(transparent)]
    Domain(#[from] NoDomain),
    /// The name cannot be that of a new alias.
    #[error("{0:?} cannot be an alias: it has letters, digits, '-', '_' and '.', {NEW_ALIAS_MAX} at most")]
    Name(String),
    /// It exists.
    #[error("{0} exists already: -m changes it")]
    Exists(String),
    /// It does not exist.
    #[error("there is no alias {0}")]
    NoAlias(String),
    /// No destination.
    #[error("{0}: say where its mail goes, as in -a {0}=USER")]
    NoDestination(String),
    /// A destination where none belongs.
    #[error("{0}: -d deletes the alias: leave the destination out")]
    Superfluous(String),
    /// A word that is no address.
    #[error("{alias}: {word:?} is no user, alias or address{hint}")]
    Address {
        /// The alias.
        alias: String,
        /// The word.
        word: String,
        /// What to do.
        hint: &'static str,
    },
    /// A bar where none is expected.
    #[error("{0}: a bar (|) stands only before a program: write |PROGRAM ARGUMENTS")]
    Bar(String),
}

/// A group's members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// The file as the registry names it.
    pub path: String,
    /// Is it made now? Then there must be no such file yet.
    pub new: bool,
    /// The addresses.
    pub addresses: Vec<String>,
}

/// What is to be done to an alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Set its value.
    Set {
        /// The value; `None` if it stays.
        value: Option<String>,
        /// The group's members, if they change.
        members: Option<Members>,
        /// Was there such an alias before?
        existed: bool,
    },
    /// Remove it; a group's file stays.
    Delete {
        /// The value that it had.
        value: String,
    },
}

/// A change that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The official name of the domain as its key is spelled.
    pub domain: String,
    /// The alias as it is spelled, or is to be.
    pub alias: String,
    /// What to do.
    pub step: Step,
    /// What the admin should know.
    pub warnings: Vec<String>,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let address = format!("{}@{}", self.alias, self.domain);
        match &self.step {
            Step::Delete { value } => match classify(value) {
                Alias::Group(path) => write!(f, "Deleted {address}; its file {path} stays"),
                _ => write!(f, "Deleted {address}"),
            },
            Step::Set { value, members, existed } => {
                f.write_str(if *existed { "Changed" } else { "Added" })?;
                match (members, value) {
                    (Some(members), _) => {
                        write!(f, " {address}: a group of {} in {}", members.addresses.len(), members.path)
                    }
                    (None, Some(value)) => write!(f, " {address}: {value}"),
                    (None, None) => write!(f, " {address}"),
                }
            }
        }
    }
}

/// Decides what is to be done for each request, in order.
pub fn plan<'a>(
    registry: &Registry,
    requests: impl Iterator<Item = &'a Request>,
) -> Vec<Result<Change, Refusal>> {
    let mut batch = Batch { registry, aliases: HashMap::new() };
    requests.map(|request| batch.decide(request)).collect()
}

/// An alias as this batch leaves it.
#[derive(Clone)]
struct Seen {
    name: String,
    value: String,
}

struct Batch<'a> {
    registry: &'a Registry,
    /// By domain and name, folded; `None` = deleted.
    aliases: HashMap<(String, String), Option<Seen>>,
}

impl Batch<'_> {
    fn decide(&mut self, request: &Request) -> Result<Change, Refusal> {
        let domain = domain_of(self.registry, request.domain.as_deref())?;
        let before = self.alias(domain, &request.alias);
        let alias = before.as_ref().map_or(&request.alias, |seen| &seen.name).clone();
        let address = format!("{alias}@{}", domain.name);
        let (step, after, warnings) = match (request.verb, before) {
            (Verb::Delete, _) if !request.destination.is_empty() => return Err(Refusal::Superfluous(alias)),
            (Verb::Delete, None) => return Err(Refusal::NoAlias(address)),
            (Verb::Delete, Some(seen)) => (Step::Delete { value: seen.value }, None, Vec::new()),
            (Verb::Add, Some(_)) => return Err(Refusal::Exists(address)),
            (Verb::Add | Verb::Put, before) => {
                let value = before.as_ref().map(|seen| seen.value.as_str());
                let (step, value) = set(&self.registry.global, domain, request, value)?;
                let warnings = warnings(&self.registry.global, domain, &alias, &value);
                (step, Some(Seen { name: alias.clone(), value }), warnings)
            }
        };
        self.aliases.insert(key(domain, &alias), after);
        Ok(Change { domain: domain.name.clone(), alias, step, warnings })
    }

    fn alias(&self, domain: &Domain, name: &str) -> Option<Seen> {
        match self.aliases.get(&key(domain, name)) {
            Some(seen) => seen.clone(),
            None => {
                let entry = domain.alias(name)?;
                Some(Seen { name: entry.name.clone(), value: entry.value.clone() })
            }
        }
    }
}

fn key(domain: &Domain, alias: &str) -> (String, String) {
    (fold(&domain.name).into_owned(), fold(alias).into_owned())
}

/// The step that gives an alias its destination, and the value that it has then.
fn set(
    global: &Global,
    domain: &Domain,
    request: &Request,
    before: Option<&str>,
) -> Result<(Step, String), Refusal> {
    let name = &request.alias;
    let existed = before.is_some();
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let parsed = AliasName::parse(name).ok().filter(|_| existed || name.len() <= NEW_ALIAS_MAX);
    let parsed = parsed.filter(|_| existed || name.bytes().all(legal));
    let parsed = parsed.ok_or_else(|| Refusal::Name(name.clone()))?;
    let addresses = match classify(&request.destination) {
        Alias::Standard(addresses) if addresses.is_empty() => {
            return Err(Refusal::NoDestination(name.clone()));
        }
        Alias::Standard(addresses) => addresses,
        Alias::Unclear => return Err(Refusal::Bar(name.clone())),
        Alias::Group(_) | Alias::Program(_) | Alias::ListServer(_) => {
            let value = request.destination.clone();
            return Ok((Step::Set { value: Some(value.clone()), members: None, existed }, value));
        }
    };
    let addresses = checked(name, addresses)?;
    let group = before.map(classify);
    // A group stays one, however few its members become.
    let (path, value) = match group {
        Some(Alias::Group(path)) => (path, None),
        _ if addresses.len() <= STANDARD_MAX => {
            let value = addresses.join(",");
            return Ok((Step::Set { value: Some(value.clone()), members: None, existed }, value));
        }
        _ => {
            let path = new_group_path(&global.top_dir, domain, &parsed);
            (path.clone(), Some(path))
        }
    };
    let members = Members { path: path.clone(), new: value.is_some(), addresses };
    let step = Step::Set { value, members: Some(members), existed };
    Ok((step, path))
}

/// Addresses that can stand in an alias, each once.
fn checked(alias: &str, addresses: Vec<String>) -> Result<Vec<String>, Refusal> {
    let mut kept: Vec<String> = Vec::with_capacity(addresses.len());
    for word in addresses {
        let hint = if word.starts_with('-') { ": options stand before the alias" } else { "" };
        let plain = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>()|\\".contains(&byte))
        };
        let good = match word.rsplit_once('@') {
            Some((local, domain)) => {
                plain(local) && !local.contains('@') && DomainName::parse(domain).is_ok()
            }
            None => AliasName::parse(&word).is_ok(),
        };
        if !good || word.starts_with('-') {
            return Err(Refusal::Address { alias: alias.to_owned(), word, hint });
        }
        if !kept.iter().any(|known| same_name(known, &word)) {
            kept.push(word);
        }
    }
    Ok(kept)
}

/// What the admin should know of an alias with this value.
fn warnings(global: &Global, domain: &Domain, alias: &str, value: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(user) = domain.user(alias) {
        warnings.push(format!(
            "there is a user {}@{} too, whose mail now goes where the alias says",
            user.id, domain.name
        ));
    }
    if let Alias::Program(program) = classify(value)
        && !global.allowed_programs.iter().any(|allowed| same_name(allowed, &program.file))
    {
        warnings.push(format!(
            "{alias}@{} is off, and its mail waits, until AllowedPrograms in [Global] of registry.ini names {}",
            domain.name, program.file
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::super::lines::{Standing, read_text};
    use super::*;
    use layout::registry::doc::Doc;

    const REGISTRY: &str = "[Global]\nHostName=a.b\nTopDir=C:\\IMail\nAllowedPrograms=C:\\x.exe\n[Domains\\10.0.0.1]\nOfficial=a.b\n\
        [Domains\\a.b]\nAddress=10.0.0.1\n[Domains\\a.b\\Users\\mike]\nFlags=dword:00000001\n\
        [Domains\\a.b\\Users\\_aliases]\nSales=ann\nstaff=C:\\IMail\\staff.lst\n\
        [Domains\\c.d]\nAddress=$virtual001\nTopDir=D:\\c_d\n";

    fn one(text: &str) -> Result<Change, Refusal> {
        let (doc, _) = Doc::parse(REGISTRY.as_bytes().to_vec());
        let registry = Registry::from_doc(&doc);
        let items = read_text("x", text, &mut Standing::default());
        let requests: Vec<Request> = items.into_iter().map(|item| item.request.unwrap()).collect();
        plan(&registry, requests.iter()).pop().unwrap()
    }

    fn value(text: &str) -> String {
        match one(text).unwrap().step {
            Step::Set { value: Some(value), members: None, .. } => value,
            step => panic!("{text}: {step:?}"),
        }
    }

    #[test]
    fn values_as_they_are_written() {
        for (line, expected) in [
            ("-a x=ann", "ann"),
            ("-a x=ann, Bob@Example.ORG", "ann,Bob@Example.ORG"),
            ("-a x a b;c", "a,b,c"),
            ("-a x=a,A,b", "a,b"),
            ("-a x=a,b,c,d", "a,b,c,d"),
            ("-m sales=mike-inbox", "mike-inbox"),
            ("-a x=|C:\\x.exe a b", "|C:\\x.exe a b"),
            ("-a x=|imailsrv.exe a.b", "|imailsrv.exe a.b"),
            ("-a x=C:\\IMail\\Lists\\x.lst", "C:\\IMail\\Lists\\x.lst"),
            ("-d sales\n-a sales=bob", "bob"),
        ] {
            assert_eq!(value(line), expected, "{line}");
        }
    }

    #[test]
    fn five_make_a_group() {
        for (line, path, new, count) in [
            ("-a x=a,b,c,d,e", "C:\\IMail\\x.list", true, 5),
            ("-m Sales=a,b,c,d,e@f.g", "C:\\IMail\\sales.list", true, 5),
            ("-h c.d -a x=a,b,c,d,e", "D:\\c_d\\x.list", true, 5),
            ("-m staff=a", "C:\\IMail\\staff.lst", false, 1),
            ("-a x=a,b,c,d,e\n-m x=a,b", "C:\\IMail\\x.list", false, 2),
        ] {
            let Step::Set { value, members: Some(members), .. } = one(line).unwrap().step else { panic!() };
            assert_eq!((members.path.as_str(), members.new, members.addresses.len()), (path, new, count));
            assert_eq!(value, new.then(|| path.to_owned()), "{line}");
        }
        assert!(matches!(one("-m staff=|C:\\x.exe").unwrap().step, Step::Set { members: None, .. }));
    }

    #[test]
    fn refusals() {
        for (lines, expected) in [
            ("-h no.where -a x=a", "no domain \"no.where\" here; there are: a.b, c.d"),
            ("-a SALES=a", "Sales@a.b exists already: -m changes it"),
            ("-a x=a\n-a X=b", "x@a.b exists"),
            ("-d ghost", "no alias ghost@a.b"),
            ("-d sales\n-d sales", "no alias sales@a.b"),
            ("-d sales=ann", "leave the destination out"),
            ("-a x=", "say where its mail goes"),
            ("-a x=,", "say where its mail goes"),
            ("-a x=a -h b.c", "options stand before the alias"),
            ("-a x=a@b@c", "is no user"),
            ("-a x=@b", "is no user"),
            ("-a x=a|b", "a bar (|)"),
            ("-a a/b=c", "cannot be an alias"),
        ] {
            let refusal = one(lines).unwrap_err().to_string();
            assert!(refusal.contains(expected), "{lines}: {refusal}");
        }
        assert!(one(&format!("-a {}=a", "n".repeat(46))).is_err());
    }

    #[test]
    fn warnings_tell_what_is_surprising() {
        for (line, expected) in [
            ("-a mike=ann", Some("there is a user mike@a.b too")),
            ("-a x=|C:\\y.exe a", Some("until AllowedPrograms in [Global] of registry.ini names C:\\y.exe")),
            ("-a x=|C:\\x.exe a", None),
            ("-a x=ann", None),
            ("-a x=|imailsrv.exe a.b", None),
        ] {
            let warnings = one(line).unwrap().warnings;
            assert_eq!(warnings.len(), usize::from(expected.is_some()), "{line}");
            assert!(expected.is_none_or(|text| warnings[0].contains(text)), "{warnings:?}");
        }
    }
}
