//! The command line: what its arguments say, and what it prints. The crates beside this
//! one take this file too, each with bindings of its own.

use crate::wasi::cli0_2_12::environment::get_arguments;
use crate::wasi::cli0_2_12::exit::exit;
use crate::wasi::cli0_2_12::{stderr, stdout};
use crate::wasi::io::streams::OutputStream;
use alloc::string::String;
use runner_options::{Options, Request, Transport, USAGE};

/// The most bytes that one call writes.
const PIECE: usize = 4096;

/// The name of the service, and the options. `--help` is answered here, and ends the
/// command. The error is one line.
pub(crate) fn options(transport: Transport) -> Result<(String, Options), String> {
    let mut arguments = get_arguments().into_iter();
    let name = runner_options::service_name(arguments.next());
    match runner_options::parse(transport, arguments)? {
        Request::Serve(options) => Ok((name, options)),
        Request::Help => {
            print(USAGE.into());
            exit(Ok(()));
            Err("exit has returned".into())
        }
    }
}

/// Prints a line to standard output.
pub(crate) fn print(line: String) {
    write(&stdout::get_stdout(), line);
}

/// Prints a line to standard error.
pub(crate) fn print_error(line: String) {
    write(&stderr::get_stderr(), line);
}

/// Nobody can be told of an error, so it is ignored.
fn write(output: &OutputStream, mut line: String) {
    line.push('\n');
    for piece in line.as_bytes().chunks(PIECE) {
        let _ = output.blocking_write_and_flush(piece);
    }
}
