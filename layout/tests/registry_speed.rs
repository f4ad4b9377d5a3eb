//! How fast a large registry is read and changed. Run with
//! `cargo test --release -p layout --test registry_speed -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use layout::registry::doc::{Doc, END_LINE};
use layout::registry::model::{Registry, user_path};
use std::fmt::Write;
use std::time::Instant;

const USERS: usize = 100_000;

/// A registry of about 40 MB: users as IMail keeps them, with some of the values that web mail adds.
fn large() -> String {
    let mut text = String::from("[Global]\r\nHostName=example.com\r\nReturnToIMail=dword:00000001\r\n\r\n");
    text.push_str("[Domains\\192.0.2.1]\r\nOfficial=example.com\r\nAliases=multi(1):\r\n\r\n");
    text.push_str("[Domains\\example.com]\r\nAddress=192.0.2.1\r\n\r\n");
    for number in 0..USERS {
        let _ = write!(
            text,
            "[Domains\\example.com\\Users\\user{number}]\r\nMailAddr=user{number}@example.com\r\nFullName=utf16:山田 太郎 {number}\r\n\
             Password=DFD8CED0E0DFD8CED0E0\r\nFlags=dword:00000080\r\nMaxSize=dword:00000000\r\nMaxMsgs=dword:00000000\r\n\
             TimeZone=Tokyo Standard Time\r\nDefView=week\r\nWebPreferences=hex:00,01,02,03,04,05,06,07,08,09,0a,0b,0c,0d,0e,0f\r\n\
             Signature=multi:Best regards|User {number}|Example Company\r\nLastNotify=dword:00000000\r\nNumNotify=dword:00000000\r\n\r\n"
        );
    }
    text.push_str(END_LINE);
    text.push_str("\r\n");
    text
}

#[test]
#[ignore = "measures; run it in a release build"]
fn a_hundred_thousand_users() {
    let bytes = large().into_bytes();
    println!("{} MB", bytes.len() / 1_000_000);
    let start = Instant::now();
    let (mut doc, complaints) = Doc::parse(bytes);
    let parsed = start.elapsed();
    let registry = Registry::from_doc(&doc);
    println!("parse {parsed:?}, parse and model {:?}", start.elapsed());
    assert!(complaints.is_empty());
    assert_eq!(registry.user_count(), USERS);

    let start = Instant::now();
    for number in 0..10_000 {
        let path = user_path("example.com", &format!("new{number}"));
        doc.set_text(&path, "MailAddr", "new@example.com");
        doc.set_text(&path, "FullName", "New User");
        doc.set_number(&path, "Flags", 0x80);
    }
    println!("10,000 users added in {:?}", start.elapsed());
    let start = Instant::now();
    for number in 0..10_000 {
        assert!(doc.remove_section(&user_path("example.com", &format!("USER{}", number * 7))));
    }
    println!("10,000 users removed in {:?}", start.elapsed());
    let start = Instant::now();
    for number in 0..10_000 {
        doc.set_text("Domains\\example.com\\Users\\_aliases", &format!("alias{number}"), "root");
    }
    println!("10,000 aliases added in {:?}", start.elapsed());
    let start = Instant::now();
    let bytes = doc.render();
    println!("rendered in {:?}", start.elapsed());
    let registry = Registry::from_doc(&Doc::parse(bytes).0);
    assert_eq!(registry.user_count(), USERS);
    assert_eq!(registry.domains[0].aliases.len(), 10_000);
}
