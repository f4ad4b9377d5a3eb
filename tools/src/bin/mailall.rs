//! The program `mailall`.

use std::process::ExitCode;

fn main() -> ExitCode {
    tools::mailall::main()
}
