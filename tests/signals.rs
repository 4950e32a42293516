//! Signals at any time: before the start is done, while another swap is under
//! way, and while the component's path names nothing that can be read.

use std::io::Write as _;
use std::process::{ChildStdin, Command};
use std::time::Instant;

use rustix::process::Signal;

use crate::harness::control::Controlled;
use crate::harness::guests::{echo_blocking, time_blocking};
use crate::harness::log::Event;
use crate::harness::process::Process;
use crate::harness::scratch::{Scratch, write_build};
use crate::harness::{PATIENCE, Serve};

const EXE: &str = env!("CARGO_BIN_EXE_sockserve");

/// A start that waits for its component, and catches signals by now.
#[track_caller]
fn start_slowly() -> (Process, ChildStdin) {
    let args = [
        "--log-format",
        "json",
        "serve",
        "/dev/stdin",
        "--listen",
        "tcp://127.0.0.1:0",
    ];
    let (process, typing) = Process::start_typing(Command::new(EXE).args(args));
    let file = format!("/proc/{}/status", process.id());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = std::fs::read_to_string(&file).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = u64::from_str_radix(caught.unwrap().trim(), 16).unwrap();
        let all = [Signal::HUP, Signal::INT, Signal::TERM];
        if all
            .iter()
            .all(|signal| caught >> (signal.as_raw() - 1) & 1 == 1)
        {
            return (process, typing);
        }
        assert!(
            Instant::now() < deadline,
            "it does not catch signals: {status}"
        );
        std::thread::yield_now();
    }
}

#[test]
fn a_signal_ends_the_start() {
    for signal in [Signal::TERM, Signal::INT] {
        let (mut process, typing) = start_slowly();
        process.signal(signal);
        assert_eq!(process.wait().code(), Some(0));
        assert!(process.stdout.lines().is_empty());
        let log = process.stderr.lines();
        let event = Event::parse(&log[0]).unwrap();
        assert_eq!(event.message(), "ended by a signal before it served");
        assert_eq!(log.len(), 1, "{log:?}");
        drop(typing);
    }
}

// From: case 17.
#[test]
fn sighup_waits_until_the_start_is_done() {
    let (mut process, mut typing) = start_slowly();
    for _ in 0..3 {
        process.signal(Signal::HUP);
    }
    let component = std::fs::read(echo_blocking.path()).unwrap();
    typing.write_all(&component).unwrap();
    drop(typing);
    process.stdout.wait_until("the ready line", |lines| {
        lines
            .iter()
            .any(|line| line.starts_with("listening "))
            .then_some(())
    });
    let answers = |lines: &[String]| {
        let events = lines.iter().filter_map(|line| Event::parse(line));
        events
            .filter(|event| event.message().starts_with("not swapped"))
            .count()
    };
    process
        .stderr
        .wait_until("the answer", |lines| (answers(lines) > 0).then_some(()));
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
    assert_eq!(answers(&process.stderr.lines()), 1, "several are one");
}

// From: case 1.
#[test]
fn sighup_during_a_swap_is_done_after_it() {
    let scratch = Scratch::new();
    let file = scratch.path("echo.wasm");
    std::fs::copy(echo_blocking.path(), &file).unwrap();
    let server = Serve::component(&file)
        .args(["--control".as_ref(), scratch.path("control").as_os_str()])
        .start();
    let controlled = Controlled { server, scratch };
    write_build(&file, time_blocking, 1);
    // The probe's answer never comes, so this swap takes a while and fails.
    let mut slow = Command::new(EXE);
    slow.args([
        "swap",
        "echo",
        "builtin:upper-blocking",
        "--probe",
        "send=x\\n,expect=never",
    ])
    .arg("--control")
    .arg(controlled.socket());
    let mut slow = Process::start(&mut slow);
    // The new version prints what the probe has sent.
    controlled.server.wait_for_log("the probe", Event::is_guest);
    for _ in 0..2 {
        controlled.server.process.signal(Signal::HUP);
    }
    assert_eq!(slow.wait().code(), Some(1));
    controlled.server.wait_for_version(2);
    assert!(controlled.server.connect().read_to_end().ends_with(b"\r\n"));
    controlled.server.stop();
}

/// A FIFO in the place of a watched file is one line, and nothing waits for it.
// From: cases 2 and 12; review of 2026-11-25, 3.17.
#[test]
fn a_watched_fifo_makes_nobody_deaf() {
    let scratch = Scratch::new();
    let file = scratch.path("echo.wasm");
    std::fs::copy(echo_blocking.path(), &file).unwrap();
    let server = Serve::component(&file)
        .args(["--watch", "--control"])
        .args([scratch.path("control")])
        .start();
    let controlled = Controlled { server, scratch };
    std::fs::remove_file(&file).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let refused = |event: &Event| event.message().contains("this is a pipe");
    controlled.server.wait_for_log("the refusal", refused);
    assert_eq!(controlled.status()["state"], "serving");
    controlled.server.connect().check_echo("still\n");
    assert_eq!(controlled.swap("builtin:upper-blocking", &[]), 2);
    std::fs::remove_file(&file).unwrap();
    write_build(&file, time_blocking, 1);
    controlled.server.wait_for_version(3);
    let finished = controlled.server.stop();
    let told = finished.log.iter().filter(|event| refused(event)).count();
    assert_eq!(told, 1, "once for a state of the file");
}
