//! Where aliases, group files and forwards lead: targets that do not exist, and mail that would run in circles.

use super::super::reading::Tree;
use super::{Area, Report};
use layout::group::Group;
use layout::limits::SETTINGS_FILE_MAX;
use layout::name::AliasName;
use layout::path::TreePath;
use layout::registry::alias::{Alias, classify};
use layout::registry::model::{AliasEntry, Domain};
use layout::registry::{fold, same_name};
use layout::root::UserDir;
use layout::user::forward::Forward;
use std::collections::{BTreeMap, HashSet};
use std::io;

/// Most steps that are followed from one name: longer ways are no loop that anybody made.
const STEPS_MAX: usize = 1000;
/// The alias that gets mail for unknown names (seen in exports).
const CATCH_ALL: &str = "nobody";
/// A target in `forward.ima` that throws the mail away.
const DISCARD: &str = "nul";

/// The end of the name of a file that forwards a mailbox.
const MAILBOX_FORWARD: &str = ".fwd";

/// A name that mail can be sent on from. The names are in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Node {
    Alias(String, String),
    User(String, String),
}

impl Node {
    pub(super) fn alias(name: &str, domain: &Domain) -> Node {
        Node::Alias(fold(name).into_owned(), fold(&domain.name).into_owned())
    }

    pub(super) fn user(id: &str, domain: &Domain) -> Node {
        Node::User(fold(id).into_owned(), fold(&domain.name).into_owned())
    }

    fn address(&self) -> String {
        let (Node::Alias(name, domain) | Node::User(name, domain)) = self;
        format!("{name}@{domain}")
    }
}

/// Where an address leads first.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// To another server.
    Elsewhere,
    /// On from here.
    Local(Node),
    /// To a mailing list.
    List,
    /// To nobody of that name.
    Unknown,
}

/// Where mail goes on to.
type Edges = BTreeMap<Node, Vec<Node>>;

pub(super) fn check(tree: &Tree<'_>, report: &mut Report) {
    let mut edges = Edges::new();
    for domain in &tree.registry.domains {
        for entry in domain.aliases.values() {
            alias(tree, domain, entry, &mut edges, report);
        }
        for (id, dir) in tree.user_dirs(domain) {
            forward(tree, domain, id, &dir, &mut edges, report);
            mailbox_forwards(tree, domain, &dir, report);
        }
        for dir in tree.lists(domain) {
            list_owner(tree, domain, dir.name(), report);
        }
    }
    loops(&edges, report);
}

fn alias(tree: &Tree<'_>, domain: &Domain, entry: &AliasEntry, edges: &mut Edges, report: &mut Report) {
    let name = format!("{}@{}", entry.name, domain.name);
    let addresses = match classify(&entry.value) {
        Alias::Standard(addresses) => addresses,
        Alias::Group(path) => match group(tree, domain, &path) {
            Ok(addresses) => addresses,
            Err(problem) => return report.finding(Area::Alias, format!("{name}: {problem}")),
        },
        Alias::Program(_) | Alias::ListServer(_) | Alias::Unclear => return,
    };
    let catches_all = domain.alias(CATCH_ALL).is_some();
    for address in &addresses {
        match target(tree, domain, address, Some(&entry.name)) {
            Target::Local(node) => edges.entry(Node::alias(&entry.name, domain)).or_default().push(node),
            Target::Unknown => {
                let then = if catches_all { ": its mail goes to nobody's" } else { "" };
                report.finding(Area::Alias, format!("{name}: {address} does not exist{then}"));
            }
            Target::Elsewhere | Target::List => {}
        }
    }
}

/// The members of a group alias, or why they cannot be read.
pub(super) fn group(tree: &Tree<'_>, domain: &Domain, path: &str) -> Result<Vec<String>, String> {
    let Some(file) = tree.group_file(domain, path) else {
        return Err(format!(
            "the file {path} is not there, so its mail reaches nobody: copy the file, add a line OLD=NEW to [Paths], or \
             remove the alias"
        ));
    };
    members(tree, &file).map_err(|error| format!("its file {file}: {error}"))
}

