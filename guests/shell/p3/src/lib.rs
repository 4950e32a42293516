//! The shell for the contract on WASI 0.3: bindings of `concurrent`, and what
//! carries a [`protocol::Session`] over it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use protocol::{Output, Session, Step};
use wasip3::sockets::types::{ErrorCode, IpSocketAddress, TcpSocket};
use wit_bindgen::{FutureReader, StreamReader, StreamResult, StreamWriter};

wit_bindgen::generate!({
    path: "../../../wit",
    world: "concurrent-handler",
    with: {
        "wasi:clocks/types@0.3.0": wasip3::clocks::types,
        "wasi:sockets/types@0.3.0": wasip3::sockets::types,
    },
    pub_export_macro: true,
    default_bindings_module: "shell_p3",
});

pub use exports::sockserve::handler::concurrent::Guest as Handler;

/// How a direction of a connection ended.
type End = FutureReader<Result<(), ErrorCode>>;

/// Both directions of a connection.
pub struct Streams {
    pub input: StreamReader<u8>,
    pub output: StreamWriter<u8>,
    received: End,
    sent: End,
}

impl Streams {
    /// The streams of a socket, which has them once.
    pub fn new(socket: &TcpSocket) -> Streams {
        let (input, received) = socket.receive();
        let (output, data) = wasip3::wit_stream::new();
        let sent = socket.send(data);
        Streams {
            input,
            output,
            received,
            sent,
        }
    }

    /// Closes both directions in order: ends the output, and waits until it is
    /// sent but not for the peer. `at_end_of_input` is whether the
    /// input was read to its end, which then counts as well. The error is one
    /// line for the host's log.
    pub async fn finish(self, at_end_of_input: bool) -> Result<(), String> {
        drop(self.output);
        if at_end_of_input {
            ended("receive", self.received).await?;
        }
        ended("send", self.sent).await
    }
}

async fn ended(what: &str, end: End) -> Result<(), String> {
    end.await
        .map_err(|code| format!("{what}: {}", error_name(&code)))
}

/// The peer's address. The error is one line for the host's log.
pub fn peer(socket: &TcpSocket) -> Result<SocketAddr, String> {
    match socket.get_remote_address() {
        Ok(address) => Ok(socket_addr(address)),
        Err(code) => Err(format!("get-remote-address: {}", error_name(&code))),
    }
}

/// A WASI address as the standard library has it, whose text form is `HOST:PORT`.
pub fn socket_addr(address: IpSocketAddress) -> SocketAddr {
    match address {
        IpSocketAddress::Ipv4(address) => {
            let (a, b, c, d) = address.address;
            (Ipv4Addr::new(a, b, c, d), address.port).into()
        }
        IpSocketAddress::Ipv6(address) => {
            let (a, b, c, d, e, f, g, h) = address.address;
            let ip = Ipv6Addr::new(a, b, c, d, e, f, g, h);
            SocketAddrV6::new(ip, address.port, address.flow_info, address.scope_id).into()
        }
    }
}

/// Runs a session over a connection, from start to end.
pub async fn serve(session: &mut impl Session, socket: &TcpSocket) -> Result<(), String> {
    let mut streams = Streams::new(socket);
    let at_end_of_input = run(session, &mut streams).await;
    streams.finish(at_end_of_input).await
}

/// Runs a session until it wants to close. Says whether that was at the end of
/// the input.
pub async fn run(session: &mut impl Session, streams: &mut Streams) -> bool {
    let mut out = Output::default();
    let mut step = session.open(&mut out);
    loop {
        step = deliver(session, step, &mut out, &mut streams.output).await;
        if step == Step::Close {
            return false;
        }
        let chunk = Vec::with_capacity(session.read_limit().min(READ_AT_ONCE));
        let (result, chunk) = streams.input.read(chunk).await;
        if result == StreamResult::Dropped {
            session.end(&mut out);
            deliver(session, step, &mut out, &mut streams.output).await;
            return true;
        }
        if !chunk.is_empty() {
            step = session.receive(&chunk, &mut out);
        }
    }
}

/// What [`run`] reads at most at once, and so what an idle connection costs.
const READ_AT_ONCE: usize = 1024;

/// Prints and writes all that a session has to say, in as many pieces as it
/// likes. When the peer takes no more the connection is to be closed.
async fn deliver(
    session: &mut impl Session,
    mut step: Step,
    out: &mut Output,
    output: &mut StreamWriter<u8>,
) -> Step {
    loop {
        shell::print_log(&mut out.log);
        let bytes = out.bytes.take();
        if !bytes.is_empty() && !output.write_all(bytes).await.is_empty() {
            return Step::Close;
        }
        if step == Step::Close {
            return step;
        }
        step = session.more(out);
        if out.bytes.is_empty() {
            return step;
        }
    }
}

/// An error code as the WIT names it.
pub fn error_name(code: &ErrorCode) -> &'static str {
    match code {
        ErrorCode::AccessDenied => "access-denied",
        ErrorCode::NotSupported => "not-supported",
        ErrorCode::InvalidArgument => "invalid-argument",
        ErrorCode::OutOfMemory => "out-of-memory",
        ErrorCode::Timeout => "timeout",
        ErrorCode::InvalidState => "invalid-state",
        ErrorCode::AddressNotBindable => "address-not-bindable",
        ErrorCode::AddressInUse => "address-in-use",
        ErrorCode::RemoteUnreachable => "remote-unreachable",
        ErrorCode::ConnectionRefused => "connection-refused",
        ErrorCode::ConnectionBroken => "connection-broken",
        ErrorCode::ConnectionReset => "connection-reset",
        ErrorCode::ConnectionAborted => "connection-aborted",
        ErrorCode::DatagramTooLarge => "datagram-too-large",
        ErrorCode::Other(_) => "other",
    }
}
