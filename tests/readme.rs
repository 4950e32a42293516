//! The session in README.md: run as it stands there, but on a free port and in a
//! directory of its own, and compared line by line.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::harness::process::Process;
use crate::harness::scratch::Scratch;
use crate::harness::tools::have_nc;

/// The port that the session is written with.
const PORT: &str = "7000";

/// What stands around a command that is typed in another terminal.
const ELSEWHERE: (&str, &str) = ("(elsewhere: ", ")");

/// A command, and the lines below it.
#[derive(Debug)]
struct Step {
    command: String,
    lines: Vec<String>,
}

/// The first fenced block marked `console`: a line after `$ ` is a command, the
/// lines below it are its output.
fn session(readme: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let block = readme
        .lines()
        .skip_while(|line| *line != "```console")
        .skip(1);
    for line in block.take_while(|line| *line != "```") {
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

#[test]
fn the_session_reproduces() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let steps = session(&std::fs::read_to_string(path).unwrap());
    let [serve, client] = steps.as_slice() else {
        panic!("README.md has a server and a client: {steps:#?}");
    };
    if !have_nc() {
        return;
    }
    let scratch = Scratch::new();
    let sh = |command: &str| {
        // `sockserve` is the one under test, wherever it is on this machine.
        let binary = Path::new(env!("CARGO_BIN_EXE_sockserve"));
        let mut path = binary.parent().unwrap().as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap());
        let mut sh = Command::new("sh");
        sh.args(["-c", command])
            .env("PATH", path)
            .current_dir(scratch.path(""));
        sh
    };

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

#[test]
fn a_session_is_read_from_a_block() {
    let readme = "# it\n```sh\n$ no\n```\n```console\n$ one &\n1\n\n$ two | nc\n```\n$ no\n";
    let steps = session(readme);
    let read: Vec<_> = steps
        .iter()
        .map(|step| (step.command.as_str(), step.lines.join("/")))
        .collect();
    assert_eq!(
        read,
        [("one &", "1/".to_owned()), ("two | nc", String::new())]
    );
}
