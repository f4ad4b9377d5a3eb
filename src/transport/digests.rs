//! Sending digests: posts gather in a mailbox of the list's administrator, who may take some out before it goes (7.x guide), and go out together
//! when the time has come or the mailbox is large enough.
//!
//! # Crash safety
//! `digest.sent` notes the last message that went into a digest, and the number of the digest's items ([`super::mailing`]), before the first of them is published.
//! Then the messages are copied to `<mailbox>MMDD`, which knows by a token what it has, and removed. Whoever finds a note with items
//! does what may be left of this.
//!
//! # Failure
//! What fails is logged, and tried again at the next look.
//!
//! # Limits
//! [`POSTS_MAX`] posts and [`DIGEST_MAX`] bytes of text in one digest; the others go into another one. Of a post [`READ_MAX`] bytes are looked
//! at. One post is in memory at a time.

use super::Inner;
use super::mailing::About;
use super::route::{MailboxTarget, route};
use crate::config::Config;
use crate::lists::digest::{DIGEST_MAX, Entry, POSTS_MAX, Sent, Texts, entry, write};
use crate::lists::list::{List, names};
use crate::lists::post::Copy;
use crate::lists::work::{Mailing, Recipients};
use crate::mailbox::Open;
use chrono::{DateTime, Local};
use layout::index::journal::Token;
use layout::list::File;
use layout::list::settings::Digest;
use layout::lock::PATIENCE;
use layout::mailbox::{Content, MailboxError};
use layout::mbx::compose::{NewMessage, Source, Way};
use layout::mbx::view::Reader;
use layout::name::MailboxName;
use layout::spool::qfile::Fields;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

/// How often lists are looked at for digests that are due.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Sends digests until it is dropped.
pub(super) async fn run(inner: Arc<Inner>) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        tokio::task::block_in_place(|| inner.send_digests());
    }
}

/// How much of a post is looked at for a digest: its text comes first.
const READ_MAX: usize = 4 << 20;

/// A post as it lies in the mailbox.
struct Post {
    date: i64,
    /// As it is served.
    message: Vec<u8>,
}

impl Inner {
    pub(super) fn send_digests(&self) {
        let config = self.live.now();
        for domain in config.registry.domains.iter().filter(|domain| domain.hidden_by.is_none()) {
            let all = names(&config, domain).unwrap_or_default();
            for name in all {
                let found = List::find(&config, domain, &name);
                let sent = match &found {
                    Ok(Some(list)) => match &list.settings.digest {
                        Some(digest) => self.digest_of(&config, list, digest),
                        None => Ok(()),
                    },
                    Ok(None) => Ok(()),
                    Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
                };
                if let Err(error) = sent {
                    self.log.note(&format!("{name}@{}: no digest could be sent: {error}", domain.name));
                }
            }
        }
    }

    fn digest_of(&self, config: &Config, list: &List<'_>, digest: &Digest) -> io::Result<()> {
        let Some(target) = self.collector(config, list) else { return Ok(()) };
        let now = Local::now();
        let mut sent = match Sent::parse(&list.dir.read(File::DigestSent)?) {
            Some(sent) => sent,
            // The schedule begins with the first look.
            None => note(list, Sent { time: now.timestamp(), ..Sent::default() })?,
        };
        let open = self.hub.open(&target.dir, &target.mailbox);
        let (uidvalidity, bytes) = open
            .with(|mailbox| mailbox.refresh(PATIENCE).map(|_| (mailbox.uidvalidity(), mailbox.live_bytes())))
            .map_err(failed)?;
        if sent.items > 0 {
            self.finish_digest(list, &target, &open, uidvalidity, sent)?;
            sent = note(list, Sent { items: 0, ..sent })?;
        }
        let last =
            DateTime::from_timestamp(sent.time, 0).map(|time| time.with_timezone(&Local).naive_local());
        let timely = digest.schedule.zip(last).is_some_and(|(s, last)| s.is_due(last, now.naive_local()));
        let large = digest.size > 0 && bytes >= digest.size;
        if !timely && !large {
            return Ok(());
        }
        let next = Sent { time: now.timestamp(), uidvalidity, ..Sent::default() };
        while self.one_digest(config, list, &target, &open, next)? {}
        Ok(())
    }

    /// Sends a digest of the first posts. Answers whether there are more.
    fn one_digest(
        &self,
        config: &Config,
        list: &List<'_>,
        target: &MailboxTarget,
        open: &Arc<Open>,
        next: Sent,
    ) -> io::Result<bool> {
        let (entries, last, more) = gather(open)?;
        if entries.is_empty() {
            note(list, next)?;
            return Ok(false);
        }
        let next = Sent { uid: last, ..next };
        let now = DateTime::from_timestamp(next.time, 0).unwrap_or_default().with_timezone(&Local);
        let mailing = self.digest_mailing(list, &entries, now, next)?;
        drop(entries);
        // A digest without members is one all the same: its posts are put away.
        let nothing = Source::Bytes(Vec::new().into());
        let common = Fields { host: list.address.domain.clone(), ..Fields::default() };
        let items = self.lay_out(config, &common, &about(list, next), &[mailing], &nothing)?;
        let next = note(list, Sent { items: items.max(1), ..next })?;
        self.finish_digest(list, target, open, next.uidvalidity, next)?;
        note(list, Sent { items: 0, ..next })?;
        Ok(more)
    }

