//! The surface of `wasi:sockets`, by a program that uses all of it: R3, time-outs, options,
//! errors by name. Under `sockserve run`, and the same under the stock wasmtime.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;

use rustix::net::{AddressFamily, SocketType};

use crate::harness::command::{Outcome, run};
use crate::harness::guests::{echo_datagram, echo_evented, sockets_command};
use crate::harness::process::Process;
use crate::harness::{Client, Guest, PATIENCE, Serve, Server, text, wasmtime};

/// What runs programs.
struct Host {
    /// `None` for our own.
    wasmtime: Option<PathBuf>,
}

/// Does the same with each host that there is.
fn for_each_host(test: &str, mut check: impl FnMut(&Host)) {
    check(&Host { wasmtime: None });
    wasmtime::for_each(test, |path| {
        check(&Host {
            wasmtime: Some(path.to_owned()),
        });
    });
}

impl Host {
    /// A command that grants everything on loopback.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command;
        if let Some(path) = &self.wasmtime {
            command = Command::new(path);
            command.args(["run", "-S", "inherit-network", "-S", "allow-ip-name-lookup"]);
        } else {
            command = Command::new(env!("CARGO_BIN_EXE_sockserve"));
            command.arg("run");
            for place in ["127.0.0.1:*", "[::1]:*"] {
                command.args(["--allow-connect", place, "--allow-udp", place]);
                command.args(["--allow-listen", place]);
            }
            for place in ["0.0.0.0:0", "[::]:0"] {
                command.args(["--allow-udp", place]);
            }
            command.arg("--allow-lookup");
        }
        command.arg(sockets_command.path()).args(arguments);
        command
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Outcome {
        run(&mut self.command(arguments))
    }

    /// Runs what fails, and gives its only line.
    #[track_caller]
    fn fails(&self, arguments: &[&str]) -> String {
        let outcome = self.run(arguments);
        assert_eq!(outcome.status, Some(1), "{outcome:#?}");
        let last = outcome.stderr.last();
        last.unwrap_or_else(|| panic!("{outcome:#?}")).clone()
    }
}

fn echo(url: &str) -> (Server, String) {
    let server = Serve::guest(echo_evented, "poll")
        .compiled_once()
        .listen(url)
        .start();
    let place = server.address().to_string();
    (server, place)
}

const LOOPBACKS: [&str; 2] = ["tcp://127.0.0.1:0", "tcp://[::1]:0"];

/// A listener of the test, and its place.
fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap().to_string();
    (listener, place)
}

/// R3.
#[test]
fn whichever_socket_is_readable_is_printed() {
    for_each_host("whichever_socket_is_readable_is_printed", |host| {
        let (one, two) = (listener(), listener());
        let process = Process::start(&mut host.command(&["either", &one.1, &two.1, "60000"]));
        let mut one = one.0.accept().unwrap().0;
        let mut two = two.0.accept().unwrap().0;
        let send = |stream: &mut TcpStream, line: &str| {
            stream.write_all(format!("{line}\n").as_bytes()).unwrap();
            process.stdout.wait_until(line, |lines| {
                (lines.last().map(String::as_str) == Some(line)).then_some(())
            });
        };
        send(&mut two, "of the second");
        send(&mut one, "of the first");
        send(&mut two, "of the second again");
        drop(two);
        send(&mut one, "of the first again");
        drop(one);
        let mut process = process;
        assert!(process.wait().success());
    });
}

#[test]
fn silence_is_told() {
    for_each_host("silence_is_told", |host| {
        let (one, two) = (listener(), listener());
        // The default is 5 s, which the test waits for once.
        if host.wasmtime.is_none() {
            let said = host.run(&["either", &one.1, &two.1]).printed();
            assert_eq!(said, ["Five seconds elapsed."]);
        }
        let said = host.run(&["either", &one.1, &two.1, "50"]).printed();
        assert_eq!(said, ["50 milliseconds elapsed."]);
    });
}

#[test]
fn one_wait_is_for_any_number_of_sockets() {
    for url in LOOPBACKS {
        let (server, place) = echo(url);
        for_each_host("one_wait_is_for_any_number_of_sockets", |host| {
            let said = host.run(&["several", &place, "50"]).printed();
            assert_eq!(said, ["50 answered"]);
        });
        server.stop().check_no_alarm();
    }
}

