//! Misbehaves under the contract `blocking`, one way for each `MODE`.

use faults_p2::{Job, options};
use faults_shared::{FAILURE, Fault, Mode, Request};
use shell_p2::blocking::{Handler, serve};
use shell_p2::{CHUNK, describe, write_all};
use wasi::clocks::monotonic_clock::subscribe_duration;
use wasi::io::streams::{InputStream, OutputStream, StreamError};
use wasi::sockets::tcp::{ShutdownType, TcpSocket};

struct Component;

shell_p2::blocking::export!(Component);

/// An hour in nanoseconds.
const LONG: u64 = 3_600_000_000_000;

impl Handler for Component {
    fn handle(socket: TcpSocket, input: InputStream, output: OutputStream) -> Result<(), String> {
        match shell::option("MODE")? {
            mode @ (Mode::Block | Mode::Leak | Mode::Tick) => Err(mode.refusal()),
            Mode::NeverRead => loop {
                subscribe_duration(LONG).block();
            },
            Mode::Options => write(&output, &options(&socket)),
            Mode::ShutdownSend => {
                write(&output, "bye\r\n")?;
                if let Err(code) = socket.shutdown(ShutdownType::Send) {
                    return Err(format!("shutdown: {}", code.name()));
                }
                println!("read {} bytes after shutdown", read_to_end(&input)?);
                Ok(())
            }
            mode => {
                let mut session = Fault::new(mode);
                serve(&mut session, &input, &output)?;
                match session.request {
                    Some(Request::Fail) => Err(FAILURE.to_owned()),
                    Some(Request::Connect(address)) => write(&output, &run(Job::connect(&address))),
                    Some(Request::Resolve(name)) => write(&output, &run(Job::resolve(&name))),
                    Some(Request::Block | Request::Leak) | None => Ok(()),
                }
            }
        }
    }
}

fn run(job: Result<Job, String>) -> String {
    match job {
        Ok(mut job) => loop {
            if let Some(answer) = job.poll() {
                return answer;
            }
            job.subscribe().block();
        },
        Err(answer) => answer,
    }
}

fn write(output: &OutputStream, text: &str) -> Result<(), String> {
    write_all(output, text.as_bytes())
        .and_then(|()| output.blocking_flush())
        .map_err(|error| describe("write", &error))
}

fn read_to_end(input: &InputStream) -> Result<usize, String> {
    let mut total = 0;
    loop {
        match input.blocking_read(CHUNK as u64) {
            Ok(chunk) => total += chunk.len(),
            Err(StreamError::Closed) => return Ok(total),
            Err(error) => return Err(describe("read", &error)),
        }
    }
}
