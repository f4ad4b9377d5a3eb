//! Making messages and handing them to the spool, where a running server finds them at once and one that starts later finds them too.
//!
//! Texts that are not plain ASCII go as UTF-8: header lines in encoded words (RFC 2047), the body in base64.
//!
//! Failure: the disk's error; then nothing will be delivered. Limits: [`TEXT_MAX`], [`RECIPIENTS_MAX`].

use std::io::{self, Read as _};
use std::path::Path;

use chrono::{DateTime, Local};
use layout::mbx::compose::Source;
use layout::mime::{LINE_MAX, Utf8, base64_lines, header_text};
use layout::name::{DomainName, SpoolId};
use layout::owner::give_to_owner;
use layout::registry::model::Registry;
use layout::registry::places::spool_path;
use layout::root::Root;
use layout::spool::id::{IdSource, ItemName, Origin, Role};
use layout::spool::qfile::{Envelope, Fields, Recipient};
use layout::spool::store::{Body, Store};
use layout::text;

use crate::program::Failure;
use crate::program::lines::load;
use crate::program::registry::domain_of;
use crate::program::switches::{Given, UsageError};

/// Largest text of a message, in bytes.
pub const TEXT_MAX: u64 = 64 << 20;
/// Recipients of one item of the spool, at most; more make further items.
pub const RECIPIENTS_MAX: usize = 1000;

/// A message to be made.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// Its author.
    pub from: String,
    /// Who stands in `To:`; nobody makes it "undisclosed recipients".
    pub to: Vec<String>,
    /// Who stands in `Cc:`.
    pub cc: Vec<String>,
    /// The subject.
    pub subject: String,
    /// The text.
    pub text: String,
    /// Is it for so many that nobody's program should answer?
    pub bulk: bool,
}

/// The message's bytes.
pub fn compose(message: &Message, date: DateTime<Local>, id: SpoolId) -> Vec<u8> {
    let host = message.from.rsplit_once('@').map_or("localhost", |(_, host)| host);
    let to =
        if message.to.is_empty() { "undisclosed-recipients:;".to_owned() } else { message.to.join(",\r\n ") };
    let mut lines = vec![
        format!("Date: {}", date.format("%a, %d %b %Y %H:%M:%S %z")),
        format!("From: <{}>", message.from),
        format!("To: {to}"),
    ];
    if !message.cc.is_empty() {
        lines.push(format!("Cc: {}", message.cc.join(",\r\n ")));
    }
    lines.push(format!("Subject: {}", header_text(&message.subject, &Utf8, "Subject: ".len())));
    lines.push(format!("Message-Id: <{id}@{host}>"));
    if message.bulk {
        lines.extend(["Precedence: bulk".to_owned(), "Auto-Submitted: auto-generated".to_owned()]);
    }
    let text = message.text.lines().map(|line| format!("{line}\r\n")).collect::<String>();
    let plain = text.is_ascii() && text.lines().all(|line| line.len() <= LINE_MAX);
    let (charset, coding) = if plain { ("us-ascii", "7bit") } else { ("utf-8", "base64") };
    lines.push("MIME-Version: 1.0".to_owned());
    lines.push(format!("Content-Type: text/plain; charset={charset}"));
    lines.push(format!("Content-Transfer-Encoding: {coding}"));
    let body = if plain { text.into_bytes() } else { base64_lines(text.as_bytes()) };
    [format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes(), body].concat()
}

/// A full address: a name without a domain is in the primary one.
pub fn address(registry: &Registry, text: &str) -> Result<String, String> {
    let text = text.trim();
    let wrong = || format!("{text:?} is no address");
    let full = match (text.contains('@'), registry.primary()) {
        (false, Some(domain)) => format!("{text}@{}", domain.name),
        _ => text.to_owned(),
    };
    let (local, domain) = full.rsplit_once('@').ok_or_else(wrong)?;
    let plain = local.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>(),;:\\\"@[]".contains(&byte));
    if local.is_empty() || !plain || DomainName::parse(domain).is_err() {
        return Err(wrong());
    }
    Ok(full)
}

/// The addresses behind a switch that may be given several times, each with commas or blanks in it.
pub fn addresses(given: &Given, name: &str, registry: &Registry) -> Result<Vec<String>, Failure> {
    let words = given.values(name).flat_map(|value| value.split([',', ' '])).filter(|word| !word.is_empty());
    let all: Result<Vec<String>, String> = words.map(|word| address(registry, word)).collect();
    all.map_err(|error| UsageError(format!("{name}: {error}")).into())
}

/// The sender: `--from`, else the postmaster of the domain, or of the primary.
pub fn sender(given: &Given, registry: &Registry, domain: Option<&str>) -> Result<String, Failure> {
    match given.value("--from") {
        Some(from) => address(registry, from).map_err(|error| UsageError(format!("--from: {error}")).into()),
        None => Ok(format!("postmaster@{}", domain_of(registry, domain).map_err(Failure::of)?.name)),
    }
}

/// The text of a message: that of `--file`, else standard input.
pub fn read_text(given: &Given, registry: &Registry) -> Result<String, Failure> {
    let code_page = registry.global.code_page;
    if let Some(file) = given.value("--file") {
        return load(Path::new(file), code_page).map_err(Failure::Failed);
    }
    let mut bytes = Vec::new();
    let told = |error: io::Error| Failure::Failed(format!("standard input: {error}"));
    io::stdin().lock().take(TEXT_MAX + 1).read_to_end(&mut bytes).map_err(told)?;
    if bytes.len() as u64 > TEXT_MAX {
        return Err(Failure::Failed("standard input: more than 64 MiB".to_owned()));
    }
    Ok(text::decode(&bytes, code_page).0)
}

