//! The registry by itself.

use super::super::inventory::is_allowed;
use super::{Area, Report};
use crate::smtp::relay;
use layout::password::Stored;
use layout::registry::alias::{Alias, classify};
use layout::registry::check::regcheck;
use layout::registry::doc::Complaint;
use layout::registry::model::{Domain, Registry};
use layout::registry::store;
use layout::root::Root;
use std::net::IpAddr;

/// Lines of `regcheck` that are no fault begin with one of these.
const NO_FAULT: [&str; 4] =
    ["Starting Domain Registry check", "System IP found", "Primary Host", "Domain registry check complete"];

/// The file of a tree in use, and whether its addresses are this machine's.
pub(super) fn in_use(
    root: &Root,
    registry: &Registry,
    complaints: &[Complaint],
    local: &[IpAddr],
    report: &mut Report,
) {
    // What a start would say: whether the file is cut off.
    match store::load_for_start(root) {
        Ok(start) => start.instead.into_iter().for_each(|reason| report.finding(Area::Registry, reason)),
        Err(error) => report.finding(Area::Registry, error.to_string()),
    }
    for complaint in complaints {
        report.finding(Area::Registry, format!("registry.ini: {complaint}"));
    }
    let (lines, _) = regcheck(registry, local);
    for line in lines.iter().filter(|line| !NO_FAULT.iter().any(|good| line.starts_with(good))) {
        report.finding(Area::Registry, line.as_str());
    }
}

/// What it says.
pub(super) fn check(registry: &Registry, report: &mut Report) {
    for note in &registry.notes {
        report.finding(Area::Registry, note.as_str());
    }
    relay::warnings(registry).into_iter().for_each(|text| report.finding(Area::Registry, text));
    for domain in &registry.domains {
        if domain.users.is_empty() {
            let text = format!(
                "{} has no users. If they came from Windows or an external database, add them with adduser",
                domain.name
            );
            report.note(Area::Domain, text);
        }
        passwords(domain, report);
        aliases(domain, registry, report);
    }
}

fn passwords(domain: &Domain, report: &mut Report) {
    for user in domain.users.values() {
        let address = format!("{}@{}", user.id, domain.name);
        match user.password_kind() {
            Stored::Imail | Stored::Argon2 => {}
            Stored::Unknown => report.finding(
                Area::User,
                format!("{address}: the stored password is in an unknown format, so it admits nobody: set a new one"),
            ),
            Stored::Empty => report.note(Area::User, format!("{address}: no password, so no login until one is set")),
        }
    }
}

fn aliases(domain: &Domain, registry: &Registry, report: &mut Report) {
    for entry in domain.aliases.values() {
        let name = format!("{}@{}", entry.name, domain.name);
        match classify(&entry.value) {
            Alias::Program(program) if !is_allowed(&program, registry) => report.finding(
                Area::Alias,
                format!(
                    "{name} is off and its mail waits: it runs {}, which is not named in AllowedPrograms of [Global]",
                    program.file
                ),
            ),
            Alias::Unclear => {
                report.finding(Area::Alias, format!("{name} is not understood, and its mail waits: {}", entry.value));
            }
            Alias::Standard(targets) if targets.is_empty() => {
                report.finding(Area::Alias, format!("{name} leads to nobody: name an address, or remove it"));
            }
            Alias::Standard(_) | Alias::Group(_) | Alias::Program(_) | Alias::ListServer(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use layout::disk::sim::SimDisk;
    use layout::registry::doc::END_LINE;
    use std::path::Path;
    use std::sync::Arc;

    #[test]
    fn what_is_wrong_in_a_registry() {
        let cases: [(&str, &str); 7] = [
            ("", ""),
            ("[Domains\\a.b\\Users\\mike]\nPassword=zzz\n", "unknown format"),
            ("[Domains\\a.b\\Users\\_aliases]\nfax=|fax.exe\n", "AllowedPrograms"),
            ("[Domains\\a.b\\Users\\_aliases]\nodd=a|b\n", "not understood"),
            ("[Domains\\a.b\\Users\\_aliases]\nempty=\n", "leads to nobody"),
            ("[Services\\SMTPD32\\Parameters]\nRelayMode=Anyone\n", "RelayMode"),
            ("[Domains\\a.b\\Users\\mike]\nMaxSize=dword:zz\n", "registry.ini"),
        ];
        for (more, expected) in cases {
            let disk = SimDisk::new();
            let root = Root::new(Arc::new(disk.clone()), Path::new("/mail"));
            let text = format!(
                "[Global]\nHostName=a.b\n[Domains\\$virtual001]\nOfficial=a.b\n[Domains\\a.b]\nAddress=$virtual001\n{more}{END_LINE}\n"
            );
            disk.seed(&root.registry_ini(), text.as_bytes());
            let mut report = Report::default();
            let loaded = store::load(&root).unwrap();
            in_use(&root, &loaded.registry, &loaded.complaints, &[], &mut report);
            check(&loaded.registry, &mut report);
            let found: Vec<&str> = report.findings.listed.iter().map(|(_, text)| text.as_str()).collect();
            match expected {
                "" => assert_eq!(found, [""; 0]),
                expected => assert!(found.len() == 1 && found[0].contains(expected), "{more}: {found:?}"),
            }
        }
    }
}
