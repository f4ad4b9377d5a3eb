//! What the benchmarks share: a directory with users, the load, and what is read from `/proc`.

use crate::support::postfix::DOMAIN;
use crate::support::run;
use crate::support::tree::Tree;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Connections of the load.
pub const CONNECTIONS: usize = 20;
/// The usual size of a message.
pub const SMALL: usize = 4096;
/// A large one.
pub const LARGE: usize = 1 << 20;
/// How many users there are.
pub const USERS: usize = 10;
/// The domain whose mail goes to the sink.
pub const ELSEWHERE: &str = "sink.example.com";
/// No message is on its way for longer.
const TRANSIT_LIMIT: Duration = Duration::from_secs(300);
/// No answer takes longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// How often mailboxes are looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// What each message of the load has once.
const MARK: &[u8] = b"Message-Id: <load-";
/// Clock ticks a second in `/proc/PID/stat`: the same on every Linux machine that Rust's standard library runs on.
const TICKS: f64 = 100.0;

/// The names of the users, without their domain.
pub fn users() -> Vec<String> {
    (1..=USERS).map(|number| format!("u{number:03}")).collect()
}

/// The addresses of the first so many users.
pub fn recipients(count: usize) -> Vec<String> {
    users().iter().take(count).map(|user| format!("{user}@{DOMAIN}")).collect()
}

/// The same; for none of them, somebody whose mail goes to the sink.
pub fn recipients_or_elsewhere(count: usize) -> Vec<String> {
    if count == 0 { vec![format!("somebody@{ELSEWHERE}")] } else { recipients(count) }
}

/// A new directory with the users.
pub fn tree() -> Tree {
    tree_of(&users())
}

/// A new directory with these users.
pub fn tree_of(users: &[String]) -> Tree {
    let tree = Tree::empty();
    run("imaild", &["init", "--root", tree.text(), "--domain", DOMAIN]).expect_code(0);
    let text = tree.registry();
    let section = |user: &String| {
        let path = format!("Domains\\{DOMAIN}\\Users\\{user}");
        format!("[{path}]\r\nMailAddr={user}@{DOMAIN}\r\nFullName={user}\r\nFlags=dword:00000080\r\n\r\n")
    };
    let end = text.rfind("; end of registry.ini").unwrap();
    let sections: Vec<String> = users.iter().map(section).collect();
    tree.save_registry(&[&text[..end], &sections.concat(), &text[end..]].concat());
    tree
}

/// A user's main mailbox in a directory: the file is spelled as whoever made it liked.
pub fn mailboxes(tree: &Tree) -> Vec<Tail> {
    users().iter().map(|user| Tail::new(tree.path("users").join(user).join("main.mbx"))).collect()
}

/// Mail to be sent.
pub struct Load<'a> {
    /// How many messages.
    pub messages: usize,
    /// How large each is, in bytes.
    pub size: usize,
    /// Who gets them, in turn.
    pub recipients: &'a [String],
    /// Is there a new connection for each?
    pub reconnect: bool,
}

impl Load<'_> {
    /// Sends it all over [`CONNECTIONS`] connections, each reply awaited, and returns when the last is accepted.
    pub fn send(&self, to: SocketAddr) {
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..CONNECTIONS {
                scope.spawn(|| self.send_share(to, &next));
            }
        });
    }

    fn send_share(&self, to: SocketAddr, next: &AtomicUsize) {
        let mut session: Option<Session> = None;
        let body =
            "A line of text of the usual length, as people and programs write it.\r\n".repeat(self.size / 70);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= self.messages {
                break;
            }
            let mut current = session.take().unwrap_or_else(|| Session::open(to));
            current.deliver(number, &self.recipients[number % self.recipients.len()], &body);
            if self.reconnect {
                current.say("QUIT", "221");
            } else {
                session = Some(current);
            }
        }
        if let Some(mut session) = session {
            session.say("QUIT", "221");
        }
    }
}

/// A connection that has no work to spare for anything but sending.
pub struct Session {
    reader: BufReader<TcpStream>,
    line: Vec<u8>,
}

