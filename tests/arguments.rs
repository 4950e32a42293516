//! What arguments come to: exit status 2 for what the arguments say, 1 for what
//! the system says, the same in every command, and one line that nobody can
//! forge.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::{SocketAddr, SocketAddrV6};
use std::os::unix::ffi::OsStrExt as _;

use crate::harness::command::sockserve;
use crate::harness::guests::{echo_blocking, echo_evented};
use crate::harness::scratch::Scratch;
use crate::harness::{Client, Serve};

/// Wrong arguments.
const USAGE: i32 = 2;
/// It did not work.
const FAILED: i32 = 1;

/// A refusal on one line without anything that a terminal acts on.
#[track_caller]
fn check<A: AsRef<OsStr>>(args: &[A], status: i32, parts: &[&str]) {
    let shown: Vec<_> = args.iter().map(AsRef::as_ref).collect();
    let outcome = sockserve(args);
    let [line] = outcome.stderr.as_slice() else {
        panic!("not one line for {shown:?}: {outcome:#?}");
    };
    assert_eq!(outcome.status, Some(status), "{shown:?}: {line}");
    assert!(line.starts_with("sockserve: "), "{line}");
    assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
    for part in parts {
        assert!(line.contains(part), "no {part:?} in: {line}");
    }
}

/// After `--` it would be an argument of the component.
#[test]
fn a_value_that_looks_like_an_option_is_not_sent_behind_the_dashes() {
    let serve = [
        "serve",
        "builtin:echo-blocking",
        "--listen",
        "tcp://127.0.0.1:0",
    ];
    for value in [["--linger", "-1"], ["--workers", "-1"]] {
        let args = [&serve[..], &value].concat();
        check(&args, USAGE, &["'-1'"]);
        assert!(!sockserve(&args).stderr[0].contains("'-- "));
    }
}

/// Every kind of mistake, in every command that it can be made in.
// From: cases 26 and 31; review of 2026-11-25, 3.17.
#[test]
fn the_status_says_whose_word_it_is() {
    let serve = ["serve", "builtin:echo-blocking", "--listen"];
    let any = "tcp://127.0.0.1:0";
    let listen = |address, status, part| check(&[&serve[..], &[address]].concat(), status, &[part]);
    let option = |args: &[&str], status, part| {
        check(&[&serve[..], &[any], args].concat(), status, &[part]);
    };
    // What clap finds.
    check(&["dance"], USAGE, &["'dance'"]);
    check(&["serv"], USAGE, &["tip: ", "'serve'"]);
    check(
        &["serve", "--listn", any],
        USAGE,
        &["'--listn'", "'--listen'"],
    );
    check(&["serve"], USAGE, &["--listen <URL> <COMPONENT>"]);
    check(
        &["builtins", "--write"],
        USAGE,
        &["a value is required for '--write <DIR>'"],
    );
    check(&["builtins", "more"], USAGE, &["'more'"]);
    check(
        &["--log-level", "loud", "builtins"],
        USAGE,
        &["'loud'", "trace"],
    );
    option(
        &["--log-format", "xml"],
        USAGE,
        "[possible values: text, json]",
    );
    option(&["--name", "a", "--name", "b"], USAGE, "multiple times");
    option(&["--watch=1"], USAGE, "--watch");
    // Addresses, before and after they are looked up.
    listen("tcp://[[::1]]:0", USAGE, "no IPv6 address in the brackets");
    listen("tcp://[fe80::1]:0", USAGE, "[fe80::1%ZONE]");
    listen("tcp://[::1%lo]:0", USAGE, "write [::1]");
    listen("tcp://127.1:0", USAGE, "four numbers");
    listen("tcp://127.0.0.1:+0", USAGE, "without sign");
    listen("tcp://127.0.0.1:00", USAGE, "leading zero");
    listen("tcp://::1:0", USAGE, "write tcp://HOST:PORT");
    listen("tcp://nowhere.invalid:0", FAILED, "a name that resolves");
    listen("tcp://[fe80::1%nowhere]:0", FAILED, "no interface");
    listen("tcp://192.0.2.1:0", FAILED, "not this machine's");
    listen("tcp://[2001:db8::1]:0", FAILED, "[::]");
    // Grants.
    option(&["--allow-connect", "[::1]]:80"], USAGE, "write HOST:PORT");
    option(
        &["--allow-connect", "127.0.0.1:+80"],
        USAGE,
        "write HOST:PORT",
    );
    option(
        &["--allow-connect", "nowhere.invalid:80"],
        FAILED,
        "a name that resolves",
    );
    option(&["--dir", "::/data"], USAGE, "HOST_DIR::GUEST_DIR");
    option(&["--dir", "/nowhere/at/all"], FAILED, "name a directory");
    option(
        &["--dir", "/tmp::/data", "--dir", "/dev::/data/"],
        USAGE,
        "/tmp and /dev are both granted as /data",
    );
    // Numbers and times.
    option(&["--max-connections", "0"], USAGE, "1..=1000000");
    option(&["--max-memory", "1"], USAGE, "between 64KiB and 4GiB");
    option(&["--deadline", "0s"], USAGE, "longer than zero");
    option(&["--deadline", "584554049253y"], USAGE, "36525days");
    option(&["--rollback-window", "0s"], USAGE, "longer than zero");
    option(&["--drain-timeout", "soon"], USAGE, "for example 500ms");
    // What is not there, or cannot be used.
    for command in [&["inspect"][..], &["serve", "--listen", any]] {
        let component = |name| [command, &[name]].concat();
        check(&component("nowhere.wasm"), FAILED, &["nowhere.wasm"]);
        check(&component("builtin:nothing"), FAILED, &["builtin:nothing"]);
    }
    option(&["--cache", "/dev/null/cache"], FAILED, "/dev/null/cache");
    option(&["--control", "/nowhere/at/all"], FAILED, "/nowhere/at/all");
    check(
        &["builtins", "--write", "/dev/null/x"],
        FAILED,
        &["/dev/null/x"],
    );
    // Requests to a running process.
    let nobody = ["--control", "/nowhere/at/all"];
    for (command, service, component) in [
        ("status", None, None),
        ("shutdown", None, None),
        ("drain", Some("echo"), None),
        ("rollback", Some("echo"), None),
        ("swap", Some("echo"), Some("builtin:echo-blocking")),
    ] {
        let command: Vec<_> = [Some(command), service, component]
            .into_iter()
            .flatten()
            .collect();
        check(
            &[&command[..], &nobody].concat(),
            FAILED,
            &["/nowhere/at/all"],
        );
        check(&command, USAGE, &["--control <PATH>"]);
        if service.is_some() {
            let mut wrong = command.clone();
            wrong[1] = "no name";
            check(&[&wrong[..], &nobody].concat(), USAGE, &["letters, digits"]);
        }
    }
    let swap = [
        "swap",
        "echo",
        "builtin:echo-blocking",
        "--control",
        "/nowhere",
    ];
    for (option, value, part) in [
        ("--probe", "what", "send=TEXT,expect=TEXT"),
        ("--old", "keep", "possible values"),
        ("--drain-timeout", "500000000000y", "36525days"),
        ("--drain-timeout", "later", "for example 500ms"),
    ] {
        check(
            &[&swap[..], &[option, value]].concat(),
            USAGE,
            &[option, part],
        );
    }
}

