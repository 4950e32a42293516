//! The component under `sockserve serve`, over loopback.

use sockserve_handler::testing::Server;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

#[test]
fn each_line_is_answered_with_its_number() {
    let server = Server::start("tcp").unwrap();
    let mut client = TcpStream::connect(server.address()).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    client.write_all(b"one\ntwo\r\nthree").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "1 one\n2 two\n3 three\n");
}
