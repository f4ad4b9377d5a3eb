//! POP3 (RFC 1939) with its extension mechanism (RFC 2449) and SASL (RFC 5034).
//!
//! `command` reads a line into a typed command, `drop` is one session's view of a mailbox, `transaction` answers the commands on it, and
//! `session` goes through the states.
//!
//! A session locks nothing: phone and desktop may fetch at once, and a dropped line leaves nothing behind. The view is taken at login;
//! a message that is gone meanwhile is answered as such; deletion happens at QUIT, durably, or not at all.
//!
//! # Failure
//! Every refusal is an `-ERR` line; what ends a session is in `session::End`.
//!
//! # Limits
//! `session::LINE_MAX`, `LOGIN_WITHIN`, `IDLE_MAX`, `FAILED_LOGINS_MAX`, `JUNK_MAX`.

pub mod command;
mod drop;
mod session;
#[cfg(test)]
mod tests;
mod transaction;

pub use session::session;
