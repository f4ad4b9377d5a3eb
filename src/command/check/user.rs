//! `imaild check --user`: one user's settings in force, and where the user is a member (manual 2-1 (28), (29)).

use super::super::CommandError;
use super::super::inventory::human;
use super::super::reading::Tree;
use super::addresses::{self, Node, Target, target};
use super::list;
use layout::mailbox::{Trust, inspect};
use layout::name::UserId;
use layout::password::Stored;
use layout::registry::alias::{Alias, classify};
use layout::registry::model::{AliasEntry, Domain, User, flags};
use layout::root::UserDir;
use layout::user::last_login::LastLogin;
use serde_json::json;
use std::collections::HashSet;
use std::fmt::Write as _;

/// Names of the bits of `Flags`.
const FLAGS: [(u32, &str); 8] = [
    (flags::DISABLED, "disabled: no login, mail is still taken"),
    (flags::HIDDEN, "hidden from finger, LDAP and whois"),
    (flags::NO_PASSWORD_CHANGE, "may not change the password"),
    (flags::WEB, "web access"),
    (flags::HOST_ADMIN, "administrator of the domain"),
    (flags::SYSTEM_ADMIN, "administrator of the server"),
    (flags::LIST_ADMIN, "administrator of lists"),
    (flags::NO_LDAP_CHANGE, "may not change LDAP attributes"),
];

/// What there is to say about a user.
pub(super) struct About {
    settings: Vec<(&'static str, String)>,
    aliases: Vec<String>,
    groups: Vec<String>,
    /// Lists, each with what the user is there.
    lists: Vec<(String, Vec<&'static str>)>,
    /// Users whose mail is forwarded to this one.
    forwarders: Vec<String>,
}

/// Gathers it. The address may be a bare user ID of the primary domain.
pub(super) fn about(tree: &Tree<'_>, address: &str) -> Result<About, CommandError> {
    let (domain, user) = find(tree, address)?;
    let dir = UserId::parse(&user.id).ok().and_then(|id| Some(tree.domain_dir(domain)?.user(&id)));
    let mut about = About {
        settings: settings(tree, domain, user, dir.as_ref()),
        aliases: Vec::new(),
        groups: Vec::new(),
        lists: Vec::new(),
        forwarders: Vec::new(),
    };
    let nodes = leading_to(tree, Node::user(&user.id, domain), &mut about);
    for other in &tree.registry.domains {
        lists(tree, other, &nodes, &mut about);
        forwarders(tree, other, &nodes, &mut about);
    }
    Ok(about)
}

/// The user and every alias that leads there, over other aliases too: whoever writes to one of them writes to the user.
fn leading_to(tree: &Tree<'_>, user: Node, about: &mut About) -> HashSet<Node> {
    let mut nodes = HashSet::from([user]);
    let mut rest: Vec<(&Domain, &AliasEntry, Vec<Target>, bool)> = Vec::new();
    for domain in &tree.registry.domains {
        for entry in domain.aliases.values() {
            let (addresses, is_group) = match classify(&entry.value) {
                Alias::Standard(addresses) => (addresses, false),
                Alias::Group(path) => (group(tree, domain, &path), true),
                _ => continue,
            };
            let to = addresses.iter().map(|address| target(tree, domain, address, Some(&entry.name)));
            rest.push((domain, entry, to.collect(), is_group));
        }
    }
    loop {
        let leads = |to: &Target| matches!(to, Target::Local(node) if nodes.contains(node));
        let (found, others): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|(_, _, to, _)| to.iter().any(leads));
        if found.is_empty() {
            return nodes;
        }
        for (domain, entry, _, is_group) in found {
            nodes.insert(Node::alias(&entry.name, domain));
            let names = if is_group { &mut about.groups } else { &mut about.aliases };
            names.push(format!("{}@{}", entry.name, domain.name));
        }
        rest = others;
    }
}

fn find<'a>(tree: &Tree<'a>, address: &str) -> Result<(&'a Domain, &'a User), CommandError> {
    let (id, domain) = match address.rsplit_once('@') {
        Some((id, name)) => (id, tree.registry.domain_by_name(name)),
        None => (address, tree.registry.primary()),
    };
    let names =
        || tree.registry.domains.iter().map(|domain| domain.name.as_str()).collect::<Vec<_>>().join(", ");
    let domain = domain.ok_or_else(|| {
        CommandError::Refused(format!("{address}: there is no such domain here; there are: {}", names()))
    })?;
    let user = domain.user(id).ok_or_else(|| {
        CommandError::Refused(format!("{address}: the domain {} has no user {id}", domain.name))
    })?;
    Ok((domain, user))
}

