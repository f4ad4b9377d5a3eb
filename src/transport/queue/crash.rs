//! Accepting, delivering, retrying and bouncing on the simulated disk: the machine stops, or the disk fails, at every single write. Whatever
//! the disk then holds, a message that was acknowledged gets to everybody: into a mailbox exactly once, to another server once or, if the
//! machine stopped between its answer and our note of it, twice; and its sender learns who did not get it, and who did if he asked. A disk that fails and
//! then works again makes nothing twice.

use super::attempt;
use super::peers::{Heard, Script, peer};
use super::{Cause, State};
use crate::transport::remote::Route;
use crate::transport::testing::Server;
use crate::transport::{Options, mailbox_address, windows_path};
use layout::disk::Disk as _;
use layout::disk::sim::{Crash, Failure, SimDisk};
use layout::mailbox::read_content;
use layout::mbx::compose::Source;
use layout::path::TreePath;
use layout::root::Root;
use layout::spool::dsn::{Dsn, Notify};
use layout::spool::id::{ItemName, Origin, Role};
use layout::spool::qfile::{Envelope, Fields, Recipient};
use layout::spool::store::Body;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const REGISTRY: &[u8] = b"[Global]\r\nHostName=example.org\r\nTopDir=C:\\IMail\r\n\
    [Domains\\example.org]\r\nAddress=127.0.0.1\r\nTopDir=C:\\IMail\r\n[Domains\\127.0.0.1]\r\nOfficial=example.org\r\n\
    [Domains\\example.org\\Users\\root]\r\n[Domains\\example.org\\Users\\ann]\r\n[Domains\\example.org\\Users\\bob]\r\n\
    [Domains\\example.org\\Users\\_aliases]\r\n\
    crowd=ann,ok@peer.example,bob,ok2@peer.example,ok3@peer.example\r\n\
    ; end of registry.ini, keep this line last\r\n";
const SENDER: &str = "root@example.org";
const SUBJECT: &str = "Subject: precious\r\n";
/// The other server: takes mail, puts it off, or refuses it, by the recipient.
const PEER: &[(&str, &str)] = &[("RCPT TO:<later@", "450 later"), ("RCPT TO:<no@", "550 no")];

/// A list of two here and one elsewhere, which are two items of the spool in tests.
const LIST: [(&str, &[u8]); 2] = [
    ("list.ini", b"AllowPostingBy=Anyone\nSkipDmarcFromReplacement=1\n"),
    ("users.lst", b"ann@example.org\r\nok@peer.example\r\nbob@example.org\r\n"),
];
/// Its members.
const MEMBERS: [&str; 3] = ["ann", "bob", "ok"];

/// What the machine was doing when it stopped.
#[derive(Clone, Copy, Debug)]
enum Work {
    /// Taking a message of this many bytes from a client.
    Accept(usize),
    /// A pass over a message that waits.
    Pass,
    /// The same, and the sender wants to know who has it.
    PassAndTell,
}

/// How it went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Crash(Crash),
    /// The disk works again.
    GoingOn,
}

/// In what ways it may go on after a failure at the `n`th write.
pub(super) fn ways(failure: Failure, n: u64) -> Vec<After> {
    let mut ways = vec![After::Crash(Crash::Kill)];
    match failure {
        Failure::Full | Failure::Error => ways = vec![After::GoingOn],
        // What a power cut leaves torn the other way shows.
        Failure::TornCrash => {}
        Failure::Crash => {
            ways.push(After::Crash(Crash::PowerStrict));
            ways.extend((0..2).map(|seed| After::Crash(Crash::PowerMixed(n * 100 + seed))));
        }
    }
    ways
}

fn tree_on(disk: &SimDisk) -> Root {
    Root::new(Arc::new(disk.clone()), Path::new("/mail"))
}

pub(super) fn start(disk: &SimDisk, peer: SocketAddr) -> Server {
    let short = Duration::from_secs(5);
    let options = Options {
        routes: vec![Route::parse("peer.example", &peer.to_string()).unwrap()],
        timeouts: crate::transport::remote::client::Timeouts {
            connect: short,
            command: short,
            data: short,
            block: short,
            end: short,
        },
        ..Options::default()
    };
    Server::on(&tree_on(disk), &tree_on(&SimDisk::new()), options)
}

/// A tree with a spool and a list, and the server on it.
fn fresh(peer: SocketAddr) -> (SimDisk, Server) {
    fresh_with(peer, &LIST)
}

/// The same, with these files of the list.
pub(super) fn fresh_with(peer: SocketAddr, files: &[(&str, &[u8])]) -> (SimDisk, Server) {
    let disk = SimDisk::new();
    disk.seed(&TreePath::operator(Path::new("/mail/registry.ini")), REGISTRY);
    let root = tree_on(&disk);
    let list = root.find(&root.find(root.top(), "lists"), "news");
    root.make_dirs(&list).unwrap();
    for (name, content) in files {
        disk.seed(&root.find(&list, name), content);
    }
    let server = start(&disk, peer);
    disk.sync_all(&TreePath::base_of(Path::new("/mail"))).unwrap();
    (disk, server)
}

