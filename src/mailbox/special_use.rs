//! What mailboxes are for: `\Sent`, `\Drafts`, `\Trash` and the like (RFC 6154).
//!
//! A mailbox is for something because a client said so when it made it (the file `imap.use`: one line each, the use, a blank, the name in
//! Unicode), or because it has the name that web clients and mail programs give to such a mailbox. What a client said goes before.
//!
//! # Failure
//! A line of the file that cannot be read costs only itself.

use super::Hub;
use super::folders::{FolderError, is_below, moved_name};
use layout::disk::{Open, replace};
use layout::lock::{self, PATIENCE};
use layout::name::MailboxName;
use layout::root::UserDir;
use std::collections::BTreeMap;
use std::io;

/// The largest file that is read, in bytes.
const FILE_MAX: u64 = 64 << 10;
const FILE: &str = "imap.use";

/// What a mailbox is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpecialUse {
    /// Old mail.
    Archive,
    /// Mail that is being written.
    Drafts,
    /// Unwanted mail.
    Junk,
    /// Mail that was sent.
    Sent,
    /// Mail that was thrown away.
    Trash,
}

/// Every use with its attribute and the names that stand for it, the first that exists counts. `Sent`, `Draft`, `Deleted` and
/// `deleted items` are seen in IMail (web client help, rules manual); the others are those of today's mail programs.
const TABLE: [(SpecialUse, &str, &[&str]); 5] = [
    (SpecialUse::Archive, "\\Archive", &["archive", "archives"]),
    (SpecialUse::Drafts, "\\Drafts", &["drafts", "draft", "\u{4E0B}\u{66F8}\u{304D}"]),
    (SpecialUse::Junk, "\\Junk", &["junk", "junk e-mail", "junk email", "spam", "bulk mail"]),
    (
        SpecialUse::Sent,
        "\\Sent",
        &[
            "sent",
            "sent items",
            "sent messages",
            "\u{9001}\u{4FE1}\u{6E08}\u{307F}\u{30A2}\u{30A4}\u{30C6}\u{30E0}",
        ],
    ),
    (
        SpecialUse::Trash,
        "\\Trash",
        &["deleted", "deleted items", "trash", "deleted messages", "\u{3054}\u{307F}\u{7BB1}"],
    ),
];

impl SpecialUse {
    /// The use of an attribute, in any case.
    pub fn of_attribute(attribute: &str) -> Option<SpecialUse> {
        TABLE.iter().find(|(_, name, _)| name.eq_ignore_ascii_case(attribute)).map(|(found, ..)| *found)
    }

    /// The attribute, with its backslash.
    pub fn attribute(self) -> &'static str {
        TABLE.iter().find(|(found, ..)| *found == self).map_or("", |(_, name, _)| name)
    }
}

/// Which mailbox is for what.
pub type Uses = BTreeMap<SpecialUse, MailboxName>;

/// What the mailboxes of a user are for, among those that exist. A name that two mailboxes could have goes to one of them.
pub fn uses(hub: &Hub, user: &UserDir, existing: &[MailboxName]) -> io::Result<Uses> {
    let mut uses = chosen(hub, user)?;
    uses.retain(|_, name| existing.contains(name));
    for (wanted, _, names) in &TABLE {
        if !uses.contains_key(wanted)
            && let Some(found) = names.iter().find_map(|key| existing.iter().find(|name| name.key() == *key))
        {
            uses.insert(*wanted, found.clone());
        }
    }
    Ok(uses)
}

/// What clients said.
fn chosen(hub: &Hub, user: &UserDir) -> io::Result<Uses> {
    let text = match hub.disk.read(&user.file(FILE), FILE_MAX) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Uses::new()),
        Err(error) => return Err(error),
    };
    let text = String::from_utf8_lossy(&text);
    let line = |line: &str| {
        let (attribute, name) = line.trim_end().split_once(' ')?;
        Some((SpecialUse::of_attribute(attribute)?, MailboxName::from_text(name).ok()?))
    };
    Ok(text.lines().filter_map(line).collect())
}

/// Writes down that a mailbox is for these; who had one of them before loses it.
pub fn choose(
    hub: &Hub,
    user: &UserDir,
    name: &MailboxName,
    wanted: &[SpecialUse],
) -> Result<(), FolderError> {
    change(hub, user, |uses| uses.extend(wanted.iter().map(|one| (*one, name.clone()))))
}

/// The name that a mailbox got when `from` became `to`; `None` if it is neither that one nor below it.
pub fn renamed(name: &MailboxName, from: &MailboxName, to: &MailboxName) -> Option<MailboxName> {
    (name == from || is_below(name, from)).then(|| moved_name(name, from, to))?
}

/// Carries the uses along when mailboxes get new names (`Some`) or are removed (`None`).
pub fn follow(
    hub: &Hub,
    user: &UserDir,
    renamed: impl Fn(&MailboxName) -> Option<MailboxName>,
) -> Result<(), FolderError> {
    if chosen(hub, user)?.is_empty() {
        return Ok(());
    }
    change(hub, user, |uses| {
        *uses =
            std::mem::take(uses).into_iter().filter_map(|(one, name)| Some((one, renamed(&name)?))).collect();
    })
}

fn change(hub: &Hub, user: &UserDir, change: impl FnOnce(&mut Uses)) -> Result<(), FolderError> {
    user.make()?;
    let _held = lock::acquire(&*hub.disk, &user.file("user.lck"), Open::Create, PATIENCE)?;
    let before = chosen(hub, user)?;
    let mut uses = before.clone();
    change(&mut uses);
    if uses == before {
        return Ok(());
    }
    let text: String =
        uses.iter().map(|(one, name)| format!("{} {}\n", one.attribute(), name.text())).collect();
    Ok(replace(&*hub.disk, &user.file(FILE), text.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use layout::disk::sim::SimDisk;
    use layout::name::UserId;
    use layout::root::Root;
    use std::path::Path;
    use std::sync::Arc;

    #[test]
    fn names_and_choices() {
        let root = Root::new(Arc::new(SimDisk::new()), Path::new("/mail"));
        let user = root.domain(root.top().clone()).user(&UserId::parse("mike").unwrap());
        let hub = Hub::new(root.shared_disk());
        let name = |text: &str| MailboxName::from_text(text).unwrap();
        let existing = ["INBOX", "Sent Items", "SENT", "deleted items", "Old"].map(name);
        let told = |hub: &Hub| -> Vec<String> {
            let uses = uses(hub, &user, &existing).unwrap();
            uses.iter().map(|(one, name)| format!("{} {name}", one.attribute())).collect()
        };
        assert_eq!(told(&hub), ["\\Sent SENT", "\\Trash deleted items"]);
        choose(&hub, &user, &name("Old"), &[SpecialUse::Archive, SpecialUse::Sent]).unwrap();
        assert_eq!(told(&hub), ["\\Archive Old", "\\Sent Old", "\\Trash deleted items"]);
        follow(&hub, &user, |found| (*found == name("Old")).then(|| name("Sent Items"))).unwrap();
        assert_eq!(told(&hub), ["\\Archive Sent Items", "\\Sent Sent Items", "\\Trash deleted items"]);
        follow(&hub, &user, |_| None).unwrap();
        assert_eq!(told(&hub), ["\\Sent SENT", "\\Trash deleted items"]);
        assert_eq!(SpecialUse::of_attribute("\\sent"), Some(SpecialUse::Sent));
        assert_eq!(SpecialUse::of_attribute("\\Flagged"), None);
    }
}
