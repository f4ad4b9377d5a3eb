//! `list.ini`: the settings of a mailing list.
//!
//! The file is ours: where IMail kept the settings of a list is not known. One `Name=value` a line, `;` before a comment, UTF-8; names
//! without regard to case. A line that is not understood, and the order of all lines, survive every change.
//!
//! # Failure
//! Reading never fails: a missing line means off, 0 or empty, but for `AllowPostingBy`, which means the moderator, so that no post reaches
//! people who were not meant. [`SettingsFile::complaints`] names what is not understood.
//!
//! # Limits
//! The caller reads at most [`SETTINGS_FILE_MAX`](crate::limits::SETTINGS_FILE_MAX) bytes.

use crate::list::schedule::Schedule;
use crate::password::Secret;
use crate::text::{self, CodePage, LineEnd, UTF8_BOM};

/// All settings, in the order in which they are written into a new file.
pub const NAMES: [&str; 25] = [
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

/// The settings that are on or off.
const SWITCHES: [&str; 13] = [
    "EnableSubjectModification",
    "ReplyToList",
    "SkipDmarcFromReplacement",
    "EnableArchiving",
    "AllowUnsubscribeBySubject",
    "PrivateList",
    "EnablePostersList",
    "DisableListCommands",
    "UsePassword",
    "EnableHeader",
    "EnableTrailer",
    "DigestMode",
    "ConfirmSubscriptions",
];

/// On so many days a member's mail may bounce before the member is put on hold.
pub const DEFAULT_BOUNCE_LIMIT: u32 = 5;

/// Who may post (manual 3-2 (11 a)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AllowPosting {
    /// Everybody.
    Anyone,
    /// The members.
    Subscribers,
    /// The owner; what others send goes to the owner.
    #[default]
    Moderators,
}

/// The words of `AllowPostingBy`; singular forms are in older helps.
const POSTING_WORDS: [(&str, AllowPosting); 5] = [
    ("Anyone", AllowPosting::Anyone),
    ("Subscribers", AllowPosting::Subscribers),
    ("Subscriber", AllowPosting::Subscribers),
    ("Moderators", AllowPosting::Moderators),
    ("Moderator", AllowPosting::Moderators),
];

/// The language of what the list server writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Language {
    /// English.
    #[default]
    English,
    /// Japanese.
    Japanese,
}

impl Language {
    /// A language by its tag or name: `ja`, `ja-JP`, `Japanese`; `en` and `English`. `None` for others.
    pub fn parse(word: &str) -> Option<Language> {
        let word = word.trim().to_ascii_lowercase();
        match word.as_bytes() {
            [b'j', b'a', ..] => Some(Language::Japanese),
            [b'e', b'n', ..] => Some(Language::English),
            _ => None,
        }
    }
}

/// How and when digests are sent.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Digest {
    /// The sub-mailbox of the list's administrator that collects the posts.
    pub mailbox: String,
    /// When it is sent.
    pub schedule: Option<Schedule>,
    /// It is sent as well when the mailbox has so many bytes; 0 is never.
    pub size: u64,
}

/// What `list.ini` says.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What the list is for; never in mail (manual 3-2 (2)).
    pub title: String,
    /// The owner's address; empty means the postmaster.
    pub owner: String,
    /// A user of the domain who administers this list.
    pub local_administrator: String,
    /// The text in front of subjects; `None` if subjects are not changed, empty for the list's name (older help: the default).
    pub subject_text: Option<String>,
    /// The largest post in bytes; 0 is any.
    pub max_message_size: u64,
    /// Do answers go to the list?
    pub reply_to_list: bool,
    /// Does the author's address always stay in From?
    pub skip_dmarc: bool,
    /// Is the list archived?
    pub archiving: bool,
    /// Who may post.
    pub allow_posting: AllowPosting,
    /// Are commands taken in the subject of mail to the list?
    pub commands_by_subject: bool,
    /// Is Subscribe taken from members only?
    pub private: bool,
    /// Does the posters file count?
    pub posters: bool,
    /// Are list commands refused?
    pub commands_disabled: bool,
    /// The password that a post must bear in its subject.
    pub password: Option<Secret>,
    /// Does a text go in front of each post?
    pub header: bool,
    /// Does a text go behind each post?
    pub trailer: bool,
    /// Digests, if there are any.
    pub digest: Option<Digest>,
    /// The language of replies; `None` is that of the domain.
    pub language: Option<Language>,
    /// Must a subscriber confirm?
    pub confirm: bool,
    /// So many days with bounces put a member on hold; 0 is never.
    pub bounce_limit: u32,
}

