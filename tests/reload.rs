//! A configuration file that is read again while its services serve: SIGHUP, and
//! `sockserve reload`.

mod moves;

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::command::{Outcome, sockserve};
use crate::harness::control::refusal;
use crate::harness::guests::echo_evented;
use crate::harness::scratch::{Scratch, write_build};
use crate::harness::server::CACHE;
use crate::harness::{Client, Server};

/// A configuration file in a directory of its own.
struct Directory(Scratch);

/// The process that serves what it says.
struct Configured {
    server: Server,
    directory: Directory,
}

impl Directory {
    fn path(&self) -> PathBuf {
        self.0.path("sockserve.toml")
    }

    /// Writes the services. The control socket is beside the file.
    fn write(&self, services: &str) {
        let text = format!("control = \"control\"\n[defaults]\ncache = {CACHE:?}\n{services}");
        fs::write(self.path(), text).unwrap();
    }
}

impl Configured {
    #[track_caller]
    fn start(services: &str, listeners: usize) -> Configured {
        let directory = Directory(Scratch::new());
        directory.write(services);
        let server = Server::of_config(&directory.path(), listeners);
        Configured { server, directory }
    }

    #[track_caller]
    fn command(&self, args: &[&str]) -> Outcome {
        let control = self.directory.0.path("control");
        let mut all: Vec<_> = args.iter().map(|it| (*it).to_owned()).collect();
        all.extend(["--control".to_owned(), control.to_str().unwrap().to_owned()]);
        sockserve(all)
    }

    /// Writes the services and reads them again. Returns what has changed.
    #[track_caller]
    fn reload(&self, services: &str) -> Vec<String> {
        self.directory.write(services);
        self.command(&["reload"]).printed()
    }

    /// The same, which is refused. Returns the reason.
    #[track_caller]
    fn refused(&self, services: &str) -> String {
        self.directory.write(services);
        refusal(&self.command(&["reload"]))
    }

    /// The status of a service.
    #[track_caller]
    fn status(&self, service: &str) -> Value {
        let printed = self.command(&["status", "--json"]).printed();
        let status: Value = serde_json::from_str(&printed[0]).unwrap();
        let all = status["services"].as_array().unwrap();
        let found = all.iter().find(|status| status["name"] == service);
        found
            .unwrap_or_else(|| panic!("no {service} in {status:#}"))
            .clone()
    }

    /// The address of a service that listens on one.
    #[track_caller]
    fn address(&self, service: &str) -> SocketAddr {
        let status = self.status(service);
        let listener = status["listeners"][0].as_str().unwrap();
        listener.strip_prefix("tcp://").unwrap().parse().unwrap()
    }

    #[track_caller]
    fn connect(&self, service: &str) -> Client {
        Client::connect(self.address(service))
    }
}

/// A service at any port.
fn service(name: &str, component: &str, more: &str) -> String {
    format!(
        "[services.{name}]\nlisten = \"tcp://127.0.0.1:0\"\ncomponent = {component:?}\n{more}\n"
    )
}

fn echo(more: &str) -> String {
    service("echo", "builtin:echo-evented", more)
}

