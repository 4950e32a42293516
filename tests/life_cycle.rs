//! What a handler has of its service's life cycle: who may come in, what has failed, and work
//! from time to time. The guest is `door`, which says in the log what was called.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;

use rustix::net::{AddressFamily, SocketType};
use rustix::process::getuid;
use serde_json::Value;

use crate::harness::command::sockserve;
use crate::harness::control::{Controlled, failed};
use crate::harness::log::Event;
use crate::harness::server::{CACHE, Finished};
use crate::harness::{Client, Guest, PATIENCE, text};

/// The guest's shortest deadline, for calls that wait for longer than any.
const DEADLINE: [&str; 2] = ["--deadline", "200ms"];

const TOLD_NO_MORE: &str =
    "a call of `error` has failed, and the handler is told of no more failures";

/// Starts a door with these variables and options.
#[track_caller]
fn start(guest: Guest, dispatch: &str, variables: &[&str], options: &[&str]) -> Controlled {
    start_at("tcp://127.0.0.1:0", guest, dispatch, variables, options)
}

#[track_caller]
fn start_at(
    url: &str,
    guest: Guest,
    dispatch: &str,
    variables: &[&str],
    options: &[&str],
) -> Controlled {
    let mut all = vec!["--cache", CACHE];
    all.extend(variables.iter().flat_map(|it| ["--env", it]));
    all.extend(options);
    Controlled::listening(guest, dispatch, &[url], &all)
}

/// A client with an even port, or with an odd one. The system itself gives mostly one kind.
#[track_caller]
fn client(controlled: &Controlled, is_even: bool) -> Client {
    let mut port = 0;
    loop {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if rustix::net::bind(&socket, &wanted).is_err() {
            // It is somebody else's.
            port = 0;
            continue;
        }
        let bound = rustix::net::getsockname(&socket).unwrap();
        let bound = SocketAddr::try_from(bound).unwrap();
        if bound.port().is_multiple_of(2) == is_even {
            rustix::net::connect(&socket, &controlled.server.address()).unwrap();
            return Client::of_unix(UnixStream::from(socket));
        }
        port = bound.port() ^ 1;
    }
}

/// Whether a guest has printed this.
fn printed(event: &Event, line: &str) -> bool {
    event.is_guest() && event.message() == line
}

/// Waits until a guest has printed this.
#[track_caller]
fn wait_for_line(controlled: &Controlled, line: &str) -> Event {
    controlled
        .server
        .wait_for_log(line, |event| printed(event, line))
}

/// Waits until a guest has printed what begins with this.
#[track_caller]
fn wait_for_start(controlled: &Controlled, start: &str) -> Event {
    controlled.server.wait_for_log(start, |event| {
        event.is_guest() && event.message().starts_with(start)
    })
}

/// Waits until there are so many lines of the log that fit.
#[track_caller]
fn wait_for_many(controlled: &Controlled, count: usize, wanted: impl Fn(&Event) -> bool) {
    let (mut seen, what) = (0, format!("{count} lines"));
    controlled.server.wait_for_log(&what, |event| {
        seen += usize::from(wanted(event));
        seen == count
    });
}

/// How many lines of the log so far fit.
fn so_far(controlled: &Controlled, wanted: impl Fn(&Event) -> bool) -> usize {
    let lines = controlled.server.process.stderr.lines();
    let events = lines.iter().filter_map(|line| Event::parse(line));
    events.filter(wanted).count()
}

fn is_tick(event: &Event) -> bool {
    event.is_guest() && event.message().starts_with("tick ")
}

fn number(status: &Value, key: &str) -> u64 {
    status[key].as_u64().unwrap()
}

/// Waits until nobody is connected, and checks that everybody is counted once.
#[track_caller]
fn at_rest(controlled: &Controlled, accepted: u64) -> Value {
    let ended = |status: &Value| {
        number(status, "handled") + number(&status["refused"], "handler") + failed(status)
    };
    let status = controlled.wait_for_status("nobody", |status| {
        status["open"] == 0 && status["accepted"] == accepted && ended(status) >= accepted
    });
    assert_eq!(ended(&status), accepted, "{status:#}");
    status
}

