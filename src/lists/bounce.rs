//! Which recipients a bounce says will never get the mail.
//!
//! Delivery status notifications (RFC 3464) say it in fields, IMail's own bounces in reason lines. What says it in neither way is not
//! counted: a member must not lose the list because of a text that was misread. Passing failures (status 4.x.x, a full mailbox, tries that were
//! used up) are not counted either.
//!
//! # Limits
//! [`RECIPIENTS_MAX`] recipients, [`READ_MAX`] bytes.

use crate::message::header::{fields, unfold};
use crate::message::structure::Structure;

/// The most recipients of one bounce.
pub const RECIPIENTS_MAX: usize = 1000;
/// How much of a bounce is read.
pub const READ_MAX: usize = 1 << 20;

/// IMail's reason lines for failures that last; the address is behind them.
const REASONS: [&str; 4] =
    ["Unknown user: ", "Invalid final delivery userid: ", "Unknown host: ", "undeliverable to "];

/// The addresses, each once, in lower case.
pub fn lasting(message: &[u8]) -> Vec<String> {
    let structure = Structure::parse(message);
    let report = structure
        .parts()
        .iter()
        .find(|part| part.content_type.value.eq_ignore_ascii_case(b"message/delivery-status"));
    let mut found = match report {
        Some(part) => of_report(structure.body(part)),
        None => of_text(structure.parts().first().map(|part| structure.body(part)).unwrap_or_default()),
    };
    found.sort();
    found.dedup();
    found.truncate(RECIPIENTS_MAX);
    found
}

/// The groups of fields behind the first, one for each recipient.
fn of_report(body: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(body).replace("\r\n", "\n");
    let group = |group: &str| {
        let value = |name: &[u8]| {
            let field = fields(group.as_bytes()).find(|field| field.is(name))?;
            Some(String::from_utf8_lossy(&unfold(field.value)).trim().to_ascii_lowercase())
        };
        let failed = value(b"action").is_some_and(|action| action.starts_with("failed"));
        let status = value(b"status").unwrap_or_default();
        let lasts = status.starts_with('5') && !status.starts_with("5.2.2");
        let address = value(b"original-recipient").or_else(|| value(b"final-recipient"));
        (failed && lasts).then_some(()).and(address.as_deref().map(typed))
    };
    text.split("\n\n").filter_map(|part| group(part.trim_start_matches('\n'))).collect()
}

/// An address behind its type: `rfc822; a@b`.
fn typed(value: &str) -> String {
    let address = value.split_once(';').map_or(value, |(_, address)| address);
    address.trim().trim_matches(['<', '>']).to_owned()
}

/// IMail's lines, up to the original message.
fn of_text(body: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(body);
    let lines = text.lines().take_while(|line| !line.starts_with("Original message follows"));
    let address = |line: &str| REASONS.iter().find_map(|reason| line.strip_prefix(reason)).map(typed);
    lines.filter_map(address).map(|address| address.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::bounce::{About, Entry, Failure, build, report, stage};
    use layout::mbx::compose::Source;
    use layout::spool::dsn::{Dsn, MessageDsn};

    #[test]
    fn what_our_own_bounces_say() {
        let refused = |code: &str| {
            Failure::undeliverable("gone@x").with_reply(stage::RCPT_TO, vec![format!("{code} no")])
        };
        for (failures, expected) in [
            (vec![Failure::unknown_user("Gone@x"), Failure::invalid_user("b@y")], vec!["b@y", "gone@x"]),
            (vec![Failure::mailbox_full("full@x")], vec![]),
            (vec![Failure::tries_used_up("slow@x", 20)], vec![]),
            (vec![refused("550 5.1.1")], vec!["gone@x"]),
        ] {
            let original = Source::Bytes(
                b"Subject: Unknown user: not@this\r\n\r\nUnknown user: nor@this\r\n".to_vec().into(),
            );
            let dsn = MessageDsn::default();
            let (host, to) = ("h.example", "s@h.example");
            let about = About {
                host,
                to,
                original: &original,
                dsn: &dsn,
                utf8: false,
                now: chrono::Local::now(),
                number: 1,
            };
            let entries: Vec<Entry> =
                failures.iter().map(|failure| Entry::failed(failure.clone(), &Dsn::default())).collect();
            for mail in [build(&about, &failures).unwrap(), report(&about, &entries).unwrap()] {
                assert_eq!(lasting(&mail), expected, "{}", String::from_utf8_lossy(&mail));
            }
        }
    }

    #[test]
    fn what_others_say() {
        let report = |action: &str, status: &str| {
            format!(
                "Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nSorry\r\n--b\r\n\
                 Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\nOriginal-Recipient: rfc822;A@b\r\n\
                 Final-Recipient: rfc822; other@c\r\nAction: {action}\r\nStatus: {status}\r\n\r\n--b--\r\n"
            )
        };
        for (action, status, expected) in [
            ("failed", "5.1.1", vec!["a@b"]),
            ("failed", "5.2.2", vec![]),
            ("failed", "4.4.7", vec![]),
            ("delayed", "4.4.1", vec![]),
            ("delivered", "2.0.0", vec![]),
        ] {
            assert_eq!(lasting(report(action, status).as_bytes()), expected, "{action} {status}");
        }
        assert!(lasting(b"Subject: out of office\r\n\r\nI am away: a@b\r\n").is_empty());
    }
}
