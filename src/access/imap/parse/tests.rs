use super::super::command::{
    DateField, DateRelation, FetchItem, List, ListPattern, ListReturn, Qresync, Search, SearchKey,
    SearchReturn, SortField, SortKey, StatusItem, Store, StoreOperation, ThreadAlgorithm,
};
use super::*;
use crate::mailbox::special_use::SpecialUse;
use chrono::NaiveDate;
use proptest::prelude::*;

fn command(text: &str) -> Command {
    match parse(format!("a1 {text}\r\n").as_bytes()) {
        Ok(request) => request.command,
        Err(error) => panic!("{text}: {error}"),
    }
}

fn refused(text: &str) -> &'static str {
    match parse(format!("a1 {text}\r\n").as_bytes()) {
        Ok(request) => panic!("{text} was taken as {request:?}"),
        Err(error) => {
            assert_eq!(error.tag, Some(Tag("a1".into())));
            error.what
        }
    }
}

fn wire(name: &str) -> WireMailbox {
    WireMailbox(name.as_bytes().to_vec())
}

fn select(name: &str, read_only: bool) -> Command {
    Command::Select { mailbox: wire(name), read_only, condstore: false, qresync: None }
}

fn create(name: &str) -> Command {
    Command::Create { mailbox: wire(name), uses: Some(vec![]) }
}

fn list(patterns: &[&str]) -> List {
    List { patterns: patterns.iter().map(|text| text.as_bytes().to_vec()).collect(), ..List::default() }
}

fn numbers(set: &SequenceSet, max: u32) -> Vec<u32> {
    set.resolve(max).iter().collect()
}

