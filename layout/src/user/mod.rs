//! The settings files of a user's directory, `*.ima`.

pub mod forward;
