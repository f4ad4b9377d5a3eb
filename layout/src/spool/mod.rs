//! The spool: messages that wait, each a pair of files.
//!
//! `D<16 hex>.SMD` is the message, `Q<16 hex>.SMD` its envelope. While a message is still arriving the envelope is called
//! `T<16 hex>.SMD`; renaming it to `Q` is what accepts the message (IMail 7.1 and 8.2 guides, "Spool files").
//!
//! Cut by question: [`qfile`] is what an envelope says, [`id`] what files are called and how no id is given twice,
//! [`store`] what is done to the files and in which order.

pub mod clean;
pub mod dsn;
pub mod id;
pub mod qfile;
pub mod store;
