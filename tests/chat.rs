//! The chat room: C1 to C5 in both contracts, and what happens to a member that
//! does not read, resets, or leaves a line unfinished.

use crate::harness::python::Python;
use crate::harness::{Client, Guest, Serve, Server, text};

/// What a newcomer is told.
pub(crate) const WELCOME: &str = "You're connected to the sockserve chatserver\r\n";

/// Gives a room to `check`, which returns what the whole log has to be.
#[track_caller]
fn serve(guest: Guest, dispatch: &str, check: impl FnOnce(&Server) -> Vec<String>) {
    let server = Serve::guest(guest, dispatch).compiled_once().start();
    let broadcast = check(&server);
    let finished = server.stop();
    finished.check_no_alarm();
    assert_eq!(finished.guest_lines(), broadcast);
}

/// Connects, and reads the welcome.
#[track_caller]
fn join(server: &Server) -> Client {
    let mut member = server.connect();
    member.expect(WELCOME);
    member
}

fn joined(member: &Client) -> String {
    format!("Client joined {}\r\n", member.local())
}

fn left(member: &Client) -> String {
    format!("Client left {}\r\n", member.local())
}

fn said(member: &Client, line: &str) -> String {
    format!("[{}] {line}", member.local())
}

/// The lines as the log has them.
fn logged(lines: &[&String]) -> Vec<String> {
    lines
        .iter()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

for_each_pair! { chat shared: members_see_joins_messages_and_leaves_in_order }
fn members_see_joins_messages_and_leaves_in_order(guest: Guest, dispatch: &str) {
    serve(guest, dispatch, |server| {
        let mut ann = join(server);
        let ann_joined = joined(&ann);
        let mut bob = join(server);
        let bob_joined = joined(&bob);
        ann.expect(&bob_joined);
        let mut eve = join(server);
        let eve_joined = joined(&eve);
        ann.expect(&eve_joined);
        bob.expect(&eve_joined);

        ann.send("hello\r\n");
        let hello = said(&ann, "hello\r\n");
        bob.expect(&hello);
        eve.expect(&hello);

        // Two lines at once, and one in two pieces.
        bob.send("one\ntwo\nthr");
        let lines = ["one\n", "two\n", "three\n"].map(|line| said(&bob, line));
        ann.expect(lines[..2].concat());
        eve.expect(lines[..2].concat());
        bob.send("ee\n");
        ann.expect(&lines[2]);
        eve.expect(&lines[2]);

        // A line that is not finished is sent when its member leaves.
        eve.send("wait, I");
        eve.finish_sending();
        eve.expect_eof();
        let unfinished = said(&eve, "wait, I\r\n");
        let eve_left = left(&eve);
        ann.expect([unfinished.as_str(), &eve_left].concat());
        bob.expect([unfinished.as_str(), &eve_left].concat());

        // Nobody hears itself.
        assert!(ann.is_silent());
        let ann_left = left(&ann);
        drop(ann);
        bob.expect(&ann_left);
        bob.finish_sending();
        bob.expect_eof();
        let bob_left = left(&bob);
        let mut broadcast = vec![&ann_joined, &bob_joined, &eve_joined, &hello];
        broadcast.extend(&lines);
        broadcast.extend([&unfinished, &eve_left, &ann_left, &bob_left]);
        logged(&broadcast)
    });
}

for_each_pair! { chat shared: a_member_that_resets_has_left }
fn a_member_that_resets_has_left(guest: Guest, dispatch: &str) {
    serve(guest, dispatch, |server| {
        let mut ann = join(server);
        let bob = join(server);
        let lines = [joined(&ann), joined(&bob), left(&bob)];
        ann.expect(&lines[1]);
        bob.reset();
        ann.expect(&lines[2]);
        ann.finish_sending();
        ann.expect_eof();
        logged(&[&lines[0], &lines[1], &lines[2], &left(&ann)])
    });
}

for_each_pair! { chat shared: ipv6_members_are_in_brackets }
fn ipv6_members_are_in_brackets(guest: Guest, dispatch: &str) {
    let server = Serve::guest(guest, dispatch)
        .listen("tcp://[::1]:0")
        .start();
    let mut ann = join(&server);
    let bob = join(&server);
    assert!(joined(&bob).starts_with("Client joined [::1]:"));
    ann.expect(joined(&bob));
}

for_each_pair! { chat shared: a_long_line_is_cut }
fn a_long_line_is_cut(guest: Guest, dispatch: &str) {
    serve(guest, dispatch, |server| {
        let mut ann = join(server);
        let mut bob = join(server);
        let lines = [
            joined(&ann),
            joined(&bob),
            said(&bob, &("x".repeat(1024) + "\r\n")),
            said(&bob, &("x".repeat(976) + "\n")),
            left(&bob),
            left(&ann),
        ];
        ann.expect(&lines[1]);
        bob.send("x".repeat(2000) + "\n");
        ann.expect(lines[2..4].concat());
        bob.finish_sending();
        bob.expect_eof();
        ann.expect(&lines[4]);
        ann.finish_sending();
        ann.expect_eof();
        logged(&lines.iter().collect::<Vec<_>>())
    });
}

for_each_pair! { chat shared: a_member_that_does_not_read_is_dropped }
/// A member that does not read is dropped at its queue's limit, and the others,
/// who do read, stay and are told.
fn a_member_that_does_not_read_is_dropped(guest: Guest, dispatch: &str) {
    let server = Serve::guest(guest, dispatch)
        .env("QUEUE_LIMIT=65536")
        .start();
    let mut reader = join(&server);
    let mut slow = Client::connect_narrow(server.address());
    reader.expect(joined(&slow));
    let mut talker = join(&server);
    reader.expect(joined(&talker));

    let line = "x".repeat(1000) + "\n";
    let heard = said(&talker, &line);
    let slow_left = left(&slow);
    // A batch fits the kernel's buffers, so the reader is never behind.
    let batch = 16;
    let mut lines = 0;
    loop {
        assert!(lines < 100_000, "nobody was dropped");
        talker.send(line.repeat(batch));
        lines += batch;
        let mut told = false;
        for _ in 0..batch {
            let mut next = reader.line();
            if next == slow_left {
                told = true;
                next = reader.line();
            }
            assert_eq!(next, heard);
        }
        if told {
            break;
        }
    }
    talker.expect(&slow_left);
    // What it did not read before is still there, and then the end.
    let last = slow.drain();
    assert!(text(&last).starts_with(&text(WELCOME)));
    // The others go on.
    reader.send("still here\n");
    talker.expect(said(&reader, "still here\n"));

    drop((reader, slow, talker));
    let finished = server.stop();
    finished.check_no_alarm();
    let told = finished
        .guest_lines()
        .iter()
        .filter(|line| **line == slow_left.trim_end())
        .count();
    assert_eq!(told, 1);
}

for_each_pair! { chat shared: the_chat_is_what_select_does }
/// The texts' server, and ours, with the same three clients. The names of the
/// members and of the product are all that differs.
fn the_chat_is_what_select_does(guest: Guest, dispatch: &str) {
    let Some(python) = Python::start("chat.py") else {
        return;
    };
    let (heard, names) = conversation(|| python.connect());
    let heard = heard.map(|lines| lines.replace("Python", "sockserve"));
    let theirs = (
        anonymous(&heard, &names),
        anonymous(&python.printed(10), &names),
    );
    let server = Serve::guest(guest, dispatch).start();
    let (heard, names) = conversation(|| server.connect());
    let finished = server.stop();
    let log = anonymous(&finished.guest_lines(), &names);
    assert_eq!((anonymous(&heard, &names), log), theirs);
}

/// With a member's number in the place of its name.
fn anonymous(lines: &[impl AsRef<str>], names: &[String]) -> Vec<String> {
    let hide = |line: &str| {
        let numbered = names.iter().enumerate();
        numbered.fold(line.to_owned(), |line, (number, name)| {
            line.replace(name, &format!("<{number}>"))
        })
    };
    lines.iter().map(|line| hide(line.as_ref())).collect()
}

/// What each of three clients hears, and their names.
fn conversation(connect: impl Fn() -> Client) -> ([String; 3], Vec<String>) {
    let mut heard = [String::new(), String::new(), String::new()];
    let mut members: Vec<Client> = Vec::new();
    // Everybody present hears of each join, and only then comes the next.
    for newcomer in 0..3 {
        members.push(connect());
        for (member, heard) in members.iter_mut().zip(&mut heard) {
            heard.push_str(&member.line());
        }
        assert_eq!(members.len(), newcomer + 1);
    }
    let say = |members: &mut Vec<Client>, heard: &mut [String; 3], who: usize, line: &str| {
        members[who].send(line);
        for (other, member) in members.iter_mut().enumerate() {
            if other != who {
                heard[other].push_str(&member.line());
            }
        }
    };
    say(&mut members, &mut heard, 0, "hello\r\n");
    say(&mut members, &mut heard, 1, "hello yourself\r\n");
    say(&mut members, &mut heard, 2, "\r\n");
    say(&mut members, &mut heard, 0, "that was all\n");
    let names: Vec<String> = members.iter().map(|it| it.local().to_string()).collect();
    while let Some(mut leaving) = members.pop() {
        leaving.finish_sending();
        heard[members.len()].push_str(&String::from_utf8(leaving.read_to_end()).unwrap());
        for (member, heard) in members.iter_mut().zip(&mut heard) {
            heard.push_str(&member.line());
        }
    }
    (heard, names)
}
