//! `mbxcheck`: verifies, dumps, rebuilds and repairs mailboxes.

use std::process::ExitCode;

fn main() -> ExitCode {
    tools::mbxcheck::main()
}
