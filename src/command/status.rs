//! `imaild status`: what the servers on this directory do, and what waits in the spool. The first is what they put up on their boards
//! ([`crate::serve::board`]), the second is read from the spool's files, so it is there with the server down as well.
//!
//! # Failure
//! A server that is down is no failure: the answer says so, and the exit code is 0.
//!
//! # Limits
//! [`SHOWN_DESTINATIONS`] destinations in the text, [`DESTINATIONS_MAX`] in JSON: those with the most recipients.

use super::queue::{Spool, shown};
use super::{CommandError, DataDirectory, Outcome, print};
use crate::config::Config;
use crate::serve::board::{self, stamp};
use crate::transport::queue::wait;
use chrono::{DateTime, Local};
use clap::Args;
use layout::registry::model::Smtp;
use layout::registry::store;
use layout::root::Root;
use layout::spool::qfile::Envelope;
use layout::spool::store::{Item, State};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// The most destinations that the text names.
const SHOWN_DESTINATIONS: usize = 20;
/// The most destinations in JSON.
const DESTINATIONS_MAX: usize = 1000;

/// The arguments of `status`.
#[derive(Args)]
pub(super) struct Status {
    #[command(flatten)]
    directory: DataDirectory,
    /// For programs: one JSON object.
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) fn run(self) -> Result<Outcome, CommandError> {
        let root = self.directory.open()?;
        let report = report(&root)?;
        print(&if self.json { format!("{report:#}\n") } else { text(&report) });
        Ok(Outcome::Done)
    }
}

/// Everything, as JSON.
pub(super) fn report(root: &Root) -> Result<Value, CommandError> {
    let servers = board::running(root);
    let ports: Vec<&Value> =
        servers.iter().filter_map(|server| server["ports"].as_array()).flatten().collect();
    // A registry that cannot be read is for `check` to complain of; here only the retry times need it.
    let config = store::load(root).ok().map(|loaded| Config::new(root, loaded.registry));
    let settings = config.map(|config| config.registry.services.smtp).unwrap_or_default();
    let mut queue = Queue::default();
    if let Some(spool) = Spool::open(root)? {
        for item in spool.items() {
            let envelope = spool.envelope(item);
            queue.add(item, &envelope, spool.size(item, &envelope).unwrap_or(0), &settings);
        }
    }
    Ok(json!({
        "running": !servers.is_empty(),
        "ports": ports,
        "queue": queue.json(Local::now()),
        "servers": servers,
    }))
}

/// What waits.
#[derive(Default)]
struct Queue {
    waiting: u64,
    working: u64,
    held: u64,
    incomplete: u64,
    bytes: u64,
    oldest: Option<(DateTime<Local>, String)>,
    next_try: Option<DateTime<Local>>,
    destinations: BTreeMap<String, Destination>,
}

/// What waits for one domain.
#[derive(Clone, Copy, Default)]
struct Destination {
    messages: u64,
    recipients: u64,
    tries_max: u32,
}

impl Queue {
    fn add(&mut self, item: &Item, envelope: &Envelope, size: u64, settings: &Smtp) {
        let counter = match item.state {
            State::Waiting => &mut self.waiting,
            State::Claimed => &mut self.working,
            State::Held => &mut self.held,
            State::Arriving | State::ArrivingEnvelope | State::LoneEnvelope => {
                self.incomplete += 1;
                return;
            }
        };
        *counter += 1;
        self.bytes += size;
        let since: DateTime<Local> = DateTime::from_timestamp_nanos(item.stamp.modified).into();
        if self.oldest.as_ref().is_none_or(|(oldest, _)| since < *oldest) {
            self.oldest = Some((since, item.name.to_string()));
        }
        let tries = envelope.tries().unwrap_or(0);
        if item.state == State::Waiting {
            let pause = if tries == 0 { Duration::ZERO } else { wait(settings, tries) };
            let due = since + pause;
            self.next_try = Some(self.next_try.map_or(due, |next| next.min(due)));
        }
        let mut domains = BTreeMap::<String, u64>::new();
        for recipient in envelope.recipients() {
            let domain = recipient.address.rsplit_once('@').map_or("", |(_, domain)| domain);
            *domains.entry(domain.to_ascii_lowercase()).or_default() += 1;
        }
        for (domain, recipients) in domains {
            let entry = self.destinations.entry(domain).or_default();
            entry.messages += 1;
            entry.recipients += recipients;
            entry.tries_max = entry.tries_max.max(tries);
        }
    }

