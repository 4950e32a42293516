//! What a component's path may name, in every command that takes one: a server
//! reads files, a command line pipes as well, and nothing hangs on the rest.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::command::{Outcome, run, sockserve};
use crate::harness::control::{Controlled, refusal, request};
use crate::harness::guests::{echo_blocking, upper_blocking};
use crate::harness::process::Process;
use crate::harness::scratch::Scratch;
use crate::harness::{Client, PATIENCE};

const EXE: &str = env!("CARGO_BIN_EXE_sockserve");
const LISTEN: [&str; 2] = ["--listen", "tcp://127.0.0.1:0"];

fn make_fifo(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

/// Runs a command with these bytes in a pipe on standard input.
#[track_caller]
fn piped<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>, bytes: &[u8]) -> Outcome {
    let (mut process, mut typing) = Process::start_typing(Command::new(EXE).args(args));
    // A command that refuses does not read to the end.
    let _ = typing.write_all(bytes);
    drop(typing);
    let status = process.wait();
    Outcome {
        status: status.code(),
        stdout: process.stdout.lines(),
        stderr: process.stderr.lines(),
    }
}

// From: cases 2 and 11.
#[test]
fn what_is_no_file_is_refused_everywhere_and_holds_nothing_up() {
    let controlled = Controlled::start(echo_blocking, "poll", &[]);
    let fifo = controlled.scratch.path("fifo");
    make_fifo(&fifo);
    let socket = controlled.socket();
    let large = controlled.scratch.path("large");
    File::create(&large).unwrap().set_len(1 << 40).unwrap();
    let zeros = controlled.scratch.path("zeros");
    File::create(&zeros).unwrap().set_len(200 << 20).unwrap();
    let cases: [(&Path, &str); 8] = [
        (&fifo, "an empty pipe that nobody writes into"),
        (&socket, "a socket, and only a regular file is read"),
        ("/".as_ref(), "a directory, and only a regular file is read"),
        ("/dev/zero".as_ref(), "a device, and only a regular file"),
        ("/dev/null".as_ref(), "a device, and only a regular file"),
        ("/dev/ptmx".as_ref(), "a device, and only a regular file"),
        (&large, "larger than 256 MiB"),
        (&zeros, "not a WebAssembly component"),
    ];
    for (path, expected) in cases {
        let serve = ["serve".as_ref(), path.as_os_str()];
        let serve = serve.into_iter().chain(LISTEN.map(OsStr::new));
        let why = [
            refusal(&sockserve(serve)),
            refusal(&sockserve(["inspect".as_ref(), path.as_os_str()])),
            controlled.swap_refused(path, &[]),
        ];
        for why in why {
            assert!(why.contains(expected), "{why}");
        }
        let asked = controlled.try_swap(path).unwrap_err();
        let expected = if path == fifo { "a pipe" } else { expected };
        assert!(asked.contains(expected), "{asked}");
    }
    assert_eq!(controlled.swap(upper_blocking.builtin(), &[]), 2);
    controlled.server.stop();
}

#[test]
fn a_pipe_is_a_file_on_the_command_line() {
    let scratch = Scratch::new();
    let file = upper_blocking.path();
    let bytes = std::fs::read(&file).unwrap();
    let said = piped(["inspect", "/dev/stdin"], &bytes).printed();
    assert!(
        said.contains(&"contract    blocking".to_owned()),
        "{said:?}"
    );
    let why = refusal(&piped(["inspect", "/dev/stdin"], b"#!/bin/sh"));
    assert!(why.contains("not a WebAssembly component"), "{why}");
    let why = refusal(&piped(["inspect", "/dev/stdin"], b""));
    assert!(why.contains("an empty pipe"), "{why}");
    let fifo = scratch.path("fifo");
    make_fifo(&fifo);
    let writer = File::options().read(true).write(true).open(&fifo).unwrap();
    let mut inspect = Process::start(Command::new(EXE).arg("inspect").arg(&fifo));
    (&writer).write_all(&bytes).unwrap();
    drop(writer);
    assert_eq!(inspect.wait().code(), Some(0));
    let served = piped(
        ["serve", "/dev/stdin", "--listen", "tcp://nowhere.invalid:0"],
        &bytes,
    );
    let [why] = &served.stderr[..] else {
        panic!("{served:?}");
    };
    assert!(why.contains("nowhere.invalid"), "it was read: {why}");
}

