//! `sockserve.toml`: several services of one process, and what is said of a wrong file.
//!
//! What each mistake in a file's text comes to is tested beside the reader, by tables
//! (`host/src/cli/config/tests.rs`). Here are the exit status, what only the system can
//! tell, and the services themselves.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::command::{Outcome, run, sockserve};
use crate::harness::control::{http, request};
use crate::harness::guests::{echo_concurrent, echo_evented, time_blocking};
use crate::harness::process::Process;
use crate::harness::scratch::{Scratch, write_build};
use crate::harness::server::{CACHE, Finished};
use crate::harness::{Client, PATIENCE, Server, python};

/// A file with this text, in a directory of its own.
struct File {
    scratch: Scratch,
}

impl File {
    fn new(text: &str) -> File {
        let scratch = Scratch::new();
        fs::write(scratch.path("sockserve.toml"), text).unwrap();
        File { scratch }
    }

    fn path(&self) -> PathBuf {
        self.scratch.path("sockserve.toml")
    }

    fn serve(&self, listeners: usize) -> Server {
        Server::of_config(&self.path(), listeners)
    }

    /// What `sockserve check` says, without the path of the file.
    fn check(&self) -> Outcome {
        self.without_path(sockserve(["check".as_ref(), self.path().as_os_str()]))
    }

    /// What `serve` says, which does not come to serve.
    fn refused(&self) -> Outcome {
        let path = self.path();
        let arguments = ["serve".as_ref(), "--config".as_ref(), path.as_os_str()];
        self.without_path(sockserve(arguments))
    }

    fn without_path(&self, mut outcome: Outcome) -> Outcome {
        let path = format!("{}:", self.path().display());
        for line in &mut outcome.stderr {
            if let Some(rest) = line.strip_prefix(&path) {
                *line = rest.to_owned();
            }
        }
        outcome
    }
}

/// Checks the status of a refusal, and that each of its lines has what is expected of it.
#[track_caller]
fn check_refusal(outcome: &Outcome, status: i32, expected: &[&str]) {
    assert_eq!(outcome.status, Some(status), "{outcome:#?}");
    assert!(outcome.stdout.is_empty(), "{outcome:#?}");
    let lines = outcome.stderr.iter();
    let fits = lines.len() == expected.len()
        && lines
            .zip(expected)
            .all(|(line, expected)| line.contains(expected));
    assert!(fits, "{outcome:#?}\nexpected {expected:#?}");
}

/// The services in the log with this message.
fn services<'a>(finished: &'a Finished, message: &str) -> Vec<&'a str> {
    let said = finished
        .log
        .iter()
        .filter(|event| event.message() == message);
    let mut services: Vec<_> = said.map(|event| event.str("service")).collect();
    services.sort_unstable();
    services
}

/// A file with three services of three contracts.
fn three(scratch: &Scratch) -> String {
    format!(
        r#"
        control = "control"
        [defaults]
        cache = {CACHE:?}
        [services.echo]
        listen = ["tcp://127.0.0.1:0", "unix:echo.sock"]
        component = "{}"
        [services.time]
        listen = "tcp://127.0.0.1:0"
        component = "{}"
        env = {{ SERVER = "asynchat" }}
        [services.qotd]
        listen = "udp://127.0.0.1:0"
        component = "builtin:small-datagram"
        env = {{ SERVICE = "qotd", QUOTE = "few words" }}
        "#,
        scratch.build(echo_evented, 1).display(),
        scratch.build(time_blocking, 1).display(),
    )
}

