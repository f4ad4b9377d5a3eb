//! Bringing a message into a mailbox, or to where the mailbox's rules and settings want it.
//!
//! # Failure
//! What cannot be done now is given back as a recipient for the queue, under the address that it had before any rule was applied.

use super::answer::Received;
use super::disposition::{Before, Disposition, Examination, Ruled, disposition};
use super::route::MailboxTarget;
use super::{Inner, Waiting, windows_path};
use crate::config::Config;
use crate::mailbox::commit::Outcome;
use crate::message::charset::UTF8;
use crate::message::encode::header_text;
use layout::index::journal::Token;
use layout::limits::RETURNABLE_MAILBOX_MAX;
use layout::logline::{Delivery, Event, Tag};
use layout::mailbox::Appended;
use layout::mbx::compose::{NewMessage, Source, Way};
use layout::name::SpoolId;
use layout::spool::dsn::{Dsn, Notify};
use layout::spool::id::{ItemName, Origin as Kind, Role};
use layout::spool::qfile::{Envelope, Fields};
use layout::spool::store::Body;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;

/// A copy for one mailbox, under way.
pub(super) struct Copy {
    /// The mailbox that its address led to.
    routed: MailboxTarget,
    /// The one that gets it.
    mailbox: MailboxTarget,
    address: String,
    /// The message, if the user's settings may answer it.
    answered: Option<Source>,
    answer: oneshot::Receiver<Outcome>,
}

/// A message for one recipient.
#[derive(Clone, Copy)]
pub(super) struct Letter<'a> {
    pub(super) sender: &'a str,
    /// As the client named him.
    pub(super) recipient: &'a str,
    /// What the sender wants to be told of him.
    pub(super) dsn: &'a Dsn,
    pub(super) id: SpoolId,
    pub(super) source: &'a Source,
    /// The same, for rules.
    pub(super) message: &'a Examination,
    /// What rules and settings did with it before.
    pub(super) before: Before,
}

/// What was done with a message for one mailbox.
pub(super) enum Placed {
    UnderWay(Box<Copy>),
    /// It goes somewhere else, or nowhere, as the mailbox's settings want it.
    SentOn,
    Full,
    /// Something failed; it is to be tried again for this recipient.
    PutOff(Waiting),
}

impl Inner {
    /// Brings a message on its way into a mailbox, or where the mailbox's rules and settings want it.
    pub(super) fn place(&self, config: &Config, target: &MailboxTarget, letter: Letter<'_>) -> Placed {
        let found = disposition(config, &self.rules, target, letter.message, letter.before);
        let done = found.and_then(|found| {
            self.send_on(config, target, letter, &found)?;
            Ok(found)
        });
        match done {
            Ok(Disposition { mailbox: Some(mailbox), rule, .. }) => {
                self.store(config, target, mailbox, rule, letter)
            }
            Ok(_) => Placed::SentOn,
            Err(error) => Placed::PutOff(self.put_off(config, letter.id, target, letter.recipient, &error)),
        }
    }

