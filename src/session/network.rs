//! Lists of addresses and networks, as admins write them: `192.0.2.1`, `192.0.2.0/24`, `192.0.2.0 255.255.255.0` (manual 6-1-3 and 6-1-4:
//! one address, or an address and a mask), IPv6 too.
//!
//! # Failure
//! An entry that is not understood matches nobody; [`Network::parse`] tells so that a start can name it.

use std::net::IpAddr;

/// An address with the number of leading bits that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    /// Reads an entry.
    pub fn parse(entry: &str) -> Option<Network> {
        let mut parts = entry.split(['/', ' ', '\t', ',']).filter(|part| !part.is_empty());
        let address: IpAddr = parts.next()?.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = match parts.next() {
            None => width,
            Some(mask) => mask.parse().ok().or_else(|| mask_bits(mask.parse().ok()?))?,
        };
        (bits <= width && parts.next().is_none()).then_some(Network { address, bits })
    }

    /// Is this address in it?
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differ = network.to_bits() ^ address.to_bits();
                self.bits == 0 || differ.leading_zeros() >= self.bits
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differ = network.to_bits() ^ address.to_bits();
                self.bits == 0 || differ.leading_zeros() >= self.bits
            }
            _ => false,
        }
    }
}

/// The length of a mask, which is ones and then zeros.
fn mask_bits(mask: IpAddr) -> Option<u32> {
    match mask {
        IpAddr::V4(mask) => {
            let bits = mask.to_bits();
            (bits.leading_ones() + bits.trailing_zeros() == 32 || bits == 0).then(|| bits.leading_ones())
        }
        IpAddr::V6(_) => None,
    }
}

/// Is the address in one of the entries?
pub fn listed(list: &[String], address: IpAddr) -> bool {
    list.iter().filter_map(|entry| Network::parse(entry)).any(|network| network.contains(address))
}

/// The network of a client that counts as one: an IPv4 address's first `v4` bits, an IPv6 address's first 64, which is what one customer has.
pub fn network_of(address: IpAddr, v4: u32) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(ip) => {
            IpAddr::V4((ip.to_bits() & u32::MAX.checked_shl(32 - v4.min(32)).unwrap_or(0)).into())
        }
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

/// The addresses of this machine.
pub fn own_addresses() -> Vec<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let mut found: Vec<IpAddr> = Vec::new();
    for address in interfaces.filter_map(|interface| interface.address) {
        let ip = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
            (Some(four), _) => IpAddr::V4(four.ip()),
            (_, Some(six)) => IpAddr::V6(six.ip()),
            _ => continue,
        };
        if !found.contains(&ip) {
            found.push(ip);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_addresses() {
        for (entry, address, expected) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.0 255.255.255.0", "192.0.2.7", true),
            ("192.0.2.0/255.255.255.0", "192.0.3.7", false),
            ("0.0.0.0/0", "198.51.100.1", true),
            ("0.0.0.0 0.0.0.0", "198.51.100.1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
        ] {
            let found = Network::parse(entry).unwrap().contains(address.parse().unwrap());
            assert_eq!(found, expected, "{entry} {address}");
        }
        for entry in ["", "x", "192.0.2.0/33", "192.0.2.0 255.0.255.0", "192.0.2.0/24 x", "192.0.2", "::/129"]
        {
            assert_eq!(Network::parse(entry), None, "{entry}");
        }
        assert!(listed(&["bad".into(), "10.0.0.0/8".into()], "10.1.1.1".parse().unwrap()));
        for (address, expected) in [
            ("192.0.2.77", "192.0.2.0"),
            ("::ffff:192.0.2.77", "192.0.2.0"),
            ("2001:db8::1:2:3:4", "2001:db8::"),
        ] {
            assert_eq!(network_of(address.parse().unwrap(), 24).to_string(), expected);
        }
        assert_eq!(network_of("192.0.2.77".parse().unwrap(), 32).to_string(), "192.0.2.77");
    }
}
