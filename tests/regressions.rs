//! Bugs that were found once. It grows with each.

use std::process::{Command, Stdio};
use std::thread;

use rustix::net::SendFlags;

use crate::harness::command::sockserve;
use crate::harness::control::Controlled;
use crate::harness::guests::{
    echo_blocking, echo_concurrent, echo_evented, faults_blocking, pairs,
};
use crate::harness::scratch::Scratch;
use crate::harness::{Client, Guest, Serve, noise};

const ECHO: [Guest; 3] = [echo_blocking, echo_evented, echo_concurrent];

/// A guest whose peer keeps up never waits, and was taken for one that spins.
#[test]
fn a_busy_guest_is_not_taken_for_a_spinning_one() {
    let bytes = noise(64 << 20);
    for (guest, dispatch) in pairs(&ECHO) {
        println!("{} under {dispatch}", guest.name);
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
}

/// An idle listener kept the turn, or the last permit, from the other one.
#[test]
fn listeners_do_not_starve_each_other() {
    for (dispatch, limit) in [("sequential", "9"), ("threaded", "1"), ("poll", "1")] {
        let server = Serve::guest(echo_blocking, dispatch)
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
}

/// A read that ends at an urgent mark is short, though more is there.
#[test]
fn an_urgent_byte_does_not_hold_up_what_follows() {
    for (guest, dispatch) in pairs(&ECHO) {
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
}

/// What the peer did not take in time was dropped, with FIN behind it.
#[test]
fn a_peer_that_does_not_take_all_is_told_by_a_reset() {
    for (guest, dispatch) in [(echo_blocking, "threaded"), (echo_evented, "poll")] {
        let controlled = Controlled::start(guest, dispatch, &["--linger", "100ms"]);
        let mut client = Client::connect_narrow(controlled.server.address());
        // Until the guest is in the middle of a write that the kernel takes no
        // more of.
        client.send_until_stuck(&noise(32 << 20));
        controlled.swap(controlled.scratch.build(guest, 1), &["--old", "abort"]);
        controlled.server.wait_for_log("the reset", |event| {
            event
                .message()
                .starts_with("connection reset, because the peer")
                && event.number("unsent") > Some(0)
        });
        // All that was sent, and no end of file behind it.
        let error = client.read_until_error();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

/// Counts from a section's header were added up unchecked.
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

/// Whoever reads the log may go away.
#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    for dispatch in ["threaded", "poll"] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sockserve"))
            .args(["--log-level", "debug", "serve"])
            .arg(faults_blocking.path())
            .args(["--env", "MODE=trap", "--dispatch", dispatch])
            .args(["--listen", "tcp://127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A pipe without a reader from here on.
        drop(child.stderr.take());
        let mut ready = String::new();
        let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut stdout, &mut ready).unwrap();
        let address = ready.split([' ', '/']).find_map(|word| word.parse().ok());
        let address = address.unwrap();
        for _ in 0..50 {
            let mut client = Client::connect(address);
            client.check_echo("hello\n");
            client.send("fault\n");
            client.expect_eof();
        }
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}
