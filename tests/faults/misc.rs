//! Guests that close early, never read, never stop writing, or print what they
//! like.

use super::{saying, serve};
use crate::harness::guests::faults_evented;
use crate::harness::{Client, Guest};

for_each_pair! { faults: early_closes_at_once }
/// A guest that does not read is closed in order all the same: what the peer has
/// sent does not turn into a reset.
fn early_closes_at_once(guest: Guest, dispatch: &str) {
    let server = serve(guest, dispatch, "MODE=early", 1).start();
    for _ in 0..3 {
        let mut client = server.connect();
        client.send_some(&[b'x'; 100_000]);
        client.expect_eof();
    }
    server.stop().check_no_alarm();
}

for_each_pair! { faults without sequential: never_read_holds_up_nobody }
/// Connections that are never read from hold up nobody, as long as there are
/// permits, and end with the drain.
fn never_read_holds_up_nobody(guest: Guest, dispatch: &str) {
    let server = serve(guest, dispatch, "MODE=never-read", 4)
        .args(["--drain-timeout", "300ms"])
        .start();
    let mut clients: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    // What nobody reads stays in the kernel, and is not much.
    let bytes = vec![b'x'; 24 << 20];
    assert!(clients[0].send_until_stuck(&bytes) < bytes.len());
    clients[1].send("hello");
    for client in &clients {
        server.wait_for_open(client);
    }
    server.terminate();
    for client in &mut clients {
        assert!(client.drain().is_empty());
    }
    let finished = server.finish();
    assert_eq!(finished.status.code(), Some(0));
    // None of them was read.
    let closed = saying(&finished.log, "connection closed");
    assert_eq!(closed.len(), 4, "{:#?}", finished.log);
}

/// At rest, with an interest in nothing, a connection still tells that its peer
/// is gone.
#[test]
fn a_connection_at_rest_hangs_up() {
    let server = serve(faults_evented, "poll", "MODE=never-read", 1).start();
    for _ in 0..3 {
        let client = server.connect();
        server.wait_for_open(&client);
        client.reset();
    }
    server.wait_for_closed(3);
    server.stop().check_no_alarm();
}

for_each_pair! { faults: flood_is_held_back_by_a_peer_that_does_not_read }
/// A peer that does not read is written to as far as it goes, which costs nobody
/// else anything; when it resets, its permit is back.
fn flood_is_held_back_by_a_peer_that_does_not_read(guest: Guest, dispatch: &str) {
    let server = serve(guest, dispatch, "MODE=flood", 2).start();
    let deaf = server.connect();
    server.wait_for_open(&deaf);
    if dispatch == "sequential" {
        deaf.reset();
    } else {
        let mut reader = server.connect();
        assert!(reader.read_exact(8 << 20).iter().all(|&byte| byte == b'x'));
        reader.reset();
        let mut next = server.connect();
        next.read_exact(1 << 20);
        next.reset();
        deaf.reset();
    }
    for _ in 0..3 {
        let mut next = server.connect();
        next.read_exact(1 << 20);
        next.reset();
    }
    let finished = server.stop();
    // The guest may say what it has seen of the reset, once per connection.
    let opened = saying(&finished.log, "connection opened").len();
    let failed = saying(
        &finished.log,
        "connection failed: the handler returned an error",
    );
    assert!(failed.len() <= opened, "{failed:#?}");
    assert_eq!(
        finished.alarms().len(),
        failed.len(),
        "{:#?}",
        finished.alarms()
    );
}

for_each_pair! { faults: output_goes_to_the_log }
/// What a guest prints is in the log line by line, whatever it is, under the service and
/// the connection, where the host knows that.
fn output_goes_to_the_log(guest: Guest, dispatch: &str) {
    let server = serve(guest, dispatch, "MODE=print", 10)
        .args(["--name", "press"])
        .start();
    let mut client = server.connect();
    let peer = client.local().to_string();
    client.send("two\r\nlines\r\n");
    assert_eq!(client.read_to_end(), b"printed\r\n");
    drop(client);
    let finished = server.stop();
    finished.check_no_alarm();
    for stream in ["stdout", "stderr"] {
        let printed: Vec<_> = finished
            .log
            .iter()
            .filter(|event| event.is_guest() && event.str("stream") == stream)
            .collect();
        for event in &printed {
            assert_eq!(event.str("service"), "press", "{event:?}");
            assert_eq!(event.str("level"), "INFO", "{event:?}");
            if (guest.contract(), dispatch) == ("concurrent", "poll") {
                assert_eq!(event.connection(), None, "{event:?}");
            } else {
                assert_eq!(event.connection(), Some(1), "{event:?}");
                assert_eq!(event.str("peer"), peer, "{event:?}");
            }
        }
        let lines: Vec<&str> = printed.iter().map(|event| event.message()).collect();
        let expected = ["received 12 bytes: two", "lines", r"not UTF-8: \xff\xfe"];
        assert_eq!(lines[..3], expected);
        // A line without an end, in pieces.
        assert!(lines[3..].iter().all(|piece| piece.len() <= 8192));
        assert_eq!(lines[3..].concat(), "x".repeat(64 * 1024));
    }
}
