//! Misbehaves under the contract `concurrent`, in one way per `MODE` and per `HAND_OVER`.

mod sockets;

use faults_shared::{FAILURE, FaultProtocol, Manner, Mode, Request};
use sockserve_handler::connection_info::lines;
use sockserve_handler::hand_over::{self, ConnectionId, HandOver, WitState};
use sockserve_handler::p3::concurrent::{
    Draining, Handler, Ran, Streams, connection, connection_info, peer, run,
};
use std::time::Duration;
use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::sockets::types::TcpSocket;

struct Component;

sockserve_handler::p3::concurrent::export!(Component);
sockserve_handler::hand_over::export!(Component);
sockserve_handler::rolling_hand_over!(faults_shared::is_rolling);

/// An hour in nanoseconds.
const LONG: u64 = 3_600_000_000_000;

impl Handler for Component {
    async fn handle(socket: TcpSocket) -> Result<(), String> {
        let mode = sockserve_handler::option("MODE")?;
        let manner = manner()?;
        match mode {
            Mode::Block
            | Mode::Eager
            | Mode::Leak
            | Mode::Misuse
            | Mode::Random
            | Mode::ShutdownSend
            | Mode::Tick => Err(mode.refusal()),
            Mode::NeverRead => loop {
                wait_for(LONG).await;
            },
            Mode::Options => {
                let mut streams = Streams::new(&socket);
                let answer = sockets::options(&socket).await;
                streams.output.write_all(answer.into_bytes()).await;
                streams.finish(false).await
            }
            Mode::Describe => {
                let mut streams = Streams::new(&socket);
                let answer = lines(connection_info(&socket));
                streams.output.write_all(answer.into_bytes()).await;
                streams.finish(false).await
            }
            _ => serve_conversation(mode, manner, &socket).await,
        }
    }
}

impl HandOver for Component {
    fn hand_over(connection: ConnectionId) -> Option<WitState> {
        let state = hand_over::take_given_up(connection)?;
        manner().ok()?.give_up(state).map(WitState::from)
    }

    fn accept(connection: ConnectionId, state: WitState) -> Result<(), String> {
        let mode = sockserve_handler::option("MODE")?;
        let manner = manner()?;
        if manner == Manner::WaitAccept {
            // This waits in a call of WASI 0.2, so it stops the instance and its event loop.
            std::thread::sleep(Duration::from_secs(3600));
        }
        let state = manner.accept(state.into())?;
        hand_over::accept(&FaultProtocol { mode }, connection, state)
    }
}

/// Reads the option `HAND_OVER`.
fn manner() -> Result<Manner, String> {
    match sockserve_handler::option("HAND_OVER")? {
        manner @ Manner::Hold => Err(manner.refusal()),
        manner => Ok(manner),
    }
}

async fn serve_conversation(mode: Mode, manner: Manner, socket: &TcpSocket) -> Result<(), String> {
    let id = connection(socket);
    let protocol = FaultProtocol { mode };
    let mut talk = hand_over::open_conversation(&protocol, id, || peer(socket))?;
    let draining = match manner {
        Manner::Ignore => Draining::never(),
        _ => Draining::new(id),
    };
    let mut streams = Streams::new(socket);
    let Ran::Done { at_end_of_input } = run(&mut talk, &mut streams, &draining).await else {
        hand_over::give_up(id, hand_over::save::<FaultProtocol>(&mut talk));
        return Ok(());
    };
    let answer = match talk.session.request.take() {
        Some(Request::Fail) => return Err(FAILURE.to_owned()),
        Some(Request::Connect(address)) => Some(sockets::connect(&address).await),
        Some(Request::Resolve(name)) => Some(sockets::resolve(name).await),
        // After a write that has found that the peer is gone, nothing may be written.
        Some(Request::Block | Request::Leak | Request::Misuse | Request::Random(_)) | None => None,
    };
    if let Some(answer) = answer {
        streams.output.write_all(answer.into_bytes()).await;
    }
    streams.finish(at_end_of_input).await
}
