//! Lists and large groups among the recipients of an item: what comes of the mail is laid out as items of its own ([`crate::transport::mailing`]).

use super::attempt::Pass;
use crate::lists::addresses::Addresses;
use crate::lists::header::author;
use crate::lists::list::List;
use crate::lists::post::Copy;
use crate::lists::server::Desk;
use crate::lists::work::{self, Came, Mailing, Plan, Recipients};
use crate::message::header::header_length;
use crate::transport::Inner;
use crate::transport::bounce::{Action, Failure};
use crate::transport::deliver::of_forward;
use crate::transport::mailing::{About, ITEM_RECIPIENTS};
use crate::transport::remote::domain_of;
use crate::transport::route::{ListRole, ListTarget};
use chrono::Local;
use layout::logline::{Delivery, Event, Tag};
use layout::mbx::compose::Source;
use layout::registry::model::Domain;
use layout::spool::qfile::{Envelope, Fields, Recipient};
use layout::spool::store::{Claim, SpoolError};
use std::io;

/// Those whom a large group stands for.
pub(super) struct Crowd {
    /// The group in the envelope.
    pub(super) group: Recipient,
    /// Mailboxes here; none if the items were laid out before.
    pub(super) here: Addresses,
    /// The others.
    pub(super) elsewhere: Addresses,
}

impl Crowd {
    /// More than so many go on as items of their own, so that a crash repeats few of them, and a try holds few.
    pub(super) const MORE_THAN: usize = ITEM_RECIPIENTS;

    /// Under which name it is noted that the items are laid out; no list has it.
    pub(super) fn key(address: &str) -> String {
        format!("members {address}")
    }
}

impl Inner {
    /// Does again what hand edits of lists' files undid.
    pub(super) fn tend_lists(&self) {
        let config = self.live.now();
        let notes = tokio::task::block_in_place(|| {
            self.list_changes.tend(config.root().disk(), config.registry.global.code_page)
        });
        notes.iter().for_each(|note| self.log.note(note));
    }
}

