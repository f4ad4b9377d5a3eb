//! The `list.ini` that import writes for a list of the old server.
//!
//! Where IMail kept the settings of a list is not known, so an old list loses its settings in the move. What import writes
//! makes sure that no post reaches the wrong people meanwhile: each goes to the owner, who decides.

use layout::registry::doc::Doc;
use layout::registry::model::domain_path;

/// The settings of a list. The names are ours; a value of an old list key is taken over if it has one of them.
pub(super) const SETTINGS: [&str; 25] = [
    "Title",
    "Owner",
    "LocalAdministrator",
    "EnableSubjectModification",
    "SubjectText",
    "MaxMessageSize",
    "ReplyToList",
    "SkipDmarcFromReplacement",
    "EnableArchiving",
    "AllowPostingBy",
    "AllowUnsubscribeBySubject",
    "PrivateList",
    "EnablePostersList",
    "DisableListCommands",
    "UsePassword",
    "Password",
    "EnableHeader",
    "EnableTrailer",
    "DigestMode",
    "DigestMailbox",
    "DigestSchedule",
    "DigestSize",
    "Language",
    "ConfirmSubscriptions",
    "BounceLimit",
];

/// The settings file of a list that has none: what the registry says of it, else the owner and moderation.
pub(super) fn settings_of(doc: &Doc, domain: &str, list: &str) -> String {
    let key = format!("{}\\Lists\\{list}", domain_path(domain));
    let mut lines = vec![
        "; Settings of this list. The settings that the old server had are not in its registry, so every post goes to".to_owned(),
        "; the owner until AllowPostingBy is Subscribers or Anyone.".to_owned(),
    ];
    for name in SETTINGS {
        let line = |value: String| format!("{name}={value}");
        let number = || doc.get_number(&key, name).map(|number| number.to_string());
        let old = doc.get_text(&key, name).or_else(number);
        let old = old.filter(|value| !value.is_empty() && !value.contains(char::is_control));
        match (old, name) {
            (Some(value), _) => lines.push(line(value)),
            (None, "Owner") => lines.push(line(format!("postmaster@{domain}"))),
            (None, "AllowPostingBy") => lines.push(line("Moderators".to_owned())),
            _ => {}
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_values_are_taken_over() {
        let text = "[Domains\\a.b\\Lists\\news]\nowner=ann@a.b\nTitle=The News\nDirectory=C:\\x\nPrivateList=dword:00000001\n";
        let (doc, _) = Doc::parse(text.as_bytes().to_vec());
        let lines = |list| -> Vec<String> {
            settings_of(&doc, "a.b", list)
                .lines()
                .filter(|line| !line.starts_with(';'))
                .map(str::to_owned)
                .collect()
        };
        assert_eq!(
            lines("News"),
            ["Title=The News", "Owner=ann@a.b", "AllowPostingBy=Moderators", "PrivateList=1"]
        );
        assert_eq!(lines("other"), ["Owner=postmaster@a.b", "AllowPostingBy=Moderators"]);
    }
}
