//! What clients send: commands of SMTP, POP3 and IMAP4, and the bytes behind DATA, which must not depend on how they were cut.

#![no_main]

use imaild::access::imap::parse;
use imaild::access::pop3::command::Command;
use imaild::smtp::command;
use imaild::smtp::data::{Lines, Unstuffer};
use libfuzzer_sys::fuzz_target;

/// The message, whether it is whole, and whether it has bare line feeds or lines that are too long.
fn unstuff(pieces: &[&[u8]]) -> (Vec<u8>, bool, bool, bool) {
    let (mut unstuffer, mut lines, mut out) = (Unstuffer::default(), Lines::default(), Vec::new());
    let mut done = false;
    for piece in pieces {
        let before = out.len();
        done = unstuffer.feed(piece, &mut out).1;
        lines.feed(&out[before..]);
        if done {
            break;
        }
    }
    (out, done, lines.bare_lf, lines.long_line)
}

fuzz_target!(|bytes: &[u8]| {
    let _ = parse::parse(bytes);
    let _ = (parse::pending_literal(bytes), parse::is_append_message_literal(bytes));
    let _ = Command::parse(bytes);
    let _ = command::parse(&String::from_utf8_lossy(bytes));

    let whole = unstuff(&[bytes]);
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let halves = unstuff(&[first, second]);
    if whole.1 {
        assert_eq!(whole, halves);
    }
});
