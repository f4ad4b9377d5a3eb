//! The rules of `regcheck`: do the two kinds of keys below `Domains` point at each other, and at addresses of this machine?
//!
//! Wording and order as in the two samples of the IMail 12 manual (6-2) and in the vendor's help page of the program. It only
//! reads. Cases that neither shows (a mapping key whose domain does not exist, a domain whose address has no mapping key) are
//! reported with the line that comes nearest.

use std::collections::HashMap;
use std::net::IpAddr;

use super::model::{Domain, Mapping, Registry};
use super::{fold, same_name};

/// The lines that `regcheck` prints, and whether one of them is a fault. `local_addresses` are those of this machine.
pub fn regcheck(registry: &Registry, local_addresses: &[IpAddr]) -> (Vec<String>, bool) {
    let mut lines = vec!["Starting Domain Registry check".to_owned()];
    let shown = local_addresses.iter().filter(|address| !address.is_loopback());
    lines.extend(shown.map(|address| format!("System IP found - {address}")));
    let mut faults = 0;
    let mut fault = |lines: &mut Vec<String>, line: String| {
        lines.push(line);
        faults += 1;
    };
    match primary_line(registry) {
        Ok(line) => lines.push(line),
        Err(line) => fault(&mut lines, line),
    }
    if !registry.has_domains {
        fault(&mut lines, "Could not find IMail Domains key, domain registry check failed".to_owned());
        return (lines, true);
    }
    for line in domain_faults(registry, local_addresses) {
        fault(&mut lines, line);
    }
    lines.push("Domain registry check complete".to_owned());
    (lines, faults > 0)
}

fn primary_line(registry: &Registry) -> Result<String, String> {
    let name = &registry.global.host_name;
    if !registry.has_global {
        return Err("Could not find IMail Global key, host key check failed".to_owned());
    }
    if name.is_empty() {
        return Err("Could not find Global HostName, host key check failed".to_owned());
    }
    let domain = domain(registry, name).ok_or_else(|| format!("Missing primary domain {name}"))?;
    match domain.own_address.as_deref() {
        Some(address) if !address.is_empty() => Ok(format!("Primary Host {name} address is {address}")),
        _ => Err(format!("Could not find address for primary host {name}")),
    }
}

/// One pass over the mapping keys in the order of their names, then the domains whose address has none.
fn domain_faults(registry: &Registry, local_addresses: &[IpAddr]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut earlier: HashMap<String, &str> = HashMap::new();
    for mapping in &registry.mappings {
        lines.extend(official_mismatch(registry, mapping));
        let (official, address) = (&mapping.official, mapping.address.as_str());
        if !official.is_empty() {
            let before = *earlier.entry(fold(official).into_owned()).or_insert(address);
            if before != address {
                lines.push(format!("Dup Official {official} Official {address} and {before}"));
            }
        }
        if let Ok(ip) = address.parse::<IpAddr>()
            && !ip.is_loopback()
            && !local_addresses.contains(&ip)
        {
            lines.push(format!("Domain IP / system IP mismatch - {official} Address - {address}"));
        }
    }
    for domain in &registry.domains {
        let address = domain.own_address.as_deref().unwrap_or_default();
        if !address.is_empty()
            && !registry.mappings.iter().any(|mapping| same_name(&mapping.address, address))
        {
            lines.push(mismatch(&domain.name, address));
        }
    }
    lines
}

fn official_mismatch(registry: &Registry, mapping: &Mapping) -> Option<String> {
    let address = match domain(registry, &mapping.official) {
        Some(domain) => domain.own_address.as_deref().unwrap_or_default(),
        None => return Some(mismatch(&mapping.official, &mapping.address)),
    };
    (!same_name(address, &mapping.address)).then(|| mismatch(&mapping.official, address))
}

fn mismatch(official: &str, address: &str) -> String {
    format!("Domain / official mismatch: official - {official} Address - {address}")
}

/// The domain with this very name: other names do not count here.
fn domain<'a>(registry: &'a Registry, name: &str) -> Option<&'a Domain> {
    registry.domains.iter().find(|domain| same_name(&domain.name, name))
}

