//! `imaild queue`: what waits in the spool, for administrators. It works on the spool's files alone, so the server may be up or down.
//!
//! A message is named by its id, or by any of its files as `list` and the log show them, in any case. Retrying rewrites the Q file, which
//! is how the queue knows that somebody wants a try: a running server tries at once, one that starts later tries everything anyway.
//! Holding renames the Q file to `HQ...`, a name that IMail does not know and leaves alone.
//!
//! What is done stands in the log of the day, as a line of the message, if SMTP logs to the sys file.
//!
//! # Failure
//! Each message is worked on by itself; those that failed are named with the reason, and the exit code is 1.
//!
//! # Limits
//! `show` prints the message's header only; [`SHOWN_RECIPIENTS`] recipients in a line of `list`.

use super::{CommandError, DataDirectory, Outcome, give_to_owner, print};
use crate::config::Config;
use crate::logs::{self, Log};
use chrono::{DateTime, Local};
use clap::{Args, Subcommand};
use layout::disk::Kind;
use layout::limits::HEADER_MAX;
use layout::logline::{self, Event, FileKind, Tag};
use layout::mbx::header;
use layout::path::TreePath;
use layout::registry::store;
use layout::root::Root;
use layout::spool::id::{Found, ItemName, Role, recognize};
use layout::spool::qfile::{ENVELOPE_MAX, Envelope};
use layout::spool::store::{Item, SpoolError, State, Store};
use std::fmt::Write as _;

/// The most recipients that `list` names for one message.
const SHOWN_RECIPIENTS: usize = 3;

/// The arguments of `queue`.
#[derive(Args)]
pub(super) struct Queue {
    #[command(subcommand)]
    command: QueueCommand,
}

#[derive(Subcommand)]
enum QueueCommand {
    /// List all messages: id, state, tries, size, time of the last try, sender, recipients.
    List(Place),
    /// Show a message's envelope and header.
    Show(One),
    /// Try messages now instead of when their time comes.
    Retry(Several),
    /// Let messages rest until they are released.
    Hold(Several),
    /// Let held messages go on.
    Release(Several),
    /// Remove messages for good; nobody is told.
    Delete(Several),
}

#[derive(Args)]
struct Place {
    #[command(flatten)]
    directory: DataDirectory,
}

#[derive(Args)]
struct One {
    #[command(flatten)]
    directory: DataDirectory,
    /// The message's id, or the name of one of its files.
    #[arg(value_name = "ID")]
    id: String,
}

#[derive(Args)]
struct Several {
    #[command(flatten)]
    directory: DataDirectory,
    /// The messages' ids, or names of their files.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

impl Queue {
    pub(super) fn run(self) -> Result<Outcome, CommandError> {
        match self.command {
            QueueCommand::List(Place { directory }) => {
                print(&Spool::open(&directory.open()?)?.map_or_else(String::new, |spool| spool.list()));
                Ok(Outcome::Done)
            }
            QueueCommand::Show(One { directory, id }) => {
                let spool = Spool::open(&directory.open()?)?.ok_or_else(|| unknown(&id))?;
                print(&spool.show(spool.find(&id)?)?);
                Ok(Outcome::Done)
            }
            QueueCommand::Retry(Several { directory, ids }) => {
                each(&directory, &ids, Spool::retry, "told to be tried now")
            }
            QueueCommand::Hold(Several { directory, ids }) => {
                each(&directory, &ids, Spool::hold, "held back")
            }
            QueueCommand::Release(Several { directory, ids }) => {
                each(&directory, &ids, Spool::release, "released")
            }
            QueueCommand::Delete(Several { directory, ids }) => {
                each(&directory, &ids, Spool::delete, "removed")
            }
        }
    }
}

/// Does the work for each message, writes down what was done, and says at the end which failed. `done` is the log's word for the work.
fn each(
    directory: &DataDirectory,
    ids: &[String],
    work: fn(&Spool, &Item) -> Result<(), CommandError>,
    done: &str,
) -> Result<Outcome, CommandError> {
    let root = directory.open()?;
    let spool = Spool::open(&root)?;
    let one = |id: &String| {
        let spool = spool.as_ref().ok_or_else(|| unknown(id))?;
        let item = spool.find(id)?;
        work(spool, item).map(|()| item)
    };
    let (worked, failed): (Vec<_>, Vec<_>) = ids.iter().map(one).partition(Result::is_ok);
    let items: Vec<&Item> = worked.into_iter().flatten().collect();
    write_down(&root, &items, done);
    let failed: Vec<String> =
        failed.into_iter().filter_map(Result::err).map(|error| error.to_string()).collect();
    match failed.is_empty() {
        true => Ok(Outcome::Done),
        false => Err(CommandError::Refused(failed.join("\nimaild: "))),
    }
}

/// A line for each message in the log of the day. Without a registry nobody knows where that is.
fn write_down(root: &Root, items: &[&Item], done: &str) {
    let Ok(loaded) = store::load(root) else { return };
    let config = Config::new(root, loaded.registry);
    if items.is_empty() {
        return;
    }
    let dir = logs::directory(&config);
    let log = Log::start(root, {
        let dir = dir.clone();
        move || dir.clone()
    });
    let to = config.registry.services.smtpd.log_to;
    for item in items {
        let text = format!("{} was {done} by imaild queue", item.name);
        log.event(to, Tag::Smtp, item.name.id(), None, &Event::Note(&text));
    }
    log.flush();
    // The server must be able to go on with the file.
    let file = root.find(&dir, &logline::file_of(FileKind::System, Local::now().naive_local()));
    let _ = give_to_owner(root, &[dir, file]);
}

fn unknown(id: &str) -> CommandError {
    CommandError::Refused(format!("there is no message {} in the spool: see `imaild queue list`", shown(id)))
}

/// The spool as it was when the command began.
pub(super) struct Spool {
    root: Root,
    store: Store,
    items: Vec<Item>,
}

impl Spool {
    /// `None` if the directory has no spool yet.
    pub(super) fn open(root: &Root) -> Result<Option<Spool>, CommandError> {
        if root.disk().stat(&root.spool()).is_err() {
            return Ok(None);
        }
        let place = root.spool().full();
        let store = Store::new(root).map_err(CommandError::file(place.display()))?;
        let items = store.scan().map_err(CommandError::file(place.display()))?.items;
        Ok(Some(Spool { root: root.clone(), store, items }))
    }