/// How often the guests have printed this.
fn count(finished: &Finished, line: &str) -> usize {
    finished
        .guest_lines()
        .iter()
        .filter(|it| **it == line)
        .count()
}

for_each_pair! { door: a_peer_comes_in_or_not }
/// S7. Who is refused sees a close without a byte, and the handler never sees him.
fn a_peer_comes_in_or_not(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, &["VERIFY=even"], &[]);
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        let mut refused = client(&controlled, false);
        // What he has sent does not turn the close into a reset.
        refused.send_some(b"hello\n");
        outside.push(refused.local());
        refused.expect_eof();
        drop(refused);
        let mut served = client(&controlled, true);
        inside.push(served.local());
        served.check_echo("hello\n");
    }
    let status = at_rest(&controlled, 20);
    assert_eq!(status["refused"]["handler"], 10, "{status:#}");
    assert_eq!(status["handled"], 10, "{status:#}");
    assert_eq!(
        status["versions"][0]["refused-by-handler"], 10,
        "{status:#}"
    );
    let shown = controlled.command(["status"]);
    let said = "rate-per-source 0  handler 10";
    assert!(
        shown.stdout.iter().any(|line| line.ends_with(said)),
        "{shown:?}"
    );
    let finished = controlled.server.stop();
    // It is no failure, and nothing to warn of.
    finished.check_no_alarm();
    for (peers, comes_in) in [(inside, true), (outside, false)] {
        for peer in &peers {
            // A port may have come again.
            let asked = peers.iter().filter(|it| *it == peer).count();
            let served = if comes_in { asked } else { 0 };
            assert_eq!(count(&finished, &format!("verify {peer}")), asked);
            assert_eq!(count(&finished, &format!("setup {peer}")), served);
            assert_eq!(count(&finished, &format!("finish {peer}")), served);
        }
    }
    let refused = "connection refused: the handler did not let it in: its port is odd";
    let lines = finished.log.iter().filter(|it| it.message() == refused);
    assert_eq!(lines.count(), 10);
}

for_each_pair! { door by default: a_peer_comes_in_by_its_user }
/// S7, over a Unix socket, where the kernel vouches for the user.
fn a_peer_comes_in_by_its_user(guest: Guest, dispatch: &str) {
    let own = getuid().as_raw();
    for (user, comes_in) in [(own, true), (own + 1, false)] {
        let folder = crate::harness::scratch::Scratch::new();
        let path = folder.path("door");
        let url = format!("unix://{}", path.display());
        let variable = format!("VERIFY=user:{user}");
        let controlled = start_at(&url, guest, dispatch, &[&variable], &[]);
        let mut client = Client::connect_unix(&path);
        if comes_in {
            client.check_echo("hello\n");
            client.finish_sending();
        }
        client.expect_eof();
        drop(client);
        let status = at_rest(&controlled, 1);
        assert_eq!(status["handled"] == 1, comes_in, "{status:#}");
        controlled.server.stop().check_no_alarm();
    }
}

for_each_pair! { door without sequential: a_fault_in_verify_costs_its_instance }
/// A trap and a call that takes too long cost the connection that was asked about. If one
/// instance serves all, they cost the others too.
fn a_fault_in_verify_costs_its_instance(guest: Guest, dispatch: &str) {
    for (fault, reason) in [("trap", "trap"), ("wait", "deadline")] {
        let variable = format!("VERIFY={fault}");
        let controlled = start(guest, dispatch, &[&variable], &DEADLINE);
        let mut other = client(&controlled, true);
        other.check_echo("hello\n");
        let mut asked = client(&controlled, false);
        assert_eq!(text(asked.drain()), "");
        let shared = guest.shares_instance(dispatch);
        if shared {
            assert_eq!(text(other.drain()), "");
        } else {
            other.check_echo("still here\n");
        }
        // The next one is asked about in another instance.
        client(&controlled, true).check_echo("hello\n");
        drop((asked, other));
        let status = at_rest(&controlled, 3);
        assert_eq!(
            status["failed"][reason],
            1 + u64::from(shared),
            "{status:#}"
        );
        assert_eq!(status["refused"]["handler"], 0, "{status:#}");
        controlled.server.stop();
    }
}

