//! POP3 (RFC 1939).

use crate::serve::Server;
use crate::serve::connection::Connection;
use std::sync::Arc;

/// Serves one client.
pub async fn session(_server: Arc<Server>, connection: Connection) {
    connection.close().await;
}
