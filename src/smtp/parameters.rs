//! What stands behind `MAIL FROM:` and `RCPT TO:`: an address, and the parameters of RFC 1870 (SIZE), RFC 6152 (BODY), RFC 4954 (AUTH), RFC 3461 (RET, ENVID, NOTIFY,
//! ORCPT) and RFC 6531 (SMTPUTF8).
//!
//! `BODY=BINARYMIME` is not offered and not taken.

use super::command::Bad;
use layout::spool::dsn::{Dsn, MessageDsn, Notify, Return, is_envid, is_orcpt};

/// The longest address in octets (RFC 5321 §4.5.3.1.3, with room for both parts at their longest).
const ADDRESS_MAX: usize = 320;
/// The most parameters: there are no more.
const PARAMETERS_MAX: usize = 16;

/// `MAIL FROM:<sender>` with its parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mail {
    /// Empty for the null sender.
    pub sender: String,
    /// SIZE.
    pub size: Option<u64>,
    /// SMTPUTF8: addresses and header may be UTF-8.
    pub utf8: bool,
    /// RET and ENVID.
    pub dsn: MessageDsn,
}

/// `RCPT TO:<recipient>` with its parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rcpt {
    /// The recipient as the client wrote it.
    pub recipient: String,
    /// NOTIFY and ORCPT.
    pub dsn: Dsn,
}

/// Reads what stands behind `MAIL FROM:`.
pub fn mail(text: &str) -> Result<Mail, Bad> {
    if text.is_empty() {
        return Err(Bad::Argument("MAIL FROM:<address> is expected"));
    }
    let (sender, rest) = path(text)?;
    let mut mail = Mail { sender: sender.to_owned(), ..Mail::default() };
    for (name, value) in parameters(rest)? {
        match (name.as_str(), value) {
            ("SIZE", Some(value)) => {
                let size = value.parse();
                mail.size = Some(size.map_err(|_| Bad::Argument("SIZE is a number of octets"))?);
            }
            ("BODY", Some(body)) if ["7BIT", "8BITMIME"].iter().any(|b| body.eq_ignore_ascii_case(b)) => {}
            // RFC 4954 section 5: whoever trusts the client may use it; we have no use for it.
            ("AUTH", Some(_)) => {}
            ("SMTPUTF8", None) => mail.utf8 = true,
            ("RET", Some(value)) => {
                let ret = Return::parse(value);
                mail.dsn.ret = Some(ret.ok_or(Bad::Argument("RET is FULL or HDRS"))?);
            }
            ("ENVID", Some(value)) if is_envid(value) => mail.dsn.envid = value.to_owned(),
            ("ENVID", _) => return Err(Bad::Argument("ENVID is xtext of at most 100 characters")),
            _ => return Err(Bad::Parameter),
        }
    }
    if mail.sender.is_ascii() || mail.utf8 { Ok(mail) } else { Err(Bad::Utf8) }
}

/// Reads what stands behind `RCPT TO:`. Whether the address may be UTF-8, MAIL has said.
pub fn rcpt(text: &str) -> Result<Rcpt, Bad> {
    let (recipient, rest) = path(text)?;
    if recipient.is_empty() {
        return Err(Bad::Argument("a recipient is missing"));
    }
    let mut rcpt = Rcpt { recipient: recipient.to_owned(), dsn: Dsn::default() };
    for (name, value) in parameters(rest)? {
        match (name.as_str(), value) {
            ("NOTIFY", Some(value)) => {
                let notify = Notify::parse(value);
                let wrong = Bad::Argument("NOTIFY is NEVER, or some of SUCCESS, FAILURE and DELAY");
                rcpt.dsn.notify = Some(notify.ok_or(wrong)?);
            }
            ("ORCPT", Some(value)) if is_orcpt(value) => rcpt.dsn.original = Some(value.to_owned()),
            ("ORCPT", _) => {
                return Err(Bad::Argument("ORCPT is rfc822;address, the address in xtext"));
            }
            _ => return Err(Bad::Parameter),
        }
    }
    Ok(rcpt)
}

/// Names in upper case, and values. None may be there twice.
fn parameters(text: &str) -> Result<Vec<(String, Option<&str>)>, Bad> {
    let mut all: Vec<(String, Option<&str>)> = Vec::new();
    for word in text.split_ascii_whitespace() {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name.to_ascii_uppercase(), Some(value)),
            None => (word.to_ascii_uppercase(), None),
        };
        if all.iter().any(|(known, _)| *known == name) {
            return Err(Bad::Argument("a parameter is given twice"));
        }
        if all.len() == PARAMETERS_MAX {
            return Err(Bad::Parameter);
        }
        all.push((name, value));
    }
    Ok(all)
}

