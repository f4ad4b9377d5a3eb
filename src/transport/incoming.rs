//! A message while it comes in: in memory as long as it is small, then in its spool file.

use crate::transport::trace::{Origin, missing, received};
use chrono::{DateTime, Local};
use layout::mbx::compose::Source;
use layout::mbx::header;
use layout::spool::id::{ItemName, Origin as Kind};
use layout::spool::store::{self, Store};
use std::io;

/// Messages up to this size stay in memory: most mail, and never more than this for each connection.
pub const MEMORY_MAX: usize = 256 << 10;

/// Collects a message's bytes.
pub struct Incoming {
    store: Store,
    origin: Origin,
    arrived: DateTime<Local>,
    size_max: u64,
    size: u64,
    memory: Vec<u8>,
    file: Option<store::Incoming>,
    error: Option<io::Error>,
}

impl Incoming {
    /// Nothing yet.
    pub fn new(store: Store, origin: Origin, size_max: u64) -> Incoming {
        let (memory, file, error) = (Vec::new(), None, None);
        Incoming { store, origin, arrived: Local::now(), size_max, size: 0, memory, file, error }
    }

    /// Will the next `more` bytes be written to the disk?
    pub fn goes_to_disk(&self, more: usize) -> bool {
        self.file.is_some() || self.memory.len() + more > MEMORY_MAX
    }

    /// Adds bytes. What goes wrong shows at the end, since the client sends on anyway.
    pub fn write(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        if self.is_too_large() || self.error.is_some() {
            // The rest is read and dropped.
            self.memory = Vec::new();
            self.file = None;
            return;
        }
        if let Err(error) = self.store(bytes) {
            self.error = Some(error);
        }
    }

    fn store(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            return file.write(bytes);
        }
        self.memory.extend_from_slice(bytes);
        if self.memory.len() > MEMORY_MAX {
            let mut file = self.store.incoming(ItemName::new(self.origin.id, Kind::Mail))?;
            file.write(self.head().as_bytes())?;
            file.write(&std::mem::take(&mut self.memory))?;
            self.file = Some(file);
        }
        Ok(())
    }

    /// How many bytes came: without the lines that we add.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Is it larger than it may be?
    pub fn is_too_large(&self) -> bool {
        self.size > self.size_max
    }

    /// The lines that go in front. A header that does not end within what is in memory counts as far as it is there.
    fn head(&self) -> String {
        let header = &self.memory[..header::end(&self.memory).unwrap_or(self.memory.len())];
        received(&self.origin, self.arrived) + &missing(&self.origin, header, self.arrived)
    }

    /// The whole message, with the lines that we add, and its spool file if it has one.
    pub fn finish(self) -> io::Result<(Source, Option<store::Incoming>)> {
        if let Some(error) = self.error {
            return Err(error);
        }
        match self.file {
            Some(file) => Ok((file.source(), Some(file))),
            None => {
                let mut message = self.head().into_bytes();
                message.extend_from_slice(&self.memory);
                Ok((Source::Bytes(message.into()), None))
            }
        }
    }
}
