//! Group files and `forward.ima`: a member that is added and removed leaves no trace; what is written reads back.

#![no_main]

use layout::group::Group;
use layout::text::CodePage;
use layout::user::forward::Forward;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut group = Group::parse(bytes.to_vec(), CodePage::Japanese);
    assert_eq!(group.write(), bytes);
    let before: Vec<String> = group.members().collect();
    const NEW: &str = "unlikely@member.example";
    if !group.contains(NEW) {
        group.add(NEW).unwrap();
        assert!(group.contains(NEW) && group.remove(NEW));
        assert!(group.write().starts_with(bytes));
        assert_eq!(group.members().collect::<Vec<_>>(), before);
    }
    if let Some(first) = before.first() {
        group.remove(first);
    }

    let (forward, encoding) = Forward::parse(bytes, CodePage::Japanese);
    if let Ok(written) = forward.write(encoding) {
        let (again, _) = Forward::parse(&written, CodePage::Japanese);
        assert_eq!(again.targets, forward.targets);
    }
});
