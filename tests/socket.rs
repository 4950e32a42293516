//! The control socket under clients that hold it up, and the commands under
//! processes that do not answer.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use crate::harness::command::{Outcome, run, sockserve};
use crate::harness::control::{Controlled, refusal, request};
use crate::harness::guests::{echo_blocking, echo_evented, upper_blocking};
use crate::harness::scratch::Scratch;
use crate::harness::{Client, PATIENCE, Serve, tools};

const EXE: &str = env!("CARGO_BIN_EXE_sockserve");

fn status(socket: &Path) -> Outcome {
    sockserve(["status".as_ref(), "--control".as_ref(), socket.as_os_str()])
}

fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

// From: case 20.
#[test]
fn a_client_may_close_its_sending_side_after_the_request() {
    let controlled = Controlled::start(echo_blocking, "poll", &[]);
    let body = format!(r#"{{"component":"{}"}}"#, upper_blocking.builtin());
    let swap = request("POST", "/v1/services/echo/swap", &body);
    let mut stream = connect(&controlled.socket());
    stream.write_all(swap.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.contains(r#""version":2"#), "{answer}");
}

/// More clients than may be connected, who send nothing or not enough, are sent
/// away after a while, and those who have a request get their answer.
// From: review of 2026-11-25, 3.7.
#[test]
fn clients_that_do_not_ask_hold_nobody_up() {
    let controlled = Controlled::start(echo_blocking, "poll", &[]);
    let socket = controlled.socket();
    let mut idle: Vec<UnixStream> = (0..40).map(|_| connect(&socket)).collect();
    for stream in idle.iter_mut().step_by(2) {
        stream
            .write_all(b"GET /v1/status HTTP/1.1\r\nHost:")
            .unwrap();
    }
    let mut asking = connect(&socket);
    asking
        .write_all(request("GET", "/v1/status", "").as_bytes())
        .unwrap();
    let mut answer = String::new();
    asking.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    for mut stream in idle {
        let mut rest = Vec::new();
        let end = stream.read_to_end(&mut rest);
        assert!(end.is_ok(), "{end:?}");
        assert!(
            rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"),
            "{rest:?}"
        );
    }
    controlled.server.stop().check_no_alarm();
}

// From: cases 43 and 64.
#[test]
fn the_socket_answers_when_peers_have_all_other_descriptors() {
    let scratch = Scratch::new();
    let server = Serve::guest(echo_evented, "poll")
        .args(["--control".as_ref(), scratch.path("control").as_os_str()])
        .start();
    // After the start, at which the permits are counted by the limit.
    let process = Pid::from_raw(i32::try_from(server.process.id()).unwrap());
    let few = Rlimit {
        current: Some(64),
        maximum: Some(64),
    };
    prlimit(process, Resource::Nofile, few).unwrap();
    let controlled = Controlled { server, scratch };
    let clients: Vec<Client> = (0..100).map(|_| controlled.server.connect()).collect();
    controlled
        .server
        .wait_for_log("the lack of descriptors", |event| {
            event.message().starts_with("accept: out of resources")
        });
    for _ in 0..20 {
        assert_eq!(controlled.status()["state"], "serving");
    }
    // Those who ask nothing take what is kept; the rest waits, and is told once.
    let idle: Vec<UnixStream> = (0..6).map(|_| connect(&controlled.socket())).collect();
    controlled.server.wait_for_log("the lack of all", |event| {
        event
            .message()
            .starts_with("the control socket cannot accept")
    });
    drop(idle);
    assert_eq!(controlled.status()["state"], "serving");
    for mut client in clients {
        client.check_echo("hello");
    }
    let finished = controlled.server.stop();
    let told = finished.log.iter().filter(|event| {
        event
            .message()
            .starts_with("the control socket cannot accept")
    });
    assert_eq!(told.count(), 1);
}

// From: case 21; review of 2026-11-25, 3.7.
#[test]
fn a_command_gives_a_stopped_process_up() {
    let controlled = Controlled::start(echo_blocking, "poll", &[]);
    controlled.server.process.signal(Signal::STOP);
    let why = refusal(&controlled.command(["status"]));
    assert!(why.contains("does not answer within 5s"), "{why}");
    controlled.server.process.signal(Signal::CONT);
    controlled.server.stop();
}

/// Answers everybody with these bytes.
fn answering(path: &Path, answer: &'static [u8]) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(answer);
        }
    });
}

