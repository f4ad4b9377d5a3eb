//! Mailing lists from outside: posts, commands, bounces, by SMTP in and POP3 or the files out, each with English and Japanese mail.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use mail_parser::{MessageParser, MimeHeaders as _};
use std::process::Command;
use std::time::Duration;
use support::client::{python_with, scratch, succeed};
use support::letter::{self, LANGUAGES};
use support::readers::{readers, shows};
use support::sample::{PRIMARY, SUZUKI};
use support::server::{Ports, Server};
use support::smtp::mail;
use support::tree::Tree;
use support::{ini, wait_for};

const LIST: &str = "news@mail.example.jp";
const SERVER: &str = "imailsrv@mail.example.jp";
const TANAKA: (&str, &str, &str) = ("tanaka@mail.example.jp", "tanaka", "hanami!55");
const SUZUKI_ADDRESS: &str = "suzuki@mail.example.jp";
/// Longer than anything here takes on a loaded machine.
const LIMIT: Duration = Duration::from_secs(30);

fn written(from: &str, charset: &str, subject: &str, text: &str) -> String {
    letter::written(from, LIST, charset, subject, text)
}

/// The sample with a list whose members are here, and whose posts keep their From.
fn tree(settings: &str) -> Tree {
    let tree = Tree::quiet();
    let members = "; the members\r\nsuzuki@mail.example.jp\r\nann@example.org\r\n";
    std::fs::write(tree.path("Lists/news/users.lst"), members).unwrap();
    let settings =
        format!("; mine\nSkipDmarcFromReplacement=1\nOwner=mike@mail.example.jp\nOdd line\n{settings}");
    std::fs::write(tree.path("Lists/news/list.ini"), settings).unwrap();
    tree
}

/// The next mail in a mailbox whose decoded subject is this.
fn read(server: &Server, user: &str, password: &str, subject: &str) -> Vec<u8> {
    wait_for(&format!("{subject:?} for {user}; the server said {}", server.said()), LIMIT, || {
        let mut pop3 = server.pop3(user, password);
        let count = pop3.count();
        (1..=count)
            .rev()
            .map(|number| pop3.block(&format!("RETR {number}")))
            .find(|message| MessageParser::default().parse(message).unwrap().subject() == Some(subject))
    })
}

fn body(message: &[u8]) -> String {
    MessageParser::default().parse(message).unwrap().body_text(0).unwrap().replace("\r\n", "\n")
}

#[test]
fn posts_reach_the_members() {
    let settings = "AllowPostingBy=Anyone\nEnableSubjectModification=1\nSubjectText=[連絡 news]\nEnableTrailer=1\nReplyToList=1\n\
                    UsePassword=1\nPassword=秘密 pw\n";
    let tree = tree(settings);
    let before = tree.snapshot();
    let server = Server::start(&tree);
    for (charset, subject, text) in LANGUAGES {
        // A password that ASCII mail can bear comes in an encoded word as well.
        let (from, with_password) = ("stranger@example.net", format!("[:秘密 pw:]{subject}"));
        let charset_of_subject = if charset == "us-ascii" { "utf-8" } else { charset };
        let mut post = written(from, charset, subject, text);
        let subject_line = written(from, charset_of_subject, &with_password, "");
        let subject_line = subject_line.lines().nth(2).unwrap().to_owned();
        post = post
            .lines()
            .map(|line| if line.starts_with("Subject:") { &subject_line } else { line })
            .fold(String::new(), |all, line| all + line + "\r\n");
        server.smtp().deliver(from, &[LIST], &post);
        let expected = format!("[連絡 news] {subject}");
        let got = read(&server, "suzuki", SUZUKI, &expected);
        let parsed = MessageParser::default().parse(&got).unwrap();
        let address = |list: Option<&mail_parser::Address<'_>>| {
            list.unwrap().first().unwrap().address().unwrap().to_owned()
        };
        assert_eq!(address(parsed.from()), from);
        assert_eq!(address(parsed.reply_to()), LIST);
        let trailer = "-- \n購読";
        let got_body = body(&got);
        assert!(got_body.starts_with(text) && got_body.contains(trailer), "{charset}: {got_body}");
        let label = parsed.content_type().unwrap().attribute("charset").unwrap().to_ascii_lowercase();
        assert_eq!(label, if charset == "us-ascii" { "utf-8" } else { charset });
        let text = String::from_utf8_lossy(&got);
        assert!(!text.contains("pw:]"), "the password is in no copy");
        for line in [
            "List-Id: <news.mail.example.jp>",
            "List-Unsubscribe: <mailto:imailsrv@mail.example.jp?body=unsubscribe%20news>",
            "Precedence: bulk",
            "Return-Path: <news-bounce@mail.example.jp>",
        ] {
            let needed = !line.starts_with("Return-Path") || text.contains("Return-Path");
            assert!(!needed || text.contains(line), "{line} in {text}");
        }
        read(&server, "ann@example.org", "lovely99", &expected);
    }
    let reply = server.smtp().send("stranger@example.net", &[LIST], &mail("no password"));
    assert_eq!((reply.code, reply.text.contains("password")), (550, true), "{}", reply.text);
    let after = tree.snapshot();
    for (path, bytes) in before.iter().filter(|(path, _)| path.starts_with("Lists")) {
        assert_eq!(after.get(path), Some(bytes), "{}", path.display());
    }
}

