//! Options that do nothing, that a service cannot honour, and other mistakes.

use crate::harness::command::sockserve;
use crate::harness::scratch::Scratch;

/// `serve` with these options is refused, on one line.
#[track_caller]
fn check(component: &str, listen: &str, options: &[&str], status: i32, expected: &str) {
    let component = format!("builtin:{component}");
    let args = [&["serve", &component, "--listen", listen], options].concat();
    let outcome = sockserve(&args);
    let [line] = outcome.stderr.as_slice() else {
        panic!("not one line for {args:?}: {outcome:#?}");
    };
    assert_eq!(outcome.status, Some(status), "{args:?}: {line}");
    assert!(line.contains(expected), "no {expected:?} in: {line}");
}

#[test]
fn an_option_that_does_nothing_says_what_it_needs() {
    let check = |options: &[&str], expected: &str| {
        check("echo-evented", "tcp://127.0.0.1:0", options, 2, expected);
    };
    check(
        &["--burst", "5"],
        "--burst does nothing without --connections-per-second",
    );
    check(
        &["--source-prefix", "56"],
        "--source-prefix does nothing without --max-connections-per-source",
    );
    check(
        &["--banner", "no"],
        "--banner does nothing without an option that refuses peers",
    );
    check(
        &["--deny", "::1", "--banner", "no", "--on-refuse", "reset"],
        "--banner cannot be sent with --on-refuse reset",
    );
    check(
        &[
            "--max-connections",
            "5",
            "--max-connections-per-source",
            "5",
        ],
        "--max-connections-per-source 5 is never reached with --max-connections 5",
    );
    check(&["--once", "--exit-after", "5"], "cannot be used with");
}

#[test]
fn a_block_with_host_bits_names_the_right_one() {
    let check = |options: &[&str], status, expected: &str| {
        check(
            "echo-evented",
            "tcp://127.0.0.1:0",
            options,
            status,
            expected,
        );
    };
    check(
        &["--allow", "10.1.2.3/8"],
        2,
        "write 10.0.0.0/8, or 10.1.2.3 for",
    );
    check(&["--deny", "example.org"], 2, "write a block such as");
    let scratch = Scratch::new();
    let path = scratch.path("blocks");
    let file = format!("@{}", path.display());
    check(&["--deny", &file], 1, "--deny: cannot read ");
    std::fs::write(&path, "10.0.0.0/8\n# no\n10.1.2.3/8 # host\n").unwrap();
    let place = format!("{}:3: 10.1.2.3/8: it has bits", path.display());
    check(&["--deny", &file], 2, &place);
    std::fs::write(&path, "# nobody yet\n").unwrap();
    check(&["--allow", &file], 2, "so nobody could come in");
    check(&["--allow", "@/dev/zero"], 1, "it is no regular file");
}

#[test]
fn what_a_service_cannot_honour_is_refused() {
    let scratch = Scratch::new();
    let unix = format!("unix://{}", scratch.path("s").display());
    check(
        "echo-evented",
        &unix,
        &["--deny", "10.0.0.0/8"],
        2,
        "the service listens on Unix sockets only; --unix-mode",
    );
    assert!(!scratch.path("s").exists());
    let udp = "udp://127.0.0.1:0";
    for options in [
        &["--max-connections-per-source", "5"][..],
        &["--connections-per-second", "5"],
        &["--max-load", "5"],
        &["--deny", "::1", "--banner", "no"],
        &["--deny", "::1", "--on-refuse", "hold"],
    ] {
        let expected = "is for connections, and the contract datagram serves datagrams";
        check("echo-datagram", udp, options, 2, expected);
    }
    for options in [
        &["--idle-timeout", "5s"][..],
        &["--first-byte-timeout", "5s"],
        &["--write-timeout", "5s"],
        &["--connection-timeout", "5s"],
        &["--access-log", "all"],
    ] {
        let expected = "is about connections, and the contract datagram serves datagrams";
        check("echo-datagram", udp, options, 2, expected);
    }
    let unix = format!("unix+dgram://{}", scratch.path("d").display());
    check(
        "echo-datagram",
        &unix,
        &["--connections-per-second-per-source", "5"],
        2,
        "listen on udp:// only",
    );
}
