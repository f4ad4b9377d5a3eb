//! The Q file: a waiting message's envelope.
//!
//! One record a line, the first character is its type, the value follows directly (Ipswitch KB, "format of the Q file").
//! Administrators edit these files and other programs write them, so whatever is not understood stays where it is:
//! [`Envelope`] holds the lines as they are and is edited line by line.
//!
//! Six letters are ours: IMail has none for what RFC 3461 and RFC 6531 let a client say, and for how far a list's post is. They are lower-case letters whose capitals mean nothing to IMail, in
//! case an old version does not tell one from the other, and they stand only in the files of messages for which a client said such a thing.
//!
//! The order of the optional letters is known only in part (`Q`, `H`, `S`, `R` in every example, `N` before its `R`); the rest
//! of [`Fields`]' order was chosen.
//!
//! # Failure
//! Reading never fails. What stands in a file of another kind is shown by [`Envelope::is_plausible`].
//!
//! # Limits
//! [`ENVELOPE_MAX`] bytes, to be kept by whoever reads the file.

use super::dsn::{Dsn, MessageDsn, Notify, Return};
use crate::text::{self, LineEnd};

/// The largest Q file that is read: about 200,000 recipients.
pub const ENVELOPE_MAX: u64 = 16 << 20;

/// The types of records, by their letters (Ipswitch KB; `a` since 10.01; the last six are ours).
pub mod letter {
    /// Full path of the D file.
    pub const DATA: u8 = b'Q';
    /// The host of this server that the message belongs to.
    pub const HOST: u8 = b'H';
    /// ENVID of the DSN extension (RFC 3461 §4.4).
    pub const ENVID: u8 = b'E';
    /// Message id number to put into the header.
    pub const MESSAGE_ID: u8 = b'I';
    /// Authenticated user (7.14 and later); spam checks are skipped.
    pub const AUTH_USER: u8 = b'A';
    /// The client's IP address.
    pub const CLIENT_IP: u8 = b'B';
    /// The name given in HELO or EHLO.
    pub const HELO: u8 = b'U';
    /// Envelope sender.
    pub const SENDER: u8 = b'S';
    /// List owner, when the sender is a mailing list.
    pub const LIST_OWNER: u8 = b'L';
    /// 1: scanned for viruses.
    pub const VIRUS_SCANNED: u8 = b'V';
    /// 1: scanned for spam, do not scan again.
    pub const SPAM_SCANNED: u8 = b'X';
    /// 1: attachments were scanned.
    pub const ATTACHMENTS_SCANNED: u8 = b'Y';
    /// 1: marked for deletion by the spam filter.
    pub const DELETE: u8 = b'D';
    /// `n` no archiving, `r` archiving required.
    pub const ARCHIVING: u8 = b'a';
    /// Delivery attempts so far.
    pub const TRIES: u8 = b'T';
    /// How often the file was renamed because of an error.
    pub const RENAMED: u8 = b'O';
    /// What the client said in RCPT; belongs to the recipient after it.
    pub const ORIGINAL: u8 = b'N';
    /// Recipient.
    pub const RECIPIENT: u8 = b'R';
    /// Recipient that a rule made: rules are not applied to it again.
    pub const RULED_RECIPIENT: u8 = b'Z';
    /// Ours: 1, the client said SMTPUTF8 (RFC 6531 §3.4).
    pub const UTF8: u8 = b'c';
    /// Ours: how much of the message comes back, `FULL` or `HDRS` (RFC 3461 §4.3).
    pub const RETURN: u8 = b'p';
    /// Ours: NOTIFY (RFC 3461 §4.1); belongs to the recipient after it.
    pub const NOTIFY: u8 = b'k';
    /// Ours: ORCPT (RFC 3461 §4.2); belongs to the recipient after it.
    pub const ORCPT: u8 = b'g';
    /// Ours: 1, the sender was told that the message for the recipient after it waits.
    pub const DELAY_TOLD: u8 = b'j';
    /// Ours: how many items were laid out for which list that the recipient after it stands for. `W` is a letter that IMail ignores.
    pub const LAID_OUT: u8 = b'w';
}

