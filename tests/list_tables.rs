//! The tables of manual 3-2 on mailing lists, row by row, by SMTP in and POP3 out, each with English and Japanese mail: who may post, and what comes of
//! each command of the list server.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod support;

use mail_parser::{MessageParser, MimeHeaders as _};
use std::collections::BTreeMap;
use std::time::Duration;
use support::letter::{LANGUAGES, written};
use support::sample::{PRIMARY, SUZUKI};
use support::server::Server;
use support::tree::Tree;
use support::wait_for;

/// Longer than anything here takes on a loaded machine.
const LIMIT: Duration = Duration::from_secs(60);
/// The password of the lists that have one.
const PASSWORD: &str = "Pass word";

/// Who posts: what he is, and his address.
const AUTHORS: [(&str, &str); 4] = [
    ("stranger", "stranger@example.net"),
    ("member", "tanaka@mail.example.jp"),
    ("poster", "poster@example.net"),
    ("owner", "mike@mail.example.jp"),
];

/// Who may post (facts, "posting matrix", as version 10 and later have it): the list, its password and posters, and for each of the authors what
/// comes of a post with the password and of one without: `P` the members get it, `O` the owner does, `W` it is refused.
const MATRIX: [(&str, bool, bool, [&str; 4]); 12] = [
    ("Anyone", false, false, ["PP", "PP", "PP", "PP"]),
    ("Anyone", true, false, ["PW", "PW", "PW", "PW"]),
    ("Anyone", false, true, ["PP", "PP", "PP", "PP"]),
    ("Anyone", true, true, ["PW", "PW", "PW", "PW"]),
    ("Subscribers", false, false, ["OO", "PP", "OO", "PP"]),
    ("Subscribers", true, false, ["OO", "PW", "OO", "PW"]),
    ("Subscribers", false, true, ["OO", "PP", "PP", "PP"]),
    ("Subscribers", true, true, ["OO", "PW", "PW", "PW"]),
    ("Moderators", false, false, ["OO", "OO", "OO", "PP"]),
    ("Moderators", true, false, ["OO", "OO", "OO", "PW"]),
    ("Moderators", false, true, ["OO", "OO", "PP", "PP"]),
    ("Moderators", true, true, ["OO", "OO", "PP", "PW"]),
];

/// Makes a list with these settings and files.
fn make_list(tree: &Tree, name: &str, settings: &str, files: &[(&str, &str)]) {
    let dir = tree.path("Lists").join(name);
    std::fs::create_dir_all(&dir).unwrap();
    let settings = format!("Owner=mike@mail.example.jp\nSkipDmarcFromReplacement=1\n{settings}");
    std::fs::write(dir.join("list.ini"), settings).unwrap();
    for (file, content) in files {
        std::fs::write(dir.join(file), content).unwrap();
    }
}

/// Every message of a mailbox.
fn all_mail(server: &Server, user: &str, password: &str) -> Vec<Vec<u8>> {
    let mut pop3 = server.pop3(user, password);
    let count = pop3.count();
    (1..=count).map(|number| pop3.block(&format!("RETR {number}"))).collect()
}

fn wait_for_an_empty_spool(tree: &Tree) {
    wait_for("an empty spool", LIMIT, || tree.spool_is_empty().then_some(()));
}

/// What came of a post, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Came {
    from: String,
    text: String,
}

/// By subject; what a message holds as an attachment counts where `inner` says so.
fn came(mail: &[Vec<u8>], inner: bool) -> BTreeMap<String, Came> {
    let mut found = BTreeMap::new();
    for message in mail {
        let parsed = MessageParser::default().parse(message).unwrap();
        let Some(shown) = (match inner {
            true => parsed.attachment(0).and_then(|part| part.message()),
            false => Some(&parsed),
        }) else {
            continue;
        };
        let from = shown.from().and_then(|from| from.first()).and_then(|from| from.address());
        let text = shown.body_text(0).unwrap_or_default().trim().to_owned();
        let came = Came { from: from.unwrap_or_default().to_owned(), text };
        let subject = shown.subject().unwrap_or_default().to_owned();
        assert_eq!(found.insert(subject.clone(), came), None, "{subject} came twice");
    }
    found
}

