//! Sessions on real sockets.