/// The file, line by line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingsFile {
    bytes: Vec<u8>,
    /// What a line is written in that is no UTF-8.
    code_page: CodePage,
}

impl SettingsFile {
    /// Reads a file; an empty one stands for one that is missing.
    pub fn parse(bytes: Vec<u8>, code_page: CodePage) -> SettingsFile {
        SettingsFile { bytes, code_page }
    }

    /// A new file with these comment lines in front.
    pub fn new(comments: &[&str]) -> SettingsFile {
        let bytes = comments.iter().map(|line| format!("; {line}\n")).collect::<String>().into_bytes();
        SettingsFile { bytes, code_page: CodePage::default() }
    }

    /// The file's bytes.
    pub fn write(&self) -> &[u8] {
        &self.bytes
    }

    /// The value of a setting; the last of several lines counts.
    pub fn get(&self, name: &str) -> Option<String> {
        let values = text::lines(&self.bytes).filter_map(|(line, _)| entry(line, self.code_page));
        values.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).last()
    }

    /// Changes a setting: the line that counts is replaced, or one is added at the end. Every other byte stays, but for the line end that the
    /// last line may lack. Control characters of the value are left out.
    pub fn set(&mut self, name: &str, value: &str) {
        let value: String = value.chars().filter(|c| !c.is_control()).collect();
        let written = format!("{name}={}", value.trim());
        let lines: Vec<_> = text::lines(&self.bytes).collect();
        let is_it =
            |line: &[u8]| entry(line, self.code_page).is_some_and(|(key, _)| key.eq_ignore_ascii_case(name));
        let at = lines.iter().rposition(|(line, _)| is_it(line));
        let mut out = Vec::with_capacity(self.bytes.len() + written.len() + 2);
        for (index, (line, end)) in lines.iter().enumerate() {
            match at == Some(index) {
                true => {
                    out.extend_from_slice(if line.starts_with(UTF8_BOM) { UTF8_BOM } else { b"" });
                    out.extend_from_slice(written.as_bytes());
                }
                false => out.extend_from_slice(line),
            }
            out.extend_from_slice(end.bytes());
        }
        if at.is_none() {
            let end = text::usual_line_end(&self.bytes, LineEnd::Lf).bytes();
            if !out.is_empty() && !out.ends_with(b"\n") {
                out.extend_from_slice(end);
            }
            out.extend_from_slice(written.as_bytes());
            out.extend_from_slice(end);
        }
        self.bytes = out;
    }

    /// Everything that the file says.
    pub fn settings(&self) -> Settings {
        let text = |name| self.get(name).unwrap_or_default();
        let switch = |name| self.get(name).is_some_and(|value| is_on(&value));
        let number = |name| self.get(name).and_then(|value| value.parse().ok());
        let posting = self.get("AllowPostingBy").and_then(|word| allow_posting(&word));
        let digest = || Digest {
            mailbox: Some(text("DigestMailbox")).filter(|name| !name.is_empty()).unwrap_or("digest".into()),
            schedule: Schedule::parse(&text("DigestSchedule")),
            size: number("DigestSize").unwrap_or(0),
        };
        Settings {
            title: text("Title"),
            owner: text("Owner"),
            local_administrator: text("LocalAdministrator"),
            subject_text: switch("EnableSubjectModification").then(|| text("SubjectText")),
            max_message_size: number("MaxMessageSize").unwrap_or(0),
            reply_to_list: switch("ReplyToList"),
            skip_dmarc: switch("SkipDmarcFromReplacement"),
            archiving: switch("EnableArchiving"),
            allow_posting: posting.unwrap_or_default(),
            commands_by_subject: switch("AllowUnsubscribeBySubject"),
            private: switch("PrivateList"),
            posters: switch("EnablePostersList"),
            commands_disabled: switch("DisableListCommands"),
            password: switch("UsePassword").then(|| Secret::new(text("Password"))),
            header: switch("EnableHeader"),
            trailer: switch("EnableTrailer"),
            digest: switch("DigestMode").then(digest),
            language: Language::parse(&text("Language")),
            confirm: switch("ConfirmSubscriptions"),
            bounce_limit: number("BounceLimit").map_or(DEFAULT_BOUNCE_LIMIT, |n: u64| n.min(1000) as u32),
        }
    }

    /// Lines and values that mean nothing here, each in words for the list's owner.
    pub fn complaints(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (at, (line, _)) in text::lines(&self.bytes).enumerate() {
            let Some((name, value)) = entry(line, self.code_page) else {
                if !is_comment(line) {
                    found.push(format!("line {}: not of the form Name=value", at + 1));
                }
                continue;
            };
            let complaint = match NAMES.iter().find(|known| known.eq_ignore_ascii_case(&name)) {
                None => Some("no setting of this name"),
                Some(known) => wrong_value(known, &value),
            };
            found.extend(complaint.map(|what| format!("line {}: {name}: {what}", at + 1)));
        }
        found
    }
}