    /// Hands a message to the hub, for the mailbox that it belongs into.
    fn store(
        &self,
        config: &Config,
        routed: &MailboxTarget,
        mailbox: MailboxTarget,
        rule: Option<Ruled>,
        letter: Letter<'_>,
    ) -> Placed {
        let Letter { sender, recipient, id, source, .. } = letter;
        let date = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() as i64);
        let rule = rule.filter(|_| !config.registry.global.block_rule_header);
        let rule = rule.map(|rule| header_text(&rule.hit.header, UTF8, "X-IMail-Rule: ".len()));
        let message = NewMessage {
            source: source.clone(),
            sender: sender.to_owned(),
            date,
            way: Way::Delivery { recipient: recipient.to_owned(), id, rule },
            flags: 0,
            keywords: Vec::new(),
        };
        if !self.has_room_for(config, &mailbox, &message) && !self.has_copy(&mailbox, id) {
            return Placed::Full;
        }
        let open = self.hub.open(&mailbox.dir, &mailbox.mailbox);
        let size_max = config.registry.global.return_to_imail.then_some(RETURNABLE_MAILBOX_MAX);
        // A user's settings answer what is for the user.
        let answered =
            (mailbox.is_of_user_of(routed) && self.answers_mail(config, &mailbox)).then(|| source.clone());
        let answer = self.hub.append(open, message, Some(token(&mailbox, id)), size_max);
        let (routed, address) = (routed.clone(), recipient.to_owned());
        Placed::UnderWay(Box::new(Copy { routed, mailbox, address, answered, answer }))
    }

    /// Sends a message on to those whom rules or settings name. Whatever is not stored leaves a line in the log.
    fn send_on(
        &self,
        config: &Config,
        target: &MailboxTarget,
        letter: Letter<'_>,
        found: &Disposition,
    ) -> io::Result<()> {
        let Letter { sender, recipient, id, source, dsn, .. } = letter;
        let from = target.user_address();
        if found.forwards.is_empty() && found.mailbox.is_none() {
            let why = match &found.rule {
                Some(rule) => format!("the rule {} of {}", rule.hit.rule, rule.dir),
                None => "a setting of the mailbox".to_owned(),
            };
            self.log(config, Tag::Smtp, id, None, &Event::Note(&format!("discarded for {from} by {why}")));
        }
        // What an earlier try stored it sent on too.
        let before = || found.mailbox.as_ref().is_some_and(|mailbox| self.has_copy(mailbox, id));
        if !found.forwards.is_empty() && !before() {
            let waiting = |address: &String| Waiting {
                ruled: found.rule.is_some(),
                dsn: of_forward(dsn),
                ..Waiting::new(address)
            };
            let recipients = found.forwards.iter().map(waiting).collect();
            self.forward(config, &target.domain, sender, recipients, source)?;
            for to in &found.forwards {
                self.log(config, Tag::Smtp, id, None, &Event::Forwarded { from: &from, to });
            }
        }
        if let Some(mailbox) = &found.managed {
            self.answer_sent_on(config, Received { target: mailbox, sender, recipient, source });
        }
        Ok(())
    }

    /// Puts a copy of a message into the spool for others, as an item of its own that says by its extension that it was sent on.
    pub(super) fn forward(
        &self,
        config: &Config,
        host: &str,
        sender: &str,
        recipients: Vec<Waiting>,
        source: &Source,
    ) -> io::Result<()> {
        let name = ItemName::new(self.ids.own()?, Kind::Forward);
        let fields = Fields {
            data: windows_path(config, &name.file(Role::Data)),
            host: host.to_owned(),
            sender: sender.to_owned(),
            utf8: !sender.is_ascii() || !recipients.iter().all(|one| one.address.is_ascii()),
            recipients,
            ..Fields::default()
        };
        let body = Body::Copy(source.clone());
        self.commit(self.store.prepare(&name, body, &Envelope::new(&fields))?)
    }

    /// Waits for the copies, logs them, and gives back those that could not be stored, as recipients for the queue.
    pub(super) async fn finish_copies(
        &self,
        config: &Config,
        id: SpoolId,
        sender: &str,
        size: u64,
        copies: Vec<Copy>,
    ) -> Vec<Waiting> {
        let mut left = Vec::new();
        for Copy { routed, mailbox, address, answered, answer } in copies {
            let failed = match answer.await {
                Ok(Ok(stored)) => {
                    let MailboxTarget { domain, user, .. } = &mailbox;
                    let delivery = Delivery { host: domain, recipient: user, count: 1, sender, bytes: size };
                    self.log(config, Tag::Smtp, id, None, &Event::LocalDelivery(delivery));
                    if let (Appended::Stored(_), Some(source)) = (stored, answered) {
                        let received =
                            Received { target: &mailbox, sender, recipient: &address, source: &source };
                        tokio::task::block_in_place(|| self.answer(config, received));
                    }
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the server is stopping".to_owned(),
            };
            left.push(self.put_off(config, id, &routed, &address, &failed));
        }
        left
    }

    /// Says why a copy could not be stored, and answers with the recipient for the queue.
    fn put_off(
        &self,
        config: &Config,
        id: SpoolId,
        target: &MailboxTarget,
        address: &str,
        why: &dyn std::fmt::Display,
    ) -> Waiting {
        let text = format!("{}@{}: {why}", target.user, target.domain);
        self.log(config, Tag::Smtp, id, None, &Event::Refused(&text));
        let original = Some(address.to_owned());
        let address = exact_address(config, target);
        Waiting { address, original, ruled: false, dsn: Dsn::default() }
    }
}