    /// The mailbox that collects a list's posts, if it is there by now.
    fn collector(&self, config: &Config, list: &List<'_>) -> Option<MailboxTarget> {
        let routed = route(config, &list.digest_address()?, false).ok()?;
        routed.mailboxes.into_iter().next().filter(|target| !target.mailbox.is_inbox())
    }

    fn digest_mailing(
        &self,
        list: &List<'_>,
        entries: &[Entry],
        now: DateTime<Local>,
        sent: Sent,
    ) -> io::Result<Mailing> {
        let text = |file| list.dir.text(file, list.code_page());
        let texts = Texts {
            header: text(File::DigestHeader)?,
            separator: text(File::DigestSeparator)?,
            trailer: text(File::DigestTrailer)?,
        };
        let number = xxh3_64(about(list, sent).text.as_bytes());
        let begin = write(&list.address, list.language, &texts, entries, now, number);
        Ok(Mailing {
            sender: list.address.bounce(),
            owner: list.owner.clone(),
            copy: Copy { begin, rest: None },
            recipients: vec![Recipients {
                addresses: list.recipients(&[File::Digest])?,
                ..Recipients::default()
            }],
        })
    }

    /// Publishes the items of a noted digest, and puts its posts away.
    fn finish_digest(
        &self,
        list: &List<'_>,
        target: &MailboxTarget,
        open: &Arc<Open>,
        uidvalidity: u32,
        sent: Sent,
    ) -> io::Result<()> {
        self.publish(&about(list, sent), sent.items)?;
        // Another mailbox by now has other posts.
        if uidvalidity != sent.uidvalidity {
            return Ok(());
        }
        let date = DateTime::from_timestamp(sent.time, 0).unwrap_or_default().with_timezone(&Local);
        let name = format!("{}{}", target.mailbox.text(), date.format("%m%d"));
        let kept = MailboxName::from_text(&name).map_err(io::Error::other)?;
        let kept = self.hub.open(&target.dir, &kept);
        for uid in uids(open, 0, sent.uid) {
            let Some(Post { date, message }) = post(open, uid, usize::MAX)? else { continue };
            let token = Token(xxh3_64(about(list, sent).text.as_bytes()), u64::from(uid));
            let (sender, way) = (String::new(), Way::Client);
            let source = Source::Bytes(message.into());
            let message = NewMessage { source, sender, date, way, flags: 0, keywords: Vec::new() };
            match self.hub.append(kept.clone(), message, Some(token), None).blocking_recv() {
                Ok(stored) => stored.map_err(io::Error::other)?,
                Err(_) => return Err(io::Error::other("the server is stopping")),
            };
        }
        open.with(|mailbox| mailbox.expunge(&[(1, sent.uid)], PATIENCE)).map_err(failed)
    }
}

fn about(list: &List<'_>, sent: Sent) -> About {
    About::list(format!("digest {} {} {}", list.address.post(), sent.uidvalidity, sent.uid))
}

fn note(list: &List<'_>, sent: Sent) -> io::Result<Sent> {
    list.dir.replace(File::DigestSent, sent.text().as_bytes())?;
    Ok(sent)
}

fn failed(error: MailboxError) -> io::Error {
    io::Error::other(error)
}

/// What goes into one digest, the UID of its last post, and whether there are more.
fn gather(open: &Open) -> io::Result<(Vec<Entry>, u32, bool)> {
    let (mut entries, mut bytes, mut last) = (Vec::new(), 0, 0);
    for uid in uids(open, 0, u32::MAX) {
        let Some(post) = post(open, uid, READ_MAX)? else { continue };
        let entry = entry(&post.message);
        bytes += entry.bytes();
        if !entries.is_empty() && (bytes > DIGEST_MAX || entries.len() == POSTS_MAX) {
            return Ok((entries, last, true));
        }
        entries.push(entry);
        last = uid;
    }
    Ok((entries, last, false))
}

/// The UIDs of the posts in a range.
fn uids(open: &Open, first: u32, last: u32) -> Vec<u32> {
    open.with(|mailbox| mailbox.range(first, last).map(|record| record.uid.get()).collect())
}

/// A post, or its first `most` bytes and a little more; `None` if somebody took it out.
fn post(open: &Open, uid: u32, most: usize) -> io::Result<Option<Post>> {
    let read = open.with(|mailbox| {
        let Some(record) = mailbox.message(uid).copied() else { return Ok(None) };
        let mut content = Content::open(mailbox.reader()?, &record, Reader::Imap, None)?;
        let mut message = Vec::new();
        while message.len() < most
            && let Some(piece) = content.next_piece()?
        {
            message.extend(piece);
        }
        Ok(Some(Post { date: i64::from(record.date.get()), message }))
    });
    read.map_err(failed)
}
