//! Challenges that a client answers with a digest, so that the password does not travel: CRAM-MD5 (RFC 2195) and APOP (RFC 1939 §7).

/// A challenge that was never given before: random digits at the host.
pub fn challenge(host: &str) -> Result<String, getrandom::Error> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)?;
    Ok(format!("<{:032x}@{host}>", u128::from_le_bytes(random)))
}

/// Name and digest of an answer: the name, a blank, 32 hexadecimal digits.
pub fn name_and_digest(bytes: &[u8]) -> Option<(String, [u8; 16])> {
    let (name, digest) = std::str::from_utf8(bytes).ok()?.trim_end().rsplit_once(' ')?;
    let hexadecimal = digest.len() == 32 && digest.bytes().all(|b| b.is_ascii_hexdigit());
    let digest = u128::from_str_radix(digest, 16).ok().filter(|_| hexadecimal)?;
    Some((name.to_owned(), digest.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let digest = 0xb913a602c7eda7a495b4e6e7334d3890u128.to_be_bytes();
        for (text, expected) in [
            ("tim b913a602c7eda7a495b4e6e7334d3890", Some(("tim".to_owned(), digest))),
            ("a b b913a602c7eda7a495b4e6e7334d3890\r\n", Some(("a b".to_owned(), digest))),
            ("tim +913a602c7eda7a495b4e6e7334d38901", None),
            ("tim b913", None),
            ("b913a602c7eda7a495b4e6e7334d3890", None),
        ] {
            assert_eq!(name_and_digest(text.as_bytes()), expected, "{text}");
        }
        assert_ne!(challenge("a").unwrap(), challenge("a").unwrap());
    }
}
