//! What the list server writes: its texts in English and Japanese, and the mails around them.
//!
//! IMail's own texts are not known; these are ours. Every mail of the list server has an empty envelope sender and `Auto-Submitted`, so that nothing
//! answers it.

use super::command::Answer;
use crate::message::charset::{Charset, UTF8};
use crate::message::encode::{body, header_text};
use chrono::{DateTime, Local};
use layout::list::settings::Language;

/// A sentence in both languages.
struct Both {
    english: &'static str,
    japanese: &'static str,
}

impl Both {
    fn text(&self, language: Language) -> &'static str {
        match language {
            Language::English => self.english,
            Language::Japanese => self.japanese,
        }
    }
}

/// One text for each answer. `{list}` is the list's name, `{whom}` the address that the command is about, `{content}` what belongs behind the text.
const ANSWERS: [(Answer, Both); 19] = [
    (
        Answer::Help,
        Both {
            english: "Write commands to this address, one on each line of the mail's text:\n\n\
                help                      this text\n\
                help LIST                 what LIST is about\n\
                list                      the lists here\n\
                list LIST                 the members of LIST\n\
                subscribe LIST            join LIST\n\
                unsubscribe LIST          leave LIST\n\
                set mode digest LIST      get digests of LIST instead of each post\n\
                set mode standard LIST    get each post of LIST again",
            japanese: "このアドレス宛のメール本文に、コマンドを 1 行に 1 つずつ書いて送ってください。\n\n\
                help                      この説明\n\
                help LIST                 LIST についての説明\n\
                list                      メーリングリストの一覧\n\
                list LIST                 LIST のメンバーの一覧\n\
                subscribe LIST            LIST に参加\n\
                unsubscribe LIST          LIST から退会\n\
                set mode digest LIST      LIST の投稿をまとめて受信\n\
                set mode standard LIST    LIST の投稿を 1 通ずつ受信",
        },
    ),
    (Answer::ListHelp, Both { english: "{content}", japanese: "{content}" }),
    (
        Answer::Lists,
        Both {
            english: "The lists here:\n\n{content}",
            japanese: "メーリングリストの一覧です。\n\n{content}",
        },
    ),
    (
        Answer::Members,
        Both {
            english: "The members of {list}:\n\n{content}",
            japanese: "{list} のメンバーの一覧です。\n\n{content}",
        },
    ),
    (
        Answer::Joined,
        Both {
            english: "{whom} is now a member of {list}.\n\n{content}",
            japanese: "{whom} は {list} に登録されました。\n\n{content}",
        },
    ),
    (
        Answer::IsMember,
        Both {
            english: "{whom} is a member of {list} already.",
            japanese: "{whom} はすでに {list} に登録されています。",
        },
    ),
    (
        Answer::AskedBack,
        Both {
            english: "A mail with a code was sent to {whom}: answer it to become a member of {list}.",
            japanese: "{whom} に確認コードを送りました。そのメールに返信すると {list} に登録されます。",
        },
    ),
    (
        Answer::WrongCode,
        Both {
            english: "The code is wrong or too old. Send the command again: subscribe {list}",
            japanese: "確認コードが正しくないか、期限が切れています。もう一度 subscribe {list} と送ってください。",
        },
    ),
    (
        Answer::Left,
        Both {
            english: "{whom} is no longer a member of {list}.",
            japanese: "{whom} を {list} から削除しました。",
        },
    ),
    (
        Answer::NoMember,
        Both {
            english: "{whom} is not a member of {list}.",
            japanese: "{whom} は {list} に登録されていません。",
        },
    ),
    (
        Answer::DigestsNow,
        Both {
            english: "{whom} now gets digests of {list}.",
            japanese: "{whom} は {list} の投稿をまとめて受信します。",
        },
    ),
    (
        Answer::PostsNow,
        Both {
            english: "{whom} now gets each post of {list}.",
            japanese: "{whom} は {list} の投稿を 1 通ずつ受信します。",
        },
    ),
    (
        Answer::NoDigests,
        Both {
            english: "{list} has no digests.", japanese: "{list} にはまとめ送りがありません。"
        },
    ),
    (
        Answer::Private,
        Both {
            english: "{list} is a private list: ask its owner, {owner}.",
            japanese: "{list} は非公開です。管理者 ({owner}) に依頼してください。",
        },
    ),
    (
        Answer::Disabled,
        Both {
            english: "{list} takes no commands: ask its owner, {owner}.",
            japanese: "{list} ではコマンドを利用できません。管理者 ({owner}) に依頼してください。",
        },
    ),
    (
        Answer::OwnerOnly,
        Both {
            english: "Only the owner of {list} may do that for other addresses.",
            japanese: "ほかのアドレスについての操作は {list} の管理者だけができます。",
        },
    ),
    (
        Answer::BadAddress,
        Both {
            english: "{whom} cannot be a member of {list}: the address cannot stand in the file of its members.",
            japanese: "{whom} は {list} に登録できません。メンバーのファイルに書けないアドレスです。",
        },
    ),
    (
        Answer::NoList,
        Both {
            english: "There is no list {list} here.",
            japanese: "{list} というメーリングリストはありません。",
        },
    ),
    (
        Answer::Unknown,
        Both {
            english: "This is no command. Send the command help to see all commands.",
            japanese: "コマンドではありません。help と送ると、コマンドの説明をお送りします。",
        },
    ),
];

