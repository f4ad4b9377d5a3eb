//! The directories of domains and users: mailboxes, lists, and names that stand in each other's way.

use super::super::survey::{DomainSurvey, FoundMailbox, Tree};
use super::{Area, Report, mailbox_error};
use layout::mailbox::{IndexState, Inspection};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// How deep directories of users are followed here.
const DEPTH_MAX: usize = 32;
/// A mailbox that IMail can still read has at most so many bytes.
const IMAIL_MAX: u64 = layout::limits::RETURNABLE_MAILBOX_MAX;

pub(super) fn check(tree: &Tree<'_>, report: &mut Report) {
    for found in tree.survey() {
        domain(&found, report);
        for mailbox in &found.mailboxes {
            self::mailbox(mailbox, tree.registry.global.return_to_imail, report);
        }
        hidden(tree, &found, report);
    }
}

fn domain(found: &DomainSurvey<'_>, report: &mut Report) {
    let name = &found.domain.name;
    let totals = found.totals();
    report.totals.mailboxes += totals.mailboxes;
    report.totals.messages += totals.messages;
    report.totals.bytes += totals.bytes;
    match &found.dir {
        None => report.finding(
            Area::Domain,
            format!(
                "{name}: its directory {} leads nowhere on this machine: add a line OLD=NEW to [Paths]",
                found.domain.top_dir
            ),
        ),
        Some(dir) if !found.exists => report.finding(
            Area::Domain,
            format!(
                "{name}: its directory {} is not there: copy it, or add a line OLD=NEW to [Paths]",
                dir.top()
            ),
        ),
        Some(_) => {}
    }
    for id in &found.unusable_ids {
        report.finding(
            Area::User,
            format!("{id}@{name}: this ID can be no directory name, so the user cannot be served"),
        );
    }
    for path in &found.orphans {
        report.finding(
            Area::User,
            format!("{path}: a directory of no user. Add the user, or move the directory away"),
        );
    }
    for line in &found.unreadable {
        report.finding(Area::Domain, line.as_str());
    }
    for list in &found.lists {
        for complaint in &list.complaints {
            report.finding(Area::List, format!("{}@{name}: list.ini: {complaint}", list.name));
        }
    }
    for list in found.lists.iter().filter(|list| !list.has_settings) {
        report.finding(
            Area::List,
            format!(
                "{}@{name}: no list.ini, so every post goes to postmaster, as if moderated: make one",
                list.name
            ),
        );
    }
}

fn mailbox(found: &FoundMailbox, return_to_imail: bool, report: &mut Report) {
    let file = &found.file;
    let seen = match &found.seen {
        Ok(seen) => seen,
        Err(error) => return report.finding(Area::Mailbox, mailbox_error(file, error)),
    };
    let Inspection { head, tail, bytes, index, .. } = *seen;
    if tail > 0 {
        report.finding(
            Area::Mailbox,
            format!("{file}: its last {tail} bytes are no whole message: somebody writes this moment, or was cut off"),
        );
    }
    if head > 0 {
        report.note(
            Area::Mailbox,
            format!("{file}: {head} bytes before the first message are kept and shown to nobody"),
        );
    }
    if return_to_imail && bytes > IMAIL_MAX {
        report.finding(
            Area::Mailbox,
            format!("{file}: larger than the 2 GB that IMail can read, and counts as full"),
        );
    }
    match index {
        IndexState::Damaged(how) => {
            report.finding(Area::Mailbox, format!("{file}: the index is damaged: {how}"))
        }
        IndexState::None | IndexState::Current | IndexState::Behind => {}
    }
}

/// Mailbox files of users that no client can see. Those that differ from a shown one in case are found elsewhere.
fn hidden(tree: &Tree<'_>, found: &DomainSurvey<'_>, report: &mut Report) {
    let lower = |path: &Path| path.to_string_lossy().to_lowercase();
    let shown: HashSet<String> = found.mailboxes.iter().map(|mailbox| lower(&mailbox.file.full())).collect();
    for (_, user) in tree.user_dirs(found.domain) {
        let mut files = Vec::new();
        mailbox_files(&user.path().full(), 0, &mut files);
        for file in files.iter().filter(|file| !shown.contains(&lower(file))) {
            report.finding(
                Area::Mailbox,
                format!(
                    "{}: shown to nobody, since a mailbox of the same name stands outside this directory, or its name cannot be \
                     shown: rename it",
                    file.display()
                ),
            );
        }
    }
}

fn mailbox_files(dir: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
        let is_mailbox = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("mbx"));
        if kind.is_dir() && depth < DEPTH_MAX {
            mailbox_files(&path, depth + 1, files);
        } else if kind.is_file() && is_mailbox {
            files.push(path);
        }
    }
}
