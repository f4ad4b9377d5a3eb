//! Searches in Japanese: mail in every charset, asked for in every charset. Names of mailboxes.

use super::*;
use encoding_rs::{EUC_JP, Encoding, ISO_2022_JP, SHIFT_JIS, UTF_8};

const CHARSETS: [(&Encoding, &str); 4] =
    [(ISO_2022_JP, "ISO-2022-JP"), (SHIFT_JIS, "Shift_JIS"), (EUC_JP, "EUC-JP"), (UTF_8, "UTF-8")];

/// "Minutes of the meeting" and "please look at the estimate".
const SUBJECT: &str = "\u{4F1A}\u{8B70}\u{306E}\u{8B70}\u{4E8B}\u{9332}";
const BODY: &str = "\u{898B}\u{7A4D}\u{66F8}\u{3092}\u{3054}\u{89A7}\u{304F}\u{3060}\u{3055}\u{3044}";

async fn send_bytes(client: &mut Client, before: &str, text: &[u8], after: &str) -> String {
    client.tag += 1;
    let tag = format!("T{}", client.tag);
    let bytes =
        [format!("{tag} {before}{{{}+}}\r\n", text.len()).as_bytes(), text, after.as_bytes(), b"\r\n"]
            .concat();
    client.stream.get_mut().write_all(&bytes).await.unwrap();
    client.until(&format!("{tag} ")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_in_every_charset() {
    let site = site().await;
    let mut client = site.login("mike").await;
    for (encoding, label) in CHARSETS {
        // Raw 8-bit or shifted subjects, as old mail programs wrote them.
        let head = format!(
            "From: a@x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset={label}\r\nSubject: "
        );
        let message =
            [head.as_bytes(), &encoding.encode(SUBJECT).0, b"\r\n\r\n", &encoding.encode(BODY).0, b"\r\n"]
                .concat();
        assert!(send_bytes(&mut client, "APPEND INBOX ", &message, "").await.contains(" OK "));
    }
    client.ok("SELECT INBOX").await;
    for (encoding, label) in CHARSETS {
        for (key, text, expected) in [
            ("SUBJECT", "\u{8B70}\u{4E8B}\u{9332}", "* SEARCH 1 2 3 4"),
            ("BODY", "\u{7A4D}\u{66F8}", "* SEARCH 1 2 3 4"),
            ("TEXT", "\u{4F1A}\u{8B70}", "* SEARCH 1 2 3 4"),
            ("TEXT", "\u{3054}\u{89A7}", "* SEARCH 1 2 3 4"),
            ("BODY", "\u{8B70}\u{4E8B}\u{9332}", "* SEARCH"),
            ("SUBJECT", "\u{8ACB}\u{6C42}", "* SEARCH"),
        ] {
            let text = encoding.encode(text).0;
            let answer = send_bytes(&mut client, &format!("SEARCH CHARSET {label} {key} "), &text, "").await;
            assert_eq!(answer.lines().next(), Some(expected), "{label} {key}");
        }
    }
    // In a quoted string, with a second key behind; and without a charset, as some clients send it.
    let answer =
        send_bytes(&mut client, "SEARCH CHARSET UTF-8 SUBJECT ", SUBJECT.as_bytes(), " UNSEEN").await;
    assert!(answer.starts_with("* SEARCH 1 2 3 4\r\n"), "{answer}");
    assert_eq!(client.ok(&format!("SEARCH SUBJECT \"{SUBJECT}\"")).await, "* SEARCH 1 2 3 4\r\n");
    client.fails("SEARCH CHARSET X-NONE TEXT x", "NO [BADCHARSET (").await;
    assert_eq!(client.ok("SORT (SUBJECT) UTF-8 ALL").await, "* SORT 1 2 3 4\r\n");
    assert_eq!(client.ok("THREAD ORDEREDSUBJECT UTF-8 ALL").await, "* THREAD (1 (2)(3)(4))\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_mailboxes() {
    let site = site().await;
    let mut client = site.login("mike").await;
    let long = "x".repeat(190);
    for name in ["&Zi,lw+g1gnAw4DEw-", "A.B.C", "\"con\"", "\"a:b\"", &long, "\"lpt1.x\"", "\"a \""] {
        client.ok(&format!("CREATE {name}")).await;
        client.ok(&format!("SELECT {name}")).await;
    }
    for name in std::fs::read_dir(site.file("mike", "")).unwrap() {
        let name = name.unwrap().file_name().into_string().unwrap();
        assert!(name.is_ascii() && !name.contains([':', ' ']) && !name.starts_with("con"), "{name}");
    }
    for name in [
        "&",
        "&Zi",
        "&Zi-",
        "&AGEAYg-",
        "&2D8-",
        "a&-b&",
        "A..B",
        ".A",
        "a/b",
        "\"a*b\"",
        "\"a\tb\"",
        &"x".repeat(300),
        "&-&-&",
        "&ZeVnLIqe",
        "&ZeVnLIqe!-",
        "&////-",
    ] {
        client.fails(&format!("CREATE {name}"), "NO ").await;
    }
    client.fails("CREATE a:B", "NO [ALREADYEXISTS]").await;
    client.ok("CREATE &-").await;
    assert!(client.ok("LIST \"\" &-").await.ends_with(" &-\r\n"));
}
