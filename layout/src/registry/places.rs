//! Where in the tree the things are that the registry speaks of.

use super::model::{Domain, Registry};
use crate::name::AliasName;
use crate::path::TreePath;
use crate::root::{DomainDir, PathMap, Root};
use std::path::Path;

/// The directories of a domain, `None` if its `TopDir` leads nowhere.
pub fn domain_dir(root: &Root, map: &PathMap, domain: &Domain) -> Option<DomainDir> {
    Some(root.domain(map.top_of(root, &domain.top_dir)?))
}

/// The file of a group alias: the path that the registry names; if that leads nowhere, a file of that name in the domain's top directory, its
/// `lists`, or the IMail directory. Manual and help name three places.
pub fn group_file(root: &Root, map: &PathMap, domain: &Domain, path: &str) -> Option<TreePath> {
    if let Some(file) = map.resolve(root, path).filter(|file| root.disk().stat(file).is_ok()) {
        return Some(file);
    }
    let name = path.rsplit(['\\', '/']).next()?;
    let dir = domain_dir(root, map, domain);
    let places = dir.into_iter().flat_map(|dir| [dir.top().clone(), dir.lists()]);
    places.chain([root.top().clone()]).find_map(|place| root.file_in(&place, name))
}

/// What the registry says of a new group's file, `<alias>.list` in the domain's top directory (manual 3-1 (2)): its full path, as
/// IMail's own registries have it, below `TopDir` in the registry's own spelling. Without any `TopDir`, or with one that
/// could not be told from an address, the bare name, which is found in the same directory.
pub fn new_group_path(global_top_dir: &str, domain: &Domain, alias: &AliasName) -> String {
    let top = if domain.top_dir.is_empty() { global_top_dir } else { &domain.top_dir };
    if top.is_empty() || top.contains('@') {
        return format!("{alias}.list");
    }
    let slash = if top.contains('/') && !top.contains('\\') { '/' } else { '\\' };
    format!("{}{slash}{alias}.list", top.trim_end_matches(['/', '\\']))
}

/// What a Q line says of a message's file in the spool: its full path in the tree's own spelling; the one on this machine where the registry
/// has no `TopDir`.
pub fn spool_path(root: &Root, global_top_dir: &str, file: &str) -> String {
    match global_top_dir.trim_end_matches(['\\', '/']) {
        "" => root.spool().full().join(file).display().to_string(),
        top => format!("{top}\\spool\\{file}"),
    }
}

/// The directories in which logs may be: `logs`, the spool, where IMail keeps them, and `LogDir`, which may be anywhere. Only those that are there,
/// each once, whatever ways lead to it.
pub fn log_dirs(root: &Root, registry: &Registry) -> Vec<TreePath> {
    let mut dirs = vec![root.logs(), root.spool()];
    if let Some(dir) = &registry.global.log_dir {
        let mapped = registry.path_map(root).resolve(root, dir);
        let direct = || Path::new(dir).is_absolute().then(|| TreePath::base_of(Path::new(dir)));
        dirs.extend(mapped.or_else(direct));
    }
    let mut seen = Vec::new();
    dirs.retain(|dir| match dir.full().canonicalize() {
        Ok(path) if !seen.contains(&path) => {
            seen.push(path);
            true
        }
        _ => false,
    });
    dirs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_groups_have_full_paths() {
        let alias = AliasName::parse("Staff").unwrap();
        for (global, own, expected) in [
            ("C:\\IMail", "", "C:\\IMail\\staff.list"),
            ("C:\\IMail\\", "", "C:\\IMail\\staff.list"),
            ("C:\\IMail", "D:\\Mail\\b", "D:\\Mail\\b\\staff.list"),
            ("/srv/imail", "", "/srv/imail/staff.list"),
            ("", "", "staff.list"),
            ("C:\\a@b", "", "staff.list"),
        ] {
            let domain = Domain { top_dir: own.to_owned(), ..Domain::default() };
            assert_eq!(new_group_path(global, &domain, &alias), expected);
        }
    }
}