#[test]
fn what_a_list_does_not_take() {
    let tree = tree("AllowPostingBy=Subscribers\nMaxMessageSize=2000\n");
    let server = Server::start(&tree);
    let post = |from: &str, message: &str| server.smtp().send(from, &[LIST], message).code;
    let from = |from: &str, subject: &str| mail(subject).replace("sender@example.net", from);
    assert_eq!(post("a@x.example", &from("someone@worse.example", "killed")), 501);
    let big = from("suzuki@mail.example.jp", "big") + &"x\r\n".repeat(1000);
    assert_eq!(post("suzuki@mail.example.jp", &big), 552);
    for (charset, subject, text) in LANGUAGES {
        let stranger = "stranger@example.net";
        assert_eq!(post(stranger, &written(stranger, charset, subject, text)), 250);
    }
    // The owner gets each as an attachment, and nobody else anything.
    wait_for("three posts for the owner", LIMIT, || {
        let mut pop3 = server.pop3("mike", "rocks");
        let count = pop3.count();
        let all: Vec<Vec<u8>> = (1..=count).map(|number| pop3.block(&format!("RETR {number}"))).collect();
        let found = LANGUAGES.iter().filter(|(_, subject, _)| {
            all.iter().any(|message| {
                let parsed = MessageParser::default().parse(message).unwrap();
                let inner =
                    parsed.attachment(0).and_then(|part| part.message()).and_then(|inner| inner.subject());
                inner == Some(*subject)
                    && parsed.reply_to().and_then(|a| a.first()).and_then(|a| a.address()) == Some(LIST)
            })
        });
        (found.count() == 3).then_some(())
    });
    // The owner lets one through by sending it.
    server.smtp().deliver("mike@mail.example.jp", &[LIST], &from("mike@mail.example.jp", "let through"));
    read(&server, "suzuki", SUZUKI, "let through");
    let subjects = server.pop3("suzuki", SUZUKI).subjects();
    assert!(subjects.iter().all(|subject| !subject.contains("killed") && !subject.contains("Meeting")));
    // What a program answered, and what the list itself sent, goes nowhere.
    for extra in ["Auto-Submitted: auto-replied\r\n", "List-Id: <news.mail.example.jp>\r\n"] {
        let message = format!("{extra}{}", from("suzuki@mail.example.jp", "loop"));
        assert_eq!(post("suzuki@mail.example.jp", &message), 250);
    }
    server.smtp().deliver("suzuki@mail.example.jp", &[LIST], &from("suzuki@mail.example.jp", "last"));
    read(&server, "suzuki", SUZUKI, "last");
    assert!(!server.pop3("suzuki", SUZUKI).subjects().contains(&"loop".to_owned()));
}

/// Sends commands and waits for the answer, whose texts all must be in it.
fn ask(server: &Server, charset: &str, to: &str, subject: &str, commands: &str, expected: &[&str]) {
    let (address, user, password) = TANAKA;
    server.smtp().deliver(address, &[to], &written(address, charset, subject, commands));
    let what = format!("an answer to {subject:?} {commands:?} with {expected:?}");
    let got = wait_for(&format!("{what}; the server said {}", server.said()), LIMIT, || {
        let mut pop3 = server.pop3(user, password);
        let count = pop3.count();
        let all: Vec<(usize, Vec<u8>)> =
            (1..=count).map(|number| (number, pop3.block(&format!("RETR {number}")))).collect();
        let found = all.into_iter().find(|(_, message)| {
            String::from_utf8_lossy(message).contains("Auto-Submitted: auto-replied")
                && expected.iter().all(|text| body(message).contains(text))
        });
        found.inspect(|(number, _)| {
            pop3.ok(&format!("DELE {number}"));
            pop3.ok("QUIT");
        })
    });
    assert!(!got.1.is_empty());
}

#[test]
fn commands_are_answered() {
    let tree =
        tree("AllowPostingBy=Subscribers\nTitle=The News\nDigestMode=1\nAllowUnsubscribeBySubject=1\n");
    let server = Server::start(&tree);
    let members = || String::from_utf8(tree.read("Lists/news/users.lst")).unwrap();
    let digest = || String::from_utf8(tree.read("Lists/news/digest.lst")).unwrap();
    let tanaka = TANAKA.0;
    for (language, charset) in [("en", "us-ascii"), ("ja", "iso-2022-jp"), ("ja", "utf-8")] {
        let ini = String::from_utf8(tree.read("Lists/news/list.ini")).unwrap();
        let ini: String =
            ini.lines().filter(|line| !line.starts_with("Language")).map(|l| format!("{l}\n")).collect();
        std::fs::write(tree.path("Lists/news/list.ini"), format!("{ini}Language={language}\n")).unwrap();
        let english = language == "en";
        let say = |en: &'static str, ja: &'static str| if english { en } else { ja };
        // A Japanese line behind the command does not matter.
        let more = if charset == "us-ascii" { "" } else { "\r\n-- \r\n田中" };
        let send = |commands: &str, expected: &[&str]| {
            ask(&server, charset, SERVER, "", &format!("{commands}{more}"), expected);
        };
        send("help news", &["imailsrv@mail.example.jp."]);
        send("list", &["news"]);
        send("list news", &["suzuki@mail.example.jp\nann@example.org", "weekly@example.net"]);
        send("subscribe news 田中", &[tanaka, say("now a member", "登録されました"), "登録しました。"]);
        assert!(members().ends_with(&format!("{tanaka}\r\n")), "{}", members());
        send("subscribe news", &[say("already", "すでに")]);
        send("set mode digest news", &[say("digests", "まとめて")]);
        assert!(digest().contains(tanaka) && !members().contains(tanaka));
        send("set mode standard news", &[say("each post", "1 通ずつ")]);
        assert!(!digest().contains(tanaka) && members().contains(tanaka));
        send("unsubscribe news", &[say("no longer", "削除しました")]);
        send("unsubscribe news", &[say("not a member", "登録されていません")]);
        ask(&server, charset, LIST, "subscribe", "", &[say("now a member", "登録されました")]);
        assert!(members().contains(tanaka));
        ask(&server, charset, LIST, "signoff news", "", &[say("no longer", "削除しました")]);
        assert!(!members().contains(tanaka));
    }
    let expected = "; the members\r\nsuzuki@mail.example.jp\r\nann@example.org\r\n";
    assert_eq!(members(), expected, "every other byte is as it was");
    assert_eq!(digest(), "weekly@example.net\r\n");
    ask(
        &server,
        "us-ascii",
        SERVER,
        "",
        "help\r\nfoo\r\nlist nothing",
        &["> help", "> foo", "> list nothing"],
    );
}

#[test]
fn what_is_about_no_list_is_answered_in_the_domains_language() {
    for (language, [help, unknown, nothing]) in [
        ("en", ["subscribe LIST", "This is no command", "There is no list"]),
        ("ja", ["LIST に参加", "コマンドではありません", "というメーリングリストはありません"]),
    ] {
        let tree = tree("");
        let registry = ini::put(&tree.registry(), "[Domains\\mail.example.jp]", "Language", language);
        tree.save_registry(&registry);
        let server = Server::start(&tree);
        for (charset, more) in
            [("us-ascii", ""), ("iso-2022-jp", "\r\n-- \r\n田中"), ("utf-8", "\r\n-- \r\n田中")]
        {
            for (command, expected) in
                [("help", help), ("", help), ("lists", "news"), ("foo", unknown), ("list nothing", nothing)]
            {
                ask(&server, charset, SERVER, "", &format!("{command}{more}"), &[expected]);
            }
        }
    }
}

