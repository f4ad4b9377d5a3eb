//! Stored passwords: IMail's reversible code, and Argon2id for trees that need not go back to IMail.
//!
//! IMail's code is not protection, since whoever reads the registry reads the passwords; it is kept so that
//! nobody needs a new password after the move and the tree can go back. Nothing here panics on foreign text: a
//! stored value that is neither form is [`Stored::Unknown`], and no offer matches it.
//!
//! Limits: [`MAX_STORED_BYTES`], [`MAX_OFFER_BYTES`], and the ceilings on Argon2 costs read from a file.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use argon2::password_hash::{PasswordHasher, phc::PasswordHash};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use subtle::ConstantTimeEq;

use crate::text::{self, CodePage, TextEncoding};

/// Longest stored value that is looked at, in bytes. IMail's own are 60 digits at most.
pub const MAX_STORED_BYTES: usize = 1024;
/// Longest offered password that is looked at, in bytes.
pub const MAX_OFFER_BYTES: usize = 512;
/// What stands before the PHC string of an Argon2id password. IMail's code is hexadecimal digits only, so it can
/// never begin like this.
pub const ARGON2_PREFIX: &str = "{ARGON2ID}";
/// Memory for one Argon2id hash, in KiB (OWASP's first recommendation: 19 MiB, two passes, one lane).
const ARGON2_MEMORY_KIB: u32 = 19 * 1024;
const ARGON2_PASSES: u32 = 2;
const ARGON2_LANES: u32 = 1;
/// Costs in a stored PHC string above these are refused, so that an edited file cannot exhaust the server.
const ARGON2_MAX_MEMORY_KIB: u32 = 256 * 1024;
const ARGON2_MAX_PASSES: u32 = 16;
const ARGON2_MAX_LANES: u32 = 16;
/// Blocks of memory for Argon2id that are kept for the next login. Given back to the allocator, each would stay in the arena
/// of the thread that used it: a gigabyte after a hundred logins at once.
const KEPT_MEMORIES: usize = 8;
static MEMORIES: Mutex<Vec<Vec<Block>>> = Mutex::new(Vec::new());

/// A password in clear text: prints as nothing, and its bytes are overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes over `text`.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The password itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0).into_bytes();
        bytes.fill(0);
        std::hint::black_box(&bytes);
    }
}

/// What kind of password a user has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stored {
    /// None: nobody can log in until one is set.
    Empty,
    /// IMail's reversible code.
    Imail,
    /// `{ARGON2ID}` and a PHC string.
    Argon2,
    /// Anything else: kept, but nobody can log in with it.
    Unknown,
}

/// Why a new password is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordRule {
    /// Fewer characters than allowed.
    #[error("the password is too short: {least} to {most} characters are allowed")]
    TooShort {
        /// Fewest characters.
        least: usize,
        /// Most characters.
        most: usize,
    },
    /// More characters than allowed.
    #[error("the password is too long: {least} to {most} characters are allowed")]
    TooLong {
        /// Fewest characters.
        least: usize,
        /// Most characters.
        most: usize,
    },
    /// A character that IMail does not take.
    #[error(
        "the password holds a character that IMail does not take: letters, digits and ASCII signs are allowed, blanks and * are not"
    )]
    Character,
    /// A control character, which no login can carry.
    #[error("the password holds a control character; choose one without")]
    Control,
}

/// Why a password could not be made or stored.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The system gave no random bytes.
    #[error("the system gave no random bytes: {0}")]
    Random(getrandom::Error),
    /// Argon2 could not run.
    #[error("the password could not be hashed: {0}")]
    Hash(String),
}

/// IMail's code of `password` for `user_id`: the user ID in lower case is a running key that is added byte by
/// byte, written as upper-case hexadecimal digits (published examples for versions 5 to 11.01 agree).
/// An empty user ID has no key; the result is then empty.
pub fn imail_encode(user_id: &str, password: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(password.len() * 2);
    for (byte, key) in password.iter().zip(running_key(user_id)) {
        let code = byte.wrapping_add(key);
        for digit in [code >> 4, code & 15] {
            out.push(DIGITS.get(usize::from(digit)).map_or('0', |digit| char::from(*digit)));
        }
    }
    out
}

/// The bytes behind IMail's code; `None` if `stored` is not pairs of hexadecimal digits or `user_id` is empty.
fn imail_decode(user_id: &str, stored: &str) -> Option<Vec<u8>> {
    let digits = stored.as_bytes();
    if user_id.is_empty() || !digits.len().is_multiple_of(2) || digits.len() > MAX_STORED_BYTES {
        return None;
    }
    let pairs = digits.chunks_exact(2).zip(running_key(user_id));
    pairs.map(|(pair, key)| Some(hex_pair(pair)?.wrapping_sub(key))).collect()
}

