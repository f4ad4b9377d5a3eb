//! The typed snapshot of a registry that server and tools read: built from a [`Doc`] in one pass, never changed, shared.
//!
//! Key structure as in exports of 8.x and the vendor's help: below `Domains` stand mapping keys, named by an IP address or
//! `$virtual` and a number, whose `Official` names a domain and whose `Aliases` holds the domain's other names; and the
//! domains' own keys, whose `Address` names the mapping key. Users are keys below `Users`; `Users\_aliases` holds aliases.
//!
//! Building never fails: what is missing has its default, and what is odd becomes a line in [`Registry::notes`].

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use chrono::NaiveTime;

use super::doc::Doc;
use super::value::Written;
use super::{fold, same_name};
use crate::name::domain_key;
use crate::password::{self, Secret, Stored};
use crate::root::{PathMap, Root};
use crate::text::CodePage;

/// Bits of a user's `Flags`. Those that are not named here are kept and mean nothing to us.
pub mod flags {
    /// No login by POP3, IMAP4 or SMTP; mail is still taken (seen in exports; manual 2-1 (13)).
    pub const DISABLED: u32 = 0x0001;
    /// Hidden from finger, LDAP and whois (seen in exports).
    pub const HIDDEN: u32 = 0x0002;
    /// May not change the password (seen in exports).
    pub const NO_PASSWORD_CHANGE: u32 = 0x0004;
    /// Web access allowed: a set bit allows (in every value seen).
    pub const WEB: u32 = 0x0080;
    /// Administrator of the domain (seen in exports; provisioning scripts write 384 = this and [`WEB`]).
    pub const HOST_ADMIN: u32 = 0x0100;
    /// Administrator of the server (seen in exports).
    pub const SYSTEM_ADMIN: u32 = 0x0200;
    /// Administrator of lists (seen in exports).
    pub const LIST_ADMIN: u32 = 0x0400;
    /// May not change LDAP attributes (seen in exports).
    pub const NO_LDAP_CHANGE: u32 = 0x1000;
    /// What a new user has: everything allowed (`adduser`'s defaults).
    pub const NEW_USER: u32 = WEB;
}

/// Key of server-wide values.
pub const GLOBAL: &str = "Global";
/// Key above all domains.
pub const DOMAINS: &str = "Domains";
/// Key of users below a domain's key.
pub const USERS: &str = "Users";
/// Key of aliases below `Users`: never a user (seen in exports).
pub const ALIASES_KEY: &str = "_aliases";
/// Section of old and new path prefixes: ours.
pub const PATHS: &str = "Paths";
/// Section of fixed routes: ours.
pub const ROUTES: &str = "Routes";
/// Section that remembers where imported keys stood: ours.
pub const IMPORTED: &str = "Imported";
/// Stands for the services key of Windows.
pub const SERVICES: &str = "Services";
/// What the name of a mapping key without an IP address begins with; three or more digits follow.
pub const VIRTUAL_PREFIX: &str = "$virtual";
/// Every one of these separates user and domain in a login if `HostDelimiters` is absent: the sets of both generations
/// of the guide together (`@#$%&*` and `@%*:$&`); none of them can stand in a user ID.
pub const DEFAULT_HOST_DELIMITERS: &str = "@%*:$&#";

/// Path of a domain's key.
pub fn domain_path(domain: &str) -> String {
    format!("{DOMAINS}\\{domain}")
}

/// Path of a user's key.
pub fn user_path(domain: &str, user: &str) -> String {
    format!("{DOMAINS}\\{domain}\\{USERS}\\{user}")
}

/// Path of the key that holds a domain's aliases.
pub fn aliases_path(domain: &str) -> String {
    format!("{DOMAINS}\\{domain}\\{USERS}\\{ALIASES_KEY}")
}

/// Path of a service's parameters, by the Windows name of the service.
pub fn service_path(service: &str) -> String {
    format!("{SERVICES}\\{service}\\Parameters")
}

/// Where a setting stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `[Global]`.
    Global,
    /// The parameters of `SMTPD32`.
    Smtp,
    /// The parameters of `POP3D32` (this service name is inferred from the other two).
    Pop3,
    /// The parameters of `IMAP4D32`.
    Imap,
    /// The parameters of each of the three services.
    EachService,
}

/// One setting: its name, its other names, and its value where it is absent.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Where it stands.
    pub place: Place,
    /// The name that we write.
    pub name: &'static str,
    /// Other names under which it is read; room for IMail's own, where it is not known today.
    pub synonyms: &'static [&'static str],
    /// What counts if it is absent or not understood.
    pub default: &'static str,
    /// The words that are allowed, if it is one of a few; switches are 0 and 1.
    pub words: &'static [&'static str],
}

const fn row(
    place: Place,
    name: &'static str,
    default: &'static str,
    words: &'static [&'static str],
) -> Setting {
    Setting { place, name, synonyms: &[], default, words }
}

const SWITCH: &[&str] = &["0", "1"];

/// How old logs and left-overs in the spool must be, in days, for the server to delete them by itself; 0 = never, as IMail, whose
/// logs stay until somebody runs `isplcln`. The name is ours.
pub const CLEAN_AFTER_DAYS: &str = "CleanAfterDays";
/// When it does so: the time of the day, `HH:MM`. The name is ours.
pub const CLEAN_AT: &str = "CleanAt";

