//! Codes with which a subscription is confirmed: nothing is stored of a question that nobody answers.
//!
//! A code is made of the list, the address and the day with a key of the list (HMAC-SHA256), so only who reads that address's mail can know it. Deleting
//! `confirm.key` makes all codes void.

use hmac::{Hmac, KeyInit as _, Mac as _};
use layout::list::{File, ListDir};
use sha2::Sha256;
use std::io;

/// On so many days after its own a code is good.
pub const GOOD_FOR_DAYS: i64 = 3;
/// Characters of a code: 80 bits.
const CODE_LENGTH: usize = 20;
/// Bytes of a key.
const KEY_LENGTH: usize = 32;

/// The list's key, made if there is none.
pub fn key(list: &ListDir) -> io::Result<Vec<u8>> {
    let key = list.read(File::ConfirmKey)?;
    if key.len() >= KEY_LENGTH {
        return Ok(key);
    }
    let mut key = [0; KEY_LENGTH];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    list.replace(File::ConfirmKey, text.as_bytes())?;
    list.root().disk().make_private(&list.file(File::ConfirmKey))?;
    Ok(text.into_bytes())
}

/// The code of an address on a day, counted from 1970.
pub fn code(key: &[u8], list: &str, address: &str, day: i64) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    mac.update(format!("{list}\n{}\n{day}", address.to_lowercase()).as_bytes());
    let code: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    code.chars().take(CODE_LENGTH).collect()
}

/// Is the code good today?
pub fn is_right(key: &[u8], list: &str, address: &str, today: i64, given: &str) -> bool {
    (today - GOOD_FOR_DAYS..=today).any(|day| {
        let right = code(key, list, address, day);
        !right.is_empty() && super::subject::same_password(&right, given)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        let right = code(b"key", "news", "A@b", 100);
        assert_eq!(right.len(), CODE_LENGTH);
        for (key, list, address, today, expected) in [
            (&b"key"[..], "news", "a@B", 100, true),
            (b"key", "news", "a@b", 103, true),
            (b"key", "news", "a@b", 104, false),
            (b"key", "news", "a@b", 99, false),
            (b"key", "other", "a@b", 100, false),
            (b"key", "news", "x@b", 100, false),
            (b"kex", "news", "a@b", 100, false),
        ] {
            assert_eq!(is_right(key, list, address, today, &right), expected, "{list} {address} {today}");
        }
    }
}
