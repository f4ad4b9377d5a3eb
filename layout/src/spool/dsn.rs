//! What a sender wants to be told of a message (RFC 3461): the parameters of MAIL and RCPT, as the Q file keeps them.
//!
//! ENVID and ORCPT are kept as they came, in xtext, because they are handed on as they came; [`decoded`] is for reports.
//!
//! # Failure
//! `None` for what is not a value of the parameter.
//!
//! # Limits
//! [`ENVID_MAX`] and [`ORCPT_MAX`].

use std::fmt;

/// The longest ENVID, in characters as sent (RFC 3461 §4.4).
pub const ENVID_MAX: usize = 100;
/// The longest ORCPT, in characters as sent (RFC 3461 §4.2).
pub const ORCPT_MAX: usize = 500;

/// NOTIFY: of what the sender wants to be told (RFC 3461 §4.1). Nothing of it is `NEVER`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    /// That it was delivered.
    pub success: bool,
    /// That it was not.
    pub failure: bool,
    /// That it waits.
    pub delay: bool,
}

impl Notify {
    /// `NEVER`, or a list of `SUCCESS`, `FAILURE` and `DELAY`, in any case.
    pub fn parse(value: &str) -> Option<Notify> {
        let mut notify = Notify::default();
        if value.eq_ignore_ascii_case("NEVER") {
            return Some(notify);
        }
        for word in value.split(',') {
            match word.to_ascii_uppercase().as_str() {
                "SUCCESS" => notify.success = true,
                "FAILURE" => notify.failure = true,
                "DELAY" => notify.delay = true,
                _ => return None,
            }
        }
        Some(notify)
    }
}

impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [(self.success, "SUCCESS"), (self.failure, "FAILURE"), (self.delay, "DELAY")];
        let wanted: Vec<&str> = words.iter().filter(|(wanted, _)| *wanted).map(|(_, word)| *word).collect();
        f.write_str(if wanted.is_empty() { "NEVER" } else { "" })?;
        f.write_str(&wanted.join(","))
    }
}

/// RET: how much of the message comes back with a report of a failure (RFC 3461 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// `FULL`: the message.
    Full,
    /// `HDRS`: its header.
    Headers,
}

impl Return {
    /// Reads the parameter, in any case.
    pub fn parse(value: &str) -> Option<Return> {
        match value.to_ascii_uppercase().as_str() {
            "FULL" => Some(Return::Full),
            "HDRS" => Some(Return::Headers),
            _ => None,
        }
    }

    /// As the parameter has it.
    pub fn text(self) -> &'static str {
        match self {
            Return::Full => "FULL",
            Return::Headers => "HDRS",
        }
    }
}

/// What was asked for one recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dsn {
    /// NOTIFY, if it was given.
    pub notify: Option<Notify>,
    /// ORCPT as it was given, `rfc822;` and the address in xtext.
    pub original: Option<String>,
    /// Was the sender told that the message waits?
    pub delay_told: bool,
}

impl Dsn {
    /// Was anything asked?
    pub fn is_asked(&self) -> bool {
        self.notify.is_some() || self.original.is_some()
    }

    /// Is the sender told of a failure? By itself, yes (RFC 3461 §4.1).
    pub fn tells_failure(&self) -> bool {
        self.notify.is_none_or(|notify| notify.failure)
    }

    /// Does the sender want to know that the message arrived?
    pub fn tells_success(&self) -> bool {
        self.notify.is_some_and(|notify| notify.success)
    }

    /// Does the sender want to know that the message waits, and was not told yet?
    pub fn tells_delay(&self) -> bool {
        self.notify.is_some_and(|notify| notify.delay) && !self.delay_told
    }
}

/// What was asked for a message as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageDsn {
    /// ENVID as it was given, in xtext; empty if it was not.
    pub envid: String,
    /// RET, if it was given.
    pub ret: Option<Return>,
}

/// Is this xtext (RFC 3461 §4): printable ASCII without blank and `=`, and `+` only before two upper-case hexadecimal digits?
pub fn is_xtext(text: &str) -> bool {
    let bytes = text.as_bytes();
    let hexadecimal = |at: usize| matches!(bytes.get(at), Some(b'0'..=b'9' | b'A'..=b'F'));
    bytes.iter().enumerate().all(|(at, byte)| match byte {
        b'+' => hexadecimal(at + 1) && hexadecimal(at + 2),
        _ => byte.is_ascii_graphic() && *byte != b'=',
    })
}

