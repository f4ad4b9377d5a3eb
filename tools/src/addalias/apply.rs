//! The effect: a batch of requests to one rewrite of the registry, and the files of groups.
//!
//! A group's file is written before the registry names it, so nobody ever finds a group without members. If the registry cannot be
//! written then, files that were made for it are taken away again.
//!
//! Failure: [`StoreError`] when the registry could not be read or written; everything else is the outcome of its request. Without any
//! request that can be done nothing is locked or written.

use std::collections::HashSet;

use layout::group_file;
use layout::name::AliasName;
use layout::owner::give_to_owner;
use layout::path::TreePath;
use layout::registry::doc::Doc;
use layout::registry::model::{Domain, Registry, aliases_path};
use layout::registry::places;
use layout::registry::store::{Loaded, StoreError};
use layout::root::{PathMap, Root};

use super::lines::Item;
use super::plan::{self, Change, Members, Step};
use crate::program::lines;
use crate::program::registry::edit;

/// What became of a request: done, or the reason why not.
pub type Outcome = Result<Change, String>;

/// Does all that can be done of `items`, or only says what that is; `loaded` is the registry of a moment ago. One outcome for each item.
pub fn execute(root: &Root, loaded: &Loaded, items: &[Item], dry: bool) -> Result<Vec<Outcome>, StoreError> {
    let mut files = Files { root, made: HashSet::new() };
    let planned = decide(&loaded.registry, items);
    if dry {
        let checked = |change: Change| match files.place(&loaded.registry, &change) {
            Ok(_) => Ok(change),
            Err(reason) => Err(reason),
        };
        return Ok(planned.into_iter().map(|change| change.and_then(checked)).collect());
    }
    if loaded.instead.is_none() && planned.iter().all(Result::is_err) {
        return Ok(planned);
    }
    let result = edit(root, |doc| files.change(doc, items));
    if result.is_err() {
        files.take_back();
    }
    result
}

/// The plan for every item; those that are no request keep their reason.
fn decide(registry: &Registry, items: &[Item]) -> Vec<Outcome> {
    lines::planned(items, |requests| plan::plan(registry, requests))
}

struct Files<'a> {
    root: &'a Root,
    /// Files that this run made.
    made: HashSet<TreePath>,
}

impl Files<'_> {
    /// Decides on what is in force now, and changes files and document; `Err`: nothing of it can be done.
    fn change(&mut self, doc: &mut Doc, items: &[Item]) -> Result<Vec<Outcome>, Vec<Outcome>> {
        let registry = Registry::from_doc(doc);
        let mut outcomes = Vec::with_capacity(items.len());
        for planned in decide(&registry, items) {
            outcomes.push(planned.and_then(|change| {
                self.write_members(&registry, &change)?;
                write(doc, &change);
                Ok(change)
            }));
        }
        if outcomes.iter().all(Result::is_err) { Err(outcomes) } else { Ok(outcomes) }
    }

    fn write_members(&mut self, registry: &Registry, change: &Change) -> Result<(), String> {
        let Some((members, file)) = self.place(registry, change)? else { return Ok(()) };
        let told = |error: &dyn std::fmt::Display| format!("{}: {file}: {error}", change.alias);
        let code_page = registry.global.code_page;
        group_file::set_members(self.root.disk(), &file, code_page, &members.addresses)
            .map_err(|error| told(&error))?;
        if members.new {
            self.made.insert(file.clone());
            give_to_owner(self.root, &file).map_err(|error| told(&error))?;
        }
        Ok(())
    }

    /// The file of a group whose members change.
    fn place<'c>(
        &self,
        registry: &Registry,
        change: &'c Change,
    ) -> Result<Option<(&'c Members, TreePath)>, String> {
        let Step::Set { members: Some(members), .. } = &change.step else { return Ok(None) };
        let map = registry.path_map(self.root);
        let domain = registry.domain_by_name(&change.domain);
        let domain = domain.ok_or_else(|| format!("the domain {} is gone", change.domain))?;
        let file = match members.new {
            true => self.new_file(&map, domain, change)?,
            false => {
                let found = places::group_file(self.root, &map, domain, &members.path);
                // In a dry run the group may be one that an earlier line would make.
                found.or_else(|| map.resolve(self.root, &members.path)).ok_or_else(|| {
                    let (alias, path) = (&change.alias, &members.path);
                    format!("{alias}: its file {path} leads nowhere here: name its place in [Paths]")
                })?
            }
        };
        Ok(Some((members, file)))
    }

    /// Where the file of a new group is to be; it must not exist yet.
    fn new_file(&self, map: &PathMap, domain: &Domain, change: &Change) -> Result<TreePath, String> {
        let alias = &change.alias;
        let dir = places::domain_dir(self.root, map, domain);
        let name = AliasName::parse(alias).ok();
        let file = dir.zip(name).map(|(dir, name)| dir.group_file(&name));
        let file =
            file.ok_or_else(|| format!("{alias}: the directory of {} leads nowhere here", domain.name))?;
        if self.root.disk().stat(&file).is_ok() && !self.made.contains(&file) {
            return Err(format!(
                "{alias}: the file {file} is there already: make it the destination, or remove it first"
            ));
        }
        Ok(file)
    }

    fn take_back(&self) {
        for file in &self.made {
            let _ = self.root.disk().unlink(file);
        }
    }
}

fn write(doc: &mut Doc, change: &Change) {
    let path = aliases_path(&change.domain);
    match &change.step {
        Step::Set { value: Some(value), .. } => doc.set_text(&path, &change.alias, value),
        Step::Set { value: None, .. } => {}
        Step::Delete { .. } => {
            doc.remove_value(&path, &change.alias);
        }
    }
}