/// Records that belong to the recipient after them.
const OF_RECIPIENT: [u8; 5] =
    [letter::ORIGINAL, letter::NOTIFY, letter::ORCPT, letter::DELAY_TOLD, letter::LAID_OUT];

/// A recipient of an envelope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipient {
    /// The address that is to get the message.
    pub address: String,
    /// The address that the client gave in RCPT, if the file says so.
    pub original: Option<String>,
    /// Made by a rule: rules are not applied again.
    pub ruled: bool,
    /// Of what the sender wants to be told.
    pub dsn: Dsn,
}

impl Recipient {
    /// A recipient as a client named it.
    pub fn new(address: &str) -> Recipient {
        let original = Some(address.to_owned());
        Recipient { address: address.to_owned(), original, ..Recipient::default() }
    }
}

/// What a new envelope says. Empty texts, zeros and `None` are left out of the file.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// Full path of the D file in the spelling of the registry, e.g. `C:\IMail\spool\D....SMD`.
    pub data: String,
    /// The host of this server that the message belongs to.
    pub host: String,
    /// What the sender wants to be told of the message as a whole.
    pub dsn: MessageDsn,
    /// Did the client say SMTPUTF8?
    pub utf8: bool,
    /// The user who sent the message after logging in.
    pub auth_user: String,
    /// The client's IP address.
    pub client_ip: String,
    /// The name given in HELO or EHLO.
    pub helo: String,
    /// Envelope sender; empty for a bounce.
    pub sender: String,
    /// List owner, when the sender is a mailing list.
    pub list_owner: String,
    /// Were viruses looked for?
    pub virus_scanned: Option<bool>,
    /// Was spam looked for?
    pub spam_scanned: Option<bool>,
    /// Were attachments looked at?
    pub attachments_scanned: Option<bool>,
    /// The recipients.
    pub recipients: Vec<Recipient>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    /// The record without its line end.
    record: Vec<u8>,
    end: LineEnd,
}

impl Line {
    fn new(letter: u8, value: &str) -> Line {
        let mut record = vec![letter];
        // A control character in an address would begin a record of its own.
        record.extend(value.bytes().filter(|byte| !byte.is_ascii_control()));
        Line { record, end: LineEnd::CrLf }
    }

    fn letter(&self) -> u8 {
        self.record.first().copied().unwrap_or(0)
    }

    fn value(&self) -> &[u8] {
        let value = self.record.get(1..).unwrap_or_default();
        let end = value.iter().rposition(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | 0));
        value.get(..end.map_or(0, |last| last + 1)).unwrap_or_default()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(self.value()).into_owned()
    }

    fn is_recipient(&self) -> bool {
        matches!(self.letter(), letter::RECIPIENT | letter::RULED_RECIPIENT)
    }
}

/// An envelope, line by line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    lines: Vec<Line>,
}

impl Envelope {
    /// Reads a file.
    pub fn parse(bytes: &[u8]) -> Envelope {
        let lines = text::lines(bytes).map(|(record, end)| Line { record: record.to_vec(), end });
        Envelope { lines: lines.collect() }
    }

