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
//! [`CONNECTIONS_MAX`](pace::CONNECTIONS_MAX) connections to a destination, [`LOOK_MAX`] to find a server that answers, [`REUSE_MAX`] messages
//! on a connection.

pub mod client;
pub mod dialogue;
pub mod pace;
pub mod reply;
pub mod resolver;
mod stream;
pub mod stuffer;

use crate::config::{Config, domain_literal};
use client::{Client, Failed, Mail, Outcome, Peer, Problem, RECIPIENTS_MAX, Stage, Timeouts};
use dialogue::Dialogue;
use layout::logline::Event;
use layout::name::domain_key;
use pace::{Destination, Signal};
use resolver::{DnsError, Resolver};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_rustls::TlsConnector;

/// How long a message waits for one of them: a slow destination must not keep all workers.
const SLOT_PATIENCE: Duration = Duration::from_secs(2);
/// How many messages go over one connection.
pub const REUSE_MAX: usize = 100;
/// How long a connection is kept for more mail.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// How long a destination is left alone after none of its servers could be reached.
pub const DOWN_FOR: Duration = Duration::from_secs(60);
/// How long a server with which TLS did not come about gets its mail in plain text at once: a handshake that fails costs a connection.
pub const PLAIN_FOR: Duration = Duration::from_secs(1800);
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
        let host = domain_key(host.trim().trim_start_matches('[').trim_end_matches(']')).into_owned();
        let domain = domain_key(domain.trim()).into_owned();
        (!host.is_empty() && !domain.is_empty() && port != 0).then_some(Route { domain, host, port })
    }
}

/// A message to be handed over.
pub struct Job<'a> {
    /// What is in force.
    pub config: &'a Config,
    /// Our name.
    pub name: &'a str,
    /// The recipients' domain.
    pub domain: &'a str,
    /// The message for them.
    pub mail: Mail<'a>,
    /// Tries before this one.
    pub tries: u32,
    /// An admin asked, so a destination that is left alone is tried as well.
    pub force: bool,
    /// Where the dialogue goes.
    pub dialogue: Dialogue,
}

/// What came of mail for some recipients of one domain.
#[derive(Debug)]
pub enum Attempt {
    /// For each recipient.
    Made(Vec<Outcome>),
    /// Nothing was tried; not before this time.
    Later(Instant),
}

/// The way to other servers.
pub struct Remote {
    resolver: Resolver,
    routes: Vec<Route>,
    timeouts: Timeouts,
    port: u16,
    tls: TlsConnector,
    destinations: Mutex<HashMap<Hop, Arc<Destination>>>,
    /// Servers with which TLS did not come about, and until when they are spared it.
    plain: Mutex<HashMap<SocketAddr, Instant>>,
}

impl Remote {
    /// Who is asked about names.
    pub fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// `routes` are those of the command line; the registry's come behind them. `port` is where domains' own servers are asked.
    pub fn new(resolver: Resolver, routes: Vec<Route>, timeouts: Timeouts, port: u16) -> io::Result<Remote> {
        let (tls, destinations, plain) = (stream::connector()?, Mutex::default(), Mutex::default());
        Ok(Remote { resolver, routes, timeouts, port, tls, destinations, plain })
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
        let domain = domain_key(domain);
        self.routes(config).any(|route| route.domain != "*" && route.domain == domain)
    }

    /// Where mail for a domain goes.
    pub fn hop(&self, config: &Config, domain: &str) -> Hop {
        let routed = |wanted: &str| {
            let mut routes = self.routes(config);
            routes.find(|route| route.domain == wanted).map(|route| Hop::Host(route.host, route.port))
        };
        let domain = domain_key(domain).into_owned();
        let through_gate = || config.registry.global.send_all_through_gate.then(|| gate(config)).flatten();
        routed(&domain).or_else(through_gate).or_else(|| routed("*")).unwrap_or(Hop::Exchangers(domain))
    }

