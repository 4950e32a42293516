//! Handlers in Python, by the package in `sdk/python/`. The same client gets the same from CPython's
//! own modules and from the component, for the same file: `tests/languages/python/`.

use std::env;
use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sha2::{Digest as _, Sha256};

use crate::harness::control::Controlled;
use crate::harness::guests::{echo_blocking, upper_blocking};
use crate::harness::process::Process;
use crate::harness::python::Python;
use crate::harness::scratch::Scratch;
use crate::harness::server::CACHE;
use crate::harness::{Client, PATIENCE, Serve, Server, ctime, noise, slow, text, tools};

/// How long a tool may take: CPython as a component is large.
const SLOW: Duration = Duration::from_secs(300);

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

const TCP: &str = "tcp://127.0.0.1:0";
const UDP: &str = "udp://127.0.0.1:0";

/// What was built before.
const BUILT: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/python");

/// The component of a Python file of the repository, built as a user builds it. `None` without the
/// tools. An earlier build of the same sources is taken again.
fn component(file: &str) -> Option<PathBuf> {
    let tool = tools::find(&["componentize-py"], "pip install componentize-py==0.25.1")?;
    if !tools::have("python3", &["--version"]) {
        return None;
    }
    let repository = Path::new(REPOSITORY);
    let mut digest = Sha256::new();
    for folder in ["sdk/python/sockserve", "wit", "wit/deps"] {
        hash_files(&repository.join(folder), &mut digest);
    }
    let file = repository.join(file);
    digest.update(fs::read(&file).unwrap());
    let name: String = digest
        .finalize()
        .iter()
        .take(8)
        .map(|it| format!("{it:02x}"))
        .collect();
    let path = Path::new(BUILT).join(format!("{name}.wasm"));
    if !path.exists() {
        fs::create_dir_all(BUILT).unwrap();
        let unfinished = path.with_extension(format!("{}", std::process::id()));
        let mut build = python();
        let mut places = vec![tool.parent().unwrap().to_owned()];
        places.extend(env::split_paths(&env::var_os("PATH").unwrap()));
        build.env("PATH", env::join_paths(places).unwrap());
        build.args(["-m", "sockserve", "build"]).arg(&file);
        build.arg("-o").arg(&unfinished);
        let mut process = Process::start(&mut build);
        let status = process.wait_within(SLOW);
        assert!(status.success(), "{build:?}: {status}");
        fs::rename(unfinished, &path).unwrap();
    }
    Some(path)
}

fn hash_files(folder: &Path, digest: &mut Sha256) {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    for file in files {
        digest.update(fs::read(file).unwrap());
    }
}

/// An interpreter that finds the package.
fn python() -> Command {
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", Path::new(REPOSITORY).join("sdk/python"));
    command
}

/// A program in `tests/languages/python/`, with the variables that say what it does.
struct Program {
    file: &'static str,
    variables: &'static [&'static str],
}

impl Program {
    fn file(&self) -> String {
        format!("tests/languages/python/{}", self.file)
    }

    /// The component, as a service.
    #[track_caller]
    fn serve(&self, url: &str) -> Option<Server> {
        let mut serve = Serve::component(component(&self.file())?)
            .compiled_once()
            .within(SLOW)
            .listen(url);
        for variable in self.variables {
            serve = serve.env(variable);
        }
        Some(serve.start())
    }

    /// The same file, served by CPython's modules. `None` if this CPython has them not.
    fn serve_by_cpython(&self) -> Option<Python> {
        let script = "../languages/python/reference.py";
        let file = Path::new(REPOSITORY).join(self.file());
        let mut arguments = vec![file.to_str().unwrap()];
        arguments.extend(self.variables);
        let python = Python::start_with(script, &arguments)?;
        if python.address().port() == 0 {
            println!("skipped: this CPython has no asyncore to compare with");
            return None;
        }
        Some(python)
    }
}

