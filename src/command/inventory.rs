//! What a data directory holds, for people and for programs: the part that the reports of `imaild import` and `imaild check` share. It is
//! gathered once, and told as text or as JSON.
//!
//! # Limits
//! The text names at most [`NAMES_MAX`] of a kind and the [`LARGEST`] largest mailboxes; JSON has all of them.

use super::reading::{DomainReading, ListDir, Tree};
use super::report::RuleLine;
use layout::password::Stored;
use layout::path::TreePath;
use layout::registry::alias::{Alias, Program, classify};
use layout::registry::model::{Domain, Registry, User, flags};
use layout::registry::same_name;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::net::IpAddr;

/// Of names in a line, so many stand in the text.
const NAMES_MAX: usize = 20;
/// So many mailboxes of a domain are named in the text.
const LARGEST: usize = 5;

/// Everything that was found.
pub(super) struct Inventory<'a> {
    /// By domain, in the order of the registry.
    pub(super) domains: Vec<DomainReading<'a>>,
    /// Aliases that run a program which is not allowed: they are off.
    pub(super) programs_off: Vec<AliasLine>,
    /// Aliases that are not understood; mail for them waits.
    pub(super) unclear_aliases: Vec<AliasLine>,
    /// Group aliases whose file is nowhere.
    pub(super) groups_missing: Vec<AliasLine>,
    /// Paths of the registry that lie in no directory that is mapped.
    pub(super) paths_outside: Vec<String>,
    /// Domains whose address this machine does not have.
    pub(super) addresses_missing: Vec<(String, IpAddr)>,
}

/// An alias to look at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AliasLine {
    pub(super) domain: String,
    pub(super) alias: String,
    /// Its value; of a group, the path of its file.
    pub(super) value: String,
}

/// Sums over mailboxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) mailboxes: usize,
    pub(super) messages: usize,
    pub(super) bytes: u64,
}

/// How many aliases of each kind there are.
#[derive(Default)]
struct Kinds {
    standard: usize,
    group: usize,
    program: usize,
    list_server: usize,
    unclear: usize,
}

/// A mailbox in one line.
#[derive(Clone, Copy)]
struct Size<'a> {
    file: &'a TreePath,
    messages: usize,
    bytes: u64,
}

/// Is this program named in `AllowedPrograms`?
pub(super) fn is_allowed(program: &Program, registry: &Registry) -> bool {
    registry.global.allowed_programs.iter().any(|allowed| same_name(allowed, &program.file))
}

