//! `init`, `import`, `export` and `check` by themselves: what they report, what they write, and
//! that they write nothing else. No server runs here.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use support::planted;
use support::sample::{PRIMARY, VIRTUAL};
use support::tree::Tree;
use support::{Run, run};

fn check(tree: &Tree, more: &[&str]) -> Run {
    run("imaild", &[&["check", "--root", tree.text()], more].concat())
}

fn json(run: &Run) -> Value {
    serde_json::from_str(&run.out).unwrap_or_else(|error| panic!("{error}:\n{}", run.text()))
}

/// The texts of a list of findings or notes, by area.
fn lines(report: &Value, list: &str) -> Vec<String> {
    let lines = report[list].as_array().unwrap().iter();
    lines
        .map(|line| format!("{}: {}", line["area"].as_str().unwrap(), line["text"].as_str().unwrap()))
        .collect()
}

#[track_caller]
fn expect_one(lines: &[String], area: &str, part: &str) {
    let count = lines.iter().filter(|line| line.starts_with(area) && line.contains(part)).count();
    assert_eq!(count, 1, "{area}: {part:?} in\n{}", lines.join("\n"));
}

/// Everything the admin has to look at after the move is in the report, for people and for programs.
#[test]
fn import_reports_what_needs_attention() {
    let tree = Tree::copied();
    let text = tree.import(&["software.reg"], &["--dry-run"]).expect_code(0).out;
    for part in [
        "sato",
        "noone",
        "fax@mail.example.jp is off",
        "list news@mail.example.jp",
        "outlook.mbx",
        "192.0.2.10",
        "SMTPD32",
        "PlainLogin",
        "19 mailboxes with 30 messages",
        "Nothing was written",
    ] {
        assert!(text.contains(part), "{part:?} is missing:\n{text}");
    }
    let report = json(&tree.import(&["software.reg", "system.reg"], &["--json", "--dry-run"]).expect_code(0));
    assert_eq!(report["written"], false);
    assert_eq!(report["services_missing"], false);
    assert_eq!(report["programs_off"][0]["alias"], "fax");
    assert_eq!(report["addresses_missing"][0]["address"], "192.0.2.10");
    let domain =
        report["domains"].as_array().unwrap().iter().find(|domain| domain["name"] == PRIMARY).unwrap();
    assert_eq!(domain["users"], 10);
    assert_eq!(domain["passwords_unknown"][0], "sato");
    assert_eq!(domain["lists_without_settings"][0], "news");
    assert_eq!(domain["aliases"]["group"], 2);
    assert_eq!(domain["messages"], 30);
}

/// A directory or file that the registry names and that was not copied along.
#[test]
fn import_names_what_was_not_copied() {
    let tree = Tree::copied();
    std::fs::remove_dir_all(tree.path("example_org")).unwrap();
    std::fs::remove_file(tree.path("staff.list")).unwrap();
    let text = tree.import(&["software.reg"], &["--dry-run"]).expect_code(0).out;
    assert!(text.contains("example_org is not there") && text.contains("--map-dir"), "{text}");
    assert!(
        text.contains("staff@mail.example.jp: the file") && text.contains("staff.list is not there"),
        "{text}"
    );
    let moved = ["--dry-run", "--map-dir", "C:\\IMail\\example_org=Lists"];
    let text = tree.import(&["software.reg"], &moved).expect_code(0).out;
    assert!(!text.contains("example_org is not there"), "{text}");
}

