//! The registry and the settings of lists without secrets.
//!
//! Values go out by a list of what is harmless, not by a list of what is secret: the names of many of IMail's values are not known, and a value
//! that imaild does not know cannot be why imaild does something. Numbers are harmless. Comments, and lines that are not understood, may hold a
//! password that somebody put aside, so they stay behind. The result can be read as a `registry.ini`.

use layout::list::settings::{NAMES, SettingsFile};
use layout::password::{Stored, classify};
use layout::registry::alias::{self, Alias};
use layout::registry::doc::{Doc, write_section};
use layout::registry::model::{ALIASES_KEY, IMPORTED, PATHS, ROUTES, SETTINGS, USERS};
use layout::registry::same_name;
use layout::registry::value::Written;
use std::borrow::Cow;

/// Stands for a value that stays behind.
const LEFT_OUT: &str = "(left out)";
/// Values of domains and users that are harmless, beside those of [`SETTINGS`].
const SHOWN: [&str; 7] = ["Official", "Aliases", "Address", "TopDir", "Language", "MailAddr", "FullName"];
/// No value with one of these in its name goes out, whatever else is said of it: settings to come will hold logins.
const NEVER: [&str; 6] = ["pass", "pwd", "secret", "private", "token", "credential"];
/// The sections of ours that say where things are.
const OURS: [&str; 3] = [PATHS, ROUTES, IMPORTED];

/// What may be shown of a registry.
pub(super) fn registry(doc: &Doc) -> String {
    let mut text = String::from(
        "; Passwords, comments, and the values that imaild does not know were left out by imaild support.\r\n\r\n",
    );
    for section in doc.sections() {
        let path = section.path();
        let values: Vec<_> = section.values().collect();
        let shown = values.iter().map(|(name, value)| (name.as_ref(), shown(path, name, value).to_text()));
        write_section(&mut text, path, shown);
    }
    text
}

fn shown<'a>(path: &str, name: &str, value: &Written<'a>) -> Written<'a> {
    let left_out = || Written::Text(Cow::Borrowed(LEFT_OUT));
    let last = path.rsplit('\\').next().unwrap_or_default();
    if is_user(path) && same_name(name, "Password") {
        return Written::Text(Cow::Owned(password(last, value)));
    }
    let folded = name.to_lowercase();
    if NEVER.iter().any(|word| folded.contains(word)) && !same_name(last, ALIASES_KEY) {
        return left_out();
    }
    match value {
        Written::Dword(..) | Written::Qword(_) => value.clone(),
        _ if same_name(last, ALIASES_KEY) => alias(value).unwrap_or_else(left_out),
        _ if OURS.iter().any(|ours| same_name(path, ours)) => value.clone(),
        _ if is_known(name) => value.clone(),
        _ => left_out(),
    }
}

fn is_user(path: &str) -> bool {
    path.split('\\').rev().nth(1).is_some_and(|parent| same_name(parent, USERS))
}

fn is_known(name: &str) -> bool {
    let setting = SETTINGS
        .iter()
        .any(|row| same_name(row.name, name) || row.synonyms.iter().any(|synonym| same_name(synonym, name)));
    setting || SHOWN.iter().any(|shown| same_name(shown, name))
}

/// What kind of password a user has. Not its length: with IMail's code that is the password's.
fn password(id: &str, value: &Written<'_>) -> String {
    let kind = match value.as_text().map(|text| classify(id, &text)) {
        Some(Stored::Empty) => return String::new(),
        Some(Stored::Imail) => "IMail's code",
        Some(Stored::Argon2) => "Argon2id",
        Some(Stored::Unknown) | None => "an unknown form",
    };
    format!("(left out: {kind})")
}

