//! Mailbox names on the wire, and what they mean: a mailbox of the user, or one of the user `public`.
//!
//! Names go as modified UTF-7 (RFC 3501 §5.1.3) until the client enables IMAP4rev2 or UTF8=ACCEPT; then as UTF-8 (RFC 9051 §5.1).

use super::command::WireMailbox;
use super::outcome::{Failed, of_disk};
use super::reply;
use super::session::Session;
use crate::mailbox::Open;
use crate::mailbox::folders::Folders;
use crate::mailbox::public::{self, Reader};
use layout::mailbox::Mailbox;
use layout::name::MailboxName;
use layout::root::UserDir;
use std::sync::Arc;

/// A mailbox that a name means, whether it exists or not.
pub struct Place {
    /// Whose it is.
    pub dir: UserDir,
    /// Its name there.
    pub name: MailboxName,
    /// It is one of `public`, and the client is somebody else.
    pub foreign: bool,
}

impl Place {
    /// What stands before the name for this client.
    pub fn prefix(&self) -> &'static str {
        if self.foreign { public::PREFIX } else { "" }
    }
}

impl Session {
    /// A name as the client writes it.
    pub(super) fn name(&self, wire: &WireMailbox) -> Result<MailboxName, Failed> {
        let name = match (self.enabled.utf8, std::str::from_utf8(&wire.0)) {
            (true, Ok(text)) => MailboxName::from_text(text),
            _ => MailboxName::from_wire(&wire.0),
        };
        name.map_err(|error| Failed::No("CANNOT", error.to_string()))
    }

    /// Writes a name as the client reads it, with what stands before it.
    pub(super) fn write_name(&self, out: &mut Vec<u8>, prefix: &str, name: &MailboxName) {
        match self.enabled.utf8 {
            true => reply::utf8(out, &format!("{prefix}{}", name.text())),
            false => reply::astring(out, format!("{prefix}{}", name.wire()).as_bytes()),
        }
    }

    /// What a name means.
    pub(super) fn place(&self, wire: &WireMailbox) -> Result<Place, Failed> {
        self.place_of(&self.name(wire)?)
    }

    /// What a name means that may stand in the shared namespace.
    pub(super) fn place_of(&self, name: &MailboxName) -> Result<Place, Failed> {
        let user = self.user()?;
        let Some(below) = public::name_of(&name.text()).map(str::to_owned) else {
            return Ok(Place { dir: user.dir.clone(), name: name.clone(), foreign: false });
        };
        let name = MailboxName::from_text(&below).map_err(|error| Failed::No("CANNOT", error.to_string()))?;
        let dir = self.public_dir().ok_or_else(Failed::nonexistent)?;
        Ok(Place { dir, name, foreign: user.id.as_str() != public::USER })
    }

    /// The directory of the user `public` in the client's domain.
    pub(super) fn public_dir(&self) -> Option<UserDir> {
        let config = self.config();
        config.user_dir(config.local_domain(&self.user().ok()?.domain)?, public::USER)
    }

    /// A place that the client may change: CREATE, DELETE, APPEND and the like.
    pub(super) fn own_place(&self, wire: &WireMailbox) -> Result<Place, Failed> {
        match self.place(wire)? {
            Place { foreign: true, .. } => Err(Failed::public()),
            place => Ok(place),
        }
    }

    /// The mailboxes of whoever the place belongs to.
    pub(super) fn folders_of<'a>(&'a self, place: &'a Place) -> Folders<'a> {
        Folders::new(&self.server.hub, &place.dir)
    }

    /// The mailbox of a place, if it exists.
    pub(super) fn open(&self, place: &Place) -> Option<Arc<Open>> {
        self.folders_of(place).exists(&place.name).then(|| self.server.hub.open(&place.dir, &place.name))
    }

    /// What the client has seen of a place, if that is kept apart.
    pub(super) fn reader(&self, place: &Place, mailbox: &mut Mailbox) -> Result<Option<Reader>, Failed> {
        if !place.foreign {
            return Ok(None);
        }
        let (dir, name) = (&self.user()?.dir, place.name.text());
        let reader = Reader::new(&self.server.hub, dir, name, mailbox.uidvalidity());
        reader.map(Some).map_err(|error| of_disk(&error))
    }
}

/// What a mailbox is told apart by, whatever its name (RFC 8474 §4): a UIDVALIDITY is given once in a user's directory, and a renamed
/// mailbox takes it along.
pub fn mailbox_id(foreign: bool, uidvalidity: u32) -> String {
    format!("{}{uidvalidity}", if foreign { 'P' } else { 'F' })
}
