//! `regcheck` as a built program: its lines in order, exit codes, and that it changes nothing.
#![allow(clippy::unwrap_used, reason = "panics report")]

use std::process::{Command, Stdio};

use tempfile::TempDir;

fn run(registry: Option<&str>, args: &[&str]) -> (i32, String, String) {
    let dir = TempDir::new().unwrap();
    if let Some(registry) = registry {
        std::fs::write(dir.path().join("registry.ini"), registry).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_regcheck"));
    command.args(args).env_remove("IMAIL_ROOT").current_dir(dir.path()).stdin(Stdio::null());
    let output = command.output().unwrap();
    if let Some(registry) = registry {
        assert_eq!(std::fs::read_to_string(dir.path().join("registry.ini")).unwrap(), registry);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else was made");
    }
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The lines without the addresses of the machine, which differ.
fn lines(out: &str) -> Vec<&str> {
    out.lines().filter(|line| !line.starts_with("System IP found - ")).collect()
}

#[test]
fn a_registry_without_fault() {
    let registry = "[Global]\nHostName=a.example\n[Domains\\127.0.0.1]\nOfficial=a.example\n[Domains\\a.example]\nAddress=127.0.0.1\n\
        [Domains\\$virtual001]\nOfficial=b.example\n[Domains\\b.example]\nAddress=$virtual001\n";
    let (code, out, err) = run(Some(registry), &[]);
    let expected = [
        "Starting Domain Registry check",
        "Primary Host a.example address is 127.0.0.1",
        "Domain registry check complete",
    ];
    assert_eq!((code, lines(&out), err.as_str()), (0, expected.to_vec(), ""));
    assert!(!out.contains("System IP found - 127.") && !out.contains("System IP found - ::1"));
}

#[test]
fn the_faulty_sample_of_the_manual() {
    let registry = "[Global]\nHostName=k.local\n[Domains\\192.0.2.41]\nOfficial=k.local\n[Domains\\192.0.2.43]\nOfficial=k.local\n\
        [Domains\\k.local]\nAddress=192.0.2.43\n";
    let (code, out, _) = run(Some(registry), &[]);
    let expected = [
        "Starting Domain Registry check",
        "Primary Host k.local address is 192.0.2.43",
        "Domain / official mismatch: official - k.local Address - 192.0.2.43",
        "Domain IP / system IP mismatch - k.local Address - 192.0.2.41",
        "Dup Official k.local Official 192.0.2.43 and 192.0.2.41",
        "Domain IP / system IP mismatch - k.local Address - 192.0.2.43",
        "Domain registry check complete",
    ];
    assert_eq!((code, lines(&out)), (1, expected.to_vec()));
}

#[test]
fn exit_codes_and_the_usual_options() {
    assert_eq!(run(Some("[Global]\n"), &[]).0, 1);
    for (registry, args, word) in [
        (None, &[][..], "IMAIL_ROOT"),
        (None, &["--root", "/no/such/dir"], "/no/such/dir"),
        (None, &["--root", "."], "imaild import"),
        (None, &["--root"], "needs a directory"),
        (Some("[Global]\n"), &["something"], "something"),
        (Some("[Global]\n"), &["-v"], "--help"),
    ] {
        let (code, out, err) = run(registry, args);
        assert!(code == 2 && out.is_empty() && err.contains(word), "{args:?}: {err}");
    }
    for (option, word) in [("--help", "Usage: regcheck"), ("--version", "regcheck 0.")] {
        let (code, out, _) = run(None, &[option]);
        assert!(code == 0 && out.contains(word), "{out}");
    }
}

#[test]
fn broken_lines_are_named_with_file_and_number() {
    let registry = "[Global]\nHostName=a.example\n[broken\n";
    let (code, _, err) = run(Some(registry), &[]);
    assert!(code == 1 && err.contains("registry.ini: line 3: "), "{err}");
}