#[test]
fn three_services_of_one_process_serve() {
    let file = File::new("");
    fs::write(file.path(), three(&file.scratch)).unwrap();
    let server = file.serve(4);
    let ready: Vec<_> = server
        .ready
        .iter()
        .map(|line| line.split_once(" service=").unwrap().1)
        .collect();
    assert_eq!(
        ready,
        [
            "echo contract=evented dispatch=poll",
            "echo contract=evented dispatch=poll",
            "time contract=blocking dispatch=threaded",
            "qotd contract=datagram dispatch=poll",
        ]
    );
    let mut over_tcp = Client::connect(server.addresses[0]);
    let mut over_unix = Client::connect_unix(&file.scratch.path("echo.sock"));
    over_tcp.check_echo("over TCP");
    over_unix.check_echo("over a Unix socket");
    let mut time = Client::connect(server.addresses[1]);
    time.send("time\r\n");
    assert!(!time.line().is_empty());
    let asking = UdpSocket::bind("127.0.0.1:0").unwrap();
    asking.set_read_timeout(Some(PATIENCE)).unwrap();
    asking.send_to(b"", server.addresses[2]).unwrap();
    let mut answer = [0; 64];
    let count = asking.recv(&mut answer).unwrap();
    assert_eq!(&answer[..count], b"few words");

    // One control socket for all.
    let status = status(&file, "control");
    let names: Vec<_> = status.iter().map(|service| &service["name"]).collect();
    assert_eq!(names, ["echo", "time", "qotd"]);
    assert_eq!(status[0]["accepted"], 2);
    assert_eq!(status[1]["accepted"], 1);

    drop((over_tcp, over_unix, time));
    let finished = server.stop();
    assert_eq!(services(&finished, "draining"), ["echo", "qotd", "time"]);
    assert_eq!(services(&finished, "stopped"), ["echo", "qotd", "time"]);
    finished.check_no_alarm();
    assert!(!file.scratch.path("echo.sock").exists());
    assert!(!file.scratch.path("control").exists());
}

#[track_caller]
fn status(file: &File, control: &str) -> Vec<Value> {
    let (line, body) = http(
        &file.scratch.path(control),
        &request("GET", "/v1/status", ""),
    )
    .unwrap();
    assert!(line.contains(" 200 "), "{line}: {body}");
    let status: Value = serde_json::from_str(&body).unwrap();
    status["services"].as_array().unwrap().clone()
}

#[track_caller]
fn drain(file: &File, service: &str) {
    let path = format!("/v1/services/{service}/drain");
    let (line, body) = http(&file.scratch.path("control"), &request("POST", &path, "")).unwrap();
    assert!(line.contains(" 200 "), "{line}: {body}");
}

/// A service that ends takes no other with it, and the process ends with the last one.
#[test]
fn the_process_ends_when_all_services_have() {
    let file = File::new("");
    fs::write(file.path(), three(&file.scratch)).unwrap();
    let server = file.serve(4);
    let ended = |name: &str| {
        server.wait_for_log("its end", |event| {
            event.message() == "stopped" && event.str("service") == name
        })
    };
    drain(&file, "time");
    ended("time");
    Client::connect(server.addresses[0]).check_echo("still here");
    drain(&file, "qotd");
    ended("qotd");
    drain(&file, "echo");
    let finished = server.finish();
    assert_eq!(finished.status.code(), Some(0));
    finished.check_no_alarm();
}

#[test]
fn a_second_signal_cuts_the_connections_of_all_services_off() {
    let file = File::new("");
    fs::write(file.path(), three(&file.scratch)).unwrap();
    let server = file.serve(4);
    let mut one = Client::connect(server.addresses[0]);
    let mut other = Client::connect_unix(&file.scratch.path("echo.sock"));
    one.check_echo("one");
    other.check_echo("other");
    server.terminate();
    server.wait_for_log("the drain", |event| event.message() == "draining");
    server.process.signal(Signal::INT);
    let finished = server.finish();
    assert_eq!(finished.status.code(), Some(1));
    let cut_off = finished
        .log
        .iter()
        .find(|event| event.message().contains("a second signal"));
    assert_eq!(cut_off.unwrap().number("connections"), Some(2));
}

