//! Services that end by themselves: after so many connections or datagrams, or when
//! nothing comes.

use std::net::{SocketAddr, TcpStream, UdpSocket};

use crate::harness::guests::{echo_blocking, echo_datagram, echo_evented};
use crate::harness::server::Server;
use crate::harness::{Client, Guest, PATIENCE, Serve};

#[track_caller]
fn start(guest: Guest, dispatch: &str, options: &[&str]) -> Server {
    let serve = Serve::guest(guest, dispatch).compiled_once().args(options);
    if guest.takes_datagrams() {
        return serve.listen("udp://127.0.0.1:0").start();
    }
    serve.start()
}

/// It has ended as it should, after so many.
#[track_caller]
fn check_end(server: Server, accepted: u64, refused: u64) {
    let finished = server.finish();
    assert_eq!(finished.status.code(), Some(0));
    let last = finished.log.last().unwrap();
    assert_eq!(last.message(), "stopped");
    let number = |field| last.number(field).unwrap();
    assert_eq!((number("accepted"), number("refused")), (accepted, refused));
    assert_eq!(number("handled") + number("failed") + refused, accepted);
}

for_each_pair! { echo, echo_commands: once_is_one_connection }
fn once_is_one_connection(guest: Guest, dispatch: &str) {
    let server = start(guest, dispatch, &["--once"]);
    let address = server.address();
    let mut client = server.connect();
    client.check_echo("hello");
    // The second one is connected by the kernel at most, and is not taken.
    let second = TcpStream::connect(address);
    client.check_echo("still here");
    client.finish_sending();
    client.expect_eof();
    check_end(server, 1, 0);
    if let Ok(second) = second {
        let mut second = Client::of_tcp(second);
        assert_eq!(second.drain(), b"");
    }
}

for_each_pair! { echo: it_ends_after_as_many_as_it_was_to_take }
fn it_ends_after_as_many_as_it_was_to_take(guest: Guest, dispatch: &str) {
    let options = ["--exit-after", "3", "--deny", "127.0.0.2"];
    let server = start(guest, dispatch, &options);
    for _ in 0..2 {
        server.connect().check_echo("hello");
        // Who is refused does not count.
        Client::connect_from([127, 0, 0, 2], server.address()).expect_eof();
    }
    server.connect().check_echo("last");
    check_end(server, 5, 2);
}

/// All of them may be there at once, on more than one listener.
#[test]
fn no_more_are_taken_than_that() {
    let server = Serve::guest(echo_evented, "poll")
        .compiled_once()
        .listen("tcp://127.0.0.1:0")
        .listen("tcp://127.0.0.1:0")
        .args(["--exit-after", "5"])
        .start();
    server.process.signal(rustix::process::Signal::STOP);
    let addresses = server.addresses.clone();
    let clients = addresses.iter().cycle().take(20);
    let mut clients: Vec<Client> = clients.map(|it| Client::connect(*it)).collect();
    for client in &mut clients {
        client.send("hello");
        client.finish_sending();
    }
    server.process.signal(rustix::process::Signal::CONT);
    let answered = clients.iter_mut().filter_map(|client| {
        let answer = client.drain();
        (answer == b"hello").then_some(())
    });
    assert_eq!(answered.count(), 5);
    check_end(server, 5, 0);
}

for_each_pair! { echo_datagrams: once_is_one_datagram }
fn once_is_one_datagram(guest: Guest, dispatch: &str) {
    for (options, expected) in [(&["--once"][..], 1), (&["--exit-after", "4"], 4)] {
        let server = start(guest, dispatch, options);
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        // Not connected: what nobody takes any more is no error of the next one.
        for _ in 0..10 {
            let _ = peer.send_to(b"hello", server.address());
        }
        for _ in 0..expected {
            assert_eq!(peer.recv(&mut [0; 10]).unwrap(), 5);
        }
        check_end(server, expected, 0);
        peer.set_nonblocking(true).unwrap();
        assert!(peer.recv(&mut [0; 10]).is_err());
    }
}

for_each_pair! { echo [blocking_sequential, blocking_threaded, evented_poll]: it_ends_when_nothing_comes }
fn it_ends_when_nothing_comes(guest: Guest, dispatch: &str) {
    let server = start(guest, dispatch, &["--exit-idle", "300ms"]);
    for _ in 0..3 {
        server.connect().check_echo("hello");
    }
    let finished = server.finish();
    assert_eq!(finished.status.code(), Some(0));
    finished.check_no_alarm();
    let at = |message: &str| {
        let said = |event: &crate::harness::log::Event| event.message().starts_with(message);
        finished.log.iter().rposition(said).unwrap()
    };
    // Not while one was open.
    assert!(at("connection closed") < at("draining, because nothing has come for 300ms"));
    assert_eq!(finished.log.last().unwrap().number("handled"), Some(3));
}

#[test]
fn it_ends_when_nothing_has_ever_come() {
    let server = start(echo_blocking, "threaded", &["--exit-idle", "50ms"]);
    check_end(server, 0, 0);
    let server = start(echo_datagram, "poll", &["--exit-idle", "300ms"]);
    let address: SocketAddr = server.address();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.send_to(b"hello", address).unwrap();
    assert_eq!(peer.recv(&mut [0; 10]).unwrap(), 5);
    check_end(server, 1, 0);
}
