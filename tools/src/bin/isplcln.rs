//! `isplcln`: takes old logs and left-over spool files away, as IMail's program of this name does.

use std::process::ExitCode;

fn main() -> ExitCode {
    tools::isplcln::main()
}
