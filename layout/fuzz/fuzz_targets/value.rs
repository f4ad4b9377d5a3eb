//! Registry values: any type and bytes have a text that gives them back; any text is harmless.

#![no_main]

use layout::registry::value::{Value, Written};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u32, Vec<u8>)| {
    let (kind, bytes) = input;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    for kind in [kind, kind % 13] {
        let value = Value { kind, bytes: bytes.clone() };
        let written = value.to_text();
        assert_eq!(Written::parse(&written).expect("our own text").to_value(), value);
    }
    if let Ok(written) = Written::parse(&text) {
        let _ = (written.as_text(), written.as_number(), written.as_list());
        let value = written.to_value();
        assert_eq!(Written::parse(&value.to_text()).expect("our own text").to_value(), value);
    }
});
