//! The settings files of a user's directory, `*.ima`.

pub mod forward;
pub mod last_login;
