//! Opening and leaving a mailbox, and looking at one from outside: SELECT, EXAMINE, STATUS, CHECK, CLOSE, EXPUNGE (RFC 3501 §6.3.1, §6.3.10,
//! §6.4).

use super::command::{Numbering, StatusItem, WireMailbox};
use super::outcome::{Done, Failed, Outcome, done};
use super::reply;
use super::sequence::SequenceSet;
use super::session::{Session, mailbox_name};
use super::sync::View;
use crate::mailbox::Open;
use crate::session::connection::Blocking;
use layout::lock::PATIENCE;
use layout::mailbox::{Mailbox, MailboxError, Refreshed};
use layout::mbx::record::flag;
use std::io::Write as _;
use std::sync::Arc;

impl Session {
    /// An existing mailbox of the user.
    fn existing(&self, mailbox: &WireMailbox) -> Result<Arc<Open>, Failed> {
        let name = mailbox_name(mailbox).map_err(|_| Failed::nonexistent())?;
        match self.folders()?.exists(&name) {
            true => Ok(self.server.hub.open(&self.user()?.dir, &name)),
            false => Err(Failed::nonexistent()),
        }
    }

    /// SELECT and EXAMINE.
    pub(super) fn select(
        &mut self,
        out: &mut Blocking<'_>,
        mailbox: &WireMailbox,
        read_only: bool,
    ) -> Outcome {
        // The mailbox that was open is left even if this one cannot be opened (RFC 3501 §6.3.1).
        self.view = None;
        let open = self.existing(mailbox)?;
        let looked = |mailbox: &mut Mailbox| -> Result<_, MailboxError> {
            mailbox.refresh(PATIENCE)?;
            let first_unseen = mailbox.messages().position(|record| !record.has(flag::SEEN));
            Ok((View::new(open.clone(), mailbox, read_only), first_unseen, mailbox.uid_next()))
        };
        let (view, first_unseen, uid_next) = open.with(looked)?;
        let mut answer = b"* FLAGS ".to_vec();
        view.write_flag_names(&mut answer, false);
        answer.extend_from_slice(b"\r\n* OK [PERMANENTFLAGS ");
        view.write_flag_names(&mut answer, true);
        answer.extend_from_slice(b"] these can be changed\r\n");
        write!(answer, "* {} EXISTS\r\n* {} RECENT\r\n", view.count(), view.recent_count())?;
        if let Some(index) = first_unseen.filter(|index| *index < view.count()) {
            write!(answer, "* OK [UNSEEN {}] the first unseen message\r\n", index + 1)?;
        }
        write!(answer, "* OK [UIDVALIDITY {}] UIDs are valid\r\n", view.uidvalidity)?;
        write!(answer, "* OK [UIDNEXT {uid_next}] the next UID\r\n")?;
        out.write_all(&answer)?;
        self.view = Some(view);
        Ok(match read_only {
            true => Done { code: "READ-ONLY".to_owned(), text: "EXAMINE completed" },
            false => Done { code: "READ-WRITE".to_owned(), text: "SELECT completed" },
        })
    }

    /// STATUS.
    pub(super) fn status(
        &mut self,
        out: &mut Blocking<'_>,
        mailbox: &WireMailbox,
        items: &[StatusItem],
    ) -> Outcome {
        let open = self.existing(mailbox)?;
        let values = open.with(|mailbox| -> Result<Vec<u64>, MailboxError> {
            mailbox.refresh(PATIENCE)?;
            Ok(items.iter().map(|item| value(mailbox, *item)).collect())
        })?;
        let mut answer = b"* STATUS ".to_vec();
        reply::astring(&mut answer, &mailbox.0);
        answer.extend_from_slice(b" (");
        for (index, (item, value)) in items.iter().zip(values).enumerate() {
            let blank = if index > 0 { " " } else { "" };
            write!(answer, "{blank}{} {value}", name(*item))?;
        }
        answer.extend_from_slice(b")\r\n");
        out.write_all(&answer)?;
        done("STATUS completed")
    }

    /// CHECK: flags are written down (RFC 3501 §6.4.1).
    pub(super) fn check(&mut self) -> Outcome {
        let open = self.selected()?.open.clone();
        open.with(|mailbox| if mailbox.needs_flush() { mailbox.flush(PATIENCE) } else { Ok(()) })?;
        done("CHECK completed")
    }

    /// CLOSE: removes what is marked, without telling (RFC 3501 §6.4.2).
    pub(super) fn close(&mut self) -> Outcome {
        if let Some(view) = self.view.take()
            && !view.read_only
        {
            self.deleted += view.open.with(|mailbox| remove_marked(mailbox, &[(1, u32::MAX)]))?;
        }
        done("CLOSE completed")
    }

    /// EXPUNGE, and UID EXPUNGE with the UIDs of `only` (RFC 4315 §2.1). The removals are told behind the command.
    pub(super) fn expunge(&mut self, only: Option<&SequenceSet>) -> Outcome {
        let view = self.changeable()?;
        let among = match only {
            Some(set) => view.uid_ranges(&view.select(Numbering::Uid, set)?),
            None => vec![(1, u32::MAX)],
        };
        let open = view.open.clone();
        self.deleted += open.with(|mailbox| remove_marked(mailbox, &among))?;
        done("EXPUNGE completed")
    }
}

/// Removes the messages among these UIDs that bear `\Deleted`, and says how many.
fn remove_marked(mailbox: &mut Mailbox, among: &[(u32, u32)]) -> Result<u64, MailboxError> {
    if mailbox.refresh(PATIENCE)? == Refreshed::Busy {
        return Err(MailboxError::Locked(mailbox.file().to_string()));
    }
    let mut marked: Vec<(u32, u32)> = Vec::new();
    for (first, last) in among {
        let deleted = mailbox.range(*first, *last).filter(|record| record.has(flag::DELETED));
        marked.extend(deleted.map(|record| (record.uid.get(), record.uid.get())));
    }
    if !marked.is_empty() {
        mailbox.expunge(&marked, PATIENCE)?;
    }
    Ok(marked.len() as u64)
}

fn name(item: StatusItem) -> &'static str {
    match item {
        StatusItem::Messages => "MESSAGES",
        StatusItem::Recent => "RECENT",
        StatusItem::UidNext => "UIDNEXT",
        StatusItem::UidValidity => "UIDVALIDITY",
        StatusItem::Unseen => "UNSEEN",
    }
}

fn value(mailbox: &mut Mailbox, item: StatusItem) -> u64 {
    match item {
        StatusItem::Messages => mailbox.uids().len() as u64,
        StatusItem::Recent => {
            let mark = mailbox.recent_mark();
            mailbox.uids().iter().filter(|uid| **uid > mark).count() as u64
        }
        StatusItem::UidNext => u64::from(mailbox.uid_next()),
        StatusItem::UidValidity => u64::from(mailbox.uidvalidity()),
        StatusItem::Unseen => mailbox.messages().filter(|record| !record.has(flag::SEEN)).count() as u64,
    }
}
