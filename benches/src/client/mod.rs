//! The clients: one thread, one epoll descriptor, buffers that are used again. Every byte
//! that comes back is compared with what was sent.
//!
//! A client is no faster than the system calls that it makes: one to send and one to
//! receive per operation, and a share of an `epoll_wait`. A native server makes the same
//! ones, so where messages are small the client is the limit as often as the server.

pub(crate) mod chat;
pub(crate) mod connecting;
pub(crate) mod datagrams;
pub(crate) mod events;
pub(crate) mod pattern;
pub(crate) mod ping_pong;
pub(crate) mod socket;
pub(crate) mod streaming;

use std::time::Duration;

/// What a client has done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    /// How many operations were finished.
    pub(crate) operations: u64,
    /// How long they took all together, with those that were under way at the end.
    pub(crate) elapsed: Duration,
    /// How many datagrams were lost, and sent again.
    pub(crate) lost: u64,
}

#[cfg(test)]
mod tests {
    use super::socket::Place;
    use super::{connecting, datagrams, ping_pong, streaming};
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, UdpSocket};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    const WINDOW: Duration = Duration::from_millis(20);

    /// Echoes to the end. The byte with this number comes back changed.
    fn echo(mut stream: impl Read + Write, wrong: Option<usize>) {
        let (mut buffer, mut count) = (vec![0; 64 << 10], 0);
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            if let Some(wrong) = wrong
                && (count..count + read).contains(&wrong)
            {
                buffer[wrong - count] ^= 1;
            }
            count += read;
            // The client may be gone already.
            if stream.write_all(&buffer[..read]).is_err() {
                return;
            }
        }
    }

    /// A stream to an echo in a thread of its own.
    fn echoed(wrong: Option<usize>) -> std::os::fd::OwnedFd {
        let (ours, theirs) = UnixStream::pair().unwrap();
        std::thread::spawn(move || echo(theirs, wrong));
        ours.into()
    }

    fn check(done: anyhow::Result<super::Done>, is_right: bool) {
        match done {
            Ok(done) => assert!(is_right && done.operations > 0, "{done:?}"),
            Err(error) => assert!(!is_right && error.to_string().contains("wrong"), "{error}"),
        }
    }

    #[test]
    fn a_wrong_byte_of_a_round_trip_is_seen() {
        for (wrong, is_right) in [(None, true), (Some(0), false), (Some(200), false)] {
            check(
                ping_pong::run(&[echoed(None), echoed(wrong)], 64, WINDOW),
                is_right,
            );
            check(ping_pong::run(&[echoed(wrong)], 300_000, WINDOW), is_right);
        }
    }

    #[test]
    fn a_wrong_byte_of_a_stream_is_seen() {
        for (wrong, is_right) in [(None, true), (Some(0), false), (Some(70_000), false)] {
            check(
                streaming::run(vec![echoed(None), echoed(wrong)], WINDOW),
                is_right,
            );
        }
    }

    #[test]
    fn a_wrong_byte_of_a_short_connection_is_seen() {
        for (wrong, is_right) in [(None, true), (Some(63), false)] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let place = place(listener.local_addr().unwrap());
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let stream = stream.unwrap();
                    std::thread::spawn(move || echo(stream, wrong));
                }
            });
            check(connecting::run(&place, WINDOW), is_right);
        }
    }

    #[test]
    fn a_wrong_datagram_is_seen_and_a_lost_one_is_sent_again() {
        let server = |wrong: Option<usize>, lost: Option<usize>| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let place = place(socket.local_addr().unwrap());
            std::thread::spawn(move || {
                let mut buffer = [0; 100];
                for number in 0.. {
                    let (length, peer) = socket.recv_from(&mut buffer).unwrap();
                    if Some(number) == wrong {
                        buffer[0] ^= 1;
                    }
                    if Some(number) != lost {
                        // A client that is gone takes nothing.
                        let _ = socket.send_to(&buffer[..length], peer);
                    }
                }
            });
            place
        };
        check(datagrams::run(&server(None, None), 64, WINDOW), true);
        check(datagrams::run(&server(Some(40), None), 64, WINDOW), false);
        let done = datagrams::run(&server(None, Some(40)), 64, WINDOW).unwrap();
        assert!(done.lost >= 1, "{done:?}");
    }

    fn place(address: SocketAddr) -> Place {
        let SocketAddr::V4(address) = address else {
            panic!("{address} is not of IPv4");
        };
        Place::Ip(address)
    }
}
