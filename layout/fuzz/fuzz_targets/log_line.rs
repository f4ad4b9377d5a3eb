//! Log lines: any text is read without harm, and nothing that a client says can forge a line.

#![no_main]

use layout::logline::{Event, LINE_MAX, Line, Protocol, Tag, parse_file_name, write};
use layout::name::SpoolId;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = parse_file_name(text);
    if let Some(line) = Line::parse(text) {
        let _ = line.spool_id();
    }
    for protocol in [Protocol::Smtp, Protocol::Pop3, Protocol::Imap4] {
        let bytes =
            write(Default::default(), Tag::Smtpd, SpoolId(5), None, &Event::Command(protocol, text));
        let line = std::str::from_utf8(&bytes).unwrap().strip_suffix("\r\n").unwrap();
        assert!(line.len() <= LINE_MAX && !line.contains(char::is_control));
        assert_eq!(Line::parse(line).unwrap().spool_id(), Some(SpoolId(5)));
    }
});
