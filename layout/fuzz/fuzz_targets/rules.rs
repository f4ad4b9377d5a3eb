//! Files of delivery rules, and the patterns in them.

#![no_main]

use layout::rules::{Line, RULES_MAX, parse};
use layout::text::CodePage;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let lines = parse(bytes, CodePage::default(), &|_| Some("casino|viagra".to_owned()));
    assert!(lines.len() <= RULES_MAX + 1);
    let text = String::from_utf8_lossy(bytes);
    for line in &lines {
        if let Line::Rule(rule) = line {
            for (_, condition) in &rule.conditions {
                let _ = condition.pattern.find(&text);
            }
        }
    }
});
