//! How connections end: unread input, resets, failures, limits.

use super::{Composed, Host, for_each_host};
use crate::harness::command::run;
use crate::harness::{Client, Guest, text};

for_each_pair! { echo by default: unread_input_does_not_destroy_an_answer }
/// If a connection with unread input was simply closed, the system would reset it.
fn unread_input_does_not_destroy_an_answer(guest: Guest, _: &str) {
    let composed = Composed::of(guest);
    for_each_host("unread_input", |host| {
        let running = composed.serve(host, &["--env", "MODE=hello"]);
        for _ in 0..5 {
            let mut client = running.connect();
            client.send_some(&[b'x'; 100_000]);
            assert_eq!(text(client.read_to_end()), r"Hello World!\n");
        }
        running.check_no_error();
    });
}

for_each_pair! { echo by default: a_peer_that_resets_costs_its_own_connection }
fn a_peer_that_resets_costs_its_own_connection(guest: Guest, _: &str) {
    let composed = Composed::of(guest);
    for_each_host("a_peer_that_resets", |host| {
        let running = composed.serve(host, &[]);
        for _ in 0..20 {
            let mut client = running.connect();
            client.check_echo("x");
            client.reset();
        }
        let mut client = running.connect();
        client.check_echo("still here");
    });
}

for_each_pair! { faults [evented_poll]: a_trap_ends_a_command }
/// There is one instance.
fn a_trap_ends_a_command(guest: Guest, _: &str) {
    let composed = Composed::of(guest);
    for_each_host("a_trap_ends", |host| {
        let mut running = composed.serve(host, &["--env", "MODE=trap"]);
        let mut client = running.connect();
        client.send("fault\n");
        let _ = client.drain();
        assert_eq!(running.process.wait().code(), Some(134), "{host:?}");
    });
}

for_each_pair! { echo by default: a_wrong_option_ends_a_command_before_it_listens }
fn a_wrong_option_ends_a_command_before_it_listens(guest: Guest, _: &str) {
    let composed = Composed::of(guest);
    for_each_host("a_wrong_option", |host| {
        let mut command = composed.command(host, &["--env", "MODE=a\nb"]);
        let outcome = run(command.args(["--listen", "127.0.0.1:0"]));
        assert_eq!(outcome.status, Some(1), "{host:?}: {outcome:#?}");
        assert!(outcome.stdout.is_empty(), "{host:?}: {outcome:#?}");
        let said = "expected stream, line, once, upper or hello";
        assert!(
            outcome.stderr.iter().any(|line| line.contains(said)),
            "{host:?}: {outcome:#?}"
        );
    });
}

for_each_pair! { faults [blocking_threaded, concurrent_poll]: what_a_handler_returns_as_error_is_one_line }
fn what_a_handler_returns_as_error_is_one_line(guest: Guest, _: &str) {
    let composed = Composed::of(guest);
    for_each_host("what_a_handler_returns", |host| {
        let running = composed.serve(host, &["--env", "MODE=a\nb"]);
        for number in 1..=2 {
            let mut client = running.connect();
            let peer = client.local();
            client.expect_eof();
            let line = running.wait_for_error(&format!("connection={number} "));
            assert!(
                line.starts_with(
                    "connection failed: the handler returned an error: MODE=a\\nb: expected "
                ) && line.ends_with(&format!(" connection={number} peer={peer}")),
                "{host:?}: {line}"
            );
        }
    });
}

for_each_pair! { echo by default: more_peers_than_the_limit_wait }
fn more_peers_than_the_limit_wait(guest: Guest, _: &str) {
    let composed = Composed::of(guest);
    for_each_host("more_peers_than_the_limit", |host| {
        let arguments = ["--listen", "127.0.0.1:0", "--max-connections", "1"];
        let running = composed.start(host, &[], &arguments);
        let mut first = running.connect();
        first.check_echo("first");
        let mut second = running.connect();
        second.send("second");
        first.check_echo("again");
        assert!(second.is_silent());
        first.finish_sending();
        first.expect_eof();
        second.expect("second");
        running.check_no_error();
    });
}

for_each_pair! { echo by default: a_peer_that_never_ends_is_let_go }
/// After `--linger`, whatever it still sends.
fn a_peer_that_never_ends_is_let_go(guest: Guest, _: &str) {
    let composed = Composed::of(guest);
    for_each_host("a_peer_that_never_ends", |host| {
        let arguments = [
            "--listen",
            "127.0.0.1:0",
            "--linger",
            "0",
            "--max-connections",
            "1",
        ];
        let running = composed.start(host, &["--env", "MODE=hello"], &arguments);
        let mut silent = running.connect();
        silent.read_to_end();
        // It has not closed, and its place is free all the same.
        let mut next = running.connect();
        next.read_to_end();
        drop(silent);
    });
}

for_each_pair! { echo by default: a_command_listens_wherever_it_is_told }
fn a_command_listens_wherever_it_is_told(guest: Guest, _: &str) {
    let composed = Composed::of(guest);
    for_each_host("a_command_listens", |host| {
        let arguments = ["--listen", "tcp://127.0.0.1:0", "--listen", "tcp://[::1]:0"];
        let running = composed.start(host, &[], &arguments);
        let contract = guest.contract();
        for (line, place) in running.ready.iter().zip(["127.0.0.1", "[::1]"]) {
            let address = super::address(line);
            let expected = format!(
                "listening tcp://{place}:{} service=service contract={contract}",
                address.port()
            );
            assert_eq!(*line, expected);
            let mut client = Client::connect(address);
            client.check_echo(place);
            client.finish_sending();
            client.expect_eof();
        }
        running.check_no_error();
    });
}

for_each_pair! { echo by default: a_signal_ends_a_command }
fn a_signal_ends_a_command(guest: Guest, _: &str) {
    let composed = Composed::of(guest);
    for_each_host("a_signal_ends", |host| {
        let mut running = composed.serve(host, &[]);
        let mut client = running.connect();
        client.check_echo("x");
        running.process.signal(rustix::process::Signal::TERM);
        let status = running.process.wait();
        match host {
            Host::Own => assert_eq!(status.code(), Some(143)),
            Host::Stock(_) => assert!(!status.success()),
        }
        let _ = client.drain();
    });
}