#[test]
fn subscriptions_are_confirmed() {
    for (language, charset, wrong, joined) in [
        ("en", "us-ascii", "The code is wrong", "is now a member"),
        ("ja", "iso-2022-jp", "正しくない", "登録されました"),
        ("ja", "utf-8", "正しくない", "登録されました"),
    ] {
        let tree =
            tree(&format!("AllowPostingBy=Subscribers\nConfirmSubscriptions=1\nLanguage={language}\n"));
        let server = Server::start(&tree);
        let (address, user, password) = TANAKA;
        server.smtp().deliver(address, &[SERVER], &written(address, charset, "", "subscribe news"));
        let subject = wait_for("the question", LIMIT, || {
            let subjects = server.pop3(user, password).subjects();
            subjects.into_iter().find(|subject| subject.starts_with("confirm news "))
        });
        let members = || String::from_utf8(tree.read("Lists/news/users.lst")).unwrap();
        assert!(!members().contains(address));
        ask(&server, charset, SERVER, "Re: confirm news 0123456789abcdef0123", "", &[wrong]);
        assert!(!members().contains(address));
        ask(&server, charset, SERVER, &format!("Re: {subject}"), "> confirm", &[joined]);
        assert!(members().contains(address));
    }
}

/// Somebody sends commands under another's name: all are carried out, and the other gets no more than a day's worth of answers.
#[test]
fn nobody_is_flooded_with_answers() {
    const PER_DAY: usize = 100;
    let tree = tree("AllowPostingBy=Subscribers\n");
    let server = Server::start(&tree);
    let (address, user, password) = TANAKA;
    let counts =
        || [(user, password), ("suzuki", SUZUKI)].map(|(user, password)| server.pop3(user, password).count());
    let before = counts();
    let mut smtp = server.smtp();
    for number in 0..PER_DAY + 5 {
        let command = if number == PER_DAY + 4 { "subscribe news" } else { "list" };
        smtp.deliver(address, &[SERVER], &written(address, "us-ascii", "", command));
    }
    smtp.deliver(SUZUKI_ADDRESS, &[SERVER], &written(SUZUKI_ADDRESS, "us-ascii", "", "list"));
    smtp.quit();
    wait_for("an empty spool", LIMIT, || tree.spool_is_empty().then_some(()));
    let after = counts();
    assert_eq!([after[0] - before[0], after[1] - before[1]], [PER_DAY, 1]);
    assert!(String::from_utf8(tree.read("Lists/news/users.lst")).unwrap().contains(address));
}

#[test]
fn bounces_are_counted_and_passed_on() {
    let tree = tree("AllowPostingBy=Anyone\nBounceLimit=2\n");
    let yesterday = chrono::Local::now().date_naive() - chrono::Days::new(1);
    let before = format!("{yesterday} ann@example.org\r\n");
    std::fs::write(tree.path("Lists/news/bounces.lst"), before).unwrap();
    let server = Server::start(&tree);
    let bounce = "From: Postmaster@elsewhere.example\r\nSubject: Undeliverable Mail\r\n\r\nUnknown user: Ann@example.org\r\n\r\n\
                  Original message follows.\r\n\r\nSubject: x\r\n";
    server.smtp().deliver("", &["news-bounce@mail.example.jp"], bounce);
    read(&server, "mike", "rocks", "Undeliverable Mail");
    read(&server, "mike", "rocks", "Members of news on hold");
    assert_eq!(tree.read("Lists/news/hold.lst"), b"ann@example.org\r\n");
    server.smtp().deliver("a@example.net", &[LIST], &mail("after the hold"));
    read(&server, "suzuki", SUZUKI, "after the hold");
    assert!(!server.pop3("ann@example.org", "lovely99").subjects().contains(&"after the hold".to_owned()));
}

/// What `imaild check` says of a list, and of what a user is to lists, aliases and forwards.
#[test]
fn check_tells_about_lists() {
    let tree = tree(
        "EnableArchiving=1\nDigestMode=1\nDigestSchedule=weekly Mon 9:00\nUsePassword=1\nPassword=secret-word\n",
    );
    let list = |name: &str, text: &str| std::fs::write(tree.path("Lists/news").join(name), text).unwrap();
    list("digest.lst", "sales\r\n");
    list("posters.lst", "root@mail.example.jp\r\n");
    list("kill.lst", "tanaka@mail.example.jp\r\n@worse.example\r\n");
    list("hold.lst", "ann@example.org\r\n");
    let check = |args: &[&str]| {
        let args = [&["check", "--root", tree.text()], args].concat();
        support::run("imaild", &args).expect_code(0).out
    };
    let text = check(&["--list", LIST]);
    for (name, value) in [
        ("Owner", "mike@mail.example.jp"),
        ("Archiving", "on; kept, but nothing is archived yet"),
        ("Posting by", "moderators: what others send goes to the owner"),
        ("Digests", "in the mailbox digest, sent weekly Mon 09:00"),
        ("Password", "needed"),
        ("Members", "2"),
        ("On hold", "1"),
    ] {
        let line = format!("{:<20} {value}", format!("{name}:"));
        assert!(text.lines().any(|shown| shown == line), "{line:?} is not in\n{text}");
    }
    assert!(!text.contains("secret-word"));
    let json: serde_json::Value = serde_json::from_str(&check(&["--list", "news", "--json"])).unwrap();
    assert_eq!(
        (&json["archiving"], &json["digest_members"]),
        (&"on; kept, but nothing is archived yet".into(), &"1".into())
    );
    let nothing = support::run("imaild", &["check", "--root", tree.text(), "--list", "nothing"]);
    nothing.expect_code(2).expect_error(&["nothing", PRIMARY]);
    for (user, roles, lists) in [
        ("suzuki", vec!["member", "member with digests"], 1),
        ("mike", vec!["owner"], 0),
        ("root", vec!["poster"], 0),
        ("ann@example.org", vec!["member", "member with digests", "on hold"], 1),
        ("mr-fred", vec![], 0),
    ] {
        let found: serde_json::Value = serde_json::from_str(&check(&["--user", user, "--json"])).unwrap();
        let expected = if roles.is_empty() { serde_json::Value::Null } else { roles.into() };
        assert_eq!(found["list_roles"][LIST], expected, "{user}");
        assert_eq!(found["lists"].as_array().unwrap().len(), lists, "{user}");
    }
    // `support` is an alias of `sales`, of which suzuki is one; tanaka's mail is forwarded to Ann.
    let suzuki: serde_json::Value = serde_json::from_str(&check(&["--user", "suzuki", "--json"])).unwrap();
    let aliases = suzuki["aliases"].to_string();
    assert!(
        aliases.contains("sales@mail.example.jp") && aliases.contains("support@mail.example.jp"),
        "{aliases}"
    );
    let ann = check(&["--user", "ann@example.org"]);
    assert!(
        ann.lines().any(|line| line.starts_with("Forwarded from:") && line.contains("Tanaka@mail")),
        "{ann}"
    );
    std::fs::write(tree.path("Lists/news/list.ini"), "Owner=gone@mail.example.jp\nAllowPostingBy=Anyone\n")
        .unwrap();
    let all = support::run("imaild", &["check", "--root", tree.text()]).expect_code(1).out;
    assert!(all.contains("news@mail.example.jp: its owner gone@mail.example.jp does not exist"), "{all}");
}

