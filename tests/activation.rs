//! Sockets that another program has opened: socket activation as systemd does it, inetd,
//! and what a service manager is told.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::harness::guests::{echo_blocking, echo_datagram, echo_evented, upper_concurrent};
use crate::harness::process::Process;
use crate::harness::scratch::Scratch;
use crate::harness::server::CACHE;
use crate::harness::tools::have;
use crate::harness::{Client, Guest, PATIENCE, Serve, text};

/// A launcher in Python: `launch.py MODE ARGUMENTS` opens sockets and becomes sockserve
/// with them, or is inetd for one connection.
fn launcher(args: &[&str]) -> Option<Command> {
    if !have("python3", &["--version"]) {
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/python/launch.py");
    let mut command = Command::new("python3");
    command.arg(script).args(args);
    Some(command)
}

const SOCKSERVE: &str = env!("CARGO_BIN_EXE_sockserve");

/// The ready lines' URLs.
#[track_caller]
fn urls(process: &Process, count: usize) -> Vec<String> {
    let lines = process.stdout.wait_until("the ready lines", |lines| {
        (lines.len() == count).then(|| lines.to_vec())
    });
    let url = |line: &String| line.split(' ').nth(1).unwrap().to_owned();
    lines.iter().map(url).collect()
}

#[track_caller]
fn address(url: &str) -> SocketAddr {
    url.split("//").nth(1).unwrap().parse().unwrap()
}

#[test]
fn inherited_listeners_are_recognised() {
    let scratch = Scratch::new();
    let path = scratch.path("s");
    let unix = path.to_str().unwrap();
    let serve = [
        SOCKSERVE,
        "--log-format",
        "json",
        "serve",
        "builtin:echo-evented",
        "--cache",
        CACHE,
        "--listen",
        "fd://one",
        "--listen",
        "fd://5",
        "--listen",
        "fd://two",
    ];
    // Descriptors 3 to 5, two of them of one name.
    let sockets = ["activate", "tcp", unix, "tcp", "one:two:three", "--"];
    let Some(mut command) = launcher(&[&sockets[..], &serve].concat()) else {
        return;
    };
    let mut process = Process::start(&mut command);
    let urls = urls(&process, 3);
    assert_eq!(urls[2], format!("unix://{unix}"));
    Client::connect(address(&urls[0])).check_echo("one");
    Client::connect(address(&urls[1])).check_echo("two");
    Client::connect_unix(&path).check_echo("three");
    process.signal(Signal::TERM);
    assert!(process.wait().success());
    assert!(path.exists(), "the file is not ours");
}

#[test]
fn inherited_datagram_sockets_are_recognised() {
    let scratch = Scratch::new();
    let path = scratch.path("s");
    let unix = format!("dgram:{}", path.display());
    let serve = [
        SOCKSERVE,
        "--log-format",
        "json",
        "serve",
        "builtin:echo-datagram",
        "--cache",
        CACHE,
        "--listen",
        "fd://x",
    ];
    let sockets = ["activate", "udp", &unix, "x:x", "--"];
    let Some(mut command) = launcher(&[&sockets[..], &serve].concat()) else {
        return;
    };
    let mut process = Process::start(&mut command);
    let urls = urls(&process, 2);
    assert_eq!(urls[1], format!("unix+dgram://{}", path.display()));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(address(&urls[0])).unwrap();
    socket.send(b"hello").unwrap();
    let mut answer = [0; 10];
    assert_eq!(socket.recv(&mut answer).unwrap(), 5);
    let socket = UnixDatagram::bind(scratch.path("own")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(b"hello", &path).unwrap();
    assert_eq!(socket.recv(&mut answer).unwrap(), 5);
    process.signal(Signal::TERM);
    assert!(process.wait().success());
}

/// An inherited listener goes on elsewhere: its backlog stays as it was.
#[test]
fn a_listener_can_be_passed_on() {
    let serve = [
        SOCKSERVE,
        "serve",
        "builtin:echo-evented",
        "--cache",
        CACHE,
        "--listen",
        "fd://3",
    ];
    let Some(mut command) = launcher(&[&["twice", "tcp", "--"][..], &serve].concat()) else {
        return;
    };
    // The launcher prints what the second process answers to many peers at once.
    let mut process = Process::start(&mut command);
    let lines = process.stdout.wait_until("the result", |lines| {
        let is_result = |line: &&String| line.starts_with("answered ");
        lines.iter().find(is_result).cloned()
    });
    assert_eq!(lines, "answered 50");
    assert!(process.wait().success());
}

#[test]
fn what_is_no_socket_is_told() {
    let refused = |sockets: &[&str], url: &str| {
        let serve = [
            SOCKSERVE,
            "serve",
            "builtin:echo-evented",
            "--cache",
            CACHE,
            "--listen",
            url,
        ];
        let mut command = launcher(&[&["activate"][..], sockets, &["--"], &serve].concat())?;
        let mut process = Process::start(&mut command);
        assert_eq!(process.wait().code(), Some(1));
        let lines = process.stderr.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        Some(lines[0].clone())
    };
    let check = |sockets: &[&str], url: &str, expected: &str| {
        if let Some(why) = refused(sockets, url) {
            assert!(why.contains(expected), "{why}");
        }
    };
    check(
        &["file", "x"],
        "fd://3",
        "descriptor 3 is no socket; pass a TCP, UDP or Unix socket",
    );
    check(
        &["connection", "x"],
        "fd://3",
        "descriptor 3 is a connection and does not listen; `sockserve inetd` serves one",
    );
    check(
        &["tcp", "x"],
        "fd://9",
        "was not started with a descriptor 9",
    );
    check(
        &["tcp", "x"],
        "fd://y",
        "no inherited socket has this name; there is x",
    );
    let why =
        crate::harness::command::sockserve(["serve", "builtin:echo-evented", "--listen", "fd://x"]);
    assert!(
        why.stderr[0].contains("start it by a systemd socket unit"),
        "{why:?}"
    );
}

for_each_pair! { echo, echo_commands: inetd_serves_a_connection }
/// As inetd does it: the connection is standard input, output and error.
fn inetd_serves_a_connection(guest: Guest, dispatch: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = Client::connect(listener.local_addr().unwrap());
    let (stream, _) = listener.accept().unwrap();
    let mut child = inetd(guest, &["--dispatch", dispatch], stream.into());
    client.check_echo("hello");
    client.finish_sending();
    client.expect_eof();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// Starts `sockserve inetd` with a socket as all three standard streams.
#[track_caller]
fn inetd(guest: Guest, options: &[&str], socket: std::os::fd::OwnedFd) -> std::process::Child {
    let stream = || Stdio::from(socket.try_clone().unwrap());
    Command::new(SOCKSERVE)
        .arg("inetd")
        .arg(guest.path())
        .args(["--cache", CACHE])
        .args(options)
        .stdin(stream())
        .stdout(stream())
        .stderr(stream())
        .spawn()
        .unwrap()
}

#[test]
fn inetd_serves_a_unix_connection() {
    let (here, there) = UnixStream::pair().unwrap();
    let mut child = inetd(upper_concurrent, &[], there.into());
    let mut client = Client::of_unix(here);
    client.send("hello\n");
    client.expect("HELLO\n");
    client.finish_sending();
    client.expect_eof();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// A connection that was reset before the process could look at it is over, and is no
/// listener. Nothing has failed.
#[test]
fn inetd_has_nothing_to_do_for_a_connection_that_was_reset() {
    let scratch = Scratch::new();
    let log = scratch.path("log");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Client::connect(listener.local_addr().unwrap());
    let (stream, _) = listener.accept().unwrap();
    client.reset();
    let mut child = inetd(
        echo_blocking,
        &["--log-file", log.to_str().unwrap()],
        stream.into(),
    );
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let logged = std::fs::read_to_string(&log).unwrap();
    assert!(
        logged.contains("was reset before it could be served"),
        "{logged}"
    );
}

#[test]
fn inetd_takes_a_listener_until_nothing_comes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut child = inetd(
        echo_blocking,
        &["--idle", "300ms"],
        listener.try_clone().unwrap().into(),
    );
    for _ in 0..3 {
        Client::connect(address).check_echo("hello");
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
    // The launcher still has the listener; what comes now waits for another process.
    let mut waiting = Client::connect(address);
    let mut child = inetd(echo_blocking, &["--idle", "300ms"], listener.into());
    waiting.check_echo("hello");
    drop(waiting);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn inetd_takes_datagrams_until_nothing_comes() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.connect(socket.local_addr().unwrap()).unwrap();
    // The first datagram is there before the process.
    peer.send(b"first").unwrap();
    let mut child = inetd(echo_datagram, &["--idle", "300ms"], socket.into());
    let mut answer = [0; 10];
    assert_eq!(peer.recv(&mut answer).unwrap(), 5);
    peer.send(b"next").unwrap();
    assert_eq!(peer.recv(&mut answer).unwrap(), 4);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// A socket for all addresses, and a datagram that came before the process: the answer
/// leaves from where it was written to.
#[test]
fn inetd_answers_what_came_before_it_from_where_it_was_written_to() {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    // A connected socket receives nothing from another address.
    peer.connect(("127.0.0.2", port)).unwrap();
    peer.send(b"first").unwrap();
    let mut child = inetd(echo_datagram, &["--idle", "300ms"], socket.into());
    let mut answer = [0; 10];
    assert_eq!(peer.recv(&mut answer).unwrap(), 5);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// A refusal is for the administrator and not for the peer.
#[test]
fn inetd_says_nothing_to_the_peer() {
    let scratch = Scratch::new();
    let log = scratch.path("log");
    let options = ["--env", "MODE=shout", "--log-file", log.to_str().unwrap()];
    for options in [
        &options[..],
        &["--no-such-option"],
        &["--dispatch", "threaded"],
    ] {
        let (here, there) = UnixStream::pair().unwrap();
        let mut child = inetd(echo_evented, options, there.into());
        let mut client = Client::of_unix(here);
        assert_eq!(text(client.drain()), "");
        assert_ne!(child.wait().unwrap().code(), Some(0));
    }
    let logged = std::fs::read_to_string(&log).unwrap();
    assert!(logged.contains("MODE=shout: expected stream"), "{logged}");
    let outcome = crate::harness::command::sockserve(["inetd", "builtin:echo-evented"]);
    assert_eq!(outcome.status, Some(1));
    assert!(
        outcome.stderr[0].contains("standard input is no socket; pass a TCP, UDP or Unix socket"),
        "{outcome:?}"
    );
    // A contract that cannot take it.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut child = inetd(
        echo_evented,
        &["--log-file", log.to_str().unwrap()],
        socket.into(),
    );
    assert_eq!(child.wait().unwrap().code(), Some(2));
    let logged = std::fs::read_to_string(&log).unwrap();
    assert!(
        logged
            .contains("the contract evented serves connections; pass a TCP or Unix stream socket"),
        "{logged}"
    );
}

/// A configuration of xinetd for one service.
fn xinetd_service(kind: &str, protocol: &str, port: u16, wait: &str, server: &str) -> String {
    format!(
        "service sockserve-{port}\n{{\n type = UNLISTED\n socket_type = {kind}\n \
         protocol = {protocol}\n bind = 127.0.0.1\n port = {port}\n wait = {wait}\n \
         user = root\n server = {SOCKSERVE}\n server_args = {server}\n}}\n"
    )
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[test]
fn xinetd_starts_it_for_connections_listeners_and_datagrams() {
    if !rustix::process::geteuid().is_root() || !have("xinetd", &["-version"]) {
        println!("skipped: xinetd needs root");
        return;
    }
    let scratch = Scratch::new();
    let [nowait, wait, datagrams] = [(); 3].map(|()| free_port());
    let args = |guest: &str| format!("inetd builtin:{guest} --cache {CACHE} --idle 1s");
    let configuration = [
        xinetd_service("stream", "tcp", nowait, "no", &args("upper-evented")),
        xinetd_service("stream", "tcp", wait, "yes", &args("echo-blocking")),
        xinetd_service("dgram", "udp", datagrams, "yes", &args("echo-datagram")),
    ];
    let path = scratch.path("conf");
    std::fs::File::create(&path)
        .unwrap()
        .write_all(configuration.concat().as_bytes())
        .unwrap();
    let mut command = Command::new("xinetd");
    command
        .args(["-dontfork", "-filelog", "/dev/stderr", "-f"])
        .arg(&path);
    command.arg("-pidfile").arg(scratch.path("pid"));
    let xinetd = Process::start(&mut command);
    xinetd.stderr.wait_until("xinetd's start", |lines| {
        let started = |line: &String| line.contains("Started working: 3 available services");
        lines.iter().any(started).then_some(())
    });
    let mut client = Client::connect(([127, 0, 0, 1], nowait).into());
    client.send("hello\n");
    client.expect("HELLO\n");
    client.finish_sending();
    client.expect_eof();
    for _ in 0..2 {
        Client::connect(([127, 0, 0, 1], wait).into()).check_echo("hello");
    }
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.connect(("127.0.0.1", datagrams)).unwrap();
    for data in [&b"one"[..], b"two!"] {
        peer.send(data).unwrap();
        let mut answer = [0; 10];
        assert_eq!(peer.recv(&mut answer).unwrap(), data.len());
    }
    xinetd.signal(Signal::TERM);
}

#[test]
fn systemd_passes_a_connection_or_a_listener() {
    if !have("systemd-socket-activate", &["--version"]) {
        return;
    }
    let start = |options: &[&str], arguments: &[&str]| {
        let port = free_port();
        let listen = format!("127.0.0.1:{port}");
        let mut command = Command::new("systemd-socket-activate");
        command
            .args(options)
            .args(["-l", &listen, SOCKSERVE])
            .args(arguments);
        command.args(["--cache", CACHE]);
        let process = Process::start(&mut command);
        process.stderr.wait_until("systemd's start", |lines| {
            lines
                .iter()
                .any(|line| line.contains("Listening on"))
                .then_some(())
        });
        (process, SocketAddr::from(([127, 0, 0, 1], port)))
    };
    // Accept=yes, StandardInput=socket.
    let (_process, address) = start(&["-a", "--inetd"], &["inetd", "builtin:echo-blocking"]);
    Client::connect(address).check_echo("hello");
    Client::connect(address).check_echo("hello");
    // A listener as standard input.
    let (_process, address) = start(&["--inetd"], &["inetd", "builtin:echo-blocking"]);
    Client::connect(address).check_echo("hello");
    // A named listener.
    let serve = ["serve", "builtin:echo-evented", "--listen", "fd://web"];
    let (process, address) = start(&["--fdname=web"], &serve);
    let mut client = Client::connect(address);
    client.check_echo("hello");
    let ready = process
        .stdout
        .wait_until("the ready line", |lines| lines.first().cloned());
    assert!(
        ready.starts_with(&format!("listening tcp://{address} ")),
        "{ready}"
    );
}

#[test]
fn a_service_manager_is_told() {
    let scratch = Scratch::new();
    let manager = UnixDatagram::bind(scratch.path("notify")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let build = scratch.build(echo_evented, 1);
    let server = Serve::component(&build)
        .compiled_once()
        .variable("NOTIFY_SOCKET", scratch.path("notify"))
        .variable("WATCHDOG_USEC", "200000")
        .start();
    let told = |what: &str| {
        loop {
            let mut message = [0; 1000];
            let length = manager.recv(&mut message).unwrap();
            let message = String::from_utf8(message[..length].to_vec()).unwrap();
            if message.contains(what) {
                return message;
            }
        }
    };
    told("READY=1");
    told("STATUS=0 connections open");
    told("WATCHDOG=1");
    let mut client = server.connect();
    client.check_echo("hello");
    told("STATUS=1 connections open");
    server.process.signal(Signal::HUP);
    assert!(told("RELOADING=1").contains("MONOTONIC_USEC="));
    told("READY=1");
    server.terminate();
    told("STOPPING=1");
    client.finish_sending();
    client.expect_eof();
    server.finish();
}