impl Session {
    /// Connects and says EHLO.
    pub fn open(to: SocketAddr) -> Session {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(ANSWER_LIMIT)).unwrap();
        let mut session = Session { reader: BufReader::new(stream), line: Vec::new() };
        session.expect("220");
        session.say("EHLO client.example.net", "250");
        session
    }

    /// Sends a message.
    pub fn deliver(&mut self, number: usize, recipient: &str, body: &str) {
        self.say("MAIL FROM:<sender@client.example.net>", "250");
        self.say(&format!("RCPT TO:<{recipient}>"), "250");
        self.say("DATA", "354");
        let mark = std::str::from_utf8(MARK).unwrap();
        let head = format!(
            "From: sender@client.example.net\r\nTo: {recipient}\r\nSubject: load\r\n{mark}{number}@client.example.net>\r\n\r\n"
        );
        self.say(&format!("{head}{body}."), "250");
    }

    fn say(&mut self, text: &str, code: &str) {
        self.reader.get_mut().write_all(format!("{text}\r\n").as_bytes()).unwrap();
        self.expect(code);
    }

    fn expect(&mut self, code: &str) {
        loop {
            self.line.clear();
            self.reader.read_until(b'\n', &mut self.line).expect("a reply within the time limit");
            let said = String::from_utf8_lossy(&self.line);
            assert!(said.starts_with(code), "{code} was expected: {said:?}");
            if said.as_bytes().get(3) != Some(&b'-') {
                return;
            }
        }
    }
}

/// A mailbox file that is watched for messages of the load.
pub struct Tail {
    path: PathBuf,
    at: u64,
    count: usize,
    /// The end of what was read, in which a mark may have begun.
    rest: Vec<u8>,
}

impl Tail {
    /// Begins at the start of the file, which need not exist yet.
    pub fn new(path: PathBuf) -> Tail {
        Tail { path, at: 0, count: 0, rest: Vec::new() }
    }

    /// How many messages of the load there have been.
    pub fn count(&mut self) -> usize {
        use std::os::unix::fs::FileExt as _;
        let Ok(file) = fs::File::open(self.spelled()) else { return 0 };
        let more = file.metadata().unwrap().len().saturating_sub(self.at);
        let mut bytes = std::mem::take(&mut self.rest);
        let old = bytes.len();
        bytes.resize(old + more as usize, 0);
        file.read_exact_at(&mut bytes[old..], self.at).unwrap();
        self.at += more;
        self.count += memchr::memmem::find_iter(&bytes, MARK).count();
        // Too short for a whole mark, so none is counted twice.
        self.rest = bytes.split_off(bytes.len().saturating_sub(MARK.len() - 1));
        self.count
    }

    /// The file as it is spelled on disk.
    fn spelled(&self) -> PathBuf {
        let same = |path: &PathBuf| {
            path.file_name().unwrap().eq_ignore_ascii_case(self.path.file_name().unwrap_or_default())
        };
        let entries = fs::read_dir(self.path.parent().unwrap()).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).find(same).unwrap_or_else(|| self.path.clone())
    }
}

/// Waits until a count reaches its end.
#[track_caller]
pub fn wait_for_count(end: usize, mut count: impl FnMut() -> usize) {
    let start = Instant::now();
    loop {
        let now = count();
        if now >= end {
            assert_eq!(now, end, "more came than was sent");
            return;
        }
        assert!(start.elapsed() < TRANSIT_LIMIT, "{now} of {end} came");
        thread::sleep(LOOK_AGAIN);
    }
}

/// Everything that these mailboxes have.
pub fn count_all(mailboxes: &mut [Tail]) -> usize {
    mailboxes.iter_mut().map(Tail::count).sum()
}

/// CPU seconds that a process, what it started, and what of that has ended, have used.
pub fn cpu_seconds(pid: u32) -> f64 {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return 0.0 };
    // Behind the name in parentheses; the fields from utime to cstime.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let own: f64 = fields.skip(11).take(4).filter_map(|field| field.parse::<f64>().ok()).sum();
    own / TICKS + children(pid).into_iter().map(cpu_seconds).sum::<f64>()
}

/// A process and all that it started.
pub fn processes(pid: u32) -> Vec<u32> {
    let below = children(pid).into_iter().flat_map(processes);
    std::iter::once(pid).chain(below).collect()
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// A field of `/proc/PID/status` in MB, such as `VmRSS` or `VmHWM`; none of a process that has ended.
pub fn memory_mb(pid: u32, field: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kilobytes.unwrap_or_default() / 1024.0
}

/// Prints the head of a table of figures.
pub fn print_head(name: &str) {
    println!("\n{name}\n{:<62} {:>12} {:>10}", "", "measured", "target");
}

/// Prints a figure.
pub fn print_figure(what: &str, measured: f64, unit: &str, target: Option<f64>) {
    let limit = target.map_or_else(String::new, |target| format!("<= {target}"));
    let verdict = if target.is_some_and(|target| measured > target) { "  MISSED" } else { "" };
    println!("{:<62} {measured:>12.2} {limit:>10}{verdict}", format!("{what}, {unit}"));
}

/// A number among the arguments, behind those that cargo gives.
pub fn argument() -> Option<usize> {
    std::env::args().find_map(|argument| argument.parse().ok())
}
