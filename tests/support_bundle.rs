//! `imaild support`: everything that a support person asks for is in the file, and no password is.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use support::sample::{ACCOUNTS, LOCKED};
use support::tree::Tree;
use support::{Run, command, finish, run};
use tempfile::TempDir;

/// The day of the sample's log.
const DAY: &str = "20220825";
/// Secrets that the sample does not have: of a list, of a setting to come, of a comment, of a program's arguments.
const PLANTED: [&str; 5] =
    ["list-secret-1", "gate-secret-2", "old-secret-3", "fax-secret-4", "odbc-secret-5"];
/// A password as it is stored without the way back.
const ARGON: &str =
    "{ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQxMjM$Zm9yIHRoZSB0ZXN0IG9ubHksIG5vIGhhc2g";

/// A file that is to be made, and a `journalctl` that says how it was called.
struct Out {
    dir: TempDir,
}

impl Out {
    fn new() -> Out {
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path().join("bin/journalctl");
        std::fs::create_dir(dir.path().join("bin")).unwrap();
        std::fs::write(&journal, "#!/bin/sh\necho \"journal $*\"\n").unwrap();
        std::fs::set_permissions(&journal, std::fs::Permissions::from_mode(0o755)).unwrap();
        Out { dir }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("bundle.tar.gz")
    }

    fn bundle(&self, tree: &Tree, date: &str, more: &[&str]) -> Run {
        let path = format!("{}:{}", self.dir.path().join("bin").display(), std::env::var("PATH").unwrap());
        let mut support = command("imaild");
        support.args(["support", "--root", tree.text(), "--date", date, "--out"]).arg(self.file());
        finish(support.args(more).env("PATH", path))
    }
}

/// The entries of a bundle, without its own directory.
fn entries(file: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(file).unwrap()));
    let mut found = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        let (top, name) = path.split_once('/').unwrap();
        assert!(top.starts_with("imaild-support-2"), "{path}");
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        assert!(found.insert(name.to_owned(), bytes).is_none(), "{name} is there twice");
    }
    found
}

fn text(entries: &BTreeMap<String, Vec<u8>>, name: &str) -> String {
    let names: Vec<&String> = entries.keys().collect();
    let bytes = entries.get(name).unwrap_or_else(|| panic!("no {name} in {names:?}"));
    String::from_utf8(bytes.clone()).unwrap()
}

/// The sample with secrets of every kind planted in it.
fn with_secrets() -> Tree {
    let tree = Tree::imported();
    let [list, gate, old, fax, odbc] = PLANTED;
    std::fs::write(
        tree.path("Lists/news/list.ini"),
        format!("; Password={list}\nTitle=News\nUsePassword=1\nPassword={list}\n"),
    )
    .unwrap();
    let changed = tree
        .registry()
        .replace(
            "[Global]\r\n",
            &format!(
                "; Password={old}\r\n[Global]\r\nGatePassword={gate}\r\nConnect=\"uid=a;pwd={odbc}\"\r\n"
            ),
        )
        .replace(
            "\\Users\\_aliases]\r\n",
            &format!("\\Users\\_aliases]\r\nfaxes=\"|C:\\\\fax.exe -k {fax}\"\r\n"),
        )
        .replace("=DFD8CED0E0\r\n", &format!("={ARGON}\r\n"))
        .replace("; end of registry.ini", &format!("nonsense {old}\r\n; end of registry.ini"));
    assert!(PLANTED[1..].iter().chain([&ARGON]).all(|secret| changed.contains(secret)), "{changed}");
    tree.save_registry(&changed);
    tree
}

/// Every secret of the tree, in clear and as it is stored.
fn secrets(tree: &Tree) -> Vec<String> {
    let clear = ACCOUNTS.iter().map(|account| account.1).chain(LOCKED.iter().map(|locked| locked.1));
    let clear = clear.filter(|word| !matches!(*word, "" | "password")).chain(PLANTED).map(str::to_owned);
    let registry = tree.registry();
    let stored = registry.lines().filter_map(|line| line.strip_prefix("Password=").map(str::trim));
    let stored: Vec<String> = stored.filter(|text| !text.is_empty()).map(str::to_owned).collect();
    assert!(stored.len() >= 9 && stored.iter().any(|text| text == ARGON), "{stored:?}");
    clear.chain(stored).collect()
}

