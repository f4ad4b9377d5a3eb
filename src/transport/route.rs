//! Where mail for an address goes: a decision on the configuration, the group files and the `forward.ima` files, with no effect.
//!
//! A local part is, in this order: an alias, a list, a user, `user-mailbox`, else what the alias `nobody` says (an alias hides a user of
//! the same name: IMail 8.2 guide; where `nobody` stands is not known, chosen last, as user IDs and aliases may hold the split character).
//!
//! # Failure
//! [`Unroutable`] for the address as a whole. Members of a group that lead nowhere are passed over and named in [`Routed::lost`].
//!
//! # Limits
//! [`DEPTH_MAX`] aliases and forwards one behind the other, [`TARGETS_MAX`] targets. A group of more than [`GROUP_AT_ONCE`] members is not
//! followed while a client waits ([`route_now`]): its mail goes through the spool, as that of a list does.

use crate::config::Config;
use crate::lists::addresses::Seen;
use crate::lists::header::{BOUNCE_SUFFIX, SERVER};
use layout::group::Group;
use layout::limits::SETTINGS_FILE_MAX;
use layout::name::MailboxName;
use layout::path::TreePath;
use layout::registry::alias::{Alias, classify};
use layout::registry::model::{AliasEntry, Domain, User};
use layout::root::UserDir;
use layout::user::forward::Forward;
use std::borrow::Cow;
use std::fmt;

/// How many aliases and forwards may follow each other.
pub const DEPTH_MAX: usize = 10;
/// The most targets of one address.
pub const TARGETS_MAX: usize = 1_000_000;
/// A group with more members costs as much as a list (manual 3-1: from 50 on a list is advised), and waits in the spool as one recipient.
pub const GROUP_AT_ONCE: usize = 50;
/// The most mailboxes that mail may make for one user (our limit; IMail's is not known).
pub const MAILBOXES_MAX: usize = 1000;
/// The mailbox that throws mail away: `user-NUL@domain`, or `NUL` as a forward (IMail help, Information Manager).
pub(super) const DISCARD: &str = "nul";

/// A mailbox that gets a copy.
#[derive(Clone)]
pub struct MailboxTarget {
    /// The official name of the domain.
    pub domain: String,
    /// The user ID as the registry spells it.
    pub user: String,
    /// The user's directory.
    pub dir: UserDir,
    /// The mailbox.
    pub mailbox: MailboxName,
    /// Does the user's address lead to his INBOX and nowhere else? Not if he has forwards, or an alias of his name.
    pub plain: bool,
}

impl MailboxTarget {
    /// Another mailbox of the same user.
    pub(super) fn of_name(&self, mailbox: MailboxName) -> MailboxTarget {
        MailboxTarget { mailbox, ..self.clone() }
    }

    /// The user's address.
    pub fn user_address(&self) -> String {
        format!("{}@{}", self.user, self.domain)
    }

    /// Is it a mailbox of the same user as this one?
    pub(super) fn is_of_user_of(&self, other: &MailboxTarget) -> bool {
        self.dir.path() == other.dir.path()
    }
}

impl fmt::Debug for MailboxTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}/{}", self.user, self.domain, self.mailbox)
    }
}

/// What a list's address, or the list server's, is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListRole {
    /// Posts.
    Post,
    /// Posts that came back.
    Bounce,
    /// Commands.
    Server,
}

/// A mailing list, or a domain's list server, that gets a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListTarget {
    /// The official name of the domain.
    pub domain: String,
    /// The list's name in lower case; empty for the list server.
    pub list: String,
    /// What comes there.
    pub role: ListRole,
}

impl ListTarget {
    /// The address that leads there and nowhere else, whatever aliases there are.
    pub fn address(&self) -> String {
        let ListTarget { domain, list, role } = self;
        match role {
            ListRole::Post => format!("{list}@{domain}"),
            ListRole::Bounce => format!("{list}{BOUNCE_SUFFIX}@{domain}"),
            ListRole::Server => format!("{SERVER}@{domain}"),
        }
    }
}

/// Everybody who gets mail for one address.
#[derive(Clone, Debug, Default)]
pub struct Routed {
    /// Mailboxes here, each once.
    pub mailboxes: Vec<MailboxTarget>,
    /// Addresses elsewhere, each once.
    pub remote: Vec<String>,
    /// Lists here, each once. Their mail goes through the spool.
    pub lists: Vec<ListTarget>,
    /// Mail for these has to wait in the spool: they name a program, or a group that is too large for now.
    pub waiting: Vec<String>,
    /// Members and forwards that lead nowhere, with the reason: for the log.
    pub lost: Vec<String>,
    /// Was a copy thrown away on purpose?
    pub discarded: bool,
}

