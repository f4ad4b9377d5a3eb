//! Back to IMail after days of use: what stands in the tree and in the exported registry is held against what is known of IMail's own files,
//! kind by kind, with readers that know nothing of our code; and what is ours alone can be deleted without a loss.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use regex::Regex;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use support::sample::{PRIMARY, SUZUKI};
use support::server::{Ports, Server};
use support::smtp::mail;
use support::tree::{Tree, copy_directory};
use support::{EDIT_LIMIT, ini, run, wait_for};

/// Longer than anything here takes on a loaded machine.
const LIMIT: Duration = Duration::from_secs(30);
/// A folder named 議事録 2026, as IMAP writes it (RFC 3501 5.1.3).
const MINUTES: &str = "&i3BOi5My- 2026";
/// Where mail for other servers goes: nobody listens there, so it waits.
const NOWHERE: &str = "*=127.0.0.1:9";
const ELSEWHERE: &str = "elsewhere.example=127.0.0.1:9";

/// How a message begins: the sender in brackets, which alone makes a border, and the date as in the one sample.
const BORDER: &str =
    r"^From <[^<>\s]*> (Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}\r\n$";

/// Folders of suzuki that are looked at: the name for clients, and the file.
const FOLDERS: [(&str, &str); 5] = [
    ("INBOX", "Main.mbx"),
    (MINUTES, "&i3BOi5My- 2026.mbx"),
    ("Archive.2021", "Archive/2021.mbx"),
    ("Projects.&W4xOhg-", "Projects.&W4xOhg-.mbx"),
    ("Sent", "Sent.mbx"),
];

/// Every message of a mailbox: is it read?
type Seen = BTreeMap<String, Vec<bool>>;

