//! Handlers in C, by the library in `sdk/c/`: what each of its functions does, over loopback,
//! and that its bindings are those of the contracts.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::harness::command::{run, run_within, sockserve};
use crate::harness::scratch::Scratch;
use crate::harness::{Client, PATIENCE, Serve, noise, slow, text, tools};

/// How long a compiler may take; the first time it compiles its libc as well.
const SLOW: Duration = Duration::from_secs(300);

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// What makes the bindings.
const GENERATOR: &str = "0.63.0";

/// The component of a file in `tests/languages/c/`, built as a template's Makefile does it.
/// `None` without the compiler.
fn component(scratch: &Scratch, file: &str, contract: &str) -> Option<PathBuf> {
    let zig = tools::find(&["zig", "python-zig"], "pip install ziglang")?;
    let repository = Path::new(REPOSITORY);
    let library = repository.join("sdk/c");
    let path = scratch.path("handler.wasm");
    let mut cc = Command::new(zig);
    cc.args(["cc", "-target", "wasm32-wasi", "-mexec-model=reactor"]);
    cc.args(["-O2", "-s", "-Wall", "-Wextra", "-Werror", "-I"]);
    cc.arg(&library).arg("-o").arg(&path);
    cc.arg(repository.join("tests/languages/c").join(file));
    cc.arg(library.join(format!("sockserve/{contract}.c")));
    cc.arg(library.join(format!("bindings/{contract}.c")));
    cc.arg(library.join(format!("bindings/{contract}_component_type.o")));
    run_within(&mut cc, SLOW).printed();
    let words = ["componentize".as_ref(), path.as_os_str(), "-o".as_ref()];
    sockserve([&words[..], &[path.as_os_str(), "--force".as_ref()]].concat()).printed();
    Some(path)
}

#[test]
fn a_connection_is_read_and_written() {
    let scratch = Scratch::new();
    let Some(component) = component(&scratch, "streams.c", "blocking") else {
        return;
    };
    let socket = scratch.path("socket");
    let server = Serve::component(&component)
        .listen("tcp://127.0.0.1:0")
        .listen(&format!("unix://{}", socket.display()))
        .start();

    let mut client = server.connect();
    client.send("who\n");
    client.expect(format!("{}\n", client.local()));
    client.expect_eof();
    // A peer without a name.
    let mut client = Client::connect_unix(&socket);
    client.send("who\n");
    client.expect("\n");
    client.expect_eof();

    // More than fits into any buffer, both ways at once.
    let mut client = server.connect();
    let sent = noise(4 << 20);
    let mut writer = client.another();
    thread::scope(|scope| {
        scope.spawn(|| {
            writer.send("copy\n");
            writer.send(&sent);
            writer.finish_sending();
        });
        assert!(client.read_to_end() == sent, "other bytes came back");
    });

    // Lines of any length, whole or not.
    for (line, answer) in [
        ("one\n".to_owned(), "4 1\n"),
        ("no end".to_owned(), "6 1\n"),
        (String::new(), "0 1\n"),
        ("x".repeat(300_000) + "\n", "300001 1\n"),
    ] {
        let mut client = server.connect();
        client.send(&line);
        client.finish_sending();
        assert_eq!(text(client.read_to_end()), text(answer));
    }

    let finished = server.stop();
    finished.check_no_alarm();
    assert!(finished.guest_lines().is_empty());
}

#[test]
fn a_connection_that_is_half_closed_is_still_read() {
    let scratch = Scratch::new();
    let Some(component) = component(&scratch, "streams.c", "blocking") else {
        return;
    };
    let server = Serve::component(&component).start();
    let mut client = server.connect();
    client.send("finish\n");
    assert_eq!(client.read_to_end(), b"bye\n");
    client.send("still here\n");
    server.wait_for_log("the failure", |event| {
        event.message().ends_with(": the connection is closed")
    });
    let finished = server.stop();
    assert_eq!(finished.guest_lines(), ["1 still here"]);
}

#[test]
fn a_failure_is_in_the_log() {
    let scratch = Scratch::new();
    let Some(component) = component(&scratch, "streams.c", "blocking") else {
        return;
    };
    let server = Serve::component(&component).start();
    let mut client = server.connect();
    client.send("fail\n");
    client.expect_eof();
    let failed = |reason: &str| {
        server.wait_for_log(reason, |event| {
            event.message().starts_with("connection failed: ") && event.message().contains(reason)
        })
    };
    failed("no luck today");
    // The peer's fault: a read fails.
    let mut client = server.connect();
    client.send("copy\nx");
    client.expect("x");
    client.reset();
    failed("reset");
    server.stop();
}

