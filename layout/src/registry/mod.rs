//! The registry of an IMail server, kept as the text file `registry.ini`.
//!
//! * [`doc`]: the file itself, byte for byte, with edits as splices
//! * [`value`]: registry values and their readable text form
//! * [`regfile`]: import from and export to the `.reg` files of Windows
//! * [`model`]: the typed snapshot that server and tools read
//! * [`alias`]: what kind of thing an alias value is
//! * [`check`]: the rules of `regcheck`
//! * [`store`]: loading and editing the file on disk, safely against other writers
//!
//! Key and value names are found without regard to case, as Windows does.

pub mod alias;
pub mod check;
pub mod doc;
pub mod model;
pub mod places;
pub mod regfile;
pub mod store;
pub mod value;

use std::borrow::Cow;

/// Largest `registry.ini` or `.reg` file that is read, in bytes: ten times what 100,000 users need.
pub const MAX_FILE_BYTES: u64 = 512 * 1024 * 1024;

/// Between the parts of a key's path.
pub const SEPARATOR: char = '\\';

/// `name` as it is compared: in lower case, character by character.
pub fn fold(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii()) {
        Cow::Owned(name.to_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// Do two names mean the same key or value?
pub fn same_name(left: &str, right: &str) -> bool {
    left.eq_ignore_ascii_case(right)
        || (!(left.is_ascii() && right.is_ascii()) && left.to_lowercase() == right.to_lowercase())
}
