//! A list with its settings, as it is at the moment: who owns it, who is on it.
//!
//! # Failure
//! The disk's. A list whose files cannot be read takes no mail for the time being.

use super::addresses::{Addresses, Seen};
use super::command::Membership;
use super::header::{ListAddress, address_of};
use super::merge::Texts;
use super::posting::{Author, Wanted};
use crate::config::Config;
use crate::smtp::lists::Killed;
use layout::list::settings::{AllowPosting, Language, Settings};
use layout::list::{File, ListDir};
use layout::name::AliasName;
use layout::registry::alias::{Alias, classify};
use layout::registry::model::Domain;
use layout::text::CodePage;
use std::collections::{BTreeMap, HashSet};
use std::io;

/// A list.
pub struct List<'a> {
    config: &'a Config,
    /// Its directory.
    pub dir: ListDir,
    /// Its name and domain.
    pub address: ListAddress,
    /// Its settings.
    pub settings: Settings,
    /// The owner's address.
    pub owner: String,
    /// The language of what the list server writes.
    pub language: Language,
}

/// The language of a domain's texts.
pub fn language_of(domain: &Domain) -> Language {
    domain.language.as_deref().and_then(Language::parse).unwrap_or_default()
}

impl<'a> List<'a> {
    /// The list of this name; `None` if the domain has none.
    pub fn find(config: &'a Config, domain: &Domain, name: &str) -> io::Result<Option<List<'a>>> {
        let found = || {
            let name = AliasName::parse(name).ok()?;
            ListDir::find(config.root(), &config.domain_dir(domain)?, &name)
        };
        let Some(dir) = found() else { return Ok(None) };
        let settings = dir.settings(config.registry.global.code_page)?;
        let address = ListAddress { name: dir.name().to_string(), domain: domain.name.clone() };
        let postmaster = format!("postmaster@{}", domain.name);
        let mut owner = match settings.owner.trim() {
            "" => postmaster.clone(),
            owner if owner.contains('@') => {
                address_of(owner.as_bytes()).unwrap_or_else(|| postmaster.clone())
            }
            user => format!("{user}@{}", domain.name),
        };
        // A list that owns itself would send its own refusals to itself.
        let own = [address.post(), address.bounce(), address.server()];
        if own.iter().any(|own| key(config, own) == key(config, &owner)) {
            owner = postmaster;
        }
        let language = settings.language.unwrap_or_else(|| language_of(domain));
        Ok(Some(List { config, dir, address, settings, owner, language }))
    }

    /// The code page of its files.
    pub fn code_page(&self) -> CodePage {
        self.config.registry.global.code_page
    }

    /// Do both mean the same mailbox? Case is ignored, and so is by which of its names a domain of ours is called.
    pub fn same(&self, a: &str, b: &str) -> bool {
        key(self.config, &self.full(a)) == key(self.config, &self.full(b))
    }

    /// With the list's domain, if an address has none.
    fn full(&self, address: &str) -> String {
        match address.contains('@') {
            true => address.to_owned(),
            false => format!("{address}@{}", self.address.domain),
        }
    }

    /// The spellings in which a file holds this address.
    pub fn spellings(&self, file: File, address: &str) -> io::Result<Vec<String>> {
        let group = self.dir.group(file, self.code_page())?;
        let local = |address: &str| address.split('@').next().unwrap_or_default().to_lowercase();
        let wanted = local(address);
        // Most members differ before the sign, which is cheaper to see than what a domain is called.
        let same = |member: &String| local(member) == wanted && self.same(member, address);
        Ok(group.members().filter(same).collect())
    }

    fn holds(&self, file: File, address: &str) -> io::Result<bool> {
        Ok(!self.spellings(file, address)?.is_empty())
    }

    /// Those of these addresses, as they are given, that stand in one of the files.
    pub fn those_in(&self, files: &[File], addresses: &[String]) -> io::Result<Vec<String>> {
        let keys: Vec<String> =
            addresses.iter().map(|address| key(self.config, &self.full(address))).collect();
        let wanted: HashSet<&String> = keys.iter().collect();
        let mut found = HashSet::new();
        for file in files {
            let group = self.dir.group(*file, self.code_page())?;
            let all = group.members().map(|member| key(self.config, &self.full(&member)));
            found.extend(all.filter(|key| wanted.contains(key)));
        }
        let there = addresses.iter().zip(&keys).filter(|(_, key)| found.contains(*key));
        Ok(there.map(|(address, _)| address.clone()).collect())
    }

    /// What an address gets.
    pub fn membership(&self, address: &str) -> io::Result<Membership> {
        if self.holds(File::Members, address)? {
            return Ok(Membership::Posts);
        }
        Ok(if self.holds(File::Digest, address)? { Membership::Digests } else { Membership::None })
    }

    /// Is this the owner's address?
    pub fn is_owner(&self, address: &str) -> bool {
        self.same(&self.owner, address)
    }

    /// What it takes to post.
    pub fn wanted(&self) -> Wanted {
        let Settings { allow_posting, posters, ref password, .. } = self.settings;
        Wanted { allow: allow_posting, posters, password: password.is_some() }
    }

    /// What is known of an author, as far as it matters.
    pub fn author(&self, address: &str, password: bool) -> io::Result<Author> {
        if self.settings.allow_posting == AllowPosting::Anyone {
            return Ok(Author { password, ..Author::default() });
        }
        Ok(Author {
            owner: self.is_owner(address),
            member: self.membership(address)? != Membership::None,
            poster: self.wanted().posters && self.holds(File::Posters, address)?,
            password,
        })
    }

    /// May this author not post at all?
    pub fn is_killed(&self, author: &str) -> io::Result<bool> {
        Ok(Killed::parse(&self.dir.text(File::Kill, self.code_page())?).contains(author))
    }

    /// Who stands in these files, that is, gets posts or digests: each once, without those on hold, never the list itself. First those here in the
    /// order of the files, then the others by their domains, so that a domain's members get a post in as few messages as may be.
    pub fn recipients(&self, files: &[File]) -> io::Result<Addresses> {
        /// Those whose addresses have the same domain.
        struct Others {
            /// The domain's official name, if it is one of ours.
            here: Option<String>,
            addresses: Addresses,
        }
        let (mut seen, mut local) = (Seen::default(), Addresses::default());
        let mut domains: BTreeMap<String, Others> = BTreeMap::new();
        let mut add = |member: &str, gets: bool| {
            let member = self.full(member);
            let (name, domain) = member.rsplit_once('@').unwrap_or_default();
            let known = domains.entry(domain.to_lowercase()).or_insert_with_key(|domain| {
                let here = self.config.local_domain(domain).map(|domain| domain.name.to_lowercase());
                Others { here, addresses: Addresses::default() }
            });
            let official = known.here.as_deref().unwrap_or(domain);
            let is_new = seen.insert(&format!("{name}@{official}").to_lowercase());
            let line = if known.here.is_some() { &mut local } else { &mut known.addresses };
            if is_new && gets {
                line.push(&member);
            }
        };
        self.dir.group(File::Hold, self.code_page())?.members().for_each(|member| add(&member, false));
        [self.address.post(), self.address.bounce()].iter().for_each(|own| add(own, false));
        for file in files {
            self.dir.group(*file, self.code_page())?.members().for_each(|member| add(&member, true));
        }
        domains.values().for_each(|others| local.append(&others.addresses));
        Ok(local)
    }

    /// The texts around each post.
    pub fn texts(&self) -> io::Result<Texts> {
        let text =
            |on: bool, file| if on { self.dir.text(file, self.code_page()) } else { Ok(String::new()) };
        Ok(Texts {
            header: text(self.settings.header, File::Header)?,
            trailer: text(self.settings.trailer, File::Trailer)?,
        })
    }

    /// The address whose mailbox collects the posts of the next digest: `<administrator>-<mailbox>@domain`, the administrator being the local one, or
    /// else the owner (7.1 guide); an alias for one user stands for him. `None` if no digest ever goes out: without digests, without a schedule
    /// and a size, and if the administrator is no user here.
    pub fn digest_address(&self) -> Option<String> {
        let digest =
            self.settings.digest.as_ref().filter(|digest| digest.schedule.is_some() || digest.size > 0)?;
        let split = self.config.registry.global.mailbox_split_char;
        let administrator = match self.settings.local_administrator.as_str() {
            "" => self.owner.as_str(),
            user => user,
        };
        let (user, domain) = self.user(administrator, &self.address.domain)?;
        Some(format!("{user}{split}{}@{domain}", digest.mailbox))
    }

    /// The user here that an address means, and his domain. Aliases hide users.
    fn user(&self, address: &str, domain: &str) -> Option<(String, String)> {
        /// An alias for an alias for an alias is followed; one that leads to itself is not for ever.
        const ALIASES_MAX: usize = 8;
        let (mut address, mut domain) = (address.to_owned(), domain.to_owned());
        for _ in 0..ALIASES_MAX {
            let (local, at) = address.rsplit_once('@').unwrap_or((&address, &domain));
            let found = self.config.local_domain(at)?;
            let Some(entry) = found.alias(local) else {
                return Some((found.user(local)?.id.clone(), found.name.clone()));
            };
            let Alias::Standard(targets) = classify(&entry.value) else { return None };
            let [target] = targets.as_slice() else { return None };
            // An alias of a user's name may name the user.
            if target.eq_ignore_ascii_case(local) {
                return Some((found.user(local)?.id.clone(), found.name.clone()));
            }
            (address, domain) = (target.clone(), found.name.clone());
        }
        None
    }
}

/// By what addresses are compared.
fn key(config: &Config, address: &str) -> String {
    let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    let domain = config.local_domain(domain).map_or(domain, |domain| domain.name.as_str());
    format!("{}@{}", local.to_lowercase(), domain.to_lowercase())
}

/// Every list of a domain, by name. Each directory below `lists` is one.
pub fn names(config: &Config, domain: &Domain) -> io::Result<Vec<String>> {
    let Some(dir) = config.domain_dir(domain) else { return Ok(Vec::new()) };
    let entries = match config.root().disk().list(&dir.lists()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let directories = entries.into_iter().filter(|entry| entry.kind == layout::disk::Kind::Directory);
    let mut names: Vec<String> = directories
        .filter_map(|entry| AliasName::parse(entry.name.to_str()?).ok())
        .map(|name| name.to_string())
        .collect();
    names.sort();
    names.dedup();
    Ok(names)
}