#[test]
fn datagrams_are_answered() {
    let scratch = Scratch::new();
    let Some(component) = component(&scratch, "datagrams.c", "datagram") else {
        return;
    };
    let socket = scratch.path("socket");
    let server = Serve::component(&component)
        .listen("udp://127.0.0.1:0")
        .listen("udp://[::1]:0")
        .listen(&format!("unix+dgram://{}", socket.display()))
        .start();

    for (own, address) in ["127.0.0.1:0", "[::1]:0"].iter().zip(&server.addresses) {
        let client = UdpSocket::bind(own).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.connect(address).unwrap();
        let mut room = [0; 70_000];
        let mut check = |sent: &[u8], expected: &[&[u8]]| {
            client.send(sent).unwrap();
            for expected in expected {
                let length = client.recv(&mut room).unwrap();
                assert!(room[..length] == **expected, "{}", text(&room[..length]));
            }
        };
        let own = client.local_addr().unwrap().to_string();
        check(b"who", &[own.as_bytes()]);
        check(b"twice", &[b"one", b"two"]);
        check(b"silence", &[]);
        check(b"", &[b""]);
        check(&noise(65_507), &[&noise(65_507)]);
        let all: Vec<_> = (0..200).map(|number| [number]).collect();
        let all: Vec<_> = all.iter().map(|it| &it[..]).collect();
        check(b"many", &all);
    }

    let own = scratch.path("own");
    let client = UnixDatagram::bind(&own).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.connect(&socket).unwrap();
    client.send(b"who").unwrap();
    let mut room = [0; 200];
    let length = client.recv(&mut room).unwrap();
    assert_eq!(text(&room[..length]), own.display().to_string());
    server.stop().check_no_alarm();
}

#[test]
fn one_instance_serves_all_by_events() {
    let scratch = Scratch::new();
    let Some(component) = component(&scratch, "events.c", "evented") else {
        return;
    };
    let server = Serve::component(&component).start();
    let mut clients = [server.connect(), server.connect()];
    for client in &mut clients {
        client.send("who\n");
        client.expect(format!("{}\n", client.local()));
    }
    // What belongs to a connection stays with it.
    for (which, expected) in [(0, "101\n"), (0, "102\n"), (1, "101\n")] {
        clients[which].send("count\n");
        clients[which].expect(expected);
    }
    let [mut one, mut other] = clients;

    // More than may wait, both ways: a peer that does not read is not read from.
    let sent = noise(8 << 20);
    let mut writer = one.another();
    thread::scope(|scope| {
        scope.spawn(|| {
            writer.send(&sent);
            writer.finish_sending();
        });
        assert!(one.read_to_end() == sent, "other bytes came back");
    });
    other.send("close\n");
    other.expect("bye\n");
    other.expect_eof();

    let mut keeps = server.connect();
    keeps.send("keep\nit");
    keeps.finish_sending();
    keeps.expect_eof();
    let finished = server.stop();
    finished.check_no_alarm();
    let expected = [
        "closed: 1 are left",
        "more: 0",
        "closed: 0 are left",
        "kept: 7",
        "closed: 0 are left",
    ];
    assert_eq!(finished.guest_lines(), expected);
}

#[test]
fn what_waits_is_bounded() {
    let scratch = Scratch::new();
    let Some(component) = component(&scratch, "events.c", "evented") else {
        return;
    };
    let server = Serve::component(&component).start();
    let failed = |reason: &str| {
        server.wait_for_log(reason, |event| {
            event.message().starts_with("connection failed: ") && event.message().contains(reason)
        })
    };
    let mut bystander = server.connect();
    bystander.check_echo("before\n");
    let mut floods = server.connect();
    floods.send("flood\n");
    failed("the peer does not read what is written to it");
    let mut keeps = server.connect();
    keeps.send("keep\n");
    keeps.send_some(&noise(2 << 20));
    failed("the handler does not take what the peer sends");
    bystander.check_echo("after\n");
    bystander.finish_sending();
    bystander.expect_eof();
    server.stop();
}

#[test]
fn a_slow_handler_serves_all_that_many_send_at_once() {
    let scratch = Scratch::new();
    let Some(component) = component(&scratch, "events.c", "evented") else {
        return;
    };
    let server = Serve::component(&component).start();
    slow::check_deadline(&server);
    server.stop().check_no_alarm();
    let server = Serve::component(&component).start();
    slow::check_fairness(&server, 2 << 20, 1);
}

/// They are made from the contracts: who changes these makes the bindings again.
#[test]
fn the_bindings_are_what_the_generator_makes() {
    let how = format!(
        "cargo install --locked wit-bindgen-cli@{GENERATOR} --no-default-features --features c"
    );
    let Some(generator) = tools::find(&["wit-bindgen"], &how) else {
        return;
    };
    let version = run(Command::new(&generator).arg("--version")).printed();
    if !version[0].ends_with(&format!(" {GENERATOR}")) {
        println!("skipped: {} and not {GENERATOR}; {how}", version[0]);
        return;
    }
    let bindings = Path::new(REPOSITORY).join("sdk/c/bindings");
    let worlds = ["blocking", "datagram", "evented"];
    for world in worlds {
        let mut generate = Command::new(&generator);
        generate.args(["c", "wit", "sdk/c/worlds.wit", "--check"]);
        generate.args(["--world", &format!("sockserve:c/{world}"), "--out-dir"]);
        let outcome = run(generate.arg(&bindings).current_dir(REPOSITORY));
        assert_eq!(outcome.status, Some(0), "make them again: {outcome:#?}");
    }
    assert_eq!(fs::read_dir(bindings).unwrap().count(), 3 * worlds.len());
}