    /// Sends a message to recipients of one domain.
    pub async fn deliver(&self, job: &Job<'_>) -> Attempt {
        let hop = self.hop(job.config, job.domain);
        let attempt = self.send(job, &hop).await;
        let unreachable = |outcome: &Outcome| {
            outcome.as_ref().is_err_and(|p| !p.permanent && matches!(p.stage, Stage::Lookup | Stage::Connect))
        };
        match (&hop, &attempt, gate(job.config)) {
            (Hop::Exchangers(_), Attempt::Made(outcomes), Some(gate)) if outcomes.iter().all(unreachable) => {
                self.send(job, &gate).await
            }
            _ => attempt,
        }
    }

    async fn send(&self, job: &Job<'_>, hop: &Hop) -> Attempt {
        let destination = self.destination(hop);
        let Some(_slot) = destination.slot(SLOT_PATIENCE).await else {
            return Attempt::Later(Instant::now() + SLOT_PATIENCE);
        };
        let down = destination.with(|state| state.down_until).filter(|until| *until > Instant::now());
        if let Some(until) = down.filter(|_| !job.force) {
            return Attempt::Later(until);
        }
        job.dialogue.event(&Event::Trying { domain: job.domain, tries: job.tries });
        let mut outcomes = Vec::with_capacity(job.mail.recipients.len());
        for recipients in job.mail.recipients.chunks(RECIPIENTS_MAX) {
            let mail = Mail { recipients, ..job.mail };
            outcomes.extend(self.transaction(job, mail, hop, &destination).await);
        }
        Attempt::Made(outcomes)
    }

    async fn transaction(
        &self,
        job: &Job<'_>,
        mail: Mail<'_>,
        hop: &Hop,
        destination: &Destination,
    ) -> Vec<Outcome> {
        if let Some(mut client) = idle(destination) {
            client.speak_in(&job.dialogue);
            let outcomes = client.send(mail).await;
            // A server may have closed a connection that waited: then nothing was sent.
            let closed = |o: &Outcome| {
                let at_once = |p: &Problem| !p.permanent && p.stage == Stage::Sender;
                o.as_ref().is_err_and(|problem| at_once(problem) || problem.stage == Stage::Policy)
            };
            if client.is_usable() || !outcomes.iter().all(closed) {
                keep(destination, client).await;
                return outcomes;
            }
        }
        let looking = tokio::time::timeout(LOOK_MAX, self.connect(job, hop)).await;
        let late = |_| Err(Problem::passing(Stage::Connect, "no server of the destination answered in time"));
        match looking.unwrap_or_else(late) {
            Ok(mut client) => {
                destination.with(|state| state.down_until = None);
                let outcomes = client.send(mail).await;
                keep(destination, client).await;
                outcomes
            }
            Err(problem) => {
                if !problem.permanent {
                    destination.went(Signal::Badly);
                    destination.with(|state| state.down_until = Some(Instant::now() + DOWN_FOR));
                }
                vec![Err(problem); mail.recipients.len()]
            }
        }
    }