#[test]
fn nothing_waits_that_is_not_told_to() {
    let (server, place) = echo(LOOPBACKS[0]);
    for_each_host("nothing_waits_that_is_not_told_to", |host| {
        let said = host.run(&["would-block", &place]).printed();
        assert_eq!(said, ["before: 0 bytes", "ready: false", "after: hello"]);
    });
    server.stop().check_no_alarm();
}

#[test]
fn a_wait_has_an_end() {
    let (server, place) = echo(LOOPBACKS[0]);
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody = silent.local_addr().unwrap().to_string();
    // It has room for one connection, which nobody accepts. Linux drops further ones.
    let full = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&full, &std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    rustix::net::listen(&full, 0).unwrap();
    let full = TcpListener::from(full);
    let stuck = full.local_addr().unwrap();
    let _first = TcpStream::connect_timeout(&stuck, PATIENCE).unwrap();
    for_each_host("a_wait_has_an_end", |host| {
        assert_eq!(host.fails(&["receive", &place, "50"]), "receive: timeout");
        assert_eq!(host.fails(&["datagram", &nobody, "50"]), "receive: timeout");
        let stuck = stuck.to_string();
        assert_eq!(host.fails(&["connect", &stuck, "50"]), "connect: timeout");
    });
    server.stop().check_no_alarm();
}

#[test]
fn both_addresses_are_told() {
    for url in LOOPBACKS {
        let (server, place) = echo(url);
        for_each_host("both_addresses_are_told", |host| {
            let said = host.run(&["connect", &place]).printed();
            let local = said[0].strip_prefix("local ").unwrap();
            let local: std::net::SocketAddr = local.parse().unwrap();
            assert_eq!(local.ip(), server.address().ip());
            assert_eq!(said[1..], [format!("remote {place}")]);
        });
        server.stop().check_no_alarm();
    }
}

#[test]
fn a_refused_connection_has_its_name() {
    let (free, place) = listener();
    drop(free);
    for_each_host("a_refused_connection_has_its_name", |host| {
        let said = host.fails(&["connect", &place]);
        assert_eq!(said, "connect: connection-refused");
    });
    // Nothing is granted.
    let mut command = Command::new(env!("CARGO_BIN_EXE_sockserve"));
    command.arg("run").arg(sockets_command.path());
    let denied = run(command.args(["connect", &place]));
    let said = |line: &String| line == "connect: access-denied";
    assert!(denied.stderr.iter().any(said), "{denied:#?}");
    assert_eq!(denied.status, Some(1));
}

#[test]
fn each_direction_is_shut_down_by_itself() {
    let (server, place) = echo(LOOPBACKS[0]);
    for_each_host("each_direction_is_shut_down_by_itself", |host| {
        let shutdown = |how: &str| host.run(&["shutdown", &place, how]).printed();
        let sent = ["sent before", "received all", "send: closed"];
        assert_eq!(shutdown("send"), sent);
        assert_eq!(shutdown("receive"), ["received all", "sent"]);
        assert_eq!(shutdown("both"), ["received all", "send: closed"]);
    });
    server.stop();
}

#[test]
fn a_stream_is_read_by_line() {
    let (server, place) = echo(LOOPBACKS[0]);
    for_each_host("a_stream_is_read_by_line", |host| {
        let said = host.run(&["lines", &place, "one\ntwo\r\n\nhalf"]).printed();
        assert_eq!(said, ["line: one", "line: two", "line: ", "line: half"]);
    });
    server.stop().check_no_alarm();
}

#[test]
fn datagrams_have_a_default_peer() {
    for url in ["udp://127.0.0.1:0", "udp://[::1]:0"] {
        let server = Serve::guest(echo_datagram, "poll")
            .compiled_once()
            .listen(url)
            .start();
        let place = server.address().to_string();
        for_each_host("datagrams_have_a_default_peer", |host| {
            let said = host.run(&["datagram", &place, "20000"]).printed();
            let remote = format!("remote {place}");
            assert_eq!(said, [&remote, "before: 0 datagrams", "Hello World"]);
        });
        server.stop().check_no_alarm();
    }
}