#[test]
fn commands_of_words() {
    let cases = [
        ("CAPABILITY", Command::Capability),
        ("nOoP ", Command::Noop),
        ("LOGOUT", Command::Logout),
        ("STARTTLS", Command::Starttls),
        ("NAMESPACE", Command::Namespace),
        ("IDLE", Command::Idle),
        ("CHECK", Command::Check),
        ("CLOSE", Command::Close),
        ("UNSELECT", Command::Unselect),
        ("EXPUNGE", Command::Expunge),
        ("COMPRESS DEFLATE", Command::Compress("DEFLATE".into())),
        ("ENABLE condstore UTF8=ACCEPT", Command::Enable(vec!["CONDSTORE".into(), "UTF8=ACCEPT".into()])),
        ("ID NIL", Command::Id(vec![])),
        (
            "ID (\"name\" \"x\" \"os\" NIL)",
            Command::Id(vec![(b"name".into(), Some(b"x".into())), (b"os".into(), None)]),
        ),
        ("SELECT INBOX", select("INBOX", false)),
        ("examine \"Sent Items\"", select("Sent Items", true)),
        ("CREATE {5}\r\na\"b\\c", create("a\"b\\c")),
        ("CREATE {5+}\r\nA.B}]", create("A.B}]")),
        ("DELETE &ZeVnLIqe-", Command::Delete(wire("&ZeVnLIqe-"))),
        ("RENAME a b", Command::Rename { from: wire("a"), to: wire("b") }),
        ("SUBSCRIBE a", Command::Subscribe(wire("a"))),
        ("UNSUBSCRIBE a", Command::Unsubscribe(wire("a"))),
        ("LIST \"\" %.*", Command::List(list(&["%.*"]))),
        (
            "LSUB \"#public.\" \"*\"",
            Command::Lsub(ListPattern { reference: wire("#public."), pattern: b"*".into() }),
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(command(text), expected, "{text}");
    }
    let items = vec![
        StatusItem::UidNext,
        StatusItem::Messages,
        StatusItem::Recent,
        StatusItem::UidValidity,
        StatusItem::Unseen,
    ];
    assert_eq!(
        command("STATUS blurdybloop (UIDNEXT MESSAGES RECENT UIDVALIDITY UNSEEN)"),
        Command::Status { mailbox: wire("blurdybloop"), items }
    );
}

#[test]
fn logins() {
    let login =
        |user: &str, password: &str| Command::Login { user: user.into(), password: Secret(password.into()) };
    assert_eq!(command("LOGIN smith sesame"), login("smith", "sesame"));
    assert_eq!(command("login \"a@b.example\" \"p\\\"w\\\\\""), login("a@b.example", "p\"w\\"));
    assert_eq!(command("LOGIN {3}\r\nbob {4+}\r\na\r\nb"), login("bob", "a\r\nb"));
    assert_eq!(command("LOGIN \"\" \"\""), login("", ""));
    assert!(!format!("{:?}", command("LOGIN smith sesame")).contains("sesame"));
    let authenticate = |mechanism: &str, initial: Option<&str>| Command::Authenticate {
        mechanism: mechanism.into(),
        initial: initial.map(|text| Secret(text.into())),
    };
    assert_eq!(command("AUTHENTICATE plain"), authenticate("PLAIN", None));
    assert_eq!(command("AUTHENTICATE CRAM-MD5"), authenticate("CRAM-MD5", None));
    assert_eq!(command("AUTHENTICATE PLAIN AGEAYg=="), authenticate("PLAIN", Some("AGEAYg==")));
    assert_eq!(command("AUTHENTICATE EXTERNAL ="), authenticate("EXTERNAL", Some("")));
}

#[test]
fn appends_end_with_the_announcement() {
    let text = "APPEND saved-messages (\\Seen $Forwarded \\Recent) \"17-Jul-1996 02:44:25 -0700\" {310}";
    let Command::Append { mailbox, first } = command(text) else { panic!("no append") };
    let NewcomerAnnounced { flags, date, literal, utf8 } = first;
    assert!(!utf8);
    assert_eq!(mailbox, wire("saved-messages"));
    assert_eq!(flags, [Flag::Seen, Flag::Keyword("$Forwarded".into())]);
    assert_eq!(date.unwrap().to_rfc3339(), "1996-07-17T02:44:25-07:00");
    assert_eq!(literal, LiteralAnnounced { length: 310, sync: true });
    let cases: [(&str, bool); 8] = [
        ("a APPEND x {5}\r\n", true),
        ("a append {1}\r\nx {5+}\r\n", true),
        ("a APPEND x () {5}\r\n", true),
        ("a APPEND x \" 1-Jan-2020 00:00:00 +0900\" {99999999999999}\r\n", true),
        ("a APPEND {1}\r\n", false),
        ("a APPEND x y {5}\r\n", false),
        ("a LOGIN x {5}\r\n", false),
        ("a APPEND x {5}\r\nhello", false),
    ];
    for (text, expected) in cases {
        assert_eq!(is_append_message_literal(text.as_bytes()), expected, "{text}");
    }
}

#[test]
fn pending_literals() {
    let literal = |length, sync| Some(LiteralAnnounced { length, sync });
    let cases = [
        ("a LOGIN {5}\r\n", literal(5, true)),
        ("a LOGIN {5+}", literal(5, false)),
        ("{0}\n", literal(0, true)),
        ("a LOGIN {99999999999999999999999}\r\n", literal(u64::MAX, true)),
        ("a LOGIN x \"{5}\"\r\n", None),
        ("a LOGIN {}\r\n", None),
        ("a LOGIN {+}\r\n", None),
        ("a LOGIN {5-}\r\n", None),
        ("a LOGIN 5}\r\n", None),
        ("a LOGIN {5} \r\n", None),
        ("", None),
    ];
    for (line, expected) in cases {
        assert_eq!(pending_literal(line.as_bytes()), expected, "{line}");
    }
}

#[test]
fn fetches() {
    let items = |text: &str| match command(&format!("FETCH 1 {text}")) {
        Command::Fetch { items, numbering: Numbering::Sequence, .. } => items,
        other => panic!("{other:?}"),
    };
    use FetchItem::{Body, BodyStructure, Envelope, Flags, InternalDate, Rfc822Size, Uid};
    assert_eq!(items("ALL"), [Flags, InternalDate, Rfc822Size, Envelope]);
    assert_eq!(items("fast"), [Flags, InternalDate, Rfc822Size]);
    assert_eq!(items("FULL"), [Flags, InternalDate, Rfc822Size, Envelope, Body]);
    assert_eq!(items("(UID BODY BODYSTRUCTURE)"), [Uid, Body, BodyStructure]);
    assert_eq!(items("RFC822.TEXT"), [FetchItem::Rfc822Text]);
    assert_eq!(items("(RFC822.HEADER RFC822)"), [FetchItem::Rfc822Header, FetchItem::Rfc822]);
    assert!(items("BODY[]").iter().all(FetchItem::marks_seen));
    assert!(!items("BODY.PEEK[]").iter().any(FetchItem::marks_seen));
    let sections = [
        "BODY[]",
        "BODY[HEADER]",
        "BODY[TEXT]",
        "BODY[1]",
        "BODY[4.2.HEADER]",
        "BODY[4.2.2.1]",
        "BODY[1.MIME]",
        "BODY[HEADER.FIELDS (DATE FROM)]",
        "BODY[2.HEADER.FIELDS.NOT (X-A \"a b\")]",
        "BODY[3.TEXT]",
    ];
    for text in sections {
        let parsed = items(text);
        let [FetchItem::Section { section, peek: false, partial: None }] = parsed.as_slice() else {
            panic!("{text}")
        };
        let mut out = b"BODY".to_vec();
        section.write(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }
    let parsed = items("body.peek[text]<10.20>");
    assert!(matches!(parsed.as_slice(), [FetchItem::Section { partial: Some((10, 20)), peek: true, .. }]));
    let Command::Fetch { numbering: Numbering::Uid, set, .. } = command("UID FETCH 3:*,1,7:5 FLAGS") else {
        panic!()
    };
    assert_eq!(numbers(&set, 8), [1, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn stores_copies_and_moves() {
    let store = |text: &str| match command(&format!("STORE 2:4 {text}")) {
        Command::Store(Store { operation, silent, flags, unchanged_since: None, .. }) => {
            (operation, silent, flags)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(store("+FLAGS (\\Deleted)"), (StoreOperation::Add, false, vec![Flag::Deleted]));
    assert_eq!(
        store("-flags.silent \\SEEN foo"),
        (StoreOperation::Remove, true, vec![Flag::Seen, Flag::Keyword("foo".into())])
    );
    assert_eq!(store("FLAGS ()"), (StoreOperation::Replace, false, vec![]));
    assert!(matches!(command("UID COPY 1 a"), Command::Copy { numbering: Numbering::Uid, .. }));
    assert!(matches!(command("MOVE 1:2 a"), Command::Move { numbering: Numbering::Sequence, .. }));
    assert!(matches!(command("UID EXPUNGE 1:*"), Command::UidExpunge(_)));
}

#[test]
fn searches() {
    let key = |text: &str| match command(&format!("SEARCH {text}")) {
        Command::Search(Search { key, .. }) => key,
        other => panic!("{other:?}"),
    };
    let flag = |flag, set| SearchKey::Flag { flag, set };
    let header = |name: &str, text: &str| SearchKey::Header { name: name.into(), text: text.into() };
    let day = |field, relation| SearchKey::Date {
        field,
        relation,
        day: NaiveDate::from_ymd_opt(1994, 2, 1).unwrap(),
    };
    assert_eq!(key("ALL"), SearchKey::All);
    assert_eq!(key("unseen"), flag(Flag::Seen, false));
    assert_eq!(key("NEW"), SearchKey::And(vec![flag(Flag::Recent, true), flag(Flag::Seen, false)]));
    assert_eq!(key("UNKEYWORD $Junk"), flag(Flag::Keyword("$Junk".into()), false));
    assert_eq!(key("FROM \"Smith\""), header("FROM", "Smith"));
    assert_eq!(key("HEADER X-Spam {2}\r\nab"), header("X-Spam", "ab"));
    assert_eq!(key("SINCE 1-Feb-1994"), day(DateField::Internal, DateRelation::Since));
    assert_eq!(key("SENTBEFORE \"01-FEB-1994\""), day(DateField::Sent, DateRelation::Before));
    assert_eq!(key("LARGER 100"), SearchKey::Larger(100));
    assert_eq!(
        key("NOT (OR SMALLER 5 TEXT x) DELETED"),
        SearchKey::And(vec![
            SearchKey::Not(Box::new(SearchKey::Or(
                Box::new(SearchKey::Smaller(5)),
                Box::new(SearchKey::Text(b"x".into()))
            ))),
            flag(Flag::Deleted, true)
        ])
    );
    assert!(matches!(key("UID 1:5"), SearchKey::Uid(_)));
    assert!(matches!(key("1:5,*"), SearchKey::Sequence(_)));
    let Command::Search(Search { numbering: Numbering::Uid, charset, returns: None, .. }) =
        command("UID SEARCH CHARSET ISO-2022-JP BODY x")
    else {
        panic!()
    };
    assert_eq!(charset, Some(b"ISO-2022-JP".to_vec()));
}

#[test]
fn searches_are_limited() {
    refused(&format!("SEARCH {}ALL", "NOT ".repeat(100_000)));
    refused(&format!("SEARCH {}ALL", "(".repeat(100_000)));
    refused(&format!("SEARCH ALL{}", " ALL".repeat(MAX_SEARCH_KEYS)));
    assert!(matches!(command(&format!("SEARCH {}ALL", "NOT ".repeat(MAX_SEARCH_DEPTH))), Command::Search(_)));
}

#[test]
fn broken_commands_are_refused() {
    for text in [
        "",
        "FOO",
        "UID NOOP",
        "UID",
        "NOOP x",
        "SELECT",
        "SELECT  a",
        "SELECT \"a",
        "SELECT \"a\\b\"",
        "SELECT {5}\r\nabc",
        "SELECT {1}\r\n\0",
        "SELECT a(b",
        "LOGIN x",
        "LOGIN x y z",
        "FETCH 0 FLAGS",
        "FETCH 1:2: FLAGS",
        "FETCH 1 ()",
        "FETCH , FLAGS",
        "FETCH 4294967296 FLAGS",
        "FETCH 1 FOO",
        "FETCH 1 BODY[0]",
        "FETCH 1 BODY[MIME]",
        "FETCH 1 BODY[1.]",
        "FETCH 1 BODY[HEADER.FIELDS ()]",
        "FETCH 1 BODY[]<1>",
        "FETCH 1 BODY[]<1.0>",
        "FETCH 1 BODY.PEEK",
        "STORE 1 FLAG x",
        "STORE 1 FLAGS \\Foo",
        "STORE 1 FLAGS",
        "SEARCH",
        "SEARCH ()",
        "SEARCH FOO",
        "SEARCH OR ALL",
        "SEARCH SINCE 31-Feb-2000",
        "SEARCH CHARSET UTF-8",
        "STATUS a ()",
        "STATUS a (FOO)",
        "ENABLE",
        "APPEND a x",
        "LIST a",
        "ID (\"a\")",
        "SELECT a (FOO)",
        "SELECT a (QRESYNC (0 1))",
        "SELECT a (QRESYNC (1 9223372036854775808))",
        "SELECT a (QRESYNC (1 2 $))",
        "CREATE a (USE (Sent))",
        "LIST (FOO) \"\" *",
        "LIST (RECURSIVEMATCH) \"\" *",
        "LIST \"\" * RETURN (FOO)",
        "LIST \"\" * RETURN (STATUS ())",
        "SEARCH RETURN (FOO) ALL",
        "SEARCH RETURN () ",
        "SEARCH YOUNGER 0",
        "SORT () UTF-8 ALL",
        "SORT (REVERSE) UTF-8 ALL",
        "SORT (DATE) ALL",
        "THREAD FOO UTF-8 ALL",
        "FETCH 1 FLAGS (VANISHED)",
        "FETCH 1 FLAGS (CHANGEDSINCE 5 VANISHED)",
        "FETCH 1 FLAGS (FOO)",
        "FETCH 1 BINARY[1.MIME]",
        "FETCH 1 BINARY",
        "STORE 1 (FOO 1) FLAGS x",
        "STORE 1 (UNCHANGEDSINCE) FLAGS x",
        "GETQUOTA",
    ] {
        refused(text);
    }
    for line in ["", "\r\n", "+ NOOP\r\n", "\"a\" NOOP\r\n", "(a NOOP\r\n"] {
        assert_eq!(parse(line.as_bytes()).unwrap_err().tag, None, "{line}");
    }
}

#[test]
fn extended_selects_and_creates() {
    let Command::Select { condstore: true, qresync: None, .. } = command("SELECT a (CONDSTORE)") else {
        panic!()
    };
    let qresync = |text: &str| match command(&format!("EXAMINE a (QRESYNC ({text}))")) {
        Command::Select { read_only: true, qresync: Some(qresync), .. } => qresync,
        other => panic!("{other:?}"),
    };
    let short = Qresync { uidvalidity: 7, modseq: 20_050_715_194_045_000, known: None, matches: None };
    assert_eq!(qresync("7 20050715194045000"), short);
    let long = qresync("7 0 41,43:211 (1,3 41,50)");
    assert_eq!(numbers(&long.known.unwrap(), 45), [41, 43, 44, 45]);
    let (of, uids) = long.matches.unwrap();
    assert_eq!((of.listed(9), uids.listed(9)), (Some(vec![1, 3]), Some(vec![41, 50])));
    assert!(qresync("7 0 (1 5)").known.is_none());
    assert_eq!(command("CREATE a (USE (\\Sent \\Foo))"), Command::Create { mailbox: wire("a"), uses: None });
    let uses = Some(vec![SpecialUse::Sent, SpecialUse::Archive]);
    assert_eq!(command("CREATE a (USE (\\sent \\Archive))"), Command::Create { mailbox: wire("a"), uses });
    let items =
        vec![StatusItem::Size, StatusItem::HighestModSeq, StatusItem::MailboxId, StatusItem::AppendLimit];
    assert_eq!(
        command("STATUS a (SIZE HIGHESTMODSEQ MAILBOXID APPENDLIMIT)"),
        Command::Status { mailbox: wire("a"), items }
    );
}

#[test]
fn extended_lists() {
    let found = |text: &str| match command(&format!("LIST {text}")) {
        Command::List(list) => list,
        other => panic!("{other:?}"),
    };
    assert_eq!(found("() \"\" (a \"b c\" %)"), list(&["a", "b c", "%"]));
    let wanted = List { subscribed: true, recursive_match: true, ..list(&["*"]) };
    assert_eq!(found("(SUBSCRIBED RECURSIVEMATCH REMOTE) \"\" *"), wanted);
    let returns = ListReturn { subscribed: true, status: vec![StatusItem::Messages, StatusItem::Deleted] };
    let wanted = List { special_use: true, reference: b"x.".to_vec(), returns, ..list(&["*"]) };
    assert_eq!(
        found("(special-use) x. * RETURN (CHILDREN SUBSCRIBED SPECIAL-USE STATUS (MESSAGES DELETED))"),
        wanted
    );
}

#[test]
fn extended_searches() {
    let found = |text: &str| match command(text) {
        Command::Search(search) => search,
        other => panic!("{other:?}"),
    };
    let all = SearchReturn { all: true, ..SearchReturn::default() };
    assert_eq!(found("SEARCH RETURN () ALL").returns, Some(all));
    let some = SearchReturn { min: true, count: true, save: true, ..SearchReturn::default() };
    assert_eq!(found("UID SEARCH RETURN (COUNT MIN SAVE) CHARSET UTF-8 $").returns, Some(some));
    for (text, key) in [
        ("YOUNGER 60", SearchKey::Younger(60)),
        ("older 1", SearchKey::Older(1)),
        ("MODSEQ 620162338", SearchKey::ModSeq(620_162_338)),
        ("MODSEQ \"/flags/\\\\draft\" all 5", SearchKey::ModSeq(5)),
        ("EMAILID M1", SearchKey::EmailId(b"M1".to_vec())),
        ("SAVEDATESUPPORTED", SearchKey::SaveDateSupported),
        ("$", SearchKey::Sequence(SequenceSet::saved())),
    ] {
        assert_eq!(found(&format!("SEARCH {text}")).key, key, "{text}");
    }
    let Command::Sort { search, order } =
        command("UID SORT (REVERSE DATE DISPLAYFROM subject) Shift_JIS FROM x")
    else {
        panic!()
    };
    assert_eq!((search.numbering, search.charset), (Numbering::Uid, Some(b"Shift_JIS".to_vec())));
    let key = |field, reverse| SortKey { field, reverse };
    let expected =
        [key(SortField::Date, true), key(SortField::Display("From"), false), key(SortField::Subject, false)];
    assert_eq!(order, expected);
    let Command::Thread { algorithm: ThreadAlgorithm::References, .. } =
        command("THREAD REFERENCES UTF-8 ALL")
    else {
        panic!()
    };
}

#[test]
fn extended_fetches_and_stores() {
    let Command::Fetch { items, changed_since: Some(12), vanished: true, .. } = command(
        "UID FETCH 1:* (BINARY.PEEK[1.2]<0.5> BINARY.SIZE[3] BINARY[] PREVIEW (LAZY) MODSEQ) (CHANGEDSINCE 12 VANISHED)",
    ) else {
        panic!()
    };
    let binary = |part: &[u32], peek, partial| FetchItem::Binary { part: part.to_vec(), peek, partial };
    let expected = [
        binary(&[1, 2], true, Some((0, 5))),
        FetchItem::BinarySize(vec![3]),
        binary(&[], false, None),
        FetchItem::Preview,
        FetchItem::ModSeq,
    ];
    assert_eq!(items, expected);
    let Command::Store(store) = command("STORE $ (UNCHANGEDSINCE 320162338) +FLAGS.SILENT \\Deleted") else {
        panic!()
    };
    assert_eq!((store.unchanged_since, store.silent, store.set.is_saved()), (Some(320_162_338), true, true));
}

#[test]
fn several_appends() {
    let literal = |length, sync| LiteralAnnounced { length, sync };
    let Command::Append { first, .. } = command("APPEND x UTF8 (~{5+}") else { panic!() };
    assert_eq!((first.utf8, first.literal), (true, literal(5, false)));
    assert!(is_append_message_literal(b"a APPEND x UTF8 (~{5}\r\n"));
    assert_eq!(append_more(b"\r\n", false), Ok(None));
    assert_eq!(append_more(b")\r\n", true), Ok(None));
    let next = append_more(b") (\\Seen) ~{7}\r\n", true).unwrap().unwrap();
    assert_eq!((next.flags, next.literal, next.utf8), (vec![Flag::Seen], literal(7, true), false));
    for (rest, utf8) in [("x", false), (" x", false), ("\r\n", true), (" {5} x", false), (" ()", false)] {
        assert!(append_more(rest.as_bytes(), utf8).is_err(), "{rest}");
    }
}

/// Pieces of commands, so that random sequences get deep into the grammar.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "a ",
        "UID ",
        "FETCH ",
        "SEARCH ",
        "STORE ",
        "APPEND ",
        "LOGIN ",
        "STATUS ",
        "1:*",
        ",",
        " ",
        "(",
        ")",
        "\"",
        "\\",
        "{3}\r\n",
        "{3+}\r\nabc",
        "{99999999999}\r\n",
        "BODY[",
        "HEADER.FIELDS",
        "]",
        "<1.2>",
        "NOT ",
        "OR ",
        "CHARSET ",
        "NIL",
        "FLAGS",
        "\\Seen",
        "1-Feb-1994",
        "SELECT ",
        "QRESYNC ",
        "LIST ",
        "RETURN ",
        "STATUS ",
        "SORT ",
        "THREAD ",
        "REFERENCES ",
        "UTF-8 ",
        "BINARY[",
        "CHANGEDSINCE ",
        "UNCHANGEDSINCE ",
        "UTF8 ",
        "~",
        "$",
        "7 ",
        "\u{ff}",
        "\0",
        "\r\n",
    ]);
    prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), text in pieces()) {
        let _ = (parse(&bytes), pending_literal(&bytes), is_append_message_literal(&bytes));
        let _ = (append_more(&text, true), append_more(&text, false));
        let _ = (parse(&text), pending_literal(&text), is_append_message_literal(&text));
    }

    #[test]
    fn strings_that_we_write_are_read_back(text in prop::collection::vec(1u8.., 0..50)) {
        let mut line = b"a SELECT ".to_vec();
        super::super::reply::astring(&mut line, &text);
        line.extend_from_slice(b"\r\n");
        let expected = Command::Select { mailbox: WireMailbox(text), read_only: false, condstore: false, qresync: None };
        prop_assert_eq!(parse(&line).unwrap().command, expected);
    }
}
