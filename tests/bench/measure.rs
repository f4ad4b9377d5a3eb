//! What the benchmarks of IMAP and POP3 share: a large mailbox, and how figures are told.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// A word that stands in every thousandth message only.
pub const RARE: &str = "xylophone";

/// How many messages, unless the variable says otherwise.
pub fn count(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().map_or(default, |text| text.parse().expect("a number"))
}

/// Writes a mailbox of messages of about 5 KB, as IMail does.
pub fn write_mailbox(path: &Path, messages: usize) {
    write_mbox(path, messages, "<", ">");
}

/// The same as an mbox file that others read, too.
pub fn write_classic_mailbox(path: &Path, messages: usize) {
    write_mbox(path, messages, "", "");
}

fn write_mbox(path: &Path, messages: usize, open: &str, close: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    for n in 0..messages {
        let rare = if n % 1000 == 7 { RARE } else { "piano" };
        write!(
            file,
            "From {open}sender{}@example.net{close} Mon Aug  1 00:00:00 2022\r\nReceived: from mx.example.net by mail.example.jp; Mon, 1 Aug 2022 00:00:00 +0900\r\nDate: Mon, 1 Aug 2022 00:00:00 +0900\r\nFrom: \"Sender {n}\" <sender{}@example.net>\r\nTo: <user789@mail.example.jp>\r\nSubject: message {n} about a {rare}\r\nMessage-ID: <{n}@example.net>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\nX-UIDL: {}\r\nStatus: {}\r\n\r\n",
            n % 97,
            n % 97,
            400_000_000 + n,
            if n % 3 == 0 { "U" } else { "R" },
        )
        .unwrap();
        for line in 0..60 {
            write!(
                file,
                "line {line} of message {n} with the usual words that people write to each other, {rare}\r\n"
            )
            .unwrap();
        }
        file.write_all(b"\r\n").unwrap();
    }
    file.flush().unwrap();
}

/// How long it takes, and what it gives.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let outcome = work();
    (outcome, begun.elapsed())
}

/// Prints a figure.
pub fn tell(name: &str, value: f64, unit: &str) {
    println!("{name:<56}{value:>12.3} {unit}");
}

/// Prints how long something took.
pub fn tell_time(name: &str, time: Duration) {
    tell(name, time.as_secs_f64() * 1000.0, "ms");
}

/// Memory of a process in MB.
pub fn memory_mb(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line of memory");
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}
