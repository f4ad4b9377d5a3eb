//! imaild: a mail server that runs on an IMail data directory as it is.

pub mod access;
pub mod message;