/// However many are on a list or in a group, a post is one item of the spool with one recipient when it is accepted.
#[test]
fn a_post_is_accepted_as_one_message() {
    let tree = tree("AllowPostingBy=Anyone\n");
    let members: String = (0..10_000).map(|number| format!("m{number}@mail.example.jp\r\n")).collect();
    std::fs::write(tree.path("Lists/news/users.lst"), &members).unwrap();
    std::fs::write(tree.path("staff.list"), &members).unwrap();
    let server = Server::start_without_queue(&tree);
    for (to, left) in [(LIST, "news@mail.example.jp"), ("staff@mail.example.jp", "staff@mail.example.jp")] {
        server.smtp().deliver("a@example.net", &[to], &mail("to all"));
        let files = std::fs::read_dir(tree.path("spool")).unwrap().flatten();
        let queued: Vec<_> = files
            .filter(|file| file.file_name().to_string_lossy().starts_with('Q'))
            .map(|file| file.path())
            .collect();
        assert_eq!(queued.len(), 1, "{queued:?}");
        let envelope = std::fs::read_to_string(&queued[0]).unwrap();
        let recipients: Vec<&str> = envelope.lines().filter(|line| line.starts_with('R')).collect();
        assert!(recipients.len() == 1 && recipients[0].contains(left), "{envelope}");
        std::fs::remove_file(&queued[0]).unwrap();
    }
}

/// A hundred subscribe while somebody edits the file by hand.
#[test]
fn a_hand_edit_while_a_hundred_subscribe() {
    let tree = tree("AllowPostingBy=Subscribers\n");
    let server = Server::start(&tree);
    let file = tree.path("Lists/news/users.lst");
    let mut smtp = server.smtp();
    for number in 0..100 {
        let from = format!("s{number}@mail.example.jp");
        smtp.deliver("bob@example.org", &[SERVER], &written(&from, "us-ascii", "", "subscribe news"));
        if number == 50 {
            wait_for("the first members", LIMIT, || {
                std::fs::read_to_string(&file).unwrap().contains("s20@mail.example.jp").then_some(())
            });
            // The editor has had the file open since before the first of them.
            std::fs::write(
                &file,
                "; the members\r\nsuzuki@mail.example.jp\r\nann@example.org\r\nby-hand@x\r\n",
            )
            .unwrap();
        }
    }
    wait_for("all members", LIMIT, || {
        let members = std::fs::read_to_string(&file).unwrap_or_default();
        let there = |address: String| members.contains(&format!("{address}\r\n"));
        let all = (0..100).all(|number| there(format!("s{number}@mail.example.jp")));
        (all && there("by-hand@x".to_owned()) && members.starts_with("; the members\r\nsuzuki")).then_some(())
    });
}

/// A server that is killed in the middle of a long list and a large group, again and again: everybody gets each message once.
#[test]
fn nobody_misses_a_post_and_nobody_gets_it_twice() {
    const MEMBERS: usize = 450;
    let tree = tree("AllowPostingBy=Anyone\n");
    let mut registry = tree.registry();
    let (mut users, mut members) = (String::new(), String::new());
    for number in 0..MEMBERS {
        users.push_str(&format!("{}\n", ini::user(PRIMARY, &format!("u{number}"))));
        members.push_str(&format!("u{number}@mail.example.jp\r\n"));
    }
    registry = registry.replace(ini::END_LINE, &format!("{users}{}", ini::END_LINE));
    std::fs::write(tree.path("registry.ini"), registry).unwrap();
    std::fs::write(tree.path("Lists/news/users.lst"), &members).unwrap();
    std::fs::write(tree.path("staff.list"), members).unwrap();
    let copies = |number: usize| {
        let file = tree.path(&format!("users/u{number}/main.mbx"));
        let text = std::fs::read_to_string(file).unwrap_or_default();
        ["to all", "to the group"].map(|subject| text.matches(&format!("Subject: {subject}\r\n")).count())
    };
    let mut server = Server::start(&tree);
    server.smtp().deliver("a@example.net", &[LIST], &mail("to all"));
    server.smtp().deliver("a@example.net", &["staff@mail.example.jp"], &mail("to the group"));
    for kill in [20_u64, 120, 400] {
        std::thread::sleep(Duration::from_millis(kill));
        let (_, ports) = server.kill();
        server = Server::start_on(&tree, ports);
    }
    wait_for("everybody to have it", LIMIT + LIMIT, || {
        (0..MEMBERS).all(|number| !copies(number).contains(&0)).then_some(())
    });
    // The spool is empty when all is over.
    wait_for("an empty spool", LIMIT, || tree.spool_is_empty().then_some(()));
    assert!((0..MEMBERS).all(|number| copies(number) == [1, 1]));
}

