//! VRFY and EXPN, which say nothing of users unless the admin wants it, and ETRN.
//!
//! # Limits
//! [`EXPANDED_MAX`]; those of [`crate::transport::etrn`].

use super::Session;
use super::reply::{self, text};
use crate::config::Config;
use crate::session::connection::Connection;
use crate::transport::etrn::Asked;
use crate::transport::route::Unroutable;
use crate::transport::{Recipient, Refusal};

/// The most members that EXPN names.
const EXPANDED_MAX: usize = 1000;

impl Session {
    /// VRFY: says nothing of users unless the admin wants it (RFC 5321 §7.3).
    pub(super) fn verify(&mut self, connection: &mut Connection, address: &str) {
        let config = self.server.live.now();
        if !config.registry.services.smtp.enable_vrfy {
            return connection.answer(format!("{}\r\n", text::VERIFY));
        }
        let address = whole_address(&config, connection, address);
        match self.look_up(&config, &address) {
            Ok(_) => connection.answer(format!("250 2.1.5 <{address}>\r\n")),
            Err(Refusal::Recipient(_, Unroutable::NotLocal(_))) => {
                connection.answer(format!("{}\r\n", text::VERIFY));
            }
            Err(refusal) => self.refuse(connection, &reply::refusal(&refusal)),
        }
    }

    /// EXPN: who gets mail for an alias, if the admin wants that to be told.
    pub(super) fn expand(&mut self, connection: &mut Connection, address: &str) {
        let config = self.server.live.now();
        if !config.registry.services.smtp.enable_expn {
            return self.refuse(connection, text::EXPAND);
        }
        let address = whole_address(&config, connection, address);
        let routed = match self.look_up(&config, &address) {
            Ok(found) => found.routed,
            Err(refusal) => return self.refuse(connection, &reply::refusal(&refusal)),
        };
        let users = routed.mailboxes.iter().map(|target| format!("{}@{}", target.user, target.domain));
        let members: Vec<String> = users.chain(routed.remote).take(EXPANDED_MAX).collect();
        let Some((last, others)) = members.split_last() else {
            return self.refuse(connection, text::EXPAND);
        };
        for member in others {
            connection.answer(format!("250-2.1.5 <{member}>\r\n"));
        }
        connection.answer(format!("250 2.1.5 <{last}>\r\n"));
    }

    /// Where mail for an address would go.
    fn look_up(&self, config: &Config, address: &str) -> Result<Recipient, Refusal> {
        self.server.transport.recipient(config, address, false, 0)
    }

    /// ETRN: the mail for a domain is tried now (RFC 1985 §5.3).
    pub(super) fn retry(&mut self, connection: &mut Connection, node: &str) {
        if self.hello.is_none() || self.transaction.is_some() {
            return self.refuse(connection, text::SEQUENCE);
        }
        let config = self.server.live.now();
        let asked = tokio::task::block_in_place(|| self.server.transport.ask_for(&config, node));
        let answer = reply::etrn(node, &asked);
        match asked {
            Ok(Asked::NotServed) | Err(_) => self.refuse(connection, &answer),
            Ok(_) => connection.answer(format!("{answer}\r\n")),
        }
    }
}

/// An address as VRFY and EXPN give it: with brackets or without, a bare name is of the domain connected to. SMTPUTF8 may stand behind it.
fn whole_address(config: &Config, connection: &Connection, address: &str) -> String {
    let address = address.split_ascii_whitespace().next().unwrap_or("");
    let address: String = address.chars().filter(|c| !c.is_control() && !"<>".contains(*c)).collect();
    match address.contains('@') {
        true => address,
        false => format!("{address}@{}", config.host_name(connection.local_ip())),
    }
}
