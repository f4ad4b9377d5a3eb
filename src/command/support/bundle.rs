//! The file that is made: a compressed archive, filled entry by entry.

use super::super::CommandError;
use flate2::Compression;
use flate2::write::GzEncoder;
use layout::disk::{Disk, Handle, Open};
use layout::mailbox::Content;
use layout::path::TreePath;
use std::collections::HashSet;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// What stands at the top of `CONTENTS.txt`, for whoever opens the file, and for the one who is about to send it.
const ABOUT: &str = "\
Made by imaild support. Passwords, and all values of the registry that imaild does not know, were left out.
Logs, the queue and settings hold names and addresses; mailboxes and messages are whole. A mailbox file also
holds messages that were removed a short while ago.

In this file:
";
/// How often a name that is taken gets a number.
const SAME_NAME_MAX: usize = 1000;

/// A bundle that is being made.
pub(super) struct Bundle {
    archive: tar::Builder<GzEncoder<File>>,
    /// The directory in the archive.
    name: String,
    /// The time that entries bear, in Unix seconds.
    time: u64,
    names: HashSet<String>,
    /// What could not be had.
    notes: Vec<String>,
}

/// What became of it, in words.
pub(super) struct Made {
    pub(super) entries: usize,
    pub(super) notes: Vec<String>,
}

impl Bundle {
    /// Makes the file `out`, which must not exist and which only its owner can read. If it cannot be finished, nothing is left of it.
    pub(super) fn make(
        out: &Path,
        name: &str,
        fill: impl FnOnce(&mut Bundle) -> Result<(), CommandError>,
    ) -> Result<Made, CommandError> {
        let file = File::options().write(true).create_new(true).mode(0o600).open(out);
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                CommandError::Refused(format!("{} exists already: choose another name", out.display()))
            }
            _ => CommandError::File(out.display().to_string(), error),
        })?;
        let mut bundle = Bundle {
            archive: tar::Builder::new(GzEncoder::new(file, Compression::default())),
            name: name.to_owned(),
            time: u64::try_from(chrono::Utc::now().timestamp()).unwrap_or(0),
            names: HashSet::new(),
            notes: Vec::new(),
        };
        let filled = fill(&mut bundle);
        let made = filled.and_then(|()| bundle.finish().map_err(CommandError::file(out.display())));
        if made.is_err() {
            let _ = std::fs::remove_file(out);
        }
        made
    }

    fn finish(mut self) -> io::Result<Made> {
        let mut names: Vec<&String> = self.names.iter().collect();
        names.sort();
        let mut list = String::from(ABOUT);
        list.extend(names.iter().map(|name| format!("  {name}\n")));
        if !self.notes.is_empty() {
            list.push_str("\nWhat could not be had:\n");
            list.extend(self.notes.iter().map(|note| format!("  {note}\n")));
        }
        let entries = names.len() + 1;
        self.add("CONTENTS.txt", list.len() as u64, list.as_bytes())?;
        self.archive.into_inner()?.finish()?.sync_all()?;
        Ok(Made { entries, notes: self.notes })
    }

    /// Says what could not be had.
    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Puts a text in.
    pub(super) fn text(&mut self, name: &str, text: &str) -> Result<(), CommandError> {
        self.add(name, text.len() as u64, text.as_bytes()).map_err(CommandError::file(name))
    }

    /// Puts a text in, or says why there is none.
    pub(super) fn text_or_note<E: Display>(
        &mut self,
        name: &str,
        text: Result<String, E>,
    ) -> Result<(), CommandError> {
        match text {
            Ok(text) => self.text(name, &text),
            Err(error) => {
                self.note(format!("{name}: {error}"));
                Ok(())
            }
        }
    }

    /// Puts in what a file holds at this moment.
    pub(super) fn copy(&mut self, name: &str, disk: &dyn Disk, file: &TreePath) -> Result<(), CommandError> {
        let opened = disk.open(file, Open::Read).and_then(|handle| Ok((handle.stamp()?.size, handle)));
        match opened {
            Ok((size, handle)) => self.pieces(name, size, Whole { handle, at: 0 }),
            Err(error) => {
                self.note(format!("{file}: {error}"));
                Ok(())
            }
        }
    }

    /// Puts `size` bytes in that come piece by piece. If fewer come the rest is zeros, and a note says why.
    pub(super) fn pieces(&mut self, name: &str, size: u64, source: impl Read) -> Result<(), CommandError> {
        let mut padded = Padded { source, left: size, wrong: None };
        self.add(name, size, &mut padded).map_err(CommandError::file(name))?;
        if let Some(wrong) = padded.wrong {
            self.note(format!("{name}: from some place on there are only zeros: {wrong}"));
        }
        Ok(())
    }

    fn add(&mut self, name: &str, size: u64, content: impl Read) -> io::Result<()> {
        let name = self.free(&harmless(name))?;
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o600);
        header.set_mtime(self.time);
        let path = format!("{}/{name}", self.name);
        self.archive.append_data(&mut header, path, content)?;
        self.names.insert(name);
        Ok(())
    }

    /// The name, or one with a number if it is taken.
    fn free(&self, name: &str) -> io::Result<String> {
        let numbered = (2..SAME_NAME_MAX).map(|number| format!("{name}.{number}"));
        let mut names = std::iter::once(name.to_owned()).chain(numbered);
        names.find(|name| !self.names.contains(name)).ok_or_else(|| io::ErrorKind::AlreadyExists.into())
    }
}

