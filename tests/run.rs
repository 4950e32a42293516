//! `sockserve run`: programs that listen and connect by themselves. K1 to K4 and R4, as
//! clients of our own services.

use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::DirEntryExt as _;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::harness::command::{Outcome, run, sockserve};
use crate::harness::guests::{
    client_command, echo_blocking, echo_command, echo_datagram, faults_command, faults_command_p3,
    faults_datagram, time_evented,
};
use crate::harness::process::Process;
use crate::harness::scratch::Scratch;
use crate::harness::{Client, Guest, Serve, Server, ctime, text, wasmtime};

const SOCKSERVE: &str = env!("CARGO_BIN_EXE_sockserve");

/// Runs a program with these options and arguments, and `input` as its standard input.
#[track_caller]
fn program(program: &Path, options: &[&str], arguments: &[&str]) -> Outcome {
    let path = program.to_str().unwrap();
    sockserve([&["run"], options, &[path], arguments].concat())
}

#[track_caller]
fn client(options: &[&str], arguments: &[&str]) -> Outcome {
    program(&client_command.path(), options, arguments)
}

/// A service that a client talks to.
#[track_caller]
fn serve(guest: Guest, dispatch: &str, option: &str) -> (Server, String) {
    let server = Serve::guest(guest, dispatch)
        .compiled_once()
        .env(option)
        .start();
    let place = server.address().to_string();
    (server, place)
}

/// K1, K3 and K4.
#[test]
fn stream_clients_get_their_answers() {
    let (server, place) = serve(echo_blocking, "threaded", "MODE=stream");
    let grant = ["--allow-connect", &place];
    assert_eq!(
        client(&grant, &["stream", &place]).printed(),
        ["Hello World"]
    );
    assert_eq!(
        client(&grant, &["stream", &place, "x y\n"]).printed(),
        ["x y"]
    );
    assert_eq!(
        client(&grant, &["two", &place]).printed(),
        ["first", "second"]
    );
    assert_eq!(
        client(&grant, &["end", &place, "whole"]).printed(),
        ["whole"]
    );
    server.stop().check_no_alarm();

    let (server, place) = serve(time_evented, "poll", "MODE=request");
    let grant = ["--allow-connect", &place];
    let now = ctime::now();
    let said = client(&grant, &["slow", &place, "100"]).printed();
    let time = said[0].strip_prefix("The time is ").unwrap();
    ctime::check(format!("{time}\r\n").as_bytes(), now);
    server.stop().check_no_alarm();
}

/// The programs are of WASI and not of `sockserve`.
#[test]
fn clients_run_under_the_stock_wasmtime() {
    let (server, place) = serve(echo_blocking, "threaded", "MODE=stream");
    wasmtime::for_each("clients_run_under_the_stock_wasmtime", |wasmtime| {
        let mut command = Command::new(wasmtime);
        command.args(["run", "-S", "inherit-network"]);
        command.arg(client_command.path()).args(["stream", &place]);
        assert_eq!(run(&mut command).printed(), ["Hello World"]);
    });
    server.stop().check_no_alarm();
}

/// K2, with and without a default peer.
#[test]
fn datagram_clients_get_their_answers() {
    for url in ["udp://127.0.0.1:0", "udp://[::1]:0"] {
        let server = Serve::guest(echo_datagram, "poll")
            .compiled_once()
            .listen(url)
            .start();
        let place = server.address().to_string();
        for kind in ["datagram", "connected"] {
            let outcome = client(&["--allow-udp", &place], &[kind, &place]);
            assert_eq!(outcome.printed(), ["Hello World"]);
        }
        server.stop().check_no_alarm();
    }
}

#[test]
fn a_known_program_is_not_compiled_again() {
    let scratch = Scratch::new();
    let cache = scratch.path("cache");
    let compiled = || {
        let entries = std::fs::read_dir(&cache).unwrap();
        let mut entries: Vec<_> = entries
            .map(|entry| {
                let entry = entry.unwrap();
                // A use of it changes its time.
                (entry.file_name(), entry.ino())
            })
            .collect();
        entries.sort();
        entries
    };
    let options = ["--cache", cache.to_str().unwrap()];
    let program = || program(&faults_command.path(), &options, &["say", "hello", "0"]);
    assert_eq!(program().printed(), ["hello"]);
    let first = compiled();
    assert!(!first.is_empty());
    assert_eq!(program().printed(), ["hello"]);
    assert_eq!(compiled(), first);
}

/// R4. Standard input is the process's own.
#[test]
fn standard_input_is_printed() {
    let mut command = Command::new(SOCKSERVE);
    command.arg("run").arg(client_command.path()).arg("typed");
    let mut shell = Command::new("sh");
    shell.args(["-c", "printf 'one\\ntwo\\n' | \"$0\" \"$@\""]);
    shell.arg(SOCKSERVE).args(command.get_args());
    let outcome = run(&mut shell);
    assert_eq!(outcome.stdout, ["typed: one", "typed: two"]);
}

