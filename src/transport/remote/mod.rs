//! Mail to other servers: which one, over which connection, with what result.
//!
//! A domain's mail goes to the host that a route names, else to the gateway if everything goes through it, else to the host of the route
//! `*`, else to the domain's own servers by their MX records. A gateway that is set also gets what cannot be brought to a domain's own
//! servers (IMail manual: "gate host, where mail goes that cannot be delivered directly").
//!
//! # Failure
//! [`Problem`] for each recipient. A destination none of whose servers could be reached is left alone for [`DOWN_FOR`], so that mail for
//! it does not keep others from their turn ([`Attempt::Later`]).
//!
//! # Limits
//! [`CONNECTIONS_MAX`] connections to a destination, [`LOOK_MAX`] to find a server that answers, [`REUSE_MAX`] messages on a connection.

pub mod client;
pub mod resolver;

use crate::config::Config;
use client::{Client, Mail, Problem, RECIPIENTS_MAX, Stage, Timeouts};
use resolver::{DnsError, Resolver};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// The most connections to one destination at a time (ours; receivers commonly allow ten or twenty).
pub const CONNECTIONS_MAX: usize = 10;
/// How long a message waits for one of them: a slow destination must not keep all workers.
const SLOT_PATIENCE: Duration = Duration::from_secs(2);
/// How many messages go over one connection.
pub const REUSE_MAX: usize = 100;
/// How long a connection is kept for more mail.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// How long a destination is left alone after none of its servers could be reached.
pub const DOWN_FOR: Duration = Duration::from_secs(60);
/// How long all servers of a destination may take together until one of them greets.
const LOOK_MAX: Duration = Duration::from_secs(600);
/// Where servers take mail from other servers.
pub const SMTP_PORT: u16 = 25;

/// Where mail for a domain is handed over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Hop {
    /// The domain's own servers.
    Exchangers(String),
    /// This host and port.
    Host(String, u16),
}

/// A route of the command line or of the registry's section `[Routes]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    domain: String,
    host: String,
    port: u16,
}

impl Route {
    /// From a domain, or `*` for all others, and `host:port` or `host`. `None` if it names no host.
    pub fn parse(domain: &str, target: &str) -> Option<Route> {
        let (host, port) = match target.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.starts_with('[') => (host, port.parse().ok()?),
            _ => (target, SMTP_PORT),
        };
        let host = host.trim().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let domain = domain.trim().to_ascii_lowercase();
        (!host.is_empty() && !domain.is_empty() && port != 0).then_some(Route { domain, host, port })
    }
}

/// What came of mail for some recipients of one domain.
#[derive(Debug)]
pub enum Attempt {
    /// For each recipient.
    Made(Vec<Result<(), Problem>>),
    /// Nothing was tried; not before this time.
    Later(Instant),
}

/// The way to other servers.
pub struct Remote {
    resolver: Resolver,
    routes: Vec<Route>,
    timeouts: Timeouts,
    port: u16,
    destinations: Mutex<HashMap<Hop, Destination>>,
}

/// What is remembered of a destination.
struct Destination {
    slots: Arc<Semaphore>,
    idle: Vec<(Client, Instant)>,
    down_until: Option<Instant>,
}

impl Destination {
    fn new() -> Destination {
        Destination { slots: Arc::new(Semaphore::new(CONNECTIONS_MAX)), idle: Vec::new(), down_until: None }
    }
}

impl Remote {
    /// `routes` are those of the command line; the registry's come behind them. `port` is where domains' own servers are asked.
    pub fn new(resolver: Resolver, routes: Vec<Route>, timeouts: Timeouts, port: u16) -> Remote {
        Remote { resolver, routes, timeouts, port, destinations: Mutex::default() }
    }

    /// The routes in force.
    fn routes(&self, config: &Config) -> impl Iterator<Item = Route> {
        let registry = config.registry.routes.iter();
        let registry = registry.filter_map(|(domain, target)| Route::parse(domain, target));
        self.routes.iter().cloned().chain(registry.collect::<Vec<_>>())
    }

    /// The domains named in routes: naming one makes this server a gateway for it, so that anyone may send to it. `*` names none.
    pub fn gateway_for(&self, config: &Config) -> Vec<String> {
        self.routes(config).map(|route| route.domain).filter(|domain| domain != "*").collect()
    }