/// The running process has another file under the path: the client reads it.
// From: case 3.
#[test]
fn what_only_the_client_has_is_sent() {
    let controlled = Controlled::start(echo_blocking, "poll", &[]);
    let socket = controlled.socket();
    let swap = |component: &str| {
        let words = ["swap", "echo", component, "--control"].map(OsString::from);
        let socket = socket.clone().into_os_string();
        words.into_iter().chain([socket]).collect::<Vec<_>>()
    };
    let check = |outcome: Outcome, number: usize, name: &str, answer: &str| {
        let said = outcome.printed();
        let expected = format!("echo is at version {number}, ");
        assert!(said[0].starts_with(&expected), "{said:?}");
        assert_eq!(controlled.status()["versions"][0]["source"], name);
        let mut client = controlled.server.connect();
        client.send("hello\n");
        client.expect(answer);
        client.finish_sending();
        client.expect_eof();
        controlled.wait_for_settled(0);
    };
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "exec \"$0\" \"$@\" < \"$FILE\"", EXE])
        .args(swap("/dev/stdin"))
        .env("FILE", upper_blocking.path());
    check(run(&mut shell), 2, "/dev/stdin", "HELLO\n");
    let echo = std::fs::read(echo_blocking.path()).unwrap();
    check(piped(swap("/dev/fd/0"), &echo), 3, "/dev/fd/0", "hello\n");
    let link = controlled.scratch.path("link");
    std::os::unix::fs::symlink("/proc/self/fd/0", &link).unwrap();
    let upper = std::fs::read(upper_blocking.path()).unwrap();
    let link = link.to_str().unwrap();
    check(piped(swap(link), &upper), 4, link, "HELLO\n");
    let why = refusal(&piped(swap("/dev/stdin"), b"#!/bin/sh"));
    assert!(why.contains("/dev/stdin: not a WebAssembly"), "{why}");
    // Asked for it by itself, the process says that it has another one.
    for path in [
        "/dev/stdin",
        "/dev/fd/3",
        "/proc/self/fd/0",
        "/proc/thread-self/exe",
    ] {
        let why = controlled.try_swap(path).unwrap_err();
        assert!(why.contains("send the component itself"), "{why}");
    }
}

/// Sends a component as it is.
#[track_caller]
fn send(socket: &Path, query: &str, component: &[u8]) -> (String, Value) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = request("POST", &format!("/v1/services/echo/swap{query}"), "");
    let length = format!("Content-Length: {}", component.len());
    let head = head
        .replace("Content-Length: 0", &length)
        .replace("Host: x", "Host: x\r\nContent-Type: application/wasm");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(component).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.lines().next().unwrap().to_owned();
    (status, serde_json::from_str(body).unwrap())
}

#[test]
fn a_component_can_be_sent() {
    let controlled = Controlled::start(echo_blocking, "poll", &[]);
    let socket = controlled.socket();
    let mut client: Client = controlled.server.connect();
    client.check_echo("before\n");
    let upper = std::fs::read(upper_blocking.path()).unwrap();
    let query = "?old=abort&component=my+own&probe=send%3Dx%0A%2Cexpect%3DX";
    let (status, swapped) = send(&socket, query, &upper);
    assert_eq!(
        (&*status, &swapped["version"]),
        ("HTTP/1.1 200 OK", &2.into())
    );
    assert_eq!(swapped["old"], "abort");
    client.expect_eof();
    let status = controlled.wait_for_settled(0);
    assert_eq!(status["versions"][0]["source"], "my own");
    let refused = |query: &str, component: &[u8], status: &str, expected: &str| {
        let (line, body) = send(&socket, query, component);
        let why = body["error"].as_str().unwrap();
        assert!(line.contains(status), "{line} {why}");
        assert!(why.contains(expected), "{why}");
    };
    refused("", b"", "422", "not a WebAssembly component");
    refused(
        "",
        &vec![b'x'; 1 << 20],
        "422",
        "not a WebAssembly component",
    );
    refused("", b"\0asm\x01\0\0\0", "422", "a core module");
    refused("?colour=red", &upper, "400", "unknown field `colour`");
    refused("?old=eat", &upper, "400", "unknown variant `eat`");
    refused("?probe=x", &upper, "400", "write send=TEXT,expect=TEXT");
    let (status, again) = send(&socket, "?component=x", &upper);
    assert_eq!(
        (&*status, &again["changed"]),
        ("HTTP/1.1 200 OK", &false.into())
    );
    controlled.server.stop();
}
