//! Watching the server from outside: `/metrics` in the text format of Prometheus, and `/health`, over HTTP on a port of this machine
//! (`--metrics`; off unless asked for).
//!
//! `/health` answers 200 while the server does what it was told to do, and 503 while it stops, when a service broke down, or when the spool
//! cannot be read; a service that an admin stopped is no fault. Names and units are those of Prometheus' conventions: seconds,
//! bytes, `_total` for what only grows.
//!
//! # Failure
//! A client that cannot be served is dropped.
//!
//! # Limits
//! [`CLIENTS_MAX`] clients, each for [`CLIENT_PATIENCE`]; the spool is listed once in [`QUEUE_FRESH_FOR`] at most.

use super::services::{Services, State};
use crate::logs::{Count, Log};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use layout::disk::Disk;
use layout::root::Root;
use layout::spool::id::Role;
use layout::spool::store::{Item, State as ItemState, Store};
use prometheus::{GaugeVec, IntCounterVec, Opts, Registry, TEXT_FORMAT, TextEncoder};
use serde_json::json;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// The most clients at a time.
const CLIENTS_MAX: usize = 16;
/// How long a client may take, from its connection to the end of the answer.
const CLIENT_PATIENCE: Duration = Duration::from_secs(10);
/// For how long what was found in the spool counts: to list a long queue is work.
const QUEUE_FRESH_FOR: Duration = Duration::from_secs(5);

