//! Round trips on many connections at once: each sends its next message when the answer
//! to the last one is whole.

use super::Done;
use super::events::Events;
use super::pattern::Pattern;
use super::socket::{receive_now, send_now};
use anyhow::{Context as _, Result, ensure};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How much is received at once.
const BUFFER: usize = 64 << 10;

/// A connection, and how far its round trip is.
struct Trip<'a> {
    fd: &'a OwnedFd,
    number: usize,
    /// Where the message begins in the pattern: another place for each message.
    offset: usize,
    sent: usize,
    received: usize,
    waits_to_send: bool,
}

/// Makes round trips for the time of `window`, and then finishes those under way.
pub(crate) fn run(connections: &[OwnedFd], size: usize, window: Duration) -> Result<Done> {
    let pattern = Pattern::new(size);
    let mut events = Events::new()?;
    let mut trips = Vec::with_capacity(connections.len());
    for (number, fd) in connections.iter().enumerate() {
        events.add(fd, number, false)?;
        trips.push(Trip {
            fd,
            number,
            offset: number * 7919,
            sent: 0,
            received: 0,
            waits_to_send: false,
        });
    }
    let begun = Instant::now();
    for trip in &mut trips {
        trip.send(&pattern, size, &events)?;
    }
    let mut buffer = vec![0; BUFFER];
    let mut ready = Vec::new();
    let (mut operations, mut under_way, mut is_over) = (0, trips.len(), false);
    while under_way > 0 {
        events.wait(&mut ready)?;
        is_over = is_over || begun.elapsed() >= window;
        for event in &ready {
            let trip = trips.get_mut(event.number).context("an unknown event")?;
            if event.to_send && trip.waits_to_send {
                trip.send(&pattern, size, &events)?;
            }
            if event.to_receive && trip.receive(&pattern, size, &mut buffer)? {
                operations += 1;
                if is_over {
                    under_way -= 1;
                } else {
                    trip.begin_next();
                    trip.send(&pattern, size, &events)?;
                }
            }
        }
    }
    Ok(Done {
        operations,
        elapsed: begun.elapsed(),
        lost: 0,
    })
}

impl Trip<'_> {
    /// Sends what the kernel takes, and has the rest sent later.
    fn send(&mut self, pattern: &Pattern, size: usize, events: &Events) -> Result<()> {
        let rest = pattern.at(self.offset + self.sent, size - self.sent);
        self.sent += send_now(self.fd, rest)?;
        let waits = self.sent < size;
        if waits != self.waits_to_send {
            events.change(self.fd, self.number, waits)?;
            self.waits_to_send = waits;
        }
        Ok(())
    }

    /// Receives what is there. Returns whether the answer is whole.
    fn receive(&mut self, pattern: &Pattern, size: usize, buffer: &mut [u8]) -> Result<bool> {
        let Some(received) = receive_now(self.fd, buffer)? else {
            return Ok(false);
        };
        ensure!(received > 0, "a connection was closed");
        let expected = pattern.at(self.offset + self.received, received);
        let is_same = buffer.get(..received) == Some(expected);
        self.received += received;
        ensure!(is_same && self.received <= self.sent, "a wrong answer came");
        Ok(self.received == size)
    }

    fn begin_next(&mut self) {
        self.offset += 1;
        self.sent = 0;
        self.received = 0;
    }
}