for_each_pair! { door: what_was_verified_is_not_verified_again }
fn what_was_verified_is_not_verified_again(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, &[], &["--drain-timeout", "1h"]);
    let mut client = client(&controlled, true);
    client.check_echo("before\n");
    controlled.swap_at_once(controlled.scratch.build(guest, 1));
    client.check_echo("after\n");
    let status = controlled.wait_for_settled(1);
    assert_eq!(status["hand-overs"]["handed-over"], 1, "{status:#}");
    let peer = client.local();
    drop(client);
    let finished = controlled.server.stop();
    finished.check_no_alarm();
    assert_eq!(count(&finished, &format!("verify {peer}")), 1);
    assert_eq!(count(&finished, &format!("setup {peer}")), 2);
}

for_each_pair! { door: an_error_is_told }
/// S8. Whoever fails, the handler is told with the peer's address, after its own `finish`.
fn an_error_is_told(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, &[], &[]);
    let mut failing = client(&controlled, true);
    let failing_peer = failing.local();
    failing.send("fail\n");
    failing.expect_eof();
    drop(failing);
    let said = "the handler returned an error: asked to fail";
    let error = format!("error of {failing_peer} by Fault::Guest: {said}");
    wait_for_line(&controlled, &error);
    let mut resetting = client(&controlled, true);
    let resetting_peer = resetting.local();
    resetting.check_echo("hello\n");
    resetting.reset();
    let reset = format!("error of {resetting_peer} by Fault::Peer: ");
    wait_for_start(&controlled, &reset);
    let mut last = client(&controlled, true);
    last.send("counts\n");
    // An instance of its own knows of nobody else.
    last.expect(if guest.shares_instance(dispatch) {
        "verified 3 errors 2 ticks 0\n"
    } else {
        "verified 1 errors 0 ticks 0\n"
    });
    drop(last);
    let status = at_rest(&controlled, 3);
    assert_eq!(status["failed"]["error"], 1, "{status:#}");
    assert_eq!(status["failed"]["peer"], 1, "{status:#}");
    let finished = controlled.server.stop();
    let lines = finished.guest_lines();
    for (peer, told) in [(failing_peer, error), (resetting_peer, reset)] {
        let place = |start: &str| {
            lines
                .iter()
                .position(|line| line.starts_with(start))
                .unwrap()
        };
        // S1: `finish` runs whatever happened in `handle`.
        let end = place(&format!("finish {peer}"));
        assert!(place(&format!("setup {peer}")) < end, "{lines:#?}");
        assert!(end < place(&told), "{lines:#?}");
    }
}

for_each_pair! { door: a_trap_is_told_to_another_instance }
/// S8. The instance that could `finish` is gone; another one is told.
fn a_trap_is_told_to_another_instance(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, &[], &[]);
    let mut trapping = client(&controlled, true);
    let peer = trapping.local();
    trapping.send("trap\n");
    trapping.expect_eof();
    drop(trapping);
    // Nobody else has to come for that.
    let told = wait_for_start(&controlled, &format!("error of {peer} by Fault::Guest: "));
    assert!(told.message().contains("the guest trapped: "), "{told:?}");
    let mut last = client(&controlled, true);
    last.send("counts\n");
    last.expect(if guest.shares_instance(dispatch) {
        "verified 1 errors 1 ticks 0\n"
    } else {
        "verified 1 errors 0 ticks 0\n"
    });
    drop(last);
    at_rest(&controlled, 2);
    let finished = controlled.server.stop();
    assert_eq!(count(&finished, &format!("setup {peer}")), 1);
    assert_eq!(count(&finished, &format!("finish {peer}")), 0);
}

