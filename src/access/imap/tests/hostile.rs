//! Clients that mean no good: bounded memory, a clear BAD or BYE, and others are not disturbed.

use super::*;
use crate::message::structure::MAX_PARTS;
use std::fmt::Write as _;

#[tokio::test(flavor = "multi_thread")]
async fn literals_that_are_too_large_or_too_many() {
    let site = site().await;
    for (command, how) in
        [("LOGIN {99999999999999999999999999}", "BAD [TOOBIG]"), ("LOGIN {8193}", "BAD [TOOBIG]")]
    {
        let mut client = site.connect().await;
        client.fails(command, how).await;
        client.ok("NOOP").await;
    }
    let many = "{1+}\r\na ".repeat(200);
    for text in [
        "a LOGIN {99999999999999999999+}\r\n".to_owned(),
        format!("a LOGIN {many}\r\n"),
        format!(
            "a LOGIN {}\r\n",
            "{8000+}\r\n".to_owned()
                + &"x".repeat(8000)
                + &(" {8000+}\r\n".to_owned() + &"x".repeat(8000)).repeat(9)
        ),
        "x".repeat(1 << 20),
    ] {
        let mut client = site.connect().await;
        // The server may hang up before all is sent.
        let _ = client.stream.get_mut().write_all(text.as_bytes()).await;
        let mut line = Vec::new();
        let _ = timeout(SOON, client.stream.read_until(b'\n', &mut line)).await.unwrap();
        assert!(line.is_empty() || line.starts_with(b"* BYE "), "{:?}", String::from_utf8_lossy(&line));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nesting_and_lists_without_end() {
    let site = site().await;
    let mut client = site.selected("mike").await;
    let deep = 10_000;
    for command in [
        format!("SEARCH {}ALL", "NOT ".repeat(deep)),
        format!("SEARCH {}ALL", "(".repeat(deep)),
        format!("SEARCH {}ALL", "OR ALL ".repeat(deep / 2)),
        format!("FETCH 1 ({})", "(".repeat(deep)),
        format!("LIST ({} \"\" *", "(".repeat(deep)),
        format!("ID ({}", "(".repeat(deep)),
        format!("STORE 1 FLAGS ({})", "x ".repeat(deep)),
    ] {
        client.fails(&command, "BAD ").await;
    }
    let mut client = site.selected("mike").await;
    client.fails(&format!("FETCH {} FLAGS", "1,".repeat(25_000)), "BAD ").await;
    client.fails(&format!("LIST \"\" ({})", "*%*%* ".repeat(900).trim_end()), "BAD ").await;
    let wild = "*%".repeat(400);
    client.ok(&format!("LIST \"\" \"{wild}\"")).await;
    client.ok(&format!("UID FETCH {}4294967295 UID", "1:4294967295,".repeat(1000))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_a_million_parts() {
    let site = site().await;
    let mut client = site.login("mike").await;
    let head = "Subject: parts\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n";
    let message = head.to_owned() + &"--b\r\n\r\n\r\n".repeat(1_000_000);
    assert!(client.append("INBOX", "", &message).await.contains(" OK "));
    let mut deep = String::new();
    for level in 0..20_000 {
        let _ = write!(deep, "Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n");
    }
    assert!(client.append("INBOX", "", &deep).await.contains(" OK "));
    client.ok("SELECT INBOX").await;
    let answer = client.ok("FETCH 1 BODYSTRUCTURE").await;
    assert!(
        answer.matches("(\"text\"").count() + answer.matches("(\"TEXT\"").count() <= MAX_PARTS,
        "{}",
        answer.len()
    );
    assert!(answer.len() < 200 * MAX_PARTS);
    client.ok("FETCH 1:2 (BODY PREVIEW BODY.PEEK[999] BINARY.SIZE[1.1.1.1] ENVELOPE)").await;
    client.ok("SEARCH BODY nothing").await;
    let wide = format!("FETCH 1 ({})", "BODY.PEEK[1] ".repeat(900).trim_end());
    client.ok(&wide).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_commands_at_once() {
    let site = site().await;
    let mut client = site.selected("mike").await;
    let mut text = String::new();
    for n in 0..10_000 {
        let _ = write!(text, "p{n} NOOP\r\n");
    }
    let (read, mut write) = client.stream.get_mut().split();
    let mut read = BufReader::new(read);
    let sent = async { write.write_all(text.as_bytes()).await.unwrap() };
    let answers = async {
        let mut line = String::new();
        for n in 0..10_000 {
            line.clear();
            timeout(SOON, read.read_line(&mut line)).await.unwrap().unwrap();
            assert_eq!(line, format!("p{n} OK NOOP completed\r\n"));
        }
    };
    tokio::join!(sent, answers);
}

/// One who never reads: the server stops reading too, and nobody else waits.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_gets_no_more() {
    let site = site().await;
    let mut owner = site.login("mike").await;
    let body = "all of this\r\n".repeat(20_000);
    owner.append("INBOX", "", &mail("large", &body)).await;
    let mut deaf = site.selected("mike").await;
    let mut taken = 0;
    let command = "x FETCH 1 BODY.PEEK[]\r\n".repeat(1000);
    while let Ok(written) =
        timeout(Duration::from_millis(300), deaf.stream.get_mut().write(command.as_bytes())).await
    {
        taken += written.unwrap();
        assert!(taken < 64 << 20, "commands are read without end");
    }
    owner.ok("SELECT INBOX").await;
    assert!(owner.ok("FETCH 1 BODY.PEEK[]").await.len() > body.len());
}

/// One byte at a time does not keep a stranger's connection alive; and it disturbs nobody.
#[tokio::test(flavor = "multi_thread")]
async fn slow_ones_wait_alone() {
    let site = site().await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut client = site.connect().await;
        client.send("a LOGIN mi").await;
        slow.push(client);
    }
    let mut quick = site.selected("mike").await;
    quick.ok("NOOP").await;
    for client in &mut slow {
        client.send("ke secret\r\n").await;
        assert!(client.line().await.starts_with("a OK "));
    }
}