#[test]
fn import_writes_settings_of_lists_and_a_private_registry() {
    let tree = Tree::imported();
    let settings = String::from_utf8(tree.read("Lists/news/list.ini")).unwrap();
    assert!(
        settings.contains("\nOwner=postmaster@mail.example.jp\nAllowPostingBy=Moderators\n"),
        "{settings}"
    );
    let mode = std::fs::metadata(tree.path("registry.ini")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::write(tree.path("Lists/news/list.ini"), "Owner=ann@example.org\n").unwrap();
    tree.import(&["software.reg"], &["--force"]).expect_code(0);
    assert_eq!(tree.read("Lists/news/list.ini"), b"Owner=ann@example.org\n", "settings that exist are kept");
}

/// There, back, and there again: the same registry.
#[test]
fn import_export_import_is_the_same() {
    let tree = Tree::imported();
    let before = tree.snapshot();
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("back.reg");
    let file = file.to_str().unwrap();
    run("imaild", &["export", "--root", tree.text(), "--out", file]).expect_code(0);
    assert!(before == tree.snapshot(), "without an index there are no removals to finish");
    assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    let first = tree.registry();
    run("imaild", &["import", "--root", tree.text(), "--force", file]).expect_code(0);
    assert_eq!(tree.registry(), first);
    run("imaild", &["export", "--root", tree.text(), "--out", file]).expect_code(0);
    let gone =
        run("imaild", &["export", "--root", tree.text(), "--out", "/no/such/dir/x.reg"]).expect_code(1);
    gone.expect_error(&["/no/such/dir/x.reg"]);
}

/// On the sample, check finds what the sample is made to have wrong, and nothing else.
#[test]
fn check_finds_what_is_wrong_in_the_sample() {
    let tree = Tree::imported();
    let before = tree.snapshot();
    let report = json(&check(&tree, &["--json"]).expect_code(1));
    assert!(before == tree.snapshot());
    let findings = lines(&report, "findings");
    expect_one(&findings, "registry", "Domain IP / system IP mismatch - mail.example.jp");
    expect_one(&findings, "user", "sato@mail.example.jp");
    expect_one(&findings, "alias", "fax@mail.example.jp");
    expect_one(&findings, "mailbox", "outlook.mbx: an Outlook Express mailbox");
    assert_eq!(findings.len(), 4, "{}", findings.join("\n"));
    let notes = lines(&report, "notes");
    expect_one(&notes, "user", "noone@mail.example.jp");
    expect_one(&notes, "spool", "T0001.unknown");
    assert_eq!(
        (&report["users"], &report["mailboxes"], &report["messages"]),
        (&12.into(), &20.into(), &32.into())
    );
}

/// Each of the faults is named once, and nothing else is found but what the sample has anyway.
#[test]
fn check_names_faults_of_every_kind() {
    let tree = Tree::imported();
    let faults = planted::plant(&tree, PRIMARY);
    assert!(faults.len() >= 30);
    let report = json(&check(&tree, &["--json"]).expect_code(1));
    let findings = lines(&report, "findings");
    for (area, part) in &faults {
        expect_one(&findings, area, part);
    }
    assert_eq!(findings.len(), faults.len() + 4, "{}", findings.join("\n"));
    let rule = &report["rules_not_understood"][0];
    assert_eq!((&rule["line"], report["rules_not_understood"].as_array().unwrap().len()), (&2.into(), 1));
    assert!(rule["file"].as_str().unwrap().ends_with("planted6/rules.ima"), "{rule}");
}

/// One inventory, told by both, as text and as JSON, and kept where the admin wants it.
#[test]
fn check_and_import_share_their_report() {
    let tree = Tree::copied();
    let kept = tree.path("report.json");
    let kept = kept.to_str().unwrap();
    let imported =
        json(&tree.import(&["software.reg", "system.reg"], &["--json", "--report", kept]).expect_code(0));
    let file: Value = serde_json::from_slice(&tree.read("report.json")).unwrap();
    assert_eq!(file, imported);
    let mode = std::fs::metadata(kept).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it names users");
    assert_eq!(imported["lists_taken_over"]["news@mail.example.jp"], serde_json::json!([]));
    std::fs::remove_file(kept).unwrap();

    let text = tree.path("report.txt");
    let checked = json(&check(&tree, &["--json", "--report", text.to_str().unwrap()]).expect_code(1));
    let text = String::from_utf8(tree.read("report.txt")).unwrap();
    assert!(text.contains("8 in IMail's form") && text.ends_with(": 4 findings\n"), "{text}");
    for field in
        ["users", "mailboxes", "messages", "bytes", "programs_off", "addresses_missing", "paths_outside"]
    {
        assert_eq!(imported[field], checked[field], "{field}");
    }
    let domain = |report: &Value| {
        let domains = report["domains"].as_array().unwrap().clone();
        domains.into_iter().find(|domain| domain["name"] == PRIMARY).unwrap()
    };
    let (before, mut now) = (domain(&imported), domain(&checked));
    assert_eq!(now["lists_without_settings"], serde_json::json!([]), "import made list.ini");
    now["lists_without_settings"] = before["lists_without_settings"].clone();
    assert_eq!(before, now);
    assert_eq!(before["users_without_directory"], serde_json::json!(["noone", "user789"]));
    assert_eq!(before["mailbox_list"].as_array().unwrap().len(), 19);
    let nowhere = check(&tree, &["--report", "/no/such/dir/report.txt"]).expect_code(2);
    nowhere.expect_error(&["--report", "/no/such/dir"]);
}

/// An index that belongs to its mailbox is no finding, and looking makes none.
#[test]
fn a_clean_directory_is_clean() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("mail");
    let root = root.to_str().unwrap();
    run("imaild", &["init", "--root", root, "--domain", "mail.example.net"]).expect_code(0);
    let clean = run("imaild", &["check", "--root", root]).expect_code(0);
    assert!(clean.out.contains("nothing is wrong"), "{}", clean.out);
    let mode = std::fs::metadata(format!("{root}/registry.ini")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for name in ["users", "lists", "spool", "logs"] {
        assert!(dir.path().join("mail").join(name).is_dir(), "{name}");
    }
}

#[test]
fn init_refuses_an_old_servers_directory() {
    let tree = Tree::copied();
    let before = tree.snapshot();
    let refused =
        run("imaild", &["init", "--root", tree.text(), "--domain", "mail.example.net"]).expect_code(1);
    refused.expect_error(&["users", "imaild import"]);
    assert!(before == tree.snapshot());
    run("imaild", &["init", "--root", tree.text(), "--domain", "not a domain"]).expect_code(2);
}

/// One user: settings in force, and where the user is a member (manual 2-1 (28), (29)).
#[test]
fn check_tells_about_one_user() {
    let tree = Tree::imported();
    let about = json(&check(&tree, &["--user", "ann@example.org", "--json"]).expect_code(0));
    assert_eq!(about["full_name"], "Ann Example");
    assert_eq!(about["most_bytes"], "10.0 MB (10485760)", "the limit is the domain's");
    assert_eq!(about["lists"], serde_json::json!([format!("news@{PRIMARY}")]));
    let groups = [format!("team@{VIRTUAL}"), format!("staff@{PRIMARY}")];
    assert_eq!(about["groups"], serde_json::json!(groups));
    let text = check(&tree, &["--user", "yamada"]).expect_code(0).out;
    assert!(text.contains("disabled") && text.contains("yamada@mail.example.jp"), "{text}");
    check(&tree, &["--user", "ghost"]).expect_code(2).expect_error(&["ghost", PRIMARY]);
    check(&tree, &["--user", "ann@nowhere.example"])
        .expect_code(2)
        .expect_error(&["nowhere.example", VIRTUAL]);
}

/// A registry that lost its end is reported, whatever else can still be read.
#[test]
fn check_says_when_the_registry_is_cut_off() {
    let tree = Tree::imported();
    let whole = tree.registry();
    let half: String = whole.chars().take(whole.chars().count() / 2).collect();
    tree.save_registry(&half);
    let findings = lines(&json(&check(&tree, &["--json"]).expect_code(1)), "findings");
    expect_one(&findings, "registry", "cut off");
    let out = tree.path("x.reg");
    let export = ["export", "--root", tree.text(), "--out", out.to_str().unwrap()];
    run("imaild", &export).expect_code(1).expect_error(&["registry.ini", "cut off"]);
    assert!(!out.exists(), "half a registry is not exported");
    let empty = Tree::copied();
    check(&empty, &[]).expect_code(2).expect_error(&["registry.ini", "imaild import"]);
}

/// What import refuses, it refuses before it writes.
#[test]
fn import_leaves_everything_alone_when_it_refuses() {
    let tree = Tree::copied();
    let before = tree.snapshot();
    let cases: [(&[&str], &[&str]); 4] = [
        (&["software.reg", "hive.dat"], &[]),
        (&["software.reg", "software-regedit4.reg"], &[]),
        (&["software.reg"], &["--map-ip", "192.0.2.10=elsewhere"]),
        (&["software.reg", "no-such.reg"], &[]),
    ];
    for (files, more) in cases {
        let refused = tree.import(files, more).expect_code(1);
        assert!(!refused.err.is_empty(), "{files:?}");
        assert!(before == tree.snapshot(), "{files:?} {more:?}");
    }
    let damaged = tree.import(&["software.reg"], &["--map-dir", "nothing"]);
    assert_eq!(damaged.code, 2, "{}", damaged.text());
}