    /// Everything in it.
    pub(super) fn items(&self) -> &[Item] {
        &self.items
    }

    /// The message that the administrator means. An id may begin as the name of a file does: `d1` is the id `d1` before it is the file
    /// `D1`.
    fn find(&self, id: &str) -> Result<&Item, CommandError> {
        let given = id.trim().to_ascii_lowercase();
        let of_file = match recognize(&given) {
            Some(Found::Item(_, item)) => Some(item.key()),
            _ => None,
        };
        for named in [Some(given), of_file].into_iter().flatten() {
            let is = |item: &&Item| item.name.key() == named || item.name.stem().eq_ignore_ascii_case(&named);
            let mut found = self.items.iter().filter(is);
            match (found.next(), found.next()) {
                (Some(item), None) => return Ok(item),
                (Some(one), Some(other)) => {
                    return Err(CommandError::Refused(format!(
                        "{} may be {} or {}: name it with its extension",
                        shown(id),
                        one.name,
                        other.name
                    )));
                }
                (None, _) => {}
            }
        }
        Err(unknown(id))
    }

    /// A file of an item. As it is spelled first: a search for other spellings lists the directory, which changes all the time while mail
    /// comes in.
    fn file(&self, role: Role, name: &ItemName) -> Option<TreePath> {
        let exact = self.store.path(role, name);
        match self.root.disk().stat(&exact) {
            Ok((_, Kind::File)) => Some(exact),
            _ => self.root.file_in(self.store.dir(), &name.file(role)),
        }
    }

    /// The envelope, wherever the item stands; an empty one if there is none.
    pub(super) fn envelope(&self, item: &Item) -> Envelope {
        let role = match item.state {
            State::Held => Role::Held,
            State::ArrivingEnvelope => Role::Arriving,
            _ => Role::Queued,
        };
        let bytes =
            self.file(role, &item.name).and_then(|path| self.root.disk().read(&path, ENVELOPE_MAX).ok());
        bytes.map(|bytes| Envelope::parse(&bytes)).unwrap_or_default()
    }

    /// The D file: the one that the envelope names, else that of the item's own name.
    fn data(&self, item: &Item, envelope: &Envelope) -> Option<TreePath> {
        let named = match envelope.data_file().as_deref().and_then(recognize) {
            Some(Found::Item(Role::Data, name)) => self.file(Role::Data, &name),
            _ => None,
        };
        named.or_else(|| self.file(Role::Data, &item.name))
    }

    /// The size of its message, if that is there.
    pub(super) fn size(&self, item: &Item, envelope: &Envelope) -> Option<u64> {
        Some(self.root.disk().stat(&self.data(item, envelope)?).ok()?.0.size)
    }

