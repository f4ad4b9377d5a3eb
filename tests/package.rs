//! The Debian package and what it is made of: every program has a manual page, which `man` shows without a complaint; the package holds all of
//! them, and systemd understands its units. `tools/package/try` installs it, which takes root and a mirror.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use support::{fixtures, program, run};

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

/// Runs something that must succeed, and gives what it printed.
#[track_caller]
fn done(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {}\n{complaints}", output.status);
    String::from_utf8(output.stdout).unwrap() + &complaints
}

#[test]
fn the_package_holds_everything() {
    let dir = tempfile::tempdir().unwrap();
    let (package, root) = (fixtures().with_file_name("tools").join("package"), dir.path().join("root"));
    let bin = program("imaild").parent().unwrap().to_owned();
    let mut build = Command::new("bash");
    build.arg(package.join("build")).arg("--bin").arg(&bin).arg("--out").arg(dir.path());
    done(build.env("DPKG_DEB_COMPRESSOR_TYPE", "none"));
    let file = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let file = file.into_iter().find(|path| path.extension().is_some_and(|kind| kind == "deb")).unwrap();
    done(Command::new("dpkg-deb").arg("-R").arg(&file).arg(&root));

    let control = std::fs::read_to_string(root.join("DEBIAN/control")).unwrap();
    assert!(control.contains(&format!("\nVersion: {}\n", env!("CARGO_PKG_VERSION"))), "{control}");
    assert!(control.contains("\nDepends: libc6 (>= 2."), "{control}");
    assert_eq!(std::fs::read_to_string(root.join("DEBIAN/conffiles")).unwrap(), "/etc/default/imaild\n");
    for name in companions().iter().map(String::as_str).chain(["imaild"]) {
        // Debian has an adduser of its own, at another place.
        let name = if name == "adduser" { "imail-adduser" } else { name };
        let mode = std::fs::metadata(root.join("usr/bin").join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755, "{name}");
        assert!(root.join(format!("usr/share/man/man8/{name}.8.gz")).exists(), "{name}");
    }
    assert!(!root.join("usr/bin/adduser").exists() && !root.join("usr/share/man/man8/adduser.8.gz").exists());
    let old_name = done(Command::new(root.join("usr/lib/imaild/adduser")).arg("--version"));
    assert!(old_name.starts_with("adduser "), "{old_name}");
    for script in ["postinst", "prerm", "postrm"] {
        done(Command::new("sh").arg("-n").arg(root.join("DEBIAN").join(script)));
    }
}

/// The units, with the programs where they are in this test.
#[test]
fn systemd_understands_the_units() {
    let dir = tempfile::tempdir().unwrap();
    let bin = program("imaild").parent().unwrap().to_str().unwrap().to_owned();
    let package = fixtures().with_file_name("tools").join("package");
    let mut units = Vec::new();
    for entry in std::fs::read_dir(&package).unwrap() {
        let path = entry.unwrap().path();
        let kind = path.extension().and_then(|kind| kind.to_str());
        if matches!(kind, Some("service" | "socket" | "timer")) {
            let unit = dir.path().join(path.file_name().unwrap());
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(&unit, text.replace("/usr/bin/", &format!("{bin}/"))).unwrap();
            units.push(unit);
        }
    }
    assert_eq!(units.len(), 4, "{units:?}");
    let told = done(Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&units));
    // Of the machine's own units it may complain.
    let ours: Vec<&str> =
        told.lines().filter(|line| line.contains("imaild") || line.contains("isplcln")).collect();
    assert!(ours.is_empty(), "{told}");
    let sockets = std::fs::read_to_string(package.join("imaild.socket")).unwrap();
    let mut ports: Vec<&str> =
        sockets.lines().filter_map(|line| line.strip_prefix("ListenStream=")).collect();
    ports.sort_unstable();
    assert_eq!(ports, ["110", "143", "25", "465", "587", "993", "995"]);
}
