//! Every numeric bound of the formats, in one place.

/// The largest message, in bytes: where IMail says "unlimited" (manual 4-2), for SMTP and APPEND alike.
pub const MESSAGE_MAX: u64 = 1 << 30;
/// How much of a header is read to find its fields; what stands further down is body to us.
pub const HEADER_MAX: usize = 1 << 20;
/// The longest separator line that is looked at.
pub const SEPARATOR_MAX: usize = 1024;
/// The most messages of one mailbox.
pub const MESSAGES_MAX: usize = 20_000_000;
/// The size that a mailbox file must not pass while the tree may go back to IMail: 2^31 - 1 bytes.
pub const RETURNABLE_MAILBOX_MAX: u64 = (1 << 31) - 1;
/// The most keywords of one mailbox: one bit each in the index.
pub const KEYWORDS_MAX: usize = 32;
/// The longest keyword.
pub const KEYWORD_LENGTH_MAX: usize = 64;
/// The largest index, in bytes, that is opened.
pub const INDEX_MAX: u64 = 4 << 30;
/// The largest journal that is read; a checkpoint comes long before.
pub const JOURNAL_MAX: u64 = 256 << 20;
/// The largest group alias, `.ima` or similar settings file.
pub const SETTINGS_FILE_MAX: u64 = 16 << 20;