/// What `/metrics` calls the counts of events: name, help, label, and its value for each count.
type Family = (&'static str, &'static str, &'static str, &'static [(&'static str, Count)]);
const COUNTS: [Family; 7] = [
    ("imaild_messages_received_total", "Messages taken by SMTP.", "", &[("", Count::Received)]),
    (
        "imaild_deliveries_total",
        "Recipients who got a message, in mailboxes here or by other servers.",
        "where",
        &[("here", Count::DeliveredHere), ("elsewhere", Count::DeliveredElsewhere)],
    ),
    (
        "imaild_message_bytes_total",
        "Bytes of messages taken by SMTP, and of copies for recipients.",
        "what",
        &[("received", Count::ReceivedBytes), ("delivered", Count::DeliveredBytes)],
    ),
    (
        "imaild_messages_deferred_total",
        "Tries after which a message waits for the next.",
        "",
        &[("", Count::Requeued)],
    ),
    ("imaild_recipients_bounced_total", "Recipients who were given up.", "", &[("", Count::Undeliverable)]),
    (
        "imaild_refusals_total",
        "Clients, senders, recipients and messages that were refused.",
        "",
        &[("", Count::Refused)],
    ),
    (
        "imaild_logins_total",
        "Logins to SMTP, POP3 and IMAP4.",
        "result",
        &[("ok", Count::Logins), ("failed", Count::FailedLogins)],
    ),
];

/// Answers.
pub struct Metrics {
    services: Arc<Services>,
    log: Log,
    disk: Arc<dyn Disk>,
    store: Store,
    started: SystemTime,
    queue: Mutex<Option<(Instant, Queue)>>,
}

/// What is in the spool.
#[derive(Clone, Copy, Default)]
struct Queue {
    waiting: u64,
    working: u64,
    held: u64,
    incomplete: u64,
    /// How long the oldest message has been there.
    oldest: Duration,
    /// Could the spool be read?
    readable: bool,
}

impl Metrics {
    /// Watches these services.
    pub fn new(root: &Root, services: Arc<Services>, log: Log) -> io::Result<Metrics> {
        let (disk, store, started) = (root.shared_disk(), Store::new(root)?, SystemTime::now());
        Ok(Metrics { services, log, disk, store, started, queue: Mutex::default() })
    }

    /// Answers for ever.
    pub async fn serve(self: Arc<Metrics>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(CLIENTS_MAX));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let metrics = self.clone();
                    tokio::spawn(async move {
                        let _place = place;
                        let _ = timeout(CLIENT_PATIENCE, metrics.client(stream)).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection to the metrics could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn client(self: Arc<Metrics>, stream: TcpStream) {
        let service = service_fn(move |request: Request<Incoming>| {
            let metrics = self.clone();
            async move { Ok::<_, Infallible>(metrics.answer(request.method(), request.uri().path())) }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(CLIENT_PATIENCE).keep_alive(false);
        if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
            tracing::debug!(%error, "a client of the metrics could not be served");
        }
    }

    fn answer(&self, method: &Method, path: &str) -> Response<String> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n".to_owned());
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        match path {
            "/metrics" => match self.text() {
                Ok(text) => response(StatusCode::OK, TEXT_FORMAT, text),
                Err(error) => response(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", format!("{error}\n")),
            },
            "/health" => self.health(),
            _ => response(StatusCode::NOT_FOUND, "text/plain", "/metrics and /health are here\n".to_owned()),
        }
    }

    fn health(&self) -> Response<String> {
        let states = self.services.states();
        let failed = states.iter().filter(|(_, state)| *state == State::Failed);
        let mut faults: Vec<String> =
            failed.map(|(service, _)| format!("{} broke down", service.word())).collect();
        if self.services.is_ending() {
            faults.push("the server is stopping".to_owned());
        }
        if !self.queue().readable {
            faults.push("the spool cannot be read".to_owned());
        }
        let services: serde_json::Map<String, serde_json::Value> =
            states.iter().map(|(service, state)| (service.word().to_owned(), state.word().into())).collect();
        let (code, word) = match faults.is_empty() {
            true => (StatusCode::OK, "ok"),
            false => (StatusCode::SERVICE_UNAVAILABLE, "failed"),
        };
        let body = json!({ "status": word, "faults": faults, "services": services });
        response(code, "application/json", format!("{body}\n"))
    }

    fn text(&self) -> prometheus::Result<String> {
        let sheet = Sheet(Registry::new());
        let version = env!("CARGO_PKG_VERSION");
        sheet.gauge("imaild_build_info", "The version.", &["version"], [([version], 1.0)])?;
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        sheet.gauge(
            "imaild_start_time_seconds",
            "When the server started, since 1970.",
            &[],
            [([], started)],
        )?;
        for (name, help, label, counts) in COUNTS {
            let tally = self.log.tally();
            match label {
                "" => {
                    sheet.counter(
                        name,
                        help,
                        &[],
                        counts.iter().map(|(_, count)| ([], tally.get(*count))),
                    )?;
                }
                label => {
                    let rows = counts.iter().map(|(value, count)| ([*value], tally.get(*count)));
                    sheet.counter(name, help, &[label], rows)?;
                }
            }
        }
        let dropped = [([], self.log.dropped())];
        sheet.counter("imaild_log_lines_dropped_total", "Log lines that were lost.", &[], dropped)?;
        let syncs = [([], layout::disk::real::syncs())];
        sheet.counter("imaild_disk_syncs_total", "Times that something was made durable.", &[], syncs)?;
        self.service_rows(&sheet)?;
        self.queue_rows(&sheet)?;
        TextEncoder::new().encode_to_string(&sheet.0.gather())
    }

    fn service_rows(&self, sheet: &Sheet) -> prometheus::Result<()> {
        let up = |state| if state == State::Running { 1.0 } else { 0.0 };
        let rows = self.services.states().into_iter().map(|(service, state)| ([service.word()], up(state)));
        sheet.gauge("imaild_service_up", "Is the service running?", &["service"], rows)?;
        let ports = self.services.ports();
        let labels = ["service", "address"];
        let addresses: Vec<String> = ports.iter().map(|port| port.address.to_string()).collect();
        let name = |index: usize| [ports[index].service, addresses[index].as_str()];
        let open = (0..ports.len()).map(|index| (name(index), ports[index].traffic.open() as f64));
        sheet.gauge("imaild_open_connections", "Connections of clients now.", &labels, open)?;
        let total = (0..ports.len()).map(|index| (name(index), ports[index].traffic.total()));
        let help = "Connections of clients since the start; of the log server, lines.";
        sheet.counter("imaild_connections_total", help, &labels, total)
    }

    fn queue_rows(&self, sheet: &Sheet) -> prometheus::Result<()> {
        let queue = self.queue();
        if !queue.readable {
            return Ok(());
        }
        let Queue { waiting, working, held, incomplete, oldest, .. } = queue;
        let rows = [("waiting", waiting), ("working", working), ("held", held), ("incomplete", incomplete)];
        let rows = rows.map(|(state, count)| ([state], count as f64));
        sheet.gauge("imaild_queue_messages", "Messages in the spool.", &["state"], rows)?;
        let help = "How long the oldest message has been in the spool; 0 if there is none.";
        sheet.gauge("imaild_queue_oldest_seconds", help, &[], [([], oldest.as_secs_f64())])
    }

    /// What is in the spool, or was a moment ago.
    fn queue(&self) -> Queue {
        let mut known = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        match *known {
            Some((seen, queue)) if seen.elapsed() < QUEUE_FRESH_FOR => queue,
            _ => {
                let queue = tokio::task::block_in_place(|| self.look());
                *known = Some((Instant::now(), queue));
                queue
            }
        }
    }

    fn look(&self) -> Queue {
        let mut queue = Queue::default();
        let Ok(listing) = self.store.scan() else { return queue };
        queue.readable = true;
        for item in &listing.items {
            let count = match item.state {
                ItemState::Waiting => &mut queue.waiting,
                ItemState::Claimed => &mut queue.working,
                ItemState::Held => &mut queue.held,
                ItemState::Arriving | ItemState::ArrivingEnvelope | ItemState::LoneEnvelope => {
                    queue.incomplete += 1;
                    continue;
                }
            };
            *count += 1;
            queue.oldest = queue.oldest.max(self.age(item));
        }
        queue
    }

    /// How long an item has been there: the age of its D file, which nobody writes again.
    fn age(&self, item: &Item) -> Duration {
        let data = self.disk.stat(&self.store.path(Role::Data, &item.name));
        let since = data.map_or(item.stamp.modified, |(stamp, _)| stamp.modified);
        Duration::from_nanos(self.disk.now().saturating_sub(since).max(0) as u64)
    }
}

/// The metrics of one answer.
struct Sheet(Registry);

impl Sheet {
    fn counter<'a, const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: &[&str; N],
        rows: impl IntoIterator<Item = ([&'a str; N], u64)>,
    ) -> prometheus::Result<()> {
        let family = IntCounterVec::new(Opts::new(name, help), labels)?;
        for (values, count) in rows {
            family.get_metric_with_label_values(&values)?.inc_by(count);
        }
        self.0.register(Box::new(family))
    }

    fn gauge<'a, const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: &[&str; N],
        rows: impl IntoIterator<Item = ([&'a str; N], f64)>,
    ) -> prometheus::Result<()> {
        let family = GaugeVec::new(Opts::new(name, help), labels)?;
        for (values, value) in rows {
            family.get_metric_with_label_values(&values)?.set(value);
        }
        self.0.register(Box::new(family))
    }
}

fn response(code: StatusCode, kind: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
