//! `wasi:cli`'s three streams, as they are.

use crate::Component;
use crate::exports::wasi::cli0_2_12::{stderr, stdin, stdout};
use crate::exports::wasi::io::streams::{InputStream, OutputStream};
use crate::streams::{Input, Output};
use crate::wasi::cli0_2_12 as system;

impl stdin::Guest for Component {
    fn get_stdin() -> InputStream {
        InputStream::new(Input::Other(system::stdin::get_stdin()))
    }
}

impl stdout::Guest for Component {
    fn get_stdout() -> OutputStream {
        OutputStream::new(Output::Other(system::stdout::get_stdout()))
    }
}

impl stderr::Guest for Component {
    fn get_stderr() -> OutputStream {
        OutputStream::new(Output::Other(system::stderr::get_stderr()))
    }
}