/// Only the letters A to Z are lowered. (One published decoder shifts the digits 7 to 9 as well; all others, and
/// the examples, do not.)
fn running_key(user_id: &str) -> impl Iterator<Item = u8> {
    user_id.bytes().map(|byte| byte.to_ascii_lowercase()).cycle()
}

fn hex_pair(pair: &[u8]) -> Option<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let value = digit(pair.first()?)? * 16 + digit(pair.get(1)?)?;
    u8::try_from(value).ok()
}

/// The kind of `stored` for the user `user_id`.
///
/// IMail's code is accepted only if every byte that it decodes to is printable ASCII: that tells it from versions
/// whose code is not known (4.x, 12.5.6 and later). A password beyond ASCII therefore counts as unknown here, and
/// [`verify`] still lets its owner in.
pub fn classify(user_id: &str, stored: &str) -> Stored {
    if stored.is_empty() {
        return Stored::Empty;
    }
    if stored.starts_with(ARGON2_PREFIX) {
        return if parse_argon2(stored).is_some() { Stored::Argon2 } else { Stored::Unknown };
    }
    match imail_decode(user_id, stored).and_then(plausible) {
        Some(_) => Stored::Imail,
        None => Stored::Unknown,
    }
}

fn plausible(bytes: Vec<u8>) -> Option<Secret> {
    let printable = bytes.iter().all(|byte| (0x20..=0x7E).contains(byte));
    String::from_utf8(bytes).ok().filter(|_| printable).map(Secret)
}

/// The user ID that IMail's code of `stored` was made with: the name of the user's key, or, where that gives
/// nothing plausible, the local part of the mail address (a key may have been renamed by hand).
pub fn coding_id<'a>(user_id: &'a str, mail_addr: &'a str, stored: &str) -> &'a str {
    if classify(user_id, stored) != Stored::Unknown {
        return user_id;
    }
    let local = mail_addr.split('@').next().unwrap_or_default();
    if classify(local, stored) == Stored::Imail { local } else { user_id }
}

/// Is `offer` the password? The time taken does not depend on where the texts differ.
///
/// For IMail's code the offer is encoded and compared: first as code page 932, then as UTF-8. An offer beyond ASCII
/// is also compared with code that is not plausible, since that is how such a password looks; whoever knows it byte
/// for byte has shown that the code is IMail's.
pub fn verify(user_id: &str, stored: &str, offer: &str) -> bool {
    if offer.is_empty() || offer.len() > MAX_OFFER_BYTES {
        return false;
    }
    match classify(user_id, stored) {
        Stored::Empty => false,
        Stored::Unknown if offer.is_ascii() => false,
        Stored::Imail | Stored::Unknown => {
            let stored = stored.to_ascii_uppercase();
            let matches = |bytes: &[u8]| imail_encode(user_id, bytes).as_bytes().ct_eq(stored.as_bytes());
            (matches(&imail_bytes(offer)) | matches(offer.as_bytes())).into()
        }
        Stored::Argon2 => parse_argon2(stored).is_some_and(|hash| verify_argon2(&hash, offer)),
    }
}

fn verify_argon2(hash: &PasswordHash, offer: &str) -> bool {
    let (Some(salt), Some(expected), Ok(params)) = (&hash.salt, &hash.hash, Params::try_from(hash)) else {
        return false;
    };
    let Ok(version) = hash.version.map_or(Ok(Version::V0x13), Version::try_from) else { return false };
    let mut memory = memories().pop().unwrap_or_default();
    memory.resize(params.block_count(), Block::default());
    let argon2 = Argon2::new(Algorithm::Argon2id, version, params);
    let mut found = vec![0; expected.as_bytes().len()];
    let hashed = argon2.hash_password_into_with_memory(offer.as_bytes(), salt, &mut found, &mut memory);
    let mut kept = memories();
    if kept.len() < KEPT_MEMORIES && memory.len() <= ARGON2_MEMORY_KIB as usize {
        kept.push(memory);
    }
    hashed.is_ok() && bool::from(found.ct_eq(expected.as_bytes()))
}

fn memories() -> std::sync::MutexGuard<'static, Vec<Vec<Block>>> {
    MEMORIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The bytes that a Japanese IMail machine would see for `text`.
fn imail_bytes(text: &str) -> Cow<'_, [u8]> {
    match text::encode(text, TextEncoding::CodePage(CodePage::Japanese)) {
        Some(bytes) => Cow::Owned(bytes),
        None => Cow::Borrowed(text.as_bytes()),
    }
}

