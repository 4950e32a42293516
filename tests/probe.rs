//! A probe, where others come in its way or the handler does not do as it is
//! meant to. What it decides is in `swap`.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::harness::control::Controlled;
use crate::harness::guests::{echo_blocking, echo_evented, faults_concurrent};
use crate::harness::scratch::Scratch;
use crate::harness::{Guest, Server};

/// What the kernel calls a listening socket.
const LISTENING: &str = "0A";

/// Every port of 127.0.0.1 on which the server listens.
fn listening(server: &Server) -> HashSet<u16> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", server.process.id())).unwrap();
    let own: HashSet<String> = descriptors
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| link.into_os_string().into_string().ok())
        .collect();
    let port = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let port = words.get(1)?.strip_prefix("0100007F:")?;
        let inode = words.get(9)?;
        (words[3] == LISTENING && own.contains(&format!("socket:[{inode}]")))
            .then(|| u16::from_str_radix(port, 16).unwrap())
    };
    table.lines().filter_map(port).collect()
}

for_each_pair! { echo by default: others_do_not_get_into_it }
/// Another process that connects to every port as soon as it is there decides
/// nothing, and is not served by a version that is only tried.
// From: review of 2026-11-25, 3.10.
fn others_do_not_get_into_it(guest: Guest, dispatch: &str) {
    let cache = Scratch::new();
    let cache = cache.path("cache");
    let options = ["--cache", cache.to_str().unwrap()];
    let controlled = Controlled::start(guest, dispatch, &options);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let intruding = scope.spawn(|| {
            let known = listening(&controlled.server);
            let mut intruders = Vec::new();
            while !done.load(Ordering::Relaxed) {
                for port in listening(&controlled.server).difference(&known) {
                    let address = SocketAddr::from(([127, 0, 0, 1], *port));
                    // It may be gone already.
                    intruders.extend(TcpStream::connect(address));
                }
            }
        });
        for number in 0..8 {
            let build = controlled.scratch.build(guest, number % 2);
            controlled.swap(build, &["--probe", r"send=hello\n,expect=hello\n"]);
        }
        done.store(true, Ordering::Relaxed);
        intruding.join().unwrap();
    });
    // Nor are they anybody's connections.
    assert_eq!(controlled.status()["accepted"], 0);
}

/// What a version says to a probe that it does not pass, in the terms of a probe.
#[track_caller]
fn check(guest: Guest, mode: &str, probe: &str, expected: &str) {
    let controlled = Controlled::start(guest, "poll", &["--env", mode]);
    let build = controlled.scratch.build(guest, 1);
    let why = controlled.swap_refused(&build, &["--probe", probe]);
    let why = why.replace(build.to_str().unwrap(), "BUILD");
    assert_eq!(
        why,
        format!("sockserve: the probe failed: {expected}"),
        "{mode}"
    );
}

#[test]
fn an_answer_is_shown_as_a_probe_would_have_it() {
    check(
        echo_blocking,
        "MODE=stream",
        r"send=a\,\x1b[31m\r\n\0\xff\xe2\x80\xae,expect=a\,\x1b[31m\r\n\0\xff\xe2\x80\xaf",
        r#"expected "a\,\x1b[31m\r\n\x00\xff\xe2\x80\xaf", and BUILD answered "a\,\x1b[31m\r\n\x00\xff\xe2\x80\xae""#,
    );
    // It ends before it is as long as what was expected.
    check(
        echo_evented,
        "MODE=hello",
        r"expect=Hello World!\nand more",
        r#"expected "Hello World!\nand more", and BUILD answered "Hello World!\n""#,
    );
    // It says nothing at all.
    check(
        faults_concurrent,
        "MODE=early",
        "send=x,expect=x",
        r#"expected "x", and BUILD answered """#,
    );
}

for_each_pair! { faults under poll: an_answer_may_be_without_an_end }
/// An answer without an end is decided about by its beginning, and not shown to
/// its end.
fn an_answer_may_be_without_an_end(guest: Guest, dispatch: &str) {
    let controlled = Controlled::start(guest, dispatch, &["--env", "MODE=flood"]);
    let build = controlled.scratch.build(guest, 1);
    let probe = format!("expect={}", "x".repeat(10_000));
    controlled.swap(&build, &["--probe", &probe]);
    let build = controlled.scratch.build(guest, 2);
    let probe = format!("expect={}y", "x".repeat(10_000));
    let why = controlled.swap_refused(&build, &["--probe", &probe]);
    let most = format!(r#""{}…""#, "x".repeat(200));
    assert!(why.contains(&most), "{why}");
    assert!(why.len() < 1000, "{why}");
}
