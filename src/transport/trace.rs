//! The lines that a message gets when it comes in: pure functions.

use chrono::{DateTime, Local};
use layout::mbx::header::{field, lines};
use layout::name::SpoolId;
use std::net::IpAddr;

/// Messages with more `Received` lines than this go around in circles (our limit; IMail's is not known).
pub const HOPS_MAX: usize = 30;

/// What is known of a message's arrival.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The message's id.
    pub id: SpoolId,
    /// The name that the client gave itself.
    pub helo: String,
    /// Was it EHLO?
    pub extended: bool,
    /// The client's address.
    pub client: IpAddr,
    /// Our name.
    pub host: String,
    /// Did it come over TLS?
    pub secure: bool,
    /// Did the client log in?
    pub authenticated: bool,
    /// Envelope sender.
    pub sender: String,
    /// Did the client say SMTPUTF8?
    pub utf8: bool,
}

/// The `Received` field, in the shape of real ones (11.5 and 12.5): folded behind the protocol word (RFC 3848), which is missing after HELO.
pub fn received(origin: &Origin, now: DateTime<Local>) -> String {
    let Origin { id, helo, client, host, .. } = origin;
    // RFC 3848, and RFC 6531 section 4.3 for UTF8.
    let with = match (origin.extended, origin.utf8) {
        (true, true) => " with UTF8SMTP",
        (true, false) => " with ESMTP",
        (false, _) => "",
    };
    let secure = if origin.extended && origin.secure { "S" } else { "" };
    let authenticated = if origin.extended && origin.authenticated { "A" } else { "" };
    let helo: String = helo.chars().filter(|c| c.is_ascii_graphic()).collect();
    format!(
        "Received: from {helo} [{client}] by {host}{with}{secure}{authenticated}\r\n  (SMTPD-12) id {id}; {}\r\n",
        date(now)
    )
}

/// A date as IMail writes it: one blank between all parts, the day with two digits, a numeric zone.
fn date(now: DateTime<Local>) -> String {
    now.format("%a, %d %b %Y %H:%M:%S %z").to_string()
}

/// Fields that the message lacks: `Message-Id` and `Date` for everybody, `From` only for users who logged in (RFC 6409 §8).
pub fn missing(origin: &Origin, header: &[u8], now: DateTime<Local>) -> String {
    let has = |name: &str| lines(header).any(|(_, line)| field(line, name).is_some());
    let mut added = String::new();
    if !has("message-id") {
        // Sample of 12.5: <202405190628555.SM184056@[192.0.2.199]>, connection number in decimal; what the three digits behind the
        // minute are is not known, milliseconds chosen.
        let time = now.format("%Y%m%d%H%M%3f");
        let right = if is_host(&origin.helo) { &origin.helo } else { &origin.host };
        added.push_str(&format!("Message-Id: <{time}.SM{}@{right}>\r\n", origin.id.connection()));
    }
    if !has("date") {
        added.push_str(&format!("Date: {}\r\n", date(now)));
    }
    if origin.authenticated && !has("from") {
        added.push_str(&format!("From: <{}>\r\n", origin.sender));
    }
    added
}

/// A host name or an address literal, good for the right side of a Message-Id.
fn is_host(name: &str) -> bool {
    let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    !inner.is_empty() && inner.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:".contains(&b))
}

/// How many servers the message passed.
pub fn hops(header: &[u8]) -> usize {
    lines(header).filter(|(_, line)| field(line, "received").is_some()).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone as _;

    fn origin() -> Origin {
        Origin {
            id: SpoolId(0xb402_0002_cef8_0aa1),
            helo: "[192.0.2.199]".into(),
            extended: true,
            client: "192.0.2.199".parse().unwrap(),
            host: "mail.example.jp".into(),
            secure: false,
            authenticated: false,
            sender: "a@example.jp".into(),
            utf8: false,
        }
    }

    #[test]
    fn lines_look_like_imails() {
        let now = Local.with_ymd_and_hms(2024, 5, 9, 6, 28, 55).unwrap();
        let zone = now.format("%z");
        assert_eq!(
            received(&origin(), now),
            format!(
                "Received: from [192.0.2.199] [192.0.2.199] by mail.example.jp with ESMTP\r\n  (SMTPD-12) id b4020002cef80aa1; Thu, 09 May 2024 06:28:55 {zone}\r\n"
            )
        );
        assert!(received(&Origin { authenticated: true, ..origin() }, now).contains("with ESMTPA\r\n"));
        assert!(received(&Origin { secure: true, ..origin() }, now).contains("with ESMTPS\r\n"));
        let both = Origin { secure: true, authenticated: true, ..origin() };
        assert!(received(&both, now).contains("with ESMTPSA\r\n"));
        assert!(received(&Origin { utf8: true, ..both }, now).contains("with UTF8SMTPSA\r\n"));
        assert!(received(&Origin { extended: false, ..origin() }, now).contains("by mail.example.jp\r\n"));
        assert_eq!(
            missing(&origin(), b"Subject: x\r\n\r\n", now),
            format!(
                "Message-Id: <202405090628000.SM184056@[192.0.2.199]>\r\nDate: Thu, 09 May 2024 06:28:55 {zone}\r\n"
            )
        );
        let authenticated = Origin { authenticated: true, ..origin() };
        assert_eq!(
            missing(&authenticated, b"message-id: <1@x>\r\nDate: x\r\n\r\n", now),
            "From: <a@example.jp>\r\n"
        );
        assert_eq!(hops(b"Received: a\r\n\tb\r\nRECEIVED: c\r\nX-Received: d\r\n\r\n"), 2);
    }
}