/// A server of its own; and the system chooses the port.
#[test]
fn a_program_listens_where_it_may() {
    let mut command = Command::new(SOCKSERVE);
    command.args(["run", "--allow-listen", "127.0.0.1:0"]);
    command
        .arg(client_command.path())
        .args(["serve", "127.0.0.1:0", "2"]);
    let mut process = Process::start(&mut command);
    let address = process.stdout.wait_until("its line", |lines| {
        let line = lines.first()?.strip_prefix("listening ")?;
        Some(line.parse().unwrap())
    });
    for _ in 0..2 {
        let mut peer = Client::connect(address);
        peer.check_echo("hello");
        peer.finish_sending();
        peer.expect_eof();
    }
    assert!(process.wait().success());
}

/// Everything is denied, and the refusal says what would help. The program sees what a
/// program sees that the system refuses.
#[test]
fn what_is_not_granted_is_denied_by_name() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = tcp.local_addr().unwrap().to_string();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let udp = udp.local_addr().unwrap().to_string();
    let other = "127.0.0.2:9";
    let check = |options: &[&str], arguments: &[&str], said: &str, grant: &str| {
        let outcome = client(options, arguments);
        assert_eq!(outcome.status, Some(1), "{outcome:#?}");
        let said = |line: &String| line == said;
        assert!(outcome.stderr.iter().any(said), "{outcome:#?}");
        let told = |line: &String| line.contains("denied: ") && line.contains(grant);
        assert!(outcome.stderr.iter().any(told), "{grant}: {outcome:#?}");
    };
    let refused = "connect: PermissionDenied";
    let grant = format!("connect to {tcp}; --allow-connect {tcp} would grant it");
    check(&[], &["stream", &tcp], refused, &grant);
    check(
        &["--allow-connect", other],
        &["stream", &tcp],
        refused,
        &grant,
    );
    check(
        &["--allow-listen", &tcp],
        &["stream", &tcp],
        refused,
        &grant,
    );
    let grant = "bind to 127.0.0.1:0; --allow-listen 127.0.0.1:0 would grant it";
    let serve = ["serve", "127.0.0.1:0", "1"];
    check(&[], &serve, "bind: PermissionDenied", grant);
    check(
        &["--allow-listen", other],
        &serve,
        "bind: PermissionDenied",
        grant,
    );
    let grant = "bind a UDP socket to 0.0.0.0:0; --allow-udp 0.0.0.0:0 would grant it";
    check(&[], &["datagram", &udp], "bind: PermissionDenied", grant);
    let grant = format!("send datagrams to {udp}; --allow-udp {udp} would grant it");
    check(
        &["--allow-udp", other],
        &["datagram", &udp],
        "send: PermissionDenied",
        &grant,
    );
}

/// Errors of the network keep their names.
#[test]
fn errors_have_their_names() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = free.local_addr().unwrap().to_string();
    let taken = client(&["--allow-listen", &place], &["serve", &place, "1"]);
    assert_eq!(taken.stderr, ["bind: AddrInUse"]);
    drop(free);
    let refused = client(&["--allow-connect", &place], &["stream", &place]);
    assert_eq!(refused.stderr, ["connect: ConnectionRefused"]);
}

#[test]
fn names_are_looked_up_where_that_is_granted() {
    let found = client(&["--allow-lookup"], &["resolve", "localhost"]).printed();
    assert!(
        found.iter().all(|ip| ip == "127.0.0.1" || ip == "::1"),
        "{found:?}"
    );
    assert!(!found.is_empty());
    assert_eq!(client(&[], &["resolve", "localhost"]).status, Some(1));
}

/// The exit status is the program's, or says how it was ended.
#[test]
fn the_exit_status_says_how_it_ended() {
    let faults = faults_command.path();
    for (arguments, status) in [
        (&["exit", "0"][..], 0),
        (&["exit", "1"], 1),
        (&["trap"], 134),
        (&["grow"], 134),
    ] {
        let outcome = program(&faults, &[], arguments);
        assert_eq!(outcome.status, Some(status), "{outcome:#?}");
        if status == 134 {
            let last = outcome.stderr.last().unwrap();
            assert!(
                last.contains("faults_command.wasm: the guest trapped: "),
                "{last}"
            );
        }
    }
    // It may compute for longer than a handler, and not for longer than its timeout.
    for fault in [&["spin"][..], &["sleep", "60000"]] {
        let outcome = program(&faults, &["--timeout", "1200ms"], fault);
        assert_eq!(outcome.status, Some(124), "{outcome:#?}");
        assert!(
            outcome.stderr[0].ends_with("ended by --timeout"),
            "{outcome:#?}"
        );
    }
    let said = program(&faults, &["--env", "A=b"], &["environment"]).printed();
    assert_eq!(said, ["A=b"]);
    let said = program(&faults, &[], &["--allow-udp", "--", "x"]).printed();
    assert_eq!(said, ["faults_command.wasm", "--allow-udp", "--", "x"]);
}