    fn json(&self, now: DateTime<Local>) -> Value {
        let mut destinations: Vec<(&String, &Destination)> = self.destinations.iter().collect();
        destinations.sort_by_key(|(domain, there)| (std::cmp::Reverse(there.recipients), *domain));
        let destination = |(domain, there): &(&String, &Destination)| {
            let Destination { messages, recipients, tries_max } = there;
            json!({ "domain": domain, "messages": messages, "recipients": recipients, "tries": tries_max })
        };
        json!({
            "messages": self.waiting + self.working + self.held,
            "bytes": self.bytes,
            "waiting": self.waiting,
            "working": self.working,
            "held": self.held,
            "incomplete": self.incomplete,
            "oldest": self.oldest.as_ref().map(|(since, name)| json!({ "id": name, "since": stamp(*since) })),
            "next_try": self.next_try.map(|due| stamp(due.max(now))),
            "destinations": destinations.iter().take(DESTINATIONS_MAX).map(destination).collect::<Vec<_>>(),
            "destinations_total": destinations.len(),
        })
    }
}

/// The report for people. What stands in it came through files that anybody may have written.
fn text(report: &Value) -> String {
    let mut out = String::new();
    let servers = report["servers"].as_array().map_or(&[][..], Vec::as_slice);
    if servers.is_empty() {
        out.push_str("No imaild runs on this directory. What is on disk:\n");
    }
    servers.iter().for_each(|server| server_text(server, &mut out));
    queue_text(&report["queue"], &mut out);
    out
}

fn server_text(server: &Value, out: &mut String) {
    let word = |value: &Value| shown(value.as_str().unwrap_or("?"));
    let uptime = server["uptime_seconds"].as_u64().unwrap_or(0);
    let states = server["states"].as_object().into_iter().flatten();
    let states: Vec<String> =
        states.map(|(name, state)| format!("{} {}", shown(name), word(state))).collect();
    let _ = writeln!(
        out,
        "imaild {} is running: process {}, for {}; {}",
        word(&server["version"]),
        server["pid"],
        duration(uptime),
        states.join(", ")
    );
    for port in server["ports"].as_array().into_iter().flatten() {
        let tls = if port["tls"] == true { " over TLS" } else { "" };
        let _ = writeln!(
            out,
            "  {:<18} {:<24} connections: {} now, {} in all",
            format!("{}{tls}", word(&port["protocol"])),
            word(&port["address"]),
            port["connections"],
            port["connections_total"]
        );
    }
    let counts = server["counts"].as_object().into_iter().flatten();
    let counts: Vec<String> =
        counts.map(|(name, count)| format!("{} {count}", shown(&name.replace('_', " ")))).collect();
    let _ = writeln!(out, "  since its start: {}", counts.join(", "));
    if server["log_lines_dropped"] != 0 {
        let _ = writeln!(out, "  log lines lost: {}", server["log_lines_dropped"]);
    }
}

