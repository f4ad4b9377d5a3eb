//! The log: one message followed from line to line, Debug Messages without secrets, the log server.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use base64::Engine as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;
use support::sample::SUZUKI;
use support::server::{Ports, Server};
use support::smtp::mail;
use support::tree::Tree;
use support::{EDIT_LIMIT, ini, run, wait_for};

const SMTP: &str = "[Services\\SMTPD32\\Parameters]";
const POP3: &str = "[Services\\POP3D32\\Parameters]";
const IMAP: &str = "[Services\\IMAP4D32\\Parameters]";
const GLOBAL: &str = "[Global]";

/// How long a line may take to get into the file.
const LIMIT: Duration = Duration::from_secs(20);

fn set(tree: &Tree, settings: &[(&str, &str, &str)]) {
    let text = settings
        .iter()
        .fold(tree.registry(), |text, (section, name, value)| ini::put(&text, section, name, value));
    tree.save_registry(&text);
}

/// All lines of the log files whose name begins like this.
fn lines(tree: &Tree, word: &str) -> Vec<String> {
    let files = std::fs::read_dir(tree.path("logs")).into_iter().flatten().flatten().map(|file| file.path());
    let named = files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(word));
    let texts =
        named.map(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned());
    texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Waits for a line with this text.
#[track_caller]
fn wait_for_line(tree: &Tree, word: &str, text: &str) -> String {
    wait_for(&format!("a line with {text:?} in {word}*.txt"), LIMIT, || {
        lines(tree, word).into_iter().find(|line| line.contains(text))
    })
}

/// What stands behind the id, of all lines with it.
fn trail(tree: &Tree, id: &str) -> Vec<String> {
    let begin = format!("({id}) ");
    lines(tree, "sys").iter().filter_map(|line| Some(line.split_once(&begin)?.1.to_owned())).collect()
}

/// A server of another domain, which answers each next RCPT with the next of these replies.
fn peer(replies: &'static [&'static str]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut replies = replies.iter();
        for stream in listener.incoming().flatten() {
            let _ = converse(stream, &mut replies);
        }
    });
    address
}

fn converse<'a>(
    mut stream: TcpStream,
    replies: &mut impl Iterator<Item = &'a &'a str>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?);
    let mut answer = |text: &str| stream.write_all(format!("{text}\r\n").as_bytes());
    answer("220 mx.example.net")?;
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        answer(match line.get(..4).unwrap_or("") {
            "RCPT" => replies.next().unwrap_or(&"250 ok"),
            "QUIT" => "221 bye",
            _ => "250 mx.example.net",
        })?;
    }
}

/// In, queued, tried in vain, tried again, given up, returned: every step is in the log, and ids lead from one to the next.
#[test]
fn a_message_is_followed_by_its_id() {
    let tree = Tree::quiet();
    set(&tree, &[(SMTP, "VerboseLogging", "1")]);
    let peer = peer(&["451 4.3.0 not now", "550 5.1.1 nobody of that name"]);
    let route = format!("example.net={peer}");
    let server = Server::start_with(&tree, Ports::reserve(), &["--route", &route]);
    let mut smtp = server.smtp();
    smtp.deliver("suzuki@mail.example.jp", &["bob@example.net"], &mail("followed"));
    smtp.quit();
    // The sample's own logs have Windows paths.
    let received = wait_for_line(&tree, "sys", "/spool/D");
    let id = received.split_once("/spool/D").unwrap().1.split_once(".SMD").unwrap().0.to_owned();
    wait_for("the first try", LIMIT, || {
        trail(&tree, &id).iter().any(|l| l.starts_with("finished")).then_some(())
    });
    run("imaild", &["queue", "retry", &id, "--root", tree.text()]).expect_code(0);
    assert!(trail(&tree, &id).contains(&format!("{id}.SMD was told to be tried now by imaild queue")));
    wait_for("the second try", LIMIT, || {
        (trail(&tree, &id).iter().filter(|line| line.starts_with("finished")).count() == 2).then_some(())
    });

    let trail_of = trail(&tree, &id);
    let mut rest = trail_of.iter();
    for step in [
        "/D",
        "queued ",
        "processing ",
        "because it is new",
        "451 4.3.0 not now",
        "requeuing ",
        "next try ",
        "status=3",
        "processing ",
        "because its Q file was touched",
        "550 5.1.1 nobody of that name",
        "undeliverable bob@example.net Unknown user: bob@example.net",
        "to <suzuki@mail.example.jp>",
        "status=2",
    ] {
        assert!(
            rest.any(|line| line.contains(step)),
            "{step:?} is missing or too late in:\n{}",
            trail_of.join("\n")
        );
    }
    let bounce = trail_of.iter().find_map(|line| line.strip_prefix("bounce ")).unwrap();
    let bounce = bounce.split(' ').next().unwrap();
    wait_for("the bounce in a mailbox", LIMIT, || {
        trail(&tree, bounce)
            .iter()
            .any(|line| line.contains("ldeliver mail.example.jp suzuki (1) <>"))
            .then_some(())
    });
    // The connection's lines have the same number in the middle, and zeros at the end.
    let connection = format!("{}0000", &id[..12]);
    let said = trail(&tree, &connection);
    for step in
        ["] connect 127.0.0.1 port ", "] EHLO client.example.net", "] MAIL FROM:<suzuki@mail.example.jp>"]
    {
        assert!(said.iter().any(|line| line.contains(&step[1..])), "{step:?} in:\n{}", said.join("\n"));
    }
}

