//! The formats of an IMail data directory, and the mechanics of reading and changing them safely.
//! No sockets, no async runtime.
