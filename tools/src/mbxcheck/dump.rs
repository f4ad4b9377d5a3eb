//! The messages of a mailbox, one a line.

use layout::disk::{Disk, Open};
use layout::mailbox::read_header;
use layout::mbx::header::{self, Uidl};
use layout::mbx::record::flag;
use layout::mbx::scan::{self, Found};
use layout::path::TreePath;

/// How much of a subject is shown, in characters.
const SUBJECT_MAX: usize = 60;

/// The lines for a mailbox: first its name, then number, offset, bytes, flag letter, date, `X-UIDL` and subject of each message.
pub fn dump(disk: &dyn Disk, path: &TreePath) -> Result<Vec<String>, String> {
    let handle = disk.open(path, Open::Read).map_err(|error| error.to_string())?;
    let scan = scan::whole(&*handle, disk.now()).map_err(|error| error.to_string())?;
    let mut lines = vec![format!("{path}: {} messages", scan.messages.len())];
    for (number, found) in scan.messages.iter().enumerate() {
        let header = read_header(&*handle, &found.record).map_err(|error| error.to_string())?;
        lines.push(line(number + 1, found, &header));
    }
    Ok(lines)
}

fn line(number: usize, found: &Found, header: &[u8]) -> String {
    let record = &found.record;
    let letter = match (record.has(flag::HAS_LETTER), record.has(flag::LETTER_READ)) {
        (false, _) => '-',
        (true, true) => 'R',
        (true, false) => 'U',
    };
    let date = chrono::DateTime::from_timestamp(record.date.get().into(), 0).unwrap_or_default();
    let date = date.with_timezone(&chrono::Local).format("%Y-%m-%d %H:%M:%S");
    let uidl = match found.uidl {
        Uidl::Number(number) => number.to_string(),
        _ => "-".to_owned(),
    };
    let (offset, stored) = (record.offset.get(), record.stored.get());
    format!("{number} {offset} {stored} {letter} {date} {uidl} {}", subject(header))
}

/// The subject as it stands, without what could disturb a terminal.
fn subject(header: &[u8]) -> String {
    let value = header::lines(header).find_map(|(_, line)| header::field(line, "subject"));
    let text = String::from_utf8_lossy(value.unwrap_or_default());
    text.chars().filter(|c| !c.is_control()).take(SUBJECT_MAX).collect::<String>().trim().to_owned()
}
