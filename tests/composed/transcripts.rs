//! The same bytes as under `serve`, for each family and mode.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::{Composed, for_each_host};
use crate::harness::scratch::Scratch;
use crate::harness::{Client, Guest, PATIENCE, Serve, noise, text};

/// What a peer sends; after the last piece it half-closes.
type Pieces = &'static [&'static [u8]];

/// What peers say to every service.
const TALKS: [Pieces; 6] = [
    &[],
    &[b"hello"],
    &[b"  hello world \r\n"],
    &[b"one\r\ntwo\n\0\xff", b"\r\n\r\n", b"more\r\n\r\n"],
    &[&[b'x'; 3000]],
    &[b"GET / HTTP/1.0\r\n\r\n"],
];

/// The options of a family that change what is on the wire.
fn modes(guest: Guest) -> &'static [&'static str] {
    match guest.family() {
        "echo" if guest.takes_datagrams() => &["PREFIX=echo:"],
        "echo" => &[
            "MODE=stream",
            "MODE=line",
            "MODE=once",
            "MODE=upper",
            "MODE=hello",
        ],
        "time" if guest.takes_datagrams() => &["MODE=request"],
        "time" => &[
            "MODE=daytime",
            "MODE=request",
            "MODE=line",
            "MODE=event",
            "MODE=terminator",
        ],
        "small" if guest.takes_datagrams() => &["SERVICE=chargen", "SERVICE=time", "SERVICE=qotd"],
        "small" => &[
            "SERVICE=discard",
            "SERVICE=time",
            "SERVICE=qotd",
            "SERVICE=log",
        ],
        _ => &["NONE=1"],
    }
}

/// What answers have in common, whenever they are given.
fn timeless(guest: Guest, mode: &str, answer: &[u8]) -> String {
    let is_binary_time = mode == "SERVICE=time";
    match guest.family() {
        "small" if is_binary_time => answer.len().to_string(),
        "time" => text(answer).replace(|character: char| character.is_ascii_digit(), "0"),
        _ => text(answer),
    }
}

/// All that a peer gets. An answer to each piece is not waited for: what comes does not
/// depend on how the pieces travel, because each is a segment of its own.
#[track_caller]
fn transcript(address: SocketAddr, pieces: Pieces) -> Vec<u8> {
    let mut client = Client::connect(address);
    for piece in pieces {
        client.send_some(piece);
    }
    client.finish_sending();
    client.read_to_end()
}

for_each_pair! { echo by default, upper by default, time by default, small by default: peers_of_a_command_see_what_peers_of_a_service_see }
fn peers_of_a_command_see_what_peers_of_a_service_see(guest: Guest, dispatch: &str) {
    let composed = Composed::of(guest);
    for mode in modes(guest) {
        let served = Serve::guest(guest, dispatch)
            .compiled_once()
            .env(mode)
            .start();
        let talk = |address| {
            // One piece a talk, but where the boundaries do not matter. They do for the
            // time by line, which answers each chunk that has a line's end.
            let torn = guest.family() != "time"
                && matches!(*mode, "MODE=stream" | "MODE=line" | "SERVICE=discard");
            let talks = TALKS.iter().filter(|talk| torn || talk.len() < 2);
            let answers = talks.map(|talk| timeless(guest, mode, &transcript(address, talk)));
            answers.collect::<Vec<_>>()
        };
        let expected = talk(served.address());
        for_each_host("peers_of_a_command", |host| {
            let running = composed.serve(host, &["--env", mode]);
            assert_eq!(talk(running.address()), expected, "{host:?} {mode}");
            running.check_no_error();
        });
    }
}

for_each_pair! { echo_datagrams by default, time_datagrams by default, small_datagrams by default: datagrams_are_answered_as_by_a_service }
fn datagrams_are_answered_as_by_a_service(guest: Guest, dispatch: &str) {
    let composed = Composed::of(guest);
    for mode in modes(guest) {
        let served = Serve::guest(guest, dispatch)
            .compiled_once()
            .env(mode)
            .listen("udp://127.0.0.1:0")
            .start();
        let talk = |address: SocketAddr| {
            let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
            peer.set_read_timeout(Some(PATIENCE)).unwrap();
            peer.connect(address).unwrap();
            let mut room = vec![0; 1 << 16];
            let mut ask = |data: &[u8]| {
                peer.send(data).unwrap();
                let length = peer.recv(&mut room).unwrap();
                timeless(guest, mode, &room[..length])
            };
            // One that is too long has no answer: the next answer is to the next one.
            let answers = [&b""[..], b"x", &[b'y'; 100]].map(&mut ask);
            peer.send(&[b'z'; 2000]).unwrap();
            [answers.to_vec(), vec![ask(b"last")]].concat()
        };
        let expected = talk(served.address());
        for_each_host("datagrams_are_answered", |host| {
            let running = composed.serve(host, &["--env", mode]);
            assert_eq!(talk(running.address()), expected, "{host:?} {mode}");
            running.check_no_error();
        });
    }
}

