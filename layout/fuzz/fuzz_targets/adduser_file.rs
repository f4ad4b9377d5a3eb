//! Text files for `adduser -f`.

#![no_main]

use layout::text::CodePage;
use libfuzzer_sys::fuzz_target;
use tools::adduser::lines;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = lines::decode(bytes, CodePage::default()) {
        let (items, _) = lines::read_text("ID.txt", &text, None);
        assert!(items.len() <= text.lines().count() + 1);
    }
});
