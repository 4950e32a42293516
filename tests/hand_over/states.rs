//! What a version has read and not answered is known to the next one.

use super::start;
use crate::harness::control::Controlled;
use crate::harness::guests::{time_blocking, time_concurrent, time_evented};
use crate::harness::pairs::guests_under;
use crate::harness::{Client, Guest, ctime};

/// One peer that types in pieces, while versions change between them.
struct Typing {
    controlled: Controlled,
    client: Client,
    typed: usize,
}

impl Typing {
    #[track_caller]
    fn start(guest: Guest, dispatch: &str, mode: &str) -> Typing {
        let controlled = start(guest, dispatch, &["--env", mode]);
        let client = controlled.server.connect();
        Typing {
            controlled,
            client,
            typed: 0,
        }
    }

    /// Types something that is read, and to which there is no answer.
    #[track_caller]
    fn half(&mut self, text: &str) {
        self.client.send(text);
        self.typed += text.len();
        self.controlled.wait_for_bytes_in(self.typed);
    }

    /// Types something that has an answer, which is for the caller to read.
    #[track_caller]
    fn whole(&mut self, text: &str) -> &mut Client {
        // Nothing was answered early.
        assert!(self.client.is_silent());
        self.client.send(text);
        self.typed += text.len();
        &mut self.client
    }

    /// Goes on with another version, which has the connection when this returns.
    #[track_caller]
    fn swap(&self, guest: Guest) {
        self.controlled.swap_at_once(guest.builtin());
        self.controlled.wait_for_settled(1);
    }

    /// The same with another build of a guest.
    #[track_caller]
    fn swap_build(&self, guest: Guest, number: u8) {
        let build = self.controlled.scratch.build(guest, number);
        self.controlled.swap_at_once(build);
        self.controlled.wait_for_settled(1);
    }

    #[track_caller]
    fn end(mut self) {
        self.client.finish_sending();
        self.client.expect_eof();
        self.controlled.server.stop().check_no_alarm();
    }
}

for_each_pair! { echo: a_half_read_line_is_answered_wholly_by_the_new_version }
fn a_half_read_line_is_answered_wholly_by_the_new_version(echo: Guest, dispatch: &str) {
    let upper = echo.in_family("upper");
    let mut typing = Typing::start(echo, dispatch, "MODE=line");
    typing.half("half a");
    typing.swap(upper);
    typing.whole(" line\nand ").expect("HALF A LINE\n");
    typing.swap(echo);
    typing.whole("back\nlast").expect("and back\n");
    typing.swap(upper);
    // What is left at the end of file is an answer too.
    typing.client.finish_sending();
    typing.client.expect("LAST");
    typing.client.expect_eof();
}

for_each_pair! { upper under poll: a_half_read_line_is_answered_under_another_contract }
fn a_half_read_line_is_answered_under_another_contract(first: Guest, dispatch: &str) {
    // Every way from here through a second contract to a third.
    for echo in guests_under("echo", dispatch) {
        for last in guests_under("upper", dispatch) {
            println!("by {} to {}", echo.name, last.name);
            let mut typing = Typing::start(first, dispatch, "MODE=line");
            typing.half("one ");
            typing.swap(echo);
            typing.half("line ");
            // The last one may be the first.
            typing.swap(last);
            typing.whole("in three\n").expect("ONE LINE IN THREE\n");
            typing.end();
        }
    }
}

for_each_pair! { time: a_half_sent_request_has_its_answer_from_the_new_version }
fn a_half_sent_request_has_its_answer_from_the_new_version(guest: Guest, dispatch: &str) {
    let mut typing = Typing::start(guest, dispatch, "MODE=terminator");
    let now = ctime::now();
    for (number, part) in (1..).zip(["GET / HTTP/1.0", "\r\n", "\r"]) {
        typing.half(part);
        typing.swap_build(guest, number);
    }
    ctime::check(&typing.whole("\nignored").read_to_end(), now);
    typing.end();
}

#[test]
fn a_half_sent_request_has_its_answer_under_another_contract() {
    let mut typing = Typing::start(time_blocking, "poll", "MODE=terminator");
    let now = ctime::now();
    for (part, guest) in [
        ("\r", time_evented),
        ("\n", time_concurrent),
        ("\r", time_blocking),
    ] {
        typing.half(part);
        typing.swap(guest);
    }
    ctime::check(&typing.whole("\n").read_to_end(), now);
    typing.end();
}

for_each_pair! { time: a_torn_line_ending_is_one_for_the_new_version }
fn a_torn_line_ending_is_one_for_the_new_version(guest: Guest, dispatch: &str) {
    let mut typing = Typing::start(guest, dispatch, "MODE=line");
    let now = ctime::now();
    typing.half("torn\r");
    typing.swap_build(guest, 1);
    ctime::check(&typing.whole("\n").read_exact(ctime::LENGTH), now);
    // It was answered, and is not half of anything any more.
    typing.swap_build(guest, 2);
    typing.half("\n");
    ctime::check(&typing.whole("\r\n").read_exact(ctime::LENGTH), now);
    typing.end();
}

for_each_pair! { echo: a_rollback_hands_the_connections_back }
fn a_rollback_hands_the_connections_back(echo: Guest, dispatch: &str) {
    let upper = echo.in_family("upper");
    let mut typing = Typing::start(echo, dispatch, "MODE=line");
    typing.swap(upper);
    typing.whole("there and\n").expect("THERE AND\n");
    typing.half("back ");
    let outcome = typing.controlled.command(["rollback", "echo"]);
    let printed = outcome.printed();
    assert!(
        printed[0].starts_with("echo is at version 3, "),
        "{printed:?}"
    );
    assert!(
        printed[0].ends_with("open connections are handed over"),
        "{printed:?}"
    );
    typing.controlled.wait_for_settled(1);
    typing.whole("again\n").expect("back again\n");
    typing.end();
}