    /// A new envelope.
    pub fn new(fields: &Fields) -> Envelope {
        let flag = |set: Option<bool>| match set {
            Some(true) => "1".to_owned(),
            Some(false) => "0".to_owned(),
            None => String::new(),
        };
        let table = [
            (letter::DATA, fields.data.clone()),
            (letter::HOST, fields.host.clone()),
            (letter::ENVID, fields.dsn.envid.clone()),
            (letter::RETURN, fields.dsn.ret.map_or_else(String::new, |ret| ret.text().to_owned())),
            (letter::UTF8, flag(fields.utf8.then_some(true))),
            (letter::AUTH_USER, fields.auth_user.clone()),
            (letter::CLIENT_IP, fields.client_ip.clone()),
            (letter::HELO, fields.helo.clone()),
            // Never left out: `S<>` is what a bounce has.
            (letter::SENDER, format!("<{}>", fields.sender)),
            (letter::LIST_OWNER, fields.list_owner.clone()),
            (letter::VIRUS_SCANNED, flag(fields.virus_scanned)),
            (letter::SPAM_SCANNED, flag(fields.spam_scanned)),
            (letter::ATTACHMENTS_SCANNED, flag(fields.attachments_scanned)),
        ];
        let present = table.iter().filter(|(_, value)| !value.is_empty());
        let mut envelope =
            Envelope { lines: present.map(|(letter, value)| Line::new(*letter, value)).collect() };
        fields.recipients.iter().for_each(|recipient| envelope.add_recipient(recipient));
        envelope
    }

