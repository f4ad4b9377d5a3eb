//! `addalias`: adds, changes, deletes and lists aliases, as IMail's program of this name does.

use std::process::ExitCode;

fn main() -> ExitCode {
    tools::addalias::main()
}