/// What the sender wants to be told of a recipient that took another's place: a mailbox here stands for success.
pub(super) fn of_forward(dsn: &Dsn) -> Dsn {
    let notify = dsn.notify.map(|notify| Notify { success: false, ..notify });
    Dsn { notify, original: dsn.original.clone(), delay_told: false }
}

/// Marks the delivery of a message to a mailbox.
pub(super) fn token(target: &MailboxTarget, id: SpoolId) -> Token {
    Token(id.0, xxhash_rust::xxh3::xxh3_64(key(target).as_bytes()))
}

/// One mailbox, by its place.
pub(super) fn key(target: &MailboxTarget) -> String {
    format!("{}/{}", target.dir.path(), target.mailbox.key())
}

/// The address that leads to this mailbox and nowhere else, so that a copy which is put off sends nobody else another: `user-main@domain` for an INBOX
/// behind forwards or an alias. What hides that name too leaves only the user's address.
pub(super) fn exact_address(config: &Config, target: &MailboxTarget) -> String {
    let MailboxTarget { domain, user, mailbox, plain, .. } = target;
    let split = config.registry.global.mailbox_split_char;
    let local = format!("{user}{split}{}", mailbox.file_stem());
    let is_hidden = || {
        let found = config.registry.domain_by_name(domain);
        found.is_none_or(|domain| {
            domain.alias(&local).is_some() || domain.user(&local).is_some() || config.has_list(domain, &local)
        })
    };
    match mailbox.is_inbox() && !plain && !is_hidden() {
        true => format!("{local}@{domain}"),
        false => mailbox_address(config, target),
    }
}