/// The owner of a list gets what may not be posted, and what comes back.
fn list_owner(tree: &Tree<'_>, domain: &Domain, name: &str, report: &mut Report) {
    let Some(list) = super::list::open(tree, domain, name) else { return };
    // Without an alias the postmaster is root (RFC 5321 §4.5.1).
    let postmaster = list.owner.to_lowercase().starts_with("postmaster@");
    if !postmaster && target(tree, domain, &list.owner, None) == Target::Unknown {
        let text = format!("{}: its owner {} does not exist", list.address.post(), list.owner);
        report.finding(Area::List, text);
    }
}

fn forward(
    tree: &Tree<'_>,
    domain: &Domain,
    id: &str,
    dir: &UserDir,
    edges: &mut Edges,
    report: &mut Report,
) {
    let node = Node::user(id, domain);
    let forward = match forward_of(tree, dir) {
        Ok(forward) => forward,
        Err(error) => return report.finding(Area::User, format!("{}: {error}", dir.forward())),
    };
    for address in forward.targets.iter().filter(|address| !DISCARD.eq_ignore_ascii_case(address)) {
        match target(tree, domain, address, None) {
            Target::Local(to) => edges.entry(node.clone()).or_default().push(to),
            Target::Unknown => {
                let text = format!("{}: forwards to {address}, which does not exist", node.address());
                report.finding(Area::User, text);
            }
            Target::Elsewhere | Target::List => {}
        }
    }
}

/// The `<mailbox>.fwd` files of a user: targets that do not exist.
fn mailbox_forwards(tree: &Tree<'_>, domain: &Domain, dir: &UserDir, report: &mut Report) {
    let entries = tree.root.disk().list(dir.path()).unwrap_or_default();
    let names = entries.iter().filter_map(|entry| entry.name.to_str());
    for name in names.filter(|name| name.to_lowercase().ends_with(MAILBOX_FORWARD)) {
        let file = tree.root.find(dir.path(), name);
        let forward = match tree.root.disk().read(&file, SETTINGS_FILE_MAX) {
            Ok(bytes) => Forward::parse(&bytes, tree.registry.global.code_page).0,
            Err(error) => {
                report.finding(Area::User, format!("{file}: {error}"));
                continue;
            }
        };
        for address in forward.targets.iter().filter(|address| !DISCARD.eq_ignore_ascii_case(address)) {
            if target(tree, domain, address, None) == Target::Unknown {
                report.finding(Area::User, format!("{file}: forwards to {address}, which does not exist"));
            }
        }
    }
}

/// Where a user's mail is forwarded to.
pub(super) fn forward_of(tree: &Tree<'_>, dir: &UserDir) -> io::Result<Forward> {
    match tree.root.disk().read(&dir.forward(), SETTINGS_FILE_MAX) {
        Ok(bytes) => Ok(Forward::parse(&bytes, tree.registry.global.code_page).0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Forward::default()),
        Err(error) => Err(error),
    }
}

/// The addresses in a file of members, one a line: of a group, or of a list.
pub(super) fn members(tree: &Tree<'_>, file: &TreePath) -> io::Result<Vec<String>> {
    let bytes = tree.root.disk().read(file, SETTINGS_FILE_MAX)?;
    Ok(Group::parse(bytes, tree.registry.global.code_page).members().collect())
}

/// Where `address` leads, as written in something of `domain`. An alias stands before a user of the same name, except for
/// itself: an alias that names itself means the user or the list.
pub(super) fn target(tree: &Tree<'_>, domain: &Domain, address: &str, from: Option<&str>) -> Target {
    let (name, domain) = match address.rsplit_once('@') {
        None => (address, domain),
        Some((name, host)) => match tree.registry.domain_by_name(host) {
            Some(other) => (name, other),
            None => return Target::Elsewhere,
        },
    };
    let itself = from.is_some_and(|from| same_name(from, name));
    if let Some(entry) = domain.alias(name).filter(|_| !itself) {
        return Target::Local(Node::alias(&entry.name, domain));
    }
    let is_list = AliasName::parse(name).ok().and_then(|name| tree.domain_dir(domain)?.list(&name));
    if is_list.is_some() {
        return Target::List;
    }
    if let Some(user) = domain.user(name) {
        return Target::Local(Node::user(&user.id, domain));
    }
    // `user-mailbox`; the user's ID may hold the separator too.
    let separators = name.match_indices(tree.registry.global.mailbox_split_char);
    let mut owners = separators.filter_map(|(at, _)| domain.user(name.get(..at)?));
    owners.next_back().map_or(Target::Unknown, |user| Target::Local(Node::user(&user.id, domain)))
}

