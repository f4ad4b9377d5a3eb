//! May a password cross this connection without TLS?

use layout::registry::model::PlainLogin;
use std::net::IpAddr;

/// Is a login without TLS taken from this peer? By default from this machine and its own networks only: an office keeps working, and no
/// password crosses the Internet in the clear. Private networks are those of RFC 1918 and RFC 4193, link-local ones those of RFC 3927
/// and RFC 4291 §2.5.6.
pub fn plain_login_allowed(from: PlainLogin, peer: IpAddr) -> bool {
    let peer = peer.to_canonical();
    match from {
        PlainLogin::Loopback => peer.is_loopback(),
        PlainLogin::Local => peer.is_loopback() || is_near(peer),
        PlainLogin::Anyone => true,
    }
}

fn is_near(peer: IpAddr) -> bool {
    match peer {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_log_in_without_tls() {
        use PlainLogin::{Anyone, Local, Loopback};
        // Peer, then the answer for each setting.
        for (peer, loopback, local) in [
            ("127.0.0.1", true, true),
            ("127.9.9.9", true, true),
            ("::1", true, true),
            ("::ffff:127.0.0.1", true, true),
            ("10.1.2.3", false, true),
            ("172.16.0.1", false, true),
            ("172.32.0.1", false, false),
            ("192.168.255.1", false, true),
            ("169.254.1.1", false, true),
            ("::ffff:192.168.1.1", false, true),
            ("fd00::1", false, true),
            ("fe80::1", false, true),
            ("192.0.2.1", false, false),
            ("100.64.0.1", false, false),
            ("0.0.0.0", false, false),
            ("::", false, false),
            ("2001:db8::1", false, false),
        ] {
            let peer: IpAddr = peer.parse().unwrap();
            assert_eq!(plain_login_allowed(Loopback, peer), loopback, "{peer}");
            assert_eq!(plain_login_allowed(Local, peer), local, "{peer}");
            assert!(plain_login_allowed(Anyone, peer));
        }
    }
}
