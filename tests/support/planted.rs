//! A tree with one fault of every kind that `imaild check` knows.

use super::ini;
use super::tree::Tree;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// A fault: the area that names it, and a part of the line that does.
pub type Fault = (&'static str, String);

/// A mailbox of two messages.
pub const TWO: &str = "From <a@example.net> Mon Aug  1 10:00:00 2022\r\nSubject: one\r\nX-UIDL: 500000001\r\nStatus: U\r\n\r\none\r\n\r\n\
    From <a@example.net> Mon Aug  1 10:00:00 2022\r\nSubject: two\r\nX-UIDL: 500000002\r\nStatus: U\r\n\r\ntwo\r\n\r\n";

/// Users whose directories get the faults.
const USERS: [&str; 6] = ["planted1", "planted2", "planted3", "planted4", "planted5", "planted6"];

/// Plants the faults beside what is in the tree, whose primary domain is `domain`. Answers with how each is to be named.
pub fn plant(tree: &Tree, domain: &str) -> Vec<Fault> {
    let mut faults = in_registry(tree, domain);
    faults.extend(in_mailboxes(tree));
    faults.extend(in_settings(tree, domain));
    faults.extend(in_spool(tree));
    faults.extend(in_names(tree));
    faults
}

fn fault(area: &'static str, part: impl Into<String>) -> Fault {
    (area, part.into())
}

fn write(tree: &Tree, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = tree.path(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

/// The same, of a file that nobody touched for two hours.
fn write_old(tree: &Tree, path: &str, content: impl AsRef<[u8]>) {
    let file = fs::File::options().append(true).open(write(tree, path, content)).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(7200)).unwrap();
}

fn in_registry(tree: &Tree, domain: &str) -> Vec<Fault> {
    let mut text = tree.registry();
    for user in USERS {
        text = ini::put(&text, &ini::user(domain, user), "Flags", "dword:00000080");
        text = ini::put(&text, &ini::user(domain, user), "Password", "D5D2CFCA");
    }
    let aliases = ini::aliases(domain);
    let sections: [(&str, &str, &str); 14] = [
        (&ini::user(domain, "planted1"), "MaxSize", "dword:zz"),
        (&ini::user(domain, "planted2"), "Password", "in no known form"),
        (&ini::user(domain, "not usable"), "Flags", "dword:00000080"),
        ("[Domains\\192.0.2.77]", "Official", "second.example"),
        ("[Domains\\second.example]", "TopDir", "Q:\\nowhere"),
        ("[Domains\\$virtual077]", "Official", "third.example"),
        ("[Domains\\third.example]", "Address", "$virtual077"),
        ("[Services\\SMTPD32\\Parameters]", "RelayMode", "Anyone"),
        (&aliases, "planted-program", "|C:\\planted.exe"),
        (&aliases, "planted-odd", "a|b"),
        (&aliases, "planted-empty", ""),
        (&aliases, "planted-to", "nobody-there"),
        (&aliases, "planted-group", "C:\\IMail\\planted-gone.list"),
        (&aliases, "planted-x", "planted-y"),
    ];
    for (section, name, value) in sections {
        text = ini::put(&text, section, name, value);
    }
    text = ini::put(&text, &aliases, "planted-y", &format!("planted-x@{domain}"));
    text = ini::put(&text, "[Domains\\second.example]", "Address", "192.0.2.77");
    // Below the directory of the sample, or of none.
    text = ini::put(&text, "[Domains\\third.example]", "TopDir", "C:\\planted-missing");
    text = ini::put(&text, "[Paths]", "C:\\planted-missing", "planted-missing");
    fs::write(tree.path("registry.ini"), text).unwrap();
    fs::set_permissions(tree.path("registry.ini"), fs::Permissions::from_mode(0o644)).unwrap();
    vec![
        fault("registry", "MaxSize"),
        fault("user", format!("planted2@{domain}: the stored password is in an unknown format")),
        fault("user", "not usable@"),
        fault("registry", "IP mismatch - second.example Address - 192.0.2.77"),
        fault("domain", "second.example: its directory Q:\\nowhere leads nowhere"),
        fault("domain", "planted-missing is not there"),
        fault("registry", "RelayMode"),
        fault("alias", format!("planted-program@{domain} is off")),
        fault("alias", format!("planted-odd@{domain} is not understood")),
        fault("alias", format!("planted-empty@{domain} leads to nobody")),
        fault("alias", format!("planted-to@{domain}: nobody-there does not exist")),
        fault("alias", format!("planted-group@{domain}: the file C:\\IMail\\planted-gone.list is not there")),
        fault("alias", format!("planted-x@{domain} -> planted-y@{domain} -> planted-x@{domain}")),
        fault("permissions", "registry.ini: others can read the passwords"),
    ]
}

fn in_mailboxes(tree: &Tree) -> Vec<Fault> {
    write(tree, "users/planted1/main.mbx", TWO);
    write(tree, "users/planted1/unix.mbx", "*mbx*\r\n0123456789");
    write_old(tree, "users/planted1/torn.mbx", &TWO[..TWO.len() - 5]);
    write(tree, "users/planted1/cut.mbx", &TWO[..TWO.len() - 5]);
    write(tree, "users/planted1/holes.mbx", TWO.replace("two\r\n\r\n", "two\0\0\0\0\r\n\r\n"));
    write(tree, "users/planted2/main.mbx", TWO);
    write(tree, "users/planted2/main.rsx", "no index");
    write(tree, "users/planted2/lost.mbx", TWO);
    write(tree, "users/planted2/lost.rsu", "no identity");
    write(tree, "users/planted3/A.B.mbx", TWO);
    write(tree, "users/planted3/A/B.mbx", TWO);
    fs::create_dir_all(tree.path("users/planted-nobodys")).unwrap();
    vec![
        fault("mailbox", "planted1/unix.mbx: "),
        fault("mailbox", "planted1/torn.mbx: it ends within a line"),
        fault("mailbox", "planted1/cut.mbx: its last"),
        fault("mailbox", "planted1/holes.mbx: NUL bytes"),
        fault("mailbox", "planted2/main.mbx: the index is damaged"),
        fault("mailbox", "planted2/lost.mbx: the index is damaged: its .rsu"),
        fault("mailbox", "planted3/A/B.mbx: shown to nobody"),
        fault("user", "planted-nobodys: a directory of no user"),
    ]
}

/// Makes the mailbox that somebody writes this moment look so again: that counts for a minute only. To be called before each look but the
/// first.
pub fn go_on_writing(tree: &Tree) {
    let file = fs::File::options().append(true).open(tree.path("users/planted1/cut.mbx")).unwrap();
    file.set_modified(SystemTime::now()).unwrap();
}

fn in_settings(tree: &Tree, domain: &str) -> Vec<Fault> {
    write(tree, "users/planted3/forward.ima", format!(".,gone1@{domain}\r\n"));
    write(tree, "users/planted3/box.fwd", format!("gone2@{domain}\r\n"));
    write(tree, "users/planted4/forward.ima", "planted5\r\n");
    write(tree, "users/planted5/forward.ima", "planted4\r\n");
    write(tree, "users/planted6/rules.ima", format!("S~fine:box\r\nwhat is this\r\nS~x:gone3@{domain}\r\n"));
    let lists = if tree.path("Lists").exists() { "Lists" } else { "lists" };
    write(tree, &format!("{lists}/planted-a/users.lst"), "");
    write(tree, &format!("{lists}/planted-b/list.ini"), "AllowPostingBy=Friends\n");
    write(tree, &format!("{lists}/planted-c/list.ini"), "AllowPostingBy=Anyone\n");
    write(tree, &format!("{lists}/planted-c/rules.ima"), "S~x:mailbox\r\n");
    vec![
        fault("user", format!("forwards to gone1@{domain}")),
        fault("user", format!("box.fwd: forwards to gone2@{domain}")),
        fault("alias", format!("planted4@{domain} -> planted5@{domain} -> planted4@{domain}")),
        fault("rule", "planted6/rules.ima: line 2 is not understood"),
        fault("rule", format!("planted6/rules.ima: line 3 sends mail to gone3@{domain}")),
        fault("list", format!("planted-a@{domain}: no list.ini")),
        fault("list", format!("planted-b@{domain}: list.ini: line 1")),
        fault("rule", "planted-c/rules.ima: line 1 is not applied"),
    ]
}

fn in_spool(tree: &Tree) -> Vec<Fault> {
    write_old(tree, "spool/Q00000000000000f1.SMD", "");
    write_old(tree, "spool/D00000000000000f2.SMD", "");
    write_old(tree, "spool/T00000000000000f3.SMD", "");
    write_old(tree, "spool/_00000000000000f4.~MD", "");
    vec![
        fault("spool", "00000000000000f1.smd: its D file is gone"),
        fault("spool", "00000000000000f2.smd: it has no Q file"),
        fault("spool", "00000000000000f3.smd: only a T file"),
        fault("spool", "_00000000000000f4.~MD: a lock that nobody holds"),
    ]
}

fn in_names(tree: &Tree) -> Vec<Fault> {
    write(tree, "users/planted6/main.mbx", TWO);
    write(tree, "users/planted6/Main.mbx", TWO);
    std::os::unix::fs::symlink("/etc/hostname", tree.path("users/planted6/linked.mbx")).unwrap();
    let mut faults = vec![
        fault("permissions", "planted6/Main.mbx: differs from main.mbx only in case"),
        fault("permissions", "planted6/linked.mbx: a symbolic link"),
    ];
    // Only root can give files away.
    if std::os::unix::fs::chown(tree.path("users/planted6/rules.ima"), Some(12_345), None).is_ok() {
        faults.push(fault("permissions", "planted6/rules.ima"));
    }
    faults
}
