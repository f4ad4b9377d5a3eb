//! imaild: a mail server that runs on an IMail data directory as it is.

pub mod command;
pub mod mailbox;
pub mod message;
pub mod serve;
