//! How users read their mail: POP3 and IMAP4.

pub mod imap;
pub mod pop3;
