//! Public mailboxes: those of the user `public`, read by everybody in the domain (IMail 7 and 8 help, "public mailboxes").
//!
//! Readers change nothing in them. What a reader has seen is kept with the reader, in `public.seen`
//! ([`layout::user::public_seen`]).
//!
//! # Failure
//! What cannot be written down is not changed.

use super::Hub;
use layout::disk::{Open, replace};
use layout::lock::{self, PATIENCE};
use layout::mailbox::{FlagChange, MailboxError};
use layout::mbx::record::flag;
use layout::root::UserDir;
use layout::user::public_seen::{FILE, FILE_MAX, PublicSeen, UidSet};
use std::io;
use std::sync::Arc;

/// The user whose mailboxes are public.
pub const USER: &str = "public";
/// What the names of public mailboxes begin with for their readers.
pub const PREFIX: &str = "#public.";

/// The name of a public mailbox behind its prefix, if the name has that.
pub fn name_of(text: &str) -> Option<&str> {
    let prefix = text.get(..PREFIX.len())?;
    prefix.eq_ignore_ascii_case(PREFIX).then(|| text.get(PREFIX.len()..))?
}

/// Somebody who reads a public mailbox.
pub struct Reader {
    hub: Arc<Hub>,
    user: UserDir,
    /// The mailbox's name in Unicode, without the prefix.
    name: String,
    uidvalidity: u32,
    seen: UidSet,
}

impl Reader {
    /// The reader whose directory is `user`, of the mailbox `name`.
    pub fn new(hub: &Arc<Hub>, user: &UserDir, name: String, uidvalidity: u32) -> io::Result<Reader> {
        let seen = read(hub, user)?.of(&name, uidvalidity);
        Ok(Reader { hub: hub.clone(), user: user.clone(), name, uidvalidity, seen })
    }

    /// Has the reader seen this message?
    pub fn has_seen(&self, uid: u32) -> bool {
        self.seen.contains(uid)
    }

    /// Sets or clears `\Seen`, durably; other flags are not the reader's to change.
    pub fn change(&mut self, uids: &[(u32, u32)], change: &FlagChange) -> Result<(), MailboxError> {
        let (set, clear) = (change.set & flag::SEEN != 0, change.clear & flag::SEEN != 0);
        if !set && !clear {
            return Ok(());
        }
        self.user.make()?;
        let disk = &*self.hub.disk;
        let _held = lock::acquire(disk, &self.user.file("user.lck"), Open::Create, PATIENCE)?;
        let mut all = read(&self.hub, &self.user)?;
        let before = all.of(&self.name, self.uidvalidity);
        let mut seen = before.clone();
        match set {
            true => seen.add(uids),
            false => seen.remove(uids),
        }
        if seen != before {
            all.put(&self.name, self.uidvalidity, seen.clone());
            let text = all.write();
            if text.len() as u64 > FILE_MAX {
                return Err(MailboxError::Limit("there is no room for more marks in public mailboxes"));
            }
            replace(disk, &self.user.file(FILE), text.as_bytes())?;
        }
        self.seen = seen;
        Ok(())
    }
}

fn read(hub: &Hub, user: &UserDir) -> io::Result<PublicSeen> {
    match hub.disk.read(&user.file(FILE), FILE_MAX) {
        Ok(bytes) => Ok(PublicSeen::parse(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(PublicSeen::default()),
        Err(error) => Err(error),
    }
}
