//! The session in README.md: run as it stands there, but on a free port, and
//! compared to the byte.

use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::harness::process::Process;
use crate::harness::tools::have_nc;

/// The port that the session is written with.
const PORT: &str = "7000";

/// A command, and what it prints.
#[derive(Debug)]
struct Step {
    command: String,
    output: String,
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
                output: String::new(),
            });
        } else {
            let step = steps.last_mut().expect("output before the first command");
            step.output += line;
            step.output += "\n";
        }
    }
    steps
}

#[test]
fn the_session_reproduces() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let steps = session(&std::fs::read_to_string(path).unwrap());
    let [serve, clients @ ..] = steps.as_slice() else {
        panic!("no session in README.md");
    };
    assert!(!clients.is_empty(), "no client in README.md");
    if clients.iter().any(|step| step.command.contains("nc ")) && !have_nc() {
        return;
    }

    let in_background = serve
        .command
        .strip_suffix(" &")
        .expect("the server is in the background");
    let arguments = in_background
        .strip_prefix("sockserve ")
        .expect("the server is sockserve");
    let listen = format!("tcp://127.0.0.1:{PORT}");
    assert!(arguments.contains(&listen), "{arguments}");
    let arguments = arguments.replace(&listen, "tcp://127.0.0.1:0");
    let line = format!("exec {} {arguments}", env!("CARGO_BIN_EXE_sockserve"));
    let mut server = Process::start(Command::new("sh").args(["-c", &line]));
    let ready = server
        .stdout
        .wait_until("the ready line", |lines| lines.first().cloned());
    let port = ready
        .split_once("tcp://127.0.0.1:")
        .and_then(|(_, rest)| rest.split(' ').next())
        .unwrap()
        .to_owned();
    assert_eq!(ready.replacen(&port, PORT, 1) + "\n", serve.output);

    for step in clients {
        let there = format!("127.0.0.1 {PORT}");
        assert!(step.command.contains(&there), "{step:?}");
        let command = step.command.replace(&there, &format!("127.0.0.1 {port}"));
        let output = Command::new("sh")
            .args(["-c", &command])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{step:?}: {output:?}");
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            step.output,
            "{step:?}"
        );
        assert!(
            output.stderr.is_empty(),
            "{step:?}: {:?}",
            output.stderr.escape_ascii()
        );
    }
    // The log would show up between the lines of the session.
    assert_eq!(server.stderr.lines(), [""; 0]);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_session_is_read_from_a_block() {
    let readme = "# it\n```sh\n$ no\n```\n```console\n$ one &\n1\n\n$ two | nc\n```\n$ no\n";
    let steps = session(readme);
    let read: Vec<_> = steps
        .iter()
        .map(|step| (step.command.as_str(), step.output.as_str()))
        .collect();
    assert_eq!(read, [("one &", "1\n\n"), ("two | nc", "")]);
}
