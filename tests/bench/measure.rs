//! What the benchmarks of IMAP and POP3 share: large mailboxes, and the table in which both servers stand.

use crate::load;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

/// A word that stands in every thousandth message only, in its subject and in its text.
pub const RARE: &str = "xylophone";
/// What a figure may grow more than the mailbox before it is called out: the machine's own noise.
const GROWTH_SLACK: f64 = 1.5;
/// Shorter times say nothing about growth.
const GROWTH_FROM: Duration = Duration::from_millis(5);

/// The numbers of a variable, separated by commas.
pub fn counts(variable: &str, default: usize) -> Vec<usize> {
    let numbers = |text: String| text.split(',').map(|n| n.trim().parse().expect("a number")).collect();
    std::env::var(variable).ok().map_or(vec![default], numbers)
}

/// The same for one number.
pub fn count(variable: &str, default: usize) -> usize {
    counts(variable, default)[0]
}

/// In how many messages [`RARE`] stands.
pub fn rare(messages: usize) -> usize {
    (0..messages).filter(|n| is_rare(*n)).count()
}

fn is_rare(n: usize) -> bool {
    n % 1000 == 7
}

/// Writes a mailbox of messages of about 5 KB as IMail does: plain ones, alternatives, attachments and messages in messages, threads of three,
/// some subjects encoded. The same number gives the same bytes.
pub fn write_mailbox(path: &Path, messages: usize) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = io::BufWriter::with_capacity(1 << 20, std::fs::File::create(path).unwrap());
    let text =
        |lines: usize| "the usual words that people write to each other all day long\r\n".repeat(lines);
    let (short, long) = (text(8), text(70));
    let base64 =
        format!("{}\r\n", "QWxsIHRoZSB3b3JrIGFuZCBub25lIG9mIHRoZSBwbGF5IG1ha2VzIEphY2sgYQ==").repeat(80);
    for n in 0..messages {
        write_message(&mut file, n, &short, &long, &base64).unwrap();
    }
    file.flush().unwrap();
}

fn write_message(out: &mut impl Write, n: usize, short: &str, long: &str, base64: &str) -> io::Result<()> {
    let word = if is_rare(n) { RARE } else { "piano" };
    let (day, hour, minute) = (1 + n % 28, n / 28 % 24, n / 672 % 60);
    let sender = n % 97;
    write!(
        out,
        "From <sender{sender}@example.net> Mon Aug {day:2} {hour:02}:{minute:02}:00 2022\r\n\
         Received: from mx{}.example.net (mx.example.net [192.0.2.{}]) by mail.example.jp with ESMTP\r\n\
         \t(SMTPD32-7.07) id A{n:09X}; Mon, {day} Aug 2022 {hour:02}:{minute:02}:00 +0900\r\n\
         Message-ID: <{n}@example.net>\r\n\
         Date: Mon, {day} Aug 2022 {hour:02}:{minute:02}:00 +0900\r\n\
         From: \"Sender {sender}\" <sender{sender}@example.net>\r\n\
         To: <user789@mail.example.jp>\r\n",
        n % 7,
        n % 250
    )?;
    if n.is_multiple_of(4) {
        write!(out, "Cc: <other{}@example.net>, <third{}@example.org>\r\n", n % 600, n * 7 % 600)?;
    }
    match (n % 3, n % 37) {
        (_, 0) => write!(out, "Subject: =?UTF-8?Q?Gr=C3=BC=C3=9Fe_{n}_about_a_{word}?=\r\n")?,
        (0, _) => write!(out, "Subject: message {n} about a {word}\r\n")?,
        (place, _) => write!(
            out,
            "In-Reply-To: <{}@example.net>\r\nReferences: <{}@example.net> <{}@example.net>\r\n\
             Subject: Re: message {} about a {word}\r\n",
            n - 1,
            n.saturating_sub(2),
            n - 1,
            n - place
        )?,
    }
    let letter = if n.is_multiple_of(3) { "U" } else { "R" };
    write!(out, "MIME-Version: 1.0\r\nX-UIDL: {}\r\nStatus: {letter}\r\n", 400_000_000 + n)?;
    let plain = "Content-Type: text/plain; charset=utf-8\r\n\r\n";
    match n % 20 {
        0..12 => write!(out, "{plain}{long}a {word}\r\n")?,
        12..17 => write!(
            out,
            "Content-Type: multipart/alternative; boundary=\"b{n:x}\"\r\n\r\n--b{n:x}\r\n{plain}{long}a {word}\r\n--b{n:x}\r\n\
             Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
             <html><body><p>{short}</p></body></html>\r\n--b{n:x}--\r\n"
        )?,
        17..19 => write!(
            out,
            "Content-Type: multipart/mixed; boundary=\"b{n:x}\"\r\n\r\n--b{n:x}\r\n{plain}{short}a {word}\r\n--b{n:x}\r\n\
             Content-Type: application/octet-stream; name=\"f{n}.bin\"\r\nContent-Transfer-Encoding: base64\r\n\
             Content-Disposition: attachment; filename=\"f{n}.bin\"\r\n\r\n{base64}--b{n:x}--\r\n"
        )?,
        _ => write!(
            out,
            "Content-Type: multipart/mixed; boundary=\"b{n:x}\"\r\n\r\n--b{n:x}\r\n{plain}{short}a {word}\r\n--b{n:x}\r\n\
             Content-Type: message/rfc822\r\n\r\nFrom: <inner@example.net>\r\nTo: <x@example.net>\r\nSubject: inner {n}\r\n\r\n\
             {short}\r\n--b{n:x}--\r\n"
        )?,
    }
    out.write_all(b"\r\n")
}