    /// A connection to the first server that greets.
    async fn connect(&self, job: &Job<'_>, hop: &Hop) -> Result<Client, Problem> {
        let (hosts, port) = match hop {
            Hop::Host(host, port) => (vec![host.clone()], *port),
            Hop::Exchangers(domain) => (self.exchangers(job.config, domain).await?, self.port),
        };
        let (mut last, mut count) = (Problem::lasting(Stage::Lookup, "the domain has no mail server"), 0);
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
                let peer = SocketAddr::new(address, port);
                count += 1;
                job.dialogue.event(&Event::Connecting { host: &host, peer, count });
                match self.session(job, &host, peer).await {
                    Ok(client) => return Ok(client),
                    Err(problem) => last = problem,
                }
            }
        }
        Err(last)
    }

    /// A session with one server, over TLS if that is to be had.
    async fn session(&self, job: &Job<'_>, host: &str, address: SocketAddr) -> Result<Client, Problem> {
        let Job { name, dialogue, .. } = job;
        let peer = |tls| Peer { address, host, name, timeouts: self.timeouts, tls, dialogue };
        let spared =
            self.with_plain(|plain| plain.get(&address).is_some_and(|until| *until > Instant::now()));
        let mut made = Client::connect(peer(Some(&self.tls).filter(|_| !spared))).await;
        if let Err(Failed::Tls(error)) = &made {
            dialogue.event(&Event::Note(&format!("TLS failed ({error}): once more without it")));
            self.with_plain(|plain| plain.insert(address, Instant::now() + PLAIN_FOR));
            made = Client::connect(peer(None)).await;
        }
        made.map_err(|failed| match failed {
            Failed::Server(problem) => problem,
            Failed::Tls(error) => Problem::passing(Stage::Hello, format!("{address}: {error}")),
        })
    }

    /// The names of a domain's servers, up to our own: whoever is one of them himself must not send to those behind (RFC 5321 §5.1).
    async fn exchangers(&self, config: &Config, domain: &str) -> Result<Vec<String>, Problem> {
        if let Some(address) = domain_literal(domain) {
            return Ok(vec![address.to_string()]);
        }
        let all = self.resolver.exchangers(domain).await.map_err(|error| lookup_problem(&error))?;
        let is_ours = |host: &str| config.registry.domain_by_name(host).is_some();
        let limit = all.iter().find(|exchanger| is_ours(&exchanger.host)).map(|ours| ours.preference);
        let before = |preference: u16| limit.is_none_or(|limit| preference < limit);
        let hosts: Vec<String> = all.into_iter().filter(|e| before(e.preference)).map(|e| e.host).collect();
        if hosts.is_empty() {
            let text =
                format!("554 5.4.6 mail for {domain} comes back to this server, which does not serve it");
            return Err(Problem::lasting(Stage::Policy, text));
        }
        Ok(hosts)
    }

    /// Says good-bye on connections that nobody needed, and forgets what there is no need to know.
    pub async fn tidy(&self) {
        let mut ended = Vec::new();
        {
            let mut all = self.destinations.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|_, destination| {
                let in_use = Arc::strong_count(destination) > 1;
                destination.with(|state| {
                    let old = |entry: &mut (Client, Instant)| entry.1.elapsed() >= IDLE_MAX;
                    ended.extend(state.idle.extract_if(.., old).map(|(client, _)| client));
                    let down = state.down_until.is_some_and(|until| until > Instant::now());
                    in_use || down || !state.idle.is_empty()
                })
            });
        }
        self.with_plain(|plain| plain.retain(|_, until| *until > Instant::now()));
        for client in ended {
            client.quit().await;
        }
    }

    /// The next message needs a new connection.
    #[cfg(test)]
    pub fn forget_connections(&self) {
        self.destinations.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn destination(&self, hop: &Hop) -> Arc<Destination> {
        let mut all = self.destinations.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(hop.clone()).or_insert_with(Destination::new).clone()
    }

    fn with_plain<T>(&self, work: impl FnOnce(&mut HashMap<SocketAddr, Instant>) -> T) -> T {
        work(&mut self.plain.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A connection that waits for mail.
fn idle(destination: &Destination) -> Option<Client> {
    destination.with(|state| {
        state.idle.retain(|(_, since)| since.elapsed() < IDLE_MAX);
        state.idle.pop().map(|(client, _)| client)
    })
}

/// Keeps a connection for more mail, if it may be used again. One that broke is a bad sign.
async fn keep(destination: &Destination, client: Client) {
    destination.went(if client.is_usable() { Signal::Well } else { Signal::Badly });
    if client.is_usable() && client.used() < REUSE_MAX {
        destination.with(|state| state.idle.push((client, Instant::now())));
    } else {
        client.quit().await;
    }
}

/// The gateway, if one is set.
fn gate(config: &Config) -> Option<Hop> {
    let route = Route::parse("*", config.registry.global.gate_host.as_deref()?)?;
    Some(Hop::Host(route.host, route.port))
}

/// A domain that takes no mail exists: IMail's `Unknown host` would be wrong, so it is told like all else that no other try would change. (What IMail said
/// is not known, it is older than RFC 7505.)
fn lookup_problem(error: &DnsError) -> Problem {
    match error {
        DnsError::TakesNoMail(_) => Problem::lasting(Stage::Policy, format!("556 5.1.10 {error}")),
        DnsError::Missing(_) => Problem::lasting(Stage::Lookup, error),
        DnsError::Passing(_) => Problem::passing(Stage::Lookup, error),
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
