//! Peers that mean no good, of every kind that TCP allows, and what the counts say
//! of them afterwards: the same whatever the contract is.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use rustix::net::SendFlags;
use serde_json::Value;

use crate::harness::control::{Controlled, failed, http, request};
use crate::harness::guests::echo_evented;
use crate::harness::{Client, Guest, PATIENCE, noise};

/// A peer that comes and resets.
type Reset = fn(&Controlled);

/// Waits until nobody is connected, and checks that everybody is counted once.
#[track_caller]
fn at_rest(controlled: &Controlled, accepted: u64) -> Value {
    let status = controlled.wait_for_status("nobody", |status| {
        // What has just been accepted is in no other count yet.
        let ended = status["handled"].as_u64().unwrap() + failed(status);
        status["open"] == 0 && status["accepted"] == accepted && ended >= accepted
    });
    assert_eq!(
        status["handled"].as_u64().unwrap() + failed(&status),
        accepted,
        "{status:#}"
    );
    status
}

for_each_pair! { echo, echo_commands: a_reset_is_counted_the_same_everywhere }
/// A peer that resets is one that failed, by its own doing, under each contract and
/// wherever the reset met the handler.
// From: 824a11e.
fn a_reset_is_counted_the_same_everywhere(guest: Guest, dispatch: &str) {
    let resets: [(&str, Reset); 4] = [
        ("at once", |controlled| {
            let client = controlled.server.connect();
            controlled.server.wait_for_open(&client);
            client.reset();
        }),
        ("while it is waited for", |controlled| {
            let mut client = controlled.server.connect();
            client.check_echo("hello\n");
            client.reset();
        }),
        ("while the handler cannot write", |controlled| {
            let mut client = Client::connect_narrow(controlled.server.address());
            client.send_until_stuck(&noise(24 << 20));
            client.reset();
        }),
        ("while its last answer is on its way", |controlled| {
            let mut client = Client::connect_narrow(controlled.server.address());
            let piece = noise(16 << 10);
            let ask = |key: &str| controlled.status()[key].as_u64().unwrap();
            let (bytes_in, bytes_out) = (ask("bytes-in"), ask("bytes-out"));
            let mut sent = 0;
            loop {
                client.send(&piece);
                sent += piece.len() as u64;
                controlled.wait_for_bytes_in(usize::try_from(bytes_in + sent).unwrap());
                // Not because the answer is just being written: it stays so.
                if (0..10).all(|_| ask("bytes-out") - bytes_out < sent) {
                    break;
                }
            }
            client.finish_sending();
            client.reset();
        }),
    ];
    let controlled = Controlled::start(guest, dispatch, &["--linger", "1h"]);
    for (count, (when, reset)) in (1..).zip(resets) {
        reset(&controlled);
        let status = at_rest(&controlled, count);
        assert_eq!(status["failed"]["peer"], count, "{when}: {status:#}");
    }
    // It is nothing to warn of.
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { echo, echo_commands: nobody_is_lost_or_counted_twice }
/// Every kind of them, many times, and nobody is lost, counted twice or kept.
fn nobody_is_lost_or_counted_twice(guest: Guest, dispatch: &str) {
    let bytes = noise(30_000);
    let peers: [fn(Client, &[u8]); 12] = [
        |client, _| client.reset(),
        |client, _| drop(client),
        |mut client, _| {
            client.finish_sending();
            client.expect_eof();
        },
        |mut client, _| {
            client.finish_sending();
            client.reset();
        },
        |mut client, bytes| {
            client.send(bytes);
            client.reset();
        },
        |mut client, bytes| {
            client.send(bytes);
            client.read_exact(1);
            // With unread input, which is a reset.
            drop(client);
        },
        |mut client, bytes| {
            client.send(bytes);
            client.finish_sending();
            client.reset();
        },
        |mut client, bytes| {
            client.check_echo(bytes);
            client.reset();
        },
        // Both close at the same time.
        |mut client, bytes| {
            client.send(bytes);
            client.finish_sending();
            client.read_exact(bytes.len());
            client.reset();
        },
        // Urgent bytes are no part of the stream.
        |mut client, bytes| {
            rustix::net::send(client.socket(), b"!", SendFlags::OOB).unwrap();
            client.check_echo(bytes);
            rustix::net::send(client.socket(), b"!", SendFlags::OOB).unwrap();
            client.finish_sending();
            client.expect_eof();
        },
        |mut client, _| {
            for byte in b"one by one" {
                client.send([*byte]);
            }
            client.expect("one by one");
        },
        // It is told nothing more, and says nothing more.
        |mut client, bytes| {
            client.socket().shutdown(Shutdown::Read).unwrap();
            client.send_some(bytes);
            client.reset();
        },
    ];
    const ROUNDS: u64 = 8;
    let controlled = Controlled::start(guest, dispatch, &[]);
    for _ in 0..ROUNDS {
        for peer in peers {
            peer(controlled.server.connect(), &bytes);
        }
    }
    // All at once, and none of them says anything.
    let silent: Vec<Client> = (0..300).map(|_| controlled.server.connect()).collect();
    if dispatch != "sequential" {
        controlled.server.connect().check_echo("beside them\n");
    }
    drop(silent);
    let others = if dispatch == "sequential" { 300 } else { 301 };
    let all = ROUNDS * peers.len() as u64 + others;
    let status = at_rest(&controlled, all);
    let failed = &status["failed"];
    let total = status["accepted"].as_u64().unwrap() - status["handled"].as_u64().unwrap();
    assert_eq!(failed["peer"], total, "{failed:#}");
    controlled.server.stop().check_no_alarm();
}

/// Whatever comes on the control socket is answered or not, and the next request
/// is.
#[test]
fn noise_on_the_control_socket_harms_nobody() {
    let controlled = Controlled::start(echo_evented, "poll", &[]);
    let noise = noise(100_000);
    let mut all: Vec<Vec<u8>> = noise.chunks(3000).map(<[u8]>::to_vec).collect();
    let post = "POST /v1/services/echo/swap HTTP/1.1\r\nHost: x\r\n";
    let texts = [
        "\r\n\r\n\r\n",
        "GET /v1/status\r\n\r\n",
        "GET /v1/status HTTP/9.9\r\n\r\n",
        "GET /v1/services/%00%ff HTTP/1.1\r\nHost: x\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}",
    ];
    all.extend(texts.map(|text| text.as_bytes().to_vec()));
    for header in [
        "Content-Length: 99999999999999999999",
        "Content-Length: -1",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 18446744073709551615",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
        "Transfer-Encoding: gzip",
        "Expect: 100-continue\r\nContent-Length: 10",
        "Upgrade: h2c\r\nConnection: upgrade",
    ] {
        all.push(format!("{post}{header}\r\n\r\nffffffffffffffff\r\n").into_bytes());
    }
    all.push(format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20)).into_bytes());
    all.push(format!("{post}{}\r\n", "x: y\r\n".repeat(10_000)).into_bytes());
    for bytes in &all {
        let mut stream = UnixStream::connect(controlled.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        // It may hang up before it has read all.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let end = stream.read_to_end(&mut answer);
        let shown = &bytes[..bytes.len().min(100)].escape_ascii();
        let in_time = end
            .as_ref()
            .err()
            .is_none_or(|error| error.kind() != std::io::ErrorKind::WouldBlock);
        assert!(in_time, "{shown}");
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1."),
            "{shown}"
        );
        assert_eq!(controlled.status()["name"], "echo", "{shown}");
    }
    assert_eq!(controlled.status()["versions"][0]["number"], 1);
    controlled.server.stop().check_no_alarm();
}

