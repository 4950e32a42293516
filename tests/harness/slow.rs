//! Peers of a handler of `evented` that computes for 20 ms for each read, whatever it reads, and
//! answers with how many reads its instance has served, on a line.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::{Client, Server};

/// What makes a handler slow that is not always.
const SLOW: &str = "slow";

/// So many peers send at once that a turn which reads from all of them takes longer than the
/// deadline of 1 s. It must end no instance.
#[track_caller]
pub(crate) fn check_deadline(server: &Server) {
    const PEERS: usize = 64;
    let mut clients = all_open(server, PEERS);
    // So that one turn finds all of it.
    server.process.signal(Signal::STOP);
    for client in &mut clients {
        client.send(SLOW);
    }
    server.process.signal(Signal::CONT);
    let mut numbers: Vec<usize> = clients.iter_mut().map(number).collect();
    numbers.sort_unstable();
    let expected: Vec<usize> = (2..PEERS + 2).collect();
    assert_eq!(numbers, expected);
}

/// Eight peers send `amount` bytes each, so much that turns are over before all are read, others
/// come and go, and one sends a word. It must have its turn after a visit of each of the eight,
/// which has at most `reads` reads.
#[track_caller]
pub(crate) fn check_fairness(server: &Server, amount: usize, reads: usize) {
    const PEERS: usize = 8;
    let mut clients = all_open(server, PEERS + 1);
    let mut modest = clients.pop().unwrap();
    let much = SLOW.repeat(amount / SLOW.len());
    let (first, rest) = much.split_at(64 * 1024);
    server.process.signal(Signal::STOP);
    for client in &mut clients {
        // The kernel has room for it.
        client.send(first);
    }
    modest.send(SLOW);
    let mut writers: Vec<Client> = clients.iter().map(Client::another).collect();
    let is_answered = AtomicBool::new(false);
    let number = thread::scope(|scope| {
        for writer in &mut writers {
            scope.spawn(|| writer.send_some(rest.as_bytes()));
        }
        server.process.signal(Signal::CONT);
        // A turn that opens connections has nobody to read.
        let visitors = scope.spawn(|| {
            while !is_answered.load(Ordering::Relaxed) {
                drop(server.connect());
                // Not so many that they fill the backlog.
                thread::sleep(Duration::from_millis(5));
            }
        });
        let number = number(&mut modest);
        is_answered.store(true, Ordering::Relaxed);
        visitors.join().unwrap();
        // The others have no end.
        server.process.signal(Signal::KILL);
        number
    });
    // A second visit, if the server did not stop at once.
    let most = 1 + 2 * PEERS * reads + 1;
    assert!(
        number <= most,
        "{number} reads, and not {most}, came before"
    );
}

/// So many connections that are open: peers are accepted in their order, and the last one has
/// been answered.
#[track_caller]
fn all_open(server: &Server, count: usize) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..count).map(|_| server.connect()).collect();
    let last = clients.last_mut().unwrap();
    last.send(SLOW);
    assert_eq!(number(last), 1);
    clients
}

#[track_caller]
fn number(client: &mut Client) -> usize {
    client.line().trim_end().parse().unwrap()
}