impl<'a> Inventory<'a> {
    /// Looks at the whole tree; `local` are the addresses of this machine.
    pub(super) fn gather(tree: &Tree<'a>, local: &[IpAddr]) -> Inventory<'a> {
        let mut all = Inventory {
            domains: tree.read(),
            programs_off: Vec::new(),
            unclear_aliases: Vec::new(),
            groups_missing: Vec::new(),
            paths_outside: Vec::new(),
            addresses_missing: addresses_missing(tree.registry, local),
        };
        for domain in &tree.registry.domains {
            all.path(tree, &domain.top_dir);
            for entry in domain.aliases.values() {
                let line = |value: &str| AliasLine {
                    domain: domain.name.clone(),
                    alias: entry.name.clone(),
                    value: value.to_owned(),
                };
                match classify(&entry.value) {
                    Alias::Program(program) if !is_allowed(&program, tree.registry) => {
                        all.programs_off.push(line(&entry.value));
                    }
                    Alias::Unclear => all.unclear_aliases.push(line(&entry.value)),
                    Alias::Group(path) => {
                        all.path(tree, &path);
                        if tree.group_file(domain, &path).is_none() {
                            all.groups_missing.push(line(&path));
                        }
                    }
                    Alias::Standard(_) | Alias::Program(_) | Alias::ListServer(_) => {}
                }
            }
        }
        all
    }

    /// Notes an absolute path of the old server that is in no directory that is mapped.
    fn path(&mut self, tree: &Tree<'_>, path: &str) {
        let is_absolute = path.get(1..2) == Some(":") || path.starts_with(['\\', '/']);
        let leads_nowhere = || tree.config.paths.resolve(tree.root, path).is_none();
        if is_absolute && leads_nowhere() && !self.paths_outside.iter().any(|other| same_name(other, path)) {
            self.paths_outside.push(path.to_owned());
        }
    }

    /// Sums over all mailboxes that could be read.
    pub(super) fn totals(&self) -> Totals {
        self.domains.iter().map(DomainReading::totals).fold(Totals::default(), |sum, one| Totals {
            mailboxes: sum.mailboxes + one.mailboxes,
            messages: sum.messages + one.messages,
            bytes: sum.bytes + one.bytes,
        })
    }

    /// The number of users.
    pub(super) fn users(&self) -> usize {
        self.domains.iter().map(|found| found.domain.users.len()).sum()
    }

    /// A paragraph for each domain.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        for found in &self.domains {
            found.text(&mut out);
        }
        out
    }

    /// The fields of a report in JSON. `rules` are the lines of rules files that are not understood.
    pub(super) fn json(&self, rules: &[RuleLine]) -> Map<String, Value> {
        let alias =
            |found: &AliasLine| json!({ "domain": found.domain, "alias": found.alias, "value": found.value });
        let aliases = |all: &[AliasLine]| all.iter().map(alias).collect::<Vec<_>>();
        let address =
            |(domain, ip): &(String, IpAddr)| json!({ "domain": domain, "address": ip.to_string() });
        let rule = |rule: &RuleLine| json!({ "file": rule.file, "line": rule.line, "why": rule.why });
        let Totals { mailboxes, messages, bytes } = self.totals();
        let fields = [
            ("domains", json!(self.domains.iter().map(DomainReading::json).collect::<Vec<_>>())),
            ("users", json!(self.users())),
            ("mailboxes", json!(mailboxes)),
            ("messages", json!(messages)),
            ("bytes", json!(bytes)),
            ("programs_off", json!(aliases(&self.programs_off))),
            ("unclear_aliases", json!(aliases(&self.unclear_aliases))),
            ("groups_missing", json!(aliases(&self.groups_missing))),
            ("paths_outside", json!(self.paths_outside)),
            ("addresses_missing", json!(self.addresses_missing.iter().map(address).collect::<Vec<_>>())),
            ("rules_not_understood", json!(rules.iter().map(rule).collect::<Vec<_>>())),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

impl DomainReading<'_> {
    fn disabled(&self) -> usize {
        let disabled = |user: &&User| user.has(flags::DISABLED);
        self.domain.users.values().filter(disabled).count()
    }

    fn kinds(&self) -> Kinds {
        let mut kinds = Kinds::default();
        for entry in self.domain.aliases.values() {
            *match classify(&entry.value) {
                Alias::Standard(_) => &mut kinds.standard,
                Alias::Group(_) => &mut kinds.group,
                Alias::Program(_) => &mut kinds.program,
                Alias::ListServer(_) => &mut kinds.list_server,
                Alias::Unclear => &mut kinds.unclear,
            } += 1;
        }
        kinds
    }

    /// Where its directory is, if it is there.
    fn path(&self) -> Option<String> {
        let dir = self.dir.as_ref().filter(|_| self.exists)?;
        Some(dir.top().to_string().trim_end_matches('/').to_owned())
    }

    /// The mailboxes that could be read.
    fn sizes(&self) -> Vec<Size<'_>> {
        let read = self.mailboxes.iter().filter_map(|mailbox| {
            let seen = mailbox.seen.as_ref().ok()?;
            Some(Size { file: &mailbox.file, messages: seen.messages, bytes: seen.bytes })
        });
        read.collect()
    }

    fn totals(&self) -> Totals {
        let sizes = self.sizes();
        Totals {
            mailboxes: sizes.len(),
            messages: sizes.iter().map(|mailbox| mailbox.messages).sum(),
            bytes: sizes.iter().map(|mailbox| mailbox.bytes).sum(),
        }
    }

    fn text(&self, out: &mut String) {
        let domain = self.domain;
        let also = match domain.aliases_of_domain.as_slice() {
            [] => String::new(),
            names => format!(", also {}", some_of(names)),
        };
        let place = self.path().unwrap_or_else(|| format!("no directory ({} is not there)", domain.top_dir));
        let _ = writeln!(out, "{} [{}]{also}: {place}", domain.name, domain.address);
        let mut line = |name: &str, text: String| {
            let _ = writeln!(out, "  {name:<11}{text}");
        };
        let users = match self.disabled() {
            0 => domain.users.len().to_string(),
            disabled => format!("{}, {disabled} of them disabled", domain.users.len()),
        };
        line("users", users);
        if !self.without_directory.is_empty() && self.exists {
            let (count, names) = (self.without_directory.len(), some_of(&self.without_directory));
            line("", format!("{count} never got mail and have no directory yet, which is no fault: {names}"));
        }
        for (kind, text) in [
            (Stored::Imail, "in IMail's form, which stay valid"),
            (Stored::Argon2, "as Argon2id, which IMail cannot read"),
            (Stored::Unknown, "in an unknown form, which admit nobody"),
            (Stored::Empty, "missing: no login until one is set"),
        ] {
            let users = with_password(self.domain, kind);
            let names = match kind {
                Stored::Imail | Stored::Argon2 => String::new(),
                Stored::Unknown | Stored::Empty => format!(": {}", some_of(&users)),
            };
            if !users.is_empty() {
                line("passwords", format!("{} {text}{names}", users.len()));
            }
        }
        let Totals { mailboxes, messages, bytes } = self.totals();
        line("mail", format!("{mailboxes} mailboxes with {messages} messages, {}", human(bytes)));
        let mut sizes = self.sizes();
        sizes.sort_by_key(|mailbox| std::cmp::Reverse(mailbox.bytes));
        for mailbox in sizes.iter().take(LARGEST).filter(|mailbox| mailbox.bytes > 0) {
            let (file, size) = (mailbox.file.below().display(), human(mailbox.bytes));
            line("", format!("{file}: {} messages, {size}", mailbox.messages));
        }
        let Kinds { standard, group, program, list_server, unclear } = self.kinds();
        let unclear = if unclear > 0 { format!(", {unclear} not understood") } else { String::new() };
        line(
            "aliases",
            format!(
                "{standard} with addresses, {group} groups, {program} programs, {list_server} of the list server{unclear}"
            ),
        );
        let lists: Vec<&str> = self.lists.iter().map(|list| list.name.as_str()).collect();
        line("lists", if lists.is_empty() { "none".to_owned() } else { some_of(&lists) });
    }

    fn json(&self) -> Value {
        let kinds = self.kinds();
        let Totals { mailboxes, messages, bytes } = self.totals();
        let sizes = self.sizes();
        let size = |one: &Size<'_>| json!({ "file": one.file.to_string(), "messages": one.messages, "bytes": one.bytes });
        let (imail, argon2id) = (
            with_password(self.domain, Stored::Imail).len(),
            with_password(self.domain, Stored::Argon2).len(),
        );
        let names = |all: &[ListDir], without: bool| -> Vec<String> {
            all.iter().filter(|list| !(without && list.has_settings)).map(|list| list.name.clone()).collect()
        };
        json!({
            "name": self.domain.name,
            "address": self.domain.address,
            "other_names": self.domain.aliases_of_domain,
            "directory": self.path(),
            "users": self.domain.users.len(),
            "users_disabled": self.disabled(),
            "users_without_directory": self.without_directory,
            "users_unusable": self.unusable_ids,
            "passwords_kept": imail + argon2id,
            "passwords_argon2id": argon2id,
            "passwords_unknown": with_password(self.domain, Stored::Unknown),
            "passwords_missing": with_password(self.domain, Stored::Empty),
            "aliases": {
                "standard": kinds.standard,
                "group": kinds.group,
                "program": kinds.program,
                "list_server": kinds.list_server,
                "unclear": kinds.unclear,
            },
            "directories_of_nobody": self.orphans.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "lists": names(&self.lists, false),
            "lists_without_settings": names(&self.lists, true),
            "mailboxes": mailboxes,
            "messages": messages,
            "bytes": bytes,
            "mailbox_list": sizes.iter().map(size).collect::<Vec<_>>(),
            "unreadable": self.unreadable,
        })
    }
}

