//! IMAP4rev1 (RFC 3501), with LITERAL+, SASL-IR, ID, IDLE, NAMESPACE, UIDPLUS, CHILDREN, UNSELECT and MOVE.
//!
//! [`wire`] reads a line and its literals, [`parse`] makes a [`command::Request`] of them, [`session`] knows which command may come when and calls
//! its handler, one module for each group of commands; [`sync`] knows what the client knows of its mailbox; [`reply`] and [`outcome`] write
//! the answers.

mod append;
pub mod command;
mod copy;
mod fetch;
mod folders;
mod idle;
mod login;
mod outcome;
pub mod parse;
mod reading;
pub mod reply;
mod search;
mod select;
pub mod sequence;
mod session;
mod store;
mod sync;
#[cfg(test)]
mod tests;
mod wire;

pub use session::session;
