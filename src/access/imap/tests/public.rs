//! Public mailboxes.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn public_mailboxes() {
    let site = site().await;
    let mut owner = site.login("public").await;
    owner.ok("CREATE News").await;
    for subject in ["one", "two", "three"] {
        owner.append("News", "", &mail(subject, subject)).await;
    }
    let mut reader = site.login("mike").await;
    assert_eq!(reader.ok("LIST \"\" *").await, "* LIST (\\HasNoChildren) \".\" INBOX\r\n");
    assert_eq!(
        reader.ok("LIST \"\" #public.*").await,
        "* LIST (\\HasNoChildren) \".\" #public.INBOX\r\n* LIST (\\HasNoChildren) \".\" #public.News\r\n"
    );
    assert_eq!(
        reader.ok("LIST #public. % RETURN (STATUS (MESSAGES UNSEEN))").await,
        "* LIST (\\HasNoChildren) \".\" #public.INBOX\r\n* STATUS #public.INBOX (MESSAGES 0 UNSEEN 0)\r\n\
         * LIST (\\HasNoChildren) \".\" #public.News\r\n* STATUS #public.News (MESSAGES 3 UNSEEN 3)\r\n"
    );
    let answer = reader.run("SELECT #public.news").await;
    assert!(answer.contains("[PERMANENTFLAGS (\\Seen)]") && answer.contains("[NOMODSEQ]"), "{answer}");
    assert!(answer.contains(" OK [READ-WRITE] "), "{answer}");
    let before = std::fs::read(site.file("public", "News.mbx")).unwrap();
    let answer = reader.ok("FETCH 2 BODY[TEXT]").await;
    assert!(answer.contains("FLAGS (\\Seen"), "{answer}");
    reader.ok("STORE 3 +FLAGS (\\Seen)").await;
    for (command, how) in [
        ("STORE 1 +FLAGS (\\Deleted)", "NO [NOPERM]"),
        ("EXPUNGE", "NO [NOPERM]"),
        ("MOVE 1 INBOX", "NO [NOPERM]"),
        ("CREATE #public.Mine", "NO [NOPERM]"),
        ("DELETE #public.News", "NO [NOPERM]"),
        ("RENAME #public.News x", "NO [NOPERM]"),
        ("COPY 1 #public.News", "NO [NOPERM]"),
        ("APPEND #public.News {3+}\r\nabc", "NO [NOPERM]"),
        ("FETCH 1 MODSEQ", "BAD "),
        ("SELECT #public.Other", "NO [NONEXISTENT]"),
    ] {
        reader.fails(command, how).await;
    }
    reader.ok("SELECT #public.News").await;
    assert_eq!(reader.ok("SEARCH UNSEEN").await, "* SEARCH 1\r\n");
    assert!(reader.run("COPY 1:2 INBOX").await.contains("[COPYUID "));
    assert_eq!(reader.ok("STATUS INBOX (MESSAGES UNSEEN)").await, "* STATUS INBOX (MESSAGES 2 UNSEEN 1)\r\n");
    reader.ok("STORE 3 -FLAGS (\\Seen)").await;
    reader.ok("CLOSE").await;

    // It is kept, and it is mike's alone.
    let seen = std::fs::read_to_string(site.file("mike", "public.seen")).unwrap();
    assert!(seen.lines().count() == 1 && seen.ends_with(" News\n"), "{seen}");
    let mut again = site.login("mike").await;
    assert_eq!(again.ok("STATUS #public.News (UNSEEN)").await, "* STATUS #public.News (UNSEEN 2)\r\n");
    let mut other = site.login("ann").await;
    assert_eq!(other.ok("STATUS #public.News (UNSEEN)").await, "* STATUS #public.News (UNSEEN 3)\r\n");
    assert_eq!(owner.ok("STATUS News (UNSEEN RECENT)").await, "* STATUS News (UNSEEN 3 RECENT 3)\r\n");
    assert_eq!(std::fs::read(site.file("public", "News.mbx")).unwrap(), before);

    // `public` itself does what it likes, under both names.
    owner.ok("SELECT #public.News").await;
    owner.ok("STORE 1 +FLAGS (\\Deleted)").await;
    assert_eq!(owner.ok("EXPUNGE").await, "* 1 EXPUNGE\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribed_public_mailboxes_are_listed() {
    let site = site().await;
    let mut owner = site.login("public").await;
    owner.ok("CREATE News").await;
    let mut reader = site.login("mike").await;
    reader.ok("SUBSCRIBE #public.News").await;
    assert!(reader.ok("LSUB \"\" *").await.contains("* LSUB () \".\" #public.News\r\n"));
    let answer = reader.ok("LIST (SUBSCRIBED) \"\" *").await;
    assert!(answer.contains("* LIST (\\Subscribed \\HasNoChildren) \".\" #public.News\r\n"), "{answer}");
    assert!(!answer.contains("#public.INBOX"), "{answer}");
    // One's own mailboxes cannot hide among them.
    reader.fails("CREATE #public.News.x", "NO [NOPERM]").await;
}
