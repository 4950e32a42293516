//! Datagrams, over UDP and over Unix sockets: what comes, what goes back, to whom and
//! from where, and what is dropped.
//!
//! | file | |
//! | --- | --- |
//! | `faults` | guests that trap, spin, hoard, or send what they may not |
//! | `small` | the time of day, and inetd's small servers |

mod faults;
mod small;

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::command::{run, sockserve};
use crate::harness::control::Controlled;
use crate::harness::guests::{echo_blocking, echo_datagram, echo_datagram_concurrent};
use crate::harness::python::Python;
use crate::harness::scratch::Scratch;
use crate::harness::tools::{have, have_nc};
use crate::harness::{Guest, PATIENCE, Serve, noise, text};

/// A peer on the network.
struct Peer(UdpSocket);

impl Peer {
    /// A peer that talks to `server` only.
    #[track_caller]
    fn of(server: SocketAddr) -> Peer {
        let own: SocketAddr = match server {
            SocketAddr::V4(_) => "127.0.0.1:0".parse().unwrap(),
            SocketAddr::V6(_) => "[::1]:0".parse().unwrap(),
        };
        Peer::between(own, server)
    }

    #[track_caller]
    fn between(own: SocketAddr, server: SocketAddr) -> Peer {
        let socket = UdpSocket::bind(own).unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Peer(socket)
    }

    #[track_caller]
    fn send(&self, data: impl AsRef<[u8]>) {
        let data = data.as_ref();
        assert_eq!(self.0.send(data).unwrap(), data.len());
    }

