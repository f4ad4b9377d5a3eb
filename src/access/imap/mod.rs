//! IMAP4rev1 (RFC 3501).
//!
//! A line and its literals become a [`command::Request`] in [`parse`]; [`reply`] writes the pieces of answers.

pub mod command;
pub mod parse;
pub mod reply;
pub mod sequence;

use crate::serve::Server;
use crate::serve::connection::Connection;
use std::sync::Arc;

/// Serves one client.
pub async fn session(_server: Arc<Server>, connection: Connection) {
    connection.close().await;
}
