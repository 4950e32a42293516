//! Outputs that nobody reads, or not any more.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{ChildStderr, Command};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::command::{run, sockserve};
use crate::harness::guests::echo_blocking;
use crate::harness::log::Event;
use crate::harness::process::Process;
use crate::harness::scratch::Scratch;
use crate::harness::server::ready_address;
use crate::harness::{Client, PATIENCE, Serve, tools};

const EXE: &str = env!("CARGO_BIN_EXE_sockserve");

/// A chat server, and its standard error.
#[track_caller]
fn start(options: &[&OsStr]) -> (Process, ChildStderr, SocketAddr) {
    let mut command = Command::new(EXE);
    command
        .args(["serve", "builtin:chat-evented"])
        .args(["--listen", "tcp://127.0.0.1:0", "--log-format", "json"])
        .args(options);
    let (process, stderr) = Process::start_unheard(&mut command);
    let address = ready_address(&process);
    (process, stderr, address)
}

/// A chat in which one says so many lines of a kilobyte, and another one hears
/// them all.
fn flood(address: SocketAddr, lines: usize) {
    let (mut talker, mut listener) = (Client::connect(address), Client::connect(address));
    talker.line();
    listener.line();
    talker.line();
    let said = format!("[{}] x says", talker.local());
    let hearing = thread::spawn(move || {
        let mut heard = 0;
        while heard < lines {
            // One that left before may be heard of, too.
            heard += usize::from(listener.line().contains(&said));
        }
    });
    let line = format!("x says {}\r\n", "x".repeat(1000));
    for _ in 0..lines {
        talker.send(&line);
    }
    hearing.join().unwrap();
}

/// A reader of the log that stalls holds nobody up, and costs no more memory
/// than a few megabytes; what is lost is counted.
// From: case 23; review of 2026-11-25, 3.6.
#[test]
fn a_log_that_nobody_reads_for_a_while() {
    const LINES: usize = 4000;
    let scratch = Scratch::new();
    let control = scratch.path("control");
    let (mut server, stderr, address) = start(&["--control".as_ref(), control.as_os_str()]);
    flood(address, LINES);
    let args = ["status", "--json", "--control", control.to_str().unwrap()];
    let status: serde_json::Value = serde_json::from_str(&sockserve(args).printed()[0]).unwrap();
    let dropped = status["services"][0]["log-lines-dropped"].as_u64().unwrap();
    // The budget and a pipe have not room for half of them.
    assert!(dropped > LINES as u64 / 2, "{dropped}");
    let status = sockserve(args[..1].iter().chain(&args[2..])).printed();
    let line = format!("  log          lines dropped {dropped}");
    assert!(status.contains(&line), "{status:#?}");
    // Somebody reads again: what waits comes, and how many lines do not.
    let (heard, hearing) = mpsc::channel();
    let reading = thread::spawn(move || {
        let (mut lines, mut lost) = (0, 0);
        for line in BufReader::new(stderr).lines() {
            let line = line.unwrap();
            let event = Event::parse(&line).unwrap_or_else(|| panic!("{line}"));
            lines += u64::from(event.is_guest());
            if event.str("target") == "sockserve::log_queue" {
                assert_eq!(event.str("service"), "chat");
                assert!(
                    event
                        .message()
                        .contains("lines of guests' output were dropped")
                );
                lost += event.number("lines").unwrap();
                let _ = heard.send(());
            }
        }
        (lines, lost)
    });
    hearing.recv_timeout(PATIENCE).unwrap();
    // And what is said from now on is heard.
    flood(address, 10);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let (lines, lost) = reading.join().unwrap();
    assert!(lost >= dropped, "{lost} {dropped}");
    // Four have come and left besides.
    assert_eq!(lines + lost, LINES as u64 + 10 + 8);
}