/// One step of a client.
#[derive(Clone, Copy)]
enum Step {
    Send(&'static str),
    /// Reads as many bytes.
    Read(usize),
    /// Reads a time, which is not the same later.
    Time,
    /// Sends FIN.
    End,
}
use Step::{End, Read, Send, Time};

/// What a client gets, to the end of file.
#[track_caller]
fn talk(mut client: Client, steps: &[Step]) -> Vec<String> {
    let earliest = ctime::now();
    let mut heard = Vec::new();
    for step in steps {
        match *step {
            Send(text) => client.send(text),
            Read(count) => heard.push(text(client.read_exact(count))),
            Time => {
                ctime::check(&client.read_exact(ctime::LENGTH), earliest);
                heard.push("<time>".to_owned());
            }
            End => client.finish_sending(),
        }
    }
    heard.push(text(client.read_to_end()));
    heard
}

/// Checks that the client gets `expected`, and that the program prints `printed`, under CPython's
/// modules and as a component.
#[track_caller]
fn check(program: &Program, steps: &[Step], expected: &[&str], printed: &[&str]) {
    let what = program.variables;
    let Some(server) = program.serve(TCP) else {
        return;
    };
    if let Some(cpython) = program.serve_by_cpython() {
        assert_eq!(talk(cpython.connect(), steps), expected, "CPython {what:?}");
        assert_eq!(cpython.printed(printed.len()), printed, "CPython {what:?}");
    }
    assert_eq!(talk(server.connect(), steps), expected, "{what:?}");
    let finished = server.stop();
    finished.check_no_alarm();
    assert_eq!(finished.guest_lines(), printed, "{what:?}");
}

const fn stream(variables: &'static [&'static str]) -> Program {
    let file = "streams.py";
    Program { file, variables }
}

const fn events(variables: &'static [&'static str]) -> Program {
    let file = "events.py";
    Program { file, variables }
}

/// E1, E2, E3, E6, and the examples of CPython's documentation, with their classes unchanged.
#[test]
fn handlers_of_streams_are_cpythons() {
    check(
        &stream(&["HANDLER=Base"]),
        &[Send("  hello \n")],
        &["HELLO"],
        &["Received from 127.0.0.1:", "b'hello'"],
    );
    check(
        &stream(&["HANDLER=Pieces"]),
        &[Send("first\n")],
        &["FIRST\\n"],
        &["Received from 127.0.0.1:", "first", ""],
    );
    check(
        &stream(&["HANDLER=Stream"]),
        &[Send("hel"), Send("lo \n")],
        &["HELLO"],
        &["127.0.0.1 wrote:", "hello"],
    );
    check(&stream(&["HANDLER=Once"]), &[Send("once")], &["once"], &[]);
    let echoed = [Send("one"), Read(3), Send("two"), Read(3), End];
    check(
        &stream(&["HANDLER=Echo"]),
        &echoed,
        &["one", "two", ""],
        &[],
    );
    check(&stream(&["HANDLER=Hello"]), &[], &["Hello World!\\n"], &[]);
}

/// T1, T2 and T5.
#[test]
fn handlers_that_tell_the_time_are_cpythons() {
    let time = "<time>";
    check(&stream(&["HANDLER=Daytime"]), &[Time], &[time, ""], &[]);
    check(
        &stream(&["HANDLER=Request"]),
        &[Send("what time is it?"), Time],
        &[time, ""],
        &["b'what time is it?'"],
    );
    check(
        &stream(&["HANDLER=ByLine"]),
        &[Send("a\r\n"), Time, Send("b\r\n"), Time, End],
        &[time, time, ""],
        &[],
    );
}

