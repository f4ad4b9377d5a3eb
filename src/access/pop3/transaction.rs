//! The TRANSACTION state: answers about the messages of a maildrop (RFC 1939 §5, §7).
//!
//! # Failure
//! What is wrong with the mailbox becomes an `-ERR` line.

use super::command::Mail;
use super::drop::Maildrop;
use layout::mailbox::MailboxError;
use std::fmt;
use std::io::Write as _;

/// How many messages are listed at once.
pub const LINES: usize = 4096;

/// Answers a command that needs no more than the view. Lists and contents are sent in pieces: [`Listing`], [`Dotted`].
pub fn answer(drop: &mut Maildrop, command: Mail, out: &mut Vec<u8>) {
    match command {
        Mail::Stat => {
            let (count, bytes) = drop.totals();
            line(out, format_args!("+OK {count} {bytes}\r\n"));
        }
        Mail::List(Some(number)) => match drop.find(number) {
            Some(index) => line(out, format_args!("+OK {number} {}\r\n", drop.size(index))),
            None => refuse(&MailboxError::Gone, out),
        },
        Mail::Uidl(Some(number)) => match drop.find(number) {
            Some(index) => {
                out.extend_from_slice(b"+OK ");
                uidl_line(drop, index, out);
            }
            None => refuse(&MailboxError::Gone, out),
        },
        Mail::Dele(number) => match drop.find(number) {
            Some(index) => {
                drop.delete(index);
                line(out, format_args!("+OK message {number} deleted\r\n"));
            }
            None => refuse(&MailboxError::Gone, out),
        },
        Mail::Rset => {
            drop.reset();
            summary(drop, out);
        }
        Mail::List(None) | Mail::Uidl(None) | Mail::Retr(_) | Mail::Top(..) | Mail::Noop => {
            out.extend_from_slice(b"+OK\r\n");
        }
    }
}

/// What is in the maildrop, as the answer to a login.
pub fn summary(drop: &Maildrop, out: &mut Vec<u8>) {
    let (count, bytes) = drop.totals();
    line(out, format_args!("+OK {count} messages ({bytes} octets)\r\n"));
}

fn line(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    // Writing to memory does not fail.
    let _ = out.write_fmt(text);
}

/// Which list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// LIST.
    Sizes,
    /// UIDL.
    Ids,
}

impl Listing {
    /// The status line.
    pub fn begin(self, drop: &Maildrop, out: &mut Vec<u8>) {
        match self {
            Listing::Sizes => summary(drop, out),
            Listing::Ids => out.extend_from_slice(b"+OK\r\n"),
        }
    }

    /// The lines of at most [`LINES`] messages from an index on.
    pub fn lines(self, drop: &Maildrop, first: usize, out: &mut Vec<u8>) {
        for (index, size) in drop.sizes_from(first).take_while(|(index, _)| *index < first + LINES) {
            match self {
                Listing::Sizes => line(out, format_args!("{} {size}\r\n", index + 1)),
                Listing::Ids => uidl_line(drop, index, out),
            }
        }
    }
}

fn uidl_line(drop: &Maildrop, index: usize, out: &mut Vec<u8>) {
    line(out, format_args!("{} ", index + 1));
    out.extend_from_slice(&drop.uidl(index));
    out.extend_from_slice(b"\r\n");
}

/// The text of a multi-line answer: a dot more where a line begins with one, and the line with the dot alone at the end
/// (RFC 1939 §3).
#[derive(Default)]
pub struct Dotted {
    /// The last byte that was written.
    last: Option<u8>,
}

impl Dotted {
    /// Adds the next piece of the text.
    pub fn push(&mut self, text: &[u8], out: &mut Vec<u8>) {
        if text.starts_with(b".") && self.last.is_none_or(|last| last == b'\n') {
            out.push(b'.');
        }
        let mut begin = 0;
        for at in memchr::memmem::find_iter(text, b"\n.") {
            out.extend_from_slice(text.get(begin..=at).unwrap_or_default());
            out.push(b'.');
            begin = at + 1;
        }
        out.extend_from_slice(text.get(begin..).unwrap_or_default());
        self.last = text.last().copied().or(self.last);
    }

    /// Ends the answer. The last line of a file that somebody cut gets its line end.
    pub fn finish(self, out: &mut Vec<u8>) {
        if self.last.is_some_and(|last| last != b'\n') {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
    }
}

/// Writes the refusal.
pub fn refuse(error: &MailboxError, out: &mut Vec<u8>) {
    line(out, format_args!("-ERR {}\r\n", reason(error)));
}

/// What a client is told, with a code of RFC 2449 §8 or RFC 3206 where one fits. Admins read the details in the server's own messages.
pub fn reason(error: &MailboxError) -> &'static str {
    match error {
        MailboxError::Gone => "no such message",
        MailboxError::Locked(_) => "[IN-USE] another program holds the mailbox; try again in a minute",
        MailboxError::Changed => "[SYS/TEMP] another program is changing the mailbox; try again",
        MailboxError::Foreign { .. } => {
            "[SYS/PERM] the mailbox file is no mailbox; the administrator has to look at it"
        }
        MailboxError::TooLarge(_) | MailboxError::Limit(_) => {
            "[SYS/PERM] the mailbox is too large; the administrator has to look at it"
        }
        MailboxError::Io(_) => "[SYS/TEMP] the mailbox cannot be used now; try again later",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut dotted = Dotted::default();
        // In pieces of two, so that every border is met.
        text.chunks(2).for_each(|piece| dotted.push(piece, &mut out));
        dotted.finish(&mut out);
        out
    }

    #[test]
    fn dots() {
        for (text, expected) in [
            ("", ".\r\n"),
            (".\r\n", "..\r\n.\r\n"),
            ("a\r\n.\r\n..b\r\n.c.d\r\n", "a\r\n..\r\n...b\r\n..c.d\r\n.\r\n"),
            ("no end", "no end\r\n.\r\n"),
            ("a\r\n\r\n", "a\r\n\r\n.\r\n"),
        ] {
            assert_eq!(String::from_utf8(written(text.as_bytes())).unwrap(), expected);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_client_reads_what_was_stored(lines in proptest::collection::vec("[.a]{0,3}", 0..20)) {
            let text: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let sent = String::from_utf8(written(text.as_bytes())).unwrap();
            let mut read = String::new();
            let mut ended = false;
            for line in sent.split_inclusive("\r\n") {
                prop_assert!(!ended);
                ended = line == ".\r\n";
                if !ended {
                    read.push_str(line.strip_prefix('.').unwrap_or(line));
                }
            }
            prop_assert!(ended);
            prop_assert_eq!(read, text);
        }
    }
}