#[test]
fn a_hang_up_reads_every_component_again() {
    let file = File::new("");
    fs::write(file.path(), three(&file.scratch)).unwrap();
    let server = file.serve(4);
    write_build(&file.scratch.path("echo_evented-1.wasm"), echo_evented, 2);
    write_build(&file.scratch.path("time_blocking-1.wasm"), time_blocking, 2);
    server.process.signal(Signal::HUP);
    for service in ["echo", "time"] {
        server.wait_for_log("version 2", |event| {
            event.message() == "version activated"
                && event.number("version") == Some(2)
                && event.str("service") == service
        });
    }
    server.stop().check_no_alarm();
}

/// One that cannot start keeps the others from it: no peer is accepted, and nothing stays.
#[test]
fn all_services_start_or_none() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let occupied = UdpSocket::bind("127.0.0.1:0").unwrap();
    let text = format!(
        "[defaults]\ncache = {CACHE:?}\ncomponent = \"{}\"\n\
         [services.one]\nlisten = \"unix:one.sock\"\n\
         [services.two]\nlisten = \"tcp://{}\"\n\
         [services.three]\nlisten = \"unix:three.sock\"\n\
         [services.four]\nlisten = \"udp://{}\"\ncomponent = \"builtin:echo-datagram\"\n",
        echo_concurrent.path().display(),
        taken.local_addr().unwrap(),
        occupied.local_addr().unwrap(),
    );
    let file = File::new(&text);
    let outcome = file.refused();
    check_refusal(
        &outcome,
        1,
        &["6:11: the service two: ", "10:11: the service four: "],
    );
    for line in &outcome.stderr {
        assert!(line.contains("in use"), "{line}");
    }
    for socket in ["one.sock", "three.sock"] {
        let bound = UnixListener::bind(file.scratch.path(socket));
        assert!(bound.is_ok(), "{socket}: {bound:?}");
    }
}

#[test]
fn the_control_socket_may_be_another_processs() {
    let file = File::new("");
    fs::write(file.path(), three(&file.scratch)).unwrap();
    let server = file.serve(4);
    // The same file once more, without the addresses that are taken.
    let again = fs::read_to_string(file.path())
        .unwrap()
        .replace(r#", "unix:echo.sock""#, "");
    fs::write(file.path(), again).unwrap();
    let outcome = file.refused();
    check_refusal(&outcome, 1, &["a running process has the socket"]);
    // What the command line says goes before what the file says.
    let control = file.scratch.path("other");
    let mut other = Process::start(Command::new(env!("CARGO_BIN_EXE_sockserve")).args([
        "serve".as_ref(),
        "--config".as_ref(),
        file.path().as_os_str(),
        "--control".as_ref(),
        control.as_os_str(),
        "--log-format".as_ref(),
        "json".as_ref(),
    ]));
    other
        .stdout
        .wait_until("the ready lines", |lines| (lines.len() == 3).then_some(()));
    assert!(fs::metadata(&control).unwrap().file_type().is_socket());
    other.signal(Signal::TERM);
    assert_eq!(other.wait().code(), Some(0));
    server.stop();
}

/// The log begins after the file has been read.
#[test]
fn the_file_says_how_the_log_is_written() {
    let file = File::new(&format!(
        "log-level = \"debug\"\nlog-format = \"json\"\n[services.x]\n\
         listen = \"tcp://127.0.0.1:0\"\ncomponent = \"builtin:echo-evented\"\ncache = {CACHE:?}\n"
    ));
    let lines = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sockserve"));
        command
            .args(["serve", "--config"])
            .arg(file.path())
            .args(arguments);
        let mut process = Process::start(&mut command);
        process
            .stdout
            .wait_until("the ready line", |lines| (lines.len() == 1).then_some(()));
        process.signal(Signal::TERM);
        assert_eq!(process.wait().code(), Some(0));
        process.stderr.lines()
    };
    let of_file = lines(&[]);
    assert!(
        of_file.iter().all(|line| line.starts_with('{')),
        "{of_file:#?}"
    );
    assert!(
        of_file.iter().any(|line| line.contains("DEBUG")),
        "{of_file:#?}"
    );
    let of_arguments = lines(&["--log-format", "text", "--log-level", "info"]);
    let as_told = |line: &String| !line.starts_with('{') && !line.contains("DEBUG");
    assert!(of_arguments.iter().all(as_told), "{of_arguments:#?}");
}

