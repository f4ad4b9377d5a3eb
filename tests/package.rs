//! What the Debian package is made of: every program has a manual page, which `man` shows without a complaint.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use support::{fixtures, run};

/// The programs that are installed: `imaild`, and what `tools/src/bin` holds.
fn companions() -> Vec<String> {
    let bin = fixtures().with_file_name("tools").join("src/bin");
    let mut names: Vec<String> = std::fs::read_dir(bin)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// The page as a reader sees it, on a terminal of 80 columns.
fn shown(page: &Path) -> String {
    let output = Command::new("groff")
        .args(["-man", "-Tutf8", "-ww", "-rLL=80n", "-rHY=0", "-P-cbou"])
        .arg(page)
        .stdin(Stdio::null())
        .output()
        .expect("groff runs");
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && complaints.is_empty(), "{}:\n{complaints}", page.display());
    String::from_utf8(output.stdout).unwrap()
}

/// The words of a text, without what typesetting adds.
fn words(text: &str) -> BTreeSet<String> {
    let plain = text.replace(['\u{2010}', '\u{2212}'], "-").replace('\u{2019}', "'");
    plain.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn companion_programs_have_pages() {
    let dir = tempfile::tempdir().unwrap();
    let programs = companions();
    assert!(programs.len() >= 10, "{programs:?}");
    for name in programs {
        let page = dir.path().join(format!("{name}.8"));
        // `adduser` has IMail's exit codes, the other way round.
        std::fs::write(&page, run(&name, &["--man"]).expect_code(0).out).unwrap();
        let shown = shown(&page);
        let help = run(&name, &["--help"]).expect_code(0).out;
        // The first line is in the heading of the page, in other spelling.
        let rest = help.split_once('\n').unwrap().1.replace("Usage:", "");
        let missing: Vec<String> = words(&rest).difference(&words(&shown)).map(String::clone).collect();
        assert!(
            missing.is_empty(),
            "{name}: these words of --help are not in the page: {missing:?}\n{shown}"
        );
        assert!(shown.contains(&format!("{name} - ")), "{shown}");
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    }
}

#[test]
fn every_command_of_imaild_has_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("man");
    run("imaild", &["man", "--out", out.to_str().unwrap()]).expect_code(0);
    let commands = run("imaild", &["--help"]).expect_code(0).out;
    let commands = commands.split_once("Commands:").unwrap().1.split_once("\n\n").unwrap().0;
    let mut seen = 0;
    for line in commands.lines().filter(|line| line.starts_with("  ")) {
        let command = line.split_whitespace().next().unwrap();
        let shown = shown(&out.join(format!("imaild-{command}.8")));
        assert!(shown.contains(&format!("imaild-{command}")) && shown.contains("SYNOPSIS"), "{shown}");
        seen += 1;
    }
    assert!(seen >= 8, "{commands}");
    assert!(shown(&out.join("imaild.8")).contains("imaild-serve(8)"));
    assert!(shown(&out.join("imaild-queue-list.8")).contains("--root"));
    for page in std::fs::read_dir(&out).unwrap() {
        shown(&page.unwrap().path());
    }
    assert!(!out.join("imaild-man.8").exists());
    run("imaild", &["man", "--out", "/proc/no/such"]).expect_code(1).expect_error(&["/proc/no/such"]);
}
