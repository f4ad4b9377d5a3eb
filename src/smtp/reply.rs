//! What we answer, in one table: IMail's words where a real session shows them (8.15), behind the enhanced code of RFC 3463.

use super::command::Bad;
use crate::transport::Refusal;
use crate::transport::bounce::MAILBOX_FULL;
use crate::transport::etrn::Asked;
use crate::transport::route::Unroutable;
use std::io;

/// The reply to a recipient or a message that is not taken.
pub fn refusal(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Recipient(address, why) => match why {
            Unroutable::NotLocal(domain) => format!("550 5.7.1 not local host {domain}, not a gateway"),
            Unroutable::UnknownUser => format!("550 5.1.1 unknown user <{address}>"),
            Unroutable::Syntax => format!("501 5.1.3 <{address}> is no address"),
            Unroutable::Unavailable(why) => format!("451 4.3.0 <{address}>: {why}"),
        },
        Refusal::MailboxFull(address) => format!("552 5.2.2 {MAILBOX_FULL}: <{address}>"),
        Refusal::TooLarge => text::TOO_LARGE.to_owned(),
        Refusal::Post(refused) => crate::transport::bounce::post_reply(*refused).to_owned(),
        Refusal::Hops => text::HOPS.to_owned(),
        Refusal::NotStored => text::NOT_STORED.to_owned(),
    }
}

/// The reply to a line that is no command.
pub fn bad(bad: Bad) -> String {
    match bad {
        Bad::Unknown => text::UNKNOWN.to_owned(),
        Bad::Web => text::WEB.to_owned(),
        Bad::Argument(what) => format!("501 5.5.4 {what}"),
        Bad::Parameter => text::PARAMETER.to_owned(),
        Bad::Utf8 => text::UTF8.to_owned(),
        Bad::Chunk => text::CHUNK.to_owned(),
    }
}

/// The reply to ETRN (RFC 1985 §5.3).
pub fn etrn(node: &str, asked: &io::Result<Asked>) -> String {
    match asked {
        Ok(Asked::UnderWay) => format!("250 2.0.0 ok, queuing for node {node} started"),
        Ok(Asked::Nothing) => format!("251 2.0.0 ok, no messages waiting for node {node}"),
        Ok(Asked::Some) => format!("252 2.0.0 ok, pending messages for node {node} started"),
        Ok(Asked::Started(count)) => {
            format!("253 2.0.0 ok, {count} pending messages for node {node} started")
        }
        Err(_) => format!("458 4.3.0 unable to queue messages for node {node}"),
        Ok(Asked::NotServed) => format!("459 4.7.1 node {node} not allowed: no mail is kept for it here"),
    }
}

/// The fixed replies.
pub mod text {
    /// After MAIL and RSET.
    pub const OK: &str = "250 2.1.0 ok";
    /// After NOOP.
    pub const NOOP: &str = "250 2.0.0 ok";
    /// After RSET.
    pub const RESET: &str = "250 2.0.0 ok";
    /// Asks for the message.
    pub const DATA: &str = "354 ok, send it; end with <CRLF>.<CRLF>";
    /// The message is ours.
    pub const QUEUED: &str = "250 2.0.0 Message queued";
    /// TLS begins behind this line.
    pub const START_TLS: &str = "220 2.0.0 ready to start TLS";
    /// TLS was begun before.
    pub const IN_TLS: &str = "503 5.5.1 TLS is active already";
    /// Logged in.
    pub const AUTHENTICATED: &str = "235 2.7.0 authenticated";
    /// Farewell.
    pub const GOODBYE: &str = "221 2.0.0 Goodbye";
    /// Out of order.
    pub const SEQUENCE: &str = "503 5.5.1 bad sequence of commands";
    /// Not a command.
    pub const UNKNOWN: &str = "500 5.5.2 unknown command";
    /// VRFY says nothing about users.
    pub const VERIFY: &str = "252 2.5.2 send some mail, and it will be tried";
    /// EXPN is off.
    pub const EXPAND: &str = "502 5.5.1 not available";
    /// A list of the commands.
    pub const HELP: &str =
        "214 2.0.0 HELO EHLO MAIL RCPT DATA BDAT RSET NOOP STARTTLS AUTH VRFY ETRN HELP QUIT";
    /// A parameter that was not offered.
    pub const PARAMETER: &str = "555 5.5.4 parameter not known";
    /// Only base64 is taken.
    pub const BASE64: &str = "501 5.5.2 this is not base64";
    /// The client took AUTH back.
    pub const AUTH_CANCELLED: &str = "501 5.7.0 authentication cancelled";
    /// Wrong name or password.
    pub const AUTH_FAILED: &str = "535 5.7.8 authentication failed";
    /// A mechanism that was not offered.
    pub const AUTH_MECHANISM: &str = "504 5.5.4 this mechanism is not offered";
    /// No plain passwords over a plain connection from outside.
    pub const AUTH_PRIVATE: &str = "530 5.7.0 a login needs STARTTLS or a local network";
    /// Submission without login.
    pub const AUTH_REQUIRED: &str = "530 5.7.0 log in first";
    /// Too many failures.
    pub const AUTH_ENOUGH: &str = "421 4.7.0 too many failed logins";
    /// Too many errors.
    pub const JUNK: &str = "421 4.7.0 too many errors";
    /// The client was silent.
    pub const SLOW: &str = "421 4.4.2 nothing was heard for too long";
    /// The server stops.
    pub const STOPPING: &str = "421 4.3.2 the service is stopping, try again later";
    /// The spool cannot be written, so no session begins (RFC 5321 §3.8).
    pub const NO_SPOOL: &str = "421 4.3.0 no mail can be stored now, try again later";
    /// A line that is too long.
    pub const LINE: &str = "500 5.5.2 line too long";
    /// The message is larger than it may be.
    pub const TOO_LARGE: &str = crate::transport::bounce::TOO_LARGE;
    /// More recipients than one message may have.
    pub const RECIPIENTS: &str = "452 4.5.3 too many recipients";
    /// An address in UTF-8 without SMTPUTF8.
    pub const UTF8: &str = "553 5.6.7 an address that is not ASCII needs SMTPUTF8";
    /// BDAT without a size.
    pub const CHUNK: &str = "421 4.5.4 BDAT takes a number of octets and perhaps LAST; without it nothing that follows can be read";
    /// Too many sessions of one account.
    pub const ACCOUNT_SESSIONS: &str = "421 4.7.0 too many sessions of this account";
    /// Too many recipients of one account.
    pub const ACCOUNT_RECIPIENTS: &str =
        "452 4.7.1 this account had too many recipients in the last hour, try again later";
    /// Lines that are too long for mail.
    pub const LONG_LINE: &str = "550 5.6.0 a line is longer than 998 octets";
    /// A web browser calls.
    pub const WEB: &str = "421 4.7.0 this is a mail server";
    /// The kill file names the sender.
    pub const KILLED: &str = "501 5.1.8 unacceptable mail address";
    /// Line feeds without carriage returns.
    pub const BARE_LF: &str = "550 5.6.0 a line feed without a carriage return is not taken";
    /// It went around in circles.
    pub const HOPS: &str = "554 5.4.6 too many hops";
    /// It could not be stored.
    pub const NOT_STORED: &str = "451 4.3.0 the message could not be stored, try again later";
    /// DATA without a recipient.
    pub const NO_RECIPIENT: &str = "554 5.5.1 no valid recipients";
}