#[test]
fn check_says_what_would_be_served() {
    let file = File::new("");
    fs::write(file.path(), three(&file.scratch)).unwrap();
    let directory = file.path().parent().unwrap().display().to_string();
    let lines = file.check().printed();
    let lines: Vec<_> = lines
        .iter()
        .map(|line| line.replace(&directory, "DIR"))
        .collect();
    assert_eq!(
        lines,
        [
            "right service=echo contract=evented dispatch=poll \
             listen=tcp://127.0.0.1:0,unix://DIR/echo.sock",
            "right service=time contract=blocking dispatch=threaded listen=tcp://127.0.0.1:0",
            "right service=qotd contract=datagram dispatch=poll listen=udp://127.0.0.1:0",
        ]
    );
    // Nothing was bound.
    assert!(!file.scratch.path("echo.sock").exists());
    assert!(!file.scratch.path("control").exists());
}

#[test]
fn five_mistakes_are_five_lines() {
    let file = File::new(
        "contrl = \"x\"\n[services.a]\nlisten = \"here\"\ncomponent = \"builtin:echo-evented\"\n\
         max-connections = \"5\"\nlinger = 5\n[services.b]\nlisten = \"tcp://*:0\"\n",
    );
    let expected = [
        r#"1:1: unknown key "contrl"; write control"#,
        "3:10: listen = \"here\": `here` is no listen address",
        "5:19: max-connections is a string, and a whole number is wanted; write max-connections = 5",
        "6:10: linger is a whole number, and a string is wanted; ",
        "7:11: the service b has no component",
    ];
    check_refusal(&file.check(), 2, &expected);
    check_refusal(&file.refused(), 2, &expected);
}

/// What the process itself listens on and writes.
#[test]
fn the_process_needs_places_of_its_own() {
    let file = File::new(&format!(
        "control = \"none/control\"\nlog-file = \"sockserve.toml/log\"\n\
         metrics = \"tcp://127.0.0.1:9999\"\n[defaults]\ncache = {CACHE:?}\n\
         [services.echo]\nlisten = \"tcp://*:9999\"\ncomponent = \"builtin:echo-evented\"\n"
    ));
    check_refusal(
        &file.check(),
        2,
        &[
            "control: ",
            "log-file: ",
            "tcp://*:9999 and the address of `metrics`, tcp://127.0.0.1:9999, take each other's \
             port",
        ],
    );
    let text = fs::read_to_string(file.path()).unwrap();
    fs::write(file.path(), text.replace("*:9999", "*:9998")).unwrap();
    check_refusal(&file.check(), 1, &["control: ", "log-file: "]);
}

/// What `serve` takes for a mistake of the arguments is one of the file.
#[test]
fn a_handler_that_does_not_go_with_an_option_is_a_mistake_of_the_file() {
    let file = File::new(
        "[services.chat]\ncomponent = \"builtin:chat-evented\"\ndispatch = \"poll\"\n\
         listen = \"tcp://127.0.0.1:0\"\nloops = 2\n",
    );
    for outcome in [file.check(), file.refused()] {
        assert_eq!(outcome.status, Some(2), "{outcome:#?}");
        let said = outcome.stderr.join("\n");
        assert!(said.contains("may depend on each other"), "{said}");
    }
}

