//! Foreign messages: structure, envelope, parts and search; a part never reaches out of its message, and a text that was found in a
//! part is found in the message.

#![no_main]

use imaild::message::bodystructure::{Form, body_structure};
use imaild::message::search::{Needle, body_contains, header_contains, text_contains};
use imaild::message::structure::Structure;
use imaild::message::{charset, date, envelope};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let structure = Structure::parse(bytes);
    let mut out = Vec::new();
    body_structure(&structure, Form::BodyStructure, &mut out);
    body_structure(&structure, Form::Body, &mut out);
    envelope::envelope(bytes, &mut out);
    assert!(!out.contains(&0));
    for part in structure.parts() {
        assert!(part.body.end <= bytes.len() && part.header.end <= bytes.len());
        let _ = (structure.header(part), structure.body(part));
    }
    let _ = (charset::decode_header(bytes), date::sent(bytes), date::parse_internal(bytes));
    let needle = Needle::from_text("xylophone");
    let found = header_contains(bytes, b"subject", &needle) || body_contains(bytes, &needle);
    assert!(!found || text_contains(bytes, &needle));
});
