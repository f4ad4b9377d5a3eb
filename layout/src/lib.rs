//! The formats of an IMail data directory, and the mechanics of reading and changing them safely.
//! No sockets, no async runtime.

pub mod disk;
pub mod group;
pub mod group_file;
pub mod index;
pub mod limits;
pub mod list;
pub mod lock;
pub mod logdate;
pub mod logline;
pub mod mailbox;
pub mod mbx;
pub mod mime;
pub mod name;
pub mod own;
pub mod owner;
pub mod parallel;
pub mod password;
pub mod path;
pub mod registry;
pub mod root;
pub mod rules;
pub mod spool;
pub mod syslog;
pub mod text;
pub mod user;
