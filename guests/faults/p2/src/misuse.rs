//! Uses of streams that no handler would make, but that do not trap.

use std::fmt::Debug;
use wasi::io::poll::poll;
use wasi::io::streams::{InputStream, OutputStream, StreamError};
use wasi::sockets::tcp::{ShutdownType, TcpSocket};

/// Writes `ready`, expects eight bytes from the peer, and uses the streams of the
/// connection in strange ways. Prints one line `name=value` per use. The value is what
/// was returned, `closed` or `failed`.
pub fn misuse(socket: &TcpSocket, input: &InputStream, output: &OutputStream) {
    say("ready", output.blocking_write_and_flush(b"ready\r\n"));
    let some = [
        output.subscribe(),
        input.subscribe(),
        output.subscribe(),
        socket.subscribe(),
    ];
    say("polled", Ok(poll(&[&some[0], &some[2], &some[3]])));
    some[1].block();
    drop(some);
    say("read-none", input.read(0).map(|bytes| bytes.len()));
    say("skip-none", input.skip(0));
    say("skip", input.blocking_skip(2));
    say("read", input.blocking_read(1));
    say("splice-none", output.splice(input, 0));
    say("splice", output.blocking_splice(input, 2));
    say("splice-all", output.splice(input, u64::MAX));
    say("splice-empty", output.splice(input, u64::MAX));
    say("read-empty", input.read(u64::MAX).map(|bytes| bytes.len()));
    say("skip-empty", input.skip(u64::MAX));
    say("check-write", output.check_write());
    say("write-none", output.write(&[]));
    say("write", output.write(b"x"));
    say("zeroes-none", output.write_zeroes(0));
    say("zeroes", output.write_zeroes(2));
    say("blocking-zeroes", output.blocking_write_zeroes_and_flush(2));
    say("flush", output.flush());
    say("flush-again", output.flush());
    say("blocking-flush", output.blocking_flush());

    let shut = |how| socket.shutdown(how).map_err(|_| StreamError::Closed);
    say("shutdown-receive", shut(ShutdownType::Receive));
    input.subscribe().block();
    say("closed-read", input.read(1).map(|bytes| bytes.len()));
    say(
        "closed-blocking-read",
        input.blocking_read(1).map(|bytes| bytes.len()),
    );
    say("closed-skip", input.blocking_skip(1));
    say("closed-splice", output.splice(input, 1));
    say("shutdown-send", shut(ShutdownType::Send));
    output.subscribe().block();
    say("closed-check-write", output.check_write());
    say("closed-write", output.write(b"x"));
    say("closed-zeroes", output.blocking_write_zeroes_and_flush(1));
    say("closed-blocking-splice", output.blocking_splice(input, 1));
    say("closed-blocking-flush", output.blocking_flush());
    say("shutdown-both", shut(ShutdownType::Both));
}

fn say(name: &str, result: Result<impl Debug, StreamError>) {
    match result {
        Ok(value) => println!("{name}={value:?}"),
        Err(StreamError::Closed) => println!("{name}=closed"),
        Err(StreamError::LastOperationFailed(_)) => println!("{name}=failed"),
    }
}