for_each_pair! { chat by default: members_of_a_composed_chat_hear_each_other }
fn members_of_a_composed_chat_hear_each_other(guest: Guest, _: &str) {
    let composed = Composed::of(guest);
    for_each_host("members_of_a_composed_chat", |host| {
        let running = composed.serve(host, &[]);
        let join = || {
            let mut member = running.connect();
            member.expect(crate::chat::WELCOME);
            member
        };
        let mut ann = join();
        let mut bob = join();
        let bob_is = bob.local();
        ann.expect(format!("Client joined {bob_is}\r\n"));
        bob.send("hello\r\n");
        ann.expect(format!("[{bob_is}] hello\r\n"));
        ann.send("one\ntwo\n");
        let ann_is = ann.local();
        bob.expect(format!("[{ann_is}] one\n[{ann_is}] two\n"));
        bob.finish_sending();
        bob.expect_eof();
        ann.expect(format!("Client left {bob_is}\r\n"));
        drop(bob);
        // A member that is reset has left too.
        let eve = join();
        let eve_is = eve.local();
        ann.expect(format!("Client joined {eve_is}\r\n"));
        eve.reset();
        ann.expect(format!("Client left {eve_is}\r\n"));
        running.check_no_error();
    });
}

for_each_pair! { http by default: files_are_served_by_a_composed_command }
/// The streams of files are of the same type as those of connections.
fn files_are_served_by_a_composed_command(guest: Guest, _: &str) {
    let composed = Composed::of(guest);
    let scratch = Scratch::new();
    let content = noise(300_000);
    std::fs::write(scratch.path("a.bin"), &content).unwrap();
    let directory = format!("{}::/", scratch.path("").display());
    for_each_host("files_are_served", |host| {
        let running = composed.serve(host, &["--dir", &directory]);
        let mut client = running.connect();
        client.send("GET /a.bin HTTP/1.0\r\n\r\n");
        let answer = client.read_to_end();
        assert!(answer.starts_with(b"HTTP/1."), "{}", text(&answer));
        assert!(answer.ends_with(&content));
        let mut client = running.connect();
        client.send("GET /../secret HTTP/1.0\r\n\r\n");
        let answer = text(client.read_to_end());
        assert!(
            answer.contains(" 404 ") || answer.contains(" 400 "),
            "{answer}"
        );
    });
}

for_each_pair! { echo by default: nothing_is_lost_under_back_pressure }
fn nothing_is_lost_under_back_pressure(guest: Guest, _: &str) {
    let composed = Composed::of(guest);
    let bytes = noise(8 << 20);
    for_each_host("nothing_is_lost", |host| {
        let running = composed.serve(host, &[]);
        let mut client = running.connect();
        let mut sender = client.another();
        thread::scope(|scope| {
            scope.spawn(|| {
                sender.send(&bytes);
                sender.finish_sending();
            });
            // Reading begins when nothing can be sent any more, or is soon to.
            assert!(client.read_to_end() == bytes, "{host:?}: bytes are wrong");
        });
        running.check_no_error();
    });
}

for_each_pair! { echo [evented_poll, concurrent_poll], upper [evented_poll, concurrent_poll]: all_peers_are_served_at_once }
fn all_peers_are_served_at_once(guest: Guest, _: &str) {
    let composed = Composed::of(guest);
    for_each_host("all_peers_are_served", |host| {
        let running = composed.serve(host, &["--env", "MODE=stream"]);
        let mut clients: Vec<Client> = (0..300).map(|_| running.connect()).collect();
        for round in 0..3 {
            let said = |number| format!("{number} IN ROUND {round}\n");
            for (number, client) in clients.iter_mut().enumerate().rev() {
                client.send(said(number));
            }
            for (number, client) in clients.iter_mut().enumerate() {
                client.expect(said(number));
            }
            if guest.family() == "upper" {
                // It answers once.
                break;
            }
        }
        running.check_no_error();
    });
}

for_each_pair! { echo [evented_poll, concurrent_poll]: busy_peers_keep_nobody_out }
/// They talk on until each of them has had 20 answers. Beyond 128 that are ready at once
/// wasmtime's own order would starve some (wasmtime #14174).
fn busy_peers_keep_nobody_out(guest: Guest, _: &str) {
    const PEERS: usize = 150;
    let composed = Composed::of(guest);
    for_each_host("busy_peers", |host| {
        let running = composed.serve(host, &[]);
        let waiting = AtomicUsize::new(PEERS);
        let clients: Vec<Client> = (0..PEERS).map(|_| running.connect()).collect();
        thread::scope(|scope| {
            for mut client in clients {
                let waiting = &waiting;
                scope.spawn(move || {
                    let mut answers = 0;
                    while waiting.load(Ordering::Relaxed) > 0 {
                        client.check_echo([b'x'; 1000]);
                        answers += 1;
                        if answers == 20 {
                            waiting.fetch_sub(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        running.check_no_error();
    });
}

for_each_pair! { time [blocking_threaded]: a_blocking_handler_serves_one_after_the_other }
/// T3 by another road.
fn a_blocking_handler_serves_one_after_the_other(guest: Guest, _: &str) {
    let composed = Composed::of(guest);
    for_each_host("a_blocking_handler", |host| {
        let running = composed.serve(host, &["--env", "MODE=event"]);
        let mut first = running.connect();
        first.send("x");
        let answer = first.read_exact(crate::harness::ctime::LENGTH);
        let mut next = running.connect();
        next.send("y");
        first.send("z");
        first.read_exact(answer.len());
        assert!(next.is_silent());
        first.finish_sending();
        first.expect_eof();
        next.read_exact(answer.len());
    });
}
