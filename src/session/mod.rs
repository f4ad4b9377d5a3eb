//! What every session works with: the [`Server`]'s parts, and the client's [`connection`].

mod compression;
pub mod connection;
pub mod gate;
pub mod network;
#[cfg(test)]
pub mod testing;
pub mod traffic;

use crate::account::Accounts;
use crate::config::Live;
use crate::logs::Log;
use crate::mailbox::Hub;
use crate::smtp::limits::Senders;
use crate::smtp::lists::SenderLists;
use crate::transport::Transport;
use gate::Gate;
use layout::name::SpoolId;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// The parts of a running server.
pub struct Server {
    /// The configuration.
    pub live: Arc<Live>,
    /// The mailboxes.
    pub hub: Arc<Hub>,
    /// The logins.
    pub accounts: Accounts,
    /// The log files.
    pub log: Log,
    /// Where mail goes.
    pub transport: Transport,
    /// Begins TLS.
    pub tls: TlsAcceptor,
    /// Who connects, and how often.
    pub gate: Arc<Gate>,
    /// Who is refused, and who counts as local.
    pub sender_lists: SenderLists,
    /// How much accounts send.
    pub senders: Arc<Senders>,
}

impl Server {
    /// Puts the parts together.
    pub fn new(
        live: Arc<Live>,
        hub: Arc<Hub>,
        accounts: Accounts,
        log: Log,
        transport: Transport,
        tls: TlsAcceptor,
    ) -> Server {
        let (gate, sender_lists, senders) = (Arc::default(), SenderLists::default(), Arc::default());
        Server { live, hub, accounts, log, transport, tls, gate, sender_lists, senders }
    }

    /// The id of a POP3 or IMAP connection in its log lines, from the same numbers as those of messages. A spool that cannot be
    /// written must not keep users from their mail: then it is 0. Blocks on the disk now and then.
    pub fn connection_id(&self) -> SpoolId {
        let id = tokio::task::block_in_place(|| self.transport.connection_id());
        id.map_or(SpoolId(0), |id| id.id())
    }
}