/// Every setting of the server and its services. `HostName` to `DelayBetweenRCPT`, `IdleSleepInterval` and `BlockRuleHdr` are IMail's
/// names; the others are ours, put where IMail would keep them, because its names for these settings are not known.
#[rustfmt::skip]
pub const SETTINGS: &[Setting] = &[
    row(Place::Global, "HostName", "", &[]),
    row(Place::Global, "TopDir", "", &[]),
    row(Place::Global, "HostDelimiters", DEFAULT_HOST_DELIMITERS, &[]),
    row(Place::Global, "MailBoxSplitChar", "-", &[]),
    row(Place::Smtp, "DelayBetweenRCPT", "0", &[]),
    row(Place::Imap, "IdleSleepInterval", "10000", &[]),
    row(Place::Global, "ReturnToIMail", "0", SWITCH),
    row(Place::Global, "CodePage", "932", &[]),
    row(Place::Global, "PlainLogin", "Local", &["Loopback", "Local", "Anyone"]),
    row(Place::Global, "LogDir", "", &[]),
    row(Place::Global, "LogServer", "", &[]),
    row(Place::Global, "LogClients", "", &[]),
    row(Place::Global, CLEAN_AFTER_DAYS, "0", &[]),
    row(Place::Global, CLEAN_AT, "03:00", &[]),
    row(Place::Global, "GateHost", "", &[]),
    row(Place::Global, "SendAllThroughGate", "0", SWITCH),
    row(Place::Global, "AllowedPrograms", "", &[]),
    row(Place::Global, "BlockRuleHdr", "0", &[]),
    row(Place::EachService, "LogTo", "Sys", &["None", "Sys", "LogServer"]),
    row(Place::EachService, "DebugMessages", "0", SWITCH),
    row(Place::EachService, "HelloMessage", "", &[]),
    row(Place::EachService, "AccessMode", "AllExcept", &["AllExcept", "NoneExcept"]),
    row(Place::EachService, "AccessList", "", &[]),
    row(Place::Smtp, "RelayMode", "None", &["None", "Addresses", "LocalUsers", "LocalHosts", "Anyone"]),
    row(Place::Smtp, "RelayAddresses", "", &[]),
    row(Place::Smtp, "MaxRecipients", "0", &[]),
    row(Place::Smtp, "EnableVrfy", "0", SWITCH),
    row(Place::Smtp, "EnableExpn", "0", SWITCH),
    row(Place::Smtp, "QueueTimer", "30", &[]),
    row(Place::Smtp, "MaxTries", "20", &[]),
    row(Place::Smtp, "RetrySchedule", "Fixed", &["Fixed", "Growing"]),
    row(Place::Smtp, "DeliveryThreads", "30", &[]),
    row(Place::Smtp, "RetryThreads", "15", &[]),
    row(Place::Smtp, "BounceFormat", "IMail", &["IMail", "Report"]),
    row(Place::Smtp, "VerboseLogging", "0", SWITCH),
    row(Place::Pop3, "EnableApop", "0", SWITCH),
];

/// From whom a login without TLS is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PlainLogin {
    /// Clients on this machine.
    Loopback,
    /// Also clients with private and link-local addresses.
    #[default]
    Local,
    /// Everybody.
    Anyone,
}

/// Where a service logs (the manual's three choices, manual 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LogTo {
    /// Nowhere.
    None,
    /// The `sys` file of the day.
    #[default]
    Sys,
    /// The log server.
    LogServer,
}

/// Which peers a service talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AccessMode {
    /// All but those in the list.
    #[default]
    AllExcept,
    /// Only those in the list.
    NoneExcept,
}

/// For whom mail is relayed without a login (manual 6-1-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RelayMode {
    /// Nobody.
    #[default]
    None,
    /// Peers whose address is in the list.
    Addresses,
    /// Senders that are users or aliases here.
    LocalUsers,
    /// Senders whose domain is served here.
    LocalHosts,
    /// Everybody.
    Anyone,
}

/// When a message that could not be delivered is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RetrySchedule {
    /// Every `QueueTimer`, as IMail does.
    #[default]
    Fixed,
    /// At growing intervals.
    Growing,
}

/// What a bounce looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BounceFormat {
    /// IMail's text.
    #[default]
    IMail,
    /// A delivery status report (RFC 3464).
    Report,
}

/// Values of `[Global]`.
#[derive(Clone, Debug, Default)]
pub struct Global {
    /// Official name of the primary domain; empty if absent.
    pub host_name: String,
    /// The IMail top directory as the old server spelled it; empty if absent.
    pub top_dir: String,
    /// Every character that separates user and domain in a login; `@` is always among them.
    pub host_delimiters: String,
    /// Separates user and mailbox in `user-mailbox`.
    pub mailbox_split_char: char,
    /// Must the tree stay readable by IMail? 1 after an import, 0 in a new tree.
    pub return_to_imail: bool,
    /// Code page of text files that are not UTF-8.
    pub code_page: CodePage,
    /// From whom a login without TLS is taken.
    pub plain_login: PlainLogin,
    /// Directory of the logs, if not `logs` in the IMail directory.
    pub log_dir: Option<String>,
    /// Address of the log server, with or without a port.
    pub log_server: Option<String>,
    /// The addresses and networks from which our own log server takes lines; empty: this machine.
    pub log_clients: Vec<String>,
    /// [`CLEAN_AFTER_DAYS`].
    pub clean_after_days: u32,
    /// [`CLEAN_AT`].
    pub clean_at: NaiveTime,
    /// The host that takes outgoing mail that cannot be delivered (or all, see the next).
    pub gate_host: Option<String>,
    /// Does all outgoing mail go to the gate host?
    pub send_all_through_gate: bool,
    /// Full paths of programs that program aliases may run.
    pub allowed_programs: Vec<String>,
    /// Is `X-IMail-Rule` left out? (`BlockRuleHdr`, not zero: IMail 11 help.)
    pub block_rule_header: bool,
}