for_each_pair! { door without sequential: a_fault_in_error_is_the_last }
/// What is to tell of failures fails itself: it is told of no more. Where one instance serves
/// all, its connections end by that, once.
fn a_fault_in_error_is_the_last(guest: Guest, dispatch: &str) {
    let fail = |controlled: &Controlled| {
        let mut failing = client(controlled, true);
        failing.send("fail\n");
        failing.drain();
    };
    for fault in ["ERROR=trap", "ERROR=wait"] {
        let controlled = start(guest, dispatch, &[fault], &DEADLINE);
        let mut other = client(&controlled, true);
        other.check_echo("hello\n");
        fail(&controlled);
        controlled
            .server
            .wait_for_log(TOLD_NO_MORE, |event| event.message() == TOLD_NO_MORE);
        let shared = guest.shares_instance(dispatch);
        if shared {
            assert_eq!(text(other.drain()), "");
            other = client(&controlled, true);
        }
        other.check_echo("hello\n");
        fail(&controlled);
        other.check_echo("still here\n");
        drop(other);
        at_rest(&controlled, 3 + u64::from(shared));
        let finished = controlled.server.stop();
        let told = finished.guest_lines();
        let told = told.iter().filter(|line| line.starts_with("error of "));
        assert_eq!(told.count(), 1);
        let alarms = finished.alarms();
        let over = alarms.iter().filter(|it| it.message() == TOLD_NO_MORE);
        assert_eq!(over.count(), 1, "{alarms:#?}");
    }
}

for_each_pair! { door: ticks_come_between_requests }
/// S9. Again and again, before the first connection, beside one, and after it; but not while
/// the service drains.
fn ticks_come_between_requests(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, &["INTERVAL=1"], &["--drain-timeout", "1h"]);
    let shared = guest.shares_instance(dispatch);
    if shared {
        // One instance has counted them.
        wait_for_line(&controlled, "tick 3");
    } else {
        // Each had an instance of its own.
        wait_for_many(&controlled, 3, |event| printed(event, "tick 1"));
    }
    let mut client = client(&controlled, true);
    client.check_echo("hello\n");
    let ticks = |client: &mut Client| -> u64 {
        client.send("counts\n");
        let counts = client.line();
        counts
            .trim_end()
            .rsplit(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    };
    let begun = ticks(&mut client);
    assert_eq!(begun >= 3, shared);
    if shared {
        wait_for_line(&controlled, &format!("tick {}", begun + 3));
        assert!(ticks(&mut client) >= begun + 3);
    }
    controlled.server.terminate();
    let draining = |event: &Event| event.message() == "draining";
    controlled.server.wait_for_log("draining", draining);
    for _ in 0..2000 {
        client.check_echo("still here\n");
    }
    drop(client);
    let finished = controlled.server.finish();
    finished.check_no_alarm();
    let begun = finished.log.iter().position(draining).unwrap();
    let late = finished.log[begun..]
        .iter()
        .filter(|it| is_tick(it))
        .count();
    // One may have been under way, and its line as well.
    assert!(late <= 2, "{late} of {}", finished.log.len());
}

