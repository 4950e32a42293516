//! Connections over Unix sockets: every guest under every dispatch serves them as it
//! serves TCP. And the sockets' files: who may open them, what is replaced, what stays.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::Signal;

use crate::chat::WELCOME;
use crate::harness::command::{run, sockserve};
use crate::harness::control::{Controlled, open};
use crate::harness::guests::{echo_evented, faults_blocking, faults_concurrent, faults_evented};
use crate::harness::python::Python;
use crate::harness::scratch::Scratch;
use crate::harness::tools::{have, have_nc};
use crate::harness::{Client, Guest, Serve, Server, ctime, text};

/// A server on a socket file, and the directory of that file.
struct Unix {
    server: Server,
    scratch: Scratch,
}

impl Unix {
    #[track_caller]
    fn start(guest: Guest, dispatch: &str, options: &[&str]) -> Unix {
        let scratch = Scratch::new();
        let server = Serve::guest(guest, dispatch)
            .compiled_once()
            .args(options)
            .listen(&url(&scratch.path("s")))
            .start();
        Unix { server, scratch }
    }

    fn path(&self) -> PathBuf {
        self.scratch.path("s")
    }

    #[track_caller]
    fn connect(&self) -> Client {
        Client::connect_unix(&self.path())
    }
}

fn url(path: &Path) -> String {
    format!("unix://{}", path.display())
}

/// What the log calls a peer of this process.
fn this_process() -> String {
    let uid = rustix::process::geteuid().as_raw();
    format!("unix:uid={uid},pid={}", std::process::id())
}

