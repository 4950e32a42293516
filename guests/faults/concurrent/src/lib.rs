//! Misbehaves under the contract `concurrent`, one way for each `MODE`.

mod sockets;

use faults_shared::{FAILURE, Fault, Mode, Request};
use shell_p3::{Handler, Streams, run};
use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::sockets::types::TcpSocket;

struct Component;

shell_p3::export!(Component);

/// An hour in nanoseconds.
const LONG: u64 = 3_600_000_000_000;

impl Handler for Component {
    async fn handle(socket: TcpSocket) -> Result<(), String> {
        let mode = shell::option("MODE")?;
        match mode {
            Mode::Block | Mode::Leak | Mode::ShutdownSend | Mode::Tick => {
                return Err(mode.refusal());
            }
            Mode::NeverRead => loop {
                wait_for(LONG).await;
            },
            _ => {}
        }
        let mut streams = Streams::new(&socket);
        if mode == Mode::Options {
            let answer = sockets::options(&socket).await;
            streams.output.write_all(answer.into_bytes()).await;
            return streams.finish(false).await;
        }
        let mut session = Fault::new(mode);
        let at_end_of_input = run(&mut session, &mut streams).await;
        let answer = match session.request {
            Some(Request::Fail) => return Err(FAILURE.to_owned()),
            Some(Request::Connect(address)) => sockets::connect(&address).await,
            Some(Request::Resolve(name)) => sockets::resolve(name).await,
            // Nothing must be written once a write has found that the peer is gone.
            Some(Request::Block | Request::Leak) | None => {
                return streams.finish(at_end_of_input).await;
            }
        };
        streams.output.write_all(answer.into_bytes()).await;
        streams.finish(at_end_of_input).await
    }
}
