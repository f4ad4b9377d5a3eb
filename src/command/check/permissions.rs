//! Owners, modes, links, and entries that differ only in case, in the whole directory.

use super::{Area, Report};
use layout::root::Root;
use std::collections::HashMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// How deep directories are followed.
const DEPTH_MAX: usize = 32;
/// Of files that belong to somebody else, so many are named; it is one mistake as a rule.
const STRANGERS_NAMED: usize = 5;
/// Files that hold passwords.
const PRIVATE: [&str; 2] = ["registry.ini", "registry.ini.good"];

pub(super) fn check(root: &Root, report: &mut Report) {
    let top = root.top().full();
    let Ok(meta) = std::fs::symlink_metadata(&top) else { return };
    let mut walk = Walk { owner: meta.uid(), strangers: Vec::new(), strangers_count: 0, report };
    walk.directory(&top, 0);
    let Walk { strangers, strangers_count, .. } = walk;
    if strangers_count > 0 {
        report.finding(
            Area::Permissions,
            format!(
                "{strangers_count} files belong to somebody else than the data directory, as whose owner the server runs \
                 (chown -R them): {}",
                strangers.join(", ")
            ),
        );
    }
    for name in PRIVATE {
        let path = top.join(name);
        if std::fs::metadata(&path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0) {
            report.finding(
                Area::Permissions,
                format!("{}: others can read the passwords in it: chmod 600", path.display()),
            );
        }
    }
}

struct Walk<'a> {
    owner: u32,
    strangers: Vec<String>,
    strangers_count: usize,
    report: &'a mut Report,
}

impl Walk<'_> {
    fn directory(&mut self, dir: &Path, depth: usize) {
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) => {
                return self.report.finding(Area::Permissions, format!("{}: {error}", dir.display()));
            }
        };
        let mut by_name: HashMap<String, Vec<PathBuf>> = HashMap::new();
        for entry in entries.flatten() {
            let path = entry.path();
            by_name.entry(entry.file_name().to_string_lossy().to_lowercase()).or_default().push(path.clone());
            let Ok(meta) = entry.metadata() else { continue };
            self.owner(&path, meta.uid());
            if meta.is_symlink() {
                let text = format!(
                    "{}: a symbolic link, which is never followed: put the file itself here",
                    path.display()
                );
                self.report.finding(Area::Permissions, text);
            } else if meta.is_dir() && depth < DEPTH_MAX {
                self.directory(&path, depth + 1);
            }
        }
        for (lower, mut twins) in by_name.into_iter().filter(|(_, twins)| twins.len() > 1) {
            twins.sort();
            self.twins(&lower, &twins);
        }
    }

    fn owner(&mut self, path: &Path, owner: u32) {
        if owner == self.owner {
            return;
        }
        self.strangers_count += 1;
        if self.strangers.len() < STRANGERS_NAMED {
            self.strangers.push(path.display().to_string());
        }
    }

    /// The one in lower case counts, else the first: the others are not seen.
    fn twins(&mut self, lower: &str, twins: &[PathBuf]) {
        let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let counts = twins.iter().find(|path| name(path).as_deref() == Some(lower)).or(twins.first());
        for other in twins.iter().filter(|path| Some(*path) != counts) {
            let instead = counts.and_then(name).unwrap_or_default();
            let text = format!(
                "{}: differs from {instead} only in case, and is not used: rename or merge it",
                other.display()
            );
            self.report.finding(Area::Permissions, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use layout::disk::real::RealDisk;
    use std::sync::Arc;

    #[test]
    fn twins_links_and_open_passwords_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(path("users/Mike")).unwrap();
        std::fs::create_dir_all(path("users/mike")).unwrap();
        std::fs::write(path("registry.ini"), "").unwrap();
        std::fs::set_permissions(path("registry.ini"), std::fs::Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", path("users/mike/main.mbx")).unwrap();
        let mut report = Report::default();
        check(&Root::new(Arc::new(RealDisk::new()), dir.path()), &mut report);
        let text: Vec<String> = report.findings.listed.into_iter().map(|(_, text)| text).collect();
        let all = text.join("\n");
        assert_eq!(text.len(), 3, "{all}");
        for part in ["users/Mike: differs from mike", "main.mbx: a symbolic link", "chmod 600"] {
            assert!(all.contains(part), "{part}: {all}");
        }
    }
}