for_each_pair! { echo: bytes_beside_descriptors_are_all_read }
/// A read ends where a descriptor was sent, though more is there. Nobody takes the
/// descriptor.
fn bytes_beside_descriptors_are_all_read(guest: Guest, dispatch: &str) {
    let unix = Unix::start(guest, dispatch, &[]);
    let stream = UnixStream::connect(unix.path()).unwrap();
    let mut client = Client::of_unix(stream.try_clone().unwrap());
    // So that it waits in the poller.
    client.check_echo("first");
    unix.server.process.signal(Signal::STOP);
    client.send("one ");
    let descriptors = [stream.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let bytes = [io::IoSlice::new(b"two ")];
    sendmsg(&stream, &bytes, &mut ancillary, SendFlags::empty()).unwrap();
    client.send("three\n");
    unix.server.process.signal(Signal::CONT);
    client.expect("one two three\n");
    client.check_echo("last");
}

for_each_pair! { echo, echo_commands: echo_goes_over_a_unix_socket }
fn echo_goes_over_a_unix_socket(guest: Guest, dispatch: &str) {
    let unix = Unix::start(guest, dispatch, &[]);
    let expected = format!(
        "listening unix://{} service=echo contract={} dispatch={dispatch}",
        unix.path().display(),
        guest.contract()
    );
    assert_eq!(unix.server.ready, [expected]);
    let mut client = unix.connect();
    client.check_echo("one");
    let much = crate::harness::noise(1 << 20);
    let (mut writer, sent) = (client.another(), much.clone());
    let writing = std::thread::spawn(move || {
        writer.send(sent);
        writer.finish_sending();
    });
    assert!(client.read_to_end() == much);
    writing.join().unwrap();
    let opened = unix.server.wait_for_log("the connection", |event| {
        event.message() == "connection opened"
    });
    assert_eq!(opened.str("peer"), this_process());
    unix.server.stop().check_no_alarm();
    assert!(!unix.scratch.path("s").exists());
}

for_each_pair! { upper, upper_commands: upper_goes_over_a_unix_socket }
fn upper_goes_over_a_unix_socket(guest: Guest, dispatch: &str) {
    let unix = Unix::start(guest, dispatch, &[]);
    let mut client = unix.connect();
    client.send("hello\nwor");
    client.expect("HELLO\n");
    client.send("ld\n");
    client.expect("WORLD\n");
    client.finish_sending();
    client.expect_eof();
    let finished = unix.server.stop();
    finished.check_no_alarm();
    let uid = rustix::process::geteuid().as_raw();
    let who = format!("uid{uid} wrote:");
    assert_eq!(finished.guest_lines(), [&who, "hello", &who, "world"]);
}

for_each_pair! { time, time_commands: time_goes_over_a_unix_socket }
fn time_goes_over_a_unix_socket(guest: Guest, dispatch: &str) {
    let unix = Unix::start(guest, dispatch, &["--env", "MODE=line"]);
    let mut client = unix.connect();
    for _ in 0..2 {
        let now = ctime::now();
        client.send("what time is it?\r\n");
        ctime::check(client.line().as_bytes(), now);
    }
    client.finish_sending();
    client.expect_eof();
    unix.server.stop().check_no_alarm();
}

for_each_pair! { chat shared: chat_names_a_unix_peer_by_user_and_number }
/// TCP and Unix peers are in one room.
fn chat_names_a_unix_peer_by_user_and_number(guest: Guest, dispatch: &str) {
    let scratch = Scratch::new();
    let server = Serve::guest(guest, dispatch)
        .compiled_once()
        .listen(&url(&scratch.path("s")))
        .listen("tcp://127.0.0.1:0")
        .start();
    let mut ann = server.connect();
    ann.expect(WELCOME);
    let mut bob = Client::connect_unix(&scratch.path("s"));
    bob.expect(WELCOME);
    let peer = this_process();
    let opened = server.wait_for_log("bob's connection", |event| event.str("peer") == peer);
    let uid = rustix::process::geteuid().as_raw();
    let name = format!("uid{uid}:{}", opened.connection().unwrap());
    ann.expect(format!("Client joined {name}\r\n"));
    bob.send("hello\r\n");
    ann.expect(format!("[{name}] hello\r\n"));
    ann.send("hi\r\n");
    bob.expect(format!("[{}] hi\r\n", ann.local()));
    bob.finish_sending();
    bob.expect_eof();
    ann.expect(format!("Client left {name}\r\n"));
    ann.finish_sending();
    ann.expect_eof();
    server.stop().check_no_alarm();
}

for_each_pair! { chat shared, echo, upper: a_unix_connection_is_handed_over }
fn a_unix_connection_is_handed_over(guest: Guest, dispatch: &str) {
    let scratch = Scratch::new();
    let path = scratch.path("s");
    let options = ["--env", "MODE=line"];
    let controlled = Controlled::listening(guest, dispatch, &[&url(&path)], &options);
    let build = controlled.scratch.build(guest, 1);
    let mut client = Client::connect_unix(&path);
    let mut observer = None;
    if guest.family() == "chat" {
        client.expect(WELCOME);
        let mut other = Client::connect_unix(&path);
        other.expect(WELCOME);
        client.line();
        observer = Some(other);
    }
    client.send("half ");
    controlled.wait_for_bytes_in(5);
    controlled.swap(&build, &["--old", "hand-over"]);
    controlled.wait_for_status("the hand-over", |status| {
        open(status).iter().rev().skip(1).all(|old| *old == 0)
    });
    client.send("a line\n");
    match (guest.family(), &mut observer) {
        ("echo", _) => client.expect("half a line\n"),
        ("upper", _) => client.expect("HALF A LINE\n"),
        (_, Some(observer)) => assert!(observer.line().ends_with("] half a line\n")),
        _ => unreachable!(),
    }
    let status = controlled.status();
    assert_eq!(status["hand-overs"]["refused"], 0);
    assert_ne!(status["hand-overs"]["handed-over"], 0);
    assert_eq!(status["listeners"][0], url(&path));
    drop((client, observer));
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { faults by default: sockets_say_what_they_have_no_words_for }
/// `wasi:sockets` has no Unix addresses; what is common to all sockets works.
fn sockets_say_what_they_have_no_words_for(guest: Guest, dispatch: &str) {
    if ![faults_blocking, faults_evented, faults_concurrent].contains(&guest) {
        return;
    }
    let unix = Unix::start(guest, dispatch, &["--env", "MODE=options"]);
    let mut client = unix.connect();
    let answer = text(client.read_to_end());
    for line in [
        "local-address=not-supported",
        "remote-address=not-supported",
        "hop-limit=not-supported",
    ] {
        assert!(answer.contains(line), "{answer}");
    }
    assert!(answer.contains("family=ipv4"), "{answer}");
}

for_each_pair! { upper, upper_commands: a_unix_socket_is_what_socketserver_makes }
fn a_unix_socket_is_what_socketserver_makes(guest: Guest, dispatch: &str) {
    const QUESTIONS: [&str; 3] = ["hello world", "  padded \r\n", "stra\u{df}e"];
    let ask = |path: &Path, question: &str| {
        let mut client = Client::connect_unix(path);
        client.send(question);
        client.finish_sending();
        text(client.read_to_end()).trim().to_owned()
    };
    let echo = guest.in_family("echo");
    let unix = Unix::start(echo, dispatch, &["--env", "MODE=upper"]);
    let ours = QUESTIONS.map(|question| ask(&unix.path(), question));
    for class in [
        "UnixStreamServer",
        "ThreadingUnixStreamServer",
        "ForkingUnixStreamServer",
    ] {
        let path = unix.scratch.path(class);
        let Some(_python) = Python::run("socketservers.py", &[class, path.to_str().unwrap()])
        else {
            return;
        };
        assert_eq!(
            ours,
            QUESTIONS.map(|question| ask(&path, question)),
            "{class}"
        );
    }
}

for_each_pair! { echo by default, echo_commands by default: nc_and_socat_speak_to_it }
fn nc_and_socat_speak_to_it(guest: Guest, dispatch: &str) {
    let unix = Unix::start(guest, dispatch, &[]);
    let mut clients = Vec::new();
    if have_nc() {
        clients.push("nc -N -U \"$1\"");
    }
    if have("socat", &["-V"]) {
        clients.push("socat -t 20 - UNIX-CONNECT:\"$1\"");
    }
    for client in clients {
        let line = format!("printf 'hello\\nworld\\n' | {client}");
        let outcome = run(Command::new("sh")
            .args(["-c", &line, "sh"])
            .arg(unix.path()));
        assert_eq!(outcome.printed(), ["hello", "world"], "{client}");
    }
    unix.server.stop().check_no_alarm();
}

#[test]
fn an_abstract_name_has_no_file() {
    let name = format!("sockserve-test-{}", std::process::id());
    let server = Serve::guest(echo_evented, "poll")
        .compiled_once()
        .listen(&format!("unix:@{name}"))
        .start();
    assert!(server.ready[0].starts_with(&format!("listening unix:@{name} ")));
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let mut client = Client::of_unix(UnixStream::connect_addr(&address).unwrap());
    client.check_echo("hello");
    let taken = refused(&[&format!("unix:@{name}")]);
    assert!(taken.ends_with("; choose another name"), "{taken}");
    drop(client);
    server.stop().check_no_alarm();
}

#[test]
fn a_peer_that_has_a_name_is_logged_by_it() {
    let unix = Unix::start(echo_evented, "poll", &[]);
    let own = unix.scratch.path("client");
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    let address = |path: &Path| rustix::net::SocketAddrUnix::new(path).unwrap();
    rustix::net::bind(&socket, &address(&own)).unwrap();
    rustix::net::connect(&socket, &address(&unix.path())).unwrap();
    Client::of_unix(socket.into()).check_echo("hello");
    let peer = format!("unix:{}", own.display());
    unix.server
        .wait_for_log("the peer", |event| event.str("peer") == peer);
}

/// The refusal of `serve` with these listeners.
#[track_caller]
fn refused(listen: &[&str]) -> String {
    let mut args = vec!["serve", "builtin:echo-evented"];
    for url in listen {
        args.extend(["--listen", url]);
    }
    let outcome = sockserve(args);
    let [why] = &outcome.stderr[..] else {
        panic!("{outcome:?}");
    };
    assert_eq!(outcome.stdout, [""; 0]);
    assert_eq!(
        outcome.status,
        Some(if why.contains("twice") { 2 } else { 1 })
    );
    why.clone()
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_refused() {
    let mut unix = Unix::start(echo_evented, "poll", &[]);
    let url = url(&unix.path());
    let why = refused(&[&url]);
    assert!(why.contains("a running process has the socket"), "{why}");
    unix.connect().check_echo("still there");
    unix.server.process.signal(Signal::KILL);
    unix.server.process.wait();
    assert!(unix.path().exists(), "a killed process leaves its file");
    let again = Serve::guest(echo_evented, "poll")
        .compiled_once()
        .listen(&url)
        .start();
    unix.connect().check_echo("replaced");
    // Another program's file is not removed.
    fs::remove_file(unix.path()).unwrap();
    let _other = UnixListener::bind(unix.path()).unwrap();
    again.stop().check_no_alarm();
    assert!(unix.path().exists());
}

#[test]
fn what_is_in_the_way_stays() {
    let scratch = Scratch::new();
    let check = |url: &str, expected: &str| {
        let why = refused(&[url]);
        assert!(why.contains(expected), "{url}: {why}");
    };
    let file = scratch.path("file");
    fs::write(&file, "a text").unwrap();
    check(
        &url(&file),
        "is there and is no socket; choose another path",
    );
    assert_eq!(fs::read(&file).unwrap(), b"a text");
    check(&url(&scratch.path("none/s")), "make its directory first");
    check(&url(&file.join("s")), "make its directory first");
    let path = scratch.path("twice");
    let why = refused(&[&url(&path), &url(&path)]);
    assert!(why.contains("is given twice"), "{why}");
    assert!(!path.exists());
    // The first one is undone.
    let why = refused(&[&url(&path), &url(&file)]);
    assert!(why.contains("is no socket"), "{why}");
    assert!(!path.exists());
}

#[test]
fn the_file_has_the_mode_and_the_group_that_were_asked_for() {
    let mode = |options: &[&str]| {
        let unix = Unix::start(echo_evented, "poll", options);
        unix.connect().check_echo("hello");
        let data = fs::metadata(unix.path()).unwrap();
        (data.permissions().mode() & 0o7777, data.gid())
    };
    let gid = rustix::process::getegid().as_raw();
    assert_eq!(mode(&["--unix-mode", "600"]), (0o600, gid));
    assert_eq!(mode(&["--unix-mode", "0777"]), (0o777, gid));
    let group = ["--unix-group", &gid.to_string()];
    assert_eq!(mode(&group), (0o660, gid));
    if rustix::process::geteuid().is_root() {
        let group = ["--unix-group", "12345", "--unix-mode", "620"];
        assert_eq!(mode(&group), (0o620, 12345));
    }
    let (plain, _) = mode(&[]);
    let umask = rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::umask(umask);
    assert_eq!(plain, 0o777 & !umask.bits());
}

#[test]
fn a_relative_path_is_taken_from_the_working_directory() {
    let scratch = Scratch::new();
    let directory = scratch.path("");
    let server = Serve::guest(echo_evented, "poll")
        .compiled_once()
        .in_directory(&directory)
        .listen("unix:here")
        .start();
    assert!(server.ready[0].starts_with("listening unix:here "));
    Client::connect_unix(&scratch.path("here")).check_echo("hello");
    server.stop().check_no_alarm();
    assert!(!scratch.path("here").exists());
}

#[test]
fn both_families_have_one_port() {
    let server = Serve::guest(echo_evented, "poll")
        .compiled_once()
        .listen("tcp://*:0")
        .start();
    let [v4, v6] = server.addresses[..] else {
        panic!("{:?}", server.ready);
    };
    assert!(v4.is_ipv4() && v6.is_ipv6());
    assert_eq!(v4.port(), v6.port());
    for host in ["127.0.0.1", "::1"] {
        let address = (host.parse::<std::net::IpAddr>().unwrap(), v4.port()).into();
        Client::connect(address).check_echo("hello");
    }
    server.stop().check_no_alarm();
}

#[test]
fn two_processes_can_share_a_port() {
    let start = |url: &str| {
        Serve::guest(echo_evented, "poll")
            .compiled_once()
            .args(["--reuse-port"])
            .listen(url)
            .start()
    };
    let first = start("tcp://127.0.0.1:0");
    let url = format!("tcp://{}", first.address());
    let second = start(&url);
    let why = refused(&[&url]);
    assert!(why.contains("choose another port"), "{why}");
    first.stop().check_no_alarm();
    second.connect().check_echo("hello");
    second.stop().check_no_alarm();
}

/// A peer that is gone with its answer unread is reported as a reset to it, and costs
/// the server nothing.
#[test]
fn a_peer_that_goes_without_reading_is_a_peers_failure() {
    let scratch = Scratch::new();
    let path = scratch.path("s");
    let controlled = Controlled::listening(echo_evented, "poll", &[&url(&path)], &[]);
    let mut client = Client::connect_unix(&path);
    client.send_until_stuck(&[b'x'; 1 << 20]);
    drop(client);
    let status = controlled.wait_for_settled(0);
    assert_eq!(status["failed"]["peer"], 1, "{status}");
    let error = UnixStream::connect(scratch.path("nothing")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    controlled.server.stop().check_no_alarm();
}
