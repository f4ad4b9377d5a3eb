//! The identity of a mailbox, `<name>.rsu`: three numbers in one line of text.
//!
//! `uidvalidity 1700000000 floor 400001024 numbered 1`
//!
//! *Floor*: no UID at or above it was ever given to a message. It is raised ahead of need, so that UIDs never run backwards, even
//! when everything else is lost. *Numbered*: every UID so far is the `X-UIDL` number of its message, so the mailbox file alone
//! tells them all.

/// How far ahead of need the floor is raised: one replaced file for so many messages.
pub const AHEAD: u32 = 1024;

/// What must not change while clients remember a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// RFC 3501 §2.3.1.1.
    pub uidvalidity: u32,
    /// No UID at or above this was ever given.
    pub floor: u32,
    /// Every UID so far is an `X-UIDL` number.
    pub numbered: bool,
}

impl Identity {
    /// Reads the file; anything else than the one line is nothing.
    pub fn parse(bytes: &[u8]) -> Option<Identity> {
        let text = std::str::from_utf8(bytes).ok()?;
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let ["uidvalidity", validity, "floor", floor, "numbered", numbered] = words[..] else { return None };
        let numbered = match numbered {
            "0" => false,
            "1" => true,
            _ => return None,
        };
        let uidvalidity = validity.parse().ok().filter(|n| *n > 0)?;
        Some(Identity { uidvalidity, floor: floor.parse().ok()?, numbered })
    }

    /// The file's content.
    pub fn write(&self) -> String {
        let Identity { uidvalidity, floor, numbered } = self;
        format!("uidvalidity {uidvalidity} floor {floor} numbered {}\n", u8::from(*numbered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let identity = Identity { uidvalidity: 1_700_000_000, floor: 42, numbered: true };
        assert_eq!(Identity::parse(identity.write().as_bytes()), Some(identity));
        for bad in [
            "",
            "uidvalidity 0 floor 1 numbered 1",
            "uidvalidity 1 floor 1",
            "uidvalidity 1 floor 1 numbered 2",
        ] {
            assert_eq!(Identity::parse(bad.as_bytes()), None);
        }
    }
}