/// Settings that every service has.
#[derive(Clone, Debug, Default)]
pub struct Service {
    /// Where it logs.
    pub log_to: LogTo,
    /// Is every command of a client and every reply logged?
    pub debug_messages: bool,
    /// Replaces the text of the greeting; at most 400 characters (a longer one is ignored, as the 8.1 guide says).
    pub hello_message: Option<String>,
    /// Which peers it talks to.
    pub access_mode: AccessMode,
    /// The addresses that the mode speaks of.
    pub access_list: Vec<String>,
}

/// Settings of SMTP alone.
#[derive(Clone, Debug, Default)]
pub struct Smtp {
    /// For whom mail is relayed without a login.
    pub relay_mode: RelayMode,
    /// The addresses for [`RelayMode::Addresses`].
    pub relay_addresses: Vec<String>,
    /// Most recipients of a message; 0 = no limit of its own.
    pub max_recipients: u32,
    /// Is VRFY answered?
    pub enable_vrfy: bool,
    /// Is EXPN answered?
    pub enable_expn: bool,
    /// Minutes between two tries.
    pub queue_timer_minutes: u32,
    /// Tries before a message is returned.
    pub max_tries: u32,
    /// When tries follow each other.
    pub retry_schedule: RetrySchedule,
    /// Most deliveries at a time, first tries.
    pub delivery_threads: u32,
    /// Most deliveries at a time, later tries.
    pub retry_threads: u32,
    /// What a bounce looks like.
    pub bounce_format: BounceFormat,
    /// Are the decisions of the queue logged, and the dialogue with other servers?
    pub verbose_logging: bool,
    /// Milliseconds to wait between the recipients of relayed mail.
    pub delay_between_rcpt_ms: u32,
}

/// Settings of the services.
#[derive(Clone, Debug, Default)]
pub struct Services {
    /// `SMTPD32`, what all services have.
    pub smtpd: Service,
    /// `SMTPD32`, its own.
    pub smtp: Smtp,
    /// `POP3D32`.
    pub pop3d: Service,
    /// Is APOP offered? It changes the greeting.
    pub enable_apop: bool,
    /// `IMAP4D32`.
    pub imapd: Service,
    /// Milliseconds between two looks for new mail in IDLE (vendor's help: 10000 if absent).
    pub idle_sleep_interval_ms: u32,
}

/// A user.
#[derive(Clone, Debug)]
pub struct User {
    /// The user ID as its key is spelled.
    pub id: String,
    /// `MailAddr`: `user@domain`, used as the reply-to address.
    pub mail_addr: String,
    /// The real name.
    pub full_name: String,
    /// The stored password; empty if there is none.
    pub password: Secret,
    /// Bits of [`flags`].
    pub flags: u32,
    /// Most bytes of all mailboxes; 0 = the domain's.
    pub max_size: u64,
    /// Most messages of all mailboxes; 0 = the domain's.
    pub max_msgs: u64,
    /// Time of the last login in seconds since 1970, where the registry holds one.
    pub last_login: Option<u64>,
}

impl User {
    /// Is this bit of `Flags` set?
    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// The ID that the stored password was coded with ([`password::coding_id`]).
    pub fn password_id(&self) -> &str {
        password::coding_id(&self.id, &self.mail_addr, self.password.expose())
    }

    /// The kind of the stored password.
    pub fn password_kind(&self) -> Stored {
        password::classify(self.password_id(), self.password.expose())
    }

    /// Is `offer` the password?
    pub fn verify(&self, offer: &str) -> bool {
        password::verify(self.password_id(), self.password.expose(), offer)
    }
}

/// An alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AliasEntry {
    /// The name as spelled.
    pub name: String,
    /// The value as it stands; [`alias::classify`](super::alias::classify) says what it is.
    pub value: String,
}

/// A domain.
#[derive(Clone, Debug, Default)]
pub struct Domain {
    /// The official name as its key is spelled.
    pub name: String,
    /// The name of its mapping key: an IP address or `$virtualNNN`; empty if it has none.
    pub address: String,
    /// Its other names, as spelled.
    pub aliases_of_domain: Vec<String>,
    /// The directory with its `users`, `lists` and `web`, as the old server spelled it; empty = the IMail directory.
    pub top_dir: String,
    /// Most users; 0 = no limit. `root` does not count.
    pub max_users: u64,
    /// Most bytes for each user who has no limit; 0 = none.
    pub max_size: u64,
    /// Most messages for each user who has no limit; 0 = none.
    pub max_msgs: u64,
    /// Largest message taken, in bytes; 0 = no limit of its own.
    pub max_message_size: u64,
    /// Largest message that its users may send to other domains, in bytes; 0 = no limit of its own.
    pub max_outbound_size: u64,
    /// Language of texts to its users (`ja`, `en`).
    pub language: Option<String>,
    /// By user ID in lower case.
    pub users: BTreeMap<Box<str>, User>,
    /// By name in lower case.
    pub aliases: BTreeMap<Box<str>, AliasEntry>,
    /// The other domain that has this one's name as an alias: that one gets the mail, and this one is not served.
    pub hidden_by: Option<String>,
    /// `Address` and `Official` as the domain's own key has them, for `regcheck`.
    pub own_address: Option<String>,
}

impl Domain {
    /// The IP address, unless it is a virtual domain.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.parse().ok()
    }

    /// Has it no IP address of its own?
    pub fn is_virtual(&self) -> bool {
        self.ip().is_none()
    }

    /// The user of this ID, in any case.
    pub fn user(&self, id: &str) -> Option<&User> {
        self.users.get(&*fold(id))
    }

    /// The alias of this name, in any case.
    pub fn alias(&self, name: &str) -> Option<&AliasEntry> {
        self.aliases.get(&*fold(name))
    }

    /// Most bytes for `user`: the user's own limit, else the domain's; 0 = none.
    pub fn max_size_of(&self, user: &User) -> u64 {
        if user.max_size == 0 { self.max_size } else { user.max_size }
    }

    /// Most messages for `user`: the user's own limit, else the domain's; 0 = none.
    pub fn max_msgs_of(&self, user: &User) -> u64 {
        if user.max_msgs == 0 { self.max_msgs } else { user.max_msgs }
    }
}

