//! What is printed.

use crate::wasi::cli0_2_12::{stderr, stdout};
use crate::wasi::io::streams::OutputStream;
use alloc::string::String;

/// The most bytes that one call writes.
const PIECE: usize = 4096;

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
