//! What people see: Python's `email` package and mutt show messages.

use super::client::{client, scratch, succeed};
use std::path::Path;
use std::process::{Command, Stdio};

/// What a reader of mail shows of a message.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    subject: String,
    from: String,
    text: String,
}

impl Shown {
    /// From subject and From lines, and the text behind them.
    fn of_lines(subject: &str, from: &str, text: &str) -> Shown {
        let from = from.replace('"', "");
        // An address alone is shown with brackets or without.
        let from = from.strip_prefix('<').and_then(|from| from.strip_suffix('>')).unwrap_or(&from).to_owned();
        let text = text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        Shown { subject: subject.to_owned(), from, text: text.trim().to_owned() }
    }
}

/// What Python's `email` package shows.
fn python_shows(file: &Path) -> Shown {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/lists.py");
    let mut python = client("python3").unwrap();
    let out = succeed(python.env("PYTHONIOENCODING", "utf-8").arg(script).arg("read").arg(file)).out;
    let mut parts = out.splitn(3, '\n');
    let mut part = || parts.next().unwrap_or_default();
    Shown::of_lines(part(), part(), part())
}

/// What mutt shows in a terminal with UTF-8: the message as it decodes it for its readers, handed to a command.
fn mutt_shows(file: &Path) -> Shown {
    let (folder, seen, settings) =
        (file.with_extension("mbox"), file.with_extension("seen"), file.with_extension("muttrc"));
    let message: Vec<u8> = std::fs::read(file).unwrap().into_iter().filter(|byte| *byte != b'\r').collect();
    std::fs::write(&folder, [b"From a@example.net Mon May  6 10:00:00 2024\n", &*message].concat()).unwrap();
    let lines = [
        "set charset=utf-8 pipe_decode=yes wait_key=no move=no sleep_time=0 quit=yes wrap_headers=998",
        // Without a folder of its own mutt asks for one.
        &format!("set folder={}", file.parent().unwrap().display()),
        "ignore *",
        "unignore from subject",
        &format!("push \"<pipe-message>cat > {}<enter><quit>n\"", seen.display()),
    ];
    std::fs::write(&settings, lines.join("\n") + "\n").unwrap();
    let call = format!("mutt -n -R -F {} -f {}", settings.display(), folder.display());
    let mut script = Command::new("timeout");
    script.args(["60", "script", "-qec", &call, "/dev/null"]).env("HOME", file.parent().unwrap());
    script.env("LC_ALL", "C.UTF-8").env("TERM", "xterm").stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = script.spawn().unwrap();
    // At the end of its input `script` types the key for that, which is a command of mutt.
    let typing = child.stdin.take();
    assert!(child.wait().unwrap().success());
    drop(typing);
    let text = std::fs::read_to_string(&seen).unwrap();
    let (head, body) = text.split_once("\n\n").unwrap();
    let head = head.replace("\n\t", " ").replace("\n ", " ");
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    Shown::of_lines(field("Subject: "), field("From: "), body)
}

/// Are both readers here? If not, the test is skipped with a word.
pub fn readers() -> bool {
    ["python3", "mutt", "script"].iter().all(|name| client(name).is_some())
}

/// Both readers show this of a message, whose text has these lines among others.
#[track_caller]
pub fn shows(message: &[u8], subject: &str, from: &str, lines: &[&str]) {
    let dir = scratch();
    let file = dir.path().join("message");
    std::fs::write(&file, message).unwrap();
    for (name, shown) in [("Python", python_shows(&file)), ("mutt", mutt_shows(&file))] {
        assert_eq!((shown.subject.as_str(), shown.from.as_str()), (subject, from), "{name}: {shown:?}");
        for line in lines {
            assert!(
                shown.text.lines().any(|shown| shown == *line),
                "{name} does not show {line:?}: {shown:?}"
            );
        }
    }
}
