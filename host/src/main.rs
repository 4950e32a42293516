//! The `sockserve` command. All of it is in [`sockserve::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    sockserve::cli::main()
}
