//! A chat room: one member says a line, and every other member gets it. An operation is
//! a line that one member got.

use super::Done;
use super::events::Events;
use super::socket::{Place, connect_stream, receive_exactly, receive_now, receive_some, send_now};
use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::socket::{SockaddrIn, getsockname};
use std::collections::HashSet;
use std::net::SocketAddrV4;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// What a member reads first.
pub(crate) const WELCOME: &str = "You're connected to the sockserve chatserver\r\n";

/// The speaker's first line, by which the listeners know that everybody is there.
const FIRST: &str = "hello\n";

/// How many members join at a time.
const TOGETHER: usize = 50;

/// How much is received at once.
const BUFFER: usize = 4096;

/// A room in which everybody has heard of everybody.
pub(crate) struct Room {
    /// The one who speaks.
    speaker: OwnedFd,
    name: String,
    listeners: Vec<OwnedFd>,
}

impl Room {
    /// Lets a speaker and `count` listeners join, and reads what each of them hears of the
    /// others until the speaker's first line.
    pub(crate) fn join(place: &Place, count: usize) -> Result<Self> {
        let (mut listeners, mut joined_lines) = (Vec::new(), HashSet::new());
        while listeners.len() < count {
            // Some at a time: each tells all others, and a server may send that together.
            let group = TOGETHER.min(count - listeners.len());
            let begin = listeners.len();
            for _ in 0..group {
                let (fd, name) = connect(place)?;
                listeners.push(fd);
                joined_lines.insert(joined(&name));
            }
            for fd in listeners.iter().skip(begin) {
                receive_exactly(fd, WELCOME.as_bytes())?;
            }
        }
        let (speaker, name) = connect(place)?;
        receive_exactly(&speaker, WELCOME.as_bytes())?;
        joined_lines.insert(joined(&name));
        let sent = send_now(&speaker, FIRST.as_bytes())?;
        ensure!(sent == FIRST.len(), "the speaker's line is not taken");
        let first = said(&name, FIRST);
        for listener in &listeners {
            hear_until(listener, &first, &joined_lines)?;
        }
        Ok(Self {
            speaker,
            name,
            listeners,
        })
    }

    /// Says a line, waits until all have it, and says the next, for the time of `window`.
    pub(crate) fn run(&self, window: Duration) -> Result<Done> {
        let mut events = Events::new()?;
        for (number, fd) in self.listeners.iter().enumerate() {
            events.add(fd, number, false)?;
        }
        let begun = Instant::now();
        let mut buffer = vec![0; BUFFER];
        let mut ready = Vec::new();
        let mut operations = 0;
        for number in 0_u64.. {
            let line = format!("{number:016} is the number of this line, which all get\n");
            let sent = send_now(&self.speaker, line.as_bytes())?;
            ensure!(sent == line.len(), "the speaker's line is not taken");
            let expected = said(&self.name, &line);
            let mut received = vec![0; self.listeners.len()];
            let mut left = self.listeners.len();
            while left > 0 {
                events.wait(&mut ready)?;
                for event in &ready {
                    let fd = self.listeners.get(event.number).context("who is that")?;
                    let so_far = received.get_mut(event.number).context("who is that")?;
                    let rest = expected.as_bytes().get(*so_far..).unwrap_or_default();
                    match receive_now(fd, &mut buffer)? {
                        None => continue,
                        Some(0) => bail!("a member was cut off"),
                        Some(got) => {
                            let is_same = buffer.get(..got) == rest.get(..got);
                            ensure!(is_same, "a member got a wrong line");
                            *so_far += got;
                        }
                    }
                    if *so_far == expected.len() {
                        left -= 1;
                        operations += 1;
                    }
                }
            }
            if begun.elapsed() >= window {
                break;
            }
        }
        Ok(Done {
            operations,
            elapsed: begun.elapsed(),
            lost: 0,
        })
    }
}

/// What the others hear of a new member.
pub(crate) fn joined(name: &str) -> String {
    format!("Client joined {name}\r\n")
}

/// What the others hear of a line.
pub(crate) fn said(name: &str, line: &str) -> String {
    format!("[{name}] {line}")
}

/// Connects. Returns the member and its name.
fn connect(place: &Place) -> Result<(OwnedFd, String)> {
    let fd = connect_stream(place)?;
    let address: SockaddrIn = getsockname(fd.as_raw_fd()).context("getsockname")?;
    let name = SocketAddrV4::new(address.ip(), address.port()).to_string();
    Ok((fd, name))
}

/// Reads lines, up to a certain one. Those before must be among the allowed ones, each at
/// most once.
fn hear_until(fd: &OwnedFd, last: &str, allowed: &HashSet<String>) -> Result<()> {
    let mut heard = String::new();
    let mut buffer = vec![0; BUFFER];
    while !heard.ends_with(last) {
        let received = receive_some(fd, &mut buffer)?;
        ensure!(received > 0, "a member was cut off");
        heard.push_str(std::str::from_utf8(
            buffer.get(..received).unwrap_or_default(),
        )?);
    }
    let mut seen = HashSet::new();
    let before = heard.strip_suffix(last).unwrap_or_default();
    for line in before.split_inclusive('\n') {
        ensure!(
            allowed.contains(line),
            "a member heard `{}`",
            line.trim_end()
        );
        ensure!(
            seen.insert(line),
            "a member heard twice `{}`",
            line.trim_end()
        );
    }
    Ok(())
}
