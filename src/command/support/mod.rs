//! `imaild support`: one file with what a support person asks for first (manual 7-2): versions, facts about the machine, the programs that
//! run on it, the day's logs, the service's journal, the registry, the queue, and on request mailboxes and single messages.
//!
//! It only reads, and works with the server up or down. Of the registry and the settings of lists only what is known to be harmless goes into
//! the file ([`settings`]); of running programs their names, not their arguments. Logs go in whole, as the manual asks; they hold addresses,
//! and so does the queue.
//!
//! # Failure
//! A wrong request is refused before anything is written. A part that cannot be read is left out and named in `CONTENTS.txt`: a damaged
//! directory is when this is needed. A file of the given name is never overwritten; one that could not be finished is removed.
//!
//! # Limits
//! [`REQUESTED_MAX`] mailboxes and messages; those of [`host`]. Files are copied piece by piece.

mod bundle;
mod host;
mod mail;
mod settings;

use super::queue::Spool;
use super::{CommandError, DataDirectory, Outcome, print, status};
use crate::config::Config;
use crate::logs;
use bundle::{Bundle, Made};
use chrono::{Local, NaiveDate};
use clap::Args;
use layout::disk::Kind;
use layout::limits::SETTINGS_FILE_MAX;
use layout::list::settings::SettingsFile;
use layout::logdate;
use layout::path::TreePath;
use layout::registry::MAX_FILE_BYTES;
use layout::registry::doc::{Complaint, Doc};
use layout::registry::model::{Domain, Registry};
use layout::root::Root;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// The most mailboxes and messages that one bundle takes.
const REQUESTED_MAX: usize = 1000;

/// The arguments of `support`.
#[derive(Args)]
pub(super) struct Support {
    #[command(flatten)]
    directory: DataDirectory,
    /// The day of the trouble, whose logs are needed.
    #[arg(long, value_name = "YYYYMMDD", value_parser = day)]
    date: NaiveDate,
    /// The file to write; there must be none of this name. Only you will be able to read it.
    #[arg(long, value_name = "FILE.tar.gz")]
    out: PathBuf,
    /// Put a mailbox in, such as ann@example.org/INBOX; may be given several times.
    #[arg(long = "mailbox", value_name = "USER/NAME")]
    mailboxes: Vec<String>,
    /// Put a single message in as .eml, by its number in "mbxcheck --dump", such as ann@example.org/INBOX/7; may be given several times.
    #[arg(long = "message", value_name = "USER/NAME/NUMBER")]
    messages: Vec<String>,
}

fn day(text: &str) -> Result<NaiveDate, String> {
    let plain = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit());
    let date = plain.then(|| NaiveDate::parse_from_str(text, "%Y%m%d").ok()).flatten();
    date.ok_or_else(|| "use a day as YYYYMMDD, such as 20220825".to_owned())
}