/// An alias. What a program is called with may be anything.
fn alias<'a>(value: &Written<'a>) -> Option<Written<'a>> {
    let text = value.as_text()?;
    match alias::classify(&text) {
        Alias::Standard(_) | Alias::Group(_) | Alias::ListServer(_) => Some(value.clone()),
        Alias::Program(program) => {
            let arguments = if program.arguments.is_empty() { "" } else { " (arguments left out)" };
            Some(Written::Text(Cow::Owned(format!("|{}{arguments}", program.file))))
        }
        Alias::Unclear => None,
    }
}

/// What may be shown of a list's settings.
pub(super) fn list(file: &SettingsFile) -> String {
    let names = NAMES.iter().filter(|name| !same_name(name, "Password"));
    let line = |name: &&str| file.get(name).map(|value| format!("{name}={value}\n"));
    names.filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_goes_out() {
        let source = b"; Password=HUSH1\n[Global]\nHostName=a.b\nGateHost=gate.example\nGatePassword=HUSH2\nODBC=DSN=x;UID=y;PWD=HUSH3\n\
            SampleNumber=dword:00000007\nLicense=hex:48,55,53,48\nPASSPHRASE=dec:4711\nbroken HUSH4 line\n[Routes]\nx.example=192.0.2.1:25\n\
            [Domains\\a.b\\Users\\mike]\nFullName=Mike\nPassword=DFD8CED0E0\nFlags=dec:128\n[Domains\\a.b\\Users\\mike\\WebMsg]\nKey=HUSH5\n\
            [Domains\\a.b\\Users\\ann]\nPassword={ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQxMjM$HUSH600000000000000000000000000000000000000\n\
            [Domains\\a.b\\Users\\new]\nPassword=\n\
            [Domains\\a.b\\Users\\Password]\nFullName=P\nPassword=HUSH7\n\
            [Domains\\a.b\\Users\\_aliases]\nsales=mike,ann\nfax=\"|C:\\\\fax.exe /key HUSH8\"\npassword-help=mike\nodd=a|HUSH9\n"
            .to_vec();
        let (doc, complaints) = Doc::parse(source);
        assert_eq!(complaints.len(), 1);
        let text = registry(&doc);
        assert!(!text.contains("HUSH") && !text.contains("DFD8") && !text.contains("48,55"), "{text}");
        for part in [
            "HostName=a.b\r\n",
            "GateHost=gate.example\r\n",
            "GatePassword=(left out)\r\n",
            "ODBC=(left out)\r\n",
            "SampleNumber=dword:00000007\r\n",
            "License=(left out)\r\n",
            "PASSPHRASE=(left out)\r\n",
            "x.example=192.0.2.1:25\r\n",
            "FullName=Mike\r\nPassword=(left out: IMail's code)\r\nFlags=dec:128\r\n",
            "Password=(left out: Argon2id)\r\n",
            "[Domains\\a.b\\Users\\new]\r\nPassword=\r\n",
            "sales=mike,ann\r\n",
            "password-help=mike\r\n",
            "fax=|C:\\fax.exe (arguments left out)\r\n",
            "odd=(left out)\r\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        let (_, complaints) = Doc::parse(text.into_bytes());
        assert_eq!(complaints, [], "it can be read as a registry");
    }

    /// A setting of ours whose name says that it is a secret needs a look at this module.
    #[test]
    fn no_setting_is_a_secret_today() {
        let secret = |name: &str| NEVER.iter().any(|word| name.to_lowercase().contains(word));
        assert!(SETTINGS.iter().all(|row| !secret(row.name)));
        let lists: Vec<_> = NAMES.into_iter().filter(|name| secret(name)).collect();
        assert_eq!(lists, ["PrivateList", "UsePassword", "Password"]);
    }

    #[test]
    fn lists_without_their_passwords() {
        let file = SettingsFile::parse(
            b"; Password=old\nTitle=T\nusepassword=1\nPASSWORD=HUSH\nOwner=a@b\nOther=HUSH\n".to_vec(),
            layout::text::CodePage::default(),
        );
        assert_eq!(list(&file), "Title=T\nOwner=a@b\nUsePassword=1\n");
    }
}
