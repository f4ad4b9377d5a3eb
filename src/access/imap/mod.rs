//! IMAP4rev1 (RFC 3501).
//!
//! A line and its literals become a [`command::Request`] in [`parse`]; [`reply`] writes the pieces of answers.

pub mod command;
pub mod parse;
pub mod reply;
pub mod sequence;
