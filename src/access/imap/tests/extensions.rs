//! The extensions, one after the other.

use super::*;

/// Length of the line that storing adds: `X-UIDL: 1101327611`.
const UIDL_LINE: usize = 20;

/// A client that is logged in and asked for these.
async fn enabled(site: &Site, names: &str) -> Client {
    let mut client = site.login("mike").await;
    let answer = client.ok(&format!("ENABLE {names}")).await;
    assert!(answer.starts_with(&format!("* ENABLED {}", names.to_ascii_uppercase())), "{answer}");
    client
}

/// The number behind a word of an answer.
fn number_after(answer: &str, word: &str) -> u64 {
    let rest = answer.split(word).nth(1).unwrap_or_else(|| panic!("{word} in {answer}"));
    let digits: String =
        rest.trim_start_matches([' ', '(']).chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_enabled_is_told() {
    let site = site().await;
    let mut client = site.login("mike").await;
    assert_eq!(client.ok("ENABLE X-NONE").await, "* ENABLED\r\n");
    assert_eq!(client.ok("ENABLE utf8=accept X CONDSTORE").await, "* ENABLED UTF8=ACCEPT CONDSTORE\r\n");
    client.fails("ENABLE", "BAD ").await;
    client.fails("SELECT INBOX (QRESYNC (1 1))", "BAD ").await;
    let mut stranger = site.connect().await;
    stranger.fails("ENABLE IMAP4rev2", "BAD ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rev2() {
    let site = site().await;
    let mut client = enabled(&site, "IMAP4rev2").await;
    let uids = three(&mut client).await;
    let answer = client.ok("SELECT INBOX").await;
    assert!(answer.contains("* LIST () \".\" INBOX\r\n") && !answer.contains("RECENT"), "{answer}");
    assert!(answer.contains("[MAILBOXID (F") && !answer.contains("[UNSEEN"), "{answer}");
    assert_eq!(client.ok("FETCH 1 FLAGS").await, "* 1 FETCH (FLAGS ())\r\n");
    assert_eq!(client.ok("SEARCH ALL").await, "* ESEARCH (TAG \"T8\") ALL 1:3\r\n");
    let (first, last) = (uids[0], uids[2]);
    assert_eq!(
        client.ok("UID SEARCH RETURN (MIN MAX COUNT) ALL").await,
        format!("* ESEARCH (TAG \"T9\") UID MIN {first} MAX {last} COUNT 3\r\n")
    );
    assert_eq!(client.ok("SEARCH SUBJECT nothing").await, "* ESEARCH (TAG \"T10\")\r\n");
    client.ok("CREATE \"\u{4F1A}\u{8B70}.2024\"").await;
    assert!(client.ok("LIST \"\" *").await.contains(" \".\" \"\u{4F1A}\u{8B70}.2024\"\r\n"));
    let answer = client.ok("RENAME \"\u{4F1A}\u{8B70}.2024\" Old").await;
    assert_eq!(answer, "* LIST () \".\" Old (\"OLDNAME\" (\"\u{4F1A}\u{8B70}.2024\"))\r\n");
    client.ok("STORE 1:2 +FLAGS (\\Deleted)").await;
    assert_eq!(
        client.ok("STATUS INBOX (DELETED SIZE MESSAGES)").await,
        format!(
            "* STATUS INBOX (DELETED 2 SIZE {} MESSAGES 3)\r\n",
            3 * (mail("m1", "body 1").len() + UIDL_LINE)
        )
    );
    let answer = client.ok("SELECT Old").await;
    assert!(answer.starts_with("* OK [CLOSED]"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn search_results_are_kept() {
    let site = site().await;
    let mut client = site.login("mike").await;
    let uids = three(&mut client).await;
    client.ok("SELECT INBOX").await;
    assert_eq!(client.ok("SEARCH RETURN (SAVE) SUBJECT m2").await, "");
    assert_eq!(client.ok("FETCH $ UID").await, format!("* 2 FETCH (UID {})\r\n", uids[1]));
    assert_eq!(client.ok("SEARCH $").await, "* SEARCH 2\r\n");
    assert_eq!(client.ok("UID SEARCH NOT $").await, format!("* SEARCH {} {}\r\n", uids[0], uids[2]));
    client.ok("UID STORE $ +FLAGS.SILENT (\\Deleted)").await;
    client.ok("SEARCH RETURN (SAVE MIN MAX) ALL").await;
    assert_eq!(client.ok("EXPUNGE").await, "* 2 EXPUNGE\r\n");
    assert_eq!(client.ok("SEARCH $").await, "* SEARCH 1 2\r\n");
    client.ok("CREATE Other").await;
    assert!(client.run("COPY $ Other").await.contains("[COPYUID "));
    client.fails("SEARCH RETURN (SAVE) CHARSET X-NONE SUBJECT x", "NO [BADCHARSET").await;
    assert_eq!(client.ok("SEARCH $").await, "* SEARCH\r\n");
    assert!(client.run("FETCH $ UID").await.contains(" OK "));
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_numbered() {
    let site = site().await;
    let mut client = site.login("mike").await;
    let uids = three(&mut client).await;
    let answer = client.ok("SELECT INBOX (CONDSTORE)").await;
    let highest = number_after(&answer, "[HIGHESTMODSEQ ");
    let answer = client.ok("STORE 1 +FLAGS.SILENT (\\Flagged)").await;
    let first = number_after(&answer, "MODSEQ (");
    assert!(first > highest && !answer.contains("FLAGS"), "{answer}");
    assert_eq!(
        client.ok(&format!("FETCH 1:3 (FLAGS) (CHANGEDSINCE {highest})")).await,
        format!("* 1 FETCH (FLAGS (\\Flagged \\Recent) MODSEQ ({first}))\r\n")
    );
    // Somebody else's change comes with its number.
    let mut other = site.selected("mike").await;
    other.ok("STORE 2 +FLAGS (\\Answered)").await;
    let answer = client.ok("NOOP").await;
    let second = number_after(&answer, "MODSEQ (");
    assert!(answer.starts_with(&format!("* 2 FETCH (UID {} FLAGS (\\Answered", uids[1])), "{answer}");
    let answer = client.run(&format!("STORE 1:3 (UNCHANGEDSINCE {first}) +FLAGS (\\Seen)")).await;
    assert!(answer.contains("OK [MODIFIED 2] "), "{answer}");
    let answer = client.run(&format!("UID STORE 1:* (UNCHANGEDSINCE {first}) -FLAGS (\\Seen)")).await;
    assert!(answer.contains(&format!("OK [MODIFIED {}:{}] ", uids[0], uids[2])), "{answer}");
    assert!(client.ok("STATUS INBOX (HIGHESTMODSEQ)").await.contains("(HIGHESTMODSEQ "));
    let answer = client.ok(&format!("SEARCH MODSEQ {second}")).await;
    assert!(answer.starts_with("* SEARCH 1 2 3 (MODSEQ "), "{answer}");
    let answer = client.ok(&format!("SEARCH RETURN (COUNT) MODSEQ {}", u64::MAX >> 1)).await;
    assert!(answer.ends_with(" COUNT 0\r\n"), "{answer}");
    let answer = client.ok("FETCH 3 BODY[TEXT]").await;
    assert!(!answer.contains("FLAGS"), "it was seen: {answer}");
    let answer = client.ok("FETCH 2 BODY[TEXT]").await;
    assert!(answer.contains(" FLAGS (\\Answered \\Seen") && answer.contains(" MODSEQ ("), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_come_back_learn_what_changed() {
    let site = site().await;
    let mut client = enabled(&site, "QRESYNC").await;
    let uids = three(&mut client).await;
    let answer = client.ok("SELECT INBOX").await;
    let validity = number_after(&answer, "[UIDVALIDITY ");
    let highest = number_after(&answer, "[HIGHESTMODSEQ ");
    let mut other = site.selected("mike").await;
    let ends = (uids[0], uids[2]);

    assert_eq!(
        client
            .ok(&format!("SELECT INBOX (QRESYNC ({validity} {highest}))"))
            .await
            .matches("VANISHED")
            .count(),
        0
    );
    other.ok("STORE 1 +FLAGS.SILENT (\\Deleted)").await;
    other.ok("STORE 3 +FLAGS.SILENT (\\Flagged)").await;
    other.ok("EXPUNGE").await;
    let answer = client.ok("NOOP").await;
    assert!(answer.starts_with(&format!("* VANISHED {}\r\n", ends.0)), "{answer}");
    assert!(answer.contains(&format!("* 2 FETCH (UID {} FLAGS (\\Flagged", ends.1)), "{answer}");

    let answer = client.ok(&format!("SELECT INBOX (QRESYNC ({validity} {highest}))")).await;
    assert!(
        answer.contains(&format!(
            "* VANISHED (EARLIER) {}\r\n* 2 FETCH (UID {} FLAGS (\\Flagged",
            ends.0, ends.1
        )),
        "{answer}"
    );
    // Another UIDVALIDITY, or nothing of it known.
    for parameters in [format!("{} {highest}", validity + 1), format!("{validity} {highest} {}", uids[1])] {
        let answer = client.ok(&format!("SELECT INBOX (QRESYNC ({parameters}))")).await;
        assert!(!answer.contains("VANISHED") && !answer.contains("FETCH"), "{answer}");
    }
    let answer = client.ok(&format!("UID FETCH 1:* (FLAGS) (CHANGEDSINCE {highest} VANISHED)")).await;
    assert!(
        answer.starts_with(&format!("* VANISHED (EARLIER) {}\r\n* 2 FETCH (UID {} FLAGS", ends.0, ends.1)),
        "{answer}"
    );

    // What went before anybody remembers is told by what is not there; a match says from where on that is needed.
    let answer = client.ok(&format!("SELECT INBOX (QRESYNC ({validity} {highest}))")).await;
    let highest = number_after(&answer, "[HIGHESTMODSEQ ");
    drop((client, other));
    for name in ["main.rsx", "main.rsx.1", "main.rsj"] {
        let _ = std::fs::remove_file(site.file("mike", name));
    }
    let again = Site { address: listen(&for_tests(site.dir.path()), super::super::session).await, ..site };
    let mut client = enabled(&again, "QRESYNC").await;
    let answer =
        client.ok(&format!("SELECT INBOX (QRESYNC ({validity} {highest} {}:{}))", ends.0, ends.1)).await;
    assert!(number_after(&answer, "[HIGHESTMODSEQ ") > highest, "numbers never run backwards: {answer}");
    assert!(answer.contains(&format!("* VANISHED (EARLIER) {}\r\n", ends.0)), "{answer}");
    let matched = format!("{validity} {highest} {}:{} (1:2 {}:{})", ends.0, ends.1, uids[1], ends.1);
    let answer = client.ok(&format!("SELECT INBOX (QRESYNC ({matched}))")).await;
    assert!(!answer.contains("VANISHED"), "{answer}");

    client.ok("STORE 1 +FLAGS.SILENT (\\Deleted)").await;
    let answer = client.run("EXPUNGE").await;
    assert!(
        answer.starts_with(&format!("* VANISHED {}\r\n", uids[1])) && answer.contains("OK [HIGHESTMODSEQ "),
        "{answer}"
    );
    client.ok("CREATE Other").await;
    let answer = client.run("MOVE 1 Other").await;
    assert!(
        answer.contains(&format!("* VANISHED {}\r\n", ends.1)) && answer.contains("OK [HIGHESTMODSEQ "),
        "{answer}"
    );
}

fn dated(subject: &str, from: &str, date: &str, more: &str) -> String {
    format!("From: {from}\r\nSubject: {subject}\r\nDate: {date}\r\n{more}\r\nx\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn sorted_and_threaded() {
    let site = site().await;
    let mut client = site.login("mike").await;
    for message in [
        dated(
            "Re: =?utf-8?B?5Lya6K2w?=",
            "b@x",
            "Tue, 3 Mar 2020 10:00:00 +0900",
            "Message-ID: <2@x>\r\nReferences: <1@x>\r\n",
        ),
        dated("Apple", "Zoe <a@x>", "Mon, 2 Mar 2020 10:00:00 +0900", "Message-ID: <3@x>\r\n"),
        dated(
            "=?iso-2022-jp?B?GyRCMnE1RBsoQg==?=",
            "c@x",
            "Sun, 1 Mar 2020 10:00:00 +0900",
            "Message-ID: <1@x>\r\n",
        ),
        dated("re: apple", "d@x", "Wed, 4 Mar 2020 10:00:00 +0900", "Message-ID: <4@x>\r\n"),
    ] {
        client.append("INBOX", "", &message).await;
    }
    client.ok("SELECT INBOX").await;
    for (order, expected) in [
        ("DATE", "3 2 1 4"),
        ("REVERSE DATE", "4 1 2 3"),
        ("ARRIVAL", "1 2 3 4"),
        ("FROM", "2 1 3 4"),
        ("DISPLAYFROM", "1 3 4 2"),
        ("SUBJECT DATE", "2 4 3 1"),
        ("SUBJECT REVERSE DATE", "4 2 1 3"),
        ("SIZE", "2 4 3 1"),
    ] {
        let answer = client.ok(&format!("SORT ({order}) UTF-8 ALL")).await;
        if order != "SIZE" {
            assert_eq!(answer, format!("* SORT {expected}\r\n"), "{order}");
        }
    }
    assert_eq!(client.ok("SORT (DATE) UTF-8 SUBJECT apple").await, "* SORT 2 4\r\n");
    assert_eq!(client.ok("SORT (DATE) UTF-8 SUBJECT none").await, "* SORT\r\n");
    assert!(
        client.ok("SORT RETURN (ALL COUNT) (DATE) UTF-8 ALL").await.ends_with(" ALL 3,2,1,4 COUNT 4\r\n")
    );
    client.fails("SORT (DATE) X-NONE SUBJECT x", "NO [BADCHARSET").await;
    assert_eq!(client.ok("THREAD REFERENCES UTF-8 ALL").await, "* THREAD (3 1)(2 4)\r\n");
    assert_eq!(client.ok("THREAD ORDEREDSUBJECT UTF-8 ALL").await, "* THREAD (3 1)(2 4)\r\n");
    assert_eq!(client.ok("THREAD REFERENCES UTF-8 SUBJECT none").await, "* THREAD\r\n");
    assert!(client.ok("UID THREAD REFERENCES UTF-8 SUBJECT apple").await.starts_with("* THREAD ("));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_with_options() {
    let site = site().await;
    let mut client = site.login("mike").await;
    for name in ["Sent", "\"Sent Items\"", "Work.2024.Q1", "Old", "Draft"] {
        client.ok(&format!("CREATE {name}")).await;
    }
    client.ok("CREATE Mine (USE (\\Archive))").await;
    client.fails("CREATE Bad (USE (\\All))", "NO [USEATTR]").await;
    for name in ["INBOX", "\"Sent Items\"", "Sent", "Draft", "Mine"] {
        client.ok(&format!("UNSUBSCRIBE {name}")).await;
    }
    client.ok("SUBSCRIBE Gone.Far").await;
    let answer = client.ok("LIST (SPECIAL-USE) \"\" *").await;
    let expected = "* LIST (\\HasNoChildren \\Drafts) \".\" Draft\r\n* LIST (\\HasNoChildren \\Archive) \".\" Mine\r\n\
        * LIST (\\HasNoChildren \\Sent) \".\" Sent\r\n";
    assert_eq!(answer, expected);
    let answer = client.ok("LIST (SUBSCRIBED) \"\" *").await;
    let expected = "* LIST (\\NonExistent \\Subscribed \\HasNoChildren) \".\" Gone.Far\r\n\
        * LIST (\\Subscribed \\HasNoChildren) \".\" Old\r\n* LIST (\\Subscribed \\HasNoChildren) \".\" Work.2024.Q1\r\n";
    assert_eq!(answer, expected);
    let answer = client.ok("LIST (SUBSCRIBED RECURSIVEMATCH) \"\" %").await;
    let expected = "* LIST (\\Noselect \\HasChildren) \".\" Gone (\"CHILDINFO\" (\"SUBSCRIBED\"))\r\n\
        * LIST (\\Subscribed \\HasNoChildren) \".\" Old\r\n\
        * LIST (\\Noselect \\HasChildren) \".\" Work (\"CHILDINFO\" (\"SUBSCRIBED\"))\r\n";
    assert_eq!(answer, expected);
    let answer = client.ok("LIST \"\" (Old Work.%) RETURN (SUBSCRIBED STATUS (MESSAGES UNSEEN))").await;
    let expected = "* LIST (\\Subscribed \\HasNoChildren) \".\" Old\r\n* STATUS Old (MESSAGES 0 UNSEEN 0)\r\n\
        * LIST (\\Noselect \\HasChildren) \".\" Work.2024\r\n";
    assert_eq!(answer, expected);
    // What a mailbox is for goes with it.
    client.ok("RENAME Mine Safe").await;
    assert!(client.ok("LIST \"\" Safe").await.contains("\\Archive"));
    client.ok("DELETE Safe").await;
    client.ok("CREATE Safe").await;
    assert!(!client.ok("LIST \"\" Safe").await.contains("\\Archive"));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_messages_at_once() {
    let site = site().await;
    let mut client = site.login("mike").await;
    let (one, two) = (mail("one", "1"), mail("two", &"2".repeat(300_000)));
    let both =
        format!("APPEND INBOX (\\Seen) {{{}+}}\r\n{one} (\\Flagged) {{{}+}}\r\n{two}", one.len(), two.len());
    let answer = client.run(&both).await;
    let uids = answer.split("[APPENDUID ").nth(1).unwrap().split([' ', ']']).nth(1).unwrap();
    let (first, second) = uids.split_once(':').expect(&answer);
    assert_eq!(first.parse::<u32>().unwrap() + 1, second.parse::<u32>().unwrap());
    client.ok("SELECT INBOX").await;
    let answer = client.ok("FETCH 1:2 (FLAGS RFC822.SIZE)").await;
    assert!(
        answer.contains("FLAGS (\\Seen \\Recent)") && answer.contains("FLAGS (\\Flagged \\Recent)"),
        "{answer}"
    );
    assert!(answer.contains(&format!("RFC822.SIZE {})", two.len() + UIDL_LINE)), "{answer}");
    // The second one cannot be taken: neither is.
    for rest in [" {0+}\r\n\r\n", " nonsense\r\n", " {99999999999}\r\n"] {
        client.tag += 1;
        let tag = format!("T{}", client.tag);
        client.send(&format!("{tag} APPEND INBOX {{{}+}}\r\n{one}{rest}", one.len())).await;
        let answer = client.until(&format!("{tag} ")).await;
        assert!(!answer.contains(" OK "), "{rest}: {answer}");
        assert_eq!(client.ok("STATUS INBOX (MESSAGES)").await, "* STATUS INBOX (MESSAGES 2)\r\n", "{rest}");
    }
    client.ok("NOOP").await;
    let answer = client.run(&format!("APPEND nowhere {{{}+}}\r\n{one} {{3+}}\r\nabc", one.len())).await;
    assert!(answer.contains("NO [TRYCREATE]"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_parts_and_previews() {
    let site = site().await;
    let mut client = site.login("mike").await;
    let message = "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\
        Content-Type: text/plain; charset=iso-2022-jp\r\n\r\n\x1B$B2q5D\x1B(B  at   ten\r\n--b\r\n\
        Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\nAAECAwQ=\r\n--b\r\n\
        Content-Transfer-Encoding: x-none\r\n\r\nz\r\n--b--\r\n";
    client.append("INBOX", "", message).await;
    client.ok("SELECT INBOX").await;
    assert_eq!(
        client.ok("FETCH 1 (BINARY.SIZE[2] BINARY.SIZE[1])").await,
        "* 1 FETCH (BINARY.SIZE[2] 5 BINARY.SIZE[1] 20)\r\n"
    );
    assert_eq!(
        client.ok("FETCH 1 BINARY.PEEK[2]").await,
        "* 1 FETCH (BINARY[2] ~{5}\r\n\0\x01\x02\x03\x04)\r\n"
    );
    assert_eq!(
        client.ok("FETCH 1 BINARY.PEEK[2]<1.2>").await,
        "* 1 FETCH (BINARY[2]<1> {2}\r\n\x01\x02)\r\n"
    );
    assert_eq!(client.ok("FETCH 1 BINARY.PEEK[9]").await, "* 1 FETCH (BINARY[9] NIL)\r\n");
    assert!(client.run("FETCH 1 BINARY.PEEK[3]").await.contains("NO [UNKNOWN-CTE]"));
    assert!(client.run("FETCH 1 BINARY.PEEK[2]").await.contains(" OK "));
    let text = "\u{4F1A}\u{8B70} at ten";
    assert_eq!(
        client.ok("FETCH 1 (PREVIEW (LAZY))").await,
        format!("* 1 FETCH (PREVIEW {{{}}}\r\n{text})\r\n", text.len())
    );
    assert!(client.ok("FETCH 1 BINARY[1]").await.contains("FLAGS (\\Seen"));
    // Bytes that are no text come back as they went in.
    client.send("z APPEND INBOX ~{18+}\r\nA: b\r\n\r\n\0\x01\x02\r\nend\r\n\r\n").await;
    client.until("z OK").await;
    let answer = client.ok("FETCH 2 BINARY.PEEK[]").await;
    assert!(answer.contains("* 2 FETCH (BINARY[] ~{38}\r\nA: b\r\nX-UIDL: "), "{answer:?}");
    assert!(answer.contains("\r\n\r\n\0\x01\x02\r\nend\r\n)"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas() {
    let site = site().await;
    let mut client = site.login("mike").await;
    assert_eq!(client.ok("GETQUOTAROOT INBOX").await, "* QUOTAROOT INBOX \"\"\r\n* QUOTA \"\" ()\r\n");
    let registry = site.dir.path().join("registry.ini");
    let text = std::fs::read_to_string(&registry).unwrap();
    let limits = "MaxSize=dword:00002800\r\nMaxMsgs=dword:00000003\r\n";
    let text =
        text.replace("MailAddr=mike@example.org\r\n", &format!("MailAddr=mike@example.org\r\n{limits}"));
    std::fs::write(&registry, text).unwrap();
    let server = for_tests(site.dir.path());
    let site = Site { address: listen(&server, super::super::session).await, server, ..site };
    let mut client = site.login("mike").await;
    client.append("INBOX", "", &mail("one", "1")).await;
    client.ok("CREATE Other").await;
    client.append("Other", "", &mail("two", "2")).await;
    assert_eq!(client.ok("GETQUOTA \"\"").await, "* QUOTA \"\" (STORAGE 1 10 MESSAGE 2 3)\r\n");
    client.fails("GETQUOTA x", "NO [NONEXISTENT]").await;
    client.fails("SETQUOTA \"\" (STORAGE 512)", "NO [NOPERM]").await;
    let large = "x".repeat(11_000);
    assert!(client.append("INBOX", "", &mail("large", &large)).await.contains("NO [OVERQUOTA]"));
    assert!(client.append("INBOX", "", &mail("three", "3")).await.contains(" OK "));
    assert!(client.append("INBOX", "", &mail("four", "4")).await.contains("NO [OVERQUOTA]"));
    client.ok("SELECT Other").await;
    client.fails("COPY 1 INBOX", "NO [OVERQUOTA]").await;
    assert!(client.run("MOVE 1 INBOX").await.contains(" OK "));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_messages_are_told_apart_by() {
    let site = site().await;
    let mut client = site.login("mike").await;
    client.append("INBOX", "\"17-Jul-1996 02:44:25 -0700\" ", &mail("old", "x")).await;
    let answer = client.run("CREATE Box").await;
    let id = answer.split("[MAILBOXID (").nth(1).unwrap().split(')').next().unwrap().to_owned();
    client.ok("RENAME Box Crate").await;
    assert_eq!(client.ok("STATUS Crate (MAILBOXID)").await, format!("* STATUS Crate (MAILBOXID ({id}))\r\n"));
    client.ok("SELECT INBOX").await;
    let answer = client.ok("FETCH 1 (EMAILID THREADID)").await;
    assert!(
        answer.starts_with("* 1 FETCH (EMAILID (M") && answer.ends_with(") THREADID NIL)\r\n"),
        "{answer}"
    );
    let id = answer.split("EMAILID (").nth(1).unwrap().split(')').next().unwrap();
    assert_eq!(client.ok(&format!("SEARCH EMAILID {id}")).await, "* SEARCH 1\r\n");
    assert_eq!(client.ok("SEARCH THREADID x").await, "* SEARCH\r\n");
    // It came long ago, but it was stored today.
    let answer = client.ok("FETCH 1 (INTERNALDATE SAVEDATE)").await;
    assert!(!answer.contains("SAVEDATE \"17-Jul-1996"), "{answer}");
    assert_eq!(client.ok("SEARCH SAVEDSINCE 1-Jan-2020 SAVEDATESUPPORTED").await, "* SEARCH 1\r\n");
    assert_eq!(client.ok("SEARCH SAVEDBEFORE 1-Jan-2020").await, "* SEARCH\r\n");
    client.append("INBOX", "", &mail("new", "x")).await;
    assert_eq!(client.ok("SEARCH YOUNGER 3600").await.lines().next(), Some("* SEARCH 2"));
    assert_eq!(client.ok("SEARCH OLDER 3600").await, "* SEARCH 1\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn utf8_is_accepted() {
    let site = site().await;
    let mut client = enabled(&site, "UTF8=ACCEPT").await;
    client.ok("CREATE \"\u{4E0B}\u{66F8}\u{304D}\"").await;
    let answer = client.ok("LIST \"\" \"\u{4E0B}*\"").await;
    assert_eq!(answer, "* LIST (\\HasNoChildren \\Drafts) \".\" \"\u{4E0B}\u{66F8}\u{304D}\"\r\n");
    let message = "Subject: \u{4F1A}\u{8B70}\r\n\r\nx\r\n";
    client
        .send(&format!(
            "u APPEND \"\u{4E0B}\u{66F8}\u{304D}\" UTF8 (~{{{}+}}\r\n{message})\r\n",
            message.len()
        ))
        .await;
    assert!(client.until("u ").await.starts_with("u OK [APPENDUID "));
    client.ok("SELECT \"\u{4E0B}\u{66F8}\u{304D}\"").await;
    assert_eq!(client.ok("SEARCH SUBJECT \"\u{8B70}\"").await, "* SEARCH 1\r\n");
    let mut old = site.login("mike").await;
    assert!(old.ok("LIST \"\" *").await.contains(" \".\" &Tgtm+DBN-\r\n"));
    old.fails("SELECT \"\u{4E0B}\u{66F8}\u{304D}\"", "NO [NONEXISTENT]").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compression() {
    use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
    let site = site().await;
    let mut client = site.login("mike").await;
    assert!(client.ok("CAPABILITY").await.contains(" COMPRESS=DEFLATE"));
    client.fails("COMPRESS LZ4", "NO ").await;
    client.ok("COMPRESS DEFLATE").await;
    let (mut pack, mut unpack) = (Compress::new(Compression::fast(), false), Decompress::new(false));
    let mut stream = client.stream;
    let body = mail("packed", &"all the same ".repeat(20_000));
    let commands = [
        format!("a APPEND INBOX {{{}+}}\r\n{body}\r\n", body.len()),
        "b SELECT INBOX\r\n".to_owned(),
        "c COMPRESS DEFLATE\r\n".to_owned(),
        "d FETCH 1 BODY.PEEK[TEXT]\r\n".to_owned(),
    ];
    let mut answer = String::new();
    let mut came = 0;
    for command in commands {
        let mut packed = Vec::with_capacity(command.len() + 1000);
        pack.compress_vec(command.as_bytes(), &mut packed, FlushCompress::Sync).unwrap();
        stream.get_mut().write_all(&packed).await.unwrap();
        let tag = format!("\r\n{} ", &command[..1]);
        while !format!("\r\n{answer}").contains(&tag) || !answer.ends_with("\r\n") {
            let bytes = timeout(SOON, stream.fill_buf()).await.unwrap().unwrap().to_vec();
            assert!(!bytes.is_empty());
            stream.consume(bytes.len());
            came += bytes.len();
            let mut text = Vec::with_capacity(1 << 20);
            unpack.decompress_vec(&bytes, &mut text, FlushDecompress::Sync).unwrap();
            answer.push_str(&String::from_utf8(text).unwrap());
        }
    }
    assert!(
        answer.contains("\r\nc NO [COMPRESSIONACTIVE]") && answer.contains("\r\nd OK "),
        "{}",
        &answer[..200]
    );
    assert!(answer.len() > 250_000 && came < 20_000, "{} became {came}", answer.len());
    // Nonsense ends it.
    stream.get_mut().write_all(b"\xff\xff\xff\xff").await.unwrap();
    let mut rest = Vec::new();
    timeout(SOON, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn digests() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let site = site().await;
    for (password, answer) in [(PASSWORD, "OK [CAPABILITY "), ("wrong", "NO [AUTHENTICATIONFAILED]")] {
        let mut client = site.connect().await;
        client.send("a AUTHENTICATE CRAM-MD5\r\n").await;
        let challenge = STANDARD.decode(client.line().await.trim_start_matches("+ ").trim()).unwrap();
        let mut mac = Hmac::<md5::Md5>::new_from_slice(password.as_bytes()).unwrap();
        mac.update(&challenge);
        let digest: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        client.send(&format!("{}\r\n", STANDARD.encode(format!("mike {digest}")))).await;
        assert!(client.line().await.starts_with(&format!("a {answer}")));
    }
}
