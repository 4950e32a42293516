//! What a swap costs those who are connected, in time and memory.
//!
//! The handler is swapped from echo to upper, which answers a small letter with its
//! capital: so each answer says which version gave it.

use super::{Sample, Times, float, process};
use crate::client::events::Events;
use crate::client::socket::{self, receive_now, send_now};
use crate::servers::Contract;
use crate::servers::command::SERVICE;
use crate::servers::running::Running;
use crate::work::{EACH, Work};
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How many connections talk. With more, a round trip would mostly be a wait for the
/// others.
const TALKING: usize = 16;

const QUESTION: &[u8] = b"x\n";
const NEW_ANSWER: &[u8] = b"X\n";

/// A server whose handler is swapped.
pub(super) struct Swapping<'a> {
    pub(super) running: &'a Running,
    pub(super) contract: Contract,
    pub(super) control: &'a Path,
    pub(super) times: Times,
}

impl Swapping<'_> {
    pub(super) fn measure(&self, work: Work) -> Result<Sample> {
        match work {
            Work::SwapPause { connections } => self.pause(connections),
            Work::SwapAnswer { cached } => self.answer(cached),
            Work::SwapDrain => self.drain(),
            _ => bail!("{work} is no swap"),
        }
    }

    /// The longest round trip of the connections that talk, while all of them are handed
    /// over, and so are the idle ones.
    fn pause(&self, connections: usize) -> Result<Sample> {
        self.fill_cache()?;
        let talking = socket::open(
            &self.running.place,
            connections.min(TALKING),
            self.times.opening,
        )?;
        let idle = socket::open(
            &self.running.place,
            connections - talking.len(),
            self.times.opening,
        )?;
        let pid = self.running.pid();
        let before = process::memory(pid, "VmRSS")?;
        process::forget_peak(pid)?;
        let mut talk = Talk::new(&talking)?;
        // As long without a swap, for comparison.
        let without = talk.run(self.times.window / 2, || true)?;
        let mut swap = self.ask("upper", None)?;
        let with = talk.run(self.times.window / 2, || swap.is_answered())?;
        swap.check()?;
        for fd in talking.iter().chain(&idle) {
            ask_new(fd).context("a connection was not handed over")?;
        }
        let mebibytes = |bytes| float(bytes) / 1048576.0;
        let more = BTreeMap::from([
            ("no swap, ms".to_owned(), milliseconds(without)),
            ("RSS before, MiB".to_owned(), mebibytes(before)),
            (
                "RSS at most, MiB".to_owned(),
                mebibytes(process::memory(pid, "VmHWM")?),
            ),
            (
                "RSS then, MiB".to_owned(),
                mebibytes(process::memory(pid, "VmRSS")?),
            ),
        ]);
        Ok(Sample {
            value: milliseconds(with),
            more,
            ..Sample::default()
        })
    }

    /// From the request to the first answer that a new connection gets of the new version.
    fn answer(&self, is_cached: bool) -> Result<Sample> {
        if is_cached {
            self.fill_cache()?;
        }
        let begun = Instant::now();
        let swap = self.ask("upper", None)?;
        let answered = loop {
            let fd = socket::connect_stream(&self.running.place)?;
            send_now(&fd, QUESTION)?;
            if socket::receive(&fd, NEW_ANSWER.len())? == NEW_ANSWER {
                break begun.elapsed();
            }
            ensure!(
                begun.elapsed() < Duration::from_secs(60),
                "no new version answers"
            );
            // The server has one core, and compiles on it.
            std::thread::sleep(Duration::from_millis(1));
        };
        swap.check()?;
        Ok(Sample {
            value: milliseconds(answered),
            ..Sample::default()
        })
    }

    /// Memory per connection, with the connections of both versions.
    fn drain(&self) -> Result<Sample> {
        let pid = self.running.pid();
        let old = socket::open(&self.running.place, EACH, self.times.opening)?;
        let one = process::resident(pid)?;
        self.swap("upper", Some("drain"))?;
        let mut new = Vec::new();
        for _ in 0..EACH {
            let fd = socket::connect_stream(&self.running.place)?;
            ask_new(&fd)?;
            new.push(fd);
        }
        let both = process::resident(pid)?;
        let count = float(u64::try_from(old.len() + new.len())?);
        let more = BTreeMap::from([
            ("RSS of one, MiB".to_owned(), float(one) / 1048576.0),
            ("RSS of both, MiB".to_owned(), float(both) / 1048576.0),
        ]);
        Ok(Sample {
            value: float(both) / 1024.0 / count,
            more,
            ..Sample::default()
        })
    }

    /// Swaps there and back, so that both components are in the cache.
    fn fill_cache(&self) -> Result<()> {
        self.swap("upper", None)?;
        self.swap("echo", None)
    }

    /// Asks for a swap, and waits until it is made.
    fn swap(&self, family: &str, old: Option<&str>) -> Result<()> {
        self.ask(family, old)?.check()
    }

    /// Asks for a swap. No thread waits for the answer: it would share the core of the
    /// clients, and those would wait for it.
    fn ask(&self, family: &str, old: Option<&str>) -> Result<Asked> {
        let component = format!("builtin:{family}-{}", self.contract.name());
        let mut body = serde_json::json!({ "component": component });
        if let (Some(old), Some(body)) = (old, body.as_object_mut()) {
            body.insert("old".to_owned(), old.into());
        }
        let body = body.to_string();
        let mut stream = UnixStream::connect(self.control).context("the control socket")?;
        write!(
            stream,
            "POST /v1/services/{SERVICE}/swap HTTP/1.1\r\nHost: localhost\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )?;
        Ok(Asked {
            fd: stream.into(),
            answer: Vec::new(),
        })
    }
}

