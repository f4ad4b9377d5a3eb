//! The files of a user's directory besides mailboxes: settings, and what the server remembers of the user.

pub mod forward;
pub mod last_login;
pub mod public_seen;
