//! Program aliases: mail that goes to a program (IMail help, "Setting up a Program Alias").
//!
//! Only a program file that `AllowedPrograms` of `[Global]` names is run; a tree that was copied from elsewhere runs nothing. It is started
//! without a shell: with the alias's arguments, then the full path of `spool\<id>.TMP`, a copy of the message that the program is to remove
//! when it has read it (documented). Each run has a copy and an id of its own, since one message may be for several programs. That the path
//! comes last is not documented; chosen, as the only place that fits the help's example.
//! Not known, and chosen: the message is on standard input as well, the working directory is the IMail directory, the environment is
//! `PATH` and `LANG` alone, and the exit code decides.
//!
//! # Failure
//! [`Ended`] says what becomes of the mail. A program that was stopped by the server's end is run again, and so is one that ended well
//! just before the machine did.
//!
//! # Limits
//! [`TIME_MAX`] for a run, after which the program is killed; what it started itself goes on.

use crate::config::Config;
use layout::mbx::compose::Source;
use layout::registry::alias::{Alias, Program, classify};
use layout::registry::same_name;
use layout::spool::id::IdSource;
use layout::spool::store::Store;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

/// How long a program may run.
pub const TIME_MAX: Duration = Duration::from_secs(300);
/// Exit code of a program that asks for another try (`EX_TEMPFAIL` of sendmail).
const TRY_AGAIN: i32 = 75;
/// How much of the message is written to the program at once.
const PIECE: usize = 64 << 10;
/// What programs find in `PATH`.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Exit code 0.
    Delivered,
    /// Nothing was run: the administrator did not allow this program. The mail waits.
    NotAllowed(String),
    /// The mail waits and is tried again, for this reason.
    TryAgain(String),
    /// The mail goes back; the reason is for the log, not for the sender.
    Failed(String),
}

/// The program behind an address whose local part is a program alias.
pub fn program_of(config: &Config, address: &str) -> Option<Program> {
    let (local, domain) = address.rsplit_once('@')?;
    match classify(&config.local_domain(domain)?.alias(local)?.value) {
        Alias::Program(program) => Some(program),
        _ => None,
    }
}

/// The file on this machine that may be run: `None` if the admin did not allow it, or it leads nowhere.
pub fn allowed(config: &Config, program: &Program) -> Option<PathBuf> {
    let listed =
        config.registry.global.allowed_programs.iter().any(|allowed| same_name(allowed, &program.file));
    let mapped = || config.paths.resolve(config.root(), &program.file).map(|path| path.full());
    let direct = || Some(PathBuf::from(&program.file)).filter(|path| path.is_absolute());
    listed.then(|| mapped().or_else(direct)).flatten()
}

