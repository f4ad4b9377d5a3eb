//! The program `immsgexp`.

use std::process::ExitCode;

fn main() -> ExitCode {
    tools::immsgexp::main()
}
