//! Which servers take mail for a domain, and their addresses.
//!
//! # Failure
//! [`DnsError`]: a domain that does not exist, or takes no mail, is for ever; a name server that does not answer is not.
//!
//! # Limits
//! [`HOSTS_MAX`] servers of a domain, [`ADDRESSES_MAX`] addresses of a server.

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// The most servers of one domain that are tried; some name fifty.
pub const HOSTS_MAX: usize = 20;
/// The most addresses of one server that are tried.
pub const ADDRESSES_MAX: usize = 8;

/// The most TXT records of one name that are looked at.
pub const TEXTS_MAX: usize = 50;

/// A server that takes mail for a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchanger {
    /// Lower ones are tried first.
    pub preference: u16,
    /// Its name, without a dot at the end.
    pub host: String,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// The name does not exist, or has no address.
    #[error("the name {0} does not exist")]
    Missing(String),
    /// The domain says that it takes no mail (RFC 7505).
    #[error("the domain {0} takes no mail (null MX)")]
    TakesNoMail(String),
    /// No name server gave an answer.
    #[error("{0}")]
    Passing(String),
}

/// Answers for tests.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// MX records by domain.
    pub exchangers: HashMap<String, Vec<Exchanger>>,
    /// A and AAAA records by host.
    pub addresses: HashMap<String, Vec<IpAddr>>,
    /// TXT records by name.
    pub texts: HashMap<String, Vec<String>>,
}

/// Where answers come from.
pub enum Resolver {
    /// Name servers.
    Servers(Box<TokioResolver>),
    /// A table: what it lacks does not exist.
    Table(Table),
    /// Nowhere, for this reason.
    Broken(String),
}

impl Resolver {
    /// Asks this name server, or those of the system. A system without usable settings shows when mail is sent.
    pub fn new(server: Option<SocketAddr>) -> Resolver {
        let builder = match server {
            Some(server) => {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                    connection.port = server.port();
                    connection
                });
                let server = NameServerConfig::new(server.ip(), true, connections.to_vec());
                let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
                Ok(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()))
            }
            None => TokioResolver::builder_tokio(),
        };
        let built = builder.and_then(|mut builder| {
            builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
            builder.build()
        });
        match built {
            Ok(resolver) => Resolver::Servers(Box::new(resolver)),
            Err(error) => Resolver::Broken(format!("no name server can be asked: {error}")),
        }
    }

    /// The servers of a domain in the order in which they are tried: by preference, those of the same one in any order, so that all
    /// get their share (RFC 5321 §5.1). A domain without MX records is its own server.
    pub async fn exchangers(&self, domain: &str) -> Result<Vec<Exchanger>, DnsError> {
        let mut found = match self {
            Resolver::Broken(why) => return Err(DnsError::Passing(why.clone())),
            Resolver::Table(table) => table.exchangers.get(domain).cloned().unwrap_or_default(),
            Resolver::Servers(resolver) => match resolver.mx_lookup(absolute(domain)).await {
                Ok(lookup) => lookup.answers().iter().filter_map(|record| exchanger(&record.data)).collect(),
                Err(error) if error.is_nx_domain() => return Err(DnsError::Missing(domain.to_owned())),
                Err(error) if error.is_no_records_found() => Vec::new(),
                Err(error) => return Err(DnsError::Passing(format!("{domain}: {error}"))),
            },
        };
        if found.is_empty() {
            return Ok(vec![Exchanger { preference: 0, host: domain.to_owned() }]);
        }
        found.retain(|exchanger| !exchanger.host.is_empty());
        if found.is_empty() {
            return Err(DnsError::TakesNoMail(domain.to_owned()));
        }
        found.sort_by_cached_key(|exchanger| (exchanger.preference, random()));
        found.truncate(HOSTS_MAX);
        Ok(found)
    }

    /// The addresses of a host.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let mut found: Vec<IpAddr> = match self {
            Resolver::Broken(why) => return Err(DnsError::Passing(why.clone())),
            Resolver::Table(table) => table.addresses.get(host).cloned().unwrap_or_default(),
            Resolver::Servers(resolver) => match resolver.lookup_ip(absolute(host)).await {
                Ok(lookup) => lookup.iter().collect(),
                Err(error) if error.is_no_records_found() => Vec::new(),
                Err(error) => return Err(DnsError::Passing(format!("{host}: {error}"))),
            },
        };
        found.truncate(ADDRESSES_MAX);
        if found.is_empty() { Err(DnsError::Missing(host.to_owned())) } else { Ok(found) }
    }
}