    /// The file's bytes: those that were read, but for the lines that were edited.
    pub fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for line in &self.lines {
            bytes.extend_from_slice(&line.record);
            bytes.extend_from_slice(line.end.bytes());
        }
        bytes
    }

    /// Is this an envelope at all, and no file of another kind or one that is only half there?
    pub fn is_plausible(&self) -> bool {
        self.first(letter::DATA).is_some() && self.first(letter::SENDER).is_some()
    }

    /// The value of the first record of a type, blanks and NULs behind it left off.
    pub fn first(&self, letter: u8) -> Option<String> {
        self.lines.iter().find(|line| line.letter() == letter).map(Line::text)
    }

    /// The last part of the D file's path; the rest of the path is that of the machine which wrote it.
    pub fn data_file(&self) -> Option<String> {
        let path = self.first(letter::DATA)?;
        path.rsplit(['\\', '/']).next().filter(|name| !name.is_empty()).map(str::to_owned)
    }

    /// The host of this server that the message belongs to.
    pub fn host(&self) -> Option<String> {
        self.first(letter::HOST)
    }

    /// The envelope sender; empty for bounces and where the file names none.
    pub fn sender(&self) -> String {
        self.first(letter::SENDER).map(|value| address(&value).to_owned()).unwrap_or_default()
    }

    /// The user who sent the message after logging in.
    pub fn auth_user(&self) -> Option<String> {
        self.first(letter::AUTH_USER)
    }

    /// The client's IP address.
    pub fn client_ip(&self) -> Option<String> {
        self.first(letter::CLIENT_IP)
    }

    /// The name given in HELO or EHLO.
    pub fn helo(&self) -> Option<String> {
        self.first(letter::HELO)
    }

    /// The list's owner, if the sender is a mailing list.
    pub fn list_owner(&self) -> Option<String> {
        self.first(letter::LIST_OWNER).map(|value| address(&value).to_owned())
    }

    /// What the sender wants to be told of the message as a whole.
    pub fn dsn(&self) -> MessageDsn {
        let ret = self.first(letter::RETURN).and_then(|value| Return::parse(&value));
        MessageDsn { envid: self.first(letter::ENVID).unwrap_or_default(), ret }
    }

    /// Did the client say SMTPUTF8?
    pub fn is_utf8(&self) -> bool {
        self.is_set(letter::UTF8)
    }

    /// Is a record of this type there with the value 1?
    pub fn is_set(&self, letter: u8) -> bool {
        self.first(letter).is_some_and(|value| value.trim() == "1")
    }

    /// Delivery attempts so far, `None` before the first.
    pub fn tries(&self) -> Option<u32> {
        self.first(letter::TRIES)?.trim().parse().ok()
    }

    /// Sets the number of attempts: the record that is there, else a new one where it belongs.
    pub fn set_tries(&mut self, tries: u32) {
        let mut line = Line::new(letter::TRIES, &tries.to_string());
        if let Some(old) = self.lines.iter_mut().find(|line| line.letter() == letter::TRIES) {
            line.end = old.end;
            *old = line;
            return;
        }
        let later = |line: &Line| {
            line.letter() == letter::RENAMED || OF_RECIPIENT.contains(&line.letter()) || line.is_recipient()
        };
        let at = self.lines.iter().position(later);
        self.insert(at.unwrap_or(self.lines.len()), line);
    }

    /// The recipients in their order.
    pub fn recipients(&self) -> Vec<Recipient> {
        let (mut all, mut next) = (Vec::new(), Recipient::default());
        for line in &self.lines {
            match line.letter() {
                letter::ORIGINAL => next.original = Some(original_address(&line.text())),
                letter::NOTIFY => next.dsn.notify = Notify::parse(&line.text()),
                letter::ORCPT => next.dsn.original = Some(line.text()),
                letter::DELAY_TOLD => next.dsn.delay_told = line.value() == b"1",
                letter::RECIPIENT | letter::RULED_RECIPIENT => {
                    next.address = address(&line.text()).to_owned();
                    next.ruled = line.letter() == letter::RULED_RECIPIENT;
                    all.push(std::mem::take(&mut next));
                }
                _ => {}
            }
        }
        all
    }

    /// Is nobody left to deliver to?
    pub fn is_finished(&self) -> bool {
        !self.lines.iter().any(Line::is_recipient)
    }

    /// Adds a recipient at the end.
    pub fn add_recipient(&mut self, recipient: &Recipient) {
        let Dsn { notify, original, delay_told } = &recipient.dsn;
        let letter = if recipient.ruled { letter::RULED_RECIPIENT } else { letter::RECIPIENT };
        let records = [
            (letter::NOTIFY, notify.map(|notify| notify.to_string())),
            (letter::ORCPT, original.clone()),
            (letter::DELAY_TOLD, delay_told.then(|| "1".to_owned())),
            (letter::ORIGINAL, recipient.original.as_ref().map(|original| format!("<{original}>"))),
            (letter, Some(format!("<{}>", recipient.address))),
        ];
        for (letter, value) in records {
            if let Some(value) = value {
                self.insert(self.lines.len(), Line::new(letter, &value));
            }
        }
    }

    /// Notes for the recipients that `told` picks, by their index in [`Envelope::recipients`], that the sender knows of the delay.
    pub fn set_delay_told(&mut self, mut told: impl FnMut(usize, &Recipient) -> bool) {
        let all = self.recipients();
        let mut index = 0;
        for line in std::mem::take(&mut self.lines) {
            if line.is_recipient() {
                let picked = all.get(index).is_some_and(|one| !one.dsn.delay_told && told(index, one));
                if picked {
                    // The last line of a file may have no end.
                    let end = if line.end == LineEnd::None { LineEnd::CrLf } else { line.end };
                    self.lines.push(Line { end, ..Line::new(letter::DELAY_TOLD, "1") });
                }
                index += 1;
            }
            self.lines.push(line);
        }
    }

    /// How many items were laid out for a list that a recipient stands for; `None` before that.
    pub fn laid_out(&self, list: &str) -> Option<u32> {
        let records = self.lines.iter().filter(|line| line.letter() == letter::LAID_OUT).map(Line::text);
        let mut counts = records.filter_map(|record| {
            let (count, of) = record.split_once(' ')?;
            of.eq_ignore_ascii_case(list).then(|| count.parse().ok()).flatten()
        });
        counts.next()
    }

    /// Notes that so many items were laid out for a list that this recipient stands for.
    pub fn set_laid_out(&mut self, recipient: &str, list: &str, count: u32) {
        let at = self.lines.iter().position(|line| line.is_recipient() && address(&line.text()) == recipient);
        if let Some(at) = at {
            let end = self.lines.first().map_or(LineEnd::CrLf, |line| line.end);
            let end = if end == LineEnd::None { LineEnd::CrLf } else { end };
            self.lines.insert(at, Line { end, ..Line::new(letter::LAID_OUT, &format!("{count} {list}")) });
        }
    }

    /// Keeps only the recipients that `keep` wants, by their index in [`Envelope::recipients`]; what a client said of one goes with it.
    pub fn retain_recipients(&mut self, mut keep: impl FnMut(usize, &Recipient) -> bool) {
        let all = self.recipients();
        let mut index = 0;
        let mut kept: Vec<Line> = Vec::with_capacity(self.lines.len());
        // Where in `kept` the records stand that belong to the next recipient.
        let mut its_own = Vec::new();
        for line in self.lines.drain(..) {
            if OF_RECIPIENT.contains(&line.letter()) {
                its_own.push(kept.len());
            }
            if line.is_recipient() {
                let wanted = all.get(index).is_none_or(|recipient| keep(index, recipient));
                index += 1;
                let its_own = std::mem::take(&mut its_own);
                if !wanted {
                    its_own.into_iter().rev().for_each(|at| drop(kept.remove(at)));
                    continue;
                }
            }
            kept.push(line);
        }
        self.lines = kept;
    }

    fn insert(&mut self, at: usize, line: Line) {
        if at > 0
            && let Some(before) = self.lines.get_mut(at - 1)
            && before.end == LineEnd::None
        {
            before.end = LineEnd::CrLf;
        }
        self.lines.insert(at.min(self.lines.len()), line);
    }
}