    /// May anyone send to this domain?
    pub fn is_gateway_for(&self, config: &Config, domain: &str) -> bool {
        self.routes(config).any(|route| route.domain != "*" && route.domain.eq_ignore_ascii_case(domain))
    }

    /// Where mail for a domain goes.
    pub fn hop(&self, config: &Config, domain: &str) -> Hop {
        let routed = |wanted: &str| {
            let mut routes = self.routes(config);
            routes.find(|route| route.domain == wanted).map(|route| Hop::Host(route.host, route.port))
        };
        let domain = domain.trim_end_matches('.').to_ascii_lowercase();
        let through_gate = || config.registry.global.send_all_through_gate.then(|| gate(config)).flatten();
        routed(&domain).or_else(through_gate).or_else(|| routed("*")).unwrap_or(Hop::Exchangers(domain))
    }

    /// Sends a message to recipients of one domain. `force`: an admin asked, so a destination that is left alone is tried as well.
    pub async fn deliver(
        &self,
        config: &Config,
        name: &str,
        mail: Mail<'_>,
        domain: &str,
        force: bool,
    ) -> Attempt {
        let hop = self.hop(config, domain);
        let attempt = self.send(config, name, mail, &hop, force).await;
        let unreachable = |outcome: &Result<(), Problem>| {
            outcome.as_ref().is_err_and(|p| !p.permanent && matches!(p.stage, Stage::Lookup | Stage::Connect))
        };
        match (&hop, &attempt, gate(config)) {
            (Hop::Exchangers(_), Attempt::Made(outcomes), Some(gate)) if outcomes.iter().all(unreachable) => {
                self.send(config, name, mail, &gate, force).await
            }
            _ => attempt,
        }
    }

    async fn send(&self, config: &Config, name: &str, mail: Mail<'_>, hop: &Hop, force: bool) -> Attempt {
        let slots = self.with(hop, |destination| destination.slots.clone());
        let Ok(Ok(_slot)) = tokio::time::timeout(SLOT_PATIENCE, slots.acquire_owned()).await else {
            return Attempt::Later(Instant::now() + SLOT_PATIENCE);
        };
        if let Some(until) =
            self.with(hop, |d| d.down_until).filter(|until| *until > Instant::now() && !force)
        {
            return Attempt::Later(until);
        }
        let mut outcomes = Vec::with_capacity(mail.recipients.len());
        for recipients in mail.recipients.chunks(RECIPIENTS_MAX) {
            outcomes.extend(self.transaction(config, name, Mail { recipients, ..mail }, hop).await);
        }
        Attempt::Made(outcomes)
    }

    async fn transaction(
        &self,
        config: &Config,
        name: &str,
        mail: Mail<'_>,
        hop: &Hop,
    ) -> Vec<Result<(), Problem>> {
        if let Some(mut client) = self.idle(hop) {
            let outcomes = client.send(mail).await;
            // A server may have closed a connection that waited: then nothing was sent.
            let closed = |o: &Result<(), Problem>| {
                o.as_ref().is_err_and(|problem| !problem.permanent && problem.stage == Stage::Sender)
            };
            if client.is_usable() || !outcomes.iter().all(closed) {
                self.keep(hop, client).await;
                return outcomes;
            }
        }
        let looking = tokio::time::timeout(LOOK_MAX, self.connect(config, name, hop)).await;
        let late = |_| Err(Problem::passing(Stage::Connect, "no server of the destination answered in time"));
        match looking.unwrap_or_else(late) {
            Ok(mut client) => {
                self.with(hop, |destination| destination.down_until = None);
                let outcomes = client.send(mail).await;
                self.keep(hop, client).await;
                outcomes
            }
            Err(problem) => {
                if !problem.permanent {
                    self.with(hop, |destination| destination.down_until = Some(Instant::now() + DOWN_FOR));
                }
                vec![Err(problem); mail.recipients.len()]
            }
        }
    }

    /// A connection to the first server that greets.
    async fn connect(&self, config: &Config, name: &str, hop: &Hop) -> Result<Client, Problem> {
        let (hosts, port) = match hop {
            Hop::Host(host, port) => (vec![host.clone()], *port),
            Hop::Exchangers(domain) => (self.exchangers(config, domain).await?, self.port),
        };
        let mut last = Problem::lasting(Stage::Lookup, "the domain has no mail server");
        for host in hosts {
            let addresses = match self.resolver.addresses(&host).await {
                Ok(addresses) => addresses,
                Err(error) => {
                    // A verdict on one of several servers is none on the domain.
                    if last.permanent {
                        last = lookup_problem(&error);
                    }
                    continue;
                }
            };
            for address in addresses {
                match Client::connect(SocketAddr::new(address, port), name, self.timeouts).await {
                    Ok(client) => return Ok(client),
                    Err(problem) => last = problem,
                }
            }
        }
        Err(last)
    }

