//! A swap with many connections, which move one group after another if they are independent
//! of each other, and all at once if they are not.

use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::{Flag, STAYS, builds, start};
use crate::chat::WELCOME;
use crate::harness::control::{Controlled, failed};
use crate::harness::{Client, Guest};

/// More than two groups, under every dispatch.
const MANY: usize = 150;
/// How many threads talk over them.
const TALKERS: usize = 3;

#[track_caller]
fn connect(controlled: &Controlled) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..MANY).map(|_| controlled.server.connect()).collect();
    for client in &mut clients {
        client.check_echo("before\n");
    }
    clients
}

/// Asks over each of them, again and again, until it is done. Each answer is that of the old
/// version or that of the new one, and never again that of the old one after that.
#[track_caller]
fn talk(clients: &mut [Client], done: &AtomicBool) {
    let mut is_new = vec![false; clients.len()];
    let mut round = 0;
    while !done.load(Ordering::Relaxed) {
        let (small, large) = (format!("line {round}\n"), format!("LINE {round}\n"));
        for (client, is_new) in clients.iter_mut().zip(&mut is_new) {
            client.send(&small);
            let answer = client.line();
            assert!(answer == large || (answer == small && !*is_new), "{answer}");
            *is_new = answer == large;
        }
        round += 1;
    }
}

/// Talks over all of them while `change` runs.
#[track_caller]
fn talk_during(clients: &mut [Client], change: impl FnOnce()) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let _flag = Flag(&done);
        for clients in clients.chunks_mut(MANY / TALKERS) {
            let done = &done;
            scope.spawn(move || talk(clients, done));
        }
        change();
    });
}

#[track_caller]
fn check_upper(clients: &mut [Client]) {
    for client in clients {
        client.send("after\n");
        client.expect("AFTER\n");
    }
}

for_each_pair! { echo without sequential: everybody_who_talks_arrives }
fn everybody_who_talks_arrives(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, &[]);
    let mut clients = connect(&controlled);
    talk_during(&mut clients, || {
        controlled.swap_at_once(guest.in_family("upper").builtin());
        controlled.wait_for_settled(MANY);
    });
    check_upper(&mut clients);
    let status = controlled.status();
    assert_eq!(status["hand-overs"]["handed-over"], MANY);
    assert_eq!(status["hand-overs"]["refused"], 0);
    assert_eq!(failed(&status), 0, "{status:#}");
    drop(clients);
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { echo without sequential: a_swap_in_the_middle_of_another }
fn a_swap_in_the_middle_of_another(guest: Guest, dispatch: &str) {
    let upper = guest.in_family("upper");
    let controlled = start(guest, dispatch, &[]);
    let mut clients = connect(&controlled);
    for number in [2, 4, 6] {
        // Some are on their way, and some have not been asked.
        controlled.swap_without_waiting(upper.builtin(), number);
        let [build, _] = builds(&controlled, guest);
        controlled.swap_at_once(build);
    }
    controlled.wait_for_settled(MANY);
    for client in &mut clients {
        client.check_echo("after\n");
    }
    let status = controlled.status();
    assert_eq!(failed(&status), 0, "{status:#}");
    assert_eq!(status["hand-overs"]["refused"], 0);
    drop(clients);
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { echo without sequential: an_end_in_the_middle_of_a_swap }
/// One is killed, and the service drains, while connections move: those that have not
/// moved are served on where they are.
fn an_end_in_the_middle_of_a_swap(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, &[]);
    let mut clients = connect(&controlled);
    let last = controlled.server.wait_for_open(&clients[MANY - 1]);
    let number = last.connection().unwrap().to_string();
    controlled.swap_without_waiting(guest.in_family("upper").builtin(), 2);
    controlled.command(["kill", &number]).printed();
    controlled.command(["drain", &controlled.name()]).printed();
    assert!(clients.pop().unwrap().drain().is_empty());
    for client in &mut clients {
        client.send("after\n");
        let answer = client.line();
        assert!(["after\n", "AFTER\n"].contains(&&*answer), "{answer}");
        client.finish_sending();
        client.expect_eof();
    }
    let finished = controlled.server.finish();
    let stopped = finished.log.last().unwrap();
    assert_eq!(stopped.number("handled"), Some(MANY as u64 - 1));
}