for_each_pair! { door shared: each_event_loop_has_its_ticks }
/// Each instance counts its own, and none misses one because another had it first.
fn each_event_loop_has_its_ticks(guest: Guest, dispatch: &str) {
    let variables = ["INTERVAL=1", "ROLLING=1"];
    let controlled = start(guest, dispatch, &variables, &["--loops", "3"]);
    for tick in ["tick 1", "tick 2", "tick 5"] {
        wait_for_many(&controlled, 3, |event| printed(event, tick));
    }
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { door, door_datagrams: a_fault_in_tick_does_not_end_the_ticks }
fn a_fault_in_tick_does_not_end_the_ticks(guest: Guest, dispatch: &str) {
    for fault in ["TICK=trap", "TICK=wait"] {
        let url = if guest.takes_datagrams() {
            "udp://127.0.0.1:0"
        } else {
            "tcp://127.0.0.1:0"
        };
        let variables = [fault, "INTERVAL=20"];
        let controlled = start_at(url, guest, dispatch, &variables, &DEADLINE);
        let wanted = match (guest.shares_instance(dispatch), fault) {
            (false, _) => "`tick` failed: the guest trapped: ",
            (true, _) if guest.takes_datagrams() => "instance died: the guest trapped: ",
            (true, _) => "instance died and its connections are closed: the guest trapped: ",
        };
        let is_failed = |event: &Event| event.is_alarm() && event.message().starts_with(wanted);
        wait_for_many(&controlled, 2, is_failed);
        let status = controlled.status();
        assert_eq!(failed(&status), 0, "{status:#}");
        if !guest.shares_instance(dispatch) && !guest.takes_datagrams() {
            // Its own instance has nothing to do with it.
            let mut client = client(&controlled, true);
            client.check_echo("hello\n");
            let before = so_far(&controlled, is_failed);
            wait_for_many(&controlled, before + 1, is_failed);
            client.check_echo("still here\n");
        }
        controlled.server.stop();
    }
}

for_each_pair! { door_datagrams: ticks_come_between_datagrams }
fn ticks_come_between_datagrams(guest: Guest, dispatch: &str) {
    let url = "udp://127.0.0.1:0";
    let controlled = start_at(url, guest, dispatch, &["INTERVAL=1"], &[]);
    let shared = guest.shares_instance(dispatch);
    let third = if shared { "tick 3" } else { "tick 1" };
    wait_for_many(&controlled, 1, |event| printed(event, third));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(controlled.server.address()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut last = 0;
    for _ in 0..3 {
        socket.send(b"counts").unwrap();
        let mut answer = [0; 100];
        let length = socket.recv(&mut answer).unwrap();
        let answer = std::str::from_utf8(&answer[..length]).unwrap();
        let ticks = answer.strip_prefix("verified 0 errors 0 ticks ");
        let ticks: u64 = ticks.unwrap().parse().unwrap();
        assert_eq!(ticks > last, shared, "{answer}");
        last = ticks;
        // While there is nothing to receive, and after there was something.
        wait_for_many(&controlled, 1, |event| {
            !shared || printed(event, &format!("tick {}", last + 3))
        });
    }
    let finished = controlled.server.stop();
    finished.check_no_alarm();
    // It is about nobody, whoever has sent the datagram before it.
    for tick in finished.log.iter().filter(|event| is_tick(event)) {
        assert_eq!(tick.str("peer"), "", "{tick:?}");
    }
}

for_each_pair! { door: a_swap_changes_the_exports }
/// A version has its own: with one that exports none, everybody comes in, and nothing ticks.
fn a_swap_changes_the_exports(guest: Guest, dispatch: &str) {
    let variables = ["VERIFY=even", "INTERVAL=1"];
    let controlled = start(guest, dispatch, &variables, &[]);
    client(&controlled, false).expect_eof();
    controlled.swap(guest.in_family("echo").path(), &[]);
    let mut odd = client(&controlled, false);
    odd.check_echo("hello\n");
    odd.check_echo("hello\n");
    let before = so_far(&controlled, is_tick);
    for _ in 0..2000 {
        odd.check_echo("hello\n");
    }
    // One may have been under way when the version was replaced, and its line as well.
    assert!(so_far(&controlled, is_tick) <= before + 2);
    drop(odd);
    controlled.wait_for_status("nobody", |status| status["open"] == 0);
    controlled.swap(controlled.scratch.build(guest, 1), &[]);
    client(&controlled, false).expect_eof();
    client(&controlled, true).check_echo("hello\n");
    let status = at_rest(&controlled, 4);
    assert_eq!(status["refused"]["handler"], 2, "{status:#}");
    let before = so_far(&controlled, is_tick);
    wait_for_many(&controlled, before + 1, is_tick);
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { door by default, door_datagrams by default: inspect_names_what_there_is }
fn inspect_names_what_there_is(guest: Guest, _: &str) {
    let outcome = sockserve(["inspect".as_ref(), guest.path().as_os_str()]);
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    let line = outcome
        .stdout
        .iter()
        .find(|it| it.starts_with("life cycle"));
    let ticks = "tick (from time to time)";
    let expected = if guest.takes_datagrams() {
        format!("life cycle  {ticks}")
    } else {
        format!(
            "life cycle  verify (which peers come in), error (which connections failed), {ticks}"
        )
    };
    assert_eq!(line, Some(&expected), "{outcome:?}");
    // A command of it listens by itself, and has no such service.
    let folder = crate::harness::scratch::Scratch::new();
    let composed = folder.path("composed.wasm");
    let outcome = sockserve([
        "compose".as_ref(),
        guest.path().as_os_str(),
        "-o".as_ref(),
        composed.as_os_str(),
    ]);
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    let outcome = sockserve(["inspect".as_ref(), composed.as_os_str()]);
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    assert!(!outcome.stdout.iter().any(|it| it.starts_with("life cycle")));
}
