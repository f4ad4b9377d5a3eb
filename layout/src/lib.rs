//! The formats of an IMail data directory, and the mechanics of reading and changing them safely.
//! No sockets, no async runtime.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod password;
pub mod registry;
pub mod text;
