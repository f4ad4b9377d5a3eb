//! imaild: a mail server that runs on an IMail data directory as it is.
//!
//! In the order in which a message passes through: [`serve`] accepts the client and hands it a [`session`]; [`config`] knows the registry,
//! [`account`] the users; [`smtp`] takes the message, [`transport`] decides where it goes, with what [`lists`] make of it, [`mailbox`] stores it; [`access`] gives it to its reader, with the help of
//! [`message`]; [`logs`] tells what happened.
//! [`memory`] gives back what large work needed; [`command`] is the command line, and what it does besides serving.

pub mod access;
pub mod account;
pub mod command;
pub mod config;
pub mod lists;
pub mod logs;
pub mod mailbox;
pub mod memory;
pub mod message;
pub mod rules;
pub mod serve;
pub mod session;
pub mod smtp;
pub mod transport;
