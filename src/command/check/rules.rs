//! Rules files: lines that are not understood, and that send mail to nobody. Delivery passes over the first, so their mail stays in the INBOX.

use super::super::reading::Tree;
use super::super::report::RuleLine;
use super::addresses::{Target as Leads, target};
use super::{Area, Report};
use crate::rules::Rules;
use crate::transport::disposition;
use layout::limits::SETTINGS_FILE_MAX;
use layout::path::TreePath;
use layout::registry::model::Domain;
use layout::rules::{INBOUND, Line, OUTBOUND, Rule, Target};
use std::collections::HashSet;

pub(super) fn check(tree: &Tree<'_>, report: &mut Report) {
    let mut seen = HashSet::new();
    for domain in &tree.registry.domains {
        let Some(dir) = tree.domain_dir(domain) else { continue };
        let mut dirs = vec![(dir.top().clone(), OUTBOUND), (dir.top().clone(), INBOUND)];
        dirs.extend(tree.user_dirs(domain).into_iter().map(|(_, user)| (user.path().clone(), INBOUND)));
        for list in tree.lists(domain) {
            list_mailboxes(tree, domain, &list, report);
            dirs.push((list, INBOUND));
        }
        for (dir, name) in dirs {
            // Domains can share a directory.
            if seen.insert((dir.clone(), name)) {
                file(tree, domain, (&dir, name), report);
            }
        }
    }
}

fn file(tree: &Tree<'_>, domain: &Domain, (dir, name): (&TreePath, &str), report: &mut Report) {
    let Some(path) = tree.root.file_in(dir, name) else { return };
    if let Err(error) = tree.root.disk().read(&path, SETTINGS_FILE_MAX) {
        return report.finding(Area::Rule, format!("{path}: {error}, so none of its rules is applied"));
    }
    for line in Rules::default().of(tree.config, dir, name).iter() {
        let (number, text) = match line {
            Line::Odd { number, why } => {
                let (file, why) = (path.to_string(), why.to_string());
                report.odd_rules.push(RuleLine { file, line: *number, why });
                (
                    number,
                    format!(
                        "is not understood and not applied: {}",
                        report.odd_rules.last().map_or("", |odd| &odd.why)
                    ),
                )
            }
            Line::Rule(Rule { number, target: Target::Forward(address), .. })
                if target(tree, domain, address, None) == Leads::Unknown =>
            {
                (number, format!("sends mail to {address}, which does not exist"))
            }
            Line::Rule(_) => continue,
        };
        report.finding(Area::Rule, format!("{path}: line {number} {text}"));
    }
}

/// Rules of a list that name a mailbox of nobody.
fn list_mailboxes(tree: &Tree<'_>, domain: &Domain, list: &TreePath, report: &mut Report) {
    for rule in Rules::default().of(tree.config, list, INBOUND).iter().filter_map(Line::rule) {
        if let Target::Mailbox(name) = &rule.target
            && disposition::user_of(tree.config, domain, &name.text()).is_none()
        {
            let (path, number) = (tree.root.find(list, INBOUND), rule.number);
            let text = format!(
                "{path}: line {number} is not applied: lists have no mailboxes, so name USER-MAILBOX, an address, or NUL"
            );
            report.finding(Area::Rule, text);
        }
    }
}