/// The clear text of IMail's code, for logins that need it (CRAM-MD5, APOP); `None` for every other kind.
pub fn recover(user_id: &str, stored: &str) -> Option<Secret> {
    match classify(user_id, stored) {
        Stored::Imail => plausible(imail_decode(user_id, stored)?),
        _ => None,
    }
}

/// May `password` be set?
///
/// While the tree can go back to IMail (`return_to_imail`): 3 to 30 characters of printable ASCII, no blank, no
/// asterisk (the wider of the two ranges that IMail's help gives). Otherwise 8 to 128 characters.
pub fn rules(return_to_imail: bool, password: &str) -> Result<(), PasswordRule> {
    let (least, most) = if return_to_imail { (3, 30) } else { (8, 128) };
    let count = password.chars().count();
    if count < least {
        return Err(PasswordRule::TooShort { least, most });
    }
    if count > most {
        return Err(PasswordRule::TooLong { least, most });
    }
    if return_to_imail && !password.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*') {
        return Err(PasswordRule::Character);
    }
    if password.chars().any(char::is_control) {
        return Err(PasswordRule::Control);
    }
    Ok(())
}

/// The value to store for `password`: IMail's code while the tree can go back to IMail, else Argon2id
/// (about 20 ms of one core). The caller has asked [`rules`] before.
pub fn store(return_to_imail: bool, user_id: &str, password: &str) -> Result<String, PasswordError> {
    if return_to_imail {
        return Ok(imail_encode(user_id, &imail_bytes(password)));
    }
    let hashing = |error: &dyn fmt::Display| PasswordError::Hash(error.to_string());
    let params = Params::new(ARGON2_MEMORY_KIB, ARGON2_PASSES, ARGON2_LANES, None);
    let params = params.map_err(|error| hashing(&error))?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash: PasswordHash = argon2.hash_password(password.as_bytes()).map_err(|error| hashing(&error))?;
    Ok(format!("{ARGON2_PREFIX}{hash}"))
}

/// The PHC string behind the prefix, if it is Argon2id with costs that this server is willing to pay.
fn parse_argon2(stored: &str) -> Option<PasswordHash> {
    if stored.len() > MAX_STORED_BYTES {
        return None;
    }
    let hash = PasswordHash::new(stored.strip_prefix(ARGON2_PREFIX)?).ok()?;
    if hash.algorithm.as_str() != "argon2id" {
        return None;
    }
    let params = Params::try_from(&hash).ok()?;
    let affordable = params.m_cost() <= ARGON2_MAX_MEMORY_KIB
        && params.t_cost() <= ARGON2_MAX_PASSES
        && params.p_cost() <= ARGON2_MAX_LANES;
    affordable.then_some(hash)
}