/// An address that is free now.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// What was changed by hand is what the file says again, and the dispatch changes by the file.
#[test]
fn what_was_changed_by_hand_is_changed_back() {
    let echo = |more: &str| service("echo", "builtin:echo-concurrent", more);
    let configured = Configured::start(&echo(""), 1);
    let mut open = configured.connect("echo");
    open.check_echo("before\n");
    let by_hand = [
        "swap",
        "echo",
        "--env",
        "MODE=line",
        "--idle-timeout",
        "1h",
        "--dispatch",
        "threaded",
    ];
    configured.command(&by_hand).printed();
    let status = configured.status("echo");
    assert_eq!(status["limits"]["idle-timeout-seconds"], 3600.0);
    assert_eq!(status["dispatch"], "threaded");
    let said = configured.reload(&echo(""));
    assert_eq!(said, ["changed echo: what was changed by hand"]);
    let status = configured.status("echo");
    assert!(status["limits"]["idle-timeout-seconds"].is_null());
    assert_eq!(status["dispatch"], "poll");
    assert_eq!(
        status["versions"].as_array().unwrap().last().unwrap()["env"],
        serde_json::json!([])
    );
    assert_eq!(configured.reload(&echo("")), ["unchanged echo"]);
    // A rollback goes back to the environment of the version before, and not to limits that
    // the file has said since.
    configured.command(&["rollback", "echo"]).printed();
    let status = configured.status("echo");
    assert!(status["limits"]["idle-timeout-seconds"].is_null());
    assert_eq!(status["dispatch"], "threaded");
    let said = configured.reload(&echo("dispatch = \"sequential\""));
    assert_eq!(said, ["changed echo: dispatch"]);
    assert_eq!(configured.status("echo")["dispatch"], "sequential");
    open.check_echo("after\n");
    // Nothing is swapped beside a canary.
    let canary = ["swap", "echo", "--env", "MODE=line", "--canary", "5"];
    configured.command(&canary).printed();
    let why = configured.refused(&echo(""));
    assert!(why.contains("has version 6 as a canary"), "{why}");
    configured.command(&["rollback", "echo"]).printed();
    configured.reload(&echo(""));
    open.check_echo("and after\n");
}

#[test]
fn services_come_and_go() {
    let time = service("time", "builtin:time-blocking", "");
    let configured = Configured::start(&(echo("") + &time), 2);
    let mut old = configured.connect("time");
    let mut stays = configured.connect("echo");
    stays.check_echo("before\n");
    let upper = service("upper", "builtin:upper-evented", "");
    let said = configured.reload(&(echo("") + &upper));
    assert_eq!(said, ["added upper", "removed time", "unchanged echo"]);
    let mut new = configured.connect("upper");
    new.send("abc\n");
    assert_eq!(new.line(), "ABC\n");
    // It was not touched.
    stays.check_echo("after\n");
    assert_eq!(configured.status("echo")["versions"][0]["number"], 1);
    // The removed one has drained: it took the connection that was there.
    assert!(!old.read_to_end().is_empty());
    configured.server.wait_for_log("the end of time", |event| {
        event.message() == "stopped" && event.str("service") == "time"
    });
    let gone = configured.command(&["connections", "time"]);
    assert!(refusal(&gone).contains("there is no service time"));
    // It may come again, under the same name.
    let said = configured.reload(&(echo("") + &time));
    assert_eq!(said, ["added time", "removed upper", "unchanged echo"]);
    assert!(!configured.connect("time").read_to_end().is_empty());
    configured.server.process.signal(Signal::TERM);
}

#[test]
fn another_option_of_the_handler_is_a_swap_with_hand_over() {
    let configured = Configured::start(&echo("env = { MODE = \"stream\" }"), 1);
    let mut client = configured.connect("echo");
    client.check_echo("before");
    let said = configured.reload(&echo("env = { MODE = \"line\" }\nmax-memory = \"32MiB\""));
    assert_eq!(said, ["changed echo: env, max-memory"]);
    client.check_echo("after\n");
    let status = configured.status("echo");
    assert_eq!(status["versions"][0]["number"], 2);
    assert_eq!(status["hand-overs"]["handed-over"], 1);
    let mut line = configured.connect("echo");
    line.send("half");
    client.check_echo("whole\n");
    assert!(line.is_silent());
    line.send(" and half\n");
    assert_eq!(line.line(), "half and half\n");
}

/// The file of the component is another one, and nothing else.
#[test]
fn another_component_in_the_same_file_is_a_swap() {
    let directory = Directory(Scratch::new());
    write_build(&directory.0.path("echo.wasm"), echo_evented, 1);
    let services = service("echo", "echo.wasm", "");
    directory.write(&services);
    let server = Server::of_config(&directory.path(), 1);
    let configured = Configured { server, directory };
    let mut client = configured.connect("echo");
    client.check_echo("before\n");
    assert_eq!(configured.reload(&services), ["unchanged echo"]);
    assert_eq!(configured.status("echo")["versions"][0]["number"], 1);
    write_build(&configured.directory.0.path("echo.wasm"), echo_evented, 2);
    configured.server.process.signal(Signal::HUP);
    configured.server.wait_for_version(2);
    client.check_echo("after\n");
    write_build(&configured.directory.0.path("echo.wasm"), echo_evented, 3);
    let said = configured.reload(&services);
    assert_eq!(said, ["changed echo: the content of a file"]);
    client.check_echo("still\n");
}