    /// A line for each message.
    pub(super) fn list(&self) -> String {
        let mut out = String::new();
        for item in &self.items {
            let envelope = self.envelope(item);
            let recipients = envelope.recipients();
            let mut to: Vec<String> =
                recipients.iter().take(SHOWN_RECIPIENTS).map(|one| shown(&one.address)).collect();
            if recipients.len() > SHOWN_RECIPIENTS {
                to.push(format!("and {} more", recipients.len() - SHOWN_RECIPIENTS));
            }
            let _ = writeln!(
                out,
                "{:<20}  {:<9}  {:>3}  {:>9}  {}  <{}>  {}",
                item.name.to_string(),
                state(item),
                envelope.tries().unwrap_or(0),
                self.size(item, &envelope).map_or_else(|| "-".to_owned(), |size| size.to_string()),
                time(item),
                shown(&envelope.sender()),
                to.join(", ")
            );
        }
        out
    }

    fn show(&self, item: &Item) -> Result<String, CommandError> {
        let envelope = self.envelope(item);
        let data = self.data(item, &envelope);
        let mut out = format!("Id: {}\nState: {}\nSince: {}\n", item.name, state(item), time(item));
        let _ = writeln!(out, "Tries: {}", envelope.tries().unwrap_or(0));
        let known = [
            ("Host", envelope.host()),
            ("Logged in as", envelope.auth_user()),
            ("Client", envelope.client_ip()),
            ("Hello", envelope.helo()),
            ("Sender", Some(format!("<{}>", envelope.sender()))),
        ];
        for (name, value) in known {
            let _ = value.map(|value| writeln!(out, "{name}: {}", shown(&value)));
        }
        for one in envelope.recipients() {
            let original = one.original.filter(|original| *original != one.address);
            let original =
                original.map_or_else(String::new, |original| format!(" (for {})", shown(&original)));
            let _ = writeln!(out, "Recipient: <{}>{original}", shown(&one.address));
        }
        let Some(path) = data else {
            out.push_str("The message itself (the D file) is missing.\n");
            return Ok(out);
        };
        let _ = writeln!(out, "Size: {}\n", self.size(item, &envelope).unwrap_or(0));
        let file = self.root.disk().open(&path, layout::disk::Open::Read);
        let mut begin = vec![0; HEADER_MAX];
        let read = file
            .and_then(|file| file.read_at(&mut begin, 0))
            .map_err(CommandError::file(path.full().display()))?;
        begin.truncate(read);
        let end = header::end(&begin).unwrap_or(begin.len());
        for (_, line) in header::lines(begin.get(..end).unwrap_or_default()) {
            let _ = writeln!(out, "{}", shown(String::from_utf8_lossy(line).trim_end_matches(['\r', '\n'])));
        }
        Ok(out)
    }

    fn retry(&self, item: &Item) -> Result<(), CommandError> {
        match item.state {
            State::Waiting | State::Claimed => {}
            State::Held => return Err(refused(item, "is held: release it")),
            State::LoneEnvelope => return Err(refused(item, "has no message (D file)")),
            State::Arriving | State::ArrivingEnvelope => return Err(refused(item, "is still arriving")),
        }
        let again = || {
            let mut claim = self.store.claim(&item.name)?;
            let envelope = claim.load()?.envelope;
            claim.update(&envelope)
        };
        again().map(drop).map_err(spool_error)
    }

    fn hold(&self, item: &Item) -> Result<(), CommandError> {
        match item.state {
            State::Held => Err(refused(item, "is held already")),
            State::Arriving | State::ArrivingEnvelope => Err(refused(item, "is still arriving")),
            _ => self.store.hold(&item.name).map_err(spool_error),
        }
    }

    fn release(&self, item: &Item) -> Result<(), CommandError> {
        match item.state {
            State::Held => self.store.release(&item.name).map_err(spool_error),
            _ => Err(refused(item, "is not held")),
        }
    }

    fn delete(&self, item: &Item) -> Result<(), CommandError> {
        match item.state {
            State::Arriving | State::ArrivingEnvelope => Err(refused(
                item,
                "is still arriving, or was left by a broken reception: isplcln removes those",
            )),
            State::Held => self.delete_held(item).map_err(spool_error),
            _ => {
                let remove = || {
                    let mut claim = self.store.claim(&item.name)?;
                    claim.load()?;
                    claim.finish()
                };
                remove().map_err(spool_error)
            }
        }
    }

