//! Rules files: lines that are not understood. Delivery passes over them, so mail that they are for stays in the INBOX.

use super::super::survey::Tree;
use super::{Area, Report};
use crate::config::Config;
use crate::rules::Rules;
use crate::transport::disposition;
use layout::limits::SETTINGS_FILE_MAX;
use layout::path::TreePath;
use layout::registry::model::Domain;
use layout::rules::{INBOUND, Line, OUTBOUND, Target};
use std::collections::HashSet;

pub(super) fn check(tree: &Tree<'_>, config: &Config, report: &mut Report) {
    let mut seen = HashSet::new();
    for domain in &tree.registry.domains {
        let Some(dir) = tree.domain_dir(domain) else { continue };
        let mut dirs = vec![(dir.top().clone(), OUTBOUND), (dir.top().clone(), INBOUND)];
        dirs.extend(tree.user_dirs(domain).into_iter().map(|(_, user)| (user.path().clone(), INBOUND)));
        for list in tree.lists(domain) {
            list_mailboxes(tree, config, domain, &list, report);
            dirs.push((list, INBOUND));
        }
        for (dir, name) in dirs {
            // Domains can share a directory.
            if seen.insert((dir.clone(), name)) {
                file(tree, config, &dir, name, report);
            }
        }
    }
}

fn file(tree: &Tree<'_>, config: &Config, dir: &TreePath, name: &str, report: &mut Report) {
    let Some(path) = tree.root.file_in(dir, name) else { return };
    if let Err(error) = tree.root.disk().read(&path, SETTINGS_FILE_MAX) {
        return report.finding(Area::Rule, format!("{path}: {error}, so none of its rules is applied"));
    }
    for line in Rules::default().of(config, dir, name).iter() {
        if let Line::Odd { number, why } = line {
            let text = format!("{path}: line {number} is not understood and not applied: {why}");
            report.finding(Area::Rule, text);
        }
    }
}

/// Rules of a list that name a mailbox of nobody.
fn list_mailboxes(tree: &Tree<'_>, config: &Config, domain: &Domain, list: &TreePath, report: &mut Report) {
    for rule in Rules::default().of(config, list, INBOUND).iter().filter_map(Line::rule) {
        if let Target::Mailbox(name) = &rule.target
            && disposition::user_of(config, domain, &name.text()).is_none()
        {
            let (path, number) = (tree.root.find(list, INBOUND), rule.number);
            let text = format!(
                "{path}: line {number} is not applied: lists have no mailboxes, so name USER-MAILBOX, an address, or NUL"
            );
            report.finding(Area::Rule, text);
        }
    }
}
