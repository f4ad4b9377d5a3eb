//! Text files for `adduser -f`.

#![no_main]

use layout::text::CodePage;
use libfuzzer_sys::fuzz_target;
use tools::adduser::lines::read_text;
use tools::program::lines::decode;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = decode(bytes, CodePage::default()) {
        let (items, _) = read_text("ID.txt", &text, None);
        assert!(items.len() <= text.lines().count() + 1);
    }
});
