//! Does an author's domain want mail refused that does not come from its own servers? (DMARC, RFC 7489)
//!
//! Such a post reaches nobody with its author's address in From, since the list's server sends it. The record is looked for at the domain, then at
//! the domains above it that have two labels or more: what counts as an organization's domain is not known without a list of public
//! suffixes, and a suffix that publishes a record means it for the domains below.
//!
//! # Failure
//! [`Policies::wants_replacement`] takes a domain that does not answer within [`TIME_MAX`] for one that wants it: a list's address in From is
//! always good.
//!
//! # Limits
//! [`LEVELS_MAX`] names are asked for one domain; answers are kept for [`KEPT_FOR`], [`KEPT_MAX`] of them.

use crate::transport::remote::resolver::{DnsError, Resolver};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a domain may take to answer.
pub const TIME_MAX: Duration = Duration::from_secs(3);
/// How long an answer is good.
pub const KEPT_FOR: Duration = Duration::from_secs(3600);
/// The most answers that are kept.
const KEPT_MAX: usize = 10_000;
/// The most names that are asked.
const LEVELS_MAX: usize = 5;

/// The answers so far.
#[derive(Default)]
pub struct Policies(Mutex<HashMap<String, (Instant, bool)>>);

impl Policies {
    /// Must posts from this domain have another From?
    pub async fn wants_replacement(&self, resolver: &Resolver, domain: &str) -> bool {
        let domain = domain.trim_end_matches('.').to_ascii_lowercase();
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&domain).copied();
        if let Some((time, wants)) = known
            && time.elapsed() < KEPT_FOR
        {
            return wants;
        }
        let wants = tokio::time::timeout(TIME_MAX, ask(resolver, &domain)).await.unwrap_or(true);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(domain, (Instant::now(), wants));
        wants
    }
}

async fn ask(resolver: &Resolver, domain: &str) -> bool {
    for name in names(domain) {
        match resolver.texts(&format!("_dmarc.{name}")).await {
            Ok(texts) => {
                if let Some(strict) = texts.iter().find_map(|text| is_strict(text, name != domain)) {
                    return strict;
                }
            }
            Err(DnsError::Missing(_) | DnsError::TakesNoMail(_)) => {}
            Err(DnsError::Passing(_)) => return true,
        }
    }
    false
}

/// The domain and those above it, down to two labels.
fn names(domain: &str) -> Vec<&str> {
    let mut all = vec![domain];
    let mut rest = domain;
    while let Some((_, above)) = rest.split_once('.').filter(|(_, above)| above.contains('.')) {
        all.push(above);
        rest = above;
    }
    if all.len() > LEVELS_MAX {
        all.drain(1..all.len() + 1 - LEVELS_MAX);
    }
    all
}

/// What a record says: quarantine or reject? `None` if it is no DMARC record. `below`: it was found above the domain.
fn is_strict(record: &str, below: bool) -> Option<bool> {
    let mut tags = record.split(';').filter_map(|tag| tag.split_once('=')).map(|(n, v)| (n.trim(), v.trim()));
    let (name, version) = tags.next()?;
    if !name.eq_ignore_ascii_case("v") || version != "DMARC1" {
        return None;
    }
    let tags: HashMap<String, &str> = tags.map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    let policy = below.then(|| tags.get("sp")).flatten().or_else(|| tags.get("p"));
    Some(policy.is_some_and(|policy| {
        ["quarantine", "reject"].iter().any(|strict| policy.eq_ignore_ascii_case(strict))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::remote::resolver::Table;

    #[test]
    fn records() {
        for (record, below, expected) in [
            ("v=DMARC1; p=reject", false, Some(true)),
            ("v=DMARC1;p=Quarantine; pct=50", false, Some(true)),
            ("v=DMARC1; p=none; sp=reject", false, Some(false)),
            ("v=DMARC1; p=none; sp=reject", true, Some(true)),
            ("v=DMARC1; p=reject; sp=none", true, Some(false)),
            ("v=DMARC1", false, Some(false)),
            ("v=spf1 -all", false, None),
            ("", false, None),
        ] {
            assert_eq!(is_strict(record, below), expected, "{record}");
        }
        assert_eq!(names("a.b.example.jp"), ["a.b.example.jp", "b.example.jp", "example.jp"]);
        assert_eq!(names("example"), ["example"]);
        assert_eq!(names("1.2.3.4.5.6.7.example.jp").len(), LEVELS_MAX);
    }

    #[tokio::test]
    async fn who_wants_it() {
        let mut table = Table::default();
        for (name, text) in [("strict.example", "v=DMARC1; p=reject"), ("loose.example", "v=DMARC1; p=none")]
        {
            table.texts.insert(format!("_dmarc.{name}"), vec!["other".into(), text.into()]);
        }
        let (resolver, policies) = (Resolver::Table(table), Policies::default());
        for (domain, expected) in [
            ("strict.example", true),
            ("Mail.Strict.Example.", true),
            ("loose.example", false),
            ("none.example", false),
        ] {
            assert_eq!(policies.wants_replacement(&resolver, domain).await, expected, "{domain}");
        }
        let broken = Resolver::Broken("no servers".into());
        assert!(policies.wants_replacement(&broken, "other.example").await);
        assert!(!policies.wants_replacement(&broken, "loose.example").await, "kept for an hour");
    }
}