impl Routed {
    /// For how many the address stands.
    pub(super) fn count(&self) -> usize {
        self.mailboxes.len() + self.remote.len() + self.lists.len() + self.waiting.len()
    }
}

/// Why an address cannot be delivered to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unroutable {
    /// Not an address.
    Syntax,
    /// The domain is not served here.
    NotLocal(String),
    /// No such user, alias or list.
    UnknownUser,
    /// It exists, and cannot be served now.
    Unavailable(&'static str),
}

/// Finds everybody who gets mail for `address`. `may_create` says whether a `user-mailbox` that does not exist may be made: strangers
/// must not fill a user's folder list from outside.
pub fn route(config: &Config, address: &str, may_create: bool) -> Result<Routed, Unroutable> {
    walk(config, address, may_create, None)
}

/// The same while a client waits: large groups are among those whose mail waits ([`Routed::waiting`]).
pub fn route_now(config: &Config, address: &str, may_create: bool) -> Result<Routed, Unroutable> {
    walk(config, address, may_create, Some(GROUP_AT_ONCE))
}

fn walk(
    config: &Config,
    address: &str,
    may_create: bool,
    group_max: Option<usize>,
) -> Result<Routed, Unroutable> {
    let mut walk =
        Walk { config, may_create, group_max, routed: Routed::default(), visited: Seen::default() };
    walk.address(address, None, 0)?;
    if walk.count() == 0 && !walk.routed.discarded {
        tracing::warn!(address, lost = ?walk.routed.lost, "an address leads nowhere");
        return Err(Unroutable::UnknownUser);
    }
    // Those of a large group are kept until all of them have the message.
    walk.routed.mailboxes.shrink_to_fit();
    walk.routed.remote.shrink_to_fit();
    Ok(walk.routed)
}

/// Can this mailbox get mail: is it there, or its forward, or may and can it be made?
pub(super) fn is_usable(config: &Config, target: &MailboxTarget, may_create: bool) -> bool {
    let exists = config.root().disk().stat(&target.dir.mailbox(&target.mailbox)).is_ok();
    let room = || target.dir.mailboxes().is_ok_and(|all| all.len() < MAILBOXES_MAX);
    exists || forward_file(config, target).is_some() || (may_create && room())
}

/// The `<mailbox>.fwd` of a mailbox, if there is one. The INBOX has `forward.ima` instead.
pub(super) fn forward_file(config: &Config, target: &MailboxTarget) -> Option<TreePath> {
    let MailboxTarget { dir, mailbox, .. } = target;
    let file = || config.root().file_in(dir.path(), &format!("{}.fwd", mailbox.file_stem()));
    if mailbox.is_inbox() { None } else { file() }
}

/// The domain of an address that is not one of this server's: to know that, no file is read.
pub fn elsewhere<'a>(config: &Config, address: &'a str) -> Option<&'a str> {
    let (_, domain) = address.rsplit_once('@')?;
    config.local_domain(domain).is_none().then_some(domain)
}

/// A local part without quotes around it, which change nothing in what it means (RFC 5321 §4.1.2).
fn unquoted(local: &str) -> Cow<'_, str> {
    let Some(inner) = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Cow::Borrowed(local);
    };
    let (mut text, mut escaped) = (String::with_capacity(inner.len()), false);
    for c in inner.chars() {
        escaped = c == '\\' && !escaped;
        if !escaped {
            text.push(c);
        }
    }
    Cow::Owned(text)
}

struct Walk<'a> {
    config: &'a Config,
    may_create: bool,
    /// Groups with more members are not followed.
    group_max: Option<usize>,
    routed: Routed,
    /// What was expanded already: addresses in lower case, and mailboxes.
    visited: Seen,
}