/// What one step took.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Until the answer; `None`: longer than the limit.
    pub time: Option<Duration>,
    /// CPU seconds of the server.
    pub cpu: f64,
    /// Memory of the server afterwards in MB: all that is resident, and that part of it that no file backs.
    pub memory: (f64, f64),
    /// How long somebody else waited at most for the answer to a NOOP meanwhile.
    pub neighbour: Option<Duration>,
}

/// One step on one server.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was done.
    pub name: String,
    /// The most time, as a part of what the peer takes.
    pub target: Option<f64>,
    /// What it took.
    pub figure: Figure,
}

/// Memory of a process and all that it started, in MB: resident, and that part of it that no file backs.
pub fn memory(pid: u32) -> (f64, f64) {
    let of = |field: &str| -> f64 {
        let all = load::processes(pid).into_iter();
        all.map(|pid| load::memory_mb(pid, field)).sum()
    };
    (of("VmRSS"), of("RssAnon"))
}

/// Says on standard error what one server took for a step, as soon as it did: the table comes when both have done all.
pub fn report(server: &str, row: &Row) {
    let Figure { time, cpu, memory: (resident, own), neighbour } = &row.figure;
    eprintln!(
        "{server:<8} {:<46} {time:?}, CPU {cpu:.2} s, {resident:.0} MB ({own:.0} own), others {neighbour:?}",
        row.name
    );
}

/// Prints what both servers took for each step; the peer's rows may be missing.
pub fn print_table(title: &str, limit: Duration, ours: &[Row], theirs: &[Row]) {
    println!("\n{title}");
    println!(
        "{:<46}{:>10}{:>11}{:>8}{:>8}{:>9}{:>9}{:>9}{:>9}{:>9}",
        "", "imaild ms", "Dovecot ms", "ratio", "target", "CPU s", "CPU s", "RSS MB", "own MB", "others ms"
    );
    let ms = |time: Option<Duration>| match time {
        Some(time) => format!("{:.1}", time.as_secs_f64() * 1000.0),
        None => format!("over {} s", limit.as_secs()),
    };
    for row in ours {
        let peer = theirs.iter().find(|peer| peer.name == row.name).map(|row| &row.figure);
        let (mine, their) = (row.figure.time, peer.and_then(|peer| peer.time));
        let ratio = mine.zip(their).map(|(mine, their)| mine.as_secs_f64() / their.as_secs_f64());
        // A peer that did not end is slower than the limit.
        let at_most = mine.filter(|_| peer.is_some()).map(|mine| mine.as_secs_f64() / limit.as_secs_f64());
        let missed = match (row.target, ratio.or(at_most)) {
            (Some(target), Some(ratio)) if ratio > target => "  MISSED",
            (Some(_), None) if peer.is_some() => "  MISSED",
            _ => "",
        };
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.2}"));
        println!(
            "{:<46}{:>10}{:>11}{:>8}{:>8}{:>9.2}{:>9}{:>9.0}{:>9.0}{:>9}{missed}",
            row.name,
            ms(mine),
            peer.map_or_else(String::new, |peer| ms(peer.time)),
            number(ratio),
            number(row.target),
            row.figure.cpu,
            number(peer.map(|peer| peer.cpu)),
            row.figure.memory.0,
            row.figure.memory.1,
            row.figure.neighbour.map_or_else(String::new, |time| ms(Some(time))),
        );
    }
}

/// Prints how the times grew with the mailbox.
pub fn print_growth(all: &[(usize, Vec<Row>)]) {
    let [(_, first), ..] = all else { return };
    print!("\n{:<46}", "How the times grew");
    all.iter().for_each(|(messages, _)| print!("{messages:>16}"));
    println!();
    for row in first {
        print!("{:<46}", row.name);
        let mut before: Option<(usize, Duration)> = None;
        for (messages, rows) in all {
            let time = rows.iter().find(|other| other.name == row.name).and_then(|row| row.figure.time);
            let grown = before.zip(time).map(|((fewer, shorter), time)| {
                let (grown, larger) =
                    (time.as_secs_f64() / shorter.as_secs_f64(), *messages as f64 / fewer as f64);
                let slow = time > GROWTH_FROM && shorter > GROWTH_FROM && grown > larger * GROWTH_SLACK;
                format!("(x{grown:.1}{})", if slow { "!" } else { "" })
            });
            let ms =
                time.map_or_else(|| "-".to_owned(), |time| format!("{:.1}", time.as_secs_f64() * 1000.0));
            print!("{:>16}", format!("{ms} {}", grown.unwrap_or_default()));
            before = time.map(|time| (*messages, time));
        }
        println!();
    }
}

/// The middle of several rounds of the same rows.
pub fn middle(rounds: Vec<Vec<Row>>) -> Vec<Row> {
    let Some(first) = rounds.first() else { return Vec::new() };
    let row = |row: &Row| {
        let same = rounds.iter().filter_map(|rows| rows.iter().find(|other| other.name == row.name));
        let mut same: Vec<&Row> = same.collect();
        same.sort_by_key(|row| row.figure.time.unwrap_or(Duration::MAX));
        same[same.len() / 2].clone()
    };
    first.iter().map(row).collect()
}

/// Prints a figure.
pub fn tell(name: &str, value: f64, unit: &str) {
    println!("{name:<56}{value:>12.3} {unit}");
}

/// Prints how long something took.
pub fn tell_time(name: &str, time: Duration) {
    tell(name, time.as_secs_f64() * 1000.0, "ms");
}
