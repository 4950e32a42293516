//! Bugs that were found once and belong to no other file. Each test says what found
//! the bug, or which commit fixed it.

use std::process::Command;
use std::thread;

use rustix::net::SendFlags;
use rustix::process::Signal;

use crate::harness::command::sockserve;
use crate::harness::control::Controlled;
use crate::harness::guests::echo_blocking;
use crate::harness::log::Event;
use crate::harness::process::Process;
use crate::harness::scratch::Scratch;
use crate::harness::server::ready_address;
use crate::harness::{Client, Guest, Serve, noise};

for_each_pair! { echo: a_busy_guest_is_not_taken_for_a_spinning_one }
/// A guest whose peer keeps up never waits, and was taken for one that spins.
// From: 6e5f6c1, a review with fresh eyes.
fn a_busy_guest_is_not_taken_for_a_spinning_one(guest: Guest, dispatch: &str) {
    let bytes = noise(64 << 20);
    // Some ticks of the guest clock, and a fraction of what this takes.
    let server = Serve::guest(guest, dispatch)
        .args(["--deadline", "50ms"])
        .start();
    let mut reader = server.connect();
    let mut writer = reader.another();
    thread::scope(|scope| {
        scope.spawn(|| {
            writer.send(&bytes);
            writer.finish_sending();
        });
        assert!(reader.read_to_end() == bytes, "not the same bytes");
    });
    server.stop().check_no_alarm();
}

for_each_pair! { echo: listeners_do_not_starve_each_other }
/// An idle listener kept the turn, or the last permit, from the other one.
// From: 6e5f6c1, a review with fresh eyes.
fn listeners_do_not_starve_each_other(guest: Guest, dispatch: &str) {
    // Under `sequential` it is the turn that is short, and not the permits.
    let limit = if dispatch == "sequential" { "9" } else { "1" };
    let server = Serve::guest(guest, dispatch)
        .args(["--max-connections", limit])
        .listen("tcp://127.0.0.1:0")
        .listen("tcp://127.0.0.1:0")
        .start();
    for index in [0, 1, 1, 0, 0, 1] {
        let mut client = Client::connect(server.addresses[index]);
        client.check_echo("hello\n");
        client.finish_sending();
        client.expect_eof();
    }
}

for_each_pair! { echo: an_urgent_byte_does_not_hold_up_what_follows }
/// A read that ends at an urgent mark is short, though more is there.
// From: 6e5f6c1, a review with fresh eyes.
fn an_urgent_byte_does_not_hold_up_what_follows(guest: Guest, dispatch: &str) {
    let server = Serve::guest(guest, dispatch).start();
    let mut client = server.connect();
    // So that it waits in the poller.
    client.check_echo("first");
    client.send("abc");
    rustix::net::send(client.socket(), b"X", SendFlags::OOB).unwrap();
    client.send("def\n");
    // The urgent byte itself is out of band.
    client.expect("abcdef\n");
}

for_each_pair! {
    echo [blocking_threaded, evented_poll]:
    a_peer_that_does_not_take_all_is_told_by_a_reset
}
/// What the peer did not take in time was dropped, with FIN behind it.
// From: 6e5f6c1, a review with fresh eyes.
fn a_peer_that_does_not_take_all_is_told_by_a_reset(guest: Guest, dispatch: &str) {
    // The kernel may take the rest at the last moment. Then there is nothing to tell.
    assert!((0..10).any(|_| is_told_by_a_reset(guest, dispatch)));
}

/// Whether the host had something left for the peer, who is told so.
#[track_caller]
fn is_told_by_a_reset(guest: Guest, dispatch: &str) -> bool {
    let controlled = Controlled::start(guest, dispatch, &["--linger", "100ms"]);
    let mut client = Client::connect_narrow(controlled.server.address());
    // Until the guest is in the middle of a write that the kernel takes no
    // more of.
    client.send_until_stuck(&noise(32 << 20));
    controlled.swap(controlled.scratch.build(guest, 1), &["--old", "abort"]);
    let is_reset = |event: &Event| {
        let message = event.message();
        message.starts_with("connection reset, because the peer")
            && event.number("unsent") > Some(0)
    };
    let last = controlled.server.wait_for_log("the end", |event| {
        is_reset(event) || event.message() == "connection closed"
    });
    if !is_reset(&last) {
        return false;
    }
    // All that was sent, and no end of file behind it.
    let error = client.read_until_error();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    true
}

/// Counts from a section's header were added up unchecked.
// From: 6e5f6c1, a review with fresh eyes.
#[test]
fn a_component_that_claims_too_much_is_refused() {
    let scratch = Scratch::new();
    let path = scratch.path("damaged.wasm");
    let mut bytes = std::fs::read(echo_blocking.path()).unwrap();
    // Core instances, of which there are 4 294 967 295.
    bytes.extend([2, 5, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    std::fs::write(&path, bytes).unwrap();
    let outcome = sockserve(["inspect".as_ref(), path.as_os_str()]);
    assert_eq!(outcome.status, Some(1));
    assert_eq!(outcome.stderr.len(), 1, "{outcome:?}");
    assert!(
        outcome.stderr[0].contains("a damaged component"),
        "{outcome:?}"
    );
    let controlled = Controlled::start(echo_blocking, "poll", &[]);
    let why = controlled.swap_refused(&path, &[]);
    assert!(why.contains("a damaged component"), "{why}");
}

/// A name that no request could carry.
// From: 6e5f6c1, a review with fresh eyes.
#[test]
fn a_service_has_a_name_that_can_be_asked_for() {
    for name in ["", "my service", "a/b", "ä"] {
        let listen = ["--listen", "tcp://127.0.0.1:0", "--name", name];
        let outcome = sockserve([&["serve", "builtin:echo-blocking"][..], &listen].concat());
        assert_eq!(outcome.status, Some(2), "{outcome:?}");
        assert_eq!(outcome.stderr.len(), 1, "{outcome:?}");
        assert!(outcome.stderr[0].contains("a service's name has letters, digits"));
    }
}

for_each_pair! { faults blocking: a_log_that_nobody_reads_stops_nothing }
/// The reader of the log may go away.
// From: 6e5f6c1, a review with fresh eyes.
fn a_log_that_nobody_reads_stops_nothing(guest: Guest, dispatch: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sockserve"));
    command
        .args(["--log-level", "debug", "serve"])
        .arg(guest.path())
        .args(["--env", "MODE=trap", "--dispatch", dispatch])
        .args(["--listen", "tcp://127.0.0.1:0"]);
    let (mut server, stderr) = Process::start_unheard(&mut command);
    // A pipe without a reader from here on.
    drop(stderr);
    let address = ready_address(&server);
    for _ in 0..50 {
        let mut client = Client::connect(address);
        client.check_echo("hello\n");
        client.send("fault\n");
        client.expect_eof();
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}
