//! What `sockserve` refuses: one line on standard error that says what was wrong
//! and what would work, nothing on standard output, and an exit status.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use crate::harness::command::sockserve;
use crate::harness::guests::{echo_evented, faults_import, faults_none};

/// Wrong arguments.
const USAGE: i32 = 2;
/// It did not work.
const FAILED: i32 = 1;

const ANY: [&str; 2] = ["--listen", "tcp://127.0.0.1:0"];

/// Runs a command that must be refused, in a line with all of `parts`.
#[track_caller]
fn check(args: &[&str], status: i32, parts: &[&str]) {
    let outcome = sockserve(args);
    let [line] = outcome.stderr.as_slice() else {
        panic!("not one line: {outcome:#?}");
    };
    assert_eq!(outcome.status, Some(status), "{line}");
    assert!(outcome.stdout.is_empty(), "{outcome:#?}");
    assert!(line.starts_with("sockserve: "), "{line}");
    for part in parts {
        assert!(line.contains(part), "no {part:?} in: {line}");
    }
}

/// `serve` of a component, on any port.
#[track_caller]
fn check_component(component: &str, parts: &[&str]) {
    check(&[&["serve", component][..], &ANY].concat(), FAILED, parts);
    check(&["inspect", component], FAILED, parts);
}

/// `serve builtin:echo-blocking` with more arguments.
#[track_caller]
fn check_option(args: &[&str], parts: &[&str]) {
    let serve = ["serve", "builtin:echo-blocking"];
    check(&[&serve[..], &ANY, args].concat(), USAGE, parts);
}

/// The same where the arguments make sense and the system says no.
#[track_caller]
fn check_system(args: &[&str], parts: &[&str]) {
    let serve = ["serve", "builtin:echo-blocking"];
    check(&[&serve[..], &ANY, args].concat(), FAILED, parts);
}

/// A file that lasts as long as the test binary's target directory.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// Options that could have no effect.
#[test]
fn options_without_an_effect() {
    let serve = |component: &str, args: &[&str], parts: &[&str]| {
        check(&[&["serve", component], args].concat(), USAGE, parts);
    };
    let (tcp, udp) = (ANY, ["--listen", "udp://127.0.0.1:0"]);
    let (echo, datagrams) = ("builtin:echo-evented", "builtin:echo-datagram");
    let with = |listen: [&'static str; 2], args: &[&'static str]| [&listen[..], args].concat();
    serve(
        echo,
        &with(tcp, &["--watch"]),
        &["--watch: builtin:echo-evented is embedded", "name a file"],
    );
    serve(
        "/dev/null",
        &with(tcp, &["--watch"]),
        &["--watch: /dev/null is read once", "name a file"],
    );
    serve(
        echo,
        &with(tcp, &["--workers", "2"]),
        &["--workers is", "this is poll", "; leave it out"],
    );
    for dispatch in ["poll", "sequential"] {
        serve(
            "builtin:echo-blocking",
            &with(tcp, &["--workers", "2", "--dispatch", dispatch]),
            &["use --dispatch threaded, or leave it out"],
        );
    }
    for (component, listen, dispatch, why) in [
        (
            echo,
            tcp,
            "poll",
            "one instance serves all of them here; leave it out",
        ),
        (
            "builtin:echo-concurrent",
            tcp,
            "poll",
            "use --dispatch threaded, or leave it out",
        ),
        (
            "builtin:echo-command",
            tcp,
            "threaded",
            "a program starts anew for each connection; leave it out",
        ),
        (
            datagrams,
            udp,
            "threaded",
            "this contract serves datagrams; leave it out",
        ),
    ] {
        serve(
            component,
            &with(listen, &["--reuse", "2", "--dispatch", dispatch]),
            &["--reuse is how many connections an instance serves", why],
        );
    }
    for listen in [tcp, ["--listen", "unix:@sockserve-refusals"]] {
        serve(
            echo,
            &with(listen, &["--unix-mode", "600"]),
            &[
                "--unix-mode is for the file of a Unix socket",
                "unix:///PATH",
            ],
        );
    }
    serve(
        echo,
        &with(tcp, &["--unix-group", "0"]),
        &["--unix-group is for", "unix:///PATH"],
    );
    serve(
        echo,
        &with(["--listen", "unix:@sockserve-refusals"], &["--reuse-port"]),
        &["--reuse-port is for addresses with a port"],
    );
    for option in [&["--allow-loops"][..], &["--allow-send", "127.0.0.1:1"]] {
        let parts = [
            option[0],
            "the contract evented serves connections; leave it out",
        ];
        serve(echo, &[&tcp[..], option].concat(), &parts);
    }
    serve(
        datagrams,
        &with(udp, &["--workers", "2"]),
        &["use --dispatch threaded, or leave it out"],
    );
    check(
        &[
            "swap",
            "echo",
            echo,
            "--control",
            "x",
            "--old",
            "abort",
            "--drain-timeout",
            "1s",
        ],
        USAGE,
        &["--drain-timeout has no effect with --old abort"],
    );
}

