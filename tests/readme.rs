//! The sessions in README.md: run as they stand there, but on a free port and in a
//! directory of their own, and compared line by line.

use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::chat::WELCOME;
use crate::harness::command::run;
use crate::harness::process::Process;
use crate::harness::scratch::Scratch;
use crate::harness::server::ready_address;
use crate::harness::tools::have_nc;
use crate::harness::{Client, wasmtime};

/// The port that the first session is written with.
const PORT: &str = "7000";

/// What stands around a command that is typed in another terminal.
const ELSEWHERE: (&str, &str) = ("(elsewhere: ", ")");

/// A command, and the lines below it.
#[derive(Debug)]
struct Step {
    command: String,
    lines: Vec<String>,
}

/// A fenced block marked `console`, counted from 0: a line after `$ ` is a command, the
/// lines below it are its output.
fn session(readme: &str, number: usize) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = readme.lines();
    for _ in 0..=number {
        let begins = lines.by_ref().any(|line| line == "```console");
        assert!(begins, "no session {number}");
    }
    for line in lines.take_while(|line| *line != "```") {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step {
                command: command.to_owned(),
                lines: Vec::new(),
            });
        } else {
            let step = steps.last_mut().expect("output before the first command");
            step.lines.push(line.to_owned());
        }
    }
    steps
}

fn readme() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    std::fs::read_to_string(path).unwrap()
}

/// A shell in this directory, in which `sockserve` is the one under test, wherever it is on
/// this machine. Programs in the directories of `first` come before all others.
fn shell(scratch: &Scratch, first: &[PathBuf], command: &str) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_sockserve"));
    let ours = binary.parent().unwrap().to_owned();
    let path = std::env::var_os("PATH").unwrap();
    let rest = std::env::split_paths(&path);
    let path = first.iter().cloned().chain([ours]).chain(rest);
    let mut sh = Command::new("sh");
    sh.args(["-c", command])
        .env("PATH", std::env::join_paths(path).unwrap())
        .current_dir(scratch.path(""));
    sh
}

/// What `sockserve new` writes, so that it builds and serves.
#[test]
fn the_handler_is_the_template() {
    let readme = readme();
    let (_, block) = readme.split_once("```rust\n").expect("a handler in Rust");
    let (block, _) = block.split_once("```").unwrap();
    let template =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/rust/blocking/src/lib.rs");
    let template = std::fs::read_to_string(template).unwrap();
    assert!(template.contains(block.trim()), "{block}");
}

#[test]
fn the_session_reproduces() {
    let steps = session(&readme(), 0);
    let [serve, client] = steps.as_slice() else {
        panic!("README.md has a server and a client: {steps:#?}");
    };
    if !have_nc() {
        return;
    }
    let scratch = Scratch::new();
    let sh = |command: &str| shell(&scratch, &[], command);

    let in_background = serve
        .command
        .strip_suffix(" &")
        .expect("the server is in the background");
    let listen = format!("tcp://127.0.0.1:{PORT}");
    assert!(in_background.contains(&listen), "{in_background}");
    let command = in_background.replace(&listen, "tcp://127.0.0.1:0");
    let mut server = Process::start(&mut sh(&format!("exec {command}")));
    let ready = server
        .stdout
        .wait_until("the ready line", |lines| lines.first().cloned());
    let port = ready
        .split_once("tcp://127.0.0.1:")
        .and_then(|(_, rest)| rest.split(' ').next())
        .unwrap()
        .to_owned();
    assert_eq!([ready.replacen(&port, PORT, 1)], *serve.lines);

    // What is typed, and what is answered, in turn.
    let there = format!("127.0.0.1 {PORT}");
    assert_eq!(client.command, format!("nc {there}"));
    let nc = client.command.replace(&there, &format!("127.0.0.1 {port}"));
    let (nc, mut typing) = Process::start_typing(&mut sh(&format!("exec {nc}")));
    let mut answered = 0;
    let mut typed = 0;
    for line in &client.lines {
        let elsewhere = line
            .strip_prefix(ELSEWHERE.0)
            .and_then(|rest| rest.strip_suffix(ELSEWHERE.1));
        if let Some(command) = elsewhere {
            let output = sh(command).output().unwrap();
            assert!(output.status.success(), "{command}: {output:?}");
        } else if typed == answered {
            writeln!(typing, "{line}").unwrap();
            typed += 1;
        } else {
            let answer = nc
                .stdout
                .wait_until("an answer", |lines| lines.get(answered).cloned());
            assert_eq!(answer, *line);
            answered += 1;
        }
    }
    assert_eq!((typed, answered), (2, 2));
    // Both are closed, in this order.
    drop((typing, nc));
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    // The log would show up between the lines of the session.
    assert_eq!(server.stderr.lines(), [""; 0]);
}

/// A line with a count of bytes, without the count.
fn without_count(line: &str) -> String {
    let words = line.split(' ').map(|word| {
        let is_count = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        if is_count { "N" } else { word }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_composed_session_reproduces() {
    let steps = session(&readme(), 1);
    let [compose, serve] = steps.as_slice() else {
        panic!("README.md has a composition and a server: {steps:#?}");
    };
    let in_background = serve.command.strip_suffix(" &").unwrap();
    let (command, place) = in_background.split_once(" --listen ").unwrap();
    let (host, port) = place.split_once(':').unwrap();
    wasmtime::for_each("the_composed_session_reproduces", |wasmtime| {
        let scratch = Scratch::new();
        // Any name but this one would not be what stands there.
        let tools = scratch.path("tools");
        std::fs::create_dir(&tools).unwrap();
        symlink(wasmtime.canonicalize().unwrap(), tools.join("wasmtime")).unwrap();
        let sh = |command: &str| shell(&scratch, std::slice::from_ref(&tools), command);

        let printed = run(&mut sh(&compose.command)).printed();
        // How large it is changes with every compiler.
        let shapes = |lines: &[String]| lines.iter().map(|it| without_count(it)).collect();
        let (printed, expected): (Vec<_>, Vec<_>) = (shapes(&printed), shapes(&compose.lines));
        assert_eq!(printed, expected);

        let command = format!("exec {command} --listen {host}:0");
        let server = Process::start(&mut sh(&command));
        let address = ready_address(&server);
        let ready = server.stdout.lines()[0].clone();
        let own = format!(":{} ", address.port());
        let ready = ready.replacen(&own, &format!(":{port} "), 1);
        assert_eq!([ready], *serve.lines);
        let mut client = Client::connect(address);
        client.expect(WELCOME);
        let lines = server.stderr.lines();
        assert!(lines.is_empty(), "{lines:#?}");
    });
}

#[test]
fn a_session_is_read_from_a_block() {
    let readme = "# it\n```sh\n$ no\n```\n```console\n$ one &\n1\n\n$ two | nc\n```\n$ no\n\
                  ```console\n$ three\n3\n```\n";
    let read = |number| -> Vec<_> {
        let steps = session(readme, number).into_iter();
        steps
            .map(|step| (step.command, step.lines.join("/")))
            .collect()
    };
    let step = |command: &str, lines: &str| (command.to_owned(), lines.to_owned());
    assert_eq!(read(0), [step("one &", "1/"), step("two | nc", "")]);
    assert_eq!(read(1), [step("three", "3")]);
}