/// Posts gather in the administrator's mailbox until it is large enough, and then go out in one mail.
#[test]
fn digests_go_out() {
    let settings = "AllowPostingBy=Anyone\nDigestMode=1\nLocalAdministrator=mike\nDigestMailbox=collect\nDigestSize=1500\nLanguage=ja\n";
    let tree = tree(settings);
    std::fs::write(tree.path("Lists/news/digest.lst"), "tanaka@mail.example.jp\r\n").unwrap();
    let server = Server::start(&tree);
    for (charset, subject, text) in LANGUAGES {
        server.smtp().deliver("a@example.net", &[LIST], &written("a@example.net", charset, subject, text));
    }
    let digest = wait_for(&format!("the digest; the server said {}", server.said()), LIMIT, || {
        let mut pop3 = server.pop3(TANAKA.1, TANAKA.2);
        let count = pop3.count();
        (1..=count).map(|number| pop3.block(&format!("RETR {number}"))).find(|message| {
            MessageParser::default()
                .parse(message)
                .unwrap()
                .subject()
                .unwrap_or_default()
                .contains("まとめ送り")
        })
    });
    let text = body(&digest);
    assert!(
        LANGUAGES.iter().filter(|(_, subject, line)| text.contains(subject) && text.contains(line)).count()
            >= 1,
        "{text}"
    );
    // The posts are kept under the day's name, and leave the collecting mailbox.
    let kept = format!("users/mike/collect{}.mbx", chrono::Local::now().format("%m%d"));
    wait_for("the kept posts", LIMIT, || {
        let kept = std::fs::read_to_string(tree.path(&kept)).unwrap_or_default();
        (kept.matches("Message-Id: <1@x>").count() >= 1).then_some(())
    });
    assert!(tree.read("Lists/news/digest.sent").ends_with(b" 0\n") || tree.path(&kept).exists());
}

/// A name server with these TXT records; every other name does not exist. It ends with the test.
fn name_server(records: &'static [(&'static str, &'static str)]) -> String {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            // RFC 1035 §4.1: 12 bytes of header, the labels of the name, its type and class.
            let (mut at, mut labels) = (12, Vec::new());
            while query[at] != 0 {
                let end = at + 1 + usize::from(query[at]);
                labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
                at = end;
            }
            assert!(at + 5 <= length);
            let name = labels.join(".");
            let text = records.iter().find(|(known, _)| *known == name && query[at + 2] == 16);
            let mut reply = query[..2].to_vec();
            reply.extend([
                0x81,
                if text.is_some() { 0x80 } else { 0x83 },
                0,
                1,
                0,
                u8::from(text.is_some()),
                0,
                0,
                0,
                0,
            ]);
            reply.extend_from_slice(&query[12..at + 5]);
            if let Some((_, text)) = text {
                let length = u8::try_from(text.len()).unwrap();
                reply.extend([0xC0, 12, 0, 16, 0, 1, 0, 0, 0, 60, 0, length + 1, length]);
                reply.extend_from_slice(text.as_bytes());
            }
            socket.send_to(&reply, from).unwrap();
        }
    });
    address
}

/// The list's address stands in From only where the author's domain asks for it (RFC 7489 §6.3), and the author's else.
#[test]
fn from_is_replaced_only_where_the_domain_asks_for_it() {
    const RECORDS: [(&str, &str); 4] = [
        ("_dmarc.reject.example", "v=DMARC1; p=reject"),
        ("_dmarc.quarantine.example", "v=DMARC1; p=quarantine; rua=mailto:a@b.example"),
        ("_dmarc.none.example", "v=DMARC1; p=none"),
        ("_dmarc.spf.example", "v=spf1 -all"),
    ];
    let tree = tree("AllowPostingBy=Anyone\n");
    let settings = String::from_utf8(tree.read("Lists/news/list.ini")).unwrap();
    let settings =
        settings.replace("SkipDmarcFromReplacement=1\n", "EnableSubjectModification=1\nSubjectText=[news]\n");
    std::fs::write(tree.path("Lists/news/list.ini"), settings).unwrap();
    let server = Server::start_with(&tree, Ports::reserve(), &["--dns", &name_server(&RECORDS)]);
    for (domain, replaced) in
        [("reject", true), ("quarantine", true), ("none", false), ("spf", false), ("unknown", false)]
    {
        for (charset, subject, text) in LANGUAGES {
            let from = format!("author@{domain}.example");
            server.smtp().deliver(
                &from,
                &[LIST],
                &written(&from, charset, &format!("{subject} {domain}"), text),
            );
            let got = read(&server, "suzuki", SUZUKI, &format!("[news] {subject} {domain}"));
            let parsed = MessageParser::default().parse(&got).unwrap();
            let shown = parsed.from().unwrap().first().unwrap().address().unwrap();
            assert_eq!(shown, if replaced { LIST } else { from.as_str() }, "{domain} {charset}");
            assert!(body(&got).contains(text));
        }
    }
}

