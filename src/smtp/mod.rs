//! Receiving mail: the SMTP service (RFC 5321).

use crate::serve::Server;
use crate::serve::connection::Connection;
use std::sync::Arc;

/// Serves one client.
pub async fn session(_server: Arc<Server>, connection: Connection, _submission: bool) {
    connection.close().await;
}