#[test]
fn who_may_post() {
    let tree = Tree::quiet();
    for (number, (allow, password, posters, _)) in MATRIX.into_iter().enumerate() {
        let settings = format!(
            "AllowPostingBy={allow}\nUsePassword={}\nPassword={PASSWORD}\nEnablePostersList={}\n",
            u8::from(password),
            u8::from(posters)
        );
        let files = [
            ("users.lst", "suzuki@mail.example.jp\r\ntanaka@mail.example.jp\r\n"),
            ("posters.lst", "poster@example.net\r\n"),
        ];
        make_list(&tree, &format!("list{number}"), &settings, &files);
    }
    let server = Server::start(&tree);
    let before = all_mail(&server, "suzuki", SUZUKI).len();
    let owners_before = came(&all_mail(&server, "mike", "rocks"), true);
    let (mut posted, mut moderated) = (BTreeMap::new(), owners_before);
    for (number, (allow, password, posters, verdicts)) in MATRIX.into_iter().enumerate() {
        let list = format!("list{number}@{PRIMARY}");
        for ((who, author), verdict) in AUTHORS.into_iter().zip(verdicts) {
            for (charset, subject, text) in LANGUAGES {
                for (with, verdict) in [true, false].into_iter().zip(verdict.chars()) {
                    if with && !password {
                        continue;
                    }
                    let subject = format!("{subject} {number} {who} {with}");
                    let given = if with { format!("[:{PASSWORD}:]{subject}") } else { subject.clone() };
                    // A session with too many refusals ends.
                    let mut smtp = server.smtp();
                    let reply = smtp.send(author, &[&list], &written(author, &list, charset, &given, text));
                    let row = format!("{allow} {password} {posters} {who} {charset} {with}: {}", reply.text);
                    assert_eq!(reply.code, if verdict == 'W' { 550 } else { 250 }, "{row}");
                    let came = Came { from: author.to_owned(), text: text.to_owned() };
                    match verdict {
                        'P' => drop(posted.insert(subject, came)),
                        'O' => drop(moderated.insert(subject, came)),
                        _ => {}
                    }
                }
            }
        }
    }
    wait_for_an_empty_spool(&tree);
    assert_eq!(came(&all_mail(&server, "suzuki", SUZUKI)[before..], false), posted);
    assert_eq!(came(&all_mail(&server, "mike", "rocks"), true), moderated);
}

/// Who sends commands: what he is to the lists, his address, his login and password.
const ASKERS: [(&str, &str, &str, &str); 3] = [
    ("stranger", "tanaka@mail.example.jp", "tanaka", "hanami!55"),
    ("member", "suzuki@mail.example.jp", "suzuki", SUZUKI),
    ("owner", "mike@mail.example.jp", "mike", "rocks"),
];

/// What stands in an answer, in English and in Japanese.
type Said = (&'static str, &'static str);

const HELP: Said = ("subscribe LIST", "LIST に参加");
const TEXT: Said = ("How this list works", "このリストの使い方");
const MEMBERS: Said = ("The members of", "のメンバーの一覧です");
const JOINED: Said = ("is now a member", "に登録されました");
const WELCOME: Said = ("Welcome here", "ようこそ");
const IS_MEMBER: Said = ("is a member of", "すでに");
const LEFT: Said = ("is no longer a member", "から削除しました");
const NO_MEMBER: Said = ("is not a member", "登録されていません");
const DIGESTS: Said = ("now gets digests", "まとめて受信します");
const POSTS: Said = ("now gets each post", "1 通ずつ受信します");
const NO_DIGESTS: Said = ("has no digests", "まとめ送りがありません");
const PRIVATE: Said = ("is a private list", "は非公開です");
const DISABLED: Said = ("takes no commands", "コマンドを利用できません");
const OWNER_ONLY: Said = ("Only the owner", "管理者だけができます");
const NO_LIST: Said = ("There is no list", "というメーリングリストはありません");
const UNKNOWN: Said = ("This is no command", "コマンドではありません");
const ASKED: Said = ("A mail with a code", "確認コードを送りました");
const WRONG_CODE: Said = ("The code is wrong", "確認コードが正しくない");
const BAD_ADDRESS: Said = ("cannot be a member", "登録できません");