/// `rfile`, `wfile` and the socket itself: each line of the answer is what one call came to.
#[test]
fn files_and_sockets_are_cpythons() {
    check(
        &stream(&["HANDLER=Files"]),
        &[Send("one\ntwoline\nfour\nxxabc\nl1\nl2\nl3"), End],
        &[concat!(
            r"(\'readline\', b\'one\\n\', b\'two\', b\'line\\n\')\n",
            r"(\'read\', b\'four\', b\'\\n\')\n",
            r"(\'readinto\', 2, b\'a\')\n",
            r"(\'iterated\', [b\'bc\\n\', b\'l1\\n\', b\'l2\\n\', b\'l3\'])\n",
            r"(\'end\', b\'\', b\'\', b\'\', b\'\')\n",
            r"stra\xc3\x9fe\n",
            r"(True, True, False)\n",
        )],
        &[],
    );
    check(
        &stream(&["HANDLER=Socket"]),
        &[Send("abcdefgh")],
        &[concat!(
            r"(\'addresses\', True, True, \'127.0.0.1\')\n",
            r"(\'kinds\', \'AF_INET\', \'SOCK_STREAM\', None)\n",
            r"(\'peek\', b\'ab\', b\'a\', b\'bc\')\n",
            r"(\'into\', 5, bytearray(b\'defgh\'), b\'\')\n",
            r"(\'timeout\', \'TimeoutError\')\n",
            r"(\'timeout\', \'BlockingIOError\')\n",
            r"(\'SO_KEEPALIVE\', 1)\n",
            r"(\'SO_ERROR\', 0)\n",
            r"(\'TCP_NODELAY\', 1)\n",
            r"(\'TCP_KEEPIDLE\', 33)\n",
            r"(\'TCP_KEEPCNT\', 4)\n",
        )],
        &[
            "after shutdown: BrokenPipeError",
            "to the end: b'' b''",
            "after close: EBADF",
        ],
    );
}

/// A peer that reads late, and bytes in both directions at once.
#[test]
fn megabytes_are_echoed() {
    let Some(server) = stream(&["HANDLER=Echo"]).serve(TCP) else {
        return;
    };
    let sent = noise(4 << 20);
    let mut client = server.connect();
    let mut writer = client.another();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            writer.send(&sent);
            writer.finish_sending();
        });
        assert!(client.read_to_end() == sent, "other bytes came back");
    });
    server.stop().check_no_alarm();
}

/// S1 and S8: `finish` runs, and the failure is logged with the peer's address.
#[test]
fn an_exception_costs_its_own_connection() {
    let program = stream(&["HANDLER=Failing"]);
    let expected = ["setup\\nhandle\\nfinish\\n"];
    let Some(server) = program.serve(TCP) else {
        return;
    };
    if let Some(cpython) = program.serve_by_cpython() {
        assert_eq!(talk(cpython.connect(), &[]), expected);
    }
    let client = server.connect();
    let peer = client.local().to_string();
    assert_eq!(talk(client, &[]), expected);
    assert_eq!(talk(server.connect(), &[]), expected);
    server.wait_for_closed(2);
    let finished = server.stop();
    let alarms = finished.alarms();
    assert_eq!(alarms.len(), 2, "{alarms:#?}");
    let said = format!("{:?}", alarms);
    assert!(said.contains("ValueError: deliberate failure"), "{said}");
    assert!(said.contains(&peer), "{said}");
    let lines = finished.guest_lines();
    let raised = lines
        .iter()
        .filter(|line| **line == "ValueError: deliberate failure");
    assert_eq!(raised.count(), 2, "{lines:#?}");
}

/// E4, E5, the example of CPython's documentation, and what a datagram's handler knows.
#[test]
fn handlers_of_datagrams_are_cpythons() {
    for (handler, sent, expected) in [
        ("HANDLER=Doc", "  hello ", "HELLO"),
        ("HANDLER=Echo", "hello", "hello"),
        ("HANDLER=Prefix", "hello", "echo:hello"),
        (
            "HANDLER=Address",
            "hello",
            "(('127.0.0.1', PORT), True, 8192)",
        ),
    ] {
        let program = Program {
            file: "datagrams.py",
            variables: Box::leak(Box::new([handler])),
        };
        let Some(server) = program.serve(UDP) else {
            return;
        };
        let cpython = program.serve_by_cpython();
        let places = [
            Some(server.address()),
            cpython.as_ref().map(Python::address),
        ];
        for place in places.into_iter().flatten() {
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.connect(place).unwrap();
            // What the server's `verify_request` refuses has no answer.
            client.send(b"refused").unwrap();
            client.send(sent.as_bytes()).unwrap();
            let mut answer = [0; 100];
            let count = client.recv(&mut answer).unwrap();
            let port = client.local_addr().unwrap().port().to_string();
            assert_eq!(
                text(&answer[..count]),
                text(expected.replace("PORT", &port)),
                "{handler}"
            );
        }
        server.stop().check_no_alarm();
    }
}

