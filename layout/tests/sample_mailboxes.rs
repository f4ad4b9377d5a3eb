//! The scanner against `fixtures/mbx/expected.txt`, which was written by the program that made the
//! files, not by a parser.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use layout::disk::sim::SimDisk;
use layout::disk::{Disk as _, Open};
use layout::mbx::header::Uidl;
use layout::mbx::record::flag;
use layout::mbx::scan;
use layout::mbx::separator::Dialect;
use layout::path::TreePath;
use std::fs;
use std::path::{Path, PathBuf};

/// Long after the files were written: nobody is still appending.
const LATER: i64 = i64::MAX / 2;

#[test]
fn every_sample_is_scanned_as_it_was_made() {
    let expected = fs::read_to_string(folder().join("expected.txt")).unwrap();
    let mut wrong = Vec::new();
    let files: Vec<_> = expected.split('\n').filter(|line| !line.starts_with(';')).collect();
    let starts = (0..files.len()).filter(|at| !files[*at].starts_with('\t') && !files[*at].is_empty());
    for start in starts {
        let head: Vec<_> = files[start].split('\t').collect();
        let rows: Vec<_> = files[start + 1..].iter().take_while(|line| line.starts_with('\t')).collect();
        let rows = rows.iter().map(|line| line[1..].to_owned()).collect();
        let (made, found) = (format!("{} {}", head[1], lines(rows)), scanned(head[0]));
        if made != found {
            wrong.push(format!("{}\n made:  {made}\n found: {found}", head[0]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The separator, header and end offsets of each message, its UIDL number and whether it is read.
fn scanned(name: &str) -> String {
    let bytes = fs::read(folder().join(name)).unwrap();
    let disk = SimDisk::new();
    let path = TreePath::operator(Path::new("/mail/sample.mbx"));
    disk.seed(&path, &bytes);
    let scan = match scan::whole(&*disk.open(&path, Open::Read).unwrap(), LATER) {
        Ok(scan) => scan,
        Err(scan::ScanError::Foreign(_)) => return "foreign ".to_owned(),
        Err(error) => return error.to_string(),
    };
    let rows = scan.messages.iter().map(|found| {
        let record = found.record;
        let uidl = match found.uidl {
            Uidl::None => "-".to_owned(),
            Uidl::Number(number) => number.to_string(),
            Uidl::Text => "text".to_owned(),
        };
        let read = if record.has(flag::SEEN) { "R" } else { "-" };
        format!("{} {} {} {uidl} {read}", record.offset, record.content(), record.end())
    });
    let dialect = if scan.dialect == Dialect::Bracket { "bracket" } else { "classic" };
    format!("{dialect} {}", rows.collect::<Vec<_>>().join("; "))
}

/// The rows of the table in the same words.
fn lines(rows: Vec<String>) -> String {
    let words = rows.iter().map(|row| {
        let fields: Vec<_> = row.split('\t').collect();
        let uidl = match fields[3].parse::<u32>() {
            Ok(number) if number <= i32::MAX as u32 => fields[3],
            _ if fields[3] == "-" => "-",
            _ => "text",
        };
        let read = if fields[4].contains('R') { "R" } else { "-" };
        format!("{} {} {} {uidl} {read}", fields[0], fields[1], fields[2])
    });
    words.collect::<Vec<_>>().join("; ")
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/mbx")
}
