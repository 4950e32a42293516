//! Who may send datagrams.

use std::net::{SocketAddr, UdpSocket};

use super::{check_sums, refusals};
use crate::harness::control::Controlled;
use crate::harness::server::CACHE;
use crate::harness::{Guest, PATIENCE};

#[track_caller]
fn start(guest: Guest, dispatch: &str, options: &[&str]) -> Controlled {
    let options = [&["--cache", CACHE], options].concat();
    Controlled::listening(guest, dispatch, &["udp://127.0.0.1:0"], &options)
}

/// A peer at this address.
fn peer(source: [u8; 4], server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::from((source, 0))).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Sends a datagram that is answered.
#[track_caller]
fn check_echo(peer: &UdpSocket, data: &[u8]) {
    peer.send(data).unwrap();
    let mut answer = [0; 100];
    let length = peer.recv(&mut answer).unwrap();
    assert_eq!(&answer[..length], data);
}

for_each_pair! { echo_datagrams: what_a_denied_sender_sends_reaches_no_guest }
fn what_a_denied_sender_sends_reaches_no_guest(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, &["--deny", "127.0.0.2"]);
    let address = controlled.server.address();
    let denied = peer([127, 0, 0, 2], address);
    let other = peer([127, 0, 0, 1], address);
    for number in 0..5u8 {
        denied.send(b"let me in").unwrap();
        check_echo(&other, &[number]);
    }
    check_sums(&controlled, 10, "rules", 5);
    denied.set_nonblocking(true).unwrap();
    assert!(denied.recv(&mut [0]).is_err());
    let finished = controlled.server.stop();
    let (said, sums) = refusals(&finished);
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(sums[0].number("count"), Some(4));
}

for_each_pair! {
    echo_datagrams [datagram_poll, datagram_concurrent_poll, datagram_threaded]:
    a_sender_beyond_its_rate_is_not_heard
}
fn a_sender_beyond_its_rate_is_not_heard(guest: Guest, dispatch: &str) {
    let rate = [
        "--connections-per-second-per-source",
        "1",
        "--burst-per-source",
        "5",
    ];
    let controlled = start(guest, dispatch, &rate);
    let address = controlled.server.address();
    let fast = peer([127, 0, 0, 2], address);
    // More than a burst, in less time than a machine needs for seconds of them.
    for _ in 0..100 {
        fast.send(b"hello").unwrap();
    }
    let mut answer = [0; 100];
    for _ in 0..5 {
        assert_eq!(fast.recv(&mut answer).unwrap(), 5);
    }
    check_echo(&peer([127, 0, 0, 1], address), b"another source");
    let status = controlled.wait_for_status("all of them", |status| status["accepted"] == 101);
    let refused = status["refused"]["rate-per-source"].as_u64().unwrap();
    assert!(refused > 0, "{status}");
    check_sums(&controlled, 101, "rate-per-source", refused);
    // And again when there is a token.
    fast.set_read_timeout(Some(std::time::Duration::from_millis(100)))
        .unwrap();
    let begun = std::time::Instant::now();
    loop {
        fast.send(b"again").unwrap();
        if let Ok(length) = fast.recv(&mut answer)
            && &answer[..length] == b"again"
        {
            break;
        }
        assert!(begun.elapsed() < PATIENCE);
    }
}
