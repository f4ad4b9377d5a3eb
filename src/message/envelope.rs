//! The ENVELOPE of a message (RFC 3501 §7.4.2): the header fields that a list of messages shows.
//!
//! Only the header is read, and each field once. Values are handed on as they came, unfolded; of a field that
//! stands several times the first counts. Never fails.

use super::header::{self, Address};
use super::string::{nstring, string};

/// Positions of the fields in the table of [`fields_of_envelope`].
const DATE: usize = 0;
const SUBJECT: usize = 1;
const FROM: usize = 2;
const SENDER: usize = 3;
const REPLY_TO: usize = 4;
const TO: usize = 5;
const CC: usize = 6;
const BCC: usize = 7;
const IN_REPLY_TO: usize = 8;
const MESSAGE_ID: usize = 9;

/// The header fields that an envelope is made of, in its order.
const NAMES: [&[u8]; 10] = [
    b"Date",
    b"Subject",
    b"From",
    b"Sender",
    b"Reply-To",
    b"To",
    b"Cc",
    b"Bcc",
    b"In-Reply-To",
    b"Message-ID",
];

/// Appends the envelope of `message` (a whole message, or only its header) to `out`, parentheses included.
pub fn envelope(message: &[u8], out: &mut Vec<u8>) {
    let values = fields_of_envelope(message);
    let value = |index: usize| values.get(index).copied().flatten();
    out.push(b'(');
    text(out, value(DATE));
    out.push(b' ');
    text(out, value(SUBJECT));
    out.push(b' ');
    let from_start = out.len();
    address_list(out, value(FROM));
    let from = from_start..out.len();
    for index in [SENDER, REPLY_TO] {
        out.push(b' ');
        let start = out.len();
        address_list(out, value(index));
        // RFC 3501 §7.4.2: an absent or empty Sender or Reply-To stands for the From.
        if out.get(start..) == Some(b"NIL") {
            out.truncate(start);
            out.extend_from_within(from.clone());
        }
    }
    for index in [TO, CC, BCC] {
        out.push(b' ');
        address_list(out, value(index));
    }
    for index in [IN_REPLY_TO, MESSAGE_ID] {
        out.push(b' ');
        text(out, value(index));
    }
    out.push(b')');
}

fn fields_of_envelope(message: &[u8]) -> [Option<&[u8]>; NAMES.len()] {
    let mut values = [None; NAMES.len()];
    for field in header::fields(message) {
        if !matches!(field.name.len(), 2..=4 | 6..=8 | 10 | 11) {
            continue;
        }
        let index = NAMES.iter().position(|name| field.is(name));
        if let Some(value) = index.and_then(|index| values.get_mut(index)) {
            value.get_or_insert(field.value);
        }
    }
    values
}

fn text(out: &mut Vec<u8>, value: Option<&[u8]>) {
    nstring(out, value.map(header::unfold).as_deref());
}

/// Writes an address list, or `NIL` when the field is absent or names nobody.
fn address_list(out: &mut Vec<u8>, value: Option<&[u8]>) {
    let addresses = value.map(header::addresses).unwrap_or_default();
    if addresses.is_empty() {
        out.extend_from_slice(b"NIL");
        return;
    }
    out.push(b'(');
    for address in &addresses {
        self::address(out, address);
    }
    out.push(b')');
}

fn address(out: &mut Vec<u8>, address: &Address<'_>) {
    match address {
        Address::Mailbox { name, route, local, domain } => {
            out.push(b'(');
            nstring(out, name.as_deref());
            out.push(b' ');
            nstring(out, route.as_deref());
            out.push(b' ');
            string(out, local);
            out.push(b' ');
            string(out, domain);
            out.push(b')');
        }
        Address::GroupStart(name) => {
            out.extend_from_slice(b"(NIL NIL ");
            string(out, name);
            out.extend_from_slice(b" NIL)");
        }
        Address::GroupEnd => out.extend_from_slice(b"(NIL NIL NIL NIL)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(message: &str) -> String {
        let mut out = Vec::new();
        envelope(message.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_example_of_rfc_3501() {
        let header = "Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\r\nFrom: Terry Gray <gray@cac.washington.edu>\r\n\
            Subject: IMAP4rev1 WG mtg summary and minutes\r\nTo: imap@cac.washington.edu\r\n\
            cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>\r\n\
            Message-Id: <B27397-0100000@cac.washington.edu>\r\nMIME-Version: 1.0\r\n\r\n";
        let expected = "(\"Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\" \"IMAP4rev1 WG mtg summary and minutes\" \
            ((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) ((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) \
            ((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) ((NIL NIL \"imap\" \"cac.washington.edu\")) \
            ((NIL NIL \"minutes\" \"CNRI.Reston.VA.US\")(\"John Klensin\" NIL \"KLENSIN\" \"MIT.EDU\")) NIL NIL \
            \"<B27397-0100000@cac.washington.edu>\")";
        assert_eq!(of(header), expected);
    }

    #[test]
    fn absent_empty_and_odd_fields() {
        let cases = [
            ("", "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"),
            ("Subject:\r\n\r\nFrom: a@b\r\n", "(NIL \"\" NIL NIL NIL NIL NIL NIL NIL NIL)"),
            (
                "From: a@b\r\nSender: \r\nReply-To: c@d\r\n\r\n",
                "(NIL NIL ((NIL NIL \"a\" \"b\")) ((NIL NIL \"a\" \"b\")) ((NIL NIL \"c\" \"d\")) NIL NIL NIL NIL NIL)",
            ),
            (
                "To: g: a@b;\r\n\r\n",
                "(NIL NIL NIL NIL NIL ((NIL NIL \"g\" NIL)(NIL NIL \"a\" \"b\")(NIL NIL NIL NIL)) NIL NIL NIL NIL)",
            ),
            (
                "Subject: =?UTF-8?B?5pel?=\r\n =?UTF-8?B?5pys?=\r\nSubject: second\r\n\r\n",
                "(NIL \"=?UTF-8?B?5pel?= =?UTF-8?B?5pys?=\" NIL NIL NIL NIL NIL NIL NIL NIL)",
            ),
            ("Subject: 日本\r\n\r\n", "(NIL {6}\r\n日本 NIL NIL NIL NIL NIL NIL NIL NIL)"),
            (
                "Subject: a \"b\" \\\r\nIn-Reply-To: <1@x>\r\n <2@x>\r\n\r\n",
                "(NIL \"a \\\"b\\\" \\\\\" NIL NIL NIL NIL NIL NIL \"<1@x> <2@x>\" NIL)",
            ),
        ];
        for (message, expected) in cases {
            assert_eq!(of(message), expected, "{message}");
        }
    }

    #[test]
    fn text_that_no_quoted_string_can_hold_is_a_literal() {
        let mut out = Vec::new();
        envelope(b"Subject: \x1B$BF|\x1B(B\0\r\n\r\n", &mut out);
        assert!(out.starts_with(b"(NIL {9}\r\n\x1B$BF|\x1B(B\x80 NIL"), "{}", out.escape_ascii());
    }
}
