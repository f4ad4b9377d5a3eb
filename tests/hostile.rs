//! Clients that mean no good, over real sockets: the server's memory stays bounded, they are told BAD or BYE, and another client works on
//! undisturbed.
//!
//! `IMAILD_HOSTILE_MB` makes the large message larger than a test has time for.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use support::imap::Imap;
use support::sample::{SUZUKI, SUZUKI_SEEN};
use support::server::Server;
use support::tree::Tree;
use support::wire::Wire;

/// What an attack may take, in MB: buffers of its connections, and what the allocator keeps.
const ATTACK_MAX: u64 = 48;

/// A field of `/proc/PID/status` in MB.
fn memory(server: &Server, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

/// Runs an attack, which may take this much memory in MB, while somebody else works.
#[track_caller]
fn attack(server: &Server, what: &str, most: u64, attack: impl FnOnce()) {
    // From here on the peak is that of the attack (proc(5), clear_refs).
    fs::write(format!("/proc/{}/clear_refs", server.pid()), "5").unwrap();
    let before = memory(server, "VmRSS");
    let done = AtomicBool::new(false);
    let rounds = thread::scope(|scope| {
        let bystander = scope.spawn(|| {
            let mut imap = server.imap("suzuki", SUZUKI);
            assert_eq!(imap.examine("INBOX"), SUZUKI_SEEN.len());
            let mut rounds = 0;
            while rounds == 0 || !done.load(Ordering::Relaxed) {
                imap.ok("FETCH 3 (FLAGS BODY.PEEK[])");
                server.pop3("suzuki", SUZUKI).quit();
                rounds += 1;
                thread::sleep(Duration::from_millis(10));
            }
            rounds
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(attack));
        done.store(true, Ordering::Relaxed);
        let rounds = bystander.join().expect("the other client is disturbed");
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        rounds
    });
    let peak = memory(server, "VmHWM").saturating_sub(before);
    eprintln!("{what}: {peak} MB more at the most; the other client did {rounds} rounds");
    assert!(peak <= most, "{what} took {peak} MB of memory");
}

/// Sends until the server hangs up or has taken all; gives what it said.
fn pour(address: SocketAddr, begin: &str, more: &[u8], times: usize) -> (String, usize) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut taken = 0;
    if stream.write_all(begin.as_bytes()).is_ok() {
        while taken < times && stream.write_all(more).is_ok() {
            taken += 1;
        }
    }
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    (String::from_utf8_lossy(&said).into_owned(), taken)
}

/// Lines and literals that never end, of strangers and of users.
#[test]
fn lines_and_literals_without_end() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let (imap, pop3) = (server.address(143), server.address(110));
    let login = format!("a LOGIN suzuki {SUZUKI}\r\n");
    let piece = [b'x'; 64 << 10];
    attack(&server, "endless lines and literals", ATTACK_MAX, || {
        for begin in
            ["", "a LOGIN {9999999999+}\r\n", "a LOGIN {8000+}\r\n", "a APPEND INBOX {1000000000+}\r\n"]
        {
            let (said, taken) = pour(imap, begin, &piece, 512);
            assert!(taken < 512, "{begin}: 32 MB were taken");
            // A reset can overtake the last words.
            assert!(said.is_empty() || said.contains("* BYE ") || !said.ends_with("\r\n"), "{begin}: {said}");
        }
        let (_, taken) = pour(pop3, "USER ", &piece, 512);
        assert!(taken < 512, "POP3: 32 MB were taken");
        // A user's message may be large, but not in memory; one that never comes to its end is none.
        let announced = format!("{login}a APPEND INBOX {{1000000000+}}\r\n");
        let (said, taken) = pour(imap, &announced, &piece, 512);
        assert!(taken == 512 || said.contains("* BYE ") || said.contains(" NO "), "{taken}: {said}");
    });
    for (line, how) in [("LOGIN {8193}", "BAD [TOOBIG]"), ("LOGIN {99999999999999999999}", "BAD [TOOBIG]")] {
        let mut client = Imap::open(imap);
        let status = client.command(line).status;
        assert!(status.starts_with(how), "{line}: {status}");
        client.ok("NOOP");
    }
    assert_eq!(
        server.imap("suzuki", SUZUKI).examine("INBOX"),
        SUZUKI_SEEN.len(),
        "half a message was stored"
    );
}