/// S9: `service_actions` of the server's class, between requests, in the instance that serves all.
#[test]
fn a_server_acts_between_requests() {
    let program = Program {
        file: "datagrams.py",
        variables: &["HANDLER=Ticks"],
    };
    let Some(server) = program.serve(UDP) else {
        return;
    };
    let cpython = program.serve_by_cpython();
    let places = [
        Some(server.address()),
        cpython.as_ref().map(Python::address),
    ];
    for place in places.into_iter().flatten() {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.connect(place).unwrap();
        let begun = Instant::now();
        let ticks = || {
            assert!(begun.elapsed() < PATIENCE, "{place} does not act");
            client.send(b"how often?").unwrap();
            let mut answer = [0; 100];
            let count = client.recv(&mut answer).unwrap();
            std::str::from_utf8(&answer[..count])
                .unwrap()
                .parse::<u64>()
                .unwrap()
        };
        let first = ticks();
        while ticks() < first + 2 {}
    }
    server.stop().check_no_alarm();
}

/// T6, and the example of CPython's documentation.
#[test]
fn asyncore_is_cpythons() {
    check(
        &events(&["HANDLER=ByEvent"]),
        &[Send("a"), Time, Send("b"), Time, End],
        &["<time>", "<time>", ""],
        &[],
    );
    check(
        &events(&["HANDLER=Echo"]),
        &[Send("one"), Read(3), Send("two"), Read(3), End],
        &["one", "two", ""],
        &[],
    );
}

/// T7: a terminator in pieces, a count, and none; a queue with a producer of 512 bytes.
#[test]
fn asynchat_is_cpythons() {
    check(
        &events(&["HANDLER=ByTerminator"]),
        &[Send("ab\r"), Send("\n\r"), Send("\nrest"), Time],
        &["<time>", ""],
        &["b'ab'"],
    );
    check(
        &events(&["HANDLER=ByTerminator", "TERMINATOR=5"]),
        &[Send("abc"), Send("de"), Time],
        &["<time>", ""],
        &["b'abcde'"],
    );
    check(
        &events(&["HANDLER=ByTerminator", "TERMINATOR=none"]),
        &[Send("abc\r\n\r\n"), End],
        &[""],
        &[],
    );
    let long = "x".repeat(600);
    let answer = format!("600 bytes: {long}\\n");
    check(
        &events(&["HANDLER=Head"]),
        &[
            Send("600\n"),
            Send(Box::leak(long.into_boxed_str())),
            Read(612),
            Send("3\nbye"),
        ],
        &[&answer, "3 bytes: bye\\nbye\\n"],
        &["producer: 512", "producer: 88", "producer: 3"],
    );
}

/// An exception of one dispatcher leaves the connections of the others open.
#[test]
fn an_exception_in_an_event_costs_its_own_connection() {
    let program = events(&["HANDLER=Failing"]);
    let Some(server) = program.serve(TCP) else {
        return;
    };
    let steps = [Send("a"), Read(1), Send("fail")];
    let mut other = server.connect();
    other.check_echo("hello");
    assert_eq!(talk(server.connect(), &steps), ["a", "error\\n"]);
    other.check_echo("still there");
    if let Some(cpython) = program.serve_by_cpython() {
        assert_eq!(talk(cpython.connect(), &steps), ["a", "error\\n"]);
    }
    // Here `handle_error` fails too, which ends the server with asyncore.
    assert_eq!(talk(server.connect(), &[Send("fail twice")]), [""]);
    other.check_echo("and still there");
    other.finish_sending();
    other.expect_eof();
    let finished = server.stop();
    let alarms = finished.alarms();
    assert_eq!(alarms.len(), 2, "{alarms:#?}");
    let said = format!("{alarms:?}");
    assert!(said.contains("ValueError: deliberate failure"), "{said}");
    assert!(said.contains("TypeError: "), "{said}");
}