/// A random password of 16 letters and digits without look-alikes (about 91 bits), good under both sets of [`rules`].
pub fn generate() -> Result<Secret, PasswordError> {
    const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    const LENGTH: usize = 16;
    /// A byte below the number of letters is taken as it is, others are drawn again: no letter is preferred.
    const MAX_DRAWS: usize = 64;
    let mut password = String::with_capacity(LENGTH);
    for _ in 0..MAX_DRAWS {
        let mut bytes = [0u8; 64];
        getrandom::fill(&mut bytes).map_err(PasswordError::Random)?;
        let letters = bytes.iter().filter_map(|byte| LETTERS.get(usize::from(byte & 63)));
        password.extend(letters.take(LENGTH - password.len()).map(|letter| char::from(*letter)));
        if password.len() == LENGTH {
            return Ok(Secret(password));
        }
    }
    Err(PasswordError::Hash("no usable random bytes".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// User, password, stored value: published pairs first, computed edge cases after.
    const VECTORS: &[(&str, &str, &str)] = &[
        ("mike", "rocks", "DFD8CED0E0"),
        ("bgannon", "test", "D6CCD4E2"),
        ("admin", "god123", "C8D3D19AA094"),
        ("beethoven", "ludwig", "CEDAC9EBD1D6"),
        ("test", "Iownyou", "BDD4EAE2EDD4E8"),
        ("netmaniac", "bishkekforever", "D0CEE7D5CCD3D4C7D2E0CAEAD2D3"),
        ("Mike", "rocks", "DFD8CED0E0"),
        ("MIKE", "rocks", "DFD8CED0E0"),
        ("a", "zzzz", "DBDBDBDB"),
        ("mr-fred", "abcdefghij", "CED490CAD7CBCBD5DB97"),
        ("user789", "Passw0rd!", "C5D4D8E5AE68ABD994"),
        ("root", "password", "E2D0E2E7E9DEE1D8"),
    ];

    #[test]
    fn imail_vectors() {
        for (user, password, stored) in VECTORS {
            assert_eq!(imail_encode(user, password.as_bytes()), *stored, "{user}");
            assert_eq!(classify(user, stored), Stored::Imail);
            assert_eq!(
                recover(user, stored).map(|secret| secret.expose().to_owned()).as_deref(),
                Some(*password)
            );
            assert!(verify(user, stored, password));
            assert!(verify(user, &stored.to_lowercase(), password));
            assert!(!verify(user, stored, &format!("{password}x")));
            assert!(!verify(user, stored, &password.to_uppercase()));
            assert_eq!(store(true, user, password).unwrap(), *stored);
        }
        assert_eq!(imail_encode("anyone", b""), "");
        assert_eq!(imail_encode("z", &[0x86]), "00");
    }

    #[test]
    fn what_is_not_plausible_lets_nobody_in() {
        for stored in
            ["DFD8CED0E", "DFD8CED0EG", "0000", "secret", "{ARGON2ID}", "{ARGON2ID}$argon2id$", "{SHA}x"]
        {
            assert_eq!(classify("mike", stored), Stored::Unknown, "{stored}");
            assert!(!verify("mike", stored, "rocks"));
            assert!(!verify("mike", stored, stored));
        }
        assert_eq!(classify("mike", ""), Stored::Empty);
        assert!(!verify("mike", "", ""));
        assert!(!verify("mike", "", "x"));
        assert_eq!(classify("", "DFD8"), Stored::Unknown);
        assert!(!verify("", "DFD8", "x"));
    }

    #[test]
    fn japanese_passwords_in_both_encodings() {
        let cp932 = imail_encode("mike", &[0x8e, 0x52, 0x93, 0x63]);
        let utf8 = imail_encode("mike", "山田".as_bytes());
        assert!(verify("mike", &cp932, "山田"));
        assert!(verify("mike", &utf8, "山田"));
        assert!(!verify("mike", &cp932, "山本"));
    }

    #[test]
    fn the_key_may_have_been_renamed() {
        assert_eq!(coding_id("mike", "mike@example.org", "DFD8CED0E0"), "mike");
        let odd = imail_encode("zz", b"  ~~");
        assert_eq!(coding_id("a0", "zz@example.org", &odd), "zz");
    }

    #[test]
    fn argon2_round_trip_and_limits() {
        let stored = store(false, "mike", "correct horse").unwrap();
        assert!(stored.starts_with("{ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_eq!(classify("mike", &stored), Stored::Argon2);
        assert!(verify("mike", &stored, "correct horse"));
        assert!(!verify("mike", &stored, "correct horsf"));
        assert_eq!(recover("mike", &stored), None);
        let costly = stored.replace("m=19456", "m=4000000");
        assert_eq!(classify("mike", &costly), Stored::Unknown);
    }

    #[test]
    fn rules_by_mode() {
        let cases = [
            (true, "ab", false),
            (true, "abc", true),
            (true, "a b c", false),
            (true, "abc*", false),
            (true, "山田太郎", false),
            (true, "123456789012345678901234567890", true),
            (true, "1234567890123456789012345678901", false),
            (false, "1234567", false),
            (false, "12345678", true),
            (false, "山田太郎と花子さん", true),
            (false, "12345678\n", false),
        ];
        for (mode, password, good) in cases {
            assert_eq!(rules(mode, password).is_ok(), good, "{mode} {password}");
        }
    }

    #[test]
    fn generated_passwords_satisfy_both_rules() {
        let first = generate().unwrap();
        assert_eq!(first.expose().len(), 16);
        assert_ne!(first, generate().unwrap());
        assert!(rules(true, first.expose()).is_ok() && rules(false, first.expose()).is_ok());
        assert!(!format!("{first:?}").contains(first.expose()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_ascii_password_comes_back(user in "[a-zA-Z0-9._-]{1,30}", password in "[!-)+-~]{3,30}") {
            let stored = store(true, &user, &password).unwrap();
            prop_assert!(verify(&user, &stored, &password));
            prop_assert_eq!(recover(&user, &stored).map(|secret| secret.expose().to_owned()), Some(password));
        }

        #[test]
        fn any_stored_text_is_harmless(user in any::<String>(), stored in any::<String>(), offer in any::<String>()) {
            let _ = (classify(&user, &stored), verify(&user, &stored, &offer), recover(&user, &stored));
        }
    }
}