/// A body that is no swap is refused in one line.
// From: review of 2026-11-25, 3.17, for `\x+1`.
#[test]
fn bodies_that_are_no_swap_are_refused() {
    let controlled = Controlled::start(echo_evented, "poll", &[]);
    let deep = "[".repeat(60_000);
    for body in [
        "",
        "null",
        "[]",
        "\"x\"",
        "{}",
        &deep,
        r#"{"component":null}"#,
        r#"{"component":["x"]}"#,
        r#"{"component":"x","component":"y"}"#,
        r#"{"component":""}"#,
        r#"{"component":"\u0000"}"#,
        r#"{"component":"builtin:\r\n\u001b[31m\u202e"}"#,
        r#"{"component":"/nowhere/\ud800"}"#,
        r#"{"component":"x","drain-timeout":"99999999999999999999y"}"#,
        r#"{"component":"x","drain-timeout":"-1s"}"#,
        r#"{"component":"x","drain-timeout":30}"#,
        r#"{"component":"x","probe":"send=\\x+1,expect=x"}"#,
        r#"{"component":"x","probe":"\u001b[31m\r\n=x"}"#,
    ] {
        let shown = &body[..body.len().min(100)];
        let swap = request("POST", "/v1/services/echo/swap", body);
        let (line, answer) = http(&controlled.socket(), &swap).unwrap();
        assert!(
            line.contains(" 400 ") || line.contains(" 422 "),
            "{shown}: {line}"
        );
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let error = answer["error"].as_str().unwrap();
        assert!(error.len() < 2000, "{shown}: {error}");
        assert!(!error.contains(char::is_control), "{shown}: {error}");
    }
    assert_eq!(controlled.status()["versions"][0]["number"], 1);
    controlled.server.connect().check_echo("still\n");
}