fn queue_text(queue: &Value, out: &mut String) {
    let _ = writeln!(
        out,
        "Queue: {} messages with {} bytes: {} waiting, {} being worked on, {} held; {} incomplete",
        queue["messages"],
        queue["bytes"],
        queue["waiting"],
        queue["working"],
        queue["held"],
        queue["incomplete"]
    );
    if let (Some(id), Some(since)) = (queue["oldest"]["id"].as_str(), queue["oldest"]["since"].as_str()) {
        let _ = writeln!(out, "  oldest: {}, last written {since}", shown(id));
    }
    if let Some(next) = queue["next_try"].as_str() {
        let _ = writeln!(out, "  next try: {next}");
    }
    let destinations = queue["destinations"].as_array().map_or(&[][..], Vec::as_slice);
    for there in destinations.iter().take(SHOWN_DESTINATIONS) {
        let domain = there["domain"].as_str().filter(|domain| !domain.is_empty()).unwrap_or("(no domain)");
        let _ = writeln!(
            out,
            "  to {}: {} recipients in {} messages, up to {} tries",
            shown(domain),
            there["recipients"],
            there["messages"],
            there["tries"]
        );
    }
    let total = queue["destinations_total"].as_u64().unwrap_or(0) as usize;
    if total > SHOWN_DESTINATIONS {
        let _ = writeln!(out, "  and {} more destinations", total - SHOWN_DESTINATIONS);
    }
}

/// `3 d 4 h 5 min`, seconds only within the first minute.
fn duration(seconds: u64) -> String {
    let parts = [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "min")];
    let parts: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count} {unit}")).collect();
    if parts.is_empty() { format!("{seconds} s") } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone as _;
    use layout::disk::Stamp;
    use layout::spool::id::{Found, recognize};

    fn item(file: &str, state: State, since: DateTime<Local>) -> Item {
        let Some(Found::Item(_, name)) = recognize(file) else { panic!("{file}") };
        let modified = since.timestamp_nanos_opt().unwrap();
        Item { name, state, stamp: Stamp { modified, ..Stamp::default() }, foreign: false }
    }

    #[test]
    fn the_queue_in_numbers() {
        let then = Local.with_ymd_and_hms(2024, 5, 9, 6, 0, 0).unwrap();
        let minutes = |count| then + chrono::Duration::minutes(count);
        let settings = Smtp { queue_timer_minutes: 30, ..Smtp::default() };
        let mut queue = Queue::default();
        for (file, state, since, envelope, size) in [
            ("Q1.SMD", State::Waiting, minutes(10), "T2\r\nR<a@x.example>\r\nR<b@X.example>\r\n", 100),
            ("Q2.SMD", State::Waiting, minutes(5), "T1\r\nR<c@x.example>\r\nR<d@y.example>\r\n", 10),
            ("Q3.SMD", State::Claimed, minutes(7), "R<nobody>\r\n", 1),
            ("Q4.SMD", State::Held, minutes(0), "R<e@y.example>\r\n", 1000),
            ("Q5.SMD", State::LoneEnvelope, minutes(-9), "R<e@z.example>\r\n", 0),
            ("D6.SMD", State::Arriving, minutes(-9), "", 5),
        ] {
            let envelope = format!("S<s@s.example>\r\n{envelope}");
            queue.add(&item(file, state, since), &Envelope::parse(envelope.as_bytes()), size, &settings);
        }
        let report = queue.json(minutes(0));
        for (name, expected) in [
            ("messages", 4),
            ("bytes", 1111),
            ("waiting", 2),
            ("working", 1),
            ("held", 1),
            ("incomplete", 2),
            ("destinations_total", 3),
        ] {
            assert_eq!(report[name], expected, "{name}");
        }
        assert_eq!(report["oldest"]["id"], "4.SMD");
        assert_eq!(report["next_try"], stamp(minutes(35)));
        assert_eq!(queue.json(minutes(50))["next_try"], stamp(minutes(50)), "what is due is due now");
        assert_eq!(
            report["destinations"][0],
            json!({ "domain": "x.example", "messages": 2, "recipients": 3, "tries": 2 })
        );
        let mut shown = String::new();
        queue_text(&report, &mut shown);
        assert!(
            shown.starts_with(
                "Queue: 4 messages with 1111 bytes: 2 waiting, 1 being worked on, 1 held; 2 incomplete\n"
            ),
            "{shown}"
        );
        assert!(shown.contains("to (no domain): 1 recipients in 1 messages"), "{shown}");
    }

    #[test]
    fn times() {
        for (seconds, expected) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3600, "1 h"),
            (90_061, "1 d 1 h 1 min"),
            (86_400, "1 d"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
    }
}
