//! Streams that are written and read at once, as much as the kernel takes. What comes
//! back is compared with the pattern, byte by byte, which says more than a checksum.

use super::Done;
use super::events::Events;
use super::pattern::Pattern;
use super::socket::{receive_now, send_now};
use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{Shutdown, shutdown};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// An operation is so many bytes, there and back.
pub(crate) const BLOCK: usize = 64 << 10;

/// A stream, and how far it is.
struct Stream {
    fd: OwnedFd,
    sent: usize,
    received: usize,
    is_sending: bool,
}

/// Streams for the time of `window`, then half-closes, and reads to the end.
pub(crate) fn run(connections: Vec<OwnedFd>, window: Duration) -> Result<Done> {
    let pattern = Pattern::new(BLOCK);
    let mut events = Events::new()?;
    let mut streams = Vec::with_capacity(connections.len());
    for (number, fd) in connections.into_iter().enumerate() {
        events.add(&fd, number, true)?;
        streams.push(Stream {
            fd,
            sent: 0,
            received: 0,
            is_sending: true,
        });
    }
    let begun = Instant::now();
    let mut buffer = vec![0; BLOCK];
    let mut ready = Vec::new();
    let mut under_way = streams.len();
    while under_way > 0 {
        events.wait(&mut ready)?;
        let is_over = begun.elapsed() >= window;
        for event in &ready {
            let stream = streams.get_mut(event.number).context("an unknown event")?;
            if event.to_send && stream.is_sending {
                stream.send(&pattern)?;
            }
            if stream.is_sending && is_over {
                shutdown(stream.fd.as_raw_fd(), Shutdown::Write).context("shutdown")?;
                events.change(&stream.fd, event.number, false)?;
                stream.is_sending = false;
            }
            if event.to_receive && stream.receive(&pattern, &mut buffer)? {
                under_way -= 1;
                events.remove(&stream.fd)?;
            }
        }
    }
    let bytes: usize = streams.iter().map(|stream| stream.received).sum();
    Ok(Done {
        operations: u64::try_from(bytes / BLOCK)?,
        elapsed: begun.elapsed(),
        lost: 0,
    })
}

impl Stream {
    fn send(&mut self, pattern: &Pattern) -> Result<()> {
        self.sent += send_now(&self.fd, pattern.at(self.sent, BLOCK))?;
        Ok(())
    }

    /// Receives what is there. Returns whether that was the end.
    fn receive(&mut self, pattern: &Pattern, buffer: &mut [u8]) -> Result<bool> {
        let Some(received) = receive_now(&self.fd, buffer)? else {
            return Ok(false);
        };
        if received == 0 {
            let (sent, back) = (self.sent, self.received);
            ensure!(
                !self.is_sending && sent == back,
                "a stream ended after {back} bytes of {sent}"
            );
            return Ok(true);
        }
        let expected = pattern.at(self.received, received);
        ensure!(
            buffer.get(..received) == Some(expected),
            "a wrong byte came after {} bytes",
            self.received
        );
        self.received += received;
        Ok(false)
    }
}
