//! `adduser`: adds, changes and deletes users, as IMail's program of this name does.

use std::process::ExitCode;

/// IMail's exit codes, the other way round than usual: 1 = something was done, 0 = nothing (IMail 7.1 to 12.5.5 help).
fn main() -> ExitCode {
    let done = tools::adduser::run(std::env::args_os().skip(1));
    ExitCode::from(u8::from(done))
}