    #[track_caller]
    fn receive(&self) -> Vec<u8> {
        let mut data = vec![0; 1 << 16];
        loop {
            match self.0.recv(&mut data) {
                Ok(length) => {
                    data.truncate(length);
                    return data;
                }
                // A call with a time-out ends so when the process is stopped and goes on.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    /// Sends a datagram and receives this answer.
    #[track_caller]
    fn check(&self, data: impl AsRef<[u8]>, expected: impl AsRef<[u8]>) {
        self.send(data);
        assert_eq!(text(self.receive()), text(expected));
    }

    /// Nothing has come that is not an answer to this.
    #[track_caller]
    fn check_silence(&self) {
        self.check("nothing before this", "nothing before this");
    }
}

/// A server of datagrams, by its first ready line.
#[track_caller]
fn start(guest: Guest, dispatch: &str, url: &str, options: &[&str]) -> Controlled {
    let options = [&["--cache", crate::harness::server::CACHE], options].concat();
    Controlled::listening(guest, dispatch, &[url], &options)
}

fn datagrams(status: &Value, field: &str) -> u64 {
    status["datagrams"][field].as_u64().unwrap()
}

/// Waits until so many are counted and no guest has any. A peer may have its answer
/// before either.
#[track_caller]
fn wait_for(controlled: &Controlled, field: &str, count: u64) -> Value {
    controlled.wait_for_status(&format!("{count} {field}"), |status| {
        datagrams(status, field) >= count && status["open"] == 0
    })
}

/// As [`wait_for`], where as many bytes go back as have come. They are counted one after
/// the other.
#[track_caller]
fn wait_for_all_back(controlled: &Controlled, count: u64) -> Value {
    controlled.wait_for_status(&format!("{count} answers"), |status| {
        let is_back = status["bytes-in"] == status["bytes-out"];
        datagrams(status, "sent") >= count && status["open"] == 0 && is_back
    })
}

for_each_pair! { echo_datagrams: every_datagram_goes_back }
/// E4.
fn every_datagram_goes_back(guest: Guest, dispatch: &str) {
    for url in ["udp://127.0.0.1:0", "udp://[::1]:0"] {
        let controlled = start(guest, dispatch, url, &[]);
        let address = controlled.server.address();
        let expected = format!(
            "listening udp://{address} service=echo contract={} dispatch={dispatch}",
            guest.contract()
        );
        assert_eq!(controlled.server.ready, [expected]);
        let peers: Vec<_> = (0..5).map(|_| Peer::of(address)).collect();
        for (number, peer) in peers.iter().enumerate() {
            peer.send(format!("{number}"));
        }
        for (number, peer) in peers.iter().enumerate() {
            assert_eq!(text(peer.receive()), format!("{number}"));
        }
        let peer = &peers[0];
        peer.check("", "");
        peer.check(b"\0\xff\r\n", b"\0\xff\r\n");
        for length in [1, 1472, 1473, 9000, 65_506, 65_507] {
            let data = noise(length);
            peer.send(&data);
            assert!(peer.receive() == data, "{length}");
        }
        let status = wait_for_all_back(&controlled, 13);
        assert_eq!(status["handled"], 13);
        assert_eq!(status["accepted"], 13);
        assert_eq!(datagrams(&status, "received"), 13);
        assert_eq!(datagrams(&status, "sent"), 13);
        controlled.server.stop().check_no_alarm();
    }
}

for_each_pair! { echo_datagrams: a_prefix_goes_in_front }
/// E5.
fn a_prefix_goes_in_front(guest: Guest, dispatch: &str) {
    let options = ["--env", "MODE=prefix"];
    let controlled = start(guest, dispatch, "udp://127.0.0.1:0", &options);
    let peer = Peer::of(controlled.server.address());
    let own = peer.0.local_addr().unwrap().to_string();
    peer.check("hello", "echo:hello");
    peer.check([b'x'; 256], [&b"echo:"[..], &[b'x'; 256]].concat());
    // One byte more is dropped, and not cut.
    peer.send([b'x'; 257]);
    peer.check("after", "echo:after");
    let status = controlled.status();
    assert_eq!(datagrams(&status, "oversized"), 1);
    let finished = controlled.server.stop();
    finished.check_no_alarm();
    assert_eq!(finished.guest_lines(), [&own, &own, &own]);
}

for_each_pair! { echo_datagrams: a_limit_is_the_guests }
fn a_limit_is_the_guests(guest: Guest, dispatch: &str) {
    let options = ["--env", "MAX_BYTES=100"];
    let controlled = start(guest, dispatch, "udp://127.0.0.1:0", &options);
    let peer = Peer::of(controlled.server.address());
    peer.check([b'x'; 100], [b'x'; 100]);
    for length in [101, 1000, 65_507] {
        peer.send(vec![b'x'; length]);
    }
    peer.check_silence();
    assert_eq!(datagrams(&controlled.status(), "oversized"), 3);
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { echo_datagrams: an_answer_leaves_from_where_it_was_written_to }
/// Behind a wildcard, from another loopback address, in both families.
fn an_answer_leaves_from_where_it_was_written_to(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, "udp://*:0", &[]);
    let port = controlled.server.port();
    for (own, to) in [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.2"),
        ("127.1.2.3", "127.0.0.3"),
        ("::1", "::1"),
    ] {
        let own = (own.parse::<IpAddr>().unwrap(), 0).into();
        let to = (to.parse::<IpAddr>().unwrap(), port).into();
        // A connected socket receives nothing from another address.
        Peer::between(own, to).check("hello", "hello");
    }
    // Both addresses in one go, from one socket.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    for last in 1..=9 {
        socket
            .send_to(&[last], (IpAddr::from([127, 0, 0, last]), port))
            .unwrap();
    }
    for _ in 1..=9 {
        let mut data = [0; 2];
        let (length, from) = socket.recv_from(&mut data).unwrap();
        assert_eq!(length, 1);
        assert_eq!(from.ip(), IpAddr::from([127, 0, 0, data[0]]));
    }
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { echo_datagrams: unix_datagrams_go_back }
fn unix_datagrams_go_back(guest: Guest, dispatch: &str) {
    let scratch = Scratch::new();
    let path = scratch.path("s");
    let url = format!("unix+dgram://{}", path.display());
    let controlled = start(guest, dispatch, &url, &["--unix-mode", "600"]);
    assert!(controlled.server.ready[0].starts_with(&format!("listening {url} ")));
    let client = |name: &str| {
        let client = UnixDatagram::bind(scratch.path(name)).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.connect(&path).unwrap();
        client
    };
    let check = |client: &UnixDatagram, data: &[u8]| {
        client.send(data).unwrap();
        let mut answer = vec![0; 1 << 16];
        let length = client.recv(&mut answer).unwrap();
        assert!(&answer[..length] == data);
    };
    let (ann, bob) = (client("ann"), client("bob"));
    check(&ann, b"hello");
    check(&bob, b"");
    check(&ann, &noise(65_535));
    // One that has no name cannot be answered, and one that is gone neither.
    UnixDatagram::unbound()
        .unwrap()
        .send_to(b"x", &path)
        .unwrap();
    let gone = client("gone");
    gone.send(b"x").unwrap();
    drop(gone);
    std::fs::remove_file(scratch.path("gone")).unwrap();
    check(&bob, b"still there");
    let unsent = |status: &Value| datagrams(status, "unsent") + datagrams(status, "refused");
    let status = controlled.wait_for_status("all", |status| {
        status["handled"] == 6 && unsent(status) >= 1
    });
    assert!(unsent(&status) <= 2, "{status}");
    controlled.server.stop().check_no_alarm();
    assert!(!path.exists());
}

for_each_pair! { echo_datagrams: a_peer_that_does_not_read_costs_the_others_little }
/// Its queue is full, and nobody waits for it more than once.
fn a_peer_that_does_not_read_costs_the_others_little(guest: Guest, dispatch: &str) {
    let scratch = Scratch::new();
    let path = scratch.path("s");
    let url = format!("unix+dgram://{}", path.display());
    let controlled = start(guest, dispatch, &url, &[]);
    let silent = UnixDatagram::bind(scratch.path("silent")).unwrap();
    for _ in 0..40 {
        silent.send_to(b"x", &path).unwrap();
    }
    let reader = UnixDatagram::bind(scratch.path("reader")).unwrap();
    reader.set_read_timeout(Some(PATIENCE)).unwrap();
    for number in 0..20_u8 {
        reader.send_to(&[number], &path).unwrap();
        let mut data = [0; 2];
        assert_eq!(reader.recv(&mut data).unwrap(), 1);
        assert_eq!(data[0], number);
    }
    let status = controlled.wait_for_status("all", |status| {
        datagrams(status, "sent") + datagrams(status, "unsent") == 60
    });
    assert_ne!(datagrams(&status, "unsent"), 0);
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { echo_datagrams: what_is_there_when_it_drains_is_answered }
fn what_is_there_when_it_drains_is_answered(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, "udp://127.0.0.1:0", &[]);
    let peer = Peer::of(controlled.server.address());
    peer.check("first", "first");
    // Stopped, so that everything is in the kernel when the signal is read.
    controlled
        .server
        .process
        .signal(rustix::process::Signal::STOP);
    for number in 0..100_u8 {
        peer.send([number]);
    }
    controlled.server.terminate();
    controlled
        .server
        .process
        .signal(rustix::process::Signal::CONT);
    let mut seen: Vec<_> = (0..100).map(|_| peer.receive()[0]).collect();
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..100));
    let finished = controlled.server.finish();
    assert_eq!(finished.status.code(), Some(0));
    finished.check_no_alarm();
}

for_each_pair! { echo_datagrams: an_answer_that_nobody_takes_disturbs_nobody }
/// ICMP says that the port is closed.
fn an_answer_that_nobody_takes_disturbs_nobody(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, "udp://127.0.0.1:0", &[]);
    let address = controlled.server.address();
    for _ in 0..20 {
        let gone = UdpSocket::bind("127.0.0.1:0").unwrap();
        gone.send_to(b"x", address).unwrap();
        drop(gone);
        Peer::of(address).check("hello", "hello");
    }
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { echo_datagrams: datagrams_are_what_socketserver_answers }
fn datagrams_are_what_socketserver_answers(guest: Guest, dispatch: &str) {
    const QUESTIONS: [&str; 4] = ["hello world", "  padded \r\n", "stra\u{df}e", ""];
    let ask = |address: SocketAddr| {
        let peer = Peer::of(address);
        QUESTIONS.map(|question| {
            peer.send(question);
            text(peer.receive())
        })
    };
    let ask_unix = |path: &Path, own: &Path| {
        let socket = UnixDatagram::bind(own).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        QUESTIONS.map(|question| {
            socket.send_to(question.as_bytes(), path).unwrap();
            let mut answer = [0; 100];
            let length = socket.recv(&mut answer).unwrap();
            text(&answer[..length])
        })
    };
    let scratch = Scratch::new();
    let path = scratch.path("s");
    let server = Serve::guest(guest, dispatch)
        .compiled_once()
        .env("MODE=upper")
        .listen("udp://127.0.0.1:0")
        .listen(&format!("unix+dgram://{}", path.display()))
        .start();
    let ours = ask(server.address());
    assert_eq!(ours[..2], ["HELLO WORLD", "PADDED"]);
    assert_eq!(ours, ask_unix(&path, &scratch.path("own")));
    for class in ["UDPServer", "ThreadingUDPServer", "ForkingUDPServer"] {
        let Some(python) = Python::run("socketservers.py", &[class, "127.0.0.1:0"]) else {
            return;
        };
        let port: u16 = python.stdout.lines()[0].parse().unwrap();
        assert_eq!(ours, ask(([127, 0, 0, 1], port).into()), "{class}");
    }
    for class in ["UnixDatagramServer", "ThreadingUnixDatagramServer"] {
        let path = scratch.path(class);
        let Some(_python) = Python::run("socketservers.py", &[class, path.to_str().unwrap()])
        else {
            return;
        };
        let own = scratch.path(&format!("{class}-own"));
        assert_eq!(ours, ask_unix(&path, &own), "{class}");
    }
}

for_each_pair! { echo_datagrams by default: nc_and_socat_send_datagrams }
fn nc_and_socat_send_datagrams(guest: Guest, dispatch: &str) {
    let scratch = Scratch::new();
    let path = scratch.path("s");
    let server = Serve::guest(guest, dispatch)
        .compiled_once()
        .listen("udp://127.0.0.1:0")
        .listen(&format!("unix+dgram://{}", path.display()))
        .start();
    let mut clients = Vec::new();
    if have_nc() {
        clients.push("nc -u -W 1 127.0.0.1 $1");
        clients.push("nc -uU -W 1 -s \"$2.nc\" \"$2\"");
    }
    if have("socat", &["-V"]) {
        clients.push("socat -t 1 - UDP:127.0.0.1:$1");
        clients.push("socat -t 1 - UNIX-SENDTO:\"$2\",bind=\"$2.socat\"");
    }
    for client in clients {
        let line = format!("printf 'hello' | {client}");
        let port = server.port().to_string();
        let mut shell = Command::new("sh");
        shell.args(["-c", &line, "sh", &port]).arg(&path);
        assert_eq!(run(&mut shell).printed(), ["hello"], "{client}");
    }
    server.stop().check_no_alarm();
}

for_each_pair! { echo_datagrams: a_swap_is_in_effect_from_the_next_batch }
/// Datagrams go on and on while versions change; none is answered twice, and the losses
/// are known on both sides.
fn a_swap_is_in_effect_from_the_next_batch(guest: Guest, dispatch: &str) {
    const SWAPS: u8 = 10;
    let controlled = start(guest, dispatch, "udp://127.0.0.1:0", &[]);
    let address = controlled.server.address();
    let builds: Vec<_> = (0..SWAPS)
        .map(|number| controlled.scratch.build(guest, number))
        .collect();
    let done = std::sync::atomic::AtomicBool::new(false);
    let asked = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let peer = Peer::of(address);
            let mut number = 0_u64;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                // One at a time, so that none can be lost in a full buffer.
                peer.send(number.to_le_bytes());
                assert_eq!(peer.receive(), number.to_le_bytes());
                number += 1;
            }
            number
        });
        for build in &builds {
            controlled.swap(build, &[]);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        asking.join().unwrap()
    });
    let status = wait_for(&controlled, "sent", asked);
    assert_eq!(status["handled"], asked);
    assert_eq!(status["open"], 0);
    assert_eq!(datagrams(&status, "sent"), asked);
    assert_eq!(status["versions"].as_array().unwrap().len(), 1);
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { echo_datagrams: a_contract_for_datagrams_can_follow_another }
fn a_contract_for_datagrams_can_follow_another(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, "udp://127.0.0.1:0", &[]);
    let peer = Peer::of(controlled.server.address());
    peer.check("one", "one");
    let other = match guest.contract() {
        "datagram" => echo_datagram_concurrent,
        _ => echo_datagram,
    };
    let probe = ["--probe", "send=hello,expect=hello"];
    controlled.swap(other.builtin(), &probe);
    peer.check("two", "two");
    controlled.swap(guest.builtin(), &probe);
    peer.check("three", "three");
    let why = controlled.swap_refused(echo_blocking.builtin(), &[]);
    assert!(
        why.contains("its contract is blocking, and the service has datagrams"),
        "{why}"
    );
    let why = controlled.swap_refused(other.builtin(), &["--probe", "send=a,expect=b"]);
    assert!(why.contains("expected \"b\", and builtin:"), "{why}");
    peer.check("four", "four");
    controlled.server.stop().check_no_alarm();
}