/// A mapping key: an address, and the domain that has it.
#[derive(Clone, Debug, Default)]
pub struct Mapping {
    /// The name of the key: an IP address or `$virtualNNN`.
    pub address: String,
    /// The official name of the domain.
    pub official: String,
    /// Other names of that domain.
    pub aliases: Vec<String>,
}

/// The registry at one moment.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// Values of `[Global]`.
    pub global: Global,
    /// Lines of `[Paths]`: old prefix and target.
    pub paths: Vec<(String, String)>,
    /// Lines of `[Routes]`: domain and `host:port`.
    pub routes: Vec<(String, String)>,
    /// Settings of the services.
    pub services: Services,
    /// In the order of the file.
    pub domains: Vec<Domain>,
    /// In the order of their names.
    pub mappings: Vec<Mapping>,
    /// Is there a `Global` key?
    pub has_global: bool,
    /// Is there a `Domains` key, or any below it?
    pub has_domains: bool,
    /// Has the file its end line?
    pub has_end_line: bool,
    /// What is odd, for the admin.
    pub notes: Vec<String>,
    names: HashMap<String, usize>,
}

impl Registry {
    /// Reads everything that server and tools need out of `doc`.
    pub fn from_doc(doc: &Doc) -> Registry {
        let mut builder = Builder::default();
        for section in doc.sections() {
            builder.section(section);
        }
        let mut registry = builder.finish();
        registry.has_end_line = doc.has_end_line();
        registry.has_global = doc.has_section(GLOBAL);
        registry.has_domains = doc.has_section(DOMAINS) || !doc.children(DOMAINS).is_empty();
        registry.paths = pairs(doc, PATHS);
        registry.routes = pairs(doc, ROUTES);
        let mut notes = std::mem::take(&mut registry.notes);
        registry.global = global(doc, &mut notes);
        registry.services = services(doc, &mut notes);
        registry.notes = notes;
        registry
    }

    /// Where the paths of this registry lead in the tree at `root`.
    pub fn path_map(&self, root: &Root) -> PathMap {
        let top_dir = Some(self.global.top_dir.as_str()).filter(|dir| !dir.is_empty());
        PathMap::new(root, top_dir, self.paths.iter().map(|(old, target)| (old.as_str(), target.as_str())))
    }

    /// The domain of this name, official or other, as [`domain_key`] compares names.
    pub fn domain_by_name(&self, name: &str) -> Option<&Domain> {
        self.domains.get(*self.names.get(&*domain_key(name))?)
    }

    /// The domain that has this address of the server.
    pub fn domain_by_address(&self, address: IpAddr) -> Option<&Domain> {
        let address = address.to_canonical();
        let is_it = |text: &str| text.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical() == address);
        let mapping = self.mappings.iter().find(|mapping| is_it(&mapping.address));
        mapping.and_then(|mapping| self.domain_by_name(&mapping.official)).or_else(|| {
            self.domains.iter().find(|domain| domain.hidden_by.is_none() && is_it(&domain.address))
        })
    }

    /// The primary domain: the one that `HostName` names, else the first.
    pub fn primary(&self) -> Option<&Domain> {
        let named = self.domains.iter().find(|domain| same_name(&domain.name, &self.global.host_name));
        named.or_else(|| self.domains.first())
    }

    /// How many users there are in all domains.
    pub fn user_count(&self) -> usize {
        self.domains.iter().map(|domain| domain.users.len()).sum()
    }
}

/// Gathers domains and mappings while the sections pass by.
#[derive(Default)]
struct Builder {
    domains: Vec<Domain>,
    mappings: BTreeMap<String, Mapping>,
    by_name: HashMap<String, usize>,
    /// The domain of the section before, which most sections share.
    last: Option<(String, usize)>,
    /// `Official`-less `Aliases` of the domains' own keys.
    own_aliases: HashMap<usize, Vec<String>>,
}

impl Builder {
    fn section(&mut self, section: super::doc::SectionView<'_>) {
        let mut parts = section.path().split('\\');
        if !parts.next().is_some_and(|part| same_name(part, DOMAINS)) {
            return;
        }
        let Some(name) = parts.next().filter(|name| !name.is_empty()) else { return };
        let rest = (parts.next(), parts.next(), parts.next());
        if is_mapping_name(name) {
            if rest.0.is_none() {
                self.mapping(name, section);
            }
            return;
        }
        let at = self.domain(name);
        match rest {
            (None, _, _) => self.domain_values(at, section),
            (Some(users), Some(user), None) if same_name(users, USERS) => {
                let Some(domain) = self.domains.get_mut(at) else { return };
                if same_name(user, ALIASES_KEY) {
                    read_aliases(domain, section);
                } else if !user.is_empty() {
                    read_user(domain, user, section);
                }
            }
            _ => {}
        }
    }

    fn domain(&mut self, name: &str) -> usize {
        if let Some((last, at)) = &self.last
            && last == name
        {
            return *at;
        }
        let at = *self.by_name.entry(fold(name).into_owned()).or_insert(self.domains.len());
        if at == self.domains.len() {
            self.domains.push(Domain { name: name.to_owned(), ..Domain::default() });
        }
        self.last = Some((name.to_owned(), at));
        at
    }

