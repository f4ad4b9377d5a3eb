//! `registry.ini`: rendering gives the input back; an edit is read back, and its removal leaves no trace.

#![no_main]

use layout::registry::doc::Doc;
use layout::registry::model::Registry;
use layout::registry::value::Value;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (mut doc, _) = Doc::parse(bytes.to_vec());
    assert_eq!(doc.render(), bytes);
    let registry = Registry::from_doc(&doc);
    let _ = registry.primary();
    let places: Vec<String> = doc.sections().take(4).map(|section| section.path().to_owned()).collect();
    for path in places.iter().map(String::as_str).chain(["Domains\\a.b\\Users\\mike"]) {
        doc.set(path, "Name", &Value::sz("text"));
        doc.set_number(path, "Number", 5);
        let (again, _) = Doc::parse(doc.render());
        assert_eq!(again.get_text(path, "name").as_deref(), Some("text"));
        assert_eq!(again.get_number(path, "number"), Some(5));
        assert_eq!(again.has_end_line(), doc.has_end_line());
        assert_eq!(again.render(), doc.render());
    }
    for path in &places {
        doc.remove_value(path, "Name");
        assert!(Doc::parse(doc.render()).0.get(path, "Name").is_none());
        doc.remove_section(path);
        assert!(!Doc::parse(doc.render()).0.has_section(path));
    }
});
