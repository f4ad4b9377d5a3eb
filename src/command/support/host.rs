//! Facts about this machine and what runs on it (manual 7-2-2, 7-2-3).
//!
//! # Failure
//! A fact that cannot be had is a `?`; without a journal the reason is given.
//!
//! # Limits
//! [`PROGRAMS_MAX`] programs, [`JOURNAL_MAX`] bytes of the journal, [`FACT_MAX`] bytes of a file that states a fact.

use crate::session::network::own_addresses;
use chrono::{Days, Local, NaiveDate};
use layout::root::Root;
use nix::sys::statvfs::statvfs;
use nix::unistd::{Uid, User};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// The most programs that are listed.
const PROGRAMS_MAX: usize = 100_000;
/// The most bytes of the journal: a day of a server in trouble.
const JOURNAL_MAX: u64 = 64 << 20;
/// The most bytes of a file that states a fact.
const FACT_MAX: u64 = 1 << 20;
/// The service, by the name that the Debian package gives it.
const UNIT: &str = "imaild.service";
/// Lines of `/proc/meminfo` that matter.
const MEMORY: [&str; 5] = ["MemTotal", "MemAvailable", "SwapTotal", "SwapFree", "Dirty"];

/// The version of this program, and how it was built.
pub(super) fn version() -> String {
    let libc = if cfg!(target_feature = "crt-static") { "static" } else { "dynamic" };
    let program = std::env::current_exe().map_or_else(|_| "?".to_owned(), |path| path.display().to_string());
    format!(
        "imaild {}\nbuilt for {} {}, {libc}, {}\nprogram {program}\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH,
        std::env::consts::OS,
        if cfg!(debug_assertions) { "debug" } else { "release" },
    )
}

/// The machine: system, memory, disks, addresses, time.
pub(super) fn facts(root: &Root) -> String {
    let mut text = String::new();
    let mut fact = |name: &str, value: &str| {
        let _ = writeln!(text, "{name}: {}", value.trim());
    };
    let (release, uptime, load) = (state("/etc/os-release"), state("/proc/uptime"), state("/proc/loadavg"));
    let release = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("?");
    fact("System", release.trim_matches('"'));
    match nix::sys::utsname::uname() {
        Ok(name) => {
            let all = [name.sysname(), name.release(), name.version(), name.machine()];
            fact("Kernel", &all.map(|part| part.to_string_lossy().into_owned()).join(" "));
            fact("Host", &name.nodename().to_string_lossy());
        }
        Err(error) => fact("Kernel", &error.to_string()),
    }
    fact("Now", &Local::now().to_rfc2822());
    fact("Seconds up", uptime.split(' ').next().unwrap_or("?"));
    fact("Load", &load);
    let zone = std::fs::read_link("/etc/localtime").map(|path| path.display().to_string());
    fact("Time zone", zone.as_deref().unwrap_or("?"));
    fact(
        "Cores",
        &std::thread::available_parallelism().map_or_else(|_| "?".to_owned(), |cores| cores.to_string()),
    );
    let memory = state("/proc/meminfo");
    for line in memory.lines().filter(|line| MEMORY.iter().any(|name| line.starts_with(name))) {
        fact("Memory", line);
    }
    for dir in [root.top().full(), root.spool().full(), root.logs().full()] {
        let room = statvfs(&dir).map(|room| {
            let block = room.fragment_size();
            let (free, all) = (block * room.blocks_available(), block * room.blocks());
            let (nodes, all_nodes) = (room.files_available(), room.files());
            format!("{free} of {all} bytes free, {nodes} of {all_nodes} files free")
        });
        let room = room.unwrap_or_else(|error| error.to_string());
        fact(&format!("Disk of {}", dir.display()), &format!("{}, {room}", file_system(&dir)));
    }
    let owner = std::fs::metadata(root.top().full()).map(|there| user(there.uid()));
    fact("Owner of the directory", owner.as_deref().unwrap_or("?"));
    let addresses: Vec<String> = own_addresses().iter().map(ToString::to_string).collect();
    fact("Addresses", &addresses.join(", "));
    fact("Name servers", &name_servers(&state("/etc/resolv.conf")));
    text
}

