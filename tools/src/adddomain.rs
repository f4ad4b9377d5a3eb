//! `adddomain`: adds, changes and deletes domains.
//!
//! The letters are those of a real script; IMail's own help for them was not found. A domain that exists is changed by the same switches
//! that add one, since the script has a word for deleting only. As IMail does, a new domain gets the user `root`, the alias
//! `postmaster` for it, and `imailsrv`; the password of `root` is random and shown once.
//!
//! Failure: a text; nothing was changed.

use std::net::IpAddr;
use std::process::ExitCode;

use layout::name::DomainName;
use layout::owner::give_to_owner;
use layout::password::{self, Secret};
use layout::registry::doc::Doc;
use layout::registry::model::{
    Domain, PATHS, Registry, VIRTUAL_PREFIX, aliases_path, domain_path, flags, user_path,
};
use layout::registry::places::domain_dir;
use layout::registry::same_name;
use layout::registry::value::Value;
use layout::root::Root;

use crate::program::registry::{edit, snapshot};
use crate::program::switches::{Given, Operands, Table, Takes, UsageError};
use crate::program::{Failure, Outcome, Program, complain, open_root, say};

/// The most domains without an address.
const VIRTUAL_MAX: u32 = 999_999;
/// The user and the alias that every domain has.
const ROOT: &str = "root";

const USAGE: &str = "\
Usage: adddomain -h DOMAIN [-i IP] [-t DIR] [-u MOST] [-a \"ALIAS ALIAS...\"]   add a domain, or change one
       adddomain -h DOMAIN -delete                                          delete a domain

  -h DOMAIN    the official name of the domain
  -i IP        its IP address; a new domain without one is virtual. -i none makes an old one virtual
  -t DIR       its directory as the registry is to have it, below TopDir of [Global] or a line of [Paths]; without it
               the domain's name with _ for each dot, below TopDir
  -u MOST      how many users it may have; 0, and no -u, is no limit
  -a ALIASES   its other names, with blanks or commas between them; an empty text takes them away
  -delete      removes the domain with its users and aliases from the registry. Its directory stays where it is
  --dry-run    say what would be done, and do nothing
  --root DIR   the IMail directory; without it the environment variable IMAIL_ROOT counts, then the current
               directory if it holds registry.ini
  --help       this text
  --version    the version

A new domain has the user root, whose password is shown once, and the aliases postmaster and imailsrv.

Exit code: 0 done, 1 refused or failed, 2 wrong usage.";

const PROGRAM: Program = Program {
    name: "adddomain",
    about: "Adds, changes and deletes domains",
    usage: USAGE,
    table: Table {
        switches: &[
            ("-h", Takes::Value("a domain name")),
            ("-i", Takes::Value("an IP address")),
            ("-t", Takes::Value("a directory")),
            ("-u", Takes::Value("a number of users")),
            ("-a", Takes::Value("other names")),
            ("-delete", Takes::Nothing),
            ("--dry-run", Takes::Nothing),
        ],
        operands: Operands::None,
    },
};

/// Runs the program.
pub fn main() -> ExitCode {
    PROGRAM.main(run)
}

/// What the command line asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Request {
    name: String,
    /// `Some(None)`: virtual.
    address: Option<Option<IpAddr>>,
    directory: Option<String>,
    most_users: Option<u32>,
    aliases: Option<Vec<String>>,
    delete: bool,
}

impl Request {
    fn of(given: &Given) -> Result<Request, UsageError> {
        let name = given.needed("-h")?.to_owned();
        let address = match given.value("-i") {
            None => None,
            Some(text) if text.eq_ignore_ascii_case("none") || text.is_empty() => Some(None),
            Some(text) => {
                let address =
                    text.parse().map_err(|_| UsageError(format!("-i: {text:?} is no IP address")))?;
                Some(Some(address))
            }
        };
        let names = |text: &str| {
            let words = text.split([',', ' ']).filter(|word| !word.is_empty());
            words.map(str::to_owned).collect::<Vec<_>>()
        };
        let request = Request {
            name,
            address,
            directory: given.value("-t").map(str::to_owned),
            most_users: given.number("-u")?,
            aliases: given.value("-a").map(names),
            delete: given.has("-delete"),
        };
        for name in request.aliases.iter().flatten().chain([&request.name]) {
            DomainName::parse(name).map_err(|error| UsageError(format!("{name:?}: {error}")))?;
        }
        let changes = request.changes();
        if request.delete && changes {
            return Err(UsageError("-delete stands alone: only -h goes with it".into()));
        }
        Ok(request)
    }

