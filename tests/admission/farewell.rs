//! What a refused peer sees: a reset, an end of file with a banner or without, or nothing.

use std::io::ErrorKind;

use super::{check_sums, connect_from, start};
use crate::harness::guests::{echo_blocking, echo_evented};
use crate::harness::server::Server;
use crate::harness::{Client, Serve};

const REFUSED: [u8; 4] = [127, 0, 0, 2];
const DENY: [&str; 2] = ["--deny", "127.0.0.2"];

#[test]
fn a_refused_peer_is_reset_if_that_was_asked_for() {
    let options = [&DENY[..], &["--on-refuse", "reset"]].concat();
    let controlled = start(echo_evented, "poll", &options);
    for _ in 0..3 {
        let error = connect_from(&controlled, REFUSED).read_until_error();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    controlled.server.connect().check_echo("hello");
    check_sums(&controlled, 4, "rules", 3);
}

/// Also if it has sent something, which nobody reads: that would make a reset of a close.
#[test]
fn a_refused_peer_gets_an_end_of_file() {
    let controlled = start(echo_blocking, "threaded", &DENY);
    for sent in [&b""[..], b"hello", &[b'x'; 10_000]] {
        let mut client = connect_from(&controlled, REFUSED);
        client.send_some(sent);
        client.expect_eof();
    }
    controlled.server.connect().check_echo("hello");
    check_sums(&controlled, 4, "rules", 3);
}

#[test]
fn a_banner_comes_before_the_end_of_file() {
    let options = [&DENY[..], &["--banner", r"not\x20you\, sorry\r\n"]].concat();
    let controlled = start(echo_blocking, "poll", &options);
    for sent in [&b""[..], b"hello"] {
        let mut client = connect_from(&controlled, REFUSED);
        client.send_some(sent);
        client.expect("not you, sorry\r\n");
        client.expect_eof();
    }
    controlled.server.connect().check_echo("hello");
    check_sums(&controlled, 3, "rules", 2);
}

/// A refused peer that neither reads nor goes holds nobody up, however many there are.
#[test]
fn refused_peers_that_stay_hold_nobody_up() {
    let options = [&DENY[..], &["--banner", "no"], &["--max-connections", "2"]].concat();
    let controlled = start(echo_evented, "poll", &options);
    let refused: Vec<Client> = (0..200)
        .map(|_| connect_from(&controlled, REFUSED))
        .collect();
    controlled.server.connect().check_echo("hello");
    check_sums(&controlled, 201, "rules", 200);
    drop(refused);
}

/// Held peers take no permit, and of the descriptors a share only.
#[test]
fn a_held_peer_hears_nothing() {
    let options = [
        &DENY[..],
        &["--on-refuse", "hold", "--max-connections", "1"],
    ]
    .concat();
    let controlled = start(echo_evented, "poll", &options);
    let refused: Vec<Client> = (0..10)
        .map(|_| connect_from(&controlled, REFUSED))
        .collect();
    check_sums(&controlled, 10, "rules", 10);
    for held in &refused {
        assert!(held.is_silent());
    }
    controlled.server.connect().check_echo("hello");
    // Those that go are let go.
    drop(refused);
    controlled.wait_for_status("nobody", |status| status["open"] == 0);
    controlled.server.stop();
}

/// How many descriptors a process has open.
fn open_files(server: &Server) -> usize {
    let path = format!("/proc/{}/fd", server.process.id());
    std::fs::read_dir(path).unwrap().count()
}

#[test]
fn held_peers_do_not_use_descriptors_up() {
    const PEERS: usize = 300;
    let server = Serve::guest_after("ulimit -n 100", echo_evented, "poll")
        .compiled_once()
        .args(DENY)
        .args(["--on-refuse", "hold"])
        .start();
    let before = open_files(&server);
    let refused: Vec<Client> = (0..PEERS)
        .map(|_| Client::connect_from(REFUSED, server.address()))
        .collect();
    server.connect().check_echo("hello");
    // A few are held, and the rest is reset.
    assert!(open_files(&server) < before + 10, "{}", open_files(&server));
    let silent = refused.iter().filter(|it| it.is_silent()).count();
    assert!((1..10).contains(&silent), "{silent}");
    let mut last = Client::connect_from(REFUSED, server.address());
    assert_eq!(last.read_until_error().kind(), ErrorKind::ConnectionReset);
    let finished = server.stop();
    let lacks = |it: &crate::harness::log::Event| it.message().contains("out of resources");
    assert!(!finished.log.iter().any(lacks));
}
