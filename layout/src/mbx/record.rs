//! What is known of one message of a mailbox: 64 bytes, as they stand in the index.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The bits of [`Record::flags`].
pub mod flag {
    /// `\Seen`, as clients see it.
    pub const SEEN: u32 = 1;
    /// `\Answered`.
    pub const ANSWERED: u32 = 1 << 1;
    /// `\Flagged`.
    pub const FLAGGED: u32 = 1 << 2;
    /// `\Deleted`.
    pub const DELETED: u32 = 1 << 3;
    /// `\Draft`.
    pub const DRAFT: u32 = 1 << 4;
    /// All flags that a client can change.
    pub const CLIENT: u32 = SEEN | ANSWERED | FLAGGED | DELETED | DRAFT;
    /// Removed for all clients; the bytes are still in the file.
    pub const EXPUNGED: u32 = 1 << 8;
    /// The letter of the `Status` line in the file says read. Differs from [`SEEN`] until the letter is written.
    pub const LETTER_READ: u32 = 1 << 9;
    /// There is a `Status` line with a letter that can be replaced.
    pub const HAS_LETTER: u32 = 1 << 10;
    /// The `X-UIDL` line is the UID in plain decimal.
    pub const UIDL_IS_UID: u32 = 1 << 11;
    /// There is an `X-UIDL` line with another text.
    pub const UIDL_TEXT: u32 = 1 << 12;
    /// The `Status` line ends in a bare line feed.
    pub const STATUS_BARE: u32 = 1 << 13;
    /// When a client stored the message here, see [`super::Record::saved`].
    pub const SAVED: u32 = !0 << 14;
}

/// The moment from which [`flag::SAVED`] counts: 2020, in Unix seconds.
const SAVED_FROM: u32 = 1_577_836_800;
/// Its unit, in seconds: 18 bits of two hours last until 2079.
const SAVED_UNIT: u32 = 7200;

/// One message. All numbers are little-endian; offsets count from the file's begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Record {
    /// IMAP UID.
    pub uid: U32,
    /// Bits of [`flag`].
    pub flags: U32,
    /// Where the separator line begins.
    pub offset: U64,
    /// Bytes from there to the next separator or the end.
    pub stored: U32,
    /// Bytes of the header with its empty line, behind the separator line.
    pub header: U32,
    /// Line feeds without a carriage return in what IMAP serves: each grows by one byte on the wire.
    pub bare_lf: U32,
    /// `>` that we put in front of lines and that serving takes off again.
    pub escapes: U32,
    /// INTERNALDATE, Unix seconds (to 2106).
    pub date: U32,
    /// When the flags changed last (RFC 7162).
    pub modseq: U64,
    /// Hash of the header's begin without `Status` and `X-Status` lines.
    pub fingerprint: U64,
    /// Keywords, one bit each, by the index's table.
    pub keywords: U32,
    /// Where the `Status` line begins, counted from the header's begin; 0 and no length if there is none.
    pub status_at: U32,
    /// Bytes of the separator line with its line end.
    pub separator: U16,
    /// Bytes at the end that are no part of the message: the empty line before the next separator.
    pub trim: u8,
    /// Bytes of the `Status` line with its line end.
    pub status: u8,
}

const _: () = assert!(size_of::<Record>() == 64);

impl Record {
    /// Is this bit set?
    pub fn has(&self, bit: u32) -> bool {
        self.flags.get() & bit != 0
    }

    /// Sets or clears bits.
    pub fn set(&mut self, bits: u32, on: bool) {
        let flags = self.flags.get();
        self.flags = U32::new(if on { flags | bits } else { flags & !bits });
    }

    /// Does the letter of the `Status` line say something else than the flag? Then it waits to be written.
    pub fn letter_is_due(&self) -> bool {
        self.has(flag::HAS_LETTER)
            && self.has(flag::SEEN) != self.has(flag::LETTER_READ)
            && !self.has(flag::EXPUNGED)
    }

    /// When the message was stored here, Unix seconds (RFC 8514). Of a delivered one that is its date. Of one that a client stored, whose
    /// date may be older, it is known to two hours.
    pub fn saved(&self) -> u32 {
        let units = self.flags.get() >> flag::SAVED.trailing_zeros();
        let date = self.date.get();
        if units == 0 { date } else { date.max(SAVED_FROM + units * SAVED_UNIT) }
    }

    /// Notes that a client stored the message now.
    pub fn set_saved(&mut self, now: u32) {
        let units =
            (now.saturating_sub(SAVED_FROM) / SAVED_UNIT).min(flag::SAVED >> flag::SAVED.trailing_zeros());
        self.set(flag::SAVED, false);
        self.set(units << flag::SAVED.trailing_zeros(), true);
    }

    /// Where the message ends in the file.
    pub fn end(&self) -> u64 {
        self.offset.get() + u64::from(self.stored.get())
    }

    /// Where the header begins in the file.
    pub fn content(&self) -> u64 {
        self.offset.get() + u64::from(self.separator.get())
    }

    /// Stored bytes of the message itself: header and body, without separator line and trailing empty line.
    pub fn content_len(&self) -> u64 {
        u64::from(self.stored.get()).saturating_sub(u64::from(self.separator.get()) + u64::from(self.trim))
    }

    /// RFC822.SIZE: what IMAP serves, with CRLF line ends and without the `Status` line.
    pub fn imap_size(&self) -> u64 {
        (self.content_len() + u64::from(self.bare_lf.get()))
            .saturating_sub(u64::from(self.status) + u64::from(self.escapes.get()))
    }
}