impl Support {
    pub(super) fn run(self) -> Result<Outcome, CommandError> {
        let root = self.directory.open()?;
        let registry = root.disk().read(&root.registry_ini(), MAX_FILE_BYTES);
        let (doc, complaints) = Doc::parse(registry.as_deref().unwrap_or_default().to_vec());
        let config = Config::new(&root, Registry::from_doc(&doc));
        if self.mailboxes.len() + self.messages.len() > REQUESTED_MAX {
            return Err(CommandError::Refused(format!("more than {REQUESTED_MAX} mailboxes and messages")));
        }
        let mailboxes = mail::mailboxes(&config, &self.mailboxes)?;
        let messages = mail::messages(&config, &self.messages)?;

        let name = format!("imaild-support-{}", self.date.format("%Y%m%d"));
        let made = Bundle::make(&self.out, &name, |bundle| {
            bundle.text("version.txt", &host::version())?;
            bundle.text("host.txt", &host::facts(&root))?;
            bundle.text("programs.txt", &host::programs())?;
            let status = status::report(&root).map(|report| format!("{report:#}\n"));
            bundle.text_or_note("status.json", status)?;
            bundle.text_or_note("registry.ini", registry.map(|_| settings::registry(&doc)))?;
            if !complaints.is_empty() {
                let line = |one: &Complaint| format!("line {}: expected {}\n", one.line, one.expected);
                bundle.text("registry-complaints.txt", &complaints.iter().map(line).collect::<String>())?;
            }
            for domain in &config.registry.domains {
                lists(bundle, &config, domain)?;
            }
            let queue = Spool::open(&root).map(|spool| spool.map_or_else(String::new, |spool| spool.list()));
            bundle.text_or_note("queue.txt", queue)?;
            day_logs(bundle, &config, self.date)?;
            bundle.text_or_note("journal.txt", host::journal(self.date))?;
            for found in &mailboxes {
                bundle.copy(&found.entry, root.disk(), &found.file)?;
            }
            messages.into_iter().try_for_each(|one| bundle.pieces(&one.entry, one.size, one.content))
        })?;
        print(&told(&self.out, &made));
        Ok(Outcome::Done)
    }
}

fn told(out: &Path, made: &Made) -> String {
    let mut text = format!(
        "Wrote {} with {} files. It holds no passwords, but names and addresses: look at it before you send it.\n",
        out.display(),
        made.entries
    );
    if !made.notes.is_empty() {
        text.push_str("What could not be had:\n");
        text.extend(made.notes.iter().map(|note| format!("  {note}\n")));
    }
    text
}

/// The logs of a day, wherever logs are.
fn day_logs(bundle: &mut Bundle, config: &Config, date: NaiveDate) -> Result<(), CommandError> {
    let (root, today) = (config.root(), Local::now().date_naive());
    let mut seen = HashSet::new();
    let mut count = 0;
    for dir in [logs::directory(config), root.logs(), root.spool()] {
        let path = dir.full();
        let Ok(entries) = root.disk().list(&dir) else { continue };
        if !seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())) {
            continue;
        }
        let place = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for entry in entries.iter().filter(|entry| entry.kind == Kind::File) {
            let Some(name) = entry.name.to_str() else { continue };
            if logdate::day_of(name, today) == Some(date) {
                bundle.copy(
                    &format!("{place}/{name}"),
                    root.disk(),
                    &TreePath::operator(&path.join(name)),
                )?;
                count += 1;
            }
        }
    }
    if count == 0 {
        let told = "there is no log of this day. Logs are written where LogTo of the services is Sys, which it is unless set";
        bundle.note(format!("{}: {told}", logs::directory(config)));
    }
    Ok(())
}

/// The settings of a domain's lists.
fn lists(bundle: &mut Bundle, config: &Config, domain: &Domain) -> Result<(), CommandError> {
    let root: &Root = config.root();
    let Some(dir) = config.domain_dir(domain).map(|dir| dir.lists()) else { return Ok(()) };
    let entries = root.disk().list(&dir).unwrap_or_default();
    for entry in entries.iter().filter(|entry| entry.kind == Kind::Directory) {
        let list = entry.name.to_str().and_then(|name| root.existing(&dir, name));
        let Some((list, file)) = list.and_then(|list| Some((list.clone(), root.file_in(&list, "list.ini")?)))
        else {
            continue;
        };
        let text = root.disk().read(&file, SETTINGS_FILE_MAX);
        let code_page = config.registry.global.code_page;
        let text = text.map(|bytes| settings::list(&SettingsFile::parse(bytes, code_page)));
        bundle.text_or_note(&format!("lists/{}/{}.ini", domain.name, list.name()), text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days() {
        assert_eq!(day("20220825"), Ok(NaiveDate::from_ymd_opt(2022, 8, 25).unwrap()));
        for bad in ["", "2022-08-25", "220825", "20220230", "20221301", "+2220825", "202208251"] {
            assert!(day(bad).is_err(), "{bad}");
        }
    }
}