/// The words of an alias's arguments: divided at blanks, but for those within double quotes, which are taken off.
pub fn words(arguments: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut begun) = (Vec::new(), String::new(), false, false);
    for c in arguments.chars() {
        match c {
            '"' => (quoted, begun) = (!quoted, true),
            c if c.is_whitespace() && !quoted => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            c => {
                word.push(c);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

/// Runs the program for a message, with a copy of it in the spool. `time_max` is [`TIME_MAX`] but for tests.
pub async fn run(
    config: &Config,
    store: &Store,
    ids: &IdSource,
    program: &Program,
    message: &Source,
    time_max: Duration,
) -> Ended {
    let name = &program.file;
    let Some(file) = allowed(config, program) else {
        return Ended::NotAllowed(format!(
            "{name} is not allowed to run, so this mail waits: name it in AllowedPrograms of [Global]"
        ));
    };
    let written = tokio::task::block_in_place(|| store.copy_for_program(ids.own()?, message));
    let copy = match written {
        Ok(copy) => copy,
        Err(error) => {
            return Ended::TryAgain(format!("the message for {name} could not be written: {error}"));
        }
    };
    let mut command = Command::new(&file);
    command.args(words(&program.arguments)).arg(copy.full());
    command.current_dir(config.root().top().full()).env_clear().env("PATH", PATH).env("LANG", "C.UTF-8");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let ended = match command.spawn() {
        Err(error) => Ended::TryAgain(format!("{name} could not be started: {error}")),
        Ok(child) => match tokio::time::timeout(time_max, feed(child, message)).await {
            Err(_) => Ended::TryAgain(format!(
                "{name} ran longer than {} seconds and was stopped",
                time_max.as_secs()
            )),
            Ok(Err(error)) => Ended::TryAgain(format!("{name}: {error}")),
            Ok(Ok(code)) => ended(name, code),
        },
    };
    if !matches!(ended, Ended::Delivered) {
        // The next try writes it anew. One that the program removed is fine.
        let _ = tokio::task::block_in_place(|| config.root().disk().unlink(&copy));
    }
    ended
}

/// What an exit code means; `None` for a program that a signal ended.
fn ended(name: &str, code: Option<i32>) -> Ended {
    match code {
        Some(0) => Ended::Delivered,
        Some(TRY_AGAIN) => Ended::TryAgain(format!("{name} asked for another try")),
        Some(code) => Ended::Failed(format!("{name} ended with code {code}")),
        None => Ended::Failed(format!("{name} was ended by a signal")),
    }
}

/// Writes the message to the program and waits for its end. One that does not read its input, as those written for IMail, is fine.
async fn feed(mut child: Child, message: &Source) -> io::Result<Option<i32>> {
    if let Some(mut input) = child.stdin.take() {
        let mut at = 0;
        while at < message.len() {
            let piece = tokio::task::block_in_place(|| message.read(at, PIECE))?;
            at += piece.len() as u64;
            tokio::select! {
                written = input.write_all(&piece) => if written.is_err() { break },
                status = child.wait() => return Ok(status?.code()),
            }
        }
    }
    Ok(child.wait().await?.code())
}

#[cfg(test)]
mod tests {
    use super::super::testing::Server;
    use super::*;
    use layout::registry::doc::Doc;
    use layout::registry::model::Registry;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn arguments_are_words() {
        for (arguments, expected) in [
            ("", &[][..]),
            ("-x  mail", &["-x", "mail"]),
            (r#"-a "b c" d"#, &["-a", "b c", "d"]),
            (r#"-o"x y" """#, &["-ox y", ""]),
            ("$(rm) ; | `x`", &["$(rm)", ";", "|", "`x`"]),
            (r#""open end"#, &["open end"]),
        ] {
            assert_eq!(words(arguments), expected, "{arguments}");
        }
    }

    fn script(server: &Server, name: &str, text: &str) -> String {
        let path = server.root.top().full().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        path.display().to_string()
    }

    /// A configuration with these program aliases, of which all but `bad` are allowed.
    fn config(server: &Server, programs: &[(&str, &str)]) -> Config {
        let files: Vec<&str> =
            programs.iter().filter(|(name, _)| *name != "bad").map(|(_, file)| *file).collect();
        let aliases: String =
            programs.iter().map(|(name, file)| format!("{name}=|{file} -n \"a b\"\n")).collect();
        let text = format!(
            "[Global]\nHostName=a.b\nAllowedPrograms={}\n[Domains\\192.0.2.1]\nOfficial=a.b\n[Domains\\a.b]\nAddress=192.0.2.1\n\
             [Domains\\a.b\\Users\\root]\n[Domains\\a.b\\Users\\_aliases]\n{aliases}",
            files.join(";")
        );
        Config::new(&server.root, Registry::from_doc(&Doc::parse(text.into_bytes()).0))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn programs_run_as_the_help_says() {
        let server = Server::start();
        let good = "cat > got; pwd > where; printf '%s|' \"$@\" > args; cmp got \"$3\" && rm \"$3\"";
        let programs = [
            ("good", script(&server, "good.sh", good)),
            ("deaf", script(&server, "deaf.sh", "exit 0")),
            ("again", script(&server, "again.sh", "exit 75")),
            ("fails", script(&server, "fails.sh", "exit 3")),
            ("slow", script(&server, "slow.sh", "exec sleep 60")),
            ("gone", "/no/such/program".to_owned()),
            ("bad", script(&server, "bad.sh", "touch ran")),
        ];
        let programs: Vec<(&str, &str)> =
            programs.iter().map(|(name, file)| (*name, file.as_str())).collect();
        let config = config(&server, &programs);
        let message = Source::Bytes(vec![b'x'; 1 << 20].into());
        let run_one = async |name: &str, time_max: Duration| {
            let program = program_of(&config, &format!("{name}@a.b")).unwrap();
            let inner = &server.transport.inner;
            run(&config, &inner.store, &inner.ids, &program, &message, time_max).await
        };
        for (name, expected) in [
            ("good", "Delivered"),
            ("deaf", "Delivered"),
            ("again", "asked for another try"),
            ("fails", "Failed(\"/"),
            ("gone", "TryAgain(\"/no/such/program could not be started"),
            ("bad", "NotAllowed("),
        ] {
            let ended = format!("{:?}", run_one(name, TIME_MAX).await);
            assert!(ended.contains(expected), "{name}: {ended}");
        }
        let ended = format!("{:?}", run_one("slow", Duration::from_millis(300)).await);
        assert!(ended.contains("was stopped"), "{ended}");
        let top = server.root.top().full();
        let read = |file: &str| std::fs::read_to_string(top.join(file)).unwrap();
        assert_eq!(read("got").len(), 1 << 20);
        assert_eq!(read("where").trim_end(), top.canonicalize().unwrap().display().to_string());
        let args = read("args");
        let copy = args.strip_prefix("-n|a b|").unwrap().strip_suffix(".TMP|").unwrap();
        let id = copy.strip_prefix(&format!("{}/", server.root.spool().full().display())).unwrap();
        assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{args}");
        assert!(!top.join("ran").exists());
        // Only the program that ended well without removing its copy has left one.
        let files = std::fs::read_dir(server.root.spool().full()).unwrap();
        let left = files.filter(|f| f.as_ref().unwrap().path().extension().is_some_and(|e| e == "TMP"));
        assert_eq!(left.count(), 1);
        assert_eq!(program_of(&config, "root@a.b"), None);
    }
}