/// What is wrong with a value, if anything is.
fn wrong_value(name: &str, value: &str) -> Option<&'static str> {
    let (digits, empty) = (value.parse::<u64>().is_ok(), value.is_empty());
    match name {
        _ if empty => None,
        "AllowPostingBy" if allow_posting(value).is_none() => {
            Some("must be Anyone, Subscribers or Moderators; until then it is Moderators")
        }
        "Language" if Language::parse(value).is_none() => Some("must be ja or en"),
        "DigestSchedule" if Schedule::parse(value).is_none() => {
            Some("must be like 'daily 18:00' or 'weekly Mon 18:00'")
        }
        "MaxMessageSize" | "DigestSize" | "BounceLimit" if !digits => Some("must be a number"),
        _ if SWITCHES.contains(&name) && !digits => Some("must be 0 or 1"),
        _ => None,
    }
}

/// Name and value of a line; `None` for comments and lines without `=`. Blanks around both do not count.
fn entry(line: &[u8], code_page: CodePage) -> Option<(String, String)> {
    if is_comment(line) {
        return None;
    }
    let (line, _) = text::decode(line, code_page);
    let (name, value) = line.split_once('=')?;
    let clean = |text: &str| text.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned();
    Some((clean(name), clean(value)))
}

/// Comments, empty lines and section names say nothing.
fn is_comment(line: &[u8]) -> bool {
    let line = line.strip_prefix(UTF8_BOM).unwrap_or(line).trim_ascii();
    line.is_empty() || matches!(line.first(), Some(b';' | b'#' | b'['))
}

fn is_on(value: &str) -> bool {
    value.parse::<u64>().is_ok_and(|number| number != 0)
}

