//! The end of a try: what came of it becomes durable, first what the sender is told, then who is left.
//!
//! # Failure
//! The disk's. Then [`Unsettled`] keeps what came of the item, so that the next try writes it down and sends nothing a second time. A sender who asked for a
//! report of success gets it that way too, as soon as it can be stored.
//!
//! # Limits
//! [`UNSETTLED_MAX`] items, in memory: what came of others, or of any when the server is stopped, is forgotten, and they are delivered again.

use super::attempt::{ODD_FOR, Pass, Rest};
use super::tell::Told;
use super::wait;
use crate::transport::bounce::{Action, Failure};
use layout::disk::Stamp;
use layout::logline::Status;
use layout::spool::id::ItemName;
use layout::spool::qfile::{Envelope, Recipient};
use layout::spool::store::{Claim, SpoolError};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The most items whose results are kept.
const UNSETTLED_MAX: usize = 10_000;
/// How long an item rests that nobody can be told of: until an admin touches it.
const KEPT_FOR: Duration = Duration::from_secs(10 * 365 * 86_400);
/// How often a Q file may be edited by somebody else while its new content is written.
const EDITS_MAX: usize = 3;

/// What came of one address in the envelope.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdict {
    /// Who is left of those that the address stands for, as addresses.
    pub(super) left: Vec<String>,
    pub(super) failures: Vec<Failure>,
    /// Who has the message, if the sender is to hear of it and the next server does not tell him itself.
    pub(super) arrived: Vec<(String, Action)>,
}

/// What came of a try, as long as it is written down nowhere.
#[derive(Default)]
pub(super) struct Results {
    /// By the address in the envelope.
    pub(super) verdicts: HashMap<String, Verdict>,
    /// Was anything really tried?
    pub(super) tried: bool,
    /// Did another server, a program, or another item of the spool get the message?
    pub(super) sent: bool,
    /// When a destination that is left alone may be tried.
    pub(super) not_before: Option<Instant>,
    /// Who was told of failures, once that is done.
    pub(super) told: Option<Told>,
    /// Of which successes the sender was told.
    pub(super) told_of: Vec<Action>,
}

impl Results {
    /// What came of an address, so far.
    pub(super) fn verdict(&mut self, address: &str) -> &mut Verdict {
        self.verdicts.entry(address.to_owned()).or_default()
    }
}

/// Results that could not be written down.
#[derive(Default)]
pub(in crate::transport) struct Unsettled(Mutex<HashMap<ItemName, Results>>);

impl Unsettled {
    /// What came of the item before.
    pub(super) fn take(&self, name: &ItemName) -> Results {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name).unwrap_or_default()
    }

    /// Keeps them for the next try, if there will be one.
    pub(super) fn keep(&self, name: &ItemName, results: &mut Results, error: &SpoolError) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(error, SpoolError::Gone(_)) && all.len() < UNSETTLED_MAX {
            all.insert(name.clone(), std::mem::take(results));
        }
    }
}

/// How a try ended.
pub(super) struct Settled {
    pub(super) status: Status,
    pub(super) rest: Rest,
    /// Mailboxes know what they have; but what went elsewhere must not come back after a power cut, so that it is gone has to be made durable.
    pub(super) ends_durably: bool,
}

impl Pass<'_> {
    /// Makes the outcome durable: first the bounce, then the Q file, then the end.
    pub(super) fn settle(
        &mut self,
        mut claim: Claim,
        mut envelope: Envelope,
        stamp: Stamp,
    ) -> Result<Settled, SpoolError> {
        let settings = &self.config.registry.services.smtp;
        let bounced = self.bounce(&envelope)?;
        self.tell_success(&envelope)?;
        let delay_told = self.tell_delay(&envelope);
        let kept = bounced == Told::Nobody;
        for edit in 0.. {
            if delay_told {
                envelope.set_delay_told(|_, recipient| self.waits(recipient));
            }
            self.apply(&mut envelope, kept);
            if self.results.tried {
                envelope.set_tries(self.tries);
            }
            let ended = envelope.is_finished();
            if ended {
                match claim.finish() {
                    Err(SpoolError::Changed(name)) if edit < EDITS_MAX => {
                        claim = self.inner.store.claim(&name)?;
                        envelope = claim.load()?.envelope;
                        continue;
                    }
                    done => done?,
                }
                let status = if bounced == Told::Sender { Status::Bounced } else { Status::Done };
                let ends_durably = self.results.sent || bounced == Told::Sender;
                return Ok(Settled { status, rest: Rest::Ended, ends_durably });
            }
            let unchanged = !self.results.tried && bounced == Told::NoNeed;
            let written = if unchanged { Ok(stamp) } else { claim.update(&envelope) };
            let stamp = match written {
                Err(SpoolError::Changed(_)) if edit < EDITS_MAX => {
                    envelope = claim.load()?.envelope;
                    continue;
                }
                written => written?,
            };
            let due = match self.results.not_before {
                _ if kept => Instant::now() + KEPT_FOR,
                Some(until) => until.min(Instant::now() + wait(settings, self.tries)),
                None => Instant::now() + wait(settings, self.tries),
            };
            let status = if kept { Status::InternalError } else { Status::Requeued };
            return Ok(Settled { status, rest: Rest::Until(stamp, due), ends_durably: false });
        }
        let rest = Rest::Until(stamp, Instant::now() + ODD_FOR);
        Ok(Settled { status: Status::InternalError, rest, ends_durably: false })
    }

    /// Leaves in the envelope who is left. `kept`: those who were given up stay as well, since nobody could be told.
    fn apply(&self, envelope: &mut Envelope, kept: bool) {
        let mut add = Vec::new();
        envelope.retain_recipients(|_, recipient| {
            let Some(verdict) = self.results.verdicts.get(&recipient.address) else { return true };
            let failed = verdict.failures.iter().map(|failure| &failure.recipient).filter(|_| kept);
            let left: Vec<&String> = verdict.left.iter().chain(failed).collect();
            if left.iter().any(|address| **address == recipient.address) {
                return true;
            }
            let original = recipient.original.clone().or_else(|| Some(recipient.address.clone()));
            add.extend(left.into_iter().map(|address| Recipient {
                address: address.clone(),
                original: original.clone(),
                ruled: recipient.ruled,
                dsn: recipient.dsn.clone(),
            }));
            false
        });
        add.iter().for_each(|recipient| envelope.add_recipient(recipient));
    }
}
