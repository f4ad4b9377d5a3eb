//! The companion programs: small programs beside the server that keep IMail's names and switches.
//!
//! They work on the data directory alone, so they do their work whether the server runs or not; a running server sees
//! what they changed by itself.
//!
//! * [`addalias`]: adds, changes, deletes and lists aliases
//! * [`adddomain`]: adds, changes and deletes domains
//! * [`adduser`]: adds, changes and deletes users
//! * [`imail1`]: sends a message from the command line
//! * [`immsgexp`]: removes old messages
//! * [`isplcln`]: takes old logs and left-over spool files away
//! * [`mailall`]: sends a message to all users
//! * [`mbxcheck`]: verifies, dumps, rebuilds and repairs mailboxes
//! * [`post`]: messages that programs send
//! * [`program`]: what all of them share
//! * [`regback`]: backs the registry up and restores it

pub mod addalias;
pub mod adddomain;
pub mod adduser;
pub mod imail1;
pub mod immsgexp;
pub mod isplcln;
pub mod mailall;
pub mod mbxcheck;
pub mod post;
pub mod program;
pub mod regback;