#[test]
fn listeners_are_bound_before_others_are_let_go() {
    let (first, second, third) = (free(), free(), free());
    let at = |all: &[SocketAddr]| {
        let all: Vec<_> = all.iter().map(|it| format!("\"tcp://{it}\"")).collect();
        format!(
            "[services.echo]\nlisten = [{}]\ncomponent = \"builtin:echo-evented\"\n",
            all.join(", ")
        )
    };
    let configured = Configured::start(&at(&[first, second]), 2);
    let mut on_first = Client::connect(first);
    let mut on_second = Client::connect(second);
    on_first.check_echo("1\n");
    on_second.check_echo("2\n");
    // One address cannot be bound: nothing changes.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = configured.refused(&at(&[first, taken.local_addr().unwrap()]));
    assert!(refused.contains("cannot listen on"), "{refused}");
    Client::connect(second).check_echo("still\n");
    let said = configured.reload(&at(&[second, third]));
    assert_eq!(said, ["changed echo: listen"]);
    Client::connect(third).check_echo("3\n");
    Client::connect(second).check_echo("2\n");
    // The listener is gone, and its connection goes on.
    on_first.check_echo("on the first\n");
    while TcpStream::connect(first).is_ok() {
        thread::yield_now();
    }
    let listeners = &configured.status("echo")["listeners"];
    assert_eq!(listeners[0], format!("tcp://{second}"));
    assert_eq!(listeners[1], format!("tcp://{third}"));
}

#[test]
fn settings_change_without_another_version() {
    let configured = Configured::start(&echo(""), 1);
    let mut silent = configured.connect("echo");
    let said = configured.reload(&echo(
        "first-byte-timeout = \"100ms\"\naccess-log = \"all\"",
    ));
    assert_eq!(said, ["changed echo: access-log, first-byte-timeout"]);
    // It was open before.
    silent.expect_eof();
    drop(silent);
    configured.server.wait_for_log("the access line", |event| {
        event.message() == "connection ended" && event.str("outcome") == "failed"
    });
    assert_eq!(configured.status("echo")["versions"][0]["number"], 1);
    let said = configured.reload(&echo("deny = \"127.0.0.0/8\""));
    assert_eq!(said, ["changed echo: access-log, deny, first-byte-timeout"]);
    configured.connect("echo").expect_eof();
    let said = configured.reload(&echo(""));
    assert_eq!(said, ["changed echo: deny"]);
    configured.connect("echo").check_echo("hello\n");
}

/// A list of addresses may change while the file that names it does not.
#[test]
fn a_list_in_a_file_is_read_again() {
    let directory = Directory(Scratch::new());
    let list = directory.0.path("denied");
    fs::write(&list, "192.0.2.0/24\n").unwrap();
    let services = echo("deny = \"@denied\"");
    directory.write(&services);
    let server = Server::of_config(&directory.path(), 1);
    let configured = Configured { server, directory };
    configured.connect("echo").check_echo("hello\n");
    fs::write(&list, "127.0.0.1\n").unwrap();
    let said = configured.reload(&services);
    assert_eq!(said, ["changed echo: the content of a file"]);
    configured.connect("echo").expect_eof();
}

#[test]
fn a_lower_limit_closes_nothing() {
    let configured = Configured::start(&echo("max-connections = 4"), 1);
    let mut open: Vec<_> = (0..3).map(|_| configured.connect("echo")).collect();
    for client in &mut open {
        client.check_echo("before\n");
    }
    configured.reload(&echo("max-connections = 2"));
    for client in &mut open {
        client.check_echo("after\n");
    }
    let mut waits = configured.connect("echo");
    waits.send("waiting\n");
    open[0].check_echo("served\n");
    assert!(waits.is_silent());
    // Two go, and then there is room for one.
    for mut client in open.drain(..2) {
        client.finish_sending();
        client.expect_eof();
    }
    waits.expect("waiting\n");
}

