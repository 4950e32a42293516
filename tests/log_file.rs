//! Where the log goes: to a file that is rotated, or to the journal with priorities.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use rustix::process::Signal;

use crate::harness::command::run;
use crate::harness::guests::echo_blocking;
use crate::harness::log::Event;
use crate::harness::process::Process;
use crate::harness::scratch::Scratch;
use crate::harness::server::ready_address;
use crate::harness::{Client, PATIENCE, Serve, Server};

const EXE: &str = env!("CARGO_BIN_EXE_sockserve");

/// A server that logs to this file.
fn start(log: &Path) -> Server {
    Serve::component("builtin:echo-evented")
        .args(["--log-file".as_ref(), log.as_os_str()])
        .start()
}

/// The events of a file, whose lines are all whole.
#[track_caller]
fn events(path: &Path) -> Vec<Event> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
    let parse = |line| Event::parse(line).unwrap_or_else(|| panic!("no event: {line}"));
    text.lines().map(parse).collect()
}

/// Waits until the file has this text.
#[track_caller]
fn wait_for(path: &Path, text: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !fs::read_to_string(path).is_ok_and(|found| found.contains(text)) {
        assert!(Instant::now() < deadline, "no {text} in {path:?}");
        thread::yield_now();
    }
}

/// As logrotate does it: rename, signal, and lines go to the new file. Connections come all
/// the time, and each has its lines, once and whole, in one of the files.
#[test]
fn a_file_that_is_rotated_loses_no_line() {
    const PEERS: usize = 4;
    const EACH: usize = 60;
    let scratch = Scratch::new();
    let log = scratch.path("log");
    let server = start(&log);
    let address = server.address();
    let mut files = Vec::<PathBuf>::new();
    thread::scope(|scope| {
        let peers: Vec<_> = (0..PEERS)
            .map(|_| {
                scope.spawn(move || {
                    for _ in 0..EACH {
                        Client::connect(address).check_echo("x");
                    }
                })
            })
            .collect();
        while files.len() < 5 || !peers.iter().all(|peer| peer.is_finished()) {
            let old = scratch.path(&format!("log.{}", files.len()));
            fs::rename(&log, &old).unwrap();
            files.push(old);
            server.process.signal(Signal::USR1);
            wait_for(&log, "the log's file was opened again");
        }
    });
    let mut process = server.process;
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
    assert!(
        process.stderr.lines().is_empty(),
        "{:?}",
        process.stderr.lines()
    );
    files.push(log);
    let events: Vec<_> = files.iter().flat_map(|file| events(file)).collect();
    for message in ["connection opened", "connection closed"] {
        let about = events.iter().filter(|event| event.message() == message);
        let mut numbers: Vec<_> = about.map(|event| event.connection().unwrap()).collect();
        numbers.sort_unstable();
        let all: Vec<u64> = (1..=(PEERS * EACH) as u64).collect();
        assert_eq!(numbers, all, "{message}");
    }
    let alarms: Vec<_> = events.iter().filter(|event| event.is_alarm()).collect();
    assert!(alarms.is_empty(), "{alarms:?}");
}

/// The file goes on where it ends, and is not cut.
#[test]
fn a_file_is_appended_to() {
    let scratch = Scratch::new();
    let log = scratch.path("log");
    for _ in 0..2 {
        let mut process = start(&log).process;
        process.signal(Signal::TERM);
        assert_eq!(process.wait().code(), Some(0));
    }
    let stopped = events(&log);
    let stopped = stopped.iter().filter(|event| event.message() == "stopped");
    assert_eq!(stopped.count(), 2);
}

/// If the file cannot be opened again, the log goes on where it was.
#[test]
fn a_file_that_does_not_open_again_costs_no_line() {
    let scratch = Scratch::new();
    let (place, moved) = (scratch.path("place"), scratch.path("moved"));
    fs::create_dir(&place).unwrap();
    let server = start(&place.join("log"));
    fs::rename(&place, &moved).unwrap();
    server.process.signal(Signal::USR1);
    wait_for(&moved.join("log"), "it goes on in the file that is open");
    server.connect().check_echo("x");
    let mut process = server.process;
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
    let events = events(&moved.join("log"));
    let said = |text: &str| events.iter().any(|event| event.message().contains(text));
    assert!(said("cannot open the log ") && said("connection opened") && said("stopped"));
}

#[test]
fn without_a_file_the_signal_does_nothing() {
    let server = Serve::component("builtin:echo-evented").start();
    server.process.signal(Signal::USR1);
    server.wait_for_log("the answer", |event| {
        event.message().contains("there is no --log-file")
    });
    server.connect().check_echo("alive");
    server.stop().check_no_alarm();
}

