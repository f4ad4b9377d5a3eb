//! Making a mailbox's index anew from its file.
//!
//! What the old index still says is not thrown away: messages that it knows keep their UIDs, flags and keywords, and UIDVALIDITY stays.
//!
//! # Failure
//! [`MailboxError`]; the old index is as it was, or the new one is whole.

use super::{Mailbox, MailboxError};
use std::time::Duration;

impl Mailbox {
    /// Reads the whole file and writes a new index. Answers with the number of messages; `None` if there is no such file.
    pub fn rebuild(&mut self, patience: Duration) -> Result<Option<usize>, MailboxError> {
        // Whatever is known is doubted, so the first look reads everything.
        self.load()?;
        self.suspect = true;
        let held = self.lock_for_change(patience)?;
        Ok(held.map(|_held| self.messages().count()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FlagChange, IndexState, Trust, inspect};
    use super::*;
    use crate::disk::Disk;
    use crate::disk::sim::SimDisk;
    use crate::mbx::record::flag;
    use crate::path::TreePath;
    use std::path::Path;
    use std::sync::Arc;

    #[test]
    fn a_damaged_index_is_made_anew_and_flags_stay() {
        let disk = SimDisk::new();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let dir = TreePath::base_of(Path::new("/mail")).join("u");
        let file = dir.join("main.mbx");
        disk.seed(&file, b"From <a@b> Mon Aug 01 10:00:00 2022\r\nA: b\r\n\r\none\r\n\r\nFrom <a@b> Mon Aug 01 10:00:00 2022\r\nA: c\r\n\r\n");
        let open = || Mailbox::new(shared.clone(), file.clone(), dir.join("user.lck"));
        let mut mailbox = open();
        assert_eq!(mailbox.rebuild(Duration::ZERO).unwrap(), Some(2));
        let change = FlagChange { set: flag::FLAGGED, ..FlagChange::default() };
        mailbox.change_flags(&[(1, u32::MAX)], &change, Duration::ZERO).unwrap();
        let (uids, uidvalidity) = (mailbox.uids(), mailbox.uidvalidity());
        let mut again = open();
        assert_eq!(again.rebuild(Duration::ZERO).unwrap(), Some(2));
        assert_eq!((again.uids(), again.uidvalidity()), (uids.clone(), uidvalidity));
        assert!(again.messages().all(|record| record.has(flag::FLAGGED)));
        disk.seed(&file.with_extension("rsx"), b"nonsense");
        assert!(matches!(inspect(&shared, &file, Trust::Nothing).unwrap().index, IndexState::Damaged(_)));
        open().rebuild(Duration::ZERO).unwrap();
        assert_eq!(inspect(&shared, &file, Trust::Nothing).unwrap().index, IndexState::Current);
        assert_eq!(
            Mailbox::new(shared, dir.join("none.mbx"), dir.join("user.lck")).rebuild(Duration::ZERO).unwrap(),
            None
        );
    }
}