/// What is wrong only when the component is known.
#[test]
fn check_compiles_and_instantiates_every_handler() {
    let file = File::new(&format!(
        "[defaults]\nlisten = \"tcp://127.0.0.1:0\"\ncomponent = \"builtin:echo-evented\"\n\
         cache = {CACHE:?}\n\
         [services.not-there]\ncomponent = \"nowhere.wasm\"\n\
         [services.text]\ncomponent = \"sockserve.toml\"\n\
         [services.unknown]\ncomponent = \"builtin:ech\"\n\
         [services.small]\nmax-memory = \"64KiB\"\n\
         [services.traps]\ncomponent = \"traps.wasm\"\n\
         [services.right]\n"
    ));
    let traps = wat::parse_str(
        r#"(component
            (core module $m (func $start unreachable) (start $start) (memory (export "memory") 1)
                (func (export "run") (result i32) i32.const 0))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $run-interface (export "run" (func $run)))
            (export "wasi:cli/run@0.2.6" (instance $run-interface)))"#,
    )
    .unwrap();
    fs::write(file.scratch.path("traps.wasm"), traps).unwrap();
    let of_system = [
        "5:11: the service not-there: ",
        "7:11: the service text: ",
        "9:11: the service unknown: ",
        "11:11: the service small: ",
        "13:11: the service traps: ",
    ];
    check_refusal(&file.check(), 1, &of_system);
    // Dispatch, addresses and files that do not fit the component are what the file says.
    let file = File::new(&format!(
        "[defaults]\nlisten = \"tcp://127.0.0.1:0\"\ncomponent = \"builtin:echo-evented\"\n\
         cache = {CACHE:?}\n\
         [services.a]\ndispatch = \"threaded\"\n\
         [services.b]\nlisten = [\"tcp://127.0.0.1:0\", \"udp://127.0.0.1:0\"]\n\
         [services.c]\nstate-file = \"state\"\n\
         [services.d]\ndir = [\".::/d\", \"..::/d\"]\n\
         [services.e]\ncomponent = \"nowhere.wasm\"\n"
    ));
    let of_file = [
        "5:11: the service a: ",
        "7:11: the service b: udp://127.0.0.1:0: the contract evented serves connections; listen on \
         tcp://HOST:PORT",
        "9:11: the service c: ",
        "11:11: the service d: ",
        "13:11: the service e: ",
    ];
    check_refusal(&file.check(), 2, &of_file);
    check_refusal(&file.refused(), 2, &of_file);
}

/// An option that could have no effect is refused where its service begins.
#[test]
fn a_service_may_be_refused_what_others_can_use() {
    let file = File::new(
        r#"
[defaults]
listen = "tcp://127.0.0.1:0"

[services.isolated]
component = "builtin:echo-blocking"
reuse = 2

[services.shared]
component = "builtin:echo-evented"
reuse = 2
"#,
    );
    let expected = ["9:11: the service shared: --reuse is how many connections an instance serves"];
    check_refusal(&file.check(), 2, &expected);
    check_refusal(&file.refused(), 2, &expected);
}

#[test]
fn what_cannot_be_read_is_one_line() {
    let file = File::new("");
    let pipe = file.scratch.path("pipe");
    let made = run(Command::new("mkfifo").arg(&pipe));
    assert_eq!(made.status, Some(0));
    let large = file.scratch.path("large");
    fs::File::create(&large)
        .unwrap()
        .set_len((1 << 20) + 1)
        .unwrap();
    let directory = file.path().parent().unwrap().to_owned();
    for (path, expected) in [
        (file.scratch.path("nowhere"), "name a configuration file"),
        (
            directory,
            "this is a directory, and only a regular file is read",
        ),
        (pipe, "this is a pipe"),
        ("/dev/zero".into(), "this is a device"),
        (large, "it is larger than 1 MiB"),
    ] {
        let check = sockserve(["check".as_ref(), path.as_os_str()]);
        check_refusal(&check, 1, &[expected]);
        let begin = format!("{}: ", path.display());
        assert!(check.stderr[0].starts_with(&begin), "{check:#?}");
        let serve = sockserve(["serve".as_ref(), "--config".as_ref(), path.as_os_str()]);
        check_refusal(&serve, 1, &[expected]);
    }
    check_refusal(&file.check(), 2, &["1:1: there is no service"]);
    fs::write(file.path(), b"log-level = \"off\"\n# \xff\n").unwrap();
    check_refusal(
        &file.check(),
        2,
        &["2:3: this byte is not UTF-8; save the file as UTF-8"],
    );
}

