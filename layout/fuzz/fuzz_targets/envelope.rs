//! The Q file: what is read is written, edits touch what they name; and names of spool files.

#![no_main]

use layout::spool::id::{Found, recognize};
use layout::spool::qfile::{Envelope, Recipient};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut envelope = Envelope::parse(bytes);
    assert_eq!(envelope.write(), bytes);
    let _ = (envelope.sender(), envelope.list_owner(), envelope.is_plausible());
    let before = envelope.recipients();
    envelope.retain_recipients(|_, _| true);
    assert_eq!(envelope.write(), bytes);
    envelope.set_tries(4);
    envelope.add_recipient(&Recipient::new("a@example.com"));
    let mut envelope = Envelope::parse(&envelope.write());
    assert_eq!(envelope.tries(), Some(4));
    assert_eq!(envelope.recipients().len(), before.len() + 1);
    envelope.retain_recipients(|index, _| index % 2 == 0);
    assert_eq!(envelope.recipients().len(), before.len() / 2 + 1);
    envelope.retain_recipients(|_, _| false);
    assert!(Envelope::parse(&envelope.write()).is_finished());

    let Ok(name) = std::str::from_utf8(bytes) else { return };
    if let Some(Found::Item(role, item)) = recognize(name) {
        assert!(item.file(role).eq_ignore_ascii_case(name) && !name.contains(['/', '\0']));
    }
});