/// A request for a swap.
struct Asked {
    fd: OwnedFd,
    answer: Vec<u8>,
}

impl Asked {
    /// Whether the answer is whole. Does not wait for it.
    fn is_answered(&mut self) -> bool {
        let mut buffer = [0; 1024];
        loop {
            match receive_now(&self.fd, &mut buffer) {
                Ok(Some(received)) if received > 0 => {
                    let received = buffer.get(..received).unwrap_or_default();
                    self.answer.extend(received);
                }
                Ok(None) => return false,
                // The end, or an error that the check meets.
                _ => return true,
            }
        }
    }

    /// Waits for the rest of the answer, which must say that the swap is made.
    fn check(mut self) -> Result<()> {
        UnixStream::from(self.fd).read_to_end(&mut self.answer)?;
        let answer = String::from_utf8_lossy(&self.answer);
        let is_made = answer.starts_with("HTTP/1.1 200");
        ensure!(
            is_made,
            "the swap failed: {}",
            answer.lines().last().unwrap_or_default()
        );
        Ok(())
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Asks on a connection, which the new version must answer.
fn ask_new(fd: &OwnedFd) -> Result<()> {
    send_now(fd, QUESTION)?;
    socket::receive_exactly(fd, NEW_ANSWER)
}

/// Connections that talk.
struct Talk<'a> {
    events: Events,
    talkers: Vec<Talker<'a>>,
}

/// A connection that talks, and what it has got of its answer.
struct Talker<'a> {
    fd: &'a OwnedFd,
    asked: Instant,
    answer: Vec<u8>,
    /// It was answered by the new version, and must not be by the old one again.
    is_new: bool,
}

impl<'a> Talk<'a> {
    fn new(connections: &'a [OwnedFd]) -> Result<Self> {
        let events = Events::new()?;
        let mut talkers = Vec::new();
        for (number, fd) in connections.iter().enumerate() {
            events.add(fd, number, false)?;
            talkers.push(Talker {
                fd,
                asked: Instant::now(),
                answer: Vec::new(),
                is_new: false,
            });
        }
        Ok(Self { events, talkers })
    }

    /// Talks at least so long, and until something is done. Returns the longest round
    /// trip.
    fn run(&mut self, least: Duration, mut is_done: impl FnMut() -> bool) -> Result<Duration> {
        let begun = Instant::now();
        for talker in &mut self.talkers {
            talker.ask()?;
        }
        let (mut longest, mut ready) = (Duration::ZERO, Vec::new());
        let (mut under_way, mut is_over) = (self.talkers.len(), false);
        while under_way > 0 {
            self.events.wait(&mut ready)?;
            is_over = is_over || (begun.elapsed() >= least && is_done());
            for event in &ready {
                let talker = self.talkers.get_mut(event.number);
                let talker = talker.context("an unknown event")?;
                let Some(took) = talker.hear()? else {
                    continue;
                };
                longest = longest.max(took);
                if is_over {
                    under_way -= 1;
                } else {
                    talker.ask()?;
                }
            }
        }
        Ok(longest)
    }
}

impl Talker<'_> {
    fn ask(&mut self) -> Result<()> {
        self.answer.clear();
        self.asked = Instant::now();
        let sent = send_now(self.fd, QUESTION)?;
        ensure!(sent == QUESTION.len(), "a question is not taken");
        Ok(())
    }

    /// Returns how long the round trip took, if it is over.
    fn hear(&mut self) -> Result<Option<Duration>> {
        let mut buffer = [0; NEW_ANSWER.len() + 1];
        let Some(received) = receive_now(self.fd, &mut buffer)? else {
            return Ok(None);
        };
        ensure!(received > 0, "a connection was closed by the swap");
        self.answer
            .extend(buffer.get(..received).unwrap_or_default());
        if self.answer.len() < NEW_ANSWER.len() {
            return Ok(None);
        }
        let is_new = self.answer == NEW_ANSWER;
        let is_old = self.answer == QUESTION && !self.is_new;
        let seen = self.answer.escape_ascii();
        ensure!(is_new || is_old, "`{seen}` is no answer");
        self.is_new = is_new;
        Ok(Some(self.asked.elapsed()))
    }
}
