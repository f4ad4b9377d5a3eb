//! The spool: messages whose files are not complete, and what crashes left behind.

use super::{Area, Report};
use layout::disk::Kind;
use layout::root::Root;
use layout::spool::id::{Found, Role, recognize};
use std::collections::BTreeMap;

/// Younger files may be in the middle of a reception; IMail itself drops locks after this time (8.2 guide).
const SETTLED: i64 = 3600 * 1_000_000_000;
/// Ours: where numbers of messages go on.
const NEXT_ID: &str = "next.id";

/// The files of one message.
#[derive(Default)]
struct Parts {
    roles: Vec<Role>,
    /// When the youngest of them was changed.
    modified: i64,
}

pub(super) fn check(root: &Root, report: &mut Report) {
    let (disk, dir) = (root.disk(), root.spool());
    let entries = match disk.list(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        Err(error) => return report.finding(Area::Spool, format!("{dir}: {error}")),
    };
    let mut messages: BTreeMap<String, Parts> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.kind == Kind::File && entry.name != NEXT_ID) {
        let name = entry.name.to_string_lossy();
        let Some(modified) = modified(root, &name) else { continue };
        match recognize(&name) {
            Some(Found::Item(role, item)) => {
                let parts = messages.entry(item.key()).or_default();
                parts.roles.push(role);
                parts.modified = parts.modified.max(modified);
            }
            Some(Found::Stem(..)) if disk.now() - modified >= SETTLED => {
                report.finding(
                    Area::Spool,
                    format!("{dir}/{name}: a lock that nobody holds any more: remove it"),
                );
            }
            Some(Found::Stem(..)) => {}
            None => report.note(Area::Spool, format!("{dir}/{name}: no part of a message; it is left alone")),
        }
    }
    for (name, parts) in &messages {
        if disk.now() - parts.modified >= SETTLED
            && let Some(what) = incomplete(&parts.roles)
        {
            report.finding(Area::Spool, format!("{dir}: message {name}: {what}"));
        }
    }
}

fn modified(root: &Root, name: &str) -> Option<i64> {
    let path = root.existing(&root.spool(), name)?;
    root.disk().stat(&path).ok().map(|(stamp, _)| stamp.modified)
}

/// What is wrong with a message that has these files and that nobody works on.
fn incomplete(roles: &[Role]) -> Option<&'static str> {
    let has = |role| roles.contains(&role);
    let has_envelope = has(Role::Queued) || has(Role::Held);
    match (has_envelope, has(Role::Data), has(Role::Arriving)) {
        (true, true, _) => None,
        (true, false, _) => Some("its D file is gone: there is nothing to send; remove the Q file"),
        (false, true, _) => {
            Some("it has no Q file: its reception was cut off and its sender knows; isplcln -o removes it")
        }
        (false, false, true) => {
            Some("only a T file: its reception was cut off and its sender knows; isplcln -o removes it")
        }
        (false, false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use layout::disk::real::RealDisk;
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    #[test]
    fn half_messages_are_found_when_they_are_old() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("spool")).unwrap();
        let write = |name: &str, old: bool| {
            let path = dir.path().join("spool").join(name);
            let file = std::fs::File::create(path).unwrap();
            let hours = Duration::from_secs(if old { 7200 } else { 0 });
            file.set_modified(SystemTime::now() - hours).unwrap();
        };
        for name in [
            "D0000000000000001.SMD",
            "Q0000000000000001.SMD",
            "Q0000000000000002.SMD",
            "D0000000000000003.SMD",
        ] {
            write(name, true);
        }
        write("D0000000000000004.SMD", false);
        write("_0000000000000005.~MD", true);
        write("what.txt", true);
        let mut report = Report::default();
        check(&Root::new(Arc::new(RealDisk::new()), dir.path()), &mut report);
        let text: Vec<String> = report.findings.listed.into_iter().map(|(_, text)| text).collect();
        assert_eq!(text.len(), 3, "{text:?}");
        for (line, part) in text.iter().zip(["0005.~MD", "0002.smd: its D file", "0003.smd: it has no Q"]) {
            assert!(line.contains(part), "{line}");
        }
        assert_eq!(report.notes.count, 1);
    }
}
