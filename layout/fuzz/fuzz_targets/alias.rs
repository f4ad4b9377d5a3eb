//! Alias values and stored passwords: any text is harmless.

#![no_main]

use layout::password;
use layout::registry::alias;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = alias::classify(text);
    let (user, stored) = text.split_once('\n').unwrap_or(("mike", text));
    // The costs of Argon2 are for the hash library to bear; here only the parsing is of interest.
    if !stored.starts_with(password::ARGON2_PREFIX) {
        let _ = password::verify(user, stored, "rocks");
    }
    let _ = (password::classify(user, stored), password::recover(user, stored), password::coding_id("x", user, stored));
});