#[test]
fn wrong_components() {
    let check = |name: &str, bytes: &[u8], parts: &[&str]| {
        let path = file(name, bytes);
        let path = path.to_str().unwrap();
        check_component(path, &[&[path], parts].concat());
    };
    let core = b"\0asm\x01\0\0\0";
    check(
        "text.wasm",
        b"#!/bin/sh\n",
        &["not a WebAssembly component", "wasm32-wasip2"],
    );
    check("empty.wasm", b"", &["not a WebAssembly component"]);
    check(
        "core.wasm",
        core,
        &[
            "a core module",
            "make a component of it: sockserve componentize",
        ],
    );
    check(
        "nothing.wasm",
        b"\0asm\x0d\0\x01\0",
        &["exports none of sockserve:handler/blocking"],
    );
    check(
        "damaged.wasm",
        b"\0asm\x0d\0\x01\0\xff\xff",
        &["a damaged component"],
    );
    let whole = fs::read(echo_evented.path()).unwrap();
    check(
        "cut.wasm",
        &whole[..whole.len() / 2],
        &["a damaged component"],
    );
}

#[test]
fn a_component_without_a_contract() {
    let path = faults_none.path();
    check_component(
        path.to_str().unwrap(),
        &[
            "faults_none.wasm: exports none of",
            "it must export one of them",
        ],
    );
}

/// `inspect` says what it needs, and refuses it for the reason that `serve` does.
#[test]
fn an_import_that_nobody_grants() {
    let path = faults_import.path();
    let path = path.to_str().unwrap();
    let serve = [&["serve", path][..], &ANY].concat();
    check(&serve, FAILED, &["imports acme:vault/secrets", "compose"]);
    let refused = sockserve(&serve);
    let inspected = sockserve(["inspect", path]);
    assert_eq!(inspected.status, Some(FAILED));
    assert_eq!(inspected.stderr, refused.stderr);
    let mut lines = inspected.stdout.iter();
    let line = lines.find(|line| line.contains("acme:vault/secrets"));
    assert!(line.unwrap().contains("not provided: compose"), "{line:?}");
}

#[test]
fn components_that_are_not_there() {
    check_component(
        "nowhere.wasm",
        &["nowhere.wasm: No such file", "builtin:NAME"],
    );
    check_component("/", &["/: this is a directory", "builtin:NAME"]);
    check_component("builtin:", &["there is no builtin:;", "echo-blocking"]);
    check_component(
        "builtin:nothing",
        &["there is no builtin:nothing;", "chat-evented"],
    );
    check_component(
        "builtin:faults-blocking",
        &["there is no builtin:faults-blocking;"],
    );
}

#[test]
fn wrong_addresses() {
    for address in [
        "127.0.0.1:0",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:65536",
        "tcp://::1:0",
        "sctp://127.0.0.1:0",
        "tcp://:7000",
        "",
    ] {
        check(
            &["serve", "builtin:echo-blocking", "--listen", address],
            USAGE,
            &["--listen", "tcp://HOST:PORT"],
        );
    }
    // A name that can be looked up and is not there: the system says so.
    check(
        &[
            "serve",
            "builtin:echo-blocking",
            "--listen",
            "tcp://nowhere.invalid:0",
        ],
        FAILED,
        &["tcp://nowhere.invalid:0", "no address found"],
    );
}

#[test]
fn a_port_that_is_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", taken.local_addr().unwrap());
    let parts = [&url, "in use", "port 0"].map(String::from);
    let parts = parts.each_ref().map(String::as_str);
    check(
        &["serve", "builtin:echo-blocking", "--listen", &url],
        FAILED,
        &parts,
    );
    // Nothing is half started: the first listener does not accept either.
    check(
        &[
            "serve",
            "builtin:echo-evented",
            "--listen",
            "tcp://127.0.0.1:0",
            "--listen",
            &url,
        ],
        FAILED,
        &parts,
    );
}