/// The end does not wait for a reader that takes nothing, nor for one that is
/// gone.
#[test]
fn a_log_that_nobody_will_read() {
    let (mut server, stderr, address) = start(&[]);
    flood(address, 200);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    drop(stderr);
    let (mut server, stderr, address) = start(&[]);
    drop(stderr);
    flood(address, 200);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

/// What a command comes to when its reader has left before it began.
#[track_caller]
fn check_unread(args: &[&str], status: i32) {
    let mut process = Process::start_unread(Command::new(EXE).args(args));
    // The demo has much to do.
    let status_code = process.wait_within(Duration::from_secs(180)).code();
    let said = process.stderr.lines();
    assert_eq!(status_code, Some(status), "{args:?}: {said:#?}");
    // The demo's progress is no complaint.
    let said: Vec<_> = said.iter().filter(|line| !line.ends_with('…')).collect();
    assert!(said.is_empty(), "{args:?}: {said:#?}");
}

#[test]
fn a_reader_that_has_left_is_no_failure() {
    let scratch = Scratch::new();
    check_unread(&["--help"], 0);
    check_unread(&["serve", "--help"], 0);
    check_unread(&["--version"], 0);
    check_unread(&["builtins"], 0);
    check_unread(&["inspect", "builtin:echo-blocking"], 0);
    let directory = scratch.path("written");
    check_unread(&["builtins", "--write", directory.to_str().unwrap()], 0);
    // All of them are written, though nobody hears of it.
    assert!(directory.join("upper-evented.wasm").exists());
    let few = ["--connections", "1", "--round-trips", "1", "--members", "2"];
    check_unread(&[&["demo"][..], &few].concat(), 0);
    let control = scratch.path("control");
    let server = Serve::guest(echo_blocking, "threaded")
        .args([OsStr::new("--control"), control.as_os_str()])
        .start();
    let control = control.to_str().unwrap();
    check_unread(&["status", "--control", control], 0);
    check_unread(&["status", "--json", "--control", control], 0);
    check_unread(&["shutdown", "--control", control], 0);
    server.finish();
}

/// A full disk is one, and so is a closed standard output where something has to
/// be printed.
#[test]
fn a_full_disk_is_a_failure() {
    for args in [
        &["builtins"][..],
        &["--help"],
        &["inspect", "builtin:echo-blocking"],
    ] {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "exec \"$0\" \"$@\" >/dev/full"])
            .arg(EXE)
            .args(args);
        let outcome = run(&mut shell);
        assert_eq!(outcome.status, Some(1), "{outcome:?}");
        let [line] = &outcome.stderr[..] else {
            panic!("{outcome:?}");
        };
        assert!(line.contains("No space left"), "{line}");
    }
}

/// What a server says on a terminal, in an environment.
fn on_a_terminal(environment: &[&str]) -> Option<String> {
    const SCRIPT: &str = "import os, pty, signal, sys\n\
        pid, terminal = pty.fork()\n\
        if pid == 0: os.execvp(sys.argv[1], sys.argv[1:])\n\
        said = b''\n\
        try:\n    \
            while data := os.read(terminal, 4096):\n        \
                if b'listening' in data: os.kill(pid, signal.SIGTERM)\n        \
                said += data\n\
        except OSError: pass\n\
        os.write(1, said)\n";
    if !tools::have("python3", &["--version"]) {
        return None;
    }
    let mut command = Command::new("python3");
    command.args(["-c", SCRIPT, "env", "-u", "NO_COLOR", "-u", "CLICOLOR"]);
    command
        .args(environment)
        .arg(EXE)
        .args(["serve", "builtin:echo-evented"])
        .args(["--listen", "tcp://127.0.0.1:0"]);
    Some(run(&mut command).stdout.join("\n"))
}

// From: case 32.
#[test]
fn colours_are_for_terminals_that_want_them() {
    for (environment, colours) in [
        (&["TERM=xterm"][..], true),
        (&["TERM=xterm", "NO_COLOR="], true),
        (&["TERM=xterm", "NO_COLOR=1"], false),
        (&["TERM=dumb"], false),
        (&["TERM=xterm", "CLICOLOR=0"], false),
    ] {
        let Some(text) = on_a_terminal(environment) else {
            return;
        };
        assert!(text.contains("stopped"), "{environment:?}: {text:?}");
        assert_eq!(text.contains('\x1b'), colours, "{environment:?}: {text:?}");
    }
}