impl<'a> Walk<'a> {
    /// Follows an address. `within` is the domain of a name without one.
    fn address(&mut self, address: &str, within: Option<&'a Domain>, depth: usize) -> Result<(), Unroutable> {
        let (local, domain) = match address.rsplit_once('@') {
            Some((local, domain)) => {
                (local, self.config.local_domain(domain).ok_or_else(|| domain.to_owned()))
            }
            None => match within.or_else(|| self.primary_for(address)) {
                Some(domain) => (address, Ok(domain)),
                None => return Err(Unroutable::Syntax),
            },
        };
        let local = &*unquoted(local);
        if local.is_empty() {
            return Err(Unroutable::Syntax);
        }
        let domain = match domain {
            Ok(domain) => domain,
            Err(domain) if depth == 0 => return Err(Unroutable::NotLocal(domain)),
            Err(_) => {
                if self.visited.insert(&address.to_lowercase()) {
                    self.routed.remote.push(address.to_owned());
                }
                return Ok(());
            }
        };
        if depth > DEPTH_MAX || self.routed.mailboxes.len() + self.routed.remote.len() > TARGETS_MAX {
            self.routed.lost.push(format!("{address}: too many aliases behind each other"));
            return Ok(());
        }
        if !self.visited.insert(&format!("{}@{}", local.to_lowercase(), domain.name.to_lowercase())) {
            // An alias that leads back to its own name means the user of that name.
            return match domain.alias(local).and_then(|_| domain.user(local)) {
                Some(user) => self.user(user, domain, depth, false),
                None => Ok(()),
            };
        }
        self.local_part(local, domain, depth)
    }

