//! Login names.

/// Splits a login name into user and domain at the last character of `delimiters` in it. IMail's help lists `@ % * : $ &` (guide 8.1) and
/// `@#$%&*` (guide 7); none of these can stand in a user ID.
pub fn split_login<'a>(name: &'a str, delimiters: &str) -> (&'a str, Option<&'a str>) {
    match name.rfind(|c| delimiters.contains(c)) {
        Some(at) => {
            let (user, domain) = name.split_at(at);
            let domain = domain.trim_start_matches(|c| delimiters.contains(c));
            (user, Some(domain))
        }
        None => (name, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn login_names() {
        for (name, expected) in [
            ("mike", ("mike", None)),
            ("mike@example.org", ("mike", Some("example.org"))),
            ("mike%example.org", ("mike", Some("example.org"))),
            ("mike&example.org", ("mike", Some("example.org"))),
            ("a@b@example.org", ("a@b", Some("example.org"))),
            ("mike@", ("mike", Some(""))),
            ("", ("", None)),
        ] {
            assert_eq!(split_login(name, "@%*:$&#"), expected, "{name}");
        }
        assert_eq!(split_login("mike%example.org", "@"), ("mike%example.org", None));
    }
}