/// What is typed cannot look like something else in the refusal.
#[test]
fn what_was_typed_is_shown_on_one_line() {
    let hostile = "a\r2026-11-25 ERROR\u{1b}[31m\n\nUsage: b\u{202e}\u{2028}c";
    let shown = r"a\r2026-11-25 ERROR\u{1b}[31m\n\nUsage: b\u{202e}\u{2028}c";
    let any = ["--listen", "tcp://127.0.0.1:0"];
    let serve = ["serve", "builtin:echo-blocking"];
    check(&[hostile], USAGE, &[shown]);
    check(&["builtins", hostile], USAGE, &[shown]);
    check(&["inspect", hostile], FAILED, &[shown]);
    check(&[&["serve", hostile][..], &any].concat(), FAILED, &[shown]);
    check(
        &["builtins", "--write", &format!("/dev/null/{hostile}")],
        FAILED,
        &[shown],
    );
    check(&["status", "--control", hostile], FAILED, &[shown]);
    for option in [
        "--listen",
        "--name",
        "--env",
        "--allow-connect",
        "--dispatch",
        "--deadline",
        "--max-memory",
        "--log-format",
    ] {
        let args = [&serve[..], &any, &[option, hostile]].concat();
        check(&args, USAGE, &[option, shown]);
    }
    for option in ["--dir", "--cache"] {
        let path = format!("/dev/null/{hostile}");
        check(
            &[&serve[..], &any, &[option, &path]].concat(),
            FAILED,
            &[shown],
        );
    }
    // A text without an end.
    let outcome = sockserve(["inspect".to_owned(), "--".to_owned() + &"x".repeat(100_000)]);
    assert_eq!(outcome.status, Some(USAGE));
    assert!(outcome.stderr[0].len() < 1000);
}

