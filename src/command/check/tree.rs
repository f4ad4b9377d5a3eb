//! The directories of domains and users: mailboxes, lists, and names that stand in each other's way.

use super::super::inventory::Inventory;
use super::super::lists;
use super::super::reading::{DomainReading, FoundMailbox, ListDir};
use super::{Area, Report, mailbox_error};
use layout::mailbox::{IndexState, Inspection};
use layout::registry::doc::Doc;
use layout::registry::model::Registry;
use layout::registry::same_name;

/// A mailbox that IMail can still read has at most so many bytes.
const IMAIL_MAX: u64 = layout::limits::RETURNABLE_MAILBOX_MAX;
/// So many mailboxes with NUL bytes are named: where a disk lost its cache there may be thousands.
const NUL_NAMED: usize = 100;

pub(super) fn check(
    registry: &Registry,
    inventory: &Inventory<'_>,
    fresh: Option<&Doc>,
    report: &mut Report,
) {
    let mut nul = 0;
    for found in &inventory.domains {
        domain(found, fresh, report);
        for mailbox in &found.mailboxes {
            self::mailbox(mailbox, registry.global.return_to_imail, &mut nul, report);
        }
        for file in &found.hidden {
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
    if nul > NUL_NAMED {
        let text = format!("{} more mailboxes hold runs of NUL bytes: mbxcheck names them", nul - NUL_NAMED);
        report.finding(Area::Mailbox, text);
    }
    for path in &inventory.paths_outside {
        report.note(
            Area::Registry,
            format!("{path} is in no directory that is mapped: import with --map-dir OLD=NEW, or add a line OLD=NEW to [Paths]"),
        );
    }
}

fn domain(found: &DomainReading<'_>, fresh: Option<&Doc>, report: &mut Report) {
    let name = &found.domain.name;
    match &found.dir {
        None => report.finding(
            Area::Domain,
            format!(
                "{name}: its directory {} leads nowhere on this machine: say where it is, with --map-dir OLD=NEW of import or a line \
                 OLD=NEW in [Paths]",
                found.domain.top_dir
            ),
        ),
        Some(dir) if !found.exists => report.finding(
            Area::Domain,
            format!(
                "{name}: its directory {} is not there: copy it, or say where it is, with --map-dir OLD=NEW of import or a line \
                 OLD=NEW in [Paths]",
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
    for list in fresh.into_iter().flat_map(|doc| lists::in_registry(doc, name)) {
        if !found.lists.iter().any(|dir| same_name(&dir.name, list)) {
            let text = format!(
                "{list}@{name}: the registry has this list, but its directory lists/{list} is not there: copy it"
            );
            report.finding(Area::List, text);
        }
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
        report.finding(Area::List, without_settings(name, list, fresh));
    }
}

/// What to say of a list without `list.ini`; an import makes one.
fn without_settings(domain: &str, list: &ListDir, fresh: Option<&Doc>) -> String {
    let Some(doc) = fresh else {
        let name = &list.name;
        return format!(
            "{name}@{domain}: no list.ini, so every post goes to postmaster, as if moderated: make one"
        );
    };
    let taken = lists::taken_over(doc, domain, &list.name);
    let from = match taken.is_empty() {
        true => "its settings are not in the registry".to_owned(),
        false => format!("the registry gave {}", taken.join(", ")),
    };
    let posting = match taken.contains(&"AllowPostingBy") {
        true => "see list.ini",
        false => "every post goes to the owner until list.ini says otherwise: see AllowPostingBy there",
    };
    format!("list {}@{domain}: {from}; {posting}", list.name)
}

fn mailbox(found: &FoundMailbox, return_to_imail: bool, nul: &mut usize, report: &mut Report) {
    let file = &found.file;
    let seen = match &found.seen {
        Ok(seen) => seen,
        Err(error) => return report.finding(Area::Mailbox, mailbox_error(file, error)),
    };
    let Inspection { head, tail, torn, bytes, index, .. } = *seen;
    if tail > 0 {
        report.finding(
            Area::Mailbox,
            format!("{file}: its last {tail} bytes are no whole message: somebody writes this moment, or was cut off"),
        );
    } else if torn {
        report.finding(
            Area::Mailbox,
            format!("{file}: it ends within a line, so its last message is not whole: see mbxcheck --repair"),
        );
    }
    if let Some(at) = seen.nul {
        *nul += 1;
        if *nul <= NUL_NAMED {
            let text = format!(
                "{file}: NUL bytes from byte {at} on, as a power cut leaves them: see mbxcheck --repair"
            );
            report.finding(Area::Mailbox, text);
        }
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
