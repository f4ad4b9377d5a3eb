//! The `list.ini` that import writes for a list of the old server.
//!
//! Where IMail kept the settings of a list is not known. Values of a list key that have a name of ours are taken over; where nothing says who may
//! post, each post goes to the owner, who decides, so that none reaches the wrong people.

use layout::list::settings::{NAMES, SettingsFile};
use layout::registry::doc::Doc;
use layout::registry::model::domain_path;

/// The settings file of a list that has none: what the registry says of it, else the owner and moderation.
pub(super) fn settings_of(doc: &Doc, domain: &str, list: &str) -> SettingsFile {
    let key = key_of(domain, list);
    let mut file = SettingsFile::new(&[
        "Settings of this list. Where the registry of the old server says nothing of who may post, every post goes to the",
        "owner until AllowPostingBy is Subscribers or Anyone.",
    ]);
    for name in NAMES {
        match (old_value(doc, &key, name), name) {
            (Some(value), _) => file.set(name, &value),
            (None, "Owner") => file.set(name, &format!("postmaster@{domain}")),
            (None, "AllowPostingBy") => file.set(name, "Moderators"),
            _ => {}
        }
    }
    file
}

/// The names of the settings that an old list key has.
pub(super) fn taken_over(doc: &Doc, domain: &str, list: &str) -> Vec<&'static str> {
    let key = key_of(domain, list);
    NAMES.into_iter().filter(|name| old_value(doc, &key, name).is_some()).collect()
}

/// The lists of a domain that the old registry has a key of.
pub(super) fn in_registry<'a>(doc: &'a Doc, domain: &str) -> Vec<&'a str> {
    doc.children(&format!("{}\\Lists", domain_path(domain)))
}

fn key_of(domain: &str, list: &str) -> String {
    format!("{}\\Lists\\{list}", domain_path(domain))
}

/// A value of an old list key, as text, if it may stand in a line.
fn old_value(doc: &Doc, key: &str, name: &str) -> Option<String> {
    let number = || doc.get_number(key, name).map(|number| number.to_string());
    let old = doc.get_text(key, name).or_else(number);
    old.filter(|value| !value.is_empty() && !value.contains(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_values_are_taken_over() {
        let text = "[Domains\\a.b\\Lists\\news]\nowner=ann@a.b\nTitle=The News\nDirectory=C:\\x\nPrivateList=dword:00000001\n";
        let (doc, _) = Doc::parse(text.as_bytes().to_vec());
        let lines = |list| -> Vec<String> {
            String::from_utf8(settings_of(&doc, "a.b", list).write().to_vec())
                .unwrap()
                .lines()
                .filter(|line| !line.starts_with(';'))
                .map(str::to_owned)
                .collect()
        };
        assert_eq!(
            lines("News"),
            ["Title=The News", "Owner=ann@a.b", "AllowPostingBy=Moderators", "PrivateList=1"]
        );
        assert_eq!(taken_over(&doc, "a.b", "NEWS"), ["Title", "Owner", "PrivateList"]);
        assert_eq!(lines("other"), ["Owner=postmaster@a.b", "AllowPostingBy=Moderators"]);
    }
}