#[test]
fn a_slow_handler_serves_all_that_many_send_at_once() {
    let program = events(&["HANDLER=Slow"]);
    let Some(server) = program.serve(TCP) else {
        return;
    };
    slow::check_deadline(&server);
    server.stop().check_no_alarm();
    let Some(server) = program.serve(TCP) else {
        return;
    };
    // The host tells once of the end of a connection that waits for nothing else, also in a turn
    // that reads no more.
    let mut rests = server.connect();
    rests.send("rest");
    rests.expect("resting\n");
    rests.expect_eof();
    let mut others: Vec<_> = (0..8).map(|_| server.connect()).collect();
    server.process.signal(Signal::STOP);
    for other in &mut others {
        other.send("slow");
    }
    drop(rests);
    server.process.signal(Signal::CONT);
    for (other, reads) in others.iter_mut().zip(1..) {
        other.expect(format!("{reads}\n"));
    }
    server.wait_for_log("the end", |event| event.message() == "closed at rest");
    drop(others);
    server.stop().check_no_alarm();
    if let Some(server) = program.serve(TCP) {
        slow::check_fairness(&server, 2 << 20, 1);
    }
}

/// Coroutines of a reader and a writer.
#[test]
fn coroutines_are_cpythons() {
    let program = Program {
        file: "coroutine.py",
        variables: &[],
    };
    check(
        &program,
        &[Send("hello\nwho\nraw 4\na"), Send("b\ncrest"), End],
        &["HELLO\\n127.0.0.1\\nab\\ncREST"],
        &[],
    );
    check(&program, &[Send("hello\nbye\n")], &["HELLO\\n"], &[]);
}

/// Puts a component into the cache, because a swap that has to compile CPython takes longer than a test
/// waits for an answer.
fn compile(component: &Path, url: &str) {
    let serve = Serve::component(component).compiled_once().listen(url);
    serve.within(SLOW).start().stop();
}

/// A service of a component with a control socket.
fn controlled(first: &str, dispatch: &str) -> Controlled {
    let scratch = Scratch::new();
    let server = Serve::component(first)
        .args(["--control".as_ref(), scratch.path("control").as_os_str()])
        .args([
            "--dispatch",
            dispatch,
            "--env",
            "MODE=line",
            "--cache",
            CACHE,
        ])
        .within(SLOW)
        .start();
    Controlled { server, scratch }
}

/// One connection, which is in the middle of a line each time, goes from Rust to Python and back, and
/// from one contract to another.
#[test]
fn a_connection_goes_from_rust_to_python_and_back() {
    let tests = "tests/languages/python";
    let Some(lines) = component(&format!("{tests}/lines.py")) else {
        return;
    };
    let by_event = component(&format!("{tests}/lines_by_event.py")).unwrap();
    compile(&lines, TCP);
    compile(&by_event, TCP);
    let controlled = controlled(&echo_blocking.builtin(), "poll");
    let mut client = controlled.server.connect();
    let mut typed = 0;
    let mut half = |client: &mut Client| {
        client.send("half ");
        typed += 5;
        controlled.wait_for_bytes_in(typed);
        typed += 5;
    };
    let steps = [
        (lines.clone().into_os_string(), "HALF LINE\n"),
        (echo_blocking.builtin().into(), "half line\n"),
        (by_event.into_os_string(), "HALF LINE\n"),
        (upper_blocking.builtin().into(), "HALF LINE\n"),
        (lines.into_os_string(), "HALF LINE\n"),
        (echo_blocking.builtin().into(), "half line\n"),
    ];
    for (version, answer) in steps {
        half(&mut client);
        controlled.swap_at_once(version);
        controlled.wait_for_settled(1);
        client.send("line\n");
        client.expect(answer);
    }
    client.finish_sending();
    client.expect_eof();
    controlled.server.stop().check_no_alarm();
}

