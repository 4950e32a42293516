//! K1 to K4, R3 and R4 by CPython's `socket` and `select`, and by ours: to the same service they
//! say the same, and print the same. So they do to CPython's servers.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use rustix::net::sockopt;

use crate::composed::{Composed, Host as Runner};
use crate::harness::command::run;
use crate::harness::guests::{
    client_command, echo_datagram, echo_evented, small_evented, sockets_command, time_evented,
};
use crate::harness::process::Process;
use crate::harness::python::Python;
use crate::harness::{Guest, PATIENCE, Serve, Server, ctime, wasmtime};

/// What runs a client.
#[derive(Debug)]
enum Host {
    CPython,
    /// `sockserve run`, with the embedded program.
    Own,
    /// The stock command line.
    Stock(PathBuf),
}

impl Host {
    /// All that there are, CPython's first. None without it.
    fn all(test: &str) -> Vec<Host> {
        if Python::command("clients.py").is_none() {
            println!("skipped {test}: no CPython");
            return Vec::new();
        }
        let mut hosts = vec![Host::CPython, Host::Own];
        wasmtime::for_each(test, |path| hosts.push(Host::Stock(path.to_owned())));
        hosts
    }

    fn command(&self, words: &[&str]) -> Command {
        let guest = match words {
            ["either", ..] => sockets_command,
            _ => client_command,
        };
        let mut command;
        match self {
            Host::CPython => command = Python::command("clients.py").unwrap(),
            Host::Own => {
                command = Command::new(env!("CARGO_BIN_EXE_sockserve"));
                let places = "127.0.0.1:*";
                command.args(["run", "--allow-connect", places, "--allow-udp", places]);
                command.arg(guest.builtin());
            }
            Host::Stock(path) => {
                command = Command::new(path);
                command.args(["run", "-S", "inherit-network"]);
                command.arg(guest.path());
            }
        }
        command.args(words);
        command
    }

    /// What a client prints that ends by itself.
    #[track_caller]
    fn prints(&self, words: &[&str]) -> Vec<String> {
        run(&mut self.command(words)).printed()
    }
}

/// Checks that each client prints what CPython's does, and that this is what was expected.
#[track_caller]
fn check(hosts: &[Host], words: &[&str], expected: &[&str]) {
    // At once, because most of the time is compiling or waiting.
    thread::scope(|scope| {
        for host in hosts {
            scope.spawn(move || {
                assert_eq!(host.prints(words), expected, "{host:?} {words:?}");
            });
        }
    });
}

#[track_caller]
fn serve(guest: Guest, dispatch: &str, option: &str, url: &str) -> (Server, String) {
    let server = Serve::guest(guest, dispatch)
        .compiled_once()
        .env(option)
        .listen(url)
        .start();
    let place = server.address().to_string();
    (server, place)
}

const TCP: &str = "tcp://127.0.0.1:0";
const UDP: &str = "udp://127.0.0.1:0";

/// K1 and K4 to a service that echoes.
#[track_caller]
fn check_echo(hosts: &[Host], place: &str) {
    check(hosts, &["stream", place], &["Hello World"]);
    check(hosts, &["stream", place, "x y\n"], &["x y"]);
    check(hosts, &["two", place], &["first", "second"]);
}

/// K2.
#[track_caller]
fn check_datagrams(hosts: &[Host], place: &str, expected: &str) {
    for kind in ["datagram", "connected"] {
        check(hosts, &[kind, place], &[expected]);
    }
}

/// K3. Not at the same moment, so only the form of the time is the same.
#[track_caller]
fn check_time(hosts: &[Host], place: &str) {
    for host in hosts {
        let now = ctime::now();
        let lines = host.prints(&["slow", place, "50"]);
        let [line] = &lines[..] else {
            panic!("{host:?}: {lines:?}");
        };
        let time = line.strip_prefix("The time is ").unwrap();
        ctime::check(format!("{time}\r\n").as_bytes(), now);
    }
}

for_each_pair! { echo by default: stream_clients_print_what_cpythons_print }
fn stream_clients_print_what_cpythons_print(guest: Guest, dispatch: &str) {
    let hosts = Host::all("stream_clients_print_what_cpythons_print");
    let (server, place) = serve(guest, dispatch, "MODE=stream", TCP);
    check_echo(&hosts, &place);
    server.stop().check_no_alarm();
}

for_each_pair! { time by default: slow_clients_print_what_cpythons_print }
fn slow_clients_print_what_cpythons_print(guest: Guest, dispatch: &str) {
    let hosts = Host::all("slow_clients_print_what_cpythons_print");
    let (server, place) = serve(guest, dispatch, "MODE=request", TCP);
    check_time(&hosts, &place);
    server.stop().check_no_alarm();
}

for_each_pair! { echo_datagrams by default: datagram_clients_print_what_cpythons_print }
fn datagram_clients_print_what_cpythons_print(guest: Guest, dispatch: &str) {
    let hosts = Host::all("datagram_clients_print_what_cpythons_print");
    let (server, place) = serve(guest, dispatch, "MODE=echo", UDP);
    check_datagrams(&hosts, &place, "Hello World");
    server.stop().check_no_alarm();
}