/// By default 64 MiB.
#[test]
fn its_memory_is_limited() {
    let faults = faults_command.path();
    for (options, bytes) in [(&[][..], 64 << 20), (&["--max-memory", "16MiB"], 16 << 20)] {
        let outcome = program(&faults, options, &["grow"]);
        assert_eq!(outcome.status, Some(134), "{outcome:#?}");
        let said = format!("memory past the limit of {bytes} bytes");
        assert!(
            outcome.stderr.last().unwrap().contains(&said),
            "{outcome:#?}"
        );
    }
}

#[test]
fn it_has_the_directories_that_are_granted() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path("file"), "inside\n").unwrap();
    let grant = format!("{}::/data", scratch.path(".").display());
    let faults = faults_command.path();
    let read = ["read", "/data/file"];
    let said = program(&faults, &["--dir", &grant], &read).printed();
    assert_eq!(said, ["inside"]);
    let denied = program(&faults, &[], &read);
    assert!(denied.stderr[0].starts_with("read: "), "{denied:#?}");
    assert_eq!(denied.stdout, [""; 0]);
}

#[test]
fn a_signal_ends_it() {
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut command = Command::new(SOCKSERVE);
        command.args(["run", "--allow-listen", "127.0.0.1:0"]);
        command
            .arg(client_command.path())
            .args(["serve", "127.0.0.1:0", "1"]);
        let mut process = Process::start(&mut command);
        process
            .stdout
            .wait_until("its line", |lines| (!lines.is_empty()).then_some(()));
        process.signal(signal);
        assert_eq!(process.wait().code(), Some(status));
    }
}

/// On WASI 0.3.
#[test]
fn a_program_on_wasi_0_3_runs() {
    let mut shell = Command::new("sh");
    shell.args(["-c", "printf 'hello' | \"$0\" run \"$@\""]);
    shell
        .arg(SOCKSERVE)
        .arg(faults_command_p3.path())
        .arg("fail");
    let outcome = run(&mut shell);
    assert_eq!(outcome.status, Some(1));
    assert_eq!(outcome.stdout, ["hello"]);
    assert_eq!(outcome.stderr, ["fails on purpose"]);
}

#[test]
fn wrong_arguments_are_told() {
    let check = |arguments: &[&str], said: &str| {
        let outcome = sockserve([&["run"], arguments].concat());
        assert_eq!(outcome.status, Some(2), "{outcome:#?}");
        assert_eq!(outcome.stderr.len(), 1, "{outcome:#?}");
        assert!(outcome.stderr[0].contains(said), "{outcome:#?}");
    };
    let echo = "builtin:echo-command";
    check(&[], "COMPONENT");
    check(&["--no-such-option", echo], "--no-such-option");
    check(&["--timeout", "0s", echo], "--timeout");
    check(&["--allow-listen", "nowhere", echo], "nowhere");
    let missing = sockserve(["run", "no-such-file.wasm"]);
    assert_eq!(missing.status, Some(1));
    assert!(
        missing.stderr[0].contains("no-such-file.wasm"),
        "{missing:#?}"
    );
}

#[test]
fn a_handler_is_no_program() {
    for guest in [echo_blocking, faults_datagram] {
        let path = guest.path();
        let outcome = program(&path, &[], &[]);
        assert_eq!(outcome.status, Some(2), "{outcome:#?}");
        let said = format!(
            "{}: a handler with the contract {}, and not a program; serve it: sockserve serve",
            path.display(),
            guest.contract()
        );
        assert!(outcome.stderr[0].contains(&said), "{outcome:#?}");
        assert_eq!(outcome.stderr.len(), 1);
    }
    let said = program(Path::new("builtin:echo-command"), &[], &["x"]);
    assert_eq!(said.status, Some(0), "{said:#?}");
    assert_eq!(echo_command.contract(), "command");
}

for_each_pair! { client_commands: a_client_can_be_a_handler }
/// Whoever connects gets what another service says.
fn a_client_can_be_a_handler(guest: Guest, dispatch: &str) {
    let (behind, place) = serve(echo_blocking, "threaded", "MODE=stream");
    let server = Serve::guest(guest, dispatch)
        .compiled_once()
        .args(["--allow-connect", &place, "--max-connections", "100"])
        .arguments(&["end", &place, "from behind"])
        .start();
    assert_eq!(text(server.connect().read_to_end()), "from behind");
    server.stop().check_no_alarm();
    behind.stop().check_no_alarm();
}