fn full(name: &str) -> String {
    let domain =
        if ["ann", "bob", "root", "news", "crowd"].contains(&name) { "example.org" } else { "peer.example" };
    format!("{name}@{domain}")
}

/// Puts a message into the spool.
fn spooled(server: &Server, recipients: &[String], notify: Option<Notify>) {
    let recipients: Vec<Recipient> = recipients
        .iter()
        .map(|address| Recipient { dsn: Dsn { notify, ..Dsn::default() }, ..Recipient::new(address) })
        .collect();
    spooled_mail(server, SENDER, recipients, &format!("{SUBJECT}\r\ntext\r\n"));
}

/// The same with this text, from this sender.
pub(super) fn spooled_mail(server: &Server, sender: &str, recipients: Vec<Recipient>, message: &str) {
    let inner = &server.transport.inner;
    let config = server.live.now();
    let name = ItemName::new(inner.ids.own().unwrap(), Origin::Mail);
    let fields = Fields {
        data: windows_path(&config, &name.file(Role::Data)),
        host: "example.org".into(),
        auth_user: sender.into(),
        sender: sender.into(),
        recipients,
        ..Fields::default()
    };
    let body = Body::Copy(Source::Bytes(message.as_bytes().to_vec().into()));
    let prepared = inner.store.prepare(&name, body, &Envelope::new(&fields)).unwrap();
    tokio::task::block_in_place(|| inner.commit(prepared)).unwrap();
}

/// One try of all that waits.
pub(super) async fn pass(server: &Server) {
    let inner = &server.transport.inner;
    let Ok(listing) = tokio::task::block_in_place(|| inner.store.scan()) else { return };
    for item in listing.items {
        if matches!(item.state, State::Waiting | State::Claimed) {
            attempt::work(inner, &item.name, Cause::Asked).await;
        }
    }
}

/// The messages of a user's mailbox that hold a text, each checked to be whole.
fn count(server: &Server, user: &str, text: &str) -> usize {
    messages(server, &full(user)).iter().filter(|message| message.contains(text)).count()
}

/// The messages of the mailbox that an address leads to, each checked to be whole.
pub(super) fn messages(server: &Server, address: &str) -> Vec<String> {
    let config = server.live.now();
    let target = crate::transport::route::route(&config, address, false).unwrap().mailboxes.remove(0);
    assert_eq!(mailbox_address(&config, &target), address);
    server.transport.inner.hub.open(&target.dir, &target.mailbox).with(|mailbox| {
        mailbox.refresh(Duration::from_secs(1)).unwrap();
        let records: Vec<_> = mailbox.messages().copied().collect();
        let whole = |record: &_| {
            let content = read_content(&*mailbox.reader().unwrap(), record).unwrap();
            String::from_utf8(content).unwrap()
        };
        records.iter().map(whole).collect()
    })
}

/// Who waits.
fn waiting(server: &Server) -> Vec<String> {
    let store = &server.transport.inner.store;
    let items = store.scan().unwrap().items;
    let waits = items.iter().filter(|item| matches!(item.state, State::Waiting | State::Claimed));
    let loaded = waits.map(|item| store.claim(&item.name).unwrap().load().unwrap());
    let mut all = Vec::new();
    for one in loaded {
        assert!(one.body.is_some());
        all.extend(one.envelope.recipients().into_iter().map(|recipient| recipient.address));
    }
    all
}

fn heard(heard: &Heard) -> usize {
    heard.lock().unwrap().0.iter().filter(|line| line.as_str() == SUBJECT.trim_end()).count()
}

struct Run<'a> {
    work: Work,
    recipients: &'a [&'a str],
    peer: (SocketAddr, Heard),
}