fn allow_posting(word: &str) -> Option<AllowPosting> {
    POSTING_WORDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(word)).map(|(_, allow)| *allow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(text: &str) -> SettingsFile {
        SettingsFile::parse(text.as_bytes().to_vec(), CodePage::default())
    }

    #[test]
    fn a_missing_file_lets_nobody_post() {
        let settings = file("").settings();
        assert_eq!(settings.allow_posting, AllowPosting::Moderators);
        assert_eq!((settings.bounce_limit, settings.max_message_size), (DEFAULT_BOUNCE_LIMIT, 0));
        assert!(settings.password.is_none() && settings.digest.is_none() && settings.subject_text.is_none());
    }

    #[test]
    fn what_lines_mean() {
        let settings = file(
            "\u{feff}; comment\r\ntitle = News \r\nALLOWPOSTINGBY=subscribers\nUsePassword=1\nPassword=S e\u{5c71}\nLanguage=ja\n\
             EnableSubjectModification=1\nSubjectText=[n]\nBounceLimit=0\nDigestMode=1\nDigestSchedule=daily 18:00\nDigestSize=10\n\
             ReplyToList=0\nReplyToList=1\n",
        )
        .settings();
        assert_eq!(settings.title, "News");
        assert_eq!(settings.allow_posting, AllowPosting::Subscribers);
        assert_eq!(settings.password.as_ref().map(Secret::expose), Some("S e\u{5c71}"));
        assert_eq!(settings.subject_text.as_deref(), Some("[n]"));
        assert_eq!((settings.bounce_limit, settings.language), (0, Some(Language::Japanese)));
        let digest = settings.digest.unwrap();
        assert_eq!((digest.mailbox.as_str(), digest.size), ("digest", 10));
        assert!(digest.schedule.is_some() && settings.reply_to_list);
    }

    #[test]
    fn lines_of_the_code_page_are_read() {
        let cp932 = encoding_rs::SHIFT_JIS.encode("SubjectText=[連絡]\nTitle=会議\n").0.into_owned();
        let mut file = SettingsFile::parse(cp932.clone(), CodePage::Japanese);
        assert_eq!(
            (file.get("SubjectText").unwrap().as_str(), file.get("Title").unwrap().as_str()),
            ("[連絡]", "会議")
        );
        file.set("Title", "x");
        assert!(file.write().starts_with(&cp932[..cp932.len() / 2]));
    }

    #[test]
    fn changes_keep_every_other_byte() {
        let mut edited = file("; mine\r\nOwner=a@b\r\nowner=c@d\r\nWhat=\u{5c71}\r\nlast");
        edited.set("Owner", "x@y\r\nPassword=z");
        edited.set("Title", "T");
        assert_eq!(
            edited.write(),
            "; mine\r\nOwner=a@b\r\nOwner=x@yPassword=z\r\nWhat=\u{5c71}\r\nlast\r\nTitle=T\r\n".as_bytes()
        );
        let mut new = SettingsFile::new(&["Settings"]);
        new.set("Owner", "a@b");
        assert_eq!(new.write(), b"; Settings\nOwner=a@b\n");
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let wrong = "Owner=a@b\nFoo=1\nAllowPostingBy=friends\nMaxMessageSize=big\nPrivateList=yes\nLanguage=fr\n\
                     DigestSchedule=now\nnonsense\n; fine\n[also fine]\n";
        let lines: Vec<String> = file(wrong)
            .complaints()
            .iter()
            .map(|complaint| complaint.chars().skip(5).take_while(|c| *c != ':').collect())
            .collect();
        assert_eq!(lines, ["2", "3", "4", "5", "6", "7", "8"]);
        assert!(file("Owner=a@b\nPrivateList=1\nDigestSize=\n").complaints().is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_setting_that_was_set_reads_back(bytes in prop::collection::vec(
            prop_oneof![Just(b'='), Just(b'\r'), Just(b'\n'), Just(b';'), 0x20..0x7fu8, any::<u8>()], 0..80), value in "[a-z=;@ ]{0,12}") {
            let before = SettingsFile::parse(bytes.clone(), CodePage::default());
            prop_assert_eq!(before.write(), &bytes[..]);
            let mut edited = before.clone();
            edited.set("Owner", &value);
            prop_assert_eq!(edited.get("OWNER"), Some(value.trim().to_owned()));
            if before.get("Owner").is_none() {
                prop_assert!(edited.write().starts_with(&bytes));
            }
        }
    }
}
