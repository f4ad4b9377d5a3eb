//! The program `regback`.

use std::process::ExitCode;

fn main() -> ExitCode {
    tools::regback::main()
}
