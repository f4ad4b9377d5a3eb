//! Reading the directories of a data directory: domains, users, mailboxes, lists. It only looks.
//!
//! Users are read on several threads, since nearly all of the work is reading their mailboxes.
//!
//! # Limits
//! [`layout::parallel::READERS_MAX`] threads, each with a few megabytes; directories [`DEPTH_MAX`] deep.

use crate::config::Config;
use layout::disk::Kind;
use layout::limits::SETTINGS_FILE_MAX;
use layout::list::settings::SettingsFile;
use layout::mailbox::{Inspection, MailboxError, Trust, inspect};
use layout::name::UserId;
use layout::parallel;
use layout::path::TreePath;
use layout::registry::model::{Domain, Registry};
use layout::root::{DELETED, DomainDir, Root, UserDir};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// How deep directories of users are followed in search of files that nobody is shown.
const DEPTH_MAX: usize = 32;

/// A tree with the registry that says how to read it.
pub(super) struct Tree<'a> {
    pub(super) root: &'a Root,
    pub(super) registry: &'a Registry,
    pub(super) config: &'a Config,
}

/// What was found of one domain.
pub(super) struct DomainReading<'a> {
    pub(super) domain: &'a Domain,
    /// Its directory; `None` if `TopDir` leads nowhere on this machine.
    pub(super) dir: Option<DomainDir>,
    /// Is the directory there?
    pub(super) exists: bool,
    /// Users without a directory: they never got mail.
    pub(super) without_directory: Vec<&'a str>,
    /// Users whose ID can be no directory name: they cannot be served.
    pub(super) unusable_ids: Vec<&'a str>,
    /// Directories of nobody.
    pub(super) orphans: Vec<TreePath>,
    /// Its lists.
    pub(super) lists: Vec<ListDir>,
    /// Its mailboxes.
    pub(super) mailboxes: Vec<FoundMailbox>,
    /// Files of mailboxes that no client is shown.
    pub(super) hidden: Vec<PathBuf>,
    /// Directories that could not be read, and why.
    pub(super) unreadable: Vec<String>,
}

/// A directory of a mailing list.
pub(super) struct ListDir {
    pub(super) name: String,
    pub(super) dir: TreePath,
    /// Has it a `list.ini`?
    pub(super) has_settings: bool,
    /// What is not understood in it.
    pub(super) complaints: Vec<String>,
}

/// A mailbox.
pub(super) struct FoundMailbox {
    pub(super) file: TreePath,
    pub(super) seen: Result<Inspection, MailboxError>,
}

/// What was found of one user.
#[derive(Default)]
struct UserReading {
    has_directory: bool,
    mailboxes: Vec<FoundMailbox>,
    hidden: Vec<PathBuf>,
    unreadable: Option<String>,
}

impl<'a> Tree<'a> {
    pub(super) fn new(config: &'a Config) -> Tree<'a> {
        Tree { root: config.root(), registry: &config.registry, config }
    }

    pub(super) fn domain_dir(&self, domain: &Domain) -> Option<DomainDir> {
        self.config.domain_dir(domain)
    }

    /// The file of a group alias, found as delivery finds it.
    pub(super) fn group_file(&self, domain: &Domain, path: &str) -> Option<TreePath> {
        self.config.group_file(domain, path)
    }

    /// The directories of a domain's lists.
    pub(super) fn lists(&self, domain: &Domain) -> Vec<TreePath> {
        let dir = self.domain_dir(domain);
        dir.map(|dir| self.directories(&dir.lists(), &mut Vec::new())).unwrap_or_default()
    }

    fn is_directory(&self, path: &TreePath) -> bool {
        matches!(self.root.disk().stat(path), Ok((_, Kind::Directory)))
    }

    /// The users of a domain that can have a directory.
    pub(super) fn user_dirs(&self, domain: &'a Domain) -> Vec<(&'a str, UserDir)> {
        let Some(dir) = self.domain_dir(domain) else { return Vec::new() };
        let usable = |id: &'a str| Some((id, dir.user(&UserId::parse(id).ok()?)));
        domain.users.values().filter_map(|user| usable(&user.id)).collect()
    }

    /// Looks at everything. A mailbox is read whole unless its index vouches for it.
    pub(super) fn read(&self) -> Vec<DomainReading<'a>> {
        let owners = self.owners();
        let mut seen = HashSet::new();
        let domains = self.registry.domains.iter();
        let mut found: Vec<DomainReading<'a>> =
            domains.map(|domain| self.read_domain(domain, &owners, &mut seen)).collect();
        let users: Vec<(usize, &str, UserDir)> = (found.iter().enumerate())
            .filter(|(_, domain)| domain.exists)
            .flat_map(|(at, domain)| {
                self.user_dirs(domain.domain).into_iter().map(move |(id, dir)| (at, id, dir))
            })
            .collect();
        let read = parallel::map(&users, parallel::readers(), |(_, _, dir)| self.read_user(dir));
        for ((at, id, _), user) in users.iter().zip(read) {
            let Some(domain) = found.get_mut(*at) else { continue };
            if !user.has_directory {
                domain.without_directory.push(id);
            }
            domain.mailboxes.extend(user.mailboxes);
            domain.hidden.extend(user.hidden);
            domain.unreadable.extend(user.unreadable);
        }
        found
    }

