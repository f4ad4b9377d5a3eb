//! Shared parts of the companion programs.
