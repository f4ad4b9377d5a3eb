//! The first words of a message, for lists (RFC 8970).
//!
//! The first text part is taken, plain text before HTML; of HTML what stands between the tags. Lines that quote another message are left out.
//!
//! # Limits
//! [`PREVIEW_MAX`] characters, out of the first [`SOURCE_MAX`] bytes of the part.

use super::charset::{self, TransferEncoding};
use super::structure::{Kind, Part, Structure};

/// The longest preview, in characters (RFC 8970 §3.2 says 200 to 256).
pub const PREVIEW_MAX: usize = 200;
/// How much of an encoded part is looked at, in bytes.
pub const SOURCE_MAX: usize = 64 << 10;

/// The preview of a message; empty if it has no text.
pub fn preview(structure: &Structure<'_>) -> String {
    let texts = || structure.parts().iter().filter(|part| part.kind == Kind::Leaf && part.is_type(b"text"));
    let is_html = |part: &&Part<'_>| part.media_type().1.eq_ignore_ascii_case(b"html");
    let plain = texts().filter(|part| !is_html(part)).map(|part| words_of_text(&text_of(structure, part)));
    let html = texts().filter(is_html).map(|part| words_of_html(&text_of(structure, part)));
    plain.chain(html).find(|words| !words.is_empty()).unwrap_or_default()
}

fn text_of(structure: &Structure<'_>, part: &Part<'_>) -> String {
    let body = structure.body(part);
    let body = body.get(..SOURCE_MAX).unwrap_or(body);
    let bytes = TransferEncoding::of_header(structure.header(part)).decode(body);
    charset::decode(part.content_type.parameter(b"charset"), &bytes).into_owned()
}

fn words_of_text(text: &str) -> String {
    let mut words = Words::default();
    for line in text.lines().filter(|line| !line.starts_with('>')) {
        line.chars().for_each(|c| words.push(c));
        words.push(' ');
    }
    words.end()
}

/// What stands between the tags, without scripts and styles.
fn words_of_html(html: &str) -> String {
    let mut words = Words::default();
    let mut rest = html;
    while let Some(at) = rest.find(['<', '&']) {
        let (text, marked) = rest.split_at(at);
        text.chars().for_each(|c| words.push(c));
        if words.is_full() {
            break;
        }
        rest = match marked.starts_with('&') {
            true => entity(marked, &mut words),
            false => {
                words.push(' ');
                behind_tag(marked)
            }
        };
    }
    rest.chars().for_each(|c| words.push(c));
    words.end()
}

/// What follows a tag, a comment, or an element whose content is not shown.
fn behind_tag(tag: &str) -> &str {
    let behind = |end: &str| tag.find(end).and_then(|at| tag.get(at + end.len()..)).unwrap_or_default();
    if tag.starts_with("<!--") {
        return behind("-->");
    }
    for (begin, end) in
        [("<style", "</style"), ("<script", "</script"), ("<head", "</head"), ("<title", "</title")]
    {
        let begins = tag.get(..begin.len()).is_some_and(|name| name.eq_ignore_ascii_case(begin));
        let is_whole =
            tag.get(begin.len()..).is_some_and(|more| more.starts_with(['>', ' ', '\r', '\n', '\t']));
        if begins && is_whole {
            let at = tag.to_ascii_lowercase().find(end).unwrap_or(tag.len());
            let rest = tag.get(at..).unwrap_or_default();
            return rest.split_once('>').map_or("", |(_, rest)| rest);
        }
    }
    behind(">")
}

/// Reads a character reference, and gives what follows it.
fn entity<'a>(text: &'a str, words: &mut Words) -> &'a str {
    const NAMED: [(&str, char); 6] =
        [("nbsp", ' '), ("amp", '&'), ("lt", '<'), ("gt", '>'), ("quot", '"'), ("apos", '\'')];
    let name = text.get(1..).and_then(|text| text.split_once(';')).filter(|(name, _)| name.len() <= 8);
    let Some((name, rest)) = name else {
        words.push('&');
        return text.get(1..).unwrap_or_default();
    };
    let number = name.strip_prefix('#').and_then(|number| match number.strip_prefix(['x', 'X']) {
        Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16).ok(),
        None => number.parse().ok(),
    });
    let named = NAMED.iter().find(|(known, _)| *known == name).map(|(_, c)| *c);
    words.push(named.or_else(|| char::from_u32(number?)).unwrap_or(' '));
    rest
}

/// Characters with single blanks between words.
#[derive(Default)]
struct Words {
    text: String,
    count: usize,
    blank: bool,
}

impl Words {
    fn is_full(&self) -> bool {
        self.count >= PREVIEW_MAX
    }

    fn push(&mut self, c: char) {
        let unseen = matches!(c, '\u{200B}'..='\u{200F}' | '\u{FEFF}' | '\u{AD}');
        if c.is_whitespace() || c.is_control() || unseen {
            self.blank |= self.count > 0 && !unseen;
            return;
        }
        for c in std::mem::take(&mut self.blank).then_some(' ').into_iter().chain([c]) {
            if !self.is_full() {
                self.text.push(c);
                self.count += 1;
            }
        }
    }

    fn end(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(head: &str, body: &str) -> String {
        preview(&Structure::parse(format!("{head}\r\n\r\n{body}").as_bytes()))
    }

    #[test]
    fn previews() {
        for (head, body, expected) in [
            ("Subject: x", "Hello,\r\n\r\n> old\r\n  this is   it\r\n", "Hello, this is it"),
            (
                "Content-Type: text/html",
                "<HTML><head><title>t</title></head><style>p{}</style><p>A&nbsp;&#12354;&amp;b</p><!-- c --><br>d &x",
                "A \u{3042}&b d &x",
            ),
            ("Content-Type: text/plain; charset=iso-2022-jp", "\x1B$B2q5D\x1B(B\r\n", "\u{4F1A}\u{8B70}"),
            (
                "Content-Type: multipart/alternative; boundary=b",
                "--b\r\nContent-Type: text/html\r\n\r\n<b>h</b>\r\n--b\r\n\r\nplain\r\n--b--\r\n",
                "plain",
            ),
            ("Content-Type: image/png", "x", ""),
            ("Content-Type: text/html", "<script>never ends", ""),
        ] {
            assert_eq!(of(head, body), expected, "{body}");
        }
        assert_eq!(of("A: b", &"\u{3042}".repeat(1000)).chars().count(), PREVIEW_MAX);
    }
}