    /// By directory of users: who may have one there. Two domains can share it.
    fn owners(&self) -> HashMap<TreePath, HashSet<String>> {
        let mut owners: HashMap<TreePath, HashSet<String>> = HashMap::new();
        for domain in &self.registry.domains {
            if let Some(dir) = self.domain_dir(domain) {
                let ids = domain.users.values().map(|user| user.id.to_lowercase());
                owners.entry(dir.users()).or_default().extend(ids);
            }
        }
        owners
    }

    /// Everything of a domain but its users.
    fn read_domain(
        &self,
        domain: &'a Domain,
        owners: &HashMap<TreePath, HashSet<String>>,
        seen: &mut HashSet<TreePath>,
    ) -> DomainReading<'a> {
        let dir = self.domain_dir(domain);
        let unusable = domain.users.values().filter(|user| UserId::parse(&user.id).is_err());
        let mut found = DomainReading {
            domain,
            exists: dir.as_ref().is_some_and(|dir| self.is_directory(dir.top())),
            without_directory: Vec::new(),
            unusable_ids: unusable.map(|user| user.id.as_str()).collect(),
            orphans: Vec::new(),
            lists: Vec::new(),
            mailboxes: Vec::new(),
            hidden: Vec::new(),
            unreadable: Vec::new(),
            dir: dir.clone(),
        };
        let Some(dir) = dir.filter(|_| found.exists) else { return found };
        let users = dir.users();
        if seen.insert(users.clone()) {
            let owned = owners.get(&users);
            let directories = self.directories(&users, &mut found.unreadable);
            let nobodys =
                |path: &TreePath| !owned.is_some_and(|ids| ids.contains(&path.name().to_lowercase()));
            found.orphans =
                directories.into_iter().filter(|path| path.name() != DELETED && nobodys(path)).collect();
        }
        for list in self.directories(&dir.lists(), &mut found.unreadable) {
            let settings = self.root.file_in(&list, "list.ini");
            let bytes = settings.as_ref().map(|file| self.root.disk().read(file, SETTINGS_FILE_MAX));
            let complaints = match bytes {
                Some(Ok(bytes)) => SettingsFile::parse(bytes, self.registry.global.code_page).complaints(),
                Some(Err(error)) => vec![error.to_string()],
                None => Vec::new(),
            };
            let (name, has_settings) = (list.name().to_owned(), settings.is_some());
            found.lists.push(ListDir { name, dir: list, has_settings, complaints });
        }
        found
    }

    fn read_user(&self, user: &UserDir) -> UserReading {
        let mut found =
            UserReading { has_directory: self.is_directory(user.path()), ..UserReading::default() };
        if !found.has_directory {
            return found;
        }
        match user.mailboxes() {
            Ok(mailboxes) => {
                let look = |file: TreePath| {
                    let seen = inspect(&self.root.shared_disk(), &file, Trust::Index);
                    FoundMailbox { file, seen }
                };
                found.mailboxes = mailboxes.into_iter().map(|mailbox| look(mailbox.file)).collect();
                found.hidden = hidden(user, &found.mailboxes);
            }
            Err(error) => found.unreadable = Some(format!("{}: {error}", user.path())),
        }
        found
    }

    /// The directories in a directory, each name once. One that is not there has none.
    fn directories(&self, dir: &TreePath, unreadable: &mut Vec<String>) -> Vec<TreePath> {
        let entries = match self.root.disk().list(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                unreadable.push(format!("{dir}: {error}"));
                return Vec::new();
            }
        };
        let directories = entries.iter().filter(|entry| entry.kind == Kind::Directory);
        let paths = directories.filter_map(|entry| self.root.existing(dir, entry.name.to_str()?));
        let mut once = HashSet::new();
        paths.filter(|path| once.insert(path.clone())).collect()
    }
}

/// Files of mailboxes below a user's directory that are not among those that are shown. Those that differ from a shown one in case are
/// found elsewhere.
fn hidden(user: &UserDir, shown: &[FoundMailbox]) -> Vec<PathBuf> {
    let lower = |path: &Path| path.to_string_lossy().to_lowercase();
    let shown: HashSet<String> = shown.iter().map(|mailbox| lower(&mailbox.file.full())).collect();
    let mut files = Vec::new();
    files_below(&user.path().full(), 0, &mut |file| {
        let is_mailbox = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("mbx"));
        if is_mailbox && !shown.contains(&lower(&file)) {
            files.push(file);
        }
    });
    files
}

/// Hands over every ordinary file below a directory; what cannot be read has none.
pub(super) fn files_below(dir: &Path, depth: usize, take: &mut impl FnMut(PathBuf)) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
        if kind.is_dir() && depth < DEPTH_MAX {
            files_below(&path, depth + 1, take);
        } else if kind.is_file() {
            take(path);
        }
    }
}
