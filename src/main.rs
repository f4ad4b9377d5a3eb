//! The `imaild` program.
fn main() {}