/// An address, in brackets or bare, and the parameters behind it. A source route in front is dropped (RFC 5321 §4.1.1.3). A local part may be quoted, with
/// blanks in it (§4.1.2); `<` and `>` are taken nowhere, since Q files and replies have them around addresses.
fn path(text: &str) -> Result<(&str, &str), Bad> {
    const WRONG: Bad = Bad::Argument("an address in angle brackets is expected");
    let (address, parameters) = match text.strip_prefix('<') {
        Some(rest) => rest.split_once('>').ok_or(WRONG)?,
        None => text.split_once(' ').unwrap_or((text, "")),
    };
    let address = match address.strip_prefix('@') {
        Some(route) => route.split_once(':').ok_or(WRONG)?.1,
        None => address,
    };
    // The replacement character stands for what was no UTF-8.
    let legal = |c: char| match c.is_ascii() {
        true => c.is_ascii_graphic() && c != '<' && c != '>',
        false => !c.is_control() && !c.is_whitespace() && c != char::REPLACEMENT_CHARACTER,
    };
    let (mut quoted, mut escaped) = (false, false);
    for c in address.chars() {
        if !(legal(c) || (c == ' ' && quoted)) {
            return Err(WRONG);
        }
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
    }
    if address.len() <= ADDRESS_MAX && !quoted { Ok((address, parameters)) } else { Err(WRONG) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_mail() {
        let envid = |envid: &str, ret| MessageDsn { envid: envid.into(), ret };
        let a = Mail { sender: "a@b".into(), ..Mail::default() };
        for (text, expected) in [
            ("<a@b>", Ok(a.clone())),
            ("<a@b> SIZE=0 BODY=7BIT AUTH=<>", Ok(Mail { size: Some(0), ..a.clone() })),
            (
                "<a@b> RET=HDRS ENVID=QQ314159",
                Ok(Mail { dsn: envid("QQ314159", Some(Return::Headers)), ..a.clone() }),
            ),
            ("<a@b> ret=full envid=a+2Bb", Ok(Mail { dsn: envid("a+2Bb", Some(Return::Full)), ..a.clone() })),
            ("<a@b> SMTPUTF8", Ok(Mail { utf8: true, ..a.clone() })),
            ("<a@b> BODY=8BitMime", Ok(a.clone())),
            (
                "<\"a \\\"b@\"@c> SIZE=0",
                Ok(Mail { sender: "\"a \\\"b@\"@c".into(), size: Some(0), ..a.clone() }),
            ),
            ("<\"a@b>", Err(Bad::Argument("an address in angle brackets is expected"))),
            ("<\"a>b\"@c>", Err(Bad::Argument("an address in angle brackets is expected"))),
            ("<\"a\\\"@c>", Err(Bad::Argument("an address in angle brackets is expected"))),
            ("<\"a\tb\"@c>", Err(Bad::Argument("an address in angle brackets is expected"))),
            (
                "<\u{7528}\u{6237}@b> SMTPUTF8 BODY=8BITMIME",
                Ok(Mail { sender: "\u{7528}\u{6237}@b".into(), utf8: true, ..a.clone() }),
            ),
            ("<\u{7528}@b> BODY=8BITMIME", Err(Bad::Utf8)),
            ("<a@b> BODY=BINARYMIME", Err(Bad::Parameter)),
            ("<a@b> BODY", Err(Bad::Parameter)),
            ("<a@b> SMTPUTF8=1", Err(Bad::Parameter)),
            ("<a@b> NOTIFY=NEVER", Err(Bad::Parameter)),
            ("<a@b> RET=ALL", Err(Bad::Argument("RET is FULL or HDRS"))),
            ("<a@b> ENVID=a=b", Err(Bad::Argument("ENVID is xtext of at most 100 characters"))),
            ("<a@b> ENVID", Err(Bad::Argument("ENVID is xtext of at most 100 characters"))),
            ("<a@b> SIZE=1 size=1", Err(Bad::Argument("a parameter is given twice"))),
            ("<a@b> SIZE=18446744073709551616", Err(Bad::Argument("SIZE is a number of octets"))),
            ("<a\u{fffd}@b> SMTPUTF8", Err(Bad::Argument("an address in angle brackets is expected"))),
            ("<a\u{a0}@b> SMTPUTF8", Err(Bad::Argument("an address in angle brackets is expected"))),
        ] {
            assert_eq!(mail(text), expected, "{text}");
        }
    }

    #[test]
    fn parameters_of_rcpt() {
        let c = Rcpt { recipient: "c@d".into(), dsn: Dsn::default() };
        let asked = |notify, original: Option<&str>| {
            let dsn = Dsn {
                notify: Notify::parse(notify),
                original: original.map(str::to_owned),
                ..Dsn::default()
            };
            Ok(Rcpt { dsn, ..c.clone() })
        };
        const NOTIFY: Bad = Bad::Argument("NOTIFY is NEVER, or some of SUCCESS, FAILURE and DELAY");
        const ORCPT: Bad = Bad::Argument("ORCPT is rfc822;address, the address in xtext");
        let long = format!("<c@d> ORCPT=rfc822;{}", "x".repeat(500));
        for (text, expected) in [
            ("<c@d>", Ok(c.clone())),
            ("<c@d> NOTIFY=NEVER", asked("NEVER", None)),
            ("<c@d> notify=success,delay orcpt=rfc822;Bob@d", asked("SUCCESS,DELAY", Some("rfc822;Bob@d"))),
            ("<c@d> ORCPT=rfc822;a+2Bb@d", asked("", Some("rfc822;a+2Bb@d"))),
            ("<c@d> NOTIFY=NEVER,DELAY", Err(NOTIFY)),
            ("<c@d> NOTIFY=", Err(NOTIFY)),
            ("<c@d> NOTIFY", Err(Bad::Parameter)),
            ("<c@d> ORCPT=Bob@d", Err(ORCPT)),
            ("<c@d> ORCPT=rfc822;a+zz", Err(ORCPT)),
            (&long, Err(ORCPT)),
            ("<c@d> SIZE=1", Err(Bad::Parameter)),
            ("<>", Err(Bad::Argument("a recipient is missing"))),
        ] {
            assert_eq!(rcpt(text), expected, "{text}");
        }
        assert_eq!(rcpt("<\u{7528}@d>").map(|rcpt| rcpt.recipient), Ok("\u{7528}@d".to_owned()));
    }
}