/// The spool, for messages that programs send.
pub struct Post<'a> {
    root: &'a Root,
    registry: &'a Registry,
    store: Store,
    ids: IdSource,
}

impl<'a> Post<'a> {
    /// Opens the spool.
    pub fn new(root: &'a Root, registry: &'a Registry) -> io::Result<Post<'a>> {
        let store = Store::new(root)?;
        give_to_owner(root, store.dir())?;
        let ids = IdSource::new(root.shared_disk(), store.dir());
        Ok(Post { root, registry, store, ids })
    }

    /// An id that no message had before.
    pub fn id(&self) -> io::Result<SpoolId> {
        let id = self.ids.own();
        // Whoever runs as root must not take the numbers away from the server.
        give_to_owner(self.root, &self.root.find(self.store.dir(), "next.id"))?;
        id
    }

    /// Puts a message into the spool, all of it or nothing; the first item gets `id`. Answers with the names of the items.
    pub fn send(&self, id: SpoolId, from: &str, to: &[String], mail: &[u8]) -> io::Result<Vec<ItemName>> {
        let mut prepared = Vec::new();
        let mut names = Vec::new();
        let mut ids = std::iter::once(id);
        for some in to.chunks(RECIPIENTS_MAX) {
            let id = ids.next().map_or_else(|| self.ids.own(), Ok)?;
            let name = ItemName::new(id, Origin::Mail);
            let envelope = Envelope::new(&self.fields(&name, from, some));
            let item = self.store.prepare(&name, Body::Copy(Source::Bytes(mail.into())), &envelope)?;
            for role in [Role::Data, Role::Arriving] {
                give_to_owner(self.root, &self.store.path(role, &name))?;
            }
            prepared.push(item);
            names.push(name);
        }
        self.store.commit(prepared)?;
        Ok(names)
    }

    fn fields(&self, name: &ItemName, from: &str, to: &[String]) -> Fields {
        let global = &self.registry.global;
        let (user, domain) = from.rsplit_once('@').unwrap_or((from, ""));
        let domain = self.registry.domain_by_name(domain);
        let is_user = domain.is_some_and(|domain| domain.user(user).is_some());
        let host = domain.or_else(|| self.registry.primary()).map(|domain| domain.name.clone());
        Fields {
            data: spool_path(self.root, &global.top_dir, &name.file(Role::Data)),
            host: host.unwrap_or_default(),
            // Since 7.14 IMail's own program sets it (Ipswitch KB, "format of the Q file").
            auth_user: if is_user { from.to_owned() } else { String::new() },
            sender: from.to_owned(),
            recipients: to.iter().map(|address| Recipient::new(address)).collect(),
            ..Fields::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    #[test]
    fn messages_are_ascii_and_whole() {
        let mut message = Message {
            from: "a@b.example".into(),
            to: vec!["c@d.example".into()],
            cc: vec!["e@f.example".into()],
            subject: "hello".into(),
            text: "one\ntwo".into(),
            bulk: false,
        };
        let mail = String::from_utf8(compose(&message, Local::now(), SpoolId(1))).unwrap();
        assert!(mail.contains("\r\nSubject: hello\r\nMessage-Id: <0000000000000001@b.example>\r\n"));
        assert!(
            mail.contains("\r\nTo: c@d.example\r\nCc: e@f.example\r\n")
                && mail.ends_with("\r\n\r\none\r\ntwo\r\n")
        );
        message.subject = "\u{65e5}\u{672c}\u{8a9e}".repeat(12) + "\r\nBcc: x";
        message.text = "\u{3042}".repeat(100);
        message.bulk = true;
        message.to.clear();
        let mail = String::from_utf8(compose(&message, Local::now(), SpoolId(1))).unwrap();
        assert!(mail.is_ascii() && mail.split("\r\n").all(|line| line.len() <= 76), "{mail}");
        assert!(mail.contains("To: undisclosed-recipients:;\r\n") && !mail.contains("Bcc"));
        assert!(mail.contains("Precedence: bulk\r\nAuto-Submitted: auto-generated\r\n"));
        let (_, body) = mail.split_once("\r\n\r\n").unwrap();
        let body = STANDARD.decode(body.replace("\r\n", "")).unwrap();
        assert_eq!(String::from_utf8(body).unwrap(), message.text + "\r\n");
    }

    #[test]
    fn addresses_are_checked() {
        let doc = layout::registry::doc::Doc::parse(
            b"[Global]\nHostName=a.b\n[Domains\\a.b]\nAddress=$virtual001\n".to_vec(),
        )
        .0;
        let registry = Registry::from_doc(&doc);
        for (text, expected) in [
            ("mike", Some("mike@a.b")),
            (" x-y@c.example ", Some("x-y@c.example")),
            ("@c", None),
            ("a@", None),
            ("a b@c", None),
            ("a\r\n@c", None),
            ("a,b@c", None),
            ("", None),
        ] {
            assert_eq!(address(&registry, text).ok().as_deref(), expected, "{text:?}");
        }
    }
}