/// Reports every circle once.
fn loops(edges: &Edges, report: &mut Report) {
    let mut reported = HashSet::new();
    for start in edges.keys() {
        if reported.contains(start) {
            continue;
        }
        let mut path = vec![start.clone()];
        if leads_back(edges, start, start, &mut path, &mut HashSet::new()) {
            let mut names: Vec<String> = path.iter().map(Node::address).collect();
            names.push(start.address());
            report.finding(Area::Alias, format!("mail runs in a circle: {}", names.join(" -> ")));
            reported.extend(path);
        }
    }
}

/// Follows the edges from `node`; `path` is the way from `start`.
fn leads_back(
    edges: &Edges,
    start: &Node,
    node: &Node,
    path: &mut Vec<Node>,
    seen: &mut HashSet<Node>,
) -> bool {
    for next in edges.get(node).into_iter().flatten() {
        if next == start {
            return true;
        }
        if seen.len() < STEPS_MAX && seen.insert(next.clone()) {
            path.push(next.clone());
            if leads_back(edges, start, next, path, seen) {
                return true;
            }
            path.pop();
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use layout::disk::sim::SimDisk;
    use layout::registry::doc::Doc;
    use layout::registry::model::Registry;
    use layout::root::Root;
    use std::path::Path;
    use std::sync::Arc;

    const REGISTRY: &str = "[Global]\nHostName=a.b\nTopDir=C:\\IMail\n[Domains\\a.b\\Users\\ann]\nFlags=dec:1\n[Domains\\a.b\\Users\\bob]\nFlags=dec:1\n\
        [Domains\\a.b\\Users\\mr-fred]\nFlags=dec:1\n[Domains\\a.b\\Users\\_aliases]\n";

    /// What is found with these aliases and files.
    fn found(aliases: &str, files: &[(&str, &[u8])]) -> Vec<String> {
        let disk = SimDisk::new();
        let root = Root::new(Arc::new(disk.clone()), Path::new("/mail"));
        for (file, content) in files {
            let dirs: Vec<&str> = file.split('/').collect();
            let path = dirs.iter().fold(root.top().clone(), |dir, part| root.find(&dir, part));
            disk.seed(&path, content);
        }
        let registry = Registry::from_doc(&Doc::parse(format!("{REGISTRY}{aliases}").into_bytes()).0);
        let mut report = Report::default();
        check(&Tree::new(&Config::new(&root, registry)), &mut report);
        report.findings.listed.into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn targets_and_circles() {
        type Case<'a> = (&'a str, &'a [(&'a str, &'a [u8])], &'a str);
        let cases: [Case<'_>; 12] = [
            ("ann=ann\nx=ann@A.B,bob,c@d.e,mr-fred-box\n", &[], ""),
            ("x=zoe\n", &[], "zoe does not exist"),
            ("x=zoe\nnobody=ann\n", &[], "goes to nobody"),
            ("x=y\ny=x@a.b\n", &[], "x@a.b -> y@a.b -> x@a.b"),
            ("news=news\n", &[], "news does not exist"),
            ("news=news\npostmaster=ann\n", &[("lists/news/users.lst", b"")], ""),
            ("g=C:\\IMail\\g.lst\n", &[("G.lst", b"; members\r\nann\r\nbob@a.b\r\n")], ""),
            ("g=C:\\IMail\\g.lst\n", &[], "g.lst is not there"),
            ("g=D:\\g.lst\n", &[("lists/g.lst", b"ann\n")], ""),
            ("", &[("users/ann/forward.ima", b".,\0ann@a.b \r\n\0")], "ann@a.b -> ann@a.b"),
            (
                "",
                &[("users/ann/forward.ima", b"bob\r\n"), ("users/bob/forward.ima", b"ann\r\n")],
                "ann@a.b -> bob@a.b -> ann@a.b",
            ),
            ("", &[("users/ann/forward.ima", b"zoe\r\n")], "forwards to zoe"),
        ];
        for (aliases, files, expected) in cases {
            let lines = found(aliases, files);
            let fits = match expected {
                "" => lines.is_empty(),
                expected => lines.len() == 1 && lines[0].contains(expected),
            };
            assert!(fits, "{aliases} {files:?}: {lines:?}");
        }
    }
}
