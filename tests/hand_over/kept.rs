//! Old versions that do not give a connection up, or not as they should: it costs
//! that connection, or nothing, and nobody the new version.

use std::net::Shutdown;

use super::{start, wait_for_refusal};
use crate::harness::control::{Controlled, failed, open};
use crate::harness::guests::{faults_evented, upper_evented};
use crate::harness::{Client, Guest};

/// A version that misbehaves when it is to hand two connections over, and the
/// peers of them.
struct Leaving {
    controlled: Controlled,
    guest: Guest,
    dispatch: String,
    clients: Vec<Client>,
}

impl Leaving {
    /// Where `guest` is under `dispatch`, and how it misbehaves.
    #[track_caller]
    fn start(guest: Guest, dispatch: &str, manner: &str) -> Leaving {
        let controlled = start(guest, dispatch, &["--env", manner]);
        let count = if dispatch == "sequential" { 1 } else { 2 };
        let mut clients: Vec<Client> = (0..count).map(|_| controlled.server.connect()).collect();
        for client in &mut clients {
            client.check_echo("before\n");
        }
        Leaving {
            controlled,
            guest,
            dispatch: dispatch.to_owned(),
            clients,
        }
    }

    /// Swaps in a version that would take them.
    #[track_caller]
    fn swap(&self) {
        let upper = self.guest.in_family("upper");
        self.controlled.swap_at_once(upper.builtin());
    }

    /// Waits until the log has said of each of them that it was refused for this.
    #[track_caller]
    fn wait_for_refusals(&self, reason: &str) {
        for client in &self.clients {
            wait_for_refusal(&self.controlled.server, client, reason);
        }
    }

    /// Waits until the log has said this of each of them.
    #[track_caller]
    fn wait_for_each(&self, message: &str) {
        for client in &self.clients {
            let opened = self.controlled.server.wait_for_open(client);
            self.controlled.server.wait_for_log(message, |event| {
                event.connection() == opened.connection() && event.message() == message
            });
        }
    }

    /// They are still the old version's, which serves them on and ends with them.
    /// Somebody new is the new version's.
    #[track_caller]
    fn check_they_stay(mut self) {
        for client in &mut self.clients {
            client.check_echo("after\n");
        }
        let stayed = self.clients.len() as u64;
        let status = self.controlled.status();
        assert_eq!(open(&status), [stayed, 0]);
        assert_eq!(status["hand-overs"]["handed-over"], 0);
        self.check_new_one();
        for client in &mut self.clients {
            client.check_echo("still here\n");
            client.finish_sending();
            client.expect_eof();
        }
        let status = self.controlled.wait_for_settled(0);
        assert_eq!(failed(&status), 0, "{status:#}");
    }

    #[track_caller]
    fn check_new_one(&self) {
        if self.dispatch == "sequential" && !self.clients.is_empty() {
            // It would wait for them.
            return;
        }
        let mut client = self.controlled.server.connect();
        client.send("new\n");
        client.expect("NEW\n");
        client.finish_sending();
        client.expect_eof();
    }

    /// They are gone, failed in this way, and nobody else is.
    #[track_caller]
    fn check_they_fail(mut self, way: &str) {
        for client in &mut self.clients {
            client.expect_eof();
        }
        let gone = std::mem::take(&mut self.clients).len();
        self.check_new_one();
        let status = self.controlled.wait_for_settled(0);
        assert_eq!(status["failed"][way], gone, "{status:#}");
        assert_eq!(failed(&status), gone as u64, "{status:#}");
        assert_eq!(status["hand-overs"]["handed-over"], 0);
    }
}

for_each_pair! { faults: one_that_has_nothing_to_give }
fn one_that_has_nothing_to_give(guest: Guest, dispatch: &str) {
    let mut leaving = Leaving::start(guest, dispatch, "HAND_OVER=none");
    leaving.swap();
    if guest.contract() == "evented" {
        // It cannot be given up.
        leaving.check_they_stay();
    } else {
        // It is done.
        for client in &mut leaving.clients {
            client.expect_eof();
        }
        leaving.clients.clear();
        leaving.check_new_one();
        let status = leaving.controlled.wait_for_settled(0);
        assert_eq!(failed(&status), 0, "{status:#}");
    }
}

for_each_pair! { faults without evented: one_that_does_not_listen }
fn one_that_does_not_listen(guest: Guest, dispatch: &str) {
    let leaving = Leaving::start(guest, dispatch, "HAND_OVER=ignore");
    leaving.swap();
    leaving.check_they_stay();
}