for_each_pair! { faults shared: what_had_moved_before_a_trap_goes_on }
/// The instance dies as it gives up the hundredth: groups before have moved, and so do
/// those that it gave up of the group that is under way.
fn what_had_moved_before_a_trap_goes_on(guest: Guest, dispatch: &str) {
    for rolling in [true, false] {
        let mut options = vec!["--env", "HAND_OVER=trap-hundredth"];
        options.extend(if rolling {
            &["--env", "ROLLING=1"][..]
        } else {
            &[]
        });
        let controlled = start(guest, dispatch, &options);
        let mut clients = connect(&controlled);
        controlled.swap_at_once(guest.in_family("upper").builtin());
        let status = controlled.wait_for_settled(99);
        assert_eq!(status["hand-overs"]["handed-over"], 99);
        assert_eq!(failed(&status), MANY as u64 - 99, "{status:#}");
        assert_eq!(status["failed"]["trap"], MANY as u64 - 99);
        let mut answered = 0;
        for client in &mut clients {
            // A connection that is gone may already refuse to be written to.
            client.send_some(b"after\n");
            let _ = client.socket().shutdown(Shutdown::Write);
            let answer = client.drain();
            assert!(answer.is_empty() || answer == b"AFTER\n", "{answer:?}");
            answered += usize::from(!answer.is_empty());
        }
        assert_eq!(answered, 99);
    }
}

for_each_pair! { faults shared: only_what_is_independent_moves_in_groups }
/// The new version dies whenever it is offered something: once, if all are offered
/// together, and once per group otherwise. All go home in any case.
fn only_what_is_independent_moves_in_groups(guest: Guest, dispatch: &str) {
    for rolling in [true, false] {
        let options = if rolling {
            &["--env", "ROLLING=1"][..]
        } else {
            &[]
        };
        let controlled = start(guest, dispatch, options);
        let mut clients = connect(&controlled);
        let swap = ["swap", &controlled.name(), "--env", "HAND_OVER=trap-accept"];
        controlled.command(swap).printed();
        let status = controlled.wait_for_status("the refusals", |status| {
            status["hand-overs"]["refused"] == MANY
        });
        assert_eq!(status["hand-overs"]["handed-over"], 0);
        for client in &mut clients {
            client.check_echo("after\n");
        }
        assert_eq!(failed(&controlled.status()), 0);
        let upper = guest.in_family("upper");
        controlled.swap_at_once(upper.builtin());
        controlled.wait_for_settled(MANY);
        check_upper(&mut clients);
        drop(clients);
        let finished = controlled.server.stop();
        let alarms = finished.alarms();
        let (refusals, deaths): (Vec<_>, Vec<_>) = alarms
            .into_iter()
            .partition(|event| event.message().starts_with(STAYS));
        assert_eq!(refusals.len(), MANY);
        assert!(
            deaths
                .iter()
                .all(|event| event.message().starts_with("instance died")),
            "{deaths:#?}"
        );
        if rolling {
            assert!(deaths.len() > 2, "{}", deaths.len());
        } else {
            assert_eq!(deaths.len(), 1);
        }
    }
}

/// More than a group.
const MEMBERS: usize = 80;

for_each_pair! { chat shared: a_room_does_not_move_in_groups }
/// Each line of one who talks all the time reaches everybody, once and in its place.
fn a_room_does_not_move_in_groups(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, &[]);
    let mut members: Vec<Client> = Vec::new();
    for number in 0..MEMBERS {
        let mut newcomer = controlled.server.connect();
        newcomer.expect(WELCOME);
        for member in &mut members {
            member.expect(format!("Client joined {}\r\n", newcomer.local()));
        }
        assert_eq!(members.len(), number);
        members.push(newcomer);
    }
    let mut speaker = members.pop().unwrap();
    let name = speaker.local();
    let line = |round: usize| format!("[{name}] line {round}\n");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let _flag = Flag(&done);
        let (members, done) = (&mut members, &done);
        scope.spawn(move || {
            let mut round = 0;
            while !done.load(Ordering::Relaxed) {
                speaker.send(format!("line {round}\n"));
                for member in &mut *members {
                    member.expect(line(round));
                }
                round += 1;
            }
            assert!(round > 0);
        });
        for build in builds(&controlled, guest) {
            controlled.swap_at_once(build);
        }
    });
    let status = controlled.wait_for_status("the end of the talk", |status| {
        status["hand-overs"]["handed-over"].as_u64() >= Some(2 * MEMBERS as u64 - 2)
    });
    assert_eq!(failed(&status), 0, "{status:#}");
    assert_eq!(status["hand-overs"]["refused"], 0);
}