/// Deep nesting, endless lists, names that are no UTF-7, ten thousand commands in one go.
#[test]
fn commands_without_sense_or_end() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let deep = 9_000;
    attack(&server, "deep nesting", ATTACK_MAX, || {
        for command in [
            format!("SEARCH {}ALL", "NOT ".repeat(deep)),
            format!("SEARCH {}ALL{}", "(".repeat(deep), ")".repeat(deep)),
            format!("SEARCH {}ALL", "OR ALL ".repeat(deep)),
            format!("FETCH 1 ({}FLAGS{})", "(".repeat(deep), ")".repeat(deep)),
            format!("FETCH 1 BODY[{}1]", "1.".repeat(deep)),
            format!("FETCH {}1 FLAGS", "1,".repeat(32_000)),
            format!("THREAD REFERENCES UTF-8 {}ALL", "(".repeat(deep)),
            format!("LIST ({} \"\" *", "(".repeat(deep)),
        ] {
            let mut imap = server.imap("suzuki", SUZUKI);
            imap.ok("EXAMINE INBOX");
            let status = imap.command(&command).status;
            assert!(status.starts_with("BAD ") || command.contains("BODY["), "{}: {status}", &command[..20]);
            imap.ok("NOOP");
        }
    });
    let before = tree.snapshot();
    let mut imap = server.imap("suzuki", SUZUKI);
    let long = format!("&{}-", "ZeVnLIqe".repeat(5000));
    for name in ["&", "a&b", "&AA", "&////", "&2D0-", "&3hD-", "&AGE-", "&!-", "&ZeVnLIqe", "\u{1}", &long] {
        for command in ["SELECT", "CREATE", "DELETE", "SUBSCRIBE", "APPEND", "RENAME INBOX"] {
            let literal = if command == "APPEND" { " {3+}\r\nabc" } else { "" };
            // Ten mistakes end a session.
            let mut imap = server.imap("suzuki", SUZUKI);
            let status = imap.command(&format!("{command} \"{name}\"{literal}")).status;
            assert!(status.starts_with("NO ") || status.starts_with("BAD "), "{command} {name}: {status}");
            imap.ok("NOOP");
        }
    }
    imap.ok("NOOP");
    for (path, bytes) in &before {
        assert!(
            path.starts_with("logs")
                || !path.starts_with("users")
                || fs::read(tree.path(path.to_str().unwrap())).unwrap() == *bytes
        );
    }
    attack(&server, "10,000 commands at once", ATTACK_MAX, || {
        let mut text = format!("a LOGIN suzuki {SUZUKI}\r\na EXAMINE INBOX\r\n");
        (0..10_000).for_each(|n| write!(text, "p{n} FETCH 1:* FLAGS\r\n").unwrap());
        let (mut wire, sender) = split(server.address(143), text);
        let answers = (0..10_000).filter(|n| wire.try_ask(b"", &format!("p{n} OK")).is_some()).count();
        sender.join().unwrap();
        assert_eq!(answers, 10_000);
        let mut text = format!("USER suzuki\r\nPASS {SUZUKI}\r\n");
        (0..10_000).for_each(|_| text.push_str("STAT\r\n"));
        let (mut wire, sender) = split(server.address(110), text);
        let stat = format!("+OK {} ", SUZUKI_SEEN.len());
        let answers = (0..10_000).filter(|_| wire.try_ask(b"", &stat).is_some()).count();
        sender.join().unwrap();
        assert_eq!(answers, 10_000);
    });
}

/// Opens a connection on which all is sent at once, while the answers are read.
fn split(address: SocketAddr, text: String) -> (Wire, thread::JoinHandle<()>) {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let sender = thread::spawn(move || writer.write_all(text.as_bytes()).unwrap());
    (Wire::over(stream.try_clone().unwrap(), stream), sender)
}

/// Begin of a TLS handshake: a record of 512 bytes, and in it a ClientHello.
const HELLO: &[u8; 12] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03x";

/// Many who begin to log in and go on byte by byte.
#[test]
fn five_hundred_slow_ones() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    attack(&server, "500 slow connections", ATTACK_MAX, || {
        let mut slow: Vec<TcpStream> = (0..500)
            .map(|n| TcpStream::connect(server.address([143, 110, 993, 995][n % 4])).unwrap())
            .collect();
        // The begin of a command, and that of a TLS handshake.
        let begins = [b"a LOGIN suzu", b"USER suzuki@", HELLO, HELLO];
        for at in 0..HELLO.len() {
            for (stream, begin) in slow.iter_mut().zip(begins.iter().cycle()) {
                stream.write_all(&begin[at..=at]).unwrap();
            }
        }
        server.imap("suzuki", SUZUKI).ok("NOOP");
        server.pop3("suzuki", SUZUKI).quit();
    });
}