/// The address of a mailbox, as people write it.
pub(super) fn mailbox_address(config: &Config, target: &MailboxTarget) -> String {
    let MailboxTarget { domain, user, mailbox, .. } = target;
    match mailbox.is_inbox() {
        true => format!("{user}@{domain}"),
        false => format!("{user}{}{}@{domain}", config.registry.global.mailbox_split_char, mailbox.text()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Server;

    const LARGE: &str = "large@mail.example.jp";
    const SENDER: &str = "a@example.net";

    /// A server with these rules of the domain and of the user.
    fn server(domain: &str, user: &str) -> Server {
        let server = Server::start();
        std::fs::write(server.root.top().full().join("rules.ima"), domain).unwrap();
        server.write_for(LARGE, "rules.ima", user);
        server
    }

    async fn send(server: &Server, to: &[&str], subject: &str) {
        let header = format!("Subject: {subject}\r\nTo: {LARGE}\r\n");
        assert_eq!(server.send_with(SENDER, false, to, &header, 10).await, "taken");
    }

    /// The field of the rule, in a mailbox of a user.
    fn field(server: &Server, address: &str, file: &str) -> String {
        let text = server.read_for(address, file);
        let lines = text.lines().filter(|line| line.starts_with("X-IMail-Rule: "));
        lines.map(|line| &line["X-IMail-Rule: ".len()..]).collect::<Vec<_>>().join("|")
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_rule_moves_a_message() {
        let server = server("S~of domain:box", "S~of domain:no\r\n<mine>S~of user:large-Own\r\n");
        server.write_for(LARGE, "vacation.ima", "I am away.\r\n");
        send(&server, &[LARGE, "small@mail.example.jp"], "of domain").await;
        send(&server, &[LARGE], "of user").await;
        for address in [LARGE, "small@mail.example.jp"] {
            assert_eq!(field(&server, address, "box.mbx"), "S~of domain:box-of domain");
        }
        assert_eq!(field(&server, LARGE, "Own.mbx"), "<mine>S~of user:large-Own-of user");
        // What is not in the INBOX gets no vacation message.
        assert_eq!(server.spool(""), [""; 0]);
        send(&server, &[LARGE], "else").await;
        assert_eq!(field(&server, LARGE, "main.mbx"), "");
        assert_eq!(server.spool("Subject:"), ["<> SMD a@example.net: Subject: Re: else"]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_copy_for_a_mailbox_that_several_are_ruled_to() {
        let server = server("S~all:small-all", "");
        send(&server, &[LARGE, "small@mail.example.jp", "root@mail.example.jp"], "all").await;
        let text = server.read_for("small@mail.example.jp", "all.mbx");
        assert_eq!(text.matches("Subject: all").count(), 1, "{text}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_rule_sends_a_message_on_or_throws_it_away() {
        let server = server("S~bad:NUL", "S~on:boss@example.net\r\nS~fwd:sub\r\n");
        server.write_for(LARGE, "sub.fwd", "small-x");
        for subject in ["bad", "on", "fwd"] {
            send(&server, &[LARGE], subject).await;
        }
        let mut items = server.spool("Subject:");
        items.sort();
        assert_eq!(
            items,
            [
                "<a@example.net> FWD boss@example.net: Subject: on",
                "<a@example.net> FWD small-x@mail.example.jp: Subject: fwd"
            ]
        );
        let spool = std::fs::read_dir(server.root.spool().full()).unwrap();
        let names = spool.map(|entry| entry.unwrap().path());
        let queued = names.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with('Q'));
        let texts: Vec<String> = queued.map(|path| std::fs::read_to_string(path).unwrap()).collect();
        assert!(texts.len() == 2 && texts.iter().all(|text| text.contains("\nZ<")), "{texts:?}");
        assert!(!server.has_file(LARGE, "main.mbx") && !server.has_file(LARGE, "sub.mbx"));
        let log = server.log();
        for line in [
            "discarded for large@mail.example.jp by the rule S~bad:NUL of ",
            "large@mail.example.jp",
            "boss@example.net",
        ] {
            assert!(log.contains(line), "{line} in {log}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_field_of_a_japanese_rule_is_a_valid_header() {
        let rule = "<\u{8ff7}\u{60d1}>S~\u{5f53}\u{9078}:\u{7bb1}";
        let server = server("", rule);
        send(&server, &[LARGE], "\u{3054}\u{5f53}\u{9078}\u{304a}\u{3081}\u{3067}\u{3068}\u{3046}").await;
        let text = server.read_for(LARGE, "&e7E-.mbx");
        let field = text.lines().find(|line| line.starts_with("X-IMail-Rule: ")).unwrap();
        assert!(field.is_ascii() && field.len() < 998, "{field}");
        let value = &field.as_bytes()["X-IMail-Rule: ".len()..];
        let expected = format!("{rule}-\u{5f53}\u{9078}");
        assert_eq!(crate::message::charset::decode_header(value), expected);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_field_can_be_switched_off() {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::with(dir, "BlockRuleHdr=dword:00000001\n");
        server.write_for(LARGE, "rules.ima", "S~x:box");
        send(&server, &[LARGE], "x").await;
        let text = server.read_for(LARGE, "box.mbx");
        assert!(text.contains("Subject: x") && !text.contains("X-IMail-Rule"), "{text}");
    }
}
