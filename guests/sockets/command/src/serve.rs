//! A server by readiness: one wait over the listener and all its connections.

use crate::address;
use crate::of;
use crate::stream::Stream;
use crate::wait::Deadline;
use std::net::SocketAddr;
use wasi::io::poll::Pollable;
use wasi::sockets::instance_network::instance_network;
use wasi::sockets::network::ErrorCode;
use wasi::sockets::tcp::TcpSocket;
use wasi::sockets::tcp_create_socket::create_tcp_socket;

/// How many connections the system keeps until they are accepted.
const BACKLOG: u64 = 5;

/// Logs what any peer sends, and ends after so many have gone.
pub(crate) fn serve(at: SocketAddr, mut count: u64) -> Result<(), String> {
    let listener = listen(at)?;
    let mut open: Vec<(SocketAddr, Stream)> = Vec::new();
    while count > 0 {
        let things: Vec<Pollable> = open
            .iter()
            .map(|(_, stream)| stream.input.subscribe())
            .chain([listener.subscribe()])
            .collect();
        let ready = Deadline::after(None).wait(&things.iter().collect::<Vec<_>>());
        // They are children of what is dropped below.
        drop(things);
        for index in ready.into_iter().rev() {
            let Some((peer, stream)) = open.get(index) else {
                open.extend(accept(&listener)?);
                continue;
            };
            match stream.read() {
                Ok(Some(bytes)) => {
                    for line in String::from_utf8_lossy(&bytes).lines() {
                        println!("{peer} wrote: {line}");
                    }
                }
                ended => {
                    if let Err(error) = ended {
                        println!("{peer} {error}");
                    }
                    println!("{peer} disconnected");
                    drop(open.remove(index));
                    count -= 1;
                }
            }
        }
    }
    Ok(())
}

fn listen(at: SocketAddr) -> Result<TcpSocket, String> {
    let listener = of("socket", create_tcp_socket(address::family(at)))?;
    let bound = listener.start_bind(&instance_network(), address::ip_address(at));
    of("bind", bound)?;
    of("bind", listener.finish_bind())?;
    of("backlog", listener.set_listen_backlog_size(BACKLOG))?;
    of("listen", listener.start_listen())?;
    of("listen", listener.finish_listen())?;
    let own = of("local address", listener.local_address())?;
    println!("listening {}", address::socket_addr(own));
    Ok(listener)
}

/// Takes a connection. Returns `None` if there is none by now.
fn accept(listener: &TcpSocket) -> Result<Option<(SocketAddr, Stream)>, String> {
    match listener.accept() {
        Ok((socket, input, output)) => {
            let peer = of("remote address", socket.remote_address())?;
            let stream = Stream {
                input,
                output,
                socket,
            };
            Ok(Some((address::socket_addr(peer), stream)))
        }
        Err(ErrorCode::WouldBlock | ErrorCode::ConnectionAborted) => Ok(None),
        Err(code) => of("accept", Err(code)),
    }
}
