//! Mail as English and Japanese programs write it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// The languages that mail comes in: the charset's name, a subject, a line of text.
pub const LANGUAGES: [(&str, &str, &str); 3] = [
    ("us-ascii", "Meeting on Monday", "We meet on Monday."),
    ("iso-2022-jp", "月曜日の会議について", "会議は月曜日に行います。"),
    ("utf-8", "月曜日の会議 \u{1F600}", "会議は月曜日に行います 𠮷。"),
];

/// A text in a charset.
pub fn encoded(charset: &str, text: &str) -> Vec<u8> {
    let encoding = encoding_rs::Encoding::for_label(charset.as_bytes()).unwrap();
    encoding.encode(text).0.into_owned()
}

/// A text as it stands in a header field: as a whole in one encoded word, but for ASCII.
pub fn word(charset: &str, text: &str) -> String {
    match charset {
        "us-ascii" => text.to_owned(),
        _ => format!("=?{charset}?B?{}?=", BASE64.encode(encoded(charset, text))),
    }
}

/// A mail as Japanese programs write it: ISO-2022-JP in 7 bits, UTF-8 in base64.
pub fn written(from: &str, to: &str, charset: &str, subject: &str, text: &str) -> String {
    let text = format!("{text}\r\n");
    let (encoding, body) = match charset {
        "utf-8" => ("base64", BASE64.encode(text.as_bytes()) + "\r\n"),
        _ => ("7bit", String::from_utf8(encoded(charset, &text)).unwrap()),
    };
    format!(
        "From: <{from}>\r\nTo: <{to}>\r\nSubject: {}\r\nMessage-Id: <1@x>\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n{body}",
        word(charset, subject)
    )
}
