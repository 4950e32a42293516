//! A server that has few descriptors, or has run out of them: peers wait, nobody
//! is turned away, and the listener survives.

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use crate::harness::server::Finished;
use crate::harness::{Client, Guest, Serve, Server};

/// How many descriptors a server has, and how many peers come.
const DESCRIPTORS: u64 = 64;
const PEERS: usize = 80;

/// As many peers at once as there are, each of which is answered once there is
/// room.
#[track_caller]
fn check_all_are_served(server: Server, meanwhile: impl FnOnce(&Server)) -> Finished {
    // All are there at once when it begins to accept.
    server.process.signal(Signal::STOP);
    let clients: Vec<Client> = (0..PEERS).map(|_| server.connect()).collect();
    server.process.signal(Signal::CONT);
    meanwhile(&server);
    // Each one that goes makes room for one that waits.
    for mut client in clients {
        client.check_echo("hello");
    }
    server.connect().check_echo("as ever");
    let finished = server.stop();
    let last = finished.log.last().unwrap();
    assert_eq!(last.number("handled"), Some(PEERS as u64 + 1));
    finished
}

for_each_pair! { echo: peers_wait_for_a_permit }
/// There are no more permits than descriptors. A granted directory is open once,
/// and what an instance may open itself is counted with it.
// From: case 5; review of 2026-11-25, 3.12.
fn peers_wait_for_a_permit(guest: Guest, dispatch: &str) {
    let limit = format!("ulimit -n {DESCRIPTORS}");
    let granted = ["--dir", "/tmp", "--dir", "/usr"];
    for grants in [&[][..], &granted] {
        println!("{grants:?}");
        let server = Serve::guest_after(&limit, guest, dispatch).args(grants);
        let finished = check_all_are_served(server.start(), |_| {});
        let alarms = finished.alarms();
        assert_eq!(alarms.len(), 1, "{alarms:?}");
        assert!(
            alarms[0].message().starts_with("the limit on open files"),
            "{alarms:?}"
        );
    }
}

for_each_pair! { echo without sequential: peers_wait_for_a_descriptor }
/// The limit became less after the start, or something else took them.
fn peers_wait_for_a_descriptor(guest: Guest, dispatch: &str) {
    let server = Serve::guest(guest, dispatch).start();
    let process = Pid::from_raw(server.process.id().try_into().unwrap());
    let limit = Rlimit {
        current: Some(DESCRIPTORS),
        maximum: Some(DESCRIPTORS),
    };
    prlimit(process, Resource::Nofile, limit).unwrap();
    let finished = check_all_are_served(server, |server| {
        server.wait_for_log("the lack of descriptors", |event| {
            event.message().starts_with("accept: out of resources")
        });
    });
    for alarm in finished.alarms() {
        let expected = alarm.message().starts_with("accept: out of resources");
        assert!(expected, "{alarm:?}");
    }
}