/// Commands and replies of all three services, switched on while the server runs, and no secret among them.
#[test]
fn debug_messages_show_commands_and_replies_without_secrets() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    server.pop3("mike", "rocks").quit();
    wait_for_line(&tree, "sys", "logon success for mike");
    assert!(
        !lines(&tree, "sys").iter().any(|line| line.contains("USER mike")),
        "nothing of that without the setting"
    );
    set(&tree, &[(SMTP, "DebugMessages", "1"), (POP3, "DebugMessages", "1"), (IMAP, "DebugMessages", "1")]);
    wait_for("the setting to be in force", EDIT_LIMIT, || {
        server.pop3("mike", "rocks").quit();
        lines(&tree, "sys").iter().any(|line| line.contains("USER mike")).then_some(())
    });

    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let mut smtp = server.smtp();
    let (plain, password) = (encode(&format!("\0suzuki\0{SUZUKI}")), encode(SUZUKI));
    assert_eq!(smtp.command("AUTH NTLM").code, 504);
    assert_eq!(smtp.command(&password).code, 500, "what a client sends although it was refused");
    assert_eq!(smtp.command("AUTH LOGIN").code, 334);
    assert_eq!(smtp.command(&encode("suzuki")).code, 334);
    assert_eq!(smtp.command(&password).code, 235);
    smtp.deliver("suzuki@mail.example.jp", &["mike@mail.example.jp"], &mail("secret subject"));
    smtp.quit();
    assert_eq!(server.smtp().command(&format!("AUTH PLAIN {plain}")).code, 235);
    let mut pop3 = server.pop3("suzuki", SUZUKI);
    pop3.block("RETR 1");
    pop3.quit();
    let mut imap = server.imap("suzuki", SUZUKI);
    imap.ok("SELECT INBOX");
    imap.ok("FETCH 1 BODY.PEEK[]");
    imap.logout();

    for (tag, text) in [
        ("SMTPD(", "] AUTH LOGIN"),
        ("SMTPD(", "] >334 UGFzc3dvcmQ6"),
        ("SMTPD(", "] >235 "),
        ("SMTPD(", "] DATA"),
        ("SMTPD(", "] >354 "),
        ("SMTPD(", "] >250-"),
        ("SMTPD(", "] QUIT"),
        ("SMTPD(", "] >221 "),
        ("SMTPD(", "disconnect: the client is gone"),
        ("POP3D(", "] >+OK X1 NT-POP3 Server"),
        ("POP3D(", "] PASS"),
        ("POP3D(", "] RETR 1"),
        ("POP3D(", "] >+OK "),
        ("IMAP4D(", " LOGIN \"suzuki\""),
        ("IMAP4D(", " FETCH 1 BODY.PEEK[]"),
        ("IMAP4D(", " OK FETCH "),
    ] {
        wait_for(&format!("{tag}...{text}"), LIMIT, || {
            lines(&tree, "sys").iter().any(|line| line.contains(tag) && line.contains(text)).then_some(())
        });
    }
    let all = lines(&tree, "sys").join("\n");
    for secret in [SUZUKI, &password, &plain, "rocks", "secret subject"] {
        assert!(!all.contains(secret), "{secret} is in the log:\n{all}");
    }
}