/// A list's texts go around the text of plain mail, HTML and multiparts, in CP932 files of the old server; signed mail stays as it is.
#[test]
fn header_and_trailer_of_every_kind_of_mail() {
    let tree = tree("AllowPostingBy=Anyone\nEnableHeader=1\nEnableTrailer=1\n");
    for (file, text) in [("Header.txt", "見出し\r\n"), ("Trailer.txt", "終わり\r\n")] {
        std::fs::write(tree.path("Lists/news").join(file), letter::encoded("shift_jis", text)).unwrap();
    }
    let server = Server::start(&tree);
    let part = |kind: &str, text: &str| {
        format!(
            "--b\r\nContent-Type: text/{kind}; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{text}\r\n"
        )
    };
    let (plain, html) =
        (part("plain", "会議です"), part("html", "<html><body><p>会議です</p></body></html>"));
    let file = "--b\r\nContent-Type: text/plain\r\nContent-Disposition: attachment; filename=a.txt\r\n\r\nattached\r\n";
    let merged = "見出し\n会議です\n終わり";
    for (kind, content, plain, in_html) in [
        ("multipart/alternative; boundary=b", format!("{plain}{html}--b--\r\n"), merged, true),
        ("multipart/mixed; boundary=b", format!("{plain}{file}--b--\r\n"), merged, false),
        ("text/html; charset=utf-8", "<p>会議です</p>\r\n".to_owned(), "", true),
        ("text/plain; charset=utf-8", "会議です\r\n".to_owned(), merged, false),
    ] {
        let head = format!("From: a@example.net\r\nTo: {LIST}\r\nSubject: {kind}\r\nMIME-Version: 1.0\r\n");
        let post = format!("{head}Content-Type: {kind}\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{content}");
        server.smtp().deliver("a@example.net", &[LIST], &post);
        let got = read(&server, "suzuki", SUZUKI, kind);
        let parsed = MessageParser::default().parse(&got).unwrap();
        if !plain.is_empty() {
            assert_eq!(body(&got).trim_end(), plain, "{kind}");
        }
        if in_html {
            let html = parsed.body_html(0).unwrap();
            let at = ["見出し", "会議です", "終わり"].map(|text| html.find(text).unwrap());
            assert!(at.is_sorted(), "{kind}: {html}");
        }
        assert_eq!(parsed.attachment_count(), usize::from(kind.contains("mixed")), "{kind}");
    }
    for kind in ["multipart/signed; boundary=b", "text/plain; charset=utf-8"] {
        let content =
            format!("-----BEGIN PGP SIGNED MESSAGE-----\r\n\r\n{}--b--\r\n", part("plain", "会議です"));
        let head = format!("From: a@example.net\r\nSubject: signed {kind}\r\nMIME-Version: 1.0\r\n");
        let post = format!("{head}Content-Type: {kind}\r\n\r\n{content}");
        server.smtp().deliver("a@example.net", &[LIST], &post);
        let got = read(&server, "suzuki", SUZUKI, &format!("signed {kind}"));
        assert!(String::from_utf8(got).unwrap().contains(&format!("\r\n\r\n{content}")), "{kind}");
    }
}

/// The list server answers no program, no list and no bounce, in whatever charset they come.
#[test]
fn the_list_server_answers_no_programs() {
    let tree = tree("AllowPostingBy=Subscribers\n");
    let server = Server::start(&tree);
    let (address, user, password) = TANAKA;
    let before = server.pop3(user, password).count();
    for (charset, subject, text) in LANGUAGES {
        for extra in [
            "Auto-Submitted: auto-replied\r\n",
            "Precedence: bulk\r\n",
            "List-Id: <other.example.net>\r\n",
            "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\nX-Was-",
        ] {
            let mail = letter::written(address, SERVER, charset, subject, &format!("list\r\n{text}"));
            let mail = mail.replacen("Content-Type:", &format!("{extra}Content-Type:"), 1);
            server.smtp().deliver(address, &[SERVER], &mail);
        }
        let mail = letter::written(address, SERVER, charset, subject, "list");
        server.smtp().deliver("", &[SERVER], &mail);
    }
    wait_for("an empty spool", LIMIT, || tree.spool_is_empty().then_some(()));
    // What comes last is answered, and nothing was before.
    server.smtp().deliver(address, &[SERVER], &written(address, "us-ascii", "", "lists"));
    wait_for("the answer", LIMIT, || (server.pop3(user, password).count() > before).then_some(()));
    wait_for("an empty spool", LIMIT, || tree.spool_is_empty().then_some(()));
    assert_eq!(server.pop3(user, password).count(), before + 1);
}

/// A digest goes out at its time, small as it is.
#[test]
fn digests_go_out_by_schedule() {
    let soon = chrono::Local::now() + chrono::Duration::seconds(75);
    let tree = tree(&format!(
        "AllowPostingBy=Anyone\nDigestMode=1\nLocalAdministrator=mike\nLanguage=ja\nDigestSchedule=daily {}\n",
        soon.format("%H:%M")
    ));
    std::fs::write(tree.path("Lists/news/digest.lst"), "tanaka@mail.example.jp\r\n").unwrap();
    let server = Server::start(&tree);
    for (charset, subject, text) in LANGUAGES {
        server.smtp().deliver("a@example.net", &[LIST], &written("a@example.net", charset, subject, text));
    }
    let limit = Duration::from_secs(150);
    let digest = wait_for("the digest", limit, || {
        let mut pop3 = server.pop3(TANAKA.1, TANAKA.2);
        let count = pop3.count();
        let mut all = (1..=count).map(|number| pop3.block(&format!("RETR {number}")));
        all.find(|mail| {
            let parsed = MessageParser::default().parse(mail).unwrap();
            parsed.subject().unwrap_or_default().contains("まとめ送り")
        })
    });
    let shown = body(&digest);
    assert!(
        LANGUAGES.iter().all(|(_, subject, text)| shown.contains(subject) && shown.contains(text)),
        "{shown}"
    );
}

/// What an old registry says of a list holds after the import, in Japanese too.
#[test]
fn the_settings_of_an_old_registry_hold() {
    let tree = Tree::copied();
    let old = std::fs::read(support::fixture("registry/software-regedit4.reg")).unwrap();
    let old = encoding_rs::SHIFT_JIS.decode(&old).0;
    let key = "[HKEY_LOCAL_MACHINE\\SOFTWARE\\Ipswitch\\IMail\\Domains\\mail.example.jp\\Lists\\news]";
    let values = "\"Title\"=\"お知らせ\"\r\n\"AllowPostingBy\"=\"Anyone\"\r\n\"EnableSubjectModification\"=dword:00000001\r\n\
                  \"SubjectText\"=\"[連絡]\"\r\n\"SkipDmarcFromReplacement\"=dword:00000001\r\n";
    let export = tree.path("old.reg");
    let text = format!("{}\r\n{key}\r\n{values}", old.trim_end());
    std::fs::write(&export, letter::encoded("shift_jis", &text)).unwrap();
    let done = support::run("imaild", &["import", "--root", tree.text(), export.to_str().unwrap()]);
    done.expect_code(0);
    std::fs::remove_dir_all(tree.path("spool")).unwrap();
    std::fs::create_dir(tree.path("spool")).unwrap();
    std::fs::write(tree.path("Lists/news/users.lst"), "suzuki@mail.example.jp\r\n").unwrap();
    let server = Server::start(&tree);
    for (charset, subject, text) in LANGUAGES {
        server.smtp().deliver("a@example.net", &[LIST], &written("a@example.net", charset, subject, text));
        let got = read(&server, "suzuki", SUZUKI, &format!("[連絡] {subject}"));
        assert!(body(&got).contains(text));
    }
}

