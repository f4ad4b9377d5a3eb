//! A mailbox file: any bytes are scanned, or refused; the messages that are found lie in the file, in order, and can be served.

#![no_main]

use layout::disk::sim::SimDisk;
use layout::disk::{Disk as _, Open};
use layout::mbx::scan;
use layout::mbx::view::{Reader, serve};
use layout::path::TreePath;
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    let disk = SimDisk::new();
    let path = TreePath::operator(Path::new("/mail/main.mbx"));
    disk.seed(&path, bytes);
    let file = disk.open(&path, Open::Read).unwrap();
    let Ok(scan) = scan::whole(&*file, i64::MAX) else { return };
    let mut end = 0;
    for message in &scan.messages {
        let record = &message.record;
        assert!(record.offset.get() >= end && record.end() <= bytes.len() as u64);
        end = record.end();
        let content = &bytes[record.content() as usize..][..record.content_len() as usize];
        let served = serve(record, content.to_vec(), Reader::Imap);
        assert_eq!(served.len() as u64, record.imap_size());
        let served = serve(record, content.to_vec(), Reader::Pop3);
        assert_eq!(served.len() as u64, record.pop3_size());
    }
});