/// Our own log server: lines of a service and of other machines, in a file that may be moved or deleted.
#[test]
fn the_log_server_writes_its_file() {
    let tree = Tree::quiet();
    set(&tree, &[(POP3, "LogTo", "LogServer"), (GLOBAL, "LogServer", "127.0.0.1")]);
    let server = Server::start_with(&tree, Ports::reserve(), &["--services", "log,web"]);
    assert!(server.output().contains("there is no web service in this version yet"), "{}", server.output());
    server.pop3("mike", "rocks").quit();
    let line = wait_for_line(&tree, "log", "logon success for mike");
    let words: Vec<&str> = line.split_whitespace().collect();
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    assert!(digits(words[0], 8) && digits(words[1], 6), "{line}");
    assert_eq!((words[2], words[3]), ("127.0.0.1", "POP3D"), "{line}");
    assert!(words[4].len() == 18 && words[5] == "[127.0.0.1]", "{line}");
    assert!(!lines(&tree, "sys").iter().any(|line| line.contains("POP3D(")), "POP3 logs there only");

    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = |text: &str| {
        socket.send_to(text.as_bytes(), server.address(514)).unwrap();
    };
    let today = tree.path("logs").join(format!("log{}.txt", words[0]));
    send("<13>Feb  5 17:32:18 switch port 7 is down\r\nforged\x1b[2J");
    let line = wait_for_line(&tree, "log", "port 7 is down");
    assert!(line.ends_with(" 127.0.0.1       port 7 is downforged[2J"), "{line}");
    std::fs::rename(&today, tree.path("logs/moved.txt")).unwrap();
    send("<13>after the move");
    wait_for_line(&tree, "log", "after the move");
    std::fs::remove_file(&today).unwrap();
    send("<13>after the deletion");
    wait_for_line(&tree, "log", "after the deletion");
    assert_eq!(lines(&tree, "log").len(), 1);

    // Who may send, and where a service logs, are settings like all others.
    set(&tree, &[(GLOBAL, "LogClients", "192.0.2.0/24"), (POP3, "LogTo", "Sys")]);
    let mut number = 0;
    wait_for("a line that is refused", EDIT_LIMIT, || {
        number += 1;
        send(&format!("<13>number {number}."));
        server.pop3("mike", "rocks").quit();
        std::thread::sleep(Duration::from_millis(100));
        let taken = lines(&tree, "log").iter().any(|line| line.ends_with(&format!(" number {number}.")));
        let in_sys = lines(&tree, "sys").iter().any(|line| line.contains("POP3D("));
        (!taken && in_sys).then_some(())
    });
}

/// A log that an admin moves or deletes while the server runs begins anew with the next line.
#[test]
fn todays_log_may_be_moved_and_deleted() {
    let tree = Tree::quiet();
    let server = Server::start(&tree);
    let log_in = |user: &str, password: &str| {
        server.pop3(user, password).quit();
        wait_for_line(&tree, "sys", &format!("logon success for {user}"));
    };
    log_in("mike", "rocks");
    let mut files = std::fs::read_dir(tree.path("logs")).unwrap().map(|file| file.unwrap().path());
    let today = files.find(|path| path.to_str().unwrap().contains("/sys")).unwrap();
    std::fs::rename(&today, tree.path("logs/moved.txt")).unwrap();
    log_in("suzuki", SUZUKI);
    std::fs::remove_file(&today).unwrap();
    log_in("mike", "rocks");
    assert!(!lines(&tree, "sys").iter().any(|line| line.contains("logon success for suzuki")));
}
