//! What is in the sample directory, as `fixtures/README.md` has it.

/// Accounts that can log in: login name, password, messages in the main mailbox.
pub const ACCOUNTS: [(&str, &str, usize); 9] = [
    ("suzuki", "sakura2022", 8),
    ("tanaka", "hanami!55", 3),
    ("mike", "rocks", 2),
    ("mr-fred", "abcdefghij", 1),
    ("user789", "Passw0rd!", 0),
    ("root", "Super-visor9", 0),
    ("public", "noticeboard7", 0),
    ("ann@example.org", "lovely99", 2),
    ("bob@example.org", "builder1", 0),
];

/// Accounts that cannot log in, each with a password that somebody might try.
pub const LOCKED: [(&str, &str); 4] =
    [("yamada", "fujisan1"), ("sato", "9c1185a5c5e9fc54"), ("noone", ""), ("noone", "password")];

/// `suzuki`'s password.
pub const SUZUKI: &str = "sakura2022";

/// The `X-UIDL` lines in `suzuki`'s main mailbox.
pub const SUZUKI_UIDL: [&str; 8] =
    ["967151553", "967151554", "967151555", "967151556", "967151557", "967151558", "967151560", "967151561"];

/// Whether each message there was read, by its `Status` line.
pub const SUZUKI_SEEN: [bool; 8] = [true, false, false, true, false, true, false, false];

/// The other mailboxes of `suzuki` by their IMAP names, with the read marks of their messages.
pub const SUZUKI_FOLDERS: [(&str, &[bool]); 9] = [
    ("Sent", &[true, true]),
    ("Draft", &[]),
    ("Projects.2022", &[true, false]),
    ("Archive.2021", &[true]),
    ("&ZeVnLIqe-", &[false]),
    ("&Tgtm+DBN-", &[true]),
    ("unix", &[true, false]),
    ("old", &[true, false, false]),
    ("IMIP", &[]),
];

/// A binary file with the name of a mailbox.
pub const SUZUKI_FOREIGN: &str = "outlook";

/// The primary domain.
pub const PRIMARY: &str = "mail.example.jp";

/// The domain without an address.
pub const VIRTUAL: &str = "example.org";