#[test]
fn a_wrong_file_changes_nothing() {
    let time = service("time", "builtin:time-blocking", "");
    let configured = Configured::start(&(echo("") + &time), 2);
    let mut client = configured.connect("echo");
    client.check_echo("before\n");
    for (wrong, expected) in [
        ("[services.echo\n".to_owned(), "sockserve.toml:4:"),
        (echo("linger = 5"), "linger"),
        (
            echo("dispach = \"poll\"\nbaklog = 3"),
            "(and 1 more, in the log of the process)",
        ),
        (echo("backlog = 3"), "cannot change meanwhile"),
        (service("echo", "/nowhere.wasm", ""), "/nowhere.wasm"),
        (echo("env = { MODE = \"wrong\" }"), "MODE=wrong"),
        (
            service("new", "builtin:none", "") + &echo(""),
            "builtin:none",
        ),
        (String::new(), "there is no service"),
    ] {
        let refused = configured.refused(&wrong);
        assert!(refused.contains(expected), "{refused}");
        assert_eq!(configured.status("echo")["versions"][0]["number"], 1);
    }
    client.check_echo("after\n");
    // The file may also be gone.
    fs::remove_file(configured.directory.path()).unwrap();
    assert_eq!(configured.command(&["reload"]).status, Some(1));
    configured.server.process.signal(Signal::HUP);
    configured.server.wait_for_log("the refusal", |event| {
        event.message().contains("not reloaded")
    });
    client.check_echo("still\n");
    assert!(!configured.connect("time").read_to_end().is_empty());
}

/// The new handler of the last service is not fit for what the one before knows, which only
/// the swap itself finds. The first one is swapped before, and goes back as if it had not
/// been; the second one, which nobody can refuse, is not touched.
#[test]
fn a_swap_that_is_refused_takes_the_others_back() {
    let services = |mode: &str, component: &str| {
        let env = format!("env = {{ MODE = {mode:?} }}");
        service("one", "builtin:kv-evented", &env)
            + &service("echo", "builtin:echo-evented", &env)
            + &service("two", component, "")
    };
    let configured = Configured::start(&services("stream", "builtin:kv-evented"), 3);
    let keep = |client: &mut Client| {
        client.send("SET a 1\r\n");
        assert_eq!(client.line(), "OK\r\n");
    };
    let kept = |client: &mut Client| {
        client.send("GET a\r\n");
        assert_eq!(client.line(), "1\r\n");
    };
    let mut clients = ["one", "two"].map(|name| configured.connect(name));
    clients.iter_mut().for_each(keep);
    let mut echo = configured.connect("echo");
    echo.check_echo("before");
    // It cannot take the values over.
    let refused = configured.refused(&services("line", "builtin:echo-evented"));
    assert!(
        refused.contains("sockserve.toml:12:11: the service two"),
        "{refused}"
    );
    clients.iter_mut().for_each(kept);
    kept(&mut configured.connect("one"));
    echo.check_echo("after");
    // Without a line's end: the mode is the old one.
    configured.connect("echo").check_echo("no line");
    assert_eq!(configured.status("echo")["versions"][0]["number"], 1);
    let one = configured.status("one");
    assert_eq!(one["previous"], Value::Null, "{one:#}");
    assert_eq!(one["versions"][0]["number"], 3, "{one:#}");
}

