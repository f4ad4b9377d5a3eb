//! Accepting a message: whoever has a mailbox here gets it at once, and the rest waits in the spool.
//!
//! # Failure
//! [`Refusal`] for the message as a whole: then nothing of it was kept, or what was stored is known by its token and not stored again.

use super::bounce::Failure;
use super::deliver::{Copy, Letter, Placed, key};
use super::disposition::{Before, Examination};
use super::incoming::Incoming;
use super::notice::Case;
use super::route::{ListRole, ListTarget, Routed};
use super::trace::{HOPS_MAX, Origin, hops};
use super::{Arrival, Inner, Recipient, Refusal, Waiting, remote, windows_path};
use crate::config::Config;
use crate::lists::list::List;
use crate::lists::post::{Outcome as Judged, Refused as ListRefused, judge};
use layout::limits::MESSAGE_MAX;
use layout::logline::{Event, Status, Tag};
use layout::mbx::compose::Source;
use layout::mbx::header;
use layout::spool::dsn::Dsn;
use layout::spool::id::{ItemName, Origin as Kind, Role};
use layout::spool::qfile::{Envelope, Fields};
use layout::spool::store::{self, Body, Prepared};
use std::collections::HashSet;
use std::io;

/// What became of a message's recipients at the first look.
#[derive(Default)]
struct Begun {
    /// Copies for mailboxes, under way.
    copies: Vec<Copy>,
    /// Who has to wait in the spool.
    waiting: Vec<Waiting>,
    /// Recipients who do not get it.
    refused: Vec<Refused>,
    /// Was a copy thrown away on purpose, or sent on already?
    discarded: bool,
}

/// A recipient who does not get a message that others may get.
pub(super) struct Refused {
    /// What the client hears, if nobody gets it.
    pub(super) refusal: Refusal,
    /// What the sender hears otherwise.
    pub(super) failure: Failure,
    pub(super) dsn: Dsn,
}

impl Begun {
    /// A recipient with several mailboxes is refused once.
    fn refuse(&mut self, recipient: &Recipient, refusal: Refusal, failure: Failure) {
        if self.refused.last().is_none_or(|last| last.failure != failure) {
            self.refused.push(Refused { refusal, failure, dsn: recipient.dsn.clone() });
        }
    }
}

impl Arrival {
    /// Those who have to wait for the queue keep what the sender wants to know of them.
    fn pass_wishes_on(&self, left: &mut [Waiting]) {
        for waiting in left {
            let named = |one: &&Recipient| Some(&one.address) == waiting.original.as_ref();
            waiting.dsn = self.recipients.iter().find(named).map(|one| one.dsn.clone()).unwrap_or_default();
        }
    }

    /// The message, for notices about it.
    fn case<'a>(&'a self, source: &'a Source) -> Case<'a> {
        let Origin { id, host, sender, utf8, .. } = &self.origin;
        Case { id: *id, host, sender, dsn: &self.dsn, utf8: *utf8, source }
    }
}

impl Inner {
    /// Makes a message durable wherever it has to go.
    pub(super) async fn accept(
        &self,
        config: &Config,
        arrival: Arrival,
        incoming: Incoming,
    ) -> Result<(), Refusal> {
        if incoming.is_too_large() {
            return Err(Refusal::TooLarge);
        }
        let id = arrival.origin.id;
        let failed = |error: io::Error| {
            tracing::error!(%error, "a message could not be stored");
            let text = format!("not stored, the sender is asked to come again: {error}");
            self.log(config, Tag::Smtpd, id, Some(arrival.origin.client), &Event::Refused(&text));
            Refusal::NotStored
        };
        let name = ItemName::new(id, Kind::Mail);
        let (source, file, begun) = tokio::task::block_in_place(|| {
            let size = incoming.size();
            let (source, file) = incoming.finish().map_err(failed)?;
            let begin = source.head().map_err(failed)?;
            if hops(&begin[..header::end(&begin).unwrap_or(begin.len())]) > HOPS_MAX {
                return Err(Refusal::Hops);
            }
            let data = self.store.path(Role::Data, &name).full();
            let received = Event::Received { data: &data, bytes: source.len() };
            self.log(config, Tag::Smtpd, id, Some(arrival.origin.client), &received);
            let begun = self.begin(config, &arrival, &source, size);
            Ok((source, file, begun))
        })?;
        let Begun { copies, mut waiting, refused, discarded } = begun;
        if let Some(first) = refused.first() {
            let nobody = copies.is_empty() && waiting.is_empty() && !discarded;
            if nobody && arrival.account.is_none() {
                return Err(first.refusal.clone());
            }
            let case = arrival.case(&source);
            let told = tokio::task::block_in_place(|| self.return_refused(config, &case, id, &refused));
            told.map_err(failed)?;
        }
        let direct = copies.len();
        let queue = self.store.path(Role::Queued, &name).full();
        if direct > 0 {
            self.log(config, Tag::Smtp, id, None, &Event::Processing { queue: &queue });
        }
        let mut left = self.finish_copies(config, id, &arrival.origin.sender, source.len(), copies).await;
        arrival.pass_wishes_on(&mut left);
        let undelivered = left.len();
        waiting.extend(left);
        if !waiting.is_empty() {
            let prepared =
                tokio::task::block_in_place(|| self.spool(config, &name, &arrival, waiting, source, file));
            self.spooler.accept(prepared.map_err(failed)?).done().await.map_err(failed)?;
            self.committed(name);
        }
        if direct > 0 {
            let status = if undelivered == 0 { Status::Done } else { Status::Requeued };
            self.log(config, Tag::Smtp, id, None, &Event::Finished { queue: &queue, status });
        }
        Ok(())
    }

