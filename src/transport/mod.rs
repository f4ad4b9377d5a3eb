//! Where mail goes.

use crate::config::Live;
use crate::logs::Log;
use crate::mailbox::Hub;
use crate::serve::Options;
use std::sync::Arc;

/// Routing and delivery.
pub struct Transport {}

impl Transport {
    /// Starts what runs in the background.
    pub fn start(
        _live: &Arc<Live>,
        _hub: &Arc<Hub>,
        _log: &Log,
        _options: &Options,
    ) -> std::io::Result<Transport> {
        Ok(Transport {})
    }
}