/// Every option of WASI is what it was set to, and no option takes what makes no sense.
#[test]
fn options_are_what_they_were_set_to() {
    for_each_host("options_are_what_they_were_set_to", |host| {
        for kind in ["tcp4", "tcp6", "udp4", "udp6"] {
            let said = host.run(&["options", kind]).printed();
            let mut expected = vec![format!("family ipv{}", &kind[3..])];
            let mut add = |lines: &[&str]| expected.extend(lines.iter().map(ToString::to_string));
            if kind.starts_with("tcp") {
                add(&["listening false", "hop-limit 33", "keep-alive true"]);
                add(&["keep-alive-idle 30000000000"]);
                add(&["keep-alive-interval 5000000000", "keep-alive-count 4"]);
            } else {
                add(&["hop-limit 33"]);
            }
            add(&["receive-buffer 65536", "send-buffer 65536"]);
            let refused: &[&str] = match &kind[..3] {
                "tcp" => &[
                    "backlog",
                    "hop-limit",
                    "keep-alive-idle",
                    "keep-alive-interval",
                    "keep-alive-count",
                    "receive-buffer",
                    "send-buffer",
                ],
                _ => &["hop-limit", "receive-buffer", "send-buffer"],
            };
            for name in refused {
                add(&[&format!("{name} 0: invalid-argument")]);
            }
            assert_eq!(said, expected, "{kind}");
        }
    });
}

#[test]
fn names_have_addresses_of_either_family() {
    for_each_host("names_have_addresses_of_either_family", |host| {
        let all = host.run(&["resolve", "localhost"]).printed();
        assert!(
            all.iter().all(|ip| ip == "127.0.0.1" || ip == "::1"),
            "{all:?}"
        );
        for (family, ip) in [("4", "127.0.0.1"), ("6", "::1")] {
            if all.contains(&ip.to_owned()) {
                let said = host.run(&["resolve", "localhost", family]).printed();
                assert_eq!(said, [ip]);
            }
            // An address is a name of its own.
            assert_eq!(host.run(&["resolve", ip, family]).printed(), [ip]);
        }
        let unresolvable = "resolve: name-unresolvable";
        assert_eq!(host.fails(&["resolve", "127.0.0.1", "6"]), unresolvable);
        assert_eq!(host.fails(&["resolve", "::1", "4"]), unresolvable);
        let said = host.fails(&["resolve", "no-such-name.invalid"]);
        // Without a name server nobody knows that there is no such name.
        let known = [unresolvable, "resolve: temporary-resolver-failure"];
        assert!(known.contains(&said.as_str()), "{said}");
        let said = host.fails(&["resolve", "no name"]);
        assert!(said.starts_with("resolve: "), "{said}");
    });
}

/// R1 by a program's own readiness.
#[test]
fn a_server_waits_for_its_listener_and_all_its_peers() {
    for_each_host(
        "a_server_waits_for_its_listener_and_all_its_peers",
        |host| {
            let mut process = Process::start(&mut host.command(&["serve", "127.0.0.1:0", "3"]));
            let address = process.stdout.wait_until("its line", |lines| {
                let line = lines.first()?.strip_prefix("listening ")?;
                Some(line.parse().unwrap())
            });
            let wait_for = |line: &str| {
                process.stdout.wait_until(line, |lines| {
                    lines.iter().any(|it| it == line).then_some(())
                });
            };
            let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(address)).collect();
            for client in clients.iter_mut().rev() {
                client.send("hello\n");
                wait_for(&format!("{} wrote: hello", client.local()));
            }
            for client in clients {
                let peer = client.local();
                drop(client);
                wait_for(&format!("{peer} disconnected"));
            }
            assert!(process.wait().success());
        },
    );
}

for_each_pair! { sockets_commands: a_program_of_sockets_can_be_a_handler }
fn a_program_of_sockets_can_be_a_handler(guest: Guest, dispatch: &str) {
    let (behind, place) = echo(LOOPBACKS[0]);
    let server = Serve::guest(guest, dispatch)
        .compiled_once()
        .args(["--allow-connect", &place, "--max-connections", "100"])
        .arguments(&["lines", &place, "a\nb"])
        .start();
    let said = text(server.connect().read_to_end());
    assert_eq!(said, r"line: a\nline: b\n");
    server.stop().check_no_alarm();
    behind.stop().check_no_alarm();
}
