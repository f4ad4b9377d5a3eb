//! Is mail for another domain taken? A pure decision (manual 6-1-3).
//!
//! Mail for users here is never relaying. A login always may; so may a peer for a domain that is named in the routes, because naming it makes this
//! server its gateway. Everything else is the admin's setting; loopback is no exception, since web forms on this machine are abused too.

use super::lists::Accepted;
use crate::config::Config;
use crate::session::network::{Network, listed};
use layout::registry::model::{Registry, RelayMode};
use std::net::IpAddr;

/// What is known of who asks.
#[derive(Clone, Copy, Debug)]
pub struct Asking {
    /// Did the client log in?
    pub logged_in: bool,
    /// Is this server the gateway of the recipient's domain?
    pub gateway: bool,
    /// Does the client's address stand in the list?
    pub address_listed: bool,
    /// Who the client says the sender is.
    pub sender: Standing,
}

/// Who a sender claims to be; anybody can write that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Somebody else.
    Stranger,
    /// Of a domain here.
    LocalHost,
    /// A user or alias here, or named in `accept.txt`, whose entries count as local (IMail help).
    LocalUser,
}

/// Is the mail taken?
pub fn may_relay(mode: RelayMode, asking: &Asking) -> bool {
    let by_setting = match mode {
        RelayMode::None => false,
        RelayMode::Addresses => asking.address_listed,
        RelayMode::LocalUsers => asking.sender >= Standing::LocalUser,
        RelayMode::LocalHosts => asking.sender >= Standing::LocalHost,
        RelayMode::Anyone => true,
    };
    asking.logged_in || asking.gateway || by_setting
}

/// Who the sender claims to be.
pub fn standing(config: &Config, accepted: &Accepted, sender: &str, client: IpAddr) -> Standing {
    let Some((local, host)) = sender.rsplit_once('@') else { return Standing::Stranger };
    if accepted.contains(sender, client) {
        return Standing::LocalUser;
    }
    match config.local_domain(host) {
        Some(domain) if domain.user(local).is_some() || domain.alias(local).is_some() => Standing::LocalUser,
        Some(_) => Standing::LocalHost,
        None => Standing::Stranger,
    }
}

/// Does the setting's list name this client?
pub fn is_listed(config: &Config, client: IpAddr) -> bool {
    listed(&config.registry.services.smtp.relay_addresses, client)
}

/// What a start has to say about the settings: a relay that strangers can use, and entries of lists that match nobody.
pub fn warnings(registry: &Registry) -> Vec<String> {
    let services = &registry.services;
    let who = match services.smtp.relay_mode {
        RelayMode::None | RelayMode::Addresses => None,
        RelayMode::LocalUsers => Some("everybody who claims to be a user here"),
        RelayMode::LocalHosts => Some("everybody who claims to be of a domain here"),
        RelayMode::Anyone => Some("everybody: this is an open relay"),
    };
    let relay = who.map(|who| {
        format!("RelayMode: mail is relayed for {who}. Set it to None or Addresses, and let users log in")
    });
    let lists = [
        ("RelayAddresses", &services.smtp.relay_addresses),
        ("AccessList of SMTPD32", &services.smtpd.access_list),
        ("AccessList of POP3D32", &services.pop3d.access_list),
        ("AccessList of IMAP4D32", &services.imapd.access_list),
    ];
    let odd = lists.into_iter().flat_map(|(name, list)| {
        let odd = list.iter().filter(|entry| Network::parse(entry).is_none());
        odd.map(move |entry| format!("{name}: {entry:?} is no address and no network, and matches nobody"))
    });
    relay.into_iter().chain(odd).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_relay() {
        use RelayMode::{Addresses, Anyone, LocalHosts, LocalUsers, None};
        use Standing::{LocalHost, LocalUser, Stranger};
        // Mode; then, without a login: stranger, listed address, claims our domain, claims to be a user here.
        for (mode, expected) in [
            (None, [false, false, false, false]),
            (Addresses, [false, true, false, false]),
            (LocalUsers, [false, false, false, true]),
            (LocalHosts, [false, false, true, true]),
            (Anyone, [true, true, true, true]),
        ] {
            let askings = [(false, Stranger), (true, Stranger), (false, LocalHost), (false, LocalUser)];
            for ((address_listed, sender), expected) in askings.into_iter().zip(expected) {
                let asking = Asking { logged_in: false, gateway: false, address_listed, sender };
                assert_eq!(may_relay(mode, &asking), expected, "{mode:?} {asking:?}");
                assert!(may_relay(mode, &Asking { logged_in: true, ..asking }));
                assert!(may_relay(mode, &Asking { gateway: true, ..asking }));
            }
        }
    }
}
