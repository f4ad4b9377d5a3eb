//! One message to many: how the items of a mailing are put into the spool, so that a crash neither loses nor repeats one.
//!
//! A mailing's items share one message, whose file has a name for each of them, and each has its part of the recipients. Their names are made
//! of what the mailing is about, so that they can be found again:
//!
//! 1. what an earlier try left of them is removed, and D and T of each are written and made **durable**; nobody delivers an item without Q;
//! 2. their number is noted **durably** where the mailing comes from: in the Q file of the post, or in the list's `digest.sent`;
//! 3. each T that is still there becomes a Q, and the directory is made **durable**;
//! 4. the note is removed with what it stands in.
//!
//! Up to 2 a crash leaves nothing that counts, and all is done anew. From 2 on the members and the message are as they were noted: who looks again
//! does 3 for the items that still have a T; those without were published, and what became of them is theirs to know. So nobody gets a post whose
//! item was finished again, and nobody misses it. Within one item the rules of [`super::queue`] hold.
//!
//! # Failure
//! The disk's; then what is noted is what was done.
//!
//! # Limits
//! [`ITEM_RECIPIENTS`] of an item. [`ROUND`] items are written before they are made durable together: their files are open at the same time.

use super::{Inner, Waiting, windows_path};
use crate::config::Config;
use crate::lists::addresses::Addresses;
use crate::lists::post::Copy;
use crate::lists::work::{Mailing, Recipients};
use layout::mbx::compose::Source;
use layout::name::SpoolId;
use layout::spool::id::{ItemName, Origin as Kind, Role};
use layout::spool::qfile::{Envelope, Fields};
use layout::spool::store::Body;
use std::io;
use xxhash_rust::xxh3::xxh3_64;

/// The most recipients of one item: what a crash repeats at most, of those elsewhere (the default of IMail 11's list settings is of this size).
/// Tests have short lists.
pub(super) const ITEM_RECIPIENTS: usize = if cfg!(test) { 2 } else { 200 };
/// Items that are made durable together.
const ROUND: usize = 100;
/// How much of a message is copied at once.
const PIECE: usize = 256 << 10;

/// What a mailing is about: names its items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct About {
    pub(super) text: String,
    kind: Kind,
}

impl About {
    /// A mailing of a list, or to a group.
    pub(super) fn list(text: String) -> About {
        About { text, kind: Kind::List }
    }

    /// A mailing to a group that somebody's settings sent it to.
    pub(super) fn forward(text: String) -> About {
        About { text, kind: Kind::Forward }
    }

    /// The name of an item.
    fn item(&self, number: u32) -> ItemName {
        ItemName::new(SpoolId(xxh3_64(format!("{} {number}", self.text).as_bytes())), self.kind)
    }
}

impl Inner {
    /// The first step: all items are written. Answers how many. `common` is what all envelopes have, `source` the message that copies have
    /// their rest of. Blocks.
    pub(super) fn lay_out(
        &self,
        config: &Config,
        common: &Fields,
        about: &About,
        mailings: &[Mailing],
        source: &Source,
    ) -> io::Result<u32> {
        for number in 0.. {
            // One more than there can be now: an earlier try may have had more members.
            if !self.store.scrap(&about.item(number))? && number as usize > count(mailings) {
                break;
            }
        }
        let (mut number, mut round) = (0, Vec::new());
        for mailing in mailings {
            let first = about.item(number);
            for recipients in &mailing.recipients {
                let mut addresses = recipients.addresses.iter().peekable();
                while addresses.peek().is_some() {
                    let some: Vec<&str> = addresses.by_ref().take(ITEM_RECIPIENTS).collect();
                    let name = about.item(number);
                    let body = match name == first {
                        true => self.body(&name, &mailing.copy, source)?,
                        false => Body::Same(first.clone()),
                    };
                    let envelope = Envelope::new(&fields(config, common, &name, mailing, recipients, &some));
                    round.push(self.store.prepare(&name, body, &envelope)?);
                    number += 1;
                    if round.len() == ROUND {
                        self.keep(&mut round)?;
                    }
                }
            }
        }
        self.keep(&mut round)?;
        Ok(number)
    }

    fn keep(&self, round: &mut Vec<layout::spool::store::Prepared>) -> io::Result<()> {
        self.store.sync_prepared(round)?;
        round.drain(..).for_each(layout::spool::store::Prepared::leave);
        Ok(())
    }

    fn body(&self, name: &ItemName, copy: &Copy, source: &Source) -> io::Result<Body> {
        let mut incoming = self.store.incoming(name.clone())?;
        incoming.write(&copy.begin)?;
        let mut at = copy.rest.unwrap_or(source.len());
        while at < source.len() {
            let piece = source.read(at, PIECE)?;
            at += piece.len() as u64;
            incoming.write(&piece)?;
        }
        Ok(Body::Arrived(incoming))
    }

    /// The third step: items that were noted are given to the queue. Blocks.
    pub(super) fn publish(&self, about: &About, count: u32) -> io::Result<()> {
        let mut published = Vec::new();
        for number in 0..count {
            let name = about.item(number);
            if self.store.publish(&name)? {
                published.push(name);
            }
        }
        self.spooler.removed().wait()?;
        for name in published {
            self.tell_queue(name);
        }
        Ok(())
    }
}

fn count(mailings: &[Mailing]) -> usize {
    let items = |addresses: &Addresses| addresses.len().div_ceil(ITEM_RECIPIENTS);
    mailings.iter().flat_map(|mailing| &mailing.recipients).map(|some| items(&some.addresses)).sum()
}

/// The envelope of the item for some of a mailing's recipients.
fn fields(
    config: &Config,
    common: &Fields,
    name: &ItemName,
    mailing: &Mailing,
    recipients: &Recipients,
    some: &[&str],
) -> Fields {
    let Recipients { original, dsn, ruled, may_create, .. } = recipients;
    let recipient = |address: &&str| Waiting {
        address: (*address).to_owned(),
        original: original.clone(),
        ruled: *ruled,
        dsn: dsn.clone(),
    };
    Fields {
        data: windows_path(config, &name.file(Role::Data)),
        // Mail of a user may make a mailbox.
        auth_user: if *may_create { mailing.owner.clone() } else { common.auth_user.clone() },
        sender: mailing.sender.clone(),
        list_owner: mailing.owner.clone(),
        recipients: some.iter().map(recipient).collect(),
        ..common.clone()
    }
}