#[test]
fn what_does_not_fit_is_refused() {
    let scratch = Scratch::new();
    let path = format!("unix:{}", scratch.path("s").display());
    let check = |component: &str, url: &str, expected: &str| {
        let outcome = sockserve(["serve", component, "--listen", url]);
        assert_eq!(outcome.status, Some(2), "{outcome:?}");
        assert!(outcome.stderr[0].contains(expected), "{outcome:?}");
        assert!(!scratch.path("s").exists());
    };
    check(
        "builtin:echo-evented",
        "udp://127.0.0.1:0",
        "the contract evented serves connections; listen on tcp://HOST:PORT or unix:///PATH",
    );
    check(
        "builtin:echo-datagram",
        &path,
        "the contract datagram serves datagrams; listen on udp://HOST:PORT or unix+dgram:///PATH",
    );
    check(
        "builtin:echo-datagram-concurrent",
        "tcp://127.0.0.1:0",
        "serves datagrams",
    );
}

for_each_pair! { echo_datagrams: many_datagrams_of_all_sizes }
/// None is doubled and none is changed. The environment variable `DATAGRAMS` says how
/// many there are.
fn many_datagrams_of_all_sizes(guest: Guest, dispatch: &str) {
    const WINDOW: u64 = 8;
    let count = std::env::var("DATAGRAMS").map_or(4000, |count| count.parse().unwrap());
    let controlled = start(guest, dispatch, "udp://127.0.0.1:0", &[]);
    let address = controlled.server.address();
    let bytes = noise(1 << 17);
    // The number, and as much noise as it says.
    let datagram = |number: u64| {
        let length = match number % 64 {
            0 => number * 7919 % 65_500,
            1..8 => number * 31 % 9000,
            _ => number % 1400,
        };
        let start = usize::try_from(number % 60_000).unwrap();
        let noise = &bytes[start..start + usize::try_from(length).unwrap()];
        [&number.to_le_bytes(), noise].concat()
    };
    let (mut sent, mut lost) = (0_u64, 0_u64);
    let peer = Peer::of(address);
    let mut waiting = std::collections::BTreeSet::new();
    while sent < count || !waiting.is_empty() {
        while sent < count && (waiting.len() as u64) < WINDOW {
            peer.send(datagram(sent));
            waiting.insert(sent);
            sent += 1;
        }
        // The last ones may be lost, if the kernel has dropped them; the server knows.
        let answer = peer.receive();
        let number = u64::from_le_bytes(answer[..8].try_into().unwrap());
        assert!(waiting.remove(&number), "{number} was answered twice");
        assert!(answer == datagram(number), "{number} was changed");
        lost += waiting.iter().filter(|it| **it + 1000 < number).count() as u64;
        waiting.retain(|it| *it + 1000 >= number);
    }
    let status = wait_for_all_back(&controlled, count - lost);
    assert_eq!(lost, 0, "{status}");
    assert_eq!(status["handled"], count);
    controlled.server.stop().check_no_alarm();
}