/// Who starts it sees why it does not start; so does who reads the file.
#[test]
fn a_refusal_is_in_the_file_and_on_standard_error() {
    let scratch = Scratch::new();
    let log = scratch.path("log");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", taken.local_addr().unwrap());
    let serve = |log: &Path| {
        let mut command = Command::new(EXE);
        command.args([
            "serve",
            "builtin:echo-evented",
            "--listen",
            &url,
            "--log-file",
        ]);
        run(command.arg(log))
    };
    let outcome = serve(&log);
    assert_eq!(outcome.status, Some(1), "{outcome:#?}");
    assert_eq!(outcome.stderr.len(), 1, "{outcome:#?}");
    let text = fs::read_to_string(&log).unwrap();
    assert_eq!(text.lines().last(), Some(outcome.stderr[0].as_str()));
    // A file that cannot be opened is told, and so is a pipe that nobody reads.
    let pipe = scratch.path("pipe");
    run(Command::new("mkfifo").arg(&pipe)).printed();
    for log in [scratch.path("no/such"), pipe, scratch.path(".")] {
        let outcome = serve(&log);
        assert_eq!(outcome.status, Some(1), "{outcome:#?}");
        let said = format!("sockserve: cannot open the log {}: ", log.display());
        assert!(outcome.stderr[0].starts_with(&said), "{outcome:#?}");
    }
}

/// Starts a server in a shell that has set `JOURNAL_STREAM` like this.
fn under_journal(stream: &str, arguments: &[&str], component: &Path) -> Process {
    let script = format!("export JOURNAL_STREAM={stream} && exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command
        .args(["-c", &script, EXE])
        .args(arguments)
        .arg("serve")
        .arg(component);
    Process::start(command.args(["--listen", "tcp://127.0.0.1:0"]))
}

/// What systemd sets if standard error is the journal's: here it is the test's.
const ITS_STREAM: &str = "$(stat -Lc %d:%i /proc/self/fd/2)";

/// A line for the journal has its priority, and neither time nor level.
#[test]
fn the_journal_gets_priorities() {
    let scratch = Scratch::new();
    for (stream, arguments, is_the_journals) in [
        (ITS_STREAM, &[][..], true),
        (ITS_STREAM, &["--log-format", "json"], true),
        // Of another descriptor, for instance of the program that has started this one.
        ("1:2", &[], false),
        ("$(stat -Lc %d:%i /)", &[], false),
        ("nonsense", &[], false),
        ("''", &[], false),
    ] {
        let component = scratch.build(echo_blocking, 1);
        let arguments = [&["--log-level", "debug"], arguments].concat();
        let mut process = under_journal(stream, &arguments, &component);
        Client::connect(ready_address(&process)).check_echo("x");
        fs::remove_file(&component).unwrap();
        process.signal(Signal::HUP);
        process.stderr.wait_until("the warning", |lines| {
            lines
                .iter()
                .any(|line| line.contains("not swapped"))
                .then_some(())
        });
        process.signal(Signal::TERM);
        assert_eq!(process.wait().code(), Some(0));
        let lines = process.stderr.lines();
        let line = |text: &str| {
            let found = lines.iter().find(|line| line.contains(text));
            found
                .unwrap_or_else(|| panic!("no {text} in {lines:#?}"))
                .as_str()
        };
        let json = arguments.contains(&"json");
        for (text, prefix, level) in [
            ("connection opened", "<7>", "DEBUG"),
            ("not swapped", "<4>", "WARN"),
            ("draining", "<6>", "INFO"),
        ] {
            let line = line(text);
            assert_eq!(
                line.starts_with(prefix),
                is_the_journals,
                "{stream}: {line}"
            );
            match line.strip_prefix(prefix) {
                Some(event) if json => {
                    assert_eq!(Event::parse(event).unwrap().str("level"), level);
                }
                Some(event) => {
                    assert!(event.starts_with("sockserve::"), "{event}");
                    assert!(!event.contains(level), "{event}");
                }
                None => assert!(line.contains(level), "{line}"),
            }
        }
        let count = lines.iter().filter(|line| line.starts_with('<')).count();
        assert_eq!(count, if is_the_journals { lines.len() } else { 0 });
    }
}

#[test]
fn the_journal_gets_refusals_as_errors() {
    let missing = Path::new("/no/such/component");
    for (stream, start) in [(ITS_STREAM, "<3>sockserve: "), ("1:2", "sockserve: ")] {
        let mut process = under_journal(stream, &[], missing);
        assert_eq!(process.wait().code(), Some(1));
        let lines = process.stderr.lines();
        assert!(lines.len() == 1 && lines[0].starts_with(start), "{lines:?}");
    }
}

/// The journal's stream is of no concern where the log goes to a file.
#[test]
fn a_file_gets_no_priorities() {
    let scratch = Scratch::new();
    let log = scratch.path("log");
    let component = scratch.build(echo_blocking, 1);
    let arguments = ["--log-file", log.to_str().unwrap()];
    let mut process = under_journal(ITS_STREAM, &arguments, &component);
    ready_address(&process);
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("INFO") && !text.contains("<6>"), "{text}");
}