    fn mapping(&mut self, name: &str, section: super::doc::SectionView<'_>) {
        let entry = self.mappings.entry(fold(name).into_owned());
        let mapping = entry.or_insert_with(|| Mapping { address: name.to_owned(), ..Mapping::default() });
        for (name, written) in section.values() {
            if same_name(&name, "Official") {
                mapping.official = text(&written);
            } else if same_name(&name, "Aliases") {
                mapping.aliases = written.as_list().unwrap_or_default();
            }
        }
    }

    fn domain_values(&mut self, at: usize, section: super::doc::SectionView<'_>) {
        let Some(domain) = self.domains.get_mut(at) else { return };
        for (name, written) in section.values() {
            match fold(&name).as_ref() {
                "address" => domain.own_address = Some(text(&written)),
                "topdir" => domain.top_dir = text(&written),
                "maxusers" => domain.max_users = written.as_number().unwrap_or(0),
                "maxsize" => domain.max_size = written.as_number().unwrap_or(0),
                "maxmsgs" => domain.max_msgs = written.as_number().unwrap_or(0),
                "maxmessagesize" => domain.max_message_size = written.as_number().unwrap_or(0),
                "maxoutboundsize" => domain.max_outbound_size = written.as_number().unwrap_or(0),
                "language" => domain.language = Some(text(&written)).filter(|text| !text.is_empty()),
                "aliases" => {
                    self.own_aliases.insert(at, written.as_list().unwrap_or_default());
                }
                _ => {}
            }
        }
    }

    /// Joins domains and mapping keys, and makes the index of names.
    fn finish(mut self) -> Registry {
        let mut notes = Vec::new();
        let mappings: Vec<Mapping> = std::mem::take(&mut self.mappings).into_values().collect();
        for (at, domain) in self.domains.iter_mut().enumerate() {
            join(domain, &mappings, self.own_aliases.get(&at), &mut notes);
        }
        // A name may stand there in two spellings, as people read it and in A-labels: then the first one counts.
        let mut names = HashMap::with_capacity(self.by_name.len());
        for (at, domain) in self.domains.iter().enumerate() {
            names.entry(domain_key(&domain.name).into_owned()).or_insert(at);
        }
        let mut registry = Registry { mappings, domains: self.domains, names, ..Registry::default() };
        registry.index_aliases(&mut notes);
        registry.notes = notes;
        registry
    }
}

impl Registry {
    /// A name that is a domain and also another domain's alias belongs to the other: such left-overs occur in real trees,
    /// and the migration tool that was run on them resolved them this way.
    fn index_aliases(&mut self, notes: &mut Vec<String>) {
        let mut taken: HashMap<String, usize> = HashMap::new();
        for (at, domain) in self.domains.iter().enumerate() {
            for alias in &domain.aliases_of_domain {
                let key = domain_key(alias).into_owned();
                match taken.get(&key).and_then(|other| self.domains.get(*other)) {
                    Some(other) if !same_name(&other.name, &domain.name) => notes.push(format!(
                        "{alias} is an alias of the domains {} and {}: the first one gets its mail",
                        other.name, domain.name
                    )),
                    Some(_) => {}
                    None if same_name(alias, &domain.name) => {}
                    None => {
                        taken.insert(key, at);
                    }
                }
            }
        }
        for (key, at) in taken {
            let owner = self.domains.get(at).map(|domain| domain.name.clone()).unwrap_or_default();
            if let Some(hidden) = self.names.insert(key, at).and_then(|before| self.domains.get_mut(before)) {
                notes.push(format!(
                    "the domain {} is also an alias of {owner}: {owner} gets its mail",
                    hidden.name
                ));
                hidden.hidden_by = Some(owner);
            }
        }
        notes.sort();
    }
}

/// Is this key below `Domains` a mapping key? (Three kinds of keys were seen there.)
pub fn is_mapping_name(name: &str) -> bool {
    let is_virtual =
        name.get(..VIRTUAL_PREFIX.len()).is_some_and(|head| head.eq_ignore_ascii_case(VIRTUAL_PREFIX));
    is_virtual || name.parse::<IpAddr>().is_ok()
}

/// Finds the mapping key of a domain: by its `Address`, else by `Official`; and its other names: those of its mapping
/// keys first, then those of its own key (where versions keep them there).
fn join(domain: &mut Domain, mappings: &[Mapping], own: Option<&Vec<String>>, notes: &mut Vec<String>) {
    let mine: Vec<&Mapping> =
        mappings.iter().filter(|mapping| same_name(&mapping.official, &domain.name)).collect();
    domain.address = match &domain.own_address {
        Some(address) if !address.is_empty() => address.clone(),
        _ => {
            let found = mine.first().map(|mapping| mapping.address.clone()).unwrap_or_default();
            if found.is_empty() {
                notes.push(format!(
                    "the domain {} has no address: taken as one without an IP address",
                    domain.name
                ));
            }
            found
        }
    };
    let (named, others): (Vec<&Mapping>, Vec<&Mapping>) =
        mine.into_iter().partition(|mapping| same_name(&mapping.address, &domain.address));
    let of_mappings = named.iter().chain(&others).flat_map(|mapping| &mapping.aliases);
    for alias in of_mappings.chain(own.into_iter().flatten()) {
        if !domain.aliases_of_domain.iter().any(|other| same_name(other, alias)) {
            domain.aliases_of_domain.push(alias.clone());
        }
    }
}

fn read_aliases(domain: &mut Domain, section: super::doc::SectionView<'_>) {
    for (name, written) in section.values() {
        if !name.is_empty() {
            let entry = AliasEntry { value: text(&written), name: name.into_owned() };
            domain.aliases.insert(fold(&entry.name).into(), entry);
        }
    }
}