/// What a slow service cannot take the kernel drops, and says so.
#[test]
fn what_the_kernel_drops_is_counted() {
    let controlled = start(echo_datagram, "poll", "udp://127.0.0.1:0", &[]);
    let peer = Peer::of(controlled.server.address());
    peer.check("first", "first");
    controlled
        .server
        .process
        .signal(rustix::process::Signal::STOP);
    for _ in 0..2000 {
        peer.send([b'x'; 1000]);
    }
    controlled
        .server
        .process
        .signal(rustix::process::Signal::CONT);
    // The kernel says so with the next datagram that it takes.
    let mut sent = 2001;
    let status = loop {
        peer.send("last");
        sent += 1;
        let status = controlled.status();
        if datagrams(&status, "dropped-by-kernel") > 0 {
            break status;
        }
    };
    let dropped = datagrams(&status, "dropped-by-kernel");
    assert!(dropped < 2000, "{status}");
    // Both sides agree: what was sent came or was dropped, and what was sent back too.
    let status = wait_for(&controlled, "received", sent - dropped);
    assert_eq!(datagrams(&status, "received"), sent - dropped, "{status}");
    assert_eq!(datagrams(&status, "dropped-by-kernel"), dropped);
    let answers = datagrams(&status, "sent");
    assert_eq!(answers, sent - dropped, "{status}");
    peer.0.set_nonblocking(true).unwrap();
    let mut data = [0; 2000];
    let came = std::iter::from_fn(|| peer.0.recv(&mut data).ok()).count() as u64;
    // The first answer came long ago.
    assert_eq!(1 + came + dropped_at(&peer.0), answers);
    controlled.server.stop().check_no_alarm();
}