    /// The envelope first gets the name of one that is arriving, so that nobody delivers the message if it ends here.
    fn delete_held(&self, item: &Item) -> Result<(), SpoolError> {
        let held = self.file(Role::Held, &item.name).ok_or_else(|| SpoolError::Gone(item.name.clone()))?;
        self.root.disk().rename(&held, &self.store.path(Role::Arriving, &item.name))?;
        self.store.discard(&item.name)
    }
}

fn refused(item: &Item, why: &str) -> CommandError {
    CommandError::Refused(format!("{} {why}", item.name))
}

fn spool_error(error: SpoolError) -> CommandError {
    CommandError::Refused(match error {
        SpoolError::Busy(_) | SpoolError::Changed(_) => format!("{error}: try again in a moment"),
        other => other.to_string(),
    })
}

fn state(item: &Item) -> &'static str {
    match item.state {
        _ if item.foreign => "foreign",
        State::Arriving | State::ArrivingEnvelope => "arriving",
        State::Waiting => "waiting",
        State::Claimed => "working",
        State::LoneEnvelope => "no-data",
        State::Held => "held",
    }
}

/// When the envelope was written last.
fn time(item: &Item) -> String {
    let time: DateTime<Local> = DateTime::from_timestamp_nanos(item.stamp.modified).into();
    time.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// Text from elsewhere, harmless for terminals.
pub(super) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use layout::disk::sim::SimDisk;
    use std::path::Path;
    use std::sync::Arc;

    const ENVELOPE: &[u8] =
        b"QC:\\IMail\\spool\\D1.SMD\r\nHh.example\r\nS<a@b>\r\nT3\r\nN<n@x>\r\nR<c@d>\r\nR<e@f>\r\nR<g@h>\r\nR<i\x1b@j>\r\n";

    fn root() -> (Root, SimDisk) {
        let disk = SimDisk::new();
        let root = Root::new(Arc::new(disk.clone()), Path::new("/mail"));
        for (name, bytes) in [
            ("Q28de0018025017cd.SMD", &b"QD28de0018025017cd.SMD\r\nS<a@b>\r\nR<c@d>\r\n"[..]),
            ("D28de0018025017cd.SMD", b"Subject: x\x1b[2J\r\n y\r\n\r\nbody\r\n"),
            ("qAB.smd", ENVELOPE),
            ("DAB.smd", b"x"),
            ("HQ2.GSE", b"S<>\r\nR<a@b>\r\n"),
            ("D2.GSE", b"Subject: bounce\r\n\r\n"),
            ("Q3.SMD", b"S<>\r\nR<a@b>\r\n"),
            ("D4.SMD", b"half"),
            ("Q5.SMD", b"S<>\r\nR<a@b>\r\n"),
            ("D5.SMD", b"x"),
            ("Q5.GSE", b"S<>\r\nR<a@b>\r\n"),
            ("D5.GSE", b"x"),
        ] {
            disk.seed(&root.find(&root.spool(), name), bytes);
        }
        (root, disk)
    }

    fn opened(root: &Root) -> Spool {
        Spool::open(root).unwrap().unwrap()
    }

    fn act(root: &Root, work: fn(&Spool, &Item) -> Result<(), CommandError>, id: &str) -> String {
        let spool = opened(root);
        let done = spool.find(id).and_then(|item| work(&spool, item));
        done.map_or_else(|error| error.to_string(), |()| "done".to_owned())
    }

    fn states(root: &Root) -> String {
        let all: Vec<String> =
            opened(root).items.iter().map(|i| format!("{} {}", i.name, state(i))).collect();
        all.join(", ")
    }

    #[test]
    fn messages_are_found_by_what_people_type() {
        let (root, disk) = root();
        for file in ["QD54e6b0e33140001.SMD", "DD54e6b0e33140001.SMD"] {
            disk.seed(&root.find(&root.spool(), file), b"S<>\r\nR<a@b>\r\n");
        }
        let spool = opened(&root);
        for (id, expected) in [
            ("28de0018025017cd", "28de0018025017cd.SMD"),
            ("28DE0018025017CD.smd", "28de0018025017cd.SMD"),
            ("Q28de0018025017cd.SMD", "28de0018025017cd.SMD"),
            ("d28de0018025017cd.smd", "28de0018025017cd.SMD"),
            (" ab ", "AB.smd"),
            ("HQ2.GSE", "2.GSE"),
            // Ids that begin as the names of files do.
            ("d54e6b0e33140001", "D54e6b0e33140001.SMD"),
            ("d54e6b0e33140001.SMD", "D54e6b0e33140001.SMD"),
            ("QD54e6b0e33140001.SMD", "D54e6b0e33140001.SMD"),
            ("5.GSE", "5.GSE"),
            ("5", "5 may be 5.GSE or 5.SMD: name it with its extension"),
            ("9\r\n", "there is no message 9?? in the spool: see `imaild queue list`"),
            ("", "there is no message  in the spool: see `imaild queue list`"),
        ] {
            let found = spool.find(id).map_or_else(|error| error.to_string(), |item| item.name.to_string());
            assert_eq!(found, expected, "{id:?}");
        }
        assert!(Spool::open(&Root::new(Arc::new(SimDisk::new()), Path::new("/x"))).unwrap().is_none());
    }

    #[test]
    fn lines_tell_what_waits() {
        let (root, _) = root();
        let spool = opened(&root);
        let list = spool.list();
        let line = |name: &str| {
            let line = list.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace()
                .enumerate()
                .filter(|(n, _)| !(4..6).contains(n))
                .map(|(_, word)| word)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(list.lines().count(), spool.items.len());
        assert_eq!(line("28de"), "28de0018025017cd.SMD waiting 0 28 <a@b> c@d");
        assert_eq!(line("AB"), "AB.smd waiting 3 1 <a@b> c@d, e@f, g@h, and 1 more");
        assert_eq!(line("2.GSE"), "2.GSE held 0 19 <> a@b");
        assert_eq!(line("3.SMD"), "3.SMD no-data 0 - <> a@b");
        assert_eq!(line("4.SMD"), "4.SMD arriving 0 4 <>");
        let show = |id: &str| spool.show(spool.find(id).unwrap()).unwrap();
        assert!(show("28de0018025017cd").ends_with("Recipient: <c@d>\nSize: 28\n\nSubject: x?[2J\n y\n\n"));
        assert!(
            show("ab").contains("Tries: 3\nHost: h.example\nSender: <a@b>\nRecipient: <c@d> (for n@x)\n")
        );
        assert!(show("ab").contains("<i?@j>"));
        assert!(show("3").contains("is missing"));
    }

    #[test]
    fn what_is_done_to_the_files() {
        let (root, _) = root();
        let stamp = || disk_stamp(&root, "Q28de0018025017cd.SMD");
        let before =
            (stamp(), root.disk().read(&root.find(&root.spool(), "Q28de0018025017cd.SMD"), 1000).unwrap());
        assert_eq!(act(&root, Spool::retry, "28de0018025017cd"), "done");
        assert_ne!(stamp(), before.0);
        assert_eq!(
            root.disk().read(&root.find(&root.spool(), "Q28de0018025017cd.SMD"), 1000).unwrap(),
            before.1
        );
        for (work, id, expected) in [
            (Spool::retry as fn(&Spool, &Item) -> _, "2", "2.GSE is held: release it"),
            (Spool::retry, "3", "3.SMD has no message (D file)"),
            (Spool::retry, "4", "4.SMD is still arriving"),
            (Spool::hold, "4", "4.SMD is still arriving"),
            (Spool::hold, "2", "2.GSE is held already"),
            (Spool::release, "ab", "AB.smd is not held"),
            (Spool::hold, "ab", "done"),
            (Spool::release, "2", "done"),
            (Spool::delete, "3", "done"),
            (Spool::delete, "28de0018025017cd", "done"),
            (Spool::delete, "5.gse", "done"),
        ] {
            assert_eq!(act(&root, work, id), expected, "{id}");
        }
        assert!(act(&root, Spool::delete, "4").contains("isplcln"));
        assert_eq!(states(&root), "2.GSE waiting, 4.SMD arriving, 5.SMD waiting, AB.smd held");
        assert_eq!(act(&root, Spool::delete, "ab"), "done");
        assert_eq!(states(&root), "2.GSE waiting, 4.SMD arriving, 5.SMD waiting");
        let store = Store::new(&root).unwrap();
        let claim = store.claim(&opened(&root).find("2").unwrap().name.clone()).unwrap();
        for work in [Spool::retry as fn(&Spool, &Item) -> _, Spool::hold, Spool::delete] {
            assert_eq!(act(&root, work, "2"), "2.GSE is being delivered: try again in a moment");
        }
        drop(claim);
    }

    fn disk_stamp(root: &Root, name: &str) -> layout::disk::Stamp {
        root.disk().stat(&root.find(&root.spool(), name)).unwrap().0
    }
}
