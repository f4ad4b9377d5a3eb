//! The names of our own files in a tree: what IMail does not know, and leaves alone. `README.md` of this crate says what each is.
//!
//! Only files that can go when the tree goes back to IMail for good are listed: no mail is in them, nothing waits on them, and IMail would
//! not miss them. Envelopes that are held (`H...`), `*.lost`, `backup`, older registries and compressed logs are ours too, and are not here.

use std::path::Path;

/// How a file of ours is told by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// The whole name.
    Name(&'static str),
    /// How the name ends.
    End(&'static str),
    /// How it begins and ends.
    Around(&'static str, &'static str),
}

/// The kinds of our files that can be deleted.
pub const DELETABLE: [Pattern; 21] = [
    Pattern::End(".rsx"),
    Pattern::End(".rsx.1"),
    Pattern::End(".rsj"),
    Pattern::End(".rsu"),
    Pattern::End(".$$$"),
    Pattern::End(".inf.opt"),
    Pattern::Name("user.lck"),
    Pattern::Name("login.last"),
    Pattern::Name("imap.sub"),
    Pattern::Name("imap.use"),
    Pattern::Name("public.seen"),
    Pattern::Name("list.ini"),
    Pattern::Name("hold.lst"),
    Pattern::Name("bounces.lst"),
    Pattern::Name("confirm.key"),
    Pattern::Name("digest.sent"),
    Pattern::Name("next.id"),
    Pattern::Name("registry.ini"),
    Pattern::Name("registry.ini.good"),
    Pattern::Name("registry.lck"),
    Pattern::Around("imaild.", ".status"),
];

impl Pattern {
    /// Does a name fit? Ours are always in lower case.
    pub fn fits(self, name: &str) -> bool {
        match self {
            Pattern::Name(whole) => name == whole,
            Pattern::End(end) => name.len() > end.len() && name.ends_with(end),
            Pattern::Around(begin, end) => {
                name.len() > begin.len() + end.len() && name.starts_with(begin) && name.ends_with(end)
            }
        }
    }

    /// As shells and `find -name` write it.
    pub fn glob(self) -> String {
        match self {
            Pattern::Name(whole) => whole.to_owned(),
            Pattern::End(end) => format!("*{end}"),
            Pattern::Around(begin, end) => format!("{begin}*{end}"),
        }
    }
}

/// The kind of a file of ours that can be deleted; `None` for all others.
pub fn deletable(file: &Path) -> Option<Pattern> {
    let name = file.file_name()?.to_str()?;
    DELETABLE.into_iter().find(|pattern| pattern.fits(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_and_imails() {
        for ours in [
            "users/mike/main.rsx",
            "users/mike/&ZeVnLIqe-.rsx.1",
            "registry.ini",
            "logs/imaild.12.status",
            "main.inf.opt",
        ] {
            assert!(deletable(Path::new(ours)).is_some(), "{ours}");
        }
        for imails in [
            "users/mike/main.mbx",
            ".rsx",
            "main.inf",
            "users.lst",
            "imail.ini",
            "HQ00.SMD",
            "main.lost",
            "sys20220825.txt",
        ] {
            assert_eq!(deletable(Path::new(imails)), None, "{imails}");
        }
    }
}