    /// Hands the copies for mailboxes to the hub, and tells who has to wait. The limits are for the `size` that the client sent.
    fn begin(&self, config: &Config, arrival: &Arrival, source: &Source, size: u64) -> Begun {
        let (mut begun, mut seen) = (Begun::default(), HashSet::new());
        let message = Examination::new(source);
        for recipient in &arrival.recipients {
            for lost in &recipient.routed.lost {
                self.log(config, Tag::Smtp, arrival.origin.id, None, &Event::Refused(lost));
            }
            if size > self.size_max_of(config, &recipient.address) {
                begun.refuse(recipient, Refusal::TooLarge, Failure::too_large(&recipient.address));
                continue;
            }
            begun.discarded |= recipient.routed.discarded;
            if let Some(refused) = self.refused_by_list(config, arrival, recipient, source) {
                match (refused, arrival.recipients.len()) {
                    (ListRefused::Killed, 2..) => begun.discarded = true,
                    _ => {
                        let failure = Failure::post(&recipient.address, refused);
                        begun.refuse(recipient, Refusal::Post(refused), failure);
                    }
                }
                continue;
            }
            // The queue writes the report, as often as it takes to get it stored.
            if recipient.dsn.tells_success() {
                begun.waiting.push(recipient.as_it_is());
                continue;
            }
            let letter = Letter {
                sender: &arrival.origin.sender,
                recipient: &recipient.address,
                id: arrival.origin.id,
                dsn: &recipient.dsn,
                message: &message,
                before: Before::default(),
                source,
            };
            for target in &recipient.routed.mailboxes {
                if seen.insert(key(target)) {
                    match self.place(config, target, letter) {
                        Placed::UnderWay(copy) => begun.copies.push(*copy),
                        Placed::SentOn => begun.discarded = true,
                        Placed::PutOff(waiting) => begun.waiting.push(waiting),
                        Placed::Full => {
                            let address = &recipient.address;
                            let refusal = Refusal::MailboxFull(address.clone());
                            begun.refuse(recipient, refusal, Failure::mailbox_full(address));
                        }
                    }
                }
            }
            let lists: Vec<String> = recipient.routed.lists.iter().map(ListTarget::address).collect();
            let Routed { remote, waiting, .. } = &recipient.routed;
            for address in remote.iter().chain(&lists).chain(waiting) {
                if seen.insert(address.to_lowercase()) {
                    let original = Some(recipient.address.clone());
                    let dsn = recipient.dsn.clone();
                    begun.waiting.push(Waiting { address: address.clone(), original, ruled: false, dsn });
                }
            }
        }
        begun
    }

    /// A post that its list would send back is refused while its sender is there to hear it.
    fn refused_by_list(
        &self,
        config: &Config,
        arrival: &Arrival,
        recipient: &Recipient,
        source: &Source,
    ) -> Option<ListRefused> {
        let [ListTarget { domain, list, role: ListRole::Post }] = recipient.routed.lists.as_slice() else {
            return None;
        };
        let Routed { mailboxes, remote, waiting, .. } = &recipient.routed;
        if !mailboxes.is_empty() || !remote.is_empty() || !waiting.is_empty() {
            return None;
        }
        // What cannot be read now is judged again when the post has its turn.
        let list = List::find(config, config.local_domain(domain)?, list).ok()??;
        match judge(&list, &source.head().ok()?, source.len(), &arrival.origin.sender) {
            Ok(Judged::Refused(refused)) => Some(refused),
            _ => None,
        }
    }

    /// The largest message that the domain of an address takes.
    pub(super) fn size_max_of(&self, config: &Config, address: &str) -> u64 {
        let domain = config.local_domain(remote::domain_of(address));
        match domain.map_or(0, |domain| domain.max_message_size) {
            0 => MESSAGE_MAX,
            max => max.min(MESSAGE_MAX),
        }
    }

    /// Writes a message into the spool for those who have to wait; it still has to be committed.
    fn spool(
        &self,
        config: &Config,
        name: &ItemName,
        arrival: &Arrival,
        waiting: Vec<Waiting>,
        source: Source,
        file: Option<store::Incoming>,
    ) -> io::Result<Prepared> {
        for Waiting { address, original, .. } in &waiting {
            if let Some(from) = original.as_ref().filter(|from| *from != address)
                && config.local_domain(remote::domain_of(address)).is_none()
            {
                self.log(config, Tag::Smtp, name.id(), None, &Event::Forwarded { from, to: address });
            }
        }
        let fields = Fields {
            data: windows_path(config, &name.file(Role::Data)),
            host: arrival.origin.host.clone(),
            auth_user: arrival.account.clone().unwrap_or_default(),
            client_ip: arrival.origin.client.to_string(),
            helo: arrival.origin.helo.clone(),
            sender: arrival.origin.sender.clone(),
            dsn: arrival.dsn.clone(),
            utf8: arrival.origin.utf8,
            recipients: waiting,
            ..Fields::default()
        };
        let body = match file {
            Some(file) => Body::Arrived(file),
            None => Body::Copy(source),
        };
        self.store.prepare(name, body, &Envelope::new(&fields))
    }
}