#[test]
fn a_file_goes_together_with_no_option_of_a_service() {
    for arguments in [
        &["builtin:echo-evented"][..],
        &["--listen", "tcp://127.0.0.1:0"],
        &["--max-connections", "5"],
        &["--watch"],
        &["--env", "A=1"],
        &["--", "an argument"],
    ] {
        let all = [&["serve", "--config", "x.toml"], arguments].concat();
        let outcome = sockserve(all);
        check_refusal(&outcome, 2, &["'--config <FILE>' cannot be used with '"]);
    }
    check_refusal(&sockserve(["serve"]), 2, &["--listen <URL> <COMPONENT>"]);
    check_refusal(&sockserve(["check"]), 2, &["<FILE>"]);
}

fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name)
}

/// The example in docs/ serves as it stands there, but on free ports.
#[test]
fn the_example_serves() {
    let example = fs::read_to_string(docs("sockserve.toml")).unwrap();
    let file = File::new(&example);
    let checked = file.check().printed();
    assert_eq!(checked.len(), 4, "{checked:#?}");
    let mut on_free_ports = example;
    for port in 7000..7004 {
        let before = on_free_ports.clone();
        on_free_ports = before.replace(&format!(":{port}\""), ":0\"");
        assert_ne!(before, on_free_ports);
    }
    fs::write(file.path(), on_free_ports).unwrap();
    let server = file.serve(5);
    Client::connect(server.addresses[0]).check_echo("hello");
    for mut upper in [
        Client::connect(server.addresses[1]),
        Client::connect_unix(&file.scratch.path("upper.sock")),
    ] {
        upper.send("hello\n");
        assert_eq!(upper.line(), "HELLO\n");
    }
    let mut store = Client::connect(server.addresses[2]);
    store.send("SET a 1\n");
    assert_eq!(store.line(), "OK\r\n");
    assert_eq!(status(&file, "control.sock").len(), 4);
    drop(store);
    server.stop();
    assert!(file.scratch.path("store.state").exists());
}

#[test]
fn the_schema_in_docs_is_the_programs() {
    let printed = sockserve(["check", "--schema"]).printed();
    let kept = fs::read_to_string(docs("sockserve.schema.json")).unwrap();
    let kept: Vec<_> = kept.lines().collect();
    assert_eq!(
        printed, kept,
        "run: sockserve check --schema > docs/sockserve.schema.json"
    );
}

#[test]
fn the_schema_fits_what_the_reader_takes() {
    let Some(python) = python::with("jsonschema") else {
        return;
    };
    let file = File::new("");
    let three = three(&file.scratch);
    fs::write(file.path(), three).unwrap();
    assert_eq!(file.check().status, Some(0));
    let wrong = file.scratch.path("wrong.toml");
    fs::write(
        &wrong,
        "contrl = \"x\"\n[services.\"a b\"]\nlisten = 5\n[services.b]\nlisten = [\"tcp://*:0\"]\n\
         component = \"x\"\nmax-connections = \"5\"\nrollback-on = \"all\"\nwatch = 1\n\
         env = { A = 1 }\ncolour = \"red\"\n",
    )
    .unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/python/schema.py");
    let mut command = Command::new(python);
    command.arg(script).arg(docs("sockserve.schema.json"));
    let printed = run(command
        .arg(docs("sockserve.toml"))
        .arg(file.path())
        .arg(&wrong))
    .printed();
    assert_eq!(printed[..2], ["fits", "fits"]);
    for error in [
        "/: additionalProperties",
        "/: anyOf",
        "/services: pattern",
        "/services/a b/listen: anyOf",
        "/services/b: additionalProperties",
        "/services/b/env/A: type",
        "/services/b/max-connections: type",
        "/services/b/rollback-on: enum",
        "/services/b/watch: type",
    ] {
        assert!(printed[2].contains(error), "{error}: {}", printed[2]);
    }
}
