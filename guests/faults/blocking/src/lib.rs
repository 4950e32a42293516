//! Misbehaves under the contract `blocking`, in one way per `MODE` and per `HAND_OVER`.

use faults_p2::{Job, LONG, misuse, options};
use faults_shared::{FAILURE, FaultProtocol, Manner, Mode, Request};
use sockserve_handler::End;
use sockserve_handler::connection_info::lines;
use sockserve_handler::hand_over::{self, ConnectionId, HandOver, WitState};
use sockserve_handler::p2::blocking::{Draining, Handler, connection, run};
use sockserve_handler::p2::{CHUNK, connection_info, describe, peer, write_all};
use wasi::clocks::monotonic_clock::subscribe_duration;
use wasi::io::streams::{InputStream, OutputStream, StreamError};
use wasi::sockets::tcp::{ShutdownType, TcpSocket};

struct Component;

sockserve_handler::p2::blocking::export!(Component);
sockserve_handler::hand_over::export!(Component);

impl Handler for Component {
    fn handle(socket: TcpSocket, input: InputStream, output: OutputStream) -> Result<(), String> {
        let mode = sockserve_handler::option("MODE")?;
        let manner = manner()?;
        match mode {
            Mode::Block | Mode::Eager | Mode::Leak | Mode::Random | Mode::Tick => {
                Err(mode.refusal())
            }
            Mode::NeverRead => loop {
                subscribe_duration(LONG).block();
            },
            Mode::Options => write(&output, &options(&socket)),
            Mode::Describe => write(&output, &lines(connection_info(&socket))),
            Mode::ShutdownSend => {
                write(&output, "bye\r\n")?;
                if let Err(code) = socket.shutdown(ShutdownType::Send) {
                    return Err(format!("shutdown: {}", code.name()));
                }
                println!("read {} bytes after shutdown", read_to_end(&input)?);
                Ok(())
            }
            mode => serve_conversation(mode, manner, &socket, &input, &output),
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
            subscribe_duration(LONG).block();
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

fn serve_conversation(
    mode: Mode,
    manner: Manner,
    socket: &TcpSocket,
    input: &InputStream,
    output: &OutputStream,
) -> Result<(), String> {
    let id = connection(socket);
    let protocol = FaultProtocol { mode };
    let mut talk = hand_over::open_conversation(&protocol, id, || peer(socket))?;
    let mut draining = match manner {
        Manner::Ignore => Draining::never(),
        _ => Draining::new(id),
    };
    if run(&mut talk, &mut draining, input, output)? == End::HandOver {
        hand_over::give_up(id, hand_over::save::<FaultProtocol>(&mut talk));
        return Ok(());
    }
    match talk.session.request {
        Some(Request::Fail) => Err(FAILURE.to_owned()),
        Some(Request::Connect(address)) => write(output, &answer(Job::connect(&address))),
        Some(Request::Resolve(name)) => write(output, &answer(Job::resolve(&name))),
        Some(Request::Misuse) => {
            misuse(socket, input, output);
            Ok(())
        }
        Some(Request::Block | Request::Leak | Request::Random(_)) | None => Ok(()),
    }
}

fn answer(job: Result<Job, String>) -> String {
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