/// Who sends which command about which list, in this order, and what the answer says. `L` is the list's name.
const COMMANDS: [(&str, &str, &str, &[Said]); 38] = [
    ("stranger", "open", "help L", &[TEXT]),
    ("stranger", "bare", "HELP L", &[HELP]),
    ("stranger", "open", "list", &[("open", "open")]),
    ("stranger", "open", "list L", &[MEMBERS, ("suzuki@mail.example.jp", "suzuki@mail.example.jp")]),
    ("stranger", "open", "unsubscribe L", &[NO_MEMBER]),
    ("stranger", "open", "set mode digest L", &[NO_MEMBER]),
    ("stranger", "open", "subscribe L Taro Tanaka", &[JOINED, WELCOME]),
    ("stranger", "open", "Subscribe L", &[IS_MEMBER]),
    ("stranger", "open", "set mode digest L", &[DIGESTS]),
    ("stranger", "open", "set mode standard L", &[POSTS]),
    ("stranger", "open", "unsubscribe L", &[LEFT]),
    ("stranger", "open", "subscribe L fred@example.net", &[OWNER_ONLY]),
    ("owner", "open", "subscribe L fred@example.net", &[JOINED, ("fred@example.net", "fred@example.net")]),
    ("owner", "open", "subscribe L #fred@example.net", &[BAD_ADDRESS]),
    ("owner", "open", "unsubscribe L fred@example.net", &[LEFT]),
    ("member", "bare", "set mode digest L", &[NO_DIGESTS]),
    ("stranger", "private", "subscribe L", &[PRIVATE, ("mike@mail.example.jp", "mike@mail.example.jp")]),
    ("member", "private", "subscribe L", &[IS_MEMBER]),
    ("owner", "private", "subscribe L fred@example.net", &[JOINED]),
    ("member", "private", "unsubscribe L", &[LEFT]),
    ("stranger", "closed", "help L", &[DISABLED]),
    ("stranger", "closed", "list L", &[DISABLED]),
    ("stranger", "closed", "subscribe L", &[DISABLED]),
    ("member", "closed", "set mode digest L", &[DISABLED]),
    ("owner", "closed", "list L", &[MEMBERS]),
    ("owner", "closed", "help L", &[TEXT]),
    ("member", "closed", "unsubscribe L", &[LEFT]),
    ("stranger", "asking", "subscribe L", &[ASKED]),
    ("stranger", "asking", "confirm L 0123456789abcdef0123", &[WRONG_CODE]),
    ("stranger", "asking", "unsubscribe L", &[NO_MEMBER]),
    ("stranger", "open", "subscribe nothing", &[NO_LIST]),
    ("stranger", "open", "review L", &[UNKNOWN]),
    ("member", "subject", "unsubscribe", &[LEFT]),
    ("member", "subject", "subscribe", &[JOINED]),
    ("member", "subject", "remove", &[LEFT]),
    ("member", "subject", "subscribe", &[JOINED]),
    ("member", "subject", "signoff", &[LEFT]),
    ("member", "subject", "subscribe", &[JOINED]),
];

/// The languages of lists and of the mail to them.
const WAYS: [(&str, &str); 3] = [("en", "us-ascii"), ("ja", "iso-2022-jp"), ("ja", "utf-8")];

