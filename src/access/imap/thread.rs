//! THREAD (RFC 5256 §3): messages that are found, by what belongs together.

use super::command::{Search, ThreadAlgorithm};
use super::outcome::{Outcome, done};
use super::reading::Part;
use super::session::Session;
use super::sort::sent;
use crate::message::header;
use crate::message::subject::base_subject;
use crate::message::thread::{Threadable, by_references, by_subject, message_id, references};
use crate::session::connection::Blocking;
use std::io::Write as _;

impl Session {
    /// THREAD and UID THREAD.
    pub(super) fn thread(
        &mut self,
        out: &mut Blocking<'_>,
        search: &Search,
        algorithm: ThreadAlgorithm,
    ) -> Outcome {
        let found = self.find(out, search)?;
        let mut messages = Vec::with_capacity(found.len());
        self.each_found(&found, Part::Header, |hit, record, head| {
            messages.push(Threadable {
                number: hit.answer(search.numbering),
                date: sent(record, head),
                subject: base_subject(header::value(head, b"Subject").unwrap_or_default()),
                id: message_id(head),
                references: references(head),
            });
        })?;
        let threads = match algorithm {
            ThreadAlgorithm::OrderedSubject => by_subject(&messages),
            ThreadAlgorithm::References => by_references(&messages),
        };
        let mut line = b"* THREAD".to_vec();
        if !messages.is_empty() {
            line.push(b' ');
        }
        threads.write(&messages, &mut line);
        line.extend_from_slice(b"\r\n");
        out.write_all(&line)?;
        done("THREAD completed")
    }
}