/// The type of the file system that holds a directory. Where it comes from is not shown: that can hold a login.
fn file_system(dir: &Path) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let mounts = state("/proc/self/mounts");
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let holding = fields.filter(|fields| fields.get(1).is_some_and(|place| dir.starts_with(place)));
    let longest = holding.max_by_key(|fields| fields.get(1).map_or(0, |place| place.len()));
    longest.and_then(|fields| fields.get(2).map(|kind| (*kind).to_owned())).unwrap_or_else(|| "?".to_owned())
}

fn name_servers(text: &str) -> String {
    let servers = text.lines().filter_map(|line| line.strip_prefix("nameserver"));
    servers.map(str::trim).collect::<Vec<_>>().join(", ")
}

/// A small file that states facts; empty if it cannot be read.
fn state(path: impl AsRef<Path>) -> String {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path);
    let _ = file.map(|file| file.take(FACT_MAX).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

fn user(id: u32) -> String {
    let known = User::from_uid(Uid::from_raw(id)).ok().flatten();
    known.map_or_else(|| id.to_string(), |user| user.name)
}

/// The programs that run, without what they were called with: passwords are given that way.
pub(super) fn programs() -> String {
    let mut text = format!("{:>7} {:>7} {:<16} {:>9}  {}\n", "PID", "PARENT", "USER", "KB", "PROGRAM");
    let mut users = HashMap::new();
    let mut all = BTreeMap::new();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for entry in entries.take(PROGRAMS_MAX) {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let status = state(entry.path().join("status"));
        let field = |name: &str| {
            let found = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
            found.map(str::trim)
        };
        // It ended meanwhile.
        let Some(name) = field("Name") else { continue };
        let id = field("Uid").and_then(|ids| ids.split('\t').next()?.parse().ok()).unwrap_or(u32::MAX);
        let owner = users.entry(id).or_insert_with(|| user(id));
        let memory = field("VmRSS").and_then(|memory| memory.split(' ').next()).unwrap_or("-");
        let program = std::fs::read_link(entry.path().join("exe"));
        let program = program.map_or_else(|_| name.to_owned(), |path| path.display().to_string());
        let parent = field("PPid").unwrap_or("?");
        all.insert(pid, format!("{pid:>7} {parent:>7} {owner:<16} {memory:>9}  {program}\n"));
    }
    all.values().for_each(|line| text.push_str(line));
    text
}

/// What the service wrote into the journal on a day.
pub(super) fn journal(date: NaiveDate) -> Result<String, String> {
    let next = date.checked_add_days(Days::new(1)).unwrap_or(date);
    let mut command = Command::new("journalctl");
    command.args(["--no-pager", "--quiet", "--output=short-iso-precise", "--unit", UNIT]);
    command.args([format!("--since={date}"), format!("--until={next}")]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut running = command.spawn().map_err(|error| format!("journalctl: {error}"))?;
    let mut bytes = Vec::new();
    let read = running.stdout.take().map(|out| out.take(JOURNAL_MAX).read_to_end(&mut bytes));
    // It ends by itself, or because nobody reads the rest.
    let _ = running.wait();
    match read {
        Some(Err(error)) => Err(format!("journalctl: {error}")),
        _ if bytes.is_empty() => {
            Err(format!("the journal has nothing of {UNIT} for this day, or you may not read it"))
        }
        _ => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(std::sync::Arc::new(layout::disk::real::RealDisk::new()), dir.path());
        let text = facts(&root);
        for part in ["System: ", "Kernel: Linux", "Cores: ", "Memory: MemTotal:", "bytes free", "127.0.0.1"] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(version().starts_with("imaild "));
    }

    #[test]
    fn programs_are_named_without_their_arguments() {
        let mut child = Command::new("sleep").arg("61.05").spawn().unwrap();
        let text = programs();
        child.kill().unwrap();
        child.wait().unwrap();
        let line = text.lines().find(|line| line.trim_start().starts_with(&format!("{} ", child.id())));
        let line = line.unwrap_or_else(|| panic!("{text}"));
        assert!(line.contains("sleep") || line.contains("coreutils"), "{line}");
        assert!(!text.contains("61.05"), "{text}");
    }

    #[test]
    fn servers_of_a_file() {
        assert_eq!(name_servers("# x\nnameserver 192.0.2.1\nsearch a\nnameserver ::1\n"), "192.0.2.1, ::1");
    }
}
