//! Connections that are made, asked one thing and closed, sixteen at a time. An operation
//! ends when the server has closed too.

use super::Done;
use super::events::Events;
use super::pattern::Pattern;
use super::socket::{Place, connect_from, receive_now, send_now};
use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{Shutdown, shutdown};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// How many connections are open at once.
const AT_ONCE: usize = 16;

/// The size of the message.
const SIZE: usize = 64;

/// From how many addresses the clients come. A closed connection keeps its port for a
/// minute, and one address has 28 000 of them.
const SOURCES: usize = 250;

/// A place for one connection at a time.
struct Slot {
    fd: OwnedFd,
    offset: usize,
    received: usize,
}

/// Makes connections for the time of `window`, and then finishes those under way.
pub(crate) fn run(place: &Place, window: Duration) -> Result<Done> {
    let pattern = Pattern::new(SIZE);
    let mut events = Events::new()?;
    let mut slots = Vec::new();
    let begun = Instant::now();
    let mut connections = 0;
    for number in 0..AT_ONCE {
        slots.push(Slot::connect(
            place,
            connections,
            number,
            &pattern,
            &events,
        )?);
        connections += 1;
    }
    let mut buffer = vec![0; SIZE * 2];
    let mut ready = Vec::new();
    let (mut operations, mut under_way) = (0, AT_ONCE);
    while under_way > 0 {
        events.wait(&mut ready)?;
        for event in &ready {
            let slot = slots.get_mut(event.number).context("an unknown event")?;
            if !slot.receive(&pattern, &mut buffer)? {
                continue;
            }
            operations += 1;
            if begun.elapsed() >= window {
                events.remove(&slot.fd)?;
                under_way -= 1;
            } else {
                // The old connection is closed here.
                *slot = Slot::connect(place, connections, event.number, &pattern, &events)?;
                connections += 1;
            }
        }
    }
    Ok(Done {
        operations,
        elapsed: begun.elapsed(),
        lost: 0,
    })
}

impl Slot {
    fn connect(
        place: &Place,
        connection: usize,
        number: usize,
        pattern: &Pattern,
        events: &Events,
    ) -> Result<Self> {
        let last = u8::try_from(connection % SOURCES)? + 2;
        let fd = connect_from(place, Some(Ipv4Addr::new(127, 0, 0, last)))?;
        let sent = send_now(&fd, pattern.at(connection, SIZE))?;
        ensure!(sent == SIZE, "a fresh connection takes no message");
        events.add(&fd, number, false)?;
        Ok(Self {
            fd,
            offset: connection,
            received: 0,
        })
    }

    /// Receives what is there, and half-closes after the whole answer. Returns whether
    /// the server has closed.
    fn receive(&mut self, pattern: &Pattern, buffer: &mut [u8]) -> Result<bool> {
        let Some(received) = receive_now(&self.fd, buffer)? else {
            return Ok(false);
        };
        if received == 0 {
            ensure!(self.received == SIZE, "the end came before the answer");
            return Ok(true);
        }
        let expected = pattern.at(self.offset + self.received, received);
        let is_same = buffer.get(..received) == Some(expected);
        self.received += received;
        ensure!(is_same && self.received <= SIZE, "a wrong answer came");
        if self.received == SIZE {
            shutdown(self.fd.as_raw_fd(), Shutdown::Write).context("shutdown")?;
        }
        Ok(false)
    }
}
