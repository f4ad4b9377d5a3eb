//! The program `imail1`.

use std::process::ExitCode;

fn main() -> ExitCode {
    tools::imail1::main()
}