impl Resolver {
    /// The TXT records of a name, each with its pieces put together.
    pub async fn texts(&self, name: &str) -> Result<Vec<String>, DnsError> {
        let missing = || DnsError::Missing(name.to_owned());
        match self {
            Resolver::Broken(why) => Err(DnsError::Passing(why.clone())),
            Resolver::Table(table) => table.texts.get(name).cloned().ok_or_else(missing),
            Resolver::Servers(resolver) => match resolver.txt_lookup(absolute(name)).await {
                Ok(lookup) => {
                    let texts = lookup.answers().iter().filter_map(|record| text(&record.data));
                    Ok(texts.take(TEXTS_MAX).collect())
                }
                Err(error) if error.is_no_records_found() => Err(missing()),
                Err(error) => Err(DnsError::Passing(format!("{name}: {error}"))),
            },
        }
    }
}

fn text(data: &RData) -> Option<String> {
    let RData::TXT(txt) = data else { return None };
    Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned())
}

/// With a dot at the end, so that no search list is applied.
fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

fn exchanger(data: &RData) -> Option<Exchanger> {
    let RData::MX(mx) = data else { return None };
    let host = mx.exchange.to_ascii().trim_end_matches('.').to_ascii_lowercase();
    Some(Exchanger { preference: mx.preference, host })
}

/// Any number; which one does not matter if the system has none.
fn random() -> u32 {
    let mut bytes = [0; 4];
    let _ = getrandom::fill(&mut bytes);
    u32::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn servers_of_domains() {
        let mut table = Table::default();
        let mx = |list: &[(u16, &str)]| -> Vec<Exchanger> {
            list.iter().map(|(p, host)| Exchanger { preference: *p, host: (*host).to_owned() }).collect()
        };
        table.exchangers.insert("two.example".into(), mx(&[(20, "b"), (10, "a")]));
        table.exchangers.insert("null.example".into(), mx(&[(0, "")]));
        let many: Vec<(u16, &str)> = (0..50).map(|preference| (preference, "m")).collect();
        table.exchangers.insert("many.example".into(), mx(&many));
        table.addresses.insert("a".into(), vec!["192.0.2.1".parse().unwrap()]);
        let resolver = Resolver::Table(table);
        assert_eq!(resolver.exchangers("two.example").await, Ok(mx(&[(10, "a"), (20, "b")])));
        assert_eq!(resolver.exchangers("none.example").await, Ok(mx(&[(0, "none.example")])));
        assert_eq!(
            resolver.exchangers("null.example").await,
            Err(DnsError::TakesNoMail("null.example".into()))
        );
        assert_eq!(resolver.exchangers("many.example").await.unwrap().len(), HOSTS_MAX);
        assert_eq!(resolver.addresses("a").await.unwrap().len(), 1);
        assert_eq!(resolver.addresses("::1").await.unwrap().len(), 1);
        assert!(matches!(resolver.addresses("b").await, Err(DnsError::Missing(_))));
    }

    #[tokio::test]
    async fn what_name_servers_say() {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let resolver = Resolver::new(Some(socket.local_addr().unwrap()));
        // The question comes back as a reply (RFC 1035 §4.1.1): no such name for names with "missing", else "server failure".
        tokio::spawn(async move {
            let mut packet = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut packet).await {
                let missing = String::from_utf8_lossy(&packet[..length]).contains("missing");
                packet[2] = 0x81;
                packet[3] = if missing { 0x83 } else { 0x82 };
                socket.send_to(&packet[..length], client).await.unwrap();
            }
        });
        let missing = resolver.exchangers("missing.example").await;
        assert_eq!(missing, Err(DnsError::Missing("missing.example".into())));
        assert!(matches!(resolver.exchangers("x.example").await, Err(DnsError::Passing(_))));
        assert!(matches!(resolver.addresses("x.example").await, Err(DnsError::Passing(_))));
    }
}
