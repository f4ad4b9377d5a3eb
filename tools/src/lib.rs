//! The companion programs: small programs beside the server that keep IMail's names and switches.
//!
//! They work on the data directory alone, so they do their work whether the server runs or not; a running server sees
//! what they changed by itself.
//!
//! * [`addalias`]: adds, changes, deletes and lists aliases
//! * [`adduser`]: adds, changes and deletes users
//! * [`isplcln`]: takes old logs and left-over spool files away
//! * [`mbxcheck`]: verifies, dumps, rebuilds and repairs mailboxes
//! * [`program`]: what all of them share

pub mod addalias;
pub mod adduser;
pub mod isplcln;
pub mod mbxcheck;
pub mod program;