fn settings(
    tree: &Tree<'_>,
    domain: &Domain,
    user: &User,
    dir: Option<&UserDir>,
) -> Vec<(&'static str, String)> {
    let limit = |value: u64, text: String| if value == 0 { "none".to_owned() } else { text };
    let (size, messages) = (domain.max_size_of(user), domain.max_msgs_of(user));
    let mut all = vec![
        ("Address", format!("{}@{}", user.id, domain.name)),
        ("Reply address", user.mail_addr.clone()),
        ("Full name", user.full_name.clone()),
        ("Password", password(user).to_owned()),
        ("Flags", flag_names(user.flags)),
        ("Most bytes", limit(size, format!("{} ({size})", human(size)))),
        ("Most messages", limit(messages, messages.to_string())),
    ];
    let Some(dir) = dir else {
        all.push(("Directory", "leads nowhere on this machine".to_owned()));
        return all;
    };
    let last = LastLogin::read(tree.root, dir);
    let last = last.map(|login| format!("{} ({})", time(login.time), login.protocol));
    all.push(("Last login", last.or(user.last_login.map(time)).unwrap_or("not known".to_owned())));
    all.push(("Directory", dir.path().to_string()));
    all.push(("Forward", forward(tree, dir)));
    for found in dir.mailboxes().unwrap_or_default() {
        let text = match inspect(&tree.root.shared_disk(), &found.file, Trust::Index) {
            Ok(seen) => format!("{}: {} messages, {}", found.name.text(), seen.messages, human(seen.bytes)),
            Err(error) => format!("{}: {error}", found.name.text()),
        };
        all.push(("Mailbox", text));
    }
    all
}

fn forward(tree: &Tree<'_>, dir: &UserDir) -> String {
    match addresses::forward_of(tree, dir) {
        Err(error) => error.to_string(),
        Ok(forward) if !forward.is_active() => "none".to_owned(),
        Ok(forward) if forward.keep => format!("{}, and keeps a copy", forward.targets.join(", ")),
        Ok(forward) => forward.targets.join(", "),
    }
}

fn password(user: &User) -> &'static str {
    match user.password_kind() {
        Stored::Empty => "none: no login until one is set",
        Stored::Imail => "IMail's code",
        Stored::Argon2 => "Argon2id",
        Stored::Unknown => "in an unknown format: no login until a new one is set",
    }
}

fn flag_names(bits: u32) -> String {
    let known = FLAGS.iter().fold(0, |all, (bit, _)| all | bit);
    let mut names: Vec<String> =
        FLAGS.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| (*name).to_owned()).collect();
    if bits & !known != 0 {
        names.push(format!("unknown bits {:#x}", bits & !known));
    }
    names.join(", ")
}

fn time(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| chrono::DateTime::from_timestamp(seconds, 0));
    time.map_or("not known".to_owned(), |time| {
        time.with_timezone(&chrono::Local).format("%Y-%m-%d %H:%M:%S").to_string()
    })
}

/// The members of a group alias; one whose file cannot be read has none.
fn group(tree: &Tree<'_>, domain: &Domain, path: &str) -> Vec<String> {
    addresses::group(tree, domain, path).unwrap_or_default()
}

/// What the user is to the lists of a domain.
fn lists(tree: &Tree<'_>, domain: &Domain, nodes: &HashSet<Node>, about: &mut About) {
    let is_user = |address: &str| match target(tree, domain, address, None) {
        Target::Local(node) => nodes.contains(&node),
        _ => false,
    };
    for dir in tree.lists(domain) {
        let Some(list) = list::open(tree, domain, dir.name()) else { continue };
        let roles = list::roles(&list, &is_user);
        if !roles.is_empty() {
            about.lists.push((list.address.post(), roles));
        }
    }
}

/// The users of a domain whose mail is forwarded to this user, or to an alias that leads there.
fn forwarders(tree: &Tree<'_>, domain: &Domain, nodes: &HashSet<Node>, about: &mut About) {
    for (id, dir) in tree.user_dirs(domain) {
        let targets = addresses::forward_of(tree, &dir).map(|forward| forward.targets).unwrap_or_default();
        let leads = |address: &String| match target(tree, domain, address, None) {
            Target::Local(node) => nodes.contains(&node) && node != Node::user(id, domain),
            _ => false,
        };
        if targets.iter().any(leads) {
            about.forwarders.push(format!("{id}@{}", domain.name));
        }
    }
}

impl About {
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.settings {
            let _ = writeln!(out, "{:<15} {value}", format!("{name}:"));
        }
        let lists = self.lists.iter().map(|(list, roles)| format!("{list} ({})", roles.join(", "))).collect();
        for (name, all) in [
            ("Aliases", &self.aliases),
            ("Groups", &self.groups),
            ("Lists", &lists),
            ("Forwarded from", &self.forwarders),
        ] {
            let value = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
            let _ = writeln!(out, "{:<15} {value}", format!("{name}:"));
        }
        out
    }

    pub(super) fn json(&self) -> serde_json::Value {
        let mailboxes: Vec<&String> =
            self.settings.iter().filter(|(name, _)| *name == "Mailbox").map(|(_, value)| value).collect();
        let mut all = serde_json::Map::new();
        for (name, value) in self.settings.iter().filter(|(name, _)| *name != "Mailbox") {
            all.insert(name.to_lowercase().replace(' ', "_"), json!(value));
        }
        all.insert("mailboxes".to_owned(), json!(mailboxes));
        all.insert("aliases".to_owned(), json!(self.aliases));
        all.insert("groups".to_owned(), json!(self.groups));
        let members =
            self.lists.iter().filter(|(_, roles)| roles.iter().any(|role| list::is_membership(role)));
        let members: Vec<&String> = members.map(|(list, _)| list).collect();
        let roles = self.lists.iter().map(|(list, roles)| (list.clone(), json!(roles)));
        all.insert("lists".to_owned(), json!(members));
        all.insert("list_roles".to_owned(), serde_json::Value::Object(roles.collect()));
        all.insert("forwarded_from".to_owned(), json!(self.forwarders));
        serde_json::Value::Object(all)
    }
}