impl Pass<'_> {
    /// Does what is to be done for each list among the recipients. One that fails waits for the next try.
    pub(super) async fn serve_lists(&mut self, claim: &mut Claim, envelope: &mut Envelope) {
        for (address, list) in std::mem::take(&mut self.lists) {
            let replace_from = match list.role {
                ListRole::Post => self.wants_other_from(&list).await,
                ListRole::Bounce | ListRole::Server => false,
            };
            self.results.tried = true;
            let inner = self.inner;
            let served = inner.at_disk(|| self.serve(claim, envelope, &address, &list, replace_from)).await;
            if let Err(error) = served {
                self.note(&address, &error.to_string());
                self.left(&address, address.clone());
            }
        }
    }

    /// Must the list's address stand in From?
    async fn wants_other_from(&self, list: &ListTarget) -> bool {
        let wanted = || {
            let domain = self.config.local_domain(&list.domain)?;
            let settings = List::find(self.config, domain, &list.list).ok()??.settings;
            if settings.skip_dmarc { None } else { head(&self.source).ok() }
        };
        let Some(head) = tokio::task::block_in_place(wanted) else { return false };
        let author = author(&head, &self.sender);
        let domain = domain_of(&author);
        !domain.is_empty()
            && self.inner.policies.wants_replacement(self.inner.remote.resolver(), domain).await
    }

    fn serve(
        &mut self,
        claim: &mut Claim,
        envelope: &mut Envelope,
        address: &str,
        list: &ListTarget,
        replace_from: bool,
    ) -> Result<(), SpoolError> {
        let key = list.address();
        let about = About::list(format!("{} {}", self.id, key.to_lowercase()));
        let count = match envelope.laid_out(&key) {
            Some(count) => count,
            None => {
                let plan = self.plan(list, replace_from)?;
                plan.notes.iter().for_each(|note| self.note(address, note));
                if let Some(refused) = plan.refused {
                    self.failed(address, [Failure::post(address, refused)]);
                }
                let common = Fields { host: list.domain.clone(), ..Fields::default() };
                let count = self.inner.lay_out(self.config, &common, &about, &plan.mailings, &self.source)?;
                if count > 0 {
                    envelope.set_laid_out(address, &key, count);
                    claim.update(envelope)?;
                }
                if !plan.held.is_empty() {
                    self.forget(list, &plan.held)?;
                }
                count
            }
        };
        if count > 0 {
            self.inner.publish(&about, count)?;
        }
        // It must not be begun again after a power cut.
        self.results.sent = true;
        let bytes = self.source.len();
        let recipient = key.split('@').next().unwrap_or(&key);
        let delivery = Delivery { host: &list.domain, recipient, count: 1, sender: &self.sender, bytes };
        self.inner.log(self.config, Tag::Smtp, self.id, None, &Event::LocalDelivery(delivery));
        Ok(())
    }

    /// Lays out the items for those whom large groups stand for. A group that fails waits for the next try.
    pub(super) fn serve_crowds(&mut self, claim: &mut Claim, envelope: &mut Envelope) {
        for crowd in std::mem::take(&mut self.crowds) {
            self.results.tried = true;
            let address = crowd.group.address.clone();
            if let Err(error) = self.serve_crowd(claim, envelope, crowd) {
                self.note(&address, &error.to_string());
                self.left(&address, address.clone());
            }
        }
    }

    fn serve_crowd(
        &mut self,
        claim: &mut Claim,
        envelope: &mut Envelope,
        crowd: Crowd,
    ) -> Result<(), SpoolError> {
        let Crowd { group: Recipient { address, original, dsn, ruled }, here, elsewhere } = crowd;
        let key = Crowd::key(&address);
        let name = format!("{} {}", self.id, key.to_lowercase());
        let about = if self.forwarded { About::forward(name) } else { About::list(name) };
        let count = match envelope.laid_out(&key) {
            Some(count) => count,
            None => {
                // The sender hears that the message goes to the members, and then only of those who do not get it (RFC 3461 §5.2.7.3).
                let (original, dsn) = (original.or_else(|| Some(address.clone())), of_forward(&dsn));
                let some = |addresses, ruled| Recipients {
                    addresses,
                    ruled,
                    original: original.clone(),
                    dsn: dsn.clone(),
                    may_create: false,
                };
                let mailing = Mailing {
                    sender: self.sender.clone(),
                    owner: String::new(),
                    copy: Copy { begin: Vec::new(), rest: Some(0) },
                    // The rules for outgoing mail were applied to all of the others at once.
                    recipients: vec![some(here, ruled), some(elsewhere, true)],
                };
                let common = Fields {
                    host: self.host.clone(),
                    dsn: self.dsn.clone(),
                    utf8: self.utf8,
                    auth_user: envelope.auth_user().unwrap_or_default(),
                    ..Fields::default()
                };
                let count = self.inner.lay_out(self.config, &common, &about, &[mailing], &self.source)?;
                envelope.set_laid_out(&address, &key, count);
                claim.update(envelope)?;
                count
            }
        };
        self.inner.publish(&about, count)?;
        // It must not be begun again after a power cut.
        self.results.sent = true;
        self.arrived(&address, &address, Action::Expanded);
        let text = format!("mail to {address} goes on to its members in {count} items");
        self.inner.log(self.config, Tag::Smtp, self.id, None, &Event::Note(&text));
        Ok(())
    }

    fn plan(&self, list: &ListTarget, replace_from: bool) -> io::Result<Plan> {
        let Pass { inner, config, .. } = self;
        let Some(domain) = config.local_domain(&list.domain) else { return Ok(Plan::default()) };
        let number = xxhash_rust::xxh3::xxh3_64(format!("{} {}", self.id, list.address()).as_bytes());
        let (changes, answers) = (&inner.list_changes, &inner.answers);
        let desk = Desk { config, domain, changes, answers, now: Local::now(), number };
        let came = Came { source: &self.source, sender: &self.sender, replace_from };
        if list.role == ListRole::Server {
            return work::server(&desk, &came);
        }
        let Some(found) = List::find(config, domain, &list.list)? else {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the list was removed"));
        };
        match list.role {
            ListRole::Bounce => work::bounced(&desk, &found, &came),
            _ => match self.ruled(domain, &found, &came)? {
                Some(plan) => Ok(plan),
                None => work::post(&desk, &found, &came),
            },
        }
    }

    /// The report of these members on hold is on its way.
    fn forget(&self, list: &ListTarget, held: &[String]) -> io::Result<()> {
        let domain = self.config.local_domain(&list.domain);
        let found = domain.map(|domain| List::find(self.config, domain, &list.list)).transpose()?.flatten();
        found.map_or(Ok(()), |found| work::forget(&found, held))
    }

    /// What the rules of the list make of a post; they come before the list server (IMail 7 guide, "processing order"). `None`: the list gets it.
    fn ruled(&self, domain: &Domain, list: &List<'_>, came: &Came<'_>) -> io::Result<Option<Plan>> {
        let Pass { inner, config, message, .. } = self;
        let Some((hit, to)) = message.of_list(config, &inner.rules, domain, list.dir.path())? else {
            return Ok(None);
        };
        let goes = to.as_deref().map_or("thrown away".to_owned(), |to| format!("sent to {to}"));
        let notes = vec![format!("{goes} by the rule {} of the list", hit.rule)];
        let mailings = to.map(|to| Mailing::ruled(came, list, to)).into_iter().collect();
        Ok(Some(Plan { mailings, notes, ..Plan::default() }))
    }
}

fn head(source: &Source) -> io::Result<Vec<u8>> {
    let mut begin = source.head()?;
    begin.truncate(header_length(&begin));
    Ok(begin)
}
