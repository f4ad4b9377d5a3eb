//! `kill.lst` and `accept.txt` of the IMail directory: senders that are refused, and senders that count as local (IMail help).
//!
//! # Failure
//! A file that is not there is empty; what else may happen to it, and the limits, say [`crate::config::files`].

use crate::config::files::{Files, Reader};
use layout::name::domain_key;
use layout::root::Root;
use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

const KILL_FILE: &str = "kill.lst";
const ACCEPT_FILE: &str = "accept.txt";

/// Senders that are refused: `user@host`, `@host`, and `@*part`, which means every host that ends so.
#[derive(Debug, Default)]
pub struct Killed {
    exact: HashSet<String>,
    endings: Vec<String>,
}

impl Killed {
    /// Reads the file.
    pub fn parse(text: &str) -> Killed {
        let mut killed = Killed::default();
        for (user, host) in text.lines().filter_map(|line| line.trim().rsplit_once('@')) {
            match host.strip_prefix('*').filter(|_| user.is_empty()) {
                Some("") => {}
                Some(ending) => killed.endings.push(domain_key(ending).into_owned()),
                None => _ = killed.exact.insert(key(user, host)),
            }
        }
        killed
    }

    /// Is this sender refused?
    pub fn contains(&self, sender: &str) -> bool {
        let Some((user, host)) = sender.rsplit_once('@') else { return false };
        self.exact.contains(&key(user, host))
            || self.exact.contains(&key("", host))
            || self.endings.iter().any(|ending| domain_key(host).ends_with(ending.as_str()))
    }
}

/// An address as it is compared.
fn key(user: &str, host: &str) -> String {
    format!("{}@{}", user.to_lowercase(), domain_key(host))
}

/// Senders that count as local: an address, a host or a client's IP on each line, compared as a whole.
#[derive(Debug, Default)]
pub struct Accepted(HashSet<String>);

impl Accepted {
    /// Reads the file.
    pub fn parse(text: &str) -> Accepted {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let line_key = |line: &str| match line.rsplit_once('@') {
            Some((user, host)) => key(user, host),
            None => domain_key(line).into_owned(),
        };
        Accepted(lines.map(line_key).collect())
    }

    /// Does the sender, its host or the client's address stand there?
    pub fn contains(&self, sender: &str, client: IpAddr) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let (user, host) = sender.rsplit_once('@').unwrap_or((sender, ""));
        self.0.contains(&key(user, host))
            || self.0.contains(&*domain_key(host))
            || self.0.contains(&client.to_canonical().to_string())
    }
}

/// Both files, as they are now.
#[derive(Default)]
pub struct SenderLists {
    killed: Files<Killed>,
    accepted: Files<Accepted>,
}

impl SenderLists {
    /// Who is refused.
    pub fn killed(&self, root: &Root) -> Arc<Killed> {
        self.killed
            .get(root, root.top(), KILL_FILE, |reader| Ok(Killed::parse(&text(reader, root, KILL_FILE)?)))
    }

    /// Who counts as local.
    pub fn accepted(&self, root: &Root) -> Arc<Accepted> {
        let make = |reader: &mut Reader<'_>| Ok(Accepted::parse(&text(reader, root, ACCEPT_FILE)?));
        self.accepted.get(root, root.top(), ACCEPT_FILE, make)
    }
}

fn text(reader: &mut Reader<'_>, root: &Root, name: &str) -> io::Result<String> {
    let bytes = reader.read(root.top(), name)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn killed_senders() {
        let killed = Killed::parse(
            "Bad@Example.net\r\n@spam.example\r\n @*widget.example \r\n\r\nnothing\r\n@*\r\n@日本.example",
        );
        for (sender, expected) in [
            ("bad@example.net", true),
            ("BAD@EXAMPLE.NET", true),
            ("good@example.net", false),
            ("anybody@spam.example", true),
            ("anybody@sub.spam.example", false),
            ("a@widget.example", true),
            ("a@bluewidget.example", true),
            ("a@\u{65e5}\u{672c}.example", true),
            ("a@xn--wgv71a.example", true),
            ("nothing", false),
            ("", false),
        ] {
            assert_eq!(killed.contains(sender), expected, "{sender}");
        }
    }

    #[test]
    fn accepted_senders() {
        let accepted = Accepted::parse("Mike@Example.net\r\npartner.example\r\n192.0.2.1\r\n");
        for (sender, client, expected) in [
            ("mike@example.net", "198.51.100.1", true),
            ("ann@example.net", "198.51.100.1", false),
            ("anybody@partner.example", "198.51.100.1", true),
            ("anybody@sub.partner.example", "198.51.100.1", false),
            ("anybody@example.org", "192.0.2.1", true),
        ] {
            assert_eq!(accepted.contains(sender, client.parse().unwrap()), expected, "{sender}");
        }
        assert!(!Accepted::default().contains("", "192.0.2.1".parse().unwrap()));
    }
}