/// How many datagrams the kernel has dropped at a socket of this machine.
#[track_caller]
fn dropped_at(socket: &UdpSocket) -> u64 {
    let port = format!(":{:04X}", socket.local_addr().unwrap().port());
    let sockets = std::fs::read_to_string("/proc/net/udp").unwrap();
    let mut lines = sockets.lines().map(|line| line.split_whitespace());
    let mut line = lines
        .find(|line| {
            line.clone()
                .nth(1)
                .is_some_and(|local| local.ends_with(&port))
        })
        .unwrap();
    line.next_back().unwrap().parse().unwrap()
}

/// Two processes share an address, and the kernel spreads the peers over them.
#[test]
fn sockets_can_share_an_address() {
    let first = start(
        echo_datagram,
        "poll",
        "udp://127.0.0.1:0",
        &["--reuse-port"],
    );
    let address = first.server.address();
    let url = format!("udp://{address}");
    let second = start(echo_datagram, "poll", &url, &["--reuse-port"]);
    let received = || [&first, &second].map(|it| datagrams(&it.status(), "received"));
    let mut peers = 0;
    while received().contains(&0) {
        Peer::of(address).check("hello", "hello");
        peers += 1;
        assert!(peers < 200, "one of them gets nothing: {:?}", received());
    }
    // One that does not share it is refused.
    let refused = sockserve(["serve", "builtin:echo-datagram", "--listen", &url]);
    assert_eq!(refused.status, Some(1));
    assert!(refused.stderr[0].contains("in use"), "{refused:?}");
    first.server.stop().check_no_alarm();
    second.server.stop().check_no_alarm();
}