fn read_user(domain: &mut Domain, id: &str, section: super::doc::SectionView<'_>) {
    let user = domain.users.entry(fold(id).into()).or_insert_with(|| User {
        id: id.to_owned(),
        mail_addr: String::new(),
        full_name: String::new(),
        password: Secret::new(""),
        flags: 0,
        max_size: 0,
        max_msgs: 0,
        last_login: None,
    });
    for (name, written) in section.values() {
        match name.len() {
            8 if same_name(&name, "MailAddr") => user.mail_addr = text(&written),
            8 if same_name(&name, "FullName") => user.full_name = text(&written),
            8 if same_name(&name, "Password") => user.password = Secret::new(text(&written)),
            5 if same_name(&name, "Flags") => user.flags = number32(&written),
            7 if same_name(&name, "MaxSize") => user.max_size = written.as_number().unwrap_or(0),
            7 if same_name(&name, "MaxMsgs") => user.max_msgs = written.as_number().unwrap_or(0),
            9 if same_name(&name, "LastLogin") => {
                user.last_login = written.as_number().filter(|time| *time != 0)
            }
            _ => {}
        }
    }
}

fn text(written: &Written<'_>) -> String {
    written.as_text().map(Cow::into_owned).unwrap_or_default()
}

fn number32(written: &Written<'_>) -> u32 {
    written.as_number().and_then(|number| u32::try_from(number).ok()).unwrap_or(0)
}

/// The lines of a section as name and text.
fn pairs(doc: &Doc, path: &str) -> Vec<(String, String)> {
    doc.values(path).into_iter().map(|(name, written)| (name.into_owned(), text(&written))).collect()
}

/// The values of one key, read by the rows of [`SETTINGS`].
struct Values<'a> {
    place: Place,
    key: &'a str,
    values: Vec<(Cow<'a, str>, Written<'a>)>,
    notes: &'a mut Vec<String>,
}

impl Values<'_> {
    fn setting(&self, name: &str) -> Option<&'static Setting> {
        let here = |place: Place| {
            place == self.place || (place == Place::EachService && self.place != Place::Global)
        };
        SETTINGS.iter().find(|setting| setting.name == name && here(setting.place))
    }

    fn find(&self, setting: &Setting) -> Option<&Written<'_>> {
        let names = std::iter::once(setting.name).chain(setting.synonyms.iter().copied());
        names
            .filter_map(|name| self.values.iter().find(|(other, _)| same_name(other, name)))
            .map(|(_, value)| value)
            .next()
    }

    fn odd(&mut self, name: &str, expected: &str, default: &str) {
        self.notes.push(format!("[{}] {name}: expected {expected}; {default} is used", self.key));
    }

    fn text(&mut self, name: &str) -> String {
        let Some(setting) = self.setting(name) else { return String::new() };
        let found = self.find(setting).and_then(|written| written.as_text()).map(Cow::into_owned);
        found.unwrap_or_else(|| setting.default.to_owned())
    }

    fn optional(&mut self, name: &str) -> Option<String> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    fn number(&mut self, name: &str) -> u32 {
        let Some(setting) = self.setting(name) else { return 0 };
        let default = setting.default.parse().unwrap_or(0);
        match self.find(setting).map(|written| written.as_number()) {
            None => default,
            Some(Some(number)) => u32::try_from(number).unwrap_or(u32::MAX),
            Some(None) => {
                self.odd(name, "a number", setting.default);
                default
            }
        }
    }

    /// A time of the day, `HH:MM`.
    fn time(&mut self, name: &str) -> NaiveTime {
        let parse = |text: &str| NaiveTime::parse_from_str(text.trim(), "%H:%M").ok();
        let default = self.setting(name).map_or("", |setting| setting.default);
        let found = self.text(name);
        parse(&found).unwrap_or_else(|| {
            self.odd(name, "a time of the day such as 03:00", default);
            parse(default).unwrap_or_default()
        })
    }

    fn switch(&mut self, name: &str) -> bool {
        self.number(name) != 0
    }

    /// The place of the value among the words of the setting.
    fn word(&mut self, name: &str) -> &'static str {
        let Some(setting) = self.setting(name) else { return "" };
        let Some(found) = self.find(setting).map(text).filter(|text| !text.is_empty()) else {
            return setting.default;
        };
        match setting.words.iter().find(|word| word.eq_ignore_ascii_case(found.trim())) {
            Some(word) => word,
            None => {
                self.odd(name, &format!("one of {}", setting.words.join(", ")), setting.default);
                setting.default
            }
        }
    }

    /// A list: `REG_MULTI_SZ`, or a text split at these characters.
    fn list(&mut self, name: &str, split_at: &[char]) -> Vec<String> {
        let Some(setting) = self.setting(name) else { return Vec::new() };
        match self.find(setting) {
            Some(Written::Multi(items, _)) => items.iter().map(|item| item.to_string()).collect(),
            Some(written) => {
                let text = text(written);
                let items = text.split(split_at).map(str::trim).filter(|item| !item.is_empty());
                items.map(str::to_owned).collect()
            }
            None => Vec::new(),
        }
    }
}

