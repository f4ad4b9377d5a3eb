//! What is inside a message: MIME structure, envelope, character sets.
//!
//! Everything here is a pure function of the bytes of a whole message with CRLF line ends. Nothing fails on broken
//! mail, nothing is decoded unless the function says so, and every module names its limits.

pub mod binary;
pub mod bodystructure;
pub mod charset;
pub mod date;
pub mod encode;
pub mod envelope;
pub mod header;
pub mod preview;
pub mod search;
pub mod section;
pub mod string;
pub mod structure;
pub mod subject;
pub mod text;
pub mod thread;
