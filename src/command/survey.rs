//! What is in the directories of a data directory: domains, users, mailboxes, lists. It only looks.

use crate::config::Config;
use layout::disk::Kind;
use layout::limits::SETTINGS_FILE_MAX;
use layout::list::settings::SettingsFile;
use layout::mailbox::{Inspection, MailboxError, inspect};
use layout::name::UserId;
use layout::path::TreePath;
use layout::registry::model::{Domain, Registry};
use layout::root::{DomainDir, Root, UserDir};
use std::collections::{HashMap, HashSet};

/// A tree with the registry that says how to read it.
pub(super) struct Tree<'a> {
    pub(super) root: &'a Root,
    pub(super) registry: &'a Registry,
    pub(super) config: &'a Config,
}

/// What was found of one domain.
pub(super) struct DomainSurvey<'a> {
    pub(super) domain: &'a Domain,
    /// Its directory; `None` if `TopDir` leads nowhere on this machine.
    pub(super) dir: Option<DomainDir>,
    /// Is the directory there?
    pub(super) exists: bool,
    /// Users without a directory: they never got mail.
    pub(super) without_directory: usize,
    /// Users whose ID can be no directory name: they cannot be served.
    pub(super) unusable_ids: Vec<String>,
    /// Directories of nobody.
    pub(super) orphans: Vec<TreePath>,
    /// Its lists.
    pub(super) lists: Vec<ListDir>,
    /// Its mailboxes.
    pub(super) mailboxes: Vec<FoundMailbox>,
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

    pub(super) fn is_directory(&self, path: &TreePath) -> bool {
        matches!(self.root.disk().stat(path), Ok((_, Kind::Directory)))
    }

    /// The users of a domain that can have a directory.
    pub(super) fn user_dirs(&self, domain: &Domain) -> Vec<(UserId, UserDir)> {
        let Some(dir) = self.domain_dir(domain) else { return Vec::new() };
        let ids = domain.users.values().filter_map(|user| UserId::parse(&user.id).ok());
        ids.map(|id| (id.clone(), dir.user(&id))).collect()
    }

    /// Looks at everything. Every mailbox is read whole.
    pub(super) fn survey(&self) -> Vec<DomainSurvey<'a>> {
        let owners = self.owners();
        let mut seen = HashSet::new();
        let domains = self.registry.domains.iter();
        domains.map(|domain| self.survey_domain(domain, &owners, &mut seen)).collect()
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

    fn survey_domain(
        &self,
        domain: &'a Domain,
        owners: &HashMap<TreePath, HashSet<String>>,
        seen: &mut HashSet<TreePath>,
    ) -> DomainSurvey<'a> {
        let dir = self.domain_dir(domain);
        let unusable = domain.users.values().filter(|user| UserId::parse(&user.id).is_err());
        let mut found = DomainSurvey {
            domain,
            exists: dir.as_ref().is_some_and(|dir| self.is_directory(dir.top())),
            without_directory: 0,
            unusable_ids: unusable.map(|user| user.id.clone()).collect(),
            orphans: Vec::new(),
            lists: Vec::new(),
            mailboxes: Vec::new(),
            unreadable: Vec::new(),
            dir: dir.clone(),
        };
        let Some(dir) = dir.filter(|_| found.exists) else { return found };
        for (_, user) in self.user_dirs(domain) {
            self.survey_user(&user, &mut found);
        }
        let users = dir.users();
        if seen.insert(users.clone()) {
            let owned = owners.get(&users);
            let directories = self.directories(&users, &mut found.unreadable);
            let nobodys =
                |path: &TreePath| !owned.is_some_and(|ids| ids.contains(&path.name().to_lowercase()));
            found.orphans = directories.into_iter().filter(nobodys).collect();
        }
        for list in self.directories(&dir.lists(), &mut found.unreadable) {
            let settings = self.root.file_in(&list, "list.ini");
            let bytes = settings.as_ref().map(|file| self.root.disk().read(file, SETTINGS_FILE_MAX));
            let complaints = match bytes {
                Some(Ok(bytes)) => SettingsFile::parse(bytes).complaints(),
                Some(Err(error)) => vec![error.to_string()],
                None => Vec::new(),
            };
            let (name, has_settings) = (list.name().to_owned(), settings.is_some());
            found.lists.push(ListDir { name, dir: list, has_settings, complaints });
        }
        found
    }

    fn survey_user(&self, user: &UserDir, found: &mut DomainSurvey<'_>) {
        if !self.is_directory(user.path()) {
            found.without_directory += 1;
            return;
        }
        match user.mailboxes() {
            Ok(mailboxes) => found.mailboxes.extend(mailboxes.into_iter().map(|mailbox| FoundMailbox {
                seen: inspect(&self.root.shared_disk(), &mailbox.file),
                file: mailbox.file,
            })),
            Err(error) => found.unreadable.push(format!("{}: {error}", user.path())),
        }
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

/// Sums over mailboxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) mailboxes: usize,
    pub(super) messages: usize,
    pub(super) bytes: u64,
}

impl DomainSurvey<'_> {
    /// Counts the mailboxes that could be read.
    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for seen in self.mailboxes.iter().filter_map(|mailbox| mailbox.seen.as_ref().ok()) {
            totals.mailboxes += 1;
            totals.messages += seen.messages;
            totals.bytes += seen.bytes;
        }
        totals
    }
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
}