fn global(doc: &Doc, notes: &mut Vec<String>) -> Global {
    let mut values = Values { place: Place::Global, key: GLOBAL, values: doc.values(GLOBAL), notes };
    let code_page = u64::from(values.number("CodePage"));
    let mut delimiters = values.text("HostDelimiters");
    if !delimiters.contains('@') {
        delimiters.insert(0, '@');
    }
    Global {
        host_name: values.text("HostName"),
        top_dir: values.text("TopDir"),
        host_delimiters: delimiters,
        mailbox_split_char: values.text("MailBoxSplitChar").chars().next().unwrap_or('-'),
        return_to_imail: values.switch("ReturnToIMail"),
        code_page: CodePage::from_number(code_page).unwrap_or_else(|| {
            values.odd("CodePage", "the number of a supported code page", "932");
            CodePage::default()
        }),
        plain_login: match values.word("PlainLogin") {
            "Loopback" => PlainLogin::Loopback,
            "Anyone" => PlainLogin::Anyone,
            _ => PlainLogin::Local,
        },
        log_dir: values.optional("LogDir"),
        log_server: values.optional("LogServer"),
        log_clients: values.list("LogClients", &[',', ';', ' ']),
        clean_after_days: values.number(CLEAN_AFTER_DAYS),
        clean_at: values.time(CLEAN_AT),
        gate_host: values.optional("GateHost"),
        send_all_through_gate: values.switch("SendAllThroughGate"),
        allowed_programs: values.list("AllowedPrograms", &[';']),
        block_rule_header: values.number("BlockRuleHdr") != 0,
    }
}

fn services(doc: &Doc, notes: &mut Vec<String>) -> Services {
    let (smtp_key, pop3_key, imap_key) =
        (service_path("SMTPD32"), service_path("POP3D32"), service_path("IMAP4D32"));
    let mut smtp = Values { place: Place::Smtp, key: &smtp_key, values: doc.values(&smtp_key), notes };
    let (smtpd, smtp) = (service(&mut smtp), smtp_settings(&mut smtp));
    let mut pop3 = Values { place: Place::Pop3, key: &pop3_key, values: doc.values(&pop3_key), notes };
    let (pop3d, enable_apop) = (service(&mut pop3), pop3.switch("EnableApop"));
    let mut imap = Values { place: Place::Imap, key: &imap_key, values: doc.values(&imap_key), notes };
    let (imapd, idle_sleep_interval_ms) = (service(&mut imap), imap.number("IdleSleepInterval"));
    Services { smtpd, smtp, pop3d, enable_apop, imapd, idle_sleep_interval_ms }
}

fn service(values: &mut Values<'_>) -> Service {
    /// A longer greeting is not used (8.1 guide, SMTP advanced options).
    const MAX_HELLO_CHARACTERS: usize = 400;
    Service {
        log_to: match values.word("LogTo") {
            "None" => LogTo::None,
            "LogServer" => LogTo::LogServer,
            _ => LogTo::Sys,
        },
        debug_messages: values.switch("DebugMessages"),
        hello_message: values.optional("HelloMessage").filter(|text| {
            text.chars().count() <= MAX_HELLO_CHARACTERS && !text.chars().any(char::is_control)
        }),
        access_mode: match values.word("AccessMode") {
            "NoneExcept" => AccessMode::NoneExcept,
            _ => AccessMode::AllExcept,
        },
        access_list: values.list("AccessList", &[',', ';', ' ']),
    }
}

