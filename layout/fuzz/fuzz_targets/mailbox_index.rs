//! The index of a mailbox: journal frames read back as they are written, and any bytes are harmless as a journal, snapshot or identity.

#![no_main]

use layout::disk::Private;
use layout::index::identity::Identity;
use layout::index::{journal, snapshot};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (entries, length) = journal::read(bytes);
    let again: Vec<u8> = entries.iter().flat_map(journal::frame).collect();
    assert_eq!(again, bytes[..length]);
    let _ = journal::generation(bytes);

    let _ = snapshot::verify(bytes);
    if let Some((meta, records)) = snapshot::open(Private::Owned(bytes.to_vec())) {
        let _ = (records.find(7), records.lower_bound(7));
        let written = snapshot::write(&meta, &records);
        let (again, _) = snapshot::open(Private::Owned(written)).unwrap();
        assert_eq!(again, meta);
    }

    if let Some(identity) = Identity::parse(bytes) {
        assert_eq!(Identity::parse(identity.write().as_bytes()), Some(identity));
    }
});