impl Run<'_> {
    fn addresses(&self) -> Vec<String> {
        self.recipients.iter().map(|name| full(name)).collect()
    }

    fn is_for(&self, name: &str) -> bool {
        let members = self.recipients == ["news"] && MEMBERS.contains(&name);
        let here = self.recipients.contains(&"crowd") && ["ann", "bob"].contains(&name);
        self.recipients.contains(&name) || members || here
    }

    /// Works on a disk that fails at the `n`th write. Answers with the disk, the server, and whether the message is ours to deliver.
    async fn until(&self, n: u64, failure: Failure) -> (SimDisk, Server, bool) {
        self.peer.1.lock().unwrap().0.clear();
        let (disk, server) = fresh(self.peer.0);
        let to = self.addresses();
        match self.work {
            Work::Accept(size) => {
                disk.fail_at(n, failure);
                let to: Vec<&str> = to.iter().map(String::as_str).collect();
                let said = server.send_with(SENDER, true, &to, SUBJECT, size).await;
                (disk, server, said == "taken")
            }
            Work::Pass | Work::PassAndTell => {
                let notify = matches!(self.work, Work::PassAndTell).then(|| Notify::parse("SUCCESS,FAILURE"));
                spooled(&server, &to, notify.flatten());
                disk.fail_at(n, failure);
                pass(&server).await;
                (disk, server, true)
            }
        }
    }

    /// Everything that waits is tried a few times; then everybody has what is his. `once`: nothing may be there twice.
    async fn check(&self, server: &Server, acknowledged: bool, once: bool, what: &str) {
        // The bounce is an item of its own.
        for _ in 0..4 {
            pass(server).await;
        }
        tokio::task::block_in_place(|| {
            for user in ["ann", "bob"].into_iter().filter(|user| self.is_for(user)) {
                let found = count(server, user, SUBJECT);
                assert!(found == 1 || (!acknowledged && found == 0), "{what}: {found} for {user}");
            }
            if self.is_for("ok") {
                let most = if once { 1 } else { 2 };
                let found = heard(&self.peer.1);
                assert!(found <= most && (found >= 1 || !acknowledged), "{what}: sent {found} times");
            }
            if self.is_for("crowd") {
                // Three elsewhere, in two items of which one at most was under way.
                let most = if once { 2 } else { 3 };
                let found = heard(&self.peer.1);
                assert!((2..=most).contains(&found), "{what}: sent {found} times");
            }
            if self.is_for("no") {
                let found = self.bounces(server);
                let most = if once { 1 } else { 2 };
                assert!(found <= most && (found >= 1 || !acknowledged), "{what}: {found} bounces");
            }
            if matches!(self.work, Work::PassAndTell) {
                let most = if once { 1 } else { 2 };
                let told = match self.is_for("crowd") {
                    true => "Final-Recipient: rfc822; crowd@example.org\r\nAction: expanded\r\n",
                    false => "Final-Recipient: rfc822; ok@peer.example\r\nAction: relayed\r\n",
                };
                let found = count(server, "root", told);
                assert!((1..=most).contains(&found), "{what}: {found} reports");
            }
            let expected = if self.is_for("later") { vec![full("later")] } else { Vec::new() };
            let left = waiting(server);
            assert!(left == expected || (!acknowledged && left.is_empty()), "{what}: {left:?} wait");
        });
    }

    fn bounces(&self, server: &Server) -> usize {
        count(server, "root", "Unknown user: no@peer.example")
    }

    async fn at_every_write(&self) {
        for failure in [Failure::Crash, Failure::TornCrash, Failure::Full, Failure::Error] {
            for n in 1.. {
                let (disk, server, acknowledged) = self.until(n, failure).await;
                let clean = disk.operations() < n;
                let said = heard(&self.peer.1);
                for after in ways(failure, n) {
                    self.peer.1.lock().unwrap().0.clear();
                    let lines = vec![SUBJECT.trim_end().to_owned(); said];
                    self.peer.1.lock().unwrap().0.extend(lines);
                    let what =
                        format!("{:?} {:?}: {failure:?} at {n}, {after:?}", self.work, self.recipients);
                    match after {
                        After::GoingOn => {
                            disk.heal();
                            self.check(&server, acknowledged, true, &what).await;
                        }
                        After::Crash(crash) => {
                            let next = start(&disk.after(crash), self.peer.0);
                            self.check(&next, acknowledged, clean, &what).await;
                        }
                    }
                }
                if clean {
                    assert!(acknowledged && n > 5, "{:?} {:?} has {n} writes", self.work, self.recipients);
                    break;
                }
            }
        }
    }
}

async fn at_every_write(work: Work, recipients: &[&str]) {
    let script = Script { ehlo: "250-peer\r\n250 8BITMIME", answers: PEER, ..Script::default() };
    let run = Run { work, recipients, peer: peer(script).await };
    run.at_every_write().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepting_for_mailboxes_and_others() {
    at_every_write(Work::Accept(100), &["ann", "bob", "ok"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepting_a_large_message() {
    at_every_write(Work::Accept(300 << 10), &["bob", "ok"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delivering_from_the_queue() {
    at_every_write(Work::Pass, &["ann", "bob", "ok"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn putting_a_part_off() {
    at_every_write(Work::Pass, &["bob", "ok", "later"]).await;
}

/// The post of a list: whatever is recorded as done is not done again, and nobody is forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_to_a_list() {
    at_every_write(Work::Pass, &["news"]).await;
}

/// An address that stands for many: those that were recorded as done are not sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_to_a_large_group() {
    at_every_write(Work::PassAndTell, &["crowd"]).await;
}

/// One of the members is named as well, behind the group.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_to_a_large_group_and_a_member() {
    at_every_write(Work::Pass, &["crowd", "ann"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn telling_of_success() {
    at_every_write(Work::PassAndTell, &["ok"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bouncing_and_ending() {
    at_every_write(Work::Pass, &["bob", "no"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bouncing_a_part() {
    at_every_write(Work::Pass, &["ok", "later", "no", "bob"]).await;
}
