//! Mailing lists: who may post, what a post looks like to the members, and the list server's commands.
//!
//! Everything here decides on plain data and writes bytes; files are read by [`layout::list`], and what is decided is carried out by
//! [`crate::transport`]. In the order in which a post passes through: [`posting`] says who may post, [`subject`] reads and changes the
//! subject, [`header`] the other fields, [`merge`] puts the list's texts around the body. [`command`] and [`reply`] are the list server.
//!
//! # Failure
//! Nothing here fails on broken mail: what cannot be read is left as it is.

pub mod addresses;
pub mod bounce;
pub mod command;
pub mod confirm;
pub mod digest;
pub mod dmarc;
pub mod header;
pub mod list;
pub mod merge;
pub mod post;
pub mod posting;
pub mod reply;
pub mod server;
pub mod subject;
pub mod work;