/// A name that means the same wherever the archive is unpacked: letters, digits and a few signs; no part begins with a dot.
fn harmless(name: &str) -> String {
    let sign = |c: char| match c {
        _ if c.is_ascii_alphanumeric() => c,
        '/' | '.' | '-' | '_' | '@' | '+' | '=' | ',' | '&' => c,
        _ => '_',
    };
    let part = |part: &str| match part.strip_prefix('.') {
        Some(rest) => format!("_{rest}"),
        None => part.to_owned(),
    };
    let parts: Vec<String> = name.split('/').filter(|part| !part.is_empty()).map(part).collect();
    parts.join("/").chars().map(sign).collect()
}

/// A file from its begin.
struct Whole {
    handle: Box<dyn Handle>,
    at: u64,
}

impl Read for Whole {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.handle.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// A message as IMAP clients see it.
pub(super) struct Message {
    content: Content,
    piece: Vec<u8>,
    at: usize,
}

impl Message {
    pub(super) fn new(content: Content) -> Message {
        Message { content, piece: Vec::new(), at: 0 }
    }
}

impl Read for Message {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.piece.len() {
            self.piece = self.content.next_piece().map_err(io::Error::other)?.unwrap_or_default();
            self.at = 0;
        }
        let mut rest = self.piece.get(self.at..).unwrap_or_default();
        let count = rest.read(buffer)?;
        self.at += count;
        Ok(count)
    }
}

/// Exactly so many bytes: an entry of an archive must be as long as was announced, whatever happens to its source meanwhile.
struct Padded<R> {
    source: R,
    left: u64,
    wrong: Option<String>,
}

impl<R: Read> Read for Padded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let wanted = buffer.get_mut(..most).unwrap_or_default();
        let mut count = 0;
        if self.wrong.is_none() && most > 0 {
            match self.source.read(wanted) {
                Ok(0) => self.wrong = Some("it became shorter while it was read".to_owned()),
                Ok(read) => count = read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
                Err(error) => self.wrong = Some(error.to_string()),
            }
        }
        if self.wrong.is_some() {
            wanted.fill(0);
            count = most;
        }
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_the_archive() {
        for (name, expected) in [
            ("logs/sys20220825.txt", "logs/sys20220825.txt"),
            ("mailboxes/ann@example.org/&ZeVnLIqe-.mbx", "mailboxes/ann@example.org/&ZeVnLIqe-.mbx"),
            ("lists/../../etc/passwd", "lists/_./_./etc/passwd"),
            ("/a//b c\u{5c71}\\.", "a/b_c__."),
        ] {
            assert_eq!(harmless(name), expected, "{name}");
        }
    }

    #[test]
    fn an_entry_is_as_long_as_announced() {
        for (source, size, expected, wrong) in [
            (&b"abcdef"[..], 3, &b"abc"[..], false),
            (b"abc", 3, b"abc", false),
            (b"abc", 6, b"abc\0\0\0", true),
            (b"", 0, b"", false),
        ] {
            let mut padded = Padded { source, left: size, wrong: None };
            let mut read = Vec::new();
            padded.read_to_end(&mut read).unwrap();
            assert_eq!((read.as_slice(), padded.wrong.is_some()), (expected, wrong), "{source:?}");
        }
    }

    /// What cannot be finished is not left there, and what is there is not touched.
    #[test]
    fn all_or_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("x.tar.gz");
        let failed = Bundle::make(&out, "x", |bundle| {
            bundle.text("a.txt", "a")?;
            Err(CommandError::Refused("no".into()))
        });
        assert!(failed.is_err() && !out.exists());
        let made = Bundle::make(&out, "x", |bundle| {
            bundle.text("a.txt", "a")?;
            bundle.text("a.txt", "b")?;
            bundle.text_or_note("c.txt", Err::<String, _>("gone"))
        });
        let made = made.unwrap();
        assert_eq!((made.entries, made.notes), (3, vec!["c.txt: gone".to_owned()]));
        let before = std::fs::read(&out).unwrap();
        assert!(Bundle::make(&out, "x", |_| Ok(())).is_err());
        assert_eq!(std::fs::read(&out).unwrap(), before);
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&before[..]));
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["x/a.txt", "x/a.txt.2", "x/CONTENTS.txt"]);
    }
}