    fn changes(&self) -> bool {
        self.address.is_some()
            || self.directory.is_some()
            || self.most_users.is_some()
            || self.aliases.is_some()
    }
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Plan {
    /// As it is spelled, or is to be.
    name: String,
    deed: Deed,
    /// The mapping key that the domain has afterwards.
    address: String,
    /// The mapping keys that it had.
    old_addresses: Vec<String>,
    /// `TopDir`, if it is set.
    directory: Option<String>,
    /// A line of `[Paths]` without which `TopDir` would lead nowhere.
    path_line: Option<String>,
    most_users: Option<u32>,
    /// The other names, if they or the mapping key change.
    aliases: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Deed {
    #[default]
    Add,
    Change,
    Delete,
}

/// Decides what is to be done; `leads` says whether a `TopDir` leads anywhere.
fn plan(registry: &Registry, request: &Request, leads: impl Fn(&str) -> bool) -> Result<Plan, String> {
    let name = &request.name;
    let own = registry.domains.iter().find(|domain| same_name(&domain.name, name));
    if let (None, Some(other)) = (own, registry.domain_by_name(name)) {
        return Err(format!(
            "{name} is another name of {}: name that one, or take the name away from it",
            other.name
        ));
    }
    let mappings = registry.mappings.iter().filter(|mapping| same_name(&mapping.official, name));
    let old_addresses: Vec<String> = mappings.map(|mapping| mapping.address.clone()).collect();
    if request.delete {
        let domain = own.ok_or_else(|| format!("there is no domain {name}"))?;
        if registry.primary().is_some_and(|primary| same_name(&primary.name, name)) {
            return Err(format!(
                "{name} is the primary domain: make another one that first, as HostName of [Global]"
            ));
        }
        return Ok(Plan { name: domain.name.clone(), deed: Deed::Delete, old_addresses, ..Plan::default() });
    }
    if own.is_some() && !request.changes() {
        return Err(format!("{name} exists already: -i, -t, -u and -a change it"));
    }
    for alias in request.aliases.iter().flatten() {
        if let Some(other) = registry.domain_by_name(alias).filter(|other| !same_name(&other.name, name)) {
            return Err(format!("{alias} is a name of {} already", other.name));
        }
    }
    let address = address(registry, request, own)?;
    let (directory, path_line) = directory(registry, request, own, leads)?;
    let moved = own.is_some_and(|domain| !same_name(&domain.address, &address));
    let known = own.map(|domain| domain.aliases_of_domain.clone()).unwrap_or_default();
    let aliases = request.aliases.clone().or_else(|| (own.is_none() || moved).then_some(known));
    Ok(Plan {
        name: own.map_or(name, |domain| &domain.name).clone(),
        deed: if own.is_some() { Deed::Change } else { Deed::Add },
        address,
        old_addresses,
        directory,
        path_line,
        most_users: request.most_users,
        aliases,
    })
}

/// The name of the domain's mapping key: its IP address, or the next free virtual one.
fn address(registry: &Registry, request: &Request, own: Option<&Domain>) -> Result<String, String> {
    let taken = |text: &str| registry.mappings.iter().find(|mapping| same_name(&mapping.address, text));
    match (request.address, own) {
        (None, Some(domain)) if !domain.address.is_empty() => Ok(domain.address.clone()),
        (Some(None), Some(domain)) if domain.is_virtual() && !domain.address.is_empty() => {
            Ok(domain.address.clone())
        }
        (Some(Some(ip)), _) => match taken(&ip.to_string()) {
            Some(mapping) if !same_name(&mapping.official, &request.name) => {
                Err(format!("{ip} is the address of {}", mapping.official))
            }
            _ => Ok(ip.to_string()),
        },
        _ => {
            let names = (1..=VIRTUAL_MAX).map(|number| format!("{VIRTUAL_PREFIX}{number:03}"));
            let free = |name: &String| {
                taken(name).is_none()
                    && !registry.domains.iter().any(|domain| same_name(&domain.address, name))
            };
            names.into_iter().find(free).ok_or_else(|| "there is no virtual address left".to_owned())
        }
    }
}

/// `TopDir`, if it is to be set, and the line of `[Paths]` that it needs.
fn directory(
    registry: &Registry,
    request: &Request,
    own: Option<&Domain>,
    leads: impl Fn(&str) -> bool,
) -> Result<(Option<String>, Option<String>), String> {
    let top = registry.global.top_dir.trim_end_matches(['\\', '/']);
    let named = request.directory.clone().filter(|dir| !dir.is_empty());
    let dir = match (named, own) {
        (Some(dir), _) => dir,
        (None, Some(_)) => return Ok((None, None)),
        (None, None) => {
            let leaf = request.name.replace('.', "_");
            if top.is_empty() { leaf } else { format!("{top}\\{leaf}") }
        }
    };
    if leads(&dir) {
        return Ok((Some(dir), None));
    }
    let relative = !dir.contains(['\\', ':']) && !dir.split('/').any(|part| part == "..");
    match relative {
        true => Ok((Some(dir.clone()), Some(dir))),
        false => Err(format!("{dir} leads nowhere here: name its place in [Paths] of registry.ini first")),
    }
}

fn run(given: &Given) -> Result<Outcome, Failure> {
    let request = Request::of(given)?;
    let root = open_root(given.root.as_deref())?;
    let decide = |registry: &Registry| {
        let map = registry.path_map(&root);
        plan(registry, &request, |dir| map.resolve(&root, dir).is_some())
    };
    let registry = snapshot(&root).map_err(Failure::of)?.registry;
    let plan = decide(&registry).map_err(Failure::Failed)?;
    if given.has("--dry-run") {
        say(&format!("Would do: {}", told(&registry, &plan)));
        return Ok(Outcome::Done);
    }
    let made = password::generate().map_err(Failure::of)?;
    let done = edit(&root, |doc| {
        let registry = Registry::from_doc(doc);
        let plan = decide(&registry).map_err(Err)?;
        let stored = password::store(registry.global.return_to_imail, ROOT, made.expose());
        let stored = Secret::new(stored.map_err(|error| Err(error.to_string()))?);
        let line = told(&registry, &plan);
        write(doc, &plan, &stored);
        Ok(Ok(Box::new((plan, line))))
    });
    let (plan, line) = *done.map_err(Failure::of)?.map_err(Failure::Failed)?;
    say(&line);
    if plan.deed == Deed::Add {
        say(&format!("User {ROOT}@{}, password {} (shown only now)", plan.name, made.expose()));
    }
    if plan.deed != Deed::Delete {
        make_directory(&root, &plan);
    }
    Ok(Outcome::Done)
}

fn told(registry: &Registry, plan: &Plan) -> String {
    let name = &plan.name;
    match plan.deed {
        Deed::Add => {
            format!("Added {name} as {} in {}", plan.address, plan.directory.as_deref().unwrap_or("TopDir"))
        }
        Deed::Change => format!("Changed {name}"),
        Deed::Delete => {
            let domain = registry.domain_by_name(name);
            let users = domain.map_or(0, |domain| domain.users.len());
            format!("Deleted {name} with {users} users; its directory stays")
        }
    }
}

fn write(doc: &mut Doc, plan: &Plan, root_password: &Secret) {
    let path = domain_path(&plan.name);
    let gone = plan.old_addresses.iter().filter(|old| !same_name(old, &plan.address));
    for old in gone {
        doc.remove_section(&domain_path(old));
    }
    if plan.deed == Deed::Delete {
        doc.remove_section(&path);
        return;
    }
    let mapping = domain_path(&plan.address);
    doc.set_text(&mapping, "Official", &plan.name);
    if let Some(aliases) = &plan.aliases {
        let aliases: Vec<&str> = aliases.iter().map(String::as_str).collect();
        doc.set(&mapping, "Aliases", &Value::multi(&aliases));
    }
    doc.set_text(&path, "Address", &plan.address);
    if let Some(directory) = &plan.directory {
        doc.set_text(&path, "TopDir", directory);
    }
    if let Some(line) = &plan.path_line {
        doc.set_text(PATHS, line, line);
    }
    if let Some(most) = plan.most_users {
        doc.set_number(&path, "MaxUsers", most.into());
    }
    if plan.deed == Deed::Add {
        write_root(doc, &plan.name, root_password);
    }
}

/// The user and the aliases that every domain has.
fn write_root(doc: &mut Doc, domain: &str, password: &Secret) {
    let top_dir = doc.get_text("Global", "TopDir").unwrap_or_default();
    let top_dir = top_dir.trim_end_matches(['\\', '/']);
    let separator = if top_dir.is_empty() { "" } else { "\\" };
    let aliases = aliases_path(domain);
    doc.set_text(&aliases, "postmaster", ROOT);
    doc.set_text(&aliases, "imailsrv", &format!("|{top_dir}{separator}imailsrv.exe {domain}"));
    let user = user_path(domain, ROOT);
    doc.set_text(&user, "MailAddr", &format!("{ROOT}@{domain}"));
    doc.set_text(&user, "FullName", "Administrator");
    doc.set_text(&user, "Password", password.expose());
    doc.set_number(&user, "Flags", u64::from(flags::NEW_USER | flags::HOST_ADMIN));
}

/// Makes the domain's directory, so that nobody takes it for one that was forgotten. The domain stands either way.
fn make_directory(root: &Root, plan: &Plan) {
    let made = || -> Result<(), String> {
        let registry = snapshot(root).map_err(|error| error.to_string())?.registry;
        let domain = registry.domain_by_name(&plan.name).ok_or("the domain is gone")?;
        let dir = domain_dir(root, &registry.path_map(root), domain).ok_or("it leads nowhere")?;
        let made = root.make_dirs(dir.top()).and_then(|()| give_to_owner(root, dir.top()));
        made.map_err(|error| error.to_string())
    };
    if let Err(error) = made() {
        complain(&format!("adddomain: warning: the directory of {}: {error}", plan.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::switches::words;

    const REGISTRY: &str = "[Global]\nHostName=a.b\nTopDir=C:\\IMail\n[Domains\\10.0.0.1]\nOfficial=a.b\nAliases=multi:also.b\n\
        [Domains\\a.b]\nAddress=10.0.0.1\nTopDir=C:\\IMail\n[Domains\\$virtual001]\nOfficial=c.d\nAliases=multi:x.d\n\
        [Domains\\c.d]\nAddress=$virtual001\nTopDir=C:\\IMail\\c_d\n";

    fn planned(line: &str) -> Result<Plan, String> {
        let given = PROGRAM.table.parse(&words(line).unwrap()).map_err(|error| error.to_string())?;
        let request = Request::of(&given).map_err(|error| error.to_string())?;
        let registry = Registry::from_doc(&Doc::parse(REGISTRY.as_bytes().to_vec()).0);
        plan(&registry, &request, |dir| dir.to_lowercase().starts_with("c:\\imail"))
    }

    #[test]
    fn every_option() {
        let new = Plan {
            name: "e.f".into(),
            address: "$virtual002".into(),
            directory: Some("C:\\IMail\\e_f".into()),
            aliases: Some(Vec::new()),
            ..Plan::default()
        };
        let old = Plan {
            name: "c.d".into(),
            deed: Deed::Change,
            address: "$virtual001".into(),
            old_addresses: vec!["$virtual001".into()],
            ..Plan::default()
        };
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        for (line, expected) in [
            ("-h e.f", new.clone()),
            ("-h e.f -i 10.0.0.2", Plan { address: "10.0.0.2".into(), ..new.clone() }),
            ("-h e.f -t C:\\IMail\\x", Plan { directory: Some("C:\\IMail\\x".into()), ..new.clone() }),
            ("-h e.f -t x", Plan { directory: Some("x".into()), path_line: Some("x".into()), ..new.clone() }),
            ("-h e.f -u 5", Plan { most_users: Some(5), ..new.clone() }),
            ("-h e.f -a \"g.h, i.j\"", Plan { aliases: names(&["g.h", "i.j"]), ..new.clone() }),
            ("-h C.D -u 5", Plan { most_users: Some(5), ..old.clone() }),
            ("-h c.d -a y.d", Plan { aliases: names(&["y.d"]), ..old.clone() }),
            ("-h c.d -a \"\"", Plan { aliases: names(&[]), ..old.clone() }),
            (
                "-h c.d -i 10.0.0.3",
                Plan { address: "10.0.0.3".into(), aliases: names(&["x.d"]), ..old.clone() },
            ),
            ("-h c.d -i none", old.clone()),
            ("-h c.d -delete", Plan { deed: Deed::Delete, address: String::new(), ..old.clone() }),
        ] {
            assert_eq!(planned(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn refusals() {
        for (line, expected) in [
            ("-h c.d", "exists already"),
            ("-h also.b", "is another name of a.b"),
            ("-h a.b -delete", "is the primary domain"),
            ("-h no.no -delete", "there is no domain no.no"),
            ("-h c.d -delete -u 5", "-delete stands alone"),
            ("-h e.f -i 10.0.0.1", "is the address of a.b"),
            ("-h e.f -i x", "is no IP address"),
            ("-h e.f -a also.b", "is a name of a.b already"),
            ("-h e.f -a c.d", "is a name of c.d already"),
            ("-h e.f -t D:\\x", "leads nowhere here"),
            ("-h e.f -t ../x", "leads nowhere here"),
            ("-h e/f", "is made of letters"),
            ("-u 5", "-h is missing"),
        ] {
            let error = planned(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