/// Where no digest can go out, its members get the posts; an alias may stand for the administrator.
#[test]
fn digest_members_miss_nothing_whatever_the_settings_say() {
    for (settings, in_digest) in [
        ("", false),
        ("DigestMode=1\nLocalAdministrator=mike\n", false),
        ("DigestMode=1\nDigestSize=1\nLocalAdministrator=someone\n", false),
        ("DigestMode=1\nDigestSize=1\nLocalAdministrator=boss\n", true),
    ] {
        let tree = tree(&format!("AllowPostingBy=Anyone\nLanguage=en\n{settings}"));
        tree.save_registry(&ini::put(&tree.registry(), &ini::aliases("mail.example.jp"), "boss", "mike"));
        // A member of both gets it once.
        std::fs::write(
            tree.path("Lists/news/digest.lst"),
            "tanaka@mail.example.jp\r\nSUZUKI@mail.example.jp\r\n",
        )
        .unwrap();
        let server = Server::start(&tree);
        server.smtp().deliver(
            "a@example.net",
            &[LIST],
            &written("a@example.net", "us-ascii", "once", "text"),
        );
        read(&server, "suzuki", SUZUKI, "once");
        let got = |user: &str, password: &str| {
            let mut pop3 = server.pop3(user, password);
            let count = pop3.count();
            let all = (1..=count).map(|number| pop3.block(&format!("RETR {number}")));
            let subjects = all.map(|mail| {
                MessageParser::default().parse(&mail).unwrap().subject().unwrap_or_default().to_owned()
            });
            subjects.filter(|subject| subject == "once" || subject.contains("[news]")).collect::<Vec<_>>()
        };
        let found = wait_for(&format!("mail with {settings:?}"), LIMIT, || {
            Some(got(TANAKA.1, TANAKA.2)).filter(|found| !found.is_empty())
        });
        assert_eq!(found.len(), 1, "{settings:?}: {found:?}");
        assert_eq!(found != ["once"], in_digest, "{settings:?}: {found:?}");
        assert_eq!(got("suzuki", SUZUKI).iter().filter(|subject| *subject == "once").count(), 1);
    }
}

/// A member who sends the posts back to the list starts nothing, however the registry spells the domain.
#[test]
fn a_post_that_comes_back_goes_nowhere() {
    for domain in ["mail.example.jp", "Mail.Example.JP"] {
        let tree = tree("AllowPostingBy=Anyone\n");
        tree.save_registry(
            &tree.registry().replace("Domains\\mail.example.jp", &format!("Domains\\{domain}")),
        );
        std::fs::write(tree.path("users/mike/forward.ima"), format!(".,{LIST}")).unwrap();
        std::fs::write(
            tree.path("Lists/news/users.lst"),
            "suzuki@mail.example.jp\r\nmike@mail.example.jp\r\n",
        )
        .unwrap();
        let server = Server::start(&tree);
        server.smtp().deliver(
            "a@example.net",
            &[LIST],
            &written("a@example.net", "us-ascii", "round", "text"),
        );
        read(&server, "suzuki", SUZUKI, "round");
        wait_for("what came back is dropped", LIMIT, || server.said().contains("dropped").then_some(()));
        wait_for("an empty spool", LIMIT, || tree.spool_is_empty().then_some(()));
        let mut pop3 = server.pop3("suzuki", SUZUKI);
        let count = pop3.count();
        let all = (1..=count).map(|number| pop3.block(&format!("RETR {number}")));
        assert_eq!(
            all.filter(|mail| String::from_utf8_lossy(mail).contains("Subject: round")).count(),
            1,
            "{domain}"
        );
    }
}

/// Python's `email` and mutt show the subject, From and text of each case as they were meant: what the members get, with From replaced too, and
/// trailers in another charset than the text; what the owner gets; the digest; the list server's answers.
#[test]
fn python_and_mutt_read_what_members_get() {
    if !readers() {
        return;
    }
    // Without a name server that answers nobody knows what the author's domain wants, so the list's address stands in From.
    let tree =
        tree("AllowPostingBy=Anyone\nEnableSubjectModification=1\nSubjectText=[news]\nEnableTrailer=1\n");
    let settings = String::from_utf8(tree.read("Lists/news/list.ini")).unwrap();
    let settings = settings.replace("SkipDmarcFromReplacement=1\n", "");
    std::fs::write(tree.path("Lists/news/list.ini"), settings).unwrap();
    let server = Server::start_with(&tree, Ports::reserve(), &["--dns", "127.0.0.1:1"]);
    for (charset, subject, text) in LANGUAGES {
        // A trailer that every charset of Japan holds, and one that only UTF-8 does.
        for (at, trailer) in ["終わり", "𠮷野家 \u{1F600}"].into_iter().enumerate() {
            std::fs::write(tree.path("Lists/news/Trailer.txt"), format!("{trailer}\r\n")).unwrap();
            let (from, subject) = ("author@example.net", format!("{subject} {at}"));
            let (name, shown) = named(charset);
            let post = written(from, charset, &format!("Re: {subject}"), text);
            let post = post.replace(&format!("From: <{from}>"), &format!("From: {name} <{from}>"));
            server.smtp().deliver(from, &[LIST], &post);
            let subject = format!("Re: [news] {subject}");
            let got = read(&server, "suzuki", SUZUKI, &subject);
            shows(&got, &subject, &format!("{shown} via news <{LIST}>"), &[text, trailer]);
        }
    }
}