/// Where a path is expected any bytes are one; elsewhere they are refused.
#[test]
fn paths_are_bytes() {
    let scratch = Scratch::new();
    let bytes = |text: &[u8]| OsStr::from_bytes(text).to_owned();
    let component = scratch.path("").join(bytes(b"echo\xff.wasm"));
    fs::copy(echo_blocking.path(), &component).unwrap();
    let directory = scratch.path("").join(bytes(b"dir\xfe"));
    fs::create_dir(&directory).unwrap();
    let outcome = sockserve([OsStr::new("inspect"), component.as_os_str()]);
    let lines = outcome.printed();
    assert!(lines[0].ends_with(r"echo\xff.wasm"), "{}", lines[0]);
    let mut grant = directory.clone().into_os_string();
    grant.push("::/data");
    let control = scratch.path("").join(bytes(b"control\xfd"));
    let server = Serve::component(&component)
        // Each connection may open files of the directory.
        .args(["--dispatch", "threaded", "--max-connections", "10"])
        .args([OsStr::new("--dir"), &grant])
        .args([OsStr::new("--control"), control.as_os_str()])
        .args([
            OsStr::new("--cache"),
            scratch.path("").join(bytes(b"cache\xfc")).as_os_str(),
        ])
        .start();
    server.connect().check_echo("hello");
    let status = [
        OsStr::new("status"),
        OsStr::new("--control"),
        control.as_os_str(),
    ];
    let lines = sockserve(status).printed();
    assert!(
        lines.iter().any(|line| line.contains(r"echo\xff.wasm")),
        "{lines:#?}"
    );
    server.stop().check_no_alarm();
    // The guest would have to be told the name.
    let any = [
        "serve",
        "builtin:echo-blocking",
        "--listen",
        "tcp://127.0.0.1:0",
    ];
    let with = |option: &str, value: OsString| -> Vec<OsString> {
        let args = any.iter().copied().chain([option]);
        args.map(OsString::from).chain([value]).collect()
    };
    check(
        &with("--dir", directory.into_os_string()),
        USAGE,
        &[r"dir\xfe", "UTF-8", "HOST_DIR::GUEST_DIR"],
    );
    check(
        &with("--env", bytes(b"A=\xff")),
        USAGE,
        &[r"A=\xff", "not UTF-8"],
    );
    check(&[bytes(b"\xff")], USAGE, &["unrecognized subcommand"]);
}

/// Of a variable that is given twice the last value counts.
// From: case 28.
#[test]
fn the_last_value_of_a_variable_counts() {
    let server = Serve::guest(echo_blocking, "threaded")
        .env("MODE=once")
        .env("MODE=line")
        .start();
    let mut client = server.connect();
    client.check_echo("one\n");
    client.check_echo("two\n");
    drop(client);
    server.stop().check_no_alarm();
}

/// The same port of the same address once; port 0 as often as one likes.
#[test]
fn an_address_is_listened_on_once() {
    let server = Serve::guest(echo_evented, "poll")
        .listen("TCP://127.0.0.1:0")
        .listen("tcp://127.0.0.1:0")
        .start();
    let [first, second] = server.addresses[..] else {
        panic!("{:?}", server.ready);
    };
    assert_ne!(first.port(), second.port());
    for address in [first, second] {
        Client::connect(address).check_echo("hello");
    }
    let port = first.port();
    server.stop().check_no_alarm();
    let url = format!("tcp://127.0.0.1:{port}");
    check(
        &[
            "serve",
            "builtin:echo-evented",
            "--listen",
            &url,
            "--listen",
            &url,
        ],
        USAGE,
        &[&url, "given twice"],
    );
}

/// A link-local address is one of an interface, by its name or its number.
// From: case 30; review of 2026-11-25, 3.17.
#[test]
fn a_zone_is_taken() {
    let Some((address, interface)) = link_local() else {
        println!("skipped: no interface has a link-local address");
        return;
    };
    for zone in [interface, address.scope_id().to_string()] {
        let server = Serve::guest(echo_evented, "poll")
            .listen(&format!("tcp://[{}%{zone}]:0", address.ip()))
            .start();
        let SocketAddr::V6(local) = server.address() else {
            panic!("{:?}", server.ready);
        };
        assert_eq!(
            (local.ip(), local.scope_id()),
            (address.ip(), address.scope_id())
        );
        server.connect().check_echo("hello");
        server.stop().check_no_alarm();
    }
}

/// A link-local address of this machine, with its interface's name.
fn link_local() -> Option<(SocketAddrV6, String)> {
    let table = fs::read_to_string("/proc/net/if_inet6").ok()?;
    table.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [ip, index, _, "20", flags, name] = words[..] else {
            return None;
        };
        // Tentative, or a duplicate: it cannot be used yet, or at all.
        let usable = u8::from_str_radix(flags, 16).ok()? & 0x48 == 0;
        let ip = u128::from_str_radix(ip, 16).ok()?.into();
        let index = u32::from_str_radix(index, 16).ok()?;
        usable.then(|| (SocketAddrV6::new(ip, 0, 0, index), name.to_owned()))
    })
}
