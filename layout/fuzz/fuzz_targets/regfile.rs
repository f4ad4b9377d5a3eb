//! `.reg` files: any bytes are harmless, and what was imported goes out and comes in again as the same file.

#![no_main]

use layout::registry::doc::Doc;
use layout::registry::regfile::{ImportOptions, RegFile, export, import};
use libfuzzer_sys::fuzz_target;

const HEAD: &str = "Windows Registry Editor Version 5.00\r\n[HKLM\\SOFTWARE\\Ipswitch\\IMail\\Global]\r\n\
     [HKLM\\SOFTWARE\\Ipswitch\\IMail\\Domains]\r\n";

fuzz_target!(|bytes: &[u8]| {
    let file = |bytes: Vec<u8>| [RegFile { name: "a.reg".into(), bytes }];
    let options = ImportOptions::default();
    let _ = import(&file(bytes.to_vec()), &options);
    let Ok((doc, _)) = import(&file([HEAD.as_bytes(), bytes].concat()), &options) else { return };
    let (_, complaints) = Doc::parse(doc.render());
    assert!(complaints.is_empty(), "{complaints:?}");
    let exported = export(&doc);
    let (again, report) = import(&file(exported.clone()), &options).expect("our own export");
    assert!(report.skipped.is_empty(), "{:?}", report.skipped);
    assert!(export(&again) == exported);
});