/// Is this an ENVID?
pub fn is_envid(text: &str) -> bool {
    !text.is_empty() && text.len() <= ENVID_MAX && is_xtext(text)
}

/// Is this an ORCPT: the kind of address, `;`, and the address in xtext, or as RFC 6533 §3 writes one of kind `utf-8`?
pub fn is_orcpt(text: &str) -> bool {
    let Some((kind, address)) = text.split_once(';') else { return false };
    let atom = !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let address_is_good = match kind.eq_ignore_ascii_case("utf-8") {
        true => address.chars().all(|c| !c.is_ascii() || (c.is_ascii_graphic() && c != '=')),
        false => is_xtext(address),
    };
    atom && text.len() <= ORCPT_MAX && !address.is_empty() && address_is_good
}

/// Text out of xtext. What stands for a control character, which would make a line of its own in a report, is left out.
pub fn decoded(xtext: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(xtext.len()), xtext.as_bytes());
    while let Some((&first, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| first == b'+') {
            Some(byte) => {
                bytes.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wishes() {
        for (value, expected) in [
            ("NEVER", Some("NEVER")),
            ("never", Some("NEVER")),
            ("success", Some("SUCCESS")),
            ("DELAY,Failure,SUCCESS", Some("SUCCESS,FAILURE,DELAY")),
            ("", None),
            ("NEVER,FAILURE", None),
            ("FAILURE,", None),
            ("FAILURE, DELAY", None),
        ] {
            assert_eq!(Notify::parse(value).map(|notify| notify.to_string()).as_deref(), expected, "{value}");
        }
        for (value, failure, success, delay) in [
            ("NEVER", false, false, false),
            ("SUCCESS", false, true, false),
            ("FAILURE,DELAY", true, false, true),
        ] {
            let dsn = Dsn { notify: Notify::parse(value), ..Dsn::default() };
            assert_eq!(
                (dsn.tells_failure(), dsn.tells_success(), dsn.tells_delay()),
                (failure, success, delay)
            );
            assert!(!Dsn { delay_told: true, ..dsn }.tells_delay());
        }
        assert!(Dsn::default().tells_failure());
        assert_eq!(Return::parse("hdrs"), Some(Return::Headers));
        assert_eq!(Return::parse("full").map(Return::text), Some("FULL"));
        assert_eq!(Return::parse("ALL"), None);
    }

    #[test]
    fn texts() {
        let long = "x".repeat(ENVID_MAX + 1);
        for (text, envid) in
            [("QQ314159", true), ("a+2Bb", true), ("", false), ("a+2b", false), ("a+", false), ("a=b", false)]
        {
            assert_eq!(is_envid(text), envid, "{text}");
        }
        assert!(!is_envid(&long) && is_envid(&long[1..]));
        let long = format!("rfc822;{}", "x".repeat(ORCPT_MAX - 7));
        for (text, orcpt) in [
            ("rfc822;Bob@Example.COM", true),
            ("rfc822;a+2Bb@c", true),
            ("utf-8;用户@例え.jp", true),
            (r"utf-8;\x{7528}@c", true),
            ("rfc822;用户@c", false),
            ("rfc822;", false),
            ("bob@c", false),
            (";bob@c", false),
            ("rfc822;a b", false),
            (&long, true),
            (&format!("{long}x"), false),
        ] {
            assert_eq!(is_orcpt(text), orcpt, "{text}");
        }
        for (text, expected) in
            [("a+2Bb+20c", "a+b c"), ("a+0D+0Ab", "ab"), ("a+", "a+"), ("+4", "+4"), ("+zz", "+zz")]
        {
            assert_eq!(decoded(text), expected, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_encoded_is_decoded(text in "[ -~]{0,40}") {
            let plain = |b: u8| b.is_ascii_graphic() && b != b'+' && b != b'=';
            let encode = |b: u8| if plain(b) { (b as char).to_string() } else { format!("+{b:02X}") };
            let encoded: String = text.bytes().map(encode).collect();
            prop_assert!(is_xtext(&encoded));
            prop_assert_eq!(decoded(&encoded), text);
        }

        #[test]
        fn anything_can_be_decoded(text in "[+0-9A-Z\u{e9}]{0,40}") {
            decoded(&text);
        }
    }
}
