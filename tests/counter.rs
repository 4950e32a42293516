//! The counter, which is written with the SDK alone: what the SDK promises, in each
//! contract under each dispatch.

use crate::harness::control::Controlled;
use crate::harness::log::Event;
use crate::harness::pairs::guests_under;
use crate::harness::{Guest, Serve};
use std::fmt::Write as _;
use std::net::UdpSocket;

for_each_pair! { counter: each_line_is_answered_with_its_number }
fn each_line_is_answered_with_its_number(guest: Guest, dispatch: &str) {
    let server = Serve::guest(guest, dispatch).compiled_once().start();
    let mut client = server.connect();
    client.send("one\ntwo\r\n\n");
    client.expect("1 one\n2 two\n3 \n");
    // A line at end of file needs no line ending.
    client.send("last");
    client.finish_sending();
    client.expect("4 last\n");
    client.expect_eof();
    // Each connection has a count of its own.
    let mut client = server.connect();
    client.send("x\n");
    client.expect("1 x\n");
    client.finish_sending();
    client.expect_eof();
    server.stop().check_no_alarm();
}

for_each_pair! { counter: after_the_half_close_it_reads_on }
fn after_the_half_close_it_reads_on(guest: Guest, dispatch: &str) {
    let server = Serve::guest(guest, dispatch).compiled_once().start();
    let mut client = server.connect();
    client.send("one\nend\n");
    client.expect("1 one\n2 end\n");
    // The end of file comes while the peer's own direction is open.
    client.expect_eof();
    client.send("three\n");
    let is_three = |event: &Event| event.is_guest() && event.message() == "3 three";
    server.wait_for_log("a line after the half-close", is_three);
    client.send("four\n");
    client.finish_sending();
    let is_four = |event: &Event| event.is_guest() && event.message() == "4 four";
    server.wait_for_log("the last line", is_four);
    server.wait_for_closed(1);
    server.stop().check_no_alarm();
}

for_each_pair! {
    counter [blocking_threaded, concurrent_threaded, concurrent_poll, evented_poll]:
    a_printed_line_names_its_connection
}
/// Also where one instance serves all, if the host knows for whom the guest writes.
fn a_printed_line_names_its_connection(guest: Guest, dispatch: &str) {
    let server = Serve::guest(guest, dispatch).compiled_once().start();
    let mut clients = [server.connect(), server.connect()];
    for client in &mut clients {
        client.send("end\n");
        client.expect("1 end\n");
        client.expect_eof();
    }
    // One after the other: no turn is about both.
    for (number, client) in (1..).zip(&mut clients) {
        client.send(format!("of {number}\n"));
        let line = format!("2 of {number}");
        server.wait_for_log("the line", |event| {
            event.is_guest() && event.message() == line
        });
    }
    let peers = clients.map(|client| client.local().to_string());
    let finished = server.stop();
    for (number, peer) in (1..).zip(&peers) {
        let line = format!("2 of {number}");
        let is_it = |event: &&Event| event.is_guest() && event.message() == line;
        let event = finished.log.iter().find(is_it).unwrap();
        if (guest.contract(), dispatch) == ("concurrent", "poll") {
            assert_eq!(event.connection(), None, "{event:?}");
        } else {
            assert!(event.connection().is_some(), "{event:?}");
            assert_eq!(event.str("peer"), peer);
        }
    }
}

for_each_pair! { counter: a_line_that_is_no_text_fails_its_own_connection }
fn a_line_that_is_no_text_fails_its_own_connection(guest: Guest, dispatch: &str) {
    let server = Serve::guest(guest, dispatch).compiled_once().start();
    let mut client = server.connect();
    client.send(b"one\n\xff\n");
    // What was written before is sent.
    client.expect("1 one\n");
    client.finish_sending();
    client.expect_eof();
    let mut client = server.connect();
    client.send("x\n");
    client.expect("1 x\n");
    drop(client);
    let finished = server.stop();
    let mut alarms = finished.alarms().into_iter();
    let reason = alarms.next().map(|event| event.message().to_owned());
    assert!(reason.is_some_and(|it| it.contains("invalid utf-8")));
}

for_each_pair! { counter under poll: every_contract_continues_the_connection_of_every_other }
/// A line is half read, and then thousands are on their way, while versions change.
fn every_contract_continues_the_connection_of_every_other(first: Guest, dispatch: &str) {
    const LINES: usize = 4000;
    for other in guests_under("counter", dispatch) {
        println!("from {} to {}", first.name, other.name);
        // Each instance for all has a total, which one for a single connection cannot take.
        let options: &[&str] = match (first.contract(), other.contract()) {
            ("blocking", _) | (_, "blocking") => &["--discard-state"],
            _ => &[],
        };
        let controlled = Controlled::start(first, dispatch, &[]);
        let mut client = controlled.server.connect();
        client.send("one\nhal");
        client.expect("1 one\n");
        controlled.wait_for_bytes_in("one\nhal".len());
        controlled.swap(controlled.scratch.build(other, 1), options);
        controlled.wait_for_settled(1);
        client.send("f\n");
        client.expect("2 half\n");
        // More than fits into the buffers on the way.
        let (mut lines, mut answers) = (String::new(), String::new());
        for number in 3..LINES {
            let _ = writeln!(lines, "{number:0100}");
            let _ = writeln!(answers, "{number} {number:0100}");
        }
        std::thread::scope(|scope| {
            let mut sending = client.stream().try_clone().unwrap();
            scope.spawn(move || std::io::Write::write_all(&mut sending, lines.as_bytes()).unwrap());
            let (half, rest) = answers.split_at(answers.len() / 2);
            client.expect(half);
            controlled.swap(controlled.scratch.build(first, 2), options);
            client.expect(rest);
        });
        controlled.wait_for_settled(1);
        client.finish_sending();
        client.expect_eof();
        controlled.server.stop().check_no_alarm();
    }
}

for_each_pair! { counter_datagrams: each_datagram_is_answered_with_its_number }
fn each_datagram_is_answered_with_its_number(guest: Guest, dispatch: &str) {
    let server = Serve::guest(guest, dispatch)
        .compiled_once()
        .listen("udp://127.0.0.1:0")
        .start();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client
        .set_read_timeout(Some(crate::harness::PATIENCE))
        .unwrap();
    client.connect(server.address()).unwrap();
    let mut answer = [0; 2048];
    for number in 1..=3 {
        // One that is too long is dropped and not counted.
        client.send(&[b'x'; 1025]).unwrap();
        client.send(format!("text {number}").as_bytes()).unwrap();
        let length = client.recv(&mut answer).unwrap();
        let shared = guest.shares_instance(dispatch);
        let count = if shared { number } else { 1 };
        let expected = format!("{count} text {number}");
        assert_eq!(String::from_utf8_lossy(&answer[..length]), expected);
    }
    drop(server.stop());
}
