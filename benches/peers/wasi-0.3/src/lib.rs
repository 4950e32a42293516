//! An echo server on WASI 0.3: one task per connection, in one instance.

use wasip3::cli::stdout;
use wasip3::sockets::types::{IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, TcpSocket};
use wit_bindgen::StreamResult;

struct Program;

wasip3::cli::command::export!(Program);

/// The size of a connection's buffer at first, in bytes. It is small because many
/// connections are idle.
const SMALL: usize = 2 * 1024;

/// The size of the buffer of a peer that has filled the small one.
const LARGE: usize = 64 * 1024;

impl wasip3::exports::cli::run::Guest for Program {
    async fn run() -> Result<(), ()> {
        let listener = TcpSocket::create(IpAddressFamily::Ipv4).map_err(drop)?;
        let loopback = Ipv4SocketAddress {
            port: 0,
            address: (127, 0, 0, 1),
        };
        listener
            .bind(IpSocketAddress::Ipv4(loopback))
            .map_err(drop)?;
        listener.set_listen_backlog_size(1024).map_err(drop)?;
        let mut accepted = listener.listen().map_err(drop)?;
        let IpSocketAddress::Ipv4(address) = listener.get_local_address().map_err(drop)? else {
            return Err(());
        };
        say(format!("listening tcp://127.0.0.1:{}\n", address.port)).await;
        while let Some(socket) = accepted.next().await {
            wit_bindgen::spawn_local(echo(socket));
        }
        Ok(())
    }
}

/// Echoes until the peer half-closes.
async fn echo(socket: TcpSocket) {
    let (mut input, received) = socket.receive();
    let (mut output, data) = wasip3::wit_stream::new();
    let sent = socket.send(data);
    let mut buffer = Vec::with_capacity(SMALL);
    loop {
        let (result, chunk) = input.read(buffer).await;
        if !matches!(result, StreamResult::Complete(_)) {
            break;
        }
        let filled = chunk.len() == chunk.capacity();
        let rest = output.write_all(chunk).await;
        if !rest.is_empty() {
            break;
        }
        buffer = rest;
        if filled && buffer.capacity() < LARGE {
            buffer = Vec::with_capacity(LARGE);
        }
    }
    drop(output);
    let _ = sent.await;
    drop(input);
    let _ = received.await;
}

/// Writes a line to standard output.
async fn say(line: String) {
    let (mut output, lines) = wasip3::wit_stream::new();
    let writing = stdout::write_via_stream(lines);
    output.write_all(line.into_bytes()).await;
    drop(output);
    let _ = writing.await;
}