#[cfg(test)]
mod tests {
    use super::super::doc::Doc;
    use super::*;

    fn check(registry: &str, addresses: &[&str]) -> (String, bool) {
        let (doc, complaints) = Doc::parse(registry.as_bytes().to_vec());
        assert_eq!(complaints, []);
        let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let (lines, fault) = regcheck(&Registry::from_doc(&doc), &addresses);
        (lines.join("\n"), fault)
    }

    #[test]
    fn the_good_sample_of_the_manual() {
        let registry = "[Global]\nHostName=kgtm-96d.itdnet.local\n[Domains\\10.21.3.40]\nOfficial=kgtm-96d.itdnet.local\n\
             [Domains\\kgtm-96d.itdnet.local]\nAddress=10.21.3.40\n";
        let expected = "Starting Domain Registry check\nSystem IP found - 10.21.3.40\n\
             Primary Host kgtm-96d.itdnet.local address is 10.21.3.40\nDomain registry check complete";
        assert_eq!(check(registry, &["127.0.0.1", "10.21.3.40"]), (expected.to_owned(), false));
    }

    #[test]
    fn the_bad_sample_of_the_manual() {
        let registry = "[Global]\nHostName=kgtm-96vm.itdnet.local\n[Domains\\10.21.3.41]\nOfficial=kgtm-96vm.itdnet.local\n\
             [Domains\\10.21.3.43]\nOfficial=kgtm-96vm.itdnet.local\n[Domains\\kgtm-96vm.itdnet.local]\nAddress=10.21.3.43\n";
        let expected = "Starting Domain Registry check\nSystem IP found - 10.21.3.41\n\
             Primary Host kgtm-96vm.itdnet.local address is 10.21.3.43\n\
             Domain / official mismatch: official - kgtm-96vm.itdnet.local Address - 10.21.3.43\n\
             Dup Official kgtm-96vm.itdnet.local Official 10.21.3.43 and 10.21.3.41\n\
             Domain IP / system IP mismatch - kgtm-96vm.itdnet.local Address - 10.21.3.43\n\
             Domain registry check complete";
        assert_eq!(check(registry, &["10.21.3.41", "::1"]), (expected.to_owned(), true));
    }

    #[test]
    fn every_other_message() {
        let cases: &[(&str, &[&str])] = &[
            (
                "",
                &[
                    "Could not find IMail Global key, host key check failed",
                    "Could not find IMail Domains key, domain registry check failed",
                ],
            ),
            (
                "[Global]\n[Domains]\n",
                &["Could not find Global HostName, host key check failed", "Domain registry check complete"],
            ),
            (
                "[Global]\nHostName=a.b\n[Domains]\n",
                &["Missing primary domain a.b", "Domain registry check complete"],
            ),
            (
                "[Global]\nHostName=a.b\n[Domains\\a.b]\n",
                &["Could not find address for primary host a.b", "Domain registry check complete"],
            ),
            (
                "[Domains\\$virtual001]\nOfficial=a.b\n[Domains\\A.B]\nAddress=$VIRTUAL001\n",
                &["Could not find IMail Global key, host key check failed", "Domain registry check complete"],
            ),
            (
                "[Global]\nHostName=a.b\n[Domains\\127.0.0.1]\nOfficial=gone.c\n[Domains\\a.b]\nAddress=$virtual007\n",
                &[
                    "Primary Host a.b address is $virtual007",
                    "Domain / official mismatch: official - gone.c Address - 127.0.0.1",
                    "Domain / official mismatch: official - a.b Address - $virtual007",
                    "Domain registry check complete",
                ],
            ),
        ];
        for (registry, expected) in cases {
            let expected = ["Starting Domain Registry check"].iter().chain(expected.iter());
            let expected = expected.copied().collect::<Vec<_>>().join("\n");
            assert_eq!(check(registry, &["127.0.0.1"]), (expected, true), "{registry}");
        }
    }
}