#[test]
fn what_is_needed_is_in_it_and_no_password_is() {
    let tree = with_secrets();
    let before = tree.snapshot();
    let out = Out::new();
    let asked = [
        "--mailbox",
        "suzuki/INBOX",
        "--mailbox",
        "Suzuki@mail.example.jp/\u{4e0b}\u{66f8}\u{304d}",
        "--message",
        "ann@example.org/main/2",
    ];
    let told = out.bundle(&tree, DAY, &asked).expect_code(0);
    assert!(told.out.contains("bundle.tar.gz") && !told.out.contains("could not be had"), "{}", told.text());
    assert!(tree.snapshot() == before, "the tree is only read");
    assert_eq!(std::fs::metadata(out.file()).unwrap().permissions().mode() & 0o777, 0o600);

    let entries = entries(&out.file());
    for (name, parts) in [
        (
            "CONTENTS.txt",
            &["logs/sys20220825.txt", "registry.ini", "messages/ann@example.org/INBOX-2.eml"][..],
        ),
        ("version.txt", &[env!("CARGO_PKG_VERSION")]),
        ("host.txt", &["Kernel: Linux", "bytes free"]),
        ("programs.txt", &["imaild"]),
        ("status.json", &["\"running\": false"]),
        (
            "registry.ini",
            &[
                "HostName=mail.example.jp",
                "Password=(left out: Argon2id)",
                "Password=(left out: an unknown form)",
            ],
        ),
        ("registry-complaints.txt", &["line "]),
        ("lists/mail.example.jp/news.ini", &["Title=News\n", "UsePassword=1\n"]),
        ("queue.txt", &["7c1e0000b0010c44"]),
        ("journal.txt", &["--unit imaild.service --since=2022-08-25 --until=2022-08-26"]),
    ] {
        let text = text(&entries, name);
        parts.iter().for_each(|part| assert!(text.contains(part), "{part:?} is not in {name}:\n{text}"));
    }
    // Whole, as the manual asks.
    assert_eq!(entries["logs/sys20220825.txt"], tree.read("logs/sys20220825.txt"));
    assert_eq!(entries["mailboxes/suzuki@mail.example.jp/INBOX.mbx"], tree.read("users/suzuki/Main.mbx"));
    assert_eq!(
        entries["mailboxes/suzuki@mail.example.jp/&Tgtm+DBN-.mbx"],
        tree.read("users/suzuki/\u{4e0b}\u{66f8}\u{304d}.mbx")
    );
    let message = text(&entries, "messages/ann@example.org/INBOX-2.eml");
    let header = message.split("\r\n\r\n").next().unwrap();
    assert!(
        header.contains("Subject:") && !header.contains("Status:") && !message.contains("From <"),
        "{message}"
    );

    for secret in secrets(&tree) {
        for (name, bytes) in
            entries.iter().filter(|(name, _)| !name.starts_with("mail") && !name.starts_with("mess"))
        {
            let text = String::from_utf8_lossy(bytes);
            assert!(!text.contains(&secret), "{secret} is in {name}:\n{text}");
        }
    }
}

#[test]
fn nothing_is_overwritten_and_a_wrong_request_makes_no_file() {
    let tree = Tree::imported();
    let out = Out::new();
    for (asked, words) in [
        (&["--mailbox", "suzuki"][..], &["USER/NAME"][..]),
        (&["--mailbox", "suzuki/Nothing"], &["no mailbox Nothing", "Projects.2022"]),
        (&["--mailbox", "ghost/INBOX"], &["no user ghost"]),
        (&["--mailbox", "ann@nowhere.example/INBOX"], &["no such domain"]),
        (&["--mailbox", "suzuki/../../registry.ini"], &["no mailbox"]),
        (&["--message", "suzuki/INBOX/9"], &["8 messages", "mbxcheck --dump"]),
        (&["--message", "suzuki/INBOX/0"], &["8 messages"]),
        (&["--message", "suzuki/INBOX"], &["USER/NAME/NUMBER"]),
        (&["--message", "suzuki/outlook/1"], &["outlook"]),
    ] {
        out.bundle(&tree, DAY, asked).expect_code(1).expect_error(words);
        assert!(!out.file().exists(), "{asked:?}");
    }
    out.bundle(&tree, "20221325", &[]).expect_code(2).expect_error(&["YYYYMMDD"]);
    std::fs::write(out.file(), "precious").unwrap();
    out.bundle(&tree, DAY, &[]).expect_code(1).expect_error(&["exists already"]);
    assert_eq!(std::fs::read(out.file()).unwrap(), b"precious");
    let nowhere = ["support", "--root", tree.text(), "--date", DAY, "--out", "/no/such/dir/x.tar.gz"];
    run("imaild", &nowhere).expect_code(1).expect_error(&["/no/such/dir/x.tar.gz"]);
}

/// A directory in trouble is what this is for.
#[test]
fn what_is_missing_is_named() {
    let tree = Tree::copied();
    let out = Out::new();
    let told = out.bundle(&tree, "20220826", &[]).expect_code(0).out;
    let entries = entries(&out.file());
    for part in ["registry.ini", "no log of this day"] {
        assert!(told.contains(part) && text(&entries, "CONTENTS.txt").contains(part), "{part:?}: {told}");
    }
    assert!(!entries.contains_key("registry.ini"));
    assert!(text(&entries, "queue.txt").contains("7c1e0000b0010c44"));
    std::fs::rename(tree.path("logs/sys20220825.txt"), tree.path("spool/sys0826.txt.gz")).unwrap();
    std::fs::remove_file(out.file()).unwrap();
    let year = chrono::Local::now().date_naive();
    let year = if year.format("%m%d").to_string().as_str() < "0826" { 1 } else { 0 };
    let date = chrono::Datelike::year(&chrono::Local::now()) - year;
    out.bundle(&tree, &format!("{date}0826"), &[]).expect_code(0);
    assert!(
        self::entries(&out.file()).contains_key("spool/sys0826.txt.gz"),
        "names without a year, and compressed ones"
    );
}
