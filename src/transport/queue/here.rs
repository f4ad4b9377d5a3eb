//! The recipients of a try who are on this machine: mailboxes, and the programs behind aliases.

use super::attempt::{Pass, Room};
use crate::transport::bounce::Failure;
use crate::transport::deliver::{Copy, Letter, Placed, mailbox_address};
use crate::transport::disposition::Before;
use crate::transport::program::{self, Ended};
use crate::transport::remote::domain_of;
use crate::transport::route::MailboxTarget;
use layout::logline::{Delivery, Event, Tag};
use layout::spool::qfile::Recipient;

/// Mailboxes of one recipient.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) recipient: &'a Recipient,
    pub(super) mailboxes: &'a [MailboxTarget],
    /// Does his address lead to one mailbox, and nowhere else?
    pub(super) single: bool,
}

/// Copies that are under way.
pub(super) struct Storing<'a> {
    parts: Vec<Placing>,
    _room: Option<Room<'a>>,
}

/// What was done for one part.
#[derive(Default)]
struct Placing {
    /// The address in the envelope.
    address: String,
    single: bool,
    copies: Vec<Copy>,
    /// Mailboxes that have no room, as addresses.
    full: Vec<String>,
    /// Mailboxes for which it has to be tried again.
    left: Vec<Recipient>,
    /// Did a mailbox's settings send it somewhere else?
    sent_on: bool,
}

impl<'a> Pass<'a> {
    /// Hands copies to mailboxes.
    pub(super) async fn store(&self, parts: &[Part<'_>], room: Option<Room<'a>>) -> Storing<'a> {
        let parts = self.inner.at_disk(|| parts.iter().map(|part| self.place(part)).collect()).await;
        Storing { parts, _room: room }
    }

    fn place(&self, &Part { recipient, mailboxes, single }: &Part<'_>) -> Placing {
        let Pass { inner, config, id, sender, source, message, forwarded, .. } = self;
        let Recipient { address, original, dsn, ruled } = recipient;
        let before = Before { ruled: *ruled, sent_on: *forwarded };
        let shown = original.as_ref().unwrap_or(address);
        let letter = Letter { sender, recipient: shown, dsn, id: *id, source, message, before };
        let mut placing = Placing { address: address.clone(), single, ..Placing::default() };
        for target in mailboxes {
            match inner.place(config, target, letter) {
                Placed::UnderWay(copy) => placing.copies.push(*copy),
                Placed::SentOn => placing.sent_on = true,
                Placed::PutOff(waiting) => placing.left.push(waiting),
                Placed::Full => placing.full.push(mailbox_address(config, target)),
            }
        }
        placing
    }

    /// Waits for copies, and takes down what came of them.
    pub(super) async fn stored(&mut self, storing: Storing<'_>) {
        let Storing { parts, _room } = storing;
        let count = parts.iter().map(|part| part.copies.len()).sum();
        for Placing { address, single, copies, full, mut left, sent_on } in parts {
            // The address as it stands leads there again; only one of several mailboxes gets a name of its own.
            let name = |own: String| if single { address.clone() } else { own };
            let Pass { inner, config, id, sender, source, .. } = self;
            left.extend(inner.finish_copies(config, *id, sender, source.len(), copies).await);
            self.results.tried = true;
            self.results.sent |= sent_on;
            if left.is_empty() && full.is_empty() {
                self.delivered(&address);
            }
            self.failed(&address, full.into_iter().map(|target| Failure::mailbox_full(&name(target))));
            for waiting in left {
                self.left(&address, name(waiting.address));
            }
        }
        self.give_back(count).await;
    }

    /// Gives the message to the program behind an alias. One that is not allowed is none of the message's tries: it waits until the
    /// administrator allows it, however long that takes.
    pub(super) async fn run_program(&mut self, address: &str, target: String) {
        let ended = match program::program_of(self.config, &target) {
            Some(program) => {
                let Pass { inner, config, source, .. } = self;
                let time_max = inner.program_time_max;
                program::run(config, &inner.store, &inner.ids, &program, source, time_max).await
            }
            None => Ended::NotAllowed("this alias leads to a program no more".to_owned()),
        };
        self.results.tried |= !matches!(ended, Ended::NotAllowed(_));
        let (Ended::NotAllowed(why) | Ended::TryAgain(why) | Ended::Failed(why)) = &ended else {
            self.results.sent = true;
            self.delivered(address);
            let (host, bytes) = (domain_of(&target), self.source.len());
            let delivery = Delivery { host, recipient: &target, count: 1, sender: &self.sender, bytes };
            return self.inner.log(self.config, Tag::Smtp, self.id, None, &Event::LocalDelivery(delivery));
        };
        self.note(&target, why);
        match ended {
            Ended::Delivered => {}
            Ended::NotAllowed(_) => self.results.verdict(address).left.push(target),
            Ended::TryAgain(_) => self.left(address, target),
            Ended::Failed(_) => self.failed(address, [Failure::undeliverable(&target)]),
        }
    }
}
