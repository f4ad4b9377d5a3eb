//! The list's texts around the body of a post.
//!
//! The texts go into the first text of the message: around plain text in its own charset if that holds them, else everything of that part
//! becomes UTF-8; into HTML behind `<body>` and before `</body>`, with references for what its charset lacks; into both sides of
//! `multipart/alternative`. Every other byte of the message stays. Signed and encrypted mail, reports, and mail without text are left
//! intact: a broken signature would be worse than a missing trailer.
//!
//! # Limits
//! The message is in memory; the caller takes no larger one than [`MERGE_MAX`].

use crate::message::charset::{Charset, TransferEncoding, UTF8};
use crate::message::encode::{LINE_MAX, base64_lines, bytes, name, quoted_printable};
use crate::message::header::{fields, parameterized};
use crate::message::structure::{Kind, Part, PartId, Structure};

/// Larger posts go out without the texts.
pub const MERGE_MAX: u64 = 32 << 20;

/// The texts of a list; empty where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// In front of the body.
    pub header: String,
    /// Behind it.
    pub trailer: String,
}

/// The changed message; `None` if it stays as it is. Its header is the one that came, but for the fields that describe the body.
pub fn merge(message: &[u8], texts: &Texts) -> Option<Vec<u8>> {
    if texts.header.trim().is_empty() && texts.trailer.trim().is_empty() {
        return None;
    }
    let structure = Structure::parse(message);
    let mut edits = Vec::new();
    collect(&structure, Structure::ROOT, texts, &mut edits);
    if edits.is_empty() {
        return None;
    }
    let mut out = Vec::with_capacity(message.len() + 4096);
    let mut at = 0;
    for Edit { range, bytes } in edits {
        out.extend_from_slice(message.get(at..range.start)?);
        out.extend(bytes);
        at = range.end;
    }
    out.extend_from_slice(message.get(at..)?);
    Some(out)
}

/// New bytes for a range of the message.
struct Edit {
    range: std::ops::Range<usize>,
    bytes: Vec<u8>,
}

/// Multiparts whose first part has the text.
const FIRST_PART: [&[u8]; 2] = [b"mixed", b"related"];

/// Answers whether the part has a text that got the list's.
fn collect(structure: &Structure<'_>, id: PartId, texts: &Texts, edits: &mut Vec<Edit>) -> bool {
    let Some(part) = structure.part(id) else { return false };
    let (kind, subtype) = part.media_type();
    match &part.kind {
        Kind::Multipart(children) if subtype.eq_ignore_ascii_case(b"alternative") => {
            let found = children.iter().map(|child| collect(structure, *child, texts, edits));
            // Every side gets the texts, so all are looked at.
            found.filter(|found| *found).count() > 0
        }
        Kind::Multipart(children) if FIRST_PART.iter().any(|known| subtype.eq_ignore_ascii_case(known)) => {
            children.first().is_some_and(|child| collect(structure, *child, texts, edits))
        }
        Kind::Leaf if kind.eq_ignore_ascii_case(b"text") && !is_attachment(structure.header(part)) => {
            match edited(structure, part, texts) {
                Some(bytes) => {
                    edits.push(Edit { range: part.header.start..part.body.end, bytes });
                    true
                }
                None => false,
            }
        }
        _ => false,
    }
}

fn is_attachment(header: &[u8]) -> bool {
    let value = crate::message::header::value(header, b"content-disposition").unwrap_or_default();
    parameterized(value).value.eq_ignore_ascii_case(b"attachment")
}

