//! A chat room whose version changes while members join, talk and leave: nobody
//! misses a line, hears one twice, or is said to have left or joined who has not.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::{Flag, builds, start};
use crate::chat::WELCOME;
use crate::harness::control::{Controlled, failed};
use crate::harness::guests::{chat_concurrent, chat_evented};
use crate::harness::{Client, Guest};

const SWAPS: usize = 20;
/// Members who stay from the first version to the last.
const RESIDENTS: usize = 6;
/// Places in the room for those who come and go.
const GUEST_ROOMS: usize = 2;
/// What each of those says before it goes.
const LINES: usize = 3;

/// What a member has heard, checked line by line.
#[derive(Default)]
struct Heard {
    /// Who is in the room, and the number of the next line of each.
    members: HashMap<String, usize>,
    /// Whether it has known the room from the beginning. Otherwise it learns of
    /// who was there before when they say something.
    knows_all: bool,
    joins: usize,
}

impl Heard {
    #[track_caller]
    fn hear(&mut self, line: &str) {
        let line = line.trim_end();
        if let Some(name) = line.strip_prefix("Client joined ") {
            let before = self.members.insert(name.to_owned(), 0);
            assert_eq!(before, None, "{line}");
            self.joins += 1;
        } else if let Some(name) = line.strip_prefix("Client left ") {
            let before = self.members.remove(name);
            assert!(before.is_some() || !self.knows_all, "{line}");
        } else {
            let (name, number) = line
                .strip_prefix('[')
                .and_then(|rest| rest.split_once("] line "))
                .unwrap_or_else(|| panic!("what is this? {line}"));
            let number: usize = number.parse().unwrap();
            assert!(self.members.contains_key(name) || !self.knows_all, "{line}");
            let next = self.members.entry(name.to_owned()).or_insert(number);
            assert_eq!(*next, number, "{line}");
            *next += 1;
        }
    }

    /// How many lines this member has said.
    fn lines_of(&self, name: &str) -> usize {
        self.members.get(name).copied().unwrap_or_default()
    }
}

/// Everybody who stays says a line when all who stay have said the last one. That
/// keeps the room busy, and no queue grows.
#[derive(Default)]
struct Rounds {
    state: Mutex<(usize, Option<usize>)>,
}

impl Rounds {
    /// Whether there is a round with this number.
    fn is_on(&self, round: usize) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (highest, last) = &mut *state;
        if last.is_some_and(|last| round > last) {
            return false;
        }
        *highest = round.max(*highest);
        true
    }

    /// The last round is the one that the fastest is in.
    fn end(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 = Some(state.0);
    }
}

/// Ends the rounds when it is dropped, also by a test that fails.
struct Ending<'a>(&'a Rounds);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Says one line after the other to all who stay.
#[track_caller]
fn stay(member: &mut Client, names: &[String], rounds: &Rounds) -> Heard {
    let me = member.local().to_string();
    let others: Vec<&String> = names.iter().filter(|name| **name != me).collect();
    let mut heard = Heard {
        members: others.iter().map(|&name| (name.clone(), 0)).collect(),
        knows_all: true,
        joins: 0,
    };
    let mut round = 0;
    while rounds.is_on(round) {
        member.send(format!("line {round}\n"));
        while others.iter().any(|name| heard.lines_of(name) <= round) {
            heard.hear(&member.line());
        }
        round += 1;
    }
    heard
}

/// Joins, talks, hears everybody who stays, and leaves. Says how often.
#[track_caller]
fn come_and_go(address: SocketAddr, residents: &[String], done: &AtomicBool) -> usize {
    let mut visits = 0;
    while !done.load(Ordering::Relaxed) {
        let mut member = Client::connect(address);
        member.expect(WELCOME);
        let mut heard = Heard::default();
        for line in 0..LINES {
            member.send(format!("line {line}\n"));
            let before: Vec<usize> = residents.iter().map(|it| heard.lines_of(it)).collect();
            while residents
                .iter()
                .zip(&before)
                .any(|(name, before)| heard.lines_of(name) <= *before)
            {
                heard.hear(&member.line());
            }
        }
        member.finish_sending();
        let rest = String::from_utf8(member.read_to_end()).unwrap();
        rest.lines().for_each(|line| heard.hear(line));
        visits += 1;
    }
    visits
}

