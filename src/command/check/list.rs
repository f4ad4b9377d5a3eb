//! `imaild check --list ADDRESS`: the settings of a mailing list in force, and how many are on it (manual 3-2); and what a user is to a list.

use super::super::CommandError;
use super::super::reading::Tree;
use crate::lists::list::List;
use layout::list::File;
use layout::list::settings::{AllowPosting, Digest, Language, Settings};
use layout::registry::model::Domain;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// What somebody is by standing in a file.
const ROLES: [(File, &str); 5] = [
    (File::Members, "member"),
    (File::Digest, "member with digests"),
    (File::Posters, "poster"),
    (File::Hold, "on hold"),
    (File::Kill, "may not post"),
];

/// Is who has this role on the list?
pub(super) fn is_membership(role: &str) -> bool {
    ROLES.iter().take(2).any(|(_, name)| *name == role)
}

/// A list of a domain, if its settings can be read.
pub(super) fn open<'a>(tree: &Tree<'a>, domain: &Domain, name: &str) -> Option<List<'a>> {
    List::find(tree.config, domain, name).ok().flatten()
}

/// What somebody is to a list.
pub(super) fn roles(list: &List<'_>, is: &dyn Fn(&str) -> bool) -> Vec<&'static str> {
    let mut roles = Vec::new();
    for (file, role) in ROLES {
        let group = list.dir.group(file, list.code_page());
        if group.is_ok_and(|group| group.members().any(|address| is(&address))) {
            roles.push(role);
        }
    }
    if is(&list.owner) {
        roles.push("owner");
    }
    let administrator = list.settings.local_administrator.trim();
    if !administrator.is_empty() && is(administrator) {
        roles.push("local administrator");
    }
    roles
}

/// What there is to say about a list.
pub(super) struct About(Vec<(&'static str, String)>);

/// Gathers it. The address may be a bare name in the primary domain.
pub(super) fn about(tree: &Tree<'_>, address: &str) -> Result<About, CommandError> {
    let (name, domain) = match address.rsplit_once('@') {
        Some((name, domain)) => (name, tree.registry.domain_by_name(domain)),
        None => (address, tree.registry.primary()),
    };
    let domain =
        domain.ok_or_else(|| CommandError::Refused(format!("{address}: there is no such domain here")))?;
    let list = List::find(tree.config, domain, name).map_err(CommandError::file("the list's settings"))?;
    let list = list.ok_or_else(|| {
        CommandError::Refused(format!("{address}: the domain {} has no list {name}", domain.name))
    })?;
    Ok(About(settings(&list)))
}

fn settings(list: &List<'_>) -> Vec<(&'static str, String)> {
    let Settings { title, local_administrator, password, digest, bounce_limit, .. } = &list.settings;
    let settings = &list.settings;
    let switch = |on: bool| if on { "on" } else { "off" }.to_owned();
    let number = |number: u64, zero: &str| if number == 0 { zero.to_owned() } else { number.to_string() };
    let count = |file| match list.dir.group(file, list.code_page()) {
        Ok(group) => group.members().count().to_string(),
        Err(error) => error.to_string(),
    };
    let subject = match settings.subject_text.as_deref() {
        None => "not changed".to_owned(),
        Some("") => list.address.name.clone(),
        Some(text) => text.to_owned(),
    };
    vec![
        ("Address", list.address.post()),
        ("Directory", list.dir.path().to_string()),
        ("Title", title.clone()),
        ("Owner", list.owner.clone()),
        ("Local administrator", local_administrator.clone()),
        ("Subject text", subject),
        ("Most bytes", number(settings.max_message_size, "none")),
        ("Reply to list", switch(settings.reply_to_list)),
        ("From replaced", if settings.skip_dmarc { "never" } else { "where DMARC asks for it" }.to_owned()),
        (
            "Archiving",
            if settings.archiving { "on; kept, but nothing is archived yet" } else { "off" }.to_owned(),
        ),
        (
            "Posting by",
            match settings.allow_posting {
                AllowPosting::Anyone => "anyone",
                AllowPosting::Subscribers => "subscribers",
                AllowPosting::Moderators => "moderators: what others send goes to the owner",
            }
            .to_owned(),
        ),
        ("Subject commands", switch(settings.commands_by_subject)),
        ("Private", switch(settings.private)),
        ("Posters list", switch(settings.posters)),
        ("List commands", switch(!settings.commands_disabled)),
        ("Password", if password.is_some() { "needed" } else { "none" }.to_owned()),
        ("Header", switch(settings.header)),
        ("Trailer", switch(settings.trailer)),
        ("Digests", digest.as_ref().map_or("off".to_owned(), self::digest)),
        (
            "Language",
            match list.language {
                Language::English => "English",
                Language::Japanese => "Japanese",
            }
            .to_owned(),
        ),
        ("Confirmation", switch(settings.confirm)),
        ("Days with bounces", number(u64::from(*bounce_limit), "any number")),
        ("Members", count(File::Members)),
        ("Digest members", count(File::Digest)),
        ("Posters", count(File::Posters)),
        ("On hold", count(File::Hold)),
    ]
}

fn digest(digest: &Digest) -> String {
    let when = match (digest.schedule, digest.size) {
        (None, 0) => "never sent".to_owned(),
        (Some(schedule), 0) => format!("sent {schedule}"),
        (None, size) => format!("sent at {size} bytes"),
        (Some(schedule), size) => format!("sent {schedule}, and at {size} bytes"),
    };
    format!("in the mailbox {}, {when}", digest.mailbox)
}

impl About {
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.0 {
            let _ = writeln!(out, "{:<20} {value}", format!("{name}:"));
        }
        out
    }

    pub(super) fn json(&self) -> Value {
        let all = self.0.iter().map(|(name, value)| (name.to_lowercase().replace(' ', "_"), json!(value)));
        Value::Object(all.collect())
    }
}
