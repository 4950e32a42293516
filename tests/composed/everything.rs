//! `guests/runner/serve-all`: every embedded handler, composed, under the stock wasmtime.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::address;
use crate::chat::WELCOME;
use crate::harness::command::sockserve;
use crate::harness::process::Process;
use crate::harness::scratch::Scratch;
use crate::harness::tools::have;
use crate::harness::{Client, PATIENCE, ctime, wasmtime};

/// How long it may take until all listen: each is composed, and compiled without a cache.
const COMPILING: Duration = Duration::from_secs(240);

/// The script, as the leader of a group. If a test fails, what it has started ends too.
struct Script {
    process: Process,
    has_ended: bool,
}

impl Drop for Script {
    fn drop(&mut self) {
        if !self.has_ended {
            let group = Pid::from_raw(self.process.id().cast_signed()).unwrap();
            // There is nothing that could be done about a failure.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The names of the embedded handlers that are no commands already.
fn handlers() -> Vec<String> {
    let printed = sockserve(["builtins"]).printed();
    let names = printed.iter().filter_map(|line| line.split(' ').next());
    let names = names.map(|name| name.strip_prefix("builtin:").unwrap());
    let mut names: Vec<_> = names
        .filter(|name| !name.ends_with("-command"))
        .map(str::to_owned)
        .collect();
    names.sort();
    names
}

/// What a ready line calls its service.
fn service(line: &str) -> &str {
    let words = line.split(' ');
    let mut names = words.filter_map(|word| word.strip_prefix("service="));
    names.next().unwrap_or_else(|| panic!("no service: {line}"))
}

/// Checks that it serves, in whatever it is by default.
#[track_caller]
fn check_served(name: &str, address: SocketAddr) {
    let family = name.split('-').next().unwrap();
    if name.contains("datagram") {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peer.connect(address).unwrap();
        peer.send(b"hello").unwrap();
        let mut room = [0; 1024];
        match family {
            "echo" => {
                let length = peer.recv(&mut room).unwrap();
                assert_eq!(&room[..length], b"hello", "{name}");
            }
            "time" => assert_eq!(peer.recv(&mut room).unwrap(), ctime::LENGTH, "{name}"),
            // It answers nothing.
            _ => {}
        }
        return;
    }
    let mut client = Client::connect(address);
    match family {
        "echo" => client.check_echo("hello\n"),
        "upper" => {
            client.send("hello\n");
            client.expect("HELLO\n");
        }
        "time" => assert_eq!(client.read_to_end().len(), ctime::LENGTH, "{name}"),
        "chat" => client.expect(WELCOME),
        // It discards, or waits for a request.
        _ => {}
    }
}

/// Whether nobody has this address any more.
fn is_free(name: &str, address: SocketAddr) -> bool {
    if name.contains("datagram") {
        return UdpSocket::bind(address).is_ok();
    }
    let refused = TcpStream::connect_timeout(&address, PATIENCE);
    refused.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[test]
fn the_script_serves_every_embedded_handler() {
    if !have("bash", &["--version"]) {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guests/runner/serve-all");
    let names = handlers();
    assert!(names.len() > 10, "{names:?}");
    wasmtime::for_each("the_script_serves_every_embedded_handler", |wasmtime| {
        let scratch = Scratch::new();
        let mut command = Command::new("bash");
        command.arg(&script).arg("0").process_group(0);
        command.env("WASMTIME", wasmtime.canonicalize().unwrap());
        command.env("SOCKSERVE", env!("CARGO_BIN_EXE_sockserve"));
        command.env("TMPDIR", scratch.path(""));
        let mut script = Script {
            process: Process::start(&mut command),
            has_ended: false,
        };
        let stdout = &script.process.stdout;
        let ready = stdout.wait_until_within(COMPILING, "all ready lines", |lines| {
            (lines.len() >= names.len()).then(|| lines.to_vec())
        });
        let listening: BTreeMap<_, _> = ready
            .iter()
            .map(|line| (service(line), address(line)))
            .collect();
        assert!(listening.keys().eq(names.iter()), "{ready:#?}");
        for (name, address) in &listening {
            check_served(name, *address);
            assert!(!is_free(name, *address), "{name}");
        }

        script.process.signal(Signal::TERM);
        // The outputs end with the last process that has them.
        let status = script.process.wait();
        script.has_ended = true;
        assert_eq!(status.code(), Some(143));
        // What comes after them is what handlers print.
        let lines = script.process.stdout.lines();
        let is_ready = |line: &&String| line.starts_with("listening ");
        assert_eq!(lines.iter().filter(is_ready).count(), ready.len());
        for (name, address) in listening {
            assert!(is_free(name, address), "{name}: {address}");
        }
        let left: Vec<_> = fs::read_dir(scratch.path("")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    });
}
