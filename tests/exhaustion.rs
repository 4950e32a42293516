//! A server that has run out of descriptors: peers wait, nobody is turned away,
//! and the listener survives.

use rustix::process::Signal;

use crate::harness::guests::{echo_blocking, echo_concurrent, echo_evented, pairs};
use crate::harness::{Client, Guest, Serve};

const ECHO: [Guest; 3] = [echo_blocking, echo_evented, echo_concurrent];

/// How many descriptors a server has, and how many peers come.
const DESCRIPTORS: usize = 64;
const PEERS: usize = 80;

#[test]
fn peers_wait_for_a_descriptor() {
    for (guest, dispatch) in pairs(&ECHO) {
        if dispatch == "sequential" {
            continue;
        }
        println!("{} under {dispatch}", guest.name);
        let limit = format!("ulimit -n {DESCRIPTORS}");
        let server = Serve::guest_after(&limit, guest, dispatch).start();
        // All are there at once when it begins to accept.
        server.process.signal(Signal::STOP);
        let clients: Vec<Client> = (0..PEERS).map(|_| server.connect()).collect();
        server.process.signal(Signal::CONT);
        server.wait_for_log("the lack of descriptors", |event| {
            event.message().starts_with("accept: out of resources")
        });
        // Each one that goes makes room for one that waits.
        for mut client in clients {
            client.check_echo("hello");
        }
        server.connect().check_echo("as ever");
        let finished = server.stop();
        let last = finished.log.last().unwrap();
        assert_eq!(last.number("handled"), Some(PEERS as u64 + 1));
        for alarm in finished.alarms() {
            let told = ["accept: out of resources", "the limit on open files"];
            let expected = told.iter().any(|it| alarm.message().starts_with(it));
            assert!(expected, "{alarm:?}");
        }
    }
}