/// The address in `<a>` or `a`: both forms are in circulation. A `>` within quotes is part of the address.
fn address(value: &str) -> &str {
    let value = value.trim();
    let Some(inner) = value.strip_prefix('<') else { return value };
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in inner.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            '>' if !quoted => return inner.get(..at).unwrap_or(inner),
            _ => {}
        }
    }
    inner.trim_end_matches('>')
}

/// The address of an N record, which holds the address or the client's whole `RCPT TO:<a> PARAMETERS`.
fn original_address(value: &str) -> String {
    const COMMAND: &str = "RCPT TO:";
    let value = value.trim();
    let rest = match value.get(..COMMAND.len()) {
        Some(command) if command.eq_ignore_ascii_case(COMMAND) => value.get(COMMAND.len()..).unwrap_or(""),
        _ => return address(value).to_owned(),
    };
    let rest = rest.trim();
    if rest.starts_with('<') { address(rest) } else { rest.split_whitespace().next().unwrap_or("") }
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VENDOR: &[u8] = b"QC:\\IMail\\spool\\D0b63aa8048c.GSC\r\nHmail.example.com\r\nS<user@mail.example.com>\r\nR<user@example.net>\r\nR<other@example.org>\r\n";

    fn addresses(envelope: &Envelope) -> Vec<String> {
        envelope.recipients().into_iter().map(|recipient| recipient.address).collect()
    }

    #[test]
    fn what_was_laid_out_goes_with_its_recipient() {
        let mut envelope = Envelope::parse(b"Qx\r\nS<a@b>\r\nN<x@y>\r\nR<x@y>\r\nR<all@y>");
        envelope.set_laid_out("all@y", "news@y", 50);
        envelope.set_laid_out("all@y", "beer@y", 1);
        let again = Envelope::parse(&envelope.write());
        assert_eq!(
            (again.laid_out("NEWS@y"), again.laid_out("beer@y"), again.laid_out("x@y")),
            (Some(50), Some(1), None)
        );
        assert_eq!(again.recipients().len(), 2);
        envelope.retain_recipients(|_, one| one.address == "x@y");
        assert_eq!(envelope.write(), b"Qx\r\nS<a@b>\r\nN<x@y>\r\nR<x@y>\r\n");
    }

    #[test]
    fn the_vendors_example() {
        let envelope = Envelope::parse(VENDOR);
        assert!(envelope.is_plausible() && !envelope.is_finished());
        assert_eq!(envelope.data_file().as_deref(), Some("D0b63aa8048c.GSC"));
        assert_eq!(envelope.host().as_deref(), Some("mail.example.com"));
        assert_eq!(envelope.sender(), "user@mail.example.com");
        assert_eq!(envelope.tries(), None);
        assert_eq!(addresses(&envelope), ["user@example.net", "other@example.org"]);
    }

    #[test]
    fn a_new_envelope_has_its_records_in_order() {
        let mut envelope = Envelope::new(&Fields {
            data: r"C:\IMail\spool\Df593012a00000001.SMD".into(),
            host: "example.com".into(),
            dsn: MessageDsn { envid: "e1".into(), ret: Some(Return::Headers) },
            utf8: true,
            auth_user: "mike@example.com".into(),
            client_ip: "192.0.2.1".into(),
            helo: "pc.example\r\nR<evil@example.net>".into(),
            sender: "mike@example.com".into(),
            list_owner: "owner@example.com".into(),
            virus_scanned: Some(true),
            spam_scanned: Some(false),
            attachments_scanned: None,
            recipients: vec![
                Recipient::new("a@example.net"),
                Recipient { address: "b@example.net".into(), ruled: true, ..Recipient::default() },
            ],
        });
        envelope.set_tries(3);
        let expected = "QC:\\IMail\\spool\\Df593012a00000001.SMD\r\nHexample.com\r\nEe1\r\npHDRS\r\nc1\r\nAmike@example.com\r\nB192.0.2.1\r\nUpc.exampleR<evil@example.net>\r\nS<mike@example.com>\r\nLowner@example.com\r\nV1\r\nX0\r\nT3\r\nN<a@example.net>\r\nR<a@example.net>\r\nZ<b@example.net>\r\n";
        assert_eq!(String::from_utf8(envelope.write()).unwrap(), expected);
        assert!(envelope.is_set(letter::VIRUS_SCANNED) && !envelope.is_set(letter::SPAM_SCANNED));
        let bounce = Envelope::new(&Fields { data: "D1.GSE".into(), ..Fields::default() });
        assert_eq!(bounce.write(), b"QD1.GSE\r\nS<>\r\n");
        assert_eq!(bounce.sender(), "");
    }

    #[test]
    fn forms_of_addresses() {
        for (line, expected) in [
            ("R<a@b>", "a@b"),
            ("Ra@b", "a@b"),
            ("R a@b \0", "a@b"),
            ("Z<a@b", "a@b"),
            ("R<\"x>y\"@b> NOTIFY=NEVER", "\"x>y\"@b"),
            ("R<>", ""),
        ] {
            assert_eq!(addresses(&Envelope::parse(line.as_bytes())), [expected], "{line}");
        }
        for (line, expected) in [
            ("N<a@b>", "a@b"),
            ("Na@b", "a@b"),
            ("NRCPT TO:<a@b>", "a@b"),
            ("Nrcpt to: <a@b> NOTIFY=NEVER", "a@b"),
            ("NRCPT To:a@b NOTIFY=NEVER", "a@b"),
        ] {
            let envelope = Envelope::parse(format!("{line}\nRx\n").as_bytes());
            assert_eq!(envelope.recipients()[0].original.as_deref(), Some(expected), "{line}");
        }
    }

    #[test]
    fn edits_touch_only_their_lines() {
        let text = b"QD1.SMD\nS<>\n?unknown\nT4\r\nN<1>\nR<a@b>\n?keep\n\nN<2>\nR<c@d>\r\nZ<e@f>";
        let mut envelope = Envelope::parse(text);
        envelope.set_tries(5);
        envelope.retain_recipients(|index, recipient| {
            assert_eq!(recipient.address, ["a@b", "c@d", "e@f"][index]);
            index != 1
        });
        assert_eq!(envelope.write(), b"QD1.SMD\nS<>\n?unknown\nT5\r\nN<1>\nR<a@b>\n?keep\n\nZ<e@f>");
        envelope.retain_recipients(|_, _| false);
        assert!(envelope.is_finished());
        assert_eq!(envelope.write(), b"QD1.SMD\nS<>\n?unknown\nT5\r\n?keep\n\n");
        let mut open = Envelope::parse(b"S<>");
        open.set_tries(1);
        assert_eq!(open.write(), b"S<>\r\nT1\r\n");
    }

    #[test]
    fn what_a_sender_wants_to_know_stays_with_the_recipient() {
        let wishes = |address: &str| Recipient {
            dsn: Dsn {
                notify: Notify::parse("SUCCESS,DELAY"),
                original: Some(format!("rfc822;{address}")),
                delay_told: false,
            },
            ..Recipient::new(address)
        };
        let recipients = vec![wishes("a@b"), Recipient::new("c@d"), wishes("e@f")];
        let fields = Fields { data: "D1.SMD".into(), utf8: true, recipients, ..Fields::default() };
        let mut envelope = Envelope::new(&fields);
        let text = "QD1.SMD\r\nc1\r\nS<>\r\nkSUCCESS,DELAY\r\ngrfc822;a@b\r\nN<a@b>\r\nR<a@b>\r\nN<c@d>\r\nR<c@d>\r\nkSUCCESS,DELAY\r\ngrfc822;e@f\r\nN<e@f>\r\nR<e@f>\r\n";
        assert_eq!(String::from_utf8(envelope.write()).unwrap(), text);
        assert_eq!(envelope.recipients(), fields.recipients);
        assert!(envelope.is_utf8() && envelope.dsn() == MessageDsn::default());
        envelope.set_delay_told(|_, recipient| recipient.dsn.tells_delay());
        assert_eq!(
            envelope.write(),
            text.replace("\r\nR<a", "\r\nj1\r\nR<a").replace("\r\nR<e", "\r\nj1\r\nR<e").as_bytes()
        );
        envelope.set_delay_told(|_, recipient| recipient.dsn.tells_delay());
        envelope.retain_recipients(|index, _| index != 0);
        envelope.set_tries(1);
        assert_eq!(
            envelope.write(),
            b"QD1.SMD\r\nc1\r\nS<>\r\nT1\r\nN<c@d>\r\nR<c@d>\r\nkSUCCESS,DELAY\r\ngrfc822;e@f\r\nN<e@f>\r\nj1\r\nR<e@f>\r\n"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_read_is_written(bytes in prop::collection::vec(
            prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'R'), Just(b'N'), Just(b'<'), any::<u8>()], 0..300)) {
            let mut envelope = Envelope::parse(&bytes);
            prop_assert_eq!(envelope.write(), &bytes[..]);
            envelope.retain_recipients(|_, _| true);
            prop_assert_eq!(envelope.write(), &bytes[..]);
            envelope.set_tries(7);
            prop_assert_eq!(envelope.tries(), Some(7));
            envelope.retain_recipients(|_, _| false);
            prop_assert!(Envelope::parse(&envelope.write()).is_finished());
        }

        #[test]
        fn a_new_envelope_reads_back(sender in "[a-z@.]{0,12}", all in prop::collection::vec("[a-z]{1,5}@[a-z]{1,5}", 0..5), ruled: bool) {
            let recipients: Vec<_> = all.iter().map(|a| Recipient { ruled, ..Recipient::new(a) }).collect();
            let fields = Fields { data: "D.SMD".into(), sender: sender.clone(), recipients: recipients.clone(), ..Fields::default() };
            let envelope = Envelope::parse(&Envelope::new(&fields).write());
            prop_assert_eq!(envelope.sender(), sender);
            prop_assert_eq!(envelope.recipients(), recipients);
        }
    }
}