/// What users and admins do in some days. Answers with what suzuki's client shows at the end.
fn days_of_use(tree: &Tree) -> Seen {
    let list = "AllowPostingBy=Anyone\nDigestMode=1\nLocalAdministrator=mike\nDigestMailbox=collect\nDigestSize=500\nOwner=mike@mail.example.jp\n\
                SkipDmarcFromReplacement=1\n";
    std::fs::write(tree.path("Lists/news/list.ini"), list).unwrap();
    std::fs::write(tree.path("Lists/news/digest.lst"), "weekly@example.net\r\nann@example.org\r\n").unwrap();
    std::fs::write(tree.path("Lists/news/users.lst"), "; members\r\nsuzuki@mail.example.jp\r\n").unwrap();
    let start = |ports| Server::start_with(tree, ports, &["--route", NOWHERE, "--route", ELSEWHERE]);
    let server = start(Ports::reserve());

    let quoting = "From: a@example.net\r\nTo: tanaka@mail.example.jp\r\nSubject: quoting\r\n\r\nFrom <b@example.net> Mon Aug 01 10:00:00 2022\r\n\
                   X: no header\r\n\r\nFrom here on\r\nlast line\r\n";
    server.smtp().deliver("a@example.net", &["tanaka@mail.example.jp"], quoting);
    for subject in ["first", "second", "third"] {
        server.smtp().deliver("a@example.net", &["suzuki@mail.example.jp"], &mail(subject));
    }
    server.smtp().deliver("a@example.net", &["mike@mail.example.jp"], &mail("lottery"));
    let to_fred = mail("are you there").replace("To: somebody", "To: mr-fred@mail.example.jp");
    server.smtp().deliver("writer@example.net", &["mr-fred@mail.example.jp"], &to_fred);
    server.smtp().deliver("a@example.net", &["news@mail.example.jp"], &mail("post"));
    let subscribe = mail("x")
        .replace("sender@example.net", "tanaka@mail.example.jp")
        .replace("Text of x.", "subscribe news");
    server.smtp().deliver("tanaka@mail.example.jp", &["imailsrv@mail.example.jp"], &subscribe);

    tree.tool("adduser", &["-u", "kimura", "-p", "himitsu7", "-n", "木村 花"]).expect_code(1);
    tree.tool("adduser", &["-m", "mike", "-p", "changed88"]).expect_code(1);
    tree.tool("adduser", &["-m", "tanaka", "-n", "田中 新子"]).expect_code(1);
    let five = "everyone=suzuki,mike,tanaka,kimura,ann@example.org";
    tree.tool("addalias", &["-a", five]).expect_code(0);
    tree.tool("addalias", &["-a", "helpers=suzuki,mike"]).expect_code(0);
    wait_for("the new password", EDIT_LIMIT, || server.pop3_takes("mike", "changed88").then_some(()));
    wait_for("mail for the new group", EDIT_LIMIT, || {
        server.smtp().deliver("a@example.net", &["everyone@mail.example.jp"], &mail("to five"));
        let mut pop3 = server.pop3("kimura", "himitsu7");
        let found = !pop3.subjects().is_empty();
        pop3.quit();
        found.then_some(())
    });
    server.wait_for_mail("suzuki", SUZUKI, "third");
    server.wait_for_mail("suzuki", SUZUKI, "post");

    let mut pop3 = server.pop3("tanaka", "hanami!55");
    pop3.ok("DELE 1");
    pop3.quit();
    let mut imap = server.imap("suzuki", SUZUKI);
    imap.ok("SELECT INBOX");
    imap.ok("STORE 2:3 +FLAGS (\\Seen \\Flagged)");
    imap.ok("STORE 1 -FLAGS (\\Seen)");
    imap.ok("STORE 5 +FLAGS (\\Answered $Forwarded)");
    imap.ok(&format!("CREATE \"{MINUTES}\""));
    imap.ok(&format!("MOVE 4 \"{MINUTES}\""));
    imap.ok("COPY 2 \"Archive.2021\"");
    imap.ok("STORE 6:7 +FLAGS (\\Deleted)");
    imap.ok("EXPUNGE");
    imap.with_literal(&format!("APPEND \"{MINUTES}\" (\\Seen)"), mail("written here").as_bytes());
    imap.ok("RENAME \"Projects.2022\" \"Projects.&W4xOhg-\"");
    imap.ok("UNSUBSCRIBE Sent");
    imap.logout();

    let (_, ports) = server.stop();
    let server = start(ports);
    for subject in ["after a restart", "and another"] {
        let to = ["suzuki@mail.example.jp", "somebody@elsewhere.example"];
        server.smtp().deliver("mike@mail.example.jp", &to, &mail(subject));
    }
    server.wait_for_mail("suzuki", SUZUKI, "and another");
    wait_for("the digest", LIMIT, || {
        let mut pop3 = server.pop3("ann@example.org", "lovely99");
        let found = pop3.subjects().iter().any(|subject| subject.contains("igest"));
        pop3.quit();
        found.then_some(())
    });
    let held = wait_for("mail that waits", LIMIT, || {
        spool(tree)
            .into_iter()
            .find(|name| name.starts_with('Q') && envelope(tree, name).contains("elsewhere"))
    });
    run("imaild", &["queue", "hold", &held[1..17], "--root", tree.text()]).expect_code(0);

    let mut imap = server.imap("suzuki", SUZUKI);
    let mut seen = Seen::new();
    for (name, _) in FOLDERS {
        assert!(imap.examine(name) > 0, "{name}");
        seen.insert(name.to_owned(), imap.seen());
    }
    imap.logout();
    server.stop();
    seen
}