#[test]
fn check_says_what_a_reload_would_change() {
    let configured = Configured::start(&echo(""), 1);
    let time = service("time", "builtin:time-blocking", "");
    configured
        .directory
        .write(&(echo("linger = \"1s\"") + &time));
    let path = configured.directory.path();
    let said = sockserve(["check".as_ref(), path.as_os_str()]).printed();
    assert_eq!(said.len(), 4, "{said:?}");
    assert_eq!(
        said[2..],
        ["a reload: added time", "a reload: changed echo: linger"]
    );
    // It has changed nothing.
    configured.connect("echo").check_echo("hello\n");
    assert_eq!(configured.command(&["connections", "time"]).status, Some(1));
    // A reload would be refused.
    configured
        .directory
        .write(&echo("linger = \"1s\"\nbacklog = 77"));
    let said = sockserve(["check".as_ref(), path.as_os_str()]).printed();
    assert_eq!(
        said[1..],
        ["a reload: refused, because another process is needed: echo: backlog"]
    );
}

#[test]
fn a_process_without_a_file_has_nothing_to_read_again() {
    let controlled = crate::harness::control::Controlled::start(
        crate::harness::guests::echo_evented,
        "poll",
        &[],
    );
    let refused = refusal(&controlled.command(["reload"]));
    assert!(refused.contains("serve --config FILE"), "{refused}");
}

/// Two hundred connections on three services: one is not touched, one gets another handler,
/// one other listeners. Nothing is lost on any of them.
#[test]
fn nothing_is_lost_while_it_is_read_again() {
    const EACH: usize = 67;
    let more = free();
    let services = |round: usize| {
        let mode = if round.is_multiple_of(2) {
            "stream"
        } else {
            "line"
        };
        let listen = if round.is_multiple_of(2) {
            String::new()
        } else {
            format!(", \"tcp://{more}\"")
        };
        service("same", "builtin:echo-evented", "")
            + &service(
                "swaps",
                "builtin:echo-concurrent",
                &format!("env = {{ MODE = {mode:?} }}"),
            )
            + &format!(
                "[services.listens]\nlisten = [\"tcp://127.0.0.1:0\"{listen}]\ncomponent = \"builtin:echo-blocking\"\n"
            )
    };
    let configured = Configured::start(&services(0), 3);
    let addresses = ["same", "swaps", "listens"].map(|name| configured.address(name));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut talking = Vec::new();
        for address in addresses {
            let done = &done;
            talking.push(scope.spawn(move || {
                let mut clients: Vec<_> = (0..EACH).map(|_| Client::connect(address)).collect();
                let mut trips = 0;
                while !done.load(Ordering::Relaxed) {
                    for (number, client) in clients.iter_mut().enumerate() {
                        client.check_echo(format!("{number} {trips}\n"));
                    }
                    trips += 1;
                }
                for mut client in clients {
                    client.finish_sending();
                    client.expect_eof();
                }
                trips
            }));
        }
        for round in 1..=6 {
            let said = configured.reload(&services(round));
            assert_eq!(
                said,
                [
                    "changed listens: listen",
                    "changed swaps: env",
                    "unchanged same"
                ]
            );
        }
        done.store(true, Ordering::Relaxed);
        for talking in talking {
            assert!(talking.join().unwrap() > 0);
        }
    });
    for (name, versions) in [("same", 1), ("swaps", 7), ("listens", 1)] {
        let status = configured.status(name);
        let failed: u64 = status["failed"]
            .as_object()
            .unwrap()
            .values()
            .map(|it| it.as_u64().unwrap())
            .sum();
        assert_eq!(failed, 0, "{status:#}");
        assert_eq!(status["accepted"], EACH, "{status:#}");
        let current = status["versions"].as_array().unwrap().last().unwrap();
        assert_eq!(current["number"], versions, "{status:#}");
    }
}

