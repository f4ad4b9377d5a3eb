//! The index beside a mailbox: what a mail client needs and the mailbox file cannot say.
//!
//! | file | what it is | if it is lost |
//! | --- | --- | --- |
//! | `<name>.rsx` | [`snapshot`]: one record a message, replaced whole | built again from the mailbox; flags other than `\Seen` are gone |
//! | `<name>.rsx.1` | the snapshot before, for flags should the newer be damaged | nothing |
//! | `<name>.rsj` | [`journal`]: what changed since the snapshot | as the snapshot |
//! | `<name>.rsu` | [`identity`]: UIDVALIDITY and the UIDs that were ever given | clients fetch the mailbox again |
//!
//! All of them are written only under the lock of the mailbox file.

pub mod identity;
pub mod journal;
pub mod reconcile;
pub mod removals;
pub mod snapshot;
pub mod totals;
pub mod uids;
