//! IMAP4rev1 (RFC 3501) and IMAP4rev2 (RFC 9051), with the extensions that [`capability`] lists.
//!
//! [`wire`] reads a line and its literals, [`parse`] makes a [`command::Request`] of them, [`session`] knows which command may come when and calls
//! its handler, one module for each group of commands; [`sync`] knows what the client knows of its mailbox; [`reply`] and [`outcome`] write
//! the answers.

mod append;
mod capability;
pub mod command;
mod copy;
mod fetch;
mod folders;
mod idle;
mod login;
mod outcome;
pub mod parse;
mod place;
mod quota;
mod reading;
pub mod reply;
mod search;
mod select;
pub mod sequence;
mod session;
mod sort;
mod store;
mod sync;
#[cfg(test)]
mod tests;
mod thread;
mod wire;

pub use session::session;
