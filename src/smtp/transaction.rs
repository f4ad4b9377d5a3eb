//! MAIL and RCPT: who sends, who gets it, and whether that is taken.
//!
//! # Limits
//! [`RECIPIENTS_MAX`] recipients of a message, and [`super::limits`] of an account.

use super::parameters::{Mail, Rcpt};
use super::receive::Content;
use super::reply::{self, text};
use super::{Session, relay, size_max};
use crate::config::Config;
use crate::session::connection::Connection;
use crate::transport::route::Unroutable;
use crate::transport::{Recipient, Refusal};
use layout::limits::MESSAGE_MAX;
use layout::logline::Event;
use std::time::{Duration, Instant};

/// The most recipients of a message, whatever the setting: RFC 5321 §4.5.3.1.8 asks for at least 100.
const RECIPIENTS_MAX: usize = 10_000;
/// The longest pause between recipients, whatever the setting: clients wait five minutes at most, and a stop waits for sessions.
const DELAY_MAX: Duration = Duration::from_secs(10);

/// A message, from MAIL until it has come in.
pub(super) struct Transaction {
    /// The sender, and what was said of the message.
    pub(super) mail: Mail,
    /// Who gets it.
    pub(super) recipients: Vec<Recipient>,
    /// What came of it by BDAT.
    pub(super) content: Option<Content>,
}

impl Session {
    pub(super) fn mail(&mut self, connection: &mut Connection, mail: Mail) {
        if self.hello.is_none() || self.transaction.is_some() {
            return self.refuse(connection, text::SEQUENCE);
        }
        if self.submission && self.login.is_none() {
            return self.refuse(connection, text::AUTH_REQUIRED);
        }
        let max = size_max(&self.server.live.now(), connection.local_ip()).unwrap_or(MESSAGE_MAX);
        if mail.size.is_some_and(|size| size > max) {
            return self.refuse(connection, text::TOO_LARGE);
        }
        let (server, sender) = (&self.server, &mail.sender);
        if self.login.is_none() && server.sender_lists.killed(server.live.now().root()).contains(sender) {
            self.log(connection, &Event::KillFile { sender });
            self.errors += 1;
            return connection.answer(format!("{}\r\n", text::KILLED));
        }
        self.transaction = Some(Transaction { mail, recipients: Vec::new(), content: None });
        connection.answer(format!("{}\r\n", text::OK));
    }

    pub(super) async fn rcpt(&mut self, connection: &mut Connection, rcpt: Rcpt) {
        let transaction = match self.transaction.take() {
            Some(transaction) if transaction.content.is_none() => transaction,
            other => {
                self.transaction = other;
                return self.refuse(connection, text::SEQUENCE);
            }
        };
        let config = self.server.live.now();
        let taken = self.take_recipient(connection, &config, &transaction, &rcpt);
        let transaction = self.transaction.insert(transaction);
        match taken {
            Ok(recipient) => {
                let delay = delay(&config, &transaction.recipients, &recipient);
                transaction.recipients.push(Recipient { dsn: rcpt.dsn, ..recipient.compact() });
                tokio::time::sleep(delay).await;
                connection.answer(format!("250 2.1.5 ok its for <{}>\r\n", rcpt.recipient));
            }
            Err(answer) => self.refuse(connection, &answer),
        }
    }

    /// Takes or refuses a recipient, with the reply.
    fn take_recipient(
        &self,
        connection: &Connection,
        config: &Config,
        transaction: &Transaction,
        rcpt: &Rcpt,
    ) -> Result<Recipient, String> {
        let Transaction { mail, recipients, .. } = transaction;
        if !rcpt.recipient.is_ascii() && !mail.utf8 {
            return Err(text::UTF8.to_owned());
        }
        let max = match config.registry.services.smtp.max_recipients as usize {
            0 => RECIPIENTS_MAX,
            max => max.min(RECIPIENTS_MAX),
        };
        if recipients.len() >= max {
            return Err(text::RECIPIENTS.to_owned());
        }
        let (transport, address, trusted) = (&self.server.transport, &rcpt.recipient, self.login.is_some());
        let size = mail.size.unwrap_or(0);
        let taken = match transport.recipient(config, address, trusted, size) {
            Err(Refusal::Recipient(address, Unroutable::NotLocal(domain)))
                if self.may_relay(connection, config, &mail.sender, &domain) =>
            {
                Recipient::elsewhere(&address)
            }
            other => other.map_err(|refusal| reply::refusal(&refusal))?,
        };
        match &self.login {
            Some(login) if !login.ticket.count(Instant::now()) => Err(text::ACCOUNT_RECIPIENTS.to_owned()),
            _ => Ok(taken),
        }
    }

    /// Is mail for a domain that is not ours taken from this client?
    fn may_relay(&self, connection: &Connection, config: &Config, sender: &str, domain: &str) -> bool {
        let (server, client) = (&self.server, connection.peer_ip());
        let accepted = server.sender_lists.accepted(config.root());
        let asking = relay::Asking {
            logged_in: self.login.is_some(),
            gateway: server.transport.is_gateway_for(config, domain),
            address_listed: relay::is_listed(config, client),
            sender: relay::standing(config, &accepted, sender, client),
        };
        relay::may_relay(config.registry.services.smtp.relay_mode, &asking)
    }
}

/// How long a recipient waits for the reply: `DelayBetweenRCPT` between recipients of relayed mail (IMail 7 guide, registry tips), which slows down those
/// who send to many.
fn delay(config: &Config, before: &[Recipient], recipient: &Recipient) -> Duration {
    let relayed = recipient.routed.mailboxes.is_empty() && !recipient.routed.remote.is_empty();
    match before.is_empty() || !relayed {
        true => Duration::ZERO,
        false => {
            let delay = config.registry.services.smtp.delay_between_rcpt_ms;
            Duration::from_millis(u64::from(delay)).min(DELAY_MAX)
        }
    }
}
