//! The dialogue with another server in the log, where Verbose Logging is on (IMail manual 5): who is tried, what we say, what is replied.
//!
//! Lines are written as things happen, so that an admin sees what a slow server is waited for. Messages themselves are never part of it, and
//! we say no passwords.

use crate::logs::Log;
use layout::logline::{Event, Tag};
use layout::name::SpoolId;
use layout::registry::model::LogTo;

/// Where a message's dialogue goes; by default nowhere.
#[derive(Clone, Default)]
pub struct Dialogue(Option<(Log, LogTo, SpoolId)>);

impl Dialogue {
    /// Into the log, as lines of this message.
    pub fn logged(log: &Log, to: LogTo, id: SpoolId) -> Dialogue {
        Dialogue(Some((log.clone(), to, id)))
    }

    /// Takes down what happened.
    pub fn event(&self, event: &Event<'_>) {
        if let Some((log, to, id)) = &self.0 {
            log.event(*to, Tag::Smtp, *id, None, event);
        }
    }

    /// What we say: a command, with or without its line end.
    pub fn said(&self, command: &str) {
        self.event(&Event::Said(command.trim_end()));
    }

    /// What a server replies.
    pub fn heard(&self, lines: &[String]) {
        lines.iter().for_each(|line| self.event(&Event::Heard(line)));
    }
}