/// What a list writes itself is correct Japanese too: a post for its owner, the answer to a command, the question of a confirmation, the report of a
/// member on hold, a digest.
#[test]
fn python_and_mutt_read_what_a_list_writes() {
    if !readers() {
        return;
    }
    let tree = tree(
        "AllowPostingBy=Subscribers\nLanguage=ja\nConfirmSubscriptions=1\nBounceLimit=1\nLocalAdministrator=root\n\
         DigestMode=1\nDigestMailbox=collect\nDigestSize=1\n",
    );
    std::fs::write(tree.path("Lists/news/digest.lst"), "tanaka@mail.example.jp\r\n").unwrap();
    let server = Server::start(&tree);
    let (address, user, password) = TANAKA;
    let today = chrono::Local::now().format("%Y-%m-%d");
    for (charset, subject, text) in LANGUAGES {
        let stranger = "stranger@example.net";
        server.smtp().deliver(stranger, &[LIST], &written(stranger, charset, subject, text));
        let got = read(&server, "mike", "rocks", "news への投稿の確認");
        let told = "stranger@example.net には news への投稿が許可されていないため、管理者へお送りします。配信するには、ご自身で \
                    news@mail.example.jp へ送信してください。投稿者には通知していません。";
        shows(&got, "news への投稿の確認", SERVER, &[told]);
        let whole = String::from_utf8(got).unwrap();
        let inner =
            whole.split("Content-Type: message/rfc822").nth(1).unwrap().split_once("\r\n\r\n").unwrap().1;
        shows(inner.split("\r\n--imaild-list").next().unwrap().as_bytes(), subject, stranger, &[text]);
        let mut pop3 = server.pop3("mike", "rocks");
        let count = pop3.count();
        (1..=count).for_each(|number| drop(pop3.ok(&format!("DELE {number}"))));
        pop3.quit();
    }
    std::fs::write(tree.path("users/tanaka/forward.ima"), "").unwrap();
    server.smtp().deliver(address, &[SERVER], &written(address, "iso-2022-jp", "", "subscribe news"));
    // A member of digests is a member.
    let got = read(&server, user, password, "メーリングリストからのお知らせ");
    shows(
        &got,
        "メーリングリストからのお知らせ",
        "mike@mail.example.jp",
        &["tanaka@mail.example.jp はすでに news に登録されています。"],
    );
    let mr_fred = "mr-fred@mail.example.jp";
    server.smtp().deliver(mr_fred, &[SERVER], &written(mr_fred, "utf-8", "", "subscribe news"));
    let subject = wait_for("the question", LIMIT, || {
        let subjects = server.pop3("mr-fred", "abcdefghij").subjects();
        subjects.into_iter().find(|subject| subject.starts_with("confirm news "))
    });
    let got = read(&server, "mr-fred", "abcdefghij", &subject);
    shows(
        &got,
        &subject,
        "mike@mail.example.jp",
        &["mr-fred@mail.example.jp を news に登録する依頼を受け取りました。"],
    );
    let bounce = "From: Postmaster@elsewhere.example\r\nSubject: Undeliverable Mail\r\n\r\nUnknown user: ann@example.org\r\n";
    server.smtp().deliver("", &["news-bounce@mail.example.jp"], bounce);
    let got = read(&server, "mike", "rocks", "news の配信停止のお知らせ");
    shows(&got, "news の配信停止のお知らせ", SERVER, &["ann@example.org"]);
    let suzuki = "suzuki@mail.example.jp";
    for (charset, subject, text) in LANGUAGES {
        let post = format!("{subject} {charset}");
        server.smtp().deliver(suzuki, &[LIST], &written(suzuki, charset, &post, text));
    }
    // As many posts as there are by then are in one digest; in the end all are in some.
    let title = format!("[news] まとめ送り {today}");
    wait_for(&format!("the digests; the server said {}", server.said()), LIMIT, || {
        let mut pop3 = server.pop3(user, password);
        let count = pop3.count();
        let all: Vec<Vec<u8>> = (1..=count).map(|number| pop3.block(&format!("RETR {number}"))).collect();
        let digests: Vec<&Vec<u8>> = all
            .iter()
            .filter(|mail| MessageParser::default().parse(*mail).unwrap().subject() == Some(&*title))
            .collect();
        let texts: String = digests.iter().map(|mail| body(mail)).collect();
        if !LANGUAGES.iter().all(|(charset, ..)| texts.contains(&format!(" {charset}\n"))) {
            return None;
        }
        for digest in digests {
            let text = body(digest);
            let inside = LANGUAGES.iter().filter(|(charset, ..)| text.contains(&format!(" {charset}\n")));
            let lines: Vec<&str> = inside.map(|(_, _, line)| *line).collect();
            shows(digest, &title, LIST, &lines);
        }
        Some(())
    });
}

/// A name as a program writes it in this charset, and as readers show it.
fn named(charset: &str) -> (String, &'static str) {
    match charset {
        "us-ascii" => ("Ann".to_owned(), "Ann"),
        _ => (letter::word(charset, "山田"), "山田"),
    }
}

/// A signature over a post that the list does not change stays good, as dkimpy sees it; one over a changed subject does not.
#[test]
fn an_unchanged_post_keeps_its_signature() {
    let Some(python) = python_with("dkim") else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/lists.py");
    let call = |args: &[&std::ffi::OsStr]| {
        let mut command = Command::new(python.get_program());
        succeed(command.arg(script).args(args)).out
    };
    let tree = tree("AllowPostingBy=Anyone\n");
    let server = Server::start(&tree);
    let dir = scratch();
    for (at, (charset, subject, text)) in LANGUAGES.into_iter().enumerate() {
        let [plain, signed, got] =
            ["plain", "signed", "got"].map(|name| dir.path().join(format!("{at}.{name}")));
        let date = "Date: Mon, 6 May 2024 10:00:00 +0900\r\n";
        std::fs::write(&plain, date.to_owned() + &written("author@example.net", charset, subject, text))
            .unwrap();
        let keys = dir.path().as_os_str();
        call(&["sign".as_ref(), keys, plain.as_os_str(), signed.as_os_str()]);
        let post = String::from_utf8(std::fs::read(&signed).unwrap()).unwrap();
        for (changed, expected) in [(false, "good"), (true, "bad")] {
            let line = format!("EnableSubjectModification={}\nSubjectText=[n{at}]\n", u8::from(changed));
            let ini = String::from_utf8(tree.read("Lists/news/list.ini")).unwrap();
            std::fs::write(tree.path("Lists/news/list.ini"), ini + &line).unwrap();
            server.smtp().deliver("author@example.net", &[LIST], &post);
            let subject = if changed { format!("[n{at}] {subject}") } else { subject.to_owned() };
            std::fs::write(&got, read(&server, "suzuki", SUZUKI, &subject)).unwrap();
            let verdict = call(&["verify".as_ref(), keys, got.as_os_str()]);
            assert_eq!(
                verdict.trim(),
                expected,
                "{charset} {changed}\n{}",
                String::from_utf8_lossy(&std::fs::read(&got).unwrap())
            );
        }
    }
}
