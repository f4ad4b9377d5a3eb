//! The TRANSACTION state: answers about the messages of a maildrop (RFC 1939 §5, §7).
//!
//! # Failure
//! What is wrong with the mailbox becomes an `-ERR` line; an error is the connection's.

use super::command::Mail;
use super::drop::Maildrop;
use layout::mailbox::MailboxError;
use std::io::{self, Write};

/// How much is given to the connection at once, so that a large message is not held there a second time.
const PIECE: usize = 64 << 10;

/// Answers a command.
pub fn answer(drop: &mut Maildrop, command: Mail, out: &mut impl Write) -> io::Result<()> {
    match command {
        Mail::Stat => {
            let (count, bytes) = drop.totals();
            write!(out, "+OK {count} {bytes}\r\n")
        }
        Mail::List(None) => list(drop, out),
        Mail::List(Some(number)) => match drop.find(number) {
            Some(index) => write!(out, "+OK {number} {}\r\n", drop.size(index)),
            None => refuse(&MailboxError::Gone, out),
        },
        Mail::Uidl(which) => match drop.prepare_uidl() {
            Ok(()) => uidl(drop, which, out),
            Err(error) => refuse(&error, out),
        },
        Mail::Retr(number) => retr(drop, number, out),
        Mail::Top(number, lines) => match content(drop, number, |drop, index| drop.top(index, lines)) {
            Ok((_, text)) => {
                out.write_all(b"+OK\r\n")?;
                multi_line(&text, out)
            }
            Err(error) => refuse(&error, out),
        },
        Mail::Dele(number) => match drop.find(number) {
            Some(index) => {
                drop.delete(index);
                write!(out, "+OK message {number} deleted\r\n")
            }
            None => refuse(&MailboxError::Gone, out),
        },
        Mail::Rset => {
            drop.reset();
            summary(drop, out)
        }
        Mail::Noop => out.write_all(b"+OK\r\n"),
    }
}

/// What is in the maildrop, as the answer to a login.
pub fn summary(drop: &Maildrop, out: &mut impl Write) -> io::Result<()> {
    let (count, bytes) = drop.totals();
    write!(out, "+OK {count} messages ({bytes} octets)\r\n")
}

fn list(drop: &Maildrop, out: &mut impl Write) -> io::Result<()> {
    summary(drop, out)?;
    for (index, size) in drop.sizes() {
        write!(out, "{} {size}\r\n", index + 1)?;
    }
    out.write_all(b".\r\n")
}

fn uidl(drop: &Maildrop, which: Option<u32>, out: &mut impl Write) -> io::Result<()> {
    if let Some(number) = which {
        return match drop.find(number) {
            Some(index) => {
                out.write_all(b"+OK ")?;
                uidl_line(drop, index, out)
            }
            None => refuse(&MailboxError::Gone, out),
        };
    }
    out.write_all(b"+OK\r\n")?;
    drop.sizes().try_for_each(|(index, _)| uidl_line(drop, index, out))?;
    out.write_all(b".\r\n")
}

fn uidl_line(drop: &Maildrop, index: usize, out: &mut impl Write) -> io::Result<()> {
    write!(out, "{} ", index + 1)?;
    out.write_all(&drop.uidl(index))?;
    out.write_all(b"\r\n")
}

fn retr(drop: &mut Maildrop, number: u32, out: &mut impl Write) -> io::Result<()> {
    match content(drop, number, Maildrop::content) {
        Ok((index, text)) => {
            write!(out, "+OK {} octets\r\n", text.len())?;
            multi_line(&text, out)?;
            drop.note_answered(index);
            Ok(())
        }
        Err(error) => refuse(&error, out),
    }
}

fn content(
    drop: &Maildrop,
    number: u32,
    read: impl FnOnce(&Maildrop, usize) -> Result<Vec<u8>, MailboxError>,
) -> Result<(usize, Vec<u8>), MailboxError> {
    let index = drop.find(number).ok_or(MailboxError::Gone)?;
    Ok((index, read(drop, index)?))
}

/// Writes the text of a multi-line answer: a dot more where a line begins with one, and the line with the dot alone at the end
/// (RFC 1939 §3).
fn multi_line(text: &[u8], out: &mut impl Write) -> io::Result<()> {
    let mut begin = 0;
    if text.starts_with(b".") {
        out.write_all(b".")?;
    }
    for at in memchr::memmem::find_iter(text, b"\n.") {
        in_pieces(&text[begin..=at], out)?;
        out.write_all(b".")?;
        begin = at + 1;
    }
    in_pieces(&text[begin..], out)?;
    // The last line of a file that somebody cut.
    if !text.is_empty() && !text.ends_with(b"\n") {
        out.write_all(b"\r\n")?;
    }
    out.write_all(b".\r\n")
}

fn in_pieces(bytes: &[u8], out: &mut impl Write) -> io::Result<()> {
    bytes.chunks(PIECE).try_for_each(|piece| out.write_all(piece))
}

fn refuse(error: &MailboxError, out: &mut impl Write) -> io::Result<()> {
    write!(out, "-ERR {}\r\n", reason(error))
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
        multi_line(text, &mut out).unwrap();
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
