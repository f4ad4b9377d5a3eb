//! `imaild init`: a new, empty IMail directory.
//!
//! The registry is written last: a run that was cut off can be repeated.

use super::{CommandError, DataDirectory, Outcome, give_to_owner, print, registry_files};
use clap::Args;
use layout::disk::real::RealDisk;
use layout::name::DomainName;
use layout::password::{self, PasswordError, Secret};
use layout::registry::doc::{Doc, END_LINE};
use layout::registry::model::{GLOBAL, aliases_path, domain_path, flags, user_path};
use layout::registry::store;
use layout::root::{ROOT_VARIABLE, Root, RootError};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What IMail has below its top directory from the start.
const DIRECTORIES: [&str; 4] = ["users", "lists", "spool", "logs"];
/// The mapping key of the primary domain. A virtual one, so that nothing is wrong when this machine gets another address;
/// whoever connects to an address that no domain has is with the primary domain anyway.
const ADDRESS: &str = "$virtual001";

/// Make a new, empty IMail directory with its primary domain.
#[derive(Args)]
pub(super) struct Init {
    #[command(flatten)]
    directory: DataDirectory,
    /// Name of the primary domain.
    #[arg(long, value_name = "NAME", value_parser = domain)]
    domain: DomainName,
}

fn domain(text: &str) -> Result<DomainName, String> {
    DomainName::parse(text).map_err(|error| error.to_string())
}

impl Init {
    pub(super) fn run(self) -> Result<Outcome, CommandError> {
        let top = self.top()?;
        refuse_used(&top)?;
        make_directory(&top)?;
        let top = top.canonicalize().map_err(CommandError::file(top.display()))?;
        let root = Root::new(Arc::new(RealDisk::new()), &top);
        let dirs = DIRECTORIES.map(|name| root.find(root.top(), name));
        for dir in &dirs {
            root.make_dirs(dir).map_err(CommandError::file(dir))?;
        }
        let password = password::generate()?;
        store::create(&root, &registry(self.domain.as_str(), &password)?, false)?;
        give_to_owner(&root, &dirs)?;
        give_to_owner(&root, &registry_files(&root))?;
        print(&told(&top, self.domain.as_str(), &password));
        Ok(Outcome::Done)
    }

    /// The directory to make, which need not exist.
    fn top(&self) -> Result<PathBuf, RootError> {
        let named = self.directory.root.clone();
        named.or_else(|| std::env::var_os(ROOT_VARIABLE).map(PathBuf::from)).ok_or(RootError::NotNamed)
    }
}

/// A directory with a registry, or with users of an old server, is none to begin anew in.
fn refuse_used(top: &Path) -> Result<(), CommandError> {
    let entries = match std::fs::read_dir(top) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(CommandError::file(top.display()))?,
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().to_lowercase();
        if name == "registry.ini" {
            let text = "exists already: this directory is in use. Name another one, or add domains and users to this one";
            return Err(CommandError::Refused(format!("{} {text}", entry.path().display())));
        }
        let holds_something =
            || std::fs::read_dir(entry.path()).is_ok_and(|mut users| users.next().is_some());
        if name == "users" && holds_something() {
            let text = "holds users already. To take over an old server use imaild import with an export of its registry";
            return Err(CommandError::Refused(format!("{} {text}", entry.path().display())));
        }
    }
    Ok(())
}

fn make_directory(top: &Path) -> Result<(), CommandError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o750).create(top).map_err(CommandError::file(top.display()))
}

/// The registry of a server with one domain. A new tree stores passwords as Argon2id.
fn registry(domain: &str, password: &Secret) -> Result<Doc, PasswordError> {
    let (mut doc, _) = Doc::parse(format!("[{GLOBAL}]\n\n{END_LINE}\n").into_bytes());
    doc.set_text(GLOBAL, "HostName", domain);
    let mapping = domain_path(ADDRESS);
    doc.set_text(&mapping, "Official", domain);
    doc.set_text(&domain_path(domain), "Address", ADDRESS);
    let aliases = aliases_path(domain);
    doc.set_text(&aliases, "postmaster", "root");
    // IMail makes this program alias for every domain; for us it is the list server, no program.
    doc.set_text(&aliases, "imailsrv", &format!("|imailsrv.exe {domain}"));
    let root = user_path(domain, "root");
    doc.set_text(&root, "MailAddr", &format!("root@{domain}"));
    doc.set_text(&root, "FullName", "Administrator");
    doc.set_text(&root, "Password", &password::store(false, "root", password.expose())?);
    doc.set_number(&root, "Flags", u64::from(flags::NEW_USER | flags::HOST_ADMIN | flags::SYSTEM_ADMIN));
    Ok(doc)
}

fn told(top: &Path, domain: &str, password: &Secret) -> String {
    let dir = top.display();
    format!(
        "Made {dir} with the domain {domain}.\n\n\
         User:     root@{domain} (administrator; postmaster is an alias of it)\n\
         Password: {}\n\
         This password is shown only now.\n\n\
         Add users:  adduser --root {dir} -h {domain} -u NAME -p PASSWORD\n\
         Serve:      imaild serve --root {dir}\n",
        password.expose()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use layout::registry::check::regcheck;
    use layout::registry::model::Registry;

    #[test]
    fn a_new_registry_is_whole_and_clean() {
        let password = Secret::new("correct-horse");
        let doc = registry("mail.example.net", &password).unwrap();
        let (read, complaints) = Doc::parse(doc.render());
        assert_eq!(complaints, []);
        let registry = Registry::from_doc(&read);
        assert!(registry.has_end_line && !registry.global.return_to_imail && registry.notes.is_empty());
        let domain = registry.primary().unwrap();
        assert_eq!(domain.name, "mail.example.net");
        assert!(domain.user("root").unwrap().verify("correct-horse"));
        assert!(domain.user("root").unwrap().has(flags::SYSTEM_ADMIN));
        assert!(!regcheck(&registry, &[]).1, "{:?}", regcheck(&registry, &[]).0);
    }
}