const SUBJECT_ANSWER: Both =
    Both { english: "Answer of the list server", japanese: "メーリングリストからのお知らせ" };
const SUBJECT_MODERATE: Both =
    Both { english: "Post to {list} waits for you", japanese: "{list} への投稿の確認" };
const SUBJECT_HOLD: Both =
    Both { english: "Members of {list} on hold", japanese: "{list} の配信停止のお知らせ" };
const ASK_BACK: Both = Both {
    english: "Somebody, probably you, asked that {whom} become a member of {list}.\n\n\
        To confirm, just answer this mail, or send this line to {server}:\n\nconfirm {list} {code}\n\n\
        If you do not want that, do nothing. The code is good for three days.",
    japanese: "{whom} を {list} に登録する依頼を受け取りました。\n\n\
        登録するには、このメールにそのまま返信するか、次の 1 行を {server} へ送ってください。\n\nconfirm {list} {code}\n\n\
        心当たりがない場合は何もしないでください。コードの有効期限は 3 日間です。",
};
const MODERATE: Both = Both {
    english: "{whom} may not post to {list}, so this post comes to you. To let it through, send it to {post} \
        yourself. The author was not told.",
    japanese: "{whom} には {list} への投稿が許可されていないため、管理者へお送りします。配信するには、ご自身で {post} へ送信してください。投稿者には通知していません。",
};
const HOLD: Both = Both {
    english: "Mail of {list} to these members came back on {whom} days, so they get nothing for now:\n\n{content}\n\n\
        To send to a member again, take the line out of hold.lst of the list.",
    japanese: "{list} から次のメンバーへの配信が {whom} 日にわたって失敗したため、配信を停止しました。\n\n{content}\n\n\
        再開するには、メーリングリストの hold.lst からメンバーの行を削除してください。",
};

/// What is put into a text.
#[derive(Clone, Debug, Default)]
pub struct Words<'a> {
    /// The list's name.
    pub list: &'a str,
    /// The address that it is about.
    pub whom: &'a str,
    /// The list's owner.
    pub owner: &'a str,
    /// What belongs behind the text.
    pub content: &'a str,
    /// The list server's address.
    pub server: &'a str,
    /// The list's address.
    pub post: &'a str,
    /// A code.
    pub code: &'a str,
}

impl Words<'_> {
    /// Puts the words into a text; words that hold braces themselves are not looked into.
    fn fill(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            out.push_str(before);
            let (name, after) = after.split_once('}').unwrap_or((after, ""));
            out.push_str(match name {
                "list" => self.list,
                "whom" => self.whom,
                "owner" => self.owner,
                "content" => self.content,
                "server" => self.server,
                "post" => self.post,
                "code" => self.code,
                _ => "",
            });
            rest = after;
        }
        out.push_str(rest);
        out.trim_end().to_owned()
    }
}

/// The text of an answer.
pub fn answer(answer: Answer, language: Language, words: &Words<'_>) -> String {
    let row = ANSWERS.iter().find(|(known, _)| *known == answer);
    row.map(|(_, both)| words.fill(both.text(language))).unwrap_or_default()
}

/// A mail of the list server.
#[derive(Clone, Debug)]
pub struct Mail<'a> {
    /// Who writes: the list's owner, or the list server.
    pub from: &'a str,
    /// Where answers go, if not there.
    pub reply_to: Option<&'a str>,
    /// Who gets it.
    pub to: &'a str,
    /// The subject.
    pub subject: String,
    /// The text.
    pub text: String,
    /// The language it is in.
    pub language: Language,
    /// The Message-Id of the mail that is answered, without what could make new lines.
    pub answers: Option<String>,
    /// A message that is sent along.
    pub attached: Option<&'a [u8]>,
}

