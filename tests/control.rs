//! The control socket: who may use it, what it answers, and what becomes of it.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::command::{run, sockserve};
use crate::harness::control::{Controlled, http, refusal, request};
use crate::harness::guests::{echo_blocking, echo_evented, time_blocking, time_evented};
use crate::harness::scratch::{Scratch, build, write_build};
use crate::harness::{Serve, tools};

#[test]
fn only_the_owner_may_use_the_socket() {
    let controlled = Controlled::start(echo_blocking, "poll", &[]);
    let mode = std::fs::metadata(controlled.socket())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// What is asked for and refused, and what ends the service, is in the server's log with the
/// user who has asked.
#[test]
fn the_log_says_who_has_asked() {
    let controlled = Controlled::start(echo_blocking, "poll", &[]);
    let why = controlled.swap_refused("builtin:no-such", &[]);
    let reason = why.strip_prefix("sockserve: ").unwrap();
    refusal(&controlled.command(["rollback", "echo"]));
    controlled.command(["drain", "echo"]).printed();
    let finished = controlled.server.finish();
    assert_eq!(finished.status.code(), Some(0));
    let uid = u64::from(rustix::process::geteuid().as_raw());
    let said = |level: &str, text: &str| {
        let about = |event: &&crate::harness::log::Event| {
            event.str("level") == level
                && event.str("service") == "echo"
                && event.number("uid") == Some(uid)
                && event.message().starts_with(text)
        };
        assert_eq!(finished.log.iter().filter(about).count(), 1, "{text}");
    };
    said("WARN", &format!("swap refused: {reason}"));
    said("WARN", "rollback refused: ");
    said("INFO", "drain requested");
}

#[test]
fn status_says_what_the_service_is_and_has_done() {
    let controlled = Controlled::start(echo_evented, "poll", &[]);
    let mut client = controlled.server.connect();
    client.check_echo("12345");
    let status = controlled.status();
    let expected = [
        ("name", Value::from("echo")),
        ("contract", "evented".into()),
        ("dispatch", "poll".into()),
        ("state", "serving".into()),
        ("accepted", 1.into()),
        ("open", 1.into()),
        ("handled", 0.into()),
        (
            "refused",
            serde_json::json!({
                "rules": 0,
                "access-times": 0,
                "connections-per-source": 0,
                "rate-per-source": 0,
                "handler": 0,
            }),
        ),
        ("bytes-in", 5.into()),
        ("bytes-out", 5.into()),
        ("rolled-back", Value::Null),
    ];
    for (field, value) in expected {
        assert_eq!(status[field], value, "{field}");
    }
    assert_eq!(
        status["listeners"][0],
        format!("tcp://{}", controlled.server.address())
    );
    let version = &status["versions"][0];
    assert_eq!(
        (&version["number"], &version["state"]),
        (&1.into(), &"current".into())
    );
    assert_eq!(version["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(version["connections"], 1);
    let text = controlled.command(["status"]).printed();
    assert!(text[0].starts_with("echo  serving  contract=evented dispatch=poll tcp://127.0.0.1:"));
    assert!(
        text[1].contains("accepted 1  open 1  handled 0  refused 0  failed 0"),
        "{}",
        text[1]
    );
    client.finish_sending();
    client.expect_eof();
    controlled.server.wait_for_closed(1);
    let status = controlled.status();
    assert_eq!(
        (&status["open"], &status["handled"]),
        (&0.into(), &1.into())
    );
}

#[test]
fn a_wrong_request_is_told_what_is_right() {
    let controlled = Controlled::start(echo_blocking, "poll", &[]);
    let check = |method: &str, path: &str, body: &str, status: &str, expected: &str| {
        let (line, body) = http(&controlled.socket(), &request(method, path, body)).unwrap();
        assert!(line.contains(status), "{path}: {line}");
        let body: Value = serde_json::from_str(&body).unwrap();
        let error = body["error"].as_str().unwrap();
        assert!(error.contains(expected), "{path}: {error}");
    };
    let swap = "/v1/services/echo/swap";
    check("GET", "/", "", "404", "GET /v1/status has what there is");
    check(
        "GET",
        "/v1/services/nope",
        "",
        "404",
        "there is no service nope; there is echo",
    );
    check("POST", "/v1/status", "", "405", "/v1/status takes GET");
    check("GET", swap, "", "405", "takes POST");
    check("POST", swap, "nonsense", "400", "the body is no swap");
    check(
        "POST",
        swap,
        r#"{"component":"x","colour":"red"}"#,
        "400",
        "unknown field `colour`",
    );
    check(
        "POST",
        swap,
        r#"{"component":"x","old":"eat"}"#,
        "400",
        "unknown variant `eat`",
    );
    check(
        "POST",
        swap,
        r#"{"component":"x","probe":"y"}"#,
        "400",
        "write send=TEXT,expect=TEXT",
    );
    check(
        "POST",
        swap,
        r#"{"component":"x","drain-timeout":"y"}"#,
        "400",
        "for example 500ms",
    );
    check(
        "POST",
        swap,
        &format!(r#"{{"component":"{}"}}"#, "x".repeat(70_000)),
        "400",
        "length limit",
    );
    check(
        "POST",
        swap,
        r#"{"component":"builtin:chat-blocking"}"#,
        "422",
        "there is no builtin:chat-blocking",
    );
    check(
        "POST",
        "/v1/services/echo/rollback",
        "",
        "409",
        "no version before",
    );
    controlled.server.connect().check_echo("still\n");
}

#[test]
fn curl_can_ask() {
    if !tools::have("curl", &["--version"]) {
        return;
    }
    let controlled = Controlled::start(echo_blocking, "poll", &[]);
    let outcome = run(std::process::Command::new("curl")
        .args(["-sS", "--unix-socket"])
        .arg(controlled.socket())
        .arg("http://localhost/v1/services/echo"));
    let status: Value = serde_json::from_str(&outcome.printed()[0]).unwrap();
    assert_eq!(status["name"], "echo");
    // In chunks, and after a word to go on.
    let component = format!("@{}", time_blocking.path().display());
    for field in ["Transfer-Encoding: chunked", "Expect: 100-continue"] {
        let outcome = run(std::process::Command::new("curl")
            .args(["-sS", "-H", "Content-Type: application/wasm", "-H", field])
            .args(["--data-binary", &component, "--unix-socket"])
            .arg(controlled.socket())
            .arg("http://localhost/v1/services/echo/swap?component=sent"));
        let swapped: Value = serde_json::from_str(&outcome.printed()[0]).unwrap();
        assert_eq!(swapped["version"], 2, "{swapped}");
    }
    assert_eq!(controlled.status()["versions"][0]["source"], "sent");
}

#[test]
fn a_client_that_hangs_up_costs_nothing_and_its_swap_goes_on() {
    let controlled = Controlled::start(echo_blocking, "poll", &[]);
    for part in [
        "",
        "POST /v1/ser",
        "POST /v1/services/echo/swap HTTP/1.1\r\nContent-Length: 99\r\n\r\n{",
    ] {
        let mut stream = UnixStream::connect(controlled.socket()).unwrap();
        stream.write_all(part.as_bytes()).unwrap();
    }
    let body = r#"{"component":"builtin:time-blocking"}"#;
    let mut stream = UnixStream::connect(controlled.socket()).unwrap();
    let swap = request("POST", "/v1/services/echo/swap", body);
    stream.write_all(swap.as_bytes()).unwrap();
    drop(stream);
    controlled.server.wait_for_version(2);
    assert_eq!(controlled.status()["versions"][0]["number"], 2);
}

#[test]
fn a_socket_left_by_a_killed_process_is_replaced_and_a_live_one_is_not() {
    let mut controlled = Controlled::start(echo_blocking, "poll", &[]);
    let socket = controlled.socket();
    let arguments = ["--control".as_ref(), socket.as_os_str()];
    let second = || {
        let serve = [
            "serve",
            "builtin:echo-blocking",
            "--listen",
            "tcp://127.0.0.1:0",
        ];
        let all = serve.iter().map(std::ffi::OsStr::new).chain(arguments);
        refusal(&sockserve(all))
    };
    let why = second();
    assert!(why.contains("a running process has the socket"), "{why}");
    controlled.server.process.signal(Signal::KILL);
    controlled.server.process.wait();
    assert!(socket.exists());
    let server = Serve::guest(echo_blocking, "poll").args(arguments).start();
    assert_eq!(controlled.status()["name"], "echo");
    server.stop();
    assert!(!socket.exists(), "it is removed at the end");
    let why = refusal(&controlled.command(["status"]));
    assert!(
        why.contains("nobody answers on the control socket"),
        "{why}"
    );
    std::fs::write(&socket, "a file").unwrap();
    let why = second();
    assert!(why.contains("is there and is no socket"), "{why}");
}

#[test]
fn shutdown_drains_as_sigterm_does() {
    let controlled = Controlled::start(echo_blocking, "threaded", &["--drain-timeout", "1h"]);
    let mut client = controlled.server.connect();
    client.check_echo("before\n");
    assert_eq!(
        controlled.command(["shutdown"]).printed(),
        ["echo is draining"]
    );
    client.check_echo("after\n");
    client.finish_sending();
    client.expect_eof();
    let finished = controlled.server.finish();
    assert_eq!(finished.status.code(), Some(0));
    finished.check_no_alarm();
}

#[test]
fn a_changed_file_is_swapped_in_when_it_is_whole() {
    let scratch = Scratch::new();
    let file = scratch.path("echo.wasm");
    std::fs::copy(echo_evented.path(), &file).unwrap();
    let server = Serve::component(&file).args(["--watch"]).start();
    // Half a component is left alone, and so is what is no component.
    let whole = build(time_evented, 1);
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    server.wait_for_log("the complaint", |event| {
        event
            .message()
            .starts_with("not swapped, the version before goes on: ")
    });
    server.connect().check_echo("still\n");
    std::fs::write(&file, &whole).unwrap();
    server.wait_for_version(2);
    assert!(server.connect().read_to_end().ends_with(b"\r\n"));
    write_build(&file, echo_evented, 2);
    server.wait_for_version(3);
    server.connect().check_echo("again\n");
}

#[test]
fn sighup_swaps_the_file_in_once() {
    let scratch = Scratch::new();
    let file = scratch.path("handler.wasm");
    std::fs::copy(echo_blocking.path(), &file).unwrap();
    let server = Serve::component(&file).start();
    server.process.signal(Signal::HUP);
    server.wait_for_log("the answer", |event| {
        event.message() == "the component has not changed"
    });
    write_build(&file, time_blocking, 1);
    server.process.signal(Signal::HUP);
    server.wait_for_version(2);
    assert!(server.connect().read_to_end().ends_with(b"\r\n"));
    std::fs::remove_file(&file).unwrap();
    server.process.signal(Signal::HUP);
    server.wait_for_log("the complaint", |event| {
        event
            .message()
            .starts_with("not swapped, the version before goes on: ")
    });
}
