//! The queue and what is on this machine: programs, full mailboxes, and the habits of administrators in the spool directory.

use super::peers::until;
use crate::transport::Options;
use crate::transport::testing::Server;
use layout::disk::real::RealDisk;
use layout::root::Root;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const SENDER: &str = "ann@example.org";

/// A tree with a queue on it.
struct Site {
    dir: tempfile::TempDir,
    server: Option<Server>,
}

impl Site {
    fn new() -> Site {
        Site { dir: tempfile::tempdir().unwrap(), server: None }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    fn script(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        path.display().to_string()
    }

    /// Starts, or starts anew, with these lines in `[Global]`, the section of a user `tiny`, and the section of aliases.
    fn start(&mut self, global: &str, tiny: &str, aliases: &str) {
        let users: String =
            ["root", "ann", "bob"].map(|user| format!("[Domains\\example.org\\Users\\{user}]\n")).concat();
        let text = format!(
            "[Global]\nHostName=example.org\nTopDir=C:\\IMail\n{global}\n[Services\\SMTPD32\\Parameters]\nMaxTries=dword:00000002\n\
             [Domains\\127.0.0.1]\nOfficial=example.org\n[Domains\\example.org]\nAddress=127.0.0.1\nTopDir=C:\\IMail\n{users}\
             [Domains\\example.org\\Users\\tiny]\n{tiny}\n[Domains\\example.org\\Users\\_aliases]\n{aliases}\n\
             ; end of registry.ini, keep this line last\n"
        );
        fs::write(self.path("registry.ini"), text).unwrap();
        let root = Root::new(Arc::new(RealDisk::new()), self.dir.path());
        let options = Options {
            look_every: Duration::from_millis(50),
            program_time_max: Duration::from_millis(500),
            ..Options::default()
        };
        let server = Server::on(&root, &root, options);
        tokio::spawn(server.transport.queue(std::future::pending()));
        self.server = Some(server);
    }

    async fn send(&self, to: &str, size: usize) {
        let server = self.server.as_ref().unwrap();
        assert_eq!(server.send(SENDER, true, &[&format!("{to}@example.org")], size).await, "taken");
    }

    /// Puts a pair of files into the spool, the envelope first or last, as somebody who copies them.
    fn drop_pair(&self, stem: &str, to: &str, envelope_first: bool) {
        let spool = self.path("spool");
        let envelope =
            format!("QC:\\IMail\\spool\\D{stem}.SMD\r\nHexample.org\r\nS<{SENDER}>\r\nR<{to}>\r\n");
        let files = [
            (format!("D{stem}.SMD"), format!("Subject: {stem}\r\n\r\nhand-made\r\n")),
            (format!("Q{stem}.SMD"), envelope),
        ];
        let order = if envelope_first { [1, 0] } else { [0, 1] };
        for index in order {
            fs::write(spool.join(&files[index].0), &files[index].1).unwrap();
        }
    }

    fn inbox(&self, user: &str) -> String {
        fs::read_to_string(self.path(&format!("users/{user}/main.mbx"))).unwrap_or_default()
    }

    fn log(&self) -> String {
        let files = fs::read_dir(self.path("logs")).into_iter().flatten();
        files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap_or_default()).collect()
    }

    /// Names of the spool's files that begin with this letter.
    fn spool(&self, letter: char) -> Vec<String> {
        let names = fs::read_dir(self.path("spool")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(letter)).collect()
    }

    async fn says(&self, text: &str) {
        until(text, || self.log().contains(text)).await;
    }

    async fn empty(&self) {
        until("an empty spool", || self.spool('Q').is_empty() && self.spool('D').is_empty()).await;
    }
}