#[test]
fn services_share_a_limit_also_those_that_come_later() {
    let directory = Directory(Scratch::new());
    let first = echo("");
    let second = service("other", "builtin:echo-blocking", "");
    let write = |services: &str| {
        directory.write(services);
        let text = fs::read_to_string(directory.path()).unwrap();
        fs::write(
            directory.path(),
            format!("max-connections-total = 2\n{text}"),
        )
        .unwrap();
    };
    write(&first);
    let server = Server::of_config(&directory.path(), 1);
    let control = directory.0.path("control");
    let reload = || sockserve(["reload".as_ref(), "--control".as_ref(), control.as_os_str()]);
    write(&(first + &second));
    reload().printed();
    let address = server.address();
    let mut one = Client::connect(address);
    let mut two = Client::connect(address);
    one.check_echo("1\n");
    two.check_echo("2\n");
    let other = {
        let status = sockserve([
            "status".as_ref(),
            "--json".as_ref(),
            "--control".as_ref(),
            control.as_os_str(),
        ]);
        let status: Value = serde_json::from_str(&status.printed()[0]).unwrap();
        let listener = status["services"][1]["listeners"][0]
            .as_str()
            .unwrap()
            .to_owned();
        listener.strip_prefix("tcp://").unwrap().parse().unwrap()
    };
    let mut waits = Client::connect(other);
    waits.send("waiting\n");
    one.check_echo("still\n");
    assert!(waits.is_silent());
    one.finish_sending();
    one.expect_eof();
    waits.expect("waiting\n");
}

/// Who is in the backlog of an address that goes is served, though nobody is accepted now.
#[test]
fn a_backlog_is_served_though_its_listener_goes() {
    let (before, after) = (free(), free());
    let at = |address: SocketAddr| {
        format!(
            "[services.echo]\nlisten = \"tcp://{address}\"\ncomponent = \"builtin:echo-evented\"\n"
        )
    };
    let configured = Configured::start(&at(before), 1);
    configured.command(&["suspend", "echo"]).printed();
    let mut waiting: Vec<_> = (0..5).map(|_| Client::connect(before)).collect();
    for client in &mut waiting {
        client.send("waiting\n");
    }
    configured.reload(&at(after));
    configured.command(&["resume", "echo"]).printed();
    for client in &mut waiting {
        client.expect("waiting\n");
    }
    Client::connect(after).check_echo("new\n");
}

/// A service that came now would outlive the end of the process.
#[test]
fn a_process_that_ends_reloads_nothing() {
    let configured = Configured::start(&echo(""), 1);
    let mut client = configured.connect("echo");
    client.check_echo("before\n");
    configured.server.terminate();
    configured
        .server
        .wait_for_log("the drain", |event| event.message() == "draining");
    let time = service("time", "builtin:time-blocking", "");
    let refused = configured.refused(&(echo("") + &time));
    assert!(refused.contains("the services are ending"), "{refused}");
    client.finish_sending();
    client.expect_eof();
    assert_eq!(configured.server.finish().status.code(), Some(0));
}

/// A service that comes again while the one before still drains: both are seen, and the
/// state of the one before is not lost.
#[test]
fn a_service_that_drains_is_seen_beside_the_one_that_has_its_name() {
    let kv = |more: &str| service("kv", "builtin:kv-evented", more);
    let kept = kv("state-file = \"kv.state\"");
    let configured = Configured::start(&(echo("") + &kept), 2);
    let mut old = configured.connect("kv");
    old.send("SET a 1\r\n");
    assert_eq!(old.line(), "OK\r\n");
    configured.reload(&echo(""));
    let refused = configured.refused(&(echo("") + &kept));
    assert!(refused.contains("has not ended; reload again"), "{refused}");
    configured.reload(&(echo("") + &kv("")));
    let listed = configured.command(&["connections", "kv"]).printed();
    assert_eq!(listed.len(), 2, "{listed:?}");
    configured.command(&["kill", "--service", "kv"]).printed();
    assert!(old.drain().is_empty());
    configured.server.wait_for_log("its end", |event| {
        event.message() == "stopped" && event.str("service") == "kv"
    });
    configured.reload(&echo(""));
    configured.server.wait_for_log("the second end", |event| {
        event.message().contains("the file has it no longer")
    });
    while configured.command(&["reload"]).status != Some(0)
        || configured.command(&["connections", "kv"]).status == Some(0)
    {
        thread::yield_now();
    }
    configured.reload(&(echo("") + &kept));
    let mut new = configured.connect("kv");
    new.send("GET a\r\n");
    assert_eq!(new.line(), "1\r\n");
}