/// A message of a million parts, one inside the other and one behind the other.
#[test]
fn a_million_parts() {
    let tree = Tree::quiet();
    let head = "Content-Type: multipart/mixed; boundary=b\r\n\r\n";
    let wide = head.to_owned() + &"--b\r\n\r\n\r\n".repeat(1_000_000);
    let mut deep = String::new();
    (0..100_000)
        .for_each(|n| write!(deep, "Content-Type: multipart/mixed; boundary={n}\r\n\r\n--{n}\r\n").unwrap());
    let inside = "Content-Type: message/rfc822\r\n\r\n".repeat(300_000);
    let text = [&wide, &deep, &inside]
        .map(|message| format!("From <> Mon Aug 22 00:12:33 2022\r\n{message}\r\n\r\n"));
    fs::write(tree.path("users/suzuki/Parts.mbx"), text.concat()).unwrap();
    let server = Server::start(&tree);
    attack(&server, "a million parts", ATTACK_MAX, || {
        let mut imap = server.imap("suzuki", SUZUKI);
        assert_eq!(imap.examine("Parts"), 3);
        for number in 1..=3 {
            let answer = imap.ok(&format!("FETCH {number} (BODYSTRUCTURE ENVELOPE PREVIEW)"));
            assert!(answer.untagged[0].len() < 1 << 20);
            let deep = "1.".repeat(40);
            imap.ok(&format!(
                "FETCH {number} (BODY BODY.PEEK[{deep}1.MIME] BODY.PEEK[999] BODY.PEEK[1.1.1.1.1])"
            ));
        }
        imap.ok("SEARCH TEXT nothing");
        // The same again and again in one answer: it goes out in pieces.
        imap.ok(&format!("FETCH 1 ({})", "BODY.PEEK[TEXT]<0.2000000> ".repeat(20).trim_end()));
    });
}

/// Those who ask for the structure or for parts of a large message, search it, copy it; and those who ask and do not read.
#[test]
fn a_large_message() {
    let megabytes: u64 = std::env::var("IMAILD_HOSTILE_MB").ok().and_then(|mb| mb.parse().ok()).unwrap_or(16);
    let line = format!("{}\r\n", "QUJD".repeat(19));
    let lines = (megabytes << 20) as usize / line.len();
    let message = format!(
        "From <> Mon Aug 22 00:12:33 2022\r\nSubject: large\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nHello\r\n--b\r\n\
         Content-Type: application/zip\r\nContent-Transfer-Encoding: base64\r\n\r\n{}--b--\r\n\r\n",
        line.repeat(lines)
    );
    let tree = Tree::quiet();
    fs::write(tree.path("users/suzuki/Large.mbx"), &message).unwrap();
    let server = Server::start(&tree);
    let mut imap = server.imap("suzuki", SUZUKI);
    assert_eq!(imap.examine("Large"), 1);
    // The message itself, once, and what it is worked on with.
    let once = megabytes + ATTACK_MAX;
    // As many at once as there is room for.
    let room = megabytes.max(64) + ATTACK_MAX;
    attack(&server, "BODYSTRUCTURE of a large message", once, || {
        assert!(imap.ok("FETCH 1 (BODYSTRUCTURE ENVELOPE PREVIEW)").text().contains("\"zip\""));
    });
    attack(&server, "a large part", once, || {
        let answer = imap.ok("FETCH 1 (UID BODY.PEEK[2] BODY.PEEK[2]<100.200> BODY.PEEK[2.MIME])");
        assert!(answer.untagged[0].len() > lines * line.len());
    });
    attack(&server, "a large message and its structure", once, || {
        let answer = imap.ok("FETCH 1 (BODYSTRUCTURE BODY.PEEK[])");
        assert!(answer.untagged[0].len() > lines * line.len());
    });
    attack(&server, "SEARCH TEXT in a large message", once, || {
        assert_eq!(imap.ok("SEARCH TEXT hello").text(), "* SEARCH 1");
        assert_eq!(imap.ok("SEARCH BODY QUJD").text(), "* SEARCH");
    });
    let refused = imap.command("FETCH 1 (BINARY.PEEK[2])").status;
    assert_eq!(refused.starts_with("NO [LIMIT]"), megabytes > 22, "{refused}");
    attack(&server, "twenty who ask for a large part and do not read", room, || {
        let ask = "x FETCH 1 BODY.PEEK[2]\r\n".repeat(50);
        let deaf: Vec<TcpStream> = (0..20)
            .map(|_| {
                let mut stream = TcpStream::connect(server.address(143)).unwrap();
                write!(stream, "a LOGIN suzuki {SUZUKI}\r\na EXAMINE Large\r\n{ask}").unwrap();
                stream
            })
            .collect();
        // Until each one's first piece is there.
        for stream in &deaf {
            stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            let mut wire = Wire::over(stream.try_clone().unwrap(), stream.try_clone().unwrap());
            while !wire.line().starts_with("* 1 FETCH") {}
        }
    });
    attack(&server, "copies of a large message", 2 * megabytes + ATTACK_MAX, || {
        imap.ok("CREATE Copy");
        imap.ok("COPY 1 Copy");
    });
    attack(&server, "a large message over POP3", ATTACK_MAX, || {
        let mut pop3 = server.pop3("suzuki-Large", SUZUKI);
        assert!(pop3.block("RETR 1").len() > lines * line.len());
        pop3.quit();
    });
}