fn touch(path: &Path) {
    let file = fs::File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(1)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_for_programs() {
    let mut site = Site::new();
    let scripts = [
        (
            "fax",
            "cat > got; printf '%s|' \"$@\" > args; env | sort | cut -d= -f1 > environment; pwd > where; cmp got \"$3\" && rm \"$3\"",
        ),
        ("deaf", "rm \"$3\"; exit 0"),
        ("slow", "exec sleep 60"),
        ("again", "exit 75"),
        ("fails", "exit 3"),
        ("bad", "touch ran"),
    ];
    let files = scripts.map(|(name, text)| (name, site.script(&format!("{name}.sh"), text)));
    let allowed = |more: &str| {
        let names: Vec<&str> =
            files.iter().filter(|(name, _)| *name != "bad").map(|(_, file)| file.as_str()).collect();
        format!("AllowedPrograms={};{more}", names.join(";"))
    };
    let lines: Vec<String> = files.iter().map(|(name, file)| format!("{name}=|{file} -n \"a b\"")).collect();
    let aliases = format!("{}\nboth=fax,bob", lines.join("\n"));
    site.start(&allowed(""), "", &aliases);
    site.send("both", 100).await;
    until("the arguments", || site.path("where").exists()).await;
    site.empty().await;
    assert!(site.inbox("bob").contains("Subject: x"));
    assert!(fs::read_to_string(site.path("got")).unwrap().contains("Subject: x\r\n\r\nxxx"));
    let args = fs::read_to_string(site.path("args")).unwrap();
    assert!(args.starts_with("-n|a b|") && args.ends_with(".TMP|"), "{args}");
    // A shell adds the last ones by itself.
    let environment = fs::read_to_string(site.path("environment")).unwrap();
    let names: Vec<&str> =
        environment.lines().filter(|name| !["PWD", "SHLVL", "_", "OLDPWD"].contains(name)).collect();
    assert_eq!(names, ["LANG", "PATH"]);
    let top = site.dir.path().canonicalize().unwrap().display().to_string();
    assert_eq!(fs::read_to_string(site.path("where")).unwrap().trim_end(), top);
    site.says("ldeliver example.org fax@example.org (1) <ann@example.org>").await;

    site.send("deaf", 900 << 10).await;
    site.empty().await;
    for (name, text) in [("slow", "slow.sh ran longer than"), ("again", "again.sh asked for another try")] {
        site.send(name, 10).await;
        site.says(text).await;
        site.says("requeuing").await;
        let waits = || site.spool('Q').first().map(|name| site.path("spool").join(name));
        until("T1", || {
            waits().is_some_and(|path| fs::read_to_string(path).unwrap_or_default().contains("\nT1\r\n"))
        })
        .await;
        touch(&waits().unwrap());
        let bounce = format!("Delivery failed 2 attempts: {name}@example.org");
        until(&bounce, || site.inbox("ann").contains(&bounce)).await;
        site.empty().await;
    }
    site.send("fails", 10).await;
    until("the bounce", || site.inbox("ann").contains("undeliverable to fails@example.org")).await;
    site.says("fails.sh ended with code 3").await;
    site.empty().await;

    site.send("bad", 10).await;
    site.says("bad.sh is not allowed to run").await;
    let path = site.path("spool").join(&site.spool('Q')[0]);
    assert!(!fs::read_to_string(&path).unwrap().contains("\nT"));
    assert!(!site.path("ran").exists() && site.spool('0').is_empty());
    site.start(&allowed(&files[5].1), "", &aliases);
    until("the program", || site.path("ran").exists()).await;
    until("an empty queue", || site.spool('Q').is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_mailbox_is_not_filled_from_the_queue() {
    let mut site = Site::new();
    site.start("", "MaxMsgs=dword:00000001", "");
    site.drop_pair("aaaa000000010001", "tiny@example.org", false);
    until("the first", || site.inbox("tiny").contains("Subject: aaaa000000010001")).await;
    site.empty().await;
    // As if the machine had stopped before the first one was removed: it is stored, so it needs no room.
    site.drop_pair("aaaa000000010001", "tiny@example.org", false);
    site.empty().await;
    assert!(!site.inbox("ann").contains("Subject:"));
    site.drop_pair("aaaa000000010002", "tiny@example.org", false);
    let line = "User mailbox exceeds allowed size: tiny@example.org";
    until("the bounce", || site.inbox("ann").contains(line)).await;
    assert_eq!(site.inbox("tiny").matches("Subject:").count(), 1);
    site.says("undeliverable tiny@example.org").await;
    site.empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn administrators_habits() {
    let mut site = Site::new();
    let again = site.script("again.sh", "exit 75");
    let aliases = format!("again=|{again}\nlater=|/gone.sh");
    site.start(&format!("AllowedPrograms={again}"), "", &aliases);
    // Pairs made by hand, in any order.
    for (stem, first) in [("bbbb000000010001", true), ("bbbb000000010002", false)] {
        site.drop_pair(stem, "bob@example.org", first);
        until(stem, || site.inbox("bob").contains(&format!("Subject: {stem}"))).await;
    }
    site.empty().await;
    // Only a half is there: it waits for the rest. A set that is still arriving is never delivered, and left alone.
    let spool = site.path("spool");
    let half = |name: &str, text: &str| fs::write(spool.join(name), text).unwrap();
    half("Qcccc000000010001.SMD", "QDcccc000000010001.SMD\r\nS<>\r\nR<bob@example.org>\r\n");
    half("Dcccc000000010002.SMD", "Subject: no envelope\r\n\r\n");
    half("Dcccc000000010003.SMD", "Subject: arriving\r\n\r\n");
    half("Tcccc000000010003.SMD", "QDcccc000000010003.SMD\r\nS<>\r\nR<bob@example.org>\r\n");
    site.drop_pair("bbbb000000010003", "bob@example.org", false);
    until("the next one", || site.inbox("bob").contains("Subject: bbbb000000010003")).await;
    for name in
        ["Qcccc000000010001.SMD", "Dcccc000000010002.SMD", "Dcccc000000010003.SMD", "Tcccc000000010003.SMD"]
    {
        assert!(spool.join(name).exists(), "{name}");
    }
    half("Dcccc000000010001.SMD", "Subject: late\r\n\r\n");
    until("the late one", || site.inbox("bob").contains("Subject: late")).await;
    half("Qcccc000000010002.SMD", "QDcccc000000010002.SMD\r\nS<>\r\nR<bob@example.org>\r\n");
    until("the completed one", || site.inbox("bob").contains("Subject: no envelope")).await;
    assert!(!site.inbox("bob").contains("arriving"));

    // A Q file that is renamed is tried at once, under its new name.
    site.drop_pair("dddd000000010001", "again@example.org", false);
    let tried = |stem: &str, tries: u32| {
        let path = spool.join(format!("Q{stem}.SMD"));
        let wanted = format!("\nT{tries}\r\n");
        move || fs::read_to_string(&path).unwrap_or_default().contains(&wanted)
    };
    until("the first try", tried("dddd000000010001", 1)).await;
    let to = "Qdddd000000010009.SMD";
    fs::rename(spool.join("Qdddd000000010001.SMD"), spool.join(to)).unwrap();
    let bounce = "Delivery failed 2 attempts: again@example.org";
    until(bounce, || site.inbox("ann").contains(bounce)).await;
    until("the end", || !spool.join(to).exists() && !spool.join("Ddddd000000010001.SMD").exists()).await;

    // A pair that is deleted is gone for good, and the others are delivered on.
    site.drop_pair("eeee000000010001", "later@example.org", false);
    site.says("/gone.sh is not allowed to run").await;
    fs::remove_file(spool.join("Qeeee000000010001.SMD")).unwrap();
    fs::remove_file(spool.join("Deeee000000010001.SMD")).unwrap();
    site.drop_pair("bbbb000000010004", "bob@example.org", false);
    until("the last one", || site.inbox("bob").contains("Subject: bbbb000000010004")).await;
    until("an empty queue", || site.spool('Q').is_empty()).await;
    assert_eq!(site.spool('D'), ["Dcccc000000010003.SMD"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_information_managers_do_not_go_on_for_ever() {
    let mut site = Site::new();
    for (user, other) in [("bob", "root"), ("root", "bob")] {
        let dir = site.path(&format!("users/{user}"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("main.inf.opt"), format!("Forward={other}\r\n")).unwrap();
    }
    site.start("", "", "");
    site.send("bob", 10).await;
    until("the mail", || site.inbox("root").contains("Subject: x")).await;
    site.drop_pair("ffff000000010001", "root@example.org", false);
    until("the other mail", || site.inbox("bob").contains("Subject: ffff000000010001")).await;
    site.empty().await;
    assert_eq!(site.inbox("root").matches("Subject:").count(), 1);
    assert_eq!(site.inbox("bob").matches("Subject:").count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_and_forwards_that_point_at_each_other() {
    let mut site = Site::new();
    let files = [
        ("ann/rules.ima", "S~x:bob@example.org"),
        ("bob/rules.ima", "S~x:ann@example.org"),
        ("root/a.fwd", "tiny-b@example.org"),
        ("tiny/b.fwd", "root-a@example.org"),
    ];
    for (file, text) in files {
        let path = site.path("users").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    site.start("", "", "");
    site.send("ann", 10).await;
    until("the mail that a rule sent on", || site.inbox("bob").contains("Subject: x")).await;
    site.send("root-a", 10).await;
    let box_b = || fs::read_to_string(site.path("users/tiny/b.mbx")).unwrap_or_default();
    until("the mail that a mailbox sent on", || box_b().contains("Subject: x")).await;
    site.empty().await;
    assert_eq!(site.inbox("ann"), "");
    assert!(!site.inbox("bob").contains("X-IMail-Rule"), "no rule of bob's was applied");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_is_ruled_when_it_is_stored() {
    let mut site = Site::new();
    fs::create_dir_all(site.path("users/bob")).unwrap();
    fs::write(site.path("users/bob/rules.ima"), "S~stem:box\r\n").unwrap();
    fs::create_dir_all(site.path("spool")).unwrap();
    site.start("", "", "");
    site.drop_pair("stem0001", "bob@example.org", false);
    let held = || fs::read_to_string(site.path("users/bob/box.mbx")).unwrap_or_default();
    until("the mail", || held().contains("hand-made")).await;
    site.empty().await;
    assert!(held().contains("X-IMail-Rule: S~stem:box-stem\r\n"), "{}", held());
}

/// Items with many recipients take turns, but nobody waits until a mailbox that another program holds is free.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_mailbox_holds_up_no_other_item() {
    let mut site = Site::new();
    site.start("", "", "");
    let dir = site.path("users/ann");
    fs::create_dir_all(&dir).unwrap();
    let held = fs::File::create(dir.join("main.mbx")).unwrap();
    held.lock().unwrap();
    let many = |first: &str, user: &str| {
        let more: String = (0..100).map(|number| format!(">\r\nR<{user}-{number}@example.org")).collect();
        format!("{first}@example.org{more}")
    };
    for number in 0..super::CROWDED_MAX {
        site.drop_pair(&format!("aaaa00000001000{number}"), &many("ann", "bob"), false);
    }
    until("the copies beside the held mailbox", || {
        site.inbox("bob").matches("Subject: aaaa").count() == super::CROWDED_MAX
    })
    .await;
    site.drop_pair("bbbb000000010001", &many("tiny", "tiny"), false);
    until("the other item", || site.inbox("tiny").contains("Subject: bbbb000000010001")).await;
    assert!(!site.log().contains("locked by"), "the items are still in work");
    held.unlock().unwrap();
    until("the rest", || site.inbox("ann").matches("Subject: aaaa").count() == super::CROWDED_MAX).await;
    site.empty().await;
}