fn smtp_settings(values: &mut Values<'_>) -> Smtp {
    Smtp {
        relay_mode: match values.word("RelayMode") {
            "Addresses" => RelayMode::Addresses,
            "LocalUsers" => RelayMode::LocalUsers,
            "LocalHosts" => RelayMode::LocalHosts,
            "Anyone" => RelayMode::Anyone,
            _ => RelayMode::None,
        },
        relay_addresses: values.list("RelayAddresses", &[',', ';', ' ']),
        max_recipients: values.number("MaxRecipients"),
        enable_vrfy: values.switch("EnableVrfy"),
        enable_expn: values.switch("EnableExpn"),
        queue_timer_minutes: values.number("QueueTimer").max(1),
        max_tries: values.number("MaxTries").max(1),
        retry_schedule: match values.word("RetrySchedule") {
            "Growing" => RetrySchedule::Growing,
            _ => RetrySchedule::Fixed,
        },
        delivery_threads: values.number("DeliveryThreads").max(1),
        retry_threads: values.number("RetryThreads").max(1),
        bounce_format: match values.word("BounceFormat") {
            "Report" => BounceFormat::Report,
            _ => BounceFormat::IMail,
        },
        verbose_logging: values.switch("VerboseLogging"),
        delay_between_rcpt_ms: values.number("DelayBetweenRCPT"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(text: &str) -> Registry {
        let (doc, complaints) = Doc::parse(text.as_bytes().to_vec());
        assert_eq!(complaints, []);
        Registry::from_doc(&doc)
    }

    const TREE: &str = r"[Global]
HostName=Mail.example.com
TopDir=C:\IMail
HostDelimiters=#%
MailBoxSplitChar=+x
ReturnToIMail=dword:00000001
CodePage=437
PlainLogin=anyone
AllowedPrograms=C:\a b\x.exe; C:\y.bat
[Paths]
C:\IMail=.
[Routes]
example.net=10.0.0.9:25
[Services\SMTPD32\Parameters]
LogTo=logserver
HelloMessage=hi
RelayMode=sometimes
RelayAddresses=10.0.0.0/8, 192.0.2.1
MaxTries=5
DelayBetweenRCPT=dword:0000000a
[Services\IMAP4D32\Parameters]
LogTo=None
[Domains\192.0.2.10]
Official=mail.example.com
Aliases=multi(1):example.com|old.example
[Domains\$virtual001]
Official=example.org
Aliases=multi(1):
[Domains\mail.example.com]
Address=192.0.2.10
TopDir=C:\IMail
MaxUsers=dec:10
MaxSize=10485760
Aliases=EXAMPLE.COM, www.example.com
[Domains\mail.example.com\Users]
[Domains\mail.example.com\Users\Mike]
MailAddr=mike@example.com
FullName=utf16:山田
Password=DFD8CED0E0
Flags=dword:00000180
MaxMsgs=qword:0000000000000005
[Domains\mail.example.com\Users\Mike\Deeper]
FullName=not this one
[Domains\mail.example.com\Users\_aliases]
postmaster=root
Sales=mike, ann@example.net
[Domains\example.org]
Address=$virtual001
Language=en
[Domains\old.example]
Address=$virtual009
[Domains\lonely.example]
";

    #[test]
    fn reads_the_tree() {
        let registry = registry(TREE);
        let global = &registry.global;
        assert_eq!((global.host_name.as_str(), global.top_dir.as_str()), ("Mail.example.com", "C:\\IMail"));
        assert_eq!((global.host_delimiters.as_str(), global.mailbox_split_char), ("@#%", '+'));
        assert!(global.return_to_imail && global.code_page == CodePage::Japanese);
        assert_eq!(global.plain_login, PlainLogin::Anyone);
        assert_eq!(global.allowed_programs, ["C:\\a b\\x.exe", "C:\\y.bat"]);
        assert_eq!(registry.paths, [("C:\\IMail".to_owned(), ".".to_owned())]);
        assert_eq!(registry.routes, [("example.net".to_owned(), "10.0.0.9:25".to_owned())]);
        let services = &registry.services;
        assert_eq!(
            (services.smtpd.log_to, services.pop3d.log_to, services.imapd.log_to),
            (LogTo::LogServer, LogTo::Sys, LogTo::None)
        );
        assert_eq!(
            (services.smtp.relay_mode, services.smtp.max_tries, services.smtp.queue_timer_minutes),
            (RelayMode::None, 5, 30)
        );
        assert_eq!(services.smtp.relay_addresses, ["10.0.0.0/8", "192.0.2.1"]);
        assert_eq!((services.smtp.delay_between_rcpt_ms, services.idle_sleep_interval_ms), (10, 10000));
        assert_eq!(services.smtpd.hello_message.as_deref(), Some("hi"));
    }

    #[test]
    fn reads_domains_and_users() {
        let registry = registry(TREE);
        let names: Vec<&str> = registry.domains.iter().map(|domain| domain.name.as_str()).collect();
        assert_eq!(names, ["mail.example.com", "example.org", "old.example", "lonely.example"]);
        let primary = registry.primary().unwrap();
        assert_eq!(primary.name, "mail.example.com");
        assert_eq!(primary.aliases_of_domain, ["example.com", "old.example", "www.example.com"]);
        assert_eq!((primary.max_users, primary.max_size, primary.users.len()), (10, 10_485_760, 1));
        let mike = primary.user("MIKE").unwrap();
        assert_eq!((mike.id.as_str(), mike.full_name.as_str()), ("Mike", "山田"));
        assert!(mike.has(flags::HOST_ADMIN) && mike.has(flags::WEB) && !mike.has(flags::DISABLED));
        assert!(mike.verify("rocks") && !mike.verify("rock"));
        assert!(!format!("{mike:?}").contains("DFD8"));
        assert_eq!((primary.max_size_of(mike), primary.max_msgs_of(mike)), (10_485_760, 5));
        assert_eq!(primary.alias("SALES").map(|alias| alias.value.as_str()), Some("mike, ann@example.net"));
        for name in
            ["mail.EXAMPLE.com", "example.com.", "www.example.com", "old.example", "ｅｘａｍｐｌｅ.com"]
        {
            assert_eq!(registry.domain_by_name(name).unwrap().name, "mail.example.com", "{name}");
        }
        assert_eq!(registry.domain_by_name("none.example").map(|domain| &domain.name), None);
        let by_address = registry.domain_by_address("192.0.2.10".parse().unwrap());
        assert_eq!(by_address.unwrap().name, "mail.example.com");
        assert!(registry.domain_by_address("192.0.2.11".parse().unwrap()).is_none());
        let org = registry.domain_by_name("example.org").unwrap();
        assert!(org.is_virtual() && org.language.as_deref() == Some("en"));
    }

    #[test]
    fn notes_what_is_odd() {
        let notes = registry(TREE).notes.join("\n");
        for part in [
            "old.example is also an alias of mail.example.com",
            "lonely.example has no address",
            "CodePage",
            "RelayMode",
        ] {
            assert!(notes.contains(part), "{part} in {notes}");
        }
    }

    /// The README's tables have every setting, and its default.
    #[test]
    fn every_setting_is_written_down() {
        let readme = include_str!("../../README.md");
        for setting in SETTINGS {
            let name = format!("`{}`", setting.name);
            let row = readme.lines().find(|line| line.starts_with('|') && line.contains(&name));
            let row = row.unwrap_or_else(|| panic!("{name} is missing"));
            assert!(row.contains(setting.default), "{name}: {row}");
        }
        for section in [PATHS, ROUTES, IMPORTED] {
            assert!(readme.contains(&format!("`[{section}]`")), "{section}");
        }
    }

    #[test]
    fn every_setting_is_read_with_its_default() {
        let empty = registry("");
        assert_eq!(empty.global.host_delimiters, DEFAULT_HOST_DELIMITERS);
        assert_eq!(
            (empty.global.clean_after_days, empty.global.clean_at.to_string()),
            (0, "03:00:00".into())
        );
        let odd = registry("[Global]\nCleanAt=4 o'clock\n");
        assert!(odd.notes.join(" ").contains("[Global] CleanAt: expected a time"), "{:?}", odd.notes);
        assert_eq!((empty.services.smtp.delivery_threads, empty.services.smtp.retry_threads), (30, 15));
        assert!(
            empty.notes.is_empty() && empty.primary().is_none() && !empty.has_global && !empty.has_domains
        );
        for setting in SETTINGS {
            assert!(setting.words.is_empty() || setting.words.contains(&setting.default), "{}", setting.name);
        }
    }
}