impl<'a> Mail<'a> {
    /// The answer to commands.
    pub fn answer(from: &'a str, to: &'a str, language: Language, text: String) -> Mail<'a> {
        let subject = SUBJECT_ANSWER.text(language).to_owned();
        Mail { from, reply_to: None, to, subject, text, language, answers: None, attached: None }
    }

    /// Asks whether a subscription was meant. The subject holds the command, so that an answer is enough.
    pub fn ask_back(from: &'a str, language: Language, words: &Words<'a>) -> Mail<'a> {
        let mut mail = Mail::answer(from, words.whom, language, words.fill(ASK_BACK.text(language)));
        mail.subject = format!("confirm {} {}", words.list, words.code);
        mail.reply_to = Some(words.server);
        mail
    }

    /// Brings a post to the owner.
    pub fn moderate(language: Language, words: &Words<'a>, post: &'a [u8]) -> Mail<'a> {
        let text = words.fill(MODERATE.text(language));
        let mut mail = Mail::answer(words.server, words.owner, language, text);
        mail.subject = words.fill(SUBJECT_MODERATE.text(language));
        mail.reply_to = Some(words.post);
        mail.attached = Some(post);
        mail
    }

    /// Tells the owner of members on hold: `content`, after bounces on as many days as `whom` says.
    pub fn hold(language: Language, words: &Words<'a>) -> Mail<'a> {
        let text = words.fill(HOLD.text(language));
        let mut mail = Mail::answer(words.server, words.owner, language, text);
        mail.subject = words.fill(SUBJECT_HOLD.text(language));
        mail
    }

    /// The mail's bytes. `number` makes its Message-Id unique.
    pub fn write(&self, now: DateTime<Local>, number: u64) -> Vec<u8> {
        let charset = match self.language {
            Language::Japanese => Charset::Iso2022Jp,
            Language::English => UTF8,
        };
        let host = self.from.rsplit_once('@').map_or("localhost", |(_, host)| host);
        let date = now.format("%a, %d %b %Y %H:%M:%S %z");
        let reply_to = self.reply_to.map(|address| format!("Reply-To: <{address}>\r\n")).unwrap_or_default();
        let references = self.answers.as_ref().map(|id| format!("In-Reply-To: {id}\r\nReferences: {id}\r\n"));
        let mut out = format!(
            "Date: {date}\r\nMessage-Id: <{}.{number:016x}@{host}>\r\nMIME-Version: 1.0\r\nFrom: <{}>\r\n{reply_to}To: <{}>\r\n\
             Subject: {}\r\n{}Auto-Submitted: auto-replied\r\nPrecedence: bulk\r\n",
            now.format("%Y%m%d%H%M%S"),
            self.from,
            self.to,
            header_text(&self.subject, charset, "Subject: ".len()),
            references.unwrap_or_default()
        )
        .into_bytes();
        let text = body(&self.text, charset);
        let head = format!(
            "Content-Type: text/plain; charset={}\r\nContent-Transfer-Encoding: {}\r\n\r\n",
            text.charset, text.encoding
        );
        let Some(attached) = self.attached else {
            out.extend(head.bytes());
            out.extend(text.bytes);
            return out;
        };
        let boundary = boundary(attached, number);
        let encoding = if attached.is_ascii() { "7bit" } else { "8bit" };
        out.extend(
            format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\r\n--{boundary}\r\n{head}")
                .bytes(),
        );
        out.extend(text.bytes);
        out.extend(
            format!("\r\n--{boundary}\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n")
                .bytes(),
        );
        out.extend_from_slice(attached);
        out.extend(format!("\r\n--{boundary}--\r\n").bytes());
        out
    }
}

/// A boundary that is nowhere in the attached message.
fn boundary(attached: &[u8], number: u64) -> String {
    (0u32..)
        .map(|count| format!("imaild-list-{number:x}-{count}"))
        .find(|boundary| memchr::memmem::find(attached, boundary.as_bytes()).is_none())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_parser::{MessageParser, MimeHeaders as _};

    #[test]
    fn every_answer_has_a_text_in_both_languages() {
        let words = Words { list: "news", whom: "a@b", owner: "o@b", content: "{x}", ..Words::default() };
        for (known, both) in &ANSWERS {
            for language in [Language::English, Language::Japanese] {
                let text = answer(*known, language, &words);
                assert!(!text.is_empty() && !text.contains("{list}") && !text.contains("{whom}"), "{text}");
            }
            assert!(both.english.is_ascii());
        }
        assert_eq!(answer(Answer::ListHelp, Language::English, &words), "{x}");
    }

    #[test]
    fn mails_read_back() {
        let now = Local::now();
        let words = Words {
            list: "news",
            whom: "a@b.example",
            owner: "owner@b.example",
            server: "imailsrv@b.example",
            post: "news@b.example",
            code: "abc",
            ..Words::default()
        };
        let post = b"From: x@y\r\nSubject: hi\r\n\r\nbody\r\n";
        for language in [Language::English, Language::Japanese] {
            let mail = Mail::moderate(language, &words, post).write(now, 7);
            let parsed = MessageParser::default().parse(&mail).unwrap();
            assert!(parsed.subject().unwrap().contains("news"));
            assert_eq!(parsed.reply_to().unwrap().first().unwrap().address().unwrap(), "news@b.example");
            assert!(parsed.body_text(0).unwrap().contains("a@b.example"));
            let inner = parsed.attachment(0).unwrap();
            assert!(inner.is_message());
            assert_eq!(inner.message().unwrap().subject(), Some("hi"));
            let mail = Mail::ask_back("owner@b.example", language, &words).write(now, 8);
            let parsed = MessageParser::default().parse(&mail).unwrap();
            assert_eq!(parsed.subject(), Some("confirm news abc"));
            assert!(parsed.body_text(0).unwrap().contains("confirm news abc"));
            let jis = parsed.content_type().unwrap().attribute("charset").unwrap();
            assert_eq!(jis == "ISO-2022-JP", language == Language::Japanese, "{jis}");
        }
    }
}
