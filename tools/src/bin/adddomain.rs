//! The program `adddomain`.

use std::process::ExitCode;

fn main() -> ExitCode {
    tools::adddomain::main()
}
