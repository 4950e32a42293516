//! A thousand connections at once.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::chat::WELCOME;
use crate::harness::guests::time_evented;
use crate::harness::{Client, Guest, Serve, Server, ctime};

const MANY: usize = 1000;

/// Lets this process, and the servers that it starts, open that many sockets.
fn allow_many_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = MANY as u64 * 3;
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit {
            current: Some(limit.maximum.map_or(wanted, |maximum| maximum.min(wanted))),
            maximum: limit.maximum,
        };
        setrlimit(Resource::Nofile, raised).unwrap();
    }
}

fn start(guest: Guest, dispatch: &str, options: &[&str]) -> Server {
    allow_many_descriptors();
    Serve::guest(guest, dispatch)
        .args(["--max-connections", "1100"])
        .args(options)
        .start()
}

for_each_pair! { echo without sequential, echo_commands without sequential: a_thousand_peers_talk }
/// All are open before the first one talks, and all have talked before the first
/// one closes.
fn a_thousand_peers_talk(guest: Guest, dispatch: &str) {
    let server = start(guest, dispatch, &[]);
    let mut clients: Vec<Client> = (0..MANY).map(|_| server.connect()).collect();
    for round in 0..3 {
        let line = |number: usize| format!("client {number}, round {round}\n");
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(line(number));
        }
        for (number, client) in clients.iter_mut().enumerate() {
            client.expect(line(number));
        }
    }
    for client in &mut clients {
        client.finish_sending();
    }
    for client in &mut clients {
        client.expect_eof();
    }
    drop(clients);
    let finished = server.stop();
    finished.check_no_alarm();
    let last = finished.log.last().unwrap();
    assert_eq!(last.number("handled"), Some(MANY as u64));
}

/// Every one of them is answered whenever it asks, however many are silent.
#[test]
fn a_thousand_clocks() {
    let server = start(time_evented, "poll", &["--env", "MODE=event"]);
    let mut clients: Vec<Client> = (0..MANY).map(|_| server.connect()).collect();
    for client in clients.iter_mut().rev().step_by(10) {
        let now = ctime::now();
        client.send("?");
        ctime::check(&client.read_exact(ctime::LENGTH), now);
    }
    drop(clients);
    server.stop().check_no_alarm();
}

for_each_pair! { chat shared: a_thousand_members_hear_each_other }
/// C6: one process, and no thread per client. Everybody hears everybody else.
fn a_thousand_members_hear_each_other(guest: Guest, dispatch: &str) {
    let server = start(guest, dispatch, &[]);
    let mut members: Vec<Client> = Vec::new();
    for _ in 0..MANY {
        let mut newcomer = server.connect();
        newcomer.expect(WELCOME);
        members.push(newcomer);
    }
    let speaker = MANY / 2;
    members[speaker].send("can you hear me?\n");
    let heard = format!("[{}] can you hear me?\n", members[speaker].local());
    for (number, member) in members.iter_mut().enumerate() {
        // First, who came after: the room of those who came before.
        let joined = "Client joined 127.0.0.1:".len();
        for _ in number + 1..MANY {
            let line = member.line();
            assert_eq!(&line[..joined], "Client joined 127.0.0.1:");
        }
        if number != speaker {
            member.expect(&heard);
        }
    }
    server.process.signal(rustix::process::Signal::KILL);
}