/// A text part with the list's texts in it.
fn edited(structure: &Structure<'_>, part: &Part<'_>, texts: &Texts) -> Option<Vec<u8>> {
    let (header, body) = (structure.header(part), structure.body(part));
    let encoding = TransferEncoding::of_header(header);
    let decoded = encoding.decode(body);
    let label = part.content_type.parameter(b"charset");
    let charset = match label.map(Charset::for_label) {
        // A charset that we do not know: texts of ours could not be read in it.
        Some(None) => return None,
        None | Some(Some(Charset::Ascii)) => unlabelled(&decoded),
        Some(Some(charset)) => charset,
    };
    let (_, subtype) = part.media_type();
    if subtype.eq_ignore_ascii_case(b"html") {
        // What has seven bits, and may say so, keeps them: the texts become references.
        let seven = encoding == TransferEncoding::Identity && body.is_ascii();
        let seven = seven && charset.keeps_ascii() && charset != Charset::Iso2022Jp;
        let new = around_html(&decoded, if seven { Charset::Ascii } else { charset }, texts)?;
        return Some([header, &packed(&new, encoding)].concat());
    }
    if !subtype.eq_ignore_ascii_case(b"plain") || is_inline_signed(&decoded) {
        return None;
    }
    let (begin, end) = (lines(&texts.header), lines(&texts.trailer));
    if let (Some(begin), Some(end)) = (bytes(&begin, charset), bytes(&end, charset)) {
        let new = joined(&begin, &decoded, &end);
        let fits = encoding != TransferEncoding::Identity
            || longest_line(&new) <= LINE_MAX.max(longest_line(body)) && (new.is_ascii() || !body.is_ascii());
        if fits && charset != Charset::Utf7 {
            return Some([header, &packed(&new, encoding)].concat());
        }
    }
    // The charset does not hold the texts: this part becomes UTF-8.
    let text = charset.decode(&decoded);
    let new = joined(begin.as_bytes(), text.as_bytes(), end.as_bytes());
    let mut out = relabelled(header, part);
    out.extend(base64_lines(&new));
    if !structure_ends(body) {
        out.truncate(out.trim_ascii_end().len());
    }
    Some(out)
}

/// A body without a label that says something: what it really holds. ASCII takes no other charset in, and what we can only guess counts as it:
/// [`Charset::decode`] guesses then.
fn unlabelled(bytes: &[u8]) -> Charset {
    match bytes {
        _ if bytes.contains(&0x1B) => Charset::Iso2022Jp,
        _ if !bytes.is_ascii() && std::str::from_utf8(bytes).is_ok() => UTF8,
        _ => Charset::Ascii,
    }
}

/// Signed or encrypted text inside of plain text (RFC 4880 §6.2 and §7).
fn is_inline_signed(text: &[u8]) -> bool {
    memchr::memmem::find(text, b"-----BEGIN PGP ").is_some()
}

fn structure_ends(body: &[u8]) -> bool {
    body.ends_with(b"\n") || body.is_empty()
}

/// A text with CRLF behind every line; nothing for an empty one.
fn lines(text: &str) -> String {
    let text = text.trim_end();
    if text.is_empty() {
        return String::new();
    }
    text.lines().map(|line| format!("{}\r\n", line.trim_end_matches('\r'))).collect()
}

