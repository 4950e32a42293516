//! The component under `sockserve serve`, over loopback.

use sockserve_handler::testing::Server;
use std::net::UdpSocket;
use std::time::Duration;

#[test]
fn each_datagram_is_answered_in_upper_case() {
    let server = Server::start("udp").unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    client.connect(server.address()).unwrap();
    client.send(b"hello").unwrap();
    let mut answer = [0; 100];
    let length = client.recv(&mut answer).unwrap();
    assert_eq!(&answer[..length], b"HELLO");
}