    /// `postmaster` without a domain is the primary's (RFC 5321 §4.1.1.3).
    fn primary_for(&self, name: &str) -> Option<&'a Domain> {
        self.config.registry.primary().filter(|_| name.eq_ignore_ascii_case("postmaster"))
    }

    fn local_part(&mut self, local: &str, domain: &'a Domain, depth: usize) -> Result<(), Unroutable> {
        if let Some(alias) = domain.alias(local) {
            return self.alias(alias, domain, depth);
        }
        if self.config.has_list(domain, local) {
            return self.list(local, ListRole::Post, domain);
        }
        if let Some(list) = local.to_ascii_lowercase().strip_suffix(BOUNCE_SUFFIX)
            && self.config.has_list(domain, list)
        {
            return self.list(list, ListRole::Bounce, domain);
        }
        if let Some(user) = domain.user(local) {
            return self.user(user, domain, depth, true);
        }
        // It stands in the headers of posts, so it works without its alias too.
        if local.eq_ignore_ascii_case(SERVER) {
            return self.list("", ListRole::Server, domain);
        }
        if let Some((id, mailbox)) = local.rsplit_once(self.config.registry.global.mailbox_split_char)
            && let Some(user) = domain.user(id)
        {
            return self.named_mailbox(user, mailbox, domain);
        }
        if let Some(nobody) = domain.alias("nobody") {
            return self.alias(nobody, domain, depth);
        }
        // A server must take mail for its postmaster (RFC 5321 §4.5.1), and IMail makes `root` with each primary domain.
        match local.eq_ignore_ascii_case("postmaster").then(|| self.root_user()).flatten() {
            Some((user, domain)) => self.user(user, domain, depth, false),
            None => Err(Unroutable::UnknownUser),
        }
    }

    fn root_user(&self) -> Option<(&'a User, &'a Domain)> {
        let primary = self.config.registry.primary()?;
        Some((primary.user("root")?, primary))
    }

    fn alias(&mut self, alias: &AliasEntry, domain: &'a Domain, depth: usize) -> Result<(), Unroutable> {
        if self.config.has_list(domain, alias.value.trim()) {
            return self.list(alias.value.trim(), ListRole::Post, domain);
        }
        match classify(&alias.value) {
            Alias::Standard(members) => {
                members.iter().for_each(|member| self.follow(&alias.name, member, domain, depth));
                Ok(())
            }
            Alias::Group(path) => {
                let Some(file) = self.config.group_file(domain, &path) else {
                    return Err(Unroutable::Unavailable("the file of this group alias was not found"));
                };
                let bytes = self.config.root().disk().read(&file, SETTINGS_FILE_MAX);
                let bytes = bytes
                    .map_err(|_| Unroutable::Unavailable("the file of this group alias cannot be read"))?;
                let group = Group::parse(bytes, self.config.registry.global.code_page);
                // While a client waits no more are looked at than are followed.
                if self.group_max.is_some_and(|most| group.members().nth(most).is_some()) {
                    self.routed.waiting.push(format!("{}@{}", alias.name, domain.name));
                    return Ok(());
                }
                group.members().for_each(|member| self.follow(&alias.name, &member, domain, depth));
                Ok(())
            }
            Alias::Program(_) => {
                self.routed.waiting.push(format!("{}@{}", alias.name, domain.name));
                Ok(())
            }
            Alias::ListServer(word) => self.list_server(word.as_deref().unwrap_or_default(), domain),
            Alias::Unclear => Err(Unroutable::Unavailable("this alias is not understood")),
        }
    }

    /// Follows one of several; what leads nowhere does not stop the others.
    fn follow(&mut self, from: &str, target: &str, domain: &'a Domain, depth: usize) {
        if let Err(error) = self.address(target, Some(domain), depth + 1) {
            self.routed.lost.push(format!("{from}: {target} leads nowhere ({error:?})"));
        }
    }

    fn list(&mut self, name: &str, role: ListRole, domain: &Domain) -> Result<(), Unroutable> {
        let list = ListTarget { domain: domain.name.clone(), list: name.to_ascii_lowercase(), role };
        if !self.routed.lists.contains(&list) {
            self.routed.lists.push(list);
        }
        Ok(())
    }

    /// `imailsrv.exe` with the name of a list, or of a domain, behind it.
    fn list_server(&mut self, word: &str, domain: &'a Domain) -> Result<(), Unroutable> {
        if self.config.has_list(domain, word) {
            return self.list(word, ListRole::Post, domain);
        }
        let domain = self.config.local_domain(word).unwrap_or(domain);
        self.list("", ListRole::Server, domain)
    }

    /// A user's own mailbox, after a look at `forward.ima`. `by_name`: his address leads to him, and not an alias.
    fn user(
        &mut self,
        user: &User,
        domain: &'a Domain,
        depth: usize,
        by_name: bool,
    ) -> Result<(), Unroutable> {
        if !self.visited.insert(&format!("user {}@{}", user.id.to_lowercase(), domain.name.to_lowercase())) {
            return Ok(());
        }
        let mut target = self.target(user, domain, MailboxName::inbox())?;
        let disk = self.config.root().disk();
        let forward = match disk.read(&target.dir.forward(), SETTINGS_FILE_MAX) {
            Ok(bytes) => Forward::parse(&bytes, self.config.registry.global.code_page).0,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Forward::default(),
            Err(_) => return Err(Unroutable::Unavailable("forward.ima cannot be read")),
        };
        let before = self.count();
        for address in &forward.targets {
            if address.eq_ignore_ascii_case(DISCARD) {
                self.routed.discarded = true;
            } else {
                self.follow(&user.id, address, domain, depth);
            }
        }
        // A forward that leads nowhere must not lose the mail.
        let keep =
            forward.keep || forward.targets.is_empty() || (self.count() == before && !self.routed.discarded);
        target.plain = by_name && forward.targets.is_empty();
        if keep {
            self.store(target);
        }
        Ok(())
    }

    fn count(&self) -> usize {
        self.routed.count()
    }

    /// `user-mailbox@domain`.
    fn named_mailbox(&mut self, user: &User, mailbox: &str, domain: &'a Domain) -> Result<(), Unroutable> {
        if mailbox.eq_ignore_ascii_case(DISCARD) {
            self.routed.discarded = true;
            return Ok(());
        }
        // What cannot be a mailbox name leads to the INBOX.
        let name = MailboxName::from_text(mailbox).unwrap_or_else(|_| MailboxName::inbox());
        let mut target = self.target(user, domain, name)?;
        if !is_usable(self.config, &target, self.may_create) {
            target.mailbox = MailboxName::inbox();
        }
        self.store(target);
        Ok(())
    }

    fn target(
        &self,
        user: &User,
        domain: &Domain,
        mailbox: MailboxName,
    ) -> Result<MailboxTarget, Unroutable> {
        let dir = self.config.user_dir(domain, &user.id);
        let dir = dir.ok_or(Unroutable::Unavailable("the directory of this domain was not found"))?;
        let (domain, user) = (domain.name.clone(), user.id.clone());
        Ok(MailboxTarget { domain, user, dir, mailbox, plain: false })
    }

    fn store(&mut self, target: MailboxTarget) {
        if self.visited.insert(&format!("{}/{}", target.dir.path(), target.mailbox.key())) {
            self.routed.mailboxes.push(target);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use layout::disk::sim::SimDisk;
    use layout::registry::doc::Doc;
    use layout::registry::model::Registry;
    use layout::root::Root;
    use std::path::Path;
    use std::sync::Arc;

    const REGISTRY: &str = r"[Global]
HostName=mail.example.jp
TopDir=C:\IMail
[Domains\192.0.2.10]
Official=mail.example.jp
Aliases=multi:example.jp
[Domains\$virtual001]
Official=example.org
[Domains\mail.example.jp]
Address=192.0.2.10
TopDir=C:\IMail
[Domains\mail.example.jp\Users\root]
[Domains\mail.example.jp\Users\Mike]
[Domains\mail.example.jp\Users\ann]
[Domains\mail.example.jp\Users\mr-fred]
[Domains\mail.example.jp\Users\fwd]
[Domains\mail.example.jp\Users\copy]
[Domains\mail.example.jp\Users\away]
[Domains\mail.example.jp\Users\lost]
[Domains\mail.example.jp\Users\loop]
[Domains\mail.example.jp\Users\_aliases]
postmaster=root
sales=mike, ann@example.jp; x@example.net
mixed=sales,ANN
ann-work=mike
circle=circle2
circle2=circle
self=self,mike
root=root, ann
staff=C:\IMail\staff.list
oldstaff=C:\Elsewhere\staff.list
gone=C:\IMail\gone.lst
fax=|C:\fax\fax.exe -x
imailsrv=|C:\IMail\imailsrv.exe mail.example.jp
news=news
odd=a|b
nowhere=nobody-here,nor-here
[Domains\example.org]
Address=$virtual001
TopDir=C:\IMail\example_org
[Domains\example.org\Users\bob]
[Domains\example.org\Users\_aliases]
nobody=bob
; end of registry.ini, keep this line last
";

    fn config() -> Config {
        let disk = SimDisk::new();
        let root = Root::new(Arc::new(disk.clone()), Path::new("/mail"));
        let top = root.domain(root.top().clone());
        let seed_user = |id: &str, file: &str, text: &[u8]| {
            let dir = top.user(&layout::name::UserId::parse(id).unwrap());
            disk.seed(&root.find(dir.path(), file), text);
        };
        seed_user("fwd", "forward.ima", b"ann, y@example.net\r\n\0");
        seed_user("copy", "forward.ima", b".,ann");
        seed_user("away", "forward.ima", b"NUL");
        seed_user("lost", "forward.ima", b"no-such-user");
        seed_user("loop", "forward.ima", b"loop2,loop");
        seed_user("mike", "Work.mbx", b"");
        disk.seed(
            &root.find(root.top(), "staff.list"),
            b"; people\r\nmike\r\nMike@example.jp\r\n\r\nz@example.net\r\n",
        );
        disk.seed(&root.find(&root.find(&root.find(root.top(), "Lists"), "news"), "users.lst"), b"");
        let (doc, complaints) = Doc::parse(REGISTRY.as_bytes().to_vec());
        assert!(complaints.is_empty(), "{complaints:?}");
        Config::new(&root, Registry::from_doc(&doc))
    }

    /// Mailboxes, then addresses elsewhere, then what waits.
    fn show(outcome: Result<Routed, Unroutable>) -> String {
        match outcome {
            Err(error) => format!("{error:?}"),
            Ok(routed) => {
                let mut parts: Vec<String> = routed.mailboxes.iter().map(|m| format!("{m:?}")).collect();
                parts.extend(routed.remote);
                parts.extend(routed.lists.iter().map(|list| format!("list {}", list.address())));
                parts.extend(routed.waiting.into_iter().map(|w| format!("waits {w}")));
                parts.extend(routed.discarded.then(|| "discarded".to_owned()));
                parts.join(" ")
            }
        }
    }

    /// A large group waits while a client does, and is followed later.
    #[test]
    fn large_groups_wait() {
        let config = config();
        let file = config.root().find(config.root().top(), "staff.list");
        for (members, waits) in [(GROUP_AT_ONCE, false), (GROUP_AT_ONCE + 1, true)] {
            let lines: String = (0..members).map(|number| format!("m{number}@example.net\r\n")).collect();
            layout::disk::replace(config.root().disk(), &file, lines.as_bytes()).unwrap();
            let now = route_now(&config, "oldstaff@example.jp", false).unwrap();
            assert_eq!(now.remote.len(), if waits { 0 } else { members });
            assert_eq!(now.waiting, if waits { vec!["oldstaff@mail.example.jp".to_owned()] } else { vec![] });
            let later = route(&config, "oldstaff@example.jp", false).unwrap();
            assert_eq!((later.remote.len(), later.waiting.len()), (members, 0));
        }
    }

    #[test]
    fn where_addresses_lead() {
        let config = config();
        const MIKE: &str = "Mike@mail.example.jp/INBOX";
        const ANN: &str = "ann@mail.example.jp/INBOX";
        for (address, expected) in [
            ("mike@mail.example.jp", MIKE.to_owned()),
            ("MIKE@EXAMPLE.JP", MIKE.to_owned()),
            ("\"mike\"@example.jp", MIKE.to_owned()),
            ("\"m\\ike\"@example.jp", MIKE.to_owned()),
            ("\"mike\"@ｅｘａｍｐｌｅ。jp", MIKE.to_owned()),
            ("mike@[192.0.2.10]", MIKE.to_owned()),
            ("mike@[192.0.2.11]", "NotLocal(\"[192.0.2.11]\")".to_owned()),
            ("\"../../etc/passwd\"@example.jp", "UnknownUser".to_owned()),
            ("postmaster", format!("root@mail.example.jp/INBOX {ANN}")),
            ("postmaster@mail.example.jp", format!("root@mail.example.jp/INBOX {ANN}")),
            ("sales@example.jp", format!("{MIKE} {ANN} x@example.net")),
            ("mixed@example.jp", format!("{MIKE} {ANN} x@example.net")),
            ("ann-work@example.jp", MIKE.to_owned()),
            ("mike-work@example.jp", "Mike@mail.example.jp/work".to_owned()),
            ("mike-WORK@example.jp", "Mike@mail.example.jp/WORK".to_owned()),
            ("mike-new@example.jp", MIKE.to_owned()),
            ("mike-../x@example.jp", MIKE.to_owned()),
            ("mike-nul@example.jp", "discarded".to_owned()),
            ("mr-fred@example.jp", "mr-fred@mail.example.jp/INBOX".to_owned()),
            ("mr-fred-a@example.jp", "mr-fred@mail.example.jp/INBOX".to_owned()),
            ("fwd@example.jp", format!("{ANN} y@example.net")),
            ("copy@example.jp", format!("{ANN} copy@mail.example.jp/INBOX")),
            ("away@example.jp", "discarded".to_owned()),
            ("lost@example.jp", "lost@mail.example.jp/INBOX".to_owned()),
            ("loop@example.jp", "loop@mail.example.jp/INBOX".to_owned()),
            ("circle@example.jp", "UnknownUser".to_owned()),
            ("self@example.jp", MIKE.to_owned()),
            ("root@example.jp", format!("root@mail.example.jp/INBOX {ANN}")),
            ("staff@example.jp", format!("{MIKE} z@example.net")),
            ("oldstaff@example.jp", format!("{MIKE} z@example.net")),
            ("fax@example.jp", "waits fax@mail.example.jp".to_owned()),
            ("nowhere@example.jp", "UnknownUser".to_owned()),
            ("nobody-here@example.jp", "UnknownUser".to_owned()),
            ("bob@example.org", "bob@example.org/INBOX".to_owned()),
            ("anything@example.org", "bob@example.org/INBOX".to_owned()),
            ("x@example.com", "NotLocal(\"example.com\")".to_owned()),
            ("x@", "NotLocal(\"\")".to_owned()),
            ("@example.jp", "Syntax".to_owned()),
            ("x", "Syntax".to_owned()),
            ("../../etc/passwd@example.jp", "UnknownUser".to_owned()),
        ] {
            assert_eq!(show(route(&config, address, false)), expected, "{address}");
        }
        for (address, expected) in [
            ("news@example.jp", "news@mail.example.jp"),
            ("News-Bounce@example.jp", "news-bounce@mail.example.jp"),
            ("imailsrv@example.jp", "imailsrv@mail.example.jp"),
            ("IMAILSRV@example.org", "imailsrv@example.org"),
        ] {
            assert_eq!(show(route(&config, address, false)), format!("list {expected}"), "{address}");
        }
        for address in ["odd@example.jp", "gone@example.jp"] {
            assert!(matches!(route(&config, address, false), Err(Unroutable::Unavailable(_))), "{address}");
        }
        assert_eq!(show(route(&config, "mike-new@example.jp", true)), "Mike@mail.example.jp/new");
    }
}