/// The IDs of a domain's users whose password is stored in this way.
pub(super) fn with_password(domain: &Domain, kind: Stored) -> Vec<&str> {
    let users = domain.users.values().filter(|user| user.password_kind() == kind);
    users.map(|user| user.id.as_str()).collect()
}

/// The first [`NAMES_MAX`] names, and how many more there are.
pub(super) fn some_of(names: &[impl AsRef<str>]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMES_MAX).map(AsRef::as_ref).collect();
    let more = names.len() - shown.len();
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", shown.join(", "))
}

/// Addresses of mapping keys that this machine does not have.
fn addresses_missing(registry: &Registry, local: &[IpAddr]) -> Vec<(String, IpAddr)> {
    let ips = registry.mappings.iter().filter_map(|mapping| {
        let ip: IpAddr = mapping.address.parse().ok()?;
        Some((mapping.official.clone(), ip))
    });
    ips.filter(|(_, ip)| !ip.is_loopback() && !local.contains(ip)).collect()
}

/// A number of bytes as people read it.
pub(super) fn human(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KB", "MB", "GB", "TB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let mut value = bytes as f64;
    let mut unit = UNITS[0];
    for next in UNITS {
        unit = next;
        value /= 1024.0;
        if value < 1024.0 {
            break;
        }
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use layout::registry::doc::Doc;

    #[test]
    fn bytes_for_people() {
        let cases = [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1536, "1.5 KB"),
            (1 << 30, "1.0 GB"),
            (5 << 50, "5120.0 TB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(human(bytes), text);
        }
    }

    #[test]
    fn many_names_are_cut_short() {
        assert_eq!(some_of(&["a", "b"]), "a, b");
        assert!(some_of(&vec!["x"; NAMES_MAX + 3]).ends_with("x and 3 more"));
    }

    #[test]
    fn addresses_that_this_machine_lacks() {
        let text = "[Domains\\192.0.2.10]\nOfficial=a.b\n[Domains\\127.0.0.1]\nOfficial=c.d\n[Domains\\$virtual001]\nOfficial=e.f\n\
             [Domains\\192.0.2.11]\nOfficial=g.h\n";
        let registry = Registry::from_doc(&Doc::parse(text.as_bytes().to_vec()).0);
        let local = ["192.0.2.11".parse().unwrap()];
        assert_eq!(addresses_missing(&registry, &local), [("a.b".to_owned(), "192.0.2.10".parse().unwrap())]);
    }
}
