//! Which mailboxes and messages were asked for.
//!
//! # Failure
//! [`CommandError::Refused`] with what there is instead, so that nothing is written on a wrong request.

use super::super::CommandError;
use super::bundle::Message;
use crate::config::Config;
use layout::disk::Open;
use layout::mailbox::Content;
use layout::mbx::scan;
use layout::mbx::view::Reader;
use layout::name::MailboxName;
use layout::path::TreePath;
use std::sync::Arc;

/// A mailbox that goes into the bundle.
pub(super) struct FoundMailbox {
    /// Its name there.
    pub(super) entry: String,
    pub(super) file: TreePath,
}

/// A message that goes into the bundle, as IMAP clients see it.
pub(super) struct FoundMessage {
    /// Its name there.
    pub(super) entry: String,
    /// Its length in bytes.
    pub(super) size: u64,
    pub(super) content: Message,
}

/// The mailboxes of `USER/NAME`.
pub(super) fn mailboxes(config: &Config, requests: &[String]) -> Result<Vec<FoundMailbox>, CommandError> {
    let one = |request: &String| {
        let (user, name) = request
            .split_once('/')
            .ok_or_else(|| refused(format!("{request}: use USER/NAME, such as ann@example.org/INBOX")))?;
        let (place, file) = find(config, user, name)?;
        Ok(FoundMailbox { entry: format!("mailboxes/{place}.mbx"), file })
    };
    requests.iter().map(one).collect()
}

/// The messages of `USER/NAME/NUMBER`.
pub(super) fn messages(config: &Config, requests: &[String]) -> Result<Vec<FoundMessage>, CommandError> {
    requests.iter().map(|request| message(config, request)).collect()
}

fn message(config: &Config, request: &str) -> Result<FoundMessage, CommandError> {
    let usage = || refused(format!("{request}: use USER/NAME/NUMBER, such as ann@example.org/INBOX/7"));
    let (mailbox, number) = request.rsplit_once('/').ok_or_else(usage)?;
    let (user, name) = mailbox.split_once('/').ok_or_else(usage)?;
    let number: usize = number.parse().map_err(|_| usage())?;
    let (place, file) = find(config, user, name)?;
    let disk = config.root().disk();
    let told = |error: &dyn std::fmt::Display| refused(format!("{file}: {error}"));
    let handle: Arc<_> = disk.open(&file, Open::Read).map_err(|error| told(&error))?.into();
    let scan = scan::whole(&*handle, disk.now()).map_err(|error| told(&error))?;
    let found = number.checked_sub(1).and_then(|at| scan.messages.get(at)).ok_or_else(|| {
        let count = scan.messages.len();
        refused(format!("{request}: there are {count} messages in {file}; mbxcheck --dump lists them"))
    })?;
    let content = Content::open(handle, &found.record, Reader::Imap, None).map_err(|error| told(&error))?;
    let (entry, size) = (format!("messages/{place}-{number}.eml"), found.record.imap_size());
    Ok(FoundMessage { entry, size, content: Message::new(content) })
}

/// A mailbox's file, and what to call it: the user's address and the mailbox's name as it is on the wire, which is plain ASCII.
fn find(config: &Config, user: &str, name: &str) -> Result<(String, TreePath), CommandError> {
    let (id, domain) = match user.rsplit_once('@') {
        Some((id, domain)) => (id, config.registry.domain_by_name(domain)),
        None => (user, config.registry.primary()),
    };
    let domain = domain.ok_or_else(|| refused(format!("{user}: there is no such domain here")))?;
    let dir = config.user_dir(domain, id);
    let dir = dir.ok_or_else(|| refused(format!("{user}: the domain {} has no user {id}", domain.name)))?;
    let all = dir.mailboxes().map_err(CommandError::file(dir.path()))?;
    let wanted = [MailboxName::from_text(name), MailboxName::from_wire(name.as_bytes())];
    let is_wanted = |name: &MailboxName| wanted.iter().flatten().any(|wanted| wanted == name);
    match all.iter().find(|found| is_wanted(&found.name)) {
        Some(found) => {
            let id = id.to_lowercase();
            Ok((format!("{id}@{}/{}", domain.name, found.name.wire()), found.file.clone()))
        }
        None => {
            let names: Vec<String> = all.iter().map(|found| found.name.text()).collect();
            Err(refused(format!("{user} has no mailbox {name}; there are: {}", names.join(", "))))
        }
    }
}

fn refused(text: String) -> CommandError {
    CommandError::Refused(text)
}