    /// The names of a domain's servers, up to our own: whoever is one of them himself must not send to those behind (RFC 5321 §5.1).
    async fn exchangers(&self, config: &Config, domain: &str) -> Result<Vec<String>, Problem> {
        if let Some(literal) = domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let address = literal
                .get(..5)
                .filter(|tag| tag.eq_ignore_ascii_case("IPv6:"))
                .map_or(literal, |t| &literal[t.len()..]);
            return Ok(vec![address.to_owned()]);
        }
        let all = self.resolver.exchangers(domain).await.map_err(|error| lookup_problem(&error))?;
        let is_ours = |host: &str| config.registry.domain_by_name(host).is_some();
        let limit = all.iter().find(|exchanger| is_ours(&exchanger.host)).map(|ours| ours.preference);
        let before = |preference: u16| limit.is_none_or(|limit| preference < limit);
        let hosts: Vec<String> = all.into_iter().filter(|e| before(e.preference)).map(|e| e.host).collect();
        if hosts.is_empty() {
            let text = format!("mail for {domain} comes back to this server, which does not serve it");
            return Err(Problem::lasting(Stage::Lookup, text));
        }
        Ok(hosts)
    }

    fn idle(&self, hop: &Hop) -> Option<Client> {
        self.with(hop, |destination| {
            destination.idle.retain(|(_, since)| since.elapsed() < IDLE_MAX);
            destination.idle.pop().map(|(client, _)| client)
        })
    }

    async fn keep(&self, hop: &Hop, client: Client) {
        if client.is_usable() && client.used() < REUSE_MAX {
            self.with(hop, |destination| destination.idle.push((client, Instant::now())));
        } else {
            client.quit().await;
        }
    }

    /// Says good-bye on connections that nobody needed, and forgets destinations of which there is nothing to know.
    pub async fn tidy(&self) {
        let mut ended = Vec::new();
        {
            let mut all = self.destinations.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|_, destination| {
                let old = |entry: &mut (Client, Instant)| entry.1.elapsed() >= IDLE_MAX;
                ended.extend(destination.idle.extract_if(.., old).map(|(client, _)| client));
                let down = destination.down_until.is_some_and(|until| until > Instant::now());
                let in_use = Arc::strong_count(&destination.slots) > 1
                    || destination.slots.available_permits() < CONNECTIONS_MAX;
                in_use || down || !destination.idle.is_empty()
            });
        }
        for client in ended {
            client.quit().await;
        }
    }

    fn with<T>(&self, hop: &Hop, work: impl FnOnce(&mut Destination) -> T) -> T {
        let mut all = self.destinations.lock().unwrap_or_else(PoisonError::into_inner);
        work(all.entry(hop.clone()).or_insert_with(Destination::new))
    }
}

/// The gateway, if one is set.
fn gate(config: &Config) -> Option<Hop> {
    let route = Route::parse("*", config.registry.global.gate_host.as_deref()?)?;
    Some(Hop::Host(route.host, route.port))
}

fn lookup_problem(error: &DnsError) -> Problem {
    Problem {
        stage: Stage::Lookup,
        permanent: !matches!(error, DnsError::Passing(_)),
        lines: vec![error.to_string()],
    }
}

/// The domain of an address.
pub fn domain_of(address: &str) -> &str {
    address.rsplit_once('@').map_or("", |(_, domain)| domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes() {
        for (target, expected) in [
            ("192.0.2.25:2525", Some(("192.0.2.25", 2525))),
            ("MX.example.net", Some(("mx.example.net", 25))),
            ("[::1]:2600", Some(("::1", 2600))),
            ("::1", Some(("::1", 25))),
            ("host:0", None),
            ("host:x", None),
            ("", None),
        ] {
            let route = Route::parse("A.example", target);
            let found = route.as_ref().map(|route| (route.host.as_str(), route.port));
            assert_eq!(found, expected, "{target}");
            assert!(route.is_none_or(|route| route.domain == "a.example"));
        }
    }
}
