//! The contract `blocking`.

use protocol::{Output, Session, Step};
use wasi::io::streams::{InputStream, OutputStream, StreamError};

use crate::{describe, write_all};

wit_bindgen::generate!({
    path: "../../../wit",
    world: "blocking-handler",
    with: {
        "wasi:clocks/monotonic-clock@0.2.12": wasi::clocks::monotonic_clock,
        "wasi:io/error@0.2.12": wasi::io::error,
        "wasi:io/poll@0.2.12": wasi::io::poll,
        "wasi:io/streams@0.2.12": wasi::io::streams,
        "wasi:sockets/network@0.2.12": wasi::sockets::network,
        "wasi:sockets/tcp@0.2.12": wasi::sockets::tcp,
    },
    pub_export_macro: true,
    default_bindings_module: "shell_p2::blocking",
});

pub use exports::sockserve::handler::blocking::Guest as Handler;

/// Runs a session over a connection, from start to end.
pub fn serve(
    session: &mut impl Session,
    input: &InputStream,
    output: &OutputStream,
) -> Result<(), String> {
    let mut out = Output::default();
    let mut step = session.open(&mut out);
    let mut ended = false;
    loop {
        step = deliver(session, step, &mut out, output)?;
        if step == Step::Close || ended {
            break;
        }
        let limit = u64::try_from(session.read_limit()).unwrap_or(u64::MAX);
        match input.blocking_read(limit) {
            Ok(chunk) if chunk.is_empty() => {}
            Ok(chunk) => step = session.receive(&chunk, &mut out),
            Err(StreamError::Closed) => {
                session.end(&mut out);
                ended = true;
            }
            Err(error) => return Err(describe("read", &error)),
        }
    }
    // This host sends what it has taken; one that forgets it with the stream
    // must be waited for.
    output
        .blocking_flush()
        .map_err(|error| describe("write", &error))
}

/// Prints and writes all that a session has to say, in as many pieces as it likes.
fn deliver(
    session: &mut impl Session,
    mut step: Step,
    out: &mut Output,
    output: &OutputStream,
) -> Result<Step, String> {
    loop {
        shell::print_log(&mut out.log);
        let bytes = out.bytes.take();
        write_all(output, &bytes).map_err(|error| describe("write", &error))?;
        if step == Step::Close {
            return Ok(step);
        }
        step = session.more(out);
        if out.bytes.is_empty() {
            return Ok(step);
        }
    }
}
