//! The `imaild` program.

fn main() -> std::process::ExitCode {
    imaild::command::main()
}