/// The names in the spool.
fn spool(tree: &Tree) -> Vec<String> {
    let entries = std::fs::read_dir(tree.path("spool")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn envelope(tree: &Tree, name: &str) -> String {
    std::fs::read_to_string(tree.path("spool").join(name)).unwrap_or_default()
}

/// A mailbox as its facts say: messages begin at lines with `From <`, and a header follows. Of each: the `Status` letter and the `X-UIDL`
/// number, if it has them, and its text.
fn messages(bytes: &[u8]) -> Vec<(Option<char>, Option<u32>, String)> {
    let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
    let mut all: Vec<String> = Vec::new();
    let border = Regex::new(BORDER).unwrap();
    for line in text.split_inclusive('\n') {
        match all.last_mut() {
            Some(last) if !border.is_match(line) => last.push_str(line),
            _ => all.push(line.to_owned()),
        }
    }
    let field = |message: &str, name: &str| {
        let header = message.split("\r\n\r\n").next().unwrap();
        header.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
    };
    let told = |message: String| {
        let status = field(&message, "Status:").and_then(|text| text.chars().next());
        (status, field(&message, "X-UIDL:").and_then(|text| text.parse().ok()), message)
    };
    all.into_iter().map(told).collect()
}

/// storage.md 1.1 to 1.3, and what IMAP showed.
fn mailboxes_are_imails(tree: &Tree, seen: &Seen) {
    for (name, file) in FOLDERS {
        let bytes = tree.read(&format!("users/suzuki/{file}"));
        let found = messages(&bytes);
        let read: Vec<bool> = found.iter().map(|(status, ..)| *status == Some('R')).collect();
        assert_eq!(read, seen[name], "{name}: the Status lines and what the client shows");
        assert!(!bytes.contains(&0) && bytes.ends_with(b"\r\n"), "{name}");
    }
    let main = messages(&tree.read("users/suzuki/Main.mbx"));
    let numbers: Vec<u32> =
        main.iter().map(|(_, number, _)| number.expect("every message has a number")).collect();
    assert!(
        numbers.is_sorted_by(|a, b| a < b) && numbers.iter().all(|number| *number < 1 << 31),
        "{numbers:?}"
    );
    let new = main.iter().find(|(.., text)| text.contains("Subject: third")).unwrap();
    let header = new.2.split("\r\n\r\n").next().unwrap();
    let last: Vec<&str> = header.lines().rev().take(4).collect();
    let delivered = ["X-RCPT-TO: <suzuki@mail.example.jp>", "Status: ", "X-UIDL: "];
    assert!(delivered.iter().all(|part| last.iter().any(|line| line.starts_with(part))), "{last:?}");
    assert!(!new.2.replace("\r\n", "").contains(['\r', '\n']), "CRLF and nothing else");

    let tanaka = messages(&tree.read("users/tanaka/main.mbx"));
    assert!(
        !tanaka.iter().any(|(_, number, _)| *number == first_number("users/tanaka/main.mbx")),
        "what POP3 removed is gone"
    );
    let quoting: Vec<_> = tanaka.iter().filter(|(.., text)| text.contains("Subject: quoting")).collect();
    assert!(
        quoting.len() == 1
            && quoting[0].2.contains("\r\n>From <b@example.net>")
            && quoting[0].2.contains("\r\nFrom here on")
    );
    assert_eq!(messages(&tree.read("users/mike/spambox.mbx")).len(), 1, "a rule filed it");
    assert!(tree.path("users/kimura/main.mbx").exists());
}

/// The number of the first message in a mailbox of the sample.
fn first_number(file: &str) -> Option<u32> {
    messages(&std::fs::read(support::fixtures().join("imail").join(file)).unwrap())[0].1
}

/// storage.md #14: indexes that do not fit their mailbox any more are set aside once; others are as they came.
fn old_indexes_do_not_lie(tree: &Tree) {
    let came = |name: &str| std::fs::read(support::fixtures().join("imail/users/suzuki").join(name)).unwrap();
    for name in ["Main.uid", "Main.idx"] {
        assert!(!tree.path(&format!("users/suzuki/{name}")).exists(), "{name} is stale");
        assert_eq!(tree.read(&format!("users/suzuki/{name}.bak")), came(name));
    }
    assert_eq!(tree.read("users/suzuki/Sent.uid"), came("Sent.uid"), "Sent was not changed");
}

/// storage.md #26; lists-aliases-rules.md 2 and 4.1: one address a line, CRLF, and every other byte as it came.
fn address_files_are_imails(tree: &Tree) {
    let text = |path: &str| String::from_utf8(tree.read(path)).unwrap();
    assert_eq!(text("users/Mr-Fred/vacation.snt"), "ann@example.org\r\nwriter@example.net\r\n");
    assert_eq!(
        text("Lists/news/users.lst"),
        "; members\r\nsuzuki@mail.example.jp\r\ntanaka@mail.example.jp\r\n"
    );
    assert_eq!(text("Lists/news/digest.lst"), "weekly@example.net\r\nann@example.org\r\n");
    let group = text("everyone.list");
    let members: Vec<&str> = group.split_terminator("\r\n").collect();
    assert_eq!(members, ["suzuki", "mike", "tanaka", "kimura", "ann@example.org"]);
    for file in ["forward.ima", "rules.ima", "vacation.ima", "plan.ima", "main.inf", "spam.rul"] {
        for user in ["mike", "Mr-Fred", "tanaka"] {
            let (ours, came) = (
                tree.path(&format!("users/{user}/{file}")),
                support::fixtures().join("imail/users").join(user).join(file),
            );
            assert_eq!(std::fs::read(ours).ok(), std::fs::read(came).ok(), "{user} {file}");
        }
    }
}

/// smtp-spool-logs.md 2.2 and 2.3: names, the D file that a Q file names, and the order of the records.
fn spool_is_imails(tree: &Tree) {
    let names = spool(tree);
    let name = Regex::new(r"^(H?Q|D)[0-9a-f]{16}\.(SMD|FWD|LST|GSE|TMP)$").unwrap();
    let mail: Vec<&String> =
        names.iter().filter(|name| *name != "next.id" && *name != "T0001.unknown").collect();
    assert!(mail.iter().all(|file| name.is_match(file)), "{mail:?}");
    let queued: Vec<&&String> = mail.iter().filter(|name| name.starts_with('Q')).collect();
    assert!(queued.len() >= 2, "the vacation answer and one of two: {mail:?}");
    assert_eq!(mail.iter().filter(|name| name.starts_with("HQ")).count(), 1);
    for file in queued {
        let text = envelope(tree, file);
        let data = format!("D{}", &file[1..]);
        let lines: Vec<&str> = text.split_terminator("\r\n").collect();
        assert_eq!(lines[0], format!("QC:\\IMail\\spool\\{data}"), "{text}");
        let order = lines.iter().filter_map(|line| "QHEIABUSLVXYDaTO".find(&line[..1]));
        assert!(order.is_sorted() && lines[1].starts_with('H'), "{text}");
        let is_recipient = |line: &&&str| line.starts_with(['R', 'Z']);
        assert!(
            lines.iter().filter(is_recipient).all(|line| line[1..].starts_with('<') && line.ends_with('>')),
            "{text}"
        );
        assert!(lines.iter().any(|line| line.starts_with("S<")), "{text}");
        let message = tree.read(&format!("spool/{data}"));
        assert!(!String::from_utf8_lossy(&message).replace("\r\n", "").contains(['\r', '\n']), "{data}");
    }
}

/// smtp-spool-logs.md 1: a line is a time, a tag with an id in brackets, and text.
fn logs_are_imails(tree: &Tree) {
    let today = Regex::new(r"^sys\d{8}\.txt$").unwrap();
    let line = Regex::new(r"^\d\d:\d\d \d\d:\d\d [A-Z0-9-]+\([0-9a-f]{16}\) ").unwrap();
    let mut count = 0;
    for entry in std::fs::read_dir(tree.path("logs")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if !today.is_match(&name) || name == "sys20220825.txt" {
            continue;
        }
        let text = String::from_utf8(std::fs::read(entry.path()).unwrap()).unwrap();
        count += text.split_terminator("\r\n").inspect(|text| assert!(line.is_match(text), "{text}")).count();
    }
    assert!(count > 20, "{count} lines");
}

/// An exported registry: its values by key.
fn registry(file: &Path) -> BTreeMap<String, BTreeMap<String, String>> {
    let bytes = std::fs::read(file).unwrap();
    assert_eq!(bytes[..2], [0xFF, 0xFE], "UTF-16LE with a byte order mark");
    let words: Vec<u16> = bytes[2..].chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    let text = String::from_utf16(&words).unwrap();
    assert!(text.starts_with("Windows Registry Editor Version 5.00\r\n\r\n[HKEY_LOCAL_MACHINE\\"));
    let mut keys: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut key = String::new();
    for line in text.replace("\\\r\n  ", "").split("\r\n").skip(1).filter(|line| !line.is_empty()) {
        if let Some(name) = line.strip_prefix('[') {
            key = name.trim_end_matches(']').to_owned();
            keys.entry(key.clone()).or_default();
        } else {
            let (name, value) = line.split_once('=').unwrap();
            keys.get_mut(&key).unwrap().insert(name.trim_matches('"').to_owned(), value.to_owned());
        }
    }
    keys
}

/// IMail's code: each character's number, and that of the user ID's that stands there, added (registry.md 2.1).
fn imail_code(id: &str, password: &str) -> String {
    let bytes = password.bytes().zip(id.bytes().cycle());
    format!(
        "\"{}\"",
        bytes.map(|(one, other)| format!("{:02X}", one.wrapping_add(other))).collect::<String>()
    )
}

/// registry.md 1 and 2: keys, types, and passwords that IMail can read.
fn exported_registry_is_imails(file: &Path) {
    let keys = registry(file);
    let root = "HKEY_LOCAL_MACHINE\\SOFTWARE\\Wow6432Node\\Ipswitch\\IMail";
    let users = format!("{root}\\Domains\\{PRIMARY}\\Users");
    let kimura = &keys[&format!("{users}\\kimura")];
    assert_eq!(kimura["Password"], imail_code("kimura", "himitsu7"));
    assert_eq!(kimura["MailAddr"], "\"kimura@mail.example.jp\"");
    assert_eq!(kimura["Flags"], "dword:00000080");
    // The name of a new user is text, one that was changed keeps the type it had (registry.md, recommended 9).
    assert_eq!(kimura["FullName"], "\"木村 花\"");
    assert_eq!(keys[&format!("{users}\\Tanaka")]["FullName"], "hex:ff,fe,30,75,2d,4e,20,00,b0,65,50,5b");
    assert_eq!(keys[&format!("{users}\\mike")]["Password"], imail_code("mike", "changed88"));
    let aliases = &keys[&format!("{users}\\_aliases")];
    assert_eq!(aliases["everyone"], "\"C:\\\\IMail\\\\everyone.list\"");
    assert_eq!(aliases["helpers"], "\"suzuki,mike\"");
    for key in keys.keys() {
        assert!(
            key.starts_with("HKEY_LOCAL_MACHINE\\S")
                && !key.contains("\\IMail\\Paths")
                && !key.contains("Imported"),
            "{key}"
        );
    }
    assert!(!keys[&format!("{root}\\Global")].contains_key("ReturnToIMail"));
    // What nobody changed is as it came.
    let came = registry(&support::fixtures().join("registry/software.reg"));
    let changed = ["\\mike", "\\Tanaka", "\\_aliases"];
    for (key, values) in came.iter().filter(|(key, _)| !changed.iter().any(|end| key.ends_with(end))) {
        for (name, value) in values {
            assert_eq!(keys[key].get(name), Some(value), "{key} {name}");
        }
    }
}

/// The command that `export` gives takes all that is ours alone out of a copy; what is left has names that IMail knows.
fn ours_can_be_deleted(out: &str, tree: &Tree) -> Tree {
    let copy = Tree::empty();
    copy_directory(tree.root(), copy.root());
    let command = out.lines().find(|line| line.trim_start().starts_with("find ")).expect("a command");
    let command = command.replace(tree.text(), copy.text());
    assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success());
    let imails = Regex::new(
        r"(?i)(\.mbx|\.ima|\.inf|\.snt|\.rul|\.lst|\.list|\.txt|(\.uid|\.idx)(\.bak)?|spool/(H?Q|D)[0-9a-f]{16}\.[A-Z]{3})$",
    )
    .unwrap();
    let came: Vec<PathBuf> =
        support::tree::snapshot(&support::fixtures().join("imail")).into_keys().collect();
    for path in copy.snapshot().into_keys().filter(|path| !came.contains(path) && !path.starts_with("certs"))
    {
        assert!(imails.is_match(path.to_str().unwrap()), "{} is neither IMail's nor deleted", path.display());
    }
    // Nothing of theirs went: what is gone was ours, or has been replaced by what we wrote.
    for path in came.iter().filter(|path| !copy.path(path.to_str().unwrap()).exists()) {
        let name = path.to_str().unwrap();
        let replaced = ["Main.uid", "Main.idx"].iter().any(|index| name.ends_with(index))
            || name.starts_with("spool/")
            || name.contains("Projects.2022.mbx");
        assert!(replaced, "{name} is gone");
    }
    copy
}

#[test]
fn after_days_of_use_the_tree_is_what_imail_expects() {
    let tree = Tree::imported();
    let seen = days_of_use(&tree);
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("back.reg");
    let export = |tree: &Tree, file: &Path| {
        run("imaild", &["export", "--root", tree.text(), "--out", file.to_str().unwrap()]).expect_code(0).out
    };
    let out = export(&tree, &file);
    for part in ["1 messages in the spool are held", "messages wait in the spool", "sato@mail.example.jp"] {
        assert!(out.contains(part), "{part:?} is missing:\n{out}");
    }
    assert!(!out.contains("ARGON2ID") && !out.contains("is running"), "{out}");
    mailboxes_are_imails(&tree, &seen);
    old_indexes_do_not_lie(&tree);
    address_files_are_imails(&tree);
    spool_is_imails(&tree);
    logs_are_imails(&tree);
    exported_registry_is_imails(&file);

    let copy = ours_can_be_deleted(&out, &tree);
    run("imaild", &["import", "--root", copy.text(), file.to_str().unwrap()]).expect_code(0);
    let again = scratch.path().join("again.reg");
    export(&copy, &again);
    assert_eq!(registry(&file), registry(&again), "there and back again");
    let server = Server::start(&copy);
    assert_eq!(server.pop3("suzuki", SUZUKI).count(), seen["INBOX"].len());
    assert!(server.pop3_takes("kimura", "himitsu7") && server.pop3_takes("mike", "changed88"));
}

/// What IMail could not take over is named before it is too late.
#[test]
fn export_warns() {
    let tree = Tree::quiet();
    let file = tree.path("back.reg");
    let export = || {
        run("imaild", &["export", "--root", tree.text(), "--out", file.to_str().unwrap()]).expect_code(0).out
    };
    let quiet = export();
    assert!(
        !quiet.contains("running") && !quiet.contains("spool") && !quiet.contains("ReturnToIMail"),
        "{quiet}"
    );
    let server = Server::start(&tree);
    let text = ini::set(&tree.registry(), "[Global]", "ReturnToIMail", "dword:00000000");
    tree.save_registry(&text);
    tree.tool("adduser", &["-m", "mike", "-p", "changed88"]).expect_code(1);
    wait_for("the server's report", EDIT_LIMIT, || export().contains("imaild is running").then_some(()));
    drop(server);
    let out = export();
    for part in [
        "1 users have a password that is stored as {ARGON2ID}",
        "mike@mail.example.jp",
        "ReturnToIMail is not 1",
    ] {
        assert!(out.contains(part), "{part:?} is missing:\n{out}");
    }
}
