//! Datagrams there and back, on 64 sockets at once. A datagram whose answer does not come
//! is lost, counted and sent again.

use super::Done;
use super::events::Events;
use super::pattern::Pattern;
use super::socket::{Place, connect_datagrams, receive_now, send_now};
use anyhow::{Context as _, Result, bail, ensure};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How many sockets there are.
const SOCKETS: usize = 64;

/// After how long without any answer the datagrams under way are lost, in milliseconds.
const LOST: u16 = 500;

/// How often in a row that may be. A server that answers nothing is broken.
const TRIES: u32 = 10;

/// A socket, and what it waits for.
struct Asker {
    fd: OwnedFd,
    offset: usize,
    is_waiting: bool,
}

/// Asks for the time of `window`, and then waits for the answers under way.
pub(crate) fn run(place: &Place, size: usize, window: Duration) -> Result<Done> {
    let pattern = Pattern::new(size);
    let mut events = Events::new()?;
    let mut askers = Vec::new();
    for number in 0..SOCKETS {
        let fd = connect_datagrams(place)?;
        events.add(&fd, number, false)?;
        askers.push(Asker {
            fd,
            offset: number * 7919,
            is_waiting: true,
        });
    }
    let begun = Instant::now();
    for asker in &askers {
        asker.send(&pattern, size)?;
    }
    // One byte more, so that an answer that is too long is seen.
    let mut buffer = vec![0; size + 1];
    let mut ready = Vec::new();
    let (mut operations, mut lost, mut silent) = (0, 0, 0);
    let (mut under_way, mut is_over) = (askers.len(), false);
    while under_way > 0 {
        events.wait_at_most(LOST, &mut ready)?;
        is_over = is_over || begun.elapsed() >= window;
        if ready.is_empty() {
            silent += 1;
            if silent == TRIES {
                bail!("no answer to {TRIES} datagrams on each socket");
            }
            for asker in askers.iter().filter(|asker| asker.is_waiting) {
                lost += 1;
                asker.send(&pattern, size)?;
            }
            continue;
        }
        silent = 0;
        for event in &ready {
            let asker = askers.get_mut(event.number).context("an unknown event")?;
            if !asker.receive(&pattern, size, &mut buffer)? {
                continue;
            }
            operations += 1;
            if is_over {
                asker.is_waiting = false;
                under_way -= 1;
            } else {
                asker.offset += 1;
                asker.send(&pattern, size)?;
            }
        }
    }
    Ok(Done {
        operations,
        elapsed: begun.elapsed(),
        lost,
    })
}

impl Asker {
    fn send(&self, pattern: &Pattern, size: usize) -> Result<()> {
        // Loopback has room: a datagram that is not taken would be one that is lost.
        send_now(&self.fd, pattern.at(self.offset, size)).map(drop)
    }

    /// Receives an answer, if one is there. An answer that comes after its datagram was
    /// given up is passed over.
    fn receive(&self, pattern: &Pattern, size: usize, buffer: &mut [u8]) -> Result<bool> {
        let Some(received) = receive_now(&self.fd, buffer)? else {
            return Ok(false);
        };
        let answer = buffer.get(..received).unwrap_or_default();
        if answer == pattern.at(self.offset, size) {
            return Ok(self.is_waiting);
        }
        let is_late = self.offset > 0 && answer == pattern.at(self.offset - 1, size);
        ensure!(is_late, "a wrong answer of {received} bytes came");
        Ok(false)
    }
}
