//! Sockets and changes that are used as no handler would: the host says no, or does
//! it, and lives.

use super::serve;
use crate::harness::control::Controlled;
use crate::harness::guests::faults_evented;
use crate::harness::{Guest, noise};

/// What comes of streams that are used in strange ways, in the order of the uses.
/// `blocking` and `evented` have the same streams.
const MISUSE: [&str; 33] = [
    "ready=()",
    "polled=[0, 1, 2]",
    "read-none=0",
    "skip-none=0",
    "skip=2",
    "read=[99]",
    "splice-none=0",
    "splice=2",
    "splice-all=3",
    "splice-empty=0",
    "read-empty=0",
    "skip-empty=0",
    "check-write=65536",
    "write-none=()",
    "write=()",
    "zeroes-none=()",
    "zeroes=()",
    "blocking-zeroes=()",
    "flush=()",
    "flush-again=()",
    "blocking-flush=()",
    "shutdown-receive=()",
    "closed-read=closed",
    "closed-blocking-read=closed",
    "closed-skip=closed",
    "closed-splice=closed",
    "shutdown-send=()",
    "closed-check-write=closed",
    "closed-write=closed",
    "closed-zeroes=closed",
    "closed-blocking-splice=closed",
    "closed-blocking-flush=closed",
    "shutdown-both=()",
];

for_each_pair! { faults without concurrent: streams_may_be_used_in_strange_ways }
fn streams_may_be_used_in_strange_ways(guest: Guest, dispatch: &str) {
    let server = serve(guest, dispatch, "MODE=misuse", 1).start();
    for _ in 0..2 {
        let mut client = server.connect();
        client.check_echo("before\n");
        client.send("fault\n");
        client.expect("ready\r\n");
        client.send("abcdefgh");
        // Two are skipped and one is read; the others are spliced.
        client.expect("defghx\0\0\0\0");
        client.expect_eof();
    }
    let finished = server.stop();
    finished.check_no_alarm();
    let lines = finished.guest_lines();
    assert_eq!(lines[..MISUSE.len()], MISUSE);
    assert_eq!(lines[MISUSE.len()..], MISUSE);
}

/// Whatever changes a turn returns, for connections that are there, closed, closed
/// twice or never were: the instance lives, and the next peer is served.
#[test]
fn changes_may_be_anything() {
    let options = ["--env", "MODE=random", "--drain-timeout", "100ms"];
    let controlled = Controlled::start(faults_evented, "poll", &options);
    let mut sent = 0;
    for seed in noise(600).chunks(10) {
        // It changes others that are there and itself.
        let mut others = Vec::new();
        for _ in 0..4 {
            let mut other = controlled.server.connect();
            other.check_echo("hello\n");
            sent += "hello\n".len();
            others.push(other);
        }
        let mut client = controlled.server.connect();
        let chunk = [b"random ", seed].concat();
        client.send(&chunk);
        sent += chunk.len();
        client.drain();
        controlled.wait_for_bytes_in(sent);
    }
    controlled.server.connect().check_echo("still\n");
    let status = controlled.status();
    for reason in ["trap", "deadline", "memory", "instantiate", "host"] {
        assert_eq!(status["failed"][reason], 0, "{status:#}");
    }
    let finished = controlled.server.stop();
    for alarm in finished.alarms() {
        let text = alarm.message();
        // Some were left with an interest in nothing.
        let expected = [
            "connection failed: the handler returned an error: ",
            "drain timeout, closing what is open",
            "instance died and its connections are closed: closed, because the service or its",
        ];
        assert!(
            expected.iter().any(|start| text.starts_with(start)),
            "{alarm:?}"
        );
        // A thousand characters, which may be escaped.
        assert!(text.len() < 10_000, "{alarm:?}");
        assert!(!text.contains(char::is_control), "{alarm:?}");
    }
}

/// The contract promises that what is ready is told. A handler that always waits for
/// what is there keeps nobody from coming and going, and the service from nothing.
// From: 6d80140.
#[test]
fn a_handler_without_rest_keeps_nobody_out() {
    let server = serve(faults_evented, "poll", "MODE=eager", 10)
        .args(["--drain-timeout", "100ms"])
        .start();
    let mut first = server.connect();
    first.check_echo("first\n");
    server.connect().check_echo("second\n");
    let gone = server.connect();
    server.wait_for_open(&gone);
    gone.reset();
    server.wait_for_closed(2);
    first.check_echo("still\n");
    server.terminate();
    let finished = server.finish();
    assert_eq!(finished.status.code(), Some(0));
}