#[test]
fn an_address_of_another_machine() {
    // RFC 5737: nobody has it.
    check(
        &[
            "serve",
            "builtin:echo-blocking",
            "--listen",
            "tcp://192.0.2.1:0",
        ],
        FAILED,
        &["tcp://192.0.2.1:0", "not this machine's"],
    );
}

#[test]
fn a_dispatch_that_does_not_suit_the_contract() {
    for builtin in ["echo-evented", "time-evented", "chat-evented"] {
        for dispatch in ["threaded", "sequential"] {
            let component = format!("builtin:{builtin}");
            let serve = ["serve", &component, "--dispatch", dispatch];
            let said = format!("contract evented cannot run under dispatch {dispatch}");
            check(
                &[&serve[..], &ANY].concat(),
                USAGE,
                &[&said, "use --dispatch poll"],
            );
        }
    }
    check_option(
        &["--dispatch", "forking"],
        &["--dispatch", "sequential, threaded or poll"],
    );
}

#[test]
fn wrong_grants() {
    check_option(&["--env", "NAME"], &["--env", "write NAME=VALUE"]);
    check_option(&["--env", "=value"], &["--env", "write NAME=VALUE"]);
    check_option(&["--dir", "::/data"], &["--dir", "HOST_DIR::GUEST_DIR"]);
    check_system(
        &["--dir", "/nowhere/at/all"],
        &["/nowhere/at/all", "name a directory"],
    );
    check_system(&["--dir", "/dev/null"], &["/dev/null", "name a directory"]);
    for place in [
        "localhost",
        "localhost:",
        ":80",
        "::1:80",
        "localhost:http",
        "a/b:80",
    ] {
        check_option(
            &["--allow-connect", place],
            &["--allow-connect", "write HOST:PORT"],
        );
    }
    check_system(
        &["--allow-connect", "nowhere.invalid:80"],
        &["--allow-connect", "nowhere.invalid:80", "no address found"],
    );
}

// From: case 26; review of 2026-11-25, 3.3.
#[test]
fn wrong_limits() {
    for (option, value, part) in [
        ("--max-connections", "0", "1..=1000000"),
        ("--max-connections", "many", "invalid"),
        ("--max-memory", "1KiB", "between 64KiB and 4GiB"),
        ("--max-memory", "5GiB", "between 64KiB and 4GiB"),
        ("--max-memory", "much", "for example 64MiB"),
        ("--deadline", "0s", "longer than zero"),
        ("--deadline", "soon", "for example 500ms"),
        ("--deadline", "500000000000y", "36525days"),
        ("--linger", "18446744073709551615s", "36525days"),
        ("--drain-timeout", "500000000000y", "36525days"),
        ("--rollback-window", "500000000000y", "36525days"),
        ("--rollback-window", "0s", "longer than zero"),
        ("--workers", "0", "from 1 to 1024"),
        ("--workers", "2000", "from 1 to 1024"),
        ("--reuse", "0", "1.."),
        ("--backlog", "0", "0"),
        ("--linger", "-1s", "--linger"),
        ("--drain-timeout", "later", "--drain-timeout"),
        ("--log-level", "loud", "--log-level"),
        ("--log-format", "xml", "json"),
    ] {
        check_option(&[&format!("{option}={value}")], &[option, part]);
    }
}

#[test]
fn wrong_commands() {
    check(&["dance"], USAGE, &["dance", "--help"]);
    check(&["serve"], USAGE, &["--listen", "<COMPONENT>"]);
    check(&["serve", "builtin:echo-blocking"], USAGE, &["--listen"]);
    check(&[&["serve"][..], &ANY].concat(), USAGE, &["<COMPONENT>"]);
    check(&["inspect"], USAGE, &["<COMPONENT>"]);
    check(
        &["inspect", "builtin:echo-blocking", "more"],
        USAGE,
        &["more"],
    );
    check(&["builtins", "--list"], USAGE, &["--list"]);
    check_option(&["--allow-everything"], &["--allow-everything"]);
}

#[test]
fn a_directory_that_cannot_be_written() {
    check(
        &["builtins", "--write", "/dev/null/below"],
        FAILED,
        &["/dev/null/below", "cannot make the directory"],
    );
}