/// The three one behind the other, each beginning on a line of its own.
fn joined(begin: &[u8], body: &[u8], end: &[u8]) -> Vec<u8> {
    let mut out = begin.to_vec();
    out.extend_from_slice(body);
    if !end.is_empty() {
        if !out.is_empty() && !out.ends_with(b"\n") {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(end);
    }
    out
}

fn longest_line(text: &[u8]) -> usize {
    text.split(|byte| *byte == b'\n').map(<[u8]>::len).max().unwrap_or(0)
}

/// In the transfer encoding that the part has.
fn packed(text: &[u8], encoding: TransferEncoding) -> Vec<u8> {
    match encoding {
        TransferEncoding::Identity => text.to_vec(),
        TransferEncoding::Base64 => base64_lines(text),
        TransferEncoding::QuotedPrintable => quoted_printable(text),
    }
}

/// The part's header as that of UTF-8 text in base64. Other parameters, such as `format`, say nothing of the new text and go.
fn relabelled(header: &[u8], part: &Part<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(header.len() + 100);
    let is_message = part.header.start == 0;
    for field in fields(header) {
        if !field.is(b"content-type") && !field.is(b"content-transfer-encoding") {
            out.extend_from_slice(field.raw);
        }
    }
    if is_message && !fields(header).any(|field| field.is(b"mime-version")) {
        out.extend_from_slice(b"MIME-Version: 1.0\r\n");
    }
    let (kind, encoding) = ("text/plain", "base64");
    out.extend(
        format!(
            "Content-Type: {kind}; charset={}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n",
            name(UTF8).to_ascii_lowercase()
        )
        .bytes(),
    );
    out
}

/// The texts inside of HTML, as paragraphs.
fn around_html(html: &[u8], charset: Charset, texts: &Texts) -> Option<Vec<u8>> {
    if !charset.keeps_ascii() {
        return None;
    }
    let lower = html.to_ascii_lowercase();
    let begin = memchr::memmem::find(&lower, b"<body")
        .and_then(|at| Some(at + memchr::memchr(b'>', lower.get(at..)?)? + 1))
        .unwrap_or_else(|| after_head(&lower));
    let end = memchr::memmem::rfind(&lower, b"</body").or_else(|| memchr::memmem::rfind(&lower, b"</html"));
    let end = end.unwrap_or(html.len()).max(begin);
    let mut out = html.get(..begin)?.to_vec();
    out.extend(paragraph(&texts.header, charset));
    out.extend_from_slice(html.get(begin..end)?);
    out.extend(paragraph(&texts.trailer, charset));
    out.extend_from_slice(html.get(end..)?);
    Some(out)
}

/// Where the content begins in HTML without `<body>`.
fn after_head(lower: &[u8]) -> usize {
    memchr::memmem::find(lower, b"</head>").map_or(0, |at| at + b"</head>".len())
}

/// A text as HTML. What the charset lacks becomes a reference, which every reader of HTML knows.
fn paragraph(text: &str, charset: Charset) -> Vec<u8> {
    let text = text.trim_end();
    if text.is_empty() {
        return Vec::new();
    }
    let mut html = String::from("<div>");
    for (at, line) in text.lines().enumerate() {
        html.push_str(if at > 0 { "<br>\r\n" } else { "" });
        for c in line.trim_end_matches('\r').chars() {
            match c {
                '&' => html.push_str("&amp;"),
                '<' => html.push_str("&lt;"),
                '>' => html.push_str("&gt;"),
                c if c.is_ascii() => html.push(c),
                c => match bytes(c.encode_utf8(&mut [0; 4]), charset) {
                    Some(_) => html.push(c),
                    None => html.push_str(&format!("&#{};", c as u32)),
                },
            }
        }
    }
    html.push_str("</div>\r\n");
    bytes(&html, charset).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::encode::body;
    use proptest::prelude::*;

    const JIS: Charset = Charset::Iso2022Jp;

    fn texts(header: &str, trailer: &str) -> Texts {
        Texts { header: header.into(), trailer: trailer.into() }
    }

    /// The message's texts, decoded by another parser.
    fn read(message: &[u8]) -> Vec<String> {
        let parsed = mail_parser::MessageParser::default().parse(message).unwrap();
        let all = parsed.parts.iter().filter_map(|part| match &part.body {
            mail_parser::PartType::Text(text) | mail_parser::PartType::Html(text) => Some(text.to_string()),
            _ => None,
        });
        all.collect()
    }

    fn mail(text: &str, charset: Charset) -> Vec<u8> {
        let body = body(text, charset);
        let head = format!(
            "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset={}\r\nContent-Transfer-Encoding: {}\r\n\r\n",
            body.charset, body.encoding
        );
        [head.into_bytes(), body.bytes].concat()
    }

    #[test]
    fn plain_text_in_every_charset() {
        for charset in [Charset::Ascii, JIS, UTF8] {
            let text = if charset == Charset::Ascii { "hello\n" } else { "会議は月曜日です。\n" };
            for (header, trailer) in
                [("Head", "-- \nTrailer"), ("見出し", "購読をやめるには"), ("", "𠮷野家"), ("h", "")]
            {
                let new = merge(&mail(text, charset), &texts(header, trailer)).unwrap();
                let lines: Vec<String> = read(&new)[0].lines().map(str::to_owned).collect();
                let expected: Vec<&str> = header.lines().chain(text.lines()).chain(trailer.lines()).collect();
                assert_eq!(lines, expected, "{}", String::from_utf8_lossy(&new));
                let kept = bytes(header, charset).is_some() && bytes(trailer, charset).is_some();
                let before = mail(text, charset);
                let label = format!("charset={}", body(text, charset).charset);
                assert_eq!(
                    String::from_utf8_lossy(&new).contains(&label),
                    kept || charset == UTF8,
                    "{label}"
                );
                assert!(new.starts_with(&before[..10]));
            }
        }
    }

    #[test]
    fn a_body_in_seven_bits_keeps_its_bytes() {
        let before = mail("会議\n", JIS);
        let new = merge(&before, &texts("", "終わり")).unwrap();
        assert!(new.starts_with(&before));
        assert!(new.is_ascii());
        assert!(merge(&before, &Texts::default()).is_none());
        let bare = b"Subject: x\r\n\r\nno line end";
        assert_eq!(merge(bare, &texts("", "T")).unwrap(), b"Subject: x\r\n\r\nno line end\r\nT\r\n");
        let bare = merge(b"Subject: x\r\n\r\nplain\r\n", &texts("", "終わり")).unwrap();
        assert_eq!(read(&bare)[0].lines().collect::<Vec<_>>(), ["plain", "終わり"]);
        assert!(String::from_utf8_lossy(&bare).contains("MIME-Version: 1.0\r\n"));
    }

    #[test]
    fn eight_bits_without_a_label_are_guessed() {
        let mail = |label: &str, text: &[u8]| {
            [format!("Subject: x\r\nContent-Type: text/plain{label}\r\n\r\n").as_bytes(), text, b"\r\n"]
                .concat()
        };
        let text = "会議は月曜日です。+ZeVnLIqe- a+b";
        for encoding in [encoding_rs::SHIFT_JIS, encoding_rs::EUC_JP] {
            for label in ["", "; charset=us-ascii"] {
                let before = mail(label, &encoding.encode(text).0);
                let new = merge(&before, &texts("", "終わり")).unwrap();
                assert_eq!(read(&new)[0].lines().collect::<Vec<_>>(), [text, "終わり"]);
                let new = merge(&before, &texts("", "end")).unwrap();
                assert_eq!(new, [before.as_slice(), b"end\r\n"].concat(), "texts in ASCII change no byte");
            }
        }
        assert_eq!(merge(&mail("; charset=iso-2022-kr", b"x"), &texts("", "end")), None);
    }

    #[test]
    fn what_says_it_has_seven_bits_keeps_them() {
        for (kind, shown) in [("plain", "終わり"), ("html", "<div>&#32066;&#12431;&#12426;</div>")] {
            let before = format!(
                "Content-Type: text/{kind}; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n\r\nhello\r\n"
            );
            let new = merge(before.as_bytes(), &texts("", "終わり")).unwrap();
            assert!(new.is_ascii(), "{kind}");
            assert_eq!(read(&new)[0].lines().collect::<Vec<_>>(), ["hello", shown]);
        }
    }

    #[test]
    fn multipart_and_html() {
        let html = "<html><BODY class=x><p>hi</p></BODY></html>";
        let part = |kind: &str, text: &str| {
            format!("--b\r\nContent-Type: text/{kind}; charset=us-ascii\r\n\r\n{text}\r\n")
        };
        let alternative = format!(
            "Subject: x\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\npreamble\r\n{}{}--b--\r\n",
            part("plain", "hi"),
            part("html", html)
        );
        let new = merge(alternative.as_bytes(), &texts("A<B", "尾")).unwrap();
        let found = read(&new);
        assert_eq!(found[0].lines().collect::<Vec<_>>(), ["A<B", "hi", "尾"]);
        assert_eq!(
            found[1],
            "<html><BODY class=x><div>A&lt;B</div>\r\n<p>hi</p><div>&#23614;</div>\r\n</BODY></html>"
        );
        let mixed = format!(
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n{}--b\r\nContent-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nfile\r\n--b--\r\n",
            part("plain", "hi")
        );
        let new = merge(mixed.as_bytes(), &texts("", "T")).unwrap();
        assert!(String::from_utf8_lossy(&new).contains("\r\n\r\nhi\r\nT\r\n\r\n--b\r\n"));
        assert!(new.ends_with(b"\r\n\r\nfile\r\n--b--\r\n"));
    }

    #[test]
    fn quoted_printable_and_base64_stay_so() {
        let quoted = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=E5=B1=B1=\r\n=E7=94=B0\r\n";
        let new = merge(quoted, &texts("", "尾")).unwrap();
        assert!(new.is_ascii() && String::from_utf8_lossy(&new).contains("quoted-printable"));
        assert_eq!(read(&new)[0].lines().collect::<Vec<_>>(), ["山田", "尾"]);
    }

    #[test]
    fn signed_mail_is_left_intact() {
        for kind in [
            "multipart/signed; boundary=b",
            "multipart/encrypted; boundary=b",
            "application/pkcs7-mime; smime-type=signed-data",
            "multipart/report; boundary=b",
            "image/png",
        ] {
            let mail = format!(
                "Content-Type: {kind}\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nhi\r\n--b\r\n\r\nx\r\n--b--\r\n"
            );
            assert_eq!(merge(mail.as_bytes(), &texts("h", "t")), None, "{kind}");
        }
        let inline = b"Subject: x\r\n\r\n-----BEGIN PGP SIGNED MESSAGE-----\r\nhi\r\n";
        assert_eq!(merge(inline, &texts("h", "t")), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_message_can_be_merged(message in prop::collection::vec(
            prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), 0x20..0x7fu8, any::<u8>()], 0..200)) {
            let mut mail = b"Content-Type: multipart/mixed; boundary=\"-\"\r\n\r\n".to_vec();
            mail.extend(message);
            let _ = merge(&mail, &texts("山", "田"));
        }
    }
}