/// The services listen by themselves.
#[test]
fn clients_of_composed_commands_print_what_cpythons_print() {
    let hosts = Host::all("clients_of_composed_commands_print_what_cpythons_print");
    let compose = |guest: Guest, options: &[&str], check: &dyn Fn(&str)| {
        let composed = Composed::of(guest);
        let running = composed.serve(&Runner::Own, options);
        check(&running.address().to_string());
        running.check_no_error();
    };
    compose(echo_evented, &[], &|place| check_echo(&hosts, place));
    compose(time_evented, &["--env", "MODE=request"], &|place| {
        check_time(&hosts, place);
    });
    compose(echo_datagram, &[], &|place| {
        check_datagrams(&hosts, place, "Hello World");
    });
}

/// Our clients cannot tell CPython's servers from ours: E2 by asyncio, E3 by socketserver.
#[test]
fn clients_hear_the_same_of_cpythons_servers() {
    let hosts = Host::all("clients_hear_the_same_of_cpythons_servers");
    let (Some(echo), Some(upper), Some(datagrams)) = (
        Python::start("echo.py"),
        Python::start("upper.py"),
        Python::start_with("socketservers.py", &["UDPServer", "127.0.0.1:0"]),
    ) else {
        return;
    };
    let (our_echo, place) = serve(echo_evented, "poll", "MODE=stream", TCP);
    for place in [echo.address().to_string(), place] {
        check_echo(&hosts, &place);
    }
    let (our_upper, place) = serve(echo_evented, "poll", "MODE=upper", TCP);
    for place in [upper.address().to_string(), place] {
        check(&hosts, &["stream", &place], &["HELLO WORLD"]);
        check(&hosts, &["slow", &place, "50"], &["The time is HELLO"]);
    }
    let (our_datagrams, place) = serve(echo_datagram, "poll", "MODE=upper", UDP);
    for place in [datagrams.address().to_string(), place] {
        check_datagrams(&hosts, &place, "HELLO WORLD");
    }
    for server in [our_echo, our_upper, our_datagrams] {
        server.stop().check_no_alarm();
    }
}

/// R3 with two of our services. Which is heard first is not known.
#[test]
fn two_services_are_waited_for_as_cpythons_select_waits() {
    let hosts = Host::all("two_services_are_waited_for_as_cpythons_select_waits");
    let quote = |quote: &str| {
        Serve::guest(small_evented, "poll")
            .compiled_once()
            .env("SERVICE=qotd")
            .env(&format!("QUOTE={quote}\\n"))
            .start()
    };
    let servers = [quote("of the first"), quote("of the second")];
    let places = servers.each_ref().map(|it| it.address().to_string());
    for host in &hosts {
        let mut lines = host.prints(&["either", &places[0], &places[1], "60000"]);
        lines.sort();
        assert_eq!(lines, ["of the first", "of the second"], "{host:?}");
    }
    for server in servers {
        server.stop().check_no_alarm();
    }
}

/// R3 in an order that the test decides, and its time-out.
#[test]
fn whichever_socket_is_readable_is_printed_as_by_cpythons_select() {
    let test = "whichever_socket_is_readable_is_printed_as_by_cpythons_select";
    for host in Host::all(test) {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        for listener in &listeners {
            // For accepting, which is a wait too.
            let patience = Some(PATIENCE);
            sockopt::set_socket_timeout(listener, sockopt::Timeout::Recv, patience).unwrap();
        }
        let place = |it: &TcpListener| -> SocketAddr { it.local_addr().unwrap() };
        let [first, second] = listeners.each_ref().map(|it| place(it).to_string());
        let mut process = Process::start(&mut host.command(&["either", &first, &second, "60000"]));
        let mut peers = listeners.each_ref().map(|it| it.accept().unwrap().0);
        let mut expected = Vec::new();
        for (number, line) in [(1, "b"), (0, "a"), (0, "a again"), (1, "b again")] {
            peers[number]
                .write_all(format!("{line}\n").as_bytes())
                .unwrap();
            expected.push(line.to_owned());
            process
                .stdout
                .wait_until(line, |lines| (lines.len() >= expected.len()).then_some(()));
        }
        let [first_peer, mut second_peer] = peers;
        drop(first_peer);
        second_peer.write_all(b"the last\n").unwrap();
        drop(second_peer);
        expected.push("the last".to_owned());
        assert!(process.wait().success(), "{host:?}");
        assert_eq!(process.stdout.lines(), expected, "{host:?}");

        // Nobody says anything.
        check(
            &[host],
            &["either", &first, &second, "50"],
            &["50 milliseconds elapsed."],
        );
    }
}

/// R4. The standard input is the process's own.
#[test]
fn typed_lines_are_printed_as_by_cpython() {
    for host in Host::all("typed_lines_are_printed_as_by_cpython") {
        let command = host.command(&["typed"]);
        let mut shell = Command::new("sh");
        shell.args(["-c", "printf 'one\\n\\ntwo' | \"$0\" \"$@\""]);
        shell.arg(command.get_program()).args(command.get_args());
        let printed = run(&mut shell).printed();
        assert_eq!(printed, ["typed: one", "typed: ", "typed: two"], "{host:?}");
    }
}