/// What a handler saves goes to the next version. A version that does not know the state refuses the
/// connection, which goes on where it was.
#[test]
fn a_handler_saves_and_resumes() {
    let Some(first) = component("tests/languages/python/counting.py") else {
        return;
    };
    let controlled = controlled(first.to_str().unwrap(), "threaded");
    let mut client = controlled.server.connect();
    client.send("anna\nbe");
    client.expect("1 nobody\n");
    controlled.wait_for_bytes_in(7);
    let second = controlled.scratch.path("second.wasm");
    // The same code in a file with another digest.
    let another = [&fs::read(&first).unwrap()[..], &[0, 2, 1, b'x']].concat();
    fs::write(&second, another).unwrap();
    compile(&second, TCP);
    controlled.swap_at_once(&second);
    controlled.wait_for_settled(1);
    client.send("rta\n");
    client.expect("2 anna\n");
    controlled.swap_at_once(echo_blocking.builtin());
    controlled.server.wait_for_log("the refusal", |event| {
        event
            .message()
            .contains("state counting/1: expected echo/1")
    });
    client.send("carla\n");
    client.expect("3 berta\n");
    client.finish_sending();
    client.expect_eof();
    controlled.server.stop();
}

/// What the one instance for all datagrams knows goes to the next version.
#[test]
fn an_instance_saves_and_restores() {
    let Some(first) = component("tests/languages/python/datagrams.py") else {
        return;
    };
    let scratch = Scratch::new();
    let server = Serve::component(&first)
        .args(["--control".as_ref(), scratch.path("control").as_os_str()])
        .args(["--cache", CACHE])
        .env("HANDLER=Counted")
        .listen(UDP)
        .within(SLOW)
        .start();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.connect(server.address()).unwrap();
    let check = |expected: &str| {
        client.send(b"count").unwrap();
        let mut answer = [0; 100];
        let count = client.recv(&mut answer).unwrap();
        assert_eq!(text(&answer[..count]), expected);
    };
    check("1");
    check("2");
    let second = scratch.path("second.wasm");
    let another = [&fs::read(&first).unwrap()[..], &[0, 2, 1, b'x']].concat();
    fs::write(&second, another).unwrap();
    compile(&second, UDP);
    let controlled = Controlled { server, scratch };
    controlled.swap(&second, &[]);
    check("3");
    controlled.server.stop().check_no_alarm();
}

/// The examples are built and tested as their users do it.
#[test]
fn examples_pass_their_own_tests() {
    for contract in ["blocking", "datagram", "evented", "concurrent"] {
        let example = Path::new("examples/python").join(contract);
        let Some(built) = component(example.join("app.py").to_str().unwrap()) else {
            return;
        };
        let scratch = Scratch::new();
        fs::copy(built, scratch.path("app.wasm")).unwrap();
        let test = Path::new(REPOSITORY).join(example).join("test_app.py");
        fs::copy(test, scratch.path("test_app.py")).unwrap();
        let mut command = python();
        command.env("SOCKSERVE", env!("CARGO_BIN_EXE_sockserve"));
        command
            .args(["-m", "unittest"])
            .current_dir(scratch.path(""));
        let status = Process::start(&mut command).wait_within(SLOW);
        assert!(status.success(), "{contract}: {status}");
    }
}

/// What cannot be built is refused in one line.
#[test]
fn a_file_that_serves_nothing_is_refused() {
    if !tools::have("python3", &["--version"]) {
        return;
    }
    let scratch = Scratch::new();
    let refused = |source: &str, expected: &str| {
        fs::write(scratch.path("app.py"), source).unwrap();
        let mut build = python();
        build
            .args(["-m", "sockserve", "build", "app.py"])
            .current_dir(scratch.path(""));
        let mut process = Process::start(&mut build);
        assert_eq!(process.wait_within(PATIENCE).code(), Some(1));
        let said = process.stderr.lines();
        assert!(said.last().unwrap().contains(expected), "{said:#?}");
    };
    refused(
        "pass",
        "app.py: it serves nothing; end it with sockserve.serve(HANDLER)",
    );
    refused(
        "import sockserve\nsockserve.serve(1)",
        "serve(1): expected a subclass of ",
    );
    let saves = "import socketserver, sockserve
class H(socketserver.StreamRequestHandler):
    def save(self): return 1
sockserve.serve(H)";
    refused(
        saves,
        "H has save() and no state_tag: add state_tag = \"h/1\"",
    );
}
