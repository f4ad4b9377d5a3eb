//! What lists write, on the simulated disk: members who come, go and change to digests, bounces that are counted, the key of confirmations,
//! digests. The machine stops, or the disk fails, at every single write. Whatever the disk then holds, in the end each file is as it has to be, every other
//! line of it is untouched, and everybody has each mail once.

use super::crash::{After, fresh_with, messages, pass, spooled_mail, start, ways};
use crate::lists::confirm;
use crate::lists::list::List;
use crate::transport::testing::Server;
use layout::disk::sim::{Crash, Failure, SimDisk};
use layout::list::File;
use layout::spool::qfile::Recipient;
use std::net::SocketAddr;

/// Nobody listens there.
const PEER: &str = "127.0.0.1:9";
const SETTINGS: &str = "AllowPostingBy=Anyone\nSkipDmarcFromReplacement=1\nOwner=root@example.org\n";
const MEMBERS: &str = "; mine\r\nann@example.org\r\nfirst@peer.example\r\n";
const WITHOUT_ANN: &str = "; mine\r\nfirst@peer.example\r\n";

/// A kill, and two power cuts.
const WAYS: usize = 3;

/// What is done, and what has to come of it.
struct Case {
    /// Lines of `list.ini` besides the usual ones.
    settings: &'static str,
    /// Files of the list besides `users.lst`.
    files: Vec<(&'static str, String)>,
    /// A mail that waits: its sender, its recipient, its text.
    mail: Option<(&'static str, &'static str, &'static str)>,
    /// Posts that wait for a digest.
    posts: bool,
    check: fn(&Server, &str),
}

impl Case {
    fn command(
        settings: &'static str,
        from: &'static str,
        text: &'static str,
        check: fn(&Server, &str),
    ) -> Case {
        let mail = Some((from, "imailsrv@example.org", text));
        Case { settings, files: Vec::new(), mail, posts: false, check }
    }

    /// A server with all of this waiting.
    async fn prepared(&self) -> (SimDisk, Server) {
        let settings = format!("{SETTINGS}{}", self.settings);
        let members = if self.posts { "" } else { MEMBERS };
        let mut files = vec![("list.ini", settings.as_bytes()), ("users.lst", members.as_bytes())];
        files.extend(self.files.iter().map(|(name, content)| (*name, content.as_bytes())));
        let (disk, server) = fresh_with(peer(), &files);
        if let Some((sender, to, text)) = self.mail {
            spooled_mail(&server, sender, vec![Recipient::new(to)], text);
        }
        if self.posts {
            for number in [1, 2] {
                let post =
                    format!("From: ann@example.org\r\nSubject: post {number}\r\n\r\ntext {number}\r\n");
                spooled_mail(&server, "ann@example.org", vec![Recipient::new("news@example.org")], &post);
            }
            pass(&server).await;
            pass(&server).await;
            let gathered = tokio::task::block_in_place(|| messages(&server, "root-collect@example.org"));
            assert_eq!(gathered.len(), 2);
        }
        (disk, server)
    }

    async fn go(&self, server: &Server) {
        if self.posts {
            tokio::task::block_in_place(|| server.transport.inner.send_digests());
        }
        pass(server).await;
    }

    async fn at_every_write(&self) {
        // Files are replaced, so a torn one is never read; a full disk is an error like others. Both are tried with mail in `super::crash`.
        let (prepared, _server) = self.prepared().await;
        for failure in [Failure::Crash, Failure::Error] {
            for n in 1.. {
                let disk = prepared.after(Crash::Kill);
                let server = start(&disk, peer());
                disk.fail_at(n, failure);
                self.go(&server).await;
                self.go(&server).await;
                let clean = disk.operations() < n;
                for after in ways(failure, n).into_iter().take(WAYS) {
                    let what = format!("{failure:?} at {n}, {after:?}");
                    let next = match after {
                        After::GoingOn => {
                            disk.heal();
                            None
                        }
                        After::Crash(crash) => Some(start(&disk.after(crash), peer())),
                    };
                    let next = next.as_ref().unwrap_or(&server);
                    for _ in 0..3 {
                        self.go(next).await;
                    }
                    tokio::task::block_in_place(|| (self.check)(next, &what));
                }
                if clean {
                    assert!(n > 5, "{n} writes");
                    break;
                }
            }
        }
    }
}

fn peer() -> SocketAddr {
    PEER.parse().unwrap()
}

/// A file of the list.
fn file(server: &Server, file: File) -> String {
    let config = server.live.now();
    let domain = config.local_domain("example.org").unwrap();
    let list = List::find(&config, domain, "news").unwrap().unwrap();
    String::from_utf8(list.dir.read(file).unwrap()).unwrap()
}

/// How many messages of a mailbox hold this text.
#[track_caller]
fn has(server: &Server, address: &str, text: &str, expected: usize, what: &str) {
    let all = messages(server, address);
    let found = all.iter().filter(|message| message.contains(text)).count();
    assert_eq!(found, expected, "{what}: {text:?} in {address}: {all:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_joins() {
    let check = |server: &Server, what: &str| {
        assert_eq!(file(server, File::Members), format!("{MEMBERS}bob@example.org\r\n"), "{what}");
        has(server, "bob@example.org", "member of news", 1, what);
    };
    Case::command("", "bob@example.org", "From: bob@example.org\r\n\r\nsubscribe news\r\n", check)
        .at_every_write()
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_leaves() {
    let check = |server: &Server, what: &str| {
        assert_eq!(file(server, File::Members), WITHOUT_ANN, "{what}");
        has(server, "ann@example.org", "member of news", 1, what);
    };
    Case::command("", "ann@example.org", "From: ann@example.org\r\n\r\nunsubscribe news\r\n", check)
        .at_every_write()
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_wants_digests() {
    let check = |server: &Server, what: &str| {
        assert_eq!(file(server, File::Members), WITHOUT_ANN, "{what}");
        assert_eq!(file(server, File::Digest), "ann@example.org\r\n", "{what}");
        has(server, "ann@example.org", "now gets digests", 1, what);
    };
    let text = "From: ann@example.org\r\n\r\nset mode digest news\r\n";
    Case::command("DigestMode=1\n", "ann@example.org", text, check).at_every_write().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_has_to_confirm() {
    let check = |server: &Server, what: &str| {
        assert_eq!(file(server, File::Members), MEMBERS, "{what}");
        has(server, "bob@example.org", "Subject: confirm news ", 1, what);
        let all = messages(server, "bob@example.org").concat();
        let code = all.split("Subject: confirm news ").nth(1).unwrap().lines().next().unwrap();
        let (key, today) =
            (file(server, File::ConfirmKey), chrono::Utc::now().timestamp().div_euclid(86_400));
        assert!(confirm::is_right(key.as_bytes(), "news", "bob@example.org", today, code), "{what}: {code}");
    };
    let text = "From: bob@example.org\r\n\r\nsubscribe news\r\n";
    Case::command("ConfirmSubscriptions=1\n", "bob@example.org", text, check).at_every_write().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bounce_puts_somebody_on_hold() {
    let yesterday = chrono::Local::now().date_naive() - chrono::Days::new(1);
    let text = "From: postmaster@peer.example\r\nSubject: Undeliverable Mail\r\n\r\nUnknown user: first@peer.example\r\n";
    let check = |server: &Server, what: &str| {
        assert_eq!(file(server, File::Hold), "first@peer.example\r\n", "{what}");
        assert_eq!(file(server, File::Members), MEMBERS, "{what}");
        assert!(file(server, File::Bounces).starts_with("; mine\r\n"), "{what}");
        has(server, "root@example.org", "Subject: Undeliverable Mail", 1, what);
        has(server, "root@example.org", "Subject: Members of news on hold", 1, what);
    };
    let case = Case {
        settings: "BounceLimit=2\n",
        files: vec![("bounces.lst", format!("; mine\r\n{yesterday} first@peer.example\r\n"))],
        mail: Some(("", "news-bounce@example.org", text)),
        posts: false,
        check,
    };
    case.at_every_write().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_digest_is_sent() {
    let check = |server: &Server, what: &str| {
        for user in ["ann", "bob", "root"] {
            for text in ["text 1", "text 2"] {
                has(server, &format!("{user}@example.org"), text, 1, what);
            }
        }
        let kept = format!("root-collect{}@example.org", chrono::Local::now().format("%m%d"));
        assert_eq!(messages(server, &kept).len(), 2, "{what}");
        assert_eq!(messages(server, "root-collect@example.org").len(), 0, "{what}");
        assert!(file(server, File::DigestSent).ends_with(" 0\n"), "{what}");
    };
    let case = Case {
        settings: "DigestMode=1\nDigestMailbox=collect\nDigestSize=1\n",
        files: vec![("digest.lst", "ann@example.org\r\nbob@example.org\r\nroot@example.org\r\n".to_owned())],
        mail: None,
        posts: true,
        check,
    };
    case.at_every_write().await;
}