#[track_caller]
fn check(controlled: &Controlled, components: &[String]) {
    let address = controlled.server.address();
    let mut residents: Vec<Client> = Vec::new();
    for _ in 0..RESIDENTS {
        let mut newcomer = controlled.server.connect();
        newcomer.expect(WELCOME);
        for resident in &mut residents {
            resident.expect(format!("Client joined {}\r\n", newcomer.local()));
        }
        residents.push(newcomer);
    }
    let names: Vec<String> = residents.iter().map(|it| it.local().to_string()).collect();
    let (rounds, done) = (Rounds::default(), AtomicBool::new(false));
    let (heard, visits) = thread::scope(|scope| {
        let _ending = Ending(&rounds);
        let _flag = Flag(&done);
        let staying: Vec<_> = residents
            .iter_mut()
            .map(|member| scope.spawn(|| stay(member, &names, &rounds)))
            .collect();
        let visiting: Vec<_> = (0..GUEST_ROOMS)
            .map(|_| scope.spawn(|| come_and_go(address, &names, &done)))
            .collect();
        for swap in 0..SWAPS {
            controlled.swap_at_once(&components[swap % components.len()]);
        }
        done.store(true, Ordering::Relaxed);
        // They wait for lines of those who stay.
        let visits: usize = visiting.into_iter().map(|it| it.join().unwrap()).sum();
        rounds.end();
        let heard: Vec<Heard> = staying.into_iter().map(|it| it.join().unwrap()).collect();
        (heard, visits)
    });
    assert!(visits > 0);
    let status = controlled.wait_for_settled(RESIDENTS);
    assert_eq!(failed(&status), 0, "{status:#}");
    assert_eq!(status["accepted"], RESIDENTS + visits);
    assert_eq!(status["hand-overs"]["refused"], 0);
    println!("{visits} visits, {}", status["hand-overs"]);

    for (mut resident, mut heard) in residents.into_iter().zip(heard) {
        resident.finish_sending();
        let rest = String::from_utf8(resident.read_to_end()).unwrap();
        rest.lines().for_each(|line| heard.hear(line));
        assert_eq!(heard.joins, visits);
        // Everybody who came has gone, and was told to have.
        assert!(heard.members.keys().all(|name| names.contains(name)));
    }
}

for_each_pair! { chat shared: a_room_goes_on_as_it_was }
fn a_room_goes_on_as_it_was(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, &[]);
    check(&controlled, &builds(&controlled, guest));
    controlled.server.stop().check_no_alarm();
}

#[test]
fn a_room_goes_on_under_another_contract() {
    let controlled = start(chat_evented, "poll", &[]);
    let chain = [chat_concurrent, chat_evented].map(Guest::builtin);
    check(&controlled, &chain);
    controlled.server.stop().check_no_alarm();
}

/// A line that is half typed belongs to its member, and goes along.
#[test]
fn a_half_typed_line_is_said_when_it_is_complete() {
    let controlled = start(chat_evented, "poll", &[]);
    let mut ann = controlled.server.connect();
    ann.expect(WELCOME);
    let mut bob = controlled.server.connect();
    bob.expect(WELCOME);
    ann.expect(format!("Client joined {}\r\n", bob.local()));
    let mut typed = 0;
    for guest in [chat_concurrent, chat_evented] {
        bob.send("can you ");
        typed += "can you ".len();
        controlled.wait_for_bytes_in(typed);
        controlled.swap_at_once(guest.builtin());
        controlled.wait_for_settled(2);
        assert!(ann.is_silent());
        bob.send("hear me?\n");
        typed += "hear me?\n".len();
        ann.expect(format!("[{}] can you hear me?\n", bob.local()));
    }
    drop((ann, bob));
    controlled.server.stop().check_no_alarm();
}