#[test]
fn what_is_no_sockserve_is_refused_on_one_line() {
    let scratch = Scratch::new();
    let answers: [&'static [u8]; 6] = [
        b"",
        b"220 mail ESMTP\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 500 Oh\r\nContent-Length: 4\r\n\r\nno\r\n",
    ];
    for (number, answer) in answers.into_iter().enumerate() {
        let path = scratch.path(&number.to_string());
        answering(&path, answer);
        let why = refusal(&status(&path));
        let expected = if answer.is_empty() {
            "closed the connection before it answered"
        } else {
            "is not sockserve's: "
        };
        assert!(why.contains(expected), "{why}");
    }
}

/// Why a socket cannot be reached is said as it is.
// From: case 53; review of 2026-11-25, 3.7.
#[test]
fn a_socket_that_cannot_be_reached_is_not_nobodys() {
    let scratch = Scratch::new();
    let check = |path: &Path, expected: &str| {
        let why = refusal(&status(path));
        assert!(why.contains(expected), "{why}");
    };
    check(
        &scratch.path("absent"),
        "nobody answers on the control socket",
    );
    drop(UnixListener::bind(scratch.path("stale")).unwrap());
    check(
        &scratch.path("stale"),
        "nobody answers on the control socket",
    );
    std::fs::write(scratch.path("file"), "").unwrap();
    check(&scratch.path("file"), "is no socket");
    check(&scratch.path("file").join("x"), "cannot be reached");
    check(&scratch.path(&"x".repeat(120)), "has 1 to 107 bytes");
    let _datagrams = std::os::unix::net::UnixDatagram::bind(scratch.path("datagrams")).unwrap();
    check(&scratch.path("datagrams"), "another program's socket");
}

/// Another user than the one of the tests, if those are root's.
fn as_another_user() -> Option<Command> {
    if !rustix::process::geteuid().is_root() || !tools::have("setpriv", &["--version"]) {
        println!("skipped: this needs root and setpriv");
        return None;
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "54321", "--regid", "54321", "--clear-groups"]);
    Some(command)
}

// From: review of 2026-11-25, 3.7.
#[test]
fn other_users_are_not_heard_and_not_believed() {
    let Some(mut other) = as_another_user() else {
        return;
    };
    let controlled = Controlled::start(echo_blocking, "poll", &[]);
    let scratch = &controlled.scratch;
    let everybody = |path: &Path| {
        let mode = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(path, mode).unwrap();
    };
    everybody(controlled.socket().parent().unwrap());
    // Where it is built nobody else may look.
    let exe = scratch.path("sockserve");
    std::fs::copy(EXE, &exe).unwrap();
    everybody(&exe);
    let args = ["status", "--control"].map(OsStr::new);
    other.arg(&exe).args(args).arg(controlled.socket());
    let why = refusal(&run(&mut other));
    assert!(why.contains("may not be used: "), "{why}");
    let mut other = as_another_user().unwrap();
    let serve = [
        "serve",
        "builtin:echo-blocking",
        "--listen",
        "tcp://127.0.0.1:0",
        "--control",
    ];
    other.arg(&exe).args(serve).arg(controlled.socket());
    let why = refusal(&run(&mut other));
    assert!(why.contains("cannot be found out"), "{why}");
    assert!(controlled.socket().exists());
    // A socket of another user, in a directory of root's.
    let mut other = as_another_user().unwrap();
    let path = scratch.path("other");
    other.arg(&exe).args(serve).arg(&path);
    let mut other = crate::harness::process::Process::start(&mut other);
    other
        .stdout
        .wait_until("the ready line", |lines| (!lines.is_empty()).then_some(()));
    let why = refusal(&status(&path));
    assert!(why.contains("is the user 54321's"), "{why}");
    other.signal(Signal::TERM);
    assert_eq!(other.wait().code(), Some(0));
    assert!(!path.exists());
}