for_each_pair! { faults: one_whose_state_is_too_large }
fn one_whose_state_is_too_large(guest: Guest, dispatch: &str) {
    let leaving = Leaving::start(guest, dispatch, "HAND_OVER=large");
    leaving.swap();
    // With the tag.
    leaving.wait_for_refusals("its state has 2097");
    leaving.check_they_stay();
}

for_each_pair! { faults shared: many_whose_states_are_too_large }
/// What many of them give is let go of one after the other: none is lost, though all
/// together would be more than their instance may have.
fn many_whose_states_are_too_large(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, &["--env", "HAND_OVER=large"]);
    let mut clients: Vec<Client> = (0..200).map(|_| controlled.server.connect()).collect();
    for client in &mut clients {
        client.check_echo("before\n");
    }
    controlled.swap_at_once(upper_evented.builtin());
    for client in &clients {
        wait_for_refusal(&controlled.server, client, "its state has 2097");
    }
    for client in &mut clients {
        client.check_echo("after\n");
    }
    assert_eq!(failed(&controlled.status()), 0);
}

for_each_pair! { faults: one_whose_state_makes_no_sense }
fn one_whose_state_makes_no_sense(guest: Guest, dispatch: &str) {
    let leaving = Leaving::start(guest, dispatch, "HAND_OVER=garbage");
    leaving.swap();
    leaving.wait_for_refusals("state echo/1: expected the format of that tag");
    leaving.check_they_stay();
}

for_each_pair! { faults: one_whose_state_nobody_knows }
fn one_whose_state_nobody_knows(guest: Guest, dispatch: &str) {
    let leaving = Leaving::start(guest, dispatch, "HAND_OVER=unknown");
    leaving.swap();
    leaving.wait_for_refusals("state nobody/9: expected echo/1");
    leaving.check_they_stay();
}

for_each_pair! { faults: one_that_does_not_know_its_own_state }
/// A version that refuses what it gave up itself.
fn one_that_does_not_know_its_own_state(guest: Guest, dispatch: &str) {
    let mut leaving = Leaving::start(guest, dispatch, "HAND_OVER=refuse");
    // One that would not have it in any case.
    let time = guest.in_family("time");
    leaving.controlled.swap_at_once(time.builtin());
    leaving.wait_for_each(
        "connection failed: nobody took the connection over, and its own version refused it: \
         deliberate refusal",
    );
    let gone = leaving.clients.len();
    for mut client in leaving.clients.drain(..) {
        client.expect_eof();
    }
    let status = leaving.controlled.wait_for_settled(0);
    assert_eq!(status["failed"]["error"], gone, "{status:#}");
    assert_eq!(status["hand-overs"]["refused"], gone);
}

for_each_pair! { faults: one_that_traps }
fn one_that_traps(guest: Guest, dispatch: &str) {
    let leaving = Leaving::start(guest, dispatch, "HAND_OVER=trap-hand-over");
    leaving.swap();
    leaving.check_they_fail("trap");
}

/// It says that it has given the connection up, and holds on to it.
#[test]
fn one_that_does_not_let_go() {
    let leaving = Leaving::start(faults_evented, "poll", "HAND_OVER=hold");
    leaving.swap();
    leaving.wait_for_each(
        "connection failed: the handler returned an error: it gave the connection up and still \
         holds it",
    );
    leaving.check_they_fail("error");
}

for_each_pair! { faults shared: what_was_given_up_before_the_trap_goes_on }
/// Where one instance has all, those that it gave up before it died go on.
// From: a84b555.
fn what_was_given_up_before_the_trap_goes_on(guest: Guest, dispatch: &str) {
    let mut leaving = Leaving::start(guest, dispatch, "HAND_OVER=trap-second");
    leaving.swap();
    let status = leaving.controlled.wait_for_settled(1);
    assert_eq!(status["failed"]["trap"], 1, "{status:#}");
    assert_eq!(failed(&status), 1, "{status:#}");
    assert_eq!(status["hand-overs"]["handed-over"], 1);
    let mut answers: Vec<Vec<u8>> = Vec::new();
    for client in &mut leaving.clients {
        // A connection that is gone may already refuse to be written to.
        client.send_some(b"after\n");
        let _ = client.socket().shutdown(Shutdown::Write);
        answers.push(client.drain());
    }
    answers.sort();
    assert_eq!(answers, [b"".to_vec(), b"AFTER\n".to_vec()]);
    leaving.clients.clear();
    leaving.check_new_one();
}