#[test]
fn every_command() {
    let tree = Tree::quiet();
    for (way, (language, _)) in WAYS.into_iter().enumerate() {
        let text = |said: Said| if language == "en" { said.0 } else { said.1 };
        // The old server's files are in its code page.
        let old = |text: &str| encoding_rs::SHIFT_JIS.encode(text).0.into_owned();
        for (name, settings) in [
            ("open", "DigestMode=1\n"),
            ("bare", ""),
            ("private", "PrivateList=1\n"),
            ("closed", "DisableListCommands=1\n"),
            ("asking", "ConfirmSubscriptions=1\n"),
            ("subject", "AllowUnsubscribeBySubject=1\n"),
        ] {
            let name = format!("{name}{way}");
            let settings = format!("{settings}Language={language}\n");
            make_list(&tree, &name, &settings, &[("users.lst", "; mine\r\nsuzuki@mail.example.jp\r\n")]);
            if !name.starts_with("bare") {
                let dir = tree.path("Lists").join(&name);
                std::fs::write(dir.join("Help.txt"), old(text(TEXT))).unwrap();
                std::fs::write(dir.join("Subscrib.txt"), old(text(WELCOME))).unwrap();
            }
        }
    }
    let server = Server::start(&tree);
    let mut smtp = server.smtp();
    for (row, (who, list, command, said)) in COMMANDS.into_iter().enumerate() {
        let (_, address, user, password) = ASKERS.into_iter().find(|(name, ..)| *name == who).unwrap();
        for (way, (_, charset)) in WAYS.into_iter().enumerate() {
            let list = format!("{list}{way}");
            let command = command.replace(" L", &format!(" {list}"));
            let (to, subject, text) = match list.starts_with("subject") {
                true => (list, command, String::new()),
                // What stands below a signature's dashes is no command.
                false if way > 0 => {
                    ("imailsrv".to_owned(), String::new(), format!("{command}\r\n-- \r\n田中"))
                }
                false => ("imailsrv".to_owned(), String::new(), command),
            };
            let to = format!("{to}@{PRIMARY}");
            let mail = written(address, &to, charset, &subject, &text);
            smtp.deliver(address, &[&to], &mail.replace("<1@x>", &format!("<{row}.{way}@x>")));
        }
        for (way, (language, _)) in WAYS.into_iter().enumerate() {
            let asked = format!("In-Reply-To: <{row}.{way}@x>");
            let what = format!("an answer to {who}'s {command} ({way})");
            let answer = wait_for(&format!("{what}; the server said {}", server.said()), LIMIT, || {
                let mut pop3 = server.pop3(user, password);
                let newest_first = (1..=pop3.count()).rev();
                let mut all = newest_first.map(|number| pop3.block(&format!("RETR {number}")));
                all.find(|mail| String::from_utf8_lossy(mail).contains(&asked))
            });
            let parsed = MessageParser::default().parse(&answer).unwrap();
            let text = parsed.body_text(0).unwrap().into_owned();
            // A list that is not there speaks the domain's language.
            let english =
                language == "en" || said == [NO_LIST] || command == "list" || command.starts_with("review");
            for said in said {
                let said = if english { said.0 } else { said.1 };
                assert!(text.contains(said), "{what}: {said:?} is not in {text:?}");
            }
            let label = parsed.content_type().unwrap().attribute("charset").unwrap();
            assert_eq!(english, label != "ISO-2022-JP", "{what}: {label}");
        }
    }
    let members = |list: &str, way: usize| {
        String::from_utf8(tree.read(&format!("Lists/{list}{way}/users.lst"))).unwrap()
    };
    for way in 0..WAYS.len() {
        for (list, expected) in [
            ("open", "; mine\r\nsuzuki@mail.example.jp\r\n"),
            ("private", "; mine\r\nfred@example.net\r\n"),
            ("closed", "; mine\r\n"),
            ("asking", "; mine\r\nsuzuki@mail.example.jp\r\n"),
            ("subject", "; mine\r\nsuzuki@mail.example.jp\r\n"),
        ] {
            assert_eq!(members(list, way), expected, "{list}{way}");
        }
    }
}
